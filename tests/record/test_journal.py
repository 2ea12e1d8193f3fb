import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from record_makers import RUN, journal_of, line, newer_line, note

from ptmetrics.errors import DtypeError, RecordError
from ptmetrics.record.journal import Journal
from ptmetrics.record.reader import read_run


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(raw) for raw in path.read_bytes().splitlines() if raw]


def messages(path: Path) -> list[str]:
    return [kept["message"] for kept in read_run(path).notes]


def test_a_record_carries_its_envelope_in_the_order_of_the_contract(tmp_path: Path) -> None:
    ticks = iter([5, 6])
    with Journal(
        tmp_path, rank=2, run_id=RUN, clock=lambda: next(ticks), wall=lambda: 1.5
    ) as journal:
        journal.append("note", note("a"))
        journal.append("note", note("b"))
    first, second = lines_of(tmp_path / "journal-rank2.jsonl")
    assert list(first) == ["v", "seq", "run", "attempt", "kind", "mono_ns", "wall", "data", "crc"]
    assert list(first.values())[:-1] == [1, 0, RUN, 1, "note", 5, 1.5, note("a")]
    assert (second["seq"], second["mono_ns"]) == (1, 6)


def test_runs_get_ids_of_their_own(tmp_path: Path) -> None:
    ids = set()
    for rank in range(3):
        with Journal(tmp_path, rank=rank) as journal:
            ids.add(journal.run_id)
    assert len(ids) == 3
    assert all(int(run, 16) >= 0 for run in ids)


def test_one_record_is_one_write_and_only_durable_kinds_cost_an_fsync(tmp_path: Path) -> None:
    calls: list[str] = []

    def write(fd: int, data: bytes) -> int:
        calls.append("write")
        return os.write(fd, data)

    def fsync(fd: int) -> None:
        calls.append("fsync")

    with Journal(tmp_path, write=write, fsync=fsync) as journal:
        for kind in ["note", "header", "epoch", "fault", "checkpoint", "end"]:
            journal.append(kind, {})
        journal.append("note", {}, sync=True)
        assert calls == ["write", *["write", "fsync"] * 6]
        calls.clear()
    assert calls == ["fsync"]


