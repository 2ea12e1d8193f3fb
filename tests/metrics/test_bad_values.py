"""Tensors that cannot be counted are refused by name before anything changes; good batches before and after count."""

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import CASES, Batch, MetricCase

from ptmetrics import Mean, functional
from ptmetrics.errors import PtmetricsError
from ptmetrics.metrics.base import Metrics

LAW = settings(deadline=None, max_examples=15, derandomize=True)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
ARGUMENTS = ("preds", "target", "sample_weight", "slices", "group")
Change = Callable[[torch.Tensor], torch.Tensor]


def nested(value: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([value, value])


def quantized(value: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(value.float().nan_to_num(), 0.1, 0, torch.quint8)


ODD: dict[str, tuple[Change, str]] = {
    "float8": (lambda t: t.float().to(torch.float8_e4m3fn), "float8_e4m3fn"),
    "the other float8": (lambda t: t.float().to(torch.float8_e5m2), "float8_e5m2"),
    "sparse": (lambda t: t.to_sparse(), "layout sparse_coo"),
    "jagged": (
        lambda t: torch.nested.nested_tensor([t, t[:1]], layout=torch.jagged),
        "nested tensor",
    ),
    "nested": (nested, "nested tensor"),
    "quantized": (quantized, "quantized tensor of quint8"),
    "complex": (lambda t: t.to(torch.complex64), "complex64"),
    "without values": (lambda t: t.to("meta"), "meta"),
}


def given_of(batch: Batch) -> dict[str, Any]:
    given = {
        "preds": batch.preds,
        "target": batch.target,
        "sample_weight": batch.weight,
        "slices": batch.slices,
        "group": batch.group,
    }
    return {name: value for name, value in given.items() if value is not None}


def trace(metrics: Metrics) -> str:
    """All that can be seen of a metric."""
    cells = metrics.state_dict()["cells"]
    plain = {name: cell.double().sum().item() for name, cell in cells.items()}
    return f"{metrics.device} {metrics.updates} {plain} {metrics.compute()}"


def refuse(metrics: Metrics, given: dict[str, Any], *words: str) -> None:
    with pytest.raises(PtmetricsError) as caught:
        metrics.update(**given)
    for word in words:
        assert word in str(caught.value), str(caught.value)


@pytest.mark.fault(21)
@every_case
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.slow
def test_an_odd_tensor_is_refused_by_name_in_every_argument(case: MetricCase, kind: str) -> None:
    change, fact = ODD[kind]
    good = given_of(case.batch(12, 3, True))
    for name in good:
        metrics = case.make()
        for _ in range(3):
            bad = {**good, name: change(good[name])}
            refuse(metrics, bad, f"{name}: expected ", fact)
            assert (metrics.updates, metrics.device.type) == (0, "cpu")
        metrics.update(**good)
        refuse(metrics, {**good, name: change(good[name])}, f"{name}: expected ", fact)
        metrics.update(**good)
        alone = case.make()
        alone.update(**good)
        alone.update(**good)
        assert trace(metrics) == trace(alone)


@pytest.mark.fault(21)
@pytest.mark.parametrize("kind", ODD)
def test_a_mean_of_your_own_refuses_them_too_and_what_its_function_returns(kind: str) -> None:
    change, fact = ODD[kind]
    good = {"preds": torch.tensor([1.0, 2.0]), "target": torch.tensor([1.0, 3.0])}

    def distance(preds: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (preds - target).abs()

    metrics = Mean("distance", distance, higher_is_better=False)
    for name in good:
        refuse(metrics, {**good, name: change(good[name])}, f"{name}: expected ", fact)
    metrics.update(**good)
    assert metrics.compute()["distance"].value == 0.5

    odd = Mean("odd", lambda preds, target: change(preds), higher_is_better=False)
    if kind != "without values":
        refuse(odd, good, "odd: expected ")
        assert odd.updates == 0


@pytest.mark.parametrize("name", ["preds", "target", "sample_weight"])
@pytest.mark.parametrize("kind", ODD)
def test_functions_refuse_them_by_name(kind: str, name: str) -> None:
    change, fact = ODD[kind]
    good = {
        "preds": torch.tensor([0.5, -1.0]),
        "target": torch.tensor([1, 0]),
        "sample_weight": torch.ones(2),
    }
    with pytest.raises(PtmetricsError, match=f"{name}: expected .*{fact}"):
        functional.binary(**{**good, name: change(good[name])})


def too_short(batch: Batch) -> dict[str, Any]:
    given = given_of(batch)
    return {**given, "target": given["target"][:-1]}


def no_tensor(batch: Batch) -> dict[str, Any]:
    return {**given_of(batch), "target": given_of(batch)["target"].tolist()}


def nothing(batch: Batch) -> dict[str, Any]:
    return {**given_of(batch), "preds": None}


def weight_of_another_shape(batch: Batch) -> dict[str, Any]:
    return {**given_of(batch), "sample_weight": torch.ones(len(batch.target) + 1)}


def ids_of_floats(batch: Batch) -> dict[str, Any]:
    return {**given_of(batch), "group": torch.rand(len(batch.target))}


def odd(kind: str) -> Callable[[Batch], dict[str, Any]]:
    def spoil(batch: Batch) -> dict[str, Any]:
        given = given_of(batch)
        return {**given, "preds": ODD[kind][0](given["preds"])}

    return spoil


BAD = [too_short, no_tensor, nothing, weight_of_another_shape, ids_of_floats, *map(odd, ODD)]


@pytest.mark.slow
@every_case
@given(order=st.lists(st.tuples(st.integers(-1, len(BAD) - 1), st.sampled_from([4, 4, 9]))))
@LAW
def test_in_any_order_of_good_and_bad_batches_the_bad_leave_no_trace(
    case: MetricCase, order: list[tuple[int, int]]
) -> None:
    mixed, good = case.make(), case.make()
    for seed, (kind, rows) in enumerate(order):
        batch = case.batch(rows, seed, seed % 3 == 0)
        if kind < 0:
            batch.feed(mixed)
            batch.feed(good)
        else:
            refuse(mixed, BAD[kind](batch))
    assert trace(mixed) == trace(good)


@every_case
def test_weights_beyond_what_float64_can_square_are_refused_row_by_row_and_told(
    case: MetricCase,
) -> None:
    batch = case.batch(40, 2, True)
    assert batch.weight is not None
    weight = batch.weight.double().nan_to_num(0.5).abs() + 0.1
    bad = weight.clone()
    bad[3], bad[11], bad[20], bad[21] = 1e-141, 1e-300, 1.1e140, 5e-324
    left_out = weight.clone()
    left_out[[3, 11, 20, 21]] = torch.nan  # which is refused as well
    refused, without = case.make(), case.make()
    replace(batch, weight=bad).feed(refused)
    replace(batch, weight=left_out).feed(without)
    got, expected = refused.compute(), without.compute()
    assert got.faults == expected.faults
    if not case.name.startswith("multiclass-binary"):  # where these rows are ignored
        assert 0 < got.faults["bad-weight"]["count"] <= 4 * weight[0].numel()  # pixels are rows
        assert "beyond 1e-140 to 1e140" in got.faults["bad-weight"]["message"]
    for name, score in expected.items():
        if score.method != "count":
            assert str(float(got[name])) == str(float(score)), name


def test_all_weights_beyond_it_leave_no_score_and_a_reason() -> None:
    metrics = Mean("size", lambda preds, target: preds, higher_is_better=True)
    metrics.update(torch.ones(3), torch.ones(3), torch.full((3,), 1e-170, dtype=torch.float64))
    score = metrics.compute()["size"]
    assert score.n == 0
    assert score.reason == "nothing was counted"


@pytest.mark.fault(17)
@pytest.mark.fault(19)
@every_case
def test_a_row_of_nan_is_counted_with_its_first_update_and_changes_no_score(
    case: MetricCase,
) -> None:
    good = case.batch(12, 3, False)
    if not good.preds.is_floating_point():
        return  # labels cannot be NaN
    bad = replace(good, preds=torch.full_like(good.preds, math.nan))
    known = case.counted([good, good]).compute()
    metrics = case.counted([good, bad, good])
    got = metrics.compute()
    before = {name: fault["count"] for name, fault in known.faults.items()}
    told = {name: f for name, f in got.faults.items() if f["count"] > before.get(name, 0)}
    new = [name for name in told if name not in before]
    assert told, "nothing is said of it"
    assert all(told[name]["first_step"] == 1 for name in new)
    assert "update" in str(got)
    for name, score in known.items():
        bound = 1e-12 + score.error_bound
        assert got[name].value == pytest.approx(score.value, rel=1e-9, abs=bound, nan_ok=True), name
        assert got[name].n == score.n, name
