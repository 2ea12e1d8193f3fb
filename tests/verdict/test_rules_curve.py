"""Rules over learning curves: what each says, and about which epoch."""

import re
from dataclasses import replace

import numpy as np
import pytest
from judged_sources import Recorded, codes, epoch, losses, score, share
from kept_runs import Keeping, class_rows

import ptmetrics as pm
from ptmetrics.record.samples import StoredSamples
from ptmetrics.verdict.gathering import evidence_of_run
from ptmetrics.verdict.judge import judge
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.rules_curve import loss_rise

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
    assert "accuracy got worse, from" in finding.message
    # Accuracy fell from the first epoch on: there it was best, not where the loss was least.
    assert finding.advice.startswith("Go back to epoch 1 if you have its weights: its accuracy is")
    assert finding.advice.endswith('pm.Checkpoint("val/accuracy") keeps the best.')


@pytest.mark.parametrize(("later", "first"), [("epoch9.pt", "Restore"), ("epoch1.pt", "Go back")])
def test_a_checkpoint_is_to_be_restored_where_one_of_that_epoch_is_left(
    later: str, first: str
) -> None:
    run = with_accuracy(RISING, FALLING, np.linspace(0.96, 0.93, 20))
    told = [("epoch1.pt", 0), (later, 8)]
    kept = [{"path": path, "epoch": epoch, "why": "top"} for path, epoch in told]
    verdict = judge(replace(run, checkpoints=kept))
    (finding,) = (f for f in verdict.findings if f.code == "overfitting")
    assert finding.advice.startswith(first)


def test_where_no_epoch_is_shown_to_be_better_none_is_to_be_restored() -> None:
    accuracy = np.where(EPOCHS > 12, 0.945, 0.95)
    verdict = judge(with_accuracy(RISING, FALLING, accuracy))
    (finding,) = (f for f in verdict.findings if f.code == "over-confident")
    assert "estore" not in finding.advice
    assert re.search(r"Stopping at epoch \d+ would have spared", finding.advice)


def test_a_rising_loss_at_the_same_accuracy_is_over_confidence_and_does_not_fail() -> None:
    verdict = judge(losses(RISING.tolist(), FALLING.tolist()))
    assert {f.code: f.severity for f in verdict.findings} == {"over-confident": "warning"}
    assert "accuracy has held" in verdict.findings[0].message
    assert verdict.status == "ready"


def test_a_rising_loss_without_any_score_is_a_warning_that_says_so() -> None:
    run = losses(RISING.tolist(), FALLING.tolist())
    for data in run.epochs:
        data["scores"] = {name: data["scores"][name] for name in ("val/loss", "train/loss")}
    found = {f.code: f for f in judge(run).findings}["overfitting"]
    assert found.severity == "warning"
    assert "whether the model got worse was not recorded" in found.message


def test_a_small_rise_is_called_by_its_name() -> None:
    small = HEALTHY + 0.004 * np.clip(EPOCHS - 10, 0, None)
    verdict = judge(losses(small.tolist(), FALLING.tolist()))
    assert {f.code: f.severity for f in verdict.findings} == {"val-loss-rising": "warning"}


def test_a_checkpoint_from_before_the_rise_is_not_touched_by_it() -> None:
    run = with_accuracy(RISING, FALLING, np.linspace(0.96, 0.93, 20))
    verdict = judge(Recorded(run.epochs, checkpoints=BEST))
    assert {f.severity for f in verdict.findings if f.code == "overfitting"} == {"info"}
    assert verdict.status == "ready"


@pytest.mark.parametrize(
    ("after", "severity"), [(0, "info"), (1, "info"), (2, "warning"), (12, "fail")]
)
def test_the_rise_touches_checkpoints_from_the_second_epoch_after_the_best(
    after: int, severity: str
) -> None:
    run = with_accuracy(RISING, FALLING, np.linspace(0.96, 0.93, 20))
    rises = ("overfitting", "val-loss-rising", "over-confident")
    (found,) = (f for f in judge(run).findings if f.code in rises)
    checkpoint = {"path": "b", "epoch": found.evidence["best_epoch"] + after, "why": "best"}
    verdict = judge(Recorded(run.epochs, checkpoints=[checkpoint]))
    assert {f.severity for f in verdict.findings if f.code in rises} == {severity}


