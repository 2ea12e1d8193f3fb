"""How honest the probabilities are: confidence against accuracy, and the temperature that would mend them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property, partial
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ptmetrics.counts.cell import State
from ptmetrics.counts.keys import CurveKeys, FloatKeys
from ptmetrics.counts.multiclass import CONFIDENCE_BINS, TEMPERATURES
from ptmetrics.errors import ConfigError
from ptmetrics.metrics.curves import mean_over_heads
from ptmetrics.metrics.estimate import Array, Estimate
from ptmetrics.metrics.host import Counts
from ptmetrics.metrics.intervals import Z, wilson
from ptmetrics.metrics.score_bins import KeptScores, ScoreBins
from ptmetrics.metrics.score_spec import ScoreSpec, ScoreTable

WIDE_BINS = 15  # of equal width
MASS_BINS = 15  # of equal mass
CLASS_CELLS = 60  # of a class's probability: 10, 15 and 20 divide it
CLASSWISE = "classwise"
TABLE = [("weight", "<f8"), ("confidence", "<f8"), ("accuracy", "<f8")]
NO_LIKELIHOOD = "no row has a likelihood"
BoundedEnds = tuple[Array, Array, Array, Array | float]
"""Value, low, high, and the bound of the numerical error."""
CHI_SQUARE = 3.841458820694124  # 0.95 quantile, one degree of freedom


@dataclass(frozen=True)
class Reliability:
    """Rows by confidence: float64 arrays of shape (…, cells), Σw over rows that were right and wrong.

    Attributes:
        n: Int64 number of rows.
        right: Σw of the rows that hit.
        wrong: Σw of the others.
        right_square: Σw² of the rows that hit.
        wrong_square: Σw² of the others.
        sure: Σ w · confidence.
        doubt: Σ w · what the confidence of a row may be off.
        astray: Σw of the rows that may lie on either side of the lower edge of a cell.
        share: What each class weighs in the mean over them, where there are classes.
    """

    n: Array
    right: Array
    wrong: Array
    right_square: Array
    wrong_square: Array
    sure: Array
    doubt: Array | float = 0.0
    astray: Array | float = 0.0
    share: Array | None = None

    @classmethod
    def of_cells(cls, counts: Counts) -> Reliability:
        """From the cells "calibration", of shape (…, bins, 2), and "confidence", of shape (…, bins)."""
        wrong, right = np.moveaxis(counts.weight("calibration"), -1, 0)
        wrong_square, right_square = np.moveaxis(counts.square("calibration"), -1, 0)
        n = counts["calibration"].sum((-2, -1))
        return cls(n, right, wrong, right_square, wrong_square, counts["confidence"])

    @cached_property
    def weight(self) -> Array:
        """Σw of each cell."""
        return self.right + self.wrong

    def wide(self, bins: int) -> Reliability:
        """Fewer bins, of equal width; rows that are astray count at both of their edge."""
        parts = (self.right, self.wrong, self.right_square, self.wrong_square, self.sure)
        cells = np.broadcast_arrays(*parts, self.doubt, self.astray)
        shaped = np.stack(cells).reshape(len(cells), *cells[0].shape[:-1], bins, -1)
        merged = shaped.sum(-1)
        edges = shaped[6, ..., 0]
        edges[..., :-1] += edges[..., 1:].copy()
        right, wrong, right_square, wrong_square, sure, doubt, _ = merged
        return Reliability(
            self.n, right, wrong, right_square, wrong_square, sure, doubt, edges, self.share
        )

    def table(self) -> Array:
        """Weight, mean confidence and share of right rows, in the bins of the calibration error."""
        wide = self.wide(WIDE_BINS)
        found = np.zeros(WIDE_BINS, TABLE)
        found["weight"] = wide.weight
        with np.errstate(all="ignore"):
            found["confidence"] = wide.sure / wide.weight
            found["accuracy"] = wide.right / wide.weight
        return found


def reliability(metrics: Any, counts: Counts) -> Reliability | None:
    """Of the cells, or of what `reliability_of_histogram` found on the device; None where neither is kept."""
    if "calibration" in counts:
        return Reliability.of_cells(counts)
    if "reliability" in counts:
        return Reliability(counts.n, *counts["reliability"])
    return None


def reliability_of_classes(metrics: Any, counts: Counts) -> Reliability | None:
    """That of each class's probability, where it was asked for."""
    if CLASSWISE not in counts:
        return None
    *cells, averaged = counts[CLASSWISE]
    each = Reliability(np.full(len(averaged), counts.n), *cells)
    return replace(each, share=averaged[:, 0])


