"""Metrics of torchmetrics in a monitor of several ranks: they gather by themselves, with ours beside."""

from pathlib import Path
from typing import Any

import pytest
import torch
from gloo_ranks import run_ranks

import ptmetrics as pm

pytest.importorskip("torchmetrics")


def beside(rank: int) -> dict[str, Any]:
    from torchmetrics.classification import MulticlassAccuracy

    theirs = pm.from_torchmetrics(MulticlassAccuracy(2, average="micro"))
    monitor = pm.Monitor(
        [pm.MulticlassMetrics(2), theirs], progress=False, hygiene=False, sync_timeout_s=20
    )
    for rows in (4, 6):
        target = torch.zeros(rows + rank, dtype=torch.int64)
        monitor.update(torch.eye(2)[[rank]].expand(rows + rank, 2), target, split="val")
        if rank:
            monitor.update(torch.eye(2), torch.tensor([0, 1]), split="extra")
    scores = monitor.end_epoch()
    names = ("val/accuracy", "val/MulticlassAccuracy", "extra/MulticlassAccuracy")
    found = {name: (scores[name].value, scores[name].n) for name in names}
    return {"found": found, "faults": [repr(fault) for fault in monitor.faults.all()]}


@pytest.mark.slow
def test_metrics_of_torchmetrics_are_of_all_ranks(tmp_path: Path) -> None:
    first, second = run_ranks(beside, 2, tmp_path)
    assert first == second
    assert first["faults"] == []
    right = pytest.approx(10 / 22)
    assert first["found"]["val/accuracy"] == (right, 22)
    assert first["found"]["val/MulticlassAccuracy"] == (right, 22)
    assert first["found"]["extra/MulticlassAccuracy"] == (1.0, 4)
