"""Scores of classes: gradients against autograd and differences, intervals of many tables, and their coverage."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from ptmetrics.class_formulas import ClassSums, MeanRatio
from ptmetrics.metrics.class_scores import CLASS_SPECS, CONFUSION_SPECS, ClassCounts, fbeta_specs
from ptmetrics.metrics.delta import differences
from ptmetrics.metrics.estimate import Array
from ptmetrics.metrics.multiclass import MulticlassMetrics
from ptmetrics.metrics.score_spec import ScoreSpec, evaluate

SPECS = (*CONFUSION_SPECS, *CLASS_SPECS, *fbeta_specs(2.0))
SMOOTH = {spec.name: spec for spec in SPECS if spec.interval == "delta"}
ABSENTS = (math.nan, 0.0, 1.0)


@pytest.fixture(autouse=True)
def _undefined_is_nan() -> object:
    """As in `compute()`, where NaN is no surprise."""
    with np.errstate(all="ignore"):
        yield


def mean_of(
    part: Callable[..., Tensor], whole: Callable[..., Tensor], by_targets: bool
) -> Callable[[Tensor, float], Tensor]:
    """A mean over the classes by its definition, of (hits, actual, predicted, all rows)."""

    def score(matrix: Tensor, absent: float) -> Tensor:
        sums = (matrix.diagonal(), matrix.sum(1), matrix.sum(0), matrix.sum())
        numerator, denominator = part(*sums), whole(*sums)
        there = sums[1] + sums[2] > 0
        share = numerator / torch.where(denominator > 0, denominator, 1.0)
        weight = sums[1] if by_targets else torch.ones_like(share)
        if math.isnan(absent):
            weight = torch.where(there, weight, 0.0)
        else:
            share = torch.where(there, share, absent)
        return (share * weight).sum() / weight.sum()

    return score


def matthews(matrix: Tensor, absent: float) -> Tensor:
    """Correlation of the one-hot targets and predictions, from shares."""
    p = matrix / matrix.sum()
    actual, predicted = p.sum(1), p.sum(0)
    covariance = p.diagonal().sum() - actual @ predicted
    return covariance / ((1 - actual @ actual) * (1 - predicted @ predicted)).sqrt()


def cohen(matrix: Tensor, absent: float) -> Tensor:
    """1 − observed over expected disagreement."""
    p = matrix / matrix.sum()
    return 1 - (1 - p.diagonal().sum()) / (1 - p.sum(1) @ p.sum(0))


def f_score(square: float, by_targets: bool) -> Callable[[Tensor, float], Tensor]:
    return mean_of(
        lambda h, a, p, n: (1 + square) * h, lambda h, a, p, n: square * a + p, by_targets
    )


def jaccard(by_targets: bool) -> Callable[[Tensor, float], Tensor]:
    return mean_of(lambda h, a, p, n: h, lambda h, a, p, n: a + p - h, by_targets)


DEFINITIONS = {
    "precision/weighted": mean_of(lambda h, a, p, n: h, lambda h, a, p, n: p, True),
    "f1/macro": f_score(1, False),
    "f1/weighted": f_score(1, True),
    "fbeta/macro": f_score(4, False),
    "fbeta/weighted": f_score(4, True),
    "specificity/macro": mean_of(lambda h, a, p, n: n - a - p + h, lambda h, a, p, n: n - a, False),
    "jaccard/macro": jaccard(False),
    "jaccard/weighted": jaccard(True),
    "mcc": matthews,
    "kappa": cohen,
}


def test_each_gradient_that_is_written_by_hand_has_its_definition_here() -> None:
    by_hand = set()
    for name, spec in SMOOTH.items():
        if spec.gradient is not None and not isinstance(spec.formula, MeanRatio):
            by_hand.add(name)
    assert by_hand <= DEFINITIONS.keys(), "write what a gradient is the gradient of in DEFINITIONS"
    assert DEFINITIONS.keys() <= SMOOTH.keys()


def holed(seed: int, hole: str) -> Array:
    """A matrix of 5 classes; one of them never in the targets, never predicted, or neither."""
    cells = np.random.default_rng(seed).random((5, 5)) * 20 + 0.5
    if hole in ("targets", "both"):
        cells[3] = 0
    if hole in ("predictions", "both"):
        cells[:, 3] = 0
    return cells


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("absent", ABSENTS)
@pytest.mark.parametrize("hole", ["", "targets", "predictions", "both"])
def test_a_gradient_is_that_of_autograd_in_every_cell_that_can_hold_rows(
    name: str, absent: float, hole: str
) -> None:
    spec = SMOOTH[name]
    cells = holed(len(name), hole)
    matrix = torch.tensor(cells, requires_grad=True)
    expected = DEFINITIONS[name](matrix, absent)
    expected.backward()
    at = ClassSums.of_matrix(cells, absent)
    assert spec.gradient is not None
    value, *slopes = spec.gradient(at)
    for found in (value, spec.formula(at)):
        assert float(found) == pytest.approx(expected.item(), rel=1e-12)
    hits, actual, predicted = (np.nan_to_num(x) for x in slopes)
    got = actual[:, None] + predicted + np.diag(hits)
    there = cells > 0
    assert matrix.grad is not None
    np.testing.assert_allclose(got[there], matrix.grad.numpy()[there], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_gradient_is_that_of_differences_for_many_tables_at_once(name: str) -> None:
    spec = SMOOTH[name]
    at = ClassSums.of_matrix(np.stack([holed(seed, "") for seed in range(3)]))
    assert spec.gradient is not None
    _, *exact = spec.gradient(at)
    for got, expected in zip(differences(spec.formula, at), exact, strict=True):
        assert got.shape == (3, 5)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-9)


def tables(weighted: bool) -> tuple[Array, Array, Array]:
    """Counts, Σw and Σw² of ten matrices; among them an empty one, a perfect one, absent classes, few rows."""
    rng = np.random.default_rng(0)
    count = rng.integers(0, 9, (10, 4, 4))
    count[0] = 0
    count[1] = np.eye(4) * 7
    count[2, 0] = 0
    count[3, :, 1] = 0
    count[4] = 0
    count[4, 0, 1] = 1
    if not weighted:
        return count, count.astype(np.float64), count.astype(np.float64)
    weight = count * rng.random(count.shape)
    return count, weight, weight**2 / np.maximum(count, 1)


def view_of(sums: tuple[Array, ...], absent: float, matrix: bool) -> ClassCounts:
    """With the matrix, or its margins alone."""
    if matrix:
        return ClassCounts.of_matrices(*sums, absent)
    return ClassCounts(
        ClassSums.of_matrix(sums[1], absent),
        ClassSums.of_matrix(sums[2], absent),
        ClassSums.of_matrix(sums[0], absent),
        absent,
    )


@pytest.mark.parametrize("absent", ABSENTS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("matrix", [True, False])
def test_scores_of_many_tables_are_those_of_each_and_without_ends_the_values_are_the_same(
    absent: float, weighted: bool, matrix: bool
) -> None:
    sums = tables(weighted)
    view = view_of(sums, absent, matrix)
    together = evaluate(SPECS, view)
    bare = evaluate(SPECS, view, intervals=False)
    each = [evaluate(SPECS, view_of(tuple(x[i] for x in sums), absent, matrix)) for i in range(10)]
    for key, got in together.items():
        for field in ("value", "low", "high", "n"):
            expected = np.stack([np.asarray(getattr(one[key], field)) for one in each])
            actual = np.broadcast_to(getattr(got, field), expected.shape)
            np.testing.assert_allclose(
                actual, expected, rtol=1e-12, atol=1e-12, err_msg=f"{key} {field}"
            )
        np.testing.assert_allclose(bare[key].value, got.value, rtol=1e-12, atol=1e-12)


def population(accuracy: list[float], prior: list[float]) -> Array:
    """Cell probabilities: errors of each class spread unevenly over the others."""
    wrong = np.random.default_rng(1).dirichlet(np.ones(len(prior)), len(prior))
    np.fill_diagonal(wrong, 0)
    right = np.array(accuracy)
    cells = wrong / wrong.sum(1, keepdims=True) * (1 - right)[:, None] + np.diag(right)
    return cells * (np.array(prior) / sum(prior))[:, None]


POPULATIONS = {
    "80 %": population([0.8] * 5, [1] * 5),
    "95 %": population([0.95] * 5, [1] * 5),
    "99 %": population([0.99] * 5, [1] * 5),
    "unequal": population([0.9, 0.8, 0.7, 0.7, 0.6], [50, 25, 12, 8, 5]),
}
# A class that never occurs has a specificity.
COVERED: tuple[ScoreSpec, ...] = tuple(
    spec for spec in (*CONFUSION_SPECS, *fbeta_specs(2.0)) if not spec.name.startswith("spec")
)


@pytest.mark.parametrize("name", POPULATIONS)
def test_about_95_of_100_intervals_cover_the_truth_at_200_samples_of_5_classes(name: str) -> None:
    cells = POPULATIONS[name]
    samples = np.random.default_rng(0).multinomial(200, cells.ravel(), 4000).reshape(-1, 5, 5)
    weight = samples.astype(np.float64)
    truth = evaluate(COVERED, ClassCounts.of_matrices(cells, cells, cells, math.nan))
    covered = {}
    for key, got in evaluate(
        COVERED, ClassCounts.of_matrices(samples, weight, weight, math.nan)
    ).items():
        value = truth[key].value
        covered[key[0]] = float(((got.low <= value) & (value <= got.high)).mean())
    assert all(0.92 <= share <= 0.98 for share in covered.values()), covered


def test_a_perfect_result_on_few_samples_is_not_certain() -> None:
    metrics = MulticlassMetrics(3, inputs="labels")
    metrics.update(torch.zeros(5, dtype=torch.int64), torch.zeros(5, dtype=torch.int64))
    got = metrics.compute()
    for name in ("accuracy", "f1/macro", "f1/weighted", "recall/macro", "precision/weighted"):
        assert got[name] == got[name].high == 1.0, name
        assert got[name].low < 0.8, name


@pytest.mark.parametrize("kind", ["wilson", "mover", "delta", "normal"])
def test_weights_of_a_constant_give_the_interval_without_weights(kind: str) -> None:
    g = torch.Generator().manual_seed(0)
    preds, target = torch.randn(80, 3, generator=g), torch.randint(0, 3, (80,), generator=g)
    plain, heavy = MulticlassMetrics(3), MulticlassMetrics(3)
    plain.update(preds, target)
    heavy.update(preds, target, torch.full((80,), 7.5))
    ours, theirs = heavy.compute(), plain.compute()
    names = [name for name, score in ours.items() if score.method == kind]
    assert names
    for name in names:
        for end in ("value", "low", "high"):
            found = name in SMOOTH and SMOOTH[name].gradient is None  # slopes by differences
            expected = pytest.approx(getattr(theirs[name], end), abs=1e-10 if found else 1e-12)
            assert getattr(ours[name], end) == expected, name
