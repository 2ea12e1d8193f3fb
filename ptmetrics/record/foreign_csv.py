"""CSV files with one line for each epoch, or several: Lightning's, Keras's, or anybody's."""

import csv
import io
from collections.abc import Iterator

from ptmetrics.errors import RecordError
from ptmetrics.record.foreign_names import score_names
from ptmetrics.record.foreign_rows import Logged, Row, logged

MAX_COLUMNS = 10_000
SHOWN = 10
_EMPTY = frozenset({"", "NA", "None", "null"})
_CURE = "Export the log again, with one header line and as many cells in every line."


def read_csv(name: str, text: str) -> Logged:
    """Read a log whose first line names its columns.

    A line is an epoch where there is neither a column "epoch" nor "step". An empty cell was not logged; NaN is a
    NaN that was logged, except where the lines of an epoch have to be merged and no cell is empty: then it marks
    the gaps.

    Args:
        name: The file, for messages.
        text: Its content.

    Raises:
        RecordError: If lines are ragged, a cell is no number, or no column is a score.
    """
    table = _Table(name, text)
    return logged(table.tool, name, table.rows(), table.notes)


class _Table:
    """The header, what a first pass over the lines shows, and the rows of a second one."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self._delimiter = max(",;\t", key=text.partition("\n")[0].count)
        lines = self._lines()
        self._header = self._named(next(lines, (1, []))[1])
        names = score_names(self._header)
        self._scores = [
            (i, column, names[column]) for i, column in enumerate(self._header) if column in names
        ]
        self._epoch = self._header.index("epoch") if "epoch" in self._header else None
        self._first, self._nan_is_gap = 0, False
        self.notes: list[str] = []
        self._survey(lines)

    @property
    def tool(self) -> str:
        """Who writes such columns."""
        if self._epoch is not None and "step" in self._header:
            return "Lightning's CSVLogger"
        return "Keras's CSVLogger" if self._epoch == 0 and "loss" in self._header else "a CSV file"

    def rows(self) -> Iterator[Row]:
        """The lines that belong to an epoch, as numbers."""
        lines = self._lines()
        next(lines)
        for count, (line, cells) in enumerate(lines):
            epoch = self._epoch_of(line, cells, count)
            if epoch is not None:
                yield Row(
                    epoch - self._first, self._values(line, cells), f"{self._name}, line {line}"
                )

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(io.StringIO(self._text, newline=""), delimiter=self._delimiter)
        width = 0
        try:
            for cells in reader:
                if not any(cell.strip() for cell in cells) and len(cells) < 2:
                    continue  # an empty line
                width = width or len(cells)
                if len(cells) != width:
                    place = f"{self._name}, line {reader.line_num}"
                    raise RecordError(
                        place, f"{width} cells as in the first line", f"{len(cells)} cells", _CURE
                    )
                yield reader.line_num, [cell.strip() for cell in cells]
        except csv.Error as error:
            raise RecordError(
                f"{self._name}, line {reader.line_num}", "a line of CSV", str(error), _CURE
            ) from None

    def _named(self, header: list[str]) -> list[str]:
        rule = "a first line with different column names"
        repeated = [column for column in dict.fromkeys(header) if header.count(column) > 1]
        if len(header) > MAX_COLUMNS:
            raise RecordError(self._name, f"at most {MAX_COLUMNS} columns", str(len(header)), _CURE)
        if not header or repeated:
            got = f"{_listed(repeated)} more than once" if header else "an empty file"
            raise RecordError(self._name, rule, got, _CURE)
        if "epoch" not in header and "step" in header:
            cure = "Log the epoch too, or remove the column 'step' if every line is an epoch."
            raise RecordError(
                self._name, "a column 'epoch'", f"the columns {_listed(header)}", cure
            )
        return header

    def _survey(self, lines: Iterator[tuple[int, list[str]]]) -> None:
        numbers: set[int] = set()
        empty, lost, epochs = False, 0, []
        for count, (line, cells) in enumerate(lines):
            empty = empty or any(cells[i] in _EMPTY for i, _, _ in self._scores)
            numbers.update(
                i for i, _, _ in self._scores if i not in numbers and _is_number(cells[i])
            )
            epoch = self._epoch_of(line, cells, count)
            lost += epoch is None and any(cells[i] not in _EMPTY for i, _, _ in self._scores)
            if epoch is not None:
                epochs.append(epoch)
        self._scores = [score for score in self._scores if score[0] in numbers]
        if not self._scores:
            cure = "Name columns as Keras and Lightning do: loss, val_loss, val_accuracy."
            got = f"the columns {_listed(self._header)}" + (
                "" if epochs else " and no line below them"
            )
            raise RecordError(
                self._name, "at least one column of scores with a number in it", got, cure
            )
        self._nan_is_gap = not empty and len(set(epochs)) < len(epochs)
        self._first = (
            1 if self._epoch is not None and epochs and epochs[0] == 1 == min(epochs) else 0
        )
        self._tell(lost)

    def _tell(self, lost: int) -> None:
        read = {column for _, column, _ in self._scores} | {"epoch", "step"}
        if others := [column for column in self._header if column not in read]:
            self.notes.append(
                f"Columns that are no scores, or a second spelling of one, were not read: {_listed(others)}."
            )
        if lost:
            self.notes.append(f"Lines without an epoch were left out: {lost}.")
        if self._first:
            self.notes.append("The first epoch of the file is 1, so it is taken to count from 1.")

    def _epoch_of(self, line: int, cells: list[str], count: int) -> int | None:
        if self._epoch is None:
            return count
        cell = cells[self._epoch]
        if cell in _EMPTY or cell.lower() == "nan":
            return None
        value = float(cell) if _is_number(cell) else -1.0
        if not (0 <= value < 2**53 and value == int(value)):
            place, cure = (
                f"{self._name}, line {line}: epoch",
                "Write the number of the epoch, such as 0.",
            )
            raise RecordError(place, "a whole number from 0", _shown(cell), cure)
        return int(value)

    def _values(self, line: int, cells: list[str]) -> dict[str, float]:
        values: dict[str, float] = {}
        for i, column, name in self._scores:
            if cells[i] in _EMPTY or (self._nan_is_gap and cells[i].lower() == "nan"):
                continue
            if not _is_number(cells[i]):
                place = f"{self._name}, line {line}: {_shown(column)}"
                cure = "Write numbers with a decimal point, and leave a cell empty where nothing was logged."
                raise RecordError(place, "a number", _shown(cells[i]), cure)
            values[name] = float(cells[i])
        return values


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


def _listed(columns: list[str]) -> str:
    return ", ".join(map(_shown, columns[:SHOWN])) + (", …" if len(columns) > SHOWN else "")
