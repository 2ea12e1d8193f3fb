"""The clock on an injected host and a simulated asynchronous device: no sleep, no waiting."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loops import WAYS, Net, quiet
from torch import nn
from torch.utils.checkpoint import checkpoint

import ptmetrics as pm
from ptmetrics.monitor.clock import DeviceSpans, PhaseClock, StepTimes
from ptmetrics.record.reader import read_run

X, Y = torch.randn(4, 6), torch.tensor([0, 1, 2, 0])


class Machine:
    """A host and a device that works through its queue later."""

    def __init__(self) -> None:
        self.host_ns = 0
        self.device_ns = 0  # when the device will have done all that was queued
        self.events: list[Event] = []

    def now(self) -> int:
        return self.host_ns

    def work(self, host_ms: float, device_ms: float = 0.0) -> None:
        self.host_ns += int(host_ms * 1e6)
        self.device_ns = max(self.device_ns, self.host_ns) + int(device_ms * 1e6)

    def wait(self) -> None:
        self.host_ns = max(self.host_ns, self.device_ns)

    def event(self) -> "Event":
        self.events.append(Event(self))
        return self.events[-1]


class Event:
    """As `torch.cuda.Event`; reading one that was not seen to have passed is an error."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.at, self.passed = machine, -1, False

    def record(self) -> None:
        self.at, self.passed = max(self.machine.device_ns, self.machine.host_ns), False

    def query(self) -> bool:
        self.passed = self.at <= self.machine.host_ns
        return self.passed

    def elapsed_time(self, end_event: Any, /) -> float:
        assert end_event.passed, "an event was read before query() was True"
        return (end_event.at - self.at) / 1e6


laps = st.lists(
    st.tuples(st.sampled_from(["train", "val", "other"]), st.integers(0, 10**12)), max_size=30
)


@pytest.mark.fault(47)
@given(laps)
def test_the_laps_add_up_to_the_wall(laps: list[tuple[str, int]]) -> None:
    machine = Machine()
    clock = PhaseClock(machine.now)
    for phase, passed in laps:
        machine.host_ns += passed
        clock.lap(phase)
    assert math.fsum(clock.seconds.values()) == pytest.approx(machine.host_ns / 1e9)
    clock.start_epoch()
    assert clock.seconds == {}


@pytest.mark.fault(47)
def test_a_clock_that_goes_back_loses_that_lap_and_counts_it() -> None:
    machine = Machine()
    clock = PhaseClock(machine.now)
    for now in (3, 1, 5):
        machine.host_ns = now * 10**9
        clock.lap("train")
    assert clock.seconds == {"train": 7.0}
    assert clock.went_back == 1


