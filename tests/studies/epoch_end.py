"""What `compute()` and the end of an epoch cost: milliseconds, the disk's part of it, and functions passed through.

    python -m tests.studies.epoch_end [--rounds N]

The least of some rounds; "disk" is the time in `os.fsync`, which the first column leaves out. On a
machine that does other things besides, look at the time of the CPU.
"""

import argparse
import cProfile
import os
import pstats
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

import ptmetrics as pm
from ptmetrics.record.journal import Journal

HOME = Path(pm.__file__).parent
ROWS = 5000
FEATURES = 8
FSYNC = os.fsync
SYNCS: list[float] = []  # seconds of each


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line for each case as it is measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args(argv).rounds
    defaults: Any = Journal.__init__.__kwdefaults__
    with patch.object(os, "fsync", timed_fsync), patch.dict(defaults, fsync=timed_fsync):
        print_table(rounds)
    return 0


def print_table(rounds: int) -> None:
    """All cases."""
    print(
        f"| {torch.get_num_threads()} threads | ms | of CPU, ms | disk, ms | fsyncs | functions |"
    )
    print("|---|---|---|---|---|---|", flush=True)
    for name, metrics, batch in computed_cases():
        metrics.update(*batch)
        print(line(f"compute(), {name}", metrics.compute, rounds), flush=True)
    for classes in (10, 1000):
        for kind in ("record", "record, EarlyStopping, Checkpoint"):
            with epochs(classes, callbacks="," in kind) as (monitor, one_epoch):
                name = f"end_epoch(), {classes} classes, {kind}"
                print(line(name, monitor.end_epoch, rounds, one_epoch), flush=True)


def computed_cases() -> Iterator[tuple[str, pm.Metrics, tuple[torch.Tensor, torch.Tensor]]]:
    """A metric of each task, and a batch of it."""
    torch.manual_seed(0)
    for classes in (10, 1000):
        batch = torch.randn(ROWS, classes), torch.randint(0, classes, (ROWS,))
        yield f"{classes} classes", pm.MulticlassMetrics(classes), batch
    yield "binary", pm.BinaryMetrics(), (torch.randn(ROWS), torch.randint(0, 2, (ROWS,)))
    labels = torch.randn(ROWS, 20), torch.randint(0, 2, (ROWS, 20))
    yield "20 labels", pm.MultilabelMetrics(20), labels
    yield "regression", pm.RegressionMetrics(), (torch.randn(ROWS), torch.randn(ROWS))


@contextmanager
def epochs(classes: int, *, callbacks: bool) -> Iterator[tuple[pm.Monitor, Callable[[], None]]]:
    """A run that is recorded, and what counts three batches of training and of validation."""
    model = nn.Linear(FEATURES, classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    told: list[pm.Callback] = []
    if callbacks:
        told = [pm.EarlyStopping("val/loss", patience=1000), pm.Checkpoint("val/loss")]

    def one_epoch() -> None:
        for split in ("train", "train", "train", "val", "val", "val"):
            preds = model(torch.randn(64, FEATURES))
            target = torch.randint(0, classes, (64,))
            loss = nn.functional.cross_entropy(preds, target)
            monitor.update(preds, target, loss=loss, split=split)

    metrics = pm.MulticlassMetrics(classes)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        run = Path(folder) / "run"
        with (
            pm.Monitor(metrics, run=run, callbacks=told, progress=False) as monitor,
            monitor.attach(model, optimizer=optimizer),
        ):
            yield monitor, one_epoch


def line(
    name: str, call: Callable[[], object], rounds: int, before: Callable[[], None] = lambda: None
) -> str:
    """One row of the table."""
    found = []
    for _ in range(rounds + 1):  # the first one imports
        before()
        SYNCS.clear()
        start, busy = time.perf_counter(), time.process_time()
        call()
        busy = time.process_time() - busy
        whole = time.perf_counter() - start
        found.append((whole - sum(SYNCS), busy, sum(SYNCS), len(SYNCS)))
    rest, _, disk, times = min(found[1:])
    busy = min(found[1:], key=itemgetter(1))[1]
    before()
    functions = calls_of_package(call)
    return f"| {name} | {1e3 * rest:.2f} | {1e3 * busy:.2f} | {1e3 * disk:.2f} | {times} | {functions} |"


def timed_fsync(handle: Any) -> None:
    """`os.fsync`, its seconds noted."""
    start = time.perf_counter()
    FSYNC(handle)
    SYNCS.append(time.perf_counter() - start)


def calls_of_package(call: Callable[[], object]) -> int:
    """Calls of the package's own functions."""
    profile = cProfile.Profile()
    profile.runcall(call)
    stats: Any = pstats.Stats(profile)
    calls = 0
    for (file, _, _), (_, count, *_rest) in stats.stats.items():
        if Path(file).is_relative_to(HOME):
            calls += count
    return calls


if __name__ == "__main__":
    raise SystemExit(main())
