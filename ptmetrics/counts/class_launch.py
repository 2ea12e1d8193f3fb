"""Single-label batches in one launch: what the kernel is given, and the operation that torch sees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ptmetrics.counts.accumulator import OF_GROUPS, Accumulator
from ptmetrics.counts.batch import Batch
from ptmetrics.counts.checks import LEAST_WEIGHT, MOST_WEIGHT
from ptmetrics.counts.confused_pairs import LOG_BUCKETS, MULTIPLIERS, ConfusedPairs
from ptmetrics.counts.kernels import (
    FOLDERS,
    KERNEL_TYPES,
    TABLE_LINES,
    CellKernel,
    Launch,
    Operands,
    asked,
    define_operation,
    power_of_two,
)
from ptmetrics.counts.keys import FloatKeys
from ptmetrics.counts.multiclass import CONFIDENCE_BINS, TEMPERATURES
from ptmetrics.counts.part_launch import (
    FAULT_CELLS,
    FAULTS,
    FIRST_HITS,
    LIKELY,
    ROWS_AT,
    PartCells,
    room_for_notes,
    row_parts,
)
from ptmetrics.counts.subgroups import BUCKETS

MOST_KERNEL_KS = 12
THREADS = 128  # of four warps
TILE_NUMBERS = 4096  # of 4 bytes that four warps hold at a time
CLASSES_OF_THREAD = 32  # that a thread holds at a time
CLASSES_OF_WARP = 512  # that a warp holds at a time
MARGINS_OF_WARP = 128  # scores that a warp adds to histograms at a time
DIGITS = 64  # of a code that are counted at a time
PEEL = 2  # places of a tile that are looked for, so that rows in common are one addition


class Cells(NamedTuple):
    """The cells that the kernel adds to; those that count rows with their Σw and Σw². None for what is not kept."""

    confusion: Any
    pairs: Any
    curve: Any
    ties: Any
    calibration: Any
    confidence: Any
    faults: Any
    whole: PartCells
    group: PartCells


CELL_NAMES = Cells(
    "confusion*",
    "pairs",
    "one_vs_rest*",
    "one_vs_rest_ties",
    "calibration*",
    "confidence",
    FAULT_CELLS,
    PartCells.named(""),
    PartCells.named(OF_GROUPS),
)


class Tile(NamedTuple):
    """What a program holds at a time: rows × classes, and by how many warps.

    `together` says which of them lie together in memory: "classes", "pixels", or "none". Each of
    128 threads has a row of its own where that reads memory well: pixels, and few classes. Else
    threads share a row, and each does the arithmetic of all their rows: a few.
    """

    rows: int
    classes: int
    together: str = "none"
    warps: int = 4

    @classmethod
    def of(cls, classes: int, stride_p: int, stride_c: int, double: bool) -> Tile:
        """For a number of classes, the strides of pixels and classes, and the type of the scores."""
        block = power_of_two(classes)
        if stride_p == 1 and stride_c != 1:
            return cls(THREADS, min(block, CLASSES_OF_THREAD), "pixels")
        if block <= CLASSES_OF_THREAD or stride_c != 1:
            return cls(THREADS, min(block, CLASSES_OF_THREAD))
        numbers = TILE_NUMBERS // 2 if double else TILE_NUMBERS
        if block <= CLASSES_OF_WARP:
            return cls(max(1, min(8, numbers // 4 // block)), block, "classes", 1)
        block = min(block, numbers)
        return cls(numbers // block, block, "classes")

    def even(self, stride_s: int, stride_p: int) -> int:
        """A power of two that divides the strides, where several numbers of a row are one load."""
        if self.together == "classes":
            return math.gcd(stride_s, stride_p, 16)
        return 1


class KernelPlan(NamedTuple):
    """What a kernel is compiled for."""

    classes: int
    probs: bool
    ks: tuple[int, ...]
    ignore: int | None
    kinds: int
    rows: int
    block: int
    together: str
    even: int
    width: int
    peel: int
    code_digits: int
    code: int
    digits: int
    zero: int
    key_rows: int
    some: int  # classes whose scores are added to their histograms at a time
    log_others: float
    tempered: int  # a column of a line
    keys: str = "float"
    temperatures: int = len(TEMPERATURES)
    log_heat: float = math.log(4) / 16  # from one temperature to the next
    likely: int = LIKELY
    faults: int = FAULTS
    rows_at: int = ROWS_AT
    hits: int = FIRST_HITS
    lines: int = TABLE_LINES
    bins: int = CONFIDENCE_BINS
    buckets: int = BUCKETS
    multipliers: tuple[int, ...] = MULTIPLIERS
    log_buckets: int = LOG_BUCKETS
    least_weight: float = LEAST_WEIGHT
    most_weight: float = MOST_WEIGHT


@lru_cache(maxsize=256)
def launch_of(double: bool, weighted: bool, stride_t: int, stride_w: int, *layout: int) -> Launch:
    """For batches of one form.

    Args:
        double: Whether scores are float64.
        weighted: Whether there are cells for weights.
        stride_t: Stride of the targets.
        stride_w: Stride of the weights, 0 for none.
        layout: What the operation is given behind the step.
    """
    samples, pixels, *strides, grouped, probs, classes, kinds, ignored, ignore = layout[:11]
    digits, tempered, *ks = layout[11:]
    tile = Tile.of(classes, strides[1], strides[2], double)
    columns = FIRST_HITS + (1 + 2 * weighted) * len(ks)
    keys = FloatKeys(digits)
    plan = KernelPlan(
        classes,
        bool(probs),
        tuple(ks),
        ignore if ignored else None,
        kinds,
        tile.rows,
        tile.classes,
        tile.together,
        tile.even(*strides[:2]),
        power_of_two(columns + tempered * (1 + len(TEMPERATURES))),
        PEEL if tile.rows > 8 else 0,
        max(2, DIGITS // tile.rows),
        ConfusedPairs(classes).bits,
        digits,
        keys.zero,
        keys.rows,
        max(1, MARGINS_OF_WARP * tile.warps // tile.rows),
        math.log(classes - 1),
        columns,
    )
    lanes = min(samples, BUCKETS)
    items = -(-samples // lanes) * -(-pixels // tile.rows)
    programs = lanes * min(TABLE_LINES // tile.warps // lanes, items)
    folders = lanes if grouped else min(FOLDERS, programs)
    numbers = (samples, pixels, *strides, stride_t, stride_w, lanes, folders)
    return Launch(plan, programs, tile.warps, numbers)


@dataclass
class ClassKernel(CellKernel):
    """Counts batches of single-label scores in one launch, each as the tensor operations would.

    Attributes:
        classes: C.
        probs: Whether scores are probabilities, and not logits.
        ignore: A target value to leave out silently.
        ks: The k of top-k accuracies, up to 12; 1 in front of them where hits are kept in the place
            of a matrix.
        digits: Of the keys of each class's histogram of scores; 0 for none.
        tempered: Whether losses at some temperatures are kept.
    """

    classes: int
    probs: bool
    ignore: int | None
    ks: tuple[int, ...]
    digits: int
    tempered: bool

    def __post_init__(self) -> None:
        further = self.tempered * (1 + len(TEMPERATURES))
        self.columns = power_of_two(FIRST_HITS + 3 * len(self.ks) + further)
        self.words = BUCKETS + 1 + 2 * CONFIDENCE_BINS

    def add_(self, accumulator: Accumulator, batch: Batch) -> bool:
        """Count a batch, or leave it to the tensor operations; no host sync.

        Args:
            accumulator: Whose cells are added to.
            batch: Rows of scores of shape (rows, C), or (N, d1, …, C) as they lie in memory.

        Returns:
            Whether it was counted.
        """
        layout = layout_of(batch)
        parts = row_parts(accumulator, batch)
        if layout is None or parts is None:
            return False
        bound = self.bound_to(accumulator, batch)
        if bound is None:
            return False

        def add_parts(notes: Tensor) -> bool:
            form = [int(batch.step), self.classes, *self.ks]
            operands = (notes, batch.weight, *bound.with_parts()[2:6], form)
            add = torch.ops.ptmetrics.count_parts
            return all(
                asked(add, part.ids, *operands, part.kind, part.number, part.fault)
                for part in parts
            )

        if not self.may_add(bound, parts, batch, lambda: add_parts(room_for_notes(batch, 0))):
            return False
        notes = None
        if parts:
            notes = room_for_notes(batch, len(batch))
        given = [int(batch.step), *layout, bool(batch.sample_shape), self.probs, self.classes]
        kinds = len(accumulator.fault_kinds) - bool(accumulator.subgroups.slices)
        given += [kinds, self.ignore is not None, self.ignore or 0, self.digits]
        given += [self.tempered, *self.ks]
        operation = torch.ops.ptmetrics.count_classes
        of_batch = (batch.preds, batch.target, batch.weight)
        if not asked(operation, *of_batch, *bound[2:6], given, notes):
            return False
        if notes is not None:
            add_parts(notes)
        return True


def layout_of(batch: Batch) -> tuple[int, ...] | None:
    """Samples, pixels, and strides of sample, pixel and class; None for what no kernel reads."""
    if batch.target.is_floating_point() or batch.preds.dtype not in KERNEL_TYPES:
        return None
    samples, *sizes = batch.preds.shape[:-1]
    strides = batch.preds.stride()
    if not sizes:
        return 1, samples, 0, strides[0], strides[-1]
    pixels = 1
    stride = 1
    for size, apart in zip(reversed(sizes), reversed(strides[1:-1]), strict=True):
        if pixels == 1:
            stride = apart
        elif size > 1 and apart != stride * pixels:
            return None
        pixels *= size
    if not batch.sample_shape and strides[0] == stride * pixels:
        return 1, samples * pixels, 0, stride, strides[-1]
    return samples, pixels, strides[0], stride, strides[-1]


def class_arguments(operands: Operands, notes: Tensor | None) -> tuple[Launch, tuple[Any, ...]]:
    """A launch, and what the kernel is given, in the order of its arguments."""
    double = operands.preds.dtype == torch.float64
    strides = (operands.target.stride(0), operands.stride_w)
    launch = launch_of(double, operands.weighted, *strides, *operands.given[1:])
    return launch, operands.arguments(launch, CELL_NAMES, notes)


def _class_kernel_of(_: KernelPlan) -> Any:
    from ptmetrics.counts.class_kernel import count_classes

    return count_classes


define_operation("count_classes", ", Tensor(d!)? notes", class_arguments, _class_kernel_of)
