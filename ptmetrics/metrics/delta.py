"""Intervals of smooth functions of a confusion matrix by the delta method, from its margins and one product with it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ptmetrics.metrics import margins as of
from ptmetrics.metrics.intervals import Z, wilson


def delta(
    metric: Callable[[Tensor], Tensor], counts: Tensor, squares: Tensor, bounds: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """A smooth function of a confusion matrix, with Wilson's interval at the n that its variance is worth.

    The variance is Σ w² g² with g the gradient in the cells, for a metric that does not change when all counts are
    scaled. It is taken a little away from the data, towards independence of rows and columns by z²/2 samples: at a
    perfect matrix the plain gradient is zero and would claim certainty. For the accuracy n is exactly its own.

    With A, P and H the gradient by actual, predicted and hits, that of a cell is A_i + P_j, and H_i more on the
    diagonal: all of Σ s (A_i + P_j)² but the cross term is in the margins, and that is one product with the matrix.

    Args:
        metric: Margins of shape (…, 3, C), hits, actual and predicted, to values of shape (…).
        counts: Σw a cell, float64 of shape (…, C, C).
        squares: Σw² a cell, same shape.
        bounds: Range of the metric.

    Returns:
        Value, low, high of shape (…); NaN where the metric is undefined.

    Source: the delta method; Korn and Graubard 1998 for the n that a variance is worth.
    """
    near = _Nearby.of(metric, of.margins(counts), of.margins(squares))
    rows, columns = near.rows.apart, near.columns.apart
    added = near.added_square * near.actual * (near.predicted * columns).sum(-1, keepdim=True)
    cross = (rows * ((squares @ columns.unsqueeze(-1)).squeeze(-1) + added)).sum(-1)
    cross = cross - (near.right * rows * columns).sum(-1)
    spread = near.rows.spread + near.columns.spread + 2 * cross
    return near.interval(metric, spread.clamp(min=0), bounds)


def delta_of_margins(
    metric: Callable[[Tensor], Tensor],
    margins: Tensor,
    squares: Tensor,
    bounds: tuple[float, float],
) -> tuple[Tensor, Tensor, Tensor]:
    """The same of margins alone; its interval contains that of `delta`, which needs the cells.

    The cross term beside the diagonal is bounded by Cauchy and Schwarz.

    Args:
        metric: Margins of shape (…, 3, C), hits, actual and predicted, to values of shape (…).
        margins: Σw, float64 of shape (…, 3, C).
        squares: Σw², same shape.
        bounds: Range of the metric.
    """
    near = _Nearby.of(metric, margins, squares)
    return near.interval(
        metric, (near.rows.spread.sqrt() + near.columns.spread.sqrt()).square(), bounds
    )


@dataclass(frozen=True)
class _Centred:
    """A gradient beside the diagonal: its mean there, what it is apart from that, and Σ weight · apart²."""

    mean: Tensor
    apart: Tensor
    spread: Tensor
    weight: Tensor

    @classmethod
    def of(cls, weight: Tensor, values: Tensor) -> "_Centred":
        weight = weight.clamp(min=0)
        total = weight.sum(-1)
        mean = ((weight * values).sum(-1) / total).nan_to_num(0.0)
        apart = values - mean.unsqueeze(-1)
        return cls(mean, apart, (weight * apart.square()).sum(-1), total)


@dataclass(frozen=True)
class _Nearby:
    """Where the gradient is taken, the gradient there, and the margins of the squared weights."""

    margins: Tensor
    total: Tensor
    scale: Tensor  # mean weight of a row: added samples weigh as much
    value: Tensor
    on_diagonal: Tensor  # Σ s (A_i + P_i + H_i)²
    right: Tensor  # s of the diagonal
    rows: _Centred
    columns: _Centred

    @classmethod
    def of(cls, metric: Callable[[Tensor], Tensor], margins: Tensor, squares: Tensor) -> "_Nearby":
        _, actual, predicted = margins.unbind(-2)
        total = actual.sum(-1, keepdim=True)
        scale = squares[..., 1, :].sum(-1, keepdim=True) / total
        shares = torch.stack((actual * predicted / total, actual, predicted), -2) / total.unsqueeze(
            -2
        )
        added = Z * Z / 2 * scale.unsqueeze(-2) * shares
        value, gradient = _value_and_gradient(metric, margins + added)
        (by_hits, by_actual, by_predicted), weight = (
            gradient.unbind(-2),
            squares + scale.unsqueeze(-2) * added,
        )
        right, of_rows, of_columns = weight.unbind(-2)
        on_diagonal = (right * (by_hits + by_actual + by_predicted).square()).sum(-1)
        rows = _Centred.of(of_rows - right, by_actual)
        columns = _Centred.of(of_columns - right, by_predicted)
        return cls(margins, total, scale, value, on_diagonal, right, rows, columns)

    @property
    def actual(self) -> Tensor:
        return self.margins[..., 1, :]

    @property
    def predicted(self) -> Tensor:
        return self.margins[..., 2, :]

    @property
    def added_square(self) -> Tensor:
        """Times actual and predicted: the squared weights that were added to a cell."""
        return Z * Z / 2 * (self.scale / self.total).square()

    def interval(
        self, metric: Callable[[Tensor], Tensor], spread: Tensor, bounds: tuple[float, float]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """With the variance beside the diagonal, around the means, given as `spread`."""
        shift = (self.rows.mean + self.columns.mean).square() * self.rows.weight
        variance, real = self.on_diagonal + spread + shift, (self.total / self.scale).squeeze(-1)
        return _worth(metric(self.margins), self.value, variance, real, bounds)


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
    return (
        value,
        torch.minimum(value, least + span * low),
        torch.maximum(value, least + span * high),
    )
