"""How many samples stand behind the shares of a log, as far as their printed digits tell.

A share is k of n. The smallest n for which every value that was logged is such a share, within half
a unit of its last digit, is n itself or fewer, so that an interval is rather too wide than too narrow.
"""

from collections.abc import Collection, Iterable
from itertools import islice
from math import floor, gcd, log10, sqrt

import numpy as np

from ptmetrics.record.foreign_table import digits_of
from ptmetrics.record.schema import Z_95

LARGEST_N = 1_000_000
NEAR_RESOLUTION = 0.1  # one random value in ten would fit
CHANCE = 0.001  # that so small an n fits all values by chance: few values tell little
MOST_VALUES = 1000
SINGLE, DOUBLE = 2.0**-24, 1e-15  # the rounding of a share, however many digits are printed
ALL_DIGITS = 14  # decimals of a double that was printed whole
_BATCHES = (8, 10, 16, 20, 25, 32, 50, 64, 100, 128, 200, 256, 512)

Share = tuple[float, int]
"""A share as it was logged, and the decimals it was printed with."""


def samples_behind(columns: Iterable[Collection[Share]], *, exact: bool = False) -> int | None:
    """The number of samples behind shares of the same data; None where it cannot be told.

    Digits are told by column: whoever leaves out zeros at the end prints 0.483 beside 0.6175.

    Args:
        columns: The values of each column with their decimals.
        exact: Whether they are known to be no means of the means of batches, the last of which
            may be smaller. Else a part of the number counts, which holds for such means too.

    Example:
        >>> samples_behind([[(0.866667, 6), (0.913333, 6), (0.94, 2)]], exact=True)
        150
        >>> samples_behind([[(0.87, 2), (0.91, 2)]]) is None
        True

    Source: this project; tests/record/test_foreign_sizes.py measures how often it is right.
    """
    told: dict[float, float] = {}
    free: list[float] = []
    for shares in columns:
        halves = _half_units([share for share in shares if 0 < share[0] < 1])
        told.update(halves)
        free += sorted(halves.values())[: _free_values(halves)]
    if not told:
        return None
    ordered = sorted(told, key=told.__getitem__)[:MOST_VALUES]
    most = int(min(LARGEST_N, NEAR_RESOLUTION / (2 * told[ordered[0]])))
    numbers = np.arange(2, most + 1, dtype=np.float64)
    for value in ordered:
        hits = numbers * value
        numbers = numbers[np.abs(hits - np.rint(hits)) <= numbers * (told[value] + 1e-15)]
        if not numbers.size:
            return None
    found = int(numbers[0])
    if _chance(found, sorted(free)) > CHANCE:
        return None
    if exact:
        return found
    least = _least_of_batches(found)
    return max(part for part in range(1, least + 1) if found % part == 0)


def _half_units(shares: Collection[Share]) -> dict[float, float]:
    """Half a unit of the last digit of each value of a column, or the rounding of its type.

    A column has as many decimals, or as many significant digits, as its longest value. Zeros at
    the end do not count: 0.866700 may have been rounded before it was printed. What was computed
    from a rounded number, or stored as float32, differs from it far behind: 86.83000000000001 has
    two decimals, 0.8683000206947327 has four.
    """
    digits: dict[float, int] = {}
    for value, printed in shares:
        shortest = digits_of(round(value, ALL_DIGITS))
        if float(np.float32(value)) == value:
            shortest = digits_of(str(np.float32(value)))
        digits[value] = max(min(printed, shortest), digits.get(value, 0))
    decimals = max(digits.values(), default=0)
    lead = {value: floor(log10(value)) + 1 for value in digits}  # 0 of 0.5, -1 of 0.05
    significant = max((digits[value] + lead[value] for value in digits), default=0)
    rounding = SINGLE
    if decimals >= ALL_DIGITS and any(float(np.float32(value)) != value for value in digits):
        rounding = DOUBLE
    shown = {value: min(decimals, significant - lead[value]) for value in digits}
    return {value: max(0.5 * 10.0 ** -shown[value], rounding) for value in digits}


def _free_values(values: Iterable[float]) -> int:
    """How many values do not follow from others: of 0.5, 0.6, 0.7, 0.8 two."""
    ordered = np.sort(np.array(list(values)))
    if not ordered.size:
        return 0
    return 1 + np.unique(np.diff(ordered).round(ALL_DIGITS - 4)).size


def _chance(found: int, halves: Iterable[float]) -> float:
    """How many numbers up to the one found fit all values by chance, were they anything."""
    numbers = np.arange(1, found + 1, dtype=np.float64)
    chance = np.ones_like(numbers)
    for half in islice(halves, 50):
        chance *= np.minimum(1.0, numbers * 2 * half)
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
