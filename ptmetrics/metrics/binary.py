"""Scores of yes-or-no classification: those of the positive class, class 1, from the same 2 × 2 counts."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ptmetrics.metrics import margins as of
from ptmetrics.metrics import multiclass as m
from ptmetrics.metrics.estimate import Estimate
from ptmetrics.metrics.intervals import wilson
from ptmetrics.metrics.rank_intervals import FEW, union
from ptmetrics.metrics.tally import Tally

NO_POSITIVE = "no target is positive"
NO_NEGATIVE = "no target is negative"
NONE_PREDICTED_POSITIVE = "nothing was predicted positive"
NONE_PREDICTED_NEGATIVE = "nothing was predicted negative"
ALL_NEGATIVE = "neither a target nor a prediction is positive"
NEGATIVE, POSITIVE = 0, 1


def precision(t: Tally) -> Estimate:
    """True positives over predicted positives; rises, [0, 1]. Wilson interval."""
    return _of(POSITIVE, m.class_precision(t), NONE_PREDICTED_POSITIVE)


def recall(t: Tally) -> Estimate:
    """True positives over positives, also called sensitivity; rises, [0, 1]. Wilson interval."""
    return _of(POSITIVE, m.class_recall(t), NO_POSITIVE)


def specificity(t: Tally) -> Estimate:
    """True negatives over negatives; rises, [0, 1]. Wilson interval."""
    return _of(NEGATIVE, m.class_recall(t), NO_NEGATIVE)


def npv(t: Tally) -> Estimate:
    """Negative predictive value, true negatives over predicted negatives; rises, [0, 1]. Wilson interval."""
    return _of(NEGATIVE, m.class_precision(t), NONE_PREDICTED_NEGATIVE)


def f1(t: Tally) -> Estimate:
    """Harmonic mean of precision and recall; rises, [0, 1]. Wilson's interval of the Jaccard index, mapped."""
    return _of(POSITIVE, m.class_f1(t), ALL_NEGATIVE)


def jaccard(t: Tally) -> Estimate:
    """True positives over all that are positive or predicted so; rises, [0, 1]. Wilson interval."""
    return _of(POSITIVE, m.class_jaccard(t), ALL_NEGATIVE)


def fbeta(t: Tally, beta: float) -> Estimate:
    """Precision and recall, recall `beta` times as important; rises, [0, 1]. Delta interval."""

    def score(margins: Tensor) -> Tensor:
        hits, actual, predicted = margins[..., POSITIVE].unbind(-1)
        return (1 + beta * beta) * hits / (beta * beta * actual + predicted)

    n = of.either(t.count)[..., POSITIVE]
    return Estimate(*t.filled(t.delta(score, (0, 1))), n, "delta", ALL_NEGATIVE)


def f1_macro(t: Tally) -> Estimate:
    """Unweighted mean of F1 over the classes where it is defined; rises, [0, 1]. Mean of the classes' ends.

    A wrong row lowers the F1 of both classes, so their errors go together: the mean of the ends is nearly as narrow
    as can be, and holds where a class is rare, which the delta method does not.
    """
    each = m.class_f1(t)
    value, low, high = (x.nanmean(-1) for x in (each.value, each.low, each.high))
    return Estimate(value, low, high, t.n, "mean-of-ends", m.NO_CLASS)


def mcc(t: Tally) -> Estimate:
    """Matthews correlation coefficient; rises, [-1, 1], NaN when a side holds one class. Interval as `kappa`'s."""
    return _with_few(t, m.mcc)


def kappa(t: Tally) -> Estimate:
    """Cohen's kappa; rises, (-1, 1], NaN when agreement by chance is sure.

    Delta interval, joined below 100 samples of a class with that of the rarer class's Jaccard index, mapped: both
    scores hang on that class then, and the delta method takes it for less uncertain than it is.
    """
    return _with_few(t, m.kappa)


SCORES: Mapping[str, Callable[[Tally], Estimate]] = {
    "accuracy": m.accuracy,
    "balanced_accuracy": m.balanced_accuracy,
    "precision": precision,
    "recall": recall,
    "specificity": specificity,
    "npv": npv,
    "f1": f1,
    "jaccard": jaccard,
    "mcc": mcc,
    "kappa": kappa,
    "precision/macro": m.precision_macro,
    "precision/weighted": m.precision_weighted,
    "recall/macro": m.recall_macro,
    "recall/weighted": m.accuracy,  # with one label a row
    "f1/macro": f1_macro,
    "f1/weighted": m.f1_weighted,
}
PER_CLASS: Mapping[str, Callable[[Tally], Estimate]] = {
    "precision": m.class_precision,
    "recall": m.class_recall,
    "f1": m.class_f1,
    "support": m.class_support,
}


def mean_losses(t: Tally, weight: Tensor, square: Tensor) -> dict[str, Estimate]:
    """Negative log-likelihood and Brier score; both fall, from 0 on, NaN for no samples. Normal intervals.

    Args:
        t: The counts of the same rows.
        weight: Σw v·vᵀ of v = (1, nll, squared error), float64 of shape (3, 3).
        square: Σw² v·vᵀ.
    """
    total = (t.n.double(), t.total, t.total_square)
    return {
        name: m.mean_loss(torch.stack((*total, weight[0, i], square[0, i], square[i, i])))
        for i, name in ((1, "nll"), (2, "brier"))
    }


def _with_few(t: Tally, score: Callable[[Tally], Estimate]) -> Estimate:
    e, undefined = score(t), torch.isnan(score(replace(t, absent=math.nan, ends=False)).value)
    if t.cells is None:
        return e
    count, *sums = t.cells
    other = (sums[0][..., 1, :].sum(-1) > sums[0][..., 0, :].sum(-1))[..., None, None]
    weight, square = (torch.where(other, x.flip(-2, -1), x) for x in sums)
    effective = weight[..., 1, :].sum(-1).square() / square[..., 1, :].sum(-1)
    ends = wilson(weight[..., 1, 1] / _union(weight), _union(weight).square() / _union(square))
    safe = tuple(
        score(replace(Tally.of_matrix(count, _at(weight, j), square), ends=False)).value
        for j in ends
    )
    low, high = union(e.value, (e.low, e.high), (safe[0], safe[1]), effective < FEW)
    low, high = torch.where(undefined, e.low, low), torch.where(undefined, e.high, high)
    return Estimate(e.value, low, high, e.n, "delta-jaccard", e.reason)


def _union(cells: Tensor) -> Tensor:
    return cells[..., 0, 1] + cells[..., 1, 0] + cells[..., 1, 1]


def _at(cells: Tensor, jaccard: Tensor) -> Tensor:
    """The matrix with another Jaccard index, its errors split as they are."""
    wrong = cells[..., 0, 1] + cells[..., 1, 0]
    share = torch.where(wrong > 0, cells[..., 0, 1] / wrong, 0.5)
    hits, errors = jaccard * _union(cells), (1 - jaccard) * _union(cells)
    flat = torch.stack((cells[..., 0, 0], share * errors, (1 - share) * errors, hits), -1)
    return flat.view(*flat.shape[:-1], 2, 2)


def _of(label: int, each: Estimate, reason: str) -> Estimate:
    value, low, high, n = (x[..., label] for x in (each.value, each.low, each.high, each.n))
    return Estimate(value, low, high, n, each.method, reason)
