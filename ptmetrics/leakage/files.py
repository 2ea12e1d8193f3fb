"""Sets that lie in files: folders of pictures, CSV, JSON lines, parquet."""

import csv
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ptmetrics.errors import DataError, DependencyError
from ptmetrics.leakage.samples import TARGET_KEYS

PICTURES = frozenset(
    (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
)
TableRow = Mapping[str, Any]


class PictureFiles:
    """The pictures below a folder, by path; the folder that one lies in is its label.

    Args:
        folder: Hidden files and folders in it are passed over.

    Attributes:
        samples: Path and label of each.
    """

    def __init__(self, folder: Path) -> None:
        self.samples: list[tuple[str, str]] = []
        for place, folders, names in os.walk(folder, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                if Path(name).suffix.lower() in PICTURES and not name.startswith("."):
                    self.samples.append((str(Path(place, name)), Path(place).name))
        self.samples.sort()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Image.Image, str]:
        path, label = self.samples[index]
        with Image.open(path) as image:
            return image.convert("RGB"), label


class TableFile:
    """The rows of a CSV, JSON lines or parquet file, read anew each time.

    Args:
        path: The file; its ending tells what it is.
        label: Column of the label; None takes one that is called so.

    Raises:
        DataError: If its ending is another one.
    """

    def __init__(self, path: Path, label: str | None = None) -> None:
        self._path = path
        self._label = label
        readers: dict[str, Callable[[Path], Iterator[TableRow]]] = {
            ".csv": _csv_rows,
            ".tsv": _csv_rows,
            ".jsonl": _json_rows,
            ".ndjson": _json_rows,
            ".parquet": _parquet_rows,
        }
        if path.suffix.lower() not in readers:
            rule = f"a folder of pictures or a file that ends in {', '.join(readers)}"
            cure = "Convert it, or call pm.audit with what reads it."
            raise DataError(str(path), rule, repr(path.suffix), cure)
        self._read = readers[path.suffix.lower()]

    def __iter__(self) -> Iterator[TableRow]:
        for read in self._read(self._path):
            row = {key: _as_in_csv(value) for key, value in read.items()}
            if self._label is None:
                yield row
            else:
                others = {key: row[key] for key in row if key not in TARGET_KEYS}
                yield {**others, "label": _column(row, self._label, self._path)}


def _as_in_csv(value: Any) -> Any:
    """Numbers as text, so that files of two kinds can be compared; of truth values 0 and 1."""
    if isinstance(value, int | float):
        return str(+value)
    return value


def _column(row: TableRow, name: str, path: Path) -> Any:
    if name not in row:
        cure = "Name one that it has."
        raise DataError(str(path), f"a column {name!r}", ", ".join(map(str, row)), cure)
    return row[name]


def _csv_rows(path: Path) -> Iterator[TableRow]:
    delimiter = ","
    if path.suffix.lower() == ".tsv":
        delimiter = "\t"
    with _opened_set(path) as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        for row in reader:
            if None in row or None in row.values():
                rule = f"{len(reader.fieldnames or ())} values as in its first line"
                got = "another number"
                raise DataError(f"{path}, line {reader.line_num}", rule, got, "Mend the line.")
            yield row


def _json_rows(path: Path) -> Iterator[TableRow]:
    with _opened_set(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                place = f"{path}, line {number}"
                raise DataError(place, "JSON", str(error), "Mend the line.") from error
            if not isinstance(row, dict):
                got = type(row).__name__
                raise DataError(f"{path}, line {number}", "an object", got, "Mend the line.")
            yield row


def _opened_set(path: Path) -> Any:
    try:
        return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        got = error.strerror or str(error)
        raise DataError(str(path), "a file that can be read", got, "Check the path.") from error


def _parquet_rows(path: Path) -> Iterator[TableRow]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        cure = "Run pip install 'ptmetrics[leakage]'."
        raise DependencyError(
            str(path), "pyarrow, which reads it", "no such package", cure
        ) from error
    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except (OSError, ValueError) as error:  # ValueError: of pyarrow
        raise DataError(str(path), "a parquet file", str(error), "Write it anew.") from error


def set_of(path: Path, label: str | None = None) -> PictureFiles | TableFile:
    """The set at a path.

    Raises:
        DataError: If there is nothing, or nothing that is known.
    """
    if path.is_dir():
        return PictureFiles(path)
    if not path.exists():
        cure = "Check the path."
        raise DataError(str(path), "a folder or a file", "nothing at that path", cure)
    return TableFile(path, label)


def row_sample(
    train: TableFile, val: TableFile, unused: Collection[str]
) -> Callable[[TableRow], Any]:
    """What is compared of the rows of two tables: numbers where all are, else their text.

    Args:
        train: One of them.
        val: The other.
        unused: Columns that are not compared, beside those of labels.

    Raises:
        DataError: If they have other columns.
    """
    columns = [_columns_of(table, unused) for table in (train, val)]
    if columns[0] != columns[1]:
        rule = f"columns as in the training set ({', '.join(columns[0])})"
        cure = "Give both the same columns."
        raise DataError("val", rule, ", ".join(columns[1]) or "none", cure)
    names = columns[0]
    numeric = all(
        _is_number(row[name]) for table in (train, val) for row in table for name in names
    )

    def sample(row: TableRow) -> Any:
        if numeric:
            return np.array([float(row[name] or "nan") for name in names])
        if len(names) == 1:
            return str(row[names[0]])
        return "; ".join(f"{name}: {row[name]}" for name in names)

    return sample


def _columns_of(table: TableFile, unused: Collection[str]) -> list[str]:
    first = next(iter(table), {})
    return [name for name in first if name not in TARGET_KEYS and name not in unused]


def _is_number(value: Any) -> bool:
    if value is None or value == "":
        return True
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
