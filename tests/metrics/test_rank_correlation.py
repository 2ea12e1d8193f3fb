"""Spearman's and Kendall's correlations: SciPy's within the told bound, exact from kept rows, intervals that hold."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import LAW
from scipy import stats
from torch import Tensor

import ptmetrics as pm
from ptmetrics.counts.ranks import RANK_ROWS, rank_row
from ptmetrics.metrics.regression import RegressionMetrics
from ptmetrics.metrics.score import Scores

RANKS = ("spearman", "kendall", "kendall/c")
SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "normal": lambda x: x,
    "far": lambda x: 1e6 + x,
    "skewed": lambda x: (2 * x).exp(),
    "ties": lambda x: (2 * x).round(),
    "two values": lambda x: (x > 1).double(),
    "tiny": lambda x: 1e-30 * x,
    "outliers": lambda x: x**9,
}


def drawn(rows: int, seed: int, x: str, y: str, slope: float = 0.8) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    one, other = torch.randn(2, rows, generator=g, dtype=torch.float64)
    return SHAPES[x](slope * one + (1 - slope**2) ** 0.5 * other), SHAPES[y](one)


def scores_of(
    preds: Tensor, target: Tensor, weight: Tensor | None = None, capacity: int = 0, **config: int
) -> Scores:
    metrics = RegressionMetrics(scores=RANKS, capacity=capacity, **config)
    metrics.update(preds, target, weight)
    return metrics.compute()


def of_scipy(preds: Tensor, target: Tensor) -> dict[str, float]:
    x, y = preds.numpy(), target.numpy()
    if len(np.unique(x)) < 2 or len(np.unique(y)) < 2:
        return dict.fromkeys(RANKS, math.nan)
    return {
        "spearman": float(stats.spearmanr(x, y).statistic),
        "kendall": float(stats.kendalltau(x, y).statistic),
        "kendall/c": float(stats.kendalltau(x, y, variant="c").statistic),
    }


shapes = st.sampled_from(sorted(SHAPES))


@given(st.integers(2, 300), st.integers(0, 2**32), shapes, shapes, st.sampled_from([-1, 0, 0.9, 1]))
@settings(LAW, max_examples=60)
def test_the_value_of_scipy_lies_within_the_told_bound(
    rows: int, seed: int, x: str, y: str, slope: float
) -> None:
    preds, target = drawn(rows, seed, x, y, slope)
    got, expected = scores_of(preds, target), of_scipy(preds, target)
    exact = scores_of(preds, target, capacity=rows)
    for name in RANKS:
        if math.isnan(expected[name]):
            assert math.isnan(got[name].value)
            assert got[name].reason == "targets or predictions hold fewer than two values"
            continue
        assert abs(got[name] - expected[name]) <= got[name].error_bound + 1e-12, name
        assert exact[name].value == pytest.approx(expected[name], abs=1e-12)
        assert exact[name].error_bound == 0
        if rows > 4:
            for score in (got[name], exact[name]):
                assert score.low <= score.value <= score.high


@pytest.mark.parametrize("shape", ["normal", "skewed"])
def test_the_bound_is_small_where_values_have_the_shapes_of_real_targets(shape: str) -> None:
    got = scores_of(*drawn(50_000, 0, shape, shape))
    assert got["spearman"].error_bound < 0.02
    assert got["kendall"].error_bound < 0.03
    assert got["kendall/c"].error_bound < 0.03


@pytest.mark.parametrize("rows", [20, 200, 20_000])
def test_ties_are_known_and_exact(rows: int) -> None:
    preds, target = drawn(rows, 1, "ties", "ties")
    got, expected = scores_of(preds, target), of_scipy(preds, target)
    for name in RANKS:
        assert got[name].error_bound <= 1e-12
        assert got[name].value == pytest.approx(expected[name], abs=1e-12)


@given(st.integers(1, 60), st.integers(0, 2**32), shapes, st.booleans())
@LAW
def test_a_weight_is_as_many_rows(rows: int, seed: int, shape: str, stored: bool) -> None:
    preds, target = drawn(rows, seed, shape, "normal")
    weight = torch.randint(0, 4, (rows,), generator=torch.Generator().manual_seed(seed))
    capacity = {"capacity": 4 * rows} if stored else {}
    got = scores_of(preds, target, weight.double(), **capacity)
    expected = of_scipy(preds.repeat_interleave(weight), target.repeat_interleave(weight))
    for name in RANKS:
        if math.isnan(expected[name]):
            assert math.isnan(got[name].value)
        else:
            assert abs(got[name] - expected[name]) <= got[name].error_bound + 1e-12, name


def test_rows_of_the_grid_are_in_the_order_of_the_values() -> None:
    x = torch.cat((drawn(3000, 2, "outliers", "normal")[0], torch.tensor([0.0, -0.0, 1e37, -1e37])))
    row = rank_row(x.sort().values)
    assert (row.diff() >= 0).all()
    assert (row.min(), row.max()) == (0, RANK_ROWS - 1)


def test_kept_rows_survive_batches_merges_and_refused_rows_and_the_grid_takes_over() -> None:
    preds, target = drawn(120, 4, "normal", "skewed")
    bad = torch.tensor([math.nan, 1.0])
    ranks = [RegressionMetrics(scores=RANKS, capacity=120) for _ in range(2)]
    for place, some in enumerate(torch.arange(120).split(13)):
        ranks[place % 2].update(preds[some], target[some])
        ranks[place % 2].update(bad, bad.flip(0))
    ranks[0].merge_state(ranks[1:])
    got, expected = ranks[0].compute(), of_scipy(preds, target)
    for name in RANKS:
        assert got[name].error_bound == 0
        assert got[name].value == pytest.approx(expected[name], abs=1e-12)
    ranks[0].update(preds[:1], target[:1])
    assert ranks[0].compute()["kendall"].error_bound > 0


def test_several_outputs_have_each_their_own() -> None:
    one, other = drawn(80, 5, "normal", "skewed"), drawn(80, 6, "ties", "far", -0.3)
    preds, target = (torch.stack(pair, 1) for pair in zip(one, other, strict=True))
    for capacity in (0, 80):
        got = scores_of(preds, target, num_outputs=2, capacity=capacity)
        for name in RANKS:
            for score, pair in zip(got.per_class[name], (one, other), strict=True):
                assert abs(score - of_scipy(*pair)[name]) <= score.error_bound + 1e-12


def measured_variance(preds: Tensor, target: Tensor, name: str) -> float:
    """The number of rows times the variance of the score over bootstrap samples."""
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, len(preds), len(preds)) for _ in range(400)]
    return float(len(preds) * np.var([of_scipy(preds[i], target[i])[name] for i in drawn]))


@pytest.mark.parametrize("name", RANKS)
@pytest.mark.parametrize("shapes", [("outliers", "normal"), ("ties", "two values")])
@pytest.mark.slow
def test_the_variance_is_that_of_the_bootstrap(name: str, shapes: tuple[str, str]) -> None:
    # Errors that grow with the target: more uncertain than jointly normal values are.
    g = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 500, generator=g, dtype=torch.float64)
    preds, target = SHAPES[shapes[0]](x + 2 * noise * x.abs()), SHAPES[shapes[1]](x)
    metrics = RegressionMetrics(scores=RANKS)
    metrics.update(preds, target)
    ranks = metrics.summarize(metrics.shared_state())["ranks"]
    got = float(ranks[0, RANKS.index(name), 2])
    assert got == pytest.approx(measured_variance(preds, target, name), rel=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "uneven", "ties"])
@pytest.mark.parametrize("rows", [30, 400])
def test_intervals_cover_what_they_say(kind: str, rows: int) -> None:
    def pairs(number: int, seed: int) -> tuple[Tensor, Tensor]:
        g = torch.Generator().manual_seed(seed)
        target, noise = torch.randn(2, number, generator=g, dtype=torch.float64)
        if kind == "uneven":
            noise = noise * target.abs()
        preds = target + noise
        if kind == "ties":  # five grades in every sample, which is what τ-c is for
            return preds.round().clamp(-2, 2), target.round().clamp(-2, 2)
        return preds, target

    truth = of_scipy(*pairs(300_000, 1))
    hits = dict.fromkeys(RANKS, 0)
    for seed in range(200):
        got = scores_of(*pairs(rows, seed + 2))
        for name in RANKS:
            hits[name] += got[name].low <= truth[name] <= got[name].high
    for name in RANKS:
        assert 0.9 <= hits[name] / 200 <= 0.99, hits


def test_perfect_order_has_an_interval_with_a_width() -> None:
    got = scores_of(torch.arange(20.0), torch.arange(20.0))
    for name in RANKS:
        assert got[name].value == pytest.approx(1)
        assert 0.6 < got[name].low < 0.99
        assert got[name].high == 1


def test_ranks_are_not_kept_unless_they_are_asked_for() -> None:
    assert "grid" not in RegressionMetrics().layout
    assert "spearman" not in RegressionMetrics(scores=["mape"]).compute()
    with pytest.raises(pm.PtmetricsError, match="capacity: expected a whole number from 0"):
        RegressionMetrics(scores=RANKS, capacity=-1)
