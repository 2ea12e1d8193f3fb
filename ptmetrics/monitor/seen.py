"""What of a split went by in an epoch, and what of it was counted: the two are held side by side."""

import sys
import weakref
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple, TypeVar

import torch
from torch.utils.data import DataLoader, IterableDataset

from ptmetrics.monitor.split import SplitCounts
from ptmetrics.record.printable import agreeing, quantity

MAX_PASSES = 8  # told one by one
TOLD_ANSWERS = 8
"""Answers of a pass that callbacks are told of."""
BLIND = "no criterion was called"
NOT_FOUND = "predictions or targets were not found in what it returned and in the batch"
OWN_LOSS = "the model returned its loss, and which of its arguments are the targets is not told"
NOT_OF_LOADER = "they did not come of monitor.train(loader), which an earlier pass used"
NOT_TIED = "what the criterion was called with could not be tied to them"
CHANGED = (
    "answers or targets were written over before it was clear that no criterion is called for them"
)
PULLED_AHEAD = (
    "batches were pulled ahead of the model, and which of them it was given cannot be told; wrap "
    "what pulls them"
)

Value = TypeVar("Value")
KEPT_FRAMES = 3
FRAMES_OF_OURS = 5  # this, who counts rows, the event, its boundary, the stand-in of the call
_HOMES = (str(Path(__file__).parent.parent), str(Path(torch.__file__).parent))

Place = tuple[tuple[CodeType, int], ...]
"""Functions and where they are, in instructions, the innermost first."""


def frames_to_here(before: Place) -> Place:
    """The functions that led to here, up to the third of the user's: `before` where they are the same."""
    try:
        innermost: Any = sys._getframe(FRAMES_OF_OURS)
    except ValueError:  # a thread may begin with the call
        return ()
    frame = innermost
    for code, instruction in before:
        if frame is None or frame.f_code is not code or frame.f_lasti != instruction:
            break
        frame = frame.f_back
    else:
        if before:
            return before
    frames: list[tuple[CodeType, int]] = []
    users = 0
    frame = innermost
    while frame is not None and users < KEPT_FRAMES:
        code = frame.f_code
        frames.append((code, frame.f_lasti))
        users += is_users(code)
        frame = frame.f_back
    return tuple(frames)


def line_of(code: CodeType, instruction: int) -> tuple[str, int]:
    """File and line of an instruction."""
    found = 0
    for start, stop, line in code.co_lines():
        if start <= instruction < stop and line:
            found = line
    return code.co_filename, found


@lru_cache(maxsize=4096)
def is_users(code: CodeType) -> bool:
    """Whether a function is neither ours nor torch's."""
    return not code.co_filename.startswith((*_HOMES, "<frozen"))


class LoaderSize(NamedTuple):
    """What one pass over a loader yields, where that is known for sure.

    Attributes:
        rows: Samples.
        batches: Batches of them.
        batch_rows: Samples of a full batch.
        dropped: Samples of the rest that is no full batch, where such a batch is left out.
    """

    rows: int
    batches: int
    batch_rows: int
    dropped: int = 0


class RankShare(NamedTuple):
    """What of a data set one rank is given in a pass over its loader.

    Attributes:
        rows: Samples that are its own: those of all ranks are the data set.
        batches: Batches that its loader yields.
        last_rows: Samples of the last one.
        padding: Samples at its end that stand for another rank's too, so that all have as many.
    """

    rows: int
    batches: int
    last_rows: int
    padding: int


class MadeWhenAsked(dict[str, Value]):
    """By the name of a split, what is made of it on first use.

    Args:
        make: Makes it.
    """

    def __init__(self, make: Callable[[str], Value]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, name: str) -> Value:
        self[name] = self.make(name)
        return self[name]


class BegunWalk(NamedTuple):
    """A pass over a loader that has begun.

    Attributes:
        loader: Of torch.
        batches: That it yields; 0 where that is not known.
        trained: Batches and steps of training before.
        batches_before: Batches of training in its epoch before.
    """

    loader: "weakref.ref[Any]"
    batches: int
    trained: int
    batches_before: int


