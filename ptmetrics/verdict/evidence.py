"""What the rules see: the numbers of one epoch or one evaluation, and the curves that led there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite, nan, sqrt
from numbers import Real
from typing import Any, Optional, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ptmetrics.errors import ConfigError, DataError
from ptmetrics.verdict.finding import (
    Bound,
    Criterion,
    Estimate,
    Skipped,
    decide,
    float_of,
    recorded_estimate,
)
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.samples import (
    CannotPairError,
    Floats,
    ReadSamples,
    Sampled,
    aligned,
    no_samples,
    row_losses,
    rows_of,
    sampled,
    samples_of,
)

Counts = npt.NDArray[np.int64]
Z90 = 1.6448536269514722  # 95 % on one side
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
NO_HEADER = (
    "The run's first record is missing: its task is taken from its scores, and no class is "
    "positive."
)
IN_TRAINING_MODE = "training-mode"
"""Kind of the fault that a validation in training mode is; it has a finding of its own."""
_TOLD_OF_MODE = "expected a model in evaluation mode"
SHOWN_NOTES = frozenset({"end-epoch-missing", "one-rank", "superseded", "other-run"})
MOST_NOTES = 5
LOGGED = "Read from a log of {by}. How the run ended is not known."
WITHOUT_N = (
    "The log holds values without their number of samples, so no criterion can be met or failed: "
    "give it with n= or --n, or record the run with a Monitor."
)


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
    """

    epochs: tuple[Mapping[str, Mapping[str, Any]], ...] = ()
    numbers: tuple[int, ...] = ()
    judged: int = -1
    seen: tuple[Mapping[str, Mapping[str, Any]], ...] = ()
    counts: tuple[Mapping[str, Any], ...] = ()
    samples: tuple[ReadSamples, ...] = ()
    validations: tuple[tuple[int, ...] | None, ...] = ()

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

    def _column(self, name: str) -> Floats:
        values = [scores.get(name, {}).get("value", nan) for scores in self.epochs]
        return np.array(values, dtype=np.float64)


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
        baseline: A run that this one must not be worse than, where one was named.
        split: The split that is judged.
        thresholds: The numbers of the profile to decide by.

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
    baseline: Optional["Evidence"] = None
    split: str = "val"
    thresholds: Thresholds = field(default_factory=Thresholds)

    @property
    def regression(self) -> bool:
        """Whether numbers are predicted, not classes; where no task is recorded, scores tell."""
        if self.task:
            return self.task == "regression"
        return not self.classifies and any(name in self.val for name in ("r2", *ERRORS))

    @property
    def values_without_n(self) -> bool:
        """Whether validation scores came without their number of samples, as in logs of other tools."""
        return any(isfinite(item.value) and not item.n for item in self.val.values())

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

    def class_name(self, index: int) -> str:
        """The class's name, quoted, or its number."""
        if index < len(self.class_names):
            return repr(self.class_names[index])
        return str(index)


# From the scores of one evaluation, which may have been made by hand.


def evidence_of_scores(payload: Mapping[str, Any], positive: int | None = None) -> Evidence:
    """Evidence from one evaluation: the mapping that `Scores.to_dict()` gives.

    Args:
        payload: "scores", and where known "per_class", "confusion", "per_slice", "class_names",
            "task", "faults".
        positive: Index of the class whose precision and recall count.

    Raises:
        DataError: If it holds no scores, or a matrix that cannot be a confusion matrix.
        ConfigError: If `positive` is no class.
    """
    scores = payload.get("scores")
    if not isinstance(scores, Mapping):
        got = f"the keys {sorted(map(str, payload))}"
        cure = "Pass scores.to_dict() or a run folder."
        raise DataError("source", "a mapping with 'scores'", got, cure)
    for name, score in scores.items():
        check_is_score(str(name), score)
    if any(str(name).startswith(("val/", "train/")) for name in scores):
        val = _split(scores, "val/")
    else:
        val = _split(scores, "")
    confusion = confusion_counts(payload.get("confusion"))
    names = tuple(map(str, payload.get("class_names") or ()))
    task = _task(payload)
    alone = "Judged one evaluation: learning curves are not known."
    return Evidence(
        val=val,
        train=_split(scores, "train/"),
        per_class=_per_class(payload.get("per_class")),
        confusion=confusion,
        slices=_recorded_slices(payload.get("per_slice")),
        class_names=names,
        positive=_positive_class(positive, task, confusion, names),
        faults=tuple(_value_faults(payload.get("faults"), judged=True)),
        notes=(alone, *map(str, payload.get("notes") or ())),
        task=task,
        val_samples=payload.get("n"),
    )


