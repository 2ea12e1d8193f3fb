"""State as named tensors of a fixed shape, and the merge that makes every statistic a commutative monoid."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ptmetrics.counts import joint_moments

State = dict[str, Tensor]
NEVER = torch.iinfo(torch.int64).max  # the identity of "min": no step reaches it


@dataclass(frozen=True)
class Cell:
    """One tensor of a state: its shape, its 64-bit type, and how two of it become one.

    A cell with `weights_of` exists only once sample weights were seen. It starts as a float64 copy of the
    counts that it names, since every row so far weighed 1.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.int64
    merge: Literal["sum", "min", "max", "moments", "smallest"] = "sum"
    weights_of: str | None = None

    def identity(self, device: torch.device) -> Tensor:
        """The tensor that changes nothing when merged, on `device`."""
        if self.merge in ("sum", "moments"):
            return torch.zeros(self.shape, dtype=self.dtype, device=device)
        extreme: float = 0 if self.merge == "max" else NEVER
        if self.dtype.is_floating_point:
            extreme = float("-inf") if self.merge == "max" else float("inf")
        return torch.full(self.shape, extreme, dtype=self.dtype, device=device)


_MERGE: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": Tensor.add_,
    "min": lambda mine, other: mine.copy_(torch.minimum(mine, other)),
    "max": lambda mine, other: mine.copy_(torch.maximum(mine, other)),
    "moments": joint_moments.merge_,
    "smallest": lambda mine, other: mine.copy_(torch.cat((mine, other)).sort().values[: len(mine)]),
}


def merge_(layout: Mapping[str, Cell], mine: State, other: Mapping[str, Tensor]) -> None:
    """Add `other` into `mine`, cell by cell, in place. Integers are exact in any order."""
    for name in mine:
        cell = layout[name]
        value = other[name] if name in other else other[str(cell.weights_of)].double()
        _MERGE[cell.merge](mine[name], value.to(mine[name].device))
