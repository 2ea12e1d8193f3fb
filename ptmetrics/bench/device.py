"""The part for a GPU: updates and training steps on a device beside the peers.

Time, launches, waits, memory, CUDA graphs. Without a GPU it runs on the CPU and says of each number
that only a GPU has that it was not measured.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

import ptmetrics as pm
from ptmetrics.bench.loops import Loop, LoopRow, loop_rows, mlp_loop, resnet_loop
from ptmetrics.bench.machine import setting
from ptmetrics.bench.peers import Competitor, installed, our_side, peer_sides
from ptmetrics.bench.probes import Probes, probes_of
from ptmetrics.bench.report import LinePlot, Results, draw_plot, fenced, loop_text, setting_text
from ptmetrics.bench.timing import Call, Clock, operations, race
from ptmetrics.bench.updates import PredsTarget, class_batch, differing, full_set

GPU_SIZES = tuple((rows, classes) for classes in (10, 100, 1000) for rows in (64, 256, 1024, 4096))
REPLAYS = 3
UPDATES = 64  # updates, for means and counts
GPU_PAGE = "BENCHMARKS-gpu.md"
GPU_PLOT = "docs/gpu-updates.png"
GPU_DATA = "docs/gpu-benchmark.json"
NOT_MEASURED = "not measured: no CUDA device"


@dataclass(frozen=True)
class DeviceRow:
    """One update of one side on a device; None was not measured.

    Attributes:
        side: Who.
        rows: Rows of the batch.
        classes: Number of classes.
        device_us: Median microseconds until the device has done it, of many in a row.
        issue_us: Median microseconds that the host needs to ask for it.
        ratio: `device_us` over ours, in the same round.
        operations: Operations that torch dispatches, mean of 64 updates.
        launches: Kernels, copies and fills, mean of 64 updates.
        waits: Times that the host waits in 64 updates.
        peak_bytes: Device memory at the peak, beside state and batch.
        graph: "counts" if a replayed CUDA graph of the update counts what an update counts, "loses
            rows" if it does not, or why torch refused to capture it.
        replay_us: Median microseconds of a replay.
        differs: Scores whose numbers are not ours.
    """

    side: str
    rows: int
    classes: int
    device_us: float
    issue_us: float
    ratio: float
    operations: float
    launches: float | None
    waits: int | None
    peak_bytes: int | None
    graph: str | None = None
    replay_us: float | None = None
    differs: tuple[str, ...] = ()


def bench_device(args: argparse.Namespace, cuda: Any = torch.cuda, where: str | None = None) -> int:
    """Measure, print and write as the command's options say; returns the exit status.

    Args:
        args: Options of the command.
        cuda: In place of `torch.cuda`, for tests.
        where: Device of the tensors, if it is not that of the probes; for tests.
    """
    device = "cpu"
    if args.device == "cuda" and cuda.is_available():
        device = "cuda"
    probes = probes_of(device, cuda)
    options = f" --device {args.device}"
    if args.quick:
        options += " --quick"
    known = setting(args.threads, probes.name, options)
    rows, loops = measure_device(probes, where or device, quick=args.quick, cuda=cuda)
    results = Results(known, loops=loops)
    text = list(device_report(rows, results, probes))
    data = {
        "setting": known,
        "updates": [asdict(row) for row in rows],
        "loops": [asdict(row) for row in loops],
    }
    if args.json:
        print(json.dumps(data))
    else:
        print("\n".join(text))
    if args.out:
        _write_device_page(args.out, known, rows, text, data)
    return int(any(row.differs for row in rows))


def measure_device(
    probes: Probes, device: str, *, quick: bool, cuda: Any = torch.cuda
) -> tuple[list[DeviceRow], list[LoopRow]]:
    """Updates over sizes, and loops."""
    modules, _ = installed()
    loop_rounds = 7
    rounds = 9
    batches = {"train": 20, "val": 20}
    sizes = GPU_SIZES
    if quick:
        loop_rounds = 1
        rounds = 2
        batches = {"train": 2, "val": 2}
        sizes = ((64, 10),)
    loops: list[LoopRow] = []
    for loop in device_loops(device, quick=quick, cuda=cuda):
        loops += loop_rows(loop, modules, rounds=loop_rounds, batches=batches, clock=probes.clock)
    rows: list[DeviceRow] = []
    for size in sizes:
        rows += device_rows(modules, probes, size, rounds, device)
    return graphed_rows(modules, probes, rows, device), loops


def device_loops(device: str, *, quick: bool, cuda: Any = torch.cuda) -> list[Loop]:
    """ResNet-18 and ResNet-50 with AMP on a GPU; on a CPU a small one, to see that it works."""
    if quick:
        return [mlp_loop()]
    if device == "cpu":
        return [resnet_loop(18, 32, 64)]
    amp = half_precision(cuda)
    return [
        resnet_loop(18, 32, 128, device, amp),
        resnet_loop(18, 224, 128, device, amp),
        resnet_loop(50, 224, 64, device, amp),
    ]


def half_precision(cuda: Any = torch.cuda) -> torch.dtype:
    """Type of mixed precision of a GPU: bfloat16 where it is native, else float16."""
    if cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16


def device_rows(
    modules: Mapping[str, Any], probes: Probes, size: tuple[int, int], rounds: int, device: str
) -> Iterator[DeviceRow]:
    """The full multiclass set on a device, each side in turn; graphs are left out."""
    rows, classes = size
    check = class_batch(8 * classes, classes, device)
    sides = [side for side in _device_sides(modules, device, classes) if runs_there(side, check)]
    reference = sides[0].scores()
    differs = {side.name: tuple(differing(reference, side.scores())) for side in sides}
    batch = class_batch(rows, classes, device)
    calls: dict[str, Call] = {side.name: partial(side.update, *batch) for side in sides}
    done = race(calls, rounds=rounds, clock=probes.clock)
    # Few repeats: a queue that is full makes the host wait for the device, and that is not what
    # issuing costs.
    asked = race(calls, rounds=rounds, least_s=3e-4, clock=probes.issue)
    for name, call in calls.items():
        many = partial(_call_many, call)  # what is done once in a while is in the counts
        launched = probes.launches(many)
        yield DeviceRow(
            name,
            rows,
            classes,
            device_us=done[name].microseconds[0],
            issue_us=asked[name].microseconds[0],
            ratio=done[name].ratio[0],
            operations=operations(call, UPDATES),
            launches=None if launched is None else launched / UPDATES,
            waits=probes.waits(many),
            peak_bytes=probes.peak_bytes(many),
            differs=differs[name],
        )


def _device_sides(modules: Mapping[str, Any], device: str, classes: int) -> list[Competitor]:
    metrics = pm.MulticlassMetrics(classes, topk=(1, 5), device=device)
    peers = peer_sides(modules, "multiclass", classes, full_set(), device)
    return [our_side("ptmetrics", metrics), *peers]


def runs_there(side: Competitor, check: PredsTarget) -> bool:
    """Count a batch; a peer that cannot do it on this device is told and left out."""
    try:
        side.update(*check)
        side.scores()
    except Exception as error:
        if side.name == "ptmetrics":
            raise
        print(f"{side.name} is left out: {error}", file=sys.stderr)
        return False
    return True


def _call_many(call: Call) -> None:
    for _ in range(UPDATES):
        call()


def graphed_rows(
    modules: Mapping[str, Any], probes: Probes, rows: Sequence[DeviceRow], device: str
) -> list[DeviceRow]:
    """The same rows with what a CUDA graph makes of the update.

    A capture that fails may leave torch unable to go on. So graphs come behind everything else, and
    ours first.
    """
    graphed = list(rows)
    if not probes.has_graphs:
        return graphed
    for index in sorted(range(len(rows)), key=lambda index: rows[index].side != "ptmetrics"):
        graph, replay_us = graph_of_update(modules, probes, rows[index], device)
        graphed[index] = replace(rows[index], graph=graph, replay_us=replay_us)
    return graphed


def graph_of_update(
    modules: Mapping[str, Any], probes: Probes, row: DeviceRow, device: str
) -> tuple[str, float | None]:
    """What becomes of an update as a CUDA graph, and the microseconds of a replay."""
    try:
        sides = {side.name: side for side in _device_sides(modules, device, row.classes)}
        side = sides[row.side]
        replay = probes.capture(partial(side.update, *class_batch(row.rows, row.classes, device)))
        return replayed(side, replay, row.rows, probes.clock)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0] or "?"
        return f"refused: {reason[:80]}", None


def replayed(side: Competitor, replay: Call, rows: int, clock: Clock) -> tuple[str, float]:
    """Whether replays of an update count what updates count, and the microseconds of one."""
    before = _rows_counted(side)
    for _ in range(REPLAYS):
        replay()
    outcome = "loses rows"
    if _rows_counted(side) == before + REPLAYS * rows:
        outcome = "counts"
    times = race({"replay": replay}, rounds=5, clock=clock)
    return outcome, times["replay"].microseconds[0]


def _rows_counted(side: Competitor) -> int:
    """Rows in the confusion matrix, which each side here has."""
    return round(sum(map(sum, side.scores()["confusion"])))


def device_report(rows: Sequence[DeviceRow], results: Results, probes: Probes) -> Iterator[str]:
    """Everything, as text."""
    yield from setting_text(results.setting)
    yield f"device: {probes.name}"
    if not probes.has_graphs:
        yield f"launches, waits, peak memory, CUDA graphs, mixed precision: {NOT_MEASURED}"
    yield from device_text(rows)
    yield from loop_text(results)


def device_text(rows: Iterable[DeviceRow]) -> Iterator[str]:
    """Updates by size."""
    for (number, classes), part in groupby(rows, key=lambda row: (row.rows, row.classes)):
        yield f"\none update of the full set: {number} x {classes}"
        for row in part:
            line = (
                f"  {row.side:<16}{row.device_us:>10,.0f} us x{row.ratio:<7.2f}"
                f"{row.issue_us:>9,.0f} us of the host  {row.operations:>5.1f} operations"
            )
            if row.launches is not None:
                line += f"  launches {row.launches:.1f}"
            if row.waits is not None:
                line += f"  waits in {UPDATES} {row.waits}"
            if row.peak_bytes is not None:
                line += f"  bytes at the peak {row.peak_bytes:,}"
            if row.graph is not None:
                line += f"  graph {row.graph}"
            if row.replay_us is not None:
                line += f"  us a replay {row.replay_us:,.0f}"
            if row.differs:
                line += f"  DIFFERS: {', '.join(row.differs)}"
            yield line


def _write_device_page(
    folder: Path,
    known: Mapping[str, Any],
    rows: Sequence[DeviceRow],
    text: Sequence[str],
    data: Mapping[str, Any],
) -> None:
    """The page, the numbers as JSON, and a plot at the largest number of classes."""
    most = max(row.classes for row in rows)
    points: dict[str, dict[float, float]] = {}
    for row in rows:
        if row.classes == most:
            points.setdefault(row.side, {})[row.rows] = row.device_us
    title = f"One update of the full set, {most} classes, on {known['device']}"
    draw_plot(LinePlot(title, "rows", "microseconds", points), folder / GPU_PLOT)
    (folder / GPU_DATA).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    page = [
        f"# Benchmarks on {known['device']}\n\nWritten by `{known['command']}`.\n",
        *fenced(text),
        f"\n![One update over the number of rows]({GPU_PLOT})",
    ]
    (folder / GPU_PAGE).write_text("\n".join(page) + "\n", encoding="utf-8")
    print(f"written: {folder / GPU_PAGE}", file=sys.stderr)
