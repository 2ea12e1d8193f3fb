"""How good and how honest the probabilities are: negative log-likelihood, Brier score, confidence against accuracy."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ptmetrics.counts.cells import Cell, State
from ptmetrics.counts.class_rows import ClassPiece
from ptmetrics.counts.class_scores import Columns
from ptmetrics.counts.moments import SIZE, moments
from ptmetrics.counts.multiclass import ClassBatch, ClassSpec, Inputs, read_rows

LOSSES = ("nll", "brier", "over_confidence")
BINS = 960  # of confidence: 15 bins of equal width are 64 each
TEMPERATURES = tuple(4 ** (i / 16) for i in range(-16, 17))  # from 1/4 to 4


def confidence(inputs: Inputs, columns: Columns) -> Tensor:
    """Probability of the predicted class, float64 of shape (rows,)."""
    return columns.peak.double() if inputs == "probs" else 1 / (1 + columns.mass.double())


def losses_of(inputs: Inputs, batch: ClassBatch) -> Tensor:
    """Negative log-likelihood, Brier score and confidence − hit of each row: float64 of shape (3, rows).

    The Brier score is Σ (p − y)² over the classes, 0 to 2. Neither it nor the likelihood subtracts numbers close to
    each other for a row that is sure of its target.
    """
    c, sure = batch.columns, confidence(inputs, batch.columns)
    own, norm, gap = c.own.double(), c.norm.double(), sure - batch.label.eq(batch.target).double()
    if inputs == "probs":
        return torch.stack((-own.log(), norm.square() - 2 * own + 1, gap))
    below, mass = c.peak.double() - own, c.mass.double()
    short = -torch.expm1(-below)  # 1 − exp(own − peak)
    brier = (norm.square() + (mass + short).square() + short * (2 - short)) * sure.square()
    return torch.stack((mass.log1p() + below, brier, gap))


@dataclass(frozen=True)
class ClassLosses:
    """Moments of the losses of `losses_of`, over the rows that have a likelihood: float64 of shape (6, 3)."""

    inputs: Inputs

    def layout(self) -> Mapping[str, Cell]:
        """Six sums of each."""
        return {"losses": Cell((SIZE, len(LOSSES)), torch.float64)}

    def add_(self, state: State, batch: ClassBatch) -> None:
        """Rows that peak at ±inf are left out; a target at −inf makes the likelihood infinite."""
        losses = losses_of(self.inputs, batch)
        state["losses"].add_(moments(losses, batch.finite.expand(losses.shape), batch.weight))


@dataclass(frozen=True)
class Calibration:
    """Rows by confidence: int64 of shape (2 · 960 + 1,), cell 2 · bin + hit, and the sums of confidence.

    A confidence on an edge belongs to the bin below it; rows without a likelihood lie in the last cell.
    """

    inputs: Inputs

    def layout(self) -> Mapping[str, Cell]:
        """Counts, Σw and Σw² a cell; Σ confidence a cell, with and without weights."""
        size, f64 = (2 * BINS + 1,), torch.float64
        weight = Cell(size, f64, weights_of="calibration")
        return {
            "calibration": Cell(size),
            "calibration_weight": weight,
            "calibration_square": weight,
            "confidence": Cell(size, f64),
            "confidence_weight": Cell(size, f64, weights_of="confidence"),
        }

    def add_(self, state: State, batch: ClassBatch) -> None:
        """One scatter for each cell."""
        sure = confidence(self.inputs, batch.columns).nan_to_num(0.0)
        cell = (sure * BINS).ceil().long().sub_(1).clamp_(0, BINS - 1)
        cell = torch.add(batch.label.eq(batch.target), cell, alpha=2)
        cell = torch.where(batch.finite, cell, 2 * BINS)
        state["calibration"].scatter_add_(0, cell, torch.ones_like(cell))
        state["confidence"].scatter_add_(0, cell, sure)
        if "calibration_weight" in state:
            weight = batch.row_weight()
            state["calibration_weight"].scatter_add_(0, cell, weight)
            state["calibration_square"].scatter_add_(0, cell, weight * weight)
            state["confidence_weight"].scatter_add_(0, cell, weight * sure)


@dataclass(frozen=True)
class Tempered:
    """Mean negative log-likelihood of the logits over each of 33 temperatures: Σ loss and the rows, float64 (34,).

    It reads the scores once a temperature, some ten times what all the rest costs.
    """

    spec: ClassSpec

    def layout(self) -> Mapping[str, Cell]:
        """Σ w · loss for each temperature, and Σ w behind them."""
        return {"tempered": Cell((len(TEMPERATURES) + 1,), torch.float64)}

    def add_(self, state: State, piece: ClassPiece) -> None:
        """Rows without a likelihood are left out, and those whose target is impossible at any temperature."""
        batch = read_rows(self.spec, piece.rows)
        peak, below = batch.columns.peak, batch.columns.peak - batch.columns.own
        counted = batch.finite & below.isfinite()
        weight = torch.where(counted, batch.row_weight(), 0.0)
        depth = torch.where(counted.unsqueeze(1), piece.scores - peak.unsqueeze(1), 0.0)
        losses = [
            (depth / t).exp_().sum(1, dtype=torch.float64).log()
            + torch.where(counted, below, 0.0) / t
            for t in TEMPERATURES
        ]
        state["tempered"].add_(torch.stack((*losses, torch.ones_like(weight))) @ weight)
