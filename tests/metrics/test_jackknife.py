"""Intervals of rows in groups: the arithmetic against NumPy, and what must hold at the edges."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ptmetrics.metrics.estimate import Estimate
from ptmetrics.metrics.jackknife import (
    METHOD,
    proportion_by_groups,
    spread,
    transformed_by_groups,
    without_each,
)


def estimate(value: Tensor, low: float = 0.1, high: float = 0.9) -> Estimate:
    ends = (torch.full_like(value, end) for end in (low, high))
    return Estimate(value, *ends, torch.tensor(9), "wilson", "none")


def accuracy_by_groups(hits: list[int], rows: list[int]) -> Estimate:
    table = torch.tensor([hits, rows], dtype=torch.float64).t()
    others = without_each(table)
    value = table.sum(0)
    return proportion_by_groups(
        estimate(value[0] / value[1]), others[:, 0] / others[:, 1], table[:, 1] > 0
    )


def test_the_interval_is_that_of_a_reference_in_numpy() -> None:
    hits, rows = np.array([9, 0, 4, 7, 8, 3]), np.array([10, 0, 10, 9, 8, 10])
    kept = rows > 0
    left = np.array(
        [np.delete(hits, i).sum() / np.delete(rows, i).sum() for i in np.flatnonzero(kept)]
    )
    p, k = hits.sum() / rows.sum(), kept.sum()
    variance = (k - 1) / k * ((left - p) ** 2).sum()
    n, t = p * (1 - p) / variance, stats.t.ppf(0.975, k - 1)
    centre = (p + t * t / (2 * n)) / (1 + t * t / n)
    half = t / (1 + t * t / n) * math.sqrt(p * (1 - p) / n + t * t / (4 * n * n))
    got = accuracy_by_groups(hits.tolist(), rows.tolist())
    assert got.method == METHOD
    assert float(got.value) == p
    assert (float(got.low), float(got.high)) == pytest.approx(
        (centre - half, centre + half), rel=2e-3
    )


def test_sums_without_each_bucket_are_exact_for_counts_and_keep_the_digits_of_a_small_rest() -> (
    None
):
    counts = torch.tensor([[2**60, 1], [5, 2**61], [0, 3]])
    expected = torch.stack([counts[torch.arange(3) != i].sum(0) for i in range(3)])
    assert torch.equal(without_each(counts), expected)
    sums = torch.tensor([1e30, 1.0, 2.0], dtype=torch.float64)
    assert without_each(sums.unsqueeze(1))[0].item() == 3.0


def test_a_perfect_score_is_as_sure_as_its_number_of_buckets() -> None:
    got = accuracy_by_groups([25] * 10 + [0] * 5, [25] * 10 + [0] * 5)
    t2 = stats.t.ppf(0.975, 9) ** 2
    assert (float(got.value), float(got.high)) == (1.0, 1.0)
    assert float(got.low) == pytest.approx(10 / (10 + t2), rel=1e-3)


def test_buckets_that_do_not_move_the_score_give_no_freedom() -> None:
    value, filled = torch.tensor(0.5, dtype=torch.float64), torch.ones(9, dtype=torch.bool)
    without = torch.tensor([0.4, 0.6, 0.55, *[0.5] * 6], dtype=torch.float64)
    variance, freedom = spread(value, without, filled)
    assert float(variance) == pytest.approx(8 / 9 * 0.0225)
    assert float(freedom) == 2


@pytest.mark.parametrize("rows", [[], [7], [0, 9, 0]])
def test_fewer_than_two_buckets_have_no_ends(rows: list[int]) -> None:
    got = accuracy_by_groups([n // 2 for n in rows] + [0, 0], [*rows, 0, 0])
    assert math.isnan(got.low)
    assert math.isnan(got.high)


def test_a_score_that_one_bucket_alone_defines_has_no_ends() -> None:
    value, filled = torch.tensor(0.5, dtype=torch.float64), torch.ones(3, dtype=torch.bool)
    without = torch.tensor([0.4, math.nan, 0.5], dtype=torch.float64)
    got = proportion_by_groups(estimate(value), without, filled)
    assert math.isnan(got.low)
    assert math.isnan(got.high)


def test_a_constant_keeps_its_ends() -> None:
    value, filled = torch.zeros(1, dtype=torch.float64), torch.ones(3, dtype=torch.bool)
    got = proportion_by_groups(
        estimate(value, 0.0, 0.0), torch.zeros(3, 1, dtype=torch.float64), filled
    )
    assert (got.low.item(), got.high.item()) == (0.0, 0.0)


def test_other_scales_and_ranges() -> None:
    value, filled = torch.tensor(2.0, dtype=torch.float64), torch.ones(4, dtype=torch.bool)
    without = torch.tensor([1.9, 2.1, 2.0, 2.2], dtype=torch.float64)
    got = transformed_by_groups(estimate(value), without, filled, torch.log, torch.exp)
    error = math.sqrt(3 / 4 * ((np.log(without.numpy()) - math.log(2)) ** 2).sum())
    half = stats.t.ppf(0.975, 2) * error  # one bucket does not move it
    assert (float(got.low), float(got.high)) == pytest.approx(
        (2 * math.exp(-half), 2 * math.exp(half)), rel=1e-3
    )
    falling = transformed_by_groups(
        estimate(value - 3), without - 3, filled, lambda x: -x, lambda x: -x
    )
    assert float(falling.low) < -1 < float(falling.high)
    mcc = proportion_by_groups(estimate(value - 2), without - 2, filled, (-1, 1))
    assert -1 <= float(mcc.low) < 0 < float(mcc.high) <= 1
