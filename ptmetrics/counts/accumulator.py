"""The one accumulator: it owns the tensors of some cells and adds up batches, halves of a run and ranks."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ptmetrics.counts import moments
from ptmetrics.counts.batch import At, Batch, Counted, RowWeights
from ptmetrics.counts.cell import DAMAGED, LARGEST_COUNT, NEVER, Cell, State
from ptmetrics.counts.modes import capturing, outside_inference
from ptmetrics.counts.stored_sums import (
    MEASURES,
    Relations,
    StoredSums,
    check_general,
    check_relations,
    no_relations,
    share_memory,
)
from ptmetrics.counts.subgroups import Subgroups
from ptmetrics.errors import ConfigError, StateError

STATE_VERSION = 2
OF_GROUPS = "group."  # begins the name of what is kept of each group
MERGED_BY_SUMS = ("sum", "mean", "joint")  # merges whose identity is 0


class Accumulator:
    """Fixed-shape 64-bit device state of some cells, for all rows and for each part of them.

    Plain tensors, never module buffers: `model.to(torch.bfloat16)` cannot touch them.

    Args:
        cells: What to keep.
        config: What the counts mean; two states merge only when it is equal.
        subgroups: Which parts of the rows to tell apart.
        fault_kinds: Kinds of bad values that are counted.
        device: Where the state lives.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        config: Mapping[str, Any],
        subgroups: Subgroups,
        fault_kinds: Iterable[str],
        device: torch.device,
    ) -> None:
        self.cells = tuple(c for c in cells if c.scope != "subgroups" or subgroups)
        self._names = {cell.name for cell in self.cells}
        self._of_whole = [cell for cell in self.cells if cell.is_kept_of("whole")]
        self._names_of_whole = {cell.name for cell in self._of_whole}
        self._known = {cell.name for cell in cells}
        self.config = dict(config)
        self.subgroups = subgroups
        self.fault_kinds = tuple(fault_kinds)
        self.device = device
        self.layout: dict[str, Cell] = {}
        for cell in self._all_cells():
            self.layout[cell.name] = cell
            if cell.counts_rows:
                self.layout.update({twin.name: twin for twin in cell.twins()})
        self.updates = 0  # on the host: batches added so far
        self.weighted = False  # whether a sample weight was ever seen
        self.grouped = bool(subgroups.groups)  # whether there is room for groups
        self.captured = False  # a CUDA graph writes to the state
        self._pristine = True  # the state is the identity
        self.state = self._zeros()

    def _all_cells(self) -> Iterable[Cell]:
        for cell in self.cells:
            if cell.is_kept_of("whole"):
                yield cell
        for kind, parts in self.subgroups.sizes.items():
            for cell in self.cells:
                if cell.is_kept_of(kind):
                    yield cell.of_parts(kind, parts)
        kinds = (len(self.fault_kinds),)
        yield Cell("fault_count", kinds, weigh=False)
        yield Cell("fault_first_step", kinds, merge="min")

    @property
    def digest(self) -> str:
        """A short hash of the configuration and the layout."""
        layout = {name: [c.state_shape, str(c.dtype), c.merge] for name, c in self.layout.items()}
        text = json.dumps([STATE_VERSION, self.config_text, layout], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def config_text(self) -> str:
        """The configuration in one line."""
        return json.dumps(self.config, sort_keys=True)

    @property
    def state_bytes(self) -> int:
        """Bytes of the state; they depend on the configuration only, never on the number of samples."""
        return sum(t.numel() * t.element_size() for t in self.state.values())

    def add_(self, batch: Batch, counts: Mapping[str, Counted]) -> None:
        """Add what was counted of a batch, to all rows and to each part of them; no host sync.

        Raises:
            ConfigError: If a cell is missing, unknown or of another shape or type; nothing is added.
        """
        self._check_counts(batch, counts)
        self.cells_for(batch)
        parts: Mapping[str, Tensor] = {}
        if batch.slices is not None or batch.group is not None:
            parts = self.subgroups.parts_of(batch)
        rows = RowWeights.of(batch, weighted=self.weighted)
        for cell in self._of_whole:
            self._add_whole(cell, counts[cell.name], rows)
        for kind, part in parts.items():
            for cell in self.cells:
                if cell.is_kept_of(kind):
                    self._add_by_part(cell, kind, part, counts[cell.name], rows)
        if batch.bad:
            self._add_faults(batch, batch.bad)

    def cells_for(self, batch: Batch) -> State:
        """The tensors that a batch is added to, with room for its weights and groups."""
        if batch.weight is not None:
            self.weigh()
        if batch.group is not None or batch.sample_shape:
            self.make_room_for_groups()
        self._pristine = False
        return self.state

    def _check_counts(self, batch: Batch, counts: Mapping[str, Counted]) -> None:
        rows = batch.target.shape[0]
        names = self._names
        if batch.slices is None and batch.group is None:
            names = self._names_of_whole
        if not names <= counts.keys() <= self._known:
            cure = "Return one value for each cell of cells()."
            raise ConfigError("count", f"the cells {sorted(names)}", str(sorted(counts)), cure)
        for cell in self.cells:
            given = counts.get(cell.name)
            if isinstance(given, At):
                if given.index.dtype != torch.int64 or given.index.shape[0] != rows:
                    raise _cannot_add(cell, rows, given.index)
            elif isinstance(given, Tensor) and cell.merge != "joint":
                whole = cell.merge == "sum" and given.shape == cell.shape
                numbers = cell.counts_rows and given.is_floating_point()
                if numbers or (not whole and given.shape != (rows, *cell.shape)):
                    raise _cannot_add(cell, rows, given)

    def _add_whole(self, cell: Cell, given: Counted, rows: RowWeights) -> None:
        mine = self.state[cell.name]
        if callable(given):
            for name in self._sums_of(cell):
                given(self.state[name])
        elif isinstance(given, At):
            self._scatter(cell, cell.name, given, rows, None)
        elif cell.merge == "mean":
            numbers = _only_counted(given, rows, torch.nan).double()
            weight = rows.weight if self.weighted else None  # what does not count is NaN
            mine.add_(moments.mean_sums(numbers, weight))
        elif cell.merge == "joint":
            weight, square = _weights(given, rows)
            moments.add_joint_(mine, _only_counted(given, rows, 0.0), weight, square)
        elif cell.merge == "min":
            torch.minimum(mine, _only_counted(given, rows, torch.inf).amin(0), out=mine)
        elif cell.merge == "max":
            torch.maximum(mine, _only_counted(given, rows, -torch.inf).amax(0), out=mine)
        elif given.ndim == len(cell.shape):
            for name in self._sums_of(cell):
                self.state[name].add_(given)
        else:
            self._add_sums(cell, given, rows)

    def _sums_of(self, cell: Cell) -> tuple[str, ...]:
        """Names of a cell and of what stands beside it: where nobody tells rows apart, each weighs 1."""
        if cell.counts_rows and self.weighted:
            return (cell.name, f"{cell.name}.weight", f"{cell.name}.square")
        return (cell.name,)

    def _add_sums(self, cell: Cell, given: Tensor, rows: RowWeights) -> None:
        values = _only_counted(given, rows, 0)
        if rows.weight is None or not cell.weigh:
            self.state[cell.name].add_(_sum_of_rows(values))
            return
        if cell.counts_rows:
            self.state[cell.name].add_(_sum_of_rows(values))
            if not self.weighted:
                return
        flat = values.reshape(len(values), -1).double()
        if not cell.counts_rows:
            self.state[cell.name].add_((rows.weight @ flat).reshape(cell.shape))
            return
        assert rows.square is not None  # it comes with the weights
        self.state[f"{cell.name}.weight"].add_((rows.weight @ flat).reshape(cell.shape))
        self.state[f"{cell.name}.square"].add_((rows.square @ flat).reshape(cell.shape))

    def _add_by_part(
        self, cell: Cell, kind: str, part: Tensor, given: Counted, rows: RowWeights
    ) -> None:
        name = f"{kind}.{cell.name}"
        mine = self.state[name]
        if isinstance(given, At):
            self._scatter(cell, name, given, rows, part)
        elif callable(given):
            given(mine, part)
        elif cell.merge == "mean":
            numbers = _only_counted(given, rows, torch.nan).double()
            weight = rows.weight if self.weighted else None  # what does not count is NaN
            moments.mean_sums_by_part(numbers, weight, part, mine)
        elif cell.merge == "joint":
            weight, square = _weights(given, rows)
            points = _only_counted(given, rows, 0.0)
            moments.add_joint_by_part_(mine, points, weight, square, part)
        elif given.ndim == len(cell.shape):
            raise TypeError(
                f"cell {cell.name}: a sum over all rows has no parts: give a number a row"
            )
        else:
            values = _only_counted(given, rows, 0)
            if cell.counts_rows:
                mine.index_add_(0, part, values.long())
                if self.weighted:
                    self._index_add(f"{name}.weight", part, values, rows.weight)
                    self._index_add(f"{name}.square", part, values, rows.square)
            else:
                self._index_add(name, part, values, rows.weight if cell.weigh else None)

    def _index_add(self, name: str, part: Tensor, values: Tensor, weight: Tensor | None) -> None:
        values = values.double()
        if weight is not None:
            values = values * weight.view(-1, *[1] * (values.ndim - 1))
        self.state[name].index_add_(0, part, values)

    def _scatter(
        self, cell: Cell, name: str, at: At, rows: RowWeights, part: Tensor | None
    ) -> None:
        index = at.index
        value = at.value
        there = at.there
        if index.ndim > 1:
            # Column by column: each histogram of a cell is as large as a cache.
            index = index.mT
            value = None if value is None else value.mT
            there = None if there is None else there.mT
        shape = index.shape
        size = math.prod(cell.shape)
        counted = rows.counted
        if there is not None:
            counted = _both(there, counted)
        if not at.within:
            inside = index.clamp(0, size - 1)
            counted = _both(inside == index, counted)
            index = inside
        elif there is None and counted is not None:
            index = index.clamp(0, size - 1)
        if part is not None:
            index = index + part * size
        index = index.reshape(-1)
        weight = rows.weight
        if cell.counts_rows:
            ones = _ones(index, counted, shape).reshape(-1)
            self.state[name].view(-1).scatter_add_(0, index, ones)
            if self.weighted:
                self._scatter_weights(name, index, counted, shape, rows)
            return
        if value is None:
            value = torch.ones(shape, dtype=torch.float64, device=index.device)
        if cell.weigh and weight is not None:
            value = value * weight
        values = _where_counted(counted, value).reshape(-1)
        self.state[name].view(-1).scatter_add_(0, index, values)

    def _scatter_weights(
        self, name: str, index: Tensor, counted: Tensor | None, shape: torch.Size, rows: RowWeights
    ) -> None:
        for twin, weight in (("weight", rows.weight), ("square", rows.square)):
            assert weight is not None  # a weighted state is given the weights of all rows
            values = _where_counted(counted, weight.expand(shape)).reshape(-1)
            self.state[f"{name}.{twin}"].view(-1).scatter_add_(0, index, values)

    def _add_faults(self, batch: Batch, bad: Mapping[str, Tensor]) -> None:
        none = None
        masks = []
        for kind in self.fault_kinds:
            mask = bad.get(kind)
            if mask is None:
                if none is None:
                    none = torch.zeros_like(next(iter(bad.values())), dtype=torch.int64)
                mask = none
            masks.append(mask)
        numbers = torch.stack(masks)
        count = numbers.sum(1)
        self.state["fault_count"].add_(count)
        if isinstance(batch.step, int):
            steps = torch.where(count > 0, batch.step, NEVER)
        else:
            steps = torch.where(numbers > 0, batch.step, NEVER).amin(1)
        first = self.state["fault_first_step"]
        torch.minimum(first, steps, out=first)

    @outside_inference
    def weigh(self) -> None:
        """Make room for sample weights, if there is none yet: all rows so far weighed 1."""
        if self.weighted:
            return
        self._refuse_in_capture("sample weights")
        state: State = {}
        for name, cell in self.layout.items():
            if not self.grouped and name.startswith(OF_GROUPS):
                continue
            if cell.twin_of is None:
                state[name] = self.state[name]
            else:
                counts = self.state[_counts_name(name)]
                state[name] = counts.to(torch.float64, copy=True)
        self.state = state
        self.weighted = True

    @outside_inference
    def make_room_for_groups(self) -> None:
        """Make room for groups, if there is none yet: rows so far came without one, and stand in none."""
        if self.grouped:
            return
        self._refuse_in_capture("groups")
        self.grouped = True
        state: State = {}
        for name, cell in self.layout.items():
            if self.weighted or cell.twin_of is None:
                kept = self.state.get(name)
                state[name] = cell.zeros(self.device) if kept is None else kept
        self.state = state

    def _refuse_in_capture(self, what: str) -> None:
        """Refuse new tensors in a CUDA graph, each replay of which would begin with new ones."""
        if capturing(next(iter(self.state.values()))):
            rule = f"a metric that has counted {what} before a CUDA graph is captured"
            cure = "Warm up with such a batch, then reset() and capture: the room for them stays."
            raise StateError("update", rule, "the first ones while it is captured", cure)

    def _has_room_for(self, name: str) -> bool:
        return self.grouped or not name.startswith(OF_GROUPS)

    def merge(self, others: Sequence["Accumulator"]) -> None:
        """Add the states of `others`; none of them changes.

        Raises:
            StateError: If a configuration differs; the current state is kept.
        """
        for other in others:
            self._same_digest("merge_state", other.digest, other.config_text)
            if other.device.type == "meta" and self.device.type != "meta":
                cure = "Merge metrics that count on a real device."
                raise StateError("merge_state", "counts with values", "some on meta", cure)
        for other in others:
            theirs = {name: cell.clone() for name, cell in other.state.items()}
            if other.weighted:
                self.weigh()
            if other.grouped:
                self.make_room_for_groups()
            for name, mine in self.state.items():
                if not other._has_room_for(name):
                    continue
                cell = self.layout[name]
                value = theirs.get(name)
                if value is None:
                    value = theirs[_counts_name(name)].double()
                cell.merge_(mine, value)
            self.updates += other.updates
            self._pristine = False

    def reset(self) -> None:
        """Back to the identity of merge, in the same tensors: a CUDA graph may write to them.

        So on CUDA the room for weights and groups stays once it was made.
        """
        stays = self.captured or self.device.type == "cuda"
        if self.weighted and not stays:
            for name in list(self.state):
                if self.layout[name].twin_of is not None:
                    del self.state[name]
            self.weighted = False
        if self.grouped and not self.subgroups.groups and not stays:
            self.grouped = False
            self.state = {name: t for name, t in self.state.items() if self._has_room_for(name)}
        for name, tensor in self.state.items():
            if self.layout[name].merge in MERGED_BY_SUMS:
                tensor.zero_()
            else:
                tensor.copy_(self.layout[name].zeros(self.device))
        self.updates = 0
        self._pristine = True

    def fresh(self) -> "Accumulator":
        """One of the same configuration and device that has counted nothing."""
        return Accumulator(self.cells, self.config, self.subgroups, self.fault_kinds, self.device)

    def adopt(self, state: State, updates: int) -> None:
        """Count on in the tensors of somebody else, who keeps them; what was counted here is forgotten."""
        self.state = dict(state)
        self.updates = updates
        self.weighted = any(self.layout[name].twin_of is not None for name in state)
        self.grouped = any(name.startswith(OF_GROUPS) for name in state)
        self.device = next(iter(state.values())).device
        self._pristine = False

    @outside_inference
    def to(self, device: torch.device) -> None:
        """Move the state; shapes and types stay as they are. Where nothing was counted, nothing is copied."""
        self.device = device
        if self._pristine:
            self.weighted = False
            self.grouped = bool(self.subgroups.groups)
            self.state = self._zeros()
        else:
            self.state = {name: t.to(device) for name, t in self.state.items()}
        self.device = next(iter(self.state.values())).device  # "cuda" is one of them

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only, so that `torch.load(weights_only=True)` reads it."""
        return {
            "digest": self.digest,
            "config": self.config_text,
            "updates": self.updates,
            "weighted": self.weighted,
            "cells": {name: t.clone() for name, t in self.state.items()},
        }

    @outside_inference
    def load_state_dict(
        self, state: Mapping[str, Any], relations: Relations = no_relations
    ) -> None:
        """Take over a state that `state_dict` made; its tensors are copied.

        Args:
            state: What was stored.
            relations: What the task knows of how its cells hang together.

        Raises:
            StateError: If it is foreign, of another configuration, or impossible; the current state
                is kept.
        """
        cells = state.get("cells") if isinstance(state, Mapping) else None
        if not isinstance(cells, Mapping) or "digest" not in state:
            fact = type(state).__name__
            if isinstance(state, Mapping):
                fact = f"keys {sorted(map(str, state))}"
            cure = "Load the state of a metric."
            raise StateError("state_dict", "a mapping made by state_dict()", fact, cure)
        self._same_digest("state_dict", state["digest"], state.get("config"))
        updates = state.get("updates")
        if type(updates) is not int or not 0 <= updates <= LARGEST_COUNT:
            rule = "a whole number of 0 or more"
            raise StateError("state_dict['updates']", rule, repr(updates), DAMAGED)
        twins = {name for name, cell in self.layout.items() if cell.twin_of is not None}
        weighted = bool(twins & cells.keys()) or state.get("weighted") is True
        grouped = bool(self.subgroups.groups)
        grouped = grouped or any(str(name).startswith(OF_GROUPS) for name in cells)
        given: State = {}
        for name, cell in self.layout.items():
            if not grouped and name.startswith(OF_GROUPS):
                continue
            if weighted or name not in twins:
                given[name] = cell.check_stored(cells.get(name)).detach()
        self._check_stored_cells(cells, given)
        if not any(tensor.is_meta for tensor in given.values()):
            with torch.no_grad():
                kinds = [kind for kind in self.subgroups.sizes if f"{kind}.rows" in given]
                check_general(self.cells, given, kinds)
                check_relations(self._stored_sums(given, kinds, weighted), relations)
        self.state = {name: tensor.to(self.device, copy=True) for name, tensor in given.items()}
        self.weighted = weighted
        self.grouped = grouped
        self.updates = updates
        self._pristine = False

    def _check_stored_cells(self, cells: Mapping[str, Any], given: State) -> None:
        """Refuse cells that nobody knows, that share memory, or that hold no values."""
        unknown = sorted(str(name) for name in cells if name not in given)
        if unknown:
            rule = f"the cells {', '.join(given)}"
            raise StateError("state_dict['cells']", rule, f"also {', '.join(unknown)}", DAMAGED)
        if self.device.type != "meta" and any(tensor.is_meta for tensor in given.values()):
            cure = "Store the state of a metric that counts on a real device."
            raise StateError("state_dict", "tensors with values", "some on meta", cure)
        if share_memory(given.values()):
            raise StateError(
                "state_dict", "a tensor of its own for each cell", "shared ones", DAMAGED
            )

    def _stored_sums(
        self, state: State, kinds: Iterable[str], weighted: bool
    ) -> Iterable[StoredSums]:
        """What a state holds, seen as all that was counted, and as each part of it."""
        measures = MEASURES[:1]
        if weighted:
            measures = MEASURES
        for kind in ("", *kinds):
            for measure in measures:
                yield StoredSums.of(self.cells, state, kind, measure, weighted=weighted)

    def _same_digest(self, name: str, digest: object, config: object) -> None:
        if self.digest != digest:
            raise StateError(
                name,
                f"the configuration {self.config_text} with digest {self.digest}",
                f"{config} with digest {digest}",
                "Build both metrics with the same arguments and the same version of ptmetrics.",
            )

    @outside_inference
    def _zeros(self) -> State:
        return {
            name: cell.zeros(self.device)
            for name, cell in self.layout.items()
            if cell.twin_of is None and (self.grouped or not name.startswith(OF_GROUPS))
        }


def _cannot_add(cell: Cell, rows: int, given: Tensor) -> ConfigError:
    kind = "whole numbers" if cell.counts_rows else "numbers"
    rule = f"{kind} of shape {(rows, *cell.shape)}, or batch.at(index) with {rows} int64 indices"
    got = f"{str(given.dtype).removeprefix('torch.')} of shape {tuple(given.shape)}"
    cure = (
        "Return one a row; for sums that are not whole declare pm.Cell(..., dtype=torch.float64)."
    )
    return ConfigError(f"count()[{cell.name!r}]", rule, got, cure)


def _counts_name(name: str) -> str:
    return name.rpartition(".")[0]


def _sum_of_rows(values: Tensor) -> Tensor:
    if values.dtype == torch.bool and values.ndim == 1:
        return values.count_nonzero()  # the same, and quicker
    return values.sum(0)


def _only_counted(values: Tensor, rows: RowWeights, otherwise: float) -> Tensor:
    """The values of the rows that count; `otherwise` in the place of the others."""
    if rows.counted is None:
        return values
    counted = rows.counted.view(-1, *[1] * (values.ndim - 1))
    if values.dtype == torch.bool:
        # Bytes, for torch spreads a mask of bools over columns seven times slower.
        return (values.view(torch.uint8) & counted.view(torch.uint8)).view(torch.bool)
    return torch.where(counted, values, otherwise)


def _weights(points: Tensor, rows: RowWeights) -> tuple[Tensor, Tensor]:
    """Weights and their squares; one tensor for both where all weights are 0 or 1."""
    weight = rows.weight
    if weight is None:
        weight = points.new_ones(len(points))
    square = rows.square
    if square is None:
        square = weight
    return weight, square


def _both(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return one if other is None else other
    return one & other


def _ones(index: Tensor, counted: Tensor | None, shape: torch.Size) -> Tensor:
    if counted is None:
        return torch.ones_like(index)
    return counted.expand(shape).contiguous().long()


def _where_counted(counted: Tensor | None, values: Tensor) -> Tensor:
    if counted is None:
        return values
    return torch.where(counted, values, 0.0)
