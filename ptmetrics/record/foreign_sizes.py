"""How many samples stand behind the shares of a log, as far as their printed digits tell.

A share is k of n. The smallest n for which every value that was logged is such a share, within half
a unit of its last digit, is n itself or fewer, so that an interval is rather too wide than too narrow.
"""

from collections.abc import Iterable
from math import isfinite, sqrt

import numpy as np

from ptmetrics.record.schema import Z_95

LARGEST = 1_000_000
NEAR_RESOLUTION = 0.1  # one random value in ten would fit
BY_CHANCE = 0.05  # that so small an n fits all values by chance
MOST_VALUES = 1000
SINGLE = 2.0**-24  # the rounding of a share in single precision, however many digits are printed
_BATCHES = (16, 32, 64, 128, 256, 512)

Share = tuple[float, int]
"""A share as it was logged, and the decimals it was printed with."""


def samples_behind(shares: Iterable[Share], *, batch_means: bool = True) -> int | None:
    """The number of samples behind shares of the same data; None where it cannot be told.

    Args:
        shares: Each value with its decimals.
        batch_means: Whether they may be means of the means of batches, the last of which is
            smaller: then the least number of samples for which that could be so counts.

    Example:
        >>> samples_behind([(0.866667, 6), (0.913333, 6), (0.94, 6)])
        150
        >>> samples_behind([(0.87, 2), (0.91, 2)]) is None
        True

    Source: this project; tests/record/test_foreign_sizes.py measures how often it is right.
    """
    told = {(value, digits) for value, digits in shares if isfinite(value) and 0 < value < 1}
    if not told:
        return None
    ordered = sorted(told, key=_half_unit)[:MOST_VALUES]
    widths = np.array([min(1.0, 2 * _half_unit(share)) for share in ordered])
    most = int(min(LARGEST, NEAR_RESOLUTION / widths[0]))
    numbers = np.arange(2, most + 1, dtype=np.float64)
    for share, width in zip(ordered, widths, strict=True):
        hits = numbers * share[0]
        numbers = numbers[np.abs(hits - np.rint(hits)) <= numbers * (width / 2 + 1e-15)]
        if not numbers.size:
            return None
    found = int(numbers[0])
    if _chance(found, widths) > BY_CHANCE:
        return None
    if batch_means:
        return _least_of_batches(found)
    return found


def _half_unit(share: Share) -> float:
    """Half a unit of the last digit, or the rounding of the type."""
    return max(0.5 * 10.0 ** -share[1], SINGLE)


def _chance(found: int, widths: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    """How many numbers up to the one found fit all values by chance, were they anything."""
    numbers = np.arange(1, found + 1, dtype=np.float64)
    chance = np.ones_like(numbers)
    for width in widths[:50]:
        chance *= np.minimum(1.0, numbers * width)
    return float(chance.sum())


def _least_of_batches(found: int) -> int:
    """The least n whose mean of batch means is a share of as many; that number itself for none.

    A mean over m batches of b rows, of which the last has r, is a share of m·lcm(b, r).
    """
    least = found
    for batch in _BATCHES:
        for last in range(1, batch):
            batches, rest = divmod(found, int(np.lcm(batch, last)))
            if not rest and batches > 1:
                least = min(least, (batches - 1) * batch + last)
    return least


def wilson(value: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n samples.

    Source: Wilson 1927.
    """
    squared = Z_95**2
    centre = (value + squared / (2 * n)) / (1 + squared / n)
    half = Z_95 * sqrt(max(value * (1 - value), 0) / n + squared / (4 * n * n)) / (1 + squared / n)
    return min(centre - half, value), max(centre + half, value)
