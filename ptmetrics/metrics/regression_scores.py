"""Scores of regression: from joint moments and a histogram of |error|, one value an output.

Errors are prediction − target. Formulas take arrays whose last dimension is the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import torch

from ptmetrics.counts.moments import joint_centre, joint_sums, moved_sums
from ptmetrics.counts.regression import (
    MAGNITUDE_BINS,
    magnitude_edges,
)
from ptmetrics.metrics.class_scores import NO_SAMPLES
from ptmetrics.metrics.estimate import Array, Estimate
from ptmetrics.metrics.host import Counts
from ptmetrics.metrics.intervals import LEAST_FREEDOM, Z, far_ends, student
from ptmetrics.metrics.rank_correlation import (
    KENDALL,
    KENDALL_C,
    SPEARMAN,
)
from ptmetrics.metrics.score_spec import ScoreSpec, ScoreTable

FLAT_TARGET = "the targets hold fewer than two values"
FLAT = "targets or predictions hold fewer than two values"
SOME_OUTPUT = "undefined for at least one output"
ERROR = 0  # the two clouds of the joint moments, each beside the target
PREDICTION = 1
FACTORIALS = np.array([1.0, 1.0, 2.0, 6.0, 24.0])
CUMULATIVE = "cumulative"
RANKS = "ranks"
LEFT_OUT = ("magnitude", "grid", "ends", "pairs")  # too large for the host
CELLS = {
    "mape": ("mape",),
    "smape": ("smape",),
    "wmape": ("size", "error_and_size"),
    "msle": ("msle",),
    "rmsle": ("msle",),
    "nrmse/range": ("target_ends",),
    "spearman": ("grid",),
    "kendall": ("grid",),
    "kendall/c": ("grid",),
}
"""The cells of scores that are asked for."""
MOST_PAIRS = 1 << 28
MOST_OUTPUTS = 16384  # 8 GiB
QUANTILES = (0.5, 0.9, 0.95)
Ends = tuple[Array, Array, Array]
"""Value, low and high."""


@dataclass(frozen=True)
class ErrorMoments:
    """Moments of error, prediction and target.

    Attributes:
        n: Int64 number of rows, shape (…, 1).
        weight: Σw, shape (…, D).
        effective: (Σw)² / Σw², Kish's effective number of rows, shape (…, D).
        mean: Means of error, prediction and target, shape (…, D, 3).
        central: Σ w xⁱ yʲ and the same with w² about these means, shape (…, D, 2, 2, 5, 5): w or
            w², cloud, i, j.
        about_zero: The same sums, with the errors left as they are.
        cells: All that was counted.
        share: What each output weighs in a mean over them, shape (D,).
        features: Number of features of the model, for the adjusted R².
    """

    n: Array
    weight: Array
    effective: Array
    mean: Array
    central: Array
    about_zero: Array
    cells: Counts
    share: Array
    features: int

    @classmethod
    def of_cells(cls, counts: Counts, share: Array, features: int) -> ErrorMoments:
        """From the cell "moments" and what else was counted."""
        joint = torch.from_numpy(counts["moments"])
        centre = joint_centre(joint)
        sums = joint_sums(joint)
        total = sums[..., 0, 0, 0, 0]
        first = (sums[..., 0, ERROR, 1, 0], sums[..., 0, PREDICTION, 1, 0], sums[..., 0, 0, 0, 1])
        # Of the mean from the centre: a rounding error or two.
        offset = torch.stack(first, -1) / total.unsqueeze(-1)
        keep_error = torch.cat((centre[..., :1], -offset[..., 1:]), -1)
        undivide = np.outer(FACTORIALS, FACTORIALS)
        weight = total.numpy()
        return cls(
            n=np.asarray(counts.n)[..., None],
            weight=weight,
            effective=weight**2 / sums[..., 1, 0, 0, 0].numpy(),
            mean=(centre + offset).numpy(),
            central=moved_sums(sums, -offset).numpy() * undivide,
            about_zero=moved_sums(sums, keep_error).numpy() * undivide,
            cells=counts,
            share=share,
            features=features,
        )

    def sums(self, name: str) -> Array:
        """n, Σw, Σw², Σw·x, Σw²·x, Σw²·x² of a number x a row, shape (6, …, D)."""
        return np.moveaxis(self.cells[name], -2, 0)

    def variance(self, cloud: int, x: int, y: int) -> Array:
        """Weighted mean of xⁱ yʲ about the means, such as (ERROR, 0, 2) for the targets' variance."""
        return self.central[..., 0, cloud, x, y] / self.weight

    def flat(self, variance: Array, column: int) -> Array:
        """Whether predictions (1) or targets (2) vary by no more than the rounding of float64."""
        rounding = 8 * np.finfo(np.float64).eps * np.abs(self.mean[..., column])
        varies: Array = variance > rounding**2
        return ~varies

    def standard_error(self, spread: Array) -> Array:
        """Of a mean whose Σw²(x − mean)² is `spread`; NaN for one row."""
        return _standard_error(spread, self.weight, self.effective)

    def moved(self, sums: Array, cloud: int, by: Mapping[tuple[int, int], Any]) -> Array:
        """Standard error of a score that a row moves by a polynomial of its two numbers.

        Args:
            sums: `central` or `about_zero`.
            cloud: ERROR or PREDICTION, which stands beside the target.
            by: Factors of xⁱ yʲ by (i, j).
        """
        spread: Any = 0.0
        for (i, j), factor in by.items():
            for (k, m), other in by.items():
                spread = spread + factor * other * sums[..., 1, cloud, i + k, j + m]
        return self.standard_error(spread)


