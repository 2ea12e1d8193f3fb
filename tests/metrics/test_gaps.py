"""Gaps between slices: against counts by hand, by simulation, and where there are none."""

import math

import numpy as np
import pytest
import torch

import ptmetrics as pm
from ptmetrics.metrics.gaps import gap_between
from ptmetrics.metrics.intervals import wilson
from ptmetrics.metrics.score import Score
from ptmetrics.verdict.stats import hybrid_difference

NAMES = ["a", "b", "c"]


def counted(rows: int = 900, seed: int = 0) -> tuple[pm.Scores, torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 2, (rows,), generator=g)
    part = torch.randint(0, 3, (rows,), generator=g)
    wrong = torch.rand(rows, generator=g) < 0.1 + 0.1 * part
    preds = torch.where(wrong, 1 - target, target)
    metrics = pm.BinaryMetrics(inputs="labels", slices=NAMES)
    metrics.update(preds, target, slices=part)
    return metrics.compute(), preds, target, part


def test_the_gaps_are_those_of_the_definition() -> None:
    scores, preds, target, part = counted()
    selected, recall, false_positive = [], [], []
    for k in range(3):
        inside = part == k
        selected.append(float(preds[inside].double().mean()))
        recall.append(float(preds[inside & (target == 1)].double().mean()))
        false_positive.append(float(preds[inside & (target == 0)].double().mean()))

    def difference(x: list[float]) -> float:
        return max(x) - min(x)

    def ratio(x: list[float]) -> float:
        return min(x) / max(x)

    assert {name: score.value for name, score in pm.fairness_gaps(scores).items()} == pytest.approx(
        {
            "demographic_parity_difference": difference(selected),
            "demographic_parity_ratio": ratio(selected),
            "equal_opportunity_difference": difference(recall),
            "equal_opportunity_ratio": ratio(recall),
            "equalized_odds_difference": max(difference(recall), difference(false_positive)),
            "equalized_odds_ratio": min(ratio(recall), ratio(false_positive)),
        },
        rel=1e-12,
    )
    for name, score in pm.fairness_gaps(scores).items():
        assert score.low <= score.value <= score.high, name
    found = pm.slice_gap(scores, "recall")
    assert found.highest == NAMES[int(np.argmax(recall))]
    assert found.lowest == NAMES[int(np.argmin(recall))]


@pytest.mark.parametrize("task", ["classes", "labels"])
def test_gaps_of_classes_and_labels_are_the_worst_of_any_against_the_rest(task: str) -> None:
    g = torch.Generator().manual_seed(1)
    part = torch.randint(0, 3, (900,), generator=g)
    names = ["selection_rate", "specificity"]
    preds, target = (torch.rand(2, 900, 4, generator=g) < 0.5).long()
    metrics: pm.Metrics = pm.MultilabelMetrics(4, inputs="labels", scores=names, slices=NAMES)
    if task == "classes":
        preds, target = torch.randint(0, 4, (2, 900), generator=g)
        metrics = pm.MulticlassMetrics(4, inputs="labels", scores=names[:1], slices=NAMES)
    metrics.update(preds, target, slices=part)
    got = pm.fairness_gaps(metrics.compute())
    if task == "classes":
        preds, target = (torch.nn.functional.one_hot(x, 4) for x in (preds, target))
    alone = []
    for place in range(4):
        one = pm.BinaryMetrics(inputs="labels", slices=NAMES)
        one.update(preds[:, place], target[:, place], slices=part)
        alone.append(pm.fairness_gaps(one.compute()))
    for name, score in got.items():
        worst = max if name.endswith("difference") else min
        assert score.value == pytest.approx(worst(each[name].value for each in alone)), name
        assert score.low <= score.value <= score.high
        widest = max(each[name].high - each[name].low for each in alone)
        assert score.method == "mover-sidak"
        assert score.high > worst(each[name].value for each in alone)
        assert score.high - score.low < 3 * widest


def test_a_class_that_a_slice_lacks_is_left_out_of_the_gaps_of_recall() -> None:
    target = torch.tensor([0, 1, 2, 0, 1, 1])
    metrics = pm.MulticlassMetrics(3, inputs="labels", slices=["a", "b"], scores=["selection_rate"])
    metrics.update(target, target, slices=torch.tensor([0, 0, 0, 1, 1, 1]))
    scores = metrics.compute()
    assert scores.per_slice_class["a"]["recall"][2].value == 1
    assert math.isnan(scores.per_slice_class["b"]["recall"][2])
    gaps = pm.fairness_gaps(scores)
    assert gaps["equal_opportunity_difference"].value == 0
    assert gaps["demographic_parity_difference"].value == pytest.approx(1 / 3)


