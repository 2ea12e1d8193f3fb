"""CSV files, or what is like them: the first line names the columns."""

import csv
import re
from collections import Counter, deque
from collections.abc import Iterator

from ptmetrics.errors import RecordError
from ptmetrics.record.foreign_names import EPOCH_NAMES, listed, read_name
from ptmetrics.record.foreign_table import Entry, Table, check_columns, lines_of, number_of

_CSV_CURE = "Export the log again, with one header line and as many cells in every line."
_ONE_EACH = "Where it is the log of two models, write one file for each."
_TOOLS = (
    ("fastai's CSVLogger", {"epoch", "train_loss", "valid_loss", "time"}),
    ("timm's summary.csv", {"epoch", "train_loss", "eval_loss"}),
    ("an evaluator of sentence-transformers", {"epoch", "steps"}),
    ("Ultralytics' results.csv", {"epoch", "train/box_loss"}),
    ("Lightning's CSVLogger", {"epoch", "step"}),
    ("Keras's CSVLogger", {"epoch", "loss"}),
)
"""Who writes a file with such columns, the first that fits."""
_SORTED = ("Lightning's CSVLogger", "Keras's CSVLogger")
"""Those that sort their columns, by which they are told from anybody's file."""
_EXACT = ("fastai's CSVLogger", "timm's summary.csv", "an evaluator of sentence-transformers")
_COMMENT = re.compile(r"^#.*$", re.MULTILINE)
_OF_A_CHART = re.compile(r"(.+) - (.+)")  # Weights & Biases: "NAME OF THE RUN - val_loss"


def read_csv(name: str, text: str) -> Table:
    """Read a log whose first line names its columns.

    Cells are parted by commas, semicolons, tabs or bars, whichever the first line holds most of,
    else by blanks. The first line may stand again further down, where runs were appended. Lines
    that begin with "#" are comments, but for the names of the columns. The last line may be cut
    off, as by a process that was killed.

    Args:
        name: The file, for messages.
        text: Its content.

    Raises:
        RecordError: If lines are ragged, or two columns have one name.
    """
    text = _without_comments(text)
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(",;\t|", key=first.count)
    if delimiter not in first.strip():
        delimiter = " "
    lines = _csv_lines(name, text, delimiter)
    _, header = next(lines, (1, []))
    _check_header(name, header)
    text, notes = _without_torn_line(name, text, delimiter, len(header))
    columns = _without_run_name(name, header)
    told = set(columns)
    tool = next((tool for tool, wanted in _TOOLS if wanted <= told), "a CSV file")
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
            yield Entry(number, dict(zip(columns, cells, strict=False)), begins)
            begins = False

    return Table(name, tool, columns, entries, notes=notes, exact=tool in _EXACT)


def _without_comments(text: str) -> str:
    """Comments as empty lines, so that lines keep their numbers.

    The last of those at the top names the columns where numbers follow, as `numpy.savetxt` writes.
    """
    if "#" not in text:
        return text
    start = end = 0
    for line in lines_of(text):
        if not line.startswith("#"):
            if not re.match(r"[\s\"]*[-+.\d]", line):
                start = end
            break
        start = end
        end += len(line)
    names = text[start:end].lstrip("# ")
    return _COMMENT.sub("", text[:start]) + names + _COMMENT.sub("", text[end:])


def _without_run_name(name: str, header: list[str]) -> list[str]:
    """The columns of a chart of Weights & Biases, without the run that stands in front of each.

    Raises:
        RecordError: If they are of several runs.
    """
    parted = [_OF_A_CHART.fullmatch(column) for column in header]
    runs = {each[1] for each in parted if each}
    if len(runs) > 1:
        raise RecordError(name, "one run", f"{len(runs)}: {listed(sorted(runs))}", _ONE_EACH)
    return [each[2] if each else column for each, column in zip(parted, header, strict=True)]


def _csv_lines(name: str, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each line with its number and as many cells as the first.

    Raises:
        RecordError: If one has more or fewer.
    """
    width = 0
    for number, cells in _rows(name, text, delimiter):
        width = width or len(cells)
        if len(cells) < width or any(cells[width:]):
            rule = f"{width} cells as in the first line"
            raise RecordError(f"{name}, line {number}", rule, f"{len(cells)} cells", _CSV_CURE)
        yield number, cells[:width]


def _rows(name: str, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of each line with its number, stripped; empty ones are left out."""
    reader = csv.reader(lines_of(text), delimiter=delimiter, skipinitialspace=delimiter == " ")
    closed = delimiter == "|" and text.lstrip().startswith("|")
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if closed:  # the bar at the end is missing where a line was cut off
                stripped = stripped[1 : len(stripped) - (stripped[-1] == "")]
            if stripped in ([], [""]) or (delimiter == "|" and _is_ruler(stripped)):
                continue
            yield reader.line_num, stripped
    except csv.Error as error:
        place = f"{name}, line {reader.line_num}"
        raise RecordError(place, "a line of CSV", str(error), _CSV_CURE) from None


def _without_torn_line(name: str, text: str, delimiter: str, width: int) -> tuple[str, list[str]]:
    """The text without a last line that was cut off, and a note of it.

    It is one that has no end, and too few cells or no number where the line above has one. That a
    number itself was cut off can only be suspected.
    """
    if text.rstrip(" \t").endswith(("\n", "\r")):
        return text, []
    rows = deque(_rows(name, text, delimiter), maxlen=2)
    if len(rows) < 2:
        return text, []
    (_, above), (number, last) = rows
    place = f"The last line ({number})"
    if len(last) < width or (_is_word(last[-1]) and not _is_word(above[-1])):
        end = max(text.rfind("\n"), text.rfind("\r")) + 1
        return text[:end], [f"{place} is cut off, and was left out."]
    if len(last[-1]) < len(above[-1]) and not _is_word(above[-1]):
        why = "has no end, and its last number is shorter than the one above"
        return text, [f"{place} {why}: it may be cut off."]
    return text, []


def _is_word(cell: str) -> bool:
    """Whether a cell holds something else than a number or nothing."""
    try:
        number_of(cell)
    except ValueError:
        return True
    return False


def _is_ruler(cells: list[str]) -> bool:
    """Whether it is the line below the head of a Markdown table."""
    return all(re.fullmatch(r":?-+:?", cell) for cell in cells)


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
        raise RecordError(name, rule, got, f"{_CSV_CURE} {_ONE_EACH}")


def _check_no_header(name: str, number: int, cells: list[str], header: list[str]) -> None:
    """Refuse the header of another log in the middle of this one."""
    place = next(
        (i for i, column in enumerate(header) if read_name(column).sort in EPOCH_NAMES), None
    )
    if place is not None and read_name(cells[place]).sort in EPOCH_NAMES:
        other = [cell for cell in cells if cell not in header]
        rule = "one log with one header"
        got = f"another header, with {listed(other)}"
        raise RecordError(f"{name}, line {number}", rule, got, _ONE_EACH)
