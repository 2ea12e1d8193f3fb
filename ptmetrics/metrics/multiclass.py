"""`MulticlassMetrics`: single-label classification."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ptmetrics.class_formulas import ClassSums
from ptmetrics.counts.batch import At, Batch, Counted
from ptmetrics.counts.cell import Cell, State
from ptmetrics.counts.checks import in_memory
from ptmetrics.counts.class_launch import MOST_KERNEL_KS, ClassKernel
from ptmetrics.counts.confused_pairs import ConfusedPairs
from ptmetrics.counts.images import image_cells, image_counts, image_relations
from ptmetrics.counts.keys import FloatKeys
from ptmetrics.counts.modes import exact_arithmetic
from ptmetrics.counts.multiclass import (
    CONFIDENCE_BINS,
    FAULT_KINDS,
    NOTE_KINDS,
    TEMPERATURES,
    ClassReader,
    ClassRows,
    Inputs,
    sample_columns,
)
from ptmetrics.counts.score_histogram import MOST_HEADS, Curves, ScoreHistogram
from ptmetrics.counts.score_passes import PIECE, TABLE_COLUMNS, ScorePasses
from ptmetrics.counts.small_batches import batches_that_fit
from ptmetrics.counts.stored_sums import WEIGHT_ROUNDING, StoredSums, losses_relations
from ptmetrics.errors import ConfigError
from ptmetrics.metrics import options
from ptmetrics.metrics.asked_scores import ASKED_SPECS, KAPPAS
from ptmetrics.metrics.base import Metrics
from ptmetrics.metrics.calibration import (
    BRIER,
    CALIBRATION_ASKED,
    CLASSWISE,
    CLASSWISE_ASKED,
    ECE,
    NLL,
    OVER_CONFIDENCE,
    PERPLEXITY,
    RMS_CALIBRATION_ERROR,
    TEMPERATURE,
    check_kept,
    reliability,
    reliability_of_heads,
    reliability_table,
)
from ptmetrics.metrics.class_scores import (
    CLASS_SPECS,
    CONFUSION_SPECS,
    PRECISION_EACH,
    RECALL_EACH,
    SUPPORT,
    ClassCounts,
    all_hits,
    averages_among,
    class_counts,
    fbeta_specs,
)
from ptmetrics.metrics.curves import (
    CURVE_SPECS_OF_HEADS,
    OVO,
    OVO_WEIGHTED,
    kept_scores,
    notes_of,
    point_specs,
)
from ptmetrics.metrics.estimate import Array
from ptmetrics.metrics.host import Counts, kept
from ptmetrics.metrics.image_scores import IMAGE_NAMES, IMAGE_SCORES, OVERLAP_NAMES
from ptmetrics.metrics.samples import CLASS_FIELDS, MARGIN, MOST_MARGINS
from ptmetrics.metrics.score import ConfusedPair
from ptmetrics.metrics.score_bins import ONE_VS_ONE, SUMMARY, KeptScores
from ptmetrics.metrics.score_curve import ScoreCurve
from ptmetrics.metrics.score_spec import ScoreSpec, ScoreTable
from ptmetrics.metrics.top_k import top_k_spec, top_k_table

MAX_CLASSES = 4096  # whose matrix is kept: it takes 8 · C² bytes, 128 MiB
MOST_CLASSES = (
    200_000  # whose margins are kept, 24 bytes a class, and a sketch of the pairs of 4.6 MiB
)
PAIRS = 20
ONE_VS_REST = "one_vs_rest"
MANY = (
    f"More than {MAX_CLASSES} classes: no confusion matrix is kept. Intervals of F1, Jaccard index, MCC, kappa and "
    "weighted means are as wide as any matrix with these margins could make them; the most confused pairs have bounds."
)


def hit_counts(metrics: Any, counts: Counts) -> ClassCounts:
    """Hits and rows, as those of one class: enough for what is the accuracy by another name."""
    sums = []
    for kind in (counts.weight, counts.square, counts.__getitem__):
        rows = kind("rows")[..., None]
        sums.append(ClassSums.of_margins(kind("hits")[..., None], rows, rows, counts.absent))
    weights, squares, numbers = sums
    return ClassCounts(weights, squares, numbers, counts.absent)


CONFUSION_SCORES = ScoreTable(
    class_counts, (*CONFUSION_SPECS, *CLASS_SPECS), "Single-label classification", stacks=True
)
LOSS_SCORES = ScoreTable(
    lambda metrics, counts: counts if "losses" in counts else None,
    (NLL, PERPLEXITY, BRIER, OVER_CONFIDENCE),
    "Losses of probabilities",
    stacks=True,
)
CALIBRATION_SCORES = ScoreTable(
    reliability,
    (ECE, RMS_CALIBRATION_ERROR),
    "Calibration",
    stacks=True,
)
TEMPERATURE_SCORES = ScoreTable(
    lambda metrics, counts: counts if "tempered" in counts else None, (TEMPERATURE,), "Temperature"
)
CURVE_SCORES = ScoreTable(
    lambda metrics, counts: counts.get(ONE_VS_REST + SUMMARY),
    CURVE_SPECS_OF_HEADS,
    "Curves of each class against the rest",
)


def pairs_of_classes(metrics: Any, counts: Counts) -> Array | None:
    """Summaries of each class against each, of those that averages are over."""
    pairs: Array | None = counts.get(ONE_VS_REST + ONE_VS_ONE)
    if pairs is None or metrics._among is None:
        return pairs
    classes = metrics.num_classes
    square = pairs.reshape(-1, classes, classes)[:, list(metrics._among)][
        :, :, list(metrics._among)
    ]
    return square.reshape(len(square), -1)


PAIR_SCORES = ScoreTable(
    pairs_of_classes,
    (OVO, OVO_WEIGHTED),
    "Curves of each class against each other",
)


class MulticlassMetrics(Metrics):
    """Accuracy, precision, recall, F1, MCC, kappa, top-k, losses and calibration from one pass, each with an interval.

    `update(preds, target)` takes scores of shape (N, C), of shape (N, C, d1, …), as torch's losses
    want them, or classes last, (N, d1, …, C); or classes of shape (N, …) with `inputs="labels"`;
    and signed integer targets of shape (N, …). Which dimension holds the classes is read off C and
    the shape of the target; where that leaves it open, `class_dim` is asked for. Of equal scores
    the lowest class wins. NaN rows and targets outside the classes are refused, counted and
    reported in `scores.faults`.

    Pixels of an image and tokens of a text are rows, and `n` is their number. They are not
    independent, so the image or text is the group of its rows: see `groups`. Scores whose unit is the
    image or text itself, such as "dice/image", can be asked for: `scores`. Each then weighs as its
    heaviest pixel, and is of the slice and the group of that one.

    Soft targets, as of mixup, cutmix or label smoothing, are floating point of the shape of the
    scores, and each row sums to 1. `nll` and `brier` are against the whole of them, all else
    against the heaviest class; rows without one are left out. A note says so.

    Args:
        num_classes: C, 2 to 200,000. Above 4,096 only the margins of the confusion matrix are kept,
            and a sketch of the most confused pairs (`scores.confused`); groups keep hits, totals
            and losses then: accuracy, top-k accuracy, nll and perplexity have intervals by groups,
            those of means over the classes take rows for independent. The state of a vocabulary of
            50,257 takes 5.3 MiB.
        inputs: What preds are: "logits", "probs" or "labels". Never guessed.
        topk: The k of top-k accuracy, which is recall at k; 1 is `accuracy` itself, and all there
            is for labels.
        ignore_index: A target value to leave out silently, such as −100.
        class_names: One name a class.
        labels: The classes that macro, micro and weighted averages are over, as numbers or names, such
            as all but the background or the tag "O"; those of curves and of `ece/classwise` too; None
            for all. Accuracy, balanced accuracy, MCC
            and kappa are of all classes. A class that is `ignore_index` is never among them.
        beta: Adds `fbeta` of each class and its averages `fbeta/macro`, `fbeta/micro` and
            `fbeta/weighted`, recall `beta` times as important as precision.
        losses: Whether to report `nll`, `brier`, `ece`, `rms_calibration_error` and
            `over_confidence`: about half of the time of an update.
        curves: Whether to report AUROC and average precision of each class against the rest, with
            certified error bounds, and to draw their curves: True or "fp16" for up to 1,024
            classes, 2 MiB a class up to 64, 126 KiB above, and several times the time of an update;
            "fine" for 126 MiB a class and 64 times less doubt; "exact" for the scores themselves
            beside "fp16", 8 · C bytes a row, and `auroc/ovo` up to 32 classes; 4 GiB at most. A
            class ranks the rows by its probability, softmax(logits), not by its logit.
        capacity: Number of rows whose scores "exact" keeps.
        at: Points of the curve of each class to report, as for `BinaryMetrics`: of each class, and
            their mean as `NAME/macro`.
        temperature: Whether to report the `temperature` that would calibrate the logits: ten times
            the time.
        class_dim: The dimension of scores that holds the classes, 1 or −1; None reads it off the
            shapes.
        absent: Value of a class score that is undefined; NaN leaves it out of averages
            (scikit-learn's `zero_division`, 0 to 1 or NaN).
        scores: Scores of your own, each a `pm.ScoreSpec` over the classes' counts; and names of
            scores that are computed when they are asked for, see docs/scores.md: those whose unit
            is the image or text, such as "dice/image" and "exact_match", or those at a k of `topk`,
            such as "top5_recall/macro".
        slices: As for `pm.Metrics`.
        groups: As for `pm.Metrics`; None by default.
        device: As for `pm.Metrics`.

    Raises:
        ConfigError: If an argument cannot work.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> metrics = pm.MulticlassMetrics(num_classes=3)
        >>> logits = torch.tensor([[2.0, 0.1, 0.3], [0.2, 1.5, 0.1], [0.9, 0.8, 0.7]])
        >>> metrics.update(logits, torch.tensor([0, 1, 2]))
        >>> scores = metrics.compute()
        >>> round(scores["accuracy"].value, 3)
        0.667
        >>> scores.per_class["recall"][2].value
        0.0
    """

    task = "multiclass"
    headline = "accuracy"
    score_tables: tuple[ScoreTable, ...] = (
        CONFUSION_SCORES,
        LOSS_SCORES,
        CALIBRATION_SCORES,
        TEMPERATURE_SCORES,
        PAIR_SCORES,
        CURVE_SCORES,
    )
    optional_tables = (
        ScoreTable(class_counts, ASKED_SPECS),
        IMAGE_SCORES,
        CALIBRATION_ASKED,
        CLASSWISE_ASKED,
    )
    waits = True
    note_kinds = NOTE_KINDS

    def __init__(
        self,
        num_classes: int,
        *,
        inputs: Inputs = "logits",
        topk: Sequence[int] = (1,),
        ignore_index: int | None = None,
        class_names: Sequence[str] | None = None,
        labels: Sequence[int | str] | None = None,
        beta: float | None = None,
        losses: bool = True,
        curves: bool | Curves | None = False,
        capacity: int = 100_000,
        at: Sequence[str] = (),
        temperature: bool = False,
        class_dim: int | None = None,
        absent: float = math.nan,
        scores: Sequence[ScoreSpec | str] = (),
        slices: Sequence[str] | int = (),
        groups: bool | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        _check_multiclass(num_classes, inputs, topk, curves, temperature, losses)
        options.check_ignore_index(ignore_index)
        options.check_beta(beta)
        options.check_absent(absent)
        options.check_class_dim(class_dim)
        self.num_classes = num_classes
        self.inputs = inputs
        self.ignore_index = ignore_index
        self.topk = tuple(topk)
        self.class_names = options.names("class_names", class_names, num_classes, "class")
        self._among = self._averaged_over(labels)
        self.absent = float(absent)
        self.beta = beta
        self.fault_kinds = FAULT_KINDS[inputs]
        scored = inputs != "labels"
        self._ks = tuple(k for k in topk if k > 1)
        self._losses = losses and scored
        self._tempered = temperature
        self._pairs = ConfusedPairs(num_classes) if num_classes > MAX_CLASSES else None
        heads = (num_classes,)
        histogram = ScoreHistogram(ONE_VS_REST, FloatKeys(), heads, num_classes)
        self._curve = kept_scores(histogram, inputs, curves, capacity, at, self._among)
        self._own_scores, self.asked = options.own_specs(scores, self.asked_tables())
        check_kept(self.asked, CALIBRATION_ASKED, self._losses, "scores with losses")
        self._classwise = check_kept(self.asked, CLASSWISE_ASKED, self._curve, "curves=True")
        self._kappas = not self.asked.isdisjoint(KAPPAS)
        self._overlaps = 0  # how many classes have overlaps of images
        if not self.asked.isdisjoint(OVERLAP_NAMES):
            self._overlaps = num_classes
        self.whole_samples = not self.asked.isdisjoint(IMAGE_NAMES)
        starts = tuple(name.partition("_")[0] for name in self.asked)
        self._asked_at = {f"top{k}_": k for k in self._ks if f"top{k}" in starts}
        if self._pairs is not None and (self._kappas or self._overlaps):
            cure = "Leave it out, or tell fewer classes apart."
            rule = f"no weighted kappa, Dice or IoU of images above {MAX_CLASSES} classes"
            raise ConfigError("scores", rule, f"{num_classes} classes", cure)
        if self._curve is not None or temperature or self._overlaps:
            self.rows_at_once = max(1, PIECE // num_classes)
        passes = None
        if scored:
            # Probabilities are only taken for such where they sum to 1, which is seen on the way to
            # the losses.
            sums = losses or temperature or inputs == "probs"
            passes = ScorePasses(num_classes, inputs == "probs", sums, bool(self._ks))
        self._reader = ClassReader(num_classes, inputs, ignore_index, passes, class_dim)
        if scored and self._is_ordinary:
            ks = self._ks
            if self._pairs is not None:
                ks = (1, *ks)
            digits = self._curve.histogram.keys.digits if self._curve is not None else 0
            self._kernel = ClassKernel(
                num_classes, inputs == "probs", ignore_index, ks, digits, temperature
            )
        super().__init__(slices=slices, groups=groups, device=device)

    @property
    def _is_ordinary(self) -> bool:
        """Whether all that is counted of a row is what a kernel counts."""
        if type(self).count is not MulticlassMetrics.count or len(self._ks) > MOST_KERNEL_KS:
            return False
        if self._curve is not None and self._curve.store is not None:
            return False
        return not (self._asked_at or self.whole_samples or self._kappas)

    def counted_arguments(self) -> dict[str, Any]:
        """The plain values that fix what is counted."""
        arguments = {
            "num_classes": self.num_classes,
            "inputs": self.inputs,
            "ignore_index": self.ignore_index,
            "topk": list(self.topk),
        }
        if self._overlaps and self._among is not None:
            arguments["labels"] = list(self._among)
        return arguments

    def cells(self) -> list[Cell]:
        """The confusion matrix, or its margins; top-k hits, losses, confidence and curves where they are wanted."""
        cells = self._cells_of_classes()
        if self._ks:
            cells.append(Cell("topk_hits", (len(self._ks),)))
        if self.whole_samples:
            cells.extend(image_cells(self._overlaps))
        if self._losses:
            cells.append(Cell("losses", (3,), torch.float64, merge="mean"))
            cells.append(Cell("calibration", (CONFIDENCE_BINS, 2), scope="whole"))
            cells.append(Cell("confidence", (CONFIDENCE_BINS,), torch.float64, scope="whole"))
        if self._tempered:
            size = (len(TEMPERATURES) + 1,)
            cells.append(Cell("tempered", size, torch.float64, scope="whole"))
        if self._curve is not None:
            cells.extend(self._curve.cells())
        return cells

    def _cells_of_classes(self) -> list[Cell]:
        classes = self.num_classes
        cells = []
        for front in ("", *self._asked_at):
            confusion = Cell(f"{front}confusion", (classes, classes), scope="whole")
            margins = Cell(f"{front}margins", (3, classes), scope="subgroups")
            if self._pairs is not None:
                cells.append(replace(margins, scope="slices"))
            elif self._kappas:
                cells.append(replace(confusion, scope="both"))  # margins do not tell distances
            else:
                cells.extend((confusion, margins))
        if self._pairs is not None:
            # By groups hits and totals are enough: margins would take 1.5 KiB a class, and seconds.
            cells.append(Cell("hits"))
            cells.append(self._pairs.cell())
        return cells

    def asked_tables(self) -> tuple[ScoreTable, ...]:
        """Those of the class, and those at each k."""
        return (*self.optional_tables, *map(top_k_table, self._ks))

    def tables(self) -> tuple[ScoreTable, ...]:
        """Those of the class, with F-beta and top-k accuracy where they are wanted, and the user's own."""
        confusion, *others = type(self).score_tables
        if self._curve is not None:
            drawn = others.pop()
            points = point_specs(self._curve.at, heads=True)
            others.append(replace(drawn, specs=(*drawn.specs, *points)))
        specs = list(confusion.specs)
        if self._pairs is not None:  # a record of so many numbers is read by nobody
            specs = [*CONFUSION_SPECS, PRECISION_EACH, RECALL_EACH, SUPPORT]
        if self.beta is not None:
            specs.extend(fbeta_specs(self.beta))
        specs.extend(self._own_scores)
        top_k = tuple(top_k_spec(place, k) for place, k in enumerate(self._ks))
        if top_k:
            others = [ScoreTable(lambda metrics, counts: counts, top_k), *others]
        if self._pairs is None:
            stacks = not self._own_scores  # those of a user may look at the first dimension
            return (replace(confusion, specs=tuple(specs), stacks=stacks), *others)
        over: Sequence[ScoreSpec] = specs
        if self._among is not None:  # micro averages of some classes are no accuracies
            over = averages_among(specs, self._among, self.beta)
        alike = [spec.name for spec in over if spec.formula is all_hits]
        accuracies = tuple(spec for spec in specs if spec.name in alike)
        means = tuple(spec for spec in specs if spec.name not in alike)
        hits = ScoreTable(hit_counts, accuracies, confusion.title)
        margins = ScoreTable(class_counts, means, confusion.title)
        return (hits, margins, *others)

    def _averaged_over(self, labels: Sequence[int | str] | None) -> tuple[int, ...] | None:
        """The classes that averages are over; None for all."""
        ignored = self.ignore_index
        if labels is None and (ignored is None or not 0 <= ignored < self.num_classes):
            return None
        among = tuple(range(self.num_classes))
        if labels is not None:
            among = options.classes_of(labels, self.class_names)
        return tuple(place for place in among if place != ignored)

    def _all_tables(self) -> tuple[ScoreTable, ...]:
        tables = super()._all_tables()
        if self._among is None:
            return tables
        return tuple(
            replace(t, specs=averages_among(t.specs, self._among, self.beta)) for t in tables
        )

    def check(self, preds: Tensor, target: Tensor, sample_weight: Tensor | None) -> Batch:
        """Refuse what shapes, types and devices tell; one row a target."""
        return self._reader.check(
            self.device,
            preds,
            target,
            sample_weight,
            by_criterion=self._by_criterion,
            in_place=self._kernel is not None,
        )

    def row_shape(self, target: Tensor) -> tuple[int, ...]:
        """One row a target."""
        return self._reader.row_shape(target, by_criterion=self._by_criterion)

    def read_ahead(self, batch: Batch) -> None:
        """Of more scores than may wait a few numbers a row are read, which may."""
        rows, scores = len(batch), batch.preds
        if self._kernel is None or not in_memory(scores) or batch.target.is_floating_point():
            return
        if self._reads_in_place(batch):
            return
        few = TABLE_COLUMNS * rows * scores.element_size()
        if batches_that_fit(rows, scores.nbytes, "cpu") or not batches_that_fit(rows, few, "cpu"):
            return
        batch.let_go_of_graphs()
        with exact_arithmetic(scores.device):
            self._reader.read_ahead(batch)

    def count(self, batch: Batch) -> dict[str, Counted]:
        """Read the scores once, and say where each row counts."""
        rows = self._reader.read(batch)
        counts: dict[str, Counted] = {}
        self._count_classes(batch, rows, counts)
        if self.whole_samples:
            left_out: list[int] = []
            if self._among is not None:
                left_out = sorted(set(range(self.num_classes)).difference(self._among))
            counts.update(image_counts(batch, rows.label, rows.target, self._overlaps, left_out))
        loss = None
        if self._losses:
            loss = self._count_losses(rows, counts)
        if self._tempered:
            counts["tempered"] = self._reader.nll_of_temperatures(batch, rows)
        margin = None
        if self._curve is not None:
            margin = self._reader.margins(batch.preds)
            counts.update(self._count_curve(self._curve, batch, rows, margin))
        if self.keeps_samples:
            further = []
            if self._ks and rows.columns is not None:
                further.append(rows.columns.rank.int().view(torch.float32).unsqueeze(0))
            if margin is not None and self._keeps_margins:
                further.append(margin.T.float())
            bits = None
            if further:
                bits = torch.cat(further)
            counts["samples"] = sample_columns(batch, rows.label, loss, bits)
        return counts

    @property
    def sample_fields(self) -> tuple[str, ...]:
        """Those of classes; the rank of the target beside top-k accuracies, each class's margin beside curves."""
        fields = list(CLASS_FIELDS)
        if self._ks:
            fields.append("rank")
        if self._keeps_margins:
            fields.extend(f"{MARGIN}{label}" for label in range(self.num_classes))
        return tuple(fields)

    @property
    def _keeps_margins(self) -> bool:
        return self._curve is not None and self.num_classes <= MOST_MARGINS

    def stored_relations(self, sums: StoredSums) -> Iterator[tuple[str, Tensor]]:
        """Each row has one class, one prediction and, at most, one loss and confidence."""
        rows = sums["rows"]
        for front in ("", *self._asked_at):
            matrix = sums.get(f"{front}confusion")
            margins = sums.get(f"{front}margins")
            if matrix is not None:
                yield "as many predictions as rows", sums.same(matrix.sum((-1, -2)), rows)
            if margins is not None:
                hits, actual, predicted = margins.unbind(-2)
                yield "as many targets as rows", sums.same(actual.sum(-1), rows)
                yield "as many predictions as rows", sums.same(predicted.sum(-1), rows)
                yield "no more hits than targets", sums.at_most(hits, actual)
                yield "no more hits than predictions", sums.at_most(hits, predicted)
        yield from image_relations(sums)
        if "hits" in sums:
            yield "no more hits than rows", sums.at_most(sums["hits"], rows)
        if "topk_hits" in sums:
            ranks = sums["topk_hits"]
            yield (
                "no more hits than rows",
                sums.at_most(ranks, rows.unsqueeze(-1).expand(ranks.shape)),
            )
        if "pairs" in sums:
            ones = sums["pairs"]
            yield "no more bits than pairs", (ones <= ones[..., :1]) & (ones[..., :1] <= rows)
        if "losses" in sums:
            yield from losses_relations(sums["losses"], 2.0)
        yield from self._relations_of_scores(sums)

    def _relations_of_scores(self, sums: StoredSums) -> Iterator[tuple[str, Tensor]]:
        if "calibration" in sums:
            bins = sums["calibration"].sum(-1)
            likely = sums.of_mean(sums["losses"])
            yield "as many confidences as losses", sums.same(bins.sum(), likely)
            sure = sums["confidence"]
            if sums.are("weight"):
                edge = torch.arange(CONFIDENCE_BINS + 1, device=bins.device) / CONFIDENCE_BINS
                most = bins * edge[1:] * (1 + WEIGHT_ROUNDING)
                least = bins * edge[:-1] * (1 - WEIGHT_ROUNDING)
                yield "confidences that lie in their bins", (sure >= least) & (sure <= most)
        if "tempered" in sums:
            loss = sums["tempered"]
            yield "losses of 0 or more that are finite", (loss >= 0) & loss.isfinite()
        if self._curve is not None and ONE_VS_REST in sums:
            first = sums[ONE_VS_REST][0].sum()
            yield "no more scores than rows", sums.at_most(first, sums["rows"])
            yield from self._curve.stored_relations(sums, first)

    def summarize(self, state: State) -> State:
        """The curves are summed up on the device, the most confused pairs found there."""
        if self._curve is not None:
            small = self._curve.summarize(state)
            if self._classwise:
                shift = math.log(self.num_classes - 1)
                small[CLASSWISE] = reliability_of_heads(state, self._curve, shift)
            state = small
        if self._pairs is not None:
            heaviest = torch.stack(self._pairs.heaviest(state["pairs"], PAIRS))
            state = {**state, "pairs": heaviest}
        return state

    def details(self, state: State, counts: Counts) -> dict[str, Any]:
        """The matrix, or the most confused pairs; the curves, and notes where a bound passes its tolerance."""
        if self._pairs is None:
            details: dict[str, Any] = {"confusion": kept(counts, "confusion")}
            if "confusion.weight" in counts:
                details["weighted_confusion"] = kept(counts, "confusion.weight")
            if self._curve is not None:
                keys = self._curve.histogram.keys
                details["notes"] = notes_of(counts[ONE_VS_REST + SUMMARY], keys)
                shift = math.log(self.num_classes - 1)
                details["curve"] = ScoreCurve.of_kept(
                    self._curve,
                    state,
                    counts.n,
                    probs=True,
                    shift=shift,
                    margins=self.inputs == "logits",
                )
            if "calibration" in counts:
                details["reliability"] = partial(reliability_table, counts)
            return details
        confused = []
        for code, low, high in counts["pairs"].T.tolist():
            if low > 0:
                actual, predicted = divmod(code, self.num_classes)
                confused.append(ConfusedPair(actual, predicted, low, high))
        return {"confused": confused, "notes": [MANY]}

    def fresh(self) -> MulticlassMetrics:
        """A metric of the same configuration that has counted nothing, with buffers of its own."""
        other = super().fresh()
        if self._reader.passes is not None:
            other._reader = replace(self._reader, passes=replace(self._reader.passes))
        return other

    def _count_classes(self, batch: Batch, rows: ClassRows, counts: dict[str, Counted]) -> None:
        classes = self.num_classes
        target = rows.target
        labels = {"": rows.label}
        if self._ks and rows.columns is not None:
            rank = rows.columns.rank
            hits = [torch.where(rank < k, i, len(self._ks)) for i, k in enumerate(self._ks)]
            counts["topk_hits"] = At(torch.stack(hits, 1))
            for front, k in self._asked_at.items():
                labels[front] = torch.where(rank < k, target, rows.label)
        parts = batch.slices is not None or batch.group is not None
        for front, label in labels.items():
            place = torch.add(label, target, alpha=classes)
            if self._pairs is None:
                counts[f"{front}confusion"] = At(place, within=True)
            elif not front:
                counts["pairs"] = self._pairs.count(place, batch)
                counts["hits"] = label == target
            if self._pairs is not None or (parts and not self._kappas):
                hit = torch.where(label == target, target, 3 * classes)
                margins = torch.stack((hit, target + classes, label + 2 * classes), 1)
                counts[f"{front}margins"] = At(margins)

    def _count_losses(self, rows: ClassRows, counts: dict[str, Counted]) -> Tensor:
        assert rows.columns is not None  # labels have no losses
        sure = self._reader.confidence(rows.columns)
        losses = torch.stack(self._reader.losses(rows, sure)).T
        # A confidence on an edge belongs to the bin below it.
        place = (sure * CONFIDENCE_BINS).ceil().long().sub_(1).clamp_(0, CONFIDENCE_BINS - 1)
        hit = torch.add(rows.label.eq(rows.target), place, alpha=2)
        if rows.likely is not None:
            unlikely = rows.likely.logical_not()
            losses = losses.masked_fill_(unlikely.unsqueeze(1), torch.nan)
            place = place.masked_fill(unlikely, CONFIDENCE_BINS)
            hit = hit.masked_fill(unlikely, 2 * CONFIDENCE_BINS)
        counts["losses"] = losses
        counts["calibration"] = At(hit, within=rows.likely is None)
        counts["confidence"] = At(place, sure, within=rows.likely is None)
        return losses[:, 0]

    def _count_curve(
        self, kept: KeptScores, batch: Batch, rows: ClassRows, margin: Tensor
    ) -> dict[str, Counted]:
        there = rows.likely  # rows that peak at an infinity have no margins
        if batch.counted is not None:
            there = batch.counted if there is None else there & batch.counted
        if there is not None:
            there = there.unsqueeze(1).expand(margin.shape)
        score = margin
        if self.inputs == "probs":
            score = batch.preds
        state = self._accumulator.state
        return kept.count(state, batch, margin, rows.target.unsqueeze(1), there, score)


def _check_multiclass(
    num_classes: int,
    inputs: str,
    topk: Sequence[int],
    curves: bool | Curves | None,
    temperature: bool,
    losses: bool,
) -> None:
    if not options.is_whole(num_classes, 2, MOST_CLASSES):
        cure = "Pass the number of outputs of the model's last layer."
        rule = f"a whole number from 2 to {MOST_CLASSES}"
        raise ConfigError("num_classes", rule, repr(num_classes), cure)
    options.check_inputs(inputs)
    options.check_flags(losses=losses, temperature=temperature)
    ranks = isinstance(topk, Sequence) and not isinstance(topk, str)
    if not ranks or not all(options.is_whole(k, 1, num_classes) for k in topk):
        rule = f"whole numbers from 1 to {num_classes}"
        raise ConfigError("topk", rule, repr(topk), "Pass topk=(1, 5).")
    if inputs == "labels" and any(k > 1 for k in topk):
        cure = "Labels have no ranks: pass scores to the metric, or leave topk out."
        raise ConfigError("topk", '(1,) beside inputs="labels"', repr(topk), cure)
    if curves and (inputs == "labels" or num_classes > MOST_HEADS):
        rule = "False for labels, and above 1,024 classes"
        fact = f"{curves!r} for {num_classes} classes of {inputs}"
        raise ConfigError("curves", rule, fact, "Leave it out, or look at fewer classes.")
    if temperature and not (losses and inputs == "logits"):
        rule = 'False, or inputs="logits" and losses=True'
        fact = f'True beside inputs="{inputs}" and losses={losses}'
        cure = "A temperature divides logits: pass those, with losses."
        raise ConfigError("temperature", rule, fact, cure)
