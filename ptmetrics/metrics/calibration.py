"""How honest the probabilities are: confidence against accuracy, and the temperature that would mend them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ptmetrics.counts.class_losses import BINS, TEMPERATURES
from ptmetrics.metrics.estimate import Estimate
from ptmetrics.metrics.intervals import Z, mean_interval
from ptmetrics.metrics.multiclass import mean_loss

WIDE, MASS = 15, 15  # bins of equal width, bins of equal mass
NO_LIKELIHOOD = "no row has a likelihood"
CHI_SQUARE = 3.841458820694124  # 0.95 quantile, one degree of freedom


@dataclass(frozen=True)
class Reliability:
    """Rows by confidence: float64 tensors of shape (bins,), Σw over rows that were right and wrong.

    Attributes:
        n: Int64 number of rows, shape ().
        right: Σw of the rows that hit.
        wrong: Σw of the others.
        right_square: Σw² of the rows that hit.
        wrong_square: Σw² of the others.
        sure: Σ w · confidence.
    """

    n: Tensor
    right: Tensor
    wrong: Tensor
    right_square: Tensor
    wrong_square: Tensor
    sure: Tensor

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> "Reliability":
        """From the cells of `Calibration`."""
        count, sure = state["calibration"], state.get("confidence_weight", state["confidence"])
        once = count.double()
        weight, square = (
            state.get("calibration_weight", once),
            state.get("calibration_square", once),
        )
        wrong, right, wrong2, right2 = (
            x for cells in (weight, square) for x in _bins(cells).unbind(1)
        )
        return cls(count[:-1].sum(), right, wrong, right2, wrong2, _bins(sure).sum(1))

    @property
    def weight(self) -> Tensor:
        """Σw of each bin."""
        return self.right + self.wrong

    def confidence(self) -> Tensor:
        """Mean confidence of each bin; 0 where it is empty."""
        return torch.where(self.weight > 0, self.sure / self.weight, 0.0)

    def merged(self, into: Tensor, bins: int) -> "Reliability":
        """Fewer bins: bin i goes into bin `into[i]`."""
        parts = (self.right, self.wrong, self.right_square, self.wrong_square, self.sure)
        return Reliability(self.n, *(x.new_zeros(bins).index_add_(0, into, x) for x in parts))


def ece(r: Reliability) -> Estimate:
    """Expected calibration error: mean |confidence − accuracy| over 15 bins of equal width, weighted by size.

    Falls, [0, 1], NaN for no samples. Chance alone makes it positive: the lower end first takes off what a model
    without fault would show. Normal interval of Σ ±(confidence − hit) with the sign of its bin.

    Source: Naeini et al., AAAI 2015; Roelofs et al., AISTATS 2022 for its bias.
    """
    wide = r.merged(torch.arange(BINS, device=r.sure.device) // (BINS // WIDE), WIDE)
    total, sure = r.weight.sum(), r.confidence()
    value = (wide.sure - wide.right).abs().sum() / total
    squares = r.right_square + r.wrong_square
    spread = (r.right_square * (1 - sure).square() + r.wrong_square * sure.square()).sum()
    error = (
        (spread / total.square() - value.square() * squares.sum() / total.square())
        .clamp(min=0)
        .sqrt()
    )
    chance = (squares * sure * (1 - sure)).reshape(WIDE, -1).sum(1)
    bias = math.sqrt(2 / math.pi) * chance.sqrt().sum() / total
    low, high = (value - bias - Z * error).clamp(min=0), (value + Z * error).clamp(max=1)
    return Estimate(value, low, high, r.n, "normal-debiased", NO_LIKELIHOOD, higher_is_better=False)


def rms_calibration_error(r: Reliability) -> Estimate:
    """Root of the mean squared gap of confidence and accuracy, over 15 bins of equal mass, without its bias.

    Falls, [0, 1], NaN for no samples; 0 where chance explains the whole gap. Normal interval of the square.

    Source: Kumar, Liang, Ma, NeurIPS 2019 (the debiased estimator of the squared error).
    """
    total = r.weight.sum()
    middle = (r.weight.cumsum(0) - r.weight / 2) / total
    mass = r.merged((middle.nan_to_num(0.0) * MASS).long().clamp(0, MASS - 1), MASS)
    weight, n = mass.weight, mass.weight.square() / (mass.right_square + mass.wrong_square)
    hit, gap = mass.right / weight, (mass.sure - mass.right) / weight
    noise = hit * (1 - hit) / (n - 1)
    known = n > 1
    share = torch.where(known, weight / total, 0.0)
    square = torch.where(known, share * (gap.square() - noise), 0.0).sum()
    variance = torch.where(
        known, share.square() * (4 * gap.square() * noise + 2 * noise.square()), 0.0
    ).sum()
    half = Z * variance.sqrt()
    value, low, high = (
        x.clamp(min=0, max=1).sqrt() for x in (square, square - half, square + half)
    )
    none = torch.full_like(value, math.nan)
    value, low, high = (torch.where(total > 0, x, none) for x in (value, low, high))
    return Estimate(value, low, high, r.n, "normal-square", NO_LIKELIHOOD, higher_is_better=False)


def over_confidence(moments: Tensor) -> Estimate:
    """Mean confidence minus accuracy: above 0 the model is surer than it should be; [-1, 1]. Normal interval."""
    value, low, high = mean_interval(moments)
    low, high = low.clamp(-1, 1), high.clamp(-1, 1)
    return Estimate(
        value, low, high, moments[0].long(), "normal", NO_LIKELIHOOD, higher_is_better=False
    )


def temperature(tempered: Tensor, n: Tensor) -> Estimate:
    """The divisor of the logits that makes the negative log-likelihood least; above 1 the model is over-confident.

    A parabola through the best three of 33 temperatures from 1/4 to 4, in log T. Likelihood-ratio interval, for
    independent rows; its ends are NaN where the best is the last of the grid.

    Args:
        tempered: Σ w · loss for each temperature, and Σw behind, float64 of shape (34,).
        n: Number of rows, int64 of shape ().

    Source: Guo et al., ICML 2017 (temperature scaling).
    """
    loss, total = tempered[:-1], tempered[-1]
    far = math.log(TEMPERATURES[-1])
    steps = torch.linspace(-far, far, len(TEMPERATURES), dtype=torch.float64, device=loss.device)
    best = loss.nan_to_num(math.inf).argmin()
    inner = best.clamp(1, len(steps) - 2)
    left, middle, right = (loss.gather(0, (inner + i).reshape(1)).squeeze(0) for i in (-1, 0, 1))
    step, bend = steps[1] - steps[0], (left - 2 * middle + right) / 2
    peak = steps.gather(0, inner.reshape(1)).squeeze(0) + step * (left - right) / (4 * bend)
    half = step * (CHI_SQUARE / 2 / bend).sqrt()
    value, edge = peak.clamp(steps[0], steps[-1]).exp(), best != inner
    ends = (torch.where(edge, math.nan, end.exp()) for end in (peak - half, peak + half))
    value, low, high = (torch.where(total > 0, x, math.nan) for x in (value, *ends))
    return Estimate(value, low, high, n, "likelihood-ratio", NO_LIKELIHOOD, higher_is_better=False)


def calibration_scores(state: Mapping[str, Tensor]) -> dict[str, Estimate]:
    """All of them from the cells of `ClassLosses`, `Calibration` and, where there, `Tempered`."""
    nll, brier, gap = state["losses"].unbind(1)
    bins = Reliability.of(state)
    named = {
        "nll": mean_loss(nll),
        "brier": mean_loss(brier),
        "ece": ece(bins),
        "rms_calibration_error": rms_calibration_error(bins),
        "over_confidence": over_confidence(gap),
    }
    return named | (
        {"temperature": temperature(state["tempered"], bins.n)} if "tempered" in state else {}
    )


def _bins(cells: Tensor) -> Tensor:
    return cells[:-1].reshape(BINS, 2)
