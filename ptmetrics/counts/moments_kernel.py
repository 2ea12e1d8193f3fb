"""A batch of real-valued predictions in one launch: the Triton kernel. `moments_launch.py` imports it, when needed.

Programs of a lane look at one output of all rows, or at samples of one bucket of groups. They move
all points by the mean of some rows that are spread over the batch, the same ones in each program: so
their sums can be added up in a fixed order, as `kernel_sums.py` says, and nothing is lost when
values lie near 1e6. The last program of a lane moves the sums, and those that were kept, to the
common mean.

Columns of a line: 0 the joint sums of Σw, 50 those of Σw², as `moments.joint_sums` has them; 100 the
six sums of |error|, the first three of which are those of the rows; 106 faults, those of weights
last.

Source: Pébay 2008, as `moments.py`.
"""

import triton
import triton.language as tl

from ptmetrics.counts.kernel_sums import add_at, is_last, pour, sum_of_lines, tell


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
    lanes,
    folders,
    first_bucket,
    plan: tl.constexpr,
):
    """Count the rows `sample * pixels + pixel`; `cells` is a `PointCells` and `plan` a `PointPlan`."""
    weighted: tl.constexpr = cells.rows[1] is not None
    program = tl.program_id(0)
    programs = tl.num_programs(0)
    lane = program % lanes
    first_sample = lane
    output = lane * 0
    apart = lanes
    if plan.outputs > 1:
        first_sample = lane * 0
        output = lane
        apart = lanes * 0 + 1
    preds_here = preds + output.to(tl.int64) * stride_po
    target_here = target + output.to(tl.int64) * stride_to
    joint = cells.moments + output * plan.size
    shift = _middle(
        preds_here, target_here, weight, joint, samples, pixels, stride_p, stride_t, stride_w, plan
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
        line = _put(line, column, plan.faults, keep & (p_fits == 0))
        keep = keep & p_fits
        line = _put(line, column, plan.faults + 1, keep & (t_fits == 0))
        keep = keep & t_fits
        if weight is not None:
            fits = (w >= plan.least_weight) & (w <= plan.most_weight)
            line = _put(line, column, plan.faults + 3, keep & (fits == 0))
            keep = keep & fits
        w = tl.where(keep, w, 0.0)
        size = tl.where(keep, tl.abs(p - t), 0.0)
        largest = tl.maximum(largest, tl.where(keep, size, -float("inf")))
        place = (size.to(tl.int64, bitcast=True) >> plan.dropped) - plan.first
        place = tl.minimum(tl.maximum(place, 0), plan.bins - 1) + output.to(tl.int64) * plan.bins
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
    tl.atomic_max(cells.largest + output, tl.max(largest, 0), sem="relaxed")
    if not weighted:  # Σw and Σw² are the number of rows, Σw²x is Σwx
        line = _as(line, column, plan.mean + 1, plan.mean)
        line = _as(line, column, plan.mean + 2, plan.mean)
        line = _as(line, column, plan.mean + 4, plan.mean + 3)
    own = table + program * plan.width
    tl.store(own + column, line)
    folder = program % folders
    members = tl.cdiv(programs - folder, folders)
    if is_last(words + folder, members):
        line = sum_of_lines(table, folder, folders, members, column, plan.width, 8)
        if plan.outputs > 1:
            _merge(joint, own, line, column, shift, weighted, plan)
            _pour_mean(cells.absolute, line, column, output, plan)
            if lane == 0:
                _pour_rows(cells.rows, line, column, 0, plan)
                tell(cells.faults, line, column, step, plan.faults, plan.kinds)
        else:
            if cells.group_rows is not None:
                bucket = (first_bucket + lane) % plan.buckets
                of_group = cells.group_moments + bucket * plan.size
                _merge(of_group, own, line, column, shift, weighted, plan)
                _pour_mean(cells.group_absolute + bucket * 6, line, column, output, plan)
                _pour_rows(cells.group_rows, line, column, bucket, plan)
            tl.store(table + (folder + plan.lines) * plan.width + column, line)
            if is_last(words + plan.buckets, folders):
                line = sum_of_lines(table, plan.lines, 1, folders, column, plan.width, 8)
                _merge(joint, own, line, column, shift, weighted, plan)
                _pour_mean(cells.absolute, line, column, output, plan)
                _pour_rows(cells.rows, line, column, 0, plan)
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
    p_mean = _mean_or(p, w, fits, total, joint + 1)
    t_mean = _mean_or(t, w, fits, total, joint + 2)
    return p_mean - t_mean, p_mean, t_mean


@triton.jit
def _mean_or(x, w, fits, total, before):
    """The mean of some rows, or what was kept."""
    mean = tl.sum(tl.where(fits, x, 0.0) * w, 0) / tl.where(total > 0, total, 1.0)
    return tl.where(total > 0, mean, tl.load(before))


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
def _merge(joint, own, line, column, shift, weighted: tl.constexpr, plan: tl.constexpr):
    """Add joint sums about a shift to a cell, both moved to the common mean.

    Args:
        joint: The cell.
        own: A line of the table that nobody needs any more.
        line: What is added.
        column: The columns.
        shift: Of error, prediction and target.
        weighted: Whether the line has sums of Σw² of their own.
        plan: The plan.
    """
    tl.store(own + column, line)
    tl.debug_barrier()
    sums = joint + plan.centre
    weight = _pick(line, column, 0)
    total = tl.load(sums) + weight
    total = tl.where(total > 0, total, 1.0)
    # In a cell the error stands first; Σ w e is row 1 of its cloud, Σ w t is column 1.
    e = tl.load(joint)
    p = tl.load(joint + 1)
    t = tl.load(joint + 2)
    e_mean = e + (_pick(line, column, 5) + weight * (shift[0] - e)) / total
    p_mean = p + (_pick(line, column, 30) + weight * (shift[1] - p)) / total
    t_mean = t + (_pick(line, column, 1) + weight * (shift[2] - t)) / total
    half: tl.constexpr = plan.sums // 2
    kept = _moved(sums, column, column, (e - e_mean, p - p_mean, t - t_mean), plan)
    by = (shift[0] - e_mean, shift[1] - p_mean, shift[2] - t_mean)
    if weighted:
        added = _moved(own, column, column, by, plan)
    else:
        added = _moved(own, column, column % half, by, plan)
    tl.debug_barrier()
    tl.store(sums + column, kept + added, mask=column < plan.sums)
    tl.store(joint, e_mean)
    tl.store(joint + 1, p_mean)
    tl.store(joint + 2, t_mean)


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
def _pour_mean(absolute, line, column, output, plan: tl.constexpr):
    """Add the six sums of |error|."""
    there = (column >= plan.mean) & (column < plan.mean + 6)
    at = absolute + (column - plan.mean) * plan.outputs + output
    tl.store(at, tl.load(at, mask=there, other=0.0) + line, mask=there)


@triton.jit
def _pour_rows(rows, line, column, part, plan: tl.constexpr):
    """Add the number of rows, Σw and Σw²."""
    for i in tl.static_range(3):
        pour(rows[i], line, column, part, plan.mean + i, 1)
