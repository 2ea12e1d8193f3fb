"""Batches of real-valued predictions in one launch: what the kernel is given, and the operation that torch sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ptmetrics.counts.accumulator import Accumulator
from ptmetrics.counts.batch import Batch
from ptmetrics.counts.checks import LEAST_WEIGHT, MOST_WEIGHT
from ptmetrics.counts.kernels import (
    FOLDERS,
    KERNEL_TYPES,
    ROWS_OF_WARP,
    TABLE_LINES,
    CellKernel,
    Launch,
    asked,
    cells_taken,
    define_operation,
    launch_kernel,
)
from ptmetrics.counts.moments import CENTRE, JOINT_SIZE, POWERS
from ptmetrics.counts.regression import DROPPED_BITS, FIRST_MAGNITUDE, LIMIT, MAGNITUDE_BINS
from ptmetrics.counts.subgroups import BUCKETS

MOST_KERNEL_OUTPUTS = 64  # each of which some program looks at, for a row is refused as a whole
JOINT_SUMS = JOINT_SIZE - CENTRE
MEAN_AT = JOINT_SUMS  # columns of a line, behind the joint sums
POINT_FAULTS = MEAN_AT + 6
LINE_WIDTH = 128


class PointCells(NamedTuple):
    """The cells that the kernel adds to; those that count rows with their Σw and Σw². None for what is not kept."""

    moments: Any
    absolute: Any
    largest: Any
    magnitude: Any
    rows: Any
    faults: Any
    group_moments: Any
    group_absolute: Any
    group_rows: Any


POINT_NAMES = PointCells(
    "moments",
    "absolute",
    "largest",
    "magnitude*",
    "rows*",
    ("fault_count", "fault_first_step"),
    "group.moments",
    "group.absolute",
    "group.rows*",
)


class PointPlan(NamedTuple):
    """What a kernel is compiled for."""

    outputs: int
    kinds: int
    rows: int = ROWS_OF_WARP
    width: int = LINE_WIDTH
    powers: int = POWERS
    centre: int = CENTRE
    size: int = JOINT_SIZE
    sums: int = JOINT_SUMS
    mean: int = MEAN_AT
    faults: int = POINT_FAULTS
    lines: int = TABLE_LINES
    buckets: int = BUCKETS
    bins: int = MAGNITUDE_BINS
    dropped: int = DROPPED_BITS
    first: int = FIRST_MAGNITUDE
    limit: float = LIMIT
    least_weight: float = LEAST_WEIGHT
    most_weight: float = MOST_WEIGHT


@lru_cache(maxsize=256)
def point_launch(samples: int, pixels: int, grouped: int, outputs: int, kinds: int) -> Launch:
    """For batches of one form: lanes of programs have one output, or samples of one bucket."""
    lanes = max(outputs, min(samples, BUCKETS))
    of_lane = -(-samples // min(samples, BUCKETS)) * -(-pixels // ROWS_OF_WARP)
    programs = lanes * min(TABLE_LINES // lanes, of_lane)
    folders = lanes
    if lanes == 1 and not grouped:
        folders = min(FOLDERS, programs)
    return Launch(PointPlan(outputs, kinds), programs, 1, (samples, pixels, lanes, folders))


@dataclass
class MomentsKernel(CellKernel):
    """Counts batches of errors in one launch, each as the tensor operations would.

    Attributes:
        outputs: D, up to 64.
    """

    outputs: int

    def add_(self, accumulator: Accumulator, batch: Batch) -> bool:
        """Count a batch, or leave it to the tensor operations; no host sync.

        Args:
            accumulator: Whose cells are added to.
            batch: Rows of shape (rows,) or (rows, D).

        Returns:
            Whether it was counted.
        """
        weighted = accumulator.weighted or batch.weight is not None
        if not may_count(batch, self.outputs):
            return False
        if weighted and torch.are_deterministic_algorithms_enabled():
            return False  # sums of weights are added up in any order
        state = accumulator.cells_for(batch)
        grouped = bool(batch.sample_shape)
        room = ((TABLE_LINES + BUCKETS) * LINE_WIDTH, BUCKETS + 1)
        bound = self.bound_to(state, batch.preds.device, *room, grouped=grouped)
        if not bound.aligned:
            return False
        samples = 1
        if grouped:
            samples = batch.sample_shape[0]
        given = [int(batch.step), samples, len(batch) // samples, grouped]
        given += [self.outputs, len(accumulator.fault_kinds)]
        operation = torch.ops.ptmetrics.count_points
        of_batch = (batch.preds, batch.target, batch.weight)
        return asked(operation, *of_batch, *bound[3:6], bound.names, given)


def may_count(batch: Batch, outputs: int) -> bool:
    """Whether a kernel reads such batches."""
    if batch.slices is not None or batch.group is not None or isinstance(batch.step, Tensor):
        return False
    if batch.sample_shape and outputs > 1:
        return False
    read = (batch.preds, batch.target, batch.weight)
    return all(values is None or values.dtype in KERNEL_TYPES for values in read)


def point_arguments(
    preds: Tensor,
    target: Tensor,
    weight: Tensor | None,
    cells: Sequence[Tensor],
    table: Tensor,
    words: Tensor,
    names: str,
    given: Sequence[int],
) -> tuple[Launch, tuple[Any, ...]]:
    """A launch, and what the kernel is given, in the order of its arguments."""
    step, *layout = given
    launch = point_launch(*layout)
    samples, pixels, lanes, folders = launch.numbers
    strides = [preds.stride(0), preds.stride(-1), target.stride(0), target.stride(-1)]
    strides.append(0 if weight is None else weight.stride(0))
    some = [*cells, None]
    taken = PointCells(*[getter(some) for getter in cells_taken(POINT_NAMES, names)])
    first_bucket = samples * step % BUCKETS
    numbers = (step, samples, pixels, *strides, lanes, folders, first_bucket)
    launch = launch._replace(numbers=numbers[1:])
    return launch, (preds, target, weight, taken, table, words, *numbers, launch.plan)


def _count_points(*operands: Any) -> None:
    """The operation on tensors with values."""
    launch, given = point_arguments(*operands)
    launch_kernel(_import_count_points, launch, operands[6], given[:3], given)


def _import_count_points() -> Any:
    from ptmetrics.counts.moments_kernel import count_points

    return count_points


define_operation(
    "count_points",
    "Tensor preds, Tensor target, Tensor? weight, Tensor(a!)[] cells, "
    "Tensor(b!) table, Tensor(c!) words, str names, int[] given",
    _count_points,
)