def reliability_table(counts: Counts) -> Array:
    """The table of what a metric counted."""
    found = reliability(None, counts)
    assert found is not None
    return found.table()


def ece(r: Reliability, bins: int = WIDE_BINS) -> BoundedEnds:
    """Expected calibration error: mean |confidence − accuracy| over bins of equal width, weighted by size.

    Falls, [0, 1], NaN for no samples. Chance alone makes it positive: the lower end first takes off
    what a model without fault would show. Normal interval of Σ ±(confidence − hit) with the sign of
    its bin. Rounding moves each row by its doubt, and rows that are astray to another bin.

    Source: Naeini et al., AAAI 2015; Roelofs et al., AISTATS 2022 for its bias.
    """
    wide = r.wide(bins)
    total = r.weight.sum(-1)
    sure = np.where(r.weight > 0, r.sure / r.weight, 0.0)
    value = np.abs(wide.sure - wide.right).sum(-1) / total
    squares = r.right_square + r.wrong_square
    spread = (r.right_square * (1 - sure) ** 2 + r.wrong_square * sure**2).sum(-1)
    error = np.sqrt(np.clip((spread - value**2 * squares.sum(-1)) / total**2, 0, None))
    chance = (squares * sure * (1 - sure)).reshape((*wide.right.shape, -1)).sum(-1)
    bias = math.sqrt(2 / math.pi) * np.sqrt(chance).sum(-1) / total
    bound = np.sum(wide.doubt + wide.astray, -1) / total
    return value, value - bias - Z * error, value + Z * error, bound


def rms_ce(r: Reliability, bins: int = WIDE_BINS) -> BoundedEnds:
    """Root of the mean squared gap of confidence and accuracy, over bins of equal width.

    Falls, [0, 1], NaN for no samples. Its interval is that of the square without its bias, joined
    with the value itself.
    """
    wide = r.wide(bins)
    total = r.weight.sum()
    square, half = squared_gap(wide)
    gaps = (wide.sure - wide.right) ** 2 / wide.weight
    value = np.sqrt(np.where(wide.weight > 0, gaps, 0.0).sum() / total)
    low, high = np.sqrt(np.clip([square - half, square + half], 0, 1))
    moved = (2 * np.sum(wide.doubt) + 3 * np.sum(wide.astray)) / total
    bound = np.fmin(np.sqrt(moved), moved / value)
    return value, np.fmin(low, value), np.fmax(high, value), bound


def mce(r: Reliability, bins: int = WIDE_BINS) -> BoundedEnds:
    """Largest gap of confidence and accuracy, over the bins of equal width that hold rows.

    Falls, [0, 1], NaN for no samples. All bins at once lie within Wilson's intervals of their
    accuracies at a level of 1 − 0.05 / bins: a bin of few rows makes the interval wide.
    """
    wide = r.wide(bins)
    weight = wide.weight
    hit, sure = wide.right / weight, wide.sure / weight
    reach = NormalDist().inv_cdf(1 - 0.025 / bins)
    low, high = wilson(hit, weight**2 / (wide.right_square + wide.wrong_square), reach)
    least = np.clip(np.fmax(low - sure, sure - high), 0, None)
    most = np.fmax(sure - low, high - sure)
    off = (wide.doubt + 2 * wide.astray) / np.clip(weight - wide.astray, 0, None)
    ends = [np.fmax.reduce(gaps) for gaps in (np.abs(hit - sure), least, most)]
    return ends[0], ends[1], ends[2], np.fmin(np.fmax.reduce(off), 1)


