"""How a run stands, from its record alone: whether it goes on, its best score, its pace."""

from dataclasses import dataclass, field, replace
from math import inf, isnan, nan
from pathlib import Path
from statistics import median
from typing import Any

from ptmetrics.errors import RecordError
from ptmetrics.record.events import EpochData
from ptmetrics.record.reader import Run, read_run
from ptmetrics.record.run_folder import journals
from ptmetrics.verdict.evidence import evidence_of_run
from ptmetrics.verdict.finding import Estimate, Plain
from ptmetrics.verdict.followed import followed_score

PACED_BY = 5  # the last epochs
LEAST_SILENCE_S = 60.0
"""A run that has written nothing for so long, and for three epochs, is stalled."""
UNPACED_SILENCE_S = 600.0
"""The same before the first epoch is done."""


@dataclass(frozen=True)
class RunState(Plain):
    """How a run stands.

    Attributes:
        path: The run folder, or the file.
        status: "running", "stalled", "not begun", "unreadable", or how it ended.
        why: Why it cannot be read.
        epochs: Epochs that are closed.
        planned: Epochs that it is to have; None where it does not tell.
        score: Full name of the validation score that selection follows, else of the headline.
        best: Its best value.
        best_epoch: The number of its epoch, from 0.
        time_s: What the run took so far.
        epoch_s: What one of the last epochs took.
        left_s: What the epochs to come will take.
        silent_s: How long ago its record grew.
    """

    path: str
    status: str
    why: str = ""
    epochs: int = 0
    planned: int | None = None
    score: str = ""
    best: Estimate = field(default_factory=Estimate)
    best_epoch: int | None = None
    time_s: float = nan
    epoch_s: float = nan
    left_s: float = nan
    silent_s: float = nan

    @property
    def goes_on(self) -> bool:
        """Whether more may come."""
        return self.status in {"running", "stalled", "not begun"}

    def silent_for(self, silent_s: float) -> "RunState":
        """The same run when its record has not grown for so long."""
        status = self.status
        if status in {"running", "stalled"}:
            patience_s = UNPACED_SILENCE_S
            if not isnan(self.epoch_s):
                patience_s = max(LEAST_SILENCE_S, 3 * self.epoch_s)
            status = "running"
            if silent_s > patience_s:
                status = "stalled"
        left_s = nan
        if status == "running" and self.planned is not None:
            left_s = max(0.0, (self.planned - self.epochs) * self.epoch_s - silent_s)
        return replace(self, status=status, silent_s=silent_s, left_s=left_s)


def record_files(path: Path) -> dict[Path, tuple[int, float]]:
    """The files of a run's record, each with its size and the time of its last change.

    Raises:
        RecordError: If they cannot be looked at.
    """
    found = {}
    try:
        files = [path]
        if path.is_dir():
            files = journals(path)
        for file in files:
            told = file.stat()
            found[file] = (told.st_size, told.st_mtime)
    except OSError as error:
        got = error.strerror or str(error)
        cure = "Check the path and its permissions."
        raise RecordError(str(path), "a record that can be read", got, cure) from error
    return found


def state_at(path: Path, now: float) -> RunState:
    """How the run at a path stands, whatever is wrong with it.

    Args:
        path: Its folder or file.
        now: Unix seconds.
    """
    try:
        files = record_files(path)
        run = None
        if any(size for size, _ in files.values()):
            run = read_run(path)
    except RecordError as error:
        return RunState(str(path), "unreadable", f"expected {error.expected}, got {error.got}")
    return state_of(path, run).silent_for(silence(files, now))


def silence(files: dict[Path, tuple[int, float]], now: float) -> float:
    """How long ago the last of the files changed; their disk may have a clock of its own."""
    return max(0.0, now - max((changed for _, changed in files.values()), default=now))


def state_of(path: Path, run: Run | None) -> RunState:
    """How a run stands that was read just when its record had grown; None for an empty record."""
    if run is None:
        return RunState(str(path), "not begun")
    seconds = [epoch_seconds(epoch) for epoch in run.epochs[-PACED_BY:]]
    done = 0
    time_s = nan
    if run.epochs:
        done = run.epochs[-1]["epoch"] + 1
        time_s = run.epochs[-1].get("time", {}).get("wall_cumulative_s", nan)
    score, best, best_epoch = _best(run)
    return RunState(
        path=str(path),
        status=run.end_reason or "running",
        epochs=done,
        planned=_planned(run),
        score=score,
        best=best,
        best_epoch=best_epoch,
        time_s=time_s,
        epoch_s=median([s for s in seconds if not isnan(s)] or [nan]),
    )


def epoch_seconds(epoch: EpochData) -> float:
    """What an epoch took; NaN where it was not recorded."""
    time: Any = epoch.get("time", {})
    return float(sum(time.get(phase, nan) for phase in ("train_s", "val_s", "other_s")))


def _planned(run: Run) -> int | None:
    """As the loop told, else as the user's configuration has it."""
    told: Any = run.header.get("config", {}).get("epochs")
    for note in run.notes:
        if note["code"] == "planned":
            told = dict(note).get("epochs")
    if type(told) is not int:
        return None
    return told


def _best(run: Run) -> tuple[str, Estimate, int | None]:
    """The score that selection follows: its name, its best value and the epoch of that."""
    followed = followed_score(evidence_of_run(run), losses=True)
    if followed is None:
        return "", Estimate(), None
    row = followed.best()
    name = f"val/{followed.name}"
    return name, followed.curves.at(name, row), followed.curves.numbers[row]


def duration(seconds: float) -> str:
    """Seconds as a person says them, in at most 11 characters.

    Example:
        >>> duration(7.25), duration(200), duration(4000), duration(1e6)
        ('7.2 s', '3 min 20 s', '1 h 6 min', '11 d 13 h')
    """
    if isnan(seconds) or seconds == inf:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, name, part, part_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // part} {part_name}"
    return f"{whole // 60} min {whole % 60} s"
