"""From what happens in the loop to counts: the one place where all three ways in meet.

What belongs together is a `Group`: answers of the model, calls of the criterion, and the batch of a
monitored loader. It is closed when the loop goes on, and then something of it was counted, or it is
told that nothing was.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ptmetrics.errors import ConfigError
from ptmetrics.monitor.answers import (
    KEPT_ANSWERS,
    LOOSE,
    NO_BATCH,
    RELATED,
    Answer,
    Candidate,
    Group,
    changes_of,
)
from ptmetrics.monitor.clock import PhaseClock
from ptmetrics.monitor.counting import GroupCounter
from ptmetrics.monitor.extract import (
    CriterionCall,
    criterion_call,
    how_shapes_met,
    losses_of_shifts,
)
from ptmetrics.monitor.faults import (
    COUNTED_TWICE,
    NO_FORWARD,
    STEP_IN_EVAL,
    TRAINING_MODE,
    FaultLog,
    Refusal,
    contained,
)
from ptmetrics.monitor.passes import LoaderPass, OtherModel, may_be_of, without_last
from ptmetrics.monitor.run import RunStatus
from ptmetrics.monitor.seen import (
    NOT_TIED,
    PULLED_AHEAD,
    TOLD_ANSWERS,
    LoaderSize,
    MadeWhenAsked,
    RankShare,
    Walks,
)
from ptmetrics.monitor.split import SplitCounts, check_split
from ptmetrics.monitor.split_loss import IGNORED_BY_TORCH
from ptmetrics.monitor.telling import (
    Told,
    tell_begun_again,
    tell_closure,
    tell_left_behind,
    tell_logged,
    tell_not_counted,
    tell_pass_without_learning,
    tell_shapes,
    tell_shift,
    tell_unlearned,
    tell_unseen_criterion,
    tell_unseen_validation,
    tell_validation_in_training,
    tell_what_went_by,
)
from ptmetrics.monitor.without_eval import Unlearned
from ptmetrics.record.printable import quantity

# The task of autograd that runs, −1 for none: a forward within one is activation checkpointing,
# which repeats a forward that was counted.
backward_task: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", lambda: -1)


class BatchRecorder(GroupCounter):
    """Puts together what belongs together and gives the time to phases. Its events are ways in.

    What is put together is counted as `GroupCounter` has it, whose arguments are these and whose
    attributes these stand beside.

    Attributes:
        criterion_seen: Whether a criterion is watched: then its pairs count.
        batch_norm: Whether the model holds BatchNorm; None without a model.
        other_model: What the criterion was called for in the epoch, and not for the model.
        walks: Passes over torch's loaders, as far as nobody has named them.
        closed: Whether the run has ended: a loader that is still iterated has nothing to tell.
    """

    def __init__(
        self,
        new_split: Callable[[str], SplitCounts],
        clock: PhaseClock,
        faults: FaultLog,
        status: RunStatus,
        told: Told,
    ) -> None:
        super().__init__(new_split, clock, faults, status, told)
        self.criterion_seen = False
        self.batch_norm: bool | None = None
        self.other_model = OtherModel()
        self.walks = Walks()
        self.closed = False
        self._tells_before = told.began is not None or told.served is not None
        self._loader: LoaderPass | None = None  # the pass under way
        self._loader_splits: set[str] = set()  # bare calls do not count for them
        self._by_batch: set[str] = set()  # in whose passes no criterion is called
        self._named: str | None = None  # the split that the user has named
        self._evaluation = 0  # of the closure of a step under way
        self._shifts: dict[str, Tensor | None] = {}  # of the first labelled batch of a split
        self._left_early = False  # a pass over a training loader
        self._bare_rows = 0  # of training mode, behind the last pass over a loader
        self._paused = False
        self._within: list[tuple[Any, ...]] = []  # calls of the criterion that it makes itself

    # Way a: the loader is monitored, the model answers for each batch.

    @contained("loader")
    def enter_loader(
        self, split: str, size: LoaderSize | None = None, share: RankShare | None = None
    ) -> LoaderPass | None:
        """A pass over a loader of this size and share of the data begins; None where that failed."""
        if self._told.began is not None:
            self._told.began()
        outer = "other"
        if self._loader is not None:
            outer = self._loader.split
        self.clock.lap(outer)
        self.clock.enter(split)
        self._end_lingering()
        group = self._group
        if self._loader is None:
            self._close_group()
            group = None
        self._group = None
        self._loader = LoaderPass(split, self._loader, group, share)
        self._loader.by_batch = split in self._by_batch
        self._loader_splits.add(split)
        if split == "train":
            self._bare_rows = 0
        counts = self.splits[split]
        nested = self._loader.outer is not None and self._loader.outer.split == split
        if split != "train" and not nested:
            self.seen[split].untold = TOLD_ANSWERS
            if counts.batches:
                self._told.close_validation(split)
        if split == "train" and self._left_early and counts.batches:
            tell_begun_again(self._told.say, quantity(counts.samples, "row"))
        self.seen[split].begin_pass(size, share)
        return self._loader

    @contained("loader")
    def next_batch(self, loader: LoaderPass, batch: Any, asked: int) -> None:
        """The loop asked for a batch at `asked`: the one before is done; `NO_BATCH` is the end."""
        if self.closed:
            return
        done = loader.begun
        loader.begun = True
        self._hooked = None
        split = loader.split
        self.clock.lap(split, asked)
        if done and split == "train" and not self.optimizer_seen:
            self._step_done()
        if batch is not NO_BATCH:
            if self.clock.phase != split:  # what ran inside of the last batch may have left it
                self.clock.enter(split)
            self.clock.lap(split, waited=True)
        group = self._group
        if self._loader is loader:
            if group is not None and (group.calls or group.counted or self._is_done(loader, group)):
                self._close_group()
                if group.node is not None and self.optimizer_seen and not loader.threaded:
                    self._goes_on_behind(group)
            self._moved_on()
        if batch is NO_BATCH:
            loader.exhausted = True
        else:
            loader.serve(batch)
            if self._told.served is not None:
                self._serve(self._told.served, split, batch)

    @contained("loader")
    def leave_loader(self, loader: LoaderPass) -> None:
        """The pass is over, or was left."""
        if self._loader is loader:
            if loader.exhausted and loader.waiting:
                loader.lingers = True  # pulled ahead of the model, which may answer yet
                return
            self._leave(loader)
        else:  # an iterator that was held while another one was begun
            inner = self._loader
            while inner is not None and inner.outer is not loader:
                inner = inner.outer
            if inner is not None:
                inner.outer = loader.outer
            self.clock.lap(loader.split)
            self.clock.leave()

    def _leave(self, loader: LoaderPass) -> None:
        self._close_group()
        self._moved_on()
        self._loader = loader.outer
        self._group = loader.group
        self.clock.lap(loader.split)
        self.clock.leave()
        if loader.exhausted:
            if loader.padding and self.splits[loader.split].batches:
                self.seen[loader.split].padding_rows += loader.padding
            self._passed_over(loader, len(loader.waiting))
        elif loader.split == "train":
            self._left_early = True
        if self.criterion_seen and loader.exhausted and not loader.with_criterion:
            self._by_batch.add(loader.split)
        without_learning = loader.with_criterion and not loader.learned and self.mode.learned
        if loader.split == "train" and without_learning:
            tell_pass_without_learning(self._told.say, self.splits["train"].samples)

    def _end_lingering(self) -> None:
        """A pass whose loader is exhausted ends, as something else begins."""
        while self._loader is not None and self._loader.lingers:
            self._leave(self._loader)

    @contained("loader hook")
    def on_loader(self, loader: Any) -> None:
        """A pass over one of torch's loaders begins."""
        under_way = self._loader
        named = under_way is not None and (under_way.split != "train" or not under_way.begun)
        if not named and not self._paused:
            self.walks.begin(loader, self._trained, self.splits.get("train"))

    # Ways a and b share the hooks: where a loader is under way, it names the split.

    def on_forward_begin(self, model: nn.Module, args: Any = (), kwargs: Any = None) -> None:
        """The model is called: where a phase goes on and nothing waits, only time has passed."""
        clock = self.clock
        phase = clock.phase
        group = self._group
        if model.training:
            split = "train"
            nothing_waits = group is None
        else:  # what is counted is closed with the answer
            split = "val"
            nothing_waits = group is not None and group.counted and group.node is None
        bare = self._loader is None and self._named is None and phase == split
        if nothing_waits and bare and not self._tells_before and not self._paused:
            self._hooked = None
            clock.goes_on(split)
        else:
            self._before_answer(model, args, kwargs)
        self._within.clear()  # of a call that raised
        self._answering = True

    @contained("model hook")
    def _before_answer(self, model: nn.Module, args: Any, kwargs: Any) -> None:
        if self._paused or backward_task() != -1:
            return
        if self._told.began is not None:
            self._told.began()
        if self._group is not None:
            self._next_answer(self._group, model)
        loader = self._loader
        if loader is not None and loader.lingers and not loader.expects(model, (args, kwargs)):
            self._end_lingering()
        loader = self._loader
        if loader is None:
            self._before_bare_answer(model, args, kwargs)
        elif loader.outer is not None:
            self._loader = loader.that_is_answered(model, (args, kwargs))

    def _before_bare_answer(self, model: nn.Module, args: Any, kwargs: Any) -> None:
        self._hooked = None
        split = self._named
        if split is None:
            split = self._split_by_mode(model)
            if split in self._loader_splits:
                return
        if self.clock.phase != split:
            self._begin_phase(split)
        self.clock.goes_on(split)
        if self._told.served is not None:
            self._serve(self._told.served, split, args or kwargs)

    def _split_by_mode(self, model: nn.Module) -> str:
        """What the model answers for, by its mode and by what went before."""
        if model.training:
            if self.mode.without_eval and not torch.is_grad_enabled():
                return "val"
            return "train"
        if self._group is not None and self._group.counted:
            self._close_group()
        mode = self.mode
        if mode.without_eval:  # that was another pass, as over the training data
            mode.without_eval = False
            self._close_group()
            self._moved_on()
            self._told.close_validation("val")
        mode.evaluated = True
        return "val"

    def _begin_phase(self, split: str) -> None:
        if self.clock.phase is None:  # before an epoch's first call the user does other things
            self.clock.lap("other")
        self.clock.enter(split)
        self.clock.lap(split, waited=self.clock.waiting)
        counts = self.splits.get(split)
        if split != "train" and counts and counts.trained_before != self._trained:
            self.seen[split].untold = TOLD_ANSWERS  # a validation behind further training

    def _serve(self, tell: Callable[[str, Any], None], split: str, inputs: Any) -> None:
        """Show a batch before it is answered; the time that takes belongs to no split."""
        tell(split, inputs)
        self.clock.lap("other")

    @contained("model hook")
    def on_forward(self, model: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """The model has answered."""
        self._answering = False
        if self._paused or backward_task() != -1:
            self.mode.recomputed = self.mode.recomputed or backward_task() != -1
            return
        loader = self._loader
        name = self._named
        if name is None:
            name = self._split_by_mode(model) if loader is None else loader.split
            if loader is None and name in self._loader_splits:
                self._answered_bare(name, output, args, kwargs)
                return
        group = self._group
        if group is None or group.split != name:
            group = self._open_group(name)
        plain = type(output) is Tensor and self.extractors.preds is None
        preds = output if plain else self._predictions(output)
        answer = Answer(output, preds, args, kwargs)
        group.answers.append(answer)
        if group.seen.untold:
            self._tell_answer(group, (args, kwargs), output)
        if loader is not None:
            group.evaluates = not model.training
            self._take_batch(loader, answer, model, args, kwargs)
        elif name != "train":
            answer.place = group.seen.at_here(answer.rows, self.walks, self._trained)
        at_once = not self.criterion_seen or (loader is not None and loader.by_batch)
        if at_once or self.extractors.labels is not None:
            self._count_at_once(group, model, args, kwargs or {}, output)
        else:
            for call in self._within:
                self._called(answer, *call)
        self._within.clear()

    def _answered_bare(self, name: str, output: Any, args: Any, kwargs: Any) -> None:
        if name == "train":
            self._bare_rows += Answer(output, output, args, kwargs).rows

    def _tell_answer(self, group: Group, given: Any, output: Any) -> None:
        number = TOLD_ANSWERS - group.seen.untold
        group.seen.untold -= 1
        if self._told.answered is not None:
            self._told.answered(group.split, number, given, output)

    @contained("criterion hook")
    def on_criterion(
        self, criterion: Any, args: tuple[Any, ...], kwargs: dict[str, Any], loss: Any
    ) -> None:
        """The loss was computed; where the model has called the criterion itself, its answer comes yet."""
        if self._paused or backward_task() != -1:
            return
        if self._answering:
            self._within.append((criterion, args, kwargs, loss))
        else:
            self._called(None, criterion, args, kwargs, loss)

    def _called(
        self,
        within: Answer | None,
        criterion: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        loss: Any,
    ) -> None:
        """What a loss was given counts, if it is what the model has answered.

        Args:
            within: The answer that the model called its criterion for; None for the loop's own call.
            criterion: What was called.
            args: What it was given.
            kwargs: Likewise.
            loss: What it returned.
        """
        group = self._group
        if group is None or not group.answers:
            group = self._group_of_own_name(group)
            if group is None:
                self._called_for_another(criterion_call(criterion, args, kwargs))
                return
        call = criterion_call(criterion, args, kwargs)
        answer = None
        if group.answers:
            answer = group.answers[-1]
            if call.preds is not answer.preds or call.preds is None:
                answer = group.exact(call.preds)
            if answer is None:
                self._consider(group, criterion, call, loss, within)
                return
            answer.used = True
        learns = torch.is_grad_enabled()
        if not learns and group.split == "train" and self._waits(group, criterion, call, loss):
            return
        group.calls += 1
        try:
            if not group.counted:
                self._count(group, call.preds, call.target, answer, by_criterion=True)
        finally:
            self._add_loss(group, loss, call, answer)
            if answer is not None:
                answer.let_go()
            if not self._loader or not self._loader.with_criterion:
                self._after_call(group, criterion, call, learns)

    def _called_for_another(self, call: CriterionCall) -> None:
        answers = sum(seen.answers for seen in self.seen.values())
        self.other_model.called(call, (answers, self._trained))

    def _consider(
        self, group: Group, criterion: Any, call: CriterionCall, loss: Any, within: Answer | None
    ) -> None:
        """A call that may count, when the group is closed and there is no other choice."""
        found = group.candidate(call)
        if found is None and within is not None and within.may_be_from(call.preds):
            found = Candidate(LOOSE, call, [within])
        if found is None or group.counted:
            if found is None or found.tie == LOOSE:
                last = group.answers[-1]
                if not group.counted:
                    group.seen.cause = NOT_TIED
                self.other_model.called(call, last.numbered(), last.rows)
            return
        if group.split == "train" and not torch.is_grad_enabled():
            if self._is_logged(group, found.call):
                return
            if self._loader is not None:
                self._look_for_validation(self._loader, group, found.call)
            group.waits = self._may_validate(group)
        self._consider_found(group, criterion, found, loss)

    def _consider_found(self, group: Group, criterion: Any, found: Candidate, loss: Any) -> None:
        group.calls += 1
        group.candidates = [*group.candidates, found]
        self._add_loss(group, loss, found.call, found.answers[-1], found)
        self._after_call(group, criterion, found.call, torch.is_grad_enabled())

    def _waits(self, group: Group, criterion: Any, call: CriterionCall, loss: Any) -> bool:
        """Whether a sure pair without gradients counts when the loop goes on, or has counted."""
        if self._is_logged(group, call):
            return True
        if self._loader is not None:
            self._look_for_validation(self._loader, group, call)
            return False
        if not self._may_validate(group):
            return False
        group.waits = True
        self._consider_found(group, criterion, Candidate(RELATED, call, group.answers[-1:]), loss)
        return True

    def _is_logged(self, group: Group, call: CriterionCall) -> bool:
        """Whether a loss without gradients is of the batch that was learned from: it counts no more."""
        if group.counted or group.with_graph or self._named:
            return False
        if any(answer.batch is not NO_BATCH for answer in group.answers):  # a loader served it anew
            return False
        if not self.mode.was_trained_on(call.target, group.answers[-1].given):
            return False
        group.counted = True
        group.calls += 1
        for answer in group.answers:
            answer.used = True
        if self._loader is None:
            self.clock.goes_on("train")
        tell_logged(self._told.say)
        return True

    def _look_for_validation(self, loader: LoaderPass, group: Group, call: CriterionCall) -> None:
        """In a pass over training data a validation of other data stands that no loader names.

        It has no gradients, comes behind training, and is given nothing of the batch that waits.
        """
        if group.counted or group.with_graph or self._named or not self.mode.learned:
            return
        given = [answer.given and answer.given() for answer in group.answers]
        batches = [answer.batch for answer in group.answers if answer.batch is not NO_BATCH]
        if any(may_be_of(batch, call.target, given) for batch in batches):
            return
        loader.waiting.extendleft(reversed(batches))
        for answer in group.answers:
            answer.batch = NO_BATCH
        self._is_validation(group)
        for answer in group.answers:
            answer.place = group.seen.at_here(answer.rows, self.walks, self._trained)

    def _may_validate(self, group: Group) -> bool:
        """Whether a loss without gradients may be one of a validation in training mode."""
        if group.counted or group.with_graph or self._loader or self._named:
            return False
        return self.mode.may_validate()

    def _is_validation(self, group: Group) -> None:
        """A group that was opened for training is of a validation."""
        group.waits = False
        group.split = "val"
        group.seen = self.seen["val"]
        self._trained -= 1
        self.mode.without_eval = not group.evaluates
        self.mode.trained_on = None
        answer = group.answers[-1]
        given = None
        if answer.given is not None:
            given = answer.given()
        if group.seen.untold:
            self._tell_answer(group, given, answer.output)
        if group.evaluates:
            self.mode.evaluated = True
        elif self.mode.matters:
            self.mode.without_grad += 1
        else:
            tell_validation_in_training(self._told.say)

    def _after_call(self, group: Group, criterion: Any, call: CriterionCall, learns: bool) -> None:
        """What a call shows besides; a batch of hooks alone ends with its loss."""
        if group.calls == 1 and group.seen.criterion is not criterion:
            tell_shapes(self._told.say, group.split, how_shapes_met(criterion, call))
            group.seen.criterion = criterion
        if self._loader is not None:
            self._loader.with_criterion = True
            if learns:
                self._loader.learned = True
                self.mode.learned = True
            return
        self.clock.goes_on(group.split)
        if group.split != "train" or group.calls > 1 or group.waits:
            return
        mode = self.mode
        if learns:
            mode.learned = True
            mode.behind_step += not group.repeats
        else:  # for a teacher's answer, while the model's has one
            mode.without_grad += not group.with_graph
        if not self.optimizer_seen:
            self._step_done()

    @contained("optimizer hook")
    def on_step_begin(self, optimizer: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The optimizer is about to step: of a closure that it calls again and again, one counts.

        Returns:
            Its arguments with another closure, or None where it has none.
        """
        self._evaluation = 0
        if len(args) > 1 and callable(args[1]):
            return (args[0], self._counted_closure(args[1]), *args[2:]), kwargs or {}
        if kwargs and callable(kwargs.get("closure")):
            return args, {**kwargs, "closure": self._counted_closure(kwargs["closure"])}
        return None

    @contained("optimizer hook")
    def on_step(self, optimizer: Any = None, args: Any = (), kwargs: Any = None) -> None:
        """The optimizer has stepped."""
        if self._evaluation:
            if self._evaluation > 1:
                tell_closure(self._told.say, self._evaluation)
            self._evaluation = 0
        loader = self._loader
        group = self._group
        if group is not None:
            if self.mode.unlearned.waiting:
                self.mode.stepped_behind_unlearned(group.node)
            group.stepped = True
            if group.calls or group.counted or (loader is not None and self.criterion_seen):
                self._close_group()
        mode = self.mode
        if mode.behind_step != mode.before_step:
            mode.before_step = max(mode.before_step, mode.behind_step)
        mode.behind_step = 0
        clock = self.clock
        phase = "train"
        evaluates = False
        if loader is not None:
            phase = loader.split
        elif clock.phase != phase:
            evaluates = clock.phase == "val"
        clock.lap(phase)
        self._step_done()
        self._moved_on()
        clock.waiting = True
        if evaluates:
            self.faults.warn(STEP_IN_EVAL)

    # Way c: the loop says it all.

    def update(
        self,
        preds: Any,
        target: Any,
        *,
        loss: Any,
        split: str | None,
        reduction: str = "mean",
        **beside: Any,
    ) -> None:
        """Count a batch that the loop hands over; `beside` are weights and ids."""
        if self._told.began is not None:
            self._told.began()
        name = self._checked_split(split)
        if self._group is not None:
            self._hand_over(self._group, name)
        if self._hooked == name:
            self.faults.warn(COUNTED_TWICE)
            return
        self._moved_on()
        if name == "train":
            self._trained += 1
        if self._loader is None:
            if self.clock.phase != name:
                self.clock.enter(name)
            self.clock.lap(name)
        else:
            preds, target, loss, beside = self._own_rows(self._loader, preds, target, loss, beside)
            self._loader.waiting.clear()
        counts = self.splits[name]
        if name != "train":
            self._before_update(name, counts)
        self.faults.step = counts.batches
        self.faults.split = name
        try:
            counts.add(preds, target, loss, reduction, **beside)
            self._status.half_done = True
            if self._told.counted is not None:
                self._told.counted(name, counts.batches - 1)
        finally:
            self.clock.waiting = True
            if name == "train" and self._loader is None and not self.optimizer_seen:
                self._step_done()

    def _hand_over(self, group: Group, name: str) -> None:
        """What the model has answered is counted by the loop itself, for a split that it knows."""
        group.is_handed_over()
        if group.split == "train" != name and not (group.calls or group.counted or group.stepped):
            group.split = name  # whatever the mode of the model is
            group.seen = self.seen[name]
            self._trained -= 1
        self._close_group()

    def _own_rows(
        self, loader: LoaderPass, preds: Any, target: Any, loss: Any, beside: dict[str, Any]
    ) -> tuple[Any, Any, Any, dict[str, Any]]:
        """What the loop hands over of a loader's batch, without the padding at its end."""
        if not loader.padding or len(loader.waiting) != 1 or not isinstance(target, Tensor):
            return preds, target, loss, beside
        rows = target.shape[0] if target.ndim else 0
        padding = loader.padding_of(loader.waiting[0], rows)
        if not padding:
            return preds, target, loss, beside
        self.seen[loader.split].padding_left_out += padding
        values = {"preds": preds, "target": target, "loss": loss, **beside}
        own = without_last(values, rows, padding)
        return own.pop("preds"), own.pop("target"), own.pop("loss"), own

    def update_loss(self, loss: Any, *, split: str | None, reduction: str) -> None:
        """Count the loss of the batch that was counted last."""
        name = self._checked_split(split)
        if self._group is not None:
            self._group.losses.clear()  # the loop knows better than what a criterion returned
            self._close_group()
        self._held = None
        self.splits[name].add_loss(loss, reduction)

    # The end of an epoch, and what stands between.

    def end_epoch(self) -> None:
        """No batch comes any more."""
        last = self._group
        self.finish()
        self.clock.end_epoch()
        self._hooked = None
        self.faults.step = None
        self.faults.split = None
        mode = self.mode
        if mode.was_in_vain():
            self.faults.warn(TRAINING_MODE)
        say = self._told.say
        if mode.behind_step:
            left = mode.left_behind()
            if left:
                tell_left_behind(say, left, self.splits["train"], self.seen["train"])
        else:
            mode.ended_alike = False
        mode.before_step = 0
        unlearned = mode.unlearned
        if unlearned.batches or unlearned.waiting:
            mode.unlearned = Unlearned()
            tell_unlearned(say, unlearned, self.splits["train"], self.seen["train"])
        if self._bare_rows:
            self._note_bare_training()
        if len(self.walks.of_training) > 1:
            self._look_for_restart()
        if self._shifts:
            tell_shift(self.faults, self._shifts, self.seen, self.extractors.shift)
        if self.criterion_seen:
            tell_unseen_criterion(say, self.splits, self.seen, self.blind)
        tell_what_went_by(say, self.splits, self.seen)
        if self._bare_rows or (last is not None and last.split == "train"):
            rows = self._bare_rows
            self._bare_rows = 0
            tell_unseen_validation(say, self.splits, self.seen, rows, last)

    def _look_for_restart(self) -> None:
        """Whether a pass over a loader that nobody has wrapped was left, and gone through from anew."""
        train = self.splits.get("train")
        if train is not None:
            left = self.walks.left_early(train.batches)
            if left:
                tell_begun_again(self._told.say, quantity(left, "batch"))

    def _note_bare_training(self) -> None:
        """The optimizer has stepped, and no batch of training came of the loader that is wrapped."""
        if self.splits["train"].steps and not self.seen["train"].passes:
            self.seen["train"].add_not_of_loader(self._bare_rows)
            self._bare_rows = 0

    def finish(self) -> None:
        """Nothing of the loop comes any more."""
        self._end_lingering()
        if self._group is not None and self._group.waits:
            self._is_validation(self._group)
        self._close_group()
        self._moved_on()

    def went_by(self) -> dict[str, dict[str, Any]]:
        """What went by of each split: the record's `seen`."""
        told = {name: seen.to_record(self.splits[name]) for name, seen in self.seen.items()}
        if self.batch_norm is not None:
            for record in told.values():
                record["batch_norm"] = self.batch_norm
        return told

    def start_epoch(self) -> None:
        """Count from nothing; a split that cannot be reset is made anew."""
        closed = self.splits
        self.splits = MadeWhenAsked(closed.make)
        self.seen = MadeWhenAsked(self.seen.make)
        if self.other_model.heard:
            self.other_model = OtherModel()
        self._left_early = False
        self.walks.of_training.clear()
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

    @contained("pause")
    def set_paused(self, paused: bool) -> bool:
        """Whether nothing counts from here on; what held before."""
        before = self._paused
        self._paused = paused
        return before

    @contained("split")
    def name_split(self, name: str | None) -> str | None:
        """From here on batches count for this split; the name of before."""
        before = self._change_name(name)
        if name is not None and name in self.splits and self.splits[name].batches:
            self._told.close_validation(name)
        return before

    @contained("split")
    def go_back_to_split(self, name: str | None) -> None:
        """Batches count for this split again, which goes on where it was left."""
        self._change_name(name)

    def _change_name(self, name: str | None) -> str | None:
        before = self._named
        self._close_group()
        self._moved_on()
        self._named = name
        return before

    # Groups.

    def _open_group(self, name: str) -> Group:
        if self._group is not None:
            self._close_group()
        if name == "train":
            if self.every and self.steps >= self.every and self._goes_on_training():
                self._told.close_epoch()
            self._trained += 1
            self.mode.without_eval = False
        group = Group(name, self.seen[name])
        self._group = group
        return group

    def _goes_on_training(self) -> bool:
        """Whether what is answered now is of training, as far as that can be told by now."""
        if self._loader is None:
            return self.mode.trains()
        return torch.is_grad_enabled() or not self.mode.learned

    def _next_answer(self, group: Group, model: nn.Module) -> None:
        """The model is called again: a group is closed, unless its answers wait for a criterion."""
        if group.waits and model.training and not torch.is_grad_enabled():
            self._is_validation(group)
        if group.calls or group.counted or group.stepped:
            unseen = not (group.calls or group.counted)
            self._close_group()
            if group.node is not None and self.optimizer_seen:
                self._goes_on_behind(group)
            if unseen and group.split == "train":  # the optimizer stepped, and nothing counted it
                tell_not_counted(self._told.say, self.splits, "train", group.seen, " so far")
        else:
            group.next_answer()

    def _goes_on_behind(self, group: Group) -> None:
        """A batch comes behind one of training that the optimizer has not stepped for."""
        if group.split == "train":
            rows = sum(answer.rows for answer in group.answers if answer.used)
            self.mode.unlearned.goes_on(group.node, rows)

    def _is_done(self, loader: LoaderPass, group: Group) -> bool:
        """Whether answers without a call of the criterion are closed as their loader goes on.

        They wait for one that is given several of them at once, unless this pass has shown that
        none is called.
        """
        if len(group.answers) >= KEPT_ANSWERS:
            loader.by_batch = not loader.with_criterion
            if loader.by_batch:
                self._by_batch.add(loader.split)
            return True
        return loader.by_batch or not self.criterion_seen

    def _take_batch(
        self, loader: LoaderPass, answer: Answer, model: nn.Module, args: Any, kwargs: Any
    ) -> None:
        """Tie an answer to the loader's batch."""
        waiting = loader.waiting
        if len(waiting) == 1 and not loader.ahead:
            answer.batch = waiting.popleft()
        elif waiting:
            answer.batch, passed_over = loader.answered((args, kwargs))
            self._passed_over(loader, passed_over)
            if answer.batch is NO_BATCH:
                self.seen[loader.split].cause = PULLED_AHEAD
        if self.criterion_seen and not loader.with_criterion and not loader.by_batch:
            answer.changes = changes_of(answer.preds, answer.batch)
            loader.threaded = loader.thread != threading.get_ident()
        if loader.padding:
            answer.padding = loader.padding_of(answer.batch, answer.rows)
        if model.training and loader.split == "val" and self.mode.matters:
            self.faults.warn(TRAINING_MODE)

    def _count_at_once(
        self, group: Group, model: nn.Module, args: Any, kwargs: dict[str, Any], output: Any
    ) -> None:
        """Count an answer whose targets are known: the model's own labels, or the loader's."""
        extractors = self.extractors
        answer = group.answers[-1]
        target = extractors.labels_in_call(model, args, kwargs)
        if target is None:
            alone = answer.preds is None and extractors.loss is not None
            if alone or answer.batch is NO_BATCH:
                self._add_loss_alone(group, output, answer)
            elif not group.counted:
                self._count_batch(group, answer)
                answer.let_go()
            return
        preds = answer.preds
        if preds is None:
            preds = extractors.predictions(output)
        answer.used = True
        loss = extractors.loss_of(output)
        if group.split not in self._shifts:
            ignored = self.splits[group.split].loss.ignore_index
            look = losses_of_shifts(
                preds, target, loss, IGNORED_BY_TORCH if ignored is None else ignored
            )
            self._shifts[group.split] = look
        call = CriterionCall(*extractors.as_labelled(preds, target))
        learns = torch.is_grad_enabled()
        if not learns and group.split == "train" and self._waits(group, None, call, loss):
            return
        try:
            self._count(group, call.preds, call.target, answer, by_criterion=True)
        finally:
            self._add_loss(group, loss, call, answer)
            answer.let_go()
            group.calls += 1
            self._after_call(group, None, call, learns)

    def _passed_over(self, loader: LoaderPass, batches: int) -> None:
        """Batches that the attached model never answered, as far as can be told."""
        if loader.split not in ("train", "val"):
            return  # it may be that of another model, such as an average of the weights
        if loader.with_criterion or self.seen[loader.split].cause == PULLED_AHEAD:
            return  # the criterion's calls count; or it is said that nobody can tell
        for _ in range(batches):
            self.faults.warn(NO_FORWARD)

    def _group_of_own_name(self, group: Group | None) -> Group | None:
        """A group without an answer, in a split that the user has named: it counts whoever answered."""
        if group is not None and not group.counted:
            return group
        if self._named is not None:
            return self._open_group(self._named)
        if self._loader is not None and self._loader.split not in ("train", "val"):
            return self._open_group(self._loader.split)
        return None

    def _predictions(self, output: Any) -> Any:
        """The predictions in an answer; None where there are none, which is told if they count."""
        try:
            return self.extractors.predictions(output)
        except Exception:  # of the user's own extractor, too
            return None

    def _checked_split(self, split: str | None) -> str:
        name = split
        if name is None:
            name = self._named or "val"
            if self._loader is not None:
                name = self._loader.split
        try:
            check_split(name)
        except ConfigError as error:
            raise Refusal(error) from error
        return name

    def _counted_closure(self, closure: Callable[..., Any]) -> Callable[..., Any]:
        def evaluate(*args: Any, **kwargs: Any) -> Any:
            self._evaluation += 1
            before = self._paused
            self._paused = before or self._evaluation > 1
            try:
                return closure(*args, **kwargs)
            finally:
                self._paused = before

        return evaluate


class Block:
    """A `with` block in which the recorder does otherwise.

    Args:
        change: Makes a change and returns what held before.
        value: What it is changed to.
        back: Changes it back.
    """

    def __init__(
        self, change: Callable[[Any], Any], value: Any, back: Callable[[Any], object]
    ) -> None:
        self._change = change
        self._value = value
        self._back = back
        self._before: Any = None

    def __enter__(self) -> None:
        self._before = self._change(self._value)

    def __exit__(self, *error: object) -> None:
        self._back(self._before)
