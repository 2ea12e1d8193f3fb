"""From a folder that a person names to the runs in it."""

import os
from pathlib import Path

from ptmetrics.errors import RecordError
from ptmetrics.record.run_folder import journals

OTHER_LOGS = ("metrics.csv", "trainer_state.json")  # as Lightning and Hugging Face name them


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
    """The run folder itself, or the runs right below it, in order of their names: the seeds of an arm.

    A file stands for itself: a journal, or a log that another tool wrote.

    Raises:
        RecordError: If there is no folder, or no run in it.
    """
    folder = Path(path)
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        cure = "Check the path; a run folder holds journal-rank0.jsonl."
        raise RecordError(f"run {str(folder)!r}", "a run folder", "nothing there", cure)
    if journals(folder):
        return [folder]
    runs = sorted(below for below in folder.iterdir() if below.is_dir() and journals(below))
    if not runs:
        inner = sorted(b.parent.parent for b in folder.glob("*/*/journal-rank*.jsonl"))
        inner += [log for name in OTHER_LOGS if (log := folder / name).is_file()]
        cure = (
            f"Did you mean {inner[0]}?"
            if inner
            else "Pass the folder that Monitor(run=…) was given."
        )
        raise RecordError(f"run {str(folder)!r}", "a folder with a journal", "none in it", cure)
    return runs
