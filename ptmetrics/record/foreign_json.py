"""JSON logs: the trainer state of Hugging Face, histories as columns or rows, and JSON lines."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ptmetrics.errors import RecordError
from ptmetrics.record.direction import direction
from ptmetrics.record.foreign_names import (
    EPOCH_NAMES,
    STEP_NAMES,
    clipped,
    listed,
    read_name,
)
from ptmetrics.record.foreign_sizes import LARGEST_N
from ptmetrics.record.foreign_table import (
    Entry,
    LogCell,
    Table,
    check_columns,
    lines_of,
    number_of,
    number_or_none,
)

NEAREST = 0.25  # samples: the next whole number is farther away
DEEPEST = 6  # objects within objects that are looked into
_FORMATS = (
    "a trainer_state.json with 'log_history', lists of one number per epoch, or one object per row"
)
_JSON_CURE = "Pass Hugging Face's trainer_state.json, or json.dump(history.history) of Keras."
_TWO = "Write one file for each: a verdict is about one model."
_CUT = "Copy the file again: it was cut off or edited."
_LINE_TOOLS = (
    ("LLaMA-Factory", {"current_steps"}),
    ("detectron2", {"iteration", "eta_seconds"}),
    ("MMEngine", {"iter", "data_time"}),
)
_OF_EPOCH = re.compile(r"(?:epoch)?[\s_-]*(\d{1,15})", re.IGNORECASE)  # a key with a row below it
Object = Mapping[str, Any]


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a key that stands twice would hide a column.

    Raises:
        ValueError: If one does.
    """
    held = dict(pairs)
    if len(held) < len(pairs):
        twice = [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]
        raise ValueError(f"{listed(twice)} more than once in an object")
    return held


_STRICT_JSON = json.JSONDecoder(object_pairs_hook=_object_of)


def read_json(name: str, text: str) -> Table:
    """Read a log that is one JSON document, or one JSON object a line.

    Args:
        name: The file, for messages.
        text: Its content.

    Raises:
        RecordError: If it is no JSON, or none of the formats.
    """
    try:
        content, end = _STRICT_JSON.raw_decode(text, len(text) - len(text.lstrip()))
    except json.JSONDecodeError as error:
        place = f"{name}, line {error.lineno}"
        raise RecordError(place, "JSON", f"{error.msg}", _CUT) from None
    except (ValueError, RecursionError) as error:
        raise RecordError(name, "JSON that can be read", f"{error}", _CUT) from None
    rest = re.compile(r"\s*").match(text, end)
    if rest is None or rest.end() < len(text):
        return _lines_table(name, text)
    if isinstance(content, Mapping) and "log_history" in content:
        return _trainer_table(name, content)
    rows = _rows_in(name, content)
    if rows is not None:
        return _rows_table(name, "a JSON file of rows", rows, "entry {}", first=1)
    if not isinstance(content, Mapping):
        raise RecordError(name, _FORMATS, type(content).__name__, _JSON_CURE)
    return _columns_table(name, content)


# One object a row


def _lines_table(name: str, text: str) -> Table:
    notes: list[str] = []
    columns, evaluated = _columns_of_rows(row for _, row in _parsed_lines(name, text, notes))
    check_columns(name, columns)
    tool = next((tool for tool, told in _LINE_TOOLS if told <= set(columns)), "JSON lines")

    def entries() -> Iterator[Entry]:
        for number, row in _parsed_lines(name, text, []):
            yield Entry(number, row)

    return Table(name, tool, columns, entries, notes=notes, evaluated=evaluated)


def _parsed_lines(
    name: str, text: str, notes: list[str]
) -> Iterator[tuple[int, dict[str, LogCell]]]:
    """Each line that is not empty, with its number; the last one may be cut off."""
    broken: tuple[int, str] | None = None
    for number, line in enumerate(lines_of(text), 1):
        if line.isspace():
            continue
        if broken is not None:
            place = f"{name}, line {broken[0]}"
            cure = "Remove that line, or write it again."
            raise RecordError(place, "one JSON object a line", broken[1], cure)
        try:
            row = _STRICT_JSON.decode(line)
        except (ValueError, RecursionError) as error:
            broken = number, str(error)
            continue
        if not isinstance(row, Mapping):
            broken = number, type(row).__name__
        else:
            yield number, dict(_flattened(_without_summary(row)))
    if broken is not None:
        notes.append(f"The last line ({broken[0]}) is cut off, and was left out.")


