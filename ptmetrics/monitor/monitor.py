"""`Monitor`: put it on a loop that is already there; it counts, records, calls back."""

import atexit
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal
from weakref import WeakSet

from torch import Tensor, nn
from torch.optim import Optimizer

from ptmetrics.distributed import TIMEOUT_S
from ptmetrics.errors import ConfigError, PtmetricsError
from ptmetrics.extensions import EXTENDING_CALLBACKS, offered
from ptmetrics.monitor.callbacks import Callback, CallbackList
from ptmetrics.monitor.clock import DeviceEvent, NowNs, PhaseClock, device_spans
from ptmetrics.monitor.console import NO_VERDICT, Console, Show
from ptmetrics.monitor.epoch import EpochScores
from ptmetrics.monitor.extract import BatchExtractors, Extractor, is_causal
from ptmetrics.monitor.faults import (
    LOGGER,
    FaultLog,
    OnFault,
    Refusal,
    contained,
)
from ptmetrics.monitor.hooks import (
    Attachment,
    Criteria,
    check_hookable,
    take_over,
    why_unseen,
)
from ptmetrics.monitor.loaders import BatchT, MonitoredLoader
from ptmetrics.monitor.passes import acts_otherwise_in_training, holds_batch_norm
from ptmetrics.monitor.pictures import check_keep_inputs
from ptmetrics.monitor.ranks import RankSync
from ptmetrics.monitor.recorder import BatchRecorder, Block
from ptmetrics.monitor.run import HALF_DONE, RunLifecycle, RunRecorder, end_reason
from ptmetrics.monitor.run_epochs import RunEpochs
from ptmetrics.monitor.samples import DEFAULT_ROWS, check_keep_samples
from ptmetrics.monitor.split import (
    OneOrMore,
    SplitCounts,
    check_split,
    described,
    metrics_by_output,
)
from ptmetrics.monitor.telling import Told
from ptmetrics.record.printable import quantity
from ptmetrics.verdict.profile import ProfileLike, profile_of

IfExists = Literal["keep", "error", "overwrite", "resume"]
_OPEN_MONITORS: "WeakSet[Monitor]" = WeakSet()  # with a record to close

_the_loader = itemgetter(1)  # what a loop goes on with where its loader could not be wrapped


def _not_due(arguments: tuple[Any, ...]) -> bool:
    """What `every` returns where it failed."""
    return False


def _no_scores(arguments: tuple[Any, ...]) -> EpochScores:
    """What `end_epoch` returns where it failed."""
    return EpochScores(arguments[0].epoch, {}, {})


