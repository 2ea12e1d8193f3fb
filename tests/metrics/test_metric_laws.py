"""Laws that every public metric keeps, whatever its task; the registry says which metrics there are."""

import copy
import importlib
import pickle
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import Batch
from registry import CASES, LAW, MetricCase
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_flatten

import ptmetrics.metrics
from ptmetrics.metrics.base import Metrics
from ptmetrics.metrics.loss import MeanLoss
from ptmetrics.metrics.mean import Mean
from ptmetrics.metrics.ranking import RankingMetrics
from ptmetrics.testing import _without_order_of_samples, check_metric

every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
both_weights = pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
seeds = st.integers(0, 2**32)


def subclasses(cls: type) -> Iterator[type]:
    for sub in cls.__subclasses__():
        yield sub
        yield from subclasses(sub)


def cells(metrics: Metrics) -> dict[str, Tensor]:
    stored: dict[str, Tensor] = metrics.state_dict()["cells"]
    return stored


def assert_equal_cells(ours: Metrics, theirs: Metrics, *, steps: bool = True) -> None:
    """Integers bit for bit, float sums to 1e-12; steps are left out where updates were numbered otherwise."""
    mine, other = cells(ours), cells(theirs)
    assert mine.keys() == other.keys()
    if not steps and not ours.config.get("groups"):
        mine, other = (_without_order_of_samples(ours, each) for each in (mine, other))
    for name in mine.keys() - (set() if steps else {"fault_first_step"}):
        if mine[name].dtype == torch.int64:
            assert torch.equal(mine[name], other[name]), name
        else:
            torch.testing.assert_close(
                mine[name], other[name], rtol=1e-12, atol=1e-12, equal_nan=True
            )


def plain(metrics: Metrics) -> str:
    return repr(metrics.compute().to_dict())


def assert_same_scores(ours: Metrics, theirs: Metrics) -> None:
    """Every number to 1e-12: rows may have been added up in other portions."""
    mine, other = (tree_flatten(metrics.compute().to_dict()) for metrics in (ours, theirs))
    assert mine[1] == other[1]
    for one, two in zip(mine[0], other[0], strict=True):
        if isinstance(one, float):
            assert one == pytest.approx(two, rel=1e-12, abs=1e-12, nan_ok=True)
        else:
            assert one == two


def test_no_public_metric_is_missing_from_the_registry() -> None:
    for module in pkgutil.iter_modules(ptmetrics.metrics.__path__):
        importlib.import_module(f"ptmetrics.metrics.{module.name}")
    public = {cls for cls in subclasses(Metrics) if cls.__module__.startswith("ptmetrics.metrics.")}
    others = {Mean, MeanLoss, RankingMetrics}  # held to the laws by tests of their own
    assert public == {*others, *(type(case.make()) for case in CASES)}


def arguments(case: MetricCase, weighted: bool) -> Callable[[int, int], dict[str, Tensor]]:
    """Batches of a case as `check_metric` takes them."""

    def make_batch(rows: int, seed: int) -> dict[str, Tensor]:
        batch = case.batch(rows, seed, weighted)
        named = {"preds": batch.preds, "target": batch.target, "sample_weight": batch.weight}
        named |= {"slices": batch.slices, "group": batch.group}
        return {name: value for name, value in named.items() if value is not None}

    return make_batch


@pytest.mark.fault(3)
@pytest.mark.fault(24)
@pytest.mark.fault(27)
@pytest.mark.fault(35)
@every_case
@both_weights
@pytest.mark.slow
def test_every_metric_keeps_the_laws_that_users_are_offered(
    case: MetricCase, weighted: bool
) -> None:
    check_metric(case.make(), arguments(case, weighted), seeds=(5,))


@every_case
@both_weights
@pytest.mark.slow
def test_counts_survive_copy_and_pickle_and_go_on(case: MetricCase, weighted: bool) -> None:
    metrics = case.counted([case.batch(20, 1, weighted)])
    for again in (copy.deepcopy(metrics), pickle.loads(pickle.dumps(metrics))):
        assert repr(again.compute().to_dict()) == repr(metrics.compute().to_dict())
        further = case.batch(9, 2, weighted)
        further.feed(again)
        whole = case.counted([case.batch(20, 1, weighted), further])
        assert repr(again.compute().to_dict()) == repr(whole.compute().to_dict())


