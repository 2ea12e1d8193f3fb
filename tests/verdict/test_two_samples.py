"""Exact tests and intervals of differences against SciPy and against counting."""

from itertools import permutations
from math import sqrt

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from judged_sources import wilson
from scipy import stats

from ptmetrics.verdict.two_samples import (
    bonett_price,
    holm,
    hybrid_difference,
    mid_p_better,
    rank_sum_rank,
    welch,
)

counts = st.integers(0, 400)


@given(counts, counts)
def test_the_mid_p_is_scipys_tail_less_half_the_point(wins: int, losses: int) -> None:
    n = wins + losses
    expected = stats.binom.sf(wins, n, 0.5) + 0.5 * stats.binom.pmf(wins, n, 0.5)
    assert mid_p_better(wins, losses) == pytest.approx(expected, rel=1e-9)


@given(counts, counts)
def test_the_mid_p_of_both_sides_adds_to_one(wins: int, losses: int) -> None:
    assert mid_p_better(wins, losses) + mid_p_better(losses, wins) == pytest.approx(1.0)


def test_a_tie_is_no_evidence() -> None:
    assert mid_p_better(24, 24) == pytest.approx(0.5)
    assert mid_p_better(0, 0) == 0.5


@given(counts, counts, counts)
def test_bonett_price_holds_the_difference_and_mirrors(wins: int, losses: int, ties: int) -> None:
    n = wins + losses + ties + 1
    low, high = bonett_price(wins, losses, n, 1.96)
    assert -1.0 <= low <= (wins - losses) / (n + 2) <= high <= 1.0
    assert bonett_price(losses, wins, n, 1.96) == (pytest.approx(-high), pytest.approx(-low))


def test_bonett_price_is_its_formula() -> None:
    first, second = 13 / 102, 5 / 102
    half = 1.96 * sqrt((first + second - (first - second) ** 2) / 102)
    assert bonett_price(12, 4, 100, 1.96) == pytest.approx(
        (first - second - half, first - second + half)
    )


def test_the_hybrid_interval_is_newcombes_published_example() -> None:
    # Newcombe 1998, table II, example (a): 56/70 against 48/80, method 10.
    low, high = hybrid_difference(wilson(56, 70), wilson(48, 80))
    assert (low, high) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))


def test_correlation_narrows_the_hybrid_interval() -> None:
    p, q = wilson(56, 70), wilson(48, 80)
    (low, high), (tight_low, tight_high) = (
        hybrid_difference(p, q),
        hybrid_difference(p, q, correlation=0.6),
    )
    assert low < tight_low < tight_high < high


def test_a_missing_interval_gives_no_interval_of_the_difference() -> None:
    assert np.isnan(hybrid_difference((0.9, np.nan, np.nan), wilson(48, 80))).all()
    assert np.isnan(hybrid_difference(wilson(48, 80), (0.9, np.nan, np.nan), correlation=0.5)).all()


@given(
    st.lists(st.floats(-50, 50), min_size=2, max_size=8, unique=True),
    st.lists(st.floats(-50, 50), min_size=2, max_size=8, unique=True),
)
def test_welch_is_scipys_interval(first: list[float], second: list[float]) -> None:
    assume(max(np.ptp(first), np.ptp(second)) >= 1e-3)
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert welch(first, second) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-6)


def test_welch_without_spread_is_the_point() -> None:
    assert welch([2.0, 2.0], [1.0, 1.0]) == (1.0, 1.0)


def test_holm_rejects_step_by_step() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05) == [True, False, False, True]
    assert holm([0.001, 0.02, 0.03], 0.05) == [True, True, True]
    assert holm([], 0.05) == []


def test_the_rank_bound_is_what_counting_all_orders_gives() -> None:
    # Every order of 3 + 3 values is equally likely; the k-th smallest pairwise comparison errs this often.
    wins = [
        sum(a < b for a in order[:3] for b in order[3:])
        for order in permutations(range(6))
        if list(order[:3]) == sorted(order[:3]) and list(order[3:]) == sorted(order[3:])
    ]
    assert len(wins) == 20
    rank = rank_sum_rank(3, 3, 0.05)
    assert (
        sum(count < rank for count in wins) / 20
        <= 0.05
        < sum(count < rank + 1 for count in wins) / 20
    )


def test_the_rank_bound_is_the_table_of_mann_and_whitney() -> None:
    assert [rank_sum_rank(n, n, 0.05) for n in (2, 3, 4, 5, 10)] == [0, 1, 2, 5, 28]
