"""Callbacks that end a run: no better score, no time left, or the target reached."""

import copy
import math
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import numpy as np

from ptmetrics.digits import number
from ptmetrics.distributed import TIMEOUT_S, world_of_now
from ptmetrics.errors import ConfigError, StateError
from ptmetrics.metrics.score import Score
from ptmetrics.monitor.best_score import OTHER_FILE, BestScore
from ptmetrics.monitor.callbacks import Callback, MonitoredRun
from ptmetrics.monitor.clock import NowNs
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.monitor.faults import LOGGER
from ptmetrics.monitor.run import is_epoch
from ptmetrics.record.events import EpochData
from ptmetrics.record.printable import quantity
from ptmetrics.record.reader import Run
from ptmetrics.verdict.time_to_target import Target

STEPS: Final = "train_steps_cumulative"
_UNITS = {"d": 86400, "h": 3600, "m": 60, "min": 60, "s": 1}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|min|m|s)\s*")


class EarlyStopping(Callback):
    """Stops the run when a score has not improved for `patience` validations, or epochs.

    Epochs without the score, such as those without a validation, do not count where validations
    do. Of several validations in an epoch each counts; with `restore_best` the last alone, as the
    weights of one before it are gone when it is known to be over. A NaN is no improvement.

    Args:
        score: Score name with its split, such as "val/f1/macro"; its direction comes from the
            score.
        patience: Validations without improvement that are allowed, 1 or more; or epochs, as in
            "3ep".
        min_delta: An improvement smaller than this does not count.
        mode: "max" or "min" where neither the score nor its name tells the direction.
        restore_best: Put the weights of the best epoch back into the attached model when stopping
            is decided, or at the end of `epochs()`, of the `attach` block or of the run, whichever
            comes first. They are kept in memory on the model's device.
        beyond_interval: An improvement counts only if the best value so far lies outside of the
            95 % interval of the new one. A score without an interval counts as it is.
        stopping_threshold: Stop as soon as the score is as good as this.
        divergence_threshold: Stop as soon as the score is worse than this, or NaN.

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
        'no better val/loss than 0.4000 of epoch 2 for 2 validations'
    """

    def __init__(
        self,
        score: str,
        patience: int | str = 5,
        min_delta: float = 0.0,
        *,
        mode: str | None = None,
        restore_best: bool = False,
        beyond_interval: bool = False,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
    ) -> None:
        self._unit = "validation"
        if isinstance(patience, str):
            self._unit = "epoch"
        self.patience = _patience_of(patience)
        if not min_delta >= 0:
            cure = "The direction comes from the score."
            raise ConfigError("min_delta", "0 or more", str(min_delta), cure)
        for name, level in (
            ("stopping_threshold", stopping_threshold),
            ("divergence_threshold", divergence_threshold),
        ):
            if level is not None and not math.isfinite(level):
                raise ConfigError(name, "a finite value of the score", repr(level), "Leave it out.")
        self.score = score
        self.restore_best = restore_best
        self._best = BestScore(score, min_delta, mode, beyond_interval)
        self._good_enough = stopping_threshold
        self._too_bad = divergence_threshold
        self._weights: dict[str, Any] | None = None
        self._trained = False  # whether an epoch was closed since the best weights were put back
        self._steps = 0  # of training, at the last validation
        self._last: float | None = None  # the score there
        self._waited = 0
        self._reason: str | None = None  # for which it asked to stop

    @property
    def best_epoch(self) -> int:
        """Number of the best epoch."""
        return self._best.epoch

    @property
    def best_value(self) -> float:
        """Score of the best epoch."""
        return self._best.value

    @property
    def restores(self) -> bool:
        """Whether the best weights are to be put back and are not in the model now."""
        return self.restore_best and self._trained and self._weights is not None

    def on_resume(self, monitor: MonitoredRun, run: Run) -> None:
        """See the recorded validations again; the weights are gone."""
        self._best.replay(())
        self._waited = 0
        self._weights = None
        for data, done in _validations(run):
            score = self._best.recorded_in(data)
            steps = data.get("counts", {}).get(STEPS, 0)
            closes = done > data["epoch"]
            if score is not None and (closes or self._counts_within(steps)):
                self._see(score, data["epoch"], done, steps)
        self._stop_if_due(monitor)

    def on_init(self, monitor: MonitoredRun) -> None:
        """Refuse a score that this run will never have."""
        self._best.check(monitor)

    def on_run_begin(self, monitor: MonitoredRun) -> None:
        """Follow the score of this run, and of no other."""
        self._best.begin(monitor)

    def on_validation_end(self, monitor: MonitoredRun, split: str, scores: EpochScores) -> None:
        """Look at one of several validations in an epoch; that which closes it comes later."""
        steps = scores.counts.get(STEPS, 0)
        if not scores.time and self.score in scores and self._counts_within(steps):
            self._see(scores[self.score], scores.epoch, scores.epoch, steps)
            self._stop_if_due(monitor)

    def on_epoch_end(self, monitor: MonitoredRun, scores: EpochScores) -> None:
        """Look at the validation that closes the epoch."""
        self._trained = True
        if not self._best.seen_in(scores):
            return
        weights = self._weights
        if self._best.improves(scores):
            weights = None
            if self.restore_best and monitor.model is not None:
                weights = copy.deepcopy(monitor.model.state_dict())
        steps = scores.counts.get(STEPS, 0)
        self._see(scores[self.score], scores.epoch, scores.epoch + 1, steps)
        self._weights = weights
        self._stop_if_due(monitor)

    def _counts_within(self, steps: int) -> bool:
        """Whether a validation within an epoch counts: not one before or after all training."""
        return not self.restore_best and steps > self._steps

    def _see(self, score: Score, epoch: int, done: int, steps: int) -> None:
        """A validation.

        Args:
            score: What it gave.
            epoch: Its epoch.
            done: How many epochs are closed with it.
            steps: Training steps that were done by then.
        """
        self._last = score.value
        self._steps = steps
        if self._best.better(score):
            self._best.take(score, epoch)
            self._waited = 0
        elif self._unit == "epoch":
            self._waited = max(0, done - 1 - self._best.epoch)
        else:
            self._waited += 1

    def on_train_end(self, monitor: MonitoredRun) -> None:
        """Put the best weights back, if asked to."""
        model = monitor.model
        if not self.restore_best or not self._trained or model is None or self.best_epoch < 0:
            return
        self._trained = False
        if self._weights is None:
            message = "EarlyStopping: the weights of epoch %d, the best, came before the run was"
            message += " resumed and are not put back. Load them from its checkpoint."
            LOGGER.warning(message, self.best_epoch + 1)
            return
        model.load_state_dict(self._weights)
        monitor.restored(self.best_epoch)
        if self._best.min_delta:
            delta = self._best.min_delta
            message = f"{self.score} counts as better from {delta:g} on."
            told = {"code": "min-delta", "message": message, "score": self.score}
            monitor.record("note", {**told, "min_delta": delta})

    def on_unattended(self) -> None:
        """Say that the best weights are not back."""
        if self.restores:
            number = self.best_epoch + 1
            message = "EarlyStopping: the weights of epoch %d were not put back into the model,"
            message += " since nobody closed the run. Call monitor.close() behind the loop."
            LOGGER.warning(message, number)

    def takes_back(self, reason: str) -> bool:
        """Whether it asked to stop for this reason, and has none now."""
        if reason != self._reason or self._due() is not None:
            return False
        self._reason = None
        return True

    def state_dict(self) -> dict[str, Any]:
        """Best value and its weights, the last validation, and why it asked to stop."""
        return {
            **self._best.state_dict(),
            "weights": self._weights,
            "waited": self._waited,
            "last": self._last,
            "steps": self._steps,
            "reason": self._reason,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting where the stored run was.

        Raises:
            StateError: If no run can be there.
        """
        waited = state["waited"]
        weights = state["weights"]
        last = state.get("last")
        steps = state.get("steps", 0)
        if not is_epoch(waited):
            raise StateError("waited", "epochs, 0 or more", repr(waited), OTHER_FILE)
        if last is not None and type(last) is not float:
            raise StateError("last", "a number or None", repr(last), OTHER_FILE)
        if type(steps) is not int:
            raise StateError("steps", "a whole number", repr(steps), OTHER_FILE)
        self._best.load_state_dict(state)
        self._waited = waited
        self._last = last
        self._steps = steps
        self._weights = weights
        self._trained = weights is not None
        self._reason = state.get("reason")

    def _stop_if_due(self, monitor: MonitoredRun) -> None:
        reason = self._due()
        if reason is not None:
            self._reason = reason
            monitor.stop(reason)

    def _due(self) -> str | None:
        """Why to stop; None where there is no reason."""
        told = f"{self.score} is {self._last}"
        if self._last is not None:
            if self._good_enough is not None and self._is_as_good_as(self._good_enough):
                return f"{told}, as good as {self._good_enough:g}"
            if self._too_bad is not None and not self._is_as_good_as(self._too_bad):
                return f"{told}, worse than {self._too_bad:g}"
        if self._waited < self.patience:
            return None
        best = f"{number(self.best_value)} of epoch {self.best_epoch + 1}"
        return f"no better {self.score} than {best} for {quantity(self._waited, self._unit)}"

    def _is_as_good_as(self, level: float) -> bool:
        """Whether the last score is; NaN never is."""
        if self._last is None:
            return False
        if self._best.rises(self._best.declared):
            return self._last >= level
        return self._last <= level


def _patience_of(patience: int | str) -> int:
    """A number of validations, or of epochs as in "3ep".

    Raises:
        ConfigError: If it is none.
    """
    told = str(patience).removesuffix("ep").strip()
    whole = isinstance(patience, int) or str(patience).endswith("ep")
    if isinstance(patience, bool) or not whole or not told.isdecimal() or int(told) < 1:
        rule = '1 or more validations, or epochs such as "3ep"'
        raise ConfigError("patience", rule, str(patience), "Pass patience=3.")
    return int(told)


def _validations(run: Run) -> Iterator[tuple[EpochData, int]]:
    """Recorded validations in their order, each with the number of epochs closed by it."""
    within: dict[int, list[EpochData]] = {}
    for evaluation in run.evaluations:
        if evaluation["why"] == "several":
            within.setdefault(evaluation["epoch"], []).append(evaluation)
    for epoch in run.epochs:
        number = epoch["epoch"]
        for validation in within.get(number, ()):
            yield validation, number
        yield epoch, number + 1


class StopAtTarget(Callback):
    """Stops the run once a score has reached a target, for runs that are compared by their time.

    Epochs without the score do not count. `pm.compare(target=…)` takes the same text, and tells
    when the target was reached.

    Args:
        target: Score, ">=" or "<=", and level, such as "val/accuracy>=0.9".
        hold: Validations in a row that must meet it, as for `pm.compare`; 1 stops at the first.

    Raises:
        ConfigError: If an argument cannot work.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> target = pm.StopAtTarget("val/accuracy>=0.9", hold=1)
        >>> monitor = pm.Monitor(pm.MulticlassMetrics(2), callbacks=[target])
        >>> for epoch in monitor.epochs(5):
        ...     right = torch.arange(10) < 4 + 3 * epoch
        ...     monitor.update(torch.stack([right, ~right], 1).float(), torch.zeros(10).long())
        >>> monitor.stopping_reason
        'val/accuracy>=0.9 is met: 1 in epoch 3'
    """

    def __init__(self, target: str, *, hold: int = 2) -> None:
        if type(hold) is not int or hold < 1:
            raise ConfigError("hold", "1 or more validations", repr(hold), "Pass hold=1.")
        self._target = Target.parse(target)
        self._hold = hold
        mode = "min"
        if self._target.rule == ">=":
            mode = "max"
        self._best = BestScore(self._target.metric, mode=mode)
        self._values: list[float] = []  # the last ones
        self._reason: str | None = None

    def on_init(self, monitor: MonitoredRun) -> None:
        """Refuse a score that this run will never have, and a target on the wrong side of it."""
        try:
            self._best.check(monitor)
        except ConfigError as error:
            if error.name != "mode":
                raise
            rule = f"the side on which {self._target.metric} is better"
            cure = 'Turn ">=" into "<=", or the other way round.'
            raise ConfigError("target", rule, str(self._target), cure) from error

    def on_run_begin(self, monitor: MonitoredRun) -> None:
        """Follow the score of this run, and of no other."""
        self._best.begin(monitor)

    def on_resume(self, monitor: MonitoredRun, run: Run) -> None:
        """Go on behind the recorded validations."""
        self._values = []
        for epoch in run.epochs:
            score = self._best.recorded_in(epoch)
            if score is not None:
                self._see(monitor, score.value, epoch["epoch"])

    def on_epoch_end(self, monitor: MonitoredRun, scores: EpochScores) -> None:
        """Look at the validation that closes the epoch."""
        if self._best.seen_in(scores):
            self._see(monitor, scores[self._best.name].value, scores.epoch)

    def _see(self, monitor: MonitoredRun, value: float, epoch: int) -> None:
        self._values = [*self._values, value][-self._hold :]
        if self._met():
            self._reason = f"{self._target} is met: {value:.6g} in epoch {epoch + 1}"
            monitor.stop(self._reason)

    def _met(self) -> bool:
        enough = len(self._values) == self._hold
        return enough and bool(self._target.met_by(np.array(self._values)).all())

    def takes_back(self, reason: str) -> bool:
        """Whether it asked to stop for this reason, and its target is another one now."""
        return reason == self._reason and not self._met()

    def state_dict(self) -> dict[str, Any]:
        """The last values, and why it asked to stop."""
        return {"values": self._values, "reason": self._reason}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind the stored values."""
        self._values = [float(value) for value in state["values"]][-self._hold :]
        self._reason = state["reason"]


class TimeLimit(Callback):
    """Stops the run once a time is over, counted from its beginning in this process.

    `monitor.should_stop` is true behind the batch in which it passes, for loops that ask it there;
    `epochs()`, and loops that ask behind `end_epoch()`, stop at the end of the epoch under way, so
    leave as much time as one takes. Where ranks train together all of them stop at the end of the
    same epoch, as soon as the time is over on one; each must have this callback. A run that is
    resumed has the whole time anew.

    Args:
        limit: Such as "2h", "1h 30m" (of d, h, m, s), a `timedelta`, or seconds.
        clock: Host nanoseconds.

    Raises:
        ConfigError: If it is no time above 0.

    Example:
        >>> import ptmetrics as pm
        >>> nanoseconds = iter([0, int(50e9), int(100e9), int(150e9)])
        >>> limit = pm.TimeLimit("1m 40s", clock=lambda: next(nanoseconds))
        >>> monitor = pm.Monitor(pm.MulticlassMetrics(2), callbacks=[limit], hygiene=False)
        >>> list(monitor.epochs(5))
        [0, 1]
        >>> monitor.stopping_reason
        'the time limit of 100 s is over'
    """

    def __init__(
        self, limit: str | float | timedelta, *, clock: NowNs = time.perf_counter_ns
    ) -> None:
        self._limit_s = _seconds_of(limit)
        self._clock = clock
        self._began: int | None = None
        self._reason: str | None = None

    def on_run_begin(self, monitor: MonitoredRun) -> None:
        """The time begins."""
        self._began = self._clock()

    def on_batch_end(self, monitor: MonitoredRun, split: str, batch: int) -> None:
        """Alone: stop as soon as the time is over."""
        if not monitor.should_stop and self._is_over() and world_of_now() is None:
            self._stop(monitor)

    def on_epoch_end(self, monitor: MonitoredRun, scores: EpochScores) -> None:
        """Stop if the time is over, here or on another rank."""
        over = self._is_over()
        world = world_of_now()
        if world is not None:
            world.meet("time limit", TIMEOUT_S)
            over = any(told[0] for told in world.exchange([int(over)]))
        if over and not monitor.should_stop:
            self._stop(monitor)

    def _is_over(self) -> bool:
        return self._began is not None and self._clock() - self._began >= 1e9 * self._limit_s

    def _stop(self, monitor: MonitoredRun) -> None:
        self._reason = f"the time limit of {self._limit_s:g} s is over"
        monitor.stop(self._reason)

    def takes_back(self, reason: str) -> bool:
        """A resumed run has time again."""
        return reason == self._reason

    def state_dict(self) -> dict[str, Any]:
        """Why it asked to stop."""
        return {"reason": self._reason}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Know what it asked for."""
        self._reason = state["reason"]


def _seconds_of(limit: str | float | timedelta) -> float:
    """A time in seconds.

    Raises:
        ConfigError: If it is none, or not above 0.
    """
    seconds = math.nan
    if isinstance(limit, timedelta):
        seconds = limit.total_seconds()
    elif isinstance(limit, str):
        parts = _SPAN.findall(limit)
        if _SPAN.sub("", limit).strip() == "":
            seconds = sum(float(count) * _UNITS[unit] for count, unit in parts)
    elif isinstance(limit, int | float):
        seconds = float(limit)
    if not 0 < seconds < math.inf:
        rule = 'a time above 0, such as "2h", "1h 30m", a timedelta or seconds'
        raise ConfigError("limit", rule, repr(limit), 'Pass TimeLimit("2h").')
    return seconds
