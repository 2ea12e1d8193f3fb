"""A monitored loader is the loader, but for being heard: attributes, copies, iterators."""

import copy
import multiprocessing
import pickle
import queue
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from loops import CLASSES, FEATURES, Net, batches, quiet
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import ptmetrics as pm
from ptmetrics.record.reader import read_run

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


def same(x: Tensor) -> Tensor:
    return x


@pytest.mark.parametrize("moved", [same, Tensor.clone], ids=["the batch", "a copy"])
@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss(), None])
def test_a_validation_iterator_that_is_held_takes_turns_with_training(
    moved: Callable[[Tensor], Tensor], criterion: Any
) -> None:
    model = nn.Linear(FEATURES, CLASSES)
    loss_of = criterion or nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    data, val_data = list(batches(70, shuffle=False)), list(batches(50, shuffle=False))
    hits = 0
    right = -1.0
    with quiet() as monitor:
        monitor.attach(model, criterion=criterion, optimizer=optimizer)
        held = iter(monitor.validate(val_data))
        for number, (x, y) in enumerate(monitor.train(data), 1):
            model.train()
            output = model(moved(x))
            hits += int((output.argmax(1) == y).sum())
            optimizer.zero_grad()
            loss_of(output, y).backward()
            optimizer.step()
            if number % 2 == 0:
                model.eval()
                x, y = next(held)
                with torch.no_grad():
                    output = model(moved(x))
                    loss_of(output, y)
                right = float((output.argmax(1) == y).float().mean())
        scores = monitor.end_epoch()
    assert (scores["train/accuracy"].n, scores["train/accuracy"].value) == (70, hits / 70)
    assert (scores["val/accuracy"].n, scores["val/accuracy"].value) == (8, right)


@pytest.mark.parametrize("copied", [False, True])
def test_two_loaders_side_by_side_are_each_paired_with_their_own_answers(
    copied: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = nn.Linear(FEATURES, CLASSES)
    data, other = list(batches(40, shuffle=False)), list(batches(39, shuffle=False))
    hits = 0
    with quiet() as monitor:
        monitor.attach(model)
        both = zip(monitor.train(data), monitor.train(other), strict=True)
        for pairs in both:
            for x, y in pairs:
                hits += int((model(x.clone() if copied else x).argmax(1) == y).sum())
        scores = monitor.end_epoch()
    if copied:  # which batch it was cannot be told
        assert scores.counts.get("train_samples", 0) == 0
        assert any("79 rows, 0 were counted" in line for line in caplog.messages)
    else:
        assert (scores["train/accuracy"].n, scores["train/accuracy"].value) == (79, hits / 79)
        assert not caplog.messages


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


def in_a_thread(loader: Iterable[Any]) -> Iterator[Any]:
    """Batches that a thread of their own takes from the loader, two ahead."""
    waiting: queue.Queue[Any] = queue.Queue(2)

    def take() -> None:
        for batch in loader:
            waiting.put(batch)
        waiting.put(None)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    while (batch := waiting.get(timeout=60)) is not None:
        yield batch
    thread.join(timeout=60)
    assert not thread.is_alive()


@pytest.mark.fault(48)
@pytest.mark.parametrize("watched", ["loader", "what the thread gives"])
def test_a_loader_with_a_thread_of_its_own_deadlocks_nothing_and_counts_each_row(
    watched: str,
) -> None:
    model, criterion = Net().train(), nn.CrossEntropyLoss()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with quiet() as monitor:
            monitor.attach(model, criterion=criterion)
            for _ in range(3):
                loader = DataLoader(DATA, 8)
                if watched == "loader":
                    batches = in_a_thread(monitor.train(loader))
                else:
                    batches = monitor.train(in_a_thread(loader))
                for x, y in batches:
                    criterion(model(x), y)
                assert monitor.end_epoch().counts["train_samples"] == 50
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.slow
@pytest.mark.fault(48)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_that_start_in_any_way_leave_the_record_alone(method: str, tmp_path: Path) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("there is no such way here")
    model, criterion = Net().train(), nn.CrossEntropyLoss()
    loader = DataLoader(DATA, 8, num_workers=2, multiprocessing_context=method)
    with quiet(run=tmp_path / "run") as monitor:
        monitor.attach(model, criterion=criterion)
        for x, y in monitor.train(loader):
            criterion(model(x), y)
        assert monitor.end_epoch().counts["train_samples"] == 50
    run = read_run(tmp_path / "run")
    assert (len(run.epochs), len(run.headers), run.problems) == (1, 1, [])
    quiet(run=tmp_path / "run", resume=True).close()


def left_out_later(monitor: pm.Monitor, data: Any, epoch: int) -> Any:
    if epoch:
        return data
    return monitor.train(data)


def in_each_epoch(monitor: pm.Monitor, data: Any, _: int) -> Any:
    return monitor.train(data)


@pytest.mark.parametrize("wrapper", [left_out_later, in_each_epoch])
def test_training_that_an_earlier_wrapper_does_not_see_is_told(
    wrapper: Callable[[pm.Monitor, Any, int], Any],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    model, criterion = nn.Linear(FEATURES, CLASSES), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = list(batches(40, shuffle=False))
    counted = []
    with quiet(run=tmp_path / "run") as monitor:
        monitor.attach(model, criterion=criterion, optimizer=optimizer)
        for epoch in range(3):
            model(data[0][0])  # a look at what it answers by now
            model.train()
            for x, y in wrapper(monitor, data, epoch):
                optimizer.zero_grad()
                criterion(model(x), y).backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                for x, _ in monitor.validate(data):
                    model(x)
            scores = monitor.end_epoch()
            counted.append(scores.counts.get("train_samples", 0))
    told = [line for line in caplog.messages if "monitor.train(loader)" in line]
    found = [f for f in pm.judge(tmp_path / "run").findings if f.code == "not-counted"]
    if wrapper is in_each_epoch:
        assert counted == [40] * 3
        assert told == []
        assert found == []
    else:
        assert counted == [40, 0, 0]
        assert len(told) == 1
        assert re.search(r"answered 4\d rows, 0 were counted", told[0])
        assert [finding.evidence["split"] for finding in found] == ["train"]


def test_a_named_split_goes_on_behind_another_one_inside_of_it() -> None:
    model, criterion = nn.Linear(FEATURES, CLASSES).eval(), nn.CrossEntropyLoss()
    with quiet() as monitor:
        monitor.attach(model, criterion=criterion)
        for _ in range(2):  # the second time each is a pass of its own
            with monitor.split("outer"):
                criterion(model(X), Y)
                with monitor.split("inner"):
                    criterion(model(X[:3]), Y[:3])
                criterion(model(X[:1]), Y[:1])
        counts = monitor.end_epoch().counts
    assert (counts["outer_samples"], counts["inner_samples"]) == (5, 3)
