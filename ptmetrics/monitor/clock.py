"""Where the time goes: a host clock whose laps add up to the wall, and device events read late.

What is read of an epoch stays until `start_epoch` says that it was recorded.
"""

import statistics
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

NowNs = Callable[[], int]
KEPT_STEPS = 4096  # quantiles are over the last so many steps of an epoch


class PhaseClock:
    """Splits host time among phases: the time since the last mark is of the phase named now.

    Phases are "train", "val", "other" and further splits. The parts add up to the wall. A clock
    that goes back loses that lap, and `went_back` counts it.

    Args:
        now: Returns nanoseconds; injected, so that a test never sleeps.

    Attributes:
        seconds: Time of the epoch by phase.
        data_wait_s: Seconds of the epoch that training waited for batches.
        went_back: Laps of the epoch that were lost.
        phase: The phase under way on the device; None for none.
        device: Device time; None where the host's clock is all.
        steps: Durations of the training steps of the epoch.
        waiting: Whether since the last mark the loop only waits for data.
    """

    def __init__(self, now: NowNs = time.perf_counter_ns) -> None:
        self.now = now
        self._mark = now()
        self._so_far: int | None = None  # until when, behind the mark, the phase surely went on
        self._step_mark = 0.0  # training time at the end of the last step
        self._started = False
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.data_wait_s = 0.0
        self.went_back = 0
        self.phase: str | None = None
        self.device: DeviceSpans | None = None
        self.steps = StepTimes()
        self.waiting = False

    def lap(self, phase: str, until: int | None = None, *, waited: bool = False) -> None:
        """Give the time since the last mark to `phase`.

        Args:
            phase: What the time was spent on.
            until: When the lap ended; None for now.
            waited: Whether it was a wait for a batch.
        """
        if until is None:
            until = self.now()
        if self._so_far is not None:
            if phase != self.phase:
                self._settle()
            self._so_far = None
        seconds = (until - self._mark) / 1e9
        self._mark = until
        self.waiting = False
        if seconds < 0:
            self.went_back += 1
            return
        self.seconds[phase] += seconds
        if waited and phase == "train":
            self.data_wait_s += seconds

    def goes_on(self, phase: str) -> None:
        """As `lap`; but where that phase is under way it is enough to remember when."""
        if phase != self.phase:
            self.lap(phase)
            return
        self._so_far = now = self.now()
        if self.waiting:
            self.waiting = False
            if phase == "train" and now > self._mark:
                self.data_wait_s += (now - self._mark) / 1e9

    def _settle(self) -> None:
        """What is remembered of the phase under way is its time."""
        until = self._so_far
        if until is not None and self.phase is not None:
            self._so_far = None
            self.lap(self.phase, until)

    def enter(self, phase: str) -> None:
        """From here on the device is in this phase."""
        if self.phase == phase:
            return
        self._settle()
        if not self._started:  # what came before the first batch of a run is the user's setting up
            self.lap("other")
            self._started = True
        self.phase = phase
        if self.device is not None:
            self.device.begin(phase)

    def leave(self) -> None:
        """The device's phase ends here."""
        if self._so_far is not None:
            self._settle()
        self.phase = None
        if self.device is not None:
            self.device.end()

    def step_done(self) -> None:
        """A training step ends with the last mark, or with what is remembered behind it."""
        if self._so_far is not None:
            self._settle()
        total = self.seconds["train"]
        self.steps.add(total - self._step_mark)
        self._step_mark = total

    def end_epoch(self) -> None:
        """The time since the last mark belongs to no split."""
        self.lap("other")
        self.leave()

    def oddities(self) -> list[dict[str, Any]]:
        """Notes for the record on clocks that did not behave in this epoch."""
        notes = []
        if self.went_back:
            words = "laps of the host clock went back and were left out"
            notes.append(_note("clock-went-back", self.went_back, words))
        if self.device is not None and self.device.dropped:
            words = "spans found no room in the ring of device events: the host clock counts"
            notes.append(_note("device-spans-dropped", self.device.dropped, words))
        return notes

    def start_epoch(self) -> None:
        """The epoch is recorded: forget its times."""
        self.seconds = defaultdict(float)
        self.data_wait_s = 0.0
        self.went_back = 0
        self._step_mark = 0.0
        self.steps.start_epoch()
        if self.device is not None:
            self.device.start_epoch()


def _note(code: str, count: int, words: str) -> dict[str, Any]:
    return {"code": code, "message": f"{count} {words}", "count": count}


class StepTimes:
    """Durations of the training steps of an epoch, and the excess of the run's first step."""

    def __init__(self) -> None:
        self._steps: deque[float] = deque(maxlen=KEPT_STEPS)
        self._first: float | None = None
        self._begun = False

    def add(self, seconds: float) -> None:
        """One step took so long."""
        if not self._begun:
            self._begun = True
            self._first = seconds
        self._steps.append(seconds)

    def quantiles_ms(self) -> dict[str, float] | None:
        """Quantiles of the epoch in milliseconds; None without a step."""
        steps = sorted(self._steps)
        if not steps:
            return None
        last = len(steps) - 1
        return {
            "p50": 1e3 * steps[min(int(0.5 * len(steps)), last)],
            "p95": 1e3 * steps[min(int(0.95 * len(steps)), last)],
            "max": 1e3 * steps[last],
        }

    def warm_up_s(self) -> float:
        """Seconds by which the run's first step differs from the median of the others in its epoch.

        It compiles, autotunes, loads lazily; or its start was not seen. 0 in all later epochs, and
        with fewer than 3 steps: no usual step is known.
        """
        if self._first is None or len(self._steps) < 3:
            return 0.0
        return self._first - statistics.median(list(self._steps)[1:])

    def start_epoch(self) -> None:
        """Forget the steps of the epoch."""
        self._steps.clear()
        self._first = None


