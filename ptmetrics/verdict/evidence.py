"""What the rules see: the numbers of one epoch or one evaluation, and the curves that led there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite, nan
from typing import Any, Optional, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ptmetrics.verdict.finding import (
    Bound,
    Criterion,
    Estimate,
    Skipped,
    decide,
)
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.samples import (
    Floats,
    ReadSamples,
    no_samples,
    sampled,
)

Counts = npt.NDArray[np.int64]
NOT_KNOWN = Estimate(reason="not known")
ERRORS = ("mae", "mse", "rmse")
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
IN_TRAINING_MODE = "training-mode"
"""Kind of the fault that a validation in training mode is; it has a finding of its own."""


@runtime_checkable
class RunLike(Protocol):
    """The part of a run that was read back which the rules need, as it stands in the record."""

    @property
    def header(self) -> Mapping[str, Any]:
        """What the run was started with."""

    @property
    def epochs(self) -> Sequence[Mapping[str, Any]]:
        """The epochs that count."""

    @property
    def checkpoints(self) -> Sequence[Mapping[str, Any]]:
        """Checkpoints that were written."""

    @property
    def end(self) -> Mapping[str, Any] | None:
        """How the run ended; None when it was cut off or still runs."""

    @property
    def faults(self) -> Sequence[Any]:
        """Faults that were contained."""

    @property
    def problems(self) -> Sequence[Any]:
        """Lines of the journal that could not be read."""


@dataclass(frozen=True)
class LearningCurves:
    """Scores over the epochs of a run; empty, and false, for a lone evaluation.

    Args:
        epochs: The recorded scores of each epoch, by full name ("val/loss").
        numbers: The epochs' own numbers, counted from 0.
        judged: Row of the epoch that is judged.
        seen: What of each split went by in each epoch, counted or not (`SeenData` of the record).
        counts: Samples and steps of each epoch.
        samples: What reads the validation samples of each epoch.
        validations: What was validated on in each epoch: its samples, and those of each class where
            they were recorded; None where nothing tells.
        checkpoints: Numbers of the epochs whose weights were written, and not written over since.
    """

    epochs: tuple[Mapping[str, Mapping[str, Any]], ...] = ()
    numbers: tuple[int, ...] = ()
    judged: int = -1
    seen: tuple[Mapping[str, Mapping[str, Any]], ...] = ()
    counts: tuple[Mapping[str, Any], ...] = ()
    samples: tuple[ReadSamples, ...] = ()
    validations: tuple[tuple[int, ...] | None, ...] = ()
    checkpoints: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.epochs)

    def rows(self, *names: str) -> list[int]:
        """Rows in which every one of these scores is a finite number."""
        finite = np.all([np.isfinite(self._column(name)) for name in names], axis=0)
        return [int(row) for row in np.flatnonzero(finite)]

    def values(self, name: str, rows: Sequence[int]) -> Floats:
        """The score's values in these rows."""
        return self._column(name)[list(rows)]

    def at(self, name: str, row: int) -> Estimate:
        """The score in one row; an empty estimate where it was not recorded."""
        samples = no_samples
        if self.samples:
            samples = self.samples[row]
        return sampled(self.epochs[row].get(name, {}), name, samples)

    def named(self, row: int) -> str:
        """The epoch of a row in words; of several validations of an epoch, at which step."""
        number = self.numbers[row]
        words = f"epoch {number + 1}"
        steps = self.counts_of("train_steps_cumulative")
        if self.numbers.count(number) > 1 and steps[row]:
            words += f" (step {steps[row]})"
        return words

    def rises(self, name: str) -> bool | None:
        """Whether more of the score is better, as it was recorded; None where it was not."""
        for scores in self.epochs:
            known = scores.get(name, {}).get("higher_is_better")
            if known is not None:
                return bool(known)
        return None

    def comparable(self, rows: Sequence[int]) -> list[int]:
        """Those of the rows that were validated on as many samples, of the same classes, as the judged one."""
        return [row for row in rows if row not in self.elsewhere]

    @cached_property
    def elsewhere(self) -> frozenset[int]:
        """Rows that are known to have been validated on other samples than the judged one."""
        if not self.validations or self.validations[self.judged] is None:
            return frozenset()
        judged = self.validations[self.judged] or ()
        found = []
        for row, other in enumerate(self.validations):
            if other is not None and other != judged:
                told = min(len(judged), len(other))
                if other[:told] != judged[:told] or told > 1:
                    found.append(row)
        return frozenset(found)

    def seen_of(self, split: str) -> list[Mapping[str, Any]]:
        """What of a split went by, one an epoch; empty mappings where it was not recorded."""
        if not self.seen:
            return [{}] * len(self.epochs)
        return [each.get(split, {}) for each in self.seen]

    def seen_in_judged(self, split: str) -> Mapping[str, Any]:
        """What of a split went by in the judged epoch; empty where it was not recorded."""
        if not self.seen:
            return {}
        return self.seen[self.judged].get(split, {})

    def counts_of(self, name: str) -> list[int]:
        """A count such as "val_samples", one an epoch; 0 where it was not recorded."""
        if not self.counts:
            return [0] * len(self.epochs)
        return [each.get(name) or 0 for each in self.counts]

    @cached_property
    def _columns(self) -> dict[str, Floats]:
        return {}

    def _column(self, name: str) -> Floats:
        if name not in self._columns:
            values = [scores.get(name, {}).get("value", nan) for scores in self.epochs]
            self._columns[name] = np.array(values, dtype=np.float64)
        return self._columns[name]


