#!/usr/bin/env python3
"""A whole study of one trait: what transformers, NumPy and scikit-learn make of the responses in study.contrast.

    python3 tests/golden/study.py --gguf SmolLM2-135M-Instruct.Q4_1.gguf

Of the contrast set it takes the trait pack, the settings and the ids of the answers. Prompts are rendered and tokenised anew; likelihoods,
evidence, which responses count, every estimator at every layer, separation of held-out questions, calibration and readings are computed
from transformers' own passes. Nothing of this project takes part. Writes study.safetensors and study.json.
"""

import argparse
import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from checkpoint import Model, Tokens
from estimators import direction, eigenvalue_ratio, folds, separation

HERE = Path(__file__).parent
MIN_RESPONSE_TOKENS = 4
# The thresholds that a trait is made with unless others are asked for.
BAND_DEVIATIONS, DISTINCT_2, MIN_EVIDENCE = 3.0, 0.7, 0.0
# A difference of so little is rounding.
NOTHING = 1e-6
READING_LAYERS = [8, 16, 24]
READING_RESPONSES = [0, 1, 14]
"""Numbers of the responses whose conversations are read token by token."""


class Study:
    """The contrast set. Response n is of side ±1, instruction pair and question `place(n)`."""

    def __init__(self, path: Path, model: Model, tokens: Tokens):
        packed = path.read_bytes()
        self.sha256 = hashlib.sha256(packed).hexdigest()
        record = json.loads(zlib.decompress(packed))
        self.pack, self.pairs = record["pack"], record["settings"]["pairs"]
        self.responses = [response["ids"] for response in record["responses"]]
        self.baselines = [answer["ids"] for answer in record["baselines"]]
        self.neutral = [(answer["question"], answer["ids"]) for answer in record["neutral"]["answers"]]
        self.model, self.tokens = model, tokens

    def place(self, number: int) -> tuple[int, int, int]:
        return (1 if number % 2 == 0 else -1), number // 2 % self.pairs, number // 2 // self.pairs

    def prompt(self, question: str, instruction: str | None = None) -> list[int]:
        system = [{"role": "system", "content": instruction}] if instruction else []
        return self.tokens.chat([*system, {"role": "user", "content": question}], answer_next=True)

    def instructed(self, side: int, pair: int, question: int) -> list[int]:
        instruction = self.pack["instructions"][pair]["positive" if side == 1 else "negative"]
        return self.prompt(self.pack["questions"]["extraction"][question], instruction)

    def read(self, prompt: list[int], answer: list[int]) -> tuple[np.ndarray, float]:
        """Residual `[L+1, T, d]` in f64 and the answer's mean log-likelihood a token, nats."""
        found = self.model.run(prompt + answer)
        chances = found.logits[len(prompt) - 1 : -1].double().log_softmax(-1)
        likelihood = chances[torch.arange(len(answer)), torch.tensor(answer)].mean()
        return found.residual.double().numpy(), float(likelihood)


def by_pair(study: Study, question: int, answer: list[int], but: int | None) -> list[float | None]:
    """For each instruction pair, the answer's log-likelihood under its positive side minus that under its negative one."""
    evidence = []
    for pair in range(study.pairs):
        likely = {side: study.read(study.instructed(side, pair, question), answer)[1] for side in (1, -1) if pair != but}
        evidence.append(None if pair == but else likely[1] - likely[-1])
    return evidence


def cross_fitted(study: Study, of_responses: list, of_baselines: list) -> tuple[float, list[float]]:
    """The standard deviation of neutral answers' evidence, and each response's evidence in it."""
    unit = float(np.std([np.mean(pairs) for pairs in of_baselines], ddof=1))
    evidence = []
    for number, pairs in enumerate(of_responses):
        _, own, question = study.place(number)
        others = [pairs[pair] - of_baselines[question][pair] for pair in range(study.pairs) if pair != own]
        evidence.append(float(np.mean(others)) / unit)
    return unit, evidence


def verdict(side: int, answer: list[int], likelihood: float, evidence: float, neutral: np.ndarray) -> str:
    if len(answer) < MIN_RESPONSE_TOKENS:
        return "empty"
    neighbours = list(zip(answer, answer[1:]))
    if len(set(neighbours)) / len(neighbours) < DISTINCT_2:
        return "repetitive"
    away = (likelihood - neutral.mean()) / neutral.std(ddof=1)
    if abs(away) > BAND_DEVIATIONS:
        return "too-likely" if away > 0 else "too-unlikely"
    return "kept" if side * evidence >= MIN_EVIDENCE else "weak-evidence"


