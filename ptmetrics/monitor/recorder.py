"""From what happens in the loop to counts: the one place where all three ways in meet.

What belongs together is a `Group`: answers of the model, calls of the criterion, and the batch of a
monitored loader. It is closed when the loop goes on, and then something of it was counted, or it is
told that nothing was.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ptmetrics.errors import ConfigError, DtypeError
from ptmetrics.monitor.answers import (
    KEPT_ANSWERS,
    NO_BATCH,
    Answer,
    Group,
    Loss,
    minimised,
    same_rows,
)
from ptmetrics.monitor.clock import PhaseClock
from ptmetrics.monitor.extract import (
    BatchExtractors,
    CriterionCall,
    criterion_call,
    shifted,
    tensors_in,
)
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
from ptmetrics.monitor.passes import LoaderPass, call_site
from ptmetrics.monitor.run import RunStatus
from ptmetrics.monitor.seen import MAX_PASSES, PULLED_AHEAD, Seen
from ptmetrics.monitor.split import SplitCounts
from ptmetrics.monitor.split_loss import HeldLoss

# The task of autograd that runs, −1 for none: a forward within one is activation checkpointing,
# which repeats a forward that was counted.
backward_task: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", lambda: -1)


class Told(NamedTuple):
    """Whom the recorder tells of what it sees.

    Attributes:
        say: Given a code and a sentence, for the console and the record, once for each code.
        close_epoch: The epoch is over by its number of steps.
        close_validation: A split is validated again: keep what it was before, and count anew.
        counted: Given split and number of each batch that was counted; None for nobody.
    """

    say: Callable[[str, str], None]
    close_epoch: Callable[[], None]
    close_validation: Callable[[str], None]
    counted: Callable[[str, int], None] | None


class BatchRecorder:
    """Counts batches by split and gives the time to phases. Its events are ways in from the loop.

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
        criterion_seen: Whether a criterion is watched: then its pairs count.
        mode_matters: Whether the model acts otherwise in training.
        every: Training steps after which an epoch is closed by itself; 0 for never.
        steps: Training steps since an epoch was closed.
    """

    def __init__(
        self,
        new_split: Callable[[str], SplitCounts],
        clock: PhaseClock,
        faults: FaultLog,
        status: RunStatus,
        told: Told,
    ) -> None:
        self._new_split = new_split
        self._status = status
        self._told = told
        self.clock = clock
        self.faults = faults
        self.splits: dict[str, SplitCounts] = {}
        self.seen: dict[str, Seen] = {}
        self.extractors = BatchExtractors()
        self.optimizer_seen = False
        self.criterion_seen = False
        self.mode_matters = True
        self.every = 0
        self.steps = 0
        self._loader: LoaderPass | None = None  # the pass under way
        self._loader_splits: set[str] = set()  # bare calls do not count for them
        self._named: str | None = None  # the split that the user has named
        self._group: Group | None = None  # what is open
        self._hooked: str | None = None  # split for which a hook has counted the last answer
        self._last: Counted | None = None  # what was counted last since a step
        self._held: tuple[str, HeldLoss] | None = None  # of a split
        self._trained = 0  # training groups and steps so far: a validation behind them is a new one
        self._evaluation = 0  # of the closure of a step under way
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
    def enter_loader(self, split: str, rows: int | None = None) -> LoaderPass | None:
        """A pass over a loader begins; None where that failed."""
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
        self._loader = LoaderPass(split, self._loader, group, rows)
        self._loader_splits.add(split)
        counts = self.split(split)
        if split != "train" and counts.batches:
            self._told.close_validation(split)
        self._seen(split).loader_rows = rows
        return self._loader

    @contained("loader")
    def next_batch(self, loader: LoaderPass, batch: Any, asked: int) -> None:
        """The loop asked for a batch at `asked`: the one before is done; `NO_BATCH` is the end."""
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
        if self._loader is loader:
            group = self._group
            if group is not None and self._is_done(loader, group):
                self._close_group()
            self._moved_on()
        if batch is NO_BATCH:
            loader.exhausted = True
        else:
            loader.waiting.append(batch)

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
            self._passed_over(loader.split, len(loader.waiting))

    def _end_lingering(self) -> None:
        """A pass whose loader is exhausted ends, as something else begins."""
        while self._loader is not None and self._loader.lingers:
            self._leave(self._loader)

    # Ways a and b share the hooks: where a loader is under way, it names the split.

    @contained("model hook")
    def on_forward_begin(self, model: nn.Module, args: Any = (), kwargs: Any = None) -> None:
        """The model is called."""
        if self._paused or self._evaluation > 1 or backward_task() != -1:
            return
        group = self._group
        if group is not None:
            if group.calls or group.stepped or group.counted:
                self._close_group()
            else:
                group.next_answer()
        loader = self._loader
        if loader is not None and loader.lingers and not loader.expects((args, kwargs)):
            self._end_lingering()
        if self._loader is not None:
            return
        self._hooked = None
        split = self._named or ("train" if model.training else "val")
        if split in self._loader_splits and self._named is None:
            return
        clock = self.clock
        if clock.phase is None:  # before an epoch's first call the user does other things
            clock.lap("other")
        clock.enter(split)
        clock.lap(split, waited=clock.waiting)

    @contained("model hook")
    def on_forward(self, model: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """The model has answered."""
        if backward_task() != -1:
            self._recomputed = True
            return
        if self._paused or self._evaluation > 1:
            return
        loader = self._loader
        name = self._named
        if name is None:
            if loader is not None:
                name = loader.split
            else:
                name = "train" if model.training else "val"
                if name in self._loader_splits:
                    return
        group = self._group
        if group is None or group.split != name:
            group = self._open_group(name)
        extractors = self.extractors
        preds = output
        if type(output) is not Tensor or extractors.preds is not None:
            preds = self._predictions(output)
        first_input = _first_tensor(args, kwargs)
        rows = _rows(preds, first_input)
        answer = Answer(output, preds, rows, first_input)
        group.add(answer)
        if loader is not None:
            if loader.waiting:
                answer.batch, passed_over = loader.answered((args, kwargs))
                self._passed_over(name, passed_over)
                if answer.batch is NO_BATCH:
                    self._seen(name).cause = PULLED_AHEAD
            if name == "val" and model.training and self.mode_matters:
                self.faults.warn(TRAINING_MODE)
        elif name != "train":
            self._seen(name).at(call_site(), rows)
        if extractors.labels is not None or not self.criterion_seen:
            self._count_at_once(model, args, kwargs or {}, output)

    @contained("criterion hook")
    def on_criterion(
        self, criterion: Any, args: tuple[Any, ...], kwargs: dict[str, Any], loss: Any
    ) -> None:
        """The loss was computed: what it was given counts, if it is what the model has answered."""
        if self._paused or self._evaluation > 1 or backward_task() != -1:
            return
        group = self._group
        if group is None or (group.counted and not group.answers):
            name = self._own_name()
            if name is None:
                return
            group = self._open_group(name)  # whoever answers in a split that the user has named
        call = criterion_call(criterion, args, kwargs)
        if not isinstance(loss, Tensor):
            loss = None
        answer = group.exact(call.preds)
        if answer is None and group.answers:
            found = group.candidate(call)
            if found is not None and not group.counted:
                group.calls += 1
                group.candidates.append(found)
                self._add_loss(group, loss, call, found.answers[-1].number, found)
            return
        group.calls += 1
        number = 0
        if answer is not None:
            number = answer.number
            answer.used = True
        try:
            if not group.counted:
                self._count_call(group, call)
        finally:
            self._add_loss(group, loss, call, number)
            if answer is not None:
                answer.let_go()
            self._bare_batch_done(group)

    @contained("optimizer hook")
    def on_step_begin(self, optimizer: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The optimizer is about to step: of a closure that it calls again and again, one counts.

        Returns:
            Its arguments with another closure, or None where it has none.
        """
        self._evaluation = 0
        kwargs = kwargs or {}
        closure = kwargs.get("closure")
        place = 0
        if closure is None:
            for number, argument in enumerate(args):
                if number and callable(argument):
                    closure = argument
                    place = number
        if closure is None:
            return None
        counted = self._counted_closure(closure)
        if place:
            return (*args[:place], counted, *args[place + 1 :]), kwargs
        return args, {**kwargs, "closure": counted}

    @contained("optimizer hook")
    def on_step(self, optimizer: Any = None, args: Any = (), kwargs: Any = None) -> None:
        """The optimizer has stepped."""
        if self._evaluation > 1:
            self._told.say(
                "closure",
                f"optimizer: the closure was called {self._evaluation} times in a step; rows and "
                "loss are counted once a step, by its first call",
            )
        self._evaluation = 0
        phase = "train"
        if self._loader is not None:
            phase = self._loader.split
        evaluates = self._loader is None and self.clock.phase == "val"
        group = self._group
        if group is not None:
            again = group.stepped and group.split == "train"
            group.stepped = True
            by_batch = self.criterion_seen and group.answers[:1] and self._loader is not None
            if group.calls or group.counted or by_batch or again:
                self._close_group()
            if again:
                self._tell_not_counted("train")
        self._moved_on()
        self.clock.lap(phase)
        self._step_done()
        self.clock.waiting = True
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
        name = self._checked_split(split)
        group = self._group
        if group is not None and (group.calls or group.counted):
            self._close_group()
            group = None
        if self._hooked == name:
            self.faults.warn(COUNTED_TWICE)
            return
        if group is not None:
            for answer in group.answers:
                answer.used = True
                answer.batch = NO_BATCH
            self._close_group()
        self._moved_on()
        if name == "train":
            self._trained += 1
        if self._loader is None:
            self.clock.enter(name)
            self.clock.lap(name)
        else:
            self._loader.waiting.clear()
        counts = self._before_counting(name)
        self.faults.step = counts.batches
        try:
            counts.add(preds, target, loss, reduction, **beside)
            self._seen(name).losses += loss is not None
            self._counted(name, counts)
        finally:
            self.clock.waiting = True
            if name == "train" and self._loader is None and not self.optimizer_seen:
                self._step_done()

    def update_loss(self, loss: Any, *, split: str | None, reduction: str) -> None:
        """Count the loss of the batch that was counted last."""
        name = self._checked_split(split)
        group = self._group
        if group is not None:
            group.losses.clear()  # the loop knows better than what a criterion returned
            self._close_group()
        self._moved_on()
        self.split(name).add_loss(loss, reduction)
        self._seen(name).losses += 1

    # The end of an epoch.

    def end_epoch(self) -> None:
        """No batch comes any more."""
        self._end_lingering()
        self._close_group()
        self._moved_on()
        self.clock.end_epoch()
        self._hooked = None
        self.faults.step = None
        without_grad = self._without_grad
        self._without_grad = 0
        # A checkpointed training step hides its gradients as well.
        if without_grad and not self._recomputed:
            self.faults.warn(TRAINING_MODE)
        for name in self.seen:
            self._tell_not_counted(name)
            line = self.seen[name].several_places(name)
            if line:
                self.seen[name].said = line
                self._told.say(f"passes {name}", line)

    def finish(self) -> None:
        """The run ends: nothing of the loop comes any more."""
        self._end_lingering()
        self._close_group()
        self._moved_on()

    def went_by(self) -> dict[str, dict[str, Any]]:
        """What went by of each split: the record's `seen`."""
        record: dict[str, dict[str, Any]] = {}
        for name, seen in self.seen.items():
            counts = self.split(name)
            record[name] = {
                "answers": seen.answers,
                "answered_rows": seen.answered_rows,
                "unpaired_rows": seen.unpaired_rows,
                "counted_rows": counts.samples,
                "criterion_calls": seen.criterion_calls,
                "losses": seen.losses,
                "loader_rows": seen.loader_rows,
                "batch_rows": counts.targets / max(1, seen.losses),
                "like_probabilities": counts.like_probabilities,
                "criterion": dict(seen.criterion),
                "inputs": counts.inputs,
                "message": seen.said,
                "optimizer_steps": counts.steps,
            }
            passes = seen.separate_passes()
            if passes:
                record[name]["passes"] = len(passes)
                record[name]["pass_rows"] = [rows for _, rows in passes[:MAX_PASSES]]
        return record

    def start_epoch(self) -> None:
        """Count from nothing; a split that cannot be reset is made anew."""
        closed = self.splits
        self.splits = {}
        self.seen = {}
        self.steps = 0
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
        before = self._named
        self._close_group()
        self._moved_on()
        self._named = name
        if name is not None and name in self.splits and self.splits[name].batches:
            self._told.close_validation(name)
        return before

    def state_dict(self) -> dict[str, Any]:
        """Half-done counts by split."""
        self._close_group()
        self._moved_on()
        return {name: split.state_dict() for name, split in self.splits.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put stored counts in the place of those of now."""
        splits = {}
        for name, counts in state.items():
            splits[name] = self._new_split(name)
            splits[name].load_state_dict(counts)
        self.splits = splits

    # Groups.

    def _open_group(self, name: str) -> Group:
        if self._group is not None:
            self._close_group()
        if name == "train":
            if self.every and self.steps >= self.every:
                self._told.close_epoch()
            self._trained += 1
        group = Group(name)
        self._group = group
        return group

    def _is_done(self, loader: LoaderPass, group: Group) -> bool:
        """Whether the group is closed when its loader goes on.

        Answers wait for a criterion that is given several of them at once, unless this pass has
        shown that none is called.
        """
        if group.calls:
            loader.with_criterion = True
        if group.calls or group.counted or not self.criterion_seen:
            return True
        if len(group.answers) >= KEPT_ANSWERS:
            loader.by_batch = not loader.with_criterion
            return True
        return loader.by_batch

    def _close_group(self) -> None:
        """The loop goes on: what may count does, losses are averaged, the rest is noted."""
        group = self._group
        if group is None:
            return
        self._group = None
        try:
            if not group.counted:
                self._settle(group)
            if group.losses:
                self._settle_losses(group)
        finally:
            if group.answers:
                self._seen(group.split).closed(group)

    def _moved_on(self) -> None:
        """What was counted and the loss of it are settled: another batch comes."""
        self._last = None
        held = self._held
        if held is not None:
            self._held = None
            split, loss = held
            self.split(split).count_loss(loss)
            self._seen(split).losses += 1

    def _settle(self, group: Group) -> None:
        """Count what there is no choice about."""
        found = group.best_candidate()
        if found is not None:
            for answer in found.answers:
                answer.used = True
            group.losses = [loss for loss in group.losses if loss.candidate is found]
            self._count_call(group, found.call)
            return
        if group.candidates:
            group.losses = []
            cause = f"{len(group.candidates)} calls of the criterion could belong to one answer"
            self._seen(group.split).cause = cause
            return
        for answer in group.answers:
            if answer.batch is not NO_BATCH:
                self._count_batch(group, answer)

    def _settle_losses(self, group: Group) -> None:
        """The loss of the group's rows: the only one, or what the optimizer minimises."""
        losses = group.losses
        last = losses[-1]
        loss: HeldLoss | None = last.held
        if len(losses) > 1:
            same = [each for each in losses if each.answer == last.answer]
            if len(same) > 1:
                loss = minimised(same)
            self._tell_several_calls(group.split, len(losses), loss is not None)
        if not group.repeats:
            counted = self._last
            self._moved_on()
            self._last = counted
        self._held = None
        if loss is not None:
            self._held = group.split, loss

    def _tell_several_calls(self, split: str, calls: int, known: bool) -> None:
        what = "the loss is the mean that the optimizer minimises"
        if not known:
            what = f"which of them is minimised was not seen, so {split}/loss leaves these rows out"
        self._told.say(
            f"several-calls {split}",
            f"{split}: the criterion was called {calls} times for one batch; its rows are counted "
            f"once, and {what}",
        )

    def _add_loss(
        self, group: Group, loss: Any, call: CriterionCall, answer: int, found: Any = None
    ) -> None:
        """One more loss of the group's rows, as it is now."""
        if not isinstance(loss, Tensor):
            return
        counts = self.splits.get(group.split) or self.split(group.split)
        added = Loss(counts.held_loss(loss, call), loss.grad_fn, answer, found)
        if group.losses:
            group.losses[0].watch()
            added.watch()
        group.losses.append(added)

    def _count_call(self, group: Group, call: CriterionCall) -> None:
        """Count the pair that a criterion was given, as torch defines it."""
        preds = call.preds
        if not isinstance(preds, Tensor):
            preds = self.extractors.predictions(preds)
        beside: dict[str, Any] = {}
        if self.extractors.ids:
            batch = _batch_of(group)
            if batch is NO_BATCH:
                self.faults.warn(IDS_WITHOUT_BATCH)
            else:
                beside = self.extractors.ids_of(preds, batch)
        self._count(group, preds, call.target, beside)

    def _count_batch(self, group: Group, answer: Answer) -> None:
        """Count an answer beside the targets of the loader's batch."""
        preds = answer.preds
        if preds is None:
            preds = self.extractors.predictions(answer.output)
        target = self.extractors.target_of(preds, answer.batch)
        answer.used = True
        self._count(group, preds, target, self.extractors.ids_of(preds, answer.batch))

    def _count_at_once(
        self, model: nn.Module, args: Any, kwargs: dict[str, Any], output: Any
    ) -> None:
        """Count an answer whose targets are known: the model's own labels, or the loader's."""
        group = self._group
        if group is None:
            return
        extractors = self.extractors
        answer = group.answers[-1]
        target = extractors.labels_in_call(model, args, kwargs)
        if target is None:
            if answer.batch is not NO_BATCH and not group.counted:
                self._count_batch(group, answer)
                answer.let_go()
            elif extractors.loss is not None:
                self._add_loss_alone(group, output, answer)
            return
        preds = answer.preds
        if preds is None:
            preds = extractors.predictions(output)
        answer.used = True
        beside = {}
        if answer.batch is not NO_BATCH:
            beside = extractors.ids_of(preds, answer.batch)
        if isinstance(preds, Tensor) and isinstance(target, Tensor):
            target = target.to(preds.device, non_blocking=True)
            if preds.ndim == 3 and target.ndim == 2:
                beside["class_dim"] = -1  # as language models return them
            if extractors.shift:
                preds, target = shifted(preds, target)
        loss = extractors.loss_of(output)
        try:
            self._count(group, preds, target, beside)
        finally:
            self._add_loss(group, loss, CriterionCall(preds, target), answer.number)
            answer.let_go()
            self._bare_batch_done(group)

    def _add_loss_alone(self, group: Group, output: Any, answer: Answer) -> None:
        """Count a loss that a model returns without predictions, as detectors do in training."""
        loss = self.extractors.loss_of(output)
        if isinstance(loss, Tensor):
            answer.used = True
            group.counted = True
            rows = torch.zeros(answer.rows, dtype=torch.int64, device=loss.device)
            self._add_loss(group, loss, CriterionCall(rows, rows), answer.number)
            self._status.half_done = True

    def _count(self, group: Group, preds: Any, target: Any, beside: dict[str, Any]) -> None:
        name = group.split
        inputs = None
        if group.answers:
            reference = group.answers[-1].first_input
            inputs = reference and reference()
        group.counted = True
        group.repeats = self._repeats(name, target, inputs)
        if group.repeats:
            self._told.say(
                f"repeated {name}",
                f"{name}: the same targets were answered more than once before the loop went on; "
                "their rows are counted once, and the loss is that of the last answer",
            )
            return
        if self._last is not None:
            self._moved_on()
        self._last = Counted(name, target, inputs)
        counts = self._before_counting(name)
        self.faults.step = counts.batches
        self._hooked = name
        counts.add(preds, target, **beside)
        self._counted(name, counts)

    def _repeats(self, name: str, target: Any, inputs: Any) -> bool:
        """Whether these targets were counted since the last step, for another answer.

        In training without an optimizer each answer is a step; in evaluation the same batch may
        come again, but then with the same inputs.
        """
        last = self._last
        if last is None or last.split != name:
            return False
        if name == "train":
            return self.optimizer_seen and last.same_target(target)
        return last.same_target(target) and not last.same_inputs(inputs)

    def _before_counting(self, name: str) -> SplitCounts:
        """The counts of a split; training since its last batch makes it a validation of its own."""
        counts = self.splits.get(name) or self.split(name)
        if name != "train":
            if counts.batches and counts.trained_before != self._trained:
                self._told.close_validation(name)
            counts.trained_before = self._trained
        return counts

    def _counted(self, name: str, counts: SplitCounts) -> None:
        self._status.half_done = True
        if self._told.counted is not None:
            self._told.counted(name, counts.batches - 1)

    def _bare_batch_done(self, group: Group) -> None:
        """A batch of hooks alone ends with its loss: the time, and the step if none is seen."""
        if self._loader is not None:
            return
        name = group.split
        self.clock.lap(name)
        if name == "train" and len(group.losses) < 2:
            self._without_grad += not torch.is_grad_enabled()
            if not self.optimizer_seen:
                self._step_done()

    def _passed_over(self, split: str, batches: int) -> None:
        """Batches that the attached model never answered."""
        if split not in ("train", "val"):
            return  # it may be that of another model, such as an average of the weights
        for _ in range(batches):
            self.faults.warn(NO_FORWARD)

    def _own_name(self) -> str | None:
        """The split that the user has named, in words of their own; None for none."""
        if self._named is not None:
            return self._named
        if self._loader is not None and self._loader.split not in ("train", "val"):
            return self._loader.split
        return None

    def _seen(self, name: str) -> Seen:
        if name not in self.seen:
            self.seen[name] = Seen()
        return self.seen[name]

    def _tell_not_counted(self, name: str) -> None:
        seen = self.seen.get(name)
        if seen is None:
            return
        counted = 0
        if name in self.splits:
            counted = self.splits[name].samples
        line = seen.not_counted(name, counted)
        if line:
            seen.said = line
            if not counted or name != "train":
                self._told.say(f"not-counted {name}", line)

    def _predictions(self, output: Any) -> Any:
        """The predictions in an answer; None where there are none, which is told if they count."""
        try:
            return self.extractors.predictions(output)
        except DtypeError:
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
            return closure(*args, **kwargs)

        return evaluate

    def _step_done(self) -> None:
        self._trained += 1
        self.steps += 1
        self.split("train").steps += 1
        self.clock.step_done()


def check_split(name: object) -> None:
    """Refuse what cannot be the name of a split.

    Raises:
        ConfigError: If it is none.
    """
    if not isinstance(name, str) or not name or "/" in name:
        cure = 'Pass split="train" or split="val".'
        raise ConfigError("split", 'a name without "/"', repr(name), cure)


class Block:
    """A `with` block in which the recorder does otherwise.

    Args:
        change: Makes a change and returns what held before.
        value: What it is changed to.
    """

    def __init__(self, change: Callable[[Any], Any], value: Any) -> None:
        self._change = change
        self._value = value
        self._before: Any = None

    def __enter__(self) -> None:
        self._before = self._change(self._value)

    def __exit__(self, *error: object) -> None:
        self._change(self._before)


class Counted:
    """What was counted last: another answer to the same targets is no further row.

    Nothing is held: who asks has the tensors, or they are not the same.
    """

    __slots__ = ("_inputs", "_target", "split", "version")

    def __init__(self, split: str, target: Any, inputs: Any) -> None:
        self.split = split
        self._target = _reference(target)
        self._inputs = _reference(inputs)
        self.version = _version(target)

    def same_target(self, target: Any) -> bool:
        """Whether these are its targets, and nobody has written over them since."""
        before = self._target and self._target()
        return same_rows(before, target) and self.version == _version(target)

    def same_inputs(self, inputs: Any) -> bool:
        """Whether these are the inputs that were answered."""
        return same_rows(self._inputs and self._inputs(), inputs)


def _reference(value: Any) -> "weakref.ref[Tensor] | None":
    if isinstance(value, Tensor):
        return weakref.ref(value)
    return None


def _version(target: Any) -> int:
    """How often a tensor was written to, where torch counts that."""
    if isinstance(target, Tensor) and not target.is_inference():
        return int(target._version)
    return 0


def _batch_of(group: Group) -> Any:
    """The batch of a group's answers; `NO_BATCH` where there is none."""
    for answer in group.answers:
        if answer.batch is not NO_BATCH:
            return answer.batch
    return NO_BATCH


def _first_tensor(args: Any, kwargs: Any) -> Any:
    if args and isinstance(args[0], Tensor):
        return args[0]
    return next(tensors_in((args, kwargs)), None)


def _rows(preds: Any, first_input: Any) -> int:
    found = preds
    if not isinstance(found, Tensor):
        found = first_input
    if isinstance(found, Tensor) and found.ndim:
        return found.shape[0]
    return 1
