"""A fault in a metric never ends the user's training: it is contained, counted and recorded."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from ptmetrics.errors import ConfigError, FaultError

OnFault = Literal["record", "raise"]
LOGGER = logging.getLogger("ptmetrics")
MAX_MESSAGE = 2000  # an error may print a whole tensor


@dataclass
class Fault:
    """Faults of one kind: where they happened, the first one's message, and how many there were."""

    where: str
    message: str
    count: int
    epoch: int
    step: int | None
    told: int = 0  # the count when it was last told

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the record."""
        return {"where": self.where, "message": self.message, "count": self.count,
                "epoch": self.epoch, "step": self.step}  # fmt: skip


class FaultLog:
    """Contains exceptions; use it as `with log.contain("where"):`.

    The log stays small whatever happens: one entry for each place and type of error, told to `tell` when its
    count reaches 1, 10, 100 and so on, and by `settle`.

    Args:
        on_fault: "record", or "raise" to let exceptions through once they are noted.
        tell: Called with each fault worth a line in the record.

    Raises:
        ConfigError: If `on_fault` is neither.
    """

    def __init__(self, on_fault: OnFault, tell: Callable[[Fault], None]) -> None:
        if on_fault not in ("record", "raise"):
            raise ConfigError(
                "on_fault", '"record" or "raise"', repr(on_fault), 'Leave it out for "record".'
            )
        self.on_fault = on_fault
        self.epoch = 0
        self._tell = tell
        self._faults: dict[tuple[str, str], Fault] = {}

    def __len__(self) -> int:
        return sum(fault.count for fault in self._faults.values())

    def all(self) -> list[Fault]:
        """Every kind of fault so far."""
        return list(self._faults.values())

    def contain(self, where: str, step: int | None = None) -> "_Contained":
        """A context that swallows `Exception` and notes it; KeyboardInterrupt and its like pass."""
        return _Contained(self, where, step)

    def caught(self, where: str, error: Exception, step: int | None = None) -> None:
        """Note an exception, where `contain` would cost too much; to be called as it is handled.

        Raises:
            Exception: The error itself, with `on_fault="raise"`.
        """
        self.note(where, error, step)
        if self.on_fault == "raise":
            raise error

    def flaw(self, where: str, expected: str, got: str, cure: str) -> None:
        """Count a flaw of the loop itself, which raised nothing.

        Raises:
            FaultError: With `on_fault="raise"`.
        """
        error = FaultError(where, expected, got, cure)
        self.note(where, error)
        if self.on_fault == "raise":
            raise error

    def note(self, where: str, error: Exception, step: int | None = None) -> None:
        """Count one fault."""
        key = (where, type(error).__name__)
        fault = self._faults.get(key)
        if fault is None:
            fault = self._faults[key] = Fault(where, _words(error), 0, self.epoch, step)
            LOGGER.warning("%s: %s; training goes on", where, fault.message)
        fault.count += 1
        if fault.count == 10 ** (len(str(fault.count)) - 1):
            self._told(fault)

    def settle(self) -> None:
        """At the end: tell the count of every fault that has gone on since it was told."""
        for fault in self._faults.values():
            if fault.count > fault.told:
                self._told(fault)
        if self:
            LOGGER.warning("%d faults were contained in this run; its record lists them", len(self))

    def _told(self, fault: Fault) -> None:
        fault.told = fault.count
        self._tell(fault)


def _words(error: Exception) -> str:
    """What an error says, cut to a line's length; an error may even fail to be printed."""
    if isinstance(error, FaultError):
        return f"expected {error.expected}, got {error.got}. {error.cure}"
    try:
        text = str(error)
    except Exception as second:
        text = f"it cannot be printed: {type(second).__name__}"
    return f"{type(error).__name__}: {text}"[:MAX_MESSAGE]


class _Contained:
    __slots__ = ("log", "step", "where")

    def __init__(self, log: FaultLog, where: str, step: int | None) -> None:
        self.log, self.where, self.step = log, where, step

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.log.note(self.where, error, self.step)
        return self.log.on_fault != "raise"
