"""The run's own record: header first, one line an epoch, and a last line whatever happens."""

import datetime
import sys
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ptmetrics import __version__
from ptmetrics.record.journal import Journal
from ptmetrics.record.run_folder import create, environment
from ptmetrics.scores.task import TaskMetrics

NOT_CLOSED = "not closed"  # the process ended in good order, without monitor.close()


class Diary:
    """Writes the journal of a run, or nothing at all when there is no run folder.

    Args:
        run: The run folder; None for no record.
        resume: Go on with a folder that holds a run.

    Raises:
        RecordError: If the folder exists already, or cannot be made.
    """

    def __init__(self, run: str | Path | None, *, resume: bool) -> None:
        self.path = None if run is None else create(run, resume=resume)
        self._journal = None if self.path is None else Journal(self.path, resume=resume)
        if self._journal is not None:
            self._seal = weakref.finalize(self, _abandon, self._journal)

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.path.name if self.path else "run"

    def append(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add a line; a disk that fails is told once and never raises."""
        if self._journal is not None:
            self._journal.append(kind, data)

    def begin(self, metrics: TaskMetrics[Any], config: Mapping[str, Any]) -> None:
        """Write the header."""
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        header = {
            "ptmetrics": __version__,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "name": self.name,
            "config": dict(config),
            "environment": {**environment(), "device": device},
            "metrics": metrics.describe(),
        }
        self.append("header", header | {key: config.get(key) for key in ("seed", "arm", "val_fingerprint")})

    def end(self, reason: str, epochs: int, stopping: str | None) -> None:
        """Write the last line and let go of the file."""
        if self._journal is not None and self._seal.detach():
            self._journal.append("end", {"reason": reason, "epochs": epochs, "stopping": stopping})
            self._journal.close()


def end_reason(error: BaseException | None, stopping: str | None = None) -> str:
    """The words for the record's last line."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if error is not None:
        return f"error: {type(error).__name__}: {error}"
    return "early stopping" if stopping else "completed"


def _abandon(journal: Journal) -> None:
    error = getattr(sys, "last_value", None)  # what ended the interpreter, if something did
    reason = NOT_CLOSED if error is None else end_reason(error)
    journal.append("end", {"reason": reason, "epochs": None, "stopping": None})
    journal.close()
