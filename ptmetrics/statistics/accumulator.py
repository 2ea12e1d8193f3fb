"""The one accumulator: it owns the state tensors of some statistics and adds batches, halves and ranks up."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from ptmetrics.errors import StateError
from ptmetrics.statistics.cells import Cell, State, merge_

B = TypeVar("B", contravariant=True)
STATE_VERSION = 1
DAMAGED = "The file is damaged or was written by something else: use another checkpoint."
# State is made outside inference mode, so that it may be changed inside and outside of it alike.
_outside_inference = torch.inference_mode(False)


class Statistic(Protocol[B]):
    """A sufficient statistic: the cells it needs, and how a batch is added to them without a host sync."""

    def layout(self) -> Mapping[str, Cell]:
        """The cells, from the configuration alone: no batch changes a shape."""
        ...

    def add_(self, state: State, batch: B) -> None:
        """Add one checked batch in place."""
        ...


class Stage(Protocol[B]):
    """Where rows wait until it pays to count them; the state is only read with nothing left waiting."""

    def layout(self) -> Mapping[str, Cell]:
        """Cells of what it counts by itself."""
        ...

    def read(self, state: State, batch: B) -> Iterator[Any]:
        """Take in a batch; give out what is to be counted now, each before the next is made."""
        ...

    def drain(self) -> Iterator[Any]:
        """Give out what waits."""
        ...

    def drop(self) -> None:
        """Forget what waits."""
        ...

    def fresh(self) -> "Stage[B]":
        """The same with nothing in it."""
        ...


class Accumulator(Generic[B]):
    """Fixed-shape 64-bit device state of several statistics that see the same batches.

    Plain tensors, never module buffers: `model.to(torch.bfloat16)` cannot touch them.

    Args:
        statistics: What to count.
        config: What the counts mean; two states merge only when it is equal.
        device: Where the state lives.
        stage: What makes of a batch what the statistics count, now or later; None for the batch itself at once.
    """

    def __init__(
        self,
        statistics: Sequence[Statistic[Any]],
        config: Mapping[str, Any],
        device: torch.device | str = "cpu",
        stage: Stage[B] | None = None,
    ) -> None:
        self.statistics = tuple(statistics)
        self.config = dict(config)
        self.device = torch.device(device)
        self._stage = stage
        self.layout: dict[str, Cell] = {} if stage is None else dict(stage.layout())
        for statistic in self.statistics:
            self.layout |= statistic.layout()
        self.updates = 0  # on the host: batches added so far
        self._state = self._zeros()
        self._pristine = True  # the state is the identity

    @property
    def state(self) -> State:
        """The cells, with everything counted that was added."""
        if self._stage is not None:
            self._count(self._stage.drain())
        return self._state

    @property
    def home(self) -> Tensor:
        """Some cell, for its device."""
        return next(iter(self._state.values()))

    @property
    def digest(self) -> str:
        """A short hash of the configuration and the layout."""
        layout = {name: [c.shape, str(c.dtype), c.merge, c.weights_of] for name, c in self.layout.items()}
        text = json.dumps([STATE_VERSION, self._config_text(), layout], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def state_bytes(self) -> int:
        """Bytes of the state; they depend on the configuration only, never on the number of samples."""
        return sum(t.numel() * t.element_size() for t in self._state.values())

    def add_(self, batch: B) -> None:
        """Add one batch to every statistic."""
        self._pristine = False
        self._count((batch,) if self._stage is None else self._stage.read(self._state, batch))
        self.updates += 1

    def _count(self, batches: Iterable[Any]) -> None:
        for batch in batches:
            for statistic in self.statistics:
                statistic.add_(self._state, batch)

    @_outside_inference
    def weigh(self) -> None:
        """Make room for sample weights, if there is none yet: all rows so far weighed 1."""
        if self.weighted:
            return
        state = self.state
        self._state = {
            name: state[name] if name in state else state[str(cell.weights_of)].to(cell.dtype, copy=True)
            for name, cell in self.layout.items()
        }

    @property
    def weighted(self) -> bool:
        """Whether a sample weight was ever seen."""
        return any(self.layout[name].weights_of is not None for name in self._state)

    def merge_state(self, others: Iterable["Accumulator[B]"]) -> None:
        """Add the states of `others`; none of them changes.

        Raises:
            StateError: If a configuration differs; the current state is kept.
        """
        others = list(others)
        for other in others:
            self._same_digest("merge_state", other.digest, other._config_text())
        for other in others:
            self._pristine = False
            if other.weighted:
                self.weigh()
            merge_(self.layout, self.state, other.state)
            self.updates += other.updates

    def reset(self) -> None:
        """Back to the identity of merge, in fresh tensors."""
        self._drop()
        self._state, self._pristine = self._zeros(), True
        self.updates = 0

    def fresh(self) -> "Accumulator[B]":
        """One of the same configuration and device that has counted nothing."""
        stage = None if self._stage is None else self._stage.fresh()
        return Accumulator(self.statistics, self.config, self.device, stage)

    def lend(self, state: State, updates: int) -> None:
        """Count on in the tensors of somebody else, who keeps them; what was counted here is forgotten."""
        self._drop()
        self._state, self.updates, self._pristine = dict(state), updates, False
        self.device = self.home.device

    def _drop(self) -> None:
        if self._stage is not None:
            self._stage.drop()

    @_outside_inference
    def to(self, device: torch.device | str) -> None:
        """Move the state; shapes and types stay as they are. Where nothing was counted, nothing is copied."""
        state, self.device = self.state, torch.device(device)
        if self._pristine:
            self._state = self._zeros()
        else:
            self._state = {name: t.to(self.device) for name, t in state.items()}
        self._drop()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only, so that `torch.load(weights_only=True)` reads it."""
        cells = {name: t.clone() for name, t in self.state.items()}
        counted = {"updates": self.updates, "weighted": self.weighted, "cells": cells}
        return {"digest": self.digest, "config": self._config_text()} | counted

    @_outside_inference
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `state_dict` made.

        Raises:
            StateError: If it is foreign, of another configuration, or impossible; the current state is kept.
        """
        cells = state.get("cells") if isinstance(state, Mapping) else None
        if not isinstance(cells, Mapping) or "digest" not in state:
            raise StateError(
                "state_dict", "a mapping made by state_dict()", _keys(state), "Load the state of a metric."
            )
        self._same_digest("state_dict", state["digest"], state.get("config"))
        updates = state.get("updates")
        if type(updates) is not int or updates < 0:
            raise StateError("state_dict['updates']", "a whole number of 0 or more", repr(updates), DAMAGED)
        weights = {name for name, cell in self.layout.items() if cell.weights_of is not None}
        weighted = weights & cells.keys() or state.get("weighted")
        names = [name for name in self.layout if name not in weights or weighted]
        for name in names:
            _possible(name, self.layout[name], cells.get(name))
        self._drop()
        self._state = {name: cells[name].detach().to(self.device, copy=True) for name in names}
        self.updates, self._pristine = updates, False

    def _config_text(self) -> str:
        return json.dumps(self.config, sort_keys=True)

    def _same_digest(self, name: str, digest: object, config: object) -> None:
        if digest != self.digest:
            raise StateError(
                name,
                f"the configuration {self._config_text()} with digest {self.digest}",
                f"{config} with digest {digest}",
                "Build both metrics with the same arguments and the same version of ptmetrics.",
            )

    @_outside_inference
    def _zeros(self) -> State:
        always = {name: cell for name, cell in self.layout.items() if cell.weights_of is None}
        return {name: cell.identity(self.device) for name, cell in always.items()}


def _keys(state: object) -> str:
    return f"keys {sorted(map(str, state))}" if isinstance(state, Mapping) else type(state).__name__


def _possible(name: str, cell: Cell, value: object) -> None:
    name, rule = f"state_dict[{name!r}]", f"a tensor {cell.dtype} of shape {cell.shape}"
    if not isinstance(value, Tensor):
        raise StateError(name, rule, type(value).__name__, DAMAGED)
    if value.dtype != cell.dtype or tuple(value.shape) != cell.shape:
        raise StateError(name, rule, f"{value.dtype} of shape {tuple(value.shape)}", DAMAGED)
    if bool((value != value).any()):  # noqa: PLR0124 — NaN is what differs from itself
        raise StateError(name, "sums that are numbers", "nan", DAMAGED)
    counts = cell.dtype == torch.int64 or cell.weights_of is not None
    if counts and bool((value < 0).any()):
        raise StateError(name, "counts of 0 or more", f"{value.min().item()}", DAMAGED)
