"""Formulas of classes over hits, targets and predictions of each, with their gradients; NumPy alone.

Scores and their intervals are made of them where batches are counted, and so are paired tests where a
record is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any
"""A NumPy array of float64 or int64: NumPy's own types call most results of it Any."""


@dataclass(frozen=True)
class ClassSums:
    """Sums over the rows of each class, arrays of shape (…, C).

    Attributes:
        hits: Rows of the class that were predicted so.
        actual: Rows of the class.
        predicted: Rows predicted so.
        others: Rows of other classes.
        absent: Value of an undefined ratio in a mean over classes; NaN leaves the class out.
    """

    hits: Array
    actual: Array
    predicted: Array
    others: Array
    absent: float = math.nan

    @classmethod
    def of_margins(
        cls, hits: Array, actual: Array, predicted: Array, absent: float = math.nan
    ) -> ClassSums:
        """Each row has one class."""
        # For the largest class the others are added up and not subtracted from the whole, so that
        # none is 0 exactly;
        # of any other class, at least half of the rows are others, and no digits cancel.
        largest = np.arange(actual.shape[-1]) == actual.argmax(-1)[..., None]
        rest = np.where(largest, 0, actual).sum(-1, keepdims=True)
        others = np.where(largest, rest, actual.sum(-1, keepdims=True) - actual)
        return cls(hits, actual, predicted, others, absent)

    @classmethod
    def of_matrix(cls, matrix: Array, absent: float = math.nan) -> ClassSums:
        """From matrices of shape (…, C, C), rows actual."""
        hits = np.diagonal(matrix, axis1=-2, axis2=-1).copy()
        return cls.of_margins(hits, matrix.sum(-1), matrix.sum(-2), absent)

    @property
    def either(self) -> Array:
        """Rows that are of the class or predicted so."""
        return self.actual + self.predicted - self.hits

    @property
    def true_negatives(self) -> Array:
        """Rows of other classes that were not predicted as the class."""
        return self.others - self.predicted + self.hits

    @property
    def matrices(self) -> Array:
        """Of each class against the rest, rows actual, of shape (…, C, 2, 2)."""
        false = self.predicted - self.hits
        cells = (self.true_negatives, false, self.actual - self.hits, self.hits)
        return np.stack(cells, -1).reshape(*self.hits.shape, 2, 2)

    def changed(self, name: str, value: Array) -> ClassSums:
        """With other numbers in the place of `name`."""
        sums = {"hits": self.hits, "actual": self.actual, "predicted": self.predicted, name: value}
        hits, actual, predicted = np.broadcast_arrays(*sums.values())
        return ClassSums.of_margins(hits, actual, predicted, self.absent)

    def moved(self, hits: Array, actual: Array, predicted: Array) -> ClassSums:
        """With something added to each."""
        return ClassSums.of_margins(
            self.hits + hits, self.actual + actual, self.predicted + predicted, self.absent
        )

    def over(self, unit: Array) -> ClassSums:
        """In another unit of weights."""
        return ClassSums(
            self.hits / unit,
            self.actual / unit,
            self.predicted / unit,
            self.others / unit,
            self.absent,
        )

    def stacked(self, *others: ClassSums) -> ClassSums:
        """This and others in a leading dimension."""
        names = ("hits", "actual", "predicted", "others")
        columns = map(attrgetter(*names), (self, *others))
        hits, actual, predicted, rest = map(np.stack, zip(*columns, strict=True))
        return ClassSums(hits, actual, predicted, rest, self.absent)


