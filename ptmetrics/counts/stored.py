"""The scores themselves in a buffer of fixed size, for curves that must be exact."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ptmetrics.counts.cells import Cell, State
from ptmetrics.counts.histogram import ScoredRows

LARGEST = 1e300  # stands for infinity, which marks a free place


@dataclass(frozen=True)
class StoredScores:
    """Room for `capacity` scores, 8 bytes each; what comes later is counted but not kept.

    A place holds a float64 score whose last digit is the target: float32 scores keep all their digits, float64
    ones all but the last. Two buffers merge into the sorted whole, so the order of batches and ranks is forgotten.

    Attributes:
        capacity: Number of scores; of more than that nothing exact can be said.
    """

    capacity: int

    def layout(self) -> Mapping[str, Cell]:
        """The buffer with one place for what is left out, and how many scores there were."""
        return {
            "scores": Cell((self.capacity + 1,), torch.float64, merge="smallest"),
            "scores_seen": Cell((1,)),
        }

    def add_(self, state: State, batch: ScoredRows) -> None:
        """Append, at places that the device counts; the last place stays free."""
        kept = batch.kept
        place = state["scores_seen"] + kept.cumsum(0) - 1
        fits = kept & (place < self.capacity)
        score = torch.where(fits, pack(batch.scored("scores"), batch.target), torch.inf)
        state["scores"].scatter_(0, torch.where(fits, place, self.capacity), score)
        state["scores_seen"].add_(kept.sum())


def pack(score: Tensor, target: Tensor) -> Tensor:
    """Scores in float64 with the target, 0 or 1, as their last digit; −0 counts as 0."""
    bits = (score.double() + 0.0).clamp(-LARGEST, LARGEST).view(torch.int64)
    return ((bits & -2) | (target & 1)).view(torch.float64)


def unpack(stored: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sorted scores, their targets, and which places are taken."""
    stored = stored.sort().values
    bits = stored.view(torch.int64)
    return (bits & -2).view(torch.float64), bits & 1, stored < torch.inf