class DeviceEvent(Protocol):
    """The part of `torch.cuda.Event` that is used."""

    def record(self) -> None:
        """Mark this point of the device's stream."""

    def query(self) -> bool:
        """Whether the device has passed the mark; never waits."""
        ...

    def elapsed_time(self, end_event: Any, /) -> float:
        """Milliseconds from this mark to the event `end_event`."""
        ...


class _Span:
    """A phase on the device, between two events."""

    def __init__(self, make_event: Callable[[], DeviceEvent]) -> None:
        self.phase = ""
        self.start = make_event()
        self.stop = make_event()


class DeviceSpans:
    """Device time of phases from a ring of events; nothing here ever waits for the device.

    When the ring is full of spans that have not passed, the new one is dropped and counted in
    `dropped`.

    Args:
        make_event: Makes one event.
        size: Spans that can be under way at once.

    Attributes:
        dropped: Spans of the epoch for which there was no room.
    """

    def __init__(self, make_event: Callable[[], DeviceEvent], size: int = 32) -> None:
        self._free = [_Span(make_event) for _ in range(size)]
        self._under_way: deque[_Span] = deque()
        self._open: _Span | None = None
        self._seconds: dict[str, float] = {}
        self._stale = 0  # spans under way, from the oldest, that came too late to be told
        self.dropped = 0

    def begin(self, phase: str) -> None:
        """The device starts a phase here; a phase still open ends."""
        self.end()
        if not self._free:
            self._collect()
        if not self._free:
            self.dropped += 1
            return
        span = self._free.pop()
        span.phase = phase
        span.start.record()
        self._open = span

    def end(self) -> None:
        """The open phase ends here."""
        if self._open is not None:
            self._open.stop.record()
            self._under_way.append(self._open)
            self._open = None

    def read(self) -> dict[str, float] | None:
        """Seconds of each phase of the epoch; None if a span was dropped or has not passed yet.

        A part of the time would look like less time, so it is all or nothing.
        """
        self._collect()
        if self.dropped or self._under_way:
            return None
        return dict(self._seconds)

    def start_epoch(self) -> None:
        """Forget the epoch; spans of it that are late are told no more."""
        self._seconds = {}
        self._stale = len(self._under_way)
        self.dropped = 0

    def _collect(self) -> None:
        while self._under_way and self._under_way[0].stop.query():
            span = self._under_way.popleft()
            if self._stale:
                self._stale -= 1
            else:
                before = self._seconds.get(span.phase, 0.0)
                self._seconds[span.phase] = before + span.start.elapsed_time(span.stop) / 1e3
            self._free.append(span)


def device_spans(
    model: nn.Module, make_event: Callable[[], DeviceEvent] | None
) -> DeviceSpans | None:
    """Spans from injected events, or from CUDA's for a model on CUDA; else None."""
    if make_event is None and any(p.is_cuda for p in model.parameters()):
        make_event = partial(torch.cuda.Event, enable_timing=True)
    if make_event is None:
        return None
    return DeviceSpans(make_event)


class RunTotals:
    """Running totals of a run: training time, wall time, training samples and steps so far.

    The training time leaves out validation, callbacks and checkpoints, counts the first step of the
    run as a usual one, and follows the device's clock where there is one.
    """

    def __init__(self) -> None:
        self.train_s = 0.0
        self.wall_s = 0.0
        self.samples = 0
        self.steps = 0

    def time(self, clock: PhaseClock) -> dict[str, Any]:
        """Seconds of the epoch by phase, and so far: the record's `time`."""
        other = dict(clock.seconds)
        train_s = other.pop("train", 0.0)
        val_s = other.pop("val", 0.0)
        wall_s = sum(clock.seconds.values())
        on_device = None
        if clock.device is not None:
            on_device = (clock.device.read() or {}).get("train")
        trained_s = train_s
        if on_device is not None:
            trained_s = on_device
        return {
            "train_s": train_s,
            "val_s": val_s,
            "data_wait_s": clock.data_wait_s,
            "other_s": sum(other.values()),
            "train_device_s": on_device,
            "train_cumulative_s": self.train_s + trained_s - clock.steps.warm_up_s(),
            "wall_cumulative_s": self.wall_s + wall_s,
            "step_ms": clock.steps.quantiles_ms(),
        }

    def counts(self, samples: Mapping[str, int], steps: Mapping[str, int]) -> dict[str, int]:
        """Samples and steps by split, and of training so far: the record's `counts`."""
        counts = {}
        for name in samples:
            counts[f"{name}_samples"] = samples[name]
            counts[f"{name}_steps"] = steps[name]
        counts["train_samples_cumulative"] = self.samples + samples.get("train", 0)
        counts["train_steps_cumulative"] = self.steps + steps.get("train", 0)
        return counts

    def commit(self, time: Mapping[str, Any], counts: Mapping[str, Any]) -> None:
        """The epoch of which `time` and `counts` told is recorded."""
        self.train_s = time["train_cumulative_s"]
        self.wall_s = time["wall_cumulative_s"]
        self.samples = counts["train_samples_cumulative"]
        self.steps = counts["train_steps_cumulative"]

    def state_dict(self) -> dict[str, float]:
        """Totals so far."""
        return {
            "train_s": self.train_s,
            "wall_s": self.wall_s,
            "samples": self.samples,
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from stored totals; the time in between does not count."""
        self.train_s = float(state["train_s"])
        self.wall_s = float(state["wall_s"])
        self.samples = int(state["samples"])
        self.steps = int(state["steps"])
