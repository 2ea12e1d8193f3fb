"""A simulated CUDA device: it works later than the host asks, and counts what it is asked."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ptmetrics.bench.probes import WAITING


class Event:
    """As `torch.cuda.Event`: a mark in the queue, only read once the host has waited for it."""

    def __init__(self, cuda: "FakeCuda", enable_timing: bool) -> None:
        assert enable_timing, "torch refuses elapsed_time of an event without timing"
        self.cuda, self.at_ms, self.waited = cuda, -1.0, False

    def record(self) -> None:
        self.at_ms, self.waited = self.cuda.queue_ms, False

    def synchronize(self) -> None:
        self.cuda.asked.append("event.synchronize")
        self.waited = True

    def elapsed_time(self, end: "Event") -> float:
        assert end.waited, "an event was read before the device had passed it"
        return end.at_ms - self.at_ms


class Stream:
    def wait_stream(self, other: "Stream") -> None:
        assert isinstance(other, Stream)


class Graph:
    """What was called inside `cuda.graph` is called again by a replay."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def replay(self) -> None:
        for call in self.calls:
            call()


class FakeCuda:
    """In the place of `torch.cuda`. `work` is what a kernel of a test does to it."""

    def __init__(self, *, bf16: bool = True) -> None:
        self.queue_ms, self.allocated, self.peak = 0.0, 1000, 0
        self.asked: list[str] = []
        self.mode: int | str = 0
        self.graphed: Graph | None = None
        self.bf16 = bf16
        self.Stream, self.CUDAGraph = Stream, Graph

    def work(self, ms: float = 1.0, needed: int = 0, *, waits: bool = False) -> None:
        """A kernel that takes so long and needs so many bytes for a moment."""
        self.queue_ms += ms
        self.peak = max(self.peak, self.allocated + needed)
        if self.graphed is not None:
            if waits:
                raise RuntimeError(
                    "CUDA error: operation not permitted when stream is capturing\nCompile with …"
                )
            self.graphed.calls.append(lambda: self.work(ms, needed))
        if waits and self.mode == "warn":
            warnings.warn(WAITING, stacklevel=1)
            warnings.warn("something else", stacklevel=1)

    def Event(self, *, enable_timing: bool = False) -> Event:  # noqa: N802 — torch's name
        return Event(self, enable_timing)

    def is_available(self) -> bool:
        return True

    def get_device_name(self) -> str:
        return "Simulated GPU"

    def is_bf16_supported(self, including_emulation: bool = True) -> bool:
        return self.bf16

    def synchronize(self) -> None:
        self.asked.append("synchronize")

    def get_sync_debug_mode(self) -> int | str:
        return self.mode

    def set_sync_debug_mode(self, mode: int | str) -> None:
        self.mode = mode

    def reset_peak_memory_stats(self) -> None:
        self.peak = self.allocated

    def memory_allocated(self) -> int:
        return self.allocated

    def max_memory_allocated(self) -> int:
        return self.peak

    def current_stream(self) -> Stream:
        return Stream()

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        yield

    @contextmanager
    def graph(self, graph: Graph) -> Iterator[None]:
        self.graphed = graph
        try:
            yield
        finally:
            self.graphed = None


def names_of(*names: str) -> Callable[[Any, Any], list[str]]:
    """A profile with these events, after the call was made."""

    def profiled(call: Callable[[], object], cuda: Any) -> list[str]:
        call()
        return list(names)

    return profiled
