"""Intervals for the area under a curve, which lies in [0, 1] and often near 1: pure tensor functions in float64."""

import torch
from torch import Tensor

from ptmetrics.metrics.intervals import Interval, Z

FEW = 100  # below so many samples of a class the normal approximation covers too little
_SECTIONS, _ROUNDS = 64, 6  # 64⁻⁶ = 1.5e-11


def logit_interval(value: Tensor, variance: Tensor) -> Interval:
    """Normal interval on the logit scale; NaN where the variance is 0 or the value is 0 or 1."""
    half = Z * variance.sqrt() / (value * (1 - value))
    half = torch.where((half > 0) & torch.isfinite(half), half, torch.nan)
    return (value.logit() - half).sigmoid(), (value.logit() + half).sigmoid()


def newcombe(area: Tensor, positives: Tensor, negatives: Tensor) -> Interval:
    """Interval of an AUROC from the area and the numbers of samples alone; wide, and right for few samples.

    Args:
        area: In [0, 1], any shape.
        positives: (Effective) number of positives, same shape.
        negatives: Number of negatives, same shape.

    Source: Newcombe, Statistics in Medicine 2006, method 5.
    """
    both = torch.stack(
        (area, 1 - area)
    )  # the method is symmetric: the upper end is a lower end seen from 1
    low = torch.zeros_like(both)
    width = both
    for _ in range(_ROUNDS):
        width = width / _SECTIONS
        grid = low + width * torch.arange(1, _SECTIONS, device=area.device).reshape(
            -1, *[1] * both.ndim
        )
        low = low + width * (_excess(grid, both, positives, negatives) > 0).sum(0)
    low = torch.where(torch.isnan(both), torch.nan, low)
    return low[0], 1 - low[1]


def _excess(theta: Tensor, area: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Squared distance of the area from a true area `theta`, less what chance explains."""
    more = (positives + negatives) / 2 - 1
    spread = theta * (1 - theta) * (1 + more * ((1 - theta) / (2 - theta) + theta / (1 + theta)))
    return (area - theta).square() - Z * Z * spread / (positives * negatives)


def union(value: Tensor, narrow: Interval, safe: Interval, needed: Tensor) -> Interval:
    """The narrow interval, widened to the safe one where it is needed or where there is no narrow one."""
    needed = needed | torch.isnan(narrow[0])
    low = torch.where(needed, torch.fmin(narrow[0], safe[0]), narrow[0])
    high = torch.where(needed, torch.fmax(narrow[1], safe[1]), narrow[1])
    return torch.minimum(low, value), torch.maximum(high, value)
