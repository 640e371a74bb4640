#!/usr/bin/env python3
"""What PyTorch and PEFT make of training adapters: gradients, and a run of 50 steps.

    python3 tests/golden/training.py [--gguf SmolLM2-135M-Instruct.Q4_1.gguf]

writes `training.json` and `training.safetensors`: of a tiny random model of each family, whose shapes are as far from square as the
family allows, the loss of two examples and its derivative by every adapter factor by autograd; the same of a llama under steering
plans and under a penalty; and 50 steps of AdamW with PEFT. No weights are stored: model and adapter consist of numbers that are a
function of a tensor's name and an element's place (`numbers`), which the engine's test computes, too.

With `--gguf` it writes `training_default.json` and `training_default.safetensors` instead: the same of the default checkpoint. Of
each gradient, and of what 50 steps learnt (`B A`), there are products with a few random vectors (`glimpse`), of gradients their norms, too.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, GgufConfig, get_linear_schedule_with_warmup

HERE = Path(__file__).parent
VOCABULARY = 50
# Queries are wider than the model, and nothing is square.
WIDE = dict(
    hidden_size=40, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
    vocab_size=VOCABULARY, max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=500.0, hidden_act="silu",
    tie_word_embeddings=True, eos_token_id=2, bos_token_id=1,
)
# Of families whose heads make up the width: three of them, which share keys and values.
NARROW = WIDE | dict(hidden_size=48, num_attention_heads=3, num_key_value_heads=1)
del NARROW["head_dim"]
GEMMA = {key: value for key, value in WIDE.items() if key != "hidden_act"}
FAMILIES = dict(
    llama=WIDE | dict(model_type="llama"),
    mistral=WIDE | dict(model_type="mistral", sliding_window=5, tie_word_embeddings=False),
    qwen2=NARROW | dict(model_type="qwen2", use_sliding_window=False),
    qwen3=WIDE | dict(model_type="qwen3"),
    gemma3=GEMMA | dict(
        model_type="gemma3_text", hidden_activation="gelu_pytorch_tanh", rope_theta=5000.0, rope_local_base_freq=50.0,
        query_pre_attn_scalar=16, sliding_window=5, layer_types=["sliding_attention", "full_attention"],
        attn_logit_softcapping=None, final_logit_softcapping=None,
    ),
    gpt2=dict(
        model_type="gpt2", n_embd=48, n_layer=2, n_head=3, n_positions=64, n_ctx=64, n_inner=72, vocab_size=VOCABULARY,
        activation_function="gelu_new", layer_norm_epsilon=1e-5, eos_token_id=2, bos_token_id=1, attn_pdrop=0.0, embd_pdrop=0.0,
        resid_pdrop=0.0,
    ),
    phi3=NARROW | dict(model_type="phi3", partial_rotary_factor=0.75, sliding_window=None, pad_token_id=0),
    smollm3=NARROW | dict(
        model_type="smollm3", no_rope_layers=[1, 0], no_rope_layer_interval=2, use_sliding_window=False, pad_token_id=0
    ),
    olmo2=NARROW | dict(model_type="olmo2", tie_word_embeddings=False, attention_bias=False, pad_token_id=0),
    granite=NARROW | dict(
        model_type="granite", embedding_multiplier=6.0, residual_multiplier=0.22, attention_multiplier=0.25, logits_scaling=0.5,
        attention_bias=False, mlp_bias=False,
    ),
)
MODULES = {
    "query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj", "output": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}
PHI3 = MODULES | {name: "self_attn.qkv_proj" for name in ("query", "key", "value")}
PHI3 |= {name: "mlp.gate_up_proj" for name in ("gate", "up")}
GPT2 = {name: "attn.c_attn" for name in ("query", "key", "value")}
GPT2 |= {"output": "attn.c_proj", "gate": "mlp.c_fc", "up": "mlp.c_fc", "down": "mlp.c_proj"}
PLAIN = dict(rank=2, alpha=3.0, rank_stabilised=False, targets=list(MODULES), blocks=[0, 2])
# Vectors have numbers of their own; an increment's row is its layer's minus that of the layer before.
PLANS = {
    "add": dict(plan=[dict(vector="first", layers=[1], add=0.6)]),
    "increments": dict(plan=[dict(vector="increments", layers=[0, 1, 2], add=0.5)]),
    "ablate": dict(plan=[dict(vector="first", layers=[1, 2], clamp=[0.0, 0.0])]),
    "clamp": dict(plan=[
        dict(vector="first", layers=[1], add=0.4, scope="response"), dict(vector="second", layers=[1], clamp=[-0.3, 0.4]),
        dict(vector="third", layers=[1], clamp=[-0.2, 0.1], scope="prompt"),
    ]),
    "penalty": dict(plan=[dict(vector="first", layers=[1], add=0.3)], penalty=dict(vector="second", layer=2, weight=0.7)),
    "places": dict(plan=[
        dict(vector="first", layers=[2], clamp=[0.0, 0.0], place="heads"), dict(vector="second", layers=[1], add=0.3, place="heads"),
        dict(vector="third", layers=[1, 2], clamp=[-0.1, 0.2], place="after_attention"),
    ]),
    "part": dict(adapter=PLAIN | dict(rank=3, rank_stabilised=True, targets=["query", "value", "down"], blocks=[1, 2])),
}


def pcg(value):
    state = value * np.uint32(747796405) + np.uint32(2891336453)
    word = ((state >> ((state >> np.uint32(28)) + np.uint32(4))) ^ state) * np.uint32(277803737)
    return (word >> np.uint32(22)) ^ word


def fnv(text):
    """The FNV-1a hash of 32 bits."""
    seed = 0x811C9DC5
    for byte in text.encode():
        seed = (seed ^ byte) * 0x01000193 % 2**32
    return seed


def numbers(name, count):
    """`count` numbers in −1..1: of a hash of the name, and of the place."""
    seed = fnv(name)
    with np.errstate(over="ignore"):
        bits = pcg(np.arange(count, dtype=np.uint32) + np.uint32(seed)) >> np.uint32(8)
    return bits.astype(np.float32) / np.float32(1 << 23) - np.float32(1)


def shaped(name, shape, spread=1.0):
    return torch.from_numpy(numbers(name, math.prod(shape)) * np.float32(spread)).reshape(shape)


def random_model(published):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**published), attn_implementation="eager").float().eval()
    for name, value in model.named_parameters():
        if value.ndim == 1:
            gain = "norm" in name or "ln_" in name
            centre = 1.0 if gain and not name.endswith(".bias") and "gemma" not in published["model_type"] else 0.0
            value.data = centre + shaped(name, value.shape, 0.3)
        else:
            module = model.get_submodule(name.rpartition(".")[0])
            columns = value.shape[0] if type(module).__name__ == "Conv1D" else value.shape[-1]
            value.data = shaped(name, value.shape, 1.7 / math.sqrt(columns))
    return model


def blocks_of(model):
    return model.transformer.h if hasattr(model, "transformer") else model.model.layers


def adapted(model, adapter, initial=None):
    """With both factors random; with `initial`, `B` is zero and `A` so large."""
    kind = model.config.model_type
    modules = {"phi3": PHI3, "gpt2": GPT2}.get(kind, MODULES)
    blocks = "transformer.h" if kind == "gpt2" else "model.layers"
    targets = [f"{blocks}.{block}.{modules[name]}" for block in range(*adapter["blocks"]) for name in adapter["targets"]]
    config = LoraConfig(
        r=adapter["rank"], lora_alpha=adapter["alpha"], use_rslora=adapter["rank_stabilised"], target_modules=sorted(set(targets)),
        fan_in_fan_out=kind == "gpt2", lora_dropout=0.0, bias="none", task_type="CAUSAL_LM",
    )
    model = get_peft_model(model, config).eval()
    for name, value in factors(model):
        if initial is None:
            value.data = shaped(name, value.shape, 0.3)
        else:
            value.data = shaped(name, value.shape, initial) if "lora_A" in name else torch.zeros_like(value)
    return model


def factors(model):
    """Under the names of PEFT's files, in the order of these."""
    named = [(name.replace(".default", ""), value) for name, value in model.named_parameters() if "lora_" in name]
    return sorted(named, key=lambda factor: factor[0])


