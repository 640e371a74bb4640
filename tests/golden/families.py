#!/usr/bin/env python3
"""A tiny random checkpoint of each family, and what transformers computes with it.

    python3 tests/golden/families.py [NAME …]

writes `families/NAME/`: `config.json` in the words of the family's models on the hub, `model.safetensors` in bf16 (computed with in
f32), `model.gguf` with the same numbers as llama.cpp's converter lays them out, `reference.json` and `reference.safetensors`.
Where `xllamacpp` (llama.cpp as a Python package) is installed, it loads such a GGUF file, and its predictions are compared.

`reference.json`: `tokens`, the ids that are read; `prompt` and `greedy`, what is answered and 32 tokens of answer, `gap` the smallest
distance of the two best logits on the way; `config`, the configuration in the words of transformers 5; `steered`, the layer and the
coefficient with which `vector` is added on every token. Tensors of `reference.safetensors`, each of the pass over `tokens`:

    vector                          [L+1, d]
    residual, steered.residual      [T, L+1, d]
    logits, steered.logits          [T, vocabulary]
    after_attention, heads          [T, L, width], the output of W_o and what enters it

Layer 0 is what enters the first block, the last one is taken before the final norm.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).parent / "families"
VOCABULARY = 64
LENGTH = 20
PROMPT, ANSWER = 6, 32
SHAPE = dict(
    hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=32,
    vocab_size=VOCABULARY, max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=500.0, hidden_act="silu",
    tie_word_embeddings=True, eos_token_id=2, bos_token_id=1,
)


def llama3():
    scaling = dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32
    )
    return SHAPE | dict(model_type="llama", rope_scaling=scaling)


def qwen3():
    return SHAPE | dict(model_type="qwen3")


def gemma3():
    """Sliding blocks and one that attends to everything, their rotary bases far apart."""
    shape = {key: value for key, value in SHAPE.items() if key != "hidden_act"}
    return shape | dict(
        model_type="gemma3_text", hidden_activation="gelu_pytorch_tanh", rope_theta=5000.0, rope_local_base_freq=50.0,
        query_pre_attn_scalar=32, sliding_window=7, sliding_window_pattern=2,
        layer_types=["sliding_attention", "full_attention"], attn_logit_softcapping=None, final_logit_softcapping=None,
    )


def gpt2():
    return dict(
        model_type="gpt2", n_embd=64, n_layer=2, n_head=2, n_positions=64, n_ctx=64, n_inner=64, vocab_size=VOCABULARY,
        activation_function="gelu_new", layer_norm_epsilon=1e-5, eos_token_id=2, bos_token_id=1,
    )


def phi3():
    """Factors for short texts and others for long ones, and heads that are turned in part."""
    pairs = 12
    scaling = dict(
        type="longrope",
        short_factor=[1.0 + 0.05 * i for i in range(pairs)],
        long_factor=[1.0 + 0.4 * i for i in range(pairs)],
    )
    shape = {key: value for key, value in SHAPE.items() if key != "head_dim"}
    return shape | dict(
        model_type="phi3", partial_rotary_factor=0.75, rope_scaling=scaling, max_position_embeddings=1024,
        original_max_position_embeddings=256, sliding_window=None, pad_token_id=0,
    )


def smollm3():
    """Every fourth block knows no positions."""
    return SHAPE | dict(
        model_type="smollm3", hidden_size=32, num_hidden_layers=4, intermediate_size=32, no_rope_layers=[1, 1, 1, 0], no_rope_layer_interval=4,
        use_sliding_window=False, pad_token_id=0,
    )


def olmo2():
    shape = {key: value for key, value in SHAPE.items() if key != "head_dim"}
    return shape | dict(model_type="olmo2", tie_word_embeddings=False, attention_bias=False, pad_token_id=0)


def granite():
    shape = {key: value for key, value in SHAPE.items() if key != "head_dim"}
    return shape | dict(
        model_type="granite", embedding_multiplier=6.0, residual_multiplier=0.22, attention_multiplier=0.25, logits_scaling=0.5,
        attention_bias=False, mlp_bias=False,
    )


def mistral():
    return SHAPE | dict(model_type="mistral", sliding_window=7, tie_word_embeddings=False)


FAMILIES = {
    make.__name__: make for make in (llama3, qwen3, gemma3, gpt2, phi3, smollm3, olmo2, granite, mistral)
}


class Gguf:
    """A GGUF file as llama.cpp's `convert_hf_to_gguf.py` writes it."""

    ARCHITECTURES = {"mistral": "llama", "gemma3_text": "gemma3"}
    # Those whose heads llama.cpp turns by neighbouring elements.
    PERMUTED = {"llama", "smollm3", "granite"}

    def __init__(self, path, config, weights, halved=True):
        # GPT-2 has names of its own.
        own = {"n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads"}
        own |= {"n_positions": "max_position_embeddings", "layer_norm_epsilon": "rms_norm_eps", "n_inner": "intermediate_size"}
        self.config = {own.get(key, key): value for key, value in config.items()}
        self.weights, self.halved = weights, halved
        self.name = self.ARCHITECTURES.get(config["model_type"], config["model_type"])
        self.writer = gguf.GGUFWriter(path, self.name)
        self.blocks = self.config["num_hidden_layers"]
        self.heads = self.config["num_attention_heads"]
        self.kv_heads = self.config.get("num_key_value_heads", self.heads)
        self.head_dim = self.config.get("head_dim", self.config["hidden_size"] // self.heads)

    def write(self):
        self.metadata()
        architecture = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == self.name)
        names = gguf.get_tensor_name_map(architecture, self.blocks)
        for name, value in self.weights.items():
            self.tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), self.laid_out(name, value))
        for name, value in self.constants():
            self.tensor(name, value)
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()

    def tensor(self, name, value):
        if value.ndim == 1 or "position_embd" in name or not self.halved:
            self.writer.add_tensor(name, value.float().contiguous().numpy())
        else:
            # bf16 numbers are the upper halves of f32 ones.
            halves = (value.float().contiguous().numpy().view(np.uint32) >> 16).astype(np.uint16)
            self.writer.add_tensor(name, halves.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)

    def metadata(self):
        config, writer = self.config, self.writer
        writer.add_name("Tiny")
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_embedding_length(config["hidden_size"])
        writer.add_block_count(self.blocks)
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_head_count(self.heads)
        if self.name == "gpt2":
            writer.add_layer_norm_eps(config["rms_norm_eps"])
        else:
            writer.add_head_count_kv(self.kv_heads)
            writer.add_rope_freq_base(config["rope_theta"])
            writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
            writer.add_rope_dimension_count(int(self.head_dim * config.get("partial_rotary_factor", 1)))
        if "head_dim" in config:
            writer.add_key_length(self.head_dim)
            writer.add_value_length(self.head_dim)
        if self.name == "gemma3":
            writer.add_sliding_window(config["sliding_window"])
            writer.add_sliding_window_pattern(config["sliding_window_pattern"])
            writer.add_float32("gemma3.rope.freq_base_swa", config["rope_local_base_freq"])
        if self.name == "phi3":
            original = config["original_max_position_embeddings"]
            scale = config["max_position_embeddings"] / original
            writer.add_rope_scaling_orig_ctx_len(original)
            writer.add_rope_scaling_attn_factors(float(np.sqrt(1 + np.log(scale) / np.log(original))))
        if self.name == "granite":
            writer.add_embedding_scale(config["embedding_multiplier"])
            writer.add_residual_scale(config["residual_multiplier"])
            writer.add_attention_scale(config["attention_multiplier"])
            writer.add_logit_scale(config["logits_scaling"])
        writer.add_vocab_size(VOCABULARY)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        # So many letters and one merge: enough for a reader that wants a vocabulary.
        letters = [chr(0x100 + i) for i in range(VOCABULARY - 1)]
        writer.add_token_list([*letters, letters[0] + letters[1]])
        writer.add_token_types([gguf.TokenType.NORMAL] * VOCABULARY)
        writer.add_token_merges([f"{letters[0]} {letters[1]}"])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)

    def laid_out(self, name, value):
        for module, heads in {"q_proj": self.heads, "k_proj": self.kv_heads}.items():
            if self.name in self.PERMUTED and module in name:
                halves = value.reshape(heads, 2, value.shape[0] // heads // 2, *value.shape[1:])
                return halves.swapaxes(1, 2).reshape(value.shape)
        if self.name == "gemma3" and "norm" in name:
            return value.float() + 1
        if self.name == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            return value.T
        return value

    def constants(self):
        scaling = self.config.get("rope_scaling") or {}
        if scaling.get("rope_type") == "llama3":
            yield "rope_freqs.weight", llama3_factors(self.config["rope_theta"], self.head_dim, scaling)
        if scaling.get("type") == "longrope":
            yield "rope_factors_long.weight", torch.tensor(scaling["long_factor"])
            yield "rope_factors_short.weight", torch.tensor(scaling["short_factor"])


def llama3_factors(theta, head_dim, scaling):
    """As `LlamaModel.generate_extra_tensors` of llama.cpp's converter."""
    frequencies = 1.0 / (theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim))
    original, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    factors = []
    for frequency in frequencies:
        wavelength = 2 * np.pi / frequency
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return torch.tensor(factors, dtype=torch.float32)


