"""Logs of other tools, written here as those tools write them, and what is wrong with a log."""

import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ptmetrics as pm
from ptmetrics.errors import RecordError
from ptmetrics.record import foreign_epochs
from ptmetrics.record.foreign_csv import read_csv
from ptmetrics.record.foreign_epochs import ForeignLog, read_log
from ptmetrics.record.reader import Run, read_foreign, read_run
from ptmetrics.record.run_folder import find_runs

LIGHTNING = """\
epoch,lr-Adam,step,train_loss_epoch,train_loss_step,val_acc,val_loss
0,,49,,0.9,,
0,,99,,0.7,,
0,,99,,,0.5,0.8
0,,99,0.82,,,
,0.001,100,,,,
1,,149,,0.6,,
1,,199,,,0.625,0.7
1,,199,0.61,,,
"""
KERAS = """\
epoch,accuracy,loss,val_accuracy,val_loss
0,0.5,0.9,0.45,0.95
1,0.75,0.6,0.7,0.65
2,0.875,0.4,0.65,0.75
"""
TRAINER: dict[str, Any] = {
    "best_metric": None,
    "epoch": 2.0,
    "global_step": 20,
    "log_history": [
        {"epoch": 0.5, "grad_norm": 1.5, "learning_rate": 4e-5, "loss": 1.0, "step": 5},
        {"epoch": 1.0, "grad_norm": 1.2, "learning_rate": 3e-5, "loss": 0.5, "step": 10},
        {"epoch": 1.0, "eval_accuracy": 0.75, "eval_loss": 0.6, "eval_runtime": 1.2, "step": 10},
        {"epoch": 1.5, "grad_norm": 1.1, "learning_rate": 2e-5, "loss": 0.5, "step": 15},
        {"epoch": 2.0, "eval_accuracy": 0.875, "eval_f1": 0.8, "eval_loss": 0.5, "step": 20},
        {"epoch": 2.0, "step": 20, "total_flos": 1e9, "train_loss": 0.7, "train_runtime": 9.0},
    ],
    "num_train_epochs": 2,
}
HISTORY = {
    "loss": [0.9, 0.6],
    "accuracy": [0.5, 0.75],
    "val_loss": [0.95, 0.7],
    "val_accuracy": [0.4, 0.7],
}


def written(folder: Path, content: object, name: str = "log.txt") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def run_of(folder: Path, content: object) -> Run:
    return read_run(written(folder, content))


def csv_log(text: str) -> ForeignLog:
    return read_log(read_csv("log", text))


def told(run: Run) -> dict[str, Any]:
    return {"by": run.header["logged"]["by"], "notes": run.header["logged"]["notes"]}


def scores_of(content: Any) -> dict[str, list[float]]:
    """All scores of a run or its path, without the counts that tell its steps."""
    history = pm.read_history(content) if isinstance(content, Path) else pm.History.of(content)
    return {name: history[name] for name in history if not name.startswith("counts/")}


# What each tool writes


def test_lightnings_rows_of_an_epoch_are_one_and_its_epoch_mean_counts(tmp_path: Path) -> None:
    path = written(tmp_path, LIGHTNING)
    assert scores_of(path) == {
        "val/accuracy": [0.5, 0.625],
        "val/loss": [0.8, 0.7],
        "train/loss": [0.82, 0.61],
    }
    assert pm.read_history(path).step == [99, 199]
    logged_by = told(read_run(path))
    assert logged_by["by"] == "Lightning's CSVLogger"
    assert logged_by["notes"][:2] == [
        "Columns that are no scores were not read: 'lr-Adam'.",
        "Second spellings of a score were not read: 'train_loss_step'.",
    ]


def test_training_losses_of_steps_are_averaged_over_the_epoch_and_that_is_said(
    tmp_path: Path,
) -> None:
    text = "epoch,step,train_loss,val_loss\n0,9,1.0,\n0,19,0.5,\n0,19,,0.9\n0,19,,0.8\n"
    run = run_of(tmp_path, text)
    assert scores_of(run) == {"train/loss": [0.75], "val/loss": [0.8]}
    assert told(run)["notes"] == ["Training values that were logged several times are averaged."]


