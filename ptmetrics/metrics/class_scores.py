"""Scores of classes: every one is a formula over hits, targets and predictions of each class, in tables.

Single-label, yes-or-no and multilabel scores are made of the same ratios.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from ptmetrics.class_formulas import (
    JACCARD,
    PRECISION,
    RECALL,
    RECALL_OF_TARGETS,
    SPECIFICITY,
    ClassSums,
    MeanRatio,
    Ratio,
    fbeta_ratio,
    kappa,
    kappa_and_slopes,
    mask_of,
    mcc,
    mcc_and_slopes,
)
from ptmetrics.metrics.estimate import Array, Estimate
from ptmetrics.metrics.host import Counts, FilledCells
from ptmetrics.metrics.intervals import wilson
from ptmetrics.metrics.score_spec import ScoreSpec

NO_SAMPLES = "no samples were counted"
NEITHER = "the class is neither in the targets nor in the predictions"
NO_CLASS = "no class is defined"
ONE_CLASS = "targets or predictions hold one class only"


@dataclass(frozen=True)
class ClassCounts:
    """What formulas of classes are given: sums of weights, of their squares, and numbers of rows.

    Attributes:
        weights: Σw of the classes.
        squares: Σw² of the classes.
        counts: Numbers of rows of the classes, int64.
        absent: Value of an undefined score of a class.
        squares_matrix: Σw² a cell, shape (…, C, C), int64 where there are no weights; None where the
            matrix is not kept.
        matrix: Σw a cell, likewise.
        filled: The cells of a large matrix without weights where few hold something; else None.
    """

    weights: ClassSums
    squares: ClassSums
    counts: ClassSums
    absent: float = math.nan
    squares_matrix: Array | None = None
    matrix: Array | None = field(default=None, repr=False)
    filled: FilledCells | None = field(default=None, repr=False)

    @classmethod
    def of_matrices(cls, count: Array, weight: Array, square: Array, absent: float) -> ClassCounts:
        """From matrices of shape (…, C, C), rows actual."""
        counts = ClassSums.of_matrix(count, absent)
        weights = ClassSums.of_matrix(weight, absent)
        squares = weights
        if square is not weight:
            squares = ClassSums.of_matrix(square, absent)
        return cls(weights, squares, counts, absent, square, weight)

    @classmethod
    def of_cell(cls, counts: Counts, name: str) -> ClassCounts:
        """From a cell of shape (…, C, C)."""
        count = counts[name]
        if f"{name}.square" in counts:
            weight, square = counts.weight(name), counts.square(name)
            return cls.of_matrices(count, weight, square, counts.absent)
        filled = counts.few_filled(name)
        if filled is None:
            numbers = ClassSums.of_matrix(count, counts.absent)
        else:
            numbers = ClassSums.of_margins(count.diagonal(), *filled.sums(), counts.absent)
        weights = numbers.over(1.0)
        return cls(weights, weights, numbers, counts.absent, count, count, filled)

    @classmethod
    def of_margins_cell(cls, counts: Counts, name: str) -> ClassCounts:
        """From a cell of shape (…, 3, C): hits, actual and predicted."""
        found = []
        for array in (counts.weight(name), counts.square(name), counts[name]):
            hits, actual, predicted = np.moveaxis(array, -2, 0)
            found.append(ClassSums.of_margins(hits, actual, predicted, counts.absent))
        weights, squares, numbers = found
        return cls(weights, squares, numbers, counts.absent)

    @cached_property
    def n(self) -> Array:
        """Number of rows, int64 of shape (…)."""
        return self.counts.actual.sum(-1)

    @cached_property
    def sums(self) -> ClassSums:
        """Σw, Σw² and numbers of rows in a leading dimension of 3."""
        return self.weights.stacked(self.squares, self.counts)

    @cached_property
    def in_mean_weights(self) -> ClassCounts:
        """The same in units of about the mean weight, for formulas that multiply sums of weights.

        The unit is a power of two, which costs no digit.
        """
        total = self.weights.actual.sum(-1)
        with np.errstate(all="ignore"):
            unit = np.exp2(np.round(np.log2(total / self.n)))
        unit = np.where(np.isfinite(unit) & (unit > 0), unit, 1.0)
        if (unit == 1).all():
            return self
        matrix, squares_matrix = self.matrix, self.squares_matrix
        if matrix is not None and squares_matrix is not None:
            matrix = matrix / unit[..., None, None]
            squares_matrix = squares_matrix / unit[..., None, None] ** 2
        return replace(
            self,
            weights=self.weights.over(unit[..., None]),
            squares=self.squares.over(unit[..., None] ** 2),
            matrix=matrix,
            squares_matrix=squares_matrix,
        )


def class_counts(metrics: Any, counts: Counts, front: str = "") -> ClassCounts | None:
    """The confusion matrix where it is kept, else its margins; groups of very many classes have neither.

    Args:
        metrics: Whose they are.
        counts: What was counted.
        front: What the names of the cells begin with.
    """
    if f"{front}confusion" in counts:
        return ClassCounts.of_cell(counts, f"{front}confusion")
    if f"{front}margins" in counts:
        return ClassCounts.of_margins_cell(counts, f"{front}margins")
    return None


@dataclass(frozen=True)
class RatioAmong:
    """A ratio of some classes, as a formula.

    Attributes:
        ratio: The ratio of each class.
        among: Which classes.
    """

    ratio: Ratio
    among: tuple[int, ...]
    zero_division = True

    def __call__(self, sums: ClassSums) -> tuple[Array, Array]:
        """Numerators and denominators, shape (…, classes)."""
        part, whole = self.ratio(sums)
        chosen = list(self.among)
        return part[..., chosen], whole[..., chosen]


@dataclass(frozen=True)
class MicroRatio:
    """A ratio of the sums over all classes, or over some: a formula that knows its gradient.

    Attributes:
        ratio: The ratio of each class.
        among: Which classes are added up; None for all.
    """

    ratio: Ratio
    among: tuple[int, ...] | None = None
    zero_division = True

    def __call__(self, sums: ClassSums) -> tuple[Array, Array]:
        """Numerator and denominator, shape (…)."""
        part, whole = self.ratio(sums)
        if self.among is not None:
            part = part[..., list(self.among)]
            whole = whole[..., list(self.among)]
        there = ~np.isnan(part)
        total = np.where(there.any(-1), np.nansum(part, -1), np.nan)
        return total, np.where(there, whole, 0).sum(-1)

    def value(self, sums: ClassSums) -> Array:
        """Their quotient."""
        part, whole = self(sums)
        nothing = math.nan
        if self.ratio.zero_division:
            nothing = 0 * part
        return np.where(whole > 0, part / whole, nothing)

    def gradient(self, sums: ClassSums) -> tuple[Array, Array, Array, Array]:
        """The quotient, and its derivatives by hits, actual and predicted, each of shape (…, C)."""
        value = self.value(sums)
        whole = self(sums)[1][..., None]
        chosen = mask_of(self.among, sums) * ~np.isnan(self.ratio(sums)[0])
        scale = np.where(whole > 0, chosen / whole, 0.0)
        ratio = np.where(chosen > 0, value[..., None], 0.0)
        return value, *self.ratio.gradient(ratio, scale)


class EqualMean(MeanRatio):
    """A mean in which all classes weigh the same, however rare they are."""

    @staticmethod
    def shares(means: Sequence[EqualMean], view: ClassCounts) -> tuple[Array, Array]:
        """The ratio of each class, and the (effective) number of rows that it is a proportion of.

        Args:
            means: The means, which stand in a leading dimension of what is returned.
            view: Sums of classes.
        """
        factors = np.array([(mean.ratio.part, mean.ratio.whole) for mean in means])
        found: list[Array] = []
        for sums in (view.weights, view.squares):
            numbers = np.stack((sums.hits, sums.actual, sums.predicted, sums.others))
            found.extend(np.tensordot(factors.swapaxes(0, 1), numbers, 1))
        part, whole, _, square = found
        share = np.clip(part / whole, 0, 1)
        n = whole**2 / square
        for place, mean in enumerate(means):
            if mean.ratio.part[0] != 1:
                n[place] = fbeta_size(mean.ratio, view)
        there = view.weights.actual + view.weights.predicted > 0
        known = there & (whole > 0)  # of an empty one `doubt` tells
        n = np.where(known, n, 0.0)
        share = np.where(known, share, np.where(there, 0.0, view.absent))
        for place, mean in enumerate(means):
            if mean.among is not None:
                share[place, ..., mask_of(mean.among, view.weights) == 0] = np.nan
        return share, n


def fbeta_size(ratio: Ratio, view: Any) -> Array:
    """The number of samples that the F-beta of each class is worth as a proportion, by the delta method.

    It is no proportion of rows: the hits, misses and false alarms of the class are multinomial. One
    more error of the kind that counts most is taken for seen, so that no kind of error seems
    impossible; for beta 1 that changes nothing.

    Args:
        ratio: An F-beta.
        view: Sums of classes, as `weights` and `squares`.
    """
    sums = view.weights
    square = ratio.whole[1]  # of beta
    most = max(square, 1.0)
    missed = sums.actual - sums.hits
    false = sums.predicted - sums.hits
    squares = view.squares
    union = sums.actual + false
    unit = (squares.actual + squares.predicted - squares.hits) / union  # mean weight
    errors = square * missed + false
    skew = square**2 * missed + false + most**2 * unit
    spread = errors + sums.hits * skew / (errors + most * unit)
    return (square * sums.actual + sums.predicted) ** 2 / ((1 + square) * spread * unit)


def fbeta_interval(spec: ScoreSpec, view: Any, intervals: bool) -> Estimate:
    """F-beta of each class, with Wilson's interval at the n that it is worth; n is that of the union."""
    part, whole = spec.formula(view.weights)
    value = np.clip(part / whole, 0, 1)
    low, high = value, value
    if intervals:
        low, high = wilson(value, fbeta_size(spec.formula, view))
    return spec.estimate(value, low, high, view.counts.either).filled(view.absent)


