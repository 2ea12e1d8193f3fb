"""Yes-or-no predictions of a batch in one launch: the Triton kernels. Only `yesno_launch.py` imports them.

`count_yes_no` reads rows that are one yes or no each, `count_labels` rows of many labels. A tile has
two dimensions. Rows of one label stand in stripes that no two warps share, so that what is asked of a
stripe takes no barrier. Labels stand beside each other, and their rows behind each other.

Whole numbers go to places of the cells by atomic additions, exact in any order, and so do weights
there; other sums as `kernel_sums.py` says, those of one sample's programs first.

Columns of a line of `count_yes_no`: 0 the cell "losses"; 18 rows, Σw, Σw²; 21 the matrix, its Σw,
its Σw²; 33 faults, those of weights last. Of `count_labels`: 0 "together"; 16 rows, Σw, Σw²; 19
faults; 23 the cell "row_scores".

A cell that counts rows comes with those of Σw and Σw², which are None while there are no weights;
all of it is None where it is not kept.
"""

import triton
import triton.language as tl

from ptmetrics.counts.histogram_kernel import keep_scores
from ptmetrics.counts.kernel_sums import add_at, add_up, pour


@triton.jit(do_not_specialize=range(6, 16))
def count_yes_no(
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
    stride_c,
    stride_t,
    stride_l,
    stride_w,
    lanes,
    folders,
    plan: tl.constexpr,
):
    """Count the rows `sample * pixels + pixel`; programs of a lane have samples of one bucket.

    `cells` is a `YesNoCells` and `plan` a `YesNoPlan` of `yesno_launch.py`.
    """
    wide: tl.constexpr = tl.float64 if preds.dtype.element_ty == tl.float64 else tl.float32
    weighted: tl.constexpr = cells.whole.rows[1] is not None
    program = tl.program_id(0)
    programs = tl.num_programs(0)
    lane = program % lanes
    bucket = (samples * step + lane) & (plan.buckets - 1)
    place = tl.arange(0, plan.block)[:, None] * plan.rows + tl.arange(0, plan.rows)[None, :]
    nothing = tl.zeros([plan.block, plan.rows], tl.float64)
    number = tl.zeros([plan.block, plan.rows], tl.int64)  # of each kind and fault, in 16 bits each
    faults = number
    total = (nothing, nothing, nothing, nothing)
    square = (nothing, nothing, nothing, nothing)
    nll_sums = (nothing, nothing, nothing)
    brier_sums = (nothing, nothing, nothing)
    gap_sums = (nothing, nothing, nothing)
    tiles = tl.cdiv(pixels, plan.block * plan.rows)
    for item in range(program // lanes, tl.cdiv(samples - lane, lanes) * tiles, programs // lanes):
        sample = (lane + lanes * (item // tiles)).to(tl.int64)
        pixel = (item % tiles) * (plan.block * plan.rows) + place
        keep = pixel < pixels
        row = sample * pixels + pixel
        given = _load(target, row, stride_t, keep, plan.dense).to(tl.int64)
        raw = _load(preds, row, stride_p, keep, plan.dense)
        mass = raw
        if plan.columns == 2:
            second = tl.load(preds + row * stride_p + stride_c, mask=keep, other=0)
            mass = raw.to(tl.float64) + second.to(tl.float64)
            raw = second.to(wide) - raw.to(wide) if plan.inputs == "logits" else second
        raw = raw.to(tl.int64) if plan.inputs == "labels" else raw.to(wide)
        if plan.ignore is not None:
            keep = keep & (given != plan.ignore)
        nan = keep & _is_impossible(raw, plan.inputs)
        odd = keep & False
        if plan.inputs == "probs":
            mass = mass.to(tl.float64)
            odd = nan
            nan = keep & ((mass <= float("inf")) == 0)
            if plan.columns == 2:
                odd = odd | (tl.abs(mass - 1) > tl.full([], 0.01, tl.float64))
            odd = keep & odd & (nan == 0)
        keep = keep & (nan == 0) & (odd == 0)
        outside = keep & (given != 0) & (given != 1)
        keep = keep & (outside == 0)
        w = keep.to(tl.float64)
        heavy = keep & False
        if weight is not None:
            w = tl.load(weight + row * stride_w, mask=keep, other=0).to(tl.float64)
            heavy = keep & (_fits(w, plan) == 0)
            keep = keep & (heavy == 0)
            w = tl.where(keep, w, 0.0)
        faults += outside.to(tl.int64) + (nan.to(tl.int64) << 16)
        faults += (odd.to(tl.int64) << 32) + (heavy.to(tl.int64) << 48)
        yes = keep & (given == 1)
        said = keep & _is_yes(raw, plan)
        kind = tl.where(keep, 2 * yes.to(tl.int32) + said.to(tl.int32), -1)
        number += keep.to(tl.int64) << (16 * tl.maximum(kind, 0))
        if weighted:
            total = _add_by_kind(total, kind, w)
            square = _add_by_kind(square, kind, w * w)
        if (cells.whole.losses is not None) or (cells.curve is not None):
            score = _logit_of(raw, keep, plan.inputs)
            if cells.whole.losses is not None:
                nll, brier, gap = _losses_of(score.to(wide), yes)
                nll_sums = _add_mean(nll_sums, nll, w)
                brier_sums = _add_mean(brier_sums, brier, w)
                gap_sums = _add_mean(gap_sums, gap, w)
            if cells.curve is not None:
                if plan.keys == "probability":
                    score = tl.where(keep, raw, 0.0)
                keep_scores((cells.curve, cells.ties), score, yes, 0, w, keep, plan.peel, plan)
    column = tl.arange(0, plan.width)
    line = tl.zeros([plan.width], tl.float64)
    for i in tl.static_range(4):
        line = _put_sum(line, column == 21 + i, number >> (16 * i) & 65535)
        line = _put_sum(line, column == 33 + i, faults >> (16 * i) & 65535)
        if weighted:
            line = _put_sum(line, column == 25 + i, total[i])
            line = _put_sum(line, column == 29 + i, square[i])
    # What all four kinds come to is the number of rows, and that of each loss; so are their weights.
    for i in tl.static_range(3 if weighted else 1):
        kinds = (column >= 21 + 4 * i) & (column < 25 + 4 * i)
        found = tl.sum(tl.where(kinds, line, 0.0), 0)
        those = (column == 18 + i) | (column // 3 == i) | ((column < 9) & (not weighted))
        line = tl.where(those, found, line)
    if cells.whole.losses is not None:
        line = _put_mean(line, column, 0, nll_sums, weighted)
        line = _put_mean(line, column, 1, brier_sums, weighted)
        line = _put_mean(line, column, 2, gap_sums, weighted)
    add_up(cells, line, column, table, words, step, bucket, folders, _pour_yes_no, plan)


@triton.jit
def _pour_yes_no(cells, line, column, part, plan: tl.constexpr):
    """Add losses, rows and the matrix to those of a part."""
    pour(cells.losses, line, column, part, 0, 18)
    for i in tl.static_range(3):
        pour(cells.rows[i], line, column, part, 18 + i, 1)
        if cells.confusion is not None:
            pour(cells.confusion[i], line, column, part, 21 + 4 * i, 4)


@triton.jit(do_not_specialize=range(6, 16))
def count_labels(
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
    stride_c,
    stride_t,
    stride_l,
    stride_w,
    lanes,
    folders,
    plan: tl.constexpr,
):
    """Count rows of labels; the arguments are those of `count_yes_no`."""
    wide: tl.constexpr = tl.float64 if preds.dtype.element_ty == tl.float64 else tl.float32
    weighted: tl.constexpr = cells.whole.rows[1] is not None
    held: tl.constexpr = plan.labels <= plan.block
    program = tl.program_id(0)
    programs = tl.num_programs(0)
    lane = program % lanes
    bucket = (samples * step + lane) & (plan.buckets - 1)
    column = tl.arange(0, plan.width)
    line = tl.zeros([plan.width], tl.float64)
    none = tl.zeros([plan.block], tl.int32)
    nothing = tl.zeros([plan.block], tl.float64)
    number = (none, none, none, none)
    total = (nothing, nothing, nothing, nothing)
    square = (nothing, nothing, nothing, nothing)
    tiles = tl.cdiv(pixels, plan.rows)
    for item in range(program // lanes, tl.cdiv(samples - lane, lanes) * tiles, programs // lanes):
        sample = (lane + lanes * (item // tiles)).to(tl.int64)
        pixel = (item % tiles) * plan.rows + tl.arange(0, plan.rows)
        there = pixel < pixels
        row = sample * pixels + pixel
        w = there.to(tl.float64)
        fits = there
        if weight is not None:
            w = tl.load(weight + row * stride_w, mask=there, other=0).to(tl.float64)
            fits = there & _fits(w, plan)
            w = tl.where(fits, w, 0.0)
        hits = tl.zeros([plan.rows], tl.int32)
        actual = hits
        predicted = hits
        others = hits
        refused = hits
        odds = hits
        for start in range(0, plan.labels, plan.block):
            label = start + tl.arange(0, plan.block)
            keep = (label < plan.labels)[:, None] & there[None, :]
            first = (row * stride_t)[None, :]
            given = _load(target + first, label[:, None], stride_l, keep, plan.dense).to(tl.int64)
            first = (row * stride_p)[None, :]
            raw = _load(preds + first, label[:, None], stride_c, keep, plan.dense)
            raw = raw.to(tl.int64) if plan.inputs == "labels" else raw.to(wide)
            if plan.ignore is not None:
                keep = keep & (given != plan.ignore)
            bad = keep & (given != 0) & (given != 1)
            keep = keep & (bad == 0)
            odd = keep & _is_impossible(raw, plan.inputs)
            keep = keep & (odd == 0)
            yes = keep & (given == 1)
            said = keep & _is_yes(raw, plan)
            packed = (yes & said).to(tl.int64) | (yes.to(tl.int64) << 10)
            packed = packed | (said.to(tl.int64) << 20) | ((keep & (yes == 0)).to(tl.int64) << 30)
            packed = packed | (bad.to(tl.int64) << 40) | (odd.to(tl.int64) << 50)
            found = tl.sum(packed, 0)
            hits += (found & 1023).to(tl.int32)
            actual += ((found >> 10) & 1023).to(tl.int32)
            predicted += ((found >> 20) & 1023).to(tl.int32)
            others += ((found >> 30) & 1023).to(tl.int32)
            refused += ((found >> 40) & 1023).to(tl.int32)
            odds += (found >> 50).to(tl.int32)
            keep = keep & fits[None, :]
            yes = yes & keep
            said = said & keep
            weights = tl.where(keep, w[None, :], 0.0)
            if not held:
                number = (none, none, none, none)
                total = (nothing, nothing, nothing, nothing)
                square = (nothing, nothing, nothing, nothing)
            number = _add_labels(number, yes, said, keep, keep.to(tl.int32))
            if weighted:
                total = _add_labels(total, yes, said, keep, weights)
                square = _add_labels(square, yes, said, keep, weights * weights)
            if not held:
                _pour_labels(cells, number, total, square, label, bucket, plan)
            if cells.curve is not None:
                score = _logit_of(raw, keep, plan.inputs)
                offset = label[:, None] * (2 * plan.key_rows)
                histogram = (cells.curve, cells.ties)
                keep_scores(histogram, score, yes, offset, weights, keep, plan.peel, plan)
        counts = there & (actual + others > 0)
        heavy = counts & (fits == 0)
        counts = counts & fits
        line = _put_sum(line, column == 19, refused)
        line = _put_sum(line, column == 20, odds)
        line = _put_sum(line, column == 22, heavy.to(tl.int64))
        line = _put_sum(line, column == 16, counts.to(tl.int64))
        w = tl.where(counts, w, 0.0)
        if weighted:
            line = _put_sum(line, column == 17, w)
            line = _put_sum(line, column == 18, w * w)
        intact = counts & (refused + odds == 0)
        line = _put_together(line, column, hits, actual, predicted, others, w)
        line = _put_row_scores(line, column, hits, actual, predicted, intact, w, weighted, plan)
    if held:
        _pour_labels(cells, number, total, square, tl.arange(0, plan.block), bucket, plan)
    add_up(cells, line, column, table, words, step, bucket, folders, _pour_rows, plan)


@triton.jit
def _pour_rows(cells, line, column, part, plan: tl.constexpr):
    """Add what labels of a row have together, scores of rows, and rows to those of a part."""
    pour(cells.together, line, column, part, 0, 16)
    pour(cells.row_scores, line, column, part, 23, 6 * plan.scores)
    for i in tl.static_range(3):
        pour(cells.rows[i], line, column, part, 16 + i, 1)


@triton.jit
def _load(values, place, stride, there, dense: tl.constexpr):
    """Numbers that are one apart, or a stride."""
    place = place.to(tl.int64)
    if not dense:
        place = place * stride
    return tl.load(values + place, mask=there, other=0)


@triton.jit
def _is_impossible(raw, inputs: tl.constexpr):
    """Which predictions are none, NaN among them."""
    if inputs == "logits":
        impossible = (raw <= float("inf")) == 0
    elif inputs == "probs":
        impossible = ((raw >= 0) & (raw <= 1)) == 0
    else:
        impossible = (raw != 0) & (raw != 1)
    return impossible


@triton.jit
def _is_yes(raw, plan: tl.constexpr):
    """Which predictions are a yes."""
    if plan.inputs == "labels":
        said = raw == 1
    else:
        said = raw >= tl.full([], plan.cut, raw.dtype)
    return said


@triton.jit
def _fits(w, plan: tl.constexpr):
    """Which weights can be counted."""
    return ((w >= plan.least_weight) & (w <= plan.most_weight)) | (w == 0)


@triton.jit
def _logit_of(raw, keep, inputs: tl.constexpr):
    """Scores in the unit of logits, those of probabilities in float64; any where not kept."""
    if inputs == "probs":
        odds = tl.where(keep, raw, 0.5).to(tl.float64)
        score = tl.log(odds / (1 - odds))
    else:
        score = tl.where(keep, raw, 0.0)
    return score


@triton.jit
def _losses_of(score, yes):
    """What `binary_losses` says of each row."""
    hit = (score >= 0) == yes
    depth = tl.abs(score)
    small = tl.exp(-depth)
    near = 1 + small
    error = tl.where(hit, small, 1.0) / near
    # What 1 + small lost of its last digits is put right by the slope of the logarithm.
    nll = tl.log(near) - ((near - 1) - small) / near + tl.where(hit, 0.0, depth)
    brier = (error * error).to(tl.float64)
    return nll.to(tl.float64), brier, tl.where(hit, -error, error).to(tl.float64)


@triton.jit
def _add_by_kind(sums, kind, x):
    """The sums with a number of each row added to that of its kind: target and decision, as in the matrix."""
    return (
        sums[0] + tl.where(kind == 0, x, 0),
        sums[1] + tl.where(kind == 1, x, 0),
        sums[2] + tl.where(kind == 2, x, 0),
        sums[3] + tl.where(kind == 3, x, 0),
    )


@triton.jit
def _add_mean(sums, x, w):
    """The sums with w·x, w²·x and w²·x² of each row of some weight added, an infinite x too."""
    part = tl.where(w > 0, x, 0.0) * w
    return sums[0] + part, sums[1] + part * w, sums[2] + part * part


@triton.jit
def _put_sum(line, there, x):
    """The line with the sum of all numbers of a tile added to some columns."""
    if len(x.shape) == 2:
        x = tl.sum(x, 1)
    return line + tl.where(there, tl.sum(x, 0).to(tl.float64), 0.0)


@triton.jit
def _put_mean(line, column, place: tl.constexpr, sums, weighted: tl.constexpr):
    """The line with the sums of a loss; without weights the first two are the same."""
    line = _put_sum(line, column == 15 + place, sums[2])
    if weighted:
        line = _put_sum(line, column == 9 + place, sums[0])
        return _put_sum(line, column == 12 + place, sums[1])
    return _put_sum(line, (column == 9 + place) | (column == 12 + place), sums[0])


@triton.jit
def _add_labels(sums, yes, said, keep, x):
    """The sums with those of each label added: hits, actual, predicted and others."""
    return (
        sums[0] + tl.sum(tl.where(yes & said, x, 0), 1),
        sums[1] + tl.sum(tl.where(yes, x, 0), 1),
        sums[2] + tl.sum(tl.where(said, x, 0), 1),
        sums[3] + tl.sum(tl.where(keep & (yes == 0), x, 0), 1),
    )


@triton.jit
def _pour_labels(cells, number, total, square, label, bucket, plan: tl.constexpr):
    """Add the sums of labels to their cell, and to that of a part of the rows."""
    there = label < plan.labels
    for i in tl.static_range(4):
        numbers = (number[i].to(tl.int64), total[i], square[i])
        add_at(cells.whole.labels, i * plan.labels + label, numbers, there)
        if cells.group.labels is not None:
            place = (bucket * 4 + i) * plan.labels + label
            add_at(cells.group.labels, place, numbers, there)


@triton.jit
def _put_together(line, column, hits, actual, predicted, others, w):
    """The line with the products of a row's numbers by w²."""
    numbers = (hits * w, actual * w, predicted * w, others * w)
    for i in tl.static_range(4):
        for j in tl.static_range(i, 4):
            both = (column == 4 * i + j) | (column == 4 * j + i)
            line = _put_sum(line, both, numbers[i] * numbers[j])
    return line


@triton.jit
def _put_row_scores(
    line, column, hits, actual, predicted, intact, w, weighted: tl.constexpr, plan: tl.constexpr
):
    """The line with the six sums of each of the scores that `row_scores` gives rows that are intact."""
    hits = hits.to(tl.float64)
    actual = actual.to(tl.float64)
    predicted = predicted.to(tl.float64)
    either = actual + predicted
    place = column - 23
    score = place % plan.scores
    kind = tl.where(place >= 0, place // plan.scores, 6)
    for i in tl.static_range(plan.scores):
        there = intact
        if i > 0:
            there = intact & (either > 0)
        if i == 0:
            x = (either == 2 * hits).to(tl.float64)
        elif i == 1:
            x = hits / tl.maximum(predicted, 1.0)
        elif i == 2:
            x = hits / tl.maximum(actual, 1.0)
        elif i == 3:
            x = 2 * hits / tl.maximum(either, 1.0)
        elif i == 4:
            x = hits / tl.maximum(either - hits, 1.0)
        else:
            square: tl.constexpr = plan.beta * plan.beta
            x = (1 + square) * hits / tl.maximum(square * actual + predicted, 1.0)
        own = tl.where(there, w, 0.0)
        part = tl.where(own > 0, x, 0.0) * own
        mine = score == i
        line = _put_sum(
            line, mine & ((kind == 0) | ((kind < 3) & (not weighted))), there.to(tl.int64)
        )
        line = _put_sum(line, mine & ((kind == 3) | ((kind == 4) & (not weighted))), part)
        line = _put_sum(line, mine & (kind == 5), part * part)
        if weighted:
            line = _put_sum(line, mine & (kind == 1), own)
            line = _put_sum(line, mine & (kind == 2), own * own)
            line = _put_sum(line, mine & (kind == 4), part * own)
    return line
