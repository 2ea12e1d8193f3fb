"""A batch of single-label predictions in one launch: the Triton kernel. Only `kernels.py` imports it, when needed.

A program reads tiles of rows × classes, once, and adds what it finds of each row. Whole numbers go to
the cells by atomic additions, exact in any order; other sums as `kernel_sums.py` says, those of one
sample's programs first. The confidences of a bin are summed as integers, in two words of 32 binary
digits behind the point.

Columns of a line: 0 the cell "losses"; 18 rows with a likelihood; 19 faults, those of weights last;
23 rows, Σw, Σw²; 26 hits of each k of top-k, then Σw and Σw² of each.

A cell that counts rows comes with those of Σw and Σw², which are None while there are no weights;
all of it is None where it is not kept.

Source: the running maximum over chunks of classes as in Milakov and Gimelshein 2018.
"""

import triton
import triton.language as tl

from ptmetrics.counts.kernel_sums import (
    is_last,
    plus,
    plus_mean,
    pour,
    pour_words,
    sum_of_lines,
)

LIKELY = tl.constexpr(18)
FAULTS = tl.constexpr(19)
ROWS = tl.constexpr(23)
HITS = tl.constexpr(26)
LINES = tl.constexpr(2048)  # of programs; behind them those of what was found of some
BINS = tl.constexpr(960)
TICKETS = tl.constexpr(1920)  # behind the two words of each bin: one for some programs, one for all
BUCKETS = tl.constexpr(64)
WORD = tl.constexpr(2.0**32)
INF = tl.constexpr(float("inf"))
NUMBERS = ("step", "samples", "pixels", "stride_s", "stride_p", "stride_c", "stride_t", "stride_w",
           "first_bucket", "lanes", "folders")  # fmt: skip
LEAST_WEIGHT = tl.constexpr(1e-140)
MOST_WEIGHT = tl.constexpr(1e140)