def watched_loop(
    monitor: pm.Monitor, machine: Machine, way: str, epochs: int, steps: int = 5
) -> None:
    """Each train batch waits 10 ms for data, works 20 ms on the host and 50 ms on the device."""
    model, criterion = Net(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor.attach(
        model, optimizer=optimizer, **({} if way == "update" else {"criterion": criterion})
    )

    def loader(count: int) -> Any:
        for _ in range(count):
            machine.work(10)
            yield X, Y

    for _ in range(epochs):
        model.train()
        for x, y in monitor.train(loader(steps)) if way == "loaders" else loader(steps):
            output = model(x)
            machine.work(20, 50)
            loss = criterion(output, y)
            optimizer.step()
            if way == "update":
                monitor.update(output, y, loss=loss, split="train")
        model.eval()
        for x, y in monitor.validate(loader(2)) if way == "loaders" else loader(2):
            output = model(x)
            machine.work(5, 5)
            criterion(output, y)
            if way == "update":
                monitor.update(output, y)
        machine.wait()
        monitor.end_epoch()
        machine.work(100)  # what the user does between epochs


@pytest.mark.fault(47)
@pytest.mark.parametrize("way", WAYS)
def test_the_shares_of_all_epochs_sum_to_the_wall(way: str) -> None:
    machine = Machine()
    with quiet(clock=machine.now, device_event=machine.event) as monitor:
        watched_loop(monitor, machine, way, epochs=3)
        history = monitor.history
        shares = [sum(history[f"time/{name}"]) for name in ("train_s", "val_s", "other_s")]
        wall = (machine.host_ns - 100e6) / 1e9
        assert sum(shares) == pytest.approx(wall)
        assert history[-1, "time/wall_cumulative_s"] == pytest.approx(wall)
        assert shares[0] == pytest.approx(
            3 * 5 * 0.030, abs=0.061
        )  # before the first batch hooks see nothing
        if way == "loaders":
            assert history["time/data_wait_s"] == pytest.approx([5 * 0.010] * 3)
        assert all(
            wait <= train
            for wait, train in zip(
                history["time/data_wait_s"], history["time/train_s"], strict=True
            )
        )


@pytest.mark.fault(47)
@pytest.mark.parametrize("way", ["loaders", "hooks"])
def test_the_devices_own_time_is_what_counts_as_training(way: str) -> None:
    machine = Machine()
    with quiet(clock=machine.now, device_event=machine.event) as monitor:
        watched_loop(monitor, machine, way, epochs=3)
        on_device = monitor.history["time/train_device_s"]
        trained = monitor.history["time/train_cumulative_s"]
    host = 5 * 0.030
    assert all(seconds > 5 * 0.050 > host for seconds in on_device)
    # The first epoch's is without what its first step took longer; see the next tests but one.
    assert trained[1:] == pytest.approx(
        [trained[0] + on_device[1], trained[0] + sum(on_device[1:])]
    )


@pytest.mark.fault(47)
def test_a_run_that_attaches_again_goes_on_with_its_device_events() -> None:
    machine = Machine()
    model = Net()
    with quiet(clock=machine.now, device_event=machine.event) as monitor:
        for _ in range(2):
            with monitor.attach(model):
                for x, _y in monitor.train([(X, Y)] * 2):
                    model.train()(x)
                    machine.work(0, 50)
        machine.wait()
        assert monitor.end_epoch().time["train_device_s"] == pytest.approx(4 * 0.050)


@pytest.mark.fault(47)
def test_a_validation_in_the_middle_of_an_epoch_parts_the_devices_time() -> None:
    machine = Machine()
    model = Net()
    with quiet(clock=machine.now, device_event=machine.event) as monitor:
        monitor.attach(model)
        for step, (x, _) in enumerate(monitor.train([(X, Y)] * 4)):
            model.train()(x)
            machine.work(0, 50)
            machine.wait()
            if step == 1:
                for u, _v in monitor.validate([(X, Y)] * 2):
                    model.eval()(u)
                    machine.work(0, 700)
                    machine.wait()
        time = monitor.end_epoch().time
    assert time["train_device_s"] == pytest.approx(4 * 0.050)
    assert (time["train_s"], time["val_s"]) == (pytest.approx(4 * 0.050), pytest.approx(1.4))


@pytest.mark.fault(47)
def test_the_cumulative_training_time_takes_the_first_step_for_a_usual_one() -> None:
    machine = Machine()
    model = Net().train()
    with quiet(clock=machine.now) as monitor:
        monitor.attach(model)
        machine.work(7000)  # setting up
        for _ in range(3):
            for step, (x, _) in enumerate(monitor.train([(X, Y)] * 10)):
                model(x)
                machine.work(5000 if monitor.epoch == step == 0 else 10)
            machine.work(300)
            monitor.end_epoch()
        assert monitor.history["time/train_cumulative_s"] == pytest.approx([0.1, 0.2, 0.3])
        assert monitor.history["time/train_s"] == pytest.approx([5.09, 0.1, 0.1])
        assert monitor.history["time/step_ms/p50"] == pytest.approx([10, 10, 10])


def test_the_usual_step_is_the_median_of_all_but_the_first() -> None:
    times = StepTimes()
    for seconds, warm_up in ((5.0, 0.0), (0.010, 0.0), (0.020, 5.0 - 0.015), (0.030, 5.0 - 0.020)):
        times.add(seconds)
        assert times.warm_up_s() == pytest.approx(warm_up)
    times.start_epoch()
    for seconds in (5.0, 0.010, 0.020):
        times.add(seconds)
        assert times.warm_up_s() == 0.0


@pytest.mark.fault(47)
def test_each_epoch_times_its_own_steps() -> None:
    machine = Machine()
    with quiet(clock=machine.now) as monitor:
        for _ in range(3):
            machine.work(10)
            monitor.update(torch.randn(4, 3), Y, split="train")
            monitor.end_epoch()
        # The start of the run's very first step is not seen by update().
        assert monitor.history["time/step_ms/max"] == pytest.approx([0, 10, 10])


@pytest.mark.fault(32)
@pytest.mark.parametrize(("stepping", "wait"), [(True, 2 * 0.010), (False, 0)])
def test_only_what_passes_between_a_step_and_the_next_call_is_a_wait_for_data(
    stepping: bool, wait: float
) -> None:
    machine = Machine()
    model, criterion = Net().train(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with quiet(clock=machine.now) as monitor:
        monitor.attach(model, criterion=criterion, optimizer=optimizer if stepping else None)
        for _ in range(3):
            machine.work(10)  # the loader
            loss = criterion(checkpoint(model, X, use_reentrant=False), Y)
            machine.work(500)
            loss.backward()  # repeats the forward
            optimizer.step()
        time = monitor.end_epoch().time
    assert time["data_wait_s"] == pytest.approx(wait)


@pytest.mark.fault(47)
def test_the_warm_up_is_found_behind_an_epoch_that_only_evaluates() -> None:
    machine = Machine()
    model = Net()
    with quiet(clock=machine.now) as monitor:
        monitor.attach(model)
        for x, _ in monitor.validate([(X, Y)]):
            model.eval()(x)
        monitor.end_epoch()
        for step, (x, _) in enumerate(monitor.train([(X, Y)] * 10)):
            model.train()(x)
            machine.work(5000 if step == 0 else 10)
        monitor.end_epoch()
        assert monitor.history["time/train_cumulative_s"] == pytest.approx([0, 0.1])


@pytest.mark.fault(47)
def test_no_event_is_read_before_it_has_passed_and_each_span_is_told_once() -> None:
    machine = Machine()
    spans = DeviceSpans(machine.event, size=8)
    told = []
    for turn in range(20):
        spans.begin("train")
        machine.work(1, 30)
        spans.end()
        if turn % 2:
            machine.wait()
        told.append(spans.read())  # Event refuses to be read too early
        spans.start_epoch()
    assert (
        told == [None, {"train": pytest.approx(0.030)}] * 10
    )  # what came too late is told no more
    assert spans.read() == {}
    assert len(machine.events) == 16  # none was made on the way


@pytest.mark.fault(47)
def test_a_full_ring_drops_new_spans_and_counts_them() -> None:
    machine = Machine()
    spans = DeviceSpans(machine.event, size=4)
    for _ in range(10):
        spans.begin("train")
        machine.work(0, 30)
        spans.end()
    assert spans.dropped == 6
    machine.wait()
    assert spans.read() is None  # a part would look like less time
    spans.start_epoch()
    spans.begin("train")
    machine.work(0, 30)
    spans.end()
    machine.wait()
    assert spans.read() == {"train": pytest.approx(0.030)}
    assert spans.dropped == 0


@pytest.mark.fault(47)
def test_spans_that_have_passed_make_room_without_being_read() -> None:
    machine = Machine()
    spans = DeviceSpans(machine.event, size=4)
    for _ in range(100):
        spans.begin("train")
        machine.work(1, 2)
        spans.end()
        machine.wait()
    assert spans.dropped == 0
    assert spans.read() == {"train": pytest.approx(100 * 0.003)}


@pytest.mark.fault(47)
def test_dropped_spans_are_noted_and_the_host_clock_is_taken_for_that_epoch(tmp_path: Path) -> None:
    machine = Machine()
    model, criterion = Net(), nn.CrossEntropyLoss()
    with quiet(run=tmp_path / "run", clock=machine.now, device_event=machine.event) as monitor:
        monitor.attach(model, criterion=criterion)
        for turn in range(200):
            criterion(model.train(turn % 2 == 0)(X), Y)
            machine.work(0, 1000)
        machine.work(100)
        machine.wait()
        scores = monitor.end_epoch()
    assert scores.time["train_device_s"] is None
    note = read_run(tmp_path / "run").notes[0]
    assert (note["code"], note["count"]) == ("device-spans-dropped", 200 - 32)


@pytest.mark.fault(47)
def test_spans_under_way_at_the_end_of_an_epoch_are_not_counted_twice() -> None:
    machine = Machine()
    model, criterion = Net().train(), nn.CrossEntropyLoss()
    with quiet(clock=machine.now, device_event=machine.event) as monitor:
        monitor.attach(model, criterion=criterion)
        for epoch in range(4):
            for _ in range(4):
                criterion(model(X), Y)
                machine.work(10, 10)
            if epoch == 3:
                machine.wait()
            monitor.end_epoch()
        total = monitor.history[-1, "time/train_cumulative_s"]
    assert total <= machine.host_ns / 1e9


@pytest.mark.fault(47)
def test_a_clock_that_goes_back_in_the_middle_of_a_run_is_survived_and_noted(
    tmp_path: Path,
) -> None:
    machine = Machine()
    with quiet(run=tmp_path / "run", clock=machine.now) as monitor:
        for _ in range(3):
            for _ in range(3):
                monitor.update(torch.randn(4, 3), Y, split="train")
                machine.host_ns -= 10**9
                monitor.update(torch.randn(4, 3), Y, split="train")
                machine.host_ns += 3 * 10**9
            monitor.end_epoch()
        for name in ("train_s", "other_s", "train_cumulative_s"):
            assert all(seconds >= 0 for seconds in monitor.history[f"time/{name}"])
    notes = read_run(tmp_path / "run").notes
    assert [(note["code"], note["count"]) for note in notes] == [("clock-went-back", 3)] * 3


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=50))
def test_step_quantiles_are_steps_in_order(steps: list[float]) -> None:
    times = StepTimes()
    for step in steps:
        times.add(step)
    taken = times.quantiles_ms()
    assert taken is not None
    assert all(any(ms == 1e3 * step for step in steps) for ms in taken.values())
    assert taken["p50"] <= taken["p95"] <= taken["max"] == 1e3 * max(steps)
    times.start_epoch()
    assert times.quantiles_ms() is None


@pytest.mark.parametrize("now", [lambda: 0], ids=["still"])
def test_a_clock_that_stands_still_gives_zeros(now: Callable[[], int]) -> None:
    with quiet(clock=now) as monitor:
        for _ in range(5):
            monitor.update(torch.randn(4, 3), Y, split="train")
        time = monitor.end_epoch().time
    assert time["train_s"] == time["train_cumulative_s"] == 0.0
    assert time["step_ms"] == {"p50": 0.0, "p95": 0.0, "max": 0.0}
