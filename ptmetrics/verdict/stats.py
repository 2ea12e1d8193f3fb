"""Statistics on few numbers, in plain Python and NumPy: distributions, tests, intervals, trends."""

from collections.abc import Callable, Sequence
from functools import cache
from math import comb, erfc, exp, factorial, inf, isnan, lgamma, log, log1p, nan, pi, sqrt
from statistics import fmean, variance

import numpy as np

from ptmetrics.verdict.samples import Floats

_TINY = 1e-300
_MAX_TERMS = 100_000
_EXACT_UP_TO = 12

# Tails of the binomial and of Student's t, without SciPy. All rest on one continued fraction.


def _beta_fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function, by the modified Lentz method."""
    c = 1.0
    d = 1.0 / _nonzero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, _MAX_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        before = value
        for step in (even, odd):
            d = 1.0 / _nonzero(1.0 + step * d)
            c = _nonzero(1.0 + step / c)
            value *= c * d
        if abs(value - before) <= 1e-15 * abs(value):
            break
    return value


def _nonzero(value: float) -> float:
    if abs(value) > _TINY:
        return value
    return _TINY


def incomplete_beta(a: float, b: float, x: float, complement: float) -> float:
    """Regularised incomplete beta function I_x(a, b).

    Args:
        a: First shape, above 0.
        b: Second shape, above 0.
        x: Point in [0, 1].
        complement: 1 − x, given apart because a caller often knows it without cancellation.

    Source: Press et al., Numerical Recipes, 6.4.
    """
    if x <= 0.0:
        return 0.0
    if complement <= 0.0:
        return 1.0
    log_x = log(x) if x < 0.5 else log1p(-complement)
    log_rest = log(complement) if complement < 0.5 else log1p(-x)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log_x + b * log_rest)
    # The fraction converges fast on one side of the mean only; the other side is its mirror image.
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _beta_fraction(a, b, x) / a
    return 1.0 - front * _beta_fraction(b, a, complement) / b


def binomial_upper(k: int, n: int, p: float) -> float:
    """P(X ≥ k) for X binomial with n trials of probability p; 1.0 where k ≤ 0."""
    if k <= 0:
        return 1.0
    if k > n:
        return 0.0
    return incomplete_beta(k, n - k + 1, p, 1.0 - p)


def binomial_lower(k: int, n: int, p: float) -> float:
    """P(X ≤ k) for X binomial with n trials of probability p; 0.0 where k < 0."""
    return binomial_upper(n - k, n, 1.0 - p)


def binomial_mass(k: int, n: int, p: float) -> float:
    """P(X = k) for X binomial with n trials of probability p, 0 < p < 1."""
    if not 0 <= k <= n:
        return 0.0
    ways = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
    return exp(ways + k * log(p) + (n - k) * log1p(-p))


def clopper_pearson(k: int, n: int) -> tuple[float, float]:
    """Exact 95 % interval of a share, k of n; [0, 1] of nothing.

    Example:
        >>> [round(bound, 4) for bound in clopper_pearson(5, 100)]
        [0.0164, 0.1128]

    Source: Clopper and Pearson, Biometrika 1934.
    """
    low = 0.0
    high = 1.0
    if k > 0:
        low = _up_to(lambda p: binomial_upper(k, n, p) < 0.025)
    if k < n:
        high = _up_to(lambda p: binomial_lower(k, n, p) > 0.025)
    return low, high


def _up_to(holds: Callable[[float], bool]) -> float:
    """The probability up to which something holds, by halving."""
    low = 0.0
    high = 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def student_t_upper(t: float, degrees: float) -> float:
    """P(T ≥ t) for Student's t, t ≥ 0."""
    scale = degrees + t * t
    return 0.5 * incomplete_beta(degrees / 2, 0.5, degrees / scale, t * t / scale)


