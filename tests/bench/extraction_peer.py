#!/usr/bin/env python3
"""Times making a trait beside the same work by Hugging Face transformers, on the same CPU.

    python3 -m pip install -r tests/golden/requirements.txt
    cargo build --release --bin trimtab
    python3 tests/bench/extraction_peer.py --gguf SmolLM2-135M-Instruct.Q4_1.gguf

`trimtab extract` writes a contrast set, judges it and makes every estimator's vector. The peer then does, in the same batches, with the
same prompts and as many tokens: writing the answers; reading each under its own prompt for the residual's averages and its likelihood, and
under the instructions of the other pairs for its evidence; and the neutral answers for band and calibration.

Where the two differ, it is in the peer's favour: its clock starts when the model is loaded, it fits no estimator, and its vectors are mean
differences alone. It has f32 weights, unpacked, and reads each prompt once for all the answers that are judged under it.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests/golden"))
from checkpoint import Tokens  # noqa: E402


@dataclass
class Clock:
    """Seconds by the clock and of all processors."""

    wall: float
    cpu: float

    @staticmethod
    def now(whose: int) -> "Clock":
        used = resource.getrusage(whose)
        return Clock(time.perf_counter(), used.ru_utime + used.ru_stime)

    def since(self, start: "Clock") -> "Clock":
        return Clock(self.wall - start.wall, self.cpu - start.cpu)

    def __str__(self) -> str:
        return f"{self.wall:7.1f} s, {self.cpu:7.1f} CPU seconds"


def ours(options, folder: Path) -> tuple[Clock, dict]:
    """Time of one `trimtab extract`, and the contrast set that it wrote."""
    contrast = folder / "vector.contrast"
    command = [options.trimtab, "extract", "--trait", options.trait, "--out", folder / "vector.safetensors", "--contrast", contrast,
               "--model", options.model, "--neutral", options.neutral, "--precision", options.precision,
               "--instruction-pairs", options.pairs, "--questions", options.questions, "--max-tokens", options.max_tokens,
               "--batch", options.batch, "--json"]
    start = Clock.now(resource.RUSAGE_CHILDREN)
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    used = Clock.now(resource.RUSAGE_CHILDREN).since(start)
    return used, json.loads(zlib.decompress(contrast.read_bytes()))


class Peer:
    def __init__(self, gguf: Path):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, quantization_config=transformers.GgufConfig(dequantize=True), dtype=torch.float32
        ).eval()
        self.model.generation_config.pad_token_id = self.model.config.eos_token_id
        self.tokens = Tokens(gguf)

    def prompt(self, question: str, instruction: str | None = None) -> list[int]:
        system = [{"role": "system", "content": instruction}] if instruction else []
        return self.tokens.chat([*system, {"role": "user", "content": question}], answer_next=True)

    @torch.inference_mode()
    def write(self, prompts: list[list[int]], count: int, settings: dict):
        """Answers of `count` tokens each, side by side."""
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        self.model.generate(ids, attention_mask=mask, do_sample=True, temperature=settings["temperature"], top_p=settings["topP"],
                            min_new_tokens=count, max_new_tokens=count)

    @torch.inference_mode()
    def read(self, prompt: list[int], answers: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Likelihood of each answer, the prompt's residual averages `[L+1, d]` and the answers' `[L+1, d]`."""
        body = self.model.model
        start = body(torch.tensor([prompt]), use_cache=True, output_hidden_states=True)
        last = start.last_hidden_state[:, -1:].expand(len(answers), -1, -1)
        cache = start.past_key_values
        cache.batch_repeat_interleave(len(answers))
        width = max(map(len, answers))
        ids = torch.tensor([answer + [0] * (width - len(answer)) for answer in answers])
        mask = torch.tensor([[1] * (len(prompt) + len(answer)) + [0] * (width - len(answer)) for answer in answers])
        found = body(ids, attention_mask=mask, past_key_values=cache, use_cache=True, output_hidden_states=True)
        hidden = torch.cat([last, found.last_hidden_state[:, :-1]], dim=1)
        lengths = torch.tensor([len(answer) for answer in answers])
        held = torch.arange(width)[None] < lengths[:, None]
        chances = self.model.lm_head(hidden[held]).log_softmax(-1).gather(-1, ids[held][:, None])[:, 0]
        likelihood = torch.stack([one.sum() for one in chances.split(lengths.tolist())])
        residual = torch.stack(found.hidden_states)
        averages = [residual[:, row, : len(answer)].mean(1) for row, answer in enumerate(answers)]
        return likelihood, torch.stack([layer[0, 1:].mean(0) for layer in start.hidden_states]), averages


