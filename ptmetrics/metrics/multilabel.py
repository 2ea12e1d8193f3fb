"""`MultilabelMetrics`: many yes-or-no labels a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptmetrics.class_formulas import (
    JACCARD,
    PRECISION,
    RECALL,
    SPECIFICITY,
    ClassSums,
    Ratio,
    fbeta_ratio,
    mcc_and_slopes,
)
from ptmetrics.counts.batch import Batch, Counted
from ptmetrics.counts.cell import Cell, State
from ptmetrics.counts.keys import FloatKeys
from ptmetrics.counts.multiclass import Inputs, without_dimension
from ptmetrics.counts.multilabel import (
    LABEL_FAULT_KINDS,
    LABEL_SUMS,
    ROW_SCORES,
    LabelReader,
    add_row_products_,
    row_products,
    row_scores,
)
from ptmetrics.counts.score_histogram import Curves, ScoreHistogram
from ptmetrics.counts.stored_sums import WEIGHT_ROUNDING, StoredSums
from ptmetrics.counts.yesno_launch import MOST_KERNEL_LABELS, YesNoKernel
from ptmetrics.errors import ConfigError
from ptmetrics.metrics import options
from ptmetrics.metrics.asked_scores import (
    ACCURACY_EACH,
    COUNTS_EACH,
    NPV,
    NPV_EACH,
    ONE_AGAINST_REST,
    SELECTION_EACH,
)
from ptmetrics.metrics.base import Metrics
from ptmetrics.metrics.class_scores import (
    F1_EACH,
    NO_SAMPLES,
    SPECIFICITY_EACH,
    SUPPORT,
    ClassCounts,
    MicroRatio,
    class_spec,
    f1_of_jaccard,
    fbeta_size,
    fbeta_specs,
)
from ptmetrics.metrics.curves import (
    CURVE_SPECS_OF_HEADS,
    kept_scores,
    notes_of,
    point_specs,
)
from ptmetrics.metrics.estimate import Array, Estimate
from ptmetrics.metrics.host import Counts
from ptmetrics.metrics.image_scores import share_of_samples
from ptmetrics.metrics.intervals import mover, wilson
from ptmetrics.metrics.score_bins import SUMMARY
from ptmetrics.metrics.score_curve import ScoreCurve
from ptmetrics.metrics.score_spec import NOTHING_KNOWN, ScoreSpec, ScoreTable
from ptmetrics.metrics.two_classes import MCC_EACH, rare_class_interval

LABEL_CURVES = "label_curves"
MOST_LABELS = 1_000_000  # of which each has a name, and counts of 96 bytes with weights
NO_WHOLE_ROW = "no row with a label counted and none refused"
NO_LABEL = "no label is defined"
NO_ROW = "no row is defined"
NEVER_EITHER = "the label is neither in the targets nor predicted"
KORN_GRAUBARD = "Korn and Graubard, Survey Methodology 1998: the n that a variance is worth"
DESIGN_EFFECT = "Zou and Donner, Statistics in Medicine 2008; Kish 1965 for the design effect"
WRONG = Ratio((-2, 1, 1, 0), (0, 1, 0, 1), zero_division=False)


@dataclass(frozen=True)
class LabelCounts:
    """What formulas of labels are given: sums of weights, of their squares, and numbers of rows.

    Attributes:
        weights: Σw of the rows of each label; others are rows that count for the label and are not
            of it.
        squares: Σw² likewise.
        counts: Numbers of rows, int64.
        n: Number of rows with a label counted, int64 of shape (…).
        row_weight: Σw and Σw² of these rows.
        together: Σw² of products of a row's numbers of hits, actual, predicted and other labels,
            shape (…, 4, 4).
        row_scores: The six sums of the scores of rows, shape (…, 6, 5).
        absent: Value of an undefined score; NaN leaves it out of averages.
    """

    weights: ClassSums
    squares: ClassSums
    counts: ClassSums
    n: Array
    row_weight: tuple[Array, Array]
    together: Array
    row_scores: Array
    absent: float = math.nan

    @classmethod
    def of_cells(cls, metrics: Any, counts: Counts) -> LabelCounts:
        """From the cells "labels", "together", "row_scores" and "rows"."""
        return cls(
            _label_sums(counts.weight("labels"), counts.absent),
            _label_sums(counts.square("labels"), counts.absent),
            _label_sums(counts["labels"], counts.absent),
            counts.n,
            (counts.weight("rows"), counts.square("rows")),
            counts["together"],
            counts["row_scores"],
            counts.absent,
        )

    @cached_property
    def sums(self) -> ClassSums:
        """Σw, Σw² and numbers of rows in a leading dimension of 3."""
        return self.weights.stacked(self.squares, self.counts)

    @property
    def effective_rows(self) -> Array:
        """Kish's effective number of rows."""
        weight, square = self.row_weight
        return weight**2 / square

    def row_variance(self, gain: Array) -> Array:
        """Σw² of the square of a row's numbers times `gain`, (…, 4): what labels that err together add up to."""
        square: Array = gain[..., None, :] @ self.together @ gain[..., None]
        return np.clip(square[..., 0, 0], 0, None)

    def design_effect(self, ratio: Ratio) -> Array:
        """The variance of a row's total error against the sum of its labels'.

        It is 1 for labels that err on their own, and up to the number of labels where one is wrong
        as all are.
        """
        part, whole = ratio(self.weights)
        each = _gain(ratio, np.nan_to_num(part / whole)[..., None])
        return self.effect(each, _gain(ratio, (np.nansum(part, -1) / whole.sum(-1))[..., None]))

    def effect(self, each: Array, together: Array) -> Array:
        """The same of what each number of a label gains, shape (…, L or 1, 4), and of a row, shape (…, 4)."""
        hit, actual, predicted, other = np.moveaxis(each, -1, 0)
        rows = self.squares
        kinds = (
            (rows.true_negatives, other),
            (rows.predicted - rows.hits, predicted + other),
            (rows.actual - rows.hits, actual),
            (rows.hits, hit + actual + predicted),
        )
        alone = np.sum([(np.clip(n, 0, None) * gain**2).sum(-1) for n, gain in kinds], 0)
        labels = (self.weights.actual + self.weights.others).sum(-1) / self.row_weight[0]
        labels = np.maximum(labels, 1)  # of a row: the most that the effect can be
        effect = self.row_variance(together) / alone
        effect = np.where(alone > 0, np.clip(effect, 1, labels), labels)
        return np.asarray(effect)


