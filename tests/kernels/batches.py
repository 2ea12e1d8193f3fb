"""What the tests of kernels share: batches with every fault, and counts by a kernel held against those without."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from oracles import Batch
from torch import Tensor

from ptmetrics.counts import kernels
from ptmetrics.counts.score_histogram import tied_rows
from ptmetrics.counts.subgroups import NO_GROUP
from ptmetrics.metrics.base import Metrics


@contextmanager
def on(*devices: str) -> Iterator[None]:
    """Kernels read batches on these types of devices, and on no others."""
    before = set(kernels.KERNEL_DEVICES)
    kernels.KERNEL_DEVICES.clear()
    kernels.KERNEL_DEVICES.update(devices)
    try:
        yield
    finally:
        kernels.KERNEL_DEVICES.clear()
        kernels.KERNEL_DEVICES.update(before)


def class_batch(
    rows: int, classes: int, dtype: torch.dtype = torch.float32, *pixels: int, **options: bool
) -> Batch:
    """Scores with ties, infinities and NaN, targets out of range, and weights that cannot be.

    Args:
        rows: N.
        classes: C.
        dtype: Of the scores.
        pixels: d1, …
        options: `probs`, `weighted`, and `clean`, without faults.
    """
    g = torch.Generator().manual_seed(rows + 97 * classes)
    shape = (rows, *pixels)
    scores = 2 * torch.randn(*shape, classes, generator=g)
    scores[::3] = scores[::3].round()  # ties
    target = torch.randint(0, classes, shape, generator=g)
    hit = torch.rand(shape, generator=g) < 0.4
    target = torch.where(hit, scores.argmax(-1), target)
    weight = None
    if options.get("weighted"):
        weight = torch.rand(shape, generator=g)
    if options.get("probs"):
        scores = scores.double().softmax(-1).float()
    if not options.get("clean"):
        spoil(scores.view(-1, classes), target.view(-1), weight, classes)
    return Batch(scores.movedim(-1, 1).contiguous().to(dtype), target, weight)


def point_batch(
    rows: int, outputs: int, dtype: torch.dtype = torch.float32, *pixels: int, **options: bool
) -> Batch:
    """Predictions and targets near 1000, some NaN, infinite or beyond all limits, and weights that cannot be.

    Args:
        rows: N.
        outputs: D.
        dtype: Of both.
        pixels: d1, …, of images.
        options: `weighted`, and `clean`, without faults.
    """
    g = torch.Generator().manual_seed(rows + 97 * outputs)
    shape = (rows, *pixels)
    if not pixels:
        shape = (rows, outputs)
    target = 1000 + 2 * torch.randn(shape, generator=g, dtype=torch.float64)
    preds = target + torch.randn(shape, generator=g, dtype=torch.float64) * torch.rand(
        outputs, generator=g
    )
    preds.view(-1)[::4] = target.view(-1)[::4]  # no error at all
    weight = None
    if options.get("weighted"):
        weight = torch.rand(shape[: 1 + len(pixels)], generator=g)
    preds, target = preds.to(dtype), target.to(dtype)
    if not options.get("clean"):
        bad = (math.nan, math.inf, -math.inf, 1.1e37)
        for row, value in enumerate(bad):
            if 2 * row < rows:
                preds.view(-1, outputs)[2 * row, row % outputs] = value
                target.view(-1, outputs)[2 * row + row % 2, -1 - row % outputs] = value
    if weight is not None:
        spoil_weights(weight.view(-1))
    return Batch(preds, target, weight)


def spoil_weights(weight: Tensor) -> None:
    """Some that are 0, or cannot be."""
    for row, value in enumerate((0.0, -1.0, math.nan, math.inf, 1e-300)):
        if row < len(weight) // 4:
            weight[4 * row + 1] = value


def in_parts(batch: Batch, slices: int, *, groups: bool, rows: int | None = None) -> Batch:
    """The batch with slices, some of which there are not, and groups: an id each, some of them none.

    Args:
        batch: Rows or pixels.
        slices: How many there are; 0 for none.
        groups: Whether it gets groups too.
        rows: How many dimensions of the targets are rows; None for all.
    """
    g = torch.Generator().manual_seed(len(batch.target))
    shape = batch.target.shape[:rows]
    parts = Batch(batch.preds, batch.target, batch.weight)
    if slices:
        parts.slices = torch.randint(-2, slices + 2, shape, generator=g)
    if groups:
        ids = torch.randint(-(2**62), 2**62, shape, generator=g)
        some = torch.rand(shape, generator=g) < 0.3
        parts.group = torch.where(some, ids, torch.where(ids % 7 == 0, NO_GROUP, ids % 3))
    return parts


def spoil(scores: Tensor, target: Tensor, weight: Tensor | None, classes: int) -> None:
    """One row of each fault, where there are so many."""
    faults: list[Callable[[int], None]] = [
        lambda row: target[row].fill_(-1),
        lambda row: target[row].fill_(classes),
        lambda row: target[row].fill_(-100),
        lambda row: scores[row, -1].fill_(math.nan),
        lambda row: scores[row, 0].fill_(math.inf),
        lambda row: scores[row].fill_(-math.inf),
        lambda row: scores[row].fill_(math.inf),
        lambda row: scores[row, target[row].clamp(0, classes - 1)].fill_(-math.inf),
        lambda row: scores[row, 0].fill_(math.inf) and scores[row, 1].fill_(-math.inf),
        lambda row: scores[row].zero_(),
    ]
    for row, fault in enumerate(faults):
        if 2 * row < len(target):
            fault(2 * row)
    if weight is not None:
        spoil_weights(weight.view(-1))


def without_buffer(metrics: Metrics) -> Metrics:
    """The metric, whose batches are counted at once on a CPU too."""
    metrics.waits = False  # type: ignore[misc]
    return metrics


def assert_same_counts(mine: Metrics, theirs: Metrics, tolerance: float) -> None:
    """Integers are equal; sums to `tolerance`, relative.

    A rounding error of float32 logits may move a confidence on an edge to the next bin.
    """
    found, expected = mine.state_dict()["cells"], theirs.state_dict()["cells"]
    assert list(found) == list(expected)
    for name, cell in expected.items():
        one = found[name].cpu()
        cell = cell.cpu()
        if name.startswith(("calibration", "confidence")) and tolerance > 1e-12:
            assert float(one.sum()) == float(cell.sum()) or name != "calibration"
            assert float((one - cell).abs().sum()) <= 2, name
        elif cell.dtype == torch.int64:
            assert torch.equal(one, cell), f"{name}: {one} for {cell}"
        else:
            largest = float(cell.nan_to_num(posinf=0).abs().max())
            torch.testing.assert_close(
                one, cell, rtol=tolerance, atol=tolerance * largest, equal_nan=True, msg=name
            )


def assert_same_histograms(mine: Metrics, theirs: Metrics, *, exact: bool) -> None:
    """Of the scores of each class counts are equal, and which rows of the histogram hold equal scores.

    Where not `exact` the last digits of float32 are rounded in another order: one score in a
    hundred, at most, has the row beside its own. AUROC and average precision are the same within
    their bounds.
    """
    found = mine.state_dict()["cells"]
    expected = theirs.state_dict()["cells"]
    for name in ("one_vs_rest", "one_vs_rest.weight", "one_vs_rest.square"):
        if name not in expected:
            continue
        one = found[name].cpu()
        cell = expected[name].cpu()
        torch.testing.assert_close(one.sum(1), cell.sum(1), rtol=1e-12, atol=1e-12, msg=name)
        if exact:
            torch.testing.assert_close(one, cell, rtol=1e-12, atol=1e-12, msg=name)
        else:
            assert float((one - cell).abs().sum()) <= 0.02 * float(cell.sum()), name
    if exact:
        n = expected["one_vs_rest"].sum(-1)
        ties = [cells["one_vs_rest_ties"] for cells in (found, expected)]
        for one, other in zip(*[tied_rows(n, cell) for cell in ties], strict=True):
            assert torch.equal(one.cpu(), other.cpu())
    scores = theirs.compute()
    for name, score in mine.compute().items():
        if name.startswith(("auroc", "average_precision")):
            other = scores[name]
            bound = score.error_bound + other.error_bound + 1e-6
            assert abs(score.value - other.value) <= bound, name
