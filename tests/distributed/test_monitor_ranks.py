"""A monitor on each of several ranks: one run, with the numbers of one process."""

from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import run_ranks
from test_sync import counted_collectives
from torch import Tensor, nn
from torch.nn import functional
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


def journals_of(run: Path) -> list[str]:
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
    assert journals_of(run) == [f"journal-rank{rank}.jsonl" for rank in range(3)]
    assert torch.load(run / "checkpoints" / "best.pt", weights_only=True)["epoch"] == 1


# Padding of samplers.


def validated(
    rank: int, ranks: int, rows: int, size: int, way: str, options: dict[str, Any]
) -> dict[str, Any]:
    """One validation of a fixed model over a sampler that pads, in one of the ways in."""
    torch.manual_seed(0)
    model = nn.Linear(FEATURES, CLASSES)
    criterion: Any = nn.CrossEntropyLoss()
    if way == "functional":
        criterion = functional.cross_entropy
    elif way == "own loss":
        criterion = OwnLoss()
    data = samples(rows)
    sampler = None
    if ranks > 1:
        sampler = DistributedSampler(data, ranks, rank, shuffle=False, **options)
    monitor = quiet()
    if way != "update":
        monitor.attach(model, criterion=criterion)
    loader: Any = DataLoader(data, batch_size=size, sampler=sampler)
    if way != "hooks":
        loader = monitor.validate(loader)
    model.eval()
    with torch.no_grad():
        for x, y in loader:
            preds = model(x)
            if way == "update":
                loss = functional.cross_entropy(preds, y, reduction="none")
                monitor.update(preds, y, loss=loss, split="val")
            elif way == "functional":
                functional.cross_entropy(preds, y)
            else:
                criterion(preds, y)
    scores = monitor.end_epoch()
    result = {
        "confusion": scores.splits["val"].confusion.tolist(),
        "loss": scores["val/loss"].value,
        "notes": list(scores.splits["val"].notes),
        "faults": [repr(fault) for fault in monitor.faults.all()],
        "seen": scores.to_record()["seen"]["val"],
    }
    monitor.close()
    return result


class OwnLoss(nn.Module):
    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(preds, target)


def padded(rank: int, ways: list[str]) -> list[dict[str, Any]]:
    found = [validated(rank, 2, 5, 2, way, {}) for way in ways]
    found.append(validated(rank, 2, 9, 1, "module", {}))  # the last batch is nothing but padding
    found.append(validated(rank, 2, 5, 2, "module", {"drop_last": True}))
    return found


@pytest.mark.fault(9)
def test_the_padding_of_a_sampler_is_left_out_exactly(tmp_path: Path) -> None:
    ways = ["module", "functional", "update", "own loss", "hooks"]
    first, second = run_ranks(padded, 2, tmp_path, ways)
    whole = validated(0, 1, 5, 5, "module", {})
    line = "5 of 5 rows were counted on 2 ranks, 1 duplicate of the sampler's padding ignored."
    for found in (first, second):
        for way, each in zip(ways[:4], found, strict=False):
            assert each["faults"] == []
            assert each["confusion"] == whole["confusion"], way
            assert each["notes"] == [line]
            assert each["seen"]["padding_left_out"] == 1
            if way != "own loss":  # the mean of its last batch cannot be taken apart
                assert each["loss"] == pytest.approx(whole["loss"], rel=1e-6), way
        hooks = found[4]
        assert sum(map(sum, hooks["confusion"])) == 6
        single, dropped = found[5:]
        assert single["confusion"] == validated(0, 1, 9, 9, "module", {})["confusion"]
        assert single["loss"] == pytest.approx(
            validated(0, 1, 9, 9, "module", {})["loss"], rel=1e-6
        )
        assert dropped["notes"] == ["4 of 5 rows were counted on 2 ranks."]