def _label_sums(sums: Array, absent: float) -> ClassSums:
    hits, actual, predicted, others = np.moveaxis(sums, -2, 0)
    return ClassSums(hits, actual, predicted, others, absent)


def _gain(ratio: Ratio, p: Array) -> Array:
    """What each number is multiplied with in numerator − p · denominator, in the last dimension."""
    gain: Array = np.asarray(ratio.part) - p * np.asarray(ratio.whole)
    return gain


def _worth(p: Array, variance: Array, otherwise: Array) -> Array:
    """The number of samples at which a proportion has this variance; another one where it has none."""
    n = p * (1 - p) / variance
    return np.where((variance > 0) & (n > 0), n, otherwise)


def mean_of_rows_interval(spec: ScoreSpec, view: LabelCounts, intervals: bool) -> Estimate:
    """Mean of a score of rows, where it is defined, with Wilson's interval at the n that its variance is worth."""
    n, weight, square, first, first_square, second_square = spec.formula(view)
    absent = view.absent
    if not math.isnan(absent):
        # It stands for the score of intact rows that have none.
        n, all_weight, all_square = view.row_scores[..., :3, 0].T
        first = first + absent * (all_weight - weight)
        first_square = first_square + absent * (all_square - square)
        second_square = second_square + absent**2 * (all_square - square)
        weight = all_weight
        square = all_square
    mean = np.clip(first / weight, 0, 1)
    spread = np.clip(second_square - 2 * mean * first_square + mean**2 * square, 0, None)
    rows = weight**2 / square
    variance = spread * rows / (rows - 1) / weight**2
    low, high = wilson(mean, _worth(mean, variance, rows))
    return spec.estimate(mean, low, high, n.astype(np.int64))


