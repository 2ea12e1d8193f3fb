"""Two small matrices worked out by hand, and the defects that peers were seen to have."""

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
    assert got["balanced_accuracy"] == pytest.approx(float((recall + Fraction(tn, tn + fp)) / 2), rel=1e-15)
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
    assert [round(float(got.per_class[c][0]), 4) for c in ("precision", "recall", "f1")] == [0.8889] * 3
    assert got["accuracy"] == 0.9


def test_the_accuracy_paradox_is_visible_in_the_intervals() -> None:
    got = from_matrix([[24, 176], [24, 9776]]).compute()
    assert got["accuracy"] == 0.98
    recall = got.per_class["recall"][0]
    assert [round(end, 3) for end in (recall, recall.low, recall.high)] == [0.12, 0.082, 0.172]


@pytest.mark.fault(12)
def test_peer_defect_a_equal_states_after_one_batch_are_never_shared() -> None:
    some, other = MulticlassMetrics(2, topk=(1,)), MulticlassMetrics(2, topk=(1, 2))
    batch = torch.tensor([[9.0, 0], [0, 9]]), torch.tensor([0, 1])
    some.update(*batch)
    other.update(*batch)
    other.update(batch[0], 1 - batch[1])
    assert (some.compute()["accuracy"], other.compute()["accuracy"]) == (1.0, 0.5)


@pytest.mark.fault(22)
def test_peer_defect_b_logits_that_look_like_probabilities_stay_logits() -> None:
    metrics = MulticlassMetrics(2)
    metrics.update(torch.tensor([[0.0, 0.2], [0.0, 0.4]]), torch.tensor([1, 1]))
    assert metrics.compute()["accuracy"] == 1.0


@pytest.mark.fault(27)
def test_peer_defect_c_weights_are_kept() -> None:
    metrics = MulticlassMetrics(2, inputs="labels")
    metrics.update(torch.tensor([1, 0]), torch.tensor([1, 1]), torch.tensor([9.0, 1.0]))
    assert metrics.compute()["accuracy"] == 0.9


@pytest.mark.fault(20)
def test_peer_defect_d_label_7_of_3_classes_is_refused_counted_and_said() -> None:
    metrics = MulticlassMetrics(3)
    metrics.update(torch.eye(3), torch.tensor([0, 7, 2]))
    got = metrics.compute()
    assert (got["accuracy"], got.n) == (1.0, 2)
    assert "1 × target outside the classes, refused; first in update 0" in str(got)


@pytest.mark.fault(42)
def test_peer_defect_e_a_state_loaded_after_compute_counts() -> None:
    right, wrong = from_matrix([[5, 0], [0, 5]]), from_matrix([[0, 5], [5, 0]])
    assert right.compute()["accuracy"] == 1.0
    right.load_state_dict(wrong.state_dict())
    assert right.compute()["accuracy"] == 0.0


def test_peer_defect_f_an_ignored_class_is_left_out_of_the_macro_recall() -> None:
    metrics = MulticlassMetrics(3, inputs="labels", ignore_index=0)
    metrics.update(torch.tensor([0, 0, 1, 0]), torch.tensor([0, 0, 1, 2]))
    got = metrics.compute()
    assert got["recall/macro"] == 0.5
    assert got.per_class["recall"][0].reason == "the class is absent from the targets"


@pytest.mark.fault(13)
def test_peer_defect_g_a_counter_past_2_to_the_24_still_counts() -> None:
    metrics = MulticlassMetrics(2, inputs="labels")
    state = metrics.state_dict()
    state["cells"]["confusion"][0] = 2**24
    metrics.load_state_dict(state)
    metrics.update(torch.tensor([0]), torch.tensor([0]))
    assert metrics.compute().n == 2**24 + 1


def test_peer_defect_k_every_average_has_its_name_and_there_is_no_silent_default() -> None:
    got = from_matrix([[8, 2], [0, 0]]).compute()
    assert [got[f"recall/{a}"].value for a in ("macro", "micro", "weighted")] == [0.8, 0.8, 0.8]
    assert [got[f"precision/{a}"].value for a in ("macro", "micro", "weighted")] == [0.5, 0.8, 1.0]
    for metric in ("precision", "recall", "f1"):
        assert metric not in got


@pytest.mark.fault(14)
def test_peer_defect_m_a_metric_held_in_a_model_is_not_cast_with_it() -> None:
    model = torch.nn.Linear(2, 2)
    metrics = from_matrix([[300, 700], [0, 0]])
    model.metrics = metrics  # type: ignore[assignment]
    model.to(torch.bfloat16)
    assert metrics.compute()["accuracy"] == 0.3
