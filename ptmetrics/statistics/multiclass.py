"""A batch of single-label predictions, read once: matrix cell, faults, likelihood, rank."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ptmetrics.statistics import checks
from ptmetrics.statistics.cells import Cell, State
from ptmetrics.statistics.faults import (
    BAD_LABEL,
    BAD_TARGET,
    BAD_WEIGHT,
    INFINITE_SCORE,
    NAN_SCORE,
    NOT_PROBABILITIES,
    FaultKind,
)
from ptmetrics.statistics.moments import SIZE, moments

Inputs = Literal["logits", "probs", "labels"]
KINDS: Mapping[Inputs, tuple[FaultKind, ...]] = {
    "logits": (BAD_TARGET, BAD_WEIGHT, NAN_SCORE, INFINITE_SCORE),
    "probs": (BAD_TARGET, BAD_WEIGHT, NAN_SCORE, NOT_PROBABILITIES),
    "labels": (BAD_TARGET, BAD_WEIGHT, BAD_LABEL),
}


@dataclass(frozen=True)
class ClassSpec:
    """How to read a batch: number of classes, kind of scores, class to ignore."""

    num_classes: int
    inputs: Inputs = "logits"
    ignore_index: int | None = None


@dataclass
class ClassBatch:
    """A checked batch; every field is a device tensor of shape (rows,) unless said otherwise."""

    counted: Tensor  # bool: neither ignored nor refused
    target: Tensor  # int64, some class where not counted
    cell: Tensor  # int64: row-major cell of the confusion matrix; one spare cell behind it for the rest
    weight: Tensor | None  # float64, 1 where not counted
    fault_masks: tuple[Tensor, ...]
    step: int
    scores: Tensor | None  # (rows, C), float32 or float64; None for labels
    peak: Tensor | None  # highest score of the row
    finite: Tensor | None  # bool: counted, and its likelihood is defined

    def row_weight(self) -> Tensor:
        """Float64 weights; 1 a row where no weights were given, and for each row of the spare cell."""
        return torch.ones_like(self.cell, dtype=torch.float64) if self.weight is None else self.weight


def read_batch(
    spec: ClassSpec, home: Tensor, preds: Tensor, target: Tensor, *, weight: Tensor | None, step: int
) -> ClassBatch:
    """Check on the host what a shape tells, on the device what a value tells; no host sync.

    Args:
        spec: How to read the batch.
        home: Any state tensor, for its device.
        preds: (N, C) or (N, C, d1, …) scores, or (N, …) classes for `inputs="labels"`.
        target: (N, …) signed integer classes.
        weight: (N, …) non-negative weights, or None.
        step: Number of this update, for the fault ledger.

    Raises:
        ShapeError, DtypeError, DeviceError: Before anything is counted.
    """
    _check(spec, home, preds, target, weight)
    preds, target = preds.detach(), target.detach().reshape(-1).long()
    inside = target.clamp(0, spec.num_classes - 1)
    usable = inside == target
    if spec.ignore_index is None:
        bad_target = ~usable
    else:
        kept = target != spec.ignore_index
        usable = usable & kept
        bad_target = kept ^ usable
    weight, weighed = _read_weight(weight, usable)
    masks = [bad_target, usable ^ weighed]
    if spec.inputs == "labels":
        label = preds.reshape(-1).long()
        counted = weighed & (label.clamp(0, spec.num_classes - 1) == label)
        masks += [weighed ^ counted]
        scores = peak = finite = None
    else:
        scores = _rows(preds)
        peak, label = scores.max(1)
        known = weighed & (peak == peak)  # noqa: PLR0124 — NaN differs from itself; isnan costs one op more
        finite = known & _likely(spec.inputs, scores, peak)
        masks += [weighed ^ known, known ^ finite]
        counted = known if spec.inputs == "logits" else finite
    cell = torch.where(counted, torch.add(label, inside, alpha=spec.num_classes), spec.num_classes**2)
    weight = None if weight is None else torch.where(counted, weight, 1.0)
    return ClassBatch(counted, inside, cell, weight, tuple(masks), step, scores, peak, finite)


def _check(spec: ClassSpec, home: Tensor, preds: Tensor, target: Tensor, weight: Tensor | None) -> None:
    checks.is_tensor("preds", preds)
    checks.is_tensor("target", target)
    if spec.inputs == "labels":
        like = min(
            tuple(preds.shape), tuple(target.shape), key=len
        )  # the longer one has scores or one-hot rows
        checks.class_indices("preds", preds, like, 'for inputs="labels"')
    else:
        checks.class_scores(preds, spec.num_classes)
        like = (preds.shape[0], *preds.shape[2:])
    checks.class_indices("target", target, like, f"beside preds of shape {tuple(preds.shape)}")
    checks.together(home, preds=preds, target=target)
    if weight is not None:
        checks.is_tensor("sample_weight", weight)
        checks.row_weights(weight, like)
        checks.together(home, sample_weight=weight)


def _rows(preds: Tensor) -> Tensor:
    """Scores as (rows, C), class last; half precision is widened, which keeps every value and the order."""
    if preds.ndim > 2:
        preds = preds.movedim(1, -1).reshape(-1, preds.shape[1])
    return preds if preds.dtype in (torch.float32, torch.float64) else preds.float()


def _read_weight(weight: Tensor | None, usable: Tensor) -> tuple[Tensor | None, Tensor]:
    if weight is None:
        return None, usable
    weight = weight.detach().reshape(-1).double()
    return weight, usable & (weight >= 0) & (weight < float("inf"))


def _likely(inputs: Inputs, scores: Tensor, peak: Tensor) -> Tensor:
    """Whether a row without NaN has a likelihood at all."""
    if inputs == "logits":
        return peak.abs() != float("inf")
    return ((scores.sum(1) - 1).abs() <= 0.01) & (scores.amin(1) >= 0)


@dataclass(frozen=True)
class Confusion:
    """Counts of (actual, predicted): int64 of shape (C² + 1,), the last cell for rows not counted.

    Once sample weights were seen, `weight` and `weight_square` hold Σw and Σw² a cell in float64.
    """

    num_classes: int

    def layout(self) -> Mapping[str, Cell]:
        """C² + 1 cells each."""
        size = (self.num_classes**2 + 1,)
        weight = Cell(size, torch.float64, weights_of="confusion")
        return {"confusion": Cell(size), "weight": weight, "weight_square": weight}

    def add_(self, state: State, batch: ClassBatch) -> None:
        """One scatter for each matrix; a batch without weights weighs 1 a row."""
        state["confusion"].scatter_add_(0, batch.cell, torch.ones_like(batch.cell))
        if "weight" in state:
            weight = batch.row_weight()
            state["weight"].scatter_add_(0, batch.cell, weight)
            state["weight_square"].scatter_add_(0, batch.cell, weight * weight)


@dataclass(frozen=True)
class Likelihood:
    """Moments of the negative log-likelihood of the target, natural logarithm."""

    inputs: Inputs

    def layout(self) -> Mapping[str, Cell]:
        """Six sums."""
        return {"nll": Cell((SIZE,), torch.float64)}

    def add_(self, state: State, batch: ClassBatch) -> None:
        """Rows that peak at ±inf have no likelihood and are left out; a target at −inf makes the sum infinite."""
        if batch.scores is None or batch.peak is None or batch.finite is None:
            return
        own = batch.scores.gather(1, batch.target.unsqueeze(1)).squeeze(1)
        if self.inputs == "logits":
            # Only exp runs in the type of the scores: float32 sums would round away the loss of a sure row.
            odds = (batch.scores - batch.peak.unsqueeze(1)).exp_().sum(1, dtype=torch.float64)
            loss = odds.log() + (batch.peak - own)
        else:
            loss = -own.double().log()
        state["nll"].add_(moments(loss, batch.finite, batch.weight))


@dataclass(frozen=True)
class TopK:
    """Hits of the target among the k highest scores, k > 1, ties by lowest class: int64 of shape (ks,)."""

    ks: tuple[int, ...]

    def layout(self) -> Mapping[str, Cell]:
        """One count for each k."""
        size = (len(self.ks),)
        return {"topk": Cell(size), "topk_weight": Cell(size, torch.float64, weights_of="topk")}

    def add_(self, state: State, batch: ClassBatch) -> None:
        """Nothing is sorted: a row is a hit where fewer than k classes come before its target."""
        if batch.scores is None:
            return
        rank = rank_of_target(batch.scores, batch.target)
        hits = torch.stack([batch.counted & (rank < k) for k in self.ks])
        state["topk"].add_(hits.sum(1))
        if "topk_weight" in state:
            state["topk_weight"].add_((hits * batch.row_weight()).sum(1))


def rank_of_target(scores: Tensor, target: Tensor) -> Tensor:
    """How many classes come before the target: those above it, and lower classes of the same score.

    Args:
        scores: Shape (rows, C).
        target: Classes of shape (rows,).

    Returns:
        Int64 of shape (rows,), 0 for the first.
    """
    own = scores.gather(1, target.unsqueeze(1))
    lower = torch.arange(scores.shape[1], device=scores.device) < target.unsqueeze(1)
    return torch.where(lower, scores >= own, scores > own).sum(1)
