"""The mean loss of a split weighs each value by the targets that it stands for, whatever shapes follow each other."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ptmetrics import MulticlassMetrics
from ptmetrics.monitor.split import SplitCounts


def mean_loss(*batches: tuple[Tensor, int]) -> float:
    counts = SplitCounts(MulticlassMetrics(3))
    for loss, targets in batches:
        counts.add_loss(loss, torch.zeros(targets, dtype=torch.int64))
    _, mean, _ = counts.close()
    assert mean is not None
    return float(mean)


@pytest.mark.parametrize("first", [0, 1])
def test_a_mean_over_targets_and_a_single_value_are_told_apart_in_any_order(first: int) -> None:
    batches = [(torch.tensor([1.0]), 5), (torch.tensor(3.0), 5)]
    expected = (1 * 1.0 + 5 * 3.0) / 6
    assert mean_loss(batches[first], batches[1 - first]) == pytest.approx(expected)


@pytest.mark.parametrize("ignored", [None, -100])
def test_where_there_is_no_float64_the_loss_is_counted_on_the_cpu(ignored: int | None) -> None:
    with FakeTensorMode():
        counts = SplitCounts(MulticlassMetrics(3, ignore_index=ignored))
        target = torch.zeros(4, dtype=torch.int64, device="mps")
        for loss in (torch.zeros((), device="mps"), torch.zeros(4, device="mps"), 0.5):
            counts.add_loss(loss, target)
        assert counts._loss.device.type == "cpu"
        assert all(cell.device.type == "cpu" for cell in counts._loss.state.values())
        assert counts._loss.updates == 3
