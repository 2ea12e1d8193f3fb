"""Weights have no unit: times any power between 1e-140 and 1e140 they give the same scores and intervals."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from registry import CASES, MetricCase

from ptmetrics import Mean, MulticlassMetrics, ScoreSpec
from ptmetrics.metrics.score import Score, Scores

LAW = settings(deadline=None, max_examples=8, derandomize=True)


def youden(c: Any) -> Any:
    return c.hits[..., 1] / c.actual[..., 1] + c.hits[..., 0] / c.actual[..., 0] - 1


def scores_of(case: MetricCase, scale: float) -> Scores:
    batches = []
    for seed in (1, 2):
        batch = case.batch(50, seed, True)
        assert batch.weight is not None
        weight = batch.weight.double().nan_to_num(0.0).clamp(min=0) + 0.25
        batches.append(replace(batch, weight=weight * scale))
    return case.counted(batches).compute()


def assert_near(one: Score, other: Score, name: str) -> None:
    for end in ("value", "low", "high", "error_bound"):
        x, y = getattr(one, end), getattr(other, end)
        both_nan = math.isnan(x) and math.isnan(y)
        assert x == y or both_nan or math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-9), f"{name}.{end}"
    assert one.n == other.n
    assert one.reason == other.reason


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
@given(exponent=st.floats(-139, 139))
@example(exponent=-139.0)
@example(exponent=139.0)
@LAW
def test_the_unit_of_the_weights_does_not_matter(case: MetricCase, exponent: float) -> None:
    plain, scaled = scores_of(case, 1.0), scores_of(case, 10.0**exponent)
    for name, score in plain.items():
        assert_near(score, scaled[name], name)
    for name, column in plain.per_class.items():
        if name == "support":  # a sum of weights, and so in their unit
            continue
        for one, other in zip(column, scaled.per_class[name], strict=True):
            assert_near(one, other, f"per class {name}")
    for part, scores in plain.per_slice.items():
        for name, score in scores.items():
            assert_near(score, scaled.per_slice[part][name], f"{part} {name}")


@given(exponent=st.floats(-139, 139))
@LAW
def test_your_own_scores_have_no_unit_either(exponent: float) -> None:
    g = torch.Generator().manual_seed(4)
    preds, target = torch.randint(0, 2, (2, 60), generator=g)
    weight = torch.rand(60, generator=g, dtype=torch.float64) + 0.1
    found = []
    for scale in (1.0, 10.0**exponent):
        spec = ScoreSpec("youden", youden, interval="delta", range=(-1, 1))
        metrics = MulticlassMetrics(2, inputs="labels", scores=[spec])
        metrics.update(preds, target, weight * scale)
        mean = Mean("right", lambda preds, target: preds == target, higher_is_better=True)
        mean.update(preds, target, weight * scale)
        found.append((metrics.compute()["youden"], mean.compute()["right"]))
    for one, other in zip(*found, strict=True):
        assert_near(one, other, "own")


@pytest.mark.parametrize("scale", [1e-100, 1.0, 3.0, 1e100])
def test_the_support_is_in_the_unit_of_the_weights(scale: float) -> None:
    metrics = MulticlassMetrics(2, inputs="labels")
    weight = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64) * scale
    metrics.update(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), weight)
    support = [score.value for score in metrics.compute().per_class["support"]]
    assert support == pytest.approx([5 * scale, 2 * scale], rel=1e-12)