def micro_interval(spec: ScoreSpec, view: LabelCounts, intervals: bool) -> Estimate:
    """A ratio over all labels at once.

    Labels of a row err together, so the variance is that of a ratio of sums over rows; the interval
    is Wilson's for the number of samples that it is worth, and for the number of rows where it is
    0.
    """
    micro = MicroRatio(spec.formula)
    whole = micro(view.weights)[1]
    p = micro.value(view.weights)
    rows = view.effective_rows
    gain = _gain(spec.formula, p[..., None])
    variance = view.row_variance(gain) * rows / (rows - 1) / whole**2
    low, high = wilson(p, _worth(p, variance, np.fmax(np.minimum(rows, whole), NOTHING_KNOWN)))
    if spec.through is not None:
        p, low, high = spec.through(p), spec.through(low), spec.through(high)
    return spec.estimate(p, low, high, view.n).filled(view.absent)


def mean_of_labels_interval(
    spec: ScoreSpec, view: LabelCounts, intervals: bool, *, by_targets: bool = False
) -> Estimate:
    """Mean of the labels' ratios, whose ends are taken for those of independent samples of a smaller size.

    How much smaller is the design effect.
    """
    ratio = spec.formula
    part, whole = ratio(view.weights)
    _, square = ratio(view.squares)
    p = part / whole
    n = whole**2 / square
    if ratio.part[0] != 1 and not ratio.part[3]:
        n = fbeta_size(ratio, view)
    n = n / view.design_effect(ratio)[..., None]
    empty = (part == 0) & (whole == 0)
    p = np.where(empty, 0.0, p)
    n = np.where(empty, NOTHING_KNOWN, n)
    absent = view.absent
    if not math.isnan(absent):
        if spec.through is f1_of_jaccard:
            absent = absent / (2 - absent)
        n = np.where(np.isnan(p), 0.0, n)  # a constant has no doubt
        p = np.where(np.isnan(p), absent, p)
    share = None
    if by_targets:
        share = view.weights.actual
    return spec.estimate(*mover(p, n, share, spec.through), view.n)


def mcc_interval(spec: ScoreSpec, view: LabelCounts, intervals: bool) -> Estimate:
    """MCC of all labels of all rows as one table, with the squares of the weights times the design effect."""
    count, weight, square = (
        sums.matrices.sum(-3) for sums in (view.counts, view.weights, view.squares)
    )
    if intervals:
        _, hits, actual, predicted = mcc_and_slopes(ClassSums.of_matrix(weight))
        # Of "no" the hits are others − predicted + hits, and the predictions the rest.
        gain = np.stack(
            (
                hits.sum(-1),
                actual[..., 1] + predicted[..., 0],
                predicted[..., 1] - predicted[..., 0] - hits[..., 0],
                actual[..., 0] + predicted[..., 0] + hits[..., 0],
            ),
            -1,
        )
        square = square * view.effect(gain[..., None, :], gain)[..., None, None]
    two = ClassCounts.of_matrices(count, weight, square, view.absent)
    return replace(rare_class_interval(spec, two, intervals), n=view.n)


def six_sums_of(name: str) -> Callable[[LabelCounts], Array]:
    """A formula for the six sums of one of the scores of rows, which stand first."""
    place = (*ROW_SCORES, "fbeta").index(name)
    return lambda view: np.moveaxis(view.row_scores[..., place], -1, 0)


