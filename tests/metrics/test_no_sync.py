"""No update of any task, option, type or shape makes the host wait: shown on fake CUDA tensors under the guard."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from oracles import Batch
from registry import CASES, MetricCase
from torch import Tensor

import ptmetrics as pm
from ptmetrics import BinaryMetrics, MulticlassMetrics, MultilabelMetrics, RegressionMetrics
from ptmetrics.counts.small_batches import ROOM_BY_DEVICE
from ptmetrics.metrics.base import Metrics
from ptmetrics.testing import Guard, HostSync, Operations, fake_cuda

pytestmark = [pytest.mark.fault(28), pytest.mark.slow]
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
ROWS = (5, 1, 0)
DENSE: tuple[tuple[int, ...], ...] = ((), (4,), (4, 2))


@pytest.fixture(autouse=True)
def _on_fake_cuda() -> Iterator[None]:
    with fake_cuda():
        yield


def cuda(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.zeros(shape, dtype=dtype, device="cuda")


def update(
    metrics: Metrics, preds: Tensor, target: Tensor, weight: Tensor | None = None
) -> list[str]:
    with Guard() as seen:
        metrics.update(preds, target, weight)
    return list(seen.names)


def batches(
    shape: tuple[int, ...],
    target: tuple[int, ...],
    rows: tuple[int, ...],
    inputs: str,
    dtype: torch.dtype,
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Batches of (preds, target), first without weights, then with weights of the shape `rows`."""
    kind = torch.int32 if inputs == "labels" else dtype
    for weight in (None, cuda(*rows, dtype=dtype)):
        yield cuda(*shape, dtype=kind), cuda(*target), weight


