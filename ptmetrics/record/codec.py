"""One record to one line of bytes and back: strict JSON, tagged floats, a length and a checksum at the end.

The line is pure ASCII, so no name can break it. The checksum covers the line without its `crc` key; the
length tells where the record begins even if the newline in front of it was lost.
"""

import json
import math
import re
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from ptmetrics.errors import DtypeError

SCHEMA = 1
MAX_DEPTH = 64
MAX_INT_BITS = 4096  # Python itself refuses to parse an int of more than 4300 digits

_FLOATS = {"$nan": math.nan, "$inf": math.inf, "$-inf": -math.inf}
_CONSTANTS = ((b'"$nan"', b"NaN"), (b'"$inf"', b"Infinity"), (b'"$-inf"', b"-Infinity"))
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_CRC_KEY = b',"crc":"'
_TRAILER = re.compile(rb',"crc":"([0-9a-f]{1,8})-([0-9a-f]{8})"\}')


class Record(NamedTuple):
    """One line of a journal. `seq` counts the lines of the file over all attempts; `wall` is unix seconds."""

    seq: int
    run: str
    attempt: int
    kind: str
    mono_ns: int
    wall: float
    data: dict[str, Any]


_ENVELOPE: dict[str, set[type]] = {
    "seq": {int},
    "run": {str},
    "attempt": {int},
    "kind": {str},
    "mono_ns": {int},
    "wall": {int, float},
    "data": {dict},
}


class LineError(Exception):
    """A line is not a whole record; the message says why."""


class NewerSchemaError(Exception):
    """A whole record of a later schema; the argument is its version."""


def encode(record: Record) -> bytes:
    """Write a record as one line of ASCII that ends in a newline.

    Tuples become lists. NaN and the infinities become "$nan", "$inf", "$-inf"; a string that starts with "$"
    gets one more.

    Raises:
        DtypeError: If a key is not a string, or a value is neither None, bool, int, float, str, list, tuple
            nor mapping, or they are nested more than 64 deep.
    """
    envelope = _tagged({"v": SCHEMA, **record._asdict()}, ())
    body = json.dumps(envelope, allow_nan=False, separators=(",", ":")).encode("ascii")
    return b'%b,"crc":"%x-%08x"}\n' % (body[:-1], len(body), zlib.crc32(body))


def decode(line: bytes) -> Record:
    """Read back one line, given without its newline.

    Raises:
        LineError: If the line is torn, altered, or not a record.
        NewerSchemaError: If it is a whole record of a later schema.
    """
    body = _verified(line)
    plain = _plain(body)
    envelope = _parsed(body, _STRICT) if plain is None else _parsed(plain, _WITH_FLOATS)
    version = envelope.get("v")
    if type(version) is not int or version < 1:
        raise LineError(f"no record: its schema version is {version!r}")
    if version > SCHEMA:
        raise NewerSchemaError(version)
    if plain is None or _may_be_deep(plain):
        _untag(envelope)
    return _record(envelope)


def _plain(body: bytes) -> bytes | None:
    """The line with Python's own constants for its tags, so that it need not be walked through; None if it must be."""
    if b"NaN" in body or b"Infinity" in body:
        return None
    if b"$" in body:
        for tag, constant in _CONSTANTS:
            if tag + b":" in body:
                return None  # a key of that name
            # Before a value stands one of these; inside of a string its quotes would have backslashes.
            for before in (b":", b",", b"["):
                body = body.replace(before + tag, before + constant)
    return None if b"$" in body else body


def _may_be_deep(body: bytes) -> bool:
    """Whether brackets nest too deep, those in names included: they ask for a closer look, or hide a level or two."""
    brackets = body.translate(None, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return True


def record_start(line: bytes) -> int:
    """Find where the record at the end of a line begins, by the length it carries; 0 for a healthy line.

    Raises:
        LineError: If the line does not end as a record does.
    """
    at, length, _ = _trailer(line)
    return at + 1 - length


def _trailer(line: bytes) -> tuple[int, int, int]:
    at = line.rfind(_CRC_KEY)
    match = _TRAILER.fullmatch(line, at) if at >= 0 else None
    if match is None:
        raise LineError("torn or foreign: no checksum at its end")
    return at, int(match[1], 16), int(match[2], 16)


def _verified(line: bytes) -> bytes:
    at, length, crc = _trailer(line)
    body = line[:at] + b"}"
    if len(body) != length:
        raise LineError(f"torn: {len(body)} bytes of a record of {length}")
    if zlib.crc32(body) != crc:
        raise LineError("altered: its checksum does not fit")
    return body


def _parsed(body: bytes, decoder: json.JSONDecoder) -> dict[str, Any]:
    try:
        value = decoder.decode(body.decode("ascii"))
    except RecursionError:
        raise LineError("nested too deep") from None
    except ValueError as error:
        raise LineError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise LineError(f"no record: a JSON {type(value).__name__}")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"the constant {name}")


_STRICT, _WITH_FLOATS = json.JSONDecoder(parse_constant=_refuse_constant), json.JSONDecoder()


def _record(envelope: dict[str, Any]) -> Record:
    for name, allowed in _ENVELOPE.items():
        got = type(envelope.get(name))
        if got not in allowed:
            raise LineError(f"no record: its {name!r} is {got.__name__}")
    return Record._make(envelope[name] for name in _ENVELOPE)


def _tagged(value: Any, path: tuple[str | int, ...]) -> Any:
    """Copy a value into what strict JSON can hold; `path` leads to it from the record, for the message."""
    if len(path) > MAX_DEPTH:
        raise _refused(
            path,
            f"at most {MAX_DEPTH} levels",
            "a deeper one",
            "Write less of it, or break the cycle.",
        )
    match value:
        case None | bool():
            return value
        case str():
            return f"${value}" if value.startswith("$") else value
        case float():
            return float(value) if math.isfinite(value) else _tag_of(value)
        case int() if value.bit_length() <= MAX_INT_BITS:
            return value
        case Mapping():
            return {_key(key, path): _tagged(item, (*path, key)) for key, item in value.items()}
        case list() | tuple():
            return [_tagged(item, (*path, index)) for index, item in enumerate(value)]
    rule = f"None, bool, int of up to {MAX_INT_BITS} bits, float, str, list, tuple or mapping"
    raise _refused(
        path, rule, type(value).__name__, "Convert it first, with float(x), x.tolist() or str(x)."
    )


def _tag_of(value: float) -> str:
    return "$nan" if math.isnan(value) else "$inf" if value > 0 else "$-inf"


def _key(key: Any, path: tuple[str | int, ...]) -> str:
    if isinstance(key, str):
        return key
    raise _refused(
        path, "keys of type str", f"{key!r} of type {type(key).__name__}", "Use str(key)."
    )


def _refused(path: tuple[str | int, ...], rule: str, fact: str, cure: str) -> DtypeError:
    return DtypeError(".".join(map(str, path[:8])), rule, fact, cure)


def _untag(value: Any, depth: int = 0) -> None:
    """Put floats where their tags stand, in place and without a call for each number: most of a line is numbers."""
    if depth > MAX_DEPTH:
        raise LineError("nested too deep")
    for key, item in value.items() if type(value) is dict else enumerate(value):
        kind = type(item)
        if kind is str:
            if item.startswith("$"):
                value[key] = item[1:] if item.startswith("$$") else _float_of(item)
        elif kind is dict or kind is list:
            _untag(item, depth + 1)


def _float_of(tag: str) -> float:
    if tag not in _FLOATS:
        raise LineError(f"no record: the unknown tag {tag[:20]!r}")
    return _FLOATS[tag]
