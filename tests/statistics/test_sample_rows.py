"""The rows that are kept of samples are those that the scores count: a law over every metric that keeps them."""

import math

import numpy as np
import pytest
import torch
from guard import Guard, fake_cuda
from hypothesis import given
from hypothesis import strategies as st
from oracles import Batch
from registry import CASES, LAW, MetricCase

import ptmetrics as pm
from ptmetrics.loop.samples import as_rows
from ptmetrics.record.samples import CLASS_ROW, POINT_ROW, Rows

KEEPING = [case for case in CASES if case.name.split("-")[0] != "multilabel" and "outputs" not in case.name]


def rows_of(case: MetricCase, batches: list[Batch]) -> Rows:
    metrics = case.make()
    columns = [metrics.sample_rows(batch.preds, batch.target) for batch in batches]
    assert all(column is not None for column in columns)
    return as_rows(torch.cat([column for column in columns if column is not None], 1))


@pytest.mark.parametrize("case", KEEPING, ids=lambda case: case.name)
@LAW
@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=3), seed=st.integers(0, 999))
def test_kept_rows_give_the_counts_and_the_losses_that_are_reported(
    case: MetricCase, sizes: list[int], seed: int
) -> None:
    batches = [case.batch(size, seed + i, False) for i, size in enumerate(sizes)]
    scores, rows = case.counted(batches).compute(), rows_of(case, batches)
    if rows.dtype == POINT_ROW:
        error = rows["error"][~np.isnan(rows["error"])]
        assert error.size == scores.n
        if error.size:
            assert np.square(error).mean() == pytest.approx(scores["mse"].value)
            assert np.abs(error).mean() == pytest.approx(scores["mae"].value)
        return
    counted = rows[rows["predicted"] >= 0]
    matrix = np.zeros(scores.confusion.shape, np.int64)  # type: ignore[union-attr]
    np.add.at(matrix, (counted["target"], counted["predicted"]), 1)
    assert matrix.tolist() == scores.confusion.tolist()  # type: ignore[union-attr]
    losses = counted["loss"][~np.isnan(counted["loss"])].astype(np.float64)
    if "nll" in scores and losses.size:
        assert losses.mean() == pytest.approx(scores["nll"].value, rel=1e-6)


def test_the_target_stands_as_it_was_given() -> None:
    metrics = pm.MulticlassMetrics(3, ignore_index=-100)
    target = torch.tensor([2, -100, 7, 2**40])
    columns = metrics.sample_rows(torch.eye(3)[[2, 0, 0, 0]], target)
    assert columns is not None
    rows = as_rows(columns)
    assert rows.dtype == CLASS_ROW
    assert rows["target"].tolist() == [2, -100, 7, 2**31 - 1]
    assert rows["predicted"].tolist() == [2, -1, -1, -1]


def test_losses_of_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [30.0, 0.0], [-math.inf, 0.0]])
    columns = pm.MulticlassMetrics(2).sample_rows(logits, torch.tensor([1, 0, 0]))
    assert columns is not None
    assert as_rows(columns)["loss"].tolist() == pytest.approx([math.log(4 / 3), math.exp(-30), math.inf])
    columns = pm.BinaryMetrics().sample_rows(torch.tensor([math.log(3.0), -30.0]), torch.tensor([1, 0]))
    assert columns is not None
    assert as_rows(columns)["loss"].tolist() == pytest.approx([math.log(4 / 3), math.exp(-30)])


def test_a_sample_that_is_no_single_row_is_not_kept() -> None:
    many = pm.MultilabelMetrics(2).sample_rows(torch.zeros(3, 2), torch.zeros(3, 2).long())
    outputs = pm.RegressionMetrics(num_outputs=2).sample_rows(torch.zeros(3, 2), torch.zeros(3, 2))
    assert many is None
    assert outputs is None


@pytest.mark.fault(28)
@pytest.mark.parametrize("case", KEEPING, ids=lambda case: case.name)
def test_reading_rows_waits_for_nothing(case: MetricCase) -> None:
    real = [case.batch(size, 0, False) for size in (5, 1, 0)]
    with fake_cuda():
        metrics = case.make(device="cuda")
        for batch in real:
            preds, target = (
                torch.empty(t.shape, dtype=t.dtype, device="cuda") for t in (batch.preds, batch.target)
            )
            with Guard() as seen:
                columns = metrics.sample_rows(preds, target)
                names = list(seen.names)
            assert columns is not None
            assert columns.shape[1] == len(batch.target)
            assert len(names) <= 30
    for batch in real:
        columns = case.make(device="meta").sample_rows(batch.preds.to("meta"), batch.target.to("meta"))
        assert columns is not None
        assert columns.device.type == "meta"
