"""What belongs together: the model's answers, the criterion's calls and the loader's batch.

Pairs are tied by what they show. A criterion's call belongs to an answer whose tensor it was given
(*exact*), to one that it was given a part of, or one that its predictions descend from in the
graph; else only where there is no choice: one call, and predictions as large as the answers.
"""

import weakref
from itertools import count
from typing import Any

import torch
from torch import Tensor

from ptmetrics.monitor.extract import CriterionCall, tensors_in
from ptmetrics.monitor.split_loss import HeldLoss

KEPT_ANSWERS = 4  # whose tensors are held until a criterion's call tells which of them counts
MAX_NODES = 64  # of the graph between an answer and the predictions of a criterion
_NUMBERS = count(1)

NO_BATCH = object()
LOOSE, SECONDARY, RELATED, EXACT = range(4)
"""How a call is tied to an answer: by size alone, to another output, by descent, to the tensor."""


class Answer:
    """One call of the attached model.

    Args:
        output: What it returned.
        preds: The predictions in it; None where there are none.
        rows: Number of its rows.
        first_input: The first tensor that it was given.

    Attributes:
        first_input: What it was given, as long as somebody holds that.
        number: A number of its own.
        used: Whether something was counted of it.
        batch: The loader's batch that it answers; `NO_BATCH` for none.
        with_graph: Whether a gradient can reach it.
    """

    __slots__ = (
        "_original", "batch", "first_input", "number", "output", "preds", "rows", "used",
        "with_graph",
    )  # fmt: skip

    def __init__(self, output: Any, preds: Any, rows: int, first_input: Any) -> None:
        self.number = next(_NUMBERS)
        self.output = output
        self.preds = preds
        self.rows = rows
        self.first_input = None
        if isinstance(first_input, Tensor):
            self.first_input = weakref.ref(first_input)
        self.used = False
        self.batch: Any = NO_BATCH
        self.with_graph = False
        self._original: Any = None
        if isinstance(preds, Tensor):
            node = preds.grad_fn
            if node is not None:
                self.with_graph = True
                # Nothing is held: the node itself remembers whose it is.
                metadata: Any = node.metadata
                metadata[self.number] = "ptmetrics"

    def let_go_of_graph(self) -> None:
        """Hold its predictions without what they were computed from."""
        self.output = None
        if self.with_graph and isinstance(self.preds, Tensor):
            self._original = weakref.ref(self.preds)
            self.preds = self.preds.detach()

    def let_go(self) -> None:
        """Hold its tensors no longer; they can still be recognised while somebody else does."""
        if isinstance(self.preds, Tensor) and self._original is None:
            self._original = weakref.ref(self.preds)
        self.preds = None
        self.output = None

    def is_exactly(self, preds: Any) -> bool:
        """Whether these are its predictions, in whatever shape."""
        if preds is self.output and preds is not None:
            return True
        own = self.preds
        if self._original is not None:
            original = self._original()
            if original is not None:
                own = original
        if not isinstance(own, Tensor):
            return own is not None and preds is own
        if preds is own:
            return True
        if not isinstance(preds, Tensor):
            return False
        return same_storage(own, preds) and own.numel() == preds.numel()

    def holds(self, preds: Tensor) -> int:
        """How other predictions lie in what the model returned; −1 for not at all."""
        if isinstance(self.preds, Tensor) and same_storage(self.preds, preds):
            return RELATED
        if self.output is not self.preds:
            for part in tensors_in(self.output):
                if part is preds or same_storage(part, preds):
                    return SECONDARY
        return -1


class Candidate:
    """A criterion's call that may count when its group is closed."""

    __slots__ = ("answers", "call", "tie")

    def __init__(self, tie: int, call: CriterionCall, answers: list[Answer]) -> None:
        self.tie = tie
        self.call = call
        self.answers = answers


class Loss:
    """A loss of the group's rows, as it was when it was returned.

    Args:
        held: Value and weights, as `SplitLoss.held` makes them.
        node: Of the graph, where it was computed; None without a gradient.
        answer: Number of the answer.
        candidate: What it counts with; None where its rows count anyway.

    Attributes:
        gradient: What it had in the backward pass; None where that was not seen.
    """

    __slots__ = ("answer", "candidate", "gradient", "held", "node")

    def __init__(self, held: HeldLoss, node: Any, answer: int, candidate: Candidate | None) -> None:
        self.held = held
        self.node = node
        self.answer = answer
        self.candidate = candidate
        self.gradient: Tensor | None = None

    def watch(self) -> None:
        """Learn how much it weighs in what is minimised."""
        if self.node is not None:
            self.node.register_prehook(self._keep)
            self.node = None

    def _keep(self, gradients: tuple[Tensor | None, ...]) -> None:
        if gradients and gradients[0] is not None:
            self.gradient = gradients[0].detach()


