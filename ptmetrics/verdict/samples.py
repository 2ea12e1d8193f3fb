"""The samples of evaluations, held against each other: whether they are the same, and which of their rows count."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from math import sqrt
from typing import Any

import numpy as np

from ptmetrics.record.samples import CLASS_ROW, NOT_KEPT, Kept, Rows
from ptmetrics.verdict.evidence import Curves, estimate
from ptmetrics.verdict.finding import Estimate
from ptmetrics.verdict.influence import Floats

Z90 = 1.6448536269514722  # 95 % on one side
_SAME_LOSS = 1e-3  # the criterion may have worked in half precision


class CannotPairError(Exception):
    """Two evaluations cannot be paired; the message says why."""


@dataclass(frozen=True)
class Sampled(Estimate):
    """A recorded score that knows the samples it stands on.

    Args:
        score: Its name without the split.
        label: The class whose score it is; None for a score of all.
        kept: Reads the samples, when they are asked for.
    """

    score: str = ""
    label: int | None = None
    kept: Callable[[], Kept] = lambda: NOT_KEPT

    def to_dict(self) -> dict[str, Any]:
        """The estimate alone."""
        everything = super().to_dict()
        return {field.name: everything[field.name] for field in fields(Estimate)}


def kept_by(run: Any, epoch: Mapping[str, Any]) -> Callable[[], Kept]:
    """What reads the validation samples of an epoch of a run, once; runs that were not read back hold none."""
    read = getattr(run, "kept", None)
    return cache(lambda: NOT_KEPT if read is None else read(epoch))


def sampled(score: Mapping[str, Any], name: str, kept: Callable[[], Kept]) -> Estimate:
    """A recorded score by its full name; one of validation knows its samples, which `kept` reads."""
    bare = estimate(score)
    if not name.startswith("val/"):
        return bare
    return Sampled(**vars(bare), score=name.removeprefix("val/"), kept=kept)


def sampled_classes(
    per_class: Mapping[str, tuple[Estimate, ...]], kept: Callable[[], Kept]
) -> dict[str, tuple[Estimate, ...]]:
    """The validation scores of each class, knowing their samples."""
    return {
        name: tuple(
            Sampled(**vars(item), score=name, label=i, kept=kept) for i, item in enumerate(items)
        )
        for name, items in per_class.items()
    }


def same_targets(first: Kept, second: Kept) -> bool | None:
    """Whether two evaluations saw the same targets in the same order; None where that cannot be told.

    The same targets in another order are no proof of the same samples, and no proof against it.
    """
    if first.rows is None or second.rows is None:
        return None
    targets = first.rows["target"], second.rows["target"]
    if _equal(*targets):
        return True
    return None if _equal(*map(np.sort, targets)) else False


def loss_change(run: Any, curves: Curves) -> Estimate:
    """What the validation loss of a run grew by from its minimum to the end, on the same samples.

    Returns:
        The mean over the samples with its one-sided 95 % bound as `low`; without bounds, and with the reason, where
        the samples were not kept or the loss is another than theirs.
    """
    rows = curves.rows("train/loss", "val/loss")
    if not rows:
        return Estimate(reason="no losses were recorded")
    losses = curves.values("val/loss", rows)
    ends = int(np.argmin(losses)), len(rows) - 1
    try:
        kept = [known(kept_by(run, run.epochs[rows[end]])(), "run") for end in ends]
        before, after = (
            losses_of(side, losses[end]) for side, end in zip(aligned(*kept), ends, strict=True)
        )
    except CannotPairError as why:
        return Estimate(reason=str(why))
    growth = after - before
    if growth.size < 2:
        return Estimate(reason="one sample has no spread")
    mean, half = float(growth.mean()), Z90 * float(growth.std(ddof=1)) / sqrt(growth.size)
    return Estimate(mean, mean - half, mean + half, growth.size, "paired")


def known(kept: Kept, words: str) -> Rows:
    """The rows of an evaluation, which `words` name.

    Raises:
        CannotPairError: If there are none.
    """
    if kept.rows is None:
        raise CannotPairError(f"in the {words}, {kept.reason}")
    return kept.rows


def _equal(first: Any, second: Any) -> bool:
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return bool(np.array_equal(first, second, equal_nan=first.dtype.kind == "f"))


def aligned(first: Rows, second: Rows) -> tuple[Rows, Rows]:
    """The rows that count, of both.

    Raises:
        CannotPairError: If the targets differ or stand in another order, or other rows count.
    """
    if first.dtype != second.dtype:
        raise CannotPairError("one predicts classes and the other numbers")
    if not _equal(first["target"], second["target"]):
        other_order = _equal(*(np.sort(side["target"]) for side in (first, second)))
        raise CannotPairError(
            "their samples came in another order, so validate without shuffling" if other_order else
            "their samples have other targets"
        )  # fmt: skip
    masks = [
        side["predicted"] >= 0 if side.dtype == CLASS_ROW else ~np.isnan(side["error"])
        for side in (first, second)
    ]
    if not _equal(*masks):
        raise CannotPairError("some samples were refused in one of them only")
    if not masks[0].any():
        raise CannotPairError("no sample counts")
    return first[masks[0]], second[masks[0]]


def losses_of(rows: Rows, recorded: float) -> Floats:
    """The loss of each row whose mean is the recorded one: the likelihood's, the squared error or the absolute one.

    Raises:
        CannotPairError: If it is none of them, as with smoothed labels or weighted classes.
    """
    if rows.dtype == CLASS_ROW:
        candidates = [rows["loss"].astype(np.float64)]
    else:
        candidates = [np.square(rows["error"]), np.abs(rows["error"])]
    for losses in candidates:
        if abs(float(losses.mean()) - recorded) <= _SAME_LOSS * abs(
            recorded
        ):  # False for NaN and infinity
            return losses
    raise CannotPairError("the recorded loss is not the mean of the kept ones")
