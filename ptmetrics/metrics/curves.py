"""AUROC and average precision from a histogram of scores, each with a certified bound on its numerical error.

Rows of a histogram are in the order of the scores, so only samples that share a row can be out of order. What
they could do at worst is the bound; nothing is assumed about the scores.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ptmetrics.counts.cells import State
from ptmetrics.counts.checks import in_memory
from ptmetrics.counts.keys import Keys
from ptmetrics.counts.stored import unpack
from ptmetrics.metrics.estimate import Estimate
from ptmetrics.metrics.intervals import wilson
from ptmetrics.metrics.rank_intervals import FEW, logit_interval, newcombe, union

ONE_SIDE = "the targets hold one class only"


class Histogram(Protocol):
    """A statistic that counts scores by row, one histogram or several."""

    @property
    def name(self) -> str:
        """Name of its cells."""
        ...

    @property
    def keys(self) -> Keys:
        """Which row a score belongs to."""
        ...

    @property
    def nan(self) -> tuple[int, ...]:
        """Slots behind the rows that its `inexact` counts too."""
        ...


@dataclass(frozen=True)
class ScoreBins:
    """A histogram of scores, lowest first: counts, Σw and Σw² of negatives and positives.

    Attributes:
        count: Int64 of shape (…, rows, 2).
        weight: Float64 of the same shape.
        square: Float64 of the same shape.
        inexact: Σw of the scores that are not the value of their row, float64 of shape (…). Where it is 0,
            samples of one row are true ties.
    """

    count: Tensor
    weight: Tensor
    square: Tensor
    inexact: Tensor

    @classmethod
    def of(cls, state: State, histogram: Histogram) -> "ScoreBins":
        """Read a histogram of shape (…, 2 · rows + spare) in the order of its scores."""
        name, rows = histogram.name, histogram.keys.rows
        order = histogram.keys.order(state[name].device)

        def read(cell: Tensor) -> Tensor:
            return cell[..., : 2 * rows].reshape(*cell.shape[:-1], rows, 2)[..., order, :]

        count = read(state[name])
        if f"{name}_weight" in state:
            weight, square = read(state[f"{name}_weight"]), read(state[f"{name}_square"])
        else:
            weight = square = count.double()
        inexact = weight.sum((-1, -2))
        if histogram.keys.exact:
            inexact = (
                state.get(f"{name}_inexact_weight", state[f"{name}_inexact"]).squeeze(-1).double()
            )
            for slot in histogram.nan:  # a list of them as an index would be a copy from the host
                inexact = inexact - state[name][..., 2 * rows + slot]
        return cls(count, weight, square, inexact)

    @classmethod
    def of_stored(cls, stored: Tensor) -> tuple["ScoreBins", Tensor]:
        """One row for each value of the stored scores, so that nothing is inexact; and the values."""
        score, target, real = unpack(stored)
        first = torch.cat((real[:1], score[1:] != score[:-1]))
        row = first.cumsum(0) - first[:1].long()
        count = torch.zeros(2 * len(row), dtype=torch.int64, device=row.device)
        count = count.scatter_add_(0, 2 * row + target, real.long()).view(-1, 2)
        values = torch.full_like(score, torch.inf).scatter_(0, row, score)
        return cls(
            count, count.double(), count.double(), count.new_zeros((), dtype=torch.float64)
        ), values

    def without_gaps(self) -> "ScoreBins":
        """One histogram without its empty rows, which change no score; as it is where the host cannot look."""
        if self.count.ndim > 2 or not in_memory(self.count):
            return self
        taken = self.count.any(-1)
        taken[0] = True  # one row at least
        weight, square = self.weight[taken], self.square[taken]
        return ScoreBins(self.count[taken], weight, square, self.inexact)

    def effective(self) -> tuple[Tensor, Tensor]:
        """Kish's effective numbers of negatives and positives, shape (…)."""
        negatives, positives = (self.weight.sum(-2).square() / self.square.sum(-2)).unbind(-1)
        return negatives, positives


def auroc(bins: ScoreBins) -> Estimate:
    """Chance that a positive scores above a negative, ties half; rises, [0, 1], NaN for one class only.

    Error bound: a pair in one row counts ½ and may be worth 0 or 1; pairs of two exact scores are true ties.
    Interval: DeLong on the logit scale, joined with Newcombe's method 5 below 100 samples of a class.

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 1988; Newcombe, Statistics in Medicine 2006.
    """
    n, p = bins.weight.unbind(-1)
    n_square, p_square = bins.square.unbind(-1)
    negatives, positives = n.sum(-1), p.sum(-1)
    below = (n.cumsum(-1) - n / 2) / negatives.unsqueeze(
        -1
    )  # share of the negatives below a positive
    above = (positives.unsqueeze(-1) - p.cumsum(-1) + p / 2) / positives.unsqueeze(-1)
    area = (p * below).sum(-1) / positives
    spread = (p_square * (below - area.unsqueeze(-1)).square()).sum(-1) / _degrees(
        positives, p_square
    )
    spread = spread + (n_square * (above - area.unsqueeze(-1)).square()).sum(-1) / _degrees(
        negatives, n_square
    )
    many = bins.effective()
    few = torch.minimum(*many) < FEW
    low, high = union(area, logit_interval(area, spread), newcombe(area, many[1], many[0]), few)
    pairs = torch.minimum((p * n).sum(-1), bins.inexact * torch.maximum(p.amax(-1), n.amax(-1)))
    bound = pairs / (2 * positives * negatives)
    return Estimate(area, low, high, _n(bins), "delong-newcombe", ONE_SIDE, error_bound=bound)


