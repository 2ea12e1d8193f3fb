"""Slices and groups on their way through a loop, into the record, and to the verdict."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ptmetrics as pm
from ptmetrics.record.reader import read_run

ROWS, NAMES = 300, ("north", "south", "unused")


class Same(nn.Module):
    """The input is the prediction."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 1.0


def drawn() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores that are nearly always right in slice 0 and seldom in slice 1."""
    g = torch.Generator().manual_seed(3)
    target, slices = (torch.randint(0, most, (ROWS,), generator=g) for most in (3, 2))
    right = torch.rand(ROWS, generator=g) < torch.tensor([0.95, 0.3])[slices]
    label = torch.where(right, target, (target + 1) % 3)
    return nn.functional.one_hot(label, 3).float(), target, slices, torch.arange(ROWS) // 10


def metrics() -> pm.MulticlassMetrics:
    return pm.MulticlassMetrics(3, slices=NAMES, groups=True, losses=False)


def by_loaders(run: Path | None = None) -> pm.EpochScores:
    loader = DataLoader(TensorDataset(*drawn()), 50)
    monitor, model = pm.Monitor(metrics(), run, progress=False, on_fault="raise"), Same()
    where: dict[str, Any] = {"slices": lambda batch: batch[2], "group": lambda batch: batch[3]}
    with monitor.attach(model, **where):
        for x, *_ in monitor.validate(loader):
            model.eval()(x)
        scores = monitor.end_epoch()
    monitor.close()
    return scores


def by_updates() -> pm.EpochScores:
    monitor = pm.Monitor(metrics(), progress=False, on_fault="raise")
    for x, y, slices, group in DataLoader(TensorDataset(*drawn()), 50):
        monitor.update(x, y, slices=slices, group=group)
    return monitor.end_epoch()


def test_two_ways_in_give_the_scores_of_a_metric_that_was_fed_by_hand() -> None:
    alone = metrics()
    preds, target, slices, group = drawn()
    alone.update(preds, target, slices=slices, group=group)
    expected = repr(alone.compute().to_dict())
    for scores in (by_loaders(), by_updates()):
        assert repr(scores.splits["val"].to_dict()) == expected
    assert "jackknife-groups" in expected


def test_hooks_alone_know_no_ids_and_say_so() -> None:
    monitor, model, criterion = pm.Monitor(metrics(), progress=False), Same(), nn.CrossEntropyLoss()
    preds, target, *_ = drawn()
    with monitor.attach(model, criterion=criterion):
        criterion(model.eval()(preds), target)
        scores = monitor.end_epoch().splits["val"]
    assert scores["accuracy"].method == "wilson"
    assert [s["accuracy"].n for s in scores.per_slice.values()] == [0, 0, 0]
    assert scores.notes == (
        f"Rows without a group: {ROWS}. All intervals take rows for independent.",
    )


def test_a_loader_without_ids_may_be_watched_beside_one_that_has_them() -> None:
    monitor, model = pm.Monitor(metrics(), progress=False, on_fault="raise"), Same()
    preds, target, *_ = drawn()
    with monitor.attach(model, slices=lambda batch: batch[2] if len(batch) > 2 else None):
        for x, _ in monitor.train([(preds, target)]):
            model(x)
        scores = monitor.end_epoch()
    assert scores["train/accuracy"].n == ROWS


def test_the_record_carries_slices_and_the_verdict_finds_the_weak_one(tmp_path: Path) -> None:
    by_loaders(tmp_path / "run")
    (epoch,) = read_run(tmp_path / "run").epochs
    slices = epoch["per_slice"]["val"]
    assert (slices["by"], slices["filled"]) == ("accuracy", 2)
    assert slices["names"] == ["south", "north", "unused"]
    assert slices["scores"]["accuracy"]["value"][0] < 0.5 < slices["scores"]["accuracy"]["value"][1]
    verdict = pm.judge(tmp_path / "run")
    assert [f.evidence["slice"] for f in verdict.findings if f.code == "weak-slice"] == ["south"]


def test_the_record_holds_the_worst_of_many_slices_and_how_many_there_were() -> None:
    many = pm.MulticlassMetrics(3, slices=500, losses=False)
    monitor = pm.Monitor(many, progress=False, on_fault="raise")
    preds, target, *_ = drawn()
    monitor.update(preds, target, slices=torch.arange(ROWS))
    record = monitor.end_epoch().to_record()["per_slice"]["val"]
    assert (len(record["names"]), record["filled"]) == (128, ROWS)
    assert {len(column["value"]) for column in record["scores"].values()} == {128}
    assert record["scores"]["accuracy"]["value"][0] == 0.0


def test_a_run_without_parts_has_no_slices_in_its_record() -> None:
    monitor = pm.Monitor(pm.MulticlassMetrics(3), progress=False)
    monitor.update(*drawn()[:2])
    assert "per_slice" not in monitor.end_epoch().to_record()


def test_what_is_to_be_known_of_intervals_reaches_the_record_and_the_verdict(
    tmp_path: Path,
) -> None:
    preds, target, *_ = drawn()
    with pm.Monitor(metrics(), tmp_path / "run", progress=False) as monitor:
        monitor.update(preds, target)
        scores = monitor.end_epoch().splits["val"]
    (note,) = scores.notes
    assert read_run(tmp_path / "run").epochs[0]["notes"] == {"val": [note]}
    assert note in pm.judge(tmp_path / "run").notes
    assert note in pm.judge(scores).notes
