"""The scores themselves in a buffer of fixed size, for curves that must be exact."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ptmetrics.counts.batch import Counted
from ptmetrics.counts.cell import Cell
from ptmetrics.counts.stored_sums import StoredSums

LARGEST_SCORE = 1e300  # stands for infinity, which marks a free place


@dataclass(frozen=True)
class StoredScores:
    """Room for `capacity` scores, 8 bytes each; what comes later is counted but not kept.

    A place holds a float64 score whose last digit is the target: float32 scores keep all their
    digits, float64 ones all but the last. Two buffers merge into the sorted whole, so the order of
    batches and ranks is forgotten.

    Attributes:
        capacity: Number of scores; of more than that nothing exact can be said.
    """

    capacity: int

    def cells(self) -> list[Cell]:
        """How many scores there were, and the buffer with one place for what is left out."""
        size = (self.capacity + 1,)
        return [
            Cell("scores_seen", scope="whole", weigh=False),
            Cell("scores", size, torch.float64, merge="smallest", scope="whole"),
        ]

    def count(
        self, seen: Tensor, score: Tensor, target: Tensor, counted: Tensor | None
    ) -> dict[str, Counted]:
        """Append, at places that the device counts; the last place stays free.

        Args:
            seen: The cell "scores_seen" as it is before this batch.
            score: Floating point of shape (rows,).
            target: 0 and 1 of shape (rows,).
            counted: Bool of shape (rows,); None for all.
        """
        kept = counted
        if kept is None:
            kept = torch.ones_like(score, dtype=torch.bool)
        place = seen + kept.cumsum(0) - 1
        fits = kept & (place < self.capacity)
        packed = torch.where(fits, pack_scores(score, target), torch.inf)
        place = torch.where(fits, place, self.capacity)
        return {
            "scores": lambda cell: cell.scatter_(0, place, packed),
            "scores_seen": kept.sum(),
        }

    def stored_relations(self, sums: StoredSums) -> Iterator[tuple[str, Tensor]]:
        """What must hold of stored cells."""
        if sums.measure != "count" or sums.kind:
            return
        seen = sums["scores_seen"]
        yield "as many scores seen as rows", seen == sums["rows"]
        scores = sums["scores"]
        taken = (scores < torch.inf).sum()
        yield "a place for each score seen", (taken == seen) | (seen > self.capacity)
        finite = scores.abs() <= LARGEST_SCORE * 1.01
        yield "finite scores in the places that are taken", finite | (scores == torch.inf)


def pack_scores(score: Tensor, target: Tensor) -> Tensor:
    """Scores in float64 with the target, 0 or 1, as their last digit; −0 counts as 0."""
    bits = (score.double() + 0.0).clamp(-LARGEST_SCORE, LARGEST_SCORE).view(torch.int64)
    return ((bits & -2) | (target & 1)).view(torch.float64)


def unpack_scores(stored: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sorted scores, their targets, and which places are taken."""
    stored = stored.sort().values
    bits = stored.view(torch.int64)
    return (bits & -2).view(torch.float64), bits & 1, stored < torch.inf
