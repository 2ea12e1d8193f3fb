"""Every code has a case that is measured, and an entry in docs/rules.md as it is today."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import ptmetrics
from ptmetrics.verdict.finding import Finding
from ptmetrics.verdict.judge import CODES
from ptmetrics.verdict.pages import known_pages
from ptmetrics.verdict.profile import Thresholds
from tests.studies import cases_compare, rules
from tests.studies.rule_case import Case, Setting, rate

pytestmark = pytest.mark.slow

PAGES: Any = known_pages()
PACKAGE = Path(ptmetrics.__file__).parent
PAGE = PACKAGE.parent / "docs" / "rules.md"
each_case = pytest.mark.parametrize("case", rules.CASES, ids=lambda case: case.code)


def test_every_code_has_one_case() -> None:
    named = [case.code for case in rules.CASES]
    assert len(named) == len(set(named))
    assert set(named) == set(PAGES) - {"rule-failed"}  # no rule of ours fails


@each_case
def test_the_page_has_the_entry_that_would_be_written_today(case: Case) -> None:
    assert "\n".join(rules.entry(case)) in PAGE.read_text(encoding="utf-8")


@each_case
def test_the_page_has_a_measured_rate_of_every_setting(case: Case) -> None:
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {case.code}\n")[1].split("\n## ")[0]
    for kind, settings in (("false alarms", case.healthy), ("power", case.planted)):
        for setting in settings:
            line = (
                rf"\| {kind} \| {re.escape(setting.words)} \| [\d.]+ \[[\d.]+, [\d.]+\] \| (\d+) \|"
            )
            found = re.search(line, section)
            assert found, setting.words
            assert int(found[1]) >= rules.RUNS


@each_case
def test_every_case_has_thresholds_that_exist_and_both_kinds_of_setting(case: Case) -> None:
    assert set(PAGES[case.code].thresholds) <= {item.name for item in fields(Thresholds)}
    assert case.healthy
    assert case.planted


@pytest.mark.slow
def test_a_quick_run_measures_everything_and_prints_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rules.main(["--runs", "2", "--json"])
    rows = json.loads(capsys.readouterr().out)["rates"]
    settings = sum(len(case.healthy) + len(case.planted) for case in rules.CASES)
    assert len(rows) == settings + 2 * len(cases_compare.TRUTHS)
    assert {row["code"] for row in rows} >= set(CODES)


def test_a_rate_on_the_wrong_side_of_its_bar_is_marked_and_exits_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = next(case for case in rules.CASES if case.code == "damaged-record")
    loud = Setting("a damaged line", case.planted[0].make, 0.05)
    assert not rate(case, loud, 3, planted=False).passed
    monkeypatch.setattr(rules, "CASES", (Case("damaged-record", (loud,), case.planted),))
    assert rules.main(["--runs", "3"]) == 1
    assert capsys.readouterr().out.count("MISSED") == 1


@each_case
def test_the_page_of_a_finding_is_an_anchor_in_the_docs(case: Case) -> None:
    page, _, anchor = Finding(case.code, "fail", "m", {}, "a").to_dict()["page"].partition("#")
    assert (PACKAGE.parent / page).samefile(PAGE)
    assert f"\n## {anchor}\n" in PAGE.read_text(encoding="utf-8")


def test_the_page_says_on_what_and_how_often_it_was_measured() -> None:
    line = next(
        line
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("Measured with")
    )
    wanted = r"Measured with ptmetrics \S+, Python \S+, torch \S+, NumPy \S+, \d+ cores of .+, \d+ threads?; \d+ runs"
    assert re.match(wanted, line)


def test_only_some_codes_can_be_measured_but_not_put_on_the_page(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rules.main(["--runs", "2", "--json", "--codes", "damaged-record"])
    shown = json.loads(capsys.readouterr().out)
    assert {row["code"] for row in shown["rates"]} == {
        "damaged-record",
        "time ratio",
        "at least halved",
    }
    assert shown["measured_with"] == rules.stamp()
    with pytest.raises(SystemExit):
        rules.main(["--page", "--codes", "damaged-record"])
    assert (
        "--page: expected all codes, got some. Pass --entries, or leave --codes out."
        in capsys.readouterr().err
    )


def test_the_entry_of_one_code_is_printed_as_it_stands_on_the_page(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rules.main(["--runs", "2", "--entries", "--codes", "damaged-record"])
    *text, rates = capsys.readouterr().out.strip().split("\n\n")
    assert "\n\n".join(text) in PAGE.read_text(encoding="utf-8")
    assert rates.startswith("| rate | measured on | % | runs |\n")
