"""Groups of runs, each one run or several seeds of it: default target, costs, differences."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean, median_low

from ptmetrics.errors import DataError
from ptmetrics.record.reader import read_run
from ptmetrics.verdict.evidence import Evidence, RunLike
from ptmetrics.verdict.finding import Z95, Estimate, Plain
from ptmetrics.verdict.paired import Difference, paired_difference
from ptmetrics.verdict.samples import same_targets
from ptmetrics.verdict.stats import hybrid_difference, welch
from ptmetrics.verdict.time_to_target import AXES, Axis, Ratio, Target, Trace, ratio_of

OneRun = str | os.PathLike[str] | RunLike
RunGroup = tuple[Trace, ...]
WELCH, NEWCOMBE = "welch over seeds", "newcombe, unpaired"


@dataclass(frozen=True)
class EqualTime(Plain):
    """What both groups had reached after the same training time.

    Args:
        time_s: The time: the shortest training of all runs.
        first: Score of the first group, mean over its seeds.
        second: Score of the second group.
        difference: First minus second.
    """

    time_s: float
    first: Estimate
    second: Estimate
    difference: Difference


def runs_of(name: str, side: OneRun | Sequence[OneRun]) -> list[RunLike]:
    """The runs of one side of a comparison.

    Raises:
        DataError: If it holds no run.
        RecordError: If a run folder cannot be read.
    """
    given: Sequence[object] = [side]
    if not isinstance(side, str | os.PathLike | RunLike):
        given = list(side)
    if not given:
        got = "an empty sequence"
        raise DataError(name, "a run, or a sequence of runs", got, "Pass at least one run.")
    runs: list[RunLike] = []
    for run in given:
        if isinstance(run, str | os.PathLike):
            runs.append(read_run(run))
        elif isinstance(run, RunLike):
            runs.append(run)
        else:
            cure = "Pass run folders or runs that were read back."
            raise DataError(name, "a run, or a sequence of runs", type(run).__name__, cure)
    return runs


def default_metric(runs: Iterable[RunLike]) -> str:
    """The score that a comparison is about when none is named: R² of numbers, else the accuracy."""
    names = {name for run in runs for epoch in run.epochs for name in epoch["scores"]}
    if "val/r2" in names and "val/accuracy" not in names:
        return "val/r2"
    return "val/accuracy"


def default_target(first: RunGroup, second: RunGroup, metric: str, hold: int) -> tuple[Target, str]:
    """The level that a comparison is about when none is named, and a note on how it came about.

    The median over the second group's seeds of its best score less one standard error, but no more
    than it holds for `hold` evaluations; where the first group never reaches that, the highest
    level that at least half of the seeds of both groups hold.

    Raises:
        DataError: If a run has fewer evaluations than `hold`.

    Source: AlgoPerf (MLCommons) for the median over seeds.
    """
    for run in (*first, *second):
        if len(run.scores) < hold:
            cure = "Train for more epochs, pass hold=1, or name a target."
            raise DataError("run", f"at least {hold} evaluations", str(len(run.scores)), cure)
    # Levels with a sign, so that more is better whatever the score.
    sign = 1.0
    if not second[0].higher_is_better:
        sign = -1.0

    def at_level(signed: float) -> Target:
        if sign > 0:
            return Target(metric, ">=", signed)
        return Target(metric, "<=", -signed)

    level = at_level(median_low([sign * _best_level(run, hold) for run in second]))
    if not all(run.time_to_target(level, hold, "time").censored for run in first):
        return level, "The target is the second arm's best score less one standard error."
    held = [median_low([sign * run.sustained(hold) for run in group]) for group in (first, second)]
    note = (
        f"The first arm never held the second's level ({level.level:.4g}), so the target is what "
        "both held."
    )
    return at_level(min(held)), note


def _best_level(run: Trace, hold: int) -> float:
    """The run's best score less one standard error, but no more than it holds."""
    if run.higher_is_better:
        best = max(run.scores, key=lambda score: score.value)
    else:
        best = min(run.scores, key=lambda score: score.value)
    error = 0.0
    if best.bounded:
        error = (best.high - best.low) / (2 * Z95)
    if run.higher_is_better:
        return min(best.value - error, run.sustained(hold))
    return max(best.value + error, run.sustained(hold))


