"""From groups to counts: what belongs together is counted once, beside the loss of its rows."""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ptmetrics.monitor.answers import (
    NO_BATCH,
    Answer,
    Group,
    LastCounted,
    changes_of,
    in_rows,
    version_of,
)
from ptmetrics.monitor.clock import PhaseClock
from ptmetrics.monitor.extract import BatchExtractors, CriterionCall, loss_in
from ptmetrics.monitor.faults import IDS_WITHOUT_BATCH, FaultLog
from ptmetrics.monitor.padding import loss_without_padding, without_padding
from ptmetrics.monitor.run import RunStatus
from ptmetrics.monitor.seen import BLIND, CHANGED, NOT_FOUND, OWN_LOSS, MadeWhenAsked, Seen
from ptmetrics.monitor.split import SplitCounts
from ptmetrics.monitor.split_loss import HeldLoss, minimised
from ptmetrics.monitor.telling import Told, tell_no_loss, tell_repeated, tell_several_calls
from ptmetrics.monitor.without_eval import ModeWatch


class GroupCounter:
    """Counts what belongs together when the loop goes on: pairs by split, and their loss.

    Args:
        new_split: Makes the counts of a split by its name.
        clock: Where the time goes.
        faults: Contains and counts what goes wrong.
        status: Told that an epoch is half done.
        told: Whom it tells of what it sees.

    Attributes:
        splits: What was counted in the epoch under way.
        seen: What went by in the epoch under way, by split.
        extractors: Where things stand in a batch.
        optimizer_seen: Whether steps are seen; else each training batch is one.
        blind: Why no call of the criterion may be seen.
        mode: What tells a validation without `model.eval()` from training.
        every: Training steps after which an epoch is closed by itself; 0 for never.
    """

    def __init__(
        self,
        new_split: Callable[[str], SplitCounts],
        clock: PhaseClock,
        faults: FaultLog,
        status: RunStatus,
        told: Told,
    ) -> None:
        self._status = status
        self._told = told
        self.clock = clock
        self.faults = faults
        self.splits = MadeWhenAsked(new_split)
        self.seen = MadeWhenAsked(lambda name: Seen(self.blind))
        self.extractors = BatchExtractors()
        self.optimizer_seen = False
        self.blind = BLIND
        self.mode = ModeWatch()
        self.every = 0
        self._group: Group | None = None  # what is open
        self._answering = False  # a call of the model has begun, and has not returned
        self._hooked: str | None = None  # split for which a hook has counted the last answer
        self._last: LastCounted | None = None  # what was counted last since a step
        self._held: tuple[str, HeldLoss] | None = None  # of a split
        self._trained = 0  # training groups and steps so far: a validation behind them is a new one

    def _close_group(self) -> None:
        """The loop goes on: what may count does, losses are averaged, the rest is noted."""
        group = self._group
        if group is None:
            return
        self._group = None
        try:
            if not group.counted:
                self._settle(group)
            elif group.candidates:
                group.keep_losses([])
            losses = group.losses
            if len(losses) == 1 and self._held is None:
                self._held = group.split, losses[0]
            elif losses:
                self._settle_losses(group)
        finally:
            group.note()

    def _moved_on(self) -> None:
        """What was counted and the loss of it are settled: another batch comes."""
        self._answering = False  # or that call has raised
        self._last = None
        held = self._held
        if held is not None:
            self._held = None
            split, loss = held
            self.splits[split].loss.add(loss)

    def _settle(self, group: Group) -> None:
        """Count what there is no choice about."""
        if group.waits:  # training goes on
            self.mode.without_grad += 1
            if not self.optimizer_seen:
                self._step_done()
        best = group.best_candidates()
        if best:
            found = best[0]
            for answer in found.answers:
                answer.used = True
            group.keep_losses(best)
            call = found.call
            self._count(group, call.preds, call.target, found.answers[-1], by_criterion=True)
            return
        if group.candidates:
            group.losses = []
            number = len(group.candidates)
            group.seen.cause = f"{number} calls of the criterion could belong to one answer"
            return
        for answer in group.answers:
            if answer.batch is NO_BATCH:
                continue
            if answer.changes != changes_of(answer.preds, answer.batch):
                group.seen.cause = CHANGED
            else:
                self._count_batch(group, answer)

    def _settle_losses(self, group: Group) -> None:
        """The loss of the group's rows: the only one, or what the optimizer minimises."""
        losses = group.losses
        loss: HeldLoss | None = losses[-1]
        if len(losses) > 1:
            same = [each for each in losses if each.answer == losses[-1].answer]
            if len(same) > 1:
                loss = minimised(same)
            tell_several_calls(self._told.say, group.split, len(losses), loss is not None)
        if not group.repeats and self._held is not None:
            last = self._last
            self._moved_on()
            self._last = last
        self._held = None
        if loss is not None:
            self._held = group.split, loss

    def _add_loss(
        self,
        group: Group,
        loss: Any,
        call: CriterionCall,
        answer: Answer | None,
        candidate: object = None,
    ) -> None:
        """One more loss of the group's rows, as it is now, where there is one."""
        if not isinstance(loss, Tensor):
            loss = self._loss_among(loss, group.split)
        if loss is None:
            return
        if answer is not None and answer.padding:
            loss, call = loss_without_padding(loss, call, answer)
            if not len(call.target):
                return
        counts = self.splits[group.split]
        target = call.target
        if type(target) is not Tensor or loss.ndim:
            target = counts.loss_target(loss, target)
        held = counts.loss.held(loss, target, call)
        held.candidate = candidate
        held.answer = id(answer)
        losses = group.losses
        if not losses:
            group.node = loss.grad_fn
        else:
            if len(losses) == 1:
                losses[0].watch(group.node)
            held.watch(loss.grad_fn)
        losses.append(held)

    def _loss_among(self, found: Any, split: str) -> Tensor | None:
        """The loss in what is no tensor; without one that is told, unless nothing is there at all."""
        loss = loss_in(found)
        if isinstance(loss, Tensor):
            return loss
        if found is not None:
            tell_no_loss(self._told.say, split, found)
        return None

    def _count_batch(self, group: Group, answer: Answer) -> None:
        """Count an answer beside the targets of the loader's batch."""
        group.counted = True  # or it could not be, which is told once
        preds = answer.preds
        try:
            if preds is None:
                preds = self.extractors.predictions(answer.output)
            target = self.extractors.target_of(preds, answer.batch)
        except Exception:
            group.seen.cause = NOT_FOUND
            raise
        answer.used = True
        self._count(group, preds, target, answer, by_criterion=False)

    def _add_loss_alone(self, group: Group, output: Any, answer: Answer) -> None:
        """Count a loss that a model returns without predictions, as detectors do in training."""
        loss = None
        if self.extractors.loss is not None:
            loss = self.extractors.loss_of(output)
        elif isinstance(loss_in(output), Tensor):
            group.seen.cause = OWN_LOSS
        if isinstance(loss, Tensor):
            answer.used = True
            group.counted = True
            rows = torch.zeros(answer.rows, dtype=torch.int64, device=loss.device)
            self._add_loss(group, loss, CriterionCall(rows, rows), answer)
            self._status.half_done = True

    def _count(
        self,
        group: Group,
        preds: Any,
        target: Any,
        answer: Answer | None,
        *,
        by_criterion: bool,
    ) -> None:
        """Count a pair, unless its targets have been counted."""
        name = group.split
        given: Any = answer and answer.given
        group.counted = True
        last = self._last
        if last is not None:
            # Where nobody holds its targets any more, these are others.
            if last.target() is not None and self._repeats(last, name, target, given):
                group.repeats = True
                tell_repeated(self._told.say, name)
                return
            self._moved_on()
        if not isinstance(preds, Tensor) and (answer is None or preds is not answer.preds):
            preds = self.extractors.predictions(preds)  # what the criterion was given
        beside: dict[str, Any] = {}
        if self.extractors.slices is not None or self.extractors.group is not None:
            beside = self._ids(group, preds)
        if isinstance(target, Tensor):
            self._last = LastCounted(name, weakref.ref(target), given, version_of(target))
        counts = self.splits[name]
        if name != "train" and counts.trained_before != self._trained:
            self._before_counting(name, counts)
            before = group.seen
            group.seen = self.seen[name]  # of this validation, where another one was closed
            group.seen.goes_on_from(before, group.answers[-1:])
        faults = self.faults
        faults.step = counts.batches
        faults.split = name
        self._hooked = name
        if answer is not None and answer.places and counts.of_classes and by_criterion:
            preds, target = in_rows(answer, preds, target)
        if answer is not None and answer.padding:
            preds, target, beside = without_padding(group.seen, answer, preds, target, beside)
        counts.add(preds, target, by_criterion=by_criterion, inputs=given, **beside)
        self._status.half_done = True
        if self._told.counted is not None:
            self._told.counted(name, counts.batches - 1)

    def _repeats(self, last: LastCounted, name: str, target: Any, given: Any) -> bool:
        """Whether these targets were counted since the last step, for another answer.

        In training without an optimizer each answer is a step; in evaluation the same batch may
        come again, but then with the same inputs.
        """
        if last.split != name:
            return False
        if name == "train":
            return self.optimizer_seen and last.same_target(target)
        return last.same_target(target) and not last.same_inputs(given)

    def _before_counting(self, name: str, counts: SplitCounts) -> None:
        """Training since the last batch of a split makes the next one a validation of its own."""
        if counts.batches:
            self._told.close_validation(name)
        counts.trained_before = self._trained
        counts.trained_steps = self.steps

    def _before_update(self, name: str, counts: SplitCounts) -> None:
        """As for hooks, unless the loop hands over a batch of training and of this split in turn."""
        batches = 0
        if "train" in self.splits:
            batches = self.splits["train"].batches
        if counts.trained_before == self._trained:
            counts.in_a_row = counts.batches > 0
        elif counts.in_a_row or batches != counts.train_batches + 1:
            self._before_counting(name, counts)
        counts.trained_before = self._trained
        counts.train_batches = batches

    def _ids(self, group: Group, preds: Any) -> dict[str, Any]:
        """Slices and groups from the loader's batch."""
        for answer in group.answers:
            if answer.batch is not NO_BATCH:
                return self.extractors.ids_of(preds, answer.batch)
        self.faults.warn(IDS_WITHOUT_BATCH)
        return {}

    def _step_done(self) -> None:
        self._trained += 1
        if self._last is not None and torch.is_grad_enabled():
            self.mode.trained_on = self._last
        train = self.splits["train"]
        train.steps += 1
        train.stepped_samples = train.samples
        self.clock.step_done()

    @property
    def steps(self) -> int:
        """Training steps since an epoch was closed."""
        train = self.splits.get("train")
        return 0 if train is None else train.steps

    def state_dict(self) -> dict[str, Any]:
        """Half-done counts by split."""
        self._close_group()
        self._moved_on()
        return {name: split.state_dict() for name, split in self.splits.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put stored counts in the place of those of now."""
        splits = MadeWhenAsked(self.splits.make)
        for name, counts in state.items():
            splits[name].load_state_dict(counts)
        self.splits = splits
        if "train" in splits:
            for counts in splits.values():
                counts.train_batches = splits["train"].batches
