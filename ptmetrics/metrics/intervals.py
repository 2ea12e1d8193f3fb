"""Two-sided 95 % confidence intervals as pure tensor functions in float64.

They cover the sampling of the evaluation data only: not another training seed, nor a shift of the data.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Z = 1.959963984540054  # 0.975 quantile of the standard normal distribution
Interval = tuple[Tensor, Tensor]


def wilson(p: Tensor, n: Tensor, z: Tensor | float = Z) -> Interval:
    """Interval of a proportion; keeps its coverage for small n and p near 0 or 1.

    Args:
        p: Observed proportions in [0, 1], NaN where undefined.
        n: Number of (effective) samples, same shape; NaN comes back where it is 0.
        z: Normal quantile.

    Source: Wilson, JASA 1927.
    """
    z2 = z * z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * torch.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    defined = (n > 0) & ~torch.isnan(p)
    nan = torch.full_like(centre, torch.nan)
    # At p = 0 and p = 1 the ends are 0 and 1 exactly; rounding must not push them past the value.
    low, high = (
        torch.minimum((centre - half).clamp(min=0), p),
        torch.maximum((centre + half).clamp(max=1), p),
    )
    return torch.where(defined, low, nan), torch.where(defined, high, nan)


def mover(
    p: Tensor,
    n: Tensor,
    share: Tensor | None = None,
    through: Callable[[Tensor], Tensor] = lambda p: p,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of independent proportions and its interval; undefined ones are left out.

    Each proportion is moved by its share of Z along its own Wilson interval, and the deviations found there
    add up. To move each by the whole of Z, as is common, covers 88 to 94 % where many are near 1.

    Args:
        p: Proportions of shape (…, K), NaN where undefined.
        n: Their number of (effective) samples, same shape; 0 or NaN for a constant, which has no doubt.
        share: Weights in the mean, same shape; None or no weight at all for equal ones.
        through: Rising function of [0, 1] onto itself that each proportion goes through before the mean.

    Returns:
        Mean, low, high of shape (…); NaN when nothing is defined.

    Source: Zou and Donner, Statistics in Medicine 2008 (method of variance estimates recovery).
    """
    defined = ~torch.isnan(p)
    share = defined.double() if share is None else torch.where(defined, share.double(), 0.0)
    share = torch.where(share.sum(-1, keepdim=True) > 0, share, defined.double())
    share = share / share.sum(-1, keepdim=True)
    low, high = wilson(p, n)
    deviation = torch.where(defined & (n > 0), share * (through(high) - through(low)), 0.0)
    whole = deviation.norm(dim=-1, keepdim=True)
    low, high = wilson(p, n, Z * deviation / whole)
    value = through(p)
    mean = torch.where(defined, share * value, 0.0).sum(-1)
    mean = torch.where(defined.any(-1), mean, torch.nan)
    below, above = (
        torch.where(deviation > 0, share * part / deviation * whole, 0.0).norm(dim=-1)
        for part in (value - through(low), through(high) - value)
    )
    return mean, (mean - below).clamp(min=0), (mean + above).clamp(max=1)


def mean_interval(moments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of a weighted sample with its normal interval.

    Args:
        moments: n, Σw, Σw², Σw·x, Σw²·x, Σw²·x², float64 of shape (6,).

    Returns:
        Mean, low, high of shape (); all NaN for n = 0, ends NaN for n = 1.
    """
    n, w, w2, wx, w2x, w2x2 = moments.unbind()
    mean = wx / w
    spread = (w2x2 - 2 * mean * w2x + mean * mean * w2).clamp(min=0)
    half = Z * (spread * n / (n - 1)).sqrt() / w
    half = torch.where(n > 1, half, torch.nan)
    return mean, mean - half, mean + half


_STUDENT = (12.706205, 4.302653, 3.182446, 2.776445)  # 1 to 4 degrees of freedom


def student(freedom: Tensor) -> Tensor:
    """0.975 quantile of Student's t for 1 or more degrees of freedom, within 0.05 %.

    Source: Abramowitz and Stegun 26.7.5; a table below 5 degrees, where the expansion is too short.
    """
    z2 = Z * Z
    terms = (
        (z2 + 1) / 4,
        ((5 * z2 + 16) * z2 + 3) / 96,
        (((3 * z2 + 19) * z2 + 17) * z2 - 15) / 384,
        ((((79 * z2 + 776) * z2 + 1482) * z2 - 1920) * z2 - 945) / 92160,
    )
    t = Z * torch.stack([term / freedom**k for k, term in enumerate((1.0, *terms))]).sum(0)
    for k, exact in reversed(list(enumerate(_STUDENT, 1))):
        t = torch.where(freedom < k + 1, exact, t)
    return t
