"""From what happens in the loop to counts: the one place that all three ways in go through."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from torch import Tensor, nn

from ptmetrics.errors import ConfigError
from ptmetrics.loop.clock import DeviceSpans, PhaseClock, StepTimes
from ptmetrics.loop.faults import FaultLog
from ptmetrics.loop.hooks import Pick, in_backward, pick_predictions, pick_target
from ptmetrics.loop.split import SplitCounts
from ptmetrics.scores.task import TaskMetrics

Batch = TypeVar("Batch")
NO_FORWARD = "no call of the attached model was seen for a batch; attach the object that the loop calls"
TRAINING_MODE = "the model was in training mode during validation; call model.eval() before it"

STEP_IN_EVAL = (
    "the optimizer stepped while model.training was False; those batches were counted as validation"
)


class Capture:
    """Counts batches by split and gives the time to phases; every entry contains its own faults.

    Args:
        metrics: What to count; each split gets a fresh copy.
        clock: Host time.
        faults: Contains and counts what goes wrong.
        counted: Called with split and number of each batch that was counted.
    """

    def __init__(
        self,
        metrics: TaskMetrics[Any],
        clock: PhaseClock,
        faults: FaultLog,
        counted: Callable[[str, int], None],
    ) -> None:
        self._metrics, self._counted = metrics, counted
        self.splits: dict[str, SplitCounts] = {}
        self.clock, self.faults = clock, faults
        self.step_times = StepTimes()
        self.device: DeviceSpans | None = None
        self.data_wait_s = 0.0
        self.preds: Pick = pick_predictions
        self.target: Pick = pick_target
        self.optimizer_seen = False
        self._phase: str | None = None
        self._loader: str | None = None  # split of the loader that is being watched
        self._batch: Any = None  # its batch, until the model has answered
        self._loss_due = self._forward_due = False
        self._train_mark = 0.0
        self._started = False

    def split(self, name: str) -> SplitCounts:
        """The counts of a split, made on first use."""
        if name not in self.splits:
            self.splits[name] = SplitCounts(self._metrics, self._metrics.config.get("ignore_index"))
        return self.splits[name]

    # Way a: the loader is watched, the model answers for each batch.
    def watch(self, loader: Iterable[Batch], split: str) -> Iterator[Batch]:
        """Yield the batches of `loader`; waiting for one and working on it are told apart."""
        self._lap("other")
        self._enter(split)
        self._loader = split
        try:
            for batch in loader:
                wait = self._lap(split)
                self.data_wait_s += wait if split == "train" else 0.0
                self._batch = batch
                yield batch
                self._lap(split)
                self._batch_done(split)
        finally:
            self._lap(split)
            self._leave()
            self._loader = self._batch = None

    def _batch_done(self, split: str) -> None:
        if self._batch is not None:
            self.faults.note("model hook", NO_FORWARD)
        self._batch, self._loss_due = None, False
        if split == "train":
            self._tick()
            if not self.optimizer_seen:
                self.split(split).steps += 1

    # Way b: hooks alone. Both ways share them; which one it is shows in whether a loader is watched.
    def on_forward_begin(self, model: nn.Module) -> None:
        """The model is called."""
        if in_backward() or self._loader is not None:
            return
        with self.faults.contain("model hook"):
            split = "train" if model.training else "val"
            self._enter(split)
            wait = self._lap(split)
            self.data_wait_s += wait if split == "train" else 0.0

    def on_forward(self, model: nn.Module, output: Any) -> None:
        """The model has answered; the first answer to a batch counts."""
        if in_backward():
            return
        self._forward_due = True
        if self._loader is None or self._batch is None:
            return
        batch, self._batch, self._loss_due = self._batch, None, True
        if self._loader == "val" and model.training:
            self.faults.note("validation", TRAINING_MODE)
        split = self.split(self._loader)
        with self.faults.contain("model hook", split.batches):
            preds = self.preds(output)
            split.add(preds, self.target(batch).to(preds.device, non_blocking=True))
            self._counted(self._loader, split.batches - 1)

    def on_criterion(
        self, criterion: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], loss: Any
    ) -> None:
        """The loss was computed; only the first after an answer of the model counts."""
        due = self._loss_due if self._loader is not None else self._forward_due
        if in_backward() or not due:
            return
        self._loss_due = self._forward_due = False
        name = self._loader or self._phase or "train"
        with self.faults.contain("criterion hook", self.split(name).batches):
            preds, target = _arguments(args, kwargs)
            if self._loader is None:
                self.split(name).add(self.preds(preds), target)
            if isinstance(loss, Tensor):
                self._add_loss(name, criterion, loss, target)
            if self._loader is None:
                self._counted(name, self.split(name).batches - 1)
                self._lap(name)
        if self._loader is None and name == "train" and not self.optimizer_seen:
            self._step_done()

    def on_step(self) -> None:
        """The optimizer has stepped."""
        with self.faults.contain("optimizer hook"):
            if self._loader is not None:
                self.split(self._loader).steps += 1
            else:
                if self._phase == "val":
                    self.faults.note("optimizer", STEP_IN_EVAL)
                self._lap("train")
                self._step_done()

    # Way c: the loop says it all.
    def update(self, preds: Tensor, target: Tensor, *, loss: Any, split: str, weight: Tensor | None) -> None:
        """Count a batch that the loop hands over."""
        if self._loader is None:
            self._enter(split)
            self._lap(split)
        self._batch, self._loss_due = None, False
        counts = self.split(split)
        with self.faults.contain("update", counts.batches):
            counts.add(preds, target, weight)
            if loss is not None:
                counts.add_loss(loss, target)
            self._counted(split, counts.batches - 1)
        if split == "train" and self._loader is None and not self.optimizer_seen:
            self._step_done()

    def close_epoch(self) -> None:
        """The epoch is over: the time since the last mark belongs to no split."""
        self._lap("other")
        self._leave()
        self._train_mark = 0.0
        self._forward_due = self._loss_due = False

    def _leave(self) -> None:
        self._phase = None
        if self.device is not None:
            self.device.end()

    def _enter(self, phase: str) -> None:
        if self._phase == phase:
            return
        if not self._started:  # what came before the first batch of a run is the user's setting up
            self._lap("other")
            self._started = True
        self._phase = phase
        if self.device is not None:
            self.device.begin(phase)

    def _lap(self, phase: str) -> float:
        return self.clock.lap(phase)

    def _step_done(self) -> None:
        self.split("train").steps += 1
        self._tick()

    def _tick(self) -> None:
        total = self.clock.seconds.get("train", 0.0)
        self.step_times.add(total - self._train_mark)
        self._train_mark = total

    def _add_loss(self, split: str, criterion: nn.Module, loss: Tensor, target: Tensor) -> None:
        if loss.ndim == 0 and getattr(criterion, "reduction", "mean") == "sum":
            loss = loss / max(1, target.numel())
        self.split(split).add_loss(loss.detach(), target)


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Predictions and targets of a criterion's call, by position or by torch's names `input` and `target`."""
    values = [*args, *(kwargs[key] for key in ("input", "target") if key in kwargs)]
    return values[0], values[1]


def check_metrics(metrics: object) -> None:
    """Refuse what is no metric of ours.

    Raises:
        ConfigError: If it is something else.
    """
    if not isinstance(metrics, TaskMetrics):
        cure = "Pass pm.MulticlassMetrics(num_classes=…)."
        raise ConfigError("metrics", "metrics of ptmetrics", type(metrics).__name__, cure)