def flat(tensors):
    """All numbers one after another: a header with a thousand names would be larger than they are."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def names(model):
    """A hash of names and shapes."""
    return fnv("\n".join(f"{name} {list(value.shape)}" for name, value in factors(model)))


def vectors_of(name, model, width):
    shape = (len(blocks_of(model.get_base_model())) + 1, width)
    vectors = shaped(f"vector.{'first' if name == 'increments' else name}", shape)
    if name == "increments":
        vectors = torch.cat([vectors[:1], vectors[1:] - vectors[:-1]])
    return vectors


class Plan:
    """Hooks that let a plan act on one example, as inference lets it, and that note the residual stream."""

    def __init__(self, model, example, plan):
        self.model, self.plan, self.residual = model, plan, {}
        response = torch.tensor(example["response"])
        response[0] = False
        self.response_rows = response | torch.cat([response[1:], torch.tensor([False])])
        self.hooks = []

    def __enter__(self):
        blocks = blocks_of(self.model.get_base_model())

        def enter(_module, arguments, keywords):
            if arguments:
                return (self.touch("residual", 0, arguments[0]), *arguments[1:]), keywords
            return arguments, keywords | {"hidden_states": self.touch("residual", 0, keywords["hidden_states"])}

        def leave(layer):
            def hook(_module, _arguments, output):
                if isinstance(output, tuple):
                    return (self.touch("residual", layer, output[0]), *output[1:])
                return self.touch("residual", layer, output)

            return hook

        def before(layer):
            return lambda _module, arguments: (self.touch("heads", layer, arguments[0]),)

        def behind(layer):
            return lambda _module, _arguments, output: self.touch("after_attention", layer, output)

        self.hooks.append(blocks[0].register_forward_pre_hook(enter, with_kwargs=True))
        for index, block in enumerate(blocks):
            self.hooks.append(block.register_forward_hook(leave(index + 1)))
            output = block.attn.c_proj if hasattr(block, "attn") else block.self_attn.o_proj
            self.hooks.append(output.register_forward_pre_hook(before(index + 1)))
            self.hooks.append(output.register_forward_hook(behind(index + 1)))
        return self

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()

    def rows(self, term):
        everywhere = torch.ones_like(self.response_rows)
        return {"all": everywhere, "response": self.response_rows, "prompt": ~self.response_rows}[term.get("scope", "all")]

    def touch(self, place, layer, x):
        h = x[0]
        here = [term for term in self.plan if layer in term["layers"] and term.get("place", "residual") == place]
        for term in here:
            if "add" in term:
                vector = vectors_of(term["vector"], self.model, h.shape[1])[layer]
                h = h + self.rows(term)[:, None] * term["add"] * vector
        shift = torch.zeros_like(h)
        for term in here:
            if "clamp" in term:
                unit = vectors_of(term["vector"], self.model, h.shape[1])[layer]
                unit = unit / unit.norm()
                component = h @ unit
                rows = self.rows(term).clone()
                rows[0] = False
                shift = shift + (rows * (component.clamp(*term["clamp"]) - component))[:, None] * unit
        h = h + shift
        if place == "residual":
            self.residual[layer] = h
        return h[None]


def loss_of(model, example, plan, penalty):
    """Sums over the response tokens of one example, and their number."""
    tokens = torch.tensor(example["tokens"])
    response = torch.tensor(example["response"])
    response[0] = False
    with Plan(model, example, plan) as acting:
        logits = model(tokens[None], use_cache=False).logits[0]
    targets = tokens[1:][response[1:]]
    loss = torch.nn.functional.cross_entropy(logits[:-1][response[1:]], targets, reduction="sum")
    extra = torch.zeros(())
    if penalty:
        unit = vectors_of(penalty["vector"], model, model.config.hidden_size)[penalty["layer"]]
        unit = unit / unit.norm()
        own = acting.residual[penalty["layer"]] @ unit
        with torch.no_grad(), model.disable_adapter(), Plan(model, example, plan) as base:
            model(tokens[None], use_cache=False)
        shift = own - base.residual[penalty["layer"]] @ unit
        extra = penalty["weight"] * (shift[response] ** 2).sum()
    return loss, extra, len(targets)


def some_examples(count, shortest, longest, generator):
    examples = []
    for _ in range(count):
        length = int(torch.randint(shortest, longest + 1, (1,), generator=generator))
        prompt = int(torch.randint(1, length - 1, (1,), generator=generator))
        tokens = torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()
        examples.append(dict(tokens=tokens, response=[False] * prompt + [True] * (length - prompt - 1) + [False]))
    return examples


def gradients(model, examples, plan, penalty):
    model.zero_grad()
    parts = [loss_of(model, example, plan, penalty) for example in examples]
    count = sum(part[2] for part in parts)
    loss, extra = sum(part[0] for part in parts) / count, sum(part[1] for part in parts) / count
    (loss + extra).backward()
    return loss.item(), extra.item()


def steps(model, examples, run):
    """A step takes its examples in order; the loss is averaged over the step's response tokens."""
    parameters = [value for _, value in factors(model)]
    optimiser = torch.optim.AdamW(parameters, lr=run["learning_rate"], weight_decay=run["weight_decay"])
    schedule = get_linear_schedule_with_warmup(optimiser, run["warmup_steps"], run["steps"])
    losses = []
    for step in range(run["steps"]):
        start = step * run["examples_a_step"] % len(examples)
        loss, _ = gradients(model, examples[start : start + run["examples_a_step"]], [], None)
        torch.nn.utils.clip_grad_norm_(parameters, run["clip"])
        optimiser.step()
        schedule.step()
        losses.append(loss)
    return losses


