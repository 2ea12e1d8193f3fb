"""One record to one line of bytes and back: strict JSON, a length and a checksum at its end.

The line is pure ASCII, so no name can break it. NaN and the infinities, which JSON lacks, stand as
tagged strings. The checksum covers the line without its `crc` key. The length tells where the
record begins, even if the newline in front of it was lost.
"""

import json
import math
import re
import zlib
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any, NamedTuple, NoReturn

from ptmetrics.errors import DtypeError

SCHEMA = 1
MAX_DEPTH = 64
SMALL_INT = 2**62
COLUMN = 32  # numbers: a list of as many or more is looked at as a whole,
LARGEST_SUM = 2.0**1000  # and none of them is as large
MAX_INT_BITS = 4096  # Python itself refuses to parse an int of more than 4300 digits

Path = tuple[str | int, ...]
"""Keys and places that lead to a value from the record."""
_TAGS = {"nan": "$nan", "inf": "$inf", "-inf": "$-inf"}
_FLOATS = {"$nan": math.nan, "$inf": math.inf, "$-inf": -math.inf}
_UNTAGGED = frozenset({float, int, bool, type(None)})
_CONSTANTS = {b"nan": b"NaN", b"inf": b"Infinity", b"-inf": b"-Infinity"}
_BEFORE = (b':"', b',"', b'["')
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NO_BRACES = bytes(set(range(256)) - set(b"{}"))
LATE = ("scores", "per_class")
"""What most of an epoch's line tells, and few look at all of: it may be left for later."""
SCORES_KEY = b',"scores":{'
"""What stands in a line that has such parts."""
_LATE = (SCORES_KEY, b'},"per_class":{', b'},"confusion":')
_NULLS = b',"scores":null,"per_class":null,"confusion":'
_CRC_KEY = b',"crc":"'
_TRAILER = re.compile(rb',"crc":"([0-9a-f]{1,8})-([0-9a-f]{8})"\}')


class Record(NamedTuple):
    """One line of a journal.

    `seq` counts the lines of the file over all attempts; `wall` is unix seconds.
    """

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
_ENVELOPE_TYPES = frozenset(product(*_ENVELOPE.values()))


class LineError(Exception):
    """A line is not a whole record; the message says why."""


class NewerSchemaError(Exception):
    """A whole record of a later schema; the argument is its version."""


def encode(record: Record) -> bytes:
    """Write a record as one line of ASCII that ends in a newline.

    Tuples become lists. NaN and the infinities become "$nan", "$inf", "$-inf"; a string that
    starts with "$" gets one more.

    Raises:
        DtypeError: If a key is not a string, or a value is neither None, bool, int, float, str,
            list, tuple nor mapping, or they are nested more than 64 deep.
    """
    envelope = _tagged({"v": SCHEMA, **record._asdict()})
    body = json.dumps(envelope, allow_nan=False, separators=(",", ":")).encode("ascii")
    return b'%b,"crc":"%x-%08x"}\n' % (body[:-1], len(body), zlib.crc32(body))


def decode(line: bytes) -> Record:
    """Read back one line, given without its newline.

    Raises:
        LineError: If the line is torn, altered, or not a record.
        NewerSchemaError: If it is a whole record of a later schema.
    """
    return record_in(body_of(line))


def body_of(line: bytes) -> bytes:
    """What a line tells, without the checksum that fits it.

    Raises:
        LineError: If the line is torn or altered.
    """
    start, length, crc = _trailer(line)
    body = line[:start] + b"}"
    if len(body) != length:
        raise LineError(f"torn: {len(body)} bytes of a record of {length}")
    if zlib.crc32(body) != crc:
        raise LineError("altered: its checksum does not fit")
    return body


