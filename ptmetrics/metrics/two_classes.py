"""Scores of one class against the rest, or of two classes: how MCC and kappa get an interval where one is rare."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ptmetrics.class_formulas import ClassSums, mcc, mcc_and_slopes
from ptmetrics.metrics.class_scores import ClassCounts
from ptmetrics.metrics.delta import delta_intervals
from ptmetrics.metrics.estimate import Array, Estimate
from ptmetrics.metrics.intervals import FEW, widened, wilson
from ptmetrics.metrics.score_spec import ScoreSpec

ALIKE = "targets or predictions of the class are all alike"


def delta_estimate(spec: ScoreSpec, view: ClassCounts, intervals: bool) -> Estimate:
    """A smooth function of the matrix by the delta method; not filled where it is undefined."""
    view = view.in_mean_weights
    if not intervals:
        value = np.clip(spec.formula(view.weights), *spec.range)
        return spec.estimate(value, value, value, view.n)
    found = delta_intervals([spec.formula], [spec.gradient], [spec.range], view)
    value, low, high = (x[0] for x in found)
    return spec.estimate(value, low, high, view.n)


def rare_class_interval(spec: ScoreSpec, view: ClassCounts, intervals: bool) -> Estimate:
    """Delta interval, joined below 100 samples of a class with that of its Jaccard index, mapped.

    MCC and kappa hang on the rarer class then, and the delta method takes it for less uncertain
    than it is.
    """
    estimate = delta_estimate(spec, view, intervals)
    view = view.in_mean_weights
    matrix = view.matrix
    squares = view.squares_matrix
    if not intervals or matrix is None or squares is None:
        return estimate.filled(view.absent)
    matrix = np.asarray(matrix, np.float64)
    squares = np.asarray(squares, np.float64)
    positives_rule = (matrix[..., 1, :].sum(-1) > matrix[..., 0, :].sum(-1))[..., None, None]
    matrix = np.where(positives_rule, matrix[..., ::-1, ::-1], matrix)
    squares = np.where(positives_rule, squares[..., ::-1, ::-1], squares)
    rare = matrix[..., 1, :].sum(-1) ** 2 / squares[..., 1, :].sum(-1)
    union = matrix.sum((-1, -2)) - matrix[..., 0, 0]
    union_square = squares.sum((-1, -2)) - squares[..., 0, 0]
    safe = []
    for jaccard in wilson(matrix[..., 1, 1] / union, union**2 / union_square):
        score = spec.formula(ClassSums.of_matrix(_with_jaccard(matrix, union, jaccard)))
        safe.append(np.clip(score, *spec.range))
    ends = (estimate.low, estimate.high)
    low, high = widened(estimate.value, ends, (safe[0], safe[1]), rare < FEW)
    return replace(estimate, low=low, high=high).filled(view.absent)


def _with_jaccard(matrix: Array, union: Array, jaccard: Array) -> Array:
    """The matrix with another Jaccard index of class 1, its errors split as they are."""
    errors = union - matrix[..., 1, 1]
    share = np.where(errors > 0, matrix[..., 0, 1] / errors, 0.5)
    wrong = (1 - jaccard) * union
    cells = (matrix[..., 0, 0], share * wrong, (1 - share) * wrong, jaccard * union)
    found: Array = np.stack(cells, -1).reshape(matrix.shape)
    return found


def mcc_each_interval(spec: ScoreSpec, view: Any, intervals: bool) -> Estimate:
    """MCC of each class against the rest."""
    parts = [sums.matrices for sums in (view.counts, view.weights, view.squares)]
    two = ClassCounts.of_matrices(parts[0], parts[1], parts[2], view.absent)
    return rare_class_interval(spec, two, intervals)


MCC_EACH = ScoreSpec(
    "mcc",
    mcc,
    mcc_each_interval,
    range=(-1.0, 1.0),
    doc="Matthews correlation, that of predictions and targets of a class against the rest.",
    undefined=ALIKE,
    each=True,
    gradient=mcc_and_slopes,
    absent=True,
    method="delta-jaccard",
)