def test_a_rise_with_a_rising_training_loss_is_not_overfitting() -> None:
    assert loss_rise(RISING, FALLING[::-1], Thresholds()) is None


def test_a_high_end_without_a_trend_is_no_rise() -> None:
    val = np.array(
        [2.0, 1.5, 1.2, 1.1, 1.05, 1.04, 1.03, 1.02, 1.01, 1.0, 1.0, 1.3, 1.25, 1.28, 1.2]
    )
    assert loss_rise(val, -np.arange(15.0), Thresholds()) is None
    assert loss_rise(np.sort(val[9:]).repeat(2), -np.arange(12.0), Thresholds()) is not None


@pytest.mark.parametrize("val", [[0.0, 0.0, 0.1, 0.2], [-1.0, -2.0, -1.0, -0.5], [1.0, 2.0]])
def test_a_relative_rise_over_nothing_or_of_two_epochs_is_not_judged(val: list[float]) -> None:
    assert loss_rise(np.array(val), -np.arange(len(val), dtype=float), Thresholds()) is None


def test_three_epochs_with_one_sharp_rise_and_a_gap_are_not_silent() -> None:
    run = losses([1.0, 0.5, 0.9], [1.0, 0.4, 0.1])
    for data, trained, validated in zip(
        run.epochs, (0.6, 0.9, 0.99), (0.6, 0.8, 0.72), strict=True
    ):
        data["scores"]["train/accuracy"] = share(round(2000 * trained), 2000)
        data["scores"]["val/accuracy"] = share(round(2000 * validated), 2000)
    assert "overfitting" in codes(judge(run))
    calm = losses([1.0, 0.5, 0.52], [1.0, 0.4, 0.1])
    assert not codes(judge(calm))


def test_the_lowest_loss_is_named_where_the_smoothed_curve_has_its_minimum_elsewhere() -> None:
    jagged = RISING.copy()
    jagged[4] = 0.4
    (finding,) = (f for f in judge(losses(jagged.tolist(), FALLING.tolist())).findings)
    assert "above its minimum at epoch 5" in finding.message
    assert finding.evidence["rise"] == pytest.approx(jagged[-1] / 0.4 - 1)


def test_the_rise_is_that_of_the_judged_epoch() -> None:
    jagged = RISING.copy()
    jagged[15] = 0.45  # and this one is judged
    checkpoint = [{"path": "b", "epoch": 15, "why": "best", "score": "val/loss"}]
    run = losses(jagged.tolist(), FALLING.tolist())
    found = judge(Recorded(run.epochs, checkpoints=checkpoint)).findings
    assert {f.severity for f in found} == {"info"}


@pytest.mark.parametrize(
    ("name", "start", "step", "severity"),
    [
        ("val/wer", 0.4, -0.012, "warning"),
        ("val/wer", 0.2, 0.012, "fail"),
        ("val/f1/macro", 0.7, 0.012, "warning"),
        ("val/f1/macro", 0.9, -0.012, "fail"),
        ("val/bleu", 20.0, -0.4, "fail"),
    ],
)
def test_any_score_with_a_direction_tells_whether_the_model_got_worse(
    name: str, start: float, step: float, severity: str
) -> None:
    run = losses(RISING.tolist(), FALLING.tolist())
    for row, data in enumerate(run.epochs):
        kept = {key: data["scores"][key] for key in ("val/loss", "train/loss")}
        data["scores"] = kept | {name: {"value": start + step * row}}
    rises = [f for f in judge(run).findings if f.code in ("overfitting", "over-confident")]
    assert [f.severity for f in rises] == [severity]


def test_the_score_that_selection_follows_comes_first() -> None:
    run = losses(RISING.tolist(), FALLING.tolist())
    for row, data in enumerate(run.epochs):
        data["scores"]["val/mcc"] = score(
            0.9 - 0.02 * row, 0.88 - 0.02 * row, 0.92 - 0.02 * row, 500
        )
    assert "over-confident" in codes(judge(run))  # accuracy holds
    chosen = [{"path": "b", "epoch": 19, "why": "best", "score": "val/mcc"}]
    found = {f.code: f for f in judge(Recorded(run.epochs, checkpoints=chosen)).findings}
    assert "mcc got worse" in found["overfitting"].message


