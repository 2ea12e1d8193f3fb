"""What an update may cost: no look at a value, few operations, no tensor larger than its input and its state."""

import itertools
from typing import Any

import pytest
import torch
from registry import CASES, MetricCase

from ptmetrics import MulticlassMetrics
from ptmetrics.counts.multiclass import CONFIDENCE_BINS
from ptmetrics.metrics.base import Metrics
from ptmetrics.testing import Operations, fake_cuda

pytestmark = pytest.mark.slow

# Most kernels of an update, without weights and with them; a batch in memory waits instead.
OPERATIONS = {
    "binary-logits": (68, 108),
    "binary-probs": (88, 133),
    "binary-labels": (35, 55),
    "binary-counts": (30, 50),
    "multiclass-logits": (125, 175),
    "multiclass-probs": (100, 145),
    "multiclass-labels": (30, 55),
    "multiclass-curves": (370, 416),
    "multiclass-counts": (30, 51),
    "multiclass-probs-counts": (75, 108),
    "multiclass-binary": (105, 145),
    "multilabel-logits": (103, 152),
    "multilabel-probs": (102, 155),
    "multilabel-labels": (70, 105),
    "regression": (85, 125),
    "regression-outputs": (95, 135),
    "regression-outputs-asked": (220, 315),
    "regression-ranks": (130, 175),
    "binary-logits-parts": (132, 195),
    "multiclass-logits-parts": (220, 315),
    "multiclass-labels-parts": (80, 125),
    "multilabel-logits-parts": (173, 246),
    "regression-outputs-parts": (245, 300),
    "binary-logits-images": (96, 146),
    "multiclass-logits-images": (175, 245),
    "multiclass-probs-images": (145, 210),
    "multiclass-labels-images": (55, 90),
    "multilabel-logits-images": (134, 195),
    "regression-images": (160, 205),
    "multiclass-logits-asked-images": (335, 460),
    "multiclass-labels-asked-images": (172, 229),
    "binary-masks-images": (220, 291),
    "multiclass-soft": (150, 195),
}
every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
both_weights = pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])


@pytest.mark.fault(28)
@every_case
@both_weights
def test_an_update_stays_within_its_budget_of_operations(case: MetricCase, weighted: bool) -> None:
    metrics, batch = case.make(device="meta"), case.batch(30, 1, weighted).to("meta")
    batch.feed(metrics)
    with Operations() as seen:
        batch.feed(metrics)
    budget = OPERATIONS[case.name][weighted]
    assert len(seen.names) <= budget, f"{len(seen.names)} operations: {', '.join(seen.names)}"


@pytest.mark.fault(28)
@every_case
@both_weights
def test_a_small_batch_waits_at_the_price_of_its_copies(case: MetricCase, weighted: bool) -> None:
    metrics, batch = case.make(), case.batch(30, 1, weighted)
    for _ in range(2):
        batch.feed(metrics)
    with Operations() as seen:
        batch.feed(metrics)
    given = sum(tensor is not None for tensor in vars(batch).values())
    if case.name.endswith("images"):  # beside the copies, the bucket of each pixel's image
        assert len(seen.names) <= given + 4
    else:
        assert seen.names == ["copy_.default"] * given


@pytest.mark.fault(28)
def test_a_large_batch_of_classes_is_read_in_few_passes_and_waits() -> None:
    metrics = MulticlassMetrics(1000, topk=(1, 5))
    batch = torch.randn(256, 1000), torch.arange(256)
    for _ in range(2):
        metrics.update(*batch)
    with Operations() as seen:
        metrics.update(*batch)
    assert len(seen.names) <= 18, ", ".join(seen.names)


@pytest.mark.fault(28)
@every_case
@both_weights
def test_an_update_runs_where_no_value_can_be_looked_at(case: MetricCase, weighted: bool) -> None:
    metrics = case.make(device="meta")
    for rows in (30, 0, 1):
        case.batch(rows, 1, weighted).to("meta").feed(metrics)
    metrics.merge_state([case.make(device="meta")])
    case.batch(3, 1, weighted).to("meta").feed(metrics.fresh())
    assert all(cell.is_meta for cell in metrics.state_dict()["cells"].values())


def options() -> list[dict[str, Any]]:
    keys = ("inputs", "topk", "ignore_index")
    values = (["logits", "probs", "labels"], [(1,), (1, 2, 3)], [None, -100, 1])
    every = (dict(zip(keys, choice, strict=True)) for choice in itertools.product(*values))
    return [option for option in every if option["inputs"] != "labels" or option["topk"] == (1,)]


