import json
import math
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_makers import sealed

from ptmetrics.errors import DtypeError
from ptmetrics.record.codec import (
    COLUMN,
    MAX_DEPTH,
    SCHEMA,
    LineError,
    NewerSchemaError,
    Record,
    decode,
    encode,
    record_start,
)

TEXT = (
    st.text()
    | st.text().map(lambda text: f"${text}")
    | st.sampled_from(["$nan", "$$inf", "\n", "\u2028", "\r\n"])
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20
)
RECORDS = st.builds(
    Record,
    seq=st.integers(0, 2**40),
    run=TEXT,
    attempt=st.integers(1, 9),
    kind=TEXT,
    mono_ns=st.integers(),
    wall=st.floats(),
    data=st.dictionaries(TEXT, VALUES, max_size=5),
)
SMALL = Record(3, "ab", 1, "note", 5, 1.5, {"crc": "1-00000000", "x": [math.nan, "$", -0.0]})
NAN = math.nan


def test_a_line_of_an_epoch_reads_back_as_it_was_written() -> None:
    numbers = [NAN, math.inf, -0.0, 0.1 + 0.2, 5e-324, 1.7976931348623157e308, 2**63 - 1, -(2**63)]
    data = {"scores": {"val/$loss": {"value": NAN, "reason": "$$"}}, "x": [numbers, "\ud800", None]}
    record = SMALL._replace(kind="epoch", data=data)
    assert repr(decode(encode(record)[:-1])) == repr(record)


def test_a_bad_line_of_an_epoch_is_refused() -> None:
    for data in (nested(MAX_DEPTH + 2), {"x": "$oops"}):
        with pytest.raises(LineError):
            decode(envelope(kind="epoch", data={"x": data}))
    for raw in (b'{"v":1,"kind":"epoch","data":{"x":NaN}}', b'{"v":1,"kind":"epoch","x":"\xff"}'):
        with pytest.raises(LineError, match=r"NaN|not JSON"):
            decode(sealed(raw))


def envelope(**changes: Any) -> bytes:
    fields = {"v": SCHEMA, **SMALL._asdict(), "data": {}} | changes
    return sealed(json.dumps(fields, separators=(",", ":")).encode())


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@given(RECORDS)
def test_a_record_reads_back_as_it_was_written(record: Record) -> None:
    raw = encode(record)
    assert repr(decode(raw[:-1])) == repr(record)  # NaN equals NaN, and -0.0 is not 0.0
    # ASCII and JSON, one newline, its length and checksum last.
    assert raw.isascii()
    assert raw.count(b"\n") == 1
    assert raw.endswith(b"\n")
    fields = json.loads(raw)
    assert list(fields) == ["v", *Record._fields, "crc"]
    body = raw[: raw.rindex(b',"crc"')] + b"}"
    assert fields["crc"] == f"{len(body):x}-{zlib.crc32(body):08x}"


def test_floats_that_json_lacks_are_tagged_and_genuine_dollars_doubled() -> None:
    data = {"n": NAN, "p": math.inf, "m": -math.inf, "s": "$nan", "t": (1, 2)}
    raw = json.loads(encode(SMALL._replace(data=data)))["data"]
    assert raw == {"n": "$nan", "p": "$inf", "m": "$-inf", "s": "$$nan", "t": [1, 2]}


@pytest.mark.parametrize(
    "data",
    [
        {"$nan": 1, "x": NAN},
        {"x": NAN, "$nan": 1},
        {"x": {"$inf": [NAN, math.inf]}},
        {"x": "a$nan", "y": -math.inf},
        {"x": ':"$nan"', "y": ["$inf", ',"$-inf"', NAN]},
        {"x": "NaN", "y": [NAN]},
        {"x": "$", "y": "Infinity"},
    ],
)
def test_names_and_words_that_look_like_a_tag_stay_what_they_are(data: dict[str, Any]) -> None:
    record = SMALL._replace(data=data)
    assert repr(decode(encode(record)[:-1])) == repr(record)


