"""From the rows of another tool's log to epochs of the record, and what the log says beside.

A row of a record is one validation: `EpochData` whose number is that of its epoch, so that a number
may stand several times. Training values between two validations are averaged.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from math import ceil, inf, isfinite, isnan, nan
from typing import overload

from ptmetrics.errors import RecordError
from ptmetrics.record.events import CheckpointData, EpochData, EvaluationData, ScoreData
from ptmetrics.record.foreign_names import (
    KEPT_NAMES,
    SPLIT_WORDS,
    LogColumns,
    clipped,
    columns_of,
    listed,
    rises,
)
from ptmetrics.record.foreign_sizes import samples_behind, wilson_interval
from ptmetrics.record.foreign_table import (
    Entry,
    LogCell,
    Table,
    digits_of,
    nothing_to_read,
    number_of,
    number_or_none,
    tidied,
)
from ptmetrics.record.schema import score_range

METHOD = "logged"
"""The method of a score that was read from a log, and has no interval."""
MAX_EPOCHS = 100_000
ROUNDING = 1e-5  # a mean of ones in float32 may come out a little above 1
KEPT_SHARES = 5000
_SHARE_NAMES = frozenset({"accuracy", "error_rate", "exact_match"})


@lru_cache(KEPT_NAMES)
def is_share(name: str) -> bool:
    """Whether a score is a number of samples out of all: "val/accuracy"."""
    _, _, score = name.partition("/")
    return score in _SHARE_NAMES or (score.startswith("top") and score.endswith("_accuracy"))


class LoggedScores(Mapping[str, ScoreData]):
    """The scores of one row of a log, 8 bytes each: logs may be wide and long."""

    __slots__ = ("_places", "_sizes", "_values")

    _places: dict[str, int]

    def __init__(
        self,
        values: Mapping[str, float],
        sizes: Mapping[str, int],
        like: "LoggedScores | None" = None,
    ) -> None:
        places = {name: place for place, name in enumerate(values)}
        if like is not None and list(like) == list(values):
            places = like._places  # shared, as most rows hold the same scores
        self._places = places
        self._sizes = sizes  # samples of each split
        self._values = array("d", values.values())

    def __getitem__(self, name: str) -> ScoreData:
        value = self._values[self._places[name]]
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
        if n and is_share(name) and isfinite(value):
            data["low"], data["high"] = wilson_interval(min(value, 1.0), n)
            data["n"] = n
            data["method"] = "wilson"
        return data

    def plain(self) -> dict[str, float]:
        """The values alone."""
        return dict(zip(self._places, self._values, strict=True))

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

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


# First pass: what the columns hold


@dataclass
class _Facts:
    """What a first pass over the rows shows."""

    numbers: Counter[str] = field(default_factory=Counter)  # how many each column holds
    above_one: Counter[str] = field(default_factory=Counter)
    words: dict[str, tuple[str, LogCell]] = field(default_factory=dict)  # the first, with its place
    rows: int = 0
    empty: bool = False  # some score was left out of some row
    merged: bool = False  # an epoch has several rows
    first_epoch: float = nan
    least_epoch: float = inf
    fractions: bool = False
    nan_rows: Counter[str] = field(default_factory=Counter)  # of a split, with nothing but NaN
    gaps: set[str] = field(default_factory=set)  # splits that such rows do not end
    sizes: dict[str, set[float]] = field(
        default_factory=dict
    )  # samples that a split is said to have
    other_splits: Counter[str] = field(default_factory=Counter)  # rows of splits that nobody knows


def _survey(table: Table, columns: LogColumns) -> _Facts:
    """Look at all cells once.

    Raises:
        RecordError: If the rows are of several models, or an epoch cannot be.
    """
    facts = _Facts()
    scores = {**columns.scores, **columns.bare}
    runs: dict[str, set[str]] = {column: set() for column in columns.runs}
    nan_so_far: set[str] = set()
    epoch: float | None = None
    for entry in table.entries():
        facts.rows += 1
        before = epoch
        epoch = _epoch_of_entry(table, columns, entry)
        if epoch is not None:
            facts.merged = facts.merged or epoch == before
            facts.fractions = facts.fractions or epoch != int(epoch)
            facts.least_epoch = min(facts.least_epoch, epoch)
            if isnan(facts.first_epoch):
                facts.first_epoch = epoch
        finite, missing = _survey_scores(entry, columns, scores, facts)
        facts.gaps |= finite & nan_so_far
        nan_so_far |= missing - finite
        facts.nan_rows.update(missing - finite)
        for column, values in runs.items():
            values.add(str(entry.cells.get(column) or ""))
        for split, column in columns.samples.items():
            facts.sizes.setdefault(split, set()).add(number_or_none(entry.cells.get(column)) or nan)
    for column, values in runs.items():
        if len(values - {""}) > 1:
            got = f"{len(values - {''})} in the column {clipped(column)}: {listed(sorted(values))}"
            cure = "Write one file for each: a verdict is about one run of one model."
            raise RecordError(table.name, "one model", got, cure)
    return facts


def _survey_scores(
    entry: Entry, columns: LogColumns, scores: Mapping[str, str], facts: _Facts
) -> tuple[set[str], set[str]]:
    """The splits that the row has a number of, and those that it has a NaN of."""
    finite: set[str] = set()
    missing: set[str] = set()
    row_split = _split_of(entry, columns)
    facts.empty |= len(entry.cells) < len(scores)
    for column, cell in entry.cells.items():  # fewer than all, where rows differ
        name = scores.get(column)
        if name is None:
            continue
        try:
            value = number_of(cell)
        except ValueError:
            facts.words.setdefault(column, (entry.place, cell))
            continue
        if value is None:
            facts.empty = True
            continue
        facts.numbers[column] += 1
        if value > 1 + ROUNDING:
            facts.above_one[column] += 1
        split = name.partition("/")[0]
        if column in columns.bare:
            split = row_split or ""
        if not split:
            facts.other_splits[str(entry.cells.get(columns.split or ""))] += 1
        if isnan(value):
            missing.add(split)
        else:
            finite.add(split)
    return finite, missing


def _epoch_of_entry(table: Table, columns: LogColumns, entry: Entry) -> float | None:
    """The epoch that a row tells; None where it tells none."""
    if columns.epoch is None:
        return None
    cell = entry.cells.get(columns.epoch)
    try:
        value = number_of(cell)
    except ValueError:
        value = inf
    if value is None or isnan(value):
        return None
    if not 0 <= value < 2**53:
        place = f"{table.name}, {entry.place}: epoch"
        raise RecordError(place, "a number from 0", clipped(str(cell)), "Write it such as 0 or 1.")
    return value


def _split_of(entry: Entry, columns: LogColumns) -> str | None:
    """The split that a row names in a column of its own; None for none that is known."""
    if columns.split is None:
        return None
    return SPLIT_WORDS.get(str(entry.cells.get(columns.split) or "").strip().lower())


# Second pass: rows as numbers by our names


@dataclass
class Row:
    """One row of a log.

    Attributes:
        epoch: Counted from 0.
        step: Training steps that were done; None where that is not told.
        values: By our names; a value that was not logged is absent, NaN is a NaN that was logged.
        place: Where it stands, for messages.
        begins: Whether the header stands again in front of it.
        untrained: Whether it was evaluated before training.
    """

    epoch: int
    step: float | None
    values: dict[str, float]
    place: str
    begins: bool = False
    untrained: bool = False

    @property
    def validated(self) -> bool:
        """Whether it holds a score that is not of training."""
        return any(not name.startswith("train") for name in self.values)


class _Reader:
    """Rows of a table by our names, with what is decided for whole columns."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._columns = columns_of(
            table.columns, evaluated=table.evaluated, bare_is_train=table.of_trainer
        )
        self.notes = [*table.notes, *self._columns.notes]
        self._facts = _survey(table, self._columns)
        self._keep_numbers()
        scores = {**self._columns.scores, **self._columns.bare}
        self._percent = self._percentages(scores)
        self.positions = table.of_trainer or self._facts.fractions
        self._first = 0
        if not self.positions and self._facts.first_epoch == 1 == self._facts.least_epoch:
            self._first = 1
        validated = any(not name.startswith("train") for name in scores.values())
        self.by_step = self._columns.epoch is None and self._columns.step is not None and validated
        self.shares: dict[str, set[tuple[float, int]]] = {}
        self._note_what_is_missing()

    def sizes(self) -> dict[str, int]:
        """How many samples each split has, where a column tells, or the tool beside."""
        sizes = dict(self._table.sizes)
        for split, numbers in self._facts.sizes.items():
            told = {number for number in numbers if isfinite(number)}
            if len(told) == 1 and 1 <= min(told) < 2**53 and min(told) == int(min(told)):
                sizes[split] = int(min(told))
        return sizes

    def rows(self) -> Iterable[Row]:
        """All rows with a score in them.

        Where a column tells splits or names of scores, those of one epoch may stand far apart; they
        are brought together unless one stands twice, as when a run began again.
        """
        if self._columns.split is None and not self._table.in_blocks:
            return self._rows_in_order()
        rows = list(self._rows_in_order())
        keys = {(row.epoch, row.step, name) for row in rows for name in row.values}
        if len(keys) == sum(len(row.values) for row in rows):
            rows.sort(key=lambda row: (row.epoch, row.step or 0))
        return rows

    def _rows_in_order(self) -> Iterator[Row]:
        number = 0
        count = -1
        for entry in self._table.entries():
            told = _epoch_of_entry(self._table, self._columns, entry)
            values = self._values(entry)
            if not values:
                continue
            if entry.begins:
                count = -1
            count += 1
            untrained = False
            if told is not None:
                number = self._epoch_from_0(told)
                untrained = self.positions and told < 1e-6
            elif self._columns.epoch is None and not self.by_step:
                number = count
            row = Row(number, self._step_of(entry), values, entry.place, entry.begins)
            row.untrained = untrained and row.validated
            yield row

    def _epoch_from_0(self, told: float) -> int:
        if self.positions:  # 1.0 is the end of the first epoch
            return max(ceil(told - 1e-6) - 1, 0)
        return int(told) - self._first

    def _step_of(self, entry: Entry) -> float | None:
        if self._columns.step is None:
            return None
        step = number_or_none(entry.cells.get(self._columns.step))
        if step is None or not 0 <= step < 2**53:  # sentence-transformers: -1 at an epoch's end
            return None
        return step

    def _values(self, entry: Entry) -> dict[str, float]:
        values: dict[str, float] = {}
        nan_names: list[str] = []
        row_split = _split_of(entry, self._columns)
        bare = self._columns.bare
        scores = self._columns.scores
        for column, cell in entry.cells.items():
            name = scores.get(column) or bare.get(column)
            value = number_of(cell) if name else None
            if name is None or value is None:
                continue
            if column in bare:
                name = f"{row_split}/{name}"
                if row_split is None or name in values:
                    continue
            if column in self._percent:
                value /= 100
            values[name] = value
            if isnan(value):
                nan_names.append(name)
                continue
            self._check_range(entry, name, value)
            if is_share(name):
                self._keep_share(name, value, cell, column)
        if nan_names:
            self._leave_out_gaps(values, nan_names)
        return values

    def _keep_share(self, name: str, value: float, cell: LogCell, column: str) -> None:
        shares = self.shares.setdefault(name.partition("/")[0], set())
        if len(shares) < KEPT_SHARES:
            digits = digits_of(cell)
            if column in self._percent:
                digits += 2
            shares.add((value, digits))

    def _leave_out_gaps(self, values: dict[str, float], names: list[str]) -> None:
        """Of a split without any number in this row, NaN is no score where it was not measured."""
        measured = {n.partition("/")[0] for n, value in values.items() if not isnan(value)}
        for name in names:
            split = name.partition("/")[0]
            gap = split in self._facts.gaps
            if split == "train":  # every epoch is trained: a gap only where other rows tell
                gap = gap and self._facts.merged and not self._facts.empty
            if gap and split not in measured:
                del values[name]

    def _check_range(self, entry: Entry, name: str, value: float) -> None:
        least, most = score_range(name)
        if least - ROUNDING <= value <= most + ROUNDING:
            return
        rule = f"a number from {least:g} to {most:g}"
        cure = "Rename the column if it is something else."
        if (least, most) == (0, 1):
            rule = "a share from 0 to 1, or percentages in the whole column"
            cure = "Write all its values alike, or rename the column if it is something else."
        place = f"{self._table.name}, {entry.place}: {name}"
        raise RecordError(place, rule, f"{value:g}", cure)

    def _keep_numbers(self) -> None:
        """Columns without a number are no scores; a word among numbers is a fault.

        Raises:
            RecordError: For such a word, or where nothing is left.
        """
        columns = self._columns
        numbers = self._facts.numbers
        for column, (place, cell) in self._facts.words.items():
            if numbers[column]:
                where = f"{self._table.name}, {place}: {clipped(column)}"
                cure = "Write numbers, and leave a cell without one empty."
                raise RecordError(where, "a number", clipped(str(cell)), cure)
        held = (*columns.scores, *columns.bare)
        nothing = [column for column in held if not numbers[column]]
        for column in nothing:
            columns.scores.pop(column, None)
            columns.bare.pop(column, None)
        if not columns.scores and not columns.bare:
            more = ""
            if not self._facts.rows:
                more = " and no line below them"
            raise nothing_to_read(self._table.name, self._table.columns, more)
        if nothing:
            self.notes.append(f"Columns without a number were not read: {listed(nothing)}.")

    def _percentages(self, scores: Mapping[str, str]) -> set[str]:
        """Columns of shares in percent: more than half of their values are above 1."""
        facts = self._facts
        percent = {
            column
            for column, name in scores.items()
            if score_range(f"/{name}")[1] == 1
            and score_range(f"/{name}")[0] > -inf
            and facts.above_one[column] > facts.numbers[column] / 2
        }
        if percent:
            what = listed([column for column in scores if column in percent])
            self.notes.append(f"Taken as percentages, and divided by 100: {what}.")
        return percent

    def _note_what_is_missing(self) -> None:
        facts = self._facts
        if self._first == 1:
            self.notes.append("The first epoch of the file is 1, so it is taken to count from 1.")
        if self.by_step:
            self.notes.append("The log tells steps and no epochs: each evaluation counts as one.")
        for split in sorted(facts.gaps - {"train"}):
            if facts.nan_rows[split]:
                what = f"NaN in all of {split} was taken as not measured"
                self.notes.append(f"{what}: {facts.nan_rows[split]} of {facts.rows} rows.")
        if facts.other_splits:
            what = "Rows of other splits than train, val and test were left out"
            self.notes.append(f"{what}: {listed(facts.other_splits)}.")


