"""Reading a run back: the valid epochs in order, what was superseded, and every damage.

Also what other tools logged: told from a journal by its content, read whole, within limits.
"""

import os
from bisect import bisect_left
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ptmetrics.errors import RecordError
from ptmetrics.record.codec import Record
from ptmetrics.record.events import (
    CheckpointData,
    EndData,
    EpochData,
    EvaluationData,
    FaultData,
    HeaderData,
    LoggedData,
    NoteData,
)
from ptmetrics.record.foreign_csv import read_csv
from ptmetrics.record.foreign_epochs import ForeignLog, read_log
from ptmetrics.record.foreign_events import event_files, read_events
from ptmetrics.record.foreign_json import read_json
from ptmetrics.record.foreign_table import Table
from ptmetrics.record.lines import Problem, scan
from ptmetrics.record.run_folder import journals, path_of
from ptmetrics.record.samples import StoredSamples, read_file, read_samples

MAX_LOG_BYTES = 64 * 2**20
MAX_KEPT = 10_000
"""Faults, notes, checkpoints and problems of which a run keeps the first; others are counted."""
SEEN_BYTES = 2**16
RECORD_START = b'{"v":'
NOT_TOLD = "not told by the log"
"""The reason of an end that another tool's log does not tell."""
LAST_ONES = frozenset({"after-training", "test"})
"""Why an evaluation is made that does not belong to the training."""


@dataclass(frozen=True)
class Run:
    """A run as its journals tell it. Epochs are in strictly rising order.

    Each line was checked when it was read (`ptmetrics.record.schema`), so its data can be relied
    on.

    Attributes:
        path: The run folder; the file itself where another tool logged the run.
        run_id: The same for all attempts; empty where another tool logged the run.
        headers: What each attempt was started with.
        epochs: The epochs that count; one written again by a later attempt stands here once.
        superseded: Epochs that a later attempt wrote again, and those behind them.
        evaluations: Those beside the ones that close an epoch, in their order: several in an
            epoch, before or after training, of a test set. One of an earlier attempt counts only
            where the later one has gone on behind it.
        faults: Faults of all ranks, one entry a kind with its count over all attempts; the first
            10,000 kinds. So for notes and problems.
        notes: Notes of all ranks.
        checkpoints: Checkpoints of the epochs that count.
        end: How the last attempt ended; None when it was cut off or still runs.
        problems: Lines that were skipped in the journals of all ranks, with their place.
        attempts: The number of the last attempt; 1 for a run that was never resumed.
        written_by: The attempt that wrote each of the epochs that count.
        picked: Row of the epoch that somebody asks for in place of the judged one; else None.
        left_out: How many faults, notes, checkpoints and problems beyond the first 10,000 there
            are.
    """

    path: Path
    run_id: str
    headers: list[HeaderData] = field(default_factory=list)
    epochs: Sequence[EpochData] = ()
    superseded: Sequence[EpochData] = ()
    evaluations: list[EvaluationData] = field(default_factory=list)
    faults: list[FaultData] = field(default_factory=list)
    notes: list[NoteData] = field(default_factory=list)
    checkpoints: list[CheckpointData] = field(default_factory=list)
    end: EndData | None = None
    problems: list[Problem] = field(default_factory=list)
    attempts: int = 1
    written_by: Sequence[int] = ()
    left_out: dict[str, int] = field(default_factory=dict)
    picked: int | None = None

    @property
    def header(self) -> HeaderData:
        """What the last attempt was started with; empty when that line is damaged."""
        if not self.headers:
            return {}
        return self.headers[-1]

    @property
    def last_evaluations(self) -> list[EvaluationData]:
        """Evaluations after training, or of a test set, that no epoch came after."""
        done = -1
        if self.epochs:
            done = self.epochs[-1]["epoch"]
        return [
            evaluation
            for evaluation in self.evaluations
            if evaluation["why"] in LAST_ONES and evaluation["epoch"] > done
        ]

    @property
    def end_reason(self) -> str | None:
        """How the run ended; "completed" too where nothing but its last line is missing.

        That is so where a last evaluation stands behind the epochs. None where the run was cut off
        or still runs.
        """
        if self.end is not None:
            return self.end["reason"]
        if self.epochs and self.last_evaluations:
            return "completed"
        return None

    def kept(self, epoch: EpochData) -> StoredSamples:
        """The validation samples of one of its epochs, from their file; or why there are none."""
        found = read_samples(self.path, epoch)
        beta = self.header.get("metrics", {}).get("beta")
        if isinstance(beta, int | float):
            return replace(found, beta=float(beta))
        return found

    def curves(self, epoch: EpochData) -> StoredSamples:
        """The threshold table of an epoch's validation, at most 200 rows a head, from its file.

        Its rows have the fields of `ptmetrics.record.samples.CURVE_ROW`. The ROC curve is
        fp / (fp + tn) against tp / (tp + fn); precision is tp / (tp + fp).
        """
        return read_file(self.path, epoch, "curves")

    def reliability(self, epoch: EpochData) -> StoredSamples:
        """Confidence against accuracy of an epoch's validation, in 15 bins of equal width, from its file."""
        return read_file(self.path, epoch, "reliability")


