"""`advise_threshold`: the unit of the threshold, honest scores, refusals in words, and JSON."""

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import ptmetrics as pm
from ptmetrics.errors import ConfigError, DataError


def sampled(rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    target = (torch.rand(rows, generator=g) < 0.3).long()
    return (torch.randn(rows, generator=g) + 3 * target - 1).half().float(), target


def counted(
    preds: Tensor, target: Tensor, weight: Tensor | None = None, **config: Any
) -> pm.Scores:
    metrics = pm.BinaryMetrics(**config)
    metrics.update(preds, target, weight)
    return metrics.compute()


AIMS: list[dict[str, Any]] = [
    {"recall_at_least": 0.9},
    {"precision_at_least": 0.9},
    {"recall_at_least": 0.8, "precision_at_least": 0.6},
    {"cost": (1, 10)},
    {"beta": 2},
]


@pytest.mark.parametrize("inputs", ["logits", "probs"])
def test_the_threshold_is_in_the_unit_of_the_predictions(inputs: Any) -> None:
    logits, target = sampled(2000)
    preds = logits if inputs == "logits" else logits.double().sigmoid()
    advice = pm.advise_threshold(
        counted(preds, target, inputs=inputs, curves="exact"), recall_at_least=0.95
    )
    called = preds >= advice.threshold
    positives = preds[target == 1].sort().values
    assert advice.certified
    assert any(math.isclose(advice.threshold, float(p), rel_tol=1e-6) for p in positives)
    assert 0.95 < (called & (target == 1)).sum() / target.sum() < 0.99
    as_probability = (
        torch.tensor(advice.threshold).sigmoid() if inputs == "logits" else advice.threshold
    )
    assert advice.probability == pytest.approx(float(as_probability), rel=1e-5)


@pytest.mark.parametrize("aim", AIMS, ids=str)
def test_scores_are_counted_on_halves_that_had_no_part_and_all_of_it_is_json(
    aim: dict[str, Any],
) -> None:
    advice = pm.advise_threshold(counted(*sampled(4000)), **aim)
    assert advice.cross_fit
    assert "had no part in choosing" in advice.reason
    assert advice.certified == ("recall_at_least" in aim or "precision_at_least" in aim)
    for score in (advice.recall, advice.precision, *advice.scores.values()):
        assert score.low <= score <= score.high
    plain = json.loads(json.dumps(advice.to_dict(), allow_nan=False))
    assert plain["threshold"] == advice.threshold
    assert plain["scores"]["recall"]["low"] == advice.recall.low
    assert str(advice).startswith(f"threshold {advice.threshold:.6g} (probability ")
    assert ("certified at 95 %" in str(advice)) == advice.certified


def test_too_few_positives_are_told_with_how_many_are_missing() -> None:
    target = torch.tensor([1] * 20 + [0] * 50)
    advice = pm.advise_threshold(counted(torch.linspace(3, -3, 70), target), recall_at_least=0.95)
    assert (advice.certified, advice.needed, advice.cross_fit) == (False, 39, False)
    assert "not certifiable, 39 more positives needed" in advice.reason
    assert "optimistic" in advice.reason
    assert advice.recall == 1.0


def test_more_confidence_needs_more_positives() -> None:
    target = torch.tensor([1] * 60 + [0] * 50)
    scores = counted(torch.linspace(3, -3, 110), target)
    assert pm.advise_threshold(scores, recall_at_least=0.95).certified
    assert pm.advise_threshold(scores, recall_at_least=0.95, confidence=0.99).needed == 30


def test_without_a_threshold_the_scores_say_so_and_are_json() -> None:
    advice = pm.advise_threshold(counted(torch.randn(40), torch.zeros(40).long()), beta=1)
    assert math.isnan(advice.threshold)
    assert advice.recall.reason == "no threshold was chosen: there is no positive"
    assert str(advice) == "no threshold: there is no positive"
    assert json.loads(json.dumps(advice.to_dict(), allow_nan=False))["threshold"] is None


def test_weighted_counts_get_no_certificate_and_no_interval() -> None:
    preds, target = sampled(2000)
    scores = counted(preds, target, torch.full((2000,), 2.0))  # whole numbers, and yet no samples
    advice = pm.advise_threshold(scores, recall_at_least=0.9)
    assert not advice.certified
    assert "no certificate from weighted counts" in advice.reason
    advice = pm.advise_threshold(scores, cost=(1, 2))
    assert math.isfinite(advice.threshold)
    assert math.isnan(advice.recall.low)
    assert not advice.cross_fit
    assert scores.weighted
    assert not counted(preds, target).weighted


def test_the_mean_cost_is_that_of_the_counts() -> None:
    target = torch.tensor([0, 1] * 500)
    advice = pm.advise_threshold(counted(target * 2.0 - 1, target), cost=(1, 3))
    assert advice.scores["cost"] == 0.0
    noise = pm.advise_threshold(counted(torch.zeros(1000), target), cost=(1, 3))
    assert noise.scores["cost"] == 0.5  # all called positive: half of them wrong, at 1 each
    assert noise.scores["cost"].low < 0.5 < noise.scores["cost"].high


@pytest.mark.parametrize(
    ("aim", "message"),
    [
        ({}, "aim: expected one of recall_at_least .*, got none. Pass"),
        ({"beta": 1, "cost": (1, 1)}, "aim: expected one of .*, got several. Pass"),
        (
            {"recall_at_least": 1.0},
            "recall_at_least: expected a share between 0 and 1, got 1.0. Pass",
        ),
        (
            {"recall_at_least": 0.9, "precision_at_least": 95},
            "precision_at_least: expected a share .*, got 95. P",
        ),
        ({"beta": 0}, "beta: expected a finite number above 0, got 0. Pass beta=1"),
        ({"cost": 3}, "cost: expected the costs of a false alarm and of a miss, got 3. Pass cost="),
        ({"cost": (1, -1)}, "cost: expected a finite number above 0, got -1. Pass cost="),
        (
            {"beta": 1, "confidence": 95},
            "confidence: expected a share between 0 and 1, got 95. Pass",
        ),
    ],
)
def test_an_aim_that_cannot_be_is_refused(aim: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pm.advise_threshold(counted(*sampled(50)), **aim)


def test_scores_without_a_curve_or_without_samples_are_refused() -> None:
    with pytest.raises(ConfigError, match="curves: expected a metric that keeps scores"):
        pm.advise_threshold(
            counted(torch.ones(3).long(), torch.ones(3).long(), inputs="labels"), beta=1
        )
    with pytest.raises(DataError, match=r"scores: expected at least one sample, got none\. Update"):
        pm.advise_threshold(pm.BinaryMetrics().compute(), beta=1)
