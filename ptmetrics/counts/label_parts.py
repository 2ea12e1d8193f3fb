"""What `LabelCounts` and `LabelRows` count, of each part of the rows."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ptmetrics.counts.cells import Cell, State
from ptmetrics.counts.contract import Statistic
from ptmetrics.counts.multilabel import ROW_SCORES, ROWS, SUMS, LabelBatch, row_sums
from ptmetrics.counts.row_parts import RowParts, SliceFaults, index_of


@dataclass(frozen=True)
class LabelParts:
    """The cells of both under the name of the parts, with parts + 1 in front; the last part is for rows of none.

    Attributes:
        name: What the names of the cells begin with.
        parts: How many.
        num_labels: L.
    """

    name: str
    parts: int
    num_labels: int

    def layout(self) -> Mapping[str, Cell]:
        """As of the whole, for each part."""
        many, name = self.parts + 1, self.name
        labels, rows = (many, len(SUMS), self.num_labels), (many, len(ROWS))
        heavy = {
            f"{name}_{cell}_{power}": Cell(size, torch.float64, weights_of=f"{name}_{cell}")
            for cell, size in (("labels", labels), ("rows", rows))
            for power in ("weight", "square")
        }
        return {
            f"{name}_labels": Cell(labels),
            f"{name}_rows": Cell(rows),
            f"{name}_together": Cell((many, len(SUMS), len(SUMS)), torch.float64),
            f"{name}_row_scores": Cell((many, 2 * len(ROW_SCORES), 2), torch.float64),
        } | heavy

    def add_(self, state: State, batch: LabelBatch) -> None:
        """One addition by index for each cell."""
        sums = row_sums(batch)
        counted = {"labels": batch.masks.permute(1, 0, 2), "rows": sums.kinds.mT}
        weighed = (sums.labels * batch.weights[0]).mT
        self._add(state, batch, "together", weighed.unsqueeze(2) * weighed.unsqueeze(1))
        self._add(
            state, batch, "row_scores", sums.scores.mT.unsqueeze(2) * sums.weights.mT.unsqueeze(1)
        )
        for cell, mask in counted.items():
            self._add(state, batch, cell, mask.long())
            if f"{self.name}_{cell}_weight" in state:
                for power, weight in zip(("weight", "square"), batch.weights, strict=True):
                    weight = weight.view(-1, *[1] * (mask.ndim - 1))
                    self._add(state, batch, f"{cell}_{power}", mask * weight)

    def _add(self, state: State, batch: LabelBatch, cell: str, values: Tensor) -> None:
        state[f"{self.name}_{cell}"].index_add_(0, index_of(batch, self.name), values)


def label_parts(parts: RowParts, num_labels: int) -> list[Statistic[LabelBatch]]:
    """All that is counted of the parts of the rows; nothing where none are told apart."""
    counts: list[Statistic[LabelBatch]] = [
        LabelParts(name, size, num_labels) for name, size in parts.sizes.items()
    ]
    return [*counts, *([SliceFaults()] if parts.slices else [])]
