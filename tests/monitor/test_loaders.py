"""A monitored loader is the loader, but for being heard: attributes, copies, iterators."""

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from loops import Net, quiet
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import ptmetrics as pm

X, Y = torch.randn(4, 6), torch.tensor([0, 1, 2, 0])
DATA = TensorDataset(torch.randn(50, 6), torch.arange(50) % 3)


def plain() -> DataLoader[Any]:
    return DataLoader(DATA, 8, sampler=DistributedSampler(DATA, 2, 0), drop_last=True)


@pytest.mark.parametrize("way", ["train", "validate"])
def test_every_attribute_of_the_loader_is_that_of_the_loader(way: str) -> None:
    loader = plain()
    with quiet() as monitor:
        watched: Any = getattr(monitor, way)(loader)
        for name in vars(loader):
            if not name.startswith("_"):
                assert getattr(watched, name) is getattr(loader, name), name
        assert len(watched) == len(loader) == 3
        watched.sampler.set_epoch(7)
        assert loader.sampler.epoch == 7
        with pytest.raises(AttributeError, match="'DataLoader' object has no attribute 'nothing'"):
            _ = watched.nothing
        assert not hasattr(watched, "nothing")


def test_what_is_set_on_it_is_set_on_the_loader() -> None:
    loader = plain()
    with quiet() as monitor:
        watched: Any = monitor.train(loader)
        watched.mine = 3
        assert loader.mine == 3
        del watched.mine
        assert not hasattr(loader, "mine")
        with pytest.raises(ValueError, match="batch_size"):
            watched.batch_size = 4  # as the loader itself refuses it


@pytest.mark.parametrize(
    "how", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_a_copy_is_one_of_the_loader_which_nobody_hears(how: Any) -> None:
    with quiet() as monitor:
        copied = how(monitor.train(plain()))
        assert type(copied) is DataLoader
        assert len(list(copied)) == 3
        assert not monitor._recorder.splits


def test_a_loader_without_a_length_is_as_true_as_it_was() -> None:
    with quiet() as monitor:
        assert monitor.train(iter([(X, Y)]))
        assert not monitor.train([])
        with pytest.raises(TypeError, match="has no len"):
            len(monitor.train(iter([(X, Y)])))


def test_iterators_that_are_held_or_stand_side_by_side_count_each_batch_once() -> None:
    model = Net().eval()
    with quiet() as monitor:
        monitor.attach(model)
        watched = monitor.validate([(X, Y)] * 3)
        held = iter(watched)
        model(next(held)[0])
        for x, _ in watched:
            model(x)
        for x, _ in held:
            model(x)
        assert monitor.end_epoch().counts["val_samples"] == 4 * 6


class Broken:
    """A loader of the user's that fails in the middle."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield X, Y
        raise OSError("the disk of the user")


@pytest.mark.parametrize("on_fault", ["contain", "raise"])
def test_an_error_of_the_loader_is_the_users(on_fault: Any) -> None:
    model = Net().eval()
    with quiet(on_fault=on_fault) as monitor:
        monitor.attach(model)
        batches = iter(monitor.validate(Broken()))
        model(next(batches)[0])
        with pytest.raises(OSError, match="of the user"):
            next(batches)
        assert monitor.end_epoch().counts["val_samples"] == 4
        assert not monitor.faults


def test_a_loop_that_is_left_and_begun_again_is_another_validation() -> None:
    model = Net().eval()
    with quiet() as monitor:
        monitor.attach(model)
        for _ in range(2):
            for step, (x, _y) in enumerate(monitor.validate([(X, Y)] * 5)):
                model(x)
                if step == 1:
                    break
        assert monitor.end_epoch().counts["val_samples"] == 2 * 4


def test_the_monitor_may_be_closed_in_the_middle_of_a_pass() -> None:
    model = Net().eval()
    monitor = pm.Monitor(pm.MulticlassMetrics(3), progress=False)
    monitor.attach(model)
    seen = 0
    for x, _ in monitor.validate([(X, Y)] * 3):
        model(x)
        seen += 1
        if seen == 2:
            monitor.close()
    assert seen == 3
