"""Evaluations beside those that close an epoch: read back, superseded, and as rows of the history."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_makers import epoch, score

from ptmetrics.record.history import History, read_history
from ptmetrics.record.journal import Journal
from ptmetrics.record.reader import Run, read_run

END = {"reason": "completed", "epochs": 1, "stopping": None}
SEEN = {
    "answers": 5,
    "answered_rows": 61,
    "unpaired_rows": 0,
    "counted_rows": 61,
    "criterion_calls": 5,
    "losses": 5,
    "passes": 1,
    "pass_rows": [61],
    "loader_rows": None,
    "batch_rows": 12.2,
    "like_probabilities": False,
    "batch_norm": False,
    "criterion": {
        "name": "NLLLoss",
        "reduction": "mean",
        "weighted": False,
        "label_smoothing": 0.0,
    },
    "inputs": "logits",
    "message": "",
    "optimizer_steps": 0,
}


def evaluation(number: int, step: int, value: float = 0.5, **more: Any) -> dict[str, Any]:
    data: dict[str, Any] = {"split": "val", "epoch": number, "step": step, "why": "several"}
    data |= {"scores": {"val/accuracy": score(value)}, "counts": {"val_samples": 61}}
    return data | more


def after(number: int, step: int, accuracy: float = 0.5) -> dict[str, Any]:
    """An epoch that ends at a step."""
    return {
        **epoch(number, val__accuracy=accuracy),
        "counts": {"train_steps_cumulative": step},
        "seen": {"val": SEEN, "test": {}},
    }


def written(folder: Path, *attempts: list[tuple[str, dict[str, Any]]]) -> Run:
    for events in attempts:
        with Journal(folder, resume=True) as journal:
            for kind, data in events:
                journal.append(kind, data)
    return read_run(folder)


def places(run: Run) -> list[tuple[int, int]]:
    return [(data["epoch"], data["step"]) for data in run.evaluations]


def test_evaluations_are_read_back_and_no_epochs(tmp_path: Path) -> None:
    last = evaluation(1, 20, why="after-training")
    run = written(
        tmp_path, [("evaluation", evaluation(0, 5)), ("epoch", after(0, 20)), ("evaluation", last)]
    )
    assert run.evaluations == [evaluation(0, 5), last]
    assert [data["epoch"] for data in run.epochs] == [0]
    assert run.epochs[0]["seen"]["val"] == SEEN
    assert run.last_evaluations == [last]
    assert (run.end, run.end_reason, run.problems) == (None, "completed", [])


def test_a_run_without_its_last_line_is_not_complete_unless_an_evaluation_ends_it(
    tmp_path: Path,
) -> None:
    in_between = written(tmp_path, [("evaluation", evaluation(0, 5)), ("epoch", after(0, 20))])
    assert in_between.end_reason is None
    begun = written(tmp_path, [("evaluation", evaluation(1, 25))])
    assert begun.end_reason is None
    ended = written(tmp_path, [("end", END | {"reason": "interrupted"})])
    assert ended.end_reason == "interrupted"
    untrained = tmp_path / "untrained"
    untrained.mkdir()
    assert written(untrained, [("evaluation", evaluation(0, 0, why="test"))]).end_reason is None


def test_a_later_attempt_supersedes_the_evaluations_behind_its_start(tmp_path: Path) -> None:
    first = [
        ("evaluation", evaluation(0, 5)),
        ("epoch", after(0, 10)),
        ("evaluation", evaluation(1, 15)),
        ("evaluation", evaluation(1, 18)),
    ]
    again = [("evaluation", evaluation(1, 15, 0.9)), ("epoch", after(1, 20))]
    run = written(tmp_path, first, again)
    assert places(run) == [(0, 5), (1, 15)]
    assert run.evaluations[1]["scores"]["val/accuracy"]["value"] == 0.9
    assert read_history(tmp_path)["val/accuracy"] == [0.5, 0.5, 0.9, 0.5]


def test_a_test_pass_of_a_resumed_run_stands_beside_the_one_of_another_split(
    tmp_path: Path,
) -> None:
    first = [("epoch", after(0, 10)), ("evaluation", evaluation(1, 10, why="after-training"))]
    test = evaluation(1, 10, split="test", why="test", scores={"test/accuracy": score(0.7)})
    run = written(tmp_path, first, [("evaluation", test)], [("evaluation", test)])
    assert [data["split"] for data in run.evaluations] == ["val", "test"]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=9), st.integers(0, 3))
def test_what_a_resumed_epoch_leaves_is_all_from_before_it(
    tmp_path_factory: pytest.TempPathFactory, earlier: list[tuple[int, int]], resumed: int
) -> None:
    lines = [("evaluation", evaluation(number, step)) for number, step in sorted(earlier)]
    folder = tmp_path_factory.mktemp("run")
    run = written(folder, [("header", {}), *lines], [("epoch", after(resumed, 9))])
    assert places(run) == [place for place in sorted(earlier) if place[0] < resumed]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"step": -1}, "step is -1"),
        ({"why": None}, "why is NoneType"),
        ({"split": 3}, "split is 3"),
        ({"scores": {"val/accuracy": score(7.0)}}, "such a score goes from 0 to 1"),
        ({"seen": {"val": SEEN | {"answers": -1}}}, "answers is -1"),
        ({"seen": {"val": SEEN | {"pass_rows": [1, "2"]}}}, "pass_rows[1] is '2'"),
    ],
)
def test_an_evaluation_is_checked_as_an_epoch_is(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    run = written(tmp_path, [("header", {}), ("evaluation", evaluation(0, 5) | change)])
    assert run.evaluations == []
    assert words in str(run.problems[0])


# The history


def test_several_validations_of_an_epoch_are_rows_told_apart_by_their_steps(tmp_path: Path) -> None:
    events = [
        ("evaluation", evaluation(0, 0, 0.1, why="before-training")),
        ("evaluation", evaluation(0, 5, 0.2)),
        ("epoch", after(0, 10, 0.3)),
        ("evaluation", evaluation(1, 15, 0.4)),
        ("epoch", after(1, 20, 0.5)),
        ("evaluation", evaluation(2, 25, 0.6)),
        ("evaluation", evaluation(2, 25, 0.9, why="after-training")),
    ]
    written(tmp_path, events)
    history = read_history(tmp_path)
    assert history["val/accuracy"] == [0.2, 0.3, 0.4, 0.5]
    assert history.epoch == [0, 0, 1, 1]
    assert history.step == [5, 10, 15, 20]


def test_the_last_row_is_an_epochs_while_the_run_goes_on() -> None:
    history = History()
    history.append(after(0, 10, 0.3))
    history.append_evaluation(evaluation(1, 15, 0.4))
    history.append_evaluation(evaluation(1, 15, 0.1, why="test"))
    assert history["val/accuracy"] == [0.3]
    history.append(after(1, 20, 0.5))
    assert history["val/accuracy"] == [0.3, 0.4, 0.5]
    history.append(after(1, 20, 0.6))  # written again: what came in front of it goes with it
    assert history["val/accuracy"] == [0.3, 0.6]


def test_what_was_measured_at_one_step_is_one_row() -> None:
    history = History()
    history.append_evaluation(evaluation(0, 5, 0.2))
    other = evaluation(0, 5, split="ema", scores={"ema/accuracy": score(0.8)})
    history.append_evaluation(other)
    history.append_evaluation(evaluation(0, 10, 0.4))  # a pass right before the last one
    history.append(after(0, 10, 0.5))
    assert history["val/accuracy"] == [0.2, 0.5]
    assert history["ema/accuracy"][0] == 0.8
    assert math.isnan(history["ema/accuracy"][1])
