"""The writer of a run's record: one line per event, whole or not at all, and no exception for a full disk.

`Journal(folder)` makes or continues `journal-rank<r>.jsonl`, `append(kind, data)` writes a line.
"""

import logging
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from ptmetrics.errors import RecordError
from ptmetrics.record.codec import Record, encode
from ptmetrics.record.events import DURABLE_KINDS
from ptmetrics.record.opening import last_record, open_for_appending, seal
from ptmetrics.record.outbox import KEPT_LINES, Outbox
from ptmetrics.record.run_folder import journal_path

_LOG = logging.getLogger("ptmetrics")
_OPEN: "weakref.WeakSet[Journal]" = weakref.WeakSet()


class Journal:
    """The journal of one rank, open for writing; also a context manager.

    A line is one write to a file opened for appending. When the file cannot be written, the last 256 records
    wait in memory and are tried again, in order, at the next `append`; what is lost beyond that is marked by
    a note `journal-gap`. Threads and signal handlers may append; in a forked child it does nothing.

    Attributes:
        path: The file.
        run_id: The same for all attempts of a run.
        attempt: 1 for a new run, one more for each resume.

    Args:
        folder: The run folder; it must exist.
        rank: Each rank writes a file of its own.
        run_id: The id of a new run, for ranks that share one; random when None.
        resume: Continue a journal that holds records; a torn last line is sealed, never removed.
        clock: Monotonic nanoseconds.
        wall: Unix seconds.
        write: As `os.write`.
        fsync: As `os.fsync`.

    Raises:
        RecordError: If the file cannot be opened, has another writer, holds a run although `resume` is False,
            belongs to another run than `run_id`, or was written by a version with a later schema.
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
        self._clock, self._wall = clock, wall
        self._owner, self._lock = os.getpid(), threading.RLock()
        self._warned, self._marked = False, 0
        self._fd = open_for_appending(self.path)
        try:
            self.run_id, self.attempt, self._seq = self._continued(run_id, resume=resume)
            seal(self._fd, self.path, write)
        except BaseException:
            os.close(self._fd)
            raise
        self._outbox = Outbox(self._fd, write=write, fsync=fsync, on_error=self._contain)
        _OPEN.add(self)

    @property
    def lost(self) -> int:
        """Records that the file will never hold; after `close` also those that were still waiting."""
        return self._outbox.lost + (self.waiting if self._fd < 0 else 0)

    @property
    def waiting(self) -> int:
        """Records in memory that the file does not hold yet."""
        return self._outbox.waiting

    @property
    def short_writes(self) -> int:
        """Writes that took only a part of a record and were completed."""
        return self._outbox.short_writes

    def append(self, kind: str, data: Mapping[str, object], *, sync: bool = False) -> None:
        """Write one record; it is on the disk on return if `sync`, or if the kind is one of `DURABLE_KINDS`.

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
            self._put(kind, data)
            self._outbox.flush(sync=sync or kind in DURABLE_KINDS)
            self._mark_gap()

    def close(self) -> None:
        """Write what waits, make it durable, and let go of the file. A second call does nothing."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            if self._fd >= 0:
                self._outbox.flush(sync=True)
                self._mark_gap()
                self._let_go()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _continued(self, run_id: str | None, *, resume: bool) -> tuple[str, int, int]:
        """Tell the run id, the attempt and the next `seq`, from what the file holds."""
        if os.fstat(self._fd).st_size and not resume:
            cure = "Choose another run name, or pass resume=True to continue that run."
            raise RecordError(str(self.path), "no journal yet", "one that holds a run", cure)
        last = last_record(self._fd, self.path)
        if last is None:
            return run_id or secrets.token_hex(8), 1, 0
        if run_id not in (None, last.run):
            cure = "Resume in the folder of that run."
            raise RecordError(str(self.path), f"records of run {run_id}", f"run {last.run}", cure)
        return last.run, last.attempt + 1, last.seq + 1

    def _put(self, kind: str, data: Mapping[str, object]) -> None:
        record = Record(
            self._seq, self.run_id, self.attempt, kind, self._clock(), self._wall(), dict(data)
        )
        self._outbox.put(encode(record))
        self._seq += 1

    def _mark_gap(self) -> None:
        gap = self._outbox.lost - self._marked
        if gap and not self.waiting:
            self._marked += gap
            message = f"{gap} records were lost while the journal could not be written"
            self._put("note", {"code": "journal-gap", "message": message, "lost": gap})
            self._outbox.flush(sync=True)

    def _contain(self, error: OSError) -> None:
        self._warn(
            f"cannot be written ({error}); the run goes on, and the last {KEPT_LINES} records wait in memory"
        )

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
