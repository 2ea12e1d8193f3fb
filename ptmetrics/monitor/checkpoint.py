"""Checkpoints that are whole or absent: the best and the last, written safely."""

import math
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ptmetrics.errors import ConfigError, StateError
from ptmetrics.monitor.best_score import OTHER_FILE, BestScore, stored_epoch
from ptmetrics.monitor.callbacks import Callback, MonitoredRun
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.monitor.faults import LOGGER
from ptmetrics.record.atomic import replace, sweep
from ptmetrics.record.reader import Run
from ptmetrics.record.run_folder import CHECKPOINTS, set_aside

_CHECKPOINT_FILE = re.compile(r"(best|last|epoch\d+-.+)\.pt")


class Checkpoint(Callback):
    """Writes `best.pt` when a score improves and `last.pt` each epoch, each whole or not at all.

    The best is there to be used: it holds the epoch and the `model` state dict. The last is there
    to resume from: it holds the `optimizer` and `monitor` state dicts too, which for AdamW triples
    its size. Both are tensors and plain values only: `torch.load(path, weights_only=True)` reads
    them. They are written behind the other callbacks, so that they hold what those know of the
    epoch. An epoch is the best only once its file is written; epochs without the score, such as
    those without a validation, cannot be.

    Files that another run left in the folder move to `earlier/1`, `earlier/2` and so on in it
    before the first is written, with a line that says so. Where several ranks train together,
    rank 0 alone writes.

    Args:
        score: Score name with its split; its direction comes from the score. None keeps only the
            last.
        folder: Where to write; by default `checkpoints` in the run folder.
        last: Also write `last.pt` each epoch, to resume from.
        top_k: Keep the so many best epochs, those beside `best.pt` under names that tell epoch and
            score, such as `epoch3-val-accuracy-0.9150.pt`, epochs counted from 1.
        mode: "max" or "min" where neither the score nor its name tells the direction.

    Raises:
        ConfigError: If an argument cannot work.

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
        score: str | None = "val/accuracy",
        *,
        folder: str | Path | None = None,
        last: bool = True,
        top_k: int = 1,
        mode: str | None = None,
    ) -> None:
        if type(top_k) is not int or top_k < 1:
            raise ConfigError("top_k", "1 or more epochs", repr(top_k), "Pass top_k=3.")
        self._best: BestScore | None = None
        if score:
            self._best = BestScore(score, mode=mode)
        self._given: Path | None = None
        if folder is not None:
            self._given = Path(folder)
        self._folder = self._given
        self._last = last
        self._last_epoch = -1
        self._top_k = top_k
        self._top: list[tuple[float, int, str]] = []  # value, epoch and name of each file
        self._ready = False  # whether the folder was looked at

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

    def on_resume(self, monitor: MonitoredRun, run: Run) -> None:
        """Take the best of the recorded epochs whose file is there."""
        self._find_folder(monitor)
        written: dict[str, dict[int, str]] = {"best": {}, "last": {}, "top": {}}
        for told in run.checkpoints:
            path = Path(told["path"])
            if told.get("why") in written and "epoch" in told and self._is_ours(path):
                written[told["why"]][told["epoch"]] = path.name
        if self._written("last"):
            self._last_epoch = max(written["last"], default=-1)
        best = self._best
        if best is None:
            return
        if self._written("best"):
            best.replay([epoch for epoch in run.epochs if epoch["epoch"] in written["best"]])
        for epoch in run.epochs:
            name = written["top"].get(epoch["epoch"])
            score = epoch["scores"].get(best.name)
            if name and score:
                self._top.append((score["value"], epoch["epoch"], name))

    def on_init(self, monitor: MonitoredRun) -> None:
        """Refuse a score that this run will never have."""
        if self._best is not None:
            self._best.check(monitor)

    def on_run_begin(self, monitor: MonitoredRun) -> None:
        """Follow the score of this run, and refuse one with nowhere to write."""
        if self._best is not None:
            self._best.begin(monitor)
        self._find_folder(monitor)
        if self._folder is None:
            got = "neither a folder nor a run"
            cure = "Pass Checkpoint(folder=…) or Monitor(run=…)."
            raise ConfigError("folder", "a folder to write to", got, cure)

    def on_epoch_end(self, monitor: MonitoredRun, scores: EpochScores) -> None:
        """Write what is due; the last even where the best fails."""
        if monitor.rank and not monitor.records:
            return
        if monitor.model is None:
            cure = "Call monitor.attach(model, optimizer=optimizer)."
            raise ConfigError("model", "an attached model to save", "none", cure)
        self._make_ready(Path(str(self._folder)))
        try:
            self._write_best(monitor, scores)
        finally:
            if self._last:
                self._write_last(monitor, scores.epoch)

    def _write_best(self, monitor: MonitoredRun, scores: EpochScores) -> None:
        best = self._best
        if best is None or not best.seen_in(scores):
            return
        if self._top_k > 1:
            self._keep_top(monitor, scores, best)
        if best.improves(scores):
            self._write(monitor, scores.epoch, "best", "best.pt")
            best.keep(scores)

    def _write_last(self, monitor: MonitoredRun, epoch: int) -> None:
        before = self._last_epoch
        self._last_epoch = epoch  # the file holds this state too
        try:
            self._write(monitor, epoch, "last", "last.pt")
        except BaseException:
            self._last_epoch = before
            raise

    def _keep_top(self, monitor: MonitoredRun, scores: EpochScores, best: BestScore) -> None:
        """Write the epoch if it is among the best so far, and remove the one that no longer is."""
        value = scores[best.name].value
        rises = best.rises(scores[best.name].higher_is_better)
        name = f"epoch{scores.epoch + 1}-{best.name.replace('/', '-')}-{value:.4f}.pt"
        if math.isnan(value):
            return
        sign = 1
        if rises:
            sign = -1
        candidates = [*self._top, (value, scores.epoch, name)]
        ranked = sorted(candidates, key=lambda entry: (sign * entry[0], entry[1]))[: self._top_k]
        if all(entry[2] != name for entry in ranked):
            return
        self._write(monitor, scores.epoch, "top", name)
        for entry in self._top:
            if entry not in ranked and self._folder is not None:
                with suppress(OSError):
                    (self._folder / entry[2]).unlink()
        self._top = ranked

    def state_dict(self) -> dict[str, Any]:
        """Best value so far, and the epoch of the last file."""
        state: dict[str, Any] = {"last_epoch": self._last_epoch}
        if self._top_k > 1:
            state["top"] = [list(entry) for entry in self._top]
        if self._best is not None:
            state.update(self._best.state_dict())
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a stored best value.

        Raises:
            StateError: If no run can be there.
        """
        last_epoch = stored_epoch("last_epoch", state["last_epoch"])
        top = [_top_entry(entry) for entry in state.get("top", [])]
        if self._best is not None:
            self._best.load_state_dict(state)
        self._last_epoch = last_epoch
        self._top = top

    def _find_folder(self, monitor: MonitoredRun) -> None:
        self._folder = self._given
        if self._folder is None and monitor.path is not None:
            self._folder = monitor.path / CHECKPOINTS

    def _is_ours(self, path: Path) -> bool:
        """Whether a recorded file is in the folder, which may have moved with its run."""
        if self._folder is None or not (self._folder / path.name).exists():
            return False
        if self._given is None and path.parent.name == CHECKPOINTS:
            return True
        return os.path.realpath(path.parent) == os.path.realpath(self._folder)

    def _written(self, why: str) -> Path | None:
        if self._folder is None:
            return None
        path = self._folder / f"{why}.pt"
        if not path.exists():
            return None
        return path

    def _make_ready(self, folder: Path) -> None:
        """Make the folder, once; what another run left in it is set aside."""
        if self._ready:
            return
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        written = self._last_epoch >= 0 and self._written("last") is not None
        if self._best is not None and self._best.epoch >= 0:
            written = True
        if not written:
            found = [path for path in folder.iterdir() if _is_checkpoint(path)]
            place = set_aside(folder, found)
            if place is not None:
                LOGGER.warning("%s: checkpoints of another run are now in %s", folder, place)
        self._ready = True

    def _write(self, monitor: MonitoredRun, epoch: int, why: str, name: str) -> None:
        model = monitor.model
        if model is None or self._folder is None:
            return
        content: dict[str, Any] = {"epoch": epoch, "model": model.state_dict()}
        if why == "last":
            content["monitor"] = monitor.state_dict()
            if monitor.optimizer is not None:
                content["optimizer"] = monitor.optimizer.state_dict()
        path = self._folder / name
        replace(path, lambda file: torch.save(content, file))
        told = {"path": str(path), "epoch": epoch, "why": why}
        if self._best is not None and why != "last":
            told["score"] = self._best.name
        monitor.record("checkpoint", told)


def _is_checkpoint(path: Path) -> bool:
    return _CHECKPOINT_FILE.fullmatch(path.name) is not None and path.is_file()


def _top_entry(entry: Sequence[Any]) -> tuple[float, int, str]:
    """One stored file.

    Raises:
        StateError: If it can be none that was written.
    """
    value, epoch, name = entry
    if (
        type(value) is not float
        or not isinstance(name, str)
        or not _CHECKPOINT_FILE.fullmatch(name)
    ):
        raise StateError("top", "a value, an epoch and the name of a file", repr(entry), OTHER_FILE)
    if "/" in name or os.sep in name:
        raise StateError("top", "the name of a file", repr(name), OTHER_FILE)
    return value, stored_epoch("top", epoch), name
