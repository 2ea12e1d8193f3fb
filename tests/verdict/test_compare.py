"""Two arms held against each other."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged_sources import NAN, Recorded, accuracies, epoch, loss, score, share

from ptmetrics.errors import ConfigError, DataError, RecordError
from ptmetrics.record.journal import Journal
from ptmetrics.verdict.compare import Comparison, compare

QUICK = [0.80, 0.91, 0.93, 0.94, 0.94, 0.95, 0.95, 0.95, 0.95, 0.95]
SLOW = [0.30, 0.45, 0.55, 0.65, 0.75, 0.82, 0.88, 0.91, 0.92, 0.92]


def codes(comparison: Comparison) -> dict[str, str]:
    return {finding.code: finding.severity for finding in comparison.findings}


def states(comparison: Comparison) -> dict[str, str]:
    return {criterion.code: criterion.state for criterion in comparison.criteria}


def test_a_quick_arm_meets_the_half() -> None:
    comparison = compare(accuracies(QUICK), accuracies(SLOW), target="val/accuracy>=0.9")
    assert comparison.time_ratio.value == pytest.approx(20 / 80)
    assert (comparison.time_ratio.low, comparison.time_ratio.high) == (10 / 80, 20 / 70)
    assert states(comparison) == {"speedup": "met", "scratch-is-better": "met"}
    assert not codes(comparison)
    assert any("pre-training itself is not counted" in note for note in comparison.notes)
    assert any("single run per arm, no seed interval" in note for note in comparison.notes)


def test_the_dictionary_has_the_promised_keys_and_is_strict_json() -> None:
    comparison = compare(accuracies(QUICK), accuracies([0.3] * 10), target="val/accuracy>=0.9")
    told = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert {
        "time_ratio", "target", "ratios", "at_equal_time", "final_difference", "criteria", "findings", "notes", "curve",
    } <= told.keys()  # fmt: skip
    assert {"value", "low", "high", "censored"} <= told["time_ratio"].keys()
    assert (told["time_ratio"]["value"], told["time_ratio"]["censored"]) == (None, "second")
    assert told["target"] == "val/accuracy>=0.9"
    assert str(comparison).startswith(
        "Training time to val/accuracy>=0.9, first over second: below 0.2"
    )


def test_scratch_that_never_got_there_is_told_as_at_least_so_much_less() -> None:
    comparison = compare(accuracies(QUICK), accuracies([0.3] * 10), target="val/accuracy>=0.9")
    assert comparison.time_ratio.high == pytest.approx(0.2)
    assert any(
        "at least 80 % less: a run of the second arm never reached the target" in note
        for note in comparison.notes
    )
    assert states(comparison)["speedup"] == "met"


def test_scratch_that_was_too_short_to_tell_gives_no_bound() -> None:
    comparison = compare(accuracies(QUICK), accuracies([0.95]), target="val/accuracy>=0.9")
    assert (comparison.time_ratio.censored, comparison.time_ratio.high) == ("second", math.inf)
    assert comparison.notes[0].startswith("Time ratio: a run of the second arm never reached")


def test_the_default_target_is_the_lowest_level_that_every_run_holds() -> None:
    first = [accuracies(QUICK), accuracies([0.7, 0.85, 0.90, 0.93, 0.93])]
    second = [accuracies(SLOW), accuracies([*SLOW[:-2], 0.89, 0.87])]
    comparison = compare(first, second)
    assert comparison.target == "val/accuracy>=0.89"
    assert comparison.time_ratio.censored is None
    assert "the level that every one of the 4 runs holds" in comparison.notes[0]


def test_a_spike_of_the_second_arm_does_not_set_a_target_that_it_never_held() -> None:
    spiky = [0.5, 0.6, 0.7, 0.97, 0.8, 0.8, 0.8, 0.8]
    comparison = compare(accuracies([0.9, 0.99, 0.99, 0.99]), accuracies(spiky))
    assert comparison.target == "val/accuracy>=0.8"
    assert comparison.time_ratio.censored is None


def test_a_first_arm_that_stays_below_is_compared_at_what_both_held() -> None:
    comparison = compare(accuracies([0.7, 0.8, 0.8, 0.8]), accuracies(SLOW))
    assert comparison.target == "val/accuracy>=0.8"
    assert comparison.time_ratio.censored is None
    assert "val/accuracy>=0.8, the level that every one of the 2 runs" in comparison.notes[0]
    assert codes(comparison)["scratch-is-better"] == "fail"


def test_two_alike_have_no_speedup() -> None:
    comparison = compare(accuracies(SLOW), accuracies(SLOW), target="val/accuracy>=0.9")
    assert codes(comparison) == {"no-speedup": "fail"}
    assert states(comparison)["speedup"] == "failed"


def test_a_first_arm_that_never_got_there_has_no_speedup() -> None:
    comparison = compare(accuracies([0.3] * 10), accuracies(QUICK), target="val/accuracy>=0.9")
    assert comparison.time_ratio.censored == "first"
    assert comparison.time_ratio.low == pytest.approx(100 / 20)
    assert codes(comparison) == {"no-speedup": "fail", "scratch-is-better": "fail"}


def test_the_ratio_stands_on_every_axis_that_all_recorded() -> None:
    first, second = accuracies(QUICK), accuracies(SLOW)
    comparison = compare(first, second, target="val/accuracy>=0.9")
    assert set(comparison.ratios) == {"samples", "steps", "wall"}
    for run in (first, second):
        for data in run.epochs:
            data["time"]["train_device_s"] = 4.0
    device = compare(first, second, target="val/accuracy>=0.9").ratios["device"]
    assert device.value == pytest.approx(8 / 32)


def test_an_arm_with_slower_steps_is_flagged() -> None:
    comparison = compare(
        accuracies(QUICK, seconds=14.0), accuracies(SLOW), target="val/accuracy>=0.9"
    )
    assert comparison.ratios["samples"].value == pytest.approx(0.25)
    assert codes(comparison)["time-samples-disagree"] == "warning"
    alike = compare(accuracies(QUICK, seconds=12.0), accuracies(SLOW), target="val/accuracy>=0.9")
    assert "time-samples-disagree" not in codes(alike)


def test_scores_at_equal_time_are_those_of_the_last_evaluation_by_then() -> None:
    equal = compare(
        accuracies(QUICK[:4]), accuracies(SLOW, seconds=12.0), target="val/accuracy>=0.9"
    ).at_equal_time
    assert equal.time_s == 40.0
    assert (equal.first.value, equal.second.value) == (pytest.approx(0.94), pytest.approx(0.55))
    assert equal.difference.low > 0.3


def test_no_evaluation_by_then_is_said() -> None:
    equal = compare(
        accuracies(QUICK[:1]), accuracies(SLOW, seconds=12.0), target="val/accuracy>=0.5", hold=1
    ).at_equal_time
    assert math.isnan(equal.second.value)
    assert "no evaluation by then" in str(equal.second)


def test_the_final_difference_of_single_runs_is_newcombes() -> None:
    difference = compare(accuracies(QUICK), accuracies(SLOW)).final_difference
    assert difference.value == pytest.approx(0.03)
    assert difference.low < 0.03 < difference.high
    assert (difference.method, difference.n) == ("newcombe, unpaired", 2000)


def test_the_final_difference_of_seeds_is_welchs() -> None:
    first = [accuracies([*QUICK[:-1], last]) for last in (0.95, 0.952, 0.948)]
    second = [accuracies([*SLOW[:-1], last]) for last in (0.92, 0.93, 0.91)]
    comparison = compare(first, second, target="val/accuracy>=0.9")
    assert comparison.final_difference.method == "welch over seeds"
    assert comparison.final_difference.value == pytest.approx(0.03)
    assert comparison.time_ratio.seeded
    assert comparison.criteria[0].n == 6


def test_a_worse_end_within_the_margin_is_no_failure() -> None:
    comparison = compare(accuracies([0.945] * 4, n=200_000), accuracies([0.95] * 4, n=200_000))
    assert states(comparison)["scratch-is-better"] == "met"


@pytest.mark.parametrize(
    ("prints", "expected"),
    [(("a", "a"), True), (("a", "b"), False), (("a", None), None), ((None, None), None)],
)
def test_the_same_validation_data_are_known_by_their_fingerprint(
    prints: Any, expected: bool | None
) -> None:
    comparison = compare(
        accuracies(QUICK, fingerprint=prints[0]), accuracies(SLOW, fingerprint=prints[1])
    )
    assert comparison.same_validation is expected
    assert ("different-validation" in codes(comparison)) is (expected is False)
    assert any("not recorded" in note for note in comparison.notes) is (expected is None)


def test_validation_sets_of_other_sizes_are_different() -> None:
    other = accuracies(SLOW)
    for data in other.epochs:
        data["counts"]["val_samples"] = 1999
    comparison = compare(accuracies(QUICK), other)
    assert codes(comparison)["different-validation"] == "invalid"


def test_the_curve_runs_from_half_the_target_to_all_of_it() -> None:
    curve = compare(accuracies(QUICK), accuracies(SLOW), target="val/accuracy>=0.9").curve
    assert [point["target"] for point in curve] == pytest.approx(
        np.arange(0.45, 0.91, 0.045).tolist()
    )
    assert curve[-1]["value"] == pytest.approx(20 / 80)
    assert curve[0]["value"] == pytest.approx(10 / 20)


def test_a_loss_is_better_when_lower() -> None:
    def run(values: list[float]) -> Recorded:
        return Recorded([epoch(i, {"val/loss": loss(v)}) for i, v in enumerate(values)])

    quick, slow = run([0.5, 0.3, 0.2, 0.2, 0.2, 0.2]), run([2.0, 1.5, 1.0, 0.8, 0.5, 0.5])
    comparison = compare(quick, slow, target="val/loss<=0.6")
    assert comparison.time_ratio.value == pytest.approx(10 / 50)
    assert states(comparison)["scratch-is-better"] == "met"
    assert comparison.curve[0]["target"] == pytest.approx(1.2)
    default = compare(quick, slow, metric="val/loss")
    assert default.target.startswith("val/loss<=0.5")
    assert codes(compare(slow, quick, metric="val/loss"))["scratch-is-better"] == "fail"
    spiky = compare(run([0.9, 0.2, 0.2, 0.2]), run([2.0, 0.2, 1.0, 0.9, 0.8]), metric="val/loss")
    assert spiky.target == "val/loss<=0.9"  # held twice, where 0.2 was a spike


def test_a_level_of_zero_has_no_curve() -> None:
    assert compare(accuracies(QUICK), accuracies(SLOW), target="val/accuracy>=0").curve == ()


def test_epochs_without_the_score_are_left_out() -> None:
    run = accuracies(QUICK)
    run.epochs[1]["scores"]["val/accuracy"] = score(NAN, reason="not validated")
    assert compare(
        run, accuracies(SLOW), target="val/accuracy>=0.9"
    ).time_ratio.value == pytest.approx(30 / 80)


def written(folder: Path, run: Recorded) -> Path:
    folder.mkdir(parents=True)
    with Journal(folder) as journal:
        journal.append("header", run.header)
        for data in run.epochs:
            journal.append("epoch", data)
    return folder


def test_runs_are_read_from_their_folders(tmp_path: Path) -> None:
    first = written(tmp_path / "first", accuracies(QUICK))
    second = written(tmp_path / "second", accuracies(SLOW))
    expected = compare(accuracies(QUICK), accuracies(SLOW)).to_dict()
    assert compare(first, str(second)).to_dict() == expected
    with pytest.raises(RecordError):
        compare(tmp_path / "none", second)


def test_a_folder_of_several_runs_stands_for_all_of_them(tmp_path: Path) -> None:
    arms: dict[str, list[Path]] = {"quick": [], "slow": []}
    for arm, values in (("quick", QUICK), ("slow", SLOW)):
        for seed in range(3):
            folder = tmp_path / arm / f"seed{seed}"
            arms[arm].append(written(folder, accuracies([value - seed / 100 for value in values])))
    together = compare(str(tmp_path / "quick"), tmp_path / "slow")
    assert together.to_dict() == compare(arms["quick"], arms["slow"]).to_dict()


def test_a_score_that_was_not_recorded_is_named_with_those_that_were() -> None:
    with pytest.raises(
        DataError,
        match=r"metric: expected a score that the run recorded \(val/accuracy\), got 'val/f1'",
    ):
        compare(accuracies(QUICK), accuracies(SLOW), metric="val/f1")


def test_a_run_without_times_is_compared_by_what_it_recorded() -> None:
    run = accuracies(QUICK)
    for data in run.epochs:
        del data["time"]
    comparison = compare(run, accuracies(SLOW), target="val/accuracy>=0.9")
    ratio = comparison.time_ratio
    assert math.isnan(ratio.value)
    assert (ratio.low, ratio.high, ratio.censored) == (0.0, math.inf, None)
    assert ratio.reason == "not every run recorded the time of its training"
    assert states(comparison)["speedup"] == "undetermined"
    assert comparison.ratios["steps"].value == pytest.approx(20 / 80)
    assert "nan" not in str(comparison)


def test_two_runs_on_few_samples_cannot_resolve_a_target() -> None:
    """Two of the same kind, one a lucky evaluation earlier, are not "at least halved: met"."""
    climb = [0.60, 0.72, 0.75, 0.77, 0.78, 0.79, 0.80, 0.80, 0.81, 0.81]
    lucky = [0.76, 0.80, 0.80, 0.78, 0.79, 0.79, 0.80, 0.80, 0.81, 0.81]
    few = compare(accuracies(lucky, n=60), accuracies(climb, n=60), target="val/accuracy>=0.8")
    assert states(few)["speedup"] == "undetermined"
    assert any("The target cannot be resolved: " in note for note in few.notes)
    assert any("60 validation samples and one run an arm" in note for note in few.notes)
    turned = compare(accuracies(climb, n=60), accuracies(lucky, n=60), target="val/accuracy>=0.8")
    assert "no-speedup" not in codes(turned)
    many = compare(accuracies(QUICK), accuracies(SLOW), target="val/accuracy>=0.9")
    assert states(many)["speedup"] == "met"
    assert not any("cannot be resolved" in note for note in many.notes)


def slow_down(run: Recorded, factor: float) -> Recorded:
    for data in run.epochs:
        data["time"]["train_cumulative_s"] *= factor
    return run


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (1.1, "takes as long to val/accuracy>=0.9 as the second, or longer"),
        (3.0, "takes longer to val/accuracy>=0.9 than the second"),
    ],
)
def test_the_words_of_no_speedup_follow_its_numbers(factor: float, words: str) -> None:
    comparison = compare(
        slow_down(accuracies(SLOW), factor), accuracies(SLOW), target="val/accuracy>=0.9"
    )
    (finding,) = [item for item in comparison.findings if item.code == "no-speedup"]
    assert words in finding.message


def test_seeds_that_take_equally_long_take_about_as_long() -> None:
    fine = np.linspace(0.3, 0.95, 200).tolist()
    arms = [[accuracies(fine), accuracies(fine), accuracies(fine)] for _ in range(2)]
    comparison = compare(*arms, target="val/accuracy>=0.9")
    (finding,) = comparison.findings
    assert "takes about as long to val/accuracy>=0.9 as the second" in finding.message


def test_an_arm_that_never_got_there_is_told_so() -> None:
    comparison = compare(accuracies([0.6] * 10), accuracies(QUICK), target="val/accuracy>=0.9")
    (finding,) = [item for item in comparison.findings if item.code == "no-speedup"]
    assert finding.message.startswith("The first arm never reached val/accuracy>=0.9")
    assert "as long as" not in finding.message


def test_work_and_clock_that_disagree_are_told_with_each_number() -> None:
    first, second = accuracies(QUICK), accuracies(SLOW)
    first.header["step_flops"] = 1e9
    second.header["step_flops"] = 4e9
    comparison = compare(first, second, target="val/accuracy>=0.9")
    assert comparison.ratios["flops"].value == pytest.approx(comparison.ratios["steps"].value / 4)
    (finding,) = comparison.findings
    assert (finding.code, finding.severity) == ("time-samples-disagree", "warning")
    assert finding.message == ("The ratio is 0.25 in time but 0.0625 in floating point operations.")


def test_what_saw_other_validation_data_is_not_compared() -> None:
    first, second = accuracies(QUICK), accuracies(SLOW)
    first.header["val_fingerprint"] = "a"
    second.header["val_fingerprint"] = "b"
    comparison = compare(first, second, target="val/accuracy>=0.9")
    assert codes(comparison) == {"different-validation": "invalid"}
    assert set(states(comparison).values()) == {"undetermined"}


def test_a_run_too_short_for_a_default_target_is_refused_but_not_for_a_named_one() -> None:
    with pytest.raises(
        DataError,
        match=r"run: expected at least 2 evaluations, got 1\. Train .* hold=1, or name a target",
    ):
        compare(accuracies(QUICK[:1]), accuracies(SLOW))
    assert (
        compare(
            accuracies(QUICK[:1]), accuracies(SLOW), target="val/accuracy>=0.9"
        ).time_ratio.censored
        == "first"
    )


@pytest.mark.parametrize("hold", [0, -1, True, 1.5, "2"])
def test_hold_must_be_a_whole_number_from_one(hold: Any) -> None:
    with pytest.raises(ConfigError, match=r"hold: expected a whole number from 1, got .*\. Pass 1"):
        compare(accuracies(QUICK), accuracies(SLOW), hold=hold)


@pytest.mark.parametrize(
    ("side", "fact"), [([], "an empty sequence"), ([3], "int"), ([share(1, 2)], "dict")]
)
def test_a_side_that_is_no_run_is_refused(side: Any, fact: str) -> None:
    with pytest.raises(
        DataError, match=rf"first: expected a run, or a sequence of runs, got {fact}\. Pass"
    ):
        compare(side, accuracies(SLOW))


def test_a_comparison_prints_its_lines() -> None:
    text = str(compare(accuracies(QUICK), accuracies(SLOW), target="val/accuracy>=0.9"))
    assert "first over second: 0.25 [0.125, 0.286]" in text
    assert "in samples: 0.25 [0.125, 0.286]" in text
    assert "training time ratio 0.2500 [0.1250, 0.2857] n=2: <= 0.5 met" in text
    assert "at the end, first less second: 0.0300 [" in text


def test_an_axis_on_which_nothing_was_spent_has_no_ratio() -> None:
    first, second = accuracies(QUICK), accuracies(SLOW)
    for data in first.epochs:
        data["counts"]["train_samples_cumulative"] = 0
    assert set(compare(first, second, target="val/accuracy>=0.9").ratios) == {"steps", "wall"}


def test_runs_that_predict_numbers_are_compared_by_their_r2() -> None:
    runs = accuracies(QUICK), accuracies(SLOW)
    for run in runs:
        for data in run.epochs:
            data["scores"]["val/r2"] = data["scores"].pop("val/accuracy")
    assert compare(*runs).target.startswith("val/r2>=")


def test_a_score_that_never_had_a_value_is_not_named_as_one_to_choose() -> None:
    run = accuracies(QUICK)
    for data in run.epochs:
        data["scores"]["val/f1"] = {"value": float("nan")}
    with pytest.raises(DataError, match=r"recorded \(val/accuracy\), got 'val/f1'"):
        compare(run, accuracies(SLOW), metric="val/f1")


def test_arms_on_different_data_are_not_said_to_have_too_wide_an_interval() -> None:
    first, second = accuracies(QUICK), accuracies(SLOW)
    first.header["val_fingerprint"], second.header["val_fingerprint"] = "a", "b"
    comparison = compare(first, second)
    assert comparison.same_validation is False
    assert not any("too wide" in note for note in comparison.notes)
