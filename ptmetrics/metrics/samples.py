"""What became of each sample of one epoch, in the order they came, on their device."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ptmetrics.counts.batch import Batch
from ptmetrics.counts.modes import capturing, outside_inference
from ptmetrics.errors import StateError

MAX_REASON = 300
CLASS_FIELDS = ("predicted", "target", "loss")
"""Columns of classes, int32: predicted class, target, bits of the loss in float32."""
POINT_FIELDS = ("error", "target")
"""Columns of real values, float64."""
WEIGHT = "weight"
MARGIN = "margin_"
"""What the names of further columns begin with, one a class, by which its curve ranks the rows."""
MOST_MARGINS = 32
"""Classes of which there are such columns, at most."""
DAMAGED_SAMPLES = "The file is damaged: use another checkpoint."


class SampleBuffer:
    """Room for so many samples; what comes later is counted but not kept, and then nothing is given out.

    A part of the samples would not be what the scores stand on. For the same reason samples in
    groups are not kept, the pixels of a picture or the words of a text, which are not independent
    of each other: of them `Scores.without_buckets` tells. No host sync.

    Args:
        capacity: Room, in samples: 12 bytes each for classes, 16 for real values, and 4 or 8 more
            for each further column.
        fields: Names of the columns; the weight comes with the first batch that has one.
    """

    def __init__(self, capacity: int, fields: tuple[str, ...] = CLASS_FIELDS) -> None:
        self.capacity = capacity
        self.fields = fields
        self._plain_fields = fields
        self._seen = 0
        self._room: Tensor | None = None  # (columns, capacity)
        self._reason: str | None = None  # why none will be given out

    def reset(self) -> None:
        """Forget all rows; the room is kept for the next epoch."""
        self._seen = 0
        self._reason = None
        if self.fields != self._plain_fields:  # the next epoch may have no weights
            self.fields = self._plain_fields
            self._room = None

    def refuse(self, reason: str) -> None:
        """Give out none, and say why."""
        self._reason = reason

    def add(self, batch: Batch, columns: Tensor | None) -> None:
        """Keep rows that were counted.

        Args:
            batch: The rows.
            columns: Of shape (fields, rows); None where a sample is no single row.
        """
        first = self._seen
        self._seen += len(batch)
        if batch.group is not None and columns is not None:
            self._reason = (
                "its samples come in groups, which are not independent of each other inside"
            )
        if columns is None or self._reason is not None or self._seen > self.capacity:
            return
        if capturing(batch.target):
            self._reason = "its updates were captured in a CUDA graph"
            return
        try:
            if batch.weight is not None or self.fields != self._plain_fields:
                columns = self._with_weight(batch, columns)
            self._place(columns, first)
        except Exception as error:  # the rows are counted: what goes wrong here must not cost them
            text = f"keeping them failed with {type(error).__name__}: {error}"
            self._reason = text[:MAX_REASON]

    def columns(self) -> tuple[Tensor | None, str | None]:
        """The columns on their device, or why there are none; changes nothing."""
        reason = self._reason
        if reason is None and self._seen > self.capacity:
            room = f"Monitor(keep_samples={self.capacity}) has room"
            reason = f"{self._seen} samples came where {room}"
        if reason is None and (self._room is None or not self._seen):
            reason = "its metrics do not show them"
        if reason is not None or self._room is None:
            return None, reason
        return self._room[:, : self._seen], None

    def state_dict(self) -> dict[str, Any]:
        """The rows of a half-done epoch."""
        rows = None
        if self._room is not None and 0 < self._seen <= self.capacity and self._reason is None:
            rows = self._room[:, : self._seen].clone()
        return {"seen": self._seen, "reason": self._reason, "rows": rows}

    def load_state_dict(self, state: Mapping[str, Any] | None, samples: int) -> None:
        """Take a half-done epoch up again.

        Args:
            state: As `state_dict` gave it; None where the stored run kept none.
            samples: How many the epoch has counted.

        Raises:
            StateError: If the rows cannot be such.
        """
        self.reset()
        if state is None:
            self._seen = samples
            if samples:
                self._reason = "a part of them came before the run was resumed"
            return
        rows = state["rows"]
        seen = int(state["seen"])
        if rows is None:
            self._seen = seen
            self._reason = state["reason"]
            if seen and self._reason is None:
                self._reason = "a part of them was not stored"
            return
        if not isinstance(rows, Tensor):
            rule = f"a column for each of {seen} samples"
            raise StateError("samples", rule, type(rows).__name__, DAMAGED_SAMPLES)
        if tuple(rows.shape) == (len(self.fields) + 1, seen):
            self.fields = (*self.fields, WEIGHT)
        dtype = torch.int32
        if self.fields[0] == POINT_FIELDS[0]:
            dtype = torch.float64
        if tuple(rows.shape) != (len(self.fields), seen) or rows.dtype != dtype:
            fact = f"{rows.dtype} of shape {tuple(rows.shape)}"
            raise StateError(
                "samples", f"a column for each of {seen} samples", fact, DAMAGED_SAMPLES
            )
        self._seen = seen
        if seen <= self.capacity:
            self._place(rows, 0)

    @outside_inference
    def _with_weight(self, batch: Batch, columns: Tensor) -> Tensor:
        """The columns with that of the weights, once there was one: earlier rows weigh 1."""
        weight = torch.ones(columns.shape[1], device=columns.device)
        if batch.weight is not None:
            weight = batch.weight.float()
        if batch.counted is not None:
            weight = torch.where(batch.counted, weight, 0.0)
        own = weight.to(columns.dtype)
        ones = torch.ones(self.capacity, device=columns.device)
        if columns.dtype == torch.int32:
            own = weight.view(torch.int32)
            ones = ones.view(torch.int32)
        if self.fields == self._plain_fields:
            self.fields = (*self.fields, WEIGHT)
            if self._room is not None:
                self._room = torch.cat((self._room, ones.to(self._room.dtype).unsqueeze(0)))
        return torch.cat((columns, own.unsqueeze(0)))

    @outside_inference
    def _place(self, columns: Tensor, first: int) -> None:
        room = self._room
        if room is None or room.dtype != columns.dtype or len(room) != len(columns):
            shape = (len(columns), self.capacity)
            room = torch.zeros(shape, dtype=columns.dtype, device=columns.device)
        room = room.to(columns.device)
        room[:, first : first + columns.shape[1]].copy_(columns)
        self._room = room
