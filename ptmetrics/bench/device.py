"""The part for a GPU: updates, scores, curves and training steps on a device beside the peers.

Time, launches, waits, memory, CUDA graphs; each part is printed when it was measured. Without a GPU
it runs on the CPU and says of each number that only a GPU has that it was not measured.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch

import ptmetrics as pm
from ptmetrics.bench.curves import CurveRow, curve_rows
from ptmetrics.bench.loops import Loop, LoopRow, fsync_us, loop_rows, mlp_loop, resnet_loop
from ptmetrics.bench.machine import setting
from ptmetrics.bench.peers import Competitor, installed, our_side, peer_sides
from ptmetrics.bench.probes import Probes, probes_of
from ptmetrics.bench.report import (
    LinePlot,
    Results,
    curve_text,
    draw_plot,
    fenced,
    loop_text,
    setting_text,
)
from ptmetrics.bench.timing import Call, Clock, operations, race
from ptmetrics.bench.updates import PredsTarget, class_batch, differing, full_set, other_tasks

REPLAYS = 3
MOST_COMPARED = 1000  # classes whose scores are compared, and whose updates become graphs
GPU_PAGE = "BENCHMARKS-gpu.md"
GPU_PLOT = "docs/gpu-updates.png"
GPU_DATA = "docs/gpu-benchmark.json"
NOT_MEASURED = "not measured: no CUDA device"


class DevicePlan(NamedTuple):
    """How much is measured.

    Attributes:
        sizes: Shapes of the scores of an update: rows, classes, and the sides of a picture.
        rounds: Rounds of each time.
        updates: Updates, for means and counts.
        scored: Numbers of classes whose scores are timed.
        curves: Numbers of scores for the curves.
        tasks: Rows of an update of each other task.
        loop_rounds: Blocks of each side in each phase of a loop.
        batches: Batches of a block.
    """

    sizes: tuple[tuple[int, ...], ...]
    rounds: int
    updates: int
    scored: tuple[int, ...]
    curves: tuple[int, ...]
    tasks: int
    loop_rounds: int
    batches: int


SMALL = ((64, 10), (256, 1000), (4096, 1000))
LARGE = ((65536, 10), (16384, 1000), (2048, 32000), (8, 21, 512, 512))
PLANS = {  # by device, and whether it is to be quick
    ("cpu", True): DevicePlan(((64, 10),), 2, 2, (10,), (20_000,), 64, 1, 2),
    ("cpu", False): DevicePlan(SMALL, 9, 64, (10, 1000), (10**7,), 4096, 7, 20),
    ("cuda", True): DevicePlan(SMALL + LARGE, 3, 8, (10, 1000), (10**7,), 65536, 2, 8),
    ("cuda", False): DevicePlan(SMALL + LARGE, 9, 64, (10, 1000), (10**7, 10**8), 65536, 7, 20),
}


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
        operations: Operations that torch dispatches, mean of some updates.
        launches: Kernels, copies and fills, mean of some updates.
        waits: Times that the host waits, mean of some updates.
        peak_bytes: Device memory at the peak, beside state and batch.
        graph: "counts" if a replayed CUDA graph of the update counts what an update counts, "loses
            rows" if it does not, or why torch refused to capture it.
        replay_us: Median microseconds of a replay.
        differs: Scores whose numbers are not ours.
        picture: Sides of the pictures whose pixels are the rows.
        task: What is counted, if it is not the full multiclass set.
    """

    side: str
    rows: int
    classes: int
    device_us: float
    issue_us: float
    ratio: float
    operations: float
    launches: float | None
    waits: float | None
    peak_bytes: int | None
    graph: str | None = None
    replay_us: float | None = None
    differs: tuple[str, ...] = ()
    picture: tuple[int, ...] = ()
    task: str = ""

    @property
    def size(self) -> tuple[int, ...]:
        """Shape of the scores."""
        return (self.rows, self.classes, *self.picture)


@dataclass(frozen=True)
class ScoredRow:
    """All scores of what one side has counted, once; None was not measured.

    Attributes:
        side: Who.
        classes: Number of classes.
        ms: Median milliseconds.
        ratio: Time over ours, in the same round.
        waits: Times that the host waits.
    """

    side: str
    classes: int
    ms: float
    ratio: float
    waits: int | None


