"""A batch in one launch, where a kernel can read it: who may, what it is given, and the operation that torch sees.

Triton is imported when the first batch on CUDA comes. Without it, and for whatever a kernel does
not read, the tensor operations do the same work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.library import Library, register_fake

from ptmetrics.counts.accumulator import OF_GROUPS, Accumulator
from ptmetrics.counts.batch import Batch
from ptmetrics.counts.modes import capturing, outside_inference
from ptmetrics.counts.subgroups import BUCKETS

DEVICES = {"cuda"}
"""Types of devices whose batches a kernel reads."""
MOST_KERNEL_KS = 12
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LINES = 2048  # of a table: one for each program
WIDEST = 64  # columns of a line
HITS = 26  # the column of the first hits
TICKETS = 1920  # words of confidences in front of the tickets
TILE = 4096  # numbers of 4 bytes that four warps hold at a time
ROWS_OF_THREADS = 128
FEW_CLASSES = 32  # that a thread holds at a time
SOME_CLASSES = 512  # that a warp holds at a time
FOLDERS = 16  # programs that add up lines, before the last one adds up theirs
PEEL = 2  # places of a tile that are looked for, so that rows in common are one addition
# Cells in the order of the kernel's arguments; "*" stands for the cell, that of Σw and that of Σw².
CELLS = (
    "confusion*",
    "group.margins*",
    "calibration*",
    "confidence",
    "losses",
    "rows*",
    "topk_hits*",
    ("fault_count", "fault_first_step"),
    "group.losses",
    "group.rows*",
    "group.topk_hits*",
)
_KEPT: dict[Any, Any] = {}  # compiled kernels, whose launch looks at no argument again
_FAILED: dict[torch.device, str] = {}


class NoKernel(Exception):  # noqa: N818 — the tensor operations do the work
    """Triton cannot compile or load the kernel here; nothing was counted."""


@cache
def _has_triton() -> bool:
    return torch.version.hip is None and find_spec("triton") is not None


def may_read(scores: Tensor) -> bool:
    """Whether a kernel may read scores where they are."""
    device = scores.device
    return device.type in DEVICES and device not in _FAILED and _has_triton()


@dataclass
class ClassKernel:
    """Counts batches of single-label scores in one launch, each as the tensor operations would.

    Attributes:
        classes: C, up to 4,096.
        probs: Whether scores are probabilities, and not logits.
        ignore: A target value to leave out silently.
        ks: The k of top-k accuracies, up to 12.
        kinds: The kinds of faults that are counted, in their order.
    """

    classes: int
    probs: bool
    ignore: int | None
    ks: tuple[int, ...]
    _scratch: tuple[Tensor, Tensor] | None = field(default=None, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_scratch": None}

    def add_(self, accumulator: Accumulator, batch: Batch) -> bool:
        """Count a batch, or leave it to the tensor operations; no host sync.

        Args:
            accumulator: Whose cells are added to.
            batch: Rows of scores of shape (rows, C), or (N, d1, …, C) as they lie in memory.

        Returns:
            Whether it was counted.
        """
        layout = _layout(batch)
        if layout is None or not may_read(batch.preds):
            return False
        weighted = accumulator.weighted or batch.weight is not None
        if weighted and torch.are_deterministic_algorithms_enabled():
            return False  # sums of weights are added up in any order
        cells = accumulator.cells_for(batch)
        grouped = bool(batch.sample_shape)
        names = [name for name in cells if grouped or not name.startswith(OF_GROUPS)]
        numbers = [int(batch.step), *layout, int(grouped), int(self.probs), self.classes]
        numbers.append(len(accumulator.fault_kinds))
        if self.ignore is not None:
            numbers.append(self.ignore)
        table, words = self._scratch_on(batch.preds.device)
        try:
            torch.ops.ptmetrics.count_classes(
                batch.preds,
                batch.target,
                batch.weight,
                [cells[name] for name in names],
                table,
                words,
                " ".join(names),
                numbers,
                self.ks,
            )
        except NoKernel as error:
            if not capturing(batch.preds):
                _FAILED[batch.preds.device] = str(error)
            return False
        return True

    @outside_inference
    def _scratch_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Lines of sums, and integers that are 0 between launches; each metric has its own."""
        if self._scratch is None or self._scratch[0].device != device:
            table = torch.empty((LINES + BUCKETS) * WIDEST, dtype=torch.float64, device=device)
            words = torch.zeros(TICKETS + BUCKETS + 1, dtype=torch.int64, device=device)
            self._scratch = (table, words)
        return self._scratch


