"""Criteria that are open: how many more samples of what would settle them, or what is missing."""

from collections.abc import Iterable, Iterator
from math import ceil, isfinite
from typing import Any

from ptmetrics.verdict.evidence import Evidence
from ptmetrics.verdict.finding import Criterion, Finding
from ptmetrics.verdict.pages import make_finding

TOO_FEW = "too-few-samples"
UNMEASURED = "not-measured"
SAY_HOW_MANY = (
    "The log does not tell how many samples stand behind its values: say how many were validated, "
    "judge(…, n=1500) or --n 1500, or record the run with a Monitor."
)


def open_criteria(criteria: Iterable[Criterion], evidence: Evidence) -> Iterator[Finding]:
    """What is to be done about criteria that are open: how many more samples of what, or what is missing."""
    still_open = [item for item in criteria if item.state == "undetermined"]
    near = [item for item in still_open if item.near]
    if near:
        yield _too_few(near, evidence)
    rest = [item for item in still_open if item not in near]
    if rest and any(isfinite(item.value) for item in evidence.val.values()):
        reasons: dict[str, list[str]] = {}
        for item in rest:
            reasons.setdefault(item.reason or "its interval does not tell", []).append(item.name)
        told = "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())
        numbers = {"reasons": {item.name: item.reason for item in rest}}
        advice = None
        if evidence.values_without_n:
            advice = SAY_HOW_MANY
        yield make_finding(UNMEASURED, "undetermined", f"Undecided: {told}.", numbers, advice)


def _too_few(criteria: Iterable[Criterion], evidence: Evidence) -> Finding:
    """One finding for all criteria whose interval contains the threshold."""
    numbers: dict[str, Any] = {"needed_n": {}, "more_rows": {}, "n": {}}
    parts = []
    most = 0
    unit = ""
    for item in criteria:
        parts.append(f"{item.name} {item.value:.4g} [{item.low:.4g}, {item.high:.4g}]")
        parts[-1] += f", threshold {item.threshold:.4g} ({item.value - item.threshold:+.2g})"
        numbers["n"][item.name] = item.n
        if not item.needed_n:
            continue
        more = item.needed_n - item.n
        rows = _rows_for(more, item, evidence)
        numbers["needed_n"][item.name] = item.needed_n
        numbers["more_rows"][item.name] = rows
        if rows > most:
            most = rows
            unit = ""
            if rows != more:
                unit = f", {more:,} of them {_of_class(item.name)},"
    message = f"Undecided: the interval contains its threshold: {'; '.join(parts)}."
    if most:
        advice = (
            f"About {most:,} more rows{unit} would settle it in four of five cases, if the values are "
            "what they seem."
        )
    else:
        advice = (
            "The value lies on the threshold, so no number of samples is likely to settle it: ask "
            "for less, or improve the model."
        )
    return make_finding(TOO_FEW, "undetermined", message, numbers, advice)


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
