"""Tails of the binomial and of Student's t, on the host and without SciPy.

All rest on one continued fraction, the regularised incomplete beta function.
"""

from math import exp, inf, isnan, lgamma, log, log1p, nan, pi

_TINY = 1e-300
_MAX_TERMS = 100_000


def _beta_fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function, by the modified Lentz method."""
    c, d = 1.0, 1.0 / _nonzero(1.0 - (a + b) * x / (a + 1.0))
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
    return value if abs(value) > _TINY else _TINY


def incomplete_beta(a: float, b: float, x: float, complement: float) -> float:
    """Regularised incomplete beta function I_x(a, b).

    Args:
        a: First shape, above 0.
        b: Second shape, above 0.
        x: Point in [0, 1].
        complement: 1 − x, given apart because a caller often knows it without cancellation.

    Source: Press et al., Numerical Recipes, 6.4.
    """
    if x <= 0.0 or complement <= 0.0:
        return 0.0 if x <= 0.0 else 1.0
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
    return 0.0 if k > n else incomplete_beta(k, n - k + 1, p, 1.0 - p)


def binomial_lower(k: int, n: int, p: float) -> float:
    """P(X ≤ k) for X binomial with n trials of probability p; 0.0 where k < 0."""
    return binomial_upper(n - k, n, 1.0 - p)


def binomial_mass(k: int, n: int, p: float) -> float:
    """P(X = k) for X binomial with n trials of probability p, 0 < p < 1."""
    if not 0 <= k <= n:
        return 0.0
    ways = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
    return exp(ways + k * log(p) + (n - k) * log1p(-p))


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
    if p <= 0.5:
        return -student_t_quantile(1.0 - p, degrees) if p < 0.5 else 0.0
    tail, low, high = 1.0 - p, 0.0, 1.0
    while student_t_upper(high, degrees) > tail and high < 1e150:
        low, high = high, 2.0 * high
    # Newton's steps, halving the bracket instead whenever one would leave it.
    t = 0.5 * (low + high)
    while low < t < high:
        error = student_t_upper(t, degrees) - tail
        low, high = (t, high) if error > 0 else (low, t)
        density = _student_t_density(t, degrees)
        step = error / density if density > 0 else inf
        if abs(step) <= 1e-14 * t:
            return t + step
        t = t + step if low < t + step < high else 0.5 * (low + high)
    return t


def _student_t_density(t: float, degrees: float) -> float:
    peak = lgamma((degrees + 1) / 2) - lgamma(degrees / 2) - 0.5 * log(degrees * pi)
    return exp(peak - (degrees + 1) / 2 * log1p(t * t / degrees))
