"""What of a run is judged and shown, where somebody asks for another epoch or split than usual."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ptmetrics.errors import ConfigError, DataError
from ptmetrics.record.reader import Run
from ptmetrics.verdict.evidence import Evidence, RunLike
from ptmetrics.verdict.followed import COMPARED, best_row, followed_score
from ptmetrics.verdict.gathering import (
    evidence_of_run,
    evidence_of_scores,
    has_value,
    judged_row,
)

OF_SPLIT = ("per_class", "confusion", "per_slice", "faults", "notes", "sample_axes")
Epoch = int | str
"""The number of an epoch, from 0; "best" or "last"."""


def picked(run: RunLike, epoch: Epoch | None) -> RunLike:
    """The run, with this epoch as the one that is judged.

    Raises:
        ConfigError: If the epoch is none of its own.
        DataError: If it was not read back from a record.
    """
    if epoch is None:
        return run
    if not isinstance(run, Run):
        rule = "None, but for a run that was read back"
        raise ConfigError("epoch", rule, repr(epoch), "Pass the run folder.")
    if epoch == "best":
        return replace(run, picked=_best_row(run))
    if epoch == "last":
        return replace(run, picked=_validated(run)[-1])
    numbers = [item["epoch"] for item in run.epochs]
    if isinstance(epoch, bool) or epoch not in numbers:
        got = repr(epoch)
        rule = f'"best", "last" or a number from {numbers[0]} to {numbers[-1]} that the run holds'
        raise ConfigError("epoch", rule, got, "In the API epochs count from 0, for people from 1.")
    last = len(numbers) - 1 - numbers[::-1].index(epoch)
    return replace(run, picked=last)


def _validated(run: Run) -> list[int]:
    """Rows with scores of validation; all where there are none.

    Raises:
        DataError: If the run holds no epoch.
    """
    if not run.epochs:
        raise DataError("run", "a run with an epoch", "one without", "Train for one at least.")
    rows = range(len(run.epochs))
    validated = [
        row for row in rows if any(name.startswith("val/") for name in run.epochs[row]["scores"])
    ]
    return validated or list(rows)


def _best_row(run: Run) -> int:
    """That of its best checkpoint, else of the best score."""
    _validated(run)
    evidence = evidence_of_run(run)
    score = followed_score(evidence, losses=True)
    if score is None:
        return evidence.curves.judged
    return best_row(evidence, score)


def evaluation_of(run: RunLike, split: str) -> Mapping[str, Any]:
    """The last evaluation of a split: one of its own, else that of the judged epoch.

    Of a run that never validated, "val" is the judged epoch too, with the scores that it has.

    Raises:
        ConfigError: If the split was never evaluated.
    """
    own = [each for each in getattr(run, "evaluations", ()) if each["split"] == split]
    splits: dict[str, None] = {each["split"]: None for each in getattr(run, "evaluations", ())}
    if own and split != "val":
        last: Mapping[str, Any] = own[-1]
        return last
    for epoch in run.epochs:
        splits |= dict.fromkeys(name.partition("/")[0] for name in epoch["scores"])
    if split not in splits and (split != "val" or not splits):
        rule = f"a split that was evaluated ({', '.join(splits) or 'none was'})"
        raise ConfigError("split", rule, repr(split), "Name one of these.")
    return run.epochs[judged_row(run)[0]]


def evidence_of_split(run: RunLike, split: str, positive: int | None) -> Evidence:
    """What the rules will see of another split than validation: its last evaluation alone.

    Raises:
        ConfigError: If the split was never evaluated, or `positive` is no class.
    """
    told = evaluation_of(run, split)
    whole = evidence_of_run(run)
    payload: dict[str, Any] = {key: (told.get(key) or {}).get(split) for key in OF_SPLIT}
    payload["class_names"] = told.get("class_names")
    payload["task"] = whole.task
    payload["n"] = (told.get("counts") or {}).get(f"{split}_samples")
    payload["scores"] = {
        f"val/{name.removeprefix(f'{split}/')}": score
        for name, score in told["scores"].items()
        if name.startswith(f"{split}/")
    }
    evidence = evidence_of_scores(payload, positive)
    done = f"Judged split {split}, as evaluated in epoch {told['epoch'] + 1}."
    return replace(
        evidence,
        split=split,
        recorded=whole.recorded,
        problems=whole.problems,
        contradictions=whole.contradictions,
        notes=(done, *evidence.notes),
    )


def common_score(runs: Sequence[RunLike]) -> str:
    """Full name of the first of `COMPARED` that all runs have; else the accuracy."""
    for name in COMPARED:
        metric = f"val/{name}"
        if all(any(has_value(epoch, metric) for epoch in run.epochs) for run in runs):
            return metric
    return "val/accuracy"
