"""`compare`: what did pre-training buy, in time and in quality?"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from ptmetrics.errors import ConfigError
from ptmetrics.verdict.arms import (
    EqualTime,
    OneRun,
    arm_of,
    cost_ratio,
    default_metric,
    default_target,
    difference,
    equal_time,
    other_ratios,
    ratio_curve,
    runs_of,
    same_validation,
)
from ptmetrics.verdict.finding import Criterion, Finding, Plain
from ptmetrics.verdict.paired import Difference
from ptmetrics.verdict.profile import Profile, Thresholds, profile_of
from ptmetrics.verdict.ratio import Ratio, speedup
from ptmetrics.verdict.reach import Target
from ptmetrics.verdict.rules_compare import compare_findings, compare_notes, not_worse

Side = OneRun | Sequence[OneRun]


@dataclass(frozen=True)
class Comparison(Plain):
    """Two arms held against each other; the first is the one expected to be quicker.

    Args:
        time_ratio: Training time to the target, first over second.
        target: The level that both had to reach, such as "val/accuracy>=0.9".
        ratios: The same ratio in samples, steps, wall time and device time, where recorded.
        at_equal_time: Scores after equal training time.
        final_difference: Score at the last evaluation, first minus second; sample by sample where both are one run
            that kept the same validation samples (`paired`, and the p-value `p`), else `unpaired` says why not.
        criteria: Time at least halved; final score not worse.
        findings: "no-speedup", "scratch-is-better", "different-validation", "time-samples-disagree".
        notes: What limits the comparison.
        curve: The time ratio at 50 to 100 % of the target.
        same_validation: Whether all runs saw the same validation data; None where that is not known.
    """

    time_ratio: Ratio
    target: str
    ratios: dict[str, Ratio]
    at_equal_time: EqualTime
    final_difference: Difference
    criteria: tuple[Criterion, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    curve: tuple[dict[str, Any], ...]
    same_validation: bool | None

    def __str__(self) -> str:
        equal = self.at_equal_time
        lines = [
            f"Training time to {self.target}, first over second: {self.time_ratio}",
            *(f"  in {axis}: {ratio}" for axis, ratio in self.ratios.items()),
            f"  after {equal.time_s:.4g} s of training: {equal.first} against {equal.second}",
            f"  at the end, first less second: {self.final_difference}{_tested(self.final_difference)}",
            *(f"  {item}" for item in (*self.criteria, *self.findings)),
        ]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def compare(
    first: Side,
    second: Side,
    *,
    target: str | None = None,
    metric: str | None = None,
    hold: int = 2,
    profile: str | Path | Profile | Thresholds = "balanced",
) -> Comparison:
    """Hold two arms against each other: a fine-tuned one and one from scratch.

    Args:
        first: The arm expected to be quicker: a run folder, a run that was read back, or several (seeds).
        second: The arm that it is held against, likewise.
        target: Level to reach, such as "val/accuracy>=0.9". Default: the median over the second arm's seeds of
            its best score less one standard error; where the first arm never reaches that, the highest level
            that at least half of the seeds of both arms hold.
        metric: Score of the default target; None for the accuracy, or R² where numbers are predicted. A target names
            its own.
        hold: Evaluations in a row that must meet the target; 1 counts the first crossing.
        profile: Where the thresholds come from, as for `judge`.

    Raises:
        ConfigError: If the target cannot be read, `hold` is below 1, or the profile is unknown.
        DataError: If a run lacks the score or its training times, or is too short for a default target.
        RecordError: If a run folder cannot be read.
    """
    if isinstance(hold, bool) or not isinstance(hold, int) or hold < 1:
        raise ConfigError(
            "hold", "a whole number from 1", repr(hold), "Pass 1 to count the first crossing."
        )
    limits = profile_of(profile).thresholds
    wanted = None if target is None else Target.parse(target)
    sides = runs_of("first", first), runs_of("second", second)
    name = wanted.metric if wanted is not None else metric or default_metric((*sides[0], *sides[1]))
    arms = arm_of(sides[0], name), arm_of(sides[1], name)
    goal, notes = default_target(*arms, name, hold) if wanted is None else (wanted, [])
    runs = (*arms[0], *arms[1])
    ratio, ratios = cost_ratio(*arms, goal, hold), other_ratios(*arms, goal, hold)
    final, same = difference(*([run.last for run in arm] for arm in arms)), same_validation(runs)
    quality = not_worse(final, limits, higher_is_better=runs[-1].higher_is_better)
    return Comparison(
        time_ratio=ratio,
        target=str(goal),
        ratios=ratios,
        at_equal_time=equal_time(*arms),
        final_difference=final,
        criteria=(speedup(ratio, len(runs), limits), quality),
        findings=tuple(compare_findings(ratio, ratios, quality, same, limits)),
        notes=(*notes, *compare_notes(ratio, final, same)),
        curve=tuple(ratio_curve(*arms, goal, hold)),
        same_validation=same,
    )


def _tested(final: Difference) -> str:
    return "" if isnan(final.p) else f", p {final.p:.2g}"
