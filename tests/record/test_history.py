import math
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_makers import epoch

from ptmetrics.errors import DependencyError, RecordError
from ptmetrics.record.history import History, read_history
from ptmetrics.record.journal import Journal
from ptmetrics.record.reader import read_run

TIME = {"train_s": 2.5, "train_device_s": None, "step_ms": {"p50": 1.0, "p95": 2.0, "max": 3.0}}
COUNTS = {"train_samples": 60, "train_steps": 6}


def two_epochs() -> History:
    history = History()
    history.append({**epoch(0, val__accuracy=0.5, train__loss=2.0), "time": TIME, "counts": COUNTS})
    history.append(epoch(1, val__accuracy=0.75))
    return history


def test_a_name_gives_its_values_a_row_its_epoch_and_both_a_number() -> None:
    history = two_epochs()
    assert history["val/accuracy"] == [0.5, 0.75]
    assert history[-1, "val/accuracy"] == history[1, "val/accuracy"] == 0.75
    assert history[0]["train/loss"] == 2.0
    assert isinstance(history[-1], Mapping)
    assert history.epoch == [0, 1]


def test_times_and_counts_are_flattened_behind_the_scores() -> None:
    history = two_epochs()
    assert list(history) == [
        "val/accuracy",
        "train/loss",
        "time/train_s",
        "time/step_ms/p50",
        "time/step_ms/p95",
        "time/step_ms/max",
        "counts/train_samples",
        "counts/train_steps",
    ]
    assert len(history) == 8
    assert history[0, "time/step_ms/p95"] == 2.0
    assert history[0, "counts/train_samples"] == 60


def test_a_value_that_an_epoch_lacks_is_nan() -> None:
    history = two_epochs()
    assert math.isnan(history["train/loss"][1])
    assert math.isnan(history[1, "train/loss"])
    assert math.isnan(history[1]["time/train_s"])
    assert list(history[1]) == list(history)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.floats(), max_size=3), max_size=6))
def test_columns_rows_and_cells_tell_the_same(rows: list[dict[str, float]]) -> None:
    history = History()
    for number, scores in enumerate(rows):
        history.append(epoch(number, **scores))
    assert set(history) == {name for scores in rows for name in scores}
    for name, column in history.items():
        assert len(column) == len(rows)
        for row, value in enumerate(column):
            expected = rows[row].get(name, math.nan)
            assert repr([value, history[row, name], history[row][name]]) == repr(
                [float(expected)] * 3
            )


@pytest.mark.fault(41)
def test_a_resumed_run_appended_live_equals_the_run_read_back(tmp_path: Path) -> None:
    history = History()
    for attempt in ([0, 1, 2, 3], [2, 3], [3, 4]):
        with Journal(tmp_path, resume=True) as journal:
            for number in attempt:
                data = epoch(number, val__loss=number / 10, **{f"only__{journal.attempt}": 1.0})
                journal.append("epoch", data)
                history.append(data)
    back = read_history(tmp_path)
    assert history.epoch == back.epoch == [0, 1, 2, 3, 4]
    assert repr(dict(history)) == repr(dict(back)) == repr(dict(History.of(read_run(tmp_path))))
    assert back["val/loss"] == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_a_score_of_superseded_epochs_alone_is_gone() -> None:
    history = History()
    history.append(epoch(0, old=1.0))
    history.append(epoch(0, new=1.0))
    assert list(history) == ["new"]
    assert "old" not in history


def test_what_a_caller_does_to_a_result_changes_nothing() -> None:
    history = two_epochs()
    history["val/accuracy"].clear()
    history.epoch.clear()
    dict(history[0]).clear()
    assert history["val/accuracy"] == [0.5, 0.75]
    assert history.epoch == [0, 1]


def test_an_unknown_name_is_refused_with_the_near_ones() -> None:
    history = two_epochs()
    for wrong in ("val/acuracy", (0, "val/acuracy")):
        with pytest.raises(KeyError) as caught:
            history[wrong]
        (message,) = caught.value.args
        assert message == (
            "history: expected the name of a score in this run, got 'val/acuracy'. Near: 'val/accuracy'."
        )
    with pytest.raises(KeyError, match=r"got 'zzz'\. list\(history\) shows the names\."):
        history["zzz"]
    assert history.get("zzz") is None
    assert 0 not in history


@pytest.mark.parametrize("row", [2, -3])
def test_a_row_that_is_not_there_is_refused(row: int) -> None:
    for key in (row, (row, "val/accuracy")):
        with pytest.raises(
            IndexError, match=rf"row: expected one of 2 epochs, got {row}\. See history\.epoch\."
        ):
            two_epochs()[key]


def test_an_empty_history_has_no_names_and_no_rows() -> None:
    history = History()
    assert (len(history), list(history), history.epoch) == (0, [], [])
    with pytest.raises(IndexError, match="expected one of 0 epochs"):
        history[-1]


def test_it_prints_its_extent() -> None:
    assert repr(two_epochs()) == "History(8 names, epochs [0, 1])"


def test_a_path_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"expected a folder with a file journal-rank0\.jsonl"):
        read_history(tmp_path)


def test_step_tells_the_training_done_by_each_row() -> None:
    history = History()
    history.append({**epoch(0, val__loss=1.0), "counts": {"train_steps_cumulative": 40}})
    history.append(epoch(1, val__loss=0.5))
    assert history.step[0] == 40
    assert math.isnan(history.step[1])


def test_numbers_of_callbacks_stand_between_scores_and_times() -> None:
    history = History()
    data = {**epoch(0, val__loss=1.0), "numbers": {"lr": 0.1}, "counts": {"train_steps": 6}}
    history.append(data)
    assert list(history) == ["val/loss", "lr", "counts/train_steps"]
    assert history[-1, "lr"] == 0.1
    assert history.run().epochs[0]["numbers"] == {"lr": 0.1}


def test_a_data_frame_has_epoch_step_seconds_and_what_was_scored() -> None:
    pandas = pytest.importorskip("pandas")
    history = History()
    counts = {"train_steps_cumulative": 40}
    time = {"train_s": 2.0, "wall_cumulative_s": 2.5}
    history.append(
        {**epoch(0, val__loss=1.0), "numbers": {"lr": 0.1}, "counts": counts, "time": time}
    )
    history.append(epoch(1, val__loss=0.5, val__accuracy=0.75))
    nan = math.nan
    expected = {
        "epoch": [0, 1],
        "step": [40.0, nan],
        "seconds": [2.5, nan],
        "val/loss": [1.0, 0.5],
        "lr": [0.1, nan],
        "val/accuracy": [nan, 0.75],
    }
    pandas.testing.assert_frame_equal(history.to_pandas(), pandas.DataFrame(expected))
    assert list(History().to_pandas()) == ["epoch", "step", "seconds"]


def test_without_pandas_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(DependencyError, match=r"pandas: expected .* Run pip install pandas\."):
        two_epochs().to_pandas()
