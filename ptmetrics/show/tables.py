"""Score tables and confusion matrices of an epoch, from the record alone."""

from collections.abc import Iterator, Sequence
from math import isnan

from ptmetrics.record.events import EpochData, ScoreData
from ptmetrics.record.foreign_rows import METHOD
from ptmetrics.show.paint import Paint, plain

HEADLINES = (
    "accuracy", "top5_accuracy", "balanced_accuracy", "precision/macro", "recall/macro", "f1/macro", "mcc",
    "r2", "mae", "rmse", "mse", "median_absolute_error", "loss",
)  # fmt: skip
CLASS_COLUMNS = ("precision", "recall", "f1")
MAX_CLASSES = 20  # more than this do not fit on a screen
MAX_SLICES = 10
MAX_NAME = 16
PAIRS = 10


def score_table(epoch: EpochData, split: str = "val", paint: Paint = plain) -> str:
    """Headline scores with their intervals, then one line a class, then one a slice."""
    scores = epoch["scores"]
    lines = [f"{'':20}  value   95 % interval        n"]
    named = [(name, scores[f"{split}/{name}"]) for name in HEADLINES if f"{split}/{name}" in scores]
    lines += [f"{name:20}  {score_cells(score, paint)}" for name, score in named]
    return "\n".join([*lines, *_class_lines(epoch, split), *_slice_lines(epoch, split)])


def score_cells(score: ScoreData, paint: Paint = plain) -> str:
    """Value, interval and n; the reason where the value is undefined, and no more than the value from other logs."""
    if score.get("method") == METHOD:
        return f"{paint(format(score['value'], '.4f'), 'strong')}  no interval, the number of samples is not known"
    if isnan(score["value"]):
        return f"  nan   {score['reason']}"
    interval = f"[{score['low']:.4f}, {score['high']:.4f}]"
    return f"{paint(format(score['value'], '.4f'), 'strong')}  {interval:18} {score['n']:>5}"


def _class_lines(epoch: EpochData, split: str) -> Iterator[str]:
    columns, names = epoch.get("per_class", {}).get(split), epoch.get("class_names", [])
    if (
        not columns
        or not 0 < len(names) <= MAX_CLASSES
        or any(c not in columns for c in CLASS_COLUMNS)
    ):
        return
    yield ""
    yield f"{'class':20}" + "".join(f"{c:>11}" for c in CLASS_COLUMNS) + f"{'n':>8}"
    for i, name in enumerate(names):
        cells = "".join(f"{columns[c]['value'][i]:>11.3f}" for c in CLASS_COLUMNS)
        yield f"{clip(name, 20):20}{cells}{columns['recall']['n'][i]:>8}"


def _slice_lines(epoch: EpochData, split: str) -> Iterator[str]:
    slices = epoch.get("per_slice", {}).get(split)
    if not slices:
        return
    column, names = slices["scores"][slices["by"]], slices["names"][:MAX_SLICES]
    yield ""
    yield f"{'slice, worst first':20}  {slices['by']}"
    for name, value, low, high, n in zip(
        names, *(column[key] for key in ("value", "low", "high", "n")), strict=False
    ):
        cells = "   nan" if isnan(value) else f"{value:.4f}  [{low:.4f}, {high:.4f}]"
        yield f"{clip(name, 20):20}  {cells:26} {n:>5}"


def confusion_table(epoch: EpochData, split: str = "val", paint: Paint = plain) -> str:
    """Counts, rows actual and columns predicted; with many classes the pairs most often confused."""
    matrix, names = epoch.get("confusion", {}).get(split), epoch.get("class_names", [])
    if not matrix:
        why = ", there are too many classes" if len(names) > MAX_CLASSES else ""
        return f"confusion matrix: not recorded{why}"
    if len(names) > MAX_CLASSES:
        return confused_pairs(matrix, names)
    width = max([len(str(count)) for row in matrix for count in row] + [3])
    label = max(min(max(map(len, names)), MAX_NAME), len("actual"))
    lines = [f"{'actual':<{label}} │ predicted"]
    if width >= max(map(len, names)):
        lines.append(f"{'':<{label}} │" + "".join(f" {name:>{width}}" for name in names))
    for i, row in enumerate(matrix):
        cells = (_count(count, width, diagonal=i == j, paint=paint) for j, count in enumerate(row))
        lines.append(f"{clip(names[i], label):>{label}} │" + "".join(cells))
    return "\n".join(lines)


def confused_pairs(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """The largest cells off the diagonal, in words."""
    cells = [(n, i, j) for i, row in enumerate(matrix) for j, n in enumerate(row) if n and i != j]
    lines = [
        f"  {n:>6} × {clip(names[i])} taken for {clip(names[j])}"
        for n, i, j in sorted(cells)[: -PAIRS - 1 : -1]
    ]
    return "\n".join(["most confused", *lines])


def _count(count: int, width: int, *, diagonal: bool, paint: Paint) -> str:
    if not count:
        return " " + paint(f"{'·':>{width}}", "dim")
    return " " + paint(f"{count:>{width}}", "good" if diagonal else "bad")


def clip(name: str, size: int = MAX_NAME) -> str:
    """A name of at most `size` characters, without control characters."""
    clean = "".join(sign if sign.isprintable() else "�" for sign in name)
    return clean if len(clean) <= size else clean[: size - 1] + "…"
