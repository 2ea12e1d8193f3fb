"""Scores of regression that are asked for by name: peers, laws, intervals and what is refused."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import same
from registry import LAW
from regression_cases import regression_batch, regression_rows, relative_columns
from sklearn import metrics as sk
from torch import Tensor
from torchmetrics import functional as peers

import ptmetrics as pm

NAMES = ("mape", "smape", "wmape", "msle", "rmsle", "nrmse", "nrmse/std", "nrmse/l2", "nrmse/range")
LOOKED_UP = {
    "mape": peers.mean_absolute_percentage_error,
    "smape": peers.symmetric_mean_absolute_percentage_error,
    "wmape": peers.weighted_mean_absolute_percentage_error,
    "msle": peers.mean_squared_log_error,
    "nrmse": peers.normalized_root_mean_squared_error,
    "nrmse/std": lambda p, t: peers.normalized_root_mean_squared_error(p, t, "std"),
    "nrmse/range": lambda p, t: peers.normalized_root_mean_squared_error(p, t, "range"),
    "nrmse/l2": lambda p, t: peers.normalized_root_mean_squared_error(p, t, "l2"),
    "r2/adjusted": lambda p, t: peers.r2_score(p, t, adjusted=3),
}


def positive(rows: int, seed: int, outputs: int = 1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    target, noise = torch.randn(2, rows, outputs, generator=g, dtype=torch.float64)
    target = target.exp()
    return target * (0.4 * noise).exp(), target


def scores_of(
    preds: Tensor, target: Tensor, weight: Tensor | None = None, **more: object
) -> pm.Scores:
    metrics = pm.RegressionMetrics(**{"scores": NAMES, **more})
    metrics.update(preds, target, weight)
    return metrics.compute()


@given(st.integers(1, 3), st.integers(0, 40), st.integers(0, 2**32), st.booleans())
@LAW
def test_every_score_of_each_output_is_that_of_its_definition(
    outputs: int, rows: int, seed: int, weighted: bool
) -> None:
    batch = regression_batch(outputs, rows, seed, weighted)
    batch.target = batch.target.mul(2).round()  # some are 0
    got = scores_of(batch.preds, batch.target, batch.weight, num_outputs=outputs)
    for name, values in relative_columns(*regression_rows([batch], outputs)).items():
        mine = got.per_class[name] if outputs > 1 else [got[name]]
        assert all(map(same, mine, values)), f"{name}: {mine} for {values}"


def test_scores_are_those_of_torchmetrics_and_scikit_learn() -> None:
    preds, target = positive(50, 0)
    names = [*NAMES, "r2/adjusted"]
    got = scores_of(preds[:, 0], target[:, 0], scores=names, num_features=3)
    for name, peer in LOOKED_UP.items():
        assert got[name].value == pytest.approx(float(peer(preds[:, 0], target[:, 0])), rel=1e-6)
    assert got["mape"].value == pytest.approx(sk.mean_absolute_percentage_error(target, preds))
    assert got["rmsle"].value == pytest.approx(sk.root_mean_squared_log_error(target, preds))
    for name in names:
        assert got[name].low < got[name].value < got[name].high, name


def test_means_over_the_outputs_are_weighted_as_in_scikit_learn() -> None:
    preds, target = positive(60, 1, 3)
    target[:, 1] *= 9
    weights = (0.2, 0.5, 2.0)
    weighted = ["r2/variance_weighted", "explained_variance/variance_weighted"]
    adjusted = "r2/adjusted/variance_weighted"
    got = scores_of(
        preds,
        target,
        num_outputs=3,
        scores=["mape", *weighted, adjusted],
        output_weights=weights,
        num_features=2,
    )
    y, p = target.numpy(), preds.numpy()
    w = np.array(weights) / sum(weights)
    expected = {
        "r2": sk.r2_score(y, p, multioutput=w),
        "mse": sk.mean_squared_error(y, p, multioutput=w),
        "mape": sk.mean_absolute_percentage_error(y, p, multioutput=w),
        "median_absolute_error": sk.median_absolute_error(y, p, multioutput=w),
        "r2/variance_weighted": sk.r2_score(y, p, multioutput="variance_weighted"),
        "explained_variance/variance_weighted": sk.explained_variance_score(
            y, p, multioutput="variance_weighted"
        ),
        adjusted: float(peers.r2_score(preds, target, adjusted=2, multioutput="variance_weighted")),
    }
    for name, value in expected.items():
        near = got[name].error_bound + 1e-9 * abs(value)
        assert got[name].value == pytest.approx(value, abs=near), name
        assert got[name].method == "mean-of-ends"
    constant = scores_of(
        torch.rand(9, 2), torch.stack((torch.ones(9), torch.arange(9.0)), 1),
        num_outputs=2, scores=weighted,
    )  # fmt: skip
    assert constant["r2/variance_weighted"].value == constant.per_class["r2"][1].value


@given(st.integers(4, 40), st.integers(0, 2**32), st.sampled_from([0.0, 1e6, -0.3]))
@LAW
def test_concordance_is_that_of_its_definition(rows: int, seed: int, away: float) -> None:
    preds, target = (x[:, 0] for x in positive(rows, seed))
    preds = preds + away
    weight = torch.randint(1, 4, (rows,), generator=torch.Generator().manual_seed(seed)).double()
    p, t = (x.repeat_interleave(weight.long()).numpy() for x in (preds, target))
    covariance = np.cov(p, t, ddof=0)
    whole = covariance[0, 0] + covariance[1, 1] + (p.mean() - t.mean()) ** 2
    got = scores_of(preds, target, weight, scores=["concordance"])["concordance"]
    assert got.value == pytest.approx(2 * covariance[0, 1] / whole, rel=1e-9, abs=1e-12)
    assert got.low <= got.value <= got.high


@given(st.integers(5, 40), st.integers(0, 2**32))
@LAW
def test_concordance_moves_with_a_row_as_its_interval_says(rows: int, seed: int) -> None:
    """The jackknife's variance is near that of the delta method, whose slopes are by hand."""
    preds, target = (x[:, 0].repeat(40) for x in positive(rows, seed))
    preds = 0.5 + preds * (1 + 0.2 * torch.linspace(-1, 1, len(preds), dtype=torch.float64))
    metrics = pm.RegressionMetrics(scores=["concordance"], groups=True)
    metrics.update(preds, target, group=torch.arange(len(preds)))
    grouped = metrics.compute()["concordance"]
    plain = scores_of(preds, target, scores=["concordance"])["concordance"]
    assert grouped.method == "jackknife-groups"
    ratio = (grouped.high - grouped.low) / (plain.high - plain.low)
    assert 0.6 < ratio < 1.5


