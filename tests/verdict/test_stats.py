"""Statistics against SciPy, against published examples, and against counting."""

import math
from itertools import permutations
from math import sqrt

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from judged_sources import wilson
from scipy import special, stats

from ptmetrics.verdict.stats import (
    binomial_lower,
    binomial_mass,
    binomial_upper,
    bonett_price,
    holm,
    hybrid_difference,
    incomplete_beta,
    jitter,
    kendall_s,
    mid_p_better,
    rank_sum_rank,
    rising_p,
    running_median,
    smoothed,
    student_t_quantile,
    student_t_upper,
    theil_sen,
    welch,
)

LAW = settings(deadline=None, max_examples=40)

# Tails and quantiles


@LAW
@given(
    st.floats(0.001, 0.999).filter(lambda p: abs(p - 0.5) > 1e-3),
    st.floats(0.5, 1e5),
)
def test_the_quantile_of_students_t_is_scipys_to_1e_8(p: float, degrees: float) -> None:
    assert student_t_quantile(p, degrees) == pytest.approx(stats.t.ppf(p, degrees), rel=1e-8)


@pytest.mark.parametrize("degrees", [0.3, 1.0, 2.0, 4.0, 1e6])
@pytest.mark.parametrize("p", [1e-6, 0.025, 0.5, 0.975, 1 - 1e-6])
def test_the_quantile_holds_far_out_and_for_few_degrees(p: float, degrees: float) -> None:
    assert student_t_quantile(p, degrees) == pytest.approx(
        stats.t.ppf(p, degrees), rel=1e-8, abs=1e-12
    )


@LAW
@given(st.floats(0.0, 50.0), st.floats(0.5, 1e4))
def test_the_tail_of_students_t_is_scipys(t: float, degrees: float) -> None:
    assert student_t_upper(t, degrees) == pytest.approx(
        stats.t.sf(t, degrees), rel=1e-8, abs=1e-300
    )


def test_an_unknown_quantile_is_nan() -> None:
    assert math.isnan(student_t_quantile(math.nan, 3.0))
    assert math.isnan(student_t_quantile(0.9, math.nan))


@LAW
@given(st.integers(0, 300), st.integers(0, 300), st.floats(0.01, 0.99))
def test_binomial_tails_are_scipys(k: int, more: int, p: float) -> None:
    n = k + more
    assert binomial_upper(k, n, p) == pytest.approx(
        stats.binom.sf(k - 1, n, p), rel=1e-9, abs=1e-250
    )
    assert binomial_lower(k, n, p) == pytest.approx(stats.binom.cdf(k, n, p), rel=1e-9, abs=1e-250)
    assert binomial_mass(k, n, p) == pytest.approx(stats.binom.pmf(k, n, p), rel=1e-9, abs=1e-250)


