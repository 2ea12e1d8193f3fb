"""Verdicts and comparisons as a person reads them: one line a criterion, then what was found and why."""

import textwrap
from collections.abc import Iterable, Iterator
from math import isinf, isnan

from ptmetrics.show.paint import Paint, plain
from ptmetrics.verdict.compare import Comparison
from ptmetrics.verdict.finding import PAGE, Criterion, Estimate, Finding, Verdict
from ptmetrics.verdict.paired import Difference
from ptmetrics.verdict.time_to_target import Ratio

MARKS = {"met": ("✓", "good"), "failed": ("✗", "bad"), "undetermined": ("?", "open")}
STYLES = {"ready": "good", "not ready": "bad", "undetermined": "open", "invalid": "bad"}
SEVERITY_STYLES = {
    "invalid": "bad",
    "fail": "bad",
    "undetermined": "open",
    "warning": "open",
    "info": "dim",
}
WIDTH = 96


def verdict_text(verdict: Verdict, paint: Paint = plain) -> str:
    """Status, criteria, findings with advice, notes."""
    status = paint(verdict.status.upper(), STYLES[verdict.status])
    lines = [f"Verdict: {status}  (profile {verdict.profile})", *_criteria(verdict.criteria, paint)]
    lines += _findings(verdict.findings, paint)
    return "\n".join([*lines, *_notes(verdict.notes, paint)])


def comparison_text(comparison: Comparison, first: str, second: str, paint: Paint = plain) -> str:
    """Time to the target, quality at equal time and in the end, criteria and findings."""
    equal = comparison.at_equal_time
    ratio = paint(ratio_text(comparison.time_ratio), "strong")
    lines = [
        f"Training time to {comparison.target}, {first} / {second}: {ratio}",
        f"  {saving(comparison.time_ratio)}",
        *(f"  the same in {axis}: {ratio_text(r)}" for axis, r in comparison.ratios.items()),
        f"After {equal.time_s:.1f} s of training each: {first} {estimate_text(equal.first)}, "
        f"{second} {estimate_text(equal.second)}",
        f"At the end: {first} − {second} = {difference_text(comparison.final_difference)}",
        *_criteria(comparison.criteria, paint),
        *_findings(comparison.findings, paint),
    ]
    return "\n".join([*lines, *_notes(comparison.notes, paint)])


def ratio_text(ratio: Ratio) -> str:
    """A ratio with its bounds, or the bound alone where an arm never got there."""
    if isnan(ratio.value):
        return str(ratio)
    high = "∞" if isinf(ratio.high) else f"{ratio.high:.2f}"
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {high}]"


def saving(ratio: Ratio) -> str:
    """The ratio as time saved, with how its interval was made."""
    how = f"({ratio.method})"
    if isnan(ratio.value):
        known = ratio.censored == "second" and not isinf(ratio.high)
        return (
            f"at least {1 - ratio.high:.0%} less training time {how}"
            if known
            else f"{ratio.reason} {how}"
        )
    least = "" if isinf(ratio.high) else f", at least {1 - ratio.high:.0%}"
    words = f"{1 - ratio.value:.0%} less" if ratio.value <= 1 else f"{ratio.value - 1:.0%} more"
    return f"{words} training time{least if 0 <= ratio.high < 1 else ''} {how}"


def estimate_text(estimate: Estimate) -> str:
    """A value with its interval."""
    if isnan(estimate.value):
        return f"undefined ({estimate.reason})"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def difference_text(final: Difference) -> str:
    """A difference with its interval, how it was told, and the p-value of no difference."""
    p = "" if isnan(final.p) else f"p {'< 0.001' if final.p < 0.001 else f'= {final.p:.3f}'}, "
    return estimate_text(final) + (f" ({p}n = {final.n:,}, {final.method})" if final.method else "")


def _criteria(criteria: Iterable[Criterion], paint: Paint) -> Iterator[str]:
    criteria = tuple(criteria)
    name_width = max([len(c.name) for c in criteria], default=0)
    for c in criteria:
        mark, style = MARKS[c.state]
        digits = _digits(c)
        number = "undefined" if isnan(c.value) else format(c.value, digits)
        high = "∞" if isinf(c.high) else format(c.high, digits)
        interval = "" if isnan(c.low) else f"[{c.low:{digits}}, {high}]"
        more = (
            f"  (settled by {c.needed_n:,} samples)"
            if c.needed_n
            else f"  ({c.reason})"
            if c.reason
            else ""
        )
        state = paint(f"{mark} {c.state:<12}", style)
        yield f"  {state} {c.name:<{name_width}}  {number:>9} {interval:<16} {c.rule} {c.threshold:g}{more}"


def _digits(criterion: Criterion) -> str:
    """Three digits after the point for shares and ratios; four in all for an error in a very small or large unit."""
    size = max(abs(criterion.value), abs(criterion.threshold))
    return ".4g" if size >= 1000 or 0 < size < 0.01 else ".3f"


def _findings(findings: Iterable[Finding], paint: Paint) -> Iterator[str]:
    findings = tuple(findings)
    for f in findings:
        first, *more = _wrapped(f.message, f"  {f.severity} {f.code}: ", indent=6)
        # Painted after wrapping: codes that cannot be seen must not count as width.
        head = f"  {paint(f.severity, SEVERITY_STYLES[f.severity])} {paint(f.code, 'strong')}"
        yield head + first.removeprefix(f"  {f.severity} {f.code}")
        yield from more
        yield from _wrapped(f.advice, "    → ")
    if findings:
        anchors = ", ".join(dict.fromkeys(f"#{f.code}" for f in findings))
        yield from (paint(line, "dim") for line in _wrapped(f"More in {PAGE}: {anchors}", "  · "))


def _notes(notes: Iterable[str], paint: Paint) -> Iterator[str]:
    for note in notes:
        yield from (paint(line, "dim") for line in _wrapped(note, "  · "))


def _wrapped(text: str, head: str, indent: int | None = None) -> list[str]:
    below = " " * (len(head) if indent is None else indent)
    return textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=below)
