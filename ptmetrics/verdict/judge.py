"""`judge`: is this fine-tune any good?"""

import os
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ptmetrics.errors import ConfigError, DataError
from ptmetrics.record.reader import read_run
from ptmetrics.verdict.evidence import (
    ERRORS,
    Evidence,
    RunLike,
    evidence_of_run,
    evidence_of_scores,
)
from ptmetrics.verdict.finding import SEVERITIES, Criterion, Finding, Skipped, Verdict, worst_status
from ptmetrics.verdict.pages import make_finding
from ptmetrics.verdict.profile import Profile, Thresholds, profile_of
from ptmetrics.verdict.rule import MISSING, Rule, RuleFunction, RuleOutcome, as_rule
from ptmetrics.verdict.rules_baseline import BASELINE_RULES, CODE, with_baseline
from ptmetrics.verdict.rules_classes import CLASS_RULES
from ptmetrics.verdict.rules_curve import CURVE_RULES
from ptmetrics.verdict.rules_loss import LOSS_RULES
from ptmetrics.verdict.rules_regression import REGRESSION_RULES
from ptmetrics.verdict.rules_seen import SEEN_RULES
from ptmetrics.verdict.rules_validity import VALIDITY_RULES

RULES: tuple[Rule, ...] = (
    *VALIDITY_RULES,
    *SEEN_RULES,
    *LOSS_RULES,
    *CLASS_RULES,
    *REGRESSION_RULES,
    *BASELINE_RULES,
    *CURVE_RULES,
)
"""The rules that come with ptmetrics, in the order of the gates: `rules=[*pm.RULES, mine]`."""
TOO_FEW = "too-few-samples"
CODES: tuple[str, ...] = tuple(dict.fromkeys(code for rule in RULES for code in rule.codes))
_INTERVALS = (
    "Intervals are two-sided 95 %, so each bound errs in 2.5 % of cases. They cover the sampling "
    "of the validation data, not other seeds and not a shift of the data."
)


@runtime_checkable
class HasScores(Protocol):
    """Scores of one evaluation, such as `pm.Scores`."""

    def to_dict(self) -> dict[str, Any]:
        """The scores as plain numbers."""


Source = str | os.PathLike[str] | RunLike | HasScores | Mapping[str, Any]


def judge(
    source: Source,
    *,
    profile: str | Path | Profile | Thresholds = "balanced",
    n: int | None = None,
    positive: int | None = None,
    select: Iterable[str] | None = None,
    ignore: Iterable[str] | None = None,
    baseline: Source | None = None,
    rules: Iterable[RuleFunction] = RULES,
) -> Verdict:
    """Hold a run or an evaluation against the thresholds of a profile.

    Args:
        source: A run folder, a log of another tool, a run that was read back, scores of one
            evaluation, or their `to_dict()`.
        profile: "balanced", "recall-first", "precision-first", "regression", a TOML file with own
            thresholds, or `Thresholds`. Which of its criteria apply is for the task to say.
        n: Validation samples, for the log of another tool that does not tell them.
        positive: Class whose precision and recall count; None for the mean over classes (class 1 of
            a binary task).
        select: Codes that count; None for all.
        ignore: Codes that do not count.
        baseline: What the source must not be worse than by more than a margin, such as the model in
            use: one source on the same validation data.
        rules: Functions from `pm.Evidence` to findings. A rule that raises an exception does not
            stop the others: it becomes the finding "rule-failed", which leaves the verdict open.

    Returns:
        The verdict: its status, a criterion for each threshold, findings in the order of the gates,
        and notes on what was judged and what could not be checked.

    Raises:
        ConfigError: If the profile, a code or the positive class is unknown, a baseline would not
            be looked at, or `n` is given for what tells its own.
        DataError: If the source or the baseline holds no scores, or a matrix that cannot be a
            confusion matrix.
        RecordError: If a run folder cannot be read.

    Example:
        >>> import ptmetrics as pm
        >>> scores = {"accuracy": {"value": 0.93, "low": 0.91, "high": 0.95, "n": 800}}
        >>> pm.judge({"scores": scores}, select=["low-accuracy"]).status
        'ready'
        >>> def enough(evidence):
        ...     if evidence.score("accuracy").n < 1000:
        ...         yield pm.Finding("few", "warning", "Fewer than 1000 samples.")
        >>> [f.code for f in pm.judge({"scores": scores}, rules=[*pm.RULES, enough]).findings]
        ['few']
    """
    chosen = profile_of(profile)
    asked = [as_rule(item) for item in rules]
    known = {TOO_FEW, *(code for item in asked for code in item.codes)}
    codes = _wanted_codes(known, select, ignore)
    if n is not None:
        source = _with_n(source, n)
    evidence = _evidence(source, positive, chosen)
    if baseline is not None:
        if CODE in known - codes:
            rule = f"the code {CODE!r} among those that count"
            cure = "Select it, or leave the baseline out."
            raise ConfigError("baseline", rule, "it left out", cure)
        evidence = with_baseline(evidence, _evidence(baseline, positive, chosen))
    findings, criteria, skipped = _apply(asked, evidence, codes, known - codes)
    if select is not None:
        skipped += _out_of_place(asked, evidence, codes)
    status = worst_status(findings, criteria)
    blocked = skipped or any(finding.severity == "undetermined" for finding in findings)
    if select is not None and not criteria and status == "undetermined" and not blocked:
        # Someone who selects rules without thresholds wants to know whether they found something.
        status = "ready"
    notes = (*evidence.notes, *_task_notes(evidence, chosen), _INTERVALS, *_not_checked(skipped))
    return Verdict(status, tuple(findings), tuple(criteria), chosen.name, notes)


