"""Score tables and confusion matrices of an epoch, from the record alone, as lines."""

from collections.abc import Iterator, Sequence
from math import isnan

from ptmetrics.record.events import EpochData, ScoreData
from ptmetrics.record.foreign_rows import METHOD
from ptmetrics.show.paint import Line, Styled

HEADLINES = (
    "accuracy",
    "top5_accuracy",
    "balanced_accuracy",
    "precision/macro",
    "recall/macro",
    "f1/macro",
    "mean_iou",
    "dice",
    "mcc",
    "r2",
    "mae",
    "rmse",
    "mse",
    "median_absolute_error",
    "loss",
)
CLASS_COLUMNS = ("precision", "recall", "f1")
MAX_SHOWN_CLASSES = 20  # more than this do not fit on a screen
MAX_SLICES = 10
MAX_PAIRS = 10
MAX_LABEL = 16
MAX_OTHER_SCORES = 12


def score_lines(epoch: EpochData, split: str) -> Iterator[Line]:
    """Headline scores with their intervals, then one line a class, then one a slice."""
    yield from headline_lines(epoch, split)
    yield from _class_lines(epoch, split)
    yield from _slice_lines(epoch, split)


def headline_lines(epoch: EpochData, split: str, *, title: str = "") -> Iterator[Line]:
    """Headline scores with their intervals; of metrics that have none of these the first ones."""
    yield f"{title:20}  value   95 % interval        n"
    scores = {
        name.removeprefix(f"{split}/"): score
        for name, score in epoch["scores"].items()
        if name.startswith(f"{split}/")
    }
    shown = [name for name in HEADLINES if name in scores]
    if not set(shown) - {"loss"}:
        shown = list(scores)[:MAX_OTHER_SCORES]
    for name in shown:
        yield [f"{name:20}  ", *score_cells(scores[name])]


def score_cells(score: ScoreData) -> list[str | Styled]:
    """Value, interval and n; the reason where the value is undefined; of other logs the value."""
    value = Styled(f"{score['value']:.4f}", "strong")
    if score.get("method") == METHOD:
        return [value, "  no interval, the number of samples is not known"]
    if isnan(score["value"]):
        return [f"  nan   {score['reason']}"]
    interval = f"[{score['low']:.4f}, {score['high']:.4f}]"
    return [value, f"  {interval:18} {score['n']:>5}"]


def _class_lines(epoch: EpochData, split: str) -> Iterator[Line]:
    columns = epoch.get("per_class", {}).get(split, {})
    names = epoch.get("class_names", [])
    shown = [columns[name] for name in CLASS_COLUMNS if name in columns]
    if not 0 < len(names) <= MAX_SHOWN_CLASSES or len(shown) < len(CLASS_COLUMNS):
        return
    yield ""
    yield f"{'class':20}" + "".join(f"{name:>11}" for name in CLASS_COLUMNS) + f"{'n':>8}"
    for row, name in enumerate(names):
        cells = "".join(f"{column['value'][row]:>11.3f}" for column in shown)
        yield f"{clip(name, 20):20}{cells}{columns['recall']['n'][row]:>8}"


def _slice_lines(epoch: EpochData, split: str) -> Iterator[Line]:
    slices = epoch.get("per_slice", {}).get(split)
    if not slices:
        return
    column = slices["scores"][slices["by"]]
    yield ""
    yield f"{'slice, worst first':20}  {slices['by']}"
    for row, name in enumerate(slices["names"][:MAX_SLICES]):
        cells = "   nan"
        if not isnan(column["value"][row]):
            interval = f"[{column['low'][row]:.4f}, {column['high'][row]:.4f}]"
            cells = f"{column['value'][row]:.4f}  {interval}"
        yield f"{clip(name, 20):20}  {cells:26} {column['n'][row]:>5}"


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
    if len(names) > MAX_SHOWN_CLASSES:
        yield from confused_pairs(matrix, names)
        return
    width = max(3, *(len(str(count)) for row in matrix for count in row))
    label = min(max(map(len, [*names, "actual"])), MAX_LABEL)
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
    cells = []
    for actual, row in enumerate(matrix):
        for predicted, count in enumerate(row):
            if count and actual != predicted:
                cells.append((count, actual, predicted))
    yield "most confused"
    for count, actual, predicted in sorted(cells, reverse=True)[:MAX_PAIRS]:
        yield f"  {count:>6} × {clip(names[actual])} taken for {clip(names[predicted])}"


def clip(name: str, size: int = MAX_LABEL) -> str:
    """A name of at most `size` characters."""
    if len(name) > size:
        name = name[: size - 1] + "…"
    return name
