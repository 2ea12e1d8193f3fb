"""A run that was killed and resumed is the run that was not; what does not fit is refused."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from loops import CLASSES, Keep, quiet
from torch import Tensor, nn

import ptmetrics as pm
from ptmetrics.errors import FaultError, StateError
from ptmetrics.record.reader import read_run

EPOCHS, STEPS = 4, 2
LOSSES = [0.5, 0.3, 0.4, 0.35, 0.2]


def callbacks(folder: Path, order: int) -> tuple[Keep, list[pm.Callback]]:
    keep = Keep()
    stopping = pm.EarlyStopping("val/loss", patience=2, restore_best=True)
    return keep, [keep, *[pm.Checkpoint("val/loss", folder=folder), stopping][::order]]


def batch(epoch: int, step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(100 * epoch + step)
    return torch.randn(8, CLASSES, generator=generator), torch.randint(
        CLASSES, (8,), generator=generator
    )


def train(
    monitor: pm.Monitor, model: nn.Linear, *, from_step: int = 0, die: tuple[int, int] | None = None
) -> dict[str, Any] | None:
    """Train until the run stops, or dies before a step and leaves the state that it had."""
    while monitor.epoch < len(LOSSES) and not monitor.should_stop:
        model.weight.data.fill_(monitor.epoch)
        for step in range(from_step, STEPS):
            if (monitor.epoch, step) == die:
                return copy.deepcopy(monitor.state_dict())
            preds, target = batch(monitor.epoch, step)
            monitor.update(preds, target, loss=1.0, split="train")
            monitor.update(preds, target, loss=LOSSES[monitor.epoch], split="val")
        from_step = 0
        monitor.end_epoch()
    return None


def whole(folder: Path, order: int) -> tuple[list[dict[str, str]], float, str | None, list[int]]:
    keep, used = callbacks(folder, order)
    model = nn.Linear(1, 1)
    with quiet(*used) as monitor:
        monitor.attach(model)
        train(monitor, model)
    return keep.epochs, model.weight.item(), monitor.stopping_reason, monitor.history.epoch


@pytest.mark.fault(41)
@pytest.mark.parametrize("order", [1, -1])
def test_a_run_killed_before_any_step_and_resumed_equals_the_uninterrupted(
    tmp_path: Path, order: int
) -> None:
    expected = whole(tmp_path / "whole", order)
    assert len(expected[0]) == EPOCHS
    deaths = [(epoch, step) for epoch in range(EPOCHS) for step in range(STEPS)]
    for die in deaths[:: 1 if order == 1 else 3]:
        run = tmp_path / "run-{}-{}".format(*die)
        keep, used = callbacks(tmp_path / "checkpoints", order)
        model = nn.Linear(1, 1)
        with quiet(*used, run=run) as first:
            first.attach(model)
            state = train(first, model, die=die)
            first.close("interrupted")
        assert state is not None
        again, used = callbacks(tmp_path / "checkpoints", order)
        with quiet(*used, run=run, resume=True) as second:
            second.attach(model)
            second.load_state_dict(state)
            train(second, model, from_step=die[1])
            checkpoint = next(callback for callback in used if isinstance(callback, pm.Checkpoint))
            assert checkpoint.best_path == tmp_path / "checkpoints" / "best.pt"
        resumed = keep.epochs + again.epochs
        assert (
            resumed,
            model.weight.item(),
            second.stopping_reason,
            second.history.epoch,
        ) == expected, die
        assert [epoch["epoch"] for epoch in read_run(run).epochs] == expected[3]


@pytest.mark.fault(41)
def test_a_run_that_had_stopped_early_stays_stopped_when_it_is_resumed(tmp_path: Path) -> None:
    _, used = callbacks(tmp_path, 1)
    model = nn.Linear(1, 1)
    with quiet(*used) as first:
        first.attach(model)
        train(first, model)
        state = first.state_dict()
    _, used = callbacks(tmp_path, 1)
    with quiet(*used) as second:
        second.load_state_dict(state)
        assert list(second.epochs(99)) == []
        assert second.stopping_reason == first.stopping_reason


@pytest.mark.fault(41)
def test_an_older_checkpoint_marks_what_it_repeats_as_superseded(tmp_path: Path) -> None:
    def epoch(monitor: pm.Monitor) -> None:
        monitor.update(*batch(monitor.epoch, 0), loss=1.0)
        monitor.end_epoch()

    with quiet(run=tmp_path / "run") as first:
        epoch(first)
        state = first.state_dict()
        epoch(first)
        epoch(first)
    with quiet(run=tmp_path / "run", resume=True) as second:
        assert second.history.epoch == [0, 1, 2]
        second.load_state_dict(state)
        assert list(range(second.epoch, 3)) == [1, 2]
        epoch(second)
        assert second.history.epoch == [0, 1]
    run = read_run(tmp_path / "run")
    assert [e["epoch"] for e in run.epochs] == [0, 1]
    assert [e["epoch"] for e in run.superseded] == [1, 2]
    assert run.attempts == 2
    live, read = second.history, pm.read_history(tmp_path / "run")
    assert {name: repr(live[name]) for name in live} == {name: repr(read[name]) for name in read}


@pytest.mark.fault(41)
def test_the_verdict_and_the_report_tell_attempts_apart(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with quiet(run=run) as first:
        state = train(first, nn.Linear(1, 1), die=(2, 0))
        first.close("interrupted")
    assert state is not None
    with quiet(run=run, resume=True) as second:
        second.load_state_dict(state)
        train(second, nn.Linear(1, 1))
    told = "The run was resumed; the record has epochs 1 to 2 by attempt 1, epochs 3 to 5 by attempt 2."
    assert told in pm.judge(run).notes
    assert told in pm.report(run, tmp_path / "report.html").read_text(encoding="utf-8")
    with quiet(run=tmp_path / "once") as alone:
        train(alone, nn.Linear(1, 1))
    assert not any("attempt" in note for note in pm.judge(tmp_path / "once").notes)


@pytest.mark.fault(40)
@pytest.mark.fault(41)
def test_epochs_that_a_kill_on_a_full_disk_cost_are_told_when_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    with quiet(run=run) as first:
        state = train(first, nn.Linear(1, 1), die=(3, 1))
        first.close("interrupted")
    assert state is not None
    journal = run / "journal-rank0.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    second_epoch = [i for i, line in enumerate(lines) if b'"kind":"epoch"' in line][1]
    journal.write_bytes(b"".join(lines[:second_epoch]))
    with quiet(run=run, resume=True) as second:
        second.load_state_dict(state)
        train(second, nn.Linear(1, 1), from_step=1)
    assert [epoch["epoch"] for epoch in read_run(run).epochs] == [0, 3, 4]
    told = "Epochs 2 to 3 are not in the record: the run was killed while it could not be written."
    assert told in caplog.text
    assert told in pm.judge(run).notes


@pytest.mark.fault(41)
def test_cumulative_counts_and_times_go_on_where_they_were() -> None:
    now = 0

    def clock() -> int:
        nonlocal now
        now += 10**9
        return now

    with quiet(clock=clock) as first:
        train(first, nn.Linear(1, 1))
        state, before = first.state_dict(), first.history[-1]
    with quiet(clock=clock) as second:
        second.load_state_dict(state)
        second.update(*batch(0, 0), split="train")
        second.end_epoch()
        after = second.history[-1]
    assert after["counts/train_samples_cumulative"] == before["counts/train_samples_cumulative"] + 8
    for name in ("train_cumulative_s", "wall_cumulative_s"):
        assert 0 < after[f"time/{name}"] - before[f"time/{name}"] < 10


def test_what_a_closed_monitor_is_asked_for_is_one_line_and_no_exception(
    caplog: pytest.LogCaptureFixture,
) -> None:
    monitor = quiet(on_fault="contain")
    monitor.close()
    monitor.close()
    assert dict(monitor.end_epoch()) == {}
    monitor.update(*batch(0, 0))
    monitor.saved("weights.pt", best=True)
    monitor.record("note", {"code": "mine", "message": "late"})
    assert list(monitor.epochs(2)) == [0, 1]
    assert list(monitor.train([1, 2])) == [1, 2]
    assert list(monitor.validate([3])) == [3]
    assert len(caplog.records) == 1
    assert "expected an open monitor, got one that was closed" in caplog.text
    assert 'if_exists="resume"' in caplog.text
    with pytest.raises(FaultError):  # it would watch nothing
        monitor.attach(nn.Linear(1, 1))


@pytest.mark.parametrize("at", [0, 1, 3])
def test_close_in_the_middle_of_a_loop_keeps_what_was_counted_and_the_loop_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, at: int
) -> None:
    model, criterion = nn.Linear(2, CLASSES), nn.CrossEntropyLoss()
    loader = [(torch.ones(4, 2), torch.zeros(4).long())] * 4
    monitor = quiet(run=tmp_path / "run", on_fault="contain")
    monitor.attach(model, criterion=criterion)
    steps = 0
    for epoch in range(3):
        for step, (x, y) in enumerate(monitor.train(loader)):
            criterion(model.train()(x), y).backward()
            if (epoch, step) == (1, at):
                monitor.close()
            steps += 1
        monitor.end_epoch()
    assert steps == 12
    assert pm.read_history(tmp_path / "run")["counts/train_samples"] == [16, 4 * (at + 1)]
    assert len(caplog.records) == 2  # the half epoch, and that the monitor is closed
    assert "end_epoch()" in caplog.text


def foreign(state: dict[str, Any]) -> Any:
    return {"model": {}}


def no_mapping(state: dict[str, Any]) -> Any:
    return [state]


def other_metric(state: dict[str, Any]) -> Any:
    with quiet(pm.EarlyStopping("val/loss"), metrics=pm.MulticlassMetrics(CLASSES + 1)) as monitor:
        monitor.update(torch.randn(4, CLASSES + 1), torch.zeros(4).long())
        return monitor.state_dict()


def fewer_callbacks(state: dict[str, Any]) -> Any:
    return state | {"callbacks": []}


def negative(state: dict[str, Any]) -> Any:
    state["splits"]["val"]["metrics"][0]["cells"]["confusion"][0] = -3
    return state


def lacking(state: dict[str, Any]) -> Any:
    del state["splits"]["val"]["loss"]
    return state


def odd_callback(state: dict[str, Any]) -> Any:
    return state | {"callbacks": [{"nothing": 1}]}


def odd_totals(state: dict[str, Any]) -> Any:
    return state | {"totals": {"train_s": "long"}}


@pytest.mark.fault(42)
@pytest.mark.parametrize(
    "spoil",
    [
        foreign,
        no_mapping,
        other_metric,
        fewer_callbacks,
        negative,
        lacking,
        odd_callback,
        odd_totals,
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_a_state_that_does_not_fit_is_refused_and_the_current_one_is_kept(
    spoil: Callable[[Any], Any],
) -> None:
    with quiet(pm.EarlyStopping("val/loss")) as other:
        train(other, nn.Linear(1, 1), die=(1, 1))
        state = spoil(copy.deepcopy(other.state_dict()))
    with quiet(pm.EarlyStopping("val/loss")) as monitor:
        monitor.update(*batch(0, 0), loss=0.5)
        before = repr(monitor.state_dict())
        with pytest.raises(StateError) as caught:
            monitor.load_state_dict(state)
        assert caught.value.expected
        assert caught.value.got
        assert caught.value.cure
        assert repr(monitor.state_dict()) == before


def test_the_state_is_a_copy() -> None:
    with quiet() as monitor:
        monitor.update(*batch(0, 0), loss=0.5)
        state = monitor.state_dict()
        before = repr(state)
        monitor.update(*batch(0, 1), loss=0.5)
        assert repr(state) == before
        monitor.load_state_dict(state)
        monitor.update(*batch(0, 1), loss=0.5)
        assert repr(state) == before


@pytest.mark.fault(41)
def test_a_half_done_epoch_goes_on_where_the_model_now_is() -> None:
    """Stored counts are loaded on the CPU; the batches after them may lie on another device."""
    with quiet() as first:
        first.update(*batch(0, 0), loss=0.5)
        state = first.state_dict()
    with quiet() as second:
        second.load_state_dict(state)
        preds, target = (tensor.to("meta") for tensor in batch(0, 1))
        second.update(preds, target, loss=preds.mean())
        assert not second.faults
        second._recorder.splits.clear()


@pytest.mark.parametrize("within", [True, False])
def test_a_state_that_was_taken_within_an_epoch_says_so_when_it_is_loaded(
    within: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A script that stores it at the end of its loop's body trains that epoch again."""
    state: dict[str, Any] = {}
    with quiet() as monitor:
        for epoch in monitor.epochs(2):
            for split in ("train", "val"):
                monitor.update(*batch(epoch, 0), loss=1.0, split=split)
            if within:
                state = copy.deepcopy(monitor.state_dict())
        if not within:
            state = monitor.state_dict()
    with quiet() as monitor:
        monitor.load_state_dict(state)
        assert monitor.epoch == (1 if within else 2)
    told = [line for line in caplog.messages if "8 rows of train and 8 rows of val" in line]
    assert len(told) == within
    for line in told:
        assert "within epoch 2" in line
        assert "monitor.end_epoch()" in line
