"""The accumulator by its laws: any partition is the whole, refused rows count nowhere, a state is taken or refused."""

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ptmetrics.counts.accumulator import Accumulator
from ptmetrics.counts.batch import At, Batch
from ptmetrics.counts.cell import LARGEST_COUNT, NEVER, Cell
from ptmetrics.counts.moments import JOINT_SIZE
from ptmetrics.counts.subgroups import Subgroups
from ptmetrics.errors import ConfigError, StateError

LAW = settings(deadline=None, max_examples=25, derandomize=True)
CPU = torch.device("cpu")
PARTS = Subgroups(("a", "b"), groups=True)
BAD = "bad"
CELLS = (
    Cell("rows"),
    Cell("hits", (2,)),
    Cell("matrix", (3, 2)),
    Cell("pairs", (6,)),
    Cell("total", (2,), torch.float64),
    Cell("unweighed", (), torch.float64, weigh=False),
    Cell("placed", (4,), torch.float64),
    Cell("mean", (2,), torch.float64, merge="mean"),
    Cell("joint", (1, JOINT_SIZE), torch.float64, merge="joint"),
    Cell("low", (2,), torch.float64, merge="min", scope="whole"),
    Cell("high", (2,), torch.float64, merge="max", scope="whole"),
    Cell("small", (4,), torch.float64, merge="smallest", scope="whole"),
    Cell("sum", (2,), scope="whole"),
    Cell("by_part", (), scope="subgroups"),
)
State = dict[str, Any]


def made(subgroups: Subgroups = PARTS, **config: Any) -> Accumulator:
    return Accumulator(CELLS, config, subgroups, (BAD,), CPU)


def drawn(rows: int, seed: int, *, weighted: bool) -> Batch:
    """Three numbers a row; those of refused rows are NaN, and their weight is, too."""
    g = torch.Generator().manual_seed(seed)
    preds = torch.randn(rows, 3, generator=g, dtype=torch.float64)
    weight = torch.randint(0, 5, (rows,), generator=g).double() / 4 if weighted else None
    bad = torch.rand(rows, generator=g) < 0.2
    preds[bad] = math.nan
    if weight is not None:
        weight[bad] = math.nan
    slices = torch.randint(-1, 2, (rows,), generator=g)
    group = torch.randint(0, 9, (rows,), generator=g)
    return Batch(preds, torch.arange(rows), weight, slices, group)


def count(batch: Batch) -> dict[str, Any]:
    """Each kind of what a task may give; anything at all where the row is refused."""
    x = batch.preds
    batch.refuse(BAD, x[:, 0].isnan())
    place = (x[:, 0].abs() * 4).long()
    hits = x[:, :2] > 0
    keep = torch.ones(len(x), dtype=torch.bool)
    if batch.counted is not None:
        keep = batch.counted

    def smallest(cell: Tensor) -> None:
        values = torch.where(keep, x[:, 2], torch.inf)
        cell.copy_(torch.cat((cell, values)).sort().values[: len(cell)])

    return {
        "rows": torch.ones(len(x), dtype=torch.bool),
        "hits": hits,
        "matrix": At(place.clamp(0, 5), within=True),
        "pairs": At(torch.stack((place, place - 3), 1)),
        "total": x[:, :2] * x[:, 1:],
        "unweighed": x[:, 1],
        "placed": At(place.clamp(0, 3), x[:, 1], there=x[:, 2] > 0),
        "mean": torch.where(x[:, :2] > 1, torch.nan, x[:, 1:]),
        "joint": torch.stack((x, x + 1, x * x), 1)[:, :, :1].mT,
        "low": x[:, :2],
        "high": x[:, 1:],
        "small": smallest,
        "sum": (hits & keep.unsqueeze(1)).sum(0),
        "by_part": hits[:, 0],
    }


