"""Points of curves that are asked for by name: against torchmetrics and scikit-learn, and their intervals."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torchmetrics.functional import classification as tm

from ptmetrics import BinaryMetrics, MulticlassMetrics, MultilabelMetrics
from ptmetrics.errors import ConfigError

AT = [
    "recall@precision>=0.6",
    "precision@recall>=0.8",
    "sensitivity@specificity>=0.9",
    "specificity@sensitivity>=0.9",
    "tpr@fpr<=0.1",
    "eer",
    "auroc@fpr<=0.2",
]
REFERENCE = {
    "recall@precision>=0.6": lambda x, t: tm.binary_recall_at_fixed_precision(x, t, 0.6)[0],
    "precision@recall>=0.8": lambda x, t: tm.binary_precision_at_fixed_recall(x, t, 0.8)[0],
    "sensitivity@specificity>=0.9": lambda x, t: tm.binary_sensitivity_at_specificity(x, t, 0.9)[0],
    "specificity@sensitivity>=0.9": lambda x, t: tm.binary_specificity_at_sensitivity(x, t, 0.9)[0],
    "tpr@fpr<=0.1": lambda x, t: tm.binary_sensitivity_at_specificity(x, t, 0.9)[0],
    "eer": tm.binary_eer,
    "auroc@fpr<=0.2": lambda x, t: roc_auc_score(t, x, max_fpr=0.2),
}


def sampled(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    target = (torch.rand(rows, generator=g) < 0.3).long()
    return (torch.randn(rows, generator=g) + 1.5 * target).sigmoid(), target


@pytest.mark.slow
@pytest.mark.parametrize("curves", ["fp16", "fine", "exact"])
@pytest.mark.parametrize("digits", [1, 6])
def test_points_are_those_of_torchmetrics_within_their_bound(curves: Any, digits: int) -> None:
    for seed in range(3):
        preds, target = sampled(300, seed)
        preds = preds.round(decimals=digits)
        metrics = BinaryMetrics(inputs="probs", curves=curves, capacity=300, at=AT)
        metrics.update(preds, target)
        got = metrics.compute()
        for name, of in REFERENCE.items():
            score = got[name]
            off = abs(score.value - float(of(preds, target)))
            assert off <= score.error_bound + 1e-6, (name, score, off)
            assert 0 <= score.low <= score.value <= score.high <= 1
            assert score.higher_is_better == (name != "eer")
            if digits == 1 or curves == "exact":
                assert score.error_bound == 0


def test_a_class_and_a_label_have_points_averages_and_curves() -> None:
    g = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (500,), generator=g)
    logits = torch.randn(500, 3, generator=g)
    logits[torch.arange(500), target] += 1.0
    p = logits.double().softmax(1)
    hot = torch.nn.functional.one_hot(target, 3)
    names = ["cat", "dog", "owl"]
    for curves in ("fp16", "exact"):
        of_classes = MulticlassMetrics(3, curves=curves, capacity=500, at=AT, class_names=names)
        of_classes.update(logits, target)
        of_labels = MultilabelMetrics(3, inputs="probs", curves=curves, capacity=500, at=AT)
        of_labels.update(p, hot)
        one, other = of_classes.compute(), of_labels.compute()
        for got in (one, other):
            for average in ("macro", "weighted", "micro"):
                area = got[f"auroc/{average}"]
                truth = roc_auc_score(hot, p, average=average)
                assert abs(area - truth) <= area.error_bound + 1e-9
                precision = got[f"average_precision/{average}"]
                truth = average_precision_score(hot, p, average=average)
                assert abs(precision - truth) <= precision.error_bound + 1e-9
            for name, of in REFERENCE.items():
                each = got.per_class[name]
                for place, score in enumerate(each):
                    truth = float(of(p[:, place], hot[:, place]))
                    assert abs(score.value - truth) <= score.error_bound + 1e-6
                mean = np.mean([score.value for score in each])
                assert got[f"{name}/macro"].value == pytest.approx(mean)
        table = one.thresholds("dog")
        assert len(table.tp) == len(one.roc_curve(1).tpr) - 1
        dogs = p[:, 1] >= table.probability[50] - 1e-7
        assert int(table.tp[50] + table.fp[50]) == int(dogs.sum())
        assert "auroc/ovo" in one or curves == "fp16"
        if curves == "exact":
            truth = roc_auc_score(target, p, multi_class="ovo")
            assert one["auroc/ovo"].value == pytest.approx(truth, abs=1e-12)
            weighted = roc_auc_score(target, p, multi_class="ovo", average="weighted")
            assert one["auroc/ovo/weighted"].value == pytest.approx(weighted, abs=1e-12)
        for label in (None, "bird", 3):
            with pytest.raises(ConfigError, match="label: expected"):
                one.roc_curve(label)


def test_exact_curves_of_many_classes_are_refused_beyond_their_memory() -> None:
    with pytest.raises(ConfigError, match="curves: expected scores kept in 4 GiB"):
        MulticlassMetrics(1000, curves="exact", capacity=1_000_000)
    with pytest.raises(ConfigError, match="up to 1024 labels or classes"):
        MultilabelMetrics(2000, curves="exact")


@pytest.mark.slow
def test_flat_logits_of_a_thousand_classes_lose_next_to_nothing() -> None:
    g = torch.Generator().manual_seed(0)
    target = torch.randint(0, 1000, (4000,), generator=g)
    logits = 0.03 * torch.randn(4000, 1000, generator=g)
    logits[torch.arange(4000), target] += 0.03
    metrics = MulticlassMetrics(1000, curves=True, losses=False)
    metrics.update(logits, target)
    got = metrics.compute()
    p = logits.double().softmax(1)
    seen = [c for c in range(1000) if (target == c).any()]
    areas = [roc_auc_score(target == c, p[:, c]) for c in seen]
    precisions = [average_precision_score(target == c, p[:, c]) for c in seen]
    for name, each in (("auroc/macro", areas), ("average_precision/macro", precisions)):
        assert abs(got[name] - np.mean(each)) <= min(1e-4, got[name].error_bound)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [200, 1000])
def test_intervals_of_points_cover_the_truth(rows: int) -> None:
    many, truth_target = sampled(400_000, 99)
    whole = BinaryMetrics(inputs="probs", losses=False, at=AT)
    whole.update(many, truth_target)
    truth = whole.compute()
    covered = dict.fromkeys(AT, 0)
    for seed in range(150):
        metrics = BinaryMetrics(inputs="probs", losses=False, at=AT)
        metrics.update(*sampled(rows, seed))
        got = metrics.compute()
        for name in AT:
            covered[name] += got[name].low <= truth[name].value <= got[name].high
    assert all(number >= 0.88 * 150 for number in covered.values()), covered
    assert not math.isnan(truth["eer"].value)


def test_pairs_of_classes_are_of_those_that_averages_are_over() -> None:
    g = torch.Generator().manual_seed(3)
    target = torch.randint(0, 4, (200,), generator=g)
    logits = torch.randn(200, 4, generator=g) + torch.nn.functional.one_hot(target, 4)
    metrics = MulticlassMetrics(4, curves="exact", labels=[0, 2, 3])
    metrics.update(logits, target)
    scores = metrics.compute()
    margins = logits.softmax(1).double().logit()
    areas, rows = [], []
    for one in (0, 2, 3):
        for other in {0, 2, 3} - {one}:
            both = (target == one) | (target == other)
            areas.append(roc_auc_score(target[both] == one, margins[both, one]))
            rows.append(int(both.sum()))
    assert scores["auroc/ovo"].value == pytest.approx(sum(areas) / 6, abs=1e-9)
    weighted = sum(a * n for a, n in zip(areas, rows, strict=True)) / sum(rows)
    assert scores["auroc/ovo/weighted"].value == pytest.approx(weighted, abs=1e-9)
