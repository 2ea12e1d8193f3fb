"""Score tables and confusion matrices of an epoch, from the record alone, as lines."""

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np
import numpy.typing as npt

from ptmetrics.digits import number, numbers
from ptmetrics.record.events import AUDIT_NOTE, EpochData, ScoreData
from ptmetrics.record.foreign_epochs import METHOD
from ptmetrics.show.paint import WIDTH, Line, Styled, wrap
from ptmetrics.verdict.finding import Criterion

OF_CLASSES = (
    "accuracy",
    "top5_accuracy",
    "balanced_accuracy",
    "precision/macro",
    "recall/macro",
    "f1/macro",
    "mcc",
    "loss",
)
HEADLINES = {
    "exact_match": (
        "exact_match",
        "hamming_loss",
        "precision/macro",
        "recall/macro",
        "f1/macro",
        "f1/micro",
        "auroc/macro",
        "average_precision/macro",
        "loss",
    ),
    "average_precision": (
        "accuracy",
        "balanced_accuracy",
        "precision",
        "recall",
        "specificity",
        "f1",
        "auroc",
        "average_precision",
        "mcc",
        "loss",
    ),
    "r2": ("r2", "mae", "rmse", "mse", "median_absolute_error", "bias", "loss"),
}
"""Scores that a person wants first, by the score that tells what the task is about."""
OF_POSITIONS = (
    "accuracy",
    "mean_iou",
    "dice",
    "balanced_accuracy",
    "f1/macro",
    "perplexity",
    "loss",
)
"""Where a sample holds several rows, as pixels of a picture or tokens of a text."""
CLASS_COLUMNS = ("precision", "recall", "f1")
OF_AREAS = "iou"
"""A further column where pixels are counted, whose overlap is judged."""
OUTPUT_COLUMNS = ("r2", "mae", "rmse", "bias")
"""Of each output, where several numbers are predicted."""
JUDGED_FIRST = ("high-perplexity", "low-overlap", "low-r2", "high-error", "low-accuracy")
"""Codes of the criteria that a verdict turns on, the first ones first; then `SHARES`."""
SHARES = ("recall", "precision")
MAX_SHOWN_CLASSES = 20  # more than this do not fit on a screen
MAX_SLICES = 10
MAX_PAIRS = 10
MAX_LABEL = 16
MAX_OTHER_SCORES = 12
Widths = tuple[int, int, int]
"""Characters of the columns of value, interval and n."""
LEAST_WIDTHS: Widths = (6, 18, 5)


def score_lines(
    epoch: EpochData,
    split: str,
    criteria: Iterable[Criterion] = (),
    header: Mapping[str, Any] | None = None,
) -> Iterator[Line]:
    """Headline scores with their intervals, then one line a class, then one a slice."""
    yield from headline_lines(epoch, split, criteria=criteria, header=header)
    yield from _class_lines(epoch, split)
    yield from _output_lines(epoch, split)
    yield from _slice_lines(epoch, split)


def headline_lines(
    epoch: EpochData,
    split: str,
    *,
    title: str = "",
    criteria: Iterable[Criterion] = (),
    header: Mapping[str, Any] | None = None,
) -> Iterator[Line]:
    """Headline scores with their intervals, one a line."""
    shown = headlines(epoch, split, criteria, header)
    width = max(map(len, [*shown, " " * 20]))
    widths = _widths(shown.values())
    value, interval, n = widths
    yield f"{title:{width}}  {'value':{value}}  {'95 % interval':{interval}} {'n':>{n}}"
    for name, score in shown.items():
        yield from score_line(f"{name:{width}}  ", score, widths)
    more = sum(name.startswith(f"{split}/") for name in epoch["scores"]) - len(shown)
    if len(shown) >= MAX_OTHER_SCORES and more:
        yield f"{more} more: see the history"


def judged_score(criteria: Iterable[Criterion], names: Collection[str]) -> str | None:
    """The score that a verdict turns on first, such as the perplexity of tokens.

    Of precision and recall it is the one that more is asked of.

    Args:
        criteria: Those of the verdict.
        names: The scores that there are, without their split.

    Returns:
        One of the names; None where none is judged before the others.
    """
    held = {each.code: each for each in criteria}
    for code in JUDGED_FIRST:
        if code in held and held[code].name in names:
            return held[code].name
    asked = {name: held[f"low-{name}"].threshold for name in SHARES if f"low-{name}" in held}
    if len(set(asked.values())) < len(asked):
        return None
    for name in sorted(asked, key=asked.__getitem__, reverse=True):
        for variant in (name, f"{name}/macro"):
            if variant in names:
                return variant
    return None