def test_constant_targets_have_no_concordance() -> None:
    got = scores_of(torch.rand(9), torch.ones(9), scores=["concordance"])["concordance"]
    assert math.isnan(got.value)
    assert got.reason == "the targets hold fewer than two values"


def test_a_weight_is_as_many_rows_and_parts_are_scored_as_by_a_metric_of_their_own() -> None:
    preds, target = positive(60, 2)
    weight = torch.arange(60) % 3
    got = scores_of(preds, target, weight.double())
    repeated = scores_of(preds.repeat_interleave(weight, 0), target.repeat_interleave(weight, 0))
    metrics = pm.RegressionMetrics(scores=NAMES, slices=2, groups=True)
    part = torch.arange(60) // 30
    metrics.update(preds, target, slices=part, group=torch.arange(60) // 3)
    scores = metrics.compute()
    alone = scores_of(preds[:30], target[:30])
    for name in NAMES:
        assert got[name].value == pytest.approx(repeated[name].value, rel=1e-12), name
        if name == "nrmse/range":  # the range is of all rows alone
            assert name not in scores.per_slice["0"]
            continue
        for end in ("value", "low", "high", "n"):
            mine = getattr(scores.per_slice["0"][name], end)
            assert mine == pytest.approx(getattr(alone[name], end), rel=1e-9), (name, end)
        assert scores[name].method == "jackknife-groups"
        assert scores[name].low < scores[name].value < scores[name].high


def test_rows_without_a_relative_error_are_left_out_and_told() -> None:
    preds = torch.tensor([1.0, 0.0, 3.0, -2.0])
    target = torch.tensor([0.0, 0.0, 2.0, 1.0])
    got = scores_of(preds, target, scores=["mape", "smape", "msle"])
    assert (got["mape"].value, got["mape"].n) == (1.75, 2)
    assert (got["smape"].value, got["smape"].n) == (pytest.approx((2 + 0 + 0.4 + 2) / 4), 4)
    assert got["msle"].n == 3
    assert got["mse"].n == 4
    assert not got.faults
    (note,) = got.notes
    assert note.startswith("3 × row whose target is 0, or")
    nothing = scores_of(torch.ones(2), torch.zeros(2))
    for name in ("mape", "wmape", "nrmse", "nrmse/l2"):
        assert math.isnan(nothing[name].value)
        assert "0" in nothing[name].reason


def test_intervals_cover_what_they_say() -> None:
    def pairs(rows: int, seed: int, outputs: int = 1) -> tuple[Tensor, Tensor]:
        g = torch.Generator().manual_seed(seed)
        target = 0.5 + torch.rand(rows, outputs, generator=g, dtype=torch.float64)
        return target + 0.2 * torch.randn(rows, outputs, generator=g), target

    names = ("mape", "smape", "wmape", "nrmse", "nrmse/std", "msle", "concordance")
    everything = scores_of(*pairs(400_000, 9), scores=names)
    metrics = pm.RegressionMetrics(num_outputs=200, scores=names)
    preds, target = pairs(100, 3, 200)
    metrics.update(preds, target)
    got = metrics.compute()
    for name in names:
        truth = everything[name].value
        rate = np.mean([score.low <= truth <= score.high for score in got.per_class[name]])
        assert 0.9 <= rate <= 0.99, (name, rate)


def test_arguments_that_cannot_work_are_told() -> None:
    with pytest.raises(pm.PtmetricsError, match="output_weights: expected 2 numbers of 0 or more"):
        pm.RegressionMetrics(num_outputs=2, output_weights=(1.0, 2.0, 3.0))
    with pytest.raises(pm.PtmetricsError, match="num_features: expected a whole number from 0"):
        pm.RegressionMetrics(num_features=-1)
    with pytest.raises(pm.PtmetricsError, match=r"scores: .*mape.*spearman"):
        pm.RegressionMetrics(scores=["mapee"])


def test_a_score_of_ones_own_is_given_the_cells() -> None:
    own = pm.ScoreSpec("rows", lambda counts: counts["rows"], range=(0, math.inf))
    assert scores_of(*positive(7, 4), scores=["mape", own])["rows"].value == 7