@pytest.mark.parametrize(
    ("curve", "cause"),
    [
        ([1.0, 0.99, 0.98, 0.98, 0.97], "not learning"),
        ([1.0, 0.8, 1.2, 1.4, 1.5], "diverged"),
        ([1.0, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5], "capacity"),
    ],
)
def test_underfitting_tells_its_causes_apart(curve: list[float], cause: str) -> None:
    run = losses(curve, curve, matrix=[[700, 300], [300, 700]])
    for data in run.epochs:
        data["scores"]["train/accuracy"] = share(7000, 10000)
    (finding,) = (f for f in judge(run).findings if f.code == "underfitting")
    assert finding.evidence["cause"] == cause


def test_epochs_of_another_validation_are_not_compared() -> None:
    run = losses(RISING.tolist(), FALLING.tolist())
    for data in run.epochs[:-2]:
        data["counts"]["val_samples"] = 900
    found = codes(judge(run))
    assert "validation-changed" in found
    assert not found & {"overfitting", "over-confident", "val-loss-rising"}


def test_the_metrics_own_likelihood_stands_in_for_a_loss_that_was_not_recorded() -> None:
    run = losses(RISING.tolist(), FALLING.tolist())
    for data in run.epochs:
        scores = data["scores"]
        for split in ("train", "val"):
            scores[f"{split}/nll"] = scores.pop(f"{split}/loss")
    (finding,) = (f for f in judge(run).findings if f.code == "over-confident")
    assert finding.message.startswith("Validation nll is")


def test_five_epochs_show_only_a_severe_rise() -> None:
    train = [1.0, 0.6, 0.3, 0.1, 0.05]
    severe = judge(losses([0.8, 0.5, 0.55, 0.7, 0.9], train))
    assert "over-confident" in codes(severe)
    assert "too few epochs for a trend test" in severe.findings[0].message
    assert not codes(judge(losses([0.8, 0.5, 0.5, 0.56, 0.6], train)))
    assert not codes(judge(losses([0.8, 0.5, 0.5, 0.51, 0.9], train)))  # severe, but only once


def test_epochs_without_validation_are_left_out_of_the_trend() -> None:
    run = losses(np.repeat(RISING, 2).tolist(), np.repeat(FALLING, 2).tolist())
    for data in run.epochs[::2]:
        del data["scores"]["val/loss"]
    assert "over-confident" in codes(judge(run))


@pytest.mark.parametrize(
    ("train", "expected"), [(0.97, None), (0.98, None), (0.998, "warning"), (0.9999, "warning")]
)
def test_a_gap_warns_by_its_lower_bound(train: float, expected: str | None) -> None:
    data = epoch(
        0, {"train/accuracy": share(round(10000 * train), 10000)}, matrix=[[925, 75], [75, 925]]
    )
    found = [f for f in judge(Recorded([data])).findings if f.code == "generalization-gap"]
    assert [f.severity for f in found] == ([expected] if expected else [])


def gap_run(train: list[float], split: str = "train") -> Recorded:
    """Runs whose validation accuracy is 0.86 from the third epoch on."""
    matrices = [[[700, 300], [300, 700]], [[800, 200], [200, 800]]]
    matrices += [[[860, 140], [140, 860]]] * (len(train) - 2)
    rows = [
        epoch(i, {f"{split}/accuracy": share(round(10000 * train[i]), 10000)}, matrix=matrix)
        for i, matrix in enumerate(matrices)
    ]
    return Recorded(rows)


