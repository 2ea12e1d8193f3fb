"""The table that grows by a line an epoch."""

from math import nan
from typing import Any

from ptmetrics.show.epochs import EpochTable
from ptmetrics.show.paint import colour, plain


def score(value: float, *, rises: bool | None = True, low: float = nan) -> dict[str, Any]:
    return {"value": value, "low": low, "high": low, "n": 10, "higher_is_better": rises}


def starred(values: list[float], *, rises: bool | None) -> list[bool]:
    table = EpochTable("val/mine")
    lines = [
        plain.join(table.lines(epoch, {"val/mine": score(value, rises=rises)}, 0.0))
        for epoch, value in enumerate(values)
    ]
    return ["*" in line.splitlines()[-1] for line in lines]


def test_a_star_marks_the_best_so_far_in_the_scores_own_direction() -> None:
    values = [0.5, 0.7, 0.6, nan, 0.7, 0.8]
    assert starred(values, rises=True) == [True, True, False, False, False, True]
    assert starred([-value for value in values], rises=False) == [
        True,
        True,
        False,
        False,
        False,
        True,
    ]
    assert starred(values, rises=None) == [False] * 6


def test_the_head_comes_once_and_again_where_other_scores_come_up() -> None:
    table = EpochTable("val/accuracy")
    first = list(table.lines(0, {"train/loss": score(2.0, rises=False)}, 1.0))
    both = {"train/loss": score(1.0, rises=False), "val/accuracy": score(0.5, low=0.4)}
    second = list(table.lines(1, both, 1.0))
    third = list(table.lines(2, {"train/loss": score(0.5, rises=False)}, 1.0))
    assert [len(lines) for lines in (first, second, third)] == [2, 2, 1]
    head, row = plain.join(second).splitlines()
    assert head.index("val/accuracy") == row.index("0.5000 [")
    assert head.index("seconds") + len("seconds") == row.index("1.0", row.index("]")) + len("1.0")
    assert "–" in plain.join(third), "a score that an epoch does not have"


def test_a_line_fits_a_console_and_holds_no_code_of_a_terminal() -> None:
    hostile = "val/\x1b[31mred\u202e"
    table = EpochTable(hostile)
    scores = {hostile: score(1e9, low=-1e9), "train/loss": score(1e-9), "val/loss": score(1e12)}
    for paint in (plain, colour):
        text = paint.join(table.lines(123456, scores, 1e6))
        assert "\x1b[31m" not in text
        assert "\u202e" not in text
    assert all(len(line) <= 100 for line in plain.join(table.lines(1, scores, 1e6)).splitlines())
