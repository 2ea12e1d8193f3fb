"""What the constructors of the metrics refuse, and how they read names."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ptmetrics.errors import ConfigError
from ptmetrics.metrics.score_spec import ScoreSpec, ScoreTable

INPUTS = ("logits", "probs", "labels")


def is_whole(value: object, low: int, high: int) -> bool:
    """Whether a value is a whole number from `low` to `high`, and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: object) -> bool:
    """Whether a value is a real number, and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_inputs(inputs: object) -> None:
    """Refuse an unknown kind of predictions."""
    if inputs not in INPUTS:
        cure = "Say what the model returns; it is never guessed."
        raise ConfigError("inputs", f"one of {', '.join(INPUTS)}", repr(inputs), cure)


def check_ignore_index(ignore_index: object) -> None:
    """Refuse what cannot be a target."""
    if ignore_index is not None and not is_whole(ignore_index, -(2**63), 2**63 - 1):
        cure = "Pass the target value to leave out, such as -100."
        raise ConfigError("ignore_index", "a whole number or None", repr(ignore_index), cure)


def check_beta(beta: float | None) -> None:
    """Refuse what cannot weigh recall against precision."""
    if beta is not None and not (is_number(beta) and 0 < beta < math.inf):
        cure = "Pass beta=2 to count recall twice as much as precision."
        raise ConfigError("beta", "a number above 0, or None", repr(beta), cure)


def check_threshold(threshold: object) -> None:
    """Refuse what is no probability between 0 and 1."""
    if not isinstance(threshold, int | float) or not (is_number(threshold) and 0 < threshold < 1):
        rule = "a probability between 0 and 1"
        raise ConfigError("threshold", rule, repr(threshold), "Pass threshold=0.5.")


def cut_of_threshold(threshold: float, inputs: str) -> float:
    """A threshold on the scale of the predictions."""
    if inputs == "logits":
        return math.log(threshold / (1 - threshold))
    return threshold


def check_flags(**flags: object) -> None:
    """Refuse what is neither True nor False: "no" and 0.0 would be read as one of them."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ConfigError(name, "True or False", repr(value), f"Pass {name}=True.")


def is_sequence(value: object) -> bool:
    """Whether it is a list, a tuple or the like, and no text."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def check_class_dim(class_dim: object) -> None:
    """Refuse what is neither of the two dimensions that may hold classes."""
    if class_dim is not None and not (type(class_dim) is int and class_dim in (1, -1)):
        cure = "Pass class_dim=1 for (N, C, d1, …), class_dim=-1 for (N, d1, …, C)."
        raise ConfigError("class_dim", "1, -1 or None", repr(class_dim), cure)


def check_absent(absent: float) -> None:
    """Refuse what cannot stand for an undefined score."""
    if not is_number(absent) or not (math.isnan(absent) or 0 <= absent <= 1):
        cure = "NaN leaves the class out of averages, 0 and 1 count it so."
        raise ConfigError("absent", "NaN or a number from 0 to 1", repr(absent), cure)


def names(argument: str, given: Any, number: int, of: str) -> tuple[str, ...]:
    """One name for each class, label or output; their numbers where none are given.

    Raises:
        ConfigError: If there are not as many.
    """
    if given is None:
        return tuple(map(str, range(number)))
    article = "a"
    if of[0] in "aeiou":
        article = "an"
    cure = f"Pass one name {article} {of}."
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if not is_sequence(given):
        raise ConfigError(argument, f"{number} names", repr(given), cure)
    if len(given) != number:
        raise ConfigError(argument, f"{number} names", f"{len(given)}", cure)
    for name in given:
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise ConfigError(argument, f"{number} names", f"{name!r} among them", cure)
    found = tuple(map(str, given))
    if len(set(found)) < number:
        twice = next(name for name in found if found.count(name) > 1)
        cure = f"Pass a name of its own for each {of}: results are looked up by it."
        raise ConfigError(argument, f"{number} different names", f"{twice!r} more than once", cure)
    return found


def classes_of(labels: Any, names: Sequence[str]) -> tuple[int, ...]:
    """Classes that are given as their numbers or names.

    Raises:
        ConfigError: If one is neither, or comes twice.
    """
    rule = f"different classes among {', '.join(names[:20])}, or their numbers"
    cure = "Pass the classes to average over: labels=[1, 2] leaves out class 0."
    if not is_sequence(labels) or not len(labels):
        raise ConfigError("labels", rule, repr(labels), cure)
    found: list[int] = []
    for label in labels:
        place = label
        if label in names and isinstance(label, str):
            place = names.index(label)
        if not is_whole(place, 0, len(names) - 1) or place in found:
            raise ConfigError("labels", rule, repr(label), cure)
        found.append(place)
    return tuple(found)


def own_specs(
    scores: Sequence[Any], optional: Sequence[ScoreTable] = ()
) -> tuple[tuple[ScoreSpec, ...], frozenset[str]]:
    """The scores that a user adds, and the names of those that are computed when they are asked for.

    Args:
        scores: Of either kind.
        optional: Tables of what can be asked for.

    Raises:
        ConfigError: If one is neither.
    """
    cure = 'Pass scores=[pm.ScoreSpec("mine", formula)].'
    if not is_sequence(scores):
        raise ConfigError("scores", "a list of pm.ScoreSpec objects", repr(scores), cure)
    known = {spec.name: None for table in optional for spec in table.specs}
    own = []
    asked = set()
    for score in scores:
        if isinstance(score, ScoreSpec):
            own.append(score)
        elif isinstance(score, str) and score in known:
            asked.add(score)
        elif isinstance(score, str) and known:
            rule = f"pm.ScoreSpec objects, or names among {', '.join(known)}"
            raise ConfigError("scores", rule, repr(score), "All other scores are always there.")
        else:
            raise ConfigError("scores", "pm.ScoreSpec objects", type(score).__name__, cure)
    return tuple(own), frozenset(asked)