@triton.jit(do_not_specialize=NUMBERS)
def count_classes(
    preds, target, weight, confusion, margins, calibration, confidence, losses, rows, topk, faults,
    group_losses, group_rows, group_topk, table, words, step, samples, pixels, stride_s, stride_p,
    stride_c, stride_t, stride_w, first_bucket, lanes, folders, classes: tl.constexpr,
    probs: tl.constexpr, together: tl.constexpr, even: tl.constexpr, ks: tl.constexpr,
    ignore: tl.constexpr, kinds: tl.constexpr, block_r: tl.constexpr, block_c: tl.constexpr,
    width: tl.constexpr, peel: tl.constexpr,
):  # fmt: skip
    """Count the rows `sample * pixels + pixel`; programs of a lane have samples of one bucket.

    `together` says whether "classes" or "pixels" lie together in memory, or "none"; `even` is a
    divisor of the strides of the others.
    """
    wide: tl.constexpr = tl.float64 if preds.dtype.element_ty == tl.float64 else tl.float32
    program = tl.program_id(0)
    programs = tl.num_programs(0)
    stride_s = tl.multiple_of(stride_s, even)
    stride_p = tl.multiple_of(stride_p, even)
    stride_c = tl.multiple_of(stride_c, even)
    lane = program % lanes
    bucket = (first_bucket + lane) % BUCKETS
    column = tl.arange(0, width)
    line = tl.zeros([width], tl.float64)
    tiles = tl.cdiv(pixels, block_r)
    for item in range(program // lanes, tl.cdiv(samples - lane, lanes) * tiles, programs // lanes):
        sample = (lane + lanes * (item // tiles)).to(tl.int64)
        pixel = (item % tiles) * block_r + tl.arange(0, block_r)
        keep = pixel < pixels
        row = sample * pixels + pixel
        given = tl.load(target + row * stride_t, mask=keep, other=0).to(tl.int64)
        if ignore is not None:
            keep = keep & (given != ignore)
        goal = tl.minimum(tl.maximum(given, 0), classes - 1)
        counts = (keep & (goal != given)).to(tl.int64) << 10
        keep = keep & (goal == given)
        goal = goal.to(tl.int32)
        start = preds + sample * stride_s + _times(pixel, stride_p, together == "pixels")
        own = tl.load(start + _times(goal, stride_c, together == "classes"), mask=keep, other=0)
        own = own.to(wide)
        peak, label, mass, norm, least, rank, nan = _read(
            start, stride_c, keep, own, goal, classes, block_c, together, wide, probs,
            losses is not None, len(ks) > 0,
        )  # fmt: skip
        counts += (keep & nan).to(tl.int64) << 20
        keep = keep & (nan == 0)
        if probs:
            fits = (tl.abs(mass - 1) <= 0.01) & (least >= 0)
            counts += (keep & (fits == 0)).to(tl.int64) << 30
            keep = keep & fits
            likely = keep
        else:
            likely = keep & (tl.abs(peak) != INF)
            counts += (keep & (likely == 0)).to(tl.int64) << 30
        w = keep.to(tl.float64)
        if weight is not None:
            w = tl.load(weight + row * stride_w, mask=keep, other=0).to(tl.float64)
            fits = ((w >= LEAST_WEIGHT) & (w <= MOST_WEIGHT)) | (w == 0)
            counts += (keep & (fits == 0)).to(tl.int64) << 40
            keep = keep & fits
            likely = likely & fits
            w = tl.where(keep, w, 0.0)
        counts += likely.to(tl.int64) + (keep.to(tl.int64) << 50)
        field = tl.minimum(tl.maximum(column - LIKELY, 0), 5)
        found = (tl.sum(counts, 0) >> (field * 10)) & 1023
        line += tl.where(column == field + LIKELY, found.to(tl.float64), 0.0)
        if rows[1] is not None:
            line = plus(line, column, ROWS + 1, 1, w)
            line = plus(line, column, ROWS + 2, 1, w * w)
        _confuse(confusion, margins, keep, goal, label, w, bucket * 3 * classes, classes, peel)
        for i in tl.static_range(len(ks)):
            hit_w = tl.where(rank < ks[i], w, 0.0)
            line = plus(line, column, HITS + i, 1, (keep & (rank < ks[i])).to(tl.float64))
            if topk[1] is not None:
                line = plus(line, column, HITS + len(ks) + i, 1, hit_w)
                line = plus(line, column, HITS + 2 * len(ks) + i, 1, hit_w * hit_w)
        if losses is not None:
            hit = (label == goal).to(tl.int32)
            nll, brier, gap, sure = _losses(likely, hit, peak, own, mass, norm, probs)
            w = tl.where(likely, w, 0.0)
            _calibrate(calibration, confidence, words, likely, sure, hit, w, peel)
            if rows[1] is not None:
                line = plus(line, column, 3, 3, w)
                line = plus(line, column, 6, 3, w * w)
            line = plus_mean(line, column, 0, nll, w, rows[1] is not None)
            line = plus_mean(line, column, 1, brier, w, rows[1] is not None)
            line = plus_mean(line, column, 2, gap, w, rows[1] is not None)
    # The first of the six sums of a mean is a number of rows; without weights the next two are, too.
    number = tl.sum(tl.where(column == LIKELY, line, 0.0), 0)
    line = tl.where((column < 3) | ((column < 9) & (rows[1] is None)), number, line)
    tl.store(table + program * width + column, line)
    folder = program % folders
    members = tl.cdiv(programs - folder, folders)
    if is_last(words + TICKETS + folder, members):
        line = sum_of_lines(table, folder, folders, members, column, width)
        if group_rows is not None:
            pour(group_losses, line, column, bucket, 0, 18)
            for i in tl.static_range(3):
                pour(group_rows[i], line, column, bucket, ROWS + i, 1)
                if len(ks) > 0:
                    pour(group_topk[i], line, column, bucket, HITS + i * len(ks), len(ks))
        tl.store(table + (folder + LINES) * width + column, line)
        if is_last(words + TICKETS + BUCKETS, folders):
            line = sum_of_lines(table, LINES, 1, folders, column, width)
            pour(losses, line, column, 0, 0, 18)
            for i in tl.static_range(3):
                pour(rows[i], line, column, 0, ROWS + i, 1)
                if len(ks) > 0:
                    pour(topk[i], line, column, 0, HITS + i * len(ks), len(ks))
            _tell(faults, line, column, step, kinds)
            if (losses is not None) and (rows[1] is None):
                pour_words(confidence, words)


@triton.jit
def _times(index, stride, together: tl.constexpr):
    """Where numbers lie that are one apart, or a stride."""
    if not together:
        index = index.to(tl.int64) * stride
    return index


@triton.jit
def _read(
    start, stride_c, keep, own, goal, classes: tl.constexpr, block_c: tl.constexpr,
    together: tl.constexpr, wide: tl.constexpr, probs: tl.constexpr, losses: tl.constexpr,
    ranks: tl.constexpr,
):  # fmt: skip
    """The columns that `ScorePasses` gives, but norm squared; and whether a row holds NaN."""
    peak = tl.full(keep.shape, -INF, wide)
    least = tl.full(keep.shape, INF, wide)
    mass = tl.zeros(keep.shape, wide)
    norm = tl.zeros(keep.shape, wide)
    label = tl.zeros(keep.shape, tl.int32)
    rank = tl.zeros(keep.shape, tl.int32)
    nan = keep & False
    for first in range(0, classes, block_c):
        index = first + tl.arange(0, block_c)
        there = (index < classes)[:, None] & keep[None, :]
        at = start[None, :] + _times(index, stride_c, together == "classes")[:, None]
        score = tl.load(at, mask=there, other=-INF).to(wide)
        top = tl.max(score, 0)
        lowest = tl.min(tl.where(score == top[None, :], index[:, None], classes), 0)
        better = top > peak
        highest = tl.where(better, top, peak)
        label = tl.where(better, lowest, label)
        if probs:
            odds = tl.where(there, score, 0.0)
            least = tl.minimum(least, tl.min(tl.where(there, score, INF), 0))
        elif losses:
            # Without the label, whose exp is 1, float32 keeps all digits of the doubt of a sure row.
            shift = tl.where(tl.abs(highest) == INF, 0.0, highest)
            odds = tl.exp(score - shift[None, :])
            odds = tl.where(better[None, :] & (index[:, None] == lowest[None, :]), 0.0, odds)
            scale = tl.exp(peak - shift)
            mass = (mass + better.to(wide)) * scale
            norm = (norm + better.to(wide)) * scale * scale
        else:
            odds = tl.where(score <= INF, 0.0, score)
        squares = tl.sum(odds * odds, 0)
        mass += tl.sum(odds, 0)
        norm += squares
        nan = nan | ((squares >= 0) == 0)  # ∞ − ∞ is no square
        if ranks:
            before = (score == own[None, :]) & (index[:, None] < goal[None, :])
            rank += tl.sum(((score > own[None, :]) | before).to(tl.int32), 0)
        peak = highest
    return peak, label, mass, norm, least, rank, nan


@triton.jit
def _losses(likely, hit, peak, own, mass, norm, probs: tl.constexpr):
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
        nll = tl.where(own > 0, -tl.log(tl.where(own > 0, own, 1.0)), INF)
    else:
        near = 1 + mass
        sure = 1 / near
        gap = tl.where(hit > 0, -mass / near, sure)
        short = 1 - tl.exp(own - peak)
        brier = (norm + (mass + short) * (mass + short) + short * (2 - short)) * sure * sure
        # What 1 + mass lost of its last digits is put right by the slope of the logarithm.
        nll = tl.log(near) - ((near - 1) - mass) / near + (peak - own)
    return nll.to(tl.float64), brier.to(tl.float64), gap.to(tl.float64), sure.to(tl.float64)


@triton.jit
def _confuse(
    confusion, margins, keep, goal, label, w, offset, classes: tl.constexpr, peel: tl.constexpr
):
    """Count pairs of classes; those that many rows of a tile share at once, `peel` of them."""
    place = goal * classes + label
    for _ in tl.static_range(peel):
        some = tl.max(tl.where(keep, place, -1), 0)
        same = keep & (place == some)
        n = tl.sum(same.to(tl.int64), 0)
        part = tl.where(same, w, 0.0)
        weights = (tl.sum(part, 0), tl.sum(part * part, 0))
        pair = (tl.maximum(some, 0) // classes, tl.maximum(some, 0) % classes)
        _count_pairs(confusion, margins, pair, n, weights, some >= 0, offset, classes)
        keep = keep & (same == 0)
    n = keep.to(tl.int64)
    _count_pairs(confusion, margins, (goal, label), n, (w, w * w), keep, offset, classes)


@triton.jit
def _count_pairs(confusion, margins, pair, n, weights, there, offset, classes: tl.constexpr):
    """Add pairs to the matrix, and to hits, targets and predictions of a part of the rows."""
    goal, label = pair
    _place(confusion, goal * classes + label, n, weights, there)
    if margins is not None:
        _place(margins, offset + goal, n, weights, there & (goal == label))
        _place(margins, offset + classes + goal, n, weights, there)
        _place(margins, offset + 2 * classes + label, n, weights, there)


@triton.jit
def _place(cell, place, n, weights, there):
    """Add at places of a cell, and of those of its weights."""
    tl.atomic_add(cell[0] + place, n, mask=there, sem="relaxed")
    if cell[1] is not None:
        tl.atomic_add(cell[1] + place, weights[0], mask=there, sem="relaxed")
        tl.atomic_add(cell[2] + place, weights[1], mask=there, sem="relaxed")


@triton.jit
def _calibrate(calibration, confidence, words, likely, sure, hit, w, peel: tl.constexpr):
    """Count confidences by bin and hit; one on an edge belongs to the bin below it."""
    place = tl.minimum(tl.maximum(tl.ceil(sure * BINS) - 1, 0.0), BINS - 1.0).to(tl.int32)
    place = 2 * place + hit
    high = tl.floor(sure * WORD)
    low = ((sure * WORD - high) * WORD).to(tl.int64)
    high = high.to(tl.int64)
    for _ in tl.static_range(peel):
        some = tl.max(tl.where(likely, place, -1), 0)
        same = likely & (place == some)
        n = tl.sum(same.to(tl.int64), 0)
        part = tl.where(same, w, 0.0)
        weights = (tl.sum(part, 0), tl.sum(part * part, 0))
        both = (tl.sum(tl.where(same, high, 0), 0), tl.sum(tl.where(same, low, 0), 0))
        _place_sure(
            calibration, confidence, words, some, n, weights, tl.sum(part * sure, 0), both, some >= 0
        )
        likely = likely & (same == 0)
    n = likely.to(tl.int64)
    _place_sure(
        calibration, confidence, words, place, n, (w, w * w), sure * w, (high, low), likely
    )


@triton.jit
def _place_sure(calibration, confidence, words, place, n, weights, sure, both, there):
    """Add confidences, weighted ones as they are."""
    _place(calibration, place, n, weights, there)
    if calibration[1] is not None:
        tl.atomic_add(confidence + place // 2, sure, mask=there, sem="relaxed")
    else:
        tl.atomic_add(words + place // 2, both[0], mask=there, sem="relaxed")
        tl.atomic_add(words + place // 2 + BINS, both[1], mask=there, sem="relaxed")


@triton.jit
def _tell(faults, line, column, step, kinds: tl.constexpr):
    """Count faults by kind, and remember the first step of each."""
    there = (column >= FAULTS) & (column < FAULTS + 4) & (line > 0)
    kind = tl.where(column == FAULTS + 3, kinds - 1, column - FAULTS)
    number = tl.load(faults[0] + kind, mask=there, other=0) + line.to(tl.int64)
    tl.store(faults[0] + kind, number, mask=there)
    first = tl.load(faults[1] + kind, mask=there, other=0)
    tl.store(faults[1] + kind, tl.minimum(first, step), mask=there)