def test_gaps_of_classes_need_their_selection_rate() -> None:
    metrics = pm.MulticlassMetrics(3, inputs="labels", slices=2)
    metrics.update(torch.arange(3), torch.arange(3), slices=torch.tensor([0, 1, 1]))
    with pytest.raises(pm.PtmetricsError, match="name: expected a score of the slices, got 'sel"):
        pm.fairness_gaps(metrics.compute())


def of_shares(hits: np.ndarray, n: int) -> dict[str, dict[str, Score]]:
    low, high = wilson(hits / n, np.full(len(hits), float(n)))
    return {
        str(i): {"s": Score(hits[i] / n, low=low[i], high=high[i], n=n)} for i in range(len(hits))
    }


def test_of_two_slices_it_is_newcombes_interval_of_the_difference() -> None:
    slices = of_shares(np.array([30, 45]), 60)
    found = gap_between(slices, "s").difference
    first, second = slices["1"]["s"], slices["0"]["s"]
    expected = hybrid_difference(
        (first.value, first.low, first.high), (second.value, second.low, second.high)
    )
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-9)
    assert found.n == 60


@pytest.mark.parametrize(
    ("shares", "n"),
    [((0.5, 0.5), 100), ((0.5,) * 5, 100), ((0.3, 0.5), 100), ((0.3, 0.5, 0.5, 0.5), 100)],
)
def test_intervals_allow_for_the_best_of_all_pairs(shares: tuple[float, ...], n: int) -> None:
    rng = np.random.default_rng(0)
    difference, ratio, held = max(shares) - min(shares), min(shares) / max(shares), [0, 0]
    for _ in range(400):
        found = gap_between(of_shares(rng.binomial(n, shares), n), "s")
        held[0] += found.difference.low <= difference + 1e-12 <= found.difference.high + 1e-9
        held[1] += found.ratio.low <= ratio <= found.ratio.high + 1e-12
    assert min(held) >= 0.91 * 400


def test_slices_that_are_alike_are_told_apart_by_chance_no_more_often_than_one_in_twenty() -> None:
    rng = np.random.default_rng(1)
    apart = sum(
        gap_between(of_shares(rng.binomial(80, [0.7] * 8), 80), "s").difference.low > 0
        for _ in range(300)
    )
    assert apart <= 0.08 * 300


def test_a_slice_without_positives_has_no_share_in_the_gap_of_recalls() -> None:
    metrics = pm.BinaryMetrics(inputs="labels", slices=NAMES)
    target = torch.tensor([1, 1, 1, 1, 0, 0])
    metrics.update(torch.tensor([1, 1, 1, 0, 0, 0]), target, slices=torch.arange(6) // 2)
    found = pm.slice_gap(metrics.compute(), "recall")
    assert (found.highest, found.lowest, found.difference.value) == ("a", "b", 0.5)


def test_a_share_of_0_makes_the_ratio_0_and_no_value_at_all_is_told() -> None:
    found = gap_between(of_shares(np.array([0, 10]), 40), "s")
    assert (found.ratio.value, found.ratio.low) == (0.0, 0.0)
    assert 0 < found.ratio.high < 1
    none = gap_between({"a": {"s": Score(0.5, low=0.4, high=0.6)}}, "s")
    assert math.isnan(none.difference)
    assert none.difference.reason == "fewer than two slices have this score"


def test_errors_of_any_unit_have_gaps_too() -> None:
    metrics = pm.RegressionMetrics(slices=2)
    g = torch.Generator().manual_seed(0)
    part = torch.arange(200) % 2
    target = torch.randn(200, generator=g)
    metrics.update(target + (10 + 10 * part) * torch.randn(200, generator=g), target, slices=part)
    found = pm.slice_gap(metrics.compute(), "mae")
    assert found.difference.low > 0
    assert found.ratio.high < 1
    assert math.isnan(pm.slice_gap(metrics.compute(), "bias").ratio)


def test_what_has_no_slices_or_not_this_score_says_so() -> None:
    metrics = pm.BinaryMetrics(inputs="labels")
    metrics.update(torch.tensor([1, 0]), torch.tensor([1, 1]))
    with pytest.raises(pm.PtmetricsError, match="slices: expected scores of slices, got none"):
        pm.slice_gap(metrics.compute(), "recall")
    scores, *_ = counted()
    with pytest.raises(pm.PtmetricsError, match="name: expected a score of the slices, got 'no'"):
        pm.slice_gap(scores, "no")
