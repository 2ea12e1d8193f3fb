"""Intervals against their definitions and their laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from registry import LAW
from scipy import stats

from ptmetrics.metrics.estimate import Array
from ptmetrics.metrics.intervals import (
    Z,
    logit_interval,
    mean_interval,
    mover,
    newcombe,
    student,
    widened,
    wilson,
)

shares = st.floats(0, 1)
sizes = st.floats(1, 1e7)


@pytest.fixture(autouse=True)
def _undefined_is_nan() -> object:
    """As in `compute()`, where NaN is no surprise."""
    with np.errstate(all="ignore"):
        yield


def f64(*values: float) -> Array:
    return np.array(values, dtype=np.float64)


def mean_of(*given: Array) -> list[float]:
    """Mean, low and high of proportions."""
    return [float(x) for x in mover(*given)]


def root_of_the_score_equation(p: float, n: float, end: float) -> float:
    """The θ between p and `end` where |p − θ| is Z standard errors of θ, by bisection."""
    inside, outside = p, end
    for _ in range(200):
        middle = (inside + outside) / 2
        if abs(p - middle) <= Z * math.sqrt(middle * (1 - middle) / n):
            inside = middle
        else:
            outside = middle
    return inside


@given(shares, st.floats(1, 1e6))
@LAW
def test_wilson_solves_the_score_equation(p: float, n: float) -> None:
    low, high = wilson(f64(p), f64(n))
    assert low[0] == pytest.approx(root_of_the_score_equation(p, n, 0.0), abs=1e-9)
    assert high[0] == pytest.approx(root_of_the_score_equation(p, n, 1.0), abs=1e-9)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (24, 200, 0.0820, 0.1723),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),
    ],
)
def test_wilson_gives_the_published_limits(hits: int, n: int, low: float, high: float) -> None:
    got = wilson(f64(hits / n), f64(n))
    assert [round(float(end[0]), 4) for end in got] == [low, high]


@given(shares, sizes, shares, st.floats(1.01, 10))
@LAW
def test_wilson_holds_its_value_mirrors_rises_with_it_and_narrows_with_n(
    p: float, n: float, q: float, more: float
) -> None:
    values = f64(p, 1 - p, max(p, q), p)
    low, high = wilson(values, f64(n, n, n, n * more))
    assert (low >= 0).all()
    assert (low <= values).all()
    assert (values <= high).all()
    assert (high <= 1).all()
    assert low[0] == pytest.approx(1 - high[1], abs=1e-12)
    assert low[2] >= low[0] - 1e-12
    assert high[2] >= high[0] - 1e-12
    assert high[3] - low[3] < high[0] - low[0]


def test_wilson_of_nothing_is_nan_and_at_the_edges_is_exact() -> None:
    low, high = wilson(f64(math.nan, 0.5, 0.0, 1.0), f64(0, 0, 5, 5))
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [True, True, False, False]
    assert low[2] == 0.0
    assert high[3] == 1.0


@given(shares, sizes)
@LAW
def test_the_mean_of_one_proportion_has_its_wilson_interval(p: float, n: float) -> None:
    mean, *ends = mean_of(f64(p), f64(n))
    assert ends == pytest.approx([end[0] for end in wilson(f64(p), f64(n))], abs=1e-12)
    assert mean == p


@given(st.lists(st.tuples(shares, st.integers(1, 10**6)), min_size=1, max_size=8), st.randoms())
@LAW
def test_the_mean_of_proportions_holds_its_value_in_any_order_and_narrows_with_n(
    classes: list[tuple[float, int]], random: "np.random.Generator"
) -> None:
    p, n = (f64(*column) for column in zip(*classes, strict=True))
    mean, low, high = mean_of(p, n)
    assert 0 <= low <= mean <= high <= 1
    assert mean == pytest.approx(p.mean(), abs=1e-12)
    more = mean_of(p, n * 4)
    assert more[2] - more[1] < high - low
    order = list(range(len(p)))
    random.shuffle(order)
    assert mean_of(p[order], n[order]) == pytest.approx([mean, low, high])
    undefined = mean_of(np.append(p, math.nan), np.append(n, math.nan))
    assert undefined == pytest.approx([mean, low, high], abs=1e-12)


def test_a_constant_in_a_mean_moves_the_value_and_adds_no_doubt() -> None:
    mean, *ends = mean_of(f64(0.5, 0.0), f64(100, math.nan))
    alone = wilson(f64(0.5), f64(100))
    assert mean == 0.25
    assert ends == pytest.approx([end[0] / 2 for end in alone], abs=1e-12)
    assert mean_of(f64(1.0, 0.0), f64(math.nan, 0)) == [0.5, 0.5, 0.5]
    assert np.isnan(mover(f64(math.nan), f64(math.nan))).all()


def test_shares_weigh_the_proportions_and_none_at_all_weighs_them_alike() -> None:
    p, n = f64(0.2, 0.9, 0.5), f64(30, 60, 10)
    mean, low, high = mean_of(p, n, f64(1, 3, 0))
    two = mean_of(p[:2], n[:2], f64(0.25, 0.75))
    assert mean == pytest.approx(0.25 * 0.2 + 0.75 * 0.9)
    assert [low, high] == pytest.approx(two[1:])
    assert mean_of(p, n, f64(0, 0, 0)) == pytest.approx(mean_of(p, n))


def test_a_function_that_a_proportion_goes_through_takes_its_ends_along() -> None:
    p, n = f64(0.3), f64(40)
    through = mover(p, n, through=np.square)
    assert [*through] == pytest.approx([0.09, *(end[0] ** 2 for end in wilson(p, n))])


def test_the_mean_of_many_perfect_classes_is_as_sure_as_all_their_samples_together() -> None:
    classes, n = 50, 20
    _, low, high = mover(np.ones(classes), np.full(classes, float(n)))
    pooled, _ = wilson(f64(1.0), f64(classes * n))
    assert high == 1.0
    assert 1 - low == pytest.approx(1 - pooled[0], rel=0.02)


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    x = np.random.default_rng(0).normal(3, 2, 50)
    sums = f64(50, 50, 50, x.sum(), x.sum(), (x**2).sum())
    half = stats.t.ppf(0.975, 49) * x.std(ddof=1) / math.sqrt(50)
    expected = [x.mean(), x.mean() - half, x.mean() + half]
    assert [*mean_interval(sums)] == pytest.approx(expected, rel=1e-5)
    once, low, high = mean_interval(f64(1, 1, 1, 7, 7, 49))
    assert once == 7
    assert math.isnan(low)
    assert math.isnan(high)
    assert np.isnan(mean_interval(f64(0, 0, 0, 0, 0, 0))).all()
    both = mean_interval(np.stack((sums, f64(1, 1, 1, 7, 7, 49)), 1))
    assert [end[0] for end in both] == pytest.approx([*map(float, mean_interval(sums))])


def six_sums(x: np.ndarray, w: np.ndarray | None = None) -> np.ndarray:
    w = np.ones_like(x) if w is None else w
    return f64(len(x), w.sum(), w @ w, w @ x, (w * w) @ x, (w * x) @ (w * x))


def test_the_mean_of_zeros_and_ones_has_wilsons_interval_and_so_has_one_without_spread() -> None:
    for hits, n in ((7, 40), (0, 12), (40, 40)):
        x = np.repeat([1.0, 0.0], [hits, n - hits])
        value, low, high = mean_interval(six_sums(x), 0.0, 1.0)
        expected = wilson(np.float64(hits / n), np.float64(n))
        assert value == pytest.approx(hits / n)
        # The unbiased variance is worth n − 1 rows; no bounded number varies more than n allow.
        assert [low, high] == pytest.approx([*map(float, expected)], rel=1e-12, abs=1e-15)


def test_a_bounded_mean_has_wilsons_interval_at_the_n_that_its_variance_is_worth() -> None:
    x = 2 * np.random.default_rng(1).beta(1, 9, 60)
    _, low, high = mean_interval(six_sums(x), 0.0, 2.0)
    share = x.mean() / 2
    worth = share * (1 - share) / (x.var(ddof=1) / 4 / 60)
    assert worth > 60
    expected = wilson(np.float64(share), np.float64(worth))
    assert [low, high] == pytest.approx([2 * expected[0], 2 * expected[1]], rel=1e-12)


def test_a_mean_of_positive_numbers_is_on_the_logarithm_at_the_rows_that_carry_it() -> None:
    rng = np.random.default_rng(2)
    x, w = rng.lognormal(0, 1.2, 80), rng.random(80)
    for weight in (None, w):
        share = np.full(80, 1 / 80) if weight is None else w / w.sum()
        n = 1 / (share @ share)
        mean = share @ x
        error = math.sqrt((share**2) @ (x - mean) ** 2 * 80 / 79)
        square = (error / mean) ** 2 * n  # coefficient of variation
        half = stats.t.ppf(0.975, n / (1 + square) - 1) * error / mean
        _, low, high = mean_interval(six_sums(x, weight), 0.0)
        assert low == pytest.approx(mean * math.exp(-half), rel=1e-5)
        far = math.exp(half * min(3, 1 + 1.5 * square / math.sqrt(n)))
        assert high == pytest.approx(mean * far, rel=1e-5)
    _, low, high = mean_interval(six_sums(np.zeros(9)), 0.0)
    assert low == high == 0.0


def test_one_huge_row_leaves_a_mean_open_and_its_ends_finite() -> None:
    x = np.ones(200)
    x[0] = 1e9
    mean, low, high = mean_interval(six_sums(x), 0.0)
    assert low < mean / 10
    assert mean * 10 < high < math.inf


def test_students_quantiles_are_those_of_scipy_for_whole_and_for_fractional_freedom() -> None:
    freedom = np.concatenate((np.linspace(1, 30, 2901), np.geomspace(30, 1e12, 200)))
    expected = stats.t.ppf(0.975, freedom)
    np.testing.assert_allclose(student(freedom), expected, rtol=1.5e-6, atol=0)
    assert student(f64(math.inf))[0] == pytest.approx(Z, rel=1.5e-6)


@given(st.floats(0, 1), st.integers(1, 500), st.integers(1, 500))
@LAW
def test_newcombe_solves_its_equation(area: float, positives: int, negatives: int) -> None:
    low, high = (float(end) for end in newcombe(*f64(area, positives, negatives)))
    assert 0 <= low <= area <= high <= 1
    more = (positives + negatives) / 2 - 1
    for end in (low, high):
        spread = end * (1 - end) * (1 + more * ((1 - end) / (2 - end) + end / (1 + end)))
        chance = Z * Z * spread / (positives * negatives)
        assert (area - end) ** 2 == pytest.approx(chance, abs=1e-8)


def test_newcombe_takes_many_areas_at_once_and_leaves_undefined_ones_so() -> None:
    area, positives, negatives = f64(0.7, math.nan, 1.0), f64(10, 0, 3), f64(20, 5, 40)
    low, high = newcombe(area, positives, negatives)
    for i in (0, 2):
        one = newcombe(area[i], positives[i], negatives[i])
        assert [low[i], high[i]] == pytest.approx([float(end) for end in one], abs=1e-12)
    assert math.isnan(low[1])
    assert math.isnan(high[1])


def test_the_logit_interval_is_a_normal_one_on_its_scale_and_there_is_none_without_variance() -> (
    None
):
    low, high = logit_interval(*f64(0.8, 0.01))
    half = Z * 0.1 / 0.16
    assert math.log(low / (1 - low)) == pytest.approx(math.log(4) - half)
    assert math.log(high / (1 - high)) == pytest.approx(math.log(4) + half)
    for value, variance in ((0.5, 0.0), (1.0, 0.1), (0.0, 0.1), (0.5, math.nan)):
        assert np.isnan(logit_interval(*f64(value, variance))).all()


def test_an_interval_is_widened_only_where_it_is_needed_or_there_is_none() -> None:
    narrow = f64(0.4, 0.4, math.nan, 0.4), f64(0.6, 0.6, math.nan, 0.6)
    safe = f64(0.3, 0.3, 0.3, 0.45), f64(0.8, 0.8, 0.8, 0.55)
    needed = np.array([True, False, False, True])
    low, high = widened(f64(0.5, 0.5, 0.5, 0.5), narrow, safe, needed)
    assert low.tolist() == [0.3, 0.4, 0.3, 0.4]
    assert high.tolist() == [0.8, 0.6, 0.8, 0.6]
    low, high = widened(f64(0.9), (f64(0.2), f64(0.8)), (f64(0.2), f64(0.8)), np.array([False]))
    assert (low[0], high[0]) == (0.2, 0.9), "the value lies inside"
