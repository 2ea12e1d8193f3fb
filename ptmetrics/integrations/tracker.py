"""The base of the trackers: what the end of an epoch says, as numbers that any of them can log."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any

from ptmetrics.errors import ConfigError, DependencyError
from ptmetrics.monitor.callbacks import Callback, MonitoredRun
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.record.printable import printable

LONGEST_NAME = 250  # of a metric, as MLflow has it


class Tracker(Callback):
    """Base of a tracker: override `start`, `log` and `finish`.

    Of ranks that train together only rank 0 logs. A tracker that fails is a fault of the run, told
    once and counted, and never ends it; one that could not start logs nothing.

    Args:
        scores: Names of the scores to log, "*" standing for any part: ["val/*", "train/loss"].

    Raises:
        ConfigError: If `scores` is one name and no sequence of names.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> class Printer(Tracker):
        ...     def log(self, step, numbers, scores):
        ...         print(step, numbers)
        >>> printer = Printer(scores=["val/accuracy"])
        >>> monitor = pm.Monitor(pm.MulticlassMetrics(2), callbacks=[printer])
        >>> for split in ("train", "val"):
        ...     monitor.update(torch.eye(2), torch.tensor([0, 0]), split=split)
        >>> _ = monitor.end_epoch()
        1 {'epoch': 0, 'step': 1, 'samples': 2, 'val/accuracy': 0.5}
    """

    def __init__(self, scores: Sequence[str] = ("*",)) -> None:
        if isinstance(scores, str):
            raise ConfigError("scores", "a list of names", repr(scores), f"Pass [{scores!r}].")
        self._patterns = tuple(scores)
        self._started = False

    def start(self, monitor: MonitoredRun) -> None:
        """Open what is logged to."""

    def log(self, step: int, numbers: dict[str, float], scores: EpochScores) -> None:
        """Log an epoch, or a validation within one.

        Args:
            step: Steps of training so far; the number of the epoch where no step was seen.
            numbers: "epoch" (from 0), "step", "samples" of training so far, and the scores and the
                numbers of callbacks by name.
            scores: The scores themselves.
        """

    def finish(self, *, failed: bool) -> None:
        """Close it again.

        Args:
            failed: Whether the run was ended by an error, or interrupted.
        """

    def on_run_begin(self, monitor: MonitoredRun) -> None:
        """Start, on rank 0."""
        if monitor.rank == 0:
            self.start(monitor)
            self._started = True

    def on_validation_end(self, monitor: MonitoredRun, split: str, scores: EpochScores) -> None:
        """Log a validation that closes no epoch; one that does has the times of its epoch."""
        if not scores.time:
            self._log(scores)

    def on_epoch_end(self, monitor: MonitoredRun, scores: EpochScores) -> None:
        """Log the epoch."""
        self._log(scores)

    def on_run_end(self, monitor: MonitoredRun) -> None:
        """Finish."""
        if self._started:
            self._started = False
            self.finish(failed=str(monitor.end_reason).startswith(("error", "interrupted")))

    def _log(self, scores: EpochScores) -> None:
        if not self._started:
            return
        step = scores.counts.get("train_steps_cumulative") or scores.epoch
        numbers: dict[str, float] = {"epoch": scores.epoch, "step": step}
        if "train_samples_cumulative" in scores.counts:
            numbers["samples"] = scores.counts["train_samples_cumulative"]
        for name, number in (*scores.items(), *scores.numbers.items()):
            if any(fnmatchcase(name, pattern) for pattern in self._patterns):
                numbers[printable(name)[:LONGEST_NAME]] = float(number)
        self.log(step, numbers, scores)


def library(name: str, package: str) -> Any:
    """Import what a tracker logs to.

    Raises:
        DependencyError: If it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        rule = f"an installed {package}"
        raise DependencyError(package, rule, str(error), f"Run pip install {package}.") from error


def place_of(path: str | Path | None, name: str, monitor: MonitoredRun) -> Path:
    """Where a tracker writes: as told, else under this name in the run folder.

    Raises:
        ConfigError: If neither is there.
    """
    if path is not None:
        return Path(path)
    if monitor.path is None:
        rule = "a path, for a run without a folder"
        raise ConfigError("path", rule, "none", f'Pass one, such as "runs/mine/{name}".')
    return monitor.path / name
