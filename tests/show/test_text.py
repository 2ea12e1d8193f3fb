"""Runs, verdicts and comparisons as text: what must be seen is there, whatever the names are."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import ptmetrics as pm
from ptmetrics.cli import main
from ptmetrics.matrix import judge_confusion
from ptmetrics.record.reader import read_run
from ptmetrics.show.opinion import comparison_text, ratio_text, saving, verdict_text
from ptmetrics.show.paint import colour, plain
from ptmetrics.show.tables import clip, confused_pairs, confusion_lines, score_line, score_lines
from ptmetrics.verdict.compare import compare
from ptmetrics.verdict.finding import Criterion, Finding, Verdict
from ptmetrics.verdict.judge import judge
from ptmetrics.verdict.time_to_target import Ratio
from tests.recorded_runs import write_run


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "good")


def test_the_score_table_shows_each_score_with_its_interval(good: Path) -> None:
    table = plain.join(score_lines(read_run(good).epochs[-1], "val"))
    assert "accuracy              0.9600  [0.9460, 0.9705]" in table
    assert table.splitlines()[-1].split() == ["dog", "0.9600", "0.9600", "0.9600", "500"]


@pytest.mark.parametrize("axes", [1, 3])
def test_classes_of_pixels_have_the_overlap_that_is_judged(axes: int, tmp_path: Path) -> None:
    target = torch.zeros((30, 4, 4)[:axes], dtype=torch.long)
    target[:10] = 1
    preds = target.clone()
    preds[:5] = 0
    metrics = pm.MulticlassMetrics(2, inputs="labels")
    with pm.Monitor(metrics, tmp_path / "run", progress=False) as monitor:
        monitor.update(preds, target, split="val")
        monitor.end_epoch()
    lines = plain.join(score_lines(read_run(tmp_path / "run").epochs[-1], "val")).splitlines()
    (head,) = [line.split() for line in lines if line.startswith("class ")]
    last = dict(zip(head, lines[-1].split(), strict=True))
    assert last.get("iou") == (None if axes == 1 else "0.5000")


def test_the_confusion_matrix_has_actual_rows_and_dots_for_nothing(good: Path) -> None:
    epoch = read_run(good).epochs[-1]
    epoch["confusion"]["val"] = [[500, 0], [40, 460]]
    rows = plain.join(confusion_lines(epoch, "val")).splitlines()
    assert rows[-2].split() == ["cat", "│", "500", "·"]
    assert rows[-1].split() == ["dog", "│", "40", "460"]


def test_a_matrix_too_large_for_a_screen_becomes_its_worst_pairs() -> None:
    names = [f"class{i}" for i in range(30)]
    matrix = [[10 * (i == j) for j in range(30)] for i in range(30)]
    matrix[3][7], matrix[4][5] = 9, 2
    assert list(confused_pairs(matrix, names))[1:] == [
        "       9 × class3 taken for class7",
        "       2 × class4 taken for class5",
    ]


def test_a_matrix_that_is_missing_is_not_said_to_be_too_large() -> None:
    none: Any = {"epoch": 0, "scores": {}}
    assert list(confusion_lines(none, "val")) == ["confusion matrix: not recorded"]
    (line,) = confusion_lines(none | {"class_names": ["a"] * 2000, "confusion": {}}, "val")
    assert line == "confusion matrix: not recorded, there are too many classes"


def test_an_undefined_score_says_why() -> None:
    score: Any = {"value": math.nan, "low": math.nan, "high": math.nan, "n": 0, "reason": "none"}
    (line,) = score_line("f1  ", score)
    assert plain.join([line]).split() == ["f1", "nan", "none"]


def _regression_epoch(mae: float, n: int) -> Any:
    def score(value: float) -> Any:
        return {"value": value, "low": 0.9 * value, "high": 1.1 * value, "n": n}

    return {"epoch": 0, "scores": {"val/r2": score(0.5), "val/mae": score(mae)}}


@pytest.mark.parametrize(("mae", "n"), [(0.25, 900), (12_345.6, 4_000_000), (3e8, 90_000)])
def test_columns_of_the_score_table_stand_in_line_whatever_the_unit(mae: float, n: int) -> None:
    head, *lines = plain.join(score_lines(_regression_epoch(mae, n), "val")).splitlines()
    assert len({line.index("[") for line in [head.replace("95", "[5"), *lines]}) == 1
    assert len({len(line) for line in [head, *lines]}) == 1
    assert all(line.endswith(f" {n:,}") for line in lines)


def test_a_long_name_is_cut() -> None:
    assert clip("x" * 40, 16) == "x" * 15 + "…"
    assert clip("x" * 16, 16) == "x" * 16


def test_a_verdict_shows_value_interval_threshold_and_state(good: Path) -> None:
    text = verdict_text(judge(good))
    assert text.startswith("Verdict: READY")
    line = next(
        line
        for line in text.splitlines()
        if " accuracy " in line and ">=" in line and "above" not in line
    )
    assert line.split() == ["✓", "met", "accuracy", "0.9600", "[0.9460,", "0.9705]", ">=", "0.85"]


def test_a_failed_verdict_gives_advice(tmp_path: Path) -> None:
    text = verdict_text(judge(write_run(tmp_path / "bad", [0.5] * 4)))
    assert "Verdict: NOT READY" in text
    assert "→" in text


def test_what_was_found_is_said_to_be_explained_in_one_line_and_a_ready_verdict_is_not(
    good: Path, tmp_path: Path
) -> None:
    verdict = judge(write_run(tmp_path / "bad", [0.5] * 4))
    text = " ".join(verdict_text(verdict).split())
    assert text.count("ptmetrics check --explain CODE") == 1
    told = text.partition("docs/rules.md: ")[2].partition(" · ")[0].split(", ")
    assert sorted(told) == sorted({finding.code for finding in verdict.findings})
    assert all(main(["check", "--explain", code]) == 0 for code in told)
    assert "--explain" not in verdict_text(judge(good))


def test_of_many_weak_classes_the_worst_are_told_and_the_rest_is_counted() -> None:
    matrix = [[100 * (i == j) for j in range(64)] for i in range(64)]
    for k in range(20):
        matrix[k][k], matrix[k][63] = 19 - k, 81 + k
    verdict = judge_confusion(matrix)
    weak = [finding for finding in verdict.findings if finding.code == "weak-class"]
    text = verdict_text(verdict)
    told = [line for line in text.splitlines() if "fail weak-class:" in line]
    assert len(weak) == 20
    assert len(told) == 4
    assert told[-1].startswith("  fail weak-class: and 17 more of these")
    assert text.count(weak[0].advice) == 1
    assert all(f": {found} of 100 found" in told[found] for found in range(3))


def test_a_few_findings_of_one_code_are_told_one_by_one() -> None:
    several = tuple(
        Finding("odd", "warning", f"Number {i}.", advice=f"Cure {i % 2}.") for i in range(3)
    )
    text = verdict_text(Verdict("ready", several, (), "mine"))
    assert all(f"warning odd: Number {i}." in text for i in range(3))
    assert "more of these" not in text
    assert text.count("→ Cure 0.") == text.count("→ Cure 1.") == 1


def test_errors_in_any_unit_are_shown_with_their_digits() -> None:
    criteria = tuple(
        Criterion("rmse", v, 0.9 * v, 1.1 * v, 100, 2 * v, "<=", "met")
        for v in (1e-5, 0.5, 123_456.0)
    )
    lines = verdict_text(Verdict("ready", (), criteria, "mine")).splitlines()[1:]
    assert [line.split()[3:6] for line in lines] == [
        ["1.00e-05", "[9.00e-06,", "1.10e-05]"],
        ["0.5000", "[0.4500,", "0.5500]"],
        ["123,456", "[111,110,", "135,802]"],
    ]


def test_what_would_settle_an_open_criterion_is_said() -> None:
    open_ = Criterion("recall", 0.9, 0.8, 1.0, 50, 0.85, ">=", "undetermined", needed_n=1234)
    reasoned = Criterion("mcc", 0.9, 0.8, math.inf, 50, 0.85, ">=", "undetermined", reason="why")
    lines = verdict_text(Verdict("undetermined", (), (open_, reasoned), "mine")).splitlines()
    assert lines[1].endswith("0.85  (settled at n = 1,234)")
    assert lines[2].split()[3:6] == ["0.9000", "[0.8000,", "∞]"]
    assert lines[2].endswith("(why)")


def test_time_saved_is_bounded_only_where_some_is_saved_for_sure() -> None:
    def said(value: float, high: float) -> str:
        return saving(Ratio(value, 0.1, high, None, "how", None))

    assert said(0.5, 0.8) == "50 % less training time, at least 20 % (how)"
    assert said(0.5, 1.2) == "50 % less training time (how)"
    assert said(1.5, math.inf) == "50 % more training time (how)"


def test_hits_and_errors_of_a_matrix_are_painted_otherwise() -> None:
    epoch: Any = {"class_names": ["cat", "dog"], "confusion": {"val": [[5, 2], [0, 7]]}}
    *_, cat, dog = colour.join(confusion_lines(epoch, "val")).splitlines()
    assert "\x1b[32m  5\x1b[0m \x1b[31m  2\x1b[0m" in cat
    assert "\x1b[2m  ·\x1b[0m \x1b[32m  7\x1b[0m" in dog


def test_colour_is_for_terminals_and_adds_nothing_to_the_words(good: Path) -> None:
    verdict = judge(good)
    painted = verdict_text(verdict, colour)
    assert "\x1b[32mREADY\x1b[0m" in painted
    for code in ("\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[1m", "\x1b[2m", "\x1b[0m"):
        painted = painted.replace(code, "")
    assert painted == verdict_text(verdict, plain)


def test_a_comparison_says_what_is_saved_and_where_both_stood(tmp_path: Path) -> None:
    fast = write_run(tmp_path / "fast", [0.95] * 8)
    slow = write_run(tmp_path / "slow", [0.5] * 4 + [0.95] * 4)
    comparison = compare(fast, slow, target="val/accuracy>=0.9")
    text = comparison_text(comparison, "fast", "slow")
    assert "Training time to val/accuracy>=0.9, fast / slow: 0.2" in text
    assert "less training time" in text
    assert "After " in text
    assert "pre-training itself is not counted" in text


@pytest.mark.parametrize("reached", [True, False])
def test_runs_that_cannot_be_compared_are_told_so_first_and_nothing_is_saved(
    tmp_path: Path, reached: bool
) -> None:
    late = 0.5 + 0.45 * reached
    fast = read_run(write_run(tmp_path / "fast", [0.95] * 8))
    slow = read_run(write_run(tmp_path / "slow", [0.5] * 4 + [late] * 4))
    for run, name in ((fast, "a"), (slow, "b")):
        run.header["val_fingerprint"] = name
    comparison = compare(fast, slow, target="val/accuracy>=0.9")
    for text in (comparison_text(comparison, "fast", "slow"), str(comparison)):
        first, second = text.splitlines()[:2]
        assert first.startswith("INVALID: The runs were validated on different data")
        assert second.startswith("Training time to val/accuracy>=0.9")
        assert "less training time" not in text
        assert "% less" not in text


def test_a_scratch_arm_that_never_arrives_gives_a_bound_and_no_number(tmp_path: Path) -> None:
    fast = write_run(tmp_path / "fast", [0.5, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95])
    slow = write_run(tmp_path / "slow", [0.5] * 8)
    ratio = compare(fast, slow, target="val/accuracy>=0.9").time_ratio
    assert ratio.censored == "second"
    assert saving(ratio).startswith("at least 7")
    assert "never reached the target" in ratio_text(ratio)


def test_slices_stand_below_the_classes_worst_first_and_an_empty_one_last() -> None:
    column = {
        "value": [0.5, math.nan],
        "low": [0.4, math.nan],
        "high": [0.6, math.nan],
        "n": [90, 0],
        "method": "wilson",
    }
    slices = {
        "by": "accuracy",
        "names": ["south", "unused"],
        "filled": 1,
        "scores": {"accuracy": column},
    }
    epoch: Any = {"epoch": 0, "scores": {}, "per_slice": {"val": slices}}
    assert plain.join(score_lines(epoch, "val")).splitlines()[-3:] == [
        "slice, worst first    accuracy",
        "south                 0.5000  [0.4000, 0.6000]      90",
        "unused                   nan  nothing to count",
    ]
