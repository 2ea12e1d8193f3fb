"""F-beta and MCC of each class and label, their averages, and matrices of weights, beside scikit-learn's."""

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

from ptmetrics import BinaryMetrics, MulticlassMetrics, MultilabelMetrics, functional
from ptmetrics.class_formulas import ClassSums, mcc_and_slopes
from ptmetrics.errors import ConfigError, StateError
from ptmetrics.metrics.class_scores import ClassCounts, fbeta_specs
from ptmetrics.metrics.score_spec import evaluate
from ptmetrics.metrics.two_classes import MCC_EACH

seeds = st.integers(0, 2**32)
betas = st.sampled_from([0.5, 1.0, 2.0, 3.5])


def sample(seed: int, shape: tuple[int, ...], values: int) -> tuple[np.ndarray, ...]:
    """Predictions, targets that are often the same, and weights that are exact."""
    rng = np.random.default_rng(seed)
    preds = rng.integers(0, values, shape)
    target = np.where(rng.random(shape) < 0.6, preds, rng.integers(0, values, shape))
    return preds, target, rng.integers(1, 17, shape[0]) / 8


def counted(metrics: Any, *arrays: np.ndarray) -> Any:
    metrics.update(*map(torch.as_tensor, arrays))
    return metrics.compute()


@given(seeds, st.integers(1, 40), betas)
@settings(LAW, max_examples=25)
def test_fbeta_of_labels_and_its_averages_are_those_of_scikit_learn(
    seed: int, rows: int, beta: float
) -> None:
    p, y, w = sample(seed, (rows, 3), 2)
    got = counted(MultilabelMetrics(3, inputs="labels", beta=beta, absent=0.0), p, y, w)
    how = {"beta": beta, "sample_weight": w, "zero_division": 0}
    for average in ("macro", "micro", "weighted", "samples"):
        score = got[f"fbeta/{average}"]
        assert same(score, sk.fbeta_score(y, p, average=average, **how)), average
        assert score.low <= score.value <= score.high
    assert all(map(same, got.per_class["fbeta"], sk.fbeta_score(y, p, average=None, **how)))


@given(seeds, st.integers(1, 40), betas, st.sampled_from([None, [0, 2], [1]]))
@settings(LAW, max_examples=25)
def test_fbeta_of_classes_and_its_averages_are_those_of_scikit_learn(
    seed: int, rows: int, beta: float, labels: list[int] | None
) -> None:
    p, y, w = sample(seed, (rows,), 4)
    metrics = MulticlassMetrics(4, inputs="labels", beta=beta, absent=0.0, labels=labels)
    got = counted(metrics, p, y, w)
    how = {"beta": beta, "sample_weight": w, "zero_division": 0}
    among = labels or range(4)
    for average in ("macro", "micro", "weighted"):
        expected = sk.fbeta_score(y, p, average=average, labels=among, **how)
        assert same(got[f"fbeta/{average}"], expected), average
    each = sk.fbeta_score(y, p, average=None, labels=range(4), **how)
    assert all(map(same, got.per_class["fbeta"], each))
    assert all(map(same, functional.multiclass_fbeta_score(
        torch.tensor(p), torch.tensor(y), 4, beta=beta, inputs="labels", absent=0.0, average=None,
        sample_weight=torch.tensor(w)), each))  # fmt: skip


def test_fbeta_of_yes_or_no_is_that_of_each_side_too() -> None:
    p, y, w = sample(1, (50,), 2)
    got = counted(BinaryMetrics(inputs="labels", beta=2), p, y, w)
    each = sk.fbeta_score(y, p, beta=2, average=None, sample_weight=w)
    assert [x.value for x in got.per_class["fbeta"]] == pytest.approx(list(each))
    assert got["fbeta"] == got.per_class["fbeta"][1]
    assert got["fbeta/macro"].value == pytest.approx(each.mean())


def test_beta_of_1_is_f1_with_its_interval() -> None:
    p, y, w = sample(2, (60,), 3)
    for weight in ([], [w]):
        got = counted(MulticlassMetrics(3, inputs="labels", beta=1), p, y, *weight)
        for ours, f1 in zip(got.per_class["fbeta"], got.per_class["f1"], strict=True):
            assert (ours.value, ours.n) == (pytest.approx(f1.value), f1.n)
            assert ours.low == pytest.approx(f1.low, abs=0.03)  # one is mapped, one is not
            assert ours.high == pytest.approx(f1.high, abs=0.03)
        assert got["fbeta/macro"].low == pytest.approx(got["f1/macro"].low)


def test_metrics_of_another_beta_do_not_merge() -> None:
    one = MultilabelMetrics(2, inputs="labels", beta=1)
    with pytest.raises(StateError):
        one.merge_state([MultilabelMetrics(2, inputs="labels", beta=2)])
    with pytest.raises(ConfigError, match="beta: expected a number above 0"):
        MultilabelMetrics(2, beta=-1)


@given(seeds, st.integers(1, 40))
@settings(LAW, max_examples=25)
def test_mcc_of_each_class_and_label_is_that_of_scikit_learn(seed: int, rows: int) -> None:
    p, y, w = sample(seed, (rows,), 3)
    got = counted(MulticlassMetrics(3, inputs="labels", scores=["mcc"]), p, y, w)
    for place, score in enumerate(got.per_class["mcc"]):
        one, two = y == place, p == place
        if len(set(one)) + len(set(two)) < 4:
            assert score.reason
        else:
            assert same(score, sk.matthews_corrcoef(one, two, sample_weight=w))
            assert score.low <= score.value <= score.high
    p, y, w = sample(seed, (rows, 3), 2)
    got = counted(MultilabelMetrics(3, inputs="labels", scores=["mcc"], absent=0.0), p, y, w)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for place, score in enumerate(got.per_class["mcc"]):
            assert same(score, sk.matthews_corrcoef(y[:, place], p[:, place], sample_weight=w))
        flat = sk.matthews_corrcoef(y.ravel(), p.ravel(), sample_weight=w.repeat(3))
    assert same(got["mcc"], flat)
    assert got["mcc"].n == rows


