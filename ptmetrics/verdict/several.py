"""Several runs judged together: the seeds or folds of one way to train."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import ceil, hypot, sqrt
from statistics import fmean, stdev

from ptmetrics.digits import number, numbers
from ptmetrics.record.printable import agreeing
from ptmetrics.verdict.finding import (
    SEVERITIES,
    Criterion,
    Estimate,
    Finding,
    Verdict,
    decide,
    worst_status,
)
from ptmetrics.verdict.open_criteria import TOO_FEW, UNMEASURED
from ptmetrics.verdict.pages import make_finding
from ptmetrics.verdict.stats import student_t_quantile

_OVER_RUNS = (
    "Intervals are two-sided 95 % and hold for the mean over runs: they cover other seeds, by "
    "Student's t over the runs, and the sampling of the validation data, but not a shift of it."
)
_NAMED = 3

Verdicts = Mapping[str, Verdict]
"""Each run's name to the verdict on it alone."""


def judged_together(verdicts: Verdicts) -> Verdict:
    """One verdict on several runs; of one run its own.

    A criterion holds of the mean over the runs. What was found in some of them is told with their
    names, at its worst.
    """
    first, *others = verdicts.values()
    if not others:
        return first
    criteria = tuple(_joint_criteria(verdicts))
    findings = (*_joint_findings(verdicts, criteria), *_still_open(criteria, len(verdicts)))
    status = worst_status(findings, criteria)
    return Verdict(status, findings, criteria, first.profile, tuple(_notes(verdicts, criteria)))


def _joint_criteria(verdicts: Verdicts) -> Iterator[Criterion]:
    by_name: dict[str, list[Criterion]] = {}
    for verdict in verdicts.values():
        for criterion in verdict.criteria:
            by_name.setdefault(criterion.name, []).append(criterion)
    for criteria in by_name.values():
        yield _joint(criteria, missing=len(verdicts) - len(criteria))


def _joint(criteria: list[Criterion], missing: int) -> Criterion:
    """The mean of a criterion over runs, held against its threshold."""
    first = criteria[0]
    joint = decide(
        first.name, mean_over_runs(criteria), first.threshold, rule=first.rule, code=first.code
    )
    joint = replace(joint, needed_n=None)  # more runs may settle it as well
    if missing:
        reason = f"{missing} of {missing + len(criteria)} runs {agreeing(missing, 'lack it')}"
        return replace(joint, state="undetermined", reason=reason)
    return joint


def mean_over_runs(criteria: list[Criterion]) -> Estimate:
    """Mean over runs; its interval adds the spread over runs to that of the samples, squared."""
    n = min(item.n for item in criteria)
    value = fmean(item.value for item in criteria)
    if len(criteria) < 2:
        return Estimate(value, n=n, reason="one run has no spread")
    seeds = _half_over_runs(criteria)
    low = value - hypot(seeds, value - fmean(item.low for item in criteria))
    high = value + hypot(seeds, fmean(item.high for item in criteria) - value)
    if all(item.high <= 1.0 for item in criteria):  # a share
        high = min(high, 1.0)
    reasons = [item.reason for item in criteria if item.state == "undetermined" and item.reason]
    return Estimate(value, low, high, n, "student over runs", next(iter(reasons), None))


def _half_over_runs(criteria: list[Criterion]) -> float:
    """Half of the interval of a mean, by the spread over runs alone."""
    runs = len(criteria)
    spread = stdev(item.value for item in criteria)
    return student_t_quantile(0.975, runs - 1) * spread / sqrt(runs)


def _joint_findings(verdicts: Verdicts, criteria: tuple[Criterion, ...]) -> Iterator[Finding]:
    """Each code once, at its worst, with the runs that it was found in.

    What a criterion decides is told where the joint one fails.
    """
    states = {criterion.code: criterion.state for criterion in criteria}
    states[TOO_FEW] = "undetermined"
    if not any(item.state == "undetermined" and item.reason for item in criteria):
        states[UNMEASURED] = "undetermined"
    found: dict[str, dict[str, Finding]] = {}
    for name, verdict in verdicts.items():
        for finding in verdict.findings:
            found.setdefault(finding.code, {}).setdefault(name, finding)
    for code, by_run in found.items():
        if states.get(code, "failed") != "failed":
            continue
        worst = min(by_run.values(), key=lambda finding: SEVERITIES.index(finding.severity))
        names = ", ".join(list(by_run)[:_NAMED])
        if len(by_run) > _NAMED:
            names += ", …"
        message = f"In {len(by_run)} of {len(verdicts)} runs ({names}): {worst.message}"
        yield replace(worst, message=message, evidence={**worst.evidence, "runs": list(by_run)})


def _still_open(criteria: tuple[Criterion, ...], runs: int) -> Iterator[Finding]:
    """One finding for all criteria whose interval over the runs contains their threshold."""
    still_open = [
        item
        for item in criteria
        if item.state == "undetermined" and item.low < item.threshold < item.high
    ]
    if still_open:
        names = ", ".join(item.name for item in still_open)
        message = f"Undecided: the interval of {names}, over {runs} runs, contains its threshold."
        numbers = {"runs": runs, "criteria": {item.name: item.facts() for item in still_open}}
        advice = f"Train more seeds, such as {_more_runs(still_open, runs)}, or validate on more."
        yield make_finding(TOO_FEW, "undetermined", message, numbers, advice)


def _more_runs(still_open: list[Criterion], runs: int) -> str:
    """How many runs would do, if values and spread stay as they are."""
    needed = runs + 2
    for item in still_open:
        distance = abs(item.value - item.threshold)
        half = item.high - item.value
        if item.value > item.threshold:
            half = item.value - item.low
        if distance > 0:
            needed = max(needed, ceil(runs * (half / distance) ** 2))
    if needed > 10 * runs:
        return "ten times as many"
    return f"{needed} in all"


def _notes(verdicts: Verdicts, criteria: tuple[Criterion, ...]) -> Iterator[str]:
    statuses = ", ".join(f"{name} {verdict.status}" for name, verdict in verdicts.items())
    yield f"{len(verdicts)} runs judged together. Each alone: {statuses}."
    for criterion in criteria:
        each = [
            item.value
            for verdict in verdicts.values()
            for item in verdict.criteria
            if item.name == criterion.name
        ]
        if len(each) > 1:
            mean, least, most = numbers(fmean(each), min(each), max(each))
            yield (
                f"{criterion.name}: mean {mean} over {len(each)} runs, standard deviation "
                f"{number(stdev(each))}, from {least} to {most}."
            )
    yield _OVER_RUNS
