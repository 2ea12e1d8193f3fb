"""Where a run is, stored and taken up again: all of it or nothing."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from ptmetrics.errors import StateError
from ptmetrics.monitor.diary import Standing


class Part(Protocol):
    """Something that has a state."""

    def state_dict(self) -> Any:
        """Tensors and plain values."""

    def load_state_dict(self, state: Any, /) -> None:
        """Take up what `state_dict` gave."""


class RunState:
    """The state of a run.

    Args:
        standing: Where the run is.
        splits: Half-done counts.
        totals: Times and counts so far.
        callbacks: What they know.
    """

    def __init__(self, standing: Standing, splits: Part, totals: Part, callbacks: Part) -> None:
        self._standing = standing
        self._parts = {"splits": splits, "totals": totals, "callbacks": callbacks}

    def store(self) -> dict[str, Any]:
        """Tensors and plain values only."""
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        return {"standing": dataclasses.asdict(self._standing), **parts}

    def restore(self, state: Any) -> None:
        """Take up what `store` gave.

        Raises:
            StateError: If it does not fit; every part is as it was then.
        """
        wanted = {"standing", *self._parts}
        if not isinstance(state, Mapping) or not wanted <= set(state):
            got = (
                f"keys {sorted(map(str, state))}"
                if isinstance(state, Mapping)
                else type(state).__name__
            )
            cure = 'Pass what monitor.state_dict() gave; in a checkpoint it is under "monitor".'
            raise StateError("state_dict", f"a mapping with {', '.join(sorted(wanted))}", got, cure)
        before = self.store()
        try:
            self._load(state)
        except Exception as error:
            self._load(before)
            if isinstance(error, StateError):
                raise
            cure = (
                "It is damaged, or of another version or other callbacks: use another checkpoint."
            )
            raise StateError(
                "state_dict", "a state of this run", f"{type(error).__name__}: {error}", cure
            ) from error

    def _load(self, state: Mapping[str, Any]) -> None:
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        vars(self._standing).update(vars(Standing(**state["standing"])))
