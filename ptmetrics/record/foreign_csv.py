"""CSV files, or what is like them: the first line names the columns."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator

from ptmetrics.errors import RecordError
from ptmetrics.record.foreign_names import EPOCH_NAMES, listed, read_name
from ptmetrics.record.foreign_table import Entry, Table, check_columns

_CSV_CURE = "Export the log again, with one header line and as many cells in every line."
_TOOLS = (
    ("Lightning's CSVLogger", {"epoch", "step"}),
    ("fastai's CSVLogger", {"epoch", "train_loss", "valid_loss", "time"}),
    ("timm's summary.csv", {"epoch", "train_loss", "eval_loss"}),
    ("Ultralytics' results.csv", {"epoch", "train/box_loss"}),
    ("an evaluator of sentence-transformers", {"epoch", "steps"}),
    ("Keras's CSVLogger", {"epoch", "loss"}),
)
"""Who writes a file with such columns, the first that fits."""
_SORTED = frozenset({"Lightning's CSVLogger", "Keras's CSVLogger"})
"""Those that sort their columns, by which they are told from anybody's file."""


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
    lines = _csv_lines(name, text, delimiter)
    _, header = next(lines, (1, []))
    _check_header(name, header)
    told = set(header)
    tool = next((tool for tool, columns in _TOOLS if columns <= told), "a CSV file")
    if tool in _SORTED and header[1:] != sorted(header[1:]):
        tool = "a CSV file"

    def entries() -> Iterator[Entry]:
        begins = False
        lines = _csv_lines(name, text, delimiter)
        next(lines)
        for number, cells in lines:
            if cells == header:
                begins = True
                continue
            _check_no_header(name, number, cells, header)
            yield Entry(f"line {number}", dict(zip(header, cells, strict=False)), begins)
            begins = False

    return Table(name, tool, header, entries, exact=tool != "a CSV file")


def _csv_lines(name: str, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
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
                raise RecordError(place, rule, f"{len(cells)} cells", _CSV_CURE)
            yield reader.line_num, stripped[:width]
    except csv.Error as error:
        place = f"{name}, line {reader.line_num}"
        raise RecordError(place, "a line of CSV", str(error), _CSV_CURE) from None


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
    place = next(
        (i for i, column in enumerate(header) if read_name(column).sort in EPOCH_NAMES), None
    )
    if place is not None and read_name(cells[place]).sort in EPOCH_NAMES:
        other = [cell for cell in cells if cell not in header]
        rule = "one log with one header"
        cure = "It is the log of two runs with other columns: write one file for each."
        got = f"another header, with {listed(other)}"
        raise RecordError(f"{name}, line {number}", rule, got, cure)
