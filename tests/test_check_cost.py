"""`ptmetrics check` costs calls in proportion to the record's epochs, on any machine."""

import sys
from pathlib import Path

import pytest

from ptmetrics.cli import main
from tests.recorded_runs import write_run


def calls_of_check(run: Path) -> int:
    """Python functions that one check calls; exact, where a time would waver."""
    counted = [0]

    def count(frame: object, event: str, argument: object) -> None:
        counted[0] += event == "call"

    sys.setprofile(count)
    try:
        main(["check", str(run)])
    finally:
        sys.setprofile(None)
    return counted[0]


def test_twice_the_epochs_take_about_twice_the_calls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short, long = (
        write_run(tmp_path / str(n), [0.9 + 0.05 * i / n for i in range(n)]) for n in (60, 120)
    )
    calls_of_check(short)  # imports
    few, many = calls_of_check(short), calls_of_check(long)
    assert few > 60
    assert many <= 2.1 * few
