"""Ids of rows: what is refused at once, what is counted as a fault, and where groups go."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ptmetrics import BinaryMetrics, MulticlassMetrics, MultilabelMetrics, RegressionMetrics
from ptmetrics.counts.row_parts import BUCKETS, NO_GROUP, RowIds, RowParts, buckets
from ptmetrics.errors import ConfigError, DeviceError, DtypeError, ShapeError
from ptmetrics.metrics.task import TaskMetrics

TASKS: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    # constructor; shapes of preds, target and rows
    "binary": (BinaryMetrics, (6,), (6,), (6,)),
    "binary-dense": (BinaryMetrics, (6, 2, 4), (6, 4), (6, 4)),
    "multiclass": (lambda **o: MulticlassMetrics(3, **o), (6, 3), (6,), (6,)),
    "multiclass-dense": (lambda **o: MulticlassMetrics(3, **o), (6, 3, 4, 2), (6, 4, 2), (6, 4, 2)),
    "multilabel": (lambda **o: MultilabelMetrics(3, **o), (6, 3), (6, 3), (6,)),
    "multilabel-dense": (lambda **o: MultilabelMetrics(3, **o), (6, 3, 4), (6, 3, 4), (6, 4)),
    "regression": (lambda **o: RegressionMetrics(num_outputs=2, **o), (6, 2), (6, 2), (6,)),
}
every_task = pytest.mark.parametrize("task", TASKS)


def batch(task: str) -> tuple[Tensor, Tensor]:
    _, preds, target, _ = TASKS[task]
    kind = torch.float32 if task == "regression" else torch.int64
    return torch.ones(preds), torch.ones(target, dtype=kind)


def numbers(metrics: TaskMetrics) -> list[int]:
    return [next(iter(s.values())).n for _, s in sorted(metrics.compute().per_slice.items())]


@every_task
def test_an_id_a_sample_holds_for_all_its_rows_and_one_a_row_is_taken_as_it_is(task: str) -> None:
    make, _, _, rows = TASKS[task]
    ids = torch.tensor([0, 1, 1, 1, 0, -1])
    one, each = (make(slices=2, groups=True) for _ in range(2))
    one.update(*batch(task), slices=ids, group=ids)
    full = ids.reshape(-1, *[1] * (len(rows) - 1)).expand(rows)
    each.update(*batch(task), slices=full.int(), group=full)
    assert repr(one.compute().to_dict()) == repr(each.compute().to_dict())
    dense = torch.Size(rows).numel() // 6
    assert numbers(one) == [2 * dense, 3 * dense]
    assert one.compute().faults == {}


@every_task
def test_a_slice_that_there_is_not_is_a_fault_and_the_row_counts_in_the_whole(task: str) -> None:
    make, _, _, rows = TASKS[task]
    metrics, plain = make(slices=2), make()
    ids = torch.tensor([0, 2, -2, -1, 1, 2**62])
    for _ in range(2):
        metrics.update(*batch(task), slices=ids)
        plain.update(*batch(task))
    dense = torch.Size(rows).numel() // 6
    got = metrics.compute()
    assert numbers(metrics) == [2 * dense, 2 * dense]
    assert got.n == plain.compute().n == 12 * dense
    fault = got.faults["slice-out-of-range"]
    assert (fault["count"], fault["first_step"]) == (6 * dense, 0)
    assert str(fault["message"]).startswith(f"{6 * dense} × slice outside those of the metric")


@every_task
@pytest.mark.parametrize("name", ["slices", "group"])
def test_what_the_host_can_see_is_refused_with_rule_fact_and_cure(task: str, name: str) -> None:
    make, _, _, _rows = TASKS[task]
    metrics = make(slices=2, groups=True)
    good = torch.zeros(6, dtype=torch.int64)
    cases: list[tuple[type[Exception], Tensor, str]] = [
        (
            DtypeError,
            good.float(),
            rf"{name}: expected signed integers of shape \(6,\).*got float32.*\.long\(\)",
        ),
        (DtypeError, good.to(torch.uint8), "got uint8"),
        (ShapeError, good[:5], r"got int64 of shape \(5,\). Pass one id a row"),
        (ShapeError, good.reshape(6, 1, 1, 1), "Pass one id a row"),
        (DeviceError, good.to("meta"), rf"{name}: expected a tensor on cpu.*got meta"),
    ]
    for error, ids, message in cases:
        with pytest.raises(error, match=message):
            metrics.update(*batch(task), **{name: ids})
    with pytest.raises(DtypeError, match=f"{name}: expected a torch.Tensor, got list"):
        metrics.update(*batch(task), **{name: [0] * 6})
    assert metrics.updates == 0


@every_task
def test_ids_that_the_metric_was_not_built_for_are_refused(task: str) -> None:
    metrics, ids = TASKS[task][0](), torch.zeros(6, dtype=torch.int64)
    with pytest.raises(
        ConfigError, match=r"slices: expected None where.*got ids. Build the metric with slices="
    ):
        metrics.update(*batch(task), slices=ids)
    with pytest.raises(
        ConfigError, match=r"group: expected None.*Build the metric with groups=True"
    ):
        metrics.update(*batch(task), group=ids)
    assert metrics.updates == 0


@every_task
@pytest.mark.parametrize("slices", ["ab", ("a", "a"), -1, True, 2.5, (1, 2), None])
def test_names_of_slices_are_different_strings_or_their_number(task: str, slices: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"slices: expected different names, or their number, got .*Pass slices="
    ):
        TASKS[task][0](slices=slices)


def test_other_arguments_that_cannot_work() -> None:
    with pytest.raises(
        ConfigError, match=r"groups: expected True or False, got 5. Pass the ids to update"
    ):
        BinaryMetrics(groups=5)  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match=r"slices, groups: expected counts of at most 64 MiB, got 297 MiB. Tell"
    ):
        MulticlassMetrics(200_000, groups=True)
    with pytest.raises(ConfigError, match=r"slices, groups: expected counts of at most 64 MiB"):
        BinaryMetrics(slices=10**12)


@every_task
def test_without_parts_configuration_and_digest_are_those_of_before(task: str) -> None:
    make = TASKS[task][0]
    plain, named, number = make(), make(slices=("a", "b")), make(slices=2)
    assert "slices" not in plain.config
    assert not any(name.startswith(("slice", "group")) for name in plain.state_dict()["cells"])
    assert plain.state_dict()["digest"] == make(slices=(), groups=False).state_dict()["digest"]
    assert (
        named.state_dict()["digest"]
        == number.state_dict()["digest"]
        != plain.state_dict()["digest"]
    )
    assert (named.describe()["slice_names"], number.describe()["slice_names"]) == (
        ["a", "b"],
        ["0", "1"],
    )


def test_groups_spread_evenly_whatever_their_numbers_look_like() -> None:
    for ids in (
        torch.arange(64_000),
        torch.arange(64_000) * 1024,
        torch.arange(64_000) << 40,
        -torch.arange(64_000),
    ):
        count = torch.bincount(buckets(ids, ids), minlength=BUCKETS + 1)
        assert count[BUCKETS] == 0
        assert (
            850 < count[:BUCKETS].min() <= count[:BUCKETS].max() < 1150
        )  # 1000 ± 4.7 standard deviations


def test_a_group_is_always_in_the_same_bucket_and_none_is_in_the_spare_one() -> None:
    ids = torch.tensor([5, -7, NO_GROUP, 2**62, 5])
    got = buckets(ids, ids)
    assert got[0] == got[4] == buckets(ids[:1], ids[:1].short().long())[0]
    assert got[2] == BUCKETS
    assert got.lt(BUCKETS).sum() == 4
    assert buckets(ids, None).eq(BUCKETS).all()


def test_refused_rows_are_no_fault_of_their_slice() -> None:
    counted = torch.tensor([True, False, True])
    parts = RowParts(slices=2).judged(RowIds(torch.tensor([7, 7, -1])), counted, 0)
    assert parts is not None
    assert parts.fault_masks[0].tolist() == [True, False, False]
    assert parts.index["slice"].tolist() == [2, 2, 2]