def f1_of_jaccard(jaccard: Array) -> Array:
    """F = 2J / (1 + J), a rising function."""
    return 2 * jaccard / (1 + jaccard)


def all_hits(sums: ClassSums) -> tuple[Array, Array]:
    """Right predictions and all rows."""
    return sums.hits.sum(-1), sums.actual.sum(-1)


def support(spec: ScoreSpec, view: ClassCounts, intervals: bool) -> Estimate:
    """Weight of the targets of each class; a count, with no interval."""
    return Estimate.exact(view.weights.actual, view.counts.actual, spec.undefined)


@cache
def _mean_of(ratio: Ratio, by_targets: bool, among: tuple[int, ...] | None = None) -> MeanRatio:
    """One object, so that scores of two names are computed once."""
    if by_targets:
        return MeanRatio(ratio, by_targets, among)
    return EqualMean(ratio, by_targets, among)


def mean_spec(name: str, ratio: Ratio, doc: str, *, by_targets: bool = False) -> ScoreSpec:
    """A mean over the classes by the delta method: class errors are shared."""
    mean = _mean_of(ratio, by_targets)
    method = "delta" if by_targets else "delta-mover"
    return ScoreSpec(
        name, mean, "delta", doc=doc, undefined=NO_CLASS, gradient=mean.gradient, method=method
    )


