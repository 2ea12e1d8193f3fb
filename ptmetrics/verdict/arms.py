"""An arm is one run or several seeds of it: its default target, its time ratio, its difference to another."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean, median_low
from typing import Protocol

from ptmetrics.errors import DataError
from ptmetrics.record.samples import Kept
from ptmetrics.verdict.finding import Z95, Estimate, Plain
from ptmetrics.verdict.paired import Difference, paired_difference
from ptmetrics.verdict.ratio import Ratio, ratio_of
from ptmetrics.verdict.reach import AXES, Axis, Target, Trace, trace
from ptmetrics.verdict.samples import same_targets
from ptmetrics.verdict.sources import RunLike, read
from ptmetrics.verdict.two_samples import hybrid_difference, welch

OneRun = str | os.PathLike[str] | RunLike
Arm = tuple[Trace, ...]


class Validated(Protocol):
    """What a run tells of its validation data."""

    @property
    def fingerprint(self) -> str | None: ...  # noqa: D102 — as in the trace
    @property
    def val_samples(self) -> int | None: ...  # noqa: D102
    @property
    def kept(self) -> Callable[[], Kept]: ...  # noqa: D102


WELCH, NEWCOMBE = "welch over seeds", "newcombe, unpaired"


@dataclass(frozen=True)
class EqualTime(Plain):
    """What both arms had reached after the same training time.

    Args:
        time_s: The time: the shortest training of all runs.
        first: Score of the first arm, mean over its seeds.
        second: Score of the second arm.
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
    runs: list[object] = [side] if isinstance(side, str | os.PathLike | RunLike) else list(side)
    if not runs:
        raise DataError(
            name, "a run, or a sequence of runs", "an empty sequence", "Pass at least one run."
        )
    return [_opened(name, run) for run in runs]


def arm_of(runs: Iterable[RunLike], metric: str) -> Arm:
    """Their traces of one score.

    Raises:
        DataError: If a run lacks the score or its training times.
    """
    return tuple(trace(run, metric) for run in runs)


def default_metric(runs: Iterable[RunLike]) -> str:
    """The score that a comparison is about when the user names none: the accuracy, R² where numbers are predicted."""
    names = {name for run in runs for epoch in run.epochs for name in epoch["scores"]}
    return "val/r2" if "val/r2" in names and "val/accuracy" not in names else "val/accuracy"


def _opened(name: str, run: object) -> RunLike:
    if isinstance(run, str | os.PathLike):
        return read(run)
    if isinstance(run, RunLike):
        return run
    cure = "Pass run folders or runs that were read back."
    raise DataError(name, "a run, or a sequence of runs", type(run).__name__, cure)


def default_target(first: Arm, second: Arm, metric: str, hold: int) -> tuple[Target, list[str]]:
    """The level that a comparison is about when the user names none, and a note on how it came about.

    The median over the second arm's seeds of its best score less one standard error, but no more than it holds
    for `hold` evaluations; where the first arm never reaches that, the highest level that at least half of the
    seeds of both arms hold.

    Raises:
        DataError: If a run has fewer evaluations than `hold`.

    Source: AlgoPerf (MLCommons) for the median over seeds; METHODS of the project.
    """
    for run in (*first, *second):
        if len(run.scores) < hold:
            cure = "Train for more epochs, pass hold=1, or name a target."
            raise DataError("run", f"at least {hold} evaluations", str(len(run.scores)), cure)
    sign = 1.0 if second[0].higher_is_better else -1.0
    level = sign * median_low([sign * _level(run, hold) for run in second])
    target = Target(metric, ">=" if sign > 0 else "<=", level)
    note = "The target is the second arm's best score less one standard error."
    if all(run.reach(target, hold, "time").censored for run in first):
        held = [median_low([sign * run.sustained(hold) for run in arm]) for arm in (first, second)]
        target = Target(metric, target.rule, sign * min(held))
        note = f"The first arm never held the second's level ({level:.4g}), so the target is what both held."
    return target, [note]


