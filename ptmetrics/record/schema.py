"""What may stand in a line of the journal: types, ranges, lengths, and no contradiction in itself.

A line is checked here once, when it is read. Whoever uses a record relies on that and checks
nothing again.
"""

import re
from array import array
from collections.abc import Callable, Mapping
from functools import lru_cache
from math import inf, isclose
from operator import itemgetter, le, lt
from typing import Any

from ptmetrics.record.codec import Record
from ptmetrics.record.events import AUDIT_NOTE

LARGEST_NUMBER = 2**62
"""No whole number in a record is larger, so that sums of two fit into 64 bits."""
Z_95 = 1.959963984540054
SLACK = 1e-6  # what rounding may change; relative above 1

FieldRule = Callable[[Any], str | None]
"""Tells what is wrong with a value, beginning with the place inside of it; None when it is right."""


def defect(record: Record) -> str | None:
    """Say why a whole line cannot be true; None when it can, or its kind is not known here."""
    if not (0 <= record.seq <= LARGEST_NUMBER and 1 <= record.attempt <= LARGEST_NUMBER):
        return f"number {record.seq:.3g} of attempt {record.attempt:.3g} cannot be"
    rule = FIELD_RULES.get(record.kind)
    wrong = None
    if rule is not None:
        wrong = rule(record.data)
    if wrong is None:
        return None
    return f"{record.kind} record whose {wrong.lstrip('.')}"


def _is(value: object, rule: str) -> str:
    shown = type(value).__name__
    if isinstance(value, str | int | float):
        shown = repr(value)
    if len(shown) > 40:
        shown = f"{shown[:40]}…"
    return f" is {shown}, not {rule}"


# Single values


def a_text(value: Any) -> str | None:
    """A string."""
    if type(value) is str:
        return None
    return _is(value, "text")


def a_count(value: Any) -> str | None:
    """A whole number from 0 to 2^62."""
    if type(value) is int and 0 <= value <= LARGEST_NUMBER:
        return None
    return _is(value, "a whole number from 0 to 2^62")


def a_number(value: Any) -> str | None:
    """A number; NaN where it is undefined, infinite where it has no bound."""
    if type(value) is float or (type(value) is int and -LARGEST_NUMBER <= value <= LARGEST_NUMBER):
        return None
    return _is(value, "a number")


def an_amount(value: Any) -> str | None:
    """A finite number from 0 on."""
    if a_number(value) is None and 0 <= value < inf:
        return None
    return _is(value, "a finite number from 0 on")


def a_flag(value: Any) -> str | None:
    """True or False."""
    if type(value) is bool:
        return None
    return _is(value, "true or false")


def a_scalar(value: Any) -> str | None:
    """None, text, or a single number: something to compare for equality."""
    if value is None or isinstance(value, str | int | float):
        return None
    return _is(value, "a single value")


def a_mapping(value: Any) -> str | None:
    """A mapping with anything in it: the user's own."""
    if type(value) is dict:
        return None
    return _is(value, "a mapping")


# Values that hold others


def none_or(rule: FieldRule) -> FieldRule:
    """None, or what `rule` asks for."""

    def check(value: Any) -> str | None:
        if value is None:
            return None
        return rule(value)

    return check


def list_of(rule: FieldRule) -> FieldRule:
    """A list of what `rule` asks for."""

    def check(value: Any) -> str | None:
        if type(value) is not list:
            return _is(value, "a list")
        for index, item in enumerate(value):
            if wrong := rule(item):
                return f"[{index}]{wrong}"
        return None

    return check


def mapping_of(rule: FieldRule) -> FieldRule:
    """A mapping from any names to what `rule` asks for."""

    def check(value: Any) -> str | None:
        if type(value) is not dict:
            return _is(value, "a mapping")
        for key, item in value.items():
            if wrong := rule(item):
                return f"[{_named(key)}]{wrong}"
        return None

    return check


def _named(key: str) -> str:
    return repr(key[:60])


def fields_of(
    required: Mapping[str, FieldRule], optional: Mapping[str, FieldRule] | None = None
) -> FieldRule:
    """A mapping with these fields. Others may stand beside them: a later version may add some."""
    optional = optional or {}

    def check(value: Any) -> str | None:
        if type(value) is not dict:
            return _is(value, "a mapping")
        for key, rule in required.items():
            if key not in value:
                return f".{key} is missing"
            if wrong := rule(value[key]):
                return f".{key}{wrong}"
        for key, rule in optional.items():
            if key in value and (wrong := rule(value[key])):
                return f".{key}{wrong}"
        return None

    return check


