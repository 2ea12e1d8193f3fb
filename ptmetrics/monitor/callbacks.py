"""Callbacks: four events, and early stopping that knows which way is better."""

from __future__ import annotations

import copy
import difflib
import math
import weakref
from typing import TYPE_CHECKING, Any, ClassVar

from ptmetrics.errors import ConfigError
from ptmetrics.metrics.task import TaskMetrics
from ptmetrics.monitor.epoch import EpochScores

if TYPE_CHECKING:
    from ptmetrics.monitor.monitor import Monitor


class Callback:
    """Base of a callback; override what you need.

        class Tell(pm.Callback):
            def on_epoch_end(self, monitor, scores):
                print(scores["val/accuracy"])

    An exception in a callback is a fault of the run: contained and recorded, unless `on_fault="raise"`.

    Attributes:
        after_others: Whether its `on_epoch_end` comes behind that of callbacks without it: it stores what they know.
    """

    after_others: ClassVar[bool] = False

    def on_run_begin(self, monitor: Monitor) -> None:
        """Before the first batch."""

    def on_batch_end(self, monitor: Monitor, split: str, batch: int) -> None:
        """After the batch number `batch` of `split` was counted; the numbers are still on the device."""

    def on_epoch_end(self, monitor: Monitor, scores: EpochScores) -> None:
        """After the scores of an epoch are recorded; `monitor.stop("why")` ends the run here."""

    def on_run_end(self, monitor: Monitor) -> None:
        """When the run is closed."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""


class Best:
    """The best value of one score so far, in the direction that the score itself declares.

    Args:
        name: Score name with its split, such as "val/f1/macro".
        min_delta: An improvement smaller than this does not count.
    """

    def __init__(self, name: str, min_delta: float = 0.0) -> None:
        self.name, self.min_delta = name, min_delta
        self.value, self.epoch = math.nan, -1
        self._run: weakref.ref[Monitor] | None = None

    def begin(self, monitor: Monitor) -> None:
        """Belong to this run: a best value of another one would decide over it.

        Raises:
            ConfigError: If the run will not have the score, or another run had this object.
        """
        _expect_score(monitor.metrics, self.name)
        if self._run is not None and self._run() is not monitor:
            cure = "Make a new callback for each run."
            raise ConfigError(
                "callbacks", "callbacks of one run", f"one for {self.name} of another run", cure
            )
        self._run = weakref.ref(monitor)

    def improves(self, scores: EpochScores) -> bool:
        """Whether this epoch is better than all before; NaN never is.

        Raises:
            ConfigError: If the epoch has no such score.
        """
        if self.name not in scores:
            raise _unknown_score(self.name, list(scores))
        score = scores[self.name]
        gain = score.value - self.value if score.higher_is_better else self.value - score.value
        if math.isnan(score.value) or not (math.isnan(self.value) or gain > self.min_delta):
            return False
        self.value, self.epoch = score.value, scores.epoch
        return True


class EarlyStopping(Callback):
    """Stops the run when a score has not improved for `patience` epochs.

    Args:
        monitor: Score name with its split, such as "val/f1/macro"; its direction comes from the score.
        patience: Epochs without improvement that are allowed, 1 or more.
        min_delta: An improvement smaller than this does not count.
        restore_best: Put the weights of the best epoch back into the attached model when the run ends. They are
            kept in memory on the model's device.

    Attributes:
        best_epoch: Number of the best epoch, −1 before the first.
        best_value: Its score.

    Raises:
        ConfigError: If an argument cannot work.
    """

    def __init__(
        self, monitor: str, patience: int = 5, min_delta: float = 0.0, *, restore_best: bool = False
    ) -> None:
        if patience < 1:
            raise ConfigError("patience", "1 or more epochs", str(patience), "Pass patience=3.")
        if not min_delta >= 0:
            raise ConfigError(
                "min_delta", "0 or more", str(min_delta), "The direction comes from the score."
            )
        self.monitor, self.patience, self.restore_best = monitor, patience, restore_best
        self._best = Best(monitor, min_delta)
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

    def on_run_begin(self, monitor: Monitor) -> None:
        """Refuse a score that this run will never have."""
        self._best.begin(monitor)

    def on_epoch_end(self, monitor: Monitor, scores: EpochScores) -> None:
        """Count the epochs without improvement."""
        if self._best.improves(scores):
            self._waited = 0
            if self.restore_best and monitor.model is not None:
                self._weights = copy.deepcopy(monitor.model.state_dict())
            return
        self._waited += 1
        if self._waited >= self.patience:
            since = (
                f"no better {self.monitor} than {self.best_value:.4f} of epoch {self.best_epoch}"
            )
            monitor.stop(f"{since} for {self._waited} epochs")

    def on_run_end(self, monitor: Monitor) -> None:
        """Put the best weights back, if asked to."""
        if self._weights is not None and monitor.model is not None:
            monitor.model.load_state_dict(self._weights)
            self._weights = None

    def state_dict(self) -> dict[str, Any]:
        """Best value and its weights, and epochs waited."""
        best = {"value": self._best.value, "epoch": self._best.epoch, "weights": self._weights}
        return {**best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting where the stored run was."""
        self._best.value, self._best.epoch = float(state["value"]), int(state["epoch"])
        self._waited, self._weights = int(state["waited"]), state["weights"]


def _expect_score(metrics: TaskMetrics, name: str) -> None:
    scores = ["loss", *metrics.fresh().compute()]
    split, _, score = name.partition("/")
    if not split or score not in scores:
        raise _unknown_score(name, [f"{s}/{n}" for s in ("val", "train") for n in scores])


def _unknown_score(name: str, known: list[str]) -> ConfigError:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    cure = f"Did you mean {near[0]!r}?" if near else "Name the split too: 'val/accuracy'."
    return ConfigError("monitor", f"one of {', '.join(known)}", repr(name), cure)
