"""What belongs together: the model's answers, the criterion's calls and the loader's batch.

Pairs are tied by what they show. A criterion's call belongs to an answer whose tensor it was given
(*exact*), to one that it was given a part of, or one that its predictions descend from in the
graph; else only where there is no choice: one call, and predictions as large as the answers.
"""

import weakref
from collections.abc import Sequence
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ptmetrics.monitor.extract import CriterionCall, tensors_in
from ptmetrics.monitor.seen import Place, Seen
from ptmetrics.monitor.split_loss import HeldLoss

KEPT_ANSWERS = 4  # whose tensors are held until a criterion's call tells which of them counts
MAX_NODES = 64  # of the graph between an answer and the predictions of a criterion
_NUMBERS = count(1)

NO_BATCH = object()
LOOSE, SECONDARY, RELATED = range(3)
"""How a call is tied that was not given the very tensor: by size alone, to another output, by descent."""


class Answer:
    """One call of the attached model.

    Args:
        output: What it returned.
        preds: The predictions in it; None where there are none.
        args: What it was given.
        kwargs: Likewise.

    Attributes:
        given: The first tensor that it was given, as long as somebody holds that.
        rows: Number of its rows.
        places: Numbers in each row of predictions of more than two dimensions, such as those of
            tokens or pixels; 0 for others.
        number: A number of its own by which its graph knows it; 0 before it is needed.
        used: Whether something was counted of it.
        batch: The loader's batch that it answers; `NO_BATCH` for none.
        original: The predictions that were returned, as long as somebody holds them.
        with_graph: Whether a gradient can reach it.
        changes: What `changes_of` told of it and its batch, where they wait.
        place: In the script, where the model was called for it; () where that is not known.
        padding: Rows at its end that a sampler repeats for the sake of other ranks.
    """

    batch: Any = NO_BATCH
    changes = 0.0
    place: Place = ()
    given: "weakref.ref[Tensor] | None" = None
    number = 0
    original: Any = None
    padding = 0
    places = 0
    rows = 1
    used = False
    with_graph = False

    def __init__(self, output: Any, preds: Any, args: tuple[Any, ...], kwargs: Any) -> None:
        given = args[0] if args else None
        if type(given) is not Tensor:
            given = next(iter(tensors_in((args, kwargs))), None)
        self.output = output
        self.preds = preds
        shape: Sequence[int] = ()
        if isinstance(preds, Tensor):
            if preds.requires_grad:
                self.with_graph = True
            shape = preds.shape
            if len(shape) > 2 and shape[0]:
                self.places = preds.numel() // shape[0]
        if given is not None:
            self.given = weakref.ref(given)
            if not shape:
                shape = given.shape
        if shape:
            self.rows = shape[0]

    def mark_graph(self) -> None:
        """Have the node that computed its predictions remember it: then nothing has to be held."""
        if self.with_graph and isinstance(self.preds, Tensor) and self.preds.grad_fn is not None:
            metadata: Any = self.preds.grad_fn.metadata
            metadata[self.numbered()] = "ptmetrics"

    def numbered(self) -> int:
        """Its number, which it has from now on."""
        if not self.number:
            self.number = next(_NUMBERS)
        return self.number

    def let_go_of_graph(self) -> None:
        """Hold its predictions without what they were computed from."""
        self.output = None
        self.mark_graph()
        if self.with_graph and isinstance(self.preds, Tensor):
            self.original = weakref.ref(self.preds)
            self.preds = self.preds.detach()

    def let_go(self) -> None:
        """Hold its tensors no longer; they can still be recognised while somebody else does."""
        preds = self.preds
        if isinstance(preds, Tensor) and self.original is None:
            self.original = weakref.ref(preds)
        self.preds = None
        self.output = None

    def is_exactly(self, preds: Any) -> bool:
        """Whether these are its predictions, in whatever shape."""
        if preds is self.output and preds is not None:
            return True
        own = self.preds
        if self.original is not None:
            original = self.original()
            if original is not None:
                own = original
        if not isinstance(own, Tensor):
            return own is not None and preds is own
        if preds is own:
            return True
        if not isinstance(preds, Tensor):
            return False
        return own.numel() == preds.numel() and same_place(own, preds)

    def may_be_from(self, preds: Any) -> bool:
        """Whether it may have been computed from predictions inside of the model, as a loss alone is."""
        if not isinstance(preds, Tensor) or not preds.ndim or len(preds) % self.rows:
            return False
        own = self.preds
        if isinstance(own, Tensor) and own.ndim and own.numel() != preds.numel():
            return False  # they are predictions themselves
        if len(preds) > self.rows:
            self.places = preds.numel() // self.rows
        return True

    def holds(self, preds: Tensor) -> int:
        """How other predictions lie in what the model returned; −1 for not at all."""
        if isinstance(self.preds, Tensor) and same_storage(self.preds, preds):
            return RELATED
        if self.output is not self.preds:
            for part in tensors_in(self.output):
                if part is preds or same_storage(part, preds):
                    return SECONDARY
        return -1


