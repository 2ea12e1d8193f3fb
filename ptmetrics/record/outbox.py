"""Lines on their way to a disk that may be full or failing: kept, tried again in order, counted when lost."""

import errno
from collections import deque
from collections.abc import Callable

KEPT_LINES = 256


class Outbox:
    """Writes lines to one descriptor opened for appending, each in one write if the system takes it whole.

    Attributes:
        lost: Lines dropped because more than 256 were waiting.
        short_writes: Writes that took only a part of a line; the rest followed with the next write.

    Args:
        fd: The descriptor; nobody else writes to its file.
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
        self.lost = self.short_writes = 0
        self._fd, self._write, self._fsync, self._on_error = fd, write, fsync, on_error
        self._queue: deque[bytes] = deque()
        self._done = 0  # bytes of the queue's first line that the file holds
        self._unsynced: deque[bytes] = deque(maxlen=KEPT_LINES)
        self._sync_wanted = self._sync_failed = self._busy = False

    @property
    def waiting(self) -> int:
        """Lines that the file does not hold yet."""
        return len(self._queue)

    def put(self, line: bytes) -> None:
        """Add a line behind those that wait; `flush` writes it."""
        self._queue.append(line)

    def flush(self, *, sync: bool) -> None:
        """Write what waits and, if asked now or earlier in vain, make it durable. Raises no OSError."""
        self._sync_wanted = self._sync_wanted or sync
        if self._busy:  # a signal handler got in: the call that it interrupted writes its line too
            return
        self._busy = True
        try:
            while self._queue or self._sync_wanted:
                self._write_queue()
                if self._sync_wanted:
                    self._sync()
        except OSError as error:
            self._on_error(error)
        finally:
            self._busy = False
        self._drop_oldest()

    def _write_queue(self) -> None:
        while self._queue:
            line = self._queue[0]
            while self._done < len(line):
                count = self._write(self._fd, line[self._done :])
                if count <= 0:
                    raise OSError(errno.EIO, "nothing was written")
                self._done += count
                self.short_writes += self._done < len(line)
            self._done = 0
            self._unsynced.append(self._queue.popleft())

    def _sync(self) -> None:
        self._sync_wanted = False
        try:
            self._fsync(self._fd)
        except OSError:
            self._sync_wanted = self._sync_failed = True
            raise
        if self._sync_failed:
            # A failed fsync may drop the pages, and the next one succeed: write those lines once more.
            self._queue.extendleft(reversed(self._unsynced))
            self._sync_failed, self._sync_wanted = False, True
        self._unsynced.clear()

    def _drop_oldest(self) -> None:
        while len(self._queue) > KEPT_LINES:
            # A line of which the file holds a part is finished later, or it would spoil the one behind it.
            del self._queue[1 if self._done else 0]
            self.lost += 1
