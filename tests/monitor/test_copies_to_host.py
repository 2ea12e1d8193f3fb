"""The end of an epoch reads the device three times at most, however many splits and metrics there are."""

from pathlib import Path
from typing import Any

import pytest
import torch
from loops import quiet
from torch import Tensor

import ptmetrics as pm
from ptmetrics.metrics import host


class OnDevice(Tensor):
    """A tensor that says it is on a device: its numbers are had by `cpu()` alone, which is counted."""

    copies = 0

    @property
    def is_cpu(self) -> bool:
        return False

    def cpu(self, *_: Any, **__: Any) -> Tensor:
        OnDevice.copies += 1
        return self.as_subclass(Tensor)

    def numpy(self, **_: Any) -> Any:
        raise AssertionError("read without a copy")

    def tolist(self) -> Any:
        raise AssertionError("read without a copy")

    def __bool__(self) -> bool:
        raise AssertionError("read without a copy")


@pytest.fixture(autouse=True)
def no_copies_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnDevice, "copies", 0)


def as_on_device(monitor: pm.Monitor) -> None:
    for counts in monitor._recorder.splits.values():
        for metric in counts.counted():
            state = metric._accumulator.state
            metric._accumulator.state = {n: t.as_subclass(OnDevice) for n, t in state.items()}
        counts.looks = [look.as_subclass(OnDevice) for look in counts.looks]
        if counts._stored is not None and counts._stored._room is not None:
            counts._stored._room = counts._stored._room.as_subclass(OnDevice)


def one_epoch(metrics: Any, run: Path, *, on_device: bool) -> pm.EpochScores:
    torch.manual_seed(0)
    with quiet(metrics=metrics, run=run) as monitor:
        for split in ("train", "val", "ema"):
            for _ in range(3):
                preds, target = torch.randn(16, 3), torch.randint(0, 3, (16,))
                monitor.update(preds, target, loss=preds.mean(), split=split)
        if on_device:
            as_on_device(monitor)
        return monitor.end_epoch()


@pytest.mark.parametrize("several", [False, True])
def test_an_epoch_of_three_splits_is_read_in_three_copies_and_is_the_same(
    several: bool, tmp_path: Path
) -> None:
    def metrics() -> Any:
        first = pm.MulticlassMetrics(3)
        if several:
            return [first, pm.Mean("first", lambda p, t: p[:, 0], higher_is_better=True)]
        return first

    expected = one_epoch(metrics(), tmp_path / "host", on_device=False)
    assert OnDevice.copies == 0
    got = one_epoch(metrics(), tmp_path / "device", on_device=True)
    assert 1 <= OnDevice.copies <= 3
    assert {n: s.to_dict() for n, s in got.items()} == {n: s.to_dict() for n, s in expected.items()}
    assert got.samples is not None
    assert expected.samples is not None
    assert repr(got.samples.rows) == repr(expected.samples.rows)


def test_states_of_any_shape_and_type_are_read_in_one_copy() -> None:
    first = {"a": torch.arange(6).reshape(2, 3), "b": torch.tensor(0.5, dtype=torch.float64)}
    second = {"c": torch.zeros(0, dtype=torch.int64), "d": torch.rand(2, 2, dtype=torch.float64)}
    states = [{n: t.as_subclass(OnDevice) for n, t in s.items()} for s in (first, second)]
    read = host.to_host(states)
    assert OnDevice.copies == 1
    for arrays, tensors in zip(read, (first, second), strict=True):
        assert list(arrays) == list(tensors)
        for name, array in arrays.items():
            assert array.dtype == tensors[name].numpy().dtype
            assert array.tolist() == tensors[name].tolist()
