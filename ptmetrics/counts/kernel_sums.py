"""What kernels share: lines of sums that are added up in order, and cells that they are poured into.

Sums of floats depend on the order of their addition. So each program of a kernel keeps its own and
writes them to a line of `table`; of some programs the last adds their lines up in order, and the
last of all what those found: the same bits each time, whichever came first.
"""

import triton
import triton.language as tl


@triton.jit
def plus(line, column, first: tl.constexpr, size: tl.constexpr, x):
    """The line with the sum of a value a row added to some columns."""
    return line + tl.where((column >= first) & (column < first + size), tl.sum(x, 0), 0.0)


@triton.jit
def plus_mean(line, column, place: tl.constexpr, x, w, weighted: tl.constexpr):
    """The line with Σw·x, Σw²·x and Σw²·x² of the rows of some weight, an infinite x too."""
    x = tl.where(w > 0, x, 0.0) * w
    total = tl.sum(x, 0)
    line += tl.where(column == 9 + place, total, 0.0)
    if weighted:
        total = tl.sum(x * w, 0)
    line += tl.where(column == 12 + place, total, 0.0)
    return plus(line, column, 15 + place, 1, x * x)


@triton.jit
def is_last(ticket, number):
    """Whether all others of so many programs came here before, with all that they have written."""
    tl.debug_barrier()
    last = tl.atomic_add(ticket, 1, sem="acq_rel") == number - 1
    tl.store(ticket, 0, mask=last)
    return last


@triton.jit
def sum_of_lines(
    table, first, step, number, column, width: tl.constexpr, at_once: tl.constexpr = 32
):
    """The sum of some lines, in their order."""
    total = tl.zeros([width], tl.float64)
    for start in range(0, number, at_once):
        member = start + tl.arange(0, at_once)
        at = table + (member * step + first)[:, None] * width + column[None, :]
        there = (member < number)[:, None]
        total += tl.sum(tl.load(at, mask=there, other=0.0, cache_modifier=".cg"), 0)
    return total


@triton.jit
def add_up(cells, line, column, table, words, step, bucket, folders, pour_part, plan: tl.constexpr):
    """Add the line of a program to the others; whether it is the last, which has poured all into the cells.

    Args:
        cells: With those of all rows, `whole`, and of a bucket of groups, `group`.
        line: Of this program.
        column: The columns.
        table: The lines.
        words: Tickets: one for each bucket, and one for all.
        step: Number of the update.
        bucket: Of the rows of this folder, where there are groups.
        folders: Among so many the programs are dealt out.
        pour_part: Adds a line to the cells of a part.
        plan: The plan.
    """
    program = tl.program_id(0)
    tl.store(table + program * plan.width + column, line)
    folder = program % folders
    members = tl.cdiv(tl.num_programs(0) - folder, folders)
    last = program < 0
    if is_last(words + folder, members):
        line = sum_of_lines(table, folder, folders, members, column, plan.width)
        if cells.group.rows is not None:
            pour_part(cells.group, line, column, bucket, plan)
        tl.store(table + (folder + plan.lines) * plan.width + column, line)
        last = is_last(words + plan.buckets, folders)
        if last:
            line = sum_of_lines(table, plan.lines, 1, folders, column, plan.width)
            pour_part(cells.whole, line, column, 0, plan)
            tell(cells.faults, line, column, step, plan.faults, plan.kinds)
    return last


@triton.jit
def pour(cell, line, column, part, first: tl.constexpr, size: tl.constexpr):
    """Add columns of a line to a cell, or to a part of it."""
    if cell is not None:
        there = (column >= first) & (column < first + size)
        at = cell + part * size + (column - first)
        found = tl.load(at, mask=there, other=0) + line.to(cell.dtype.element_ty)
        tl.store(at, found, mask=there)


@triton.jit
def pour_words(confidence, words, last, bins: tl.constexpr):
    """Add what the words of each bin hold to the sums of confidences, and empty them: the last program does."""
    place = tl.arange(0, 1024)
    there = (place < bins) & last
    high = tl.load(words + place, mask=there, other=0, cache_modifier=".cg")
    low = tl.load(words + place + bins, mask=there, other=0, cache_modifier=".cg")
    before = tl.load(confidence + place, mask=there, other=0.0)
    found = (high.to(tl.float64) + low.to(tl.float64) / 4294967296.0) / 4294967296.0
    tl.store(confidence + place, before + found, mask=there)
    tl.store(words + place, high * 0, mask=there)
    tl.store(words + place + bins, high * 0, mask=there)


@triton.jit
def add_at(cell, place, numbers, there):
    """Add a number, Σw and Σw² at places of a cell, and of those of its weights."""
    tl.atomic_add(cell[0] + place, numbers[0], mask=there, sem="relaxed")
    if cell[1] is not None:
        tl.atomic_add(cell[1] + place, numbers[1], mask=there, sem="relaxed")
        tl.atomic_add(cell[2] + place, numbers[2], mask=there, sem="relaxed")


@triton.jit
def tell(faults, line, column, step, at: tl.constexpr, kinds: tl.constexpr):
    """Count faults by kind, and remember the first step of each: four columns, that of weights last."""
    there = (column >= at) & (column < at + 4) & (line > 0)
    kind = tl.where(column == at + 3, kinds - 1, column - at)
    number = tl.load(faults[0] + kind, mask=there, other=0) + line.to(tl.int64)
    tl.store(faults[0] + kind, number, mask=there)
    first = tl.load(faults[1] + kind, mask=there, other=0)
    tl.store(faults[1] + kind, tl.minimum(first, step), mask=there)


@triton.jit
def part_of_id(given, plan: tl.constexpr):
    """The part of an id: those of slices are numbers, groups go to buckets by `buckets_of`."""
    if plan.fault >= 0:
        return tl.where((given >= 0) & (given < plan.parts), given, plan.parts)
    mixed = given
    for i in tl.static_range(len(plan.mix)):
        mixed = (mixed ^ (mixed >> plan.mix[i][0])) * plan.mix[i][1]
    return tl.where(given == plan.no_group, plan.parts, mixed >> 58 & (plan.parts - 1))
