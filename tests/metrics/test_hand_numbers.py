"""Two small matrices worked out by hand."""

import math
from fractions import Fraction

import pytest
import torch

from ptmetrics import MulticlassMetrics


def from_matrix(matrix: list[list[int]]) -> MulticlassMetrics:
    metrics = MulticlassMetrics(2, inputs="labels", class_names=["positive", "negative"])
    for actual, row in enumerate(matrix):
        for predicted, count in enumerate(row):
            metrics.update(torch.full((count,), predicted), torch.full((count,), actual))
    return metrics


@pytest.mark.parametrize(
    ("matrix", "tp", "fn", "fp", "tn"),
    [([[85, 15], [10, 90]], 85, 15, 10, 90), ([[40, 5], [5, 50]], 40, 5, 5, 50)],
)
def test_counts_precision_and_recall_are_those_of_the_hand(
    matrix: list[list[int]], tp: int, fn: int, fp: int, tn: int
) -> None:
    got = from_matrix(matrix).compute()
    assert got.confusion is not None
    assert got.confusion.tolist() == [[tp, fn], [fp, tn]]
    precision, recall = Fraction(tp, tp + fp), Fraction(tp, tp + fn)
    assert got.per_class["precision"][0] == float(precision)
    assert got.per_class["recall"][0] == float(recall)
    assert got.per_class["f1"][0] == pytest.approx(
        float(2 * precision * recall / (precision + recall)), rel=1e-15
    )
    assert got.per_class["recall"][1] == float(Fraction(tn, tn + fp))
    assert got["accuracy"] == float(Fraction(tp + tn, tp + fn + fp + tn))
    assert got["balanced_accuracy"] == pytest.approx(
        float((recall + Fraction(tn, tn + fp)) / 2), rel=1e-15
    )
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    assert got["mcc"] == pytest.approx((tp * tn - fp * fn) / math.sqrt(product), rel=1e-14)


def test_the_first_matrix_in_plain_digits() -> None:
    got = from_matrix([[85, 15], [10, 90]]).compute()
    assert [round(float(got.per_class[c][0]), 4) for c in ("precision", "recall", "f1")] == [
        0.8947,
        0.85,
        0.8718,
    ]
    assert got["accuracy"] == 0.875
    recall = got.per_class["recall"][0]
    assert [round(end, 3) for end in (recall.low, recall.high)] == [0.767, 0.907]


def test_the_second_matrix_in_plain_digits() -> None:
    got = from_matrix([[40, 5], [5, 50]]).compute()
    assert [round(float(got.per_class[c][0]), 4) for c in ("precision", "recall", "f1")] == [
        0.8889
    ] * 3
    assert got["accuracy"] == 0.9


def test_the_accuracy_paradox_is_visible_in_the_intervals() -> None:
    got = from_matrix([[24, 176], [24, 9776]]).compute()
    assert got["accuracy"] == 0.98
    recall = got.per_class["recall"][0]
    assert [round(end, 3) for end in (recall, recall.low, recall.high)] == [0.12, 0.082, 0.172]
