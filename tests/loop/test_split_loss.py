"""The mean loss of a split weighs each value by the targets that it stands for, whatever shapes follow each other."""

import pytest
import torch
from torch import Tensor

from ptmetrics import MulticlassMetrics
from ptmetrics.loop.split import SplitCounts


def mean_loss(*batches: tuple[Tensor, int]) -> float:
    counts = SplitCounts(MulticlassMetrics(3))
    for loss, targets in batches:
        counts.add_loss(loss, torch.zeros(targets, dtype=torch.int64))
    _, loss, _ = counts.close()
    assert loss is not None
    return float(loss)


@pytest.mark.parametrize("first", [0, 1])
def test_a_mean_over_targets_and_a_single_value_are_told_apart_in_any_order(first: int) -> None:
    batches = [(torch.tensor([1.0]), 5), (torch.tensor(3.0), 5)]
    expected = (1 * 1.0 + 5 * 3.0) / 6
    assert mean_loss(batches[first], batches[1 - first]) == pytest.approx(expected)
