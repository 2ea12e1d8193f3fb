"""The rows of the validation samples of one epoch, in the order they came, on their device."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptmetrics.counts.cells import Cell, State
from ptmetrics.counts.waiting import capturing
from ptmetrics.errors import ConfigError, StateError
from ptmetrics.metrics.task import TaskMetrics
from ptmetrics.monitor.faults import MAX_MESSAGE
from ptmetrics.record.samples import CLASS_ROW, MAX_ROWS, POINT_ROW, Kept, Rows

ROWS = 100_000
"""Samples for which there is room by default: 1.2 MB of classes, 1.6 MB of real values."""
_TYPES = {torch.int32: CLASS_ROW, torch.float64: POINT_ROW}


class SampleLog:
    """Room for so many samples; what comes later is counted but not kept, and then nothing is given out.

    A part of the samples would not be what the scores stand on. For the same reason weighted samples are not kept,
    nor samples in groups, the pixels of a picture or the words of a text, which are not independent of each other.
    It follows a metric and is shown the rows that are counted, when they are; so read the metric's state first. No
    host sync before `take`.

    Args:
        metrics: What to follow.
        capacity: Room, in samples: 12 bytes each for classes, 16 for real values.
    """

    def __init__(self, metrics: TaskMetrics, capacity: int) -> None:
        self._columns, self._capacity, self._seen = metrics.sample_columns, capacity, 0
        self._room: Tensor | None = None  # (columns, capacity)
        self._flaw: str | None = None  # why none will be given out
        metrics.follow(self)

    def layout(self) -> Mapping[str, Cell]:
        """It has no cells: parts of it do not add up."""
        return {}

    def reset(self) -> None:
        """Forget all rows; the room is kept for the next epoch."""
        self._seen, self._flaw = 0, None

    def meet(self, target: Tensor, *, grouped: bool = False) -> None:
        """Look at a batch as the loop hands it over, with the groups of its rows or without."""
        if grouped:
            self._flaw = (
                "its samples come in groups, which are not independent of each other inside"
            )
        if target.numel() != (target.shape[0] if target.ndim else 1):
            self._flaw = f"its targets hold several values a sample, {tuple(target.shape[1:])}"

    def add_(self, state: State, batch: Any) -> None:
        """Keep rows that are counted."""
        first, self._seen = self._seen, self._seen + len(batch.target)
        if batch.weight is not None:
            self._flaw = "its samples were weighted"
        if self._columns is None or self._flaw is not None or self._seen > self._capacity:
            return
        if batch.target.is_cuda and capturing():
            self._flaw = "its updates were captured in a CUDA graph"
            return
        try:
            self._place(self._columns(batch), first)
        except Exception as error:  # the rows are counted: what goes wrong here must not cost them
            self._flaw = f"keeping them failed with {type(error).__name__}: {error}"[:MAX_MESSAGE]

    def take(self) -> Kept:
        """The rows on the host, one copy, or why there are none; starts again."""
        seen, flaw, room = self._seen, self._flaw, self._room
        self.reset()
        if flaw is None and seen > self._capacity:
            flaw = f"{seen} samples came where Monitor(keep_samples={self._capacity}) has room"
        if flaw is not None or room is None or not seen:
            return Kept(reason=flaw or "its metrics do not show them")
        return Kept(as_rows(room[:, :seen]))

    def state_dict(self) -> dict[str, Any]:
        """The rows of a half-done epoch."""
        kept = self._room is not None and self._seen <= self._capacity and self._flaw is None
        rows = (
            self._room[:, : self._seen].clone()
            if kept and self._room is not None and self._seen
            else None
        )
        return {"seen": self._seen, "flaw": self._flaw, "rows": rows}

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
            self._seen, self._flaw = (
                samples,
                "a part of them came before the run was resumed" if samples else None,
            )
            return
        rows, seen = state["rows"], int(state["seen"])
        if rows is None:
            lost = (
                "a part of them was not stored" if seen and state["flaw"] is None else state["flaw"]
            )
            self._seen, self._flaw = seen, lost
            return
        kind = _TYPES.get(rows.dtype) if isinstance(rows, Tensor) else None
        if kind is None or tuple(rows.shape) != (len(kind.names or ()), seen):
            got = (
                f"{rows.dtype} of shape {tuple(rows.shape)}"
                if isinstance(rows, Tensor)
                else type(rows).__name__
            )
            cure = "The file is damaged: use another checkpoint."
            raise StateError("samples", f"a column for each of {seen} samples", got, cure)
        self._seen = seen
        if seen <= self._capacity:
            self._place(rows, 0)

    @torch.inference_mode(False)
    def _place(self, rows: Tensor, first: int) -> None:
        room = self._room
        if room is None or room.dtype != rows.dtype:
            room = torch.zeros(len(rows), self._capacity, dtype=rows.dtype, device=rows.device)
        self._room = room = room.to(rows.device)
        room[:, first : first + rows.shape[1]].copy_(rows)


def as_rows(columns: Tensor) -> Rows:
    """Columns of `TaskMetrics.sample_rows` as rows on the host; this waits for the device."""
    host = np.ascontiguousarray(columns.cpu().numpy().T)
    return host.view(_TYPES[columns.dtype]).reshape(-1)


def check_room(rows: object) -> None:
    """Refuse what is no number of samples.

    Raises:
        ConfigError: If it is none.
    """
    if isinstance(rows, bool) or not isinstance(rows, int) or not 0 <= rows <= MAX_ROWS:
        cure = "Pass the size of the validation set, or 0 to keep none."
        raise ConfigError("keep_samples", f"a whole number from 0 to {MAX_ROWS}", repr(rows), cure)
