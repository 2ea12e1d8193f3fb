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

from ptmetrics.counts.accumulator import OF_GROUPS, Accumulator
from ptmetrics.counts.batch import Batch
from ptmetrics.counts.cell import State
from ptmetrics.counts.modes import capturing, outside_inference

KERNEL_DEVICES: set[str] = set()
"""Types of devices whose batches a kernel reads: none by default, until it was tried on a card."""
if os.environ.get("PTMETRICS_KERNELS") == "1":
    KERNEL_DEVICES.add("cuda")
KERNEL_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
TABLE_LINES = 2048  # of a table: one for each warp
FOLDERS = 16  # programs that add up lines, before the last one adds up theirs
ROWS_OF_WARP = 128  # of some numbers each, that a warp holds at a time
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


class BoundCells(NamedTuple):
    """The cells of a metric as an operation is given them, and what its kernel needs beside them."""

    state: State
    form: tuple[int, bool]
    names: str
    cells: list[Tensor]
    table: Tensor
    words: Tensor
    aligned: bool


class CellKernel:
    """What every `BatchKernel` keeps of the metric that it counts for."""

    _bound: BoundCells | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_bound": None}  # a copy makes room of its own

    def bound_to(
        self, state: State, device: torch.device, numbers: int, words: int, *, grouped: bool
    ) -> BoundCells:
        """The cells of a state, with room for lines of sums and for integers that are 0 between launches.

        Args:
            state: Of the accumulator, with room for what the batch brings.
            device: Where it lives.
            numbers: How many sums all lines hold.
            words: How many integers.
            grouped: Whether cells of groups are added to.
        """
        bound = self._bound
        if bound is None or bound.state is not state or bound.form != (len(state), grouped):
            bound = self._bind(state, device, numbers, words, grouped)
        return bound

    @outside_inference
    def _bind(
        self, state: State, device: torch.device, numbers: int, words: int, grouped: bool
    ) -> BoundCells:
        """Name the cells, and make room: this metric's alone, for two may count at once, on streams of their own."""
        names = [name for name in state if grouped or not name.startswith(OF_GROUPS)]
        cells = [state[name] for name in names]
        kept = self._bound
        if kept is not None and kept.table.device == device:
            room = (kept.table, kept.words)
        else:
            table = torch.empty(numbers, dtype=torch.float64, device=device)
            room = (table, torch.zeros(words, dtype=torch.int64, device=device))
        aligned = all(cell.storage_offset() % 2 == 0 for cell in cells)
        form = (len(state), grouped)
        self._bound = BoundCells(state, form, " ".join(names), cells, *room, aligned)
        return self._bound


@cache
def cells_taken(wanted: tuple[Any, ...], names: str) -> list[Any]:
    """What takes the cells of each argument from those of these names, behind which stands a None.

    Args:
        wanted: Names, or some in a tuple; a "*" stands for the cell, that of Σw and that of Σw².
        names: Of the cells of a state, a space between them.
    """
    places = {name: place for place, name in enumerate(names.split())}
    getters = []
    for name in wanted:
        some = name
        if isinstance(name, str):
            some = (name,)
            if name.endswith("*"):
                some = tuple(name.replace("*", twin) for twin in ("", ".weight", ".square"))
        found = [places.get(one, -1) for one in some]
        if found[0] < 0:
            found = [-1]
        getters.append(itemgetter(*found))
    return getters


def power_of_two(number: int) -> int:
    """The next one."""
    return 1 << (number - 1).bit_length()


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
