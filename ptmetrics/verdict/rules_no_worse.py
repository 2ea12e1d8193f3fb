"""Gate 3: is the run no worse than a baseline run, such as the model that is in use?"""

from collections.abc import Iterator
from dataclasses import replace
from math import nan

from ptmetrics.errors import ConfigError
from ptmetrics.verdict.arms import difference, same_validation
from ptmetrics.verdict.evidence import ERRORS, Evidence
from ptmetrics.verdict.finding import Criterion, Estimate, Finding, decide
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.rule import Outcome, Rule, Skipped, facts

CODE = "worse-than-baseline"
UNKNOWN = "Whether the run and its baseline saw the same validation data is not recorded."
UNPAIRED = "The difference to the baseline takes the two as independent, which is too wide: "
Pair = tuple[str, Estimate, Estimate]


def worse_than_baseline(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """A score that the profile judges is shown to be worse than the baseline's by more than is tolerated."""
    baseline = evidence.baseline
    if baseline is None:
        return
    if why := not_comparable(evidence, baseline):
        advice = "Validate both on the same data set; as they are, nothing can be compared."
        message = f"The run and its baseline cannot be compared: {why}."
        numbers = {"same_validation": False, "why": why}
        yield Finding("different-validation", "invalid", message, numbers, advice)
        yield Skipped(why)
        return
    pairs = list(judged_scores(evidence, baseline, limits))
    if not pairs:
        yield Skipped("the profile holds no score against a threshold")
    for name, mine, theirs in pairs:
        criterion = _no_worse(name, mine, theirs, baseline, limits)
        yield criterion
        if criterion.state == "failed":
            yield _worse(name, criterion, mine, theirs)


def check_looked_at(codes: frozenset[str]) -> None:
    """Refuse a baseline that none of the codes that count is about.

    Raises:
        ConfigError: If the code was not selected, or is ignored.
    """
    if CODE not in codes:
        cure = "Select it, or leave the baseline out."
        raise ConfigError(
            "baseline", f"the code {CODE!r} among those that count", "it left out", cure
        )


def with_baseline(evidence: Evidence, baseline: Evidence, limits: Thresholds) -> Evidence:
    """The evidence with its baseline, and what is to be known of it."""
    notes = tuple(f"Of the baseline: {note[0].lower()}{note[1:]}" for note in baseline.notes[:1])
    if same_data(evidence, baseline) is None:
        notes += (UNKNOWN,)
    if not not_comparable(evidence, baseline):
        pairs = judged_scores(evidence, baseline, limits)
        gaps = [difference([mine], [theirs]) for _, mine, theirs in pairs]
        reasons = dict.fromkeys(gap.unpaired for gap in gaps if gap.bounded and gap.unpaired)
        notes += tuple(f"{UNPAIRED}{why}." for why in reasons)
    return replace(evidence, baseline=baseline, notes=(*evidence.notes, *notes))


def not_comparable(evidence: Evidence, baseline: Evidence) -> str:
    """Why the two were not measured on the same validation data; empty where nothing speaks against it."""
    if evidence.regression != baseline.regression:
        return "one predicts numbers and the other classes"
    if _other_classes(evidence.class_names, baseline.class_names):
        return "their classes differ"
    if same_data(evidence, baseline) is False:
        return "they were validated on different data"
    return ""


def _other_classes(names: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether the classes are others, or in another order; classes that were given no names go by their number."""
    if not names or not others:
        return False
    unnamed = tuple(map(str, range(len(names))))
    return len(names) != len(others) or (unnamed not in {names, others} and names != others)


def same_data(evidence: Evidence, baseline: Evidence) -> bool | None:
    """Whether both saw the same validation data; None where that is not known."""
    if (evidence.curves is None) != (baseline.curves is None):
        # An evaluation tells the rows that were scored, a run those that were seen: the numbers may differ.
        evidence, baseline = (replace(one, val_samples=None) for one in (evidence, baseline))
    return same_validation((evidence, baseline))


def judged_scores(evidence: Evidence, baseline: Evidence, limits: Thresholds) -> Iterator[Pair]:
    """The scores that the profile holds against a threshold, of the run and of its baseline."""
    if evidence.regression:
        for name in ("r2", *ERRORS):
            if getattr(limits, name) is not None:
                yield name, evidence.score(name), baseline.score(name)
        return
    if limits.accuracy is not None and evidence.task != "multilabel":
        yield "accuracy", evidence.score("accuracy"), baseline.score("accuracy")
    for name in ("precision", "recall"):
        if getattr(limits, name) is not None:
            label, mine = evidence.headline(name)
            yield label, mine, baseline.headline(name)[1]


def _no_worse(
    name: str, mine: Estimate, theirs: Estimate, baseline: Evidence, limits: Thresholds
) -> Criterion:
    gap, label = difference([mine], [theirs]), f"{name} − baseline"
    if any(fault.judged for fault in baseline.faults):
        gap = replace(
            gap, low=nan, high=nan, reason="the baseline's scores stand on less than all its data"
        )
    if name in ERRORS:  # in any unit, so what is tolerated is relative
        return decide(label, gap, limits.error_margin * theirs.value, rule="<=", code=CODE)
    return decide(label, gap, -limits.margin, code=CODE)


def _worse(name: str, criterion: Criterion, mine: Estimate, theirs: Estimate) -> Finding:
    return Finding(
        CODE,
        "fail",
        f"{name} is worse than the baseline's: {mine.value:.4g} against {theirs.value:.4g}, difference "
        f"{criterion.value:+.4g} [{criterion.low:+.4g}, {criterion.high:+.4g}] (n={criterion.n}), tolerated is "
        f"{criterion.threshold:+.4g}.",
        facts(criterion, score=name, run=mine.value, baseline=theirs.value),
        "Keep the baseline, or find out what changed between the two: data, learning rate, epochs.",
    )


RULES = (Rule((CODE, "different-validation"), worse_than_baseline, "baseline"),)
