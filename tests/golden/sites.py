#!/usr/bin/env python3
"""What lies at the places inside a block, and what changing it there does, by forward hooks in PyTorch.

    python3 tests/golden/sites.py

A random llama of two blocks, so that the file is small: weights are rounded to f16 and computed with in f32. Every case has the
residual stream `[T, L+1, d]`, the output of W_o `[T, L, d]` and the heads' outputs before W_o `[T, L, heads * head_dim]`, each after
the case's change, the natural log-probability of the token that follows each but the last `[T - 1]`, and the attention weights
`[L, heads, T, T]`.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
CONFIG = dict(
    hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
    vocab_size=64, max_position_embeddings=128, rms_norm_eps=1e-5, rope_theta=1e4, tie_word_embeddings=True, hidden_act="silu",
)
TOKENS = [3, 17, 60, 5, 5, 41, 22]
# Place, layer, operation and its numbers. An ablation leaves the first token alone, as the engine does.
CASES = {
    "plain": None,
    "heads_add": ("heads", 2, "add", 1.5),
    "heads_ablate": ("heads", 1, "ablate", 0.0),
    "after_attention_add": ("after_attention", 1, "add", -0.75),
    "after_attention_ablate": ("after_attention", 2, "ablate", 0.0),
}


def changed(x, vector, operation, number):
    """`x` is `[1, T, width]`."""
    if operation == "add":
        return x + number * vector
    unit = vector / vector.norm()
    out = x - (x @ unit)[..., None] * unit
    out[:, 0] = x[:, 0]
    return out


def run(model, case, vectors):
    seen = {"heads": {}, "after_attention": {}}

    def touch(place, layer, x):
        if case is not None and case[:2] == (place, layer):
            x = changed(x, vectors[place][layer], *case[2:])
        seen[place][layer] = x[0].clone()
        return x

    hooks = []
    for index, block in enumerate(model.model.layers):
        layer, o_proj = index + 1, block.self_attn.o_proj
        hooks.append(o_proj.register_forward_pre_hook(lambda _, x, layer=layer: (touch("heads", layer, x[0]),)))
        hooks.append(o_proj.register_forward_hook(lambda _m, _x, y, layer=layer: touch("after_attention", layer, y)))
    residual = []
    hooks.append(model.model.layers[0].register_forward_pre_hook(lambda _, x: residual.append(x[0][0].clone())))
    for block in model.model.layers:
        hooks.append(
            block.register_forward_hook(lambda _m, _x, y: residual.append((y[0] if isinstance(y, tuple) else y)[0].clone()))
        )
    with torch.no_grad():
        out = model(torch.tensor([TOKENS]), output_attentions=True, use_cache=False)
    for hook in hooks:
        hook.remove()
    logprobs = out.logits[0].log_softmax(-1)
    stacked = lambda place: torch.stack([seen[place][layer] for layer in sorted(seen[place])], 1)
    return {
        "residual": torch.stack(residual, 1),
        "after_attention": stacked("after_attention"),
        "heads": stacked("heads"),
        "attention": torch.stack([weights[0] for weights in out.attentions]),
        "logprobs": logprobs[:-1].gather(1, torch.tensor(TOKENS[1:])[:, None])[:, 0],
    }


def main():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**CONFIG, attn_implementation="eager")).eval()
    weights = {}
    for name, value in model.named_parameters():
        if name.endswith("norm.weight"):
            value.data = 1 + 0.3 * torch.randn_like(value)
        else:
            value.data = torch.randn_like(value) * 1.5 / value.shape[-1] ** 0.5
        weights[name] = value.data.half()
        value.data = weights[name].float()
    widths = {"heads": CONFIG["num_attention_heads"] * CONFIG["head_dim"], "after_attention": CONFIG["hidden_size"]}
    vectors = {place: torch.randn(CONFIG["num_hidden_layers"] + 1, width) for place, width in widths.items()}
    tensors = {f"vector.{place}": table for place, table in vectors.items()}
    for name, case in CASES.items():
        for part, value in run(model, case, vectors).items():
            tensors[f"{name}.{part}"] = value.contiguous()
    save_file(weights, HERE / "sites_model.safetensors")
    save_file(tensors, HERE / "sites.safetensors")
    cases = {
        name: case and dict(zip(("place", "layer", "operation", "number"), case)) for name, case in CASES.items()
    }
    config = dict(CONFIG, model_type="llama", architectures=["LlamaForCausalLM"], eos_token_id=2)
    (HERE / "sites.json").write_text(json.dumps({"config": config, "tokens": TOKENS, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
