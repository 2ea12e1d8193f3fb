"""Class counts of each part of the rows: what the scores of slices and the intervals of groups are made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ptmetrics.statistics.cells import Cell, State
from ptmetrics.statistics.class_counts import MARGINS, Celled, classes_of


class Parted(Celled, Protocol):
    """A batch whose rows also know their part: int64 of shape (rows,) by the name of the parts."""

    parts: Mapping[str, Tensor]


@dataclass(frozen=True)
class ClassParts:
    """Counts of each part in the order of `MARGINS`: int64 of shape (parts + 1, 3, C + 1).

    The last part is for rows of none, the last column for what is no class, as in `ClassCounts`. Once sample weights
    were seen, Σw and Σw² stand beside them in float64.

    Attributes:
        name: What the names of the cells begin with.
        parts: How many.
        num_classes: C.
    """

    name: str
    parts: int
    num_classes: int

    def layout(self) -> Mapping[str, Cell]:
        """3 · (parts + 1) · (C + 1) cells each."""
        size, counts = (self.parts + 1, len(MARGINS), self.num_classes + 1), f"{self.name}_counts"
        weight = Cell(size, torch.float64, weights_of=counts)
        return {counts: Cell(size), f"{self.name}_weight": weight, f"{self.name}_square": weight}

    def add_(self, state: State, batch: Parted) -> None:
        """One scatter for each table; integers, so any order gives the same bits."""
        columns = self.num_classes + 1
        index = classes_of(batch.cell, self.num_classes)
        place = torch.arange(len(MARGINS), device=index.device).unsqueeze(1) * columns
        place = (index + place + batch.parts[self.name] * (len(MARGINS) * columns)).view(-1)
        state[f"{self.name}_counts"].view(-1).scatter_add_(0, place, torch.ones_like(place))
        if f"{self.name}_weight" in state:
            ones = torch.ones_like(batch.cell, dtype=torch.float64)
            weight = (ones if batch.weight is None else batch.weight).repeat(len(MARGINS))
            state[f"{self.name}_weight"].view(-1).scatter_add_(0, place, weight)
            state[f"{self.name}_square"].view(-1).scatter_add_(0, place, weight * weight)