class Candidate(NamedTuple):
    """A criterion's call that may count when its group is closed."""

    tie: int
    call: CriterionCall
    answers: list[Answer]


class Group:
    """Answers, calls and batches that belong together, until the loop goes on.

    Args:
        split: The split that they count for.
        seen: What went by of the split.

    Attributes:
        answers: Calls of the model; of many only the last hold their tensors.
        calls: Calls of the criterion that could belong to them.
        counted: Whether its rows are counted.
        repeats: Whether its targets had been counted before; then it counts no rows.
        candidates: Calls that may count.
        losses: Losses of its rows.
        node: Where the graph computed the only one.
        stepped: Whether the optimizer stepped since the first answer.
        evaluates: Whether an answer within a pass over a loader was given in evaluation mode.
        waits: Whether what the loop does next tells if it is of training or of validation.
    """

    calls = 0
    candidates: Sequence[Candidate] = ()
    counted = False
    evaluates = False
    node: Any = None
    repeats = False
    stepped = False
    waits = False

    def __init__(self, split: str, seen: Seen) -> None:
        self.split = split
        self.seen = seen
        self.answers: list[Answer] = []
        self.losses: list[HeldLoss] = []

    def next_answer(self) -> None:
        """The model is called once more: what the last answer was computed from is let go."""
        if self.answers:
            self.answers[-1].let_go_of_graph()
        if len(self.answers) >= KEPT_ANSWERS:
            self.answers[-KEPT_ANSWERS].let_go()

    def is_handed_over(self) -> None:
        """The loop itself hands over what these answers were for, unless they are counted."""
        if not self.calls and not self.counted:
            for answer in self.answers:
                answer.used = True
                answer.batch = NO_BATCH

    def note(self) -> None:
        """It is closed: its answers were counted, or not."""
        seen = self.seen
        seen.criterion_calls += self.calls
        for answer in self.answers:
            seen.answers += 1
            seen.answered_rows += answer.rows
            if not answer.used:
                seen.not_paired(answer.rows, answer.place)

    @property
    def with_graph(self) -> bool:
        """Whether a gradient can reach one of its answers."""
        return any(answer.with_graph for answer in self.answers)

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
        if not preds.requires_grad:  # nothing is learned through it
            second = self.exact(call.target)
            if second is not None:  # the loss was called with its targets first
                turned = call._replace(preds=call.target, target=preds, again=None)
                return Candidate(RELATED, turned, [second])
        for answer in reversed(self.answers):
            tie = answer.holds(preds)
            if tie >= 0:
                return Candidate(tie, call, [answer])
        sizes = [a.preds.numel() for a in self.answers if isinstance(a.preds, Tensor)]
        fitting = {*sizes, sum(sizes)}
        fitting.update(  # a causal loss leaves out one place of each row
            answer.rows * (answer.places - preds.shape[-1])
            for answer in self.answers
            if answer.places > preds.shape[-1]
        )
        related = descent(preds, self.answers)
        elsewhere = preds.grad_fn is not None and self.with_graph  # the graph of another model
        found = None
        if related:
            if preds.numel() <= sum(sizes):  # or it is of answers that were counted before, too
                found = Candidate(RELATED, call, related)
        elif not elsewhere and preds.numel() in fitting:
            found = Candidate(LOOSE, call, self.answers)
        return found

    def best_candidates(self) -> list[Candidate]:
        """The calls that count: those of the closest tie, where all are of the same predictions."""
        if not self.candidates:
            return []
        closest = max(candidate.tie for candidate in self.candidates)
        best = [candidate for candidate in self.candidates if candidate.tie == closest]
        first = best[0]
        for other in best[1:]:
            if not same_rows(first.call.preds, other.call.preds):
                return []
        return best

    def keep_losses(self, candidates: list[Candidate]) -> None:
        """Those of the calls that count, and of an answer itself; others are of other heads."""
        self.losses = [
            loss
            for loss in self.losses
            if loss.candidate is None or any(loss.candidate is each for each in candidates)
        ]
        for loss in self.losses:
            loss.candidate = None  # which holds the tensors of a call


