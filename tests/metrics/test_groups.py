"""Intervals of rows in groups: the arithmetic against NumPy, and what must hold at the edges."""

import math

import numpy as np
import pytest
from scipy import stats

from ptmetrics.metrics.estimate import Array, Estimate
from ptmetrics.metrics.groups import BY_GROUPS, by_groups, variance_and_freedom
from ptmetrics.metrics.host import without_each
from ptmetrics.metrics.intervals import wilson

PROPORTION = (0.0, 1.0)


def estimate(value: Array, low: float = 0.1, high: float = 0.9) -> Estimate:
    value = np.asarray(value, dtype=np.float64)
    ends = (np.full_like(value, end) for end in (low, high))
    return Estimate(value, *ends, np.array(9), "wilson", "none")


def accuracy_by_groups(
    hits: list[int], rows: list[int], bounds: tuple[float, float] = PROPORTION
) -> Estimate:
    """An accuracy a, or least + (most − least) · a for other bounds."""
    least, most = bounds
    table = np.array([hits, rows], dtype=np.float64).T
    others = without_each(table)
    with np.errstate(all="ignore"):
        value = table[:, 0].sum() / table[:, 1].sum()
        without = others[:, 0] / others[:, 1]
        scaled = (least + (most - least) * x for x in (value, without))
        whole, left = scaled
        return by_groups(estimate(whole), left, table[:, 1] > 0, bounds)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (0.0, 4.0)])
def test_the_interval_is_that_of_a_reference_in_numpy(bounds: tuple[float, float]) -> None:
    hits, rows = np.array([9, 0, 4, 7, 8, 3]), np.array([10, 0, 10, 9, 8, 10])
    kept = rows > 0
    filled = np.flatnonzero(kept)
    left = np.array([np.delete(hits, i).sum() / np.delete(rows, i).sum() for i in filled])
    p, k = hits.sum() / rows.sum(), kept.sum()
    variance = (k - 1) / k * ((left - p) ** 2).sum()
    n, t = p * (1 - p) / variance, stats.t.ppf(0.975, k - 1)
    centre = (p + t * t / (2 * n)) / (1 + t * t / n)
    half = t / (1 + t * t / n) * math.sqrt(p * (1 - p) / n + t * t / (4 * n * n))
    got = accuracy_by_groups(hits.tolist(), rows.tolist(), bounds)
    least, size = bounds[0], bounds[1] - bounds[0]
    assert got.method == BY_GROUPS
    assert float(got.value) == pytest.approx(least + size * p, rel=1e-12)
    assert float(got.low) == pytest.approx(least + size * (centre - half), rel=1e-5)
    assert float(got.high) == pytest.approx(least + size * (centre + half), rel=1e-5)


def test_sums_without_each_bucket_are_exact_for_counts_and_keep_the_digits_of_a_small_rest() -> (
    None
):
    counts = np.array([[2**60, 1], [5, 2**61], [0, 3]])
    expected = np.stack([np.delete(counts, i, 0).sum(0) for i in range(3)])
    assert np.array_equal(without_each(counts), expected)
    sums = np.array([[1e30], [1.0], [2.0]])
    assert without_each(sums)[0].item() == 3.0


def test_a_perfect_score_is_as_sure_as_its_number_of_buckets() -> None:
    got = accuracy_by_groups([25] * 10 + [0] * 5, [25] * 10 + [0] * 5)
    t2 = stats.t.ppf(0.975, 9) ** 2
    assert (float(got.value), float(got.high)) == (1.0, 1.0)
    assert float(got.low) == pytest.approx(10 / (10 + t2), rel=1e-5)


def test_buckets_that_do_not_move_the_score_give_no_freedom() -> None:
    without = np.array([0.4, 0.6, 0.55, *[0.5] * 6])
    variance, freedom = variance_and_freedom(np.array(0.5), without, np.ones(9, dtype=bool))
    assert float(variance) == pytest.approx(8 / 9 * 0.0225)
    assert float(freedom) == 2


def test_a_score_that_rounding_alone_moves_is_as_sure_as_its_number_of_buckets() -> None:
    without = 0.5 + 1e-16 * np.arange(-4, 5)
    got = by_groups(estimate(0.5), without, np.ones(9, dtype=bool), PROPORTION)
    expected = wilson(np.array(0.5), np.array(9.0), stats.t.ppf(0.975, 8))
    assert [float(got.low), float(got.high)] == pytest.approx(
        [float(x) for x in expected], rel=1e-5
    )


@pytest.mark.parametrize("rows", [[], [7], [0, 9, 0]])
def test_fewer_than_two_buckets_have_no_ends(rows: list[int]) -> None:
    got = accuracy_by_groups([n // 2 for n in rows] + [0, 0], [*rows, 0, 0])
    assert math.isnan(got.low)
    assert math.isnan(got.high)


@pytest.mark.parametrize("bounds", [PROPORTION, (0.0, math.inf), (-math.inf, 1.0)])
def test_a_score_that_one_bucket_alone_defines_has_no_ends(bounds: tuple[float, float]) -> None:
    without = np.array([0.4, math.nan, 0.5])
    got = by_groups(estimate(0.5), without, np.ones(3, dtype=bool), bounds)
    assert math.isnan(got.low)
    assert math.isnan(got.high)


def test_a_constant_keeps_its_ends() -> None:
    with np.errstate(all="ignore"):
        whole = estimate(np.zeros(1), 0.0, 0.0)
        got = by_groups(whole, np.zeros((3, 1)), np.ones(3, dtype=bool), PROPORTION)
    assert (got.low.item(), got.high.item()) == (0.0, 0.0)


SCALES = [
    (2.0, (0.0, math.inf), "", np.log, np.exp),
    (0.3, (-math.inf, 1.0), "", lambda x: np.log(1 - x), lambda x: 1 - np.exp(x)),
    (-0.4, (-1.0, 1.0), "atanh", np.arctanh, np.tanh),
    (-2.0, (-math.inf, math.inf), "", lambda x: x, lambda x: x),
]


@pytest.mark.parametrize(("value", "bounds", "scale", "to", "back"), SCALES)
def test_scores_without_two_bounds_have_students_interval_on_a_scale_of_their_own(
    value: float, bounds: tuple[float, float], scale: str, to: np.ufunc, back: np.ufunc
) -> None:
    without = value + np.array([-0.1, 0.1, 0.0, 0.2])
    got = by_groups(estimate(value), without, np.ones(4, dtype=bool), bounds, scale)
    error = math.sqrt(3 / 4 * ((to(without) - to(value)) ** 2).sum())
    half = stats.t.ppf(0.975, 2) * error  # one bucket does not move it
    above = half
    if bounds == (0.0, math.inf):  # a few groups may lack the one that is far out
        above = half * (1 + 1.5 * 4 * error**2 / math.sqrt(4))
    ends = sorted([back(to(value) - half), back(to(value) + above)])
    assert [float(got.low), float(got.high)] == pytest.approx(ends, rel=1e-5)
    assert bounds[0] < got.low < value < got.high < bounds[1]


def test_many_scores_at_once_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    value, without = rng.random(5), rng.random((7, 5))
    filled = np.arange(7) != 3
    for bounds in (PROPORTION, (0.0, math.inf)):
        got = by_groups(estimate(value), without, filled, bounds)
        for i in range(5):
            one = by_groups(estimate(value[i]), without[:, i], filled, bounds)
            ends = pytest.approx((float(one.low), float(one.high)), rel=1e-12)
            assert (got.low[i], got.high[i]) == ends