def add(accumulator: Accumulator, batch: Batch, step: int = 0) -> None:
    accumulator.updates += 1
    if not len(batch):  # of which the base hands on none
        return
    given = Batch(batch.preds, batch.target, batch.weight, batch.slices, batch.group, step)
    if given.weight is not None:
        given.weight = given.weight.double()
    accumulator.add_(given, count(given))


def assert_same(mine: Accumulator, other: Accumulator) -> None:
    assert mine.weighted == other.weighted
    assert mine.state.keys() == other.state.keys()
    for name, cell in mine.state.items():
        theirs = other.state[name]
        if cell.dtype == torch.int64:
            assert torch.equal(cell, theirs), name
        else:
            torch.testing.assert_close(cell, theirs, rtol=1e-11, atol=1e-11, equal_nan=True)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(0, 99), st.booleans())
@LAW
def test_any_partition_in_any_order_is_the_whole(
    sizes: list[int], seed: int, weighted: bool
) -> None:
    whole, rows = made(), drawn(sum(sizes), seed, weighted=weighted)
    add(whole, rows)
    one, merged = made(), made()
    others = []
    start = 0
    for size in sizes:
        some = rows.rows(start, start + size)
        start += size
        add(one, some)
        others.append(made())
        add(others[-1], some)
    merged.merge(others[::-1])
    assert_same(one, whole)
    assert_same(merged, whole)
    assert one.updates == merged.updates == len(sizes)


@pytest.mark.parametrize("weighted", [False, True])
def test_every_cell_is_that_of_its_definition(weighted: bool) -> None:
    accumulator, batch = made(), drawn(60, 3, weighted=weighted)
    add(accumulator, batch, step=5)
    state = accumulator.state
    fine = ~batch.preds[:, 0].isnan()
    x = batch.preds[fine]
    w = torch.ones(len(x), dtype=torch.float64)
    if batch.weight is not None:
        w = batch.weight[fine]
    place = (x[:, 0].abs() * 4).long()
    powers = {"": w**0}
    if weighted:
        powers = {"": w**0, ".weight": w, ".square": w**2}
    for name, power in powers.items():
        assert state[f"rows{name}"] == power.sum()
        assert state[f"hits{name}"].tolist() == [power[x[:, i] > 0].sum() for i in (0, 1)]
        matrix = [power[place.clamp(0, 5) == i].sum() for i in range(6)]
        assert state[f"matrix{name}"].reshape(-1).tolist() == matrix
        pairs = [power[place == i].sum() + power[place - 3 == i].sum() for i in range(6)]
        assert state[f"pairs{name}"].tolist() == pairs
    expected = {
        "total": w @ (x[:, :2] * x[:, 1:]),
        "unweighed": x[:, 1].sum(),
        "placed": torch.stack(
            [(w * x[:, 1])[(place.clamp(0, 3) == i) & (x[:, 2] > 0)].sum() for i in range(4)]
        ),
        "low": x[:, :2].amin(0),
        "high": x[:, 1:].amax(0),
        "small": x[:, 2].sort().values[:4],
        "sum": (x[:, :2] > 0).sum(0),
    }
    y = x[:, 1:]
    n = (x[:, :2] <= 1).double()
    wn = w.unsqueeze(1) * n
    sums = (n, wn, wn**2, wn * y, wn**2 * y, (wn * y) ** 2)
    expected["mean"] = torch.stack([each.sum(0) for each in sums])
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, rtol=1e-12, atol=1e-12)
    assert state["fault_count"].tolist() == [len(fine) - len(x)]
    assert state["fault_first_step"].tolist() == [5]


