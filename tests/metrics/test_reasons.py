"""A score without an interval says why, whatever the metric: in the score, in plain values and in print."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from registry import CASES, MetricCase

import ptmetrics as pm
from ptmetrics.metrics.score import Score, Scores

pytestmark = pytest.mark.slow


def without_interval(scores: Scores) -> Iterator[tuple[str, Score]]:
    """Every score that has a value and lacks an end."""
    columns: dict[str, Any] = dict(scores.per_class)
    columns.update({part: tuple(row.values()) for part, row in scores.per_slice.items()})
    columns["all"] = tuple(scores.values())
    for name, column in columns.items():
        for score in column:
            if not math.isnan(score) and (math.isnan(score.low) or math.isnan(score.high)):
                yield name, score


def check(scores: Scores) -> int:
    found = list(without_interval(scores))
    for name, score in found:
        assert score.reason, name
        assert str(score).endswith(f"({score.reason})")
        assert "nan" not in str(score)
    plain = scores.to_dict()["scores"]
    for name, score in scores.items():
        assert plain[name]["reason"] == score.reason, name
        if not math.isnan(score.value + score.low * 0 + score.high * 0):
            assert score.reason is None, name
    return len(found)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 30])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_score_without_an_interval_says_why(
    case: MetricCase, rows: int, weighted: bool
) -> None:
    check(case.counted([case.batch(rows, rows, weighted)]).compute())


TASKS: dict[str, Any] = {
    "multiclass": lambda asked: pm.MulticlassMetrics(
        3, curves="exact", temperature=True, topk=(1, 2), beta=2, scores=asked, at=["eer"]
    ),
    "binary": lambda asked: pm.BinaryMetrics(
        temperature=True, beta=2, scores=asked, at=["recall@precision>=0.9"]
    ),
    "multilabel": lambda asked: pm.MultilabelMetrics(3, beta=2, scores=asked, at=["eer"]),
    "regression": lambda asked: pm.RegressionMetrics(scores=asked),
    "ranking": lambda asked: pm.RankingMetrics(),
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_scores_that_are_asked_for_say_why_too(task: str, rows: int) -> None:
    kind = type(TASKS[task](()))
    asked = {spec.name for table in kind.optional_tables for spec in table.specs}
    metrics = TASKS[task](sorted(asked))
    g = torch.Generator().manual_seed(rows)
    shape = (rows,) if task in ("binary", "regression") else (rows, 3)
    preds = torch.randn(shape, generator=g)
    target = torch.randint(0, 2, shape[:1] if task == "multiclass" else shape, generator=g)
    if task == "regression":
        target = target.float()
    metrics.update(preds, target)
    check(metrics.compute())


def test_an_infinite_loss_says_that_it_is_infinite() -> None:
    metrics = pm.BinaryMetrics(inputs="probs")
    metrics.update(torch.tensor([0.0, 0.7, 0.2, 1.0]), torch.tensor([1, 1, 0, 1]))
    score = metrics.compute()["nll"]
    assert score.value == math.inf
    assert score.reason == "no interval: the value is infinite"
    assert str(score) == "inf (no interval: the value is infinite)"
    assert "the value is infinite" in str(metrics.compute())


def test_the_reason_stands_in_the_record(tmp_path: Any) -> None:
    monitor = pm.Monitor(pm.BinaryMetrics(inputs="probs"), run=tmp_path / "run")
    preds, target = torch.tensor([0.0, 0.7, 0.2, 1.0]), torch.tensor([1, 1, 0, 1])
    monitor.update(preds, target, split="val")
    monitor.end_epoch()
    monitor.close()
    verdict = pm.judge(tmp_path / "run")
    assert verdict.status
    records = "".join(path.read_text() for path in (tmp_path / "run").rglob("*.jsonl"))
    assert "no interval: the value is infinite" in records