def read_run(path: str | os.PathLike[str], *, n: int | None = None) -> Run:
    """Read a run folder, one journal file, or a log that another tool wrote.

    Epochs, checkpoints and the end are those of the first rank; faults, notes and problems come
    from all ranks. Bad lines are skipped and located. Time is linear in the size of the files.
    Memory holds one line, the epochs, and at most 10,000 of everything else.

    Other logs are CSV files and what is like them, JSON as columns, rows or lines, Hugging Face's
    trainer_state.json, and event files of TensorBoard where that is installed. Each row of their
    `epochs` is one validation, so that an epoch may stand several times. `header["logged"]` says
    whose they are, and what was decided while reading.

    Args:
        path: The folder or file.
        n: Samples of validation, for another tool's log that does not tell them.

    Raises:
        RecordError: If there is no journal, none of its lines can be read, or its schema is a later
            one; or if another tool's log cannot be read.
    """
    first, *others = _journals_at(path_of("run", path))
    try:
        if is_foreign(first):
            return _logged_run(first, n)
    except OSError as error:
        raise _unreadable(first, error) from error
    story = _Story()
    story.read(first)
    for journal in others:
        story.read_other_rank(journal)
    return story.told(first)


def _journals_at(path: Path) -> list[Path]:
    cure = "Give the folder that was passed as run=..., such as runs/pretrained."
    try:
        if path.is_file():
            return [path]
        if not path.is_dir():
            got = "nothing of the kind at that path"
            raise RecordError(str(path), "a run folder or a journal", got, cure)
        found = [journal for journal in journals(path) if journal.is_file()]
        if not found and event_files(path):
            found = [path]
    except OSError as error:
        got = error.strerror or str(error)
        raise RecordError(str(path), "a path that can be read", got, cure) from error
    if not found:
        rule = "a folder with a file journal-rank0.jsonl"
        raise RecordError(str(path), rule, "a folder without one", cure)
    return found


def _items(journal: Path) -> Iterator[Record | Problem]:
    """What stands in a journal, line by line."""
    try:
        with journal.open("rb") as file:
            yield from scan(file, journal.name)
    except OSError as error:
        raise _unreadable(journal, error) from error


def _unreadable(path: Path, error: OSError) -> RecordError:
    cure = "Check the disk and the permissions of the file."
    return RecordError(str(path), "a file that can be read", error.strerror or str(error), cure)


