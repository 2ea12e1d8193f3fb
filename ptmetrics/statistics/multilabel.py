"""A batch of yes-or-no labels, many a row, read once: counts of each label, and of the rows as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ptmetrics.errors import ShapeError
from ptmetrics.statistics import checks
from ptmetrics.statistics.cells import Cell, State
from ptmetrics.statistics.faults import BAD_WEIGHT, FaultKind
from ptmetrics.statistics.moments import SIZE, moments

Inputs = Literal["logits", "probs", "labels"]
BAD_TARGET = FaultKind("target-out-of-range", "target that is neither 0 nor 1, left out for its label")
NAN_SCORE = FaultKind("nan-score", "NaN prediction, left out for its label")
NOT_PROBABILITY = FaultKind(
    "not-probabilities",
    'probability outside [0, 1], left out for its label; is it inputs="logits"?',
)
BAD_LABEL = FaultKind("prediction-out-of-range", "prediction that is neither 0 nor 1, left out for its label")
KINDS: Mapping[Inputs, tuple[FaultKind, ...]] = {
    "logits": (BAD_TARGET, NAN_SCORE, BAD_WEIGHT),
    "probs": (BAD_TARGET, NOT_PROBABILITY, BAD_WEIGHT),
    "labels": (BAD_TARGET, BAD_LABEL, BAD_WEIGHT),
}
TN, FP, FN, TP = range(4)  # rows of the counts
COUNTED, PREDICTED, ACTUAL, HITS = range(4)  # what is summed over the labels of a row
PRECISION, RECALL, F1, JACCARD = range(4)  # scores of a row


@dataclass(frozen=True)
class LabelSpec:
    """How to read a batch.

    Attributes:
        num_labels: L.
        inputs: Kind of the predictions.
        cut: Predictions of at least this, on their own scale, are a yes.
        ignore_index: A target value to leave out silently.
    """

    num_labels: int
    inputs: Inputs = "logits"
    cut: float = 0.0
    ignore_index: int | None = None


@dataclass
class LabelBatch:
    """A checked batch; device tensors of shape (rows, L) unless said otherwise."""

    counted: Tensor  # bool: neither ignored nor refused
    predicted: Tensor  # bool, False where not counted
    actual: Tensor  # bool, False where not counted
    intact: Tensor  # bool (rows,): no label refused, and at least one counted
    weight: Tensor | None  # float64 (rows,), 0 where refused
    fault_masks: tuple[Tensor, ...]  # int64 (rows,): how many labels of the row have the fault
    step: int
    scores: Tensor | None  # float32 or float64; None for labels


def read_labels(
    spec: LabelSpec, home: Tensor, preds: Tensor, target: Tensor, *, weight: Tensor | None, step: int
) -> LabelBatch:
    """Check on the host what a shape tells, on the device what a value tells; no host sync.

    Args:
        spec: How to read the batch.
        home: Any state tensor, for its device.
        preds: (N, L) or (N, L, d1, …): scores, or 0 and 1 for `inputs="labels"`.
        target: Signed integers 0 and 1 of the same shape.
        weight: Non-negative weights of shape (N, …): one a row, not one a label. Or None.
        step: Number of this update, for the fault ledger.

    Raises:
        ShapeError, DtypeError, DeviceError: Before anything is counted.
    """
    _check(spec, home, preds, target, weight)
    preds, target = _rows(preds.detach()), _rows(target.detach())
    said, bad_preds = _read_preds(spec, preds)
    actual = target == 1
    bad_target = ~(actual | (target == 0))
    asked = torch.ones_like(actual) if spec.ignore_index is None else target != spec.ignore_index
    if weight is not None:
        weight = weight.detach().reshape(-1).double()
        good = (weight >= 0) & (weight < torch.inf)
        weight = torch.where(good, weight, 0.0)
        bad_weight = asked.any(1) & ~good
        asked = asked & good.unsqueeze(1)
    else:
        bad_weight = torch.zeros_like(asked[:, 0])
    bad_target, bad_preds = asked & bad_target, asked & bad_preds & ~bad_target
    counted = asked & ~bad_target & ~bad_preds
    intact = (counted == asked).all(1) & counted.any(1)
    masks = (bad_target.sum(1), bad_preds.sum(1), bad_weight.long())
    scores = None if spec.inputs == "labels" else preds
    return LabelBatch(counted, counted & said, counted & actual, intact, weight, masks, step, scores)


def _rows(value: Tensor) -> Tensor:
    """As (rows, L), label last; half precision is widened, which keeps every value."""
    if value.ndim > 2:
        value = value.movedim(1, -1).reshape(-1, value.shape[1])
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def _read_preds(spec: LabelSpec, preds: Tensor) -> tuple[Tensor, Tensor]:
    """Which labels are said to hold, and which predictions are none."""
    if spec.inputs == "labels":
        said = preds == 1
        return said, ~(said | (preds == 0))
    if spec.inputs == "probs":
        return preds >= spec.cut, ~((preds >= 0) & (preds <= 1))
    return preds >= spec.cut, preds.isnan()


def _check(spec: LabelSpec, home: Tensor, preds: Tensor, target: Tensor, weight: Tensor | None) -> None:
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
    """True and false negatives and positives of each label: int64 of shape (4, L), in the order of `TN … TP`.

    Once sample weights were seen, `labels_weight` and `labels_square` hold Σw and Σw² in float64.
    """

    num_labels: int

    def layout(self) -> Mapping[str, Cell]:
        """4 · L cells each."""
        size = (4, self.num_labels)
        weight = Cell(size, torch.float64, weights_of="labels")
        return {"labels": Cell(size), "labels_weight": weight, "labels_square": weight}

    def add_(self, state: State, batch: LabelBatch) -> None:
        """Sums over rows; no scatter."""
        hit = batch.predicted & batch.actual
        neither = batch.counted & ~(batch.predicted | batch.actual)
        cells = torch.stack((neither, batch.predicted ^ hit, batch.actual ^ hit, hit))
        state["labels"].add_(cells.sum(1))
        if "labels_weight" in state:
            weights = (
                torch.ones_like(batch.intact, dtype=torch.float64) if batch.weight is None else batch.weight
            )
            state["labels_weight"].add_(weights @ cells.double())
            state["labels_square"].add_(weights.square() @ cells.double())


@dataclass(frozen=True)
class LabelRows:
    """The rows as a whole: how many match exactly, their own precision and recall, and how labels err together."""

    def layout(self) -> Mapping[str, Cell]:
        """Rows with a label counted, intact rows, exact matches; Σw² of products; moments of row scores."""
        weight = Cell((3,), torch.float64, weights_of="rows")
        return {
            "rows": Cell((3,)),
            "rows_weight": weight,
            "rows_square": weight,
            "together": Cell((4, 4), torch.float64),
            "row_scores": Cell((SIZE, 4), torch.float64),
        }

    def add_(self, state: State, batch: LabelBatch) -> None:
        """Add one batch; a row with a refused label has no score of its own."""
        masks = (batch.counted, batch.predicted, batch.actual, batch.predicted & batch.actual)
        sums = torch.stack(masks).sum(2).double()
        counted, said, actual, hits = sums
        both = said + actual
        match = batch.intact & (both == 2 * hits)
        kinds = torch.stack((counted > 0, batch.intact, match))
        state["rows"].add_(kinds.sum(1))
        weight = torch.ones_like(hits) if batch.weight is None else batch.weight
        weighed = sums * weight
        state["together"].add_(weighed @ weighed.mT)
        if "rows_weight" in state:
            state["rows_weight"].add_(kinds.double() @ weight)
            state["rows_square"].add_(kinds.double() @ weight.square())
        whole = torch.stack((said, actual, both, both - hits))
        score = torch.stack((hits, hits, 2 * hits, hits)) / whole.clamp(min=1)
        state["row_scores"].add_(moments(score, batch.intact & (whole > 0), weight))
