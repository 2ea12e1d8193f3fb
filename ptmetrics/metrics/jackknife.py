"""Intervals for rows that come in groups, such as the frames of a patient: pure tensor functions in float64.

Groups are spread over a fixed number of buckets. Each score is computed anew without each bucket in turn; how much
it moves tells its variance, whatever rows of one group have in common.

Source: Efron and Tibshirani 1993, chapter 11; Korn and Graubard 1998 for the n that a variance is worth.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ptmetrics.metrics.estimate import Estimate
from ptmetrics.metrics.intervals import student, wilson

METHOD = "jackknife-groups"
STILL = 1e-12  # a score that moves by less does not move


def without_each(sums: Tensor) -> Tensor:
    """Sums over all buckets but one, for each of them; of shape (G, …) like `sums`."""
    if not sums.dtype.is_floating_point:
        return sums.sum(0) - sums
    others = 1 - torch.eye(len(sums), dtype=sums.dtype, device=sums.device)  # no digits cancel
    return (others @ sums.flatten(1)).view_as(sums)


def spread(value: Tensor, without: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
    """Variance of a score, and its degrees of freedom.

    Args:
        value: The score of all rows, any shape.
        without: The score without each bucket, shape (G, …).
        filled: Bool of shape (G,), whether a bucket holds a row.

    Returns:
        Both of the value's shape. The variance is NaN for fewer than two buckets with a row, and where the score is
        undefined without one of them. Buckets that do not move the score at all, such as those without a positive for
        a recall, give no freedom.
    """
    filled = filled.reshape(-1, *[1] * value.ndim)
    off = torch.where(filled, without - value, 0.0)
    number = filled.sum(0).double().expand(value.shape)
    variance = (number - 1) / number * off.square().sum(0)
    moved = (off.abs() > STILL).sum(0)
    return torch.where(number > 1, variance, torch.nan), torch.where(
        moved > 1, moved, number
    ).clamp(min=2) - 1


def proportion_by_groups(
    e: Estimate, without: Tensor, filled: Tensor, bounds: tuple[float, float] = (0, 1)
) -> Estimate:
    """A score in `bounds` with Wilson's interval at the n that its variance between buckets is worth, by Student's t.

    Where nothing varies, as for a perfect score, each bucket counts as one sample: nothing tells how alike the rows of
    a group are. A constant in the place of an undefined score keeps its ends.
    """
    variance, freedom = spread(e.value, without, filled)
    least, size = bounds[0], bounds[1] - bounds[0]
    share = (e.value - least) / size
    n = share * (1 - share) * size * size / variance
    n = torch.where((variance > STILL**2) & (n > 0), n, filled.sum().double())
    n = torch.where(variance.isnan(), torch.nan, n)
    low, high = (least + size * end for end in wilson(share, n, student(freedom)))
    constant = e.low == e.high
    low, high = torch.where(constant, e.low, low), torch.where(constant, e.high, high)
    return replace(e, low=low, high=high, method=METHOD)


def transformed_by_groups(
    e: Estimate,
    without: Tensor,
    filled: Tensor,
    to: Callable[[Tensor], Tensor],
    back: Callable[[Tensor], Tensor],
) -> Estimate:
    """A score with Student's interval on the scale of `to`, a monotone function whose inverse is `back`."""
    centre = to(e.value)
    variance, freedom = spread(centre, to(without), filled)
    half = student(freedom) * variance.sqrt()
    ends = back(centre - half), back(centre + half)
    return replace(e, low=torch.minimum(*ends), high=torch.maximum(*ends), method=METHOD)
