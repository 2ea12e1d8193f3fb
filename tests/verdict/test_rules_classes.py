"""The verdict on confusion matrices: skill, paradox, accuracy, precision, recall, classes, slices."""

import math
from typing import Any

import numpy as np
import pytest
from judged_sources import GOOD, Recorded, codes, epoch, payload, score, share, states

import ptmetrics as pm
from ptmetrics.verdict.judge import judge
from ptmetrics.verdict.pages import PAGES

PARADOX = [[9776, 24], [176, 24]]


def test_the_payload_of_these_tests_is_what_the_metrics_give() -> None:
    torch = pytest.importorskip("torch")
    matrix = torch.tensor([[50, 3, 0], [4, 30, 1], [2, 2, 80]])
    rows, columns = (
        axis.reshape(-1) for axis in torch.meshgrid(*[torch.arange(3)] * 2, indexing="ij")
    )
    metrics = pm.MulticlassMetrics(num_classes=3, inputs="labels")
    metrics.update(
        columns.repeat_interleave(matrix.reshape(-1)), rows.repeat_interleave(matrix.reshape(-1))
    )
    real, made = metrics.compute().to_dict(), payload(matrix.numpy())
    assert real["confusion"] == made["confusion"]
    for name, mine in made["scores"].items():
        theirs = real["scores"][name]
        assert (theirs["value"], theirs["n"]) == (pytest.approx(mine["value"]), mine["n"])
        # The means over classes have a joint interval of their own; here the classes are taken as independent.
        tolerance = 1e-6 if name == "accuracy" else 0.03
        assert (theirs["low"], theirs["high"]) == pytest.approx(
            (mine["low"], mine["high"]), abs=tolerance
        )
    for name, column in made["per_class"].items():
        for key in ("value", "low", "high", "n"):
            assert real["per_class"][name][key] == pytest.approx(column[key], abs=1e-6)
    assert judge(metrics.compute()).to_dict()["status"] == judge(made).status


def test_accuracy_98_with_recall_12_is_a_paradox_without_skill() -> None:
    verdict = judge(payload(PARADOX), positive=1)
    assert verdict.status == "not ready"
    assert {"accuracy-paradox", "no-skill", "low-recall"} <= codes(verdict)
    no_skill = next(finding for finding in verdict.findings if finding.code == "no-skill")
    assert no_skill.evidence["mid_p"] == pytest.approx(0.5, abs=0.005)
    assert no_skill.evidence["baseline_accuracy"] == pytest.approx(0.98)
    recall = next(c for c in verdict.criteria if c.name.startswith("recall"))
    assert (recall.low, recall.high) == (
        pytest.approx(0.082, abs=1e-3),
        pytest.approx(0.172, abs=1e-3),
    )
    assert (recall.n, recall.state) == (200, "failed")


def test_the_paradox_shows_without_naming_the_positive_class() -> None:
    assert {"accuracy-paradox", "no-skill", "low-recall"} <= codes(judge(payload(PARADOX)))


def test_perfect_precision_does_not_hide_a_recall_of_12() -> None:
    verdict = judge(payload([[9780, 0], [193, 27]]), positive=1)
    assert verdict.status == "not ready"
    assert "low-recall" in codes(verdict)
    assert "no-skill" not in codes(verdict)


def test_the_missions_matrix_is_open_and_says_what_decides() -> None:
    verdict = judge(payload([[85, 15], [10, 90]]), positive=1)
    assert verdict.status == "undetermined"
    assert states(verdict)["recall of class '1'"] == "met"
    decisive = next(finding for finding in verdict.findings if finding.code == "too-few-samples")
    assert "accuracy" in decisive.message
    assert decisive.evidence["needed_n"]["accuracy"] == pytest.approx(1531, abs=2)


def test_the_first_class_can_be_the_positive_one() -> None:
    verdict = judge(payload([[40, 5], [5, 50]]), positive=0)
    precision = next(c for c in verdict.criteria if c.name == "precision of class '0'")
    assert (precision.value, precision.n) == (pytest.approx(40 / 45), 45)


def test_a_good_matrix_is_ready_with_every_criterion_met() -> None:
    verdict = judge(payload(GOOD), positive=1)
    assert verdict.status == "ready"
    assert set(states(verdict).values()) == {"met"}
    assert not verdict.findings