def same_storage(one: Tensor, other: Tensor) -> bool:
    """Whether two plain tensors lie in the same memory."""
    if type(one) is not Tensor or type(other) is not Tensor or one.device != other.device:
        return False
    if one.layout is not torch.strided or other.layout is not torch.strided:
        return False
    place = one.untyped_storage().data_ptr()
    return place != 0 and place == other.untyped_storage().data_ptr()


def same_place(one: Tensor, other: Tensor) -> bool:
    """Whether two plain tensors begin at the same place of the same memory."""
    return same_storage(one, other) and one.data_ptr() == other.data_ptr()


def same_rows(one: Any, other: Any) -> bool:
    """Whether two tensors are one, or the same part of the same memory."""
    if one is other:
        return one is not None
    if type(one) is not Tensor or type(other) is not Tensor or one.layout is not torch.strided:
        return False
    if other.layout is not torch.strided or one.data_ptr() != other.data_ptr():
        return False
    return one.shape == other.shape and same_storage(one, other)


def in_rows(answer: Answer, preds: Any, target: Any) -> tuple[Any, Any]:
    """A criterion's call in the rows that the model answered.

    Tokens and pixels that the loop has put in one row, (N·T, C), for its criterion stand in their
    sequences and images again, (N, C, T), so that their intervals are by these. A causal loss
    leaves out one place of each row.
    """
    if not isinstance(preds, Tensor) or not isinstance(target, Tensor):
        return preds, target
    if preds.ndim != 2 or target.ndim != 1 or len(preds) % answer.rows:
        return preds, target
    places = len(preds) // answer.rows
    classes = preds.shape[1]
    if answer.places not in (places * classes, (places + 1) * classes):
        return preds, target
    rows = preds.reshape(answer.rows, places, classes).movedim(-1, 1)
    return rows, target.reshape(answer.rows, places)


def descent(preds: Tensor, answers: list[Answer]) -> list[Answer]:
    """The answers that predictions were computed from, as their graph tells."""
    for answer in answers:
        answer.mark_graph()
    numbers = {answer.number: answer for answer in answers}
    found: list[Answer] = []
    waiting: list[Any] = []
    if preds.grad_fn is not None:
        waiting.append(preds.grad_fn)
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


class LastCounted(NamedTuple):
    """What was counted last: another answer to the same targets is no further row.

    Nothing is held: who asks has the tensors, or they are not the same.

    Attributes:
        split: Its split.
        target: Its targets.
        given: What the model was given.
        version: How often its targets had been written to.
    """

    split: str
    target: "weakref.ref[Tensor]"
    given: "weakref.ref[Tensor] | None"
    version: int

    def same_target(self, target: Any) -> bool:
        """Whether these are its targets, and nobody has written over them since."""
        before = self.target()
        return same_rows(before, target) and self.version == version_of(target)

    def same_inputs(self, given: "weakref.ref[Tensor] | None") -> bool:
        """Whether these are the inputs that were answered."""
        before = self.given and self.given()
        return same_rows(before, given and given())


def version_of(target: Tensor) -> int:
    """How often a tensor was written to, where torch counts that."""
    try:
        return target._version
    except RuntimeError:  # of inference mode
        return 0


def changes_of(preds: Any, batch: Any) -> float:
    """What tells that predictions or the tensors of a batch were written to: another number than before.

    The versions of all together, where torch counts them; of those of inference mode, where a look
    at them waits for nothing, their sum.
    """
    changes = 0.0
    for each in tensors_in((preds, batch), 3):
        if not each.is_inference():
            changes += each._version
        elif each.is_cpu and not each.is_complex():
            changes += each.double().sum().nan_to_num().item()
    return changes
