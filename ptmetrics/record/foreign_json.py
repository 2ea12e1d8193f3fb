"""JSON logs: the trainer state of Hugging Face, and the history that Keras's `fit` returns."""

import json
from collections.abc import Iterator, Mapping
from math import ceil, inf, nan
from typing import Any, TypeGuard

from ptmetrics.errors import RecordError
from ptmetrics.record.foreign_names import score_names
from ptmetrics.record.foreign_rows import ForeignLog, Row, merge_rows

SHOWN_KEYS = 10
_FORMATS = "a trainer_state.json with 'log_history', or lists of one number per epoch"
_JSON_CURE = "Pass Hugging Face's trainer_state.json, or json.dump(history.history) of Keras."


def read_json(name: str, text: str) -> ForeignLog:
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
        raise RecordError(name, _FORMATS, type(content).__name__, _JSON_CURE)
    if "log_history" not in content:
        return _keras(name, content)
    entries = content["log_history"]
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise RecordError(f"{name}: log_history", "a list of objects", "something else", _JSON_CURE)
    return merge_rows("Hugging Face's Trainer", name, _hugging_face(name, entries), [])


def _hugging_face(name: str, entries: list[Mapping[str, Any]]) -> Iterator[Row]:
    """Entries; their epoch is a fraction of the data seen, 1.0 at the end of the first epoch.

    The summary at the end, known by its run time, repeats the mean training loss of the whole run.
    """
    for number, entry in enumerate(entries):
        if "train_runtime" in entry:
            continue
        place = f"{name}: log_history[{number}]"
        epoch = _as_float(entry.get("epoch"))
        if not 0 <= epoch < 2**53:
            cure = "Use a trainer_state.json as the Trainer writes it."
            got = repr(entry.get("epoch"))[:40]
            raise RecordError(f"{place}: epoch", "a number from 0", got, cure)
        names = score_names(key for key, value in entry.items() if _is_number(value))
        values = {ours: _as_float(entry[key]) for key, ours in names.items()}
        # An evaluation before training stands at epoch 0; that after the first epoch replaces it.
        yield Row(max(ceil(epoch - 1e-6) - 1, 0), values, place)


def _keras(name: str, columns: Mapping[str, Any]) -> ForeignLog:
    curves = {key: curve for key, curve in columns.items() if _is_curve(curve)}
    names = score_names(curves)
    if not names:
        keys = ", ".join(repr(key[:40]) for key in list(columns)[:SHOWN_KEYS])
        raise RecordError(name, _FORMATS, f"an object with {keys or 'no key'}", _JSON_CURE)
    lengths = {len(curves[key]) for key in names}
    if len(lengths) > 1:
        listed = [f"{len(curves[key])} in {key[:40]!r}" for key in list(names)[:SHOWN_KEYS]]
        cure = "Validate in every epoch, or write a CSV with a column 'epoch'."
        raise RecordError(name, "lists of equal length", ", ".join(listed), cure)
    rows = []
    for epoch in range(lengths.pop()):
        logged = {ours: curves[key][epoch] for key, ours in names.items()}
        values = {ours: _as_float(value) for ours, value in logged.items() if value is not None}
        rows.append(Row(epoch, values, f"{name}: epoch {epoch}"))
    notes = []
    others = [repr(key[:40]) for key in columns if key not in names]
    if others:
        notes.append(f"Keys that are no scores were not read: {', '.join(others[:SHOWN_KEYS])}.")
    return merge_rows("Keras's History", name, rows, notes)


def _is_curve(values: object) -> bool:
    """Whether this is a list of numbers, None where nothing was logged."""
    if not isinstance(values, list) or not any(map(_is_number, values)):
        return False
    return all(value is None or _is_number(value) for value in values)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_float(value: object) -> float:
    """The value as a float, infinite beyond its range; NaN for what is no number."""
    if not _is_number(value):
        return nan
    try:
        return float(value)
    except OverflowError:
        pass
    if value < 0:
        return -inf
    return inf