@dataclass
class DeviceResults:
    """All that one run measured.

    Attributes:
        setting: Machine, versions, threads.
        updates: One update of each side and size.
        tasks: The same of binary, multilabel, regression, and parts of the rows.
        scored: All scores once.
        curves: By the number of scores.
        loops: What is added to a loop.
    """

    setting: Mapping[str, Any]
    updates: list[DeviceRow] = field(default_factory=list)
    tasks: list[DeviceRow] = field(default_factory=list)
    scored: list[ScoredRow] = field(default_factory=list)
    curves: dict[int, list[CurveRow]] = field(default_factory=dict)
    loops: list[LoopRow] = field(default_factory=list)


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
    results = DeviceResults(setting(args.threads, probes.name, options))
    out = sys.stdout
    if args.json:
        out = sys.stderr
    text = []
    for line in measure_device(results, probes, where or device, quick=args.quick, cuda=cuda):
        text.append(line)
        print(line, file=out, flush=True)
    if args.json:
        print(json.dumps(asdict(results)))
    if args.out:
        _write_device_page(args.out, results, text)
    return int(any(row.differs for row in [*results.updates, *results.tasks]))


def measure_device(
    results: DeviceResults, probes: Probes, device: str, *, quick: bool, cuda: Any = torch.cuda
) -> Iterator[str]:
    """Measure one part after the other into `results`, and tell each."""
    plan = PLANS[device, quick]
    modules, _ = installed()
    yield from setting_text(results.setting)
    yield f"device: {probes.name}"
    if not probes.has_graphs:
        yield f"launches, waits, peak memory, CUDA graphs, mixed precision: {NOT_MEASURED}"
    for size in plan.sizes:
        rows = list(device_rows(modules, probes, size, plan, device))
        results.updates += rows
        yield from device_text(rows)
    for title, sides, batch in [*other_tasks(modules, plan.tasks, device), parts(plan, device)]:
        rows = list(task_rows(title, sides, batch, probes, plan))
        results.tasks += rows
        yield from device_text(rows)
    for classes in plan.scored:
        scored = list(scored_rows(modules, probes, classes, plan.rounds, device))
        results.scored += scored
        yield from scored_text(scored)
    for count in plan.curves:
        curves = list(curve_rows(modules, count, plan.rounds, device, probes.clock))
        results.curves[count] = curves
        yield from curve_text(curves, count)
    yield f"\none fsync of the disk: {fsync_us() / 1e3:.2f} ms; the end of an epoch has one or more"
    batches = {"train": plan.batches, "val": plan.batches}
    for loop in device_loops(device, quick=quick, cuda=cuda):
        loops = list(
            loop_rows(loop, modules, rounds=plan.loop_rounds, batches=batches, clock=probes.clock)
        )
        results.loops += loops
        yield from loop_text(Results(results.setting, loops=loops))
    if probes.has_graphs:
        yield "\none update as a CUDA graph"
    for index, row in graphed_rows(modules, probes, results.updates, device):
        results.updates[index] = row
        yield graph_text(row)


def device_loops(device: str, *, quick: bool, cuda: Any = torch.cuda) -> list[Loop]:
    """A perceptron, and ResNets with AMP, on a GPU; on a CPU a small one, to see that it works."""
    if device == "cpu" and quick:
        return [mlp_loop()]
    if device == "cpu":
        return [resnet_loop(18, 32, 64)]
    amp = half_precision(cuda)
    return [
        mlp_loop(256, (32, 64, 10), device),
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
    modules: Mapping[str, Any], probes: Probes, size: tuple[int, ...], plan: DevicePlan, device: str
) -> Iterator[DeviceRow]:
    """The full multiclass set on a device, each side in turn; graphs are left out.

    Beside it the maximum of each row, and one read of the scores.
    """
    rows, classes, *picture = size
    batch = shaped_batch(size, device)
    sides = _device_sides(modules, device, size)
    differs: dict[str, tuple[str, ...]] = {}
    if picture or classes > MOST_COMPARED:  # their matrices are too large to be compared
        sides = [side for side in sides if runs_there(side.name, partial(side.update, *batch))]
    else:
        check = class_batch(8 * classes, classes, device)
        sides = [
            side for side in sides if runs_there(side.name, partial(_scores_of_side, side, check))
        ]
        reference = sides[0].scores()
        differs = {side.name: tuple(differing(reference, side.scores())) for side in sides}
    calls: dict[str, Call] = {side.name: partial(side.update, *batch) for side in sides}
    calls["x.max(1) alone"] = partial(torch.max, batch[0], 1)
    calls["one read: x.sum()"] = partial(torch.sum, batch[0])
    for row in _timed(calls, probes, plan):
        sides_of = tuple(picture)
        yield replace(
            row, rows=rows, classes=classes, picture=sides_of, differs=differs.get(row.side, ())
        )


