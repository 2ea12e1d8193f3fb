"""Evidence from what a user has: a run that was read back, or the scores of one evaluation."""

import os
from collections.abc import Iterator, Mapping, Sequence
from math import log, sqrt
from typing import Any, Protocol, runtime_checkable

from ptmetrics.errors import ConfigError, DataError, PtmetricsError
from ptmetrics.record.reader import read_run
from ptmetrics.verdict.confusion import matrix
from ptmetrics.verdict.evidence import (
    Counts,
    Curves,
    Evidence,
    Fault,
    check_score,
    estimate,
    number,
)
from ptmetrics.verdict.finding import Z95, Estimate
from ptmetrics.verdict.samples import kept_by, loss_change, sampled, sampled_classes


@runtime_checkable
class RunLike(Protocol):
    """The part of a run that was read back which the rules need."""

    @property
    def header(self) -> Mapping[str, Any]: ...  # noqa: D102 — as in the record
    @property
    def epochs(self) -> Sequence[Mapping[str, Any]]: ...  # noqa: D102
    @property
    def checkpoints(self) -> Sequence[Mapping[str, Any]]: ...  # noqa: D102
    @property
    def end(self) -> Mapping[str, Any] | None: ...  # noqa: D102
    @property
    def faults(self) -> Sequence[Mapping[str, Any]]: ...  # noqa: D102
    @property
    def problems(self) -> Sequence[Any]: ...  # noqa: D102


def read(path: str | os.PathLike[str]) -> RunLike:
    """Read a run folder, or a log of another tool, back; the one place that touches the reader.

    Raises:
        RecordError: If it cannot be read.
    """
    return read_run(path)


def estimates(scores: Mapping[str, Any]) -> dict[str, Estimate]:
    """All recorded scores of a mapping."""
    return {name: estimate(score) for name, score in scores.items()}


def evidence_of_scores(payload: Mapping[str, Any], positive: int | None = None) -> Evidence:
    """Evidence from one evaluation: the mapping that `Scores.to_dict()` gives.

    Args:
        payload: "scores", and where known "per_class", "confusion", "per_slice", "class_names", "task", "faults".
        positive: Index of the class whose precision and recall count.

    Raises:
        DataError: If the mapping holds no scores, or a matrix that cannot be a confusion matrix.
        ConfigError: If `positive` is no class.
    """
    if not isinstance(payload.get("scores"), Mapping):
        got = f"the keys {sorted(map(str, payload))}"
        raise DataError(
            "source", "a mapping with 'scores'", got, "Pass scores.to_dict() or a run folder."
        )
    scores, task = payload["scores"], _task(payload)
    for name, score in scores.items():
        check_score(str(name), score)
    confusion = matrix(payload.get("confusion"))
    names = tuple(map(str, payload.get("class_names") or ()))
    split = any(str(name).startswith(("val/", "train/")) for name in scores)
    return Evidence(
        val=_split(scores, "val") if split else estimates(scores),
        train=_split(scores, "train"),
        per_class=_per_class(payload.get("per_class") or {}),
        confusion=confusion,
        class_names=names,
        positive=_positive(positive, task, confusion, names),
        faults=tuple(_value_faults(payload.get("faults") or {}, judged=True)),
        **_slices(payload.get("per_slice") or {}),
        notes=(
            "Judged one evaluation: learning curves are not known.",
            *map(str, payload.get("notes") or ()),
        ),
        task=task,
        val_samples=payload.get("n"),
    )


