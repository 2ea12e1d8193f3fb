"""CSV files, or what is like them: the first line names the columns."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator

from ptmetrics.errors import RecordError
from ptmetrics.record.foreign_names import EPOCH, listed, name_of
from ptmetrics.record.foreign_table import Entry, Table, check_columns

_CURE = "Export the log again, with one header line and as many cells in every line."
_TOOLS = (
    ("Lightning's CSVLogger", {"epoch", "step"}),
    ("Ultralytics' results.csv", {"epoch", "train/box_loss"}),
    ("timm's summary.csv", {"epoch", "train_loss", "eval_loss"}),
    ("fastai's CSVLogger", {"epoch", "train_loss", "valid_loss", "time"}),
    ("an evaluator of sentence-transformers", {"epoch", "steps"}),
    ("Keras's CSVLogger", {"epoch", "loss"}),
)
"""Who writes a file with such columns, the first that fits; for the note alone."""


def read_csv(name: str, text: str) -> Table:
    """Read a log whose first line names its columns.

    Cells are parted by commas, semicolons or tabs, whichever the first line holds most of. The
    first line may stand again further down, where runs were appended.

    Args:
        name: The file, for messages.
        text: Its content.

    Raises:
        RecordError: If lines are ragged, or two columns have one name.
    """
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    lines = _lines(name, text, delimiter)
    _, header = next(lines, (1, []))
    _check_header(name, header)
    told = set(header)
    tool = next((tool for tool, columns in _TOOLS if columns <= told), "a CSV file")

    def entries() -> Iterator[Entry]:
        begins = False
        lines = _lines(name, text, delimiter)
        next(lines)
        for number, cells in lines:
            if cells == header:
                begins = True
                continue
            _check_no_header(name, number, cells, header)
            yield Entry(f"line {number}", dict(zip(header, cells, strict=False)), begins)
            begins = False

    return Table(name, tool, header, entries)


def _lines(name: str, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each line with its number, stripped; empty ones are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    width = 0
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if stripped in ([], [""]):
                continue
            width = width or len(cells)
            if len(cells) < width or any(stripped[width:]):
                rule = f"{width} cells as in the first line"
                place = f"{name}, line {reader.line_num}"
                raise RecordError(place, rule, f"{len(cells)} cells", _CURE)
            yield reader.line_num, stripped[:width]
    except csv.Error as error:
        place = f"{name}, line {reader.line_num}"
        raise RecordError(place, "a line of CSV", str(error), _CURE) from None


def _check_header(name: str, header: list[str]) -> None:
    check_columns(name, header)
    told = set(header)
    repeated = [column for column, times in Counter(header).items() if times > 1 and column]
    # pandas calls the second column of a name "loss.1".
    repeated += [column for column in header if re.sub(r"\.\d+$", "", column) in told - {column}]
    got = ""
    if repeated:
        got = f"{listed(repeated)} more than once"
    if not header:
        got = "an empty file"
    if got:
        rule = "a first line with different column names"
        cure = "Where it is the log of two models, write one file for each."
        raise RecordError(name, rule, got, cure)


def _check_no_header(name: str, number: int, cells: list[str], header: list[str]) -> None:
    """Refuse the header of another log in the middle of this one."""
    place = next((i for i, column in enumerate(header) if name_of(column).sort in EPOCH), None)
    if place is not None and name_of(cells[place]).sort in EPOCH:
        other = [cell for cell in cells if cell not in header]
        rule = "one log with one header"
        cure = "It is the log of two runs with other columns: write one file for each."
        got = f"another header, with {listed(other)}"
        raise RecordError(f"{name}, line {number}", rule, got, cure)