def squared_gap(bins: Reliability) -> tuple[Array, Array]:
    """Mean squared gap of confidence and accuracy, without its bias, and half of its interval.

    Source: Kumar, Liang, Ma, NeurIPS 2019 (the debiased estimator of the squared error).
    """
    weight = bins.weight
    n = weight**2 / (bins.right_square + bins.wrong_square)
    hit = bins.right / weight
    gap = (bins.sure - bins.right) / weight
    noise = hit * (1 - hit) / (n - 1)
    known = n > 1
    share = np.where(known, weight / weight.sum(-1, keepdims=True), 0.0)
    square = np.where(known, share * (gap**2 - noise), 0.0).sum(-1)
    variance = np.where(known, share**2 * (4 * gap**2 * noise + 2 * noise**2), 0.0).sum(-1)
    return square, Z * np.sqrt(variance)


def rms_calibration_error(r: Reliability) -> BoundedEnds:
    """Root of the mean squared gap of confidence and accuracy, over 15 bins of equal mass, without its bias.

    Falls, [0, 1], NaN for no samples; 0 where chance explains the whole gap. Normal interval of the
    square.
    """
    total = r.weight.sum(-1)
    middle = np.nan_to_num((r.weight.cumsum(-1) - r.weight / 2) / total[..., None])
    into = np.clip((middle * MASS_BINS).astype(np.int64), 0, MASS_BINS - 1)
    bins = (*total.shape, MASS_BINS)
    into += np.arange(0, math.prod(bins), MASS_BINS).reshape(*total.shape, 1)
    mass = []
    for part in (r.right, r.wrong, r.right_square, r.wrong_square, r.sure):
        mass.append(np.bincount(into.ravel(), part.ravel(), math.prod(bins)).reshape(bins))
    square, half = squared_gap(Reliability(r.n, *mass))
    ends = np.sqrt(np.clip([square, square - half, square + half], 0, 1))
    value, low, high = np.where(total > 0, ends, np.nan)
    return value, low, high, 0.0


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


def reliability_interval(spec: ScoreSpec, bins: Reliability, intervals: bool) -> Estimate:
    """Of a formula of reliability; the interval is widened by the bound."""
    value, low, high, bound = spec.formula(bins)
    low, high = np.clip((low - bound, high + bound), 0, 1)
    return replace(spec.estimate(value, low, high, bins.n), error_bound=bound)


def classwise_interval(spec: ScoreSpec, bins: Reliability, intervals: bool) -> Estimate:
    """The mean over the classes."""
    each = reliability_interval(spec, bins, intervals)
    return replace(mean_over_heads(each, bins.share, spec.undefined), method=spec.method)


def temperature_interval(spec: ScoreSpec, counts: Counts, intervals: bool) -> Estimate:
    """From the cells "tempered" and "losses"."""
    return spec.estimate(*temperature(counts["tempered"]), counts["losses"][0, 0].astype(np.int64))


def reliability_of_histogram(
    bins: ScoreBins,
    keys: CurveKeys,
    *,
    probs: bool,
    cells: int = CONFIDENCE_BINS,
    shift: float = 0.0,
) -> Tensor:
    """Yes-or-no rows by the positive's probability, read off a histogram of the scores, or of several.

    The doubt is what rounding to a row's value can do; 0 where every score is its row's value.

    Args:
        bins: The histogram in the order of the scores.
        keys: What a row means.
        probs: Whether predictions are probabilities, and not logits.
        cells: Number of cells of equal width.
        shift: What was added to the logits of classes.

    Returns:
        Float64 of shape (7, …, cells), in the order of `Reliability`, on the device.
    """
    p = _row_scores(bins, keys, probs=probs, as_logits=False, shift=shift)
    cell = ((p * cells).ceil().long() - 1).clamp(0, cells - 1)
    wrong, right = bins.weight.unbind(-1)
    wrong_square, right_square = bins.square.unbind(-1)
    weight = wrong + right
    # No score of a row is farther away than the wider gap to a neighbour.
    gap = p.diff()
    edge = gap.new_zeros(1)
    doubt = torch.maximum(torch.cat((edge, gap)), torch.cat((gap, edge)))
    inexact = weight.masked_fill(bins.exact, 0.0)
    sums = (right, wrong, right_square, wrong_square, weight * p, inexact * doubt)
    columns = torch.stack(sums)
    found = columns.new_zeros(7, *weight.shape[:-1], cells)
    found[:6].index_add_(-1, cell, columns)
    above = ((p + doubt) * cells).ceil().long() - 1
    crossed = above.ge(((p - doubt) * cells).ceil())
    found[6].index_add_(-1, above.clamp(0, cells - 1), torch.where(crossed, inexact, 0.0))
    return found


