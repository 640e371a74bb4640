"""Writes the golden data beside this file. Run it as

    python3 tests/golden/reference.py --gguf SmolLM2-135M-Instruct.Q4_1.gguf

README.md says what each file holds. Repeatable up to the rounding of the machine's f32 arithmetic;
`--noise` instead measures how far that goes, against the same pass in f64.
"""

import argparse
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

import sampling
import steering
from checkpoint import Model, Tokens

HERE = Path(__file__).parent
TEXTS = HERE / "texts"
GREEDY_TOKENS = 48
SAMPLED_TOKENS = 32
PLAIN_TOKENS = 64


def write_json(name: str, content: dict):
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # One line an entry of the outer lists, so that a change is readable in a diff.
    (HERE / name).write_text(text.replace('},{"', '},\n{"') + "\n")
    print(f"{name}: {len(text):,} bytes")


def write_tensors(name: str, tensors: dict[str, torch.Tensor]):
    save_file({key: value.float().contiguous() for key, value in tensors.items()}, HERE / name)
    print(f"{name}: {(HERE / name).stat().st_size:,} bytes")


def rounded(values: torch.Tensor) -> list[float]:
    return [round(float(value), 6) for value in values]


def gap(logits: torch.Tensor) -> torch.Tensor:
    best = logits.topk(2, dim=-1).values
    return best[..., 0] - best[..., 1]