def _layout(batch: Batch) -> tuple[int, ...] | None:
    """Samples, pixels, and strides of sample, pixel and class; None for what no kernel reads."""
    for values in (batch.preds, batch.weight):
        if values is not None and values.dtype not in FLOATS:
            return None
    parted = batch.slices is not None or batch.group is not None
    if parted or batch.target.is_floating_point() or isinstance(batch.step, Tensor):
        return None
    samples, *sizes = batch.preds.shape[:-1]
    strides = batch.preds.stride()
    if not sizes:
        return 1, samples, 0, strides[0], strides[-1]
    pixels = 1
    stride = 1
    for size, step in zip(reversed(sizes), reversed(strides[1:-1]), strict=True):
        if size == 1:
            continue
        if pixels == 1:
            stride = step
        elif step != stride * pixels:
            return None
        pixels *= size
    if not batch.sample_shape and strides[0] == stride * pixels:
        return 1, samples * pixels, 0, stride, strides[-1]
    return samples, pixels, strides[0], stride, strides[-1]


@dataclass(frozen=True)
class _Tile:
    """What a program holds at a time: rows × classes, which of them lie together, and by how many warps.

    Each of 128 threads has a row of its own where that reads memory well: pixels, and few classes.
    Else threads share a row, and each does the arithmetic of all their rows: a few.
    """

    rows: int
    classes: int
    together: str = "none"
    warps: int = 4

    @classmethod
    def of(cls, classes: int, stride_p: int, stride_c: int, double: bool) -> _Tile:
        """For a number of classes, the strides of pixels and classes, and the type of the scores."""
        block = _power_of_two(classes)
        if stride_p == 1 and stride_c != 1:
            return cls(ROWS_OF_THREADS, min(block, FEW_CLASSES), "pixels")
        if block <= FEW_CLASSES or stride_c != 1:
            return cls(ROWS_OF_THREADS, min(block, FEW_CLASSES))
        numbers = TILE // 2 if double else TILE
        if block <= SOME_CLASSES:
            return cls(max(1, min(8, numbers // 4 // block)), block, "classes", 1)
        block = min(block, numbers)
        return cls(numbers // block, block, "classes")

    @property
    def programs(self) -> int:
        """At most."""
        return LINES // self.warps

    def even(self, stride_s: int, stride_p: int, stride_c: int) -> int:
        """A power of two that divides the strides of what does not lie together."""
        if self.together == "classes":
            return math.gcd(stride_s, stride_p, 16)
        if self.together == "pixels":
            return math.gcd(stride_s, stride_c, 16)
        return 1


@dataclass(frozen=True)
class _Call:
    """A launch: its grid, and what the kernel is given behind its tensors."""

    programs: int
    warps: int
    numbers: tuple[int, ...]
    constants: tuple[Any, ...]

    @classmethod
    def of(
        cls,
        preds: Tensor,
        target: Tensor,
        weight: Tensor | None,
        numbers: Sequence[int],
        ks: Sequence[int],
        *,
        weighted: bool,
    ) -> _Call:
        """From what the operation is given."""
        step, samples, pixels, stride_s, stride_p, stride_c, grouped, probs, classes, kinds = (
            numbers[:10]
        )
        tile = _Tile.of(classes, stride_p, stride_c, preds.dtype == torch.float64)
        lanes = min(samples, BUCKETS)
        items = -(-samples // lanes) * -(-pixels // tile.rows)
        programs = lanes * max(1, min(tile.programs // lanes, items))
        folders = lanes if grouped else min(FOLDERS, programs)
        first_bucket = samples * step % BUCKETS
        stride_w = 0 if weight is None else weight.stride(0)
        spread = (stride_s, stride_p, stride_c, target.stride(0), stride_w)
        columns = HITS + (3 if weighted else 1) * len(ks)
        constants = (
            classes,
            bool(probs),
            tile.together,
            tile.even(stride_s, stride_p, stride_c),
            tuple(ks),
            numbers[10] if len(numbers) > 10 else None,
            kinds,
            tile.rows,
            tile.classes,
            max(32, _power_of_two(columns)),
            PEEL if tile.rows > 8 else 0,
        )
        numbers = (step, samples, pixels, *spread, first_bucket, lanes, folders)
        return cls(programs, tile.warps, numbers, constants)


def _power_of_two(number: int) -> int:
    """The next one."""
    return 1 << (number - 1).bit_length()


@cache
def _places(names: str) -> tuple[Any, ...]:
    """Where the kernel's arguments stand among the cells; None for one that is not kept."""
    where = {name: place for place, name in enumerate(names.split())}
    places: list[Any] = []
    for name in CELLS:
        if isinstance(name, tuple):
            places.append(tuple(where.get(one) for one in name))
        elif name.endswith("*"):
            three = tuple(where.get(name[:-1] + twin) for twin in ("", ".weight", ".square"))
            places.append(None if three[0] is None else three)
        else:
            places.append(where.get(name))
    return tuple(places)


def _taken(cells: Sequence[Tensor], place: Any) -> Any:
    """A cell or several by their places."""
    if place is None:
        return None
    if isinstance(place, tuple):
        return tuple(_taken(cells, one) for one in place)
    return cells[place]


def arguments(
    preds: Tensor,
    target: Tensor,
    weight: Tensor | None,
    cells: Sequence[Tensor],
    table: Tensor,
    words: Tensor,
    names: str,
    numbers: Sequence[int],
    ks: Sequence[int],
) -> tuple[_Call, tuple[Any, ...]]:
    """What a launch of the kernel is given, in the order of its arguments."""
    call = _Call.of(preds, target, weight, numbers, ks, weighted="rows.weight" in names)
    taken = (_taken(cells, place) for place in _places(names))
    given = (preds, target, weight, *taken, table, words, *call.numbers, *call.constants)
    return call, given


def _launch(*operands: Any) -> None:
    """The operation on real tensors."""
    preds, target, weight, cells, _, _, names, _, _ = operands
    call, given = arguments(*operands)
    grid = (call.programs, 1, 1)
    tensors = [preds, target, *cells]
    if weight is not None:
        tensors.append(weight)
    # A compiled kernel takes the types of its arguments for granted, and how they are aligned.
    plain = max(map(abs, call.numbers)) < 2**31
    plain = plain and not any(values.data_ptr() % 16 for values in tensors)
    key = (names, call.constants, preds.device, preds.dtype, target.dtype, tensors[-1].dtype)
    kept = _KEPT.get(key)
    with _on_device_of(preds):
        if plain and kept is not None:
            kept[grid](*given)
            return
        if capturing(preds):
            raise NoKernel("the first such batch came while a CUDA graph is captured")
        try:
            from ptmetrics.counts.class_kernel import count_classes

            compiled = count_classes[grid](*given, num_warps=call.warps)
        except Exception as error:
            raise NoKernel(str(error)) from error
    if plain and compiled is not None:  # an interpreter compiles nothing
        _KEPT[key] = compiled


def _on_device_of(values: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the device that is the current one."""
    if values.is_cuda and values.get_device() != torch.cuda.current_device():
        return torch.cuda.device(values.device)
    return nullcontext()


def _nothing(*_: Any) -> None:
    """The operation on tensors without values."""


_LIBRARY = Library("ptmetrics", "FRAGMENT")
_LIBRARY.define(
    "count_classes(Tensor preds, Tensor target, Tensor? weight, Tensor(a!)[] cells, "
    "Tensor(b!) table, Tensor(c!) words, str names, int[] numbers, int[] ks) -> ()"
)
_LIBRARY.impl("count_classes", _launch, "CompositeExplicitAutograd")
register_fake("ptmetrics::count_classes", _nothing, lib=_LIBRARY)