def _apply(
    rules: Iterable[Rule], evidence: Evidence, wanted: set[str], unwanted: set[str]
) -> tuple[list[Finding], list[Criterion], list[tuple[str, str]]]:
    """Findings, criteria, and what was skipped and why."""
    findings: list[Finding] = []
    criteria: list[Criterion] = []
    skipped: list[tuple[str, str]] = []
    for rule in rules:
        if rule.codes and wanted.isdisjoint(rule.codes):
            continue
        if not rule.concerns(evidence):
            continue
        found: list[Finding] = []
        for outcome in _ask(rule, evidence):
            if isinstance(outcome, Skipped):
                skipped.append((rule.name, outcome.reason))
            elif outcome.code in unwanted:
                continue
            elif isinstance(outcome, Criterion):
                criteria.append(outcome)
            else:
                found.append(outcome)
        findings += sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))
    if TOO_FEW in wanted:
        findings += too_few_samples(criteria)
    return findings, criteria, skipped


def _wanted_codes(
    known: set[str], select: Iterable[str] | None, ignore: Iterable[str] | None
) -> set[str]:
    """The codes that count: those selected, or all, without those ignored."""
    wanted = set(known)
    if select is not None:
        wanted = _known_codes("select", select, known)
    if ignore is not None:
        wanted -= _known_codes("ignore", ignore, known)
    if not wanted:
        rule = "at least one code that is not ignored"
        raise ConfigError("select", rule, "none", "Ignore fewer codes.")
    return wanted


def _known_codes(name: str, codes: Iterable[str], known: set[str]) -> set[str]:
    if isinstance(codes, str):
        codes = [codes]
    given = set(codes)
    unknown = sorted(given - known)
    if unknown:
        cure = f"The codes are {', '.join(sorted(known))}; a rule of yours names its own with"
        cure = f"{cure} @pm.rule(codes=(...))."
        raise ConfigError(name, "codes of findings", ", ".join(map(repr, unknown)), cure)
    return given


def _with_n(source: Source, n: int) -> Source:
    """The log of another tool, read with the number of its validation samples.

    Raises:
        ConfigError: If it is no such log, or no number of samples.
    """
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n < 2**53:
        cure = "Pass the number of rows of the validation data."
        raise ConfigError("n", "a whole number from 1", repr(n), cure)
    path = source
    if isinstance(source, RunLike):
        path = getattr(source, "path", "")
    if isinstance(path, str | os.PathLike):
        run = read_run(path, n=n)
        if run.header.get("logged"):
            return run
    cure = "Leave n out: what is recorded tells its own."
    raise ConfigError("n", "None, except for the log of another tool", repr(n), cure)


