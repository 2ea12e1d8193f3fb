"""Run by `test_interpreted.py` in a process of its own: kernels count on the CPU, in Triton's interpreter."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from batches import (
    assert_same_counts,
    assert_same_histograms,
    class_batch,
    in_parts,
    on,
    point_batch,
    without_buffer,
)
from oracles import Batch, same
from registry import CASES, MetricCase

from ptmetrics import MulticlassMetrics, RegressionMetrics
from ptmetrics.counts import kernels
from ptmetrics.metrics.base import Metrics
from ptmetrics.testing import check_metric

ORDINARY = [case for case in CASES if getattr(case.make(), "_kernel", None) is not None]


@pytest.fixture(autouse=True)
def _no_kernel_fails() -> Iterator[None]:
    yield
    assert not kernels._FAILED


def counted(config: dict[str, Any], *batches: Batch, kernel: bool) -> Metrics:
    make = MulticlassMetrics if "num_classes" in config else RegressionMetrics
    metrics = without_buffer(make(**config))
    with on("cpu" if kernel else "none"):
        for batch in batches:
            batch.feed(metrics)
    if kernel:
        assert metrics._kernel is not None
        assert metrics._kernel._bound is not None, "the kernel was not asked"
        assert not metrics._kernel._bound.words.any(), "words are left behind"
    return metrics


def assert_same(config: dict[str, Any], *batches: Batch, tolerance: float = 1e-6) -> None:
    mine = counted(config, *batches, kernel=True)
    theirs = counted(config, *batches, kernel=False)
    assert_same_counts(mine, theirs, tolerance)


@pytest.mark.parametrize("classes", [2, 10, 37])
@pytest.mark.parametrize(
    ("dtype", "probs", "weighted"),
    [
        (torch.float16, False, False),
        (torch.bfloat16, False, True),
        (torch.float32, False, True),
        (torch.float32, True, False),
        (torch.float64, False, False),
        (torch.float64, True, True),
    ],
    ids=str,
)
def test_every_type_counts_what_the_tensor_operations_count(
    classes: int, dtype: torch.dtype, probs: bool, weighted: bool
) -> None:
    options = {"probs": probs, "weighted": weighted}
    batches = [class_batch(rows, classes, dtype, **options) for rows in (33, 1)]
    config = {"num_classes": classes, "inputs": "probs" if probs else "logits"}
    if classes > 2:
        config |= {"topk": (1, 2, 5), "ignore_index": -100}
    assert_same(config, *batches, tolerance=1e-12 if dtype == torch.float64 else 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("classes", [600, 1000, 3000])
def test_many_classes_are_read_at_once_or_in_pieces(classes: int, dtype: torch.dtype) -> None:
    batch = class_batch(12, classes, dtype, weighted=classes == 1000)
    config = {"num_classes": classes, "topk": (5,)}
    assert_same(config, batch, tolerance=1e-12 if dtype == torch.float64 else 1e-6)


@pytest.mark.parametrize(
    ("classes", "dtype", "topk", "weighted"),
    [
        (5000, torch.bfloat16, (1,), False),
        (5000, torch.float32, (1, 5), True),
        (4097, torch.float64, (5, 2), False),
        (50_257, torch.float16, (1,), True),
    ],
    ids=str,
)
def test_of_a_vocabulary_hits_and_confused_pairs_are_counted(
    classes: int, dtype: torch.dtype, topk: tuple[int, ...], weighted: bool
) -> None:
    batches = [class_batch(rows, classes, dtype, weighted=weighted) for rows in (20, 3)]
    config = {"num_classes": classes, "topk": topk, "ignore_index": -100}
    assert_same(config, *batches, tolerance=1e-12 if dtype == torch.float64 else 1e-6)


@pytest.mark.slow
def test_probabilities_of_a_vocabulary() -> None:
    config = {"num_classes": 5000, "inputs": "probs"}
    assert_same(config, class_batch(20, 5000, torch.float64, probs=True), tolerance=1e-12)


@pytest.mark.parametrize("class_dim", [1, -1])
def test_tokens_of_a_vocabulary_are_counted_in_place_with_their_texts(class_dim: int) -> None:
    batch = class_batch(3, 4099, torch.float32, 7)
    if class_dim < 0:
        batch = Batch(batch.preds.movedim(1, -1).contiguous(), batch.target)
    assert_same({"num_classes": 4099, "class_dim": class_dim, "topk": (1, 3)}, batch)


def masked(batch: Batch) -> Batch:
    """The batch, in some rows of which one class alone is possible, or two."""
    batch.preds[1::7, 1:] = -torch.inf
    batch.preds[2::7, 2:] = -torch.inf
    return batch


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("classes", "dtype", "curves"),
    [
        (2, torch.float64, True),
        (5, torch.float32, True),
        (5, torch.bfloat16, "fine"),
        (70, torch.float64, True),
        pytest.param(3, torch.float16, True, marks=pytest.mark.slow),
        pytest.param(600, torch.float32, True, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_scores_of_each_class_have_the_places_that_they_have_without_a_kernel(
    classes: int, dtype: torch.dtype, curves: bool | str, weighted: bool
) -> None:
    rows = (40, 3) if classes > 64 else (200, 9)
    batches = [masked(class_batch(n, classes, dtype, weighted=weighted)) for n in rows]
    batches[0].preds[-20:] = batches[0].preds[:20]  # ties
    for losses in (True, False)[: 1 + (classes == 2)]:
        config = {"num_classes": classes, "curves": curves, "losses": losses}
        assert_same_curves(config, *batches, exact=dtype == torch.float64)


@pytest.mark.parametrize("weighted", [False, True])
def test_probabilities_of_each_class_have_the_same_places(weighted: bool) -> None:
    batches = [class_batch(n, 5, torch.float32, weighted=weighted, probs=True) for n in (150, 5)]
    for batch in batches:
        batch.preds[7::11] = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0])
    config = {"num_classes": 5, "inputs": "probs", "curves": True, "ignore_index": -100}
    assert_same_curves(config, *batches, exact=True)


def test_curves_of_pixels_and_of_slices_beside_them() -> None:
    batch = in_parts(class_batch(2, 4, torch.float64, 5, 9), 2, groups=False)
    assert_same_curves({"num_classes": 4, "curves": True, "slices": 2}, batch, exact=True)


def assert_same_curves(config: dict[str, Any], *batches: Batch, exact: bool) -> None:
    mine = counted(config, *batches, kernel=True)
    theirs = counted(config, *batches, kernel=False)
    assert_same_histograms(mine, theirs, exact=exact)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("classes", "dtype"),
    [
        (2, torch.float64),
        (5, torch.float32),
        (70, torch.bfloat16),
        pytest.param(600, torch.float64, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_losses_at_all_temperatures_are_those_without_a_kernel(
    classes: int, dtype: torch.dtype, weighted: bool
) -> None:
    rows = (20, 3) if classes > 64 else (60, 9)
    batches = [masked(class_batch(n, classes, dtype, weighted=weighted)) for n in rows]
    config = {"num_classes": classes, "temperature": True, "topk": (1, 2)}
    assert_same(config, *batches, tolerance=1e-12 if dtype == torch.float64 else 1e-6)


def test_temperature_and_curves_of_tokens_in_one_launch() -> None:
    batch = class_batch(3, 4, torch.float64, 9, weighted=True)
    config = {"num_classes": 4, "temperature": True, "curves": True, "class_dim": 1}
    assert_same_curves(config, batch, exact=True)
    mine = counted(config, batch, kernel=True).state_dict()["cells"]["tempered"]
    theirs = counted(config, batch, kernel=False).state_dict()["cells"]["tempered"]
    torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_many_rows_are_added_up_by_several_programs() -> None:
    batch = class_batch(128 * 35 + 3, 3, torch.float64)
    assert_same({"num_classes": 3}, batch, tolerance=1e-12)


@pytest.mark.parametrize("losses", [True, False])
@pytest.mark.parametrize("ignore", [None, 0, 2, -100])
def test_options_of_the_metric(ignore: int | None, losses: bool) -> None:
    config = {"num_classes": 4, "losses": losses, "ignore_index": ignore, "topk": (1, 3)}
    assert_same(config, class_batch(40, 4, weighted=True), class_batch(9, 4))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 150)], ids=str)
def test_pixels_and_tokens_are_counted_in_place_with_their_samples(
    shape: tuple[int, ...], weighted: bool
) -> None:
    rows, *pixels = shape
    batches = [class_batch(rows, c, torch.float32, *pixels, weighted=weighted) for c in (5, 5)]
    assert_same({"num_classes": 5, "topk": (2,), "class_dim": 1}, *batches)


@pytest.mark.slow
def test_more_samples_than_there_are_buckets_are_counted_in_those_of_their_turn() -> None:
    batch = class_batch(70, 3, torch.float64, 2)
    assert_same({"num_classes": 3, "class_dim": 1}, batch, batch, tolerance=1e-12)


def test_pixels_of_many_classes_are_read_in_pieces() -> None:
    assert_same({"num_classes": 70}, class_batch(2, 70, torch.float64, 4, 5), tolerance=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("classes", "pixels", "slices", "groups"),
    [
        (3, (), 3, True),
        (40, (), 2, False),
        (4, (5, 3), 2, False),
        pytest.param(4, (7,), 0, True, marks=pytest.mark.slow),
        (4099, (), 2, False),
    ],
    ids=str,
)
def test_slices_and_groups_are_counted_as_the_tensor_operations_count_them(
    classes: int, pixels: tuple[int, ...], slices: int, groups: bool, weighted: bool
) -> None:
    config = {"num_classes": classes, "slices": slices, "topk": (2, 3), "class_dim": 1}
    config["groups"] = groups or None
    batches = []
    for rows in (30, 7):
        batch = class_batch(rows, classes, torch.float64, *pixels, weighted=weighted)
        batches.append(in_parts(batch, slices, groups=groups))
    if not weighted:
        batches.append(batches[0])  # a second one of this form
    assert_same(config, *batches, tolerance=1e-12)


def test_rows_that_no_slice_is_told_of_are_in_none() -> None:
    config = {"num_classes": 3, "slices": 2, "groups": True, "losses": False}
    assert_same(config, class_batch(20, 3), in_parts(class_batch(9, 3), 2, groups=False))


def test_many_rows_of_a_part_are_added_up_by_several_programs() -> None:
    batch = in_parts(class_batch(700, 3, torch.float64), 1, groups=False)
    assert_same({"num_classes": 3, "slices": 1}, batch, tolerance=1e-12)


@pytest.mark.parametrize("groups", [None, False])
def test_layouts_in_memory_change_nothing(groups: bool | None) -> None:
    config = {"num_classes": 6, "class_dim": 1, "groups": groups}
    dense = class_batch(3, 6, torch.float64, 4, 7)
    last = dense.preds.contiguous(memory_format=torch.channels_last)
    every_second = torch.stack((dense.preds, dense.preds), -1)[..., 0]
    turned = dense.preds.mT.contiguous().mT
    for preds in (last, every_second, turned):
        assert not preds.is_contiguous()
        batch = Batch(preds, dense.target)
        mine = without_buffer(MulticlassMetrics(**config))
        with on("cpu"):
            batch.feed(mine)
        assert_same_counts(mine, counted(config, dense, kernel=False), 1e-12)
    flat = class_batch(50, 6, torch.float64)
    for preds in (
        flat.preds.t().contiguous().t(),
        torch.stack((flat.preds, flat.preds), 2)[..., 1],
    ):
        batch = Batch(preds, flat.target.int())
        mine = counted(config, batch, kernel=True)
        assert_same_counts(mine, counted(config, flat, kernel=False), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("case", ORDINARY, ids=lambda case: case.name)
@pytest.mark.parametrize("weighted", [False, True])
def test_every_score_is_that_of_its_oracle(case: MetricCase, weighted: bool) -> None:
    batches = [case.batch(rows, seed, weighted) for seed, rows in enumerate((33, 1, 0, 20))]
    metrics = without_buffer(case.make())
    with on("cpu"):
        for batch in batches:
            batch.feed(metrics)
    scores = metrics.compute()
    for name, value in case.oracle(batches).items():
        if name.startswith("class:"):
            assert all(map(same, scores.per_class[name.removeprefix("class:")], value)), name
        else:
            assert same(scores[name], value, 1e-6 if name in ("nll", "perplexity") else 1e-12), name


@pytest.mark.slow
def test_a_metric_keeps_the_laws() -> None:
    def make_batch(rows: int, seed: int) -> dict[str, Any]:
        batch = class_batch(rows, 5, torch.float64, weighted=seed % 2 == 0)
        return {"preds": batch.preds, "target": batch.target, "sample_weight": batch.weight}

    with on("cpu"):
        metrics = without_buffer(MulticlassMetrics(5, topk=(1, 2)))
        check_metric(metrics, make_batch, rows=16, seeds=(0,))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("outputs", "dtype"),
    [
        pytest.param(1, torch.float16, marks=pytest.mark.slow),
        pytest.param(1, torch.bfloat16, marks=pytest.mark.slow),
        (1, torch.float32),
        (1, torch.float64),
        (3, torch.float32),
    ],
    ids=str,
)
def test_errors_are_counted_as_the_tensor_operations_count_them(
    outputs: int, dtype: torch.dtype, weighted: bool
) -> None:
    batches = [point_batch(rows, outputs, dtype, weighted=weighted) for rows in (300, 1, 33)]
    assert_same({"num_outputs": outputs}, *batches, tolerance=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_images_of_one_output_are_counted_with_their_samples(weighted: bool) -> None:
    batches = [point_batch(rows, 1, torch.float32, 5, 30, weighted=weighted) for rows in (3, 2)]
    assert_same({}, *batches, tolerance=1e-12)
    assert_same({"groups": False}, *batches, tolerance=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("outputs", "dtype", "pixels", "slices", "groups"),
    [
        (1, torch.float32, (), 2, None),
        (1, torch.bfloat16, (5, 30), 2, None),
        (2, torch.float64, (), 1, None),
        pytest.param(1, torch.float16, (), 3, True, marks=pytest.mark.slow),
        pytest.param(3, torch.float32, (), 4, True, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_slices_and_groups_of_errors_are_counted_as_the_tensor_operations_count_them(
    outputs: int,
    dtype: torch.dtype,
    pixels: tuple[int, ...],
    slices: int,
    groups: bool | None,
    weighted: bool,
) -> None:
    batches = []
    for rows in (140, 33) if not pixels else (2, 1):
        batch = point_batch(rows, outputs, dtype, *pixels, weighted=weighted)
        dims = None if pixels else 1
        batches.append(in_parts(batch, slices, groups=bool(groups), rows=dims))
    config = {"num_outputs": outputs, "slices": slices, "groups": groups}
    assert_same(config, *batches, tolerance=1e-12)


def test_slices_of_errors_far_from_each_other_lose_no_digits() -> None:
    batches = []
    for seed, rows in enumerate((500, 40)):
        batch = point_batch(rows, 1, torch.float64, clean=True)
        part = torch.randint(0, 3, (rows,), generator=torch.Generator().manual_seed(seed))
        part[30:400] = 0  # some programs see one slice only, and one is not there
        batch.preds += 1e6 * part.unsqueeze(1)
        batch.target += 1e6 * part.unsqueeze(1)
        batch.slices = part
        batches.append(batch)
    assert_same({"slices": 4}, *batches, tolerance=1e-11)
    mine = counted({"slices": 4}, *batches, kernel=True).compute()
    theirs = counted({"slices": 4}, *batches, kernel=False).compute()
    for part, scores in theirs.per_slice.items():
        for name, score in scores.items():
            found = mine.per_slice[part][name]
            assert same(found.value, score.value, 1e-11), (part, name)
            assert same(found.high, score.high, 1e-9), (part, name)


@pytest.mark.slow
def test_many_errors_are_added_up_by_several_programs() -> None:
    assert_same({}, point_batch(128 * 40 + 1, 1, torch.float64), tolerance=1e-12)


def test_errors_far_from_those_before_lose_no_digits() -> None:
    batches = [point_batch(40, 1, torch.float64, clean=True) for _ in range(3)]
    batches[1].preds += 1e6
    batches[1].target += 1e6
    batches[2].target.fill_(5.0)
    batches[2].preds.fill_(6.0)
    mine = counted({}, *batches, kernel=True).compute()
    theirs = counted({}, *batches, kernel=False).compute()
    for name, score in theirs.items():
        assert same(mine[name].value, score.value, 1e-12), name
        assert same(mine[name].low, score.low, 1e-9), name


def test_a_batch_without_a_row_that_counts_changes_no_sum() -> None:
    good = point_batch(20, 2, torch.float64, clean=True)
    bad = Batch(torch.full((5, 2), torch.nan), torch.zeros(5, 2))
    assert_same({"num_outputs": 2}, bad, good, bad, tolerance=1e-12)
    before = counted({"num_outputs": 2}, good, kernel=True).state_dict()["cells"]
    after = counted({"num_outputs": 2}, good, bad, kernel=True).state_dict()["cells"]
    for name, cell in before.items():
        assert name.startswith("fault") or torch.equal(cell, after[name]), name


def test_layouts_of_points_change_nothing() -> None:
    dense = point_batch(50, 3, torch.float64)
    expected = counted({"num_outputs": 3}, dense, kernel=False)
    turned = Batch(dense.preds.t().contiguous().t(), torch.stack((dense.target,) * 2, 2)[..., 1])
    assert_same_counts(counted({"num_outputs": 3}, turned, kernel=True), expected, 1e-12)
    column = point_batch(50, 1, torch.float64)
    flat = Batch(column.preds, column.target[:, 0])
    assert_same_counts(counted({}, flat, kernel=True), counted({}, column, kernel=False), 1e-12)


def test_two_runs_give_the_same_bits() -> None:
    batches = [class_batch(300, 4), class_batch(4, 4, torch.float32, 9, 9)]
    batches.append(in_parts(batches[0], 2, groups=False))
    config = {"num_classes": 4, "slices": 2}
    first, second = (counted(config, *batches, kernel=True) for _ in range(2))
    assert_same_bits(first, second)
    points = point_batch(300, 1, torch.float32)
    assert_same_bits(counted({}, points, kernel=True), counted({}, points, kernel=True))


def assert_same_bits(first: Metrics, second: Metrics) -> None:
    for name, cell in first.state_dict()["cells"].items():
        other = second.state_dict()["cells"][name]
        assert torch.equal(cell.view(torch.int64), other.view(torch.int64)), name
