"""Stored states: what is refused, what is kept, and counts that never stick."""

import io
import json
import math
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from registry import CASES, MetricCase, Metrics

from ptmetrics.errors import StateError
from ptmetrics.metrics.multiclass import MulticlassMetrics

pytestmark = pytest.mark.slow

every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
State = dict[str, Any]


def counted(case: MetricCase, *, weighted: bool = True) -> Metrics:
    return case.counted([case.batch(20, 1, weighted)])


def plain(metrics: Metrics) -> str:
    return repr(metrics.compute().to_dict()) + repr(metrics.updates)


def refuse(metrics: Metrics, state: Any, *words: str) -> None:
    """`state` raises a StateError that says all of `words`; the metric goes on as before."""
    before, stored = metrics.updates, metrics.state_dict()["cells"]
    with pytest.raises(StateError) as caught:
        metrics.load_state_dict(state)
    for word in words:
        assert re.search(word, str(caught.value)), str(caught.value)
    assert metrics.updates == before
    assert all(torch.equal(stored[k], v) for k, v in metrics.state_dict()["cells"].items())


def with_cell(state: State, name: str, change: Callable[[torch.Tensor], Any]) -> State:
    return state | {"cells": state["cells"] | {name: change(state["cells"][name])}}


def last_to(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(cell: torch.Tensor) -> torch.Tensor:
        cell = cell.clone()
        cell.view(-1)[-1] = value
        return cell

    return change


@pytest.mark.fault(42)
@every_case
@pytest.mark.parametrize(
    ("foreign", "fact"),
    [
        (None, "got NoneType"),
        ([1, 2], "got list"),
        ({}, r"got keys \[\]"),
        ({"weight": torch.ones(2), 3: 1}, r"got keys \['3', 'weight'\]"),
        ({"cells": {}}, r"got keys \['cells'\]"),
        ({"cells": [], "digest": "x"}, r"got keys \['cells', 'digest'\]"),
    ],
)
def test_what_no_metric_has_stored_is_refused(case: MetricCase, foreign: Any, fact: str) -> None:
    refuse(
        counted(case),
        foreign,
        "state_dict: expected a mapping made by state_dict",
        fact,
        "Load the state of",
    )


@pytest.mark.fault(42)
@every_case
def test_a_state_of_another_configuration_is_refused_with_both_in_the_message(
    case: MetricCase,
) -> None:
    other = case.make(**case.other)
    name, value = next(iter(case.other.items()))
    rule = f'expected the configuration .*"{name}": {json.dumps(counted(case).config[name])}'
    fact = f'got .*"{name}": {json.dumps(value)}'
    refuse(
        counted(case), other.state_dict(), rule, fact, "Build both metrics with the same arguments"
    )


@pytest.mark.fault(42)
@every_case
def test_merging_another_configuration_is_refused_before_anything_is_merged(
    case: MetricCase,
) -> None:
    metrics, good, other = counted(case), counted(case), case.make(**case.other)
    before = plain(metrics)
    with pytest.raises(
        StateError, match=r"merge_state: expected the configuration.*got.*Build both"
    ):
        metrics.merge_state([good, other])
    with pytest.raises(
        StateError, match=r"metrics: expected metrics of the same.*got str.*Pass a list"
    ):
        metrics.merge_state([good, "other"])
    with pytest.raises(StateError, match=r"metrics: expected .*got .*Metrics.*Pass a list"):
        metrics.merge_state(good)
    assert plain(metrics) == before


@pytest.mark.fault(42)
@every_case
def test_a_newer_schema_of_the_same_configuration_is_refused_and_told_apart(
    case: MetricCase,
) -> None:
    newer = counted(case).state_dict() | {"digest": "0123456789abcdef"}
    refuse(
        counted(case),
        newer,
        f"expected .*{counted(case).state_dict()['digest']}",
        "got .*0123456789abcdef",
    )


@pytest.mark.fault(42)
@every_case
@pytest.mark.parametrize(
    "config", [None, 7, torch.ones(2), object()], ids=["none", "int", "tensor", "object"]
)
def test_a_foreign_configuration_of_any_type_is_refused_in_words(
    case: MetricCase, config: Any
) -> None:
    refuse(
        counted(case),
        counted(case).state_dict() | {"digest": "x", "config": config},
        "expected the configuration",
    )


@pytest.mark.fault(42)
@every_case
@pytest.mark.parametrize("updates", [-1, 1.5, "many", None, True, torch.tensor(3)])
def test_an_impossible_number_of_updates_is_refused(case: MetricCase, updates: Any) -> None:
    state = counted(case).state_dict() | {"updates": updates}
    refuse(
        counted(case),
        state,
        r"state_dict\['updates'\]: expected a whole number of 0 or more, got ",
        "damaged",
    )


@pytest.mark.fault(42)
@every_case
def test_every_cell_must_be_there_with_its_shape_and_type(case: MetricCase) -> None:
    metrics = counted(case)
    state = metrics.state_dict()
    for name in state["cells"]:
        rule = (
            rf"state_dict\['{name}'\]: expected a tensor torch.(int|float)64 of shape \([\d, ]*\)"
        )
        missing = state | {"cells": {k: v for k, v in state["cells"].items() if k != name}}
        refuse(metrics, missing, rule, "got NoneType", "use another checkpoint")
        refuse(
            metrics,
            with_cell(state, name, lambda t: t.float()),
            rule,
            "got torch.float32",
            "damaged",
        )
        refuse(
            metrics,
            with_cell(state, name, lambda t: t.reshape(-1)[:-1]),
            rule,
            r"of shape \([\d, ]*\)",
            "damaged",
        )
        refuse(
            metrics,
            with_cell(state, name, lambda t: t.reshape(-1).tolist()),
            rule,
            "got list",
            "damaged",
        )


@pytest.mark.fault(42)
@every_case
def test_counts_below_zero_and_sums_that_are_not_numbers_are_refused(case: MetricCase) -> None:
    metrics = counted(case)
    state = metrics.state_dict()
    for name, cell in state["cells"].items():
        where = rf"state_dict\['{name}'\]: expected "
        counts = cell.dtype == torch.int64 and not name.endswith("_ties")  # sums of any sign
        if counts or "weight" in name:
            refuse(
                metrics,
                with_cell(state, name, last_to(-3)),
                where + "counts of 0 or more, got -3",
                "damaged",
            )
        if cell.is_floating_point():
            refuse(metrics, with_cell(state, name, last_to(math.nan)), where, "got nan", "damaged")


class Payload:
    """What an attacker would store: unpickling it runs code."""

    ran = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (Payload, "ran", True)


@pytest.mark.fault(43)
@every_case
def test_a_pickled_payload_is_refused_by_file_and_by_state_and_never_runs(case: MetricCase) -> None:
    metrics = counted(case)
    state = metrics.state_dict()
    state = with_cell(state, next(iter(state["cells"])), lambda _: Payload())
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)
    refuse(metrics, state, "got Payload", "damaged")
    assert not Payload.ran


