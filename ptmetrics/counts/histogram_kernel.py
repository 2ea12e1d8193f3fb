"""Scores added to their histograms by a kernel, at the places that `keys.py` gives them, with what tells their ties."""

import triton
import triton.language as tl

from ptmetrics.counts.kernel_sums import add_at


@triton.jit
def keep_scores(histogram, score, yes, offset, w, keep, peel: tl.constexpr, plan: tl.constexpr):
    """Add scores to their histograms; those of one row behind each other in a tile at once, `peel` times."""
    if plan.keys == "probability":
        code, steps = _probability_code(score, plan)
    elif plan.digits > 10:
        code, steps = _fine_code(score, plan)
    else:
        code, steps = _float_code(score, plan)
    v, square = _ties_of(steps, plan)
    place = offset + 2 * (code + plan.zero) + yes.to(tl.int32)
    number = keep.to(tl.int64)
    squared = w * w
    at = (tl.arange(0, place.shape[1]).to(tl.int64)[None, :] << 32) | place
    for _ in tl.static_range(peel):
        # Rows of many scores are found often, for the last score that is left tells which.
        last = tl.max(tl.where(keep, at, -1), 1)[:, None]
        same = keep & (place == (last & 2147483647).to(tl.int32))
        keep = keep & (same == 0)
        # That one adds what all of its row come to, and the others nothing.
        number = _gathered(number, same, at == last)
        v = _gathered(v, same, at == last)
        square = _gathered(square, same, at == last)
        if histogram[0][1] is not None:
            w = _gathered(w, same, at == last)
            squared = _gathered(squared, same, at == last)
    _add_scores(histogram, place, (number, w, squared), (v, square), number > 0)


@triton.jit
def _gathered(x, same, last):
    """Numbers, of which one has the sum of some, and the others of these are 0."""
    total = tl.sum(tl.where(same, x, 0), 1)[:, None]
    return tl.where(same, tl.where(last, total, 0), x)


@triton.jit
def _add_scores(histogram, place, numbers, ties, there):
    """Add to rows of histograms, and to what is kept of their ties: nothing where a row holds its own value."""
    add_at(histogram[0], place, numbers, there)
    row = histogram[1] + (place & -2)
    there = there & (ties[1] != 0)
    tl.atomic_add(row, ties[0], mask=there, sem="relaxed")
    tl.atomic_add(row + 1, ties[1], mask=there, sem="relaxed")


@triton.jit
def _float_code(score, plan: tl.constexpr):
    """`FloatKeys.code` up to 10 digits: of float16, by way of float32 as torch goes."""
    score = score + 0.0
    half = score.to(tl.float32).to(tl.float16)
    code = half.to(tl.int16, bitcast=True).to(tl.int32) >> (10 - plan.digits)
    half = (code << (10 - plan.digits)).to(tl.int16).to(tl.float16, bitcast=True)
    return code, _steps(score, half)


@triton.jit
def _fine_code(score, plan: tl.constexpr):
    """`FloatKeys.code` of more digits."""
    size = tl.abs(score)
    scaled = tl.minimum(size.to(tl.float32), 65536.0) * 1.925929944387236e-34  # 2⁻¹¹²
    row = scaled.to(tl.int32, bitcast=True) >> (23 - plan.digits)
    value = (row << (23 - plan.digits)).to(tl.float32, bitcast=True) * 5.192296858534828e33  # 2¹¹²
    return row - tl.where(score < 0, plan.zero, 0), _steps(size, value)


@triton.jit
def _probability_code(score, plan: tl.constexpr):
    """`ProbabilityKeys.code`."""
    near = tl.minimum(score, 1 - score)
    inner = near >= 0.25
    scaled = tl.where(inner, (0.5 - near) * 0.00390625, near * 8192 + 0.0)
    half = scaled.to(tl.float32).to(tl.float16)
    code = half.to(tl.int16, bitcast=True).to(tl.int32)
    code += tl.where(inner, plan.tail + 1, 0) - tl.where(score >= 0.5, plan.zero, 0)
    return code, _steps(scaled, half)


@triton.jit
def _steps(score, value):
    """`steps_between`."""
    kind: tl.constexpr = tl.int64 if score.dtype == tl.float64 else tl.int32
    return score.to(kind, bitcast=True) - value.to(score.dtype).to(kind, bitcast=True)


@triton.jit
def _ties_of(steps, plan: tl.constexpr):
    """`ScoreHistogram._ties_of`."""
    if steps.dtype == tl.int64:
        first = steps % 2147483647
        first += tl.where(first < 0, 2147483647, 0)
        square = (first * first) % 2147483647
    else:
        far: tl.constexpr = 2 << (23 - plan.digits)
        first = tl.minimum(tl.maximum(steps, -far), far).to(tl.int64)
        square = tl.minimum(tl.maximum(steps, -2 * far), 2 * far).to(tl.int64) * first
    return first, square
