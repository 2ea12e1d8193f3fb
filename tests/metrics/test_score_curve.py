"""ROC curve, precision-recall curve and threshold table: scikit-learn's points, and counts that can be recounted."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import LAW
from sklearn.metrics import precision_recall_curve, roc_curve
from torch import Tensor

from ptmetrics import BinaryMetrics, MulticlassMetrics
from ptmetrics.metrics.score import Scores


def counted(preds: Tensor, target: Tensor, weight: Tensor | None = None, **config: Any) -> Scores:
    metrics = BinaryMetrics(**config)
    metrics.update(preds, target, weight)
    return metrics.compute()


def sampled(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    target = (torch.rand(rows, generator=g) < 0.4).long()
    return 2 * torch.randn(rows, generator=g) + target, target


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("curves", ["fp16", "exact"])
def test_the_points_of_both_curves_are_those_of_scikit_learn(weighted: bool, curves: Any) -> None:
    preds, target = sampled(400, 1)
    preds = preds.half().float()
    weight = torch.rand(400, generator=torch.Generator().manual_seed(2)) if weighted else None
    got = counted(preds, target, weight, curves=curves)
    fpr, tpr, _ = roc_curve(target, preds, sample_weight=weight, drop_intermediate=False)
    np.testing.assert_allclose(got.roc_curve().fpr, fpr, atol=1e-6)
    np.testing.assert_allclose(got.roc_curve().tpr, tpr, atol=1e-6)
    precision, recall, _ = precision_recall_curve(target, preds, sample_weight=weight)
    np.testing.assert_allclose(got.pr_curve().precision, precision, atol=1e-6)
    np.testing.assert_allclose(got.pr_curve().recall, recall, atol=1e-6)


def test_exact_curves_have_the_scores_themselves_as_thresholds() -> None:
    for inputs in ("logits", "probs"):
        preds, target = sampled(100, 1)
        preds = preds.sigmoid() if inputs == "probs" else preds
        got = counted(preds, target, curves="exact", inputs=inputs, capacity=200)
        _, _, thresholds = precision_recall_curve(target, preds)
        np.testing.assert_array_equal(got.pr_curve().thresholds, thresholds)
        assert got.roc_curve().thresholds[0] == torch.inf
        np.testing.assert_array_equal(got.roc_curve().thresholds[1:], thresholds[::-1])


@given(
    st.integers(0, 2**32),
    st.sampled_from(["logits", "probs"]),
    st.sampled_from([0.01, 1, 30]),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
@settings(LAW, max_examples=24)
def test_the_scores_at_or_above_a_threshold_are_those_that_it_counts(
    seed: int, inputs: Any, width: float, dtype: torch.dtype
) -> None:
    preds, target = sampled(60, seed)
    preds = (preds * width).sigmoid() if inputs == "probs" else preds * width
    preds = preds.to(dtype)
    table = counted(preds, target, inputs=inputs).thresholds()
    said = preds.double() >= table.threshold.unsqueeze(1)
    for called, actual, column in ((1, 1, "tp"), (1, 0, "fp"), (0, 0, "tn"), (0, 1, "fn")):
        counts = (said == called)[:, target == actual].sum(1)
        assert torch.equal(getattr(table, column), counts.double()), column


def test_every_column_follows_from_its_counts() -> None:
    preds, target = sampled(300, 3)
    t = counted(preds, target).thresholds()
    assert torch.equal(t.tp + t.fn, torch.full_like(t.tp, int(target.sum())))
    assert torch.equal(t.fp + t.tn, torch.full_like(t.tp, int((1 - target).sum())))
    torch.testing.assert_close(t.precision, t.tp / (t.tp + t.fp), equal_nan=True)
    torch.testing.assert_close(t.recall, t.tp / (t.tp + t.fn))
    torch.testing.assert_close(t.specificity, t.tn / (t.fp + t.tn))
    torch.testing.assert_close(t.npv, t.tn / (t.tn + t.fn), equal_nan=True)
    torch.testing.assert_close(t.f1, 2 * t.tp / (2 * t.tp + t.fp + t.fn))
    torch.testing.assert_close(t.probability, t.threshold.sigmoid())
    assert (t.threshold.diff() > 0).all()


def test_infinite_logits_have_thresholds_too() -> None:
    inf = torch.inf
    t = counted(torch.tensor([-inf, 0.0, inf]), torch.tensor([0, 1, 1])).thresholds()
    assert t.threshold[0] == -inf
    assert 65504 < t.threshold[2] < inf
    assert t.tp.tolist() == [2, 2, 1]


def test_without_data_the_table_is_empty_and_without_positives_recall_is_nan() -> None:
    empty = counted(torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert len(empty.thresholds().tp) == 0
    assert len(empty.roc_curve().fpr) == 1
    negatives = counted(torch.tensor([1.0, 2.0]), torch.tensor([0, 0]))
    assert negatives.thresholds().recall.isnan().all()
    assert negatives.roc_curve().tpr.isnan().all()
    assert negatives.roc_curve().fpr.tolist() == [0, 0.5, 1]


def test_a_curve_is_a_copy_that_later_batches_leave_alone() -> None:
    metrics = BinaryMetrics(curves="exact", capacity=10)
    metrics.update(torch.tensor([0.5, 1.5]), torch.tensor([0, 1]))
    scores = metrics.compute()
    before = [column.clone() for column in scores.thresholds()]
    metrics.update(torch.tensor([9.0]), torch.tensor([1]))
    metrics.reset()
    for again in (scores, copy.deepcopy(scores), pickle.loads(pickle.dumps(scores))):
        for old, new in zip(before, again.thresholds(), strict=True):
            torch.testing.assert_close(old, new, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("inputs", ["logits", "probs"])
def test_kept_scores_of_classes_give_scikit_learns_curve_of_each(classes: int, inputs: str) -> None:
    rng = torch.Generator().manual_seed(classes)
    preds = torch.randn(200, classes, generator=rng, dtype=torch.float64)
    target = torch.randint(0, classes, (200,), generator=rng)
    probs = preds.softmax(1)
    if inputs == "probs":
        preds = probs
    metrics = MulticlassMetrics(classes, inputs=inputs, curves="exact")
    metrics.update(preds, target)
    scores = metrics.compute()
    for head in range(classes):
        fpr, tpr, thresholds = roc_curve(target == head, probs[:, head], drop_intermediate=False)
        curve = scores.roc_curve(head)
        assert curve.fpr.tolist() == pytest.approx(fpr.tolist())
        assert curve.tpr.tolist() == pytest.approx(tpr.tolist())
        assert curve.thresholds[1:].tolist() == pytest.approx(thresholds[1:].tolist(), abs=1e-9)


def test_the_macro_curve_is_that_of_scikit_learns_example() -> None:
    g = torch.Generator().manual_seed(4)
    target = torch.randint(0, 3, (300,), generator=g)  # the last class has no targets
    logits = torch.randn(300, 4, generator=g) + torch.nn.functional.one_hot(target, 4)
    metrics = MulticlassMetrics(4, curves="exact")
    metrics.update(logits, target)
    scores = metrics.compute()
    got = scores.roc_curve("macro")
    margins = logits.double().softmax(1).logit()
    mean = np.zeros(len(got.fpr) - 1)
    for label in range(3):
        fpr, tpr, _ = roc_curve(target == label, margins[:, label], drop_intermediate=False)
        mean += np.interp(got.fpr[1:], fpr, tpr) / 3
    assert got.tpr[1:].numpy() == pytest.approx(mean, abs=1e-9)
    assert (got.fpr[0], got.tpr[0]) == (0, 0)
    assert (got.fpr[-1], got.tpr[-1]) == (1, 1)
    area = float(torch.trapezoid(got.tpr, got.fpr))
    assert area == pytest.approx(scores["auroc/macro"].value, abs=0.01)


def test_a_class_that_is_called_macro_has_a_curve_of_its_own() -> None:
    metrics = MulticlassMetrics(2, curves=True, class_names=["macro", "other"])
    metrics.update(torch.randn(9, 2), torch.arange(9) % 2)
    assert not metrics.compute().roc_curve("macro").thresholds.isnan().any()
    empty = MulticlassMetrics(2, curves=True).compute().roc_curve("macro")
    assert empty.tpr.isnan().all()