@dataclass(frozen=True)
class ErrorMagnitudes:
    """The histogram of |error| of all rows.

    Attributes:
        n: Int64 number of rows, shape (1,).
        effective: Kish's effective number of rows, shape (D,).
        cumulative: Σw of the rows up to each bin, shape (D, bins).
        largest: Largest |error|, shape (D,).
        share: What each output weighs in a mean over them, shape (D,).
    """

    n: Array
    effective: Array
    cumulative: Array
    largest: Array
    share: Array

    @classmethod
    def of_cells(cls, counts: Counts, share: Array) -> ErrorMagnitudes:
        """From the cells "absolute" and "largest", and the running sum of "magnitude"."""
        effective = counts["absolute"][1] ** 2 / counts["absolute"][2]
        n = np.asarray(counts.n)[..., None]
        return cls(n, effective, counts[CUMULATIVE], counts["largest"], share)

    def first_bin(self, weight: Array, *, above: bool = False) -> Array:
        """First bin whose cumulative weight reaches `weight`, of shape (D,), or passes it."""
        side: Literal["left", "right"] = "left"
        if above:
            side = "right"
        pairs = zip(self.cumulative, weight, strict=True)
        return np.array([c.searchsorted(w, side) for c, w in pairs])


def mse(r: ErrorMoments) -> Ends:
    """Mean squared error, with Student's interval of its logarithm."""
    value = r.about_zero[..., 0, ERROR, 2, 0] / r.weight
    error = r.moved(r.about_zero, ERROR, {(2, 0): 1.0, (0, 0): -value})
    return value, *far_ends(value, error, r.effective)


def rmse(r: ErrorMoments) -> Ends:
    """Root of the mean squared error and its ends."""
    value, low, high = mse(r)
    return np.sqrt(value), np.sqrt(low), np.sqrt(high)


def mean_error(r: ErrorMoments, cell: str) -> tuple[Array, ...]:
    """Mean of a kept number of 0 or more, with Student's interval of its logarithm, its bound and n."""
    n, weight, square, first, square_first, square_second = r.sums(cell)
    value = first / weight
    spread = square_second - 2 * value * square_first + value**2 * square
    effective = weight**2 / square
    low, high = far_ends(value, _standard_error(spread, weight, effective), effective)
    return value, low, high, np.zeros_like(value), n.astype(np.int64)


def rmsle(r: ErrorMoments) -> tuple[Array, ...]:
    """Root of the mean squared error of ln(1 + x)."""
    value, low, high, *more = mean_error(r, "msle")
    return np.sqrt(value), np.sqrt(low), np.sqrt(high), *more


