"""Counts of several ranks as one vector: whatever the metric, the sum of the vectors holds what merging gives."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from registry import CASES, LAW, MetricCase
from torch import Tensor

from ptmetrics import distributed
from ptmetrics.counts.cell import NEVER, Cell
from ptmetrics.distributed import Part, agreed_rooms, pack, unpack
from ptmetrics.errors import RanksError
from ptmetrics.metrics.base import Metrics

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def summed(ranks: list[list[Part]]) -> list[Tensor]:
    """What one reduce makes of the parts of some ranks."""
    vectors = [pack(parts, rank, len(ranks)) for rank, parts in enumerate(ranks)]
    return unpack(torch.stack(vectors).sum(0), ranks[0], len(ranks))


def over_ranks(metrics: list[Metrics]) -> dict[str, Tensor]:
    """The state of all ranks together, as a sync of these metrics gives it."""
    counts = [metric._of_all_ranks() for metric in metrics]
    room = any(each.weighted for each in counts) + 2 * any(each.grouped for each in counts)
    ready = [distributed._with_room(each, room) for each in counts]
    parts = [distributed._parts_of(each) for each in ready]
    names = distributed._names_of(ready[0])
    return dict(zip(names, summed(parts), strict=True))


@pytest.mark.fault(2)
@pytest.mark.fault(3)
@every_case
@given(data=st.data())
@LAW
@pytest.mark.slow
def test_any_partition_over_ranks_equals_merging_them(
    case: MetricCase, data: st.DataObject
) -> None:
    ranks = []
    for _ in range(data.draw(st.integers(1, 4))):
        rank = case.make()
        for rows in data.draw(st.lists(st.integers(0, 20), max_size=2)):
            case.batch(rows, data.draw(st.integers(0, 2**32)), data.draw(st.booleans())).feed(rank)
        rank.state_dict()  # what waits is counted
        ranks.append(rank)
    packed = over_ranks(ranks)
    merged = case.make().merge_state(ranks).state_dict()["cells"]
    assert packed.keys() == merged.keys()
    for name, cell in merged.items():
        if cell.dtype == torch.int64:
            assert torch.equal(packed[name], cell), name
        else:
            torch.testing.assert_close(packed[name], cell, rtol=1e-13, atol=0, equal_nan=True)


@pytest.mark.fault(13)
@given(data=st.data())
@LAW
def test_whole_numbers_are_exact_of_any_size(data: st.DataObject) -> None:
    counts = Cell("counts", (3,))
    modulo = Cell("modulo", (2,), wraps=True)
    first = Cell("first", (2,), merge="min")
    ranks = data.draw(st.integers(1, 5))
    large = st.integers(0, (2**63 - 1) // ranks)
    any_whole = st.integers(-(2**63), 2**63 - 1)
    told: list[list[Part]] = []
    for _ in range(ranks):
        each = []
        for cell, numbers in ((counts, large), (modulo, any_whole), (first, any_whole)):
            size = cell.shape[0]
            values = data.draw(st.lists(numbers, min_size=size, max_size=size))
            each.append((cell, torch.tensor(values)))
        told.append(each)
    total, wrapped, least = summed(told)
    columns = list(zip(*told, strict=True))
    stacked = [torch.stack([tensor for _, tensor in column]) for column in columns]
    assert torch.equal(total, stacked[0].sum(0))
    assert torch.equal(wrapped, stacked[1].sum(0))  # modulo 2⁶⁴, as torch adds up
    assert torch.equal(least, stacked[2].amin(0))


def test_what_no_rank_has_seen_stays_the_identity() -> None:
    parts = [(cell, cell.zeros("cpu")) for cell in (Cell("a", (2,), merge="min"), Cell("b"))]
    least, count = summed([parts] * 3)
    assert least.tolist() == [NEVER, NEVER]
    assert count.item() == 0


def test_parts_in_an_order_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[Part] = [(Cell("top", (9,), torch.float64, "max"), torch.zeros(9).double())]
    monkeypatch.setattr(distributed, "MOST_SLOT_BYTES", 8 * 9 * 10)
    pack(parts, 0, 10)
    with pytest.raises(RanksError, match="11 ranks"):
        pack(parts, 0, 11)


# What ranks tell of themselves.


@pytest.mark.fault(4)
def test_ranks_agree_on_the_places_and_rooms_of_all() -> None:
    metrics = [["d1", "c1"], ["d2", "c2"]]
    none, weighted, grouped = [0, 0], [1, 0], [2, 2]
    told = [
        ["epoch 1", metrics, {"train": none, "val": weighted}],
        ["epoch 1", metrics, {"val": grouped}],
        ["epoch 1", metrics, {"test": none}],
    ]
    rooms = agreed_rooms(json.loads(json.dumps(told)))
    assert rooms == {"train": none, "val": [3, 2], "test": none}


@pytest.mark.fault(4)
def test_ranks_that_count_something_else_are_told_both_sides() -> None:
    same = ["epoch 1", [["d1", "accuracy"], ["d2", "loss"]], {}]
    swapped = ["epoch 1", [["d2", "loss"], ["d1", "accuracy"]], {}]
    fewer = ["epoch 1", [["d1", "accuracy"]], {}]
    later = ["epoch 2", same[1], {}]
    for other, said in (
        (swapped, r"rank 0 accuracy \(d1\); loss \(d2\), on rank 2 loss \(d2\); accuracy \(d1\)"),
        (fewer, r"rank 0 accuracy \(d1\); loss \(d2\), on rank 2 accuracy \(d1\)\."),
        (later, "epoch 1 on rank 0 and epoch 2 on rank 2"),
    ):
        with pytest.raises(RanksError, match=said):
            agreed_rooms([same, same, other])
