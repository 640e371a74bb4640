"""Writes a GGUF file's weights, exactly dequantised by the Python package `gguf`, as a Hugging Face folder of f32: what a stored form is
measured against. Configuration and tokenizer come from the model directory that `trimtab convert` made of the same file. Run it as

    python3 tests/golden/dequantised.py MODEL.gguf MODEL_DIRECTORY OUT

Of Qwen 2 and Gemma 3 only, whose rows a GGUF file keeps in their order.
"""

import json
import shutil
import struct
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize

NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# Gemma 3 has a norm before and one after each part.
GEMMA_NAMES = NAMES | {
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def name_of(tensor: str, names: dict[str, str]) -> str:
    parts = tensor.split(".")
    if parts[0] != "blk":
        return f"{OUTER[parts[0]]}.{parts[1]}"
    return f"model.layers.{parts[1]}.{names[parts[2]]}.{parts[3]}"


def main(source: Path, directory: Path, out: Path):
    reader = gguf.GGUFReader(source)
    names = {"qwen2": NAMES, "gemma3": GEMMA_NAMES}[reader.fields["general.architecture"].contents()]
    # Gemma's gains are 1 + w in a GGUF file, and w in a folder.
    above = 1.0 if names is GEMMA_NAMES else 0.0
    out.mkdir()
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        # A base model has no template.
        if (directory / file).is_file():
            shutil.copy(directory / file, out / file)
    header, at = {}, 0
    for tensor in reader.tensors:
        shape = [int(size) for size in reversed(tensor.shape)]
        end = at + 4 * int(np.prod(shape))
        header[name_of(tensor.name, names)] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(out / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in reader.tensors:
            values = dequantize(tensor.data, tensor.tensor_type).astype("<f4")
            is_gain = tensor.name.endswith("norm.weight")
            file.write((values - above if is_gain else values).astype("<f4").tobytes())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
