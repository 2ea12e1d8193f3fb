"""What can be read off a device about a call.

That is time, launches, waits, memory, and whether a CUDA graph takes it.

Everything that talks to CUDA goes through one object, `torch.cuda` itself unless a test puts
another in its place.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ptmetrics.bench.timing import Call, host_clock

# Calls of the CUDA runtime and driver that put work on the device's queue.
LAUNCHES = ("cudaLaunch", "cuLaunch", "cudaMemcpy", "cudaMemset", "cudaGraphLaunch")
WAITING = "called a synchronizing CUDA operation"  # torch's words in its sync debug mode


class Probes:
    """How to measure on a CPU; what only a GPU has is None: not measured."""

    name = "CPU"
    has_graphs = False

    def clock(self, call: Call, repeats: int) -> float:
        """Seconds until the device has done the calls."""
        return host_clock(call, repeats)

    def issue(self, call: Call, repeats: int) -> float:
        """Seconds of the host alone, which does not wait for what it asked the device to do."""
        return host_clock(call, repeats)

    def launches(self, call: Call) -> int | None:
        """Kernels, copies and fills that a call puts on the device."""
        return None

    def waits(self, call: Call) -> int | None:
        """Times that a call makes the host wait for the device."""
        return None

    def peak_bytes(self, call: Call) -> int | None:
        """Bytes of device memory that a call needs at its peak, beside what is there before it."""
        return None

    def capture(self, call: Call) -> Call:
        """A call that replays the given one as a CUDA graph."""
        raise NotImplementedError("a CPU has no graphs: has_graphs tells")


class CudaProbes(Probes):
    """How to measure on a GPU.

    Args:
        cuda: In place of `torch.cuda`, for tests.
    """

    has_graphs = True

    def __init__(self, cuda: Any = torch.cuda) -> None:
        self._cuda = cuda
        self.name = cuda.get_device_name()

    def clock(self, call: Call, repeats: int) -> float:
        """Seconds of the device from before the first call until after the last, by events."""
        start = self._cuda.Event(enable_timing=True)
        stop = self._cuda.Event(enable_timing=True)
        self._cuda.synchronize()
        start.record()
        for _ in range(repeats):
            call()
        stop.record()
        stop.synchronize()
        return float(start.elapsed_time(stop)) / 1e3

    def issue(self, call: Call, repeats: int) -> float:
        """Seconds of the host from an empty queue on.

        The device may still be at work when they end.
        """
        self._cuda.synchronize()
        taken = host_clock(call, repeats)
        self._cuda.synchronize()
        return taken

    def launches(self, call: Call) -> int | None:
        """What a call puts on the device, by the names in torch's profile.

        None if the profiler saw no CUDA at all: without the right to read counters CUPTI is silent,
        and that is not 0.
        """
        names = profiled_names(call, self._cuda)
        if not any(name.startswith("cuda") for name in names):
            return None
        return sum(name.startswith(LAUNCHES) for name in names)

    def waits(self, call: Call) -> int:
        """How often torch's sync debug mode warns during a call."""
        with warnings.catch_warnings(record=True) as told, self._sync_debug_mode("warn"):
            warnings.simplefilter("always")
            call()
        return sum(WAITING in str(warning.message) for warning in told)

    @contextmanager
    def _sync_debug_mode(self, mode: str) -> Iterator[None]:
        before = self._cuda.get_sync_debug_mode()
        self._cuda.set_sync_debug_mode(mode)
        try:
            yield
        finally:
            self._cuda.set_sync_debug_mode(before)

    def peak_bytes(self, call: Call) -> int:
        """Bytes at the peak of a call, over those that were allocated before it."""
        self._cuda.synchronize()
        self._cuda.reset_peak_memory_stats()
        before = self._cuda.memory_allocated()
        call()
        self._cuda.synchronize()
        return int(self._cuda.max_memory_allocated() - before)

    def capture(self, call: Call) -> Call:
        """The call as a CUDA graph, warmed up on a side stream as torch asks for.

        Raises:
            RuntimeError: From torch, if the call does what a graph cannot hold, such as a wait.
        """
        side = self._cuda.Stream()
        side.wait_stream(self._cuda.current_stream())
        with self._cuda.stream(side):
            for _ in range(3):
                call()
        self._cuda.current_stream().wait_stream(side)
        self._cuda.synchronize()
        graph = self._cuda.CUDAGraph()
        with self._cuda.graph(graph):
            call()

        def replay() -> None:
            graph.replay()

        return replay


def probes_of(device: str, cuda: Any = torch.cuda) -> Probes:
    """The probes of "cuda", or those of a CPU, which leave out what only a GPU has."""
    if device == "cpu":
        return Probes()
    return CudaProbes(cuda)


def profiled_names(call: Call, cuda: Any) -> list[str]:
    """Names of all events of torch's profile of a call."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        call()
        cuda.synchronize()
    events: Any = profile.events()
    return [event.name for event in events]
