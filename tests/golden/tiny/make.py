"""Writes tiny.gguf and expected.json beside this file: a random model of two blocks whose tensors have
every type that is read, and what the Python package `gguf` makes of them. Run it as

    python3 tests/golden/tiny/make.py

Hashes are sha256 of little-endian f32. q and k are expected with Hugging Face's order of rows. Of K-quants the scales are expected
rounded to f16, and that is checked here against the exact numbers.
"""

import hashlib
import json
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize

HERE = Path(__file__).parent
WIDTH, HEADS, KV_HEADS, FFN, BLOCKS, CONTEXT = 256, 4, 1, 256, 2, 128
# Where the f16 scales of a block are; everything else in it may be any byte.
SCALES = {Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208], Type.IQ4_NL: [0]}
QUANTISED_AGAIN = {Type.Q2_K, Type.Q3_K}
TYPES = [
    {"attn_q": Type.Q4_0, "attn_k": Type.F16, "attn_v": Type.BF16, "attn_output": Type.Q5_0}
    | {"ffn_gate": Type.Q5_1, "ffn_up": Type.Q4_K, "ffn_down": Type.Q5_K},
    {"attn_q": Type.Q6_K, "attn_k": Type.F32, "attn_v": Type.Q2_K, "attn_output": Type.Q3_K}
    | {"ffn_gate": Type.Q8_0, "ffn_up": Type.Q4_1, "ffn_down": Type.IQ4_NL},
]
MODULES = {
    "attn_q": ("self_attn.q_proj", WIDTH, WIDTH, HEADS),
    "attn_k": ("self_attn.k_proj", WIDTH // HEADS * KV_HEADS, WIDTH, KV_HEADS),
    "attn_v": ("self_attn.v_proj", WIDTH // HEADS * KV_HEADS, WIDTH, None),
    "attn_output": ("self_attn.o_proj", WIDTH, WIDTH, None),
    "ffn_gate": ("mlp.gate_proj", FFN, WIDTH, None),
    "ffn_up": ("mlp.up_proj", FFN, WIDTH, None),
    "ffn_down": ("mlp.down_proj", WIDTH, FFN, None),
}


def sha256(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, dtype="<f4").tobytes()).hexdigest()


def stored(random: np.random.Generator, kind: Type, rows: int, cols: int) -> np.ndarray:
    if kind in SCALES:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        data = random.integers(0, 256, (rows, cols // block, size), dtype=np.uint8)
        for at in SCALES[kind]:
            scale = random.uniform(0.001, 0.01, data.shape[:2]).astype(np.float16)
            data[:, :, at : at + 2] = scale[..., None].view(np.uint8)
        return data.reshape(rows, -1)
    return quantize(random.normal(0, 0.1, (rows, cols)).astype(np.float32), kind)


def with_f16_scales(data: np.ndarray, kind: Type, exact: np.ndarray) -> np.ndarray:
    """The same integers with the products of a block's scale and those of its parts rounded to f16."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = data.reshape(-1, size)
    half = lambda at: blocks[:, at : at + 2].copy().view(np.float16).astype(np.float32)
    plain = blocks.copy()
    one = np.array([1], np.float16).view(np.uint8)
    if kind == Type.Q6_K:
        scales = half(208) * blocks[:, 192:208].view(np.int8)
        minima = np.zeros_like(scales)
        plain[:, 192:208], plain[:, 208:] = 1, one
    else:
        packed, packed_minima = gguf.quants.Q4_K.get_scale_min(blocks[:, 4:16])
        scales, minima = half(0) * packed, half(2) * packed_minima
        plain[:, :2], plain[:, 2:4], plain[:, 4:16] = one, 0, [1] * 4 + [0] * 4 + [1] * 4
    integers = dequantize(plain, kind).reshape(len(blocks), scales.shape[1], -1)
    rounded = [part.astype(np.float16).astype(np.float32)[..., None] for part in (scales, -minima)]
    values = (rounded[0] * integers + rounded[1]).reshape(exact.shape)
    most = (np.abs(scales[..., None] * integers) + np.abs(minima[..., None])).reshape(exact.shape)
    assert (np.abs(values - exact) <= most * 2**-11 + 1e-7).all()
    return values


def unpermuted(values: np.ndarray, heads: int) -> np.ndarray:
    """The inverse of `LlamaModel.permute` in llama.cpp's convert_hf_to_gguf.py."""
    rows, cols = values.shape
    return values.reshape(heads, rows // heads // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)


def parts(quantised: np.ndarray, kind: Type) -> dict[str, str]:
    """sha256 of the blocks' fields, each by itself."""
    blocks = quantised.reshape(-1, gguf.GGML_QUANT_SIZES[kind][1])
    head = 4 if kind == Type.Q4_1 else 2
    fields = {"scale": blocks[:, :2], "min": blocks[:, 2:head], "data": blocks[:, head:]}
    return {name: hashlib.sha256(np.ascontiguousarray(field).tobytes()).hexdigest() for name, field in fields.items()}


def main():
    random = np.random.default_rng(20250721)
    writer = gguf.GGUFWriter(HERE / "tiny.gguf", "llama")
    writer.add_name("Tiny")
    writer.add_license("CC0-1.0")
    writer.add_block_count(BLOCKS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    letters = [chr(byte) for byte in range(33, 127)] + ["Ġ", "Ċ", "ĉ"]
    vocabulary = ["<|begin|>", "<|end|>", *letters, "ab", "abc"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3, 3] + [1] * (len(vocabulary) - 2))
    writer.add_token_merges(["a b", "ab c"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template("{{ bos_token }}{% for m in messages %}{{ m.content | trim }}{{ eos_token }}{% endfor %}")

    tensors = {}

    def add(name: str, ours: str, kind: Type, rows: int, cols: int, heads: int | None = None):
        data = stored(random, kind, rows, cols)
        writer.add_tensor(name, data, raw_dtype=kind)
        values = dequantize(data, kind)
        if kind in QUANTISED_AGAIN:
            values = dequantize(quantize(values, Type.Q8_0), Type.Q8_0)
        if kind in (Type.Q4_K, Type.Q5_K, Type.Q6_K):
            values = with_f16_scales(data, kind, values)
        if heads:
            values = unpermuted(values, heads)
        tensors[ours] = {"type": kind.name, "shape": [rows, cols], "sha256": sha256(values)}

    def add_norm(name: str, ours: str):
        values = random.normal(1, 0.1, WIDTH).astype(np.float32)
        writer.add_tensor(name, values)
        tensors[ours] = {"type": "F32", "shape": [WIDTH], "sha256": sha256(values)}

    add("token_embd.weight", "model.embed_tokens.weight", Type.Q8_0, len(vocabulary), WIDTH)
    add("output.weight", "lm_head.weight", Type.Q6_K, len(vocabulary), WIDTH)
    add_norm("output_norm.weight", "model.norm.weight")
    for block, types in enumerate(TYPES):
        add_norm(f"blk.{block}.attn_norm.weight", f"model.layers.{block}.input_layernorm.weight")
        add_norm(f"blk.{block}.ffn_norm.weight", f"model.layers.{block}.post_attention_layernorm.weight")
        for short, kind in types.items():
            module, rows, cols, heads = MODULES[short]
            add(f"blk.{block}.{short}.weight", f"model.layers.{block}.{module}.weight", kind, rows, cols, heads)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    # The quantisers on values that both sides can make: no randomness, ties and a block of zeros included.
    values = ((np.arange(64 * 96, dtype=np.int64) * 7919 % 1009 - 504) / 97).astype(np.float32)
    values[32:64] = 0
    values[64:96] = 0.25
    quantised = {kind.name: parts(quantize(values.reshape(64, 96), kind), kind) for kind in (Type.Q8_0, Type.Q4_1)}

    content = {"tensors": tensors, "quantised": {"rows": 64, "cols": 96, "values": sha256(values), "kinds": quantised}}
    (HERE / "expected.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"{len(tensors)} tensors, {(HERE / 'tiny.gguf').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
