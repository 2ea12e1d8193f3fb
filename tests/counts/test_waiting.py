"""Small batches wait as they were given: the counts are those of batches that do not wait, bit for bit."""

import copy
import pickle
from typing import Any

import pytest
import torch
from guard import Operations
from hypothesis import given
from hypothesis import strategies as st
from oracles import Batch
from registry import CASES, LAW, MetricCase, Metrics
from torch import Tensor

from ptmetrics import MulticlassMetrics, RegressionMetrics
from ptmetrics.counts.waiting import LEAST, MOST, ROWS, Given, Ring

FORM = "any that equals itself"
every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


def feed(metrics: Metrics, batch: Batch) -> None:
    batch.feed(metrics)


def cells(metrics: Metrics) -> dict[str, Tensor]:
    stored: dict[str, Tensor] = metrics.state_dict()["cells"]
    return stored


def assert_same(mine: Metrics, other: Metrics) -> None:
    assert mine.updates == other.updates
    ours, theirs = cells(mine), cells(other)
    assert ours.keys() == theirs.keys()
    for name, cell in ours.items():
        if cell.dtype == torch.int64:
            assert torch.equal(cell, theirs[name]), name
        elif name != "moments":  # kept about a centre that depends on the order
            torch.testing.assert_close(cell, theirs[name], rtol=1e-6, atol=1e-6)
    assert mine.compute().faults == other.compute().faults


@every_case
@given(sizes=st.lists(st.sampled_from([0, 1, 5, 5, 5, 700]), max_size=9), weighted=st.booleans())
@LAW
def test_batches_that_wait_count_as_batches_that_do_not(
    case: MetricCase, sizes: list[int], weighted: bool
) -> None:
    waiting, at_once = case.make(), case.make()
    for seed, rows in enumerate(sizes):
        batch = case.batch(rows, seed, weighted and seed > 2)
        feed(waiting, batch)
        feed(at_once, batch)
        at_once._counts._ring.drop()
        assert at_once.updates == seed + 1
        cells(at_once)
    assert_same(waiting, at_once)


@every_case
def test_a_caller_may_write_over_a_batch_that_waits(case: MetricCase) -> None:
    kept, written_over = case.make(), case.make()
    for seed in range(4):
        batch = case.batch(6, seed, True)
        feed(kept, batch)
        mine = copy.deepcopy(batch)
        feed(written_over, mine)
        for tensor in vars(mine).values():
            if tensor is not None:
                tensor.zero_()
    assert_same(written_over, kept)


@every_case
def test_the_first_bad_step_is_that_of_the_row_and_not_of_the_ring(case: MetricCase) -> None:
    metrics = case.make()
    good, bad = case.batch(7, 1, False), case.batch(7, 1, False)
    good.target.fill_(1)
    good.preds.copy_(torch.full_like(good.preds, 1 / max(1, good.preds.shape[-1])))
    bad.target.fill_(77) if not bad.target.is_floating_point() else bad.target.fill_(float("nan"))
    for batch in (good, good, good, bad, good, bad):
        feed(metrics, batch)
    (kind,) = [k for k in metrics.compute().faults if k.startswith("target")]
    assert metrics.compute().faults[kind]["first_step"] == 3


@every_case
@pytest.mark.parametrize("through", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_takes_what_waits_with_it(case: MetricCase, through: Any) -> None:
    metrics = case.make()
    for seed in range(3):
        feed(metrics, case.batch(5, seed, False))
    other = through(metrics)
    for each in (metrics, other):
        feed(each, case.batch(5, 9, False))
    assert_same(metrics, other)


def given_rows(rows: int, width: int = 10, dtype: torch.dtype = torch.float32) -> Given:
    return Given(torch.ones(rows, width, dtype=dtype), torch.ones(rows, dtype=torch.int64))


def test_the_first_of_a_form_does_not_wait_and_those_after_it_do_until_the_ring_is_full() -> None:
    ring, batch = Ring(), given_rows(ROWS // 8)
    assert not ring.put(batch, FORM), "no second one may come"
    ring.meet(FORM)
    assert [ring.put(batch, FORM) for _ in range(9)] == [True] * 8 + [False]
    assert ring.full
    drained = ring.drain()
    assert drained is not None
    assert len(drained.target) == ROWS
    assert ring.drain() is None


@pytest.mark.parametrize("rows", [0, ROWS // LEAST + 1, 10**5])
def test_batches_too_large_or_empty_never_wait(rows: int) -> None:
    ring, batch = Ring(), given_rows(rows)
    ring.meet(FORM)
    assert not ring.put(batch, FORM)


def test_the_ring_holds_a_bounded_number_of_the_smallest_batches() -> None:
    ring, batch = Ring(), given_rows(1)
    ring.meet(FORM)
    puts = 0
    while ring.put(batch, FORM):
        puts += 1
    assert puts == MOST


def test_what_waits_keeps_the_type_in_which_it_was_given() -> None:
    ring, batch = Ring(), given_rows(3, dtype=torch.bfloat16)
    ring.meet(FORM)
    ring.put(batch, FORM)
    drained = ring.drain()
    assert drained is not None
    assert drained.preds.dtype == torch.bfloat16


def test_a_training_loop_leaves_no_graph_in_what_waits() -> None:
    metrics, model = MulticlassMetrics(3), torch.nn.Linear(4, 3)
    for _ in range(3):
        metrics.update(model(torch.ones(2, 4)), torch.tensor([0, 1]))
    assert not any(cell.requires_grad for cell in metrics._counts.state.values())


def test_targets_that_a_graph_made_leave_none_in_what_waits() -> None:
    metrics, teacher, batch = RegressionMetrics(), torch.nn.Linear(4, 1), torch.ones(2, 4)
    with torch.no_grad():
        for _ in range(3):
            metrics.update(torch.zeros(2, 1), teacher(batch))
        metrics.compute()
    for _ in range(3):
        metrics.update(torch.zeros(2, 1), teacher(batch))
    waiting = metrics._counts._ring._whole
    assert waiting is not None
    assert not waiting.target.requires_grad
    assert metrics.compute().n == 12


def test_reset_forgets_what_waits_and_keeps_its_place() -> None:
    metrics, batch = MulticlassMetrics(3), (torch.eye(3), torch.arange(3))
    for _ in range(3):
        metrics.update(*batch)
    metrics.reset()
    assert metrics.compute().n == 0
    with Operations() as seen:
        metrics.update(*batch)
    assert seen.names == ["copy_.default"] * 2
    assert metrics.compute().n == 3
