"""A run as numbers per epoch: `history["val/accuracy"]` is a list, `history[-1]` an epoch."""

import difflib
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, overload

from ptmetrics.record.events import EpochData
from ptmetrics.record.reader import Run, read_run


class History(Mapping[str, list[float]]):
    """A mapping from score name to one value per epoch; NaN where an epoch lacks the score.

    `history["val/accuracy"]` is the list over epochs, `history[-1]` the last epoch as a mapping from name to
    value, `history[-1, "val/accuracy"]` one value. Rows count from 0; `epochs` holds the epoch numbers of
    the rows. Times stand under "time/train_s" and so on, counts under "counts/train_samples". The length is
    the number of names.
    """

    def __init__(self) -> None:
        self._epochs: list[int] = []
        self._rows: list[dict[str, float]] = []

    @classmethod
    def of(cls, run: Run) -> "History":
        """Take the epochs of a run that count; those superseded are left out."""
        history = cls()
        for epoch in run.epochs:
            history.append(epoch)
        return history

    @property
    def epochs(self) -> list[int]:
        """The epoch number of each row, rising."""
        return list(self._epochs)

    def append(self, epoch: EpochData) -> None:
        """Add an epoch; one with the same or a later number is superseded, as when a run was resumed."""
        while self._epochs and self._epochs[-1] >= epoch["epoch"]:
            self._epochs.pop()
            self._rows.pop()
        self._epochs.append(epoch["epoch"])
        self._rows.append(dict(_values(epoch)))

    @overload
    def __getitem__(self, key: str) -> list[float]: ...
    @overload
    def __getitem__(self, key: int) -> dict[str, float]: ...
    @overload
    def __getitem__(self, key: tuple[int, str]) -> float: ...
    def __getitem__(
        self, key: str | int | tuple[int, str]
    ) -> list[float] | dict[str, float] | float:
        if isinstance(key, tuple):
            row, name = key
            self._check(name)
            return self._row(row).get(name, math.nan)
        if isinstance(key, int):
            row_values = self._row(key)
            return {name: row_values.get(name, math.nan) for name in self}
        self._check(key)
        return [row.get(key, math.nan) for row in self._rows]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for row in self._rows for name in row))

    def __len__(self) -> int:
        return len(dict.fromkeys(self))

    def __contains__(self, key: object) -> bool:
        return any(key in row for row in self._rows)

    def __repr__(self) -> str:
        return f"History({len(self)} names, epochs {self._epochs})"

    def _row(self, row: int) -> dict[str, float]:
        if not -len(self._rows) <= row < len(self._rows):
            raise IndexError(
                f"row: expected one of {len(self._rows)} epochs, got {row}. See history.epochs."
            )
        return self._rows[row]

    def _check(self, name: str) -> None:
        if name not in self:
            near = difflib.get_close_matches(name, self, n=3, cutoff=0.4)
            cure = (
                f"Near: {', '.join(map(repr, near))}." if near else "list(history) shows the names."
            )
            raise KeyError(
                f"history: expected the name of a score in this run, got {name!r}. {cure}"
            )


def read_history(path: str | os.PathLike[str]) -> History:
    """Read the numbers per epoch of a run folder, a journal, or a log that `read_run` knows of other tools.

    Raises:
        RecordError: As `read_run`.
    """
    return History.of(read_run(path))


def _values(epoch: EpochData) -> Iterator[tuple[str, float]]:
    for name, score in epoch["scores"].items():
        yield name, score["value"]
    yield from _numbers("time", epoch.get("time", {}))
    yield from _numbers("counts", epoch.get("counts", {}))


def _numbers(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Flatten numbers; what was not measured (None) stays absent, and so reads as NaN."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(f"{prefix}/{name}", value)
        elif isinstance(value, int | float):
            yield f"{prefix}/{name}", value
