"""`compare`: what did pre-training buy, in time and in quality? With the findings of gate 5."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isnan, nan
from typing import Any

import numpy as np

from ptmetrics.digits import numbers as numbers_of
from ptmetrics.errors import ConfigError
from ptmetrics.record.printable import printable
from ptmetrics.verdict.finding import Criterion, Estimate, Finding, Plain, decide
from ptmetrics.verdict.pages import make_finding
from ptmetrics.verdict.paired import Difference
from ptmetrics.verdict.picked import common_score
from ptmetrics.verdict.profile import ProfileLike, Thresholds, profile_of
from ptmetrics.verdict.run_groups import (
    NEWCOMBE,
    EqualTime,
    cost_ratio,
    default_target,
    difference,
    equal_time,
    other_ratios,
    ratio_curve,
    runs_of,
    same_validation,
    unresolved,
)
from ptmetrics.verdict.sources import OneRun
from ptmetrics.verdict.time_to_target import Ratio, Target, Trace, speedup, trace

COMPARISON_CODES = (
    "different-validation",
    "no-speedup",
    "scratch-is-better",
    "time-samples-disagree",
)

WORK = {"steps": "steps", "samples": "samples", "flops": "floating point operations"}
"""What is held against the clock, in words."""
DIFFERENT = "The runs were validated on different data, so they cannot be compared"


@dataclass(frozen=True)
class Comparison(Plain):
    """Two groups of runs held against each other; the first is the one expected to be quicker.

    Args:
        time_ratio: Training time to the target, first over second.
        target: The level that both had to reach, such as "val/accuracy>=0.9".
        ratios: The same ratio in samples, steps, floating point operations ("flops"), wall time
            and device time, where recorded.
        at_equal_time: Scores after equal training time.
        final_difference: Score at the last evaluation, first minus second; sample by sample where
            both are one run that kept the same validation samples (`paired`, and the p-value `p`),
            else `unpaired` says why not.
        criteria: Time at least halved; final score not worse.
        findings: "no-speedup", "scratch-is-better", "different-validation",
            "time-samples-disagree".
        notes: What limits the comparison.
        curve: The time ratio at 50 to 100 % of the target.
        same_validation: Whether all runs saw the same validation data; None where that is not
            known.
        progress: The runs of the first and of the second arm: the score with its interval at each
            evaluation, and the seconds of training until then ("time_s").

    Example:
        >>> import tempfile, torch
        >>> import ptmetrics as pm
        >>> def train(folder, errors):
        ...     target = torch.arange(200) % 2
        ...     monitor = pm.Monitor(pm.BinaryMetrics(inputs="labels"), folder)
        ...     for wrong in errors:
        ...         preds = torch.where(torch.arange(200) < wrong, 1 - target, target)
        ...         for split in ("train", "val"):
        ...             monitor.update(preds, target, split=split)
        ...         _ = monitor.end_epoch()
        ...     monitor.close()
        ...     return folder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tuned = train(f"{folder}/tuned", [10, 10, 10])
        ...     scratch = train(f"{folder}/scratch", [100, 80, 60])
        ...     comparison = pm.compare(tuned, scratch, target="val/accuracy>=0.9")
        >>> comparison.time_ratio.censored
        'second'
        >>> f"{comparison.final_difference.value:.2f}"
        '0.25'
        >>> from matplotlib.figure import Figure
        >>> comparison.plot(Figure().add_subplot()).get_xlabel()
        'seconds of training'
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
    progress: tuple[tuple[dict[str, list[float]], ...], ...] = ()

    @property
    def invalid(self) -> Finding | None:
        """What makes all of it invalid, such as other validation data; None where nothing does."""
        return next((item for item in self.findings if item.severity == "invalid"), None)

    def plot(self, ax: Any = None, names: Sequence[str] = ("first", "second")) -> Any:
        """Draw the score of both arms against the time of their training, and the target.

        Args:
            ax: Axes of matplotlib to draw in; None for new ones.
            names: What the arms are called.

        Returns:
            The axes.

        Raises:
            DependencyError: If matplotlib is not installed.
        """
        from ptmetrics.show import charts

        return charts.draw_comparison(charts.axes_of(ax), self, names)

    def _repr_html_(self) -> str:
        from ptmetrics.show.html import for_notebook

        return for_notebook("comparison", self, ("first", "second"))

    def __str__(self) -> str:
        equal = self.at_equal_time
        final = f"  at the end, first less second: {self.final_difference}"
        if not isnan(self.final_difference.p):
            final += f", p {self.final_difference.p:.2g}"
        lines = []
        if self.invalid is not None:
            lines.append(f"INVALID: {self.invalid.message}")
        lines.append(f"Training time to {self.target}, first over second: {self.time_ratio}")
        lines += [f"  in {axis}: {ratio}" for axis, ratio in self.ratios.items()]
        if not isnan(equal.time_s):
            lines.append(
                f"  after {equal.time_s:.4g} s of training: {equal.first} against {equal.second}"
            )
        lines.append(final)
        lines += [f"  {item}" for item in self.criteria]
        lines += [f"  {item}" for item in self.findings]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(map(printable, lines))


