"""Scores of single-label classification, all from one confusion matrix: pure functions on the device."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ptmetrics.scores.estimate import Estimate
from ptmetrics.scores.intervals import delta, mean_interval, mover, wilson

NO_SAMPLES = "no samples were counted"
NO_TARGET = "the class is absent from the targets"
NO_PREDICTION = "the class was never predicted"
NEITHER = "the class is neither in the targets nor in the predictions"
NO_CLASS = "no class is defined"
ONE_CLASS = "targets or predictions hold one class only"


@dataclass(frozen=True)
class Tally:
    """A confusion matrix, rows actual: counts, Σw and Σw² a cell; all the same without weights.

    Attributes:
        count: Int64 of shape (C, C).
        weight: Float64 of shape (C, C).
        square: Float64 of shape (C, C).
        absent: Value of an undefined class score; NaN leaves the class out of averages.
    """

    count: Tensor
    weight: Tensor
    square: Tensor
    absent: float = math.nan

    def proportion(self, part: Tensor, whole: Tensor, whole_square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Proportions part / whole with Wilson ends at Kish's effective n; NaN for an empty whole."""
        p = (part / whole).clamp(max=1)  # sums of weights in another order may differ in the last digit
        low, high = wilson(p, whole.square() / whole_square)
        return p, low, high


def accuracy(t: Tally) -> Estimate:
    """Share of right predictions; rises, [0, 1], NaN for no samples. Wilson interval."""
    p, low, high = t.proportion(t.weight.diagonal().sum(), t.weight.sum(), t.square.sum())
    return Estimate(p, low, high, t.count.sum(), "wilson", NO_SAMPLES)


def top_k(t: Tally, hits: Tensor) -> Estimate:
    """Share of targets among the k highest scores; `hits` is their weight, shape ()."""
    p, low, high = t.proportion(hits.double(), t.weight.sum(), t.square.sum())
    return Estimate(p, low, high, t.count.sum(), "wilson", NO_SAMPLES)


def class_precision(t: Tally) -> Estimate:
    """True positives over predicted positives of each class, shape (C,). Wilson intervals."""
    values = t.proportion(t.weight.diagonal(), t.weight.sum(0), t.square.sum(0))
    return Estimate(*_fill(values, t.absent), t.count.sum(0), "wilson", NO_PREDICTION)


def class_recall(t: Tally) -> Estimate:
    """True positives over actual positives of each class, shape (C,). Wilson intervals."""
    values = t.proportion(t.weight.diagonal(), t.weight.sum(1), t.square.sum(1))
    return Estimate(*_fill(values, t.absent), t.count.sum(1), "wilson", NO_TARGET)


def class_f1(t: Tally) -> Estimate:
    """F1 of each class, shape (C,): F = 2J / (1 + J) of the Jaccard index J, with J's Wilson interval mapped.

    Source: Lam et al., arXiv 2309.14621: given the union, J is a binomial proportion and the map is monotone.
    """
    jaccard, low, high = t.proportion(t.weight.diagonal(), _union(t.weight), _union(t.square))
    values = tuple(2 * j / (1 + j) for j in (jaccard, low, high))
    return Estimate(*_fill(values, t.absent), _union(t.count), "wilson-jaccard", NEITHER)


def class_support(t: Tally) -> Estimate:
    """Weight of the targets of each class, shape (C,); a count, with no interval."""
    support = t.weight.sum(1)
    return Estimate(support, support, support, t.count.sum(1), "count", NO_TARGET)


def precision_macro(t: Tally) -> Estimate:
    """Unweighted mean of precision over the classes where it is defined. MOVER interval."""
    return _macro(t, class_precision(t), axis=0)


def recall_macro(t: Tally) -> Estimate:
    """Unweighted mean of recall over the classes where it is defined. MOVER interval."""
    return _macro(t, class_recall(t), axis=1)


def balanced_accuracy(t: Tally) -> Estimate:
    """Mean recall of the classes that occur in the targets, whatever `absent` is. MOVER interval."""
    return recall_macro(replace(t, absent=math.nan))


def precision_weighted(t: Tally) -> Estimate:
    """Mean of precision weighted by the targets' share, plain where all those weights are 0. Delta interval."""
    value, low, high = delta(lambda c: _mean_precision(c, t.absent), t.weight, t.square, (0, 1))
    return Estimate(value, low, high, t.count.sum(), "delta", NO_CLASS)


