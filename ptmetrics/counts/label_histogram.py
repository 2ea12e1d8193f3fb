"""One histogram of scores a label: the order of the rows, label by label, in constant memory."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ptmetrics.counts.cells import Cell, State
from ptmetrics.counts.keys import FloatKeys
from ptmetrics.counts.multilabel import LabelBatch

KEYS = ((64, FloatKeys()), (1024, FloatKeys(6)))  # up to so many labels: 1 MiB a label, or 64 KiB


def keys_for(num_labels: int) -> FloatKeys | None:
    """The finest keys that hold all labels in 64 MiB; None above 1,024 labels."""
    return next((keys for most, keys in KEYS if num_labels <= most), None)


@dataclass(frozen=True)
class LabelHistogram:
    """Counts by (label, score, target): int64 of shape (L, 2 · rows + 1), float64 twins once weights were seen.

    Cell 2 · row + target of each label, and one behind for what is not counted, as in `ScoreHistogram`.

    Attributes:
        num_labels: L.
        keys: Which row a score belongs to.
        probs: Whether scores are probabilities: they are put in order by their logits.
        name: Name of the cells.
        nan: Slots that `inexact` counts beside the rows: none, only what is counted can be inexact.
    """

    num_labels: int
    keys: FloatKeys
    probs: bool
    name: str = "ranking"
    nan: tuple[int, ...] = ()

    def layout(self) -> Mapping[str, Cell]:
        """Counts, Σw and Σw² a cell, and how many scores are not the value of their row."""
        size, name = (self.num_labels, 2 * self.keys.rows + 1), self.name
        weight = Cell(size, torch.float64, weights_of=name)
        cells = {name: Cell(size), f"{name}_weight": weight, f"{name}_square": weight}
        if self.keys.exact:
            one = Cell((self.num_labels, 1))
            cells[f"{name}_inexact"] = one
            cells[f"{name}_inexact_weight"] = Cell(
                one.shape, torch.float64, weights_of=f"{name}_inexact"
            )
        return cells

    def add_(self, state: State, batch: LabelBatch) -> None:
        """Count the scores of a multilabel batch."""
        if batch.scores is not None:
            scores = torch.logit(batch.scores.double()) if self.probs else batch.scores
            self.count_(state, scores, batch.masks[0], batch.masks[2], batch.weights[0])

    def count_(
        self, state: State, scores: Tensor, counted: Tensor, actual: Tensor, weight: Tensor | None
    ) -> None:
        """One scatter for each cell; integers, so any order gives the same bits.

        Args:
            state: Where to count.
            scores: Float32 or float64 of shape (rows, L), in the order of the logits.
            counted: Bool of the same shape.
            actual: Bool of the same shape: the targets.
            weight: Float64 of shape (rows,), or None for 1 a row.
        """
        name, (code, inexact) = self.name, self.keys.code(scores)
        cell = torch.add(actual.long(), code, alpha=2).add_(2 * self.keys.zero)
        cell = cell.masked_fill_(counted.logical_not(), 2 * self.keys.rows).mT
        state[name].scatter_add_(1, cell, torch.ones_like(cell))
        inexact = (inexact & counted).mT if self.keys.exact else inexact
        if self.keys.exact:
            state[f"{name}_inexact"].add_(inexact.sum(1, keepdim=True))
        if f"{name}_weight" in state:
            weight = torch.ones_like(cell[0], dtype=torch.float64) if weight is None else weight
            state[f"{name}_weight"].scatter_add_(1, cell, weight.expand(cell.shape))
            state[f"{name}_square"].scatter_add_(1, cell, weight.square().expand(cell.shape))
            if self.keys.exact:
                state[f"{name}_inexact_weight"].add_((inexact * weight).sum(1, keepdim=True))
