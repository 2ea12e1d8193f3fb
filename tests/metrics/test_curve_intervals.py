"""Intervals of AUROC and average precision: DeLong from the definition, few samples, and their coverage."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from registry import LAW
from torch import Tensor

from ptmetrics.metrics.curves import auroc_estimate, average_precision_estimate
from ptmetrics.metrics.estimate import Estimate
from ptmetrics.metrics.intervals import Z, logit_interval, newcombe
from ptmetrics.metrics.score_bins import ScoreBins

REPETITIONS = 600


@pytest.fixture(autouse=True)
def _undefined_is_nan() -> object:
    """As in `compute()`, where NaN is no surprise."""
    with np.errstate(all="ignore"):
        yield


def estimates(score: Tensor, target: Tensor) -> dict[str, Estimate]:
    """Both scores of samples whose scores differ, a row of the histogram each; of shape (…, samples)."""
    target = target.gather(-1, score.argsort(-1))
    count = torch.stack((1 - target, target), -1)
    weight = count.double()
    tied = torch.ones_like(target, dtype=torch.bool)
    summary = ScoreBins(count, weight, weight, tied, tied).summary()
    return {
        "auroc": auroc_estimate(summary.numpy()),
        "average_precision": average_precision_estimate(summary.numpy()),
    }


def delong_by_definition(score: Tensor, target: Tensor) -> tuple[float, float]:
    """Area and variance from all pairs (DeLong, DeLong and Clarke-Pearson 1988)."""
    pairs = (score[target == 1][:, None] > score[target == 0][None, :]).double()
    p, n = pairs.shape
    return float(pairs.mean()), float(pairs.mean(1).var() / p + pairs.mean(0).var() / n)


@given(st.integers(210, 400), st.integers(0, 2**32))
@LAW
def test_the_interval_of_many_samples_is_delong_on_the_logit_scale(rows: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    target = torch.arange(rows) % 2
    score = torch.randn(rows, generator=g, dtype=torch.float64) + target
    area, variance = delong_by_definition(score, target)
    got = estimates(score, target)["auroc"]
    half = Z * math.sqrt(variance) / (area * (1 - area))
    logit = math.log(area / (1 - area))
    assert float(got.value) == pytest.approx(area, rel=1e-12)
    assert float(got.low) == pytest.approx(1 / (1 + math.exp(half - logit)), rel=1e-9)
    assert float(got.high) == pytest.approx(1 / (1 + math.exp(-half - logit)), rel=1e-9)


@pytest.mark.parametrize("rows", [4, 60, 1000])
def test_perfect_separation_is_no_certainty(rows: int) -> None:
    target = (torch.arange(rows) >= rows // 2).long()
    score = torch.arange(rows).double()
    for perfect in estimates(score, target).values():
        assert float(perfect.value) == float(perfect.high) == 1.0
        assert 0 < float(perfect.low) < 1
    worst = estimates(-score, target)["auroc"]
    assert float(worst.value) == float(worst.low) == 0.0
    assert 0 < float(worst.high) < 1


def test_few_positives_have_the_wider_interval() -> None:
    g = torch.Generator().manual_seed(0)
    target = (torch.arange(400) < 20).long()
    score = torch.randn(400, generator=g, dtype=torch.float64) + target
    got = estimates(score, target)["auroc"]
    area, variance = (np.array(x) for x in delong_by_definition(score, target))
    narrow = logit_interval(area, variance)
    safe = newcombe(area, np.array(20.0), np.array(380.0))
    assert float(got.low) == pytest.approx(min(float(narrow[0]), float(safe[0])), rel=1e-9)
    assert float(got.high) == pytest.approx(max(float(narrow[1]), float(safe[1])), rel=1e-9)


@pytest.mark.parametrize(
    ("rows", "share", "shift"),
    [(100, 0.2, 1.5), (400, 0.05, 1.5), (600, 0.3, 1.5), (300, 0.5, 3.0)],
)
@pytest.mark.slow
def test_intervals_cover_the_truth_in_about_95_of_100_samples(
    rows: int, share: float, shift: float
) -> None:
    g = torch.Generator().manual_seed(1)
    many = (torch.rand(1_000_000, generator=g) < share).long()
    big = estimates(torch.randn(len(many), generator=g).double() + shift * many, many)
    truth = {
        "auroc": 0.5 * (1 + math.erf(shift / 2)),
        "average_precision": float(big["average_precision"].value),
    }
    target = (torch.rand(REPETITIONS, rows, generator=g) < share).long()
    score = torch.randn(REPETITIONS, rows, generator=g).double() + shift * target
    for name, got in estimates(score, target).items():
        covered = ((got.low <= truth[name]) & (truth[name] <= got.high)).mean()
        assert 0.92 <= float(covered) <= 0.995, name