def wmape(r: ErrorMoments) -> Ends:
    """Σ|error| / Σ|target|, by the delta method on the logarithm."""
    error = r.sums("absolute")
    target = r.sums("size")
    both = r.sums("error_and_size")
    value = error[3] / target[3]
    value = np.where(target[3] > 0, value, np.nan)
    cross = (both[5] - error[5] - target[5]) / 2
    spread = error[5] - 2 * value * cross + value**2 * target[5]
    error = r.standard_error(spread) * r.weight / target[3]
    return value, *far_ends(value, error, r.effective)


def nrmse(r: ErrorMoments) -> Ends:
    """RMSE / |mean of the targets|, by the delta method on the logarithm."""
    square = r.about_zero[..., 0, ERROR, 2, 0] / r.weight
    mean = r.mean[..., 2]
    value = np.where(mean == 0, np.nan, np.sqrt(square) / np.abs(mean))
    moved = {(2, 0): 0.5 / square, (0, 1): -1 / mean, (0, 0): -0.5}  # of the logarithm
    error = r.moved(r.about_zero, ERROR, moved)
    return value, *far_ends(value, np.where(square > 0, error * value, 0.0), r.effective)


def nrmse_std(r: ErrorMoments) -> Ends:
    """RMSE / standard deviation of the targets: √(1 − R²)."""
    value, low, high = r2(r)
    return np.sqrt(1 - value), np.sqrt(1 - high), np.sqrt(1 - low)


def rmse_over(r: ErrorMoments, size: Callable[[ErrorMoments], Array]) -> Ends:
    """RMSE over a number of the targets, which is taken for known."""
    by = size(r)
    value, low, high = rmse(r) / np.where(by > 0, by, np.nan)
    return value, low, high


def length(r: ErrorMoments) -> Array:
    """√Σ target²."""
    return np.sqrt(r.weight * (r.variance(ERROR, 0, 2) + r.mean[..., 2] ** 2))


def target_range(r: ErrorMoments) -> Array:
    """Largest target − least."""
    found: Array = r.cells["target_ends"].sum(-1)
    return found


def rank_correlation(r: ErrorMoments, which: int) -> tuple[Array, ...]:
    """Spearman's or one of Kendall's, on Fisher's z, and the bound of its error, by which the interval is widened.

    The variance is that of the delta method, and never below that of jointly normal values.
    """
    value, bound, moved = np.moveaxis(r.cells[RANKS][..., which, :], -1, 0)
    value = np.clip(value, -1, 1)
    n = r.effective
    inner = np.clip(value, 1 / n - 1, 1 - 1 / n)
    normal = 1 + inner**2 / 2
    left = n - 3
    if which != SPEARMAN:
        normal = np.full_like(inner, 0.437)
        left = n - 4
    variance = np.maximum(moved / (1 - inner**2) ** 2, normal) / np.where(left > 0, left, np.nan)
    half = student(np.clip(n - 2, 1, None)) * np.sqrt(variance)
    low = np.minimum(np.tanh(np.arctanh(inner) - half), value) - bound
    high = np.maximum(np.tanh(np.arctanh(inner) + half), value) + bound
    return value, np.maximum(low, -1), np.minimum(high, 1), bound


def bias(r: ErrorMoments) -> Ends:
    """Mean error, with Student's interval."""
    value = r.mean[..., 0]
    half = student(np.clip(r.effective - 1, 1, None)) * r.moved(r.central, ERROR, {(1, 0): 1.0})
    return value, value - half, value + half


def r2(r: ErrorMoments) -> Ends:
    """1 − MSE / variance of the targets."""
    return _explained(r, r.about_zero)


def explained_variance(r: ErrorMoments) -> Ends:
    """1 − variance of the errors / variance of the targets."""
    return _explained(r, r.central)


def adjusted_r2(r: ErrorMoments) -> Ends:
    """1 − (1 − R²)(n − 1) / (n − features − 1)."""
    left = r.effective - r.features - 1
    factor = (r.effective - 1) / np.where(left > 0, left, np.nan)
    value, low, high = (1 - (1 - x) * factor for x in r2(r))
    return value, low, high


