"""A histogram of magnitudes whose bins are the leading bits of the float: 0.4 % wide whatever the scale."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ptmetrics.counts.cells import Cell, State

BINS = 1 << 16  # 8 bits of exponent, 8 of mantissa
_DROPPED = 52 - 8
_FIRST = (1023 - 127) << 8  # key of 2⁻¹²⁷; all that is smaller shares bin 0


def magnitude_bin(x: Tensor) -> Tensor:
    """Bin of each magnitude, increasing in it.

    Args:
        x: Float64, 0 or more and not NaN.

    Returns:
        Int64 of the same shape, 0 (below 2⁻¹²⁷ · (1 + 1/256)) to BINS − 1 (just below 2¹²⁹ and above).
    """
    return ((x.view(torch.int64) >> _DROPPED) - _FIRST).clamp_(0, BINS - 1)


def lower_edge(bins: Tensor) -> Tensor:
    """The smallest magnitude of a bin; 0 for bin 0, and infinite behind the last bin."""
    edge = ((bins + _FIRST) << _DROPPED).view(torch.float64)
    return torch.where(bins <= 0, 0.0, torch.where(bins >= BINS, torch.inf, edge))


class Magnitudes(Protocol):
    """A batch with the magnitudes of several outputs."""

    magnitude: Tensor  # float64 of shape (D, rows), finite
    weight: Tensor  # float64 of shape (rows,), 0 for a row that does not count
    counted: Tensor  # bool of shape (rows,)


@dataclass(frozen=True)
class MagnitudeHistogram:
    """Counts by magnitude: int64 of shape (D, 65,536), half a MiB an output, float64 twins for weights."""

    outputs: int

    def layout(self) -> Mapping[str, Cell]:
        """Counts, and weights once some were seen."""
        size = (self.outputs, BINS)
        return {
            "magnitude": Cell(size),
            "magnitude_weight": Cell(size, torch.float64, weights_of="magnitude"),
        }

    def add_(self, state: State, batch: Magnitudes) -> None:
        """One scatter; rows that do not count add 0."""
        bins = magnitude_bin(batch.magnitude)
        state["magnitude"].scatter_add_(1, bins, batch.counted.long().expand(bins.shape))
        if "magnitude_weight" in state:
            state["magnitude_weight"].scatter_add_(1, bins, batch.weight.expand(bins.shape))
