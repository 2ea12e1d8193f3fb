"""Runs as a person looks at them: all below a folder as a table, or one while it goes on."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ptmetrics.record.printable import quantity
from ptmetrics.record.reader import Run
from ptmetrics.show.epochs import EpochTable
from ptmetrics.show.opinion import estimate_text, verdict_lines
from ptmetrics.show.paint import WIDTH, Line, Paint, Styled, plain, wrap
from ptmetrics.show.run_state import GOES_ON, RunState, duration, epoch_seconds
from ptmetrics.show.tables import clip
from ptmetrics.verdict.judge import judge

HEAD = ("status", "best", "", "epochs", "time")
STATUS_STYLES = {
    "completed": "good",
    "early stopping": "good",
    "running": "strong",
    "not begun": "dim",
}
"""How a status is painted; any other is bad."""
CLEAR_LINE = "\r\x1b[K"
LIVE_WIDTH = 79  # a line that is drawn anew may not be broken


# All runs below a folder


def listing_text(states: Sequence[RunState], folder: Path, paint: Paint = plain) -> str:
    """The table, and why some of the runs cannot be read.

    Args:
        states: How each run stands.
        folder: Their paths are told from here.
        paint: For the place where it is shown.
    """
    return paint.join(_listing_lines(states, folder))


def _listing_lines(states: Sequence[RunState], folder: Path) -> Iterator[Line]:
    rows = [HEAD, *map(_row, states)]
    names = ["run", *(_name_from(folder, state) for state in states)]
    styles = ["dim", *(STATUS_STYLES.get(state.status, "bad") for state in states)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = min(max(map(len, names)), WIDTH - sum(widths) - 2 * len(widths))
    for name, row, style in zip(names, rows, styles, strict=True):
        status, *others = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        if len(name) > room:
            name = "…" + name[1 - room :]  # its end tells seeds apart
        yield [f"{name:<{room}}  ", Styled(status, style), "  ", "  ".join(others).rstrip()]
    for name, state in zip(names[1:], states, strict=True):
        if state.why:
            yield from wrap(f"{name} cannot be read: {state.why}")


def _row(state: RunState) -> tuple[str, ...]:
    return (
        clip(state.status),
        clip(state.score, 20),
        clip(_best_text(state), 23),
        _epochs_text(state),
        duration(state.time_s),
    )


def _name_from(folder: Path, state: RunState) -> str:
    """The path of a run as it is named from a folder; of the folder itself its own name."""
    name = os.path.relpath(state.path, folder)
    if name == ".":
        return folder.absolute().name
    return name


# One run while it goes on


def follow(
    views: Iterable[tuple[Run | None, RunState]],
    say: Callable[[str], object],
    paint: Paint,
    *,
    live: bool,
) -> None:
    """Write a line an epoch as they come, and what became of the run.

    Args:
        views: What `watch` yields.
        say: Writes at once.
        paint: For the place where it is shown.
        live: Whether a line below, how the run stands, can be drawn anew.
    """
    read = 0
    table = EpochTable("")
    ending: list[Line] = []
    try:
        for run, state in views:
            lines: list[Line] = []
            if run is not None:
                known = len(run.epochs) + len(run.superseded)
                if known < read:
                    read = 0  # another run
                if not read:
                    table = EpochTable(state.score)
                fresh = min(known - read, len(run.epochs))
                for epoch in run.epochs[len(run.epochs) - fresh :]:
                    seconds = epoch_seconds(epoch)
                    lines.extend(table.lines(epoch["epoch"], epoch["scores"], seconds))
                read = known
            text = "".join(paint.join([line]) + "\n" for line in lines)
            if live:
                text = CLEAR_LINE + text + paint.join([clip(_standing(state), LIVE_WIDTH)])
            say(text)
            ending = list(_ending(run, state))
    finally:
        if live:
            say(CLEAR_LINE)
    say(paint.join(ending) + "\n")


def _ending(run: Run | None, state: RunState) -> Iterator[Line]:
    """How the run stands, its best epoch, and the first line of the verdict if it has ended."""
    yield [Styled(_standing(state), STATUS_STYLES.get(state.status, "bad"))]
    if state.best_epoch is not None:
        yield f"best {state.score}: {_best_text(state)} in epoch {state.best_epoch + 1}"
    if run is None:
        return
    if run.faults:
        count = sum(fault["count"] for fault in run.faults)
        yield [Styled(f"faults contained: {count}", "bad")]
    if state.status not in GOES_ON:
        yield next(verdict_lines(judge(run)))
        yield f"All of it: ptmetrics report {state.path}"


def _standing(state: RunState) -> str:
    words = [state.status]
    if state.status == "stalled":
        words = [f"stalled for {duration(state.silent_s)}"]
    done = quantity(state.epochs, "epoch")
    if state.planned is not None:
        done = f"{state.epochs} of {quantity(state.planned, 'epoch')}"
    words.append(done)
    if state.epochs:
        words += [f"{state.epoch_s:.1f} s each", f"{duration(state.time_s)} in all"]
        if state.planned is not None and state.status == "running":
            left_s = (state.planned - state.epochs) * state.epoch_s - state.silent_s
            words.append(f"about {duration(max(0.0, left_s))} to go")
    return ", ".join(words)


def _epochs_text(state: RunState) -> str:
    if state.planned is None:
        return str(state.epochs)
    return f"{state.epochs} of {state.planned}"


def _best_text(state: RunState) -> str:
    """The best value, with its interval where there is one; empty where there is no score."""
    if not state.score:
        return ""
    return estimate_text(state.best)