@every_case
def test_scores_survive_copy_and_pickle(case: MetricCase) -> None:
    scores = case.counted([case.batch(20, 1, True)]).compute()
    for again in (copy.deepcopy(scores), pickle.loads(pickle.dumps(scores))):
        assert repr(again.to_dict()) == repr(scores.to_dict())
        assert str(again) == str(scores)


@pytest.mark.fault(3)
@every_case
@both_weights
@given(data=st.data())
@LAW
def test_any_partition_in_any_order_with_empties_equals_the_whole(
    case: MetricCase, weighted: bool, data: st.DataObject
) -> None:
    rows = data.draw(st.integers(0, 40))
    whole = case.batch(rows, data.draw(seeds), weighted)
    shuffled = data.draw(st.permutations(range(rows)))
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), max_size=6)))
    pieces = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, rows], strict=True)]
    ranks = [case.make() for _ in range(data.draw(st.integers(1, 4)))]
    for piece in pieces:
        batch = whole.rows(piece)
        batch.feed(data.draw(st.sampled_from(ranks)))
    if weighted:  # an unweighted rank that saw nothing must not matter either
        ranks.append(case.make())
    before = [copy.deepcopy(cells(rank)) for rank in ranks[1:]]
    ranks[0].merge_state(ranks[1:])
    assert_equal_cells(ranks[0], case.counted([whole]), steps=False)
    for rank, stored in zip(ranks[1:], before, strict=True):
        assert all(torch.equal(stored[name], cell) for name, cell in cells(rank).items())


@pytest.mark.fault(3)
@every_case
def test_rows_without_weights_weigh_one_whenever_the_first_weight_comes(case: MetricCase) -> None:
    light, heavy = case.batch(20, 1, False), case.batch(20, 2, True)
    ones = replace(light, weight=torch.ones(case.make().row_shape(light.target)))
    mixed = [
        case.counted([light, heavy]),
        case.counted([heavy, light]),
        case.counted([ones, heavy]),
    ]
    mixed.append(case.counted([light]).merge_state([case.counted([heavy])]))
    mixed.append(case.counted([heavy]).merge_state([case.counted([light])]))
    for metrics in mixed[1:]:
        assert_equal_cells(metrics, mixed[0], steps=False)


@pytest.mark.fault(11)
@every_case
@both_weights
def test_update_and_compute_may_alternate(case: MetricCase, weighted: bool) -> None:
    batches, metrics = [case.batch(20, seed, weighted) for seed in range(3)], case.make()
    for i, batch in enumerate(batches):
        batch.feed(metrics)
        assert_same_scores(metrics, case.counted(batches[: i + 1]))


@every_case
def test_loading_after_compute_gives_the_loaded_scores_and_forgets_the_old(
    case: MetricCase,
) -> None:
    old, new = case.counted([case.batch(20, 1, True)]), case.counted([case.batch(20, 2, False)])
    old.compute()
    old.load_state_dict(new.state_dict())
    assert plain(old) == plain(new)


@every_case
def test_a_state_dict_is_a_copy(case: MetricCase) -> None:
    metrics = case.counted([case.batch(20, 1, True)])
    stored, before = metrics.state_dict(), plain(metrics)
    other = case.make()
    other.load_state_dict(stored)
    for cell in stored["cells"].values():
        cell.fill_(7)
    assert plain(metrics) == before == plain(other)


@pytest.mark.fault(12)
@every_case
def test_two_metrics_that_were_equal_once_never_share_state(case: MetricCase) -> None:
    first = case.counted([case.batch(20, 1, False)])
    twins = [first.fresh(), copy.copy(first.fresh()), case.make()]
    for twin in twins:
        twin.load_state_dict(first.state_dict())
    before = plain(first)
    for twin in (twins[0], twins[2]):
        twin.update(case.batch(20, 2, True).preds, case.batch(20, 2, True).target)
    assert plain(first) == before


@every_case
def test_fresh_has_the_configuration_and_none_of_the_counts(case: MetricCase) -> None:
    metrics = case.counted([case.batch(20, 1, True)])
    before, fresh = plain(metrics), metrics.fresh()
    assert (fresh.updates, fresh.config, fresh.describe()) == (
        0,
        metrics.config,
        metrics.describe(),
    )
    assert_equal_cells(fresh, case.make())
    fresh.update(case.batch(20, 2, False).preds, case.batch(20, 2, False).target)
    assert plain(metrics) == before


