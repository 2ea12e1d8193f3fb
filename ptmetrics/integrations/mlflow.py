"""Scores in MLflow."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ptmetrics.integrations.tracker import Tracker, library
from ptmetrics.monitor.callbacks import MonitoredRun
from ptmetrics.monitor.epoch import EpochScores

_REFUSED = re.compile(r"[^\w\-./: ]", re.ASCII)  # by MLflow, in a name


class MLFlowLogger(Tracker):
    """Logs the scores to MLflow: to the run that is active, else to one of its own.

    A run of its own has the monitor's `config` as parameters. Where it goes is for `mlflow.set_tracking_uri` and
    `mlflow.set_experiment`, or MLflow's environment variables, to say. "val/f1/macro" becomes
    "val/f1.macro" there, and a sign that MLflow refuses in a name "_".

    Args:
        scores: Names of the scores to log, "*" standing for any part.
        options: For `mlflow.start_run`, such as `run_name`.

    Raises:
        DependencyError: If mlflow is not installed.

    Example:
        >>> import ptmetrics as pm
        >>> tracker = MLFlowLogger(scores=["val/*"], run_name="pretrained")
        >>> monitor = pm.Monitor(pm.MulticlassMetrics(2), callbacks=[tracker])
    """

    def __init__(self, *, scores: Sequence[str] = ("*",), **options: Any) -> None:
        super().__init__(scores)
        self._mlflow = library("mlflow", "mlflow")
        self._options = options
        self._own = False
        self._id = ""

    def start(self, monitor: MonitoredRun) -> None:
        """Take the active run, or start one."""
        run = self._mlflow.active_run()
        self._own = run is None
        if run is None:
            run = self._mlflow.start_run(**self._options)
            self._mlflow.log_params(_allowed(monitor.config))
        self._id = run.info.run_id

    def log(self, step: int, numbers: dict[str, float], scores: EpochScores) -> None:
        """Log one step."""
        self._mlflow.log_metrics(_allowed(numbers), step=step, run_id=self._id)

    def finish(self, *, failed: bool) -> None:
        """End the run, if it is its own."""
        status = "FINISHED"
        if failed:
            status = "FAILED"
        if self._own:
            self._mlflow.end_run(status)


def _allowed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values by names that MLflow takes, in files too: f1 cannot lie beside f1/macro there."""
    allowed = {}
    for name, value in values.items():
        split, slash, rest = _REFUSED.sub("_", name).partition("/")
        allowed[split + slash + rest.replace("/", ".")] = value
    return allowed
