"""A loop of Accelerate: its loaders repeat samples too, whole batches of them, which are left out."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from gloo_ranks import run_ranks
from test_monitor_ranks import CLASSES, FEATURES, quiet, samples
from torch import nn
from torch.utils.data import DataLoader

import ptmetrics as pm

pytest.importorskip("accelerate")


def prepared(rank: int, ranks: int, split: bool, even: bool) -> list[dict[str, Any]]:
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration

    for name, value in (("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", ranks)):
        os.environ[name] = str(value)  # as its launcher does
    os.environ.update(LOCAL_WORLD_SIZE=str(ranks), MASTER_ADDR="localhost", MASTER_PORT="1")
    found = []
    config = DataLoaderConfiguration(split_batches=split, even_batches=even)
    accelerator = Accelerator(cpu=True, dataloader_config=config)
    for rows, size in ((23, 4), (9, 4), (16, 4), (5, 2), (3, 8)):
        torch.manual_seed(0)
        model = nn.Linear(FEATURES, CLASSES)
        criterion = nn.CrossEntropyLoss()
        loader = DataLoader(samples(rows), batch_size=size)
        model, loader = accelerator.prepare(model, loader)
        monitor = quiet()
        monitor.attach(model, criterion=criterion)
        model.eval()
        with torch.no_grad():
            for x, y in monitor.validate(loader):
                criterion(model(x), y)
        scores = monitor.end_epoch()
        found.append(
            {
                "n": scores["val/accuracy"].n,
                "matrix": scores.splits["val"].confusion.tolist(),
                "loss": scores["val/loss"].value,
                "notes": list(scores.splits["val"].notes),
                "faults": [repr(fault) for fault in monitor.faults.all()],
            }
        )
        monitor.close()
    return found


@pytest.mark.slow
@pytest.mark.fault(9)
@pytest.mark.parametrize("split", [False, True], ids=["batches", "split batches"])
@pytest.mark.parametrize("even", [True, False], ids=["even", "uneven"])
def test_the_padding_of_accelerate_is_left_out(split: bool, even: bool, tmp_path: Path) -> None:
    first, second = run_ranks(prepared, 2, tmp_path, 2, split, even)
    assert first == second
    for rows, each in zip((23, 9, 16, 5, 3), first, strict=True):
        data = samples(rows)
        torch.manual_seed(0)
        model = nn.Linear(FEATURES, CLASSES)
        with torch.no_grad():
            preds = model(data.tensors[0])
            loss = nn.functional.cross_entropy(preds, data.tensors[1]).item()
        matrix = torch.zeros(CLASSES, CLASSES, dtype=torch.int64)
        matrix.index_put_((data.tensors[1], preds.argmax(1)), torch.tensor(1), accumulate=True)
        assert each["faults"] == []
        assert each["matrix"] == matrix.tolist(), rows
        assert each["loss"] == pytest.approx(loss, rel=1e-5)
        assert each["notes"][0].startswith(f"{rows} of {rows} rows were counted on 2 ranks")


def gathered(rank: int, folder: Path) -> list[list[str]]:
    """Four validations: what all ranks have gathered, its own share, and both by labels."""
    from accelerate import Accelerator

    for name, value in (("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", 2)):
        os.environ[name] = str(value)
    os.environ.update(LOCAL_WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT="1")
    accelerator = Accelerator(cpu=True)
    found = []
    for labels in (False, True):
        for gathers in (True, False):
            torch.manual_seed(0)
            model = accelerator.prepare(nn.Linear(FEATURES, CLASSES)).eval()
            loader = accelerator.prepare(DataLoader(samples(24), batch_size=4))
            run = folder / f"run{len(found)}"
            inputs = "labels" if labels else "logits"
            monitor = pm.Monitor(
                pm.MulticlassMetrics(CLASSES, inputs=inputs), run=run, progress=False
            )
            with torch.no_grad():
                for x, y in loader:
                    preds = model(x)
                    loss = nn.functional.cross_entropy(preds, y)
                    if labels:  # those of a perfect model: both shares are the same
                        preds = y = torch.arange(len(y)) % CLASSES
                    if gathers:
                        preds, y = accelerator.gather_for_metrics((preds, y))
                    monitor.update(preds, y, loss=None if labels else loss, split="val")
            monitor.end_epoch()
            monitor.close()
            codes = [each.code for each in pm.judge(run).findings] if rank == 0 else []
            found.append([code for code in codes if code == "padded-duplicates"])
    return found


@pytest.mark.slow
@pytest.mark.fault(9)
def test_rows_that_each_rank_has_gathered_are_told_and_equal_labels_are_not(tmp_path: Path) -> None:
    first, _ = run_ranks(gathered, 2, tmp_path / "ranks", tmp_path)
    assert first == [["padded-duplicates"], [], [], []]