def test_keras_csv_is_read_epoch_by_epoch(tmp_path: Path) -> None:
    run = run_of(tmp_path, KERAS)
    history = pm.History.of(run)
    assert told(run)["by"] == "Keras's CSVLogger"
    assert history["train/accuracy"] == [0.5, 0.75, 0.875]
    assert history["val/loss"] == [0.95, 0.65, 0.75]
    assert history.epoch == [0, 1, 2]


def test_the_separator_may_be_another_and_keras_writes_na_for_what_is_missing(
    tmp_path: Path,
) -> None:
    history = pm.read_history(written(tmp_path, "epoch;loss;val_loss\n0;0.9;NA\n1;0.8;0.7\n"))
    assert math.isnan(history[0, "val/loss"])
    assert history[1] == {"train/loss": 0.8, "val/loss": 0.7}


def test_trainer_state_is_read_by_the_epoch_that_an_entry_ends(tmp_path: Path) -> None:
    run = run_of(tmp_path, TRAINER)
    history = pm.History.of(run)
    assert told(run)["by"] == "Hugging Face's Trainer"
    assert history["train/loss"] == [0.75, 0.5]
    assert history["val/accuracy"] == [0.75, 0.875]
    assert set(scores_of(run)) == {"train/loss", "val/loss", "val/accuracy", "val/f1"}


def test_an_evaluation_before_training_stands_apart(
    tmp_path: Path,
) -> None:
    first = {"epoch": 0, "eval_loss": 5.0, "step": 0}
    state = TRAINER | {"log_history": [first, *TRAINER["log_history"]]}
    run = run_of(tmp_path, state)
    assert pm.History.of(run)["val/loss"] == [0.6, 0.5]
    (before,) = run.evaluations
    assert (before["why"], before["scores"]["val/loss"]["value"]) == ("before-training", 5.0)
    assert "An evaluation before training stands apart, and is no epoch." in told(run)["notes"]


def test_a_keras_history_is_read_and_null_is_what_was_not_logged(tmp_path: Path) -> None:
    run = run_of(tmp_path, HISTORY | {"f1_macro": [None, 0.5], "lr": [0.1, 0.1], "name": "x"})
    history = pm.History.of(run)
    assert history["val/accuracy"] == [0.4, 0.7]
    assert math.isnan(history[0, "train/f1/macro"])
    assert told(run)["by"] == "Keras's History"
    assert told(run)["notes"][:2] == [
        "Keys that are no scores of every epoch were not read: 'name'.",
        "Columns that are no scores were not read: 'lr'.",
    ]


def test_a_plain_csv_has_our_names_and_needs_no_epoch(tmp_path: Path) -> None:
    run = run_of(
        tmp_path, "val/accuracy,val/f1/macro,train/loss,comment\n0.5,0.25,1.5,slow\n0.75,0.5,1.0,\n"
    )
    assert scores_of(run) == {
        "val/accuracy": [0.5, 0.75],
        "val/f1/macro": [0.25, 0.5],
        "train/loss": [1.5, 1.0],
    }
    assert told(run)["by"] == "a CSV file"
    assert "'comment'" in told(run)["notes"][0]


@pytest.mark.parametrize("name", ["metrics.csv", "trainer_state.json", "noname"])
def test_the_content_decides_and_not_the_name(tmp_path: Path, name: str) -> None:
    assert told(read_run(written(tmp_path, KERAS, name)))["by"] == "Keras's CSVLogger"
    assert told(read_run(written(tmp_path, TRAINER, name)))["by"] == "Hugging Face's Trainer"


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"\xef\xbb\xbf" + KERAS.replace("\n", "\r\n").encode())
    assert pm.read_history(path)["val/loss"] == [0.95, 0.65, 0.75]


def test_a_foreign_value_has_no_interval_and_no_samples(tmp_path: Path) -> None:
    score = run_of(tmp_path, KERAS).epochs[-1]["scores"]["val/loss"]
    assert (score["value"], score["n"], score["higher_is_better"]) == (0.75, 0, False)
    assert math.isnan(score["low"])
    assert math.isnan(score["high"])


