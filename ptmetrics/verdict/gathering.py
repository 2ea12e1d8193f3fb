"""Evidence from what was recorded: a run that was read back, or the scores of one evaluation."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, sqrt
from numbers import Real
from typing import Any

import numpy as np

from ptmetrics.errors import ConfigError, DataError
from ptmetrics.record.lines import support_in
from ptmetrics.record.printable import quantity
from ptmetrics.verdict.evidence import (
    IN_TRAINING_MODE,
    Counts,
    Evidence,
    Fault,
    LearningCurves,
    RunLike,
    Slices,
)
from ptmetrics.verdict.finding import Estimate, float_of, recorded_estimate
from ptmetrics.verdict.samples import (
    CannotPairError,
    Sampled,
    aligned,
    row_losses,
    rows_of,
    sampled,
    samples_of,
)

NO_HEADER = (
    "The run's first record is missing: its task is taken from its scores, and no class is "
    "positive."
)
_TOLD_OF_MODE = "expected a model in evaluation mode"
SHOWN_NOTES = frozenset(
    {"end-epoch-missing", "journal-gap", "one-rank", "rank-faults", "superseded", "other-run"}
)
MOST_NOTES = 5
LOGGED = "Read from a log of {by}. How the run ended is not known."
WITHOUT_N = (
    "The log holds values without their number of samples, so no criterion can be met or failed: "
    "give it with n= or --n, or record the run with a Monitor."
)
Z90 = 1.6448536269514722  # 95 % on one side


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
        sample_axes=payload.get("sample_axes") or 0,
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
        _checkpoints_left(run),
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
        sample_axes=_of_split(epoch, "sample_axes", "val") or 0,
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


def has_value(epoch: Mapping[str, Any], metric: str) -> bool:
    """Whether an epoch has a finite value of this score."""
    value = epoch["scores"].get(metric, {}).get("value")
    return value is not None and isfinite(value)


def _checkpoint_row(run: RunLike, told: Mapping[str, Any], rows: Mapping[int, int]) -> int:
    """The row of a checkpoint: that of its step, where its epoch has several."""
    for row, epoch in enumerate(run.epochs):
        step = (epoch.get("counts") or {}).get("train_steps_cumulative")
        if epoch["epoch"] == told["epoch"] and step is not None and step == told.get("step"):
            return row
    return rows[told["epoch"]]


def _checkpoints_left(run: RunLike) -> frozenset[int]:
    """Epochs of the checkpoints, of each file the one that was written to it last."""
    by_path = {told.get("path"): told.get("epoch") for told in run.checkpoints}
    return frozenset(epoch for epoch in by_path.values() if isinstance(epoch, int))


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
    confusion = _of_split(epoch, "confusion", "val")
    if confusion is not None:
        classes = tuple(map(sum, confusion))
    else:
        classes = tuple(support_in(epoch.get("per_class"), "val"))
    if not any(classes):  # all rows were refused, as where predictions are NaN
        return (samples,)
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
            size = f", {quantity(samples, 'sample')}"
        where = "Evaluated behind the last epoch, and not judged"
        yield f"{where}: split {evaluation['split']}{size}."
    told = []
    for note in getattr(run, "notes", ()):
        if note["code"].partition(" ")[0] in SHOWN_NOTES:
            told.append(note["message"])
    yield from dict.fromkeys(told[:MOST_NOTES])
    yield from _attempts_note(run, getattr(run, "written_by", ()))
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


def _attempts_note(run: RunLike, written_by: Sequence[int]) -> Iterator[str]:
    """Which attempt recorded which epochs, of a run that was resumed."""
    spans: dict[int, list[int]] = {}
    for attempt, epoch in zip(written_by, run.epochs, strict=False):
        spans.setdefault(attempt, []).append(epoch["epoch"] + 1)
    if max(spans, default=1) > 1:
        told = [
            f"epochs {numbers[0]} to {numbers[-1]} by attempt {attempt}"
            for attempt, numbers in spans.items()
        ]
        yield f"The run was resumed; the record has {', '.join(told[-MOST_NOTES:])}."


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
            words = f"{words.rstrip('.')} ({quantity(fault['count'], 'time')})"
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
