"""A hundred steps of torchvision's ResNet on two ranks are bit for bit those without ptmetrics.

Those of one rank are in tests/monitor/test_long_runs.py.
"""

import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gloo_ranks import run_ranks
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import ptmetrics as pm

BATCH = 4
STEPS = 100
EPOCHS = 2
CLASSES = 10


def trained(rank: int, ranks: int, run: Path | None) -> dict[str, Any]:
    """Train with augmentation and batch normalisation; what all of it left behind."""
    random.seed(rank)
    np.random.seed(rank)  # noqa: NPY002 — the global state is what must not be touched
    torch.manual_seed(0)
    from torchvision.models.resnet import BasicBlock, ResNet

    network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=CLASSES)
    model = DistributedDataParallel(network)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    rows = ranks * BATCH * STEPS // EPOCHS
    data = TensorDataset(torch.randn(rows, 3, 16, 16), torch.arange(rows) % CLASSES)
    held_out = TensorDataset(data.tensors[0][:17], data.tensors[1][:17])  # odd: a row of padding
    sampler: Any = DistributedSampler(data, ranks, rank)
    train: Any = DataLoader(data, BATCH, sampler=sampler)
    own: Any = DistributedSampler(held_out, ranks, rank, shuffle=False)
    val: Any = DataLoader(held_out, BATCH, sampler=own)
    torch.manual_seed(100 + rank)
    monitor = None
    if run is not None:
        callbacks = [pm.EarlyStopping("val/loss", patience=9), pm.Checkpoint(), pm.LeakageCheck()]
        metrics = pm.MulticlassMetrics(CLASSES, curves=True)
        monitor = pm.Monitor(metrics, run=run, callbacks=callbacks, progress=False)
        monitor.attach(model, criterion=criterion, optimizer=optimizer)
        train, val = monitor.train(train), monitor.validate(val)
    losses = hashlib.sha256()
    steps = 0
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        model.train()
        for x, y in train:
            if torch.rand(()) < 0.5:
                x = x.flip(-1)
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            losses.update(loss.detach().numpy().tobytes())
            steps += 1
        model.eval()
        with torch.no_grad():
            for x, y in val:
                losses.update(criterion(model(x), y).numpy().tobytes())
        if monitor is not None:
            scores = monitor.end_epoch()
    if monitor is not None:
        assert [repr(fault) for fault in monitor.faults.all()] == []
        assert scores["val/accuracy"].n == 17
        monitor.close()
    assert steps == STEPS
    parameters = hashlib.sha256()
    for value in network.state_dict().values():
        parameters.update(value.numpy().tobytes())
    for parameter in network.parameters():
        assert parameter.grad is not None
        parameters.update(parameter.grad.numpy().tobytes())
    return {
        "losses": losses.hexdigest(),
        "parameters": parameters.hexdigest(),
        "torch": torch.get_rng_state().tolist(),
        "python": random.getstate(),
        "numpy": repr(np.random.get_state()),  # noqa: NPY002
    }


def with_and_without(rank: int, run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return trained(rank, 2, run), trained(rank, 2, None)


@pytest.mark.slow
@pytest.mark.fault(34)
def test_a_hundred_steps_on_two_ranks_leave_the_same_bits(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    run = tmp_path / "run"
    found = run_ranks(with_and_without, 2, tmp_path / "ranks", run, deadline_s=300)
    for watched, plain in found:
        assert watched == plain
    assert len({watched["parameters"] for watched, _ in found}) == 1
    assert len({watched["losses"] for watched, _ in found}) == 2
    assert len(pm.read_history(run)["val/accuracy"]) == EPOCHS
