"""More classes than a matrix has room for: the same values from margins, wider intervals, pairs with bounds."""

import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

import ptmetrics.metrics.multiclass as module
from ptmetrics import Monitor, MulticlassMetrics
from ptmetrics.errors import ConfigError
from ptmetrics.metrics import host
from ptmetrics.metrics.base import compute_together
from ptmetrics.metrics.score import Scores


def drawn(rows: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    target = torch.minimum(*torch.randint(0, classes, (2, rows), generator=g))
    wrong = torch.randint(0, classes, (rows,), generator=g)
    return torch.where(torch.rand(rows, generator=g) < 0.7, target, wrong), target


def counted(classes: int, preds: Tensor, target: Tensor, weight: Tensor | None = None) -> Scores:
    metrics = MulticlassMetrics(classes, inputs="labels", beta=2)
    metrics.update(preds, target, weight)
    return metrics.compute()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_margins_give_the_values_of_the_matrix_and_intervals_no_narrower(
    seed: int, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    preds, target = drawn(300, 7, seed)
    weight = torch.rand(300, dtype=torch.float64) + 0.1 if weighted else None
    whole = counted(7, preds, target, weight)
    monkeypatch.setattr(module, "MAX_CLASSES", 6)
    many = counted(7, preds, target, weight)
    assert set(many) == set(whole)
    assert (many.n, many.confusion) == (300, None)
    for name, score in many.items():
        assert score.value == pytest.approx(whole[name].value, abs=1e-12), name
        assert score.low <= whole[name].low + 1e-12, name
        assert score.high >= whole[name].high - 1e-12, name
    for name in many.per_class:
        assert [s.value for s in many.per_class[name]] == pytest.approx(
            [s.value for s in whole.per_class[name]]
        )
    assert whole.confusion is not None
    for pair in many.confused:
        assert pair.low <= whole.confusion[pair.actual, pair.predicted] <= pair.high


@pytest.mark.parametrize("options", [{"labels": [0, 2]}, {"ignore_index": 1}])
def test_margins_give_the_averages_over_some_of_the_classes(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    preds, target = drawn(300, 7, 5)

    def scores_of_some() -> Scores:
        metrics = MulticlassMetrics(7, inputs="labels", beta=2, **options)
        metrics.update(preds, target)
        return metrics.compute()

    whole = scores_of_some()
    monkeypatch.setattr(module, "MAX_CLASSES", 6)
    many = scores_of_some()
    assert set(many) == set(whole)
    for name, score in many.items():
        assert score.value == pytest.approx(whole[name].value, abs=1e-12), name
        assert score.low <= whole[name].low + 1e-12, name
        assert score.high >= whole[name].high - 1e-12, name


@pytest.mark.parametrize("rows", [500, 200_000], ids=["mostly zeros", "few zeros"])
def test_a_large_matrix_stays_that_of_the_moment_it_was_computed(rows: int) -> None:
    classes = 370
    preds, target = torch.randint(0, classes, (2, rows), generator=torch.Generator().manual_seed(1))
    weight = torch.ones(rows, dtype=torch.float64) * 0.5
    first = MulticlassMetrics(classes, inputs="labels")
    second = first.fresh()
    first.update(preds, target, weight)
    second.update(preds[:100], target[:100])
    expected = torch.zeros(classes, classes, dtype=torch.int64)
    expected.index_put_((target, preds), torch.tensor(1), accumulate=True)
    scores, few = compute_together([first, second])
    for metrics in (first, second):
        metrics.update(preds, target)
        metrics.reset()
    assert few.n == few.confusion.sum() == 100
    for read in (scores, pickle.loads(pickle.dumps(scores))):
        assert torch.equal(read.confusion, expected)
        assert torch.equal(read.weighted_confusion, expected * 0.5)
    assert scores.plain(most_in_matrix=128)["confusion"] is None
    assert scores.to_dict()["confusion"] == expected.tolist()


@pytest.mark.fault(46)
@pytest.mark.parametrize("rows", [0, 1, 300, 20_000, 400_000])
def test_the_filled_cells_of_a_large_matrix_say_what_all_of_its_cells_say(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    preds, target = drawn(rows, 400, 3)
    large = counted(400, preds, target)
    matrix = large.confusion
    monkeypatch.setattr(host, "MOST_COPIED", 400**2)
    small = counted(400, preds, target)
    assert matrix is not None
    assert torch.equal(matrix, torch.as_tensor(small.confusion))
    for name, score in small.items():
        for end in ("value", "low", "high", "n"):
            expected = pytest.approx(getattr(score, end), rel=1e-12, abs=1e-14, nan_ok=True)
            assert getattr(large[name], end) == expected, (name, end)
    for name in small.per_class:
        assert list(large.per_class[name]) == pytest.approx(
            list(small.per_class[name]), nan_ok=True
        )


def test_a_vocabulary_counts_in_a_few_megabytes_and_finds_its_planted_confusion() -> None:
    classes, rows = 200_000, 6000
    g = torch.Generator().manual_seed(0)
    target = torch.randint(0, classes, (rows,), generator=g)
    preds = target.clone()
    target[:900], preds[:900] = 123_456, 199_999
    names = [f"word {i}" for i in range(classes)]
    metrics = MulticlassMetrics(classes, inputs="labels", class_names=names)
    for part, truth in zip(preds.split(500), target.split(500), strict=True):
        metrics.update(part, truth)
    got = metrics.compute()
    assert metrics.state_bytes < 11 * 2**20
    assert got["accuracy"].value == pytest.approx((rows - 900) / rows)
    worst = got.confused[0]
    assert (worst.actual, worst.predicted) == (123_456, 199_999)
    assert worst.low <= 900 <= worst.high
    assert "word 123456 taken for word 199999" in str(got)
    assert str(got).count("\n") < 60
    assert any("no confusion matrix is kept" in note for note in got.notes)


def test_scores_of_each_of_many_classes_stay_out_of_the_record() -> None:
    with Monitor(MulticlassMetrics(5000, inputs="labels"), run=None) as monitor:
        monitor.update(torch.arange(9), torch.arange(9), split="val")
        epoch = monitor.end_epoch()
    assert epoch["val/accuracy"] == 1.0
    record = epoch.to_record()
    assert record["per_class"] == {}
    assert record["class_names"] == []


def test_nothing_counted_is_nan_with_a_reason() -> None:
    got = MulticlassMetrics(5000, inputs="labels").compute()
    assert all(math.isnan(score) and score.reason for score in got.values())
    assert got.confused == ()


def test_more_than_200_000_classes_are_refused_in_words() -> None:
    with pytest.raises(
        ConfigError,
        match=r"num_classes: expected a whole number from 2 to 200000, got 200001\. Pass",
    ):
        MulticlassMetrics(200_001)