def test_data_that_cannot_be_written_leave_no_gap(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        with pytest.raises(DtypeError, match=r"data\.x: expected"):
            journal.append("note", {"x": object()})
        journal.append("note", note("after"))
    assert read_run(tmp_path).problems == []
    assert messages(tmp_path) == ["after"]


def test_appending_after_close_is_refused_and_closing_twice_is_not(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.close()
    journal.close()
    with pytest.raises(RecordError) as caught:
        journal.append("note", note("late"))
    assert (caught.value.expected, caught.value.got) == ("an open journal", "one that is closed")
    assert "resume=True" in caught.value.cure


@pytest.mark.fault(39)
def test_a_second_writer_is_refused_until_the_first_closes(tmp_path: Path) -> None:
    code = "import sys, pathlib, ptmetrics.record.journal as j; j.Journal(pathlib.Path(sys.argv[1]), resume=True)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with Journal(tmp_path) as journal:
        journal.append("note", note("mine"))
        other = subprocess.run(command, capture_output=True, text=True, check=False)
        assert other.returncode == 1
        assert "expected no other writer, got a journal that another process writes" in other.stderr
        assert "End the other process or choose another run name." in other.stderr
        with pytest.raises(RecordError, match="no other writer"):
            Journal(tmp_path, resume=True)
    subprocess.run(command, check=True)
    assert messages(tmp_path) == ["mine"]


@pytest.mark.fault(41)
def test_a_run_is_continued_with_its_id_its_numbers_and_the_next_attempt(tmp_path: Path) -> None:
    for attempt in range(1, 4):
        with Journal(tmp_path, resume=True) as journal:
            assert journal.attempt == attempt
            journal.append("note", note("a"))
            journal.append("note", note("b"))
    rows = lines_of(tmp_path / "journal-rank0.jsonl")
    assert [row["seq"] for row in rows] == list(range(6))
    assert [row["attempt"] for row in rows] == [1, 1, 2, 2, 3, 3]
    assert len({row["run"] for row in rows}) == 1


@pytest.mark.fault(39)
@pytest.mark.fault(41)
def test_a_journal_torn_at_any_point_is_sealed_and_continued_and_keeps_every_byte(
    tmp_path: Path,
) -> None:
    whole = [line(seq, "note", note(str(seq))) for seq in range(2)]
    raw = b"".join(whole)
    ends = [at + near for at in (len(whole[0]), len(raw)) for near in (-2, -1, 0, 1)]
    for cut in {*range(0, len(raw), 5), *ends[:-1]}:
        path = journal_of(tmp_path, raw[:cut])
        kept = [str(seq) for seq in range(2) if cut >= len(b"".join(whole[: seq + 1])) - 1]
        with Journal(tmp_path, resume=True) as journal:
            journal.append("note", note("resumed"))
        assert path.read_bytes().startswith(raw[:cut])
        run = read_run(tmp_path)
        assert [n["message"] for n in run.notes] == [*kept, "resumed"]
        torn = cut > len(b"".join(whole[: len(kept)]))
        assert len(run.problems) == torn
        assert run.attempts == 1 + bool(kept)


def test_a_torn_tail_is_sealed_on_opening_even_if_nothing_is_appended(tmp_path: Path) -> None:
    path = journal_of(tmp_path, line(0, "note", note("a")), b'{"v":1,"se')
    Journal(tmp_path, resume=True).close()
    assert path.read_bytes().endswith(b'"}\n{"v":1,"se\n')


def test_a_seal_that_cannot_be_written_is_an_error_at_the_start(tmp_path: Path) -> None:
    journal_of(tmp_path, b"torn")

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with pytest.raises(RecordError, match="can be written, got No space left on device"):
        Journal(tmp_path, resume=True, write=full)
    Journal(tmp_path, resume=True).close()  # the lock was let go


@pytest.mark.parametrize(
    ("raw", "options", "message"),
    [
        (line(0, "note", {}), {}, ("no journal yet", "one that holds a run", "resume=True")),
        (
            line(0, "note", note("x")),
            {"resume": True, "run_id": "beef"},
            ("records of run beef", f"run {RUN}", "folder of that run"),
        ),
        pytest.param(
            line(0, "note", note("x")) + newer_line(1),
            {"resume": True},
            ("schema version 1 or older", "version 9", "newer ptmetrics"),
            marks=pytest.mark.fault(42),
        ),
    ],
)
def test_a_journal_that_does_not_fit_is_refused_and_stays_as_it_is(
    tmp_path: Path, raw: bytes, options: dict[str, Any], message: tuple[str, str, str]
) -> None:
    rule, fact, cure = message
    path = journal_of(tmp_path, raw, b"torn")
    with pytest.raises(RecordError) as caught:
        Journal(tmp_path, **options)
    assert (caught.value.expected, caught.value.got) == (rule, fact)
    assert cure in caught.value.cure
    assert path.read_bytes() == raw + b"torn"


def make_link(path: Path) -> None:
    path.symlink_to(path.parent / "elsewhere")


@pytest.mark.fault(44)
@pytest.mark.parametrize("make", [Path.mkdir, make_link, os.mkfifo], ids=["folder", "link", "pipe"])
def test_only_a_regular_file_is_opened(tmp_path: Path, make: Any) -> None:
    (tmp_path / "elsewhere").write_text("untouched")
    make(tmp_path / "journal-rank0.jsonl")
    with pytest.raises(
        RecordError, match=r"expected a regular file that can be written, got .*\. Choose another"
    ):
        Journal(tmp_path, resume=True)
    assert (tmp_path / "elsewhere").read_text() == "untouched"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="got No such file or directory"):
        Journal(tmp_path / "absent")


@pytest.mark.fault(48)
def test_threads_append_without_losing_a_record(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:

        def work(name: str) -> None:
            for index in range(100):
                journal.append("note", note(f"{name}{index}"))

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert read_run(tmp_path).problems == []
    assert sorted(messages(tmp_path)) == sorted(
        f"{name}{index}" for name in "abcd" for index in range(100)
    )


@pytest.mark.fault(48)
def test_a_signal_handler_that_appends_in_the_midst_of_a_write_breaks_no_line(
    tmp_path: Path,
) -> None:
    pending = [note("from the handler")]

    def write(fd: int, data: bytes) -> int:
        done = os.write(fd, data[:20])
        if pending:
            journal.append("note", pending.pop(), sync=True)
        return done

    with Journal(tmp_path, write=write) as journal:
        journal.append("note", note("outer"))
        assert messages(tmp_path) == ["outer", "from the handler"]
    assert read_run(tmp_path).problems == []


@pytest.mark.fault(48)
def test_a_signal_handler_that_appends_or_closes_before_a_record_has_its_line_waits_its_turn(
    tmp_path: Path,
) -> None:
    pending = [note("from the handler")]

    def clock() -> int:
        if pending:
            journal.append("note", pending.pop())
            journal.close()
        return 5

    journal = Journal(tmp_path, clock=clock)
    journal.append("note", note("outer"))
    assert messages(tmp_path) == ["outer", "from the handler"]
    assert read_run(tmp_path).problems == []
    with pytest.raises(RecordError, match="one that is closed"):
        journal.append("note", note("too late"))


def test_data_that_are_refused_use_up_no_number(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        with pytest.raises(DtypeError):
            journal.append("note", {"code": "x", "message": object()})
        journal.append("note", note("next"))
    assert messages(tmp_path) == ["next"]
    assert read_run(tmp_path).problems == []


@pytest.mark.fault(48)
@pytest.mark.parametrize("written", [0, 20, 10_000])
def test_an_interrupt_in_a_write_passes_and_the_record_is_sealed_on_close(
    tmp_path: Path, written: int
) -> None:
    interrupts = [KeyboardInterrupt()]

    def write(fd: int, data: bytes) -> int:
        if interrupts:
            os.write(fd, data[:written])
            raise interrupts.pop()
        return os.write(fd, data)

    journal = Journal(tmp_path, write=write)
    with pytest.raises(KeyboardInterrupt):
        journal.append("note", note("first"))
    journal.append("end", {"reason": "interrupted"})
    journal.close()
    run = read_run(tmp_path)
    assert [n["message"] for n in run.notes] == ["first"]
    assert run.end == {"reason": "interrupted"}


FORKED = """
import os, sys
from pathlib import Path
from ptmetrics.record.journal import Journal

folder = Path(sys.argv[1])
journal = Journal(folder)
journal.append("note", {"code": "parent", "message": "before"})
ready_r, ready_w = os.pipe()
done_r, done_w = os.pipe()
pid = os.fork()
os.close(done_w if pid == 0 else ready_w)  # whoever dies lets the other go on
if pid == 0:
    for _ in range(2):
        journal.append("note", {"code": "child", "message": "never"}, sync=True)
    journal.close()
    os.write(ready_w, b".")
    os.read(done_r, 1)
    os._exit(0)
os.read(ready_r, 1)
journal.append("note", {"code": "parent", "message": "after"})
journal.close()
Journal(folder, resume=True).close()  # the child still lives: it must not hold the lock
os.write(done_w, b".")
os.waitpid(pid, 0)
"""


@pytest.mark.fault(48)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_neither_writes_nor_holds_the_lock(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert messages(tmp_path) == ["before", "after"]
    assert done.stderr.count("belongs to the process that opened it") == 1