@pytest.mark.parametrize("n", [10**5, 10**6, 10**7])
def test_binomial_tails_hold_for_millions(n: int) -> None:
    for k in (n // 2, n // 2 + int(math.sqrt(n)), n // 2 - int(2 * math.sqrt(n))):
        assert binomial_upper(k, n, 0.5) == pytest.approx(stats.binom.sf(k - 1, n, 0.5), rel=1e-6)


def test_tails_outside_the_range_are_zero_or_one() -> None:
    assert (binomial_upper(0, 5, 0.3), binomial_upper(6, 5, 0.3), binomial_mass(6, 5, 0.3)) == (
        1.0,
        0.0,
        0.0,
    )
    assert (binomial_lower(-1, 5, 0.3), binomial_lower(5, 5, 0.3)) == (0.0, 1.0)


@settings(max_examples=50)
@given(st.floats(0.1, 500), st.floats(0.1, 500), st.floats(0.0, 1.0))
def test_the_incomplete_beta_function_is_scipys_and_its_mirror_adds_to_one(
    a: float, b: float, x: float
) -> None:
    value = incomplete_beta(a, b, x, 1.0 - x)
    assert value == pytest.approx(special.betainc(a, b, x), rel=1e-8, abs=1e-12)
    assert value + incomplete_beta(b, a, 1.0 - x, x) == pytest.approx(1.0, abs=1e-9)


# Tests on counts, intervals of differences


counts = st.integers(0, 400)


@LAW
@given(counts, counts)
def test_the_mid_p_is_scipys_tail_less_half_the_point(wins: int, losses: int) -> None:
    n = wins + losses
    expected = stats.binom.sf(wins, n, 0.5) + 0.5 * stats.binom.pmf(wins, n, 0.5)
    assert mid_p_better(wins, losses) == pytest.approx(expected, rel=1e-9)


@LAW
@given(counts, counts)
def test_the_mid_p_of_both_sides_adds_to_one(wins: int, losses: int) -> None:
    assert mid_p_better(wins, losses) + mid_p_better(losses, wins) == pytest.approx(1.0)


def test_a_tie_is_no_evidence() -> None:
    assert mid_p_better(24, 24) == pytest.approx(0.5)
    assert mid_p_better(0, 0) == 0.5


@LAW
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


@LAW
@given(
    st.lists(st.floats(-50, 50), min_size=2, max_size=8, unique=True),
    st.lists(st.floats(-50, 50), min_size=2, max_size=8, unique=True),
)
def test_welch_is_scipys_interval(first: list[float], second: list[float]) -> None:
    if max(np.ptp(first), np.ptp(second)) < 1e-3:
        return
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


# Trends


curves = arrays(np.float64, st.integers(2, 40), elements=st.floats(-100, 100, width=16))


distinct = arrays(np.float64, st.integers(2, 12), elements=st.floats(-100, 100), unique=True)


@LAW
@given(distinct)
def test_a_short_curve_without_ties_gets_the_exact_p(curve: np.ndarray) -> None:
    exact = stats.kendalltau(np.arange(curve.size), curve, method="exact", alternative="greater")
    assert rising_p(curve) == pytest.approx(exact.pvalue)


def test_the_exact_p_is_what_counting_all_orders_gives() -> None:
    curve = np.array([1.0, 3.0, 2.0, 4.0, 5.0])
    orders = [kendall_s(np.array(order)) for order in permutations(range(5))]
    assert rising_p(curve) == pytest.approx(np.mean(np.array(orders) >= kendall_s(curve)))


@LAW
@given(st.integers(13, 60), st.integers(0, 2**32 - 1), st.booleans())
def test_a_long_curve_gets_scipys_p_with_the_correction_for_continuity(
    n: int, seed: int, tied: bool
) -> None:
    curve = np.random.default_rng(seed).normal(size=n)
    if tied:
        curve = np.round(curve)
    s = kendall_s(curve)
    assume(s != 0)
    reference = stats.kendalltau(np.arange(n), curve, method="asymptotic", alternative="greater")
    # SciPy leaves the correction out: its z is s over the standard deviation, and ours s - 1.
    z = stats.norm.isf(reference.pvalue)
    assert rising_p(curve) == pytest.approx(stats.norm.sf(z * (s - 1) / s), rel=1e-6)


@LAW
@given(curves)
def test_s_counts_the_pairs_that_rise_less_those_that_fall(curve: np.ndarray) -> None:
    signs = [np.sign(b - a) for i, a in enumerate(curve) for b in curve[i + 1 :]]
    assert kendall_s(curve) == sum(signs)


@LAW
@given(curves)
def test_the_slope_is_scipys(curve: np.ndarray) -> None:
    assert theil_sen(curve) == pytest.approx(stats.theilslopes(curve).slope)


def test_curves_that_cannot_rise_have_p_one() -> None:
    for curve in ([], [1.0], [2.0, 2.0, 2.0]):
        assert rising_p(np.array(curve)) == 1.0
    assert np.isnan(theil_sen(np.array([1.0])))


def test_a_straight_line_has_no_jitter_and_white_noise_its_own() -> None:
    assert jitter(np.arange(30.0)) == 0.0
    noise = np.random.default_rng(0).normal(scale=0.3, size=3000)
    assert jitter(noise + np.linspace(0, 5, 3000)) == pytest.approx(0.3, rel=0.1)


def test_the_running_median_removes_a_spike_and_keeps_the_ends() -> None:
    assert running_median(np.array([1.0, 9.0, 2.0, 3.0, 4.0])).tolist() == [1.0, 2.0, 3.0, 3.0, 4.0]
    assert running_median(np.array([2.0, 1.0])).tolist() == [2.0, 1.0]


def test_smoothing_starts_at_the_first_value_and_leaves_its_input_alone() -> None:
    curve = np.array([4.0, 2.0, 2.0])
    assert smoothed(curve).tolist() == [4.0, 3.0, 2.5]
    assert curve.tolist() == [4.0, 2.0, 2.0]
