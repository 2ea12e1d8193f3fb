"""On a real GPU every metric counts what it counts on the CPU, and waits for nothing."""

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from on_device import (
    DEVICE,
    FLOATS,
    as_dtype,
    assert_same_bits,
    assert_same_counts,
    assert_same_scores,
    batches_of,
    channels_last,
    counted,
    deterministic,
    every_case,
    laid_out,
    needs_gpu,
    no_wait,
    strided,
    transposed,
)
from oracles import Batch
from registry import MetricCase
from torch import Tensor

import ptmetrics as pm
from ptmetrics.metrics.base import Metrics


@every_case
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_counts_are_those_of_the_cpu(case: MetricCase, dtype: torch.dtype) -> None:
    batches = [as_dtype(batch, dtype) for batch in batches_of(case)]
    loss = 1e-6
    if dtype == torch.float64:
        loss = 1e-12
    assert_same_counts(counted(case, *batches), case.counted(batches), loss)


@every_case
@pytest.mark.parametrize("layout", [strided, transposed, channels_last], ids=lambda f: f.__name__)
def test_counts_do_not_depend_on_the_layout(
    case: MetricCase, layout: Callable[[Tensor], Tensor]
) -> None:
    batches = batches_of(case)
    metrics = case.make(device=DEVICE)
    for batch in batches:
        laid_out(batch.to(DEVICE), layout).feed(metrics)
    assert_same_counts(metrics, case.counted(batches))


@every_case
def test_scores_and_faults_are_those_of_the_cpu(case: MetricCase) -> None:
    batches = batches_of(case)
    assert_same_scores(counted(case, *batches), case.counted(batches))


@pytest.mark.fault(28)
@every_case
def test_no_update_waits(case: MetricCase) -> None:
    plain, weighted, small = [batch.to(DEVICE) for batch in batches_of(case)]
    metrics = case.make()  # on the CPU: it follows its first batch
    with no_wait():
        for batch in (plain, weighted, small, plain):
            batch.feed(metrics)
        metrics.merge_state([metrics.fresh()])
        metrics.reset()
        weighted.feed(metrics)
    assert metrics.device.type == DEVICE
    assert metrics.updates == 1


@every_case
def test_two_runs_give_the_same_integers(case: MetricCase) -> None:
    """Sums of weights are added up atomically, in any order, unless torch is told otherwise (below)."""
    batches = batches_of(case, 3000)
    assert_same_counts(counted(case, *batches), counted(case, *batches))


@pytest.mark.fault(30)
@every_case
def test_deterministic_mode_allows_updates_and_scores_and_gives_the_same_bits(
    case: MetricCase,
) -> None:
    batches = batches_of(case, 3000)
    with deterministic():
        first, second = counted(case, *batches), counted(case, *batches)
        assert_same_bits(first, second)
        assert repr(first.compute().to_dict()) == repr(second.compute().to_dict())
    assert_same_counts(first, case.counted(batches))


@every_case
def test_states_merge_move_and_are_stored_across_devices(case: MetricCase) -> None:
    batches = batches_of(case)
    first, *others = [case.counted([batch]) for batch in batches]
    expected = first.merge_state(others)
    first, *others = [counted(case, batch) for batch in batches]
    merged = first.merge_state(others)
    assert_same_counts(merged, expected)
    file = io.BytesIO()
    torch.save(merged.state_dict(), file)
    for device in ("cpu", DEVICE):
        file.seek(0)
        stored = torch.load(file, weights_only=True, map_location="cpu")
        loaded = case.make(device=device)
        loaded.load_state_dict(stored)
        assert loaded.device.type == device
        assert_same_bits(loaded, merged)
        loaded.load_state_dict(merged.state_dict())
        assert_same_bits(loaded, merged)
    moved = merged.to("cpu")
    assert moved.device.type == "cpu"
    assert_same_bits(moved, loaded)
    batches[1].feed(moved)
    back = moved.to(DEVICE)
    batches[2].to(DEVICE).feed(back)
    for batch in batches[1:]:
        batch.feed(expected)
    assert_same_counts(back, expected)


@pytest.mark.fault(35)
@every_case
@needs_gpu
def test_memory_is_flat_over_two_hundred_updates(case: MetricCase) -> None:
    plain, weighted, _ = [batch.to(DEVICE) for batch in batches_of(case)]
    metrics = case.make(device=DEVICE)
    held = []
    for step in range(210):
        plain.feed(metrics)
        weighted.feed(metrics)
        if step in (9, 209):
            held.append(torch.cuda.memory_allocated())
    assert held[1] <= held[0]


def logits(rows: int, classes: int, *dense: int) -> Batch:
    g = torch.Generator().manual_seed(rows)
    preds = torch.randn(rows, classes, *dense, generator=g)
    return Batch(preds, torch.randint(classes, (rows, *dense), generator=g))


def scores(rows: int, *labels: int) -> Batch:
    g = torch.Generator().manual_seed(rows)
    preds = torch.randn(rows, *labels, generator=g)
    return Batch(preds, torch.randint(2, (rows, *labels), generator=g))


def numbers(rows: int) -> Batch:
    g = torch.Generator().manual_seed(rows)
    target = 1e3 + torch.randn(rows, generator=g)
    return Batch(target + torch.randn(rows, generator=g), target)


LARGE: dict[str, tuple[Callable[..., Metrics], Batch]] = {
    "1000 classes": (partial(pm.MulticlassMetrics, 1000, topk=(1, 5)), logits(4096, 1000)),
    "10 classes": (partial(pm.MulticlassMetrics, 10, topk=(1, 5)), logits(65536, 10)),
    "curves of classes": (partial(pm.MulticlassMetrics, 20, curves=True), logits(4096, 20)),
    "pixels": (partial(pm.MulticlassMetrics, 21), logits(3, 21, 96, 80)),
    "tokens": (partial(pm.MulticlassMetrics, 5000, class_dim=1), logits(8, 5000, 33)),
    "binary": (pm.BinaryMetrics, scores(200_000)),
    "binary, fine": (partial(pm.BinaryMetrics, curves="fine"), scores(200_000)),
    "binary, exact": (
        partial(pm.BinaryMetrics, curves="exact", capacity=300_000),
        scores(200_000),
    ),
    "labels": (partial(pm.MultilabelMetrics, 64), scores(1024, 64)),
    "many labels": (partial(pm.MultilabelMetrics, 1030), scores(256, 1030)),
    "real values": (pm.RegressionMetrics, numbers(100_000)),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize(("make", "batch"), LARGE.values(), ids=LARGE.keys())
def test_large_batches_are_counted_as_on_the_cpu(
    make: Any, batch: Batch, dtype: torch.dtype
) -> None:
    batch = as_dtype(batch, dtype)
    mine, theirs = make(device=DEVICE), make()
    here = batch.to(DEVICE)
    with no_wait():
        here.feed(mine)
    batch.feed(theirs)
    assert_same_counts(mine, theirs)
    assert_same_scores(mine, theirs)
