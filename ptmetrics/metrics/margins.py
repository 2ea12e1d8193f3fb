"""Functions of the margins of confusion matrices, hits, actual and predicted, of shape (…, 3, C).

Every score of single-label classification is one. All are smooth, so that their gradients exist.
"""

import math

import torch
from torch import Tensor


def margins(cells: Tensor) -> Tensor:
    """Margins of matrices of shape (…, C, C), rows actual."""
    return torch.stack((cells.diagonal(dim1=-2, dim2=-1), cells.sum(-1), cells.sum(-2)), -2)


def two_by_two(m: Tensor) -> Tensor:
    """The matrices (…, 2, 2) of two classes, which their margins of shape (…, 3, 2) leave no choice."""
    wrong = (actual(m) - hits(m)).clamp(min=0)  # sums of weights may differ in the last digit
    return torch.diag_embed(hits(m)) + torch.diag_embed(wrong).flip(-1)


def mean(part: Tensor, whole: Tensor, weight: Tensor, absent: float) -> Tensor:
    """Mean over the classes of part / whole, all of shape (…, C); an undefined one is left out, or `absent`."""
    share, defined = part / whole, whole > 0
    if not math.isnan(absent):
        return (torch.where(defined, share, absent) * weight).sum(-1) / weight.sum(-1)
    weight = torch.where(defined, weight, 0.0)
    weight = torch.where(weight.sum(-1, keepdim=True) > 0, weight, defined.double())
    return torch.where(defined, share * weight, 0.0).sum(-1) / weight.sum(-1)


def mcc(m: Tensor) -> Tensor:
    """Matthews correlation coefficient; NaN where a side holds one class."""
    # In counts and not in shares, which would round the digits of a rare class away.
    right, true, guessed = m.unbind(-2)
    covariance = true.sum(-1) * right.sum(-1) - (true * guessed).sum(-1)
    spread = _spread(true) * _spread(guessed)
    return torch.where(spread > 0, covariance, torch.nan) / spread.sqrt()


def kappa(m: Tensor) -> Tensor:
    """Cohen's kappa."""
    right, true, guessed = (m / actual(m).sum(-1)[..., None, None]).unbind(-2)
    chance = (true * guessed).sum(-1)
    return (right.sum(-1) - chance) / (1 - chance)


def _spread(margin: Tensor) -> Tensor:
    return margin.sum(-1).square() - margin.square().sum(-1)


def hits(m: Tensor) -> Tensor:
    """Right predictions of each class, (…, C)."""
    return m[..., 0, :]


def actual(m: Tensor) -> Tensor:
    """Rows of each class, (…, C)."""
    return m[..., 1, :]


def predicted(m: Tensor) -> Tensor:
    """Predictions of each class, (…, C)."""
    return m[..., 2, :]


def either(m: Tensor) -> Tensor:
    """Rows that are of the class or predicted so, (…, C)."""
    return actual(m) + predicted(m) - hits(m)


def others(m: Tensor) -> Tensor:
    """Rows of other classes, (…, C).

    For the largest class they are added up and not subtracted from the whole, so that none is 0 exactly; of any
    other class, at least half of the rows are others, and no digits cancel.
    """
    rows = actual(m)
    largest = torch.arange(rows.shape[-1], device=m.device) == rows.argmax(-1, keepdim=True)
    rest = rows.masked_fill(largest, 0).sum(-1, keepdim=True)
    return torch.where(largest, rest, rows.sum(-1, keepdim=True) - rows)


def other_hits(m: Tensor) -> Tensor:
    """Rows of other classes that were not predicted as the class, (…, C)."""
    return others(m) - predicted(m) + hits(m)
