"""Rows in parts: slices that the user names, and groups such as patients, spread over a fixed number of buckets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ptmetrics.counts import checks
from ptmetrics.counts.cells import Cell, State
from ptmetrics.counts.faults import FaultKind, FaultLedger
from ptmetrics.errors import ConfigError, DtypeError, ShapeError

BUCKETS = 64
NO_IDS = NO_SLICE, NO_GROUP = -1, -(2**63)
BAD_SLICE = FaultKind(
    "slice-out-of-range", "slice outside those of the metric, row counted in the whole only"
)
_MIX = (-4658895280553007687, -7723592293110705685)  # of SplitMix64, as signed numbers


class RowIds(NamedTuple):
    """The ids of rows as they were given, int64 of shape (rows,); None where they were not."""

    slices: Tensor | None = None
    group: Tensor | None = None

    def part(self, start: int, stop: int) -> "RowIds":
        """Views of some rows."""
        return RowIds(*(None if ids is None else ids[start:stop] for ids in self))


@dataclass
class RowsInParts:
    """Where each row belongs.

    Attributes:
        index: Int64 of shape (rows,) by the name of the parts; the number of parts for none of them.
        fault_masks: Rows of a slice that there is not.
        step: Number of the update, or int64 of shape (rows,).
    """

    index: Mapping[str, Tensor]
    fault_masks: tuple[Tensor, ...]
    step: int | Tensor


class InParts(Protocol):
    """A batch whose rows know where they belong; None where the metric tells no parts apart."""

    parts: RowsInParts | None


def index_of(batch: InParts, name: str) -> Tensor:
    """The part of each row among those of a name; only asked where the metric tells them apart."""
    if batch.parts is None:
        raise LookupError(f"rows without {name}")
    return batch.parts.index[name]


@dataclass(frozen=True)
class RowParts:
    """Which parts a metric tells apart; a row of none of them goes to one spare part behind.

    Attributes:
        slices: Number of slices.
        groups: Whether rows come in groups.
    """

    slices: int = 0
    groups: bool = False

    @property
    def sizes(self) -> Mapping[str, int]:
        """Number of parts by the name that their cells begin with."""
        sizes = {"slice": self.slices, "group": BUCKETS * self.groups}
        return {name: size for name, size in sizes.items() if size}

    def __bool__(self) -> bool:
        return bool(self.slices or self.groups)

    def read(
        self, home: Tensor, rows: tuple[int, ...], slices: Tensor | None, group: Tensor | None
    ) -> RowIds:
        """Check ids on the host, and make them flat; no value is looked at.

        Args:
            home: Any state tensor, for its device.
            rows: Shape of the rows, (N, d1, …).
            slices: Signed integers of shape (N,) or (N, d1, …), −1 for none, or None.
            group: Likewise; any value but the least of int64, which stands for none.

        Raises:
            ConfigError, ShapeError, DtypeError, DeviceError: Before anything is counted.
        """
        if slices is not None and not self.slices:
            raise _not_configured("slices", 'slices=("north", "south"), or their number')
        if group is not None and not self.groups:
            raise _not_configured("group", "groups=True")
        return RowIds(_flat("slices", slices, rows, home), _flat("group", group, rows, home))

    def judged(self, ids: RowIds | None, counted: Tensor, step: int | Tensor) -> RowsInParts | None:
        """The part of each row on the device; no host sync.

        Args:
            ids: What `read` gave.
            counted: Bool of shape (rows,).
            step: Number of the update, or int64 of shape (rows,).
        """
        if ids is None:
            return None
        index: dict[str, Tensor] = {}
        masks: tuple[Tensor, ...] = ()
        if self.slices:
            slices = (
                torch.full_like(counted, NO_SLICE, dtype=torch.int64)
                if ids.slices is None
                else ids.slices
            )
            none = slices.clamp(0, self.slices - 1) != slices
            index["slice"] = slices.masked_fill(none, self.slices)
            masks = (counted & none & (slices != NO_SLICE),)
        if self.groups:
            index["group"] = buckets(counted, ids.group)
        return RowsInParts(index, masks, step)


NO_PARTS = RowParts()
SLICE_LEDGER = FaultLedger((BAD_SLICE,), "slice_fault")


@dataclass(frozen=True)
class SliceFaults:
    """Counts rows of slices that there are not."""

    def layout(self) -> Mapping[str, Cell]:
        """Those of the ledger."""
        return SLICE_LEDGER.layout()

    def add_(self, state: State, batch: InParts) -> None:
        """Add one batch."""
        if batch.parts is not None:
            SLICE_LEDGER.add_(state, batch.parts)


def buckets(like: Tensor, group: Tensor | None) -> Tensor:
    """A bucket for each row: the top bits of its group's hash, `BUCKETS` for no group.

    Args:
        like: Any tensor of shape (rows,).
        group: Int64 of shape (rows,), or None.

    Source: Steele, Lea and Flood, OOPSLA 2014 (the mixing of SplitMix64).
    """
    if group is None:
        return torch.full_like(like, BUCKETS, dtype=torch.int64)
    mixed = group
    for shift, factor in zip((30, 27), _MIX, strict=True):
        mixed = (mixed ^ (mixed >> shift)) * factor
    return ((mixed >> 58) & (BUCKETS - 1)).masked_fill(group == NO_GROUP, BUCKETS)


def _flat(name: str, value: Tensor | None, rows: tuple[int, ...], home: Tensor) -> Tensor | None:
    if value is None:
        return None
    checks.is_tensor(name, value)
    rule = f"signed integers of shape {rows[:1]}" + (f" or {rows}" if len(rows) > 1 else "")
    fact = f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    if value.dtype.is_floating_point or value.dtype.is_complex or not value.dtype.is_signed:
        raise DtypeError(name, rule, fact, f"Pass {name}.long().")
    if tuple(value.shape) not in (rows, rows[:1]):
        raise ShapeError(name, rule, fact, "Pass one id a row.")
    checks.together(home, **{name: value})
    if tuple(value.shape) != rows:
        value = value.reshape(-1, *[1] * (len(rows) - 1)).expand(rows)
    return checks.flat(value).long()


def _not_configured(name: str, argument: str) -> ConfigError:
    return ConfigError(
        name, "None where the metric was built without", "ids", f"Build the metric with {argument}."
    )
