"""Rules of one's own: plain functions, rules with codes, and rules that fail."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from judged_sources import GOOD, codes, losses, payload, score, states

import ptmetrics as pm
from ptmetrics.errors import ConfigError
from ptmetrics.verdict.finding import SEVERITIES
from ptmetrics.verdict.judge import CODES
from ptmetrics.verdict.rule import Page


def slow(evidence: pm.Evidence) -> Iterator[Any]:
    yield pm.Finding("slow", "fail", "It was slow.", {"value": 9}, "Use a GPU.")


@pm.rule(codes=("low-margin", "odd-margin"))
def margin(evidence: pm.Evidence) -> Iterator[Any]:
    """The mean margin is shown to be below 0.2.

    Train longer.
    """
    item = evidence.score("margin")
    if not item.bounded:
        yield evidence.not_checked("no margin was recorded")
        return
    criterion = evidence.criterion("margin", 0.2, code="low-margin")
    yield criterion
    if criterion.state == "failed":
        yield pm.Finding("low-margin", "fail", item.in_units(), criterion.facts())


def with_margin(value: float) -> dict[str, Any]:
    made = payload(GOOD)
    made["scores"]["margin"] = score(value, value - 0.05, value + 0.05, 2000)
    return made


RULES = [*pm.RULES, margin]


def test_a_plain_function_is_a_rule_that_is_always_asked() -> None:
    for options in ({}, {"select": ["weak-class"]}, {"ignore": ["weak-class"]}):
        verdict = pm.judge(payload(GOOD), rules=[*pm.RULES, slow], **options)
        assert (verdict.status, codes(verdict)) == ("not ready", {"slow"}), options


def test_findings_of_a_rule_are_ordered_by_severity() -> None:
    def every(evidence: pm.Evidence) -> list[Any]:
        return [pm.Finding(f"of-{name}", name, "m") for name in reversed(SEVERITIES)]

    found = pm.judge(payload(GOOD), rules=[every, *pm.RULES]).findings
    assert [finding.severity for finding in found] == list(SEVERITIES)


def test_findings_may_be_given_as_a_list_or_not_at_all() -> None:
    rules = [lambda evidence: list(slow(evidence)), lambda evidence: None]
    verdict = pm.judge(payload(GOOD), rules=[*pm.RULES, *rules])
    assert codes(verdict) == {"slow"}


@pytest.mark.parametrize(
    ("value", "state", "status"),
    [
        (0.3, "met", "ready"),
        (0.22, "undetermined", "undetermined"),
        (0.1, "failed", "not ready"),
    ],
)
def test_a_criterion_of_a_rule_counts_like_any_other(value: float, state: str, status: str) -> None:
    verdict = pm.judge(with_margin(value), rules=RULES)
    assert (states(verdict)["margin"], verdict.status) == (state, status)
    assert ("low-margin" in codes(verdict)) == (state == "failed")
    assert ("too-few-samples" in codes(verdict)) == (state == "undetermined")


def test_the_codes_of_a_rule_can_be_selected_and_ignored() -> None:
    made = with_margin(0.1)
    assert codes(pm.judge(made, rules=RULES, select=["low-margin"])) == {"low-margin"}
    ignored = pm.judge(made, rules=RULES, ignore=["low-margin"])
    assert (ignored.status, "margin" in states(ignored)) == ("ready", False)
    assert pm.judge(made, rules=RULES, ignore=margin.codes).status == "ready"
    with pytest.raises(ConfigError, match=r"ignore: .* got 'low-margin'\. The codes are accuracy-"):
        pm.judge(made, ignore=["low-margin"])


def test_a_rule_that_could_not_look_is_told_and_keeps_a_selection_open() -> None:
    verdict = pm.judge(payload(GOOD), rules=RULES, select=["low-margin"])
    assert verdict.status == "undetermined"
    assert "Not checked: low-margin (no margin was recorded)." in verdict.notes


def test_only_the_rules_that_are_named_are_asked() -> None:
    verdict = pm.judge(with_margin(0.1), rules=[margin])
    assert (states(verdict), codes(verdict)) == ({"margin": "failed"}, {"low-margin"})
    assert pm.judge(payload(GOOD), rules=[]).status == "undetermined"  # made out of nothing


@pytest.mark.parametrize(("needs", "asked"), [("classes", 1), ("numbers", 0), ("baseline", 0)])
def test_a_rule_is_not_asked_about_what_the_evidence_has_not(needs: Any, asked: int) -> None:
    seen = []
    mine = pm.rule(codes="mine", needs=needs)(seen.append)
    pm.judge(payload(GOOD), rules=[mine])
    assert len(seen) == asked
    pm.judge(payload(GOOD), rules=[mine], baseline=payload(GOOD))
    assert len(seen) == 2 * asked + (needs == "baseline")


def failing(evidence: pm.Evidence) -> Iterator[Any]:
    yield pm.Finding("seen-before", "info", "So far.")
    raise ZeroDivisionError("no\nsamples")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (failing, "The rule failing stopped with ZeroDivisionError: no samples (test_rule.py, "),
        (pm.rule(codes="mine")(failing), "The rule mine stopped with ZeroDivisionError"),
        (lambda evidence: 3, "TypeError: 'int' object is not iterable"),
        (lambda evidence: ["bad"], "TypeError: a rule gives pm.Finding, not str"),
        (lambda evidence: [pm.Finding("x", "error", "m")], "ConfigError: severity: expected one"),
    ],
)
def test_a_rule_that_fails_stops_nothing_and_is_never_ready(rule: Any, said: str) -> None:
    for options in ({}, {"select": ["low-accuracy"]}, {"ignore": ["low-accuracy"]}):
        if getattr(rule, "codes", None) and "select" in options:
            continue  # not asked then
        verdict = pm.judge(payload(GOOD), rules=[*pm.RULES, rule, slow], **options)
        (failed,) = (f for f in verdict.findings if f.code == "rule-failed")
        assert said in failed.message
        assert failed.severity == "undetermined"
        assert "slow" in codes(verdict)
        assert pm.judge(payload(GOOD), rules=[*pm.RULES, rule], **options).status == "undetermined"
    with pytest.raises(ConfigError, match="ignore: expected codes of findings, got 'rule-failed'"):
        pm.judge(payload(GOOD), ignore=["rule-failed"])


def test_what_a_rule_said_before_it_failed_is_kept() -> None:
    assert codes(pm.judge(payload(GOOD), rules=[*pm.RULES, failing])) == {
        "seen-before",
        "rule-failed",
    }


def test_ctrl_c_in_a_rule_is_not_a_failing_rule() -> None:
    def stopped(evidence: pm.Evidence) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pm.judge(payload(GOOD), rules=[stopped])


def test_a_rule_cannot_change_what_the_others_see() -> None:
    def tampers(evidence: pm.Evidence) -> None:
        assert evidence.confusion is not None
        evidence.confusion[:] = 0

    verdict = pm.judge(payload(GOOD), rules=[tampers, *pm.RULES])
    assert codes(verdict) == {"rule-failed"}
    assert "read-only" in verdict.findings[0].message


def test_evidence_holds_scores_curves_samples_and_thresholds() -> None:
    seen: list[pm.Evidence] = []
    pm.judge(losses([3.0, 2.0], [1.0, 0.5]), rules=[seen.append], profile="recall-first")
    (evidence,) = seen
    assert evidence.score("accuracy").value == pytest.approx(0.97)
    rows = evidence.curves.rows("val/loss", "train/loss")
    assert evidence.curves.values("val/loss", rows).tolist() == [3.0, 2.0]
    assert evidence.curves.at("val/loss", 0).high == pytest.approx(3.15)
    assert evidence.thresholds.recall == 0.90
    assert evidence.samples().reason == "no samples of it were kept"
    assert np.array_equal(evidence.confusion, GOOD)


@pytest.mark.parametrize("odd", ["", "Low Margin", "low_margin", 3, (), ["ok", "not ok"]])
def test_codes_are_in_kebab_case(odd: Any) -> None:
    with pytest.raises(ConfigError, match=r"codes: expected codes in kebab-case, got .*\. Write"):
        pm.rule(codes=odd if isinstance(odd, list | tuple | str) else [odd])


@pytest.mark.parametrize("odd", [3, "low-accuracy"])
def test_what_is_no_function_is_no_rule(odd: Any) -> None:
    message = rf"rules: expected functions of pm\.Evidence, got {type(odd).__name__}\. Pass rules="
    with pytest.raises(ConfigError, match=message):
        pm.judge(payload(GOOD), rules=[odd])


@pytest.mark.parametrize("alone", [slow, margin, 3])
def test_a_rule_that_stands_in_no_list_is_refused(alone: Any) -> None:
    message = rf"rules: expected functions of pm\.Evidence in a list, got {type(alone).__name__}\."
    with pytest.raises(ConfigError, match=rf"{message} Pass rules=\[\*pm\.RULES, mine\]"):
        pm.judge(payload(GOOD), rules=alone)


def test_a_severity_that_is_none_is_refused_with_the_nearest() -> None:
    rule = f"severity: expected one of {', '.join(SEVERITIES)}, got 'warn'"
    with pytest.raises(ConfigError, match=rf"{rule}\. Write for example 'warning'"):
        pm.Finding("x", "warn", "m")  # type: ignore[arg-type]  # wrong on purpose


# Pages


def test_a_rule_is_explained_by_its_docstring_or_its_page() -> None:
    page = pm.explain("low-margin", rules=RULES)
    assert page == "low-margin\n\nThe mean margin is shown to be below 0.2.\n\nTrain longer."
    told = pm.rule(codes=("a", "b"), page={"a": "Of a.", "b": "Of b."})(slow)
    assert pm.explain("b", rules=[told, slow]) == "b\n\nOf b."
    assert pm.explain("a", rules=[pm.rule(codes="a", page="Text.")(slow)]) == "a\n\nText."
    with pytest.raises(ConfigError, match=r"code: .*, got 'low-margn'\. Near: low-margin"):
        pm.explain("low-margn", rules=RULES)


def test_a_page_in_parts_is_laid_out_as_those_that_come_along() -> None:
    page = Page("warning", "It was slow.", "Use a GPU.", ("accuracy",))
    text = pm.explain("slow-run", rules=[pm.rule(codes="slow-run", page=page)(slow)])
    assert text.startswith("slow-run (warning)\n\nIt was slow.\n\nWhat to do: Use a GPU.\n\n")
    assert text.splitlines()[-1].split() == ["accuracy", "0.85", *["off"] * 4]


def test_a_rule_is_given_the_notes_of_a_script(tmp_path: Path) -> None:
    def lens(evidence: pm.Evidence) -> Iterator[Any]:
        for note in evidence.noted("lens"):
            yield pm.Finding("lens", "warning", note["message"], {"size": note["size"]})

    for run in (None, tmp_path / "run"):
        with pm.Monitor(pm.MulticlassMetrics(2), run=run, progress=False) as monitor:
            monitor.update(torch.eye(2), torch.tensor([0, 1]), split="val")
            monitor.record("note", {"code": "other", "message": "No."})
            monitor.record("note", {"code": "lens", "message": "Another lens.", "size": 35})
            monitor.end_epoch()
        for source in (monitor, monitor.history, run or monitor):
            (found,) = pm.judge(source, rules=[lens]).findings[:1]
            assert (found.message, found.evidence) == ("Another lens.", {"size": 35})


def test_the_rules_that_come_along_are_explained_by_their_pages_and_called_like_functions() -> None:
    assert pm.explain("low-recall", rules=pm.RULES) == pm.explain("low-recall")
    for code in CODES:
        assert pm.explain(code).startswith(f"{code} (")
    (found,) = pm.RULES[0](pm.Evidence(val={}))
    assert found.code == "not-validated"
