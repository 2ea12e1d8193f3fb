"""Scores at a point of a curve that is asked for by name: "recall@precision>=0.9", "auroc@fpr<=0.1", "eer".

`FixedPoint` is such a name, read; `numbers_at` finds what its estimate needs, on the device of the
bins; `estimate_at` makes value, interval and bound of it on the host.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ptmetrics.errors import ConfigError
from ptmetrics.metrics.estimate import Array
from ptmetrics.metrics.intervals import FEW, Z, logit_interval, newcombe, widened, wilson

NUMBERS = 5  # that an estimate needs
EER = "eer"
FORM = re.compile(r"([a-z]+)@([a-z]+)(>=|<=)([0-9.]+)")
RULE = (
    '"X@Y>=share" of recall, precision and specificity, "X@fpr<=share", "auroc@fpr<=share", or '
    '"eer"'
)
CURE = 'Pass at=["recall@precision>=0.9", "tpr@fpr<=0.01", "eer"].'


@dataclass(frozen=True)
class Point:
    """Thresholds of a curve: weights of what is called positive, and of all; float64 (…, thresholds)."""

    tp: Tensor
    fp: Tensor
    positives: Tensor  # (…, 1)
    negatives: Tensor


def _recall(at: Point) -> Tensor:
    return at.tp / at.positives


def _specificity(at: Point) -> Tensor:
    return (at.negatives - at.fp) / at.negatives


def _precision(at: Point) -> Tensor:
    called = at.tp + at.fp
    return torch.where(called > 0, at.tp / called, 1.0)  # nobody was called wrongly


def _minus_fpr(at: Point) -> Tensor:
    return -at.fp / at.negatives


RATES: Mapping[str, Callable[[Point], Tensor]] = {
    "recall": _recall,
    "sensitivity": _recall,
    "tpr": _recall,
    "specificity": _specificity,
    "tnr": _specificity,
    "precision": _precision,
}


@dataclass(frozen=True)
class FixedPoint:
    """What a name asks for.

    Attributes:
        name: As it was given; scores have it.
        score: The score that is wanted.
        limit: The rate that is held.
        share: What it is held to.
    """

    name: str
    score: str
    limit: str = ""
    share: float = 0.0

    @classmethod
    def read(cls, name: object) -> FixedPoint:
        """The point of a name.

        Raises:
            ConfigError: If it is none.

        Example:
            >>> FixedPoint.read("recall@precision>=0.9").share
            0.9
        """
        if name == EER:
            return cls(EER, EER)
        found = FORM.fullmatch(name) if isinstance(name, str) else None
        if found is None:
            raise ConfigError("at", RULE, repr(name), CURE)
        score, limit, sign, number = found.groups()
        upper = limit == "fpr"
        known = limit in RATES or upper
        known &= score in RATES or (score == "auroc" and upper)
        if not known or (sign == "<=") != upper or not _is_share(number):
            raise ConfigError("at", RULE, repr(name), CURE)
        return cls(found.string, score, limit, float(number))

    @property
    def doc(self) -> str:
        """What the score is, in a sentence."""
        if self.score == EER:
            return "Equal error rate: where the false positive and the false negative rate meet."
        if self.score == "auroc":
            held = f"{self.share:g}"
            return f"Area under the ROC curve up to a false positive rate of {held}, standardised."
        return f"Highest {self.score} of all thresholds whose {self.name.partition('@')[2]}."


def _is_share(number: str) -> bool:
    try:
        return 0 < float(number) <= 1
    except ValueError:
        return False


def read_points(at: Sequence[str]) -> tuple[FixedPoint, ...]:
    """The points that the argument `at` names.

    Raises:
        ConfigError: If one is none, or given twice.
    """
    if isinstance(at, str) or not isinstance(at, Sequence) or len(set(at)) < len(at):
        raise ConfigError("at", f"different names: {RULE}", repr(at), CURE)
    return tuple(map(FixedPoint.read, at))


def numbers_at(
    point: FixedPoint, weight: Tensor, square: Tensor, tied: Tensor
) -> tuple[Tensor, ...]:
    """What the estimate of a point needs, each of shape (…).

    Args:
        point: What is wanted.
        weight: Σw of negatives and positives of each row, lowest score first, of shape (…, rows, 2).
        square: Σw², same shape.
        tied: Bool of shape (…, rows): rows whose scores are equal.
    """
    n, p = weight.flip(-2).unbind(-1)
    n_square, p_square = square.flip(-2).unbind(-1)
    loose = tied.flip(-1).logical_not() & (n > 0) & (p > 0)
    tp, fp = p.cumsum(-1), n.cumsum(-1)
    total = Point(tp[..., -1:], fp[..., -1:], tp[..., -1:], fp[..., -1:])
    if point.score == "auroc":
        squares = (n_square, p_square)
        return _partial_area(point.share, n, p, squares, loose, total)
    start = torch.zeros_like(tp[..., :1])
    ends = Point(torch.cat((start, tp), -1), torch.cat((start, fp), -1), *_all(total))
    before = torch.cat((start, torch.where(loose, (fp - n).clamp(min=0), fp)), -1)
    best = Point(ends.tp, before, *_all(total))
    sizes = (total.positives.square() / p_square.sum(-1, keepdim=True), total.negatives.square())
    sizes = (sizes[0], sizes[1] / n_square.sum(-1, keepdim=True))
    if point.score == EER:
        return _equal_error(ends, loose, sizes)
    return _best_at(point, ends, best, sizes)


def _all(total: Point) -> tuple[Tensor, Tensor]:
    return total.positives, total.negatives


def _best_at(
    point: FixedPoint, ends: Point, best: Point, sizes: tuple[Tensor, Tensor]
) -> tuple[Tensor, ...]:
    """Value, the most it can be, its size, and the values where the held rate errs to either side.

    At the true threshold the held rate is the share, and what is seen of it has the variance of
    that share: so the value may belong to any limit that is as far away as that.
    """
    score = RATES[point.score]
    share = point.share
    held = RATES.get(point.limit, _minus_fpr)
    if held is _minus_fpr:
        share = -share
    values, limits = score(ends), held(ends)

    def highest(some: Tensor, holds: Tensor) -> Tensor:
        return torch.where(holds, some, 0.0).amax(-1, keepdim=True)

    value = highest(values, limits >= share)
    place = ((limits >= share) & (values == value)).long().argmax(-1, keepdim=True)
    called = (ends.tp + ends.fp).gather(-1, place)
    scale = (sizes[0] + sizes[1]) / (ends.positives + ends.negatives)
    of_rate = {_recall: sizes[0], _precision: (called * scale).clamp(min=1.0)}
    spread = abs(point.share) * (1 - abs(point.share)) / of_rate.get(held, sizes[1])
    error = Z * spread.sqrt()
    tight, loose = (
        highest(values, limits >= share + error),
        highest(values, limits >= share - error),
    )
    most = highest(score(best), held(best) >= share)
    undefined = value.isnan() | (limits != limits)[..., -1:]  # a kind of targets is missing
    value = value.masked_fill(undefined, torch.nan)
    found = (value, most, of_rate.get(score, sizes[1]), tight, loose)
    return tuple(x.squeeze(-1) for x in found)


def _equal_error(ends: Point, loose: Tensor, sizes: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Mean of both rates where they are closest; the farthest of it in the row where they meet."""
    miss, alarm = 1 - _recall(ends), ends.fp / ends.negatives
    gap, mean = miss - alarm, (miss + alarm) / 2

    def closest(to: Tensor | float) -> Tensor:
        return mean.gather(-1, (gap - to).abs().argmin(-1, keepdim=True))

    value = closest(0.0)
    below, above = gap[..., 1:] <= 0, gap[..., :-1] >= 0
    low = (alarm[..., :-1] + miss[..., 1:]) / 2
    high = (alarm[..., 1:] + miss[..., :-1]) / 2
    off = torch.maximum((high - value).abs(), (value - low).abs())
    most = value + torch.where(below & above & loose, off, 0.0).amax(-1, keepdim=True)
    error = Z * (value * (1 - value) * (1 / sizes[0] + 1 / sizes[1])).sqrt()
    some, other = closest(error), closest(-error)
    size = 4 / (1 / sizes[0] + 1 / sizes[1])
    found = (value, most, size, torch.minimum(some, other), torch.maximum(some, other))
    return tuple(x.squeeze(-1) for x in found)


