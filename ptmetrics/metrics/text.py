"""Scores as text: scikit-learn's classification report digit for digit, a table of outputs, the intervals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ptmetrics.metrics.score import Scores, number

Row = tuple[str, list[float], float]  # name; precision, recall and F1; support
HEADERS = ("precision", "recall", "f1-score", "support")
COLUMNS = ("precision", "recall", "f1")
MOST_LINES = 4096  # of classes: a longer table is no report
MOST_SLICES = 20


def scores_text(scores: Scores) -> str:
    """What `print(scores)` shows."""
    parts = []
    if scores.per_class and len(scores.class_names) <= MOST_LINES:
        if "support" in scores.per_class:
            parts.append(report_text(scores))
        else:
            parts.append(_outputs_table(scores))
    parts.append(_intervals_table(scores))
    if scores.per_slice:
        parts.append(_slices_table(scores))
    parts.extend(f"{fault['message']}\n" for fault in scores.faults.values())
    parts.extend(f"{note}\n" for note in scores.notes)
    if scores.confused:
        lines = ["most confused:\n"]
        for pair in scores.confused:
            actual = scores.class_names[pair.actual]
            predicted = scores.class_names[pair.predicted]
            lines.append(f"  {actual} taken for {predicted}: {pair.low} to {pair.high} times\n")
        parts.append("".join(lines))
    return "\n".join(parts)


def report_text(scores: Scores, digits: int = 2) -> str:
    """`sklearn.metrics.classification_report` as text, to the last blank."""
    support = scores.per_class["support"]
    weighted = any(s.value != s.n for s in support)
    longest = max((len(name) for name in scores.class_names), default=0)
    width = max(longest, len("weighted avg"), digits)
    lines = [f"{'':>{width}s} " + "".join(f" {h:>9}" for h in HEADERS), ""]
    lines.extend(_report_line(row, width, digits, weighted) for row in _class_rows(scores))
    lines.append("")
    lines.extend(_report_line(row, width, digits, weighted) for row in _average_rows(scores))
    return "\n".join(lines) + "\n"


def report_dict(scores: Scores) -> dict[str, Any]:
    """The same as plain numbers, as scikit-learn's dictionary."""
    report: dict[str, Any] = {}
    for name, values, support in (*_class_rows(scores), *_average_rows(scores)):
        numbers = [float(value) for value in (*values, support)]
        report[name] = dict(zip(HEADERS, numbers, strict=False))
    if "accuracy" in scores:
        report["accuracy"] = scores["accuracy"].value
    return report


def _class_rows(scores: Scores) -> Iterator[Row]:
    columns = [list(scores.per_class[name]) for name in COLUMNS]
    support = list(scores.per_class["support"])
    for i, name in enumerate(scores.class_names):
        yield name, [column[i] for column in columns], support[i]


def _average_rows(scores: Scores) -> Iterator[Row]:
    total = float(sum(scores.per_class["support"]))
    averages = ["micro", "macro", "weighted", "samples"]
    if "accuracy" in scores:
        yield "accuracy", [scores["accuracy"]], total
        averages = ["macro", "weighted"]
    for average in averages:
        yield f"{average} avg", [scores[f"{name}/{average}"] for name in COLUMNS], total


def _report_line(row: Row, width: int, digits: int, weighted: bool) -> str:
    name, values, support = row
    blank = " " * 10 * (len(COLUMNS) - len(values))  # the accuracy stands below F1
    cells = blank + "".join(f" {value:>9.{digits}f}" for value in values)
    count = f"{support:.0f}"
    if weighted:
        count = f"{float(support)}"
    return f"{name:>{width}s} {cells} {count:>9}"


def _intervals_table(scores: Scores) -> str:
    """One line a score: value, 95 % interval, n and how the interval was made."""
    rows = []
    for name, score in scores.items():
        ends = f"[{number(score.low)}, {number(score.high)}]"
        rows.append((name, number(score), ends, score))
    width = max((len(row[0]) for row in rows), default=0)
    value_width = max((len(row[1]) for row in rows), default=5)
    ends_width = max((len(row[2]) for row in rows), default=0)
    head = f"{'':<{width}}  {'value':>{value_width}}   {'95 % interval':<{ends_width}}"
    lines = [f"{head}  {'n':>6}  method"]
    for name, value, ends, score in rows:
        rest = score.reason
        if not rest:
            rest = f"{ends:<{ends_width}}  {score.n:>6}  {score.method}"
        lines.append(f"{name:<{width}}  {value:>{value_width}}   {rest}")
    return "\n".join(lines) + "\n"


def _outputs_table(scores: Scores) -> str:
    """One line a score, one column an output of a regression."""
    rows = [("", list(scores.class_names))]
    for name, values in scores.per_class.items():
        rows.append((name, [number(score) for score in values]))
    width = max(len(name) for name, _ in rows)
    columns = zip(*(cells for _, cells in rows), strict=True)
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for name, cells in rows:
        line = "".join(f"  {c:>{w}}" for c, w in zip(cells, widths, strict=True))
        lines.append(f"{name:<{width}}{line}\n")
    return "".join(lines)


def _slices_table(scores: Scores) -> str:
    """One line a slice, the worst first: its headline score with interval and n."""
    names = list(scores.per_slice)[:MOST_SLICES]
    width = max(map(len, names))
    lines = [f"slices by {scores.headline}, worst first:"]
    for name in names:
        lines.append(f"  {name:<{width}}  {scores.per_slice[name][scores.headline]}")
    more = len(scores.per_slice) - len(names)
    if more:
        lines.append(f"  and {more} more")
    return "\n".join(lines) + "\n"
