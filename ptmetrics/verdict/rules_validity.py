"""Gate 1: can the numbers be trusted at all?"""

from collections.abc import Iterator, Mapping
from math import inf, isfinite, log, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from ptmetrics.digits import number
from ptmetrics.record.foreign_epochs import METHOD
from ptmetrics.record.printable import agreeing, quantity
from ptmetrics.verdict.evidence import IN_TRAINING_MODE, Counts, Evidence
from ptmetrics.verdict.finding import (
    Z95,
    Estimate,
    Finding,
    Severity,
    Skipped,
    recorded_estimate,
)
from ptmetrics.verdict.pages import PAGES, make_finding
from ptmetrics.verdict.rule import Rule, RuleOutcome, rule
from ptmetrics.verdict.rules_seen import past_the_model

Mask = npt.NDArray[np.bool_]
ORDINARY_CLASSES = 20  # each of which validation data of single rows are to hold
VOCABULARY = 1000  # more classes than that are words
EXPECTED = 10  # samples of a class whose absence is no chance
BY_CHANCE = "Nothing needs to be done where they are rare or do not occur; scores leave them out."
PERFECT = 0.9999999  # accuracy or R², at the first validation
LEAST_PERFECT = 100  # samples
_LISTED = 5
_NAN = ("nan-score", "prediction-not-finite")
_LOSSES = ("loss", "nll")
_NAN_LOSS = "non-finite-loss"


@rule(codes="not-validated")
def not_validated(evidence: Evidence) -> Iterator[RuleOutcome]:
    """Nothing was measured on validation data."""
    if not any(isfinite(item.value) for item in evidence.val.values()):
        message = "No score was measured on validation data."
        curves = evidence.curves
        if any(name.startswith("test/") for scores in curves.epochs for name in scores):
            message += " Those of the split test are judged with judge(…, split='test') or --split."
        advice = past_the_model(curves.seen_in_judged("val"))
        if any(fault.judged and fault.kind in _NAN for fault in evidence.faults):
            message += " Its rows came, and were refused, as predictions were NaN."
            advice = PAGES["non-finite"].advice
        found = {"scores": len(evidence.val)}
        yield make_finding("not-validated", "invalid", message, found, advice)


@rule(codes="non-finite")
def non_finite(evidence: Evidence) -> Iterator[RuleOutcome]:
    """A loss is NaN or infinite although it had samples, or predictions were NaN."""
    yield from _bad_values(evidence)
    lost = sorted(name for name, item in evidence.val.items() if _lost(name, item))
    if lost:
        message = f"{', '.join(lost)} on validation data is not finite."
        yield make_finding("non-finite", "invalid", message, {"scores": lost})
    # The first such epoch is the cause, those after it the consequence.
    judged = evidence.curves.judged
    for row, scores in enumerate(evidence.curves.epochs):
        odd = [name for name in scores if name.endswith(_LOSSES) and _is_odd(scores[name])]
        names = sorted(name for name in odd if _lost(name, recorded_estimate(scores[name])))
        if names and not (lost and row == judged):
            yield _not_finite_in(evidence, row, names)
            return


def _bad_values(evidence: Evidence) -> Iterator[Finding]:
    """Predictions and losses that were NaN or infinite, and so refused."""
    bad = [fault for fault in evidence.faults if fault.kind in (*_NAN, _NAN_LOSS)]
    if not bad:
        return
    judged = [fault for fault in bad if fault.judged]
    rows = [fault.words for fault in judged if fault.kind in _NAN]
    severity: Severity = "warning"
    if rows:
        severity = "invalid"
        message = f"Predictions that are judged hold NaN ({rows[0]})."
    elif judged:
        severity = "invalid"
        if isfinite(evidence.score("loss").value):
            severity = "undetermined"  # some of them
        message = f"Losses of the validation that is judged are not finite ({judged[0].words})."
    else:
        message = f"Predictions or losses turned NaN or infinite elsewhere ({bad[0].words})."
    words = [fault.words for fault in bad]
    yield make_finding("non-finite", severity, message, {"faults": words[:_LISTED]})


def _not_finite_in(evidence: Evidence, row: int, names: list[str]) -> Finding:
    epoch = evidence.curves.numbers[row]
    message = f"{', '.join(names)} of epoch {epoch + 1} is not finite."
    numbers = {"scores": names, "epoch": epoch}
    severity: Severity = "warning"
    if row <= evidence.curves.judged:
        severity = "invalid"
    return make_finding("non-finite", severity, message, numbers)


def _is_odd(score: Mapping[str, Any]) -> bool:
    value = score.get("value")
    return value is None or not isfinite(value)


def _lost(name: str, item: Estimate) -> bool:
    """Infinite, or a loss that had samples but is NaN; other scores are NaN for good reasons.

    What another tool wrote down was measured on samples, though their number is not known.
    """
    measured = item.n > 0 or item.method == METHOD
    return abs(item.value) == inf or (
        name.endswith(_LOSSES) and measured and not isfinite(item.value)
    )