class Walks:
    """Passes over torch's own loaders that have begun, whoever asked for them.

    Attributes:
        begun: Their number.
        of_training: The last ones of the epoch, without those of validation.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.of_training: deque[BegunWalk] = deque(maxlen=MAX_PASSES)

    def begin(self, loader: Any, trained: int, train: SplitCounts | None) -> None:
        """One begins, behind so many batches and steps of training, and what the epoch has of it."""
        self.begun += 1
        before = 0 if train is None else train.batches
        walk = BegunWalk(weakref.ref(loader), _batches_of(loader), trained, before)
        self.of_training.append(walk)

    def validated(self, trained: int) -> int:
        """A validation is answered behind so much training: what has begun behind it is not of training.

        Returns:
            Batches of the longest one; 0 where none is known.
        """
        found = [walk for walk in self.of_training if walk.trained == trained]
        for _ in found:
            self.of_training.pop()
        return max((walk.batches for walk in found), default=0)

    def left_early(self, batches: int) -> int:
        """Batches of training before a pass over the same loader was begun anew, and gone through.

        Args:
            batches: Of training in the epoch, which ends here.
        """
        begun = Counter(id(walk.loader()) for walk in self.of_training)
        for first, second in combinations(self.of_training, 2):
            loader = first.loader()
            same = loader is second.loader() is not None and begun[id(loader)] == 2
            left = second.batches_before - first.batches_before
            whole = batches - second.batches_before == second.batches
            if same and whole and 0 < left < second.batches:
                return left
        return 0


def _batches_of(loader: Any) -> int:
    """Batches of a loader that counts them itself; 0 where what counts is the user's."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return 0
    samplers = type(loader.sampler).__module__, type(loader.batch_sampler).__module__
    if any(not module.startswith("torch.utils.data.") for module in samplers):
        return 0
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return 0


@dataclass
class AtPlace:
    """Rows and answers that one place in the script asked for."""

    place: Place
    rows: int = 0
    answers: int = 0


class Walk:
    """What was answered of one pass over a loader.

    Args:
        place: Where the script called the model first.
        batches: Of the loader; 0 where that is not known.

    Attributes:
        rows: That were answered.
        answers: Calls of the model.
        left_at: Rows and answers before each further pass that began before this one was gone
            through.
    """

    def __init__(self, place: Place, batches: int) -> None:
        self.place = place
        self.batches = batches
        self.rows = 0
        self.answers = 0
        self.left_at: list[tuple[int, int]] = []

    @property
    def parts(self) -> list[int]:
        """Rows of each pass, where it was left and begun again; else of all of them."""
        if not self.left_at or self.whole or not self.batches:
            return [self.rows]  # other loaders were walked beside
        marks = [(0, 0), *self.left_at, (self.rows, self.answers)]
        several = all(end - begin > 1 for (_, begin), (_, end) in pairwise(marks))
        if self.answers < self.batches and not several:
            return [self.rows]
        return [end - begin for (begin, _), (end, _) in pairwise(marks)]

    @property
    def whole(self) -> bool:
        """Whether each batch of the loader was answered, each as often."""
        return self.batches > 0 and self.answers % self.batches == 0


