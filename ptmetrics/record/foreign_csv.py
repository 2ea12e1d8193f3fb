"""CSV files with one line for each epoch, or several: Lightning's, Keras's, or anybody's."""

import csv
import io
from collections import Counter
from collections.abc import Iterator

from ptmetrics.errors import RecordError
from ptmetrics.record.foreign_names import score_names
from ptmetrics.record.foreign_rows import ForeignLog, Row, merge_rows

MAX_COLUMNS = 10_000
SHOWN_COLUMNS = 10
_EMPTY = frozenset({"", "NA", "None", "null"})
_CURE = "Export the log again, with one header line and as many cells in every line."

Lines = Iterator[tuple[int, list[str]]]


def read_csv(name: str, text: str) -> ForeignLog:
    """Read a log whose first line names its columns.

    A line is an epoch where there is neither a column "epoch" nor "step". An empty cell was not
    logged. NaN is a NaN that was logged, except where the lines of an epoch have to be merged and
    no cell is empty: then it marks the gaps.

    Args:
        name: The file, for messages.
        text: Its content.

    Raises:
        RecordError: If lines are ragged, a cell is no number, or no column is a score.
    """
    table = _Table(name, text)
    return merge_rows(table.tool, name, table.rows(), table.notes)


class _Table:
    """The header, what a first pass over the lines shows, and the rows of a second one."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text
        self._delimiter = max(",;\t", key=text.partition("\n")[0].count)
        self.notes: list[str] = []
        lines = self._lines()
        _, self._header = next(lines, (1, []))
        self._check_header()
        self._epoch: int | None = None  # the place of that column
        if "epoch" in self._header:
            self._epoch = self._header.index("epoch")
        names = score_names(self._header)
        self._scores: list[tuple[int, str, str]] = []  # place, name there, our name
        for place, column in enumerate(self._header):
            if column in names:
                self._scores.append((place, column, names[column]))
        self._first = 0
        self._nan_is_gap = False
        self._survey(lines)

    @property
    def tool(self) -> str:
        """Who writes such columns."""
        if self._epoch is not None and "step" in self._header:
            return "Lightning's CSVLogger"
        if self._epoch == 0 and "loss" in self._header:
            return "Keras's CSVLogger"
        return "a CSV file"

    def rows(self) -> Iterator[Row]:
        """The lines that belong to an epoch, as numbers."""
        lines = self._lines()
        next(lines)
        for count, (line, cells) in enumerate(lines):
            epoch = self._epoch_of(line, cells, count)
            if epoch is not None:
                place = f"{self._name}, line {line}"
                yield Row(epoch - self._first, self._values(place, cells), place)

    def _lines(self) -> Lines:
        """Each line with its number, stripped; empty ones are left out."""
        reader = csv.reader(io.StringIO(self._text, newline=""), delimiter=self._delimiter)
        width = 0
        try:
            for cells in reader:
                stripped = [cell.strip() for cell in cells]
                if stripped in ([], [""]):
                    continue
                width = width or len(cells)
                if len(cells) != width:
                    place = f"{self._name}, line {reader.line_num}"
                    rule = f"{width} cells as in the first line"
                    raise RecordError(place, rule, f"{len(cells)} cells", _CURE)
                yield reader.line_num, stripped
        except csv.Error as error:
            place = f"{self._name}, line {reader.line_num}"
            raise RecordError(place, "a line of CSV", str(error), _CURE) from None

    def _check_header(self) -> None:
        header = self._header
        if len(header) > MAX_COLUMNS:
            raise RecordError(self._name, f"at most {MAX_COLUMNS} columns", str(len(header)), _CURE)
        repeated = [column for column, times in Counter(header).items() if times > 1]
        got = ""
        if repeated:
            got = f"{_columns_listed(repeated)} more than once"
        if not header:
            got = "an empty file"
        if got:
            rule = "a first line with different column names"
            raise RecordError(self._name, rule, got, _CURE)
        if "epoch" not in header and "step" in header:
            got = f"the columns {_columns_listed(header)}"
            cure = "Log the epoch too, or remove the column 'step' if every line is an epoch."
            raise RecordError(self._name, "a column 'epoch'", got, cure)

    def _survey(self, lines: Lines) -> None:
        """Look at all cells once: which columns hold numbers, how epochs count, what NaN means."""
        places = [place for place, _, _ in self._scores]
        filled: set[int] = set()  # columns with a number in them
        empty = False
        without_epoch = 0
        epochs = []
        for count, (line, cells) in enumerate(lines):
            logged = [place for place in places if cells[place] not in _EMPTY]
            empty = empty or len(logged) < len(places)
            filled.update(p for p in logged if p not in filled and _as_number(cells[p]) is not None)
            epoch = self._epoch_of(line, cells, count)
            if epoch is not None:
                epochs.append(epoch)
            elif logged:
                without_epoch += 1
        self._scores = [score for score in self._scores if score[0] in filled]
        if not self._scores:
            got = f"the columns {_columns_listed(self._header)}"
            if not epochs:
                got += " and no line below them"
            rule = "at least one column of scores with a number in it"
            cure = "Name columns as Keras and Lightning do: loss, val_loss, val_accuracy."
            raise RecordError(self._name, rule, got, cure)
        self._nan_is_gap = not empty and len(set(epochs)) < len(epochs)
        read = {"epoch", "step", *(column for _, column, _ in self._scores)}
        others = [column for column in self._header if column not in read]
        if others:
            what = "Columns that are no scores, or a second spelling of one, were not read"
            self.notes.append(f"{what}: {_columns_listed(others)}.")
        if without_epoch:
            self.notes.append(f"Lines without an epoch were left out: {without_epoch}.")
        if self._epoch is not None and epochs and epochs[0] == 1 == min(epochs):
            self._first = 1
            self.notes.append("The first epoch of the file is 1, so it is taken to count from 1.")

    def _epoch_of(self, line: int, cells: list[str], count: int) -> int | None:
        if self._epoch is None:
            return count
        cell = cells[self._epoch]
        if cell in _EMPTY or cell.lower() == "nan":
            return None
        value = _as_number(cell)
        if value is None or not (0 <= value < 2**53 and value == int(value)):
            place = f"{self._name}, line {line}: epoch"
            cure = "Write the number of the epoch, such as 0."
            raise RecordError(place, "a whole number from 0", _clipped(cell), cure)
        return int(value)

    def _values(self, where: str, cells: list[str]) -> dict[str, float]:
        values: dict[str, float] = {}
        for place, column, name in self._scores:
            cell = cells[place]
            if cell in _EMPTY or (self._nan_is_gap and cell.lower() == "nan"):
                continue
            value = _as_number(cell)
            if value is None:
                cure = "Write numbers with a decimal point, and leave a cell without one empty."
                raise RecordError(f"{where}: {_clipped(column)}", "a number", _clipped(cell), cure)
            values[name] = value
        return values


def _as_number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _clipped(text: str) -> str:
    if len(text) > 40:
        text = text[:40] + "…"
    return repr(text)


def _columns_listed(columns: list[str]) -> str:
    listed = ", ".join(map(_clipped, columns[:SHOWN_COLUMNS]))
    if len(columns) > SHOWN_COLUMNS:
        listed += ", …"
    return listed
