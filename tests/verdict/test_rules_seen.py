"""Rows that went by uncounted, splits whose rows change, and faults that do not touch validation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged_sources import GOOD, Recorded, codes, epoch, loss, written

from ptmetrics.record.journal import Journal
from ptmetrics.verdict.finding import Finding
from ptmetrics.verdict.judge import judge

TRAIN = {"train/loss": loss(0.3)}


def found(source: Any, code: str) -> Finding:
    (finding,) = (item for item in judge(source).findings if item.code == code)
    return finding


def answered(rows: int, counted: int = 0, **more: Any) -> dict[str, Any]:
    seen = {"answers": 3, "answered_rows": rows, "counted_rows": counted, "criterion_calls": 0}
    return seen | {"unpaired_rows": rows - counted} | more


def validated(*each: Mapping[str, Any], **more: Any) -> Recorded:
    """A good run with this to tell of its validation in each epoch."""
    rows = [
        epoch(i, dict(TRAIN), matrix=GOOD, seen={"val": dict(seen)}) for i, seen in enumerate(each)
    ]
    return Recorded(rows, **more)


HEALTHY = answered(2000, 2000, criterion_calls=3, passes=1, pass_rows=[2000])


@pytest.mark.parametrize("scores", [TRAIN, {}])
def test_a_validation_of_which_nothing_was_counted_is_invalid(
    tmp_path: Path, scores: dict[str, Any]
) -> None:
    run = Recorded([epoch(i, dict(scores), seen={"val": answered(614)}) for i in range(2)])
    for source in (run, written(tmp_path / "run", run)):
        verdict = judge(source)
        assert verdict.status == "invalid"
        finding = found(source, "not-counted")
        assert finding.severity == "invalid"
        assert "the model answered 614 rows, 0 were counted: no criterion was called" in str(
            finding
        )
        assert "monitor.validate(loader)" in finding.advice
        assert finding.evidence["answered_rows"] == 614


def test_a_validation_that_was_counted_is_not_spoken_of() -> None:
    verdict = judge(validated(HEALTHY, HEALTHY))
    assert verdict.status == "ready"
    assert codes(verdict) == set()


def test_the_words_of_the_console_name_the_cause() -> None:
    told = "val: the model answered 50 rows, 0 were counted: two batches wait. Use update()."
    run = Recorded([epoch(0, {}, seen={"val": answered(50, message=told, answered_rows=0)})])
    message = found(run, "not-counted").message
    assert message == "val: the model answered 3 batches, 0 were counted: two batches wait."
    run.epochs[0]["seen"]["val"]["message"] = "val: 50 rows of 2 passes were counted as one."
    assert found(run, "not-counted").message.endswith("0 were counted: no criterion was called.")


def test_a_part_that_was_not_counted_is_a_warning() -> None:
    part = answered(2000, 1700, criterion_calls=3)
    verdict = judge(validated(HEALTHY, part))
    finding = found(validated(HEALTHY, part), "not-counted")
    assert (finding.severity, verdict.status) == ("warning", "ready")
    for number in ("2,000", "300", "1,700"):
        assert number in finding.message
    whole = part | {"loader_rows": 1700}  # the rest were no rows of the loader
    assert "not-counted" not in codes(judge(validated(HEALTHY, whole)))


def test_an_epoch_that_is_not_judged_is_a_warning() -> None:
    run = validated(HEALTHY, HEALTHY)
    run.epochs.append(epoch(2, {}, seen={"val": answered(81)}))
    finding = found(run, "not-counted")
    assert finding.severity == "warning"
    assert "1 of 3 epochs" in finding.message
    assert "81 rows in epoch 3" in finding.message


@pytest.mark.parametrize(
    ("split", "scores", "said"),
    [
        ("train", {}, True),
        ("train", TRAIN, False),  # its loss is there, more is not asked of it
        ("test", {}, True),
        ("ema", {"ema/accuracy": loss(0.9)}, False),
    ],
)
def test_another_split_without_loss_or_scores_is_a_warning(
    split: str, scores: dict[str, Any], said: bool
) -> None:
    seen = {"val": HEALTHY, split: answered(84)}
    run = Recorded([epoch(0, dict(scores), matrix=GOOD, seen=seen)])
    verdict = judge(run)
    assert verdict.status == "ready"
    assert ("not-counted" in codes(verdict)) == said
    if said:
        assert f"{split}: the model answered 84 rows" in found(run, "not-counted").message


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=4))
def test_a_run_is_invalid_for_it_just_where_no_epoch_was_counted(
    each: list[tuple[int, int]],
) -> None:
    rows = []
    for i, (rows_answered, counted) in enumerate(each):
        seen = answered(rows_answered, min(counted, rows_answered), answers=rows_answered)
        more = {"matrix": GOOD} if seen["counted_rows"] else {}
        rows.append(epoch(i, {}, seen={"val": seen}, **more))
    run = Recorded(rows)
    answers = any(seen for seen, _ in each)
    counted = any(min(pair) for pair in each)
    invalid = [
        item
        for item in judge(run).findings
        if item.code == "not-counted" and item.severity == "invalid"
    ]
    assert bool(invalid) == (answers and not counted)


def test_a_record_that_does_not_tell_what_was_seen_says_nothing() -> None:
    assert codes(judge(Recorded([epoch(i, {}, matrix=GOOD) for i in range(3)]))) == set()


def test_rows_that_were_counted_by_a_metric_without_scores_are_counted() -> None:
    run = Recorded([epoch(0, {}, seen={"val": answered(70, 70, unpaired_rows=0)})])
    assert codes(judge(run)) == {"not-validated"}


# The rows of a split


def sized(*rows: int) -> Recorded:
    run = validated(*[HEALTHY] * len(rows))
    for data, count in zip(run.epochs, rows, strict=True):
        data["counts"]["val_samples"] = count
    return run


def test_a_validation_whose_rows_change_is_told_with_all_numbers() -> None:
    finding = found(sized(812, 812, 190), "validation-changed")
    assert finding.severity == "warning"
    assert finding.message == (
        "val: 812 rows in 2 epochs, 190 rows in 1 epoch; judged are 190. "
        "Curves are compared over 1 of 3 epochs."
    )
    assert codes(judge(sized(812, 812, 812))) == set()
    assert codes(judge(sized(812, 0, 812))) == set()  # validated every other epoch


def test_many_sizes_are_counted() -> None:
    assert (
        "and 6 other numbers; judged are 109."
        in found(sized(*range(100, 110)), "validation-changed").message
    )


@pytest.mark.parametrize(
    ("seen", "severity"),
    [
        ({"passes": 2, "pass_rows": [870, 130]}, "undetermined"),
        ({"passes": 2, "pass_rows": [870, 130], "loader_rows": 130}, "warning"),
        ({"passes": 3, "pass_rows": [130, 130, 130]}, None),
        ({"passes": 1, "pass_rows": [130]}, None),
        ({}, None),
    ],
)
def test_unlike_passes_are_told_and_which_counts_is_open_where_hooks_alone_tell(
    seen: dict[str, Any], severity: str | None
) -> None:
    run = validated(HEALTHY | {"counted_rows": 130, "pass_rows": []} | seen)
    if severity is None:
        assert codes(judge(run)) == set()
        return
    finding = found(run, "split-changed")
    assert finding.severity == severity
    assert "2 passes of 870 and 130 rows in one epoch; the last counts" in finding.message
    assert judge(run).status == {"undetermined": "undetermined", "warning": "ready"}[severity]


@pytest.mark.parametrize("rows", [[870, 130], [500, 500]])
def test_passes_that_were_counted_as_one_leave_the_verdict_open(rows: list[int]) -> None:
    seen = HEALTHY | {"counted_rows": 1000, "passes": 2, "pass_rows": rows, "loader_rows": 500}
    finding = found(validated(seen), "split-changed")
    assert finding.severity == "undetermined"
    assert f"2 passes of {rows[0]} and {rows[1]} rows in one epoch were counted as one" in str(
        finding
    )


def test_a_short_validation_in_the_middle_of_an_epoch_does_not_leave_it_open(
    tmp_path: Path,
) -> None:
    seen = HEALTHY | {"passes": 2, "pass_rows": [130, 2000]}
    run = validated(seen)
    short = {"split": "val", "epoch": 0, "step": 50, "why": "several", "scores": {}}
    for step, severity in ((50, "warning"), (100, "undetermined")):  # 100 is the epoch's end
        folder = tmp_path / str(step)
        folder.mkdir()
        with Journal(folder) as journal:
            journal.append("evaluation", short | {"step": step})
            journal.append("epoch", run.epochs[0])
        assert found(folder, "split-changed").severity == severity


@pytest.mark.parametrize(
    ("answered_rows", "counted", "said"),
    [
        (1070, 1070, True),
        (500, 500, False),
        (1000, 500, False),  # two augmented copies of each row
        (500, 4000, False),  # eight tokens a row
        (1000, 1130, False),  # two copies, of which each is several rows
        (1070, 4000, False),  # eight tokens a row, and answers without targets
    ],
)
def test_more_rows_than_the_loader_holds_are_told(
    answered_rows: int, counted: int, said: bool
) -> None:
    seen = HEALTHY | {"answered_rows": answered_rows, "counted_rows": counted, "loader_rows": 500}
    verdict = judge(validated(seen | {"unpaired_rows": 0}))
    assert ("split-changed" in codes(verdict)) == said
    if said:
        finding = found(validated(seen | {"unpaired_rows": 0}), "split-changed")
        assert finding.message == "val: 1,070 rows were counted, but the loader holds 500."


# Faults that touch no validation


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ({"where": "update", "split": "train"}, "ready"),
        ({"where": "update", "split": "test"}, "ready"),
        ({"where": "compute train"}, "ready"),
        ({"where": "compute train/depth"}, "ready"),
        ({"where": "update", "split": "val"}, "undetermined"),
        ({"where": "compute val"}, "undetermined"),
        ({"where": "update", "split": None}, "undetermined"),
        ({"where": "update"}, "undetermined"),  # nobody knows where
    ],
)
def test_a_fault_leaves_the_verdict_open_only_where_validation_may_be_touched(
    fault: dict[str, Any], status: str
) -> None:
    line = {"message": "boom", "count": 17, "epoch": 0, "step": 3, **fault}
    run = Recorded([epoch(i, {}, matrix=GOOD) for i in range(2)], faults=[line])
    assert judge(run).status == status
    finding = found(run, "metric-faults")
    assert finding.severity == {"ready": "warning"}.get(status, status)
    assert finding.message.startswith("1 kind of fault")
    assert finding.evidence["faults"] == [f"{fault['where']}: boom (17 times)"]


def test_a_fault_of_validation_is_named_before_those_elsewhere() -> None:
    bad = {"bad-weight": {"count": 2, "first_step": 0, "message": "2 weights"}}
    run = Recorded([epoch(0, {}, matrix=GOOD, faults={"train": bad, "val": bad})])
    assert judge(run).status == "undetermined"
    assert "first: epoch 1, val: 2 weights" in found(run, "metric-faults").message


# Evaluations behind the last epoch


def test_an_evaluation_after_training_completes_a_run_and_is_named(tmp_path: Path) -> None:
    run = validated(HEALTHY, end=None)
    folder = written(tmp_path / "run", run)
    assert any("has no end" in note for note in judge(folder).notes)
    with Journal(folder, resume=True) as journal:
        data = {"split": "test", "epoch": 1, "step": 100, "why": "test", "scores": {}}
        journal.append("evaluation", data | {"counts": {"test_samples": 77}})
    notes = " ".join(judge(folder).notes)
    assert "has no end" not in notes
    assert "Evaluated behind the last epoch, and not judged: split test, 77 samples." in notes
