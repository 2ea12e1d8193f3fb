"""The study of other libraries' suites: a tiny suite of their kind is run, and each kind of outcome is told apart."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.studies import peer_answers, peer_differences, peer_suites
from tests.studies.peer_call import Call, compared, numbers, snake
from tests.studies.peer_suites import Suite

SUITE = """
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, log_loss, mean_pinball_loss


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_equal(average):
    assert f1_score([0, 1, 2, 2], [0, 1, 1, 2], average=average) > 0.7


def test_different():
    assert log_loss([0, 1], [1.0, 0.0]) > 30


def test_not_offered():
    assert cohen_kappa_score([0, 1, 2, 0], [0, 1, 1, 0], labels=[0, 1]) <= 1


def test_of_a_recipe():
    assert mean_pinball_loss([0.0, 1.0], [0.5, 0.5]) == 0.25


@pytest.mark.slow
def test_of_errors():
    with pytest.raises(ValueError):
        accuracy_score([1, 0], [1])
"""


@pytest.mark.slow
def test_each_outcome_of_a_suite_is_counted(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "test_theirs.py").write_text(SUITE)
    out = tmp_path / "cases.jsonl"
    out.write_text("")
    peer_suites.run_suite(Suite("sklearn", "theirs", ("test_theirs.py",)), tmp_path, out, [])
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    told = {line["test"]: peer_suites.call_of(line) for line in lines[1:]}
    assert {test: call and call["status"] for test, call in told.items()} == {
        "test_theirs.py::test_equal[macro]": "equal",
        "test_theirs.py::test_equal[micro]": "equal",
        "test_theirs.py::test_different": "different",
        "test_theirs.py::test_not_offered": "not offered",
        "test_theirs.py::test_of_a_recipe": "equal",
        "test_theirs.py::test_of_errors": None,
    }
    table = peer_suites.table(lines)
    assert "| all | 3 | 1 | 1 | 0 | 1 | 0 | 20.0 % |" in table
    assert "| counts of classes | 2 | 0 | 0 | 0 | 1 | 0 | 33.3 % |" in table
    assert "| no value: errors, plots, shapes, empty states | 1 |" in table
    assert peer_suites.UNEXPLAINED not in peer_suites.differences(lines)


def test_a_wrong_answer_is_different() -> None:
    call = Call("torchmetrics", "binary_accuracy", {}, [batch([1, 0, 1, 1], [1, 0, 0, 1])])
    assert peer_answers.judge(call, 0.75, atol=1e-8, rtol=1e-5).status == "equal"
    assert peer_answers.judge(call, 0.7501, atol=1e-8, rtol=1e-5).status == "different"


def test_a_reference_is_asked_for_only_where_there_is_an_answer() -> None:
    call = Call("torchmetrics", "hausdorff_distance", {}, [batch([1], [1])])

    def reference() -> float:
        pytest.fail("took time for nothing")

    assert peer_answers.judge(call, reference, atol=0, rtol=0).status == "not offered"


def test_a_told_bound_counts_as_equal_and_no_more() -> None:
    ours, theirs = np.array([0.5]), np.array([0.501])
    assert compared(ours, theirs, 0, 0, bound=0.002) == ("equal", "within its told bound, 2e-03")
    assert compared(ours, theirs, 0, 0, bound=0.0005)[0] == "different"
    assert compared(np.array([np.nan]), np.array([0.0]), 0, 0, 0)[1] == "NaN where theirs is 0"


def test_what_is_beside_a_nan_is_compared() -> None:
    ours, theirs = np.array([np.nan, 0.5]), np.array([1.0, 0.5])
    assert compared(ours, theirs, 0, 0, 0) == ("different", "NaN where theirs is a number")
    assert compared(theirs, ours, 0, 0, 0) == ("different", "NaN on the other side")
    assert compared(ours, theirs + 0.1, 0, 0, 0) == ("different", "value")


def test_the_threshold_of_a_point_that_is_nan_is_not_asked_for() -> None:
    ours, theirs = np.array([np.nan, 0.5, 0.3, 0.2]), np.array([0.0, 0.5, 1e6, 0.2])
    assert compared(ours, theirs, 0, 0, 0, points=True)[1] == "NaN where theirs is 0"
    assert compared(ours, theirs, 0, 0, 0)[1] == "value"
    assert compared(ours, theirs[[0, 1, 2, 1]], 0, 0, 0, points=True)[1] == "value"


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("BinaryF1Score", "binary_f1_score"),
        ("MulticlassFBetaScore", "multiclass_fbeta_score"),
        ("MultilabelMatthewsCorrCoef", "multilabel_matthews_corrcoef"),
        ("MeanIoU", "mean_iou"),
        ("binary_roc", "binary_roc"),
    ],
)
def test_a_class_and_its_function_have_one_row(theirs: str, ours: str) -> None:
    assert snake(theirs) == ours


def test_numbers_of_nested_results_stand_in_order() -> None:
    result = {"b": torch.tensor([3]), "a": [1, (np.array([2.0]),)]}
    assert numbers(result).tolist() == [1.0, 2.0, 3.0]


def test_every_reason_has_a_case_of_its_own() -> None:
    cases = [difference.case for difference in peer_differences.DIFFERENCES]
    assert len(set(cases)) == len(cases)
    assert all(case in peer_differences.differences_section() for case in cases)


def batch(preds: list[int], target: list[int]) -> dict[str, torch.Tensor]:
    """One batch of labels."""
    return {"preds": torch.tensor(preds), "target": torch.tensor(target)}
