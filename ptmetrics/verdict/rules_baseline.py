"""Gate 3: is the run no worse than a baseline run, such as the model that is in use?"""

from collections.abc import Iterator
from dataclasses import replace
from math import nan

from ptmetrics.digits import numbers
from ptmetrics.verdict.evidence import ERRORS, Evidence
from ptmetrics.verdict.finding import Criterion, Estimate, Skipped, decide
from ptmetrics.verdict.pages import make_finding
from ptmetrics.verdict.rule import Rule, RuleOutcome, rule
from ptmetrics.verdict.run_groups import difference, same_validation

CODE = "worse-than-baseline"
NOT_RECORDED = "Whether the run and its baseline saw the same validation data is not recorded."
UNPAIRED = "The difference to the baseline takes the two as independent, which is too wide: "


@rule(codes=(CODE, "different-validation"), needs="baseline")
def worse_than_baseline(evidence: Evidence) -> Iterator[RuleOutcome]:
    """A score that the profile judges is shown to be worse than the baseline's, beyond a margin."""
    baseline = evidence.baseline
    if baseline is None:
        return
    why = not_comparable(evidence, baseline)
    if why:
        yield make_finding(
            "different-validation",
            "invalid",
            f"The run and its baseline cannot be compared: {why}.",
            {"same_validation": False, "why": why},
            "Validate both on the same data set; as they are, nothing can be compared.",
        )
        yield Skipped(why)
        return
    pairs = list(judged_scores(evidence, baseline))
    if not pairs:
        yield Skipped("the profile holds no score against a threshold")
    for name, mine, theirs in pairs:
        criterion = _no_worse(name, mine, theirs, evidence)
        yield criterion
        if criterion.state == "failed":
            own, other = numbers(mine.value, theirs.value)
            gap, low, high = numbers(*criterion.triple)
            yield make_finding(
                CODE,
                "fail",
                f"{name} is worse than the baseline's: {own} against {other}, difference {gap} "
                f"[{low}, {high}] (n={criterion.n:,}), tolerated is {criterion.threshold:+.4g}.",
                criterion.facts(score=name, run=mine.value, baseline=theirs.value),
            )


def _no_worse(name: str, mine: Estimate, theirs: Estimate, evidence: Evidence) -> Criterion:
    gap: Estimate = difference([mine], [theirs])
    baseline = evidence.baseline
    if baseline is not None and any(fault.judged for fault in baseline.faults):
        why = "the baseline's scores stand on less than all its data"
        gap = replace(gap, low=nan, high=nan, reason=why)
    label = f"{name} − baseline"
    if name in ERRORS:  # in any unit, so what is tolerated is relative
        most = evidence.thresholds.error_margin * theirs.value
        return decide(label, gap, most, rule="<=", code=CODE)
    return decide(label, gap, -evidence.thresholds.margin, code=CODE)


def with_baseline(evidence: Evidence, baseline: Evidence) -> Evidence:
    """The evidence with its baseline, and what is to be known of it."""
    notes = list(evidence.notes)
    if baseline.notes:
        note = baseline.notes[0]
        notes.append(f"Of the baseline: {note[0].lower()}{note[1:]}")
    if _same_data(evidence, baseline) is None:
        notes.append(NOT_RECORDED)
    if not not_comparable(evidence, baseline):
        pairs = judged_scores(evidence, baseline)
        gaps = [difference([mine], [theirs]) for _, mine, theirs in pairs]
        reasons = [gap.unpaired for gap in gaps if gap.bounded and gap.unpaired]
        notes += [f"{UNPAIRED}{why}." for why in dict.fromkeys(reasons)]
    return replace(evidence, baseline=baseline, notes=tuple(notes))


def not_comparable(evidence: Evidence, baseline: Evidence) -> str:
    """Why the two were not measured on the same validation data; empty where nothing says so."""
    if evidence.regression != baseline.regression:
        return "one predicts numbers and the other classes"
    if _other_classes(evidence.class_names, baseline.class_names):
        return "their classes differ"
    if _same_data(evidence, baseline) is False:
        return "they were validated on different data"
    return ""


def _other_classes(names: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether classes differ, or their order; classes that got no names go by their number."""
    if not names or not others:
        return False
    if len(names) != len(others):
        return True
    unnamed = tuple(map(str, range(len(names))))
    return unnamed not in {names, others} and names != others


def _same_data(evidence: Evidence, baseline: Evidence) -> bool | None:
    """Whether both saw the same validation data; None where that is not known."""
    if bool(evidence.curves) != bool(baseline.curves):
        # An evaluation tells the rows that were scored, a run those seen: the numbers may differ.
        evidence = replace(evidence, val_samples=None)
        baseline = replace(baseline, val_samples=None)
    return same_validation((evidence, baseline))


def judged_scores(
    evidence: Evidence, baseline: Evidence
) -> Iterator[tuple[str, Estimate, Estimate]]:
    """The scores that the profile holds against a threshold, of the run and of its baseline."""
    limits = evidence.thresholds
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
    for name in ("mean_iou", "dice"):
        if getattr(limits, name) is not None:
            yield name, evidence.score(name), baseline.score(name)


BASELINE_RULES: tuple[Rule, ...] = (worse_than_baseline,)