def test_the_majority_vote_is_never_ready() -> None:
    verdict = judge(payload([[900, 0], [100, 0]]))
    assert verdict.status == "not ready"
    assert {"no-skill", "accuracy-paradox", "collapsed"} <= codes(verdict)
    assert "weak-class" not in codes(verdict)  # the one finding says it
    assert {f.severity for f in verdict.findings if f.code == "no-skill"} == {"fail"}


@pytest.mark.parametrize("classes", [2, 8])
def test_predictions_of_one_class_are_told_once_and_by_name(classes: int) -> None:
    matrix = np.zeros((classes, classes), dtype=int)
    matrix[:, 1] = 40
    made = payload(matrix.tolist(), class_names=[f"c{k}" for k in range(classes)])
    (finding,) = (f for f in judge(made).findings if f.code == "collapsed")
    assert f"All {40 * classes} predictions are class 'c1'" in finding.message
    assert "weak-class" not in codes(judge(made))
    matrix[0, :2] = 1, 39  # one row is another class
    assert "collapsed" not in codes(judge(payload(matrix.tolist())))


def test_one_class_alone_is_no_collapse() -> None:
    assert "collapsed" not in codes(judge(payload([[0, 0], [0, 40]])))


@pytest.mark.parametrize(
    ("batch_norm", "trained", "wanted"),
    [
        (True, 990, ["model.eval()", "preprocessing of validation"]),
        (True, 500, ["model.eval()", "preprocessing of validation"]),
        (None, 990, ["model.eval()", "preprocessing of validation"]),
        (False, 990, ["preprocessing of validation"]),
        (False, 500, ["learning rate"]),
        (None, 500, ["learning rate"]),
    ],
)
def test_the_mode_is_suspected_where_there_is_batch_norm_or_nothing_else_explains_a_collapse(
    batch_norm: bool | None, trained: int, wanted: list[str]
) -> None:
    seen = {"val": {"batch_norm": batch_norm}}
    if batch_norm is None:
        seen = {"val": {}}
    scores = {"train/accuracy": share(trained, 1000)}
    data = epoch(0, scores, matrix=[[0, 500], [0, 500]], seen=seen)
    (finding,) = (f for f in judge(Recorded([data])).findings if f.code == "collapsed")
    words = ("model.eval()", "preprocessing of validation", "learning rate")
    assert [word for word in words if word in finding.advice] == wanted
    assert ("In training the accuracy is 99.0 %" in finding.message) == (trained == 990)
    assert ("holds BatchNorm" in finding.message) == (batch_norm is True)