def evidence_of_run(run: RunLike, positive: int | None = None) -> Evidence:
    """Evidence from a run that was read back.

    The epoch of the run's last "best" checkpoint is judged, else the last epoch that was validated.

    Raises:
        DataError: If a recorded matrix cannot be a confusion matrix, or an epoch is written in another way.
        ConfigError: If `positive` is no class.
    """
    if not run.epochs:
        return Evidence({}, problems=len(run.problems), notes=("The run holds no finished epoch.",))
    try:
        return _of_epochs(run, positive)
    except PtmetricsError:
        raise
    except (
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:  # whole lines, but not of our making
        cure = "Read it with the version that wrote it, or record the run again."
        got = f"{type(error).__name__}: {error}"
        raise DataError("record", "an epoch as this version writes it", got, cure) from error


def _of_epochs(run: RunLike, positive: int | None) -> Evidence:
    row, why = judged_row(run)
    epoch = run.epochs[row]
    confusion = matrix((epoch.get("confusion") or {}).get("val"))
    trained_on = matrix((epoch.get("confusion") or {}).get("train"))
    names = tuple(map(str, epoch.get("class_names") or ()))
    kept = kept_by(run, epoch)
    val = {
        name.removeprefix("val/"): sampled(score, name, kept)
        for name, score in epoch["scores"].items()
        if name.startswith("val/")
    }
    task = _task(run.header.get("metrics") or {})
    curves = Curves(
        tuple(e["scores"] for e in run.epochs), tuple(e["epoch"] for e in run.epochs), row
    )
    return Evidence(
        val=val,
        train=_split(epoch["scores"], "train"),
        per_class=sampled_classes(
            _per_class((epoch.get("per_class") or {}).get("val") or {}), kept
        ),
        confusion=confusion,
        train_support=None if trained_on is None else trained_on.sum(1),
        class_names=names,
        positive=_positive(positive, task, confusion, names),
        curves=curves,
        faults=_run_faults(run, row),
        problems=len(run.problems),
        **_slices((epoch.get("per_slice") or {}).get("val") or {}),
        notes=_run_notes(run, row, why, val.get("accuracy")),
        loss_change=loss_change(run, curves),
        kept=kept,
        task=task,
        fingerprint=run.header.get("val_fingerprint"),
        val_samples=(epoch.get("counts") or {}).get("val_samples"),
    )


def _task(config: Mapping[str, Any]) -> str:
    """What is predicted; empty where the metrics came from elsewhere, so that the scores must tell."""
    task = str(config.get("task") or "")
    return "" if task == "torchmetrics" else task


def _split(scores: Mapping[str, Any], split: str) -> dict[str, Estimate]:
    head = f"{split}/"
    return {
        name.removeprefix(head): estimate(score)
        for name, score in scores.items()
        if name.startswith(head)
    }


def _per_class(columns: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[Estimate, ...]]:
    def each(column: Mapping[str, Any]) -> Iterator[Estimate]:
        for value, low, high, n in zip(
            *(column[key] for key in ("value", "low", "high", "n")), strict=True
        ):
            yield Estimate(
                number(value), number(low), number(high), int(n), column.get("method") or ""
            )

    return {name: tuple(each(column)) for name, column in columns.items()}


def _slices(slices: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Evidence` that tell of slices."""
    if not slices:
        return {}
    names = tuple(map(str, slices["names"]))
    filled = int(slices.get("filled", len(names)))
    return {"per_slice": _per_class(slices["scores"]), "slice_names": names, "slices": filled}


def _positive(
    wanted: int | None, task: str, confusion: Counts | None, names: Sequence[str]
) -> int | None:
    if wanted is None:
        return 1 if task == "binary" else None
    if task == "regression":
        cure = "Leave it out: numbers are predicted, not classes."
        raise ConfigError("positive", "None for a regression", repr(wanted), cure)
    classes = len(names) if confusion is None else confusion.shape[0]
    if isinstance(wanted, bool) or not isinstance(wanted, int) or not 0 <= wanted < max(classes, 1):
        cure = "Pass the row of the positive class in the confusion matrix."
        raise ConfigError(
            "positive", f"a class index from 0 to {max(classes, 1) - 1}", repr(wanted), cure
        )
    return wanted


def judged_row(run: RunLike) -> tuple[int, str]:
    """The row in `run.epochs` that stands for the run, and why it does."""
    rows = {int(epoch["epoch"]): row for row, epoch in enumerate(run.epochs)}
    best = [
        item["epoch"]
        for item in run.checkpoints
        if item.get("why") == "best" and item.get("epoch") in rows
    ]
    if best:
        return rows[best[-1]], "the best by its own checkpoint"
    last = len(run.epochs) - 1
    validated = (row for row in range(last, -1, -1) if _split(run.epochs[row]["scores"], "val"))
    return next(validated, last), "the last, as no best checkpoint is recorded"


def _run_notes(run: RunLike, row: int, why: str, accuracy: Estimate | None) -> tuple[str, ...]:
    total = len(run.epochs)
    notes = [
        f"Judged epoch {run.epochs[row]['epoch'] + 1} of {run.epochs[-1]['epoch'] + 1}, {why}."
    ]
    if why.startswith("the best") and accuracy is not None and accuracy.bounded and total > 1:
        error = (accuracy.high - accuracy.low) / (2 * Z95)
        notes.append(
            f"The epoch was chosen out of {total} on the data that judge it, so its accuracy may be too good "
            f"by up to about {error * sqrt(2 * log(total)):.2g}, standard error × √(2 ln {total})."
        )
    notes += map(str, (run.epochs[row].get("notes") or {}).get("val") or ())
    if not run.header:
        notes.append(
            "The run's first record is missing: its task is taken from its scores, and no class is positive."
        )
    if logged := run.header.get("logged"):
        notes += _logged_notes(logged)
    elif run.end is None:
        notes.append("The run has no end: it is still going, or was killed.")
    elif run.end.get("reason") not in {"completed", "early stopping", "not closed"}:
        notes.append(f"The run did not complete: {run.end.get('reason')}.")
    return tuple(notes)


def _logged_notes(logged: Mapping[str, Any]) -> Iterator[str]:
    """What cannot be known of a run that another tool logged."""
    yield (
        f"Read from a log of {logged['by']}: it holds values without their number of samples, so no criterion can "
        "be met or failed; record the run with a Monitor for that. How the run ended is not known."
    )
    yield from logged["notes"]


def _value_faults(
    kinds: Mapping[str, Mapping[str, Any]], where: str = "", *, judged: bool
) -> list[Fault]:
    """The kinds of bad value that a ledger counted; where and what stands in their message."""
    return [
        Fault(kind, f"{where}{fault.get('message') or kind}", judged)
        for kind, fault in kinds.items()
    ]


def _run_faults(run: RunLike, judged_row: int) -> tuple[Fault, ...]:
    faults = [
        Fault("contained", f"{fault.get('where', '')}: {fault.get('message', '')}")
        for fault in run.faults
    ]
    for row, epoch in enumerate(run.epochs):
        for split, kinds in (epoch.get("faults") or {}).items():
            judged = row == judged_row and split == "val"
            faults += _value_faults(kinds, f"epoch {epoch['epoch'] + 1}, {split}: ", judged=judged)
    return tuple(faults)
