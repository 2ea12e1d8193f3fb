"""Small batches wait as they were given: the counts are those of batches that do not wait, bit for bit."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ptmetrics.counts.batch import Batch
from ptmetrics.counts.small_batches import (
    LEAST_BATCHES,
    MOST_BATCHES,
    ROOM_BY_DEVICE,
    SmallBatchBuffer,
)
from ptmetrics.errors import StateError
from ptmetrics.metrics.base import Metrics
from ptmetrics.metrics.binary import BinaryMetrics
from ptmetrics.metrics.multiclass import MulticlassMetrics
from ptmetrics.metrics.multilabel import MultilabelMetrics
from ptmetrics.metrics.regression import RegressionMetrics
from ptmetrics.testing import Guard, Operations, fake_cuda

LAW = settings(deadline=None, max_examples=12, derandomize=True)
FORM = "any that equals itself"
ROWS = ROOM_BY_DEVICE["cpu"].rows
Given = dict[str, Tensor]


def classes(rows: int, seed: int, *, weighted: bool) -> Given:
    g = torch.Generator().manual_seed(seed)
    given = {
        "preds": torch.randn(rows, 4, generator=g),
        "target": torch.randint(-1, 5, (rows,), generator=g),
    }
    if weighted:
        given["sample_weight"] = torch.rand(rows, generator=g)
    return given


def labels_in_parts(rows: int, seed: int, *, weighted: bool) -> Given:
    g = torch.Generator().manual_seed(seed)
    given = classes(rows, seed, weighted=weighted)
    given["target"] = torch.randint(0, 3, (rows, 4), generator=g)
    given["slices"] = torch.randint(-1, 4, (rows,), generator=g)
    given["group"] = torch.randint(0, 30, (rows,), generator=g)
    return given


def make_classes() -> Metrics:
    return MulticlassMetrics(4, topk=(1, 2))


def make_labels() -> Metrics:
    return MultilabelMetrics(4, slices=("a", "b", "c"), groups=True, curves=False)


Draw = Callable[..., Given]
each_metric = pytest.mark.parametrize(
    ("make", "draw"),
    [(make_classes, classes), (make_labels, labels_in_parts)],
    ids=["multiclass", "multilabel-parts"],
)


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
        else:
            torch.testing.assert_close(cell, theirs[name], rtol=1e-6, atol=1e-6)
    assert mine.compute().faults == other.compute().faults


@each_metric
@given(sizes=st.lists(st.sampled_from([0, 1, 5, 5, 5, 700]), max_size=9), weighted=st.booleans())
@LAW
def test_batches_that_wait_count_as_batches_that_do_not(
    make: Callable[[], Metrics], draw: Draw, sizes: list[int], weighted: bool
) -> None:
    waiting, at_once = make(), make()
    for seed, rows in enumerate(sizes):
        batch = draw(rows, seed, weighted=weighted and seed > 2)
        waiting.update(**batch)
        at_once.update(**batch)
        at_once.compute()
        assert at_once.updates == seed + 1
    assert_same(waiting, at_once)


@each_metric
def test_a_caller_may_write_over_a_batch_that_waits(
    make: Callable[[], Metrics], draw: Draw
) -> None:
    written_over = make()
    for seed in range(4):
        batch = draw(6, seed, weighted=True)
        written_over.update(**batch)
        for tensor in batch.values():
            tensor.zero_()
    at_once = make()
    for seed in range(4):
        at_once.update(**draw(6, seed, weighted=True))
        at_once.compute()
    assert_same(written_over, at_once)


def many_classes(rows: int, seed: int, *, weighted: bool) -> Given:
    """Too many scores to wait as they are, with ties of the target, and rows that are refused."""
    g = torch.Generator().manual_seed(seed)
    given = {
        "preds": torch.randn(rows, 300, generator=g).round(decimals=1),
        "target": torch.randint(-1, 300, (rows,), generator=g),
        "slices": torch.randint(-1, 2, (rows,), generator=g),
    }
    given["preds"][seed % rows, 7] = torch.nan
    given["preds"][:100].scatter_(1, given["target"][:100].clamp(min=0).unsqueeze(1), 4.0)
    if weighted:
        given["sample_weight"] = torch.rand(rows, generator=g)
    return given


@pytest.mark.parametrize("inputs", ["logits", "probs"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_of_large_batches_what_was_read_waits(
    inputs: str, dtype: torch.dtype, weighted: bool
) -> None:
    options: dict[str, Any] = {"inputs": inputs, "topk": (1, 5), "slices": 2}
    waiting, at_once = MulticlassMetrics(300, **options), MulticlassMetrics(300, **options)
    for seed in range(6):
        batch = many_classes(700, seed, weighted=weighted)
        if inputs == "probs":
            batch["preds"] = batch["preds"].softmax(1)
        batch["preds"] = batch["preds"].to(dtype).requires_grad_()
        at_once.update(**batch)
        at_once.compute()
        waiting.update(**batch)
        for tensor in batch.values():
            tensor.detach().zero_()
    assert waiting._buffer._filled == 5
    assert_same(waiting, at_once)


def test_the_first_bad_step_is_that_of_the_row_and_not_of_the_buffer() -> None:
    metrics = MulticlassMetrics(3)
    for step in range(6):
        target = torch.tensor([0, 77 if step in (3, 5) else 1])
        metrics.update(torch.zeros(2, 3), target)
    fault = metrics.compute().faults["target-out-of-range"]
    assert (fault["count"], fault["first_step"]) == (2, 3)


@each_metric
@pytest.mark.parametrize("through", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_takes_what_waits_with_it(
    make: Callable[[], Metrics], draw: Draw, through: Any
) -> None:
    metrics = make()
    for seed in range(3):
        metrics.update(**draw(5, seed, weighted=False))
    other = through(metrics)
    for each in (metrics, other):
        each.update(**draw(5, 9, weighted=False))
    assert_same(metrics, other)


@each_metric
def test_a_loaded_state_takes_the_place_of_what_waits(
    make: Callable[[], Metrics], draw: Draw
) -> None:
    stored, metrics = make(), make()
    stored.update(**draw(20, 1, weighted=False))
    for seed in range(3):
        metrics.update(**draw(5, seed, weighted=False))
    metrics.load_state_dict(stored.state_dict())
    assert_same(metrics, stored)
    for each in (metrics, stored):
        for seed in range(3):
            each.update(**draw(5, seed, weighted=False))
    assert_same(metrics, stored)


def test_a_refused_state_costs_nothing_of_what_waits() -> None:
    metrics = MulticlassMetrics(4)
    for seed in range(3):
        metrics.update(**classes(5, seed, weighted=False))
    with pytest.raises(StateError):
        metrics.load_state_dict(MulticlassMetrics(3).state_dict())
    expected = MulticlassMetrics(4)
    for seed in range(3):
        expected.update(**classes(5, seed, weighted=False))
        expected.compute()
    assert_same(metrics, expected)


def waiting_batch(rows: int, dtype: torch.dtype = torch.float32) -> Batch:
    return Batch(torch.ones(rows, 10, dtype=dtype), torch.ones(rows, dtype=torch.int64))


def test_the_first_of_a_form_does_not_wait_and_those_after_it_do_until_the_buffer_is_full() -> None:
    buffer, batch = SmallBatchBuffer(), waiting_batch(ROWS // 8)
    assert not buffer.put(batch, FORM), "no second one may come"
    buffer.expect(FORM)
    assert [buffer.put(batch, FORM) for _ in range(9)] == [True] * 8 + [False]
    assert buffer.full
    taken = buffer.take()
    assert taken is not None
    assert len(taken) == ROWS
    assert buffer.take() is None
    assert not buffer.put(batch, "another form")
    assert not buffer.put(batch, None)


@pytest.mark.parametrize("rows", [0, ROWS // LEAST_BATCHES + 1, 10**5])
def test_batches_too_large_or_empty_never_wait(rows: int) -> None:
    buffer, batch = SmallBatchBuffer(), waiting_batch(rows)
    buffer.expect(FORM)
    assert not buffer.put(batch, FORM)


def test_the_buffer_holds_a_bounded_number_of_the_smallest_batches() -> None:
    buffer, batch = SmallBatchBuffer(), waiting_batch(1)
    buffer.expect(FORM)
    puts = 0
    while buffer.put(batch, FORM):
        puts += 1
    assert puts == MOST_BATCHES


def test_what_waits_keeps_type_steps_and_ids_in_which_it_was_given() -> None:
    buffer = SmallBatchBuffer()
    buffer.expect(FORM)
    for step in (7, 8, 9):
        batch = waiting_batch(2, torch.bfloat16)
        batch.slices = torch.full((2,), step)
        batch.step = step
        assert buffer.put(batch, FORM)
    taken = buffer.take()
    assert taken is not None
    assert isinstance(taken.step, Tensor)
    assert taken.slices is not None
    assert taken.preds.dtype == torch.bfloat16
    assert taken.step.tolist() == taken.slices.tolist() == [7, 7, 8, 8, 9, 9]
    assert taken.weight is None
    assert taken.group is None


def test_a_training_loop_leaves_no_graph_in_what_waits() -> None:
    metrics, model = MulticlassMetrics(3), torch.nn.Linear(4, 3)
    for _ in range(3):
        metrics.update(model(torch.ones(2, 4)), torch.tensor([0, 1]))
    taken = metrics._buffer.take()
    assert taken is not None
    assert not taken.preds.requires_grad
    assert not any(cell.requires_grad for cell in cells(metrics).values())


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


COPIES = {"copy_.default"}


def launches(metrics: Metrics, *batch: Tensor) -> list[str]:
    with Guard() as seen:
        metrics.update(*batch)
    return list(seen.names)


def make_whole_labels() -> Metrics:
    return MultilabelMetrics(4)


def make_numbers() -> Metrics:
    return RegressionMetrics()


def make_curves() -> Metrics:
    return BinaryMetrics()


@pytest.mark.parametrize("make", [make_classes, make_whole_labels, make_numbers, make_curves])
@pytest.mark.slow
def test_a_small_batch_on_cuda_is_two_copies_until_enough_have_come(
    make: Callable[[], Metrics],
) -> None:
    shape: tuple[int, ...] = (64,)
    truth: tuple[int, ...] = (64,)
    if make in (make_classes, make_whole_labels):
        shape = (64, 4)
    if make is make_whole_labels:
        truth = shape
    with fake_cuda():
        metrics = make().to("cuda")
        batch = (
            torch.zeros(shape, device="cuda"),
            torch.zeros(truth, dtype=torch.int64, device="cuda"),
        )
        alone = launches(metrics, *batch)
        assert len(alone) > 20
        launches(metrics, *batch)  # makes room
        seen = [launches(metrics, *batch) for _ in range(MOST_BATCHES - 1)]
        waiting = seen[:-1]
        assert all(set(names) == COPIES and len(names) == 2 for names in waiting)
        assert len(seen[-1]) > 20, "the last one that fits has all of them counted"
        assert len(seen[-1]) < 2 * len(alone)


def test_while_a_graph_is_captured_nothing_comes_to_wait_and_what_waits_goes_on_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    captures = True
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: captures)
    with fake_cuda():
        metrics = make_classes().to("cuda")
        batch = torch.zeros(6, 4, device="cuda"), torch.zeros(6, dtype=torch.int64, device="cuda")
        for _ in range(3):
            alone = launches(metrics, *batch)
        assert metrics._buffer._filled == 2
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        for _ in range(2):
            alone = launches(metrics, *batch)
            assert 20 < len(alone) < 120, "this batch, and none of those that wait"
            assert COPIES.isdisjoint(alone)
            assert metrics._buffer._filled == 2
        captures = False
        assert set(launches(metrics, *batch)) == COPIES
        assert metrics._buffer._filled == 3
        assert metrics.updates == 6


@each_metric
def test_as_many_rows_as_wait_on_cuda_count_the_same(
    make: Callable[[], Metrics], draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = make()
    waiting = make()
    monkeypatch.setitem(ROOM_BY_DEVICE, "cpu", ROOM_BY_DEVICE["cuda"])
    for seed in range(12):
        waiting.update(**draw(6000, seed, weighted=True))
    assert waiting._buffer._capacity == ROOM_BY_DEVICE["cuda"].rows // 6000
    monkeypatch.delitem(ROOM_BY_DEVICE, "cpu")
    for seed in range(12):
        at_once.update(**draw(6000, seed, weighted=True))
    assert at_once._buffer._capacity == 0
    assert_same(waiting, at_once)
