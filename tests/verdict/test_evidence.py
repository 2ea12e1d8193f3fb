"""Sources made to fool the verdict, and which epoch of a run is judged."""

import json
import math
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
    written,
)

from ptmetrics.errors import DataError, RecordError
from ptmetrics.verdict.finding import plain
from ptmetrics.verdict.judge import judge


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
    made = payload(GOOD, confusion=None, per_class={})
    made["scores"]["accuracy"][broken] = NAN
    verdict = judge(made)
    assert (states(verdict)["accuracy"], verdict.status) == ("undetermined", "undetermined")


def test_bounds_without_samples_decide_nothing() -> None:
    made = payload(GOOD, confusion=None, per_class={})
    made["scores"]["accuracy"]["n"] = 0
    assert states(judge(made))["accuracy"] == "undetermined"


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


# Runs


EPOCHS = np.arange(20)


FALLING = 0.2 + 2 * np.exp(-EPOCHS / 5)


HEALTHY = 0.5 + 1.5 * np.exp(-EPOCHS / 1.5)


RISING = HEALTHY + 0.03 * np.clip(EPOCHS - 7, 0, None)


BEST = [{"path": "best.pt", "epoch": 6, "why": "best"}]


def test_a_loss_that_was_nan_before_the_judged_epoch_is_invalid_and_after_it_a_warning() -> None:
    run = losses([0.5, 0.4, NAN, 0.4], [0.5, NAN, NAN, 0.4])
    verdict = judge(run)
    (finding,) = (f for f in verdict.findings if f.code == "non-finite")
    assert (finding.severity, finding.evidence["epoch"], verdict.status) == (
        "invalid",
        1,
        "invalid",
    )
    first = judge(Recorded(run.epochs, checkpoints=[{"path": "b", "epoch": 0, "why": "best"}]))
    assert {f.severity for f in first.findings if f.code == "non-finite"} == {"warning"}


def test_a_lost_loss_of_the_judged_epoch_is_said_once() -> None:
    verdict = judge(losses([0.5, NAN], [0.5, 0.4]))
    (finding,) = (f for f in verdict.findings if f.code == "non-finite")
    assert finding.message == "loss on validation data is not finite."
    earlier = judge(losses([NAN, NAN], [0.5, 0.4])).findings
    assert [f.message for f in earlier if f.code == "non-finite"] == [
        "loss on validation data is not finite.",
        "val/loss of epoch 1 is not finite.",
    ]


def test_a_loss_that_was_not_recorded_is_not_lost() -> None:
    run = losses([0.5, 0.4, 0.3], [0.5, 0.4, 0.3])
    for data in run.epochs:
        data["scores"]["train/loss"] = score(NAN, n=0, reason="no loss was given")
    assert judge(run).status == "ready"


def test_the_best_checkpoint_is_judged_and_its_optimism_is_said() -> None:
    bad = [[600, 400], [400, 600]]
    run = [epoch(i, {}, matrix=GOOD if i == 6 else bad) for i in range(10)]
    verdict = judge(Recorded(run, checkpoints=[{"path": "b", "epoch": 6, "why": "best"}]))
    assert verdict.status == "ready"
    assert verdict.notes[0] == "Judged epoch 7 of 10, the best by its own checkpoint."
    (finding,) = verdict.findings
    assert (finding.code, finding.severity) == ("selected-on-val", "info")
    assert "too good by up to about 0.0082" in finding.message
    last = judge(Recorded(run, checkpoints=[{"path": "b", "epoch": 6, "why": "last"}]))
    assert last.status == "not ready"
    assert last.notes[0] == "Judged epoch 10 of 10, the last, as no best checkpoint is recorded."


