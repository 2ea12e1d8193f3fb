"""The run's own record: header first, one line an epoch, and a last line whatever happens."""

import datetime
import sys
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from ptmetrics import __version__
from ptmetrics.metrics.task import TaskMetrics
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.record.events import SamplesData
from ptmetrics.record.history import History
from ptmetrics.record.journal import Journal
from ptmetrics.record.reader import read_run
from ptmetrics.record.run_folder import create, environment
from ptmetrics.record.samples import Kept, drop_samples, write_samples

HALF_DONE = "error: the process ended in the middle of an epoch"


@dataclass
class Standing:
    """Where a run is: the epochs that are closed, whether one is half done, and why it is asked to stop."""

    epochs: int = 0
    half_done: bool = False
    stopping: str | None = None


class Diary:
    """Writes the journal of a run, or nothing at all when there is no run folder.

    Args:
        run: The run folder; None for no record.
        resume: Go on with a folder that holds a run.

    Attributes:
        history: The epochs that the folder held already.
        standing: Kept by the monitor; the last line is made of it.

    Raises:
        RecordError: If the folder exists already, or cannot be made.
    """

    def __init__(self, run: str | Path | None, *, resume: bool) -> None:
        self.path = None if run is None else create(run, resume=resume)
        self._journal = None if self.path is None else Journal(self.path, resume=resume)
        self.history, self._best = History(), -1
        if self._journal is not None and self._journal.attempt > 1:
            before = read_run(self._journal.path)
            self.history = History.of(before)
            self._best = _best_of(before.checkpoints, self._best)
        self.standing = Standing()
        self._seal: weakref.finalize[Any, Any] | None = None

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.path.name if self.path else "run"

    def append(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add a line; a disk that fails is told once and never raises."""
        if kind == "checkpoint":
            self._best = _best_of([data], self._best)
        if self._journal is not None:
            self._journal.append(kind, data)

    def notes(self, notes: Iterable[Mapping[str, Any]]) -> None:
        """Add a line for each."""
        for note in notes:
            self.append("note", note)

    def epoch(self, scores: EpochScores) -> None:
        """Add an epoch to the record and to the history; its samples come first, so that no line lacks its file."""
        data = scores.to_record()
        if self.path is not None and scores.samples is not None:
            data["samples"] = _written(self.path, scores.epoch, scores.samples)
        self.append("epoch", data)
        self.history.append(data)
        if self.path is not None and scores.samples is not None:
            with suppress(OSError):
                drop_samples(self.path, {scores.epoch, self._best, *self._lowest_loss()})

    def _lowest_loss(self) -> list[int]:
        """The epoch that the rules hold the last one against, if a loss was seen."""
        rows = zip(self.history.get("val/loss", []), self.history.epochs, strict=False)
        return [epoch for _, epoch in sorted(row for row in rows if isfinite(row[0]))[:1]]

    def begin(self, metrics: TaskMetrics, config: Mapping[str, Any]) -> None:
        """Write the header; from here on there will be a last line."""
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        header = {
            "ptmetrics": __version__,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "name": self.name,
            "config": dict(config),
            "environment": {**environment(), "device": device},
            "metrics": metrics.describe(),
        }
        self.append(
            "header", header | {key: config.get(key) for key in ("seed", "arm", "val_fingerprint")}
        )
        if self._journal is not None:
            self._seal = weakref.finalize(self, _abandon, self._journal, self.standing)

    def end(self, reason: str) -> None:
        """Write the last line and let go of the file."""
        if self._seal is not None and self._seal.detach() and self._journal is not None:
            _last_line(self._journal, reason, self.standing)
        if self._journal is not None:
            self._journal.close()


def _best_of(checkpoints: Sequence[Mapping[str, Any]], otherwise: int) -> int:
    """The epoch of the last checkpoint that was written because it was the best: the one that is judged."""
    best = [item["epoch"] for item in checkpoints if item.get("why") == "best" and "epoch" in item]
    return best[-1] if best else otherwise


def _written(folder: Path, epoch: int, samples: Kept) -> SamplesData:
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
        return f"error: {type(error).__name__}: {error}"
    return "early stopping" if stopping else "completed"


def _abandon(journal: Journal, standing: Standing) -> None:
    """Nobody closed the run: it is complete if every epoch is closed and the process did not fail."""
    error = getattr(
        sys, "last_value", None
    )  # what ended the process, told by Python before this is called
    whole = error is not None or not standing.half_done
    _last_line(journal, end_reason(error, standing.stopping) if whole else HALF_DONE, standing)
    journal.close()


def _last_line(journal: Journal, reason: str, standing: Standing) -> None:
    last = {"reason": reason, "epochs": standing.epochs, "stopping": standing.stopping}
    journal.append("end", last)