def compare(
    first: OneRun | Sequence[OneRun],
    second: OneRun | Sequence[OneRun],
    *,
    target: str | None = None,
    metric: str | None = None,
    hold: int = 2,
    profile: ProfileLike = "balanced",
) -> Comparison:
    """Hold two groups of runs against each other: fine-tuned ones and ones from scratch.

    Args:
        first: Those expected to be quicker: a run folder, a log, a monitor, a history, a run that
            was read back, several of them (seeds), or a folder with several.
        second: Those that they are held against, likewise.
        target: Level to reach, such as "val/accuracy>=0.9". Default: the highest level that every
            run of both holds.
        metric: Score of the default target; None for the accuracy, R² where numbers are predicted,
            or what else all runs have. A target names its own.
        hold: Evaluations in a row that must meet the target; 1 counts the first crossing.
        profile: Where the thresholds come from, as for `judge`.

    With one run an arm the ratio has the bounds of the evaluations' spacing alone, which tell
    nothing of other seeds. What 3 and 5 seeds an arm can show stands in `docs/rules.md`.

    Raises:
        ConfigError: If the target cannot be read, `hold` is below 1, or the profile is unknown.
        DataError: If a source is no run, or a run lacks the score, or is too short for a default
            target.
        RecordError: If a run folder cannot be read.

    Example:
        >>> import tempfile, torch
        >>> import ptmetrics as pm
        >>> def train(folder, errors):
        ...     target = torch.arange(200) % 2
        ...     monitor = pm.Monitor(pm.BinaryMetrics(inputs="labels"), folder)
        ...     for wrong in errors:
        ...         preds = torch.where(torch.arange(200) < wrong, 1 - target, target)
        ...         for split in ("train", "val"):
        ...             monitor.update(preds, target, split=split)
        ...         _ = monitor.end_epoch()
        ...     monitor.close()
        ...     return folder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tuned = train(f"{folder}/tuned", [10, 10, 10])
        ...     scratch = train(f"{folder}/scratch", [100, 80, 60])
        ...     comparison = pm.compare(tuned, scratch, target="val/accuracy>=0.9")
        >>> comparison.target, comparison.time_ratio.high < 1
        ('val/accuracy>=0.9', True)
        >>> [finding.code for finding in comparison.findings]
        []
    """
    if isinstance(hold, bool) or not isinstance(hold, int) or hold < 1:
        cure = "Pass 1 to count the first crossing."
        raise ConfigError("hold", "a whole number from 1", repr(hold), cure)
    limits = profile_of(profile).thresholds
    wanted = None
    if target is not None:
        wanted = Target.parse(target)
        metric = wanted.metric
    runs = runs_of("first", first)
    other_runs = runs_of("second", second)
    name = metric or common_score([*runs, *other_runs])
    group = tuple(trace(run, name) for run in runs)
    other = tuple(trace(run, name) for run in other_runs)
    notes = []
    if wanted is None:
        wanted, note = default_target(group, other, name, hold)
        notes.append(note)
    ratio = cost_ratio(group, other, wanted, hold)
    ratios = other_ratios(group, other, wanted, hold)
    final = difference([run.last for run in group], [run.last for run in other])
    same = same_validation((*group, *other))
    blurred = unresolved(group, other, wanted)
    criteria: tuple[Criterion, ...] = (
        speedup(ratio, len(group) + len(other), limits, blurred),
        _not_worse(final, limits, higher_is_better=other[-1].higher_is_better),
    )
    notes += _comparison_notes(ratio, final, same)
    if blurred:
        notes.append(f"The target cannot be resolved: {blurred}.")
    if same is False:
        criteria = tuple(replace(item, state="undetermined", reason=DIFFERENT) for item in criteria)
        findings = [make_finding("different-validation", "invalid", f"{DIFFERENT}.", {})]
    else:
        findings = [*_comparison_findings(ratio, criteria, wanted, limits)]
        findings += _disagreeing(ratio, ratios, limits)
    return Comparison(
        time_ratio=ratio,
        target=str(wanted),
        ratios=ratios,
        at_equal_time=equal_time(group, other),
        final_difference=final,
        criteria=criteria,
        findings=tuple(findings),
        notes=tuple(notes),
        curve=tuple(ratio_curve(group, other, wanted, hold)),
        same_validation=same,
        progress=(tuple(map(_progress, group)), tuple(map(_progress, other))),
    )


