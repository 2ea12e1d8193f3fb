"""Many yes-or-no labels a row: which labels count, hits and misses of each, and what each row comes to."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ptmetrics.counts import checks
from ptmetrics.counts.batch import Batch
from ptmetrics.counts.multiclass import (
    BAD_LABEL,
    BAD_TARGET,
    NAN_SCORE,
    NOT_PROBABILITIES,
    Inputs,
    either_dimension,
    fitting_dimensions,
    no_scores,
    without_dimension,
)
from ptmetrics.errors import ShapeError

LABEL_SUMS = 4
"""Numbers of hits, actual, predicted and other labels (counted, and not actual) of a row; of rows, for a label."""
ROW_SCORES = ("exact_match", "precision", "recall", "f1", "jaccard")
"""Scores that each row has of its own."""
_LABEL_TARGET = "target that is neither 0 nor 1, left out for its label"
LABEL_FAULT_KINDS: Mapping[Inputs, Mapping[str, str]] = {
    "logits": {BAD_TARGET: _LABEL_TARGET, NAN_SCORE: "NaN prediction, left out for its label"},
    "probs": {
        BAD_TARGET: _LABEL_TARGET,
        NOT_PROBABILITIES: "probability outside [0, 1], left out for its label; "
        'is it inputs="logits"?',
    },
    "labels": {
        BAD_TARGET: _LABEL_TARGET,
        BAD_LABEL: "prediction that is neither 0 nor 1, left out for its label",
    },
}


@dataclass
class LabelRows:
    """Rows as they count; device tensors."""

    sums: Tensor  # bool (4, rows, L): hits, actual, predicted, others; all False where not counted
    numbers: Tensor  # float64 (4, rows): of labels, in the same order
    counted: Tensor  # bool (rows, L)
    intact: Tensor  # bool (rows,): a label counts, and none is refused
    preds: Tensor  # (rows, L), of 32 bits or more


@dataclass(frozen=True)
class LabelReader:
    """Reads batches of multilabel predictions; no host sync.

    Attributes:
        num_labels: L.
        inputs: Kind of the predictions.
        cut: Predictions of at least this, on their own scale, are a yes.
        ignore_index: A target value to leave out silently.
        class_dim: The dimension that holds the labels, 1 or −1; None to read it off the shape.
    """

    num_labels: int
    inputs: Inputs
    cut: float
    ignore_index: int | None
    class_dim: int | None = None

    def check(
        self, device: torch.device, preds: Tensor, target: Tensor, sample_weight: Tensor | None
    ) -> Batch:
        """Check on the host what shapes, types and devices tell, and make the batch flat, labels last.

        Args:
            device: Where the metric counts.
            preds: (N, L), (N, L, d1, …) or (N, d1, …, L): scores, or 0 and 1 for `inputs="labels"`.
            target: Signed integers 0 and 1 of the same shape.
            sample_weight: (N, …) non-negative weights, one a row and not one a label; or None.

        Raises:
            ShapeError, DtypeError, DeviceError: Before anything is counted.
        """
        checks.as_tensor("preds", preds)
        checks.as_tensor("target", target)
        shape = tuple(preds.shape)
        if self.inputs == "labels":
            checks.class_indices("preds", preds, shape, 'for inputs="labels"')
        elif not preds.dtype.is_floating_point:
            raise no_scores(preds, self.num_labels)
        dim = self.label_dimension(preds)
        checks.class_indices("target", target, shape, "with 0 and 1, like preds")
        checks.same_device(device, preds=preds, target=target)
        weight = None
        if sample_weight is not None:
            rows = without_dimension(preds, dim)
            weight = checks.row_weights(device, sample_weight, rows, "one a row, of shape")
        if preds.ndim > 2:
            preds = preds.movedim(dim, -1).reshape(-1, self.num_labels)
            target = target.movedim(dim, -1).reshape(-1, self.num_labels)
        return Batch(preds, target, weight)

    def label_dimension(self, values: Tensor) -> int:
        """Which dimension holds the labels, 1 or −1, as the shape tells.

        Raises:
            ShapeError: If none does, or both may.
        """
        shape = tuple(values.shape)
        fitting = fitting_dimensions(shape, self.num_labels, self.class_dim)
        if not fitting:
            rule = f"shape (N, {self.num_labels}) or (N, {self.num_labels}, d1, …), or labels last"
            cure = "Pass one value a label, or build the metric with the right num_labels."
            raise ShapeError("preds", rule, str(shape), cure)
        if len(fitting) > 1:
            raise either_dimension(shape, shape, f"{self.num_labels} labels")
        return fitting[0]

    def read(self, batch: Batch) -> LabelRows:
        """Read what values tell; what is wrong with a label leaves out that label, and not its row."""
        preds = batch.preds
        if preds.dtype in (torch.float16, torch.bfloat16):
            preds = preds.float()  # keeps every value
        yes = batch.target.eq(1)
        no = batch.target.eq(0)
        bad = torch.logical_or(yes, no).logical_not_()
        predicted, odd = self._decide(preds)
        if self.ignore_index is not None:
            asked = batch.target.ne(self.ignore_index)
            for mask in (yes, no, bad, odd):
                mask.logical_and_(asked)
        odd = odd > bad  # one fault a label
        refused = bad.sum(1)
        batch.report(BAD_TARGET, refused)
        odd_number = odd.sum(1)
        batch.report(list(LABEL_FAULT_KINDS[self.inputs])[1], odd_number)
        actual = yes > odd
        others = no > odd
        counted = actual | others
        predicted = predicted & counted
        sums = torch.stack((actual & predicted, actual, predicted, others))
        numbers = sums.sum(2).double()
        empty = (numbers[1] + numbers[3]).eq(0)
        batch.ignore(empty)
        intact = (refused + odd_number).eq(0) > empty
        return LabelRows(sums, numbers, counted, intact, preds)

    def scores_in_order(self, preds: Tensor) -> Tensor:
        """What puts the scores of a label in order: the logits."""
        if self.inputs == "probs":
            return torch.logit(preds.double())
        return preds

    def _decide(self, preds: Tensor) -> tuple[Tensor, Tensor]:
        """Which labels are predicted, and which predictions are none."""
        if self.inputs == "logits":
            return preds.ge(self.cut), preds.isnan()
        impossible = preds.clamp(0, 1).ne(preds)  # NaN differs from itself
        if self.inputs == "labels":
            return preds.eq(1), impossible
        return preds.ge(self.cut), impossible


def row_scores(numbers: Tensor, intact: Tensor) -> Tensor:
    """The scores of each row, float64 of shape (rows, 5) in the order of `ROW_SCORES`; NaN where it has none.

    Args:
        numbers: Hits, actual, predicted and other labels of each row, float64 of shape (4, rows).
        intact: Bool of shape (rows,): rows that have scores of their own.
    """
    hits, actual, predicted, _ = numbers.unbind()
    either = actual + predicted
    part = torch.stack((hits, hits, 2 * hits, hits))
    whole = torch.stack((predicted, actual, either, either - hits))
    whole = torch.maximum(whole, either.sign())  # nothing found of what is there: 0
    match = either.eq(2 * hits).double()
    scores = torch.cat((match.unsqueeze(0), part / whole))
    return scores.masked_fill_(intact.logical_not(), torch.nan).mT


def row_products(numbers: Tensor, batch: Batch) -> Tensor:
    """Products of a row's numbers by w², float64 of shape (rows, 4, 4): how the labels of a row err together.

    Args:
        numbers: As for `row_scores`.
        batch: Whose weights count.
    """
    weighed = numbers
    if batch.weight is not None:
        weighed = numbers * batch.weight
    return weighed.mT.unsqueeze(2) * weighed.mT.unsqueeze(1)


def add_row_products_(numbers: Tensor, batch: Batch, cell: Tensor) -> None:
    """Add the sum of `row_products` over the rows that count to a cell of shape (4, 4), in one product."""
    weight = batch.weight
    if weight is not None and batch.counted is not None:
        weight = torch.where(batch.counted, weight, 0.0)
    weighed = numbers
    if weight is not None:
        weighed = numbers * weight
    cell.addmm_(weighed, weighed.mT)