def means_of_labels(
    name: str,
    ratio: Ratio,
    doc: str,
    undefined: str = NEVER_EITHER,
    through: Callable[[Array], Array] | None = None,
) -> tuple[ScoreSpec, ...]:
    """The three averages of a ratio over labels.

    Args:
        name: Of the score.
        ratio: A proportion, of which the score is made.
        doc: What it is of one label.
        undefined: Why it is undefined for one label.
        through: A rising function from the proportion to the score.
    """
    macro = ScoreSpec(
        f"{name}/macro",
        ratio,
        mean_of_labels_interval,
        doc=f"{doc}: mean over the labels.",
        undefined=NO_LABEL,
        source=DESIGN_EFFECT,
        through=through,
        method="mover-clustered",
    )
    micro = replace(
        macro,
        name=f"{name}/micro",
        interval=micro_interval,
        doc=f"{doc}: all labels together.",
        undefined=undefined,
        source=KORN_GRAUBARD,
        method="wilson-clustered",
    )
    weighted = replace(
        macro,
        name=f"{name}/weighted",
        interval=partial(mean_of_labels_interval, by_targets=True),
        doc=f"{doc}: mean over the labels by their share of the targets.",
    )
    return macro, micro, weighted


def averaged_specs(name: str, ratio: Ratio, doc: str, **more: Any) -> tuple[ScoreSpec, ...]:
    """The same, and the mean over the rows."""
    samples = ScoreSpec(
        f"{name}/samples",
        six_sums_of(name),
        mean_of_rows_interval,
        doc=f"{doc}: mean over the rows, of the labels of each.",
        undefined=NO_ROW,
        source=KORN_GRAUBARD,
        method="wilson-effective",
    )
    return *means_of_labels(name, ratio, doc, **more), samples


PRECISION_DOC = "Hits over predictions"
RECALL_DOC = "Hits over targets"
F1_DOC = "Harmonic mean of precision and recall"
JACCARD_DOC = "Hits over the union of targets and predictions"
LABEL_SCORES = ScoreTable(
    LabelCounts.of_cells,
    (
        ScoreSpec(
            "exact_match",
            six_sums_of("exact_match"),
            share_of_samples,
            doc="Share of rows with every counted label right; rows without one are left out.",
            undefined=NO_WHOLE_ROW,
            method="wilson",
        ),
        ScoreSpec(
            "hamming_loss",
            WRONG,
            micro_interval,
            higher_is_better=False,
            doc="Share of wrong labels.",
            undefined=NO_SAMPLES,
            source=KORN_GRAUBARD,
            method="wilson-clustered",
        ),
        *averaged_specs("precision", PRECISION, PRECISION_DOC),
        *averaged_specs("recall", RECALL, RECALL_DOC),
        *averaged_specs("f1", JACCARD, F1_DOC, through=f1_of_jaccard),
        *averaged_specs("jaccard", JACCARD, JACCARD_DOC),
        class_spec("precision", PRECISION, f"{PRECISION_DOC}.", NEVER_EITHER),
        class_spec("recall", RECALL, f"{RECALL_DOC}.", NEVER_EITHER),
        replace(F1_EACH, doc=f"{F1_DOC}.", undefined=NEVER_EITHER),
        class_spec("jaccard", JACCARD, f"{JACCARD_DOC}.", NEVER_EITHER),
        replace(SUPPORT, doc="Weight of the targets of the label.", undefined=NEVER_EITHER),
    ),
    "Multilabel classification",
)
LABELS_ASKED = (
    *means_of_labels("specificity", SPECIFICITY, "Share of no that is not taken for yes"),
    *means_of_labels("npv", NPV, "Share of no among what is not predicted yes"),
    *means_of_labels("accuracy", ONE_AGAINST_REST, "Share of right labels", NO_SAMPLES),
    SPECIFICITY_EACH,
    NPV_EACH,
    ACCURACY_EACH,
    SELECTION_EACH,
    MCC_EACH,
    replace(
        MCC_EACH,
        interval=mcc_interval,
        doc="Matthews correlation of predictions and targets, all labels together.",
        each=False,
    ),
    *COUNTS_EACH,
)
LABEL_CURVE_SCORES = ScoreTable(
    lambda metrics, counts: counts.get(LABEL_CURVES + SUMMARY),
    CURVE_SPECS_OF_HEADS,
    "Curves of each label",
)


