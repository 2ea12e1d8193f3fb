"""Timing side by side.

The sides take turns, so that whatever else the machine does falls on all of them alike.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

Call = Callable[[], object]
Clock = Callable[[Call, int], float]  # seconds that so many calls take
Quartiles = tuple[float, float, float]  # median, lower and upper quartile
COUNTED = 64  # calls, for the mean number of operations
LEAST_S = 1e-6  # of a call; events of a device tell no shorter time apart


@dataclass(frozen=True)
class Timing:
    """How long one call of a side took.

    Attributes:
        microseconds: Over the rounds.
        ratio: Time over that of the first side in the same round.
    """

    microseconds: Quartiles
    ratio: Quartiles


class OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch has no types
    """Counts torch operations that launch a kernel on a device: those that are no views."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aliases = [value.alias_info for value in func._schema.returns[:1]]
        is_view = any(alias is not None and not alias.is_write for alias in aliases)
        self.count += not is_view
        return func(*args, **(kwargs or {}))


def operations(call: Call, times: int = COUNTED) -> float:
    """How many torch operations a call launches; what is done once in many calls is in the mean."""
    make: Any = OperationCounter
    with make() as counter:
        for _ in range(times):
            call()
    return float(counter.count) / times


def host_clock(call: Call, repeats: int) -> float:
    """Seconds by the clock of the host."""
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return time.perf_counter() - started


def race(
    sides: Mapping[str, Call], *, rounds: int, least_s: float = 10e-3, clock: Clock = host_clock
) -> dict[str, Timing]:
    """Time each side once a round, in turn, after a warm-up.

    Args:
        sides: Name to what is timed.
        rounds: Number of times that each side is timed.
        least_s: A short call is repeated within a round until it takes about so long, in seconds.
            What is done once in many calls then falls into each round.
        clock: What measures the time.
    """
    repeats = {}
    for name, call in sides.items():
        clock(call, 1)  # the first call of a metric makes its state
        once = max(clock(call, 1), LEAST_S)
        repeats[name] = max(1, round(least_s / once))
    times: dict[str, list[float]] = {name: [] for name in sides}
    for name in turns(list(sides), rounds):
        times[name].append(1e6 * clock(sides[name], repeats[name]) / repeats[name])
    first = next(iter(times.values()), [])
    return {name: Timing(quartiles(took), paired(took, first)) for name, took in times.items()}


def turns(names: Sequence[Any], rounds: int) -> list[Any]:
    """All names once a round, forwards and backwards in turn."""
    order: list[Any] = []
    for number in range(rounds):
        if number % 2 == 0:
            order += names
        else:
            order += reversed(names)
    return order


def quartiles(values: Sequence[float]) -> Quartiles:
    """Median, lower and upper quartile."""
    values = sorted(values)
    quarter = len(values) // 4
    return statistics.median(values), values[quarter], values[-1 - quarter]


def paired(values: Sequence[float], others: Sequence[float]) -> Quartiles:
    """Quartiles of the ratios round by round.

    A slow moment of the machine is in both parts of a ratio.
    """
    pairs = zip(values, others, strict=True)
    return quartiles([value / max(other, 1e-12) for value, other in pairs])
