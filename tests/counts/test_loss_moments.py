"""The loss of the user's criterion: a mean over samples whatever the batches, and moments that add up."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from registry import LAW

from ptmetrics.counts.accumulator import Accumulator
from ptmetrics.counts.contract import Fed
from ptmetrics.counts.faults import FaultKind, FaultLedger
from ptmetrics.counts.loss import NON_FINITE_LOSS, LossMoments, given_loss, read_losses
from ptmetrics.counts.moments import moments
from ptmetrics.errors import ShapeError
from ptmetrics.metrics.intervals import mean_interval


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def counter() -> Accumulator:
    return Accumulator([Fed(read_losses, (LossMoments(), FaultLedger((NON_FINITE_LOSS,))))], {})


def test_a_mean_loss_of_unequal_batches_is_the_mean_over_samples() -> None:
    losses, counts = torch.rand(100, generator=torch.Generator().manual_seed(0)), counter()
    for batch in losses.split(33):
        counts.add_(given_loss(batch.mean(), f64(len(batch))), None)
    mean, _, _ = mean_interval(counts.state["loss"])
    assert float(mean) == pytest.approx(float(losses.double().mean()), rel=1e-6)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30),
    st.lists(st.integers(1, 9), min_size=30, max_size=30),
)
@LAW
def test_moments_are_the_sums_that_they_name(values: list[float], weights: list[int]) -> None:
    x, w = np.array(values), np.array(weights[: len(values)], dtype=float)
    counted = torch.ones(len(x), dtype=torch.bool)
    got = moments(torch.tensor(x), counted, torch.tensor(w)).tolist()
    expected = [len(x), w.sum(), (w**2).sum(), (w * x).sum(), (w**2 * x).sum(), (w**2 * x**2).sum()]
    assert got == pytest.approx(expected, rel=1e-12, abs=1e-6)
    alone = moments(torch.tensor(x), counted).tolist()
    assert alone == pytest.approx(
        moments(torch.tensor(x), counted, torch.ones(len(x)).double()).tolist()
    )
    assert moments(torch.tensor(x), ~counted).tolist() == [0] * 6


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_left_out_and_counted_with_its_first_step(bad: float) -> None:
    counts = counter()
    for loss in [1.0, bad, 3.0, bad]:
        counts.add_(given_loss(torch.tensor(loss), f64(2)), None)
    assert counts.state["loss"].tolist() == [2, 4, 8, 8, 16, 40]
    ledger = FaultLedger((NON_FINITE_LOSS,))
    told = ledger.read(
        counts.state["fault_count"].tolist(), counts.state["fault_first_step"].tolist()
    )
    assert told["non-finite-loss"] == {
        "count": 2,
        "first_step": 1,
        "message": "2 × loss that is NaN or infinite, left out of the mean; first in update 1",
    }


def test_an_empty_batch_has_no_loss_and_no_fault_even_where_its_mean_is_nan() -> None:
    counts = counter()
    counts.add_(given_loss(torch.tensor(math.nan), f64(0)), None)
    assert all(torch.equal(cell, counter().state[name]) for name, cell in counts.state.items())


def test_a_loss_keeps_no_graph_and_is_not_read_on_the_host() -> None:
    counts, loss = counter(), torch.rand(3, requires_grad=True)
    with torch.no_grad():
        for _ in range(3):
            counts.add_(given_loss(loss.mean(), f64(3)), None)
    assert not counts.state["loss"].requires_grad
    meta = Accumulator([Fed(read_losses, (LossMoments(),))], {}, "meta")
    for _ in range(3):
        meta.add_(
            given_loss(torch.empty((), device="meta"), torch.empty(1, device="meta").double()), None
        )
    assert meta.state["loss"].is_meta


@pytest.mark.fault(15)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_losses_are_summed_in_64_bits(dtype: torch.dtype) -> None:
    counts, loss = counter(), torch.full((1000,), 60.0, dtype=dtype)
    for _ in range(50):
        counts.add_(given_loss(loss, f64(1)), None)
    assert counts.state["loss"].tolist() == [50_000, 50_000, 50_000, 3e6, 3e6, 1.8e8]


def test_a_loss_with_two_dimensions_is_refused_with_its_cure() -> None:
    with pytest.raises(
        ShapeError,
        match=r"loss: expected shape \(\) or \(N,\), got \(2, 3\)\. Pass loss\.flatten\(\)",
    ):
        given_loss(torch.zeros(2, 3), f64(2))


def test_the_ledger_keeps_the_first_step_of_each_kind_through_merges_and_resumes() -> None:
    kinds = (FaultKind("a", "first kind"), FaultKind("b", "second kind"))

    class Steps:
        def __init__(self, step: int, *counts: int) -> None:
            self.step = step
            self.fault_masks = tuple(torch.arange(4) < n for n in counts)

    ledger = FaultLedger(kinds)
    early, late = (Accumulator([ledger], {}) for _ in range(2))
    for step, counts in [(3, (0, 2)), (5, (1, 0)), (6, (4, 1))]:
        ledger.add_(late.state, Steps(step, *counts))
    ledger.add_(early.state, Steps(4, 1, 0))
    early.merge_state([late])
    ledger.add_(early.state, Steps(7, 1, 1))
    assert early.state["fault_count"].tolist() == [7, 4]
    assert early.state["fault_first_step"].tolist() == [4, 3]
    assert FaultLedger(kinds).read([0, 4], [9, 3]) == {
        "b": {"count": 4, "first_step": 3, "message": "4 × second kind; first in update 3"}
    }
