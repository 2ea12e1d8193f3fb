"""When did a run reach a target, and the ratio of two groups' times, honest about censoring.

A time is known only up to the spacing of a run's evaluations, and not at all for a run that ended
before it reached the target.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf, isfinite, isnan, log, nan
from statistics import fmean
from typing import Literal

import numpy as np
import numpy.typing as npt

from ptmetrics.errors import ConfigError, DataError
from ptmetrics.verdict.evidence import RunLike
from ptmetrics.verdict.finding import Z95, Bound, Criterion, Estimate, Plain, State, float_of
from ptmetrics.verdict.gathering import has_value
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.samples import Floats, ReadSamples, no_samples, sampled, samples_of
from ptmetrics.verdict.stats import rank_sum_rank, welch

Axis = Literal["time", "samples", "steps", "flops", "wall", "device"]
Censored = Literal["first", "second", "both"]
# Where the cumulative cost stands in an epoch's record; that of the device stands for each alone.
_COSTS: dict[Axis, tuple[str, str]] = {
    "time": ("time", "train_cumulative_s"),
    "samples": ("counts", "train_samples_cumulative"),
    "steps": ("counts", "train_steps_cumulative"),
    "flops": ("counts", "train_steps_cumulative"),  # times those of a step
    "wall": ("time", "wall_cumulative_s"),
    "device": ("time", "train_device_s"),
}
AXES: tuple[Axis, ...] = tuple(_COSTS)
BOUNDS = "evaluation bounds"
RANK_SUM = "rank-sum, one-sided 95 %"
LOG_WELCH = "log-Welch t, 95 %"
_CENSORED: dict[Censored, str] = {
    "first": "a run of the first arm never reached the target",
    "second": "a run of the second arm never reached the target",
    "both": "runs of both arms never reached the target",
}
_TARGET = re.compile(r"\s*(\S+?)\s*(>=|<=)\s*(\S+)\s*")


@dataclass(frozen=True)
class Target:
    """A level of a score, and the side from which it counts as reached.

    Args:
        metric: Full name of the score, such as "val/accuracy".
        rule: ">=" or "<=".
        level: The level.
    """

    metric: str
    rule: Bound
    level: float

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Read a target such as "val/accuracy>=0.9".

        Raises:
            ConfigError: If it is no score, comparison and number.
        """
        parts = _TARGET.fullmatch(text)
        try:
            level = float(parts.group(3)) if parts else nan
        except ValueError:
            level = nan
        if parts is None or not isfinite(level):
            cure = "Name a recorded score, >= or <=, and a number."
            raise ConfigError("target", "a text such as 'val/accuracy>=0.9'", repr(text), cure)
        if parts.group(2) == ">=":
            return cls(parts.group(1), ">=", level)
        return cls(parts.group(1), "<=", level)

    def met_by(self, values: Floats) -> npt.NDArray[np.bool_]:
        """Which values have reached the level."""
        if self.rule == ">=":
            return values >= self.level
        return values <= self.level

    def __str__(self) -> str:
        return f"{self.metric}{self.rule}{self.level:.6g}"


@dataclass(frozen=True)
class Span:
    """Bounds between which a target was reached; `high` is infinite where it never was.

    Args:
        low: Not yet reached here.
        high: Reached by here.
    """

    low: float
    high: float

    @property
    def censored(self) -> bool:
        """Whether the run ended before it reached the target for good."""
        return self.high == inf


