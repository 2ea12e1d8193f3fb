"""Small makers of records that several tests of this room share."""

import zlib
from pathlib import Path
from typing import Any

from ptmetrics.record.codec import Record, encode

RUN = "00c0ffee00c0ffee"


def score(value: float) -> dict[str, Any]:
    return {
        "value": value,
        "low": value - 0.1,
        "high": value + 0.1,
        "n": 100,
        "method": "wilson",
        "reason": None,
        "error_bound": 0.0,
        "higher_is_better": True,
    }


def epoch(number: int, **scores: float) -> dict[str, Any]:
    """An epoch's data; `val__accuracy=0.5` stands for "val/accuracy"."""
    named = {name.replace("__", "/"): score(value) for name, value in scores.items()}
    return {"epoch": number, "scores": named}


def note(text: str) -> dict[str, str]:
    return {"code": "test", "message": text}


def line(
    seq: int, kind: str, data: dict[str, Any], *, attempt: int = 1, run: str = RUN, mono_ns: int = 7
) -> bytes:
    return encode(Record(seq, run, attempt, kind, mono_ns, 1.5, data))


def sealed(body: bytes) -> bytes:
    """Give any body a right length and checksum, so that only the check behind them can refuse it."""
    return b'%b,"crc":"%x-%08x"}' % (body[:-1], len(body), zlib.crc32(body))


def newer_line(seq: int) -> bytes:
    """A whole line of schema version 9."""
    raw = line(seq, "note", note("x")).replace(b'"v":1', b'"v":9')
    return sealed(raw[: raw.rindex(b',"crc"')] + b"}") + b"\n"


def journal_of(folder: Path, *lines: bytes, rank: int = 0) -> Path:
    path = folder / f"journal-rank{rank}.jsonl"
    path.write_bytes(b"".join(lines))
    return path
