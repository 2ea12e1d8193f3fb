"""Scores from margins in NumPy equal those of the metrics, and their gradients are theirs: two laws."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ptmetrics as pm
from ptmetrics.verdict.influence import SCORES, Margins, Score, class_score

LAW = settings(deadline=None, max_examples=40, derandomize=True)
PER_CLASS = ("precision", "recall", "f1", "jaccard", "specificity")


@st.composite
def rows(draw: st.DrawFn) -> tuple[int, np.ndarray, np.ndarray]:
    classes = draw(st.integers(2, 5))
    pairs = draw(st.lists(st.tuples(*[st.integers(0, classes - 1)] * 2), min_size=1, max_size=40))
    target, predicted = np.array(pairs, dtype=np.int64).T
    return classes, target, predicted


def recorded(classes: int, target: np.ndarray, predicted: np.ndarray) -> pm.Scores:
    metrics = pm.MulticlassMetrics(classes, inputs="labels")
    metrics.update(torch.tensor(predicted), torch.tensor(target))
    return metrics.compute()


@LAW
@given(rows())
def test_values_are_those_of_the_metrics(drawn: tuple[int, np.ndarray, np.ndarray]) -> None:
    classes, target, predicted = drawn
    margins, scores = Margins.of(target, predicted, classes), recorded(*drawn)
    for name, score in SCORES.items():
        assert score(margins).value == pytest.approx(scores[name].value, abs=1e-12, nan_ok=True), (
            name
        )
    for name in PER_CLASS:
        for label in range(classes):
            one = class_score(name, label)
            assert one is not None
            expected = scores.per_class[name][label].value
            assert one(margins).value == pytest.approx(expected, abs=1e-12, nan_ok=True), name


@LAW
@given(rows())
def test_gradients_are_those_of_the_values_and_have_mean_0(
    drawn: tuple[int, np.ndarray, np.ndarray],
) -> None:
    classes, target, predicted = drawn
    margins = Margins.of(target, predicted, classes)
    named: dict[str, Score] = dict(SCORES)
    named |= {
        f"{name} of 1": score for name in PER_CLASS if (score := class_score(name, 1)) is not None
    }
    for name, score in named.items():
        gradient = score(margins)
        if math.isnan(gradient.value):
            continue
        influence = gradient.at(target, predicted)
        assert influence.sum() == pytest.approx(0, abs=1e-9), name
        for i in range(min(3, len(target))):  # one more row of a kind that is there
            up, down = (moved(margins, target[i], predicted[i], step) for step in (1e-6, -1e-6))
            slope = (score(up).value - score(down).value) / 2e-6
            assert influence[i] == pytest.approx(slope, abs=1e-5), name


def moved(m: Margins, target: int, predicted: int, step: float) -> Margins:
    row, column = (np.eye(1, len(m.actual), k)[0] * step for k in (target, predicted))
    return Margins(m.hits + row * (target == predicted), m.actual + row, m.predicted + column)


def test_an_unknown_class_score_is_none() -> None:
    assert class_score("auroc", 1) is None
