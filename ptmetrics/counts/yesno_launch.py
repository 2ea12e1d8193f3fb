"""Yes-or-no batches in one launch, of one label a row or of many: what the kernel is given, and the operation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from ptmetrics.counts.accumulator import OF_GROUPS, Accumulator
from ptmetrics.counts.batch import Batch
from ptmetrics.counts.checks import LEAST_WEIGHT, MOST_WEIGHT
from ptmetrics.counts.kernels import (
    KERNEL_TYPES,
    TABLE_LINES,
    CellKernel,
    Launch,
    Operands,
    asked,
    define_operation,
    power_of_two,
)
from ptmetrics.counts.keys import FloatKeys, ProbabilityKeys
from ptmetrics.counts.multiclass import Inputs
from ptmetrics.counts.multilabel import ROW_SCORES
from ptmetrics.counts.part_launch import FAULT_CELLS
from ptmetrics.counts.score_histogram import ScoreHistogram
from ptmetrics.counts.subgroups import BUCKETS

MOST_KERNEL_LABELS = 4096
INPUT_CODES: tuple[Inputs, ...] = ("logits", "probs", "labels")
KEY_CODES = ("none", "float", "probability")
COLUMNS = 64  # of a line
WARPS = 4  # of a program for rows of one label …
STRIPES = 8  # … which stand in stripes …
STRIPE = 32  # … of so many, which no two warps share
BLOCK = 128  # labels that a program of one warp holds at a time
LABEL_TILE = 128  # labels × rows that it holds
MOST_TILE_ROWS = 32
SCORES_PEELED = 2  # rows of a histogram that are looked for in a tile, so that scores in common are one addition
LEAST_PEELED = 4  # scores of a histogram in a tile for that to pay


class YesNoPart(NamedTuple):
    """The cells of all rows, or of groups; those that count rows with their Σw and Σw²."""

    confusion: Any
    losses: Any
    labels: Any
    row_scores: Any
    together: Any
    rows: Any

    @classmethod
    def named(cls, front: str) -> YesNoPart:
        """Their names."""
        names = ("confusion*", "losses", "labels*", "row_scores", "together", "rows*")
        return cls(*[front + name for name in names])


class YesNoCells(NamedTuple):
    """The cells that the kernels add to. None for what is not kept."""

    curve: Any
    ties: Any
    faults: Any
    whole: YesNoPart
    group: YesNoPart


PARTS = (YesNoPart.named(""), YesNoPart.named(OF_GROUPS))
BINARY_NAMES = YesNoCells("curve*", "curve_ties", FAULT_CELLS, *PARTS)
LABEL_NAMES = YesNoCells("label_curves*", "label_curves_ties", FAULT_CELLS, *PARTS)


class YesNoPlan(NamedTuple):
    """What a kernel is compiled for."""

    labels: int
    inputs: str
    columns: int  # dimensions of the predictions
    cut: float
    ignore: int | None
    kinds: int
    keys: str
    digits: int
    zero: int
    key_rows: int
    tail: int
    scores: int
    beta: float
    block: int
    rows: int
    peel: int
    dense: bool  # whether scores and targets of neighbours lie together
    faults: int  # a column of a line
    width: int = COLUMNS
    lines: int = TABLE_LINES
    buckets: int = BUCKETS
    least_weight: float = LEAST_WEIGHT
    most_weight: float = MOST_WEIGHT


class Form(NamedTuple):
    """What the operation is told of a batch and its metric beside tensors, in whole numbers."""

    step: int
    samples: int
    pixels: int
    grouped: int
    labels: int
    inputs: int
    columns: int
    kinds: int
    ignored: int
    ignore: int
    keys: int
    digits: int


@lru_cache(maxsize=256)
def yes_no_launch(
    form: Form, levels: tuple[float, float], dtype: torch.dtype, weighted: bool, *strides: int
) -> Launch:
    """For batches of one form.

    Args:
        form: As the operation is given it, the step left out.
        levels: The cut and beta.
        dtype: Of the predictions.
        weighted: Whether there are cells for weights.
        strides: Of rows and columns of predictions and of targets, and of weights.
    """
    labels = form.labels
    inputs = INPUT_CODES[form.inputs]
    keys = FloatKeys(form.digits)
    zero = keys.zero
    key_rows = keys.rows
    if KEY_CODES[form.keys] == "probability":
        zero = ProbabilityKeys().zero
        key_rows = ProbabilityKeys().rows
    block = STRIPES
    rows = STRIPE
    warps = WARPS
    at_once = block * rows
    apart = (strides[0], strides[2])
    if labels:
        apart = (strides[1], strides[3])
        warps = 1
        block = min(power_of_two(labels), BLOCK)
        numbers = LABEL_TILE
        if weighted:
            numbers //= 2
        rows = min(max(1, numbers // block), MOST_TILE_ROWS)
        at_once = rows
    plan = YesNoPlan(
        labels,
        inputs,
        form.columns,
        cut_for(levels[0], inputs, dtype, labels),
        form.ignore if form.ignored else None,
        form.kinds,
        KEY_CODES[form.keys],
        form.digits,
        zero,
        key_rows,
        ProbabilityKeys().tail,
        len(ROW_SCORES) + (levels[1] > 0),
        levels[1],
        block,
        rows,
        SCORES_PEELED if rows >= LEAST_PEELED else 0,
        apart == (1, 1),
        19 if labels else 33,
    )
    lanes = min(form.samples, BUCKETS)
    items = -(-form.samples // lanes) * -(-form.pixels // at_once)
    programs = lanes * min(TABLE_LINES // warps // lanes, items)
    folders = lanes if form.grouped else min(16, programs)
    given = (form.samples, form.pixels, *strides, lanes, folders)
    return Launch(plan, programs, warps, given)


def cut_for(cut: float, inputs: str, dtype: torch.dtype, labels: int) -> float:
    """The cut as the tensor operations compare it: rounded to the type of what it is compared with."""
    if dtype == torch.float64 or inputs == "labels":
        return cut
    compared = torch.float32
    if inputs == "probs" and not labels:
        compared = dtype
    return float(torch.tensor(cut, dtype=compared, device="cpu"))


@dataclass
class YesNoKernel(CellKernel):
    """Counts batches of yes-or-no predictions in one launch, each as the tensor operations would.

    Attributes:
        inputs: Kind of the predictions.
        cut: The prediction from which there is a yes, in the unit of the predictions.
        ignore: A target value to leave out silently.
        histogram: What is kept of the scores; None for nothing.
        labels: Labels of a row, up to 4,096; 0 for rows that are one yes or no each.
        beta: Of the F-beta of each row of labels; 0 for none.
    """

    inputs: Inputs
    cut: float
    ignore: int | None
    histogram: ScoreHistogram | None
    labels: int = 0
    beta: float = 0.0
    columns = COLUMNS
    words = BUCKETS + 1

    def __post_init__(self) -> None:
        self.by_place = self.labels > 0 or self.histogram is not None

    def add_(self, accumulator: Accumulator, batch: Batch) -> bool:
        """Count a batch, or leave it to the tensor operations; no host sync.

        Args:
            accumulator: Whose cells are added to.
            batch: Rows of one prediction, of two scores, or of labels.

        Returns:
            Whether it was counted.
        """
        if batch.slices is not None or batch.group is not None:
            return False
        if self.inputs != "labels" and batch.preds.dtype not in KERNEL_TYPES:
            return False
        bound = self.bound_to(accumulator, batch)
        if bound is None:
            return False
        grouped = bool(batch.sample_shape)
        samples = 1
        pixels = len(batch)
        if grouped:
            samples = batch.sample_shape[0]
            pixels = math.prod(batch.sample_shape[1:])
        keys = 0
        digits = 0
        if self.histogram is not None:
            keys = 1 + isinstance(self.histogram.keys, ProbabilityKeys)
            digits = self.histogram.keys.digits
        form = Form(
            int(batch.step),
            samples,
            pixels,
            grouped,
            self.labels,
            INPUT_CODES.index(self.inputs),
            batch.preds.ndim,
            len(accumulator.fault_kinds),
            self.ignore is not None,
            self.ignore or 0,
            keys,
            digits,
        )
        of_batch = (batch.preds, batch.target, batch.weight)
        operation = torch.ops.ptmetrics.count_yes_no
        levels = [self.cut, self.beta]
        return asked(operation, *of_batch, *bound[2:6], list(form), levels)


def yes_no_arguments(operands: Operands, levels: Sequence[float]) -> tuple[Launch, tuple[Any, ...]]:
    """A launch, and what the kernel is given, in the order of its arguments."""
    form = Form(*operands.given)
    preds, target = operands[:2]
    strides = [0, 0, 0, 0, operands.stride_w]
    strides[: preds.ndim] = preds.stride()
    strides[2 : 2 + target.ndim] = target.stride()
    of_form = (form._replace(step=0), tuple(levels), preds.dtype, operands.weighted)
    launch = yes_no_launch(*of_form, *strides)
    wanted = BINARY_NAMES
    if form.labels:
        wanted = LABEL_NAMES
    return launch, operands.arguments(launch, wanted)


def _yesno_kernel_of(plan: YesNoPlan) -> Any:
    from ptmetrics.counts.yesno_kernel import count_labels, count_yes_no

    if plan.labels:
        return count_labels
    return count_yes_no


define_operation("count_yes_no", ", float[] levels", yes_no_arguments, _yesno_kernel_of)
