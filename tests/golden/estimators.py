#!/usr/bin/env python3
"""What NumPy and scikit-learn make of two sides of residual vectors: components, probes and separation.

    python3 tests/golden/estimators.py

The vectors are those of transformers in residual.safetensors: 20 tokens of each of its two prompts, one prompt a side, stand in for
the averages of responses. Nothing of this project takes part. Writes estimators.safetensors and estimators.json.
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

LAYERS = [4, 16, 26]
# With more rows than widths the equations are solved in the other space: the first widths alone.
NARROW = 12
# The first token is an attention sink, and is not among them.
FIRST = 20
TOKENS = 20
QUESTIONS = 10
FOLDS = 5
ESTIMATORS = ["response_avg", "pca_diff", "pca_diff_repeng", "logistic", "mass_mean"]


def paired_differences(x, side, pair, question):
    """Positive minus negative response of each instruction pair and question that has both."""
    at = {(s, p, q): row for row, (s, p, q) in enumerate(zip(side, pair, question))}
    keys = sorted((p, q) for (s, p, q) in at if s == 1 and (-1, p, q) in at)
    return np.array([x[at[1, p, q]] - x[at[-1, p, q]] for p, q in keys])


def direction(estimator, x, side, pair, question):
    """Unit vector [d], pointing to the positive side."""
    difference = x[side == 1].mean(0) - x[side == -1].mean(0)
    if estimator in ("response_avg", "prompt_avg", "prompt_last"):
        found = difference
    elif estimator == "pca_diff":
        found = np.linalg.svd(paired_differences(x, side, pair, question))[2][0]
    elif estimator == "pca_diff_repeng":
        found = PCA(n_components=1, svd_solver="full").fit(paired_differences(x, side, pair, question)).components_[0]
    elif estimator == "logistic":
        scaler = StandardScaler().fit(x)
        probe = LogisticRegression(C=1.0, tol=1e-10, max_iter=100_000).fit(scaler.transform(x), side)
        found = probe.coef_[0] / scaler.scale_
    else:
        found = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(x, side).coef_[0]
    found = found / np.linalg.norm(found)
    return found if found @ difference >= 0 else -found


def eigenvalue_ratio(estimator, x, side, pair, question):
    """How far the component stands out: where it is near 1, rounding turns it."""
    differences = paired_differences(x, side, pair, question)
    if estimator == "pca_diff_repeng":
        differences = differences - differences.mean(0)
    first, second = np.linalg.svd(differences, compute_uv=False)[:2] ** 2
    return first / second


def folds(question):
    """For each fold that has questions: which rows are held out, and which are learned from."""
    parts = [question % FOLDS == fold for fold in range(FOLDS)]
    return [(held_out, ~held_out) for held_out in parts if held_out.any()]


def separation(estimator, x, side, pair, question, judged=None):
    """Share of comparisons won on held-out questions, over all folds; directions from `x` are judged on `judged`, or on `x` itself."""
    judged = x if judged is None else judged
    won = compared = 0.0
    for held_out, learned in folds(question):
        pairs = (side[held_out] == 1).sum() * (side[held_out] == -1).sum()
        if pairs:
            found = direction(estimator, x[learned], side[learned], pair[learned], question[learned])
            won += pairs * roc_auc_score(side[held_out] == 1, judged[held_out] @ found)
            compared += pairs
    return won / compared


def main():
    here = Path(__file__).parent
    residual = load_file(here / "residual.safetensors")
    rows = np.concatenate([residual[name][LAYERS, FIRST : FIRST + TOKENS] for name in ("chat", "plain")], axis=1)
    side = np.repeat([1, -1], TOKENS)
    question, pair = np.tile(np.arange(TOKENS) % QUESTIONS, 2), np.tile(np.arange(TOKENS) // QUESTIONS, 2)
    tensors = {}
    report = {"layers": LAYERS, "first": FIRST, "tokens": TOKENS, "questions": QUESTIONS, "folds": FOLDS, "cases": []}
    for at, layer in enumerate(LAYERS):
        for width in (rows.shape[2], NARROW):
            x = rows[at, :, :width].astype(np.float64)
            case = {"layer": layer, "width": width, "estimators": {}}
            for estimator in ESTIMATORS:
                found = direction(estimator, x, side, pair, question)
                tensors[f"{estimator}.{layer}.{width}"] = found.astype(np.float32)
                case["estimators"][estimator] = {"auc": separation(estimator, x, side, pair, question)}
            for name in ("pca_diff", "pca_diff_repeng"):
                case["estimators"][name]["eigenvalue_ratio"] = eigenvalue_ratio(name, x, side, pair, question)
            report["cases"].append(case)
            print(layer, width, {name: (round(one["auc"], 3), round(one.get("eigenvalue_ratio", 0), 2)) for name, one in case["estimators"].items()})
    save_file(tensors, here / "estimators.safetensors")
    (here / "estimators.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
