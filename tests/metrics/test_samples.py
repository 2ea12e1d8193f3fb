"""The rows that are kept of samples are those that the scores count: a law over every metric that keeps them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import Batch
from registry import CASES, LAW, MetricCase

import ptmetrics as pm
from ptmetrics.metrics.base import Metrics
from ptmetrics.monitor.samples import rows_of_columns
from ptmetrics.record.samples import CLASS_ROW, POINT_ROW, Rows
from ptmetrics.testing import Guard, fake_cuda

NOT_KEPT = ("multilabel", "outputs", "parts", "images")  # several values a row; rows in groups
KEEPING = [case for case in CASES if not set(NOT_KEPT) & set(case.name.split("-"))]


def rows_of(metrics: Metrics, *batches: Batch) -> Rows:
    stored = metrics.store_samples(10_000)
    for batch in batches:
        metrics.update(batch.preds, batch.target)
    metrics.compute()  # what waits is counted
    columns, reason = stored.columns()
    assert columns is not None, reason
    return rows_of_columns(columns, stored.fields)


@pytest.mark.parametrize("case", KEEPING, ids=lambda case: case.name)
@LAW
@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=3), seed=st.integers(0, 999))
def test_kept_rows_give_the_counts_and_the_losses_that_are_reported(
    case: MetricCase, sizes: list[int], seed: int
) -> None:
    batches = [case.batch(size, seed + i, False) for i, size in enumerate(sizes)]
    scores, rows = case.counted(batches).compute(), rows_of(case.make(), *batches)
    if rows.dtype == POINT_ROW:
        error = rows["error"][~np.isnan(rows["error"])]
        assert error.size == scores.n
        if error.size:
            assert np.square(error).mean() == pytest.approx(scores["mse"].value)
            assert np.abs(error).mean() == pytest.approx(scores["mae"].value)
    else:
        counted = rows[rows["predicted"] >= 0]
        matrix = np.zeros(scores.confusion.shape, np.int64)  # type: ignore[union-attr]
        np.add.at(matrix, (counted["target"], counted["predicted"]), 1)
        assert matrix.tolist() == scores.confusion.tolist()  # type: ignore[union-attr]
        losses = counted["loss"][~np.isnan(counted["loss"])].astype(np.float64)
        if "nll" in scores and losses.size:
            assert losses.mean() == pytest.approx(scores["nll"].value, rel=1e-6)


def test_the_target_stands_as_it_was_given() -> None:
    target = torch.tensor([2, -100, 7, 2**40])
    rows = rows_of(
        pm.MulticlassMetrics(3, ignore_index=-100), Batch(torch.eye(3)[[2, 0, 0, 0]], target, None)
    )
    assert rows.dtype == CLASS_ROW
    assert rows["target"].tolist() == [2, -100, 7, 2**31 - 1]
    assert rows["predicted"].tolist() == [2, -1, -1, -1]


def test_losses_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [30.0, 0.0], [-math.inf, 0.0]])
    rows = rows_of(pm.MulticlassMetrics(2), Batch(logits, torch.tensor([1, 0, 0]), None))
    assert rows["loss"].tolist() == pytest.approx([math.log(4 / 3), math.exp(-30), math.inf])
    margins = torch.tensor([math.log(3.0), -30.0])
    rows = rows_of(pm.BinaryMetrics(), Batch(margins, torch.tensor([1, 0]), None))
    assert rows["loss"].tolist() == pytest.approx([math.log(4 / 3), math.exp(-30)])


def test_a_binary_row_that_does_not_count_has_no_loss() -> None:
    scores, target = torch.tensor([2.0, -1.0, 1.0, math.nan]), torch.tensor([1, -100, 7, 0])
    rows = rows_of(pm.BinaryMetrics(ignore_index=-100), Batch(scores, target, None))
    assert rows["predicted"].tolist() == [1, -1, -1, -1]
    assert np.isnan(rows["loss"]).tolist() == [False, True, True, True]


@pytest.mark.parametrize("size", [3, 64, 5000])
def test_rows_keep_their_order_whether_batches_wait_or_not(size: int) -> None:
    g = torch.Generator().manual_seed(0)
    target = torch.randint(0, 5, (10_000,), generator=g)
    preds = torch.randn(10_000, 5, generator=g)
    batches = [
        Batch(p, t, None) for p, t in zip(preds.split(size), target.split(size), strict=True)
    ]
    rows = rows_of(pm.MulticlassMetrics(5), *batches)
    assert rows["target"].tolist() == target.tolist()
    assert rows["predicted"].tolist() == preds.argmax(1).tolist()


def test_a_metric_without_losses_keeps_none() -> None:
    batch = Batch(torch.eye(3), torch.arange(3), None)
    assert np.isnan(rows_of(pm.MulticlassMetrics(3, losses=False), batch)["loss"]).all()


@pytest.mark.fault(28)
@pytest.mark.parametrize("case", KEEPING, ids=lambda case: case.name)
@pytest.mark.slow
def test_keeping_rows_waits_for_nothing(case: MetricCase) -> None:
    real = [case.batch(size, 0, False) for size in (5, 5, 1, 0)]
    with fake_cuda():
        metrics = case.make(device="cuda")
        stored = metrics.store_samples(10)  # not all of them
        given = [
            [
                torch.empty(t.shape, dtype=t.dtype, device="cuda")
                for t in (batch.preds, batch.target)
            ]
            for batch in real
        ]
        with Guard():
            for preds, target in given:
                metrics.update(preds, target)
            metrics.shared_state()  # rows that wait are counted now
        state = stored.state_dict()
        assert (state["seen"], state["reason"], state["rows"]) == (11, None, None)
    metrics = case.make(device="meta")
    stored = metrics.store_samples(20)
    for batch in real:
        metrics.update(batch.preds.to("meta"), batch.target.to("meta"))
    metrics.shared_state()
    columns, reason = stored.columns()
    assert reason is None
    assert columns is not None
    assert columns.device.type == "meta"
