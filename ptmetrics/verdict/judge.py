"""`judge`: is this fine-tune any good?"""

from __future__ import annotations  # `help(pm.judge)` then names a source in one word

import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ptmetrics.errors import ConfigError, DataError
from ptmetrics.extensions import EXTENDING_RULES, offered
from ptmetrics.verdict.evidence import ERRORS, Evidence
from ptmetrics.verdict.finding import (
    SEVERITIES,
    Criterion,
    Finding,
    Skipped,
    Verdict,
    worst_status,
)
from ptmetrics.verdict.followed import passed_over
from ptmetrics.verdict.gathering import evidence_of_run, evidence_of_scores
from ptmetrics.verdict.open_criteria import TOO_FEW, UNMEASURED, open_criteria
from ptmetrics.verdict.pages import make_finding
from ptmetrics.verdict.picked import Epoch, evidence_of_split, picked
from ptmetrics.verdict.profile import PROFILES, Profile, ProfileLike, profile_of, profile_of_run
from ptmetrics.verdict.rule import MISSING, Rule, RuleFunction, RuleOutcome, as_rule
from ptmetrics.verdict.rules_baseline import BASELINE_RULES, CODE, with_baseline
from ptmetrics.verdict.rules_classes import CLASS_RULES
from ptmetrics.verdict.rules_curve import CURVE_RULES
from ptmetrics.verdict.rules_loss import LOSS_RULES
from ptmetrics.verdict.rules_positions import POSITION_RULES
from ptmetrics.verdict.rules_regression import REGRESSION_RULES
from ptmetrics.verdict.rules_seen import SEEN_RULES
from ptmetrics.verdict.rules_validity import VALIDITY_RULES
from ptmetrics.verdict.several import judged_together
from ptmetrics.verdict.sources import Source, checked, names_of, run_or_scores, with_n

RULES: tuple[Rule, ...] = (
    *VALIDITY_RULES,
    *SEEN_RULES,
    *offered(EXTENDING_RULES),
    *LOSS_RULES,
    *CLASS_RULES,
    *REGRESSION_RULES,
    *POSITION_RULES,
    *BASELINE_RULES,
    *CURVE_RULES,
)
"""The rules that come with ptmetrics, in the order of the gates: `rules=[*pm.RULES, mine]`."""
CODES: tuple[str, ...] = tuple(
    dict.fromkeys([code for rule in RULES for code in rule.codes] + [UNMEASURED])
)
_VOCABULARY = 256  # of fewer classes tokens are tags
_INTERVALS = (
    "Intervals are two-sided 95 %, so each bound errs in 2.5 % of cases. They cover the sampling "
    "of the validation data, not other seeds and not a shift of the data."
)


def judge(
    source: Source | Sequence[Source],
    *,
    profile: ProfileLike | None = None,
    n: int | None = None,
    positive: int | None = None,
    epoch: Epoch | None = None,
    split: str = "val",
    select: Iterable[str] | None = None,
    ignore: Iterable[str] | None = None,
    baseline: Source | None = None,
    rules: Iterable[RuleFunction] | None = None,
) -> Verdict:
    """Hold a run or an evaluation against the thresholds of a profile.

    Args:
        source: A run folder, a log of another tool, a monitor, a history, a run that was read
            back; or scores of one evaluation or epoch, or their `to_dict()`. Several of these, such
            as seeds or folds, are judged together: criteria hold of the mean over them.
        profile: "balanced", "recall-first", "precision-first", "regression", "tokens", "pixels", a
            TOML file with own thresholds, `Thresholds`, or a mapping such as `{"extends": "tokens",
            "perplexity": 20}`, with what a TOML file would hold. Which of its criteria apply is for the
            task to say. None for that of the run, `Monitor(profile=…)`, else by the data: "pixels",
            "tokens" for a vocabulary, and "balanced" for all others.
        n: Validation samples, for the log of another tool that does not tell them.
        positive: Class whose precision and recall count; None for the mean over classes (class 1 of
            a binary task).
        epoch: Epoch of a run that is judged, counted from 0, "best" or "last"; None for the one
            whose weights the model has at the end, else the best by a checkpoint, else the last.
        split: Split that is judged, such as "test": its last evaluation, without learning curves.
        select: Codes that count; None for all.
        ignore: Codes that do not count.
        baseline: What the source must not be worse than by more than a margin, such as the model in
            use: one source on the same validation data.
        rules: Functions from `pm.Evidence` to findings; None for `pm.RULES`. A rule that raises an exception does not
            stop the others: it becomes the finding "rule-failed", which leaves the verdict open.

    Returns:
        The verdict: its status, a criterion for each threshold, findings in the order of the gates,
        and notes on what was judged and what could not be checked.

    Raises:
        ConfigError: If the profile, a code, the positive class, the epoch or the split is unknown,
            a rule is no function, a baseline would not be looked at, or `n` is given for what tells
            its own.
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
        ['not-measured', 'few']
    """
    chosen = None
    if profile is not None:
        chosen = profile_of(profile)
    if rules is None:
        rules = RULES
    asked = _as_rules(rules)
    known = {TOO_FEW, UNMEASURED, *(code for item in asked for code in item.codes)}
    codes = _wanted_codes(known, select, ignore)
    against = None
    if baseline is not None:
        if CODE in known - codes:
            rule = f"the code {CODE!r} among those that count"
            cure = "Select it, or leave the baseline out."
            raise ConfigError("baseline", rule, "it left out", cure)
        against = _evidence(baseline, positive, chosen)

    def judge_one(one: Source) -> Verdict:
        if n is not None:
            one = with_n(one, n)
        evidence = _evidence(one, positive, chosen, epoch, split)
        if against is not None:
            evidence = with_baseline(evidence, against)
        return _verdict(evidence, asked, codes, known - codes, only=select is not None)

    if not isinstance(source, Sequence) or isinstance(source, str):
        return judge_one(source)
    if not source:
        raise DataError("source", "runs, or scores", "an empty sequence", "Pass at least one run.")
    verdicts = dict(zip(names_of(source), map(judge_one, source), strict=True))
    return judged_together(verdicts)