@dataclass(frozen=True)
class Ratio:
    """A score of each class that is one sum over another: a formula that knows its gradient.

    A class that is neither in the targets nor in the predictions has none. Of another one, such as
    the precision of a class that was never predicted, nothing over nothing is 0: nothing was found.

    Attributes:
        part: Weights of (hits, actual, predicted, others) in the numerator.
        whole: Weights in the denominator.
        zero_division: Whether nothing over nothing is 0 for a class that is there; else NaN.
    """

    part: tuple[float, float, float, float]
    whole: tuple[float, float, float, float]
    zero_division: bool = True

    def __call__(self, sums: ClassSums) -> tuple[Array, Array]:
        """Numerator, which is NaN for a class that is not there, and denominator; exact for counts."""
        numbers = (sums.hits, sums.actual, sums.predicted, sums.others)
        found = []
        for weights in (self.part, self.whole):
            total: Array = 0
            for weight, number in zip(weights, numbers, strict=True):
                if weight:
                    total = total + weight * number
            found.append(total)
        part, whole = found
        if self.zero_division:
            part = np.where(sums.actual + sums.predicted > 0, part, np.nan)
        return part, whole

    def gradient(self, ratio: Array, scale: Array) -> tuple[Array, Array, Array]:
        """Derivatives of Σ scale · whole · ratio by hits, actual and predicted.

        Args:
            ratio: The ratio, shape (…, C).
            scale: Factors, each through the denominator, shape (…, C).
        """
        slopes = []
        for part, whole in zip(self.part, self.whole, strict=True):
            slopes.append(scale * (part - ratio * whole))
        hits, actual, predicted, others = slopes
        if self.part[3] or self.whole[3]:
            actual = actual + others.sum(-1, keepdims=True) - others
        return hits, actual, predicted


def mask_of(among: tuple[int, ...] | None, sums: ClassSums) -> Array:
    """1 for the classes that count in an average, shape (C,)."""
    classes = sums.actual.shape[-1]
    if among is None:
        return np.ones(classes)
    return np.isin(np.arange(classes), among) * 1.0


def _by_targets(counted: Array, sums: ClassSums) -> Array:
    """What each class weighs by its targets; all that count alike where none has any."""
    weight = sums.actual * counted
    return np.where(weight.sum(-1, keepdims=True) > 0, weight, counted)


@dataclass(frozen=True)
class MeanRatio:
    """Mean over the classes of a ratio: a formula that knows its gradient.

    Classes that are not there are left out, or count as `absent`.

    Attributes:
        ratio: The ratio.
        by_targets: Whether classes weigh as their share of the targets; else all weigh the same.
        among: Which classes are averaged over; None for all.
    """

    ratio: Ratio
    by_targets: bool = False
    among: tuple[int, ...] | None = None
    doubtful: bool = field(init=False)

    def __post_init__(self) -> None:
        # Where targets and predictions both stand in the denominator, it is never empty.
        both = self.ratio.whole[1] and self.ratio.whole[2]
        object.__setattr__(self, "doubtful", not both)

    def __call__(self, sums: ClassSums) -> Array:
        """The mean, shape (…)."""
        return self.gradient(sums)[0]

    def gradient(self, sums: ClassSums) -> tuple[Array, Array, Array, Array]:
        """The mean, and its derivatives by hits, actual and predicted, each of shape (…, C)."""
        value, hits, actual, predicted = MeanRatio.gradients([self], sums)
        return value[0], hits[0], actual[0], predicted[0]

    @staticmethod
    def gradients(means: Sequence[MeanRatio], sums: ClassSums) -> tuple[Array, Array, Array, Array]:
        """Several means and their derivatives at once, each with a leading dimension of the means."""
        column = (len(means), *[1] * sums.hits.ndim)
        factors = np.array([(mean.ratio.part, mean.ratio.whole) for mean in means])
        parts, wholes = factors[:, 0], factors[:, 1]
        chosen = np.ones((len(means), sums.hits.shape[-1]))
        by_targets = np.zeros(column, bool)
        strict = np.zeros(column, bool)
        for place, mean in enumerate(means):
            if mean.among is not None:
                chosen[place] = mask_of(mean.among, sums)
            by_targets[place] = mean.by_targets
            strict[place] = mean.ratio.zero_division
        numbers = np.stack((sums.hits, sums.actual, sums.predicted, sums.others))
        part = np.tensordot(parts, numbers, 1)
        whole = np.tensordot(wholes, numbers, 1)
        there = (sums.actual + sums.predicted > 0) | ~strict
        defined = there & (whole > 0)
        counted = chosen.reshape(*column[:-1], -1) * (there | (not math.isnan(sums.absent)))
        weight = np.where(by_targets, _by_targets(counted, sums), counted)
        share = np.where(there, 0.0, np.nan_to_num(sums.absent))
        share = np.where(defined, part / whole, share)
        total = weight.sum(-1, keepdims=True)
        value = (share * weight).sum(-1, keepdims=True) / total
        scale = np.where(defined, weight / total / whole, 0.0)
        slopes = parts.T.reshape(4, *column) - share * wholes.T.reshape(4, *column)
        hits, actual, predicted, others = scale * slopes
        actual = actual + others.sum(-1, keepdims=True) - others
        by_weight = np.where(by_targets, counted * (share - value) / total, 0.0)
        return value[..., 0], hits, actual + by_weight, predicted

    def doubt(self, sums: ClassSums) -> Array:
        """What the mean would gain if classes whose denominator is empty were at 1: nothing is known of them."""
        part, whole = self.ratio(sums)
        counted = ~np.isnan(part) * 1.0
        if self.among is not None:
            counted = counted * mask_of(self.among, sums)
        weight = counted
        if self.by_targets:
            weight = _by_targets(counted, sums)
        return np.nan_to_num(np.where(whole == 0, weight, 0.0).sum(-1) / weight.sum(-1))


