"""What was measured, as text: for the terminal, and in fenced blocks for the pages."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from ptmetrics.bench.bars import BARS, Results, added_us
from ptmetrics.bench.overhead import LoopRow
from ptmetrics.bench.ranking import BytesRow, RankingRow
from ptmetrics.bench.timing import Quartiles
from ptmetrics.bench.updates import Row


def setting_lines(setting: Mapping[str, Any]) -> Iterator[str]:
    """Machine, versions, and what a time and a ratio are."""
    peers = ", ".join(f"{name} {version}" for name, version in setting["peers"].items()) or "none"
    size = f"{setting['cores']} cores, {setting['threads']} threads"
    yield f"{setting['machine']}, {size}; load before the run {setting['load']}"
    yield f"python {setting['python']}, torch {setting['torch']}, ptmetrics {setting['ptmetrics']}; peers: {peers}"
    if setting["not_installed"]:
        yield f"not installed: {', '.join(setting['not_installed'])} (pip install 'ptmetrics[bench]')"
    yield "Times are medians with quartiles; the sides take turns, and ratios are medians over the rounds."


def bar_lines(results: Results) -> Iterator[str]:
    """Each bar: what is wanted, what was reached, met or missed by how much."""
    for bar in BARS:
        value, wanted = (
            bar.measure(results),
            f"{'>=' if bar.at_least else '<='} {bar.text(bar.limit)}",
        )
        yield f"  {bar.what:<90}{wanted:>10}  {_reached(bar, value)}"


def _reached(bar: Any, value: float | None) -> str:
    if value is None:
        return "not measured in this run"
    if bar.met(value):
        return f"{bar.text(value)}, met"
    return f"{bar.text(value)}, MISSED by a factor of {bar.missed_by(value):.2f}"


def update_lines(rows: Iterable[Row]) -> Iterator[str]:
    """Updates by section."""
    for section, part in groupby(rows, key=lambda row: row.section):
        yield f"\none update: {section}"
        for row in part:
            yield (
                f"  {row.side:<32}{_quartiles(row.microseconds)} us  {_ratio(row.ratio)}"
                f"  {row.operations or 0:.1f} operations{_agreement(row)}"
            )


def _quartiles(values: Quartiles, digits: int = 0) -> str:
    median, low, high = (f"{value:,.{digits}f}" for value in values)
    return f"{median:>11} [{low}, {high}]"


def _ratio(ratio: Quartiles) -> str:
    return f"x{ratio[0]:.2f} [{ratio[1]:.2f}, {ratio[2]:.2f}]"


def _agreement(row: Row) -> str:
    if row.differs:
        return f"  DIFFERS: {', '.join(row.differs)}"
    if not row.compared:
        return ""
    return f"  {len(row.compared)} scores" + ("" if row.side.startswith("ptmetrics") else ", equal")


def curve_lines(rows: Iterable[RankingRow], count: int) -> Iterator[str]:
    """AUROC and average precision."""
    yield f"\nAUROC and average precision of {count:,} float32 scores, update and compute"
    for row in rows:
        bound = "" if row.bound is None else f"  certified {row.bound[0]:.1e}, {row.bound[1]:.1e}"
        milliseconds = 1e3 * row.seconds[0], 1e3 * row.seconds[1], 1e3 * row.seconds[2]
        yield (
            f"  {row.side:<32}{_quartiles(milliseconds, 1)} ms  {_ratio(row.ratio)}"
            f"  off by {row.error[0]:.1e}, {row.error[1]:.1e}{bound}"
        )


def byte_lines(rows: Iterable[BytesRow]) -> Iterator[str]:
    """Bytes of state."""
    yield "\nbytes of state for AUROC"
    for row in rows:
        sizes = ", ".join(f"{name} {size:,}" for name, size in row.state_bytes.items())
        yield f"  {row.rows:>11,} scores: {sizes}"


def loop_lines(results: Results) -> Iterator[str]:
    """Loops, bare and watched, and what is added to an epoch."""
    for loop, part in groupby(results.loops, key=lambda row: row.loop):
        yield f"\na loop: {loop}"
        rows: Sequence[LoopRow] = list(part)
        for row in rows:
            yield f"  {row.phase:<7}{row.side:<13}{_quartiles(row.batch_us)} us a batch{_added(row)}"
        for side, end_us in {
            row.side: row.end_us for row in rows if row.side != rows[0].side
        }.items():
            total = (added_us(results, loop, side) or 0) / 1e3
            yield (
                f"  {side}: end of an epoch {end_us / 1e3:.1f} ms; "
                f"{total:,.1f} ms for 782 training and 157 validation batches and their end"
            )


def _added(row: LoopRow) -> str:
    if not row.added_us:
        return ""
    return f", {row.added_us:,.1f} us of them inside ({100 * row.share:.2f} %); blocks {_ratio(row.blocks)}"


def lines(results: Results) -> Iterator[str]:
    """Everything."""
    yield from setting_lines(results.setting)
    yield from update_lines(results.updates)
    yield from curve_lines(results.curves, results.setting["scores"])
    yield from byte_lines(results.state_bytes)
    yield from loop_lines(results)
    yield "\nbars"
    yield from bar_lines(results)