def test_the_samples_of_a_rare_class_are_counted_in_rows_of_today() -> None:
    verdict = judge(payload([[4985, 5], [0, 10]]), positive=1, profile="recall-first")
    (finding,) = (f for f in verdict.findings if f.severity == "undetermined")
    recall, precision = "recall of class '1'", "precision of class '1'"
    needed, rows = finding.evidence["needed_n"], finding.evidence["more_rows"]
    assert rows[recall] == 500 * (needed[recall] - 10)  # one row in 500 is a positive
    assert rows[precision] == -(-5000 * (needed[precision] - 15) // 15)
    more = needed[precision] - 15
    assert f"{rows[precision]:,} more rows, {more} of them predicted as class '1'" in finding.advice


@pytest.mark.parametrize("never", ["precision", "recall"])
def test_where_one_of_them_is_over_nothing_their_gap_is_not_known(never: str) -> None:
    matrix = [[90, 0], [10, 0]] if never == "precision" else [[90, 10], [0, 0]]
    verdict = pm.judge_confusion(matrix, positive=1)
    criteria = {criterion.name: criterion for criterion in verdict.criteria}
    gap = criteria["|precision - recall|"]
    assert gap.state == "undetermined"
    assert math.isnan(gap.value)
    assert "threshold" not in gap.reason


NEVER = "is never predicted, so that more rows do not settle its precision"


def test_a_class_that_is_never_predicted_is_told_so_and_asks_for_no_rows() -> None:
    matrix = [[200, 0, 0], [0, 150, 0], [5, 0, 0]]
    (finding,) = (f for f in pm.judge_confusion(matrix).findings if f.severity == "undetermined")
    assert finding.advice.startswith(f"Class '2' {NEVER}")
    assert list(finding.evidence["more_rows"]) == ["recall/macro"]
    (healthy,) = (
        f
        for f in pm.judge_confusion([[200, 0, 0], [0, 150, 0], [4, 0, 1]]).findings
        if f.severity == "undetermined"
    )
    assert "never predicted" not in healthy.advice
    assert "precision/macro" in healthy.evidence["more_rows"]


def test_a_positive_class_that_is_never_predicted_is_not_taken_for_a_log_without_n() -> None:
    findings = pm.judge_confusion([[95, 0], [5, 0]], positive=1).findings
    advice = {f.code: f.advice for f in findings if f.severity == "undetermined"}
    assert set(advice) == {"not-measured"}
    for text in advice.values():
        assert text.startswith(f"Class '1' {NEVER}")
        assert "advise_threshold" in text


@pytest.mark.parametrize("code", ["low-precision", "low-recall", "precision-recall-gap"])
def test_advice_to_move_the_threshold_names_what_finds_one(code: str) -> None:
    assert "pm.advise_threshold(" in PAGES[code].advice


def test_a_paradox_without_imbalance_is_none() -> None:
    made = payload([[920, 80], [50, 950]])
    low_mcc = made["scores"] | {"mcc": score(0.1, 0.0, 0.2, 2000)}
    assert "accuracy-paradox" not in codes(judge(made | {"scores": low_mcc}))


@pytest.mark.parametrize(("axes", "what"), [(0, "rows"), (1, "tokens"), (2, "pixels")])
def test_a_paradox_names_what_was_counted(axes: int, what: str) -> None:
    made = payload(PARADOX) | {"sample_axes": axes}
    (finding,) = [f for f in judge(made).findings if f.code == "accuracy-paradox"]
    assert f"classes of 9,800 to 200 {what}: " in finding.message


def test_one_class_that_cannot_be_judged_is_told_in_the_singular() -> None:
    matrix = np.diag([500, 500, 5])
    matrix[2, 0] = 3
    verdict = judge(payload(matrix.tolist()), select=["too-few-samples", "weak-class"])
    (finding,) = verdict.findings
    assert finding.message.startswith("1 class with under 30 samples cannot be judged: ")


def test_a_rare_class_that_is_found_is_no_paradox() -> None:
    assert "accuracy-paradox" not in codes(judge(payload([[9700, 100], [10, 190]])))


def test_a_low_mcc_unmasks_what_accuracy_hides() -> None:
    made = payload([[930, 20], [25, 25]])
    assert "accuracy-paradox" in codes(
        judge(made | {"scores": made["scores"] | {"mcc": score(0.1, 0.0, 0.2, 1000)}})
    )


@pytest.mark.parametrize(
    ("right", "grades"),
    [(600, ["bad"]), (690, ["mediocre"]), (780, ["mediocre"]), (840, []), (900, [])],
)
def test_accuracy_is_bad_below_70_and_mediocre_up_to_85(right: int, grades: list[str]) -> None:
    half = right // 2
    verdict = judge(payload([[half, 500 - half], [500 - half, half]]))
    found = [finding for finding in verdict.findings if finding.code == "low-accuracy"]
    assert [finding.evidence["grade"] for finding in found] == grades
    for finding in found:
        assert finding.severity == "fail"
        assert {"value", "low", "high", "n", "threshold"} <= finding.evidence.keys()


def test_precision_and_recall_far_apart_fail_and_the_lower_is_named() -> None:
    verdict = judge(payload([[999, 1], [400, 600]]), positive=1)
    gap = next(finding for finding in verdict.findings if finding.code == "precision-recall-gap")
    assert gap.evidence["grade"] == "far apart"
    assert "precision is higher" in gap.message
    assert "towards recall" in gap.advice


def test_a_recall_far_above_precision_fails_as_well() -> None:
    verdict = judge(payload([[600, 400], [1, 999]]), positive=1)
    (gap,) = (finding for finding in verdict.findings if finding.code == "precision-recall-gap")
    assert "recall is higher by 28.5 points [26.1, 30.9]" in gap.message
    assert "towards precision" in gap.advice
    assert gap.evidence["signed"] == pytest.approx(-0.285, abs=1e-3)


def test_a_gap_between_10_and_30_points_is_apart() -> None:
    verdict = judge(payload([[9950, 50], [1800, 8200]]), positive=1)
    gap = next(finding for finding in verdict.findings if finding.code == "precision-recall-gap")
    assert (gap.evidence["grade"], verdict.status) == ("apart", "not ready")
    assert set(states(verdict).values()) == {"met", "failed"}


def test_the_interval_of_the_gap_covers_its_truth() -> None:
    # True precision 0.9 and recall 0.75 of the positive class at 40 % prevalence; then the mean over classes.
    rng, cells = (
        np.random.default_rng(7),
        np.array([[0.6 - 0.4 * 0.75 / 9, 0.4 * 0.75 / 9], [0.1, 0.3]]),
    )
    recalls, precisions = np.diag(cells) / cells.sum(1), np.diag(cells) / cells.sum(0)
    truth = {1: precisions[1] - recalls[1], None: precisions.mean() - recalls.mean()}
    for positive, gap in truth.items():
        covered = 0
        for draw in rng.multinomial(400, cells.reshape(-1), size=400):
            verdict = judge(
                payload(draw.reshape(2, 2)), positive=positive, select=["precision-recall-gap"]
            )
            (criterion,) = verdict.criteria
            covered += criterion.low <= abs(gap) <= criterion.high
        assert covered / 400 >= 0.93


def test_empty_cells_do_not_make_the_gap_certain() -> None:
    for positive in (None, 1):
        verdict = judge(payload(np.diag([30, 10])), positive=positive)
        (gap,) = (criterion for criterion in verdict.criteria if "|" in criterion.name)
        assert (gap.value, gap.high > 0.01) == (0.0, True)


def test_without_a_matrix_the_gap_takes_both_as_independent() -> None:
    made = payload([[850, 150], [100, 900]])
    bare = judge(made | {"confusion": None}, positive=1)
    full = judge(made, positive=1)
    wide, tight = (next(c for c in v.criteria if "|" in c.name) for v in (bare, full))
    assert wide.value == tight.value
    assert wide.high > tight.high
    assert any("no confusion matrix" in note for note in bare.notes)


def test_a_class_that_is_not_learned_is_named() -> None:
    made = payload([[300, 0, 0], [0, 300, 0], [10, 30, 10]], class_names=["cat", "dog", "emu"])
    weak = next(finding for finding in judge(made).findings if finding.code == "weak-class")
    assert "'emu'" in weak.message
    assert (weak.severity, weak.evidence["n"]) == ("fail", 50)


def test_weak_classes_are_found_without_a_matrix() -> None:
    made = payload([[300, 0, 0], [0, 300, 0], [10, 30, 10]]) | {"confusion": None}
    weak = next(finding for finding in judge(made).findings if finding.code == "weak-class")
    assert weak.evidence["class"] == 2


def test_many_classes_at_the_limit_are_rarely_called_weak() -> None:
    rng, alarms = np.random.default_rng(3), 0
    for _ in range(200):
        hits = rng.binomial(50, 0.5, size=40)
        matrix = np.diag(hits)
        matrix[np.arange(40), (np.arange(40) + 1) % 40] += 50 - hits
        alarms += "weak-class" in codes(judge(payload(matrix), select=["weak-class"]))
    assert alarms / 200 <= 0.05


def test_a_thin_class_warns_and_does_not_sink_the_verdict() -> None:
    matrix = np.diag([2000, 2000, 8])
    matrix[2, 0] = 2
    verdict = judge(payload(matrix), select=["weak-class", "too-few-samples"])
    (finding,) = verdict.findings
    assert (finding.code, finding.severity) == ("too-few-samples", "warning")
    assert finding.evidence["classes"] == [2]


def test_the_majority_class_is_taken_from_training_where_known() -> None:
    counts = [[80, 20], [30, 170]]
    blind, informed = epoch(0, {}, matrix=counts), epoch(0, {}, matrix=counts)
    informed["confusion"]["train"] = [[900, 0], [0, 100]]
    verdicts = [judge(Recorded([data])) for data in (informed, blind)]
    gains = [
        next(c for c in verdict.criteria if c.code == "no-skill").value for verdict in verdicts
    ]
    assert gains == [pytest.approx(250 / 300 - 100 / 300), pytest.approx(250 / 300 - 200 / 300)]


def test_a_small_gain_on_few_samples_is_open_and_says_how_many_would_do() -> None:
    verdict = judge(payload([[11, 1], [5, 3]]), select=["no-skill", "too-few-samples"])
    (criterion,) = verdict.criteria
    assert (criterion.state, verdict.status) == ("undetermined", "undetermined")
    assert criterion.needed_n is not None
    assert criterion.needed_n > 20
    assert {f.severity for f in verdict.findings if f.code == "no-skill"} == {"undetermined"}


def test_the_size_of_the_test_against_the_majority_is_five_percent() -> None:
    # A model that ties with the majority: as many wins as losses expected.
    rng = np.random.default_rng(11)
    draws = rng.multinomial(2000, [0.88, 0.02, 0.08, 0.02], size=1000)
    met = sum(
        states(judge(payload(draw.reshape(2, 2)), select=["no-skill"]))[
            "accuracy above majority class"
        ]
        == "met"
        for draw in draws
    )
    assert met / 1000 <= 0.065


# Slices


def sliced(
    hits: list[int], n: list[int], name: str = "accuracy", filled: int | None = None
) -> dict[str, Any]:
    """The evaluation of a good matrix with these slices in its record."""
    value = [h / k if k else float("nan") for h, k in zip(hits, n, strict=True)]
    column = {
        "value": value,
        "low": [0.0] * len(n),
        "high": [1.0] * len(n),
        "n": n,
        "method": "wilson",
    }
    names = [f"camera {i}" for i in range(len(n))]
    slices = {
        "by": name,
        "names": names,
        "filled": filled or len(n),
        "scores": {name: column},
    }
    return payload(GOOD) | {"per_slice": slices}


def weak(source: dict[str, Any], **options: Any) -> list[str]:
    found = [f for f in judge(source, **options).findings if f.code == "weak-slice"]
    return [f.evidence["slice"] for f in found]


def test_a_weak_slice_sinks_the_verdict_of_a_good_whole() -> None:
    verdict = judge(sliced([30, 95, 96], [60, 100, 100]), positive=1)
    assert verdict.status == "not ready"
    (finding,) = verdict.findings
    assert (finding.code, finding.severity) == ("weak-slice", "fail")
    assert finding.message.startswith("Slice 'camera 0' is weak: its accuracy is 50.0 % [")
    assert finding.message.endswith("of 60 samples, wanted at least 70.0 %.")
    assert finding.evidence["p"] < 0.05 / 3
    assert (finding.evidence["threshold"], finding.evidence["n"]) == (0.7, 60)
    assert finding.advice


def test_few_samples_show_nothing() -> None:
    assert weak(sliced([1, 95, 0], [3, 100, 0])) == []


def test_the_test_is_corrected_for_all_slices_also_those_that_were_not_recorded() -> None:
    source = sliced([58, 95], [100, 100])  # p = 0.0072
    assert weak(source) == ["camera 0"]
    assert weak(sliced([58, 95], [100, 100], filled=40)) == []


def test_a_profile_without_accuracy_judges_the_recall_of_the_positive_class() -> None:
    assert weak(sliced([20], [60], name="recall"), profile="recall-first", positive=1) == [
        "camera 0"
    ]
    assert weak(sliced([20], [60], name="recall"), profile="precision-first", positive=1) == []
    assert weak(sliced([20], [60]), profile="recall-first") == ["camera 0"]


def test_slices_without_such_a_score_are_skipped_and_none_at_all_is_no_word() -> None:
    verdict = judge(sliced([5], [60], name="mae"))
    assert any("no accuracy of each slice" in note for note in verdict.notes)
    assert "weak-slice" not in codes(judge(payload(GOOD)))
    assert not any("slice" in note for note in judge(payload(GOOD)).notes)


def test_slices_to_which_no_row_came_are_said_not_to_be_checked() -> None:
    notes = judge(sliced([0, 0], [0, 0])).notes
    assert "Not checked: weak-slice (no row came with its slice)." in notes


def test_advice_on_a_threshold_asks_for_what_the_profile_asks() -> None:
    verdict = pm.judge_confusion([[900, 20], [40, 40]], positive=1, profile="recall-first")
    [finding] = [each for each in verdict.findings if each.code == "low-recall"]
    assert "pm.advise_threshold(run, recall_at_least=0.9)" in finding.advice
    many = pm.judge_confusion([[40, 30, 30], [30, 40, 30], [30, 30, 40]])
    told = {each.code: each.advice for each in many.findings}
    assert "threshold" not in told["low-recall"] + told["low-precision"], "of classes there is none"


def test_no_skill_by_balanced_accuracy_tells_no_sign_and_no_reason_to_wait() -> None:
    verdict = pm.judge_confusion([[900, 0], [100, 0]], positive=1, profile="recall-first")
    [finding] = [each for each in verdict.findings if each.code == "no-skill"]
    assert "balanced accuracy 0.5" in finding.message
    [criterion] = [each for each in verdict.criteria if each.code == "no-skill"]
    assert (criterion.state, criterion.reason, criterion.needed_n) == ("failed", None, None)


def test_what_an_open_criterion_lacks_is_said_by_its_side() -> None:
    verdict = pm.judge_confusion([[40, 10], [8, 42]])
    [finding] = [each for each in verdict.findings if each.code == "too-few-samples"]
    assert "0.03 below 0.85" in finding.message
    assert "0.02 above 0.8" in finding.message
