"""From what happens in the loop to counts: the one place where all three ways in meet."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ptmetrics.errors import ConfigError, DtypeError, HookError
from ptmetrics.monitor.clock import PhaseClock
from ptmetrics.monitor.faults import (
    COUNTED_TWICE,
    IDS_WITHOUT_BATCH,
    NO_FORWARD,
    STEP_IN_EVAL,
    TRAINING_MODE,
    FaultLog,
    Refusal,
    contained,
)
from ptmetrics.monitor.run import RunStatus
from ptmetrics.monitor.split import SplitCounts

Extractor: TypeAlias = Callable[[Any], Any]
NO_BATCH = object()

# The task of autograd that runs, −1 for none: a forward within one is activation checkpointing,
# which repeats a forward that was counted.
backward_task: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", lambda: -1)


@dataclass(frozen=True)
class BatchExtractors:
    """Where predictions, targets and ids stand in what a model returns and a loader yields.

    For several outputs `preds` and `target` are mappings by their names, or return such.

    Attributes:
        preds: In what the model returns; by default the tensor, its `.logits`, `["logits"]`,
            `["out"]` or first part.
        target: In a batch of the loader; by default `batch[1]`.
        slices: In a batch of the loader; None for nowhere.
        group: Likewise.
        several: Whether there are several outputs.
    """

    preds: Extractor | Mapping[str, Extractor] | None = None
    target: Extractor | Mapping[str, Extractor] | None = None
    slices: Extractor | None = None
    group: Extractor | None = None
    several: bool = False

    @property
    def ids(self) -> bool:
        """Whether slices or groups are looked for."""
        return self.slices is not None or self.group is not None

    def read(self, output: Any, batch: Any) -> tuple[Any, Any, dict[str, Any]]:
        """The predictions, targets and ids of a batch, on the device of the predictions."""
        preds = output
        if type(output) is not Tensor or self.preds is not None:
            preds = self.predictions(output)
        if self.target is not None:
            target = _extracted(self.target, batch)
        elif isinstance(batch, list | tuple) and len(batch) > 1:
            target = batch[1]
        else:
            target = None
        plain = type(preds) is Tensor and type(target) is Tensor
        if not plain or target.device != preds.device:
            target = _targets_beside(preds, target, batch)
        if self.slices is None and self.group is None:
            return preds, target, {}
        return preds, target, self._ids(preds, batch)

    def predictions(self, output: Any) -> Any:
        """The predictions in what a model returned.

        Raises:
            DtypeError: If there are none.
        """
        if self.preds is not None:
            return _extracted(self.preds, output)
        if self.several and _all_tensors(output):
            return output
        found = getattr(output, "logits", output)
        if isinstance(found, Mapping):
            found = found.get("logits", found.get("out"))
        elif isinstance(found, list | tuple) and found:
            found = found[0]
        if not isinstance(found, Tensor):
            cure = "Say where they are: attach(model, preds=lambda output: …)."
            got = type(output).__name__
            raise DtypeError("model output", "a tensor, or logits in it", got, cure)
        return found

    def _ids(self, preds: Any, batch: Any) -> dict[str, Any]:
        first = preds
        if isinstance(preds, Mapping):
            first = next(iter(preds.values()))
        ids = {}
        for name, extract in (("slices", self.slices), ("group", self.group)):
            if extract is not None:
                found = extract(batch)
                if found is not None:
                    ids[name] = found.to(first.device, non_blocking=True)
        return ids


def _extracted(extractor: Extractor | Mapping[str, Extractor], source: Any) -> Any:
    if isinstance(extractor, Mapping):
        return {name: extract(source) for name, extract in extractor.items()}
    return extractor(source)


def _all_tensors(found: Any) -> bool:
    return isinstance(found, Mapping) and all(isinstance(v, Tensor) for v in found.values())


def _targets_beside(preds: Any, target: Any, batch: Any) -> Any:
    """Targets on the device of the predictions.

    Raises:
        DtypeError: If there are none.
    """
    if isinstance(target, Tensor) and isinstance(preds, Tensor):
        return target.to(preds.device, non_blocking=True)
    if _all_tensors(target) and isinstance(preds, Mapping):
        moved = {}
        for name, values in target.items():
            moved[name] = values
            if name in preds:
                moved[name] = values.to(preds[name].device, non_blocking=True)
        return moved
    cure = "Say where they are: attach(model, target=lambda batch: …)."
    raise DtypeError("batch", "a pair (inputs, targets)", type(batch).__name__, cure)


def _criterion_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Predictions and targets of a call: by the names `input` and `target`, else in their order.

    Raises:
        HookError: If there are no two of them.
    """
    named: dict[str, Any] = {name: kwargs[name] for name in ("input", "target") if name in kwargs}
    named.update(kwargs)  # those of other names come last
    values = [*args, *named.values()]
    if len(values) < 2:
        rule = "a call with predictions and targets"
        cure = "Call it with both, or hand them over with monitor.update()."
        raise HookError("criterion", rule, f"{len(values)} argument", cure)
    return values[0], values[1]


