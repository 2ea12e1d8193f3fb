"""Ids of rows: what is refused at once, what is counted as a fault, and where groups go."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ptmetrics.counts.batch import Batch
from ptmetrics.counts.subgroups import BAD_SLICE, BUCKETS, NO_GROUP, Subgroups, buckets_of
from ptmetrics.errors import ConfigError, DeviceError, DtypeError, ShapeError
from ptmetrics.metrics.base import Metrics
from ptmetrics.metrics.mean import Mean
from ptmetrics.metrics.multiclass import MulticlassMetrics
from ptmetrics.metrics.multilabel import MultilabelMetrics

CPU = torch.device("cpu")
BOTH = Subgroups(("a", "b"), groups=True)


def make_mean(**options: Any) -> Metrics:
    return Mean("one", lambda preds, target: preds[:, 0], higher_is_better=True, **options)


def make_classes(**options: Any) -> Metrics:
    return MulticlassMetrics(3, **options)


def make_labels(**options: Any) -> Metrics:
    return MultilabelMetrics(3, curves=False, **options)


each_shape = pytest.mark.parametrize(
    ("make", "preds", "target", "rows"),
    [
        (make_mean, (6, 3), (6,), (6,)),
        (make_classes, (6, 3), (6,), (6,)),
        (make_classes, (6, 3, 4, 2), (6, 4, 2), (6, 4, 2)),
        (make_labels, (6, 3, 4), (6, 3, 4), (6, 4)),
    ],
    ids=["mean", "multiclass", "multiclass-dense", "multilabel-dense"],
)
Make = Callable[..., Metrics]
Shape = tuple[int, ...]


def numbers(metrics: Metrics) -> list[int]:
    return [next(iter(s.values())).n for _, s in sorted(metrics.compute().per_slice.items())]


@each_shape
def test_an_id_a_sample_holds_for_all_its_rows_and_one_a_row_is_taken_as_it_is(
    make: Make, preds: Shape, target: Shape, rows: Shape
) -> None:
    ids = torch.tensor([0, 1, 1, 1, 0, -1])
    full = ids.reshape(-1, *[1] * (len(rows) - 1)).expand(rows)
    batch = torch.ones(preds), torch.ones(target, dtype=torch.int64)
    one, each = make(slices=2, groups=True), make(slices=2, groups=True)
    one.update(*batch, slices=ids, group=ids)
    each.update(*batch, slices=full.int(), group=full)
    assert repr(one.compute().to_dict()) == repr(each.compute().to_dict())
    dense = torch.Size(rows).numel() // 6
    assert numbers(one) == [2 * dense, 3 * dense]
    assert one.compute().faults == {}


@each_shape
def test_a_slice_that_there_is_not_is_a_fault_and_the_row_counts_in_the_whole(
    make: Make, preds: Shape, target: Shape, rows: Shape
) -> None:
    metrics = make(slices=2)
    ids = torch.tensor([0, 2, -2, -1, 1, 2**62])
    for _ in range(2):
        metrics.update(torch.ones(preds), torch.ones(target, dtype=torch.int64), slices=ids)
    dense = torch.Size(rows).numel() // 6
    got = metrics.compute()
    assert numbers(metrics) == [2 * dense, 2 * dense]
    assert got.n == 12 * dense
    fault = got.faults[BAD_SLICE]
    assert (fault["count"], fault["first_step"]) == (6 * dense, 0)
    assert str(fault["message"]).startswith(f"{6 * dense} × slice outside those of the metric")


@pytest.mark.parametrize("name", ["slices", "group"])
@pytest.mark.parametrize(
    ("error", "ids", "message"),
    [
        (DtypeError, torch.zeros(6), r"got float32 of shape \(6,\). Pass .*\.long\(\)"),
        (DtypeError, torch.zeros(6, dtype=torch.complex64), "got complex64"),
        (DtypeError, torch.zeros(6, dtype=torch.uint8), "got uint8"),
        (DtypeError, torch.zeros(6, dtype=torch.bool), "got bool"),
        (ShapeError, torch.zeros(5).long(), r"got int64 of shape \(5,\). Pass one id a row"),
        (ShapeError, torch.zeros(6, 4, 1).long(), r"signed integers of shape \(6,\) or \(6, 4\)"),
        (DeviceError, torch.zeros(6).long().to("meta"), "expected a tensor on cpu.*got meta"),
        (DtypeError, [0] * 6, "expected a torch.Tensor, got list"),
    ],
)
def test_what_the_host_can_see_is_refused_with_rule_fact_and_cure(
    name: str, error: type[Exception], ids: Any, message: str
) -> None:
    given = {"slices": None, "group": None, name: ids}
    with pytest.raises(error, match=f"{name}: .*{message}"):
        BOTH.check_ids((6, 4), CPU, **given)


def test_a_metric_counts_nothing_of_a_batch_whose_ids_are_refused() -> None:
    metrics = make_classes(slices=2)
    with pytest.raises(ShapeError):
        metrics.update(torch.ones(6, 3), torch.ones(6).long(), slices=torch.zeros(5).long())
    assert metrics.updates == metrics.compute().n == 0


def test_ids_that_the_metric_was_not_built_for_are_refused() -> None:
    ids = torch.zeros(6, dtype=torch.int64)
    rule = r"slices: expected None where.*got ids. Build the metric with slices="
    with pytest.raises(ConfigError, match=rule):
        Subgroups(groups=True).check_ids((6,), CPU, ids, None)
    rule = r"group: expected None.*Build the metric with groups=True"
    with pytest.raises(ConfigError, match=rule):
        Subgroups(("a",)).check_ids((6,), CPU, None, ids)
    with pytest.raises(ConfigError, match=rule):
        make_classes().update(torch.ones(6, 3), ids, group=ids)


def test_rows_without_ids_belong_to_no_part_and_batches_keep_one_form() -> None:
    slices, group = BOTH.check_ids((2, 3), CPU, None, None)
    assert slices is not None
    assert group is not None
    batch = Batch(torch.zeros(6), torch.zeros(6), slices=slices, group=group)
    parts = BOTH.parts_of(batch)
    assert parts["slice"].tolist() == [2] * 6
    assert parts["group"].tolist() == [BUCKETS] * 6
    assert not batch.bad
    assert Subgroups().check_ids((6,), CPU, None, None) == (None, None)


@pytest.mark.parametrize("slices", ["ab", ("a", "a"), -1, True, 2.5, (1, 2), None])
def test_names_of_slices_are_different_strings_or_their_number(slices: Any) -> None:
    rule = r"slices: expected different names, or their number, up to 1,048,576, got .*Pass slices="
    with pytest.raises(ConfigError, match=rule):
        Subgroups.checked(slices, groups=False)


def test_other_arguments_that_cannot_work() -> None:
    rule = r"groups: expected True, False or None, got 5. Pass the ids to update"
    with pytest.raises(ConfigError, match=rule):
        make_labels(groups=5)
    rule = r"slices, groups: expected counts of at most 64 MiB, got 2\d\d MiB. Tell"
    with pytest.raises(ConfigError, match=rule):
        MulticlassMetrics(200_000, slices=60)
    with pytest.raises(ConfigError, match=r"slices, groups: expected counts of at most 64 MiB"):
        make_classes(slices=2**20)


def test_the_configuration_tells_slices_by_their_number_and_records_tell_their_names() -> None:
    plain, named, number = make_classes(), make_classes(slices=("a", "b")), make_classes(slices=2)
    assert "slices" not in plain.config
    assert not any(name.startswith(("slice", "group")) for name in plain.state_dict()["cells"])
    digests = [m.state_dict()["digest"] for m in (plain, named, number, make_classes(groups=True))]
    assert digests[1] == digests[2]
    assert len(set(digests)) == 3
    assert make_classes(slices=(), groups=None).state_dict()["digest"] == digests[0]
    independent = make_classes(groups=False).state_dict()["digest"]
    assert independent not in digests, "rows taken for independent are counted otherwise"
    assert named.describe()["slice_names"] == ["a", "b"]
    assert number.describe()["slice_names"] == ["0", "1"]


@pytest.mark.parametrize(
    "spread", [lambda i: i, lambda i: i * 1024, lambda i: i << 40, lambda i: -i]
)
def test_groups_spread_evenly_whatever_their_numbers_look_like(
    spread: Callable[[Tensor], Tensor],
) -> None:
    count = torch.bincount(buckets_of(spread(torch.arange(64_000))), minlength=BUCKETS + 1)
    assert count[BUCKETS] == 0
    assert 850 < count[:BUCKETS].min() <= count[:BUCKETS].max() < 1150  # 1000 ± 4.7 deviations


def test_a_group_is_always_in_the_same_bucket_and_none_is_in_the_spare_one() -> None:
    got = buckets_of(torch.tensor([5, -7, NO_GROUP, 2**62, 5])).tolist()
    assert got[0] == got[4] == buckets_of(torch.tensor([5])).item()
    assert got[2] == BUCKETS
    assert sum(bucket < BUCKETS for bucket in got) == 4


def test_refused_rows_are_no_fault_of_their_slice() -> None:
    rows = torch.zeros(3)
    batch = Batch(rows, rows, slices=torch.tensor([7, 7, -1]))
    batch.refuse("bad", torch.tensor([False, True, False]))
    parts = Subgroups(("a", "b")).parts_of(batch)
    assert batch.bad is not None
    assert batch.bad[BAD_SLICE].tolist() == [True, False, False]
    assert parts["slice"].tolist() == [2, 2, 2]