class _Story:
    """What was read so far."""

    def __init__(self) -> None:
        self._run_id: str | None = None
        self._attempt = 1
        self._end: Any = None
        self._headers: list[Any] = []
        self._epochs: list[Any] = []
        self._written_by: list[int] = []
        self._superseded: list[Any] = []
        self._evaluations: list[tuple[int, Any]] = []  # with their attempts
        self._faults: dict[tuple[str, str], Any] = {}
        self._fault_counts: dict[tuple[str, str], int] = {}  # as last told
        self._checkpoint_attempts: list[int] = []
        self._kept: dict[str, list[Any]] = {
            "notes": [],
            "checkpoints": [],
            "problems": [],
        }
        self._left_out: dict[str, int] = {}

    def read(self, journal: Path) -> None:
        """Take all that the first rank tells."""
        for item in _items(journal):
            if isinstance(item, Problem):
                self._keep("problems", item)
            else:
                self._take(item)

    def read_other_rank(self, journal: Path) -> None:
        """Take faults and notes; a journal that is of another run is passed over."""
        for item in _items(journal):
            if isinstance(item, Problem):
                self._keep("problems", item)
            elif item.run != self._run_id:
                message = f"{journal.name} is of another run, and was passed over."
                self._keep("notes", {"code": "other-run", "message": message})
                return
            elif item.kind == "fault":
                self._add_fault(item.data)
            elif item.kind == "note":
                self._keep("notes", item.data)

    def _take(self, record: Record) -> None:
        self._run_id = record.run
        if record.attempt > self._attempt:
            self._attempt = record.attempt
            self._end = None
        match record.kind:
            case "header":
                self._headers.append(record.data)
            case "epoch":
                self._add_epoch(record)
                self._supersede_evaluations((record.data["epoch"], -1), "")
            case "evaluation":
                place = (record.data["epoch"], record.data["step"])
                self._supersede_evaluations(place, record.data["split"])
                self._evaluations.append((record.attempt, record.data))
            case "end":
                self._end = record.data
            case "fault":
                self._add_fault(record.data)
            case "checkpoint":
                self._checkpoint_attempts.append(record.attempt)
                self._keep("checkpoints", record.data)
            case "note":
                self._keep("notes", record.data)

    def _add_epoch(self, record: Record) -> None:
        number = record.data["epoch"]
        keep = bisect_left(self._epochs, number, key=lambda epoch: epoch["epoch"])
        if keep < len(self._epochs):
            self._superseded += self._epochs[keep:]
            self._forget_checkpoints(number, record.attempt)
        self._epochs[keep:] = [record.data]
        self._written_by[keep:] = [record.attempt]

    def _forget_checkpoints(self, number: int, attempt: int) -> None:
        """Those of superseded epochs; a script may tell of one before its epoch is closed."""
        told = zip(self._kept["checkpoints"], self._checkpoint_attempts, strict=False)
        left = [
            (checkpoint, of)
            for checkpoint, of in told
            if checkpoint.get("epoch", -1) < number
            or (of == attempt and checkpoint["epoch"] == number)
        ]
        self._kept["checkpoints"] = [checkpoint for checkpoint, _ in left]
        self._checkpoint_attempts = [of for _, of in left]

    def _add_fault(self, fault: Any) -> None:
        """One entry a kind: its count rises within an attempt, and begins anew in the next."""
        kind = (fault["where"], fault["message"])
        last = self._fault_counts.get(kind, 0)
        self._fault_counts[kind] = fault["count"]
        known = self._faults.get(kind)
        if known is None:
            if len(self._faults) == MAX_KEPT:
                self._left_out["faults"] = self._left_out.get("faults", 0) + 1
                return
            self._faults[kind] = dict(fault)
            return
        if known.get("split") != fault.get("split"):
            known["split"] = None  # of several splits: of none in particular
        if fault["count"] > last:
            known["count"] += fault["count"] - last
        else:
            known["count"] += fault["count"]

    def _supersede_evaluations(self, place: tuple[int, int], split: str) -> None:
        """Drop those that an earlier attempt made behind a place, or there of the same split."""
        kept = []
        for attempt, data in self._evaluations:
            at = (data["epoch"], data["step"])
            same = at == place and data["split"] == split
            if attempt == self._attempt or not (at > place or same):
                kept.append((attempt, data))
        self._evaluations = kept

    def _keep(self, what: str, item: Any) -> None:
        if len(self._kept[what]) < MAX_KEPT:
            self._kept[what].append(item)
        else:
            self._left_out[what] = self._left_out.get(what, 0) + 1

    def told(self, journal: Path) -> Run:
        if self._run_id is None:
            got = "none"
            if self._kept["problems"]:
                got = f"none ({self._kept['problems'][0]})"
            cure = "Start the run again: it stopped before its first record, or this is no journal."
            raise RecordError(str(journal), "at least one whole record", got, cure)
        return Run(
            path=journal.parent,
            run_id=self._run_id,
            headers=self._headers,
            epochs=self._epochs,
            superseded=self._superseded,
            evaluations=[data for _, data in self._evaluations],
            end=self._end,
            attempts=self._attempt,
            written_by=self._written_by,
            left_out=self._left_out,
            faults=list(self._faults.values()),
            notes=self._kept["notes"],
            checkpoints=self._kept["checkpoints"],
            problems=self._kept["problems"],
        )


