"""Where predictions, targets and ids stand in what a model returns and a loader yields."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ptmetrics.errors import DtypeError

Pick = Callable[[Any], Any]


def pick_predictions(output: Any) -> Tensor:
    """The predictions in what a model returned: the tensor, its `.logits`, `["logits"]`, `["out"]` or first part.

    Raises:
        DtypeError: If there is none.
    """
    found = getattr(output, "logits", output)
    if isinstance(found, Mapping):
        found = found.get("logits", found.get("out"))
    elif isinstance(found, list | tuple) and found:
        found = found[0]
    if not isinstance(found, Tensor):
        cure = "Say where they are: attach(model, preds=lambda output: …)."
        raise DtypeError("model output", "a tensor, or logits in it", type(output).__name__, cure)
    return found


def pick_target(batch: Any) -> Tensor:
    """The tensor of targets in a batch of the loader: `batch[1]`.

    Raises:
        DtypeError: If the batch is no pair, or its second part no tensor.
    """
    found = batch[1] if isinstance(batch, list | tuple) and len(batch) > 1 else None
    if not isinstance(found, Tensor):
        cure = "Say where they are: attach(model, target=lambda batch: …)."
        raise DtypeError("batch", "a pair (inputs, targets)", type(batch).__name__, cure)
    return found


@dataclass(frozen=True)
class Picks:
    """Where each thing stands; ids only where a place is named.

    Attributes:
        preds: In what the model returns.
        target: In a batch of the loader.
        slices: In a batch of the loader.
        group: In a batch of the loader.
    """

    preds: Pick | None = None
    target: Pick | None = None
    slices: Pick | None = None
    group: Pick | None = None

    @property
    def ids(self) -> bool:
        """Whether slices or groups are looked for."""
        return self.slices is not None or self.group is not None

    def predictions(self, output: Any) -> Tensor:
        """The predictions in what a model returned."""
        found: Tensor = (self.preds or pick_predictions)(output)
        return found

    def beside(self, batch: Any, device: torch.device) -> dict[str, Tensor]:
        """What a batch holds beside the inputs, by the argument's name, on the device of the predictions."""
        picks = {"target": self.target or pick_target, "slices": self.slices, "group": self.group}
        found = {name: pick(batch) for name, pick in picks.items() if pick is not None}
        return {name: v.to(device, non_blocking=True) for name, v in found.items() if v is not None}
