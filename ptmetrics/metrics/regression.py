"""Scores of regression from joint moments and a histogram of |error|: pure functions on the device.

Every function gives one value an output, shape (D,). Errors are prediction − target.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ptmetrics.counts.joint_moments import centre_of, moved, sums_of, undivided
from ptmetrics.counts.magnitude import BINS, lower_edge
from ptmetrics.metrics.estimate import Estimate
from ptmetrics.metrics.intervals import Interval, Z, student

NO_SAMPLES = "no samples were counted"
FLAT_TARGET = "the targets hold fewer than two values"
FLAT = "targets or predictions hold fewer than two values"
ERROR, PREDICTION = 0, 1  # the two clouds; each beside the target


@dataclass(frozen=True)
class Residue:
    """What was counted, with moments about the means of prediction and target.

    Attributes:
        count: Int64 number of rows, shape ().
        weight: Σw, shape (D,).
        effective: (Σw)² / Σw², Kish's effective number of rows, shape (D,).
        mean: Means of error, prediction and target, shape (D, 3).
        central: Sums about these means, shape (D, 2, 2, 5, 5) as in `joint_moments`.
        about_zero: The same sums, with the errors left as they are.
        absolute: Σw|error| and Σw²|error|, shape (D, 2).
        largest: Largest |error|, shape (D,).
        histogram: Counts or weights by magnitude, shape (D, bins).
    """

    count: Tensor
    weight: Tensor
    effective: Tensor
    mean: Tensor
    central: Tensor
    about_zero: Tensor
    absolute: Tensor
    largest: Tensor
    histogram: Tensor

    @classmethod
    def of(cls, state: dict[str, Tensor]) -> "Residue":
        """Read the state of `Residuals` and `MagnitudeHistogram`."""
        counts = state["magnitude"]
        histogram = state.get("magnitude_weight", counts).double()
        return cls.of_moments(
            state["moments"], state["absolute"], counts[0].sum(), state["largest"], histogram
        )

    @classmethod
    def of_moments(
        cls, moments: Tensor, absolute: Tensor, count: Tensor, largest: Tensor, histogram: Tensor
    ) -> "Residue":
        """From joint moments of shape (D, SIZE), and fields as they are."""
        centre, sums = centre_of(moments), sums_of(moments)
        weight, square = sums[:, 0, 0, 0, 0], sums[:, 1, 0, 0, 0]
        first = torch.stack(
            (sums[:, 0, ERROR, 1, 0], sums[:, 0, PREDICTION, 1, 0], sums[:, 0, 0, 0, 1]), 1
        )
        offset = first / weight.unsqueeze(1)  # of the mean from the centre: a rounding error or two
        keep_error = torch.cat((centre[:, :1], -offset[:, 1:]), 1)
        return cls(
            count=count,
            weight=weight,
            effective=weight.square() / square,
            mean=centre + offset,
            central=undivided(moved(sums, -offset)),
            about_zero=undivided(moved(sums, keep_error)),
            absolute=absolute,
            largest=largest,
            histogram=histogram,
        )

    def variance(self, cloud: int, x: int, y: int) -> Tensor:
        """Weighted mean of xⁱ yʲ about the means, such as (ERROR, 0, 2) for the targets' variance."""
        return self.central[:, 0, cloud, x, y] / self.weight

    def estimate(
        self, value: Tensor, ends: Interval, method: str, reason: str = NO_SAMPLES
    ) -> Estimate:
        """An error of each output: lower is better."""
        return Estimate(value, *ends, self.count, method, reason, higher_is_better=False)


def mse(r: Residue) -> Estimate:
    """Mean squared error; falls, 0 or more, NaN for no samples. Student interval of the logarithm."""
    value = r.about_zero[:, 0, ERROR, 2, 0] / r.weight
    fourth, second, none = (r.about_zero[:, 1, ERROR, i, 0] for i in (4, 2, 0))
    spread = fourth - 2 * value * second + value.square() * none
    return r.estimate(value, _on_logarithm(value, _student(r, spread)), "student-log")


