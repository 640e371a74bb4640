"""Writes weights.json beside this file: of every tensor as transformers unpacks it to f32, with its
own un-permutation of q and k, the shape and the sha256 of its little-endian bytes. Run it as

    python3 tests/golden/weights.py --gguf SmolLM2-135M-Instruct.Q4_1.gguf
"""

import argparse
import hashlib
import json
from pathlib import Path

import transformers

from checkpoint import Model

HERE = Path(__file__).parent


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gguf", type=Path, required=True)
    path = parser.parse_args().gguf
    model = Model(path).model
    tensors = {}
    for name, tensor in sorted(model.state_dict().items()):
        if name == "lm_head.weight" and tensor.data_ptr() == model.get_input_embeddings().weight.data_ptr():
            continue  # tied: the same numbers again
        bytes_ = tensor.contiguous().numpy().astype("<f4", copy=False).tobytes()
        tensors[name] = {"shape": list(tensor.shape), "sha256": hashlib.sha256(bytes_).hexdigest()}
    text = json.dumps({"transformers": transformers.__version__, "tensors": tensors}, separators=(",", ":"))
    (HERE / "weights.json").write_text(text.replace('},"', '},\n"') + "\n")
    print(f"{len(tensors)} tensors")


if __name__ == "__main__":
    main()
