"""What only a longer run shows: a ResNet's bits, memory over a thousand steps, a kill before any step."""

import gc
import multiprocessing
import os
import random
import signal
import tracemalloc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loops import WAYS, quiet, rounded
from test_resume import EPOCHS, STEPS, callbacks, train
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ptmetrics as pm
from ptmetrics.record.reader import read_run

pytestmark = pytest.mark.slow
KIB = 2**10
STEPS_OF_RESNET = 100
BATCH = 4


# A ResNet's bits


def resnet() -> nn.Module:
    models = pytest.importorskip("torchvision").models
    return models.resnet.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=10)


def trained(way: str | None, monitor: pm.Monitor | None = None) -> list[str]:
    """Train with augmentation, dropout and batch normalisation; every bit that is left behind."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 — the global state is what must not be touched
    torch.manual_seed(0)
    model = nn.Sequential(resnet(), nn.Dropout(0.2))
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    x, y = torch.randn(BATCH * STEPS_OF_RESNET // 2, 3, 32, 32), torch.arange(200) % 10
    loaders: dict[str, Any] = {
        "train": DataLoader(TensorDataset(x, y), BATCH, shuffle=True),
        "val": DataLoader(TensorDataset(x[:16], y[:16]), BATCH),
    }
    if monitor is not None:
        watched = {} if way == "update" else {"criterion": criterion}
        monitor.attach(model, optimizer=optimizer, **watched)
        if way == "loaders":
            loaders = {
                "train": monitor.train(loaders["train"]),
                "val": monitor.validate(loaders["val"]),
            }
    losses = []
    for _ in range(2):
        for split, loader in loaders.items():
            model.train(split == "train")
            for inputs, target in loader:
                if split == "train" and torch.rand(()) < 0.5:
                    inputs = inputs.flip(-1)
                with torch.set_grad_enabled(split == "train"):
                    output = model(inputs)
                    loss = criterion(output, target)
                if split == "train":
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                if monitor is not None and way == "update":
                    monitor.update(output, target, loss=loss, split=split)
                losses.append(loss.detach().clone())
        if monitor is not None:
            monitor.end_epoch()
    assert len(losses) == STEPS_OF_RESNET + 2 * 4
    state = {**model.state_dict(), "losses": torch.stack(losses), "rng": torch.get_rng_state()}
    bits = [f"{name} {value.numpy().tobytes().hex()}" for name, value in state.items()]
    bits += [f"gradient {p.grad.numpy().tobytes().hex()}" for p in model.parameters()]
    return [*bits, repr(random.getstate()), repr(np.random.get_state())]  # noqa: NPY002


@pytest.fixture(scope="module")
def without_us() -> list[str]:
    return trained(None)


@pytest.mark.fault(34)
@pytest.mark.parametrize("way", WAYS)
def test_a_hundred_steps_of_a_resnet_are_those_without_us_bit_for_bit(
    way: str, without_us: list[str], tmp_path: Path
) -> None:
    watching = [pm.EarlyStopping("val/loss", patience=9), pm.Checkpoint(), pm.LeakageCheck()]
    metrics = pm.MulticlassMetrics(10, curves=True)
    with quiet(
        *watching, metrics=metrics, run=tmp_path / "run", keep_inputs=4, progress=True
    ) as monitor:
        assert trained(way, monitor) == without_us
    assert pm.read_history(tmp_path / "run")["counts/train_steps"] == [50, 50]


# A thousand steps


@pytest.mark.fault(35)
@pytest.mark.parametrize("way", WAYS)
def test_memory_is_flat_over_a_thousand_steps_and_no_graph_is_held(
    way: str, tmp_path: Path
) -> None:
    model, criterion = nn.Linear(6, 3), nn.CrossEntropyLoss()
    x, y = torch.randn(8, 6), torch.arange(8) % 3
    held: list[tuple[int, int]] = []
    graphs: list[weakref.ref[Tensor]] = []
    metrics = pm.MulticlassMetrics(3, curves=True)
    with quiet(metrics=metrics, run=tmp_path / "run") as monitor:
        monitor.attach(model, **({} if way == "update" else {"criterion": criterion}))

        def steps(count: int) -> None:
            batches = [(x, y)] * count
            for inputs, target in monitor.train(batches) if way == "loaders" else batches:
                output = model(inputs)
                loss = criterion(output, target)
                if way == "update":
                    monitor.update(output, target, loss=loss, split="train")
                graphs[:] = [weakref.ref(output), weakref.ref(loss)]
                loss.backward()

        of_others = [each for each in gc.get_objects() if type(each) is Tensor]
        known = set(map(id, of_others))
        tracemalloc.start()
        try:
            for count in (1000, 1000, 1000):
                steps(count)
                gc.collect()
                tensors = [each for each in gc.get_objects() if type(each) is Tensor]
                held.append((tracemalloc.get_traced_memory()[0], len(tensors)))
        finally:
            tracemalloc.stop()
        assert [ref() for ref in graphs] == [None, None]
        new = [each for each in tensors if id(each) not in known]
        assert not [each for each in new if each.grad_fn is not None]
        scores = monitor.end_epoch()
    assert scores.counts["train_samples"] == 24_000
    bytes_held, tensors_held = zip(*held, strict=True)
    assert max(tensors_held[1:]) <= tensors_held[0] + 4
    assert max(bytes_held[1:]) - bytes_held[0] < 64 * KIB


# A kill before any step


def until_killed(folder: Path, die: tuple[int, int]) -> None:
    _, used = callbacks(folder / "checkpoints", 1)
    model = nn.Linear(1, 1)
    monitor = quiet(*used, run=folder / "run", if_exists="resume")
    monitor.attach(model)
    state = train(monitor, model, die=die)
    torch.save(state, folder / "state.pt")
    os.kill(os.getpid(), signal.SIGKILL)


def killed(folder: Path, die: tuple[int, int]) -> None:
    folder.mkdir()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "ptmetrics.monitor.monitor"])
    process = context.Process(target=until_killed, args=(folder, die))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def plain(epoch: Any) -> dict[str, Any]:
    """An epoch of the record without times and what went by; counts exact, sums to 12 digits."""
    left_out = ("time", "seen")
    return {key: repr(rounded(value)) for key, value in epoch.items() if key not in left_out}


@pytest.mark.fault(41)
def test_a_run_killed_before_any_step_and_resumed_has_the_record_of_one_that_was_not(
    tmp_path: Path,
) -> None:
    keep, used = callbacks(tmp_path / "whole" / "checkpoints", 1)
    model = nn.Linear(1, 1)
    with quiet(*used, run=tmp_path / "whole" / "run") as monitor:
        monitor.attach(model)
        train(monitor, model)
    expected = [plain(epoch) for epoch in read_run(tmp_path / "whole" / "run").epochs]
    assert len(expected) == len(keep.epochs) == EPOCHS
    for die in [(epoch, step) for epoch in range(EPOCHS) for step in range(STEPS)]:
        folder = tmp_path / "{}-{}".format(*die)
        killed(folder, die)
        before = read_run(folder / "run")
        assert before.end is None
        again, used = callbacks(folder / "checkpoints", 1)
        model = nn.Linear(1, 1)
        with quiet(*used, run=folder / "run", if_exists="resume") as monitor:
            monitor.attach(model)
            monitor.load_state_dict(torch.load(folder / "state.pt", weights_only=True))
            train(monitor, model, from_step=die[1])
        run = read_run(folder / "run")
        assert [plain(epoch) for epoch in run.epochs] == expected, die
        assert run.written_by == [1] * die[0] + [2] * (EPOCHS - die[0])
        assert (run.attempts, run.superseded, run.problems) == (2, [], [])
        assert len(again.epochs) == EPOCHS - die[0]
        assert run.end_reason == "early stopping"
