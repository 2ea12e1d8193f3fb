"""One boundary around every way in: whatever fails behind it, the training is that without us."""

import gc
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
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


class Injection:
    """Raises at the n-th call of a function of the package that another one of the package calls.

    What the loop itself calls is the border; whatever runs below it may fail.

    Args:
        number: Number of the call; 0 for none.
        error: What is raised.

    Attributes:
        calls: How many there were.
        names: Of each call, the file and the function.
    """

    def __init__(self, number: int, error: BaseException) -> None:
        self._number = number
        self._error = error
        self._depth = 0
        self.calls = 0
        self.names: list[str] = []

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event not in ("call", "return") or not code.co_filename.startswith(HOME):
            return
        if event == "return":
            self._depth -= 1
            return
        self._depth += 1
        if self._depth == 1:
            return
        self.calls += 1
        if self._number == 0:
            self.names.append(f"{code.co_filename.removeprefix(HOME)}: {code.co_name}")
        elif self.calls == self._number:
            raise self._error  # Python takes the profiler off then: nothing fails any more

    def __enter__(self) -> "Injection":
        sys.setprofile(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


class Tiny:
    """Two epochs of two training batches and one for validation, in each way in."""

    def __init__(self) -> None:
        seed_all()
        self.model, self.criterion = nn.Linear(2, 1), nn.MSELoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05)
        self.train = [(torch.randn(4, 2), torch.randn(4, 1)) for _ in range(2)]
        self.val = [(torch.randn(4, 2), torch.randn(4, 1))]
        self.traces: list[str] = []

    def loop(
        self, epochs: Any, train: Any, val: Any, update: Any = None, end_epoch: Any = None
    ) -> None:
        for _ in epochs:
            self.model.train()
            for x, y in train:
                self.optimizer.zero_grad()
                self.one(x, y, "train", update).backward()
                self.optimizer.step()
            self.model.eval()
            with torch.no_grad():
                for x, y in val:
                    self.one(x, y, "val", update)
            if end_epoch is not None:
                end_epoch()

    def one(self, x: Tensor, y: Tensor, split: str, update: Any) -> Tensor:
        output = self.model(x)
        loss: Tensor = self.criterion(output, y)
        if update is not None:
            update(output.detach(), y, loss=loss.detach(), split=split)
        self.traces.append(repr(loss.item()))
        return loss

    def left(self) -> list[str]:
        """All that the training left behind, exactly."""
        return [*self.traces, str(self.model.state_dict()), str(torch.get_rng_state().tolist())]

    def monitored(self, way: str, run: Path, injection: Injection) -> BaseException | None:
        """Train and fail at one place; what got out."""
        callbacks = [pm.EarlyStopping("val/loss", patience=9)]
        monitor = quiet(*callbacks, metrics=pm.RegressionMetrics(), run=run, on_fault="contain")
        criterion = self.criterion
        if way == "update":
            criterion = None
        monitor.attach(self.model, criterion=criterion, optimizer=self.optimizer)
        got_out = None
        with injection:
            try:
                if way == "loaders":
                    self.loop(
                        monitor.epochs(2), monitor.train(self.train), monitor.validate(self.val)
                    )
                elif way == "update":
                    self.loop(range(2), self.train, self.val, monitor.update, monitor.end_epoch)
                else:
                    self.loop(range(2), self.train, self.val, None, monitor.end_epoch)
            except BaseException as error:
                got_out = error
        assert not monitor.faults.busy
        assert monitor.faults.lock.acquire(blocking=False)
        monitor.faults.lock.release()
        if way != "loaders":
            monitor.update(torch.zeros(3), torch.ones(3))
            monitor.end_epoch()
        monitor.close()
        return got_out


