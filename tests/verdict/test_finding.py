"""Three values: what an interval decides, how many samples would settle it, and the worst of all."""

import math

import numpy as np
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
    if needed is not None:
        assert n < needed <= max(100 * n, n + 1)
        assert state_of(needed + 1) != "undetermined"


@pytest.mark.parametrize(
    ("value", "threshold"), [(0.9, 0.85), (0.75, 0.8), (0.3, 0.2), (0.97, 0.9)]
)
def test_the_samples_asked_for_settle_four_of_five_cases(value: float, threshold: float) -> None:
    made = share(round(100 * value), 100)
    needed = needed_samples(
        Estimate(*(made[k] for k in ("value", "low", "high")), 100, "wilson"), threshold
    )
    assert needed is not None
    hits = np.random.default_rng(5).binomial(needed, value, 2000)
    settled = 0
    for count in hits.tolist():
        got = share(count, needed)
        estimate = Estimate(got["value"], got["low"], got["high"], needed, "wilson")
        state = decide("x", estimate, threshold).state
        settled += state == ("met" if value > threshold else "failed")
    assert 0.76 < settled / hits.size < 0.86


def test_no_number_of_samples_settles_a_value_on_its_threshold() -> None:
    assert needed_samples(Estimate(0.85, 0.8, 0.9, 200, "wilson"), 0.85) is None
    near = decide("x", Estimate(0.8501, 0.8, 0.9, 200, "wilson"), 0.85)
    assert (near.needed_n, near.near) == (None, True)
    assert "lies on the threshold" in str(near)


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


def test_the_samples_asked_for_leave_room_for_chance() -> None:
    # An interval shrinks with the root of n; it must clear the threshold by .84 of its error too.
    room = (1 + 0.8416212335729143 / 1.959963984540054) ** 2
    estimate = Estimate(0.6, 0.45, 0.8, 400, "delta")
    assert needed_samples(estimate, 0.5) == math.ceil(400 * 1.5**2 * room)
    assert (
        needed_samples(estimate, 0.9) is not None
    )  # the bound on the side of the threshold counts
    # The interval of R² is even on log(1 − R²), and shrinks there.
    n, half = 400, 0.5
    for value, threshold in ((0.6, 0.5), (0.3, 0.5), (0.05, 0.0)):
        low, high = (1 - (1 - value) * math.exp(sign * half) for sign in (1, -1))
        needed = needed_samples(Estimate(value, low, high, n, "delta-log"), threshold)
        away = abs(math.log((1 - value) / (1 - threshold)))
        expected = math.ceil(n * (half / away) ** 2 * room)
        assert needed == (expected if expected <= 100 * n else None)


def test_no_difference_is_told_with_a_sign() -> None:
    assert Estimate(0.0, -0.0001, 0.0002, 10).in_points() == "0.0 points [0.0, 0.0]"
    assert Estimate(-0.02, -0.03, -0.01, 10).in_points() == "-2.0 points [-3.0, -1.0]"
