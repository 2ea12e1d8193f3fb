"""Exact tests on few counts, and intervals of differences."""

from collections.abc import Sequence
from functools import cache
from math import comb, sqrt
from statistics import fmean, variance

from ptmetrics.verdict.distributions import binomial_mass, binomial_upper, student_t_quantile


def mid_p_better(wins: int, losses: int) -> float:
    """One-sided mid-p McNemar test: how surprising are so many wins if wins and losses were a coin toss?

    Small values speak for the winner; range (0, 1]; 0.5 when there is neither win nor loss.

    Args:
        wins: Samples that only the model has right.
        losses: Samples that only the other has right.

    Source: Fagerland, Lydersen & Laake, BMC Med. Res. Methodol. 13:91, 2013.
    """
    n = wins + losses
    return binomial_upper(wins + 1, n, 0.5) + 0.5 * binomial_mass(wins, n, 0.5)


def bonett_price(wins: int, losses: int, n: int, z: float) -> tuple[float, float]:
    """Interval of (wins − losses) / n, the difference of two accuracies on the same n samples.

    Args:
        wins: Samples that only the first has right.
        losses: Samples that only the second has right.
        n: All samples, above 0.
        z: Normal quantile of the confidence, 1.96 for 95 % on two sides.

    Source: Bonett & Price, Br. J. Math. Stat. Psychol. 65, 2012: Wald after one more of each.
    """
    first, second = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    half = z * sqrt((first + second - (first - second) ** 2) / (n + 2))
    return max(-1.0, first - second - half), min(1.0, first - second + half)


def hybrid_difference(
    first: tuple[float, float, float],
    second: tuple[float, float, float],
    *,
    correlation: float = 0.0,
) -> tuple[float, float]:
    """Interval of first − second from the interval of each (Newcombe's hybrid score, MOVER).

    Args:
        first: Value, low, high.
        second: Value, low, high.
        correlation: Correlation of the two estimates; 0 for independent samples.

    Source: Newcombe, Stat. Med. 17, 1998; Zou & Donner, Stat. Med. 27, 2008.
    """
    (p, p_low, p_high), (q, q_low, q_high) = first, second

    def distance(a: float, b: float) -> float:
        square = a * a + b * b - 2.0 * correlation * a * b
        return sqrt(square) if not square < 0.0 else 0.0  # so written that NaN stays NaN

    return p - q - distance(p - p_low, q_high - q), p - q + distance(p_high - p, q - q_low)


def welch(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the difference of two means whose variances may differ.

    Args:
        first: At least two values.
        second: At least two values.

    Source: Welch, Biometrika 34, 1947.
    """
    value, parts = (
        fmean(first) - fmean(second),
        (variance(first) / len(first), variance(second) / len(second)),
    )
    spread = sum(parts)
    if spread == 0.0:
        return value, value
    degrees = spread**2 / (parts[0] ** 2 / (len(first) - 1) + parts[1] ** 2 / (len(second) - 1))
    half = student_t_quantile(0.975, degrees) * sqrt(spread)
    return value - half, value + half


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which of many tests hold at family-wise level alpha, by Holm's step-down rule."""
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > alpha / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected


@cache
def _rank_sum_ways(first: int, second: int, wins: int) -> int:
    """Orders of two samples in which exactly `wins` of the first × second pairs are won by the first."""
    if wins < 0:
        return 0
    if first == 0 or second == 0:
        return int(wins == 0)
    return _rank_sum_ways(first - 1, second, wins - second) + _rank_sum_ways(
        first, second - 1, wins
    )


def rank_sum_rank(first: int, second: int, alpha: float) -> int:
    """Which of the sorted pairwise ratios bounds the true one with one-sided confidence 1 − alpha.

    Args:
        first: Size of the first sample.
        second: Size of the second.
        alpha: One-sided error, e.g. 0.05.

    Returns:
        The largest k with P(fewer than k pairs lie below the true ratio) ≤ alpha; 0 where the samples are too
        few for any bound.

    Source: inversion of the Mann–Whitney test (Lehmann 1963), distribution by its recursion.
    """
    total, below, k = comb(first + second, first), 0, 0
    while (
        k < first * second and (below := below + _rank_sum_ways(first, second, k)) <= alpha * total
    ):
        k += 1
    return k
