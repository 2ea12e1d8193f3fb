"""`Subgroups`: slices that the user names, and groups such as patients, in front of the same cells."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ptmetrics.counts import checks
from ptmetrics.counts.batch import Batch
from ptmetrics.counts.cell import Cell
from ptmetrics.errors import ConfigError, DtypeError, ShapeError

BUCKETS = 64
"""Groups are spread over so many buckets by a hash."""
MOST_NUMBERED_SLICES = (
    1 << 20
)  # whose names fit in memory; what is counted of them has a bound of its own
MOST_BYTES = 64 << 20  # of what is counted of all parts, before there are weights
NO_SLICE = -1
NO_GROUP = -(2**63)
BAD_SLICE = "slice-out-of-range"
BAD_SLICE_WORDS = "slice outside those of the metric, row counted in the whole only"
MIX = ((30, -4658895280553007687), (27, -7723592293110705685))  # of SplitMix64, signed


@dataclass(frozen=True)
class Subgroups:
    """Which parts of the rows a metric tells apart; a row of none of them goes to one spare part behind.

    Attributes:
        slices: Names of the slices; empty for none.
        groups: Whether the caller gives the groups of the rows; None for the samples as groups,
            where a sample holds several rows.
    """

    slices: tuple[str, ...] = ()
    groups: bool | None = False

    @classmethod
    def checked(cls, slices: Any, groups: object) -> "Subgroups":
        """From the arguments of a metric.

        Args:
            slices: Names of the slices, or how many.
            groups: Whether rows come in groups; None for the samples as groups.

        Raises:
            ConfigError: If an argument cannot work.
        """
        if groups is not None and not isinstance(groups, bool):
            cure = "Pass the ids to update(…, group=ids)."
            raise ConfigError("groups", "True, False or None", repr(groups), cure)
        if (
            isinstance(slices, int)
            and not isinstance(slices, bool)
            and 0 <= slices <= MOST_NUMBERED_SLICES
        ):
            return cls(tuple(map(str, range(slices))), groups)
        names = isinstance(slices, Sequence) and not isinstance(slices, str)
        if not names or not all(isinstance(name, str) for name in slices):
            raise _bad_names(slices)
        if len(set(slices)) != len(slices):
            raise _bad_names(slices)
        return cls(tuple(slices), groups)

    def __bool__(self) -> bool:
        return bool(self.slices) or self.groups is not False

    @property
    def sizes(self) -> dict[str, int]:
        """Number of parts by the word that their cells' names begin with."""
        sizes: dict[str, int] = {}
        if self.slices:
            sizes["slice"] = len(self.slices)
        if self.groups is not False:
            sizes["group"] = BUCKETS
        return sizes

    def bytes_of(self, cells: Sequence[Cell]) -> int:
        """Bytes of cells, kept of each part and of the spare one, before there are weights."""
        needed = 0
        for kind, size in self.sizes.items():
            for cell in cells:
                if cell.is_kept_of(kind):
                    needed += 8 * (size + 1) * math.prod(cell.state_shape)
        return needed

    def check_size(self, cells: Sequence[Cell]) -> None:
        """Refuse parts whose cells need too much memory.

        Raises:
            ConfigError: If they do.
        """
        needed = self.bytes_of(cells)
        if needed > MOST_BYTES:
            rule = f"counts of at most {MOST_BYTES >> 20} MiB"
            cure = "Tell fewer parts apart, or fewer classes."
            raise ConfigError("slices, groups", rule, f"{needed >> 20} MiB", cure)

    def check_ids(
        self,
        rows: tuple[int, ...],
        device: torch.device,
        slices: object,
        group: object,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Check ids on the host, and make them flat; no value is looked at.

        Args:
            rows: Shape of the rows, (N, d1, …).
            device: Where the metric counts.
            slices: Signed integers of shape (N,) or (N, d1, …), −1 for none, or None.
            group: Likewise; any value but the least of int64, which stands for none.

        Raises:
            ConfigError, ShapeError, DtypeError, DeviceError: Before anything is counted.
        """
        if slices is not None and not self.slices:
            raise _not_configured("slices", 'slices=("north", "south"), or their number')
        if group is not None and not self.groups:
            raise _not_configured("group", "groups=True")
        flat_slices = _flat_ids("slices", slices, rows, device)
        flat_group = _flat_ids("group", group, rows, device)
        # A metric that tells parts apart always has ids, so that all its batches have one form.
        if self.slices and flat_slices is None:
            flat_slices = torch.full(rows, NO_SLICE, device=device).reshape(-1)
        if self.groups and flat_group is None:
            flat_group = torch.full(rows, NO_GROUP, device=device).reshape(-1)
        return flat_slices, flat_group

    def are_samples(self, rows: tuple[int, ...]) -> bool:
        """Whether the groups of rows of a shape are their samples."""
        return self.groups is None and math.prod(rows[1:]) > 1

    def parts_of(self, batch: Batch) -> dict[str, Tensor]:
        """The part of each row, int64 of shape (rows,); slices that there are not are reported. No host sync."""
        parts: dict[str, Tensor] = {}
        if batch.slices is not None and self.slices:
            most = len(self.slices)
            none = batch.slices.clamp(0, most - 1) != batch.slices
            parts["slice"] = batch.slices.masked_fill(none, most)
            bad = none & (batch.slices != NO_SLICE)
            if batch.counted is not None:
                bad = bad & batch.counted
            batch.report(BAD_SLICE, bad)
        if batch.group is not None and self.groups:
            parts["group"] = buckets_of(batch.group)
        elif batch.group is not None:
            parts["group"] = batch.group
        return parts


def buckets_of(group: Tensor) -> Tensor:
    """A bucket for each row: the top bits of its group's hash, `BUCKETS` for no group.

    Args:
        group: Int64 of shape (rows,).

    Source: Steele, Lea and Flood, OOPSLA 2014 (the mixing of SplitMix64).
    """
    mixed = group
    for shift, factor in MIX:
        mixed = (mixed ^ (mixed >> shift)) * factor
    return ((mixed >> 58) & (BUCKETS - 1)).masked_fill(group == NO_GROUP, BUCKETS)


def bucket_of_each_sample(rows: tuple[int, ...], device: torch.device, updates: int) -> Tensor:
    """All rows of a sample in one bucket, the samples spread evenly: in turn where batches are of one size."""
    first = rows[0] * updates % BUCKETS
    bucket = torch.arange(first, first + rows[0], device=device).remainder_(BUCKETS)
    return bucket.view(-1, *[1] * (len(rows) - 1)).expand(rows).reshape(-1)


def _flat_ids(
    name: str, value: object, rows: tuple[int, ...], device: torch.device
) -> Tensor | None:
    if value is None:
        return None
    ids = checks.as_tensor(name, value)
    rule = f"signed integers of shape {rows[:1]}"
    if len(rows) > 1:
        rule = f"{rule} or {rows}"
    fact = f"{checks.dtype_name(ids)} of shape {tuple(ids.shape)}"
    if ids.dtype.is_floating_point or ids.dtype.is_complex or not ids.dtype.is_signed:
        raise DtypeError(name, rule, fact, f"Pass {name}.long().")
    if tuple(ids.shape) not in (rows, rows[:1]):
        raise ShapeError(name, rule, fact, "Pass one id a row.")
    checks.same_device(device, **{name: ids})
    if tuple(ids.shape) != rows:
        ids = ids.reshape(-1, *[1] * (len(rows) - 1)).expand(rows)
    return ids.reshape(-1).long()


def _bad_names(slices: object) -> ConfigError:
    cure = 'Pass slices=("north", "south"), or slices=2.'
    rule = f"different names, or their number, up to {MOST_NUMBERED_SLICES:,}"
    return ConfigError("slices", rule, repr(slices), cure)


def _not_configured(name: str, argument: str) -> ConfigError:
    rule = "None where the metric was built without"
    return ConfigError(name, rule, "ids", f"Build the metric with {argument}.")
