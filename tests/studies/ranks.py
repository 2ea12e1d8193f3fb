"""What a sync over ranks costs, beside torchmetrics: collectives and time; for docs/ranks.md.

    python -m tests.studies.ranks

Processes of this machine, gloo; `make bench` needs nothing of it.
"""

import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist

import ptmetrics as pm
from ptmetrics import distributed
from ptmetrics.metrics.base import Metrics, sync_together
from tests.distributed.gloo_ranks import run_ranks

CLASSES = 10
ROWS = 1000
ROUNDS = 15


def batch(rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and classes of one rank."""
    generator = torch.Generator().manual_seed(rank)
    target = torch.randint(0, CLASSES, (ROWS,), generator=generator)
    return torch.randn(ROWS, CLASSES, generator=generator), target


def counted(call: Callable[[], Any]) -> int:
    """How many collectives a call makes."""
    numbers = [0]
    names = ("all_gather", "all_reduce", "barrier", "broadcast", "gather", "all_gather_object")
    kept: dict[str, Any] = {name: getattr(dist, name) for name in names}

    def counting(name: str) -> Callable[..., Any]:
        def call_it(*args: Any, **options: Any) -> Any:
            numbers[0] += 1
            return kept[name](*args, **options)

        return call_it

    for name in names:
        setattr(dist, name, counting(name))
    call()
    for name, function in kept.items():
        setattr(dist, name, function)
    return numbers[0]


def timed(call: Callable[[], Any], again: Callable[[], Any]) -> float:
    """Milliseconds of the median call, behind a barrier."""
    times = []
    for _ in range(ROUNDS):
        again()
        dist.barrier()
        begun = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - begun))
    return median(times)


def ours_and_theirs(rank: int) -> dict[str, float]:
    """Seven scores, synced and computed."""
    import torchmetrics
    from torchmetrics import classification

    preds, target = batch(rank)
    ours = [pm.MulticlassMetrics(CLASSES)]
    ours[0].update(preds, target)
    several: list[Metrics] = [pm.MulticlassMetrics(CLASSES) for _ in range(7)]
    for metric in several:
        metric.update(preds, target)
    theirs = torchmetrics.MetricCollection(
        {
            "accuracy": classification.MulticlassAccuracy(CLASSES, average="micro"),
            "precision": classification.MulticlassPrecision(CLASSES),
            "recall": classification.MulticlassRecall(CLASSES),
            "f1": classification.MulticlassF1Score(CLASSES),
            "matthews": classification.MulticlassMatthewsCorrCoef(CLASSES),
            "kappa": classification.MulticlassCohenKappa(CLASSES),
            "matrix": classification.MulticlassConfusionMatrix(CLASSES),
        },
        compute_groups=False,
    )

    def update() -> None:
        theirs.reset()
        theirs.update(preds, target)

    update()
    return {
        "collectives of one": counted(lambda: ours[0].sync()),
        "collectives of seven": counted(lambda: sync_together(several)),
        "collectives of theirs": counted(theirs.compute),
        "ms of one": timed(lambda: ours[0].sync().compute(), lambda: None),
        "ms of theirs": timed(theirs.compute, update),
    }


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket() as some:
        some.bind(("localhost", 0))
        port: int = some.getsockname()[1]
        return port


def merged_here(metric: Metrics, ranks: int) -> float:
    """Milliseconds in which a rank merges what is in an order of so many ranks."""
    parts = distributed._parts_of(metric._accumulator)
    packed = distributed.pack(parts, 0, ranks)
    begun = time.perf_counter()
    distributed.unpack(packed, parts, ranks)
    return 1000 * (time.perf_counter() - begun)


def main() -> None:
    """Print the tables."""
    names = "ptmetrics", "seven of ptmetrics", "torchmetrics", "ptmetrics, ms", "torchmetrics, ms"
    print(f"| ranks | {' | '.join(names)} |")
    print("|---" * 6 + "|")
    for ranks in (1, 2, 4):
        with tempfile.TemporaryDirectory() as folder:
            store = f"tcp://localhost:{free_port()}"
            found = run_ranks(ours_and_theirs, ranks, Path(folder), deadline_s=300, store=store)[0]
        each = [f"{value:.3g}" for value in found.values()]
        print(f"| {ranks} | {' | '.join(each)} |")
    for metric in (pm.MulticlassMetrics(10), pm.RegressionMetrics()):
        print(type(metric).__name__, f"{merged_here(metric, 1024):.0f} ms to unpack 1,024 ranks")


if __name__ == "__main__":
    main()