def pearson(r: ErrorMoments) -> Ends:
    """Correlation of predictions and targets, with an interval on Fisher's z.

    Its variance is taken from fourth moments, since that of jointly normal values covers as little
    as 50 % for skewed ones, and is never below it.
    """
    p2 = r.variance(PREDICTION, 2, 0)
    t2 = r.variance(PREDICTION, 0, 2)
    value = np.clip(r.variance(PREDICTION, 1, 1) / np.sqrt(p2 * t2), -1, 1)
    value = np.where(r.flat(p2, 1) | r.flat(t2, 2), np.nan, value)
    # With u and v standardised, r moves with row i by uᵢvᵢ − r(uᵢ² + vᵢ²)/2.
    moved = {(1, 1): 1 / np.sqrt(p2 * t2), (2, 0): -value / 2 / p2, (0, 2): -value / 2 / t2}
    return _on_fishers_z(r, value, moved, 1.0)


def concordance(r: ErrorMoments) -> Ends:
    """Lin's concordance: 2 · covariance / (both variances + bias²), with an interval on Fisher's z."""
    p2 = r.variance(PREDICTION, 2, 0)
    t2 = r.variance(PREDICTION, 0, 2)
    away = r.mean[..., 1] - r.mean[..., 2]
    whole = p2 + t2 + away**2
    both = 2 * r.variance(PREDICTION, 1, 1)
    value = np.clip(both / np.where(r.flat(t2, 2), np.nan, whole), -1, 1)
    of_square = -value / whole
    moved = {
        (1, 1): 2 / whole,
        (2, 0): of_square,
        (0, 2): of_square,
        (1, 0): 2 * away * of_square,
        (0, 1): -2 * away * of_square,
        (0, 0): of_square * away**2,
    }
    least = (value / np.where(value == 0, 1.0, pearson(r)[0])) ** 2
    return _on_fishers_z(r, value, moved, least)


def _on_fishers_z(r: ErrorMoments, value: Array, moved: Mapping[Any, Any], least: Any) -> Ends:
    """Ends of a correlation that rows move so, with a variance of z of `least` / (n − 3) at least."""
    n = r.effective
    left = np.where(n > 3, n - 3, np.nan)
    off = 1 - value**2
    apart = np.where(np.abs(value) < 1 - 1e-7, off, np.inf)  # nearer to 1 it is all rounding
    measured = (r.moved(r.central, PREDICTION, moved) / apart) ** 2 * (n - 1) / left
    carried = np.minimum(carrying(r.central, PREDICTION, 1, 0), carrying(r.central, ERROR, 0, 1))
    reach = student(np.clip(carried - 1, LEAST_FREEDOM, None))
    half = reach * np.sqrt(np.maximum(measured, least / left))
    centre = np.arctanh(value)
    return value, np.tanh(centre - half), np.tanh(centre + half)


def max_error(m: ErrorMagnitudes) -> Ends:
    """Largest |error| seen. No sample bounds the next one, so the upper end is infinite."""
    value = np.where(m.n > 0, m.largest, np.nan)
    return value, value, value + np.inf


def quantile(m: ErrorMagnitudes, q: float) -> tuple[Array, Array, Array, Array]:
    """The q-quantile of |error|, its ends, and the bound of its error, which comes from the width of the bins.

    Where q · n is whole it lies half way between two neighbours, so that 0.5 is the median. The
    interval is that of order statistics, with no assumption on the errors; its upper end is
    infinite where n is too small for q.

    Source: Hyndman and Fan 1996, type 2; Woodruff, JASA 1952, for weights.
    """
    edges = _edges()
    total = m.cumulative[:, -1]
    last = MAGNITUDE_BINS - 1
    low = np.zeros_like(total)
    high = np.zeros_like(total)
    for above in (False, True):  # the two neighbours
        place = np.minimum(m.first_bin(q * total, above=above), last)
        low = low + edges[place] / 2
        top = np.minimum(edges[place + 1], m.largest)
        high = high + np.where(place > 0, top, 0.0) / 2  # below 2⁻¹²⁷ is nothing
    # The number of rows below the quantile is binomial; its 2.5 % points are corrected for
    # skewness.
    n = m.effective
    skew = (Z * Z - 1) * (1 - 2 * q) / 6
    reach = Z * np.sqrt(n * q * (1 - q))
    below = np.floor(n * q + skew - reach)
    above_all = np.ceil(n * q + skew + reach) + 1
    bottom = np.where(below < 1, 0.0, edges[m.first_bin(below * total / n)])
    top = edges[np.minimum(m.first_bin(above_all * total / n), last) + 1]
    top = np.where(above_all > n, np.inf, np.minimum(top, m.largest))
    value = (low + high) / 2
    found = np.stack((value, np.minimum(bottom, value), np.maximum(top, value)))
    value, bottom, top = np.where(total > 0, found, np.nan)
    return value, bottom, top, np.where(total > 0, (high - low) / 2, 0.0)


