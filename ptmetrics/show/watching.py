"""A run that goes on as a person watches it: its last epochs, its pace, what became of it."""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ptmetrics.record.reader import Run, read_run
from ptmetrics.show.epochs import EpochTable
from ptmetrics.show.listing import STATUS_STYLES, best_text
from ptmetrics.show.opinion import verdict_lines
from ptmetrics.show.paint import Line, Paint, Styled
from ptmetrics.show.run_state import (
    RunState,
    duration,
    epoch_seconds,
    record_files,
    silence,
    state_of,
)
from ptmetrics.verdict.judge import judge

POLL_S = 1.0
READING_SHARE = 0.1  # of the time: a record that is long to read is looked at less often
OTHER_LINES = 9  # of a view, beside those of the epochs
FEWEST_EPOCHS = 3
OPEN_SCREEN = "\x1b[?1049h\x1b[?7l"  # the terminal's second screen, where long lines are cut off
CLEAR_SCREEN = "\x1b[H\x1b[J"
CLOSE_SCREEN = "\x1b[?7h\x1b[?1049l"


class View(NamedTuple):
    """What is seen of a run at a time.

    Attributes:
        run: The run as it was read last; None while its record is empty.
        state: How it stands.
    """

    run: Run | None
    state: RunState


def watch(
    path: Path,
    *,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[View]:
    """A view of a run each second, until it has ended. It is read again when its record has grown.

    Args:
        path: The run folder or journal.
        now: Unix seconds.
        sleep: Waits so many seconds.

    Raises:
        RecordError: If the record cannot be read.
    """
    seen = None
    pause = POLL_S
    run: Run | None = None
    state = RunState(str(path), "not begun")
    while True:
        files = record_files(path)
        if files != seen:
            began = now()
            run = None
            if any(size for size, _ in files.values()):
                run = read_run(path)
            state = state_of(path, run)
            pause = max(POLL_S, (now() - began) / READING_SHARE)
            seen = files
        yield View(run, state.silent_for(silence(files, now())))
        if not state.goes_on:
            return
        sleep(pause)


def view_lines(view: View, height: int) -> Iterator[Line]:
    """All of a view.

    Args:
        view: What is seen.
        height: Lines that there is room for; as many of the last epochs are shown.
    """
    yield [Styled(view.state.path, "strong")]
    yield _status_line(view.state)
    yield _pace(view.state)
    if view.run is not None and view.run.epochs:
        yield ""
        yield from _table(view, max(FEWEST_EPOCHS, height - OTHER_LINES))
        yield ""
    yield from end_lines(view)


def end_lines(view: View) -> Iterator[Line]:
    """The best epoch, what went wrong, and of a run that has ended the first line of its verdict."""
    state = view.state
    if state.best_epoch is not None:
        yield f"best {state.score}: {best_text(state)} in epoch {state.best_epoch + 1}"
    if view.run is None:
        return
    if view.run.faults:
        count = sum(fault["count"] for fault in view.run.faults)
        yield [Styled(f"faults contained: {count}", "bad")]
    if not state.goes_on:
        yield next(verdict_lines(judge(view.run)))
        yield f"All of it: ptmetrics report {state.path}"


def told(views: Iterable[View]) -> Iterator[Line]:
    """Lines for where nothing can be drawn anew: one an epoch, and what became of the run."""
    read: tuple[str | None, int] = (None, 0)  # the run, and how many of its epochs
    status = ""
    table = EpochTable("")
    view = None
    for view in views:
        if view.run is None:
            continue
        known = (view.run.run_id, len(view.run.epochs) + len(view.run.superseded))
        if known[0] != read[0]:
            yield [Styled(view.state.path, "strong")]
            read = (known[0], 0)
        if not read[1]:
            table = EpochTable(view.state.score)
        fresh = known[1] - read[1]
        if fresh > 0:
            for epoch in view.run.epochs[-fresh:]:
                yield from table.lines(epoch["epoch"] + 1, epoch["scores"], epoch_seconds(epoch))
        read = known
        if view.state.status not in (status, "running"):
            yield _status_line(view.state)
        status = view.state.status
    if view is not None:
        yield from end_lines(view)


def draw(
    views: Iterable[View], write: Callable[[str], object], paint: Paint, height: Callable[[], int]
) -> None:
    """Draw each view on the second screen of a terminal, and leave the last one on the first.

    Args:
        views: What is seen.
        write: Writes to the terminal, at once.
        paint: For it.
        height: Its lines now.
    """
    shown = ""
    write(OPEN_SCREEN)
    try:
        for view in views:
            text = paint.join(view_lines(view, height())) + "\n"
            if text != shown:
                write(CLEAR_SCREEN + text)
                shown = text
    finally:
        write(CLOSE_SCREEN)
    write(shown)


def _status_line(state: RunState) -> Line:
    words = state.status
    if state.status == "stalled":
        words = f"stalled: nothing new for {duration(state.silent_s)}"
    elif not state.goes_on:
        words = f"ended: {state.status}"
    return [Styled(words, STATUS_STYLES.get(state.status, "bad"))]


def _pace(state: RunState) -> str:
    done = f"{state.epochs} epochs"
    if state.planned is not None:
        done = f"{state.epochs} of {state.planned} epochs"
    words = [done]
    if state.epochs:
        words += [f"{duration(state.epoch_s)} an epoch", f"{duration(state.time_s)} so far"]
    if state.left_s >= 0:
        words.append(f"about {duration(state.left_s)} to go")
    return ", ".join(words)


def _table(view: View, most: int) -> Iterator[Line]:
    """The head of the table and its last lines."""
    table = EpochTable(view.state.score)
    head: Line = ""
    rows: list[Line] = []
    for epoch in view.run.epochs if view.run is not None else ():
        *heads, row = table.lines(epoch["epoch"] + 1, epoch["scores"], epoch_seconds(epoch))
        head = [*heads, head][0]
        rows.append(row)
    yield head
    yield from rows[-most:]