@pytest.mark.parametrize("weighted", [False, True])
def test_the_cells_of_a_part_are_those_of_its_rows_alone(weighted: bool) -> None:
    accumulator, batch = made(), drawn(80, 4, weighted=weighted)
    add(accumulator, batch)
    assert batch.slices is not None
    for part, number in enumerate((0, 1, -1)):
        here = (batch.slices == number).nonzero().squeeze(1)
        weight = None if batch.weight is None else batch.weight[here]
        alone = made(Subgroups())
        add(alone, Batch(batch.preds[here], batch.target[here], weight))
        for name, cell in alone.state.items():
            mine = accumulator.state.get(f"slice.{name}")
            if mine is not None:
                torch.testing.assert_close(mine[part], cell, rtol=1e-11, atol=1e-11)
    assert "slice.by_part" in accumulator.state
    assert "by_part" not in accumulator.state
    assert "slice.low" not in accumulator.state
    groups = accumulator.state["group.rows"]
    assert groups.sum() == accumulator.state["rows"]


def test_what_has_no_parts_is_refused_for_cells_that_do() -> None:
    batch = drawn(4, 0, weighted=False)
    counts = count(batch) | {"hits": torch.zeros(2, dtype=torch.int64)}
    with pytest.raises(TypeError, match=r"cell hits: .*(parts)"):
        made().add_(batch, counts)


def test_rows_without_weights_weigh_one_before_and_after_those_that_have_some() -> None:
    plain, weighted = drawn(20, 1, weighted=False), drawn(20, 2, weighted=True)
    ones = Batch(
        plain.preds, plain.target, torch.ones(20, dtype=torch.float64), plain.slices, plain.group
    )
    for order in ((plain, weighted, plain), (weighted, plain, plain)):
        mixed, same = made(), made()
        for batch in order:
            add(mixed, batch)
            add(same, ones if batch is plain else batch)
        assert_same(mixed, same)
    unweighted, heavy = made(), made()
    add(unweighted, plain)
    add(heavy, weighted)
    one, other = made(), made()
    one.merge([unweighted, heavy])
    other.merge([heavy, unweighted])
    assert_same(one, other)


def test_zeros_are_the_identity_of_merge() -> None:
    counted, before = made(), made()
    for each in (counted, before):
        add(each, drawn(30, 1, weighted=True))
    counted.merge([made(), made()])
    empty = made()
    empty.merge([counted])
    assert_same(counted, before)
    assert_same(empty, before)


def test_merging_another_configuration_is_refused_before_anything_is_merged() -> None:
    mine, good, other = made(k=1), made(k=1), made(k=2)
    for each in (mine, good, other):
        add(each, drawn(5, 1, weighted=False))
    before = mine.state_dict()
    with pytest.raises(
        StateError, match=r'merge_state: expected .*"k": 1.*got .*"k": 2.*Build both'
    ):
        mine.merge([good, other])
    assert mine.updates == before["updates"]
    assert all(torch.equal(mine.state[k], v) for k, v in before["cells"].items())


def test_reset_forgets_weights_and_keeps_the_tensors_of_a_cuda_graph() -> None:
    accumulator = made()
    add(accumulator, drawn(9, 1, weighted=True))
    captured = made()
    captured.captured = True
    add(captured, drawn(9, 1, weighted=True))
    tensors = dict(captured.state)
    accumulator.reset()
    captured.reset()
    assert_same(accumulator, made())
    assert all(captured.state[name] is tensor for name, tensor in tensors.items())
    weighed = made()
    weighed.weigh()
    assert_same(captured, weighed)
    assert accumulator.updates == captured.updates == 0


def test_moving_keeps_what_was_loaded_or_merged_before_the_first_update() -> None:
    stored = made()
    add(stored, drawn(9, 1, weighted=True))
    merged, loaded, adopted = made(), made(), made()
    merged.merge([stored])
    loaded.load_state_dict({**stored.state_dict(), "updates": 0})
    adopted.adopt(stored.state, 1)
    for each in (merged, loaded, adopted):
        each.to(CPU)
        assert_same(each, stored)
    empty = made()
    empty.weigh()
    empty.to(CPU)
    add(empty, drawn(9, 1, weighted=True))
    assert_same(empty, stored)


def stored_state(*, weighted: bool = True) -> State:
    accumulator = made()
    add(accumulator, drawn(20, 1, weighted=weighted))
    return accumulator.state_dict()


