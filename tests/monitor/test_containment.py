"""One boundary around every way in: whatever fails behind it, the training is that without us."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
import torch
from loops import CLASSES, Net, fit, quiet, seed_all
from torch import Tensor, nn

import ptmetrics as pm
from ptmetrics.errors import DtypeError, HookError
from ptmetrics.monitor import faults
from ptmetrics.record.reader import read_run

HOME = str(Path(pm.__file__).parent) + os.sep
X, Y = torch.randn(4, 6), torch.tensor([0, 1, 2, 0])


def boundary() -> CodeType:
    """The code of the boundary itself, which nothing can contain."""
    return pm.Monitor.update.__code__


@contextmanager
def failing_at(number: int, error: BaseException) -> Iterator[list[str]]:
    """Raise at the n-th call of a function of the package below the ways in; tells all files."""
    calls: list[str] = []

    def below_a_way_in(frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code.co_filename.startswith(HOME):
                return True
            frame = frame.f_back
        return False

    def fail(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(HOME) or code is boundary():
            return
        if below_a_way_in(frame.f_back):
            calls.append(code.co_filename.removeprefix(HOME))
            if len(calls) == number:
                raise error

    sys.setprofile(fail)
    try:
        yield calls
    finally:
        sys.setprofile(None)


class Tiny:
    """Two epochs of two training batches and one for validation."""

    def __init__(self) -> None:
        seed_all()
        self.model, self.criterion = nn.Linear(2, 1), nn.MSELoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05)
        self.train = [(torch.randn(4, 2), torch.randn(4, 1)) for _ in range(2)]
        self.val = [(torch.randn(4, 2), torch.randn(4, 1))]
        self.traces: list[str] = []

    def loop(self, epochs: Any, train: Any, val: Any) -> None:
        for _ in epochs:
            for x, y in train:
                self.optimizer.zero_grad()
                self.one(x, y).backward()
                self.optimizer.step()
            self.model.eval()
            with torch.no_grad():
                for x, y in val:
                    self.one(x, y)

    def one(self, x: Tensor, y: Tensor) -> Tensor:
        loss: Tensor = self.criterion(self.model(x), y)
        self.traces.append(repr(loss.item()))
        return loss

    def monitored(self, run: Path, number: int, error: BaseException) -> tuple[list[str], bool]:
        """Train and fail at one place: files of all places, whether the error was let through."""
        callbacks = [pm.EarlyStopping("val/loss"), pm.Checkpoint("val/loss")]
        monitor = quiet(*callbacks, metrics=pm.RegressionMetrics(), run=run, on_fault="contain")
        monitor.attach(self.model, criterion=self.criterion, optimizer=self.optimizer)
        let_through = False
        with failing_at(number, error) as calls:
            try:
                monitor.record("note", {"code": "mine", "message": "words"})
                self.loop(monitor.epochs(2), monitor.train(self.train), monitor.validate(self.val))
                monitor.close()
            except type(error):
                let_through = True
        monitor.close()
        return calls, let_through


def sampled(files: list[str], count: int) -> list[int]:
    """Numbers of calls: the first ones, then some of the rest; of where scores are made a few."""
    near = [i for i, file in enumerate(files, 1) if file.startswith(("monitor", "record"))]
    far = [i for i, file in enumerate(files, 1) if not file.startswith(("monitor", "record"))]
    first, rest = near[:count], near[count:]
    return first + rest[:: len(rest) // count + 1] + far[:: len(far) // 8 + 1]


@pytest.mark.fault(33)
def test_an_error_at_any_place_leaves_the_training_bitwise_unchanged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    error = MemoryError("none left")
    alone = Tiny()
    alone.loop(range(2), alone.train, alone.val)
    files, _ = Tiny().monitored(tmp_path / "whole", 0, error)
    assert len(files) > 300
    for number in sampled(files, 16):
        tiny, run = Tiny(), tmp_path / str(number)
        _, let_through = tiny.monitored(run, number, error)
        assert not let_through, f"the error at call {number}, in {files[number - 1]}, got out"
        assert tiny.traces == alone.traces, number
        assert str(tiny.model.state_dict()) == str(alone.model.state_dict()), number
        read = read_run(run)
        assert {0, 1} & {epoch["epoch"] for epoch in read.epochs}, number
        assert not read.problems, number


@pytest.mark.fault(48)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=["ctrl-c", "exit"])
def test_an_interrupt_at_any_place_passes_and_leaves_a_record_that_can_be_read(
    tmp_path: Path, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    files, _ = Tiny().monitored(tmp_path / "whole", 0, error)
    for number in sampled(files, 5):
        _, let_through = Tiny().monitored(tmp_path / str(number), number, error)
        assert let_through, f"the interrupt at call {number} was swallowed"
        run = read_run(tmp_path / str(number))
        assert [epoch["epoch"] for epoch in run.epochs] in ([], [0], [0, 1])
        assert not run.problems


class Down(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise ConnectionError("the log service is down")


@pytest.fixture
def _down() -> Iterator[None]:
    handler = Down()
    faults.LOGGER.addHandler(handler)
    yield
    faults.LOGGER.removeHandler(handler)


@pytest.mark.usefixtures("_down")
def test_a_logging_handler_that_raises_costs_neither_the_training_nor_the_note(
    tmp_path: Path,
) -> None:
    with quiet(run=tmp_path / "run", on_fault="contain") as monitor:
        monitor.update(X, Y.float())
        monitor.update(torch.randn(4, CLASSES), Y)
        assert monitor.end_epoch()["val/accuracy"].n == 4
    assert [fault["where"] for fault in read_run(tmp_path / "run").faults] == ["update"]


def test_a_fault_that_cannot_be_noted_is_contained_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left(*_: Any) -> str:
        raise MemoryError

    monkeypatch.setattr(faults, "error_text", none_left)
    with quiet(on_fault="contain") as monitor:
        monitor.update(X, Y.float())
        monitor.update(torch.randn(4, CLASSES), Y)
        assert monitor.end_epoch()["val/accuracy"].n == 4


@pytest.mark.parametrize("progress", [None, True])
def test_without_a_stderr_nothing_is_shown_and_nothing_is_wrong(
    progress: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    model = Net().eval()
    monitor = quiet(progress=progress, on_fault="contain")
    monitor.attach(model)
    for _ in monitor.epochs(2):
        for x, _y in monitor.validate([(X, Y)] * 2):
            model(x)
    assert monitor.history.epoch == [0, 1]
    assert not monitor.faults


class Pipe:
    """A stream whose reader has gone."""

    def write(self, text: str) -> None:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError

    def isatty(self) -> bool:
        return True


def test_a_broken_pipe_ends_the_bars_and_not_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Net().eval()
    monitor = quiet(progress=True, on_fault="contain")
    monitor.attach(model)
    seen = 0
    for epoch in monitor.epochs(3):
        if epoch == 1:
            monkeypatch.setattr(sys, "stderr", Pipe())
        for x, _y in monitor.validate([(X, Y)] * 2):
            model(x)
            seen += 1
    assert seen == 6
    assert monitor.history.epoch == [0, 1, 2]
    assert [(f.where, f.count) for f in monitor.faults.all()] == [("progress", 1)]


def test_what_cannot_be_wrapped_is_iterated_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = [(X, Y)] * 3
    with quiet(on_fault="contain") as monitor:
        monkeypatch.setattr(monitor._lifecycle, "begin", nothing_works)
        assert list(monitor.train(loader)) == list(monitor.validate(loader)) == loader
        assert monitor.end_epoch().epoch == 0
        assert dict(monitor.end_epoch()) == {}
    with quiet(on_fault="contain") as monitor:
        monkeypatch.setattr(monitor._clock, "lap", nothing_works)
        assert list(monitor.train(loader)) == loader


def nothing_works(*_: Any, **__: Any) -> None:
    raise RuntimeError("a bug")


@pytest.mark.parametrize("on_fault", ["contain", "raise"])
def test_a_note_that_no_record_can_hold_is_a_fault(tmp_path: Path, on_fault: Any) -> None:
    with quiet(run=tmp_path / "run", on_fault=on_fault) as monitor:
        note = {"code": "mine", "message": object()}
        if on_fault == "raise":
            with pytest.raises(DtypeError):
                monitor.record("note", note)
        else:
            monitor.record("note", note)
            monitor.record("note", {"code": "mine", "message": "words"})
    run = read_run(tmp_path / "run")
    assert [fault["where"] for fault in run.faults] == ["record"]
    assert len(run.notes) == (on_fault == "contain")


def test_what_a_callback_refuses_at_the_start_goes_to_the_user_and_its_bug_does_not() -> None:
    class Refuses(pm.Callback):
        def on_run_begin(self, monitor: pm.Monitor) -> None:
            raise HookError("mine", "a rule", "a fact", "Do something.")

    class Breaks(pm.Callback):
        def on_run_begin(self, monitor: pm.Monitor) -> None:
            raise OSError("mine")

    with quiet(Refuses(), on_fault="contain") as monitor, pytest.raises(HookError, match="a rule"):
        monitor.update(torch.randn(4, CLASSES), Y)
    with quiet(Breaks(), on_fault="contain") as monitor:
        monitor.update(torch.randn(4, CLASSES), Y)
        assert monitor.end_epoch()["val/accuracy"].n == 4
        assert [(f.where, f.count) for f in monitor.faults.all()] == [("callback Breaks", 1)]


def test_a_fault_tells_in_which_epoch_and_batch_it_was() -> None:
    with quiet(on_fault="contain") as monitor:
        fit("update", monitor, epochs=1)
        for rows in (4, 4, 3):
            monitor.update(torch.randn(4, CLASSES), Y[:rows])
    assert [(f.epoch, f.step) for f in monitor.faults.all()] == [(1, 2)]


def test_every_public_method_of_a_monitor_is_a_way_in() -> None:
    plain = {"stop", "epochs"}  # an assignment; a generator over ways in
    for name, method in vars(pm.Monitor).items():
        if isinstance(method, type(fit)) and not name.startswith("_") and name not in plain:
            assert method.__code__ is boundary(), name