@every_case
def test_a_state_from_a_graph_or_from_inference_mode_is_taken_over_without_it(
    case: MetricCase,
) -> None:
    metrics, expected = case.make(), counted(case)
    with torch.inference_mode():
        state = expected.state_dict()
    for name, cell in state["cells"].items():
        if cell.is_floating_point():
            state["cells"][name] = cell.clone().requires_grad_()
    metrics.load_state_dict(state)
    assert not any(cell.requires_grad for cell in metrics.state_dict()["cells"].values())
    case.batch(5, 2, True).feed(metrics)


@every_case
def test_a_loaded_state_keeps_its_cells_in_the_order_of_the_layout(case: MetricCase) -> None:
    for weighted in (False, True):
        metrics, stored = case.make(), counted(case, weighted=weighted).state_dict()
        metrics.load_state_dict(stored | {"cells": dict(reversed(stored["cells"].items()))})
        assert list(metrics.state_dict()["cells"]) == list(stored["cells"])


BIG = [2**24 - 1, 2**24, 2**31 - 1, 2**31, 2**32, 2**53 - 1, 2**53]


def preset(metrics: Metrics, name: str, value: int) -> None:
    """In the tensors themselves: one cell alone would be refused as a stored state."""
    metrics.shared_state()[name].fill_(value)


@pytest.mark.fault(13)
@every_case
@pytest.mark.parametrize("big", BIG)
def test_no_integer_count_ever_sticks(case: MetricCase, big: int) -> None:
    batch = case.batch(40, 3, False)
    small = case.counted([batch])
    for name, cell in small.state_dict()["cells"].items():
        if cell.dtype == torch.int64 and not name.endswith("fault_first_step"):
            metrics = case.make()
            if name.startswith("group."):
                metrics._accumulator.make_room_for_groups()
            preset(metrics, name, big)
            batch.feed(metrics)
            metrics.merge_state([small])
            assert torch.equal(metrics.state_dict()["cells"][name], big + 2 * cell), name


