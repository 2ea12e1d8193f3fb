"""Scores in trackio."""

from collections.abc import Sequence
from typing import Any

from ptmetrics.integrations.tracker import Tracker, library
from ptmetrics.monitor.callbacks import MonitoredRun
from ptmetrics.monitor.epoch import EpochScores


class TrackioLogger(Tracker):
    """Logs the scores to a run of trackio, with the monitor's `config`.

    Args:
        project: Name of its project.
        scores: Names of the scores to log, "*" standing for any part.
        options: For `trackio.init`, such as `name`.

    Raises:
        DependencyError: If trackio is not installed.

    Example:
        >>> import ptmetrics as pm
        >>> tracker = TrackioLogger("digits", scores=["val/*"], name="pretrained")
        >>> monitor = pm.Monitor(pm.MulticlassMetrics(2), callbacks=[tracker])
    """

    def __init__(self, project: str, *, scores: Sequence[str] = ("*",), **options: Any) -> None:
        super().__init__(scores)
        self._trackio = library("trackio", "trackio")
        self._options = {"project": project, **options}
        self._run: Any = None

    def start(self, monitor: MonitoredRun) -> None:
        """Start a run."""
        self._run = self._trackio.init(**{"config": dict(monitor.config), **self._options})

    def log(self, step: int, numbers: dict[str, float], scores: EpochScores) -> None:
        """Log one step, which is trackio's own word."""
        del numbers["step"]
        self._run.log(numbers, step=step)

    def finish(self, *, failed: bool) -> None:
        """End the run."""
        self._run.finish()
