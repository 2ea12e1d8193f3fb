"""Functions of confusion matrices of shape (…, C, C), rows actual: smooth, so that their gradients exist."""

import math

import torch
from torch import Tensor


def mean(part: Tensor, whole: Tensor, weight: Tensor, absent: float) -> Tensor:
    """Mean over the classes of part / whole, all of shape (…, C); an undefined one is left out, or `absent`."""
    share, defined = part / whole, whole > 0
    if not math.isnan(absent):
        return (torch.where(defined, share, absent) * weight).sum(-1) / weight.sum(-1)
    weight = torch.where(defined, weight, 0.0)
    weight = torch.where(weight.sum(-1, keepdim=True) > 0, weight, defined.double())
    return torch.where(defined, share * weight, 0.0).sum(-1) / weight.sum(-1)


def mcc(cells: Tensor) -> Tensor:
    """Matthews correlation coefficient; NaN where a side holds one class."""
    # In counts and not in shares, which would round the digits of a rare class away.
    actual, predicted = cells.sum(-1), cells.sum(-2)
    covariance = actual.sum(-1) * hits(cells).sum(-1) - (actual * predicted).sum(-1)
    spread = _spread(actual) * _spread(predicted)
    return torch.where(spread > 0, covariance, torch.nan) / spread.sqrt()


def kappa(cells: Tensor) -> Tensor:
    """Cohen's kappa."""
    share = cells / cells.sum((-2, -1), keepdim=True)
    chance = (share.sum(-1) * share.sum(-2)).sum(-1)
    return (hits(share).sum(-1) - chance) / (1 - chance)


def _spread(margin: Tensor) -> Tensor:
    return margin.sum(-1).square() - margin.square().sum(-1)


def hits(cells: Tensor) -> Tensor:
    """Right predictions of each class, (…, C)."""
    return cells.diagonal(dim1=-2, dim2=-1)


def predicted(cells: Tensor) -> Tensor:
    """Predictions of each class, (…, C)."""
    return cells.sum(-2)


def either(cells: Tensor) -> Tensor:
    """Rows that are of the class or predicted so, (…, C)."""
    return cells.sum(-1) + cells.sum(-2) - hits(cells)


def others(cells: Tensor) -> Tensor:
    """Rows of other classes, (…, C); added up and not subtracted from the whole, so that none is 0 exactly."""
    actual = cells.sum(-1)
    rest = actual.unsqueeze(-2) - torch.diag_embed(actual)
    return rest.sum(-1)


def other_hits(cells: Tensor) -> Tensor:
    """Rows of other classes that were not predicted as the class, (…, C)."""
    return others(cells) - cells.sum(-2) + hits(cells)
