"""The folder of a run: which names it may have, finding it again, and the machine it ran on."""

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
OTHER_LOGS = ("metrics.csv", "trainer_state.json")  # as Lightning and Hugging Face name them
_SIGNS = frozenset("._- +=@")
_WINDOWS_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|CONIN|CONOUT|(COM|LPT)[0-9¹²³])", re.IGNORECASE)
_JOURNAL = re.compile(r"journal-rank(\d+)\.jsonl")


def create(path: str | os.PathLike[str], *, resume: bool = False) -> Path:
    """Make the folder of a run; with `resume` it may already hold a journal.

    Only the process that owns the run calls this; other ranks open their journal in the folder
    that it made.

    Returns:
        Its absolute path.

    Raises:
        RecordError: If the name is refused (nothing is written then), the folder holds a run
            already, or the system does not let it be made.
    """
    name = f"run {_short(os.fspath(path))}"
    try:
        folder = _checked_folder(os.fspath(path), name)
        if folder.is_dir() and not resume:
            for journal in journals(folder):
                if journal.stat().st_size:
                    got = f"one that holds {journal.name}"
                    cure = "Choose another name, or pass resume=True to continue that run."
                    raise RecordError(name, "a folder without a run", got, cure)
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
    except OSError as error:
        got = error.strerror or str(error)
        cure = "Choose a folder that can be written."
        raise RecordError(name, "a folder that can be made", got, cure) from error
    return folder


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
    """The run folder itself, or the runs right below it by name: the seeds of an experiment.

    A file stands for itself: a journal, or a log that another tool wrote.

    Raises:
        RecordError: If there is no folder, or no run in it.
    """
    folder = Path(path)
    name = f"run {str(folder)!r}"
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        cure = "Check the path; a run folder holds journal-rank0.jsonl."
        raise RecordError(name, "a run folder", "nothing there", cure)
    if journals(folder):
        return [folder]
    runs = sorted(below for below in folder.iterdir() if below.is_dir() and journals(below))
    if not runs:
        inner = sorted(path.parent.parent for path in folder.glob("*/*/journal-rank*.jsonl"))
        inner += [folder / log for log in OTHER_LOGS if (folder / log).is_file()]
        cure = "Pass the folder that Monitor(run=…) was given."
        if inner:
            cure = f"Did you mean {inner[0]}?"
        raise RecordError(name, "a folder with a journal", "none in it", cure)
    return runs


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


def _short(text: str) -> str:
    if len(text) > MAX_NAME:
        return f"{text[:40]!r}… of {len(text)} characters"
    return repr(text)
