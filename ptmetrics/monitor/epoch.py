"""The scores of one epoch: what `end_epoch()` returns and what the record keeps of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from ptmetrics.metrics.score import Score, Scores
from ptmetrics.metrics.score import worst_slices
from ptmetrics.record.events import EpochData
from ptmetrics.record.samples import Kept

MAX_LISTED_CLASSES = 4096  # scores of each class of more would be megabytes a line
MAX_RECORDED_CLASSES = (
    128  # a larger matrix stays out of the record: 128² numbers are about 50 kB a line
)

MAX_RECORDED_SLICES = 128  # the worst


@dataclass(frozen=True)
class EpochScores(Mapping[str, Score]):
    """Scores of one epoch by split and name, such as `epoch_scores["val/accuracy"]`.

    Attributes:
        epoch: Number of the epoch, from 0.
        splits: Split to its `Scores`.
        losses: Split to the mean of the loss that was seen.
        time: Seconds of each phase, and quantiles of the step in milliseconds.
        counts: Samples and steps of the epoch, and so far.
        samples: What became of each validation sample (`samples.rows`), where it was kept.
    """

    epoch: int
    splits: Mapping[str, Scores]
    losses: Mapping[str, Score]
    time: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    samples: Kept | None = field(default=None, repr=False, compare=False)

    def __getitem__(self, name: str) -> Score:
        split, _, score = name.partition("/")
        if score == "loss" and split in self.losses:
            return self.losses[split]
        if split in self.splits and score in self.splits[split]:
            return self.splits[split][score]
        raise KeyError(f"{name!r}: expected one of {', '.join(self)}")

    def __iter__(self) -> Iterator[str]:
        for split in self.splits:
            yield from ([f"{split}/loss"] if split in self.losses else [])
            yield from (f"{split}/{name}" for name in self.splits[split])

    def __len__(self) -> int:
        return sum(len(s) for s in self.splits.values()) + len(self.losses)

    def to_record(self) -> EpochData:
        """The data of the journal's `epoch` line."""
        plain = {split: scores.to_dict() for split, scores in self.splits.items()}
        small = {
            split: d for split, d in plain.items() if len(d["class_names"]) <= MAX_RECORDED_CLASSES
        }
        listed = {
            split: d for split, d in plain.items() if len(d["class_names"]) <= MAX_LISTED_CLASSES
        }
        record: Any = {
            "epoch": self.epoch,
            "scores": {name: score.to_dict() for name, score in self.items()},
            "per_class": {split: d["per_class"] for split, d in listed.items()},
            "confusion": {
                split: d["confusion"] for split, d in small.items() if d["confusion"] is not None
            },
            "class_names": next((d["class_names"] for d in listed.values()), []),
            "time": dict(self.time),
            "counts": dict(self.counts),
            "faults": {split: d["faults"] for split, d in plain.items()},
        }
        slices = {split: worst_slices(d["per_slice"], MAX_RECORDED_SLICES) for split, d in plain.items()}
        record |= (
            {"per_slice": {k: v for k, v in slices.items() if v}} if any(slices.values()) else {}
        )
        notes = {split: d["notes"] for split, d in plain.items() if d["notes"]}
        record |= {"notes": notes} if notes else {}
        return cast(EpochData, record)

    def __str__(self) -> str:
        shown = [
            n for n in self if n.endswith(("/loss", "/accuracy", "/balanced_accuracy", "/f1/macro"))
        ]
        return f"epoch {self.epoch}: " + "  ".join(
            f"{name} {float(self[name]):.4f}" for name in shown
        )