@pytest.mark.parametrize(
    ("train", "code", "severity"),
    [
        ([0.70, 0.82, 0.90, 0.93, 0.96, 0.98, 0.99, 0.999], "overfitting", "fail"),
        ([0.70, 0.82, 0.90, 0.93, 0.999], "overfitting", "fail"),
        ([0.88, 0.95, 0.999, 0.999, 0.999, 0.999], "generalization-gap", "warning"),
        ([0.70, 0.80, 0.86, 0.87, 0.87, 0.87], None, None),
    ],
)
@pytest.mark.parametrize("split", ["train", "train_eval"])
def test_a_gap_is_overfitting_where_it_widens_and_has_other_causes_where_it_does_not(
    train: list[float], code: str | None, severity: str | None, split: str
) -> None:
    run = gap_run(train, split)
    if split == "train_eval":  # training accuracy taken during the epoch does not count then
        for data in run.epochs:
            data["scores"]["train/accuracy"] = share(8600, 10000)
    found = [f for f in judge(run).findings if f.code in ("overfitting", "generalization-gap")]
    assert [(f.code, f.severity) for f in found] == ([(code, severity)] if code else [])
    if found:
        assert found[0].evidence["split"] == split


def test_a_gap_of_an_unknown_number_of_samples_is_told_where_it_is_gross() -> None:
    for gap, told in ((0.05, False), (0.13, True)):
        run = gap_run([0.86 + gap] * 6)
        for data in run.epochs:
            scores = data["scores"]
            data["scores"] = {name: {"value": item["value"]} for name, item in scores.items()}
        found = [f for f in judge(run).findings if f.code == "generalization-gap"]
        assert bool(found) is told
        assert all("unknown number of samples" in f.message for f in found)


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
    assert codes(verdict) == {"not-measured"}
    assert any("no confusion matrix" in note for note in verdict.notes)
    assert any(
        "overfitting, underfitting (training and validation accuracy" in note
        for note in verdict.notes
    )


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


def test_low_training_accuracy_far_above_validation_is_a_gap_and_no_underfitting() -> None:
    run = losses([0.6] * 6, [0.6] * 6, matrix=[[550, 450], [450, 550]])
    for data in run.epochs:
        data["scores"]["train/accuracy"] = share(7000, 10000)
    found = codes(judge(run)) & {"overfitting", "generalization-gap", "underfitting"}
    assert found == {"generalization-gap"}


def test_accuracy_that_was_not_recorded_at_the_best_epoch_is_not_said_to_hold() -> None:
    run = losses(RISING.tolist(), FALLING.tolist())
    (found,) = (f for f in judge(run).findings if f.code == "over-confident")
    del run.epochs[found.evidence["best_epoch"]]["scores"]["val/accuracy"]
    (found,) = (f for f in judge(run).findings if f.code == "overfitting")
    assert found.severity == "warning"


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


def test_one_epoch_says_which_curves_are_missing() -> None:
    verdict = judge(losses([0.5], [0.4]))
    assert verdict.status == "ready"
    notes = "\n".join(verdict.notes)
    assert re.search(r"Not checked: diverged \(the training loss of 4 epochs", notes)
    assert re.search(r"Not checked: overfitting \(training and validation loss of 3 epochs", notes)


# Is a rise of the validation loss one of the samples at large?


def rising(last: np.ndarray, epochs: int = 5) -> Keeping:
    """Losses 0.8, 0.5, …, with samples of mean 0.5 at the best epoch, and these at the end."""
    base = np.full(last.size, 0.5)
    rise = np.linspace(0.5, last.mean(), epochs - 1)
    val = np.concatenate([[0.8], rise])
    run = losses(val.tolist(), np.linspace(1.0, 0.1, epochs).tolist())
    target = np.arange(last.size) % 2
    samples = {
        1: StoredSamples(class_rows(target, target, base)),
        epochs - 1: StoredSamples(class_rows(target, target, last)),
    }
    return Keeping(run.epochs, samples=samples)


def rise_codes(run: Keeping) -> set[str]:
    codes_of_rises = ["overfitting", "val-loss-rising", "over-confident"]
    return {item.code for item in pm.judge(run, select=codes_of_rises).findings}


def test_a_rise_that_few_samples_make_is_no_overfitting() -> None:
    one = np.full(50, 0.5)
    one[7] = 15.5  # the mean is 0.8
    assert rise_codes(rising(one)) == set()
    assert rise_codes(rising(np.full(50, 0.8) + 0.1 * np.sin(np.arange(50)))) == {"over-confident"}
    without = rising(one)
    assert rise_codes(Keeping(without.epochs)) == {
        "over-confident"
    }  # nothing but the curve is known