class Seen:
    """Numbers of one split in one epoch.

    Attributes:
        answers: Calls of the model.
        answered_rows: Their rows.
        unpaired_rows: Rows of answers that nothing counted.
        criterion_calls: Calls of the criterion.
        places: Rows by the place in the script that called the model, in their order.
        cause: Why rows were not counted.
        criterion: What computed the loss.
        said: The line that the console was told.
        passes: Passes over a monitored loader.
        loader: What the loader of the only pass yields; None where that is not known.
        untold: Answers of the pass under way that callbacks are told of yet.
        expected: Rows that this rank is to see in its passes; None where a loader does not tell.
        padding_left_out: Rows of padding that were left out.
        padding_rows: Rows of padding that were counted.
        behind_last_step: Rows of training that came behind the last step, and are none.
        unlearned_rows: Rows of training that no backward pass reached, though a step followed.
    """

    def __init__(self, cause: str = BLIND) -> None:
        self.answers = 0
        self.answered_rows = 0
        self.unpaired_rows = 0
        self.criterion_calls = 0
        self.places: list[AtPlace] = []
        self._frames: Place = ()  # of the last answer
        self.returned = False  # to an earlier place: they belong to one pass
        self._unpaired: dict[Place, int] = {}  # rows by their place
        self._walks: list[Walk] = []
        self._begun = -1  # walks, at the last answer
        self._begun_first = -1  # at the first one
        self.cause = cause
        self.criterion: Any = None
        self.said = ""
        self.passes = 0
        self.loader: LoaderSize | None = None
        self.untold = TOLD_ANSWERS
        self.expected: int | None = 0
        self.padding_left_out = 0
        self.padding_rows = 0
        self.behind_last_step = 0
        self.unlearned_rows = 0

    def begin_pass(self, loader: LoaderSize | None, share: RankShare | None = None) -> None:
        """A pass over a monitored loader begins."""
        self.passes += 1
        self.loader = loader
        if share is None or self.expected is None:
            self.expected = None
        else:
            self.expected += share.rows

    def add_not_of_loader(self, rows: int) -> None:
        """Rows were answered, as one, beside the loader that is wrapped."""
        self.answers += 1
        self.answered_rows += rows
        self.unpaired_rows += rows
        self.cause = NOT_OF_LOADER

    @property
    def loader_rows(self) -> int | None:
        """Rows that the loader holds, where the model was called for more than its batches.

        None where that is not known for sure: the rows of a model may be parts of samples, which
        one answer to each batch, or answers of more rows than a batch has, let one suppose.
        """
        loader = self.loader
        if loader is None or loader.dropped or self.passes != 1 or self.answers <= loader.batches:
            return None
        if self.answered_rows > self.answers * loader.batch_rows:
            return None
        return loader.rows

    def at_here(self, rows: int, walks: Walks, trained: int) -> Place:
        """Rows were answered for a call at this place of the script.

        Args:
            rows: Their number.
            walks: Passes that have begun.
            trained: How many batches and steps of training came before.

        Returns:
            The place; () where it is not known.
        """
        frames = frames_to_here(self._frames)
        if frames is not self._frames:
            place = tuple(frame for frame in frames if is_users(frame[0]))
            if not place:
                return ()
            self._frames = frames
            self._enter(place)
        here = self.places[-1]
        here.rows += rows
        here.answers += 1
        if walks.begun != self._begun:
            if not self._walks:
                self._begun_first = walks.begun
            self._begun = walks.begun
            batches = walks.validated(trained)
            if not self._walks or self._walks[-1].whole:
                self._walks.append(Walk(here.place, batches))
            elif len(self._walks[-1].left_at) < MAX_PASSES:
                left = self._walks[-1]
                left.left_at.append((left.rows, left.answers))
        walk = self._walks[-1]
        walk.rows += rows
        walk.answers += 1
        return here.place

    def not_paired(self, rows: int, place: Place) -> None:
        """Nothing counted rows that were answered for a call at this place."""
        self.unpaired_rows += rows
        if place:
            self._unpaired[place] = self._unpaired.get(place, 0) + rows

    def set_aside(self, counted_rows: int) -> None:
        """Leave out answers for nothing that is counted: at places of their own, and no more than those.

        Such as of some rows whose predictions are shown behind a validation.
        """
        rows: dict[Place, int] = {}
        for here in self.places:
            rows[here.place] = rows.get(here.place, 0) + here.rows
        aside = {place for place, left in self._unpaired.items() if rows.get(place) == left}
        left = sum(rows[place] for place in aside)
        if aside and left <= counted_rows:
            self.unpaired_rows -= left
            self._walks = []  # which they were part of
            self._begun = -1
            self._frames = ()
            self.places = [each for each in self.places if each.place not in aside]

    def goes_on_from(self, before: "Seen", answers: list[Any]) -> None:
        """Its first answer was taken for one of the validation before, which has been closed."""
        if before is self:
            return
        self.untold = before.untold
        if not before.places or not before._walks:
            return
        self._frames = before._frames
        self._begun = before._begun
        self._begun_first = before._begun
        place = before.places[-1].place
        for answer in answers:
            self.places = [AtPlace(place, answer.rows, 1)]
            walk = Walk(place, before._walks[-1].batches)
            walk.rows = answer.rows
            walk.answers = 1
            self._walks = [walk]

    def _enter(self, place: Place) -> None:
        places = self.places
        if places and places[-1].place == place:
            return
        if any(known.place == place for known in places):
            self.returned = True
            places.clear()
        places.append(AtPlace(place))

    def separate_passes(self) -> list[tuple[Place, int]]:
        """Places and rows, where the model was called from several places one after the other.

        A place that is returned to belongs to the same loop; so does a rest of less than a batch.
        One place may go over several loaders, of which each but the last was gone through. Where
        rows were not counted, that is what is told.
        """
        if self.unpaired_rows:
            return []
        passes = self._passes_by_place()
        walks = [(walk.place, rows) for walk in self._walks for rows in walk.parts]
        if len(walks) > max(1, len(passes)):
            return walks
        return passes

    def _passes_by_place(self) -> list[tuple[Place, int]]:
        if self.returned or len(self.places) < 2:
            return []
        passes = []
        for number, here in enumerate(self.places):
            if number:
                before = self.places[number - 1]
                if here.answers == 1 and here.rows < before.rows / before.answers:
                    continue
            passes.append((here.place, here.rows))
        if len(passes) < 2:
            return []
        return passes

    def to_record(self, counts: SplitCounts) -> dict[str, Any]:
        """Plain values for the record."""
        record: dict[str, Any] = {
            "answers": self.answers,
            "answered_rows": self.answered_rows,
            "unpaired_rows": self.unpaired_rows,
            "counted_rows": counts.samples,
            "criterion_calls": self.criterion_calls,
            "losses": counts.loss.seen,
            "batch_rows": counts.loss.targets / max(1, counts.loss.seen),
            "like_probabilities": counts.like_probabilities,
            "criterion": _described(self.criterion),
            "inputs": counts.inputs,
            "message": self.said,
            "optimizer_steps": counts.steps,
        }
        if self.behind_last_step:
            record["behind_last_step"] = self.behind_last_step
        if self.unlearned_rows:
            record["unlearned_rows"] = self.unlearned_rows
        if self.padding_left_out:
            record["padding_of_rank"] = self.padding_left_out
        if self.loader is not None and self.loader.dropped:
            record["dropped_rows"] = self.loader.dropped
        if self.loader is not None and self.loader_rows is not None:
            record["loader_rows"] = self.loader_rows
        passes = []
        if len(self.places) > 1 or self._begun > self._begun_first:
            passes = self.separate_passes()
        if passes:
            record["passes"] = len(passes)
            record["pass_rows"] = [rows for _, rows in passes[:MAX_PASSES]]
        return record

    def not_counted(self, split: str, counted_rows: int, so_far: str = "") -> str:
        """The line for the console: both numbers, why, and what to do; "" where all is well."""
        if not self.unpaired_rows:
            return ""
        cure = f"Use monitor.{_LOADERS.get(split, 'validate')}(loader) or monitor.update(…)."
        if self.cause == OWN_LOSS:
            cure = "Use attach(model, labels='…') with the name of that argument in its forward."
        elif self.cause == NOT_FOUND:
            cure = "Use attach(model, preds=lambda output: …, target=lambda batch: …)."
        elif self.cause == CHANGED:
            cure = "Use monitor.update(…), or write to a copy."
        return (
            f"{split}{so_far}: the model answered {quantity(self.answered_rows, 'row')}, "
            f"{counted_rows} {agreeing(counted_rows, 'were')} counted: {self.cause}. {cure}"
        )

    def several_places(self, split: str, train: "Seen | None" = None) -> str:
        """The line for passes that cannot be told apart by hooks; "" where there is one.

        Args:
            split: The split that they were counted for.
            train: What went by in training: a pass of as many rows is over its data.
        """
        passes = []
        if len(self.places) > 1 or self._begun > self._begun_first:
            passes = self.separate_passes()
        if not passes:
            return ""
        parts = []
        other = passes[1][0]
        for place, rows in passes[:MAX_PASSES]:
            file, line = _where_they_differ(place, other)
            parts.append(f"{rows} from line {line} of {Path(file).name}")
            other = passes[0][0]
        total = sum(rows for _, rows in passes)
        return (
            f"{split}: {total} rows of {len(passes)} passes were counted as one validation "
            f"({', '.join(parts)}). {_cure_of([rows for _, rows in passes], train)}"
        )


