"""docs/leakage.md is what the study writes today, and what was measured meets its bars."""

import re
from pathlib import Path

import pytest

from tests.studies import leakage, planted

PAGE = (Path(__file__).parents[2] / "docs" / "leakage.md").read_text(encoding="utf-8")


def cells(first: str) -> list[list[str]]:
    """Rows of the page's tables that begin so."""
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| {first} |")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def percent(cell: str) -> float:
    found = re.search(r"([\d.]+) %", cell)
    assert found, cell
    return float(found[1])


def test_the_page_begins_as_it_would_be_written_today() -> None:
    assert PAGE.startswith(leakage.HEAD)


def test_at_least_95_percent_of_copies_are_found_and_at_most_5_percent_of_flags_are_false() -> None:
    rows = [row for kind in planted.COPIES for row in cells(kind)]
    assert len(rows) == 2 * len(planted.COPIES)
    found = [percent(row[2]) for row in rows]
    false = [percent(row[3]) for row in rows]
    assert sum(found) / len(found) >= 95
    assert min(found) >= 85
    assert max(false) <= 5


def test_at_most_one_of_a_thousand_clean_rows_is_named() -> None:
    kinds = [kind for kind, _ in planted.clean(0)]
    checked = [row for kind in kinds for row in cells(kind) if row[1] != "–"]
    assert len(checked) >= 5
    assert max(percent(row[1]) for row in checked) <= 0.1
    assert all(row[2].endswith(" of 100") for row in checked)


def test_what_cannot_be_found_has_a_rate() -> None:
    assert all(cells(kind) for kind in leakage.UNFOUND)


@pytest.mark.slow
def test_a_quick_run_prints_every_table(capsys: pytest.CaptureFixture[str]) -> None:
    leakage.main(["--runs", "1", "--splits", "1"])
    printed = capsys.readouterr().out
    assert printed.count("## ") == 4
    assert "500 of 500, 0 others" in printed
