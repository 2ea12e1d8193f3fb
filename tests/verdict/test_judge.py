"""The verdict as a whole: gates, laws, profiles, codes, arguments."""

import json
import math
import pydoc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from judged_sources import GOOD, NAN, codes, payload, score, states

import ptmetrics as pm
from ptmetrics.errors import ConfigError, DataError
from ptmetrics.show.opinion import verdict_text
from ptmetrics.show.run_state import state_at
from ptmetrics.verdict.finding import (
    Verdict,
)
from ptmetrics.verdict.judge import CODES, RULES, judge
from ptmetrics.verdict.profile import Thresholds

PARADOX = [[9776, 24], [176, 24]]


def test_a_class_without_samples_is_invalid_whatever_the_rest_says() -> None:
    verdict = judge(payload([[970, 30, 0], [30, 970, 0], [0, 0, 0]]))
    assert verdict.status == "invalid"
    assert verdict.findings[0].code == "missing-class"


def test_a_matrix_without_any_sample_is_no_missing_class() -> None:
    empty = {"scores": {}, "confusion": [[0, 0], [0, 0]]}
    assert codes(judge(empty)) == {"not-validated"}


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


cells = st.integers(0, 60)


matrices = st.integers(2, 4).flatmap(
    lambda k: st.lists(st.lists(cells, min_size=k, max_size=k), min_size=k, max_size=k)
)


@settings(max_examples=60, deadline=None)
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


@given(matrices)
@settings(deadline=None, max_examples=60)
def test_status_and_criteria_agree_and_the_verdict_is_json(matrix: list[list[int]]) -> None:
    verdict = judge(payload(matrix))
    if verdict.status == "ready":
        assert all(criterion.state == "met" for criterion in verdict.criteria)
    assert json.loads(json.dumps(verdict.to_dict(), allow_nan=False))["status"] == verdict.status
    assert str(verdict).startswith(verdict.status)


# Profiles, codes, arguments


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


def test_the_samples_that_are_missing_can_be_ignored_but_stay_missing() -> None:
    matrix = [[42, 8], [6, 44]]
    (finding,) = judge(payload(matrix)).findings
    needed, n = finding.evidence["needed_n"], finding.evidence["n"]
    missing = [needed[name] - n[name] for name in needed]
    assert min(missing) < max(missing)
    assert finding.advice.startswith(f"About {max(missing):,} more rows would settle it")
    verdict = judge(payload(matrix), ignore=["too-few-samples"])
    assert (verdict.status, codes(verdict)) == ("undetermined", set())


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
    assert "recall of class '1' 0.1200 [0.0820, 0.1723] n=200: >= 0.8 failed" in text
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


def test_all_that_an_open_verdict_needs_is_told_with_its_unit() -> None:
    verdict = judge(payload([[4980, 1], [1, 14]]), positive=1)
    (finding,) = [item for item in verdict.findings if item.code == "too-few-samples"]
    rows = finding.evidence["more_rows"]
    assert len(rows) > 1
    most = max(rows.values())
    assert finding.advice.startswith(f"About {most:,} more rows")
    for name, count in rows.items():
        assert f"{name}: {count:,}" in finding.advice
    assert "of them of class '1'" in finding.advice
    assert "of them predicted as class '1'" in finding.advice


def test_scores_that_were_not_recorded_are_one_line_and_the_others_are_named(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log.csv"
    path.write_text("epoch,val_loss,val_wer\n0,2.0,0.5\n1,1.5,0.4\n2,1.2,0.3\n", "utf-8")
    verdict = judge(path)
    lines = [line for line in verdict_text(verdict).splitlines() if "? undetermined" in line]
    assert lines == [
        "  ? undetermined not recorded: accuracy, precision/macro, recall/macro, |precision - recall|"
    ]
    (finding,) = [item for item in verdict.findings if item.code == "not-measured"]
    assert "--target 'val/wer<=…'" in finding.advice
    path.write_text("epoch,val_loss,val_acc\n0,2.0,0.5\n1,1.5,0.6\n2,1.2,0.7\n", "utf-8")
    (finding,) = [item for item in judge(path).findings if item.code == "not-measured"]
    assert "say how many were validated" in finding.advice


def test_the_help_of_judge_is_its_own_words() -> None:
    told = pydoc.plain(pydoc.render_doc(pm.judge))
    signature = told.partition("\n\n")[2].partition(") ->")[0]  # in one line or, from 3.13, many
    assert len(signature) < 600
    assert "source: 'Source | Sequence[Source]'" in signature
    assert len(told) < 6000


def test_a_run_that_went_nan_is_judged_by_that_and_its_validation_data_are_the_same(
    tmp_path: Path,
) -> None:
    with pm.Monitor(pm.MulticlassMetrics(3), tmp_path / "run", progress=False) as monitor:
        for broken in (False, False, True):
            for split in ("train", "val"):
                preds = torch.eye(3).repeat(20, 1)
                if broken:
                    preds = preds * math.nan
                monitor.update(preds, torch.arange(60) % 3, split=split)
            monitor.end_epoch()
    found = {finding.code for finding in judge(tmp_path / "run").findings}
    assert {"not-validated", "non-finite"} <= found
    assert "validation-changed" not in found
    assert state_at(tmp_path / "run").best_epoch == 0
