"""Gates 2 and 3 where numbers are predicted: better than their mean, R², and errors."""

from collections.abc import Iterator
from dataclasses import replace

from ptmetrics.verdict.evidence import ERRORS, Evidence
from ptmetrics.verdict.finding import Bound, Criterion, decide
from ptmetrics.verdict.pages import make_finding
from ptmetrics.verdict.rule import Rule, RuleOutcome, rule

ZERO_R2 = 1e-7  # root of the rounding of float64: an R² of no more is one of 0


@rule(codes="regression-no-skill", needs="numbers")
def regression_no_skill(evidence: Evidence) -> Iterator[RuleOutcome]:
    """The model is not shown to beat always predicting the mean of the targets, whose R² is 0."""
    criterion = _held_against(evidence, "r2", 0.0, code="regression-no-skill")
    if criterion.reason is None and criterion.low <= ZERO_R2 and criterion.state != "failed":
        # To touch is enough for a threshold, not for a gain; of the mean both bounds are 0.
        criterion = replace(criterion, state="undetermined")
        if criterion.high <= ZERO_R2:
            criterion = replace(criterion, state="failed")
    yield replace(criterion, name="r2 above predicting the mean")
    message = (
        "Not shown to beat predicting the mean of the targets, whose R² is 0: "
        f"R² is {criterion.in_units()}."
    )
    if criterion.state == "failed":
        yield make_finding(criterion.code, "fail", message, criterion.facts())
    elif criterion.state == "undetermined" and criterion.reason is None:
        yield make_finding(criterion.code, "undetermined", message, criterion.facts())


@rule(codes="low-r2", needs="numbers")
def low_r2(evidence: Evidence) -> Iterator[RuleOutcome]:
    """The share of the targets' variance that is explained is shown to be too low."""
    wanted = evidence.thresholds.r2
    if wanted is None:
        return
    criterion = _held_against(evidence, "r2", wanted, code="low-r2")
    yield criterion
    if criterion.state == "failed":
        message = f"R² is too low: {criterion.in_units()}, wanted at least {wanted:.4g}."
        yield make_finding("low-r2", "fail", message, criterion.facts())


@rule(codes="high-error", needs="numbers")
def high_error(evidence: Evidence) -> Iterator[RuleOutcome]:
    """An error is shown to be larger than asked for, in the target's unit (squared for `mse`)."""
    for name in ERRORS:
        wanted = getattr(evidence.thresholds, name)
        if wanted is None:
            continue
        criterion = _held_against(evidence, name, wanted, bound="<=", code="high-error")
        yield criterion
        if criterion.state == "failed":
            message = f"{name} is too high: {criterion.in_units()}, wanted at most {wanted:.4g}."
            yield make_finding("high-error", "fail", message, criterion.facts(score=name))


def _held_against(
    evidence: Evidence, name: str, threshold: float, *, bound: Bound = ">=", code: str
) -> Criterion:
    """The criterion; open below so many samples, as these intervals rest on moments, not counts."""
    criterion = decide(name, evidence.score(name), threshold, rule=bound, code=code)
    least = evidence.thresholds.regression_support
    if 0 < criterion.n < least and criterion.reason is None:
        reason = f"under {least} samples its interval cannot be relied on"
        return replace(criterion, state="undetermined", needed_n=None, reason=reason)
    return criterion


REGRESSION_RULES: tuple[Rule, ...] = (regression_no_skill, low_r2, high_error)
