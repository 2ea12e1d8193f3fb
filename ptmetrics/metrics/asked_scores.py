"""Scores of classes that are computed where `scores=` asks for them by name: they need no further counts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ptmetrics.class_formulas import SPECIFICITY, ClassSums, Ratio
from ptmetrics.metrics.class_scores import (
    CONFUSION_SPECS,
    NEITHER,
    NO_CLASS,
    NO_SAMPLES,
    ONE_CLASS,
    ClassCounts,
    MicroRatio,
    class_spec,
    mean_spec,
)
from ptmetrics.metrics.delta import ADDED, worth_ends
from ptmetrics.metrics.estimate import Array, Estimate
from ptmetrics.metrics.score_spec import ScoreSpec, evaluate
from ptmetrics.metrics.two_classes import MCC_EACH

NPV = Ratio((1, 0, -1, 1), (0, 1, -1, 1))
ONE_AGAINST_REST = Ratio((2, 0, -1, 1), (0, 1, 0, 1), zero_division=False)
KAPPAS = ("kappa/linear", "kappa/quadratic")
BALANCED = next(spec for spec in CONFUSION_SPECS if spec.name == "balanced_accuracy")


@dataclass(frozen=True)
class WeightedKappa:
    """1 − observed over expected disagreement, which grows with the distance of the classes.

    Attributes:
        power: 1 for |i − j|, 2 for its square.
    """

    power: int

    def distance(self, classes: int) -> Array:
        """The disagreement of each cell, shape (C, C)."""
        place = np.arange(classes, dtype=np.float64)
        found: Array = np.abs(place[:, None] - place) ** self.power
        return found

    def __call__(self, matrix: Array) -> Array:
        """The score of matrices of shape (…, C, C)."""
        return self.influence(matrix)[0]

    def influence(self, matrix: Array) -> tuple[Array, Array]:
        """The score, and its derivative by the count of each cell, shape (…, C, C)."""
        distance = self.distance(matrix.shape[-1])
        total = matrix.sum((-1, -2), keepdims=True)
        share = matrix / total
        actual = share.sum(-1, keepdims=True)
        predicted = share.sum(-2, keepdims=True)
        seen = (share * distance).sum((-1, -2), keepdims=True)
        of_rows = predicted @ distance  # mean distance of each row's class from the predictions
        of_columns = distance @ actual
        chance = of_rows @ actual
        rows = np.swapaxes(of_rows, -1, -2)
        columns = np.swapaxes(of_columns, -1, -2)
        ratio = seen / chance
        slope = ratio / chance * (rows + columns - 2 * chance) - (distance - seen) / chance
        return (1 - ratio)[..., 0, 0], slope / total


def weighted_kappa_interval(spec: ScoreSpec, view: ClassCounts, intervals: bool) -> Estimate:
    """By the delta method, a little away from the data towards independence, as other scores of the matrix.

    Source: Fleiss, Cohen and Everitt, Psychological Bulletin 1969.
    """
    n = view.n
    view = view.in_mean_weights
    matrix, squares = view.matrix, view.squares_matrix
    assert matrix is not None  # kept where the score is asked for
    assert squares is not None
    matrix, squares = np.float64(matrix), np.float64(squares)
    value = np.clip(spec.formula(matrix), *spec.range)
    if not intervals:
        return spec.estimate(value, value, value, n).filled(view.absent)
    sums = view.weights
    total = sums.actual.sum(-1)[..., None, None]
    scale = squares.sum((-1, -2), keepdims=True) / total
    added = ADDED * scale * sums.actual[..., None] * sums.predicted[..., None, :] / total**2
    near, slope = spec.formula.influence(matrix + added)
    variance = ((squares + scale * added) * slope**2).sum((-1, -2))
    low, high = worth_ends(value, near, variance, *spec.range, (total / scale)[..., 0, 0])
    return spec.estimate(value, low, high, n).filled(view.absent)


def weighted_kappa_spec(name: str, power: int, doc: str) -> ScoreSpec:
    """Cohen's kappa of grades."""
    return ScoreSpec(
        name,
        WeightedKappa(power),
        weighted_kappa_interval,
        range=(-1.0, 1.0),
        doc=f"Cohen's kappa of ordered classes: {doc}.",
        undefined=ONE_CLASS,
        source="Cohen 1968; Fleiss, Cohen and Everitt 1969",
        method="delta",
    )


