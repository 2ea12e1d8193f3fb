"""Intervals of regression: their ends against definitions and their coverage by simulation."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import LAW
from scipy import stats
from torch import Tensor

from ptmetrics.metrics.intervals import Z
from ptmetrics.metrics.regression import RegressionMetrics
from ptmetrics.metrics.score import Scores

REPEATS, AT_ONCE = 600, 60  # an output a repeat: half a MiB each
TRUTH_ROWS = 2_000_000


def draw(kind: str, repeats: int, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Predictions and targets of shape (repeats, rows)."""
    g = torch.Generator().manual_seed(seed)
    target, noise = torch.randn(2, repeats, rows, generator=g, dtype=torch.float64)
    if kind == "heavy":  # Laplace errors
        noise = noise.sign() * torch.empty_like(noise).exponential_(generator=g)
    if kind == "uneven":  # errors that grow with the target
        noise = noise * target.abs()
    return 0.9 * target + 0.6 * noise + 0.1, target


@pytest.mark.parametrize(
    ("kind", "rows", "least"),
    [("normal", 100, 0.92), ("normal", 400, 0.92), ("heavy", 400, 0.9), ("uneven", 400, 0.9)],
)
@pytest.mark.slow
def test_intervals_cover_what_they_say(kind: str, rows: int, least: float) -> None:
    preds, target = (x[0] for x in draw(kind, 1, TRUTH_ROWS, 1))
    error = preds - target
    truth = {
        "mse": error.square().mean(),
        "rmse": error.square().mean().sqrt(),
        "mae": error.abs().mean(),
        "bias": error.mean(),
        "r2": 1 - error.square().mean() / target.var(),
        "explained_variance": 1 - error.var() / target.var(),
        "pearson": torch.corrcoef(torch.stack((preds, target)))[0, 1],
    }
    magnitude = error.abs().numpy()
    for q in (50, 90):
        truth[f"absolute_error/p{q}"] = float(np.quantile(magnitude, q / 100))
    hits = dict.fromkeys(truth, 0)
    metrics = RegressionMetrics(num_outputs=AT_ONCE, quantiles=(0.5, 0.9))
    for seed in range(REPEATS // AT_ONCE):
        metrics.reset()
        preds, target = draw(kind, AT_ONCE, rows, seed)
        metrics.update(preds.mT, target.mT)
        columns = metrics.compute().per_class
        for name, value in truth.items():
            hits[name] += sum(score.low <= value <= score.high for score in columns[name])
    rates = {name: number / REPEATS for name, number in hits.items()}
    for name, rate in rates.items():
        most = 1 if name.startswith("absolute_error") else 0.985
        assert least <= rate <= most, rates


def scores_of(preds: Tensor, target: Tensor, weight: Tensor | None = None, **config: Any) -> Scores:
    metrics = RegressionMetrics(**config)
    metrics.update(preds, target, weight)
    return metrics.compute()


def test_ends_of_a_mean_are_those_of_a_t_test() -> None:
    preds, target = (x[0] for x in draw("normal", 1, 40, 3))
    got, error = scores_of(preds, target), (preds - target).numpy()
    low, high = stats.t.interval(0.95, 39, error.mean(), stats.sem(error))
    assert (got["bias"].low, got["bias"].high) == (
        pytest.approx(low, rel=1e-4),
        pytest.approx(high, rel=1e-4),
    )
    for name, x in (("mae", np.abs(error)), ("mse", error**2)):
        relative = stats.sem(x) / x.mean()
        square = 40 * relative**2
        half = stats.t.ppf(0.975, 40 / (1 + square) - 1) * relative
        assert got[name].low == pytest.approx(x.mean() * math.exp(-half), rel=1e-4)
        far = math.exp(half * (1 + 1.5 * square / math.sqrt(40)))
        assert got[name].high == pytest.approx(x.mean() * far, rel=1e-4)
    assert got["rmse"].high == pytest.approx(math.sqrt(got["mse"].high), rel=1e-12)


def carrying(x: np.ndarray, weight: np.ndarray | None = None) -> float:
    """The number of rows that carry a sum."""
    x = x if weight is None else weight * x
    return float(x.sum() ** 2 / (x @ x))


@pytest.mark.parametrize("n", [5, 200])
def test_the_interval_of_r2_is_the_delta_method_by_its_definition(n: int) -> None:
    preds, target = (x[0] for x in draw("heavy", 1, n, 4))
    got = scores_of(preds + 1e6, target + 1e6)["r2"]
    square, spread = (preds - target).square(), (target - target.mean()).square()
    influence = square / square.mean() - spread / spread.mean()
    carried = min(carrying(square.numpy()), carrying(spread.numpy()))
    reach = stats.t.ppf(0.975, max(2, carried - 2))
    half = reach * math.sqrt(influence.square().mean() / (n - 1))
    ratio = square.mean() / spread.mean()
    assert got.low == pytest.approx(float(1 - ratio * math.exp(half)), rel=1e-5)
    assert got.high == pytest.approx(float(1 - ratio * math.exp(-half)), rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["heavy", "uneven"])
def test_the_interval_of_pearson_is_that_of_fourth_moments_and_never_below_the_normal_one(
    kind: str, weighted: bool
) -> None:
    preds, target = (x[0].numpy() for x in draw(kind, 1, 120, 10))
    w = np.random.default_rng(0).random(120) if weighted else np.ones(120)
    share = w / w.sum()
    u, v = ((x - share @ x) / math.sqrt(share @ (x - share @ x) ** 2) for x in (preds, target))
    r = share @ (u * v)
    n = 1 / (share @ share)
    influence = u * v - r * (u**2 + v**2) / 2
    measured = share**2 @ influence**2 / (1 - r**2) ** 2 * n / (n - 3)
    assert (measured > 1 / (n - 3)) == (kind == "uneven"), "both sides are shown"
    carried = min(carrying(u**2, share), carrying(v**2, share))
    half = stats.t.ppf(0.975, carried - 1) * math.sqrt(max(measured, 1 / (n - 3)))
    got = scores_of(*map(torch.tensor, (preds, target, w)))["pearson"]
    expected = np.tanh([math.atanh(r), math.atanh(r) - half, math.atanh(r) + half])
    assert [got.value, got.low, got.high] == pytest.approx(expected.tolist(), rel=1e-5)


@given(st.integers(20, 400), st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9]))
@settings(LAW, max_examples=40)
def test_the_interval_of_a_quantile_is_that_of_order_statistics(n: int, q: float) -> None:
    preds, target = (x[0] for x in draw("heavy", 1, n, n))
    error = (preds - target).abs().sort().values.tolist()
    got = scores_of(preds, target, quantiles=(q,))[f"absolute_error/p{100 * q:g}"]
    # Cornish and Fisher's 2.5 % points of the number of rows below the quantile.
    centre = n * q + (Z * Z - 1) * (1 - 2 * q) / 6
    reach = Z * math.sqrt(n * q * (1 - q))
    low, high = math.floor(centre - reach), math.ceil(centre + reach) + 1
    width = 1 + 1 / 256  # of a bin
    if low < 1:
        assert got.low == 0
    else:
        assert got.low <= error[low - 1] < got.low * width
    if high > n:
        assert got.high == math.inf
    else:
        assert got.high / width <= error[high - 1] <= got.high


