"""A batch of yes-or-no labels, many a row, read once: counts of each label, and of the rows as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ptmetrics.counts import checks
from ptmetrics.counts.cells import Cell, State
from ptmetrics.counts.faults import BAD_WEIGHT, FaultKind
from ptmetrics.counts.row_parts import NO_PARTS, RowParts, RowsInParts
from ptmetrics.counts.waiting import Given
from ptmetrics.errors import ShapeError

Inputs = Literal["logits", "probs", "labels"]
BAD_TARGET = FaultKind(
    "target-out-of-range", "target that is neither 0 nor 1, left out for its label"
)
NAN_SCORE = FaultKind("nan-score", "NaN prediction, left out for its label")
NOT_PROBABILITY = FaultKind(
    "not-probabilities",
    'probability outside [0, 1], left out for its label; is it inputs="logits"?',
)
BAD_LABEL = FaultKind(
    "prediction-out-of-range", "prediction that is neither 0 nor 1, left out for its label"
)
KINDS: Mapping[Inputs, tuple[FaultKind, ...]] = {
    "logits": (BAD_TARGET, NAN_SCORE, BAD_WEIGHT),
    "probs": (BAD_TARGET, NOT_PROBABILITY, BAD_WEIGHT),
    "labels": (BAD_TARGET, BAD_LABEL, BAD_WEIGHT),
}
SUMS = ("counted", "predicted", "actual", "hits")  # labels of a row, or rows of a label
ROW_SCORES = ("precision", "recall", "f1", "jaccard")
ROWS = ("counted", "intact", "match", *ROW_SCORES)  # rows that are so, or have a score of their own


@dataclass(frozen=True)
class LabelSpec:
    """How to read a batch.

    Attributes:
        num_labels: L.
        inputs: Kind of the predictions.
        cut: Predictions of at least this, on their own scale, are a yes.
        ignore_index: A target value to leave out silently.
        parts: Parts of the rows to tell apart.
    """

    num_labels: int
    inputs: Inputs = "logits"
    cut: float = 0.0
    ignore_index: int | None = None
    parts: RowParts = NO_PARTS


@dataclass
class LabelBatch:
    """A checked batch, on the device."""

    masks: Tensor  # bool (4, rows, L), in the order of `SUMS`; all False where not counted
    fault_masks: tuple[
        Tensor, ...
    ]  # int64 (rows,): labels of a bad target, of a bad prediction, bad weight
    weights: Tensor  # float64 (2, rows): w and w², 0 where refused; 1 where no weights were given
    step: int | Tensor  # of the update, or int64 of each row
    scores: Tensor | None  # (rows, L), float32 or float64; None for labels
    parts: RowsInParts | None = None


def flat(spec: LabelSpec, preds: Tensor, target: Tensor, weight: Tensor | None) -> Given:
    """A checked batch with one row a sample, label last."""
    if preds.ndim > 2:
        preds, target = (v.movedim(1, -1).reshape(-1, spec.num_labels) for v in (preds, target))
    return Given(preds, target, None if weight is None else checks.flat(weight))


def labelled(spec: LabelSpec, given: Given) -> tuple[LabelBatch]:
    """`read_labels` in one piece."""
    return (read_labels(spec, given),)


def read_labels(spec: LabelSpec, given: Given) -> LabelBatch:
    """Read what values tell, on the device; no host sync."""
    preds, target, weight = given.preds, given.target, given.weight
    if preds.dtype in (torch.float16, torch.bfloat16):
        preds = preds.float()  # keeps every value
    said, odd = _read_preds(spec, preds)
    bad_target = target.clamp(0, 1).ne(target)
    if spec.ignore_index is not None:
        asked = target.ne(spec.ignore_index)
        bad_target, odd = bad_target & asked, odd & asked
    else:
        asked = torch.ones_like(bad_target)
    weights, bad_weight = _read_weight(weight, asked)
    if weight is not None:
        good = bad_weight.logical_not().unsqueeze(1)
        asked, bad_target, odd = asked & good, bad_target & good, odd & good
    odd = odd.gt(bad_target)  # one fault a label
    counted = asked.gt(bad_target | odd)
    actual, said = counted & target.eq(1), counted & said
    masks = torch.stack((counted, said, actual, said & actual))
    faults = (bad_target.sum(1), odd.sum(1), bad_weight.long())
    parts = None if given.ids is None else spec.parts.judged(given.ids, counted.any(1), given.step)
    return LabelBatch(
        masks, faults, weights, given.step, None if spec.inputs == "labels" else preds, parts
    )


def _read_weight(weight: Tensor | None, asked: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and their squares, 0 where they cannot be; and the rows of which a label is refused for it."""
    rows = asked.shape[0]
    if weight is None:
        return asked.new_ones((2, rows), dtype=torch.float64), asked.new_zeros(rows)
    weight = weight.double()
    good = (weight >= 0) & (weight < torch.inf)
    weight = weight.masked_fill(good.logical_not(), 0)
    return torch.stack((weight, weight * weight)), asked.any(1).gt(good)


