"""Charts, drawn by matplotlib: axes in, axes out. What they show was counted before.

Nothing here imports pyplot unless axes must be made, so that a report needs no window.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from ptmetrics.errors import DependencyError
from ptmetrics.record.printable import printable

Axes = Any  # matplotlib.axes.Axes, which is imported only where something is drawn
Heights = Sequence[float] | npt.NDArray[np.float64]
HIT_COLOUR, MISS_COLOUR = (0.16, 0.44, 0.86), (0.82, 0.27, 0.23)
MOST_WRITTEN = 20  # classes whose counts can be read as numbers
MOST_NAMED = 40  # classes whose names fit beside a matrix
MOST_CELLS = 250  # a side; more would be smaller than a pixel
MOST_SIGNS = 14
POWER_FROM, POWER_BELOW = 1e6, 1e-3
"""From where on, and below which, matplotlib takes a power of ten out of the numbers of an axis."""
WHOLE = ("epoch", "evaluation")  # what is counted has no halves


@dataclass(frozen=True)
class Curve:
    """One line of a chart, with the interval of each point where it has one.

    Args:
        label: What the legend calls it; empty for none.
        x: Where its points stand.
        y: Their heights; NaN leaves a gap.
        low: Lower ends of their intervals.
        high: Upper ends.
        colour: A colour of matplotlib, such as "C0".
        style: How it is dashed.
        group: The id of what is drawn of it in an SVG.
    """

    label: str
    x: Heights
    y: Heights
    low: Heights | None = None
    high: Heights | None = None
    colour: str = "C0"
    style: str = "-"
    group: str | None = None


def axes_of(ax: Axes | None) -> Axes:
    """The axes given, or new ones.

    Raises:
        DependencyError: If matplotlib is not installed.
    """
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError:
        cure = "Run pip install 'ptmetrics[report]'."
        raise DependencyError("matplotlib", "it for a plot", "no such package", cure) from None
    return pyplot.figure(layout="constrained").add_subplot()


def shortened(text: str, size: int = MOST_SIGNS) -> str:
    """A name as it fits beside an axis, and such that nothing obeys it."""
    text = printable(text)
    if len(text) > size:
        text = f"{text[: size - 1]}…"
    return text


def draw_lines(
    ax: Axes,
    lines: Sequence[Curve],
    x_name: str,
    y_name: str,
    *,
    marked: tuple[float, str] | None = None,
    level: tuple[float, str] | None = None,
) -> Axes:
    """Lines with their intervals as bands.

    Args:
        ax: Where to draw.
        lines: What to draw.
        x_name: What stands below.
        y_name: What stands beside.
        marked: A place on the x axis, and what it is called.
        level: A height, and what it is called.
    """
    for line in lines:
        look = {"color": line.colour, "gid": line.group}
        marker = None
        if len(line.x) == 1:
            marker = "o"
        label = shortened(line.label, 40) or None
        ax.plot(line.x, line.y, ls=line.style, marker=marker, label=label, lw=1.6, **look)
        if line.low is not None and np.isfinite(line.low).any():
            ax.fill_between(line.x, line.low, line.high, alpha=0.15, lw=0, **look)
    if any(line.low is not None for line in lines):
        heights = [np.asarray(line.y, dtype=float) for line in lines]
        if level is not None:
            heights.append(np.array([level[0]]))
        _limit_bands(ax, np.concatenate(heights))
    grey = {"lw": 1, "ls": ":", "color": "0.5"}
    if marked is not None:
        ax.axvline(marked[0], label=shortened(marked[1], 40), **grey)
    if level is not None:
        ax.axhline(level[0], label=shortened(level[1], 40), **grey)
    return _framed(ax, x_name, y_name)


def _limit_bands(ax: Axes, heights: npt.NDArray[np.float64]) -> None:
    """Let bands show no more than the lines' own span above and below, so that lines stay apart."""
    heights = heights[np.isfinite(heights)]
    if not heights.size or heights.min() == heights.max():
        return
    lowest, highest = heights.min(), heights.max()
    span = highest - lowest
    low, high = ax.get_ylim()
    if low < lowest - span or high > highest + span:
        below = max(low, lowest - span)
        if lowest >= 0:
            below = max(below, -0.05 * span)  # a loss, whose interval is symmetric, is never less
        ax.set_ylim(below, min(high, highest + span))


def _framed(ax: Axes, x_name: str, y_name: str) -> Axes:
    ax.set_xlabel(x_name, parse_math=False)
    ax.set_ylabel(y_name, parse_math=False)
    if x_name in WHOLE:
        ax.xaxis.get_major_locator().set_params(integer=True)
    highest = max(map(abs, ax.get_ylim()))
    if (
        highest >= POWER_FROM or highest < POWER_BELOW
    ):  # else the power of ten stands where the legend does
        ax.yaxis.set_major_formatter("{x:g}")
    ax.spines[["top", "right"]].set_visible(False)
    shown = ax.get_legend_handles_labels()[1]
    if len(shown) > 1:
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": min(len(shown), 4)}
        look: dict[str, float] = {"fontsize": 9}
        if len(shown) > 3:  # so that they fit side by side
            look = {"fontsize": 8, "handlelength": 1.2, "columnspacing": 1, "handletextpad": 0.5}
        legend = ax.legend(frameon=False, borderaxespad=0.2, **look, **place)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return ax