def test_a_long_run_needs_it_too() -> None:
    one = np.full(50, 0.5)
    one[7] = 15.5
    assert rise_codes(rising(one, epochs=20)) == set()
    assert rise_codes(rising(np.full(50, 0.8), epochs=20)) == {"over-confident"}


def test_below_ten_epochs_the_samples_decide_where_no_trend_can() -> None:
    last = 0.58 + 0.2 * np.sin(np.arange(500))
    run = rising(last + 0.58 - last.mean(), epochs=5)
    assert rise_codes(run) == {"over-confident"}
    assert rise_codes(Keeping(run.epochs)) == set()
    (finding,) = pm.judge(run, select=["over-confident"]).findings
    assert "on the same 500 samples it grew by 0.0800, at least 0.06" in finding.message
    assert finding.evidence["paired"]["n"] == 500
    assert (
        finding.evidence["paired"]["low"]
        < finding.evidence["paired"]["value"]
        == pytest.approx(0.08)
    )


def test_the_bound_is_of_students_kind_by_hand() -> None:
    last = np.array([0.5, 0.6, 0.7, 0.8])
    change = evidence_of_run(rising(last)).loss_change
    assert change.value == pytest.approx(0.15)
    assert change.low == pytest.approx(0.15 - 1.6448536269514722 * 0.12909944487358055 / 2)


def test_another_loss_than_that_of_the_samples_leaves_the_curve_alone_to_speak() -> None:
    run = rising(np.full(50, 0.8))
    odd = Keeping(
        run.epochs, samples=run.samples | {4: StoredSamples(class_rows(np.arange(50) % 2, 0, 0.5))}
    )
    change = evidence_of_run(odd).loss_change
    assert not change.bounded
    assert change.reason == "the recorded loss is not the mean of the kept ones"
    assert rise_codes(odd) == {"over-confident"}


def test_a_rise_that_is_not_known_to_be_one_of_all_samples_changes_no_older_answer() -> None:
    val, train = np.array([0.8, 0.5, 0.55, 0.7, 0.9]), np.linspace(1, 0.1, 5)
    assert loss_rise(val, train, Thresholds()) is not None


@pytest.mark.parametrize(
    ("losses_seen", "val", "found"),
    [
        ([0.9], 0.5, set()),  # one epoch is no trend
        ([0.9] * 4, 0.5, {"underfitting"}),
        ([0.9] * 4, 0.58, {"underfitting"}),
        ([0.9] * 4, 0.97, set()),  # validation meets the target, as beside heavy augmentation
        ([0.9, 0.8, 0.7, 0.6], 0.97, set()),
        ([0.9, 0.8, 0.7, 0.6], 0.5, {"undertrained"}),
    ],
)
def test_underfitting_needs_a_trend_and_a_validation_below_the_target(
    losses_seen: list[float], val: float, found: set[str]
) -> None:
    run = losses(losses_seen, losses_seen)
    for data in run.epochs:
        data["scores"]["train/accuracy"] = share(1000, 2000)
        data["scores"]["val/accuracy"] = share(round(2000 * val), 2000)
    verdict = judge(run)
    assert codes(verdict) & {"underfitting", "undertrained"} == found
    missing = "underfitting (the training loss of 2 epochs is needed)"
    assert any(missing in note for note in verdict.notes) is (len(losses_seen) == 1)


def test_no_trend_is_told_of_a_loss_that_was_not_recorded() -> None:
    run = losses([0.9] * 5, [0.9] * 5)
    for data in run.epochs:
        del data["scores"]["train/loss"]
        data["scores"]["train/accuracy"] = share(1000, 2000)
        data["scores"]["val/accuracy"] = share(1000, 2000)
    assert not codes(judge(run)) & {"underfitting", "undertrained"}


def test_a_score_then_and_now_has_the_digits_of_the_table() -> None:
    run = with_accuracy(RISING, FALLING, np.linspace(0.9, 0.73, 20))
    (finding,) = (f for f in judge(run).findings if f.code == "overfitting")
    assert re.search(r"got worse, from 0\.\d{4} to 0\.7300\.$", finding.message)
    assert re.search(r"is better by 0\.\d{4} \[0\.\d{4}, 0\.\d{4}\]\.", finding.advice)
