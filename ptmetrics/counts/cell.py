"""`Cell`: one tensor of what is kept of batches, and how two of it become one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from ptmetrics.counts import moments
from ptmetrics.errors import ConfigError, StateError

State = dict[str, Tensor]
Merge = Literal["sum", "mean", "joint", "min", "max", "smallest", "smallest-rows"]
Scope = Literal["both", "whole", "subgroups", "slices"]
MERGES = ("sum", "mean", "joint", "min", "max", "smallest", "smallest-rows")
INT64 = torch.iinfo(torch.int64)
NEVER = INT64.max
"""The identity of "min" for integers: no step reaches it."""
_SCOPES: dict[str, tuple[str, ...]] = {
    "both": ("whole", "slice", "group"),
    "whole": ("whole",),
    "subgroups": ("slice", "group"),
    "slices": ("whole", "slice"),
}
SCOPES = tuple(_SCOPES)
_EXTREME: dict[str, dict[torch.dtype, float]] = {
    "min": {torch.int64: NEVER, torch.float64: torch.inf},
    "max": {torch.int64: INT64.min, torch.float64: -torch.inf},
    "smallest": {torch.int64: NEVER, torch.float64: torch.inf},
    "smallest-rows": {torch.int64: NEVER, torch.float64: torch.inf},
}
LARGEST_COUNT = 2**53 - 1
"""The largest count that a stored state may hold: float64 tells it from its neighbours."""
DAMAGED = "The file is damaged or was written by something else: use another checkpoint."
MOST_STATE_BYTES = 16 << 30  # of all counts of a metric, before there are weights


@dataclass(frozen=True)
class Cell:
    """One tensor of what a metric keeps: its shape, its 64-bit type, and how two of it become one.

    A cell of the type int64 with the merge "sum" counts rows. Once sample weights are seen, the
    sums of the weights and of their squares stand beside it, as `NAME.weight` and `NAME.square`. A
    cell of the type float64 with the merge "sum" adds up weight · value.

    Args:
        name: What `count` and `scores` call it.
        shape: Shape of the sums, from the configuration alone: no batch changes it.
        dtype: torch.int64 or torch.float64.
        merge: "sum"; "mean" keeps the six sums of a weighted mean and its interval for each number,
            in front of the shape; "joint" those of `moments.add_joint_`; "min", "max"; "smallest"
            keeps the smallest values of the last dimension, "smallest-rows" the parts of the first
            whose first value is smallest.
        scope: "both" for all rows and for each slice and group, "whole" for all rows only,
            "subgroups" for slices and groups only, "slices" for all rows and for each slice.
        weigh: Whether the weights of the rows have a say; False where `count` sees to it.
        wraps: Whether an integer sum is of any numbers, modulo 2⁶⁴, and not a count.

    Example:
        >>> import torch
        >>> Cell("confusion", (2, 2)).zeros("cpu").tolist()
        [[0, 0], [0, 0]]
        >>> Cell("loss", (), torch.float64, merge="mean").zeros("cpu").shape
        torch.Size([6])
    """

    name: str
    shape: tuple[int, ...] = ()
    dtype: torch.dtype = torch.int64
    merge: Merge = "sum"
    scope: Scope = "both"
    weigh: bool = True
    wraps: bool = False
    twin_of: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError(
                "name", "a name of the cell", repr(self.name), 'Pass pm.Cell("hits").'
            )
        sizes = isinstance(self.shape, tuple)
        if not sizes or not all(type(size) is int and size >= 0 for size in self.shape):
            cure = "Pass shape=(classes, classes), or () for one number."
            raise ConfigError("shape", "a tuple of whole numbers", repr(self.shape), cure)
        if not isinstance(self.scope, str) or self.scope not in SCOPES:
            rule = f"one of {', '.join(SCOPES)}"
            raise ConfigError("scope", rule, repr(self.scope), 'Pass "both".')
        if self.merge not in MERGES:
            raise ConfigError(
                "merge", f"one of {', '.join(MERGES)}", repr(self.merge), 'Pass "sum".'
            )
        if self.dtype not in (torch.int64, torch.float64):
            cure = "Sums of 64 bits neither overflow nor stick."
            raise ConfigError("dtype", "torch.int64 or torch.float64", str(self.dtype), cure)

    @cached_property
    def counts_rows(self) -> bool:
        """Whether sums of weights stand beside it once there are weights."""
        return self.merge == "sum" and self.dtype == torch.int64 and self.weigh

    def is_kept_of(self, kind: str) -> bool:
        """Whether it is kept of the "whole", of each "slice" or of each "group"."""
        return kind in _SCOPES[self.scope]

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of its tensor."""
        if self.merge == "mean":
            return (moments.SIZE, *self.shape)
        return self.shape

    def twins(self) -> tuple[Cell, Cell]:
        """The cells of Σw and Σw², which start as a copy of the counts: all rows so far weighed 1."""
        twin = replace(self, dtype=torch.float64, twin_of=self.name)
        return replace(twin, name=f"{self.name}.weight"), replace(twin, name=f"{self.name}.square")

    def of_parts(self, kind: str, parts: int) -> Cell:
        """The same for each of `parts` parts of the rows, and one part more for rows of none."""
        shape = (parts + 1, *self.state_shape)
        merge: Merge = "sum" if self.merge == "mean" else self.merge
        dtype = torch.float64 if self.merge == "mean" else self.dtype
        weigh = self.weigh and self.merge == "sum"
        return Cell(f"{kind}.{self.name}", shape, dtype, merge, weigh=weigh)

    def zeros(self, device: torch.device | str) -> Tensor:
        """The tensor that changes nothing when merged."""
        if self.merge in _EXTREME:
            nothing = _EXTREME[self.merge][self.dtype]
            return torch.full(self.shape, nothing, dtype=self.dtype, device=device)
        dtype = torch.float64 if self.merge == "mean" else self.dtype
        return torch.zeros(self.state_shape, dtype=dtype, device=device)

    def merge_(self, mine: Tensor, other: Tensor) -> None:
        """Add another tensor of this cell to `mine`, in place. Integers are exact in any order."""
        other = other.to(mine.device)
        if self.merge in ("sum", "mean"):
            mine.add_(other)
        elif self.merge == "joint":
            moments.merge_joint_(mine, other)
        elif self.merge == "min":
            mine.copy_(torch.minimum(mine, other))
        elif self.merge == "max":
            mine.copy_(torch.maximum(mine, other))
        elif self.merge == "smallest":
            both = torch.cat((mine, other), -1).sort(-1).values
            mine.copy_(both[..., : mine.shape[-1]])
        else:
            both = torch.cat((mine, other))
            mine.copy_(both[both.flatten(1)[:, 0].argsort()[: len(mine)]])

    def check_stored(self, value: object) -> Tensor:
        """Refuse what this cell cannot hold.

        Raises:
            StateError: If it is of another form, or impossible.
        """
        like = self.zeros("meta")
        name = f"state_dict[{self.name!r}]"
        rule = f"a tensor {like.dtype} of shape {tuple(like.shape)}"
        if not isinstance(value, Tensor):
            raise StateError(name, rule, type(value).__name__, DAMAGED)
        if value.dtype != like.dtype or value.shape != like.shape:
            fact = f"{value.dtype} of shape {tuple(value.shape)}"
            raise StateError(name, rule, fact, DAMAGED)
        if value.layout != torch.strided or value.is_nested or not value.is_contiguous():
            raise StateError(name, f"{rule} with a place for each number", "fewer", DAMAGED)
        if value.is_meta or not value.numel():
            return value
        if bool(value.isnan().any()):
            raise StateError(name, "sums that are numbers", "nan", DAMAGED)
        least = value.min().item()
        most = value.max().item()
        if self._never_negative and least < 0:
            raise StateError(name, "counts of 0 or more", f"{least}", DAMAGED)
        counts = self.dtype == torch.int64 and self.merge == "sum" and not self.wraps
        if counts and most > LARGEST_COUNT:
            raise StateError(name, f"counts up to {LARGEST_COUNT}", f"{most}", DAMAGED)
        if self.twin_of is not None and most == torch.inf:
            raise StateError(name, "finite sums of weights", "inf", DAMAGED)
        return value

    @property
    def _never_negative(self) -> bool:
        counts = self.dtype == torch.int64 and self.merge != "max" and not self.wraps
        return counts or self.twin_of is not None


def check_cells(cells: Sequence[Any]) -> None:
    """Refuse what cannot be kept together.

    Raises:
        ConfigError: If one is no cell, names are not told apart, or they need too much memory.
    """
    for cell in cells:
        if not isinstance(cell, Cell):
            cure = 'Return a list of pm.Cell("name", shape).'
            raise ConfigError("cells", "cells", type(cell).__name__, cure)
    names = [cell.name for cell in cells]
    if len(set(names)) < len(names) or any("." in name for name in names):
        cure = 'Name each cell once, without a ".", and none of them "rows".'
        raise ConfigError("cells", "names of their own", ", ".join(names), cure)
    state = sum(8 * math.prod(cell.state_shape) for cell in cells)
    if state > MOST_STATE_BYTES:
        rule = f"counts of at most {MOST_STATE_BYTES >> 30} GiB"
        cure = "Count fewer classes, labels, outputs or scores."
        raise ConfigError("cells", rule, f"{state >> 30} GiB", cure)
