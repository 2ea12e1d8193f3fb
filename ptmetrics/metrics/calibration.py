"""How honest the probabilities are: confidence against accuracy, and the temperature that would mend them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ptmetrics.counts.cell import State
from ptmetrics.counts.keys import CurveKeys, FloatKeys
from ptmetrics.counts.multiclass import CONFIDENCE_BINS, TEMPERATURES
from ptmetrics.metrics.estimate import Array, Estimate
from ptmetrics.metrics.host import Counts
from ptmetrics.metrics.intervals import Z
from ptmetrics.metrics.score_bins import ScoreBins
from ptmetrics.metrics.score_spec import ScoreSpec

WIDE_BINS = 15  # of equal width
MASS_BINS = 15  # of equal mass
WIDE = np.arange(CONFIDENCE_BINS) // (CONFIDENCE_BINS // WIDE_BINS)
TABLE = [("weight", "<f8"), ("confidence", "<f8"), ("accuracy", "<f8")]
NO_LIKELIHOOD = "no row has a likelihood"
CHI_SQUARE = 3.841458820694124  # 0.95 quantile, one degree of freedom


@dataclass(frozen=True)
class Reliability:
    """Rows by confidence: float64 arrays of shape (bins,), Σw over rows that were right and wrong.

    Attributes:
        n: Int64 number of rows.
        right: Σw of the rows that hit.
        wrong: Σw of the others.
        right_square: Σw² of the rows that hit.
        wrong_square: Σw² of the others.
        sure: Σ w · confidence.
        ece_bound: What rounding of the confidences can do to the expected calibration error.
    """

    n: Array
    right: Array
    wrong: Array
    right_square: Array
    wrong_square: Array
    sure: Array
    ece_bound: Array | float = 0.0

    @classmethod
    def of_cells(cls, counts: Counts) -> Reliability:
        """From the cells "calibration", of shape (bins, 2), and "confidence", of shape (bins,)."""
        wrong, right = counts.weight("calibration").T
        wrong_square, right_square = counts.square("calibration").T
        n = counts["calibration"].sum()
        return cls(n, right, wrong, right_square, wrong_square, counts["confidence"])

    @classmethod
    def of_histogram(cls, counts: Counts) -> Reliability:
        """From what `reliability_of_histogram` found on the device."""
        right, wrong, right_square, wrong_square, sure = counts["reliability"]
        bound = counts["ece_bound"]
        return cls(counts.n, right, wrong, right_square, wrong_square, sure, bound)

    @cached_property
    def weight(self) -> Array:
        """Σw of each bin."""
        return self.right + self.wrong

    def mean_confidence(self) -> Array:
        """Mean confidence of each bin; 0 where it is empty."""
        return np.where(self.weight > 0, self.sure / self.weight, 0.0)

    def merged(self, into: Array, bins: int) -> Reliability:
        """Fewer bins: bin i goes into bin `into[i]`."""
        parts = (self.right, self.wrong, self.right_square, self.wrong_square, self.sure)
        merged = []
        for part in parts:
            merged.append(np.bincount(into, part, bins))
        return Reliability(self.n, *merged)

    def table(self) -> Array:
        """Weight, mean confidence and share of right rows, in the bins of the calibration error."""
        wide = self.merged(WIDE, WIDE_BINS)
        weight = wide.right + wide.wrong
        found = np.zeros(WIDE_BINS, TABLE)
        found["weight"] = weight
        with np.errstate(all="ignore"):
            found["confidence"] = wide.sure / weight
            found["accuracy"] = wide.right / weight
        return found


def reliability_table(counts: Counts) -> Array:
    """The table of what a metric counted."""
    if "calibration" in counts:
        return Reliability.of_cells(counts).table()
    return Reliability.of_histogram(counts).table()


def ece(r: Reliability) -> tuple[Array, Array, Array]:
    """Expected calibration error: mean |confidence − accuracy| over 15 bins of equal width, weighted by size.

    Falls, [0, 1], NaN for no samples. Chance alone makes it positive: the lower end first takes off
    what a model without fault would show. Normal interval of Σ ±(confidence − hit) with the sign of
    its bin.

    Source: Naeini et al., AAAI 2015; Roelofs et al., AISTATS 2022 for its bias.
    """
    wide = r.merged(WIDE, WIDE_BINS)
    total = r.weight.sum()
    sure = r.mean_confidence()
    value = np.abs(wide.sure - wide.right).sum() / total
    squares = r.right_square + r.wrong_square
    spread = (r.right_square * (1 - sure) ** 2 + r.wrong_square * sure**2).sum()
    error = np.sqrt(np.clip((spread - value**2 * squares.sum()) / total**2, 0, None))
    chance = (squares * sure * (1 - sure)).reshape(WIDE_BINS, -1).sum(1)
    bias = math.sqrt(2 / math.pi) * np.sqrt(chance).sum() / total
    return value, np.clip(value - bias - Z * error, 0, None), np.clip(value + Z * error, None, 1)


def rms_calibration_error(r: Reliability) -> tuple[Array, Array, Array]:
    """Root of the mean squared gap of confidence and accuracy, over 15 bins of equal mass, without its bias.

    Falls, [0, 1], NaN for no samples; 0 where chance explains the whole gap. Normal interval of the
    square.

    Source: Kumar, Liang, Ma, NeurIPS 2019 (the debiased estimator of the squared error).
    """
    total = r.weight.sum()
    middle = np.nan_to_num((r.weight.cumsum() - r.weight / 2) / total)
    into = np.clip((middle * MASS_BINS).astype(np.int64), 0, MASS_BINS - 1)
    mass = r.merged(into, MASS_BINS)
    weight = mass.weight
    n = weight**2 / (mass.right_square + mass.wrong_square)
    hit = mass.right / weight
    gap = (mass.sure - mass.right) / weight
    noise = hit * (1 - hit) / (n - 1)
    known = n > 1
    share = np.where(known, weight / total, 0.0)
    square = np.where(known, share * (gap**2 - noise), 0.0).sum()
    variance = np.where(known, share**2 * (4 * gap**2 * noise + 2 * noise**2), 0.0).sum()
    half = Z * np.sqrt(variance)
    ends = np.sqrt(np.clip([square, square - half, square + half], 0, 1))
    value, low, high = np.where(total > 0, ends, np.nan)
    return value, low, high


def temperature(sums: Array) -> tuple[Array, Array, Array]:
    """The divisor of the logits that makes the negative log-likelihood least; above 1 the model is over-confident.

    A parabola through the best three of 33 temperatures from 1/4 to 4, in log T. Likelihood-ratio
    interval, for independent rows; its ends are NaN where the best is the last of the grid.

    Args:
        sums: Σ w · loss for each temperature, and Σw behind, float64 of shape (34,).

    Source: Guo et al., ICML 2017 (temperature scaling).
    """
    loss = sums[:-1]
    far = math.log(TEMPERATURES[-1])
    steps = np.linspace(-far, far, len(TEMPERATURES))
    best = np.nan_to_num(loss, nan=math.inf).argmin()
    inner = np.clip(best, 1, len(steps) - 2)
    left, middle, right = loss[inner - 1 : inner + 2]
    step = steps[1] - steps[0]
    bend = (left - 2 * middle + right) / 2
    peak = steps[inner] + step * (left - right) / (4 * bend)
    half = step * np.sqrt(CHI_SQUARE / 2 / bend)
    value = np.exp(np.clip(peak, steps[0], steps[-1]))
    low, high = np.exp(peak - half), np.exp(peak + half)
    if best != inner:
        low, high = math.nan, math.nan
    value, low, high = np.where(sums[-1] > 0, [value, low, high], math.nan)
    return value, low, high


def mean_of_losses(index: int) -> Callable[[Counts], Array]:
    """A formula for the six sums of one of the losses in the cell "losses", of shape (3,)."""
    return lambda counts: np.moveaxis(counts["losses"], -2, 0)[..., index]


def reliability_interval(
    function: Callable[[Reliability], tuple[Array, Array, Array]],
) -> Callable[[ScoreSpec, Reliability, bool], Estimate]:
    """From a function of reliability to what a `ScoreSpec` calls."""

    def estimate(spec: ScoreSpec, bins: Reliability, intervals: bool) -> Estimate:
        return spec.estimate(*function(bins), bins.n)

    return estimate


def ece_interval(spec: ScoreSpec, bins: Reliability, intervals: bool) -> Estimate:
    """The error with its bound."""
    return replace(spec.estimate(*ece(bins), bins.n), error_bound=bins.ece_bound)


def temperature_interval(spec: ScoreSpec, counts: Counts, intervals: bool) -> Estimate:
    """From the cells "tempered" and "losses"."""
    return spec.estimate(*temperature(counts["tempered"]), counts["losses"][0, 0].astype(np.int64))


def reliability_of_histogram(bins: ScoreBins, keys: CurveKeys, *, probs: bool) -> State:
    """Yes-or-no rows by the positive's probability, read off a histogram of the scores.

    The bound is what rounding to a row's value can do; 0 where every score is its row's value.

    Args:
        bins: The histogram in the order of the scores.
        keys: What a row means.
        probs: Whether predictions are probabilities, and not logits.

    Returns:
        "reliability", float64 of shape (5, bins), as `Reliability.of_histogram` reads it, and
        "ece_bound"; both on the device.
    """
    p = _row_scores(bins, keys, probs=probs, as_logits=False)
    cell = ((p * CONFIDENCE_BINS).ceil().long() - 1).clamp(0, CONFIDENCE_BINS - 1)
    wrong, right = bins.weight.unbind(1)
    wrong_square, right_square = bins.square.unbind(1)
    weight = wrong + right
    columns = torch.stack((right, wrong, right_square, wrong_square, weight * p))
    sums = columns.new_zeros(len(columns), CONFIDENCE_BINS).index_add_(1, cell, columns)
    # No score of a row is farther away than the wider gap to a neighbour.
    gap = p.diff()
    edge = gap.new_zeros(1)
    doubt = torch.maximum(torch.cat((edge, gap)), torch.cat((gap, edge)))
    doubt = doubt.masked_fill(bins.exact, 0.0)
    edges = ((p + doubt) * WIDE_BINS).ceil() - ((p - doubt) * WIDE_BINS).ceil()
    astray = torch.where(edges != 0, weight, 0.0).sum()
    bound = ((weight * doubt).sum() + 2 * astray) / weight.sum()
    return {"reliability": sums, "ece_bound": bound}


def nll_of_temperatures(bins: ScoreBins, keys: CurveKeys, *, probs: bool) -> Tensor:
    """Negative log-likelihood of yes-or-no rows over each temperature, and Σw behind.

    Rows that are sure without end are left out.

    Args:
        bins: The histogram in the order of the scores.
        keys: What a row means.
        probs: Whether predictions are probabilities, and not logits.

    Returns:
        Float64 of shape (34,), on the device.
    """
    logit = _row_scores(bins, keys, probs=probs, as_logits=True)
    counted = torch.where(logit.isfinite().unsqueeze(1), bins.weight, 0.0)
    logit = logit.clamp(-1e9, 1e9)
    negative, positive = counted.unbind(1)
    sums = []
    for t in TEMPERATURES:
        of_negatives = negative * functional.softplus(logit / t)
        of_positives = positive * functional.softplus(-logit / t)
        sums.append((of_negatives + of_positives).sum())
    sums.append(counted.sum())
    return torch.stack(sums)


def _row_scores(bins: ScoreBins, keys: CurveKeys, *, probs: bool, as_logits: bool) -> Tensor:
    """The value of each row of a histogram, as a logit or as a probability."""
    score = keys.values(bins.count.device)
    if probs and not isinstance(keys, FloatKeys):
        return score.logit() if as_logits else score
    return score if as_logits else score.sigmoid()


NLL = ScoreSpec(
    "nll",
    mean_of_losses(0),
    "normal",
    higher_is_better=False,
    range=(0.0, math.inf),
    doc="Mean negative log-likelihood of the target.",
    undefined=NO_LIKELIHOOD,
)
PERPLEXITY = ScoreSpec(
    "perplexity",
    mean_of_losses(0),
    "normal",
    higher_is_better=False,
    range=(1.0, math.inf),
    doc="Exponential of the nll: among how many equally likely classes the model is as unsure.",
    undefined=NO_LIKELIHOOD,
    through=np.exp,
    method="normal-exp",
    scale="log-log",
)
BRIER = ScoreSpec(
    "brier",
    mean_of_losses(1),
    "normal",
    higher_is_better=False,
    range=(0.0, 2.0),
    doc="Mean squared error of the probabilities, added up over the classes.",
    undefined=NO_LIKELIHOOD,
)
OVER_CONFIDENCE = ScoreSpec(
    "over_confidence",
    mean_of_losses(2),
    "normal",
    higher_is_better=False,
    range=(-1.0, 1.0),
    doc="Mean confidence minus accuracy: above 0 the model is surer than it should be.",
    undefined=NO_LIKELIHOOD,
)
ECE = ScoreSpec(
    "ece",
    None,
    ece_interval,
    higher_is_better=False,
    doc="Expected calibration error: mean |confidence − accuracy|, 15 bins of equal width.",
    undefined=NO_LIKELIHOOD,
    source="Naeini et al., AAAI 2015; Roelofs et al., AISTATS 2022",
    method="normal-debiased",
)
RMS_CALIBRATION_ERROR = ScoreSpec(
    "rms_calibration_error",
    None,
    reliability_interval(rms_calibration_error),
    higher_is_better=False,
    doc="Root mean squared gap of confidence and accuracy, 15 bins of equal mass, debiased.",
    undefined=NO_LIKELIHOOD,
    source="Kumar, Liang, Ma, NeurIPS 2019",
    method="normal-square",
)
TEMPERATURE = ScoreSpec(
    "temperature",
    None,
    temperature_interval,
    higher_is_better=False,
    range=(0.25, 4.0),
    doc="Divisor of the logits that would make the nll least; above 1 the model is over-confident.",
    undefined=NO_LIKELIHOOD,
    source="Guo et al., ICML 2017",
    method="likelihood-ratio",
)
