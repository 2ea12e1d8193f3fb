"""The scores of one epoch: what `end_epoch()` returns and what the record keeps of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ptmetrics.metrics.score import Score, Scores
from ptmetrics.record.direction import direction
from ptmetrics.record.events import EpochData
from ptmetrics.record.samples import StoredSamples

MAX_LISTED_CLASSES = 4096  # scores of each class of more would be megabytes a line
MAX_RECORDED_CLASSES = 128  # 128² numbers of a matrix are about 50 kB a line
MAX_RECORDED_SLICES = 128  # the worst
SHOWN_IN_LINE = ("loss", "accuracy", "balanced_accuracy", "f1/macro")


@dataclass(frozen=True)
class EpochScores(Mapping[str, Score]):
    """Scores of one epoch by split and name, such as `epoch_scores["val/accuracy"]`.

    Attributes:
        epoch: Number of the epoch, from 0.
        splits: Split to its `Scores`; where a model has several outputs, "val/depth" for the output
            "depth".
        losses: Split to the mean of the loss that was seen.
        time: Seconds of each phase, and quantiles of the step in milliseconds.
        counts: Samples and steps of the epoch, and so far.
        samples: What became of each validation sample (`samples.rows`), where it was kept.
        seen: Split to what went by of it: answers of the model, calls of the criterion, rows that
            nothing counted.
        numbers: Further numbers of the epoch by name, which callbacks gave: a learning rate, say.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> monitor = pm.Monitor(pm.MulticlassMetrics(2))
        >>> preds = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0], [0.0, 2.0]])
        >>> monitor.update(preds, torch.tensor([0, 1, 1, 1]), loss=0.5, split="val")
        >>> epoch_scores = monitor.end_epoch()
        >>> print(epoch_scores["val/accuracy"])
        0.7500 [0.3006, 0.9544] n=4
        >>> print(epoch_scores)  # doctest: +ELLIPSIS
        epoch 0: val/loss 0.5000  val/accuracy 0.7500  val/balanced_accuracy 0.8333...
    """

    epoch: int
    splits: Mapping[str, Scores]
    losses: Mapping[str, Score]
    time: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    samples: StoredSamples | None = field(default=None, repr=False, compare=False)
    seen: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    numbers: dict[str, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Score:
        split, _, rest = name.partition("/")
        if rest == "loss" and split in self.losses:
            return self.losses[split]
        for key, scores in self.splits.items():
            if name.startswith(f"{key}/"):
                score = name[len(key) + 1 :]
                if score in scores:
                    return scores[score]
        names = ", ".join(self) or "none, as no epoch was closed yet or nothing was counted"
        raise KeyError(f"{name!r}: expected one of {names}")

    def __iter__(self) -> Iterator[str]:
        for key, scores in self.splits.items():
            if key in self.losses:
                yield f"{key}/loss"
            for name in scores:
                yield f"{key}/{name}"
        for split in self.losses:  # of a model whose outputs all have names
            if split not in self.splits:
                yield f"{split}/loss"

    def __len__(self) -> int:
        return sum(map(len, self.splits.values())) + len(self.losses)

    def to_dict(self) -> dict[str, Any]:
        """All scores by their full names, and what else is known of validation, as plain values."""
        record: Mapping[str, Any] = self.to_record()
        plain: dict[str, Any] = {"scores": record["scores"], "class_names": record["class_names"]}
        for key in ("per_class", "confusion", "per_slice", "faults", "notes", "sample_axes"):
            plain[key] = record.get(key, {}).get("val")
        if "val" in self.splits:
            plain["task"] = self.splits["val"].task
            plain["n"] = self.splits["val"].n
        return plain

    def to_record(self) -> EpochData:
        """The data of the journal's `epoch` line."""
        record: Any = {
            "epoch": self.epoch,
            "scores": {},
            "per_class": {},
            "confusion": {},
            "class_names": [],
            "time": dict(self.time),
            "counts": dict(self.counts),
            "faults": {},
        }
        if self.seen:
            record["seen"] = dict(self.seen)
        if self.numbers:
            record["numbers"] = dict(self.numbers)
        losses = dict(self.losses)
        for split, scores in self.splits.items():
            if split in losses:
                record["scores"][f"{split}/loss"] = losses.pop(split).to_dict()
            most = (MAX_LISTED_CLASSES, MAX_RECORDED_CLASSES, MAX_RECORDED_SLICES)
            _add_split(record, split, scores.plain(*most))
        for split, loss in losses.items():  # of a model whose outputs all have names
            record["scores"][f"{split}/loss"] = loss.to_dict()
        data: EpochData = record
        return data

    def _repr_html_(self) -> str:
        from ptmetrics.show.html import epoch_html

        return epoch_html(self.to_record(), f"Epoch {self.epoch + 1}")

    def __str__(self) -> str:
        names = [name for name in self if name.partition("/")[2] in SHOWN_IN_LINE]
        for split, scores in self.splits.items():
            lead = f"{split}/{scores.headline}"
            if lead in self and lead not in names:
                names.append(lead)
        shown = [f"{name} {float(self[name]):.4f}" for name in names]
        return f"epoch {self.epoch}: " + "  ".join(shown)


def _add_split(record: dict[str, Any], split: str, plain: dict[str, Any]) -> None:
    """Put plain scores in their places in the data of an epoch."""
    for name, score in plain["scores"].items():
        if score.get("higher_is_better") is None:  # the field's names tell it, or nobody
            score.pop("higher_is_better", None)
            rises = direction(name)
            if rises is not None:
                score["higher_is_better"] = rises
        record["scores"][f"{split}/{name}"] = score
    record["faults"][split] = plain["faults"]
    names = plain["class_names"]
    notes = [*plain["notes"]]
    if len(names) > MAX_LISTED_CLASSES:
        notes.append(f"Scores of each of more than {MAX_LISTED_CLASSES} classes are not recorded.")
    else:
        record["per_class"][split] = plain["per_class"]
        if not record["class_names"]:
            record["class_names"] = names
    if plain["confusion"] is not None:
        record["confusion"][split] = plain["confusion"]
    if plain["per_slice"]:
        record.setdefault("per_slice", {})[split] = plain["per_slice"]
    if notes:
        record.setdefault("notes", {})[split] = notes
    if plain["sample_axes"]:
        record.setdefault("sample_axes", {})[split] = plain["sample_axes"]
