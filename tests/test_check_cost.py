"""`ptmetrics check` costs calls in proportion to the record's epochs, on any machine."""

import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import pytest

import ptmetrics.verdict
from ptmetrics.cli import main
from tests.verdict.judged_sources import losses, written

VERDICT = str(Path(ptmetrics.verdict.__file__).parent)


def calls_of_check(run: Path) -> Counter[str]:
    """Python functions that one check calls, in all and in `verdict/`; exact, unlike a time."""
    counted: Counter[str] = Counter()

    def count(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            counted["all"] += 1
            counted["verdict"] += frame.f_code.co_filename.startswith(VERDICT)

    sys.setprofile(count)
    try:
        main(["check", str(run)])
    finally:
        sys.setprofile(None)
    return counted


def test_twice_the_epochs_take_about_twice_the_calls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short, long = (
        written(tmp_path / str(n), losses([0.5] * n, [0.4] * n, matrix=[[950, 50], [50, 950]]))
        for n in (60, 120)
    )
    calls_of_check(short)  # imports
    few, many = calls_of_check(short), calls_of_check(long)
    assert few["all"] > 60
    assert many["all"] <= 2.1 * few["all"]
    assert 120 < many["verdict"] <= 120 * 30
