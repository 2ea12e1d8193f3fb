"""Rows of single-label predictions added to their slices or groups in one launch: the second Triton kernel.

`class_kernel.py` notes of each row whether it counts, its class, label and rank, and its losses. Here
some programs look for the rows of one part and add them up as that kernel does all rows, in a fixed
order. Only `part_launch.py` imports it, when needed.
"""

import triton
import triton.language as tl

from ptmetrics.counts.class_kernel import (
    count_margins,
    plus_losses,
    plus_rows,
    pour_part,
    whole_numbers,
)
from ptmetrics.counts.kernel_sums import is_last, part_of_id, plus, sum_of_lines


@triton.jit(do_not_specialize=range(6, 11))
def count_parts(
    ids,
    notes,
    weight,
    cells,
    table,
    words,
    step,
    rows,
    stride_i,
    stride_w,
    chunks,
    plan: tl.constexpr,
):
    """Add up the rows of each part, by so many programs a part; `cells` is a `CellsOfParts`, `plan` a `PartPlan`."""
    weighted: tl.constexpr = cells.part.rows[1] is not None
    program = tl.program_id(0)
    part = program // chunks
    column = tl.arange(0, plan.width)
    line = tl.zeros([plan.width], tl.float64)
    for first in range((program % chunks) * plan.rows, rows, chunks * plan.rows):
        row = (first + tl.arange(0, plan.rows)).to(tl.int64)
        given = tl.load(ids + row * stride_i, mask=row < rows, other=0)
        place = part_of_id(given, plan)
        note = tl.load(notes + row, mask=(row < rows) & (place == part), other=0)
        keep = (note & 1) > 0
        likely = (note >> 1 & 1) > 0
        goal = (note >> 2 & 1048575).to(tl.int32)
        label = (note >> 22 & 1048575).to(tl.int32)
        rank = (note >> 42).to(tl.int32)
        w = keep.to(tl.float64)
        if weight is not None:
            w = tl.load(weight + row * stride_w, mask=keep, other=0).to(tl.float64)
        line = plus(line, column, plan.rows_at, 1, keep.to(tl.float64))
        line = plus_rows(line, column, keep, goal, label, rank, w, weighted, plan)
        if plan.fault >= 0:  # an id of -1 is none, and no fault
            wrong = keep & (place == plan.parts) & (given != -1)
            line = plus(line, column, plan.faults, 1, wrong.to(tl.float64))
        if cells.part.margins is not None:
            numbers = (keep.to(tl.int64), w, w * w)
            offset = part.to(tl.int64) * (3 * plan.classes)
            count_margins(cells.part.margins, goal, label, numbers, keep, offset, plan)
        if cells.part.losses is not None:
            w = tl.where(likely, w, 0.0)
            line = plus(line, column, plan.likely, 1, likely.to(tl.float64))
            nll = _loss(notes + rows.to(tl.int64) + row, likely)
            brier = _loss(notes + 2 * rows.to(tl.int64) + row, likely)
            gap = _loss(notes + 3 * rows.to(tl.int64) + row, likely)
            line = plus_losses(line, column, nll, brier, gap, w, weighted)
    line = whole_numbers(line, column, weighted, plan)
    tl.store(table + program * plan.width + column, line)
    if is_last(words + part, chunks):
        line = sum_of_lines(table, part * chunks, 1, chunks, column, plan.width, 8)
        pour_part(cells.part, line, column, part, plan)
        if plan.fault >= 0:
            wrong = tl.sum(tl.where(column == plan.faults, line, 0.0), 0).to(tl.int64)
            if wrong > 0:
                at = cells.faults[1] + plan.fault
                tl.atomic_add(cells.faults[0] + plan.fault, wrong)
                tl.store(at, tl.minimum(tl.load(at), step))


@triton.jit
def _loss(at, likely):
    """What was noted of rows with a likelihood."""
    return tl.load(at, mask=likely, other=0).to(tl.float64, bitcast=True)
