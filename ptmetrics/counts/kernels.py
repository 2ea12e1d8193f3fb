"""Which batches a Triton kernel may read, and its launch: what all kernels share on the host.

With PTMETRICS_KERNELS=1 in the environment Triton is imported when the first batch on CUDA comes.
Without it, and for whatever a kernel does not read, the tensor operations do the same work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.library import Library, register_fake

from ptmetrics.counts.accumulator import Accumulator
from ptmetrics.counts.batch import Batch
from ptmetrics.counts.modes import capturing

KERNEL_DEVICES: set[str] = set()
"""Types of devices whose batches a kernel reads: none by default, until it was tried on a card."""
if os.environ.get("PTMETRICS_KERNELS") == "1":
    KERNEL_DEVICES.add("cuda")
KERNEL_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
TABLE_LINES = 2048  # of a table: one for each warp
FIRST_LONG = 2**31  # from here on a number takes 64 bits
_LIBRARY = Library("ptmetrics", "FRAGMENT")
_KEPT: dict[Any, Any] = {}  # compiled kernels, whose launch looks at no argument again
_FAILED: dict[torch.device, str] = {}


class KernelError(Exception):
    """Triton cannot compile or load the kernel here; nothing was counted, the tensor operations do it."""


class BatchKernel(Protocol):
    """What counts ordinary batches of a metric in one launch."""

    def add_(self, accumulator: Accumulator, batch: Batch) -> bool:
        """Count a batch as the tensor operations would, or leave it to them; whether it was counted."""
        ...


class Launch(NamedTuple):
    """A launch of a kernel: what it is compiled for, how many programs of how many warps, and its numbers."""

    plan: Any
    programs: int
    warps: int
    numbers: tuple[int, ...]


def power_of_two(number: int) -> int:
    """The next one."""
    return 1 << (number - 1).bit_length()


@cache
def getters(names: str, wanted: tuple[Any, ...]) -> list[Any]:
    """For each argument what takes its cells from those of these names, behind which stands a None.

    Args:
        names: Of the cells, with a space between them.
        wanted: Of each argument the name, or a tuple of them; a "*" stands for the cell, that of Σw
            and that of Σw².
    """
    places = {name: place for place, name in enumerate(names.split())}
    found = []
    for name in wanted:
        some = name
        if isinstance(name, str):
            some = (name,)
            if name.endswith("*"):
                some = tuple(name.replace("*", twin) for twin in ("", ".weight", ".square"))
        here = [places.get(one, -1) for one in some]
        if here[0] < 0:
            here = [-1]
        found.append(itemgetter(*here))
    return found


@cache
def has_triton() -> bool:
    """Whether there is a Triton for CUDA; it is not imported."""
    return torch.version.hip is None and find_spec("triton") is not None


def may_read(scores: Tensor) -> bool:
    """Whether a kernel may read scores where they are."""
    device = scores.device
    return device.type in KERNEL_DEVICES and device not in _FAILED and has_triton()


def asked(operation: Callable[..., None], read: Tensor, *given: Any) -> bool:
    """Whether an operation counted a batch; where its kernel cannot be had, no other is asked on that device."""
    try:
        operation(read, *given)
    except KernelError as error:
        if not capturing(read):
            _FAILED[read.device] = str(error)
        return False
    return True


def launch_kernel(
    kernel: Callable[[], Any],
    launch: Launch,
    names: str,
    read: Sequence[Tensor | None],
    given: tuple[Any, ...],
) -> None:
    """Launch a kernel as it was compiled for arguments of this form.

    Args:
        kernel: Imports it.
        launch: The plan, grid and numbers.
        names: The cells that it adds to.
        read: The tensors of the batch, the first of which tells the device.
        given: All its arguments.

    Raises:
        KernelError: If it cannot be compiled or loaded.
    """
    first = read[0]
    assert first is not None  # a batch has predictions
    # A compiled kernel takes the types of its arguments for granted, and how they are aligned.
    plain = max(launch.numbers) < FIRST_LONG
    kinds = []
    for values in read:
        kinds.append(None if values is None else values.dtype)
        plain = plain and (values is None or not values.data_ptr() % 16)
    key = (launch.plan, names, first.device, *kinds)
    kept = _KEPT.get(key)
    grid = (launch.programs, 1, 1)
    with _on_device_of(first):
        if plain and kept is not None:
            kept[grid](*given)
            return
        if capturing(first):
            raise KernelError("the first such batch came while a CUDA graph was captured")
        try:
            compiled = kernel()[grid](*given, num_warps=launch.warps)
        except Exception as error:
            raise KernelError(str(error)) from error
    if plain and compiled is not None:  # an interpreter compiles nothing
        _KEPT[key] = compiled


def _on_device_of(values: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the device that is the current one."""
    if values.is_cuda and values.get_device() != torch.cuda.current_device():
        return torch.cuda.device(values.device)
    return nullcontext()


def define_operation(name: str, signature: str, operation: Callable[..., None]) -> None:
    """Make an operation that torch, its compiler and its guards see as one; it does nothing without values."""
    _LIBRARY.define(f"{name}({signature}) -> ()")
    _LIBRARY.impl(name, operation, "CompositeExplicitAutograd")
    register_fake(f"ptmetrics::{name}", _count_nothing, lib=_LIBRARY)


def _count_nothing(*_: Any) -> None:
    """An operation on tensors without values."""
