"""Two-sided 95 % confidence intervals as functions of NumPy arrays, for many scores at once.

They cover the sampling of the evaluation data only: not another training seed, nor a shift of the
data.
"""

from collections.abc import Callable

import numpy as np

from ptmetrics.metrics.estimate import Array

Z = 1.959963984540054  # 0.975 quantile of the standard normal distribution
Interval = tuple[Array, Array]
FEW = 100  # below so many samples of a class the normal approximation covers too little
LEAST_FREEDOM = 2  # where one row or two carry a sum
FARTHEST = 3.0
_SECTIONS = 64
_ROUNDS = 6  # 64⁻⁶ = 1.5e-11
_LOG_STUDENT = (
    0.0259913811,
    -0.142947184,
    0.284031433,
    -0.165050276,
    -0.195405492,
    0.143708468,
    0.708512664,
    1.21032269,
    0.672926559,
)


def wilson(p: Array, n: Array, z: Array | float = Z) -> Interval:
    """Interval of a proportion; keeps its coverage for small n and p near 0 or 1.

    Args:
        p: Observed proportions in [0, 1], NaN where undefined.
        n: Number of (effective) samples, same shape; NaN comes back where it is 0.
        z: Normal quantile.

    Source: Wilson, JASA 1927.
    """
    z2 = z * z
    scale = 1 + z2 / n
    centre = (p + z2 / (2 * n)) / scale
    half = z / scale * np.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # At p = 0 and p = 1 the ends are 0 and 1 exactly; rounding must not push them past the value.
    low = np.minimum(np.clip(centre - half, 0, None), p)
    high = np.maximum(np.clip(centre + half, None, 1), p)
    defined = (n > 0) & ~np.isnan(p)
    return np.where(defined, low, np.nan), np.where(defined, high, np.nan)


def mover(
    p: Array, n: Array, share: Array | None = None, through: Callable[[Array], Array] | None = None
) -> tuple[Array, Array, Array]:
    """Mean of independent proportions and its interval; undefined ones are left out.

    Each proportion is moved by its share of Z along its own Wilson interval, and the deviations
    found there add up. To move each by the whole of Z, as is common, covers 88 to 94 % where many
    are near 1.

    Args:
        p: Proportions of shape (…, K), NaN where undefined.
        n: Their number of (effective) samples, same shape; 0 or NaN for a constant, which has no
            doubt.
        share: Weights in the mean, same shape; None or no weight at all for equal ones.
        through: Rising function of [0, 1] onto itself that each proportion goes through before the
            mean.

    Returns:
        Mean, low, high of shape (…); NaN when nothing is defined.

    Source: Zou and Donner, Statistics in Medicine 2008 (method of variance estimates recovery).
    """
    defined = ~np.isnan(p)
    weight = defined.astype(np.float64)
    if share is not None:
        share = np.where(defined, share, 0.0)
        weight = np.where(share.sum(-1, keepdims=True) > 0, share, weight)
    weight = weight / weight.sum(-1, keepdims=True)
    low, high = wilson(p, n)
    span = high - low
    if through is not None:
        span = through(high) - through(low)
    deviation = np.where(defined & (n > 0), weight * span, 0.0)
    whole = np.linalg.norm(deviation, axis=-1)[..., None]
    low, high = wilson(p, n, Z * deviation / whole)
    value = p
    if through is not None:
        value, low, high = through(p), through(low), through(high)
    mean = np.where(defined, weight * value, 0.0).sum(-1)
    mean = np.where(defined.any(-1), mean, np.nan)
    scale = weight / deviation * whole
    below = np.linalg.norm(np.where(deviation > 0, scale * (value - low), 0.0), axis=-1)
    above = np.linalg.norm(np.where(deviation > 0, scale * (high - value), 0.0), axis=-1)
    return mean, np.clip(mean - below, 0, None), np.clip(mean + above, None, 1)


def mean_interval(
    sums: Array,
    least: Array | float = -np.inf,
    most: Array | float = np.inf,
    *,
    few: bool = False,
) -> tuple[Array, Array, Array]:
    """Mean of a weighted sample, with an interval on the scale that the range of the numbers asks for.

    Without a range Student's interval. From a least number on that of `far_ends`. Between a least
    and a largest number Wilson's, at the n that the variance is worth: of zeros and ones it is
    Wilson's own.

    Args:
        sums: n, Σw, Σw², Σw·x, Σw²·x, Σw²·x², float64 of shape (6, …).
        least: The least number, of a shape that broadcasts to the mean's.
        most: The largest number.
        few: Whether Wilson's interval is by Student's t, for means of a few numbers.

    Returns:
        Mean, low, high of shape (…); all NaN for n = 0, ends NaN for n = 1.
    """
    n, w, w2, wx, w2x, w2x2 = sums
    mean = wx / w
    rows = w * w / w2
    spread = np.clip(w2x2 - 2 * mean * w2x + mean * mean * w2, 0, None)
    error = np.sqrt(spread * n / (n - 1)) / w
    error = np.where(n > 1, error, np.nan)
    bounded_below = np.isfinite(least)
    low, high = mean, mean
    if not np.all(bounded_below):
        half = student(np.clip(rows - 1, 1, None)) * error
        low, high = mean - half, mean + half
    if np.any(bounded_below):
        below, above = far_ends(mean - least, error, rows)
        low = np.where(bounded_below, least + below, low)
        high = np.where(bounded_below, least + above, high)
    size = most - least
    bounded = np.isfinite(size)
    if np.any(bounded):
        share = np.clip((mean - least) / size, 0, 1)
        worth = share * (1 - share) * (size / error) ** 2
        worth = np.where(error > 0, np.maximum(worth, rows), rows)  # rounding alone makes it less
        z: Array | float = Z
        if few:
            z = student(np.clip(rows - 1, 1, None))
        ends = wilson(share, np.where(n > 1, worth, np.nan), z)
        low = np.where(bounded, least + size * ends[0], low)
        high = np.where(bounded, least + size * ends[1], high)
    return mean, low, high