def randomise(model):
    """Numbers with which every weight matters, rounded to bf16."""
    weights = {}
    for name, value in model.named_parameters():
        if value.ndim == 1:
            centre = 1.0 if "norm" in name or "ln_" in name else 0.0
            if name.endswith(".bias") or model.config.model_type.startswith("gemma"):
                centre = 0.0
            numbers = centre + 0.3 * torch.randn_like(value)
        else:
            columns = value.shape[0] if type(owner(model, name)).__name__ == "Conv1D" else value.shape[-1]
            numbers = torch.randn_like(value) * 1.5 / columns**0.5
        weights[name] = numbers.bfloat16()
        value.data = weights[name].float()
    return weights


def owner(model, parameter):
    return model.get_submodule(parameter.rpartition(".")[0])


def blocks_of(model):
    return model.transformer.h if hasattr(model, "transformer") else model.model.layers


def output_of(block):
    return block.attn.c_proj if hasattr(block, "attn") else block.self_attn.o_proj


def run(model, tokens, vector=None, steered=None):
    """Residual stream, outputs of W_o, heads and logits; with `steered`, `coefficient · vector[layer]` is added at that layer."""
    residual, after_attention, heads, hooks = {}, {}, {}, []

    def touched(layer, x):
        if steered and steered["layer"] == layer:
            x = x + steered["coefficient"] * vector[layer]
        residual[layer] = x[0].clone()
        return x

    def enter(_module, arguments, keywords):
        if arguments:
            return (touched(0, arguments[0]), *arguments[1:]), keywords
        return arguments, keywords | {"hidden_states": touched(0, keywords["hidden_states"])}

    def leave(layer):
        def hook(_module, _arguments, output):
            if isinstance(output, tuple):
                return (touched(layer, output[0]), *output[1:])
            return touched(layer, output)

        return hook

    def note(index):
        def hook(_module, arguments, output):
            heads[index], after_attention[index] = arguments[0][0].clone(), output[0].clone()

        return hook

    blocks = blocks_of(model)
    hooks.append(blocks[0].register_forward_pre_hook(enter, with_kwargs=True))
    for index, block in enumerate(blocks):
        hooks.append(block.register_forward_hook(leave(index + 1)))
        hooks.append(output_of(block).register_forward_hook(note(index)))
    with torch.no_grad():
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    stacked = lambda parts: torch.stack([parts[key] for key in sorted(parts)], 1).contiguous()
    return {
        "residual": stacked(residual),
        "after_attention": stacked(after_attention),
        "heads": stacked(heads),
        "logits": logits.contiguous(),
    }


