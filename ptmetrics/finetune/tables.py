"""A table of a TOML file to a frozen dataclass: unknown keys, types, and the few rules that values obey."""

import difflib
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from typing import Any, ClassVar, Protocol, TypeVar, get_args, get_origin, get_type_hints

from ptmetrics.errors import ConfigError


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


D = TypeVar("D", bound=_Dataclass)
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


def read_table(kind: type[D], table: object, where: str, *, keys: Collection[str] = ()) -> D:
    """Make a `kind`, a dataclass of plain fields, from a table.

    Args:
        kind: Its fields name the keys and their types; a field without a default is required.
        table: What TOML gave.
        where: Name of the table in messages, such as "train".
        keys: The keys that may stand in the table; by default every field.

    Raises:
        ConfigError: On a wrong type, an unknown or missing key, or a value that `kind` refuses.
    """
    mapping = as_table(table, where)
    known_keys(mapping, keys or [field.name for field in fields(kind)], where)
    hints = get_type_hints(kind)
    with within(f"{where}."):
        for field in fields(kind):
            if field.name not in mapping and field.default is MISSING:
                raise ConfigError(
                    field.name, "a value", "none", f"Add {field.name} = … under [{where}]."
                )
        return kind(**{key: typed(hints[key], value, key) for key, value in mapping.items()})


def as_table(value: object, where: str) -> Mapping[str, Any]:
    """The value as a mapping.

    Raises:
        ConfigError: If it is none.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(where, "a table", _fact(value), f"Write [{where}] and its keys below.")
    return value


def known_keys(table: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Check the keys of a table.

    Raises:
        ConfigError: On a key that is not known, with the nearest one that is.
    """
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            cure = f"Did you mean {near[0]}?" if near else "Remove it, or correct the spelling."
            name = f"{where}.{key}" if where else key
            raise ConfigError(
                name, f"one of the keys {', '.join(sorted(known))}", "an unknown key", cure
            )


def typed(hint: Any, value: object, name: str) -> Any:
    """The value, if it is of the type that the hint names; a whole number counts as a float, an array as a tuple.

    Raises:
        ConfigError: If it is not.
    """
    if get_origin(hint) is tuple:
        items = typed(list, value, name)
        return tuple(
            typed(get_args(hint)[0], item, f"{name}[{index}]") for index, item in enumerate(items)
        )
    kind = next(
        kind for kind in (*get_args(hint), hint) if kind is not type(None)
    )  # of `int | None`: int
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ConfigError(name, _IN_WORDS[kind], _fact(value), f"Correct the value of {name}.")
    return value


def at_least(low: float, name: str, value: float | None) -> None:
    """Check low <= value < infinity; None, a key left out, passes."""
    if value is not None and not low <= value < math.inf:
        raise ConfigError(name, f"at least {low:g}", _fact(value), f"Correct the value of {name}.")


def above(low: float, name: str, value: float) -> None:
    """Check low < value < infinity."""
    if not low < value < math.inf:
        raise ConfigError(name, f"above {low:g}", _fact(value), f"Correct the value of {name}.")


def share(name: str, value: float, *, zero: bool = False) -> None:
    """Check 0 < value < 1, or 0 <= value < 1 with `zero`."""
    if not (0 < value < 1 or (zero and value == 0)):
        rule = f"{'at least' if zero else 'above'} 0 and below 1"
        raise ConfigError(name, rule, _fact(value), f"Correct the value of {name}.")


def one_of(choices: Collection[str], name: str, value: str) -> None:
    """Check that the value is one of the choices."""
    if value not in choices:
        near = difflib.get_close_matches(value, choices, n=1)
        cure = f"Did you mean {near[0]!r}?" if near else f"Correct the value of {name}."
        raise ConfigError(name, f"one of {', '.join(map(repr, choices))}", repr(value), cure)


def _fact(value: object) -> str:
    return repr(value) if isinstance(value, str | int | float) else f"a {type(value).__name__}"
