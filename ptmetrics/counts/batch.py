"""`Batch`: rows that passed the checks of the host, on the way from the user's loop to the counts."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

import torch
from torch import Tensor

from ptmetrics.counts.checks import in_memory
from ptmetrics.errors import ConfigError


@dataclass(frozen=True)
class At:
    """Each row adds 1, or a value of its own, at a place of a cell.

    Attributes:
        index: Int64 of shape (rows,) or (rows, k): places of the cell, row-major. One outside of it
            is no place.
        value: What is added, float64 of the index's shape; None for 1.
        within: Whether it is certain that every index lies in the cell, so that none has to be
            looked at.
        there: Bool of the index's shape: which places count, beside that their row does; None for
            all.
    """

    index: Tensor
    value: Tensor | None = None
    within: bool = False
    there: Tensor | None = None


Counted = Tensor | At | Callable[..., object]
"""What `count` gives for a cell: a number a row, of shape (rows, *cell); their sum, of the cell's shape; places; or a
function that adds the batch to the cell's tensor in place, and is given the part of each row where there are parts."""


@dataclass(slots=True, eq=False)
class Batch:
    """Rows of one update, or of several small ones; device tensors whose first dimension is the rows.

    `count` reads `preds` and `target`, says of bad values what they are with `refuse`, and gives
    numbers a row. What stands in rows that are refused or left out does not matter: they count
    nowhere.

    Attributes:
        preds: Predictions, (rows, …).
        target: Truth, (rows, …).
        weight: Weights as given, float64 of shape (rows,); None for 1 a row.
        slices: Slice of each row, int64 of shape (rows,), or None.
        group: Group of each row, int64 of shape (rows,), or None.
        step: Number of the update, or int64 of shape (rows,) where the rows come from several.
        counted: Bool of shape (rows,): rows that count; None while all do.
        bad: By kind of bad value a mask of the rows, or how many of their values are bad.
        fault_kinds: The kinds that the metric counts; None for any.
        sample_rows: Rows of each sample, which stand together: the pixels of an image. It is told
            to metrics with `whole_samples`.
        sample_shape: Shape of the rows, (N, d1, …), where their samples are their groups.
        is_read: Whether `preds` are what was read of the predictions, see `Metrics.read_ahead`.

    Example:
        >>> import torch
        >>> batch = Batch(torch.tensor([1.0, float("nan")]), torch.tensor([1.0, 2.0]))
        >>> batch.refuse("nan", batch.preds.isnan())
        >>> batch.counted.tolist()
        [True, False]
    """

    preds: Tensor
    target: Tensor
    weight: Tensor | None = None
    slices: Tensor | None = None
    group: Tensor | None = None
    step: int | Tensor = 0
    counted: Tensor | None = None
    bad: dict[str, Tensor] | None = None
    fault_kinds: Container[str] | None = None
    sample_rows: int = 1
    sample_shape: tuple[int, ...] = ()
    is_read: bool = False

    def __len__(self) -> int:
        return self.target.shape[0]

    def let_go_of_graphs(self) -> None:
        """Count without gradients."""
        if self.preds.requires_grad:
            self.preds = self.preds.detach()
        if self.target.requires_grad:
            self.target = self.target.detach()
        if self.weight is not None and self.weight.requires_grad:
            self.weight = self.weight.detach()

    def ignore(self, mask: Tensor) -> None:
        """Leave rows out in silence.

        Args:
            mask: Bool of shape (rows,).
        """
        if in_memory(mask) and not mask.any():
            return
        self._leave_out(mask)

    def refuse(self, kind: str, mask: Tensor) -> None:
        """Leave rows out and say so: `scores.faults` tells their number, and the first update that had one.

        Args:
            kind: A key of the metric's `fault_kinds`.
            mask: Bool of shape (rows,); rows that were left out before are none of this kind.
        """
        if self.fault_kinds is not None and kind not in self.fault_kinds:
            raise _unknown_kind(kind, self.fault_kinds)
        if in_memory(mask) and not mask.any():  # the host can look: no mask to carry along
            return
        if self.counted is not None:
            mask = mask & self.counted
        self._leave_out(mask)
        self.report(kind, mask)

    def report(self, kind: str, number: Tensor) -> None:
        """Say that values are bad, and go on counting the rows.

        Args:
            kind: A key of the metric's `fault_kinds`.
            number: Bool or int64 of shape (rows,).
        """
        if self.fault_kinds is not None and kind not in self.fault_kinds:
            raise _unknown_kind(kind, self.fault_kinds)
        if in_memory(number) and not number.any():
            return
        if self.bad is None:
            self.bad = {}
        self.bad[kind] = number

    def _leave_out(self, mask: Tensor) -> None:
        if self.counted is None:
            self.counted = mask.logical_not()
        else:
            self.counted = self.counted & mask.logical_not()

    def at(self, index: Tensor, value: Tensor | None = None) -> At:
        """Each row adds 1, or its value, at a place of a cell.

        Args:
            index: Int64 of shape (rows,) or (rows, k): places of the cell, row-major. One outside
                of it is no place.
            value: What is added, of the index's shape; None for 1.
        """
        return At(index, value)

    def rows(self, start: int, stop: int) -> Batch:
        """Views of some rows, as they were given; itself for all of them."""
        if start == 0 and stop >= self.target.shape[0]:
            return self
        here = slice(start, stop)
        step = self.step
        if isinstance(step, Tensor):
            step = step[here]
        batch = Batch(self.preds[here], self.target[here], step=step)
        batch.sample_rows = self.sample_rows
        batch.is_read = self.is_read
        if self.weight is not None:
            batch.weight = self.weight[here]
        if self.slices is not None:
            batch.slices = self.slices[here]
        if self.group is not None:
            batch.group = self.group[here]
        return batch


def _unknown_kind(kind: str, kinds: Container[str]) -> ConfigError:
    cure = "Add it to fault_kinds of the metric, with the words for a person."
    return ConfigError("kind", f"one of {kinds}", repr(kind), cure)


@dataclass(frozen=True)
class RowWeights:
    """What each row of a batch counts for, once `count` has said which rows do.

    Attributes:
        counted: Bool of shape (rows,); None for all rows.
        weight: Float64 of shape (rows,), 0 where not counted; None where no weight was ever seen
            and all count.
        square: Its square.
    """

    counted: Tensor | None
    weight: Tensor | None
    square: Tensor | None

    @classmethod
    def of(cls, batch: Batch, *, weighted: bool) -> RowWeights:
        """Read a counted batch; `weighted` where weights were seen, in this batch or before."""
        counted = batch.counted
        if batch.weight is None and not weighted:
            if counted is None:
                return cls(None, None, None)
            ones = counted.double()
            return cls(counted, ones, ones)
        weight = batch.weight
        if weight is None:
            weight = torch.ones_like(
                batch.target.reshape(len(batch), -1)[:, 0], dtype=torch.float64
            )
        if counted is not None:
            weight = torch.where(counted, weight, 0.0)
        return cls(counted, weight, weight * weight)