def answer(model, prompt):
    tokens, smallest = list(prompt), float("inf")
    for _ in range(ANSWER):
        with torch.no_grad():
            logits = model(torch.tensor([tokens]), use_cache=False).logits[0, -1]
        best = logits.topk(2)
        smallest = min(smallest, (best.values[0] - best.values[1]).item())
        tokens.append(best.indices[0].item())
    return tokens[len(prompt) :], smallest


def compare_with_llama_cpp(published, weights, tokens, want):
    """llama.cpp's log-probabilities after a few beginnings of `tokens`, with the same numbers in f32: products of bf16 round what they
    multiply."""
    try:
        import xllamacpp
    except ImportError:
        return "xllamacpp is not installed: not compared with llama.cpp"
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.gguf"
        Gguf(path, published, weights, halved=False).write()
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx, parameters.n_parallel, parameters.warmup, parameters.fit_params = 256, 1, False, False
        parameters.cpuparams.n_threads = 1
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        server = xllamacpp.Server(parameters)
        worst = 0.0
        for length in (1, 7, 12, len(tokens)):
            request = dict(prompt=tokens[:length], n_predict=1, n_probs=VOCABULARY, temperature=0.0, cache_prompt=False)
            answer = server.handle_completions(request)
            logprobs = want[length - 1].log_softmax(-1)
            found = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
            worst = max(worst, *(abs(one["logprob"] - logprobs[one["id"]].item()) for one in found))
        return f"llama.cpp's {len(found)} log-probabilities after 4 beginnings are off by at most {worst:.1e}"


def make(name):
    torch.manual_seed(sum(name.encode()))
    published = FAMILIES[name]()
    config = AutoConfig.for_model(**published)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    directory = HERE / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    weights = randomise(model)
    (directory / "config.json").write_text(json.dumps(published, indent=1) + "\n")
    save_file({key: value.contiguous() for key, value in weights.items()}, directory / "model.safetensors")
    compared = "llama.cpp knows no windows in it: no GGUF file"
    if name != "mistral":
        Gguf(directory / "model.gguf", published, weights).write()

    tokens = torch.randint(3, VOCABULARY, (LENGTH,)).tolist()
    layers = len(blocks_of(model))
    vector = torch.randn(layers + 1, config.hidden_size)
    steered = {"layer": 1, "coefficient": 0.5}
    plain, pushed = run(model, tokens), run(model, tokens, vector, steered)
    tensors = {"vector": vector, "steered.residual": pushed["residual"], "steered.logits": pushed["logits"]} | plain
    save_file(tensors, directory / "reference.safetensors")
    # A prompt whose answer is decided at every step.
    while True:
        prompt = torch.randint(3, VOCABULARY, (PROMPT,)).tolist()
        greedy, gap = answer(model, prompt)
        if gap > 0.02:
            break
    reference = dict(tokens=tokens, steered=steered, prompt=prompt, greedy=greedy, gap=round(gap, 4), config=config.to_dict())
    (directory / "reference.json").write_text(json.dumps(reference) + "\n")
    size = sum(path.stat().st_size for path in directory.iterdir())
    if name != "mistral":
        compared = compare_with_llama_cpp(published, weights, tokens, plain["logits"])
    print(f"{name}: {size // 1000} kB; {compared}")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", default=list(FAMILIES))
    torch.set_num_threads(1)
    for chosen in arguments.parse_args().names:
        make(chosen)
