"""What a user has at hand, as the run or the scores that stand behind it."""

import os
from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ptmetrics.errors import ConfigError, DataError
from ptmetrics.record.history import History
from ptmetrics.record.reader import read_run
from ptmetrics.record.schema import defect_of_scores
from ptmetrics.verdict.evidence import RunLike
from ptmetrics.verdict.gathering import check_is_score, confusion_counts


@runtime_checkable
class HasScores(Protocol):
    """Scores of one evaluation or epoch, such as `pm.Scores`."""

    def to_dict(self) -> dict[str, Any]:
        """The scores as plain numbers."""


@runtime_checkable
class HasHistory(Protocol):
    """What counts a run that may go on, such as `pm.Monitor`."""

    @property
    def history(self) -> History:
        """The epochs so far."""


OneRun = str | os.PathLike[str] | RunLike | History | HasHistory
"""What tells of a run: its folder or log, what was read back, its monitor or history."""
Source = OneRun | HasScores | Mapping[str, Any]
"""The same, or the scores of one evaluation."""


def run_behind(source: object) -> RunLike | None:
    """The run that a source tells of; None where it is something else.

    Raises:
        RecordError: If its record cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        return read_run(source)
    if isinstance(source, RunLike):
        return source
    if isinstance(source, HasHistory):
        source = source.history
    if isinstance(source, History):
        return source.run()
    return None


def run_or_scores(source: object) -> RunLike | Mapping[str, Any]:
    """The run behind a source, or the scores of one evaluation as plain numbers.

    Raises:
        DataError: If it is neither.
        RecordError: If a record cannot be read.
    """
    run = run_behind(source)
    if run is not None:
        return run
    if isinstance(source, HasScores):
        return source.to_dict()
    if isinstance(source, Mapping):
        return source
    rule = "a run or the scores of one evaluation"
    cure = "Pass a run folder, a monitor, scores, or the mapping of scores.to_dict()."
    raise DataError("source", rule, type(source).__name__, cure)


def checked(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Scores of one evaluation that can be true, by the rules that a record is read by.

    What may be left out of such a mapping is filled in: bounds, and the number of samples.

    Raises:
        DataError: If they cannot be; the place is named.
    """
    told: dict[str, Any] = _native(payload)
    scores = told.get("scores")
    if not isinstance(scores, dict):
        return payload  # for the evidence to refuse
    for name, score in scores.items():
        check_is_score(name, score)
        _fill_in(score, {"value": nan, "low": nan, "high": nan, "n": 0})
    matrix = confusion_counts(told.get("confusion"))
    if matrix is not None:
        told["confusion"] = matrix.tolist()
    slices = told.get("per_slice") or {}
    for group in (told.get("per_class"), isinstance(slices, dict) and slices.get("scores")):
        for column in _dicts_in(group):
            for key in ("value", "low", "high"):
                if isinstance(column.get(key), list):
                    column[key] = [nan if item is None else item for item in column[key]]
    if wrong := defect_of_scores(told):
        cure = "Pass scores.to_dict() as it is."
        raise DataError(f"source{wrong.partition(' ')[0]}", "what can be", wrong, cure)
    return told


def _native(value: Any) -> Any:
    """Mappings, sequences and NumPy's as dictionaries, lists and numbers of Python."""
    if isinstance(value, Mapping):
        return {str(key): _native(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return _native(value.tolist())
    if isinstance(value, list | tuple):
        return [_native(item) for item in value]
    return value


def _fill_in(score: dict[str, Any], defaults: Mapping[str, float]) -> None:
    """Give a score what it leaves out, or has as None, which stands for NaN in JSON."""
    for key, default in defaults.items():
        if score.get(key) is None:
            score[key] = default
    if score.get("higher_is_better", True) is None:  # nobody tells
        del score["higher_is_better"]


def _dicts_in(group: object) -> list[dict[str, Any]]:
    if not isinstance(group, dict):
        return []
    return [item for item in group.values() if isinstance(item, dict)]


def names_of(sources: Sequence[object]) -> list[str]:
    """A name for each source: its path, behind what is the same in all, or its number."""
    paths = [path for path in map(_path_of, sources) if path is not None]
    if len(set(paths)) < len(sources):
        return [f"run {number}" for number in range(1, len(sources) + 1)]
    shared = Path(os.path.commonpath(paths))
    return [str(path.relative_to(shared)) for path in paths]


def _path_of(source: object) -> Path | None:
    """Where a source is recorded; None for what is in memory."""
    if isinstance(source, HasHistory):
        source = source.history
    path = getattr(source, "path", source)
    if isinstance(path, str | os.PathLike):
        return Path(path).absolute()
    return None


def with_n(source: Source, n: int) -> Source:
    """The log of another tool, read with the number of its validation samples.

    Raises:
        ConfigError: If it is no such log, or no number of samples.
    """
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n < 2**53:
        cure = "Pass the number of rows of the validation data."
        raise ConfigError("n", "a whole number from 1", repr(n), cure)
    path = source
    if isinstance(source, RunLike):
        path = getattr(source, "path", "")
    if isinstance(path, str | os.PathLike):
        run = read_run(path, n=n)
        if run.header.get("logged"):
            return run
    cure = "Leave n out: what is recorded tells its own."
    raise ConfigError("n", "None, except for the log of another tool", repr(n), cure)
