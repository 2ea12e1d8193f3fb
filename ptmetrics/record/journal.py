"""The writer of a run's record: one line per event, whole or not at all.

`Journal(folder)` makes or continues `journal-rank<r>.jsonl`, `append(kind, data)` writes a line. A
disk that is full or fails raises nothing into the user's loop.
"""

import errno
import logging
import os
import stat
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ptmetrics.errors import RecordError
from ptmetrics.record.atomic import sync_folder, try_lock
from ptmetrics.record.codec import Record, encode
from ptmetrics.record.lines import scan
from ptmetrics.record.printable import agreeing, quantity
from ptmetrics.record.run_folder import is_at, journal_path, other_writer

DURABLE_KINDS = frozenset({"header", "epoch", "evaluation", "fault", "checkpoint", "end"})
"""Kinds whose line is on the disk when `Journal.append` returns."""
KEPT_LINES = 256
"""So many lines wait in memory while the file cannot be written."""

_LOG = logging.getLogger("ptmetrics")
_OPEN: "weakref.WeakSet[Journal]" = weakref.WeakSet()
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT
_FLAGS |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class Journal:
    """The journal of one rank, open for writing; also a context manager.

    A line is one write to a file opened for appending. When the file cannot be written, the last
    256 records wait in memory and are tried again, in order, at the next `append`. What is lost
    beyond that is marked by a note `journal-gap`. Threads and signal handlers may append; in a
    forked child it does nothing.

    Attributes:
        path: The file.
        run_id: The same for all attempts of a run.
        attempt: 1 for a new run, one more for each resume.

    Args:
        folder: The run folder; it must exist.
        rank: Each rank writes a file of its own.
        run_id: The id of a new run, for ranks that share one; random when None.
        resume: Continue a journal that holds records. A torn last line is sealed, never removed.
        clock: Monotonic nanoseconds.
        wall: Unix seconds.
        write: As `os.write`.
        fsync: As `os.fsync`.

    Raises:
        RecordError: If the file cannot be opened, has another writer, holds a run although `resume`
            is False, belongs to another run than `run_id`, or has a later schema.

    Example:
        >>> import tempfile
        >>> from ptmetrics.record.reader import read_run
        >>> folder = Path(tempfile.mkdtemp())
        >>> with Journal(folder) as journal:
        ...     journal.append("note", {"code": "weather", "message": "It rains."})
        >>> read_run(folder).notes
        [{'code': 'weather', 'message': 'It rains.'}]
    """

    def __init__(
        self,
        folder: Path,
        *,
        rank: int = 0,
        run_id: str | None = None,
        resume: bool = False,
        clock: Callable[[], int] = time.monotonic_ns,
        wall: Callable[[], float] = time.time,
        write: Callable[[int, bytes], int] = os.write,
        fsync: Callable[[int], None] = os.fsync,
    ) -> None:
        self.path = journal_path(folder, rank)
        self._clock = clock
        self._wall = wall
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._warned = False
        self._marked = 0  # lost records of which a note tells
        self._events: deque[tuple[str, dict[str, Any], bool]] = deque()
        self._working = False
        self._closing = False
        self._fd = _opened(self.path)
        try:
            last = self._last_record(resume=resume)
            if last is None:
                self.run_id = run_id or os.urandom(8).hex()
                self.attempt = 1
                self._seq = 0
            else:
                self.run_id = last.run
                self.attempt = last.attempt + 1
                self._seq = last.seq + 1
            if run_id not in (None, self.run_id):
                got = f"run {self.run_id}"
                cure = "Resume in the folder of that run."
                raise RecordError(str(self.path), f"records of run {run_id}", got, cure)
            self._seal(write)
        except BaseException:
            os.close(self._fd)
            raise
        self._outbox = Outbox(self._fd, write=write, fsync=fsync, on_error=self._contain)
        _OPEN.add(self)

    @property
    def lost(self) -> int:
        """Records that the file will never hold; after `close` also those still waiting."""
        if self._fd < 0:
            return self._outbox.lost + self.waiting
        return self._outbox.lost

    @property
    def waiting(self) -> int:
        """Records in memory that the file does not hold yet."""
        return len(self._outbox.queue)

    def append(self, kind: str, data: Mapping[str, object], *, sync: bool = False) -> None:
        """Write one record; on return it is on the disk if `sync`, or for `DURABLE_KINDS`.

        A full or failing disk is logged, once, and never raised.

        Raises:
            DtypeError: If the data hold something that JSON cannot.
            RecordError: If the journal is closed.
        """
        if os.getpid() != self._owner:
            self._warn("belongs to the process that opened it; what this one appends is left out")
            return
        with self._lock:
            if self._fd < 0:
                cure = "Append before close(), or open it again with resume=True."
                raise RecordError(str(self.path), "an open journal", "one that is closed", cure)
            self._events.append((kind, dict(data), sync or kind in DURABLE_KINDS))
            self._work()

    def close(self) -> None:
        """Write what waits, make it durable, let go of the file. A second call does nothing."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            if self._fd >= 0:
                self._closing = True
                self._work()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _last_record(self, *, resume: bool) -> Record | None:
        """The last whole record of an earlier attempt."""
        if os.fstat(self._fd).st_size and not resume:
            cure = "Choose another run name, or pass resume=True to continue that run."
            raise RecordError(str(self.path), "no journal yet", "one that holds a run", cure)
        last = None
        os.lseek(self._fd, 0, os.SEEK_SET)
        with os.fdopen(os.dup(self._fd), "rb") as file:
            for item in scan(file, self.path.name):
                if isinstance(item, Record):
                    last = item
        return last

    def _seal(self, write: Callable[[int, bytes], int]) -> None:
        """End a torn last line, so that the next record starts its own; nothing is removed."""
        if not os.fstat(self._fd).st_size:
            return
        os.lseek(self._fd, -1, os.SEEK_END)
        if os.read(self._fd, 1) != b"\n":
            try:
                write(self._fd, b"\n")
            except OSError as error:
                raise _unusable(self.path, error.strerror or str(error)) from error

    def _work(self) -> None:
        """Write the events one after the other, each with the next number."""
        if self._working:  # a signal handler got in: the call that it interrupted does the rest
            return
        self._working = True
        try:
            while self._events:
                kind, data, sync = self._events.popleft()
                self._put(kind, data)
                self._outbox.flush(sync=sync)
                self._mark_gap()
            if self._closing:
                self._outbox.flush(sync=True)
                self._mark_gap()
                self._let_go()
        finally:
            self._working = False

    def _put(self, kind: str, data: dict[str, Any]) -> None:
        moment = (self._clock(), self._wall())
        record = Record(self._seq, self.run_id, self.attempt, kind, *moment, data)
        self._outbox.queue.append(encode(record))
        self._seq += 1

    def _mark_gap(self) -> None:
        gap = self._outbox.lost - self._marked
        if gap and not self.waiting:
            self._marked += gap
            lost = agreeing(gap, "were lost while the journal could not be written")
            message = f"{quantity(gap, 'record')} {lost}"
            self._put("note", {"code": "journal-gap", "message": message, "lost": gap})
            self._outbox.flush(sync=True)

    def _contain(self, error: OSError) -> None:
        kept = f"the last {KEPT_LINES} records wait in memory"
        self._warn(f"cannot be written ({error}); the run goes on, and {kept}")

    def _warn(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            _LOG.warning("%s %s", self.path, message)

    def _let_go(self) -> None:
        os.close(self._fd)
        self._fd = -1
        _OPEN.discard(self)


def _let_go_in_child() -> None:
    # A worker that outlives a killed parent would hold the lock, and the run could not be resumed.
    for journal in list(_OPEN):
        journal._let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)


class Outbox:
    """Lines on their way to a disk that may be full or failing.

    They are kept, tried again in order, each in one write if the system takes it whole, and counted
    when they are lost.

    Attributes:
        queue: Lines that the file does not hold yet; `flush` writes them.
        lost: Lines dropped because more than 256 were waiting.

    Args:
        fd: A descriptor opened for appending; nobody else writes to its file.
        write: As `os.write`.
        fsync: As `os.fsync`.
        on_error: Told of each failure that is contained.
    """

    def __init__(
        self,
        fd: int,
        *,
        write: Callable[[int, bytes], int],
        fsync: Callable[[int], None],
        on_error: Callable[[OSError], None],
    ) -> None:
        self.queue: deque[bytes] = deque()
        self.lost = 0
        self._fd = fd
        self._write = write
        self._fsync = fsync
        self._on_error = on_error
        self._done = 0  # bytes of the queue's first line that the file holds
        self._unsynced: deque[bytes] = deque(maxlen=KEPT_LINES)
        self._sync_wanted = False
        self._sync_failed = False

    def flush(self, *, sync: bool) -> None:
        """Write what waits and, if asked now or earlier in vain, make it durable."""
        self._sync_wanted = self._sync_wanted or sync
        try:
            while self.queue or self._sync_wanted:
                self._write_queue()
                if self._sync_wanted:
                    self._sync()
        except OSError as error:
            self._on_error(error)
        while len(self.queue) > KEPT_LINES:
            # A line of which the file holds a part is finished, or it would spoil the next one.
            del self.queue[bool(self._done)]
            self.lost += 1

    def _write_queue(self) -> None:
        while self.queue:
            line = self.queue[0]
            while self._done < len(line):
                count = self._write(self._fd, line[self._done :])
                if count <= 0:
                    raise OSError(errno.EIO, "nothing was written")
                self._done += count
            self._done = 0
            self._unsynced.append(self.queue.popleft())

    def _sync(self) -> None:
        self._sync_wanted = False
        try:
            self._fsync(self._fd)
        except OSError:
            self._sync_wanted = True
            self._sync_failed = True
            raise
        if self._sync_failed:
            # A failed fsync may drop the pages and the next one succeed: write them once more.
            self.queue.extendleft(reversed(self._unsynced))
            self._sync_failed = False
            self._sync_wanted = True
        self._unsynced.clear()


def _opened(path: Path) -> int:
    """Open or make a journal and lock it; its descriptor."""
    while True:
        try:
            fd = os.open(path, _FLAGS, 0o666)
        except OSError as error:
            raise _unusable(path, error.strerror or str(error)) from error
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise _unusable(path, "a special file")
            # Windows knows no such lock: there a second writer is found by the reader only.
            if try_lock(fd) is False:
                raise other_writer(path)
            if is_at(fd, path):
                sync_folder(path.parent)
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # another process moved that run away in between: begin anew


def _unusable(path: Path, fact: str) -> RecordError:
    rule = "a regular file that can be written"
    return RecordError(str(path), rule, fact, "Choose another run folder.")