class MultilabelMetrics(Metrics):
    """Precision, recall, F1, Jaccard, exact match and Hamming loss from one pass, each with an interval.

    `update(preds, target)` takes scores of shape (N, L), (N, L, d1, …) or (N, d1, …, L), or 0 and 1
    with `inputs="labels"`, and signed integer targets 0 and 1 of the same shape; weights have the
    shape (N, …), one a row. Which dimension holds the labels is read off L; where both may,
    `class_dim` is asked for. NaN scores and targets that are neither 0 nor 1 are left out for their label
    alone, counted and reported in `scores.faults`. The scores of whole rows (`exact_match`,
    `…/samples`) leave a row with a refused label out; ignored labels have no say in them.

    AUROC and average precision of each label come from histograms of the scores in constant memory,
    each with a certified `error_bound`, by which its interval is widened: 2 MiB a label up to 64
    labels, 126 KiB up to 1,024, twice that with weights. Above 1,024 labels there are none.

    Args:
        num_labels: L, 1 to 1,000,000.
        inputs: What preds are: "logits", "probs" or "labels". Never guessed.
        threshold: Probability from which a label is predicted: equal is a yes.
        ignore_index: A target value to leave out silently, such as −1.
        label_names: One name a label.
        beta: Adds `fbeta` of each label and its averages `fbeta/macro`, `/micro`, `/weighted` and
            `/samples`, recall `beta` times as important as precision.
        class_dim: The dimension that holds the labels, 1 or −1; None reads it off the shape.
        absent: Value of an undefined score; NaN leaves it out of averages (scikit-learn's
            `zero_division`).
        curves: What to keep for AUROC and average precision: True or "fp16" for the above, "fine"
            for 126 MiB a label and 64 times less doubt, "exact" for the scores themselves beside
            "fp16", 8 bytes a label and row; 4 GiB at most. False or None keeps no scores.
        capacity: Number of rows whose scores "exact" keeps.
        at: Points of the curve of each label to report, as for `BinaryMetrics`: of each label, and
            their mean as `NAME/macro`.
        scores: Scores of your own, each a `pm.ScoreSpec` over the labels' counts: with `each=True`
            a ratio of each label, else with interval="none". Labels of a row err together, which
            other intervals would miss; `groups=True` gives such a score an interval. And names of
            scores that are computed when they are asked for: see docs/scores.md.
        slices: As for `pm.Metrics`.
        groups: As for `pm.Metrics`; None by default.
        device: As for `pm.Metrics`.

    Raises:
        ConfigError: If an argument cannot work.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> metrics = pm.MultilabelMetrics(num_labels=3)
        >>> logits = torch.tensor([[2.0, -1.0, 3.0], [1.0, -2.0, -0.5]])
        >>> metrics.update(logits, torch.tensor([[1, 0, 1], [1, 1, 0]]))
        >>> scores = metrics.compute()
        >>> scores["exact_match"].value
        0.5
        >>> [recall.value for recall in scores.per_class["recall"]]
        [1.0, 0.0, 1.0]
    """

    task = "multilabel"
    headline = "f1/micro"
    score_tables = (LABEL_SCORES, LABEL_CURVE_SCORES)
    optional_tables = (ScoreTable(LabelCounts.of_cells, LABELS_ASKED),)
    waits = True

    def __init__(
        self,
        num_labels: int,
        *,
        inputs: Inputs = "logits",
        threshold: float = 0.5,
        ignore_index: int | None = None,
        label_names: Sequence[str] | None = None,
        beta: float | None = None,
        class_dim: int | None = None,
        absent: float = math.nan,
        curves: bool | Curves | None = True,
        capacity: int = 100_000,
        at: Sequence[str] = (),
        scores: Sequence[ScoreSpec | str] = (),
        slices: Sequence[str] | int = (),
        groups: bool | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        _check_number(num_labels)
        options.check_inputs(inputs)
        options.check_threshold(threshold)
        options.check_ignore_index(ignore_index)
        options.check_beta(beta)
        options.check_absent(absent)
        options.check_class_dim(class_dim)
        self.num_labels = num_labels
        self.inputs = inputs
        self.threshold = threshold
        self.ignore_index = ignore_index
        self.beta = beta
        self.curves = curves
        self.class_names = options.names("label_names", label_names, num_labels, "label")
        self.absent = float(absent)
        self.fault_kinds = LABEL_FAULT_KINDS[inputs]
        self._own_scores, self.asked = options.own_specs(scores, self.optional_tables)
        _check_scores_of_labels(self._own_scores)
        histogram = ScoreHistogram(LABEL_CURVES, FloatKeys(), (num_labels,))
        self._curve = kept_scores(histogram, inputs, curves, capacity, at)
        cut = options.cut_of_threshold(threshold, inputs)
        self._reader = LabelReader(num_labels, inputs, cut, ignore_index, class_dim)
        if self._is_ordinary:
            found = getattr(self._curve, "histogram", None)
            self._kernel = YesNoKernel(inputs, cut, ignore_index, found, num_labels, beta or 0.0)
        super().__init__(slices=slices, groups=groups, device=device)

    @property
    def _is_ordinary(self) -> bool:
        """Whether all that is counted of a row is what a kernel counts."""
        if type(self).count is not MultilabelMetrics.count or self.num_labels > MOST_KERNEL_LABELS:
            return False
        return self._curve is None or self._curve.store is None

    def counted_arguments(self) -> dict[str, Any]:
        """The plain values that fix what is counted."""
        threshold: float | None = self.threshold
        if self.inputs == "labels":
            threshold = None
        fixed = {
            "num_labels": self.num_labels,
            "inputs": self.inputs,
            "threshold": threshold,
            "ignore_index": self.ignore_index,
            "curves": self.curves,
        }
        if self.beta is not None:
            fixed["beta"] = self.beta
        return fixed

    def cells(self) -> list[Cell]:
        """Rows of each label, scores of rows, how labels err together, and curves where they are wanted."""
        cells = [
            Cell("labels", (LABEL_SUMS, self.num_labels)),
            Cell(
                "row_scores",
                (len(ROW_SCORES) + (self.beta is not None),),
                torch.float64,
                merge="mean",
            ),
            Cell("together", (LABEL_SUMS, LABEL_SUMS), torch.float64, weigh=False),
        ]
        if self._curve is not None:
            cells.extend(self._curve.cells())
        return cells

    def tables(self) -> tuple[ScoreTable, ...]:
        """Those of the class, and the user's own scores."""
        labels, drawn = type(self).score_tables
        if self._curve is not None:
            points = point_specs(self._curve.at, heads=True)
            drawn = replace(drawn, specs=(*drawn.specs, *points))
        specs = [*labels.specs, *self._own_scores]
        if self.beta is not None:
            ratio = fbeta_ratio(self.beta)
            doc = f"F-beta, recall {self.beta:g} times as important as precision"
            specs.extend(averaged_specs("fbeta", ratio, doc))
            specs.append(replace(fbeta_specs(self.beta)[-1], doc=f"{doc}.", undefined=NEVER_EITHER))
        return (replace(labels, specs=tuple(specs)), drawn)

    def check(self, preds: Tensor, target: Tensor, sample_weight: Tensor | None) -> Batch:
        """Refuse what shapes, types and devices tell; one row for all labels of a sample."""
        return self._reader.check(self.device, preds, target, sample_weight)

    def row_shape(self, target: Tensor) -> tuple[int, ...]:
        """The target's without its labels."""
        return without_dimension(target, self._reader.label_dimension(target))

    def count(self, batch: Batch) -> dict[str, Counted]:
        """Read the labels once, and say what each row adds."""
        rows = self._reader.read(batch)
        counts: dict[str, Counted] = {
            "labels": rows.sums.transpose(0, 1),
            "row_scores": row_scores(rows.numbers, rows.intact, self.beta),
        }
        if batch.slices is not None or batch.group is not None:
            counts["together"] = row_products(rows.numbers, batch)
        else:
            counts["together"] = partial(add_row_products_, rows.numbers, batch)
        if self._curve is not None:
            scores = self._reader.scores_in_order(rows.preds)
            state = self._accumulator.state
            target = rows.sums[1]
            counts.update(self._curve.count(state, batch, scores, target, rows.counted, rows.preds))
        return counts

    def stored_relations(self, sums: StoredSums) -> Iterator[tuple[str, Tensor]]:
        """Each label of a row is one of hits and misses, and has one score."""
        hits, actual, predicted, others = sums["labels"].unbind(-2)
        counted = actual + others
        rows = sums["rows"].unsqueeze(-1)
        yield "no more hits than targets", sums.at_most(hits, actual)
        yield "no more hits than predictions", sums.at_most(hits, predicted)
        yield "no more wrong predictions than other labels", sums.at_most(predicted, hits + others)
        yield "no more rows of a label than rows", sums.at_most(counted, rows.expand(counted.shape))
        yield "a label of each row", sums.at_most(rows.squeeze(-1), counted.sum(-1))
        if self._curve is not None:
            yield from self._curve.stored_relations(sums, counted)
        first = sums["row_scores"][..., 3, :]
        weight = sums["row_scores"][..., 1, :] * (1 + WEIGHT_ROUNDING)
        yield "scores of rows from 0 to 1", (first >= 0) & (first <= weight)
        together = sums["together"]
        mirrored = (together - together.mT).abs() <= WEIGHT_ROUNDING * together.abs()
        yield "products of 0 or more that are symmetric", mirrored & (together >= 0)
        if sums.are("square"):
            alone = sums["labels"].sum(-1)
            own = together.diagonal(dim1=-2, dim2=-1)
            fits = sums.at_most(alone, own) & sums.at_most(own, self.num_labels * alone)
            yield "products that go with the labels", fits

    def details(self, state: State, counts: Counts) -> dict[str, Any]:
        """A matrix of each label, as scikit-learn's `multilabel_confusion_matrix`."""
        details: dict[str, Any] = _matrices(counts, self.absent)
        if self._curve is not None:
            summary = counts[LABEL_CURVES + SUMMARY]
            details["notes"] = notes_of(summary, self._curve.histogram.keys)
            details["curve"] = ScoreCurve.of_kept(
                self._curve, state, counts.n, probs=self.inputs == "probs"
            )
        return details

    def summarize(self, state: State) -> State:
        """The curves are summed up on the device."""
        if self._curve is None:
            return state
        return self._curve.summarize(state)


def _matrices(counts: Counts, absent: float) -> dict[str, Any]:
    """The matrix of each label, and the same of Σw where there are weights."""
    found = {"confusion": torch.from_numpy(_label_sums(counts["labels"], absent).matrices)}
    if "labels.weight" in counts:
        weights = _label_sums(counts.weight("labels"), absent).matrices
        found["weighted_confusion"] = torch.from_numpy(weights)
    return found


def _check_number(num_labels: object) -> None:
    if not options.is_whole(num_labels, 1, MOST_LABELS):
        cure = "Pass the number of outputs of the model's last layer."
        rule = f"a whole number from 1 to {MOST_LABELS}"
        raise ConfigError("num_labels", rule, repr(num_labels), cure)


def _check_scores_of_labels(scores: Sequence[ScoreSpec]) -> None:
    """Refuse scores of the user's own whose interval would take labels for independent."""
    for spec in scores:
        ratio = spec.each and spec.interval == "wilson"
        if isinstance(spec.interval, str) and spec.interval != "none" and not ratio:
            rule = 'each=True with interval="wilson", interval="none", or a function'
            cure = 'Labels of a row err together: pass interval="none", and groups=True for one.'
            raise ConfigError("scores", rule, f"{spec.name} with {spec.interval!r}", cure)