# Rows to validations


class _Slot:
    """What was logged up to one validation."""

    def __init__(self, row: Row) -> None:
        self.epoch = row.epoch
        self.step: float | None = None
        self.validated = False
        self.first = self.last = row.place
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
        self.last = row.place

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


@dataclass(slots=True)
class _Done:
    """A validation, or an epoch without one, as it is kept."""

    epoch: int
    step: float | None
    validated: bool
    first: str
    last: str
    scores: LoggedScores


class LoggedEpochs(Sequence[EpochData]):
    """The epochs of a log, each made when it is asked for: a long log has many more than are looked at."""

    def __init__(self, done: list[_Done], *, by_step: bool, steps: bool) -> None:
        self._done = done
        self._by_step = by_step
        self._steps = steps

    def __len__(self) -> int:
        return len(self._done)

    @overload
    def __getitem__(self, row: int) -> EpochData: ...
    @overload
    def __getitem__(self, row: slice) -> list[EpochData]: ...
    def __getitem__(self, row: int | slice) -> EpochData | list[EpochData]:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(len(self)))]
        done = self._done[row]
        epoch: EpochData = {"epoch": done.epoch, "scores": done.scores}
        if self._by_step:
            epoch["epoch"] = range(len(self))[row]
        if self._steps and done.step is not None:
            epoch["counts"] = {"train_steps_cumulative": int(done.step)}
        return epoch


