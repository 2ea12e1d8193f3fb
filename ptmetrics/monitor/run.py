"""A run's own record, and its life: it begins once and ends once, however its loop is left."""

import datetime
import logging
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ptmetrics import __version__
from ptmetrics.errors import FaultError, RecordError, StateError
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.monitor.faults import LOGGER, MAX_MESSAGE
from ptmetrics.monitor.samples import table_rows
from ptmetrics.record.atomic import sweep
from ptmetrics.record.events import SamplesData
from ptmetrics.record.history import History
from ptmetrics.record.journal import KEPT_LINES, Journal
from ptmetrics.record.reader import Run, read_run
from ptmetrics.record.run_folder import CHECKPOINTS, create, environment, folder_of, journals
from ptmetrics.record.samples import StoredSamples, drop_samples, write_samples
from ptmetrics.verdict.profile import Profile

HALF_DONE = "not closed"  # the process ended by itself, in the middle of an epoch
MAX_EPOCH = 2**31  # more than any run has; a stored number above it is damage
MAX_SHOWN = 60
RUN_BYTES = 8  # of a run's id
KINDS_BESIDE = frozenset({"header", "note", "fault"})
"""What a rank that does not record the run writes into a journal of its own, beside its end."""


@dataclass
class RunStatus:
    """Where a run is.

    Attributes:
        epochs: Number of epochs that are closed.
        half_done: Whether something was counted since.
        stopping: Why the run is asked to stop; None where it is not.
        restored: The epoch whose weights the model has again; None where they are the last ones.
    """

    epochs: int = 0
    half_done: bool = False
    stopping: str | None = None
    restored: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """Plain values of the run; which weights the model has is the model's."""
        return {"epochs": self.epochs, "half_done": self.half_done, "stopping": self.stopping}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave.

        Raises:
            StateError: If no run can be there.
        """
        fits = set(state) == set(self.state_dict())
        if not fits or not is_epoch(state["epochs"]) or type(state["half_done"]) is not bool:
            cure = "The file is damaged: use another checkpoint."
            raise StateError("status", "an epoch number of 0 or more", repr(dict(state)), cure)
        if state["stopping"] is not None and not isinstance(state["stopping"], str):
            cure = "The file is damaged: use another checkpoint."
            raise StateError("status.stopping", "a reason", repr(state["stopping"]), cure)
        self.epochs = state["epochs"]
        self.half_done = state["half_done"]
        self.stopping = state["stopping"]


def is_epoch(value: object) -> bool:
    """Whether a value can be the number of an epoch, or a count of them."""
    return type(value) is int and 0 <= value <= MAX_EPOCH


class RunRecorder:
    """Writes the journal of a run, or nothing at all when there is no run folder.

    Where several ranks train together, rank 0 records. Each of the others writes faults and notes
    into a journal beside it once they have met, unless its folder is its own: a part of its path
    names the rank, as in `runs/mine/rank1`.

    Args:
        run: The run folder; None for no record.
        if_exists: What becomes of a run that the folder holds, as `run_folder.create` has it.
        on_take: Told of the folder before this process begins to write there.
        told: Level at which the log is told of an earlier run that was moved.

    Attributes:
        path: The run folder.
        rank: Number of this process among those that train together.
        ranks: How many there are.
        history: The epochs so far, with those that the folder held already.
        before: The run that is resumed, until its first new epoch; None for a new one.
        status: Kept by the monitor; the last line is made of it.

    Raises:
        ConfigError: If `if_exists` is another word.
        RecordError: If the folder is refused, or cannot be made.
    """

    def __init__(
        self,
        run: str | Path | None,
        *,
        if_exists: str,
        on_take: Callable[[Path], None],
        told: int = logging.WARNING,
    ) -> None:
        self.path: Path | None = None
        self.rank, self.ranks = rank_and_world_size()
        self.history = History()
        self.status = RunStatus()
        self.before: Run | None = None
        self._journal: Journal | None = None
        self._best_epoch = -1  # of the last checkpoint that was the best: it is judged
        self._ends = False  # whether there is to be a last line
        self._error_before = _identity(process_error())
        self._share_told = False
        self._resumes = if_exists == "resume"
        self._beside: Journal | None = None  # of a rank that does not record the run
        self._waiting: deque[tuple[str, Mapping[str, Any]]] | None = None  # until it is open
        if run is None:
            return
        self.path = folder_of(run)
        if self.rank and not _names_rank(self.path, self.rank):
            self._waiting = deque(maxlen=KEPT_LINES)
            LOGGER.info("rank %d of %d: rank 0 records the run", self.rank, self.ranks)
            if if_exists == "resume" and self.path.is_dir() and journals(self.path):
                with suppress(RecordError):  # rank 0 may have made it just now, or tells of it
                    self._take_up(self.path)
            return
        if if_exists != "error":
            on_take(self.path)
        create(self.path, if_exists=if_exists, told=told)
        self._journal = Journal(self.path, resume=if_exists == "resume")
        self.history.path = self.path
        try:
            sweep(self.path)
            sweep(self.path / CHECKPOINTS)
            if self._journal.attempt > 1:
                self._take_up(self._journal.path)
        except BaseException:
            self._journal.close()
            raise

    def _take_up(self, path: Path) -> None:
        """Begin behind the last epoch that was closed."""
        self.before = read_run(path)
        self.history = History.of(self.before)
        for checkpoint in self.before.checkpoints:
            self._note_best(checkpoint)
        if self.before.epochs:
            last = self.before.epochs[-1]
            self.status.epochs = last["epoch"] + 1
            if last.get("unfinished"):
                self.status.epochs = last["epoch"]

    def check_same(self, metrics: Mapping[str, Any]) -> None:
        """Refuse to go on with a run that counted other metrics.

        Raises:
            RecordError: If one of them is configured in another way.
        """
        if self.before is None or "metrics" not in self.before.header:
            return
        kept = _each_metric(self.before.header["metrics"])
        place, expected, got = _first_difference(kept, _each_metric(metrics))
        if place:
            cure = "Pass the same metrics, or start another run."
            rule = f"{place} {expected} as in the run that is resumed"
            raise RecordError("metrics", rule, got, cure)

    @property
    def writes(self) -> bool:
        """Whether this process records."""
        return self._journal is not None

    @property
    def name(self) -> str:
        """Name of the run."""
        if self.path is None:
            return "run"
        return self.path.name

    def append(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add a line; a disk that fails is told once and never raises."""
        if self._journal is not None:
            self._journal.append(kind, data)
        elif kind in KINDS_BESIDE:
            if self._beside is not None:
                self._beside.append(kind, data)
            elif self._waiting is not None:
                self._waiting.append((kind, data))
        if kind == "checkpoint":
            self._note_best(data)

    def begin(
        self, metrics: Mapping[str, Any], config: Mapping[str, Any], profile: Profile | None = None
    ) -> None:
        """Write the header."""
        device = "cpu"
        if torch.cuda.is_available():
            device = torch.cuda.get_device_name()
        now = datetime.datetime.now(datetime.timezone.utc)
        header: Any = {
            "ptmetrics": __version__,
            "created": now.isoformat(timespec="seconds"),
            "name": self.name,
            "config": dict(config),
            "environment": {**environment(), "device": device},
            "metrics": metrics,
        }
        for key in ("seed", "arm", "val_fingerprint", "step_flops"):
            header[key] = config.get(key)
        if profile is not None:
            header["profile"] = profile.to_record()
        if self.ranks > 1:
            header["rank"] = self.rank
            header["world_size"] = self.ranks
        self.append("header", header)
        self.history.header = header

    def tell_share(self) -> None:
        """Say, once, that what is recorded is the share of one rank."""
        if self._share_told:
            return
        self._share_told = True
        since = ""
        if self.status.epochs:
            since = f" from epoch {self.status.epochs + 1} on"
        message = (
            f"Rank {self.rank} of {self.ranks} recorded what it saw itself{since}: the share of the data "
            "of one rank. Validate all data on rank 0 for numbers of the whole, and let one rank "
            "decide for all when to stop."
        )
        self.append("note", {"code": "one-rank", "message": message})
        if self._journal is not None:
            LOGGER.warning("%s", message)

    @property
    def number(self) -> int:
        """The run that this process records, as a number of 64 bits; 0 for none."""
        if self._journal is None or len(self._journal.run_id) != 2 * RUN_BYTES:
            return 0
        return int.from_bytes(bytes.fromhex(self._journal.run_id), "big", signed=True)

    def join(self, number: int) -> None:
        """Open a journal of this rank beside that of rank 0, once it is known; write what waited.

        Args:
            number: The run that rank 0 records.

        Raises:
            RecordError: If it cannot be opened.
        """
        if self._waiting is None or self.path is None or not number:
            return
        waiting = self._waiting
        self._waiting = None
        if journals(self.path):  # else the folder is one of another machine
            run_id = number.to_bytes(RUN_BYTES, "big", signed=True).hex()
            self._beside = Journal(self.path, rank=self.rank, run_id=run_id, resume=self._resumes)
            for kind, data in waiting:
                self._beside.append(kind, data)

    def expect_end(self) -> None:
        """From here on there will be a last line, whether somebody closes the run or not."""
        self._ends = True

    def closed_by_user(self) -> None:
        """A run that was killed behind its last epoch, and had nothing more to do, gets its last line."""
        if self.before is None or not self.before.epochs:
            return
        if self.before.end_reason is None and not self.before.epochs[-1].get("unfinished"):
            self._ends = True

    def error_of_run(self) -> BaseException | None:
        """The error that ended the process, or a notebook's cell, since the run began.

        Where a person types on, an error between two epochs may be of anything.
        """
        error = process_error()
        if error is None or _identity(error) == self._error_before:
            return None
        if hasattr(sys, "ps1") and not self.status.half_done:
            return None
        return error

    def record_epoch(
        self,
        scores: EpochScores,
        notes: Sequence[Mapping[str, Any]] = (),
        *,
        unfinished: bool = False,
    ) -> None:
        """Add an epoch to record and history; its samples first, so that no line lacks its file.

        Args:
            scores: What the epoch gave.
            notes: Lines to write before it.
            unfinished: Whether the run was left before the epoch was closed.
        """
        data = scores.to_record()
        if unfinished:
            data["unfinished"] = True
        known = self.history.epoch
        if known and known[-1] >= scores.epoch:
            self._tell_superseded(scores.epoch)
        folder = self.path
        if self._journal is None or scores.samples is None:
            folder = None
        if folder is not None and scores.samples is not None:
            data["samples"] = _written(folder, scores.epoch, scores.samples)
            data["files"] = _other_files(folder, scores)
        elif self.path is not None and self._beside is not None and scores.samples is not None:
            _written(self.path, scores.epoch, scores.samples, self.rank)
        for note in notes:
            self.append("note", note)
        self.append("epoch", data)
        self.history.append(data)
        self.before = None
        if folder is not None:
            judged = {scores.epoch, self._best_epoch}
            judged.add(self.history.epoch_of_best("val/loss", rises=False))
            val = scores.splits["val"]
            headline = val.get(val.headline)
            if headline is not None:
                rises = headline.higher_is_better is not False
                judged.add(self.history.epoch_of_best(f"val/{val.headline}", rises=rises))
            with suppress(OSError):
                drop_samples(folder, judged)

    def record_evaluation(self, data: Any) -> None:
        """Add an evaluation beside those that close an epoch to record and history."""
        self.append("evaluation", data)
        self.history.append_evaluation(data)

    def _tell_superseded(self, number: int) -> None:
        again = [epoch for epoch in self.history.epoch if epoch >= number]
        if again == [number] and self._left_unfinished():
            return
        message = f"Epochs {again[0] + 1} to {again[-1] + 1} of the record are superseded:"
        message = f"{message} the run goes on with epoch {number + 1}."
        self.append("note", {"code": "superseded", "message": message})
        LOGGER.warning("%s", message)

    def tell_gap(self) -> None:
        """Say which epochs the record lacks of a run that goes on behind them."""
        if self.before is None:
            return
        first = max(self.history.epoch, default=-1) + 1
        if self.status.epochs > first:
            message = (
                f"Epochs {first + 1} to {self.status.epochs} are not in the record: the run was "
                "killed while it could not be written."
            )
            self.append("note", {"code": "journal-gap", "message": message})
            LOGGER.warning("%s", message)

    def _left_unfinished(self) -> bool:
        """Whether the run that is resumed was left in an epoch: it is finished now."""
        if self.before is None or not self.before.epochs:
            return False
        return bool(self.before.epochs[-1].get("unfinished"))

    def end(self, reason: str) -> None:
        """Write the last line and let go of the file."""
        journal = self._journal or self._beside
        if journal is None:
            return
        if self._ends:
            self._ends = False
            end: dict[str, Any] = {
                "reason": reason,
                "epochs": self.status.epochs,
                "stopping": self.status.stopping,
            }
            if self.status.restored is not None:
                end["restored"] = self.status.restored
            journal.append("end", end)
        journal.close()

    def _note_best(self, checkpoint: Mapping[str, Any]) -> None:
        if checkpoint.get("why") == "best":
            self._best_epoch = checkpoint.get("epoch", self._best_epoch)


