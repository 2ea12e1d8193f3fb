"""A log of another tool as rows of named cells: what its formats are read into."""

import re
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from math import inf, isnan
from typing import NamedTuple

from ptmetrics.errors import RecordError
from ptmetrics.record.foreign_names import KEY_NAMES, listed, read_name

MAX_COLUMNS = 10_000
LogCell = str | float | bool | None
"""A cell as the format has it: text of a CSV file, a JSON value; None where there is none."""
_EMPTY = frozenset({"", "na", "n/a", "#n/a", "<na>", "none", "null", "-", "--", "–", "—", "no log"})
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE)
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+\.\d+")
_THOUSANDS_BY_POINT = re.compile(r"[+-]?\d{1,3}(\.\d{3})+,\d+")


class Entry(NamedTuple):
    """A row of a log.

    Attributes:
        number: Where it stands: its line, as a rule; `Table.place` says what it counts.
        cells: Its cells by column; one that was not logged may be absent.
        begins: Whether the header stands again in front of it.
    """

    number: int
    cells: Mapping[str, LogCell]
    begins: bool = False


@dataclass(frozen=True)
class Table:
    """A log as rows of named cells.

    Attributes:
        name: The file, for messages.
        tool: Who writes such files, in words.
        columns: All columns.
        entries: Gives the rows, as often as it is called.
        place: Where a row stands in words, with its number.
        notes: What was decided while reading, as sentences.
        evaluated: Columns that stand in rows of evaluations alone.
        of_trainer: Whether Hugging Face's Trainer wrote it: epochs are positions, 1.0 is the end of
            the first, and what names no split is training's.
        in_blocks: Whether rows of one epoch may stand far apart, as one score after the other.
        exact: Whether the tool weighs the last batch, which may be smaller, by its rows.
        sizes: How many samples a split has, where the tool tells it beside.
        best_path: The checkpoint that the tool holds for the best; empty where it tells none.
        best_step: The step of that checkpoint.
        best_value: The value that it was chosen by.
        last_step: The step at which training ended.
    """

    name: str
    tool: str
    columns: list[str]
    entries: Callable[[], Iterator[Entry]]
    place: str = "line {}"
    notes: list[str] = field(default_factory=list)
    evaluated: Set[str] = frozenset()
    of_trainer: bool = False
    in_blocks: bool = False
    exact: bool = False
    sizes: Mapping[str, int] = field(default_factory=dict)
    best_path: str = ""
    best_step: float | None = None
    best_value: float | None = None
    last_step: float | None = None


def lines_of(text: str) -> Iterator[str]:
    """The lines of a log with their ends, one after the other: a file in memory takes 4 bytes a letter."""
    for line in _LINE.finditer(text):
        yield line[0]


def number_of(cell: LogCell) -> float | None:
    """The number that a cell holds, None where it is empty.

    A percent sign divides by 100; a comma is a decimal comma, or parts thousands where there is a
    point behind it.

    Raises:
        ValueError: If it holds something else.

    Example:
        >>> number_of("0,25"), number_of("12.5 %"), number_of("No log")
        (0.25, 0.125, None)
    """
    if cell is None:
        return None
    if isinstance(cell, bool):
        raise ValueError(cell)
    if not isinstance(cell, str):
        return _float_of(cell)
    try:
        return float(cell)
    except ValueError:
        pass
    text = cell.strip()
    if text.lower() in _EMPTY:
        return None
    if text.endswith("%"):
        return float(_with_a_point(text[:-1].rstrip())) / 100
    return float(_with_a_point(text))


def number_or_none(cell: object) -> float | None:
    """The number in a cell that may hold anything; None for NaN and for what is none."""
    if not isinstance(cell, str | int | float):
        return None
    try:
        value = number_of(cell)
    except ValueError:
        return None
    if value is None or isnan(value):
        return None
    return value


def _float_of(number: float) -> float:
    """A whole number of JSON may lie beyond all floats."""
    try:
        return float(number)
    except OverflowError:
        pass
    if number < 0:
        return -inf
    return inf


def _with_a_point(text: str) -> str:
    if _DECIMAL_COMMA.fullmatch(text):
        return text.replace(",", ".")
    if _THOUSANDS.fullmatch(text):
        return text.replace(",", "")
    if _THOUSANDS_BY_POINT.fullmatch(text):
        return text.replace(".", "").replace(",", ".")
    return text


def digits_of(cell: LogCell) -> int:
    """How many decimals a cell is printed with, of a share: "12.5%" and 0.125 have three."""
    text = str(cell).strip().lower()
    more = 0
    if text.endswith("%"):
        text = text[:-1].rstrip()
        more = 2
    mantissa, _, exponent = text.partition("e")
    _, _, decimals = mantissa.replace(",", ".").partition(".")
    return len(decimals) - int(exponent or 0) + more


def tidied(table: Table) -> Table:
    """A log that holds one number a row, below "value", with its name beside it, as rows of numbers.

    Example:
        >>> rows = [Entry(2, {"step": "1", "tag": "val/loss", "value": "0.5"})]
        >>> table = tidied(Table("log.csv", "a CSV file", ["step", "tag", "value"], lambda: iter(rows)))
        >>> table.columns, next(table.entries()).cells
        (['step', 'val/loss'], {'step': '1', 'val/loss': '0.5'})
    """
    sorts = {read_name(column).sort: column for column in table.columns}
    value = sorts.get("value")
    key = next((sorts[sort] for sort in KEY_NAMES if sort in sorts), None)
    if value is None or key is None:
        return table
    others = [column for column in table.columns if column not in (key, value)]
    named = dict.fromkeys(str(entry.cells.get(key) or "") for entry in table.entries())

    def entries() -> Iterator[Entry]:
        for entry in table.entries():
            cells = {column: entry.cells.get(column) for column in others}
            cells[str(entry.cells.get(key) or "")] = entry.cells.get(value)
            yield entry._replace(cells=cells)

    columns = others + [name for name in named if name not in others]
    check_columns(table.name, columns)
    return replace(table, columns=columns, entries=entries, in_blocks=True)


def check_columns(name: str, columns: list[str]) -> None:
    """Refuse more columns than anybody logs.

    Raises:
        RecordError: If there are more than 10,000.
    """
    if len(columns) > MAX_COLUMNS:
        cure = "Export the scores alone, without weights or activations."
        raise RecordError(name, f"at most {MAX_COLUMNS} columns", str(len(columns)), cure)


def nothing_to_read(name: str, columns: list[str], more: str = "") -> RecordError:
    """The error of a log without any score."""
    got = f"the columns {listed(columns)}{more}"
    rule = "at least one column of scores with a number in it"
    cure = "Name columns as Keras and Lightning do: epoch, loss, val_loss, val_accuracy."
    return RecordError(name, rule, got, cure)
