"""From the rows of another tool's log to epochs of the record: values alone, without n and interval.

Source for `Row`s are the formats, `foreign_csv` and `foreign_json`.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import nan

from ptmetrics.errors import RecordError
from ptmetrics.record.events import EpochData, ScoreData
from ptmetrics.record.foreign_names import rises
from ptmetrics.record.schema import score_range

METHOD = "logged"
"""The method of a score that was read from a log: nobody knows on how many samples it stands."""
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
class ForeignLog:
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


class LoggedScores(Mapping[str, ScoreData]):
    """The scores of one epoch of a log, 8 bytes each: logs may be wide and long."""

    __slots__ = ("_places", "_values")

    _places: dict[str, int]

    def __init__(self, values: Mapping[str, float], like: "LoggedScores | None" = None) -> None:
        places = {name: place for place, name in enumerate(values)}
        if like is not None and list(like) == list(values):
            places = like._places  # shared, as most epochs hold the same scores
        self._places = places
        self._values = array("d", values.values())

    def __getitem__(self, name: str) -> ScoreData:
        return {
            "value": self._values[self._places[name]],
            "low": nan,
            "high": nan,
            "n": 0,
            "method": METHOD,
            "reason": None,
            "error_bound": 0.0,
            "higher_is_better": rises(name),
        }

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"LoggedScores({dict(self)!r})"


def merge_rows(tool: str, name: str, rows: Iterable[Row], notes: list[str]) -> ForeignLog:
    """Merge the rows of each epoch.

    Several training values of an epoch are averaged; of several validations the last counts. An
    epoch that comes again supersedes the first one and those behind it.

    Args:
        tool: Who writes such files.
        name: The file, for messages.
        rows: In the order of the log.
        notes: What was decided so far.

    Raises:
        RecordError: If no row holds a number, there are too many epochs, or a value cannot be.
    """
    epochs: list[EpochData] = []
    superseded: list[EpochData] = []
    averaged = False
    merged: _MergedRows | None = None
    for row in rows:
        _check_ranges(row)
        if merged is not None and row.epoch != merged.epoch:
            epochs.append(merged.close(epochs))
            averaged = averaged or merged.averaged
            merged = None
        if merged is None:
            keep = bisect_left(epochs, row.epoch, key=lambda epoch: epoch["epoch"])
            superseded += epochs[keep:]
            del epochs[keep:]
            merged = _MergedRows(row.epoch)
        merged.add(row.values)
        if len(epochs) + len(superseded) >= MAX_EPOCHS:
            cure = "Thin the log out, or check that its column 'epoch' does not count steps."
            raise RecordError(name, f"at most {MAX_EPOCHS} epochs", "more", cure)
    if merged is not None:
        epochs.append(merged.close(epochs))
        averaged = averaged or merged.averaged
    if not any(epoch["scores"] for epoch in epochs):
        cure = "Log at least one number, such as val_loss or val_accuracy."
        raise RecordError(name, "at least one epoch with a number", "none", cure)
    if averaged:
        notes.append("Training values that were logged several times in an epoch are averaged.")
    return ForeignLog(tool, epochs, superseded, notes)


def _check_ranges(row: Row) -> None:
    for name, value in row.values.items():
        least, most = score_range(name)
        if value < least - ROUNDING or value > most + ROUNDING:
            rule = f"a number from {least:g} to {most:g}"
            cure = "Rename the column if it is something else."
            if (least, most) == (0, 1):
                rule = "a share from 0 to 1"
                cure = "Divide percentages by 100, or rename the column if it is something else."
            raise RecordError(f"{row.place}: {name}", rule, f"{value:g}", cure)


class _MergedRows:
    """The rows of the epoch that is read."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.averaged = False
        self._last: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            if name.startswith("train/") and name in self._last:
                self.averaged = True
                self._counts[name] = self._counts.get(name, 1) + 1
                self._last[name] += value
            else:
                self._last[name] = value

    def close(self, before: list[EpochData]) -> EpochData:
        for name, count in self._counts.items():
            self._last[name] /= count
        like = None
        if before and isinstance(before[-1]["scores"], LoggedScores):
            like = before[-1]["scores"]
        return {"epoch": self.epoch, "scores": LoggedScores(self._last, like)}
