"""Scores in Weights & Biases."""

from collections.abc import Sequence
from typing import Any

from ptmetrics.integrations.tracker import Tracker, library
from ptmetrics.monitor.callbacks import MonitoredRun
from ptmetrics.monitor.epoch import EpochScores


class WandbLogger(Tracker):
    """Logs the scores to Weights & Biases: to the run that is there, else to one of its own.

    A run of its own has the monitor's `config`, and "step" as the axis of its charts.

    Args:
        project: Of a run of its own.
        scores: Names of the scores to log, "*" standing for any part.
        options: For `wandb.init`, such as `mode="offline"`.

    Raises:
        DependencyError: If wandb is not installed.

    Example:
        >>> import ptmetrics as pm
        >>> tracker = WandbLogger("digits", scores=["val/*"], mode="offline")
        >>> monitor = pm.Monitor(pm.MulticlassMetrics(2), callbacks=[tracker])
    """

    def __init__(
        self, project: str | None = None, *, scores: Sequence[str] = ("*",), **options: Any
    ) -> None:
        super().__init__(scores)
        self._wandb = library("wandb", "wandb")
        self._options = {"project": project, **options}
        self._own = False
        self._run: Any = None

    def start(self, monitor: MonitoredRun) -> None:
        """Take the run that is there, or start one."""
        self._run = self._wandb.run
        self._own = self._run is None
        if self._own:
            self._run = self._wandb.init(**{"config": dict(monitor.config), **self._options})
            self._run.define_metric("*", step_metric="step")

    def log(self, step: int, numbers: dict[str, float], scores: EpochScores) -> None:
        """Log one step."""
        self._run.log(numbers)

    def finish(self, *, failed: bool) -> None:
        """End the run, if it is its own."""
        if self._own:
            self._run.finish(exit_code=int(failed))
