"""Criteria that are open: how many more samples of what would settle them, or what is missing."""

from collections.abc import Iterable, Iterator
from math import ceil, isfinite
from typing import Any

from ptmetrics.digits import numbers as numbers_of
from ptmetrics.record.foreign_epochs import ONLY_SHARES
from ptmetrics.record.printable import quantity
from ptmetrics.verdict.evidence import Evidence
from ptmetrics.verdict.finding import Criterion, Finding
from ptmetrics.verdict.followed import LIKE_A_LOSS
from ptmetrics.verdict.pages import make_finding

TOO_FEW = "too-few-samples"
UNMEASURED = "not-measured"
SAY_HOW_MANY = (
    "The log does not tell how many samples stand behind its values: say how many were validated, "
    "judge(…, n=1500) or --n 1500, or record the run with a Monitor."
)
WHAT_HAS_INTERVALS = (
    "Record the run with a Monitor, which gives each score an interval, or hold a share of samples "
    "against a level of yours, such as check --target 'val/accuracy>=…'."
)


def open_criteria(criteria: Iterable[Criterion], evidence: Evidence) -> Iterator[Finding]:
    """What is to be done about criteria that are open: how many more samples of what, or what is missing."""
    still_open = [item for item in criteria if item.state == "undetermined"]
    near = [item for item in still_open if item.near]
    if near:
        yield _too_few(near, evidence)
    rest = [item for item in still_open if item not in near]
    recorded = [name for name, item in evidence.val.items() if isfinite(item.value)]
    if rest and recorded:
        reasons: dict[str, list[str]] = {}
        for item in rest:
            reason = item.reason or "its interval does not tell"
            if item.not_recorded:
                reason = "not recorded"
            reasons.setdefault(reason, []).append(item.name)
        told = "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())
        numbers = {"reasons": {item.name: item.reason for item in rest}}
        advice = None
        if list(reasons) == ["not recorded"]:
            first = next((name for name in recorded if name not in LIKE_A_LOSS), recorded[0])
            sign = ">="
            if evidence.curves.rises(f"val/{first}") is False:
                sign = "<="
            advice = (
                f"Hold what was recorded against a level of yours, such as check --target "
                f"'val/{first}{sign}…', or choose another --profile."
            )
        elif any(_of_precision(item) for item in rest) and evidence.never_predicted:
            advice = _never_predicted(evidence)
        elif evidence.values_without_n:
            advice = SAY_HOW_MANY
        elif ONLY_SHARES in reasons:
            advice = WHAT_HAS_INTERVALS
        yield make_finding(UNMEASURED, "undetermined", f"Undecided: {told}.", numbers, advice)


def _too_few(criteria: Iterable[Criterion], evidence: Evidence) -> Finding:
    """One finding for all criteria whose interval contains the threshold."""
    numbers: dict[str, Any] = {"needed_n": {}, "more_rows": {}, "n": {}}
    parts = []
    needs: list[tuple[int, str, str]] = []  # rows, which of them count, of which criterion
    silent = bool(evidence.never_predicted)
    advice = ""
    for item in criteria:
        value, low, high, _ = numbers_of(*item.triple, item.threshold)
        parts.append(f"{item.name} {value} [{low}, {high}]")
        parts[-1] += f", {_gap_text(item)} {item.threshold:.4g}"
        numbers["n"][item.name] = item.n
        if silent and _of_precision(item):
            advice = _never_predicted(evidence)
            continue
        if not item.needed_n:
            continue
        more = item.needed_n - item.n
        rows = _rows_for(more, item, evidence)
        numbers["needed_n"][item.name] = item.needed_n
        numbers["more_rows"][item.name] = rows
        of_them = ""
        if rows != more:
            of_them = f", {more:,} of them {_of_class(item.name)}"
        needs.append((rows, of_them, item.name))
    message = f"Undecided: the interval contains its threshold: {'; '.join(parts)}."
    if needs:
        needs.sort(key=lambda need: -need[0])
        most, of_them, _ = needs[0]
        if of_them:
            of_them += ","
        of_what = quantity(most, "row").partition(" ")[2]
        what = "it"
        if advice:
            what = needs[0][2]
            advice += " "
        advice += (
            f"About {most:,} more {of_what}{of_them} would settle {what} in four of five cases, if the "
            "values are what they seem."
        )
        if len(needs) > 1:
            each = "; ".join(f"{name}: {rows:,}{of}" for rows, of, name in needs)
            advice += f" For each alone: {each}."
    elif not advice:
        advice = (
            "The value lies on the threshold, so no number of samples is likely to settle it: ask "
            "for less, or improve the model."
        )
    return make_finding(TOO_FEW, "undetermined", message, numbers, advice)


def _gap_text(item: Criterion) -> str:
    """How far the value lies from its threshold, and on which side."""
    gap = item.value - item.threshold
    if gap < 0:
        return f"{-gap:.2g} below"
    return f"{gap:.2g} above"


def _of_precision(item: Criterion) -> bool:
    return "precision" in item.name


def _never_predicted(evidence: Evidence) -> str:
    names = [evidence.class_name(label) for label in evidence.never_predicted]
    told, its = f"Class {names[0]} is", "its"
    if len(names) > 1:
        told, its = f"{len(names)} classes, first {names[0]}, are", "their"
    return (
        f"{told} never predicted, so that more rows do not settle {its} precision: weight the loss "
        "by class or draw it more often in training, or ask pm.advise_threshold(run, label=…) for a "
        "threshold."
    )


def _rows_for(more: int, item: Criterion, evidence: Evidence) -> int:
    """How many rows hold so many of what the score is a share of, as they do today."""
    total = 0
    if evidence.confusion is not None:
        total = int(evidence.confusion.sum())
    if not total or not item.n or total <= item.n or " of class " not in item.name:
        return more
    return ceil(more * total / item.n)


def _of_class(name: str) -> str:
    """What the share of a class is a share of."""
    score, _, named = name.partition(" of class ")
    if score == "precision":
        return f"predicted as class {named}"
    return f"of class {named}"