@dataclass(frozen=True)
class Trace:
    """One score of one run, with what it had cost by each evaluation.

    Args:
        scores: The score at each evaluation.
        costs: Cumulative cost at each evaluation by axis: seconds of training ("time"), training
            samples, steps and floating point operations, seconds of wall and device time; an axis
            that is not recorded throughout, or on which nothing was spent, is absent.
        higher_is_better: Direction of the score.
        fingerprint: Identity of the validation data, where recorded.
        val_samples: Size of the validation data, where recorded.
        samples: Reads the validation samples of the last evaluation.
    """

    scores: tuple[Estimate, ...]
    costs: Mapping[Axis, Floats]
    higher_is_better: bool
    fingerprint: str | None
    val_samples: int | None
    samples: ReadSamples = no_samples

    @property
    def values(self) -> Floats:
        """The score's values."""
        return np.array([score.value for score in self.scores], dtype=np.float64)

    @property
    def last(self) -> Estimate:
        """The score at the last evaluation."""
        return self.scores[-1]

    def near(self, target: Target) -> int:
        """How many evaluations lie within one standard error of the target's level."""
        errors = [(score.high - score.low) / (2 * Z95) for score in self.scores]
        return int((np.abs(self.values - target.level) <= errors).sum())

    def at(self, axis: Axis, cost: float) -> Estimate:
        """The score at the last evaluation that had cost no more than this."""
        affordable = np.flatnonzero(self.costs[axis] <= cost)
        if not affordable.size:
            return Estimate(reason="no evaluation by then")
        return self.scores[int(affordable[-1])]

    def time_to_target(self, target: Target, hold: int, axis: Axis) -> Span:
        """When the target was first met by `hold` evaluations in a row.

        A run that never did is censored at its last evaluation below the target, not at its end: an
        unconfirmed last evaluation may have been the moment.
        """
        met = target.met_by(self.values)
        cost = self.costs[axis]
        for first in range(met.size - hold + 1):
            if not met[first : first + hold].all():
                continue
            low = 0.0
            if first:
                low = float(cost[first - 1])
            # A target met before any training is known to have been met by the first costly one.
            costly = cost[first:][cost[first:] > 0]
            high = 0.0
            if costly.size:
                high = float(costly[0])
            return Span(low, high)
        below = np.flatnonzero(~met)
        if not below.size:
            return Span(0.0, inf)
        return Span(float(cost[below[-1]]), inf)

    def sustained(self, hold: int) -> float:
        """The best level that `hold` evaluations in a row all have; NaN for fewer evaluations."""
        if self.values.size < hold:
            return nan
        windows = np.lib.stride_tricks.sliding_window_view(self.values, hold)
        if self.higher_is_better:
            return float(windows.min(1).max())
        return float(windows.max(1).min())


def trace(run: RunLike, metric: str) -> Trace:
    """Take one score of a run out of its record.

    Raises:
        DataError: If the run never recorded the score.
    """
    rows = [row for row, epoch in enumerate(run.epochs) if has_value(epoch, metric)]
    if not rows:
        named = {name for epoch in run.epochs for name in epoch["scores"] if has_value(epoch, name)}
        known = ", ".join(sorted(named)) or "none has a value"
        rule = f"a score that the run recorded ({known})"
        raise DataError("metric", rule, repr(metric), "Name one of these.")
    costs: dict[Axis, Floats] = {}
    for axis in AXES:
        cost = _cumulative_cost(run, axis)[rows]
        if np.isfinite(cost).all() and cost[-1] > 0:
            costs[axis] = cost
    evaluations = [run.epochs[row] for row in rows]
    last = evaluations[-1]
    return Trace(
        tuple(sampled(e["scores"][metric], metric, samples_of(run, e)) for e in evaluations),
        costs,
        bool(last["scores"][metric].get("higher_is_better", True)),
        run.header.get("val_fingerprint"),
        (last.get("counts") or {}).get("val_samples"),
        samples_of(run, last),
    )


def _cumulative_cost(run: RunLike, axis: Axis) -> Floats:
    """Cumulative cost at each epoch; NaN where it is not recorded."""
    group, name = _COSTS[axis]
    costs = np.array([float_of((epoch.get(group) or {}).get(name)) for epoch in run.epochs])
    if axis == "device":
        return np.cumsum(costs)
    if axis == "flops":
        return costs * float_of(run.header.get("step_flops"))
    return costs


# The ratio of two groups.


@dataclass(frozen=True)
class Ratio(Plain):
    """Cost of the first group of runs over cost of the second.

    Below 1 the first is cheaper. The interval holds for the worst case within the evaluations'
    spacing.

    Args:
        value: Ratio of the geometric means; NaN when a run never reached the target.
        low: Lower bound; 0.0 where there is none.
        high: Upper bound; infinite where there is none.
        censored: Which group has a run that never reached the target.
        method: Name of the interval's formula.
        reason: What limits the ratio, in words; None when nothing does.
    """

    value: float
    low: float
    high: float
    censored: Censored | None
    method: str
    reason: str | None

    @property
    def seeded(self) -> bool:
        """Whether the interval covers other seeds."""
        return self.method != BOUNDS

    def __str__(self) -> str:
        if not isnan(self.value):
            return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"
        bounds = []
        if self.low > 0:
            bounds.append(f"above {self.low:.3g}")
        if self.high < inf:
            bounds.append(f"below {self.high:.3g}")
        known = " and ".join(bounds) or "unknown"
        why = self.reason
        if self.censored:
            why = _CENSORED[self.censored]
        return f"{known} ({why})"


