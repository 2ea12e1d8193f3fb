"""JSON logs: the trainer state of Hugging Face, and the history that Keras's `fit` returns."""

import json
from collections.abc import Iterator, Mapping
from math import ceil, nan
from typing import Any, TypeGuard

from ptmetrics.errors import RecordError
from ptmetrics.record.foreign_names import score_names
from ptmetrics.record.foreign_rows import Logged, Row, logged

_FORMATS = "a trainer_state.json with 'log_history', or lists of one number per epoch"
_CURE = "Pass Hugging Face's trainer_state.json, or json.dump(history.history) of Keras."
SHOWN = 10


def read_json(name: str, text: str) -> Logged:
    """Read a log that is one JSON object.

    Args:
        name: The file, for messages.
        text: Its content.

    Raises:
        RecordError: If it is no JSON, or neither of the two formats.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        cure = "Copy the file again: it was cut off or edited."
        raise RecordError(name, "one JSON object", f"{error}", cure) from None
    if not isinstance(content, Mapping):
        raise RecordError(name, _FORMATS, type(content).__name__, _CURE)
    if "log_history" in content:
        return _hugging_face(name, content["log_history"])
    return _keras(name, content)


def _hugging_face(name: str, entries: Any) -> Logged:
    if not (isinstance(entries, list) and all(isinstance(entry, Mapping) for entry in entries)):
        raise RecordError(f"{name}: log_history", "a list of objects", "something else", _CURE)
    rows = (row for number, entry in enumerate(entries) for row in _entry(name, number, entry))
    return logged("Hugging Face's Trainer", name, rows, [])


def _entry(name: str, number: int, entry: Mapping[str, Any]) -> Iterator[Row]:
    """One entry; its epoch is a fraction of the data seen, 1.0 at the end of the first epoch.

    The summary at the end, known by its run time, repeats the mean training loss of the whole run.
    """
    if "train_runtime" in entry:
        return
    place, wrote = f"{name}: log_history[{number}]", entry.get("epoch")
    epoch = _float(wrote) if _is_number(wrote) else nan
    if not 0 <= epoch < 2**53:
        cure = "Use a trainer_state.json as the Trainer writes it."
        raise RecordError(f"{place}: epoch", "a number from 0", repr(wrote)[:40], cure)
    names = score_names(key for key, value in entry.items() if _is_number(value))
    # An evaluation before training stands at epoch 0; the one after the first epoch replaces it.
    row = max(ceil(epoch - 1e-6) - 1, 0)
    yield Row(row, {ours: _float(entry[key]) for key, ours in names.items()}, place)


def _keras(name: str, columns: Mapping[str, Any]) -> Logged:
    curves = {
        key: curve
        for key, curve in columns.items()
        if isinstance(curve, list)
        and any(map(_is_number, curve))
        and all(value is None or _is_number(value) for value in curve)
    }
    names = score_names(curves)
    if not names:
        keys = ", ".join(repr(key[:40]) for key in list(columns)[:SHOWN]) or "no key"
        raise RecordError(name, _FORMATS, f"an object with {keys}", _CURE)
    lengths = {len(curves[key]) for key in names}
    if len(lengths) > 1:
        got = ", ".join(f"{len(curves[key])} in {key[:40]!r}" for key in list(names)[:SHOWN])
        cure = "Validate in every epoch, or write a CSV with a column 'epoch'."
        raise RecordError(name, "lists of equal length", got, cure)
    others = [repr(key[:40]) for key in columns if key not in names]
    notes = (
        [f"Keys that are no scores were not read: {', '.join(others[:SHOWN])}."] if others else []
    )
    rows = (
        Row(
            i,
            {
                ours: _float(curves[key][i])
                for key, ours in names.items()
                if curves[key][i] is not None
            },
            f"{name}: epoch {i}",
        )
        for i in range(lengths.pop())
    )
    return logged("Keras's History", name, rows, notes)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(value: int | float) -> float:
    """The value as a float; a whole number beyond its range is infinite."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