def update_on_meta(option: dict[str, Any], dtype: torch.dtype, dense: tuple[int, ...] = ()) -> None:
    preds = torch.empty(5, 4, *dense, device="meta", dtype=dtype)
    if option["inputs"] == "labels":
        preds = torch.empty(5, *dense, device="meta", dtype=torch.int32)
    target = torch.empty(5, *dense, device="meta", dtype=torch.int64)
    metrics = MulticlassMetrics(4, device="meta", **option)
    metrics.update(preds, target)
    metrics.update(preds, target, torch.empty(5, *dense, device="meta", dtype=dtype))
    assert metrics.updates == 2


@pytest.mark.fault(28)
@pytest.mark.parametrize("option", options(), ids=str)
def test_every_option_updates_without_looking_at_a_value(option: dict[str, Any]) -> None:
    update_on_meta(option, torch.float32)


@pytest.mark.fault(28)
@pytest.mark.parametrize("dense", [(), (2,), (2, 3)], ids=["flat", "sequence", "image"])
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
@pytest.mark.parametrize("inputs", ["logits", "probs", "labels"])
def test_every_shape_and_type_updates_without_looking_at_a_value(
    dense: tuple[int, ...], dtype: torch.dtype, inputs: str
) -> None:
    update_on_meta({"inputs": inputs}, dtype, dense)


@pytest.mark.fault(28)
def test_a_metric_that_counted_nothing_follows_its_first_batch_and_then_stays() -> None:
    metrics = MulticlassMetrics(3)
    with fake_cuda():
        batch = (torch.empty(2, 3, device="cuda"), torch.zeros(2, device="cuda", dtype=torch.int64))
        metrics.update(*batch)
        assert metrics.device.type == "cuda"
        with pytest.raises(
            RuntimeError, match=r"preds: expected a tensor on cuda.*got cpu.*preds.to\('cuda:0'\)"
        ):
            metrics.update(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))


def test_a_metric_does_not_follow_a_batch_without_values_nor_one_that_is_refused() -> None:
    metrics = MulticlassMetrics(3)
    batch = (torch.empty(2, 3, device="meta"), torch.empty(2, device="meta", dtype=torch.int64))
    with pytest.raises(
        RuntimeError, match=r"preds: expected a tensor with values.*got one on meta"
    ):
        metrics.update(*batch)
    assert metrics.device.type == "cpu"
    metrics.update(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))
    assert metrics.compute().n == 2
    with fake_cuda():
        metrics = MulticlassMetrics(3)
        with pytest.raises(ValueError, match="preds: expected floating point of shape"):
            metrics.update(torch.empty(2, 4, device="cuda"), torch.zeros(2, dtype=torch.int64))
        assert metrics.device.type == "cpu"


def largest(metrics: Metrics, rows: int, classes: int, weighted: bool) -> Operations:
    preds = torch.empty(rows, classes, device="meta")
    if metrics.config["inputs"] == "labels":
        preds = torch.empty(rows, device="meta", dtype=torch.int64)
    target = torch.empty(rows, device="meta", dtype=torch.int64)
    weight = torch.empty(rows, device="meta") if weighted else None
    with Operations() as seen:
        metrics.update(preds, target, weight)
    return seen


@pytest.mark.fault(30)
@pytest.mark.parametrize("classes", [100, 1000, 4096, 10_000])
@both_weights
def test_no_temporary_is_larger_than_the_scores_or_the_state(classes: int, weighted: bool) -> None:
    rows = 1000
    labels = MulticlassMetrics(classes, inputs="labels", device="meta")
    seen = largest(labels, rows, classes, weighted)
    waiting = 6 * rows  # of small batches; where no matrix is kept, the places of pairs
    if classes > 4096:
        waiting = 28 * rows
    assert seen.largest <= max(waiting, classes**2 * weighted), "labels need no row of scores"
    logits = MulticlassMetrics(classes, topk=(1, 5), device="meta")
    seen = largest(logits, rows, classes, weighted)
    assert seen.largest <= max(rows * classes, waiting, classes**2 * weighted)
    assert seen.largest_bytes <= max(4 * max(rows * classes, waiting), 8 * classes**2 * weighted), (
        "float32 scores stay so"
    )


@pytest.mark.fault(30)
@pytest.mark.parametrize("classes", [100, 1000])
def test_many_classes_count_and_compute_in_deterministic_mode(classes: int) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        g = torch.Generator().manual_seed(0)
        metrics = MulticlassMetrics(classes, topk=(5,))
        target = torch.randint(0, classes, (512,), generator=g)
        metrics.update(
            torch.nn.functional.one_hot(target, classes).float(),
            target,
            torch.rand(512, generator=g),
        )
        got = metrics.compute()
    finally:
        torch.use_deterministic_algorithms(False)
    assert got["accuracy"] == got["f1/macro"] == got["top5_accuracy"] == 1.0
    calibration = 3 * 2 * CONFIDENCE_BINS + CONFIDENCE_BINS
    counts = 3 * classes**2 + 3 + 1  # with weights: confusion, top-k hits; rows
    assert metrics.state_bytes == 8 * (counts + 3 * 6 + calibration + 2 * 8)
