"""Updates and training steps on a device beside the peers: time, launches, waits, memory, CUDA graphs."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

import ptmetrics as pm
from ptmetrics.bench.loops import Loop, mlp, resnet
from ptmetrics.bench.overhead import LoopRow, watched
from ptmetrics.bench.peers import Side, ours, sides
from ptmetrics.bench.probes import Probes
from ptmetrics.bench.timing import Call, Clock, operations, race
from ptmetrics.bench.updates import Batch, class_batch, full_set, same

SIZES = tuple((rows, classes) for classes in (10, 100, 1000) for rows in (64, 256, 1024, 4096))
QUICK = ((64, 10),)
REPLAYS, MANY = 3, 64


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
        graph: "counts" if a replayed CUDA graph of the update counts what an update counts, "loses rows" if it
            does not, or why torch refused to capture it.
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


def update_rows(
    modules: Mapping[str, Any],
    probe: Probes,
    sizes: Sequence[tuple[int, int]],
    rounds: int,
    device: str,
) -> Iterator[DeviceRow]:
    """The full multiclass set on a device, for each number of rows and classes; graphs are left out."""
    for rows, classes in sizes:
        check = _on(device, 8 * classes, classes)
        entrants = [side for side in _entrants(modules, device, classes) if _able(side, check)]
        yield from _beside(
            entrants, _on(device, rows, classes), probe, rounds, _differing(entrants)
        )


def graph_rows(
    modules: Mapping[str, Any], probe: Probes, rows: Sequence[DeviceRow], device: str
) -> Iterator[DeviceRow]:
    """The same rows with what a CUDA graph makes of the update.

    A capture that fails may leave torch unable to go on. So graphs come behind everything else, and ours first.
    """
    for row in sorted(rows, key=lambda row: row.side != "ptmetrics"):
        if probe.capture is None:
            yield row
        else:
            graph, replay_us = _graph(modules, probe.capture, probe.clock, row, device)
            yield replace(row, graph=graph, replay_us=replay_us)


def _graph(
    modules: Mapping[str, Any],
    capture: Callable[[Call], Call],
    clock: Clock,
    row: DeviceRow,
    device: str,
) -> tuple[str, float | None]:
    try:
        side = next(s for s in _entrants(modules, device, row.classes) if s.name == row.side)
        call = partial(side.update, *_on(device, row.rows, row.classes))
        return replayed(side, capture(call), row.rows, clock)
    except RuntimeError as error:
        return f"refused: {(str(error).splitlines() or ['?'])[0][:80]}", None


def replayed(side: Side, replay: Call, rows: int, clock: Clock) -> tuple[str, float]:
    """Whether replays of an update count what updates count, and the microseconds of one."""
    before = _counted(side)
    for _ in range(REPLAYS):
        replay()
    counts = "counts" if _counted(side) == before + REPLAYS * rows else "loses rows"
    times = race({"replay": replay}, rounds=5, count=False, clock=clock)
    return counts, times["replay"].microseconds[0]


def _able(side: Side, check: Batch) -> bool:
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


def _on(device: str, rows: int, classes: int) -> Batch:
    preds, target = class_batch(rows, classes)
    return preds.to(device), target.to(device)


def _entrants(modules: Mapping[str, Any], device: str, classes: int) -> list[Side]:
    metrics = pm.MulticlassMetrics(classes, topk=(1, 5), device=device)
    return [ours("ptmetrics", metrics), *sides(modules, "multiclass", classes, full_set(), device)]


def _differing(entrants: Sequence[Side]) -> dict[str, tuple[str, ...]]:
    """Which scores of a batch with all classes, counted already, are another number than ours, by side."""
    mine = entrants[0].scores()
    theirs = {side.name: side.scores() for side in entrants}
    return {
        name: tuple(
            score
            for score, value in scores.items()
            if score in mine and not same(mine[score], value)
        )
        for name, scores in theirs.items()
    }


def _beside(
    entrants: Sequence[Side],
    batch: Batch,
    probe: Probes,
    rounds: int,
    differs: Mapping[str, tuple[str, ...]],
) -> Iterator[DeviceRow]:
    calls: dict[str, Call] = {side.name: partial(side.update, *batch) for side in entrants}
    done = race(calls, rounds=rounds, count=False, clock=probe.clock)
    # Few repeats: a queue that is full makes the host wait for the device, and that is not what issuing costs.
    asked = race(calls, rounds=rounds, least_s=3e-4, count=False, clock=probe.issue)
    rows, classes = batch[0].shape
    seen = {name: _counts(call, probe) for name, call in calls.items()}
    for side in entrants:
        time, issue = done[side.name], asked[side.name].microseconds[0]
        yield DeviceRow(side.name, rows, classes, time.microseconds[0], issue, time.ratio[0],
                        *seen[side.name], differs=differs[side.name])  # fmt: skip


def _counts(call: Call, probe: Probes) -> tuple[float, float | None, int | None, int | None]:
    """Operations and launches of an update, waits and peak of many: what is done once in a while is in them."""

    def many() -> None:
        for _ in range(MANY):
            call()

    launched = probe.launches(many)
    mean = None if launched is None else launched / MANY
    return operations(call, MANY), mean, probe.waits(many), probe.peak_bytes(many)


def _counted(side: Side) -> int:
    """Rows in the confusion matrix, which each side here has."""
    return round(sum(map(sum, side.scores()["confusion"])))


def loop_rows(
    modules: Mapping[str, Any], probe: Probes, loops: Sequence[Loop], rounds: int
) -> Iterator[LoopRow]:
    """Training steps and validation batches, bare and watched."""
    for loop in loops:
        batches = {"train": 20, "val": 20} if rounds > 1 else {"train": 2, "val": 2}
        yield from watched(loop, modules, rounds=rounds, batches=batches, clock=probe.clock)


def half(device: str, cuda: Any = torch.cuda) -> torch.dtype | None:
    """Type of mixed precision of a device: bfloat16 where it is native, else float16; None on a CPU."""
    if device == "cpu":
        return None
    return torch.bfloat16 if cuda.is_bf16_supported(including_emulation=False) else torch.float16


def the_loops(device: str, *, quick: bool, cuda: Any = torch.cuda) -> list[Loop]:
    """ResNet-18 and ResNet-50 with AMP on a GPU; on a CPU a small one, to see that it works."""
    if quick:
        return [mlp()]
    if device == "cpu":
        return [resnet(18, 32, 64)]
    amp = half(device, cuda)
    return [
        resnet(18, 32, 128, device, amp),
        resnet(18, 224, 128, device, amp),
        resnet(50, 224, 64, device, amp),
    ]
