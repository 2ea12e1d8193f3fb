"""`ScoreHistogram`: scores by their own leading bits; thresholds, ROC, precision and recall all come from it."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ptmetrics.counts.batch import At, Counted
from ptmetrics.counts.cell import Cell
from ptmetrics.counts.keys import CurveKeys, FloatKeys
from ptmetrics.counts.stored_sums import StoredSums

FEW_HEADS = 64  # up to so many 1 MiB each
MOST_HEADS = 1024  # up to so many 64 KiB each


def keys_for(heads: int) -> FloatKeys | None:
    """The finest keys that hold all labels or classes in 64 MiB; None above 1,024 of them."""
    if heads <= FEW_HEADS:
        return FloatKeys()
    if heads <= MOST_HEADS:
        return FloatKeys(6)
    return None


@dataclass(frozen=True)
class ScoreHistogram:
    """Counts by score and target, one histogram or one for each label: two cells.

    The cell `name` has shape (*heads, rows, 2); `NAME_inexact` counts the scores that are not the
    value of their row. Curves are of all rows: slices and groups have none.

    Attributes:
        name: Name of the cells.
        keys: Which row a score belongs to.
        heads: () for one histogram, (L,) for one a label.
    """

    name: str
    keys: CurveKeys
    heads: tuple[int, ...] = ()

    @property
    def inexact(self) -> str:
        """Name of the second cell."""
        return f"{self.name}_inexact"

    def cells(self) -> list[Cell]:
        """With float16's 64,513 rows that is 1,032,208 bytes a histogram."""
        cells = [Cell(self.name, (*self.heads, self.keys.rows, 2), scope="whole")]
        if self.keys.exact:
            cells.append(Cell(self.inexact, self.heads, scope="whole"))
        return cells

    def count(self, score: Tensor, target: Tensor, there: Tensor | None) -> dict[str, Counted]:
        """Where each row counts.

        Args:
            score: Float32 or float64 of shape (rows, *heads), in the order of the keys.
            target: Bool or int64 of the same shape, 0 and 1; anything where not `there`.
            there: Bool of the same shape, which values count; None for all.
        """
        code, inexact = self.keys.code(score)
        place = torch.add(target.long(), code, alpha=2)
        offset = 2 * self.keys.zero
        if self.heads:
            head = torch.arange(self.heads[0], device=score.device)
            place.add_(head.mul_(2 * self.keys.rows).add_(offset))
        elif offset:
            place.add_(offset)
        if there is not None:
            place.masked_fill_(there.logical_not(), 0)  # the code of a NaN is no row
        counts: dict[str, Counted] = {self.name: At(place, within=True, there=there)}
        if self.keys.exact:
            if there is not None:
                inexact = inexact & there
            counts[self.inexact] = inexact
        return counts

    def stored_relations(self, sums: StoredSums, counted: Tensor) -> Iterator[tuple[str, Tensor]]:
        """What must hold of stored cells.

        Args:
            sums: The cells.
            counted: How many scores there are, of shape (*heads).
        """
        if self.name not in sums:
            return
        total = sums[self.name].sum((-1, -2))
        yield "as many scores as were counted", sums.same(total, counted.expand(total.shape))
        if self.keys.exact:
            yield "no more inexact scores than scores", sums.at_most(sums[self.inexact], total)
