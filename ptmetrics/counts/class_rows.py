"""Rows that were read but are not yet counted: counting waits for a few thousand, since each call costs so much."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ptmetrics.counts.cells import Cell, State
from ptmetrics.counts.class_scores import ClassPasses, Columns
from ptmetrics.counts.contract import Statistic
from ptmetrics.counts.row_parts import NO_IDS, RowIds
from ptmetrics.counts.waiting import Given

CAPACITY = 8192  # rows: counting so many costs a third more than half of them
INTS = ("label", "target", "step")
FLOATS = tuple(f.name for f in fields(Columns) if f.name != "label")
# Buffers are made outside inference mode, so that they may be changed inside and outside of it alike.
_outside_inference = torch.inference_mode(False)


def wide(preds: Tensor) -> torch.dtype:
    """Type to read scores in: half precision is widened, which keeps every value and the order."""
    return torch.float64 if preds.dtype == torch.float64 else torch.float32


class ClassRows:
    """Rows as they were given and as the passes over their scores left them, before any value was judged.

    Attributes:
        columns: What is left of the scores; of labels, only `columns.label`.
        target: Int64 of shape (rows,), as the user gave it.
        step: Int64 of shape (rows,): number of the update that a row came with.
        weight: Float64 of shape (rows,) as given, or None for 1 a row.
        ids: Slices and groups of the rows; None where the metric tells no parts apart.
    """

    def __init__(self, ints: Tensor, floats: Tensor, weight: Tensor | None) -> None:
        self.ints, self.floats, self.weight = ints, floats, weight
        label, self.target, self.step, *ids = ints.unbind()
        self.ids = RowIds(*ids) if ids else None
        self.columns = Columns(label, *floats.unbind())

    @classmethod
    @_outside_inference
    def room(cls, rows: int, batch: Given) -> "ClassRows":
        """Room for rows like those of `batch`."""
        device = batch.preds.device
        weight = (
            None if batch.weight is None else torch.zeros(rows, dtype=torch.float64, device=device)
        )
        columns = len(INTS) + (0 if batch.ids is None else len(batch.ids))
        ints = torch.zeros(columns, rows, dtype=torch.int64, device=device)
        return cls(
            ints, torch.zeros(len(FLOATS), rows, dtype=wide(batch.preds), device=device), weight
        )

    def __len__(self) -> int:
        return self.ints.shape[1]

    def part(self, start: int, stop: int) -> "ClassRows":
        """Views of some rows."""
        if (start, stop) == (0, len(self)):
            return self
        weight = None if self.weight is None else self.weight[start:stop]
        return ClassRows(self.ints[:, start:stop], self.floats[:, start:stop], weight)


@dataclass(frozen=True)
class ClassPiece:
    """Scores of shape (rows, C), float32 or float64, and what the passes made of them."""

    scores: Tensor
    rows: ClassRows


class RowStage:
    """Copies rows into columns of a fixed length, and gives them out when these are full or when asked.

    Only copies are kept: a caller may change its tensors in place, and a CUDA graph may write over them. A batch
    that is longer than the columns is given out at once.

    Args:
        passes: How to read scores; None for labels.
        watchers: Statistics of whole rows of scores, which cannot wait: they count each piece as it is read.
    """

    def __init__(
        self, passes: ClassPasses | None, watchers: Sequence[Statistic["ClassPiece"]] = ()
    ) -> None:
        self._passes, self._watchers = passes, tuple(watchers)
        self._rows: ClassRows | None = None
        self._filled = 0

    def layout(self) -> Mapping[str, Cell]:
        """The cells of the watchers."""
        return {name: cell for watcher in self._watchers for name, cell in watcher.layout().items()}

    def fresh(self) -> "RowStage":
        """The same with nothing in it."""
        return RowStage(self._passes and replace(self._passes), self._watchers)

    def read(self, state: State, batch: Given) -> Iterator[ClassRows]:
        """Take in a batch; give out the rows that are to be counted now."""
        rows, start = batch.target.shape[0], 0
        if rows >= CAPACITY or not self._fits(batch):
            yield from self.drain()
            self._rows = None
        while rows >= CAPACITY and start < rows:
            stop = min(rows, start + max(CAPACITY, self._piece(batch.preds)))
            given_out = ClassRows.room(stop - start, batch)
            self._fill(state, batch, start, given_out)
            start = stop
            yield given_out
        while start < rows:
            self._rows = self._rows or ClassRows.room(CAPACITY, batch)
            stop = min(rows, start + CAPACITY - self._filled)
            self._fill(
                state, batch, start, self._rows.part(self._filled, self._filled + stop - start)
            )
            start, self._filled = stop, self._filled + stop - start
            if self._filled == CAPACITY:
                yield from self.drain()

    def drain(self) -> Iterator[ClassRows]:
        """Give out what waits."""
        if self._filled and self._rows is not None:
            filled, self._filled = self._filled, 0
            yield self._rows.part(0, filled)

    def _fits(self, batch: Given) -> bool:
        rows = self._rows
        if rows is None:
            return True
        return rows.floats.dtype == wide(batch.preds) and (rows.weight is None) == (
            batch.weight is None
        )

    def _piece(self, preds: Tensor) -> int:
        return self._passes.piece(preds.device) if self._passes else preds.shape[0]

    def _fill(self, state: State, batch: Given, first: int, rows: ClassRows) -> None:
        """Copy as many rows of a batch as there is room for, from the row `first` on."""
        number = len(rows)
        here = slice(first, first + number)
        rows.target.copy_(batch.target[here])
        if isinstance(batch.step, int):
            rows.step.fill_(batch.step)
        else:
            rows.step.copy_(batch.step[here])
        if rows.weight is not None and batch.weight is not None:
            rows.weight.copy_(batch.weight[here])
        for mine, given, none in zip(rows.ids or (), batch.ids or (), NO_IDS, strict=False):
            if mine is not None:
                mine.fill_(none) if given is None else mine.copy_(given[here])
        if self._passes is None:
            rows.columns.label.copy_(batch.preds[here])
            return
        size = self._piece(batch.preds)
        for start in range(0, number, size):
            stop = min(start + size, number)
            piece = rows.part(start, stop)
            scores = batch.preds[first + start : first + stop].to(wide(batch.preds))
            self._passes.read_(scores, piece.target, piece.columns)
            for watcher in self._watchers:
                watcher.add_(state, ClassPiece(scores, piece))
