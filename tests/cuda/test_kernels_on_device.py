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

from ptmetrics import BinaryMetrics, MulticlassMetrics, MultilabelMetrics, RegressionMetrics
from ptmetrics.counts import kernels
from ptmetrics.metrics.base import Metrics

sys.path.insert(0, str(Path(__file__).parent.parent / "kernels"))
from batches import assert_same_histograms, class_batch, in_parts, on, point_batch
from yes_no_batches import assert_same_cells, two_columns, yes_no_batch

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


def counted(
    batches: list[Batch], *, kernel: bool, **config: Any
) -> MulticlassMetrics | RegressionMetrics:
    make: Any = RegressionMetrics
    if "num_classes" in config:
        make = MulticlassMetrics
    metrics = make(**config, device=DEVICE)
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


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "shape",
    [(1, 1, ()), (300_000, 1, ()), (70_000, 5, ()), (8, 1, (65, 63)), (70, 1, (33,))],
    ids=str,
)
def test_errors_are_counted_as_the_tensor_operations_count_them(
    shape: tuple[int, int, tuple[int, ...]], weighted: bool, dtype: torch.dtype
) -> None:
    rows, outputs, pixels = shape
    batches = [
        point_batch(n, outputs, dtype, *pixels, weighted=weighted).to(DEVICE) for n in (rows, 5)
    ]
    mine = counted(batches, kernel=True, num_outputs=outputs)
    assert_same_counts(mine, counted(batches, kernel=False, num_outputs=outputs), 1e-12)
    if not weighted:
        assert_same_bits(mine, counted(batches, kernel=True, num_outputs=outputs))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(70_000, 1, ()), (9000, 5, ()), (8, 1, (65, 63))], ids=str)
def test_slices_of_errors_are_counted_as_the_tensor_operations_count_them(
    shape: tuple[int, int, tuple[int, ...]], weighted: bool
) -> None:
    rows, outputs, pixels = shape
    batches = []
    for n in (rows, 5):
        batch = point_batch(n, outputs, torch.float32, *pixels, weighted=weighted)
        dims = None if pixels else 1
        batches.append(in_parts(batch, 3, groups=not pixels, rows=dims).to(DEVICE))
    config = {"num_outputs": outputs, "slices": 3, "groups": None if pixels else True}
    mine = counted(batches, kernel=True, **config)
    assert_same_counts(mine, counted(batches, kernel=False, **config), 1e-12)
    if not weighted:
        assert_same_bits(mine, counted(batches, kernel=True, **config))


@pytest.mark.parametrize("inputs", ["logits", "probs"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(9000, 10, ()), (500, 1000, ()), (4, 21, (65, 63))], ids=str)
def test_curves_of_classes_are_those_of_the_tensor_operations(
    shape: tuple[int, int, tuple[int, ...]], weighted: bool, dtype: torch.dtype, inputs: str
) -> None:
    rows, classes, pixels = shape
    options = {"weighted": weighted, "probs": inputs == "probs"}
    batch = class_batch(rows, classes, dtype, *pixels, **options).to(DEVICE)
    config = {"num_classes": classes, "inputs": inputs, "curves": True, "class_dim": 1}
    mine = counted([batch], kernel=True, **config)
    theirs = counted([batch], kernel=False, **config)
    exact = dtype == torch.float64 or inputs == "probs"
    assert_same_histograms(mine, theirs, exact=exact)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", [(9000, 10, ()), (500, 1000, ()), (4, 21, (65, 63))], ids=str)
def test_losses_at_all_temperatures_are_those_of_the_tensor_operations(
    shape: tuple[int, int, tuple[int, ...]], dtype: torch.dtype
) -> None:
    rows, classes, pixels = shape
    batch = class_batch(rows, classes, dtype, *pixels, weighted=True).to(DEVICE)
    config = {"num_classes": classes, "temperature": True, "class_dim": 1}
    mine = counted([batch], kernel=True, **config)
    theirs = counted([batch], kernel=False, **config)
    assert_same_counts(mine, theirs, 1e-12 if dtype == torch.float64 else 1e-6)


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


def yes_no_counted(batches: list[Batch], *, kernel: bool, **config: Any) -> Metrics:
    if "num_labels" in config:
        metrics: Metrics = MultilabelMetrics(**config, device=DEVICE)
    else:
        metrics = BinaryMetrics(**config, device=DEVICE)
    with on(*[DEVICE] * kernel), no_wait():
        for batch in batches:
            batch.to(DEVICE).feed(metrics)
    assert not kernels._FAILED
    assert metrics._kernel is not None
    assert (metrics._kernel._bound is not None) == kernel
    return metrics


