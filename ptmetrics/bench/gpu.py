"""Updates and training steps on a device beside the peers: time, launches, waits, memory, CUDA graphs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

import ptmetrics as pm
from ptmetrics.bench.loops import Loop, mlp, resnet
from ptmetrics.bench.overhead import LoopRow, watched
from ptmetrics.bench.peers import Side, ours, sides
from ptmetrics.bench.probes import Probes
from ptmetrics.bench.timing import Call, operations, race
from ptmetrics.bench.updates import Batch, class_batch, same

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
    graph: str | None
    replay_us: float | None
    differs: tuple[str, ...] = ()


def update_rows(
    modules: Mapping[str, Any], probe: Probes, sizes: Sequence[tuple[int, int]], rounds: int, device: str
) -> Iterator[DeviceRow]:
    """The full multiclass set on a device, for each number of rows and classes."""
    for rows, classes in sizes:
        entrants = _entrants(modules, device, classes)
        differs = _differing(entrants, _on(device, 8 * classes, classes))
        yield from _beside(entrants, _on(device, rows, classes), probe, rounds, differs)


def _on(device: str, rows: int, classes: int) -> Batch:
    preds, target = class_batch(rows, classes)
    return preds.to(device), target.to(device)


def _entrants(modules: Mapping[str, Any], device: str, classes: int) -> list[Side]:
    metrics = pm.MulticlassMetrics(classes, topk=(1, 5), device=device)
    wanted = [*metrics.compute(), "confusion"]
    return [ours("ptmetrics", metrics), *sides(modules, "multiclass", classes, wanted, device)]


def _differing(entrants: Sequence[Side], check: Batch) -> dict[str, tuple[str, ...]]:
    """Which scores of a batch with all classes are another number than ours, by side."""
    for side in entrants:
        side.update(*check)
    mine = entrants[0].scores()
    theirs = {side.name: side.scores() for side in entrants}
    return {
        name: tuple(
            score for score, value in scores.items() if score in mine and not same(mine[score], value)
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
    for side in entrants:  # graphs come last, and ours first: a capture that fails may leave traces
        graph, replay_us = _captured(side, calls[side.name], rows, probe)
        time, issue = done[side.name], asked[side.name].microseconds[0]
        yield DeviceRow(side.name, rows, classes, time.microseconds[0], issue, time.ratio[0],
                        *seen[side.name], graph, replay_us, differs[side.name])  # fmt: skip


def _counts(call: Call, probe: Probes) -> tuple[float, float | None, int | None, int | None]:
    """Operations and launches of an update, waits and peak of many: what is done once in a while is in them."""

    def many() -> None:
        for _ in range(MANY):
            call()

    launched = probe.launches(many)
    mean = None if launched is None else launched / MANY
    return operations(call, MANY), mean, probe.waits(many), probe.peak_bytes(many)


def _captured(side: Side, call: Call, rows: int, probe: Probes) -> tuple[str | None, float | None]:
    if probe.capture is None:
        return None, None
    try:
        replay = probe.capture(call)
        before = _counted(side)
        for _ in range(REPLAYS):
            replay()
        counts = "counts" if _counted(side) == before + REPLAYS * rows else "loses rows"
        times = race({"replay": replay}, rounds=5, count=False, clock=probe.clock)
    except (RuntimeError, ValueError) as error:
        return f"refused: {(str(error).splitlines() or ['?'])[0][:80]}", None
    return counts, times["replay"].microseconds[0]


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
