"""Opening a journal for its one writer: safe flags, the lock, where an earlier attempt ended, the seal."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from ptmetrics.errors import RecordError
from ptmetrics.record.atomic import sync_folder
from ptmetrics.record.codec import Record
from ptmetrics.record.lines import scan

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT
_FLAGS |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_LOCK_TAKEN = {errno.EWOULDBLOCK, errno.EACCES}


def open_for_appending(path: Path) -> int:
    """Open or make a journal and lock it; return its descriptor.

    Raises:
        RecordError: If it is no regular file, cannot be opened, or another writer holds it.
    """
    try:
        fd = os.open(path, _FLAGS, 0o666)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise _unusable(path, "a special file")
        _lock(fd, path)
        sync_folder(path.parent)
    except BaseException:
        os.close(fd)
        raise
    return fd


def last_record(fd: int, path: Path) -> Record | None:
    """Read the journal to its end and return its last whole record, None when it holds none.

    Raises:
        RecordError: If it was written by a version with a later schema.
    """
    last = None
    os.lseek(fd, 0, os.SEEK_SET)
    with os.fdopen(os.dup(fd), "rb") as file:
        for item in scan(file, path.name):
            last = item if isinstance(item, Record) else last
    return last


def seal(fd: int, path: Path, write: Callable[[int, bytes], int]) -> None:
    """End a torn last line with a newline, so that the next record starts a line of its own; remove nothing.

    Raises:
        RecordError: If not even that can be written.
    """
    if not os.fstat(fd).st_size:
        return
    os.lseek(fd, -1, os.SEEK_END)
    if os.read(fd, 1) != b"\n":
        try:
            write(fd, b"\n")
        except OSError as error:
            raise _unusable(path, error.strerror or str(error)) from error


def _lock(fd: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:
        return  # Windows has none: a second writer is not refused there, but found by the reader
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _LOCK_TAKEN:
            cure = "End the other process or choose another run name."
            raise RecordError(
                str(path), "no other writer", "a journal that another process writes", cure
            ) from None
        # Some network file systems know no locks; a journal without one is better than none.


def _unusable(path: Path, fact: str) -> RecordError:
    return RecordError(
        str(path), "a regular file that can be written", fact, "Choose another run folder."
    )
