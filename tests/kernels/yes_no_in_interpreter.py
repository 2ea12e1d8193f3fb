"""Run by `test_interpreted.py` in a process of its own: yes-or-no batches are counted in Triton's interpreter."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from batches import on, without_buffer
from oracles import Batch
from torch import Tensor
from yes_no_batches import assert_same_cells, two_columns, yes_no_batch

from ptmetrics import BinaryMetrics, MultilabelMetrics
from ptmetrics.counts import kernels
from ptmetrics.metrics.base import Metrics
from ptmetrics.testing import check_metric

INPUTS = ("logits", "probs", "labels")


@pytest.fixture(autouse=True)
def _no_kernel_fails() -> Iterator[None]:
    yield
    assert not kernels._FAILED


def made(config: dict[str, Any]) -> Metrics:
    if "num_labels" in config:
        return without_buffer(MultilabelMetrics(**config))
    return without_buffer(BinaryMetrics(**config))


def counted(config: dict[str, Any], *batches: Batch, kernel: bool) -> Metrics:
    metrics = made(config)
    with on("cpu" if kernel else "none"):
        for batch in batches:
            batch.feed(metrics)
    if kernel:
        assert metrics._kernel is not None
        assert metrics._kernel._bound is not None, "the kernel was not asked"
        assert not metrics._kernel._bound.words.any(), "tickets are left behind"
    return metrics


def assert_same(config: dict[str, Any], *batches: Batch, loss: float = 1e-12, **how: bool) -> None:
    mine = counted(config, *batches, kernel=True)
    theirs = counted(config, *batches, kernel=False)
    assert_same_cells(mine, theirs, loss, **how)


def loss_of(dtype: torch.dtype) -> float:
    return 1e-12 if dtype == torch.float64 else 1e-6


@pytest.mark.parametrize("dtype", kernels.KERNEL_TYPES, ids=str)
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("weighted", [False, True])
def test_yes_or_no_of_every_type(inputs: str, dtype: torch.dtype, weighted: bool) -> None:
    batches = [yes_no_batch((n,), inputs, dtype, weighted=weighted) for n in (611, 1)]
    batches.append(yes_no_batch((20,), inputs, dtype))
    for threshold in (0.5, 0.1):
        config = {"inputs": inputs, "ignore_index": -100, "threshold": threshold}
        assert_same(config, *batches, loss=loss_of(dtype))


@pytest.mark.parametrize("inputs", ["logits", "probs"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_two_scores_a_row(inputs: str, dtype: torch.dtype) -> None:
    batch = two_columns(yes_no_batch((90,), inputs, dtype, weighted=True), inputs)
    assert_same({"inputs": inputs}, batch, loss=loss_of(dtype))


@pytest.mark.parametrize(
    "config",
    [
        {"curves": None},
        {"losses": False},
        {"curves": None, "losses": False, "threshold": 0.7},
        {"ignore_index": 0},
        {"ignore_index": 1},
        {"threshold": 0.0},
        {"threshold": 1.0},
        {"temperature": True, "groups": False},
        {"inputs": "probs", "curves": None},
        {"inputs": "probs", "losses": False},
    ],
    ids=str,
)
def test_options_of_the_metric(config: dict[str, Any]) -> None:
    inputs = config.get("inputs", "logits")
    batches = [yes_no_batch((n,), inputs, torch.float64, weighted=n > 50) for n in (30, 99)]
    assert_same(config, *batches)


@pytest.mark.parametrize("inputs", ["logits", "probs"])
@pytest.mark.parametrize("curves", ["fp16", pytest.param("fine", marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_score_of_any_bits_has_the_place_that_it_has_without_a_kernel(
    dtype: torch.dtype, curves: str, inputs: str
) -> None:
    kind = torch.int64 if dtype == torch.float64 else torch.int32
    info = torch.iinfo(kind)
    g = torch.Generator().manual_seed(5)
    bits = torch.randint(info.min, info.max, (2000,), generator=g, dtype=kind)
    scores = bits.view(dtype)
    steps = torch.randint(-5, 5, (2000,), generator=g, dtype=kind)
    near = torch.randint(-(1 << 15), 1 << 15, (2000,), generator=g, dtype=torch.int16)
    scores[1000:] = near.view(torch.float16).to(dtype)[1000:]  # what is rounded up, down, or even
    scores[1500:] = (scores.view(kind) + (steps << (info.bits - 23)))[1500:].view(dtype)
    if inputs == "probs":
        scores = scores.abs() % 1
        scores[500:1000] = 1 - scores[500:1000] * 2.0**-12
        scores[1000:1500] = 0.5 - scores[1000:1500] * 2.0**-9
    config = {"inputs": inputs, "curves": curves, "losses": False}
    batch = Batch(scores, (torch.rand(2000, generator=g) < 0.5).long())
    how = {"by_logarithm": curves == "fine" and inputs == "probs"}
    assert_same(config, batch, **how)
    if curves == "fp16":
        labels = Batch(scores.view(-1, 2), batch.target.view(-1, 2))
        config = {"inputs": inputs, "num_labels": 2}
        assert_same(config, labels, by_logarithm=inputs == "probs")


@pytest.mark.parametrize("values", [(0.0,), (1.0, 0.0), (0.25, 0.5, 1.0, 0.0)], ids=str)
def test_scores_that_many_rows_share_are_added_at_once(values: tuple[float, ...]) -> None:
    g = torch.Generator().manual_seed(1)
    scores = torch.tensor(values)[torch.randint(0, len(values), (400,), generator=g)]
    scores[::17] = 0.1234
    target = (torch.rand(400, generator=g) < 0.5).long()
    weight = torch.rand(400, generator=g)
    for inputs in ("logits", "probs"):
        assert_same({"inputs": inputs}, Batch(scores, target, weight), loss=1e-6)
        labels = Batch(scores.view(-1, 4), target.view(-1, 4), weight[:100])
        assert_same({"inputs": inputs, "num_labels": 4}, labels, by_logarithm=True)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(3, 9, 31), (2, 1, 300), (5, 2, 10, 3)], ids=str)
def test_pixels_are_counted_with_their_samples(shape: tuple[int, ...], weighted: bool) -> None:
    target = shape
    if shape[1] <= 2:
        target = (shape[0], *shape[2:])
    batch = yes_no_batch(target, "logits", torch.float64, weighted=weighted)
    if shape[1] == 1:
        batch.preds = batch.preds.unsqueeze(1)
    if shape[1] == 2:
        batch = two_columns(batch, "logits")
    assert_same({}, batch, batch)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "shape", [(3, 7, 5), pytest.param((2, 40, 3, 3), marks=pytest.mark.slow)], ids=str
)
def test_pixels_with_labels_are_counted_with_their_samples(
    shape: tuple[int, ...], weighted: bool
) -> None:
    batch = yes_no_batch(shape, "logits")
    if weighted:
        batch.weight = torch.rand(shape[0], *shape[2:], generator=torch.Generator().manual_seed(1))
    assert_same({"num_labels": shape[1], "class_dim": 1}, batch, batch)


@pytest.mark.slow
def test_more_samples_than_there_are_buckets_are_counted_in_those_of_their_turn() -> None:
    assert_same({}, *[yes_no_batch((70, 3), "logits", torch.float64)] * 2)
    assert_same({"num_labels": 4, "class_dim": -1}, *[yes_no_batch((70, 2, 4), "logits")] * 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("labels", [1, 3, 20, pytest.param(150, marks=pytest.mark.slow)])
def test_labels_of_every_number_and_type(labels: int, inputs: str, dtype: torch.dtype) -> None:
    batches = [
        yes_no_batch((21, labels), inputs, dtype, weighted=labels != 20, rows=1),
        yes_no_batch((3, labels), inputs, dtype),
    ]
    config = {"num_labels": labels, "inputs": inputs, "ignore_index": -100, "threshold": 0.4}
    assert_same(config, *batches, by_logarithm=inputs == "probs")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("labels", [64, 128, 129, 1024, 1025])
def test_many_labels(labels: int, dtype: torch.dtype) -> None:
    batches = [
        yes_no_batch((9, labels), "logits", dtype, weighted=w, rows=1) for w in (False, True)
    ]
    assert_same({"num_labels": labels}, *batches)


@pytest.mark.parametrize(
    "config",
    [
        {"curves": None},
        {"beta": 0.5},
        {"ignore_index": 0},
        {"ignore_index": 1},
        pytest.param({"curves": "fine"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_options_of_labels(config: dict[str, Any]) -> None:
    batch = yes_no_batch((40, 3), "logits", weighted=True, rows=1)
    assert_same({"num_labels": 3, **config}, batch)


def test_many_rows_are_added_up_by_several_programs() -> None:
    assert_same({}, yes_no_batch((256 * 5 + 3,), "logits", torch.float64))
    assert_same({"num_labels": 30}, yes_no_batch((4 * 19 + 1, 30), "logits"))


def strided(values: Tensor) -> Tensor:
    return torch.stack((values, values), -1)[..., 0]


def turned(values: Tensor) -> Tensor:
    return values.t().contiguous().t()


@pytest.mark.parametrize("layout", [strided, turned], ids=lambda f: f.__name__)
def test_layouts_in_memory_change_nothing(layout: Any) -> None:
    dense = yes_no_batch((30, 6), "logits", torch.float64)
    for parts in ("preds", "target", "both"):
        batch = Batch(dense.preds, dense.target.int())
        if parts != "target":
            batch.preds = layout(dense.preds)
        if parts != "preds":
            batch.target = layout(batch.target)
        mine = counted({"num_labels": 6}, batch, kernel=True)
        assert_same_cells(mine, counted({"num_labels": 6}, dense, kernel=False))
    dense = two_columns(yes_no_batch((50,), "logits", torch.float64), "logits")
    batch = Batch(layout(dense.preds), strided(dense.target).to(torch.int8))
    mine = counted({}, batch, kernel=True)
    assert_same_cells(mine, counted({}, dense, kernel=False))
    dense = yes_no_batch((50,), "logits", torch.float64, weighted=True)
    batch = Batch(*map(strided, (dense.preds, dense.target, dense.weight)))
    assert_same_cells(counted({}, batch, kernel=True), counted({}, dense, kernel=False))


def test_two_runs_give_the_same_bits() -> None:
    batches = [yes_no_batch((1500,), "logits"), yes_no_batch((4, 99), "logits")]
    labels = [yes_no_batch((30, 7), "logits"), yes_no_batch((3, 7, 5), "logits")]
    for config, some in (({}, batches), ({"num_labels": 7, "class_dim": 1}, labels)):
        first, second = (counted(config, *some, kernel=True) for _ in range(2))
        for name, cell in first.state_dict()["cells"].items():
            other = second.state_dict()["cells"][name]
            assert torch.equal(cell.view(torch.int64), other.view(torch.int64)), name


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(), (5,)], ids=["one", "labels"])
def test_a_metric_keeps_the_laws(shape: tuple[int, ...]) -> None:
    def make_batch(rows: int, seed: int) -> dict[str, Any]:
        g = torch.Generator().manual_seed(seed)
        preds = torch.randn(rows, *shape, generator=g, dtype=torch.float64)
        target = (torch.rand(rows, *shape, generator=g) < 0.5).long()
        weight = torch.rand(rows, generator=g) if seed % 2 else None
        return {"preds": preds, "target": target, "sample_weight": weight}

    config = {"num_labels": shape[0]} if shape else {}
    with on("cpu"):
        check_metric(made(config), make_batch, rows=16, seeds=(0,))
