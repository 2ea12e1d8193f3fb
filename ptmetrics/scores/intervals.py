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
    low, high = torch.minimum((centre - half).clamp(min=0), p), torch.maximum((centre + half).clamp(max=1), p)
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


def delta(
    metric: Callable[[Tensor], Tensor], counts: Tensor, squares: Tensor, bounds: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """A smooth function of a confusion matrix, with Wilson's interval at the n that its variance is worth.

    The variance is Σ w² g² with g the gradient, for a metric that does not change when all counts are scaled.
    It is taken a little away from the data, towards independence of rows and columns by z²/2 samples: at a
    perfect matrix the plain gradient is zero and would claim certainty. For the accuracy n is exactly its own.

    Args:
        metric: Matrices of shape (…, C, C) to values of shape (…).
        counts: Σw a cell, float64 of shape (…, C, C).
        squares: Σw² a cell, same shape.
        bounds: Range of the metric.

    Returns:
        Value, low, high of shape (…); NaN where the metric is undefined.

    Source: the delta method; Korn and Graubard 1998 for the n that a variance is worth.
    """
    cells = (-2, -1)
    total = counts.sum(cells, keepdim=True)
    margins = counts.sum(-1, keepdim=True) * counts.sum(-2, keepdim=True) / total.square()
    scale = squares.sum(cells, keepdim=True) / total  # mean weight of a row: added samples weigh as much
    added = Z * Z / 2 * scale * margins
    near, gradient = _value_and_gradient(metric, counts + added)
    variance = ((squares + scale * added) * gradient.square()).sum(cells)
    return _worth(metric(counts), near, variance, (total / scale).squeeze(cells), bounds)


def delta_of_margins(
    metric: Callable[[Tensor], Tensor], margins: Tensor, squares: Tensor, bounds: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """The same of margins alone; its interval contains that of `delta`, which needs the cells.

    With A, P and H the gradient by actual, predicted and hits, that of a cell is A_i + P_j, and H_i more on the
    diagonal. The margins hold all of Σ s (A_i + P_j)² but the cross term beside the diagonal, which is bounded by
    Cauchy and Schwarz once A and P are centred there.

    Args:
        metric: Margins of shape (…, 3, C), hits, actual and predicted, to values of shape (…).
        margins: Σw, float64 of shape (…, 3, C).
        squares: Σw², same shape.
        bounds: Range of the metric.
    """
    _, actual, predicted = margins.unbind(-2)
    total = actual.sum(-1)[..., None, None]
    scale = squares[..., 1, :].sum(-1)[..., None, None] / total
    shares = torch.stack((actual * predicted / total.squeeze(-1), actual, predicted), -2) / total
    added = Z * Z / 2 * scale * shares
    near, gradient = _value_and_gradient(metric, margins + added)
    (by_hits, by_actual, by_predicted), weight = gradient.unbind(-2), squares + scale * added
    right = weight[..., 0, :]
    variance = (right * (by_hits + by_actual + by_predicted).square()).sum(-1)
    row_mean, row_spread, errors = _centred((weight[..., 1, :] - right).clamp(min=0), by_actual)
    column_mean, column_spread, _ = _centred((weight[..., 2, :] - right).clamp(min=0), by_predicted)
    variance = variance + (row_spread + column_spread).square() + errors * (row_mean + column_mean).square()
    return _worth(metric(margins), near, variance, (total / scale)[..., 0, 0], bounds)


def _centred(weight: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, root of the weighted sum of squares around it, and the sum of the weights; 0 where nothing weighs."""
    total = weight.sum(-1)
    mean = ((weight * values).sum(-1) / total).nan_to_num(0.0)
    return mean, (weight * (values - mean.unsqueeze(-1)).square()).sum(-1).sqrt(), total


def _value_and_gradient(metric: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Tensor]:
    """Undefined directions (a class that never occurs) carry no count and no variance: 0."""
    with torch.inference_mode(False), torch.enable_grad():
        point = at.clone().requires_grad_()
        value = metric(point)
        (gradient,) = torch.autograd.grad(value.sum(), point)
    return value.detach(), gradient.nan_to_num(0.0)


def _worth(
    value: Tensor, near: Tensor, variance: Tensor, real: Tensor, bounds: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Value and Wilson's interval at the n that the variance is worth, `real` where there is none."""
    least, span = bounds[0], bounds[1] - bounds[0]
    share = (near - least) / span
    n = share * (1 - share) * span * span / variance / (1 + Z * Z / 2 / real)
    n = torch.where(n > 0, n, real)  # no variance at all: one class on both sides
    value = value.clamp(*bounds)
    low, high = wilson((value - least) / span, n)
    return value, torch.minimum(value, least + span * low), torch.maximum(value, least + span * high)


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
