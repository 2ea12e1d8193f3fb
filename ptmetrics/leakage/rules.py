"""Gate 1, continued: rows of validation that training has seen, as `LeakageCheck` has noted them."""

from collections.abc import Iterator, Mapping
from typing import Any

import ptmetrics as pm
from ptmetrics.digits import numbers
from ptmetrics.record.events import AUDIT_NOTE
from ptmetrics.record.printable import agreeing, quantity
from ptmetrics.verdict.finding import Severity, percent
from ptmetrics.verdict.paired import Without, without_rows
from ptmetrics.verdict.rule import Page, Rule, RuleOutcome
from ptmetrics.verdict.samples import CannotPairError
from ptmetrics.verdict.stats import clopper_pearson

SCORES = ("accuracy", "balanced_accuracy", "f1/macro", "auroc", "r2", "rmse", "mae", "loss")
"""Scores that are told with and without the rows that training has seen."""
_INVALID = "warning or invalid"
_CLAIMS = {
    "leakage-id": "are known to training by their id, file or group",
    "leakage-exact": "are equal to a training sample",
    "leakage-near": "are nearly equal to a training sample",
    "val-duplicates": "are equal to an earlier row",
    "label-conflict": "are equal to a sample with another label",
}
_CODES = {
    "ids": "leakage-id",
    "groups": "leakage-id",
    "exact": "leakage-exact",
    "near": "leakage-near",
    "duplicates": "val-duplicates",
    "conflicts": "label-conflict",
}
_SEEN = (
    "Invalid where more than `leaked_share` of the validation rows are such, or where a score is "
    "shown to be better with the rows that training has seen than without them by more than "
    "`leaked_gain`; else a warning. The message tells the score without them."
)
_LEAVE_OUT = (
    "Take these samples out of the training set and train again; or leave them out of validation, "
    "and quote the score without them."
)
_AS_SERVED = (
    "Rows of training are numbered as its first epoch served them: where that is shuffled, "
    "pm.audit(train, val) tells their places in the set."
)
LEAKAGE_PAGES: Mapping[str, Page] = {
    "leakage-id": Page(
        _INVALID,
        "Samples of validation stand in the training set by their id, file or row, or belong to a "
        f"group, such as a patient, that has samples in training. {_SEEN}",
        "Split by group, so that all samples of a patient, video or user stand on one side; with "
        "attach(group=…) intervals go by group.",
        ("leaked_share", "leaked_gain"),
        why=(
            "Rows of one patient, video or user are alike, so a model can recognise whom it "
            "has seen and be wrong about everybody else."
        ),
    ),
    "leakage-exact": Page(
        _INVALID,
        "Samples of validation are equal, bit for bit as the model sees them without augmentation, "
        f"to samples of training. {_SEEN}",
        _LEAVE_OUT,
        ("leaked_share", "leaked_gain"),
        why=(
            "A model may have these rows by heart, and the score then tells of memory and "
            "not of new data."
        ),
    ),
    "leakage-near": Page(
        _INVALID,
        "Samples of validation lie far closer to a sample of training than their other neighbours "
        "let expect, as copies do that were scaled, stored again, made brighter or turned a "
        "little. At most one in 20 of those named is expected to be none. Invalid where the 95 % "
        "interval of their share lies above `leaked_share`, or where a score is shown to be better "
        "with all rows that training has seen than without them by more than `leaked_gain`; else a "
        "warning. docs/leakage.md tells what is found, how often, and what cannot be.",
        "Look at the pairs that are named. If they are the same sample, take it out of one of the "
        "sets; if they are not, leave the finding out: ignore=['leakage-near'].",
        ("leaked_share", "leaked_gain"),
        why=(
            "A model that has seen a copy needs no more than to recognise it, so the score "
            "is too good for new data."
        ),
    ),
    "val-duplicates": Page(
        "warning or info",
        "Rows of validation are equal to earlier ones. They count several times, and intervals are "
        "narrower than they should be. A warning where they are more than `leaked_share`.",
        "Keep one of each, or pass a group of each sample, so that intervals go by group.",
        ("leaked_share",),
        why=(
            "One hard or easy row that stands there many times moves the score, and the "
            "interval takes its copies for evidence."
        ),
    ),
    "label-conflict": Page(
        "warning",
        "Equal samples have different labels, within validation or in training and validation: at "
        "least one of them is wrong, so that no model can be right on both.",
        "Look at the pairs that are named and mend their labels.",
        why=(
            "Such rows put a ceiling on every score, and a model that fits one of the "
            "labels is punished for it on the other."
        ),
    ),
}