def test_a_foreign_file_is_a_run_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, KERAS, "metrics.csv")
    assert find_runs(path) == [path]
    assert read_run(path).path == path


# Laws of merging

NUMBERS = st.floats(0, 100, width=32)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=20))
def test_what_was_written_comes_back(values: list[tuple[float, float]]) -> None:
    lines = [f"{i},{train!r},{val!r}" for i, (train, val) in enumerate(values)]
    log = csv_log("\n".join(["epoch,loss,val_loss", *lines]))
    back = [
        (e["scores"]["train/loss"]["value"], e["scores"]["val/loss"]["value"]) for e in log.epochs
    ]
    assert back == values


@given(st.text(max_size=200))
def test_any_text_is_a_log_or_a_record_error(text: str) -> None:
    try:
        log: ForeignLog | None = csv_log(text)
    except RecordError:
        log = None
    assert log is None or log.epochs


def test_a_log_that_starts_again_supersedes_what_came_before(tmp_path: Path) -> None:
    run = run_of(tmp_path, "epoch,loss\n0,3.0\n1,2.0\n2,1.0\n1,1.5\n")
    assert pm.History.of(run)["train/loss"] == [3.0, 1.5]
    assert told(run)["notes"] == [
        "The run was resumed, and what stands later counts: at epoch 2, for line 3 to line 4."
    ]
    assert [epoch["epoch"] for epoch in run.superseded] == [1, 2]


def test_epochs_that_count_from_1_are_told_so(tmp_path: Path) -> None:
    run = run_of(tmp_path, "epoch,loss\n1,3.0\n2,2.0\n")
    assert pm.History.of(run).epoch == [0, 1]
    assert told(run)["notes"] == [
        "The first epoch of the file is 1, so it is taken to count from 1."
    ]


def test_a_log_whose_first_line_is_epoch_1_but_goes_back_to_0_counts_from_0(tmp_path: Path) -> None:
    run = run_of(tmp_path, "epoch,loss\n1,3.0\n0,2.0\n1,1.0\n")
    assert pm.History.of(run).epoch == [0, 1]
    assert "taken to count from 1" not in "".join(told(run)["notes"])
    assert pm.History.of(run_of(tmp_path, "epoch,loss\n2,3.0\n3,2.0\n")).epoch == [2, 3]
    assert pm.History.of(run_of(tmp_path, "epoch,loss\n2,3.0\n1,2.5\n2,2.0\n")).epoch == [1, 2]


def test_an_epoch_of_the_trainer_that_is_rounded_up_is_no_epoch_more(tmp_path: Path) -> None:
    epochs = [1.0000001, 1.99, 2.0000003, 2.01]
    entries = [{"epoch": epoch, "eval_loss": epoch} for epoch in epochs]
    history = pm.read_history(written(tmp_path, {"log_history": entries}))
    assert history.epoch == [0, 1, 1, 2]
    assert history["val/loss"] == epochs


