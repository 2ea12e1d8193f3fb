"""What the rules see: the numbers of one epoch or one evaluation, and the curves that led there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

import numpy as np
import numpy.typing as npt

from ptmetrics.judge.finding import Estimate
from ptmetrics.judge.trends import Curve

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Curves:
    """Scores over the epochs of a run.

    Args:
        epochs: One mapping of estimates for each epoch, by full name ("val/loss").
        numbers: The epochs' own numbers, counted from 0.
        judged: Row of the epoch that is judged.
    """

    epochs: tuple[Mapping[str, Estimate], ...]
    numbers: tuple[int, ...]
    judged: int

    def rows(self, *names: str) -> list[int]:
        """Rows in which every one of these scores is a finite number."""
        return [
            i for i, row in enumerate(self.epochs) if all(isfinite(_of(row, name).value) for name in names)
        ]

    def values(self, name: str, rows: Sequence[int]) -> Curve:
        """The score's values in these rows."""
        return np.array([_of(self.epochs[i], name).value for i in rows], dtype=np.float64)

    def at(self, name: str, row: int) -> Estimate:
        """The score in one row; an empty estimate where it was not recorded."""
        return _of(self.epochs[row], name)


def _of(row: Mapping[str, Estimate], name: str) -> Estimate:
    return row.get(name, Estimate())


@dataclass(frozen=True)
class Fault:
    """A bad value or a contained error that the run counted.

    Args:
        kind: Stable name of the kind, such as "nan-score"; "contained" for an error inside a metric.
        words: Where and what.
        judged: Whether it touched the validation numbers that are judged.
    """

    kind: str
    words: str
    judged: bool = False


@dataclass(frozen=True)
class Evidence:
    """Everything a rule may look at; built from plain mappings, so that no rule knows where they came from.

    Args:
        val: Validation scores by their name without the split.
        train: Training scores of the same epoch; empty for a lone evaluation.
        per_class: Validation scores of each class.
        confusion: Validation counts, rows = actual class; None where not kept.
        train_support: Samples of each class in training; None where not known.
        class_names: One name for each class.
        positive: Class whose precision and recall count; None for the mean over classes.
        curves: The learning curves; None for a lone evaluation.
        faults: Bad values and contained errors.
        problems: Lines of the journal that could not be read.
        notes: What was judged.
    """

    val: Mapping[str, Estimate]
    train: Mapping[str, Estimate] = field(default_factory=dict)
    per_class: Mapping[str, tuple[Estimate, ...]] = field(default_factory=dict)
    confusion: Counts | None = None
    train_support: Counts | None = None
    class_names: tuple[str, ...] = ()
    positive: int | None = None
    curves: Curves | None = None
    faults: tuple[Fault, ...] = ()
    problems: int = 0
    notes: tuple[str, ...] = ()

    def score(self, name: str) -> Estimate:
        """A validation score, or an estimate whose reason says that it was not recorded."""
        return self.val.get(name, Estimate(reason=f"{name} was not recorded"))

    def headline(self, name: str) -> tuple[str, Estimate]:
        """Precision or recall as the verdict counts it: of the positive class, else the mean over classes."""
        if self.positive is None:
            return f"{name}/macro", self.score(f"{name}/macro")
        classes = self.per_class.get(name, ())
        label = f"{name} of class {self.class_name(self.positive)}"
        if self.positive < len(classes):
            return label, classes[self.positive]
        return label, Estimate(reason=f"{name} of each class was not recorded")

    def class_name(self, index: int) -> str:
        """The class's name, quoted, or its number."""
        return repr(self.class_names[index]) if index < len(self.class_names) else str(index)
