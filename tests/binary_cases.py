"""Batches of yes-or-no predictions with every fault in them, and scikit-learn's answer in float64."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from oracles import Batch, averages_of, columns_of
from sklearn import metrics as sk

NAN = math.nan


def binary_batch(inputs: str, rows: int, seed: int, weighted: bool) -> Batch:
    """Scores with ties in float64; about every seventh row has a fault or, with weights, weighs nothing."""
    g = torch.Generator().manual_seed(seed)
    target = (torch.rand(rows, generator=g) < 0.4).long()
    preds = torch.randint(-3, 4, (rows,), generator=g).double() / 2 + target
    preds = preds.sigmoid() if inputs == "probs" else preds
    preds = (preds > 0).long() if inputs == "labels" else preds
    weight = torch.rand(rows, generator=g, dtype=torch.float64) if weighted else None
    kind = torch.randint(0, 40, (rows,), generator=g)
    target[kind == 0], target[kind == 1], target[kind == 2] = -1, 2, -100
    preds[kind == 3] = 5 if inputs == "labels" else NAN
    preds[kind == 4] = {"labels": 0, "probs": 1.5, "logits": -math.inf}[inputs]
    if weight is not None:
        weight[kind == 5], weight[kind == 6], weight[kind == 7] = 0.0, -1.0, NAN
    return Batch(preds, target, weight)


@dataclass
class BinaryRows:
    """The rows that count, in float64."""

    target: np.ndarray
    score: np.ndarray
    decision: np.ndarray
    weight: np.ndarray


def binary_rows(config: Mapping[str, Any], batches: Sequence[Batch]) -> BinaryRows:
    """Leave out what is ignored or must be refused; the threshold belongs to the positives."""
    inputs, threshold = config.get("inputs", "logits"), config.get("threshold", 0.5)
    target = np.concatenate([b.target.reshape(-1).numpy() for b in batches])
    score = np.concatenate([b.preds.detach().reshape(-1).double().numpy() for b in batches])
    ones = [
        np.ones(b.target.numel()) if b.weight is None else b.weight.double().numpy()
        for b in batches
    ]
    weight = np.concatenate(ones)
    kept = np.isin(target, (0, 1)) & (target != config.get("ignore_index")) & ~np.isnan(score)
    kept &= (weight >= 0) & (weight < math.inf)
    if inputs != "logits":
        kept &= (score >= 0) & (score <= 1)
    cut = {"labels": 1, "probs": threshold, "logits": math.log(threshold / (1 - threshold))}[inputs]
    return BinaryRows(target[kept], score[kept], (score[kept] >= cut).astype(int), weight[kept])


def binary_oracle(config: Mapping[str, Any], batches: Sequence[Batch]) -> dict[str, Any]:
    """Every score by scikit-learn, or by its definition; average precision of logits only, whose ties are exact."""
    r, absent = binary_rows(config, batches), config.get("absent", NAN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = counted_scores(r, absent, config.get("beta"))
        if config.get("inputs") != "labels" and config.get("curves", "fp16"):
            scores |= ranked_scores(r)
            scores |= (
                {} if config.get("inputs", "logits") == "logits" else {"average_precision": None}
            )
        if config.get("inputs") != "labels" and config.get("losses", True):
            scores |= losses(r, config.get("inputs", "logits"))
    return {name: value for name, value in scores.items() if value is not None}


def counted_scores(r: BinaryRows, absent: float, beta: float | None) -> dict[str, Any]:
    """What follows from the four counts."""
    y, p = r.target, r.decision
    w: dict[str, Any] = {"sample_weight": r.weight}
    kept = r.weight > 0
    sides = [set(side[kept]) for side in (y, p)]
    columns = columns_of(y, p, r.weight, [0, 1], absent)
    jaccard = sk.jaccard_score(y, p, zero_division=0, **w)
    scores: dict[str, Any] = {
        "accuracy": sk.accuracy_score(y, p, **w) if r.weight.sum() else NAN,
        "balanced_accuracy": sk.balanced_accuracy_score(y, p, **w) if r.weight.sum() else NAN,
        "precision": columns["precision"][1],
        "recall": columns["recall"][1],
        "specificity": columns["recall"][0],
        "npv": columns["precision"][0],
        "f1": columns["f1"][1],
        "jaccard": absent if not {1} & set.union(*sides) else jaccard,
        "mcc": absent if min(map(len, sides)) < 2 else sk.matthews_corrcoef(y, p, **w),
        "kappa": absent if len(set.union(*sides)) < 2 else sk.cohen_kappa_score(y, p, **w),
    }
    if beta is not None:
        scores["fbeta"] = columns_of(y, p, r.weight, [0, 1], absent, beta)["f1"][1]
    scores |= {f"class:{name}": list(map(float, column)) for name, column in columns.items()}
    for name in ("precision", "recall", "f1"):
        scores |= averages_of(name, columns[name], columns["support"])
    return scores


def ranked_scores(r: BinaryRows) -> dict[str, float]:
    """Areas under the curves; scikit-learn takes no infinite score, so these become the farthest finite ones."""
    score = np.nan_to_num(r.score, posinf=1e9, neginf=-1e9)
    kept = r.weight > 0
    if len(set(r.target[kept])) < 2:
        only_positives = 1.0 if r.target[kept].any() else NAN
        return {"auroc": NAN, "average_precision": only_positives}
    y, s, w = r.target[kept], score[kept], r.weight[kept]
    return {
        "auroc": sk.roc_auc_score(y, s, sample_weight=w),
        "average_precision": sk.average_precision_score(y, s, sample_weight=w),
    }


def losses(r: BinaryRows, inputs: str) -> dict[str, float]:
    """Mean negative log-likelihood and mean squared error of the probability."""
    kept = r.weight > 0
    y, w = r.target[kept], r.weight[kept]
    with np.errstate(all="ignore"):
        logit = (
            r.score[kept]
            if inputs == "logits"
            else np.log(r.score[kept]) - np.log1p(-r.score[kept])
        )
        wrong = np.where(y == 1, -logit, logit)
        nll, squared = np.logaddexp(0, wrong), 1 / (1 + np.exp(-wrong)) ** 2
    if not len(w):
        return {"nll": NAN, "brier": NAN}
    return {
        "nll": float(np.average(nll, weights=w)),
        "brier": float(np.average(squared, weights=w)),
    }
