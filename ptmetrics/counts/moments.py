"""Weighted moments of one number a row, in float64: enough for a mean and its interval."""

import torch
from torch import Tensor

SIZE = 6


def moments(x: Tensor, counted: Tensor, weight: Tensor | None = None) -> Tensor:
    """n, Σw, Σw², Σw·x, Σw²·x, Σw²·x² over the counted rows.

    Args:
        x: One number a row, shape (rows,) or (…, rows), any floating point type.
        counted: Bool of x's shape.
        weight: Float64 of shape (rows,), or None for 1 a row.

    Returns:
        Float64 of shape (6,) or (6, …); zeros when no row counts.
    """
    n = counted.double()
    if weight is None:
        x = torch.where(counted, x.double(), 0.0)
        return torch.stack((n, n, n, x, x, x * x)).sum(-1)
    w = weight * n
    x = torch.where(w > 0, x.double(), 0.0)  # so that an infinite loss of weight 0 is nothing
    wx = w * x
    return torch.stack((n, w, w * w, wx, w * wx, wx * wx)).sum(-1)
