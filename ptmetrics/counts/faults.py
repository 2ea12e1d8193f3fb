"""The fault ledger: bad values are counted on the device and reported in words later, with no host sync."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ptmetrics.counts.cells import NEVER, Cell, State


@dataclass(frozen=True)
class FaultKind:
    """A kind of bad value: its stable name, and the words for a person."""

    name: str
    words: str


NAN_SCORE = FaultKind("nan-score", "row with a NaN prediction, refused")
BAD_TARGET = FaultKind("target-out-of-range", "target outside the classes, refused")
INFINITE_SCORE = FaultKind(
    "infinite-score", "row that peaks at ±inf: counted, ties by lowest class, left out of nll"
)
NOT_PROBABILITIES = FaultKind(
    "not-probabilities",
    'row that is negative or does not sum to 1 ± 0.01, refused; is it inputs="logits"?',
)
OUTSIDE_UNIT = FaultKind(
    "not-probabilities",
    'probability outside [0, 1] or not summing to 1, refused; is it inputs="logits"?',
)
BAD_LABEL = FaultKind("prediction-out-of-range", "predicted label outside the classes, refused")
BAD_WEIGHT = FaultKind("bad-weight", "sample weight that is negative, NaN or infinite, row refused")


class Faulty(Protocol):
    """A batch that knows which of its rows are bad, one mask for each kind, and its step or that of each row."""

    fault_masks: tuple[Tensor, ...]

    @property
    def step(self) -> int | Tensor:
        """Number of the update, or int64 of shape (rows,)."""
        ...


@dataclass(frozen=True)
class FaultLedger:
    """Count and first bad step of each kind of fault; int64 cells of shape (kinds,), whose names begin with `name`."""

    kinds: tuple[FaultKind, ...]
    name: str = "fault"

    def layout(self) -> Mapping[str, Cell]:
        """Counts add up, first steps merge by the smallest."""
        size = (len(self.kinds),)
        return {
            f"{self.name}_count": Cell(size),
            f"{self.name}_first_step": Cell(size, merge="min"),
        }

    def add_(self, state: State, batch: Faulty) -> None:
        """Add one batch: `batch.fault_masks` holds a mask, or counts, of shape (rows,) for each kind."""
        masks, first, step = (
            torch.stack(batch.fault_masks),
            state[f"{self.name}_first_step"],
            batch.step,
        )
        count = masks.sum(1)
        state[f"{self.name}_count"].add_(count)
        if isinstance(step, int):
            steps = torch.where(count > 0, step, NEVER)
        else:
            steps = torch.where(masks > 0, step, NEVER).amin(1)
        torch.minimum(first, steps, out=first)

    def read(self, counts: list[int], first_steps: list[int]) -> dict[str, dict[str, int | str]]:
        """The ledger in words: only the kinds that happened."""
        return {
            kind.name: {
                "count": n,
                "first_step": step,
                "message": f"{n} × {kind.words}; first in update {step}",
            }
            for kind, n, step in zip(self.kinds, counts, first_steps, strict=True)
            if n
        }