@every_case
def test_moving_keeps_every_shape_and_type_and_returns_the_metric(case: MetricCase) -> None:
    metrics = case.counted([case.batch(20, 1, True)])
    before = {name: (cell.shape, cell.dtype) for name, cell in cells(metrics).items()}
    assert metrics.to("meta") is metrics
    assert metrics.device.type == "meta"
    assert {name: (cell.shape, cell.dtype) for name, cell in cells(metrics).items()} == before
    assert all(cell.is_meta for cell in cells(metrics).values())


@every_case
def test_the_state_is_64_bit_and_its_size_is_that_of_the_configuration(case: MetricCase) -> None:
    metrics = case.make()
    assert all(cell.element_size() == 8 for cell in cells(metrics).values())
    sizes = {case.counted([case.batch(rows, 1, True)]).state_bytes for rows in (1, 10, 500)}
    assert len(sizes) == 1


@pytest.mark.fault(14)
@every_case
@pytest.mark.parametrize(
    "cast", [torch.nn.Module.bfloat16, torch.nn.Module.half, torch.nn.Module.double]
)
def test_a_metric_inside_a_model_is_untouched_when_the_model_is_cast(
    case: MetricCase, cast: Callable[[torch.nn.Module], Any]
) -> None:
    model = torch.nn.Linear(2, 2)
    model.metrics = metrics = case.counted([case.batch(300, 1, False)])  # type: ignore[assignment]
    before = plain(metrics)
    cast(model)
    assert plain(metrics) == before
    assert not any("metrics" in name for name in model.state_dict())


INSIDE: dict[str, Callable[[MetricCase, Metrics], object]] = {
    "update": lambda c, m: m.update(c.batch(9, 4, False).preds, c.batch(9, 4, False).target),
    "weights": lambda c, m: c.batch(9, 4, True).feed(m),
    "compute": lambda c, m: m.compute(),
    "reset": lambda c, m: m.reset(),
    "load": lambda c, m: m.load_state_dict(m.state_dict()),
    "merge": lambda c, m: m.merge_state([c.counted([c.batch(9, 4, True)])]),
    "to": lambda c, m: m.to("meta"),
}


@pytest.mark.fault(36)
@every_case
@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.slow
def test_inference_mode_may_come_and_go(case: MetricCase, inside: str) -> None:
    mixed, normal = case.make(), case.make()
    with torch.inference_mode():
        INSIDE[inside](case, mixed)
    INSIDE[inside](case, normal)
    after = [case.batch(9, 5, True), case.batch(9, 6, False)]
    for metrics in (mixed, normal):
        for batch in after:
            batch.to(metrics.device).feed(metrics)
    if inside != "to":
        assert_equal_cells(mixed, normal)
        with torch.inference_mode():
            assert plain(mixed) == plain(normal)


@pytest.mark.fault(36)
@every_case
def test_a_metric_made_in_inference_mode_counts_outside_of_it(case: MetricCase) -> None:
    with torch.inference_mode():
        metrics = case.make().fresh()
        merged = case.make().merge_state([metrics])
    for made in (metrics, merged):
        case.batch(9, 1, True).feed(made)
        assert_equal_cells(made, case.counted([case.batch(9, 1, True)]))


@every_case
def test_the_default_device_moves_nothing(case: MetricCase) -> None:
    batches = [case.batch(30, 1, True)]
    expected = plain(case.counted(batches))
    torch.set_default_device("meta")
    try:
        assert plain(case.counted(batches)) == expected
    finally:
        torch.set_default_device(None)


@pytest.mark.fault(30)
@every_case
@both_weights
def test_deterministic_mode_raises_nothing_and_changes_nothing(
    case: MetricCase, weighted: bool
) -> None:
    batches = [case.batch(30, 1, weighted)]
    expected = case.counted(batches)
    torch.use_deterministic_algorithms(True)
    try:
        metrics = case.counted(batches)
        assert plain(metrics) == plain(expected)
    finally:
        torch.use_deterministic_algorithms(False)


@every_case
def test_where_there_is_no_float64_the_counts_stay_on_the_cpu(case: MetricCase) -> None:
    shapes = [
        None if t is None else (t.shape, t.dtype) for t in vars(case.batch(9, 1, True)).values()
    ]
    with FakeTensorMode():
        metrics = case.make(device="mps")
        zeros = (form and torch.zeros(form[0], dtype=form[1], device="mps") for form in shapes)
        Batch(*zeros).feed(metrics)
        assert metrics.to("mps").device.type == "cpu"
        assert all(cell.device.type == "cpu" for cell in metrics.shared_state().values())
        assert metrics.updates == 1
