"""All runs below a folder as a table: one line a run."""

import os
from collections.abc import Iterator, Sequence
from math import isnan
from pathlib import Path

from ptmetrics.show.opinion import estimate_text
from ptmetrics.show.paint import WIDTH, Line, Paint, Styled, plain, wrap
from ptmetrics.show.run_state import RunState, duration
from ptmetrics.show.tables import clip

HEAD = ("run", "status", "best", "", "epochs", "time")
LONGEST = (WIDTH, 14, 20, 23, 9, 11)  # characters of each column; the name gets the rest
STATUS_STYLES = {
    "completed": "good",
    "early stopping": "good",
    "running": "strong",
    "not begun": "dim",
}
"""How a status is painted; any other is bad."""


def listing_text(states: Sequence[RunState], folder: Path, paint: Paint = plain) -> str:
    """The table, and why some of the runs cannot be read.

    Args:
        states: How each run stands.
        folder: Their paths are told from here.
        paint: For the place where it is shown.
    """
    return paint.join(_lines(states, folder))


def _lines(states: Sequence[RunState], folder: Path) -> Iterator[Line]:
    rows = [(name_from(folder, state), *_cells(state)) for state in states]
    widths = []
    for column, most in enumerate(LONGEST):
        longest = max(len(row[column]) for row in [HEAD, *rows])
        widths.append(min(longest, most))
    widths[0] = min(widths[0], WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1))
    yield _line(HEAD, widths, "dim")
    for state, row in zip(states, rows, strict=True):
        yield _line(row, widths, STATUS_STYLES.get(state.status, "bad"))
    for state, row in zip(states, rows, strict=True):
        if state.why:
            yield from wrap(f"{row[0]} cannot be read: {state.why}")


def _line(cells: Sequence[str], widths: Sequence[int], style: str) -> Line:
    """One row; of a long name the end stands, which tells seeds apart."""
    name, status, *others = cells
    if len(name) > widths[0]:
        name = "…" + name[1 - widths[0] :]
    shown = Styled(f"{clip(status, widths[1]):<{widths[1]}}", style)
    text = ""
    for cell, width in zip(others, widths[2:], strict=True):
        text += f"  {clip(cell, width):<{width}}"
    return [f"{name:<{widths[0]}}  ", shown, text.rstrip()]


def _cells(state: RunState) -> tuple[str, str, str, str, str]:
    epochs = str(state.epochs)
    if state.planned is not None:
        epochs += f" of {state.planned}"
    if state.why:
        epochs = ""
    return state.status, state.score, best_text(state), epochs, duration(state.time_s)


def best_text(state: RunState) -> str:
    """The best value, with its interval where there is one; empty where there is no score."""
    if not state.score:
        return ""
    if isnan(state.best.low):
        return f"{state.best.value:.3f}"
    return estimate_text(state.best)


def name_from(folder: Path, state: RunState) -> str:
    """The path of a run as it is named from a folder; of the folder itself its own name."""
    name = os.path.relpath(state.path, folder)
    if name == ".":
        return folder.absolute().name
    return name