class LoaderPass:
    """One pass over a monitored loader.

    Args:
        split: The split of its batches.
        outer: The pass that it stands inside of, as in a training epoch that is validated in its
            middle.
        due: What the criterion had not seen yet when it began.

    Attributes:
        batch: The batch that the model has not answered yet.
        begun: Whether there was a batch.
    """

    __slots__ = ("batch", "begun", "due", "outer", "split")

    def __init__(self, split: str, outer: "LoaderPass | None", due: str | None) -> None:
        self.split = split
        self.outer = outer
        self.due = due
        self.batch: Any = NO_BATCH
        self.begun = False


class BatchRecorder:
    """Counts batches by split and gives the time to phases. Its events are ways in from the loop.

    Args:
        new_split: Makes the counts of a split by its name.
        clock: Where the time goes.
        faults: Contains and counts what goes wrong.
        status: Told that an epoch is half done.
        on_counted: Called with split and number of each batch that was counted; None for nobody.

    Attributes:
        splits: What was counted in the epoch under way.
        extractors: Where things stand in a batch.
        optimizer_seen: Whether steps are seen; else each training batch is one.
        closed: Whether the run has ended: a loader that is still iterated has nothing to tell.
    """

    def __init__(
        self,
        new_split: Callable[[str], SplitCounts],
        clock: PhaseClock,
        faults: FaultLog,
        status: RunStatus,
        on_counted: Callable[[str, int], None] | None = None,
    ) -> None:
        self._new_split = new_split
        self._on_counted = on_counted
        self._status = status
        self.clock = clock
        self.faults = faults
        self.splits: dict[str, SplitCounts] = {}
        self.extractors = BatchExtractors()
        self.optimizer_seen = False
        self.closed = False
        self._loader: LoaderPass | None = None  # the pass under way
        self._loader_splits: set[str] = set()  # bare calls do not count for them
        self._due: str | None = None  # split of the answer that the criterion has not seen yet
        self._hooked: str | None = None  # split for which a hook has counted the last answer
        self._paused = False
        self._recomputed = False
        self._without_grad = 0  # training batches whose loss no gradient can reach

    def split(self, name: str) -> SplitCounts:
        """The counts of a split, made on first use."""
        if name not in self.splits:
            self.splits[name] = self._new_split(name)
        return self.splits[name]

    # Way a: the loader is monitored, the model answers for each batch.

    @contained("loader")
    def enter_loader(self, split: str) -> LoaderPass | None:
        """A pass over a loader begins; None where that failed."""
        outer = "other"
        if self._loader is not None:
            outer = self._loader.split
        self.clock.lap(outer)
        self.clock.enter(split)
        self.split(split)
        self._loader = LoaderPass(split, self._loader, self._due)
        self._due = None
        self._loader_splits.add(split)
        return self._loader

    @contained("loader")
    def next_batch(self, loader: LoaderPass, batch: Any, asked: int) -> None:
        """The loop asked for a batch at `asked`: the one before is done; `NO_BATCH` is the end."""
        if self.closed:
            return
        unanswered = loader.batch is not NO_BATCH
        done, loader.begun = loader.begun, True
        loader.batch = batch
        self._due = None
        self._hooked = None
        split = loader.split
        self.clock.lap(split, asked)
        if done and split == "train" and not self.optimizer_seen:
            self._step_done()
        if batch is not NO_BATCH:
            if self.clock.phase != split:  # what ran inside of the last batch may have left it
                self.clock.enter(split)
            self.clock.lap(split, waited=True)
        if unanswered:
            self.faults.warn(NO_FORWARD)

    @contained("loader")
    def leave_loader(self, loader: LoaderPass) -> None:
        """The pass is over, or was left."""
        if self._loader is loader:
            self._loader = loader.outer
            self._due = loader.due
        else:  # an iterator that was held while another one was begun
            inner = self._loader
            while inner is not None and inner.outer is not loader:
                inner = inner.outer
            if inner is not None:
                inner.outer = loader.outer
        self.clock.lap(loader.split)
        self.clock.leave()

    # Way b: hooks alone. Ways a and b share them: where a loader is under way, it is way a.

    @contained("model hook")
    def on_forward_begin(self, model: nn.Module, args: Any = ()) -> None:
        """The model is called."""
        if self._loader is not None or self._paused or backward_task() != -1:
            return
        self._hooked = None
        split = "train" if model.training else "val"
        if split in self._loader_splits:
            return
        clock = self.clock
        if clock.phase is None:  # before an epoch's first call the user does other things
            clock.lap("other")
        clock.enter(split)
        clock.lap(split, waited=clock.waiting)

    @contained("model hook")
    def on_forward(self, model: nn.Module, args: Any, output: Any) -> None:
        """The model has answered; the first answer to a loader's batch counts."""
        if backward_task() != -1:
            self._recomputed = True
            return
        loader = self._loader
        if loader is None:
            split = "train" if model.training else "val"
            self._due = split
            if self._paused or split in self._loader_splits:
                self._due = None
            return
        if loader.batch is NO_BATCH:
            return
        batch = loader.batch
        name = loader.split
        loader.batch = NO_BATCH
        self._due = name
        if name == "val" and model.training:
            self.faults.warn(TRAINING_MODE)
        counts = self.splits.get(name) or self.split(name)
        self.faults.step = counts.batches
        preds, target, ids = self.extractors.read(output, batch)
        counts.add(preds, target, **ids)
        self._hooked = name
        self._status.half_done = True
        if self._on_counted is not None:
            self._on_counted(name, counts.batches - 1)

    @contained("criterion hook")
    def on_criterion(
        self, criterion: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], loss: Any
    ) -> None:
        """The loss was computed; only the first after an answer of the model counts."""
        if self._due is None or backward_task() != -1:
            return
        name = self._due
        self._due = None
        counts = self.splits.get(name) or self.split(name)
        self.faults.step = counts.batches
        if not isinstance(loss, Tensor):
            loss = None
        reduction = getattr(criterion, "reduction", "mean")
        pair = args
        if self._loader is not None:
            if loss is not None:
                if len(args) != 2 or kwargs:
                    pair = _criterion_arguments(args, kwargs)
                target = pair[1]
                if isinstance(target, Mapping):
                    target = counts.main_target(target)
                counts.loss.update(loss, target, reduction)
            return
        try:
            if len(args) != 2 or kwargs:
                pair = _criterion_arguments(args, kwargs)
            self._count_bare(counts, pair[0], pair[1], loss, reduction)
            self._counted(name, counts)
        finally:
            self.clock.lap(name)
            if name == "train":
                self._without_grad += not torch.is_grad_enabled()
                if not self.optimizer_seen:
                    self._step_done()

    def _count_bare(
        self, counts: SplitCounts, preds: Any, target: Any, loss: Tensor | None, reduction: str
    ) -> None:
        if self.extractors.ids:
            self.faults.warn(IDS_WITHOUT_BATCH)
        if not isinstance(preds, Tensor):
            preds = self.extractors.predictions(preds)
        counts.add(preds, target, loss, reduction)

    @contained("optimizer hook")
    def on_step(self, optimizer: Any = None, args: Any = (), kwargs: Any = None) -> None:
        """The optimizer has stepped."""
        phase = "train"
        if self._loader is not None:
            phase = self._loader.split
        evaluates = self._loader is None and self.clock.phase == "val"
        self.clock.lap(phase)
        self._step_done()
        self.clock.waiting = True
        if evaluates:
            self.faults.warn(STEP_IN_EVAL)

    # Way c: the loop says it all.

    def update(
        self, preds: Any, target: Any, *, loss: Any, split: str | None, **beside: Any
    ) -> None:
        """Count a batch that the loop hands over; `beside` are weights and ids."""
        name = split
        if name is None:
            name = "val"
            if self._loader is not None:
                name = self._loader.split
        if not name or "/" in name:
            cure = 'Pass split="train" or split="val".'
            raise Refusal(ConfigError("split", 'a name without "/"', repr(split), cure))
        if self._hooked == name:
            self.faults.warn(COUNTED_TWICE)
            return
        if self._loader is None:
            self.clock.enter(name)
            self.clock.lap(name)
        else:
            self._loader.batch = NO_BATCH
        self._due = None
        counts = self.split(name)
        self.faults.step = counts.batches
        try:
            counts.add(preds, target, loss, **beside)
            self._counted(name, counts, hooked=False)
        finally:
            self.clock.waiting = True
            if name == "train" and self._loader is None and not self.optimizer_seen:
                self._step_done()

    # The end of an epoch.

    def end_epoch(self) -> None:
        """No batch comes any more."""
        self.clock.end_epoch()
        self._due = None
        self._hooked = None
        self.faults.step = None
        without_grad = self._without_grad
        self._without_grad = 0
        # A checkpointed training step hides its gradients as well.
        if without_grad and not self._recomputed:
            self.faults.warn(TRAINING_MODE)

    def start_epoch(self) -> None:
        """Count from nothing; a split that cannot be reset is made anew."""
        closed = self.splits
        self.splits = {}
        for name, counts in closed.items():
            counts.reset()
            self.splits[name] = counts

    @contextmanager
    def pause(self) -> Iterator[None]:
        """What the model is called for in here is not the loop's."""
        before = self._paused
        self._paused = True
        try:
            yield
        finally:
            self._paused = before

    def state_dict(self) -> dict[str, Any]:
        """Half-done counts by split."""
        return {name: split.state_dict() for name, split in self.splits.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put stored counts in the place of those of now."""
        splits = {}
        for name, counts in state.items():
            splits[name] = self._new_split(name)
            splits[name].load_state_dict(counts)
        self.splits = splits

    def _counted(self, name: str, counts: SplitCounts, *, hooked: bool = True) -> None:
        if hooked:
            self._hooked = name
        self._status.half_done = True
        if self._on_counted is not None:
            self._on_counted(name, counts.batches - 1)

    def _step_done(self) -> None:
        self.split("train").steps += 1
        self.clock.step_done()
