"""What was measured, held against the bars: text for the terminal, and the page `BENCHMARKS.md`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from ptmetrics.bench.curves import BytesRow, CurveRow
from ptmetrics.bench.loops import EPOCH, LoopRow
from ptmetrics.bench.timing import Quartiles
from ptmetrics.bench.updates import UpdateRow

BENCHMARKS = "BENCHMARKS.md"
FULL = "multiclass, full set"
RESNET = "ResNet-18, 64 images of 32 x 32"
MLP = "two-layer MLP, 64 x 784"
MANY_SCORES = 10_000_000


@dataclass(frozen=True)
class Results:
    """All that one run measured.

    Attributes:
        setting: Machine, versions, threads, sizes.
        updates: One update of each task, beside the peers.
        curves: AUROC and average precision of many scores.
        state_bytes: How states grow.
        loops: What hooks add to a loop.
    """

    setting: Mapping[str, Any]
    updates: Sequence[UpdateRow] = ()
    curves: Sequence[CurveRow] = ()
    state_bytes: Sequence[BytesRow] = ()
    loops: Sequence[LoopRow] = ()


@dataclass(frozen=True)
class Bar:
    """What is wanted, and where it is read off.

    Attributes:
        what: In words.
        limit: The number wanted.
        at_least: Whether more is better.
        measure: The number that was reached; None if a run did not measure it.
        why: For the page while the bar is missed: what is known of the reason.
        percent: Whether it is a share.
    """

    what: str
    limit: float
    at_least: bool
    measure: Callable[[Results], float | None]
    why: str = ""
    percent: bool = False

    def met(self, value: float) -> bool:
        """Whether a number passes."""
        if self.at_least:
            return value >= self.limit
        return value <= self.limit

    def missed_by(self, value: float) -> float:
        """Factor between what was wanted and what was reached; above 1 if it is missed."""
        if self.at_least:
            return self.limit / value
        return value / self.limit

    def text(self, value: float) -> str:
        """A number of this bar's kind, at three digits."""
        if self.percent:
            return f"{100 * value:.3g} %"
        return f"{value:.3g} x"


def update_ratio(results: Results, *, words: str, size: str, side: str) -> float | None:
    """How many times our update takes the time of another side."""
    for row in results.updates:
        if row.section.startswith(words) and row.section.endswith(f", {size}") and row.side == side:
            return row.ratio[0]
    return None


def basic_over_max(results: Results) -> float | None:
    """Our time for confusion and accuracy over that of `logits.max(1)` alone."""
    ratio = update_ratio(
        results, words="confusion, accuracy", size="256 x 1000", side="logits.max(1) alone"
    )
    if ratio is None:
        return None
    return 1 / ratio


def curve_ratio(results: Results, *, side: str) -> float | None:
    """How many times our curves of ten million scores take the time of another side."""
    if results.setting.get("scores") == MANY_SCORES:
        for row in results.curves:
            if row.side == side:
                return row.ratio[0]
    return None


def hook_share(results: Results, *, loop: str, phase: str) -> float | None:
    """Time inside our hooks over the time of a bare batch."""
    row = _loop_row(results, loop, phase, "ptmetrics")
    if row is None:
        return None
    return row.share


def epoch_ratio(results: Results, *, loop: str) -> float | None:
    """What we add to an epoch of CIFAR-10, with its end, over what torchmetrics adds."""
    ours = added_us(results, loop, "ptmetrics")
    theirs = added_us(results, loop, "torchmetrics")
    if ours is None or theirs is None:
        return None
    return ours / theirs


def added_us(results: Results, loop: str, side: str) -> float | None:
    """Microseconds that a side adds to an epoch of CIFAR-10, the end of the epoch included."""
    total = 0.0
    for phase, batches in EPOCH.items():
        row = _loop_row(results, loop, phase, side)
        if row is None:
            return None
        total += batches * row.added_us
        if phase == "train":
            total += row.end_us
    return total


def _loop_row(results: Results, loop: str, phase: str, side: str) -> LoopRow | None:
    for row in results.loops:
        if (row.loop, row.phase, row.side) == (loop, phase, side):
            return row
    return None


