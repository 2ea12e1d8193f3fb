"""Groups of runs, each one run or several seeds of it: default target, costs, differences."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from statistics import fmean

from ptmetrics.errors import DataError
from ptmetrics.record.printable import agreeing, quantity
from ptmetrics.record.run_folder import find_runs
from ptmetrics.verdict.evidence import Evidence, RunLike
from ptmetrics.verdict.finding import Estimate, Plain
from ptmetrics.verdict.paired import Difference, paired_difference
from ptmetrics.verdict.samples import same_targets
from ptmetrics.verdict.sources import OneRun, run_behind
from ptmetrics.verdict.stats import hybrid_difference, welch
from ptmetrics.verdict.time_to_target import (
    AXES,
    BOUNDS,
    Axis,
    Ratio,
    Target,
    Trace,
    ratio_of,
)

RunGroup = tuple[Trace, ...]
WELCH, NEWCOMBE = "welch over seeds", "newcombe, unpaired"
NO_TIME = "not every run recorded the time of its training"


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
    """The runs of one side of a comparison; a folder of several, such as seeds, stands for all of them.

    Raises:
        DataError: If it holds no run.
        RecordError: If a run folder cannot be read.
    """
    given: Sequence[object] = [side]
    if isinstance(side, Sequence) and not isinstance(side, str):
        given = side
    given = [run for each in given for run in _found_at(each)]
    if not given:
        got = "an empty sequence"
        raise DataError(name, "a run, or a sequence of runs", got, "Pass at least one run.")
    runs: list[RunLike] = []
    for each in given:
        run = run_behind(each)
        if run is None:
            cure = (
                "Pass run folders, logs, monitors or histories: scores alone tell of no training."
            )
            raise DataError(name, "a run, or a sequence of runs", type(each).__name__, cure)
        runs.append(run)
    return runs


def _found_at(source: object) -> Sequence[object]:
    if isinstance(source, str | os.PathLike):
        return find_runs(source)
    return [source]


def default_target(first: RunGroup, second: RunGroup, metric: str, hold: int) -> tuple[Target, str]:
    """The level that a comparison is about when none is named, and a note on how it came about.

    The highest that every run of both groups holds for `hold` evaluations, so that none of them is
    censored. The median best score less one standard error is missed by half of the seeds by
    definition.

    Raises:
        DataError: If a run has fewer evaluations than `hold`.
    """
    runs = (*first, *second)
    for run in runs:
        if len(run.scores) < hold:
            cure = "Train for more epochs, pass hold=1, or name a target."
            raise DataError("run", f"at least {hold} evaluations", str(len(run.scores)), cure)
    held = [run.sustained(hold) for run in runs]
    target = Target(metric, ">=", min(held))
    if not second[0].higher_is_better:
        target = Target(metric, "<=", max(held))
    note = (
        f"No target was named: it is {target}, the level that every one of the {len(runs)} runs "
        f"holds for {hold} evaluations in a row."
    )
    return target, note


def unresolved(first: RunGroup, second: RunGroup, target: Target) -> str | None:
    """Why the validation sets cannot tell when the target was reached; None where they can.

    With several seeds an arm the spread of their times tells. With one run an arm nothing does: the
    noise of a third of its evaluations would move the crossing.
    """
    if min(len(first), len(second)) > 1:
        return None
    for run in (*first, *second):
        near = run.near(target)
        if 3 * near >= len(run.scores):
            return (
                f"{near} of {quantity(len(run.scores), 'evaluation')} of one run "
                f"{agreeing(near, 'lie within one standard error of the target')}: "
                f"{quantity(run.last.n, 'validation sample')} and one run an arm cannot tell "
                "when it was reached; train several seeds, or validate on more"
            )
    return None


def cost_ratio(
    first: RunGroup, second: RunGroup, target: Target, hold: int, axis: Axis = "time"
) -> Ratio:
    """Cost of reaching the target, first group over second."""
    if not all(axis in run.costs for run in (*first, *second)):
        return Ratio(nan, 0.0, inf, None, BOUNDS, NO_TIME)
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
    if not all("time" in run.costs for run in (*first, *second)):
        unknown = Estimate(reason=NO_TIME)
        return EqualTime(nan, unknown, unknown, Difference(reason=NO_TIME))
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