def record_in(body: bytes) -> Record:
    """The record in what a line tells.

    Raises:
        LineError: If it is no record.
        NewerSchemaError: If it is one of a later schema.
    """
    envelope = _envelope_in(body)
    version = envelope.get("v")
    if type(version) is not int or version < 1:
        raise LineError(f"no record: its schema version is {version!r}")
    if version > SCHEMA:
        raise NewerSchemaError(version)
    fields = list(map(envelope.get, _ENVELOPE))
    if tuple(map(type, fields)) not in _ENVELOPE_TYPES:  # a line of a million takes no loop
        for name, allowed in _ENVELOPE.items():
            got = type(envelope.get(name))
            if got not in allowed:
                raise LineError(f"no record: its {name!r} is {got.__name__}")
    return Record._make(fields)


def without_late(body: bytes) -> tuple[bytes, dict[str, bytes]] | None:
    """What a line tells, with null in the place of `LATE`, and the text of each of its scores.

    None where it is not plain which bytes that is. A quote inside of a string has a backslash in
    front, so that the words found here are keys.
    """
    start = body.find(_LATE[0])
    middle = body.find(_LATE[1], start)
    end = body.find(_LATE[2], middle)
    if min(start, middle, end) < 0 or not body.isascii():
        return None
    braces = body[middle + len(_LATE[1]) : end].translate(None, _NO_BRACES)
    for _ in range(3):
        braces = braces.replace(b"{}", b"")
    scores = body[start + len(_LATE[0]) : middle]
    parts = [part.partition(b'":{') for part in (b"}," + scores[:-1]).split(b'},"')[1:]]
    named = {name.decode(): part for name, _, part in parts}
    one_each = scores.count(b"{") == scores.count(b"}") == len(parts)
    if braces or not one_each or b"\\" in scores or '"' in "".join(named):
        return None
    return b"%b%b%b" % (body[:start], _NULLS, body[end + len(_LATE[2]) :]), named


def scores_in(text: bytes) -> dict[str, Any]:
    """The scores that such a part of a line tells of.

    Raises:
        LineError: If it is no JSON.
    """
    scores = _parsed(text, _STRICT)
    if b"$" in text:
        _untag(scores)
    return scores


def record_start(line: bytes) -> int:
    """Find where the record at the end of a line begins, by its length; 0 for a healthy line.

    Raises:
        LineError: If the line does not end as a record does.
    """
    start, length, _ = _trailer(line)
    return start + 1 - length


def _trailer(line: bytes) -> tuple[int, int, int]:
    """Where the trailer begins, and the length and the checksum that it tells."""
    start = line.rfind(_CRC_KEY)
    match = None
    if start >= 0:
        match = _TRAILER.fullmatch(line, start)
    if match is None:
        raise LineError("torn or foreign: no checksum at its end")
    return start, int(match[1], 16), int(match[2], 16)


def _plain(body: bytes) -> bytes | None:
    """A line with tags, with Python's own constants for them; None where it must be walked through."""
    if b"NaN" in body or b"Infinity" in body:
        return None
    first, *others = body.split(b"$")
    parts = [first]
    for other in others:
        tag, _, after = other.partition(b'"')
        # Before a value stands one of these; inside of a string its quote would have a backslash.
        # A key of that name is followed by a colon.
        if parts[-1][-2:] not in _BEFORE or tag not in _CONSTANTS or after.startswith(b":"):
            return None
        parts[-1] = parts[-1][:-1]
        parts.append(_CONSTANTS[tag] + after)
    return b"".join(parts)


def _may_be_deep(body: bytes) -> bool:
    """Whether brackets nest too deep; those in names count too, and only ask for a closer look."""
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return False
    brackets = body.translate(None, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return True


def _envelope_in(body: bytes) -> dict[str, Any]:
    plain: bytes | None = body
    decoder = _STRICT
    if b"$" in body:
        plain = _plain(body)
        if plain is not None:
            decoder = _WITH_FLOATS
    envelope = _parsed(plain or body, decoder)
    if envelope.get("v") == SCHEMA and (plain is None or _may_be_deep(plain)):
        _untag(envelope)
    return envelope


def _parsed(body: bytes, decoder: json.JSONDecoder) -> dict[str, Any]:
    try:
        text = body.decode("ascii")
        value, end = decoder.raw_decode(text)
        if end < len(text):
            raise ValueError("more than one value")
    except RecursionError:
        raise LineError("nested too deep") from None
    except ValueError as error:
        raise LineError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise LineError(f"no record: a JSON {type(value).__name__}")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"the constant {name}")


