"""What can be read off a device about a call: time, launches, waits, memory, and whether a CUDA graph takes it.

Everything that talks to CUDA goes through one object, `torch.cuda` itself unless a test puts another in its place.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ptmetrics.bench.timing import Call, Clock, host_clock

# Calls of the CUDA runtime and driver that put work on the device's queue, and those that wait for it.
LAUNCHES = ("cudaLaunch", "cuLaunch", "cudaMemcpy", "cudaMemset", "cudaGraphLaunch")
WAITING = "called a synchronizing CUDA operation"  # torch's words in its sync debug mode
Counter = Callable[[Call], int | None]


@dataclass(frozen=True)
class Probes:
    """How to measure on one device; None says that it was not measured.

    Attributes:
        name: Of the processor, as its driver says.
        clock: Seconds until the device has done the calls.
        issue: Seconds of the host alone, which does not wait for what it asked the device to do.
        launches: Kernels, copies and fills that a call puts on the device.
        waits: Times that a call makes the host wait for the device.
        peak_bytes: Bytes of device memory that a call needs at its peak, beside what is there before it.
        capture: Makes a call that replays the given one as a CUDA graph; raises what torch raises.
    """

    name: str
    clock: Clock
    issue: Clock
    launches: Counter
    waits: Counter
    peak_bytes: Counter
    capture: Callable[[Call], Call] | None


def probes(device: str, cuda: Any = torch.cuda) -> Probes:
    """The probes of "cuda", or those of a CPU, which leave out what only a GPU has."""
    if device == "cpu":
        return Probes("CPU", host_clock, host_clock, _nothing, _nothing, _nothing, None)
    return Probes(
        cuda.get_device_name(),
        partial(event_seconds, cuda=cuda),
        partial(issue_seconds, cuda=cuda),
        partial(launches, cuda=cuda),
        partial(waits, cuda=cuda),
        partial(peak_bytes, cuda=cuda),
        partial(capture, cuda=cuda),
    )


def _nothing(call: Call) -> None:
    return None


def event_seconds(call: Call, repeats: int, *, cuda: Any = torch.cuda) -> float:
    """Seconds of the device from before the first call until after the last, by events."""
    start, stop = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    cuda.synchronize()
    start.record()
    for _ in range(repeats):
        call()
    stop.record()
    stop.synchronize()
    return float(start.elapsed_time(stop)) / 1e3


def issue_seconds(call: Call, repeats: int, *, cuda: Any = torch.cuda) -> float:
    """Seconds of the host from an empty queue on; the device may still be at work when they end."""
    cuda.synchronize()
    taken = host_clock(call, repeats)
    cuda.synchronize()
    return taken


def launches(
    call: Call, *, cuda: Any = torch.cuda, profiled: Callable[..., Any] | None = None
) -> int | None:
    """What a call puts on the device, by the names in torch's profile; None if the profiler saw no CUDA at all.

    Args:
        call: What is counted.
        cuda: In place of `torch.cuda`.
        profiled: Runs a call and returns the names of all events of its profile.
    """
    names: list[str] = list((profiled or _profiled)(call, cuda))
    if not any(name.startswith("cuda") for name in names):
        return None  # without the right to read counters CUPTI is silent: that is not 0
    return len([name for name in names if name.startswith(LAUNCHES)])


def _profiled(call: Call, cuda: Any) -> Iterable[str]:
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        call()
        cuda.synchronize()
    events: Any = profile.events()
    return [event.name for event in events]


def waits(call: Call, *, cuda: Any = torch.cuda) -> int:
    """How often torch's sync debug mode warns during a call."""
    with warnings.catch_warnings(record=True) as told, _sync_debug_mode("warn", cuda):
        warnings.simplefilter("always")
        call()
    return sum(WAITING in str(warning.message) for warning in told)


@contextmanager
def _sync_debug_mode(mode: str, cuda: Any) -> Iterator[None]:
    before = cuda.get_sync_debug_mode()
    cuda.set_sync_debug_mode(mode)
    try:
        yield
    finally:
        cuda.set_sync_debug_mode(before)


def peak_bytes(call: Call, *, cuda: Any = torch.cuda) -> int:
    """Bytes at the peak of a call, over those that were allocated before it."""
    cuda.synchronize()
    cuda.reset_peak_memory_stats()
    before = cuda.memory_allocated()
    call()
    cuda.synchronize()
    return int(cuda.max_memory_allocated() - before)


def capture(call: Call, *, cuda: Any = torch.cuda) -> Call:
    """The call as a CUDA graph, warmed up on a side stream as torch asks for.

    Raises:
        RuntimeError: From torch, if the call does what a graph cannot hold, such as a wait.
    """
    side = cuda.Stream()
    side.wait_stream(cuda.current_stream())
    with cuda.stream(side):
        for _ in range(3):
            call()
    cuda.current_stream().wait_stream(side)
    cuda.synchronize()
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        call()
    return lambda: graph.replay()
