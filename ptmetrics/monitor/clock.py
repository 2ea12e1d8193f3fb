"""Where the time goes: one host clock whose laps add up to the wall, and device events that are read late."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

NowNs = Callable[[], int]
KEPT_STEPS = 4096  # quantiles are over the last so many steps of an epoch


class PhaseClock:
    """Splits host time among phases: the time since the last mark belongs to the phase that is named now.

    The parts add up to the wall. A clock that goes back loses that lap, and `went_back` counts it.

    Args:
        now: Returns nanoseconds; injected, so that a test never sleeps.
    """

    def __init__(self, now: NowNs = time.perf_counter_ns) -> None:
        self._now, self._last = now, now()
        self.seconds: dict[str, float] = {}
        self.went_back = 0

    def lap(self, phase: str) -> float:
        """Give the time since the last mark to `phase`; returns it in seconds."""
        now = self._now()
        passed, self._last = (now - self._last) / 1e9, now
        if passed < 0:
            self.went_back += 1
            return 0.0
        self.seconds[phase] = self.seconds.get(phase, 0.0) + passed
        return passed

    def take(self) -> dict[str, float]:
        """The seconds of each phase since the last call, and start again."""
        taken, self.seconds = self.seconds, {}
        return taken


class StepTimes:
    """Durations of the training steps of an epoch, and how much the first of the run was above the usual."""

    def __init__(self) -> None:
        self._steps: deque[float] = deque(maxlen=KEPT_STEPS)
        self._first: float | None = None
        self._begun = False

    def add(self, seconds: float) -> None:
        """One step took so long."""
        if not self._begun:
            self._begun, self._first = True, seconds
        self._steps.append(seconds)

    def take(self) -> dict[str, float] | None:
        """Quantiles of the epoch in milliseconds, and start again; None without a step."""
        steps = sorted(self._steps)
        self._steps.clear()
        if not steps:
            return None
        p50, p95 = (steps[min(int(q * len(steps)), len(steps) - 1)] for q in (0.5, 0.95))
        return {"p50": 1e3 * p50, "p95": 1e3 * p95, "max": 1e3 * steps[-1]}

    def warm_up_s(self) -> float:
        """Seconds by which the run's first step differs from the median of the others in its epoch.

        It compiles, autotunes, loads lazily; or its start was not seen. Call it before `take` at the end of
        each epoch: it is told once. 0 with fewer than 3 steps: no usual step is known.
        """
        first, self._first = self._first, None
        if first is None or len(self._steps) < 3:
            return 0.0
        return first - statistics.median(list(self._steps)[1:])


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


class DeviceSpans:
    """Device time of phases from a ring of events made beforehand; nothing here ever waits for the device.

    When the ring is full of spans that have not passed, the new one is dropped and counted in `dropped`.

    Args:
        make_event: Makes one event.
        size: Spans that can be under way at once.
    """

    def __init__(self, make_event: Callable[[], DeviceEvent], size: int = 32) -> None:
        self._free = [(make_event(), make_event()) for _ in range(size)]
        self._under_way: deque[tuple[str, DeviceEvent, DeviceEvent]] = deque()
        self._open: tuple[str, DeviceEvent, DeviceEvent] | None = None
        self._seconds: dict[str, float] = {}
        self._stale = 0  # spans under way, from the oldest, that came too late to be told
        self._dropped_before = self.dropped = 0

    def begin(self, phase: str) -> None:
        """The device starts a phase here; a phase still open ends."""
        self.end()
        if not self._free:
            self._collect()
        if not self._free:
            self.dropped += 1
            return
        start, stop = self._free.pop()
        start.record()
        self._open = (phase, start, stop)

    def end(self) -> None:
        """The open phase ends here."""
        if self._open is not None:
            self._open[2].record()
            self._under_way.append(self._open)
            self._open = None

    def read(self) -> dict[str, float] | None:
        """Seconds of each phase since the last call; None if a span was dropped or has not passed yet.

        A part of the time would look like less time, so it is all or nothing; late spans are told no more.
        """
        self._collect()
        whole = self.dropped == self._dropped_before and not self._under_way
        seconds, self._seconds = self._seconds, {}
        self._dropped_before, self._stale = self.dropped, len(self._under_way)
        return seconds if whole else None

    def _collect(self) -> None:
        while self._under_way and self._under_way[0][2].query():
            phase, start, stop = self._under_way.popleft()
            if self._stale:
                self._stale -= 1
            else:
                self._seconds[phase] = (
                    self._seconds.get(phase, 0.0) + start.elapsed_time(stop) / 1e3
                )
            self._free.append((start, stop))


def device_spans(
    model: nn.Module, make_event: Callable[[], DeviceEvent] | None
) -> DeviceSpans | None:
    """Spans from injected events, or from CUDA's when the model is on CUDA; None where the host clock is all."""
    if make_event is None and any(p.is_cuda for p in model.parameters()):
        make_event = partial(torch.cuda.Event, enable_timing=True)
    return None if make_event is None else DeviceSpans(make_event)
