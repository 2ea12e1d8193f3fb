"""What the rules see: the numbers of one epoch or one evaluation, and the curves that led there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from ptmetrics.errors import DataError
from ptmetrics.record.samples import NOT_KEPT, Kept
from ptmetrics.verdict.finding import Estimate
from ptmetrics.verdict.trends import Curve

UNKNOWN = Estimate(reason="not known")
Counts = npt.NDArray[np.int64]


CLASS_SCORES = frozenset(
    {
        "accuracy",
        "top5_accuracy",
        "balanced_accuracy",
        "precision",
        "recall",
        "f1",
        "specificity",
        "auroc",
        "mcc",
    }
)
ERRORS = ("mae", "mse", "rmse")


def estimate(score: Mapping[str, Any]) -> Estimate:
    """A recorded score as an estimate; a foreign log may hold the value alone."""
    value, low, high = (number(score.get(key)) for key in ("value", "low", "high"))
    return Estimate(
        value, low, high, int(score.get("n") or 0), score.get("method") or "", score.get("reason")
    )


def number(value: Any) -> float:
    """The value as a float; None, which stands for NaN in JSON, is NaN."""
    return nan if value is None else float(value)


def check_score(name: str, score: Any) -> None:
    """Refuse what is no recorded score.

    Raises:
        DataError: If it is no mapping, or its value or a bound is no number.
    """
    parts = (
        [score.get(key) for key in ("value", "low", "high")] if isinstance(score, Mapping) else []
    )
    odd = [item for item in parts if isinstance(item, bool | str) or not _is_real(item)]
    if odd or not parts:
        got = repr(odd[0]) if odd else type(score).__name__
        raise DataError(name, "a mapping with numbers under 'value', 'low', 'high', 'n'", got,
                        "Pass scores.to_dict() as it is.")  # fmt: skip


def _is_real(value: Any) -> bool:
    return value is None or isinstance(value, int | float | np.floating | np.integer)


@dataclass(frozen=True)
class Curves:
    """Scores over the epochs of a run.

    Args:
        epochs: The recorded scores of each epoch, by full name ("val/loss").
        numbers: The epochs' own numbers, counted from 0.
        judged: Row of the epoch that is judged.
    """

    epochs: tuple[Mapping[str, Mapping[str, Any]], ...]
    numbers: tuple[int, ...]
    judged: int

    def rows(self, *names: str) -> list[int]:
        """Rows in which every one of these scores is a finite number."""
        finite = np.all([np.isfinite(self._all(name)) for name in names], axis=0)
        return [int(row) for row in np.flatnonzero(finite)]

    def values(self, name: str, rows: Sequence[int]) -> Curve:
        """The score's values in these rows."""
        return self._all(name)[list(rows)]

    def at(self, name: str, row: int) -> Estimate:
        """The score in one row; an empty estimate where it was not recorded."""
        return estimate(self.epochs[row].get(name, {}))

    def _all(self, name: str) -> Curve:
        return np.array(
            [scores.get(name, {}).get("value", nan) for scores in self.epochs], dtype=np.float64
        )


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
        per_slice: Validation scores of each slice, the worst slice first.
        slice_names: One name for each of these.
        slices: How many slices held a sample, which may be more than were recorded.
        class_names: One name for each class.
        positive: Class whose precision and recall count; None for the mean over classes.
        curves: The learning curves; None for a lone evaluation.
        faults: Bad values and contained errors.
        problems: Lines of the journal that could not be read.
        notes: What was judged.
        loss_change: What the validation loss grew by from its minimum to the end of the run, sample by sample, with a
            one-sided 95 % bound as `low`; without bounds where the samples were not kept.
        kept: Reads the validation samples of what is judged.
        task: What is predicted, such as "multiclass" or "regression"; empty where not recorded.
        fingerprint: Identity of the validation data, where recorded.
        val_samples: Size of the validation data, where recorded.
        baseline: A run that this one must not be worse than, where one was named.
    """

    val: Mapping[str, Estimate]
    train: Mapping[str, Estimate] = field(default_factory=dict)
    per_class: Mapping[str, tuple[Estimate, ...]] = field(default_factory=dict)
    confusion: Counts | None = None
    train_support: Counts | None = None
    per_slice: Mapping[str, tuple[Estimate, ...]] = field(default_factory=dict)
    slice_names: tuple[str, ...] = ()
    slices: int = 0
    class_names: tuple[str, ...] = ()
    positive: int | None = None
    curves: Curves | None = None
    faults: tuple[Fault, ...] = ()
    problems: int = 0
    notes: tuple[str, ...] = ()
    loss_change: Estimate = UNKNOWN
    kept: Callable[[], Kept] = lambda: NOT_KEPT
    task: str = ""
    fingerprint: str | None = None
    val_samples: int | None = None
    baseline: Optional["Evidence"] = None

    @property
    def regression(self) -> bool:
        """Whether numbers are predicted, not classes; where no task is recorded, the scores tell."""
        if self.task:
            return self.task == "regression"
        return not self.classifies and any(name in self.val for name in ("r2", *ERRORS))

    @property
    def classifies(self) -> bool:
        """Whether scores of classes are recorded."""
        return self.confusion is not None or any(
            name.split("/")[0] in CLASS_SCORES for name in self.val
        )

    @property
    def fitted(self) -> str:
        """The score that tells, in training and validation, how well the data are fitted: 1 is perfect."""
        return "r2" if self.regression else "accuracy"

    @property
    def support(self) -> Counts | None:
        """Validation samples of each class; None where not known."""
        if self.confusion is not None:
            return np.asarray(self.confusion.sum(1))
        recall = self.per_class.get("recall", ())
        return np.array([item.n for item in recall], dtype=np.int64) if recall else None

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
            item, of = classes[self.positive], "predicted as" if name == "precision" else "of"
            empty = f"no sample is {of} class {self.class_name(self.positive)}"
            return label, item if item.n else replace(item, reason=item.reason or empty)
        return label, Estimate(reason=f"{name} of each class was not recorded")

    def class_name(self, index: int) -> str:
        """The class's name, quoted, or its number."""
        return repr(self.class_names[index]) if index < len(self.class_names) else str(index)
