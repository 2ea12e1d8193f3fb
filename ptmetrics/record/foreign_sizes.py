"""How many samples stand behind the shares of a log, as far as their printed digits tell.

A share is k of n. The smallest n for which every value that was logged is such a share, within half
a unit of its last digit, is n itself or fewer, so that an interval is rather too wide than too narrow.
"""

from collections.abc import Iterable
from math import gcd, isfinite, sqrt

import numpy as np

from ptmetrics.record.schema import Z_95

LARGEST_N = 1_000_000
NEAR_RESOLUTION = 0.1  # one random value in ten would fit
CHANCE = 0.05  # that so small an n fits all values by chance
MOST_VALUES = 1000
SINGLE, DOUBLE = 2.0**-24, 1e-15  # the rounding of a share, however many digits are printed
ALL_DIGITS = 14  # decimals of a double that was printed whole
_BATCHES = (8, 10, 16, 20, 25, 32, 50, 64, 100, 128, 200, 256, 512)

Share = tuple[float, int]
"""A share as it was logged, and the decimals it was printed with."""


def samples_behind(shares: Iterable[Share], *, exact: bool = False) -> int | None:
    """The number of samples behind shares of the same data; None where it cannot be told.

    Args:
        shares: Each value with its decimals.
        exact: Whether they are known to be no means of the means of batches, the last of which
            may be smaller. Else a part of the number counts, which holds for such means too.

    Example:
        >>> samples_behind([(0.866667, 6), (0.913333, 6), (0.94, 6)], exact=True)
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
    most = int(min(LARGEST_N, NEAR_RESOLUTION / widths[0]))
    numbers = np.arange(2, most + 1, dtype=np.float64)
    for share, width in zip(ordered, widths, strict=True):
        hits = numbers * share[0]
        numbers = numbers[np.abs(hits - np.rint(hits)) <= numbers * (width / 2 + 1e-15)]
        if not numbers.size:
            return None
    found = int(numbers[0])
    if _chance(found, widths) > CHANCE:
        return None
    if exact:
        return found
    least = _least_of_batches(found)
    return max(part for part in range(1, least + 1) if found % part == 0)


def _half_unit(share: Share) -> float:
    """Half a unit of the last digit, or the rounding of the type."""
    value, digits = share
    rounding = SINGLE
    if digits >= ALL_DIGITS and float(np.float32(value)) != value:
        rounding = DOUBLE
    return max(0.5 * 10.0**-digits, rounding)


def _chance(found: int, widths: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    """How many numbers up to the one found fit all values by chance, were they anything."""
    numbers = np.arange(1, found + 1, dtype=np.float64)
    chance = np.ones_like(numbers)
    for width in widths[:50]:
        chance *= np.minimum(1.0, numbers * width)
    return float(chance.sum())


def _least_of_batches(found: int) -> int:
    """The least n whose mean of batch means is a share of so many; that number itself for none.

    A mean over m batches of b rows, of which the last has r, is a share of m·lcm(b, r). A round
    number is a size that people choose: only one that is round as well is taken in its place.
    """
    least = found
    for batch in _BATCHES:
        for last in range(1, batch):
            batches, rest = divmod(found, batch * last // gcd(batch, last))
            rows = (batches - 1) * batch + last
            if not rest and batches > 1 and (found % 50 or rows % 10 == 0):
                least = min(least, rows)
    return least


def wilson_interval(value: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n samples.

    Source: Wilson 1927.
    """
    squared = Z_95**2
    centre = (value + squared / (2 * n)) / (1 + squared / n)
    half = Z_95 * sqrt(max(value * (1 - value), 0) / n + squared / (4 * n * n)) / (1 + squared / n)
    return min(centre - half, value), max(centre + half, value)