@pm.rule(codes=tuple(LEAKAGE_PAGES), page=LEAKAGE_PAGES)
def leakage(evidence: pm.Evidence) -> Iterator[RuleOutcome]:
    """Rows of validation that training has seen, and what else the last note about the split says."""
    notes = [note for note in evidence.noted(AUDIT_NOTE) if note.get("split") == evidence.split]
    for note in notes[-1:]:
        gains = _gains(evidence, note)
        for name, code in _CODES.items():
            part = note["parts"].get(name) or {}
            if "why" in part and name in ("exact", "near"):
                yield evidence.not_checked(f"{code}: NOT CHECKED, {part['why']}")
            elif part.get("rows") and code.startswith("leakage"):
                yield _leak(evidence, note, code, part, gains)
            elif part.get("rows"):
                yield _within(evidence, note, code, part)


def _leak(
    evidence: pm.Evidence,
    note: Mapping[str, Any],
    code: str,
    part: Mapping[str, Any],
    gains: Mapping[str, Without] | str,
) -> pm.Finding:
    limits = evidence.thresholds
    rows, of = part["rows"], part["of"]
    low, high = clopper_pearson(rows, of)
    shown = rows / of
    if code == "leakage-near":
        shown = low
    severity: Severity = "warning"
    claim = agreeing(rows, _CLAIMS[code])
    message = f"{rows:,} of {quantity(of, 'row')} of {note['split']} {claim}"
    message += f" ({percent(rows / of)} [{percent(low)}, {percent(high)}]): {_pairs_named(part)}"
    if "served" in str(note.get("places")):
        message += f" {_AS_SERVED}"
    numbers: dict[str, Any] = {
        "rows": rows,
        "of": of,
        "low": low,
        "high": high,
        "pairs": part["pairs"],
    }
    if isinstance(gains, str):
        message += f" The scores without them are not known: {gains}."
    else:
        numbers["without"] = {name: gain.to_dict() for name, gain in gains.items()}
        if evidence.fitted in gains:
            message += f" {_compared(evidence.fitted, gains[evidence.fitted])}"
        in_points = [gains[name] for name in ("accuracy", "r2") if name in gains]
        if any(gain.difference.low > limits.leaked_gain for gain in in_points):
            severity = "invalid"
    if shown > limits.leaked_share:
        severity = "invalid"
    return pm.Finding(code, severity, message, numbers, LEAKAGE_PAGES[code].advice)


def _compared(name: str, gain: Without) -> str:
    clean = gain.clean
    own, low, high, whole = numbers(*clean.triple, gain.value)
    text = f"Without all rows that training has seen, {name} is {own} [{low}, {high}] of "
    text += f"{clean.n:,}, in place of {whole}:"
    return f"{text} it gains {gain.difference.in_points()} by them."


def _pairs_named(part: Mapping[str, Any]) -> str:
    more = "."
    if part["rows"] > len(part["named"]):
        more = "; …"
    return "; ".join(map(str, part["named"])) + more


def _gains(evidence: pm.Evidence, note: Mapping[str, Any]) -> Mapping[str, Without] | str:
    """Scores with and without the rows that training has seen; or why they are not known."""
    found = {}
    why = "they were not measured"
    for name in SCORES:
        if name not in evidence.val:
            continue
        try:
            found[name] = without_rows(evidence.val[name], note["leaked"], note["targets"])
        except CannotPairError as error:
            why = str(error)
    return found or why


def _within(
    evidence: pm.Evidence, note: Mapping[str, Any], code: str, part: Mapping[str, Any]
) -> pm.Finding:
    rows, of = part["rows"], part["of"]
    severity: Severity = "warning"
    if code == "val-duplicates" and rows <= evidence.thresholds.leaked_share * of:
        severity = "info"
    claim = agreeing(rows, _CLAIMS[code])
    message = f"{rows:,} of {quantity(of, 'row')} of {note['split']} {claim}: {_pairs_named(part)}"
    numbers = {"rows": rows, "of": of, "pairs": part["pairs"]}
    return pm.Finding(code, severity, message, numbers, LEAKAGE_PAGES[code].advice)


LEAKAGE_RULES: tuple[Rule, ...] = (leakage,)