def rmse(r: Residue) -> Estimate:
    """Root mean squared error, in the target's unit; falls, 0 or more. Root of the interval of the MSE."""
    square = mse(r)
    return r.estimate(square.value.sqrt(), (square.low.sqrt(), square.high.sqrt()), "student-log")


def mae(r: Residue) -> Estimate:
    """Mean absolute error, in the target's unit; falls, 0 or more. Student interval of the logarithm."""
    value = r.absolute[:, 0] / r.weight
    second, none = (r.about_zero[:, 1, ERROR, i, 0] for i in (2, 0))
    spread = second - 2 * value * r.absolute[:, 1] + value.square() * none
    return r.estimate(value, _on_logarithm(value, _student(r, spread)), "student-log")


def bias(r: Residue) -> Estimate:
    """Mean error: positive where predictions are too high; best at 0. Student interval."""
    value, half = r.mean[:, 0], _student(r, r.central[:, 1, ERROR, 2, 0])
    return r.estimate(value, (value - half, value + half), "student")


def max_error(r: Residue) -> Estimate:
    """Largest absolute error seen; falls. No sample bounds the next one, so the upper end is infinite."""
    value = torch.where(r.weight > 0, r.largest, torch.nan)
    return r.estimate(
        value, (value, torch.where(r.weight > 0, torch.inf, torch.nan)), "sample-maximum"
    )


def r2(r: Residue) -> Estimate:
    """Coefficient of determination, 1 − MSE / variance of the targets; rises, up to 1.

    NaN where the targets do not vary. Delta interval on the logarithm of 1 − R².
    """
    return _explained(r, r.about_zero)


def explained_variance(r: Residue) -> Estimate:
    """1 − variance of the errors / variance of the targets: R² without the bias; rises, up to 1.

    NaN where the targets do not vary. Delta interval on the logarithm of its distance from 1.
    """
    return _explained(r, r.central)


def pearson(r: Residue) -> Estimate:
    """Pearson correlation of predictions and targets; rises, [-1, 1], NaN where a side does not vary.

    Interval on Fisher's z. Its variance is taken from fourth moments, since that of jointly normal values covers
    as little as 50 % for skewed ones, and is never below it.
    """
    p2, t2 = r.variance(PREDICTION, 2, 0), r.variance(PREDICTION, 0, 2)
    value = (r.variance(PREDICTION, 1, 1) / (p2 * t2).sqrt()).clamp(-1, 1)
    value = torch.where(_flat(r, p2, 1) | _flat(r, t2, 2), torch.nan, value)
    sums = r.central[:, 1, PREDICTION]
    # With u and v standardised, r moves with row i by uᵢvᵢ − r(uᵢ² + vᵢ²)/2.
    mixed = sums[:, 2, 2] * (1 + value.square() / 2) / (p2 * t2)
    skew = value * (sums[:, 3, 1] / p2 + sums[:, 1, 3] / t2) / (p2 * t2).sqrt()
    tails = (value / 2).square() * (sums[:, 4, 0] / p2.square() + sums[:, 0, 4] / t2.square())
    left = torch.where(r.effective > 3, r.effective - 3, torch.nan)
    apart = torch.where(
        value.abs() < 1 - 1e-7, 1 - value.square(), torch.inf
    )  # nearer to 1 it is all rounding
    measured = (mixed - skew + tails) / (r.weight * apart).square()
    variance = torch.maximum(measured * r.effective / left, 1 / left)
    centre, half = value.atanh(), Z * variance.sqrt()
    return Estimate(
        value, (centre - half).tanh(), (centre + half).tanh(), r.count, "fisher-z", FLAT
    )


