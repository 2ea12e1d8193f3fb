"""How costs grow: with samples, classes, scores, epochs and ranks. Each is one `Growth`, a table and a plot."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ptmetrics as pm
from ptmetrics.bench.growth_record import epochs, journal, packed_ranks
from ptmetrics.bench.peers import sides
from ptmetrics.bench.ranking import BytesRow, RankingRow, ranking
from ptmetrics.bench.timing import Call, race
from ptmetrics.bench.updates import class_batch, full_set

Line = Mapping[float, float]  # x to y
SETS: tuple[Mapping[str, Any], ...] = (
    {"losses": False},
    {"losses": False, "topk": (1, 5)},
    {"topk": (1, 5)},
    {"topk": (1, 5), "curves": True},
)


@dataclass(frozen=True)
class Growth:
    """What grows with what.

    Attributes:
        name: Of the plot's file.
        title: What is shown.
        x: Label of the axis, with its unit.
        y: The same.
        lines: Points by name.
        how: How it was measured.
        logarithmic: Whether both axes are.
    """

    name: str
    title: str
    x: str
    y: str
    lines: Mapping[str, Line]
    how: str
    logarithmic: bool = True


def growth(
    modules: Mapping[str, Any],
    curves: Sequence[RankingRow],
    grown: Sequence[BytesRow],
    count: int,
    *,
    quick: bool,
) -> Iterator[Growth]:
    """All of them.

    Args:
        modules: Peers that are installed.
        curves: AUROC and average precision of `count` scores, which were measured already.
        grown: Bytes of state, which were measured already.
        count: Number of scores in `curves`.
        quick: Small sizes.
    """
    rounds = 2 if quick else 7
    yield samples(modules, curves, count, (1000,) if quick else (10_000, 100_000, 1_000_000))
    yield state(grown)
    yield classes(modules, (10, 100) if quick else (10, 100, 1000, 4096, 20_000), rounds)
    yield scores(modules, 10 if quick else 100, rounds)
    yield Growth("journal", "One epoch in the journal, train and validation", "classes", "bytes",
                 {"ptmetrics": journal((2, 10) if quick else (2, 10, 100, 128, 1000))},
                 "Length of the epoch's line. The confusion matrix is recorded up to 128 classes, scores of each "
                 "class up to 4,096.")  # fmt: skip
    yield Growth("epochs", "Reading and judging the record of a run with 10 classes", "epochs", "seconds",
                 epochs((3, 10) if quick else (10, 30, 100, 300, 1000)),
                 "Best of three, in a process that has imported everything.")  # fmt: skip
    yield Growth("ranks", "Bytes that each rank sends to merge all ranks", "ranks", "bytes", packed_ranks(),
                 "Worked out, not measured on several machines: a ring all-reduce of n ranks sends 2(n - 1)/n times "
                 "the packed state, whose cells merge one by one; gathering what others keep, a million scores a "
                 "rank, sends them n - 1 times. That a packed state has just these bytes, and that merging packed "
                 "parts gives what the whole gives, is checked here each time the page is made.")  # fmt: skip


def samples(
    modules: Mapping[str, Any], curves: Sequence[RankingRow], count: int, counts: Sequence[int]
) -> Growth:
    """Seconds for AUROC and average precision."""
    measured = {n: list(ranking(modules, n, 3)) for n in counts} | {count: curves}
    lines = {
        row.side: {float(n): _of(rows, row.side) for n, rows in measured.items()} for row in curves
    }
    return Growth("samples", "AUROC and average precision of n scores", "scores", "seconds", lines,
                  "Update and compute of n float32 scores in one call; medians, the sides in turn.")  # fmt: skip


def _of(rows: Sequence[RankingRow], side: str) -> float:
    return next(row.seconds[0] for row in rows if row.side == side)


def state(grown: Sequence[BytesRow]) -> Growth:
    """Bytes of state for AUROC."""
    names = grown[0].state_bytes
    lines = {
        name: {float(row.rows): float(row.state_bytes[name]) for row in grown} for name in names
    }
    return Growth(
        "state",
        "State after n scores, for AUROC",
        "scores",
        "bytes",
        lines,
        "Bytes of all tensors that are kept.",
    )


def classes(modules: Mapping[str, Any], sizes: Sequence[int], rounds: int) -> Growth:
    """Microseconds of one update of the full multiclass set."""
    lines: dict[str, dict[float, float]] = {}
    for size in sizes:
        metrics, batch = pm.MulticlassMetrics(size, topk=(1, 5)), class_batch(256, size)
        # From here on their matrix has more cells than there is memory for.
        others = sides(modules, "multiclass", size, full_set()) if size <= 4096 else []
        calls = {"ptmetrics": partial(metrics.update, *batch)} | {
            s.name: partial(s.update, *batch) for s in others
        }
        for name, timing in race(calls, rounds=rounds, count=False).items():
            lines.setdefault(name, {})[size] = timing.microseconds[0]
    return Growth("classes", "One update of the full set, 256 rows", "classes", "microseconds", lines,
                  "Medians, the sides in turn. Above 4,096 classes ours keeps margins; the others' matrix would take "
                  "gigabytes and was left out.")  # fmt: skip


def scores(modules: Mapping[str, Any], size: int, rounds: int) -> Growth:
    """Microseconds of one update as more scores are asked for."""
    batch = class_batch(256, size)
    sets = [pm.MulticlassMetrics(size, **options) for options in SETS]
    calls: dict[tuple[str, int], Call] = {
        ("ptmetrics", len(metrics.compute())): partial(metrics.update, *batch) for metrics in sets
    }
    peer = {name: module for name, module in modules.items() if name == "torchmetrics"}
    order = (
        "accuracy",
        "precision/macro",
        "recall/macro",
        "f1/macro",
        "confusion",
        "top5_accuracy",
        "ece",
    )
    for n in range(1, 8, 2) if peer else ():
        side = sides(peer, "multiclass", size, order[:n])[0]
        calls[side.name, n] = partial(side.update, *batch)
    lines: dict[str, dict[float, float]] = {}
    timings = race(
        {f"{name} {n}": call for (name, n), call in calls.items()}, rounds=rounds, count=False
    )
    for (name, n), timing in zip(calls, timings.values(), strict=True):
        lines.setdefault(name, {})[n] = timing.microseconds[0]
    return Growth("scores", f"One update, 256 x {size}, as more scores are asked for", "scores", "microseconds",
                  lines, "Ours: counts; with top-5; with losses and calibration; with the curves of each class. "
                  "torchmetrics: the first 1, 3, 5 and 7 of those that it has. Medians, in turn.", False)  # fmt: skip
