"""Joint moments of each part of the rows of a regression, each about the mean of its own part."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ptmetrics.counts.cells import Cell, State
from ptmetrics.counts.contract import Statistic
from ptmetrics.counts.joint_moments import CENTRE, SIZE, TINY, merge_, powers
from ptmetrics.counts.regression import PointBatch
from ptmetrics.counts.row_parts import RowParts, SliceFaults, index_of

NUMBERS_AT_ONCE = 1 << 20  # bounds the memory that an update takes for a moment


@dataclass(frozen=True)
class PointParts:
    """Number of rows, joint moments and Σ|error|, Σw²|error| of each part; the last part is for rows of none.

    Attributes:
        name: What the names of the cells begin with.
        parts: How many.
        outputs: D.
    """

    name: str
    parts: int
    outputs: int

    def layout(self) -> Mapping[str, Cell]:
        """`SIZE` + 2 sums for each part and output, in float64, and a count a part."""
        many = self.parts + 1
        return {
            f"{self.name}_counts": Cell((many,)),
            f"{self.name}_moments": Cell(
                (many, self.outputs, SIZE), torch.float64, merge="moments"
            ),
            f"{self.name}_absolute": Cell((many, self.outputs, 2), torch.float64),
        }

    def add_(self, state: State, batch: PointBatch) -> None:
        """Add one batch, a large one in pieces."""
        part = index_of(batch, self.name)
        state[f"{self.name}_counts"].index_add_(0, part, batch.counted.long())
        weigh = torch.stack((batch.weight, batch.square), 1)
        absolute = batch.magnitude.mT.unsqueeze(2) * weigh.unsqueeze(1)
        state[f"{self.name}_absolute"].index_add_(0, part, absolute)
        size = max(1, NUMBERS_AT_ONCE // (SIZE * self.outputs))
        points = batch.points.permute(2, 0, 1)
        for rows in zip(*(torch.split(x, size) for x in (points, weigh, part)), strict=True):
            merge_(state[f"{self.name}_moments"], self._moments(*rows))

    def _moments(self, points: Tensor, weigh: Tensor, part: Tensor) -> Tensor:
        """The cell of some rows alone: points (rows, D, 3), w and w² (rows, 2), parts (rows,)."""
        shape = (self.parts + 1, self.outputs)
        weight = weigh[:, :1, None]
        total = points.new_zeros(shape[0], 1, 1).index_add_(0, part, weight)
        centre = points.new_zeros(*shape, CENTRE).index_add_(
            0, part, points * weight
        ) / total.clamp(min=TINY)
        power = powers((points - centre.index_select(0, part)).unsqueeze(-1)).squeeze(-1)
        product = power[:, :, :2, :, None] * power[:, :, 2:, None, :]
        weighed = product.unsqueeze(2) * weigh[:, None, :, None, None, None]
        sums = points.new_zeros(*shape, *weighed.shape[2:]).index_add_(0, part, weighed)
        return torch.cat((centre, sums.flatten(2)), 2)


def point_parts(parts: RowParts, outputs: int) -> list[Statistic[PointBatch]]:
    """All that is counted of the parts of the rows; nothing where none are told apart."""
    counts: list[Statistic[PointBatch]] = [
        PointParts(name, size, outputs) for name, size in parts.sizes.items()
    ]
    return [*counts, *([SliceFaults()] if parts.slices else [])]
