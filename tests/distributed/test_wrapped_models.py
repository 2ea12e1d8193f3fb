"""Models that are sharded, or whose ranks have unlike numbers of batches, are counted as others are."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from gloo_ranks import run_ranks
from test_monitor_ranks import CLASSES, FEATURES, quiet, samples
from torch import nn
from torch.distributed.algorithms.join import Join
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

import ptmetrics as pm

ROWS = 21


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, CLASSES))


def fitted(
    model: nn.Module, monitor: Any, loader: Any, val_loader: Any, joins: Any = nullcontext
) -> dict[str, Any]:
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if monitor is not None:
        monitor.attach(model, criterion=criterion, optimizer=optimizer)
        loader = monitor.train(loader)
    with joins([model]):
        for x, y in loader:
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        for x, y in val_loader if monitor is None else monitor.validate(val_loader):
            criterion(model(x), y)
    found: dict[str, Any] = {}
    if monitor is not None:
        scores = monitor.end_epoch()
        found["faults"] = [repr(fault) for fault in monitor.faults.all()]
        found["n"] = [scores["train/accuracy"].n, scores["val/accuracy"].n]
        found["matrix"] = scores.splits["val"].confusion.tolist()
        monitor.close()
    return found


def state(model: nn.Module) -> list[Any]:
    values = [getattr(value, "full_tensor", lambda v=value: v)() for value in model.parameters()]
    return [value.detach().tolist() for value in values]


def sharded(rank: int) -> list[dict[str, Any]]:
    found = []
    for monitor in (quiet(), None):
        model = network()
        fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
        sampler: Any = DistributedSampler(samples(ROWS), 2, rank, shuffle=False)
        loader = DataLoader(samples(ROWS), batch_size=4, sampler=sampler)
        result = fitted(model, monitor, loader, loader)
        found.append({**result, "state": state(model)})
    return found


@pytest.mark.fault(34)
@pytest.mark.slow
def test_a_sharded_model_is_counted_and_not_touched(tmp_path: Path) -> None:
    first, second = run_ranks(sharded, 2, tmp_path)
    assert first == second
    watched, plain = first
    assert watched["faults"] == []
    assert watched["n"] == [ROWS, ROWS]
    assert watched["state"] == plain["state"]


def joined(rank: int) -> dict[str, Any]:
    """Rank 0 has 8 rows in 2 batches, rank 1 has 20 in 5."""
    data = samples(8 + 12 * rank, rank)
    model = DistributedDataParallel(network())
    return fitted(model, quiet(), DataLoader(data, 4), DataLoader(data, 4), Join)


@pytest.mark.slow
def test_uneven_ranks_under_join_are_counted_exactly(tmp_path: Path) -> None:
    first, second = run_ranks(joined, 2, tmp_path)
    assert first["n"] == second["n"] == [28, 28]
    assert first["matrix"] == second["matrix"]
    assert first["faults"] == second["faults"] == []


def norms(rank: int, ranks: int, parts: list[int]) -> dict[str, Any]:
    """Of a model of which these parts are sharded: what clipping returns, and what we record."""
    model = network()
    for part in parts:
        fully_shard(model[part], mesh=init_device_mesh("cpu", (ranks,)))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    monitor = quiet(pm.GradNorm())
    clipped = []
    data = samples(32)
    with monitor.attach(model, criterion=criterion, optimizer=optimizer):
        for x, y in DataLoader(data, 8):
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            grads = [parameter.grad for parameter in model.parameters()]
            whole = [getattr(grad, "full_tensor", lambda g=grad: g)() for grad in grads]
            clipped.append(nn.utils.get_total_norm(whole).item())
            optimizer.step()
        numbers = monitor.end_epoch().numbers
    return {
        "clipped": [sum(clipped) / 4, max(clipped), 0.0],
        "recorded": [numbers.get(f"grad_norm{end}") for end in ("", "_max", "_nonfinite")],
        "faults": [repr(fault) for fault in monitor.faults.all()],
    }


@pytest.mark.slow
@pytest.mark.parametrize("parts", [[0, 2], [0]], ids=["all", "a part"])
def test_the_norm_of_sharded_gradients_is_that_of_the_whole_model(
    parts: list[int], tmp_path: Path
) -> None:
    first, second = run_ranks(norms, 2, tmp_path / "two", 2, parts)
    (alone,) = run_ranks(norms, 1, tmp_path / "one", 1, [])
    assert first == second
    assert first["faults"] == alone["faults"] == []
    assert first["recorded"] == pytest.approx(first["clipped"], rel=1e-5)
    assert first["recorded"] == pytest.approx(alone["recorded"], rel=1e-5)
