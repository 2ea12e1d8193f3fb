"""The mean of the losses of a split, each weighted as the criterion itself weighs its targets."""

from collections.abc import Mapping
from copy import copy
from typing import Any

import torch
from torch import Tensor

from ptmetrics.counts.checks import countable
from ptmetrics.errors import DtypeError, ShapeError
from ptmetrics.metrics.loss import MeanLoss
from ptmetrics.monitor.extract import CriterionCall

MOST_WAITING = 64  # tensors that are counted together
MOST_NUMBERS = 1024  # numbers, likewise
EMPTY_MEAN = MeanLoss()  # those of all splits are made of it, and so computed together
IGNORED_BY_TORCH = -100  # unless a criterion is told otherwise


class HeldLoss:
    """A loss as it was when it was returned; it counts once it is given to `SplitLoss.add`.

    Args:
        value: Its values; the number itself of one on the CPU, where nothing has to wait for it.
        weights: How many targets each stands for, float64, shape (1,) or (values,).
        targets: Number of targets.

    Attributes:
        place: Where its values are, and their dimensions; None for a number.
        room: How many of its kind are counted together.
        answer: Which answer of the group it is a loss of, by its identity.
        candidate: What it counts with; None where its rows count anyway.
        gradient: What it had in the backward pass; None where that was not seen.
    """

    place: tuple[torch.device, int] | None = None
    room = MOST_NUMBERS
    answer = 0
    candidate: object = None
    gradient: Tensor | None = None

    def __init__(self, value: Tensor | float, weights: Tensor, targets: int) -> None:
        self.value = value
        self.weights = weights
        self.targets = targets
        if isinstance(value, Tensor):
            self.place = value.device, value.ndim
            self.room = MOST_WAITING
            if value.ndim:
                self.room = 1

    def watch(self, node: Any) -> None:
        """Learn how much it weighs in what is minimised, from where the graph computed it."""
        if node is not None:
            node.register_prehook(self._keep)

    def _keep(self, gradients: tuple[Tensor | None, ...]) -> None:
        if gradients and gradients[0] is not None:
            self.gradient = gradients[0].detach()


def minimised(losses: list[HeldLoss]) -> HeldLoss | None:
    """The mean of several losses of the same rows as the optimizer weighs them; None if unknown.

    Their gradients are the weights, up to the factor by which the whole is scaled.
    """
    total: Any = 0
    shares: Any = 0
    for loss in losses:
        value = torch.as_tensor(loss.value)
        if loss.gradient is None or loss.gradient.numel() != value.numel():
            return None
        share = loss.gradient.double().reshape(value.shape)
        total = total + share * value.double()
        shares = shares + share
    return HeldLoss(total / shares, losses[-1].weights, losses[-1].targets)


