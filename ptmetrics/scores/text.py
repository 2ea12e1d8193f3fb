"""Scores as text: scikit-learn's classification report, digit for digit, and the intervals below it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptmetrics.scores.score import Scores

HEADERS = ("precision", "recall", "f1-score", "support")


def classification_report(scores: Scores, digits: int = 2) -> str:
    """The table of `sklearn.metrics.classification_report(..., zero_division=absent)`, to the last blank.

    Args:
        scores: Scores of a single-label task with per-class values.
        digits: Digits after the point.
    """
    names = scores.class_names
    width = max([len(name) for name in names] + [len("weighted avg"), digits])
    support = scores.per_class["support"]
    total: float = sum(support)
    columns = zip(*(scores.per_class[c] for c in ("precision", "recall", "f1")), strict=True)
    lines = [f"{'':>{width}s} " + "".join(f" {h:>9}" for h in HEADERS), ""]
    for name, values, count in zip(names, columns, support, strict=True):
        lines.append(_row(name, values, count, width, digits))
    blank = " " * 10
    lines += [
        "",
        f"{'accuracy':>{width}s} {blank}{blank} {scores['accuracy']:>9.{digits}f} {_support(total):>9}",
    ]
    for average, heading in (("macro", "macro avg"), ("weighted", "weighted avg")):
        row = (scores[f"{metric}/{average}"] for metric in ("precision", "recall", "f1"))
        lines.append(_row(heading, row, total, width, digits))
    return "\n".join(lines) + "\n"


def intervals_table(scores: Scores) -> str:
    """One line a score: value, 95 % interval, n and how the interval was made."""
    width = max(len(name) for name in scores)
    lines = [f"{'':<{width}}   value   95 % interval          n  method"]
    for name, s in scores.items():
        if s.reason:
            lines.append(f"{name:<{width}}     nan   {s.reason}")
        else:
            lines.append(f"{name:<{width}}  {s:.4f}   [{s.low:.4f}, {s.high:.4f}]  {s.n:>6}  {s.method}")
    return "\n".join(lines) + "\n"


def scores_text(scores: Scores) -> str:
    """What `print(scores)` shows."""
    parts = [classification_report(scores)] if scores.per_class else []
    parts.append(intervals_table(scores))
    parts += [f"{fault['message']}\n" for fault in scores.faults.values()]
    return "\n".join(parts)


def _row(name: str, values: Iterable[float], support: float, width: int, digits: int) -> str:
    cells = "".join(f" {value:>9.{digits}f}" for value in values)
    return f"{name:>{width}s} {cells} {_support(support):>9}"


def _support(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{float(value)}"
