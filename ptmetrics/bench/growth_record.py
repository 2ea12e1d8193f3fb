"""How the record grows with classes and epochs, and what merging ranks would move."""

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import ptmetrics as pm
from ptmetrics.bench.timing import host_clock
from ptmetrics.bench.updates import class_batch
from ptmetrics.metrics.task import TaskMetrics
from ptmetrics.record.reader import read_run
from ptmetrics.record.run_folder import journal_path
from ptmetrics.show.run import run_text
from ptmetrics.verdict.finding import Verdict
from ptmetrics.verdict.judge import judge

RANKS = (1, 2, 8, 64, 1024)
PARTS = 4


def journal(sizes: Sequence[int]) -> dict[float, float]:
    """Bytes that one epoch adds to the journal, by number of classes."""
    found: dict[float, float] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            run = recorded(Path(folder) / "run", 1, size)
            found[size] = max(map(len, journal_path(run, 0).read_bytes().splitlines(keepends=True)))
    return found


def epochs(counts: Sequence[int]) -> dict[str, dict[float, float]]:
    """Seconds to read and judge a record, and to show it as well, by number of epochs."""
    check: dict[float, float] = {}
    report: dict[float, float] = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            run = recorded(Path(folder) / "run", count, 10)
            check[count] = min(host_clock(partial(judged, run), 1) for _ in range(3))
            report[count] = min(host_clock(partial(shown, run), 1) for _ in range(3))
    return {"check": check, "report": report}


def judged(run: Path) -> Verdict:
    """What `ptmetrics check` works out."""
    return judge(read_run(run))


def shown(run: Path) -> str:
    """The text of `ptmetrics report`."""
    found = read_run(run)
    return run_text(found, judge(found))


def recorded(path: Path, count: int, classes: int) -> Path:
    """A run whose epochs are all like its first, which was counted from a batch."""
    batch = class_batch(2 * max(classes, 100), classes)
    with pm.Monitor(pm.MulticlassMetrics(classes), run=path, progress=False) as monitor:
        for split in ("train", "val"):
            monitor.update(*batch, loss=1.0, split=split)
        line = monitor.end_epoch().to_record()
        for epoch in range(1, count):
            monitor.record("epoch", {**line, "epoch": epoch})
    return path


def packed_ranks() -> dict[str, dict[float, float]]:
    """Bytes that each rank sends to merge so many ranks, worked out from states of which this was checked.

    Raises:
        ArithmeticError: If packed parts, merged, are not the whole.
    """
    g = torch.Generator().manual_seed(0)
    scores, positive = torch.rand(400, generator=g), torch.randint(2, (400,), generator=g)
    cases: dict[str, tuple[TaskMetrics, tuple[Tensor, Tensor]]] = {
        "binary, with curves": (pm.BinaryMetrics(inputs="probs"), (scores, positive)),
        "10 classes": (pm.MulticlassMetrics(10, topk=(1, 5)), class_batch(400, 10)),
        "1,000 classes": (pm.MulticlassMetrics(1000, topk=(1, 5)), class_batch(400, 1000)),
    }
    lines = {}
    for name, (metrics, batch) in cases.items():
        size = merged_bytes(metrics, batch) / PARTS
        lines[name] = {float(n): 2 * (n - 1) / n * size for n in RANKS}
    lines["torchmetrics, exact AUROC of 1 million scores a rank"] = {
        float(n): (n - 1) * 12e6 for n in RANKS
    }
    return lines


def merged_bytes(metrics: TaskMetrics, batch: tuple[Tensor, Tensor]) -> int:
    """Split a batch among ranks, pack each state into bytes, merge what arrives; the bytes that were moved.

    Raises:
        ArithmeticError: If the result is not the state of the whole batch, or a state has other bytes than it says.
    """
    whole, got, moved = metrics.fresh(), metrics.fresh(), 0
    whole.update(*batch)
    for preds, target in zip(batch[0].chunk(PARTS), batch[1].chunk(PARTS), strict=True):
        part, arrived = metrics.fresh(), metrics.fresh()
        part.update(preds, target)
        state = part.state_dict()
        packet = packed(state["cells"])
        arrived.load_state_dict(state | {"cells": unpacked(packet, state["cells"])})
        got.merge_state([arrived])
        moved += len(packet)
    if moved != PARTS * metrics.state_bytes or not _same(got, whole):
        raise ArithmeticError(
            f"{metrics.task}: {PARTS} parts of {metrics.state_bytes} bytes moved {moved} bytes"
        )
    return moved


def packed(cells: Mapping[str, Tensor]) -> Tensor:
    """All cells in one buffer of bytes."""
    return torch.cat([cell.contiguous().reshape(-1).view(torch.uint8) for cell in cells.values()])


def unpacked(packet: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The cells again, by the shapes that each rank knows from its configuration."""
    parts = torch.split(packet, [cell.numel() * cell.element_size() for cell in like.values()])
    return {
        name: part.clone().view(cell.dtype).reshape(cell.shape)
        for (name, cell), part in zip(like.items(), parts, strict=True)
    }


def _same(some: TaskMetrics, others: TaskMetrics) -> bool:
    """Counts alike, and sums but for the order in which they were added."""
    a, b = some.state_dict()["cells"], others.state_dict()["cells"]
    return all(
        torch.allclose(a[name].double(), b[name].double(), rtol=1e-9, atol=1e-9)
        for name in b
        if "first" not in name
    )
