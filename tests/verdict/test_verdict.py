"""The verdict on lone evaluations: the matrices of the methods, the gates, and the laws of three values."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from judged_sources import GOOD, NAN, Recorded, codes, epoch, payload, score, share, states

import ptmetrics as pm
from ptmetrics.errors import ConfigError, DataError
from ptmetrics.verdict.finding import (
    Criterion,
    Estimate,
    Finding,
    Verdict,
    decide,
    needed_samples,
    worst,
)
from ptmetrics.verdict.judge import judge
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.judge import CODES, RULES

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


# The matrices of the methods


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
    assert decisive.evidence["needed_n"]["accuracy"] == pytest.approx(784, abs=2)


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
    assert {"no-skill", "accuracy-paradox", "weak-class"} <= codes(verdict)


def test_a_paradox_without_imbalance_is_none() -> None:
    made = payload([[920, 80], [50, 950]])
    low_mcc = made["scores"] | {"mcc": score(0.1, 0.0, 0.2, 2000)}
    assert "accuracy-paradox" not in codes(judge(made | {"scores": low_mcc}))


def test_a_rare_class_that_is_found_is_no_paradox() -> None:
    assert "accuracy-paradox" not in codes(judge(payload([[9700, 100], [10, 190]])))


def test_a_low_mcc_unmasks_what_accuracy_hides() -> None:
    made = payload([[930, 20], [25, 25]])
    assert "accuracy-paradox" in codes(
        judge(made | {"scores": made["scores"] | {"mcc": score(0.1, 0.0, 0.2, 1000)}})
    )


# Accuracy, precision, recall


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


# Gates


def test_a_class_without_samples_is_invalid_whatever_the_rest_says() -> None:
    verdict = judge(payload([[970, 30, 0], [30, 970, 0], [0, 0, 0]]))
    assert verdict.status == "invalid"
    assert verdict.findings[0].code == "missing-class"


def test_nan_predictions_are_invalid_and_other_faults_leave_it_open() -> None:
    fault = {
        "count": 3,
        "first_step": 2,
        "message": "3 rows hold a NaN prediction; first in update 2",
    }
    nan = judge(payload(GOOD, faults={"nan-score": fault}))
    assert (nan.status, codes(nan)) == ("invalid", {"non-finite", "metric-faults"})
    other = judge(payload(GOOD, faults={"target-out-of-range": fault}))
    assert (other.status, codes(other)) == ("undetermined", {"metric-faults"})


def test_a_loss_that_is_not_finite_is_invalid_and_an_undefined_score_is_not() -> None:
    made = payload(GOOD)
    lost = made["scores"] | {"loss": score(math.inf, n=2000)}
    assert judge(made | {"scores": lost}).status == "invalid"
    undefined = made["scores"] | {"auroc": score(NAN, n=2000, reason="one class only")}
    assert judge(made | {"scores": undefined}).status == "ready"


def test_a_score_that_is_nan_leaves_its_criterion_open_with_the_reason() -> None:
    made = payload(GOOD)
    made["scores"]["recall/macro"] = score(NAN, reason="class 1 has no samples")
    verdict = judge(made)
    recall = next(c for c in verdict.criteria if c.name == "recall/macro")
    assert (recall.state, recall.reason, recall.needed_n) == (
        "undetermined",
        "class 1 has no samples",
        None,
    )
    assert verdict.status == "undetermined"


def test_a_value_without_an_interval_is_never_enough() -> None:
    verdict = judge({"scores": {"accuracy": {"value": 0.99}}})
    assert verdict.status == "undetermined"
    accuracy = next(c for c in verdict.criteria if c.name == "accuracy")
    assert "no interval" in (accuracy.reason or "")


def test_nothing_measured_is_invalid() -> None:
    verdict = judge({"scores": {}})
    assert verdict.status == "invalid"
    assert verdict.findings[0].code == "not-validated"


FINDING = {
    severity: Finding("c", severity, "m", {}, "a")
    for severity in ("invalid", "fail", "undetermined", "warning", "info")
}
CRITERION = {
    state: Criterion("c", 0.5, 0.4, 0.6, 10, 0.5, ">=", state)
    for state in ("met", "failed", "undetermined")
}
ORDER = ["ready", "undetermined", "not ready", "invalid"]


@given(
    st.lists(st.sampled_from(sorted(FINDING)), max_size=6),
    st.lists(st.sampled_from(sorted(CRITERION)), max_size=6),
    st.data(),
)
def test_one_more_finding_never_betters_the_verdict(
    severities: list[str], states: list[str], data: st.DataObject
) -> None:
    findings, criteria = [FINDING[s] for s in severities], [CRITERION[s] for s in states]
    before = worst(findings, criteria)
    after = worst([*findings, FINDING[data.draw(st.sampled_from(sorted(FINDING)))]], criteria)
    assert ORDER.index(after) >= ORDER.index(before)
    if criteria:
        after = worst(
            findings, [*criteria, CRITERION[data.draw(st.sampled_from(sorted(CRITERION)))]]
        )
        assert ORDER.index(after) >= ORDER.index(before)


def test_nothing_at_all_is_undetermined() -> None:
    assert worst([], []) == "undetermined"


# Three values


cells = st.integers(0, 60)
matrices = st.integers(2, 4).flatmap(
    lambda k: st.lists(st.lists(cells, min_size=k, max_size=k), min_size=k, max_size=k)
)


@settings(max_examples=150, deadline=None)
@given(matrices, st.integers(2, 30), st.booleans())
def test_more_data_in_the_same_proportions_never_turns_met_into_failed(
    matrix: list[list[int]], times: int, one_class: bool
) -> None:
    counts = np.array(matrix)
    assume((counts.sum(0) > 0).all() and (counts.sum(1) > 0).all())
    positive = 1 if one_class else None
    few, many = (
        judge(payload(counts), positive=positive),
        judge(payload(counts * times), positive=positive),
    )
    changed = zip(few.criteria, many.criteria, strict=True)
    assert not [
        (a.name, a.state, b.state) for a, b in changed if {a.state, b.state} == {"met", "failed"}
    ]


@given(st.integers(0, 500), st.integers(1, 500), st.floats(0.05, 0.95))
def test_the_samples_asked_for_settle_it_and_few_less_do_not(
    hits: int, misses: int, threshold: float
) -> None:
    def state_of(n: float) -> str:
        value = hits / (hits + misses)
        made = share(value * n, n)
        return decide(
            "x", Estimate(made["value"], made["low"], made["high"], n, "wilson"), threshold
        ).state

    n = hits + misses
    made = share(hits, n)
    estimate = Estimate(made["value"], made["low"], made["high"], n, "wilson")
    needed = decide("x", estimate, threshold).needed_n
    if needed is not None and needed > n + 1:
        assert state_of(needed + 1) != "undetermined"
        assert state_of(needed - 2) == "undetermined"


def test_no_number_of_samples_settles_a_value_on_its_threshold() -> None:
    assert needed_samples(Estimate(0.85, 0.8, 0.9, 200, "wilson"), 0.85) is None


def test_the_bounds_decide_and_touching_from_the_good_side_is_met() -> None:
    estimate = Estimate(0.9, 0.85, 0.95, 100, "wilson")
    assert [decide("x", estimate, t).state for t in (0.85, 0.9, 0.95, 0.951)] == [
        "met",
        "undetermined",
        "undetermined",
        "failed",
    ]
    assert [decide("x", estimate, t, rule="<=").state for t in (0.95, 0.9, 0.849)] == [
        "met",
        "undetermined",
        "failed",
    ]


@given(matrices)
@settings(deadline=None)
def test_status_and_criteria_agree_and_the_verdict_is_json(matrix: list[list[int]]) -> None:
    verdict = judge(payload(matrix))
    if verdict.status == "ready":
        assert all(criterion.state == "met" for criterion in verdict.criteria)
    assert json.loads(json.dumps(verdict.to_dict(), allow_nan=False))["status"] == verdict.status
    assert str(verdict).startswith(verdict.status)


# Baseline


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


# Profiles, select, ignore, sources


def test_recall_first_takes_what_balanced_refuses() -> None:
    matrix = [[9300, 100], [6, 194]]
    assert judge(payload(matrix), positive=1).status == "not ready"
    assert judge(payload(matrix), positive=1, profile="recall-first").status == "ready"
    assert judge(payload(matrix), positive=1, profile="precision-first").status == "not ready"


def test_recall_first_has_no_skill_for_the_majority_vote() -> None:
    verdict = judge(payload([[9800, 0], [200, 0]]), positive=1, profile="recall-first")
    assert {"no-skill", "low-recall"} <= codes(verdict)


def test_a_binary_task_counts_its_second_class() -> None:
    assert "recall of class '1'" in states(judge(payload(GOOD, task="binary")))


def test_select_and_ignore_work_by_code() -> None:
    assert codes(judge(payload(PARADOX), select=["low-recall"])) == {"low-recall"}
    rest = judge(payload(PARADOX), ignore=["low-recall", "accuracy-paradox"])
    assert not {"low-recall", "accuracy-paradox"} & codes(rest)
    assert "recall/macro" not in states(rest)
    assert codes(judge(payload(PARADOX), select="no-skill")) == {"no-skill"}


def test_selected_alarms_that_stay_silent_are_ready_unless_they_could_not_run() -> None:
    assert judge(payload(GOOD), select=["weak-class"]).status == "ready"
    assert judge(payload(GOOD), select=["overfitting"]).status == "undetermined"


@pytest.mark.parametrize("argument", ["select", "ignore"])
def test_an_unknown_code_is_refused_with_the_known_ones(argument: str) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"{argument}: expected codes of findings, got 'low-acuracy'\. The codes.*low-acc",
    ):
        judge(payload(GOOD), **{argument: ["low-acuracy"]})


def test_ignoring_everything_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="select: expected at least one code that is not ignored, got none"
    ):
        judge(payload(GOOD), ignore=CODES)


def test_every_code_is_kebab_case_and_every_rule_is_registered_once() -> None:
    assert all(code == code.lower() and " " not in code for code in CODES)
    assert len({rule.check for rule in RULES}) == len(RULES)
    promised = {
        "accuracy-paradox", "no-skill", "low-accuracy", "low-recall", "low-precision", "precision-recall-gap",
        "weak-class", "too-few-samples", "overfitting", "val-loss-rising", "over-confident", "underfitting",
        "undertrained", "diverged", "non-finite", "not-validated", "weak-slice",
    }  # fmt: skip
    assert promised <= set(CODES)


@pytest.mark.parametrize(
    ("counts", "rule", "fact"),
    [
        ([[1, 2, 3], [4, 5, 6]], "a square matrix", r"shape \(2, 3\)"),
        ([[1, -2], [3, 4]], "whole counts >= 0", "-2 in row 0, column 1"),
        ([[1, 2], [3, 4.5]], "whole counts >= 0", "4.5 in row 1, column 1"),
        ([[1, 2], [3, NAN]], "whole counts >= 0", "nan in row 1, column 1"),
        ([[1, 2], [3]], "rows of equal length", "ragged rows"),
        ([["a", "b"], ["c", "d"]], "rows of equal length, all numbers", "text"),
    ],
)
def test_a_matrix_that_cannot_be_one_is_refused(counts: Any, rule: str, fact: str) -> None:
    with pytest.raises(
        DataError, match=rf"confusion: expected {rule}.*got .*{fact}.*\. Pass counts with one row"
    ):
        judge({"scores": {}, "confusion": counts})


@pytest.mark.parametrize("positive", [2, -1, True, "1", 1.0])
def test_a_positive_class_that_is_none_is_refused(positive: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"positive: expected a class index from 0 to 1, got .*\. Pass the row"
    ):
        judge(payload(GOOD), positive=positive)


@pytest.mark.parametrize("source", [{}, {"accuracy": 0.9}])
def test_a_mapping_without_scores_is_refused(source: dict[str, Any]) -> None:
    with pytest.raises(
        DataError, match=r"source: expected a mapping with 'scores', got the keys .*\. Pass"
    ):
        judge(source)


def test_something_else_is_refused_by_its_type() -> None:
    with pytest.raises(
        DataError,
        match=r"source: expected a run or the scores of one evaluation, got int\. Pass a run folder",
    ):
        judge(3)  # type: ignore[call-overload]  # wrong on purpose


def test_the_arguments_are_left_alone() -> None:
    made = payload(GOOD)
    before = json.dumps(made)
    judge(made, positive=1)
    assert json.dumps(made) == before


def test_a_verdict_prints_its_lines() -> None:
    text = str(judge(payload(PARADOX), positive=1))
    assert text.splitlines()[0] == "not ready (profile balanced)"
    assert "recall of class '1' 0.12 [0.08198, 0.1723] n=200: >= 0.8 failed" in text
    assert (
        "fail: low-recall: Recall of class '1' is too low: 12.0 % [8.2 %, 17.2 %] of 200 samples"
        in text
    )
    assert isinstance(judge(payload(GOOD)), Verdict)


def test_bare_thresholds_are_a_profile() -> None:
    verdict = judge(
        payload([[85, 15], [10, 90]]), profile=Thresholds(accuracy=0.8, precision=0.7, balance=0.2)
    )
    assert (verdict.status, verdict.profile) == ("ready", "custom")
