"""A loop of Accelerate: steps of its optimizer, what it stores. Its ranks: tests/distributed."""

from pathlib import Path

import pytest
import torch
from plain_loop import ROWS, loader, net, same_run, trained
from torch import nn

import ptmetrics as pm

pytest.importorskip("accelerate")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

from accelerate import Accelerator  # noqa: E402

from ptmetrics.integrations.accelerate import attach_prepared  # noqa: E402


def run(
    epochs: int, accumulate: int, folder: Path | None = None, resume: bool = False
) -> pm.Monitor:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    model = net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    train, val = loader(ROWS, 1), loader(30, 2)
    model, optimizer, train, val = accelerator.prepare(model, optimizer, train, val)
    monitor = pm.Monitor(pm.MulticlassMetrics(3), progress=False)
    attach_prepared(monitor, accelerator, model, criterion=criterion, optimizer=optimizer)
    if resume:
        accelerator.load_state(str(folder))
    while monitor.epoch < epochs:
        model.train()
        for x, y in monitor.train(train):
            with accelerator.accumulate(model):
                accelerator.backward(criterion(model(x), y))
                optimizer.step()
                optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            for x, y in monitor.validate(val):
                criterion(model(x), y)
        monitor.end_epoch()
    if folder is not None:
        accelerator.save_state(str(folder))
    return monitor


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_counts_are_those_of_a_plain_loop(accumulate: int) -> None:
    same_run(run(3, accumulate), trained(3, accumulate))


def test_save_state_holds_the_run(tmp_path: Path) -> None:
    run(2, 1, tmp_path / "state")
    again = run(4, 1, tmp_path / "state", resume=True)
    plain = trained(4)
    assert again.epoch == 4
    assert again.scores.counts == plain.scores.counts
    assert (
        again.scores.splits["val"].confusion.tolist()
        == plain.scores.splits["val"].confusion.tolist()
    )
