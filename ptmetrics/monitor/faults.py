"""The boundary between the user's loop and us: what goes wrong behind it is contained and told.

Every way in from the loop (hooks, loaders, `update`, `end_epoch`, callbacks, progress, exit) is a
method under `@contained`, and nothing further inside contains anything but the parts of `end_epoch`
that can do without each other. `Exception` stays inside; `KeyboardInterrupt` and `SystemExit` pass.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, Literal, NamedTuple, TypeVar

from ptmetrics.errors import ConfigError, FaultError, HookError

OnFault = Literal["contain", "raise"]
LOGGER = logging.getLogger("ptmetrics")
MAX_MESSAGE = 2000  # an error may print a whole tensor
MAX_KINDS = 100
OTHERS = ("others", "")
"""The kind under which all those beyond the first 100 are counted."""


class LoopWarning(NamedTuple):
    """Something wrong in the user's loop that raises nothing by itself."""

    where: str
    expected: str
    got: str
    cure: str


NO_FORWARD = LoopWarning(
    "model hook",
    "a call of the attached model for each batch",
    "a batch without one",
    "Attach the object that the loop calls.",
)
NOTHING_SEEN = LoopWarning(
    "epoch",
    "predictions in an epoch",
    "none at all",
    "Attach the object that the loop calls, with its criterion, or call update().",
)
TRAINING_MODE = LoopWarning(
    "validation",
    "a model in evaluation mode",
    "one in training mode",
    "Call model.eval() before it.",
)
STEP_IN_EVAL = LoopWarning(
    "optimizer",
    "steps of a model in training mode",
    "one with model.training False, whose batches were counted as validation",
    "Call model.train() before training.",
)
COUNTED_TWICE = LoopWarning(
    "update",
    "a batch that no hook has counted",
    "one that a hook has, so it was left out here",
    "Leave out update(), or the criterion and the loader wrapper.",
)
IDS_WITHOUT_BATCH = LoopWarning(
    "criterion hook",
    "a monitored loader, whose batches hold the slices and groups",
    "a batch without them, whose rows are of no slice and independent",
    "Wrap the loaders: monitor.train(loader), monitor.validate(loader).",
)


