"""`Monitor`: put it on a loop that is already there; it counts, records, calls back."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from ptmetrics.errors import HookError
from ptmetrics.loop.callback_list import CallbackList
from ptmetrics.loop.callbacks import Callback
from ptmetrics.loop.capture import Capture, check_metrics
from ptmetrics.loop.clock import DeviceEvent, NowNs, PhaseClock, device_spans
from ptmetrics.loop.closing import close_epoch
from ptmetrics.loop.diary import Diary, end_reason
from ptmetrics.loop.epoch import EpochScores
from ptmetrics.loop.faults import LOGGER, FaultLog, OnFault
from ptmetrics.loop.hooks import Attachment, Pick, pick_predictions, pick_target
from ptmetrics.loop.progress import Progress
from ptmetrics.loop.totals import Totals
from ptmetrics.record.history import History
from ptmetrics.scores.task import TaskMetrics

Batch = TypeVar("Batch")


class Monitor:
    """Watches a training loop: scores of each epoch and split, times, a record, callbacks.

    Three ways in give the same numbers: `train(loader)` and `validate(loader)` around the loop's own loaders;
    `attach(model, criterion=…, optimizer=…)` alone; or `update(preds, target, loss=…, split=…)`.

    Args:
        metrics: What to count, such as `MulticlassMetrics(10)`; each split gets a copy, this object stays as it is.
        run: Folder for the record; None keeps the history in memory only.
        callbacks: `Callback` objects, called in this order.
        resume: Go on with a run folder that exists.
        on_fault: "record" contains and counts what goes wrong in here; "raise" lets it through.
        progress: Show bars for epochs and batches; None shows them on a terminal only.
        config: Plain values of yours that belong into the record's header.
        clock: Host nanoseconds.
        device_event: Makes a device event; None uses CUDA's when the attached model is on CUDA.

    Raises:
        RecordError: If the run folder exists already, or cannot be written.
        ConfigError: If an argument cannot work, or a callback names a score that there will not be.
    """

    def __init__(
        self,
        metrics: TaskMetrics[Any],
        run: str | Path | None = None,
        callbacks: Sequence[Callback] = (),
        *,
        resume: bool = False,
        on_fault: OnFault = "record",
        progress: bool | None = None,
        config: Mapping[str, Any] | None = None,
        clock: NowNs = time.perf_counter_ns,
        device_event: Callable[[], DeviceEvent] | None = None,
    ) -> None:
        check_metrics(metrics)
        self.metrics, self.history, self.epoch = metrics, History(), 0
        self.stopping_reason: str | None = None
        self.model: nn.Module | None = None
        self.optimizer: Optimizer | None = None
        self.faults = FaultLog(on_fault, lambda fault: self.record("fault", fault.to_dict()))
        self.callbacks = CallbackList(callbacks, self.faults)
        self._diary = Diary(run, resume=resume)
        self.path = self._diary.path
        self.totals = Totals(PhaseClock(clock))
        self._capture = Capture(
            metrics, self.totals.clock, self.faults, partial(self.callbacks.batch_end, self)
        )
        self._progress = Progress(progress, self._diary.name)
        self._device_event, self._config = device_event, dict(config or {})
        self._attachment: Attachment | None = None
        self._begun = self._closed = False

    def attach(
        self,
        model: nn.Module,
        *,
        criterion: nn.Module | None = None,
        optimizer: Optimizer | None = None,
        preds: Pick | None = None,
        target: Pick | None = None,
    ) -> Attachment:
        """Put hooks on, at once; the result detaches them, and is a context manager that does so.

        Args:
            model: The object that the loop calls (the wrapper, when it is compiled or distributed).
            criterion: The loss module. Without loader wrappers its calls show predictions, targets and loss.
            optimizer: Its steps are counted and timed.
            preds: From what the model returns to the tensor of predictions; default: the tensor, or its logits.
            target: From a loader's batch to the tensor of targets; default `batch[1]`.

        Raises:
            HookError: If this monitor or the model is attached already.
            ConfigError: If an argument cannot take hooks.
        """
        self._begin()
        if self._attachment is not None and self._attachment.attached:
            cure = "Call detach() on the first attachment, or leave its with block."
            raise HookError("attach", "a monitor that is not attached", "one that is", cure)
        capture = self._capture
        self._attachment = Attachment(
            capture, model, criterion=criterion, optimizer=optimizer, on_exit=self._left
        )
        self.model, self.optimizer = model, optimizer
        capture.optimizer_seen = optimizer is not None
        capture.preds, capture.target = preds or pick_predictions, target or pick_target
        capture.device = capture.device or device_spans(model, self._device_event)
        return self._attachment

    def epochs(self, count: int) -> Iterator[int]:
        """Yield epoch numbers up to `count`, close each epoch behind its body, and the run behind the last."""
        self._begin()
        reason = "interrupted"  # the body broke out, or raised
        try:
            for number in self._progress.epochs(range(self.epoch, count)):
                yield number
                if self.epoch == number:
                    self.end_epoch()
                if self.stopping_reason:
                    break
            reason = end_reason(None, self.stopping_reason)
        finally:
            self.close(reason)

    def train(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        """The batches of a training loader, watched."""
        self._begin()
        return self._capture.watch(self._progress.batches(loader, "train"), "train")

    def validate(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        """The batches of a validation loader, watched; calling `model.eval()` stays yours."""
        self._begin()
        return self._capture.watch(self._progress.batches(loader, "val"), "val")

    def update(
        self,
        preds: Tensor,
        target: Tensor,
        *,
        loss: Tensor | float | None = None,
        split: str = "val",
        sample_weight: Tensor | None = None,
    ) -> None:
        """Count one batch; for training, call it after `optimizer.step()`.

        Args:
            preds: As the metric takes them.
            target: As the metric takes them.
            loss: Mean over the batch of shape (), or one value a target.
            split: "train", "val" or another name.
            sample_weight: Weights of the target's shape, for the metrics; the loss is taken as it is.
        """
        self._begin()
        self._capture.update(preds, target, loss=loss, split=split, weight=sample_weight)

    def end_epoch(self) -> EpochScores:
        """Compute, record and call back; the counts start again.

        Returns:
            Scores by split and name; what could not be computed is missing and stands among the faults.
        """
        self._begin()
        scores = close_epoch(self.epoch, self._capture, self.totals, self.faults)
        self._tell(scores)
        self.totals.clock.lap("other")
        return scores

    def _tell(self, scores: EpochScores) -> None:
        """Record first, then call back: what a callback does can no longer lose the epoch."""
        data = scores.to_record()
        self.record("epoch", data)
        self.history.append(data)
        self.epoch += 1
        self.faults.epoch = self.epoch
        shown = ("train/loss", "val/loss", "val/accuracy")
        self._progress.tell({name: scores[name] for name in shown if name in scores})
        self.callbacks.epoch_end(self, scores)

    def stop(self, reason: str) -> None:
        """Ask the loop to stop after this epoch: `epochs()` does, other loops look at `should_stop`."""
        self.stopping_reason = reason

    @property
    def should_stop(self) -> bool:
        """Whether a callback has asked to stop."""
        return self.stopping_reason is not None

    def record(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add a line of your own to the run's record, such as `record("note", {"code": …, "message": …})`."""
        self._diary.append(kind, data)

    def state_dict(self) -> dict[str, Any]:
        """Where the run is: epoch, totals, half-done counts, callbacks. Tensors and plain values only."""
        return {
            "epoch": self.epoch,
            "totals": self.totals.state_dict(),
            "splits": {name: split.state_dict() for name, split in self._capture.splits.items()},
            "callbacks": self.callbacks.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a stored run was; the callbacks must be the same and in the same order."""
        for name, counts in state["splits"].items():
            self._capture.split(name).load_state_dict(counts)
        self.callbacks.load_state_dict(state["callbacks"])
        self.totals.load_state_dict(state["totals"])
        self.epoch = self.faults.epoch = int(state["epoch"])

    def close(self, reason: str = "completed") -> None:
        """End the run: callbacks, the record's last line, hooks off. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self.callbacks.run_end(self)
        if self._attachment is not None:
            self._attachment.detach()
        if self.faults:
            LOGGER.warning("%d faults were contained in this run; the record lists them", len(self.faults))
        self._diary.end(reason, self.epoch, self.stopping_reason)

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(end_reason(error, self.stopping_reason))

    def _left(self, error: BaseException | None) -> None:
        if error is not None:
            self.close(end_reason(error))

    def _begin(self) -> None:
        if self._closed:
            cure = "Make a new Monitor; pass resume=True to go on in the same run folder."
            raise HookError("monitor", "an open monitor", "one that was closed", cure)
        if not self._begun:
            self._begun = True
            self.callbacks.run_begin(self)
            self._diary.begin(self.metrics, self._config)