def _trainer_table(name: str, content: Object) -> Table:
    entries = content["log_history"]
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise RecordError(f"{name}: log_history", "a list of objects", "something else", _JSON_CURE)
    table = _rows_table(name, "Hugging Face's Trainer", entries, "log_history[{}]", first=0)
    best = content.get("best_model_checkpoint")
    if not isinstance(best, str):
        best = ""
    step = number_or_none(content.get("best_global_step"))
    of_path = re.search(r"checkpoint-(\d{1,15})/?$", best)
    if step is None and of_path:
        step = float(of_path[1])
    return Table(
        name,
        table.tool,
        table.columns,
        table.entries,
        table.place,
        of_trainer=True,
        exact=True,
        sizes=_sizes_by_speed(entries),
        best_path=best,
        best_step=step,
        best_value=number_or_none(content.get("best_metric")),
        last_step=number_or_none(content.get("global_step")),
    )


def _sizes_by_speed(entries: list[Object]) -> dict[str, int]:
    """Samples of an evaluation: its seconds, with 4 decimals, times samples a second, with 3.

    They count where several evaluations tell the same whole number, and no other is as near.
    """
    found: set[int] = set()
    told = 0
    for entry in entries:
        seconds = number_or_none(entry.get("eval_runtime"))
        rate = number_or_none(entry.get("eval_samples_per_second"))
        if seconds is None or rate is None or not 0 < seconds * rate < LARGEST_N:
            continue
        rounding = 0.5e-3 * seconds + 0.5e-4 * rate
        n = round(seconds * rate)
        if rounding > NEAREST or abs(seconds * rate - n) > rounding:
            return {}
        found.add(n)
        told += 1
    if len(found) == 1 and told > 1 and min(found):
        return {"val": found.pop()}
    return {}


def _rows_table(name: str, tool: str, rows: list[Object], place: str, *, first: int) -> Table:
    """Rows that were read whole; the summary that the Trainer writes at its end is none."""

    def entries() -> Iterator[Entry]:
        for number, row in enumerate(rows, first):
            yield Entry(number, dict(_flattened(_without_summary(row))))

    columns, evaluated = _columns_of_rows(entry.cells for entry in entries())
    check_columns(name, columns)
    return Table(name, tool, columns, entries, place, evaluated=evaluated)


def _without_summary(row: Object) -> Object:
    """A row without what the Trainer tells of the whole training at its end, beside scores or alone."""
    if "train_runtime" not in row:
        return row
    return {key: value for key, value in row.items() if read_name(key).split == "val"}


def _columns_of_rows(rows: Iterable[Object]) -> tuple[list[str], frozenset[str]]:
    """All columns, and those of evaluations alone: MMEngine counts "iter" in training's rows."""
    with_iter: dict[str, None] = {}
    without: dict[str, None] = {}
    every: dict[str, None] = {}
    for row in rows:
        every.update(dict.fromkeys(row))
        if "iter" in row:
            with_iter.update(dict.fromkeys(row))
        else:
            without.update(dict.fromkeys(row))
    evaluated: frozenset[str] = frozenset()
    if with_iter:
        evaluated = frozenset(column for column in without if column not in with_iter)
    return list(every), evaluated