def _as_rules(given: Any) -> list[Rule]:
    if not isinstance(given, Iterable):
        cure = "Pass rules=[*pm.RULES, mine]."
        raise ConfigError("rules", "functions of pm.Evidence in a list", type(given).__name__, cure)
    return [as_rule(item) for item in given]


def _verdict(
    evidence: Evidence,
    rules: Sequence[Rule],
    wanted: set[str],
    unwanted: set[str],
    *,
    only: bool,
) -> Verdict:
    """What the rules say of one run; `only`: whether somebody selected codes."""
    findings, criteria, skipped = _apply(rules, evidence, wanted, unwanted)
    if only:
        skipped += _out_of_place(rules, evidence, wanted)
    status = worst_status(findings, criteria)
    blocked = skipped or any(finding.severity == "undetermined" for finding in findings)
    if only and not criteria and status == "undetermined" and not blocked:
        # Someone who selects rules without thresholds wants to know whether they found something.
        status = "ready"
    notes = (*evidence.notes, *_task_notes(evidence), _INTERVALS, *_not_checked(skipped))
    return Verdict(status, tuple(findings), tuple(criteria), evidence.profile, notes)


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
        for outcome in _ask(rule, evidence):
            if isinstance(outcome, Skipped):
                skipped.append((rule.name, outcome.reason))
            elif outcome.code in unwanted:
                continue
            elif isinstance(outcome, Criterion):
                criteria.append(outcome)
            else:
                findings.append(outcome)
    findings += [item for item in open_criteria(criteria, evidence) if item.code in wanted]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
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


def _evidence(
    source: object,
    positive: int | None,
    profile: Profile | None,
    epoch: Epoch | None = None,
    split: str = "val",
) -> Evidence:
    """What the rules will see of a source, with the thresholds to decide by."""
    found = run_or_scores(source)
    evidence = evidence_of(found, positive, epoch=epoch, split=split)
    if profile is None:
        header: Mapping[str, Any] = {}
        if not isinstance(found, Mapping):
            header = found.header
        profile = profile_of_run(header)
    notes = evidence.notes
    if profile is None:
        profile, told = _by_data(evidence)
        notes = (*notes, *told)
    evidence = replace(evidence, thresholds=profile.thresholds, profile=profile.name, notes=notes)
    if profile.name == "regression" and not evidence.task and not evidence.classifies:
        # Someone who names the profile says what a log with nothing but losses is about.
        return replace(evidence, task="regression")
    return evidence


def _by_data(evidence: Evidence) -> tuple[Profile, Sequence[str]]:
    """What a run is judged by where nobody named a profile, and a note where it is no usual one."""
    if evidence.sample_axes > 1 and "mean_iou" in evidence.val:
        name, held = "pixels", "the overlap of areas"
    elif (
        evidence.sample_axes == 1
        and "perplexity" in evidence.val
        and not 0 < len(evidence.class_names) < _VOCABULARY
    ):
        name, held = "tokens", "the perplexity"
    else:
        return PROFILES["balanced"], ()
    note = (
        f"Samples hold {name}, and no profile was named: {held} is judged, as by profile={name!r}. "
        "profile='balanced' asks for accuracy, precision and recall of their classes."
    )
    return PROFILES[name], (note,)


def evidence_of(
    source: object, positive: int | None = None, *, epoch: Epoch | None = None, split: str = "val"
) -> Evidence:
    """What the rules will see of a source; arguments and errors as of `judge`."""
    found = run_or_scores(source)
    if isinstance(found, Mapping):
        if epoch is not None or split != "val":
            cure = "Pass the run that the scores are of."
            raise ConfigError("epoch, split", "a run to choose from", "scores alone", cure)
        return evidence_of_scores(checked(found), positive)
    found = picked(found, epoch)
    if split != "val":
        return evidence_of_split(found, split, positive)
    return evidence_of_run(found, positive)


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


def _task_notes(evidence: Evidence) -> Iterator[str]:
    """Which epoch and which criteria of the profile are judged, where that may surprise."""
    limits = evidence.thresholds
    yield from passed_over(evidence)
    if evidence.regression:
        yield (
            "Numbers are predicted, not classes: R² and errors are judged, not accuracy, precision "
            "and recall."
        )
    elif evidence.profile == "regression" or any(
        getattr(limits, name) is not None for name in ERRORS
    ):
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
