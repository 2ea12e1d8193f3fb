"""`RegressionMetrics`, and its scores: from joint moments and a histogram of |error|, one value an output.

Errors are prediction − target. Formulas take arrays whose last dimension is the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptmetrics.counts.batch import At, Batch, Counted
from ptmetrics.counts.cell import Cell, State
from ptmetrics.counts.moments import JOINT_SIZE, joint_centre, joint_sums, moved_sums
from ptmetrics.counts.regression import (
    MAGNITUDE_BINS,
    POINT_FAULT_KINDS,
    check_points,
    is_dense,
    magnitude_bin,
    magnitude_edges,
    read_points,
)
from ptmetrics.counts.stored_sums import WEIGHT_ROUNDING, StoredSums
from ptmetrics.errors import ConfigError
from ptmetrics.metrics import options
from ptmetrics.metrics.base import Metrics
from ptmetrics.metrics.class_scores import NO_SAMPLES
from ptmetrics.metrics.estimate import Array, Estimate
from ptmetrics.metrics.host import Counts
from ptmetrics.metrics.intervals import LEAST_FREEDOM, Z, far_ends, student
from ptmetrics.metrics.samples import POINT_FIELDS
from ptmetrics.metrics.score_spec import ScoreSpec, ScoreTable

FLAT_TARGET = "the targets hold fewer than two values"
FLAT = "targets or predictions hold fewer than two values"
SOME_OUTPUT = "undefined for at least one output"
ERROR = 0  # the two clouds of the joint moments, each beside the target
PREDICTION = 1
FACTORIALS = np.array([1.0, 1.0, 2.0, 6.0, 24.0])
CUMULATIVE = "cumulative"
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
        absolute: n, Σw, Σw², Σw·x, Σw²·x, Σw²·x² of x = |error|, shape (6, …, D).
    """

    n: Array
    weight: Array
    effective: Array
    mean: Array
    central: Array
    about_zero: Array
    absolute: Array

    @classmethod
    def of_cells(cls, counts: Counts) -> ErrorMoments:
        """From the cells "moments" and "absolute"."""
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
            absolute=np.moveaxis(counts["absolute"], -2, 0),
        )

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
        n = self.effective
        error = np.sqrt(np.clip(spread, 0, None) * n / (n - 1)) / self.weight
        return np.where(n > 1, error, np.nan)


@dataclass(frozen=True)
class ErrorMagnitudes:
    """The histogram of |error| of all rows.

    Attributes:
        n: Int64 number of rows, shape (1,).
        effective: Kish's effective number of rows, shape (D,).
        cumulative: Σw of the rows up to each bin, shape (D, bins).
        largest: Largest |error|, shape (D,).
    """

    n: Array
    effective: Array
    cumulative: Array
    largest: Array

    @classmethod
    def of_cells(cls, counts: Counts) -> ErrorMagnitudes:
        """From the cells "absolute" and "largest", and the running sum of "magnitude"."""
        effective = counts["absolute"][1] ** 2 / counts["absolute"][2]
        n = np.asarray(counts.n)[..., None]
        return cls(n, effective, counts[CUMULATIVE], counts["largest"])

    def first_bin(self, weight: Array, *, above: bool = False) -> Array:
        """First bin whose cumulative weight reaches `weight`, of shape (D,), or passes it."""
        pairs = zip(self.cumulative, weight, strict=True)
        if above:
            return np.array([c.searchsorted(w, "right") for c, w in pairs])
        return np.array([c.searchsorted(w) for c, w in pairs])


def mse(r: ErrorMoments) -> Ends:
    """Mean squared error, with Student's interval of its logarithm."""
    value = r.about_zero[..., 0, ERROR, 2, 0] / r.weight
    fourth = r.about_zero[..., 1, ERROR, 4, 0]
    second = r.about_zero[..., 1, ERROR, 2, 0]
    none = r.about_zero[..., 1, ERROR, 0, 0]
    spread = fourth - 2 * value * second + value**2 * none
    return value, *far_ends(value, r.standard_error(spread), r.effective)


def rmse(r: ErrorMoments) -> Ends:
    """Root of the mean squared error and its ends."""
    value, low, high = mse(r)
    return np.sqrt(value), np.sqrt(low), np.sqrt(high)


