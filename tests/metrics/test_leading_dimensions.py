"""Scores of many tables at once are those of each table by itself: formulas take leading dimensions."""

import math

import numpy as np
import pytest

from ptmetrics.class_formulas import ClassSums
from ptmetrics.metrics.class_scores import CLASS_SPECS, CONFUSION_SPECS, ClassCounts, fbeta_specs
from ptmetrics.metrics.score_spec import evaluate

SPECS = (*CONFUSION_SPECS, *CLASS_SPECS, *fbeta_specs(2.0))
absents = pytest.mark.parametrize("absent", [math.nan, 0.0, 1.0])
both_weights = pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])


def matrices(classes: int, *, weighted: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts, Σw and Σw²; among them an empty table, a perfect one, absent classes and few rows."""
    random = np.random.default_rng(classes)
    count = random.integers(0, 9, (12, classes, classes))
    count[0] = 0
    count[1] = 7 * np.eye(classes, dtype=np.int64)
    count[2, 0] = 0
    count[3, :, 1] = 0
    count[4] = 0
    count[4, 0, 1] = 1
    if not weighted:
        return count, count.astype(float), count.astype(float)
    weight = count * random.random(count.shape)
    return count, weight, weight**2 / np.clip(count, 1, None)


def margins_alone(counts: ClassCounts) -> ClassCounts:
    return ClassCounts(counts.weights, counts.squares, counts.counts, counts.absent)


@absents
@both_weights
@pytest.mark.parametrize("kept", [True, False], ids=["matrix", "margins"])
def test_scores_of_many_tables_are_those_of_each(kept: bool, weighted: bool, absent: float) -> None:
    tables = matrices(4, weighted=weighted)
    together = ClassCounts.of_matrices(*tables, absent)
    alone = [ClassCounts.of_matrices(*(x[i] for x in tables), absent) for i in range(12)]
    if not kept:
        together = margins_alone(together)
        alone = [margins_alone(counts) for counts in alone]
    with np.errstate(all="ignore"):
        got = evaluate(SPECS, together)
        each = [evaluate(SPECS, counts) for counts in alone]
    for key, estimate in got.items():
        for field in ("value", "low", "high", "n"):
            expected = np.stack([np.asarray(getattr(e[key], field)) for e in each])
            actual = np.broadcast_to(getattr(estimate, field), expected.shape)
            np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12, err_msg=str(key))


@absents
def test_without_intervals_the_value_is_the_same(absent: float) -> None:
    counts = margins_alone(ClassCounts.of_matrices(*matrices(4, weighted=True), absent))
    with np.errstate(all="ignore"):
        full = evaluate(SPECS, counts)
        bare = evaluate(SPECS, counts, intervals=False)
    for key, estimate in full.items():
        np.testing.assert_allclose(bare[key].value, estimate.value, rtol=1e-12, err_msg=str(key))


def test_others_are_never_a_rounding_error_from_nothing() -> None:
    random = np.random.default_rng(0)
    actual = np.zeros((1000, 3))
    actual[:, 1] = random.random(1000) / 3
    sums = ClassSums.of_margins(actual, actual, actual)
    assert (sums.others[:, 1] == 0).all(), "all rows are of one class"
