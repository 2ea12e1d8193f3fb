"""`BinaryMetrics`: yes-or-no classification."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ptmetrics.class_formulas import JACCARD, PRECISION, RECALL, ClassSums, Ratio
from ptmetrics.counts.batch import At, Batch, Counted
from ptmetrics.counts.binary import BINARY_FAULT_KINDS, BinaryReader, binary_losses
from ptmetrics.counts.cell import Cell, State
from ptmetrics.counts.images import image_cells, image_counts, image_relations
from ptmetrics.counts.keys import FloatKeys
from ptmetrics.counts.multiclass import Inputs, sample_columns
from ptmetrics.counts.score_histogram import Curves, ScoreHistogram
from ptmetrics.counts.score_passes import wide
from ptmetrics.counts.stored_sums import StoredSums, losses_relations
from ptmetrics.counts.yesno_launch import YesNoKernel
from ptmetrics.errors import ConfigError
from ptmetrics.metrics import calibration, curves, options, score_bins
from ptmetrics.metrics.asked_scores import ASKED_SPECS, COUNTS_EACH
from ptmetrics.metrics.base import Metrics
from ptmetrics.metrics.class_scores import (
    CONFUSION_SPECS,
    F1_EACH,
    NO_CLASS,
    NO_SAMPLES,
    PRECISION_EACH,
    RECALL_EACH,
    SUPPORT,
    ClassCounts,
    f1_of_jaccard,
    fbeta_interval,
    fbeta_specs,
)
from ptmetrics.metrics.curves import kept_scores
from ptmetrics.metrics.estimate import Array, Estimate
from ptmetrics.metrics.host import Counts
from ptmetrics.metrics.image_scores import IMAGE_NAMES, POSITIVE_SCORES
from ptmetrics.metrics.samples import CLASS_FIELDS
from ptmetrics.metrics.score_bins import ScoreBins
from ptmetrics.metrics.score_curve import ScoreCurve
from ptmetrics.metrics.score_spec import ScoreSpec, ScoreTable, evaluate
from ptmetrics.metrics.two_classes import rare_class_interval

PIECE_ROWS = 1 << 17  # of a CPU batch, so that all that is made of them stays in the cache
CURVE = "curve"
NEGATIVE = 0
POSITIVE = 1
SELECTED = Ratio((0, 0, 1, 0), (0, 1, 0, 1))  # predicted, of all
ALL_NEGATIVE = "neither a target nor a prediction is positive"
ALL_POSITIVE = "neither a target nor a prediction is negative"


@dataclass(frozen=True)
class RatioOfClass:
    """A ratio of one of the classes, as a formula.

    Attributes:
        ratio: The ratio of each class.
        place: Which class.
    """

    ratio: Ratio
    place: int
    zero_division = True

    def __call__(self, sums: ClassSums) -> tuple[Array, Array]:
        """Numerator and denominator, shape (…)."""
        part, whole = self.ratio(sums)
        return part[..., self.place], whole[..., self.place]


@dataclass(frozen=True)
class OfPositive:
    """A number of the positive class, as a formula.

    Attributes:
        formula: The number of each class.
    """

    formula: Callable[[ClassSums], Array]

    def __call__(self, sums: ClassSums) -> Array:
        """Shape (…)."""
        return self.formula(sums)[..., POSITIVE]


def macro_f1_interval(spec: ScoreSpec, view: ClassCounts, intervals: bool) -> Estimate:
    """Mean of the ends of both classes' F1.

    A wrong row lowers the F1 of both classes, so their errors go together: the mean of the ends is
    nearly as narrow as can be, and holds where a class is rare, which the delta method does not.
    """
    each = evaluate([F1_EACH], view, intervals=intervals)[F1_EACH.name, True]
    mean = curves.mean_over_heads(each)
    return spec.estimate(mean.value, mean.low, mean.high, view.n)


def binary_spec(name: str, ratio: Ratio, place: int, doc: str, undefined: str) -> ScoreSpec:
    """A ratio of the positive class, or of the negative one."""
    formula = RatioOfClass(ratio, place)
    return ScoreSpec(name, formula, "wilson", doc=doc, undefined=undefined, absent=True)


def selection_rate(spec: ScoreSpec, view: ClassCounts, intervals: bool) -> Estimate:
    """Share of the rows that are predicted positive, of which neither more nor less is better."""
    found = evaluate([replace(spec, interval="wilson")], view, intervals=intervals)
    return replace(found[spec.name, False], higher_is_better=None)


def binary_fbeta_spec(beta: float) -> ScoreSpec:
    """F-beta of the positive class."""
    each = fbeta_specs(beta)[-1]

    def of_positive(spec: ScoreSpec, view: ClassCounts, intervals: bool) -> Estimate:
        return fbeta_interval(spec, view, intervals).part(POSITIVE)

    doc = f"F-beta of the positive class, recall {beta:g} times as important as precision."
    return replace(each, interval=of_positive, each=False, doc=doc, undefined=ALL_NEGATIVE)


_ADJUSTED = next(spec for spec in ASKED_SPECS if spec.name == "balanced_accuracy/adjusted")
_CONFUSION_SPEC = {spec.name: spec for spec in CONFUSION_SPECS}
BINARY_SPECS = (
    _CONFUSION_SPEC["accuracy"],
    _CONFUSION_SPEC["balanced_accuracy"],
    binary_spec(
        "precision",
        PRECISION,
        POSITIVE,
        "True positives over predicted positives.",
        ALL_NEGATIVE,
    ),
    binary_spec("recall", RECALL, POSITIVE, "True positives over positives.", ALL_NEGATIVE),
    binary_spec("specificity", RECALL, NEGATIVE, "True negatives over negatives.", ALL_POSITIVE),
    binary_spec(
        "npv",
        PRECISION,
        NEGATIVE,
        "Negative predictive value: true negatives over predicted negatives.",
        ALL_POSITIVE,
    ),
    ScoreSpec(
        "f1",
        RatioOfClass(JACCARD, POSITIVE),
        "wilson",
        doc="Harmonic mean of precision and recall.",
        undefined=ALL_NEGATIVE,
        source=F1_EACH.source,
        absent=True,
        through=f1_of_jaccard,
        method="wilson-jaccard",
    ),
    binary_spec(
        "jaccard",
        JACCARD,
        POSITIVE,
        "True positives over all rows that are positive or predicted so.",
        ALL_NEGATIVE,
    ),
    ScoreSpec(
        "selection_rate",
        RatioOfClass(SELECTED, POSITIVE),
        selection_rate,
        doc="Share of the rows that are predicted positive; neither more nor less is better.",
        undefined=NO_SAMPLES,
        method="wilson",
    ),
    replace(_CONFUSION_SPEC["mcc"], interval=rare_class_interval, method="delta-jaccard"),
    replace(_CONFUSION_SPEC["kappa"], interval=rare_class_interval, method="delta-jaccard"),
    _CONFUSION_SPEC["precision/macro"],
    _CONFUSION_SPEC["precision/weighted"],
    _CONFUSION_SPEC["recall/macro"],
    _CONFUSION_SPEC["recall/weighted"],
    ScoreSpec(
        "f1/macro",
        None,
        macro_f1_interval,
        doc="Mean of both classes' F1.",
        undefined=NO_CLASS,
        method="mean-of-ends",
    ),
    _CONFUSION_SPEC["f1/weighted"],
    PRECISION_EACH,
    RECALL_EACH,
    F1_EACH,
    SUPPORT,
)
BINARY_LOSS_SPECS = (
    replace(calibration.NLL, undefined=NO_SAMPLES),
    replace(
        calibration.BRIER,
        range=(0.0, 1.0),
        doc="Mean squared error of the positive's probability.",
        undefined=NO_SAMPLES,
    ),
    replace(calibration.OVER_CONFIDENCE, undefined=NO_SAMPLES),
)


class BinaryMetrics(Metrics):
    """Everything about yes-or-no predictions from one pass: counts, curves, losses, with intervals.

    `update(preds, target)` takes one score a target, of the target's shape or with a dimension 1 of
    length 1, or two scores in dimension 1, (N, 2) or (N, 2, d1, …): then the positive's is the
    second, and a logit is the margin z₁ − z₀. Two columns are always two classes. Targets are
    signed integers 0 and 1. With `inputs="labels"`, preds are signed integers too, and there are no
    curves or losses. NaN scores and targets other than 0 and 1 are refused, counted and reported in
    `scores.faults`.

    A row is predicted positive when its probability is `threshold` or more, as in scikit-learn's
    curves; logits are compared with logit(threshold) as they are, no sigmoid rounds them.

    AUROC and average precision come from a histogram of the scores in constant memory, each with a
    certified `error_bound`, by which its interval is widened: 0 where scores that share one of the
    64,513 rows of the histogram are equal, as rounded or quantised scores are, votes, and those of a
    float16 or bfloat16 model. `scores.roc_curve()`,
    `scores.pr_curve()` and `scores.thresholds()` draw the whole curve. Where the bound passes 1e-3
    for the AUROC or 5e-3 for the average precision, a note in `scores.notes` says which `curves`
    would hold it. The state cannot change to that by itself: its shape is fixed by the
    configuration, so that any two parts of a run can be added up.

    Args:
        inputs: What preds are: "logits", "probs" or "labels". Never guessed.
        threshold: Probability from which a row is predicted positive; for labels it has no meaning.
        ignore_index: A target value to leave out silently, such as −100.
        beta: Adds the score `fbeta`, in which recall counts `beta` times as much as precision, that
            of each class and their averages.
        class_names: Names of class 0 and class 1.
        absent: Value of a score that is undefined; NaN leaves it out of averages (scikit-learn's
            `zero_division`).
        losses: Whether to report `nll`, `brier` and `over_confidence`, which take more than half of
            the time of an update; where there are curves, also `ece` and `rms_calibration_error` of
            the positive's probability.
        temperature: Whether to report the `temperature` that would calibrate the logits, where
            there are curves.
        curves: "fp16" for 2 MiB, "fine" for 126 MiB and 64 times less doubt, "exact" for "fp16" and
            `capacity` scores beside it: error 0 for that many unweighted samples, the histogram for
            more. None keeps no scores.
        capacity: Number of scores that "exact" keeps, 8 bytes each.
        at: Points of the curve to report, by name: `"recall@precision>=0.9"` is the highest recall
            of all thresholds whose precision is .9 or more; likewise of recall (or sensitivity,
            tpr), precision and specificity at any other of them, such as
            `"sensitivity@specificity>=0.95"`, or at a false positive rate, `"tpr@fpr<=0.01"`;
            `"auroc@fpr<=0.1"` is the partial area, standardised as scikit-learn's `max_fpr`; `"eer"`
            the equal error rate.
        scores: Scores of your own, each a `pm.ScoreSpec` over the classes' counts; and names of
            scores that are computed when they are asked for: see docs/scores.md.
        slices: As for `pm.Metrics`.
        groups: As for `pm.Metrics`; None by default.
        device: As for `pm.Metrics`.

    Raises:
        ConfigError: If an argument cannot work.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> metrics = pm.BinaryMetrics(inputs="probs")
        >>> metrics.update(torch.tensor([0.9, 0.2, 0.6, 0.4]), torch.tensor([1, 0, 1, 1]))
        >>> scores = metrics.compute()
        >>> round(scores["recall"].value, 3)
        0.667
        >>> scores["auroc"].value
        1.0
        >>> scores.thresholds().tp.tolist()
        [3.0, 3.0, 2.0, 1.0]
    """

    task = "binary"
    headline = "accuracy"
    waits = True
    rows_at_once = PIECE_ROWS
    score_tables: tuple[ScoreTable, ...] = (
        ScoreTable(
            lambda metrics, counts: ClassCounts.of_cell(counts, "confusion"),
            BINARY_SPECS,
            "Yes-or-no classification",
        ),
        ScoreTable(
            lambda metrics, counts: counts.get(CURVE + score_bins.SUMMARY),
            curves.CURVE_SPECS,
            "Curves",
        ),
        ScoreTable(
            lambda metrics, counts: counts if "losses" in counts else None,
            BINARY_LOSS_SPECS,
            "Losses of probabilities of a yes",
        ),
        ScoreTable(
            calibration.reliability,
            (calibration.ECE, calibration.RMS_CALIBRATION_ERROR),
            "Calibration of the probability of a yes",
        ),
        ScoreTable(
            lambda metrics, counts: counts if "tempered" in counts else None,
            (calibration.TEMPERATURE,),
            "Temperature",
        ),
    )

    optional_tables = (
        ScoreTable(
            lambda metrics, counts: ClassCounts.of_cell(counts, "confusion"),
            (
                *(
                    replace(spec, formula=OfPositive(spec.formula), each=False)
                    for spec in COUNTS_EACH
                ),
                _ADJUSTED,
            ),
        ),
        POSITIVE_SCORES,
        calibration.CALIBRATION_ASKED,
    )

    def __init__(
        self,
        *,
        inputs: Inputs = "logits",
        threshold: float = 0.5,
        ignore_index: int | None = None,
        beta: float | None = None,
        class_names: Sequence[str] | None = None,
        absent: float = math.nan,
        losses: bool = True,
        temperature: bool = False,
        curves: Curves | None = "fp16",
        capacity: int = 1_000_000,
        at: Sequence[str] = (),
        scores: Sequence[ScoreSpec | str] = (),
        slices: Sequence[str] | int = (),
        groups: bool | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        _check_binary(inputs, threshold, curves, losses=losses, temperature=temperature)
        options.check_ignore_index(ignore_index)
        options.check_beta(beta)
        options.check_absent(absent)
        self.inputs = inputs
        self.threshold = threshold
        self.ignore_index = ignore_index
        self.beta = beta
        self.class_names = options.names("class_names", class_names, 2, "class")
        self.absent = float(absent)
        self.losses = losses
        self.temperature = temperature
        self.curves = curves
        self.fault_kinds = BINARY_FAULT_KINDS[inputs]
        self._reader = BinaryReader(inputs, _cut(inputs, threshold), ignore_index)
        histogram = ScoreHistogram(CURVE, FloatKeys())
        self._curve = kept_scores(histogram, inputs, curves, capacity, at)
        self._own_scores, self.asked = options.own_specs(scores, self.optional_tables)
        self.whole_samples = not self.asked.isdisjoint(IMAGE_NAMES)
        kept = losses and self._curve is not None
        where = "scores with losses and curves"
        calibration.check_kept(self.asked, calibration.CALIBRATION_ASKED, kept, where)
        if self._is_ordinary:
            found = getattr(self._curve, "histogram", None)
            self._kernel = YesNoKernel(inputs, self._reader.cut, ignore_index, found)
        super().__init__(slices=slices, groups=groups, device=device)

    @property
    def _is_ordinary(self) -> bool:
        """Whether all that is counted of a row is what a kernel counts."""
        if type(self).count is not BinaryMetrics.count or self.whole_samples:
            return False
        return self._curve is None or self._curve.store is None

    def counted_arguments(self) -> dict[str, Any]:
        """The plain values that fix what is counted."""
        return {
            "num_classes": 2,
            "inputs": self.inputs,
            "threshold": self.threshold,
            "ignore_index": self.ignore_index,
            "losses": self.losses,
            "curves": self.curves,
        }

    def cells(self) -> list[Cell]:
        """The confusion matrix, a histogram of the scores, stored scores, losses, as wanted."""
        cells = []
        # Rows of the histogram part at probability ½: at that threshold it holds the decisions.
        if self._curve is not None and self.threshold == 0.5:
            cells.append(Cell("confusion", (2, 2), scope="subgroups"))
        else:
            cells.append(Cell("confusion", (2, 2)))
        if self._curve is not None:
            cells.extend(self._curve.cells())
        if self.losses and self.inputs != "labels":
            cells.append(Cell("losses", (3,), torch.float64, merge="mean"))
        if self.whole_samples:
            cells.extend(image_cells(2))
        return cells

    def check(self, preds: Tensor, target: Tensor, sample_weight: Tensor | None) -> Batch:
        """Refuse what shapes, types and devices tell; one row a target."""
        return self._reader.check(self.device, preds, target, sample_weight)

    def row_shape(self, target: Tensor) -> tuple[int, ...]:
        """One row a target."""
        return tuple(target.shape)

    def count(self, batch: Batch) -> dict[str, Counted]:
        """Read the scores once, and say where each row counts."""
        reader = self._reader
        raw, target = reader.read(batch)
        counts: dict[str, Counted] = {}
        if (
            self._curve is None
            or self.threshold != 0.5
            or batch.slices is not None
            or batch.group is not None
        ):
            place = torch.add(reader.decide(raw), target, alpha=2)
            counts["confusion"] = At(place, within=True)
        if self._curve is not None:
            score = raw
            if isinstance(self._curve.histogram.keys, FloatKeys):
                score = reader.logit(raw)
            state = self._accumulator.state
            counts.update(self._curve.count(state, batch, score, target, batch.counted, raw))
        if self.whole_samples:
            label = reader.decide(raw).long()
            counts.update(image_counts(batch, label, target.clamp(0, 1), 2, (0,)))
        loss = None
        if self.inputs != "labels" and (self.losses or self.keeps_samples):
            losses = binary_losses(reader.logit(raw).to(wide(raw)), target)
            loss = losses[:, 0]
            if self.losses:
                counts["losses"] = losses
        if self.keeps_samples:
            kept = None
            if self.inputs != "labels":
                kept = raw.unsqueeze(0)
            counts["samples"] = sample_columns(batch, reader.decide(raw), loss, kept)
        return counts

    @property
    def sample_fields(self) -> tuple[str, ...]:
        """Those of classes, and the score."""
        if self.inputs == "labels":
            return CLASS_FIELDS
        return (*CLASS_FIELDS, "score")

    def stored_relations(self, sums: StoredSums) -> Iterator[tuple[str, Tensor]]:
        """Each row has one decision, one score and one loss."""
        rows = sums["rows"]
        if "confusion" in sums:
            yield "as many decisions as rows", sums.same(sums["confusion"].sum((-1, -2)), rows)
        if self._curve is not None:
            yield from self._curve.stored_relations(sums, rows)
        if "losses" in sums:
            yield from losses_relations(sums["losses"], 1.0)
        yield from image_relations(sums)

    def summarize(self, state: State) -> State:
        """The histogram and the stored scores are summed up on the device."""
        if self._curve is None:
            return state
        keys = self._curve.histogram.keys
        bins = ScoreBins.of_histogram(state, self._curve.histogram)
        small = self._curve.summarize(state, bins)
        if "confusion" not in state:
            small.update(_decisions(bins, keys.first_positive))
        if self.losses:
            probs = self.inputs == "probs"
            small["reliability"] = calibration.reliability_of_histogram(bins, keys, probs=probs)
            if self.temperature:
                small["tempered"] = calibration.nll_of_temperatures(bins, keys, probs=probs)
        return small

    def details(self, state: State, counts: Counts) -> dict[str, Any]:
        """The matrix, the curve, and a note where a bound passes its tolerance."""
        details: dict[str, Any] = {"confusion": torch.from_numpy(counts["confusion"])}
        if "confusion.weight" in counts:
            details["weighted_confusion"] = torch.from_numpy(counts["confusion.weight"])
        if self._curve is None:
            return details
        if "reliability" in counts:
            details["reliability"] = partial(calibration.reliability_table, counts)
        summary = counts[CURVE + score_bins.SUMMARY]
        details["notes"] = curves.notes_of(summary, self._curve.histogram.keys)
        details["curve"] = ScoreCurve.of_kept(
            self._curve, state, counts.n, probs=self.inputs == "probs"
        )
        return details

    def tables(self) -> tuple[ScoreTable, ...]:
        """Those of the class, with F-beta where it is wanted, and the user's own."""
        confusion, drawn, *others = type(self).score_tables
        if self._curve is not None:
            points = curves.point_specs(self._curve.at, heads=False)
            drawn = replace(drawn, specs=(*drawn.specs, *points))
        specs = list(confusion.specs)
        if self.beta is not None:
            specs += [binary_fbeta_spec(self.beta), *fbeta_specs(self.beta)]
        specs.extend(self._own_scores)
        return (replace(confusion, specs=tuple(specs)), drawn, *others)


