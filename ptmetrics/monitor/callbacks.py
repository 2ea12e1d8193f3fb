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
from ptmetrics.monitor.faults import LOGGER, FaultLog
from ptmetrics.monitor.run import is_epoch
from ptmetrics.record.direction import direction
from ptmetrics.record.events import EpochData
from ptmetrics.record.history import History
from ptmetrics.record.printable import quantity
from ptmetrics.record.reader import Run

OTHER_FILE = "The file is damaged: use another checkpoint."


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

    @property
    def score_directions(self) -> Mapping[str, bool | None]:
        """Whether a higher value is better, for each score of a split; None if not declared."""
        ...

    @property
    def by_steps(self) -> bool:
        """Whether its epochs are so many steps, by `every`, and no passes of the training data."""
        ...

    @property
    def rank(self) -> int:
        """Number of this process among those that train together; 0 alone."""
        ...

    @property
    def records(self) -> bool:
        """Whether this process writes the record."""
        ...

    @property
    def sync_timeout_s(self) -> float | None:
        """How long it waits for other ranks; None where there are none to merge with."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """The user's own values in the record's header."""
        ...

    @property
    def end_reason(self) -> str | None:
        """Why the run ended, as its record tells; None before."""
        ...

    def stop(self, reason: str) -> None:
        """Ask the loop to stop after this epoch."""

    def restored(self, epoch: int) -> None:
        """Say that the model has the weights of an earlier epoch again."""

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

    def on_init(self, monitor: MonitoredRun) -> None:
        """While the monitor is made, of which only the names of the scores are known.

        What it refuses, with a `pm.PtmetricsError`, is told before there is a run folder.
        """

    def on_resume(self, monitor: MonitoredRun, run: Run) -> None:
        """A run that was recorded is gone on with; `load_state_dict` may follow or not."""

    def on_run_begin(self, monitor: MonitoredRun) -> None:
        """Before the first batch."""

    def on_epoch_begin(self, monitor: MonitoredRun) -> None:
        """Before the first batch of an epoch, whose number is `monitor.epoch`."""

    def on_batch_begin(self, monitor: MonitoredRun, split: str, inputs: Any) -> None:
        """Before a batch is answered: what the loader yields.

        Where no loader is monitored, `inputs` are the arguments that the model is called with; a
        loop that hands its predictions over shows none. Its time is neither training's nor
        validation's.
        """

    def on_batch_end(self, monitor: MonitoredRun, split: str, batch: int) -> None:
        """After batch number `batch` of `split` was counted; its numbers are on the device."""

    def on_answer(
        self, monitor: MonitoredRun, split: str, number: int, given: Any, output: Any
    ) -> None:
        """After a call of the attached model, of the first 8 of a split in each pass alone.

        Nothing in it may wait for the device, change a tensor or keep one that it was shown.

        Args:
            monitor: The run.
            split: What the answer counts as, as far as is known yet.
            number: Of the call, from 0.
            given: Positional and named arguments of the call.
            output: What the model returned.
        """

    def on_validation_end(self, monitor: MonitoredRun, split: str, scores: EpochScores) -> None:
        """After a validation is recorded, of `split` or another one that is not "train".

        The last one of an epoch comes before `on_epoch_end`, with the scores of the whole epoch.
        One before it comes with its own, when the next begins: only then is it known to be over.
        """

    def on_epoch_end(self, monitor: MonitoredRun, scores: EpochScores) -> None:
        """After the scores of an epoch are recorded; `monitor.stop("why")` ends the run here."""

    def on_train_end(self, monitor: MonitoredRun) -> None:
        """Once stopping is decided, behind every `on_epoch_end`, and when the loop was left.

        It may come several times: at the end of `epochs()`, of an `attach` block and of the run.
        """

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
        watchers: Kinds of callbacks that nobody has asked for. Each stands behind the others,
            unless there is one of its kind, and has no part in what is stored.

    Attributes:
        each_begin: Those that want to see each batch before it is answered.
        each_answer: Those that want to know of the model's answers.
        each_batch: Those that want to know of each batch.
        each_epoch: Those that want to know of the beginning of each epoch.
        each_validation: Those that want to know of each validation.

    Raises:
        ConfigError: If one is not a `Callback`.
    """

    def __init__(
        self,
        callbacks: Sequence[Callback],
        faults: FaultLog,
        watchers: Sequence[type[Callback]] = (),
    ) -> None:
        wrong = [type(c).__name__ for c in callbacks if not isinstance(c, Callback)]
        if wrong:
            cure = "Derive your class from pm.Callback."
            raise ConfigError("callbacks", "pm.Callback objects", ", ".join(wrong), cure)
        self._stored = tuple(callbacks)
        kinds = set(map(type, callbacks))
        callbacks = (*callbacks, *(watcher() for watcher in watchers if watcher not in kinds))
        self._callbacks = callbacks
        self._faults = faults
        self._behind_epoch = sorted(callbacks, key=lambda callback: callback.after_others)
        self.each_begin = [
            c for c in callbacks if type(c).on_batch_begin is not Callback.on_batch_begin
        ]
        self.each_batch = [
            c for c in callbacks if type(c).on_batch_end is not Callback.on_batch_end
        ]
        self.each_answer = [c for c in callbacks if type(c).on_answer is not Callback.on_answer]
        self.each_epoch = [
            c for c in callbacks if type(c).on_epoch_begin is not Callback.on_epoch_begin
        ]
        self.each_validation = [
            c for c in callbacks if type(c).on_validation_end is not Callback.on_validation_end
        ]

    def init(self, monitor: MonitoredRun) -> None:
        """While the monitor is made; an error that is no refusal comes again as the run begins.

        Raises:
            PtmetricsError: What a callback refuses.
        """
        for callback in self._callbacks:
            try:
                callback.on_init(monitor)
            except PtmetricsError:
                raise
            except Exception as error:
                LOGGER.debug("%s: %s", _where(callback), error)

    def run_begin(self, monitor: MonitoredRun) -> None:
        """Nothing has run yet, so what a callback refuses goes to the user."""
        for callback in self._callbacks:
            with (
                self._faults.containing(_where(callback), refuse=(PtmetricsError,)),
                self._faults.released(),
            ):
                callback.on_run_begin(monitor)

    def batch_begin(self, monitor: MonitoredRun, split: str, inputs: Any) -> None:
        """Before a batch is answered."""
        for callback in self.each_begin:
            with self._faults.containing(_where(callback)), self._faults.released():
                callback.on_batch_begin(monitor, split, inputs)

    def batch_end(self, monitor: MonitoredRun, split: str, batch: int) -> None:
        """After a batch was counted."""
        for callback in self.each_batch:
            with self._faults.containing(_where(callback)), self._faults.released():
                callback.on_batch_end(monitor, split, batch)

    def answer(
        self, monitor: MonitoredRun, split: str, number: int, given: Any, output: Any
    ) -> None:
        """After a call of the model."""
        for callback in self.each_answer:
            with self._faults.containing(_where(callback)), self._faults.released():
                callback.on_answer(monitor, split, number, given, output)

    def epoch_begin(self, monitor: MonitoredRun) -> None:
        """Before the first batch of an epoch."""
        for callback in self.each_epoch:
            with self._faults.containing(_where(callback)), self._faults.released():
                callback.on_epoch_begin(monitor)

    def validation_end(self, monitor: MonitoredRun, split: str, scores: EpochScores) -> None:
        """After a validation was recorded."""
        for callback in self.each_validation:
            with self._faults.containing(_where(callback)), self._faults.released():
                callback.on_validation_end(monitor, split, scores)

    def epoch_end(self, monitor: MonitoredRun, scores: EpochScores) -> None:
        """After the scores are recorded; those that store the others' state come last."""
        for callback in self._behind_epoch:
            with self._faults.containing(_where(callback)), self._faults.released():
                callback.on_epoch_end(monitor, scores)
        if monitor.should_stop:
            self.train_end(monitor)

    def train_end(self, monitor: MonitoredRun) -> None:
        """Stopping is decided, or the loop was left."""
        for callback in self._callbacks:
            with self._faults.containing(_where(callback)), self._faults.released():
                callback.on_train_end(monitor)

    def resume(self, monitor: MonitoredRun, run: Run) -> None:
        """Take up what the record of the run tells; called while the monitor is made.

        Raises:
            PtmetricsError: What a callback refuses; other errors are faults.
        """
        for callback in self._callbacks:
            try:
                callback.on_resume(monitor, run)
            except PtmetricsError:
                raise
            except Exception as error:
                if self._faults.on_fault == "raise":
                    raise
                self._faults.note(_where(callback), error)

    def unattended(self) -> None:
        """Nobody closed the run: say what was to come at its end and does not."""
        for callback in self._callbacks:
            if isinstance(callback, EarlyStopping) and callback.restores:
                number = callback.best_epoch + 1
                message = "EarlyStopping: the weights of epoch %d were not put back into the model,"
                message += " since nobody closed the run. Call monitor.close() behind the loop."
                LOGGER.warning(message, number)

    def goes_on(self, reason: str) -> bool:
        """Whether early stopping gave this reason and has patience left now."""
        return any(isinstance(c, EarlyStopping) and c.takes_back(reason) for c in self._callbacks)

    def run_end(self, monitor: MonitoredRun) -> None:
        """When the run is closed."""
        for callback in self._callbacks:
            with self._faults.containing(_where(callback)), self._faults.released():
                callback.on_run_end(monitor)

    def state_dict(self) -> list[dict[str, Any]]:
        """One state for each callback, in order."""
        return [callback.state_dict() for callback in self._stored]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Take up what `state_dict` gave.

        Raises:
            StateError: If the number of callbacks differs.
        """
        if len(states) != len(self._stored):
            rule = f"{len(states)} callbacks"
            cure = "Pass the same callbacks in the same order as in the stored run."
            raise StateError("callbacks", rule, str(len(self._stored)), cure)
        for callback, state in zip(self._stored, states, strict=True):
            callback.load_state_dict(state)


def _where(callback: Callback) -> str:
    return f"callback {type(callback).__name__}"


class BestScore:
    """The best value of one score so far, in the score's own direction.

    Args:
        name: Score name with its split, such as "val/f1/macro".
        min_delta: An improvement smaller than this does not count.
        mode: "max" or "min" where neither the score nor its name tells the direction.

    Attributes:
        value: The best value; NaN before the first.
        epoch: Number of its epoch; −1 before the first.

    Raises:
        ConfigError: If `mode` is another word.
    """

    def __init__(self, name: str, min_delta: float = 0.0, mode: str | None = None) -> None:
        if mode not in (None, "max", "min"):
            cure = "Leave it out where the score declares its direction."
            raise ConfigError("mode", '"max" or "min"', repr(mode), cure)
        self.name = name
        self.min_delta = min_delta
        self.mode = mode
        self.value = math.nan
        self.epoch = -1
        self._run: weakref.ref[MonitoredRun] | None = None
        self._waits_for: str | None = name  # until it is seen, or it was said that it is not

    def begin(self, monitor: MonitoredRun) -> None:
        """Belong to this run: a best value of another one would decide over it.

        Raises:
            ConfigError: As `check` has it, or if another run had this object.
        """
        self.check(monitor)
        if self._run is not None and self._run() is not monitor:
            got = f"one for {self.name} of another run"
            cure = "Make a new callback for each run."
            raise ConfigError("callbacks", "callbacks of one run", got, cure)
        self._run = weakref.ref(monitor)

    def check(self, monitor: MonitoredRun) -> None:
        """Refuse a run that will not have the score.

        Raises:
            ConfigError: If it will not, or the direction of the score is not known.
        """
        known = monitor.score_names
        split, _, score = self.name.partition("/")
        if not split or score not in known:
            raise _unknown_score(self.name, [f"{s}/{n}" for s in ("val", "train") for n in known])
        declared = monitor.score_directions.get(score)
        rises = self.rises(declared)
        if declared is not None and declared != rises:
            right = "min" if rises else "max"
            rule = f"{right!r} or none for {self.name}, which declares its direction"
            raise ConfigError("mode", rule, repr(self.mode), "Leave it out.")

    def seen_in(self, scores: EpochScores) -> bool:
        """Whether the epoch has the score; one without a validation has none, and is waited for.

        A split of another name with the score in it is told once: the name may be a slip. So is a
        split that was evaluated without the score, as where no loss is seen.
        """
        if self.name in scores:
            self._waits_for = None
            return True
        if self._waits_for is not None:
            _, _, score = self.name.partition("/")
            ends = f"/{score}"
            split = self.name.removesuffix(score)
            others = [n for n in scores if n.endswith(ends) and not n.startswith("train/")]
            beside = [n for n in scores if n.startswith(split)]
            if others or beside:
                self._waits_for = None
                has = ", ".join((others or beside)[:4])
                LOGGER.warning(
                    "waiting for %s, which this epoch has not; it has %s", self.name, has
                )
        return False

    def improves(self, scores: EpochScores) -> bool:
        """Whether this epoch, which has the score, is better than all before; NaN never is.

        Raises:
            ConfigError: If the direction is not known.
        """
        score = scores[self.name]
        return self._better(score.value, score.higher_is_better)

    def keep(self, scores: EpochScores) -> None:
        """This epoch is the best one; to be called when what hangs on it is done."""
        self.value = scores[self.name].value
        self.epoch = scores.epoch

    def replay(self, epochs: Sequence[EpochData]) -> int:
        """Take the best of recorded epochs; how many with the score came since."""
        self.value = math.nan
        self.epoch = -1
        since = 0
        for epoch in epochs:
            score = epoch["scores"].get(self.name)
            if score is None:
                continue
            since += 1
            if self._better(score["value"], score.get("higher_is_better")):
                self.value = score["value"]
                self.epoch = epoch["epoch"]
                since = 0
        return since

    def state_dict(self) -> dict[str, Any]:
        """Value and epoch."""
        return {"value": self.value, "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them up again.

        Raises:
            StateError: If they cannot be.
        """
        value = state["value"]
        if type(value) not in (int, float):
            raise StateError("value", "a number", repr(value), OTHER_FILE)
        self.epoch = stored_epoch("epoch", state["epoch"])
        self.value = float(value)

    def _better(self, value: float, declared: bool | None) -> bool:
        if math.isnan(value):
            return False
        rises = self.rises(declared)
        if math.isnan(self.value):
            return True
        gain = value - self.value
        if not rises:
            gain = -gain
        return gain > self.min_delta

    def rises(self, declared: bool | None) -> bool:
        """Whether higher is better: as told, as declared, or as the field has it."""
        if self.mode is not None:
            return self.mode == "max"
        if declared is None:
            declared = direction(self.name)
        if declared is None:
            rule = f"a direction for {self.name}, which declares none"
            raise ConfigError("mode", rule, "none", 'Pass mode="max" or mode="min".')
        return declared


