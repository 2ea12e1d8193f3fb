"""Verdicts and comparisons as a person reads them: one line a criterion, then what was found."""

from collections.abc import Iterator, Sequence
from math import isnan

from ptmetrics.digits import numbers
from ptmetrics.show.paint import WIDTH, Line, Paint, Styled, plain, wrap
from ptmetrics.verdict.compare import Comparison
from ptmetrics.verdict.finding import PAGE, Criterion, Estimate, Finding, Verdict
from ptmetrics.verdict.paired import Difference
from ptmetrics.verdict.time_to_target import Ratio

MARKS = {"met": ("✓", "good"), "failed": ("✗", "bad"), "undetermined": ("?", "open")}
STYLES = {
    "ready": "good",
    "not ready": "bad",
    "undetermined": "open",
    "invalid": "bad",
    "fail": "bad",
    "warning": "open",
    "info": "dim",
}
"""How a status of a verdict, or the severity of a finding, is painted."""
MOST_ALIKE = 3
"""Findings of one code and advice that are told one by one, such as of weak classes."""


def verdict_text(verdict: Verdict, paint: Paint = plain) -> str:
    """Status, criteria, findings with advice, notes."""
    return paint.join(verdict_lines(verdict))


def verdict_lines(verdict: Verdict) -> Iterator[Line]:
    """The lines of `verdict_text`."""
    status = Styled(verdict.status.upper(), STYLES[verdict.status])
    yield ["Verdict: ", status, f"  (profile {verdict.profile})"]
    yield from _criteria_lines(verdict.criteria)
    yield from _findings_lines(verdict.findings)
    yield from _notes_lines(verdict.notes)


def comparison_text(comparison: Comparison, first: str, second: str, paint: Paint = plain) -> str:
    """Time to the target, quality at equal time and in the end, criteria and findings."""
    return paint.join(_comparison_lines(comparison, first, second))


def _comparison_lines(comparison: Comparison, first: str, second: str) -> Iterator[Line]:
    ratio = ratio_text(comparison.time_ratio)
    time = f"Training time to {comparison.target}, {first} / {second}: "
    if comparison.invalid is None:
        yield [time, Styled(ratio, "strong")]
        yield f"  {saving(comparison.time_ratio)}"
    else:
        yield [Styled("INVALID", STYLES["invalid"]), f": {comparison.invalid.message}"]
        yield f"{time}{ratio}"
    for axis, same in comparison.ratios.items():
        yield f"  the same in {axis}: {ratio_text(same)}"
    equal = comparison.at_equal_time
    one = f"{first} {estimate_text(equal.first)}"
    other = f"{second} {estimate_text(equal.second)}"
    if not isnan(equal.time_s):
        yield f"After {equal.time_s:.1f} s of training each: {one}, {other}"
    yield f"At the end: {first} − {second} = {difference_text(comparison.final_difference)}"
    yield from _criteria_lines(comparison.criteria)
    yield from _findings_lines(comparison.findings)
    yield from _notes_lines(comparison.notes)


def ratio_text(ratio: Ratio) -> str:
    """A ratio with its bounds, or the bound alone where a run never got there."""
    if isnan(ratio.value):
        return str(ratio)
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]".replace("inf", "∞")


def saved(ratio: Ratio) -> str:
    """The ratio as time saved; in its own words where it is not known."""
    if ratio.value > 1:
        return f"{100 * (ratio.value - 1):.0f} % more training time"
    if ratio.value <= 1:
        return f"{100 * (1 - ratio.value):.0f} % less training time"
    if ratio.censored == "second" and ratio.high < 1:
        return f"at least {100 * (1 - ratio.high):.0f} % less training time"
    return ratio.reason or ""


def saving(ratio: Ratio) -> str:
    """The ratio as time saved, with its bound and how its interval was made."""
    words = saved(ratio)
    if not isnan(ratio.value) and 0 <= ratio.high < 1:
        words += f", at least {100 * (1 - ratio.high):.0f} %"
    return f"{words} ({ratio.method})"


def level_text(level: float) -> str:
    """A threshold as it is asked for: few digits, as people write them."""
    if abs(level) < 1:
        return f"{level:.4g}"
    return f"{level:g}"


def estimate_text(estimate: Estimate) -> str:
    """A value with its interval."""
    if isnan(estimate.value):
        return f"undefined ({estimate.reason})"
    value, low, high = numbers(*estimate.triple)
    if isnan(estimate.low):
        return value
    return f"{value} [{low}, {high}]"


def difference_text(final: Difference) -> str:
    """A difference with its interval, how it was told, and the p-value of no difference."""
    if not final.method:
        return estimate_text(final)
    how = f"n = {final.n:,}, {final.method}"
    if final.p < 0.001:
        how = f"p < 0.001, {how}"
    elif not isnan(final.p):
        how = f"p = {final.p:.3f}, {how}"
    return f"{estimate_text(final)} ({how})"


def _criteria_lines(criteria: Sequence[Criterion]) -> Iterator[Line]:
    absent = [criterion.name for criterion in criteria if criterion.not_recorded]
    if len(absent) > 1:
        criteria = [criterion for criterion in criteria if not criterion.not_recorded]
    width = max((len(criterion.name) for criterion in criteria), default=0)
    for criterion in criteria:
        mark, style = MARKS[criterion.state]
        value, low, high, _ = numbers(*criterion.triple, criterion.threshold)
        if isnan(criterion.value):
            value = "undefined"
        interval = ""
        if not isnan(criterion.low):
            interval = f"[{low}, {high.replace('inf', '∞')}]"
        shown = f"{value:>9} {interval:<16} {criterion.rule} {level_text(criterion.threshold)}"
        more = ""
        if criterion.needed_n:
            more = f"  (settled at n = {criterion.needed_n:,})"
        elif criterion.reason:
            more = f"  ({criterion.reason})"
        state = Styled(f"{mark} {criterion.state:<12}", style)
        text = f" {criterion.name:<{width}}  {shown}"
        if len(text) + len(state.text) + len(more) + 2 <= WIDTH:
            yield ["  ", state, text, more]
        else:
            yield ["  ", state, text]
            yield from wrap(more.strip(), " " * 19, indent=19)
    if len(absent) > 1:
        yield from wrap(f"not recorded: {', '.join(absent)}", "  ? undetermined ", indent=19)


def _findings_lines(findings: Sequence[Finding]) -> Iterator[Line]:
    alike: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        key = (finding.severity, finding.code, finding.advice)
        alike.setdefault(key, []).append(finding)
    for (severity, code, advice), group in alike.items():
        messages = [finding.message for finding in group[:MOST_ALIKE]]
        if len(group) > MOST_ALIKE:
            more = len(group) - MOST_ALIKE
            messages.append(f"and {more:,} more of these; --json and an HTML report have them all.")
        for message in messages:
            # Styles are set after wrapping: what cannot be seen must not count as width.
            head = f"  {severity} {code}"
            first, *rest = wrap(message, f"{head}: ", indent=6)
            painted = Styled(severity, STYLES[severity])
            yield ["  ", painted, " ", Styled(code, "strong"), first.removeprefix(head)]
            yield from rest
        yield from wrap(advice, "    → ", indent=6)
    if findings:
        codes = ", ".join(dict.fromkeys(finding.code for finding in findings))
        # Who installed a wheel has no documents beside it.
        yield from _notes_lines([f"More by ptmetrics check --explain CODE, as in {PAGE}: {codes}"])


def _notes_lines(notes: Sequence[str]) -> Iterator[Line]:
    for note in notes:
        for line in wrap(note, "  · ", indent=4):
            yield [Styled(line, "dim")]