@dataclass(frozen=True)
class Descent:
    """Rows from the highest score to the lowest, and what is predicted positive down to each; float64 (…, rows).

    Attributes:
        p: Σw of positives of the row.
        n: Σw of negatives of the row.
        tp: Σw of positives down to the end of the row.
        fp: Σw of negatives down to the end of the row.
    """

    p: Tensor
    n: Tensor
    tp: Tensor
    fp: Tensor

    @classmethod
    def of(cls, bins: ScoreBins) -> "Descent":
        """Turn the rows round."""
        n, p = (w.flip(-1) for w in bins.weight.unbind(-1))
        return cls(p, n, p.cumsum(-1), n.cumsum(-1))

    def sum(self, at_positives: Tensor) -> Tensor:
        """Sum over the rows that hold positives; elsewhere the terms may be NaN."""
        return torch.where(self.p > 0, at_positives, 0.0).sum(-1)


def average_precision(bins: ScoreBins) -> Estimate:
    """Mean precision at the positives, best scores first; rises, (0, 1], NaN for one class only.

    Error bound: in each row the positives may stand before, between or behind the negatives, tied or not; the
    value is the middle of the untied extremes. Where few scores are inexact, it is scikit-learn's value for
    the rows' values, and the bound is what those few could move.
    Interval: delta method on the logit scale, joined with Wilson's for the positives below 100 of them.

    Source: the extremes from the digamma function; Boyd, Eng and Page, ECML 2013, for the logit scale.
    """
    d = Descent.of(bins)
    positives, negatives = d.tp[..., -1], d.fp[..., -1]
    lowest, middle, highest = _certain(bins, d)
    half, few = torch.maximum(highest - middle, middle - lowest), _few_inexact(bins.inexact, d)
    tied = d.sum(d.p * d.tp / (d.tp + d.fp))
    value = torch.where(few <= half, tied, middle) / positives
    value = torch.where(negatives > 0, value, torch.nan)
    effective = bins.effective()[1]
    normal = logit_interval(value, _variance(bins, d, tied / positives))
    low, high = union(value, normal, wilson(value, effective), effective < FEW)
    bound = torch.minimum(half, few) / positives
    return Estimate(value, low, high, _n(bins), "delta-wilson", ONE_SIDE, error_bound=bound)


def _n(bins: ScoreBins) -> Tensor:
    return bins.count.sum((-1, -2))


def _degrees(total: Tensor, squares: Tensor) -> Tensor:
    return total.square() - squares.sum(-1)  # n · (n − 1) without weights


def _certain(bins: ScoreBins, d: Descent) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of the precision at each positive: the least that it can be, a likely value, and the most."""
    tp, fp = (d.tp - d.p).clamp(min=0), (d.fp - d.n).clamp(min=0)  # before the row
    count, square = bins.count[..., 1].flip(-1), bins.square[..., 1].flip(-1)
    unit = d.p / count
    last = d.p - d.fp * _digamma_step(
        (tp + d.fp) / unit + 1, d.p / unit
    )  # positives one by one, behind …
    first = d.p - fp * _digamma_step(
        (tp + fp) / unit + 1, d.p / unit
    )  # … or before the negatives of the row
    # Unequal weights in one row: the integral lies below every order that they can come in.
    smooth = torch.where(d.fp > 0, d.p - d.fp * torch.log1p(d.p / (tp + d.fp)), d.p)
    lowest = torch.where(count * square <= d.p.square(), last, smooth)
    return d.sum(lowest), d.sum((last + first) / 2), d.sum(d.p * d.tp / (d.tp + fp))


def _digamma_step(x: Tensor, step: Tensor) -> Tensor:
    """ψ(x + step) − ψ(x) for x ≥ 1: by its series where x is large, for a difference would lose all digits."""
    y = x + step
    a, b = 1 / x, 1 / y
    squares = (a + b) * (a - b)
    series = torch.log1p(step * a) + (a - b) / 2 + squares * (1 / 12 - (a * a + b * b) / 120)
    return torch.where(x > 100, series, torch.digamma(y) - torch.digamma(x))


def _few_inexact(inexact: Tensor, d: Descent) -> Tensor:
    """What the inexact scores could change at most, wherever in their rows they are."""
    moved = inexact.unsqueeze(-1)
    most = d.tp / (d.tp + d.fp - torch.minimum(d.n, moved))
    rest = d.tp - torch.minimum(d.p, moved)
    least = torch.where(rest > 0, rest / (rest + d.fp), 0.0)
    return inexact + d.sum(d.p * (most - least))


def _variance(bins: ScoreBins, d: Descent, mean: Tensor) -> Tensor:
    """Variance by the gradient in the counts: one more sample moves the precision of all rows below it."""
    positives = d.tp[..., -1:]
    total = d.tp + d.fp
    share = torch.where(d.p > 0, d.p / total.square(), 0.0)
    precision = torch.where(d.p > 0, d.tp / total, 0.0)
    of_p = precision - mean.unsqueeze(-1) + _from_here(share * d.fp)
    of_n = _from_here(share * d.tp)
    n_square, p_square = (s.flip(-1) for s in bins.square.unbind(-1))
    spread = p_square * of_p.square() + n_square * of_n.square()
    return (spread / positives.square()).sum(-1)


def _from_here(x: Tensor) -> Tensor:
    return x.flip(-1).cumsum(-1).flip(-1)
