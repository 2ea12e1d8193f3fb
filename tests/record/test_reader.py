import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_makers import RUN, epoch, journal_of, line, newer_line, note

from ptmetrics.errors import RecordError
from ptmetrics.record.journal import Journal
from ptmetrics.record.lines import Problem
from ptmetrics.record.reader import MAX_KEPT, read_run

FAULT = {"where": "update", "message": "NaN row", "count": 2, "epoch": 0, "step": 3}
CHECKPOINT = {"path": "checkpoints/best.pt", "epoch": 0, "why": "best"}
END = {"reason": "completed", "epochs": 1, "stopping": None}


def write_attempts(folder: Path, attempts: list[list[tuple[str, dict[str, Any]]]]) -> None:
    for events in attempts:
        with Journal(folder, resume=True) as journal:
            for kind, data in events:
                journal.append(kind, data)


def numbers(epochs: list[Any]) -> list[int]:
    return [data["epoch"] for data in epochs]


def test_each_kind_is_found_in_its_place(tmp_path: Path) -> None:
    header, first = {"name": "a", "seed": 3}, epoch(0, val__accuracy=0.5)
    events = [
        ("header", header),
        ("note", note("n")),
        ("fault", FAULT),
        ("epoch", first),
        ("checkpoint", CHECKPOINT),
    ]
    write_attempts(tmp_path, [[*events, ("end", END)]])
    run = read_run(tmp_path)
    assert (run.path, run.header, run.headers, run.epochs) == (tmp_path, header, [header], [first])
    assert (run.notes, run.faults, run.checkpoints, run.end) == (
        [note("n")],
        [FAULT],
        [CHECKPOINT],
        END,
    )
    assert (run.superseded, run.problems, run.attempts, run.left_out) == ([], [], 1, {})
    assert len(run.run_id) == 16


def test_the_journal_file_reads_as_its_folder_does(tmp_path: Path) -> None:
    path = journal_of(tmp_path, line(0, "note", note("n")))
    assert read_run(path) == read_run(str(tmp_path))


@pytest.mark.fault(41)
def test_an_epoch_written_again_supersedes_the_earlier_one_and_all_behind_it(
    tmp_path: Path,
) -> None:
    first = [("epoch", epoch(number, val__loss=1.0)) for number in range(5)]
    second = [("epoch", epoch(number, val__loss=2.0)) for number in range(2, 4)]
    write_attempts(tmp_path, [first, second])
    run = read_run(tmp_path)
    assert [(e["epoch"], e["scores"]["val/loss"]["value"]) for e in run.epochs] == [
        (0, 1),
        (1, 1),
        (2, 2),
        (3, 2),
    ]
    assert [(e["epoch"], e["scores"]["val/loss"]["value"]) for e in run.superseded] == [
        (2, 1),
        (3, 1),
        (4, 1),
    ]
    assert run.attempts == 2
    assert run.written_by == [1, 1, 2, 2]


@pytest.mark.fault(41)
@given(st.lists(st.lists(st.integers(0, 6), max_size=6), min_size=1, max_size=4))
def test_epochs_rise_strictly_and_none_disappears(
    tmp_path_factory: pytest.TempPathFactory, attempts: list[list[int]]
) -> None:
    rows = [(attempt, number) for attempt, row in enumerate(attempts, start=1) for number in row]
    lines = [line(seq, "epoch", epoch(number), attempt=a) for seq, (a, number) in enumerate(rows)]
    run = read_run(
        journal_of(tmp_path_factory.mktemp("run"), *lines, line(len(lines), "note", note("x")))
    )
    kept = numbers(run.epochs)
    assert kept == sorted(set(kept))
    assert sorted(kept + numbers(run.superseded)) == sorted(number for _, number in rows)
    if rows:
        assert kept[-1] == rows[-1][1]  # the last one written always counts


@pytest.mark.fault(41)
def test_an_attempt_that_was_cut_off_has_no_end_whatever_the_one_before_had(tmp_path: Path) -> None:
    write_attempts(tmp_path, [[("header", {"seed": 1}), ("end", END)], [("header", {"seed": 2})]])
    run = read_run(tmp_path)
    assert run.end is None
    assert run.header == {"seed": 2}
    assert run.headers == [{"seed": 1}, {"seed": 2}]


def test_a_damaged_header_leaves_an_empty_one(tmp_path: Path) -> None:
    journal_of(tmp_path, line(0, "header", {"seed": 1})[5:], line(1, "epoch", epoch(0)))
    run = read_run(tmp_path)
    assert run.header == {}
    assert numbers(run.epochs) == [0]
    assert [(problem.file, problem.line) for problem in run.problems] == [
        ("journal-rank0.jsonl", 1)
    ]


@pytest.mark.parametrize(("second", "told"), [("val", "val"), ("train", None), (None, None)])
def test_a_fault_of_two_attempts_is_of_their_split_or_of_none(
    tmp_path: Path, second: str | None, told: str | None
) -> None:
    first, again = {**FAULT, "split": "val"}, {**FAULT, "split": second}
    journal_of(tmp_path, line(0, "fault", first), line(1, "fault", again, attempt=2))
    (fault,) = read_run(tmp_path).faults
    assert fault.get("split") == told


