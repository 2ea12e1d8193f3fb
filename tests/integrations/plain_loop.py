"""A loop without any trainer, which those of other libraries must agree with, and its data."""

from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ptmetrics as pm

ROWS = 60


def dataset(rows: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 4, generator=generator)
    noise = torch.randn(rows, generator=generator)
    return TensorDataset(x, (x[:, 0] + noise > 0).long() + (x[:, 1] > 1).long())


def loader(rows: int, seed: int) -> DataLoader[Any]:
    return DataLoader(dataset(rows, seed), batch_size=16)  # the last batch is smaller


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def trained(epochs: int, accumulate: int = 1, **options: Any) -> pm.Monitor:
    """Train without a trainer; the monitor, which is still open."""
    model = net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    monitor = pm.Monitor(pm.MulticlassMetrics(3), progress=False, **options)
    monitor.attach(model, criterion=criterion, optimizer=optimizer)
    train, val = loader(ROWS, 1), loader(30, 2)
    for _ in range(epochs):
        model.train()
        for number, (x, y) in enumerate(monitor.train(train)):
            (criterion(model(x), y) / accumulate).backward()
            if (number + 1) % accumulate == 0 or number + 1 == len(train):
                optimizer.step()
                optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            for x, y in monitor.validate(val):
                criterion(model(x), y)
        monitor.end_epoch()
        if monitor.should_stop:
            break
    return monitor


def matrices(monitor: pm.Monitor) -> dict[str, list[list[int]]]:
    """The confusion counts of each split of the last epoch."""
    assert not monitor.faults.all(), monitor.faults.all()
    return {name: s.confusion.tolist() for name, s in monitor.scores.splits.items()}


def same_run(one: pm.Monitor, other: pm.Monitor) -> None:
    """Both have the same counts, bit for bit, and the same losses but for the order of a sum."""
    assert one.epoch == other.epoch
    assert matrices(one) == matrices(other)
    assert one.scores.counts == other.scores.counts
    for name in ("train/accuracy", "val/accuracy", "val/f1/macro"):
        assert one.history[name] == other.history[name]
    for name in ("train/loss", "val/loss"):
        pairs = zip(one.history[name], other.history[name], strict=True)
        assert all(abs(a - b) < 1e-6 for a, b in pairs), name
