"""Intervals of AUROC and average precision: DeLong from the definition, Newcombe's equation, and their coverage."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from registry import LAW
from torch import Tensor

from ptmetrics.metrics.curves import ScoreBins, auroc, average_precision
from ptmetrics.metrics.intervals import Z
from ptmetrics.metrics.rank_intervals import logit_interval, newcombe

REPETITIONS = 600


def as_bins(score: Tensor, target: Tensor) -> ScoreBins:
    """One row a sample, in order; scores differ."""
    target = target.gather(-1, score.argsort(-1))
    count = torch.stack((1 - target, target), -1)
    return ScoreBins(count, count.double(), count.double(), torch.zeros(score.shape[:-1]).double())


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
    got = auroc(as_bins(score, target))
    half = Z * math.sqrt(variance) / (area * (1 - area))
    logit = math.log(area / (1 - area))
    assert float(got.value) == pytest.approx(area, rel=1e-12)
    assert float(got.low) == pytest.approx(1 / (1 + math.exp(half - logit)), rel=1e-9)
    assert float(got.high) == pytest.approx(1 / (1 + math.exp(-half - logit)), rel=1e-9)


@given(st.floats(0, 1), st.integers(1, 500), st.integers(1, 500))
@LAW
def test_newcombe_solves_its_equation(area: float, positives: int, negatives: int) -> None:
    low, high = map(
        float, newcombe(*torch.tensor([area, positives, negatives], dtype=torch.float64))
    )
    assert 0 <= low <= area <= high <= 1
    more = (positives + negatives) / 2 - 1
    for end in (low, high):
        spread = end * (1 - end) * (1 + more * ((1 - end) / (2 - end) + end / (1 + end)))
        assert (area - end) ** 2 == pytest.approx(
            Z * Z * spread / (positives * negatives), abs=1e-8
        )


@pytest.mark.parametrize("rows", [4, 60, 1000])
def test_perfect_separation_is_no_certainty(rows: int) -> None:
    target = (torch.arange(rows) >= rows // 2).long()
    perfect = as_bins(torch.arange(rows).double(), target)
    worst = as_bins(-torch.arange(rows).double(), target)
    for score in (auroc, average_precision):
        assert float(score(perfect).value) == float(score(perfect).high) == 1.0
        assert 0 < float(score(perfect).low) < 1
    assert float(auroc(worst).value) == float(auroc(worst).low) == 0.0
    assert 0 < float(auroc(worst).high) < 1


def test_few_positives_have_the_wider_interval() -> None:
    g = torch.Generator().manual_seed(0)
    target = (torch.arange(400) < 20).long()
    score = torch.randn(400, generator=g, dtype=torch.float64) + target
    got, (area, variance) = auroc(as_bins(score, target)), delong_by_definition(score, target)
    narrow = logit_interval(*torch.tensor([area, variance], dtype=torch.float64))
    safe = newcombe(*torch.tensor([area, 20, 380], dtype=torch.float64))
    assert float(got.low) == pytest.approx(min(float(narrow[0]), float(safe[0])), rel=1e-9)
    assert float(got.high) == pytest.approx(max(float(narrow[1]), float(safe[1])), rel=1e-9)


def test_no_variance_has_no_normal_interval() -> None:
    for value, variance in ((0.5, 0.0), (1.0, 0.1), (0.0, 0.1), (0.5, math.nan)):
        ends = logit_interval(*torch.tensor([value, variance], dtype=torch.float64))
        assert all(end.isnan() for end in ends)


@pytest.mark.parametrize(
    ("rows", "share", "shift"),
    [(100, 0.2, 1.5), (400, 0.05, 1.5), (600, 0.3, 1.5), (300, 0.5, 3.0)],
)
def test_intervals_cover_the_truth_in_about_95_of_100_samples(
    rows: int, share: float, shift: float
) -> None:
    g = torch.Generator().manual_seed(1)
    big = 1_000_000
    many = (torch.rand(big, generator=g) < share).long()
    precision = average_precision(
        as_bins(torch.randn(big, generator=g).double() + shift * many, many)
    ).value
    truth = {auroc: 0.5 * (1 + math.erf(shift / 2)), average_precision: float(precision)}
    target = (torch.rand(REPETITIONS, rows, generator=g) < share).long()
    bins = as_bins(torch.randn(REPETITIONS, rows, generator=g).double() + shift * target, target)
    for score, value in truth.items():
        got = score(bins)
        covered = ((got.low <= value) & (value <= got.high)).double().mean()
        assert 0.92 <= float(covered) <= 0.995, score