# Scores

_SHARES = (
    "accuracy balanced_accuracy exact_match precision recall specificity npv f1 fbeta jaccard auroc "
    "average_precision hamming_loss ece rms_ce mce rms_calibration_error mean_iou iou dice "
    "selection_rate"
)
_SIGNED = "mcc kappa pearson spearman kendall concordance over_confidence"
_AMOUNTS = (
    "mse rmse mae max_error median_absolute_error absolute_error support nll msle rmsle mape wmape "
    "nrmse tp fp tn fn"
)
_RANGES = {
    **dict.fromkeys(_SHARES.split(), (0.0, 1.0)),
    **dict.fromkeys(_SIGNED.split(), (-1.0, 1.0)),
    **dict.fromkeys(("r2", "explained_variance"), (-inf, 1.0)),
    **dict.fromkeys(_AMOUNTS.split(), (0.0, inf)),
    **dict.fromkeys(("brier", "smape"), (0.0, 2.0)),
    "perplexity": (1.0, inf),
    "temperature": (0.25, 4.0),
    "balanced_accuracy/adjusted": (-1.0, 1.0),
}
_MEANS_OVER = ("macro", "micro", "weighted", "samples", "ovo", "variance_weighted")
_VARIANTS = {*_MEANS_OVER, "adjusted", "linear", "quadratic", "l2", "std", "p50", "p90", "p95"}
_VARIANTS |= {"image", "generalized", "classwise", "range", "c"}
"""What may stand behind the name of a score and leaves its range as it is."""
_ANYTHING = (-inf, inf)


@lru_cache(4096)  # forged records may hold any number of names
def score_range(name: str) -> tuple[float, float]:
    """Least and largest value of a score: "val/f1/macro" is a share from 0 to 1.

    The last word decides, or the one before a variant; a name that is not known may be any number.
    """
    *front, last = name.split("/")
    if front and f"{front[-1]}/{last}" in _RANGES:
        return _RANGES[f"{front[-1]}/{last}"]
    while front and (last in _VARIANTS or last.isdigit()):
        last = front.pop()
    return _RANGES.get(re.sub(r"^top\d+_", "", last), _ANYTHING)


def _apart(value: float, told: float) -> bool:
    """Whether two numbers differ by more than rounding; NaN differs from every number."""
    return not isclose(value, told, rel_tol=SLACK, abs_tol=SLACK)


def _above(value: float, bound: float) -> bool:
    return value > bound and _apart(value, bound)


def _outside(name: str, value: float, low: float, high: float) -> str | None:
    """Why a value cannot stand in its interval, or in the range of its score."""
    least, most = score_range(name)
    if low <= value <= high and least <= value <= most:
        return None
    if _above(low, high):
        return f" has an interval from {low:.6g} down to {high:.6g}"
    if _above(low, value) or _above(value, high):
        return f" is {value:.6g}, outside its interval from {low:.6g} to {high:.6g}"
    if _above(least, value) or _above(value, most):
        return f" is {value:.6g}, but such a score goes from {least:g} to {most:g}"
    return None


_score_fields = fields_of(
    {"value": a_number, "low": a_number, "high": a_number, "n": a_count},
    {
        "method": a_text,
        "reason": none_or(a_text),
        "error_bound": a_number,
        "higher_is_better": a_flag,
    },
)


_score_parts = itemgetter(
    "value", "low", "high", "error_bound", "n", "method", "reason", "higher_is_better"
)
_USUAL: tuple[set[type], ...] = ({float}, {int}, {str}, {str, type(None)}, {bool})
"""Types of numbers, n, method, reason and direction."""


