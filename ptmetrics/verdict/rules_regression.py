"""Gates 2 and 3 where numbers are predicted: better than their mean, R², and errors in the unit of the target."""

from collections.abc import Iterator
from dataclasses import replace

from ptmetrics.verdict.evidence import ERRORS, Evidence
from ptmetrics.verdict.finding import Bound, Criterion, Finding, decide
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.rule import Outcome, Rule, facts

ROUNDING = 1e-7  # root of the rounding of float64: an R² of no more is one of 0


def regression_no_skill(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """The model is not shown to beat always predicting the mean of the targets, whose R² is 0."""
    criterion = _held(evidence, "r2", 0.0, limits, code="regression-no-skill")
    if criterion.reason is None and criterion.low <= ROUNDING and criterion.state != "failed":
        # To touch is enough for a threshold but not for a gain; of the mean itself both bounds are 0.
        criterion = replace(
            criterion, state="failed" if criterion.high <= ROUNDING else "undetermined"
        )
    yield replace(criterion, name="r2 above predicting the mean")
    if criterion.state == "failed" or (
        criterion.state == "undetermined" and criterion.reason is None
    ):
        yield Finding(
            criterion.code,
            "fail" if criterion.state == "failed" else "undetermined",
            "Not shown to beat predicting the mean of the targets, whose R² is 0: "
            f"R² is {numbers(criterion)}.",
            facts(criterion),
            "Check that targets and predictions are in the same unit and order, and scale the targets for training.",
        )


def low_r2(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """The share of the targets' variance that is explained is shown to be too low."""
    if limits.r2 is None:
        return
    criterion = _held(evidence, "r2", limits.r2, limits, code="low-r2")
    yield criterion
    if criterion.state == "failed":
        message = f"R² is too low: {numbers(criterion)}, wanted at least {criterion.threshold:.4g}."
        advice = (
            "Train longer, unfreeze more layers, or look at the samples with the largest errors."
        )
        yield Finding("low-r2", "fail", message, facts(criterion), advice)


def high_error(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """An error is shown to be larger than what was asked for, in the unit of the target (squared for `mse`)."""
    for name in ERRORS:
        wanted = getattr(limits, name)
        if wanted is None:
            continue
        criterion = _held(evidence, name, wanted, limits, rule="<=", code="high-error")
        yield criterion
        if criterion.state == "failed":
            message = f"{name} is too high: {numbers(criterion)}, wanted at most {wanted:.4g}."
            advice = "Train longer, unfreeze more layers, or look at the samples with the largest errors."
            yield Finding("high-error", "fail", message, facts(criterion, score=name), advice)


def numbers(item: Criterion) -> str:
    """A value in its own unit with its interval and n, for a sentence."""
    return f"{item.value:.4g} [{item.low:.4g}, {item.high:.4g}] of {item.n} samples"


def _held(
    evidence: Evidence,
    name: str,
    threshold: float,
    limits: Thresholds,
    *,
    rule: Bound = ">=",
    code: str,
) -> Criterion:
    """The criterion; open below so many samples, as these intervals rest on moments and not on counts."""
    criterion = decide(name, evidence.score(name), threshold, rule=rule, code=code)
    if 0 < criterion.n < limits.regression_support and criterion.reason is None:
        reason = f"under {limits.regression_support} samples its interval cannot be relied on"
        criterion = replace(criterion, state="undetermined", needed_n=None, reason=reason)
    return criterion


RULES = (
    Rule(("regression-no-skill",), regression_no_skill, "numbers"),
    Rule(("low-r2",), low_r2, "numbers"),
    Rule(("high-error",), high_error, "numbers"),
)
