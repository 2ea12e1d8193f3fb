"""What the adapters of trainers share: when the monitor is made, watches and ends."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ptmetrics.integrations.handed import HandedPasses
from ptmetrics.monitor.hooks import Attachment
from ptmetrics.monitor.monitor import Monitor

ATTACHED = ("preds", "target", "labels", "shift", "slices", "group")


class TrainerAdapter:
    """Base of an adapter.

    Args:
        metrics: As for `pm.Monitor`.
        run: Likewise.
        options: All else that `pm.Monitor` takes, and of `Monitor.attach` what tells where
            predictions, targets and ids stand.

    Attributes:
        monitor: Made as the trainer begins, since ranks are known then. A run that went well is
            open until the process ends, or `monitor.close()`: a test may follow.
        passes: The passes over its loaders.
        trained: Whether there was any training; an evaluation before it is an epoch.
    """

    monitor: Monitor
    passes: HandedPasses
    trained = False

    def __init__(self, metrics: Any, run: Any = None, **options: Any) -> None:
        self.where = {name: options.pop(name) for name in ATTACHED if name in options}
        self._made_of = metrics, run, {"progress": False, **options}  # trainers have bars
        self._attachment: Attachment | None = None

    def make(self) -> None:
        """Make the monitor, unless there is one whose run goes on."""
        if not hasattr(self, "monitor") or self.monitor.end_reason is not None:
            metrics, run, options = self._made_of
            self.monitor = Monitor(metrics, run, **options)
            self.passes = HandedPasses(self.monitor)
            self.trained = False

    def attach(self, model: nn.Module, **how: Any) -> None:
        """Watch a model until `leave`, unless that is done; steps return its losses."""
        if self._attachment is None:
            self._attachment = self.monitor.attach(model, loss=lambda _: None, **how, **self.where)
            self._attachment.__enter__()

    def hand(self, split: str, batch: Any, loader: object) -> None:
        """A batch comes, of a loader."""
        if self._attachment is not None:  # else it is that of a sanity check
            self.trained |= split == "train"
            self.passes.hand(split, batch, loader)

    def count_loss(self, outputs: Any, factor: float = 1) -> None:
        """A step was done; the loss of its batch is what it returned, or "loss" in that."""
        if isinstance(outputs, Mapping):
            outputs = outputs.get("loss")
        number = isinstance(outputs, float) or (isinstance(outputs, Tensor) and not outputs.ndim)
        if number and self._attachment is not None:
            self.monitor.update_loss(outputs * factor)

    def end_epoch(self, number: int | None = None) -> bool:
        """Close an epoch, as `Monitor.end_epoch` does; whether it is to be the last one."""
        self.passes.end()
        self.monitor.end_epoch(number)
        return self.monitor.should_stop

    def leave(self, error: BaseException | None = None) -> None:
        """The trainer is done, or failed, which ends the run."""
        if self._attachment is not None:
            if not self.trained and error is None:
                self.end_epoch()
            self._attachment.__exit__(None, error, None)
            self._attachment = None
