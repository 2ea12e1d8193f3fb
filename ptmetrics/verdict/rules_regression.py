"""Gates 2 and 3 where numbers are predicted: better than their mean, R², and errors."""

from collections.abc import Iterator
from dataclasses import replace
from math import sqrt

import numpy as np

from ptmetrics.digits import numbers
from ptmetrics.record.printable import quantity
from ptmetrics.verdict.evidence import ERRORS, Evidence
from ptmetrics.verdict.finding import Bound, Criterion, decide, percent
from ptmetrics.verdict.pages import make_finding
from ptmetrics.verdict.rule import Rule, RuleOutcome, rule

LEAST_ROWS = 10
SHARE_OF_ONE = 0.5  # of the squared error
ZERO_R2 = 1e-7  # root of the rounding of float64: an R² of no more is one of 0


@rule(codes="regression-no-skill", needs="numbers")
def regression_no_skill(evidence: Evidence) -> Iterator[RuleOutcome]:
    """The model is not shown to beat always predicting the mean of the targets, whose R² is 0."""
    criterion = _held_against(evidence, "r2", 0.0, code="regression-no-skill")
    if (criterion.near or criterion.state == "met") and criterion.low <= ZERO_R2:
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
    elif criterion.near:
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


@rule(codes="one-row", needs="numbers")
def one_row(evidence: Evidence) -> Iterator[RuleOutcome]:
    """A single row carries half of the squared error: the error tells of it, not of the model."""
    mse = evidence.score("mse")
    if not mse.value > 0 or mse.n < LEAST_ROWS:
        return
    worst, place = _worst_row(evidence)
    share = worst**2 / (mse.value * mse.n)
    if not SHARE_OF_ONE <= share <= 1 + 1e-6:
        return
    named = "One row"
    if place is not None:
        named = f"Row {place} of the validation data"
    own, others = numbers(worst, sqrt(max(mse.value * mse.n - worst**2, 0.0) / (mse.n - 1)))
    message = (
        f"{named} carries {percent(share)} of the squared error of {quantity(mse.n, 'row')}: its error is "
        f"{own}, the root mean square of the others {others}."
    )
    yield make_finding(
        "one-row", "warning", message, {"row": place, "error": worst, "share": share}
    )


def _worst_row(evidence: Evidence) -> tuple[float, int | None]:
    """The largest error, and which row has it where the samples were kept."""
    rows = evidence.samples().rows
    if rows is not None and "error" in (rows.dtype.names or ()):
        place = int(np.argmax(np.abs(rows["error"])))
        return float(abs(rows["error"][place])), place
    return evidence.score("max_error").value, None


def _held_against(
    evidence: Evidence, name: str, threshold: float, *, bound: Bound = ">=", code: str
) -> Criterion:
    """The criterion; open below so many samples, as these intervals rest on moments, not counts."""
    criterion = decide(name, evidence.score(name), threshold, rule=bound, code=code)
    least = evidence.thresholds.regression_support
    if 0 < criterion.n < least and (criterion.near or criterion.state != "undetermined"):
        reason = f"under {least} samples its interval cannot be relied on"
        return replace(criterion, state="undetermined", needed_n=None, reason=reason)
    return criterion


REGRESSION_RULES: tuple[Rule, ...] = (regression_no_skill, low_r2, high_error, one_row)
