"""A real process journals, tells each record it has appended over a pipe, and is ended without warning."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ptmetrics.record.reader import read_run

WRITER = """
import os, signal, sys
from pathlib import Path
from ptmetrics.record.journal import Journal

folder, how, stop = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
journal = Journal(folder, resume=True)
index = 0
while True:
    if index == stop:
        if how == "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
        if how == "_exit":
            os._exit(3)
        if how == "exception":
            raise ValueError("the loop failed")
        if how == "sys.exit":
            sys.exit(3)
    message = f"{journal.attempt}.{index}"
    if index % 3:
        journal.append("note", {"code": "step", "message": message, "load": "x" * (index * 997 % 20_000)})
    else:
        scores = {"val/accuracy": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}}
        journal.append("epoch", {"epoch": index // 3, "scores": scores, "message": message})
    print(message, flush=True)
    index += 1
"""


def acknowledged(
    folder: Path, how: str, *, stop: int, kill_after: int | None = None
) -> tuple[list[str], int]:
    """Run the writer to its end; return what it has acknowledged and its exit status."""
    command = [sys.executable, "-c", WRITER, str(folder), how, str(stop)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as writer:
        assert writer.stdout
        told = [writer.stdout.readline().strip() for _ in range(kill_after or 0)]
        if kill_after is not None:
            writer.kill()
        told += writer.stdout.read().split()
    return told, writer.returncode


def recorded(folder: Path) -> set[str]:
    run = read_run(folder)
    data: list[Any] = [*run.notes, *run.epochs, *run.superseded]
    return {kept["message"] for kept in data}


@pytest.mark.fault(38)
@pytest.mark.parametrize("kills", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_no_acknowledged_record_is_lost_over_many_kills_of_one_run(
    tmp_path: Path, kills: int
) -> None:
    told: list[str] = []
    for kill in range(kills):
        acks, status = acknowledged(tmp_path, "SIGKILL", stop=-1, kill_after=1 + kill * 7 % 23)
        assert status == -signal.SIGKILL
        told += acks
    assert set(told) <= recorded(tmp_path)
    # At most the record that was under way is there beyond those, and at most its line is torn.
    assert len(recorded(tmp_path) - set(told)) <= kills
    run = read_run(tmp_path)
    assert run.attempts == kills
    assert len(run.problems) <= kills
    assert run.end is None


@pytest.mark.fault(38)
@pytest.mark.parametrize(
    ("how", "status"),
    [("SIGTERM", -signal.SIGTERM), ("_exit", 3), ("exception", 1), ("sys.exit", 3)],
)
def test_no_record_is_lost_when_the_loop_ends_without_closing(
    tmp_path: Path, how: str, status: int
) -> None:
    told, got = acknowledged(tmp_path, how, stop=40)
    assert got == status
    assert len(told) == 40
    assert recorded(tmp_path) == set(told)
    assert read_run(tmp_path).problems == []