class Refusal(Exception):  # noqa: N818 — it carries an error and is none
    """Carries an error through the boundary: the call itself was wrong, and nothing was done.

    Args:
        error: What the user gets.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@dataclass
class Fault:
    """Faults of one kind: where they happened, the first one's message, and how many there were."""

    where: str
    message: str
    count: int
    epoch: int
    step: int | None
    split: str | None = None
    told: int = 0  # the count when it was last told

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the record."""
        return {
            "where": self.where,
            "message": self.message,
            "count": self.count,
            "epoch": self.epoch,
            "step": self.step,
            "split": self.split,
        }


class FaultLog:
    """Counts what went wrong behind the boundary, and holds the boundary's lock.

    The log stays small whatever happens: one entry for each place and type of error, at most 100 of
    them and one for all others, told to `tell` when its count reaches 1, 10, 100 and so on, and by
    `summarize`.

    Args:
        on_fault: "contain", or "raise" to let exceptions through once they are noted.
        tell: Called with each fault worth a line in the record.

    Attributes:
        epoch: Number of the epoch under way; a fault is noted with it.
        step: Number of the batch under way, likewise.
        split: Its split, likewise; None between batches.
        lock: Held by the thread that is inside of the boundary.
        busy: Whether our own code runs in that thread, as opposed to a callback.
        postponed: Calls from a signal handler that came while it ran.
        kept_in: What a frame of ours that stands outside of the boundary does not let through,
            because it was raised at the boundary itself.
        strays: Such errors, and those of telling another one; noted with the next one.

    Raises:
        ConfigError: If `on_fault` is neither.
    """

    def __init__(self, on_fault: OnFault, tell: Callable[[Fault], None]) -> None:
        if on_fault not in ("contain", "raise"):
            cure = 'Leave it out for "contain".'
            raise ConfigError("on_fault", '"contain" or "raise"', repr(on_fault), cure)
        self.on_fault = on_fault
        self.epoch = 0
        self.step: int | None = None
        self.split: str | None = None
        self.lock = threading.RLock()
        self.busy = False
        self.postponed: deque[Callable[[], object]] = deque()
        self.kept_in: tuple[type[Exception], ...] = (Exception,)
        if on_fault == "raise":
            self.kept_in = ()
        self.strays: deque[Exception] = deque(maxlen=100)
        self._tell = tell
        self._faults: dict[tuple[str, str], Fault] = {}

    def __len__(self) -> int:
        return sum(fault.count for fault in self._faults.values())

    def __repr__(self) -> str:
        kinds = [f"{fault.where} ×{fault.count}: {fault.message}" for fault in self.all()]
        return f"FaultLog({kinds})"

    def all(self) -> list[Fault]:
        """Every kind of fault so far."""
        return list(self._faults.values())

    def warn(self, warning: LoopWarning) -> None:
        """Count something in the user's loop that raised nothing.

        Raises:
            FaultError: With `on_fault="raise"`.
        """
        error = FaultError(*warning)
        if self.on_fault == "raise":
            raise error
        self.note(warning.where, error)

    def note(self, where: str, error: Exception) -> None:
        """Count one fault. Nothing that fails on the way, in a log's handler say, is raised."""
        try:
            self._note(where, error)
        except Exception as second:  # no memory is left for a note, say
            self.strays.append(second)

    @contextmanager
    def containing(self, where: str, refuse: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Contain a part of a way in that the parts behind it can do without.

        Args:
            where: Name of the part.
            refuse: Errors that go to the user: what they say is wrong with the call.
        """
        try:
            yield
        except refuse as error:
            raise Refusal(error) from error
        except Exception as error:
            if self.on_fault == "raise" or isinstance(error, Refusal):
                raise
            self.note(where, error)

    @contextmanager
    def released(self) -> Iterator[None]:
        """Let go of the lock while a callback runs: it may wait for a thread that calls us."""
        self.busy = False
        self.lock.release()
        try:
            yield
        finally:
            self.lock.acquire()
            self.busy = True

    def run_postponed(self) -> None:
        """Make up for the calls of signal handlers."""
        while self.postponed:
            call = self.postponed.popleft()
            try:
                call()
            except self.kept_in as error:
                self.strays.append(error)

    def summarize(self) -> None:
        """At the end: tell the count of every fault that has gone on since it was told."""
        while self.strays:
            self._note("boundary", self.strays.popleft())
        for fault in self._faults.values():
            if fault.count > fault.told:
                self._told(fault)
        if self._faults:
            _attempt(
                LOGGER.warning,
                "%d faults were contained in this run; its record lists them",
                len(self),
            )

    def _note(self, where: str, error: Exception) -> None:
        if isinstance(error, FaultError):
            where = error.name
        key = (where, type(error).__name__)
        fault = self._faults.get(key)
        if fault is None and len(self._faults) >= MAX_KINDS:
            key = OTHERS
            fault = self._faults.get(key)
        if fault is None:
            message = error_text(error)
            if key == OTHERS:
                message = f"more than {MAX_KINDS} kinds of fault; the first further one: {message}"
                where = key[0]
            fault = Fault(where, message, 0, self.epoch, self.step, self.split)
            self._faults[key] = fault
            told = fault.message.rstrip(".")
            _attempt(LOGGER.warning, "%s: %s; training goes on", where, told)
        fault.count += 1
        if fault.split != self.split:  # of several splits: of none in particular
            fault.split = None
        if fault.count == 10 ** (len(str(fault.count)) - 1):
            self._told(fault)

    def _told(self, fault: Fault) -> None:
        fault.told = fault.count
        _attempt(self._tell, fault)


def _attempt(call: Callable[..., object], *args: object) -> None:
    """Tell somebody of a fault, who may fail."""
    try:
        call(*args)
    except Exception:
        return


def say(line: str, *values: object) -> None:
    """Tell the user by the log of the package; a handler that fails costs the line and no more."""
    _attempt(LOGGER.warning, line, *values)


def error_text(error: BaseException) -> str:
    """What an error says, cut to a line's length; an error may even fail to be printed."""
    if isinstance(error, FaultError):
        return f"expected {error.expected}, got {error.got}. {error.cure}"
    try:
        text = str(error)
    except Exception as second:
        text = f"it cannot be printed: {type(second).__name__}"
    return f"{type(error).__name__}: {text}"[:MAX_MESSAGE]


Method = TypeVar("Method", bound=Callable[..., Any])


def contained(
    where: str, otherwise: Callable[..., Any] | None = None, *, raises: bool = False
) -> Callable[[Method], Method]:
    """Make a method a way in from the loop: one thread at a time, and no exception comes out.

    The method's object has its `FaultLog` as `faults`.

    A signal handler that interrupts a way in and calls another one has its call made up for behind
    the first. A way in never calls another one, but from a callback.

    Args:
        where: What faults are noted under.
        otherwise: Makes what is returned when the call fails or is postponed, of a tuple of the
            object and its arguments; None for None.
        raises: Whether exceptions pass after all, where the call is part of setting up or of
            saving; then a signal handler in the middle of another call is refused.
    """

    def decorate(method: Method) -> Method:
        @wraps(method)
        def guarded(*args: Any, **kwargs: Any) -> Any:  # the object is the first of them
            faults: FaultLog = args[0].faults
            with faults.lock:
                if faults.busy:
                    if raises:
                        raise _interrupting(where)
                    faults.postponed.append(partial(guarded, *args, **kwargs))
                    return otherwise and otherwise((*args, *kwargs.values()))
                try:
                    faults.busy = True
                    return method(*args, **kwargs)
                except Refusal as refusal:
                    raise refusal.error from refusal.error.__cause__
                except Exception as error:
                    if not raises:
                        with suppress(Exception):  # not even that can be called
                            faults.note(where, error)
                    if raises or faults.on_fault == "raise":
                        raise
                finally:
                    faults.busy = False
                    if faults.postponed:
                        faults.run_postponed()
                return otherwise and otherwise((*args, *kwargs.values()))

        same: Method = _typed(guarded)
        return same

    return decorate


def _typed(function: Any) -> Any:
    """A function whose type nobody checks: a decorated method has the type of the method."""
    return function


def _interrupting(where: str) -> HookError:
    cure = "Set a flag in the handler, and look at it in the loop."
    return HookError(where, "a call from the loop", "one from a signal handler in a batch", cure)
