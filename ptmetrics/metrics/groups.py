"""Intervals for rows that come in groups, such as the frames of a patient.

Groups are spread over a fixed number of buckets. Each score is computed anew without each bucket in
turn; how much it moves tells its variance, whatever rows of one group have in common.

Source: Efron and Tibshirani 1993, chapter 11; Korn and Graubard 1998 for the n that a variance is
    worth.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from ptmetrics.counts.subgroups import BUCKETS
from ptmetrics.metrics.estimate import Array, Estimate, Key
from ptmetrics.metrics.intervals import farther, student, wilson
from ptmetrics.metrics.score_spec import ScoreSpec

Scale = Callable[[Array], Array]
BY_GROUPS = "jackknife-groups"
OVER_SAMPLES = (
    "-samples"  # ends the method of an interval that takes samples, not rows, as independent
)
STILL = 1e-12  # a score that moves by less does not move
_NO_SPEC = ScoreSpec("none", range=(-math.inf, math.inf))


def all_by_groups(
    estimates: Mapping[Key, Estimate],
    without: Mapping[Key, Estimate],
    filled: Array,
    specs: Iterable[ScoreSpec],
    lead: str,
    *,
    by_sample: bool,
) -> tuple[dict[Key, Estimate], list[str], dict[str, Array]]:
    """Scores with their intervals by groups, what is to be said of them, and scores without buckets.

    Args:
        estimates: All scores of all rows, by name and whether there is one a class.
        without: Those that groups keep counts of without each bucket, in a leading dimension.
        filled: Bool of shape (G,), whether a bucket holds a row.
        specs: Their ranges and scales.
        lead: Name of the score by which the others become wider.
        by_sample: Whether each sample is the group of its rows.
    """
    buckets = int(filled.sum())
    by_key = {(spec.name, spec.each): spec for spec in specs}
    found = dict(estimates)
    others = []
    moved: dict[str, Array] = {}
    for key, whole in estimates.items():
        spec = by_key.get(key, _NO_SPEC)
        left_out = without.get(key)
        if left_out is not None and whole.method != "count":
            moved[key[0]] = left_out.value[filled]
            if by_sample and whole.method.endswith(OVER_SAMPLES):
                continue
            found[key] = by_groups(whole, left_out.value, filled, spec.range, spec.scale)
        else:
            others.append(key)
    note = _note_of_groups(buckets, by_sample=by_sample)
    if others and buckets >= 2:
        first = (lead, False)
        for key in others:
            bounds = by_key.get(key, _NO_SPEC).range
            found[key] = as_much_wider(estimates[key], estimates[first], found[first], bounds)
        names = ", ".join(name for name, each in others if not each)
        if names:
            note = f"{note} Those of {names} are as much wider as that of {lead} is."
    return found, [note], moved


def _note_of_groups(buckets: int, *, by_sample: bool) -> str:
    """What is to be said of intervals over so many buckets of groups."""
    if by_sample and buckets < 2:
        return "The rows are of one sample, an image or a text: there are no intervals by samples."
    if by_sample:
        why = "Rows of one sample (pixels, tokens) are not independent: intervals are by samples, a"
        return f"{why} jackknife over {buckets} buckets of samples, {BUCKETS} at most."
    if buckets < 2:
        why = "The rows are of one group, or of groups that share a bucket:"
        return f"{why} there are no intervals by groups."
    return (
        f"Intervals are by groups: a jackknife over {buckets} buckets of groups, {BUCKETS} at most."
    )


def by_groups(
    whole: Estimate, without: Array, filled: Array, bounds: tuple[float, float], scale: str = ""
) -> Estimate:
    """A score with its interval by groups.

    A score with both bounds gets Wilson's interval at the n that its variance between buckets is
    worth, by Student's t, and never less than its interval by rows; others get Student's on a scale
    on which they are most like a normal one: the logarithm, the logarithm of the distance from 1,
    or as they are.

    Args:
        whole: The score of all rows, any shape.
        without: The score without each bucket, shape (G, …).
        filled: Bool of shape (G,), whether a bucket holds a row.
        bounds: Range of the score.
        scale: "atanh" for a correlation, "log-log" for the exponential of a loss, so that its ends
            are those of the loss; else the scale follows from the bounds.
    """
    if scale == "atanh":
        return _transformed(whole, without, filled, np.arctanh, np.tanh)
    if scale == "log-log":
        return _transformed(whole, without, filled, _log_log, _from_log_log, skewed=True)
    low, high = bounds
    if math.isfinite(low) and math.isfinite(high):
        return _proportion(whole, without, filled, low, high - low)
    if math.isfinite(low):
        return _transformed(whole, without, filled, np.log, np.exp, skewed=True)
    if math.isfinite(high):
        return _transformed(whole, without, filled, _log_distance, _from_log_distance)
    return _transformed(whole, without, filled, np.asarray, np.asarray)


def as_much_wider(
    score: Estimate, alone: Estimate, together: Estimate, bounds: tuple[float, float]
) -> Estimate:
    """A score of which groups keep no counts: its interval becomes wider as another's does by groups.

    Args:
        score: With its interval for independent rows.
        alone: The other score with its interval for independent rows.
        together: The other score with its interval by groups.
        bounds: Range of the score.
    """
    if score.method in ("count", "none"):
        return score
    factor = (together.high - together.low) / (alone.high - alone.low)
    factor = np.where(factor > 1, factor, 1.0)  # NaN too
    low = np.maximum(score.value - factor * (score.value - score.low), bounds[0])
    high = np.minimum(score.value + factor * (score.high - score.value), bounds[1])
    return replace(score, low=low, high=high)


def variance_and_freedom(value: Array, without: Array, filled: Array) -> tuple[Array, Array]:
    """Variance of a score, and its degrees of freedom.

    Args:
        value: The score of all rows, any shape.
        without: The score without each bucket, shape (G, …).
        filled: Bool of shape (G,).

    Returns:
        Both of the value's shape. The variance is NaN for fewer than two buckets with a row, and
        where the score is undefined without one of them. Buckets that do not move the score at all,
        such as those without a positive for a recall, give no freedom.
    """
    some = filled.reshape(-1, *[1] * np.ndim(value))
    off = np.where(some, without - value, 0.0)
    number = float(filled.sum())
    if number < 2:
        return np.full_like(value, np.nan), np.ones_like(value)
    variance = (number - 1) / number * (off**2).sum(0)
    moved = (np.abs(off) > STILL).sum(0)
    return variance, np.clip(np.where(moved > 1, moved, number), 2, None) - 1


def _proportion(
    whole: Estimate, without: Array, filled: Array, least: float, size: float
) -> Estimate:
    # Where nothing varies, as for a perfect score, each bucket counts as one sample: nothing tells
    # how alike the rows
    # of a group are. A constant in the place of an undefined score keeps its ends.
    variance, freedom = variance_and_freedom(whole.value, without, filled)
    share = (whole.value - least) / size
    n = share * (1 - share) * size * size / variance
    n = np.where((variance > STILL**2) & (n > 0), n, float(filled.sum()))
    n = np.where(np.isnan(variance), np.nan, n)
    low, high = wilson(share, n, student(freedom))
    constant = (whole.low == whole.high) | (np.asarray(whole.n) == 0)  # or nothing is known
    # Nothing is surer by groups than by rows: what no bucket moves, such as the precision of a class
    # that is never predicted, is not known for that. NaN by groups stays NaN.
    low, high = least + size * low, least + size * high
    low = np.where(constant, whole.low, np.fmin(low, whole.low) + 0 * low)
    high = np.where(constant, whole.high, np.fmax(high, whole.high) + 0 * high)
    return replace(whole, low=low, high=high, method=BY_GROUPS)


def _transformed(
    whole: Estimate, without: Array, filled: Array, to: Scale, back: Scale, *, skewed: bool = False
) -> Estimate:
    centre = to(whole.value)
    variance, freedom = variance_and_freedom(centre, to(without), filled)
    half = student(freedom) * np.sqrt(variance)
    above = half
    if skewed:  # a few groups may lack the one that is far out
        groups = float(filled.sum())
        above = half * farther(variance * groups, groups)
    ends = back(centre - half), back(centre + above)
    return replace(whole, low=np.fmin(*ends), high=np.fmax(*ends), method=BY_GROUPS)


def _log_log(x: Array) -> Array:
    return np.log(np.log(x))


def _from_log_log(x: Array) -> Array:
    return np.exp(np.exp(x))


def _log_distance(x: Array) -> Array:
    return np.log(1 - x)


def _from_log_distance(x: Array) -> Array:
    return 1 - np.exp(x)