def _evidence(source: object, positive: int | None, profile: Profile) -> Evidence:
    """What the rules will see of a source, with the thresholds to decide by."""
    evidence = replace(evidence_of(source, positive), thresholds=profile.thresholds)
    if profile.name == "regression" and not evidence.task and not evidence.classifies:
        # Someone who names the profile says what a log with nothing but losses is about.
        return replace(evidence, task="regression")
    return evidence


def evidence_of(source: object, positive: int | None = None) -> Evidence:
    """What the rules will see of a source; arguments and errors as of `judge`."""
    if isinstance(source, str | os.PathLike):
        return evidence_of_run(read_run(source), positive)
    if isinstance(source, Mapping) and "scores" in source:
        return evidence_of_scores(source, positive)
    if isinstance(source, RunLike):
        return evidence_of_run(source, positive)
    if isinstance(source, HasScores):
        return evidence_of_scores(source.to_dict(), positive)
    if isinstance(source, Mapping):
        return evidence_of_scores(source, positive)  # names what is missing
    rule = "a run or the scores of one evaluation"
    cure = "Pass a run folder, scores, or the mapping of scores.to_dict()."
    raise DataError("source", rule, type(source).__name__, cure)


def _ask(rule: Rule, evidence: Evidence) -> Iterator[RuleOutcome]:
    """What a rule says; an exception of it as a finding that leaves the verdict open."""
    try:
        outcomes = rule(evidence)
        if isinstance(outcomes, Finding | Criterion | Skipped):
            outcomes = (outcomes,)
        for outcome in outcomes:
            if not isinstance(outcome, Finding | Criterion | Skipped):
                raise TypeError(f"a rule gives pm.Finding, not {type(outcome).__name__}")
            yield outcome
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(f"{type(error).__name__}: {error}".split())
        where = f"{Path(last.filename).name}, line {last.lineno}"
        message = f"The rule {rule.name} stopped with {said} ({where}), so it was not checked."
        numbers = {"rule": rule.name, "error": said, "where": where}
        yield make_finding("rule-failed", "undetermined", message, numbers)


def too_few_samples(criteria: Iterable[Criterion]) -> list[Finding]:
    """One finding for all criteria that are open, with the samples that would settle them."""
    still_open = [criterion for criterion in criteria if criterion.state == "undetermined"]
    needed = {item.name: item.needed_n for item in still_open if item.needed_n}
    if not needed:
        return []
    more = max(item.needed_n - item.n for item in still_open if item.needed_n)
    message = f"Undecided: the interval of {', '.join(needed)} contains its threshold."
    numbers = {"needed_n": needed, "n": {item.name: item.n for item in still_open}}
    advice = f"About {more} more samples would settle it, if the values stay as they are."
    return [make_finding(TOO_FEW, "undetermined", message, numbers, advice)]


def _task_notes(evidence: Evidence, profile: Profile) -> Iterator[str]:
    """Which criteria of the profile apply, where that may surprise."""
    limits = profile.thresholds
    if evidence.regression:
        yield (
            "Numbers are predicted, not classes: R² and errors are judged, not accuracy, precision "
            "and recall."
        )
    elif profile.name == "regression" or any(getattr(limits, name) is not None for name in ERRORS):
        yield (
            "Classes are predicted, not numbers: accuracy, precision and recall are judged, not R² "
            "and errors."
        )


def _out_of_place(
    rules: Iterable[Rule], evidence: Evidence, codes: set[str]
) -> Iterator[tuple[str, str]]:
    """Selected codes that only rules about something else could raise, with the reason."""
    concerned = [rule for rule in rules if rule.concerns(evidence)]
    asked = {code for rule in concerned for code in rule.codes}
    for rule in rules:
        for code in rule.codes:
            if code in codes - asked:
                yield code, MISSING[rule.needs]


def _not_checked(skipped: Iterable[tuple[str, str]]) -> Iterator[str]:
    """One note for each reason, with the codes that it kept from being checked."""
    reasons: dict[str, list[str]] = {}
    for code, why in skipped:
        reasons.setdefault(why, []).append(code)
    for why, codes in reasons.items():
        yield f"Not checked: {', '.join(dict.fromkeys(codes))} ({why})."
