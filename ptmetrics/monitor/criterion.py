"""What a criterion's call shows: predictions, targets, and a loss for so many targets."""

from typing import Any

import torch
from torch import Tensor, nn

from ptmetrics.errors import HookError

NO_CLASS = 2**31 - 1  # as a sample's record can hold it


def call_parts(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Predictions and targets of a call: by torch's names `input` and `target`, else in their order.

    Raises:
        HookError: If there are no two of them.
    """
    if len(args) > 1 and not kwargs:
        return args[0], args[1]
    rest = dict(kwargs)
    named = [rest.pop(name) for name in ("input", "target") if name in rest]
    values = [*args, *named, *rest.values()]
    if len(values) < 2:
        cure = "Call it with both, or hand them over with monitor.update()."
        raise HookError(
            "criterion", "a call with predictions and targets", f"{len(values)} argument", cure
        )
    return values[0], values[1]


def is_sum(criterion: nn.Module, loss: Tensor) -> bool:
    """Whether `loss` is a sum over the targets, by torch's word for it."""
    return loss.ndim == 0 and getattr(criterion, "reduction", "mean") == "sum"


def targets_of(loss: Tensor, target: Tensor, ignore_index: int | None) -> Tensor:
    """How many targets each value of a loss stands for, float64; an ignored one counts for nothing.

    Returns:
        Shape (1,) for a loss of shape (); else shape (values,), ones where the loss is not of the target's shape.
    """
    if loss.ndim and loss.shape != target.shape:
        return torch.ones(loss.numel(), dtype=torch.float64, device=loss.device)
    if ignore_index is None:
        shape, fill = ((loss.numel(),), 1) if loss.ndim else ((1,), target.numel())
        return torch.full(shape, fill, dtype=torch.float64, device=loss.device)
    kept = (target != ignore_index).double()
    return kept.reshape(-1) if loss.ndim else kept.sum().reshape(1)


def whole_classes(target: Tensor) -> Tensor:
    """Classes that a loss such as `BCEWithLogitsLoss` takes as floats, as int64 for the metrics; no host sync.

    One between two classes, as of smoothed labels, becomes one that there is not, so that the metrics refuse it.
    """
    whole = target.long()
    return whole.masked_fill(whole != target, NO_CLASS)
