"""What was counted, on the host: one copy from the device, then NumPy arrays by the names of their cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter

import numpy as np
import torch

from ptmetrics.counts.cell import Cell, State
from ptmetrics.counts.moments import (
    CENTRE,
    TINY,
    joint_centre,
    joint_sums,
    moved_sums,
)
from ptmetrics.metrics.estimate import Array
from ptmetrics.metrics.score import FaultReport

MOST_COPIED = 1 << 17
"""Numbers of a cell that is copied: fresh memory for more of them, 1 MiB, costs more than reading."""
FEW_FILLED = 32  # one cell in so many, up to where sums over them cost less than over all


@dataclass(frozen=True)
class FilledCells:
    """The cells of a matrix that hold something: a large one is read once to find them.

    Attributes:
        shape: (C, C).
        places: Where they are, int64 of shape (cells,), row-major and in order.
        numbers: What they hold.
    """

    shape: tuple[int, int]
    places: Array
    numbers: Array

    @classmethod
    def of(cls, matrix: Array) -> FilledCells | None:
        """Of a contiguous matrix; None where they are more than half of all."""
        flat = matrix.reshape(-1)
        there = flat != 0  # to look for them there takes a third of the time
        if 2 * np.count_nonzero(there) > len(flat):
            return None
        places = np.flatnonzero(there)
        return cls(matrix.shape, places, flat[places])

    @cached_property
    def rows(self) -> Array:
        """The row of each."""
        return self.places // self.shape[1]

    @cached_property
    def columns(self) -> Array:
        """The column of each."""
        return self.places - self.rows * self.shape[1]

    def sums(self) -> tuple[Array, Array]:
        """Of each row, and of each column, int64."""
        sides = (self.rows, self.columns)
        by_row, by_column = (np.bincount(side, self.numbers, self.shape[0]) for side in sides)
        return by_row.astype(np.int64), by_column.astype(np.int64)

    def product(self, rows: Array, columns: Array) -> Array:
        """Σ numbers · rows · columns over all cells, for vectors of shape (K, C): of shape (K,)."""
        found: Array = (rows[:, self.rows] * columns[:, self.columns]) @ self.numbers
        return found

    def matrix(self) -> torch.Tensor:
        """All cells, int64 or float64."""
        matrix = np.zeros(self.shape, self.numbers.dtype)
        matrix.reshape(-1)[self.places] = self.numbers
        return torch.from_numpy(matrix)


class Counts(dict[str, Array]):
    """The sums of some rows by the name of their cell.

    Args:
        arrays: Arrays by name, those of weights as "NAME.weight" and "NAME.square".
        absent: Value of an undefined score of a class.

    Attributes:
        absent: As given.
    """

    def __init__(self, arrays: Mapping[str, Array], absent: float = math.nan) -> None:
        super().__init__(arrays)
        self.absent = absent
        self._filled: dict[str, FilledCells | None] = {}

    @property
    def n(self) -> Array:
        """Number of rows, int64."""
        return self["rows"]

    @property
    def weights(self) -> Counts:
        """Itself: formulas without an interval ask for `weight(name)` where they want it."""
        return self

    @property
    def counts(self) -> Counts:
        """Itself: numbers of rows."""
        return self

    @property
    def sums(self) -> CountSums:
        """Σw, Σw² and numbers in a leading dimension of 3, for cells that count rows; others as they are."""
        return CountSums(self)

    def weight(self, name: str) -> Array:
        """Σw of a cell that counts rows, float64; the counts where no weight was ever seen."""
        twin = self.get(f"{name}.weight")
        if twin is not None:
            return twin
        return self[name].astype(np.float64)

    def square(self, name: str) -> Array:
        """Σw² of a cell that counts rows, float64."""
        twin = self.get(f"{name}.square")
        if twin is not None:
            return twin
        return self[name].astype(np.float64)

    def filled(self, name: str) -> FilledCells | None:
        """The cells of a large matrix that hold something; None where that is most, or of several."""
        matrix = self[name]
        if matrix.ndim != 2 or matrix.size <= MOST_COPIED:
            return None
        if name not in self._filled:
            self._filled[name] = FilledCells.of(matrix)
        return self._filled[name]

    def few_filled(self, name: str) -> FilledCells | None:
        """The same where they are so few that sums over them cost less than over all; else None."""
        filled = self.filled(name)
        if filled is None or FEW_FILLED * len(filled.places) > self[name].size:
            return None
        return filled

    def of_part(self, index: int) -> Counts:
        """Those of one part, where there are several in a leading dimension."""
        arrays = zip(self, map(itemgetter(index), self.values()), strict=True)
        return Counts(dict(arrays), self.absent)


class CountSums:
    """What formulas see of `Counts` where they ask for sums of weights.

    Args:
        counts: Where they are.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def __getitem__(self, name: str) -> Array:
        counts = self._counts
        if counts[name].dtype != np.int64:
            return counts[name]
        return np.stack((counts.weight(name), counts.square(name), counts[name]))


