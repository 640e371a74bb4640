"""What Hugging Face transformers computes in f32 on a GGUF file whose weights were exactly dequantised (`dequantised.py`). Run by
`cargo xtask test --models`, or as

    python3 tests/golden/real_checkpoint.py MODEL.gguf MODEL_DIRECTORY ASKED.json OUT.json

ASKED.json has `prompts`, lists of token ids, and `tokens`, how many are to be written after each. OUT.json gets, for each text of
`texts/` that is named below, its `ids` and `mean_nll`, and for each prompt the greedy `ids` and `gap`, the distance of the two best
logits at each of them. An end token does not end an answer.
"""

import json
import shutil
import sys
from pathlib import Path

import tokenizers
import torch
import transformers

import dequantised

TEXTS = Path(__file__).parent / "texts"
NAMES = ("alice", "code")
LONGEST = 256


@torch.no_grad()
def likelihood(model, ids: list[int]) -> float:
    logits = model(torch.tensor([ids])).logits[0, :-1].double()
    return float(-logits.log_softmax(-1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].mean())


@torch.no_grad()
def greedy(model, prompt: list[int], count: int) -> dict:
    ids, gaps, fresh, cache = [], [], prompt, None
    for _ in range(count):
        output = model(torch.tensor([fresh]), past_key_values=cache, use_cache=True)
        best = output.logits[0, -1].topk(2)
        ids.append(int(best.indices[0]))
        gaps.append(float(best.values[0] - best.values[1]))
        fresh, cache = ids[-1:], output.past_key_values
    return {"ids": ids, "gap": gaps}


def main(gguf: Path, directory: Path, asked: Path, out: Path):
    folder = out.with_suffix(".f32")
    shutil.rmtree(folder, ignore_errors=True)
    dequantised.main(gguf, directory, folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    texts = []
    for name in NAMES:
        ids = tokenizer.encode((TEXTS / f"{name}.txt").read_text(), add_special_tokens=False).ids[:LONGEST]
        texts.append({"name": name, "ids": ids, "mean_nll": likelihood(model, ids)})
    wanted = json.loads(asked.read_text())
    answers = [greedy(model, prompt, wanted["tokens"]) for prompt in wanted["prompts"]]
    out.write_text(json.dumps({"texts": texts, "answers": answers}))
    shutil.rmtree(folder)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main(*map(Path, sys.argv[1:]))
