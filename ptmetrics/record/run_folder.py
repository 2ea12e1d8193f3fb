"""The folder of a run: which names it may have, finding it again, and the machine it ran on."""

import logging
import os
import platform
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ptmetrics import __version__
from ptmetrics.errors import ConfigError, RecordError
from ptmetrics.record.atomic import sync_folder, try_lock
from ptmetrics.record.events import EnvironmentData
from ptmetrics.record.foreign_events import event_files

MAX_NAME = 120
EARLIER = "earlier"
"""Where a run folder keeps the runs that were in it before; no list looks into it."""
CHECKPOINTS = "checkpoints"
IF_EXISTS = ("keep", "error", "overwrite", "resume")
_CONSOLE = logging.getLogger("ptmetrics")
OTHER_LOGS = ("metrics.csv", "trainer_state.json")  # as Lightning and Hugging Face name them
_SIGNS = frozenset("._- +=@")
_WINDOWS_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|CONIN|CONOUT|(COM|LPT)[0-9¹²³])", re.IGNORECASE)
_JOURNAL = re.compile(r"journal-rank(\d+)\.jsonl")
_OWN_FILE = re.compile(
    r"journal-rank\d+\.jsonl|(?:samples|moves|curves|reliability|inputs)-\d+(?:-rank\d+)?\.npy"
)


def create(
    path: str | os.PathLike[str], *, if_exists: str = "keep", told: int = logging.WARNING
) -> Path:
    """Make the folder of a run; what it holds of an earlier run is dealt with first.

    Only the process that owns the run calls this.

    Args:
        path: The folder.
        if_exists: "keep" moves the earlier run to `earlier/1`, `earlier/2` and so on in the folder;
            "error" refuses the folder; "overwrite" removes the earlier run; "resume" leaves it for
            `Journal(resume=True)`.
        told: Level at which the log is told where the earlier run is now.

    Returns:
        Its absolute path.

    Raises:
        ConfigError: If `if_exists` is another word.
        RecordError: If the name is refused (nothing is written then), the run in the folder is
            still written by another process, or the system does not let the folder be made.
    """
    if if_exists not in IF_EXISTS:
        rule = '"keep", "error", "overwrite" or "resume"'
        raise ConfigError("if_exists", rule, repr(if_exists), 'Leave it out for "keep".')
    folder = folder_of(path)
    name = f"run {_short(str(folder))}"
    try:
        if folder.is_dir() and if_exists != "resume":
            held = [journal for journal in journals(folder) if journal.stat().st_size]
            if held:
                place = _make_room(folder, held, if_exists, name)
                if place is not None:
                    message = "%s: the run that was there is now in %s"
                    _CONSOLE.log(told, message, folder, place)
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
    except OSError as error:
        got = error.strerror or str(error)
        cure = "Choose a folder that can be written."
        raise RecordError(name, "a folder that can be made", got, cure) from error
    return folder


def folder_of(path: str | os.PathLike[str]) -> Path:
    """The absolute path of a run's folder that may be made; nothing is touched.

    Raises:
        RecordError: If it is no path, or its name is refused.
    """
    text = path_of("run", path)
    name = f"run {_short(str(text))}"
    try:
        return _checked_folder(str(text), name)
    except OSError as error:
        got = error.strerror or str(error)
        cure = "Choose a folder that can be written."
        raise RecordError(name, "a folder that can be made", got, cure) from error


def path_of(name: str, path: object) -> Path:
    """A path that a person gave.

    Raises:
        RecordError: If it is empty, or no path of text.
    """
    cure = 'Pass a path such as "runs/pretrained".'
    text = path
    if isinstance(path, os.PathLike):
        text = os.fspath(path)
    if not isinstance(text, str):
        raise RecordError(name, "a path", f"{_short(path)} ({type(path).__name__})", cure)
    if not text:
        raise RecordError(name, "a path", "an empty text", cure)
    return Path(text)


def is_at(fd: int, path: Path) -> bool:
    """Whether an open file still has this name."""
    try:
        named = path.stat()
    except OSError:
        return False
    return os.path.samestat(os.fstat(fd), named)


def other_writer(journal: Path) -> RecordError:
    """The refusal of a run that somebody writes."""
    got = "a journal that another process writes"
    cure = "End the other process or choose another run name."
    return RecordError(str(journal), "no other writer", got, cure)


def set_aside(folder: Path, entries: Iterable[Path]) -> Path | None:
    """Move what an earlier run left in a folder to `earlier/N` in it, the journals last.

    A move that was cut off is gone on with: the journals are not there yet.

    Returns:
        Where they are now; None where there was nothing.
    """
    moving = sorted(
        (entry for entry in entries if os.path.lexists(entry)), key=lambda entry: _is_journal(entry)
    )
    if not moving:
        return None
    earlier = folder / EARLIER
    last = max((int(p.name) for p in _children(earlier) if p.name.isdecimal()), default=0)
    place = earlier / str(last)
    cut_off = _is_journal(moving[-1]) and last and not journals(place)
    if not cut_off:
        place = earlier / str(last + 1)
    place.mkdir(parents=True, exist_ok=True)
    for entry in moving:
        entry.replace(place / entry.name)
    sync_folder(folder)
    return place