def adjusted_interval(spec: ScoreSpec, view: ClassCounts, intervals: bool) -> Estimate:
    """The balanced accuracy, moved and stretched so that chance is 0."""
    balanced = evaluate([BALANCED], view, intervals=intervals)[BALANCED.name, False]
    chance = 1 / (view.weights.actual > 0).sum(-1)
    ends = [(end - chance) / (1 - chance) for end in (balanced.value, balanced.low, balanced.high)]
    value, low, high = np.where(chance < 1, ends, np.nan)
    return spec.estimate(value, low, high, balanced.n)


def count_interval(spec: ScoreSpec, view: ClassCounts, intervals: bool) -> Estimate:
    """A count, or the sum of the weights; with no interval."""
    return Estimate.exact(spec.formula(view.weights), spec.formula(view.counts), spec.undefined)


def true_positives(sums: ClassSums) -> Array:
    """Hits of each class."""
    return sums.hits


def false_positives(sums: ClassSums) -> Array:
    """Other rows that were taken for the class."""
    return sums.predicted - sums.hits


def true_negatives(sums: ClassSums) -> Array:
    """Other rows that were not taken for it."""
    return sums.true_negatives


def false_negatives(sums: ClassSums) -> Array:
    """Rows of the class that were not predicted so."""
    return sums.actual - sums.hits


_COUNT = ScoreSpec(
    "tp",
    true_positives,
    count_interval,
    range=(0.0, math.inf),
    doc="True positives, or the sum of their weights.",
    undefined=NEITHER,
    each=True,
)
COUNTS_EACH = (
    _COUNT,
    replace(_COUNT, name="fp", formula=false_positives, higher_is_better=False,
            doc="False positives, likewise."),
    replace(_COUNT, name="tn", formula=true_negatives, doc="True negatives, likewise."),
    replace(_COUNT, name="fn", formula=false_negatives, higher_is_better=False,
            doc="False negatives, likewise."),
)  # fmt: skip
NPV_EACH = class_spec(
    "npv", NPV, "Negative predictive value: share of other rows among those not predicted so."
)
ACCURACY_EACH = class_spec(
    "accuracy", ONE_AGAINST_REST, "Share of right decisions for or against the class.", NO_SAMPLES
)
SELECTION_EACH = class_spec(
    "selection_rate",
    Ratio((0, 0, 1, 0), (0, 1, 0, 1), zero_division=False),
    "Share of the rows that are predicted so; neither more nor less is better.",
    NO_SAMPLES,
)
_SPECIFICITY = MicroRatio(SPECIFICITY)
_NPV = MicroRatio(NPV)
ASKED_SPECS = (
    weighted_kappa_spec("kappa/linear", 1, "disagreement is the distance of the classes"),
    weighted_kappa_spec("kappa/quadratic", 2, "disagreement is the squared distance"),
    ScoreSpec(
        "balanced_accuracy/adjusted",
        None,
        adjusted_interval,
        range=(-1.0, 1.0),
        doc="Balanced accuracy, moved and stretched so that chance is 0: scikit-learn's `adjusted=True`.",
        undefined=ONE_CLASS,
        method="mover",
    ),
    ScoreSpec(
        "specificity/micro",
        _SPECIFICITY.value,
        "delta",
        doc="True negatives over other rows, all classes together.",
        undefined=NO_CLASS,
        gradient=_SPECIFICITY.gradient,
    ),
    mean_spec(
        "specificity/weighted",
        SPECIFICITY,
        "Mean of the classes' specificity by their share of the targets.",
        by_targets=True,
    ),
    mean_spec("npv/macro", NPV, "Mean of the classes' negative predictive value."),
    ScoreSpec(
        "npv/micro",
        _NPV.value,
        "delta",
        doc="True negatives over rows not predicted so, all classes together.",
        undefined=NO_CLASS,
        gradient=_NPV.gradient,
    ),
    mean_spec(
        "npv/weighted",
        NPV,
        "Mean of the classes' negative predictive value by their share of the targets.",
        by_targets=True,
    ),
    NPV_EACH,
    ACCURACY_EACH,
    SELECTION_EACH,
    MCC_EACH,
    *COUNTS_EACH,
)
