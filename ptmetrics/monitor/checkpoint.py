"""Checkpoints that are whole or absent: the best and the last, written safely."""

from pathlib import Path
from typing import Any

import torch

from ptmetrics.errors import ConfigError
from ptmetrics.monitor.callbacks import BestScore, Callback, MonitoredRun
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.record.atomic import replace


class Checkpoint(Callback):
    """Writes `best.pt` when a score improves and `last.pt` each epoch, each whole or not at all.

    The best is there to be used: it holds the epoch and the `model` state dict. The last is there
    to resume from: it holds the `optimizer` and `monitor` state dicts too, which for AdamW triples
    its size. Both are tensors and plain values only: `torch.load(path, weights_only=True)` reads
    them. They are written behind the other callbacks, so that they hold what those know of the
    epoch. An epoch is the best only once its file is written.

    Args:
        monitor: Score name with its split; its direction comes from the score. None keeps only the
            last.
        folder: Where to write; by default `checkpoints` in the run folder.
        last: Also write `last.pt` each epoch, to resume from.

    Example:
        >>> import tempfile
        >>> import torch
        >>> import ptmetrics as pm
        >>> model = torch.nn.Linear(2, 2)
        >>> checkpoint = pm.Checkpoint("val/accuracy", folder=tempfile.mkdtemp())
        >>> monitor = pm.Monitor(pm.MulticlassMetrics(2), callbacks=[checkpoint])
        >>> with monitor.attach(model):
        ...     monitor.update(torch.eye(2), torch.tensor([0, 1]), split="val")
        ...     _ = monitor.end_epoch()
        >>> checkpoint.best_path.name
        'best.pt'
        >>> sorted(torch.load(checkpoint.last_path, weights_only=True))
        ['epoch', 'model', 'monitor']
    """

    after_others = True

    def __init__(
        self,
        monitor: str | None = "val/accuracy",
        *,
        folder: str | Path | None = None,
        last: bool = True,
    ) -> None:
        self._best: BestScore | None = None
        if monitor:
            self._best = BestScore(monitor)
        self._given: Path | None = None
        if folder is not None:
            self._given = Path(folder)
        self._folder = self._given
        self._last = last
        self._last_epoch = -1

    @property
    def best_path(self) -> Path | None:
        """The best checkpoint, None before the first."""
        if self._best is None or self._best.epoch < 0:
            return None
        return self._written("best")

    @property
    def last_path(self) -> Path | None:
        """The last checkpoint, None before the first."""
        if self._last_epoch < 0:
            return None
        return self._written("last")

    def on_run_begin(self, monitor: MonitoredRun) -> None:
        """Refuse a score that this run will never have, or a run with nowhere to write."""
        if self._best is not None:
            self._best.begin(monitor)
        self._folder = self._given
        if self._folder is None:
            if monitor.path is None:
                got = "neither a folder nor a run"
                cure = "Pass Checkpoint(folder=…) or Monitor(run=…)."
                raise ConfigError("folder", "a folder to write to", got, cure)
            self._folder = monitor.path / "checkpoints"

    def on_epoch_end(self, monitor: MonitoredRun, scores: EpochScores) -> None:
        """Write what is due."""
        if self._best is not None and self._best.improves(scores):
            self._write(monitor, scores.epoch, "best")
            self._best.keep(scores)
        if self._last:
            before = self._last_epoch
            self._last_epoch = scores.epoch  # the file holds this state too
            try:
                self._write(monitor, scores.epoch, "last")
            except BaseException:
                self._last_epoch = before
                raise

    def state_dict(self) -> dict[str, Any]:
        """Best value so far, and the epoch of the last file."""
        state: dict[str, Any] = {"last_epoch": self._last_epoch}
        if self._best is not None:
            state.update(self._best.state_dict())
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a stored best value."""
        last_epoch = int(state["last_epoch"])
        if self._best is not None:
            self._best.load_state_dict(state)
        self._last_epoch = last_epoch

    def _written(self, why: str) -> Path | None:
        if self._folder is None:
            return None
        path = self._folder / f"{why}.pt"
        if not path.exists():
            return None
        return path

    def _write(self, monitor: MonitoredRun, epoch: int, why: str) -> None:
        if monitor.model is None:
            cure = "Call monitor.attach(model, optimizer=optimizer)."
            raise ConfigError("model", "an attached model to save", "none", cure)
        folder = Path(str(self._folder))
        folder.mkdir(parents=True, exist_ok=True)
        content: dict[str, Any] = {"epoch": epoch, "model": monitor.model.state_dict()}
        if why == "last":
            content["monitor"] = monitor.state_dict()
            if monitor.optimizer is not None:
                content["optimizer"] = monitor.optimizer.state_dict()
        path = folder / f"{why}.pt"
        replace(path, lambda file: torch.save(content, file))
        monitor.record("checkpoint", {"path": str(path), "epoch": epoch, "why": why})
