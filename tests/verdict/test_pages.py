"""Every finding has a page, and docs/rules.md says what the package says."""

import ast
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import ptmetrics
from ptmetrics.verdict.compare import COMPARISON_CODES
from ptmetrics.verdict.finding import SEVERITIES
from ptmetrics.verdict.judge import CODES
from ptmetrics.verdict.pages import explain, known_pages
from ptmetrics.verdict.profile import PROFILES, Thresholds

PAGES: Any = known_pages()
DOCUMENT = Path(__file__).parents[2] / "docs" / "rules.md"


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    assert set(PAGES) == {*CODES, *COMPARISON_CODES, "rule-failed"}
    folder = Path(ptmetrics.__file__).parent / "verdict"
    raised = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "make_finding":
                code = node.args[0]
                if isinstance(code, ast.Constant):
                    raised.add(code.value)
    assert raised <= set(PAGES)


def test_a_page_names_severities_and_thresholds_that_exist() -> None:
    known = {item.name for item in fields(Thresholds)}
    for code, page in PAGES.items():
        assert set(re.split(", | or ", page.severity)) <= set(SEVERITIES), code
        assert set(page.thresholds) <= known, code
        assert page.meaning.endswith("."), code
        assert page.advice.endswith("."), code
        assert page.why.endswith("."), code


def test_a_page_on_the_terminal_has_a_value_for_each_profile() -> None:
    lines = explain("low-accuracy").splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[-3].split("  ")[0] == "threshold"
    assert all(name in lines[-3] for name in PROFILES)
    assert re.fullmatch(r"accuracy +0\.85 +off +off +off +off", lines[-2])


def test_the_document_is_written_from_the_pages() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for code in (*CODES, *COMPARISON_CODES):
        assert f"\n## {code}\n\n{PAGES[code].meaning}\n\n> " in text, code
        assert f"\n\nWhy it matters: {PAGES[code].why}\n\nWhat to do: " in text, code
