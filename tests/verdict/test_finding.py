"""Three values: what an interval decides, how many samples would settle it, and the worst of all."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_sources import share

from ptmetrics.verdict.finding import (
    Bound,
    Criterion,
    Estimate,
    Finding,
    decide,
    needed_samples,
    worst_status,
)

LAW = settings(deadline=None, max_examples=40)

FINDING = {
    severity: Finding("c", severity, "m", {}, "a")
    for severity in ("invalid", "fail", "undetermined", "warning", "info")
}


CRITERION = {
    state: Criterion("c", 0.5, 0.4, 0.6, 10, 0.5, ">=", state)
    for state in ("met", "failed", "undetermined")
}


ORDER = ["ready", "undetermined", "not ready", "invalid"]


@LAW
@given(
    st.lists(st.sampled_from(sorted(FINDING)), max_size=6),
    st.lists(st.sampled_from(sorted(CRITERION)), max_size=6),
    st.data(),
)
def test_one_more_finding_never_betters_the_verdict(
    severities: list[str], states: list[str], data: st.DataObject
) -> None:
    findings, criteria = [FINDING[s] for s in severities], [CRITERION[s] for s in states]
    before = worst_status(findings, criteria)
    after = worst_status(
        [*findings, FINDING[data.draw(st.sampled_from(sorted(FINDING)))]], criteria
    )
    assert ORDER.index(after) >= ORDER.index(before)
    if criteria:
        after = worst_status(
            findings, [*criteria, CRITERION[data.draw(st.sampled_from(sorted(CRITERION)))]]
        )
        assert ORDER.index(after) >= ORDER.index(before)


def test_nothing_at_all_is_undetermined() -> None:
    assert worst_status([], []) == "undetermined"


@LAW
@given(st.integers(0, 500), st.integers(1, 500), st.floats(0.05, 0.95))
def test_the_samples_asked_for_settle_it_and_few_less_do_not(
    hits: int, misses: int, threshold: float
) -> None:
    def state_of(n: float) -> str:
        value = hits / (hits + misses)
        made = share(value * n, n)
        return decide(
            "x", Estimate(made["value"], made["low"], made["high"], n, "wilson"), threshold
        ).state

    n = hits + misses
    made = share(hits, n)
    estimate = Estimate(made["value"], made["low"], made["high"], n, "wilson")
    needed = decide("x", estimate, threshold).needed_n
    if needed is not None and needed > n + 1:
        assert state_of(needed + 1) != "undetermined"
        assert state_of(needed - 2) == "undetermined"


def test_no_number_of_samples_settles_a_value_on_its_threshold() -> None:
    assert needed_samples(Estimate(0.85, 0.8, 0.9, 200, "wilson"), 0.85) is None


def test_more_samples_are_asked_for_than_there_are() -> None:
    assert needed_samples(Estimate(0.95, 0.84, 0.97, 1000, "wilson"), 0.85) == 1001


@pytest.mark.parametrize("bounds", [(0.1, 0.2), (0.95, 0.99)])
@pytest.mark.parametrize(("rule", "threshold"), [(">=", 0.05), ("<=", 1.0)])
def test_bounds_that_do_not_hold_the_value_decide_nothing(
    bounds: tuple[float, float], rule: Bound, threshold: float
) -> None:
    criterion = decide("x", Estimate(0.9, *bounds, 100, "wilson"), threshold, rule=rule)
    assert (criterion.state, criterion.needed_n) == ("undetermined", None)
    assert criterion.reason == "its interval does not hold its value"


def test_the_bounds_decide_and_touching_from_the_good_side_is_met() -> None:
    estimate = Estimate(0.9, 0.85, 0.95, 100, "wilson")
    assert [decide("x", estimate, t).state for t in (0.85, 0.9, 0.95, 0.951)] == [
        "met",
        "undetermined",
        "undetermined",
        "failed",
    ]
    assert [decide("x", estimate, t, rule="<=").state for t in (0.95, 0.9, 0.849)] == [
        "met",
        "undetermined",
        "failed",
    ]


def test_the_samples_asked_for_would_settle_it() -> None:
    # The bound on the side of the threshold counts, where the interval is not even.
    assert needed_samples(Estimate(0.6, 0.3, 0.7, 400, "delta-log"), 0.5) == 2516
    # The interval of R² is even on log(1 − R²), and shrinks there with the root of n.
    n, half = 400, 0.5
    for value, threshold in ((0.6, 0.5), (0.3, 0.5), (0.05, 0.0)):
        low, high = (1 - (1 - value) * math.exp(sign * half) for sign in (1, -1))
        needed = needed_samples(Estimate(value, low, high, n, "delta-log"), threshold)
        assert needed is not None
        for factor, settled in ((1.01, True), (0.99, False)):
            shrunk = half * math.sqrt(n / (factor * needed))
            bound = 1 - (1 - value) * math.exp(math.copysign(shrunk, value - threshold))
            assert ((bound >= threshold) == (value > threshold)) is settled
