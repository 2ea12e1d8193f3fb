"""Weighted moments of one number a row, in float64: enough for a mean and its interval."""

import torch
from torch import Tensor

SIZE = 6


def moments(x: Tensor, counted: Tensor, weight: Tensor | None = None) -> Tensor:
    """n, Σw, Σw², Σw·x, Σw²·x, Σw²·x² over the counted rows.

    Args:
        x: One number a row, shape (rows,), any floating point type.
        counted: Bool of shape (rows,).
        weight: Float64 of shape (rows,), or None for 1 a row.

    Returns:
        Float64 of shape (6,); zeros when no row counts.
    """
    n = counted.double()
    w = n if weight is None else weight * n
    x = torch.where(w > 0, x.double(), 0.0)  # so that an infinite loss of weight 0 is nothing
    wx = w * x
    return torch.stack((n, w, w * w, wx, w * wx, wx * wx)).sum(1)
