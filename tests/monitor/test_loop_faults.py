"""What goes wrong in here is contained, counted, told and bounded; the training does not notice."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from loops import CLASSES, WAYS, Net, fit, quiet
from torch import Tensor, nn

import ptmetrics as pm
from ptmetrics.errors import ConfigError, FaultError, ShapeError
from ptmetrics.monitor.faults import FaultLog
from ptmetrics.record.reader import read_run

X, Y = torch.randn(4, 6), torch.tensor([0, 1, 2, 0])


class Broken(pm.Callback):
    """Fails at every event of the loop."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_batch_end(self, monitor: pm.Monitor, split: str, batch: int) -> None:
        raise self.error

    def on_epoch_end(self, monitor: pm.Monitor, scores: pm.EpochScores) -> None:
        raise self.error


@pytest.mark.fault(33)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "error", [ValueError("mine"), torch.OutOfMemoryError("full"), RecursionError()]
)
def test_a_fault_at_every_event_leaves_the_training_bitwise_unchanged(
    way: str, error: Exception
) -> None:
    with quiet(
        Broken(error), metrics=pm.MulticlassMetrics(CLASSES + 2), on_fault="contain"
    ) as monitor:
        assert fit(way, monitor).traces() == fit(None).traces()
        assert len(monitor.faults) >= 22
        assert monitor.history.epoch == [0, 1]


@pytest.mark.fault(33)
def test_ten_thousand_faults_are_all_counted_in_a_few_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING),
        quiet(run=tmp_path / "run", on_fault="contain") as monitor,
    ):
        for _ in range(10_000):
            monitor.update(X, Y.float())
        monitor.end_epoch()
    lines = (tmp_path / "run" / "journal-rank0.jsonl").read_text().splitlines()
    assert len(lines) < 12
    assert len(caplog.records) <= 3
    assert max(fault["count"] for fault in read_run(tmp_path / "run").faults) == 10_000


@pytest.mark.fault(33)
@pytest.mark.parametrize("count", [1, 7, 10, 57])
def test_the_record_ends_with_the_exact_number_of_faults(tmp_path: Path, count: int) -> None:
    with quiet(run=tmp_path / "run", on_fault="contain") as monitor:
        monitor.update(torch.randn(4, CLASSES), Y)
        for _ in range(count):
            monitor.update(X, Y.float())
        monitor.end_epoch()
    told = [f["count"] for f in read_run(tmp_path / "run").faults if f["where"] == "update"]
    assert told == [count]


@pytest.mark.fault(33)
def test_a_message_as_large_as_a_tensor_is_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with quiet(
        Broken(ValueError("x" * 10**6)), run=tmp_path / "run", on_fault="contain"
    ) as monitor:
        fit("hooks", monitor, epochs=1)
    assert max(map(len, caplog.messages)) < 3000
    assert max(len(fault["message"]) for fault in read_run(tmp_path / "run").faults) < 3000


@pytest.mark.fault(33)
def test_an_error_that_cannot_be_printed_is_contained() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    with quiet(Broken(MuteError()), on_fault="contain") as monitor:
        fit("hooks", monitor, epochs=1)
        assert any("MuteError" in fault.message for fault in monitor.faults.all())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interrupt_passes_through_every_hook(error: BaseException) -> None:
    with pytest.raises(type(error)), quiet(Broken(error), on_fault="contain") as monitor:
        fit("hooks", monitor)


@pytest.mark.fault(33)
@pytest.mark.parametrize("way", WAYS)
def test_on_fault_raise_lets_the_error_through_as_it_is(way: str) -> None:
    with (
        pytest.raises(ShapeError, match="preds: expected floating point of shape"),
        quiet(metrics=pm.MulticlassMetrics(CLASSES + 2)) as monitor,
    ):
        fit(way, monitor)


def no_forward(monitor: pm.Monitor) -> None:
    monitor.attach(Net())
    for _ in monitor.train([(X, Y)] * 2):
        pass