def student_t_quantile(p: float, degrees: float) -> float:
    """The value that Student's t stays below with probability p.

    Args:
        p: Probability in (0, 1).
        degrees: Degrees of freedom, from 0.1, not necessarily whole.

    Returns:
        The quantile, to better than 1e-8 relative; NaN where p or the degrees are NaN.
    """
    if isnan(p) or isnan(degrees):
        return nan
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -student_t_quantile(1.0 - p, degrees)
    tail = 1.0 - p
    low = 0.0
    high = 1.0
    while student_t_upper(high, degrees) > tail and high < 1e150:
        low = high
        high = 2.0 * high
    # Newton's steps, halving the bracket instead whenever one would leave it.
    t = 0.5 * (low + high)
    while low < t < high:
        error = student_t_upper(t, degrees) - tail
        if error > 0:
            low = t
        else:
            high = t
        density = _student_t_density(t, degrees)
        step = error / density if density > 0 else inf
        if abs(step) <= 1e-14 * t:
            return t + step
        t = t + step
        if not low < t < high:
            t = 0.5 * (low + high)
    return t


def _student_t_density(t: float, degrees: float) -> float:
    peak = lgamma((degrees + 1) / 2) - lgamma(degrees / 2) - 0.5 * log(degrees * pi)
    return exp(peak - (degrees + 1) / 2 * log1p(t * t / degrees))


# Exact tests on few counts, and intervals of differences.


def mid_p_better(wins: int, losses: int) -> float:
    """One-sided mid-p McNemar test: how surprising are so many wins in tosses of a fair coin?

    Small values speak for the winner; range (0, 1]; 0.5 when there is neither win nor loss.

    Args:
        wins: Samples that only the model has right.
        losses: Samples that only the other has right.

    Source: Fagerland, Lydersen & Laake, BMC Med. Res. Methodol. 13:91, 2013.
    """
    n = wins + losses
    return binomial_upper(wins + 1, n, 0.5) + 0.5 * binomial_mass(wins, n, 0.5)


def bonett_price(wins: int, losses: int, n: int, z: float) -> tuple[float, float]:
    """Interval of (wins − losses) / n, the difference of two accuracies on the same n samples.

    Args:
        wins: Samples that only the first has right.
        losses: Samples that only the second has right.
        n: All samples, above 0.
        z: Normal quantile of the confidence, 1.96 for 95 % on two sides.

    Source: Bonett & Price, Br. J. Math. Stat. Psychol. 65, 2012: Wald after one more of each.
    """
    first = (wins + 1) / (n + 2)
    second = (losses + 1) / (n + 2)
    half = z * sqrt((first + second - (first - second) ** 2) / (n + 2))
    return max(-1.0, first - second - half), min(1.0, first - second + half)


def hybrid_difference(
    first: tuple[float, float, float],
    second: tuple[float, float, float],
    *,
    correlation: float = 0.0,
) -> tuple[float, float]:
    """Interval of first − second from the interval of each (Newcombe's hybrid score, MOVER).

    Args:
        first: Value, low, high.
        second: Value, low, high.
        correlation: Correlation of the two estimates; 0 for independent samples.

    Source: Newcombe, Stat. Med. 17, 1998; Zou & Donner, Stat. Med. 27, 2008.
    """
    p, p_low, p_high = first
    q, q_low, q_high = second

    def distance(a: float, b: float) -> float:
        square = a * a + b * b - 2.0 * correlation * a * b
        if square < 0.0:  # by rounding; NaN stays NaN
            return 0.0
        return sqrt(square)

    return p - q - distance(p - p_low, q_high - q), p - q + distance(p_high - p, q - q_low)


