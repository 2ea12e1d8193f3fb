"""Class counts of each part of the rows: what the scores of slices and the intervals of groups are made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from ptmetrics.counts.cells import Cell, State
from ptmetrics.counts.class_counts import MARGINS, Celled, classes_of
from ptmetrics.counts.contract import Statistic
from ptmetrics.counts.row_parts import InParts, RowParts, SliceFaults, index_of


class Parted(Celled, InParts, Protocol):
    """A batch whose rows know both."""


@dataclass(frozen=True)
class ClassParts:
    """Counts of each part in the order of `MARGINS`: int64 of shape (parts + 1, 3, C + 1) by the name of the parts.

    The last part is for rows of none, the last column for what is no class, as in `ClassCounts`. Once sample weights
    were seen, Σw and Σw² stand beside them in float64.
    """

    parts: RowParts
    num_classes: int

    def layout(self) -> Mapping[str, Cell]:
        """3 · (parts + 1) · (C + 1) cells each."""
        cells: dict[str, Cell] = {}
        for name, parts in self.parts.sizes.items():
            size, counts = (parts + 1, len(MARGINS), self.num_classes + 1), f"{name}_counts"
            weight = Cell(size, torch.float64, weights_of=counts)
            cells |= {counts: Cell(size), f"{name}_weight": weight, f"{name}_square": weight}
        return cells

    def add_(self, state: State, batch: Parted) -> None:
        """One scatter for each table; integers, so any order gives the same bits."""
        columns, index = self.num_classes + 1, classes_of(batch.cell, self.num_classes)
        index = index + torch.arange(len(MARGINS), device=index.device).unsqueeze(1) * columns
        ones, weight = torch.ones_like(index).view(-1), batch.weight
        if "slice_weight" in state or "group_weight" in state:
            weight = ones.double() if weight is None else weight.repeat(len(MARGINS))
        for name in self.parts.sizes:
            place = (index + index_of(batch, name) * (len(MARGINS) * columns)).view(-1)
            state[f"{name}_counts"].view(-1).scatter_add_(0, place, ones)
            if f"{name}_weight" in state and weight is not None:
                state[f"{name}_weight"].view(-1).scatter_add_(0, place, weight)
                state[f"{name}_square"].view(-1).scatter_add_(0, place, weight * weight)


def class_parts(parts: RowParts, num_classes: int) -> list[Statistic[Parted]]:
    """All that is counted of the parts of the rows; nothing where none are told apart."""
    counts: list[Statistic[Parted]] = [ClassParts(parts, num_classes)] if parts else []
    return [*counts, *([SliceFaults()] if parts.slices else [])]