def _level(run: Trace, hold: int) -> float:
    """The run's best score less one standard error, but no more than it holds."""
    best = max(run.scores, key=lambda score: score.value if run.higher_is_better else -score.value)
    error = (best.high - best.low) / (2 * Z95) if best.bounded else 0.0
    if run.higher_is_better:
        return min(best.value - error, run.sustained(hold))
    return max(best.value + error, run.sustained(hold))


def cost_ratio(first: Arm, second: Arm, target: Target, hold: int, axis: Axis = "time") -> Ratio:
    """Cost of reaching the target, first arm over second."""
    reached = [[run.reach(target, hold, axis) for run in arm] for arm in (first, second)]
    return ratio_of(*reached)


def other_ratios(first: Arm, second: Arm, target: Target, hold: int) -> dict[str, Ratio]:
    """The ratio on every other axis that all runs recorded."""
    runs = (*first, *second)
    common = [axis for axis in AXES if axis != "time" and all(axis in run.costs for run in runs)]
    return {axis: cost_ratio(first, second, target, hold, axis) for axis in common}


def ratio_curve(first: Arm, second: Arm, target: Target, hold: int) -> list[dict[str, object]]:
    """The time ratio at 50, 55, … 100 % of the target, as it depends on the level; empty for a level up to 0."""
    if target.level <= 0:
        return []
    points: list[dict[str, object]] = []
    for step in range(50, 101, 5):
        share = step / 100
        level = target.level * share if target.rule == ">=" else target.level / share
        ratio = cost_ratio(first, second, Target(target.metric, target.rule, level), hold).to_dict()
        points.append(
            {"target": level} | {key: ratio[key] for key in ("value", "low", "high", "censored")}
        )
    return points


def equal_time(first: Arm, second: Arm) -> EqualTime:
    """Scores of both arms at the end of the shortest training of all runs."""
    time_s = min(float(run.costs["time"][-1]) for run in (*first, *second))
    early, other = ([run.at("time", time_s) for run in arm] for arm in (first, second))
    return EqualTime(time_s, mean(early), mean(other), difference(early, other))


def mean(scores: Sequence[Estimate]) -> Estimate:
    """Mean over seeds; its interval is the mean of theirs, as all saw the same validation data."""
    value, low, high = (
        fmean(column) for column in zip(*(score.triple for score in scores), strict=True)
    )
    reason = next((score.reason for score in scores if score.reason), None)
    return Estimate(value, low, high, min(score.n for score in scores), scores[0].method, reason)


def difference(first: Sequence[Estimate], second: Sequence[Estimate]) -> Difference:
    """First minus second, each side one score or one for each seed.

    Welch's t over seeds where both have two or more. Sample by sample where both are one score of the same kept
    samples. Else Newcombe's hybrid, which takes the two as independent: too wide, where they saw the same samples.
    """
    a, b = mean(first), mean(second)
    n, reason, finite = min(a.n, b.n), a.reason or b.reason, isfinite(a.value) and isfinite(b.value)
    if min(len(first), len(second)) > 1 and finite:
        low, high = welch([score.value for score in first], [score.value for score in second])
        return Difference(a.value - b.value, low, high, n, WELCH)
    single = len(first) == len(second) == 1
    found = paired_difference(first[0], second[0]) if single else "one of them is several seeds"
    if isinstance(found, Difference):
        return found
    low, high = hybrid_difference(a.triple, b.triple)
    return Difference(a.value - b.value, low, high, n, NEWCOMBE, reason, unpaired=found)


def same_validation(runs: Sequence[Validated]) -> bool | None:
    """Whether all runs saw the same validation data; None where that is not recorded and nothing speaks against it.

    Their fingerprints tell, else the targets of their last evaluations, in order.
    """
    prints, sizes = {run.fingerprint for run in runs}, {run.val_samples for run in runs}
    if len(prints - {None}) > 1 or len(sizes - {None}) > 1:
        return False
    if None not in prints:
        return True
    told = {same_targets(runs[0].kept(), run.kept()) for run in runs}
    return False if False in told else True if told == {True} else None
