"""How a batch of real values is read: what is refused at once, what is refused on the device, and no host sync."""

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ptmetrics import RegressionMetrics
from ptmetrics.counts.joint_moments import SIZE, add_points_, centre_of, merge_, sums_of, undivided
from ptmetrics.counts.magnitude import BINS, lower_edge, magnitude_bin
from ptmetrics.errors import ConfigError, DeviceError, DtypeError, PtmetricsError, ShapeError

OPERATIONS = (
    120  # an update without weights; moving the centre of fourth moments takes most of them
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
        (1, (1, 4), (4,)),
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
@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64])
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


@pytest.mark.parametrize(
    "weight", [torch.ones(3), torch.ones(4, 2), torch.ones(4, dtype=torch.complex64)]
)
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
            ("num_outputs: expected a whole number of 1 or more, got 0.", "Pass the number"),
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
        "target-not-finite": (2, 1),
    }
    assert (
        "3 × row with a prediction that is NaN, infinite or beyond 1e70, refused; first in update 1"
        in str(got)
    )


@pytest.mark.fault(27)
def test_a_row_with_an_impossible_weight_is_refused_and_one_of_weight_zero_is_not_there() -> None:
    weight = torch.tensor([1.0, 0.0, -1.0, math.nan, math.inf, 3.0])
    preds = torch.tensor([1.0, 99.0, 5.0, 5.0, 5.0, 0.0])
    metrics = RegressionMetrics()
    metrics.update(preds, torch.zeros(6), weight)
    got = metrics.compute()
    assert (got.n, got["mae"].value, got["max_error"].value) == (2, 0.25, 1.0)
    assert got.faults["bad-weight"]["count"] == 3
    assert weight.tolist()[:3] == [1.0, 0.0, -1.0]


def test_a_column_and_a_row_of_values_are_paired_and_not_broadcast() -> None:
    metrics = RegressionMetrics()
    metrics.update(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([1.0, 2.0, 4.0]))
    assert metrics.compute()["mae"].value == pytest.approx(1 / 3)


@pytest.mark.parametrize("weighted", [False, True])
def test_an_update_needs_no_value_on_the_host_and_few_operations(weighted: bool) -> None:
    for device in ("meta", "cpu"):
        metrics = RegressionMetrics(num_outputs=3, device=device)
        preds, target = torch.zeros(2, 64, 3, device=device)
        weight = torch.ones(64, device=device) if weighted else None
        metrics.update(preds, target, weight)
        metrics._counts._ring.drop()  # so that the next batch does not wait
        with Counted() as counted:
            metrics.update(preds, target, weight)
        assert len(counted.names) <= OPERATIONS + 30 * weighted, " ".join(counted.names)
        assert not any("item" in name or "nonzero" in name for name in counted.names)


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
    assert one.state_bytes < 2**19 + 1024
    assert three.state_bytes < 3 * (2**19 + 1024)


def plain_sums(points: Tensor, weight: Tensor, centre: Tensor) -> Tensor:
    """Σ w xⁱ yʲ and Σ w² xⁱ yʲ by their definition, shape (D, 2, 2, 5, 5)."""
    d = points - centre.unsqueeze(-1)
    sums = torch.zeros(len(points), 2, 2, 5, 5, dtype=torch.float64)
    for k, w in enumerate((weight, weight**2)):
        for cloud in range(2):
            for i in range(5):
                for j in range(5):
                    sums[:, k, cloud, i, j] = (w * d[:, cloud] ** i * d[:, 2] ** j).sum(-1)
    return sums


def test_joint_moments_are_the_sums_of_their_definition_wherever_the_centre_went() -> None:
    g = torch.Generator().manual_seed(0)
    points = torch.randn(2, 3, 300, generator=g, dtype=torch.float64)
    weight = torch.rand(300, generator=g, dtype=torch.float64)
    cells = torch.zeros(2, 2, SIZE, dtype=torch.float64)
    for cell, rows in (
        (cells[0], slice(0, 1)),
        (cells[0], slice(1, 90)),
        (cells[1], slice(90, 300)),
    ):
        add_points_(cell, points[..., rows], weight[rows], weight[rows] ** 2)
    one, other = merge_(cells[0].clone(), cells[1]), merge_(cells[1].clone(), cells[0])
    assert torch.equal(one, other)
    mean = (points * weight).sum(-1) / weight.sum()
    torch.testing.assert_close(centre_of(one), mean, rtol=1e-13, atol=1e-13)
    expected = plain_sums(points, weight, centre_of(one))
    torch.testing.assert_close(undivided(sums_of(one)), expected, rtol=1e-12, atol=1e-10)


@pytest.mark.fault(13)
@pytest.mark.parametrize("big", [2**24, 2**31, 2**53])
def test_moments_of_huge_counts_still_move(big: int) -> None:
    cell = torch.zeros(1, SIZE, dtype=torch.float64)
    pair = torch.tensor([[[-1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0]]], dtype=torch.float64)
    weight = torch.full((2,), big / 2, dtype=torch.float64)
    add_points_(cell, pair, weight, weight)
    for _ in range(10):
        merge_(cell, cell.clone())
    assert sums_of(cell)[0, 0, 0, 0, 0] == big * 1024
    assert undivided(sums_of(cell))[0, 0, 0, 2, 0] / (big * 1024) == 1


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
    assert (bins.diff() >= 0).all()
    assert bins.min() == 0
    assert bins.max() == BINS - 1
    inside = bins < BINS - 1
    assert (lower_edge(bins) <= x).all()
    assert (x[inside] < lower_edge(bins + 1)[inside]).all()
    edges = lower_edge(torch.arange(1, BINS))
    assert (edges.diff() / edges[:-1] <= 1 / 256).all()
    assert torch.equal(magnitude_bin(edges), torch.arange(1, BINS))
