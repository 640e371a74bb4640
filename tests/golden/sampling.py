"""Sampled runs: transformers' logit warpers, then Gumbel-max with noise that depends on seed, position and token alone.

Adding standard Gumbel noise to logits and taking the largest samples from their softmax. The noise is
-ln(-ln u), u = (bits + 1/2) / 2^23 with the upper 23 bits of pcg(token ^ pcg(position ^ pcg(seed))), where pcg is the
PCG-RXS-M-XS-32 hash (Jarzynski and Olano, "Hash Functions for GPU Rendering", 2020).
"""

import numpy as np
import torch
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from checkpoint import Model

ALONE = 1000.0

CASES = [
    {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.2, "seed": 0},
    {"temperature": 0.8, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0, "seed": 1},
    {"temperature": 1.0, "top_k": 20, "top_p": 1.0, "repetition_penalty": 1.0, "seed": 2},
    {"temperature": 1.2, "top_k": 0, "top_p": 0.8, "repetition_penalty": 1.0, "seed": 3},
    {"temperature": 0.9, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.1, "seed": 2**32 - 1},
]


def pcg(value: np.ndarray) -> np.ndarray:
    state = value * np.uint32(747796405) + np.uint32(2891336453)
    word = ((state >> ((state >> np.uint32(28)) + np.uint32(4))) ^ state) * np.uint32(277803737)
    return (word >> np.uint32(22)) ^ word


def gumbel(seed: int, position: int, vocabulary: int) -> torch.Tensor:
    """Noise of every token at `position`, in f64."""
    inner = pcg(np.array([position], dtype=np.uint32) ^ pcg(np.array([seed], dtype=np.uint32)))
    bits = pcg(np.arange(vocabulary, dtype=np.uint32) ^ inner) >> np.uint32(9)
    uniform = (bits.astype(np.float64) + 0.5) / 2**23
    return torch.from_numpy(-np.log(-np.log(uniform)))


def warped(logits: torch.Tensor, ids: list[int], case: dict) -> torch.Tensor:
    """Hugging Face's order: repetition penalty over all tokens so far, temperature, top-k, top-p."""
    scores, so_far = logits[None], torch.tensor([ids])
    processors = []
    if case["repetition_penalty"] != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(case["repetition_penalty"]))
    if case["temperature"] > 0.0:
        processors.append(TemperatureLogitsWarper(case["temperature"]))
        if case["top_k"] > 0:
            processors.append(TopKLogitsWarper(case["top_k"]))
        if case["top_p"] < 1.0:
            processors.append(TopPLogitsWarper(case["top_p"]))
    for processor in processors:
        scores = processor(so_far, scores)
    return scores[0]


def run(model: Model, prompt: list[int], case: dict, count: int) -> tuple[list[int], list[float]]:
    """The chosen tokens, and how far each was ahead of the second best score (`ALONE` where nothing else was kept)."""

    def choose(logits: torch.Tensor, ids: list[int]) -> tuple[int, float]:
        scores = warped(logits, ids, case).double()
        if case["temperature"] > 0.0:
            scores = scores + gumbel(case["seed"], len(ids), len(scores))
        best = scores.topk(2)
        return int(best.indices[0]), min(float(best.values[0] - best.values[1]), ALONE)

    chosen, gaps = [], []
    for token, gap in model.steps(prompt, count, choose):
        chosen.append(token)
        gaps.append(round(gap, 6))
    return chosen, gaps