WAYS_IN = ("hooks", "loaders", "update")
# Made for each run: an error that is raised again holds the frames of all runs that it was raised in.
ERRORS: dict[str, Callable[[], Exception]] = {
    "error": lambda: ValueError("a bug"),
    "memory": lambda: MemoryError("none left"),
}
INTERRUPTS: dict[str, Callable[[], BaseException]] = {
    "ctrl-c": KeyboardInterrupt,
    "exit": lambda: SystemExit(3),
}
FIRST = 300


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """One thread of torch, and nothing said: a run takes a twentieth of a second."""
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr("ptmetrics.record.run_folder.environment", dict)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def places(way: str, folder: Path) -> list[str]:
    """The calls of a run in which nothing fails."""
    injection = Injection(0, MemoryError())
    assert Tiny().monitored(way, folder / "whole", injection) is None
    assert len(injection.names) > FIRST
    return injection.names


@contextmanager
def nothing_is_collected() -> Iterator[None]:
    """What is raised as the monitor of an earlier run is collected gets out of nothing."""
    gc.collect()
    gc.freeze()  # so that the next time only what is new is looked at
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def check_errors(
    way: str, error: Callable[[], Exception], folder: Path, numbers: Iterable[int]
) -> None:
    names = places(way, folder)
    alone = Tiny()
    alone.loop(range(2), alone.train, alone.val)
    for number in numbers:
        tiny = Tiny()
        with nothing_is_collected():
            got_out = tiny.monitored(way, folder / str(number), Injection(number, error()))
        where = f"call {number}, {names[number - 1]}"
        assert got_out is None, f"what was raised at {where} got out"
        assert tiny.left() == alone.left(), where
        read = read_run(folder / str(number))
        assert not read.problems, where
        assert read.epochs, where


def check_interrupts(
    way: str, interrupt: Callable[[], BaseException], folder: Path, numbers: Iterable[int]
) -> None:
    names = places(way, folder)
    for number in numbers:
        error = interrupt()
        with nothing_is_collected():
            got_out = Tiny().monitored(way, folder / str(number), Injection(number, error))
        where = f"call {number}, {names[number - 1]}"
        assert got_out is error, f"the interrupt at {where} was swallowed"
        read = read_run(folder / str(number))
        assert not read.problems, where


@pytest.mark.slow
@pytest.mark.fault(33)
@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("way", WAYS_IN)
@pytest.mark.parametrize("error", ERRORS)
def test_an_error_at_any_place_leaves_the_training_bitwise_unchanged(
    way: str, error: str, tmp_path: Path
) -> None:
    numbers = [*range(1, 24), *range(24, 1500, 97)]
    check_errors(way, ERRORS[error], tmp_path, numbers)


@pytest.mark.slow
@pytest.mark.fault(33)
@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("way", WAYS_IN)
@pytest.mark.parametrize("error", ["memory"])  # the other goes the same way: see above
def test_an_error_at_each_of_the_first_places_leaves_the_training_unchanged(
    way: str, error: str, tmp_path: Path
) -> None:
    check_errors(way, ERRORS[error], tmp_path, range(1, FIRST + 1))


@pytest.mark.fault(48)
@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("way", WAYS_IN)
@pytest.mark.parametrize("error", INTERRUPTS)
@pytest.mark.slow
def test_an_interrupt_at_any_place_passes_and_leaves_a_record_that_can_be_read(
    way: str, error: str, tmp_path: Path
) -> None:
    check_interrupts(way, INTERRUPTS[error], tmp_path, [*range(1, 24), *range(24, 1500, 97)])


@pytest.mark.slow
@pytest.mark.fault(48)
@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("way", WAYS_IN)
def test_an_interrupt_at_each_of_the_first_places_passes(way: str, tmp_path: Path) -> None:
    check_interrupts(way, INTERRUPTS["ctrl-c"], tmp_path, range(1, FIRST + 1))


def test_what_went_wrong_at_the_boundary_itself_is_told_at_the_end() -> None:
    with quiet(on_fault="contain") as monitor:
        attachment = monitor.attach(Net().eval())

        def gone(*_: Any) -> None:
            raise MemoryError("none left")

        attachment.listeners[0].end = gone
        model = attachment.model
        assert model(X).shape == (4, CLASSES)
    assert [(fault.where, fault.count) for fault in monitor.faults.all()] == [("boundary", 1)]


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
