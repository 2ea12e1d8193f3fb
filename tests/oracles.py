"""Slow, plain references in float64, written row by row from the definitions and scikit-learn."""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn import metrics as sk
from torch import Tensor

from ptmetrics.metrics.base import Metrics

NAN = math.nan


@dataclass
class Batch:
    """What a user passes to one update."""

    preds: Tensor
    target: Tensor
    weight: Tensor | None = None
    slices: Tensor | None = None
    group: Tensor | None = None

    def feed(self, metrics: Metrics) -> None:
        """Pass it to an update."""
        metrics.update(self.preds, self.target, self.weight, slices=self.slices, group=self.group)

    def rows(self, rows: slice | list[int]) -> "Batch":
        """Some of its rows."""
        return Batch(*(None if tensor is None else tensor[rows] for tensor in vars(self).values()))

    def to(self, device: torch.device | str) -> "Batch":
        """On another device."""
        return Batch(
            *(None if tensor is None else tensor.to(device) for tensor in vars(self).values())
        )


@dataclass
class Rows:
    """The rows that count, as plain numbers; `nll` holds (row number, loss) where the likelihood is defined."""

    target: list[int] = field(default_factory=list)
    predicted: list[int] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    rank: list[int] = field(default_factory=list)
    nll: list[tuple[int, float]] = field(default_factory=list)


def flat_rows(batch: Batch, inputs: str) -> Iterable[tuple[Any, int, float]]:
    """(scores or label, target, weight) of each row, dense dimensions last to first like the target's."""
    preds, target = batch.preds.detach(), batch.target.reshape(-1).tolist()
    if inputs != "labels":
        preds = preds.double().movedim(1, -1).reshape(-1, preds.shape[1]).numpy()
    else:
        preds = preds.reshape(-1).tolist()
    weight = (
        [1.0] * len(target) if batch.weight is None else batch.weight.double().reshape(-1).tolist()
    )
    return zip(preds, target, weight, strict=True)


def good_scores(scores: np.ndarray, inputs: str) -> bool:
    """Whether a row of scores is a prediction at all."""
    if np.isnan(scores).any():
        return False
    return inputs == "logits" or bool(scores.min() >= 0 and abs(scores.sum() - 1) <= 0.01)


def nll_of(scores: np.ndarray, target: int, inputs: str) -> float | None:
    """Negative log-likelihood, None where it is not defined."""
    if inputs == "probs":
        return math.inf if scores[target] == 0 else -math.log(scores[target])
    if math.isinf(scores.max()):
        return None
    row = torch.as_tensor(scores).unsqueeze(0)
    return float(torch.nn.functional.cross_entropy(row, torch.tensor([target])))


def multiclass_rows(
    batches: Iterable[Batch], *, num_classes: int, inputs: str, ignore_index: int | None
) -> Rows:
    """Leave out what is ignored or must be refused; ties go to the lowest class."""
    rows = Rows()
    for scores, target, weight in (row for batch in batches for row in flat_rows(batch, inputs)):
        if target == ignore_index or not 0 <= target < num_classes or not 0 <= weight < math.inf:
            continue
        if inputs == "labels":
            if not 0 <= scores < num_classes:
                continue
            rows.predicted.append(scores)
        else:
            if not good_scores(scores, inputs):
                continue
            order = sorted(range(num_classes), key=lambda k, s=scores: (-s[k], k))
            rows.predicted.append(order[0])
            rows.rank.append(order.index(target))
            loss = nll_of(scores, target, inputs)
            if loss is not None:
                rows.nll.append((len(rows.target), loss))
        rows.target.append(target)
        rows.weight.append(weight)
    return rows


def mean_of(values: Sequence[float], weights: Sequence[float]) -> float:
    """Weighted mean; a row of weight 0 is not there; NaN for no weight."""
    pairs = [(v, w) for v, w in zip(values, weights, strict=True) if w > 0]
    total = math.fsum(w for _, w in pairs)
    return math.fsum(v * w for v, w in pairs) / total if total else NAN


