"""One update of each task beside the peers: first the same numbers, then the time."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

import ptmetrics as pm
from ptmetrics.bench.peers import Competitor, Task, our_side, peer_sides
from ptmetrics.bench.timing import Call, Quartiles, operations, race

FLOAT32_TOLERANCE = 1e-4  # peers sum in float32
BASIC = ("confusion", "accuracy", "precision/macro", "recall/macro", "f1/macro")
PredsTarget = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class UpdateRow:
    """One side of one section.

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
    operations: float
    compared: tuple[str, ...] = ()
    differs: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def update_rows(
    modules: Mapping[str, Any], sizes: Sequence[tuple[int, int]], rounds: int
) -> Iterator[UpdateRow]:
    """All sections on updates, one after the other.

    Args:
        modules: Peers that are installed.
        sizes: Rows and classes of the full multiclass set; the middle one for the basic set too,
            and the most rows for the other tasks.
        rounds: Number of times that each side is timed.
    """
    for size in sizes:
        yield from _full_multiclass(modules, *size, rounds)
    yield from _basic_multiclass(modules, *sizes[len(sizes) // 2], rounds)
    yield from _other_tasks(modules, max(rows for rows, _ in sizes), rounds)


def _full_multiclass(
    modules: Mapping[str, Any], rows: int, classes: int, rounds: int
) -> Iterator[UpdateRow]:
    mine = our_side("ptmetrics", pm.MulticlassMetrics(classes, topk=(1, 5)))
    wanted = full_set()
    section = f"multiclass, full set ({len(wanted)} scores), {rows} x {classes}"
    entrants = [mine, *peer_sides(modules, "multiclass", classes, wanted)]
    # In the batch to be checked every class occurs on both sides: peers differ in what an absent
    # class is worth.
    check = class_batch(8 * classes, classes)
    yield from side_by_side(section, entrants, check, class_batch(rows, classes), rounds=rounds)


def _basic_multiclass(
    modules: Mapping[str, Any], rows: int, classes: int, rounds: int
) -> Iterator[UpdateRow]:
    """Confusion matrix, accuracy, precision, recall and F1 beside `max(1)` alone."""
    mine = our_side("ptmetrics", pm.MulticlassMetrics(classes, topk=(1,), losses=False))
    section = f"confusion, accuracy, P, R, F1, {rows} x {classes}"
    entrants = [mine, *peer_sides(modules, "multiclass", classes, BASIC)]
    check = class_batch(8 * classes, classes)
    batch = class_batch(rows, classes)
    alone = {"logits.max(1) alone": partial(torch.max, batch[0], 1)}
    yield from side_by_side(section, entrants, check, batch, rounds=rounds, more=alone)


def _other_tasks(modules: Mapping[str, Any], rows: int, rounds: int) -> Iterator[UpdateRow]:
    for section, entrants, batch in other_tasks(modules, rows):
        yield from side_by_side(section, entrants, batch, batch, rounds=rounds)


def other_tasks(
    modules: Mapping[str, Any], rows: int, device: str = "cpu"
) -> Iterator[tuple[str, list[Competitor], PredsTarget]]:
    """Binary, multilabel and regression: title, sides with the same scores and ours with its curves, and a batch."""
    g = torch.Generator().manual_seed(1)
    binary = torch.rand(rows, generator=g), torch.randint(2, (rows,), generator=g)
    labels = torch.rand(rows, 20, generator=g), torch.randint(2, (rows, 20), generator=g)
    target = torch.randn(rows, generator=g) + 10
    numbers = target + torch.randn(rows, generator=g) / 2, target

    def section(
        task: Task, size: int, batch: PredsTarget, mine: Mapping[str, Any]
    ) -> tuple[str, list[Competitor], PredsTarget]:
        entrants = [our_side(name, metrics.to(device)) for name, metrics in mine.items()]
        first = next(iter(mine.values()))
        preds, truth = (values.to(device) for values in batch)
        first.update(preds, truth)
        entrants.extend(peer_sides(modules, task, size, entrants[0].scores(), device))
        first.reset()
        return f"{task}, {rows} rows", entrants, (preds, truth)

    mine = {
        "ptmetrics, counts only": pm.BinaryMetrics(inputs="probs", curves=None, losses=False),
        "ptmetrics, with AUROC, AP, NLL": pm.BinaryMetrics(inputs="probs"),
    }
    yield section("binary", 2, binary, mine)
    many = {
        "ptmetrics, counts only": pm.MultilabelMetrics(20, inputs="probs", curves=False),
        "ptmetrics, with AUROC, AP": pm.MultilabelMetrics(20, inputs="probs"),
    }
    yield section("multilabel", 20, labels, many)
    yield section("regression", 1, numbers, {"ptmetrics, all": pm.RegressionMetrics()})


def side_by_side(
    section: str,
    entrants: Sequence[Competitor],
    check: PredsTarget,
    batch: PredsTarget,
    *,
    rounds: int,
    more: Mapping[str, Call] | None = None,
) -> Iterator[UpdateRow]:
    """Compare what all sides say of `check`, then time their updates with `batch`.

    Args:
        section: What the rows are called.
        entrants: The sides, ours first.
        check: Batch on which all must agree.
        batch: Batch that is timed.
        rounds: Number of times that each side is timed.
        more: Other calls that are timed beside.
    """
    for side in entrants:
        side.update(*check)
    reference = entrants[0].scores()
    theirs = {side.name: side.scores() for side in entrants}
    calls: dict[str, Call] = {side.name: partial(side.update, *batch) for side in entrants}
    calls.update(more or {})
    for name, timing in race(calls, rounds=rounds).items():
        scores = theirs.get(name, {})
        yield UpdateRow(
            section,
            name,
            timing.microseconds,
            timing.ratio,
            operations(calls[name]),
            compared=tuple(score for score in scores if score in reference),
            differs=differing(reference, scores),
        )


def differing(
    reference: Mapping[str, Any], scores: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """The scores that both have and that are not equal up to float32 sums: name to both values."""
    found = {}
    for name, value in scores.items():
        if name in reference and not equal_scores(reference[name], value):
            found[name] = (reference[name], value)
    return found


def equal_scores(mine: Any, theirs: Any) -> bool:
    """Whether two scores, or two matrices, are equal up to float32 sums."""
    a = torch.as_tensor(mine, dtype=torch.float64).reshape(-1)
    b = torch.as_tensor(theirs, dtype=torch.float64).reshape(-1)
    if len(a) != len(b):
        return False
    return bool(
        torch.isclose(a, b, rtol=FLOAT32_TOLERANCE, atol=FLOAT32_TOLERANCE, equal_nan=True).all()
    )


def full_set() -> list[str]:
    """Names of the full multiclass set; they do not depend on the number of classes."""
    return [*pm.MulticlassMetrics(5, topk=(1, 5)).compute(), "confusion"]


def class_batch(rows: int, classes: int, device: str = "cpu") -> PredsTarget:
    """Logits of which seven in ten are right, and targets in which each class comes up in turn."""
    g = torch.Generator().manual_seed(0)
    target = torch.arange(rows) % classes
    logits = torch.randn(rows, classes, generator=g)
    right = torch.rand(rows, generator=g) < 0.7
    logits[torch.arange(rows), target] += 2 * math.sqrt(2 * math.log(classes)) * right
    return logits.to(device), target.to(device)
