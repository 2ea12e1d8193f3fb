"""Trend tests for curves that are short and noisy, in plain NumPy."""

from functools import cache
from math import erfc, factorial, sqrt

import numpy as np
import numpy.typing as npt

Curve = npt.NDArray[np.float64]
_EXACT_UP_TO = 12


@cache
def _inversion_counts(n: int) -> tuple[int, ...]:
    """How many orders of n values have 0, 1, 2, … inversions."""
    counts = np.ones(1, dtype=np.int64)
    for size in range(2, n + 1):
        counts = np.convolve(counts, np.ones(size, dtype=np.int64))
    return tuple(counts.tolist())


def kendall_s(curve: Curve) -> int:
    """Pairs that rise minus pairs that fall, over all pairs in time order."""
    rising = np.sign(curve[None, :] - curve[:, None])
    return int(np.triu(rising, 1).sum())


def kendall_tau(curve: Curve) -> float:
    """Kendall's tau-a against time: 1 always rising, −1 always falling, 0 for fewer than two points."""
    pairs = curve.size * (curve.size - 1) // 2
    return kendall_s(curve) / pairs if pairs else 0.0


def rising_p(curve: Curve) -> float:
    """One-sided Mann–Kendall test: how surprising would this much rising be without a trend?

    Small values speak for a rise; range (0, 1]; 1.0 for fewer than two points. Exact up to 12 points
    without ties, else normal with the variance corrected for ties and for continuity. `rising_p(-curve)`
    tests for a fall.

    Source: Mann 1945; Kendall 1975.
    """
    n, s = curve.size, kendall_s(curve)
    _, ties = np.unique(curve, return_counts=True)
    if n < 2 or ties.max() == n:
        return 1.0
    if n <= _EXACT_UP_TO and ties.max() == 1:
        inversions = (n * (n - 1) // 2 - s) // 2
        return sum(_inversion_counts(n)[: inversions + 1]) / factorial(n)
    spread = (n * (n - 1) * (2 * n + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()) / 18.0
    return 0.5 * erfc((s - 1) / sqrt(2.0 * spread))


def theil_sen(curve: Curve) -> float:
    """Median slope over all pairs, per step; NaN for fewer than two points.

    Source: Sen, JASA 63, 1968.
    """
    if curve.size < 2:
        return float("nan")
    first, second = np.triu_indices(curve.size, 1)
    return float(np.median((curve[second] - curve[first]) / (second - first)))


def running_median(curve: Curve) -> Curve:
    """Median of each point and its two neighbours; the ends keep their own value."""
    if curve.size < 3:
        return curve
    inner = np.median(np.stack([curve[:-2], curve[1:-1], curve[2:]]), axis=0)
    return np.concatenate([curve[:1], inner, curve[-1:]])


def jitter(curve: Curve) -> float:
    """Robust standard deviation of the step-to-step noise over the last two thirds.

    0.0 for under three points. From first differences, so that a trend hardly counts: 1.4826 · MAD(Δ) / √2.
    """
    steps = np.diff(curve[curve.size // 3 :])
    if steps.size < 2:
        return 0.0
    return float(1.4826 * np.median(np.abs(steps - np.median(steps))) / sqrt(2.0))


def smoothed(curve: Curve, weight: float = 0.5) -> Curve:
    """Exponential moving average that starts at the first value.

    Args:
        curve: One value per epoch.
        weight: Share of the newest value.
    """
    out: Curve = curve.copy()
    for index in range(1, out.size):
        out[index] = weight * curve[index] + (1.0 - weight) * out[index - 1]
    return out
