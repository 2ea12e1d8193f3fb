"""Which batches a Triton kernel may read, and its launch: what all kernels share on the host.

With PTMETRICS_KERNELS=1 in the environment Triton is imported when the first batch on CUDA comes.
Without it, and for whatever a kernel does not read, the tensor operations do the same work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
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
from ptmetrics.counts.subgroups import BUCKETS

KERNEL_DEVICES: set[str] = set()
"""Types of devices whose batches a kernel reads: none by default, until it was tried on a card."""
if os.environ.get("PTMETRICS_KERNELS") == "1":
    KERNEL_DEVICES.add("cuda")
KERNEL_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
TABLE_LINES = 2048  # of a table: one for each warp
FOLDERS = 16  # programs that add up lines, before the last one adds up theirs
ROWS_OF_WARP = 128  # of some numbers each, that a warp holds at a time
FIRST_LONG = 2**31  # from here on a number takes 64 bits
OPERANDS = (
    "Tensor preds, Tensor target, Tensor? weight, Tensor(a!)[] cells, Tensor(b!) table, "
    "Tensor(c!) words, str names, int[] given"
)
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
    cells: list[Tensor]
    table: Tensor
    words: Tensor
    names: str
    aligned: bool  # whether a kernel that was compiled before can read them

    def with_parts(self) -> BoundCells:
        """The same with every cell of the state, those of slices and groups among them."""
        return self._replace(cells=list(self.state.values()), names=" ".join(self.state))


class Operands(NamedTuple):
    """What each operation is given first: a batch, the cells, and whole numbers, the first of which is the step."""

    preds: Tensor
    target: Tensor
    weight: Tensor | None
    cells: Sequence[Tensor]
    table: Tensor
    words: Tensor
    names: str
    given: Sequence[int]

    @property
    def stride_w(self) -> int:
        """Stride of the weights, 0 for none."""
        return 0 if self.weight is None else self.weight.stride(0)

    @property
    def weighted(self) -> bool:
        """Whether there are cells for weights."""
        return "rows.weight" in self.names

    def arguments(self, launch: Launch, wanted: Any, *beside: Tensor | None) -> tuple[Any, ...]:
        """What a kernel is given, in the order of its arguments: `wanted` names its cells."""
        cells = cells_taken(wanted, self.names)([*self.cells, None])
        numbers = (self.given[0], *launch.numbers)
        return (*self[:3], cells, self.table, self.words, *numbers, *beside, launch.plan)


class CellKernel:
    """What every `BatchKernel` keeps of the metric that it counts for."""

    columns: int
    """Of a line."""
    words: int
    """Integers that are 0 between launches."""
    by_place = True
    """Whether weights are added up in any order."""
    _bound: BoundCells | None = None
    _tried: tuple[BoundCells, object] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_bound": None, "_tried": None}  # a copy makes room of its own

    def bound_to(self, accumulator: Accumulator, batch: Batch) -> BoundCells | None:
        """The cells that a batch is added to, with room for lines and words; None for what no kernel counts."""
        weighted = accumulator.weighted or batch.weight is not None
        if weighted and self.by_place and torch.are_deterministic_algorithms_enabled():
            return None
        if batch.weight is not None and batch.weight.dtype not in KERNEL_TYPES:
            return None
        if isinstance(batch.step, Tensor) or len(batch) >= FIRST_LONG:
            return None
        state = accumulator.cells_for(batch)
        form = (len(state), bool(batch.sample_shape))
        bound = self._bound
        if bound is None or bound.state is not state or bound.form != form:
            bound = self._bind(state, batch.preds.device, form)
        return bound if bound.aligned else None

    @outside_inference
    def _bind(self, state: State, device: torch.device, form: tuple[int, bool]) -> BoundCells:
        """Name the cells, and make room: this metric's alone, for two may count at once, on streams of their own."""
        names = [name for name in state if form[1] or not name.startswith(OF_GROUPS)]
        cells = [state[name] for name in names]
        kept = self._bound
        if kept is not None and kept.table.device == device:
            room = (kept.table, kept.words)
        else:
            lines = (TABLE_LINES + BUCKETS, self.columns)
            table = torch.empty(lines, dtype=torch.float64, device=device)
            room = (table, torch.zeros(self.words, dtype=torch.int64, device=device))
        aligned = _are_aligned(cells)
        self._bound = BoundCells(state, form, cells, *room, " ".join(names), aligned)
        return self._bound

    def may_add(
        self, bound: BoundCells, parts: Sequence[Any], batch: Batch, add: Callable[[], bool]
    ) -> bool:
        """Whether the kernel of parts can be had: it is tried with no rows, before anything is counted."""
        form = (batch.weight is None or batch.weight.dtype, len(parts))
        tried = self._tried
        if not parts or (tried is not None and tried[0] is bound and tried[1] == form):
            return True
        self._tried = None
        if not _are_aligned(bound.state.values()) or not add():
            return False
        self._tried = (bound, form)
        return True