@cache
def _edges() -> Array:
    return magnitude_edges().numpy()


def _standard_error(spread: Array, weight: Array, n: Array) -> Array:
    error = np.sqrt(np.clip(spread, 0, None) * n / (n - 1)) / weight
    return np.where(n > 1, error, np.nan)


def carrying(sums: Array, cloud: int, x: int, y: int) -> Array:
    """How many rows carry a sum of squares, such as (ERROR, 1, 0) for the errors: (Σ w x²)² / Σ w² x⁴.

    It is a third of the rows for normal values, and few where a few are far out: then nothing that
    is made of squares is known better than these few rows tell.
    """
    return sums[..., 0, cloud, 2 * x, 2 * y] ** 2 / sums[..., 1, cloud, 4 * x, 4 * y]


def _explained(r: ErrorMoments, sums: Array) -> Ends:
    target = r.variance(ERROR, 0, 2)
    ratio = sums[..., 0, ERROR, 2, 0] / r.weight / target
    ratio = np.where(r.flat(target, 2), np.nan, ratio)
    # With A and B the means of e² and (t − mean)², A/B moves with row i by (eᵢ² − A/B (tᵢ −
    # mean)²)/B.
    n = r.effective
    error = r.moved(sums, ERROR, {(2, 0): 1.0, (0, 2): -ratio}) / target / ratio
    carried = np.minimum(carrying(sums, ERROR, 1, 0), carrying(sums, ERROR, 0, 1))
    half = np.where(n > 2, student(np.clip(carried - 2, LEAST_FREEDOM, None)) * error, np.nan)
    far = np.where(ratio == 0, 0.0, ratio * np.exp(half))
    near = np.where(ratio == 0, 0.0, ratio * np.exp(-half))
    return 1 - ratio, 1 - far, 1 - near


def each_output(spec: ScoreSpec, view: Any, intervals: bool) -> Estimate:
    """A score of each output; its formula may tell the bound of its error and n, too."""
    value, low, high, *more = spec.formula(view)
    bound = 0.0
    n = view.n
    if more:
        bound = more[0]
    if len(more) > 1:
        n = more[1]
    found = spec.estimate(value, low, high, np.broadcast_to(n, value.shape))
    return replace(found, error_bound=bound)


def mean_over_outputs(spec: ScoreSpec, view: Any, intervals: bool) -> Estimate:
    """Mean over the outputs, as in scikit-learn; NaN where one of them is.

    Outputs of the same rows err together, in a way that is not counted: the mean of the ends is an
    interval for any correlation, and too wide for independent outputs.
    """
    each = each_output(spec, view, intervals)
    if each.value.shape[-1] == 1:
        return each.part(0)
    return _mean_of_ends(each, view.share)


def variance_weighted(spec: ScoreSpec, view: ErrorMoments, intervals: bool) -> Estimate:
    """Mean over the outputs that have one, by the variance of their targets, as in scikit-learn."""
    each = each_output(spec, view, intervals)
    defined = ~np.isnan(each.value)
    share = np.where(defined, view.variance(ERROR, 0, 2), 0.0)
    return _mean_of_ends(each.filled(0.0), share / share.sum(-1, keepdims=True))


def _mean_of_ends(each: Estimate, share: Array) -> Estimate:
    value, low, high = ((x * share).sum(-1) for x in (each.value, each.low, each.high))
    bound = (each.error_bound * share).sum(-1)
    reason = f"{each.reason}, or {SOME_OUTPUT}"
    direction = each.higher_is_better
    return Estimate(value, low, high, each.n[..., 0], "mean-of-ends", reason, direction, bound)


