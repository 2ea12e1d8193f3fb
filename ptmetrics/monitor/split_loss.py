"""The mean of the losses of a split, each weighted as the criterion itself weighs its targets."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ptmetrics.counts.checks import countable
from ptmetrics.errors import DtypeError, ShapeError
from ptmetrics.metrics.loss import MeanLoss
from ptmetrics.metrics.score import FaultReport, Score
from ptmetrics.monitor.extract import CriterionCall

IGNORED_BY_TORCH = -100  # unless a criterion is told otherwise


class HeldLoss(NamedTuple):
    """A loss that is to count.

    Attributes:
        value: Its values, float64, shape (values,).
        weights: How many targets each stands for, float64, shape (1,) or (values,).
        targets: Number of targets.
    """

    value: Tensor
    weights: Tensor
    targets: int


class SplitLoss:
    """The mean of the losses that were seen, each weighted by the targets that it stands for.

    The mean over an epoch is that of one pass over all of its data, whatever the batch size: where
    a criterion has class weights or leaves out targets, its mean is taken by these weights.

    Args:
        ignore_index: The target that weighs nothing; None for none.
    """

    def __init__(self, ignore_index: int | None = None) -> None:
        self._ignore_index = ignore_index
        self._mean = MeanLoss()
        # The shape of a loss and its number of targets, and what each value weighs.
        self._weights_key = (torch.Size([0]), 0)
        self._weights = torch.zeros(0, dtype=torch.float64)

    @property
    def seen(self) -> bool:
        """Whether there was a loss."""
        return self._mean.updates > 0

    def check(self, loss: object, target: Tensor) -> None:
        """Refuse what cannot be counted, before anything is.

        Raises:
            DtypeError: If it is no number.
            ShapeError: If it is neither of shape (), (N,) nor the target's.
        """
        if isinstance(loss, Tensor):
            if loss.ndim > 1 and loss.shape != target.shape:
                cure = "Pass loss.flatten() or loss.mean()."
                raise ShapeError("loss", "shape () or (N,)", str(tuple(loss.shape)), cure)
        elif not isinstance(loss, int | float):
            cure = "Pass what the criterion returned, or leave it out."
            raise DtypeError("loss", "a tensor or a number", type(loss).__name__, cure)

    def held(
        self,
        loss: Tensor | float,
        target: Tensor,
        reduction: str = "mean",
        call: CriterionCall | None = None,
    ) -> HeldLoss:
        """A loss as it is now, and what it weighs; it counts once it is given to `add`.

        Args:
            loss: A mean over the targets, their sum, or one value a target.
            target: The targets.
            reduction: By torch's word: "sum" for a sum, "batchmean" for a mean over rows.
            call: How the criterion weighs targets; None for all alike.
        """
        if isinstance(loss, Tensor):
            value = loss.detach()
        else:
            target = countable(target)
            value = torch.full((), loss, dtype=torch.float64, device=target.device)
        if value.device != self._mean.device:
            value = countable(value)
            target = countable(target)
        ignored, by_class = self._left_out(target, reduction, call)
        if value.ndim == 0 and by_class is not None:
            weights = _class_weights(target, by_class, ignored).sum().reshape(1)
        elif ignored is not None and (value.ndim == 0 or value.shape == target.shape):
            weights = (target != ignored).double()
            if value.ndim == 0:
                weights = weights.sum()
            weights = weights.reshape(-1)
        else:
            weights = self._equal_weights(value, target, reduction, call)
        if value.ndim == 0 and reduction == "sum":
            value = value.double() / weights.clamp(min=1)
        else:
            value = value.to(torch.float64, copy=True)  # the loop may write over its own
        return HeldLoss(value.reshape(-1), weights, target.numel())

    def add(self, held: HeldLoss) -> None:
        """Count a loss."""
        if held.value.device != self._mean.device:
            self._mean.to(held.value.device)
        self._mean.update(held.value, held.weights, held.weights)

    def update(self, loss: Tensor | float, target: Tensor, reduction: str = "mean") -> None:
        """Count the loss of one batch, as `held` takes it."""
        self.add(self.held(loss, target, reduction))

    def compute(self) -> tuple[Score, FaultReport]:
        """The mean, and what was left out of it."""
        scores = self._mean.compute()
        return scores["loss"], scores.faults

    def reset(self) -> None:
        """Start again."""
        self._mean.reset()

    def state_dict(self) -> dict[str, Any]:
        """Sums of a half-done epoch."""
        return self._mean.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them up again."""
        self._mean.load_state_dict(state)

    def _left_out(
        self, target: Tensor, reduction: str, call: CriterionCall | None
    ) -> tuple[int | None, Tensor | None]:
        """The target that weighs nothing, and the weight of each class."""
        if target.is_floating_point():
            return None, None
        if call is None or call.ignore_index is None:
            return self._ignore_index, None
        ignored: int | None = call.ignore_index
        if ignored == IGNORED_BY_TORCH and self._ignore_index is None and call.weight is None:
            ignored = None  # nobody has asked for it: the metric would refuse such targets
        weight = call.weight
        if reduction != "mean":
            weight = None
        return ignored, weight

    def _equal_weights(
        self, loss: Tensor, target: Tensor, reduction: str, call: CriterionCall | None
    ) -> Tensor:
        """How many targets each value stands for, float64.

        Returns:
            Shape (1,) for a loss of shape (); else shape (values,), ones.
        """
        targets = 1
        if loss.ndim == 0:
            targets = target.numel()
            of_classes = call is not None and call.ignore_index is not None
            if reduction == "batchmean":
                targets = target.shape[0]
            elif of_classes and target.is_floating_point() and target.ndim > 1:
                targets = target.numel() // max(1, target.shape[1])  # one share for each class
        key = (loss.shape, targets)
        if self._weights_key != key or self._weights.device != loss.device:
            self._weights_key = key
            self._weights = torch.full(
                (loss.numel(),), targets, dtype=torch.float64, device=loss.device
            )
        return self._weights


def _class_weights(target: Tensor, by_class: Tensor, ignored: int | None) -> Tensor:
    """The weight of each target by its class, float64; an ignored one weighs nothing."""
    weights = by_class.detach().to(target.device).double()
    if ignored is None:
        return weights[target]
    kept = target != ignored
    return weights[target.masked_fill(~kept, 0)] * kept