def _progress(run: Trace) -> dict[str, list[float]]:
    """Score and seconds of training at each evaluation; NaN where the time is not known."""
    times = run.costs.get("time", np.full(len(run.scores), nan))
    progress = {"time_s": times.tolist()}
    for name in ("value", "low", "high"):
        progress[name] = [getattr(score, name) for score in run.scores]
    return progress


def _not_worse(final: Estimate, limits: Thresholds, *, higher_is_better: bool) -> Criterion:
    """Is the first group's final score no worse than the second's, up to a margin?"""
    name = "final difference"
    if higher_is_better:
        return decide(name, final, -limits.margin, code="scratch-is-better")
    return decide(name, final, limits.margin, rule="<=", code="scratch-is-better")


def _comparison_findings(
    ratio: Ratio, criteria: Sequence[Criterion], target: Target, limits: Thresholds
) -> Iterator[Finding]:
    """What the numbers say against the first arm."""
    speed, quality = criteria
    blurred = speed.reason != ratio.reason
    if ratio.low > limits.speedup_none and not blurred:
        numbers = {
            "value": ratio.value,
            "low": ratio.low,
            "high": ratio.high,
            "threshold": limits.speedup_none,
        }
        message = _no_speedup(ratio, target, limits.speedup_none)
        yield make_finding("no-speedup", "fail", message, numbers)
    if quality.state == "failed":
        gap, low, high = numbers_of(*quality.triple)
        message = (
            f"The first arm ends worse than the second: {gap} [{low}, {high}] (n={quality.n:,}), "
            f"tolerated is {quality.threshold:+.4g}."
        )
        yield make_finding("scratch-is-better", "fail", message, quality.facts())


def _no_speedup(ratio: Ratio, target: Target, similar: float) -> str:
    """That no time was saved, in the words that the numbers bear."""
    if ratio.censored == "first":
        return (
            f"The first arm never reached {target}, or not in all of its runs, and the second did: "
            f"its training takes more than {ratio.low:.3g} times as long."
        )
    told = f"the time ratio is {ratio}, {ratio.method}"
    if ratio.low > 1:
        return f"The first arm takes longer to {target} than the second: {told}."
    if ratio.high > 1 / similar:
        return f"The first arm takes as long to {target} as the second, or longer: {told}."
    return f"The first arm takes about as long to {target} as the second: {told}."


def _disagreeing(
    ratio: Ratio, ratios: Mapping[str, Ratio], limits: Thresholds
) -> Iterator[Finding]:
    """Where work that was done and the clock tell different stories."""
    apart = {
        axis: ratios[axis].value
        for axis in WORK
        if axis in ratios
        and ratios[axis].value > 0
        # False where one is NaN.
        and abs(ratio.value / ratios[axis].value - 1.0) > limits.ratio_gap
    }
    if apart:
        told = ", ".join(f"{value:.3g} in {WORK[axis]}" for axis, value in apart.items())
        message = f"The ratio is {ratio.value:.3g} in time but {told}."
        numbers = {"time": ratio.value, **apart, "threshold": limits.ratio_gap}
        yield make_finding("time-samples-disagree", "warning", message, numbers)


def _comparison_notes(ratio: Ratio, final: Difference, same: bool | None) -> Iterator[str]:
    """What limits a comparison, in words."""
    if same is False:
        yield "Numbers of time and score are each arm's own: no conclusion follows from them."
    elif ratio.censored == "second" and 0 < ratio.high < inf:
        bound = "not shown to be less"
        if ratio.high < 1:
            bound = f"at least {100 * (1 - ratio.high):.0f} % less"
        yield f"The first arm's training time is {bound}: {ratio.reason}."
    elif ratio.reason:
        yield f"Time ratio: {ratio.reason}."
    if same is None:
        yield "Whether both arms saw the same validation data is not recorded."
    if final.paired:
        seeds = "it does not cover other training seeds"
        if final.method.endswith("seeds"):
            seeds = "it covers other training seeds too"
        yield f"The final difference is that of the same samples, one by one; {seeds}."
    elif final.method != NEWCOMBE:
        yield (
            "The final difference covers the spread of seeds, not the sampling of the validation "
            "data."
        )
    elif same is False:
        yield "The final difference is one of different data as well as of different models."
    else:
        yield (
            "The final difference takes the arms as independent, which is too wide: "
            f"{final.unpaired}."
        )
    yield (
        "The time of pre-training itself is not counted: an arm that begins with pre-trained weights "
        "is given them."
    )
