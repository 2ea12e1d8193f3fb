"""Bounds for a long run: what reading costs in memory, stated here and held."""

import tracemalloc
from pathlib import Path

import pytest
from record_makers import epoch, line, note, sealed

from ptmetrics.record.journal import Journal
from ptmetrics.record.reader import MAX_KEPT, read_run

MIB = 2**20


def write_steps(path: Path, lines: int, *, every: int) -> None:
    """Write notes with an epoch now and then, in no more memory than a line."""
    first = line(0, "note", note("a step of the loop"))
    body = first[: first.rindex(b',"crc"')] + b"}"
    with path.open("wb") as file:
        for seq in range(lines):
            if seq % every:  # encoding each would take most of this test's time
                file.write(sealed(body.replace(b'"seq":0', b'"seq":%d' % seq)) + b"\n")
            else:
                file.write(line(seq, "epoch", epoch(seq // every, val__accuracy=0.5)))


@pytest.mark.slow
@pytest.mark.fault(46)
def test_200_000_lines_are_read_in_24_mib_whatever_the_size_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "journal-rank0.jsonl"
    write_steps(path, 200_000, every=1000)
    assert path.stat().st_size > 24 * MIB
    tracemalloc.start()
    try:
        run = read_run(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [data["epoch"] for data in run.epochs] == list(range(200))
    assert (len(run.notes), run.left_out) == (MAX_KEPT, {"notes": 199_800 - MAX_KEPT})
    assert run.problems == []
    assert peak < 24 * MIB


@pytest.mark.fault(46)
def test_resuming_keeps_nothing_but_the_last_record_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "journal-rank0.jsonl"
    write_steps(path, 20_000, every=10)
    tracemalloc.start()
    try:
        with Journal(tmp_path, resume=True) as journal:
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert journal.attempt == 2
    assert peak < 1 * MIB < path.stat().st_size


@pytest.mark.fault(46)
def test_an_epoch_of_ten_thousand_classes_reads_back(tmp_path: Path) -> None:
    values = [index / 10_000 for index in range(10_000)]
    rows = dict.fromkeys(("value", "low", "high"), values) | {
        "n": list(range(10_000)),
        "method": "wilson",
    }
    data = {**epoch(0), "per_class": {"val": dict.fromkeys(("recall", "precision", "f1"), rows)}}
    with Journal(tmp_path) as journal:
        journal.append("epoch", data)
    assert read_run(tmp_path).epochs == [data]
