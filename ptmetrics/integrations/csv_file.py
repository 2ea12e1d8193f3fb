"""Scores in a CSV file, one row an epoch."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ptmetrics.integrations.tracker import Tracker, place_of
from ptmetrics.monitor.callbacks import MonitoredRun
from ptmetrics.monitor.epoch import EpochScores

FORMULA_SIGNS = ("=", "+", "-", "@")  # at the beginning of a cell a spreadsheet takes it for one


class CSVLogger(Tracker):
    """Writes the scores into a CSV file, one row an epoch and one a validation within.

    Scores that come later get a column of their own. A resumed run goes on in its file; another one
    replaces it.

    Args:
        path: The file; None for `metrics.csv` in the run folder.
        scores: Names of the scores to log, "*" standing for any part.

    Example:
        >>> import tempfile
        >>> import torch
        >>> import ptmetrics as pm
        >>> path = Path(tempfile.mkdtemp()) / "scores.csv"
        >>> csv_logger = CSVLogger(path, scores=["val/accuracy"])
        >>> monitor = pm.Monitor(pm.MulticlassMetrics(2), callbacks=[csv_logger])
        >>> monitor.update(torch.eye(2), torch.tensor([0, 0]), split="val")
        >>> _ = monitor.end_epoch()
        >>> print(path.read_text())
        epoch,step,samples,val/accuracy
        0,0,0,0.5
    """

    def __init__(self, path: str | Path | None = None, *, scores: Sequence[str] = ("*",)) -> None:
        super().__init__(scores)
        self._path = path
        self._columns: list[str] = []
        self._rows: list[dict[str, Any]] = []

    def start(self, monitor: MonitoredRun) -> None:
        """Read what the file holds of a run that is resumed."""
        self._path = place_of(self._path, "metrics.csv", monitor)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if monitor.epoch and self._path.exists():
            with self._path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                self._rows = [dict(row) for row in reader]
                self._columns = list(reader.fieldnames or ())

    def log(self, step: int, numbers: dict[str, float], scores: EpochScores) -> None:
        """Add a row, and write the file anew where it has a new column."""
        row = {}
        for name, value in numbers.items():
            if name.startswith(FORMULA_SIGNS):
                name = f"'{name}"
            row[name] = value
        self._rows.append(row)
        columns = list(dict.fromkeys([*self._columns, *row]))
        mode = "a"
        rows = [row]
        if columns != self._columns:
            mode = "w"
            rows = self._rows
        with Path(str(self._path)).open(mode, newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            if mode == "w":
                writer.writeheader()
            writer.writerows(rows)
        self._columns = columns