def parts(plan: DevicePlan, device: str) -> tuple[str, list[Competitor], PredsTarget]:
    """Ten classes as a whole, with slices, with groups, and with the curves of each class."""
    batch = class_batch(plan.tasks, 10, device)
    of_row = torch.arange(plan.tasks, device=device) % 7
    whole = pm.MulticlassMetrics(10, topk=(1, 5), device=device)
    sliced = pm.MulticlassMetrics(10, topk=(1, 5), slices=7, device=device)
    grouped = pm.MulticlassMetrics(10, topk=(1, 5), groups=True, device=device)
    curves = pm.MulticlassMetrics(10, topk=(1, 5), curves=True, device=device)
    by_slice = replace(
        our_side("ptmetrics, 7 slices", sliced), update=partial(sliced.update, slices=of_row)
    )
    by_group = replace(
        our_side("ptmetrics, groups", grouped), update=partial(grouped.update, group=of_row)
    )
    sides = [our_side("ptmetrics", whole), by_slice, by_group]
    sides.append(our_side("ptmetrics, curves", curves))
    return f"multiclass, {plan.tasks} x 10, and parts of it", sides, batch


def task_rows(
    title: str,
    sides: Sequence[Competitor],
    batch: PredsTarget,
    probes: Probes,
    plan: DevicePlan,
) -> Iterator[DeviceRow]:
    """One update of each side in turn, whose scores were compared before."""
    there = [side for side in sides if runs_there(side.name, partial(side.update, *batch))]
    reference = there[0].scores()
    differs = {side.name: tuple(differing(reference, side.scores())) for side in there}
    calls: dict[str, Call] = {side.name: partial(side.update, *batch) for side in there}
    for row in _timed(calls, probes, plan):
        yield replace(row, rows=len(batch[0]), task=title, differs=differs[row.side])


def _timed(calls: Mapping[str, Call], probes: Probes, plan: DevicePlan) -> Iterator[DeviceRow]:
    """Time, launches, waits and memory of each call."""
    done = race(calls, rounds=plan.rounds, clock=probes.clock)
    # Few repeats: a queue that is full makes the host wait for the device, and that is not what
    # issuing costs.
    asked = race(calls, rounds=plan.rounds, least_s=3e-4, clock=probes.issue)
    for name, call in calls.items():
        many = partial(_call_many, call, plan.updates)  # what is done now and then is in the counts
        yield DeviceRow(
            name,
            0,
            0,
            device_us=done[name].microseconds[0],
            issue_us=asked[name].microseconds[0],
            ratio=done[name].ratio[0],
            operations=operations(call, plan.updates),
            launches=_mean(probes.launches(many), plan.updates),
            waits=_mean(probes.waits(many), plan.updates),
            peak_bytes=probes.peak_bytes(many),
        )


def _mean(total: int | None, count: int) -> float | None:
    if total is None:
        return None
    return total / count


def shaped_batch(size: tuple[int, ...], device: str) -> PredsTarget:
    """A batch of classes, or of pictures whose every pixel has one, classes in dimension 1."""
    rows, classes, *picture = size
    preds, target = class_batch(rows * torch.Size(picture).numel(), classes, device)
    if not picture:
        return preds, target
    preds = preds.reshape(rows, *picture, classes).movedim(-1, 1).contiguous()
    return preds, target.reshape(rows, *picture)


def _device_sides(
    modules: Mapping[str, Any], device: str, size: tuple[int, ...]
) -> list[Competitor]:
    """Ours and the peers; of pictures theirs have the confusion matrix alone."""
    _, classes, *picture = size
    metrics = pm.MulticlassMetrics(classes, topk=(1, 5), device=device)
    wanted = full_set()
    if picture:
        wanted = ["confusion"]
    peers = peer_sides(modules, "multiclass", classes, wanted, device)
    if picture:  # by hand it takes rows
        peers = [peer for peer in peers if peer.name == "torchmetrics"]
    return [our_side("ptmetrics", metrics), *peers]


def _scores_of_side(side: Competitor, check: PredsTarget) -> object:
    side.update(*check)
    return side.scores()


def runs_there(name: str, call: Call) -> bool:
    """Try it; a peer that cannot do it on this device is told and left out."""
    try:
        call()
    except Exception as error:
        if name.startswith("ptmetrics"):
            raise
        print(f"{name} is left out: {error}", file=sys.stderr)
        return False
    return True


def _call_many(call: Call, times: int) -> None:
    for _ in range(times):
        call()


def scored_rows(
    modules: Mapping[str, Any], probes: Probes, classes: int, rounds: int, device: str
) -> Iterator[ScoredRow]:
    """All scores of the full set, with the intervals that ours have."""
    batch = class_batch(8 * classes, classes, device)
    calls: dict[str, Call] = {}
    for side in _device_sides(modules, device, (8 * classes, classes)):
        if side.compute is not None and runs_there(side.name, partial(side.update, *batch)):
            calls[side.name] = side.compute
    done = race(calls, rounds=rounds, clock=probes.clock)
    for name, call in calls.items():
        yield ScoredRow(
            name,
            classes,
            ms=done[name].microseconds[0] / 1e3,
            ratio=done[name].ratio[0],
            waits=probes.waits(call),
        )


