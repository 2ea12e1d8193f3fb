"""Scores of slices and intervals by groups, the same way for every task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from ptmetrics.counts.cells import State
from ptmetrics.counts.row_parts import BUCKETS, SLICE_LEDGER, RowParts
from ptmetrics.errors import ConfigError
from ptmetrics.metrics.estimate import Estimate
from ptmetrics.metrics.score import FaultReport, Score
from ptmetrics.metrics.slices import PerSlice, worst_first

T = TypeVar("T")
MOST_BYTES = 64 << 20  # of the counts of parts, before there are weights
SLICE_ROWS = "Intervals of slices take rows for independent."


@dataclass(frozen=True)
class Parts:
    """The parts of the rows that a metric tells apart.

    Attributes:
        slices: Their names; empty for none.
        groups: Whether rows come in groups.
    """

    slices: tuple[str, ...] = ()
    groups: bool = False

    @classmethod
    def of(cls, slices: Sequence[str] | int, groups: bool, numbers: int) -> "Parts":
        """Check what a constructor was given.

        Args:
            slices: Their names, or how many.
            groups: Whether rows come in groups.
            numbers: How many counts of 8 bytes a part takes.

        Raises:
            ConfigError: If an argument cannot work.
        """
        if not _are_names(slices):
            raise ConfigError("slices", "different names, or their number", repr(slices),
                              'Pass slices=("north", "south"), or slices=2.')  # fmt: skip
        if not isinstance(groups, bool):
            raise ConfigError(
                "groups", "True or False", repr(groups), "Pass the ids to update(…, group=ids)."
            )
        rows = RowParts(slices if isinstance(slices, int) else len(slices), groups)
        needed = 8 * numbers * sum(size + 1 for size in rows.sizes.values())
        if needed > MOST_BYTES:
            raise ConfigError("slices, groups", f"counts of at most {MOST_BYTES >> 20} MiB",
                              f"{needed >> 20} MiB", "Tell fewer parts apart, or fewer classes.")  # fmt: skip
        return cls(tuple(map(str, range(slices) if isinstance(slices, int) else slices)), groups)

    def __bool__(self) -> bool:
        return bool(self.slices or self.groups)

    @property
    def rows(self) -> RowParts:
        """What the statistics need to know."""
        return RowParts(len(self.slices), self.groups)

    @property
    def config(self) -> dict[str, Any]:
        """What fixes the counts; nothing where there are no parts, so that older states fit."""
        values: dict[str, Any] = {"slices": len(self.slices), "groups": self.groups}
        return {name: value for name, value in values.items() if value}


def _are_names(slices: object) -> bool:
    """Whether these are different names, or a number of 0 or more."""
    if isinstance(slices, int):
        return not isinstance(slices, bool) and slices >= 0
    if isinstance(slices, str) or not isinstance(slices, Sequence):
        return False
    return all(isinstance(name, str) for name in slices) and len(set(slices)) == len(slices)


@dataclass(frozen=True)
class Parting(Generic[T]):
    """How a task scores the parts of its rows.

    Attributes:
        each: Counts of all parts of a name, with a leading dimension and without the spare part.
        without: The same of all rows but those of each part; no intervals are wanted of these.
        rows: Number of rows of each part, the spare one last.
        scores: Named scores of such counts; those with ":" in their name are of classes, labels or outputs.
        ends: From name, estimate of the whole, values without each bucket, and which buckets hold rows, to the estimate
            with an interval by groups.
    """

    each: Callable[[str], T]
    without: Callable[[str], T]
    rows: Callable[[str], Tensor]
    scores: Callable[[T], Mapping[str, Estimate]]
    ends: Callable[[str, Estimate, Tensor, Tensor], Estimate]


def part_estimates(
    parts: Parts, task: Parting[T], whole: Mapping[str, Estimate], state: State
) -> tuple[dict[str, Estimate], dict[str, Tensor]]:
    """Estimates of slices and by groups, and what travels along, on the device."""
    made: dict[str, Estimate] = {}
    extra: dict[str, Tensor] = {}
    if parts.slices:
        extra |= {key: state[key] for key in SLICE_LEDGER.layout()}
        each = task.scores(task.each("slice"))
        made |= {f"slice:{name}": e for name, e in each.items() if ":" not in name}
    if not parts.groups:
        return made, extra
    rows, left = task.rows("group"), task.scores(task.without("group"))
    filled = rows[:-1] > 0
    made |= {
        f"group:{name}": task.ends(name, whole[name], e.value, filled)
        for name, e in left.items()
        if e.method != "count"
    }
    return made, extra | {"groups": torch.stack((filled.sum(), rows[-1]))}


class Told(NamedTuple):
    """What is to be said of parts, as `Scores` takes it."""

    per_slice: PerSlice
    notes: list[str]
    faults: FaultReport


def settle(
    parts: Parts, values: dict[str, list[Score]], extra: Mapping[str, Tensor], headline: str
) -> Told:
    """Put intervals by groups in their place, and collect what is to be said.

    Args:
        parts: The parts.
        values: What came to the host; changed in place.
        extra: What travelled along.
        headline: Name of the score that orders slices.
    """
    told = Told({}, [], {})
    if parts.slices:
        head = "slice:"
        columns = {
            name.removeprefix(head): v for name, v in values.items() if name.startswith(head)
        }
        faults = SLICE_LEDGER.read(*(extra[key].tolist() for key in SLICE_LEDGER.layout()))
        told = Told(worst_first(columns, parts.slices, headline), [], faults)
    if parts.groups:
        buckets, alone = extra["groups"].tolist()
        by_groups = [name.removeprefix("group:") for name in values if name.startswith("group:")]
        values |= {} if alone else {name: values[f"group:{name}"] for name in by_groups}
        others = [name for name in values if ":" not in name and name not in by_groups]
        told.notes.extend(
            _notes(buckets, alone, others, sliced=bool(parts.slices)) if buckets + alone else []
        )
    return told


def _notes(buckets: int, alone: int, others: Sequence[str], *, sliced: bool) -> list[str]:
    if alone:
        return [f"{alone} rows came without a group: all intervals take rows for independent."]
    if buckets < 2:
        return [
            "The rows are of one group, or of groups that share a bucket: there are no intervals by groups."
        ]
    note = (
        f"Intervals are by groups: a jackknife over {buckets} buckets of groups, {BUCKETS} at most."
    )
    rest = f" Those of {', '.join(others)} take rows for independent." if others else ""
    return [note + rest, *([SLICE_ROWS] if sliced else [])]