def training_mode(monitor: pm.Monitor) -> None:
    model = Net().train()
    monitor.attach(model)
    for x, _ in monitor.validate([(X, Y)] * 2):
        model(x)


def training_mode_seen_by_hooks(monitor: pm.Monitor) -> None:
    model, criterion = Net().train(), nn.CrossEntropyLoss()
    monitor.attach(model, criterion=criterion)
    for _ in range(2):
        with torch.no_grad():
            criterion(model(X), Y)
        monitor.end_epoch()
    criterion(model(X), Y)  # an epoch that is as it should be
    monitor.end_epoch()


def nothing_seen(monitor: pm.Monitor) -> None:
    for _ in range(2):
        monitor.end_epoch()


def step_in_eval(monitor: pm.Monitor) -> None:
    model, criterion = Net().eval(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor.attach(model, criterion=criterion, optimizer=optimizer)
    for _ in range(2):
        criterion(model(X), Y).backward()
        optimizer.step()


def counted_twice(monitor: pm.Monitor) -> None:
    model = Net().eval()
    monitor.attach(model)
    for x, y in monitor.validate([(X, Y)] * 2):
        monitor.update(model(x), y)


def counted_twice_by_hooks(monitor: pm.Monitor) -> None:
    model, criterion = Net().eval(), nn.CrossEntropyLoss()
    monitor.attach(model, criterion=criterion)
    for _ in range(2):
        criterion(output := model(X), Y)
        monitor.update(output, Y)


def ids_without_a_loader(monitor: pm.Monitor) -> None:
    model, criterion = Net().eval(), nn.CrossEntropyLoss()
    monitor.attach(model, criterion=criterion, group=lambda batch: batch[2])
    for _ in range(2):
        criterion(model(X), Y)


TOLD = {
    "ids, hooks": (ids_without_a_loader, "criterion hook", "a monitored loader", "validate(loader)"),
    "counted twice": (counted_twice, "update", "a batch that no hook has counted", "Leave out"),
    "counted twice, hooks": (counted_twice_by_hooks, "update", "a batch that no hook", "criterion"),
    "no forward": (no_forward, "model hook", "a call of the attached model", "Attach the object"),
    "training mode": (training_mode, "validation", "a model in evaluation mode", "model.eval()"),
    "training mode, hooks": (training_mode_seen_by_hooks, "validation", "in evaluation", "eval()"),
    "nothing seen": (nothing_seen, "epoch", "predictions", "update()"),
    "step in eval": (step_in_eval, "optimizer", "in training mode", "model.train()"),
}  # fmt: skip


@pytest.mark.fault(31)
@pytest.mark.parametrize(("loop", "where", "rule", "cure"), TOLD.values(), ids=TOLD.keys())
def test_a_loop_that_is_not_what_it_seems_is_told(
    loop: Any, where: str, rule: str, cure: str, tmp_path: Path
) -> None:
    with quiet(run=tmp_path / "run", on_fault="contain") as monitor:
        loop(monitor)
    faults = [fault for fault in read_run(tmp_path / "run").faults if fault["where"] == where]
    assert faults[-1]["count"] == 2
    assert rule in faults[0]["message"]
    assert cure in faults[0]["message"]


@pytest.mark.parametrize(("loop", "where", "rule", "cure"), TOLD.values(), ids=TOLD.keys())
def test_on_fault_raise_turns_what_is_told_into_an_exception(
    loop: Any, where: str, rule: str, cure: str
) -> None:
    with pytest.raises(FaultError) as caught, quiet() as monitor:
        loop(monitor)
    assert caught.value.name == where
    assert rule in caught.value.expected
    assert cure in caught.value.cure


def test_a_step_inside_of_a_loader_that_validates_is_the_users_own() -> None:
    model, criterion = Net().eval(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with quiet() as monitor:  # it would raise
        monitor.attach(model, criterion=criterion, optimizer=optimizer)
        for x, y in monitor.validate([(X, Y)]):  # adapts to what it is tested on
            criterion(model(x), y).backward()
            optimizer.step()
        assert monitor.end_epoch().counts["val_samples"] == 4


def test_a_batch_that_was_counted_by_a_hook_is_not_counted_again() -> None:
    for loop in (counted_twice, counted_twice_by_hooks):
        with quiet(on_fault="contain") as monitor:
            loop(monitor)
            assert monitor.end_epoch().counts["val_samples"] == 8


def test_other_splits_and_other_models_can_be_handed_over_beside_the_hooks() -> None:
    model, criterion = Net().eval(), nn.CrossEntropyLoss()
    with quiet() as monitor:
        monitor.attach(model, criterion=criterion)
        criterion(model(X), Y)
        monitor.update(torch.randn(4, CLASSES), Y, split="ensemble")
        for _ in range(2):
            monitor.update(model(X), Y)  # the criterion was not called for these
        assert monitor.end_epoch().counts == {
            "val_samples": 12, "val_steps": 3, "ensemble_samples": 4, "ensemble_steps": 1,
            "train_samples_cumulative": 0, "train_steps_cumulative": 0,
        }  # fmt: skip


def test_an_error_in_the_model_is_not_also_a_missing_forward() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise OSError("mine")

    model = Fails()
    monitor = quiet(on_fault="contain")
    monitor.attach(model)
    for x, _ in monitor.train([(X, Y)]):
        with pytest.raises(OSError, match="mine"):
            model(x)
        break
    assert not monitor.faults
    monitor.close()


def test_values_that_are_refused_stand_in_the_epochs_record() -> None:
    with quiet() as monitor:
        monitor.update(torch.full((4, CLASSES), float("nan")), Y, loss=float("nan"))
        scores = monitor.end_epoch()
    faults = scores.to_record()["faults"]["val"]
    assert faults["nan-score"]["count"] == 4
    assert faults["non-finite-loss"]["count"] == 1
    assert scores["val/accuracy"].reason


@pytest.mark.parametrize("bad", [True, False])
def test_values_that_are_refused_are_told_once_with_their_number(
    bad: bool, caplog: pytest.LogCaptureFixture
) -> None:
    scores = torch.eye(CLASSES)[Y]
    if bad:
        scores[1:3] = float("nan")
    with quiet() as monitor:
        for _ in range(2):
            monitor.update(scores, Y, split="val")
            monitor.update(scores, Y, split="test")
            monitor.end_epoch()
    told = [line.partition(" × ")[0] for line in caplog.messages]
    assert told == (["val: 2", "test: 2"] if bad else [])


@pytest.mark.parametrize("split", ["", "val/x", "/"])
def test_a_split_whose_scores_could_not_be_named_is_refused_at_once(split: str) -> None:
    with quiet(on_fault="contain") as monitor:
        with pytest.raises(ConfigError) as caught:
            monitor.update(torch.randn(4, CLASSES), Y, split=split)
        assert caught.value.name == "split"
        assert '"/"' in caught.value.expected
        assert caught.value.got == repr(split)
        assert "val" in caught.value.cure


def test_a_wrong_choice_of_on_fault_and_of_metrics_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    for options, name in (
        ({"on_fault": "ignore"}, "on_fault"),
        ({"callbacks": [print]}, "callbacks"),
    ):
        with pytest.raises(ConfigError) as caught:
            pm.Monitor(pm.MulticlassMetrics(3), run=tmp_path / "run", **options)
        assert caught.value.name == name
        assert caught.value.expected
        assert caught.value.cure
    with pytest.raises(
        ConfigError, match=r"metrics: expected metrics of ptmetrics, got int\. Pass pm\."
    ):
        pm.Monitor(3, run=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_fault_log_keeps_one_entry_for_each_place_and_kind_of_error() -> None:
    told: list[int] = []
    log = FaultLog("contain", lambda fault: told.append(fault.count))
    for error in (ValueError("a"), ValueError("b"), TypeError("c")) * 40:
        log.step = 5
        with log.containing("here"):
            raise error
    assert [(fault.count, fault.step) for fault in log.all()] == [(80, 5), (40, 5)]
    assert len(log) == 120
    assert told == [1, 1, 10, 10]