def stored_epoch(name: str, value: object) -> int:
    """A stored epoch number; −1 for none.

    Raises:
        StateError: If it can be none.
    """
    if value != -1 and not is_epoch(value):
        raise StateError(name, "the number of an epoch, or -1", repr(value), OTHER_FILE)
    return int(str(value))


def _unknown_score(name: str, known: list[str]) -> ConfigError:
    cure = "Name the split too: 'val/accuracy'."
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    if near:
        cure = f"Did you mean {near[0]!r}?"
    return ConfigError("monitor", f"one of {', '.join(known)}", repr(name), cure)


class EarlyStopping(Callback):
    """Stops the run when a score has not improved for `patience` epochs.

    Epochs without the score, such as those without a validation, do not count.

    Args:
        score: Score name with its split, such as "val/f1/macro"; its direction comes from the
            score.
        patience: Epochs without improvement that are allowed, 1 or more.
        min_delta: An improvement smaller than this does not count.
        mode: "max" or "min" where neither the score nor its name tells the direction.
        restore_best: Put the weights of the best epoch back into the attached model when stopping
            is decided, or at the end of `epochs()`, of the `attach` block or of the run, whichever
            comes first. They are kept in memory on the model's device.

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
        'no better val/loss than 0.4000 of epoch 2 for 2 epochs'
    """

    def __init__(
        self,
        score: str,
        patience: int = 5,
        min_delta: float = 0.0,
        *,
        mode: str | None = None,
        restore_best: bool = False,
    ) -> None:
        if patience < 1:
            raise ConfigError("patience", "1 or more epochs", str(patience), "Pass patience=3.")
        if not min_delta >= 0:
            cure = "The direction comes from the score."
            raise ConfigError("min_delta", "0 or more", str(min_delta), cure)
        self.score = score
        self.patience = patience
        self.restore_best = restore_best
        self._best = BestScore(score, min_delta, mode)
        self._weights: dict[str, Any] | None = None
        self._trained = False  # whether an epoch was closed since the best weights were put back
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
        """Count the epochs without improvement that were recorded; the weights are gone."""
        self._waited = self._best.replay(run.epochs)
        self._weights = None
        self._stop_if_due(monitor)

    def on_init(self, monitor: MonitoredRun) -> None:
        """Refuse a score that this run will never have."""
        self._best.check(monitor)

    def on_run_begin(self, monitor: MonitoredRun) -> None:
        """Follow the score of this run, and of no other."""
        self._best.begin(monitor)

    def on_epoch_end(self, monitor: MonitoredRun, scores: EpochScores) -> None:
        """Count the epochs without improvement."""
        self._trained = True
        if not self._best.seen_in(scores):
            return
        if self._best.improves(scores):
            weights = None
            if self.restore_best and monitor.model is not None:
                weights = copy.deepcopy(monitor.model.state_dict())
            self._best.keep(scores)
            self._weights = weights
            self._waited = 0
            return
        self._waited += 1
        self._stop_if_due(monitor)

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

    def takes_back(self, reason: str) -> bool:
        """Whether it asked to stop for this reason, and has patience left now."""
        taken_back = reason == self._reason and self._waited < self.patience
        if taken_back:
            self._reason = None
        return taken_back

    def state_dict(self) -> dict[str, Any]:
        """Best value and its weights, epochs waited, and why it asked to stop."""
        return {
            **self._best.state_dict(),
            "weights": self._weights,
            "waited": self._waited,
            "reason": self._reason,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting where the stored run was.

        Raises:
            StateError: If no run can be there.
        """
        waited = state["waited"]
        weights = state["weights"]
        if not is_epoch(waited):
            raise StateError("waited", "epochs, 0 or more", repr(waited), OTHER_FILE)
        self._best.load_state_dict(state)
        self._waited = waited
        self._weights = weights
        self._trained = weights is not None
        self._reason = state.get("reason")

    def _stop_if_due(self, monitor: MonitoredRun) -> None:
        if self._waited >= self.patience:
            best = f"{self.best_value:.4f} of epoch {self.best_epoch + 1}"
            self._reason = (
                f"no better {self.score} than {best} for {quantity(self._waited, 'epoch')}"
            )
            monitor.stop(self._reason)
