"""Rules over learning curves: what each says, and about which epoch."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from judged_sources import GOOD, NAN, Recorded, codes, epoch, loss, losses, score, share, states

from ptmetrics.errors import RecordError
from ptmetrics.record.journal import Journal
from ptmetrics.verdict.judge import judge
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.rules_curve import rising_loss

EPOCHS = np.arange(20)
FALLING = 0.2 + 2 * np.exp(-EPOCHS / 5)
HEALTHY = 0.5 + 1.5 * np.exp(-EPOCHS / 1.5)
RISING = HEALTHY + 0.03 * np.clip(EPOCHS - 7, 0, None)
NAMES = ("val/loss", "train/loss", "val/accuracy", "train/accuracy")
BEST = [{"path": "best.pt", "epoch": 6, "why": "best"}]


def with_accuracy(val: np.ndarray, train: np.ndarray, accuracy: np.ndarray) -> Recorded:
    run = losses(val.tolist(), train.tolist())
    for data, value in zip(run.epochs, accuracy, strict=True):
        data["scores"]["val/accuracy"] = share(round(2000 * value), 2000)
    return run


def test_a_healthy_curve_says_nothing() -> None:
    assert judge(losses(HEALTHY.tolist(), FALLING.tolist())).status == "ready"


def test_a_rising_validation_loss_with_falling_accuracy_is_overfitting() -> None:
    run = with_accuracy(RISING, FALLING, np.linspace(0.96, 0.93, 20))
    verdict = judge(run)
    (finding,) = (f for f in verdict.findings if f.code == "overfitting")
    assert (finding.severity, verdict.status) == ("fail", "not ready")
    assert 6 <= finding.evidence["best_epoch"] <= 9
    assert f"epoch {finding.evidence['best_epoch'] + 1}" in finding.advice


def test_a_rising_loss_at_the_same_accuracy_is_over_confidence_and_does_not_fail() -> None:
    verdict = judge(losses(RISING.tolist(), FALLING.tolist()))
    assert {f.code: f.severity for f in verdict.findings} == {
        "overfitting": "warning",
        "over-confident": "warning",
    }
    assert verdict.status == "ready"


def test_a_rising_loss_without_any_accuracy_fails() -> None:
    run = losses(RISING.tolist(), FALLING.tolist())
    for data in run.epochs:
        del data["scores"]["val/accuracy"]
    assert {f.code: f.severity for f in judge(run).findings}["overfitting"] == "fail"


def test_a_small_rise_is_called_by_its_name() -> None:
    small = HEALTHY + 0.004 * np.clip(EPOCHS - 10, 0, None)
    verdict = judge(losses(small.tolist(), FALLING.tolist()))
    assert {f.code: f.severity for f in verdict.findings} == {"val-loss-rising": "warning"}


def test_a_checkpoint_from_before_the_rise_is_not_touched_by_it() -> None:
    run = with_accuracy(RISING, FALLING, np.linspace(0.96, 0.93, 20))
    verdict = judge(Recorded(run.epochs, checkpoints=BEST))
    assert {f.severity for f in verdict.findings if f.code == "overfitting"} == {"info"}
    assert verdict.status == "ready"


def test_a_rise_with_a_rising_training_loss_is_not_overfitting() -> None:
    assert rising_loss(RISING, FALLING[::-1], Thresholds()) is None


def test_a_high_end_without_a_trend_is_no_rise() -> None:
    val = np.array(
        [2.0, 1.5, 1.2, 1.1, 1.05, 1.04, 1.03, 1.02, 1.01, 1.0, 1.0, 1.3, 1.25, 1.28, 1.2]
    )
    assert rising_loss(val, -np.arange(15.0), Thresholds()) is None
    assert rising_loss(np.sort(val[9:]).repeat(2), -np.arange(12.0), Thresholds()) is not None


@pytest.mark.parametrize("val", [[0.0, 0.0, 0.1, 0.2], [-1.0, -2.0, -1.0, -0.5], [1.0, 2.0]])
def test_a_relative_rise_over_nothing_or_of_two_epochs_is_not_judged(val: list[float]) -> None:
    assert rising_loss(np.array(val), -np.arange(len(val), dtype=float), Thresholds()) is None


def test_five_epochs_show_only_a_severe_rise() -> None:
    train = [1.0, 0.6, 0.3, 0.1, 0.05]
    severe = judge(losses([0.8, 0.5, 0.55, 0.7, 0.9], train))
    assert "overfitting" in codes(severe)
    assert "too few epochs for a trend test" in severe.findings[0].message
    assert not codes(judge(losses([0.8, 0.5, 0.5, 0.56, 0.6], train)))


def test_epochs_without_validation_are_left_out_of_the_trend() -> None:
    run = losses(np.repeat(RISING, 2).tolist(), np.repeat(FALLING, 2).tolist())
    for data in run.epochs[::2]:
        del data["scores"]["val/loss"]
    assert "overfitting" in codes(judge(run))


# The gap between training and validation accuracy


@pytest.mark.parametrize(
    ("train", "expected"), [(0.97, None), (0.98, None), (0.998, "warning"), (0.9999, "warning")]
)
def test_a_gap_warns_by_its_lower_bound(train: float, expected: str | None) -> None:
    data = epoch(
        0, {"train/accuracy": share(round(10000 * train), 10000)}, matrix=[[925, 75], [75, 925]]
    )
    found = [f for f in judge(Recorded([data])).findings if f.code == "overfitting"]
    assert [f.severity for f in found] == ([expected] if expected else [])


def test_validation_far_below_training_accuracy_fails() -> None:
    data = epoch(0, {"train/accuracy": share(9990, 10000)}, matrix=[[860, 140], [140, 860]])
    verdict = judge(Recorded([data]), profile=Thresholds(accuracy=0.8))
    (finding,) = (f for f in verdict.findings if f.code == "overfitting")
    assert (finding.severity, finding.evidence["threshold"]) == ("fail", 0.10)
    assert finding.evidence["low"] > 0.10
    assert verdict.status == "not ready"


def test_the_same_gap_on_few_samples_says_nothing() -> None:
    data = epoch(0, {"train/accuracy": share(40, 40)}, matrix=[[17, 3], [3, 17]])
    assert "overfitting" not in codes(judge(Recorded([data])))


def test_a_log_of_bare_values_is_judged_by_its_trends_and_says_what_it_cannot_check() -> None:
    rows = [
        {
            "epoch": i,
            "scores": {name: {"value": float(v)} for name, v in zip(NAMES, values, strict=True)},
        }
        for i, values in enumerate(
            zip(HEALTHY, FALLING, np.full(20, 0.9), np.linspace(0.9, 0.99, 20), strict=True)
        )
    ]
    verdict = judge(Recorded(rows))
    assert verdict.status == "undetermined"
    assert not codes(verdict)
    assert any("no confusion matrix" in note for note in verdict.notes)
    assert any(
        "overfitting, underfitting (training and validation accuracy" in note
        for note in verdict.notes
    )


# Underfitting, divergence, values that are lost


def test_low_training_accuracy_that_still_improves_is_undertrained() -> None:
    weak = [[700, 300], [300, 700]]
    for curve, code in (
        (np.linspace(2.0, 1.0, 10), "undertrained"),
        (np.full(10, 0.6), "underfitting"),
    ):
        run = losses(curve.tolist(), curve.tolist(), matrix=weak)
        for data in run.epochs:
            data["scores"]["train/accuracy"] = share(7000, 10000)
        found = codes(judge(run)) & {"undertrained", "underfitting"}
        assert found == {code}


def test_a_training_loss_that_leaves_for_good_has_diverged() -> None:
    train = [1.0, 0.5, 0.3, 0.9, 2.0, 4.0, 5.0, 6.0]
    verdict = judge(losses(train, train))
    (finding,) = (f for f in verdict.findings if f.code == "diverged")
    assert (finding.severity, verdict.status) == ("fail", "not ready")
    early = judge(
        Recorded(
            losses(train, train).epochs, checkpoints=[{"path": "b", "epoch": 2, "why": "best"}]
        )
    )
    assert {f.severity for f in early.findings if f.code == "diverged"} == {"warning"}


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


def test_a_loss_that_was_not_recorded_is_not_lost() -> None:
    run = losses([0.5, 0.4, 0.3], [0.5, 0.4, 0.3])
    for data in run.epochs:
        data["scores"]["train/loss"] = score(NAN, n=0, reason="no loss was given")
    assert judge(run).status == "ready"


# Which epoch


def test_the_best_checkpoint_is_judged_and_its_optimism_is_said() -> None:
    bad = [[600, 400], [400, 600]]
    run = [epoch(i, {}, matrix=GOOD if i == 6 else bad) for i in range(10)]
    verdict = judge(Recorded(run, checkpoints=[{"path": "b", "epoch": 6, "why": "best"}]))
    assert verdict.status == "ready"
    assert verdict.notes[0] == "Judged epoch 7 of 10, the best by its own checkpoint."
    assert "too good by up to about 0.0082" in verdict.notes[1]
    last = judge(Recorded(run, checkpoints=[{"path": "b", "epoch": 6, "why": "last"}]))
    assert last.status == "not ready"
    assert last.notes[0] == "Judged epoch 10 of 10, the last, as no best checkpoint is recorded."


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


# Through the journal


def recorded(folder: Path, run: Recorded) -> Path:
    folder.mkdir(parents=True)
    with Journal(folder) as journal:
        journal.append("header", run.header)
        for data in run.epochs:
            journal.append("epoch", data)
        for data in run.checkpoints:
            journal.append("checkpoint", data)
        if run.end is not None:
            journal.append("end", run.end)
    return folder


def test_a_run_read_back_gets_the_verdict_of_the_run_in_memory(tmp_path: Path) -> None:
    run = Recorded(
        losses(RISING.tolist(), [*FALLING[:-1].tolist(), math.inf]).epochs, checkpoints=BEST
    )
    folder = recorded(tmp_path / "run", run)
    assert judge(folder).to_dict() == judge(str(folder)).to_dict() == judge(run).to_dict()


def test_a_torn_journal_is_judged_by_what_is_whole(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "run", losses(HEALTHY.tolist(), FALLING.tolist(), end=None))
    (journal,) = folder.glob("*.jsonl")
    journal.write_bytes(journal.read_bytes()[:-40])
    verdict = judge(folder)
    assert verdict.notes[0].startswith("Judged epoch 19 of 19")
    assert "damaged-record" in codes(verdict)


def test_a_folder_without_a_journal_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="journal"):
        judge(tmp_path)


def test_a_thousand_epochs_are_judged_and_give_strict_json() -> None:
    rng = np.random.default_rng(5)
    noisy = 0.5 + rng.normal(scale=0.02, size=1000)
    run = losses(noisy.tolist(), np.linspace(1, 0.2, 1000).tolist())
    verdict = judge(run)
    assert json.dumps(verdict.to_dict(), allow_nan=False)
    assert states(verdict)["accuracy"] == "met"