WHY_WIDE = (
    "What is read of a batch waits to be counted with others; what remains are the passes over the "
    "scores. On one thread of a CPU with AVX2 alone, in µs at 256 x 1000: the exponentials 137, the "
    "norm 40, the largest score 35, each of four further passes and four row sums 20 to 40. "
    "Hand-written kernels would fuse them; torch.compile needs a compiler at the user's."
)
WHY_CONFUSION = (
    "18 operations stand beside one; the time of `max(1)` alone differs from run to run by as much "
    "as the gap."
)
WHY_CURVES = (
    "Beside each row of the histogram stand two sums of what its key leaves out, by which ties are "
    "exact: two more scatters a score."
)
WHY_SMALL = (
    "A step of this model takes little more than a millisecond here. Of what we add, about a "
    "third is the counting of all 25 scores, once in 64 steps; the rest is four hooks, four "
    "copies and 64 calls of Python on caches that the step has emptied."
)
WHY_COLD_VAL = (
    "What takes 66 us beside the small loop takes five times as long behind 29 ms of convolutions, "
    "which leave nothing of ours in the caches."
)
WHY_COLD = (
    "After a step of 0.1 s every line of Python runs on cold caches, which multiplies its time; "
    "and the end of an epoch computes 25 scores and their intervals for two splits, a fifth of "
    "the whole, where torchmetrics computes 7 numbers."
)


def _torchmetrics_bar(size: str, limit: float, why: str = "") -> Bar:
    measure = partial(update_ratio, words=FULL, size=size, side="torchmetrics")
    return Bar(f"full multiclass set, {size}: torchmetrics over ours", limit, True, measure, why)


def _hook_bar(batch: str, loop: str, phase: str, limit: float, why: str = "") -> Bar:
    measure = partial(hook_share, loop=loop, phase=phase)
    return Bar(f"hooks, {batch} of {loop}", limit, False, measure, why, percent=True)


BARS = (
    _torchmetrics_bar("64 x 10", 40),
    _torchmetrics_bar("256 x 1000", 10, WHY_WIDE),
    _torchmetrics_bar("1024 x 1000", 10, "As at 256 x 1000."),
    Bar(
        "confusion and accuracy, 256 x 1000: ours over `logits.max(1)` alone",
        1.0,
        False,
        basic_over_max,
        WHY_CONFUSION,
    ),
    Bar(
        "AUROC and average precision of 10 million scores: torchmetrics over ours",
        20,
        True,
        partial(curve_ratio, side="torchmetrics"),
        WHY_CURVES,
    ),
    _hook_bar("training step", RESNET, "train", 0.01),
    _hook_bar("validation batch", RESNET, "val", 0.01, WHY_COLD_VAL),
    _hook_bar("training step", MLP, "train", 0.05, WHY_SMALL),
    Bar(
        f"an epoch of {RESNET}: what we add over what torchmetrics adds",
        0.1,
        False,
        partial(epoch_ratio, loop=RESNET),
        WHY_COLD,
        percent=True,
    ),
)


def bars_reached(results: Results) -> list[dict[str, Any]]:
    """The bars in plain values."""
    reached = []
    for bar in BARS:
        value = bar.measure(results)
        row = {"what": bar.what, "limit": bar.limit, "at_least": bar.at_least, "value": value}
        row["met"] = None if value is None else bar.met(value)
        reached.append(row)
    return reached


def results_text(results: Results) -> Iterator[str]:
    """Everything, line by line."""
    yield from setting_text(results.setting)
    yield from update_text(results.updates)
    yield from curve_text(results.curves, results.setting["scores"])
    yield from bytes_text(results.state_bytes)
    yield from loop_text(results)
    yield "\nbars"
    yield from bar_text(results)