def largest_over_outputs(spec: ScoreSpec, view: Any, intervals: bool) -> Estimate:
    """The largest value over the outputs."""
    each = each_output(spec, view, intervals)
    return each.part(each.value.argmax())


def error_spec(name: str, formula: Callable[[Any], Any], doc: str, **more: Any) -> ScoreSpec:
    """An error in the target's unit, 0 or more, of which less is better."""
    more = {"range": (0.0, math.inf), "undefined": NO_SAMPLES, **more}
    return ScoreSpec(name, formula, mean_over_outputs, higher_is_better=False, doc=doc, **more)


def explained_spec(name: str, formula: Callable[[Any], Any], doc: str) -> ScoreSpec:
    """A share of the targets' variance, up to 1."""
    return ScoreSpec(
        name,
        formula,
        mean_over_outputs,
        range=(-math.inf, 1.0),
        doc=doc,
        undefined=FLAT_TARGET,
        method="delta-log",
    )


def quantile_specs(quantiles: Sequence[float]) -> tuple[ScoreSpec, ...]:
    """The median of |error|, and quantiles of it."""
    names = {"median_absolute_error": 0.5}
    names.update({f"absolute_error/p{100 * q:g}": q for q in quantiles})
    return tuple(
        error_spec(
            name,
            partial(quantile, q=q),
            f"The {q:g} quantile of |error|, good to its `error_bound`, at most 0.2 % of it.",
            method="order-statistics",
            source="Hyndman and Fan 1996, type 2; Woodruff, JASA 1952",
        )
        for name, q in names.items()
    )


def by_output(specs: Sequence[ScoreSpec]) -> tuple[ScoreSpec, ...]:
    """The same of each output."""
    return tuple(replace(spec, interval=each_output, each=True) for spec in specs)


def kept_mean(cell: str) -> Callable[[ErrorMoments], tuple[Array, ...]]:
    """The formula of the mean of what a cell keeps."""
    return partial(mean_error, cell=cell)


def rank_spec(name: str, which: int, doc: str, source: str) -> ScoreSpec:
    """A correlation of ranks."""
    return replace(
        PEARSON,
        name=name,
        formula=partial(rank_correlation, which=which),
        doc=doc,
        source=source,
    )


PEARSON = ScoreSpec(
    "pearson",
    pearson,
    mean_over_outputs,
    range=(-1.0, 1.0),
    doc="Pearson correlation of predictions and targets.",
    undefined=FLAT,
    method="fisher-z",
    scale="atanh",
)
MOMENT_SPECS: tuple[ScoreSpec, ...] = (
    error_spec("mse", mse, "Mean squared error.", method="student-log"),
    error_spec("rmse", rmse, "Root of the mean squared error.", method="student-log"),
    error_spec("mae", kept_mean("absolute"), "Mean absolute error.", method="student-log"),
    explained_spec("r2", r2, "Coefficient of determination: 1 − MSE / variance of the targets."),
    explained_spec(
        "explained_variance",
        explained_variance,
        "1 − variance of the errors / variance of the targets: R² without the bias.",
    ),
    PEARSON,
    error_spec(
        "bias",
        bias,
        "Mean error: positive where predictions are too high; best at 0.",
        range=(-math.inf, math.inf),
        method="student",
    ),
)
MAX_ERROR = replace(
    error_spec(
        "max_error",
        max_error,
        "Largest |error| seen, over all outputs.",
        method="sample-maximum",
    ),
    interval=largest_over_outputs,
)
MAGNITUDE_SPECS = (MAX_ERROR, *quantile_specs(QUANTILES))


