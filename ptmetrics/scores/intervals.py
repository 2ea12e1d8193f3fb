"""Two-sided 95 % confidence intervals as pure tensor functions in float64.

They cover the sampling of the evaluation data only: not another training seed, nor a shift of the data.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Z = 1.959963984540054  # 0.975 quantile of the standard normal distribution
Interval = tuple[Tensor, Tensor]


def wilson(p: Tensor, n: Tensor, z: float = Z) -> Interval:
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
    low, high = torch.minimum((centre - half).clamp(min=0), p), torch.maximum((centre + half).clamp(max=1), p)
    return torch.where(defined, low, nan), torch.where(defined, high, nan)


def mover(p: Tensor, low: Tensor, high: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted mean of independent estimates and its interval; undefined ones are left out.

    Args:
        p: Estimates of shape (K,), NaN where undefined.
        low: Lower ends, shape (K,).
        high: Upper ends, shape (K,).
        weight: Weights of shape (K,), rescaled to sum to 1 over what is defined; equal when all of those are 0.

    Returns:
        Mean, low, high of shape (); NaN when nothing is defined.

    Source: Zou and Donner, Statistics in Medicine 2008 (method of variance estimates recovery).
    """
    defined = ~torch.isnan(p)
    weight = torch.where(defined, weight, 0.0)
    weight = torch.where(weight.sum() > 0, weight, defined.double())
    total = weight.sum()
    mean, below, above = (torch.where(defined, weight * part, 0.0) for part in (p, p - low, high - p))
    mean = mean.sum() / total
    return mean, mean - below.norm() / total, mean + above.norm() / total


def delta(
    metric: Callable[[Tensor], Tensor], counts: Tensor, squares: Tensor, bounds: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """A smooth function of a confusion matrix and its first-order interval.

    The variance is Σ w² g² with g the gradient, for a metric that does not change when all counts are scaled.
    It is taken a little away from the data, towards independence of rows and columns by z²/2 samples: at a
    perfect matrix the plain gradient is zero and would claim certainty.

    Args:
        metric: Matrix of shape (C, C) to a value of shape ().
        counts: Σw a cell, float64 of shape (C, C).
        squares: Σw² a cell, same shape.
        bounds: Range of the metric.

    Returns:
        Value, low, high of shape (); NaN where the metric is undefined.

    Source: the delta method; Agresti and Coull 1998 for the added samples.
    """
    total = counts.sum()
    margins = counts.sum(1, keepdim=True) * counts.sum(0, keepdim=True) / total.square()
    scale = squares.sum() / total  # mean weight of a row, so that added samples weigh as much as real ones
    added = Z * Z / 2 * margins
    with torch.inference_mode(False), torch.enable_grad():
        point = (counts + scale * added).clone().requires_grad_()
        (gradient,) = torch.autograd.grad(metric(point), point)
    value = metric(counts)
    # Undefined directions (a class that never occurs) carry no count and no variance.
    variance = ((squares + scale * scale * added) * gradient.nan_to_num(0.0).square()).sum()
    half = Z * variance.sqrt()
    return value, (value - half).clamp(min=bounds[0]), (value + half).clamp(max=bounds[1])


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
