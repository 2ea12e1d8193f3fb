"""Yes-or-no predictions, row by row: what is refused and why, decisions, scores, losses."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ptmetrics.counts import checks
from ptmetrics.counts.batch import Batch
from ptmetrics.counts.multiclass import (
    BAD_LABEL,
    BAD_TARGET,
    NAN_SCORE,
    NOT_PROBABILITIES,
    Inputs,
)
from ptmetrics.errors import DtypeError, ShapeError

_BAD_TARGET = "target outside the classes, refused"
_NAN_SCORE = "row with a NaN prediction, refused"
BINARY_FAULT_KINDS: Mapping[Inputs, Mapping[str, str]] = {
    "logits": {BAD_TARGET: _BAD_TARGET, NAN_SCORE: _NAN_SCORE},
    "probs": {
        BAD_TARGET: _BAD_TARGET,
        NAN_SCORE: _NAN_SCORE,
        NOT_PROBABILITIES: "probability outside [0, 1] or not summing to 1, refused; "
        'is it inputs="logits"?',
    },
    "labels": {BAD_TARGET: _BAD_TARGET, BAD_LABEL: "predicted label outside the classes, refused"},
}


@dataclass(frozen=True)
class BinaryReader:
    """Reads batches of yes-or-no predictions; no host sync.

    Attributes:
        inputs: Kind of the predictions.
        cut: The prediction from which a row is positive, in the unit of the predictions.
        ignore_index: A target value to leave out silently.
    """

    inputs: Inputs
    cut: float
    ignore_index: int | None

    def check(
        self, device: torch.device, preds: Tensor, target: Tensor, sample_weight: Tensor | None
    ) -> Batch:
        """Check on the host what shapes, types and devices tell, and make the batch flat.

        Args:
            device: Where the metric counts.
            preds: Scores of the target's shape, or with 1 or 2 columns in dimension 1; labels of
                the target's shape.
            target: Signed integers 0 and 1.
            sample_weight: Non-negative weights of the target's shape, or None.

        Raises:
            ShapeError, DtypeError, DeviceError: Before anything is counted.
        """
        checks.as_tensor("preds", preds)
        checks.as_tensor("target", target)
        like = self._shape_of_target(preds, target)
        beside = f"beside preds of shape {tuple(preds.shape)}"
        checks.class_indices("target", target, like, beside)
        checks.same_device(device, preds=preds, target=target)
        weight = None
        if sample_weight is not None:
            weight = checks.row_weights(device, sample_weight, like)
        if self.inputs == "labels" or preds.ndim < 2 or preds.shape[1] != 2:
            return Batch(_flat(preds), _flat(target), weight)
        if preds.ndim > 2:
            preds = preds.movedim(1, -1).reshape(-1, 2)
        return Batch(preds, _flat(target), weight)

    def read(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Read what values tell, and refuse rows that cannot be.

        Returns:
            What is compared with the cut, of shape (rows,): logits in float32 or float64,
            probabilities as they came, int64 labels. And the target, int64; both anything where
            not counted.
        """
        raw = self._raw(batch.preds)
        target = batch.target.long()
        if self._all_count(batch.preds, raw, target):
            return raw, target
        if self.ignore_index is not None:
            batch.ignore(batch.target == self.ignore_index)
        if self.inputs == "labels":
            batch.refuse(BAD_LABEL, raw.clamp(0, 1) != raw)
        elif self.inputs == "logits":
            batch.refuse(NAN_SCORE, raw.isnan())
        else:
            total = raw
            odd = raw.clamp(0, 1) != raw
            if batch.preds.ndim == 2:
                total = batch.preds.double().sum(1)
                odd = odd | ((total - 1).abs() > 0.01)
            batch.refuse(NAN_SCORE, total.isnan())
            batch.refuse(NOT_PROBABILITIES, odd)
        batch.refuse(BAD_TARGET, target.clamp(0, 1) != target)
        return raw, target

    def decide(self, raw: Tensor) -> Tensor:
        """Bool: which rows are predicted positive."""
        return raw.ge(self.cut)

    def logit(self, raw: Tensor) -> Tensor:
        """In the order and the unit of logits, float32 or float64."""
        if self.inputs == "probs":
            # In float64 the logit keeps any two float32 probabilities apart.
            return torch.logit(raw.double())
        return raw

    def _raw(self, preds: Tensor) -> Tensor:
        if self.inputs == "labels":
            return preds.long()
        if self.inputs == "probs":
            if preds.ndim == 2:
                return preds[:, 1]
            return preds
        if preds.dtype != torch.float64:
            preds = preds.float()
        if preds.ndim == 2:
            return preds[:, 1] - preds[:, 0]
        return preds

    def _all_count(self, preds: Tensor, raw: Tensor, target: Tensor) -> bool:
        """Whether every row counts, where the host can see that in two passes: no mask is needed."""
        if not len(raw) or not checks.in_memory(raw) or self.ignore_index in (0, 1):
            return False
        if self.inputs == "probs" and preds.ndim == 2:
            return False
        lowest, highest = target.aminmax()
        if int(lowest) < 0 or int(highest) > 1:
            return False
        low, high = raw.aminmax()  # NaN if there is one
        if self.inputs == "logits":
            return not math.isnan(float(low))
        return float(low) >= 0 and float(high) <= 1

    def _shape_of_target(self, preds: Tensor, target: Tensor) -> tuple[int, ...]:
        shape = tuple(preds.shape)
        if self.inputs == "labels":
            checks.class_indices("preds", preds, shape, 'for inputs="labels"')
            return shape
        rule = "floating point of the target's shape, or with 1 or 2 columns in dimension 1"
        fact = f"{checks.dtype_name(preds)} of shape {shape}"
        fact = f"{fact} beside target of shape {tuple(target.shape)}"
        if not preds.dtype.is_floating_point:
            cure = 'Pass the scores, or use inputs="labels" for predicted classes.'
            raise DtypeError("preds", rule, fact, cure)
        if preds.ndim < 2:
            return shape
        columns = shape[1]
        without = (shape[0], *shape[2:])
        if columns > 2 and tuple(target.shape) == without:
            cure = "For more than two classes use MulticlassMetrics."
            raise ShapeError("preds", rule, fact, cure)
        # Two columns are always two classes, so that a one-hot target is never taken for a dense
        # one.
        if columns == 2 or (columns == 1 and tuple(target.shape) != shape):
            return without
        return shape


