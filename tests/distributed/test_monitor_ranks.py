"""A monitor on each of several ranks: one run, with the numbers of one process."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ranks import Failed, run_ranks
from test_sync import counted_collectives
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import ptmetrics as pm
from ptmetrics.record.reader import read_run

CLASSES = 3
FEATURES = 5


def samples(rows: int, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, FEATURES, generator=generator)
    return TensorDataset(x, x[:, :CLASSES].argmax(1))


def quiet(*callbacks: pm.Callback, **options: Any) -> pm.Monitor:
    options = {"progress": False, "sync_timeout_s": 20, "hygiene": False, **options}
    return pm.Monitor(pm.MulticlassMetrics(CLASSES), callbacks=callbacks, **options)


def batch(hits: int, rows: int = 10) -> tuple[Tensor, Tensor]:
    target = torch.arange(rows) % CLASSES
    answered = torch.where(torch.arange(rows) < hits, target, (target + 1) % CLASSES)
    return torch.eye(CLASSES)[answered], target


def first_rank_folder(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir() if path.is_file() and "journal" in path.name)


# A run of several ranks.


def epochs(rank: int, run: Path) -> dict[str, Any]:
    """Rank 1 has no validation data, and rank 0 another split beside; four epochs of two callbacks."""
    stopping = pm.EarlyStopping("val/accuracy", patience=2)
    checkpoint = pm.Checkpoint("val/accuracy")
    monitor = quiet(stopping, checkpoint, run=run)
    collectives = []
    model = nn.Linear(1, 1)
    with monitor.attach(model):
        for epoch in range(6):
            monitor.update(*batch(rank + epoch, 10 + rank), loss=1.0 + rank, split="train")
            if rank != 1:
                hits = [4, 6, 5, 5, 9, 9][epoch] - rank
                monitor.update(*batch(hits), loss=torch.tensor(0.5), split="val")
            if rank == 0 and epoch == 1:
                monitor.update(*batch(7), split="extra")
            with counted_collectives() as called:
                scores = monitor.end_epoch()
            collectives.append(called)
            if epoch == 0:
                first = scores
            if monitor.should_stop:
                break
    return {
        "history": [list(monitor.history[name]) for name in ("val/accuracy", "train/loss")],
        "n": [first["val/accuracy"].n, first["train/accuracy"].n],
        "counts": dict(first.counts),
        "notes": list(first.splits["val"].notes),
        "stopped": (epoch, monitor.stopping_reason),
        "best": stopping.best_epoch,
        "collectives": collectives,
        "faults": len(monitor.faults),
        "extra": [name for name in monitor.history.names() if name.startswith("extra/acc")]
        if hasattr(monitor.history, "names")
        else [],
    }


def test_all_ranks_have_the_scores_of_all_and_stop_together(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first, second, third = run_ranks(epochs, 3, tmp_path / "ranks", run)
    assert first == second | {"collectives": first["collectives"]}
    assert first["stopped"] == third["stopped"]
    assert first["faults"] == 0
    # Ranks 0 and 2 validate 10 rows each, rank 2 with two hits fewer.
    accuracies = [(2 * hits - 2) / 20 for hits in (4, 6, 5, 5)]
    assert first["history"][0] == pytest.approx(accuracies)
    assert first["history"][1] == pytest.approx([(10 * 1 + 11 * 2 + 12 * 3) / 33] * 4)
    assert first["n"] == [20, 33]
    assert first["counts"]["val_samples"] == 20
    assert first["notes"] == ["20 rows of 3 ranks were counted."]
    assert first["best"] == third["best"] == 1
    assert first["stopped"][0] == 3
    told = read_run(run)
    assert [epoch["scores"]["val/accuracy"]["value"] for epoch in told.epochs] == accuracies
    assert told.epochs[1]["scores"]["extra/accuracy"]["n"] == 10
    assert told.epochs[0]["seen"]["val"]["rows"] == 20
    assert (told.header["rank"], told.header["world_size"]) == (0, 3)
    assert not [note for note in told.notes if note["code"] == "one-rank"]
    assert first_rank_folder(run) == [f"journal-rank{rank}.jsonl" for rank in range(3)]
    assert torch.load(run / "checkpoints" / "best.pt", weights_only=True)["epoch"] == 1
