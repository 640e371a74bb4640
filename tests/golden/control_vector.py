#!/usr/bin/env python3
"""Reads an exported control vector with the package gguf, holds it against the vector file that it came from, and steers llama.cpp with it.

    cargo run --release --bin trimtab -- export cheerful --out /tmp/cheerful.gguf
    python3 tests/golden/control_vector.py /tmp/cheerful.gguf models/vectors/cheerful.safetensors
    python3 tests/golden/control_vector.py /tmp/cheerful.gguf models/vectors/cheerful.safetensors \\
        --model SmolLM2-135M-Instruct.Q4_1.gguf --trimtab target/release/trimtab        # needs llama-cpp-python

Layer l of ours is direction.(l − 1); layers 0 and 1 have no place in the file.

With --model, llama.cpp reads a conversation plain and steered, and so does transformers with the vector file's own row added to the output of
the block: the two must agree about the push far better than the push is large. With --trimtab, the greedy answers of llama.cpp and of
this project's program are put side by side.
"""

import argparse
import ctypes
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from safetensors.numpy import load_file

MESSAGES = [{"role": "user", "content": "How was your day?"}]
ANSWER = " I had a long day at work, and then I walked home through the rain."
GREEDY_TOKENS = 32


def read_back(path: Path, vector: Path) -> np.ndarray:
    """The file's directions as llama.cpp takes them, `[L−1, d]`: row i is added to the output of zero-based block i + 1."""
    reader = GGUFReader(path)
    table = load_file(vector)["response_avg"]
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    assert reader.get_field("general.architecture").contents() == "controlvector"
    assert reader.get_field("controlvector.layer_count").contents() == len(table) - 2
    assert sorted(tensors) == sorted(f"direction.{layer - 1}" for layer in range(2, len(table))), sorted(tensors)
    for layer in range(2, len(table)):
        assert np.array_equal(tensors[f"direction.{layer - 1}"], table[layer]), layer
    print(f"{len(tensors)} directions of {table.shape[1]} numbers, layers 2 to {len(table) - 1}, equal to the vector file's")
    return np.stack([tensors[f"direction.{block}"] for block in range(1, len(table) - 1)])


class LlamaCpp:
    def __init__(self, path: Path):
        import llama_cpp
        from llama_cpp import llama_cpp as library

        self.library = library
        # The plain kernels: those over repacked weights want instructions that virtual machines announce and may not have.
        defaults = library.llama_model_default_params()
        defaults.use_extra_bufts = False
        library.llama_model_default_params = lambda: defaults
        self.llama = llama_cpp.Llama(str(path), n_ctx=512, n_threads=2, n_threads_batch=2, logits_all=True, verbose=False)

    def steer(self, directions: np.ndarray | None, layers: range, coefficient: float):
        """What llama.cpp's own programs do with --control-vector-scaled and --control-vector-layer-range."""
        if directions is None:
            # Without data the vector is taken off.
            failed = self.library.llama_set_adapter_cvec(self.llama._ctx.ctx, None, 0, 0, 0, 0)
        else:
            data = np.ascontiguousarray(coefficient * directions, dtype=np.float32)
            pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            # Our layer l is the output of zero-based block l − 1.
            failed = self.library.llama_set_adapter_cvec(self.llama._ctx.ctx, pointer, data.size, data.shape[1], layers[0] - 1, layers[-1] - 1)
        assert failed == 0

    def logits(self, ids: list[int]) -> np.ndarray:
        self.llama.reset()
        self.llama.eval(ids)
        return np.array(self.llama.scores[: len(ids)], dtype=np.float64)

    def greedy(self, ids: list[int], count: int, end: int) -> list[int]:
        self.llama.reset()
        self.llama.eval(ids)
        new = []
        while len(new) < count:
            best = int(np.argmax(self.llama.scores[self.llama.n_tokens - 1]))
            if best == end:
                break
            new.append(best)
            self.llama.eval([best])
        return new


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Mean KL(p‖q) over the positions, nats."""
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def ours(program: Path, model: Path, vector: Path, steer: list[str]) -> list[int]:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as chat:
        json.dump(MESSAGES, chat)
        chat.flush()
        command = [program, "generate", "--model", model, "--chat", chat.name, "--max-tokens", GREEDY_TOKENS, "--json"]
        command += [word for one in steer for word in ("--steer", f"{vector}={one}")]
        answer = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout
    column = json.loads(answer)
    return [token["id"] for token in column["tokens"][column["answerStart"] :]]


def compare(options, directions: np.ndarray):
    import torch

    from checkpoint import Model, Tokens

    tokens, llama, reference = Tokens(options.model), LlamaCpp(options.model), Model(options.model)
    prompt = tokens.chat(MESSAGES, answer_next=True)
    ids = prompt + tokens.plain(ANSWER)
    table = load_file(options.vector)["response_avg"]
    last = len(table) - 1
    # Nothing, one layer at a time, several layers, and the other way: (coefficient, first layer, last layer).
    cases = [None, (2.0, 16, 16), (-2.0, 16, 16), (2.0, 2, 2), (2.0, last - 1, last - 1), (0.5, 14, 18)]
    plain = None
    for case in cases:
        changes = {}
        if case:
            coefficient, first, until = case
            layers = range(first, until + 1)
            llama.steer(directions, layers, coefficient)
            changes = {layer: lambda hidden, layer=layer: hidden + coefficient * torch.from_numpy(table[layer]) for layer in layers}
            name = f"{coefficient}@{first}" + (f"-{until}" if until > first else "")
        else:
            llama.steer(None, range(0), 0.0)
            name = "no vector"
        theirs = log_softmax(llama.logits(ids))
        wanted = log_softmax(reference.run(ids, changes).logits.double().numpy())
        plain = wanted if plain is None else plain
        apart = divergence(wanted, theirs)
        line = f"{name:10} KL(transformers‖llama.cpp) {apart:.5f}"
        if case:
            moved = divergence(wanted, plain)
            line += f", KL(steered‖plain) {moved:.5f} in transformers and {divergence(theirs, unsteered):.5f} in llama.cpp"
            assert apart < 0.1 * moved or apart < 3 * noise, name
        else:
            unsteered, noise = theirs, apart
        print(line)
        if options.trimtab:
            answers = {"llama.cpp": llama.greedy(prompt, GREEDY_TOKENS, tokens.end_of_turn)}
            answers["trimtab"] = ours(options.trimtab, options.directory, options.vector, [name] if case else [])
            same = next((at for at, (a, b) in enumerate(zip(*answers.values())) if a != b), min(map(len, answers.values())))
            print(f"{'':10} greedy: the first {same} of {len(answers['trimtab'])} tokens are the same")
            for who, answer in answers.items():
                print(f"{'':12}{who:10} {tokens.text(answer)!r}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("gguf", type=Path, help="the exported control vector")
    arguments.add_argument("vector", type=Path, help="the vector file that it was exported from")
    arguments.add_argument("--model", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf: also steer llama.cpp")
    arguments.add_argument("--trimtab", type=Path, help="this project's program: also compare greedy answers")
    arguments.add_argument("--directory", type=Path, default=Path("models/smollm2-135m-instruct"), help="the program's model directory")
    options = arguments.parse_args()
    directions = read_back(options.gguf, options.vector)
    if options.model:
        compare(options, directions)


if __name__ == "__main__":
    main()
