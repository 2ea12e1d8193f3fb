"""Callbacks: the events of a run, and early stopping that knows which way is better."""

import copy
import difflib
import math
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import nn
from torch.optim import Optimizer

from ptmetrics.errors import ConfigError, PtmetricsError, StateError
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.monitor.faults import FaultLog
from ptmetrics.record.history import History


class MonitoredRun(Protocol):
    """What a callback sees of its monitor."""

    @property
    def path(self) -> Path | None:
        """The run folder."""
        ...

    @property
    def history(self) -> History:
        """The epochs so far."""
        ...

    @property
    def epoch(self) -> int:
        """Number of the epoch under way."""
        ...

    @property
    def model(self) -> nn.Module | None:
        """The attached model."""
        ...

    @property
    def optimizer(self) -> Optimizer | None:
        """Its optimizer."""
        ...

    @property
    def score_names(self) -> list[str]:
        """Names of the scores of a split, its loss first."""
        ...

    @property
    def should_stop(self) -> bool:
        """Whether a callback has asked to stop."""
        ...

    @property
    def stopping_reason(self) -> str | None:
        """Why the run was asked to stop."""
        ...

    def stop(self, reason: str) -> None:
        """Ask the loop to stop after this epoch."""

    def record(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add a line to the run's record."""

    def state_dict(self) -> dict[str, Any]:
        """Where the run is."""
        ...


class Callback:
    """Base of a callback; override what you need.

    An exception in a callback is a fault of the run: contained and recorded, unless
    `on_fault="raise"`.

    Attributes:
        after_others: Whether its `on_epoch_end` comes behind that of callbacks without it: it
            stores what they know.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> class Tell(pm.Callback):
        ...     def on_epoch_end(self, monitor, scores):
        ...         print(f"epoch {scores.epoch}: {scores['val/accuracy']:.2f}")
        >>> monitor = pm.Monitor(pm.MulticlassMetrics(2), callbacks=[Tell()])
        >>> monitor.update(torch.eye(2), torch.tensor([0, 0]), split="val")
        >>> _ = monitor.end_epoch()
        epoch 0: 0.50
    """

    after_others: ClassVar[bool] = False

    def on_run_begin(self, monitor: MonitoredRun) -> None:
        """Before the first batch."""

    def on_batch_end(self, monitor: MonitoredRun, split: str, batch: int) -> None:
        """After batch number `batch` of `split` was counted; its numbers are on the device."""

    def on_epoch_end(self, monitor: MonitoredRun, scores: EpochScores) -> None:
        """After the scores of an epoch are recorded; `monitor.stop("why")` ends the run here."""

    def on_run_end(self, monitor: MonitoredRun) -> None:
        """When the run is closed."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""


class CallbackList:
    """All callbacks of a run as one; what one of them does wrong is a fault of its own.

    Args:
        callbacks: The callbacks, in the order of their calls.
        faults: Where exceptions are noted; its lock is released while a callback runs.

    Attributes:
        each_batch: Those that want to know of each batch.

    Raises:
        ConfigError: If one is not a `Callback`.
    """

    def __init__(self, callbacks: Sequence[Callback], faults: FaultLog) -> None:
        wrong = [type(c).__name__ for c in callbacks if not isinstance(c, Callback)]
        if wrong:
            cure = "Derive your class from pm.Callback."
            raise ConfigError("callbacks", "pm.Callback objects", ", ".join(wrong), cure)
        self._callbacks = tuple(callbacks)
        self._faults = faults
        self._behind_epoch = sorted(callbacks, key=lambda callback: callback.after_others)
        self.each_batch = [
            c for c in callbacks if type(c).on_batch_end is not Callback.on_batch_end
        ]

    def run_begin(self, monitor: MonitoredRun) -> None:
        """Nothing has run yet, so what a callback refuses goes to the user."""
        for callback in self._callbacks:
            with (
                self._faults.containing(_where(callback), refuse=(PtmetricsError,)),
                self._faults.released(),
            ):
                callback.on_run_begin(monitor)

    def batch_end(self, monitor: MonitoredRun, split: str, batch: int) -> None:
        """After a batch was counted."""
        for callback in self.each_batch:
            with self._faults.containing(_where(callback)), self._faults.released():
                callback.on_batch_end(monitor, split, batch)

    def epoch_end(self, monitor: MonitoredRun, scores: EpochScores) -> None:
        """After the scores are recorded; those that store the others' state come last."""
        for callback in self._behind_epoch:
            with self._faults.containing(_where(callback)), self._faults.released():
                callback.on_epoch_end(monitor, scores)

    def run_end(self, monitor: MonitoredRun) -> None:
        """When the run is closed."""
        for callback in self._callbacks:
            with self._faults.containing(_where(callback)), self._faults.released():
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
            rule = f"{len(states)} callbacks"
            cure = "Pass the same callbacks in the same order as in the stored run."
            raise StateError("callbacks", rule, str(len(self._callbacks)), cure)
        for callback, state in zip(self._callbacks, states, strict=True):
            callback.load_state_dict(state)


def _where(callback: Callback) -> str:
    return f"callback {type(callback).__name__}"


class BestScore:
    """The best value of one score so far, in the direction that the score itself declares.

    Args:
        name: Score name with its split, such as "val/f1/macro".
        min_delta: An improvement smaller than this does not count.

    Attributes:
        value: The best value; NaN before the first.
        epoch: Number of its epoch; −1 before the first.
    """

    def __init__(self, name: str, min_delta: float = 0.0) -> None:
        self.name = name
        self.min_delta = min_delta
        self.value = math.nan
        self.epoch = -1
        self._run: weakref.ref[MonitoredRun] | None = None

    def begin(self, monitor: MonitoredRun) -> None:
        """Belong to this run: a best value of another one would decide over it.

        Raises:
            ConfigError: If the run will not have the score, or another run had this object.
        """
        known = monitor.score_names
        split, _, score = self.name.partition("/")
        if not split or score not in known:
            raise _unknown_score(self.name, [f"{s}/{n}" for s in ("val", "train") for n in known])
        if self._run is not None and self._run() is not monitor:
            got = f"one for {self.name} of another run"
            cure = "Make a new callback for each run."
            raise ConfigError("callbacks", "callbacks of one run", got, cure)
        self._run = weakref.ref(monitor)

    def improves(self, scores: EpochScores) -> bool:
        """Whether this epoch is better than all before; NaN never is.

        Raises:
            ConfigError: If the epoch has no such score.
        """
        if self.name not in scores:
            raise _unknown_score(self.name, list(scores))
        score = scores[self.name]
        if math.isnan(score.value):
            return False
        if math.isnan(self.value):
            return True
        gain = score.value - self.value
        if not score.higher_is_better:
            gain = -gain
        return gain > self.min_delta

    def keep(self, scores: EpochScores) -> None:
        """This epoch is the best one; to be called when what hangs on it is done."""
        self.value = scores[self.name].value
        self.epoch = scores.epoch

    def state_dict(self) -> dict[str, Any]:
        """Value and epoch."""
        return {"value": self.value, "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them up again."""
        value = float(state["value"])
        epoch = int(state["epoch"])
        self.value = value
        self.epoch = epoch


def _unknown_score(name: str, known: list[str]) -> ConfigError:
    cure = "Name the split too: 'val/accuracy'."
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    if near:
        cure = f"Did you mean {near[0]!r}?"
    return ConfigError("monitor", f"one of {', '.join(known)}", repr(name), cure)


class EarlyStopping(Callback):
    """Stops the run when a score has not improved for `patience` epochs.

    Args:
        monitor: Score name with its split, such as "val/f1/macro"; its direction comes from the
            score.
        patience: Epochs without improvement that are allowed, 1 or more.
        min_delta: An improvement smaller than this does not count.
        restore_best: Put the weights of the best epoch back into the attached model when the run
            ends. They are kept in memory on the model's device.

    Attributes:
        best_epoch: Number of the best epoch, −1 before the first.
        best_value: Its score.

    Raises:
        ConfigError: If an argument cannot work.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> stopping = pm.EarlyStopping("val/loss", patience=2)
        >>> monitor = pm.Monitor(pm.MulticlassMetrics(2), callbacks=[stopping])
        >>> for loss in (0.5, 0.4, 0.6, 0.45, 0.3):
        ...     monitor.update(torch.eye(2), torch.tensor([0, 1]), loss=loss, split="val")
        ...     _ = monitor.end_epoch()
        ...     if monitor.should_stop:
        ...         break
        >>> monitor.stopping_reason
        'no better val/loss than 0.4000 of epoch 1 for 2 epochs'
    """

    def __init__(
        self, monitor: str, patience: int = 5, min_delta: float = 0.0, *, restore_best: bool = False
    ) -> None:
        if patience < 1:
            raise ConfigError("patience", "1 or more epochs", str(patience), "Pass patience=3.")
        if not min_delta >= 0:
            cure = "The direction comes from the score."
            raise ConfigError("min_delta", "0 or more", str(min_delta), cure)
        self.monitor = monitor
        self.patience = patience
        self.restore_best = restore_best
        self._best = BestScore(monitor, min_delta)
        self._weights: dict[str, Any] | None = None
        self._waited = 0

    @property
    def best_epoch(self) -> int:
        """Number of the best epoch."""
        return self._best.epoch

    @property
    def best_value(self) -> float:
        """Score of the best epoch."""
        return self._best.value

    def on_run_begin(self, monitor: MonitoredRun) -> None:
        """Refuse a score that this run will never have."""
        self._best.begin(monitor)

    def on_epoch_end(self, monitor: MonitoredRun, scores: EpochScores) -> None:
        """Count the epochs without improvement."""
        if self._best.improves(scores):
            weights = None
            if self.restore_best and monitor.model is not None:
                weights = copy.deepcopy(monitor.model.state_dict())
            self._best.keep(scores)
            self._weights = weights
            self._waited = 0
            return
        self._waited += 1
        if self._waited >= self.patience:
            best = f"{self.best_value:.4f} of epoch {self.best_epoch}"
            monitor.stop(f"no better {self.monitor} than {best} for {self._waited} epochs")

    def on_run_end(self, monitor: MonitoredRun) -> None:
        """Put the best weights back, if asked to."""
        if self._weights is not None and monitor.model is not None:
            monitor.model.load_state_dict(self._weights)
            self._weights = None

    def state_dict(self) -> dict[str, Any]:
        """Best value and its weights, and epochs waited."""
        return {**self._best.state_dict(), "weights": self._weights, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting where the stored run was."""
        waited = int(state["waited"])
        weights = state["weights"]
        self._best.load_state_dict(state)
        self._waited = waited
        self._weights = weights