def check_is_score(name: str, score: Any) -> None:
    """Refuse what is no score.

    Raises:
        DataError: If it is no mapping, or its value or a bound is no number.
    """
    rule = "a mapping with numbers under 'value', 'low', 'high', 'n'"
    cure = "Pass scores.to_dict() as it is."
    if not isinstance(score, Mapping):
        raise DataError(name, rule, type(score).__name__, cure)
    for key in ("value", "low", "high"):
        item = score.get(key)
        if isinstance(item, bool) or not isinstance(item, Real | None):
            raise DataError(name, rule, repr(item), cure)


def confusion_counts(matrix: Any) -> Counts | None:
    """A confusion matrix as an array that cannot be written to; None stays None.

    Raises:
        DataError: If it is not square, or a cell is negative or no whole number.
    """
    if matrix is None:
        return None
    cure = "Pass counts with one row for each actual class and one column for each predicted class."
    try:
        cells = np.asarray(matrix, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        rule = "rows of equal length, all numbers"
        raise DataError("confusion", rule, "ragged rows or text", cure) from None
    if cells.ndim != 2 or cells.shape[0] != cells.shape[1]:
        raise DataError("confusion", "a square matrix", f"shape {cells.shape}", cure)
    bad = ~(cells <= 2**62) | (cells < 0) | (cells != np.floor(cells))
    if bad.any():
        i, j = (int(axis) for axis in np.argwhere(bad)[0])
        got = f"{cells[i, j]:g} in row {i}, column {j}"
        raise DataError("confusion", "whole counts >= 0", got, cure)
    counts = cells.astype(np.int64)
    counts.setflags(write=False)
    return counts


# From a run that was read back. The reader has checked the record, so nothing is checked again.


def _contradictions(run: Any) -> tuple[str, ...]:
    """Lines that are whole, as their checksum tells, and say what cannot be."""
    return tuple(str(line) for line in run.problems if getattr(line, "contradiction", False))


def evidence_of_run(run: RunLike, positive: int | None = None) -> Evidence:
    """Evidence from a run that was read back.

    The epoch of the run's last "best" checkpoint is judged, else the last that was validated.

    Raises:
        ConfigError: If `positive` is no class.
    """
    if not run.epochs:
        return Evidence(
            {},
            problems=len(run.problems),
            contradictions=_contradictions(run),
            notes=("The run holds no finished epoch.",),
        )
    row, why = judged_row(run)
    epoch = run.epochs[row]
    scores = epoch["scores"]
    samples = samples_of(run, epoch)
    val = {
        name.removeprefix("val/"): sampled(score, name, samples)
        for name, score in scores.items()
        if name.startswith("val/")
    }
    per_class = {
        name: tuple(
            Sampled(**vars(item), score=name, label=label, samples=samples)
            for label, item in enumerate(items)
        )
        for name, items in _per_class(_of_split(epoch, "per_class", "val")).items()
    }
    confusion = confusion_counts(_of_split(epoch, "confusion", "val"))
    trained_on = confusion_counts(_of_split(epoch, "confusion", "train"))
    train_support = None
    if trained_on is not None:
        train_support = trained_on.sum(1)
    names = tuple(map(str, epoch.get("class_names") or ()))
    task = _task(run.header.get("metrics") or {})
    curves = LearningCurves(
        tuple(each["scores"] for each in run.epochs),
        tuple(each["epoch"] for each in run.epochs),
        row,
        tuple([each.get("seen") or {} for each in run.epochs]),
        tuple([each.get("counts") or {} for each in run.epochs]),
        tuple([samples_of(run, each) for each in run.epochs]),
        tuple(map(_validated_on, run.epochs)),
    )
    return Evidence(
        val=val,
        train=_split(scores, "train/"),
        per_class=per_class,
        confusion=confusion,
        train_support=train_support,
        slices=_recorded_slices(_of_split(epoch, "per_slice", "val")),
        class_names=names,
        positive=_positive_class(positive, task, confusion, names),
        ignored=_ignored(run.header.get("metrics") or {}),
        curves=curves,
        faults=tuple(_run_faults(run, row)),
        evaluations=tuple(getattr(run, "evaluations", ())),
        problems=len(run.problems),
        contradictions=_contradictions(run),
        notes=tuple(_run_notes(run, row, why)),
        recorded=tuple(getattr(run, "notes", ())),
        selected_by=tuple(_selected_by(run)),
        loss_change=_loss_change(run, curves),
        samples=samples,
        task=task,
        chosen=why.startswith("the best"),
        fingerprint=run.header.get("val_fingerprint"),
        val_samples=(epoch.get("counts") or {}).get("val_samples"),
    )


def judged_row(run: RunLike) -> tuple[int, str]:
    """The row in `run.epochs` that stands for the run, and why it does."""
    picked: int | None = getattr(run, "picked", None)
    if picked is not None:
        return picked, "as asked for"
    # Another tool's log may hold several rows of one epoch: the last, or that of a step.
    rows = {int(epoch["epoch"]): row for row, epoch in enumerate(run.epochs)}
    restored = _restored(run)
    if restored in rows:
        return rows[restored], "the best, whose weights the model has at the end"
    best = [
        told for told in run.checkpoints if told.get("why") == "best" and told.get("epoch") in rows
    ]
    own = [told for told in best if told.get("by") == "script"]
    if own:
        return rows[own[-1]["epoch"]], "the best by the script itself"
    if best:
        return _checkpoint_row(run, best[-1], rows), "the best by its own checkpoint"
    why = "the last, as no best checkpoint is recorded"
    last = len(run.epochs) - 1
    validated = [
        row
        for row, epoch in enumerate(run.epochs)
        if any(name.startswith("val/") for name in epoch["scores"])
    ]
    finished = [row for row in validated if not run.epochs[row].get("unfinished")]
    for found in (finished, validated):
        if found and found[-1] < last:
            why = "as none after it was validated and no best checkpoint is recorded"
        if found:
            return found[-1], why
    return last, why


def _checkpoint_row(run: RunLike, told: Mapping[str, Any], rows: Mapping[int, int]) -> int:
    """The row of a checkpoint: that of its step, where its epoch has several."""
    for row, epoch in enumerate(run.epochs):
        step = (epoch.get("counts") or {}).get("train_steps_cumulative")
        if epoch["epoch"] == told["epoch"] and step is not None and step == told.get("step"):
            return row
    return rows[told["epoch"]]


def _restored(run: RunLike) -> int | None:
    """The epoch whose weights the model has at the end, or has now; None for the last one."""
    if run.end is not None:
        return run.end.get("restored")
    told = [note for note in getattr(run, "notes", ()) if note["code"] == "restored"]
    if not told or not run.epochs or told[-1].get("epochs") != run.epochs[-1]["epoch"] + 1:
        return None  # an epoch came since
    epoch = told[-1].get("epoch")
    if not isinstance(epoch, int):
        return None
    return epoch


def _selected_by(run: RunLike) -> Iterator[str]:
    """Validation scores that a checkpoint or another tool calls its best by, the last one first."""
    follows = str((run.header.get("logged") or {}).get("follows") or "")
    if follows:
        yield follows.removeprefix("val/")
    for told in reversed(run.checkpoints):
        name = str(told.get("score") or "")
        if told.get("why") == "best" and name.startswith("val/"):
            yield name.removeprefix("val/")


def _validated_on(epoch: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Samples of an epoch's validation, then those of each class where recorded; None where nothing tells."""
    counts = epoch.get("counts") or {}
    samples = counts.get("val_samples")
    if not samples:
        return None
    classes: tuple[int, ...] = ()
    confusion = _of_split(epoch, "confusion", "val")
    recall = (_of_split(epoch, "per_class", "val") or {}).get("recall")
    if confusion is not None:
        classes = tuple(map(sum, confusion))
    elif recall is not None:
        classes = tuple(recall["n"])
    return (samples, *classes)


def _loss_change(run: RunLike, curves: LearningCurves) -> Estimate:
    """What the validation loss grew by from its minimum to the end, on the same samples.

    Without bounds, and with the reason, where the samples were not kept or the loss is another than
    theirs.
    """
    rows = curves.rows("train/loss", "val/loss")
    if not rows:
        return Estimate(reason="no losses were recorded")
    losses = curves.values("val/loss", rows)
    best = int(np.argmin(losses))
    try:
        lowest = rows_of(samples_of(run, run.epochs[rows[best]])(), "run")
        last = rows_of(samples_of(run, run.epochs[rows[-1]])(), "run")
        lowest, last = aligned(lowest, last)
        growth = row_losses(last, losses[-1]) - row_losses(lowest, losses[best])
    except CannotPairError as why:
        return Estimate(reason=str(why))
    if growth.size < 2:
        return Estimate(reason="one sample has no spread")
    mean = float(growth.mean())
    half = Z90 * float(growth.std(ddof=1)) / sqrt(growth.size)
    return Estimate(mean, mean - half, mean + half, growth.size, "paired")


def _run_notes(run: RunLike, row: int, why: str) -> Iterator[str]:
    yield f"Judged {_in_words(run, row)}, {why}."
    yield from map(str, _of_split(run.epochs[row], "notes", "val") or ())
    for evaluation in getattr(run, "last_evaluations", ()):
        samples = (evaluation.get("counts") or {}).get(f"{evaluation['split']}_samples")
        size = ""
        if samples is not None:
            size = f", {samples} samples"
        where = "Evaluated behind the last epoch, and not judged"
        yield f"{where}: split {evaluation['split']}{size}."
    told = [note["message"] for note in getattr(run, "notes", ()) if note["code"] in SHOWN_NOTES]
    yield from dict.fromkeys(told[:MOST_NOTES])
    if not run.header:
        yield NO_HEADER
    logged = run.header.get("logged")
    if logged:
        yield from _logged_notes(logged)
    elif run.end is None and getattr(run, "end_reason", None) is None:
        yield "The run has no end: it is still going, or was killed."
    elif run.end is None:
        yield "The run lacks its last line, but it was evaluated after its last epoch."
    elif run.end.get("reason") not in {"completed", "early stopping", "not closed"}:
        yield f"The run did not complete: {run.end.get('reason')}."


def _in_words(run: RunLike, row: int) -> str:
    """The epoch of a row; of several rows of an epoch, which of them."""
    number = run.epochs[row]["epoch"]
    words = f"epoch {number + 1} of {run.epochs[-1]['epoch'] + 1}"
    if sum(epoch["epoch"] == number for epoch in run.epochs) > 1:
        words += f" (evaluation {row + 1} of {len(run.epochs)})"
    return words


def _logged_notes(logged: Mapping[str, Any]) -> Iterator[str]:
    """What was decided while the log of another tool was read."""
    yield LOGGED.format(by=logged["by"])
    if not logged.get("sizes", {}).get("val"):
        yield WITHOUT_N
    yield from logged["notes"]


def _run_faults(run: RunLike, judged_row: int) -> Iterator[Fault]:
    for fault in run.faults:
        words = f"{fault['where']}: {fault['message']}"
        if fault["count"] > 1:
            words = f"{words.rstrip('.')} ({fault['count']} times)"
        kind = "contained"
        if fault["where"] == "validation" and fault["message"].startswith(_TOLD_OF_MODE):
            kind = IN_TRAINING_MODE
        yield Fault(kind, words, split=_split_of_fault(fault))
    for row, epoch in enumerate(run.epochs):
        for split, kinds in (epoch.get("faults") or {}).items():
            judged = row == judged_row and split == "val"
            where = f"epoch {epoch['epoch'] + 1}, {split}: "
            yield from _value_faults(kinds, where, judged=judged, split=split.partition("/")[0])


def _split_of_fault(fault: Mapping[str, Any]) -> str:
    """The split that a contained error belongs to; empty where its line does not tell."""
    _, _, computed = fault["where"].partition("compute ")
    return str(fault.get("split") or computed.partition("/")[0])


# From both.


def _of_split(epoch: Mapping[str, Any], key: str, split: str) -> Any:
    """What an epoch tells under this key of a split; None where it tells nothing."""
    return (epoch.get(key) or {}).get(split)


def _split(scores: Mapping[str, Any], head: str) -> dict[str, Estimate]:
    """The scores whose names start so, by the rest of their names."""
    return {
        name.removeprefix(head): recorded_estimate(score)
        for name, score in scores.items()
        if name.startswith(head)
    }


def _per_class(columns: Mapping[str, Any] | None) -> dict[str, tuple[Estimate, ...]]:
    """Columns of values, bounds and n as one estimate for each class or slice."""
    estimates: dict[str, tuple[Estimate, ...]] = {}
    for name, column in (columns or {}).items():
        cells = zip(column["value"], column["low"], column["high"], column["n"], strict=True)
        method = column.get("method") or ""
        estimates[name] = tuple(
            Estimate(float_of(value), float_of(low), float_of(high), int(n), method)
            for value, low, high, n in cells
        )
    return estimates


def _recorded_slices(slices: Mapping[str, Any] | None) -> Slices:
    if not slices:
        return Slices()
    names = tuple(map(str, slices["names"]))
    return Slices(names, _per_class(slices["scores"]), int(slices.get("filled", len(names))))


def _value_faults(
    kinds: Mapping[str, Mapping[str, Any]] | None,
    where: str = "",
    *,
    judged: bool,
    split: str = "val",
) -> Iterator[Fault]:
    """The kinds of bad value that were counted; where and what stands in their message."""
    for kind, fault in (kinds or {}).items():
        yield Fault(kind, f"{where}{fault.get('message') or kind}", judged, split)


def _task(config: Mapping[str, Any]) -> str:
    """What is predicted; empty where metrics came from elsewhere, so that the scores must tell."""
    task = str(config.get("task") or "")
    if task == "torchmetrics":
        return ""
    return task


def _ignored(config: Mapping[str, Any]) -> int | None:
    """The target that is left out; None where there is none."""
    index = config.get("ignore_index")
    if isinstance(index, int):
        return index
    return None


def _positive_class(
    wanted: int | None, task: str, confusion: Counts | None, names: Sequence[str]
) -> int | None:
    if wanted is None:
        if task == "binary":
            return 1
        return None
    if task == "regression":
        cure = "Leave it out: numbers are predicted, not classes."
        raise ConfigError("positive", "None for a regression", repr(wanted), cure)
    classes = len(names)
    if confusion is not None:
        classes = len(confusion)
    is_index = isinstance(wanted, int) and not isinstance(wanted, bool)
    if not is_index or not 0 <= wanted < max(classes, 1):
        rule = f"a class index from 0 to {max(classes, 1) - 1}"
        cure = "Pass the row of the positive class in the confusion matrix."
        raise ConfigError("positive", rule, repr(wanted), cure)
    return wanted
