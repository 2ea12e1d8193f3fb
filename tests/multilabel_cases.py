"""Batches of labels with every fault in them, and scikit-learn's answer in float64."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from oracles import Batch
from sklearn import metrics as sk

Array = np.ndarray
AVERAGES = ("micro", "macro", "weighted", "samples")


def multilabel_batch(labels: int, inputs: str, rows: int, seed: int, weighted: bool) -> Batch:
    """Rare and common labels that are often right; ties at the threshold, faults and ignored targets."""
    g = torch.Generator().manual_seed(seed)
    target = (torch.rand(rows, labels, generator=g) < torch.linspace(0.05, 0.7, labels)).long()
    scores = (2 * target - 1) * 2 + torch.randint(-4, 5, (rows, labels), generator=g).float()
    preds = {"logits": scores, "probs": scores.sigmoid(), "labels": (scores >= 0).long()}[inputs]
    weight = torch.rand(rows, generator=g, dtype=torch.float64) if weighted else None
    kind = torch.randint(0, 60, (rows, labels), generator=g)
    target[kind == 0], target[kind == 1], target[kind == 2] = 2, -1, -100
    preds[kind == 3] = 7 if inputs == "labels" else math.nan
    if inputs == "probs":
        preds[kind == 4] = 1.5
    if weight is not None:
        weight[kind[:, 0] == 5], weight[kind[:, 0] == 6], weight[kind[:, 0] == 7] = (
            0.0,
            -1.0,
            math.nan,
        )
    return Batch(preds, target, weight)


@dataclass
class Cells:
    """What counts, in float64: predictions, targets, which cells count, intact rows, weights."""

    said: Array
    actual: Array
    counted: Array
    intact: Array
    weight: Array


def multilabel_cells(config: Mapping[str, Any], batches: Sequence[Batch]) -> Cells:
    """Read row by row what the docstring of `MultilabelMetrics` says."""
    said, actual, counted, intact, weights = [], [], [], [], []
    for batch in batches:
        weight = torch.ones(len(batch.target)) if batch.weight is None else batch.weight
        for p, t, w in zip(
            batch.preds.tolist(), batch.target.tolist(), weight.tolist(), strict=True
        ):
            if not 0 <= w < math.inf:
                continue
            asked = [y != config.get("ignore_index") for y in t]
            good = [y in (0, 1) and fine(x, config["inputs"]) for x, y in zip(p, t, strict=True)]
            counted.append([a and b for a, b in zip(asked, good, strict=True)])
            intact.append(
                any(counted[-1]) and all(b or not a for a, b in zip(asked, good, strict=True))
            )
            said.append([x >= cut(config) if c else 0 for x, c in zip(p, counted[-1], strict=True)])
            actual.append([y if c else 0 for y, c in zip(t, counted[-1], strict=True)])
            weights.append(w)
    shape = (-1, config["num_labels"])
    grids = (np.array(x, dtype=bool).reshape(shape) for x in (said, actual, counted))
    return Cells(*grids, np.array(intact, dtype=bool), np.array(weights, dtype=float))


def fine(x: float, inputs: str) -> bool:
    """Whether a number is a prediction at all."""
    return (
        x in (0, 1)
        if inputs == "labels"
        else not math.isnan(x) and (inputs == "logits" or 0 <= x <= 1)
    )


def cut(config: Mapping[str, Any]) -> float:
    """The threshold on the scale of the predictions."""
    threshold = config.get("threshold", 0.5)
    return math.log(threshold / (1 - threshold)) if config["inputs"] == "logits" else threshold


def label_columns(c: Cells, absent: float) -> dict[str, list[float]]:
    """Precision, recall, F1, Jaccard and support of each label, over the rows where it counts."""
    columns: dict[str, list[float]] = {
        name: [] for name in ("precision", "recall", "f1", "jaccard", "support")
    }
    for label in range(c.said.shape[1]):
        kept = c.counted[:, label] & (c.weight > 0)
        p, t, w = c.said[kept, label], c.actual[kept, label], c.weight[kept]
        tp, fp, fn = (w[mask].sum() for mask in (p & t, p & ~t, ~p & t))
        nothing = 0.0 if tp + fp + fn else absent
        values = (tp / x if x else nothing for x in (tp + fp, tp + fn))
        jaccard, f1 = (k * tp / (k * tp + fp + fn) if tp + fp + fn else absent for k in (1, 2))
        for name, value in zip(columns, (*values, f1, jaccard, tp + fn), strict=True):
            columns[name].append(float(value))
    return columns


def mean(values: Sequence[float], weight: Sequence[float] | None = None) -> float:
    """Mean over what is defined; the plain one where nothing has weight."""
    x, w = np.array(values), np.ones(len(values)) if weight is None else np.array(weight)
    x, w = x[~np.isnan(x)], w[~np.isnan(x)]
    if not len(x):
        return math.nan
    return float(np.average(x, weights=w if w.sum() else None))


def row_columns(c: Cells, absent: float) -> tuple[dict[str, list[float]], Array]:
    """The same of each intact row, and the rows' weights."""
    columns: dict[str, list[float]] = {
        name: [] for name in ("precision", "recall", "f1", "jaccard")
    }
    for p, t in zip(c.said[c.intact], c.actual[c.intact], strict=True):
        hits, union = int((p & t).sum()), int((p | t).sum())
        nothing = 0.0 if union else absent
        columns["precision"].append(hits / p.sum() if p.any() else nothing)
        columns["recall"].append(hits / t.sum() if t.any() else nothing)
        columns["f1"].append(2 * hits / (p.sum() + t.sum()) if union else absent)
        columns["jaccard"].append(hits / union if union else absent)
    return columns, c.weight[c.intact]