def _are_aligned(cells: Iterable[Tensor]) -> bool:
    return all(cell.storage_offset() % 2 == 0 for cell in cells)


@cache
def cells_taken(wanted: Any, names: str) -> Callable[[Sequence[Any]], Any]:
    """What takes wanted cells from those of these names, behind which stands a None.

    Args:
        wanted: A name, or some in a tuple; a "*" stands for the cell, that of Σw and that of Σw².
            A named tuple of these, or of such tuples, is taken as it is.
        names: Of the cells of a state, a space between them.
    """
    if hasattr(wanted, "_fields"):
        getters = [cells_taken(one, names) for one in wanted]
        return lambda some: type(wanted)(*[getter(some) for getter in getters])
    places = {name: place for place, name in enumerate(names.split())}
    if isinstance(wanted, str):
        twins = ("", ".weight", ".square") if wanted.endswith("*") else ("",)
        wanted = tuple(wanted.replace("*", twin) for twin in twins)
    found = [places.get(one, -1) for one in wanted]
    if found[0] < 0:
        found = [-1]
    return itemgetter(*found)


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


def define_operation(
    name: str,
    further: str,
    arguments: Callable[..., tuple[Launch, tuple[Any, ...]]],
    kernel: Callable[[Any], Any],
) -> None:
    """Make an operation that torch, its compiler and its guards see as one; it does nothing without values.

    Args:
        name: Of the operation.
        further: What it is given beside `Operands`.
        arguments: A launch, and what the kernel is given.
        kernel: Imports the kernel of a plan.
    """

    def operation(*operands: Any) -> None:
        launch, given = arguments(Operands(*operands[:8]), *operands[8:])
        _launch(kernel, launch, operands[6], given)

    _LIBRARY.define(f"{name}({OPERANDS}{further}) -> ()")
    _LIBRARY.impl(name, operation, "CompositeExplicitAutograd")
    register_fake(f"ptmetrics::{name}", _count_nothing, lib=_LIBRARY)


def _count_nothing(*_: Any) -> None:
    """An operation on tensors without values."""


def _launch(
    kernel: Callable[[Any], Any], launch: Launch, names: str, given: tuple[Any, ...]
) -> None:
    """Launch a kernel as it was compiled for arguments of this form; the first tells the device.

    Raises:
        KernelError: If it cannot be compiled or loaded.
    """
    first = given[0]
    # A compiled kernel takes the types of its arguments for granted, and how they are aligned.
    plain = max(launch.numbers) < FIRST_LONG
    kinds: list[torch.dtype | None] = []
    for values in (*given[:3], given[-2]):
        kind = None
        if isinstance(values, Tensor):
            kind = values.dtype
            plain = plain and not values.data_ptr() % 16
        kinds.append(kind)
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
            compiled = kernel(launch.plan)[grid](*given, num_warps=launch.warps)
        except Exception as error:
            raise KernelError(str(error)) from error
    if plain and compiled is not None:  # an interpreter compiles nothing
        _KEPT[key] = compiled


def _on_device_of(values: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the device that is the current one."""
    if values.is_cuda and values.get_device() != torch.cuda.current_device():
        return torch.cuda.device(values.device)
    return nullcontext()