def refuse(state: Any, message: str) -> None:
    """Loading raises; the current state is kept, bit for bit."""
    accumulator = made()
    add(accumulator, drawn(7, 2, weighted=False))
    before = accumulator.state_dict()
    with pytest.raises(StateError, match=message):
        accumulator.load_state_dict(state)
    after = accumulator.state_dict()
    assert after.pop("cells").keys() == before["cells"].keys()
    assert all(torch.equal(accumulator.state[k], v) for k, v in before.pop("cells").items())
    assert after == before


def with_cell(name: str, change: Callable[[Tensor], Any]) -> State:
    state = stored_state()
    state["cells"][name] = change(state["cells"][name])
    return state


def last_to(value: float) -> Callable[[Tensor], Tensor]:
    def change(cell: Tensor) -> Tensor:
        cell = cell.clone()
        cell.view(-1)[-1] = value
        return cell

    return change


@pytest.mark.fault(42)
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
def test_what_no_metric_has_stored_is_refused(foreign: Any, fact: str) -> None:
    refuse(foreign, f"state_dict: expected a mapping made by state_dict.*{fact}.*Load the state of")


@pytest.mark.fault(42)
@pytest.mark.parametrize("config", [None, 7, torch.ones(2), object()], ids=type)
def test_another_digest_is_refused_whatever_configuration_stands_beside_it(config: Any) -> None:
    state = {**stored_state(), "digest": "0123456789abcdef", "config": config}
    digest = made().digest
    refuse(state, f"expected the configuration .*{digest}, got .*0123456789abcdef")


@pytest.mark.fault(42)
@pytest.mark.parametrize("updates", [-1, 1.5, "many", None, True, torch.tensor(3)])
def test_an_impossible_number_of_updates_is_refused(updates: Any) -> None:
    rule = r"state_dict\['updates'\]: expected a whole number of 0 or more, got .*damaged"
    refuse({**stored_state(), "updates": updates}, rule)


@pytest.mark.fault(42)
@pytest.mark.parametrize("name", ["hits", "total", "mean", "slice.hits.weight", "fault_count"])
def test_every_cell_must_be_there_with_its_shape_type_and_room(name: str) -> None:
    rule = rf"state_dict\['{name}'\]: expected a tensor torch.(int|float)64 of shape \([\d, ]+\).*"
    missing = stored_state()
    del missing["cells"][name]
    refuse(missing, rule + "got NoneType.*use another checkpoint")
    refuse(with_cell(name, lambda t: t.float()), rule + "got torch.float32")
    refuse(with_cell(name, lambda t: torch.cat((t, t))), rule + "got .* of shape")
    refuse(with_cell(name, lambda t: t.tolist()), rule + "got list")
    refuse(with_cell(name, lambda t: t.to_sparse()), rule + "got fewer")
    if name != "fault_count":
        wide = with_cell(name, lambda t: t.reshape(-1)[:1].clone().expand(t.numel()).view(t.shape))
        if 0 in wide["cells"][name].stride():
            refuse(wide, rule + "got fewer")


@pytest.mark.fault(42)
def test_tensors_that_share_a_place_are_refused() -> None:
    state = stored_state()
    state["cells"]["low"] = state["cells"]["high"]
    refuse(state, "expected a tensor of its own for each cell, got shared ones")


@pytest.mark.fault(42)
@pytest.mark.parametrize(
    ("name", "value", "fact"),
    [
        ("hits", -3, "counts of 0 or more, got -3"),
        ("hits", LARGEST_COUNT + 1, f"counts up to {LARGEST_COUNT}, got {LARGEST_COUNT + 1}"),
        ("slice.matrix", -1, "counts of 0 or more, got -1"),
        ("fault_first_step", -1, "counts of 0 or more, got -1"),
        ("hits.weight", -0.5, "counts of 0 or more, got -0.5"),
        ("group.pairs.square", math.inf, "finite sums of weights, got inf"),
        ("rows.weight", math.nan, "sums that are numbers, got nan"),
        ("total", math.nan, "sums that are numbers, got nan"),
        ("slice.mean", math.nan, "sums that are numbers, got nan"),
        ("joint", math.nan, "sums that are numbers, got nan"),
    ],
)
def test_impossible_numbers_are_refused(name: str, value: float, fact: str) -> None:
    message = rf"state_dict\['{name}'\]: expected {fact}".replace("'rows.", "'rows\\.")
    refuse(with_cell(name, last_to(value)), message)


