"""Tails and quantiles against SciPy."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from ptmetrics.verdict.stats import (
    binomial_lower,
    binomial_mass,
    binomial_upper,
    incomplete_beta,
    student_t_quantile,
    student_t_upper,
)


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


@given(st.floats(0.0, 50.0), st.floats(0.5, 1e4))
def test_the_tail_of_students_t_is_scipys(t: float, degrees: float) -> None:
    assert student_t_upper(t, degrees) == pytest.approx(
        stats.t.sf(t, degrees), rel=1e-8, abs=1e-300
    )


def test_an_unknown_quantile_is_nan() -> None:
    assert math.isnan(student_t_quantile(math.nan, 3.0))
    assert math.isnan(student_t_quantile(0.9, math.nan))


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
