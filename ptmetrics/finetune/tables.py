"""A table of a TOML file to a frozen dataclass: keys, types, and the rules that values obey."""

import difflib
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ptmetrics.errors import ConfigError

ConfigT = TypeVar("ConfigT")
_IN_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    list: "an array",
}


@contextmanager
def within(place: str) -> Iterator[None]:
    """Put `place` before the name in any ConfigError from inside: "lr" becomes "train.lr"."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{place}{error.name}", error.expected, error.got, error.cure) from None


def read_table(kind: type[ConfigT], table: object, where: str) -> ConfigT:
    """Make a `kind`, a dataclass of plain fields, from a table.

    Args:
        kind: Its fields name the keys and their types; a field without a default is required.
        table: What TOML gave.
        where: Name of the table in messages, such as "train".

    Raises:
        ConfigError: On a wrong type, an unknown or missing key, or a value that `kind` refuses.
    """
    mapping = as_table(table, where)
    known: Any = kind
    check_known_keys(mapping, [key.name for key in fields(known)], where)
    hints = get_type_hints(kind)
    with within(f"{where}."):
        for key in fields(known):
            if key.name not in mapping and key.default is MISSING:
                cure = f"Add {key.name} = … under [{where}]."
                raise ConfigError(key.name, "a value", "none", cure)
        return kind(**{key: typed(hints[key], value, key) for key, value in mapping.items()})


def as_table(value: object, where: str) -> Mapping[str, Any]:
    """The value as a mapping.

    Raises:
        ConfigError: If it is none.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(where, "a table", _fact(value), f"Write [{where}] and its keys below.")
    return value


def check_known_keys(table: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Check the keys of a table.

    Raises:
        ConfigError: On a key that is not known, with the nearest one that is.
    """
    for key in table:
        if key not in known:
            name = f"{where}.{key}" if where else key
            rule = f"one of the keys {', '.join(sorted(known))}"
            cure = "Remove it, or correct the spelling."
            for near in difflib.get_close_matches(key, known, n=1):
                cure = f"Did you mean {near}?"
            raise ConfigError(name, rule, "an unknown key", cure)


def typed(hint: Any, value: object, name: str) -> Any:
    """The value, if it is of the type that the hint names.

    A whole number counts as a float, an array as a tuple.

    Raises:
        ConfigError: If it is not.
    """
    if get_origin(hint) is tuple:
        item_hint = get_args(hint)[0]
        items = enumerate(typed(list, value, name))
        return tuple(typed(item_hint, item, f"{name}[{index}]") for index, item in items)
    kind = hint
    for choice in get_args(hint):
        if choice is not type(None):  # of `int | None`: int
            kind = choice
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ConfigError(name, _IN_WORDS[kind], _fact(value), f"Correct the value of {name}.")
    return value


def check_at_least(low: float, name: str, value: float | None) -> None:
    """Check low <= value < infinity; None, a key left out, passes."""
    if value is not None and not low <= value < math.inf:
        _refuse_value(name, f"at least {low:g}", value)


def check_above(low: float, name: str, value: float) -> None:
    """Check low < value < infinity."""
    if not low < value < math.inf:
        _refuse_value(name, f"above {low:g}", value)


def check_share(name: str, value: float, *, zero: bool = False) -> None:
    """Check 0 < value < 1, or 0 <= value < 1 with `zero`."""
    if zero and not 0 <= value < 1:
        _refuse_value(name, "at least 0 and below 1", value)
    if not zero and not 0 < value < 1:
        _refuse_value(name, "above 0 and below 1", value)


def check_one_of(choices: Collection[str], name: str, value: str) -> None:
    """Check that the value is one of the choices."""
    if value not in choices:
        cure = f"Correct the value of {name}."
        for near in difflib.get_close_matches(value, choices, n=1):
            cure = f"Did you mean {near!r}?"
        raise ConfigError(name, f"one of {', '.join(map(repr, choices))}", repr(value), cure)


def _refuse_value(name: str, rule: str, value: object) -> None:
    raise ConfigError(name, rule, _fact(value), f"Correct the value of {name}.")


def _fact(value: object) -> str:
    if isinstance(value, str | int | float):
        return repr(value)
    return f"a {type(value).__name__}"
