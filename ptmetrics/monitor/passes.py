"""One pass over a loader, and the layers of a model that care for its mode."""

import threading
import weakref
from collections import deque
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ptmetrics.monitor.answers import NO_BATCH, Group, same_place
from ptmetrics.monitor.extract import CriterionCall, tensors_in
from ptmetrics.monitor.seen import RankShare
from ptmetrics.record.printable import quantity

KEPT_BATCHES = 64  # pulled ahead of the model
_MODE_LAYERS = (
    nn.modules.dropout._DropoutNd,
    nn.modules.batchnorm._NormBase,
)


class LoaderPass:
    """One pass over a monitored loader.

    Args:
        split: The split of its batches.
        outer: The pass that it stands inside of, as in a training epoch that is validated in its
            middle.
        group: What was open when it began.
        share: What this rank is given of the data; None where that is not known.

    Attributes:
        padding: Rows of padding that are still to come, in the last batch.
        waiting: Batches that the model has not answered yet, the oldest first.
        begun: Whether there was a batch.
        ahead: Whether batches were pulled before the model had answered the one before.
        exhausted: Whether the loader has no more batches.
        lingers: Whether it is exhausted, but the model may answer yet.
        with_criterion: Whether the criterion was called for a batch.
        thread: Where it was begun.
        threaded: Whether its batches are pulled in another thread than the model answers in.
        learned: Whether one of its losses had a gradient.
        by_batch: Whether answers count beside their batches, as no criterion is called.
    """

    begun = False
    ahead = False
    exhausted = False
    lingers = False
    with_criterion = False
    threaded = False
    learned = False
    by_batch = False

    def __init__(
        self,
        split: str,
        outer: "LoaderPass | None",
        group: Group | None,
        share: RankShare | None = None,
    ) -> None:
        self.split = split
        self.thread = threading.get_ident()
        self.outer = outer
        self.group = group
        self.waiting: deque[Any] = deque(maxlen=KEPT_BATCHES)
        self.padding = 0
        self._share = share
        self._served = 0
        self._last: Any = NO_BATCH
        if share is not None:
            self.padding = share.padding

    def serve(self, batch: Any) -> None:
        """The loader yields a batch."""
        self.waiting.append(batch)
        self._served += 1
        if self.padding and self._share is not None and self._served == self._share.batches:
            self._last = batch

    def padding_of(self, batch: Any, rows: int) -> int:
        """How many rows at the end of a batch are padding, which from now on is taken care of.

        Args:
            batch: A batch of this pass.
            rows: How many samples it seems to have.
        """
        if batch is NO_BATCH or batch is not self._last or self._share is None:
            return 0
        if rows != self._share.last_rows:
            return 0
        padding = self.padding
        self.padding = 0
        return padding

    def expects(self, model: nn.Module, given: Any) -> bool:
        """Whether a call of the model belongs to a pass that lingers.

        What it is given is part of a batch that waits, or as large as one and so may be a copy.
        """
        if not self.waiting:
            return False
        inputs = tensors_in(given)
        ahead = self.ahead
        self.ahead = True  # from here on only what is given tells
        if any(_is_given(batch, inputs) for batch in self.waiting):
            return True
        if model.training is not (self.split == "train"):
            return False
        return ahead or any(_are_given(batch, inputs) for batch in self.waiting)

    def that_is_answered(self, model: nn.Module, given: Any) -> "LoaderPass":
        """Of the passes that are under way, the one that a call of the model belongs to.

        It stands inside of the others from here on: iterators that are held take turns. That is the
        one of the batch that the model is given, else the innermost one whose batches wait and whose
        split fits the model's mode; of two such with the same split only what is given tells.
        """
        inputs = tensors_in(given)
        fitting = []
        found = None
        each: LoaderPass | None = self
        while each is not None and found is None:
            if any(_is_given(batch, inputs) for batch in each.waiting):
                found = each
            elif each.waiting and model.training is (each.split == "train"):
                fitting.append(each)
            each = each.outer
        if found is None and fitting:
            found = fitting[0]
            for other in fitting[1:]:
                found.ahead = found.ahead or other.split == found.split
        if found is None or found is self:
            return self
        before = self
        while before.outer is not None and before.outer is not found:
            before = before.outer
        before.outer = found.outer
        found.outer = self
        return found

    def answered(self, given: Any) -> tuple[Any, int]:
        """Take the batch that the model was given out of the queue.

        Where several wait it is the one that shares its memory with what the model was given.

        Returns:
            The batch, `NO_BATCH` where none can be told, and how many older ones were passed over.
        """
        waiting = self.waiting
        self.ahead = True
        inputs = tensors_in(given)
        for number, batch in enumerate(waiting):
            if _is_given(batch, inputs):
                for _ in range(number + 1):
                    waiting.popleft()
                return batch, number
        if self.with_criterion:  # whose calls count, whichever it was
            waiting.popleft()
        return NO_BATCH, 0