def peak_of(path: Path) -> float:
    """How many times its size reading a log takes in memory."""
    read_run(path)  # what is kept of names once and for all
    tracemalloc.start()
    try:
        pm.read_history(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak / path.stat().st_size


def sparse_rows(columns: int) -> list[dict[str, float]]:
    """Each row has a column of its own."""
    return [{"epoch": row, f"val_x{row}": 0.5} for row in range(columns)]


def wide_rows(columns: int) -> list[dict[str, float]]:
    return [{"epoch": row, **{f"val_x{i}": 0.5 for i in range(columns)}} for row in range(3)]


def as_text(rows: list[dict[str, float]], form: str) -> str:
    """The rows in a format; of a table as CSV the first 20."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if form == "lines":
        return "\n".join(map(json.dumps, rows))
    if form == "rows":
        return json.dumps(rows)
    lines = [",".join(str(row.get(name, "")) for name in columns) for row in rows[:20]]
    return "\n".join([",".join(columns), *lines])


@pytest.mark.slow
@pytest.mark.parametrize("rows", [sparse_rows(9000), wide_rows(9000)], ids=["sparse", "wide"])
@pytest.mark.parametrize("form", ["lines", "rows", "csv"])
def test_a_log_of_9_000_columns_takes_28_times_its_size(
    tmp_path: Path, rows: list[dict[str, float]], form: str
) -> None:
    assert peak_of(written(tmp_path, as_text(rows, form))) < 28


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("epoch,val_loss", "{0},0.{1}"),
        ("epoch,step,loss,val_loss", "{0},{0},0.{1},"),
        ("val_loss", "0.{1}"),
        ("epoch,split,loss", "{0},val,0.{1}"),
        ("step,tag,value", "{0},val/loss,0.{1}"),
        ("", '{{"epoch": {0}, "val_loss": 0.{1}}}'),
    ],
    ids=["short", "training", "shortest", "split", "tidy", "lines"],
)
@pytest.mark.slow
def test_a_long_log_of_short_lines_takes_25_times_its_size(
    tmp_path: Path, header: str, line: str
) -> None:
    lines = [line.format(epoch, epoch % 9) for epoch in range(5000)]
    assert peak_of(written(tmp_path, "\n".join([header, *lines]).strip())) < 25


@pytest.mark.slow
def test_a_wide_and_long_log_takes_some_bytes_a_number(tmp_path: Path) -> None:
    names = ",".join(f"val_x{i}" for i in range(300))
    lines = [",".join(["0.5"] * 300)] * 300
    path = written(tmp_path, "\n".join([names, *lines]))
    assert peak_of(path) < 30
    run = read_run(path)
    assert len(run.epochs) == 300
    scores = run.epochs[0]["scores"]
    assert len(scores) == 300
    assert dict(scores)["val/x7"]["value"] == 0.5
    assert "val/x7" in repr(scores)
    with pytest.raises(KeyError):
        scores["val/loss"]


def test_epochs_of_a_log_are_a_sequence(tmp_path: Path) -> None:
    run = run_of(tmp_path, "step,val_loss\n10,0.5\n20,0.4\n30,0.3\n")
    assert [epoch["epoch"] for epoch in run.epochs] == [0, 1, 2]
    assert run.epochs[-1]["epoch"] == 2
    assert run.epochs[-1]["counts"] == {"train_steps_cumulative": 30}
    assert [epoch["epoch"] for epoch in run.epochs[1:]] == [1, 2]
    with pytest.raises(IndexError):
        run.epochs[3]


def test_numbers_out_of_range_are_refused_with_their_range(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"val/mcc: expected a number from -1 to 1, got -1\.5\."):
        run_of(tmp_path, "val_mcc\n-1.5\n")
    with pytest.raises(RecordError, match=r"line 3: val/accuracy: expected a share .* got 1\.2\."):
        run_of(tmp_path, "val_acc\n0.5\n1.2\n")
    assert run_of(tmp_path, "val_acc\n1.000001\n").epochs


def test_a_whole_number_beyond_all_floats_is_infinite(tmp_path: Path) -> None:
    history = pm.read_history(written(tmp_path, {"loss": [10**400, -(10**400), 1]}))
    assert history["train/loss"] == [math.inf, -math.inf, 1]


def test_nan_marks_gaps_only_where_lines_are_merged_and_no_cell_is_empty(tmp_path: Path) -> None:
    gaps = "epoch,step,train_loss,val_loss\n0,9,0.5,nan\n0,9,nan,0.6\n1,19,0.4,NaN\n"
    assert pm.read_history(written(tmp_path, gaps))["train/loss"] == [0.5, 0.4]
    assert "val/loss" not in read_run(written(tmp_path, gaps)).epochs[1]["scores"]
    real = run_of(tmp_path, "epoch,loss,val_loss\n0,0.5,0.6\n1,nan,nan\n")
    assert math.isnan(real.epochs[1]["scores"]["val/loss"]["value"])
    torn = "epoch,step,train_loss,val_loss\n0,9,0.5,\n0,9,nan,\n0,9,,0.7\n"
    assert math.isnan(pm.read_history(written(tmp_path, torn))[0, "train/loss"])


def test_a_row_without_an_epoch_belongs_to_the_one_before_it(tmp_path: Path) -> None:
    run = run_of(tmp_path, "epoch,step,val_loss\n0,1,0.5\n,2,0.1\n1,3,0.4\n")
    assert pm.History.of(run)["val/loss"] == [0.5, 0.1, 0.4]
    assert pm.History.of(run).epoch == [0, 0, 1]


# A log whose writer was killed

ROWS = ("0,0.91,0.95,0.551", "1,0.72,0.81,0.642", "2,0.53,0.64,0.733")
COMMAS = "\n".join(["epoch,loss,val_loss,val_acc", *ROWS, ""])
BARS = "\n".join(f"|{line}|" for line in COMMAS.split())
WHOLE = {
    "commas": COMMAS,
    "decimal commas": COMMAS.replace(",", ";").replace(".", ","),
    "windows": COMMAS.replace("\n", "\r\n"),
    "blanks": COMMAS.replace(",", " "),
    "markdown": BARS.replace(",", "|").replace("\n", "\n|-|-|-|-|\n", 1) + "\n",
    "words": "".join(f"{word},{row}\n" for word, row in zip("nüüü", COMMAS.split(), strict=True)),
    "exponents": "epoch,val_acc,val_loss\n0,0.551,9.5e-1\n1,0.642,8.1e-1\n2,0.733,6.4e-1\n",
}
CURVES = {"val/loss": [0.95, 0.81, 0.64], "val/accuracy": [0.551, 0.642, 0.733]}


@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE)
def test_a_csv_file_is_read_up_to_where_its_writer_was_killed(tmp_path: Path, text: str) -> None:
    """Wherever it is cut: what is read is what was written, or a note says that it may not be."""
    content = text.encode()
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    assert not any("cut off" in note for note in told(read_run(path))["notes"])
    last = content.rstrip().rindex(b"\n") + 1
    for end in range(last, len(content)):
        path.write_bytes(content[:end])
        run = read_run(path)
        epochs = len(run.epochs)
        noted = any("cut off" in note for note in told(run)["notes"])
        history = pm.History.of(run)
        for name, values in CURVES.items():
            assert history[name][:2] == values[:2], end
            assert epochs == 2 or noted or history[name] == values, end
        nothing = content[last:end].decode(errors="ignore") in ("", "|")
        assert noted or epochs == 3 or nothing, end


def test_a_last_line_without_an_end_that_is_whole_counts_and_nothing_is_said(
    tmp_path: Path,
) -> None:
    run = run_of(tmp_path, "epoch,loss,val_loss\n0,0.91,0.95\n1,0.72,0.81")
    assert pm.History.of(run)["val/loss"] == [0.95, 0.81]
    assert told(run)["notes"] == []
    assert len(run_of(tmp_path, "epoch,val_loss,note\n0,0.91,ok\n1,0.72,a").epochs) == 2
    assert len(run_of(tmp_path, "epoch,val_loss\n0,0.91\n1,0.72\n  ").epochs) == 2


# What is wrong with a log: rule, fact, cure


@pytest.mark.parametrize(
    ("content", "place", "rule", "fact", "cure"),
    [
        ("", "log.txt", "a log with numbers in it", "an empty file", "has begun"),
        ("epoch,loss\n0,1\0", "log.txt", "a log with numbers in it", "NUL bytes", "has begun"),
        ("epoch,loss\n0,1,2\n", "line 2", "2 cells as in the first line", "3 cells", "Export the log again"),
        ("epoch,loss\n0,1\n1\n", "line 3", "2 cells as in the first line", "1 cells", "Export the log again"),
        ("epoch,loss\n0,1\n1\n2", "line 3", "2 cells as in the first line", "1 cells", "Export the log again"),
        ("epoch,loss\n0,1\n1,2,3", "line 3", "2 cells as in the first line", "3 cells", "Export the log again"),
        ("loss,loss\n1,2\n", "log.txt", "different column names", "'loss' more than once", "two models"),
        ("epoch,lr\n0,0.1\n", "log.txt", "at least one column of scores", "'epoch', 'lr'", "val_accuracy"),
        ("epoch,loss\n", "log.txt", "at least one column of scores", "no line below", "val_accuracy"),
        ("epoch,loss\n0,\n", "log.txt", "with a number in it", "'epoch', 'loss'", "val_accuracy"),
        ("epoch,loss\n0,1\n1,bad\n", "line 3: 'loss'", "a number", "'bad'", "leave a cell without one empty"),
        ("epoch,loss\n-1,1\n", "line 2: epoch", "a number from 0", "'-1'", "such as 0"),
        ("epoch,loss\ninf,1\n", "line 2: epoch", "a number from 0", "'inf'", "such as 0"),
        ("val_acc\n0.5\n0.6\n92.5\n", "line 4: val/accuracy", "a share from 0 to 1", "92.5", "all its values alike"),
        ("val_acc\n50.0\n192.5\n", "line 3: val/accuracy", "a share from 0 to 1", "1.925", "all its values alike"),
        ('epoch,loss\n0,"' + "1" * 200_000, "line 2", "a line of CSV", "field larger", "Export"),
        ("just some words\nand more now\n", "log.txt", "one column of scores", "'just', 'some'", "loss"),
        ('{"loss": [1', "log.txt, line 1", "JSON", "Expecting", "cut off or edited"),
        ("[" * 100_000, "log.txt", "JSON that can be read", "", "cut off or edited"),
        ("[1, 2]", "log.txt", "trainer_state.json", "list", "json.dump(history.history)"),
        ({"a": 1}, "log.txt", "lists of one number per epoch", "an object with 'a'", "json.dump"),
        ({}, "log.txt", "lists of one number per epoch", "an object with no key", "json.dump"),
        ({"loss": [1, 2], "val_loss": [1]}, "log.txt", "equal length", "2 in 'loss', 1 in 'val_loss'", "CSV"),
        ({"log_history": 3}, "log_history", "a list of objects", "something else", "trainer_state.json"),
        ({"log_history": []}, "log.txt", "at least one column of scores", "no line below", "Name columns"),
        ({"log_history": [{"loss": 1, "epoch": -1}]}, "log_history[0]: epoch", "a number from 0", "-1", "such as 0"),
        ({"accuracy": [0.5, 50.0]}, "epoch 1: train/accuracy", "a share from 0 to 1", "50", "alike"),
    ],
)  # fmt: skip
def test_a_bad_log_is_refused_with_place_rule_fact_and_cure(
    tmp_path: Path, content: object, *, place: str, rule: str, fact: str, cure: str
) -> None:
    with pytest.raises(RecordError) as caught:
        run_of(tmp_path, content)
    error = caught.value
    assert str(tmp_path) in error.name
    for part, whole in (
        (place, error.name),
        (rule, error.expected),
        (fact, error.got),
        (cure, error.cure),
    ):
        assert part in whole


def test_what_is_not_utf_8_is_refused_with_the_place(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"epoch,loss\n0,1\xff\n")
    with pytest.raises(
        RecordError, match=r"expected text in UTF-8, got byte 14 that is not\. Save it as UTF-8"
    ):
        read_run(path)


def test_a_huge_file_is_refused_before_it_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(RecordError, match=r"at most 64 MiB, got a larger file\. Thin it out"):
        read_run(path)


def test_the_limit_itself_is_allowed(tmp_path: Path) -> None:
    path = written(tmp_path, KERAS)
    assert read_foreign(path, limit=len(KERAS)).epochs
    with pytest.raises(RecordError, match="a larger file"):
        read_foreign(path, limit=len(KERAS) - 1)


@pytest.mark.parametrize("period", [101, 2], ids=["ever on", "back and forth"])
def test_more_epochs_than_anybody_trains_are_refused(
    period: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign_epochs, "MAX_EPOCHS", 100)
    lines = ["epoch,val_loss", *(f"{i % period},1" for i in range(202))]
    assert csv_log("\n".join(lines[:100])).epochs
    with pytest.raises(
        RecordError, match=r"log: expected at most 100 epochs, got more\. Thin the log out"
    ):
        csv_log("\n".join(lines))


def test_more_columns_than_anybody_logs_are_refused() -> None:
    header = ",".join(map(str, range(10_001)))
    with pytest.raises(
        RecordError, match=r"expected at most 10000 columns, got 10001\. Export the scores alone"
    ):
        csv_log(header)
