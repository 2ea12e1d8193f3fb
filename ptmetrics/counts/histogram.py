"""One histogram of scores for each class: thresholds, ROC, precision and recall all come from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from ptmetrics.counts.cells import NEVER, Cell, State
from ptmetrics.counts.faults import FaultKind, FaultLedger
from ptmetrics.counts.keys import Keys

K = TypeVar("K", bound=Keys, covariant=True)


class ScoredRows(Protocol):
    """Rows with one score and one binary target each; device tensors of shape (rows,)."""

    target: Tensor  # int64; 0 or 1 where the row is not left out
    # (spare slot, bool mask); first slot 0 and all that is left out; of several masks the last one wins
    left_out: Sequence[tuple[int, Tensor]]
    one: Tensor  # int64 ones
    weight: Tensor | None  # float64, 1 where left out
    step: int | Tensor  # number of the update, or int64 of each row

    @property
    def kept(self) -> Tensor:
        """Bool: not left out."""
        ...

    def scored(self, name: str) -> Tensor:
        """What the histogram of this name counts."""
        ...


@dataclass(frozen=True)
class ScoreHistogram(Generic[K]):
    """Counts by (score, target): int64 of shape (2 · rows + spare,), float64 twins once weights were seen.

    Cell 2 · row + target; rows that are left out lie behind, in the spare slot of their reason. With float16's
    64,513 rows that is 1,032,208 bytes and 8 a slot.

    Attributes:
        name: Name of the cells.
        keys: Which row a score belongs to.
        spare: Number of reasons for which a row can be left out; 1 does not tell them apart.
        nan: The slots of rows without a score, which `inexact` counts too: NaN equals nothing.
    """

    name: str
    keys: K
    spare: int
    nan: tuple[int, ...] = ()

    def layout(self) -> Mapping[str, Cell]:
        """Counts, Σw and Σw² a cell, and how many scores are not the value of their row."""
        size, name = (2 * self.keys.rows + self.spare,), self.name
        weight = Cell(size, torch.float64, weights_of=name)
        cells = {name: Cell(size), f"{name}_weight": weight, f"{name}_square": weight}
        if self.keys.exact:
            inexact = f"{name}_inexact"
            cells |= {
                inexact: Cell((1,)),
                f"{inexact}_weight": Cell((1,), torch.float64, weights_of=inexact),
            }
        return cells

    def add_(self, state: State, batch: ScoredRows) -> None:
        """One scatter for each cell; integers, so any order gives the same bits."""
        code, inexact = self.keys.code(batch.scored(self.name))
        cell = torch.add(batch.target, code, alpha=2)
        if self.keys.zero:
            cell.add_(2 * self.keys.zero)
        for slot, mask in batch.left_out[: self.spare]:
            cell.masked_fill_(mask, 2 * self.keys.rows + slot)
        state[self.name].scatter_add_(0, cell, batch.one)
        if self.keys.exact:
            state[f"{self.name}_inexact"].add_(inexact.count_nonzero())
        if f"{self.name}_weight" in state:
            self._weigh(state, cell, inexact, batch)

    def _weigh(self, state: State, cell: Tensor, inexact: Tensor, batch: ScoredRows) -> None:
        weight = batch.one.double() if batch.weight is None else batch.weight
        state[f"{self.name}_weight"].scatter_add_(0, cell, weight)
        state[f"{self.name}_square"].scatter_add_(0, cell, weight * weight)
        if self.keys.exact:
            state[f"{self.name}_inexact_weight"].add_((inexact * weight).sum())


@dataclass(frozen=True)
class SpareFaults:
    """First bad step of each kind of fault, which the first spare slots of a histogram count.

    Attributes:
        histogram: It must come before this statistic.
        kinds: The faults, in the order of the slots.
    """

    histogram: ScoreHistogram[Any]
    kinds: tuple[FaultKind, ...]

    def layout(self) -> Mapping[str, Cell]:
        """First steps merge by the smallest."""
        return {"fault_first_step": Cell((len(self.kinds),), merge="min")}

    def add_(self, state: State, batch: ScoredRows) -> None:
        """Rows of one update need no look: a kind that was ever seen was seen in this step or before."""
        if not batch.left_out:
            return
        first, kinds, never = state["fault_first_step"], len(self.kinds), NEVER
        if isinstance(batch.step, int):
            seen = self.counts(state).clamp(max=1)
            steps = torch.rsub(seen, never, alpha=never - batch.step)
        else:
            slot = torch.full_like(batch.target, kinds)
            for number, mask in batch.left_out:
                slot.masked_fill_(mask, min(number, kinds))
            steps = first.new_full((kinds + 1,), never).scatter_reduce_(
                0, slot, batch.step, "amin"
            )[:kinds]
        torch.minimum(first, steps, out=first)

    def counts(self, state: State) -> Tensor:
        """Int64 of shape (kinds,)."""
        start = 2 * self.histogram.keys.rows
        return state[self.histogram.name][start : start + len(self.kinds)]

    def read(self, counts: list[int], first_steps: list[int]) -> dict[str, dict[str, int | str]]:
        """The faults in words: only the kinds that happened."""
        return FaultLedger(self.kinds).read(counts, first_steps)
