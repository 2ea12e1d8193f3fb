"""A fault in a metric never ends the user's training: it is contained, counted and recorded."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from ptmetrics.errors import ConfigError

OnFault = Literal["record", "raise"]
LOGGER = logging.getLogger("ptmetrics")


@dataclass
class Fault:
    """Faults of one kind: where they happened, the first one's message, and how many there were."""

    where: str
    message: str
    count: int
    epoch: int
    step: int | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the record."""
        return {"where": self.where, "message": self.message, "count": self.count,
                "epoch": self.epoch, "step": self.step}  # fmt: skip


class FaultLog:
    """Contains exceptions; use it as `with log.contain("where"):`.

    The log stays small whatever happens: one entry for each place and type of error, told to `tell` when its
    count reaches 1, 10, 100 and so on.

    Args:
        on_fault: "record", or "raise" to let exceptions through once they are noted.
        tell: Called with each fault worth a line in the record.

    Raises:
        ConfigError: If `on_fault` is neither.
    """

    def __init__(self, on_fault: OnFault, tell: Callable[[Fault], None]) -> None:
        if on_fault not in ("record", "raise"):
            raise ConfigError("on_fault", '"record" or "raise"', repr(on_fault), 'Leave it out for "record".')
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

    def note(self, where: str, error: Exception | str, step: int | None = None) -> None:
        """Count one fault."""
        key = (where, type(error).__name__ if isinstance(error, Exception) else error)
        fault = self._faults.get(key)
        if fault is None:
            message = f"{type(error).__name__}: {error}" if isinstance(error, Exception) else error
            fault = self._faults[key] = Fault(where, message, 0, self.epoch, step)
            LOGGER.warning("%s failed and was left out; training goes on. %s", where, fault.message)
        fault.count += 1
        if fault.count == 10 ** (len(str(fault.count)) - 1):
            self._tell(fault)


class _Contained:
    __slots__ = ("log", "step", "where")

    def __init__(self, log: FaultLog, where: str, step: int | None) -> None:
        self.log, self.where, self.step = log, where, step

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.log.note(self.where, error, self.step)
        return self.log.on_fault != "raise"
