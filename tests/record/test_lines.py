import io
from pathlib import Path

import pytest
from record_makers import RUN, line, newer_line, note

from ptmetrics.errors import RecordError
from ptmetrics.record.codec import Record
from ptmetrics.record.lines import COPY_WINDOW, MAX_LINE_BYTES, Problem, scan

NAMES = ["plain", "new\nline", "line\u2028and\u2029paragraph", "\x85\x0b\x0c\r\x1e", "$nan"]
LINES = [line(seq, "note", note(name)) for seq, name in enumerate(NAMES)]
WHOLE = b"".join(LINES)


def read(raw: bytes, *, limit: int = MAX_LINE_BYTES) -> tuple[list[Record], list[Problem]]:
    items = list(scan(io.BytesIO(raw), "journal-rank0.jsonl", limit=limit))
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Problem)]


def messages(records: list[Record]) -> list[str]:
    return [record.data["message"] for record in records]


def start_of(seq: int) -> int:
    return sum(map(len, LINES[:seq]))


@pytest.mark.fault(39)
def test_names_with_line_breaks_of_every_kind_stay_in_their_line() -> None:
    records, problems = read(WHOLE)
    assert messages(records) == NAMES
    assert problems == []
    assert WHOLE.count(b"\n") == len(WHOLE.splitlines()) == len(NAMES)


@pytest.mark.fault(39)
def test_at_every_truncation_point_the_whole_records_are_read_and_the_torn_one_located() -> None:
    for cut in range(len(WHOLE) + 1):
        # A record without only its newline is whole: its checksum says so.
        whole = sum(cut >= start_of(seq + 1) - 1 for seq in range(len(LINES)))
        records, problems = read(WHOLE[:cut])
        assert messages(records) == NAMES[:whole]
        if cut > start_of(whole):
            assert [(p.line, p.offset) for p in problems] == [(whole + 1, start_of(whole))]
        else:
            assert problems == []


@pytest.mark.fault(39)
@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_at_any_byte_costs_its_own_record_only(bit: int) -> None:
    for position in range(len(WHOLE)):
        hit = next(seq for seq in range(len(LINES)) if position < start_of(seq + 1))
        bad = bytearray(WHOLE)
        bad[position] ^= 1 << bit
        records, problems = read(bytes(bad))
        assert messages(records) == NAMES[:hit] + NAMES[hit + 1 :]
        assert problems[0].offset == start_of(hit)
        assert problems[0].line == hit + 1


@pytest.mark.fault(39)
def test_a_byte_that_turns_into_a_newline_costs_its_own_record_only() -> None:
    for position in range(start_of(1), start_of(2) - 1):
        bad = WHOLE[:position] + b"\n" + WHOLE[position + 1 :]
        records, problems = read(bad)
        assert messages(records) == [NAMES[0], *NAMES[2:]]
        assert problems


@pytest.mark.fault(39)
def test_a_torn_record_in_front_of_a_whole_one_in_the_same_line_costs_only_itself() -> None:
    for cut in range(1, len(LINES[1])):
        records, problems = read(LINES[0] + LINES[1][:cut] + WHOLE[start_of(2) :])
        assert messages(records) == [NAMES[0], *NAMES[2:]]
        assert problems == [
            Problem(
                "journal-rank0.jsonl",
                2,
                start_of(1),
                f"torn: {cut} bytes that end without a newline",
            )
        ]


def test_empty_lines_and_windows_line_ends_are_no_damage() -> None:
    records, problems = read(b"\n\n" + WHOLE.replace(b"\n", b"\r\n") + b"\n")
    assert messages(records) == NAMES
    assert problems == []


def test_a_record_that_vanished_without_a_trace_is_missed_by_its_number() -> None:
    records, problems = read(LINES[0] + LINES[3] + LINES[4])
    assert [record.seq for record in records] == [0, 3, 4]
    assert problems == [
        Problem("journal-rank0.jsonl", 2, start_of(1), "2 records are missing before it")
    ]


def test_a_copy_is_left_out_silently_and_another_record_of_that_number_is_not() -> None:
    copy, other = LINES[1], line(1, "note", note("other"), mono_ns=8)
    records, problems = read(LINES[0] + LINES[1] + copy + other + LINES[2])
    assert messages(records) == NAMES[:3]
    assert [(p.line, p.reason) for p in problems] == [(4, "number 1 again, from a second writer")]


def test_copies_are_known_for_as_many_lines_as_the_journal_writes_again() -> None:
    many = [line(seq, "note", note("")) for seq in range(COPY_WINDOW + 2)]
    assert read(b"".join(many) + many[-COPY_WINDOW])[1] == []
    assert len(read(b"".join(many) + many[0])[1]) == 1


def test_a_record_of_another_run_is_left_out() -> None:
    records, problems = read(LINES[0] + line(1, "note", note("x"), run="beef") + LINES[2])
    assert messages(records) == [NAMES[0], NAMES[2]]
    assert [p.reason for p in problems] == [f"belongs to run beef, not {RUN}"]


@pytest.mark.parametrize("extra", [0, 1, 70_000, 200_000])
def test_a_line_over_the_limit_is_skipped_and_located(extra: int) -> None:
    limit = max(map(len, LINES)) - 1
    long = b"x" * (limit + extra) + b"\n"
    records, problems = read(LINES[0] + long + b"bad\n" + b"".join(LINES[1:]), limit=limit)
    assert messages(records) == NAMES
    bad = "torn or foreign: no checksum at its end"
    assert problems == [
        Problem(
            "journal-rank0.jsonl",
            2,
            start_of(1),
            "longer than the limit for one line" if extra else bad,
        ),
        Problem("journal-rank0.jsonl", 3, start_of(1) + len(long), bad),
    ]


@pytest.mark.fault(46)
def test_a_line_of_more_than_64_mib_is_a_problem_and_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "journal-rank0.jsonl"
    with path.open("wb") as file:
        file.write(LINES[0])
        file.truncate(
            len(LINES[0]) + MAX_LINE_BYTES + 1
        )  # a hole of zero bytes, as a lost power leaves it
        file.seek(0, io.SEEK_END)
        file.write(b"\n" + b"".join(LINES[1:]))
    with path.open("rb") as file:
        items = list(scan(file, path.name))
    assert [item.data["message"] for item in items if isinstance(item, Record)] == NAMES
    assert [item.line for item in items if isinstance(item, Problem)] == [2]


def test_a_kind_that_is_not_known_is_handed_on() -> None:
    assert [record.kind for record in read(line(0, "of tomorrow", {"x": 1}))[0]] == ["of tomorrow"]


@pytest.mark.fault(42)
def test_a_later_schema_is_refused_with_its_place_and_a_cure() -> None:
    with pytest.raises(RecordError) as caught:
        read(LINES[0] + newer_line(1))
    assert str(caught.value) == (
        "journal-rank0.jsonl, line 2: expected schema version 1 or older, got version 9. "
        "Install a newer ptmetrics to read this run; nothing was changed."
    )
