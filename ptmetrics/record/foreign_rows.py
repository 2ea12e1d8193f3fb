"""The rows of another tool's log as numbers by our names, with what is decided for whole columns."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from math import ceil, inf, isfinite, isnan, nan
from typing import overload

from ptmetrics.errors import RecordError
from ptmetrics.record.foreign_names import (
    KEPT_NAMES,
    LogColumns,
    clipped,
    columns_of,
    in_percent,
    listed,
    split_of,
)
from ptmetrics.record.foreign_sizes import Share
from ptmetrics.record.foreign_table import (
    Entry,
    LogCell,
    Table,
    digits_of,
    nothing_to_read,
    number_of,
    number_or_none,
)
from ptmetrics.record.schema import score_range

ROUNDING = 1e-5  # a mean of ones in float32 may come out a little above 1
KEPT_SHARES = 5000
_SHARE_NAMES = frozenset({"accuracy", "error_rate", "exact_match"})


@lru_cache(KEPT_NAMES)
def is_share(name: str) -> bool:
    """Whether a score is a number of samples out of all: "val/accuracy"."""
    _, _, score = name.partition("/")
    return score in _SHARE_NAMES or (score.startswith("top") and score.endswith("_accuracy"))


def _range_of(name: str) -> tuple[float, float]:
    """Least and largest value of a score of a log, where a share may be named as none of ours is."""
    if is_share(name):
        return 0.0, 1.0
    return score_range(name)


# First pass: what the columns hold


@dataclass
class _Facts:
    """What a first pass over the rows shows."""

    numbers: Counter[str] = field(default_factory=Counter)  # how many each column holds
    above_one: Counter[str] = field(default_factory=Counter)
    signs: set[str] = field(default_factory=set)  # columns with a percent sign in a cell
    words: dict[str, tuple[int, LogCell]] = field(default_factory=dict)  # the first of each
    rows: int = 0
    empty: bool = False  # some score was left out of some row
    merged: bool = False  # an epoch has several rows
    first_epoch: float = nan
    least_epoch: float = inf
    backwards: bool = False  # an epoch stands in front of a smaller one
    again: bool = False  # an epoch stands in several places
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
    seen: set[float] = set()
    before: float | None = None
    for entry in table.entries():
        facts.rows += 1
        epoch = _epoch_of_entry(table, columns, entry)
        if epoch is not None:
            facts.merged = facts.merged or epoch == before
            if before is not None and epoch != before:
                facts.backwards = facts.backwards or epoch < before
                facts.again = facts.again or epoch in seen
            seen.add(epoch)
            facts.fractions = facts.fractions or epoch != int(epoch)
            facts.least_epoch = min(facts.least_epoch, epoch)
            if isnan(facts.first_epoch):
                facts.first_epoch = epoch
            before = epoch
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
            facts.words.setdefault(column, (entry.number, cell))
            continue
        if value is None:
            facts.empty = True
            continue
        facts.numbers[column] += 1
        if isinstance(cell, str) and cell.endswith("%"):
            facts.signs.add(column)
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
        place = f"{table.name}, {table.place.format(entry.number)}: epoch"
        raise RecordError(place, "a number from 0", clipped(str(cell)), "Write it such as 0 or 1.")
    return value


def _split_of(entry: Entry, columns: LogColumns) -> str | None:
    """The split that a row names in a column of its own; None for none that is known."""
    if columns.split is None:
        return None
    return split_of(str(entry.cells.get(columns.split) or ""))


# Second pass: rows as numbers by our names


@dataclass(slots=True)
class Row:
    """One row of a log.

    Attributes:
        epoch: Counted from 0.
        step: Training steps that were done; None where that is not told.
        values: By our names; a value that was not logged is absent, NaN is a NaN that was logged.
        number: Where it stands, as its entry tells.
        begins: Whether the header stands again in front of it.
        untrained: Whether it was evaluated before training.
    """

    epoch: int
    step: float | None
    values: Mapping[str, float]
    number: int
    begins: bool = False
    untrained: bool = False

    @property
    def validated(self) -> bool:
        """Whether it holds a score that is not of training."""
        return any(not name.startswith("train") for name in self.values)


class LoggedRow(Mapping[str, float]):
    """The numbers of one row, by their names."""

    __slots__ = ("_places", "_start", "_values")

    def __init__(self, places: Mapping[str, int], values: "array[float]", start: int) -> None:
        self._places = places
        self._values = values
        self._start = start

    def __getitem__(self, name: str) -> float:
        return self._values[self._start + self._places[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class LoggedRows(Sequence[LoggedRow]):
    """Rows of numbers, 8 bytes each: logs may be wide and long. Most rows hold the same names."""

    def __init__(self) -> None:
        self._places: list[dict[str, int]] = []
        self._starts = array("q")
        self._values = array("d")

    def append(self, row: Mapping[str, float]) -> None:
        """Add a row behind the others."""
        if not self._places or list(self._places[-1]) != list(row):
            self._places.append({name: place for place, name in enumerate(row)})
        else:
            self._places.append(self._places[-1])
        self._starts.append(len(self._values))
        self._values.extend(row.values())

    def pop(self) -> LoggedRow:
        """Take the last row away."""
        last = LoggedRow(self._places.pop(), self._values[self._starts[-1] :], 0)
        del self._values[self._starts.pop() :]
        return last

    @overload
    def __getitem__(self, row: int) -> LoggedRow: ...
    @overload
    def __getitem__(self, row: slice) -> list[LoggedRow]: ...
    def __getitem__(self, row: int | slice) -> LoggedRow | list[LoggedRow]:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(len(self)))]
        return LoggedRow(self._places[row], self._values, self._starts[row])

    def __len__(self) -> int:
        return len(self._places)


class HeldRows:
    """Rows as they are held: in columns, as a log may tell one in every few bytes."""

    def __init__(self) -> None:
        self._epochs = array("q")
        self._steps = array("d")  # NaN where none is told
        self._numbers = array("q")
        self._flags = bytearray()
        self._values = LoggedRows()

    def append(self, row: Row) -> None:
        """Hold one more."""
        self._epochs.append(row.epoch)
        self._steps.append(nan if row.step is None else row.step)
        self._numbers.append(row.number)
        self._flags.append(row.begins + 2 * row.untrained)
        self._values.append(row.values)

    def __getitem__(self, place: int) -> Row:
        step: float | None = self._steps[place]
        if isnan(self._steps[place]):
            step = None
        flags = self._flags[place]
        values = self._values[place]
        number = self._numbers[place]
        return Row(self._epochs[place], step, values, number, bool(flags & 1), flags > 1)

    def in_order(self) -> Iterator[Row]:
        """By epochs and steps; as they came where one of them tells a value twice."""
        places = sorted(range(len(self._flags)), key=lambda place: self[place].step or 0)
        places.sort(key=self._epochs.__getitem__)
        for _, same in groupby(
            map(self.__getitem__, places), key=lambda row: (row.epoch, row.step)
        ):
            names = [name for row in same for name in row.values]
            if len(set(names)) < len(names):
                places.sort()
                break
        return map(self.__getitem__, places)


class RowReader:
    """Rows of a table by our names, with what is decided for whole columns."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._columns = columns_of(
            table.columns, evaluated=table.evaluated, bare_is_train=table.of_trainer
        )
        self.notes = [*table.notes, *self._columns.notes]
        self._facts = _survey(table, self._columns)
        self._keep_numbers()
        bare = {column: f"/{name}" for column, name in self._columns.bare.items()}
        scores = {**self._columns.scores, **bare}
        self._percent = self._percentages(scores)
        # Shares beside a mean IoU are of pixels: their digits tell no number of pictures.
        self._of_pixels = any(name.endswith("/mean_iou") for name in scores.values())
        self.positions = table.of_trainer or self._facts.fractions
        whole = not self.positions
        self.sorted = whole and self._facts.backwards and not self._facts.again
        begins_at = self._facts.first_epoch
        if self.sorted:
            begins_at = self._facts.least_epoch
        self._first = 0
        if whole and begins_at == 1 == self._facts.least_epoch:
            self._first = 1
        validated = any(not name.startswith("train") for name in scores.values())
        self.by_step = self._columns.epoch is None and self._columns.step is not None and validated
        self.shares: dict[str, dict[str, set[Share]]] = {}  # of each split, of each column
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
        are brought together unless one stands twice, as when a run began again. Rows that somebody
        sorted otherwise are put into the order of their epochs, if each stands in one place.
        """
        if self._columns.split is None and not self._table.in_blocks and not self.sorted:
            return self._rows_in_order()
        held = HeldRows()
        for row in self._rows_in_order():
            held.append(row)
        return held.in_order()

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
            row = Row(number, self._step_of(entry), values, entry.number, entry.begins)
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
            if is_share(name) and not self._of_pixels:
                self._keep_share(name, value, cell, column)
        if nan_names:
            self._leave_out_gaps(values, nan_names)
        return values

    def _keep_share(self, name: str, value: float, cell: LogCell, column: str) -> None:
        shares = self.shares.setdefault(name.partition("/")[0], {}).setdefault(column, set())
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
        least, most = _range_of(name)
        if least - ROUNDING <= value <= most + ROUNDING:
            return
        rule = f"a number from {least:g} to {most:g}"
        cure = "Rename the column if it is something else."
        if (least, most) == (0, 1):
            rule = "a share from 0 to 1, or percentages in the whole column"
            cure = "Write all its values alike, or rename the column if it is something else."
        place = f"{self._table.name}, {self._table.place.format(entry.number)}: {name}"
        raise RecordError(place, rule, f"{value:g}", cure)

    def _keep_numbers(self) -> None:
        """Columns without a number are no scores; a word among numbers is a fault.

        Raises:
            RecordError: For such a word, or where nothing is left.
        """
        columns = self._columns
        numbers = self._facts.numbers
        for column, (number, cell) in self._facts.words.items():
            if numbers[column]:
                place = self._table.place.format(number)
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
        """Columns of shares in percent: they are called so, or most of their values are above 1."""
        facts = self._facts
        percent = set()
        for column, name in scores.items():
            least, most = _range_of(name)
            told = in_percent(column) and column not in facts.signs
            told = told or facts.above_one[column] > facts.numbers[column] / 2
            if most == 1 and least > -inf and told:
                percent.add(column)
        of_pixels = self._columns.of_pixels & scores.keys()
        if percent & of_pixels:  # beside others in percent a mean IoU of 0.9 is none of 90 %
            percent |= of_pixels
        if percent:
            what = listed([column for column in scores if column in percent])
            self.notes.append(f"Taken as percentages, and divided by 100: {what}.")
        return percent

    def _note_what_is_missing(self) -> None:
        facts = self._facts
        if self._first == 1:
            self.notes.append("The first epoch of the file is 1, so it is taken to count from 1.")
        if self.sorted:
            self.notes.append(
                "The rows were not in the order of their epochs, and were put into it."
            )
        if self.by_step:
            self.notes.append("The log tells steps and no epochs: each evaluation counts as one.")
        for split in sorted(facts.gaps - {"train"}):
            if facts.nan_rows[split]:
                what = f"NaN in all of {split} was taken as not measured"
                self.notes.append(f"{what}: {facts.nan_rows[split]} of {facts.rows} rows.")
        if facts.other_splits:
            what = "Rows of other splits than train, val and test were left out"
            self.notes.append(f"{what}: {listed(facts.other_splits)}.")
