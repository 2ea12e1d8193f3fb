"""The ranks of a run: what all of them counted is merged where an epoch or an evaluation ends."""

import gc
import hashlib
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from math import isfinite
from typing import Any
from weakref import WeakSet

import torch
from torch.utils.data.distributed import DistributedSampler

from ptmetrics.distributed import TIMEOUT_S, world_of_now
from ptmetrics.errors import ConfigError
from ptmetrics.metrics.base import Metrics, merged_over_ranks
from ptmetrics.metrics.score import Scores
from ptmetrics.monitor.faults import FaultLog
from ptmetrics.monitor.samples import NONE_KEPT
from ptmetrics.monitor.seen import Seen
from ptmetrics.monitor.split import ByOutput, SplitCounts
from ptmetrics.monitor.split_loss import EMPTY_MEAN
from ptmetrics.record.printable import agreeing, quantity

FRACTIONS = 2520  # of up to ten labels


@dataclass
class RankNumbers:
    """Whole numbers of one split, of one rank or of all.

    Attributes:
        samples: Rows counted.
        batches: Batches counted.
        losses: Losses counted.
        targets: Targets that they stand for.
        left_out: Rows of padding that were left out.
        padding: Rows of padding that were counted.
        expected: Rows that there are without padding, as the loaders tell.
        unknown: Ranks whose loaders do not tell.
    """

    samples: int = 0
    batches: int = 0
    losses: int = 0
    targets: int = 0
    left_out: int = 0
    padding: int = 0
    expected: int = 0
    unknown: int = 0

    def to_record(self, ranks: int) -> dict[str, int]:
        """What stands beside the share of one rank in the record's `seen`."""
        record = {"ranks": ranks, "rows_of_ranks": self.samples}
        if not self.unknown:
            record["expected_rows"] = self.expected
        if self.left_out:
            record["padding_left_out"] = self.left_out
        if self.padding:
            record["padding_rows"] = self.padding
        return record

    def told(self, ranks: int) -> str:
        """The line beside the scores."""
        counted = agreeing(self.samples, "were counted")
        line = f"{quantity(self.samples, 'row')} of {ranks} ranks {counted}"
        if not self.unknown:
            line = f"{self.samples:,} of {self.expected:,} rows {counted} on {ranks} ranks"
        if self.padding:
            line = f"{line}, {self.padding} of them padding of the sampler"
        if self.left_out:
            duplicates = quantity(self.left_out, "duplicate")
            line = f"{line}, {duplicates} of the sampler's padding ignored"
        return f"{line}."


