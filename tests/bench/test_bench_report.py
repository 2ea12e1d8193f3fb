"""Each bar is read off the results: met, missed by how much and why, or not measured."""

from dataclasses import replace

import pytest

from ptmetrics.bench import report
from ptmetrics.bench.curves import CurveRow
from ptmetrics.bench.loops import EPOCH, LoopRow
from ptmetrics.bench.report import (
    BARS,
    MLP,
    RESNET,
    Bar,
    Results,
    added_us,
    bar_text,
    benchmarks_page,
)
from ptmetrics.bench.updates import UpdateRow

ONE = (1.0, 1.0, 1.0)
SETTING = {
    "command": "ptmetrics bench", "machine": "m", "cores": 2, "threads": 1, "load": "0.0", "python": "3", "torch": "2",
    "ptmetrics": "0", "device": "cpu", "peers": {}, "not_installed": [], "scores": 10_000_000,
}  # fmt: skip


def row(section: str, side: str, ratio: float) -> UpdateRow:
    return UpdateRow(section, side, ONE, (ratio, ratio, ratio), 1.0)


def watched(loop: str, phase: str, side: str, added_us: float, end_us: float) -> LoopRow:
    return LoopRow(
        loop, phase, side, (1000.0, 1000.0, 1000.0), added_us, added_us / 1000, ONE, end_us
    )


FULL = "multiclass, full set (25 scores)"
RESULTS = Results(
    SETTING,
    updates=(
        *(row(f"{FULL}, {size}", "torchmetrics", ratio)
          for size, ratio in (("64 x 10", 20.0), ("256 x 1000", 30.0), ("1024 x 1000", 9.0))),
        row("confusion, accuracy, P, R, F1, 256 x 1000", "logits.max(1) alone", 0.8),
    ),
    curves=(CurveRow("torchmetrics", ONE, (40.0, 40.0, 40.0), (0, 0), None),),
    loops=tuple(
        watched(loop, phase, side, added, end)
        for loop in (RESNET, MLP)
        for phase in EPOCH
        for side, added, end in (("bare loop", 0.0, 0.0), ("ptmetrics", 10.0, 61.0), ("torchmetrics", 100.0, 610.0))
    ),
)  # fmt: skip
WANTED = [20.0, 30.0, 9.0, 1.25, 40.0, 0.01, 0.01, 0.01, 0.1]


def test_every_bar_is_read_off() -> None:
    assert [bar.measure(RESULTS) for bar in BARS] == pytest.approx(WANTED)
    met = [bar.met(value) for bar, value in zip(BARS, WANTED, strict=True)]
    assert met == [False, True, False, False, True, True, True, True, True]


def test_an_epoch_is_all_its_batches_and_one_end() -> None:
    assert added_us(RESULTS, MLP, "ptmetrics") == (782 + 157) * 10 + 61
    assert added_us(RESULTS, "another loop", "ptmetrics") is None


def test_a_bar_that_was_not_measured_has_no_number() -> None:
    nothing = Results(SETTING)
    assert [bar.measure(nothing) for bar in BARS] == [None] * len(BARS)
    assert all(line.endswith("not measured in this run") for line in bar_text(nothing))
    fewer = replace(RESULTS, setting=SETTING | {"scores": 1000})
    assert sum(bar.measure(fewer) is None for bar in BARS) == 1, (
        "curves of fewer scores are another measurement"
    )
    half_a_loop = replace(RESULTS, loops=RESULTS.loops[:3])
    assert BARS[-1].measure(half_a_loop) is None


def test_the_page_says_by_how_much_a_bar_is_missed_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    missed = replace(BARS[2], why="memory is read three times")
    unexplained = replace(BARS[3], why="")
    monkeypatch.setattr(report, "BARS", (*BARS[:2], missed, unexplained, *BARS[4:]))
    page = "\n".join(benchmarks_page(RESULTS))
    assert "torchmetrics over ours | ≥ 10 x | 30 x | met |" in page
    assert "torchmetrics over ours | ≥ 10 x | 9 x | **missed** by a factor of 1.11 |" in page
    assert (
        "ours over `logits.max(1)` alone | ≤ 1 x | 1.25 x | **missed** by a factor of 1.25 |"
        in page
    )
    assert f"{missed.what}: memory is read three times" in page
    assert f"{BARS[3].what}: not looked into yet." in page
    assert "MISSED by a factor of 1.11" in "\n".join(bar_text(RESULTS))


def test_a_share_is_told_in_percent() -> None:
    bar = Bar("hooks", 0.01, False, lambda results: 0.0123, percent=True)
    assert (bar.text(0.0123), bar.met(0.0123), bar.missed_by(0.0123)) == (
        "1.23 %",
        False,
        pytest.approx(1.23),
    )
