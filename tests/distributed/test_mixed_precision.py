"""What is counted does not change its type with a model that is sharded in mixed precision."""

from pathlib import Path
from typing import Any

import pytest
import torch
from gloo_ranks import run_ranks
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

import ptmetrics as pm


def sharded(rank: int) -> dict[str, Any]:
    """A metric that the model holds, and a monitor on it, beside a count of the same answers."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    held = pm.MulticlassMetrics(3)
    model.metrics = held
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, torch.bfloat16)
    fully_shard(model, mp_policy=policy)
    alone = pm.MulticlassMetrics(3)
    criterion = nn.CrossEntropyLoss()
    monitor = pm.Monitor(pm.MulticlassMetrics(3), progress=False, on_fault="raise")
    with monitor.attach(model, criterion=criterion):
        for seed in range(3):
            generator = torch.Generator().manual_seed(10 * seed + rank)
            x = torch.randn(20, 8, generator=generator)
            y = x[:, :3].argmax(1)
            output = model(x)
            criterion(output.float(), y).backward()
            held.update(output, y)
            alone.update(output.detach().clone(), y)
        scores = monitor.end_epoch()
    cells = held.state_dict()["cells"]
    same = all(cells[name].equal(cell) for name, cell in alone.state_dict()["cells"].items())
    return {
        "output": str(output.dtype),
        "types": {str(cell.dtype) for cell in cells.values()},
        "same": same,
        "rows": scores.counts["train_samples"],
        "hits": held.compute()["accuracy"].value * 60,
        "accuracy": scores["train/accuracy"].value,
    }


@pytest.mark.slow
@pytest.mark.fault(14)
@pytest.mark.parametrize("ranks", [1, 2])
def test_sharding_in_mixed_precision_leaves_the_counts_as_they_are(
    ranks: int, tmp_path: Path
) -> None:
    found = run_ranks(sharded, ranks, tmp_path)
    for told in found:
        assert told["output"] == "torch.bfloat16"
        assert told["types"] == {"torch.int64", "torch.float64"}
        assert told["same"]
        assert told["rows"] == 60 * ranks
    hits = sum(told["hits"] for told in found)
    assert found[0]["accuracy"] == pytest.approx(hits / (60 * ranks), rel=1e-12)