def ratio_of(first: Sequence[Span], second: Sequence[Span]) -> Ratio:
    """Ratio of two groups, each one span per seed.

    Two or more seeds in each group that all reach the target: Welch's t on the logarithms, for the
    worst case within the spacing of the evaluations. When a seed misses it: the sorted pairwise
    ratios at the rank that inverts the exact rank-sum test, where a miss counts with its bound
    alone. A single run in a group: nothing but the bounds of the evaluations.

    Args:
        first: When each seed of the first group reached the target.
        second: The same of the second group.

    Source: Welch 1947; Lehmann 1963 for the inverted rank-sum test.
    """
    censored = _censored_side(first, second)
    reasons = []
    value = nan
    if censored is None:
        value = exp(_log_mean(first) - _log_mean(second))
    else:
        reasons.append(_CENSORED[censored])
    seeds = min(len(first), len(second))
    rank = 0
    if seeds > 1 and censored is None:
        method = LOG_WELCH
        low, high = _welch_bounds(first, second)
    else:
        if seeds > 1:
            rank = rank_sum_rank(len(first), len(second), 0.05)
        method = RANK_SUM if rank else BOUNDS
        low, high = _pairwise_bounds(first, second, max(rank, 1))
    if method == BOUNDS and len(first) == len(second) == 1:
        reasons.append("single run per arm, no seed interval")
    elif method == BOUNDS:
        reasons.append("too few seeds for a seed interval")
    if any(span.low == 0.0 for span in (*first, *second)):
        reasons.append(
            "reached at the first evaluation, so one bound is open: evaluate more often early on"
        )
    return Ratio(value, low, high, censored, method, "; ".join(reasons) or None)


def _censored_side(first: Sequence[Span], second: Sequence[Span]) -> Censored | None:
    one = any(span.censored for span in first)
    other = any(span.censored for span in second)
    if one and other:
        return "both"
    if one:
        return "first"
    if other:
        return "second"
    return None


def _log_mean(spans: Sequence[Span]) -> float:
    return fmean(log(span.high) if span.high > 0 else -inf for span in spans)


def _pairwise_bounds(
    first: Sequence[Span], second: Sequence[Span], rank: int
) -> tuple[float, float]:
    lows = sorted(_divided(a.low, b.high) for a in first for b in second)
    highs = sorted(_divided(a.high, b.low) for a in first for b in second)
    return lows[rank - 1], highs[-rank]


def _divided(a: float, b: float) -> float:
    """A quotient of bounds: none of it is 0; over nothing, or of something infinite, it is open."""
    if a == 0.0:
        return 0.0
    if a == inf or b == 0.0:
        return inf
    return a / b


def _welch_bounds(first: Sequence[Span], second: Sequence[Span]) -> tuple[float, float]:
    """The widest of Welch's intervals over the corners of the spans."""
    early = [span.low for span in first]
    late = [span.high for span in first]
    early_other = [span.low for span in second]
    late_other = [span.high for span in second]
    middle = log_welch(late, late_other)
    low = 0.0
    if min(early) > 0:
        low = min(middle[0], log_welch(early, late_other)[0])
    high = inf
    if min(early_other) > 0:
        high = max(middle[1], log_welch(late, early_other)[1])
    return low, high


def log_welch(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the ratio of geometric means by Welch's t on logarithms; costs above 0.

    Args:
        first: Costs of the seeds of the first group, at least two.
        second: Costs of the seeds of the second group, at least two.
    """
    low, high = welch([log(cost) for cost in first], [log(cost) for cost in second])
    return exp(low), exp(high)


def speedup(ratio: Ratio, runs: int, limits: Thresholds, blurred: str | None = None) -> Criterion:
    """Is the training time at least halved?

    With one run per group the ratio must also clear the threshold by the factor
    `single_run_margin`.

    Args:
        ratio: Ratio of training times.
        runs: Runs in both groups together.
        limits: Named thresholds.
        blurred: Why nothing can be decided, whatever the ratio.
    """
    wanted = limits.speedup
    margin = limits.single_run_margin
    if ratio.seeded:
        margin = 1.0
    most = least = ratio.value
    if isnan(ratio.value):
        most = ratio.high
        least = ratio.low
    state: State = "undetermined"
    if blurred:
        pass
    elif ratio.high <= wanted and most * margin <= wanted:
        state = "met"
    elif ratio.low > wanted and least / margin > wanted:
        state = "failed"
    return Criterion(
        "training time ratio",
        ratio.value,
        ratio.low,
        ratio.high,
        runs,
        wanted,
        "<=",
        state,
        code="speedup",
        reason=blurred or ratio.reason,
    )