def _written(folder: Path, epoch: int, samples: StoredSamples, rank: int = 0) -> SamplesData:
    """Write the file; what the epoch's line tells of it."""
    told: SamplesData = {"reason": str(samples.reason)}
    try:
        if samples.rows is not None:
            told = write_samples(folder, epoch, samples.rows, rank=rank)
        if samples.shares:
            rows = sum(share["rows"] for share in samples.shares)
            told = {"rows": rows, "shares": list(samples.shares)}
    except OSError as error:
        told = {"reason": f"they could not be written: {error.strerror or error}"}
    return told


def _other_files(folder: Path, scores: EpochScores) -> dict[str, SamplesData]:
    """Write what the validation is compared by and plotted from; what the epoch's line tells of it."""
    files: dict[str, Any] = {}
    if scores.samples is not None and scores.samples.moves is not None:
        files["moves"] = scores.samples.moves
    told: dict[str, SamplesData] = {}
    if scores.samples is not None and scores.samples.inputs is not None:
        files["inputs"] = scores.samples.inputs
    elif scores.samples is not None and scores.samples.no_inputs is not None:
        told["inputs"] = {"reason": scores.samples.no_inputs}
    if "val" in scores.splits:
        files.update(table_rows(scores.splits["val"]))
    for stem, rows in files.items():
        try:
            told[stem] = write_samples(folder, scores.epoch, rows, stem)
        except OSError as error:
            told[stem] = {"reason": f"it could not be written: {error.strerror or error}"}
    return told


