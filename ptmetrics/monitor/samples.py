"""The rows of the validation samples of one epoch, in the order they came, on their device."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptmetrics.counts.cells import Cell, State
from ptmetrics.counts.waiting import capturing
from ptmetrics.errors import ConfigError, StateError
from ptmetrics.monitor.faults import error_text
from ptmetrics.record.samples import CLASS_ROW, MAX_ROWS, POINT_ROW, Kept, Rows

DEFAULT_ROWS = 100_000
"""Samples for which there is room by default: 1.2 MB of classes, 1.6 MB of real values."""
_ROW_TYPES = {torch.int32: CLASS_ROW, torch.float64: POINT_ROW}


class StoredSamples:
    """Room for so many samples; if more come, they are counted, and nothing is given out.

    A part of the samples would not be what the scores stand on. For the same reason weighted
    samples are not kept, nor samples in groups, the pixels of a picture or the words of a text,
    which are not independent of each other. It follows a metric and is shown the rows that are
    counted, when they are; so read the metric's state first. No host sync before `rows`.

    Args:
        metrics: The metric to follow.
        capacity: Room, in samples: 12 bytes each for classes, 16 for real values.
    """

    def __init__(self, metrics: Any, capacity: int) -> None:
        self._columns = metrics.sample_columns
        self._capacity = capacity
        self._seen = 0
        self._room: Tensor | None = None  # (columns, capacity)
        self._reason: str | None = None  # why none will be given out
        metrics.follow(self)

    def layout(self) -> Mapping[str, Cell]:
        """It has no cells: parts of it do not add up."""
        return {}

    def reset(self) -> None:
        """Forget all rows; the room is kept for the next epoch."""
        self._seen = 0
        self._reason = None

    def look_at(self, target: Tensor, *, grouped: bool = False) -> None:
        """Look at a batch as the loop hands it over, with the groups of its rows or without."""
        if grouped:
            self._reason = (
                "its samples come in groups, which are not independent of each other inside"
            )
        if target.numel() != (target.shape[0] if target.ndim else 1):
            self._reason = f"its targets hold several values a sample, {tuple(target.shape[1:])}"

    def add_(self, state: State, batch: Any) -> None:
        """Keep rows that are counted."""
        first = self._seen
        self._seen = first + len(batch.target)
        if batch.weight is not None:
            self._reason = "its samples were weighted"
        if self._columns is None or self._reason is not None or self._seen > self._capacity:
            return
        if batch.target.is_cuda and capturing():
            self._reason = "its updates were captured in a CUDA graph"
            return
        try:
            self._place(self._columns(batch), first)
        except Exception as error:  # the rows are counted: what goes wrong here must not cost them
            self._reason = f"keeping them failed with {error_text(error)}"

    def rows(self) -> Kept:
        """The rows on the host, one copy, or why there are none."""
        reason = self._reason
        if reason is None and self._seen > self._capacity:
            reason = (
                f"{self._seen} samples came where Monitor(keep_samples={self._capacity}) has room"
            )
        if reason is None and (self._room is None or not self._seen):
            reason = "its metrics do not show them"
        if reason is not None or self._room is None:
            return Kept(reason=reason)
        return Kept(_as_rows(self._room[:, : self._seen]))

    def state_dict(self) -> dict[str, Any]:
        """The rows of a half-done epoch."""
        rows = None
        whole = self._reason is None and 0 < self._seen <= self._capacity
        if whole and self._room is not None:
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
        _check_rows(rows, seen)
        self._seen = seen
        if seen <= self._capacity:
            self._place(rows, 0)

    @torch.inference_mode(False)
    def _place(self, rows: Tensor, first: int) -> None:
        room = self._room
        if room is None or room.dtype != rows.dtype:
            room = torch.zeros(len(rows), self._capacity, dtype=rows.dtype, device=rows.device)
        self._room = room.to(rows.device)
        self._room[:, first : first + rows.shape[1]].copy_(rows)


def _as_rows(columns: Tensor) -> Rows:
    """Columns as rows on the host; this waits for the device."""
    host = np.ascontiguousarray(columns.cpu().numpy().T)
    return host.view(_ROW_TYPES[columns.dtype]).reshape(-1)


def _check_rows(rows: object, seen: int) -> None:
    got = type(rows).__name__
    if isinstance(rows, Tensor):
        got = f"{rows.dtype} of shape {tuple(rows.shape)}"
        kind = _ROW_TYPES.get(rows.dtype)
        if kind is not None and tuple(rows.shape) == (len(kind.names or ()), seen):
            return
    cure = "The file is damaged: use another checkpoint."
    raise StateError("samples", f"a column for each of {seen} samples", got, cure)


def check_keep_samples(rows: object) -> None:
    """Refuse what is no number of samples.

    Raises:
        ConfigError: If it is none.
    """
    if isinstance(rows, bool) or not isinstance(rows, int) or not 0 <= rows <= MAX_ROWS:
        cure = "Pass the size of the validation set, or 0 to keep none."
        raise ConfigError("keep_samples", f"a whole number from 0 to {MAX_ROWS}", repr(rows), cure)