# Logs of other tools


def is_foreign(path: Path) -> bool:
    """Whether a file is not one of our journals.

    A journal is named so, or some line at its beginning starts as its records do; the rest is for
    the formats to tell.

    Raises:
        OSError: If it cannot be opened.
    """
    if path.name.startswith("journal-rank"):
        return False
    if event_files(path):
        return True
    with path.open("rb") as file:
        beginning = file.read(SEEN_BYTES)
    if not beginning.startswith(RECORD_START) and path.suffix != ".jsonl":
        return True
    return not any(line.startswith(RECORD_START) for line in beginning.split(b"\n"))


def _logged_run(path: Path, n: int | None) -> Run:
    log = read_foreign(path, n=n)
    logged: LoggedData = {"by": log.tool, "notes": log.notes, "sizes": log.sizes}
    if log.follows:
        logged["follows"] = log.follows
    header: HeaderData = {"name": path.name, "logged": logged}
    end: EndData = {"reason": NOT_TOLD, "epochs": None, "stopping": None}
    return Run(
        path,
        "",
        [header],
        epochs=log.epochs,
        superseded=log.superseded,
        evaluations=log.evaluations,
        checkpoints=log.checkpoints,
        end=end,
    )


def read_foreign(path: Path, *, n: int | None = None, limit: int = MAX_LOG_BYTES) -> ForeignLog:
    """Read a log that another tool wrote.

    Args:
        path: The file; or a folder with event files of TensorBoard.
        n: Samples of validation, where they are known.
        limit: Bytes that it may have.

    Raises:
        RecordError: If it is too large, is no text, or holds no log that can be read.
        OSError: If it cannot be read.
    """
    return read_log(_table_of(path, limit), n)


def _table_of(path: Path, limit: int) -> Table:
    name = str(path)
    if event_files(path):
        return read_events(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            rule = f"a log of at most {limit // 2**20} MiB"
            cure = "Thin it out: one line for each epoch is enough."
            raise RecordError(name, rule, "a larger file", cure)
        text = _text_of(name, file.read(size))
    if text.lstrip()[0] in "{[":
        return read_json(name, text)
    return read_csv(name, text)


def _text_of(name: str, content: bytes) -> str:
    """The text of a log, in UTF-8, or in UTF-16 as spreadsheets write it."""
    encoding = "utf-8-sig"
    if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        # A letter at the end that was cut off is left out; its line is looked at later.
        text = getincrementaldecoder(encoding)().decode(content)
    except UnicodeDecodeError as error:
        cure = "Save it as UTF-8; a checkpoint or a picture is no log."
        raise RecordError(name, "text in UTF-8", f"byte {error.start} that is not", cure) from None
    got = ""
    if not text.strip():
        got = "an empty file"
    elif "\0" in text:
        got = "NUL bytes"
    if got:
        cure = "Pass the log of a run that has begun."
        raise RecordError(name, "a log with numbers in it", got, cure)
    return text
