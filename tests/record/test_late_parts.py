"""Of a long run only what is looked at is decoded whole, and what it says is checked then."""

import pickle
import re
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from record_makers import journal_of, line, note, sealed
from test_schema import good, support

import ptmetrics as pm
from ptmetrics.errors import RecordError
from ptmetrics.record import lines as lines_module
from ptmetrics.record.codec import LATE, body_of, record_in, without_late
from ptmetrics.record.lines import LATE_FROM, LatePart, LateScores, support_in
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
    return run_of(folder, *(line(seq, "epoch", data) for seq, data in enumerate(epochs, 1)))


def run_of(folder: Path, *lines: bytes) -> Path:
    journal_of(folder, line(0, "note", note("x" * LATE_FROM)), *lines)
    return folder


def whole(epoch: Any) -> str:
    """The epoch with all that was left for later."""
    told = {key: epoch[key] for key in sorted(epoch)}
    return str(told | {key: dict(epoch[key]) for key in LATE if key in epoch})


def test_a_part_that_is_left_for_later_reads_as_if_it_had_been_read_at_once(tmp_path: Path) -> None:
    odd = good()["scores"]["val/accuracy"] | {"value": nan, "high": inf, "reason": "$:, "}
    scores = {"": odd, "val/loss": {**odd, "reason": "\u20ac", "method": "$nan"}}
    wanted = [
        numbered(0),
        numbered(1, per_class={}),
        numbered(2, per_class={"val": {}}),
        numbered(3, scores={}, confusion={}),
        numbered(4, scores={"": odd, "a,b:c/": odd}, confusion={}),
        numbered(5, scores=scores, confusion={}),
        numbered(6, scores={"a": {**odd, "reason": '"},"b":{'}}, confusion={}),
        numbered(7, scores={"a": {**odd, "reason": "}"}, "b": {**odd, "later": {}}}, confusion={}),
    ]
    run = read_run(long_run(tmp_path, *wanted))
    assert run.problems == []
    late = [isinstance(epoch["scores"], LateScores) for epoch in run.epochs]
    assert late == [True] * 5 + [False] * 3
    for epoch, told in zip(run.epochs, wanted, strict=True):
        assert whole(epoch) == whole(told)
        assert {key: len(epoch[key]) for key in LATE} == {key: len(told[key]) for key in LATE}
        assert whole(pickle.loads(pickle.dumps(epoch))) == whole(told)


def test_it_is_decoded_once_and_only_when_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []

    def counted(read: Any) -> Any:
        def reading(body: bytes) -> Any:
            decoded.append(len(body))
            return read(body)

        return reading

    for name in ("record_in", "scores_in"):
        monkeypatch.setattr(lines_module, name, counted(getattr(lines_module, name)))
    run = read_run(long_run(tmp_path, *map(numbered, range(20))))
    known = len(decoded)
    assert known == 1 + 20 + 20  # lines, and of each the accuracy that is held against its matrix
    assert list(run.epochs[7]["scores"]) == list(good()["scores"])
    assert run.epochs[7]["scores"].get("val/unknown") is None
    for _ in range(2):
        assert run.epochs[7]["scores"]["val/mae"] == good()["scores"]["val/mae"]
    assert len(decoded) == known + 1
    for _ in range(2):
        assert run.epochs[7]["per_class"]["val"]["support"]["n"] == [50, 50]
    assert len(decoded) == known + 2
    assert decoded[-1] > max(decoded[1:-1])


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"value": 7.0}, "'val/mcc'].value is 7, outside its interval"),
        ({"value": 7.0, "high": 8.0}, "'val/mcc'].value is 7, but such a score goes from -1 to 1"),
        ({"n": "many"}, "'val/mcc'].n is 'many', not a whole number"),
    ],
)
def test_a_score_that_cannot_be_is_refused_when_it_is_looked_at(
    tmp_path: Path, value: dict[str, Any], told: str
) -> None:
    right = {**good()["scores"]["val/accuracy"], "low": -1.0}
    scores = {**good()["scores"], "val/mcc": right}
    forged = {**scores, "val/mcc": {**right, **value}}
    run = read_run(long_run(tmp_path, numbered(0, scores=scores), numbered(1, scores=forged)))
    assert run.epochs[0]["scores"]["val/mcc"] == right
    assert run.epochs[1]["scores"]["val/accuracy"] == scores["val/accuracy"]
    for look in (dict, lambda scores: scores["val/mcc"]):
        with pytest.raises(RecordError, match=rf"rank0.jsonl, line 3.*\[{re.escape(told)}"):
            look(run.epochs[1]["scores"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"scores":{"', b'"scores":{X'),
        (b'"scores":{"', b'"scores":{"x":5,"'),
        (b'"scores":{"', b'"scores":{"x":{},"'),
        (b'}},"per_class"', b'},"per_class"'),
        (b'}},"per_class"', b'},},"per_class"'),
        (b'"value":0.7', b'"value":'),
        (b'"value":0.7', b'"value":NaN'),
        (b'"value":0.7', b'"value":"$oops"'),
        (b'"value":0.7', b'"value":"\xff"'),
        (b'"value":0.7', b'"value":' + b"[" * 100_000),
    ],
)
def test_a_line_with_a_right_checksum_that_is_no_json_is_never_taken(
    tmp_path: Path, before: bytes, after: bytes
) -> None:
    body = body_of(line(2, "epoch", numbered(1)).rstrip())
    assert before in body
    forged = sealed(body.replace(before, after, 1)) + b"\n"
    run_of(tmp_path, line(1, "epoch", numbered(0)), forged)
    run = read_run(tmp_path)
    if run.problems:
        assert (run.problems[0].line, len(run.epochs)) == (3, 1)
        return
    with pytest.raises(RecordError, match=r"rank0.jsonl, line 3"):
        whole(run.epochs[1])


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


def test_of_a_late_line_the_support_of_classes_alone_is_decoded(tmp_path: Path) -> None:
    columns = good()["per_class"]["val"]
    other = {**columns["recall"], "n": [7, 8]}
    written = [
        {"val": columns},
        {"train": {"recall": other}, "val": columns},
        {"val": {"recall": other, **{k: v for k, v in columns.items() if k != "recall"}}},
        {"train": {"recall": other}},
        {"val": {k: v for k, v in columns.items() if k != "recall"}},
        {},
    ]
    told = [[50, 50], [50, 50], [7, 8], [], [], []]
    epochs = [numbered(i, per_class=each, confusion={}) for i, each in enumerate(written)]
    run = read_run(long_run(tmp_path, *epochs))
    for epoch, wanted in zip(run.epochs, told, strict=True):
        late = epoch["per_class"]
        assert isinstance(late, LatePart)
        assert support_in(late, "val") == wanted
        assert (late._part is None) is bool(wanted)
        assert support_in(dict(late), "val") == wanted, "as of one that was decoded"
    assert support_in(run.epochs[1]["per_class"], "train") == [7, 8]
    assert support_in(None, "val") == []


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
    assert whole(run.epochs[0]) == whole(data)


def test_nulls_stand_where_one_whole_value_stood() -> None:
    body = body_of(line(0, "epoch", numbered(0)).rstrip())
    parts = without_late(body)
    assert parts is not None
    whole, short = record_in(body), record_in(parts[0])
    assert [short.data.pop(key) for key in LATE] == [None, None]
    assert str([whole.data.pop(key) for key in LATE]) == str([good()[key] for key in LATE])
    assert str(short) == str(whole)
    assert list(parts[1]) == list(good()["scores"])
