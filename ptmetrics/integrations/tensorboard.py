"""Scores in TensorBoard: scalars, precision-recall curves, the confusion matrix as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ptmetrics.integrations.tracker import LONGEST_NAME, Tracker, library, place_of
from ptmetrics.metrics.score import Scores
from ptmetrics.monitor.callbacks import MonitoredRun
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.monitor.samples import KEPT_HEADS
from ptmetrics.record.printable import printable

THRESHOLDS = 127  # as TensorBoard's own
LEAST_COUNT = 1e-7


class TensorBoardLogger(Tracker):
    """Writes event files for TensorBoard.

    Args:
        folder: Where they go; None for `tensorboard` in the run folder.
        scores: Names of the scores to log, "*" standing for any part.
        pr_curves: Write precision-recall curves of what is validated, where scores are kept; of
            many classes or labels those of the first 20.
        confusion: Draw its confusion matrix, which needs matplotlib.

    Raises:
        DependencyError: If tensorboard, or matplotlib where it is needed, is not installed.

    Example:
        >>> import tempfile
        >>> import torch
        >>> import ptmetrics as pm
        >>> folder = tempfile.mkdtemp()
        >>> monitor = pm.Monitor(pm.MulticlassMetrics(2), callbacks=[TensorBoardLogger(folder)])
        >>> monitor.update(torch.eye(2), torch.tensor([0, 0]), split="val")
        >>> _ = monitor.end_epoch()
        >>> monitor.close()
        >>> pm.read_history(folder)["val/accuracy"]
        [0.5]
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        scores: Sequence[str] = ("*",),
        pr_curves: bool = True,
        confusion: bool = True,
    ) -> None:
        super().__init__(scores)
        self._make_writer = library("torch.utils.tensorboard", "tensorboard").SummaryWriter
        if confusion:
            self._make_figure = library("matplotlib.figure", "matplotlib").Figure
        self._folder = folder
        self._pr_curves = pr_curves
        self._confusion = confusion
        self._writer: Any = None

    def start(self, monitor: MonitoredRun) -> None:
        """Open an event file; what the folder holds of an earlier run is not shown any more."""
        purge_step = None
        if monitor.epoch == 0:
            purge_step = 0
        folder = place_of(self._folder, "tensorboard", monitor)
        self._writer = self._make_writer(str(folder), purge_step=purge_step)

    def log(self, step: int, numbers: dict[str, float], scores: EpochScores) -> None:
        """Write scalars, then curves and pictures, and all of it to the disk."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        for split, each in scores.splits.items():
            if split.partition("/")[0] != "train":
                if self._pr_curves:
                    self._add_curves(split, each, step)
                if self._confusion and each.confusion is not None and each.confusion.ndim == 2:
                    axes = each.plot_confusion(
                        self._make_figure(layout="constrained").add_subplot()
                    )
                    self._writer.add_figure(f"{split}/confusion", axes.figure, step)
        self._writer.flush()

    def _add_curves(self, split: str, scores: Scores, step: int) -> None:
        """The counts at even thresholds: those of the first row of the table that reaches each."""
        curve = scores._curve
        if curve is None:
            return
        heads: list[int | None] = [*range(min(curve.heads, KEPT_HEADS))] or [None]
        for head in heads:
            tag = f"{split}/pr_curve"
            if head is not None:
                tag += f"/{scores.class_names[head]}"
            table = scores.thresholds(head)
            grid = torch.linspace(0, 1, THRESHOLDS, dtype=torch.float64)
            rows = torch.searchsorted(table.probability, grid)
            counts = torch.stack((table.tp, table.fp, table.tn, table.fn))
            both = counts[:2] + counts[2:].flip(0)  # the same in each row
            all_positive, all_negative = both[:, :1].sum(1, keepdim=True)
            none = 0 * all_positive  # above the last row all is predicted negative
            beyond = torch.stack((none, none, all_negative, all_positive))
            tp, fp, tn, fn = torch.cat((counts, beyond), 1)[:, rows]
            precision = tp / (tp + fp).clamp(
                min=LEAST_COUNT
            )  # 0 where undefined, as TensorBoard has it
            recall = tp / (tp + fn).clamp(min=LEAST_COUNT)
            tag = printable(tag)[:LONGEST_NAME]
            self._writer.add_pr_curve_raw(tag, tp, fp, tn, fn, precision, recall, step, THRESHOLDS)

    def finish(self, *, failed: bool) -> None:
        """Close the event file."""
        self._writer.close()