class SplitLoss:
    """The mean of the losses that were seen, each weighted by the targets that it stands for.

    The mean over an epoch is that of one pass over all of its data, whatever the batch size: where
    a criterion has class weights or leaves out targets, its mean is taken by these weights.

    Args:
        ignore_index: The target that weighs nothing; None for none.

    Attributes:
        ignore_index: As given.
        seen: Losses that were counted.
        targets: Targets that they stand for.
    """

    def __init__(self, ignore_index: int | None = None) -> None:
        self.ignore_index = ignore_index
        self._mean = EMPTY_MEAN.fresh()
        self._device = self._mean.device  # of the last loss
        self._values: list[Tensor | float] = []  # of those that wait
        self._weights_of_values: list[Tensor] = []
        self._place: tuple[torch.device, int] | None = None  # of those that wait; None for numbers
        self.seen = 0
        self.targets = 0
        # What a mean over targets of the last shape weighs, where all of them weigh the same.
        self._of: tuple[Any, ...] = ()
        self._targets = 0
        self._weights = torch.zeros(0, dtype=torch.float64)

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

    def held(self, loss: Tensor | float, target: Tensor, call: CriterionCall) -> HeldLoss:
        """A loss as it is now, and what it weighs; it counts once it is given to `add`.

        Args:
            loss: A mean over the targets, their sum, or one value a target.
            target: The targets.
            call: How the criterion reduces them, and how it weighs them.
        """
        value: Any = loss
        kind = None
        if type(loss) is Tensor and loss.is_cpu and not loss.ndim and call.reduction != "sum":
            number = loss.item()
        else:
            number = None
            value, target = self._copied(loss, target)
            kind = value.device, value.ndim
        of = (target.shape, target.dtype, kind, call.reduction, call.ignore_index)
        if self._of == of and call.weight is None:
            weights = self._weights
        else:
            self._of = ()
            self._targets = target.numel()
            weights = self._weights_of(value, target, call)
            if weights is self._weights:
                self._of = of
        if number is not None:
            value = number
        elif value.ndim == 0 and call.reduction == "sum":
            value = value.double() / weights.clamp(min=1)
        return HeldLoss(value, weights, self._targets)

    def _copied(self, loss: Tensor | float, target: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, which the loop may write over, and its targets, where they can be counted."""
        if not isinstance(loss, Tensor):
            target = countable(target)
            return torch.full((), loss, dtype=torch.float64, device=target.device), target
        value = loss.detach()
        if value.device != self._device:
            value = countable(value)
            target = countable(target)
            self._device = value.device
        return value.clone(), target

    def add(self, held: HeldLoss) -> None:
        """Count a loss; single values wait until there are some."""
        if held.place != self._place:
            self._count_waiting()
            self._place = held.place
        values = self._values
        values.append(held.value)
        self._weights_of_values.append(held.weights)
        self.seen += 1
        self.targets += held.targets
        if len(values) >= held.room:
            self._count_waiting()

    def _count_waiting(self) -> None:
        waiting = self._values
        if not waiting:
            return
        each = self._weights_of_values
        self._forget_waiting()
        if self._place is None:
            values = torch.tensor(waiting, dtype=torch.float64)
        else:
            values = torch.cat([torch.as_tensor(value).reshape(-1) for value in waiting]).double()
        self._count(values, torch.cat(each))

    def _forget_waiting(self) -> None:
        self._values = []
        self._weights_of_values = []

    def _count(self, values: Tensor, weights: Tensor) -> None:
        if values.device != self._mean.device:
            self._mean.to(values.device)
        self._mean.update(values, weights, weights)

    def update(self, loss: Tensor | float, target: Tensor, reduction: str = "mean") -> None:
        """Count the loss of one batch, as `held` takes it."""
        self.add(self.held(loss, target, CriterionCall(None, target, reduction)))

    def mean(self) -> MeanLoss:
        """The metric that holds them all."""
        self._count_waiting()
        return self._mean

    def of_all_ranks(self, mean: Any, seen: int, targets: int) -> "SplitLoss":
        """The same of all ranks, with the mean over all of them; this one stays as it is."""
        other = copy(self)
        other._mean = mean
        other.seen = seen
        other.targets = targets
        return other

    def reset(self) -> None:
        """Start again."""
        self._mean.reset()
        self._forget_waiting()
        self.seen = 0
        self.targets = 0

    def state_dict(self) -> dict[str, Any]:
        """Sums of a half-done epoch."""
        self._count_waiting()
        return self._mean.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them up again."""
        self._forget_waiting()
        self._mean.load_state_dict(state)
        self.seen = self._mean.updates

    def _weights_of(self, loss: Tensor, target: Tensor, call: CriterionCall) -> Tensor:
        """How many targets each value stands for, float64, by the criterion's own weights.

        Returns:
            Shape (1,) for a loss of shape (); else shape (values,).
        """
        ignored = self.ignore_index
        by_class = None
        if target.is_floating_point():
            ignored = None
        elif call.ignore_index is not None:
            if call.reduction == "mean":
                by_class = call.weight
            # That of torch is left out only where somebody has asked for it.
            if call.ignore_index != IGNORED_BY_TORCH or by_class is not None:
                ignored = call.ignore_index
        if loss.ndim == 0 and by_class is not None:
            return _class_weights(target, by_class, ignored).sum().reshape(1)
        if ignored is not None and (loss.ndim == 0 or loss.shape == target.shape):
            kept = (target != ignored).double()
            if loss.ndim == 0:
                return kept.sum().reshape(1)
            return kept.reshape(-1)
        if loss.ndim:
            return torch.ones(loss.numel(), dtype=torch.float64, device=loss.device)
        targets = _targets(target, call)
        self._weights = torch.full((1,), targets, dtype=torch.float64, device=loss.device)
        return self._weights


def _targets(target: Tensor, call: CriterionCall) -> int:
    """Number of targets that a mean is over."""
    if call.reduction == "batchmean":
        return target.shape[0]
    of_classes = call.ignore_index is not None
    if of_classes and target.is_floating_point() and target.ndim > 1:
        return target.numel() // max(1, target.shape[1])  # one share for each class
    return target.numel()


def _class_weights(target: Tensor, by_class: Tensor, ignored: int | None) -> Tensor:
    """The weight of each target by its class, float64; an ignored one weighs nothing."""
    weights = by_class.detach().to(target.device).double()
    if ignored is None:
        return weights[target]
    kept = target != ignored
    return weights[target.masked_fill(~kept, 0)] * kept
