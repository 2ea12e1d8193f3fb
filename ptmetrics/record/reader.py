"""Reading a run back: the valid epochs in order, what was superseded, and every damage with its place."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ptmetrics.errors import RecordError
from ptmetrics.record.codec import Record
from ptmetrics.record.events import (
    CheckpointData,
    EndData,
    EpochData,
    FaultData,
    HeaderData,
    NoteData,
)
from ptmetrics.record.foreign import is_foreign, read_foreign
from ptmetrics.record.lines import Problem, scan
from ptmetrics.record.run_folder import journals
from ptmetrics.record.samples import Kept, read_samples

NOT_TOLD = "not told by the log"
"""The reason of an end that another tool's log does not tell."""
MAX_KEPT = 10_000
"""Faults, notes, checkpoints and problems of which a run keeps the first; the rest are counted."""


@dataclass(frozen=True)
class Run:
    """A run as its journals tell it. Epochs are in strictly rising order.

    Attributes:
        path: The run folder; the file itself where another tool logged the run.
        run_id: The same for all attempts; empty where another tool logged the run.
        headers: What each attempt was started with.
        epochs: The epochs that count; one written again by a later attempt stands here once.
        superseded: Epochs that a later attempt wrote again, and those behind them.
        faults: Faults of all ranks, the first 10,000; so for notes and problems.
        notes: Notes of all ranks.
        checkpoints: Checkpoints of all attempts.
        end: How the last attempt ended; None when it was cut off or still runs.
        problems: Damage in the journals of all ranks, with its place.
        attempts: The number of the last attempt; 1 for a run that was never resumed.
        left_out: How many faults, notes, checkpoints and problems beyond the first 10,000 are not here.
    """

    path: Path
    run_id: str
    headers: list[HeaderData] = field(default_factory=list)
    epochs: list[EpochData] = field(default_factory=list)
    superseded: list[EpochData] = field(default_factory=list)
    faults: list[FaultData] = field(default_factory=list)
    notes: list[NoteData] = field(default_factory=list)
    checkpoints: list[CheckpointData] = field(default_factory=list)
    end: EndData | None = None
    problems: list[Problem] = field(default_factory=list)
    attempts: int = 1
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def header(self) -> HeaderData:
        """What the last attempt was started with; empty when that line is damaged."""
        return self.headers[-1] if self.headers else {}

    def kept(self, epoch: EpochData) -> Kept:
        """The validation samples of one of its epochs, read from their file, or why there are none."""
        return read_samples(self.path, epoch)


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read a run folder, one journal file, or a log that another tool wrote.

    Epochs, checkpoints and the end are those of the first rank; faults, notes and problems come from all
    ranks. Damaged lines are skipped and located. Time is linear in the size of the files; memory holds one
    line, the epochs, and at most 10,000 of everything else.

    Other logs are CSV files of Lightning, Keras or anybody, Hugging Face's trainer_state.json, and a History of
    Keras as JSON. They give the values of scores alone, and `header["logged"]` says whose they are.

    Raises:
        RecordError: If there is no journal, none of its lines can be read, or its schema is a later one; or if
            another tool's log cannot be read.
    """
    first, *others = _journals_at(Path(path))
    if _foreign(first):
        return _logged_run(first)
    story = _Story()
    story.read(first)
    for journal in others:
        story.read(journal, only=frozenset({"fault", "note"}))
    return story.told(first)


def _journals_at(path: Path) -> list[Path]:
    name, cure = str(path), "Give the folder that was passed as run=..., such as runs/pretrained."
    try:
        if path.is_file():
            return [path]
        if not path.is_dir():
            raise RecordError(
                name, "a run folder or a journal", "nothing of the kind at that path", cure
            )
        if found := [journal for journal in journals(path) if journal.is_file()]:
            return found
    except OSError as error:
        raise RecordError(
            name, "a path that can be read", error.strerror or str(error), cure
        ) from error
    raise RecordError(
        name, "a folder with a file journal-rank0.jsonl", "a folder without one", cure
    )


def _foreign(path: Path) -> bool:
    try:
        return is_foreign(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _logged_run(path: Path) -> Run:
    try:
        log = read_foreign(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    header: HeaderData = {"name": path.name, "logged": {"by": log.tool, "notes": log.notes}}
    end: EndData = {"reason": NOT_TOLD, "epochs": None, "stopping": None}
    return Run(path, "", [header], epochs=log.epochs, superseded=log.superseded, end=end)


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
        self._superseded: list[Any] = []
        self._kept: dict[str, list[Any]] = {
            "faults": [],
            "notes": [],
            "checkpoints": [],
            "problems": [],
        }
        self._left_out: dict[str, int] = {}

    def read(self, journal: Path, *, only: frozenset[str] | None = None) -> None:
        try:
            with journal.open("rb") as file:
                for item in scan(file, journal.name):
                    if isinstance(item, Problem):
                        self._keep("problems", item)
                    elif only is None:
                        self._take(item)
                    elif item.kind in only:
                        self._keep(f"{item.kind}s", item.data)
        except OSError as error:
            raise _unreadable(journal, error) from error

    def _take(self, record: Record) -> None:
        self._run_id = record.run
        if record.attempt > self._attempt:
            self._attempt, self._end = record.attempt, None
        match record.kind:
            case "header":
                self._headers.append(record.data)
            case "epoch":
                self._supersede(record.data["epoch"])
                self._epochs.append(record.data)
            case "end":
                self._end = record.data
            case "fault" | "note" | "checkpoint":
                self._keep(f"{record.kind}s", record.data)

    def _supersede(self, epoch: int) -> None:
        keep = len(self._epochs)
        while keep and self._epochs[keep - 1]["epoch"] >= epoch:
            keep -= 1
        self._superseded += self._epochs[keep:]
        del self._epochs[keep:]

    def _keep(self, what: str, item: Any) -> None:
        if len(self._kept[what]) < MAX_KEPT:
            self._kept[what].append(item)
        else:
            self._left_out[what] = self._left_out.get(what, 0) + 1

    def told(self, journal: Path) -> Run:
        if self._run_id is None:
            problems = self._kept["problems"]
            first = (
                f" ({problems[0].file}, line {problems[0].line}: {problems[0].reason})"
                if problems
                else ""
            )
            cure = "Start the run again: it stopped before its first record was written, or this is no journal."
            raise RecordError(str(journal), "at least one whole record", f"none{first}", cure)
        return Run(
            path=journal.parent,
            run_id=self._run_id,
            headers=self._headers,
            epochs=self._epochs,
            superseded=self._superseded,
            end=self._end,
            attempts=self._attempt,
            left_out=self._left_out,
            **self._kept,
        )