@pytest.mark.fault(13)
@pytest.mark.parametrize("big", BIG)
def test_scores_of_huge_counts_are_exact_in_n_and_right_in_value(big: int) -> None:
    metrics = next(case.make() for case in CASES if case.name == "multiclass-binary")
    metrics = type(metrics)(2, inputs="labels")
    metrics.shared_state()["confusion"].copy_(torch.tensor([[big, 0], [0, big]]))
    metrics.shared_state()["rows"].fill_(2 * big)
    metrics.update(torch.tensor([1]), torch.tensor([0]))
    got = metrics.compute()
    assert got.n == got["accuracy"].n == 2 * big + 1
    assert got.confusion is not None
    assert got.confusion.tolist() == [[big, 1], [0, big]]
    assert got.per_class["support"][0].n == big + 1
    assert got["accuracy"].value == pytest.approx(1 - 1 / (2 * big + 1), rel=1e-15)
    assert got["mcc"].value == pytest.approx(1 - 1 / big, rel=1e-12)
    for name in ("accuracy", "f1/macro", "mcc", "kappa"):
        assert 0.999999 < got[name].low <= got[name].value <= got[name].high <= 1


@pytest.mark.fault(16)
@pytest.mark.parametrize("big", [2**24 + 1, 2**31 + 1, 2**53 - 1])
def test_whole_number_weights_above_2_to_the_24_are_exact(big: int) -> None:
    case = next(case for case in CASES if case.name == "multiclass-labels")
    metrics = case.make(ignore_index=None)
    metrics.update(torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([big, 1]))
    assert metrics.compute()["accuracy"].value == big / (big + 1)
    assert float(metrics.compute().per_class["support"][0]) == big + 1


@pytest.mark.fault(16)
@pytest.mark.parametrize("big", [2**24 + 1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)])
def test_labels_far_outside_the_classes_are_refused_and_not_wrapped(big: int) -> None:
    case = next(case for case in CASES if case.name == "multiclass-labels")
    metrics = case.make(ignore_index=None)
    metrics.update(torch.tensor([0, big]), torch.tensor([big, 0]))
    got = metrics.compute()
    assert got.n == 0
    assert {name: fault["count"] for name, fault in got.faults.items()} == {
        "target-out-of-range": 1,
        "prediction-out-of-range": 1,
    }


@every_case
def test_moving_keeps_what_was_loaded_or_merged_before_the_first_update(case: MetricCase) -> None:
    stored = counted(case)
    loaded, merged = case.make(), case.make().merge_state([stored])
    loaded.load_state_dict(stored.state_dict() | {"updates": 0})
    for metrics in (loaded, merged):
        metrics.to("cpu")
        assert str(metrics.compute()) == str(stored.compute())


@every_case
def test_room_for_weights_is_made_again_where_moving_an_empty_state_forgot_it(
    case: MetricCase,
) -> None:
    metrics, kept = case.make(), case.make()
    metrics.shared_state(weighted=True)
    metrics.to("cpu")
    for each in (metrics, kept):
        case.batch(9, 1, True).feed(each)
    assert str(metrics.compute()) == str(kept.compute())


@pytest.mark.parametrize("axes", [-1, 1.5, "two", None, True])
def test_impossible_axes_of_samples_are_refused_and_all_is_kept(axes: object) -> None:
    stored, metrics = MulticlassMetrics(3), MulticlassMetrics(3)
    metrics.update(torch.eye(3), torch.arange(3))
    with pytest.raises(StateError, match="sample_axes: expected a whole number of 0 or more"):
        metrics.load_state_dict(stored.state_dict() | {"sample_axes": axes})
    assert metrics.compute().n == 3


def test_the_axes_of_a_loaded_state_are_its_own() -> None:
    pixels, rows = MulticlassMetrics(3), MulticlassMetrics(3)
    pixels.update(torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4).long())
    assert pixels.compute().sample_axes == 2
    rows.load_state_dict(pixels.state_dict())
    assert rows.compute().sample_axes == 2
    rows.load_state_dict(MulticlassMetrics(3).state_dict())
    assert rows.compute().sample_axes == 0