def test_what_a_cell_may_hold_is_taken_over_as_it_is_and_apart_from_its_source() -> None:
    """Sums of losses may be infinite or negative, a step may be none, and the order of the cells is our own."""
    state = stored_state()
    state["cells"]["total"][0] = -math.inf
    state["cells"]["fault_count"].zero_()
    state["cells"]["fault_first_step"].fill_(NEVER)
    for name in ("sum", "sum.weight", "sum.square"):
        state["cells"][name].fill_(LARGEST_COUNT)
    with torch.inference_mode():
        state["cells"] = {k: v.clone() for k, v in reversed(state["cells"].items())}
    state["cells"]["mean"] = state["cells"]["mean"].clone().requires_grad_()
    file = io.BytesIO()
    torch.save({**state, "cells": {k: v.detach() for k, v in state["cells"].items()}}, file)
    file.seek(0)
    loaded = made()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    again = made()
    again.load_state_dict(state)
    assert list(loaded.state) == list(stored_state()["cells"])
    assert_same(loaded, again)
    add(again, drawn(9, 2, weighted=True))
    assert not any(cell.requires_grad for cell in again.state.values())
    assert state["cells"]["sum"].eq(LARGEST_COUNT).all()
    assert loaded.state_dict()["cells"]["total"][0] == -math.inf
    loaded.state_dict()["cells"]["rows"].zero_()
    assert loaded.state["rows"] > 0


def test_an_unweighted_state_makes_an_accumulator_that_was_weighted_unweighted() -> None:
    accumulator = made()
    add(accumulator, drawn(9, 1, weighted=True))
    accumulator.load_state_dict(stored_state(weighted=False))
    assert not accumulator.weighted
    assert not any(name.endswith(".weight") for name in accumulator.state)


@pytest.mark.fault(13)
@pytest.mark.parametrize("big", [2**24, 2**31, 2**53])
def test_no_integer_count_ever_sticks(big: int) -> None:
    batch = drawn(40, 3, weighted=False)
    small, large = made(), made()
    add(small, batch)
    for name, cell in large.state.items():
        if cell.dtype == torch.int64 and name != "fault_first_step":
            cell.fill_(big)
    add(large, batch)
    large.merge([small])
    for name, cell in small.state.items():
        if cell.dtype == torch.int64 and name != "fault_first_step":
            assert torch.equal(large.state[name], big + 2 * cell), name


def test_the_digest_tells_configurations_and_layouts_apart() -> None:
    digests = {made().digest, made(k=1).digest, made(Subgroups()).digest}
    digests.add(Accumulator(CELLS[:-1], {}, PARTS, (BAD,), CPU).digest)
    assert len(digests) == 4
    assert made(k=1).digest == made(k=1).digest


def test_the_size_of_the_state_is_that_of_its_tensors() -> None:
    one = Accumulator((Cell("a", (3, 2)),), {}, Subgroups(), (BAD, "worse"), CPU)
    assert one.state_bytes == 8 * (6 + 2 + 2)
    one.weigh()
    assert one.state_bytes == 8 * (3 * 6 + 2 + 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"merge": "product"}, r"merge: expected one of sum, mean.*got 'product'. Pass \"sum\""),
        (
            {"dtype": torch.float32},
            r"dtype: expected torch.int64 or torch.float64, got torch.float32",
        ),
    ],
)
def test_cells_that_would_overflow_or_cannot_merge_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Cell("mine", **options)
