"""What a loader gives to each rank: without the padding at its end no row comes twice."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from registry import LAW
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import ptmetrics as pm
from ptmetrics.errors import ConfigError
from ptmetrics.monitor.loaders import share_of
from ptmetrics.monitor.passes import LoaderPass, without_last


def loader_of(
    rows: int, ranks: int, rank: int, size: int, *, drop: bool = False, cut: bool = False
) -> DataLoader[Any]:
    data = TensorDataset(torch.arange(rows))
    sampler: Any = DistributedSampler(data, ranks, rank, shuffle=True, seed=3, drop_last=cut)
    return DataLoader(data, batch_size=size, sampler=sampler, drop_last=drop)


@pytest.mark.fault(9)
@pytest.mark.fault(10)
@given(
    rows=st.integers(1, 30),
    ranks=st.integers(1, 7),
    size=st.integers(1, 6),
    drop=st.booleans(),
    cut=st.booleans(),
)
@LAW
def test_no_row_comes_twice_without_padding(
    rows: int, ranks: int, size: int, drop: bool, cut: bool
) -> None:
    counted: list[int] = []
    served = 0
    expected = 0
    for rank in range(ranks):
        loader = loader_of(rows, ranks, rank, size, drop=drop, cut=cut)
        share = share_of(loader)
        assert share is not None
        expected += share.rows
        under_way = LoaderPass("val", None, None, share)
        for (batch,) in loader:
            served += len(batch)
            under_way.serve(batch)
            padding = under_way.padding_of(batch, len(batch))
            counted += without_last(batch, len(batch), padding).tolist()
        assert under_way.padding == 0
    assert expected == rows
    assert len(set(counted)) == len(counted)
    if not drop and not cut:
        assert sorted(counted) == list(range(rows))
    if served <= rows and not drop:
        assert len(counted) == served


def test_a_loader_that_does_not_tell_has_no_share() -> None:
    class Stream(IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(())

    rows = TensorDataset(torch.arange(4))
    own_batches: Any = [[0, 1], [2]]
    for loader in (DataLoader(Stream()), DataLoader(rows, batch_sampler=own_batches), [1, 2]):
        assert share_of(loader) is None
    assert share_of(DataLoader(rows, batch_size=3)) == (4, 2, 1, 0)


def test_a_batch_of_other_rows_is_left_as_it_is() -> None:
    share = share_of(loader_of(5, 2, 1, 3))
    assert share is not None
    assert share.padding == 1
    under_way = LoaderPass("val", None, None, share)
    batch = torch.arange(3)
    under_way.serve(batch)
    assert under_way.padding_of(batch, 6) == 0  # two rows a sample
    assert under_way.padding_of(torch.arange(3), 3) == 0  # another batch
    assert under_way.padding_of(batch, 3) == 1
    assert under_way.padding_of(batch, 3) == 0  # once
    values = {"a": torch.zeros(3, 2), "b": torch.zeros(4), "c": None}
    cut = without_last(values, 3, 1)
    assert [cut["a"].shape, cut["b"].shape, cut["c"]] == [(2, 2), (4,), None]


@pytest.mark.parametrize("seconds", [0, -1.0, "60"])
def test_a_timeout_is_a_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(ConfigError, match="sync_timeout_s: expected seconds above 0, got"):
        pm.Monitor(pm.BinaryMetrics(), sync_timeout_s=seconds)