def mae(r: ErrorMoments) -> Ends:
    """Mean absolute error, with Student's interval of its logarithm."""
    _, weight, square, first, square_first, square_second = r.absolute
    value = first / weight
    spread = square_second - 2 * value * square_first + value**2 * square
    return value, *far_ends(value, r.standard_error(spread), r.effective)


def bias(r: ErrorMoments) -> Ends:
    """Mean error, with Student's interval."""
    value = r.mean[..., 0]
    error = r.standard_error(r.central[..., 1, ERROR, 2, 0])
    half = student(np.clip(r.effective - 1, 1, None)) * error
    return value, value - half, value + half


def r2(r: ErrorMoments) -> Ends:
    """1 − MSE / variance of the targets."""
    return _explained(r, r.about_zero)


def explained_variance(r: ErrorMoments) -> Ends:
    """1 − variance of the errors / variance of the targets."""
    return _explained(r, r.central)


def pearson(r: ErrorMoments) -> Ends:
    """Correlation of predictions and targets, with an interval on Fisher's z.

    Its variance is taken from fourth moments, since that of jointly normal values covers as little
    as 50 % for skewed ones, and is never below it.
    """
    p2 = r.variance(PREDICTION, 2, 0)
    t2 = r.variance(PREDICTION, 0, 2)
    value = np.clip(r.variance(PREDICTION, 1, 1) / np.sqrt(p2 * t2), -1, 1)
    value = np.where(r.flat(p2, 1) | r.flat(t2, 2), np.nan, value)
    sums = r.central[..., 1, PREDICTION, :, :]
    # With u and v standardised, r moves with row i by uᵢvᵢ − r(uᵢ² + vᵢ²)/2.
    mixed = sums[..., 2, 2] * (1 + value**2 / 2) / (p2 * t2)
    skew = value * (sums[..., 3, 1] / p2 + sums[..., 1, 3] / t2) / np.sqrt(p2 * t2)
    tails = (value / 2) ** 2 * (sums[..., 4, 0] / p2**2 + sums[..., 0, 4] / t2**2)
    left = np.where(r.effective > 3, r.effective - 3, np.nan)
    apart = np.where(
        np.abs(value) < 1 - 1e-7, 1 - value**2, np.inf
    )  # nearer to 1 it is all rounding
    measured = (mixed - skew + tails) / (r.weight * apart) ** 2
    carried = np.minimum(carrying(r.central, PREDICTION, 1, 0), carrying(r.central, ERROR, 0, 1))
    reach = student(np.clip(carried - 1, LEAST_FREEDOM, None))
    half = reach * np.sqrt(np.maximum(measured * r.effective / left, 1 / left))
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
    # With A and B the means of e² and (t − mean)², ln(A/B) moves with row i by eᵢ²/A − (tᵢ −
    # mean)²/B.
    fourth = sums[..., 1, ERROR, 4, 0]
    both = sums[..., 1, ERROR, 2, 2]
    other = sums[..., 1, ERROR, 0, 4]
    spread = np.clip(fourth - 2 * ratio * both + ratio**2 * other, 0, None) / target**2
    n = r.effective
    error = np.sqrt(spread * n / (n - 1)) / r.weight / ratio
    carried = np.minimum(carrying(sums, ERROR, 1, 0), carrying(sums, ERROR, 0, 1))
    half = np.where(n > 2, student(np.clip(carried - 2, LEAST_FREEDOM, None)) * error, np.nan)
    far = np.where(ratio == 0, 0.0, ratio * np.exp(half))
    near = np.where(ratio == 0, 0.0, ratio * np.exp(-half))
    return 1 - ratio, 1 - far, 1 - near


def each_output(spec: ScoreSpec, view: Any, intervals: bool) -> Estimate:
    """A score of each output."""
    value, low, high, *bound = spec.formula(view)
    found = spec.estimate(value, low, high, np.broadcast_to(view.n, value.shape))
    if bound:
        return replace(found, error_bound=bound[0])
    return found


def mean_over_outputs(spec: ScoreSpec, view: Any, intervals: bool) -> Estimate:
    """Uniform mean over the outputs, as in scikit-learn; NaN where one of them is.

    Outputs of the same rows err together, in a way that is not counted: the mean of the ends is an
    interval for any correlation, and too wide for independent outputs.
    """
    each = each_output(spec, view, intervals)
    if each.value.shape[-1] == 1:
        return each.part(0)
    value, low, high = (x.mean(-1) for x in (each.value, each.low, each.high))
    bound = np.broadcast_to(each.error_bound, each.value.shape).mean(-1)
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


