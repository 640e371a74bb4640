#!/usr/bin/env python3
"""Reads an exported control vector with the package gguf and holds it against the vector file that it came from.

    cargo run --release -p trimtab -- export models/vectors/cheerful.safetensors --out /tmp/cheerful.gguf
    python3 tests/golden/control_vector.py /tmp/cheerful.gguf models/vectors/cheerful.safetensors

Layer l of ours is direction.(l − 1); layers 0 and 1 have no place in the file.
"""

import sys

import numpy as np
from gguf import GGUFReader
from safetensors.numpy import load_file

gguf, vector = sys.argv[1:]
reader = GGUFReader(gguf)
table = load_file(vector)["response_avg"]
tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
assert reader.get_field("general.architecture").contents() == "controlvector"
assert reader.get_field("controlvector.layer_count").contents() == len(table) - 2
assert sorted(tensors) == sorted(f"direction.{layer - 1}" for layer in range(2, len(table))), sorted(tensors)
for layer in range(2, len(table)):
    assert np.array_equal(tensors[f"direction.{layer - 1}"], table[layer]), layer
print(f"{len(tensors)} directions of {table.shape[1]} numbers, layers 2 to {len(table) - 1}, equal to the vector file's")
