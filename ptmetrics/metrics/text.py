"""Scores as text: the classification report, or a table of outputs, and the intervals below it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ptmetrics.metrics.score import number

if TYPE_CHECKING:
    from ptmetrics.metrics.score import ConfusedPair, Scores

MOST_LINES = 4096  # of classes: a longer table is no report
MOST_SLICES = 20


def intervals_table(scores: Scores) -> str:
    """One line a score: value, 95 % interval, n and how the interval was made."""
    shown = {
        name: (number(s), f"[{number(s.low)}, {number(s.high)}]") for name, s in scores.items()
    }
    width, value_width, ends_width = (
        max(map(len, c)) for c in (shown, *zip(*shown.values(), strict=True))
    )
    head = f"{'':<{width}}  {'value':>{value_width}}   {'95 % interval':<{ends_width}}  {'n':>6}  method"
    lines = [head]
    for name, (value, ends) in shown.items():
        s = scores[name]
        rest = s.reason or f"{ends:<{ends_width}}  {s.n:>6}  {s.method}"
        lines.append(f"{name:<{width}}  {value:>{value_width}}   {rest}")
    return "\n".join(lines) + "\n"


def outputs_table(scores: Scores) -> str:
    """One line a score, one column an output of a regression."""
    cells = {name: [number(s) for s in values] for name, values in scores.per_class.items()}
    width = max(map(len, cells))
    columns = [scores.class_names, *cells.values()]
    widths = [max(map(len, column)) for column in zip(*columns, strict=True)]
    rows = [("", scores.class_names), *cells.items()]
    return "".join(
        f"{name:<{width}}" + "".join(f"  {c:>{w}}" for c, w in zip(row, widths, strict=True)) + "\n"
        for name, row in rows
    )


def slices_table(scores: Scores) -> str:
    """One line a slice, the worst first: its headline score with interval and n."""
    rows = {
        name: each[scores.headline] for name, each in list(scores.per_slice.items())[:MOST_SLICES]
    }
    width = max(map(len, rows))
    lines = [f"slices by {scores.headline}, worst first:"]
    lines += [f"  {name:<{width}}  {score}" for name, score in rows.items()]
    more = len(scores.per_slice) - len(rows)
    return "\n".join(lines + [f"  and {more} more"] * bool(more)) + "\n"


def scores_text(scores: Scores) -> str:
    """What `print(scores)` shows."""
    from ptmetrics.metrics.report import report_text

    table = report_text if "support" in scores.per_class else outputs_table
    parts = [table(scores)] if scores.per_class and len(scores.class_names) <= MOST_LINES else []
    parts.append(intervals_table(scores))
    parts += [slices_table(scores)] if scores.per_slice else []
    parts += [f"{fault['message']}\n" for fault in scores.faults.values()]
    parts += [f"{note}\n" for note in scores.notes]
    parts += ["most confused:\n" + "".join(map(partial(_pair, scores), scores.confused))] * bool(
        scores.confused
    )
    return "\n".join(parts)


def _pair(scores: Scores, pair: ConfusedPair) -> str:
    actual, predicted = scores.class_names[pair.actual], scores.class_names[pair.predicted]
    return f"  {actual} taken for {predicted}: {pair.low} to {pair.high} times\n"