def test_weights_scaled_by_a_constant_change_nothing_and_equal_rows_weigh_as_one_with_less_certainty() -> (
    None
):
    preds, target = (x[0] for x in draw("normal", 1, 60, 5))
    weight = torch.rand(60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, other = scores_of(preds, target, weight), scores_of(preds, target, 1000 * weight)
    plain = scores_of(preds, target)
    for name in one:
        for end in ("value", "low", "high"):
            assert getattr(one[name], end) == pytest.approx(getattr(other[name], end), rel=1e-9), (
                name
            )
    assert one["pearson"].high - one["pearson"].low > 0
    assert plain["bias"].high - plain["bias"].low < one["bias"].high - one["bias"].low


def test_the_quantiles_upper_end_is_infinite_where_the_sample_cannot_bound_it() -> None:
    preds, target = (x[0] for x in draw("normal", 1, 10, 6))
    got = scores_of(preds, target, quantiles=(0.95,))
    assert got["absolute_error/p95"].high == math.inf
    assert got["median_absolute_error"].high < math.inf
    assert got["max_error"].low == got["max_error"].value
    assert got["max_error"].high == math.inf


def test_every_interval_names_its_method_and_errors_fall_where_scores_rise() -> None:
    got = scores_of(*draw("normal", 1, 30, 7)[0].new_zeros(2, 30))
    methods = {name: score.method for name, score in got.items()}
    assert methods == {
        "mse": "student-log",
        "rmse": "student-log",
        "mae": "student-log",
        "r2": "delta-log",
        "explained_variance": "delta-log",
        "pearson": "fisher-z",
        "bias": "student",
        "max_error": "sample-maximum",
        "median_absolute_error": "order-statistics",
        "absolute_error/p50": "order-statistics",
        "absolute_error/p90": "order-statistics",
        "absolute_error/p95": "order-statistics",
    }
    assert {name for name in got if got[name].higher_is_better} == {
        "r2",
        "explained_variance",
        "pearson",
    }


def test_the_mean_over_outputs_has_the_mean_of_their_ends() -> None:
    preds, target = draw("normal", 3, 50, 8)
    preds[1] *= 10
    got = scores_of(preds.mT, target.mT, num_outputs=3, names=["x", "y", "z"])
    assert got.class_names == ("x", "y", "z")
    for name in ("mse", "r2", "pearson", "median_absolute_error"):
        columns = got.per_class[name]
        for end in ("value", "low", "high", "error_bound"):
            mean = sum(getattr(score, end) for score in columns) / 3
            assert getattr(got[name], end) == pytest.approx(mean, rel=1e-12), (name, end)
        assert got[name].method == "mean-of-ends"
    assert got["max_error"] == got.per_class["max_error"][1] == max(got.per_class["max_error"])


def test_printed_scores_fit_any_unit() -> None:
    preds, target = draw("normal", 2, 50, 9)
    small, large = (str(scores_of(preds[0] * s, target[0] * s)) for s in (1e-9, 1e9))
    for text in (small, large):
        assert not any(line.split()[1] == "0.0000" for line in text.splitlines()[1:] if line)
        assert "e-" in text or "e+" in text
    both = str(scores_of(preds.mT, target.mT, num_outputs=2, names=["height", "weight"]))
    head, *rows = both.splitlines()
    assert head.split() == ["height", "weight"]
    assert rows[0].split()[0] == "mse"
    assert "mean-of-ends" in both
    assert "median_absolute_error" in both