def choices(**options: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [
        dict(zip(options, choice, strict=True)) for choice in itertools.product(*options.values())
    ]


INPUTS = ("logits", "probs", "labels")
CUTS = ({"threshold": 0.5, "ignore_index": None}, {"threshold": 0.3, "ignore_index": -1})
BINARY = [
    option | cut
    for option in choices(
        inputs=INPUTS, curves=("fp16", "fine", "exact", None), losses=(True, False)
    )
    for cut in CUTS
]
MULTICLASS = [
    option
    for option in choices(inputs=INPUTS, topk=((1,), (1, 2, 3)), ignore_index=(None, -100, 1))
    if option["inputs"] != "labels" or option["topk"] == (1,)
]
MULTILABEL = [
    option | cut for option in choices(inputs=INPUTS, curves=(True, False)) for cut in CUTS
]


def named(option: dict[str, Any]) -> str:
    return "-".join(str(value).replace(" ", "") for value in option.values())


@pytest.mark.parametrize("option", BINARY, ids=named)
@pytest.mark.slow
def test_every_option_of_the_binary_metrics_waits_for_nothing(option: dict[str, Any]) -> None:
    metrics = BinaryMetrics(**option, device="cuda", capacity=9)
    for rows in ROWS:
        for batch in batches((rows,), (rows,), (rows,), option["inputs"], torch.float32):
            update(metrics, *batch)
    if option["inputs"] != "labels":
        update(metrics, cuda(5, 2, dtype=torch.float32), cuda(5))
        update(metrics, cuda(5, 1, dtype=torch.float32), cuda(5))


@pytest.mark.parametrize("option", MULTICLASS, ids=named)
def test_every_option_of_the_multiclass_metrics_waits_for_nothing(option: dict[str, Any]) -> None:
    metrics = MulticlassMetrics(4, **option, device="cuda")
    for rows in ROWS:
        shape = (rows,) if option["inputs"] == "labels" else (rows, 4)
        for batch in batches(shape, (rows,), (rows,), option["inputs"], torch.float32):
            update(metrics, *batch)


# Histograms are fine up to 64 labels, coarse up to 1,024, and none above.
@pytest.mark.parametrize(
    ("option", "labels"),
    [(o, 3) for o in MULTILABEL] + [(o, n) for o in MULTILABEL[:1] for n in (70, 1030)],
)
@pytest.mark.slow
def test_every_option_of_the_multilabel_metrics_waits_for_nothing(
    option: dict[str, Any], labels: int
) -> None:
    metrics = MultilabelMetrics(labels, **option, device="cuda")
    for rows in ROWS:
        shape = (rows, labels)
        for batch in batches(shape, shape, (rows,), option["inputs"], torch.float32):
            update(metrics, *batch)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("dtype", [*FLOATS, torch.int64, torch.int32], ids=str)
@pytest.mark.slow
def test_every_type_and_number_of_outputs_of_the_regression_metrics_waits_for_nothing(
    outputs: int, dtype: torch.dtype
) -> None:
    metrics = RegressionMetrics(num_outputs=outputs, device="cuda")
    for rows in ROWS:
        shape = (rows, outputs) if outputs > 1 else (rows,)
        update(metrics, cuda(*shape, dtype=dtype), cuda(*shape, dtype=dtype))
        update(
            metrics, cuda(*shape, dtype=dtype), cuda(*shape, dtype=dtype), cuda(rows, dtype=dtype)
        )


@pytest.mark.parametrize("dense", DENSE, ids=["flat", "sequence", "image"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("inputs", INPUTS)
def test_every_shape_and_type_waits_for_nothing(
    dense: tuple[int, ...], dtype: torch.dtype, inputs: str
) -> None:
    rows, three = (5, *dense), (5, 3, *dense)
    labels = inputs == "labels"
    cases: list[tuple[Metrics, tuple[int, ...], tuple[int, ...]]] = [
        (BinaryMetrics(inputs=inputs, device="cuda"), rows, rows),  # type: ignore[arg-type]
        (MulticlassMetrics(3, inputs=inputs, device="cuda"), rows if labels else three, rows),  # type: ignore[arg-type]
        (MultilabelMetrics(3, inputs=inputs, device="cuda"), three, three),  # type: ignore[arg-type]
    ]
    for metrics, shape, target in cases:
        for batch in batches(shape, target, rows, inputs, dtype):
            update(metrics, *batch)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_every_metric_starts_goes_on_merges_and_resets_without_waiting(case: MetricCase) -> None:
    """Also the first update of a metric that was built on the CPU, which takes the state along."""
    plain, weighted = (_zeros(_shapes(case, weighted), "cuda") for weighted in (False, True))
    metrics = case.make()
    with Guard():
        plain.feed(metrics)
        weighted.feed(metrics)
        metrics.merge_state([metrics.fresh()])
        metrics.state_dict()
        metrics.reset()
        plain.feed(metrics)
    assert metrics.device.type == "cuda"


def _zeros(batch: Batch, device: str) -> Batch:
    """Zeros of the same shapes and types on a device."""
    tensors = vars(batch).values()
    return Batch(
        *(
            None if t is None else torch.zeros(t.shape, dtype=t.dtype, device=device)
            for t in tensors
        )
    )


def _shapes(case: MetricCase, weighted: bool) -> Batch:
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    with unset_fake_temporarily():  # a batch draws its faults where they fit, which needs values
        return case.batch(6, 1, weighted)


def test_the_drop_ins_wait_for_nothing_until_they_are_read() -> None:
    meter = pm.AverageMeter()
    with Guard():
        top1, top5 = pm.accuracy(cuda(8, 9, dtype=torch.float32), cuda(8), topk=(1, 5))
        meter.update(top1, 8)
        meter.update(top5, 8)
    with pytest.raises(HostSync, match=r"dropins\.py:\d+: .*reads_value"), Guard():
        meter.avg  # noqa: B018 — reading it is what waits


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_compute_waits_for_nothing_but_its_one_copy(case: MetricCase) -> None:
    metrics = case.make(device="cuda")
    with pytest.raises(HostSync, match=r"host\.py:\d+: .*copies_to_host"), Guard():
        metrics.compute()


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
@pytest.mark.parametrize("weighted", [False, True])
def test_what_has_waited_is_counted_without_a_wait(case: MetricCase, weighted: bool) -> None:
    metrics = case.make(device="cuda")
    batch = _zeros(_shapes(case, weighted), "cuda")
    for _ in range(4):
        batch.feed(metrics)
    with Guard() as seen:
        metrics.shared_state()
    assert metrics._buffer.take() is None
    assert bool(seen.names) is metrics.waits


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_default_device_makes_nothing_wait(case: MetricCase) -> None:
    batch = _zeros(_shapes(case, weighted=False), "cuda")
    with torch.device("cuda"):
        metrics = case.make()
        with Guard():
            for _ in range(3):
                batch.feed(metrics)
            metrics.shared_state()


def test_what_is_counted_on_the_device_is_what_is_counted_without_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(ROOM_BY_DEVICE, "cuda")  # as nothing waits on "meta"
    metrics, batch = MulticlassMetrics(4, device="cuda"), (cuda(5, 4, dtype=torch.float32), cuda(5))
    update(metrics, *batch)
    names = update(metrics, *batch)
    meta = MulticlassMetrics(4, device="meta")
    meta.update(*(torch.empty_like(t, device="meta") for t in batch))  # makes room for the rows
    with Operations() as seen:
        meta.update(*(torch.empty_like(t, device="meta") for t in batch))
    assert sorted(names) == sorted(name for name in seen.names if name != "empty_like.default")


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_while_a_cuda_graph_is_captured_a_batch_is_counted_into_the_same_tensors(
    case: MetricCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics, batch = case.make(device="cuda"), case.batch(9, 1, False)
    preds, target = batch.preds.cuda(), batch.target.cuda()
    metrics.update(preds, target)
    before = dict(metrics.shared_state())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with Guard() as seen:
        metrics.update(preds, target)
    assert len(seen.names) > 3, "counted at once"
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    metrics.update(preds, target)
    metrics.reset()
    after = metrics.shared_state()
    assert all(after[name] is cell for name, cell in before.items()), (
        "a replay writes where it wrote"
    )
