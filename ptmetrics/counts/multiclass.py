"""Single-label predictions, row by row: what is refused and why, losses, confidence, margins of each class."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ptmetrics.counts import checks
from ptmetrics.counts.batch import Batch
from ptmetrics.counts.score_passes import Columns, ScorePasses
from ptmetrics.errors import DtypeError, ShapeError

Inputs = Literal["logits", "probs", "labels"]
BAD_TARGET = "target-out-of-range"
NAN_SCORE = "nan-score"
INFINITE_SCORE = "infinite-score"
NOT_PROBABILITIES = "not-probabilities"
BAD_LABEL = "prediction-out-of-range"
SOFT_TARGET = "soft-target"
BAD_SOFT_TARGET = "soft-target-not-probabilities"
TIED_TARGET = "tied-soft-target"
_TARGET_WORDS = "target outside the classes, refused"
_NAN_WORDS = "row with a NaN prediction, refused"
_SOFT_WORDS = {
    BAD_SOFT_TARGET: "soft target that is negative, NaN or does not sum to 1 ± 0.01, refused",
    TIED_TARGET: "soft target without a heaviest class, left out",
    SOFT_TARGET: "soft target: nll and brier are against the whole of it, "
    "accuracy and all else against its heaviest class",
}
NOTE_KINDS = frozenset({TIED_TARGET, SOFT_TARGET})
"""Kinds that are no fault."""
FAULT_KINDS: Mapping[Inputs, Mapping[str, str]] = {
    "logits": {
        BAD_TARGET: _TARGET_WORDS,
        NAN_SCORE: _NAN_WORDS,
        INFINITE_SCORE: "row that peaks at ±inf: counted, ties by lowest class, left out of nll",
        **_SOFT_WORDS,
    },
    "probs": {
        BAD_TARGET: _TARGET_WORDS,
        NAN_SCORE: _NAN_WORDS,
        NOT_PROBABILITIES: "row that is negative or does not sum to 1 ± 0.01, refused; "
        'is it inputs="logits"?',
        **_SOFT_WORDS,
    },
    "labels": {
        BAD_TARGET: _TARGET_WORDS,
        BAD_LABEL: "predicted label outside the classes, refused",
    },
}
CONFIDENCE_BINS = 960  # 15 bins of equal width are 64 each
TEMPERATURES = tuple(4 ** (i / 16) for i in range(-16, 17))  # from 1/4 to 4
LEAST_SCORE = torch.finfo(torch.float32).min
INT32 = torch.iinfo(torch.int32)


@dataclass
class ClassRows:
    """Rows as they count; device tensors of shape (rows,)."""

    target: Tensor  # int64, some class where not counted
    label: Tensor  # int64, the predicted class; anything where not counted
    columns: Columns | None  # what is left of the scores; None for labels
    likely: Tensor | None  # bool: whether a row that counts has a likelihood; None where all do
    brier: Tensor | None = None  # float64, against a soft target; None for classes


@dataclass(frozen=True)
class ClassReader:
    """Reads batches of single-label predictions; no host sync.

    Attributes:
        num_classes: C.
        inputs: Kind of the predictions.
        ignore_index: A target value to leave out silently.
        passes: How to read scores; None for labels.
        class_dim: The dimension of scores that holds the classes, 1 or −1; None to read it off the
            shapes.
    """

    num_classes: int
    inputs: Inputs
    ignore_index: int | None
    passes: ScorePasses | None
    class_dim: int | None = None

    def check(
        self,
        device: torch.device,
        preds: Tensor,
        target: Tensor,
        sample_weight: Tensor | None,
        *,
        by_criterion: bool = False,
        in_place: bool = False,
    ) -> Batch:
        """Check on the host what shapes, types and devices tell, and make the batch flat.

        Args:
            device: Where the metric counts.
            preds: (N, C), (N, C, d1, …) or (N, d1, …, C) scores, or (N, …) classes for
                `inputs="labels"`.
            target: (N, …) signed integer classes; or floating point of the shape of the scores.
            sample_weight: (N, …) non-negative weights, or None.
            by_criterion: Whether torch's criteria say where the classes are: in dimension 1.
            in_place: Whether scores beside classes stay as they lie in memory, (N, d1, …, C).

        Raises:
            ShapeError, DtypeError, DeviceError: Before anything is counted.
        """
        checks.as_tensor("preds", preds)
        checks.as_tensor("target", target)
        soft = False
        dim = 1
        if self.inputs == "labels":
            # The longer shape has scores or one-hot rows.
            like = min(tuple(preds.shape), tuple(target.shape), key=len)
            checks.class_indices("preds", preds, like, 'for inputs="labels"')
        else:
            soft = target.is_floating_point() and target.shape == preds.shape
            dim = self.class_dimension(preds, target, by_criterion=by_criterion)
            like = without_dimension(preds, dim)
        if not soft:
            beside = f"beside preds of shape {tuple(preds.shape)}"
            checks.class_indices("target", target, like, beside)
        checks.same_device(device, preds=preds, target=target)
        weight = None
        if sample_weight is not None:
            weight = checks.row_weights(device, sample_weight, like)
        if len(like) == 1:
            return Batch(preds, target, weight)
        if self.inputs == "labels":
            return Batch(preds.reshape(-1), target.reshape(-1), weight)
        preds = preds.movedim(dim, -1)
        if soft or not in_place:
            preds = preds.reshape(-1, self.num_classes)
        if soft:
            target = target.movedim(dim, -1).reshape(-1, self.num_classes)
        else:
            target = target.reshape(-1)
        return Batch(preds, target, weight)

    def class_dimension(self, preds: Tensor, target: Tensor, *, by_criterion: bool = False) -> int:
        """Which dimension of scores holds the classes, 1 or −1, as shapes tell.

        Raises:
            ShapeError, DtypeError: If none does, or both may.
        """
        shape = tuple(preds.shape)
        classes = self.num_classes
        given = self.class_dim
        if by_criterion:
            given = 1
        fitting = fitting_dimensions(shape, classes, given)
        if not preds.dtype.is_floating_point or not fitting:
            raise no_scores(preds, classes)
        if len(fitting) == 1:
            return fitting[0]
        rows = tuple(target.shape)
        if target.is_floating_point() and rows == shape:
            rows = shape[:-1]
        if rows != without_dimension(preds, 1):
            return -1
        if rows == shape[:-1]:
            raise either_dimension(shape, tuple(target.shape), f"{classes} classes")
        return 1

    def row_shape(self, target: Tensor, *, by_criterion: bool = False) -> tuple[int, ...]:
        """Shape of the rows behind a checked target."""
        if not target.is_floating_point():
            return tuple(target.shape)
        dim = self.class_dimension(target, target, by_criterion=by_criterion)
        return without_dimension(target, dim)

    def read_ahead(self, batch: Batch) -> None:
        """Put the columns of the scores in their place; targets are classes."""
        assert self.passes is not None  # labels have no scores
        target = batch.target.clamp(0, self.num_classes - 1).long()
        batch.preds = self.passes.read_table(batch.preds, target)
        batch.is_read = True

    def read(self, batch: Batch) -> ClassRows:
        """Read what values tell, and refuse rows that cannot be."""
        last = self.num_classes - 1
        soft = None
        if batch.target.is_floating_point():
            soft = batch.target
            self._harden(batch, soft)
        target = batch.target.clamp(0, last).long()
        if self.ignore_index is not None:
            batch.ignore(batch.target == self.ignore_index)
        batch.refuse(BAD_TARGET, target != batch.target)
        if self.passes is None:
            label = batch.preds.clamp(0, last).long()
            batch.refuse(BAD_LABEL, label != batch.preds)
            return ClassRows(target, label, None, None)
        if batch.is_read:
            columns = Columns.of_table(batch.preds)
        else:
            columns = self.passes.read(batch.preds, target)
        batch.refuse(NAN_SCORE, columns.peak.isnan())
        if self.inputs == "probs":
            sound = ((columns.mass - 1).abs() <= 0.01) & (columns.least >= 0)
            batch.refuse(NOT_PROBABILITIES, sound.logical_not())
            likely = None
        else:
            endless = columns.peak.isinf()
            if batch.counted is not None:
                endless = endless & batch.counted
            batch.report(INFINITE_SCORE, endless)
            likely = None
            if batch.bad is not None and INFINITE_SCORE in batch.bad:
                likely = endless.logical_not()
        rows = ClassRows(target, columns.label, columns, likely)
        if soft is not None:
            self._soften(batch, rows, columns, soft)
        return rows

    def _harden(self, batch: Batch, soft: Tensor) -> None:
        """The heaviest class in the place of a soft target."""
        total = soft.sum(1, dtype=torch.float64)
        sound = ((total - 1).abs() <= 0.01) & (soft.amin(1) >= 0)  # NaN is neither
        peak, batch.target = soft.max(1)
        batch.refuse(BAD_SOFT_TARGET, sound.logical_not())
        batch.refuse(TIED_TARGET, (soft == peak.unsqueeze(1)).sum(1) > 1)

    def _soften(self, batch: Batch, rows: ClassRows, columns: Columns, soft: Tensor) -> None:
        """Losses against the whole of a soft target: its mean score in the place of its class's."""
        number = torch.ones_like(rows.target, dtype=torch.bool)
        if batch.counted is not None:
            number = batch.counted
        batch.report(SOFT_TARGET, number)
        if self.passes is None or not self.passes.losses:
            return
        share = soft.double()
        scores = batch.preds.double()
        if self.inputs == "probs":
            probs = scores
            own = torch.xlogy(share, scores).sum(1).exp()
        else:
            probs = scores.softmax(1)
            peak = columns.peak.double().unsqueeze(1)
            below = torch.where(share > 0, share * (peak - scores), 0.0)
            own = columns.peak.double() - below.sum(1)
        columns.own = own
        rows.brier = (probs - share).square().sum(1)

    def confidence(self, columns: Columns) -> Tensor:
        """Probability of the predicted class, float64 of shape (rows,)."""
        if self.inputs == "probs":
            return columns.peak.double()
        return 1 / (1 + columns.mass.double())

    def losses(self, rows: ClassRows, sure: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Negative log-likelihood, Brier score, and confidence − hit of each row; NaN without a likelihood.

        The Brier score is Σ (p − y)² over the classes, 0 to 2. Neither it nor the likelihood
        subtracts numbers close to each other for a row that is sure of its target.

        Args:
            rows: What was read of each row.
            sure: Their `confidence`.
        """
        columns = rows.columns
        assert columns is not None  # labels have no losses
        own = columns.own.double()
        norm = columns.norm.double()
        gap = sure - rows.label.eq(rows.target).double()
        if self.inputs == "probs":
            brier = norm.square() - 2 * own + 1
            if rows.brier is not None:
                brier = rows.brier
            return -own.log(), brier, gap
        below = columns.peak.double() - own
        mass = columns.mass.double()
        short = -torch.expm1(-below)  # 1 − exp(own − peak)
        brier = norm.square() + (mass + short).square() + short * (2 - short)
        brier = brier * sure.square()
        if rows.brier is not None:
            brier = rows.brier
        return mass.log1p() + below, brier, gap

    def nll_of_temperatures(self, batch: Batch, rows: ClassRows) -> Tensor:
        """Negative log-likelihood of the logits over each of 33 temperatures, and 1: float64 of shape (rows, 34).

        All are 0 for rows without a likelihood, and where the target is impossible at any
        temperature.
        """
        columns = rows.columns
        assert columns is not None  # logits only
        below = columns.peak - columns.own
        counted = below.isfinite()
        below = torch.where(counted, below, 0.0)
        scores = batch.preds.to(columns.peak.dtype)
        depth = scores - columns.peak.unsqueeze(1)
        depth = torch.where(counted.unsqueeze(1), depth, 0.0)
        losses = []
        for t in TEMPERATURES:
            mass = (depth / t).exp_().sum(1, dtype=torch.float64)
            losses.append(mass.log() + below / t)
        losses.append(torch.ones_like(losses[0]))
        return torch.where(counted.unsqueeze(1), torch.stack(losses, 1), 0.0)

    def margins(self, preds: Tensor) -> Tensor:
        """The logit of each class's probability, less what it is where all are equal; shape (rows, C).

        So 0 is a probability of 1 / C, and scores near it keep all digits, as do those of classes
        whose probability is close to 1.
        """
        others = self.num_classes - 1
        if self.inputs == "probs":  # sums within 1 ± 0.01 are taken for probabilities
            return torch.logit(preds.double().clamp(0, 1)).add_(math.log(others))
        logits = preds
        if logits.dtype != torch.float64:
            logits = logits.float()
        peak, label = logits.max(1, keepdim=True)
        depth = logits - peak
        odds = depth.exp()
        rest = (odds.sum(1, keepdim=True) - odds).div_(others)  # the mean over the other classes
        margin = depth.sub_(rest.log_())
        second = logits.scatter(1, label, -torch.inf)
        runner_up = second.amax(1, keepdim=True).clamp_(min=LEAST_SCORE)  # −∞ would leave NaN
        mean = second.sub_(runner_up).exp_().sum(1, keepdim=True).div_(others)
        return margin.scatter_(1, label, peak - runner_up - mean.log_())


def fitting_dimensions(shape: tuple[int, ...], size: int, class_dim: int | None) -> tuple[int, ...]:
    """Which of the dimensions 1 and −1 may hold `size` classes or labels; 1 where both are the same."""
    if len(shape) == 2 and shape[1] == size:
        return (1,)
    if len(shape) < 3:
        return ()
    allowed: tuple[int, ...] = (1, -1)
    if class_dim is not None:
        allowed = (class_dim,)
    return tuple(dim for dim in allowed if shape[dim] == size)


def without_dimension(scores: Tensor, dim: int) -> tuple[int, ...]:
    """Shape of the rows where dimension 1 or −1 holds the classes."""
    shape = tuple(scores.shape)
    if dim == 1:
        return (shape[0], *shape[2:])
    return shape[:-1]


def no_scores(preds: Tensor, classes: int) -> DtypeError | ShapeError:
    """The error for what cannot be scores of so many classes."""
    rule = f"floating point of shape (N, {classes}) or (N, {classes}, d1, …), or classes last"
    fact = f"{checks.dtype_name(preds)} of shape {tuple(preds.shape)}"
    if not preds.dtype.is_floating_point:
        cure = 'Pass the logits, or use inputs="labels" for predicted classes.'
        return DtypeError("preds", rule, fact, cure)
    cure = "Pass one score for each class, or build the metric with the right num_classes."
    return ShapeError("preds", rule, fact, cure)


def either_dimension(shape: tuple[int, ...], target: tuple[int, ...], what: str) -> ShapeError:
    """The error that asks for `class_dim`."""
    rule = f"a shape that tells which dimension holds the {what}"
    fact = f"{shape} beside target of shape {target}, where both dimensions may"
    cure = (
        "Build the metric with class_dim=1, as torch's losses take scores, or class_dim=-1 for "
        f"{what.split()[1]} last."
    )
    return ShapeError("preds", rule, fact, cure)


def sample_columns(
    batch: Batch, label: Tensor, loss: Tensor | None, further: Tensor | None = None
) -> Tensor:
    """What became of each row of classes.

    Args:
        batch: Rows that were read.
        label: Predicted class, bool or integer of shape (rows,).
        loss: Negative log-likelihood of shape (rows,), NaN where there is none; None for none at
            all.
        further: More numbers a row, of shape (numbers, rows); None for none.

    Returns:
        Int32 of shape (3 + numbers, rows): the predicted class, −1 where the row is ignored or
        refused; the target as it was given; the bits of the loss in float32, and of the further
        numbers.
    """
    predicted = label.int()
    if batch.counted is not None:
        predicted = torch.where(batch.counted, predicted, -1)
    if loss is None:
        bits = torch.full_like(batch.target, torch.nan, dtype=torch.float32)
    else:
        bits = loss.float()
        if batch.counted is not None:
            bits = torch.where(batch.counted, bits, torch.nan)
    target = batch.target.clamp(INT32.min, INT32.max).int()
    columns = torch.stack((predicted, target, bits.view(torch.int32)))
    if further is not None:
        columns = torch.cat((columns, further.float().view(torch.int32)))
    return columns
