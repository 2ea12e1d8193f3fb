"""The loss that the user's criterion returned: a mean over samples, exact for unequal batches."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ptmetrics.counts.cells import Cell, State
from ptmetrics.counts.faults import FaultKind
from ptmetrics.counts.moments import SIZE, moments
from ptmetrics.counts.waiting import Given
from ptmetrics.errors import ShapeError

NON_FINITE_LOSS = FaultKind("non-finite-loss", "loss that is NaN or infinite, left out of the mean")


@dataclass
class LossBatch:
    """Losses of one batch, each the mean over `weight` samples; device tensors of shape (values,)."""

    value: Tensor  # float64
    counted: Tensor  # bool: finite
    weight: Tensor  # float64
    fault_masks: tuple[Tensor, ...]
    step: int | Tensor  # of the update, or int64 of each value


def given_loss(loss: Tensor, rows: Tensor) -> Given:
    """A mean loss of shape () over `rows` samples, or one loss a value of shape (values,).

    Args:
        loss: Floating point, without a graph.
        rows: Float64 number of samples that a value stands for, shape (1,) or (values,), on the loss's device.

    Raises:
        ShapeError: If the loss has more than one dimension.
    """
    if loss.ndim > 1:
        raise ShapeError(
            "loss",
            "shape () or (N,)",
            str(tuple(loss.shape)),
            "Pass loss.flatten() or loss.mean().",
        )
    loss = loss.reshape(-1)
    return Given(loss, rows if rows.shape == loss.shape else rows.expand(loss.shape))


def read_losses(batch: Given) -> tuple[LossBatch]:
    """Read what values tell, on the device; no host sync."""
    value, weight = batch.preds.double(), batch.target
    counted = torch.isfinite(value)
    return (LossBatch(value, counted, weight, ((~counted) & (weight > 0),), batch.step),)


@dataclass(frozen=True)
class LossMoments:
    """Moments over the batch means, each weighted by its samples."""

    def layout(self) -> Mapping[str, Cell]:
        """Six sums."""
        return {"loss": Cell((SIZE,), torch.float64)}

    def add_(self, state: State, batch: LossBatch) -> None:
        """Add one batch; an empty one has weight 0 and counts for nothing."""
        state["loss"].add_(moments(batch.value, batch.counted & (batch.weight > 0), batch.weight))
