"""How a batch of real values is read: what is refused at once, what is refused on the device, and no host sync."""

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ptmetrics.counts.regression import MAGNITUDE_BINS, magnitude_bin, magnitude_edges
from ptmetrics.errors import ConfigError, DeviceError, DtypeError, PtmetricsError, ShapeError
from ptmetrics.metrics.regression import RegressionMetrics

OPERATIONS = (
    165  # an update without weights; moving the centre of fourth moments takes half of them
)


class Counted(TorchDispatchMode):
    """Counts what is dispatched."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def said(error: type[PtmetricsError], *words: str) -> Any:
    return pytest.raises(error, match=".*".join(map(re.escape, words)))


@pytest.mark.fault(21)
@pytest.mark.parametrize(
    ("outputs", "preds", "target"),
    [
        (1, (4, 2), (4, 2)),
        (1, (4,), (3,)),
        (1, (), ()),
        (2, (4,), (4,)),
        (2, (4, 2), (4, 3)),
        (2, (4, 2), (2, 4)),
    ],
)
def test_shapes_that_do_not_fit_are_refused_with_both_of_them_and_nothing_is_counted(
    outputs: int, preds: tuple[int, ...], target: tuple[int, ...]
) -> None:
    metrics = RegressionMetrics(num_outputs=outputs)
    rule = "(N,) or (N, 1)" if outputs == 1 else "(N, 2)"
    with said(
        ShapeError,
        f"both of shape {rule}",
        f"preds of shape {preds}, target of shape {target}",
        "num_outputs",
    ):
        metrics.update(torch.zeros(preds), torch.zeros(target))
    assert metrics.updates == 0
    assert metrics.compute().n == 0


@pytest.mark.fault(21)
@pytest.mark.parametrize("name", ["preds", "target"])
@pytest.mark.parametrize("dtype", [torch.bool])
def test_what_is_no_real_number_is_refused(name: str, dtype: torch.dtype) -> None:
    values = {"preds": torch.zeros(4), "target": torch.zeros(4)} | {
        name: torch.zeros(4, dtype=dtype)
    }
    kind = str(dtype).removeprefix("torch.")
    with said(
        DtypeError,
        f"{name}: expected floating point or whole numbers, got {kind} of shape (4,).",
        "Pass",
    ):
        RegressionMetrics().update(**values)
    with said(
        DtypeError, f"{name}: expected a torch.Tensor, got list. Pass torch.as_tensor({name})."
    ):
        RegressionMetrics().update(**(values | {name: [0.0] * 4}))


@pytest.mark.parametrize("weight", [torch.ones(3), torch.ones(4, 2)])
def test_weights_are_one_a_row(weight: Tensor) -> None:
    metrics = RegressionMetrics(num_outputs=2)
    with said(
        ShapeError,
        "sample_weight: expected real numbers one a row, of shape (4,)",
        str(tuple(weight.shape)),
    ):
        metrics.update(torch.zeros(4, 2), torch.zeros(4, 2), weight)
    assert metrics.updates == 0


def test_tensors_on_two_devices_are_refused() -> None:
    with said(DeviceError, "target: expected a tensor on cpu", "got meta", "target.to('cpu')"):
        RegressionMetrics().update(torch.zeros(4), torch.zeros(4, device="meta"))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"num_outputs": 0},
            ("num_outputs: expected a whole number from 1 to 16384", "Pass the number"),
        ),
        ({"num_outputs": True}, ("num_outputs: expected", "got True")),
        ({"num_outputs": 2.0}, ("num_outputs: expected", "got 2.0")),
        (
            {"quantiles": (0.5, 1.0)},
            ("quantiles: expected numbers between 0 and 1, got (0.5, 1.0).", "Pass"),
        ),
        ({"quantiles": ("half",)}, ("quantiles: expected", "half")),
        ({"names": ["a", "b"]}, ("names: expected 1 names, got 2. Pass one name an output.",)),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(
    config: dict[str, Any], words: tuple[str, ...]
) -> None:
    with said(ConfigError, *words):
        RegressionMetrics(**config)


@pytest.mark.fault(19)
@pytest.mark.fault(20)
def test_values_that_are_not_finite_refuse_their_row_and_are_counted_in_words() -> None:
    metrics = RegressionMetrics(num_outputs=2)
    good = torch.tensor([[1.0, 2.0]])
    metrics.update(good, good + 1)
    preds = torch.tensor(
        [[math.nan, 0], [0, math.inf], [1, 1], [2, 2], [1e200, 0]], dtype=torch.float64
    )
    target = torch.tensor(
        [[0, 0], [0, 0], [-math.inf, 1], [4, 4], [math.nan, 0]], dtype=torch.float64
    )
    metrics.update(preds, target)
    got = metrics.compute()
    assert got.n == 2
    assert got["mae"].value == 1.5
    assert {name: (f["count"], f["first_step"]) for name, f in got.faults.items()} == {
        "prediction-not-finite": (3, 1),
        "target-not-finite": (1, 1),  # the last row is told once
    }
    message = "3 × row with a prediction that is NaN, infinite or beyond 1e37, refused; first in"
    assert f"{message} update 1" in str(got)


@pytest.mark.fault(27)
def test_a_row_with_an_impossible_weight_is_refused_and_one_of_weight_zero_is_not_there() -> None:
    weight = torch.tensor([1.0, 0.0, 0.0, -1.0, math.nan, math.inf, 3.0])
    preds = torch.tensor([1.0, 99.0, math.nan, 5.0, 5.0, 5.0, 0.0])
    metrics, without = RegressionMetrics(), RegressionMetrics()
    metrics.update(preds, torch.zeros(7), weight)
    without.update(preds[[0, 6]], torch.zeros(2), weight[[0, 6]])
    got = metrics.compute()
    assert (got.n, got["mae"].value, got["max_error"].value) == (2, 0.25, 1.0)
    for name, expected in without.compute().items():
        for end in ("value", "low", "high", "n"):
            assert getattr(got[name], end) == pytest.approx(getattr(expected, end), nan_ok=True), (
                name
            )
    assert got.faults.keys() == {"bad-weight"}
    assert got.faults["bad-weight"]["count"] == 3
    assert weight.tolist()[:3] == [1.0, 0.0, 0.0]


def test_a_column_and_a_row_of_values_are_paired_and_not_broadcast() -> None:
    metrics = RegressionMetrics()
    metrics.update(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([1.0, 2.0, 4.0]))
    assert metrics.compute()["mae"].value == pytest.approx(1 / 3)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_an_update_needs_no_value_on_the_host_and_few_operations(
    device: str, weighted: bool
) -> None:
    metrics = RegressionMetrics(num_outputs=3, device=device)  # "meta" has no value to ask for
    for rows in (64, 65):  # the second form is not that of the first: neither waits
        preds, target = torch.zeros(2, rows, 3, device=device)
        weight = torch.ones(rows, device=device) if weighted else None
        with Counted() as counted:
            metrics.update(preds, target, weight)
    assert len(counted.names) > OPERATIONS / 2, "it waits"
    assert len(counted.names) <= OPERATIONS + 50 * weighted, " ".join(counted.names)


def test_a_large_batch_in_pieces_equals_the_same_rows_in_many_batches() -> None:
    g = torch.Generator().manual_seed(0)
    target = 1e6 + torch.randn(150_000, generator=g, dtype=torch.float64)
    preds = target + torch.randn(150_000, generator=g, dtype=torch.float64)
    whole, parts = RegressionMetrics(), RegressionMetrics()
    whole.update(preds, target)
    for p, t in zip(preds.split(4999), target.split(4999), strict=True):
        parts.update(p, t)
    one, other = whole.compute(), parts.compute()
    for name in one:
        for end in ("value", "low", "high"):
            assert getattr(one[name], end) == pytest.approx(getattr(other[name], end), rel=1e-9), (
                name
            )


def test_the_state_is_half_a_megabyte_an_output() -> None:
    one, three = RegressionMetrics(), RegressionMetrics(num_outputs=3)
    assert one.state_bytes < 2**19 + 1100
    assert three.state_bytes < 3 * (2**19 + 1100)


def test_bins_of_magnitudes_keep_the_order_and_hold_what_falls_into_them() -> None:
    g = torch.Generator().manual_seed(0)
    x = (torch.randn(10_000, generator=g, dtype=torch.float64) * 30).exp()
    x = (
        torch.cat(
            (x, torch.tensor([0.0, 5e-324, 1e-60, 2.0**-127, 1.0, 2.0, 1e69], dtype=torch.float64))
        )
        .sort()
        .values
    )
    bins = magnitude_bin(x)
    edges = magnitude_edges()
    assert (bins.diff() >= 0).all()
    assert bins.min() == 0
    assert bins.max() == MAGNITUDE_BINS - 1
    assert (edges[bins] <= x).all()
    assert (x < edges[bins + 1]).all()
    inner = edges[1:-1]
    assert (inner.diff() / inner[:-1] <= 1 / 256).all()
    assert torch.equal(magnitude_bin(edges[1:-1]), torch.arange(1, MAGNITUDE_BINS))
    assert (edges[0], edges[-1]) == (0, math.inf)
    assert (edges[1], edges[-2]) == (2.0**-127 * (1 + 1 / 256), 2.0**129 * (1 - 1 / 512))


@pytest.mark.fault(19)
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e20, 2e36])
def test_values_of_any_size_that_is_taken_have_scores_and_intervals(size: float) -> None:
    g = torch.Generator().manual_seed(8)
    target = torch.rand(40, generator=g, dtype=torch.float64) * 2 - 1
    preds = target * 0.8 + torch.rand(40, generator=g, dtype=torch.float64) / 9
    metrics = RegressionMetrics()
    for half in (slice(0, 15), slice(15, 40)):
        metrics.update(preds[half] * size, target[half] * size)
    got = metrics.compute()
    assert got.n == 40
    for name in ("mse", "mae", "r2", "pearson", "bias"):
        assert math.isfinite(got[name].value), name
        assert got[name].low <= got[name].value <= got[name].high, name
    assert got["r2"].value == pytest.approx(0.96, abs=0.03)


def test_values_whose_fourth_powers_overflow_are_refused_and_told() -> None:
    metrics = RegressionMetrics()
    metrics.update(torch.tensor([3e38, 1.0, 2.0]), torch.tensor([1.0, -3e38, 2.0]))
    got = metrics.compute()
    assert got.n == 1
    assert {name: fault["count"] for name, fault in got.faults.items()} == {
        "prediction-not-finite": 1,
        "target-not-finite": 1,
    }