class _Merger:
    """Rows become validations; a log that goes back to an earlier epoch begins anew there."""

    def __init__(self, table: Table, sizes: Mapping[str, int]) -> None:
        self._name = table.name
        self._sizes = sizes
        self._open: _Slot | None = None
        self._held: _Slot | None = None  # the one before it, of the same epoch
        self._start: tuple[int, float | None] | None = None  # of this run
        self._last_step = 0.0
        self.done: list[_Done] = []
        self.superseded: list[_Done] = []
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
        like = None
        if self.done:
            like = self.done[-1].scores
        scores = LoggedScores(slot.means(), self._sizes, like)
        kept = _Done(slot.epoch, slot.step, slot.validated, slot.first, slot.last, scores)
        self.done.append(kept)

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
            keep = sum(1 for done in self.done if self._is_before(done, row))
        again = self.done[keep:]
        self.superseded += again
        del self.done[keep:]
        if not keep:
            self.earlier_runs.append(f"{again[0].first} to {again[-1].last}")
            self._start = None
            self._last_step = 0.0
            self.untrained = []
            self.new_run = True
        elif again:
            where = f"epoch {row.epoch + 1}"
            if row.step is not None:
                where += f", step {row.step:g}"
            self.resumed.append(f"at {where}, for {again[0].first} to {again[-1].last}")

    def _is_before(self, done: _Done, row: Row) -> bool:
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
    reader = _Reader(table)
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
    log.epochs = LoggedEpochs(merger.done, by_step=reader.by_step, steps=steps)
    log.superseded = LoggedEpochs(merger.superseded, by_step=reader.by_step, steps=steps)
    _note_runs(merger, log)
    _note_untrained(merger, log)
    _note_training_after(merger, table, log)
    _find_best(table, log)
    _find_sizes(reader, table, log, n)
    return log


