"""Trend tests against SciPy and against counting."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from ptmetrics.verdict.trends import (
    jitter,
    kendall_s,
    kendall_tau,
    rising_p,
    running_median,
    smoothed,
    theil_sen,
)

curves = arrays(np.float64, st.integers(2, 40), elements=st.floats(-100, 100, width=16))
distinct = arrays(np.float64, st.integers(2, 12), elements=st.floats(-100, 100), unique=True)


@given(distinct)
def test_a_short_curve_without_ties_gets_the_exact_p(curve: np.ndarray) -> None:
    exact = stats.kendalltau(np.arange(curve.size), curve, method="exact", alternative="greater")
    assert rising_p(curve) == pytest.approx(exact.pvalue)


def test_the_exact_p_is_what_counting_all_orders_gives() -> None:
    curve = np.array([1.0, 3.0, 2.0, 4.0, 5.0])
    orders = [kendall_s(np.array(order)) for order in permutations(range(5))]
    assert rising_p(curve) == pytest.approx(np.mean(np.array(orders) >= kendall_s(curve)))


@given(st.integers(13, 60), st.integers(0, 2**32 - 1), st.booleans())
def test_a_long_curve_gets_scipys_p_up_to_the_correction_for_continuity(
    n: int, seed: int, tied: bool
) -> None:
    curve = np.random.default_rng(seed).normal(size=n)
    curve = np.round(curve) if tied else curve
    assume(np.ptp(curve) > 0)
    reference = stats.kendalltau(np.arange(n), curve, method="asymptotic", alternative="greater")
    # SciPy leaves the continuity correction out, which is worth one pair out of the standard deviation.
    sd = np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    assert rising_p(curve) == pytest.approx(reference.pvalue, abs=0.6 / sd + 0.01)


@given(curves)
def test_s_is_scipys_tau_over_all_pairs(curve: np.ndarray) -> None:
    pairs = curve.size * (curve.size - 1) // 2
    signs = sum(np.sign(b - a) for i, a in enumerate(curve) for b in curve[i + 1 :])
    assert kendall_tau(curve) == pytest.approx(signs / pairs)


@given(curves)
def test_the_slope_is_scipys(curve: np.ndarray) -> None:
    assert theil_sen(curve) == pytest.approx(stats.theilslopes(curve).slope)


def test_curves_that_cannot_rise_have_p_one() -> None:
    for curve in ([], [1.0], [2.0, 2.0, 2.0]):
        assert rising_p(np.array(curve)) == 1.0
    assert kendall_tau(np.array([1.0])) == 0.0
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
