"""Scores that are asked for by name, and averages over some of the classes, beside scikit-learn's."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import same
from registry import LAW
from sklearn import metrics as sk

from ptmetrics import BinaryMetrics, MulticlassMetrics, MultilabelMetrics, Scores, functional
from ptmetrics.errors import ConfigError
from ptmetrics.metrics.asked_scores import ASKED_SPECS, WeightedKappa
from ptmetrics.metrics.class_scores import ClassCounts
from ptmetrics.metrics.score_spec import evaluate

NAMES = sorted({spec.name for spec in ASKED_SPECS})
AVERAGED = {
    "precision": sk.precision_score,
    "recall": sk.recall_score,
    "f1": sk.f1_score,
    "jaccard": sk.jaccard_score,
}


def graded(seed: int, rows: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, predictions near them, and weights."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, rows)
    preds = np.clip(target + rng.integers(-1, 2, rows), 0, classes - 1)
    return (
        target,
        preds,
        rng.integers(1, 17, rows) / 8,
    )  # sums are exact: nothing over nothing is seen


def scores_of(target: np.ndarray, preds: np.ndarray, weight: np.ndarray, **config: Any) -> Scores:
    metrics = MulticlassMetrics(inputs="labels", **config)
    metrics.update(torch.tensor(preds), torch.tensor(target), torch.tensor(weight))
    return metrics.compute()


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(2, 6))
@settings(LAW, max_examples=30)
def test_scores_that_are_asked_for_are_those_of_scikit_learn(
    seed: int, rows: int, classes: int
) -> None:
    y, p, w = graded(seed, rows, classes)
    got = scores_of(y, p, w, num_classes=classes, scores=NAMES)
    labels = range(classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in ("linear", "quadratic"):
            expected = sk.cohen_kappa_score(y, p, weights=kind, labels=labels, sample_weight=w)
            assert same(got[f"kappa/{kind}"], expected), kind
        if len(set(y)) > 1:
            expected = sk.balanced_accuracy_score(y, p, adjusted=True, sample_weight=w)
            assert same(got["balanced_accuracy/adjusted"], expected)
    cells = sk.multilabel_confusion_matrix(y, p, labels=labels, sample_weight=w).reshape(-1, 4)
    for name, column in zip(("tn", "fp", "fn", "tp"), cells.T, strict=True):
        assert all(map(same, got.per_class[name], column)), name
    tn, fp, fn, tp = cells.T
    there = tp + fp + fn > 0
    others = (tn + fp)[there].sum()
    assert same(got["specificity/micro"], tn[there].sum() / others if others else 0.0)
    with np.errstate(invalid="ignore"):
        npv = np.where(there, np.nan_to_num(tn / (tn + fn)), math.nan)
        accuracy = (tn + tp) / w.sum()
    assert all(map(same, got.per_class["npv"], npv))
    assert all(map(same, got.per_class["accuracy"], accuracy))
    assert same(got["npv/macro"], np.nanmean(npv))
    left = (tn + fn)[there].sum()
    assert same(got["npv/micro"], tn[there].sum() / left if left else 0.0)
    targets = tp + fn
    assert same(got["npv/weighted"], np.nansum(npv * targets) / targets.sum())


def test_yes_or_no_has_the_four_counts_by_name() -> None:
    metrics = BinaryMetrics(inputs="labels", scores=["tp", "fp", "tn", "fn"])
    metrics.update(torch.tensor([0, 1, 1, 0, 1]), torch.tensor([0, 1, 0, 1, 1]))
    got = metrics.compute()
    assert [got[name].value for name in ("tp", "fp", "tn", "fn")] == [2, 1, 1, 1]


@given(
    st.integers(0, 2**32),
    st.integers(1, 40),
    st.lists(st.integers(0, 4), min_size=1, unique=True),
)
@settings(LAW, max_examples=40)
def test_averages_over_some_classes_are_those_of_scikit_learn(
    seed: int, rows: int, labels: list[int]
) -> None:
    y, p, w = graded(seed, rows, 5)
    got = scores_of(y, p, w, num_classes=5, labels=labels, absent=0.0)
    for average in ("macro", "micro", "weighted"):
        for name, function in AVERAGED.items():
            how = {"average": average, "labels": labels, "sample_weight": w, "zero_division": 0}
            score = got[f"{name}/{average}"]
            assert same(score, function(y, p, **how)), f"{name}/{average}"
            assert score.low <= score.value <= score.high
    assert same(got["accuracy"], sk.accuracy_score(y, p, sample_weight=w))


def test_a_class_that_is_ignored_is_in_no_average() -> None:
    preds, target = torch.tensor([0, 0, 2, 1, 2]), torch.tensor([0, 1, 2, 2, 1])
    got = functional.multiclass(preds, target, 3, inputs="labels", ignore_index=0)
    assert got["recall/macro"] == 0.25
    assert got["precision/micro"].value == pytest.approx(1 / 3)
    assert got["recall/micro"] == got["accuracy"] == 0.25
    named = functional.multiclass(
        preds, target, 3, inputs="labels", class_names=["O", "A", "B"], labels=["A", "B"]
    )
    assert named["precision/micro"].value == pytest.approx(1 / 3)
    with pytest.raises(ConfigError, match=r"labels: expected different classes among O, A, B"):
        MulticlassMetrics(3, class_names=["O", "A", "B"], labels=["C"])
    with pytest.raises(ConfigError, match=r"scores: expected .* names among kappa/linear"):
        MulticlassMetrics(3, scores=["kappa/cubic"])


@pytest.mark.parametrize("power", [1, 2])
def test_the_influence_of_a_cell_is_that_of_differences(power: int) -> None:
    matrix = np.random.default_rng(power).random((4, 4)) * 9 + 0.5
    kappa = WeightedKappa(power)
    _, slope = kappa.influence(matrix)
    for cell in np.ndindex(4, 4):
        step = np.zeros((4, 4))
        step[cell] = 1e-5
        expected = (kappa(matrix + step) - kappa(matrix - step)) / 2e-5
        assert slope[cell] == pytest.approx(expected, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("rows", [30, 200, 2000])
def test_about_95_of_100_intervals_of_kappa_cover_the_truth(rows: int) -> None:
    place = np.arange(5)
    cells = np.exp(-1.2 * np.abs(place[:, None] - place))
    cells /= cells.sum()
    specs = [spec for spec in ASKED_SPECS if spec.name.startswith("kappa/")]
    count = np.random.default_rng(0).multinomial(rows, cells.ravel(), 4000).reshape(-1, 5, 5)
    weight = count.astype(np.float64)
    with np.errstate(all="ignore"):
        truth = evaluate(specs, ClassCounts.of_matrices(cells, cells, cells, math.nan))
        got = evaluate(specs, ClassCounts.of_matrices(count, weight, weight, math.nan))
    for key, found in got.items():
        covered = (found.low <= truth[key].value) & (truth[key].value <= found.high)
        assert 0.93 <= covered.mean() <= 0.98, key


def test_kappa_of_slices_and_groups_has_the_matrix_of_each() -> None:
    y, p, w = graded(3, 400, 4)
    where = torch.arange(400) % 2
    metrics = MulticlassMetrics(
        4, inputs="labels", scores=["kappa/quadratic"], slices=["a", "b"], groups=True
    )
    metrics.update(
        torch.tensor(p),
        torch.tensor(y),
        torch.tensor(w),
        slices=where,
        group=torch.arange(400) // 8,
    )
    got = metrics.compute()
    assert got["kappa/quadratic"].method == "jackknife-groups"
    for place, name in enumerate("ab"):
        kept = where.numpy() == place
        expected = sk.cohen_kappa_score(
            y[kept], p[kept], weights="quadratic", sample_weight=w[kept], labels=range(4)
        )
        part = got.per_slice[name]["kappa/quadratic"]
        assert same(part, expected)
        assert part.low < part.value < part.high


def test_labels_have_a_matrix_each_and_scores_of_their_own() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, (2, 40, 3))
    names = ["specificity", "npv", "accuracy", "tp", "fp", "tn", "fn"]
    metrics = MultilabelMetrics(3, inputs="labels", scores=names)
    metrics.update(torch.tensor(p), torch.tensor(y))
    got = metrics.compute()
    matrices = sk.multilabel_confusion_matrix(y, p)
    assert got.confusion is not None
    assert got.confusion.tolist() == matrices.tolist()
    for label, (tn, fp, fn, tp) in enumerate(matrices.reshape(-1, 4)):
        counts = (tn / (tn + fp), tn / (tn + fn), (tn + tp) / 40, tp, fp, tn, fn)
        for name, value in zip(names, counts, strict=True):
            score = got.per_class[name][label]
            assert same(score, value)
            assert score.low <= score.value <= score.high


@pytest.mark.parametrize("weighted", [False, True])
def test_means_over_labels_of_specificity_npv_and_accuracy(weighted: bool) -> None:
    rng = np.random.default_rng(1)
    y = (rng.random((300, 4)) < [0.02, 0.3, 0.5, 0.9]).astype(int)
    p = np.where(rng.random((300, 4)) < 0.8, y, 1 - y)
    w = rng.uniform(0.5, 2, 300) if weighted else np.ones(300)
    kinds = ("specificity", "npv", "accuracy")
    names = [f"{kind}/{mean}" for kind in kinds for mean in ("macro", "micro", "weighted")]
    metrics = MultilabelMetrics(4, inputs="labels", scores=names)
    metrics.update(torch.tensor(p), torch.tensor(y), torch.tensor(w) if weighted else None)
    got = metrics.compute()
    tn, fp, fn, tp = sk.multilabel_confusion_matrix(y, p, sample_weight=w).reshape(-1, 4).T
    parts = {"specificity": (tn, tn + fp), "npv": (tn, tn + fn), "accuracy": (tn + tp, w.sum())}
    for kind, (part, whole) in parts.items():
        each = part / whole
        means = {
            "macro": each.mean(),
            "micro": part.sum() / np.broadcast_to(whole, 4).sum(),
            "weighted": np.average(each, weights=tp + fn),
        }
        for mean, value in means.items():
            score = got[f"{kind}/{mean}"]
            assert same(score, value), score
            assert 0 < score.low < score.value < score.high < 1


@pytest.mark.parametrize("curves", [True, "exact"])
@pytest.mark.parametrize("weighted", [False, True])
def test_averages_of_curves_over_some_classes_are_those_of_scikit_learn(
    curves: Any, weighted: bool
) -> None:
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 4, generator=g).half().float()
    target = torch.randint(0, 4, (200,), generator=g)
    weight = torch.rand(200, dtype=torch.float64) if weighted else None
    points = ["recall@precision>=0.5", "eer"]
    whole = MulticlassMetrics(4, curves=curves, at=points)
    some = MulticlassMetrics(4, curves=curves, at=points, labels=[1, 3])
    for metrics in (whole, some):
        metrics.update(logits, target, weight)
    got, all_of_them = some.compute(), whole.compute()
    for name, each in got.per_class.items():
        assert list(each) == list(all_of_them.per_class[name])
    for name in (*points, "auroc", "average_precision"):
        values = got.per_class[name]
        assert got[f"{name}/macro"].value == pytest.approx((values[1] + values[3]) / 2)
    hot = torch.nn.functional.one_hot(target, 4)[:, [1, 3]].numpy()
    p = logits.double().softmax(1)[:, [1, 3]].numpy()
    for name, peer in (
        ("auroc", sk.roc_auc_score),
        ("average_precision", sk.average_precision_score),
    ):
        for average in ("macro", "micro", "weighted"):
            score = got[f"{name}/{average}"]
            expected = peer(hot, p, average=average, sample_weight=weight)
            assert abs(score.value - expected) <= score.error_bound + 1e-9, (name, average)


def test_an_ignored_class_is_in_no_average_of_curves() -> None:
    g = torch.Generator().manual_seed(1)
    logits, target = torch.randn(100, 3, generator=g), torch.randint(0, 3, (100,), generator=g)
    ignoring = MulticlassMetrics(3, curves=True, ignore_index=0)
    named = MulticlassMetrics(3, curves=True, labels=[1, 2])
    ignoring.update(logits, target)
    named.update(logits[target != 0], target[target != 0])
    ours, theirs = ignoring.compute(), named.compute()
    for name in ("auroc/macro", "auroc/micro", "average_precision/micro", "auroc/weighted"):
        assert ours[name] == theirs[name], name
