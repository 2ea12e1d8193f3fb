"""The loss of a split: a mean over samples whatever the batches, and what cannot be one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from registry import LAW
from torch import Tensor

from ptmetrics.counts.moments import mean_sums, mean_sums_by_part
from ptmetrics.errors import ShapeError
from ptmetrics.metrics.loss import MeanLoss
from ptmetrics.testing import check_metric


def counted(*losses: tuple[Tensor, float]) -> MeanLoss:
    metrics = MeanLoss()
    for loss, samples in losses:
        number = torch.tensor([samples], dtype=torch.float64)
        metrics.update(loss, number, number)
    return metrics


def sums(metrics: MeanLoss) -> list[float]:
    numbers: list[float] = metrics.state_dict()["cells"]["loss"][:, 0].tolist()
    return numbers


def make_batch(rows: int, seed: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    samples = torch.randint(0, 9, (rows,), generator=g).double()
    losses = torch.rand(rows, generator=g)
    losses[samples == 3] = math.nan
    return {"preds": losses, "target": samples, "sample_weight": samples}


def test_the_loss_keeps_the_laws_of_all_metrics() -> None:
    check_metric(MeanLoss(), make_batch)


def test_a_mean_of_unequal_batches_is_the_mean_over_samples() -> None:
    losses = torch.rand(100, generator=torch.Generator().manual_seed(0))
    metrics = counted(*((part.mean(), float(len(part))) for part in losses.split(33)))
    score = metrics.compute()["loss"]
    assert score.value == pytest.approx(float(losses.double().mean()), rel=1e-6)
    assert score.n == 100


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30),
    st.lists(st.integers(1, 9), min_size=30, max_size=30),
)
@LAW
def test_the_sums_of_a_mean_are_those_that_they_name(
    values: list[float], weights: list[int]
) -> None:
    x = np.array(values)
    w = np.array(weights[: len(values)], dtype=float)
    numbers, heavy = torch.tensor(x), torch.tensor(w)
    got = mean_sums(numbers, heavy).tolist()
    expected = [len(x), w.sum(), (w**2).sum(), (w * x).sum(), (w**2 * x).sum(), (w**2 * x**2).sum()]
    assert got == pytest.approx(expected, rel=1e-12, abs=1e-6)
    ones = torch.ones(len(x), dtype=torch.float64)
    assert mean_sums(numbers, None).tolist() == pytest.approx(mean_sums(numbers, ones).tolist())
    assert mean_sums(torch.full_like(numbers, math.nan), heavy).tolist() == [0] * 6
    part = torch.arange(len(x)) % 2
    into = torch.zeros(3, 6, dtype=torch.float64)
    mean_sums_by_part(numbers, heavy, part, into)
    for number in (0, 1):
        alone = mean_sums(numbers[part == number], heavy[part == number])
        torch.testing.assert_close(into[number], alone)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_left_out_and_counted_with_its_first_step(bad: float) -> None:
    metrics = counted(*((torch.tensor(loss), 2.0) for loss in (1.0, bad, 3.0, bad)))
    assert sums(metrics) == [2, 4, 8, 8, 16, 40]
    assert metrics.compute().faults["non-finite-loss"] == {
        "count": 2,
        "first_step": 1,
        "message": "2 × loss that is NaN or infinite, left out of the mean; first in update 1",
    }


def test_a_loss_of_no_samples_counts_for_nothing_even_where_it_is_nan() -> None:
    metrics = counted((torch.tensor(math.nan), 0.0))
    assert sums(metrics) == [0] * 6
    assert not metrics.compute().faults


@pytest.mark.fault(15)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_losses_are_summed_in_64_bits(dtype: torch.dtype) -> None:
    loss = torch.full((1000,), 60.0, dtype=dtype)
    metrics = counted(*[(loss, 1.0)] * 50)
    assert sums(metrics) == [50_000, 50_000, 50_000, 3e6, 3e6, 1.8e8]


def test_a_loss_with_two_dimensions_is_refused_with_its_cure() -> None:
    rule = r"loss: expected shape \(\) or \(N,\), got \(2, 3\)\. Pass loss\.flatten\(\)"
    with pytest.raises(ShapeError, match=rule):
        counted((torch.zeros(2, 3), 2.0))


@pytest.mark.parametrize("shift", [0.0, -2.0])
def test_the_interval_of_a_loss_that_was_never_below_0_is_not_either(shift: float) -> None:
    loss = MeanLoss()
    samples = torch.tensor([8.0])
    values = [value + shift for value in (0.0, 0.1, 0.0, 3.0)]
    for value in values[:2]:
        loss.update(torch.tensor(value), samples, samples)
    other = MeanLoss()
    for value in values[2:]:
        other.update(torch.tensor(value), samples, samples)
    loss.merge_state([other])
    score = loss.compute()["loss"]
    half = 3.182446 * np.std(values, ddof=1) / 2  # Student's t at 3 degrees of freedom
    assert score.high == pytest.approx(np.mean(values) + half, rel=1e-5)
    low = np.mean(values) - half
    if shift == 0:
        low = 0.0
    assert score.low == pytest.approx(low, rel=1e-5)
