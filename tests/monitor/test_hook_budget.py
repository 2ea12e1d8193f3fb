"""What a hooked monitor may add to a loop: operations, Python calls and bytes, counted.

The numbers are budgets, not wishes: quicker code lowers them here.
"""

import gc
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from loops import quiet
from torch import Tensor, nn

import ptmetrics as pm
from ptmetrics.testing import Operations

ROWS, CLASSES = 64, 10
BATCHES = 128  # what is counted once in some thousand rows is in the mean


class Budget(NamedTuple):
    """Added to one batch, mean of 128 batches."""

    operations: float
    calls: float  # of Python functions
    new_bytes: float  # of tensors that operations return


BUDGETS = {
    "train": Budget(operations=7, calls=48, new_bytes=46_000),
    "val": Budget(operations=7, calls=48, new_bytes=46_000),
}
# Of Python, each batch: a training step leaves its duration, 32 bytes, for the epoch's quantiles.
# The rest is room for the interpreter's own caches; one small object kept a batch would be above it.
KEPT_BYTES = {"train": 80, "val": 32}
phases = pytest.mark.parametrize("phase", BUDGETS)


class Bytes(Operations):
    """Also adds up the bytes of what operations return."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.largest_bytes = 0
        result = super().__torch_dispatch__(func, types, args, kwargs)
        self.total += self.largest_bytes if kwargs is None or "out" not in kwargs else 0
        return result


def loop(phase: str, *, hooked: bool) -> Callable[[int], None]:
    """A loop that goes through so many batches, its first ones behind it."""
    torch.manual_seed(0)
    model, criterion = nn.Linear(8, CLASSES), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(ROWS, 8), torch.arange(ROWS) % CLASSES
    model.train(phase == "train")
    if hooked:
        monitor = quiet(metrics=pm.MulticlassMetrics(CLASSES, topk=(1, 5)))
        monitor.attach(model, criterion=criterion, optimizer=optimizer)

    def run(batches: int) -> None:
        with torch.set_grad_enabled(phase == "train"):
            for _ in range(batches):
                loss = criterion(model(x), y)
                if phase == "train":
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()

    run(BATCHES)
    return run


def calls(run: Callable[[int], None]) -> int:
    counted = [0]

    def count(frame: object, event: str, argument: object) -> None:
        counted[0] += event == "call"

    sys.setprofile(count)
    try:
        run(BATCHES)
    finally:
        sys.setprofile(None)
    return counted[0]


def dispatched(run: Callable[[int], None]) -> Bytes:
    with Bytes() as seen:
        run(BATCHES)
    return seen


def added(measure: Callable[[Callable[[int], None]], float], phase: str) -> float:
    return (measure(loop(phase, hooked=True)) - measure(loop(phase, hooked=False))) / BATCHES


@phases
def test_a_hooked_batch_stays_within_its_budget_of_operations(phase: str) -> None:
    number = added(lambda run: len(dispatched(run).names), phase)
    assert 0 < number <= BUDGETS[phase].operations, number


@phases
def test_a_hooked_batch_stays_within_its_budget_of_python_calls(phase: str) -> None:
    number = added(calls, phase)
    assert 0 < number <= BUDGETS[phase].calls, number


@phases
def test_a_hooked_batch_stays_within_its_budget_of_new_bytes(phase: str) -> None:
    number = added(lambda run: dispatched(run).total, phase)
    assert number <= BUDGETS[phase].new_bytes, number


@pytest.mark.slow
@phases
def test_memory_of_python_is_flat_from_batch_to_batch(phase: str) -> None:
    run = loop(phase, hooked=True)
    tracemalloc.start()
    try:
        run(2 * BATCHES)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        run(4 * BATCHES)
        gc.collect()
        grown = (tracemalloc.get_traced_memory()[0] - before) / (4 * BATCHES)
    finally:
        tracemalloc.stop()
    assert grown <= KEPT_BYTES[phase], grown


@pytest.mark.slow
@phases
def test_no_tensor_is_kept_from_batch_to_batch(phase: str) -> None:
    run = loop(phase, hooked=True)
    run(2 * BATCHES)  # where batches wait was full once, and is made
    before = tensors_alive()
    run(BATCHES)
    assert tensors_alive() == before


def tensors_alive() -> int:
    gc.collect()
    return sum(type(thing) is Tensor for thing in gc.get_objects())