def far_ends(mean: Array, error: Array, n: Array) -> Interval:
    """Ends of a mean of numbers of 0 or more, which may be far from normal: losses, squared errors.

    Student's interval of the logarithm. Its degrees of freedom are those of the rows that carry the
    sum, (Σx)² / Σx², so that a few huge rows count as few. The upper end lies farther out by
    1 + 3v² / 2√n for a coefficient of variation v, three times at most: huge rows that are rare are
    likely to be missing from the sample. `docs/intervals.md` has what that covers.

    Args:
        mean: 0 or more.
        error: Its standard error.
        n: (Effective) number of rows.
    """
    relative = np.where(mean == 0, error, error / mean)
    variation = relative**2 * n
    half = student(np.clip(n / (1 + variation) - 1, LEAST_FREEDOM, None)) * relative
    return mean * np.exp(-half), mean * np.exp(half * farther(variation, n))


def farther(variation: Array, n: Array | float) -> Array:
    """How many times farther out the upper end of a mean of positive numbers lies.

    Args:
        variation: Square of their coefficient of variation.
        n: How many there are.
    """
    return np.minimum(1 + 1.5 * variation / np.sqrt(n), FARTHEST)


def student(freedom: Array) -> Array:
    """0.975 quantile of Student's t for 1 or more degrees of freedom, whole or not, within one millionth.

    A polynomial in 1 / freedom for its logarithm, fitted to the exact quantiles; `tests/metrics`
    holds it to them.
    """
    return np.exp(np.polyval(_LOG_STUDENT, 1 / np.asarray(freedom, dtype=np.float64)))


def logit_interval(value: Array, variance: Array) -> Interval:
    """Normal interval on the logit scale; NaN where the variance is 0 or the value is 0 or 1."""
    half = Z * np.sqrt(variance) / (value * (1 - value))
    half = np.where((half > 0) & np.isfinite(half), half, np.nan)
    centre = np.log(value / (1 - value))
    return 1 / (1 + np.exp(half - centre)), 1 / (1 + np.exp(-half - centre))


def newcombe(area: Array, positives: Array, negatives: Array) -> Interval:
    """Interval of an AUROC from the area and the numbers of samples alone; wide, and right for few samples.

    Args:
        area: In [0, 1], any shape.
        positives: (Effective) number of positives, same shape.
        negatives: Number of negatives, same shape.

    Source: Newcombe, Statistics in Medicine 2006, method 5.
    """
    both = np.stack(
        (area, 1 - area)
    )  # the method is symmetric: the upper end is a lower end seen from 1
    low = np.zeros_like(both)
    width = both
    for _ in range(_ROUNDS):
        width = width / _SECTIONS
        steps = np.arange(1, _SECTIONS).reshape(-1, *[1] * both.ndim)
        grid = low + width * steps
        # The squared distance from a true area, less what chance explains.
        more = (positives + negatives) / 2 - 1
        spread = grid * (1 - grid) * (1 + more * ((1 - grid) / (2 - grid) + grid / (1 + grid)))
        excess = (both - grid) ** 2 - Z * Z * spread / (positives * negatives)
        low = low + width * (excess > 0).sum(0)
    low = np.where(np.isnan(both), np.nan, low)
    return low[0], 1 - low[1]


def widened(value: Array, narrow: Interval, safe: Interval, needed: Array) -> Interval:
    """The narrow interval, widened to the safe one where it is needed or where there is no narrow one."""
    needed = needed | np.isnan(narrow[0])
    low = np.where(needed, np.fmin(narrow[0], safe[0]), narrow[0])
    high = np.where(needed, np.fmax(narrow[1], safe[1]), narrow[1])
    return np.minimum(low, value), np.maximum(high, value)


def widened_area(
    area: Array, variance: Array, positives: Array, negatives: Array, few: Array
) -> Interval:
    """DeLong's interval of an area, widened to Newcombe's where it is needed, as by `widened`.

    Args:
        area: In [0, 1], any shape.
        variance: DeLong's, same shape.
        positives: (Effective) number of positives, same shape.
        negatives: Number of negatives, same shape.
        few: Where it is needed, same shape.
    """
    narrow = logit_interval(area, variance)
    needed = (few | np.isnan(narrow[0])) & ~np.isnan(area)
    safe = np.full((2, *np.shape(area)), np.nan)
    if needed.any():  # it takes a hundred times as long
        safe[:, needed] = newcombe(area[needed], positives[needed], negatives[needed])
    return widened(area, narrow, (safe[0], safe[1]), few)
