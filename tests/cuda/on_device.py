"""What the tests of a real GPU share: where they run, batches laid out in memory, states held against the CPU's.

`PTMETRICS_TEST_DEVICE=cpu` runs their bodies on the CPU, without what only a GPU has: a test that
was never run is likely broken.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from oracles import Batch
from registry import CASES, MetricCase
from torch import Tensor

from ptmetrics.metrics.base import Metrics

DEVICE = os.environ.get("PTMETRICS_TEST_DEVICE", "cuda")
if DEVICE == "cuda":
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device", allow_module_level=True)
    # Before the first matrix product; deterministic algorithms ask for it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

needs_gpu = pytest.mark.skipif(DEVICE != "cuda", reason="only a GPU has it")
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Sums of logarithms and exponentials, of float32 scores in float32.
LOSSES = ("losses", "confidence", "row_scores", "tempered")
# Where an exponential or a logarithm says which place a row has.
DIGITS = ("one_vs_rest_ties",)  # sums of the last digits of what an exponential gave
PLACES = ("calibration", "curve", "one_vs_rest", "label_curves", "margins", "magnitude")
# What the number of the update is part of, where samples are groups.
NUMBERED = ("fault_first_step", "group.")


@contextmanager
def no_wait() -> Iterator[None]:
    """CUDA raises wherever the host would wait for it."""
    if DEVICE != "cuda":
        yield
        return
    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls the mode a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@contextmanager
def deterministic() -> Iterator[None]:
    """Torch refuses whatever may give other bits the next time."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def counted(case: MetricCase, *batches: Batch) -> Metrics:
    """A new metric on the device that has seen the batches there."""
    metrics = case.make(device=DEVICE)
    for batch in batches:
        batch.to(DEVICE).feed(metrics)
    return metrics


def batches_of(case: MetricCase, rows: int = 60) -> list[Batch]:
    """One batch without weights and two with them."""
    return [case.batch(rows, 1, False), case.batch(rows // 2, 2, True), case.batch(1, 3, True)]


def cells(metrics: Metrics) -> dict[str, Tensor]:
    """What was counted, copied to the host."""
    stored: dict[str, Tensor] = metrics.state_dict()["cells"]
    return {name: cell.cpu() for name, cell in stored.items()}


def assert_same_counts(
    found: Metrics, expected: Metrics, loss: float = 1e-6, *, replayed: bool = False
) -> None:
    """Integers are equal bit for bit, sums to 1e-12, losses to `loss`, relative.

    In a histogram of what an exponential gave, a rounding error may move a row to the next place: a
    row in fifty may lie elsewhere, and none may be missing. What a graph `replayed` does not know
    its number: neither the first update with a fault, nor the images of which it is the first.
    """
    assert found.updates == expected.updates
    mine, theirs = cells(found), cells(expected)
    assert list(mine) == list(theirs)
    if replayed:
        theirs = {name: theirs[name] for name in theirs if not name.startswith(NUMBERED)}
    for name, cell in theirs.items():
        assert mine[name].dtype == cell.dtype
        assert mine[name].shape == cell.shape
        if name.startswith(DIGITS):
            continue
        if name.startswith(PLACES) or name.partition(".")[2].startswith(PLACES):
            assert_same_places(name, mine[name].double(), cell.double())
        elif cell.dtype == torch.int64:
            assert torch.equal(mine[name], cell), f"{name}: {mine[name]} for {cell}"
        else:
            limit = 1e-12
            if any(part.startswith(LOSSES) for part in name.split(".")):
                limit = loss
            scale = float(cell.nan_to_num(posinf=0, neginf=0).abs().amax()) if cell.numel() else 0.0
            torch.testing.assert_close(
                mine[name],
                cell,
                rtol=limit,
                atol=limit * scale,
                equal_nan=True,
                msg=lambda told, name=name: f"{name}: {told}",
            )


def assert_same_places(name: str, found: Tensor, expected: Tensor) -> None:
    """As many rows, and nearly all of them in the same places."""
    total = float(expected.sum())
    moved = float((found - expected).abs().sum()) / 2
    if not name.rpartition(".")[0] and not name.endswith("inexact"):
        assert float(found.sum()) == total, f"{name}: {found.sum()} rows for {total}"
    assert moved <= 0.02 * abs(total) + 2, f"{name}: {moved} of {total} elsewhere"


def assert_same_scores(found: Metrics, expected: Metrics) -> None:
    """Every score and both ends of its interval, as far as float32 goes."""
    mine, theirs = found.compute(), expected.compute()
    assert list(mine) == list(theirs)
    for name, score in theirs.items():
        off = 1e-5 + max(mine[name].error_bound or 0.0, score.error_bound or 0.0)
        for part in ("value", "low", "high"):
            assert getattr(mine[name], part) == pytest.approx(
                getattr(score, part), rel=1e-4, abs=off, nan_ok=True
            ), f"{name}.{part}"
    assert mine.n == theirs.n
    assert dict(mine.faults) == dict(theirs.faults)


def assert_same_bits(found: Metrics, expected: Metrics) -> None:
    """Not a bit of any count differs."""
    mine, theirs = cells(found), cells(expected)
    for name, cell in theirs.items():
        assert torch.equal(bits(mine[name]), bits(cell)), name


def bits(values: Tensor) -> Tensor:
    """The bits themselves, in which NaN equals NaN."""
    return values.contiguous().view(torch.int64)


def as_dtype(batch: Batch, dtype: torch.dtype) -> Batch:
    """Its predictions in another type, unless they are labels."""
    changed = dict(vars(batch))
    if batch.preds.is_floating_point():
        changed["preds"] = batch.preds.to(dtype)
    return Batch(**changed)


def strided(values: Tensor) -> Tensor:
    """The same values, every second of a tensor that is twice as long."""
    return torch.stack((values, torch.zeros_like(values)), -1)[..., 0]


def transposed(values: Tensor) -> Tensor:
    """The same values with the first and the last dimension exchanged in memory."""
    return values.transpose(0, -1).contiguous().transpose(0, -1)


def channels_last(values: Tensor) -> Tensor:
    """Images as convolutions like them; what is no image stays."""
    if values.ndim != 4:
        return values
    return values.contiguous(memory_format=torch.channels_last)


def laid_out(batch: Batch, layout: Any) -> Batch:
    """Predictions and target in another layout."""
    changed = dict(vars(batch))
    changed["preds"] = layout(batch.preds)
    changed["target"] = layout(batch.target)
    return Batch(**changed)