def test_faults_notes_and_damage_of_every_rank_are_gathered_and_its_epochs_are_not(
    tmp_path: Path,
) -> None:
    journal_of(tmp_path, line(0, "epoch", epoch(0)), line(1, "fault", FAULT))
    theirs = {**FAULT, "where": "sync"}
    journal_of(
        tmp_path,
        line(0, "epoch", epoch(9), attempt=3),
        line(1, "fault", theirs, attempt=3),
        b"torn\n",
        line(3, "note", note("n"), attempt=3),
        rank=1,
    )
    run = read_run(tmp_path)
    assert (numbers(run.epochs), run.faults, run.notes, run.attempts) == (
        [0],
        [FAULT, theirs],
        [note("n")],
        1,
    )
    assert [(problem.file, problem.line) for problem in run.problems] == [
        ("journal-rank1.jsonl", 3)
    ]


@pytest.mark.fault(8)
def test_a_run_without_the_journal_of_rank_0_is_read_from_the_next(tmp_path: Path) -> None:
    journal_of(tmp_path, line(0, "epoch", epoch(4)), rank=1)
    assert numbers(read_run(tmp_path).epochs) == [4]


def test_beyond_ten_thousand_of_a_kind_the_rest_are_counted(tmp_path: Path) -> None:
    notes = [line(seq, "note", note(str(seq))) for seq in range(MAX_KEPT + 3)]
    journal_of(tmp_path, *notes, b"bad\n" * (MAX_KEPT + 5))
    run = read_run(tmp_path)
    assert len(run.notes) == len(run.problems) == MAX_KEPT
    assert run.notes[-1]["message"] == str(MAX_KEPT - 1)
    assert run.left_out == {"notes": 3, "problems": 5}


def refusal(path: Path) -> RecordError:
    with pytest.raises(RecordError) as caught:
        read_run(path)
    return caught.value


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path / "absent")
    assert error.name == str(tmp_path / "absent")
    assert (error.expected, error.got) == (
        "a run folder or a journal",
        "nothing of the kind at that path",
    )
    assert "run=" in error.cure


def test_a_folder_without_a_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal-rank0.jsonl").mkdir()
    os.mkfifo(tmp_path / "journal-rank1.jsonl")  # opening it would wait for ever
    error = refusal(tmp_path)
    assert (error.expected, error.got) == (
        "a folder with a file journal-rank0.jsonl",
        "a folder without one",
    )
    assert "runs/pretrained" in error.cure
    assert refusal(tmp_path / "journal-rank1.jsonl").got == "nothing of the kind at that path"


@pytest.mark.parametrize(
    ("raw", "fact"),
    [
        (b"", "none"),
        (
            b"hello\nworld\n",
            "none (journal-rank0.jsonl, line 1: torn or foreign: no checksum at its end)",
        ),
        (
            line(0, "note", note("x"))[:-9],
            "none (journal-rank0.jsonl, line 1: torn or foreign: no checksum at its end)",
        ),
    ],
)
def test_a_journal_without_a_whole_record_is_refused(tmp_path: Path, raw: bytes, fact: str) -> None:
    error = refusal(journal_of(tmp_path, raw))
    assert (error.expected, error.got) == ("at least one whole record", fact)
    assert error.cure.startswith("Start the run again")


@pytest.mark.fault(42)
def test_a_run_of_a_later_schema_is_refused(tmp_path: Path) -> None:
    journal_of(tmp_path, line(0, "note", note("x")), newer_line(1))
    error = refusal(tmp_path)
    assert (error.name, error.expected, error.got) == (
        "journal-rank0.jsonl, line 2",
        "schema version 1 or older",
        "version 9",
    )
    assert error.cure.startswith("Install a newer ptmetrics")


@pytest.mark.skipif(
    not Path("/proc/self/mem").exists(), reason="needs a file whose first byte fails with EIO"
)
def test_a_disk_that_fails_under_the_reader_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal-rank0.jsonl").symlink_to("/proc/self/mem")
    error = refusal(tmp_path)
    assert (error.expected, error.got) == ("a file that can be read", "Input/output error")
    assert "Check the disk and the permissions" in error.cure


def test_a_path_that_the_system_cannot_take_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path / ("x" * 300))
    assert (error.expected, error.got) == ("a path that can be read", "File name too long")
    assert "run=" in error.cure


def test_a_run_that_is_still_written_can_be_read(tmp_path: Path) -> None:
    with Journal(tmp_path, run_id=RUN) as journal:
        journal.append("epoch", epoch(0))
        assert numbers(read_run(tmp_path).epochs) == [0]
        journal.append("epoch", epoch(1))
        assert numbers(read_run(tmp_path).epochs) == [0, 1]


def test_the_place_of_a_problem_points_at_its_bytes(tmp_path: Path) -> None:
    path = journal_of(
        tmp_path, line(0, "note", note("x")), b"spoiled\n", line(2, "note", note("y"))
    )
    (problem,) = read_run(tmp_path).problems
    assert isinstance(problem, Problem)
    assert path.read_bytes()[problem.offset :].startswith(b"spoiled\n")