def f1_macro(t: Tally) -> Estimate:
    """Unweighted mean of F1 over the classes where it is defined. Delta interval: class errors are shared."""
    value, low, high = delta(
        lambda c: _mean_f1(c, torch.ones_like(c[..., 0]), t.absent), t.weight, t.square, (0, 1)
    )
    return Estimate(value, low, high, t.count.sum(), "delta", NO_CLASS)


def f1_weighted(t: Tally) -> Estimate:
    """Mean of F1 weighted by the targets' share. Delta interval."""
    value, low, high = delta(lambda c: _mean_f1(c, c.sum(-1), t.absent), t.weight, t.square, (0, 1))
    return Estimate(value, low, high, t.count.sum(), "delta", NO_CLASS)


def mcc(t: Tally) -> Estimate:
    """Matthews correlation coefficient; rises, [-1, 1], NaN when a side holds one class. Delta interval.

    Source: Gorodkin, Comput. Biol. Chem. 2004 (R_K).
    """
    value, low, high = delta(_mcc, t.weight, t.square, (-1, 1))
    return Estimate(*_fill((value, low, high), t.absent), t.count.sum(), "delta", ONE_CLASS)


def kappa(t: Tally) -> Estimate:
    """Cohen's kappa; rises, (-1, 1], NaN when agreement by chance is sure. Delta interval."""
    value, low, high = delta(_kappa, t.weight, t.square, (-1, 1))
    return Estimate(*_fill((value, low, high), t.absent), t.count.sum(), "delta", ONE_CLASS)


def mean_loss(moments: Tensor) -> Estimate:
    """Mean of a loss from its moments of shape (6,); falls, NaN for no samples. Normal interval."""
    value, low, high = mean_interval(moments)
    return Estimate(value, low, high, moments[0].long(), "normal", NO_SAMPLES, higher_is_better=False)


def _union(cells: Tensor) -> Tensor:
    return cells.sum(0) + cells.sum(1) - cells.diagonal()


def _fill(values: tuple[Tensor, ...], absent: float) -> tuple[Tensor, Tensor, Tensor]:
    """Put `absent` where the value is undefined; its interval is the value itself, as for any constant."""
    value, low, high = values
    undefined = torch.isnan(value)
    return tuple(torch.where(undefined, absent, v) for v in (value, low, high))  # type: ignore[return-value]


def _macro(t: Tally, each: Estimate, axis: int) -> Estimate:
    n = t.weight.sum(axis).square() / t.square.sum(axis)
    return Estimate(*mover(each.value, n), t.count.sum(), "mover", NO_CLASS)


# From here on matrices of shape (…, C, C) to values of shape (…).
def _mean_precision(cells: Tensor, absent: float) -> Tensor:
    return _mean(_hits(cells), cells.sum(-2), cells.sum(-1), absent)


def _mean_f1(cells: Tensor, weight: Tensor, absent: float) -> Tensor:
    return _mean(2 * _hits(cells), cells.sum(-2) + cells.sum(-1), weight, absent)


def _mean(part: Tensor, whole: Tensor, weight: Tensor, absent: float) -> Tensor:
    share, defined = part / whole, whole > 0
    if not math.isnan(absent):
        return (torch.where(defined, share, absent) * weight).sum(-1) / weight.sum(-1)
    weight = torch.where(defined, weight, 0.0)
    weight = torch.where(weight.sum(-1, keepdim=True) > 0, weight, defined.double())
    return torch.where(defined, share * weight, 0.0).sum(-1) / weight.sum(-1)


def _mcc(cells: Tensor) -> Tensor:
    # In counts and not in shares, which would round the digits of a rare class away.
    actual, predicted = cells.sum(-1), cells.sum(-2)
    covariance = actual.sum(-1) * _hits(cells).sum(-1) - (actual * predicted).sum(-1)
    spread = _spread(actual) * _spread(predicted)
    return torch.where(spread > 0, covariance, torch.nan) / spread.sqrt()


def _kappa(cells: Tensor) -> Tensor:
    share = cells / cells.sum((-2, -1), keepdim=True)
    chance = (share.sum(-1) * share.sum(-2)).sum(-1)
    return (_hits(share).sum(-1) - chance) / (1 - chance)


def _spread(margin: Tensor) -> Tensor:
    return margin.sum(-1).square() - margin.square().sum(-1)


def _hits(cells: Tensor) -> Tensor:
    return cells.diagonal(dim1=-2, dim2=-1)