def setting_text(setting: Mapping[str, Any]) -> Iterator[str]:
    """Machine, versions, and what a time and a ratio are."""
    peers = ", ".join(f"{name} {version}" for name, version in setting["peers"].items())
    yield (
        f"{setting['machine']}, {setting['cores']} cores, {setting['threads']} threads; "
        f"load before the run {setting['load']}"
    )
    yield (
        f"python {setting['python']}, torch {setting['torch']}, "
        f"ptmetrics {setting['ptmetrics']}; peers: {peers or 'none'}"
    )
    if setting["not_installed"]:
        missing = ", ".join(setting["not_installed"])
        yield f"not installed: {missing} (pip install 'ptmetrics[bench]')"
    yield (
        "Times are medians with quartiles; the sides take turns, "
        "and ratios are medians over the rounds."
    )


def bar_text(results: Results) -> Iterator[str]:
    """Each bar: what is wanted, what was reached, met or missed by how much."""
    for bar in BARS:
        value = bar.measure(results)
        sign = ">=" if bar.at_least else "<="
        if value is None:
            reached = "not measured in this run"
        elif bar.met(value):
            reached = f"{bar.text(value)}, met"
        else:
            reached = f"{bar.text(value)}, MISSED by a factor of {bar.missed_by(value):.2f}"
        wanted = f"{sign} {bar.text(bar.limit)}"
        yield f"  {bar.what:<90}{wanted:>10}  {reached}"


def update_text(rows: Iterable[UpdateRow]) -> Iterator[str]:
    """Updates by section."""
    for section, part in groupby(rows, key=lambda row: row.section):
        yield f"\none update: {section}"
        for row in part:
            agreement = ""
            if row.differs:
                agreement = f"  DIFFERS: {', '.join(row.differs)}"
            elif row.compared:
                agreement = f"  {len(row.compared)} scores"
                if not row.side.startswith("ptmetrics"):
                    agreement += ", equal"
            yield (
                f"  {row.side:<32}{_quartiles_text(row.microseconds)} us  {_ratio_text(row.ratio)}"
                f"  {row.operations:.1f} operations{agreement}"
            )


def _quartiles_text(values: Quartiles, digits: int = 0) -> str:
    median, low, high = [f"{value:,.{digits}f}" for value in values]
    return f"{median:>11} [{low}, {high}]"


def _ratio_text(ratio: Quartiles) -> str:
    median, low, high = ratio
    return f"x{median:.2f} [{low:.2f}, {high:.2f}]"


def curve_text(rows: Iterable[CurveRow], count: int) -> Iterator[str]:
    """AUROC and average precision."""
    yield f"\nAUROC and average precision of {count:,} float32 scores, update and compute"
    for row in rows:
        bound = ""
        if row.bound is not None:
            bound = f"  certified {row.bound[0]:.1e}, {row.bound[1]:.1e}"
        median, low, high = row.seconds
        milliseconds = _quartiles_text((1e3 * median, 1e3 * low, 1e3 * high), 1)
        yield (
            f"  {row.side:<32}{milliseconds} ms  {_ratio_text(row.ratio)}"
            f"  off by {row.error[0]:.1e}, {row.error[1]:.1e}{bound}"
        )


def bytes_text(rows: Iterable[BytesRow]) -> Iterator[str]:
    """Bytes of state."""
    yield "\nbytes of state for AUROC"
    for row in rows:
        sizes = ", ".join(f"{name} {size:,}" for name, size in row.state_bytes.items())
        yield f"  {row.rows:>11,} scores: {sizes}"


def loop_text(results: Results) -> Iterator[str]:
    """Loops, bare and watched, and what is added to an epoch."""
    for loop, part in groupby(results.loops, key=lambda row: row.loop):
        yield f"\na loop: {loop}"
        ends: dict[str, float] = {}
        for row in part:
            added = ""
            if row.added_us:
                added = (
                    f", {row.added_us:,.1f} us of them inside ({100 * row.share:.2f} %); "
                    f"blocks {_ratio_text(row.blocks)}"
                )
            if row.side != "bare loop":
                ends[row.side] = row.end_us
            batch = _quartiles_text(row.batch_us)
            yield f"  {row.phase:<7}{row.side:<13}{batch} us a batch{added}"
        for side, end_us in ends.items():
            total_ms = (added_us(results, loop, side) or 0) / 1e3
            yield (
                f"  {side}: end of an epoch {end_us / 1e3:.1f} ms; {total_ms:,.1f} ms for "
                f"{EPOCH['train']} training and {EPOCH['val']} validation batches and their end"
            )


