"""A batch of yes-or-no predictions, read once: score, decision, faults and losses of each row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from ptmetrics.counts import checks
from ptmetrics.counts.checks import in_memory
from ptmetrics.counts.faults import (
    BAD_LABEL,
    BAD_TARGET,
    BAD_WEIGHT,
    NAN_SCORE,
    OUTSIDE_UNIT,
    FaultKind,
)
from ptmetrics.counts.row_parts import NO_PARTS, RowParts, RowsInParts
from ptmetrics.counts.waiting import Given
from ptmetrics.errors import DtypeError, ShapeError

Inputs = Literal["logits", "probs", "labels"]
KINDS: Mapping[Inputs, tuple[FaultKind, ...]] = {
    "logits": (BAD_TARGET, BAD_WEIGHT, NAN_SCORE),
    "probs": (BAD_TARGET, BAD_WEIGHT, NAN_SCORE, OUTSIDE_UNIT),
    "labels": (BAD_TARGET, BAD_WEIGHT, BAD_LABEL),
}
NAN_SLOT = 2  # from here on the score is not a number
PIECE = (
    1 << 16
)  # rows of a CPU batch that are read at a time: all that is made of them stays in the cache


@dataclass(frozen=True)
class BinarySpec:
    """How to read a batch: kind of scores, the raw score from which a row is positive, target to ignore."""

    inputs: Inputs = "logits"
    cut: float = 0.0
    ignore_index: int | None = None
    parts: RowParts = NO_PARTS

    @property
    def kinds(self) -> tuple[FaultKind, ...]:
        """Faults, in the order of their slots; the two slots behind them are for ignored rows."""
        return KINDS[self.inputs]

    @property
    def spare(self) -> int:
        """Number of slots."""
        return len(self.kinds) + 2

    @property
    def without_score(self) -> tuple[int, ...]:
        """Slots of rows whose score is NaN."""
        return (*range(NAN_SLOT, len(self.kinds)), self.spare - 1)


@dataclass
class BinaryRows:
    """Rows as they count; device tensors of shape (rows,)."""

    raw: Tensor  # what is compared with the cut: logits in float32 or float64, probabilities, int64 labels
    probs: bool
    cut: float
    target: Tensor  # int64, 0 or 1 where not left out
    left_out: Sequence[tuple[int, Tensor]]
    out: Tensor | None  # bool: any of the masks; None for none
    one: Tensor  # int64 ones
    weight: Tensor | None  # float64, 1 where left out
    step: int | Tensor  # of the update, or int64 of each row
    parts: RowsInParts | None = None

    @property
    def cell(self) -> Tensor:
        """Row-major cell of the 2 × 2 matrix, 4 for rows that are left out."""
        cell = 2 * self.target + self.raw.ge(self.cut)
        return cell if self.out is None else torch.where(self.out, 4, cell)

    @property
    def kept(self) -> Tensor:
        """Bool: not left out."""
        return self.one.bool() if self.out is None else self.out.logical_not()

    @cached_property
    def score(self) -> Tensor:
        """In the order and the unit of logits; anything where left out."""
        # In float64 the logit keeps any two float32 probabilities apart, and is NaN outside [0, 1].
        return torch.logit(self.raw.double()) if self.probs else self.raw

    def scored(self, name: str) -> Tensor:
        """The decision for the confusion matrix, the score in order of the logits, else what was predicted."""
        if name == "confusion":
            return self.raw.ge(self.cut)
        return self.score if name == "curve" else self.raw


def check_batch(
    spec: BinarySpec, home: Tensor, preds: Tensor, target: Tensor, weight: Tensor | None
) -> None:
    """Check on the host what shapes, types and devices tell.

    Args:
        spec: How to read the batch.
        home: Any state tensor, for its device.
        preds: Scores of the target's shape, or with 1 or 2 columns in dimension 1; labels of the target's shape.
        target: Signed integers 0 and 1.
        weight: Non-negative weights of the target's shape, or None.

    Raises:
        ShapeError, DtypeError, DeviceError: Before anything is counted.
    """
    checks.is_tensor("preds", preds)
    checks.is_tensor("target", target)
    like = _shape_of_target(spec, preds, target)
    checks.beside_preds(home, preds, target, weight, like)


def flat(spec: BinarySpec, preds: Tensor, target: Tensor, weight: Tensor | None) -> Given:
    """A checked batch, one row a target: preds of shape (rows,), or (rows, 2) for scores of both classes."""
    if spec.inputs == "labels" or preds.ndim == 1 or preds.shape[1] != 2:
        preds = checks.flat(preds)
    elif preds.ndim > 2:
        preds = preds.movedim(1, -1).reshape(-1, 2)
    return Given(preds, checks.flat(target), None if weight is None else checks.flat(weight))


def _shape_of_target(spec: BinarySpec, preds: Tensor, target: Tensor) -> tuple[int, ...]:
    shape = tuple(preds.shape)
    if spec.inputs == "labels":
        checks.class_indices("preds", preds, shape, 'for inputs="labels"')
        return shape
    rule = "floating point of the target's shape, or with 1 or 2 columns in dimension 1"
    fact = f"{str(preds.dtype).removeprefix('torch.')} of shape {shape} beside target of shape {tuple(target.shape)}"
    if not preds.dtype.is_floating_point:
        raise DtypeError(
            "preds", rule, fact, 'Pass the scores, or use inputs="labels" for predicted classes.'
        )
    columns = shape[1] if preds.ndim > 1 else 1
    without = (shape[0], *shape[2:]) if preds.ndim > 1 else shape
    if columns > 2 and tuple(target.shape) == without:
        raise ShapeError("preds", rule, fact, "For more than two classes use MulticlassMetrics.")
    # Two columns are always two classes, so that a one-hot target is never taken for a dense one.
    return without if columns == 2 or (columns == 1 and tuple(target.shape) != shape) else shape


def read_rows(spec: BinarySpec, given: Given) -> BinaryRows:
    """Read what values tell, on the device; no host sync."""
    probs, weight = spec.inputs == "probs", given.weight
    if _clean(spec, given):
        raw, target = _RAW[spec.inputs](given.preds), given.target.long()
        return BinaryRows(
            raw, probs, spec.cut, target, (), None, torch.ones_like(target), None, given.step
        )
    raw = _RAW[spec.inputs](given.preds)
    none, reasons = _ODD[spec.inputs](given.preds, raw)
    masks = [reasons[0][1]]  # those that make up `out`; the reasons behind them only tell more
    if weight is not None:
        weight = weight.double()
        masks.append(~((weight >= 0) & (weight < float("inf"))))
        reasons.insert(0, (1, masks[-1]))
    target = given.target.long()
    if spec.ignore_index is not None:
        ignored = target.eq(spec.ignore_index)
        masks.append(ignored)
        reasons += [(len(spec.kinds), ignored), (len(spec.kinds) + 1, ignored & none)]
    out: Tensor = target >> 1  # 0 for targets 0 and 1 alone
    for mask in masks:
        out = torch.logical_or(out, mask)
    weight = None if weight is None else weight.masked_fill(out, 1.0)
    one = torch.ones_like(target)
    parts = None if given.ids is None else spec.parts.judged(given.ids, ~out, given.step)
    left_out = [(0, out), *reasons]
    return BinaryRows(raw, probs, spec.cut, target, left_out, out, one, weight, given.step, parts)


def _clean(spec: BinarySpec, given: Given) -> bool:
    """Whether every row counts for 1, where the host can see that in two passes: then no mask is needed."""
    preds, plain = (
        given.preds,
        given.weight is None and given.ids is None and spec.ignore_index is None,
    )
    if not plain or preds.ndim > 1 or not len(preds) or not in_memory(preds):
        return False
    low, high = (float(end) for end in preds.aminmax())  # NaN if there is one
    fits = low == low if spec.inputs == "logits" else 0 <= low <= high <= 1  # noqa: PLR0124
    lowest, highest = given.target.aminmax()
    return fits and 0 <= int(lowest) <= int(highest) <= 1


def _logits(preds: Tensor) -> Tensor:
    score = preds if preds.dtype == torch.float64 else preds.float()
    if score.ndim == 1:
        return score
    negative, positive = score.unbind(1)
    return positive - negative


# Where it is no score, and reasons to refuse a row: the first mask holds all of them.
Odd = tuple[Tensor, list[tuple[int, Tensor]]]


def _odd_logits(preds: Tensor, score: Tensor) -> Odd:
    nan = score.ne(score)
    return nan, [(NAN_SLOT, nan)]


def _odd_probs(preds: Tensor, p: Tensor) -> Odd:
    outside = p.clamp(0, 1).ne(p)  # NaN too
    odd, nan = outside, p.ne(p)
    if preds.ndim == 2:
        total = preds.double().sum(1)
        odd, nan = odd | ~((total - 1).abs() <= 0.01), nan | total.ne(total)
    return outside, [(NAN_SLOT + 1, odd), (NAN_SLOT, nan)]


def _odd_labels(preds: Tensor, label: Tensor) -> Odd:
    odd = label.clamp(0, 1).ne(label)
    return torch.zeros_like(odd), [(NAN_SLOT, odd)]


# What is compared with the cut.
_RAW = {"logits": _logits, "probs": lambda p: p if p.ndim == 1 else p[:, 1], "labels": Tensor.long}
_ODD = {"logits": _odd_logits, "probs": _odd_probs, "labels": _odd_labels}


def read_pieces(spec: BinarySpec, batch: Given) -> Iterator[BinaryRows]:
    """The rows all at once, or piece by piece on a CPU."""
    rows = len(batch.target)
    size = PIECE if batch.preds.device.type == "cpu" else max(1, rows)
    for start in range(0, max(1, rows), size):
        yield read_rows(spec, batch.part(start, start + size))