def headlines(
    epoch: Mapping[str, Any],
    split: str,
    criteria: Iterable[Criterion] = (),
    header: Mapping[str, Any] | None = None,
) -> dict[str, ScoreData]:
    """The scores of a split that a person wants first; of metrics that have none of these the first ones.

    Args:
        epoch: Where they stand.
        split: Their split.
        criteria: What they are judged by: the judged score comes before all others.
        header: Of the run: what its further metrics and outputs scored comes last.
    """
    scores = {
        name.removeprefix(f"{split}/"): score
        for name, score in epoch["scores"].items()
        if name.startswith(f"{split}/")
    }
    counts: Mapping[str, Any] = epoch.get("counts", {})
    samples = counts.get(f"{split}_samples", 0)
    shown = [name for name in _wanted(scores, samples) if name in scores]
    if not set(shown) - {"loss"} or any(map(_logged, scores.values())):
        shown = list(scores)[:MAX_OTHER_SCORES]
    judged = judged_score(criteria, scores)
    if judged is not None:
        shown.insert(0, judged)
    shown.extend(_of_further_metrics(header or {}, scores, samples))
    return {name: scores[name] for name in shown}


def _of_further_metrics(
    header: Mapping[str, Any], scores: Mapping[str, ScoreData], samples: int
) -> Iterator[str]:
    """What a person wants of the other outputs, and each mean of a number of the user's own."""
    for metric in header.get("metrics", {}).get("further") or ():
        front = ""
        if metric.get("output"):
            front = f"{metric['output']}/"
        wanted: Sequence[str] = (str(metric.get("name", "")),)
        if front and wanted[0] == "":
            own = {n.removeprefix(front): s for n, s in scores.items() if n.startswith(front)}
            wanted = _wanted(own, samples)
        for name in wanted:
            if front + name in scores:
                yield front + name


def _wanted(scores: Mapping[str, ScoreData], samples: int) -> Sequence[str]:
    """What a person wants to see first of these scores."""
    for telling, names in HEADLINES.items():
        if telling in scores:
            return names
    if "accuracy" in scores and scores["accuracy"].get("n", 0) > samples > 0:
        return OF_POSITIONS
    return OF_CLASSES


def _logged(score: ScoreData) -> bool:
    """Whether another tool wrote it down."""
    return score.get("method") == METHOD


def score_line(head: str, score: ScoreData, widths: Widths = LEAST_WIDTHS) -> Iterator[Line]:
    """Value, interval and n; the reason where the value is undefined; of other logs the value."""
    in_front, *_ = widths
    text, interval, n = _score_cells(score)
    value = Styled(f"{text:>{in_front}}", "strong")
    if isnan(score["value"]):
        why = score.get("reason") or "the log does not tell why"
        yield from wrap(why, f"{head}{text:>{in_front}}  ", indent=len(head) + in_front + 2)
    elif _logged(score) and isnan(score["low"]):
        why = score.get("reason") or "no interval, the number of samples is not known"
        yield [head, value, f"  {why}"]
    else:
        yield [head, value, f"  {interval:{widths[1]}} {n:>{widths[2]}}"]


def _score_cells(score: ScoreData) -> tuple[str, str, str]:
    """Value, interval and n in words."""
    value, low, high = numbers(score["value"], score["low"], score["high"])
    interval = f"[{low}, {high}]"
    if isnan(score["low"]):
        interval = "none"
    return value, interval, f"{score.get('n') or 0:,}"


def _widths(scores: Iterable[ScoreData]) -> Widths:
    """How wide the columns are that hold the cells of all these scores."""
    rows = [("", "", ""), *map(_score_cells, scores)]
    value, interval, n = (max(map(len, column)) for column in zip(*rows, strict=True))
    return max(value, LEAST_WIDTHS[0]), max(interval, LEAST_WIDTHS[1]), max(n, LEAST_WIDTHS[2])


def _class_lines(epoch: EpochData, split: str) -> Iterator[Line]:
    columns = epoch.get("per_class", {}).get(split, {})
    names = epoch.get("class_names", [])
    told = [name for name in CLASS_COLUMNS if name in columns]
    if not 0 < len(names) <= MAX_SHOWN_CLASSES or len(told) < len(CLASS_COLUMNS):
        return
    if epoch.get("sample_axes", {}).get(split, 0) > 1 and OF_AREAS in columns:
        told.append(OF_AREAS)
    shown = [columns[name] for name in told]
    yield ""
    yield f"{'class':20}" + "".join(f"{name:>11}" for name in told) + f"{'n':>10}"
    for row, name in enumerate(names):
        cells = "".join(f"{number(column['value'][row]):>11}" for column in shown)
        yield f"{clip(name, 20):20}{cells}{columns['recall']['n'][row]:>10,}"
    if any(isnan(value) for column in shown for value in column["value"]):
        yield "nan: nothing to count there, such as a class without a sample"


