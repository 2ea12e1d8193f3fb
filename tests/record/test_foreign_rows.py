"""From rows to validations: several in an epoch, runs appended and resumed, gaps, the best checkpoint."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ptmetrics as pm
from ptmetrics.cli import main
from ptmetrics.errors import ConfigError, RecordError
from ptmetrics.record import foreign_events
from ptmetrics.record.foreign_csv import read_csv
from ptmetrics.record.foreign_epochs import ForeignLog, read_log
from ptmetrics.record.foreign_json import read_json
from ptmetrics.record.foreign_table import digits_of, number_of
from ptmetrics.record.reader import read_run


def csv_log(*lines: str) -> ForeignLog:
    return read_log(read_csv("log", "\n".join(lines)))


def json_log(content: Any) -> ForeignLog:
    return read_log(read_json("log", json.dumps(content)))


def lines_log(*rows: dict[str, Any]) -> ForeignLog:
    return read_log(read_json("log", "\n".join(map(json.dumps, rows))))


def curve(log: ForeignLog, name: str) -> list[float | None]:
    """A score, one a row; None where a row has none."""
    return [
        epoch["scores"][name]["value"] if name in epoch["scores"] else None for epoch in log.epochs
    ]


def numbers(log: ForeignLog) -> list[int]:
    return [epoch["epoch"] for epoch in log.epochs]


def noted(log: ForeignLog, words: str) -> bool:
    return any(words in note for note in log.notes)


# The order of rows


@pytest.mark.parametrize("order", [[3, 2, 1, 0], [0, 2, 1, 3], [3, 0, 1, 2]])
@pytest.mark.parametrize("first", [0, 1])
def test_rows_that_somebody_sorted_are_put_into_the_order_of_their_epochs(
    order: list[int], first: int
) -> None:
    """Such as by the best score, or the newest in front: no epoch stands twice, so none began again."""
    losses = [0.9, 0.7, 0.5, 0.6]
    log = csv_log("epoch,loss,val_loss", *(f"{e + first},{losses[e]},{losses[e]}" for e in order))
    assert numbers(log) == [0, 1, 2, 3]
    assert curve(log, "val/loss") == losses
    assert noted(log, "were not in the order of their epochs")
    straight = csv_log("epoch,val_loss", *(f"{e + first},{losses[e]}" for e in range(4)))
    assert not noted(straight, "order of their epochs")


def test_an_epoch_that_stands_in_two_places_began_again() -> None:
    log = csv_log("epoch,val_loss", "0,0.9", "1,0.7", "2,0.6", "1,0.65", "2,0.5")
    assert curve(log, "val/loss") == [0.9, 0.65, 0.5]
    assert noted(log, "resumed")


# Several validations an epoch


def test_validations_of_an_epoch_are_kept_by_step_and_training_between_them_is_averaged() -> None:
    log = csv_log(
        "epoch,step,loss,val_loss",
        *("0,10,4.0,", "0,20,2.0,", "0,20,,1.0", "0,30,1.5,", "0,40,,0.9", "1,60,1.0,0.8"),
    )
    assert curve(log, "val/loss") == [1.0, 0.9, 0.8]
    assert curve(log, "train/loss") == [3.0, 1.5, 1.0]
    assert numbers(log) == [0, 0, 1]
    assert [epoch["counts"]["train_steps_cumulative"] for epoch in log.epochs] == [20, 40, 60]


@given(
    st.lists(st.lists(st.integers(1, 999), min_size=1, max_size=4), min_size=1, max_size=6),
    st.booleans(),
)
def test_no_validation_is_lost_and_their_order_stays(
    epochs: list[list[int]], stepped: bool
) -> None:
    if not stepped and len({len(epoch) for epoch in epochs}) > 1:
        stepped = True  # without a step, epochs that stand again are told by how many do
    lines = []
    step = 0
    for number, losses in enumerate(epochs):
        for loss in losses:
            step += 10
            lines.append(f"{number},{step},{loss / 1000}" if stepped else f"{number},{loss / 1000}")
    header = "epoch,step,val_loss" if stepped else "epoch,val_loss"
    log = csv_log(header, *lines)
    flat = [(number, loss / 1000) for number, losses in enumerate(epochs) for loss in losses]
    assert list(zip(numbers(log), curve(log, "val/loss"), strict=True)) == flat


def test_training_after_the_last_validation_of_an_epoch_stays_in_it() -> None:
    log = csv_log("epoch,step,loss,val_loss", "0,10,1.0,0.5", "0,20,3.0,", "1,30,1.0,0.4")
    assert curve(log, "train/loss") == [2.0, 1.0]


def test_steps_that_count_within_an_epoch_are_no_steps_of_the_run() -> None:
    log = csv_log("epoch,steps,accuracy", "0,5,0.1", "0,-1,0.2", "1,5,0.3", "1,-1,0.4")
    assert curve(log, "val/accuracy") == [0.1, 0.2, 0.3, 0.4]
    assert numbers(log) == [0, 0, 1, 1]
    assert not any("counts" in epoch for epoch in log.epochs)


def test_a_log_of_steps_alone_has_one_row_an_evaluation() -> None:
    log = lines_log(
        {"iteration": 19, "total_loss": 2.0},
        {"iteration": 39, "total_loss": 1.0, "bbox/AP": 30.0},
        {"iteration": 59, "total_loss": 0.8},
        {"iteration": 79, "total_loss": 0.6, "bbox/AP": 35.0},
    )
    assert curve(log, "val/bbox/ap") == [30.0, 35.0]
    assert curve(log, "train/loss") == [1.5, 0.7]
    assert numbers(log) == [0, 1]
    assert noted(log, "steps and no epochs")


def test_mmengines_evaluations_belong_to_the_epoch_before_them() -> None:
    log = lines_log(
        {"lr": 0.1, "loss": 1.0, "data_time": 0.1, "epoch": 1, "iter": 10, "step": 10},
        {"accuracy/top1": 60.0, "accuracy/top5": 90.0, "data_time": 0.2, "step": 1},
        {"lr": 0.1, "loss": 0.5, "data_time": 0.1, "epoch": 2, "iter": 20, "step": 20},
        {"accuracy/top1": 70.5, "accuracy/top5": 95.0, "data_time": 0.2, "step": 2},
    )
    assert log.tool == "MMEngine"
    assert curve(log, "val/accuracy") == [0.6, 0.705]
    assert curve(log, "train/loss") == [1.0, 0.5]


# Runs in one file


@given(st.lists(st.integers(2, 6), min_size=2, max_size=4), st.integers(0, 1), st.booleans())
def test_of_runs_that_were_appended_the_last_is_read(
    lengths: list[int], first: int, again: bool
) -> None:
    lines = ["epoch,loss,val_loss"]
    for run, length in enumerate(lengths):
        if again and run:
            lines.append(lines[0])
        lines += [f"{first + epoch},1,{run + epoch / 10}" for epoch in range(length)]
    log = csv_log(*lines)
    last = len(lengths) - 1
    assert curve(log, "val/loss") == [last + epoch / 10 for epoch in range(lengths[-1])]
    assert len(log.superseded) == sum(lengths[:-1])
    assert noted(log, f"The file holds {len(lengths)} runs")


def test_runs_of_one_epoch_are_told_apart_by_their_header() -> None:
    log = csv_log("epoch,val_loss", "0,9", "epoch,val_loss", "0,8", "epoch,val_loss", "0,7")
    assert curve(log, "val/loss") == [7]
    assert noted(log, "The file holds 3 runs")


def test_which_lines_were_read_is_said() -> None:
    log = csv_log("epoch,val_loss", "0,9", "1,8", "0,7", "1,6", "2,5")
    assert noted(log, "the last is read (line 4 to line 6)")
    assert noted(log, "the earlier ones are not (line 2 to line 3)")


def test_a_run_that_was_resumed_keeps_what_came_before() -> None:
    log = csv_log("epoch,val_loss", "0,9", "1,8", "2,7", "3,6", "2,7.5", "3,6.5", "4,5")
    assert curve(log, "val/loss") == [9, 8, 7.5, 6.5, 5]
    assert noted(log, "resumed, and what stands later counts: at epoch 3, for line 4 to line 5")


def test_a_run_that_was_resumed_within_an_epoch_goes_on_from_that_step() -> None:
    log = csv_log("epoch,step,val_loss", "0,10,9", "0,20,8", "0,30,7", "0,20,8.5", "0,30,7.5")
    assert curve(log, "val/loss") == [9, 8.5, 7.5]


def test_an_epoch_that_stands_twice_among_others_counts_where_it_stands_last() -> None:
    log = csv_log("epoch,val_loss", "0,9", "1,8", "1,7.5", "2,7", "3,6")
    assert curve(log, "val/loss") == [9, 7.5, 7, 6]
    assert noted(log, "Epochs that stand again are read where they stand last: 2.")


@pytest.mark.parametrize(
    "text",
    [
        "model,epoch,val_acc\nvit,0,0.5\nresnet,0,0.6\n",
        "epoch,fold,val_acc\n0,1,0.5\n0,2,0.6\n",
        "epoch,loss,val_loss\n0,1,1\nepoch,loss,val_acc\n0,1,0.5\n",
        "epoch,val_acc,val_acc\n0,1,1\n",
        "epoch,val_acc,val_acc.1\n0,1,1\n",
        "Step,first - val_loss,second - val_loss\n0,1,1\n",
    ],
)
def test_two_models_in_one_file_are_refused_with_that_reason(text: str) -> None:
    with pytest.raises(RecordError, match=r"(model|run|log).*(one file for each)"):
        read_log(read_csv("log", text))


@pytest.mark.parametrize(
    "content",
    [
        {"vit": {"loss": [1, 2]}, "resnet": {"loss": [1, 2]}},
        {"vit": [{"epoch": 0, "val_loss": 1}], "resnet": [{"epoch": 0, "val_loss": 1}]},
        [{"run": "a", "val_loss": 1}, {"run": "b", "val_loss": 1}],
    ],
)
def test_two_models_in_one_json_file_are_refused(content: Any) -> None:
    with pytest.raises(RecordError, match="expected one model"):
        json_log(content)


# What was not measured


def test_nan_of_epochs_without_validation_is_no_score_and_is_counted() -> None:
    log = csv_log("epoch,loss,val_loss", "0,3,nan", "1,2,0.9", "2,1,nan", "3,0.5,0.8", "4,0.4,nan")
    assert curve(log, "val/loss") == [None, 0.9, None, 0.8, None]
    assert noted(log, "NaN in all of val was taken as not measured: 3 of 5 rows")
    assert noted(log, "trained on after the last evaluation (epoch 4), up to epoch 5")


@pytest.mark.parametrize(
    "lines",
    [
        ("epoch,loss,val_loss", "0,3,1", "1,2,nan", "2,1,nan"),  # it never comes back
        ("epoch,loss,val_loss,val_acc", "0,3,1,0.5", "1,2,nan,0.1", "2,1,0.9,0.5"),  # it was run
    ],
)
def test_nan_of_a_validation_is_one(lines: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("\n".join(lines))
    assert "non-finite" in [finding.code for finding in pm.judge(path).findings]


def test_words_for_no_value_and_columns_without_a_number() -> None:
    log = csv_log("epoch,loss,val_loss,host", "0,No log,0.5,a", "1,0.4,N/A,b", "2,0.3,-,c")
    assert curve(log, "train/loss") == [None, 0.4, 0.3]
    assert curve(log, "val/loss") == [0.5, None, None]
    assert noted(log, "'host'")


@pytest.mark.parametrize(
    ("cell", "number"),
    [("0,25", 0.25), ("-1,5e-3", -0.0015), ("12.5%", 0.125), ("12,5 %", 0.125), ("1,234.5", 1234.5),
     ("1.234,5", 1234.5), ("-1.234.567,25", -1234567.25), ("#N/A", None), ("—", None),
     ("1.23,45", ValueError),
     ("nan?", ValueError), ("1,2,3", ValueError), ("", None), ("NA", None), (True, ValueError)],
)  # fmt: skip
def test_a_number_as_people_write_it(cell: Any, number: Any) -> None:
    if number is ValueError:
        with pytest.raises(ValueError, match=r"could not|True"):
            number_of(cell)
    else:
        assert number_of(cell) == number


@pytest.mark.parametrize(
    ("cell", "digits"),
    [("0.8500", 4), ("85%", 2), ("85.25 %", 4), ("8.5e-1", 2), (0.125, 3), (1, 0)],
)
def test_decimals_of_a_share(cell: Any, digits: int) -> None:
    assert digits_of(cell) == digits


# What the log says beside


def trainer(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"log_history": list(entries), **more}


EVALUATED = [
    {"epoch": 0.5, "step": 5, "eval_loss": 0.9, "eval_wer": 0.51},
    {"epoch": 1.0, "step": 10, "eval_loss": 0.7, "eval_wer": 0.31},
    {"epoch": 1.5, "step": 15, "eval_loss": 0.6, "eval_wer": 0.41},
    {"epoch": 2.0, "step": 20, "eval_loss": 0.5, "eval_wer": 0.61},
]


@pytest.mark.parametrize("step", [5, 10, 15, 20])
@pytest.mark.parametrize("told", ["step", "path", "value"])
def test_the_best_checkpoint_is_judged_in_the_middle_of_an_epoch_too(
    step: int, told: str, tmp_path: Path
) -> None:
    wer = EVALUATED[step // 5 - 1]["eval_wer"]
    more: dict[str, Any] = {"best_metric": wer, "best_model_checkpoint": None}
    if told == "step":
        more["best_global_step"] = step
    if told == "path":
        more["best_model_checkpoint"] = f"out/checkpoint-{step}"
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps(trainer(*EVALUATED, **more)))
    run = read_run(path)
    (checkpoint,) = run.checkpoints
    assert (checkpoint["why"], checkpoint["step"]) == ("best", step)
    assert run.header["logged"]["follows"] == "val/wer"
    notes = "\n".join(pm.judge(path).notes)
    assert f"(evaluation {step // 5} of 4), the best by its own checkpoint" in notes
    assert f"step {step}, by val/wer ({wer:g})" in notes


def test_a_best_checkpoint_that_the_log_does_not_hold_is_said() -> None:
    log = json_log(trainer(*EVALUATED, best_metric=0.1, best_model_checkpoint="out/checkpoint-99"))
    assert not log.checkpoints
    assert noted(log, "The best checkpoint (out/checkpoint-99) belongs to no evaluation of the log")


@pytest.mark.parametrize("end", [{"epoch": 3.0, "step": 30, "loss": 0.1}, None])
def test_training_after_the_last_evaluation_is_said(end: dict[str, Any] | None) -> None:
    entries = EVALUATED + [each for each in [end] if each]
    log = json_log(trainer(*entries, global_step=30))
    assert noted(log, "trained on after the last evaluation (epoch 2, step 20)")
    assert not any("trained on" in note for note in json_log(trainer(*EVALUATED)).notes)


def test_what_the_trainer_writes_at_its_end_is_no_row() -> None:
    summary = {"epoch": 2.0, "step": 20, "train_loss": 9.0, "train_runtime": 3.0}
    assert "train/loss" not in json_log(trainer(*EVALUATED, summary)).epochs[-1]["scores"]


# JSON in its forms

ROWS = [{"loss": 1.0, "val_loss": 1.5}, {"loss": 0.5, "val_loss": 0.75}]


@pytest.mark.parametrize(
    "content",
    [
        ROWS,
        {"history": ROWS, "config": {"lr": 0.1}},
        {"loss": [1.0, 0.5], "val_loss": [1.5, 0.75]},
        {"train": {"loss": [1.0, 0.5]}, "val": {"loss": [1.5, 0.75]}},
        {"loss": {"train": [1.0, 0.5], "val": [1.5, 0.75]}},
        {"history": {"loss": [1.0, 0.5], "val_loss": ["1.5", "0.75"]}, "best_epoch": 3},
        {"loss": {"0": 1.0, "1": 0.5}, "val_loss": {"0": 1.5, "1": 0.75}},
        {"0": ROWS[0], "1": ROWS[1]},
        {"columns": ["loss", "val_loss"], "index": [0, 1], "data": [[1.0, 1.5], [0.5, 0.75]]},
        [{"train": {"loss": 1.0}, "val": {"loss": 1.5}}, {"train": {"loss": 0.5}, "val": {"loss": 0.75}}],
        {"train": [{"loss": 1.0, "epoch": 0}, {"loss": 0.5, "epoch": 1}],
         "val": [{"loss": 1.5, "epoch": 0}, {"loss": 0.75, "epoch": 1}]},
    ],
)  # fmt: skip
def test_json_holds_columns_or_rows_and_may_be_nested(content: Any) -> None:
    log = json_log(content)
    assert curve(log, "train/loss") == [1.0, 0.5]
    assert curve(log, "val/loss") == [1.5, 0.75]


@pytest.mark.parametrize("word", [float("nan"), "NaN", "nan", "Infinity", float("-inf")])
def test_a_column_of_json_may_hold_what_is_not_finite(word: Any, tmp_path: Path) -> None:
    """A diverged loss is the last that may be lost; once such a column was no column of numbers."""
    path = tmp_path / "history.json"
    told = {"loss": [1.0, 0.9, 0.8], "val_loss": [1.0, 0.9, word], "val_acc": [0.5, 0.6, 0.6]}
    path.write_text(json.dumps(told))
    assert "val/loss" in pm.read_history(path)
    assert "non-finite" in [finding.code for finding in pm.judge(path).findings]


@pytest.mark.parametrize(
    "content",
    [
        {f"epoch_{e}": {"loss": 2.0 - e / 20, "val_loss": 3.0 - e / 20} for e in (10, 2, 1)},
        {str(e): {"loss": 2.0 - e / 20, "val_loss": 3.0 - e / 20} for e in (10, 1, 2)},
        {"train": [{"loss": x} for x in (1.95, 1.9, 1.5)],
         "val": [{"loss": x} for x in (2.95, 2.9, 2.5)]},
        {"train_losses": {"10": 1.5, "1": 1.95, "2": 1.9},
         "val_losses": {"1": 2.95, "2": 2.9, "10": 2.5}},
    ],
)  # fmt: skip
def test_keys_may_count_rows_and_splits_may_have_lists_of_their_own(content: Any) -> None:
    log = json_log(content)
    assert curve(log, "train/loss") == [1.95, 1.9, 1.5]
    assert curve(log, "val/loss") == [2.95, 2.9, 2.5]


@pytest.mark.parametrize(
    "text",
    ['{"val_loss": [1, 2], "val_loss": [3, 4]}', '{"val_loss": 1}\n{"loss": 1, "loss": 2}\n{}'],
)
def test_a_key_that_stands_twice_is_refused(text: str) -> None:
    with pytest.raises(RecordError, match="loss' more than once"):
        read_log(read_json("log", text))


def test_results_beside_the_summary_of_training_are_read() -> None:
    """Such as the all_results.json of the scripts of Hugging Face."""
    told = {"epoch": 3.0, "eval_accuracy": 0.86, "eval_loss": 0.4, "eval_samples": 872}
    log = json_log({**told, "train_loss": 0.3, "train_runtime": 100.0, "train_samples": 67349})
    assert log.sizes == {"val": 872}
    assert list(log.epochs[0]["scores"]) == ["val/accuracy", "val/loss"]


def test_json_lines_may_be_cut_off_at_the_end_and_nowhere_else() -> None:
    lines = [json.dumps(row) for row in ROWS]
    log = read_log(read_json("log", "\n".join([*lines, '{"loss": 0.'])))
    assert curve(log, "val/loss") == [1.5, 0.75]
    assert noted(log, "The last line (3) is cut off")
    with pytest.raises(RecordError, match="log, line 2: expected one JSON object a line"):
        read_json("log", "\n".join([lines[0], '{"loss": 0.', lines[1]]))


def test_a_jsonl_of_somebody_else_is_no_broken_journal(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS))
    assert pm.read_history(path)["val/loss"] == [1.5, 0.75]
    journal = tmp_path / "journal-rank0.jsonl"
    journal.write_text('{"loss": 1}\n')
    with pytest.raises(RecordError, match="at least one whole record"):
        read_run(journal)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=6) | st.integers(),
                    lambda inner: st.lists(inner, max_size=4)
                    | st.dictionaries(st.sampled_from(["epoch", "loss", "val_loss", "log_history",
                                                       "step", "0", "data", "columns", "train"]),
                                      inner, max_size=5), max_leaves=12))  # fmt: skip
def test_any_json_is_a_log_or_a_record_error(content: Any) -> None:
    try:
        log: ForeignLog | None = json_log(content)
    except RecordError:
        log = None
    assert log is None or log.epochs


# Files


def test_a_spreadsheet_in_utf_16_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes("epoch;val_loss\n1;0,5\n2;0,25\n".encode("utf-16"))
    assert pm.read_history(path)["val/loss"] == [0.5, 0.25]


@pytest.mark.parametrize(
    "text",
    [
        "epoch val_loss  val_acc\n0 0.5 0.75\n1   0.25 0.875\n",
        "| epoch | val_loss | val_acc |\n|:-----:|---:|---|\n| 0 | 0.5 | 0.75 |\n| 1 | 0.25 | 0.875 |\n",
        "epoch | val_loss | val_acc\n:-:|---:|---\n0 | 0.5 | 0.75\n1 | 0.25 | 0.875\n",
        "epoch,val_loss,|p - r|,val_acc\n0,0.5,,0.75\n1,0.25,,0.875\n",
        "#epoch,val_loss,val_acc\n0,0.5,75%\n1,0.25,87.5%\n",
        "# lr=0.1, bs=8\n# epoch val_loss val_acc\n0.0 0.5 0.75\n1.0 0.25 0.875\n",
        "# of a, b and c\nepoch,val_loss,val_acc\n0,0.5,0.75\n# resumed\n1,0.25,0.875\n",
        "step,tag,value\n0,val/loss,0.5\n1,val/loss,0.25\n0,val/acc,0.75\n1,val/acc,0.875\n",
        "Step,run - val_loss,run - val_acc\n0,0.5,0.75\n1,0.25,0.875\n",
    ],
)
def test_tables_that_are_no_csv_in_the_strict_sense(text: str) -> None:
    log = read_log(read_csv("log", text))
    assert curve(log, "val/loss") == [0.5, 0.25]
    assert curve(log, "val/accuracy") == [0.75, 0.875]


# The command line


def test_check_takes_n_for_a_log_and_refuses_it_for_a_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss,val_acc\n0,1,0.5\n1,0.9,0.61\n")
    assert main(["check", str(path), "--select", "low-accuracy"]) == 3
    assert main(["check", str(path), "--select", "low-accuracy", "--n", "1500"]) == 1
    assert "n = 1500 of val was given" in capsys.readouterr().out
    assert main(["check", str(path), "--n", "0"]) == 2
    with pytest.raises(ConfigError, match="n: expected None, except for the log of another tool"):
        pm.judge({"scores": {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 90}}}, n=5)
    assert pm.judge(read_run(path), n=1500, select=["low-accuracy"]).status == "not ready"


# TensorBoard


def test_event_files_need_tensorboard_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, foreign_events._ACCUMULATOR, None)  # where it was imported
    (tmp_path / "events.out.tfevents.1.host").write_bytes(b"")
    for path in (tmp_path, tmp_path / "events.out.tfevents.1.host"):
        with pytest.raises(RecordError, match=r"the package tensorboard.*pip install tensorboard"):
            read_run(path)
    assert main(["check", str(tmp_path)]) == 5


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed"
)
def test_a_folder_of_one_version_is_that_run(tmp_path: Path) -> None:
    """Lightning's "lightning_logs" with "version_0" in it: the name is none of a split."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "version_0")) as writer:
        for epoch in range(3):
            for name, value in (("epoch", epoch), ("train_loss", 0.5), ("val_loss", 0.25)):
                writer.add_scalar(name, value, 10 * epoch + 9)
    history = pm.read_history(tmp_path)
    assert history["val/loss"] == [0.25] * 3
    assert history["train/loss"] == [0.5] * 3
    assert history.epoch == [0, 1, 2]


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed"
)
def test_scalars_of_tensorboard_are_read(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "run")) as writer:
        for step in range(6):
            writer.add_scalar("Loss/train", 2.0 - step / 4, step)
        for step in (2, 5):
            writer.add_scalar("Loss/val", 2.5 - step / 4, step)
            writer.add_scalars("f1", {"val": step / 8}, step)
            writer.add_scalar("lr", 0.1, step)
    history = pm.read_history(tmp_path / "run")
    assert history["val/loss"] == [2.0, 1.25]
    assert history["val/f1"] == [0.25, 0.625]
    assert history["train/loss"] == [1.75, 1.0]
    assert history.step == [2, 5]


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed"
)
@pytest.mark.parametrize("below", ["", "val"])
def test_an_event_file_that_is_damaged_is_read_up_to_there_and_says_so(
    tmp_path: Path, below: str
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    tag = "accuracy" if below else "val/accuracy"
    with SummaryWriter(str(tmp_path / below)) as writer:
        for epoch in range(8):
            writer.add_scalar(tag, 0.5 + epoch / 20, epoch)
    (file,) = tmp_path.rglob("*tfevents*")
    whole = file.read_bytes()
    for length in (len(whole), len(whole) - 9):  # as it is, and while its last event is written
        file.write_bytes(whole[:length])
        assert foreign_events.read_events(tmp_path).notes == []
    for place in range(len(whole) // 4, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        file.write_bytes(damaged)
        (note,) = foreign_events.read_events(tmp_path).notes
        assert "is damaged behind its first " in note, place