def reliability_of_heads(state: State, kept: KeptScores, shift: float) -> Tensor:
    """The same of each class, and behind whether it counts in the mean; of shape (8, classes, cells)."""
    found = []
    for some in kept.parts(state[kept.histogram.name].device):
        bins = ScoreBins.of_histogram(state, kept.histogram, some)
        keys = kept.histogram.keys
        found.append(
            reliability_of_histogram(bins, keys, probs=False, cells=CLASS_CELLS, shift=shift)
        )
    cells = torch.cat(found, 1)
    averaged = kept.averaged(cells.device).view(1, -1, 1)
    return torch.cat((cells, averaged.expand(cells[:1].shape)))


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


def _row_scores(
    bins: ScoreBins, keys: CurveKeys, *, probs: bool, as_logits: bool, shift: float = 0.0
) -> Tensor:
    """The value of each row of a histogram, as a logit or as a probability."""
    score = keys.values(bins.count.device) - shift
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
    ece,
    reliability_interval,
    higher_is_better=False,
    doc="Expected calibration error: mean |confidence − accuracy|, 15 bins of equal width.",
    undefined=NO_LIKELIHOOD,
    source="Naeini et al., AAAI 2015; Roelofs et al., AISTATS 2022",
    method="normal-debiased",
)
RMS_CALIBRATION_ERROR = replace(
    ECE,
    name="rms_calibration_error",
    formula=rms_calibration_error,
    doc="Root mean squared gap of confidence and accuracy, 15 bins of equal mass, debiased.",
    source="Kumar, Liang, Ma, NeurIPS 2019",
    method="normal-square",
)


def calibration_specs(name: str, formula: Any, doc: str, method: str) -> list[ScoreSpec]:
    """A score of 15 bins, and the same of 10 and of 20."""
    found = []
    for bins in (WIDE_BINS, 10, 20):
        suffix = "" if bins == WIDE_BINS else f"/{bins}"
        found.append(
            replace(
                ECE,
                name=f"{name}{suffix}",
                formula=partial(formula, bins=bins),
                doc=f"{doc}, {bins} bins of equal width.",
                method=method,
            )
        )
    return found


ASKED_CALIBRATION = (
    *calibration_specs("ece", ece, "Mean |confidence − accuracy|", "normal-debiased")[1:],
    *calibration_specs("rms_ce", rms_ce, "Root of the mean of its square", "normal-square"),
    *calibration_specs("mce", mce, "Largest |confidence − accuracy|", "wilson-all"),
)
CALIBRATION_ASKED = ScoreTable(reliability, ASKED_CALIBRATION)
CLASSWISE_ASKED = ScoreTable(
    reliability_of_classes,
    (
        replace(
            ECE,
            name="ece/classwise",
            interval=classwise_interval,
            doc="Mean over the classes of the calibration error of the class's own probability.",
            source="Kull et al., NeurIPS 2019",
            method="mean-of-ends",
        ),
        replace(
            ECE,
            name="ece/classwise",
            doc="Calibration error of the class's own probability.",
            each=True,
        ),
    ),
)


def check_kept(asked: Collection[str], table: ScoreTable, kept: object, where: str) -> bool:
    """Whether a score of the table is asked for.

    Raises:
        ConfigError: If what it needs is not kept.
    """
    wanted = [spec.name for spec in table.specs if spec.name in asked and not spec.each]
    if wanted and not kept:
        rule = f"no {wanted[0]} where no confidences are kept"
        raise ConfigError("scores", rule, repr(wanted[0]), f"Leave it out, or pass {where}.")
    return bool(wanted)


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
