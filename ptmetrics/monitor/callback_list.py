"""All callbacks of a run as one; what one of them does wrong is a fault of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ptmetrics.errors import ConfigError, StateError
from ptmetrics.monitor.callbacks import Callback
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.monitor.faults import FaultLog

if TYPE_CHECKING:
    from ptmetrics.monitor.monitor import Monitor


class CallbackList:
    """Calls each callback in order and contains its exceptions.

    Args:
        callbacks: The callbacks, in the order of their calls.
        faults: Where exceptions are noted.

    Raises:
        ConfigError: If one is not a `Callback`.
    """

    def __init__(self, callbacks: Sequence[Callback], faults: FaultLog) -> None:
        if wrong := [type(c).__name__ for c in callbacks if not isinstance(c, Callback)]:
            cure = "Derive your class from pm.Callback."
            raise ConfigError("callbacks", "pm.Callback objects", ", ".join(wrong), cure)
        self._callbacks, self._faults = tuple(callbacks), faults
        self._behind_epoch = sorted(callbacks, key=lambda callback: callback.after_others)
        self._each_batch = [
            c for c in callbacks if type(c).on_batch_end is not Callback.on_batch_end
        ]

    def run_begin(self, monitor: Monitor) -> None:
        """Nothing has run yet, so an exception here goes to the user."""
        for callback in self._callbacks:
            callback.on_run_begin(monitor)

    def batch_end(self, monitor: Monitor, split: str, batch: int) -> None:
        """Only callbacks that override the event are called."""
        for callback in self._each_batch:
            with self._faults.contain(f"callback {type(callback).__name__}"):
                callback.on_batch_end(monitor, split, batch)

    def epoch_end(self, monitor: Monitor, scores: EpochScores) -> None:
        """After the scores are recorded; those that store the others' state come last."""
        for callback in self._behind_epoch:
            with self._faults.contain(f"callback {type(callback).__name__}"):
                callback.on_epoch_end(monitor, scores)

    def run_end(self, monitor: Monitor) -> None:
        """When the run is closed."""
        for callback in self._callbacks:
            with self._faults.contain(f"callback {type(callback).__name__}"):
                callback.on_run_end(monitor)

    def state_dict(self) -> list[dict[str, Any]]:
        """One state for each callback, in order."""
        return [callback.state_dict() for callback in self._callbacks]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Take up what `state_dict` gave.

        Raises:
            StateError: If the number of callbacks differs.
        """
        if len(states) != len(self._callbacks):
            cure = "Pass the same callbacks in the same order as in the stored run."
            raise StateError(
                "callbacks", f"{len(states)} callbacks", str(len(self._callbacks)), cure
            )
        for callback, state in zip(self._callbacks, states, strict=True):
            callback.load_state_dict(state)