def _collapse(merger: _Merger, log: ForeignLog) -> None:
    """Of epochs that stand twice without a step, while most stand once, the later counts."""
    kept: list[_Done] = []
    again: list[_Done] = []
    epochs = [list(group) for _, group in groupby(merger.done, key=lambda done: done.epoch)]
    several = [group for group in epochs if len(group) > 1 and group[0].step is None]
    if not several or 2 * len(several) > len(epochs):
        return
    for group in epochs:
        if group[0].step is None:
            again += group[:-1]
            group = group[-1:]
        kept += group
    merger.done = kept
    merger.superseded += again
    where = ", ".join(str(group[0].epoch + 1) for group in several[:5])
    log.notes.append(f"Epochs that stand again are read where they stand last: {where}.")


def _note_runs(merger: _Merger, log: ForeignLog) -> None:
    if merger.earlier_runs:
        runs = len(merger.earlier_runs) + 1
        here = f"{merger.done[0].first} to {merger.done[-1].last}"
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


def _find_sizes(reader: _Reader, table: Table, log: ForeignLog, n: int | None) -> None:
    """How many samples stand behind validation: given, told by a column, or by printed digits."""
    for split, size in log.sizes.items():
        log.notes.append(f"The log tells how many samples {split} has: {size}.")
    for split, shares in reader.shares.items():
        if split in log.sizes or (split == "val" and n is not None):
            continue
        found = samples_behind(shares, exact=table.exact)
        if found is not None:
            log.sizes[split] = found
            log.notes.append(
                f"n = {found} of {split} was inferred from the printed digits of its shares; it may "
                f"be a part of the true number. Give it with n= or --n where you know it."
            )
    if n is not None:
        log.sizes["val"] = n
        log.notes.append(f"n = {n} of val was given.")
