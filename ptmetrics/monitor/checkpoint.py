"""Checkpoints that are whole or absent: the best and the last, written safely."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ptmetrics.errors import ConfigError
from ptmetrics.monitor.callbacks import Best, Callback
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.record.atomic import replace

if TYPE_CHECKING:
    from ptmetrics.monitor.monitor import Monitor


class Checkpoint(Callback):
    """Writes `best.pt` when a score improves and `last.pt` each epoch, each by a rename of a complete file.

    The best is there to be used: it holds the epoch and the `model` state dict. The last is there to resume from: it
    holds the `optimizer` and `monitor` state dicts too, which for AdamW triples its size. Both are tensors and plain
    values only: `torch.load(path, weights_only=True)` reads them. They are written behind the other callbacks, so
    that they hold what those know of the epoch.

    Args:
        monitor: Score name with its split; its direction comes from the score. None keeps only the last.
        folder: Where to write; by default `checkpoints` in the run folder.
        last: Also write `last.pt` each epoch, to resume from.
    """

    after_others = True

    def __init__(
        self,
        monitor: str | None = "val/accuracy",
        *,
        folder: str | Path | None = None,
        last: bool = True,
    ) -> None:
        self._best = Best(monitor) if monitor else None
        self._folder = self._given = None if folder is None else Path(folder)
        self._last, self._last_epoch = last, -1

    @property
    def best_path(self) -> Path | None:
        """The best checkpoint, None before the first."""
        return self._file("best") if self._best is not None and self._best.epoch >= 0 else None

    @property
    def last_path(self) -> Path | None:
        """The last checkpoint, None before the first."""
        return self._file("last") if self._last_epoch >= 0 else None

    def on_run_begin(self, monitor: Monitor) -> None:
        """Refuse a score that this run will never have, or a run with nowhere to write."""
        if self._best is not None:
            self._best.begin(monitor)
        if self._given is None and monitor.path is None:
            cure = "Pass Checkpoint(folder=…) or Monitor(run=…)."
            raise ConfigError("folder", "a folder to write to", "neither a folder nor a run", cure)
        self._folder = self._given or Path(str(monitor.path)) / "checkpoints"

    def on_epoch_end(self, monitor: Monitor, scores: EpochScores) -> None:
        """Write what is due."""
        if self._best is not None and self._best.improves(scores):
            self._write(monitor, scores.epoch, "best")
        if self._last:
            self._last_epoch = scores.epoch
            self._write(monitor, scores.epoch, "last")

    def state_dict(self) -> dict[str, Any]:
        """Best value so far, and the epoch of the last file."""
        best = (
            {"value": self._best.value, "epoch": self._best.epoch} if self._best is not None else {}
        )
        return {**best, "last_epoch": self._last_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a stored best value."""
        self._last_epoch = int(state["last_epoch"])
        if self._best is not None:
            self._best.value, self._best.epoch = float(state["value"]), int(state["epoch"])

    def _file(self, why: str) -> Path | None:
        path = self._folder / f"{why}.pt" if self._folder is not None else None
        return path if path is not None and path.exists() else None

    def _write(self, monitor: Monitor, epoch: int, why: str) -> None:
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
