"""The part of the benchmark that is for a GPU: what it prints, and the page, the JSON and the plot that it writes.

Without a GPU it runs on the CPU and says of each number that only a GPU has that it was not measured.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from ptmetrics.bench.bars import Results
from ptmetrics.bench.gpu import (
    MANY,
    QUICK,
    SIZES,
    DeviceRow,
    graph_rows,
    loop_rows,
    the_loops,
    update_rows,
)
from ptmetrics.bench.growth import Growth
from ptmetrics.bench.pages import block
from ptmetrics.bench.peers import installed
from ptmetrics.bench.plots import draw
from ptmetrics.bench.probes import Probes, probes
from ptmetrics.bench.run import setting
from ptmetrics.bench.tables import loop_lines, setting_lines
from ptmetrics.bench.timing import threads

PAGE, PLOT, DATA = "BENCHMARKS-gpu.md", "docs/gpu-updates.png", "docs/gpu-benchmark.json"
NOT_MEASURED = "not measured: no CUDA device"


def run_gpu(args: argparse.Namespace, cuda: Any = torch.cuda, where: str | None = None) -> int:
    """As the command says.

    Args:
        args: Its options.
        cuda: In place of `torch.cuda`, for tests.
        where: Device of the tensors, if it is not that of the probes; for tests.
    """
    device = "cuda" if args.device == "cuda" and cuda.is_available() else "cpu"
    probe = probes(device, cuda)
    count = threads(args.threads)
    found = results(
        probe,
        setting(count, probe.name, _options(args)),
        where or device,
        quick=args.quick,
        cuda=cuda,
    )
    rows, text = found[0], [*lines(*found, probe)]
    print(json.dumps(plain(*found)) if args.json else "\n".join(text))
    if args.out:
        write(args.out, text, *found)
        print(f"written: {args.out / PAGE}", file=sys.stderr)
    return int(any(row.differs for row in rows))


def _options(args: argparse.Namespace) -> str:
    return f" --device {args.device}" + (" --quick" if args.quick else "")


def results(
    probe: Probes, known: dict[str, Any], where: str, *, quick: bool, cuda: Any = torch.cuda
) -> tuple[list[DeviceRow], Results]:
    """Updates over sizes, and loops."""
    modules, _ = installed()
    loops = the_loops(where, quick=quick, cuda=cuda)
    watched = list(loop_rows(modules, probe, loops, 1 if quick else 7))
    rows = list(update_rows(modules, probe, QUICK if quick else SIZES, 2 if quick else 9, where))
    graphs = {
        (row.side, row.rows, row.classes): row for row in graph_rows(modules, probe, rows, where)
    }
    return [graphs[row.side, row.rows, row.classes] for row in rows], Results(known, loops=watched)


def lines(rows: Sequence[DeviceRow], watched: Results, probe: Probes) -> Iterator[str]:
    """Everything, as text."""
    yield from setting_lines(watched.setting)
    yield f"device: {probe.name}"
    if probe.capture is None:
        yield f"launches, waits, peak memory, CUDA graphs, mixed precision: {NOT_MEASURED}"
    yield from device_lines(rows)
    yield from loop_lines(watched)


def device_lines(rows: Iterable[DeviceRow]) -> Iterator[str]:
    """Updates by size."""
    for (number, classes), part in groupby(rows, key=lambda row: (row.rows, row.classes)):
        yield f"\none update of the full set: {number} x {classes}"
        for row in part:
            yield (
                f"  {row.side:<16}{row.device_us:>10,.0f} us x{row.ratio:<7.2f}{row.issue_us:>9,.0f} us of the host  "
                f"{row.operations:>5.1f} operations  {_cuda(row)}"
            ).rstrip() + (f"  DIFFERS: {', '.join(row.differs)}" if row.differs else "")


def _cuda(row: DeviceRow) -> str:
    parts = {
        "launches": row.launches and f"{row.launches:.1f}",
        f"waits in {MANY}": row.waits,
        "bytes at the peak": row.peak_bytes and f"{row.peak_bytes:,}",
        "graph": row.graph,
        "us a replay": row.replay_us and f"{row.replay_us:,.0f}",
    }
    return "  ".join(f"{name} {value}" for name, value in parts.items() if value is not None)


def plain(rows: Sequence[DeviceRow], watched: Results) -> dict[str, Any]:
    """All of it in plain values."""
    return {
        "setting": dict(watched.setting),
        "updates": [asdict(row) for row in rows],
        "loops": [asdict(row) for row in watched.loops],
    }


def write(folder: Path, text: Sequence[str], rows: Sequence[DeviceRow], watched: Results) -> None:
    """The page, the numbers as JSON, and the plot."""
    draw(growth(rows, watched.setting["device"]), folder / PLOT)
    (folder / DATA).write_text(json.dumps(plain(rows, watched), indent=1) + "\n", encoding="utf-8")
    head = f"# Benchmarks on {watched.setting['device']}\n\nWritten by `{watched.setting['command']}`.\n"
    page = [head, *block(text), f"\n![One update over the number of rows]({PLOT})"]
    (folder / PAGE).write_text("\n".join(page) + "\n", encoding="utf-8")


def growth(rows: Sequence[DeviceRow], device: str) -> Growth:
    """Time of an update over its rows, at the largest number of classes that was measured."""
    most = max(row.classes for row in rows)
    points: dict[str, dict[float, float]] = {}
    for row in rows:
        if row.classes == most:
            points.setdefault(row.side, {})[row.rows] = row.device_us
    return Growth("updates", f"One update of the full set, {most} classes, on {device}", "rows", "microseconds",
                  points, "Medians, the sides in turn.")  # fmt: skip
