"""What the recorder tells of the loop: sentences, each for the console and the record, once.

At the end of an epoch what went by is held against what was counted.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ptmetrics.monitor.answers import Group
from ptmetrics.monitor.faults import FaultLog, LoopWarning
from ptmetrics.monitor.seen import Seen
from ptmetrics.monitor.split import SplitCounts
from ptmetrics.monitor.without_eval import Unlearned
from ptmetrics.record.printable import agreeing, quantity

SAME_LOSS = 1e-3  # two losses that are the same, relative to 1 and themselves
UNSAID = "Use monitor.validate(loader), or write model.eval() and torch.no_grad()."

SayOnce = Callable[[str, str], None]
"""Given a code and a sentence, for the console and the record, once for each code."""


class Told(NamedTuple):
    """Whom the recorder tells of what it sees.

    Attributes:
        say: Given a code and a sentence, for the console and the record, once for each code.
        close_epoch: The epoch is over by its number of steps.
        close_validation: A split is validated again: keep what it was before, and count anew.
        counted: Given split and number of each batch that was counted; None for nobody.
        began: The first batch of an epoch comes; None for nobody.
        served: Given the split and what the loader yields, or else what the model is given; None
            for nobody.
        answered: Given split, number, arguments and answer of the first calls of the model in a
            pass; None for nobody.
    """

    say: SayOnce
    close_epoch: Callable[[], None]
    close_validation: Callable[[str], None]
    counted: Callable[[str, int], None] | None
    began: Callable[[], None] | None = None
    served: Callable[[str, Any], None] | None = None
    answered: Callable[[str, int, Any, Any], None] | None = None


# While the loop runs.


def tell_validation_in_training(say: SayOnce) -> None:
    """A validation without `model.eval()`, of a model that answers alike in both modes."""
    line = "val: the model answered without gradients in training mode"
    cure = "Call model.eval() before it and model.train() behind it."
    say("val-in-train-mode", f"{line}, which is counted as validation. {cure}")


def tell_shapes(say: SayOnce, split: str, met: str) -> None:
    """How shapes of predictions and targets met, where they were broadcast."""
    if met:
        cure = "Give both the same shape, as by criterion(preds.squeeze(1), target)."
        say(f"broadcast {split}", f"{split}: {met}. {cure}")


def tell_no_loss(say: SayOnce, split: str, found: Any) -> None:
    """For a loss something was returned, in which none is."""
    line = f"for a loss a {type(found).__name__} was returned, in which none is found"
    cure = "Hand it over with monitor.update_loss(loss)."
    say(f"no-loss {split}", f"{split}: {line}. {cure}")


def tell_several_calls(say: SayOnce, split: str, calls: int, known: bool) -> None:
    """The criterion was called again and again for one batch, and whether its loss is known."""
    what = "the loss is the mean that the optimizer minimises"
    if not known:
        what = f"which of them is minimised was not seen, so {split}/loss leaves these rows out"
    line = f"the criterion was called {calls} times for one batch"
    rows = "its rows are counted once, beside the first call's targets"
    say(f"several-calls {split}", f"{split}: {line}; {rows}, and {what}")


def tell_repeated(say: SayOnce, split: str) -> None:
    """Targets that were counted came again."""
    line = "the same targets were answered more than once before the loop went on"
    what = "their rows are counted once, and the loss is that of the last answer"
    say(f"repeated {split}", f"{split}: {line}; {what}")


def tell_begun_again(say: SayOnce, behind: str) -> None:
    """A pass over the training data was left behind so much of it, and another one begins."""
    line = f"train: a pass over the loader was left after {behind} and another begun"
    say("begun again", f"{line}; both are counted in this epoch")


def tell_pass_without_learning(say: SayOnce, rows: int) -> None:
    """Training data went by once more, and nothing could be learned: both passes are counted."""
    line = "train: a pass over the loader had no gradients, behind one that was learned from"
    cure = "Use monitor.validate(loader, split='train_eval')."
    say("train-again", f"{line}; both are counted ({quantity(rows, 'row')}). {cure}")


def tell_closure(say: SayOnce, calls: int) -> None:
    """The optimizer called its closure so many times in one step."""
    line = f"optimizer: the closure was called {calls} times in a step"
    what = "rows and loss are counted once a step, by its first call"
    say("closure", f"{line}; {what}")


def tell_logged(say: SayOnce) -> None:
    """A loss without gradients of a batch that was counted with the loss it was learned by."""
    line = "train: a batch was answered again without gradients, behind what it was learned by"
    say("logged", f"{line}; its rows are counted once, with the loss of before")


def tell_not_counted(
    say: SayOnce, splits: Mapping[str, SplitCounts], split: str, seen: Seen, so_far: str = ""
) -> None:
    """Rows that were answered for a split, and that nothing counted."""
    counted = 0
    if split in splits:
        counted = splits[split].samples
    if seen.unpaired_rows and split != "train":
        seen.set_aside(counted)
    line = seen.not_counted(split, counted, so_far)
    if line:
        seen.said = line
        if not counted or split != "train":
            say(f"not-counted {split}{so_far}", line)


# At the end of an epoch.


def tell_what_went_by(
    say: SayOnce, splits: Mapping[str, SplitCounts], seen: Mapping[str, Seen]
) -> None:
    """Of each split, what was not counted, and passes that were counted as one."""
    for split, each in seen.items():
        tell_not_counted(say, splits, split, each)
        line = each.several_places(split, seen.get("train"))
        if line:
            each.said = line
            say(f"passes {split}", line)


def tell_left_behind(say: SayOnce, left: str, counts: SplitCounts, seen: Seen) -> None:
    """What came behind the last step of training and is none, in the words of `left_behind`."""
    seen.behind_last_step = counts.samples - counts.stepped_samples
    rows = quantity(seen.behind_last_step, "row")
    line = f"{rows} of {left}; they are counted as training ({counts.samples} in all)"
    seen.said = f"train: {line}, as is a validation that does not say it is one. {UNSAID}"
    say("behind-last-step", seen.said)


def tell_unlearned(say: SayOnce, unlearned: Unlearned, counts: SplitCounts, seen: Seen) -> None:
    """Batches of training that nothing was learned from, though the optimizer stepped behind them."""
    if not unlearned.batches:
        return
    seen.unlearned_rows = unlearned.rows
    rows = quantity(unlearned.rows, "row")
    batches = quantity(unlearned.batches, "batch")
    reached = f"no backward pass reached {rows} of {batches} before the optimizer stepped again"
    line = f"{reached}; they are counted as training ({counts.samples} in all)"
    seen.said = f"train: {line}, as is a validation that does not say it is one. {UNSAID}"
    say("unlearned", seen.said)


def tell_unseen_validation(
    say: SayOnce,
    splits: Mapping[str, SplitCounts],
    seen: Mapping[str, Seen],
    rows: int,
    last: Group | None,
) -> None:
    """All that is known of a validation is what the model answered when training was over.

    Args:
        say: Tells it.
        splits: What was counted.
        seen: What went by.
        rows: Answered in training mode behind the last pass over a loader.
        last: What was open as the epoch ended.
    """
    train = seen["train"]
    others = [counts for name, counts in splits.items() if name != "train"]
    if len(seen) > 1 or any(counts.batches for counts in others):
        return
    if last is not None and not last.stepped:
        unpaired = sum(answer.rows for answer in last.answers if not answer.used)
        if unpaired == train.unpaired_rows and train.criterion_calls:
            rows += unpaired  # and every other answer of training was counted
    if rows:
        counted = splits["train"].samples
        were = f"{quantity(counted, 'row')} {agreeing(counted, 'were')} counted"
        behind = f"{were}, {rows} that the model answered behind them not"
        train.said = f"train: {behind}, and no validation was seen. {UNSAID}"
        say("unseen-validation", train.said)


def tell_shift(
    faults: FaultLog, looks: dict[str, Tensor | None], seen: Mapping[str, Seen], shift: bool
) -> None:
    """Where the model's own loss is that of targets shifted by one, and ours is not, or not so.

    Args:
        faults: Where it is noted.
        looks: Of the first labelled batch of a split: the model's loss, ours without and with a
            shift; None behind the end of an epoch that has told of it.
        seen: What went by.
        shift: Whether we shift.
    """
    for name, look in looks.items():
        if look is None or name not in seen:
            continue
        looks[name] = None
        loss, plain, by_one = look.tolist()
        own, other = (by_one, plain) if shift else (plain, by_one)
        near = abs(loss - other) <= SAME_LOSS * (1 + abs(loss))
        if near and abs(loss - own) > 10 * SAME_LOSS * (1 + abs(loss)):
            faults.split = name
            faults.warn(
                LoopWarning(
                    "shift",
                    f"targets as the model's own loss takes them ({name}: {loss:.4f})",
                    f"a likelihood of {own:.4f}, and {other:.4f} with shift={not shift}",
                    f"Pass attach(model, shift={not shift}).",
                )
            )


def tell_unseen_criterion(
    say: SayOnce, splits: Mapping[str, SplitCounts], seen: Mapping[str, Seen], blind: str
) -> None:
    """A criterion is attached, and in a whole epoch nobody called it.

    Args:
        say: Tells it.
        splits: What was counted.
        seen: What went by.
        blind: Why no call of it may be seen.
    """
    counted = [n for n in seen if n in splits and splits[n].batches]
    if not counted:
        return
    for name, each in seen.items():
        if each.criterion_calls or splits[name].loss.seen:
            return
    batches = sum(splits[n].batches for n in counted)
    say(
        "criterion-unseen",
        f"criterion: none of its calls was seen in {batches} counted batches, so that there is "
        f"no loss ({blind}). Hand it over with monitor.update_loss(loss).",
    )