def binary_losses(logit: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood, squared error, and confidence − hit at probability ½ of each row.

    In float32, or in float64 where the logits are. A row is as sure of the wrong class as its
    logit, turned to that class, is high.

    Args:
        logit: Float32 or float64 of shape (rows,).
        target: Int64 of shape (rows,), 0 and 1.

    Returns:
        Shape (rows, 3); column after column in memory, so that their sums are quick.
    """
    # At ½ the sign of the zero tells a hit from a miss, once −0 is 0.
    wrong = (logit + 0.0) * torch.rsub(target, 1, alpha=2)
    error = wrong.sigmoid()
    gap = torch.copysign(error, wrong)
    return torch.stack((softplus(wrong), error.square(), gap)).t()


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) to the last digits of its type."""
    if not checks.in_memory(x):
        return functional.softplus(x)
    # On a CPU a logarithm is some eight times quicker than log1p, on which softplus stands. What
    # 1 + exp(−|x|) lost of its last digits is put right by the slope of the logarithm.
    small = x.abs().neg_().exp_()
    near = small + 1
    lost = (near - 1).sub_(small).div_(near)
    return near.log_().sub_(lost).add_(x.clamp(min=0))


def _flat(values: Tensor) -> Tensor:
    if values.ndim == 1:
        return values
    return values.reshape(-1)
