"""From the rows of somebody else's log to epochs of the record: values alone, without n and interval."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isnan, nan

from ptmetrics.errors import RecordError
from ptmetrics.record.events import EpochData, ScoreData
from ptmetrics.record.foreign_names import is_share, rises

METHOD = "logged"
"""Stands as the method of a score that was read from a log: it was measured, but nobody knows on how many samples."""
MAX_EPOCHS = 100_000
ROUNDING = 1e-5  # a mean of ones in float32 may come out a little above 1


@dataclass(frozen=True)
class Row:
    """One row of a log.

    Attributes:
        epoch: Counted from 0.
        values: By our names; a value that was not logged is absent, NaN is a NaN that was logged.
        place: Where it stands, for messages.
    """

    epoch: int
    values: dict[str, float]
    place: str


@dataclass(frozen=True)
class Logged:
    """A log that was read.

    Attributes:
        tool: Who writes such files, in words.
        epochs: The epochs that count, rising.
        superseded: Epochs that the log repeats later on, and those behind them.
        notes: What was decided while reading, as sentences.
    """

    tool: str
    epochs: list[EpochData]
    superseded: list[EpochData]
    notes: list[str]


def logged(tool: str, name: str, rows: Iterable[Row], notes: list[str]) -> Logged:
    """Merge the rows of each epoch; an epoch that comes again supersedes the first one and those behind it.

    Several training values of an epoch are averaged; of several validations the last counts.

    Args:
        tool: Who writes such files.
        name: The file, for messages.
        rows: In the order of the log.
        notes: What was decided so far.

    Raises:
        RecordError: If no row holds a number, there are too many epochs, or a share is not between 0 and 1.
    """
    merged: list[_Merged] = []
    superseded: list[EpochData] = []
    for row in rows:
        _check_shares(row)
        if merged and row.epoch < merged[-1].epoch:
            keep = bisect_left(merged, row.epoch, key=lambda one: one.epoch)
            superseded += [one.data() for one in merged[keep:]]
            del merged[keep:]
        if not merged or row.epoch > merged[-1].epoch:
            merged.append(_Merged(row.epoch))
        merged[-1].add(row.values)
        if len(merged) + len(superseded) > MAX_EPOCHS:
            cure = "Thin the log out, or check that its column 'epoch' does not count steps."
            raise RecordError(name, f"at most {MAX_EPOCHS} epochs", "more", cure)
    if not any(one.last for one in merged):
        cure = "Log at least one number, such as val_loss or val_accuracy."
        raise RecordError(name, "at least one epoch with a number", "none", cure)
    if any(one.averaged for one in merged):
        notes.append("Training values that were logged several times in an epoch are averaged.")
    return Logged(tool, [one.data() for one in merged], superseded, notes)


def _check_shares(row: Row) -> None:
    for name, value in row.values.items():
        if is_share(name) and not (isnan(value) or 0.0 <= value <= 1.0 + ROUNDING):
            cure = "Divide percentages by 100, or rename the column if it is something else."
            raise RecordError(f"{row.place}: {name}", "a share from 0 to 1", f"{value:g}", cure)


class _Merged:
    """The rows of one epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.last: dict[str, float] = {}
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    @property
    def averaged(self) -> bool:
        return any(count > 1 for count in self._counts.values())

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.last[name] = value
            if name.startswith("train/"):
                self._sums[name] = self._sums.get(name, 0.0) + value
                self._counts[name] = self._counts.get(name, 0) + 1

    def data(self) -> EpochData:
        return {"epoch": self.epoch, "scores": dict(self._scores())}

    def _scores(self) -> Iterator[tuple[str, ScoreData]]:
        for name, last in self.last.items():
            yield (
                name,
                {
                    "value": self._sums[name] / self._counts[name] if name in self._sums else last,
                    "low": nan,
                    "high": nan,
                    "n": 0,
                    "method": METHOD,
                    "reason": None,
                    "error_bound": 0.0,
                    "higher_is_better": rises(name),
                },
            )