def nll(model: Model, tokens: Tokens, conversations: dict):
    """Entry i of every list is about `ids[i+1]`, predicted from `ids[..=i]`."""
    sequences = {name: tokens.plain((TEXTS / f"{name}.txt").read_text()) for name in ("alice", "origin", "code")}
    sequences["chat"] = tokens.chat(conversations["nll"], answer_next=False)
    entries, every = [], []
    for name, ids in sequences.items():
        logits = model.run(ids).logits[:-1]
        surprise = -logits.log_softmax(-1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
        every.append(surprise.double())
        entries.append({"name": name, "ids": ids, "nll": rounded(surprise), "top1": logits.argmax(-1).tolist(),
                        "gap": rounded(gap(logits)), "mean_nll": float(surprise.double().mean())})
    flat = torch.cat(every)
    write_json("nll.json", {"predicted_tokens": len(flat), "mean_nll": float(flat.mean()), "sequences": entries})


def residual_prompts(tokens: Tokens, conversations: dict) -> dict[str, list[int]]:
    return {
        "chat": tokens.chat(conversations["residual"], answer_next=True),
        "plain": tokens.plain((TEXTS / "origin.txt").read_text())[:PLAIN_TOKENS],
    }


def residual(model: Model, tokens: Tokens, conversations: dict):
    prompts = residual_prompts(tokens, conversations)
    write_tensors("residual.safetensors", {name: model.run(ids).residual for name, ids in prompts.items()})
    write_json("residual.json", {"prompts": [{"name": name, "ids": ids} for name, ids in prompts.items()]})


def greedy(model: Model, tokens: Tokens, conversations: dict):
    """Entry i of the lists is about the i-th new token, given the prompt and the new tokens before it."""
    entries = []
    for messages in conversations["greedy"]:
        prompt = tokens.chat(messages, answer_next=True)
        chosen = [token for (token,) in model.steps(prompt, GREEDY_TOKENS, lambda logits, _: (int(logits.argmax()),))]
        logits = model.run(prompt + chosen[:-1]).logits[len(prompt) - 1:]
        margin = gap(logits)
        argmax = logits.argmax(-1).tolist()
        assert all(a == b for a, b, m in zip(argmax, chosen, margin) if m > 0.01), "cached and whole passes differ"
        best = logits.log_softmax(-1).topk(5, dim=-1)
        entries.append({"prompt_ids": prompt, "ids": chosen, "argmax": argmax, "gap": rounded(margin),
                        "top5_ids": best.indices.tolist(), "top5_logprobs": [rounded(row) for row in best.values],
                        "text": tokens.text(chosen)})
    write_json("greedy.json", {"prompts": entries})


def sampled(model: Model, tokens: Tokens, conversations: dict):
    """One run for each case, each from another of the greedy prompts."""
    entries = []
    for case, messages in zip(sampling.CASES, conversations["greedy"]):
        prompt = tokens.chat(messages, answer_next=True)
        chosen, gaps = sampling.run(model, prompt, case, SAMPLED_TOKENS)
        entries.append({"sampler": case, "prompt_ids": prompt, "ids": chosen, "gap": gaps, "text": tokens.text(chosen)})
    write_json("sampled.json", {"runs": entries})


def extract(model: Model, tokens: Tokens, conversations: dict):
    """Mean differences between the sides; responses without their end-of-turn token, prompts without their first."""
    pairs, means = [], {name: {1: [], -1: []} for name in ("response_avg", "prompt_avg", "prompt_last")}
    for conversation in conversations["extract"]:
        *before, answer = conversation["messages"]
        prompt = tokens.chat(before, answer_next=True)
        full = prompt + tokens.plain(answer["content"])
        if conversation["ended"]:
            full.append(tokens.end_of_turn)
        hidden = model.run(full).residual.double()
        end = len(full) - 1 if conversation["ended"] else len(full)
        start, side = len(prompt), conversation["side"]
        means["response_avg"][side].append(hidden[:, start:end].mean(1))
        means["prompt_avg"][side].append(hidden[:, 1:start].mean(1))
        means["prompt_last"][side].append(hidden[:, start - 1])
        pairs.append({"side": side, "prompt_ids": prompt, "full_ids": full})
    vectors = {name: torch.stack(of[1]).mean(0) - torch.stack(of[-1]).mean(0) for name, of in means.items()}
    write_tensors("extract.safetensors", vectors)
    write_json("extract.json", {"pairs": pairs})


def steered(model: Model, tokens: Tokens, conversations: dict):
    ids, prompt_length = steering.conversation(tokens, conversations["steering"])
    vector = steering.direction(model.run(ids).residual)
    cases = steering.cases(model.run(ids).residual, vector, prompt_length)
    tensors = {"vector": vector}
    for case in cases:
        changes = steering.changes(case["terms"], vector, prompt_length)
        tensors[case["name"]] = model.run(ids, changes).residual[case["from_layer"]:]
    write_tensors("steering.safetensors", tensors)
    write_json("steering.json", {"ids": ids, "prompt_length": prompt_length, "cases": cases})


def noise(model: Model, path: Path, tokens: Tokens, conversations: dict):
    """Prints, for each prompt, the largest ‖Δh‖/‖h‖ over layers and tokens between f32 and f64."""
    exact = Model(path, torch.float64)
    for name, ids in residual_prompts(tokens, conversations).items():
        single, double = model.run(ids), exact.run(ids)
        error = (single.residual.double() - double.residual).norm(dim=-1) / double.residual.norm(dim=-1)
        worst = error[:, 1:].max(1).values
        print(f"{name}: first token {error[:, 0].max():.2e}, others {worst.max():.2e} at layer {int(worst.argmax())}; "
              f"logits differ by at most {(single.logits.double() - double.logits).abs().max():.2e}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--gguf", type=Path, required=True, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    arguments.add_argument("--noise", action="store_true", help="measure f32 against f64 and write nothing")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    model, tokens = Model(options.gguf), Tokens(options.gguf)
    conversations = json.loads((TEXTS / "conversations.json").read_text())
    if options.noise:
        noise(model, options.gguf, tokens, conversations)
        return
    print("sha256", hashlib.sha256(options.gguf.read_bytes()).hexdigest())
    for write in (nll, residual, steered, extract, greedy, sampled):
        write(model, tokens, conversations)


if __name__ == "__main__":
    main()