def _make_room(folder: Path, held: list[Path], if_exists: str, name: str) -> Path | None:
    """Take an earlier run away, unless somebody writes it; where it is now."""
    if if_exists == "error":
        got = f"one that holds {held[0].name}"
        cure = 'Choose another name, or pass if_exists="keep", "overwrite" or "resume".'
        raise RecordError(name, "a folder without a run", got, cure)
    with ExitStack() as locks:
        for journal in held:
            locks.enter_context(_nobody_writes(journal))
        entries = [path for path in folder.iterdir() if _OWN_FILE.fullmatch(path.name)]
        weights = folder / CHECKPOINTS
        if if_exists == "overwrite":
            entries += [path for path in _children(weights) if path.suffix == ".pt"]
            for entry in sorted(entries, key=_is_journal):
                entry.unlink()
            return None
        return set_aside(folder, [*entries, weights])


@contextmanager
def _nobody_writes(journal: Path) -> Iterator[None]:
    """Lock a journal."""
    if os.name == "nt":  # an open file cannot be moved there, and there is no lock
        yield
        return
    fd = os.open(journal, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        if try_lock(fd) is False or not is_at(fd, journal):
            raise other_writer(journal)
        yield
    finally:
        os.close(fd)


def _is_journal(path: Path) -> bool:
    return _JOURNAL.fullmatch(path.name) is not None


def _children(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return list(folder.iterdir())


def journal_path(folder: Path, rank: int) -> Path:
    """Name the journal of a rank."""
    return folder / f"journal-rank{rank}.jsonl"


def journals(folder: Path) -> list[Path]:
    """List the journals in a folder, by rank."""
    ranks: dict[int, Path] = {}
    for path in folder.iterdir():
        match = _JOURNAL.fullmatch(path.name)
        if match:
            ranks[int(match[1])] = path
    return [ranks[rank] for rank in sorted(ranks)]


def find_run(name: str, path: str | os.PathLike[str]) -> Path:
    """The one run that a person names.

    Raises:
        RecordError: If there is none at that path, or several.
    """
    runs = find_runs(path)
    if len(runs) > 1:
        got = f"a folder with {len(runs)} runs"
        raise RecordError(name, "one run", got, f"Name one of them, such as {runs[0]}.")
    return runs[0]


def find_runs(path: str | os.PathLike[str]) -> list[Path]:
    """The run folder itself, or the runs at any depth below it by name, such as arms and seeds.

    What a run folder holds is its own: earlier runs in it are passed over. A file stands for
    itself: a journal, or a log that another tool wrote.

    Raises:
        RecordError: If there is no folder, or no run in it.
    """
    folder = path_of("run", path)
    name = f"run {str(folder)!r}"
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        cure = "Check the path; a run folder holds journal-rank0.jsonl."
        raise RecordError(name, "a run folder", "nothing there", cure)
    if journals(folder):
        return [folder]
    runs = sorted(_runs_below(folder))  # which may hold event files of their own
    if not runs and event_files(folder):
        return [folder]
    if not runs:
        inner = [folder / log for log in OTHER_LOGS if (folder / log).is_file()]
        cure = "Pass the folder that Monitor(run=…) was given."
        if inner:
            cure = f"Did you mean {inner[0]}?"
        raise RecordError(name, "a folder with a journal", "none in it", cure)
    return runs


def _runs_below(folder: Path) -> Iterator[Path]:
    """Run folders at any depth; none inside of another, and none of those set aside."""
    for place, inner, _ in os.walk(folder):
        below = Path(place)
        inner[:] = [name for name in inner if name != EARLIER]
        if journals(below):
            yield below
            inner.clear()


def environment() -> EnvironmentData:
    """Describe machine and versions: a fixed list, no environment variables or arguments.

    Versions of torch and CUDA are None unless the caller has imported torch.
    """
    described: EnvironmentData = {
        "ptmetrics": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "torch": None,
        "cuda": None,
    }
    torch: Any = sys.modules.get("torch")
    if torch:
        described["torch"] = str(torch.__version__)
        described["cuda"] = torch.version.cuda
    return described


def _checked_folder(text: str, name: str) -> Path:
    if any(unicodedata.category(sign) == "Cc" for sign in text):
        raise _refused_name(name, "no control characters", "one at least")
    if ".." in Path(text).parts:
        raise _refused_name(name, 'no ".."', '".."')
    folder = Path(text).absolute()
    _check_component(folder.name, name)
    if folder.is_symlink():
        raise _refused_name(name, "a folder", "a symbolic link")
    # Folders above that exist are the user's own; only names that would be made are judged.
    for parent in folder.parents:
        if parent.exists():
            break
        _check_component(parent.name, name)
    return folder


def _check_component(component: str, name: str) -> None:
    if not component:
        raise _refused_name(name, "a name", "the root of the file system")
    if component.strip(" ") != component or component.endswith("."):
        rule = "names that neither start nor end with a space, nor end with a dot"
        raise _refused_name(name, rule, _short(component))
    if len(component) > MAX_NAME:
        rule = f"names of at most {MAX_NAME} characters"
        raise _refused_name(name, rule, f"one of {len(component)}")
    for sign in component:
        if not _may_stand(sign):
            rule = 'only letters, digits and "._- +=@" in a name'
            raise _refused_name(name, rule, _short(sign))
    if _WINDOWS_DEVICE.fullmatch(component.split(".")[0].rstrip()):
        raise _refused_name(name, "no device name of Windows", _short(component))


def _may_stand(sign: str) -> bool:
    """Allow letters of any script with their marks, digits, a few signs; no bidi controls."""
    return sign in _SIGNS or unicodedata.category(sign)[0] in "LM" or sign.isdigit()


def _refused_name(name: str, rule: str, fact: str) -> RecordError:
    return RecordError(name, rule, fact, "Choose another name, such as runs/pretrained.")


def _short(value: object) -> str:
    if isinstance(value, str) and len(value) > MAX_NAME:
        return f"{value[:40]!r}… of {len(value)} characters"
    return repr(value)[:MAX_NAME]
