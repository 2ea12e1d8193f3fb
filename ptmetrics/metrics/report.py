"""scikit-learn's classification report, digit for digit, from scores that are there or from predictions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ptmetrics.errors import ConfigError
from ptmetrics.metrics.binary_metrics import BinaryMetrics
from ptmetrics.metrics.multiclass_metrics import MulticlassMetrics
from ptmetrics.metrics.multilabel_metrics import MultilabelMetrics
from ptmetrics.metrics.score import Scores
from ptmetrics.metrics.task import TaskMetrics

Row = tuple[str, list[float], float]  # name; precision, recall and F1; support
HEADERS = ("precision", "recall", "f1-score", "support")
METRICS = ("precision", "recall", "f1")


def classification_report(
    preds: Scores | Tensor,
    target: Tensor | None = None,
    *,
    digits: int = 2,
    output_dict: bool = False,
    sample_weight: Tensor | None = None,
    **options: Any,
) -> str | dict[str, Any]:
    """The report of `sklearn.metrics.classification_report(..., zero_division=absent)`, to the last blank.

    Args:
        preds: Scores of a classification, or predictions; these come first, unlike in scikit-learn.
        target: Truth of the same rows, beside predictions.
        digits: Digits after the point.
        output_dict: Whether to return plain numbers instead of a text, as scikit-learn's dictionary.
        sample_weight: Non-negative weights, beside predictions.
        options: Beside predictions the arguments of `MulticlassMetrics` with num_classes, of `MultilabelMetrics`
            with num_labels, else of `BinaryMetrics`; such as inputs, class_names or absent.

    Raises:
        ConfigError: If the scores are not those of a classification, or anything stands beside scores.
    """
    scores = preds if isinstance(preds, Scores) else _counted(preds, target, sample_weight, options)
    if scores is preds and (target is not None or sample_weight is not None or options):
        raise ConfigError("classification_report", "nothing but digits and output_dict beside Scores",
                          "more", "Give the options to the metrics that compute the scores.")  # fmt: skip
    if "support" not in scores.per_class:
        raise ConfigError("scores", "scores of a classification", f"those of a {scores.task}",
                          "Print them: print(scores).")  # fmt: skip
    return _dictionary(scores) if output_dict else report_text(scores, digits)


def report_text(scores: Scores, digits: int = 2) -> str:
    """The report as text; `print(scores)` begins with it."""
    support = scores.per_class["support"]
    weighted = any(s.value != s.n for s in support)
    width = max([len(name) for name in scores.class_names] + [len("weighted avg"), digits])
    lines = [f"{'':>{width}s} " + "".join(f" {h:>9}" for h in HEADERS), ""]
    lines += [_line(row, width, digits, weighted) for row in _classes(scores)] + [""]
    lines += [_line(row, width, digits, weighted) for row in _averages(scores)]
    return "\n".join(lines) + "\n"


def _counted(
    preds: Tensor, target: Tensor | None, weight: Tensor | None, options: dict[str, Any]
) -> Scores:
    if target is None:
        raise ConfigError("target", "the truth beside predictions", "None",
                          "Pass classification_report(preds, target, num_classes=…), or the Scores alone.")  # fmt: skip
    metrics: type[TaskMetrics] = BinaryMetrics
    if "num_classes" in options or "num_labels" in options:
        metrics = MulticlassMetrics if "num_classes" in options else MultilabelMetrics
    counts = metrics(**options)
    counts.update(preds, target, weight)
    return counts.compute()


def _dictionary(scores: Scores) -> dict[str, Any]:
    rows = [*_classes(scores), *_averages(scores)]
    report: dict[str, Any] = {
        name: dict(zip(HEADERS, map(float, (*values, support)), strict=False))
        for name, values, support in rows
    }
    return report | ({"accuracy": scores["accuracy"].value} if "accuracy" in scores else {})


def _classes(scores: Scores) -> Iterator[Row]:
    columns = zip(*(scores.per_class[metric] for metric in METRICS), strict=True)
    for name, values, support in zip(
        scores.class_names, columns, scores.per_class["support"], strict=True
    ):
        yield name, list(values), support


def _averages(scores: Scores) -> Iterator[Row]:
    total: float = sum(scores.per_class["support"])
    one_label = "accuracy" in scores
    if one_label:
        yield "accuracy", [scores["accuracy"]], total
    for average in (
        ("macro", "weighted") if one_label else ("micro", "macro", "weighted", "samples")
    ):
        yield f"{average} avg", [scores[f"{metric}/{average}"] for metric in METRICS], total


def _line(row: Row, width: int, digits: int, weighted: bool) -> str:
    name, values, support = row
    blank = " " * 10 * (len(METRICS) - len(values))  # the accuracy stands below F1
    cells = blank + "".join(f" {value:>9.{digits}f}" for value in values)
    count = f"{float(support)}" if weighted else f"{support:.0f}"
    return f"{name:>{width}s} {cells} {count:>9}"