class RankSync:
    """Merges splits over the ranks; alone it has nothing to do.

    Args:
        wanted: False to leave each rank with its share.
        timeout_s: How long to wait for the other ranks.
        metrics: Metrics of each output, as they count in each split.

    Attributes:
        timeout_s: As given.
        ranks: How many ranks the last merge was of.
        numbers: Of all ranks, by split, from the last merge.
        run: The run that rank 0 records, as a number; 0 for none.
        copies: Ranks that validated the same rows, as their scores or losses show; 1 where these
            differ.
        faults: Contained faults of each rank, from the last merge.
        left: Ranks that ended their run within the epoch that the others closed, from the last merge.

    Raises:
        ConfigError: If an argument cannot work.
    """

    def __init__(self, wanted: bool, timeout_s: float, metrics: ByOutput) -> None:
        if not isinstance(timeout_s, int | float) or not timeout_s > 0:
            cure = f"Pass seconds, or leave it out for {TIMEOUT_S:g}."
            raise ConfigError("sync_timeout_s", "seconds above 0", repr(timeout_s), cure)
        self.wanted = wanted
        self.timeout_s = timeout_s
        self._like: list[Metrics] = [one for each in metrics.values() for one in each]
        self._like.append(EMPTY_MEAN)
        self._samplers: WeakSet[Any] | None = None  # looked for where hooks alone count
        self.ranks = 1
        self.numbers: dict[str, RankNumbers] = {}
        self.run = 0
        self.copies = 1
        self.faults: list[int] = []
        self.left: list[int] = []

    @property
    def due(self) -> bool:
        """Whether there are other ranks to merge with."""
        return self.wanted and world_of_now() is not None

    def merge(
        self,
        own: Mapping[str, SplitCounts],
        splits: Mapping[str, SplitCounts],
        seen: Mapping[str, Seen],
        name: str,
        about: str,
        run: int,
        faults: FaultLog,
        unfinished: bool = False,
    ) -> dict[str, SplitCounts]:
        """What all ranks counted, by split; those of this rank stay as they are.

        Args:
            own: What to merge; another rank may have other splits.
            splits: All splits of this rank, which are made when asked for.
            seen: What went by of them, likewise.
            name: What ends: its merges are numbered.
            about: Which of them.
            run: The run that this rank records, as a number.
            faults: Of this rank; a split that cannot be read is one, and counts nothing.
            unfinished: Whether this rank ends its run within the epoch.

        Raises:
            RanksError: If a rank did not come, or counts something else.
        """
        places: dict[str, list[Metrics]] = {}
        numbers: dict[str, tuple[int, ...]] = {}
        validated = [0, 0]
        share = (0, 0)
        for split, counts in own.items():
            with faults.containing(f"compute {split}"):
                places[split] = counts.all_metrics()
                numbers[split] = astuple(self._numbers_of(counts, seen[split]))
                if split == "val":
                    validated = _fingerprints(counts)
                    if name == "epoch":  # evaluations beside it keep none
                        share = NONE_KEPT
                        share = counts.share
        copies, merged = merged_over_ranks(
            places,
            self._like,
            name=name,
            about=about,
            numbers=numbers,
            facts=[len(faults), run, unfinished, *validated, *share],
            timeout_s=self.timeout_s,
        )
        self.ranks = len(merged.facts)
        self.faults = [row[0] for row in merged.facts]
        self.run = merged.facts[0][1]
        self.left = [rank for rank, row in enumerate(merged.facts) if row[2]]
        if len(self.left) == self.ranks:
            self.left = []
        self.copies = 1
        for told in (3, 4):
            prints = [row[told] for row in merged.facts if row[told]]
            if len(set(prints)) == 1:
                self.copies = max(self.copies, len(prints))
        self.numbers = {split: RankNumbers(*each) for split, each in merged.numbers.items()}
        found: dict[str, SplitCounts] = {}
        shares = [row[5:] for row in merged.facts]
        for split in sorted(copies, key=_place_of):  # the same on all ranks
            found[split] = splits[split].of_all_ranks(
                copies[split], self.numbers[split], shares, self.copies
            )
        return found

    def tell(self, splits: Mapping[str, Scores], went_by: dict[str, dict[str, Any]]) -> None:
        """Put the numbers of all ranks beside the scores, and into what the record tells of a split."""
        for split, numbers in self.numbers.items():
            record = went_by.setdefault(split, {})
            record.update(numbers.to_record(self.ranks))
            if split == "val" and self.copies > 1:
                record["copies"] = self.copies
            for name, scores in splits.items():
                if name.partition("/")[0] == split:
                    scores.notes = (*scores.notes, numbers.told(self.ranks))

    def _numbers_of(self, counts: SplitCounts, seen: Seen) -> RankNumbers:
        loss = counts.loss
        numbers = RankNumbers(counts.samples, counts.batches, loss.seen, loss.targets)
        numbers.left_out = seen.padding_left_out
        numbers.padding = seen.padding_rows
        if seen.passes or not counts.batches:
            numbers.expected = seen.expected or 0
            numbers.unknown = int(seen.expected is None)
            return numbers
        own = self._own_rows(counts.samples)  # hooks alone show no loader
        numbers.unknown = int(own is None)
        if own is not None:
            numbers.expected = own
            numbers.padding = counts.samples - own
        return numbers

    def _own_rows(self, rows: int) -> int | None:
        """How many of the rows of a pass are this rank's own, if a sampler of as many rows tells."""
        if self._samplers is None:
            everything = gc.get_objects()
            self._samplers = WeakSet(
                each for each in everything if type(each) is DistributedSampler
            )
        own = set()
        for sampler in self._samplers:
            if len(sampler) == rows:
                whole: Any = sampler.dataset
                own.add(len(range(sampler.rank, len(whole), sampler.num_replicas)))
        if len(own) != 1:
            return None
        return min(rows, *own)


def _fingerprints(val: SplitCounts) -> list[int]:
    """Tell the rows that one rank validated from those of another, by scores and by losses.

    0 where that is not sure: whole numbers and fractions of a few labels agree by chance.
    """
    *metrics, loss = val.all_metrics()
    prints = []
    for counted in (metrics, [loss]):
        sums = []
        for each in counted:
            cells = list(each.shared_state().values())
            sums.extend(torch.stack([cell.sum().double() for cell in cells]).tolist())
        told = 0
        if any(
            abs(each * FRACTIONS - round(each * FRACTIONS)) > 1e-3
            for each in sums
            if isfinite(each)
        ):
            text = repr([val.samples, sums])
            told = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
        prints.append(told)
    return prints


def _place_of(split: str) -> tuple[bool, bool, str]:
    """Training first, then validation."""
    return split != "train", split != "val", split
