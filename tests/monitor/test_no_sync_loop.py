"""A monitored loop on a CUDA model waits for nothing between the ends of two epochs."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from loops import CLASSES, FEATURES, Net, quiet
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

import ptmetrics as pm
from ptmetrics.integrations.tracker import Tracker
from ptmetrics.leakage import hashes
from ptmetrics.monitor.watching import StepCallback
from ptmetrics.testing import Guard, HostSync, fake_cuda

pytestmark = pytest.mark.fault(28)
Batches = list[tuple[Tensor, Tensor]]


@pytest.fixture(autouse=True)
def _on_fake_cuda() -> Iterator[None]:
    with fake_cuda():
        yield
    for cached in (hashes._salt, hashes._factors):  # tensors without values are of no use outside
        cached.cache_clear()


class Event:
    """A device event that must not be asked before an epoch's end."""

    def record(self) -> None:
        """Mark a point."""

    def query(self) -> bool:
        return False

    def elapsed_time(self, end_event: Any, /) -> float:
        raise AssertionError("nothing has passed yet")


def batches(targets: str = "cuda") -> Batches:
    return [
        (
            torch.zeros(rows, FEATURES, device="cuda"),
            torch.zeros(rows, dtype=torch.int64, device=targets),
        )
        for rows in (8, 8, 3)
    ]


def watched(**options: Any) -> tuple[pm.Monitor, nn.Module]:
    with torch.device("cuda"):
        return quiet(*options.pop("callbacks", ()), device_event=Event, **options), Net()


def one_epoch(model: nn.Module, criterion: nn.Module, train: Any, val: Any, optimizer: Any) -> None:
    """Without backward: autograd's engine wants a real device, and nothing of ours runs in it."""
    model.train()
    for x, y in train:
        criterion(model(x), y.to("cuda", non_blocking=True))
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for x, y in val:
            criterion(model(x), y.to("cuda", non_blocking=True))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignored", [None, -100])
def test_hooks_on_model_criterion_and_optimizer_wait_for_nothing(
    reduction: str, ignored: int | None
) -> None:
    monitor, model = watched(metrics=pm.MulticlassMetrics(CLASSES, ignore_index=ignored))
    criterion, optimizer = (
        nn.CrossEntropyLoss(reduction=reduction),
        torch.optim.SGD(model.parameters()),
    )
    with Guard(), monitor.attach(model, criterion=criterion, optimizer=optimizer):
        one_epoch(model, criterion, batches(), batches(), optimizer)
        assert {name: split.samples for name, split in monitor._recorder.splits.items()} == {
            "train": 19,
            "val": 19,
        }


@pytest.mark.parametrize("targets", ["cuda", "cpu"])
def test_watched_loaders_wait_for_nothing_wherever_their_targets_are(targets: str) -> None:
    monitor, model = watched()
    criterion, optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters())
    train, val = batches(targets), batches(targets)
    with Guard():
        monitor.attach(model, criterion=criterion, optimizer=optimizer)
        one_epoch(model, criterion, monitor.train(train), monitor.validate(val), optimizer)
    assert {name: split.samples for name, split in monitor._recorder.splits.items()} == {
        "train": 19,
        "val": 19,
    }


@pytest.mark.parametrize(
    ("metrics", "preds", "target"),
    [
        (pm.BinaryMetrics(), (8,), torch.int64),
        (pm.MulticlassMetrics(CLASSES), (8, CLASSES), torch.int64),
        (pm.MultilabelMetrics(CLASSES), (8, CLASSES), torch.int64),
        (pm.RegressionMetrics(), (8,), torch.float32),
    ],
    ids=lambda value: getattr(value, "task", ""),
)
@pytest.mark.parametrize("loss", ["none", "tensor", "rows", "float"])
def test_update_of_each_task_with_each_kind_of_loss_waits_for_nothing(
    metrics: Any, preds: tuple[int, ...], target: torch.dtype, loss: str
) -> None:
    monitor = quiet(metrics=metrics)
    scores, weight = torch.zeros(preds, device="cuda"), torch.ones(8, device="cuda")
    shape = preds if metrics.task == "multilabel" else (8,)
    given = {
        "none": None,
        "tensor": scores.mean(),
        "rows": torch.zeros(8, device="cuda"),
        "float": 0.5,
    }[loss]
    with Guard():
        for sample_weight in (None, weight):
            truth = torch.zeros(shape, dtype=target, device="cuda")
            monitor.update(scores, truth, loss=given, split="val", sample_weight=sample_weight)
    assert monitor._recorder.splits["val"].batches == 2


