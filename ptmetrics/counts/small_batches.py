"""`SmallBatchBuffer`: small batches wait until some thousand rows have come, for each operation costs.

On a CPU an operation costs about as much as a few hundred rows, on CUDA its launch as much as many
thousands.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ptmetrics.counts.batch import Batch
from ptmetrics.counts.modes import capturing, outside_inference


class Room(NamedTuple):
    """How much may wait: rows, and bytes of their predictions."""

    rows: int
    bytes: int


ROOM_BY_DEVICE = {
    "cpu": Room(8192, 1 << 19),  # what waits is still in the cache when it is counted
    "cuda": Room(65536, 1 << 24),  # counting as much takes some 60 MiB for a moment
}
"""By type of device; nothing waits on others."""
LEAST_BATCHES = 4  # batches that must fit for their copies to pay
MOST_BATCHES = 256  # batches that have views of their own at most
BATCH_COLUMNS = ("preds", "target", "weight", "slices", "group")


class SmallBatchBuffer:
    """Room for small batches of one form; copies only, for a caller may change its tensors in place.

    The first batch of a form does not wait: there may be no second one.

    Attributes:
        full: Whether no further batch fits.
        ready: Whether `add` takes another batch of its form, without ids.
    """

    def __init__(self) -> None:
        self._form: object = None
        self._room: Batch | None = None
        self._slots: list[Batch] = []  # views of the room
        self._capacity = -1  # batches that fit; negative before the second one of a form
        self._filled = 0
        self._first_step = 0
        self.full = False
        self.ready = False

    def put(self, batch: Batch, form: object) -> bool:
        """Copy a batch of the form that the last one had; False, with nothing copied, where it cannot wait.

        Args:
            batch: Its `step` must follow that of the last one.
            form: Whatever tells shapes and types apart; None for a batch that must not wait.
        """
        if form != self._form or form is None or self._capacity == self._filled:
            return False
        if batch.preds.is_cuda and capturing(batch.preds):
            return False
        if self._capacity < 0:
            self._make_room(batch)
            if not self._capacity:
                return False
        slot = self._slots[self._filled]
        if slot.slices is not None and batch.slices is not None:
            slot.slices.copy_(batch.slices)
        if slot.group is not None and batch.group is not None:
            slot.group.copy_(batch.group)
        # On CUDA each batch may be one of a graph that is captured.
        as_given = batch.preds.is_cpu and not batch.is_read
        self.ready = slot.slices is None and slot.group is None and as_given
        self.add(batch.preds, batch.target, batch.weight, int(batch.step))
        return True

    def add(self, preds: Tensor, target: Tensor, weight: Tensor | None, step: int) -> None:
        """Copy a batch of the form that the last one had, where it is `ready` and not `full`."""
        number = self._filled
        if not number:
            self._first_step = step
        slot = self._slots[number]
        graphs = torch.is_grad_enabled()
        if graphs:  # quicker than `with torch.no_grad()`, and than to detach each
            torch._C._set_grad_enabled(False)
        try:
            slot.preds.copy_(preds)
            slot.target.copy_(target)
            if slot.weight is not None and weight is not None:
                slot.weight.copy_(weight)
        finally:
            if graphs:
                torch._C._set_grad_enabled(True)
        number += 1
        self._filled = number
        self.full = number == self._capacity

    def expect(self, form: object) -> None:
        """From now on batches of this form may wait; nothing else must be waiting."""
        if form != self._form:
            self.__init__()  # type: ignore[misc]  # forgets the room of the last form
            self._form = form

    def take(self) -> Batch | None:
        """The rows that wait, and forget them; None for none."""
        if not self._filled or self._room is None:
            return None
        batches = self._filled
        self._filled = 0
        self.full = False
        size = self._slots[0].target.shape[0]
        rows = self._room.rows(0, batches * size)
        steps = torch.arange(
            self._first_step, self._first_step + batches, device=rows.target.device
        )
        steps = steps.unsqueeze(1).expand(batches, size).reshape(-1)
        batch = Batch(rows.preds, rows.target, rows.weight, rows.slices, rows.group, steps)
        batch.sample_rows = rows.sample_rows
        batch.is_read = rows.is_read
        return batch

    def clear(self) -> None:
        """Forget what waits."""
        self._filled = 0
        self.full = False

    @outside_inference
    def _make_room(self, batch: Batch) -> None:
        size = len(batch)
        count = batches_that_fit(size, batch.preds.nbytes, batch.preds.device.type)
        self._capacity = count
        if not count:
            return
        columns = (_like(getattr(batch, name), count * size) for name in BATCH_COLUMNS)
        preds, target, weight, slices, group = columns
        assert preds is not None  # every batch has both
        assert target is not None
        self._room = Batch(preds, target, weight, slices, group, sample_rows=batch.sample_rows)
        self._room.is_read = batch.is_read
        self._slots = [self._room.rows(i * size, (i + 1) * size) for i in range(count)]


def batches_that_fit(rows: int, size: int, device: str) -> int:
    """How many batches of so many rows, and bytes of predictions, may wait; 0 where waiting does not pay."""
    most = ROOM_BY_DEVICE.get(device)
    if not size or most is None:
        return 0
    count = min(most.rows // rows, most.bytes // size, MOST_BATCHES)
    if count < LEAST_BATCHES:
        return 0
    return count


def _like(values: Tensor | None, rows: int) -> Tensor | None:
    if values is None:
        return None
    return torch.empty((rows, *values.shape[1:]), dtype=values.dtype, device=values.device)


def form_of(preds: Any, target: Any, weight: Any) -> tuple[Any, ...] | None:
    """All that the checks of the host look at; None for what is no tensor, or one without a shape."""
    form: tuple[Any, ...]
    try:
        form = (
            preds.shape,
            preds.dtype,
            preds.device,
            preds.layout,
            target.shape,
            target.dtype,
            target.device,
            target.layout,
        )
        if weight is not None:
            form = (*form, weight.shape, weight.dtype, weight.device, weight.layout)
    except (AttributeError, RuntimeError):  # nested tensors have no shape
        return None
    return form


def is_as_given(batch: Batch, preds: Any, target: Any, weight: Any) -> bool:
    """Whether a batch that was checked is what was given, so that the next one of its form is too."""
    if batch.slices is not None or batch.group is not None:
        return False
    return batch.preds is preds and batch.target is target and batch.weight is weight
