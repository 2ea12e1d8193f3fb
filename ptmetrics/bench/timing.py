"""Timing side by side: the sides take turns, so that whatever else the machine does falls on all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Call = Callable[[], object]
Clock = Callable[[Call, int], float]  # seconds that so many calls take
COUNTED = 64  # calls, for counts
Quartiles = tuple[float, float, float]  # median, lower and upper quartile


@dataclass(frozen=True)
class Timing:
    """How long one call of a side took.

    Attributes:
        microseconds: Over the rounds.
        ratio: Time over that of the first side in the same round.
        operations: torch operations that launch a kernel on a device, mean of 64 calls; None where not counted.
    """

    microseconds: Quartiles
    ratio: Quartiles
    operations: float | None = None


class _Launches(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch gives it no types
    """Counts operations that are not views of what is there."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        alias = func._schema.returns[0].alias_info if func._schema.returns else None
        self.count += alias is None or bool(alias.is_write)
        return func(*args, **(kwargs or {}))


def operations(call: Call, times: int = COUNTED) -> float:
    """How many torch operations a call launches: what is done once in many calls is in the mean."""
    make: Any = _Launches
    with make() as seen:
        for _ in range(times):
            call()
    return float(seen.count) / times


def host_clock(call: Call, repeats: int) -> float:
    """Seconds by the clock of the host."""
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return time.perf_counter() - started


def race(
    sides: Mapping[str, Call],
    *,
    rounds: int,
    least_s: float = 10e-3,
    count: bool = True,
    clock: Clock = host_clock,
) -> dict[str, Timing]:
    """Time each side once a round, in turn, after a warm-up.

    Args:
        sides: Name to what is timed.
        rounds: Number of times that each side is timed.
        least_s: A short call is repeated within a round until it takes about so long, in seconds: what is done
            once in many calls then falls into each round.
        count: Whether to count operations, which calls each side 64 times more.
        clock: What measures the time.
    """
    repeats = {name: _repeats(call, least_s, clock) for name, call in sides.items()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 == 0 else list(sides)[::-1]:
            times[name].append(1e6 * clock(sides[name], repeats[name]) / repeats[name])
    first = next(iter(times.values()), [])
    return {
        name: Timing(
            quartiles(times[name]), paired(times[name], first), operations(call) if count else None
        )
        for name, call in sides.items()
    }


def _repeats(call: Call, least_s: float, clock: Clock) -> int:
    clock(call, 1)  # the first call of a metric makes its state
    return max(1, round(least_s / max(clock(call, 1), 1e-9)))


def quartiles(values: Sequence[float]) -> Quartiles:
    """Median, lower and upper quartile."""
    values = sorted(values)
    quarter = len(values) // 4
    return statistics.median(values), values[quarter], values[-1 - quarter]


def paired(values: Sequence[float], others: Sequence[float]) -> Quartiles:
    """Quartiles of the ratios round by round: a slow moment of the machine is in both parts of a ratio."""
    return quartiles(
        [value / max(other, 1e-12) for value, other in zip(values, others, strict=True)]
    )


def threads(count: int | None) -> int:
    """Set the number of threads of torch, if one is given; returns what there is."""
    if count is not None:
        torch.set_num_threads(count)
    return torch.get_num_threads()