def minimised(losses: list[Loss]) -> HeldLoss | None:
    """The mean of several losses of the same rows as the optimizer weighs them; None if unknown.

    Their gradients are the weights, up to the factor by which the whole is scaled.
    """
    total: Any = 0
    weights: Any = 0
    for loss in losses:
        if loss.gradient is None or loss.gradient.numel() != loss.held.value.numel():
            return None
        weight = loss.gradient.double().reshape(-1)
        total = total + weight * loss.held.value
        weights = weights + weight
    return HeldLoss(total / weights, losses[-1].held.weights, losses[-1].held.targets)


class Group:
    """Answers, calls and batches that belong together, until the loop goes on.

    Args:
        split: The split that they count for.

    Attributes:
        answers: Calls of the model; of many only the last hold their tensors.
        calls: Calls of the criterion that could belong to them.
        counted: Whether its rows are counted.
        repeats: Whether its targets had been counted before; then it counts no rows.
        candidates: Calls that may count.
        losses: Losses of its rows.
        stepped: Whether the optimizer stepped since the first answer.
    """

    __slots__ = (
        "answers", "calls", "candidates", "counted", "losses", "repeats", "split", "stepped",
    )  # fmt: skip

    def __init__(self, split: str) -> None:
        self.split = split
        self.answers: list[Answer] = []
        self.calls = 0
        self.counted = False
        self.repeats = False
        self.candidates: list[Candidate] = []
        self.losses: list[Loss] = []
        self.stepped = False

    def add(self, answer: Answer) -> None:
        """One more answer; the oldest of many lets its tensors go."""
        self.answers.append(answer)
        if len(self.answers) > KEPT_ANSWERS:
            self.answers[-1 - KEPT_ANSWERS].let_go()

    def next_answer(self) -> None:
        """The model is called once more: what the last answer was computed from is let go."""
        if self.answers:
            self.answers[-1].let_go_of_graph()

    def exact(self, preds: Any) -> Answer | None:
        """The answer that these are the predictions of."""
        for answer in reversed(self.answers):
            if answer.is_exactly(preds):
                return answer
        return None

    def candidate(self, call: CriterionCall) -> Candidate | None:
        """How a call is tied to the answers, where it is not exactly; None where it cannot be."""
        preds = call.preds
        if not isinstance(preds, Tensor) or not preds.ndim:
            return None
        for answer in reversed(self.answers):
            tie = answer.holds(preds)
            if tie >= 0:
                return Candidate(tie, call, [answer])
        sizes = [a.preds.numel() for a in self.answers if isinstance(a.preds, Tensor)]
        if preds.grad_fn is not None:
            related = descent(preds, self.answers)
            if related:
                if preds.numel() > sum(sizes):
                    return None  # of answers that were counted before, too
                return Candidate(RELATED, call, related)
            if any(answer.with_graph for answer in self.answers):
                return None  # of another model: its graph leads elsewhere
        if preds.numel() in {*sizes, sum(sizes)}:
            return Candidate(LOOSE, call, self.answers)
        return None

    def best_candidate(self) -> Candidate | None:
        """The call that counts: the only one of the closest tie; None where there is a choice."""
        if not self.candidates:
            return None
        closest = max(candidate.tie for candidate in self.candidates)
        best = [candidate for candidate in self.candidates if candidate.tie == closest]
        first = best[0]
        for other in best[1:]:
            if not same_rows(first.call.preds, other.call.preds):
                return None
        return first


def same_storage(one: Tensor, other: Tensor) -> bool:
    """Whether two plain tensors lie in the same memory."""
    if type(one) is not Tensor or type(other) is not Tensor or one.device != other.device:
        return False
    if one.layout is not torch.strided or other.layout is not torch.strided:
        return False
    place = one.untyped_storage().data_ptr()
    return place != 0 and place == other.untyped_storage().data_ptr()


def same_rows(one: Any, other: Any) -> bool:
    """Whether two tensors are one, or the same part of the same memory."""
    if one is other:
        return one is not None
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.shape != other.shape:
        return False
    return same_storage(one, other) and one.data_ptr() == other.data_ptr()


def descent(preds: Tensor, answers: list[Answer]) -> list[Answer]:
    """The answers that predictions were computed from, as their graph tells."""
    numbers = {answer.number: answer for answer in answers}
    found: list[Answer] = []
    waiting: list[Any] = [preds.grad_fn]
    seen = 0
    while waiting and seen < MAX_NODES:
        node = waiting.pop()
        seen += 1
        here = [answer for number, answer in numbers.items() if number in node.metadata]
        if here:
            found.extend(answer for answer in here if answer not in found)
            continue
        for before, _ in node.next_functions:
            if before is not None:
                waiting.append(before)
    return found