MOMENT_SPECS: tuple[ScoreSpec, ...] = (
    error_spec("mse", mse, "Mean squared error.", method="student-log"),
    error_spec("rmse", rmse, "Root of the mean squared error.", method="student-log"),
    error_spec("mae", mae, "Mean absolute error.", method="student-log"),
    explained_spec("r2", r2, "Coefficient of determination: 1 − MSE / variance of the targets."),
    explained_spec(
        "explained_variance",
        explained_variance,
        "1 − variance of the errors / variance of the targets: R² without the bias.",
    ),
    ScoreSpec(
        "pearson",
        pearson,
        mean_over_outputs,
        range=(-1.0, 1.0),
        doc="Pearson correlation of predictions and targets.",
        undefined=FLAT,
        method="fisher-z",
        scale="atanh",
    ),
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


def error_moments(metrics: Any, counts: Counts) -> ErrorMoments:
    """What the first table looks at."""
    return ErrorMoments.of_cells(counts)


def error_magnitudes(metrics: Any, counts: Counts) -> ErrorMagnitudes | None:
    """What the second table looks at; slices and groups have none."""
    if CUMULATIVE not in counts:
        return None
    return ErrorMagnitudes.of_cells(counts)


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


class RegressionMetrics(Metrics):
    """MSE, RMSE, MAE, R², explained variance, Pearson, bias, largest error and quantiles of |error| in one pass.

    `update(preds, target)` takes floating point or whole numbers of shape (N, D), or (N,) where D
    is 1, and weights of shape (N,). Where D is 1, images and sequences of one shape (N, d1, d2, …)
    count element by element, with weights of that shape; each sample is a group then, see
    `groups`. Sums are kept in float64 about the running mean, so that R² is
    right for values near 1e6 or in half precision. A row with a NaN or infinite value in any output
    is refused, counted and reported in `scores.faults`; a row of weight 0 is as if it were not
    there.

    With several outputs `scores.per_class` holds one value an output, and the named scores are
    uniform means over the outputs, as in scikit-learn (`max_error`: the largest). Errors are
    prediction − target, in the target's unit. The largest error and the quantiles are of all rows:
    slices have none.

    Args:
        num_outputs: D, the number of values a row, 1 to 16,384.
        quantiles: Which quantiles of |error| to report, as `absolute_error/p90`; the median is
            always there as `median_absolute_error`.
        names: One name an output.
        slices: As for `pm.Metrics`.
        groups: As for `pm.Metrics`; None by default.
        device: As for `pm.Metrics`.

    Raises:
        ConfigError: If an argument cannot work.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> metrics = pm.RegressionMetrics()
        >>> metrics.update(torch.tensor([1.0, 2.5, 4.0]), torch.tensor([1.5, 2.0, 4.5]))
        >>> scores = metrics.compute()
        >>> scores["mae"].value
        0.5
        >>> round(scores["r2"].value, 3)
        0.855
    """

    task = "regression"
    headline = "mae"
    fault_kinds = POINT_FAULT_KINDS
    score_tables: tuple[ScoreTable, ...] = (MOMENT_SCORES, MAGNITUDE_SCORES)
    waits = True

    def __init__(
        self,
        *,
        num_outputs: int = 1,
        quantiles: Sequence[float] = QUANTILES,
        names: Sequence[str] | None = None,
        slices: Sequence[str] | int = (),
        groups: bool | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if not options.is_whole(num_outputs, 1, MOST_OUTPUTS):
            cure = "Pass the number of values that the model predicts for a row."
            rule = f"a whole number from 1 to {MOST_OUTPUTS}, each of which takes half a MiB"
            raise ConfigError("num_outputs", rule, repr(num_outputs), cure)
        fits = options.is_sequence(quantiles)
        if not fits or not all(options.is_number(q) and 0 < q < 1 for q in quantiles):
            fact = repr(quantiles)
            cure = "Pass quantiles=(0.5, 0.9)."
            raise ConfigError("quantiles", "numbers between 0 and 1", fact, cure)
        self.num_outputs = num_outputs
        self.quantiles = tuple(map(float, quantiles))
        if names is not None or num_outputs > 1:
            self.class_names = options.names("names", names, num_outputs, "output")
        super().__init__(slices=slices, groups=groups, device=device)

    def counted_arguments(self) -> dict[str, Any]:
        """The plain values that fix what is counted."""
        return {"num_outputs": self.num_outputs}

    def tables(self) -> tuple[ScoreTable, ...]:
        """Those of the class, with the quantiles that are wanted, and the scores of each output."""
        magnitudes: tuple[ScoreSpec, ...] = (MAX_ERROR, *quantile_specs(self.quantiles))
        moments = MOMENT_SPECS
        if self.class_names:
            moments = (*moments, *by_output(moments))
            magnitudes = (*magnitudes, *by_output(magnitudes))
        return (
            replace(MOMENT_SCORES, specs=moments),
            replace(MAGNITUDE_SCORES, specs=magnitudes),
        )

    def cells(self) -> list[Cell]:
        """Moments; of all rows also the largest |error| and a histogram of it, half a MiB an output."""
        outputs = self.num_outputs
        return [
            Cell("moments", (outputs, JOINT_SIZE), torch.float64, merge="joint"),
            Cell("absolute", (outputs,), torch.float64, merge="mean"),
            Cell("largest", (outputs,), torch.float64, merge="max", scope="whole"),
            Cell("magnitude", (outputs, MAGNITUDE_BINS), scope="whole"),
        ]

    def check(self, preds: Tensor, target: Tensor, sample_weight: Tensor | None) -> Batch:
        """Refuse what shapes, types and devices tell."""
        return check_points(self.num_outputs, self.device, preds, target, sample_weight)

    @property
    def sample_fields(self) -> tuple[str, ...]:
        """Error and target, where there is one output."""
        if self.num_outputs > 1:
            return ()
        return POINT_FIELDS

    def stored_relations(self, sums: StoredSums) -> Iterator[tuple[str, Tensor]]:
        """Each row has one error an output, which stands in all cells."""
        rows = sums["rows"].unsqueeze(-1)
        absolute = sums["absolute"]
        if "magnitude" in sums:
            total = sums["magnitude"].sum(-1)
            yield "as many magnitudes as rows", sums.same(total, rows.expand(total.shape))
            largest = sums["largest"]
            empty = largest == -torch.inf
            yield "a largest error of 0 or more", empty | ((largest >= 0) & largest.isfinite())
            yield "a largest error where there are rows", empty == (absolute[0] == 0)
            mean = absolute[3] / absolute[1]
            yield (
                "no mean error above the largest",
                (mean <= largest * (1 + WEIGHT_ROUNDING)) | mean.isnan(),
            )
        yield "errors of 0 or more that are finite", (absolute >= 0) & absolute.isfinite()
        errors = sums.of_mean(absolute)
        yield "as many errors as rows", sums.same(errors, rows.expand(errors.shape))
        weight, square = joint_sums(sums["moments"])[..., 0, 0, 0].unbind(-1)
        if sums.are("weight"):
            yield "moments of as many errors as rows", sums.same(weight, errors)
        if sums.are("square"):
            yield "moments of as many errors as rows", sums.same(square, errors)

    def row_shape(self, target: Tensor) -> tuple[int, ...]:
        """One row a sample; in images one an element."""
        if is_dense(target, self.num_outputs):
            return tuple(target.shape)
        return (target.shape[0],)

    def summarize(self, state: State) -> State:
        """Of the histogram its running sum goes to the host."""
        weight = state.get("magnitude.weight", state["magnitude"])
        kept = {name: t for name, t in state.items() if name.partition(".")[0] != "magnitude"}
        return {**kept, CUMULATIVE: weight.double().cumsum(1)}

    def count(self, batch: Batch) -> dict[str, Counted]:
        """Read errors, predictions and targets once."""
        points = read_points(batch, self.num_outputs)
        error = points[:, :, 0]
        magnitude = error.abs()
        place = magnitude_bin(magnitude)
        if self.num_outputs > 1:
            output = torch.arange(self.num_outputs, device=place.device)
            place = place.add_(output.mul_(MAGNITUDE_BINS))
        counts: dict[str, Counted] = {
            "moments": points,
            "absolute": magnitude,
            "largest": magnitude,
            "magnitude": At(place, within=True),
        }
        if self.keeps_samples and self.num_outputs == 1:
            known = error[:, 0]
            if batch.counted is not None:
                known = torch.where(batch.counted, known, torch.nan)
            counts["samples"] = torch.stack((known, points[:, 0, 2]))
        return counts