def _cure_of(rows: list[int], train: Seen | None) -> str:
    """What to do about passes of so many rows, as far as their sizes tell what they are."""
    if train is not None and train.answers:
        batch = train.answered_rows / train.answers
        like = [abs(each - train.answered_rows) < batch for each in rows]
        if sum(like) == 1 and len(set(rows)) > 1:
            number = rows[like.index(True)]
            own = agreeing(number, "are those of training")
            return f"{number} {own}: with monitor.split('train_eval'): …"
    if len(set(rows)) == 1:
        what = "Of passes over the same data let one count and name the others,"
        return f"{what} with monitor.split('again'): …, or leave them out, with monitor.pause(): …"
    return "Name all but the validation after their data: with monitor.split('test'): …"


_WEIGHTS = ("weight", "pos_weight")


def _described(criterion: Any) -> dict[str, Any]:
    """What of a criterion tells how its loss compares to a likelihood."""
    if criterion is None:
        return {"name": "", "reduction": "mean", "weighted": False, "label_smoothing": 0.0}
    weighted = False
    for name in _WEIGHTS:
        weighted = weighted or getattr(criterion, name, None) is not None
    return {
        "name": getattr(criterion, "__name__", type(criterion).__name__),
        "reduction": str(getattr(criterion, "reduction", "mean")),
        "weighted": weighted,
        "label_smoothing": float(getattr(criterion, "label_smoothing", 0.0) or 0.0),
    }


def _where_they_differ(place: Place, other: Place) -> tuple[str, int]:
    for own, of_other in zip(place, other, strict=False):
        if own != of_other:
            return line_of(*own)
    return line_of(*place[0])


_LOADERS = {"train": "train", "val": "validate", "test": "test"}
