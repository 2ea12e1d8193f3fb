"""The ratio of two arms' times to a target, with an interval that is honest about censoring."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, isnan, log, nan
from statistics import fmean
from typing import Literal

from ptmetrics.verdict.finding import Criterion, Plain, State
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.reach import Span
from ptmetrics.verdict.two_samples import rank_sum_rank, welch

Censored = Literal["first", "second", "both"]
BOUNDS, RANK_SUM, LOG_WELCH = "evaluation bounds", "rank-sum, one-sided 95 %", "log-Welch t, 95 %"


@dataclass(frozen=True)
class Ratio(Plain):
    """Cost of the first arm over cost of the second.

    Below 1 the first is cheaper. The interval holds for the worst case within the evaluations' spacing.

    Args:
        value: Ratio of the geometric means; NaN when a run never reached the target.
        low: Lower bound; 0.0 where there is none.
        high: Upper bound; infinite where there is none.
        censored: Which arm has a run that never reached the target.
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
        bounds = [f"above {self.low:.3g}"] * (self.low > 0) + [f"below {self.high:.3g}"] * (
            self.high < inf
        )
        return f"{' and '.join(bounds) or 'unknown'} ({_CENSORED.get(self.censored or 'both')})"


def ratio_of(first: Sequence[Span], second: Sequence[Span]) -> Ratio:
    """Ratio of two arms, each one span per seed.

    Two or more seeds in each arm that all reach the target: Welch's t on the logarithms, for the worst case
    within the spacing of the evaluations. When a seed misses it: the sorted pairwise ratios at the rank that
    inverts the exact rank-sum test, where a miss counts with its bound alone. A single run in an arm: nothing but
    the bounds of the evaluations.

    Args:
        first: When each seed of the first arm reached the target.
        second: The same of the second arm.

    Source: Welch 1947; Lehmann 1963 for the inverted rank-sum test.
    """
    censored = _censored(
        any(span.censored for span in first), any(span.censored for span in second)
    )
    reasons = [_CENSORED[censored]] if censored else []
    value = nan if censored else exp(_log_mean(first) - _log_mean(second))
    if min(len(first), len(second)) > 1 and censored is None:
        method, (low, high) = LOG_WELCH, _welch_bounds(first, second)
    else:
        rank = (
            rank_sum_rank(len(first), len(second), 0.05) if min(len(first), len(second)) > 1 else 0
        )
        method, (low, high) = (
            RANK_SUM if rank else BOUNDS,
            _pairwise_bounds(first, second, max(rank, 1)),
        )
    if method == BOUNDS:
        single = len(first) == len(second) == 1
        reasons.append(
            "single run per arm, no seed interval"
            if single
            else "too few seeds for a seed interval"
        )
    if any(span.low == 0.0 for span in (*first, *second)):
        reasons.append(
            "reached at the first evaluation, so one bound is open: evaluate more often early on"
        )
    return Ratio(value, low, high, censored, method, "; ".join(reasons) or None)


_CENSORED: dict[Censored, str] = {
    "first": "a run of the first arm never reached the target",
    "second": "a run of the second arm never reached the target",
    "both": "runs of both arms never reached the target",
}


def _censored(first: bool, second: bool) -> Censored | None:
    if first and second:
        return "both"
    return "first" if first else "second" if second else None


def _log(cost: float) -> float:
    return log(cost) if cost > 0 else -inf


def _log_mean(spans: Sequence[Span]) -> float:
    return fmean(_log(span.high) for span in spans)


def _pairwise_bounds(
    first: Sequence[Span], second: Sequence[Span], rank: int
) -> tuple[float, float]:
    lows = sorted(_divided(a.low, b.high) for a in first for b in second)
    highs = sorted(_divided(a.high, b.low) for a in first for b in second)
    return lows[rank - 1], highs[-rank]


def _divided(a: float, b: float) -> float:
    """A quotient of bounds: none of it is 0, and over nothing, or of something infinite, it is open."""
    if a == 0.0:
        return 0.0
    return inf if a == inf or b == 0.0 else a / b


def _welch_bounds(first: Sequence[Span], second: Sequence[Span]) -> tuple[float, float]:
    """The widest of Welch's intervals over the corners of the spans."""
    early, late = [span.low for span in first], [span.high for span in first]
    early_other, late_other = [span.low for span in second], [span.high for span in second]
    middle = log_welch(late, late_other)
    low = min(middle[0], log_welch(early, late_other)[0]) if min(early) > 0 else 0.0
    high = max(middle[1], log_welch(late, early_other)[1]) if min(early_other) > 0 else inf
    return low, high


def log_welch(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the ratio of geometric means by Welch's t on logarithms; all costs above 0.

    Args:
        first: Costs of the seeds of the first arm, at least two.
        second: Costs of the seeds of the second arm, at least two.
    """
    low, high = welch([log(cost) for cost in first], [log(cost) for cost in second])
    return exp(low), exp(high)


def speedup(ratio: Ratio, runs: int, limits: Thresholds) -> Criterion:
    """Is the training time at least halved?

    With one run per arm the ratio must also clear the threshold by the factor `single_run_margin`.

    Args:
        ratio: Ratio of training times.
        runs: Runs in both arms together.
        limits: Named thresholds.
    """
    margin = 1.0 if ratio.seeded else limits.single_run_margin
    most, least = (ratio.high, ratio.low) if isnan(ratio.value) else (ratio.value, ratio.value)
    state: State = "undetermined"
    if ratio.high <= limits.speedup and most * margin <= limits.speedup:
        state = "met"
    elif ratio.low > limits.speedup and least / margin > limits.speedup:
        state = "failed"
    return Criterion(
        "training time ratio",
        ratio.value,
        ratio.low,
        ratio.high,
        runs,
        limits.speedup,
        "<=",
        state,
        code="speedup",
        reason=ratio.reason,
    )