@rule(codes="missing-class", needs="classes")
def missing_class(evidence: Evidence) -> Iterator[RuleOutcome]:
    """A class has no sample in the validation data, so nothing is known about it.

    Of tokens, pixels and many classes some are missing by chance, or are no class of the data at
    all, such as padding: there it is for information.
    """
    support = evidence.support
    if support is None:
        yield Skipped("no confusion matrix")
        return
    none = support == 0
    if evidence.ignored is not None and 0 <= evidence.ignored < len(support):
        none[evidence.ignored] = False
    if not none.any() or not support.any():
        return
    told = none & ~_missing_by_chance(evidence, support)
    severity: Severity = "invalid"
    advice = None
    if not told.any():
        told = none
        severity = "info"
        advice = BY_CHANCE
    absent = np.flatnonzero(told).tolist()
    yield make_finding(
        "missing-class",
        severity,
        f"{len(absent)} of {quantity(len(support), 'class')} "
        f"{agreeing(len(absent), 'have no validation sample')}: {named_classes(evidence, absent)}.",
        {"classes": absent, "n": int(support.sum())},
        advice,
    )


def _missing_by_chance(evidence: Evidence, support: Counts) -> Mask:
    """Classes that need not be found in validation data of this size.

    How often a class is to be found is its share of the training data, where that is known. The
    tokens or pixels of a sample are alike, so they count as one.
    """
    classes = len(support)
    rows = int(support.sum())
    samples = min(evidence.val_samples or rows, rows)
    several = samples < rows  # tokens or pixels
    nobody = np.zeros(classes, dtype=bool)
    if classes <= ORDINARY_CLASSES and not several:
        return nobody
    trained = evidence.train_support
    if classes > VOCABULARY:
        return ~nobody
    if trained is not None and trained.any():
        return np.asarray(samples * trained / trained.sum() < EXPECTED)
    if several:
        return np.full(classes, classes > ORDINARY_CLASSES)
    return np.full(classes, samples / classes < EXPECTED)


def named_classes(evidence: Evidence, classes: list[int]) -> str:
    """The first few of these classes by name."""
    names = ", ".join(map(evidence.class_name, classes[:_LISTED]))
    if len(classes) > _LISTED:
        names += ", …"
    return names


@rule(codes="metric-faults")
def metric_faults(evidence: Evidence) -> Iterator[RuleOutcome]:
    """Values were refused or a metric failed, so the numbers stand on less than all the data."""
    told = [fault for fault in evidence.faults if fault.kind != IN_TRAINING_MODE]
    if told:
        faults = sorted(told, key=lambda fault: fault.elsewhere)
        listed = [fault.words for fault in faults]
        severity: Severity = "undetermined"
        if faults[0].elsewhere:  # all are: what validation tells is whole
            severity = "warning"
        yield make_finding(
            "metric-faults",
            severity,
            f"{quantity(len(listed), 'kind')} of fault counted, first: {listed[0].rstrip('.')}.",
            {"faults": listed[:_LISTED], "count": len(listed)},
        )


@rule(codes=("contradiction", "damaged-record"))
def damaged_record(evidence: Evidence) -> Iterator[RuleOutcome]:
    """Lines of the journal could not be read, or say what cannot be."""
    if evidence.contradictions:
        yield make_finding(
            "contradiction",
            "invalid",
            f"The record contradicts itself: {evidence.contradictions[0]}.",
            {"count": evidence.problems, "contradictions": list(evidence.contradictions[:5])},
        )
    elif evidence.problems:
        yield make_finding(
            "damaged-record",
            "warning",
            f"{quantity(evidence.problems, 'line')} of the journal could not be read: skipped.",
            {"count": evidence.problems},
        )


@rule(codes="too-good")
def too_good(evidence: Evidence) -> Iterator[RuleOutcome]:
    """Perfect from the first validation on: such data are rare, and leaked ones are not."""
    curves = evidence.curves
    name = evidence.fitted
    rows = curves.rows(f"val/{name}")
    score = evidence.score(name)
    where = "The validation"
    if rows:
        score = curves.at(f"val/{name}", rows[0])
        where = f"The first validation, of epoch {curves.numbers[rows[0]] + 1},"
    if not score.value >= PERFECT or score.n < LEAST_PERFECT:
        return
    message = f"{where} is perfect: {name} {number(score.value)} of {quantity(score.n, 'sample')}."
    yield make_finding("too-good", "warning", message, score.facts(threshold=PERFECT, score=name))


@rule(codes="selected-on-val")
def selected_on_val(evidence: Evidence) -> Iterator[RuleOutcome]:
    """The judged epoch is the best of several, on the very data that judge it."""
    curves = evidence.curves
    name = evidence.fitted
    score = evidence.score(name)
    total = len(curves.rows(f"val/{name}"))
    if not evidence.chosen or total < 2 or not score.bounded:
        return
    error = (score.high - score.low) / (2 * Z95)
    most = error * sqrt(2 * log(total))
    message = (
        f"The judged epoch is the best of {total} on the data that judge it, so its {name} may be too "
        f"good by up to about {most:.2g}, standard error × √(2 ln {total})."
    )
    yield make_finding(
        "selected-on-val", "info", message, score.facts(score=name, epochs=total, optimism=most)
    )


VALIDITY_RULES: tuple[Rule, ...] = (
    not_validated,
    non_finite,
    missing_class,
    metric_faults,
    too_good,
    selected_on_val,
    damaged_record,
)