def scored_text(rows: Iterable[ScoredRow]) -> Iterator[str]:
    """Scores by the number of classes."""
    for classes, part in groupby(rows, key=lambda row: row.classes):
        yield f"\ncompute() of the full set, {classes} classes"
        for row in part:
            line = f"  {row.side:<18}{row.ms:>10,.2f} ms x{row.ratio:<7.2f}"
            if row.waits is not None:
                line += f"  waits {row.waits}"
            yield line


def graphed_rows(
    modules: Mapping[str, Any], probes: Probes, rows: Sequence[DeviceRow], device: str
) -> Iterator[tuple[int, DeviceRow]]:
    """The rows of a metric once more, with their places, and what a CUDA graph makes of the update.

    A capture that fails may leave torch unable to go on. So graphs come behind everything else, and
    ours first.
    """
    if not probes.has_graphs:
        return
    places = [place for place, row in enumerate(rows) if _can_be_graphed(row)]
    for place in sorted(places, key=lambda place: rows[place].side != "ptmetrics"):
        graph, replay_us = graph_of_update(modules, probes, rows[place], device)
        yield place, replace(rows[place], graph=graph, replay_us=replay_us)


def _can_be_graphed(row: DeviceRow) -> bool:
    """Whether the row is a metric's, and its matrix can be read."""
    return not row.side.startswith(("x.", "one")) and row.classes <= MOST_COMPARED


def graph_of_update(
    modules: Mapping[str, Any], probes: Probes, row: DeviceRow, device: str
) -> tuple[str, float | None]:
    """What becomes of an update as a CUDA graph, and the microseconds of a replay."""
    try:
        sides = {side.name: side for side in _device_sides(modules, device, row.size)}
        side = sides[row.side]
        preds, target = shaped_batch(row.size, device)
        replay = probes.capture(partial(side.update, preds, target))
        return replayed(side, replay, target.numel(), probes.clock)
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


def device_text(rows: Iterable[DeviceRow]) -> Iterator[str]:
    """Updates by size or task."""
    for told, part in groupby(rows, key=_heading):
        yield f"\none update of {told}"
        for row in part:
            line = (
                f"  {row.side:<31}{row.device_us:>10,.1f} us x{row.ratio:<7.2f}"
                f"{row.issue_us:>9,.1f} us of the host  {row.operations:>5.1f} operations"
            )
            if row.launches is not None:
                line += f"  launches {row.launches:.1f}"
            if row.waits is not None:
                line += f"  waits {row.waits:.1f}"
            if row.peak_bytes is not None:
                line += f"  bytes at the peak {row.peak_bytes:,}"
            if row.differs:
                line += f"  DIFFERS: {', '.join(row.differs)}"
            yield line


def _heading(row: DeviceRow) -> str:
    if row.task:
        return row.task
    return f"the full set: {' x '.join(map(str, row.size))}"


def graph_text(row: DeviceRow) -> str:
    """What became of an update as a CUDA graph."""
    line = f"  {' x '.join(map(str, row.size)):<22}{row.side:<18}graph {row.graph}"
    if row.replay_us is not None:
        line += f"  us a replay {row.replay_us:,.1f}"
    return line


def _write_device_page(folder: Path, results: DeviceResults, text: Sequence[str]) -> None:
    """The page, the numbers as JSON, and a plot at the number of classes that has most sizes."""
    known = results.setting
    most = Counter(row.classes for row in results.updates).most_common(1)[0][0]
    points: dict[str, dict[float, float]] = {}
    for row in results.updates:
        if row.classes == most:
            points.setdefault(row.side, {})[row.rows] = row.device_us
    title = f"One update of the full set, {most} classes, on {known['device']}"
    draw_plot(LinePlot(title, "rows", "microseconds", points), folder / GPU_PLOT)
    data = json.dumps(asdict(results), indent=1)
    (folder / GPU_DATA).write_text(data + "\n", encoding="utf-8")
    page = [
        f"# Benchmarks on {known['device']}\n\nWritten by `{known['command']}`.\n",
        *fenced(text),
        f"\n![One update over the number of rows]({GPU_PLOT})",
    ]
    (folder / GPU_PAGE).write_text("\n".join(page) + "\n", encoding="utf-8")
    print(f"written: {folder / GPU_PAGE}", file=sys.stderr)
