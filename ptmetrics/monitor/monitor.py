"""`Monitor`: put it on a loop that is already there; it counts, records, calls back."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from ptmetrics.metrics.task import TaskMetrics
from ptmetrics.monitor.callback_list import CallbackList
from ptmetrics.monitor.callbacks import Callback
from ptmetrics.monitor.capture import Capture
from ptmetrics.monitor.clock import DeviceEvent, NowNs, PhaseClock, device_spans
from ptmetrics.monitor.closing import close_epoch
from ptmetrics.monitor.diary import Diary, end_reason
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.monitor.faults import FaultLog, OnFault
from ptmetrics.monitor.hooks import Attachment, check_hookable
from ptmetrics.monitor.lifetime import Lifetime
from ptmetrics.monitor.phases import Phases
from ptmetrics.monitor.picks import Pick, Picks
from ptmetrics.monitor.progress import Progress
from ptmetrics.monitor.samples import ROWS
from ptmetrics.monitor.split import new_splits
from ptmetrics.monitor.state import RunState
from ptmetrics.monitor.totals import Totals
from ptmetrics.monitor.watched import Watched

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
        keep_samples: Validation samples of which the run folder keeps class or error, target and loss, for paired
            comparisons: 12 to 16 bytes each on the device, and as much on disk for up to three epochs; 0 keeps none.
        clock: Host nanoseconds.
        device_event: Makes a device event; None uses CUDA's when the attached model is on CUDA.

    Raises:
        RecordError: If the run folder exists already, or cannot be written.
        ConfigError: If an argument cannot work, or a callback names a score that there will not be.
    """

    def __init__(
        self,
        metrics: TaskMetrics,
        run: str | Path | None = None,
        callbacks: Sequence[Callback] = (),
        *,
        resume: bool = False,
        on_fault: OnFault = "record",
        progress: bool | None = None,
        config: Mapping[str, Any] | None = None,
        keep_samples: int = ROWS,
        clock: NowNs = time.perf_counter_ns,
        device_event: Callable[[], DeviceEvent] | None = None,
    ) -> None:
        splits = new_splits(metrics, keep_samples, recorded=run is not None)
        self.metrics = metrics
        self.model: nn.Module | None = None
        self.optimizer: Optimizer | None = None
        self.faults = FaultLog(on_fault, lambda fault: self.record("fault", fault.to_dict()))
        self.callbacks = CallbackList(callbacks, self.faults)
        self._diary = diary = Diary(run, resume=resume)
        self.path, self.history, self._standing = diary.path, diary.history, diary.standing
        self.totals = Totals(PhaseClock(clock))
        self._capture = Capture(splits, Phases(self.totals.clock), self.faults, self._counted)
        self._state = RunState(self._standing, self._capture, self.totals, self.callbacks)
        self._progress = Progress(progress, self._diary.name)
        self._device_event, self._config = device_event, dict(config or {})
        self._attachment: Attachment | None = None
        self._life = Lifetime(self._standing, self._begin, self._end)

    @property
    def epoch(self) -> int:
        """Number of the epoch under way."""
        return self._standing.epochs

    @property
    def stopping_reason(self) -> str | None:
        """Why the run was asked to stop."""
        return self._standing.stopping

    def attach(
        self,
        model: nn.Module,
        *,
        criterion: nn.Module | None = None,
        optimizer: Optimizer | None = None,
        preds: Pick | None = None,
        target: Pick | None = None,
        slices: Pick | None = None,
        group: Pick | None = None,
    ) -> Attachment:
        """Put hooks on, at once; the result detaches them, and is a context manager that does so.

        Args:
            model: The object that the loop calls (the wrapper, when it is compiled or distributed).
            criterion: The loss module. Without loader wrappers its calls show predictions, targets and loss.
            optimizer: Its steps are counted and timed.
            preds: From what the model returns to the tensor of predictions; default: the tensor, or its logits.
            target: From a loader's batch to the tensor of targets; default `batch[1]`.
            slices: From a loader's batch to the slice of each row, or None; only beside loader wrappers.
            group: Likewise to its group.

        Raises:
            HookError: If this monitor or the model is attached already.
            ConfigError: If an argument cannot take hooks.
        """
        check_hookable(model, criterion, optimizer, self._attachment)
        self.model, self.optimizer, capture = model, optimizer, self._capture
        self._life.begin()
        self._attachment = Attachment(capture, self._life, model, criterion, optimizer)
        capture.optimizer_seen = optimizer is not None
        capture.picks = Picks(preds, target, slices, group)
        capture.phases.device = capture.phases.device or device_spans(model, self._device_event)
        return self._attachment

    def epochs(self, count: int) -> Iterator[int]:
        """Yield epoch numbers up to `count`, close each epoch behind its body, and the run behind the last."""
        self._life.begin()
        with self._life.epochs():
            for number in self._progress.epochs(
                range(self.epoch, 0 if self.should_stop else count)
            ):
                yield number
                if self.epoch == number:
                    self.end_epoch()
                if self.should_stop:
                    break

    def train(self, loader: Iterable[Batch]) -> Watched[Batch]:
        """The batches of a training loader, watched."""
        return self._watched(loader, "train")

    def validate(self, loader: Iterable[Batch]) -> Watched[Batch]:
        """The batches of a validation loader, watched; calling `model.eval()` stays yours."""
        return self._watched(loader, "val")

    def _watched(self, loader: Iterable[Batch], split: str) -> Watched[Batch]:
        self._life.begin()
        return Watched(
            loader, lambda: self._capture.watch(self._progress.batches(loader, split), split)
        )

    def update(
        self,
        preds: Tensor,
        target: Tensor,
        *,
        loss: Tensor | float | None = None,
        split: str | None = None,
        sample_weight: Tensor | None = None,
        slices: Tensor | None = None,
        group: Tensor | None = None,
    ) -> None:
        """Count one batch; for training, call it after `optimizer.step()`.

        Args:
            preds: As the metric takes them.
            target: As the metric takes them.
            loss: Mean over the batch of shape (), or one value a target.
            split: "train", "val" or another name; None is that of the loader that is watched, else "val".
            sample_weight: Weights of the target's shape, for the metrics; the loss is taken as it is.
            slices: The slice of each row, as the metric takes it.
            group: The group of each row, likewise.
        """
        self._life.begin()
        beside = {"sample_weight": sample_weight, "slices": slices, "group": group}
        self._capture.update(preds, target, loss=loss, split=split, **beside)

    def end_epoch(self) -> EpochScores:
        """Compute, record, call back, begin anew; what could not be computed stands among the faults instead."""
        self._life.begin()
        scores = close_epoch(self.epoch, self._capture, self.totals, self.faults)
        self._diary.notes(self.totals.oddities(self._capture.phases.device))
        self._diary.epoch(
            scores
        )  # first, then call back: what a callback does can no longer lose the epoch
        self._standing.epochs, self._standing.half_done = self.epoch + 1, False
        self.faults.epoch = self.epoch
        self._progress.tell(scores)
        with self._capture.pause():
            self.callbacks.epoch_end(self, scores)
        self.totals.clock.lap("other")
        return scores

    def _counted(self, split: str, batch: int) -> None:
        self._standing.half_done = True
        self.callbacks.batch_end(self, split, batch)

    def stop(self, reason: str) -> None:
        """Ask the loop to stop after this epoch: `epochs()` does, other loops look at `should_stop`."""
        self._standing.stopping = reason

    @property
    def should_stop(self) -> bool:
        """Whether a callback has asked to stop."""
        return self._standing.stopping is not None

    def record(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add a line of your own to the run's record, such as `record("note", {"code": …, "message": …})`."""
        self._diary.append(kind, data)

    def state_dict(self) -> dict[str, Any]:
        """Where the run is: epoch, totals, half-done counts, callbacks. Tensors and plain values only."""
        return self._state.store()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a stored run was; the callbacks must be the same and in the same order.

        Raises:
            StateError: If the state does not fit; the current one is kept.
        """
        self._state.restore(state)
        self.faults.epoch = self.epoch

    def close(self, reason: str = "completed") -> None:
        """End the run: callbacks, the record's last line, hooks off. A second call does nothing."""
        self._life.end(reason)

    def __enter__(self) -> "Monitor":
        self._life.enter()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._life.leave(error)
        self.close(end_reason(None, self.stopping_reason))

    def _begin(self) -> None:
        self.callbacks.run_begin(self)
        self._diary.begin(self.metrics, self._config)

    def _end(self, reason: str) -> None:
        try:
            if self._life.begun:
                self.callbacks.run_end(self)
        finally:
            if self._attachment is not None:
                self._attachment.detach()
            self.faults.settle()
            self._diary.end(reason)