class OtherModel:
    """Calls of the criterion for what the attached model did not answer, of a pass of their own.

    A pass is what comes without gradients, several times and for more rows than the model's last
    answer had before that is called again, and beside other targets each time. A teacher, a second
    head, a discriminator beside the model or the loss of a part of its answer is none.

    Attributes:
        heard: Whether there was such a call at all.
        calls: Calls of such passes.
        rows: Their rows.
        learned_calls: Calls with gradients.
        learned_rows: Their rows.
        most_rows: Of one call without gradients.
    """

    def __init__(self) -> None:
        self.heard = False
        self.calls = 0
        self.rows = 0
        self.learned_calls = 0
        self.learned_rows = 0
        self.most_rows = 0
        self._behind: object = None  # tells the model's last answer from others
        self._answered_rows = 0  # of that answer
        self._calls_behind = 0
        self._rows_behind = 0
        self._target: weakref.ref[Tensor] | None = None

    def called(self, call: CriterionCall, behind: object, answered_rows: int = 0) -> None:
        """The criterion was called behind an answer of the model with so many rows."""
        preds = call.preds
        target = call.target
        if not isinstance(preds, Tensor) or not isinstance(target, Tensor) or not preds.ndim:
            return
        again = self._target is not None and self._target() is target
        self._target = weakref.ref(target)
        if preds.requires_grad:
            self.heard = True
            self.learned_calls += 1
            self.learned_rows += preds.shape[0]
        if preds.requires_grad or again:
            return
        self.heard = True
        self.most_rows = max(self.most_rows, preds.shape[0])
        if behind != self._behind:
            self._answered_again()
            self._behind = behind
        self._answered_rows = answered_rows
        self._calls_behind += 1
        self._rows_behind += preds.shape[0]

    def told(self, counted_rows: int) -> str:
        """The line about it; "" where it is no pass over as much as half of the validation."""
        self._answered_again()
        if not self.calls or 2 * self.rows < counted_rows:
            return ""
        return (
            f"the criterion was called {self.calls} times for {self.rows} rows that the attached "
            f"model did not answer; they count nowhere, beside {counted_rows} rows of val. If they "
            "are of an average of its weights, name them: with monitor.split('ema'): …; else leave "
            "them out, with monitor.pause(): …"
        )

    def told_of_training(self, steps: int) -> str:
        """The line where nothing else was learned from in so many steps; "" for nothing."""
        if not steps or not self.learned_calls:
            return ""
        where = f"train: in {quantity(steps, 'step')} of the optimizer"
        return _past_the_model(where, self.learned_calls, self.learned_rows)

    def told_of_validation(self) -> str:
        """The line of a pass where the model itself was called neither in training nor behind it."""
        return _past_the_model("val:", self.calls, self.rows)

    def _answered_again(self) -> None:
        """What came behind one answer is a pass, or not."""
        if self._calls_behind > 1 and self._rows_behind > self._answered_rows:
            self.calls += self._calls_behind
            self.rows += self._rows_behind
        self._calls_behind = 0
        self._rows_behind = 0


def _past_the_model(where: str, calls: int, rows: int) -> str:
    return (
        f"{where} the criterion was called {calls} times for {rows} rows, and none of them was an "
        "answer of the attached model: 0 were counted. Call the model itself, model(inputs), in the "
        "place of model.forward(inputs) or of its parts, or attach what is called."
    )


def without_last(values: Any, rows: int, padding: int) -> Any:
    """Rows without the last ones, of a tensor or of each tensor in a mapping.

    Args:
        values: What was counted of a batch.
        rows: How many it has.
        padding: How many of them to leave out.
    """
    if isinstance(values, Mapping):
        return {name: without_last(value, rows, padding) for name, value in values.items()}
    if isinstance(values, Tensor) and values.ndim and values.shape[0] == rows:
        return values[: rows - padding]
    return values


def _is_given(batch: Any, inputs: list[Tensor]) -> bool:
    for part in tensors_in(batch):
        for given in inputs:
            if part is given:
                return True
            if same_place(part, given):
                return True
    return False


def may_be_of(batch: Any, target: Any, given: list[Any]) -> bool:
    """Whether inputs or targets are of a batch, or the targets a copy of a part of it elsewhere."""
    targets = tensors_in(target)
    if _is_given(batch, targets + tensors_in(given)):
        return True
    for part in tensors_in(batch):
        for each in targets:
            elsewhere = part.device != each.device or part.dtype != each.dtype
            if elsewhere and part.numel() == each.numel():
                return True
    return False


def _are_given(batch: Any, inputs: list[Tensor]) -> bool:
    shapes = {given.shape for given in inputs}
    return any(part.shape in shapes for part in tensors_in(batch))


def holds_batch_norm(model: nn.Module) -> bool:
    """Whether a model has layers that take the mean of the batch in training, and a kept one else."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def acts_otherwise_in_training(model: nn.Module) -> bool:
    """Whether a model has dropout or batch statistics, so that its mode matters."""
    for module in model.modules():
        if isinstance(module, _MODE_LAYERS):
            return True
        share = getattr(module, "dropout", None)
        if isinstance(share, float) and share > 0:
            return True
    return False