def tiny():
    generator = torch.Generator().manual_seed(20)
    cases, tensors = [], {}
    everything = [(name, name, {}) for name in FAMILIES] + [(f"llama_{name}", "llama", case) for name, case in PLANS.items()]
    for name, family, case in everything:
        adapter = case.get("adapter", PLAIN)
        model = adapted(random_model(FAMILIES[family]), adapter)
        examples = some_examples(2, 7, 12, generator)
        plan, penalty = case.get("plan", []), case.get("penalty")
        loss, extra = gradients(model, examples, plan, penalty)
        tensors[name] = flat(value.grad for _, value in factors(model))
        cases.append(dict(
            name=name, config=FAMILIES[family], adapter=adapter, examples=examples, plan=plan, penalty=penalty, loss=loss,
            penalty_loss=extra, names=names(model),
        ))
        print(f"{name}: loss {loss:.4f}, penalty {extra:.4f}")
    run = dict(steps=50, examples_a_step=3, learning_rate=2e-2, weight_decay=0.01, warmup_steps=5, clip=1.0, initial=0.2)
    examples = some_examples(6, 7, 12, generator)
    model = adapted(random_model(FAMILIES["llama"]), PLAIN, run["initial"])
    losses = steps(model, examples, run)
    tensors["run"] = flat(value for _, value in factors(model))
    print(f"50 steps: {losses[0]:.4f} → {losses[-1]:.4f}")
    run |= dict(config=FAMILIES["llama"], adapter=PLAIN, examples=examples, losses=losses)
    (HERE / "training.json").write_text(json.dumps(dict(cases=cases, run=run)) + "\n")
    save_file(tensors, HERE / "training.safetensors")


