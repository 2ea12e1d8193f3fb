"""Files that are either the old one or the new one, whole, whenever the machine stops."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_REPLACE_FLAGS = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
)
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP}
_LOCK_TAKEN = {errno.EWOULDBLOCK, errno.EACCES}
_LITTER = ".tmp-"


def replace(path: str | os.PathLike[str], writer: Callable[[BinaryIO], object]) -> None:
    """Let `writer` fill a temporary file beside `path`, then rename it over `path`.

    `writer` gets an open binary file, which `torch.save` and matplotlib's `savefig` take. Whatever
    fails, `path` keeps its old content and no temporary file stays. A `path` that is a symbolic
    link is itself replaced.

    Raises:
        OSError: If the folder cannot be written or has no space left; what `writer` raises passes.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "best.bin"
        >>> replace(path, lambda file: file.write(b"new"))
        >>> path.read_bytes()
        b'new'
    """
    target = Path(path)
    temporary = target.with_name(f"{_LITTER}{os.urandom(8).hex()}")
    # Not mkstemp: its mode 0600 would stay on the final file, and a run folder is often shared.
    handle = os.open(temporary, _REPLACE_FLAGS, 0o666)
    try_lock(handle)  # it says that the writer lives
    try:
        with os.fdopen(handle, "wb") as file:
            writer(file)
            file.flush()
            os.fsync(handle)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def sweep(folder: Path) -> None:
    """Remove the temporary files of writers that died; those of living ones are locked.

    Where the system cannot tell whether a writer lives, its file stays.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            if path.name.startswith(_LITTER):
                _remove_unlocked(path)


def _remove_unlocked(path: Path) -> None:
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with suppress(OSError):
        handle = os.open(path, flags)
        try:
            if try_lock(handle):
                path.unlink()
        finally:
            os.close(handle)


def try_lock(handle: int) -> bool | None:
    """Lock an open file for this process until it is closed.

    Returns:
        False if another one has locked it; None where the system knows no locks.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _LOCK_TAKEN:
            return False
        return None  # some network file systems know none
    return True


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)
