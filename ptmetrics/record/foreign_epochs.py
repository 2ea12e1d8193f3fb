"""From the rows of another tool's log to epochs of the record, and what the log says beside.

A row of a record is one validation: `EpochData` whose number is that of its epoch, so that a number
may stand several times. Training values between two validations are averaged.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from math import inf, isfinite, nan
from typing import overload

from ptmetrics.errors import RecordError
from ptmetrics.record.events import CheckpointData, EpochData, EvaluationData, ScoreData
from ptmetrics.record.foreign_names import clipped, rises
from ptmetrics.record.foreign_rows import HeldRows, Row, RowReader, is_share
from ptmetrics.record.foreign_sizes import samples_behind, wilson_interval
from ptmetrics.record.foreign_table import Table, nothing_to_read, tidied

METHOD = "logged"
"""The method of a score that was read from a log, and has no interval."""
ONLY_SHARES = "no interval: the number of samples gives one to a share of them alone"
"""Why a score has none whose samples are known."""
MAX_EPOCHS = 100_000


class LoggedScores(Mapping[str, ScoreData]):
    """The scores of one row of a log, each made when it is asked for.

    Args:
        plain: The values alone.
        sizes: Samples of each split, as far as they are known.
    """

    __slots__ = ("_sizes", "plain")

    def __init__(self, plain: Mapping[str, float], sizes: Mapping[str, int]) -> None:
        self.plain = plain
        self._sizes = sizes

    def __getitem__(self, name: str) -> ScoreData:
        value = self.plain[name]
        data: ScoreData = {
            "value": value,
            "low": nan,
            "high": nan,
            "n": 0,
            "method": METHOD,
            "reason": None,
            "error_bound": 0.0,
            "higher_is_better": rises(name),
        }
        n = self._sizes.get(name.partition("/")[0], 0)
        if not n or not isfinite(value):
            return data
        data["n"] = n
        if is_share(name):
            data["low"], data["high"] = wilson_interval(min(value, 1.0), n)
            data["method"] = "wilson"
        else:
            data["reason"] = ONLY_SHARES
        return data

    def __iter__(self) -> Iterator[str]:
        return iter(self.plain)

    def __len__(self) -> int:
        return len(self.plain)

    def __repr__(self) -> str:
        return f"LoggedScores({dict(self)!r})"


@dataclass
class ForeignLog:
    """A log that was read.

    Attributes:
        tool: Who writes such files, in words.
        epochs: Its validations that count, and epochs without one.
        superseded: Those that the log repeats later on, and those behind them.
        evaluations: Those before training.
        checkpoints: The one that the tool holds for the best.
        notes: What was decided while reading, as sentences.
        sizes: How many samples stand behind each split, where that is known.
        follows: The score that the best checkpoint was chosen by; empty where that is not known.
    """

    tool: str
    epochs: Sequence[EpochData] = ()
    superseded: Sequence[EpochData] = ()
    evaluations: list[EvaluationData] = field(default_factory=list)
    checkpoints: list[CheckpointData] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    follows: str = ""


# Rows to validations


class _Slot:
    """What was logged up to one validation."""

    def __init__(self, row: Row) -> None:
        self.epoch = row.epoch
        self.step: float | None = None
        self.validated = False
        self.first = self.last = row.number
        self.values: dict[str, float] = {}
        self._times: dict[str, int] = {}  # how often a value of training was logged

    def add(self, row: Row) -> None:
        for name, value in row.values.items():
            if name.startswith("train/") and name in self.values:
                self._times[name] = self._times.get(name, 1) + 1
                value += self.values[name]
            self.values[name] = value
        if row.step is not None:
            self.step = row.step
        self.validated = self.validated or row.validated
        self.last = row.number

    def again(self, row: Row) -> bool:
        """Whether the row is another validation than this one."""
        if not self.validated:
            return False
        if row.step is not None and self.step is not None:
            return row.step != self.step
        return any(name in self.values for name in row.values if not name.startswith("train"))

    def take_training(self, other: "_Slot") -> None:
        """Add what was trained after this validation in the same epoch."""
        for name, value in other.values.items():
            times = other._times.get(name, 1)
            if name in self.values:
                times += self._times.get(name, 1)
                value += self.values[name]
            self.values[name] = value
            self._times[name] = times
        self.last = other.last

    @property
    def averaged(self) -> bool:
        return any(times > 1 for times in self._times.values())

    def means(self) -> dict[str, float]:
        if not self._times:
            return self.values
        return {name: value / self._times.get(name, 1) for name, value in self.values.items()}


class LoggedEpochs(Sequence[EpochData]):
    """The epochs of a log, each made when it is asked for: a long log has many more than are looked at."""

    def __init__(
        self, merger: "_Merger", rows: "array[int]", *, by_step: bool, steps: bool
    ) -> None:
        self._all = merger.all
        self._sizes = merger.sizes
        self._rows = rows
        self._by_step = by_step
        self._steps = steps

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, row: int) -> EpochData: ...
    @overload
    def __getitem__(self, row: slice) -> list[EpochData]: ...
    def __getitem__(self, row: int | slice) -> EpochData | list[EpochData]:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(len(self)))]
        done = self._all[self._rows[row]]
        epoch: EpochData = {"epoch": done.epoch, "scores": LoggedScores(done.values, self._sizes)}
        axes = {
            name.removesuffix("/mean_iou"): 2 for name in done.values if name.endswith("/mean_iou")
        }
        if axes:
            epoch["sample_axes"] = axes
        if self._by_step:
            epoch["epoch"] = range(len(self))[row]
        if self._steps and done.step is not None:
            epoch["counts"] = {"train_steps_cumulative": int(done.step)}
        return epoch


class _Merger:
    """Rows become validations; a log that goes back to an earlier epoch begins anew there."""

    def __init__(self, table: Table, sizes: Mapping[str, int]) -> None:
        self._name = table.name
        self._place = table.place
        self._open: _Slot | None = None
        self._held: _Slot | None = None  # the one before it, of the same epoch
        self._start: tuple[int, float | None] | None = None  # of this run
        self._last_step = 0.0
        self.sizes = sizes
        self.all = HeldRows()  # one for each validation
        self._lasts = array("q")  # where each of them ends
        self.done = array("q")  # places among all
        self.superseded = array("q")
        self.untrained: list[Row] = []
        self.earlier_runs: list[str] = []
        self.resumed: list[str] = []
        self.averaged = False
        self.steps_of_epochs = False  # steps count from 0 in every epoch
        self.trained: Row | None = None  # the last row of training
        self.evaluated: Row | None = None
        self.new_run = False

    def add(self, row: Row) -> None:
        """Take the next row."""
        self.new_run = False
        if self._open is not None and self._goes_back(row, self._open):
            self._go_back(row)
        if row.untrained:
            self.untrained.append(row)
            return
        if self._start is None:
            self._start = row.epoch, row.step
        if self._open is not None and row.epoch != self._open.epoch:
            self.steps_of_epochs |= (row.step or inf) <= self._last_step
            self.close_epoch()
        if self._open is not None and self._open.again(row):
            self._keep_held()
            self._held = self._open
            self._open = None
        if self._open is None:
            self._open = _Slot(row)
        self._open.add(row)
        self._last_step = row.step or self._last_step
        if any(name.startswith("train/") for name in row.values):
            self.trained = row
        if row.validated:
            self.evaluated = row
        if len(self.done) + len(self.superseded) >= MAX_EPOCHS:
            cure = "Thin the log out, or check that its column 'epoch' does not count steps."
            raise RecordError(self._name, f"at most {MAX_EPOCHS} epochs", "more", cure)

    def close_epoch(self) -> None:
        """Keep what is open; training after the last validation of an epoch belongs to it."""
        if self._open is not None and self._held is not None and not self._open.validated:
            self._held.take_training(self._open)
            self._open = None
        self._keep_held()
        self._held = self._open
        self._keep_held()
        self._open = None

    def _keep_held(self) -> None:
        slot = self._held
        self._held = None
        if slot is None:
            return
        self.averaged = self.averaged or slot.averaged
        self.done.append(len(self._lasts))
        self.all.append(Row(slot.epoch, slot.step, slot.means(), slot.first))
        self._lasts.append(slot.last)

    @staticmethod
    def _goes_back(row: Row, before: _Slot) -> bool:
        if row.epoch != before.epoch:
            return row.epoch < before.epoch
        if row.step is None or before.step is None:
            return row.begins
        return row.step < before.step

    def _go_back(self, row: Row) -> None:
        self.close_epoch()
        keep = 0
        if self._start is not None and (row.epoch, row.step or 0) > (
            self._start[0],
            self._start[1] or 0,
        ):
            keep = sum(1 for done in self.done if self._is_before(self.all[done], row))
        again = self.done[keep:]
        self.superseded += again
        del self.done[keep:]
        if not keep:
            self.earlier_runs.append(self.span(again))
            self._start = None
            self._last_step = 0.0
            self.untrained = []
            self.new_run = True
        elif again:
            where = f"epoch {row.epoch + 1}"
            if row.step is not None:
                where += f", step {row.step:g}"
            self.resumed.append(f"at {where}, for {self.span(again)}")

    def span(self, rows: "array[int]") -> str:
        """Where these rows stand in the log, in words."""
        first = self._place.format(self.all[rows[0]].number)
        return f"{first} to {self._place.format(self._lasts[rows[-1]])}"

    def _is_before(self, done: Row, row: Row) -> bool:
        if done.epoch != row.epoch:
            return done.epoch < row.epoch
        return row.step is not None and done.step is not None and done.step < row.step


def read_log(table: Table, n: int | None = None) -> ForeignLog:
    """Read the rows of a log.

    Args:
        table: The log as rows of named cells.
        n: Samples of validation; None to take what the log tells, or its printed digits.

    Raises:
        RecordError: If no row holds a score, there are too many epochs, or a value cannot be.
    """
    table = tidied(table)
    reader = RowReader(table)
    log = ForeignLog(table.tool, notes=reader.notes, sizes=reader.sizes())
    merger = _Merger(table, log.sizes)
    for row in reader.rows():
        merger.add(row)
        if merger.new_run:
            reader.shares.clear()
    merger.close_epoch()
    if not merger.done:
        raise nothing_to_read(table.name, table.columns)
    if not reader.positions:  # else parts of an epoch tell its evaluations apart
        _collapse(merger, log)
    steps = not merger.steps_of_epochs
    log.epochs = LoggedEpochs(merger, merger.done, by_step=reader.by_step, steps=steps)
    log.superseded = LoggedEpochs(merger, merger.superseded, by_step=reader.by_step, steps=steps)
    _note_runs(merger, log)
    _note_untrained(merger, log)
    _note_training_after(merger, table, log)
    _find_best(table, log)
    _find_sizes(reader, table, log, n)
    return log


def _collapse(merger: _Merger, log: ForeignLog) -> None:
    """Of epochs that stand twice without a step, while most stand once, the later counts."""
    kept, again = array("q"), array("q")
    several: list[int] = []
    count = 0
    for number, rows in groupby(merger.done, key=lambda row: merger.all[row].epoch):
        group = array("q", rows)
        count += 1
        if len(group) > 1 and merger.all[group[0]].step is None:
            several.append(number)
        if merger.all[group[0]].step is None:
            again += group[:-1]
            group = group[-1:]
        kept += group
    if not several or 2 * len(several) > count:
        return
    merger.done = kept
    merger.superseded += again
    where = ", ".join(str(number + 1) for number in several[:5])
    log.notes.append(f"Epochs that stand again are read where they stand last: {where}.")


def _note_runs(merger: _Merger, log: ForeignLog) -> None:
    if merger.earlier_runs:
        runs = len(merger.earlier_runs) + 1
        here = merger.span(merger.done)
        earlier = "; ".join(merger.earlier_runs[:5])
        log.notes.append(
            f"The file holds {runs} runs, one after the other: the last is read ({here}), and the "
            f"earlier ones are not ({earlier})."
        )
    if merger.resumed:
        where = "; ".join(merger.resumed[:5])
        log.notes.append(f"The run was resumed, and what stands later counts: {where}.")
    if merger.averaged:
        log.notes.append("Training values that were logged several times are averaged.")


def _note_untrained(merger: _Merger, log: ForeignLog) -> None:
    for row in merger.untrained:
        log.evaluations.append(
            {
                "epoch": 0,
                "scores": LoggedScores(row.values, log.sizes),
                "split": "val",
                "step": int(row.step or 0),
                "why": "before-training",
            }
        )
    if merger.untrained:
        log.notes.append("An evaluation before training stands apart, and is no epoch.")


def _note_training_after(merger: _Merger, table: Table, log: ForeignLog) -> None:
    trained = merger.trained
    evaluated = merger.evaluated
    if evaluated is None:
        return
    end = table.last_step
    if end is None and trained is not None and not merger.steps_of_epochs:
        end = trained.step
    later = trained is not None and trained.epoch > evaluated.epoch
    if end is not None and evaluated.step is not None and end > evaluated.step:
        later = True
    if not later:
        return
    where = f"epoch {evaluated.epoch + 1}"
    if evaluated.step is not None:
        where += f", step {evaluated.step:g}"
    upto = ""
    if trained is not None and trained.epoch > evaluated.epoch:
        upto = f", up to epoch {trained.epoch + 1}"
    elif end is not None:
        upto = f", up to step {end:g}"
    log.notes.append(
        f"The model was trained on after the last evaluation ({where}){upto}: what it is at the end "
        f"was not evaluated."
    )


def _find_best(table: Table, log: ForeignLog) -> None:
    """The checkpoint that the tool holds for the best, and the score that it follows."""
    value = table.best_value
    step = table.best_step
    if value is None and step is None:
        return
    found: EpochData | None = None
    for epoch in log.epochs:
        at = epoch.get("counts", {}).get("train_steps_cumulative")
        names = [
            name
            for name in epoch["scores"]
            if not name.startswith("train") and _is_value(epoch["scores"][name]["value"], value)
        ]
        if at == step or (step is None and names and found is None):
            found = epoch
            log.follows = next(iter(names), "")
    path = table.best_path
    if found is None:
        where = clipped(path).strip("'") or f"value {value:g}"
        note = f"The best checkpoint ({where}) belongs to no evaluation of the log"
        log.notes.append(f"{note}: the last one is judged.")
        return
    at = found.get("counts", {}).get("train_steps_cumulative", 0)
    checkpoint: CheckpointData = {
        "path": path or f"step {at}",
        "epoch": found["epoch"],
        "step": at,
        "why": "best",
    }
    log.checkpoints.append(checkpoint)
    told = f"The best checkpoint is that of step {at}"
    if log.follows:
        told += f", by {log.follows} ({value:g})"
    log.notes.append(f"{told}.")


def _is_value(logged: float, best: float | None) -> bool:
    return best is not None and (logged == best or logged == best / 100)


def _find_sizes(reader: RowReader, table: Table, log: ForeignLog, n: int | None) -> None:
    """How many samples stand behind validation: given, told by a column, or by printed digits."""
    for split, size in log.sizes.items():
        log.notes.append(f"The log tells how many samples {split} has: {size}.")
    for split, columns in reader.shares.items():
        if split in log.sizes or (split == "val" and n is not None):
            continue
        found = samples_behind(columns.values(), exact=table.exact)
        if found is None:
            log.notes.append(
                f"The printed digits of the shares of {split} do not tell of how many samples they "
                f"are: too few digits or values, or none that fits all."
            )
            continue
        log.sizes[split] = found
        log.notes.append(
            f"n = {found} of {split} was inferred from the printed digits of its shares; it may "
            f"be a part of the true number. Give it with n= or --n where you know it."
        )
    if n is not None:
        log.sizes["val"] = n
        log.notes.append(f"n = {n} of val was given.")
