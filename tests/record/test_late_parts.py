"""Of a long run only what is looked at is decoded whole, and what it says is checked then."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from record_makers import journal_of, line, note
from test_schema import good, support

import ptmetrics as pm
from ptmetrics.errors import RecordError
from ptmetrics.record import lines as lines_module
from ptmetrics.record.codec import LATE, body_of, record_in, without_late
from ptmetrics.record.lines import LATE_FROM, LatePart
from ptmetrics.record.reader import read_run


def moved(data: dict[str, Any], *keys: str) -> dict[str, Any]:
    """The same mapping with these keys last."""
    kept = {key: value for key, value in data.items() if key not in keys}
    return kept | {key: data[key] for key in keys}


def numbered(number: int, **changes: Any) -> dict[str, Any]:
    """An epoch whose keys stand as a Monitor writes them."""
    return {**moved(good(), "per_slice", "notes"), "epoch": number, **changes}


def long_run(folder: Path, *epochs: dict[str, Any]) -> Path:
    """A journal whose first line is so long that those behind it may be left for later."""
    first = line(0, "note", note("x" * LATE_FROM))
    journal_of(folder, first, *(line(seq, "epoch", data) for seq, data in enumerate(epochs, 1)))
    return folder


def test_a_part_that_is_left_for_later_reads_as_if_it_had_been_read_at_once(tmp_path: Path) -> None:
    wanted = [numbered(0), numbered(1, per_class={}), numbered(2, per_class={"val": {}})]
    run = read_run(long_run(tmp_path, *wanted))
    assert run.problems == []
    assert all(isinstance(epoch["per_class"], LatePart) for epoch in run.epochs)
    for epoch, told in zip(run.epochs, wanted, strict=True):
        assert {key: str(value) for key, value in epoch.items() if key != LATE} == {
            key: str(value) for key, value in told.items() if key != LATE
        }
        assert str(dict(epoch["per_class"])) == str(told["per_class"])
        assert list(epoch["per_class"]) == list(told["per_class"])
        assert str(dict(pickle.loads(pickle.dumps(epoch["per_class"])))) == str(told["per_class"])


def test_it_is_decoded_once_and_only_when_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []

    def counted(body: bytes) -> Any:
        decoded.append(len(body))
        return record_in(body)

    monkeypatch.setattr(lines_module, "record_in", counted)
    run = read_run(long_run(tmp_path, *map(numbered, range(20))))
    assert len(decoded) == 21
    assert run.epochs[7]["per_class"]["val"]["support"]["n"] == [50, 50]
    assert run.epochs[7]["per_class"]["val"]["recall"]["n"] == [50, 50]
    assert len(decoded) == 22
    assert decoded[21] > decoded[20]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"val": {"recall": {"n": "many"}}}, r"per_class\['val'\]\['recall'\]"),
        ({"val": 3}, r"per_class\['val'\] is 3"),
        ({"val": {"recall": {**good()["per_class"]["val"]["recall"], "n": [50, 51]}}}, "matrix"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_looked_at_with_its_line(
    tmp_path: Path, value: Any, told: str
) -> None:
    epochs = [numbered(0), numbered(1, per_class=value), numbered(2)]
    run = read_run(long_run(tmp_path, *epochs))
    assert run.epochs[0]["per_class"]["val"]["recall"]["n"] == [50, 50]
    with pytest.raises(RecordError, match=f"journal-rank0.jsonl, line 3.*{told}"):
        len(run.epochs[1]["per_class"])
    with pytest.raises(RecordError, match=f"journal-rank0.jsonl, line 3.*{told}"):
        run.epochs[1]["per_class"]["val"]


def test_a_judged_epoch_is_looked_at(tmp_path: Path) -> None:
    forged = numbered(2, per_class={"val": {"recall": {"n": "many"}}})
    long_run(tmp_path, numbered(0), numbered(1), forged)
    with pytest.raises(RecordError, match="line 4"):
        pm.judge(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scores": {**good()["scores"], "val/accuracy": good()["scores"]["val/mae"]}},
        {"confusion": {"val": [[30, 20], [20, 30]]}},
        {"counts": {"val_samples": -1}},
    ],
)
def test_the_rest_of_the_line_is_checked_at_once(tmp_path: Path, wrong: dict[str, Any]) -> None:
    run = read_run(long_run(tmp_path, numbered(0), numbered(1, **wrong), numbered(2)))
    assert [epoch["epoch"] for epoch in run.epochs] == [0, 2]
    assert (run.problems[0].line, run.problems[0].contradiction) == (3, True)


def test_weights_that_only_the_classes_tell_are_no_contradiction(tmp_path: Path) -> None:
    """Accuracy alone seems to contradict the matrix: then all of the line is looked at."""
    data = numbered(0)
    data["per_class"]["val"]["support"] = support(25.0, 75.0)
    data["scores"]["val/accuracy"]["value"] = 0.65
    data["scores"]["val/accuracy"].update(low=0.64, high=0.66)
    run = read_run(long_run(tmp_path, data))
    assert (len(run.epochs), run.problems) == (1, [])


@pytest.mark.parametrize(
    "data",
    [
        moved(good(), "per_class"),
        moved(good(), "confusion", "per_class"),
        moved(good(), "per_class", "time", "confusion"),
        {"epoch": 0, "scores": {}, "notes": {"val": [',"per_class":{},"confusion":']}},
        {"epoch": 0, "scores": {}, "time": {}, "config": {"a": 1, "per_class": {}, "confusion": 2}},
        {"epoch": 0, "scores": {}, "per_class": {}},
        {**good(), "per_class": {}, "later": {"a": {"b": {}}}, "confusion": {}},
    ],
    ids=["last", "behind the matrix", "others between", "in a text", "deeper", "alone", "unknown"],
)
def test_lines_with_keys_in_another_order_lose_nothing(tmp_path: Path, data: Any) -> None:
    data = {**data, "epoch": 0}
    run = read_run(long_run(tmp_path, data))
    assert run.problems == []
    told = {**run.epochs[0]}
    if isinstance(told.get(LATE), LatePart):
        told[LATE] = dict(told[LATE])
    assert str({key: told[key] for key in data}) == str(data)


def test_nulls_stand_where_one_whole_value_stood() -> None:
    body = body_of(line(0, "epoch", numbered(0)).rstrip())
    shorter = without_late(body)
    assert shorter is not None
    whole, short = record_in(body), record_in(shorter)
    assert short.data.pop(LATE) is None
    assert whole.data.pop(LATE) == good()[LATE]
    assert str(short) == str(whole)
