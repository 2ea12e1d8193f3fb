"""The folder of a run: which names it may have, what may be opened inside it, and the machine it ran on."""

import os
import platform
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any

from ptmetrics import __version__
from ptmetrics.errors import RecordError
from ptmetrics.record.atomic import sync_folder
from ptmetrics.record.events import EnvironmentData

MAX_NAME = 120
_SIGNS = frozenset("._- +=@")
_WINDOWS_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|CONIN|CONOUT|(COM|LPT)[0-9¹²³])", re.IGNORECASE)
_JOURNAL = re.compile(r"journal-rank(\d+)\.jsonl")


def create(path: str | os.PathLike[str], *, resume: bool = False) -> Path:
    """Make the folder of a run and return its absolute path; with `resume` it may already hold a journal.

    Only the process that owns the run calls this; other ranks open their journal in the folder that it made.

    Raises:
        RecordError: If the name is refused (nothing is written then), the folder holds a run already, or the
            system does not let it be made.
    """
    name = f"run {_short(os.fspath(path))}"
    try:
        folder = _checked(os.fspath(path), name)
        taken = (
            [path for path in journals(folder) if path.stat().st_size] if folder.is_dir() else []
        )
        if taken and not resume:
            cure = "Choose another name, or pass resume=True to continue that run."
            raise RecordError(
                name, "a folder without a run", f"one that holds {taken[0].name}", cure
            )
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
    except OSError as error:
        cure = "Choose a folder that can be written."
        raise RecordError(
            name, "a folder that can be made", error.strerror or str(error), cure
        ) from error
    return folder


def inside(root: Path, name: str) -> Path:
    """Resolve a file name, or names joined by "/", inside a run folder.

    Raises:
        RecordError: If the name is absolute, goes upward, breaks the rules for names, or leads out by a
            symbolic link.
    """
    for component in name.split("/"):
        _check_component(component, f"file {_short(name)}")
    target = root.joinpath(name)
    if not target.resolve().is_relative_to(root.resolve()):
        cure = "Remove the symbolic link, or choose another name."
        raise RecordError(
            f"file {_short(name)}", "a file inside the run folder", f"{target.resolve()}", cure
        )
    return target


def journal_path(folder: Path, rank: int) -> Path:
    """Name the journal of a rank."""
    return folder / f"journal-rank{rank}.jsonl"


def journals(folder: Path) -> list[Path]:
    """List the journals in a folder, by rank."""
    ranks = {
        int(match[1]): path for path in folder.iterdir() if (match := _JOURNAL.fullmatch(path.name))
    }
    return [ranks[rank] for rank in sorted(ranks)]


def environment() -> EnvironmentData:
    """Describe machine and versions: a fixed list, never environment variables, arguments or host names.

    Versions of torch and CUDA are None unless the caller has imported torch.
    """
    torch: Any = sys.modules.get("torch")
    return {
        "ptmetrics": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "torch": str(torch.__version__) if torch else None,
        "cuda": torch.version.cuda if torch else None,
    }


def _checked(text: str, name: str) -> Path:
    if any(unicodedata.category(sign) == "Cc" for sign in text):
        raise _refused(name, "no control characters", "one at least")
    if ".." in Path(text).parts:
        raise _refused(name, 'no ".."', '".."')
    folder = Path(text).absolute()
    _check_component(folder.name, name)
    if folder.is_symlink():
        raise _refused(name, "a folder", "a symbolic link")
    # Folders above that exist are the user's own; only names that would be made are judged.
    for parent in folder.parents:
        if parent.exists():
            break
        _check_component(parent.name, name)
    return folder


def _check_component(component: str, name: str) -> None:
    if not component:
        raise _refused(name, "a relative name", "an absolute one, or an empty part")
    if component.strip(" ") != component or component.endswith("."):
        raise _refused(
            name,
            "names that neither start nor end with a space, nor end with a dot",
            _short(component),
        )
    if len(component) > MAX_NAME:
        raise _refused(name, f"names of at most {MAX_NAME} characters", f"one of {len(component)}")
    if bad := [sign for sign in component if not _may_stand(sign)]:
        raise _refused(name, 'only letters, digits and "._- +=@" in a name', _short(bad[0]))
    if _WINDOWS_DEVICE.fullmatch(component.split(".")[0].rstrip()):
        raise _refused(name, "no device name of Windows", _short(component))


def _may_stand(sign: str) -> bool:
    """Allow letters of any script with their marks, digits and a few signs, but no bidi controls."""
    return sign in _SIGNS or unicodedata.category(sign)[0] in "LM" or sign.isdigit()


def _refused(name: str, rule: str, fact: str) -> RecordError:
    return RecordError(name, rule, fact, "Choose another name, such as runs/pretrained.")


def _short(text: str) -> str:
    return repr(text) if len(text) <= MAX_NAME else f"{text[:40]!r}… of {len(text)} characters"