@dataclass(frozen=True)
class Slices:
    """Validation scores of the slices that a user told apart, such as hospitals; often none.

    Args:
        names: One name for each, the worst first.
        scores: Score name to one estimate for each.
        filled: How many slices held a sample, which may be more than were recorded.
    """

    names: tuple[str, ...] = ()
    scores: Mapping[str, tuple[Estimate, ...]] = field(default_factory=dict)
    filled: int = 0


@dataclass(frozen=True)
class Fault:
    """A bad value or a contained error that the run counted.

    Args:
        kind: Stable name of the kind, such as "nan-score"; "contained" for an error inside a
            metric.
        words: Where and what.
        judged: Whether it touched the validation numbers that are judged.
        split: Where it happened; empty where that is not known.
    """

    kind: str
    words: str
    judged: bool = False
    split: str = ""

    @property
    def elsewhere(self) -> bool:
        """Whether it is known to have happened outside of validation."""
        return self.split not in ("", "val")


@dataclass(frozen=True)
class Evidence:
    """Everything that a rule may look at, whatever it came from. Rules do not change it.

    Args:
        val: Validation scores by their name without the split; `score(name)` never fails.
        train: Training scores of the same epoch; empty for a lone evaluation.
        per_class: Validation scores of each class.
        confusion: Validation counts, rows = actual class; None where not recorded.
        train_support: Samples of each class in training; None where not known.
        slices: Validation scores of the slices.
        class_names: One name for each class.
        positive: Class whose precision and recall count; None for the mean over classes.
        ignored: Target that was left out, such as padding; None for none.
        curves: The learning curves; empty for a lone evaluation.
        faults: Bad values and contained errors.
        evaluations: Those beside the ones that close an epoch, as recorded.
        problems: Lines of the journal that could not be read.
        contradictions: Those of them that are whole and say what cannot be.
        notes: What was judged.
        recorded: Notes in the record, in their order; `noted(code)` gives those of one code.
        selected_by: Scores by which the run itself chose its best epoch, without their split.
        loss_change: What the validation loss grew by from its minimum to the end of the run, sample
            by sample, with a one-sided 95 % bound as `low`; without bounds where the samples were
            not kept.
        samples: Reads the validation samples of what is judged.
        task: What is predicted, such as "multiclass" or "regression"; empty where not recorded.
        chosen: Whether the judged epoch was chosen as the best on the data that judge it.
        fingerprint: Identity of the validation data, where recorded.
        val_samples: Size of the validation data, where recorded.
        sample_axes: Axes of a sample's targets: 1 of tokens, 2 of pixels; 0 for one row a sample,
            or where not recorded.
        baseline: A run that this one must not be worse than, where one was named.
        split: The split that is judged.
        thresholds: The numbers of the profile to decide by.
        profile: Its name.

    Example:
        >>> import ptmetrics as pm
        >>> def ends_above_its_best(evidence):
        ...     rows = evidence.curves.rows("val/loss")
        ...     losses = evidence.curves.values("val/loss", rows)
        ...     if len(rows) > 1 and losses[-1] > losses.min():
        ...         best = evidence.curves.numbers[rows[losses.argmin()]]
        ...         yield pm.Finding("past-its-best", "info", f"Epoch {best + 1} was better.")
        >>> losses = [{"val/loss": {"value": value}} for value in (0.9, 0.4, 0.5)]
        >>> from ptmetrics.verdict.evidence import LearningCurves
        >>> seen = pm.Evidence(val={}, curves=LearningCurves(tuple(losses), (0, 1, 2), judged=2))
        >>> [finding.message for finding in ends_above_its_best(seen)]
        ['Epoch 2 was better.']
        >>> seen.score("accuracy").reason
        'accuracy was not recorded'
    """

    val: Mapping[str, Estimate]
    train: Mapping[str, Estimate] = field(default_factory=dict)
    per_class: Mapping[str, tuple[Estimate, ...]] = field(default_factory=dict)
    confusion: Counts | None = None
    train_support: Counts | None = None
    slices: Slices = Slices()
    class_names: tuple[str, ...] = ()
    positive: int | None = None
    ignored: int | None = None
    curves: LearningCurves = LearningCurves()
    faults: tuple[Fault, ...] = ()
    evaluations: tuple[Mapping[str, Any], ...] = ()
    problems: int = 0
    contradictions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    recorded: tuple[Mapping[str, Any], ...] = ()
    selected_by: tuple[str, ...] = ()
    loss_change: Estimate = NOT_KNOWN
    samples: ReadSamples = no_samples
    task: str = ""
    chosen: bool = False
    fingerprint: str | None = None
    val_samples: int | None = None
    sample_axes: int = 0
    baseline: Optional["Evidence"] = None
    split: str = "val"
    thresholds: Thresholds = field(default_factory=Thresholds)
    profile: str = "balanced"

    @property
    def regression(self) -> bool:
        """Whether numbers are predicted, not classes; where no task is recorded, scores tell."""
        if self.task:
            return self.task == "regression"
        return not self.classifies and any(name in self.val for name in ("r2", *ERRORS))

    @property
    def values_without_n(self) -> bool:
        """Whether validation scores came without their number of samples, as in logs of other tools."""
        return any(
            isfinite(item.value) and not item.n and not item.bounded for item in self.val.values()
        )

    @property
    def classifies(self) -> bool:
        """Whether scores of classes are recorded."""
        if self.confusion is not None:
            return True
        return any(name.split("/")[0] in CLASS_SCORES for name in self.val)

    @property
    def fitted(self) -> str:
        """The score that tells how well data are fitted, 1 for perfectly: "r2" or "accuracy"."""
        if self.regression:
            return "r2"
        return "accuracy"

    @property
    def support(self) -> Counts | None:
        """Validation samples of each class; None where not known."""
        if self.confusion is not None:
            return np.asarray(self.confusion.sum(1))
        recall = self.per_class.get("recall")
        if not recall:
            return None
        return np.array([item.n for item in recall], dtype=np.int64)

    def score(self, name: str) -> Estimate:
        """A validation score, or an estimate whose reason says that it was not recorded."""
        return self.val.get(name, Estimate(reason=f"{name} was not recorded"))

    def noted(self, code: str) -> list[Mapping[str, Any]]:
        """Notes of this code, as a loop or a callback recorded them: `monitor.record("note", …)`."""
        return [note for note in self.recorded if note.get("code") == code]

    def criterion(
        self, name: str, threshold: float, *, rule: Bound = ">=", code: str = ""
    ) -> Criterion:
        """A validation score held against a threshold, three-valued by its interval.

        A rule gives it back like a finding. One that is not met keeps the verdict from "ready".
        """
        return decide(name, self.score(name), threshold, rule=rule, code=code)

    def not_checked(self, reason: str) -> Skipped:
        """Why a rule could not be applied; given back like a finding, it stands in the notes."""
        return Skipped(reason)

    def headline(self, name: str) -> tuple[str, Estimate]:
        """Precision or recall as the verdict counts it, with its name.

        It is that of the positive class, else the mean over classes.
        """
        if self.positive is None:
            return f"{name}/macro", self.score(f"{name}/macro")
        quoted = self.class_name(self.positive)
        label = f"{name} of class {quoted}"
        classes = self.per_class.get(name, ())
        if self.positive >= len(classes):
            return label, Estimate(reason=f"{name} of each class was not recorded")
        item = classes[self.positive]
        if item.n or item.reason:
            return label, item
        if name == "precision":
            return label, replace(item, reason=f"no sample is predicted as class {quoted}")
        return label, replace(item, reason=f"no sample is of class {quoted}")

    @property
    def never_predicted(self) -> list[int]:
        """Classes with samples in validation that no sample is predicted as, of those whose precision counts."""
        if self.confusion is None:
            return []
        silent = np.flatnonzero((self.confusion.sum(0) == 0) & (self.confusion.sum(1) > 0)).tolist()
        return [label for label in silent if self.positive in (None, label)]

    def class_name(self, index: int) -> str:
        """The class's name, quoted, or its number."""
        if index < len(self.class_names):
            return repr(self.class_names[index])
        return str(index)
