"""The table of faults: each row is shown by a test, and what `make faults` prints is what they say."""

import fault_rows
import pytest
from fault_rows import ROWS, Told, outcome_of, table

DEVICE_TEST = next(
    (row, place)
    for row, places in sorted(fault_rows.marks().items())
    for place in places
    if place.startswith(fault_rows.DEVICE_TESTS)
)


def test_every_row_is_shown_by_a_test_and_every_mark_names_a_row() -> None:
    assert sorted(fault_rows.marks()) == sorted(ROWS)
    assert sorted(ROWS) == list(range(1, 49))


def test_marks_of_a_file_a_test_and_a_case_are_found() -> None:
    marks = fault_rows.marks()
    assert marks[28]["tests/metrics/test_no_sync.py"] > 5  # of the whole file
    assert marks[30]["tests/metrics/test_update_budget.py"] == 2
    assert marks[42]["tests/record/test_journal.py"] == 1  # of one of its cases


@pytest.mark.parametrize(
    ("outcomes", "word"),
    [
        ([], "open"),
        (["skipped"], "open"),
        (["passed"], "holds"),
        (["passed", "skipped"], "holds"),
        (["passed", "failed"], "red"),
        (["error"], "red"),
        (["xfailed"], "red"),
    ],
)
def test_a_row_holds_where_a_test_of_it_passed_and_none_did_not(
    outcomes: list[str], word: str
) -> None:
    told = [Told(3, f"tests/x.py::test_{n}", outcome) for n, outcome in enumerate(outcomes)]
    assert outcome_of(3, told).word == word
    assert outcome_of(4, told).word == "open"


def test_the_last_line_sums_up_and_names_rows_that_are_red_open_or_need_a_gpu() -> None:
    told = [Told(row, f"tests/x.py::test_{row}", "passed") for row in ROWS if row not in (5, 9)]
    told.append(Told(7, "tests/x.py::test_broken", "failed"))
    *lines, last = table(told)
    assert last.startswith("48 rows: 45 hold, 1 red (7), 2 open (5, 9); on a GPU")
    assert "            red: tests/x.py::test_broken" in lines
    assert any(line.startswith("  5  open") for line in lines)
    row, place = DEVICE_TEST
    assert f" {row}," in last
    ran = [*told, Told(row, f"{place}::test_one", "passed")]
    assert outcome_of(row, ran).for_hardware < outcome_of(row, told).for_hardware


def test_names_of_a_page_are_no_markup() -> None:
    text = fault_rows.page()
    assert text.count("\n| ") == len(ROWS) + 1
    assert "&lt;/script&gt;" in text
    assert "<img" not in text
