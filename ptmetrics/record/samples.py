"""What became of each validation sample: one `.npy` file an evaluation, beside the journal.

`numpy.load(folder / "samples-12.npy")` gives the rows of epoch 12, with the fields of `CLASS_ROW`
or `POINT_ROW`. The epoch's line in the journal holds the checksum of its file, so that a torn,
stale or foreign one is told from it.
"""

import io
import os
import re
import stat
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ptmetrics.record.atomic import replace
from ptmetrics.record.events import EpochData, SamplesData

Rows = npt.NDArray[Any]  # of one of the two types below, shape (samples,)
CLASS_ROW = np.dtype([("predicted", "<i4"), ("target", "<i4"), ("loss", "<f4")])
"""Predicted class, −1 where the row is ignored or refused; target; negative log-likelihood or NaN."""
POINT_ROW = np.dtype([("error", "<f8"), ("target", "<f8")])
"""Prediction − target, NaN where the row is refused; target as given."""
MAX_ROWS = 10_000_000
_HEADER = 4096  # more than the header of such a file ever takes
_MAX_BYTES = _HEADER + MAX_ROWS * max(CLASS_ROW.itemsize, POINT_ROW.itemsize)
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_READ_FLAGS |= getattr(os, "O_BINARY", 0)
_READ_FLAGS |= getattr(os, "O_NONBLOCK", 0)  # a pipe in its place must not hang the reader
_NAME = re.compile(r"samples-(\d+)\.npy")


@dataclass(frozen=True)
class StoredSamples:
    """The samples of one evaluation.

    Attributes:
        rows: One row a sample, in the order in which they were validated; None without any.
        reason: Why there are none, as the end of a sentence; else None.
    """

    rows: Rows | None = None
    reason: str | None = None


NOT_STORED = StoredSamples(reason="no samples of it were kept")


class _RefusedError(Exception):
    """A file is not what the journal tells of it; the message says why."""


def samples_path(folder: Path, epoch: int) -> Path:
    """Name the file of an epoch. No name comes from a record."""
    return folder / f"samples-{epoch}.npy"


def write_samples(folder: Path, epoch: int, rows: Rows) -> SamplesData:
    """Put the samples of an epoch into a run folder, whole or not at all.

    Returns:
        What the epoch's line must hold.

    Raises:
        OSError: If it cannot be written; an older file of that name is kept then.
    """
    content = io.BytesIO()
    np.save(content, rows, allow_pickle=False)
    data = content.getvalue()
    replace(samples_path(folder, epoch), lambda file: file.write(data))
    return {"rows": len(rows), "crc": f"{zlib.crc32(data):08x}"}


def read_samples(folder: Path, epoch: EpochData) -> StoredSamples:
    """Read the samples of an epoch, as its line tells of them; what is wrong is a reason."""
    told = epoch.get("samples")
    if told is None:
        return NOT_STORED
    if "reason" in told:
        return StoredSamples(reason=told["reason"])
    path = samples_path(folder, epoch["epoch"])
    try:
        data = _content(path)
        if f"{zlib.crc32(data):08x}" != told.get("crc"):
            raise _RefusedError("is torn, altered or of another run: its checksum does not fit")
        return StoredSamples(_parsed_rows(data))
    except FileNotFoundError:
        kept = "samples of the best and the last evaluation alone are kept"
        return StoredSamples(reason=f"{path.name} is gone: {kept}")
    except OSError as error:
        return StoredSamples(reason=f"{path.name} was refused: {error.strerror or error}")
    except _RefusedError as error:
        return StoredSamples(reason=f"{path.name} was refused: {error}")


def drop_samples(folder: Path, keep: Collection[int]) -> None:
    """Remove the samples of all epochs but those to keep.

    Raises:
        OSError: If a file cannot be removed.
    """
    for path in folder.iterdir():
        found = _NAME.fullmatch(path.name)
        if found and int(found[1]) not in keep:
            path.unlink()


def _content(path: Path) -> bytes:
    with os.fdopen(os.open(path, _READ_FLAGS), "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise _RefusedError("is no regular file")
        if state.st_size > _MAX_BYTES:
            raise _RefusedError(f"is larger than the {_MAX_BYTES // 2**20} MiB that are read")
        return file.read(state.st_size)


def _parsed_rows(data: bytes) -> Rows:
    """The rows in the bytes of a file; nothing in them is ever run or unpickled."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file, max_header_size=_HEADER)
    except Exception as error:  # NumPy raises what its parser happens to stumble on
        raise _RefusedError(f"is no NumPy file ({type(error).__name__})") from None
    if version != (1, 0):
        raise _RefusedError("is of a later format")
    if dtype not in (CLASS_ROW, POINT_ROW) or len(shape) != 1:
        raise _RefusedError("holds something else than rows of samples")
    if shape[0] > MAX_ROWS or len(data) != file.tell() + shape[0] * dtype.itemsize:
        raise _RefusedError(f"does not hold the {shape[0]} rows that it promises")
    return np.frombuffer(data, dtype, offset=file.tell())
