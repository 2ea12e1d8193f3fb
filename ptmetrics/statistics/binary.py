"""A batch of yes-or-no predictions, read once: score, decision, faults and losses of each row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ptmetrics.errors import DtypeError, ShapeError
from ptmetrics.statistics import checks
from ptmetrics.statistics.cells import Cell, State
from ptmetrics.statistics.contract import Statistic
from ptmetrics.statistics.faults import (
    BAD_LABEL,
    BAD_TARGET,
    BAD_WEIGHT,
    NAN_SCORE,
    OUTSIDE_UNIT,
    FaultKind,
)
from ptmetrics.statistics.row_parts import NO_PARTS, RowParts, RowsInParts
from ptmetrics.statistics.waiting import Given

Inputs = Literal["logits", "probs", "labels"]
KINDS: Mapping[Inputs, tuple[FaultKind, ...]] = {
    "logits": (BAD_TARGET, BAD_WEIGHT, NAN_SCORE),
    "probs": (BAD_TARGET, BAD_WEIGHT, NAN_SCORE, OUTSIDE_UNIT),
    "labels": (BAD_TARGET, BAD_WEIGHT, BAD_LABEL),
}
NAN_SLOT = 2  # from here on the score is not a number
PIECE = 1 << 16  # rows of a CPU batch that are read at a time: all that is made of them stays in the cache


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

    score: Tensor  # logits in float32 or float64, int64 labels; anything where left out
    raw: Tensor  # what is compared with the cut
    cut: float
    target: Tensor  # int64, 0 or 1 where not left out
    left_out: Sequence[tuple[int, Tensor]]
    out: Tensor  # bool: any of the masks
    one: Tensor  # int64 ones
    weight: Tensor | None  # float64, 1 where left out
    step: int | Tensor  # of the update, or int64 of each row
    parts: RowsInParts | None = None

    @property
    def cell(self) -> Tensor:
        """Row-major cell of the 2 × 2 matrix, 4 for rows that are left out."""
        return torch.where(self.out, 4, 2 * self.target + self.raw.ge(self.cut))

    def scored(self, name: str) -> Tensor:
        """The decision for the confusion matrix, the score in order of the logits, else what was predicted."""
        if name == "confusion":
            return self.raw.ge(self.cut)
        return self.score if name == "curve" else self.raw


def check_batch(spec: BinarySpec, home: Tensor, preds: Tensor, target: Tensor, weight: Tensor | None) -> None:
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
    checks.class_indices("target", target, like, f"beside preds of shape {tuple(preds.shape)}")
    checks.together(home, preds=preds, target=target)
    if weight is not None:
        checks.is_tensor("sample_weight", weight)
        checks.row_weights(weight, like)
        checks.together(home, sample_weight=weight)


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
    weight, (score, raw, reasons) = given.weight, _READ[spec.inputs](given.preds)
    masks = [reasons[0][1]]  # those that make up `out`; the reasons behind them only tell more
    if weight is not None:
        weight = weight.double()
        masks.append(~((weight >= 0) & (weight < float("inf"))))
        reasons.insert(0, (1, masks[-1]))
    target = given.target.long()
    if spec.ignore_index is not None:
        ignored = target.eq(spec.ignore_index)
        none = ignored & score.ne(score)
        masks.append(ignored)
        reasons += [(len(spec.kinds), ignored), (len(spec.kinds) + 1, none)]
    out: Tensor = target >> 1  # 0 for targets 0 and 1 alone
    for mask in masks:
        out = torch.logical_or(out, mask)
    weight = None if weight is None else weight.masked_fill(out, 1.0)
    one = torch.ones_like(target)
    parts = None if given.ids is None else spec.parts.judged(given.ids, ~out, given.step)
    return BinaryRows(score, raw, spec.cut, target, [(0, out), *reasons], out, one, weight, given.step, parts)


# Score, what the cut is compared with, and reasons to refuse a row: the first mask holds all of them.
Read = tuple[Tensor, Tensor, list[tuple[int, Tensor]]]


def _logits(preds: Tensor) -> Read:
    score = preds if preds.dtype == torch.float64 else preds.float()
    if score.ndim == 2:
        negative, positive = score.unbind(1)
        score = positive - negative
    return score, score, [(NAN_SLOT, score.ne(score))]


def _probs(preds: Tensor) -> Read:
    p = preds if preds.ndim == 1 else preds[:, 1]
    # In float64 the logit keeps any two float32 probabilities apart, and is NaN outside [0, 1].
    score = torch.logit(p.double())
    odd, nan = score.ne(score), p.ne(p)
    if preds.ndim == 2:
        total = preds.double().sum(1)
        odd, nan = odd | ~((total - 1).abs() <= 0.01), nan | total.ne(total)
    return score, p, [(NAN_SLOT + 1, odd), (NAN_SLOT, nan)]


def _labels(preds: Tensor) -> Read:
    label = preds.long()
    return label, label, [(NAN_SLOT, label.clamp(0, 1).ne(label))]


_READ = {"logits": _logits, "probs": _probs, "labels": _labels}


@dataclass(frozen=True)
class InPieces:
    """Statistics of rows, fed with a batch all at once, or piece by piece on a CPU."""

    spec: BinarySpec
    statistics: tuple[Statistic[BinaryRows], ...]

    def layout(self) -> Mapping[str, Cell]:
        """The cells of all of them."""
        return {name: cell for s in self.statistics for name, cell in s.layout().items()}

    def add_(self, state: State, batch: Given) -> None:
        """Read each piece once, and give it to every statistic."""
        rows = len(batch.target)
        size = PIECE if batch.preds.device.type == "cpu" else max(1, rows)
        for start in range(0, max(1, rows), size):
            read = read_rows(self.spec, batch.part(start, start + size))
            for statistic in self.statistics:
                statistic.add_(state, read)


@dataclass(frozen=True)
class BinaryLosses:
    """Σ v·vᵀ, Σw v·vᵀ and Σw² v·vᵀ of v = (1, negative log-likelihood, squared error): float64 of shape (3, 3).

    One matrix product holds the sums of both losses and of their squares. Losses are computed in float32, in
    float64 where the model emits it; they are 0 for rows that are left out.
    """

    def layout(self) -> Mapping[str, Cell]:
        """Nine sums each."""
        size = (3, 3)
        weight = Cell(size, torch.float64, weights_of="loss")
        return {"loss": Cell(size, torch.float64), "loss_weight": weight, "loss_square": weight}

    def add_(self, state: State, batch: BinaryRows) -> None:
        """A row is as sure of the wrong class as its logit, turned to that class, is high."""
        logit = batch.score if batch.raw.dtype == torch.float64 else batch.score.float()
        wrong = logit * torch.rsub(batch.target, 1, alpha=2)
        # An infinite loss of weight 0 is nothing.
        none = batch.out if batch.weight is None else batch.out | batch.weight.eq(0)
        wrong.masked_fill_(none, -torch.inf)
        v = torch.stack((batch.one, functional.softplus(wrong), wrong.sigmoid().square())).double()
        state["loss"].addmm_(v, v.t())
        if "loss_weight" in state:
            weighed = v if batch.weight is None else v * batch.weight
            state["loss_weight"].addmm_(weighed, v.t())
            state["loss_square"].addmm_(weighed, weighed.t())