DEFAULT = dict(rank=8, alpha=16.0, rank_stabilised=False, targets=list(MODULES), blocks=[8, 30])
# Small beside the weights of a trained model.
SPREADS = {"lora_A": 0.05, "lora_B": 0.02}


def glimpse(name, matrix, count=4):
    """Its products with a few random vectors on both sides, `[count, count]`."""
    left = shaped(f"{name}.left", (count, matrix.shape[0]))
    right = shaped(f"{name}.right", (matrix.shape[1], count))
    return left @ matrix @ right


def default(gguf):
    """Texts of `extract.json`: two for the gradients, four for the steps."""
    directory, file = str(Path(gguf).parent), Path(gguf).name
    pairs = json.loads((HERE / "extract.json").read_text())["pairs"]
    examples = [
        dict(tokens=pair["full_ids"], response=[at >= len(pair["prompt_ids"]) for at in range(len(pair["full_ids"]))])
        for pair in pairs[:4]
    ]
    model = AutoModelForCausalLM.from_pretrained(
        directory, gguf_file=file, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32,
        attn_implementation="eager",
    )
    model = adapted(model.eval(), DEFAULT, 1.0)
    for name, value in factors(model):
        value.data = shaped(name, value.shape, next(size for factor, size in SPREADS.items() if factor in name))
    loss, _ = gradients(model, examples[:2], [], None)
    seen = [part for name, value in factors(model) for part in (value.grad.norm(), glimpse(name, value.grad))]
    tensors = {"gradients": flat(seen).reshape(-1, 17)}
    print(f"loss {loss:.4f}")
    run = dict(steps=50, examples_a_step=2, learning_rate=5e-4, weight_decay=0.01, warmup_steps=5, clip=1.0, initial=0.04)
    for name, value in factors(model):
        value.data = shaped(name, value.shape, run["initial"]) if "lora_A" in name else torch.zeros_like(value)
    losses = steps(model, examples, run)
    learnt = dict(factors(model))
    pairs = [(name, learnt[name.replace("lora_A", "lora_B")] @ a) for name, a in learnt.items() if "lora_A" in name]
    tensors["learnt"] = flat(glimpse(name, product) for name, product in pairs).reshape(-1, 16)
    print(f"50 steps: {losses[0]:.4f} → {losses[-1]:.4f}")
    case = dict(adapter=DEFAULT, examples=examples, loss=loss, spreads=SPREADS, run=run | dict(losses=losses))
    (HERE / "training_default.json").write_text(json.dumps(case) + "\n")
    save_file(tensors, HERE / "training_default.safetensors")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--gguf")
    torch.set_num_threads(1)
    chosen = arguments.parse_args()
    default(chosen.gguf) if chosen.gguf else tiny()