def draw_confusion(ax: Axes, matrix: npt.ArrayLike, names: Sequence[str]) -> Axes:
    """A confusion matrix, rows actual: the share of each row as strength of the colour.

    Counts are written into the cells of up to 20 classes. Of many classes each point stands for a
    block, and shows the strongest cell of it, so that no mistake disappears.
    """
    counts = np.asarray(matrix, dtype=np.float64)
    classes = len(counts)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1e-300)
    diagonal = np.eye(classes, dtype=bool)
    block = ceil(classes / MOST_CELLS)
    right = _strongest(np.where(diagonal, share, 0), block)
    wrong = _strongest(np.where(diagonal, 0, share), block)
    picture = np.empty((*right.shape, 4))
    picture[..., :3] = np.where((wrong > right)[..., None], MISS_COLOUR, HIT_COLOUR)
    strength = np.maximum(right, wrong)
    picture[..., 3] = np.where(strength > 0, 0.2 + 0.65 * np.sqrt(strength), 0)
    ax.imshow(picture, interpolation="none", extent=(-0.5, classes - 0.5, classes - 0.5, -0.5))
    if classes <= MOST_WRITTEN:
        size = min(10.0, 90 / classes)
        for actual, predicted in np.argwhere(counts > 0):
            count = counts[actual, predicted]
            text = f"{count:.6g}"
            if count == round(count):
                text = f"{count:,.0f}"
            ax.text(predicted, actual, text, ha="center", va="center", fontsize=size)
    if classes <= MOST_NAMED:
        shown = [shortened(name) for name in names]
        size = min(10.0, 200 / classes)
        turned = 0
        if max(map(len, shown)) * classes > 60:
            turned = 90
        ax.set_xticks(range(classes), shown, rotation=turned, fontsize=size, parse_math=False)
        ax.set_yticks(range(classes), shown, fontsize=size, parse_math=False)
        ax.tick_params(length=0)
    ax.set_xlabel("predicted")
    ax.set_ylabel("actual")
    return ax


def _strongest(share: npt.NDArray[np.float64], block: int) -> npt.NDArray[np.float64]:
    """The largest share of each block of cells."""
    if block == 1:
        return share
    starts = np.arange(0, len(share), block)
    rows = np.maximum.reduceat(share, starts, axis=0)
    strongest: npt.NDArray[np.float64] = np.maximum.reduceat(rows, starts, axis=1)
    return strongest


def draw_roc(ax: Axes, lines: Sequence[Curve]) -> Axes:
    """ROC curves above the diagonal of a guess."""
    ax.plot([0, 1], [0, 1], lw=1, ls=":", color="0.5")
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    return draw_lines(ax, lines, "false positive rate", "true positive rate")


def draw_precision_recall(ax: Axes, lines: Sequence[Curve]) -> Axes:
    """Precision against recall."""
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    return draw_lines(ax, lines, "recall", "precision")


def draw_calibration(ax: Axes, bins: Any) -> Axes:
    """How often predictions come true against their mean probability, of bins of that.

    Args:
        ax: Where to draw.
        bins: Rows with the fields weight, confidence and accuracy. The larger the point, the more
            samples are in its bin.
    """
    bins = bins[bins["weight"] > 0]
    size = 12 + 150 * bins["weight"] / max(bins["weight"].max(initial=0), 1e-300)
    ax.plot([0, 1], [0, 1], lw=1, ls=":", color="0.5")
    ax.plot(bins["confidence"], bins["accuracy"], lw=1.2, color="C0")
    ax.scatter(
        bins["confidence"], bins["accuracy"], s=size, color="C0", alpha=0.6, lw=0, clip_on=False
    )
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    return _framed(ax, "mean predicted probability", "observed share")


def draw_shares(ax: Axes, parts: Mapping[str, float], unit: str) -> Axes:
    """Parts of a whole, side by side in one bar."""
    left = 0.0
    for place, (name, size) in enumerate(parts.items()):
        ax.barh([0], [size], left=left, color=f"C{place}", label=name, height=0.6)
        left += size
    ax.set_yticks([])
    ax.set_xlim(0, left or 1)
    ax.spines["left"].set_visible(False)
    return _framed(ax, unit, "")


def draw_comparison(ax: Axes, comparison: Any, names: Sequence[str]) -> Axes:
    """The score of both arms against the time of their training, and the target.

    Args:
        ax: Where to draw.
        comparison: What `compare` returned.
        names: What the two arms are called.
    """
    target, _, level = comparison.target.rpartition("=")
    lines = []
    for place, arm in enumerate(comparison.progress):
        for number, run in enumerate(arm):
            label = "" if number else names[place]
            colour = f"C{place}"
            lines.append(Curve(label, run["time_s"], run["value"], run["low"], run["high"], colour))
    told = (float(level), f"target {level}")
    return draw_lines(ax, lines, "seconds of training", target.rstrip("<>"), level=told)


def draw_history(ax: Axes, history: Any, names: Sequence[str] = ()) -> Axes:
    """Scores over a run, one line each.

    Args:
        ax: Where to draw.
        history: The numbers of the run.
        names: Full names of scores; none for the loss of all splits, or the first score.
    """
    if not names:
        scores = [name for name in history if name.partition("/")[0] not in {"time", "counts"}]
        names = [name for name in scores if name.endswith("/loss")] or scores[:1]
    x_name, x = axis_of(history.epoch)
    lines: list[Curve] = []
    for name in names:
        style = "-"
        if name.startswith("train/"):
            style = "--"
        lines.append(Curve(name, x, history[name], colour=f"C{len(lines)}", style=style))
    if len(names) > 1:  # the legend tells their splits
        names = list(dict.fromkeys(name.partition("/")[2] or name for name in names))
    return draw_lines(ax, lines, x_name, ", ".join(names))


def axis_of(epochs: Sequence[int]) -> tuple[str, list[int]]:
    """What stands below curves of a run, and where: epochs, or evaluations where these are more."""
    if len(set(epochs)) == len(epochs):
        return "epoch", [epoch + 1 for epoch in epochs]
    return "evaluation", list(range(1, len(epochs) + 1))