class Monitor:
    """Watches a training loop: scores of each epoch and split, times, a record, callbacks.

    Three ways in give the same numbers: `train(loader)` and `validate(loader)` around the loop's
    own loaders; `attach(model, criterion=…, optimizer=…)` alone; or
    `update(preds, target, loss=…, split=…)`.

    What goes wrong in here never ends the training: it is contained, counted and recorded. Threads
    may share a monitor; what a signal handler calls in the middle of a batch is done behind it.

    Args:
        metrics: What to count, such as `MulticlassMetrics(10)`; each split gets a copy, this object
            stays as it is. A list counts the same batches in several metrics. For a model of
            several outputs a dict: its names stand in front of the scores, as in `{"":
            MulticlassMetrics(10), "depth": RegressionMetrics()}`, and predictions and targets are
            dicts with the same keys.
        run: Folder for the record; None keeps the history in memory only. Where several ranks
            train together, rank 0 records the run, and each other one its faults beside it.
        callbacks: `Callback` objects, called in this order.
        if_exists: What becomes of a run that the folder holds. "keep" moves it to `earlier/1`,
            `earlier/2` and so on in the folder, and says so; "error" refuses; "overwrite" removes
            it; "resume" goes on with it: epoch number, best score and early stopping come from the
            record, unless `load_state_dict` tells them.
        resume: Older spelling of `if_exists="resume"`.
        on_fault: "contain" counts and records what goes wrong in here; "raise" lets it through.
        progress: Show bars for epochs and batches, a line an epoch and in the end the verdict; None
            does on a terminal and in a notebook only, "plain" leaves out bars and colour. False
            tells the log at level INFO, and not as a warning, where an earlier run is now.
        config: Plain values of yours that belong into the record's header.
        keep_samples: Validation samples of which the run folder keeps class or error, target and
            loss, for paired comparisons: 12 to 20 bytes each on the device, and as much on disk for
            up to three epochs; beside curves of up to 32 classes 4 more a class, by which their
            areas are compared; 0 keeps none.
        keep_inputs: So many of these samples, those with the highest loss, are kept as small
            pictures too, at most 32 × 32 pixels of 8 bits, where the model is given pictures of
            one or three channels; 0 keeps none, as what the model is given may be private.
        hygiene: Watch for faults of the loop itself, such as a validation in training mode
            (docs/hygiene.md), as a callback `LoopHygiene()` does; False leaves that out.
        sync: Merge what all ranks of `torch.distributed` counted, at the end of each epoch; False
            leaves each rank with its own share.
        sync_timeout_s: How long to wait there for a rank that does not come; then it is named, and
            the others go on with their shares.
        profile: What the run is judged by where nobody names another: "recall-first", "pixels", a
            TOML file, a mapping or `Thresholds`, as for `judge`. None for "balanced".
        clock: Host nanoseconds.
        device_event: Makes a device event; None uses CUDA's when the attached model is on CUDA.

    Attributes:
        model: The attached model.
        optimizer: Its optimizer.
        path: The run folder.
        history: The epochs so far.
        faults: What went wrong.
        config: What was passed so.
        end_reason: Why the run ended, as its record tells; None before.

    Raises:
        RecordError: If the run folder is written by another process, cannot be written, or holds a
            run of other metrics that is to be resumed.
        ConfigError: If an argument cannot work, or a callback names a score that there will not be.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> import ptmetrics as pm
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(64, 4)
        >>> batches = list(zip(x.split(16), x[:, :2].argmax(1).split(16)))
        >>> model, criterion = nn.Linear(4, 2), nn.CrossEntropyLoss()
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        >>> monitor = pm.Monitor(pm.MulticlassMetrics(2))
        >>> with monitor.attach(model, criterion=criterion, optimizer=optimizer):
        ...     for epoch in range(3):
        ...         for inputs, target in batches:
        ...             optimizer.zero_grad()
        ...             criterion(model.train()(inputs), target).backward()
        ...             optimizer.step()
        ...         with torch.no_grad():
        ...             for inputs, target in batches:
        ...                 _ = criterion(model.eval()(inputs), target)
        ...         epoch_scores = monitor.end_epoch()
        >>> epoch_scores["val/accuracy"].n
        64
        >>> len(monitor.history["val/loss"])
        3
    """

    def __init__(
        self,
        metrics: OneOrMore | Mapping[str, OneOrMore],
        run: str | Path | None = None,
        callbacks: Sequence[Callback] = (),
        *,
        if_exists: IfExists = "keep",
        resume: bool = False,
        on_fault: OnFault = "contain",
        progress: Show = None,
        config: Mapping[str, Any] | None = None,
        keep_samples: int = DEFAULT_ROWS,
        keep_inputs: int = 0,
        hygiene: bool = True,
        sync: bool = True,
        sync_timeout_s: float = TIMEOUT_S,
        profile: ProfileLike | None = None,
        clock: NowNs = time.perf_counter_ns,
        device_event: Callable[[], DeviceEvent] | None = None,
    ) -> None:
        check_keep_samples(keep_samples)
        check_keep_inputs(keep_inputs)
        self._profile = None
        if profile is not None:
            self._profile = profile_of(profile)
        self.metrics = metrics
        self.model: nn.Module | None = None
        self.optimizer: Optimizer | None = None
        self._metrics = metrics_by_output(metrics)
        self._ranks = RankSync(sync, sync_timeout_s, self._metrics)
        self.config = dict(config or {})
        self.end_reason: str | None = None
        self._device_event = device_event
        self._attachment: Attachment | None = None
        self.faults = FaultLog(on_fault, lambda fault: self._run.append("fault", fault.to_dict()))
        watchers: list[type[Callback]] = []
        if hygiene:
            watchers = offered(EXTENDING_CALLBACKS)
        self._callbacks = CallbackList(callbacks, self.faults, watchers)
        self._callbacks.init(self)  # before the folder of the run is made
        if resume:
            if_exists = "resume"
        self._process = os.getpid()
        told = logging.WARNING
        if progress is False:
            told = logging.INFO
        self._run: RunRecorder = RunRecorder(
            run, if_exists=if_exists, on_take=_close_own_run, told=told
        )
        self._status = self._run.status
        self.path = self._run.path
        self.history = self._run.history
        self._keep_samples = keep_samples
        self._keep_inputs = keep_inputs
        if run is None:
            self._keep_samples = 0
        self._clock = PhaseClock(clock)
        self._begun_epoch = -1  # whose callbacks were told
        self._console = Console(progress, self._run.name, self.faults, self._run.rank)
        self._epochs = RunEpochs(
            self,
            self._metrics,
            self.faults,
            self._run,
            self._callbacks,
            self._console,
            self._ranks,
        )
        self._recorder = BatchRecorder(
            self._new_split, self._clock, self.faults, self._status, self._told()
        )
        self._epochs.recorder = self._recorder
        self._lifecycle = RunLifecycle(self._status, self._begin, self._left, self._end)
        if self._run.before is not None:
            self._epochs.go_on(self._status.epochs)
        if self._run.writes:
            _OPEN_MONITORS.add(self)

    def _told(self) -> Told:
        """Whom the recorder tells; those that no callback asks for are not."""
        on_counted = None
        if self._callbacks.each_batch:
            on_counted = self._batch_counted
        began = None
        if self._callbacks.each_epoch:
            began = self._epoch_begins
        served = None
        if self._callbacks.each_begin:
            served = self._batch_begins
        answered = None
        if self._callbacks.each_answer:
            answered = self._answered
        return Told(
            self._epochs.say,
            self._close_epoch_by_steps,
            self._epochs.close_validation,
            on_counted,
            began,
            served,
            answered,
        )

    @property
    def epoch(self) -> int:
        """Number of the epoch under way."""
        return self._status.epochs

    @property
    def should_stop(self) -> bool:
        """Whether a callback has asked to stop."""
        return self._status.stopping is not None

    @property
    def stopping_reason(self) -> str | None:
        """Why the run was asked to stop."""
        return self._status.stopping

    @property
    def scores(self) -> EpochScores:
        """Those of the last epoch that was closed; none before."""
        if self._epochs.scores is None:
            return EpochScores(0, {}, {})
        return self._epochs.scores

    def __repr__(self) -> str:
        return f"Monitor({self._run.name!r}, {quantity(self._status.epochs, 'epoch')})"

    def _repr_html_(self) -> str:
        from ptmetrics.show.html import epoch_html, for_notebook

        scores = self._epochs.scores
        if scores is None:
            return for_notebook("notes", ["No epoch was closed yet."])
        return epoch_html(scores.to_record(), f"Epoch {scores.epoch + 1} of {self}")

    @property
    def rank(self) -> int:
        """Number of this process among those that train together; 0 alone."""
        return self._run.rank

    @property
    def records(self) -> bool:
        """Whether this process writes a record."""
        return self._run.writes

    @property
    def sync_timeout_s(self) -> float | None:
        """How long it waits for other ranks; None where there are none to merge with."""
        return self._ranks.timeout_s if self._ranks.due else None

    @property
    def score_names(self) -> list[str]:
        """Names of the scores of a split, its loss first."""
        return list(self.score_directions)

    @property
    def by_steps(self) -> bool:
        """Whether its epochs are so many steps, by `every`, and no passes of the training data."""
        return self._recorder.every > 0

    @cached_property
    def score_directions(self) -> dict[str, bool | None]:
        """Whether a higher value is better, for each score of a split; None if not declared."""
        directions: dict[str, bool | None] = {"loss": False}
        for output, each in self._metrics.items():
            for metric in each:
                for name, score in metric.fresh().compute().items():
                    directions[f"{output}/{name}".lstrip("/")] = score.higher_is_better
        return directions

    @contained("attach", raises=True)
    def attach(
        self,
        model: nn.Module,
        *,
        criterion: Criteria = None,
        optimizer: Optimizer | None = None,
        preds: Extractor | Mapping[str, Extractor] | None = None,
        target: Extractor | Mapping[str, Extractor] | None = None,
        labels: str | None = None,
        loss: Extractor | None = None,
        shift: bool | None = None,
        slices: Extractor | None = None,
        group: Extractor | None = None,
    ) -> Attachment:
        """Put hooks on, at once; the result detaches them, and is a context manager that does so.

        Args:
            model: The object that the loop calls (the wrapper, when it is compiled or distributed;
                calls of what it wraps, such as `model.module(x)`, count as well).
            criterion: What computes the loss: a module, or a function such as `F.cross_entropy`,
                which is watched where it is called through its own module; or a pair of them, for
                training and validation. Without loader wrappers its calls show predictions, targets
                and loss.
            optimizer: Its steps are counted and timed.
            preds: From what the model returns to the tensor of predictions; default: the tensor, or
                its logits. For several outputs a dict of such, or a function that returns a dict.
            target: From a loader's batch to the tensor of targets; default `batch[1]`, or
                `batch["labels"]` or `batch["label"]`. For several outputs likewise.
            labels: Name of the model's own argument that holds the targets, for a model that
                returns its loss, as those of Hugging Face do; arguments that are called `labels`
                or `label` are found without it where there is no criterion.
            loss: From what the model returns to its loss; default its `.loss`, `["loss"]` or only
                number.
            shift: Whether each answer (N, T, C) is about the next target (N, T), as in a causal
                language model; None takes it from the model's type.
            slices: From a loader's batch to the slice of each row, or None; only beside loader
                wrappers.
            group: Likewise to its group.

        Raises:
            HookError: If this monitor is attached already, or calls cannot be watched.
            ConfigError: If an argument is of the wrong type.
        """
        criteria = check_hookable(model, criterion, optimizer, self._attachment)
        before = self.model, self.optimizer
        self.model = model
        self.optimizer = optimizer
        try:
            self._lifecycle.begin()
            take_over(model, self.path)
            attachment = Attachment(
                self._recorder, self._lifecycle, model, criteria, optimizer, self.path
            )
        except BaseException:
            self.model, self.optimizer = before
            raise
        if shift is None:
            shift = is_causal(model)
        several = list(self._metrics) != [""]
        recorder = self._recorder
        recorder.extractors = BatchExtractors(
            preds, target, slices, group, labels, loss, shift, several
        )
        recorder.optimizer_seen = optimizer is not None
        recorder.criterion_seen = criterion is not None
        recorder.blind = why_unseen(criteria)
        recorder.mode.matters = acts_otherwise_in_training(model)
        recorder.batch_norm = holds_batch_norm(model)
        if self._clock.device is None:
            self._clock.device = device_spans(model, self._device_event)
        self._attachment = attachment
        return attachment

    def epochs(self, count: int) -> Iterator[int]:
        """Yield epoch numbers up to `count`; each epoch is closed behind its body, then the run.

        Inside of a `with` block of the monitor or of `attach` the block ends the run.

        Behind the last one, or a break, `EarlyStopping(restore_best=True)` has put its weights back.
        """
        faults = self.faults
        status = self._status
        bar = None
        numbers = range(status.epochs, count)
        try:
            self._begin_epochs()
            message = f"Planned: {quantity(count, 'epoch')}."
            told = {"code": "planned", "message": message, "epochs": count}
            self._run.append("note", told)
            if status.stopping is not None:
                numbers = range(0)
                self._epochs.say("stopped", f"the run had stopped: {status.stopping}")
            bar = self._console.begin_epochs(numbers)
        except PtmetricsError:  # a refusal
            raise
        except faults.kept_in as error:
            faults.strays.append(error)
        try:
            for number in numbers:
                with suppress(*faults.kept_in):
                    self._begin_epoch()
                yield number
                with suppress(*faults.kept_in):
                    if status.epochs <= number:
                        self.end_epoch()
                    if bar is not None:
                        self._console.advance(bar)
                if status.stopping is not None:
                    break
        except BaseException as error:
            with suppress(*faults.kept_in):
                self._end_epochs(error)
            raise
        finally:
            if bar is not None:
                with suppress(*faults.kept_in):
                    self._console.end(bar)
        with suppress(*faults.kept_in):
            self._end_epochs(None)

    @contained("epochs")
    def _begin_epochs(self) -> None:
        self._lifecycle.begin()

    @contained("epochs")
    def _begin_epoch(self) -> None:
        self._epoch_begins()

    def _epoch_begins(self) -> None:
        """Tell the callbacks, once an epoch."""
        if self._begun_epoch != self.epoch and not self._lifecycle.closed:
            self._begun_epoch = self.epoch
            with self._recorder.pause():
                self._callbacks.epoch_begin(self)

    @contained("epochs")
    def _end_epochs(self, error: BaseException | None) -> None:
        if isinstance(error, GeneratorExit):
            self._lifecycle.leave_epochs()
        elif error is None and self._lifecycle.inside:
            self._lifecycle.epochs_done()
        else:
            self._lifecycle.end(end_reason(error, self._status.stopping))

    @contained("loader", _the_loader)
    def train(self, loader: Iterable[BatchT]) -> MonitoredLoader[BatchT]:
        """The batches of a training loader, monitored."""
        self._lifecycle.begin()
        return MonitoredLoader(loader, "train", self._recorder, self._console)

    @contained("loader", _the_loader)
    def validate(self, loader: Iterable[BatchT], split: str = "val") -> MonitoredLoader[BatchT]:
        """The batches of a validation loader, monitored; calling `model.eval()` stays yours.

        Each pass is a validation of its own; the last one of an epoch stands in its scores, those
        before it stand in the record by their step.

        Args:
            loader: Yields the batches.
            split: What they count as: a name for each of several validation sets.
        """
        return self._monitored(loader, split)

    @contained("loader", _the_loader)
    def test(self, loader: Iterable[BatchT]) -> MonitoredLoader[BatchT]:
        """The batches of a test loader, monitored: of the split "test".

        Behind the last epoch it is a part of the record of its own: behind `epochs()`, which ends
        the run, inside of a `with` block of the monitor or of `attach`.
        """
        return self._monitored(loader, "test")

    def _monitored(self, loader: Iterable[BatchT], split: str) -> MonitoredLoader[BatchT]:
        self._lifecycle.begin()
        check_split(split)
        return MonitoredLoader(loader, split, self._recorder, self._console)

    @contained("split", raises=True)
    def split(self, name: str) -> Block:
        """Count what the model answers in this block as a split of this name.

        For a pass over the training data in evaluation mode, a second validation set, a test set
        or the average of the weights. With a criterion attached its calls count, whoever answered.

        Args:
            name: Such as "train_eval", "test" or "ema".

        Example:
            >>> import torch
            >>> import ptmetrics as pm
            >>> model, criterion = torch.nn.Linear(4, 2).eval(), torch.nn.CrossEntropyLoss()
            >>> monitor = pm.Monitor(pm.MulticlassMetrics(2))
            >>> with monitor.attach(model, criterion=criterion), monitor.split("train_eval"):
            ...     _ = criterion(model(torch.randn(8, 4)), torch.zeros(8).long())
            >>> monitor.end_epoch()["train_eval/accuracy"].n
            8

        Raises:
            ConfigError: If no split can have that name.
        """
        check_split(name)
        self._lifecycle.begin()
        return Block(self._recorder.name_split, name, self._recorder.go_back_to_split)

    @contained("pause", raises=True)
    def pause(self) -> Block:
        """Count nothing of what the model answers in this block.

        Example:
            >>> import torch
            >>> import ptmetrics as pm
            >>> model, criterion = torch.nn.Linear(4, 2).eval(), torch.nn.CrossEntropyLoss()
            >>> monitor = pm.Monitor(pm.MulticlassMetrics(2))
            >>> with monitor.attach(model, criterion=criterion):
            ...     with monitor.pause():
            ...         _ = criterion(model(torch.randn(8, 4)), torch.zeros(8).long())
            ...     _ = criterion(model(torch.randn(3, 4)), torch.zeros(3).long())
            >>> monitor.end_epoch()["val/accuracy"].n
            3
        """
        return Block(self._recorder.set_paused, True, self._recorder.set_paused)

    @contained("every", _not_due)
    def every(self, *, steps: int) -> bool:
        """For loops without epochs: close an evaluation every so many steps of the optimizer.

        What was counted is closed as an epoch when training goes on behind that step, so that a
        validation there belongs to it. Call it once, or in each step to ask whether a validation is
        due.

        Args:
            steps: Training steps from one evaluation to the next, 1 or more.

        Returns:
            Whether so many steps were done since the last evaluation.

        Example:
            >>> import torch
            >>> import ptmetrics as pm
            >>> monitor = pm.Monitor(pm.MulticlassMetrics(2))
            >>> preds, target = torch.eye(2), torch.tensor([0, 1])
            >>> for step in range(6):
            ...     monitor.update(preds, target, split="train")
            ...     if monitor.every(steps=2):
            ...         monitor.update(preds, target, split="val")
            ...         _ = monitor.end_epoch()
            >>> monitor.history.step
            [2, 4, 6]

        Raises:
            ConfigError: If it is no number of steps.
        """
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            cure = "Pass every(steps=500)."
            raise Refusal(ConfigError("steps", "a whole number of 1 or more", repr(steps), cure))
        self._recorder.every = steps
        return self._recorder.steps >= steps

    @contained("update")
    def update(
        self,
        preds: Tensor | Mapping[str, Tensor],
        target: Tensor | Mapping[str, Tensor],
        *,
        loss: Tensor | float | None = None,
        reduction: str = "mean",
        split: str | None = None,
        sample_weight: Tensor | Mapping[str, Tensor] | None = None,
        slices: Tensor | None = None,
        group: Tensor | None = None,
        inputs: Tensor | None = None,
    ) -> None:
        """Count one batch; for training, call it after `optimizer.step()`.

        Args:
            preds: As the metric takes them; for several outputs a dict by their names.
            target: Likewise.
            loss: Mean over the batch of shape (), or one value a target.
            reduction: "sum" where the loss is a sum over the batch.
            split: "train", "val" or another name; None is that of the loader under way, else "val".
            sample_weight: Weights of the target's shape, for the metrics; the loss is taken as it
                is.
            slices: The slice of each row, as the metric takes it.
            group: The group of each row, likewise.
            inputs: What the model was given, for `keep_inputs`.

        Raises:
            ConfigError: If no split can have that name.
        """
        self._lifecycle.begin()
        self._recorder.update(
            preds,
            target,
            loss=loss,
            reduction=reduction,
            split=split,
            sample_weight=sample_weight,
            slices=slices,
            group=group,
            inputs=inputs,
        )

    @contained("update")
    def update_loss(
        self, loss: Tensor | float, *, reduction: str = "mean", split: str | None = None
    ) -> None:
        """Count the loss of the batch that was counted last, where nothing else shows it.

        Args:
            loss: As for `update`.
            reduction: As for `update`.
            split: As for `update`.

        Raises:
            StateError: If no batch was counted.

        Example:
            >>> import torch
            >>> import ptmetrics as pm
            >>> monitor = pm.Monitor(pm.MulticlassMetrics(2))
            >>> monitor.update(torch.eye(2), torch.tensor([0, 1]), split="val")
            >>> monitor.update_loss(0.5, split="val")
            >>> monitor.end_epoch()["val/loss"].value
            0.5
        """
        self._lifecycle.begin()
        self._recorder.update_loss(loss, split=split, reduction=reduction)

    @contained("end_epoch", _no_scores)
    def end_epoch(self, epoch: int | None = None) -> EpochScores:
        """Compute, record, call back, begin anew.

        What could not be computed is missing in the result, and stands among the faults instead.

        Args:
            epoch: Number of the epoch, from 0, for a loop that counts its own, as when it begins
                at a checkpoint of the script's; recorded epochs from it on are superseded, and
                that is said. None goes on counting.
        """
        self._lifecycle.begin()
        if epoch is not None:
            self._epochs.count_from(epoch)
        return self._epochs.close()

    def _new_split(self, name: str) -> SplitCounts:
        if name == "val":
            return SplitCounts(self._metrics, self._keep_samples, self._keep_inputs)
        return SplitCounts(self._metrics)

    def _close_epoch_by_steps(self) -> None:
        """The recorder has seen as many steps as an evaluation is to have, and a further batch."""
        self._epochs.close()
        self._epoch_begins()

    def _batch_begins(self, split: str, inputs: Any) -> None:
        with self._recorder.pause():
            self._callbacks.batch_begin(self, split, inputs)

    def _batch_counted(self, split: str, batch: int) -> None:
        with self._recorder.pause():
            self._callbacks.batch_end(self, split, batch)

    def _answered(self, split: str, number: int, given: Any, output: Any) -> None:
        with self._recorder.pause():
            self._callbacks.answer(self, split, number, given, output)

    def stop(self, reason: str) -> None:
        """Ask the loop to stop after this epoch; those without `epochs()` ask `should_stop`."""
        self._epochs.stop(reason)

    @contained("restored")
    def restored(self, epoch: int) -> None:
        """Say that the model has the weights of an earlier epoch again: that one is judged."""
        self._status.restored = epoch
        message = f"The model has the weights of epoch {epoch + 1} again."
        told = {"code": "restored", "message": message, "epoch": epoch, "epochs": self.epoch}
        self._run.append("note", told)

    @contained("saved")
    def saved(self, path: str | os.PathLike[str], best: bool = False) -> None:
        """Tell of a checkpoint that the script has written itself.

        It is of the epoch under way once something of it was counted, else of the last one.

        Args:
            path: Its file or folder.
            best: Whether the script holds it for its best so far: then its epoch is judged, before
                that of a callback's best checkpoint.
        """
        self._lifecycle.begin()
        epoch = self.epoch
        if not self._status.half_done:
            epoch -= 1
        why = "saved"
        if best:
            why = "best"
        told: dict[str, Any] = {"path": os.fsdecode(path), "why": why, "by": "script"}
        if epoch >= 0:
            told["epoch"] = epoch
        self._run.append("checkpoint", told)

    @contained("record")
    def record(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add a line of yours to the record: `record("note", {"code": …, "message": …})`."""
        self._run.append(kind, data)
        if kind == "note" and not self.records:
            note: Any = {"code": "", "message": "", **data}
            self.history.notes.append(note)

    @contained("state_dict", raises=True)
    def state_dict(self) -> dict[str, Any]:
        """Epoch, totals, half-done counts, callbacks: tensors and plain values only."""
        return self._epochs.state_dict()

    @contained("load_state_dict", raises=True)
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a stored run was; the callbacks must be the same and in the same order.

        Raises:
            StateError: If the state does not fit; the current one is kept.
        """
        self._epochs.load_state_dict(state)
        self._run.tell_gap()
        self._tell_half_epoch()

    def _tell_half_epoch(self) -> None:
        """A loop that trains the epoch of its state again counts what the state holds once more."""
        counted = [
            f"{quantity(split.samples, 'row')} of {name}"
            for name, split in self._recorder.splits.items()
            if split.samples
        ]
        if counted:
            self._epochs.say(
                "half-epoch",
                f"load_state_dict: the state was taken within epoch {self.epoch + 1} and holds "
                f"{' and '.join(counted)}, to which what comes is added. Where that epoch is trained "
                "again, take the state behind its end: monitor.end_epoch(), or pm.Checkpoint, whose "
                "last.pt holds it.",
            )

    @contained("close")
    def close(self, reason: str = "completed") -> None:
        """End the run: callbacks, the record's last line, hooks off. A second call does nothing."""
        self._lifecycle.end(reason)

    def __enter__(self) -> "Monitor":
        self._lifecycle.inside += 1
        return self

    @contained("close")
    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._lifecycle.leave_block(error)
        self._lifecycle.end(end_reason(None, self.stopping_reason))

    def _begin(self) -> None:
        self._callbacks.run_begin(self)
        with self.faults.containing("record", refuse=(PtmetricsError,)):
            self._run.begin(described(self._metrics), self.config, self._profile)
        self._run.expect_end()

    def _left(self) -> None:
        """The loop over the epochs, or a block around it, is left."""
        if self._lifecycle.begun:
            self._callbacks.train_end(self)

    def _end(self, reason: str) -> None:
        self.end_reason = reason
        if self._epochs.unattended or reason not in ("completed", "early stopping"):
            self._ranks.wanted = False  # the others may have gone
        else:
            self._run.closed_by_user()
        with self.faults.containing("close"):
            self._recorder.finish()
        attended = self._lifecycle.begun and not self._epochs.unattended
        with ExitStack() as stack:  # each is done, whatever happens to those before it
            stack.callback(self._run.end, reason)
            stack.callback(self.faults.summarize)
            if self._attachment is not None:
                stack.callback(self._attachment.detach)
            if attended:
                stack.callback(self._callbacks.run_end, self)
                stack.callback(self._callbacks.train_end, self)
            if not reason.startswith(NO_VERDICT):
                self._epochs.close_half_done()
        self._recorder.closed = True
        _OPEN_MONITORS.discard(self)
        if attended and not reason.startswith(NO_VERDICT):
            with self.faults.containing("progress"):
                self._console.verdict(self, self.path)

    @contained("close")
    def _abandon(self) -> None:
        """Nobody closed the run: it is complete if nothing failed and every epoch was closed."""
        if self._lifecycle.closed or not self.records or self._process != os.getpid():
            return
        self._epochs.unattended = True
        error = self._run.error_of_run()
        reason = end_reason(error, self.stopping_reason)
        if error is None and self._lifecycle.begun:
            self._recorder.finish()
            if self._status.half_done and self.epoch and not self._epochs.is_last_evaluation():
                reason = HALF_DONE
            self._epochs.close_half_done()
            self._callbacks.unattended()
        self._lifecycle.end(reason)

    def __del__(self) -> None:
        if hasattr(self, "_lifecycle"):  # else it was refused while it was made
            self._abandon()


def _close_own_run(folder: Path) -> None:
    """A run that this process still writes is over when a new one begins in its folder.

    So it is when a notebook's cell is run again.
    """
    for monitor in list(_OPEN_MONITORS):
        if monitor.path is not None and os.path.realpath(monitor.path) == os.path.realpath(folder):
            LOGGER.warning("%s: the run that was open here is closed for a new one", folder)
            monitor._abandon()


@atexit.register
def _close_all() -> None:
    """The process ends."""
    for monitor in list(_OPEN_MONITORS):
        monitor._abandon()