def multiclass_scores(
    rows: Rows, num_classes: int, ks: Sequence[int], absent: float, ignored: int | None = None
) -> dict[str, float]:
    """Every scalar score by scikit-learn, or from its definition where scikit-learn has none."""
    y, p, w = rows.target, rows.predicted, rows.weight
    kept = [i for i, weight in enumerate(w) if weight > 0]
    one_class = min(len({side[i] for i in kept}) for side in (y, p)) < 2
    common: dict[str, Any] = {"sample_weight": w}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = {
            "accuracy": sk.accuracy_score(y, p, **common),
            "balanced_accuracy": sk.balanced_accuracy_score(y, p, **common),
            "mcc": absent if one_class else sk.matthews_corrcoef(y, p, **common),
            "kappa": sk.cohen_kappa_score(y, p, **common),
        }
        if len({y[i] for i in kept} | {p[i] for i in kept}) < 2:
            scores["kappa"] = absent
    columns = multiclass_per_class(rows, num_classes, absent)
    kept_classes = [k for k in range(num_classes) if k != ignored]
    support = np.array(columns["support"])[kept_classes]
    for name in ("precision", "recall", "f1", "jaccard", "specificity"):
        scores |= averages_of(name, np.array(columns[name])[kept_classes], support)
    del scores["specificity/weighted"]
    _, fp, fn, tp = class_counts(rows, num_classes)[:, kept_classes].sum(1)
    micro = {
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "f1": (2 * tp, 2 * tp + fp + fn),
        "jaccard": (tp, tp + fp + fn),
    }
    for name, (part, whole) in micro.items():
        nothing = 0.0 if tp + fp + fn else absent
        scores[f"{name}/micro"] = part / whole if whole else nothing
    scores["recall/weighted"] = scores["recall/micro"]
    scores["hamming_loss"] = sk.hamming_loss(y, p, **common)
    for k in ks:
        scores[f"top{k}_accuracy"] = mean_of([float(r < k) for r in rows.rank], w)
    if rows.nll:
        scores["nll"] = mean_of([loss for _, loss in rows.nll], [w[i] for i, _ in rows.nll])
        with np.errstate(over="ignore"):
            scores["perplexity"] = np.exp(scores["nll"])
    return {name: float(value) for name, value in scores.items()}


def multiclass_fbeta(
    rows: Rows, num_classes: int, beta: float, absent: float, ignored: int | None = None
) -> dict[str, float]:
    """F-beta by scikit-learn."""
    kept = [k for k in range(num_classes) if k != ignored]
    columns = columns_of(rows.target, rows.predicted, rows.weight, kept, absent, beta)
    return averages_of("fbeta", columns["f1"], columns["support"])


def columns_of(
    y: Any, p: Any, w: Any, labels: Sequence[int], absent: float, beta: float = 1.0
) -> dict[str, np.ndarray]:
    """Of each class by scikit-learn, nothing over nothing as 0; `absent` for a class on neither side."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = sk.precision_recall_fscore_support(
            y, p, labels=labels, sample_weight=w, zero_division=0, beta=beta
        )
    y, p, w = np.array(y), np.array(p), np.array(w)
    there = np.array([w[(y == k) | (p == k)].sum() > 0 for k in labels])
    columns = dict(zip(("precision", "recall", "f1"), found, strict=False))
    columns = {name: np.where(there, column, absent) for name, column in columns.items()}
    return columns | {"support": found[3]}


def averages_of(name: str, values: Any, support: Any) -> dict[str, float]:
    """The mean over the classes that have a value, and the one by their targets."""
    values, support = np.array(values, dtype=float), np.array(support, dtype=float)
    there = ~np.isnan(values)
    if not there.any():
        return {f"{name}/macro": NAN, f"{name}/weighted": NAN}
    weight = support[there] if support[there].sum() else None
    return {
        f"{name}/macro": float(values[there].mean()),
        f"{name}/weighted": float(np.average(values[there], weights=weight)),
    }


def class_counts(rows: Rows, num_classes: int) -> np.ndarray:
    """Weights of true negatives, false positives, false negatives, true positives: shape (4, C)."""
    y, p, w = np.array(rows.target), np.array(rows.predicted), np.array(rows.weight)
    kinds = [
        [(y != k) & (p != k), (y != k) & (p == k), (y == k) & (p != k), (y == k) & (p == k)]
        for k in range(num_classes)
    ]
    return np.array([[math.fsum(w[kind]) for kind in each] for each in kinds]).T


def class_shares(rows: Rows, num_classes: int, absent: float) -> dict[str, np.ndarray]:
    """Jaccard index and specificity of each class."""
    tn, fp, fn, tp = class_counts(rows, num_classes)
    with np.errstate(invalid="ignore"):
        shares = {"jaccard": tp / (tp + fp + fn), "specificity": tn / (tn + fp)}
    there = tp + fp + fn > 0
    return {n: np.where(there, np.nan_to_num(values), absent) for n, values in shares.items()}


def multiclass_per_class(rows: Rows, num_classes: int, absent: float) -> dict[str, list[float]]:
    """Precision, recall, F1 and support of each class by scikit-learn."""
    columns = columns_of(rows.target, rows.predicted, rows.weight, range(num_classes), absent)
    named = columns | class_shares(rows, num_classes, absent)
    return {name: [float(v) for v in column] for name, column in named.items()}


def same(got: float, expected: float, tolerance: float = 1e-12) -> bool:
    """Equal within a relative and absolute tolerance; NaN equals NaN, infinity itself."""
    got, expected = float(got), float(expected)
    if math.isnan(expected) or math.isinf(expected):
        return repr(got) == repr(expected)
    return abs(got - expected) <= tolerance * max(1.0, abs(expected))
