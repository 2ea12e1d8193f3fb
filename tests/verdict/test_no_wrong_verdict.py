"""Sources made to fool the verdict: none of them may come out better, or other, than what was measured."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged_sources import (
    GOOD,
    NAN,
    Recorded,
    codes,
    epoch,
    loss,
    losses,
    payload,
    score,
    share,
    states,
)

from ptmetrics.cli import main
from ptmetrics.errors import DataError
from ptmetrics.record.journal import Journal
from ptmetrics.verdict.finding import plain
from ptmetrics.verdict.judge import judge


def test_a_negative_loss_that_hovers_has_not_diverged() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        train = (-1 + 0.05 * rng.normal(size=20)).tolist()
        verdict = judge(losses(train, train))
        assert (verdict.status, codes(verdict)) == ("ready", set())


def test_a_negative_loss_is_said_not_to_be_checked() -> None:
    rows = np.arange(30.0)
    verdict = judge(
        losses((-1 + 0.03 * np.maximum(rows - 10, 0)).tolist(), (-1 - rows / 30).tolist())
    )
    notes = "\n".join(verdict.notes)
    assert "Not checked: overfitting (the validation loss is not above 0 throughout" in notes
    assert "Not checked: diverged (the training loss is below 0 somewhere" in notes


def test_missing_classes_show_without_a_matrix() -> None:
    made = payload([[970, 30, 0], [30, 970, 0], [0, 0, 0]]) | {"confusion": None}
    verdict = judge(made)
    assert verdict.status == "invalid"
    (finding,) = (f for f in verdict.findings if f.code == "missing-class")
    assert (finding.evidence["classes"], finding.evidence["n"]) == ([2], 2000)


def test_scores_of_training_alone_are_not_validated() -> None:
    verdict = judge(
        {"scores": {"train/accuracy": share(990, 1000), "train/recall/macro": share(990, 1000)}}
    )
    assert verdict.status == "invalid"
    assert "not-validated" in codes(verdict)


@pytest.mark.parametrize(
    ("scores", "got"),
    [
        ({"accuracy": 0.99}, "float"),
        ({"accuracy": {"value": "high"}}, "'high'"),
        ({"accuracy": {"value": 0.9, "low": [0.8]}}, r"\[0.8\]"),
        ({"accuracy": {"value": True}}, "True"),
    ],
)
def test_a_score_that_is_no_number_is_refused(scores: dict[str, Any], got: str) -> None:
    message = rf"accuracy: expected a mapping with numbers .*, got {got}\. Pass scores\.to_dict\(\)"
    with pytest.raises(DataError, match=message):
        judge({"scores": scores})


def test_a_payload_that_went_through_json_says_what_it_said_before() -> None:
    made = payload([[970, 30, 0], [30, 970, 0], [0, 0, 0]])
    through = plain(made)  # NaN became None, as JSON has no NaN
    assert through["per_class"]["recall"]["value"][2] is None
    assert judge(through).to_dict() == judge(made).to_dict()


@pytest.mark.parametrize("broken", ["value", "low", "high"])
def test_a_criterion_with_nan_is_never_met(broken: str) -> None:
    made = payload(GOOD)
    made["scores"]["accuracy"][broken] = NAN
    verdict = judge(made)
    assert (states(verdict)["accuracy"], verdict.status) == ("undetermined", "undetermined")


def test_bounds_without_samples_decide_nothing() -> None:
    made = payload(GOOD)
    made["scores"]["accuracy"]["n"] = 0
    assert states(judge(made))["accuracy"] == "undetermined"


def test_bounds_that_do_not_hold_the_value_decide_nothing() -> None:
    made = payload(GOOD)
    made["scores"]["accuracy"] |= {"low": 0.99, "high": 0.90}
    assert states(judge(made))["accuracy"] == "undetermined"


def test_one_epoch_says_which_curves_are_missing() -> None:
    verdict = judge(losses([0.5], [0.4]))
    assert verdict.status == "ready"
    notes = "\n".join(verdict.notes)
    assert re.search(r"Not checked: diverged \(the training loss of 4 epochs", notes)
    assert re.search(r"Not checked: overfitting \(training and validation loss of 3 epochs", notes)


def test_a_run_without_epochs_is_not_validated() -> None:
    verdict = judge(Recorded([]))
    assert (verdict.status, codes(verdict)) == ("invalid", {"not-validated"})


def test_a_positive_class_without_samples_is_never_ready() -> None:
    verdict = judge(payload([[1000, 0], [0, 0]], task="binary"))
    assert verdict.status == "invalid"
    assert states(verdict)["recall of class '1'"] == "undetermined"


def test_class_names_may_be_missing() -> None:
    verdict = judge(payload([[300, 0, 0], [0, 300, 0], [10, 30, 10]], class_names=None))
    assert any("Class 2 is not learned" in finding.message for finding in verdict.findings)


def test_several_labels_a_row_are_judged_by_precision_and_recall() -> None:
    made = payload(GOOD, task="multilabel") | {"confusion": None}
    del made["scores"]["accuracy"]
    verdict = judge(made)
    assert verdict.status == "ready"
    assert "accuracy" not in states(verdict)
    assert any("Not checked: low-accuracy (several labels a row" in note for note in verdict.notes)


def test_nan_predictions_of_numbers_are_as_invalid_as_those_of_classes() -> None:
    fault = {"count": 3, "first_step": 2, "message": "3 rows hold a NaN prediction"}
    scores = {"r2": score(0.9, 0.88, 0.92, 500), "loss": loss(0.1)}
    verdict = judge(
        {"task": "regression", "scores": scores, "faults": {"prediction-not-finite": fault}}
    )
    assert (verdict.status, "non-finite" in codes(verdict)) == ("invalid", True)


def test_a_score_that_is_infinite_in_training_alone_touches_no_validation() -> None:
    run = Recorded([epoch(0, {"train/loss": loss(float("inf"))}, matrix=GOOD)])
    assert judge(run).status == "invalid"


@pytest.mark.parametrize(
    "odd",
    [
        {"per_slice": {"val": ["a"]}},
        {"notes": {"val": 7}},
        {"per_class": {"val": {"recall": 1}}},
        {"faults": {"val": 3}},
        {"counts": 3},
    ],
)
def test_an_epoch_that_is_not_as_written_here_is_refused_in_words(
    odd: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Journal(tmp_path) as journal:
        journal.append("header", {"name": "run"})
        journal.append("epoch", {"epoch": 0, "scores": {}} | odd)
    assert main(["check", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "expected an epoch as this version writes it, got " in said
    assert "Read it with the version that wrote it" in said