def _read_preds(spec: LabelSpec, preds: Tensor) -> tuple[Tensor, Tensor]:
    """Which labels are said to hold, and which predictions are none."""
    if spec.inputs == "labels":
        return preds.eq(1), preds.clamp(0, 1).ne(preds)
    odd = (
        preds.isnan() if spec.inputs == "logits" else preds.clamp(0, 1).ne(preds)
    )  # NaN differs from itself
    return preds.ge(spec.cut), odd


def check_batch(
    spec: LabelSpec, home: Tensor, preds: Tensor, target: Tensor, weight: Tensor | None
) -> None:
    """Check on the host what shapes, types and devices tell.

    Args:
        spec: How to read the batch.
        home: Any state tensor, for its device.
        preds: (N, L) or (N, L, d1, …): scores, or 0 and 1 for `inputs="labels"`.
        target: Signed integers 0 and 1 of the same shape.
        weight: Non-negative weights of shape (N, …): one a row, not one a label. Or None.

    Raises:
        ShapeError, DtypeError, DeviceError: Before anything is counted.
    """
    checks.is_tensor("preds", preds)
    checks.is_tensor("target", target)
    if spec.inputs == "labels":
        checks.class_indices("preds", preds, tuple(preds.shape), 'for inputs="labels"')
    elif not preds.dtype.is_floating_point:
        checks.class_scores(preds, spec.num_labels)
    if preds.ndim < 2 or preds.shape[1] != spec.num_labels:
        raise ShapeError(
            "preds",
            f"shape (N, {spec.num_labels}) or (N, {spec.num_labels}, d1, …)",
            str(tuple(preds.shape)),
            "Pass one value a label, or build the metric with the right num_labels.",
        )
    checks.class_indices("target", target, tuple(preds.shape), "with 0 and 1, like preds")
    checks.together(home, preds=preds, target=target)
    if weight is not None:
        checks.is_tensor("sample_weight", weight)
        checks.row_weights(weight, (preds.shape[0], *preds.shape[2:]), "one a row, of shape")
        checks.together(home, sample_weight=weight)


@dataclass(frozen=True)
class LabelCounts:
    """Rows of each label that are counted, predicted, actual and both: int64 of shape (4, L).

    That is the 2 × 2 matrix of each label in other words. Once sample weights were seen, `labels_weight` and
    `labels_square` hold Σw and Σw² in float64.
    """

    num_labels: int

    def layout(self) -> Mapping[str, Cell]:
        """4 · L cells each."""
        size = (len(SUMS), self.num_labels)
        weight = Cell(size, torch.float64, weights_of="labels")
        return {"labels": Cell(size), "labels_weight": weight, "labels_square": weight}

    def add_(self, state: State, batch: LabelBatch) -> None:
        """Sums over rows; no scatter."""
        state["labels"].add_(batch.masks.sum(1))
        if "labels_weight" in state:
            weight, square = (batch.weights @ batch.masks.double()).unbind(1)
            state["labels_weight"].add_(weight)
            state["labels_square"].add_(square)


@dataclass(frozen=True)
class LabelRows:
    """The rows as a whole: how many match exactly, their own scores, and how labels err together."""

    def layout(self) -> Mapping[str, Cell]:
        """Numbers of rows as in `ROWS`, Σw² of products of `SUMS`, and Σ of x and x² of the scores, by w and w²."""
        weight = Cell((len(ROWS),), torch.float64, weights_of="rows")
        return {
            "rows": Cell((len(ROWS),)),
            "rows_weight": weight,
            "rows_square": weight,
            "together": Cell((len(SUMS), len(SUMS)), torch.float64),
            "row_scores": Cell((2 * len(ROW_SCORES), 2), torch.float64),
        }

    def add_(self, state: State, batch: LabelBatch) -> None:
        """Add one batch; a row with a refused label has no score of its own."""
        sums = row_sums(batch)
        state["rows"].add_(sums.kinds.sum(1))
        weighed = sums.labels * batch.weights[0]
        state["together"].addmm_(weighed, weighed.mT)
        if "rows_weight" in state:
            weight, square = batch.weights @ sums.kinds.double().mT
            state["rows_weight"].add_(weight)
            state["rows_square"].add_(square)
        state["row_scores"].addmm_(sums.scores, sums.weights.mT)


class RowSums(NamedTuple):
    """What each row comes to, as a whole."""

    labels: Tensor  # float64 (4, rows): numbers of labels, in the order of `SUMS`
    kinds: Tensor  # bool (7, rows), in the order of `ROWS`
    scores: Tensor  # float64 (8, rows): `ROW_SCORES` and their squares, 0 where it has none
    weights: Tensor  # float64 (2, rows): w and w², 0 for a row with a refused label


def row_sums(batch: LabelBatch) -> RowSums:
    """Sums over the labels of each row."""
    sums = batch.masks.sum(2).double()
    counted, said, actual, hits = sums
    intact = counted.gt(0).gt(batch.fault_masks[0] + batch.fault_masks[1])
    both = said + actual
    whole = torch.stack((said, actual, both, both - hits))
    kinds = torch.cat(
        (torch.stack((counted.gt(0), intact, intact & both.eq(2 * hits))), intact & whole.gt(0))
    )
    score = torch.stack((hits, hits, 2 * hits, hits)) / whole.clamp(min=1)
    return RowSums(sums, kinds, torch.cat((score, score * score)), batch.weights * intact)
