"""What is remembered changes when the effect is done: a call that fails leaves nothing behind."""

import copy
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from loops import CLASSES, quiet
from torch import nn

import ptmetrics as pm
from ptmetrics.errors import DtypeError, HookError, ShapeError, StateError
from ptmetrics.monitor.faults import FaultLog
from ptmetrics.record.reader import read_run

PREDS, Y = torch.randn(8, CLASSES), torch.arange(8) % CLASSES


def count(monitor: pm.Monitor, loss: float = 0.5) -> None:
    monitor.update(PREDS, Y, loss=loss)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"loss": torch.ones(2, 2)}, ShapeError),
        ({"loss": "0.5"}, DtypeError),
        ({"target": Y[:3]}, ShapeError),
        ({"sample_weight": torch.ones(3)}, ShapeError),
    ],
    ids=str,
)
def test_a_batch_that_is_refused_is_counted_nowhere(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    with quiet() as monitor:
        count(monitor)
        before = repr(monitor.state_dict())
        with pytest.raises(error):
            monitor.update(**{"preds": PREDS, "target": Y, "loss": 0.5} | arguments)
        assert repr(monitor.state_dict()) == before
        count(monitor)
        scores = monitor.end_epoch()
    assert (scores["val/loss"].n, scores["val/accuracy"].n) == (16, 16)


class NoRoom:
    """Weights for whose copy there is no memory."""

    def __deepcopy__(self, memo: object) -> Any:
        raise MemoryError


class Model(nn.Linear):
    full = False

    def get_extra_state(self) -> Any:
        return NoRoom() if self.full else None

    def set_extra_state(self, state: Any) -> None:
        """It has none."""


def test_an_epoch_whose_weights_could_not_be_kept_is_not_the_best() -> None:
    stopping = pm.EarlyStopping("val/loss", patience=9, restore_best=True)
    model = Model(1, 1)
    with quiet(stopping, on_fault="contain") as monitor:
        monitor.attach(model)
        for epoch, loss in enumerate((0.5, 0.1, 0.4)):
            model.weight.data.fill_(epoch)
            model.full = epoch == 1
            count(monitor, loss)
            monitor.end_epoch()
        assert (stopping.best_epoch, stopping.best_value) == (2, pytest.approx(0.4))
        assert [fault.where for fault in monitor.faults.all()] == ["callback EarlyStopping"]
    assert model.weight.item() == 2


def test_an_epoch_whose_checkpoint_could_not_be_written_is_not_the_best(tmp_path: Path) -> None:
    checkpoint = pm.Checkpoint("val/loss", folder=tmp_path)
    model = nn.Linear(1, 1)
    with quiet(checkpoint, on_fault="contain") as monitor:
        monitor.attach(model)
        for epoch, loss in enumerate((0.5, 0.1, 0.4)):
            (tmp_path / "best.pt").unlink(missing_ok=True)
            (tmp_path / "last.pt").unlink(missing_ok=True)
            if epoch == 1:
                (tmp_path / "best.pt").mkdir()
            count(monitor, loss)
            monitor.end_epoch()
            if epoch == 1:
                assert checkpoint.last_path == tmp_path / "last.pt"  # it is written all the same
                (tmp_path / "best.pt").rmdir()
    assert torch.load(checkpoint.best_path, weights_only=True)["epoch"] == 2
    stored = torch.load(checkpoint.last_path, weights_only=True)["monitor"]["callbacks"][0]
    assert stored == {"value": pytest.approx(0.4), "epoch": 2, "last_epoch": 2}


def test_a_last_checkpoint_that_fails_is_not_the_last(tmp_path: Path) -> None:
    checkpoint = pm.Checkpoint(None, folder=tmp_path)
    with quiet(checkpoint, on_fault="contain") as monitor:
        monitor.attach(nn.Linear(1, 1))
        (tmp_path / "last.pt").mkdir()
        count(monitor)
        monitor.end_epoch()
        assert checkpoint.last_path is None
        assert checkpoint.state_dict() == {"last_epoch": -1}


def bug(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a bug")


def test_an_epoch_that_could_not_be_recorded_is_over_and_no_callback_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = pm.EarlyStopping("val/loss")
    with quiet(stopping, run=tmp_path / "run", on_fault="contain") as monitor:
        with monkeypatch.context() as patch:
            patch.setattr(pm.EpochScores, "to_record", bug)
            count(monitor, 0.1)
            assert monitor.end_epoch()["val/loss"] == pytest.approx(0.1)
        assert (monitor.epoch, stopping.best_epoch, monitor.history.epoch) == (1, -1, [])
        count(monitor, 0.5)
        assert monitor.end_epoch()["val/accuracy"].n == 8
        assert (monitor.epoch, stopping.best_epoch, monitor.history.epoch) == (2, 1, [1])
    run = read_run(tmp_path / "run")
    assert [epoch["epoch"] for epoch in run.epochs] == [1]
    assert [fault["where"] for fault in run.faults] == ["record"]


def test_with_on_fault_raise_an_end_of_an_epoch_that_fails_can_be_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with quiet() as monitor:
        count(monitor, 0.1)
        with monkeypatch.context() as patch:
            patch.setattr(pm.EpochScores, "to_record", bug)
            with pytest.raises(RuntimeError, match="a bug"):
                monitor.end_epoch()
        assert monitor.epoch == 0
        scores = monitor.end_epoch()
    assert (scores.epoch, scores["val/loss"].n, monitor.epoch) == (0, 8, 1)
    assert scores.time["wall_cumulative_s"] == pytest.approx(
        sum(scores.time[f"{name}_s"] for name in ("train", "val", "other"))
    )


def test_what_one_split_cannot_compute_the_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with quiet(on_fault="contain") as monitor:
        count(monitor)
        monitor.update(PREDS, Y, split="train")
        monkeypatch.setattr(monitor._recorder.splits["val"], "put", bug)
        scores = monitor.end_epoch()
        assert list(scores.splits) == ["train"]
        assert [fault.where for fault in monitor.faults.all()] == ["compute val"]


def test_counts_of_an_epoch_that_failed_do_not_join_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with quiet(on_fault="contain") as monitor:
        with monkeypatch.context() as patch:
            count(monitor)
            patch.setattr(monitor._clock, "end_epoch", bug)
            assert dict(monitor.end_epoch()) == {}
        count(monitor)
        monitor.update(PREDS, Y, split="train")
        with monkeypatch.context() as patch:  # the first split cannot be reset
            patch.setattr(monitor._recorder.splits["val"], "reset", bug)
            monitor.end_epoch()
        count(monitor)
        monitor.update(PREDS, Y, split="train")
        scores = monitor.end_epoch()
    assert scores.epoch == 2
    assert (scores["val/accuracy"].n, scores["train/accuracy"].n) == (8, 8)


class Fixed(type):
    """Classes that nobody may change."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise TypeError("no changes here")


def test_a_loop_of_which_only_some_calls_can_be_watched_is_refused_and_nothing_is_watched() -> None:
    class Loss(nn.MSELoss, metaclass=Fixed):
        pass

    model = nn.Linear(1, 1)
    with quiet() as monitor:
        with pytest.raises(HookError, match="no changes here") as caught:
            monitor.attach(model, criterion=Loss())
        assert "update()" in caught.value.cure
        assert "__call__" not in vars(nn.Linear)
        assert monitor.model is None
        monitor.attach(nn.Linear(1, 1))


@pytest.mark.fault(42)
@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("status", "epochs"), -5),
        (("status", "epochs"), 1e30),
        (("status", "epochs"), "3"),
        (("status", "other"), 1),
        (("splits", "val", "counts", "samples"), -1),
        (("splits", "val", "counts", "batches"), 1.5),
        (("splits", "val", "counts", "steps"), True),
        (("splits", "val", "metrics"), []),
    ],
    ids=str,
)
def test_numbers_that_no_run_can_have_are_refused(place: tuple[str, ...], value: Any) -> None:
    with quiet() as monitor:
        count(monitor)
        state = copy.deepcopy(monitor.state_dict())
        count(monitor)
        before = repr(monitor.state_dict())
        inner = state
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        with pytest.raises(StateError):
            monitor.load_state_dict(state)
        assert repr(monitor.state_dict()) == before


@pytest.mark.fault(48)
def test_updates_from_threads_are_counted_once_each() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with quiet() as monitor:

            def many() -> None:
                for _ in range(50):
                    count(monitor)

            threads = [threading.Thread(target=many) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            scores = monitor.end_epoch()
    finally:
        sys.setswitchinterval(interval)
    assert (scores["val/accuracy"].n, scores["val/loss"].n) == (1200, 1200)
    assert scores.counts["val_steps"] == 150


def test_behind_a_callback_our_own_code_is_not_to_be_interrupted() -> None:
    log = FaultLog("contain", lambda fault: None)
    with log.lock:
        log.busy = True
        with log.released():
            assert not log.busy
        assert log.busy


@pytest.mark.fault(48)
def test_a_callback_may_wait_for_a_thread_that_calls_the_monitor() -> None:
    class Helped(pm.Callback):
        def on_epoch_end(self, monitor: pm.Monitor, scores: pm.EpochScores) -> None:
            thread = threading.Thread(target=lambda: monitor.update(PREDS, Y, split="test"))
            thread.start()
            thread.join(timeout=30)
            assert not thread.is_alive()

    with quiet(Helped()) as monitor:
        count(monitor)
        monitor.end_epoch()
        assert monitor.end_epoch()["test/accuracy"].n == 8


class Interrupted(pm.MulticlassMetrics):
    """Gets a signal in the middle of an update."""

    armed = True

    def update(self, *args: Any, **options: Any) -> None:
        if type(self).armed:
            type(self).armed = False
            os.kill(os.getpid(), signal.SIGUSR1)
        super().update(*args, **options)


@pytest.mark.fault(48)
@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="sends a signal to itself")
@pytest.mark.parametrize("leaves", [False, True])
def test_what_a_signal_handler_calls_in_the_middle_of_a_batch_is_done_behind_it(
    leaves: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Interrupted, "armed", False)
    monitor = quiet(metrics=Interrupted(CLASSES), run=tmp_path / "run")
    count(monitor)
    told: list[Any] = []

    def handler(*_: Any) -> None:
        told.append(monitor.end_epoch())
        with pytest.raises(HookError, match="a call from the loop, got one from a signal handler"):
            monitor.state_dict()
        if leaves:
            monitor.close("interrupted")
            raise SystemExit(3)

    before = signal.signal(signal.SIGUSR1, handler)
    monkeypatch.setattr(Interrupted, "armed", True)
    try:
        if leaves:
            with pytest.raises(SystemExit):
                count(monitor)
        else:
            count(monitor)
            assert monitor.epoch == 1
            count(monitor)
            monitor.end_epoch()
            monitor.close()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert dict(told[0]) == {}
    run = read_run(tmp_path / "run")
    samples = [epoch["counts"]["val_samples"] for epoch in run.epochs]
    assert samples == ([8] if leaves else [16, 8])
    assert run.end is not None
    assert run.end["reason"] == ("interrupted" if leaves else "completed")
