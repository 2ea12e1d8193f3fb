"""The one accumulator: it owns the state tensors of some statistics and adds batches, halves and ranks up."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ptmetrics.counts.cells import Cell, State, merge_
from ptmetrics.counts.contract import Direct, Stage, Statistic
from ptmetrics.counts.state_checks import cells_of, possible, same_digest, updates_of
from ptmetrics.counts.waiting import Given, Ring, capturing

STATE_VERSION = 1
# State is made outside inference mode, so that it may be changed inside and outside of it alike.
_outside_inference = torch.inference_mode(False)


class Accumulator:
    """Fixed-shape 64-bit device state of several statistics that see the same batches.

    Plain tensors, never module buffers: `model.to(torch.bfloat16)` cannot touch them. Small batches wait in a ring
    until a few thousand rows have come together; whoever reads the state has them counted first.

    Args:
        statistics: What to count.
        config: What the counts mean; two states merge only when it is equal.
        device: Where the state lives.
        stage: What makes of a batch what the statistics count; None for the batch itself.
    """

    def __init__(
        self,
        statistics: Sequence[Statistic[Any]],
        config: Mapping[str, Any],
        device: torch.device | str = "cpu",
        stage: Stage | None = None,
    ) -> None:
        self.statistics = tuple(statistics)
        self.config = dict(config)
        self.device = torch.device(device)
        self._ring, self._stage = Ring(), stage or Direct()
        self.layout: dict[str, Cell] = dict(self._stage.layout())
        for statistic in self.statistics:
            self.layout |= statistic.layout()
        self.updates = 0  # on the host: batches added so far
        self.weighted = False  # whether a sample weight was ever seen
        self._state = self._zeros()
        self._pristine = True  # the state is the identity
        self._captured = False  # a CUDA graph writes to the state

    @property
    def state(self) -> State:
        """The cells, with everything counted that was added."""
        self._read(self._ring.drain())
        self._count(self._stage.drain())
        return self._state

    @property
    def home(self) -> Tensor:
        """Some cell, for its device."""
        return next(iter(self._state.values()))

    @property
    def digest(self) -> str:
        """A short hash of the configuration and the layout."""
        layout = {
            name: [c.shape, str(c.dtype), c.merge, c.weights_of] for name, c in self.layout.items()
        }
        text = json.dumps([STATE_VERSION, self._config_text(), layout], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def state_bytes(self) -> int:
        """Bytes of the state; they depend on the configuration only, never on the number of samples."""
        return sum(t.numel() * t.element_size() for t in self._state.values())

    def add_(self, batch: Given, form: object) -> None:
        """Add one batch to every statistic: at once, or with those that come after it.

        Args:
            batch: Gets the number `updates`. Nothing of it is kept, and no gradient flows through it.
            form: Whatever tells shapes and types apart: batches of equal form may wait together; None for no waiting.
        """
        batch.step = self.updates
        self._pristine, self.updates = False, self.updates + 1
        if batch.preds.is_cuda and capturing():
            self._captured, stage = (
                True,
                self._stage.fresh(),
            )  # a replay must not repeat what waits now
            self._count(stage.read(self._state, batch))
            self._count(stage.drain())
            self._ring.seal()
        elif self._ring.put(batch, form):
            if self._ring.full:
                self._read(self._ring.drain())
        else:
            self._read(self._ring.drain())
            self._ring.meet(form)
            self._read(batch)

    def _read(self, batch: Given | None) -> None:
        if batch is not None:
            self._count(self._stage.read(self._state, batch))

    @torch.no_grad()
    def _count(self, batches: Iterable[Any]) -> None:
        for batch in batches:
            for statistic in self.statistics:
                statistic.add_(self._state, batch)

    @_outside_inference
    def weigh(self) -> None:
        """Make room for sample weights, if there is none yet: all rows so far weighed 1."""
        if self.weighted:
            return
        state, self.weighted = self.state, True
        self._state = {
            name: state[name]
            if name in state
            else state[str(cell.weights_of)].to(cell.dtype, copy=True)
            for name, cell in self.layout.items()
        }

    def merge_state(self, others: Iterable["Accumulator"]) -> None:
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
        """Back to the identity of merge; in the same tensors where a CUDA graph writes to them."""
        self._ring.clear()
        self._stage = self._stage.fresh()
        if self._captured:
            for name, tensor in self._state.items():
                tensor.copy_(self.layout[name].identity(self.device))
        else:
            self._state, self.weighted = self._zeros(), False
        self.updates, self._pristine = 0, True

    def fresh(self) -> "Accumulator":
        """One of the same configuration and device that has counted nothing."""
        return Accumulator(self.statistics, self.config, self.device, self._stage.fresh())

    def lend(self, state: State, updates: int) -> None:
        """Count on in the tensors of somebody else, who keeps them; what was counted here is forgotten."""
        self._forget()
        self._state, self.updates, self._pristine = dict(state), updates, False
        self.weighted = any(self.layout[name].weights_of is not None for name in state)
        self.device = self.home.device

    def _forget(self) -> None:
        """What waits."""
        self._ring.drop()
        self._stage = self._stage.fresh()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {
            "_state": self.state,
            "_ring": Ring(),
            "_stage": self._stage.fresh(),
        }

    @_outside_inference
    def to(self, device: torch.device | str) -> None:
        """Move the state; shapes and types stay as they are. Where nothing was counted, nothing is copied."""
        state, self.device = self.state, torch.device(device)
        if self._pristine:
            self._state, self.weighted = self._zeros(), False
        else:
            self._state = {name: t.to(self.device) for name, t in state.items()}
        self._forget()

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
        cells = cells_of(state)
        self._same_digest("state_dict", state["digest"], state.get("config"))
        updates = updates_of(state)
        weights = {name for name, cell in self.layout.items() if cell.weights_of is not None}
        weighted = weights & cells.keys() or state.get("weighted")
        names = [name for name in self.layout if name not in weights or weighted]
        possible(self.layout, names, cells)
        self._forget()
        self.weighted = bool(weighted)
        self._state = {name: cells[name].detach().to(self.device, copy=True) for name in names}
        self.updates, self._pristine = updates, False

    def _config_text(self) -> str:
        return json.dumps(self.config, sort_keys=True)

    def _same_digest(self, name: str, digest: object, config: object) -> None:
        same_digest(name, (self.digest, self._config_text()), (digest, config))

    @_outside_inference
    def _zeros(self) -> State:
        always = {name: cell for name, cell in self.layout.items() if cell.weights_of is None}
        return {name: cell.identity(self.device) for name, cell in always.items()}
