"""The lines of one journal file, streamed: whole records in order, and every damage with its place."""

import re
from collections import OrderedDict
from collections.abc import ItemsView, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from ptmetrics.errors import RecordError
from ptmetrics.record.codec import (
    LATE,
    SCHEMA,
    SCORES_KEY,
    LineError,
    NewerSchemaError,
    Record,
    body_of,
    record_in,
    record_start,
    scores_in,
    without_late,
)
from ptmetrics.record.printable import agreeing, quantity
from ptmetrics.record.schema import defect, defect_of_recorded

MAX_LINE_BYTES = 64 * 2**20
LATE_FROM = 2**20
"""Bytes of a journal of which everything is decoded at once; of later epochs what many look at."""
COPY_WINDOW = 1024
"""Lines that the journal writes again after a failed fsync are known as copies this far."""


class Problem(NamedTuple):
    """A line of a journal that was skipped.

    Attributes:
        file: Name of the journal.
        line: Its number, from 1.
        offset: Bytes in front of it.
        reason: What is wrong with it.
        contradiction: Whether the line is whole, as its checksum tells, but says what cannot be.
    """

    file: str
    line: int
    offset: int
    reason: str
    contradiction: bool = False

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}"


class LatePart(Mapping[str, Any]):
    """A mapping in a line of the journal that is decoded and checked when it is first looked at.

    Args:
        place: The file and the line.
        body: What the line tells.
    """

    def __init__(self, place: str, body: bytes) -> None:
        self._place = place
        self._body = body
        self._part: Mapping[str, Any] | None = None

    def _looked_at(self) -> Mapping[str, Any]:
        if self._part is None:
            try:
                record = record_in(self._body)
                wrong = defect(record)
            except LineError as error:
                wrong = str(error)
            if wrong is not None:
                raise _cannot_be(self._place, wrong)
            self._part = record.data["per_class"]
            self._body = b""
        return self._part

    def __getitem__(self, key: str) -> Any:
        return self._looked_at()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._looked_at())

    def __len__(self) -> int:
        return len(self._looked_at())

    def support(self, split: str) -> list[int]:
        """How many samples of a split the recall of each class is of; of a late line this alone is decoded."""
        if self._part is None:
            found = re.search(_SUPPORT % re.escape(split).encode(), self._body)
            if found is not None:
                return list(map(int, found[1].split(b",")))
        return support_in(self._looked_at(), split)


_COLUMNS = rb'(?:"[^"]*":\{[^{}]*\},)*'
_SUPPORT = (
    rb'"per_class":\{(?:"[^"]*":\{' + _COLUMNS + rb'"[^"]*":\{[^{}]*\}\},)*'
    rb'"%b":\{' + _COLUMNS + rb'"recall":\{[^{}]*"n":\[(\d+(?:,\d+)*)\]'
)


def support_in(columns: Mapping[str, Any] | None, split: str) -> list[int]:
    """How many samples of a split the recall of each class is of; none where that was not recorded."""
    if isinstance(columns, LatePart):
        return columns.support(split)
    recall = ((columns or {}).get(split) or {}).get("recall") or {"n": []}
    n: list[int] = recall["n"]
    return n


class LateScores(Mapping[str, Any]):
    """Scores in a line of the journal, each decoded and checked when it is first looked at.

    Args:
        place: The file and the line.
        parts: What the line tells of each.
    """

    def __init__(self, place: str, parts: dict[str, bytes]) -> None:
        self._place = place
        self._parts = parts
        self._scores: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._scores:
            self._scores.update(self._read({name: self._parts[name]}))
        return self._scores[name]

    def items(self) -> ItemsView[str, Any]:
        """All of them: decoded together that is quicker."""
        if len(self._scores) < len(self._parts):
            self._scores = self._read(self._parts)
        return self._scores.items()

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def _read(self, parts: Mapping[str, bytes]) -> dict[str, Any]:
        each = [b'"%b":{%b}' % (name.encode(), part) for name, part in parts.items()]
        try:
            scores = scores_in(b"{%b}" % b",".join(each))
            wrong = defect_of_recorded(scores)
        except LineError as error:
            wrong = f": {error}"
        if wrong is not None:
            raise _cannot_be(self._place, f"epoch record whose scores{wrong}")
        return scores


def _cannot_be(place: str, wrong: str) -> RecordError:
    cure = "The line was changed after it was written: copy the run again from its origin."
    return RecordError(place, "a record that can be", wrong, cure)


