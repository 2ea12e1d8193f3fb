"""What is counted of a batch without the rows at its end that stand for another rank's too."""

from typing import Any

import torch
from torch import Tensor

from ptmetrics.monitor.answers import Answer
from ptmetrics.monitor.extract import CriterionCall
from ptmetrics.monitor.passes import without_last
from ptmetrics.monitor.seen import Seen

_LOSSES_OF_TORCH = ("torch.nn.modules.loss", "torch.nn.functional")


def without_padding(seen: Seen, answer: Answer, *values: Any) -> Any:
    """Predictions, targets and ids without the rows that are padding, where it can be told which."""
    own = tuple(without_last(value, answer.rows, answer.padding) for value in values)
    if own[0] is values[0] or own[1] is values[1]:  # rows of another kind
        seen.padding_rows += answer.padding
        answer.padding = 0
        return values
    seen.padding_left_out += answer.padding
    return own


def loss_without_padding(
    loss: Tensor, call: CriterionCall, answer: Answer
) -> tuple[Tensor, CriterionCall]:
    """A loss without the rows that are padding, as far as they can be told apart.

    Torch's own losses are computed again; of others a mean keeps its value and weighs less.
    """
    preds = without_last(call.preds, answer.rows, answer.padding)
    target = without_last(call.target, answer.rows, answer.padding)
    call = call._replace(preds=preds, target=target)
    own = without_last(loss, answer.rows, answer.padding)
    of_torch = getattr(call.again, "__module__", "") in _LOSSES_OF_TORCH
    if own is loss and of_torch and len(target):
        compute = getattr(call.again, "forward", call.again)  # nobody watches it
        with torch.no_grad():
            own = compute(preds, target)
    return own, call
