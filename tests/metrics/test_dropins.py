"""Drop-ins for training scripts: torchvision's `accuracy` and the `AverageMeter` of half the repositories."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ptmetrics as pm
from ptmetrics.errors import ShapeError


def torchvision_accuracy(
    output: torch.Tensor, target: torch.Tensor, topk: tuple[int, ...]
) -> list[float]:
    """What the reference script computes: a top-k by sorting, then a count."""
    _, pred = output.topk(max(topk), 1, largest=True, sorted=True)
    correct = pred.t().eq(target[None])
    return [float(correct[:k].flatten().sum() * (100.0 / len(target))) for k in topk]


@given(st.integers(1, 40), st.integers(5, 30), st.integers(0, 99))
def test_accuracy_is_that_of_the_reference_script(rows: int, classes: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    output = torch.randn(rows, classes, generator=rng)
    target = torch.randint(classes, (rows,), generator=rng)
    ours = [float(value) for value in pm.accuracy(output, target, topk=(1, 3, 5))]
    assert ours == pytest.approx(torchvision_accuracy(output, target, (1, 3, 5)), rel=1e-5)


def test_of_equal_scores_the_lowest_class_comes_first() -> None:
    top1, top2 = pm.accuracy(torch.zeros(3, 4), torch.tensor([0, 1, 3]), topk=(1, 2))
    assert (float(top1), float(top2)) == (pytest.approx(100 / 3), pytest.approx(200 / 3))


def test_soft_targets_count_as_their_highest_class() -> None:
    (top1,) = pm.accuracy(torch.eye(3), torch.eye(3).flip(0))
    assert float(top1) == pytest.approx(100 / 3)


def test_accuracy_refuses_shapes_that_do_not_fit() -> None:
    with pytest.raises(
        ShapeError,
        match=r"expected shapes \(N, C\) and \(N,\), got \(3, 4\) and \(2,\). Pass one row",
    ):
        pm.accuracy(torch.zeros(3, 4), torch.zeros(2, dtype=torch.long))


def test_accuracy_needs_no_host_sync() -> None:
    (top1,) = pm.accuracy(
        torch.zeros(3, 4, device="meta"), torch.zeros(3, dtype=torch.long, device="meta")
    )
    assert top1.shape == ()


def test_a_meter_averages_over_samples_and_not_over_batches() -> None:
    meter = pm.AverageMeter("loss", ":.2f")
    meter.update(1.0, n=9)
    meter.update(torch.tensor(2.0, requires_grad=True), n=1)
    assert (meter.val, meter.sum, meter.count, meter.avg) == (2.0, 11.0, 10, 1.1)
    assert str(meter) == "loss 2.00 (1.10)"
    meter.reset()
    assert (meter.val, meter.avg, meter.count) == (0.0, 0.0, 0)


@pytest.mark.fault(13)
def test_a_meter_of_float32_tensors_counts_past_two_to_the_24th() -> None:
    meter = pm.AverageMeter()
    meter.update(torch.tensor(1.0), n=2**24)
    meter.update(torch.tensor(1.0))
    assert meter.sum == 2**24 + 1


def test_a_meter_refuses_more_than_one_number() -> None:
    with pytest.raises(
        ShapeError, match=r"val: expected one number, got shape \(2,\). Pass val.mean\(\)."
    ):
        pm.AverageMeter().update(torch.zeros(2))