def to_host(states: Sequence[State]) -> list[dict[str, Array]]:
    """Read all tensors of some states, in one copy from the device; on the CPU they are the tensors' own memory.

    Args:
        states: Tensors of 64 bits by name.
    """
    tensors = [tensor for state in states for tensor in state.values()]
    if {tensor.is_cpu for tensor in tensors} == {True}:
        arrays: Iterator[Array] = map(torch.Tensor.numpy, tensors)
    else:
        home = tensors[0].device
        bits = [tensor.reshape(-1).view(torch.int64).to(home) for tensor in tensors]
        sizes = [tensor.numel() for tensor in tensors]
        parts = torch.split(torch.cat(bits).cpu(), sizes)
        both = zip(tensors, parts, strict=True)
        arrays = iter([part.view(t.dtype).reshape(t.shape).numpy() for t, part in both])
    found: list[dict[str, Array]] = []
    for state in states:
        found.append(dict(zip(state, arrays, strict=False)))
    return found


def together(each: Sequence[Mapping[str, Array]], absent: float) -> Counts:
    """Copies of what several metrics of one configuration hold, in a leading dimension.

    A large matrix stands there itself, of one metric alone: whoever keeps it takes `kept`.
    """
    counts = Counts({}, absent)
    for name, first in each[0].items():
        square = first.ndim == 2 and first.shape[0] == first.shape[1]
        if square and first.size > MOST_COPIED:
            counts[name] = first[np.newaxis]
        else:
            counts[name] = np.stack(list(map(itemgetter(name), each)))
    return counts


def fault_report(words: Mapping[str, str], arrays: Mapping[str, Array]) -> FaultReport:
    """What of a batch was refused or reported: by kind how often, first when, and in these words."""
    report: FaultReport = {}
    numbers = arrays["fault_count"].tolist()
    steps = arrays["fault_first_step"].tolist()
    for (kind, said), number, step in zip(words.items(), numbers, steps, strict=True):
        if number:
            message = f"{number} × {said}; first in update {step}"
            report[kind] = {"count": number, "first_step": step, "message": message}
    return report


def kept(counts: Counts, name: str) -> torch.Tensor | Callable[[], torch.Tensor]:
    """A matrix that stands in `together`; a large one is copied without its zeros, until it is asked for."""
    matrix = counts[name]
    if matrix.size <= MOST_COPIED:
        return torch.from_numpy(matrix)
    filled = counts.filled(name)
    if filled is None:
        return torch.from_numpy(matrix.copy())
    return filled.matrix


def counts_of_parts(kind: str, arrays: Mapping[str, Array], absent: float) -> Counts:
    """The sums of each part, which stand in a leading dimension, without those of rows of none."""
    return Counts({name: array[:-1] for name, array in _of_kind(kind, arrays)}, absent)


def counts_without_each(
    kind: str, arrays: Mapping[str, Array], cells: Mapping[str, Cell], absent: float
) -> Counts:
    """The sums of all rows of parts but those of each part, in a leading dimension."""
    found: dict[str, Array] = {}
    for name, array in _of_kind(kind, arrays):
        cell = cells.get(name.partition(".")[0])
        if cell is not None and cell.merge == "joint":
            found[name] = _joint_without_each(array[:-1])
        else:
            found[name] = without_each(array[:-1])
    return Counts(found, absent)


def rows_of_none(kind: str, arrays: Mapping[str, Array]) -> int:
    """How many rows belong to no part: those that came with none, and those before there was room for parts."""
    return int(arrays["rows"] - arrays[f"{kind}.rows"][:-1].sum())


def without_each(sums: Array) -> Array:
    """Sums over all parts but one, for each of them; of shape (G, …) like `sums`."""
    if sums.dtype == np.int64:
        return sums.sum(0) - sums
    others = 1 - np.eye(len(sums))  # no digits cancel
    return (others @ sums.reshape(len(sums), -1)).reshape(sums.shape)


def _joint_without_each(joint: Array) -> Array:
    tensor = torch.from_numpy(joint)
    centre = joint_centre(tensor)
    total = tensor[..., CENTRE : CENTRE + 1]
    common = (total * centre).sum(0) / total.sum(0).clamp(min=TINY)
    moved = moved_sums(joint_sums(tensor), centre - common).flatten(2).numpy()
    middle = np.broadcast_to(common.numpy(), (*joint.shape[:-1], CENTRE))
    return np.concatenate((middle, without_each(moved)), -1)


def _of_kind(kind: str, arrays: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    for name, array in arrays.items():
        if name.startswith(f"{kind}."):
            yield name.removeprefix(f"{kind}."), array