def _partial_area(
    share: float,
    n: Tensor,
    p: Tensor,
    squares: tuple[Tensor, Tensor],
    loose: Tensor,
    total: Point,
) -> tuple[Tensor, ...]:
    """The standardised area, its bound and variance, and both numbers of samples.

    Source: McClish, Medical Decision Making 1989; Dodd and Pepe, Biometrics 2003, for the variance.
    """
    positives, negatives = _all(total)
    last, first = n.cumsum(-1) / negatives, (n.cumsum(-1) - n) / negatives
    inside = ((share - first) / (last - first)).clamp(0, 1)
    inside = torch.where(n > 0, inside, (first < share).double())
    # The mean of what is left of the share, over the positives of a row.
    left = inside * (share - first - inside * (last - first) / 2)
    left = torch.where(inside > 0, left, 0.0)
    area = (p * left).sum(-1, keepdim=True) / positives
    reached = (p * inside).sum(-1, keepdim=True)
    behind = ((reached - p.cumsum(-1) + p / 2) / positives).clamp(min=0) * inside
    n_square, p_square = squares
    of_p = (p_square * (left - area).square()).sum(-1, keepdim=True) / positives.square()
    mean = (n * behind).sum(-1, keepdim=True) / negatives
    of_n = (n_square * (behind - mean).square()).sum(-1, keepdim=True) / negatives.square()
    pairs = torch.where(loose & (inside > 0), p * n, 0.0).sum(-1, keepdim=True)
    scale = 0.5 / (share - share * share / 2)
    value = 0.5 + scale * (area - share * share / 2)
    sizes = [
        total.positives.square() / p_square.sum(-1, keepdim=True),
        share * total.negatives.square() / n_square.sum(-1, keepdim=True),
    ]
    off = scale * pairs / (positives * negatives)
    found = (value, value + off, scale**2 * (of_p + of_n), *sizes)
    return tuple(x.squeeze(-1) for x in found)


def estimate_at(point: FixedPoint, numbers: Array) -> tuple[Array, Array, Array, Array]:
    """Value, low, high and error bound.

    The doubt of the score at a threshold, Wilson's, and that of the threshold are added up as
    squares; a partial area has the intervals of a whole one.

    Args:
        point: What is wanted.
        numbers: Of shape (5, …), as `numbers_at` gives them.
    """
    value, most = numbers[:2]
    bound = np.abs(most - value)
    if point.score == "auroc":
        variance, positives, negatives = numbers[2:]
        safe = newcombe(value, positives, negatives)
        few = np.minimum(positives, negatives) < FEW
        low, high = widened(value, logit_interval(value, variance), safe, few)
    else:
        size, tight, loose = numbers[2:]
        least, top = wilson(value, size)
        low = value - np.hypot(value - least, value - np.minimum(tight, value))
        high = value + np.hypot(top - value, np.maximum(loose, value) - value)
    return value, np.clip(low - bound, 0, 1), np.clip(high + bound, 0, 1), bound
