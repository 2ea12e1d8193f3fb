"""Scores as text: scikit-learn's classification report, digit for digit, and the intervals below it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ptmetrics.scores.score import number

if TYPE_CHECKING:
    from ptmetrics.scores.score import Scores

HEADERS = ("precision", "recall", "f1-score", "support")


def classification_report(scores: Scores, digits: int = 2) -> str:
    """The table of `sklearn.metrics.classification_report(..., zero_division=absent)`, to the last blank.

    Args:
        scores: Scores of a classification, single-label or multilabel.
        digits: Digits after the point.
    """
    names = scores.class_names
    width = max([len(name) for name in names] + [len("weighted avg"), digits])
    support = scores.per_class["support"]
    total: float = sum(support)
    weighted = any(s.value != s.n for s in support)
    columns = zip(*(scores.per_class[c] for c in ("precision", "recall", "f1")), strict=True)
    lines = [f"{'':>{width}s} " + "".join(f" {h:>9}" for h in HEADERS), ""]
    for name, values, count in zip(names, columns, support, strict=True):
        lines.append(_row(name, values, _support(count, weighted), width, digits))
    lines.append("")
    if "accuracy" in scores:
        blank = " " * 20
        lines.append(
            f"{'accuracy':>{width}s} {blank} {scores['accuracy']:>9.{digits}f} {_support(total, weighted):>9}"
        )
    averages = ("macro", "weighted") if "accuracy" in scores else ("micro", "macro", "weighted", "samples")
    for average in averages:
        row = (scores[f"{metric}/{average}"] for metric in ("precision", "recall", "f1"))
        lines.append(_row(f"{average} avg", row, _support(total, weighted), width, digits))
    return "\n".join(lines) + "\n"


def intervals_table(scores: Scores) -> str:
    """One line a score: value, 95 % interval, n and how the interval was made."""
    shown = {name: (number(s), f"[{number(s.low)}, {number(s.high)}]") for name, s in scores.items()}
    width, value_width, ends_width = (max(map(len, c)) for c in (shown, *zip(*shown.values(), strict=True)))
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


def scores_text(scores: Scores) -> str:
    """What `print(scores)` shows."""
    table = classification_report if "support" in scores.per_class else outputs_table
    parts = [table(scores)] if scores.per_class else []
    parts.append(intervals_table(scores))
    parts += [f"{fault['message']}\n" for fault in scores.faults.values()]
    parts += [f"{note}\n" for note in scores.notes]
    return "\n".join(parts)


def _row(name: str, values: Iterable[float], support: str, width: int, digits: int) -> str:
    cells = "".join(f" {value:>9.{digits}f}" for value in values)
    return f"{name:>{width}s} {cells} {support:>9}"


def _support(value: float, weighted: bool) -> str:
    return f"{float(value)}" if weighted else f"{value:.0f}"