PRECISION = Ratio((1, 0, 0, 0), (0, 0, 1, 0))
RECALL = Ratio((1, 0, 0, 0), (0, 1, 0, 0))
RECALL_OF_TARGETS = Ratio((1, 0, 0, 0), (0, 1, 0, 0), zero_division=False)
JACCARD = Ratio((1, 0, 0, 0), (-1, 1, 1, 0))
SPECIFICITY = Ratio((1, 0, -1, 1), (0, 0, 0, 1))


def fbeta_ratio(beta: float) -> Ratio:
    """F-beta: recall `beta` times as important as precision."""
    square = beta * beta
    return Ratio((1 + square, 0, 0, 0), (0, square, 1, 0))


def mcc(sums: ClassSums) -> Array:
    """Matthews correlation coefficient; NaN where a side holds one class."""
    return mcc_and_slopes(sums)[0]


def mcc_and_slopes(sums: ClassSums) -> tuple[Array, Array, Array, Array]:
    """It and its derivatives by hits, actual and predicted."""
    # In counts and not in shares, which would round the digits of a rare class away.
    actual, predicted = sums.actual, sums.predicted
    total = actual.sum(-1, keepdims=True)
    guessed = predicted.sum(-1, keepdims=True)
    right = sums.hits.sum(-1, keepdims=True)
    covariance = total * right - (actual * predicted).sum(-1, keepdims=True)
    spread_actual = total**2 - (actual**2).sum(-1, keepdims=True)
    spread_predicted = guessed**2 - (predicted**2).sum(-1, keepdims=True)
    spread = spread_actual * spread_predicted
    root = np.sqrt(spread)
    value = np.where(spread > 0, covariance, np.nan) / root
    by_actual = (right - predicted) / root - value * (total - actual) / spread_actual
    by_predicted = -actual / root - value * (guessed - predicted) / spread_predicted
    by_hits = np.broadcast_to(total / root, by_actual.shape)
    return value[..., 0], by_hits, by_actual, by_predicted


def kappa(sums: ClassSums) -> Array:
    """Cohen's kappa."""
    return kappa_and_slopes(sums)[0]


def kappa_and_slopes(sums: ClassSums) -> tuple[Array, Array, Array, Array]:
    """It and its derivatives by hits, actual and predicted."""
    total = sums.actual.sum(-1, keepdims=True)
    right = sums.hits.sum(-1, keepdims=True) / total
    actual = sums.actual / total
    predicted = sums.predicted / total
    chance = (actual * predicted).sum(-1, keepdims=True)
    by_right = 1 / (1 - chance)
    by_chance = (right - 1) / (1 - chance) ** 2
    by_total = -by_right * right / total - 2 * by_chance * chance / total
    by_actual = by_chance * predicted / total + by_total
    by_predicted = by_chance * actual / total
    by_hits = np.broadcast_to(by_right / total, by_actual.shape)
    value = (right - chance) / (1 - chance)
    return value[..., 0], by_hits, by_actual, by_predicted