def mover_spec(name: str, ratio: Ratio, doc: str) -> ScoreSpec:
    """A mean over the classes whose rows are others, so that their intervals add up."""
    absent = ratio.zero_division
    return ScoreSpec(name, ratio, "mover", doc=doc, undefined=NO_CLASS, absent=absent)


def accuracy_spec(name: str, doc: str) -> ScoreSpec:
    """With one label a row, every micro average but that of the Jaccard index is the accuracy."""
    return ScoreSpec(name, all_hits, "wilson", doc=doc, undefined=NO_SAMPLES)


def micro_spec(spec: ScoreSpec, ratio: Ratio, among: tuple[int, ...] | None) -> ScoreSpec:
    """A micro average of some classes, which is no accuracy: a proportion of rows, or else by the delta method."""
    micro = MicroRatio(ratio, among)
    said = "Over the classes that `labels` names."
    if ratio in (PRECISION, RECALL):
        return replace(spec, formula=micro, doc=said, undefined=NO_CLASS, absent=True)
    return replace(
        spec,
        formula=micro.value,
        gradient=micro.gradient,
        interval="delta",
        method="delta",
        through=None,
        doc=said,
        undefined=NO_CLASS,
        absent=True,
    )


def averages_among(
    specs: Sequence[ScoreSpec], among: tuple[int, ...], beta: float | None
) -> tuple[ScoreSpec, ...]:
    """The same scores, with averages over some of the classes; accuracy and balanced accuracy are of all.

    Args:
        specs: Scores of `CONFUSION_SPECS` and of `fbeta_specs`.
        among: The classes that averages are over.
        beta: Of F-beta, if there is one.
    """
    micro = MICRO
    if beta is not None:
        micro = {**MICRO, "fbeta/micro": fbeta_ratio(beta)}
    found = []
    for spec in specs:
        formula = spec.formula
        name = spec.name.rpartition("_")[2]  # of one at k
        if isinstance(formula, MeanRatio):
            mean = _mean_of(formula.ratio, formula.by_targets, among)
            found.append(replace(spec, formula=mean, gradient=mean.gradient))
        elif spec.interval == "mover" and formula is not RECALL_OF_TARGETS:
            found.append(replace(spec, formula=RatioAmong(formula, among)))
        elif name in micro and not spec.each:
            found.append(micro_spec(spec, micro[name], among))
        else:
            found.append(spec)
    return tuple(found)