def theirs(peer: Peer, record: dict, batch: int) -> Clock:
    settings, pack = record["settings"], record["pack"]
    pairs, questions = settings["pairs"], pack["questions"]["extraction"][: settings["questions"]]
    sides = ("positive", "negative")
    answers = [answer["ids"] for answer in record["responses"] + record["baselines"]]
    start = Clock.now(resource.RUSAGE_SELF)

    # Number n asks question n // 2 // pairs under pair n // 2 % pairs, positive before negative; then come the neutral answers.
    prompts = [peer.prompt(question, pair[side]) for question in questions for pair in pack["instructions"][:pairs] for side in sides]
    prompts += [peer.prompt(question) for question in questions]
    for first in range(0, len(prompts), batch):
        peer.write(prompts[first : first + batch], max(map(len, answers[first : first + batch])), settings)

    sums = {1: 0, -1: 0}
    for at, question in enumerate(questions):
        own = range(at * 2 * pairs, (at + 1) * 2 * pairs)
        for pair in range(pairs):
            for side in range(2):
                maker = own[2 * pair + side]
                # The answer made under this very prompt, then those that other pairs made, then the neutral one.
                judged = [maker, *(number for number in own if number // 2 % pairs != pair), len(record["responses"]) + at]
                _, _, averages = peer.read(prompts[maker], [answers[number] for number in judged])
                sums[1 - 2 * side] = sums[1 - 2 * side] + averages[0]
    vector = (sums[1] - sums[-1]) / (pairs * len(questions))
    assert torch.isfinite(vector).all()
    for answer in record["neutral"]["answers"]:
        peer.read(peer.prompt(answer["question"]), [answer["ids"]])
    return Clock.now(resource.RUSAGE_SELF).since(start)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--gguf", type=Path, required=True, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    arguments.add_argument("--trimtab", type=Path, default=REPOSITORY / "target/release/trimtab")
    arguments.add_argument("--model", type=Path, default=REPOSITORY / "models/smollm2-135m-instruct")
    arguments.add_argument("--trait", type=Path, default=REPOSITORY / "models/traits/cheerful.json")
    arguments.add_argument("--neutral", type=Path, default=REPOSITORY / "models/vectors/neutral.json")
    arguments.add_argument("--precision", choices=("exact", "fast"), default="exact")
    arguments.add_argument("--pairs", type=int, default=2)
    arguments.add_argument("--questions", type=int, default=8)
    arguments.add_argument("--max-tokens", type=int, default=40)
    arguments.add_argument("--batch", type=int, default=16)
    arguments.add_argument("--rounds", type=int, default=1)
    options = arguments.parse_args()
    peer = Peer(options.gguf)
    peer.write([peer.prompt("Hello")], 2, {"temperature": 0.8, "topP": 0.95})
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            own, record = ours(options, Path(folder))
        other = theirs(peer, record, options.batch)
        written = [len(answer["ids"]) for answer in record["responses"] + record["baselines"]]
        print(f"{len(written)} answers of {sum(written)} tokens, {torch.get_num_threads()} threads, {options.precision}")
        print(f"  trimtab      {own}")
        print(f"  transformers {other}")
        print(f"  ratio        {own.wall / other.wall:.2f} by the clock, {own.cpu / other.cpu:.2f} of CPU time", flush=True)


if __name__ == "__main__":
    main()
