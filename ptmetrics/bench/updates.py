"""One update of each task beside the peers: first the same numbers, then the time."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ptmetrics.bench.peers import Side, Task, ours, sides
from ptmetrics.bench.timing import Quartiles, race
from ptmetrics.metrics.binary_metrics import BinaryMetrics
from ptmetrics.metrics.multiclass_metrics import MulticlassMetrics
from ptmetrics.metrics.multilabel_metrics import MultilabelMetrics
from ptmetrics.metrics.regression_metrics import RegressionMetrics
from ptmetrics.metrics.task import TaskMetrics

TOLERANCE = 1e-4  # peers sum in float32
BASIC = ("confusion", "accuracy", "precision/macro", "recall/macro", "f1/macro")
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Row:
    """One line of the result.

    Attributes:
        section: What was measured.
        side: Who.
        microseconds: Median of one update, with its quartiles.
        ratio: Time over that of the section's first side in the same round, with quartiles.
        operations: Torch operations that launch a kernel, mean of 64 updates.
        compared: Names of the scores that were compared with ours before timing.
        differs: Name to (ours, theirs) where they are not equal.
    """

    section: str
    side: str
    microseconds: Quartiles
    ratio: Quartiles
    operations: float | None
    compared: tuple[str, ...] = ()
    differs: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def updates(modules: Mapping[str, Any], *, quick: bool, rounds: int) -> Iterator[Row]:
    """All sections on updates, one after the other."""
    for rows, classes in [(64, 10)] if quick else [(64, 10), (256, 1000), (1024, 1000)]:
        yield from multiclass(modules, rows, classes, rounds, wide=True)
    yield from multiclass(modules, *((64, 10) if quick else (256, 1000)), rounds, wide=False)
    yield from others(modules, 64 if quick else 1024, rounds)


def multiclass(
    modules: Mapping[str, Any], rows: int, classes: int, rounds: int, *, wide: bool
) -> Iterator[Row]:
    """The full set, or confusion matrix, accuracy, precision, recall and F1 beside `max(1)` alone."""
    metrics = MulticlassMetrics(classes, topk=(1, 5) if wide else (1,), losses=wide)
    mine = ours("ptmetrics", metrics)
    # In the batch to be checked every class occurs on both sides: peers differ in what an absent class is worth.
    check, batch = class_batch(8 * classes, classes), class_batch(rows, classes)
    mine.update(*check)
    wanted = [name for name in mine.scores() if wide or name in BASIC]
    metrics.reset()
    entrants = [mine, *sides(modules, "multiclass", classes, wanted)]
    words = (
        f"multiclass, full set ({len(wanted)} scores)" if wide else "confusion, accuracy, P, R, F1"
    )
    plain = {} if wide else {"logits.max(1) alone": partial(torch.max, batch[0], 1)}
    yield from beside(
        f"{words}, {rows} x {classes}", entrants, check, batch, rounds=rounds, plain=plain
    )


def others(modules: Mapping[str, Any], rows: int, rounds: int) -> Iterator[Row]:
    """Binary, multilabel and regression: the same scores, and ours with its curves beside."""
    g = torch.Generator().manual_seed(1)
    binary = torch.rand(rows, generator=g), torch.randint(2, (rows,), generator=g)
    labels = torch.rand(rows, 20, generator=g), torch.randint(2, (rows, 20), generator=g)
    target = torch.randn(rows, generator=g) + 10
    numbers = target + torch.randn(rows, generator=g) / 2, target
    tasks: Sequence[tuple[Task, int, Batch, dict[str, TaskMetrics]]] = [
        ("binary", 2, binary, {"ptmetrics, counts only": BinaryMetrics(inputs="probs", curves=None, losses=False),
                               "ptmetrics, with AUROC, AP, NLL": BinaryMetrics(inputs="probs")}),
        ("multilabel", 20, labels, {"ptmetrics, counts only": MultilabelMetrics(20, inputs="probs", curves=False),
                                    "ptmetrics, with AUROC, AP": MultilabelMetrics(20, inputs="probs")}),
        ("regression", 1, numbers, {"ptmetrics, all": RegressionMetrics()}),
    ]  # fmt: skip
    for task, size, batch, metrics in tasks:
        mine = [ours(name, metric) for name, metric in metrics.items()]
        mine[0].update(*batch)
        entrants = [*mine, *sides(modules, task, size, mine[0].scores())]
        next(iter(metrics.values())).reset()
        yield from beside(f"{task}, {rows} rows", entrants, batch, batch, rounds=rounds)


def beside(
    section: str,
    entrants: Sequence[Side],
    check: Batch,
    batch: Batch,
    *,
    rounds: int,
    plain: Mapping[str, Callable[[], object]] | None = None,
) -> Iterator[Row]:
    """Compare what all sides say of `check`, then time their updates with `batch`."""
    for side in entrants:
        side.update(*check)
    reference, theirs = entrants[0].scores(), {side.name: side.scores() for side in entrants}
    calls: dict[str, Callable[[], object]] = {
        side.name: partial(side.update, *batch) for side in entrants
    }
    times = race(calls | dict(plain or {}), rounds=rounds)
    for name, t in times.items():
        shared = tuple(score for score in theirs.get(name, ()) if score in reference)
        differs = {
            s: (reference[s], theirs[name][s])
            for s in shared
            if not same(reference[s], theirs[name][s])
        }
        yield Row(section, name, t.microseconds, t.ratio, t.operations, shared, differs)


def same(mine: Any, theirs: Any) -> bool:
    """Whether two scores, or two matrices, are equal up to float32 sums."""
    a, b = (torch.as_tensor(value, dtype=torch.float64).reshape(-1) for value in (mine, theirs))
    return len(a) == len(b) and bool(
        torch.isclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True).all()
    )


def full_set() -> list[str]:
    """Names of the full multiclass set; they do not depend on the number of classes."""
    return [*MulticlassMetrics(5, topk=(1, 5)).compute(), "confusion"]


def class_batch(rows: int, classes: int) -> Batch:
    """Logits of which seven in ten are right, and targets in which each class comes up in turn."""
    g = torch.Generator().manual_seed(0)
    target = torch.arange(rows) % classes
    logits = torch.randn(rows, classes, generator=g)
    right = torch.rand(rows, generator=g) < 0.7
    logits[torch.arange(rows), target] += 2 * math.sqrt(2 * math.log(classes)) * right
    return logits, target
