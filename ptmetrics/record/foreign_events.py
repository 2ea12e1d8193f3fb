"""Event files of TensorBoard, read by the package tensorboard where it is installed."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ptmetrics.errors import RecordError
from ptmetrics.record.foreign_names import listed, read_name
from ptmetrics.record.foreign_table import Entry, LogCell, Table, check_columns
from ptmetrics.record.printable import quantity

_ACCUMULATOR = "tensorboard.backend.event_processing.event_accumulator"
_TENSORS = "tensorboard.util.tensor_util"
_EVENT_LOADER = "tensorboard.backend.event_processing.event_file_loader"
_CHECKSUMS = "tensorboard.compat.tensorflow_stub.pywrap_tensorflow"
LENGTH_BYTES = 8  # of an event, before it
CHECKSUM_BYTES = 4  # behind its length, and behind itself
HEAD_BYTES = LENGTH_BYTES + CHECKSUM_BYTES


def event_files(path: Path) -> list[Path]:
    """The event files at a path: the file itself, or those in a folder and right below it."""
    if path.is_file():
        return [path] if "tfevents" in path.name else []
    return sorted([*path.glob("*tfevents*"), *path.glob("*/*tfevents*")])


def read_events(path: Path) -> Table:
    """Read the scalars of one run: a file, or a folder with the files of its splits below it.

    Args:
        path: The file or folder.

    Raises:
        RecordError: If tensorboard is not installed, nothing can be read, or there are several
            runs.
    """
    folders = [path]
    if path.is_dir():
        folders = sorted({file.parent for file in event_files(path)})
    columns: dict[str, None] = {"step": None}
    by_step: dict[int, dict[str, LogCell]] = {}
    owners: dict[str, str] = {}
    notes: list[str] = []
    for folder in folders:
        below = ""
        if folder != path and (len(folders) > 1 or _is_split(folder.name, folder.name)):
            below = folder.name
        for tag, step, value in _scalars(folder):
            column = _column_of(below, tag)
            other = owners.setdefault(tag, below)
            if other != below and not _is_split(other, below):
                got = f"several, below {listed([owners[tag], below])}"
                raise RecordError(str(path), "one run", got, "Name the folder of one of them.")
            columns.setdefault(column)
            by_step.setdefault(step, {"step": step})[column] = value
        own = [file for file in event_files(folder) if folder in (file, file.parent)]
        notes += filter(None, map(_damage_of, own))
    check_columns(str(path), list(columns))

    def entries() -> Iterator[Entry]:
        for step in sorted(by_step):
            yield Entry(step, by_step[step])

    return Table(str(path), "TensorBoard", list(columns), entries, "step {}", notes)


def _is_split(first: str, second: str) -> bool:
    """Whether two folders hold two splits of one run, and not two runs."""
    return bool(read_name(f"{first}/loss").split and read_name(f"{second}/loss").split)


def _column_of(below: str, tag: str) -> str:
    """The name of a score; `add_scalars("loss", {"val": …})` writes "loss" into a folder "loss_val"."""
    front = tag.replace("/", "_") + "_"
    if below.startswith(front):
        return f"{tag}/{below.removeprefix(front)}"
    if below:
        return f"{below}/{tag}"
    return tag


def _scalars(path: Path) -> Iterator[tuple[str, int, float]]:
    """Each scalar that was logged: its tag, step and value."""
    try:
        accumulator: Any = importlib.import_module(_ACCUMULATOR)
        tensors: Any = importlib.import_module(_TENSORS)
    except ImportError as error:
        rule = "the package tensorboard, which reads event files"
        raise RecordError(str(path), rule, str(error), "pip install tensorboard") from error
    events = accumulator.EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
    try:
        events.Reload()
        tags = events.Tags()
    except Exception as error:  # whatever a damaged file does to a reader that is not ours
        cure = "Copy the event file again."
        raise RecordError(
            str(path), "event files", f"{type(error).__name__}: {error}", cure
        ) from None
    for tag in tags["scalars"]:
        for event in events.Scalars(tag):
            yield tag, event.step, event.value
    for tag in tags["tensors"]:
        for event in events.Tensors(tag):
            value = tensors.make_ndarray(event.tensor_proto)
            if value.ndim == 0 and value.dtype.kind in "fiu":
                yield tag, event.step, float(value)


def _damage_of(file: Path) -> str:
    """What of a file cannot be read, as a sentence: tensorboard ends at the first checksum that is wrong."""
    loader: Any = importlib.import_module(_EVENT_LOADER)
    checksums: Any = importlib.import_module(_CHECKSUMS)
    read = sum(1 for _ in loader.RawEventFileLoader(str(file)).Load())
    size = file.stat().st_size
    with file.open("rb") as stream:
        for _ in range(read + 1):
            head = stream.read(HEAD_BYTES)
            length = int.from_bytes(head[:LENGTH_BYTES], "little")
            end = stream.tell() + length + CHECKSUM_BYTES
            stream.seek(min(end, size))
    checksum = int.from_bytes(head[LENGTH_BYTES:], "little")
    right = checksum == checksums.masked_crc32c(head[:LENGTH_BYTES])
    under_way = right and end > size  # an event that is being written
    if len(head) < HEAD_BYTES or under_way:
        return ""
    return f"{file.name} is damaged behind its first {quantity(read, 'event')}. Copy it again."