@lru_cache(256)
def _ranges_of(names: tuple[str, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Least and largest value of each of these scores; the epochs of a run have the same names."""
    least, most = zip(*map(score_range, names), strict=True)
    return least, most


def _are_usual(scores: Any) -> bool:
    """Whether scores are right beyond doubt, told by a few calls for all of them."""
    try:
        columns = tuple(zip(*map(_score_parts, scores.values()), strict=True))
        values, lows, highs, bounds, counts, *words = columns
        least, most = _ranges_of(tuple(scores))
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    numbers = {*map(type, values), *map(type, lows), *map(type, highs), *map(type, bounds)}
    kinds = (numbers, {*map(type, counts)}, *({*map(type, column)} for column in words))
    if not all(map(le, kinds, _USUAL)) or min(counts) < 0 or max(counts) > LARGEST_NUMBER:
        return False
    pairs = ((values, lows), (highs, values), (values, least), (most, values), (highs, lows))
    return not any(any(map(lt, *pair)) for pair in pairs)


def defect_of_recorded(scores: Any) -> str | None:
    """What is wrong with the scores of an epoch, beginning with a name; None when they are right."""
    if isinstance(scores, Mapping) and type(scores) is not dict:
        return None  # those that are left for later
    if type(scores) is dict and len(scores) > 1 and _are_usual(scores):
        return None
    if wrong := mapping_of(_score_fields)(scores):
        return wrong
    for name, score in scores.items():
        if wrong := _outside(name, score["value"], score["low"], score["high"]):
            return f"[{_named(name)}].value{wrong}"
    return None


# Columns: one number for each class or slice

Column = Mapping[str, Any]


def a_number_list(value: Any) -> str | None:
    """A list of numbers."""
    if type(value) is list:
        try:
            array("d", value)  # takes nothing else, and is quicker than one by one
        except (TypeError, OverflowError):
            return list_of(a_number)(value)
        return None
    return _is(value, "a list")


def a_count_list(value: Any) -> str | None:
    """A list of whole numbers from 0, in all at most 2^62."""
    if type(value) is list:
        try:
            array("Q", value)
        except (TypeError, OverflowError):
            return list_of(a_count)(value)
        if sum(value) <= LARGEST_NUMBER:
            return None
        return " adds up to more than 2^62"
    return _is(value, "a list")


_column_fields = fields_of(
    {"value": a_number_list, "low": a_number_list, "high": a_number_list, "n": a_count_list},
    {"method": a_text},
)


def _columns(columns: Any, length: int | None) -> str | None:
    """Columns by the name of their score, all of one length; that of the first if none is known."""
    if wrong := mapping_of(_column_fields)(columns):
        return wrong
    for name, column in columns.items():
        if length is None:
            length = len(column["n"])
        for key in ("value", "low", "high", "n"):
            if len(column[key]) != length:
                return f"[{_named(name)}].{key} has {len(column[key])} entries, not {length}"
        if wrong := _outside_in(name, column):
            return f"[{_named(name)}].value{wrong}"
    return None


def _outside_in(name: str, column: Column) -> str | None:
    values, lows, highs = column["value"], column["low"], column["high"]
    least, most = score_range(name)
    inside = not (any(map(lt, values, lows)) or any(map(lt, highs, values)))
    if inside and (least, most) != _ANYTHING:
        inside = not [value for value in values if value < least or value > most]
    if inside:
        return None
    for index, (value, low, high) in enumerate(zip(values, lows, highs, strict=True)):
        if wrong := _outside(name, value, low, high):
            return f"[{index}]{wrong}"
    return None


_slices_fields = fields_of({"by": a_text, "names": list_of(a_text), "filled": a_count})


def _slices(slices: Any) -> str | None:
    if wrong := _slices_fields(slices):
        return wrong
    if wrong := _columns(slices.get("scores"), len(slices["names"])):
        return f".scores{wrong}"
    if slices["by"] not in slices["scores"]:
        return f".by is {_named(slices['by'])}, which is none of their scores"
    return None


# A confusion matrix


def _matrix(matrix: Any) -> str | None:
    if wrong := list_of(a_count_list)(matrix):
        return wrong
    for index, row in enumerate(matrix):
        if len(row) != len(matrix):
            return f"[{index}] has {len(row)} entries in {len(matrix)} rows"
    if sum(map(sum, matrix)) > LARGEST_NUMBER:
        return " adds up to more than 2^62"
    return None


def _against_matrix(epoch: Mapping[str, Any], split: str) -> str | None:
    """What the scores of a split tell otherwise than its matrix, whose rows are the actual class.

    Where samples have weights, scores are no shares of these counts. Then the number of samples
    alone is held against the matrix, and accuracy against the recall of the classes.
    """
    matrix = epoch["confusion"][split]
    hits = [row[index] for index, row in enumerate(matrix)]
    actual = [sum(row) for row in matrix]
    predicted = [sum(column) for column in zip(*matrix, strict=True)]
    columns = epoch.get("per_class", {}).get(split, {})
    weights = columns.get("support", {}).get("value", actual)
    accuracy = epoch["scores"].get(f"{split}/accuracy")
    weighted = weights != actual or (accuracy is not None and _is_of_fewer(accuracy))
    for name, totals in (("support", actual), ("recall", actual), ("precision", predicted)):
        if name in columns:
            place = f".per_class[{_named(split)}].{name}"
            if columns[name]["n"] != totals:
                return f"{place}.n is not what the confusion matrix holds"
            shares = not weighted and name != "support"
            if shares and (wrong := _against_shares(columns[name]["value"], hits, totals)):
                return f"{place}.value{wrong}"
    if accuracy is None:
        return None
    place = f".scores[{_named(split + '/accuracy')}]"
    if accuracy["n"] != sum(actual):
        return f"{place}.n is {accuracy['n']}, but {sum(actual)} by the confusion matrix"
    if not weighted:
        wrong = _against_shares([accuracy["value"]], [sum(hits)], [sum(actual)])
    else:
        wrong = _against_recall(accuracy["value"], weights, columns)
    if wrong:
        return f"{place}.value{wrong}"
    return None


def _is_of_fewer(share: Mapping[str, Any]) -> bool:
    """Whether Wilson's interval of a share is as wide as fewer than its n samples have it.

    So it is where they have weights. A bound b of n samples has n (value − b)² = z² b (1 − b).
    """
    value = share["value"]
    bound = share["low"]
    if not value > bound:
        bound = share["high"]
    of_n: float = share["n"] * (value - bound) ** 2
    told: float = Z_95**2 * bound * (1 - bound)
    return told < (1 - SLACK) * of_n


def _against_shares(values: list[float], hits: list[int], totals: list[int]) -> str | None:
    for index, (told, hit, total) in enumerate(zip(values, hits, totals, strict=True)):
        if total and _apart(told, hit / total):
            return f"[{index}] is {told:.6g}, but {hit} of {total} by the confusion matrix"
    return None


def _against_recall(told: float, weights: list[float], columns: Mapping[str, Any]) -> str | None:
    if "recall" not in columns or not sum(weights) > 0:
        return None
    recalls = columns["recall"]["value"]
    hits = [weight * recall for weight, recall in zip(weights, recalls, strict=True) if weight]
    right = sum(hits) / sum(weights)
    if _apart(told, right):
        return f" is {told:.6g}, but {right:.6g} by the recall of the classes"
    return None


# The data of each kind of line


_step_fields = fields_of({}, {"step_ms": none_or(mapping_of(an_amount))})


def _time(time: Any) -> str | None:
    """Seconds, and quantiles of a step; None where it was not measured."""
    if wrong := _step_fields(time):
        return wrong
    return mapping_of(none_or(an_amount))({**time, "step_ms": None})


_seen = fields_of(
    {},
    {
        **dict.fromkeys(
            (
                "answers",
                "answered_rows",
                "unpaired_rows",
                "counted_rows",
                "criterion_calls",
                "losses",
                "passes",
                "optimizer_steps",
                "behind_last_step",
                "unlearned_rows",
                "dropped_rows",
                "ranks",
                "rows_of_ranks",
                "expected_rows",
                "padding_left_out",
                "padding_of_rank",
                "padding_rows",
                "copies",
            ),
            a_count,
        ),
        "pass_rows": list_of(a_count),
        "loader_rows": none_or(a_count),
        "batch_rows": a_number,
        "like_probabilities": a_flag,
        "batch_norm": a_flag,
        "criterion": none_or(
            fields_of(
                {},
                {
                    "name": a_text,
                    "reduction": none_or(a_text),
                    "weighted": a_flag,
                    "label_smoothing": a_number,
                },
            )
        ),
        "inputs": none_or(a_text),
        "message": a_text,
    },
)

_file = fields_of({}, {"rows": a_count, "crc": a_text, "reason": a_text})
_samples = fields_of(
    {}, {"rows": a_count, "crc": a_text, "reason": a_text, "shares": list_of(_file)}
)
_epoch_fields = fields_of(
    {"epoch": a_count, "scores": defect_of_recorded},
    {
        "per_class": mapping_of(a_mapping),
        "per_slice": mapping_of(_slices),
        "confusion": mapping_of(_matrix),
        "class_names": list_of(a_text),
        "time": _time,
        "counts": mapping_of(a_count),
        "numbers": mapping_of(a_number),
        "faults": mapping_of(
            mapping_of(fields_of({"count": a_count}, {"first_step": a_count, "message": a_text}))
        ),
        "notes": mapping_of(list_of(a_text)),
        "sample_axes": mapping_of(a_count),
        "samples": _samples,
        "files": mapping_of(_file),
        "seen": mapping_of(_seen),
        "unfinished": a_flag,
    },
)
_evaluation_fields = fields_of({"split": a_text, "step": a_count, "why": a_text})


def _evaluation(evaluation: Any) -> str | None:
    if wrong := _evaluation_fields(evaluation):
        return wrong
    return _epoch(evaluation)


def _epoch(epoch: Any) -> str | None:
    if wrong := _epoch_fields(epoch):
        return wrong
    classes = len(epoch.get("class_names", ()))
    for split, columns in epoch.get("per_class", {}).items():
        length = None
        if classes and "/" not in split:  # a further output of the model has classes of its own
            length = classes
        if wrong := _columns(columns, length):
            return f".per_class[{_named(split)}]{wrong}"
    for split, matrix in epoch.get("confusion", {}).items():
        if len(matrix) != classes and "/" not in split:
            return f".confusion[{_named(split)}] has {len(matrix)} rows for {classes} classes"
        if wrong := _against_matrix(epoch, split):
            return wrong
    return None


_leakage_part = fields_of(
    {},
    {
        "why": a_text,
        "rows": a_count,
        "of": a_count,
        "pairs": list_of(list_of(a_count)),
        "named": list_of(a_text),
    },
)
_leakage = fields_of(
    {
        "split": a_text,
        "parts": mapping_of(_leakage_part),
        "leaked": list_of(a_count),
        "targets": none_or(a_text),
    },
    {
        "train_rows": a_count,
        "val_rows": a_count,
        "places": a_text,
        "refused": mapping_of(a_count),
        "cannot_find": a_text,
    },
)
_note_fields = fields_of({"code": a_text, "message": a_text})


def _note_data(note: Any) -> str | None:
    if wrong := _note_fields(note):
        return wrong
    if note["code"] != AUDIT_NOTE:
        return None
    if wrong := _leakage(note):
        return wrong
    for name, part in note["parts"].items():
        rows = part.get("rows", 0)
        if "why" not in part and not {"of", "pairs", "named"} <= set(part):
            return f".parts[{_named(name)}] tells neither what was found nor why nothing was"
        if rows > part.get("of", 0):
            return f".parts[{_named(name)}].rows is {rows} of {part.get('of', 0)}"
    return None


_BY_SPLIT = ("per_class", "confusion", "per_slice", "faults", "notes")
_scores_fields = fields_of(
    {}, {"n": none_or(a_count), "task": none_or(a_text), "sample_axes": none_or(a_count)}
)


def defect_of_scores(told: Mapping[str, Any]) -> str | None:
    """Why scores of one evaluation cannot be true, by the rules of an epoch; None where they can.

    Args:
        told: The mapping of `Scores.to_dict()`, all of it dictionaries, lists and single values.
    """
    if wrong := _scores_fields(told):
        return wrong
    scores = told["scores"]
    if not any(name.startswith(("val/", "train/")) for name in scores):
        scores = {f"val/{name}": score for name, score in scores.items()}
    epoch = {"epoch": 0, "scores": scores}
    epoch |= {key: {"val": told[key]} for key in _BY_SPLIT if told.get(key)}
    if told.get("class_names"):
        epoch["class_names"] = told["class_names"]
    elif isinstance(told.get("confusion"), list):
        epoch["class_names"] = ["" for _ in told["confusion"]]
    return _epoch(epoch)


FIELD_RULES: Mapping[str, FieldRule] = {
    "header": fields_of(
        {},
        {
            "ptmetrics": a_text,
            "created": a_text,
            "name": a_text,
            "config": a_mapping,
            "environment": a_mapping,
            "metrics": fields_of(
                {}, {"task": a_text, "further": none_or(list_of(fields_of({}, {"output": a_text})))}
            ),
            "arm": a_scalar,
            "val_fingerprint": a_scalar,
            "step_flops": none_or(an_amount),
            "rank": a_count,
            "world_size": a_count,
            "profile": fields_of({"name": a_text}, {"thresholds": mapping_of(a_scalar)}),
            "logged": fields_of({"by": a_text, "notes": list_of(a_text)}),
        },
    ),
    "epoch": _epoch,
    "evaluation": _evaluation,
    "fault": fields_of(
        {"where": a_text, "message": a_text, "count": a_count},
        {"epoch": none_or(a_count), "step": none_or(a_count), "split": none_or(a_text)},
    ),
    "note": _note_data,
    "checkpoint": fields_of(
        {"path": a_text}, {"epoch": a_count, "why": a_text, "by": a_text, "score": a_text}
    ),
    "end": fields_of(
        {"reason": a_text},
        {"epochs": none_or(a_count), "stopping": none_or(a_text), "restored": a_count},
    ),
}
