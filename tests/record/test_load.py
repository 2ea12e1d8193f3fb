"""Bounds for a long run: what reading costs in memory, stated here and held."""

import json
import subprocess
import sys
import time
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


def read_peak(path: Path, lines: int) -> int:
    write_steps(path, lines, every=1000)
    tracemalloc.start()
    try:
        run = read_run(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    epochs = lines // 1000
    assert [data["epoch"] for data in run.epochs] == list(range(epochs))
    assert (len(run.notes), run.left_out) == (MAX_KEPT, {"notes": lines - epochs - MAX_KEPT})
    assert run.problems == []
    return peak


@pytest.mark.slow
@pytest.mark.fault(46)
def test_reading_takes_8_mib_and_three_times_the_lines_take_no_more(tmp_path: Path) -> None:
    path = tmp_path / "journal-rank0.jsonl"
    short, long = read_peak(path, 12_000), read_peak(path, 36_000)
    assert path.stat().st_size > 5 * MIB
    assert long < 8 * MIB
    assert long < short + MIB / 4  # 24 epochs of one score each


@pytest.mark.fault(46)
def test_resuming_keeps_nothing_but_the_last_record_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "journal-rank0.jsonl"
    write_steps(path, 8_000, every=10)
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


MILLION = """
import sys, time
from pathlib import Path
from ptmetrics.record.reader import read_run

start = time.process_time()
run = read_run(sys.argv[1])
print(time.process_time() - start)
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
print(len(run.epochs), len(run.problems), run.left_out["notes"])
"""


@pytest.mark.slow
@pytest.mark.fault(46)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it tells no memory")
def test_a_million_short_lines_are_read_in_ten_seconds_and_500_mib(tmp_path: Path) -> None:
    """Ten seconds of a core on which `json` takes 2.5 µs a line, whatever else the machine does now."""
    path = tmp_path / "journal-rank0.jsonl"
    write_steps(path, 1_000_000, every=1000)
    script = [sys.executable, "-c", MILLION, str(tmp_path)]
    told = subprocess.run(script, capture_output=True, text=True, check=True).stdout.split()
    assert told[2:] == ["1000", "0", str(999_000 - MAX_KEPT)]
    assert int(told[1]) < 500
    with path.open("rb") as file:
        some = file.read(20 * MIB).splitlines()[1:-1]
    start = time.process_time()
    for raw in some:
        json.loads(raw)
    a_line = (time.process_time() - start) / len(some)
    assert float(told[0]) < 10 * a_line / 2.5e-6