def end_reason(error: BaseException | None, stopping: str | None = None) -> str:
    """The words for the record's last line."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if error is not None:
        try:
            return f"error: {type(error).__name__}: {error}"
        except Exception:  # an error may fail to be printed
            return f"error: {type(error).__name__}"
    if stopping:
        return "early stopping"
    return "completed"


def process_error() -> BaseException | None:
    """What ended the process, or the last cell of a notebook that failed."""
    error = getattr(sys, "last_value", None)
    if isinstance(error, BaseException):
        return error
    return None


def _identity(error: BaseException | None) -> tuple[int, str]:
    """Tells errors apart; the error itself would hold all that its frames hold."""
    return id(error), end_reason(error)[:MAX_MESSAGE]


def rank_and_world_size() -> tuple[int, int]:
    """This process among those that train together; (0, 1) alone."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    try:
        rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        return 0, 1
    if 0 <= rank < ranks:
        return rank, ranks
    return 0, 1


def _names_rank(folder: Path, rank: int) -> bool:
    return any(re.search(rf"rank[-_=]?0*{rank}(?!\d)", part, re.I) for part in folder.parts)


def _each_metric(described: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of each metric by its place, as a header tells of them."""
    first = {key: value for key, value in described.items() if key != "further"}
    further = list(described.get("further") or ())
    configured: dict[str, Any] = {"metrics": f"{1 + len(further)} in all", **first}
    for index, metric in enumerate(further, 2):
        configured[f"metric {index}"] = metric
    return configured


def _first_difference(kept: Any, got: Any) -> tuple[str, str, str]:
    """Where two configurations differ first, with both values; what one lacks is of a version."""
    now = dict(_leaves(got))
    for place, value in _leaves(kept):
        if place in now and now[place] != value:
            return place, value[:MAX_SHOWN], now[place][:MAX_SHOWN]
    return "", "", ""


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every single value in a configuration, as text, with its place."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        yield place, f"of {len(value)} entries"
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{place}[{index}]")
    else:
        yield place, repr(value)


def _cell() -> str:
    """The notebook's cell that runs, in words; empty where there is none."""
    shell = None
    notebook: Any = sys.modules.get("IPython")
    if notebook is not None:
        shell = notebook.get_ipython()
    if shell is None:
        return ""
    return f", cell {shell.execution_count}"


class RunLifecycle:
    """Begins and ends a run, and knows why it ended.

    Args:
        status: Tells whether the run is asked to stop.
        on_begin: What to do at the beginning; if it raises, the run has not begun.
        on_left: What to do when the loop over the epochs, or a block around it, was left.
        on_end: What to do at the end of a run that has begun or not, with the reason.

    Attributes:
        begun: Whether the run has begun.
        inside: Number of `with` blocks that the loop runs in.
    """

    def __init__(
        self,
        status: RunStatus,
        on_begin: Callable[[], None],
        on_left: Callable[[], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._status = status
        self._on_begin = on_begin
        self._on_left = on_left
        self._on_end = on_end
        self._closed = False
        self._left_for: str | None = None  # why the body of the epochs was left
        self.begun = False
        self.inside = 0

    @property
    def closed(self) -> bool:
        """Whether the run has ended."""
        return self._closed

    def begin(self) -> None:
        """Begin, unless that is done.

        Raises:
            FaultError: If the run has ended; one kind of fault, wherever it is met, in each cell of
                a notebook.
        """
        if self._closed:
            cure = (
                'Nothing is counted: do it inside of "with monitor:", or make a new Monitor and '
                'attach it; if_exists="resume" goes on in the same run folder.'
            )
            raise FaultError(f"monitor{_cell()}", "an open monitor", "one that was closed", cure)
        if not self.begun:
            self.begun = True
            try:
                self._on_begin()
            except BaseException:
                self.begun = False
                raise

    def end(self, reason: str) -> None:
        """End, unless that is done."""
        if not self._closed:
            self._closed = True
            self._on_end(reason)

    def leave_epochs(self) -> None:
        """The loop over the epochs broke out or raised: only a `with` around it can tell which."""
        self._on_left()
        self._left_for = "interrupted"
        if self._status.stopping:
            self._left_for = "early stopping"
        if not self.inside:
            self.end(self._left_for)

    def epochs_done(self) -> None:
        """All epochs are done, inside of a `with` block that may test behind them and ends the run."""
        self._on_left()
        self._left_for = end_reason(None, self._status.stopping)

    def leave_block(self, error: BaseException | None) -> None:
        """A `with` block is left: the run ends if an error came, or the loop was broken out of."""
        self.inside -= 1
        if not self._closed:
            self._on_left()
        if error is not None:
            self._left_for = end_reason(error)
        if self._left_for is not None:
            self.end(self._left_for)
