"""Intervals of smooth functions of a confusion matrix by the delta method, for all scores at once.

Every such score depends on the matrix through hits, row sums and column sums alone. With A, P and H
its gradient by actual, predicted and hits, that of a cell is A_i + P_j, and H_i more on the
diagonal: all of Σ s (A_i + P_j)² but the cross term is in the margins, and the cross terms of all
scores are one product with the matrix.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptmetrics.class_formulas import MeanRatio
from ptmetrics.metrics.estimate import Array
from ptmetrics.metrics.intervals import Z, wilson

Gradient = Callable[[Any], tuple[Array, Array, Array, Array]]
ADDED = Z * Z / 2  # samples
MATRIX_ROWS_AT_ONCE = 64
ROUNDING_ERROR = 1e-14  # a standard error that rounding alone makes


def delta_intervals(
    formulas: Sequence[Callable[[Any], Array]],
    gradients: Sequence[Gradient | None],
    bounds: Sequence[tuple[float, float]],
    view: Any,
) -> tuple[Array, Array, Array]:
    """Smooth functions of a confusion matrix, with Wilson's interval at the n that their variance is worth.

    The variance is Σ w² g² with g the gradient in the cells, for scores that do not change when all
    counts are scaled. It is taken a little away from the data, towards independence of rows and
    columns by z²/2 samples: at a perfect matrix the plain gradient is zero and would claim
    certainty. For the accuracy n is exactly its own. Where only margins are kept, the cross term is
    bounded by Cauchy and Schwarz: the interval contains the other.

    Args:
        formulas: From sums of classes, arrays of shape (…, C), to values of shape (…).
        gradients: From the same to the value and its derivatives by hits, actual and predicted;
            None to find them.
        bounds: Range of each.
        view: Counts of classes, with `sums`, `squares_matrix` where the matrix is kept, and
            `filled` where few of its cells hold something.

    Returns:
        Value, low, high, each of shape (scores, …); NaN where a score is undefined.

    Source: the delta method; Korn and Graubard 1998 for the n that a variance is worth.
    """
    place = _Nearby.of(view)
    both = np.empty((len(formulas), 2, *place.real.shape))  # each score at the data, and nearby
    slopes = np.empty((3, len(formulas), *place.actual.shape))  # its gradient nearby
    means: list[MeanRatio] = []
    places = []
    for at, (formula, gradient) in enumerate(zip(formulas, gradients, strict=True)):
        if isinstance(formula, MeanRatio):
            means.append(formula)
            places.append(at)
        elif gradient is None:
            both[at] = formula(place.both)
            slopes[:, at] = differences(formula, place.at)
        else:
            both[at], hits, actual, predicted = gradient(place.both)
            slopes[:, at] = hits[1], actual[1], predicted[1]
    if means:
        both[places], hits, actual, predicted = MeanRatio.gradients(means, place.both)
        slopes[:, places] = hits[:, 1], actual[:, 1], predicted[:, 1]
    values, near = both[:, 0], both[:, 1]
    # Undefined directions (a class that never occurs) carry no count and no variance.
    by_hits, by_actual, by_predicted = np.nan_to_num(slopes, copy=False, posinf=0.0, neginf=0.0)
    on_diagonal = (place.right * (by_hits + by_actual + by_predicted) ** 2).sum(-1)
    rows = _Centred.of(place.rows - place.right, by_actual)
    columns = _Centred.of(place.columns - place.right, by_predicted)
    if view.squares_matrix is None:
        spread = (np.sqrt(rows.spread) + np.sqrt(columns.spread)) ** 2
    else:
        added = (
            place.added_square * place.actual * (place.predicted * columns.apart).sum(-1)[..., None]
        )
        cross = (rows.apart * added - place.right * rows.apart * columns.apart).sum(-1)
        if view.filled is None:
            cross += (rows.apart * _product(view.squares_matrix, columns.apart)).sum(-1)
        else:
            cross += view.filled.product(rows.apart, columns.apart)
        spread = np.clip(rows.spread + columns.spread + 2 * cross, 0, None)
    shift = (rows.mean + columns.mean) ** 2 * rows.weight
    variance = on_diagonal + spread + shift
    least, most = np.reshape(np.transpose(bounds), (2, -1, *[1] * (values.ndim - 1)))
    values = np.clip(values, least, most)
    low, high = worth_ends(values, near, variance, least, most, place.real)
    return values, low, high


def _product(matrix: Array, vectors: Array) -> Array:
    """A matrix of counts times vectors of shape (K, …, C).

    Some rows at a time become float64: a copy of a large matrix would take longer than the product.
    """
    columns = np.moveaxis(vectors, 0, -1)
    found = np.empty(columns.shape)
    for start in range(0, matrix.shape[-1], MATRIX_ROWS_AT_ONCE):
        rows = slice(start, start + MATRIX_ROWS_AT_ONCE)
        found[..., rows, :] = matrix[..., rows, :].astype(np.float64) @ columns
    return np.moveaxis(found, -1, 0)


def worth_ends(
    values: Array, near: Array, variance: Array, least: Array, most: Array, real: Array
) -> tuple[Array, Array]:
    """Wilson's interval on a range, at the n that a variance is worth.

    Args:
        values: Scores within the range.
        near: The same nearby, where the variance was found.
        variance: Its variance there.
        least: Lower end of the range.
        most: Upper end.
        real: Number of rows, in units of their mean weight.
    """
    span = np.subtract(most, least)
    share = (near - least) / span
    n = share * (1 - share) * span * span / variance / (1 + ADDED / real)
    # No variance but that of rounding: one class on both sides.
    n = np.where((n > 0) & (variance > (ROUNDING_ERROR * span) ** 2), n, real)
    low, high = wilson((values - least) / span, n)
    return np.minimum(values, least + span * low), np.maximum(values, least + span * high)


def differences(formula: Callable[[Any], Array], at: Any) -> tuple[Array, Array, Array]:
    """The gradient of a formula by central differences in each number, all at once.

    Args:
        formula: From sums of classes to values of shape (…).
        at: Sums of classes, arrays of shape (…, C).
    """
    found = []
    for name in ("hits", "actual", "predicted"):
        x = getattr(at, name)
        step = np.cbrt(np.finfo(np.float64).eps) * np.maximum(x, 1.0)
        each = np.eye(x.shape[-1]).reshape(-1, *[1] * (x.ndim - 1), x.shape[-1])
        up = formula(at.changed(name, x + step * each))
        down = formula(at.changed(name, x - step * each))
        found.append(np.moveaxis(up - down, 0, -1) / (2 * step))
    hits, actual, predicted = found
    return hits, actual, predicted


@dataclass(frozen=True)
class _Centred:
    """A gradient beside the diagonal: its mean there, what it is apart from that, and Σ weight · apart²."""

    mean: Array
    apart: Array
    spread: Array
    weight: Array

    @classmethod
    def of(cls, weight: Array, values: Array) -> "_Centred":
        weight = np.clip(weight, 0, None)
        total = weight.sum(-1)
        mean = np.nan_to_num((weight * values).sum(-1) / total)
        apart = values - mean[..., None]
        return cls(mean, apart, (weight * apart**2).sum(-1), total)


@dataclass(frozen=True)
class _Nearby:
    """Where the gradients are taken, and the margins of the squared weights there."""

    at: Any
    both: Any  # the data and this place, in a leading dimension of 2
    real: Array  # rows in units of their mean weight
    actual: Array
    predicted: Array
    added_square: Array  # times actual and predicted: the squared weights that were added to a cell
    right: Array  # squared weights of the diagonal
    rows: Array
    columns: Array

    @classmethod
    def of(cls, view: Any) -> "_Nearby":
        sums = view.weights
        squares = view.squares
        total = sums.actual.sum(-1, keepdims=True)
        scale = (
            squares.actual.sum(-1, keepdims=True) / total
        )  # mean weight: added samples weigh as much
        by_hits = ADDED * scale * sums.actual * sums.predicted / total / total
        by_actual = ADDED * scale * sums.actual / total
        by_predicted = ADDED * scale * sums.predicted / total
        at = sums.moved(by_hits, by_actual, by_predicted)
        return cls(
            at=at,
            both=sums.stacked(at),
            real=(total / scale)[..., 0],
            actual=sums.actual,
            predicted=sums.predicted,
            added_square=ADDED * (scale / total) ** 2,
            right=squares.hits + scale * by_hits,
            rows=squares.actual + scale * by_actual,
            columns=squares.predicted + scale * by_predicted,
        )
