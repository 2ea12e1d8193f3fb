"""Slices and groups of single-label batches: rows that a kernel took notes of, added to their parts."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ptmetrics.counts.accumulator import Accumulator
from ptmetrics.counts.batch import Batch
from ptmetrics.counts.kernels import (
    ROWS_OF_WARP,
    TABLE_LINES,
    Launch,
    Operands,
    define_operation,
    power_of_two,
)
from ptmetrics.counts.subgroups import BAD_SLICE, BUCKETS, MIX, NO_GROUP

LIKELY = 18  # columns of a line
FAULTS = 19
ROWS_AT = 23
FIRST_HITS = 26
MOST_PARTS = 1024  # each of which some program looks for in all rows
FAULT_CELLS = ("fault_count", "fault_first_step")
NOTES = 4  # words of a row: what was found of it, and three losses


class RowPart(NamedTuple):
    """What the rows of a batch are parts of.

    Attributes:
        kind: "slice" or "group".
        ids: Of each row.
        number: How many parts, but for the one of rows of none.
        fault: Place of what is counted of ids out of range; -1 for hashes, which have none.
    """

    kind: str
    ids: Tensor
    number: int
    fault: int


class PartCells(NamedTuple):
    """The cells of all rows, or of parts; those that count rows with their Σw and Σw². None for what is not kept."""

    margins: Any
    losses: Any
    rows: Any
    hits: Any
    topk: Any
    tempered: Any

    @classmethod
    def named(cls, front: str) -> PartCells:
        """Their names."""
        names = ("margins*", "losses", "rows*", "hits*", "topk_hits*", "tempered")
        return cls(*[front + name for name in names])


class CellsOfParts(NamedTuple):
    """The cells that the kernel adds to."""

    part: PartCells
    faults: Any


class PartPlan(NamedTuple):
    """What a kernel is compiled for."""

    classes: int
    ks: tuple[int, ...]
    parts: int
    fault: int
    width: int
    rows: int = ROWS_OF_WARP
    likely: int = LIKELY
    faults: int = FAULTS
    rows_at: int = ROWS_AT
    hits: int = FIRST_HITS
    tempered: int = 0
    temperatures: int = 0
    mix: tuple[tuple[int, int], ...] = MIX
    no_group: int = NO_GROUP


def room_for_notes(batch: Batch, rows: int) -> Tensor:
    """Room for what a kernel notes of each row."""
    return torch.empty((NOTES, rows), dtype=torch.int64, device=batch.preds.device)


def row_parts(
    accumulator: Accumulator, batch: Batch, most: int = MOST_PARTS
) -> list[RowPart] | None:
    """Which parts the rows come in, fewer than `most`; None for what no kernel reads."""
    parts = []
    slices = accumulator.subgroups.slices
    if batch.slices is not None and slices:
        fault = accumulator.fault_kinds.index(BAD_SLICE)
        parts.append(RowPart("slice", batch.slices, len(slices), fault))
    if batch.group is not None:
        if not accumulator.subgroups.groups:  # buckets of samples, and no ids
            return None
        parts.append(RowPart("group", batch.group, BUCKETS, -1))
    if parts and batch.weight is not None and not _is_aligned(batch.weight):
        return None
    if all(part.number < most and _is_aligned(part.ids) for part in parts):
        return parts
    return None


def _is_aligned(values: Tensor) -> bool:
    """Whether a kernel that was compiled before can read it."""
    return not int(values.storage_offset()) * values.element_size() % 16


@lru_cache(maxsize=256)
def part_launch(
    rows: int, stride_i: int, stride_w: int, parts: int, fault: int, *form: int
) -> Launch:
    """For rows of one form: the classes, and the k of hits."""
    classes, *ks = form
    width = power_of_two(FIRST_HITS + 3 * len(ks))
    plan = PartPlan(classes, tuple(ks), parts, fault, width)
    most = TABLE_LINES // (parts + 1)
    chunks = max(1, min(most, -(-rows // ROWS_OF_WARP)))
    return Launch(plan, (parts + 1) * chunks, 1, (rows, stride_i, stride_w, chunks))


@cache
def cells_of_parts(kind: str) -> CellsOfParts:
    """Their names."""
    return CellsOfParts(PartCells.named(f"{kind}."), FAULT_CELLS)


def part_arguments(
    operands: Operands, kind: str, parts: int, fault: int
) -> tuple[Launch, tuple[Any, ...]]:
    """A launch, and what the kernel is given: ids in the place of predictions, notes in that of targets."""
    ids, notes = operands[:2]
    form = operands.given[1:]
    launch = part_launch(notes.shape[1], ids.stride(0), operands.stride_w, parts, fault, *form)
    return launch, operands.arguments(launch, cells_of_parts(kind))


def _part_kernel_of(_: PartPlan) -> Any:
    from ptmetrics.counts.part_kernel import count_parts

    return count_parts


define_operation("count_parts", ", str kind, int parts, int fault", part_arguments, _part_kernel_of)
