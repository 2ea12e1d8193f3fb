"""A disk that fails on command, under a real file."""

import errno
import logging
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_makers import note

from ptmetrics.record.journal import KEPT_LINES, Journal
from ptmetrics.record.reader import read_run


class Disk:
    """Takes at most `takes` bytes of a write; raises `errno` codes while `write_error` or `fsync_error` is set."""

    def __init__(self) -> None:
        self.takes: int | None = None
        self.write_error = self.fsync_error = 0
        self.durable = 0

    def write(self, fd: int, data: bytes) -> int:
        if self.write_error and not self.takes:
            raise OSError(self.write_error, os.strerror(self.write_error))
        done = os.write(fd, data[: self.takes])
        if self.write_error:
            self.takes = None  # one part is taken before the error
        return done

    def fsync(self, fd: int) -> None:
        if self.fsync_error:
            raise OSError(self.fsync_error, os.strerror(self.fsync_error))
        self.durable = os.fstat(fd).st_size

    def journal(self, folder: Path) -> Journal:
        return Journal(folder, write=self.write, fsync=self.fsync)


def messages(folder: Path) -> list[str]:
    return [kept["message"] for kept in read_run(folder).notes]


@pytest.mark.fault(40)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_while_nothing_can_be_written_the_run_goes_on_with_one_warning_and_all_is_written_later(
    tmp_path: Path, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk()
    with caplog.at_level(logging.WARNING, "ptmetrics"), disk.journal(tmp_path) as journal:
        journal.append("note", note("0"))
        disk.write_error = code
        for index in range(1, 101):
            journal.append("note", note(str(index)), sync=True)
        assert (journal.waiting, journal.lost) == (100, 0)
        disk.write_error = 0
        journal.append("note", note("101"))
        assert journal.waiting == 0
    assert messages(tmp_path) == [str(index) for index in range(102)]
    assert read_run(tmp_path).problems == []
    assert len(caplog.records) == 1
    assert os.strerror(code) in caplog.text
    assert "the run goes on" in caplog.text


@pytest.mark.fault(40)
@pytest.mark.parametrize("part", [0, 30])
def test_beyond_256_waiting_records_the_oldest_are_lost_and_a_note_says_how_many(
    tmp_path: Path, part: int
) -> None:
    disk = Disk()
    with disk.journal(tmp_path) as journal:
        disk.write_error, disk.takes = errno.ENOSPC, part or None
        for index in range(KEPT_LINES + 10):
            journal.append("note", note(str(index)))
        assert (journal.waiting, journal.lost) == (KEPT_LINES, 10)
        disk.write_error = 0
        journal.append("note", note("last"))
        assert (journal.waiting, journal.lost) == (0, 10)
    *kept, gap = read_run(tmp_path).notes
    numbers = [str(index) for index in range(10, KEPT_LINES + 10)]
    if part:  # the oldest stood in the file in part, and was finished instead of dropped
        numbers = ["0", *numbers[1:]]
    assert [n["message"] for n in kept] == [*numbers, "last"]
    assert gap == {
        "code": "journal-gap",
        "message": "10 records were lost while the journal could not be written",
        "lost": 10,
    }
    reasons = [problem.reason for problem in read_run(tmp_path).problems]
    assert reasons == ["10 records are missing before it"]


@pytest.mark.fault(40)
def test_each_gap_is_marked_once(tmp_path: Path) -> None:
    disk = Disk()
    with disk.journal(tmp_path) as journal:
        for lost in (3, 5):
            disk.write_error = errno.ENOSPC
            for _ in range(KEPT_LINES + lost):
                journal.append("note", note(""))
            disk.write_error = 0
            journal.append("note", note(""))
        journal.append("note", note(""))
        assert journal.lost == 8
    gaps = [n for n in read_run(tmp_path).notes if n["code"] == "journal-gap"]
    assert [gap["message"].split()[0] for gap in gaps] == ["3", "5"]


@pytest.mark.fault(40)
def test_records_that_wait_at_the_end_are_tried_once_more_and_then_counted_as_lost(
    tmp_path: Path,
) -> None:
    disk = Disk()
    journal = disk.journal(tmp_path)
    journal.append("note", note("written"))
    disk.write_error = errno.ENOSPC
    journal.append("note", note("waits"))
    journal.close()
    assert journal.lost == 1
    assert messages(tmp_path) == ["written"]


@pytest.mark.fault(40)
def test_a_failed_fsync_makes_the_next_good_one_follow_a_second_write_of_those_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk()
    path = tmp_path / "journal-rank0.jsonl"
    with disk.journal(tmp_path) as journal:
        journal.append("note", note("durable"), sync=True)
        settled = path.stat().st_size
        disk.fsync_error = errno.EIO
        journal.append("note", note("a"), sync=True)
        journal.append("note", note("b"))
        doubtful = path.read_bytes()[settled:]
        assert messages(tmp_path) == ["durable", "a", "b"]
        disk.fsync_error = 0
        journal.append("note", note("c"))
        *again, last = path.read_bytes()[settled + len(doubtful) :].splitlines(keepends=True)[1:]
        assert b"".join(again) == doubtful
        assert b'"c"' in last
        assert disk.durable == path.stat().st_size
    assert messages(tmp_path) == ["durable", "a", "b", "c"]
    assert read_run(tmp_path).problems == []
    assert len(caplog.records) == 1


@pytest.mark.fault(40)
def test_an_fsync_that_never_works_costs_no_record_and_no_growth(tmp_path: Path) -> None:
    disk = Disk()
    disk.fsync_error = errno.EINVAL
    with disk.journal(tmp_path) as journal:
        for index in range(600):
            journal.append("note", note(str(index)), sync=True)
    assert messages(tmp_path) == [str(index) for index in range(600)]
    assert (tmp_path / "journal-rank0.jsonl").read_bytes().count(b"\n") == 600
    assert journal.lost == 0


@pytest.mark.fault(40)
@pytest.mark.parametrize("takes", [1, 7, 100])
def test_short_writes_are_completed(tmp_path: Path, takes: int) -> None:
    disk = Disk()
    disk.takes = takes
    with disk.journal(tmp_path) as journal:
        journal.append("note", note("a"))
        journal.append("note", note("b"))
    assert messages(tmp_path) == ["a", "b"]
    assert read_run(tmp_path).problems == []


@pytest.mark.fault(40)
def test_a_write_that_takes_nothing_is_a_failure_and_no_endless_loop(tmp_path: Path) -> None:
    calls: list[int] = []

    def write(fd: int, data: bytes) -> int:
        calls.append(fd)
        return 0 if len(calls) == 1 else os.write(fd, data)

    with Journal(tmp_path, write=write) as journal:
        journal.append("note", note("a"))
        assert journal.waiting == 1
    assert messages(tmp_path) == ["a"]


MOODS = st.sampled_from(["well", "full", "part then full", "short", "no fsync"])


@pytest.mark.fault(40)
@given(st.lists(st.tuples(MOODS, st.booleans(), st.integers(1, 300)), max_size=30))
def test_whatever_the_disk_does_every_record_stands_once_and_in_order_when_it_is_well_again(
    moods: list[tuple[str, bool, int]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, disk = Path(name), Disk()
        with disk.journal(folder) as journal:
            for index, (mood, sync, part) in enumerate(moods):
                disk.write_error = errno.ENOSPC if "full" in mood else 0
                disk.fsync_error = errno.EIO if mood == "no fsync" else 0
                disk.takes = part if mood in {"short", "part then full"} else None
                journal.append("note", note(str(index)), sync=sync)
            disk.write_error, disk.fsync_error, disk.takes = 0, 0, None
            journal.append("note", note("well"), sync=True)
            assert disk.durable == (folder / "journal-rank0.jsonl").stat().st_size
        assert messages(folder) == [*map(str, range(len(moods))), "well"]
        assert read_run(folder).problems == []
        assert journal.lost == 0
