"""Batches of real-valued predictions in one launch: what the kernel is given, and the operation that torch sees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ptmetrics.counts.accumulator import OF_GROUPS, Accumulator
from ptmetrics.counts.batch import Batch
from ptmetrics.counts.checks import LEAST_WEIGHT, MOST_WEIGHT
from ptmetrics.counts.kernels import (
    FOLDERS,
    KERNEL_TYPES,
    ROWS_OF_WARP,
    TABLE_LINES,
    CellKernel,
    Launch,
    Operands,
    asked,
    define_operation,
)
from ptmetrics.counts.moments import CENTRE, JOINT_SIZE, POWERS
from ptmetrics.counts.part_launch import FAULT_CELLS, MOST_PARTS, row_parts
from ptmetrics.counts.regression import DROPPED_BITS, FIRST_MAGNITUDE, LIMIT, MAGNITUDE_BINS
from ptmetrics.counts.subgroups import BUCKETS, MIX, NO_GROUP

MOST_KERNEL_OUTPUTS = 64  # each of which some program looks at, for a row is refused as a whole
JOINT_SUMS = JOINT_SIZE - CENTRE
MEAN_AT = JOINT_SUMS  # columns of a line, behind the joint sums
POINT_FAULTS = MEAN_AT + 6
SHIFT_AT = POINT_FAULTS + 4
LINE_WIDTH = 128


class PointPart(NamedTuple):
    """The cells of a part of the rows, or of all; those that count rows with their Σw and Σw²."""

    moments: Any
    absolute: Any
    rows: Any

    @classmethod
    def named(cls, front: str) -> PointPart:
        """Their names."""
        return cls(f"{front}moments", f"{front}absolute", f"{front}rows*")


class PointCells(NamedTuple):
    """The cells that the kernel adds to. None for what is not kept."""

    largest: Any
    magnitude: Any
    faults: Any
    part: PointPart
    group: PointPart


@cache
def cells_of_points(kind: str) -> PointCells:
    """Names of the cells of all rows and of samples as groups; or of parts, "slice" or "group"."""
    if kind:
        return PointCells("", "", FAULT_CELLS, PointPart.named(f"{kind}."), PointPart("", "", ""))
    groups = PointPart.named(OF_GROUPS)
    return PointCells("largest", "magnitude*", FAULT_CELLS, PointPart.named(""), groups)


class PointPlan(NamedTuple):
    """What a kernel is compiled for."""

    outputs: int
    kinds: int
    parts: int
    fault: int
    rows: int = ROWS_OF_WARP
    width: int = LINE_WIDTH
    powers: int = POWERS
    centre: int = CENTRE
    size: int = JOINT_SIZE
    sums: int = JOINT_SUMS
    mean: int = MEAN_AT
    faults: int = POINT_FAULTS
    shift: int = SHIFT_AT
    lines: int = TABLE_LINES
    buckets: int = BUCKETS
    bins: int = MAGNITUDE_BINS
    dropped: int = DROPPED_BITS
    first: int = FIRST_MAGNITUDE
    limit: float = LIMIT
    least_weight: float = LEAST_WEIGHT
    most_weight: float = MOST_WEIGHT
    mix: tuple[tuple[int, int], ...] = MIX
    no_group: int = NO_GROUP


@lru_cache(maxsize=256)
def point_launch(strides: tuple[int, ...], grouped: bool, *form: int) -> Launch:
    """For batches of one form: lanes of programs have one output, of one part, or samples of one bucket.

    Args:
        strides: Of rows and outputs of predictions and of targets, of weights and ids.
        grouped: Whether samples are added to cells of groups.
        form: Samples, pixels, outputs, kinds of faults, parts and the place of their fault.
    """
    samples, pixels, outputs, kinds, parts, fault = form
    buckets = min(samples, BUCKETS)
    lanes = max(outputs * (parts + 1), buckets)
    of_lane = -(-samples // buckets) * -(-pixels // ROWS_OF_WARP)
    most = TABLE_LINES // lanes
    if parts:  # the last program moves the sums of all others of its part
        most = min(most, 1 + math.isqrt(of_lane))
    programs = lanes * max(1, min(most, of_lane))
    folders = lanes
    if lanes == 1 and not grouped:
        folders = min(FOLDERS, programs)
    plan = PointPlan(outputs, kinds, parts, fault)
    return Launch(plan, programs, 1, (samples, pixels, *strides, lanes, folders))


@dataclass
class MomentsKernel(CellKernel):
    """Counts batches of errors in one launch, each as the tensor operations would; slices and groups in one more each.

    Attributes:
        outputs: D, up to 64.
    """

    outputs: int
    columns = LINE_WIDTH
    words = MOST_PARTS

    def add_(self, accumulator: Accumulator, batch: Batch) -> bool:
        """Count a batch, or leave it to the tensor operations; no host sync.

        Args:
            accumulator: Whose cells are added to.
            batch: Rows of shape (rows,) or (rows, D).

        Returns:
            Whether it was counted.
        """
        if any(values.dtype not in KERNEL_TYPES for values in (batch.preds, batch.target)):
            return False
        parts = row_parts(accumulator, batch, MOST_PARTS // self.outputs)
        if parts is None or (batch.sample_shape and self.outputs > 1):
            return False
        bound = self.bound_to(accumulator, batch)
        if bound is None:
            return False
        operation = torch.ops.ptmetrics.count_points
        of_batch = (batch.preds, batch.target, batch.weight)
        step = int(batch.step)

        def add_parts(rows: int) -> bool:
            every = bound.with_parts()[2:6]
            for kind, ids, number, fault in parts:
                form = [step, 1, rows, self.outputs, fault + 1, number, fault]
                if not asked(operation, *of_batch, *every, form, kind, ids):
                    return False
            return True

        if not self.may_add(bound, parts, batch, lambda: add_parts(0)):
            return False
        samples = batch.sample_shape[0] if batch.sample_shape else 1
        kinds = len(accumulator.fault_kinds) - bool(accumulator.subgroups.slices)
        form = [step, samples, len(batch) // samples, self.outputs, kinds, 0, -1]
        if not asked(operation, *of_batch, *bound[2:6], form, "", None):
            return False
        return add_parts(len(batch))


def point_arguments(
    operands: Operands, kind: str, ids: Tensor | None
) -> tuple[Launch, tuple[Any, ...]]:
    """A launch, and what the kernel is given, in the order of its arguments."""
    preds, target = operands[:2]
    strides = [preds.stride(0), preds.stride(-1), target.stride(0), target.stride(-1)]
    strides += [operands.stride_w, 0 if ids is None else ids.stride(0)]
    grouped = not kind and "group.rows" in operands.names
    launch = point_launch(tuple(strides), grouped, *operands.given[1:])
    return launch, operands.arguments(launch, cells_of_points(kind), ids)


def _moments_kernel_of(_: PointPlan) -> Any:
    from ptmetrics.counts.moments_kernel import count_points

    return count_points


define_operation("count_points", ", str kind, Tensor? ids", point_arguments, _moments_kernel_of)
