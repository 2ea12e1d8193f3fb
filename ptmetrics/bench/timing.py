"""Timing side by side: the sides take turns, so that whatever else the machine does falls on all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Call = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """How long one call of a side took.

    Attributes:
        median_us: Median over the rounds, microseconds.
        low_us: Lower quartile.
        high_us: Upper quartile.
        operations: torch operations of one call that launch a kernel on a device; None where not counted.
    """

    median_us: float
    low_us: float
    high_us: float
    operations: int | None = None


class _Launches(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch gives it no types
    """Counts operations that are not views of what is there."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        alias = func._schema.returns[0].alias_info if func._schema.returns else None
        self.count += alias is None or bool(alias.is_write)
        return func(*args, **(kwargs or {}))


def operations(call: Call) -> int:
    """How many torch operations a call launches."""
    make: Any = _Launches
    with make() as seen:
        call()
    return int(seen.count)


def race(
    sides: Mapping[str, Call], *, rounds: int, least_s: float = 2e-3, count: bool = True
) -> dict[str, Timing]:
    """Time each side once a round, in turn, after a warm-up.

    Args:
        sides: Name to what is timed.
        rounds: Number of times that each side is timed.
        least_s: A short call is repeated within a round until it takes about so long, in seconds.
        count: Whether to count operations, which calls each side once more.
    """
    repeats = {name: _repeats(call, least_s) for name, call in sides.items()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        names = list(sides) if number % 2 == 0 else list(sides)[::-1]
        for name in names:
            times[name].append(1e6 * _seconds(sides[name], repeats[name]) / repeats[name])
    return {
        name: Timing(*_quartiles(times[name]), operations(call) if count else None)
        for name, call in sides.items()
    }


def _repeats(call: Call, least_s: float) -> int:
    _seconds(call, 1)  # the first call of a metric makes its state
    return max(1, round(least_s / max(_seconds(call, 1), 1e-9)))


def _seconds(call: Call, repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return time.perf_counter() - started


def _quartiles(times: list[float]) -> tuple[float, float, float]:
    times = sorted(times)
    quarter = len(times) // 4
    return statistics.median(times), times[quarter], times[-1 - quarter]


def threads(count: int | None) -> int:
    """Set the number of threads of torch, if one is given; returns what there is."""
    if count is not None:
        torch.set_num_threads(count)
    return torch.get_num_threads()