def _output_lines(epoch: EpochData, split: str) -> Iterator[Line]:
    """Scores of each output, where several numbers are predicted."""
    columns = epoch.get("per_class", {}).get(split, {})
    names = epoch.get("class_names", [])
    shown = {name: columns[name] for name in OUTPUT_COLUMNS if name in columns}
    if not 0 < len(names) <= MAX_SHOWN_CLASSES or "r2" not in shown:
        return
    yield ""
    yield f"{'output':20}" + "".join(f"{name:>12}" for name in shown) + f"{'n':>10}"
    for row, name in enumerate(names):
        cells = "".join(f"{number(column['value'][row]):>12}" for column in shown.values())
        yield f"{clip(name, 20):20}{cells}{columns['r2']['n'][row]:>10,}"


def _slice_lines(epoch: EpochData, split: str) -> Iterator[Line]:
    slices = epoch.get("per_slice", {}).get(split)
    if not slices:
        return
    column = slices["scores"][slices["by"]]
    told: dict[str, Any] = {}
    for row, name in enumerate(slices["names"][:MAX_SLICES]):
        told[name] = {key: column[key][row] for key in ("value", "low", "high", "n")}
        told[name]["reason"] = "nothing to count"
    widths = _widths(told.values())
    yield ""
    yield f"{'slice, worst first':20}  {slices['by']}"
    for name, score in told.items():
        yield from score_line(f"{clip(name, 20):20}  ", score, widths)


def confusion_lines(epoch: EpochData, split: str) -> Iterator[Line]:
    """Counts, rows actual and columns predicted; of many classes the pairs most confused."""
    matrix = epoch.get("confusion", {}).get(split)
    names = epoch.get("class_names", [])
    if not matrix:
        why = ""
        if len(names) > MAX_SHOWN_CLASSES:
            why = ", there are too many classes"
        yield f"confusion matrix: not recorded{why}"
        return
    width = max(3, *(len(str(count)) for row in matrix for count in row))
    label = min(max(map(len, [*names, "actual"])), MAX_LABEL)
    if len(names) > MAX_SHOWN_CLASSES or label + 2 + len(names) * (1 + width) > WIDTH:
        yield from confused_pairs(matrix, names)
        return
    yield f"{'actual':<{label}} │ predicted"
    if width >= max(map(len, names)):
        yield f"{'':<{label}} │" + "".join(f" {name:>{width}}" for name in names)
    for actual, row in enumerate(matrix):
        line: list[str | Styled] = [f"{clip(names[actual], label):>{label}} │"]
        for predicted, count in enumerate(row):
            line.append(" ")
            if count == 0:
                line.append(Styled(f"{'·':>{width}}", "dim"))
            elif actual == predicted:
                line.append(Styled(f"{count:>{width}}", "good"))
            else:
                line.append(Styled(f"{count:>{width}}", "bad"))
        yield line


def confused_pairs(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Iterator[Line]:
    """The largest cells off the diagonal, in words."""
    yield "most confused"
    for count, actual, predicted in most_confused(matrix):
        yield f"  {count:>6} × {clip(names[actual])} taken for {clip(names[predicted])}"


def most_confused(matrix: npt.ArrayLike) -> list[tuple[int, int, int]]:
    """The largest cells off the diagonal, largest first: count, actual and predicted class."""
    counts = np.array(matrix)
    np.fill_diagonal(counts, 0)
    actual, predicted = counts.nonzero()
    cells = zip(
        counts[actual, predicted].tolist(), actual.tolist(), predicted.tolist(), strict=True
    )
    return heapq.nlargest(MAX_PAIRS, cells)


def clip(name: str, size: int = MAX_LABEL) -> str:
    """A name of at most `size` characters."""
    if len(name) > size:
        name = name[: size - 1] + "…"
    return name


def last_audits(run: Any) -> list[Any]:
    """The last note on leaked rows of each split."""
    notes = [note for note in run.notes if note["code"] == AUDIT_NOTE]
    return list({note["split"]: note for note in notes}.values())
