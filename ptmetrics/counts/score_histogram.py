"""`ScoreHistogram`: scores by their own leading bits; thresholds, ROC, precision and recall all come from it.

What is kept of a curve, all of it int64 sums, so that merging and reducing are one addition:

- `NAME` of shape (*heads, rows, 2): numbers of negatives and positives in each row;
- `NAME_ties` of shape (*heads, rows, 2): Σv and Σv² of all scores of the row, where v is how many
  floats a score lies from the row's value. By Cauchy and Schwarz the scores are equal if and only
  if n · Σv² = (Σv)²: then their order is known, and it is a tie. Float32 scores below 6e-5 or
  above 65,504 that are no float16 numbers lie too many floats away, and are taken for unequal.

| keys | rows | bytes a curve | with weights |
|---|---|---|---|
| 6 binary digits | 4,033 | 126 KiB | 252 KiB |
| 10, float16's | 64,513 | 2.0 MiB | 3.9 MiB |
| of probabilities | 63,492 | 1.9 MiB | 3.9 MiB |
| 16, "fine" | 4,128,769 | 126 MiB | 252 MiB |

Each pair of numbers lies together, 16 bytes, so that a score costs a kernel three integer atomics
in two places.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ptmetrics.counts.batch import At, Batch, Counted
from ptmetrics.counts.cell import Cell
from ptmetrics.counts.keys import FLOAT_DIGITS, CurveKeys, FloatKeys
from ptmetrics.counts.stored_sums import StoredSums

Curves: TypeAlias = Literal["fp16", "fine", "exact"]
FINE = FloatKeys(16)
FEW_HEADS = 64  # up to so many 2 MiB each
MOST_HEADS = 1024  # up to so many 126 KiB each
PRIME = 2**31 - 1


def keys_for(heads: int) -> FloatKeys | None:
    """The finest keys that hold all labels or classes in 128 MiB; None above 1,024 of them."""
    if heads <= FEW_HEADS:
        return FloatKeys()
    if heads <= MOST_HEADS:
        return FloatKeys(6)
    return None


@dataclass(frozen=True)
class ScoreHistogram:
    """Counts by score and target, one histogram or one for each label: two cells, told at the top.

    Curves are of all rows: slices and groups have none.

    Attributes:
        name: Name of the cells.
        keys: Which row a score belongs to.
        heads: () for one histogram, (L,) for one a label or class.
        classes: Number of classes, if there is one for each; else 0, and targets are 0 and 1.
    """

    name: str
    keys: CurveKeys
    heads: tuple[int, ...] = ()
    classes: int = 0

    @property
    def bits(self) -> int:
        """Binary digits of a target."""
        return max(1, (self.classes - 1).bit_length())

    @property
    def ties(self) -> str:
        """Name of the second cell."""
        return f"{self.name}_ties"

    def cells(self) -> list[Cell]:
        """Two, of as many rows as there are keys."""
        shape = (*self.heads, self.keys.rows, 2)
        return [
            Cell(self.name, shape, scope="whole"),
            Cell(self.ties, shape, scope="whole", weigh=False, wraps=True),
        ]

    def count(
        self, batch: Batch, score: Tensor, target: Tensor, there: Tensor | None
    ) -> dict[str, Counted]:
        """Where each row counts.

        Args:
            batch: The rows; those whose weights are impossible are left out of it later.
            score: Float32 or float64 of shape (rows, *heads), in the order of the keys.
            target: Bool or int64 of the same shape, 0 and 1; anything where not `there`.
            there: Bool of the same shape, which values count; None for all.
        """
        code, offset = self.keys.code(score)
        place = torch.add(target.long(), code, alpha=2)
        first = 2 * self.keys.zero
        if self.heads:
            head = torch.arange(self.heads[0], device=score.device)
            place.add_(head.mul_(2 * self.keys.rows).add_(first))
        else:
            place.add_(first)
        v, square = self._ties_of(offset)
        if there is not None:
            absent = there.logical_not()
            place.masked_fill_(absent, 0)  # the code of a NaN is no row
            v.masked_fill_(absent, 0)
            square.masked_fill_(absent, 0)

        def add_ties(cell: Tensor) -> None:
            if batch.weight is not None and batch.counted is not None:
                for numbers in (v, square):
                    numbers.t().masked_fill_(batch.counted.logical_not(), 0)
            # Column by column: each histogram of a cell is as large as a cache.
            even = place.t().reshape(-1) & -2
            sums = cell.view(-1)
            sums.scatter_add_(0, even, v.t().reshape(-1))
            sums.scatter_add_(0, even + 1, square.t().reshape(-1))

        return {self.name: At(place, within=True, there=there), self.ties: add_ties}

    def _ties_of(self, offset: Tensor) -> tuple[Tensor, Tensor]:
        """The numbers v and v² of each score, int64.

        Float64 has too many floats in a row for sums of squares: there both are taken modulo a
        prime, so that rows of two values are told from ties, and those of more with a chance of
        error of 2⁻³¹. Scores too far from the values of all rows count v · (more than v), which
        sums up to no tie.
        """
        if offset.dtype == torch.int64:
            first = offset.remainder(PRIME)
            return first, (first * first).remainder_(PRIME)
        far = 2 << (FLOAT_DIGITS - self.keys.digits)
        first = offset.clamp(-far, far).long()
        return first, offset.clamp_(-2 * far, 2 * far) * first

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
        if sums.measure == "count":
            empty = sums[self.name].sum(-1, keepdim=True) == 0
            yield "no ties without scores", empty.logical_not() | (sums[self.ties] == 0)


def tied_rows(n: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
    """In which rows all scores are equal, and in which they are the row's own value.

    Args:
        n: Number of scores, int64 of shape (…, rows).
        sums: Σv and Σv² of them, int64 of shape (…, rows, 2).

    Example:
        >>> import torch
        >>> tied, exact = tied_rows(torch.tensor([2, 2, 2]), torch.tensor([[6, 18], [6, 20], [0, 0]]))
        >>> tied.tolist(), exact.tolist()
        ([True, False, True], [False, False, True])
    """
    first, second = sums.unbind(-1)
    each = first // n.clamp(min=1)
    whole = each * n == first
    tied = (second == each * first) | (second == n * (each * each).remainder(PRIME))
    return whole & tied, (first == 0) & (second == 0)
