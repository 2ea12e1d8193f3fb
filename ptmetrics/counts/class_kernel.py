"""A batch of single-label predictions in one launch: the Triton kernel. Only `kernels.py` imports it, when needed.

A program reads tiles of rows × classes, once, and adds what it finds of each row. Whole numbers go to
the cells by atomic additions, exact in any order; other sums as `kernel_sums.py` says, those of one
sample's programs first. The confidences of a bin are summed as integers, in two words of 32 binary
digits behind the point.

Columns of a line: 0 the cell "losses"; 18 rows with a likelihood; 19 faults, those of weights last;
23 rows, Σw, Σw²; 26 hits of each k of top-k, then Σw and Σw² of each, and the cell "tempered".

A cell that counts rows comes with those of Σw and Σw², which are None while there are no weights;
all of it is None where it is not kept.

Source: the running maximum over chunks of classes as in Milakov and Gimelshein 2018.
"""

import triton
import triton.language as tl

from ptmetrics.counts.histogram_kernel import keep_scores
from ptmetrics.counts.kernel_sums import (
    add_at,
    add_up,
    plus,
    plus_mean,
    pour,
    pour_words,
)


@triton.jit(do_not_specialize=range(6, 16))
def count_classes(
    preds,
    target,
    weight,
    cells,
    table,
    words,
    step,
    samples,
    pixels,
    stride_s,
    stride_p,
    stride_c,
    stride_t,
    stride_w,
    lanes,
    folders,
    notes,
    plan: tl.constexpr,
):
    """Count the rows `sample * pixels + pixel`; programs of a lane have samples of one bucket.

    Where rows come in parts, it takes notes of each for `part_kernel.py`. `cells` is a `Cells` and
    `plan` a `KernelPlan` of `class_launch.py`.
    """
    wide: tl.constexpr = tl.float64 if preds.dtype.element_ty == tl.float64 else tl.float32
    weighted: tl.constexpr = cells.whole.rows[1] is not None
    odds: tl.constexpr = (cells.whole.losses is not None) or (cells.curve is not None)
    program = tl.program_id(0)
    programs = tl.num_programs(0)
    # So the compiler sees that four numbers lie where one load can take them.
    stride_s = stride_s // plan.even * plan.even
    stride_p = stride_p // plan.even * plan.even
    lane = program % lanes
    bucket = (samples * step + lane) & (plan.buckets - 1)
    column = tl.arange(0, plan.width)
    line = tl.zeros([plan.width], tl.float64)
    tiles = tl.cdiv(pixels, plan.rows)
    for item in range(program // lanes, tl.cdiv(samples - lane, lanes) * tiles, programs // lanes):
        sample = (lane + lanes * (item // tiles)).to(tl.int64)
        pixel = (item % tiles) * plan.rows + tl.arange(0, plan.rows)
        keep = pixel < pixels
        row = sample * pixels + pixel
        given = tl.load(target + row * stride_t, mask=keep, other=0).to(tl.int64)
        if plan.ignore is not None:
            keep = keep & (given != plan.ignore)
        goal = tl.minimum(tl.maximum(given, 0), plan.classes - 1)
        counts = (keep & (goal != given)).to(tl.int64) << 10
        keep = keep & (goal == given)
        goal = goal.to(tl.int32)
        start = preds + sample * stride_s + _times(pixel, stride_p, plan.together == "pixels")
        goal_at = start + _times(goal, stride_c, plan.together == "classes")
        own = tl.load(goal_at, mask=keep, other=0).to(wide)
        peak, label, mass, norm, least, rank, nan = _read_classes(
            start, stride_c, keep, own, goal, wide, odds, plan
        )
        counts += (keep & nan).to(tl.int64) << 20
        keep = keep & (nan == 0)
        if plan.probs:
            fits = (tl.abs(mass - 1) <= tl.full([], 0.01, wide)) & (least >= 0)
            counts += (keep & (fits == 0)).to(tl.int64) << 30
            keep = keep & fits
            likely = keep
        else:
            likely = keep & (tl.abs(peak) != float("inf"))
            counts += (keep & (likely == 0)).to(tl.int64) << 30
        w = keep.to(tl.float64)
        if weight is not None:
            w = tl.load(weight + row * stride_w, mask=keep, other=0).to(tl.float64)
            fits = ((w >= plan.least_weight) & (w <= plan.most_weight)) | (w == 0)
            counts += (keep & (fits == 0)).to(tl.int64) << 40
            keep = keep & fits
            likely = likely & fits
            w = tl.where(keep, w, 0.0)
        counts += likely.to(tl.int64) + (keep.to(tl.int64) << 50)
        field = tl.minimum(tl.maximum(column - plan.likely, 0), 5)
        found = (tl.sum(counts, 0) >> (field * 10)) & 1023
        line += tl.where(column == field + plan.likely, found.to(tl.float64), 0.0)
        if cells.pairs is not None:
            count_margins(
                cells.whole.margins, goal, label, (keep.to(tl.int64), w, w * w), keep, 0, plan
            )
            _sketch(cells.pairs, keep & (goal != label), goal, label, plan)
        else:
            _confuse(cells, keep, goal, label, w, bucket * 3 * plan.classes, plan)
        line = plus_rows(line, column, keep, goal, label, rank, w, weighted, plan)
        if notes is not None:
            at = notes + row
            note = keep.to(tl.int64) | likely.to(tl.int64) << 1 | goal.to(tl.int64) << 2
            note = note | label.to(tl.int64) << 22 | rank.to(tl.int64) << 42
            tl.store(at, tl.where(keep, note, 0), mask=pixel < pixels)
        if cells.whole.losses is not None:
            hit = (label == goal).to(tl.int32)
            nll, brier, gap, sure = _row_losses(likely, hit, peak, own, mass, norm, plan.probs)
            w = tl.where(likely, w, 0.0)
            _calibrate(cells, words + plan.buckets + 1, likely, sure, hit, w, plan)
            line = plus_losses(line, column, nll, brier, gap, w, weighted)
            if notes is not None:
                number = samples.to(tl.int64) * pixels
                tl.store(at + number, nll.to(tl.int64, bitcast=True), mask=likely)
                tl.store(at + 2 * number, brier.to(tl.int64, bitcast=True), mask=likely)
                tl.store(at + 3 * number, gap.to(tl.int64, bitcast=True), mask=likely)
        if cells.curve is not None:
            w = tl.where(likely, w, 0.0)
            _keep_margins(cells, start, stride_c, likely, goal, label, peak, mass, w, wide, plan)
        if cells.whole.tempered is not None:
            line = _plus_tempered(line, column, start, stride_c, likely, peak, own, w, wide, plan)
    line = whole_numbers(line, column, weighted, plan)
    last = add_up(cells, line, column, table, words, step, bucket, folders, pour_part, plan)
    if (cells.whole.losses is not None) and (not weighted):
        pour_words(cells.confidence, words + plan.buckets + 1, last, plan.bins)


@triton.jit
def _times(index, stride, together: tl.constexpr):
    """Where numbers lie that are one apart, or a stride."""
    if not together:
        index = index.to(tl.int64) * stride
    return index


@triton.jit
def _read_classes(
    start,
    stride_c,
    keep,
    own,
    goal,
    wide: tl.constexpr,
    losses: tl.constexpr,
    plan: tl.constexpr,
):
    """The columns that `ScorePasses` gives, but norm squared; and whether a row holds NaN."""
    peak = tl.full(keep.shape, -float("inf"), wide)
    least = tl.full(keep.shape, float("inf"), wide)
    mass = tl.zeros(keep.shape, wide)
    norm = tl.zeros(keep.shape, wide)
    label = tl.zeros(keep.shape, tl.int32)
    rank = tl.zeros(keep.shape, tl.int32)
    nan = keep & False
    for first in range(0, plan.classes, plan.block):
        index = first + tl.arange(0, plan.block)
        there = (index < plan.classes)[:, None] & keep[None, :]
        at = start[None, :] + _times(index, stride_c, plan.together == "classes")[:, None]
        score = tl.load(at, mask=there, other=-float("inf")).to(wide)
        top = tl.max(score, 0)
        lowest = tl.min(tl.where(score == top[None, :], index[:, None], plan.classes), 0)
        better = top > peak
        highest = tl.where(better, top, peak)
        label = tl.where(better, lowest, label)
        if plan.probs:
            odds = tl.where(there, score, 0.0)
            least = tl.minimum(least, tl.min(tl.where(there, score, float("inf")), 0))
        elif losses:
            # Without the label, whose exp is 1, float32 keeps all digits of the doubt of a sure row.
            shift = tl.where(tl.abs(highest) == float("inf"), 0.0, highest)
            odds = tl.exp(score - shift[None, :])
            odds = tl.where(better[None, :] & (index[:, None] == lowest[None, :]), 0.0, odds)
            scale = tl.exp(peak - shift)
            mass = (mass + better.to(wide)) * scale
            norm = (norm + better.to(wide)) * scale * scale
        else:
            odds = tl.where(score <= float("inf"), 0.0, score)
        squares = tl.sum(odds * odds, 0)
        mass += tl.sum(odds, 0)
        norm += squares
        nan = nan | ((squares >= 0) == 0)  # ∞ − ∞ is no square
        if len(plan.ks) > 0 and plan.ks[-1] > 1:
            before = (score == own[None, :]) & (index[:, None] < goal[None, :])
            rank += tl.sum(((score > own[None, :]) | before).to(tl.int32), 0)
        peak = highest
    return peak, label, mass, norm, least, rank, nan


@triton.jit
def _row_losses(likely, hit, peak, own, mass, norm, probs: tl.constexpr):
    """What `ClassReader.losses` says of each row, and its confidence, in the type of the scores."""
    own = tl.where(likely, own, 1.0)
    peak = tl.where(likely, peak, 1.0)
    mass = tl.where(likely, mass, 0.0)
    norm = tl.where(likely, norm, 0.0)
    if probs:
        sure = peak.to(tl.float64)
        gap = sure - hit
        own = own.to(tl.float64)
        brier = norm.to(tl.float64) - 2 * own + 1
        nll = tl.where(own > 0, -tl.log(tl.where(own > 0, own, 1.0)), float("inf"))
    else:
        near = 1 + mass
        sure = 1 / (1 + mass.to(tl.float64))  # which edge of a bin it lies on is for all digits
        gap = tl.where(hit > 0, -mass / near, 1 / near)
        short = 1 - tl.exp(own - peak)
        brier = norm + (mass + short) * (mass + short) + short * (2 - short)
        brier = brier / (near * near)
        # What 1 + mass lost of its last digits is put right by the slope of the logarithm.
        nll = tl.log(near) - ((near - 1) - mass) / near + (peak - own)
    return nll.to(tl.float64), brier.to(tl.float64), gap.to(tl.float64), sure.to(tl.float64)


@triton.jit
def _keep_margins(
    cells,
    start,
    stride_c,
    there,
    goal,
    label,
    peak,
    mass,
    w,
    wide: tl.constexpr,
    plan: tl.constexpr,
):
    """Add what `ClassReader.margins` says of each class to its histogram: the scores are read twice more."""
    others: tl.constexpr = plan.classes - 1
    second = tl.full(there.shape, -float("inf"), wide)
    rest = tl.zeros(there.shape, wide)
    if not plan.probs:
        for first in range(0, plan.classes, plan.block):
            index = first + tl.arange(0, plan.block)
            inside = (index < plan.classes)[:, None] & there[None, :]
            inside = inside & (index[:, None] != label[None, :])
            at = start[None, :] + _times(index, stride_c, plan.together == "classes")[:, None]
            score = tl.load(at, mask=inside, other=-float("inf")).to(wide)
            highest = tl.maximum(second, tl.max(score, 0))
            shift = tl.where(highest == -float("inf"), 0.0, highest)
            rest = rest * tl.exp(second - shift) + tl.sum(tl.exp(score - shift[None, :]), 0)
            second = highest
    sure = peak - second - tl.log(rest / others)
    for first in range(0, plan.classes, plan.some):
        index = first + tl.arange(0, plan.some)
        inside = (index < plan.classes)[:, None] & there[None, :]
        at = start[None, :] + _times(index, stride_c, plan.together == "classes")[:, None]
        score = tl.load(at, mask=inside, other=0).to(wide)
        if plan.probs:
            odds = tl.minimum(score.to(tl.float64), 1.0)
            margin = tl.log(odds / (1 - odds)) + tl.full([], plan.log_others, tl.float64)
        else:
            depth = score - peak[None, :]
            margin = depth - tl.log(((1 + mass)[None, :] - tl.exp(depth)) / others)
            margin = tl.where(index[:, None] == label[None, :], sure[None, :], margin)
        margin = tl.where(inside, margin, 0.0)
        yes = index[:, None] == goal[None, :]
        offset = index[:, None] * (2 * plan.key_rows)
        weights = tl.where(inside, w[None, :], 0.0)
        keep_scores((cells.curve, cells.ties), margin, yes, offset, weights, inside, 0, plan)


@triton.jit
def _plus_tempered(
    line, column, start, stride_c, there, peak, own, w, wide: tl.constexpr, plan: tl.constexpr
):
    """The line with what `ClassReader.nll_of_temperatures` says: the scores are read once for each temperature."""
    below = peak - own
    there = there & (below < float("inf"))
    w = tl.where(there, w, 0.0)
    below = tl.where(there, below, 0.0)
    for step in range(plan.temperatures):
        power = tl.full([], plan.log_heat, tl.float64) * (step - plan.temperatures // 2)
        heat = tl.exp(power).to(wide)
        mass = tl.zeros(there.shape, tl.float64)
        for first in range(0, plan.classes, plan.block):
            index = first + tl.arange(0, plan.block)
            inside = (index < plan.classes)[:, None] & there[None, :]
            at = start[None, :] + _times(index, stride_c, plan.together == "classes")[:, None]
            score = tl.load(at, mask=inside, other=-float("inf")).to(wide)
            depth = tl.where(inside, score - peak[None, :], -float("inf"))
            mass += tl.sum(tl.exp(depth / heat).to(tl.float64), 0)
        loss = tl.log(tl.where(there, mass, 1.0)) + (below / heat).to(tl.float64)
        line = plus(line, column, plan.tempered + step, 1, loss * w)
    return plus(line, column, plan.tempered + plan.temperatures, 1, w)


@triton.jit
def _confuse(cells, keep, goal, label, w, offset, plan: tl.constexpr):
    """Count pairs of classes; those that many rows of a tile share at once, `peel` of them."""
    place = goal * plan.classes + label
    for _ in tl.static_range(plan.peel):
        some = tl.max(tl.where(keep, place, -1), 0)
        same = keep & (place == some)
        part = tl.where(same, w, 0.0)
        numbers = (tl.sum(same.to(tl.int64), 0), tl.sum(part, 0), tl.sum(part * part, 0))
        _count_pairs(cells, tl.maximum(some, 0), numbers, some >= 0, offset, plan)
        keep = keep & (same == 0)
    numbers = (keep.to(tl.int64), w, w * w)
    _count_pairs(cells, place, numbers, keep, offset, plan)


@triton.jit
def _sketch(pairs, wrong, goal, label, plan: tl.constexpr):
    """Count errors by the hashes of their pairs, and the bits of those: the table of `ConfusedPairs`."""
    code = goal.to(tl.int64) * plan.classes + label
    marked = code << 1 | 1
    for first in range(0, plan.code + 1, plan.code_digits):
        digit = first + tl.arange(0, plan.code_digits)
        ones = (marked[:, None] >> tl.minimum(digit, plan.code)[None, :]) & 1
        there = wrong[:, None] & (digit <= plan.code)[None, :] & (ones > 0)
        for i in tl.static_range(len(plan.multipliers)):
            bucket = code * plan.multipliers[i] >> (64 - plan.log_buckets)
            bucket = (bucket & ((1 << plan.log_buckets) - 1)) + (i << plan.log_buckets)
            at = pairs + (bucket * (plan.code + 1))[:, None] + digit[None, :]
            tl.atomic_add(at, ones, mask=there, sem="relaxed")


@triton.jit
def plus_rows(line, column, keep, goal, label, rank, w, weighted: tl.constexpr, plan: tl.constexpr):
    """The line with Σw and Σw² of rows, and their hits."""
    tops: tl.constexpr = len(plan.ks)
    if weighted:
        line = plus(line, column, plan.rows_at + 1, 1, w)
        line = plus(line, column, plan.rows_at + 2, 1, w * w)
    for i in tl.static_range(tops):
        hit = rank < plan.ks[i]
        if plan.ks[i] == 1:
            hit = label == goal
        hit_w = tl.where(hit, w, 0.0)
        line = plus(line, column, plan.hits + i, 1, (keep & hit).to(tl.float64))
        if weighted:
            line = plus(line, column, plan.hits + tops + i, 1, hit_w)
            line = plus(line, column, plan.hits + 2 * tops + i, 1, hit_w * hit_w)
    return line


@triton.jit
def plus_losses(line, column, nll, brier, gap, w, weighted: tl.constexpr):
    """The line with the sums of losses of the rows that have a weight."""
    if weighted:
        line = plus(line, column, 3, 3, w)
        line = plus(line, column, 6, 3, w * w)
    line = plus_mean(line, column, 0, nll, w, weighted)
    line = plus_mean(line, column, 1, brier, w, weighted)
    return plus_mean(line, column, 2, gap, w, weighted)


@triton.jit
def whole_numbers(line, column, weighted: tl.constexpr, plan: tl.constexpr):
    """The first of the six sums of a mean is a number of rows; without weights the next two are, too."""
    number = tl.sum(tl.where(column == plan.likely, line, 0.0), 0)
    return tl.where((column < 3) | ((column < 9) & (not weighted)), number, line)


@triton.jit
def pour_part(cells, line, column, part, plan: tl.constexpr):
    """Add losses, rows and hits to those of a part; hits of the class itself stand in front of others."""
    tops: tl.constexpr = len(plan.ks)
    alone: tl.constexpr = 1 if cells.hits is not None else 0
    pour(cells.losses, line, column, part, 0, 18)
    pour(cells.tempered, line, column, part, plan.tempered, plan.temperatures + 1)
    for i in tl.static_range(3):
        pour(cells.rows[i], line, column, part, plan.rows_at + i, 1)
        if cells.hits is not None:
            pour(cells.hits[i], line, column, part, plan.hits + i * tops, 1)
        if tops > alone:
            pour(cells.topk[i], line, column, part, plan.hits + i * tops + alone, tops - alone)


@triton.jit
def _count_pairs(cells, place, numbers, there, offset, plan: tl.constexpr):
    """Add pairs to the matrix, and to hits, targets and predictions of a part of the rows."""
    add_at(cells.confusion, place, numbers, there)
    if cells.group.margins is not None:
        goal = place // plan.classes
        label = place % plan.classes
        count_margins(cells.group.margins, goal, label, numbers, there, offset, plan)


@triton.jit
def count_margins(margins, goal, label, numbers, there, offset, plan: tl.constexpr):
    """Add to hits, targets and predictions of each class."""
    add_at(margins, offset + goal, numbers, there & (goal == label))
    add_at(margins, offset + plan.classes + goal, numbers, there)
    add_at(margins, offset + 2 * plan.classes + label, numbers, there)


@triton.jit
def _calibrate(cells, words, likely, sure, hit, w, plan: tl.constexpr):
    """Count confidences by bin and hit; one on an edge belongs to the bin below it."""
    place = tl.minimum(tl.maximum(tl.ceil(sure * plan.bins) - 1, 0.0), plan.bins - 1.0).to(tl.int32)
    place = 2 * place + hit
    high = tl.floor(sure * 4294967296.0)
    low = ((sure * 4294967296.0 - high) * 4294967296.0).to(tl.int64)
    high = high.to(tl.int64)
    for _ in tl.static_range(plan.peel):
        some = tl.max(tl.where(likely, place, -1), 0)
        same = likely & (place == some)
        part = tl.where(same, w, 0.0)
        numbers = (tl.sum(same.to(tl.int64), 0), tl.sum(part, 0), tl.sum(part * part, 0))
        add_at(cells.calibration, some, numbers, some >= 0)
        both = (tl.sum(tl.where(same, high, 0), 0), tl.sum(tl.where(same, low, 0), 0))
        _place_sure(cells, words, some // 2, tl.sum(part * sure, 0), both, some >= 0, plan.bins)
        likely = likely & (same == 0)
    add_at(cells.calibration, place, (likely.to(tl.int64), w, w * w), likely)
    _place_sure(cells, words, place // 2, sure * w, (high, low), likely, plan.bins)


@triton.jit
def _place_sure(cells, words, place, sure, both, there, bins: tl.constexpr):
    """Add confidences, weighted ones as they are."""
    if cells.calibration[1] is not None:
        tl.atomic_add(cells.confidence + place, sure, mask=there, sem="relaxed")
    else:
        tl.atomic_add(words + place, both[0], mask=there, sem="relaxed")
        tl.atomic_add(words + place + bins, both[1], mask=there, sem="relaxed")