def class_spec(name: str, ratio: Ratio, doc: str, undefined: str = NEITHER) -> ScoreSpec:
    """A ratio of each class."""
    return ScoreSpec(name, ratio, "wilson", doc=doc, undefined=undefined, each=True, absent=True)


IOU_DOC = "Intersection over union of each class, over all pixels and not image by image"
DICE_DOC = "Dice coefficient 2·|A ∩ B| / (|A| + |B|) of each class, likewise"
GORODKIN = "Gorodkin, Comput. Biol. Chem. 2004 (R_K)"
LAM = "Lam et al., arXiv 2309.14621: given the union, J is a binomial proportion"
CONFUSION_SPECS = (
    accuracy_spec("accuracy", "Share of right predictions."),
    mover_spec(
        "balanced_accuracy",
        RECALL_OF_TARGETS,
        "Mean recall of the classes that occur in the targets.",
    ),
    mover_spec("precision/macro", PRECISION, "Mean of the classes' precision."),
    accuracy_spec("precision/micro", "Hits over predictions of all classes: the accuracy."),
    mean_spec(
        "precision/weighted",
        PRECISION,
        "Mean of the classes' precision by their share of the targets.",
        by_targets=True,
    ),
    mover_spec("recall/macro", RECALL, "Mean of the classes' recall."),
    accuracy_spec("recall/micro", "Hits over targets of all classes: the accuracy."),
    accuracy_spec("recall/weighted", "Mean of the classes' recall by their share: the accuracy."),
    mean_spec("f1/macro", fbeta_ratio(1), "Mean of the classes' F1."),
    accuracy_spec("f1/micro", "F1 of all classes together: the accuracy."),
    mean_spec(
        "f1/weighted",
        fbeta_ratio(1),
        "Mean of the classes' F1 by their share of the targets.",
        by_targets=True,
    ),
    mean_spec("specificity/macro", SPECIFICITY, "Mean of the classes' specificity."),
    mean_spec("jaccard/macro", JACCARD, "Mean of the classes' Jaccard index: the mean IoU."),
    mean_spec("mean_iou", JACCARD, f"{IOU_DOC}: their mean, which is `jaccard/macro`."),
    mean_spec("dice", fbeta_ratio(1), f"{DICE_DOC}: their mean, which is `f1/macro`."),
    ScoreSpec(
        "jaccard/micro",
        all_hits,
        "wilson",
        doc="Hits over the union of all classes: a / (2 − a) of the accuracy a.",
        undefined=NO_SAMPLES,
        through=lambda accuracy: accuracy / (2 - accuracy),
        method="wilson-accuracy",
    ),
    mean_spec(
        "jaccard/weighted",
        JACCARD,
        "Mean of the classes' Jaccard index by their share of the targets.",
        by_targets=True,
    ),
    ScoreSpec(
        "hamming_loss",
        all_hits,
        "wilson",
        higher_is_better=False,
        doc="Share of wrong predictions.",
        undefined=NO_SAMPLES,
        through=lambda accuracy: 1 - accuracy,
    ),
    ScoreSpec(
        "mcc",
        mcc,
        "delta",
        range=(-1.0, 1.0),
        doc="Matthews correlation of predictions and targets.",
        undefined=ONE_CLASS,
        source=GORODKIN,
        gradient=mcc_and_slopes,
        absent=True,
    ),
    ScoreSpec(
        "kappa",
        kappa,
        "delta",
        range=(-1.0, 1.0),
        doc="Cohen's kappa: agreement beyond chance.",
        undefined=ONE_CLASS,
        gradient=kappa_and_slopes,
        absent=True,
    ),
)
F1_EACH = ScoreSpec(
    "f1",
    JACCARD,
    "wilson",
    doc="Harmonic mean of the class's precision and recall.",
    undefined=NEITHER,
    source=LAM,
    each=True,
    absent=True,
    through=f1_of_jaccard,
    method="wilson-jaccard",
)
SUPPORT = ScoreSpec(
    "support", RECALL, support, doc="Weight of the targets of the class.", undefined=NEITHER,
    each=True, range=(0.0, math.inf),
)  # fmt: skip
PRECISION_EACH = class_spec("precision", PRECISION, "Hits over predictions.")
RECALL_EACH = class_spec("recall", RECALL, "Hits over targets of the class.")
SPECIFICITY_EACH = class_spec(
    "specificity", SPECIFICITY, "Share of other classes' rows not taken for the class."
)
JACCARD_EACH = class_spec("jaccard", JACCARD, "Hits over the union.")
IOU_EACH = replace(JACCARD_EACH, name="iou", doc=f"{IOU_DOC}: `jaccard`.")
DICE_EACH = replace(F1_EACH, name="dice", doc=f"{DICE_DOC}: `f1`.")
MICRO = {
    "precision/micro": PRECISION,
    "recall/micro": RECALL,
    "recall/weighted": RECALL,
    "f1/micro": fbeta_ratio(1),
    "jaccard/micro": JACCARD,
    "specificity/micro": SPECIFICITY,
}
CLASS_SPECS = (
    PRECISION_EACH,
    RECALL_EACH,
    F1_EACH,
    SPECIFICITY_EACH,
    JACCARD_EACH,
    IOU_EACH,
    DICE_EACH,
    SUPPORT,
)


def fbeta_specs(beta: float) -> tuple[ScoreSpec, ...]:
    """The scores that `beta` adds; that of each class is the last."""
    ratio = fbeta_ratio(beta)
    doc = f"F-beta of the classes, recall {beta:g} times as important as precision"
    return (
        mean_spec("fbeta/macro", ratio, f"{doc}: their mean."),
        accuracy_spec("fbeta/micro", f"{doc}: all together, which is the accuracy."),
        mean_spec("fbeta/weighted", ratio, f"{doc}: by their share.", by_targets=True),
        ScoreSpec(
            "fbeta",
            ratio,
            fbeta_interval,
            doc=f"{doc}: of each.",
            undefined=NEITHER,
            each=True,
            absent=True,
            method="wilson-delta",
        ),
    )