def _cut(inputs: Inputs, threshold: float) -> float:
    """The threshold in the unit of the predictions."""
    if inputs == "labels":
        return 1.0
    if inputs == "probs":
        return threshold
    if not 0 < threshold < 1:
        return math.copysign(math.inf, threshold - 0.5)
    return math.log(threshold / (1 - threshold))


def _decisions(bins: ScoreBins, first_positive: int) -> State:
    """The confusion matrix of a histogram whose rows are predicted positive from one of them on."""

    def matrix(rows: Tensor) -> Tensor:
        return torch.stack((rows[:first_positive].sum(0), rows[first_positive:].sum(0)), 1)

    found = {"confusion": matrix(bins.count)}
    if bins.weight is not bins.square:  # one tensor where no weight was ever given
        found["confusion.weight"] = matrix(bins.weight)
        found["confusion.square"] = matrix(bins.square)
    return found


def _check_binary(
    inputs: Inputs,
    threshold: float,
    curves: str | None,
    *,
    losses: bool,
    temperature: bool,
) -> None:
    options.check_inputs(inputs)
    if not options.is_number(threshold) or not 0 <= threshold <= 1:
        cure = "For logits pass the probability too: threshold=0.5 is logit 0."
        raise ConfigError("threshold", "a probability from 0 to 1", repr(threshold), cure)
    options.check_flags(losses=losses, temperature=temperature)
    if temperature and (inputs == "labels" or not losses or curves is None):
        fact = f'True beside inputs="{inputs}", losses={losses}, curves={curves!r}'
        cure = "It is read off the curves: leave losses and curves as they are."
        raise ConfigError("temperature", "False, or scores with losses and curves", fact, cure)