def quantile(r: Residue, q: float) -> Estimate:
    """The q-quantile of |error|, in the target's unit; falls, 0 or more.

    Where q · n is whole it lies half way between two neighbours, so that 0.5 is the median. The value is good
    to `error_bound`, at most 0.2 % of it, which comes from the width of the bins. The interval is that of
    order statistics, with no assumption on the errors; its upper end is infinite where n is too small for q.

    Source: Hyndman and Fan 1996, type 2; Woodruff, JASA 1952, for weights.
    """
    cumulative = r.histogram.cumsum(1)
    total = cumulative[:, -1]
    at = q * total
    pair = torch.stack(
        (_first(cumulative, at), _first(cumulative, at, above=True).clamp(max=BINS - 1))
    )
    edges = torch.stack((lower_edge(pair), torch.minimum(lower_edge(pair + 1), r.largest)))
    edges = torch.where(pair == 0, 0.0, edges)  # below 2⁻¹²⁷ is nothing
    low, high = edges.mean(1)
    value, bound = (low + high) / 2, (high - low) / 2
    ends = _ranks(r, cumulative, q)
    bound = torch.where(total > 0, bound, 0.0)
    nothing = torch.where(total > 0, 0.0, torch.nan)
    value = value + nothing
    ends = (torch.minimum(ends[0], value) + nothing, torch.maximum(ends[1], value) + nothing)
    return Estimate(value, *ends, r.count, "order-statistics", NO_SAMPLES, False, bound)


def _student(r: Residue, spread: Tensor) -> Tensor:
    """Half the width of the interval of a weighted mean whose Σw²(x − mean)² is `spread`; NaN for one row."""
    n = r.effective
    error = (spread.clamp(min=0) * n / (n - 1)).sqrt() / r.weight
    return torch.where(n > 1, student((n - 1).clamp(min=1)) * error, torch.nan)


def _on_logarithm(value: Tensor, half: Tensor) -> Interval:
    """Ends of a positive mean: right-skewed as errors are, they lie nearer 95 % so, and never below 0."""
    factor = torch.where(value == 0, half, half / value).exp()
    return value / factor, value * factor


def _explained(r: Residue, sums: Tensor) -> Estimate:
    target = r.variance(ERROR, 0, 2)
    ratio = sums[:, 0, ERROR, 2, 0] / r.weight / target
    ratio = torch.where(_flat(r, target, 2), torch.nan, ratio)
    # With A and B the means of e² and (t − mean)², ln(A/B) moves with row i by eᵢ²/A − (tᵢ − mean)²/B.
    fourth, both, other = sums[:, 1, ERROR, 4, 0], sums[:, 1, ERROR, 2, 2], sums[:, 1, ERROR, 0, 4]
    spread = (fourth - 2 * ratio * both + ratio.square() * other).clamp(min=0) / target.square()
    n = r.effective
    error = (spread * n / (n - 1)).sqrt() / r.weight / ratio
    half = torch.where(n > 2, student((n - 2).clamp(min=1)) * error, torch.nan)
    low, high = (1 - torch.where(ratio == 0, 0.0, ratio * (sign * half).exp()) for sign in (1, -1))
    return Estimate(1 - ratio, low, high, r.count, "delta-log", FLAT_TARGET)


def _flat(r: Residue, variance: Tensor, column: int) -> Tensor:
    """Whether values vary by no more than the rounding of float64."""
    rounding = 8 * torch.finfo(torch.float64).eps * r.mean[:, column].abs()
    return ~(variance > rounding.square())


def _ranks(r: Residue, cumulative: Tensor, q: float) -> Interval:
    """Edges of the order statistics between which the quantile lies with 95 %.

    The number of rows below the quantile is binomial; its 2.5 % points are corrected for skewness.
    """
    n = r.effective
    skew = (Z * Z - 1) * (1 - 2 * q) / 6
    reach = Z * (n * q * (1 - q)).sqrt()
    low, high = (n * q + skew - reach).floor(), (n * q + skew + reach).ceil() + 1
    scale = cumulative[:, -1] / n
    bottom = torch.where(low < 1, 0.0, lower_edge(_first(cumulative, low * scale)))
    top = torch.minimum(lower_edge(_first(cumulative, high * scale) + 1), r.largest)
    return bottom, torch.where(high > n, torch.inf, top)


def _first(cumulative: Tensor, at: Tensor, *, above: bool = False) -> Tensor:
    """First bin whose cumulative weight reaches `at`, or passes it."""
    return torch.searchsorted(cumulative, at.unsqueeze(1).contiguous(), right=above).squeeze(1)