def scan(file: BinaryIO, name: str, *, limit: int = MAX_LINE_BYTES) -> Iterator[Record | Problem]:
    """Stream the records of a journal, and a `Problem` for each line that is not one.

    At most one line of `limit` bytes is in memory at a time. A copy of a record is left out.

    Args:
        file: The journal, at its beginning.
        name: Its name in problems and messages.
        limit: A longer line is skipped as a problem.

    Raises:
        RecordError: If the journal was written by a version with a later schema.
    """
    order = _Order(name)
    while raw := file.readline(limit + 1):
        size = len(raw)
        content: bytes | None = raw.rstrip(b"\r\n")
        if size > limit and not raw.endswith(b"\n"):
            content = None
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(2**16)
                size += len(raw)
        order.line += 1
        if content != b"":  # an empty line is the seal behind a torn one
            record = order.admit(content)
            if order.problems:
                yield from order.problems
                order.problems.clear()
            if record is not None:
                yield record
        order.offset += size


class _Order:
    """Follows `seq` and the run id through one file, to tell copies, gaps and strangers.

    Attributes:
        line: Number of the line under way.
        offset: Bytes in front of it.
        problems: What is wrong with it, to be told before its record.
    """

    def __init__(self, name: str) -> None:
        self.line = 0
        self.offset = 0
        self.problems: list[Problem] = []
        self._name = name
        self._run: str | None = None
        self._last = -1
        # Lines lost since the last whole record: they explain as many missing numbers.
        self._damaged = 0
        self._stamps: OrderedDict[int, int] = OrderedDict()

    def admit(self, content: bytes | None) -> Record | None:
        """The record of a line; None where there is none, or it is a copy of an earlier one."""
        wrong = None
        try:
            start, body = _last_body(content)
            record = None
            if self.offset >= LATE_FROM and SCORES_KEY in body:
                record = _with_late_part(body, self._place())
            if record is None:
                record = record_in(body)
                wrong = defect(record)
        except LineError as error:
            self._damage(str(error))
            return None
        except NewerSchemaError as error:
            cure = "Install a newer ptmetrics to read this run; nothing was changed."
            rule = f"schema version {SCHEMA} or older"
            raise RecordError(self._place(), rule, f"version {error}", cure) from None
        if start:
            self._damage(f"torn: {start} bytes that end without a newline")
        if wrong:
            self._damage(wrong, contradiction=True)
        elif self._run is not None and record.run != self._run:
            self._damage(f"belongs to run {record.run}, not {self._run}")
        elif record.seq > self._last:
            return self._next(record)
        elif self._stamps.get(record.seq) != record.mono_ns:
            self._problem(f"number {record.seq} again, from a second writer")
        return None

    def _next(self, record: Record) -> Record:
        self._run = record.run
        missing = record.seq - self._last - 1 - self._damaged
        if missing > 0:
            what = agreeing(missing, "are missing before it")
            self._problem(f"{quantity(missing, 'record')} {what}")
        self._last = record.seq
        self._damaged = 0
        self._stamps[record.seq] = record.mono_ns
        if len(self._stamps) > COPY_WINDOW:
            self._stamps.popitem(last=False)
        return record

    def _place(self) -> str:
        return f"{self._name}, line {self.line}"

    def _damage(self, reason: str, *, contradiction: bool = False) -> None:
        self._damaged += 1
        self._problem(reason, contradiction=contradiction)

    def _problem(self, reason: str, *, contradiction: bool = False) -> None:
        problem = Problem(self._name, self.line, self.offset, reason, contradiction)
        self.problems.append(problem)


def _last_body(content: bytes | None) -> tuple[int, bytes]:
    """What the record at the end of a line tells; how many bytes of another one stand in front of it.

    A write that lost its newline leaves two records in one line; the length in the second one
    saves that.
    """
    if content is None:
        raise LineError("longer than the limit for one line")
    try:
        return 0, body_of(content)
    except LineError:
        start = record_start(content)
        if start <= 0:
            raise
        return start, body_of(content[start:])


def _with_late_part(body: bytes, place: str) -> Record | None:
    """An epoch without its heavy parts; None where all of it is to be looked at."""
    parts = without_late(body)
    if parts is None:
        return None
    shorter, scores = parts
    try:
        record = record_in(shorter)
        if record.kind != "epoch" or any(record.data.pop(key, body) is not None for key in LATE):
            return None
        record.data["scores"] = LateScores(place, scores)
        if defect(record):
            return None
    except (LineError, RecordError):
        return None
    record.data["per_class"] = LatePart(place, body)
    return record