@pytest.mark.parametrize(
    "odd", [1, True, None, "$nan", NAN, math.inf, -math.inf, 1e308, -(2**62), 2**1100, [NAN], 0.5]
)
@pytest.mark.parametrize("usual", [0.25, 3, 1e308])
def test_a_long_column_is_written_as_a_short_one_is(usual: float, odd: Any) -> None:
    for size in (3, COLUMN, 3 * COLUMN):
        column = [usual] * size
        column[size // 2] = odd
        record = SMALL._replace(data={"x": column, "y": tuple(column)})
        assert repr(decode(encode(record)[:-1]).data["x"]) == repr(column)
        assert json.loads(encode(record))["data"]["x"][0] == usual


@pytest.mark.parametrize("size", [1, COLUMN])
def test_a_number_that_nobody_could_read_back_is_refused_in_any_column(size: int) -> None:
    with pytest.raises(DtypeError, match="int of up to 4096 bits"):
        encode(SMALL._replace(data={"x": [10**5000] * size}))


@pytest.mark.fault(39)
def test_every_flipped_bit_is_noticed() -> None:
    good = encode(SMALL)[:-1]
    for position in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[position] ^= 1 << bit
            with pytest.raises(LineError):
                decode(bytes(bad))


@pytest.mark.fault(39)
def test_every_truncated_line_is_noticed_from_either_end() -> None:
    good = encode(SMALL)[:-1]
    for cut in range(1, len(good)):
        with pytest.raises(LineError):
            decode(good[:cut])
        with pytest.raises(LineError):
            decode(good[cut:])


@given(st.binary(max_size=60), RECORDS)
def test_the_length_finds_a_record_behind_any_other_bytes(junk: bytes, record: Record) -> None:
    raw = junk + encode(record)[:-1]
    assert record_start(raw) == len(junk)
    assert repr(decode(raw[len(junk) :])) == repr(record)


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused_and_never_crash(raw: bytes) -> None:
    with pytest.raises(LineError):
        decode(raw)
    with pytest.raises(LineError):
        decode(sealed(raw + b"}"))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "no checksum"),
        (encode(SMALL)[9:-1], "torn: "),
        (encode(SMALL)[:-1].replace(b"note", b"nose"), "altered"),
        (sealed(b"[1]}"), "not JSON"),
        (sealed(b'{"v":NaN}'), "NaN"),
        (sealed(b'{"v":1,"seq":' + b"9" * 5000 + b"}"), "not JSON"),
        (sealed(b'{"v":1,"data":' + b"[" * 100_000 + b"}"), "nested too deep"),
        (sealed(b'{"v":1,"data":"\xff"}'), "not JSON"),
        (envelope(v=0), "schema version is 0"),
        (envelope(v=True), "schema version is True"),
        (envelope(v="1"), "schema version is '1'"),
        (envelope(seq="3"), "'seq' is str"),
        (envelope(attempt=True), "'attempt' is bool"),
        (envelope(data=[1]), "'data' is list"),
        (envelope(wall="$oops"), r"unknown tag '\$oops'"),
        (envelope(data=nested(MAX_DEPTH + 2)), "nested too deep"),
    ],
)
def test_a_bad_line_is_refused_with_its_reason(raw: bytes, reason: str) -> None:
    with pytest.raises(LineError, match=reason):
        decode(raw)


@pytest.mark.fault(42)
def test_a_later_schema_is_told_apart_from_damage() -> None:
    with pytest.raises(NewerSchemaError, match="2"):
        decode(envelope(v=SCHEMA + 1, data="of any shape"))


@pytest.mark.parametrize(
    ("data", "name", "rule", "fact", "cure"),
    [
        ({"config": {1: 2}}, "data.config: ", "keys of type str", "1 of type int", "Use str(key)."),
        ({"x": [0, object()]}, "data.x.1: ", "None, bool, int", "object", "Convert it first"),
        ({"x": 1 << 5000}, "data.x: ", "int of up to 4096 bits", "int", "Convert it first"),
        (
            {"x": nested(MAX_DEPTH)},
            "data.x.0.0",
            "at most 64 levels",
            "a deeper one",
            "break the cycle",
        ),
    ],
)
def test_data_that_json_cannot_hold_are_refused_by_place(
    data: dict[str, Any], name: str, rule: str, fact: str, cure: str
) -> None:
    with pytest.raises(DtypeError) as caught:
        encode(SMALL._replace(data=data))
    message = str(caught.value)
    assert message.startswith(name)
    assert rule in caught.value.expected
    assert fact in caught.value.got
    assert cure in caught.value.cure


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(DtypeError, match="break the cycle"):
        encode(SMALL._replace(data={"loop": loop}))


def test_the_deepest_value_that_can_be_written_can_be_read() -> None:
    record = SMALL._replace(data={"x": nested(MAX_DEPTH - 2)})
    assert decode(encode(record)[:-1]) == record


def test_encoding_leaves_the_data_as_they_were() -> None:
    data = {"x": [NAN, "$"], "y": {"z": (1, 2)}}
    encode(SMALL._replace(data=data))
    assert repr(data) == repr({"x": [NAN, "$"], "y": {"z": (1, 2)}})