def cost_ratio(
    first: RunGroup, second: RunGroup, target: Target, hold: int, axis: Axis = "time"
) -> Ratio:
    """Cost of reaching the target, first group over second."""
    spans = [run.time_to_target(target, hold, axis) for run in first]
    others = [run.time_to_target(target, hold, axis) for run in second]
    return ratio_of(spans, others)


def other_ratios(first: RunGroup, second: RunGroup, target: Target, hold: int) -> dict[str, Ratio]:
    """The ratio on every other axis that all runs recorded."""
    ratios: dict[str, Ratio] = {}
    for axis in AXES:
        if axis != "time" and all(axis in run.costs for run in (*first, *second)):
            ratios[axis] = cost_ratio(first, second, target, hold, axis)
    return ratios


def ratio_curve(
    first: RunGroup, second: RunGroup, target: Target, hold: int
) -> list[dict[str, object]]:
    """The time ratio at 50, 55, … 100 % of the target; empty for a level up to 0."""
    if target.level <= 0:
        return []
    points: list[dict[str, object]] = []
    for step in range(50, 101, 5):
        share = step / 100
        level = target.level * share
        if target.rule == "<=":
            level = target.level / share
        eased = Target(target.metric, target.rule, level)
        ratio = cost_ratio(first, second, eased, hold).to_dict()
        known = {key: ratio[key] for key in ("value", "low", "high", "censored")}
        points.append({"target": level, **known})
    return points


def equal_time(first: RunGroup, second: RunGroup) -> EqualTime:
    """Scores of both groups at the end of the shortest training of all runs."""
    time_s = min(float(run.costs["time"][-1]) for run in (*first, *second))
    scores = [run.at("time", time_s) for run in first]
    others = [run.at("time", time_s) for run in second]
    return EqualTime(time_s, mean_score(scores), mean_score(others), difference(scores, others))


def mean_score(scores: Sequence[Estimate]) -> Estimate:
    """Mean over seeds; its interval is the mean of theirs, as all saw the same validation data."""
    reasons = [score.reason for score in scores if score.reason]
    return Estimate(
        fmean(score.value for score in scores),
        fmean(score.low for score in scores),
        fmean(score.high for score in scores),
        min(score.n for score in scores),
        scores[0].method,
        next(iter(reasons), None),
    )


def difference(first: Sequence[Estimate], second: Sequence[Estimate]) -> Difference:
    """First minus second, each side one score or one for each seed.

    Sample by sample where all are scores of the same samples; with the spread of seeds where both
    have two or more. Else Welch's t over seeds alone, or Newcombe's hybrid, which takes the two as
    independent: too wide, where they saw the same samples.
    """
    found = paired_difference(first, second)
    if isinstance(found, Difference):
        return found
    mean = mean_score(first)
    other = mean_score(second)
    value = mean.value - other.value
    n = min(mean.n, other.n)
    if min(len(first), len(second)) > 1 and isfinite(mean.value) and isfinite(other.value):
        low, high = welch([score.value for score in first], [score.value for score in second])
        return Difference(value, low, high, n, WELCH)
    low, high = hybrid_difference(mean.triple, other.triple)
    reason = mean.reason or other.reason
    return Difference(value, low, high, n, NEWCOMBE, reason, unpaired=found)


def same_validation(runs: Sequence[Trace] | Sequence[Evidence]) -> bool | None:
    """Whether all runs saw the same validation data; None where nothing recorded tells.

    Their fingerprints tell, else the targets of their last evaluations, in order.
    """
    fingerprints = {run.fingerprint for run in runs}
    sizes = {run.val_samples for run in runs}
    if len(fingerprints - {None}) > 1 or len(sizes - {None}) > 1:
        return False
    if None not in fingerprints:
        return True
    told = {same_targets(runs[0].samples(), run.samples()) for run in runs}
    if False in told:
        return False
    if None in told:
        return None
    return True
