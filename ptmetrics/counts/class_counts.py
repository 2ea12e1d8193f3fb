"""Hits, targets and predictions of each class: what a confusion matrix sums to, for any number of classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ptmetrics.counts.cells import Cell, State

MARGINS = ("hits", "actual", "predicted")


def classes_of(cell: Tensor, classes: int) -> Tensor:
    """Class of each row in the order of `MARGINS`, int64 of shape (3, rows); C for none."""
    actual = cell.div(classes, rounding_mode="floor")  # C for the spare cell
    predicted = torch.where(actual == classes, classes, cell - actual * classes)
    hits = torch.where(actual == predicted, actual, classes)
    return torch.stack((hits, actual, predicted))


class Celled(Protocol):
    """A batch whose rows know their cell of the C × C matrix, row-major; C² where they do not count."""

    @property
    def cell(self) -> Tensor:
        """Int64 of shape (rows,)."""
        ...

    @property
    def weight(self) -> Tensor | None:
        """Float64 of shape (rows,), 1 where not counted; None where no row weighs."""
        ...


@dataclass(frozen=True)
class ClassCounts:
    """Counts in the order of `MARGINS`: int64 of shape (3, C + 1), 24 bytes a class.

    The last column is for what is none: rows that do not count, and among the hits the errors too. Once sample
    weights were seen, `class_weight` and `class_square` hold Σw and Σw² in float64.
    """

    num_classes: int

    def layout(self) -> Mapping[str, Cell]:
        """3 · (C + 1) cells each."""
        size = (len(MARGINS), self.num_classes + 1)
        weight = Cell(size, torch.float64, weights_of="class_counts")
        return {"class_counts": Cell(size), "class_weight": weight, "class_square": weight}

    def add_(self, state: State, batch: Celled) -> None:
        """One scatter for each table; integers, so any order gives the same bits."""
        index = classes_of(batch.cell, self.num_classes)
        state["class_counts"].scatter_add_(1, index, torch.ones_like(index))
        if "class_weight" in state:
            ones = torch.ones_like(batch.cell, dtype=torch.float64)
            weight = (ones if batch.weight is None else batch.weight).expand(index.shape)
            state["class_weight"].scatter_add_(1, index, weight)
            state["class_square"].scatter_add_(1, index, weight * weight)
