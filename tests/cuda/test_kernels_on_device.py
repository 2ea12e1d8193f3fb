"""On a real GPU a kernel counts what the tensor operations count, in one launch, with the same bits each time."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from on_device import (
    DEVICE,
    FLOATS,
    assert_same_bits,
    assert_same_counts,
    channels_last,
    deterministic,
    laid_out,
    needs_gpu,
    no_wait,
    strided,
    transposed,
)
from oracles import Batch
from torch import Tensor

from ptmetrics import MulticlassMetrics
from ptmetrics.counts import kernels

sys.path.insert(0, str(Path(__file__).parent.parent / "kernels"))
from batches import class_batch, in_parts, on

pytestmark = needs_gpu
SHAPES: list[tuple[int, int, tuple[int, ...]]] = [
    (1, 2, ()),
    (1000, 2, ()),
    (64, 10, ()),
    (70_000, 10, ()),
    (513, 37, ()),
    (300, 500, ()),
    (4099, 1000, ()),
    (257, 3000, ()),
    (8, 21, (65, 63)),
    (70, 5, (33,)),
    (3, 150, (40, 40)),
    (300, 5000, ()),
    (130, 32_000, ()),
    (3, 5000, (40,)),
]


def counted(batches: list[Batch], *, kernel: bool, **config: Any) -> MulticlassMetrics:
    metrics = MulticlassMetrics(**config, device=DEVICE)
    with on(*["cuda"] * kernel), no_wait():
        for batch in batches:
            batch.feed(metrics)
    assert not kernels._FAILED
    assert metrics._kernel is not None
    assert (metrics._kernel._bound is not None) == kernel
    return metrics


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("probs", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_kernel_counts_what_the_tensor_operations_count(
    shape: tuple[int, int, tuple[int, ...]], probs: bool, weighted: bool, dtype: torch.dtype
) -> None:
    rows, classes, pixels = shape
    options = {"probs": probs, "weighted": weighted}
    batches = [class_batch(n, classes, dtype, *pixels, **options) for n in (rows, 5)]
    here = [batch.to(DEVICE) for batch in batches]
    config = {
        "num_classes": classes,
        "inputs": "probs" if probs else "logits",
        "topk": (1, 2),
        "ignore_index": -100,
        "class_dim": 1,
    }
    mine = counted(here, kernel=True, **config)
    theirs = counted(here, kernel=False, **config)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    assert_same_counts(mine, theirs, tolerance)
    if not weighted:
        assert_same_bits(mine, counted(here, kernel=True, **config))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(70_000, 10, ()), (300, 5000, ()), (8, 21, (65, 63))], ids=str)
def test_slices_and_groups_are_counted_as_the_tensor_operations_count_them(
    shape: tuple[int, int, tuple[int, ...]], weighted: bool
) -> None:
    rows, classes, pixels = shape
    batches = []
    for n in (rows, 5):
        batch = class_batch(n, classes, torch.float64, *pixels, weighted=weighted)
        batches.append(in_parts(batch, 5, groups=True).to(DEVICE))
    config = {"num_classes": classes, "topk": (1, 2), "slices": 5, "groups": True, "class_dim": 1}
    mine = counted(batches, kernel=True, **config)
    assert_same_counts(mine, counted(batches, kernel=False, **config), 1e-12)
    if not weighted:
        assert_same_bits(mine, counted(batches, kernel=True, **config))


@pytest.mark.parametrize("layout", [strided, transposed, channels_last], ids=lambda f: f.__name__)
@pytest.mark.parametrize("shape", [(200, 7, ()), (4, 7, (9, 20))], ids=str)
def test_a_kernel_reads_any_layout(
    shape: tuple[int, int, tuple[int, ...]], layout: Callable[[Tensor], Tensor]
) -> None:
    rows, classes, pixels = shape
    batch = class_batch(rows, classes, torch.float64, *pixels).to(DEVICE)
    config = {"num_classes": classes, "class_dim": 1}
    found = counted([laid_out(batch, layout)], kernel=True, **config)
    assert_same_counts(found, counted([batch], kernel=False, **config), 1e-12)


def launched(call: Callable[[], object]) -> list[str]:
    """Names of the kernels that the device ran."""
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        call()
        torch.cuda.synchronize()
    return [e.name for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", [(64, 10), (256, 1000), (4, 21, 64, 64)], ids=str)
def test_an_update_is_one_launch(shape: tuple[int, ...]) -> None:
    metrics = MulticlassMetrics(shape[1], device=DEVICE)
    preds = torch.randn(shape, device=DEVICE)
    target = torch.zeros(shape[0], *shape[2:], dtype=torch.int64, device=DEVICE)
    for _ in range(3):
        metrics.update(preds, target)
    names = launched(lambda: metrics.update(preds, target))
    assert names == ["count_classes"]


def test_a_graph_that_is_captured_replays_the_kernel() -> None:
    batches = [class_batch(300, 10).to(DEVICE) for _ in range(2)]
    static = Batch(batches[0].preds.clone(), batches[0].target.clone())
    metrics = MulticlassMetrics(10, device=DEVICE)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            static.feed(metrics)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        static.feed(metrics)
    metrics.reset()
    for batch in batches:
        static.preds.copy_(batch.preds)
        graph.replay()
    alone = counted(batches, kernel=True, num_classes=10)
    for name in ("confusion", "losses", "calibration", "confidence", "rows"):
        assert torch.equal(metrics.shared_state()[name], alone.shared_state()[name]), name


def test_the_first_batch_of_a_captured_graph_is_left_to_the_tensor_operations() -> None:
    preds = torch.randn(64, 11, device=DEVICE)
    target = torch.zeros(64, dtype=torch.int64, device=DEVICE)
    with on():
        metrics = MulticlassMetrics(11, device=DEVICE)
        metrics.update(preds, target)  # what torch itself does the first time
    metrics.reset()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        metrics.update(preds, target)
    graph.replay()
    graph.replay()
    assert int(metrics.shared_state()["rows"]) == 2 * 64


def test_autocast_and_deterministic_mode_change_nothing() -> None:
    batches = [class_batch(300, 10).to(DEVICE)]
    expected = counted(batches, kernel=True, num_classes=10)
    with torch.autocast(DEVICE, torch.bfloat16), deterministic(), torch.inference_mode():
        found = counted(batches, kernel=True, num_classes=10)
    assert_same_bits(found, expected)


def test_metrics_on_two_streams_at_once_do_not_meet() -> None:
    batch = class_batch(60_000, 10).to(DEVICE)
    torch.cuda.synchronize()
    metrics = [MulticlassMetrics(10, device=DEVICE) for _ in range(2)]
    streams = [torch.cuda.Stream() for _ in metrics]
    for _ in range(20):
        for one, stream in zip(metrics, streams, strict=True):
            with torch.cuda.stream(stream):
                batch.feed(one)
    torch.cuda.synchronize()
    alone = counted([batch] * 20, kernel=True, num_classes=10)
    for one in metrics:
        assert_same_bits(one, alone)


@needs_gpu
def test_no_memory_is_taken_beside_the_batch() -> None:
    metrics = MulticlassMetrics(21, device=DEVICE)
    preds = torch.randn(4, 21, 256, 256, device=DEVICE)
    target = torch.zeros(4, 256, 256, dtype=torch.int64, device=DEVICE)
    metrics.update(preds, target)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    metrics.update(preds, target)
    assert torch.cuda.max_memory_allocated() == before