def assert_same_yes_no(batches: list[Batch], loss: float = 1e-12, **config: Any) -> None:
    """With a kernel and without one; the same bits each time where there are no weights."""
    mine = yes_no_counted(batches, kernel=True, **config)
    theirs = yes_no_counted(batches, kernel=False, **config)
    assert_same_cells(mine, theirs, loss, by_logarithm=config.get("inputs") == "probs")
    if batches[0].weight is None:
        assert_same_bits(mine, yes_no_counted(batches, kernel=True, **config))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("inputs", ["logits", "probs", "labels"])
@pytest.mark.parametrize("shape", [(1,), (777,), (400_000,), (70, 1, 33, 9)], ids=str)
def test_yes_or_no_is_counted_as_the_tensor_operations_count_it(
    shape: tuple[int, ...], inputs: str, weighted: bool, dtype: torch.dtype
) -> None:
    batches = [yes_no_batch(s, inputs, dtype, weighted=weighted) for s in (shape, (5,))]
    loss = 1e-12 if dtype == torch.float64 else 1e-6
    config = {"inputs": inputs, "ignore_index": -100}
    assert_same_yes_no(batches, loss, **config, threshold=0.3)
    if inputs != "labels" and len(shape) == 1:
        columns = [two_columns(batch, inputs) for batch in batches]
        assert_same_yes_no(columns, loss, **config, curves="fine")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("inputs", ["logits", "probs", "labels"])
@pytest.mark.parametrize("labels", [1, 3, 20, 80, 129, 1024, 4096])
def test_labels_are_counted_as_the_tensor_operations_count_them(
    labels: int, inputs: str, weighted: bool, dtype: torch.dtype
) -> None:
    shapes = [(3000 if labels < 100 else 300, labels), (2, labels)]
    batches = [yes_no_batch(s, inputs, dtype, weighted=weighted, rows=1) for s in shapes]
    config = {"num_labels": labels, "inputs": inputs, "ignore_index": -100, "beta": 2.0}
    assert_same_yes_no(batches, **config)


@pytest.mark.parametrize("layout", [strided, transposed], ids=lambda f: f.__name__)
def test_yes_or_no_is_read_in_any_layout(layout: Callable[[Tensor], Tensor]) -> None:
    labels = yes_no_batch((200, 6), "logits", torch.float64).to(DEVICE)
    columns = two_columns(yes_no_batch((200,), "logits", torch.float64), "logits").to(DEVICE)
    for batch, config in ((labels, {"num_labels": 6}), (columns, {})):
        found = yes_no_counted([laid_out(batch, layout)], kernel=True, **config)
        assert_same_cells(found, yes_no_counted([batch], kernel=False, **config))


@pytest.mark.parametrize("inputs", ["logits", "probs"])
@pytest.mark.parametrize("curves", ["fp16", "fine"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_score_of_any_bits_has_the_place_that_it_has_without_a_kernel(
    dtype: torch.dtype, curves: str, inputs: str
) -> None:
    g = torch.Generator().manual_seed(3)
    kind = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    info = torch.iinfo(kind)
    scores = torch.randint(info.min, info.max, (200_000,), generator=g, dtype=kind).view(dtype)
    if inputs == "probs":
        scores = torch.where(scores.abs() <= 1, scores.abs(), torch.rand(200_000, generator=g))
        scores = scores.to(dtype)
    target = (torch.rand(200_000, generator=g) < 0.5).long()
    config = {"inputs": inputs, "curves": curves, "losses": False}
    assert_same_yes_no([Batch(scores, target)], **config)
    labels = Batch(scores.view(-1, 4), target.view(-1, 4))
    assert_same_yes_no([labels], inputs=inputs, curves=curves, num_labels=4)


@pytest.mark.parametrize("values", [(0.0,), (1.0, 0.0), tuple(i / 8 for i in range(9))], ids=str)
@pytest.mark.parametrize("inputs", ["logits", "probs"])
def test_scores_that_many_rows_share_are_added_at_once(
    inputs: str, values: tuple[float, ...]
) -> None:
    g = torch.Generator().manual_seed(1)
    scores = torch.tensor(values)[torch.randint(0, len(values), (400_000,), generator=g)]
    target = (torch.rand(400_000, generator=g) < 0.5).long()
    assert_same_yes_no([Batch(scores, target)], 1e-6, inputs=inputs)
    labels = Batch(scores.view(-1, 8), target.view(-1, 8))
    assert_same_yes_no([labels], inputs=inputs, num_labels=8)


@pytest.mark.filterwarnings("ignore")
def test_an_update_of_yes_or_no_is_one_launch() -> None:
    one = BinaryMetrics(device=DEVICE)
    many = MultilabelMetrics(20, device=DEVICE)
    for metrics, shape, name in ((one, (4096,), "count_yes_no"), (many, (256, 20), "count_labels")):
        preds = torch.randn(shape, device=DEVICE)
        target = torch.zeros(shape, dtype=torch.int64, device=DEVICE)
        with on(DEVICE):
            for _ in range(3):
                metrics.update(preds, target)
            names = launched(lambda m=metrics, p=preds, t=target: m.update(p, t))
        assert names == [name]
