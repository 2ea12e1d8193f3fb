"""How many functions of the package a step and the end of an epoch pass through: counted.

A reader follows each of them, and each costs a tenth of a microsecond at the least.
"""

import cProfile
import pstats
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from loops import quiet
from torch import nn

import ptmetrics as pm
from ptmetrics.monitor.recorder import TOLD_ANSWERS

HOME = Path(pm.__file__).parent
# Of a step two are the watched calls of model and criterion, in the place of torch's own for hooks.
OURS = {"step": 32, "end_epoch": 108}  # calls of functions in monitor/
WRITING = 176  # calls in monitor/ and record/ at the end of an epoch
WHOLE = {"step": 36, "end_epoch": 620}  # calls in the whole package
COUNT_WRITING = True  # True once record/ writes a line in so few
COUNT_WHOLE = True  # True once metrics/ and counts/ take so few
ROWS, CLASSES, BATCHES = 64, 10, 32


def calls_by_room(run: Callable[[], object]) -> Counter[str]:
    """Calls of the package's own functions, by room."""
    profile = cProfile.Profile()
    profile.runcall(run)
    calls: Counter[str] = Counter()
    stats: Any = pstats.Stats(profile)
    for (file, _, _), (_, count, *_rest) in stats.stats.items():
        if Path(file).is_relative_to(HOME):
            calls[Path(file).relative_to(HOME).parts[0]] += count
    return calls


def monitored(monitor: pm.Monitor) -> Callable[[str, int], None]:
    """A pass over so many batches of a monitored loader, with hooks on."""
    model, criterion = nn.Linear(8, CLASSES), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor.attach(model, criterion=criterion, optimizer=optimizer)
    batch = torch.randn(ROWS, 8), torch.arange(ROWS) % CLASSES

    def run(split: str, batches: int) -> None:
        model.train(split == "train")
        loaders = {"train": monitor.train, "val": monitor.validate}
        with torch.set_grad_enabled(split == "train"):
            for x, y in loaders[split]([batch] * batches):
                loss = criterion(model(x), y)
                if split == "train":
                    loss.backward()
                    optimizer.step()

    return run


def test_a_monitored_validation_step_passes_through_few_functions() -> None:
    with quiet(metrics=pm.MulticlassMetrics(CLASSES)) as monitor:
        run = monitored(monitor)
        run("val", 2)
        # The first batches of a pass are looked at by what watches the loop.
        one = calls_by_room(lambda: run("val", TOLD_ANSWERS))
        many = calls_by_room(lambda: run("val", TOLD_ANSWERS + BATCHES))
    step = {room: (many[room] - one[room]) / BATCHES for room in many}
    assert 0 < step["monitor"] <= OURS["step"], step
    if COUNT_WHOLE:
        assert sum(step.values()) <= WHOLE["step"], step


def test_the_end_of_an_epoch_passes_through_few_functions(tmp_path: Path) -> None:
    metrics = pm.MulticlassMetrics(CLASSES)
    with quiet(run=tmp_path / "run", metrics=metrics) as monitor:
        run = monitored(monitor)
        for _ in range(
            2
        ):  # the first is counted as well, and thrown away: modules are imported in it
            run("train", 2)
            run("val", 2)
            calls = calls_by_room(monitor.end_epoch)
    assert 0 < calls["monitor"] <= OURS["end_epoch"], calls
    if COUNT_WRITING:
        assert calls["monitor"] + calls["record"] <= WRITING, calls
    if COUNT_WHOLE:
        assert sum(calls.values()) <= WHOLE["end_epoch"], calls