def multilabel_oracle(config: Mapping[str, Any], batches: Sequence[Batch]) -> dict[str, Any]:
    """Named scores, and per-label lists as "class:NAME", by their definitions."""
    c, absent = multilabel_cells(config, batches), config.get("absent", math.nan)
    labels = label_columns(c, absent)
    rows, row_weight = row_columns(c, absent)
    w = c.weight[:, None]
    tp, fp, fn = (
        (mask * w).sum() for mask in (c.said & c.actual, c.said & ~c.actual, ~c.said & c.actual)
    )
    micro = {
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "f1": (2 * tp, 2 * tp + fp + fn),
        "jaccard": (tp, tp + fp + fn),
    }
    total = (c.counted * w).sum()
    match = (c.said == c.actual).all(1)[c.intact]
    known = row_weight.sum() > 0
    expected: dict[str, Any] = {
        "hamming_loss": (fp + fn) / total if total else absent,
        "exact_match": float(np.average(match, weights=row_weight)) if known else math.nan,
    }
    for name, (part, whole) in micro.items():
        nothing = 0.0 if tp + fp + fn else absent
        expected[f"{name}/micro"] = part / whole if whole else nothing
        expected[f"{name}/macro"] = mean(labels[name])
        expected[f"{name}/weighted"] = mean(labels[name], labels["support"])
        defined = row_weight[~np.isnan(rows[name])] if len(row_weight) else row_weight
        expected[f"{name}/samples"] = (
            mean(rows[name], row_weight) if defined.sum() > 0 else math.nan
        )
    return expected | {f"class:{name}": values for name, values in labels.items()}


def scikit_learn(c: Cells, absent: float) -> dict[str, float]:
    """The same from scikit-learn, where every cell of every row counts."""
    expected: dict[str, float] = {
        "exact_match": sk.accuracy_score(c.actual, c.said, sample_weight=c.weight),
        "hamming_loss": sk.hamming_loss(c.actual, c.said, sample_weight=c.weight),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for average in AVERAGES:
            how = {"average": average, "sample_weight": c.weight, "zero_division": absent}
            values = sk.precision_recall_fscore_support(c.actual, c.said, **how)
            expected |= {
                f"{n}/{average}": v
                for n, v in zip(("precision", "recall", "f1"), values, strict=False)
            }
            if not math.isnan(absent):
                expected[f"jaccard/{average}"] = sk.jaccard_score(c.actual, c.said, **how)
    return expected