def test_the_end_of_an_epoch_is_where_it_waits() -> None:
    monitor = quiet(metrics=pm.RegressionMetrics())
    monitor.update(torch.zeros(8, device="cuda"), torch.zeros(8, device="cuda"))
    with pytest.raises(HostSync, match=r"host\.py:\d+: .*copies_to_host"), Guard():
        monitor.end_epoch()


def test_a_callback_that_waits_is_named() -> None:
    class Impatient(pm.Callback):
        def on_batch_end(self, monitor: pm.Monitor, split: str, batch: int) -> None:
            torch.zeros(1, device="cuda").item()

    monitor = quiet(Impatient(), metrics=pm.RegressionMetrics())
    with pytest.raises(HostSync, match=r"test_no_sync_loop\.py:\d+: .*reads_value"), Guard():
        monitor.update(torch.zeros(8, device="cuda"), torch.zeros(8, device="cuda"))


MEMORY = SimpleNamespace(reset_peak_memory_stats=lambda device: None)
OURS: dict[type[pm.Callback], Any] = {
    pm.EarlyStopping: lambda folder: pm.EarlyStopping("val/loss"),
    pm.Checkpoint: lambda folder: pm.Checkpoint("val/loss", folder=folder),
    pm.LoopHygiene: lambda folder: pm.LoopHygiene(),
    pm.LeakageCheck: lambda folder: pm.LeakageCheck(),
    pm.StopAtTarget: lambda folder: pm.StopAtTarget("val/accuracy>=0.9"),
    pm.TimeLimit: lambda folder: pm.TimeLimit("2h"),
    pm.LearningRate: lambda folder: pm.LearningRate(),
    pm.GradNorm: lambda folder: pm.GradNorm(),
    pm.Throughput: lambda folder: pm.Throughput(),
    pm.DeviceMemory: lambda folder: pm.DeviceMemory(memory=MEMORY),
    pm.CSVLogger: lambda folder: pm.CSVLogger(folder / "scores.csv"),
}
"""Callbacks that are told of batches or epochs; further trackers are told of epochs as `CSVLogger` is."""


def test_none_of_our_callbacks_is_missing_here() -> None:
    for name in pm.__all__:
        each = getattr(pm, name)
        if isinstance(each, type) and issubclass(each, pm.Callback) and each is not pm.Callback:
            tracker = issubclass(each, Tracker)
            assert each in OURS or tracker, name
            if tracker:
                events = {event for event in vars(each) if event.startswith("on_")}
                assert not events, f"{name} is told of {events}"


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("way", ["hooks", "loaders"])
@pytest.mark.slow
def test_no_callback_of_ours_waits_in_an_epoch(
    kind: type[pm.Callback], way: str, tmp_path: Path
) -> None:
    callback = OURS[kind](tmp_path)
    monitor, model = watched(callbacks=[callback])
    with unset_fake_temporarily():
        assert "loss" in monitor.score_directions  # asked for at the beginning, of empty counts
    criterion, optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    train, val = batches(), batches()
    with Guard():
        monitor.attach(model, criterion=criterion, optimizer=optimizer)
        if way == "loaders":
            train, val = monitor.train(train), monitor.validate(val)
        one_epoch(model, criterion, train, val, optimizer)
    assert monitor._recorder.splits["val"].samples == 19
    if isinstance(callback, StepCallback):
        assert callback._error is None