def calibration(study: Study, vector: np.ndarray, residuals: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Mean and deviation of the readings in neutral conversations, and the median norm of answers' residual, `[L+1]` each."""
    unit = vector / np.linalg.norm(vector, axis=1, keepdims=True)
    kinds, norms = {"token": [], "prompt": [], "answer": []}, []
    for (question, answer), residual in zip(study.neutral, residuals):
        prompt = study.prompt(question)
        readings = np.einsum("ltd,ld->tl", residual, unit)
        # The question's own tokens, not the template's around them.
        text = study.tokens.template.render(messages=[{"role": "user", "content": question}], add_generation_prompt=True)
        start = text.rindex(question)
        spans = study.tokens.tokenizer.encode(text, add_special_tokens=False).offsets
        asked = [at for at, (low, high) in enumerate(spans) if low >= start and high <= start + len(question)]
        kinds["prompt"].append(readings[asked])
        kinds["token"].append(readings[len(prompt) :])
        kinds["answer"].append(readings[len(prompt) :].mean(0, keepdims=True))
        norms.append(np.linalg.norm(residual[:, len(prompt) :], axis=2))
    tensors = {"neutral_norm": np.median(np.concatenate(norms, axis=1), axis=1)}
    for kind, readings in kinds.items():
        readings = np.concatenate(readings)
        tensors[f"calibration.{kind}.mean"] = readings.mean(0)
        tensors[f"calibration.{kind}.deviation"] = readings.std(0, ddof=1)
    return tensors


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--gguf", type=Path, required=True, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    study = Study(HERE / "study.contrast", Model(options.gguf), Tokens(options.gguf))
    places = [study.place(number) for number in range(len(study.responses))]

    # Likelihoods and evidence.
    averages, likelihoods, conversations = {"response_avg": [], "prompt_avg": [], "prompt_last": []}, [], {}
    for number, (place, answer) in enumerate(zip(places, study.responses)):
        prompt = study.instructed(*place)
        residual, likelihood = study.read(prompt, answer)
        likelihoods.append(likelihood)
        averages["response_avg"].append(residual[:, len(prompt) :].mean(1))
        averages["prompt_avg"].append(residual[:, 1 : len(prompt)].mean(1))
        averages["prompt_last"].append(residual[:, len(prompt) - 1])
        if number in READING_RESPONSES:
            conversations[number] = (prompt, residual)
    of_responses = [by_pair(study, place[2], answer, place[1]) for place, answer in zip(places, study.responses)]
    of_baselines = [by_pair(study, question, answer, None) for question, answer in enumerate(study.baselines)]
    unit, evidence = cross_fitted(study, of_responses, of_baselines)
    neutral = [study.read(study.prompt(question), answer) for question, answer in study.neutral]
    neutral_likelihoods = np.array([likelihood for _, likelihood in neutral])
    kept = [verdict(place[0], *of, neutral_likelihoods) for place, *of in zip(places, study.responses, likelihoods, evidence)]

    # Vectors and separation: of the coherent responses, because few of so small a set count.
    counts = [number for number, why in enumerate(kept) if why in ("kept", "weak-evidence")]
    side, pair, question = np.array([places[number] for number in counts]).T
    over = {name: np.stack([rows[number] for number in counts], axis=1) for name, rows in averages.items()}
    estimators = {"response_avg": "response_avg", "prompt_avg": "prompt_avg", "prompt_last": "prompt_last",
                  "pca_diff": "response_avg", "pca_diff_repeng": "response_avg", "logistic": "response_avg", "mass_mean": "response_avg"}
    vectors, auc, ratios = {}, {}, {"pca_diff": [], "pca_diff_repeng": []}
    for name, average in estimators.items():
        rows, auc[name] = [], []
        for layer, x in enumerate(over[average]):
            difference = x[side == 1].mean(0) - x[side == -1].mean(0)
            if np.linalg.norm(difference) < NOTHING:
                # All prompts end in the same token, whose embedding says nothing of the side.
                rows.append(difference)
                auc[name].append(None)
                continue
            if name == average:
                rows.append(difference)
            else:
                # Components and probes are as long as the mean difference's part along them.
                found = direction(name, x, side, pair, question)
                rows.append(found * (found @ difference))
            # Vectors of prompts are judged by what they say about responses, as they are used.
            auc[name].append(separation(name, x, side, pair, question, judged=over["response_avg"][layer]))
            if name in ratios:
                parts = [np.ones(len(side), bool), *(learned for _, learned in folds(question))]
                ratios[name].append([eigenvalue_ratio(name, x[part], side[part], pair[part], question[part]) for part in parts])
        vectors[name] = np.stack(rows)

    # Readings along the mean difference.
    found = calibration(study, vectors["response_avg"], [residual for residual, _ in neutral])
    unit_rows = vectors["response_avg"] / np.linalg.norm(vectors["response_avg"], axis=1, keepdims=True)
    readings = {}
    for number, (prompt, residual) in conversations.items():
        readings[f"readings.{number}"] = np.einsum("ltd,ld->lt", residual[READING_LAYERS], unit_rows[READING_LAYERS])

    tensors = {**vectors, **found, **readings}
    save_file({name: np.ascontiguousarray(values, dtype=np.float32) for name, values in tensors.items()}, HERE / "study.safetensors")
    report = {
        "contrast_sha256": study.sha256,
        "evidence_unit": unit, "evidence": evidence, "by_pair": of_responses, "baselines_by_pair": of_baselines,
        "logprob": likelihoods, "neutral_logprobs": neutral_likelihoods.tolist(), "kept": kept,
        "auc": auc,
        # Of all responses, then of what each fold learns from.
        "eigenvalue_ratio": {name: np.transpose(of).tolist() for name, of in ratios.items()},
        "reading_layers": READING_LAYERS,
        "readings": [{"response": number, "prompt_ids": prompt} for number, (prompt, _) in conversations.items()],
    }
    text = json.dumps(report, separators=(",", ":"), allow_nan=False)
    (HERE / "study.json").write_text(text.replace(',"', ',\n"') + "\n")
    print(f"unit {unit:.4f}; of {len(kept)} responses {len(counts)} are coherent and {kept.count('kept')} count")
    for name, of in auc.items():
        print(f"{name:16} AUC at layers 4, 16, 26: {[round(of[layer], 3) for layer in (4, 16, 26)]}")


if __name__ == "__main__":
    main()