ADJUSTED = explained_spec(
    "r2/adjusted", adjusted_r2, "1 − (1 − R²)(n − 1) / (n − features − 1), see `num_features`."
)
OPTIONAL_SPECS: tuple[ScoreSpec, ...] = (
    error_spec(
        "mape",
        kept_mean("mape"),
        "Mean of |error| / |target|, over the rows whose target is not 0.",
        method="student-log",
        undefined="no row has a target other than 0",
    ),
    error_spec(
        "smape",
        kept_mean("smape"),
        "Mean of 2 · |error| / (|prediction| + |target|); 0 for a row where both are 0.",
        method="student-log",
        range=(0.0, 2.0),
    ),
    error_spec(
        "wmape",
        wmape,
        "Σ|error| / Σ|target|.",
        method="delta-log",
        undefined="all targets are 0",
    ),
    error_spec(
        "msle",
        kept_mean("msle"),
        "Mean squared error of ln(1 + x), over the rows with values above -1.",
        method="student-log",
    ),
    error_spec("rmsle", rmsle, "Root of `msle`.", method="student-log"),
    error_spec(
        "nrmse",
        nrmse,
        "RMSE / |mean of the targets|.",
        method="delta-log",
        undefined="the mean of the targets is 0",
    ),
    error_spec(
        "nrmse/std",
        nrmse_std,
        "RMSE / standard deviation of the targets: √(1 − R²).",
        method="delta-log",
        undefined=FLAT_TARGET,
    ),
    error_spec(
        "nrmse/l2",
        partial(rmse_over, size=length),
        "RMSE / √Σ target². The interval is that of the RMSE.",
        method="student-log",
        undefined="all targets are 0",
    ),
    ADJUSTED,
    replace(
        PEARSON,
        name="concordance",
        formula=concordance,
        doc="Lin's concordance of predictions and targets: 2 · covariance / (both variances + bias²).",
        undefined=FLAT_TARGET,
        source="Lin, Biometrics 1989",
    ),
)
WEIGHTED_SPECS = tuple(
    replace(
        explained_spec(f"{spec.name}/variance_weighted", spec.formula, spec.doc),
        interval=variance_weighted,
        doc=f"Mean over the outputs by the variance of their targets. {spec.doc}",
        method="mean-of-ends",
    )
    for spec in (*MOMENT_SPECS, ADJUSTED)
    if spec.name.startswith(("r2", "explained_variance"))
)
WHOLE_SPECS: tuple[ScoreSpec, ...] = (
    error_spec(
        "nrmse/range",
        partial(rmse_over, size=target_range),
        "RMSE / (largest target − least), of all rows alone. The interval is that of the RMSE.",
        method="student-log",
        undefined=FLAT_TARGET,
    ),
    rank_spec(
        "spearman",
        SPEARMAN,
        "Spearman's rank correlation of predictions and targets, good to its `error_bound`.",
        "Bonett and Wright, Psychometrika 2000, for the least variance",
    ),
    rank_spec(
        "kendall",
        KENDALL,
        "Kendall's rank correlation τ-b, good to its `error_bound`.",
        "Brown and Benedetti, JASA 1977; Fieller et al., Biometrika 1957, for the least variance",
    ),
    rank_spec(
        "kendall/c",
        KENDALL_C,
        "Kendall's rank correlation τ-c, for grades of different number, good to its `error_bound`.",
        "Stuart, Biometrika 1953; Brown and Benedetti, JASA 1977",
    ),
)


def error_moments(metrics: Any, counts: Counts) -> ErrorMoments:
    """What most tables look at."""
    return ErrorMoments.of_cells(counts, metrics.shares, metrics.num_features)


def whole_moments(metrics: Any, counts: Counts) -> ErrorMoments | None:
    """The same where there are ranks; slices and groups have none."""
    if CUMULATIVE not in counts:
        return None
    return error_moments(metrics, counts)


def error_magnitudes(metrics: Any, counts: Counts) -> ErrorMagnitudes | None:
    """What the second table looks at; slices and groups have none."""
    if CUMULATIVE not in counts:
        return None
    return ErrorMagnitudes.of_cells(counts, metrics.shares)


MOMENT_SCORES = ScoreTable(
    error_moments,
    (*MOMENT_SPECS, *by_output(MOMENT_SPECS)),
    "Regression",
)
MAGNITUDE_SCORES = ScoreTable(
    error_magnitudes,
    (*MAGNITUDE_SPECS, *by_output(MAGNITUDE_SPECS)),
    "Magnitudes of errors, of all rows alone",
)
OPTIONAL_SCORES = (
    ScoreTable(error_moments, (*OPTIONAL_SPECS, *by_output(OPTIONAL_SPECS), *WEIGHTED_SPECS)),
    ScoreTable(whole_moments, (*WHOLE_SPECS, *by_output(WHOLE_SPECS))),
)