def test_mcc_of_all_labels_is_that_of_torchmetrics() -> None:
    peer = pytest.importorskip("torchmetrics.functional.classification")
    p, y, _ = sample(3, (80, 4), 2)
    got = functional.multilabel_matthews_corrcoef(
        torch.tensor(p), torch.tensor(y), 4, inputs="labels"
    )
    theirs = peer.multilabel_matthews_corrcoef(torch.tensor(p), torch.tensor(y), num_labels=4)
    assert got.value == pytest.approx(float(theirs), abs=1e-6)


def shares(covered: Any, truth: Any) -> Any:
    with np.errstate(invalid="ignore"):
        held = (covered.low <= truth) & (truth <= covered.high)
    return np.nanmean(np.where(np.isnan(covered.low), np.nan, held), 0)


@pytest.mark.parametrize("rows", [30, 200])
def test_about_95_of_100_intervals_of_each_class_hold_the_truth(rows: int) -> None:
    cells = np.array([[0.60, 0.03, 0.01], [0.04, 0.25, 0.01], [0.02, 0.01, 0.03]])
    samples = np.random.default_rng(0).multinomial(rows, cells.ravel(), 3000).reshape(-1, 3, 3)
    weight = samples.astype(np.float64)
    specs = [fbeta_specs(beta)[-1] for beta in (0.5, 2.0, 4.0)] + [MCC_EACH]
    for spec in specs:
        truth = evaluate([spec], ClassCounts.of_matrices(cells, cells, cells, math.nan))
        with np.errstate(all="ignore"):
            got = evaluate([spec], ClassCounts.of_matrices(samples, weight, weight, math.nan))
        held = shares(got[spec.name, True], truth[spec.name, True].value)
        assert ((held > 0.925) & (held <= 1)).all(), (spec.name, held)


def labels_of(rows: int, correlation: float, g: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Four labels; errors of a row go together by the correlation."""
    rare = torch.tensor([0.1, 0.2, 0.3, 0.5])
    target = (torch.rand(rows, 4, generator=g) < rare).long()
    alone = torch.randn(rows, 4, generator=g)
    shared = torch.randn(rows, 1, generator=g)
    noise = math.sqrt(1 - correlation) * alone + math.sqrt(correlation) * shared
    return 2 * (noise + 2 * target - 1), target


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_about_95_of_100_intervals_over_labels_hold_the_truth(correlation: float) -> None:
    g = torch.Generator().manual_seed(0)

    def scores(rows: int) -> Any:
        metrics = MultilabelMetrics(4, beta=2, curves=None, scores=["mcc"])
        metrics.update(*labels_of(rows, correlation, g))
        return metrics.compute()

    truth = scores(400_000)
    names = ["mcc", "fbeta/micro", "fbeta/macro", "fbeta/weighted", "fbeta/samples"]
    held = dict.fromkeys(names, 0)
    for _ in range(300):
        got = scores(150)
        for name in names:
            held[name] += got[name].low <= truth[name].value <= got[name].high
    assert all(0.92 <= number / 300 <= 0.995 for number in held.values()), held


def test_the_gradient_of_the_mcc_of_all_labels_is_that_of_differences() -> None:
    table = np.array([7.0, 12.0, 10.0, 30.0])  # hits, actual, predicted, others

    def value(numbers: np.ndarray) -> float:
        two = ClassSums(*numbers[:, None]).matrices.sum(-3)
        return float(mcc_and_slopes(ClassSums.of_matrix(two))[0])

    _, hits, actual, predicted = mcc_and_slopes(
        ClassSums.of_matrix(ClassSums(*table[:, None]).matrices.sum(-3))
    )
    chain = [
        hits.sum(),
        actual[1] + predicted[0],
        predicted[1] - predicted[0] - hits[0],
        actual[0] + predicted[0] + hits[0],
    ]
    steps = np.eye(4) * 1e-5
    found = [(value(table + step) - value(table - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(chain, found, rtol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_matrix_of_weights_is_that_of_scikit_learn(weighted: bool) -> None:
    p, y, w = sample(4, (70,), 3)
    given = {"sample_weight": w} if weighted else {}
    for metrics in (MulticlassMetrics(3, inputs="labels"), BinaryMetrics(inputs="labels")):
        size = 3 if isinstance(metrics, MulticlassMetrics) else 2
        two, one = p % size, y % size
        got = counted(metrics, two, one, *given.values())
        expected = sk.confusion_matrix(one, two, labels=range(size), **given)
        np.testing.assert_allclose(got.weighted_confusion.numpy(), expected)
        assert got.confusion.sum() == 70
    p, y, w = sample(5, (70, 3), 2)
    given = {"sample_weight": w} if weighted else {}
    got = counted(MultilabelMetrics(3, inputs="labels"), p, y, *given.values())
    expected = sk.multilabel_confusion_matrix(y, p, **given)
    np.testing.assert_allclose(got.weighted_confusion.numpy(), expected)
    probs = torch.rand(70, generator=torch.Generator().manual_seed(0))
    curved = counted(BinaryMetrics(inputs="probs"), probs, y[:, 0], *given.values())
    expected = sk.confusion_matrix(y[:, 0], probs >= 0.5, **given)
    np.testing.assert_allclose(curved.weighted_confusion.numpy(), expected)
