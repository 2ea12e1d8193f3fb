"""The pages that a run writes: `BENCHMARKS.md`, and `docs/growth.md` with its plots."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from ptmetrics.bench.bars import BARS, Bar, Results
from ptmetrics.bench.growth import Growth
from ptmetrics.bench.plots import draw
from ptmetrics.bench.tables import byte_lines, curve_lines, loop_lines, setting_lines, update_lines

BENCHMARKS, GROWTH = "BENCHMARKS.md", "docs/growth.md"
NO_GPU = (
    "Not measured: no CUDA device. `ptmetrics bench --device cuda`, or `examples/gpu_benchmark.py`, measures updates, "
    "launches, waits, memory, CUDA graphs and training steps with mixed precision, and writes a page of its own."
)
HOW = """\
- **Updates.** All sides take turns in one process, and a ratio is the median of the ratios of the rounds. Before
  anything is timed the numbers of all sides are compared. Rows that ours keeps waiting are counted within a round.
- **Loops.** On most machines two equal blocks of a loop differ by more than 1 %. So each hook is timed where it runs,
  in the loop, by the host's clock; added is what torch takes to call three hooks that do nothing. The share is over the
  median batch of the bare loop. `blocks` is the second opinion: whole blocks of batches with hooks on over bare blocks
  of the same round. torchmetrics is updated in the loop behind the loss, with the scores of ours that it has and the
  mean of the loss.
- **Curves.** Update and compute of all scores in one call."""


def write(results: Results, folder: Path) -> list[Path]:
    """Write both pages and the plots below a folder; returns the pages."""
    pages = {BENCHMARKS: benchmarks(results), GROWTH: growth(results)}
    for name, lines in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for item in results.growth:
        draw(item, folder / _plot(item))
    return [folder / name for name in pages]


def benchmarks(results: Results) -> Iterator[str]:
    """What is wanted and what was reached, then everything that was measured."""
    yield f"# Benchmarks\n\nWritten by `{results.setting['command']}`; the reasons stand in `bench/bars.py`.\n"
    yield from block(setting_lines(results.setting))
    yield "\n## Bars\n\n| | wanted | reached | |\n|---|---|---|---|"
    values = {bar.what: bar.measure(results) for bar in BARS}
    yield from (_row(bar, values[bar.what]) for bar in BARS)
    yield from _reasons(results)
    yield f"\n## How it was measured\n\n{HOW}\n\n## Updates, curves and memory"
    yield from block([*update_lines(results.updates), *curve_lines(results.curves, results.setting["scores"]),
                       *byte_lines(results.state_bytes)])  # fmt: skip
    yield "\n## Inside a training loop"
    yield from block(loop_lines(results))
    yield f"\n## On a GPU\n\n{NO_GPU}\n\nHow costs grow: [{GROWTH}]({GROWTH})."


def _row(bar: Bar, value: float | None) -> str:
    wanted = f"{'≥' if bar.at_least else '≤'} {bar.text(bar.limit)}"
    if value is None:
        return f"| {bar.what} | {wanted} | not measured | |"
    verdict = "met" if bar.met(value) else f"**missed** by a factor of {bar.missed_by(value):.2f}"
    return f"| {bar.what} | {wanted} | {bar.text(value)} | {verdict} |"


def _reasons(results: Results) -> Iterator[str]:
    values = [(bar, bar.measure(results)) for bar in BARS]
    missed = [bar for bar, value in values if value is not None and not bar.met(value)]
    if missed:
        yield "\nWhat is missed, and why:\n"
    for bar in missed:
        yield f"- {bar.what}: {bar.why or 'not looked into yet.'}"


def growth(results: Results) -> Iterator[str]:
    """Each thing that grows: a table, a plot, and how it was measured."""
    yield f"# How costs grow\n\nWritten by `{results.setting['command']}`, as [BENCHMARKS.md](../{BENCHMARKS}).\n"
    yield from block(setting_lines(results.setting))
    for item in results.growth:
        yield f"\n## {item.title}\n\n{item.how}\n\n![{item.title}]({Path(_plot(item)).name})\n"
        yield from _table(item)


def _table(item: Growth) -> Iterator[str]:
    xs = sorted({x for line in item.lines.values() for x in line})
    yield f"| {item.x} | " + " | ".join(f"{name}, {item.y}" for name in item.lines) + " |"
    yield "|---" * (1 + len(item.lines)) + "|"
    for x in xs:
        cells = (_number(line[x]) if x in line else "" for line in item.lines.values())
        yield f"| {x:,.0f} | " + " | ".join(cells) + " |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _plot(item: Growth) -> str:
    return f"docs/growth-{item.name}.png"


def block(lines: Iterable[str]) -> Iterator[str]:
    """Lines in a fence."""
    yield "```text"
    yield from "\n".join(lines).strip("\n").splitlines()
    yield "```"
