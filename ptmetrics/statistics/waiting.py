"""Batches as they were given, and the ring where small ones wait: each call of a kernel costs so much."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

ROWS = 4096  # that wait at most
BYTES = (
    1 << 19
)  # of predictions that wait at most; on a CPU they are still in the cache when they are counted
LEAST, MOST = 4, 256  # batches that must fit, for their copies to pay, and for which there are views

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
    """

    preds: Tensor
    target: Tensor
    weight: Tensor | None = None
    step: int | Tensor = 0

    def part(self, start: int, stop: int) -> "Given":
        """Views of some rows; itself for all of them."""
        if start == 0 and stop >= self.target.shape[0]:
            return self
        weight = None if self.weight is None else self.weight[start:stop]
        step = self.step if isinstance(self.step, int) else self.step[start:stop]
        return Given(self.preds[start:stop], self.target[start:stop], weight, step)

    def copy_(self, other: "Given") -> None:
        """Take the rows of another batch of the same form."""
        self.preds.copy_(other.preds)
        self.target.copy_(other.target)
        if self.weight is not None and other.weight is not None:
            self.weight.copy_(other.weight)


class Ring:
    """Room for small batches of one form; copies only, for a caller may change its tensors in place.

    The first batch of a form does not wait: there may be no second one.
    """

    def __init__(self) -> None:
        self._form: tuple[object, ...] | None = None
        self._whole: Given | None = None
        self._slots: list[Given] | None = None  # views of `_whole`; empty for batches too large to wait
        self._filled = self._first_step = 0

    def put(self, batch: Given) -> bool:
        """Copy a batch of the form that was met before; False, with nothing copied, where it cannot wait."""
        if self._form != _form(batch) or self.full:
            return False
        if self._slots is None:
            self._make_room(batch)
        if not self._slots:
            return False
        if not self._filled:
            self._first_step = int(batch.step)
        self._slots[self._filled].copy_(batch)
        self._filled += 1
        return True

    @property
    def full(self) -> bool:
        """Whether no further batch fits."""
        return bool(self._slots) and self._filled == len(self._slots or ())

    def meet(self, batch: Given) -> None:
        """From now on batches of this form may wait; nothing else must be waiting."""
        form = _form(batch)
        if form != self._form:
            self.drop()
            self._form = form

    def drain(self) -> Given | None:
        """The rows that wait, and forget them; None for none."""
        if not self._filled or self._whole is None or self._slots is None:
            return None
        batches, self._filled = self._filled, 0
        size = self._slots[0].target.shape[0]
        rows = self._whole.part(0, batches * size)
        step = torch.arange(self._first_step, self._first_step + batches, device=rows.target.device)
        return replace(rows, step=step.unsqueeze(1).expand(batches, size).reshape(-1))

    def clear(self) -> None:
        """Forget what waits."""
        self._filled = 0

    def drop(self) -> None:
        """Forget what waits, and what was met."""
        self._form = self._whole = self._slots = None
        self._filled = 0

    @_outside_inference
    def _make_room(self, batch: Given) -> None:
        size = batch.target.shape[0]
        each = batch.preds.numel() * batch.preds.element_size()
        count = min(ROWS // size, BYTES // each, MOST) if each else 0
        self._slots = []
        if count >= LEAST:
            self._whole = whole = _room(batch, count * size)
            self._slots = [whole.part(i * size, (i + 1) * size) for i in range(count)]


def _form(batch: Given) -> tuple[object, ...]:
    weight = None if batch.weight is None else batch.weight.dtype
    return batch.preds.shape, batch.preds.dtype, batch.target.shape, batch.target.dtype, weight


def _room(batch: Given, rows: int) -> Given:
    def like(values: Tensor) -> Tensor:
        return torch.empty((rows, *values.shape[1:]), dtype=values.dtype, device=values.device)

    return Given(like(batch.preds), like(batch.target), None if batch.weight is None else like(batch.weight))


def captured(tensor: Tensor) -> bool:
    """Whether a CUDA graph is being captured: a replay repeats the kernels, and no step of the host."""
    return tensor.is_cuda and torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