@pytest.mark.parametrize(
    ("row", "split", "status"),
    [(1, "val", "invalid"), (0, "val", "undetermined"), (1, "train", "ready")],
)
def test_only_nan_in_the_numbers_that_are_judged_is_invalid(
    row: int, split: str, status: str
) -> None:
    run = [epoch(i, {}, matrix=GOOD) for i in range(2)]
    run[row]["faults"] = {split: {"nan-score": {"count": 1, "first_step": 0, "message": "1 row"}}}
    verdict = judge(Recorded(run))
    assert verdict.status == status
    (finding,) = (f for f in verdict.findings if f.code == "metric-faults")
    assert finding.evidence["faults"] == [f"epoch {row + 1}, {split}: 1 row"]


def test_one_epoch_was_not_chosen_among_others() -> None:
    run = Recorded([epoch(0, {}, matrix=GOOD)], checkpoints=[{"epoch": 0, "why": "best"}])
    assert not any("too good" in note for note in judge(run).notes)


def test_of_several_best_checkpoints_the_last_is_judged() -> None:
    bad = [[600, 400], [400, 600]]
    run = [epoch(i, {}, matrix=GOOD if i == 6 else bad) for i in range(10)]
    saved = [{"path": "b", "epoch": number, "why": "best"} for number in (2, 6, 99)]
    verdict = judge(Recorded(run, checkpoints=saved))  # that of epoch 99 is of a run gone by
    assert (verdict.status, verdict.notes[0][:15]) == ("ready", "Judged epoch 7 ")


def test_the_last_validated_epoch_is_judged() -> None:
    run = [epoch(0, {}, matrix=GOOD), epoch(1, {"train/loss": loss(0.3)})]
    assert judge(Recorded(run)).notes[0].startswith("Judged epoch 1 of 2")


def test_a_run_without_epochs_or_validation_is_invalid() -> None:
    for run in (Recorded([], end=None), Recorded([epoch(0, {"train/loss": loss(0.3)})])):
        verdict = judge(run)
        assert (verdict.status, codes(verdict)) == ("invalid", {"not-validated"})


def test_faults_damage_and_a_bad_end_are_told() -> None:
    faulty = epoch(
        0,
        {},
        matrix=GOOD,
        faults={"train": {"bad-weight": {"count": 2, "first_step": 0, "message": "2 x"}}},
    )
    fault = {"where": "update", "message": "boom", "count": 1, "epoch": 0, "step": 3}
    verdict = judge(
        Recorded([faulty], faults=[fault], problems=["torn"], end={"reason": "error: boom"})
    )
    assert {f.code: f.severity for f in verdict.findings} == {
        "metric-faults": "undetermined",
        "damaged-record": "warning",
    }
    assert any("did not complete: error: boom" in note for note in verdict.notes)
    assert verdict.status == "undetermined"
    assert any("has no end" in note for note in judge(Recorded([faulty], end=None)).notes)


def test_a_run_read_back_gets_the_verdict_of_the_run_in_memory(tmp_path: Path) -> None:
    run = Recorded(
        losses(RISING.tolist(), [*FALLING[:-1].tolist(), math.inf]).epochs, checkpoints=BEST
    )
    folder = written(tmp_path / "run", run)
    assert judge(folder).to_dict() == judge(str(folder)).to_dict() == judge(run).to_dict()


def test_a_torn_journal_is_judged_by_what_is_whole(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", losses(HEALTHY.tolist(), FALLING.tolist(), end=None))
    (journal,) = folder.glob("*.jsonl")
    journal.write_bytes(journal.read_bytes()[:-40])
    verdict = judge(folder)
    assert verdict.notes[0].startswith("Judged epoch 19 of 19")
    assert "damaged-record" in codes(verdict)


def test_a_folder_without_a_journal_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="journal"):
        judge(tmp_path)


def test_hundreds_of_epochs_are_judged_and_give_strict_json() -> None:
    rng = np.random.default_rng(5)
    noisy = 0.5 + rng.normal(scale=0.02, size=300)
    run = losses(noisy.tolist(), np.linspace(1, 0.2, 300).tolist())
    verdict = judge(run)
    assert json.dumps(verdict.to_dict(), allow_nan=False)
    assert states(verdict)["accuracy"] == "met"