_STRICT = json.JSONDecoder(parse_constant=_refuse_constant)
_WITH_FLOATS = json.JSONDecoder()


def _tagged(record: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a record into what strict JSON can hold.

    One loop over all containers: a record holds a thousand numbers, and a call for each would cost
    more than writing the line.
    """
    top: dict[str, Any] = {}
    waiting: list[tuple[Any, Any, Path]] = [(record, top, ())]
    while waiting:
        source, copy, path = waiting.pop()
        if len(path) >= MAX_DEPTH:
            cure = "Write less of it, or break the cycle."
            raise _refused(path, f"at most {MAX_DEPTH} levels", "a deeper one", cure)
        keyed = isinstance(copy, dict)
        for key, item in source.items() if keyed else enumerate(source):
            kind = type(item)
            as_it_is = (
                item is None
                or kind is bool
                or (kind is float and math.isfinite(item))
                or (kind is int and -SMALL_INT < item < SMALL_INT)
                or (kind is str and item[:1] != "$")
                or (
                    kind is list
                    and len(item) >= COLUMN
                    and set(map(type, item)) in ({float}, {int})
                    and sum(map(abs, item)) < LARGEST_SUM
                )
            )
            if as_it_is:
                value = item
            elif isinstance(item, Mapping):
                value = {}
                waiting.append((item, value, (*path, key)))
            elif kind is list and len(item) >= COLUMN and set(map(type, item)) == {float}:
                value = [each if math.isfinite(each) else _TAGS[repr(each)] for each in item]
            elif isinstance(item, list | tuple):
                value = []
                waiting.append((item, value, (*path, key)))
            else:
                value = _tagged_leaf(item, (*path, key))
            if not keyed:
                copy.append(value)
            elif isinstance(key, str):
                copy[key] = value
            else:
                fact = f"{key!r} of type {type(key).__name__}"
                raise _refused(path, "keys of type str", fact, "Use str(key).")
    return top


def _tagged_leaf(item: object, path: Path) -> Any:
    if isinstance(item, str):
        return f"${item}" if item.startswith("$") else str(item)
    if isinstance(item, float):
        return _TAGS.get(repr(float(item)), float(item))
    if isinstance(item, int) and item.bit_length() <= MAX_INT_BITS:
        return item
    rule = f"None, bool, int of up to {MAX_INT_BITS} bits, float, str, list, tuple or mapping"
    cure = "Convert it first, with float(x), x.tolist() or str(x)."
    raise _refused(path, rule, type(item).__name__, cure)


def _refused(path: Path, rule: str, fact: str, cure: str) -> DtypeError:
    return DtypeError(".".join(map(str, path[:8])), rule, fact, cure)


def _untag(value: Any, depth: int = 0) -> None:
    """Put floats where their tags stand, in place; most of a line is numbers, which stay."""
    if depth > MAX_DEPTH:
        raise LineError("nested too deep")
    if type(value) is list and _UNTAGGED.issuperset(map(type, value)):
        return
    pairs: Iterable[tuple[Any, Any]] = enumerate(value)
    if type(value) is dict:
        pairs = value.items()
    for key, item in pairs:
        kind = type(item)
        if kind is float:  # the most of them
            continue
        if kind is dict or kind is list:
            _untag(item, depth + 1)
        elif kind is str and item[:1] == "$":
            value[key] = _untagged(item)


def _untagged(text: str) -> str | float:
    """What a text that begins with a tag's sign stands for."""
    if text.startswith("$$"):
        return text[1:]
    if text not in _FLOATS:
        raise LineError(f"no record: the unknown tag {text[:20]!r}")
    return _FLOATS[text]
