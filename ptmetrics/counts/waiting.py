"""Batches as they were given, and the ring where small ones wait: each call of a kernel costs so much."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ptmetrics.counts.row_parts import RowIds

ROWS = 4096  # that wait at most
BYTES = (
    1 << 19
)  # of predictions that wait at most; on a CPU they are still in the cache when they are counted
LEAST, MOST = 4, 256  # batches that must fit for their copies to pay, and that have views at most

# Buffers are made outside inference mode, so that they may be changed inside and outside of it alike.
_outside_inference = torch.inference_mode(False)


@dataclass(slots=True)
class Given:
    """Rows that passed the checks of the host; device tensors whose first dimension is the rows.

    Attributes:
        preds: (rows, …) predictions as the task takes them.
        target: (rows, …) truth.
        weight: (rows,) numbers, or None for 1 a row.
        step: Number of the update, or int64 of shape (rows,) where the rows come from several.
        ids: Slices and groups of the rows; None where the metric tells no parts apart.
    """

    preds: Tensor
    target: Tensor
    weight: Tensor | None = None
    step: int | Tensor = 0
    ids: RowIds | None = None

    def part(self, start: int, stop: int) -> "Given":
        """Views of some rows; itself for all of them."""
        if start == 0 and stop >= self.target.shape[0]:
            return self
        weight = None if self.weight is None else self.weight[start:stop]
        step = self.step if isinstance(self.step, int) else self.step[start:stop]
        ids = None if self.ids is None else self.ids.part(start, stop)
        return Given(self.preds[start:stop], self.target[start:stop], weight, step, ids)

    def copy_(self, other: "Given") -> None:
        """Take the rows of another batch of the same form."""
        self.preds.copy_(other.preds)
        self.target.copy_(other.target)
        if self.weight is not None and other.weight is not None:
            self.weight.copy_(other.weight)
        if self.ids is not None and other.ids is not None:
            for mine, theirs in zip(self.ids, other.ids, strict=True):
                if mine is not None and theirs is not None:
                    mine.copy_(theirs)


class Ring:
    """Room for small batches of one form; copies only, for a caller may change its tensors in place.

    The first batch of a form does not wait: there may be no second one.
    """

    def __init__(self) -> None:
        self._form: object = None
        self._whole: Given | None = None
        self._slots: list[Given] = []  # views of `_whole`, made when they are first needed
        self._most: int | None = None  # batches that fit; None before the second one
        self._filled = self._first_step = 0

    def put(self, batch: Given, form: object) -> bool:
        """Copy a batch of the form that was met before; False, with nothing copied, where it cannot wait.

        The form None is never met.
        """
        if form != self._form or form is None:
            return False
        if self._most is None:
            self._most = self._make_room(batch)
        filled = self._filled
        if filled == self._most:
            return False
        if filled == len(self._slots):
            self._slots.append(self._slot(filled, batch.target.shape[0]))
        if not filled:
            self._first_step = int(batch.step)
        self._slots[filled].copy_(batch)
        self._filled = filled + 1
        return True

    @property
    def full(self) -> bool:
        """Whether no further batch fits."""
        return self._filled == self._most

    def meet(self, form: object) -> None:
        """From now on batches of this form may wait; nothing else must be waiting."""
        if form != self._form:
            self.drop()
            self._form = form

    def drain(self) -> Given | None:
        """The rows that wait, and forget them; None for none."""
        if not self._filled or self._whole is None:
            return None
        batches, self._filled = self._filled, 0
        size = self._slots[0].target.shape[0]
        rows = self._whole.part(0, batches * size)
        step = torch.arange(self._first_step, self._first_step + batches, device=rows.target.device)
        return replace(rows, step=step.unsqueeze(1).expand(batches, size).reshape(-1))

    def seal(self) -> None:
        """Nothing joins what waits: the number of the next update does not follow."""
        self._form = None

    def clear(self) -> None:
        """Forget what waits."""
        self._filled = 0

    def drop(self) -> None:
        """Forget what waits, and what was met."""
        self._form = self._whole = self._most = None
        self._slots, self._filled = [], 0

    @_outside_inference
    def _make_room(self, batch: Given) -> int:
        size = batch.target.shape[0]
        each = batch.preds.numel() * batch.preds.element_size()
        count = min(ROWS // size, BYTES // each, MOST) if each else 0
        if count < LEAST:
            return 0
        self._whole = _room(batch, count * size)
        return count

    @_outside_inference
    def _slot(self, number: int, size: int) -> Given:
        assert self._whole is not None  # made before the first slot
        return self._whole.part(number * size, (number + 1) * size)


def _room(batch: Given, rows: int) -> Given:
    def like(values: Tensor) -> Tensor:
        return torch.empty((rows, *values.shape[1:]), dtype=values.dtype, device=values.device)

    weight = None if batch.weight is None else like(batch.weight)
    ids = (
        None if batch.ids is None else RowIds(*(None if x is None else like(x) for x in batch.ids))
    )
    return Given(like(batch.preds), like(batch.target), weight, ids=ids)


def capturing() -> bool:
    """Whether a CUDA graph is being captured: a replay repeats the kernels, and no step of the host."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
