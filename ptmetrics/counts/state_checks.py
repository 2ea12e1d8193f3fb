"""Whether a stored state can be taken over: it is of this configuration, whole, and possible."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ptmetrics.counts.cells import Cell
from ptmetrics.errors import StateError

DAMAGED = "The file is damaged or was written by something else: use another checkpoint."


def same_digest(name: str, mine: tuple[str, str], theirs: tuple[object, object]) -> None:
    """Refuse a state of another configuration; both sides are a digest and the configuration as text."""
    if mine[0] != theirs[0]:
        raise StateError(
            name,
            f"the configuration {mine[1]} with digest {mine[0]}",
            f"{theirs[1]} with digest {theirs[0]}",
            "Build both metrics with the same arguments and the same version of ptmetrics.",
        )


def cells_of(state: object) -> Mapping[str, Any]:
    """The tensors of a stored state by name.

    Raises:
        StateError: If it is no stored state.
    """
    cells = state.get("cells") if isinstance(state, Mapping) else None
    if not isinstance(state, Mapping) or not isinstance(cells, Mapping) or "digest" not in state:
        got = (
            f"keys {sorted(map(str, state))}"
            if isinstance(state, Mapping)
            else type(state).__name__
        )
        raise StateError(
            "state_dict", "a mapping made by state_dict()", got, "Load the state of a metric."
        )
    return cells


def updates_of(state: Mapping[str, Any]) -> int:
    """How many batches a stored state has counted.

    Raises:
        StateError: If that is no count.
    """
    updates = state.get("updates")
    if type(updates) is not int or updates < 0:
        raise StateError(
            "state_dict['updates']", "a whole number of 0 or more", repr(updates), DAMAGED
        )
    return updates


def possible(layout: Mapping[str, Cell], names: Iterable[str], cells: Mapping[str, Any]) -> None:
    """Refuse tensors of another form than the layout's, and counts that cannot be.

    Raises:
        StateError: For the first of them.
    """
    for name in names:
        _possible(f"state_dict[{name!r}]", layout[name], cells.get(name))


def _possible(name: str, cell: Cell, value: object) -> None:
    rule = f"a tensor {cell.dtype} of shape {cell.shape}"
    if not isinstance(value, Tensor):
        raise StateError(name, rule, type(value).__name__, DAMAGED)
    if value.dtype != cell.dtype or tuple(value.shape) != cell.shape:
        raise StateError(name, rule, f"{value.dtype} of shape {tuple(value.shape)}", DAMAGED)
    if bool((value != value).any()):  # noqa: PLR0124 — NaN is what differs from itself
        raise StateError(name, "sums that are numbers", "nan", DAMAGED)
    counts = cell.dtype == torch.int64 or cell.weights_of is not None
    if counts and bool((value < 0).any()):
        raise StateError(name, "counts of 0 or more", f"{value.min().item()}", DAMAGED)