NO_GPU = (
    "Not measured: no CUDA device. `ptmetrics bench --device cuda`, or "
    "`examples/gpu_benchmark.py`, measures updates, launches, waits, memory, CUDA graphs and "
    "training steps with mixed precision, and writes a page of its own; docs/gpu.md has one."
)
HOW = """\
- **Updates.** All sides take turns in one process, and a ratio is the median of the ratios of the
  rounds. Before anything is timed the numbers of all sides are compared. Rows that ours keeps
  waiting are counted within a round.
- **Loops.** On most machines two equal blocks of a loop differ by more than 1 %. So each hook is
  timed where it runs, in the loop, by the host's clock; added is what torch takes to call three
  hooks that do nothing. The share is over the median batch of the bare loop. `blocks` is the second
  opinion: whole blocks of batches with hooks on over bare blocks of the same round. torchmetrics is
  updated in the loop behind the loss, with the scores of ours that it has and the mean of the loss.
- **Curves.** Update and compute of all scores in one call."""


def write_benchmarks(results: Results, folder: Path) -> Path:
    """Write the page into a folder; returns its path."""
    path = folder / BENCHMARKS
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(benchmarks_page(results)) + "\n", encoding="utf-8")
    return path


def benchmarks_page(results: Results) -> Iterator[str]:
    """What is wanted and what was reached, then everything that was measured."""
    command = results.setting["command"]
    yield f"# Benchmarks\n\nWritten by `{command}`; the reasons stand in `bench/report.py`.\n"
    yield from fenced(setting_text(results.setting))
    yield "\n## Bars\n\n| | wanted | reached | |\n|---|---|---|---|"
    reasons = []
    for bar in BARS:
        value = bar.measure(results)
        sign = "≥" if bar.at_least else "≤"
        row = f"| {bar.what} | {sign} {bar.text(bar.limit)}"
        if value is None:
            yield f"{row} | not measured | |"
        elif bar.met(value):
            yield f"{row} | {bar.text(value)} | met |"
        else:
            missed = f"**missed** by a factor of {bar.missed_by(value):.2f}"
            yield f"{row} | {bar.text(value)} | {missed} |"
            reasons.append(f"- {bar.what}: {bar.why or 'not looked into yet.'}")
    if reasons:
        yield "\nWhat is missed, and why:\n"
    yield from reasons
    yield f"\n## How it was measured\n\n{HOW}\n\n## Updates, curves and memory"
    measured = [
        *update_text(results.updates),
        *curve_text(results.curves, results.setting["scores"]),
        *bytes_text(results.state_bytes),
    ]
    yield from fenced(measured)
    yield "\n## Inside a training loop"
    yield from fenced(loop_text(results))
    yield f"\n## On a GPU\n\n{NO_GPU}"


def fenced(text: Iterable[str]) -> Iterator[str]:
    """Lines in a fence."""
    yield "```text"
    yield from "\n".join(text).strip("\n").splitlines()
    yield "```"


@dataclass(frozen=True)
class LinePlot:
    """Lines over numbers.

    Attributes:
        title: What is shown.
        x: Label of the axis, with its unit.
        y: The same.
        lines: Points by name: x to y.
        logarithmic: Whether both axes are.
    """

    title: str
    x: str
    y: str
    lines: Mapping[str, Mapping[float, float]]
    logarithmic: bool = True


def draw_plot(plot: LinePlot, path: Path) -> None:
    """One small picture: a line for each side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, line in plot.lines.items():
        points = {x: y for x, y in line.items() if y > 0 or not plot.logarithmic}
        axes.plot(list(points), list(points.values()), "o-", label=name, markersize=4)
    if plot.logarithmic:
        axes.set(xscale="log", yscale="log")
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(bottom=0)
    axes.set(title=plot.title, xlabel=plot.x, ylabel=plot.y)
    axes.title.set_fontsize("medium")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90, metadata={"Software": None})
