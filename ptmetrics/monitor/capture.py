"""From what happens in the loop to counts: the one place that all three ways in go through."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ptmetrics.errors import ConfigError
from ptmetrics.monitor.criterion import call_parts, is_sum
from ptmetrics.monitor.faults import FaultLog
from ptmetrics.monitor.flaws import (
    COUNTED_TWICE,
    IDS_WITHOUT_BATCH,
    NO_FORWARD,
    STEP_IN_EVAL,
    TRAINING_MODE,
)
from ptmetrics.monitor.hooks import backward_task
from ptmetrics.monitor.phases import Phases
from ptmetrics.monitor.picks import Picks
from ptmetrics.monitor.split import SplitCounts

Batch = TypeVar("Batch")


class Capture:
    """Counts batches by split and gives the time to phases; every entry contains its own faults.

    Args:
        new_split: Makes the counts of a split by its name.
        phases: Where the time goes.
        faults: Contains and counts what goes wrong.
        counted: Called with split and number of each batch that was counted.
    """

    def __init__(
        self,
        new_split: Callable[[str], SplitCounts],
        phases: Phases,
        faults: FaultLog,
        counted: Callable[[str, int], None],
    ) -> None:
        self._new_split, self._counted = new_split, counted
        self.splits: dict[str, SplitCounts] = {}
        self.phases, self.faults = phases, faults
        self.picks = Picks()
        self.optimizer_seen = False
        self._loader: str | None = None  # split of the loader that is being watched
        self._watched: set[str] = (
            set()
        )  # splits that come from a loader: bare calls do not count for them
        self._batch: Any = None  # the loader's batch, until the model has answered
        self._due: str | None = None  # split of the answer that the criterion has not seen yet
        self._hooked: str | None = None  # split for which a hook has counted the last answer
        self._paused = self._recomputed = False
        self._without_grad = 0  # training batches whose loss no gradient can reach

    def split(self, name: str) -> SplitCounts:
        """The counts of a split, made on first use."""
        if name not in self.splits:
            self.splits[name] = self._new_split(name)
        return self.splits[name]

    # Way a: the loader is watched, the model answers for each batch.
    def watch(self, loader: Iterable[Batch], split: str) -> Iterator[Batch]:
        """Yield the batches of `loader`; waiting for one and working on it are told apart."""
        outer = (
            self._loader,
            self._batch,
            self._due,
        )  # of a training epoch that is validated in its middle
        self.phases.lap(self._loader or "other")
        self.phases.enter(split)
        self._loader, self._due = split, None
        self._watched.add(split)
        try:
            for batch in loader:
                self.phases.waited(split)
                self._batch, self._hooked = batch, None
                yield batch
                self._batch_done(split)
                self.phases.enter(split)  # what ran inside the body may have left it
        except GeneratorExit:
            if self._batch is None:  # the body broke out behind the model's answer
                self._batch_done(split)
            raise
        finally:
            self.phases.lap(split)
            self.phases.leave()
            self._loader, self._batch, self._due = outer

    def _batch_done(self, split: str) -> None:
        self.phases.lap(split)
        if self._batch is not None:
            self.faults.flaw("model hook", *NO_FORWARD)
        self._batch = self._due = None
        if split == "train" and not self.optimizer_seen:
            self._step_done()

    # Way b: hooks alone. Both ways share them; which one it is shows in whether a loader is watched.
    def on_forward_begin(self, model: nn.Module, args: Any = ()) -> None:
        """The model is called."""
        if self._loader is not None or self._paused or backward_task() != -1:
            return
        try:
            self._hooked = None
            split = "train" if model.training else "val"
            if split not in self._watched:
                phases = self.phases
                if phases.now is None:  # before an epoch's first call the user does other things
                    phases.lap("other")
                phases.enter(split)
                (phases.waited if phases.waits else phases.lap)(split)
        except Exception as error:
            self.faults.caught("model hook", error)

    def on_forward(self, model: nn.Module, args: Any, output: Any) -> None:
        """The model has answered; the first answer to a loader's batch counts."""
        if backward_task() != -1:
            self._recomputed = True
        elif self._loader is None:
            split = "train" if model.training else "val"
            self._due = None if self._paused or split in self._watched else split
        elif self._batch is not None:
            batch, self._batch, self._due = self._batch, None, self._loader
            if self._loader == "val" and model.training:
                self.faults.flaw("validation", *TRAINING_MODE)
            self._count_answer(self._loader, batch, output)

    def _count_answer(self, name: str, batch: Any, output: Any) -> None:
        split = self.split(name)
        try:
            preds = self.picks.predictions(output)
            split.add(preds, **self.picks.beside(batch, preds.device))
            self._hooked = name
            self._tell_counted(name, split)
        except Exception as error:
            self.faults.caught("model hook", error, split.batches)

    def on_criterion(
        self, criterion: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], loss: Any
    ) -> None:
        """The loss was computed; only the first after an answer of the model counts."""
        if self._due is None or backward_task() != -1:
            return
        name, self._due = self._due, None
        split, bare = self.split(name), self._loader is None
        try:
            preds, target = call_parts(args, kwargs)
            if bare and self.picks.ids:
                self.faults.flaw("criterion hook", *IDS_WITHOUT_BATCH)
            if bare:
                split.add(
                    preds if isinstance(preds, Tensor) else self.picks.predictions(preds), target
                )
                self._hooked = name
            if isinstance(loss, Tensor):
                split.add_loss(loss, target, summed=is_sum(criterion, loss))
            if bare:
                self._tell_counted(name, split)
        except Exception as error:
            self.faults.caught("criterion hook", error, split.batches)
        if bare:
            self._bare_batch_done(name)

    def _bare_batch_done(self, name: str) -> None:
        self.phases.lap(name)
        if name == "train":
            self._without_grad += not torch.is_grad_enabled()
            if not self.optimizer_seen:
                self._step_done()

    def on_step(self, optimizer: Any = None, args: Any = (), kwargs: Any = None) -> None:
        """The optimizer has stepped."""
        if self._loader is None and self.phases.now == "val":
            self.faults.flaw("optimizer", *STEP_IN_EVAL)
        try:
            self.phases.lap(self._loader or "train")
            self._step_done()
            self.phases.waits = True
        except Exception as error:
            self.faults.caught("optimizer hook", error)

    # Way c: the loop says it all.
    def update(
        self, preds: Tensor, target: Tensor, *, loss: Any, split: str | None, **more: Tensor | None
    ) -> None:
        """Count a batch that the loop hands over; `more` are weights and ids."""
        split = (self._loader or "val") if split is None else split
        if not split or "/" in split:
            raise ConfigError(
                "split", 'a name without "/"', repr(split), 'Pass split="train" or split="val".'
            )
        if self._hooked == split:
            self.faults.flaw("update", *COUNTED_TWICE)
            return
        if self._loader is None:
            self.phases.enter(split)
            self.phases.lap(split)
        self._batch = self._due = None
        counts = self.split(split)
        with self.faults.contain("update", counts.batches):
            counts.add(preds, target, **more)
            if loss is not None:
                counts.add_loss(loss, target)
            self._tell_counted(split, counts)
        self.phases.waits = True
        if split == "train" and self._loader is None and not self.optimizer_seen:
            self._step_done()

    def close_epoch(self) -> None:
        """The epoch is over."""
        self.phases.close_epoch()
        self._due = self._hooked = None
        suspect, self._without_grad = self._without_grad, 0
        if (
            suspect and not self._recomputed
        ):  # a checkpointed training step hides its gradients as well
            self.faults.flaw("validation", *TRAINING_MODE)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """What the model is called for in here is not the loop's."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def state_dict(self) -> dict[str, Any]:
        """Half-done counts by split."""
        return {name: split.state_dict() for name, split in self.splits.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put stored counts in the place of those of now."""
        self.splits = {}
        for name, counts in state.items():
            self.split(name).load_state_dict(counts)

    def _tell_counted(self, name: str, split: SplitCounts) -> None:
        before, self._paused = self._paused, True
        try:
            self._counted(name, split.batches - 1)
        finally:
            self._paused = before

    def _step_done(self) -> None:
        self.split("train").steps += 1
        self.phases.step_done()
