"""A run's own record, and its life: it begins once and ends once, however its loop is left."""

import datetime
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ptmetrics import __version__
from ptmetrics.errors import HookError, StateError
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.monitor.faults import Refusal
from ptmetrics.record.events import SamplesData
from ptmetrics.record.history import History
from ptmetrics.record.journal import Journal
from ptmetrics.record.reader import read_run
from ptmetrics.record.run_folder import create, environment
from ptmetrics.record.samples import StoredSamples, drop_samples, write_samples

HALF_DONE = "error: the process ended in the middle of an epoch"


@dataclass
class RunStatus:
    """Where a run is.

    Attributes:
        epochs: Number of epochs that are closed.
        half_done: Whether something was counted since.
        stopping: Why the run is asked to stop; None where it is not.
    """

    epochs: int = 0
    half_done: bool = False
    stopping: str | None = None

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave.

        Raises:
            StateError: If no run can be there.
        """
        names = {field.name for field in fields(self)}
        if set(state) != names or type(state["epochs"]) is not int or state["epochs"] < 0:
            cure = "The file is damaged: use another checkpoint."
            raise StateError("status", "an epoch number of 0 or more", repr(dict(state)), cure)
        self.epochs = state["epochs"]
        self.half_done = bool(state["half_done"])
        self.stopping = state["stopping"]


class RunRecorder:
    """Writes the journal of a run, or nothing at all when there is no run folder.

    Args:
        run: The run folder; None for no record.
        resume: Go on with a folder that holds a run.

    Attributes:
        path: The run folder.
        history: The epochs so far, with those that the folder held already.
        status: StoredSamples by the monitor; the last line is made of it.

    Raises:
        RecordError: If the folder exists already, or cannot be made.
    """

    def __init__(self, run: str | Path | None, *, resume: bool) -> None:
        self.path: Path | None = None
        self.history = History()
        self.status = RunStatus()
        self._journal: Journal | None = None
        self._best_epoch = -1  # of the last checkpoint that was the best: it is judged
        self._seal: weakref.finalize[Any, Any] | None = None
        if run is None:
            return
        self.path = create(run, resume=resume)
        self._journal = Journal(self.path, resume=resume)
        if self._journal.attempt > 1:
            before = read_run(self._journal.path)
            self.history = History.of(before)
            for checkpoint in before.checkpoints:
                self._note_best(checkpoint)

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
        if kind == "checkpoint":
            self._note_best(data)

    def begin(self, metrics: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Write the header."""
        device = "cpu"
        if torch.cuda.is_available():
            device = torch.cuda.get_device_name()
        now = datetime.datetime.now(datetime.timezone.utc)
        header: dict[str, Any] = {
            "ptmetrics": __version__,
            "created": now.isoformat(timespec="seconds"),
            "name": self.name,
            "config": dict(config),
            "environment": {**environment(), "device": device},
            "metrics": metrics,
        }
        for key in ("seed", "arm", "val_fingerprint"):
            header[key] = config.get(key)
        self.append("header", header)

    def expect_end(self) -> None:
        """From here on there will be a last line, whether somebody closes the run or not."""
        if self._journal is not None and self._seal is None:
            self._seal = weakref.finalize(self, _abandon, self._journal, self.status)

    def record_epoch(self, scores: EpochScores, notes: Sequence[Mapping[str, Any]] = ()) -> None:
        """Add an epoch to record and history; its samples first, so that no line lacks its file."""
        data = scores.to_record()
        if self.path is not None and scores.samples is not None:
            data["samples"] = _written(self.path, scores.epoch, scores.samples)
        for note in notes:
            self.append("note", note)
        self.append("epoch", data)
        self.history.append(data)
        if self.path is not None and scores.samples is not None:
            judged = {scores.epoch, self._best_epoch, self._epoch_of_lowest_loss()}
            with suppress(OSError):
                drop_samples(self.path, judged)

    def record_evaluation(self, data: Any) -> None:
        """Add an evaluation beside those that close an epoch to record and history."""
        self.append("evaluation", data)
        self.history.append_evaluation(data)

    def end(self, reason: str) -> None:
        """Write the last line and let go of the file."""
        if self._journal is None:
            return
        if self._seal is not None and self._seal.detach():
            _write_last_line(self._journal, reason, self.status)
        self._journal.close()

    def _note_best(self, checkpoint: Mapping[str, Any]) -> None:
        if checkpoint.get("why") == "best":
            self._best_epoch = checkpoint.get("epoch", self._best_epoch)

    def _epoch_of_lowest_loss(self) -> int:
        """The epoch that the rules hold the last one against; −1 if no loss was seen."""
        lowest = -1
        value = float("inf")
        losses = self.history.get("val/loss", [])
        for epoch, loss in zip(self.history.epoch, losses, strict=False):
            if loss < value:
                lowest = epoch
                value = loss
        return lowest


def _written(folder: Path, epoch: int, samples: StoredSamples) -> SamplesData:
    """Write the file; what the epoch's line tells of it."""
    if samples.rows is None:
        return {"reason": str(samples.reason)}
    try:
        return write_samples(folder, epoch, samples.rows)
    except OSError as error:
        return {"reason": f"they could not be written: {error.strerror or error}"}


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


def _abandon(journal: Journal, status: RunStatus) -> None:
    """Nobody closed the run: it is complete if all epochs are closed and nothing failed."""
    # What ended the process, told by Python before this is called.
    error = getattr(sys, "last_value", None)
    reason = end_reason(error, status.stopping)
    if error is None and status.half_done:
        reason = HALF_DONE
    _write_last_line(journal, reason, status)
    journal.close()


def _write_last_line(journal: Journal, reason: str, status: RunStatus) -> None:
    journal.append("end", {"reason": reason, "epochs": status.epochs, "stopping": status.stopping})


class RunLifecycle:
    """Begins and ends a run, and knows why it ended.

    Args:
        status: Tells whether the run is asked to stop.
        on_begin: What to do at the beginning; if it raises, the run has not begun.
        on_end: What to do at the end of a run that has begun or not, with the reason.

    Attributes:
        begun: Whether the run has begun.
        inside: Number of `with` blocks that the loop runs in.
    """

    def __init__(
        self, status: RunStatus, on_begin: Callable[[], None], on_end: Callable[[str], None]
    ) -> None:
        self._status = status
        self._on_begin = on_begin
        self._on_end = on_end
        self._closed = False
        self._left_for: str | None = None  # why the body of the epochs was left
        self.begun = False
        self.inside = 0

    def begin(self) -> None:
        """Begin, unless that is done.

        Raises:
            Refusal: If the run has ended.
        """
        if self._closed:
            cure = "Make a new Monitor; pass resume=True to go on in the same run folder."
            raise Refusal(HookError("monitor", "an open monitor", "one that was closed", cure))
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
        self._left_for = "interrupted"
        if self._status.stopping:
            self._left_for = "early stopping"
        if not self.inside:
            self.end(self._left_for)

    def leave_block(self, error: BaseException | None) -> None:
        """A `with` block is left: the run ends if an error came, or the loop was broken out of."""
        self.inside -= 1
        if error is not None:
            self._left_for = end_reason(error)
        if self._left_for is not None:
            self.end(self._left_for)
