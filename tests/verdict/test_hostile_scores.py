"""Scores and records that cannot be true: refused or invalid with their place, and never a traceback."""

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from registry import CASES, LAW

import ptmetrics as pm
from ptmetrics.metrics.score import Scores
from ptmetrics.record.journal import Journal
from tests.verdict.judged_sources import GOOD, epoch, payload

HOSTILE = [
    "0.99",
    "",
    "\ud800",
    b"x",
    [1],
    {"x": 1},
    [],
    10**400,
    -(10**400),
    2**63,
    -7,
    95.0,
    1e308,
    math.inf,
    -math.inf,
    math.nan,
    None,
    True,
    1 + 2j,
    np.float64(3),
    object(),
]
CLASSES = pm.MulticlassMetrics(3, class_names=["a", "b", "c"], slices=("north", "south"))


def scores_of(metrics: Any) -> Scores:
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(60) % 3
    preds = 2 * torch.nn.functional.one_hot(target, 3) + torch.randn(60, 3, generator=generator)
    more = {}
    if metrics is CLASSES:
        more["slices"] = target % 2
    metrics.update(preds, target, **more)
    scores: Scores = metrics.compute()
    metrics.reset()
    return scores


CLASS_SCORES = scores_of(CLASSES).to_dict()
NUMBERS = pm.RegressionMetrics()
NUMBERS.update(torch.arange(40.0), torch.arange(40.0).roll(1))
NUMBER_SCORES = NUMBERS.compute().to_dict()


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value inside of mappings and lists."""
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for key, item in pairs:
        yield (*way, key)
        yield from places(item, (*way, key))


def replaced(value: Any, way: tuple[Any, ...], hostile: Any) -> Any:
    changed = copy.deepcopy(value)
    inner = changed
    for key in way[:-1]:
        inner = inner[key]
    inner[way[-1]] = hostile
    return changed


@pytest.mark.fault(39)
@pytest.mark.parametrize("told", [CLASS_SCORES, NUMBER_SCORES], ids=["classes", "numbers"])
@LAW
@given(st.data())
def test_one_hostile_value_gives_a_verdict_or_an_error_of_ours(
    told: dict[str, Any], data: st.DataObject
) -> None:
    ways = list(places(told))
    for _ in range(20):
        way = data.draw(st.sampled_from(ways))
        hostile = data.draw(st.sampled_from(HOSTILE))
        try:
            verdict = pm.judge(replaced(told, way, hostile))
        except pm.PtmetricsError:
            continue
        assert str(verdict)
        assert verdict._repr_html_()
        json.dumps(verdict.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("way", "value"),
    [
        (("scores", "accuracy", "value"), 95.0),
        (("scores", "accuracy", "value"), 0.2),  # below its own interval
        (("scores", "f1/macro", "high"), -3.0),
        (("scores", "accuracy", "n"), -60),
        (("scores", "accuracy", "n"), 61),  # the matrix holds 60
        (("confusion", 0, 0), 0),  # and the accuracy of another matrix
        (("confusion", 0, 1), 2**63),
        (("per_class", "recall", "n", 1), 7),
        (("per_class", "iou", "value", 0), 1.5),
        (("scores", "mcc", "value"), "0.9"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(way: tuple[Any, ...], value: Any) -> None:
    with pytest.raises(pm.PtmetricsError) as refused:
        pm.judge(replaced(CLASS_SCORES, way, value))
    said = str(refused.value)
    assert any(str(part) in said for part in way if isinstance(part, str))


def test_the_same_in_a_record_is_an_invalid_run(tmp_path: Path) -> None:
    forged = epoch(1, {}, matrix=GOOD)
    forged["scores"]["val/accuracy"] |= {"value": 0.2, "low": 0.1, "high": 0.3}
    journal = Journal(tmp_path)
    journal.append("header", {"metrics": {"task": "binary"}})
    journal.append("epoch", epoch(0, {}, matrix=GOOD))
    journal.append("epoch", forged)
    journal.close()
    verdict = pm.judge(tmp_path)
    assert verdict.status == "invalid"
    (finding,) = [item for item in verdict.findings if item.code == "contradiction"]
    assert "line 3" in finding.message
    assert "val/accuracy" in finding.message
    assert pm.judge(payload(GOOD)).status == "ready"  # the healthy twin


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_scores_of_our_own_are_refused(case: Any, weighted: bool) -> None:
    for rows in (0, 1, 40):
        metrics = case.counted([case.batch(rows, 3, weighted)])
        pm.judge(metrics.compute())


def test_no_text_of_a_record_is_obeyed_by_a_console_or_a_page() -> None:
    names = ["cat\x1b[2J\u202e", "<img src=x onerror=alert(1)>\n::error::dog"]
    verdict = pm.judge(payload([[300, 700], [20, 980]], class_names=names))
    shown = str(verdict)
    page = verdict._repr_html_()
    assert not {"\x1b", "\u202e"} & set(shown + page)
    assert "<img" not in page
    assert not any(line.startswith("::error") for line in (shown + page).splitlines())
