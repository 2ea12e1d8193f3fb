"""What became of each sample of a batch, a column a sample: for two models held against each other on the same data.

Which rows count is the rule of the confusion matrix and of the errors; tests hold the two together. A pass of its own
over the scores is the price, so it is asked of validation batches alone. No host sync.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ptmetrics.statistics.binary import BinarySpec
from ptmetrics.statistics.multiclass import ClassSpec
from ptmetrics.statistics.regression import LIMIT

INT32 = torch.iinfo(torch.int32)


def class_rows(spec: ClassSpec, preds: Tensor, target: Tensor) -> Tensor:
    """Single-label predictions, one a sample, that passed the checks of the host.

    Args:
        spec: How to read them.
        preds: N rows of C scores, or N labels.
        target: N targets.

    Returns:
        Int32 of shape (3, N): the predicted class, −1 where the row is ignored or refused; the target as it was
        given; the bits of the negative log-likelihood in float32, NaN for labels and where the peak is ±inf.
    """
    target = target.reshape(-1).long()
    inside = target.clamp(0, spec.num_classes - 1)
    counted = _asked(target, inside == target, spec.ignore_index)
    if spec.inputs == "labels":
        label = preds.reshape(-1).long()
        return _columns(counted & (label.clamp(0, spec.num_classes - 1) == label), label, target, None)
    scores = preds.reshape(len(target), spec.num_classes)
    scores = scores if scores.dtype == torch.float64 else scores.float()
    peak, label = scores.max(1)
    own = scores.gather(1, inside.unsqueeze(1)).squeeze(1)
    if spec.inputs == "probs":
        counted = counted & ((scores.sum(1) - 1).abs() <= 0.01) & (scores.amin(1) >= 0)
        return _columns(counted, label, target, -own.log())
    # Without the label, whose exp is 1, float32 keeps all digits of the doubt of a sure row.
    odds = (scores - peak.unsqueeze(1)).exp_().scatter_(1, label.unsqueeze(1), 0.0)
    loss = odds.sum(1).log1p_() + (peak - own)
    return _columns(counted & ~peak.isnan(), label, target, loss.masked_fill_(peak.isinf(), torch.nan))


def binary_rows(spec: BinarySpec, preds: Tensor, target: Tensor) -> Tensor:
    """Yes-or-no predictions, one a sample, that passed the checks of the host.

    Args:
        spec: How to read them.
        preds: N scores, N pairs of scores, or N labels.
        target: N targets.

    Returns:
        As `class_rows`, with classes 0 and 1.
    """
    target = target.reshape(-1).long()
    counted = _asked(target, target >> 1 == 0, spec.ignore_index)
    if spec.inputs == "labels":
        label = preds.reshape(-1).long()
        return _columns(counted & (label.clamp(0, 1) == label), label, target, None)
    pairs = preds.reshape(-1, 2) if preds.ndim > 1 and preds.shape[1] == 2 else None
    if spec.inputs == "probs":
        raw = preds.reshape(-1) if pairs is None else pairs[:, 1]
        score = torch.logit(raw.double())  # NaN outside [0, 1]
        if pairs is not None:
            counted = counted & ((pairs.double().sum(1) - 1).abs() <= 0.01)
    else:
        scores = preds if pairs is None else pairs
        scores = scores if scores.dtype == torch.float64 else scores.float()
        raw = score = scores.reshape(-1) if pairs is None else scores[:, 1] - scores[:, 0]
    loss = functional.softplus(score * torch.rsub(target, 1, alpha=2))
    return _columns(counted & ~score.isnan(), raw >= spec.cut, target, loss)


def point_rows(preds: Tensor, target: Tensor) -> Tensor:
    """Real-valued predictions, one a sample.

    Args:
        preds: N numbers.
        target: N numbers.

    Returns:
        Float64 of shape (2, N): prediction − target, NaN where the row is refused; the target as it was given.
    """
    preds, target = preds.reshape(-1), target.reshape(-1)
    if preds.dtype.is_floating_point or target.dtype.is_floating_point:
        error = preds.double() - target.double()
    else:
        error = (preds.long() - target.long()).double()  # exact beyond 2⁵³ too
    fits = (preds.double().abs() <= LIMIT) & (target.double().abs() <= LIMIT)
    return torch.stack((torch.where(fits, error, torch.nan), target.double()))


def _asked(target: Tensor, inside: Tensor, ignore_index: int | None) -> Tensor:
    return inside if ignore_index is None else inside & (target != ignore_index)


def _columns(counted: Tensor, label: Tensor, target: Tensor, loss: Tensor | None) -> Tensor:
    predicted = torch.where(counted, label.int(), -1)
    loss = torch.full_like(target, torch.nan, dtype=torch.float32) if loss is None else loss.float()
    return torch.stack((predicted, target.clamp(INT32.min, INT32.max).int(), loss.view(torch.int32)))