def welch(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the difference of two means whose variances may differ.

    Args:
        first: At least two values.
        second: At least two values.

    Source: Welch, Biometrika 34, 1947.
    """
    value = fmean(first) - fmean(second)
    part = variance(first) / len(first)
    other = variance(second) / len(second)
    spread = part + other
    if spread == 0.0:
        return value, value
    degrees = spread**2 / (part**2 / (len(first) - 1) + other**2 / (len(second) - 1))
    half = student_t_quantile(0.975, degrees) * sqrt(spread)
    return value - half, value + half


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which of many tests hold at family-wise level alpha, by Holm's step-down rule."""
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > alpha / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected


@cache
def _rank_sum_ways(first: int, second: int, wins: int) -> int:
    """Orders of two samples in which the first wins exactly so many of the first × second pairs."""
    if wins < 0:
        return 0
    if first == 0 or second == 0:
        return int(wins == 0)
    without_first = _rank_sum_ways(first - 1, second, wins - second)
    return without_first + _rank_sum_ways(first, second - 1, wins)


def rank_sum_rank(first: int, second: int, alpha: float) -> int:
    """Which sorted pairwise ratio bounds the true one with one-sided confidence 1 − alpha.

    Args:
        first: Size of the first sample.
        second: Size of the second.
        alpha: One-sided error, e.g. 0.05.

    Returns:
        The largest k with P(fewer than k pairs lie below the true ratio) ≤ alpha; 0 where the
        samples are too few for any bound.

    Source: inversion of the Mann–Whitney test (Lehmann 1963), distribution by its recursion.
    """
    most = alpha * comb(first + second, first)
    below = 0
    for k in range(first * second):
        below += _rank_sum_ways(first, second, k)
        if below > most:
            return k
    return first * second


# Trends of curves that are short and noisy.


def kendall_s(curve: Floats) -> int:
    """Pairs that rise minus pairs that fall, over all pairs in time order."""
    rising = np.sign(curve[None, :] - curve[:, None])
    return int(np.triu(rising, 1).sum())


@cache
def _inversion_counts(n: int) -> tuple[int, ...]:
    """How many orders of n values have 0, 1, 2, … inversions."""
    counts = np.ones(1, dtype=np.int64)
    for size in range(2, n + 1):
        counts = np.convolve(counts, np.ones(size, dtype=np.int64))
    return tuple(counts.tolist())


def rising_p(curve: Floats) -> float:
    """One-sided Mann–Kendall test: how surprising would so much rising be without a trend?

    Small values speak for a rise; range (0, 1]; 1.0 for fewer than two points. Exact up to 12
    points without ties, else normal with the variance corrected for ties and for continuity.
    `rising_p(-curve)` tests for a fall.

    Source: Mann 1945; Kendall 1975.
    """
    n = curve.size
    s = kendall_s(curve)
    _, ties = np.unique(curve, return_counts=True)
    if n < 2 or ties.max() == n:
        return 1.0
    if n <= _EXACT_UP_TO and ties.max() == 1:
        inversions = (n * (n - 1) // 2 - s) // 2
        return sum(_inversion_counts(n)[: inversions + 1]) / factorial(n)
    spread = (n * (n - 1) * (2 * n + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()) / 18.0
    return 0.5 * erfc((s - 1) / sqrt(2.0 * spread))


def theil_sen(curve: Floats) -> float:
    """Median slope over all pairs, per step; NaN for fewer than two points.

    Source: Sen, JASA 63, 1968.
    """
    if curve.size < 2:
        return nan
    first, second = np.triu_indices(curve.size, 1)
    return float(np.median((curve[second] - curve[first]) / (second - first)))


def running_median(curve: Floats) -> Floats:
    """Median of each point and its two neighbours; the ends keep their own value."""
    if curve.size < 3:
        return curve
    inner = np.median(np.stack([curve[:-2], curve[1:-1], curve[2:]]), axis=0)
    return np.concatenate([curve[:1], inner, curve[-1:]])


def jitter(curve: Floats) -> float:
    """Robust standard deviation of the step-to-step noise over the last two thirds.

    0.0 for under three points. From first differences, so that a trend hardly counts:
    1.4826 · MAD(Δ) / √2.
    """
    steps = np.diff(curve[curve.size // 3 :])
    if steps.size < 2:
        return 0.0
    return float(1.4826 * np.median(np.abs(steps - np.median(steps))) / sqrt(2.0))


def smoothed(curve: Floats, weight: float = 0.5) -> Floats:
    """Exponential moving average that starts at the first value.

    Args:
        curve: One value per epoch.
        weight: Share of the newest value.
    """
    out: Floats = curve.copy()
    for index in range(1, out.size):
        out[index] = weight * curve[index] + (1.0 - weight) * out[index - 1]
    return out
