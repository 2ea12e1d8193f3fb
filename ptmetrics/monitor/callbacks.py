"""Callbacks: the events of a run, and who is told of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import FunctionType
from typing import Any, ClassVar, Protocol

from torch import nn
from torch.optim import Optimizer

from ptmetrics.errors import ConfigError, PtmetricsError, StateError
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.monitor.faults import LOGGER, FaultLog, say
from ptmetrics.record.history import History
from ptmetrics.record.reader import Run


class MonitoredRun(Protocol):
    """What a callback sees of its monitor; a callback's argument is typed as this.

    Example:
        >>> import ptmetrics as pm
        >>> class Patience(pm.Callback):
        ...     def on_epoch_end(self, monitor: pm.MonitoredRun, scores: pm.EpochScores) -> None:
        ...         if len(monitor.history.epoch) >= 2:
        ...             monitor.stop("two epochs are enough")
    """

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
    `on_fault="raise"`. A method that looks like a misspelt event, and that its class does not call,
    is told of when the monitor is made.

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

    def numbers(self, monitor: MonitoredRun, scores: EpochScores) -> Mapping[str, float]:
        """Numbers of the epoch that ends, beside its scores, by names without "/".

        They stand in its line of the record, in `history["name"]` and in `scores.numbers`, and
        trackers log them. The device may be waited for here: the scores were just read from it.
        """
        return {}

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

    def on_unattended(self) -> None:
        """Nobody closed the run: say what was to come at its end and does not."""

    def takes_back(self, reason: str) -> bool:
        """Whether it asked to stop for this reason, in the state that was stored, and no longer does."""
        return False

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
        each_numbers: Those that have numbers of an epoch.
        each_validation: Those that want to know of each validation.

    Raises:
        ConfigError: If one is not a `Callback`.
    """

    def __init__(
        self,
        callbacks: Iterable[Callback],
        faults: FaultLog,
        watchers: Sequence[type[Callback]] = (),
    ) -> None:
        callbacks = _checked_callbacks(callbacks)
        self._stored = callbacks
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
        self.each_numbers = [c for c in callbacks if type(c).numbers is not Callback.numbers]
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

    def numbers(self, monitor: MonitoredRun, scores: EpochScores) -> None:
        """Add to the epoch what is known of it beside its scores."""
        for callback in self.each_numbers:
            with self._faults.containing(_where(callback)), self._faults.released():
                for name, value in callback.numbers(monitor, scores).items():
                    if "/" in name:
                        cure = "What stands before it would be taken for a split."
                        raise ConfigError("numbers", 'a name without "/"', repr(name), cure)
                    scores.numbers[name] = float(value)

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
        """Nobody closed the run."""
        for callback in self._callbacks:
            callback.on_unattended()

    def goes_on(self, reason: str) -> bool:
        """Whether the callback that gave this reason to stop takes it back."""
        return any(callback.takes_back(reason) for callback in self._callbacks)

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


def _checked_callbacks(given: Any) -> tuple[Callback, ...]:
    if not isinstance(given, Iterable):
        cure = "Pass callbacks=[mine]."
        raise ConfigError("callbacks", "pm.Callback objects in a list", type(given).__name__, cure)
    callbacks = tuple(given)
    wrong = [type(c).__name__ for c in callbacks if not isinstance(c, Callback)]
    if wrong:
        cure = "Derive your class from pm.Callback."
        raise ConfigError("callbacks", "pm.Callback objects", ", ".join(wrong), cure)
    for kind in dict.fromkeys(map(type, callbacks)):
        for name, event in _misspelt(kind):
            got = f"{name}, which nobody calls"
            cure = f"Name it {event}, or a helper without on_."
            where = f"callback {kind.__name__}"
            say("%s", ConfigError(where, f"events such as {event}", got, cure))
    return callbacks


EVENTS = tuple(name for name in vars(Callback) if name.startswith("on_"))
NEAR = 0.85  # of letters in common: "on_epoch_edn" is near, "on_print" to "on_init" is not
_WORDS = {
    **dict.fromkeys(("begin", "begins", "start", "starts", "started"), "begin"),
    **dict.fromkeys(("end", "ends", "ended", "finish", "finished"), "end"),
    **dict.fromkeys(("batch", "batches", "step", "steps"), "batch"),
    **dict.fromkeys(("validation", "validate", "val", "eval", "evaluate", "test"), "validation"),
    **dict.fromkeys(("epoch", "epochs"), "epoch"),
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("run", "fit"), "run"),
}
"""Words that this field's loops name their events by, and ours for each."""
_TOLD_BY = {"on_train_begin": "on_run_begin", "on_validation_begin": "on_validation_end"}
"""Events that there are not, and what tells of them."""


def _misspelt(kind: type[Callback]) -> Iterator[tuple[str, str]]:
    """Methods that look like an event and that nobody calls, and the event that is meant.

    What the class calls itself is a helper, and what another base knows is that one's.
    """
    ours = [base for base in kind.__mro__ if issubclass(base, Callback)]
    others = [base for base in kind.__mro__ if base not in ours]
    methods = {
        name: method
        for base in reversed(ours)
        for name, method in vars(base).items()
        if isinstance(method, FunctionType)
    }
    called = {name for method in methods.values() for name in method.__code__.co_names}
    for name in sorted(methods.keys() - called - set(EVENTS)):
        event = _nearest_event(name) if name.startswith("on") else ""
        if event and not any(hasattr(base, name) for base in others):
            yield name, event


def _nearest_event(name: str) -> str:
    """The event that a name is another one for, in words or in letters; empty if there is none."""
    on, *words = name.lower().split("_")
    if on == "on" and words and set(words) <= set(_WORDS):
        meant = {_WORDS[word] for word in words}
        when = "begin" if "begin" in meant else "end"
        about = next((w for w in ("batch", "validation", "epoch", "train") if w in meant), "run")
        event = f"on_{about}_{when}"
        return _TOLD_BY.get(event, event)
    return next(iter(get_close_matches(name.lower(), EVENTS, 1, NEAR)), "")


def _where(callback: Callback) -> str:
    return f"callback {type(callback).__name__}"
