"""A batch of real-valued predictions in one launch: the Triton kernel. `moments_launch.py` imports it, when needed.

Programs of a lane look at one output of all rows, or at samples of one bucket of groups. They move
all points by the mean of some rows that are spread over the batch, the same ones in each program: so
their sums can be added up in a fixed order, as `kernel_sums.py` says, and nothing is lost when
values lie near 1e6. The last program of a lane moves the sums, and those that were kept, to the
common mean.

With ids of slices or groups the programs of a lane look for one output of the rows of one part. Each
then moves them by the mean of the first ones that it finds, for parts may lie far from each other.

Columns of a line: 0 the joint sums of Σw, 50 those of Σw², as `moments.joint_sums` has them; 100 the
six sums of |error|, the first three of which are those of the rows; 106 faults, those of weights or
ids last; 110 what error, prediction and target were moved by.

Source: Pébay 2008, as `moments.py`.
"""

import triton
import triton.language as tl

from ptmetrics.counts.kernel_sums import add_at, is_last, part_of_id, pour, sum_of_lines, tell


@triton.jit(do_not_specialize=range(6, 17))
def count_points(
    preds,
    target,
    weight,
    cells,
    table,
    words,
    step,
    samples,
    pixels,
    stride_p,
    stride_po,
    stride_t,
    stride_to,
    stride_w,
    stride_i,
    lanes,
    folders,
    ids,
    plan: tl.constexpr,
):
    """Count the rows `sample * pixels + pixel`, all or by ids; `cells` is a `PointCells`, `plan` a `PointPlan`."""
    weighted: tl.constexpr = cells.part.rows[1] is not None
    by_sample: tl.constexpr = (plan.outputs == 1) and (ids is None)
    program = tl.program_id(0)
    programs = tl.num_programs(0)
    lane = program % lanes
    output = lane % plan.outputs
    part = lane // plan.outputs
    first_sample = lane * 0
    apart = lanes * 0 + 1
    if by_sample:
        part = first_sample
        first_sample = lane
        apart = lanes
    preds_here = preds + output.to(tl.int64) * stride_po
    target_here = target + output.to(tl.int64) * stride_to
    joint = cells.part.moments + (part * plan.outputs + output) * plan.size
    nothing = tl.full([], 0.0, tl.float64)
    shift = (nothing, nothing, nothing)
    if ids is None:
        shift = _middle(
            preds_here,
            target_here,
            weight,
            joint,
            samples,
            pixels,
            stride_p,
            stride_t,
            stride_w,
            plan,
        )
    column = tl.arange(0, plan.width)
    line = tl.zeros([plan.width], tl.float64)
    largest = tl.full([plan.rows], -float("inf"), tl.float64)
    tiles = tl.cdiv(pixels, plan.rows)
    last = tl.cdiv(samples - first_sample, apart) * tiles
    for item in range(program // lanes, last, programs // lanes):
        sample = (first_sample + apart * (item // tiles)).to(tl.int64)
        pixel = (item % tiles) * plan.rows + tl.arange(0, plan.rows)
        keep = pixel < pixels
        row = sample * pixels + pixel
        if ids is not None:
            given = tl.load(ids + row * stride_i, mask=keep, other=0)
            keep = keep & (part_of_id(given, plan) == part)
        w = keep.to(tl.float64)
        if weight is not None:
            w = tl.load(weight + row * stride_w, mask=keep, other=0).to(tl.float64)
            keep = keep & (w != 0)
        p = tl.load(preds_here + row * stride_p, mask=keep, other=0).to(tl.float64)
        t = tl.load(target_here + row * stride_t, mask=keep, other=0).to(tl.float64)
        p_fits = tl.abs(p) <= plan.limit
        t_fits = tl.abs(t) <= plan.limit
        if plan.outputs > 1:
            for other in range(plan.outputs):
                at = preds + row * stride_p + (row * 0 + other) * stride_po
                p_fits = p_fits & (_size(at, keep) <= plan.limit)
                at = target + row * stride_t + (row * 0 + other) * stride_to
                t_fits = t_fits & (_size(at, keep) <= plan.limit)
        if ids is None:
            line = _put(line, column, plan.faults, keep & (p_fits == 0))
            line = _put(line, column, plan.faults + 1, keep & p_fits & (t_fits == 0))
        keep = keep & p_fits & t_fits
        if weight is not None:
            fits = (w >= plan.least_weight) & (w <= plan.most_weight)
            if ids is None:
                line = _put(line, column, plan.faults + 3, keep & (fits == 0))
            keep = keep & fits
        w = tl.where(keep, w, 0.0)
        if ids is not None:
            if plan.fault >= 0:  # an id of -1 is none, and no fault
                line = _put(line, column, plan.faults + 3, keep & (given != -1))
            found = _pick(line, column, plan.mean) > 0
            shift = _first_of(shift, found, p, t, keep)
        size = tl.where(keep, tl.abs(p - t), 0.0)
        if cells.magnitude is not None:
            largest = tl.maximum(largest, tl.where(keep, size, -float("inf")))
            place = (size.to(tl.int64, bitcast=True) >> plan.dropped) - plan.first
            place = tl.minimum(tl.maximum(place, 0), plan.bins - 1)
            place += output.to(tl.int64) * plan.bins
            add_at(cells.magnitude, place, (keep.to(tl.int64), w, w * w), keep)
        line = _put(line, column, plan.mean, keep)
        if weighted:
            line = _put(line, column, plan.mean + 1, w)
            line = _put(line, column, plan.mean + 2, w * w)
            line = _put(line, column, plan.mean + 4, w * w * size)
        line = _put(line, column, plan.mean + 3, w * size)
        line = _put(line, column, plan.mean + 5, (w * size) * (w * size))
        e = tl.where(keep, (p - t) - shift[0], 0.0)
        p = tl.where(keep, p - shift[1], 0.0)
        t = tl.where(keep, t - shift[2], 0.0)
        line = _put_joint(line, column, 0, e, p, t, w, plan)
        if weighted:
            line = _put_joint(line, column, plan.sums // 2, e, p, t, w * w, plan)
    if cells.largest is not None:
        tl.atomic_max(cells.largest + output, tl.max(largest, 0), sem="relaxed")
    if not weighted:  # Σw and Σw² are the number of rows, Σw²x is Σwx
        line = _as(line, column, plan.mean + 1, plan.mean)
        line = _as(line, column, plan.mean + 2, plan.mean)
        line = _as(line, column, plan.mean + 4, plan.mean + 3)
    line = _moved_by(line, column, shift, plan)
    own = table + program * plan.width
    tl.store(own + column, line)
    folder = program % folders
    members = tl.cdiv(programs - folder, folders)
    if is_last(words + folder, members):
        line = sum_of_lines(table, folder, folders, members, column, plan.width, 8)
        whole = _moved_by(line, column, shift, plan)
        if by_sample:
            if cells.group.rows is not None:
                bucket = (samples * step + lane) & (plan.buckets - 1)
                of_group = cells.group.moments + bucket * plan.size
                tl.store(own + column, whole)
                _merge(of_group, own, 0, 1, column, weighted, plan)
                _pour_part(cells.group, line, column, bucket, output, plan)
            tl.store(table + (folder + plan.lines) * plan.width + column, line)
            if is_last(words + plan.buckets, folders):
                line = sum_of_lines(table, plan.lines, 1, folders, column, plan.width, 8)
                tl.store(own + column, _moved_by(line, column, shift, plan))
                _merge(joint, own, 0, 1, column, weighted, plan)
                _pour_part(cells.part, line, column, 0, output, plan)
                tell(cells.faults, line, column, step, plan.faults, plan.kinds)
        else:
            if ids is None:
                tl.store(own + column, whole)
                _merge(joint, own, 0, 1, column, weighted, plan)
            else:
                lines = table + folder * plan.width
                _merge(joint, lines, folders * plan.width, members, column, weighted, plan)
            _pour_part(cells.part, line, column, part, output, plan)
            if (part == plan.parts) & (output == 0):
                tell(cells.faults, line, column, step, plan.faults, plan.kinds)


@triton.jit
def _size(at, keep):
    """|x| of each row."""
    return tl.abs(tl.load(at, mask=keep, other=0).to(tl.float64))


@triton.jit
def _put(line, column, place, x):
    """The line with the sum of a value a row in one column more."""
    return line + tl.where(column == place, tl.sum(x.to(tl.float64), 0), 0.0)


@triton.jit
def _pick(line, column, place: tl.constexpr):
    """The number in one column."""
    return tl.sum(tl.where(column == place, line, 0.0), 0)


@triton.jit
def _as(line, column, place: tl.constexpr, other: tl.constexpr):
    """The line with the same number in two columns."""
    return tl.where(column == place, _pick(line, column, other), line)


@triton.jit
def _middle(
    preds, target, weight, joint, samples, pixels, stride_p, stride_t, stride_w, plan: tl.constexpr
):
    """Mean error, prediction and target of rows spread over the batch; without any, of those before."""
    rows = samples.to(tl.int64) * pixels
    row = tl.arange(0, plan.rows).to(tl.int64) * rows // plan.rows
    p = tl.load(preds + row * stride_p).to(tl.float64)
    t = tl.load(target + row * stride_t).to(tl.float64)
    fits = (tl.abs(p) <= plan.limit) & (tl.abs(t) <= plan.limit)
    w = fits.to(tl.float64)
    if weight is not None:
        w = tl.load(weight + row * stride_w).to(tl.float64)
        w = tl.where(fits & (w >= plan.least_weight) & (w <= plan.most_weight), w, 0.0)
    w = w / tl.maximum(tl.max(w, 0), plan.least_weight)  # no product overflows
    total = tl.sum(w, 0)
    p_mean = _mean_or(p, w, fits, total, tl.load(joint + 1))
    t_mean = _mean_or(t, w, fits, total, tl.load(joint + 2))
    return p_mean - t_mean, p_mean, t_mean


@triton.jit
def _first_of(shift, found, p, t, keep):
    """The mean error, prediction and target of the first rows that are found, those of a tile."""
    w = keep.to(tl.float64)
    total = tl.sum(w, 0)
    p_mean = tl.where(found, shift[1], _mean_or(p, w, keep, total, 0.0))
    t_mean = tl.where(found, shift[2], _mean_or(t, w, keep, total, 0.0))
    return p_mean - t_mean, p_mean, t_mean


@triton.jit
def _mean_or(x, w, fits, total, before):
    """The mean of some rows, or what there was before."""
    mean = tl.sum(tl.where(fits, x, 0.0) * w, 0) / tl.where(total > 0, total, 1.0)
    return tl.where(total > 0, mean, before)


@triton.jit
def _moved_by(line, column, shift, plan: tl.constexpr):
    """The line with what its points were moved by."""
    for i in tl.static_range(3):
        line = tl.where(column == plan.shift + i, shift[i], line)
    return line


@triton.jit
def _put_joint(line, column, first: tl.constexpr, e, p, t, w, plan: tl.constexpr):
    """The line with Σ w eⁱ tʲ / (i! j!), and behind them those of p and t."""
    clouds: tl.constexpr = plan.powers * plan.powers
    of_e = w
    of_p = w
    number = tl.full([], 1.0, tl.float64)
    for i in range(plan.powers):  # loops of the device: unrolled ones take all registers
        x = of_e
        y = of_p
        for j in tl.static_range(plan.powers):
            if j > 0:
                x = x * t * (1.0 / j)
                y = y * t * (1.0 / j)
            line = _put(line, column, first + plan.powers * i + j, x)
            line = _put(line, column, first + clouds + plan.powers * i + j, y)
        of_e = of_e * e * (1.0 / number)
        of_p = of_p * p * (1.0 / number)
        number += 1.0
    return line


@triton.jit
def _merge(joint, lines, apart, number, column, weighted: tl.constexpr, plan: tl.constexpr):
    """Add joint sums to a cell, all moved to the common mean.

    Args:
        joint: The cell.
        lines: The first of some lines, each about what its points were moved by.
        apart: How far from each other they lie.
        number: How many there are.
        column: The columns.
        weighted: Whether lines have sums of Σw² of their own.
        plan: The plan.
    """
    tl.debug_barrier()
    sums = joint + plan.centre
    e = tl.load(joint)
    p = tl.load(joint + 1)
    t = tl.load(joint + 2)
    total = tl.load(sums)
    e_sum = total * 0
    p_sum = e_sum
    t_sum = e_sum
    # In a cell the error stands first; Σ w e is row 1 of its cloud, Σ w t is column 1.
    for first in range(0, number, 32):
        member = first + tl.arange(0, 32)
        there = member < number
        at = lines + member * apart
        weight = tl.load(at, mask=there, other=0.0)
        total += tl.sum(weight, 0)
        e_sum += _sum_about(at, 5, 0, weight, e, there, plan)
        p_sum += _sum_about(at, 30, 1, weight, p, there, plan)
        t_sum += _sum_about(at, 1, 2, weight, t, there, plan)
    total = tl.where(total > 0, total, 1.0)
    e_mean = e + e_sum / total
    p_mean = p + p_sum / total
    t_mean = t + t_sum / total
    half: tl.constexpr = plan.sums // 2
    place = column
    if not weighted:
        place = column % half
    added = _moved(sums, column, column, (e - e_mean, p - p_mean, t - t_mean), plan)
    for member in range(number):
        at = lines + member * apart
        by_e = tl.load(at + plan.shift) - e_mean
        by_p = tl.load(at + plan.shift + 1) - p_mean
        by_t = tl.load(at + plan.shift + 2) - t_mean
        added += _moved(at, column, place, (by_e, by_p, by_t), plan)
    tl.debug_barrier()
    tl.store(sums + column, added, mask=column < plan.sums)
    tl.store(joint, e_mean)
    tl.store(joint + 1, p_mean)
    tl.store(joint + 2, t_mean)


@triton.jit
def _sum_about(
    at, place: tl.constexpr, variable: tl.constexpr, weight, centre, there, plan: tl.constexpr
):
    """Σw·x of some lines about the centre of a cell."""
    shift = tl.load(at + plan.shift + variable, mask=there, other=0.0)
    return tl.sum(tl.load(at + place, mask=there, other=0.0) + weight * (shift - centre), 0)


@triton.jit
def _moved(sums, column, place, by, plan: tl.constexpr):
    """`moments.moved_sums` of the sums that stand at some places: the binomial theorem."""
    i = column // plan.powers % plan.powers
    j = column % plan.powers
    left = tl.where(column // (plan.powers * plan.powers) % 2 == 0, by[0], by[1])
    total = tl.zeros([plan.width], tl.float64)
    x = left * 0 + 1
    number = tl.full([], 1.0, tl.float64)
    for a in range(plan.powers):
        y = x
        for b in tl.static_range(plan.powers):
            if b > 0:
                y = y * by[2] * (1.0 / b)
            there = (i >= a) & (j >= b) & (column < plan.sums)
            total += y * tl.load(sums + place - plan.powers * a - b, mask=there, other=0.0)
        x = x * left * (1.0 / number)
        number += 1.0
    return total


@triton.jit
def _pour_part(cells, line, column, part, output, plan: tl.constexpr):
    """Add the six sums of |error| of an output to those of a part, and once the number of rows, Σw and Σw²."""
    there = (column >= plan.mean) & (column < plan.mean + 6)
    at = cells.absolute + (part * 6 + column - plan.mean) * plan.outputs + output
    tl.store(at, tl.load(at, mask=there, other=0.0) + line, mask=there)
    if output == 0:
        for i in tl.static_range(3):
            pour(cells.rows[i], line, column, part, plan.mean + i, 1)
