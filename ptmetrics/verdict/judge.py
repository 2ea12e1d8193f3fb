"""`judge`: is this fine-tune any good?"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ptmetrics.errors import DataError
from ptmetrics.verdict.evidence import ERRORS, Evidence
from ptmetrics.verdict.finding import SEVERITIES, Criterion, Finding, Verdict, worst
from ptmetrics.verdict.profile import Profile, Thresholds, profile_of
from ptmetrics.verdict.rule import MISSING, Rule, Skipped
from ptmetrics.verdict.rules import RULES, wanted_codes
from ptmetrics.verdict.rules_no_worse import check_looked_at, with_baseline
from ptmetrics.verdict.sources import RunLike, evidence_of_run, evidence_of_scores, read

_INTERVALS = (
    "Intervals are two-sided 95 %, so each bound errs in 2.5 % of cases. They cover the sampling of the "
    "validation data, not other seeds and not a shift of the data."
)


@runtime_checkable
class HasScores(Protocol):
    """Scores of one evaluation, such as `pm.Scores`."""

    def to_dict(self) -> dict[str, Any]: ...  # noqa: D102 — as in the scores


Source = str | os.PathLike[str] | RunLike | HasScores | Mapping[str, Any]


def judge(
    source: Source,
    *,
    profile: str | Path | Profile | Thresholds = "balanced",
    positive: int | None = None,
    select: Iterable[str] | None = None,
    ignore: Iterable[str] | None = None,
    baseline: Source | None = None,
) -> Verdict:
    """Hold a run or an evaluation against the thresholds of a profile.

    Args:
        source: A run folder, a log of another tool, a run that was read back, scores of one evaluation, or
            their `to_dict()`.
        profile: "balanced", "recall-first", "precision-first", "regression", a TOML file with own thresholds, or
            `Thresholds`. Which of its criteria apply is for the task to say.
        positive: Class whose precision and recall count; None for the mean over classes (class 1 of a binary
            task).
        select: Codes that count; None for all.
        ignore: Codes that do not count.
        baseline: What the source must not be worse than by more than a margin, such as the model in use: one
            source on the same validation data.

    Returns:
        The verdict: its status, a criterion for each threshold, findings in the order of the gates, and
        notes on what was judged and what could not be checked.

    Raises:
        ConfigError: If the profile, a code or the positive class is unknown, or a baseline would not be looked at.
        DataError: If the source or the baseline holds no scores, or a matrix that cannot be a confusion matrix.
        RecordError: If a run folder cannot be read.
    """
    chosen, codes = profile_of(profile), wanted_codes(select, ignore)
    evidence = _of_task(evidence_of(source, positive), chosen)
    if baseline is not None:
        check_looked_at(codes)
        other = _of_task(evidence_of(baseline, positive), chosen)
        evidence = with_baseline(evidence, other, chosen.thresholds)
    findings, criteria, skipped = _apply(RULES, evidence, chosen.thresholds, codes)
    skipped += [] if select is None else _out_of_place(evidence, codes)
    status = worst(findings, criteria)
    if select is not None and not criteria and status == "undetermined":
        # Someone who selects rules without thresholds wants to know whether they found something.
        blocked = skipped or any(finding.severity == "undetermined" for finding in findings)
        status = "undetermined" if blocked else "ready"
    notes = (*evidence.notes, *_task_notes(evidence, chosen), _INTERVALS, *_not_checked(skipped))
    return Verdict(status, tuple(findings), tuple(criteria), chosen.name, notes)


def evidence_of(source: object, positive: int | None = None) -> Evidence:
    """What the rules will see of a source; arguments and errors as of `judge`."""
    if isinstance(source, str | os.PathLike):
        return evidence_of_run(read(source), positive)
    if isinstance(source, Mapping) and "scores" in source:
        return evidence_of_scores(source, positive)
    if isinstance(source, RunLike):
        return evidence_of_run(source, positive)
    if isinstance(source, HasScores):
        return evidence_of_scores(source.to_dict(), positive)
    if isinstance(source, Mapping):
        return evidence_of_scores(source, positive)  # names what is missing
    cure = "Pass a run folder, scores, or the mapping of scores.to_dict()."
    raise DataError("source", "a run or the scores of one evaluation", type(source).__name__, cure)


def _of_task(evidence: Evidence, profile: Profile) -> Evidence:
    """Someone who names the profile says what a log with nothing but losses is about."""
    told = evidence.task or evidence.classifies or profile.name != "regression"
    return evidence if told else replace(evidence, task="regression")


def _task_notes(evidence: Evidence, profile: Profile) -> Iterator[str]:
    """Which criteria of the profile apply, where that may surprise."""
    limits = profile.thresholds
    if evidence.regression:
        yield "Numbers are predicted, not classes: R² and errors are judged, not accuracy, precision and recall."
    elif profile.name == "regression" or any(getattr(limits, name) is not None for name in ERRORS):
        yield "Classes are predicted, not numbers: accuracy, precision and recall are judged, not R² and errors."


def _out_of_place(evidence: Evidence, codes: frozenset[str]) -> list[tuple[str, str]]:
    """Selected codes that only rules about something else could raise, with the reason."""
    asked = {code for rule in RULES if rule.concerns(evidence) for code in rule.codes}
    others = (
        (code, MISSING[rule.needs])
        for rule in RULES
        for code in rule.codes
        if code in codes - asked
    )
    return list(dict.fromkeys(others))


def _not_checked(skipped: Iterable[tuple[str, str]]) -> Iterator[str]:
    """One note for each reason, with the codes that it kept from being checked."""
    reasons: dict[str, list[str]] = {}
    for code, why in skipped:
        reasons.setdefault(why, []).append(code)
    for why, codes in reasons.items():
        yield f"Not checked: {', '.join(dict.fromkeys(codes))} ({why})."


def _apply(
    rules: Iterable[Rule], evidence: Evidence, limits: Thresholds, codes: frozenset[str]
) -> tuple[list[Finding], list[Criterion], list[tuple[str, str]]]:
    findings: list[Finding] = []
    criteria: list[Criterion] = []
    skipped: list[tuple[str, str]] = []
    for rule in rules:
        if codes.isdisjoint(rule.codes) or not rule.concerns(evidence):
            continue
        found: list[Finding] = []
        for outcome in rule.check(evidence, limits):
            if isinstance(outcome, Skipped):
                skipped.append((rule.codes[0], outcome.reason))
            elif outcome.code not in codes:
                continue
            elif isinstance(outcome, Criterion):
                criteria.append(outcome)
            else:
                found.append(outcome)
        findings += sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))
    if "too-few-samples" in codes:
        findings += too_few_samples(criteria)
    return findings, criteria, skipped


def too_few_samples(criteria: Iterable[Criterion]) -> list[Finding]:
    """One finding for all criteria that their intervals leave open, with the samples that would do."""
    still_open = [criterion for criterion in criteria if criterion.state == "undetermined"]
    settled = {item.name: item.needed_n for item in still_open if item.needed_n}
    if not settled:
        return []
    more = max(item.needed_n - item.n for item in still_open if item.needed_n)
    names = ", ".join(settled)
    return [
        Finding(
            "too-few-samples",
            "undetermined",
            f"Undecided: the interval of {names} contains its threshold.",
            {"needed_n": settled, "n": {item.name: item.n for item in still_open}},
            f"About {more} more samples would settle it, if the values stay as they are.",
        )
    ]
