"""How a run stands, from its record alone: whether it goes on, its best score, its pace."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import nan
from pathlib import Path
from statistics import median
from typing import Any

from ptmetrics.errors import RecordError
from ptmetrics.record.events import EpochData
from ptmetrics.record.reader import Run, read_run
from ptmetrics.record.run_folder import journals
from ptmetrics.show.tables import judged_score
from ptmetrics.verdict.finding import Estimate, Plain
from ptmetrics.verdict.followed import best_row, followed_score
from ptmetrics.verdict.gathering import evidence_of_run
from ptmetrics.verdict.judge import judge

PACED_BY = 5  # the last epochs
SILENCE_S = 60.0
"""A run that has written nothing for so long, and for three epochs, is stalled."""
FIRST_SILENCE_S = 600.0
"""The same while no epoch is done."""
POLL_S = 1.0
READING_SHARE = 0.1  # of the time: a record that is long to read is looked at less often
GOES_ON = frozenset({"not begun", "running", "stalled"})


@dataclass(frozen=True)
class RunState(Plain):
    """How a run stands.

    Attributes:
        path: The run folder, or the file.
        status: "not begun", "running", "stalled", "unreadable", or how it ended.
        why: Why it cannot be read.
        epochs: Epochs that are closed.
        planned: Epochs that it is to have; None where nothing tells.
        score: Full name of the validation score that selection follows, else of the judged one,
            else of the headline.
        best: Its value in the best epoch.
        best_epoch: The number of that, from 0: what the run chose and the verdict judges, else
            where the score is best.
        time_s: What the run took so far.
        epoch_s: What one of the last epochs took.
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
    silent_s: float = nan


def watch(
    path: Path,
    *,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[tuple[Run | None, RunState]]:
    """A run, None while its record is empty, and how it stands, each second until it has ended.

    It is read again when its record has grown.

    Args:
        path: The run folder or journal.
        now: Unix seconds.
        sleep: Waits so many seconds.

    Raises:
        RecordError: If the record cannot be read.
    """
    seen: list[tuple[int, float]] | None = None
    run: Run | None = None
    state = RunState(str(path), "not begun")
    pause = POLL_S
    while True:
        files = _sizes_and_times(path)
        if files != seen:
            began = now()
            if not files or any(size for size, _ in files):
                run = read_run(path)
                state = _state_of(path, run)
            pause = max(POLL_S, (now() - began) / READING_SHARE)
            seen = files
        silent_s = max(0.0, now() - max((changed for _, changed in files), default=now()))
        patience_s = max(SILENCE_S, 3 * state.epoch_s)
        if not state.epochs:
            patience_s = FIRST_SILENCE_S
        status = state.status
        if status == "running" and silent_s > patience_s:
            status = "stalled"
        yield run, replace(state, status=status, silent_s=silent_s)
        if status not in GOES_ON:
            return
        sleep(pause)


def state_at(path: Path, now: Callable[[], float] = time.time) -> RunState:
    """How the run at a path stands now, whatever is wrong with it."""
    try:
        _, state = next(watch(path, now=now))
    except RecordError as error:
        return RunState(str(path), "unreadable", f"expected {error.expected}, got {error.got}")
    return state


def epoch_seconds(epoch: EpochData) -> float:
    """What an epoch took; NaN where it was not recorded."""
    phases: Any = epoch.get("time", {})
    return float(sum(phases.get(phase, nan) for phase in ("train_s", "val_s", "other_s")))


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds.

    Example:
        >>> duration(7.25), duration(4000)
        ('0:00:07', '1:06:40')
    """
    if not 0 <= seconds < 1e9:
        return "–"
    return str(timedelta(seconds=round(seconds)))


def _sizes_and_times(path: Path) -> list[tuple[int, float]]:
    """Of each file of the record its size, and when it was changed last."""
    try:
        files = [path]
        if path.is_dir():
            files = journals(path)
        told = [file.stat() for file in files]
    except OSError as error:
        cure = "Check the path and its permissions."
        rule = "a record that can be read"
        raise RecordError(str(path), rule, error.strerror or str(error), cure) from error
    return [(each.st_size, each.st_mtime) for each in told]


def _state_of(path: Path, run: Run) -> RunState:
    state = RunState(str(path), run.end_reason or "running", planned=_planned(run))
    if not run.epochs:
        return state
    last = run.epochs[-1]
    state = replace(
        state,
        epochs=last["epoch"] + 1,
        time_s=last.get("time", {}).get("wall_cumulative_s", nan),
        epoch_s=median(map(epoch_seconds, run.epochs[-PACED_BY:])),
    )
    evidence = evidence_of_run(run)
    judged = judged_score(judge(run).criteria, evidence.val)
    if judged is not None and not evidence.selected_by:
        evidence = replace(evidence, selected_by=(judged,))
    followed = followed_score(evidence, losses=True)
    if followed is None:
        return state
    row = best_row(evidence, followed)
    name = f"val/{followed.name}"
    best = followed.curves.at(name, row)
    return replace(state, score=name, best=best, best_epoch=followed.curves.numbers[row])


def _planned(run: Run) -> int | None:
    """As the loop told last, else as the user's configuration has it."""
    told: Any = run.header.get("config", {}).get("epochs")
    for note in run.notes:
        if note["code"] == "planned":
            told = dict(note).get("epochs")
    if type(told) is not int:
        return None
    return told
