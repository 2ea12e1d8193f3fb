"""The border that text passes: whatever a record holds, one line stays one line and obeys nobody."""

import io
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptmetrics.record.journal import Journal
from ptmetrics.record.printable import printable
from ptmetrics.record.reader import read_run
from ptmetrics.show.annotations import annotations
from ptmetrics.show.opinion import verdict_text
from ptmetrics.show.paint import Paint, Styled, paint_for, plain
from ptmetrics.show.run import run_text
from ptmetrics.verdict.finding import Criterion, Finding, Verdict
from ptmetrics.verdict.judge import judge

ENCODINGS = ("utf-8", "ascii", "cp1252", "latin-1", "cp437", "utf-16", "shift_jis")
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x1b[31m\r\n::error::x%0A\x9b31m\u202egnp\u2066\u200b\ud800\x00"
SIGNS = st.text(st.characters() | st.sampled_from(HOSTILE + "✓✗→│−×·…∞"))


@pytest.mark.fault(45)
@given(SIGNS, st.sampled_from(ENCODINGS))
def test_any_text_is_one_line_that_the_console_can_show(text: str, encoding: str) -> None:
    shown = printable(text, encoding)
    assert shown.isprintable()
    assert shown.encode(encoding).decode(encoding) == shown
    assert printable(shown, encoding) == shown
    assert not any(unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for sign in shown)


@given(SIGNS)
def test_signs_keep_their_places_and_those_that_can_be_shown_stay(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    for sign, seen in zip(text, shown, strict=True):
        assert seen == sign or not sign.isprintable()


def test_an_encoding_that_lacks_a_sign_gets_a_plain_one() -> None:
    assert (
        printable("✓ 0.5 [0.4, ∞] → 1 − 2 × größe …", "ascii")
        == "+ 0.5 [0.4, inf] > 1 - 2 x gr??e ~"
    )
    assert printable("größe ×…", "cp1252") == "größe ×…"


def test_white_space_of_every_kind_becomes_a_space_and_the_rest_a_mark() -> None:
    assert printable("a\tb\nc\xa0d\u2028e\x1b[31mf\u202e") == "a b c d e�[31mf�"


@given(st.lists(SIGNS.filter(lambda text: len(text) < 40), min_size=1))
def test_joined_lines_are_as_many_as_were_given(texts: list[str]) -> None:
    assert len(plain.join(texts).split("\n")) == len(texts)
    styled = [["", Styled(text, "bad"), text] for text in texts]
    shown = Paint(colour=True).join(styled).replace("\x1b[31m", "").replace("\x1b[0m", "")
    assert shown == "\n".join(2 * printable(text) for text in texts)


def test_colour_is_for_a_terminal_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal(io.BytesIO(), "ascii")
    assert paint_for(terminal) == Paint(colour=True, encoding="ascii")
    assert paint_for(io.TextIOWrapper(io.BytesIO(), "cp1252")) == Paint(encoding="cp1252")
    assert paint_for(io.StringIO()) == plain
    monkeypatch.setattr(sys, "stdout", terminal)
    assert paint_for().colour
    monkeypatch.setenv("NO_COLOR", "1")
    assert not paint_for(terminal).colour


def hostile_verdict(text: str) -> Verdict:
    criterion = Criterion(f"recall of {text}", 0.9, 0.8, 1.0, 100, 0.85, ">=", "met", reason=text)
    finding = Finding(f"code{text}", "fail", f"found {text}", {}, f"do {text}")
    return Verdict("not ready", (finding,), (criterion,), text, (f"note {text}",))


@pytest.mark.fault(45)
@settings(max_examples=30)
@given(SIGNS)
def test_no_text_of_a_verdict_moves_the_cursor_or_starts_a_command(text: str) -> None:
    verdict = hostile_verdict(text)
    assert all(line.isprintable() for line in verdict_text(verdict).split("\n"))
    for line in annotations(f"runs/a:b,c{text}", verdict):
        assert line.isprintable()
        assert line.startswith("::error title=")
        title, _, message = line.removeprefix("::error title=").partition("::")
        assert ":" not in title
        assert "," not in title
        assert "%0A" not in message


@pytest.mark.fault(45)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_no_name_in_a_record_can_leave_its_line(tmp_path: Path, encoding: str) -> None:
    share = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 20, "method": "wilson", "reason": None}
    column = {key: [0.5, 0.5] for key in ("value", "low", "high")} | {"n": [10, 10]}
    epoch: dict[str, Any] = {
        "epoch": 0,
        "scores": {"val/accuracy": share},
        "class_names": [HOSTILE, "dog"],
        "confusion": {"val": [[5, 5], [5, 5]]},
        "per_class": {"val": dict.fromkeys(("precision", "recall", "f1"), column)},
        "per_slice": {
            "val": {
                "by": HOSTILE,
                "names": [HOSTILE, "b"],
                "filled": 2,
                "scores": {HOSTILE: column},
            }
        },
        "faults": {"val": {HOSTILE: {"count": 1, "first_step": 0, "message": HOSTILE}}},
        "notes": {"val": [HOSTILE]},
    }
    with Journal(tmp_path) as journal:
        journal.append("header", {"name": HOSTILE, "metrics": {"task": "multiclass"}})
        journal.append("epoch", epoch)
        journal.append("fault", {"where": HOSTILE, "message": HOSTILE, "count": 1})
        journal.append("end", {"reason": f"error: {HOSTILE}"})
    run = read_run(tmp_path)
    assert run.problems == []
    assert [data["epoch"] for data in run.epochs] == [0]
    text = run_text(run, judge(run), Paint(encoding=encoding))
    assert all(line.isprintable() for line in text.split("\n"))
    assert text.encode(encoding)
    assert "gnp" in text