def _flattened(row: Object, front: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Objects within objects as "train/loss"; what holds no number is left to who reads it."""
    for key, value in row.items():
        path = front + key  # with nothing in front the key itself, which is no new string
        if isinstance(value, Mapping) and depth < DEEPEST:
            yield from _flattened(value, f"{path}/", depth + 1)
        elif isinstance(value, list | Mapping):
            yield path, ""
        else:
            yield path, value


def _rows_in(name: str, content: Any) -> list[Object] | None:
    """The rows of a document that holds rows, else None."""
    if _is_rows(content):
        return list(content)
    if not isinstance(content, Mapping):
        return None
    rows = _rows_of_pandas(content)
    if rows is not None:
        return rows
    held = {key: value for key, value in content.items() if _is_rows(value)}
    if held:
        return _rows_by_key(name, held)
    if any(read_name(key).split and _is_cell(value) for key, value in content.items()):
        return [content]  # one evaluation
    return None


def _rows_of_pandas(content: Object) -> list[Object] | None:
    """Rows as `to_json(orient="split")` and `orient="index"` write them."""
    header = content.get("columns")
    data = content.get("data")
    if isinstance(header, list) and isinstance(data, list):
        names = list(map(str, header))
        return [dict(zip(names, row, strict=False)) for row in data if isinstance(row, list)]
    numbers = [_OF_EPOCH.fullmatch(key) for key in content]
    if all(numbers) and _is_rows(list(content.values())):
        return [content[told[0]] for told in sorted(filter(None, numbers), key=_number_in)]
    return None


def _number_in(told: re.Match[str]) -> int:
    return int(told[1])


def _rows_by_key(name: str, held: Mapping[str, Any]) -> list[Object]:
    """Rows that stand under one key, or under one for each split."""
    if len(held) == 1:
        return list(next(iter(held.values())))
    splits = {key: read_name(f"{key}/loss").split for key in held}
    if not all(splits.values()):
        raise RecordError(name, "one model", f"{len(held)}: {listed(held)}", _TWO)
    told = {read_name(key).sort for rows in held.values() for row in rows for key in row}
    counted = not told & {*EPOCH_NAMES, *STEP_NAMES}
    together: list[Object] = []
    for key, rows in held.items():
        for number, row in enumerate(rows):
            numbered = {"epoch": number} if counted else {}
            together.append({**numbered, **row, "split": splits[key]})
    return together


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(r, Mapping) for r in value)


# One list a column


def _are_models(heads: tuple[str, str], tail: str) -> bool:
    """Whether what two columns of one name stand in are models: it may be splits or scores as well.

    "acc/Test" and "auc/Test", "recall/macro" and "f1/macro" are two scores of one model.
    """
    if not read_name(tail).score:
        return False
    return not (all(map(_names_split, heads)) or all(map(_names_score, heads)))


def _names_score(head: str) -> bool:
    return direction(read_name(head).score) is not None


def _columns_table(name: str, content: Object) -> Table:
    curves: dict[str, list[Any]] = {}
    others: list[str] = []
    heads: dict[str, str] = {}  # the rest of a name to the object that it stands in
    for path, value in _curves_in(content):
        if value is None:
            others.append(path)
            continue
        head, _, tail = path.partition("/")
        before = heads.setdefault(tail, head)
        if before != head and _are_models((before, head), tail):
            raise RecordError(name, "one model", f"two: {listed([before, head])}", _TWO)
        curves[path] = value
    columns = list(curves)
    check_columns(name, columns)
    scores = [path for path in curves if read_name(path).score]
    if not scores:
        keys = listed(content) or "no key"
        raise RecordError(name, _FORMATS, f"an object with {keys}", _JSON_CURE)
    lengths = {len(curves[path]) for path in scores}
    if len(lengths) > 1:
        got = ", ".join(f"{len(curves[path])} in {clipped(path)}" for path in scores[:10])
        cure = "Validate in every epoch, or write a CSV with a column 'epoch'."
        raise RecordError(name, "lists of equal length", got, cure)
    length = lengths.pop()
    fitting = [path for path in columns if len(curves[path]) == length]
    others += [path for path in columns if path not in fitting]
    notes = []
    if others:
        notes.append(f"Keys that are no scores of every epoch were not read: {listed(others)}.")

    def entries() -> Iterator[Entry]:
        for row in range(length):
            yield Entry(row, {path: curves[path][row] for path in fitting})

    tool = "a JSON file of columns"
    if all("/" not in path for path in scores) and "loss" in curves:
        tool = "Keras's History"
    return Table(name, tool, fitting, entries, "epoch {}", notes)


def _curves_in(content: Object, front: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Each list of numbers by its path; None for what is none."""
    for key, value in content.items():
        path = f"{front}{key}"
        values = value
        if isinstance(value, Mapping) and value and all(each.isdecimal() for each in value):
            # pandas: one number under the number of each row
            values = [value[row] for row in sorted(value, key=int)]
        if _is_curve(values):
            yield path, values
        elif isinstance(value, Mapping) and depth < DEEPEST:
            yield from _curves_in(value, f"{path}/", depth + 1)
        else:
            yield path, None


def _is_curve(values: object) -> bool:
    """Whether this is a list of numbers, None where nothing was logged."""
    if not isinstance(values, list) or not any(map(_is_cell, values)):
        return False
    return all(value is None or _is_cell(value) for value in values)


def _names_split(head: str) -> bool:
    told = read_name(f"{head}/loss")
    return bool(told.split) and told.score == "loss"


def _is_cell(value: object) -> bool:
    """Whether this is a number, or a word for NaN or infinity."""
    if not isinstance(value, str | int | float):
        return False
    try:
        return number_of(value) is not None
    except ValueError:
        return False
