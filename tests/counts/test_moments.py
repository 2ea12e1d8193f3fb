"""Joint moments are the sums of their definition, however the rows came together and whichever part they are of."""

import pytest
import torch
from torch import Tensor

from ptmetrics.counts.cell import Cell
from ptmetrics.counts.moments import (
    JOINT_SIZE,
    add_joint_,
    add_joint_by_part_,
    joint_centre,
    joint_sums,
    merge_joint_,
)
from ptmetrics.metrics.host import counts_without_each

FACTORIALS = torch.tensor([1.0, 1.0, 2.0, 6.0, 24.0], dtype=torch.float64)


def drawn(rows: int, outputs: int) -> tuple[Tensor, Tensor]:
    """Points of shape (rows, outputs, 3) far from 0, and weights, some of them 0."""
    g = torch.Generator().manual_seed(0)
    points = 5 + torch.randn(rows, outputs, 3, generator=g, dtype=torch.float64)
    weight = torch.rand(rows, generator=g, dtype=torch.float64)
    weight[::7] = 0
    return points, weight


def plain_sums(points: Tensor, weight: Tensor, centre: Tensor) -> Tensor:
    """Σ w xⁱ yʲ and Σ w² xⁱ yʲ by their definition, shape (D, 2, 2, 5, 5)."""
    d = points - centre
    sums = torch.zeros(points.shape[1], 2, 2, 5, 5, dtype=torch.float64)
    for k, w in enumerate((weight, weight**2)):
        for cloud in range(2):
            for i in range(5):
                for j in range(5):
                    terms = d[:, :, cloud] ** i * d[:, :, 2] ** j
                    sums[:, k, cloud, i, j] = (w.unsqueeze(1) * terms).sum(0)
    return sums


def assert_moments(joint: Tensor, points: Tensor, weight: Tensor) -> None:
    """The centre is the mean, and the sums are about it."""
    centre = joint_centre(joint)
    mean = (points * weight.view(-1, 1, 1)).sum(0) / weight.sum()
    torch.testing.assert_close(centre, mean, rtol=1e-13, atol=1e-13)
    sums = joint_sums(joint) * FACTORIALS.outer(FACTORIALS)
    expected = plain_sums(points, weight, centre)
    torch.testing.assert_close(sums, expected, rtol=1e-12, atol=1e-9)


def test_batches_and_merges_are_the_sums_of_their_definition_wherever_the_centre_went() -> None:
    points, weight = drawn(300, 2)
    joint = torch.zeros(2, 2, JOINT_SIZE, dtype=torch.float64)
    for mine, start, stop in ((joint[0], 0, 1), (joint[0], 1, 90), (joint[1], 90, 300)):
        rows = slice(start, stop)
        add_joint_(mine, points[rows], weight[rows], weight[rows] ** 2)
    one = merge_joint_(joint[0].clone(), joint[1])
    other = merge_joint_(joint[1].clone(), joint[0])
    assert torch.equal(one, other)
    assert_moments(one, points, weight)


def test_weights_of_one_are_their_own_squares() -> None:
    points, weight = drawn(50, 1)
    weight = (weight > 0).double()
    one, other = torch.zeros(2, 1, JOINT_SIZE, dtype=torch.float64)
    add_joint_(one, points, weight, weight)
    add_joint_(other, points, weight, weight.clone())
    assert torch.equal(one, other)
    assert_moments(one, points, weight)


def test_merging_nothing_changes_no_bit() -> None:
    points, weight = drawn(20, 2)
    joint, nothing = torch.zeros(2, 2, JOINT_SIZE, dtype=torch.float64)
    add_joint_(joint, points, weight, weight**2)
    add_joint_(nothing, points, torch.zeros(20, dtype=torch.float64), torch.zeros(20).double())
    assert not nothing.any()
    before = joint.clone()
    assert torch.equal(merge_joint_(joint, nothing), before)
    assert torch.equal(merge_joint_(nothing, joint), before)


@pytest.mark.parametrize("batches", [1, 3])
def test_the_moments_of_a_part_are_those_of_its_rows_and_without_it_those_of_the_others(
    batches: int,
) -> None:
    points, weight = drawn(120, 2)
    part = torch.arange(120) % 4
    part[part == 2] = 0  # a part without rows
    points += part.view(-1, 1, 1) * 3.0  # each part about a mean of its own
    joint = torch.zeros(5, 2, JOINT_SIZE, dtype=torch.float64)
    for rows in torch.arange(120).chunk(batches):
        add_joint_by_part_(joint, points[rows], weight[rows], weight[rows] ** 2, part[rows])
    assert not joint[[2, 4]].any()
    cell = Cell("moments", (2, JOINT_SIZE), torch.float64, merge="joint")
    arrays = {"group.moments": joint.numpy()}
    without = counts_without_each("group", arrays, {"moments": cell}, 0.0)["moments"]
    assert without.shape == (4, 2, JOINT_SIZE)
    for i in range(4):
        kept = part != i
        if i != 2:
            assert_moments(joint[i], points[~kept], weight[~kept])
        # All left-outs have one centre, which is not their mean: it moves.
        left = merge_joint_(torch.from_numpy(without[i]), torch.zeros_like(joint[0]))
        first = joint_sums(left)[:, 0, 0, 1, 0] / joint_sums(left)[:, 0, 0, 0, 0]
        mean = (points * weight.view(-1, 1, 1))[kept].sum(0) / weight[kept].sum()
        torch.testing.assert_close(joint_centre(left)[:, 0] + first, mean[:, 0])
        sums = joint_sums(left) * FACTORIALS.outer(FACTORIALS)
        expected = plain_sums(points[kept], weight[kept], joint_centre(left))
        torch.testing.assert_close(sums, expected, rtol=1e-12, atol=1e-9)


@pytest.mark.fault(13)
@pytest.mark.parametrize("big", [2**24, 2**31, 2**53])
def test_moments_of_huge_counts_still_move(big: int) -> None:
    joint = torch.zeros(1, JOINT_SIZE, dtype=torch.float64)
    pair = torch.tensor([-1.0, 1.0], dtype=torch.float64).view(2, 1, 1).expand(2, 1, 3)
    weight = torch.full((2,), big / 2, dtype=torch.float64)
    add_joint_(joint, pair, weight, weight)
    for _ in range(10):
        merge_joint_(joint, joint.clone())
    assert joint_sums(joint)[0, 0, 0, 0, 0] == big * 1024
    assert 2 * joint_sums(joint)[0, 0, 0, 2, 0] / (big * 1024) == 1
