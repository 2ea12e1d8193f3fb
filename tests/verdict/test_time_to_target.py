"""When a target was reached, and the ratio of two arms: bounds, censoring, seeds."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_sources import accuracies

from ptmetrics.errors import ConfigError
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.time_to_target import (
    BOUNDS,
    LOG_WELCH,
    RANK_SUM,
    Ratio,
    Span,
    Target,
    log_welch,
    ratio_of,
    speedup,
    trace,
)

LAW = settings(deadline=None, max_examples=40)

LIMITS = Thresholds()


def reached(values: list[float], level: float = 0.9, hold: int = 2) -> Span:
    return trace(accuracies(values), "val/accuracy").time_to_target(
        Target("val/accuracy", ">=", level), hold, "time"
    )


# Targets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("val/accuracy>=0.9", Target("val/accuracy", ">=", 0.9)),
        (" val/loss <= 3e-1 ", Target("val/loss", "<=", 0.3)),
        ("loss<=-1", Target("loss", "<=", -1.0)),
    ],
)
def test_a_target_is_a_score_a_side_and_a_level(text: str, expected: Target) -> None:
    assert Target.parse(text) == expected
    assert Target.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["0.9", "val/accuracy>0.9", "val/accuracy>=", "val/accuracy>=high", "a>=nan", ""]
)
def test_a_target_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(
        ConfigError,
        match=r"target: expected a text such as 'val/accuracy>=0\.9', got .*\. Name a rec",
    ):
        Target.parse(text)


# Reaching one


def test_the_first_of_two_evaluations_in_a_row_counts() -> None:
    assert reached([0.5, 0.91, 0.8, 0.92, 0.93]) == Span(30.0, 40.0)


def test_a_single_crossing_counts_on_request() -> None:
    assert reached([0.5, 0.91, 0.8, 0.92, 0.93], hold=1) == Span(10.0, 20.0)


def test_a_target_met_at_the_first_evaluation_has_no_lower_bound() -> None:
    assert reached([0.95, 0.95]) == Span(0.0, 10.0)


def test_a_run_that_never_got_there_is_censored_at_its_last_evaluation_below() -> None:
    assert reached([0.5, 0.6, 0.7]) == Span(30.0, math.inf)
    assert reached([0.5, 0.6, 0.95]) == Span(
        20.0, math.inf
    )  # unconfirmed: it may have been the moment
    assert reached([0.95]) == Span(0.0, math.inf)


def test_a_target_met_before_training_is_reached_by_the_first_costly_evaluation() -> None:
    run = accuracies([0.95, 0.96, 0.97])
    for i, data in enumerate(run.epochs):
        data["time"]["train_cumulative_s"] = 10.0 * i
    span = trace(run, "val/accuracy").time_to_target(Target("val/accuracy", ">=", 0.9), 2, "time")
    assert span == Span(0.0, 10.0)


@LAW
@given(
    st.lists(st.sampled_from([0.85, 0.89, 0.91, 0.95]), min_size=1, max_size=12), st.integers(1, 3)
)
def test_a_higher_target_is_never_reached_sooner(values: list[float], hold: int) -> None:
    spans = [reached(values, level, hold) for level in (0.86, 0.9, 0.94)]
    for easier, harder in pairwise(spans):
        assert easier.low <= harder.low
        assert easier.high <= harder.high
        assert easier.low <= easier.high


# The ratio


def test_one_run_each_gives_the_bounds_of_the_evaluations() -> None:
    ratio = ratio_of([Span(10, 20)], [Span(60, 70)])
    assert (ratio.value, ratio.low, ratio.high) == (pytest.approx(20 / 70), 10 / 70, 20 / 60)
    assert (ratio.censored, ratio.method, ratio.seeded) == (None, BOUNDS, False)
    assert ratio.reason == "single run per arm, no seed interval"


def test_a_hit_at_the_first_evaluation_leaves_one_bound_open() -> None:
    ratio = ratio_of([Span(0, 10)], [Span(60, 70)])
    assert (ratio.low, ratio.high) == (0.0, 10 / 60)
    assert "evaluate more often" in (ratio.reason or "")
    assert ratio_of([Span(10, 20)], [Span(0, 10)]).high == math.inf


def test_scratch_that_never_got_there_gives_an_upper_bound() -> None:
    ratio = ratio_of([Span(10, 20)], [Span(100, math.inf)])
    assert math.isnan(ratio.value)
    assert (ratio.low, ratio.high, ratio.censored) == (0.0, 0.2, "second")
    assert ratio.to_dict() | {"reason": ""} == {
        "value": None, "low": 0.0, "high": 0.2, "censored": "second", "method": BOUNDS, "reason": "",
    }  # fmt: skip


def test_a_fine_tune_that_never_got_there_gives_a_lower_bound() -> None:
    ratio = ratio_of([Span(90, math.inf)], [Span(60, 100)])
    assert (ratio.low, ratio.high, ratio.censored) == (0.9, math.inf, "first")


def test_a_censored_ratio_prints_the_bounds_that_it_has() -> None:
    reached, missed = Span(10, 20), Span(100, math.inf)
    assert (
        str(ratio_of([reached], [missed]))
        == "below 0.2 (a run of the second arm never reached the target)"
    )
    assert (
        str(ratio_of([missed], [reached]))
        == "above 5 (a run of the first arm never reached the target)"
    )
    assert (
        str(ratio_of([missed], [missed])) == "unknown (runs of both arms never reached the target)"
    )


def test_two_that_never_got_there_say_nothing() -> None:
    ratio = ratio_of([Span(90, math.inf)], [Span(60, math.inf)])
    assert (ratio.low, ratio.high, ratio.censored) == (0.0, math.inf, "both")
    assert speedup(ratio, 2, LIMITS).state == "undetermined"


def test_seeds_that_all_get_there_give_welchs_interval_on_logarithms() -> None:
    first, second = [10.0, 12.0, 11.0], [40.0, 36.0, 44.0]
    ratio = ratio_of([Span(t, t) for t in first], [Span(t, t) for t in second])
    assert ratio.value == pytest.approx(np.exp(np.mean(np.log(first)) - np.mean(np.log(second))))
    assert (ratio.low, ratio.high) == pytest.approx(log_welch(first, second))
    assert (ratio.method, ratio.reason, ratio.seeded) == (LOG_WELCH, None, True)


def test_the_spacing_of_evaluations_widens_the_seed_interval() -> None:
    first, second = [10.0, 12.0, 11.0], [40.0, 36.0, 44.0]
    fine = ratio_of([Span(t - 0.1, t) for t in first], [Span(t - 0.1, t) for t in second])
    coarse = ratio_of([Span(t - 8, t) for t in first], [Span(t - 8, t) for t in second])
    assert coarse.low < fine.low < fine.value == coarse.value < fine.high < coarse.high


def test_one_miss_among_seeds_uses_the_rank_sum() -> None:
    first = [Span(t - 1, t) for t in (10, 11, 12)]
    second = [Span(39, 40), Span(35, 36), Span(100, math.inf)]
    ratio = ratio_of(first, second)
    assert math.isnan(ratio.value)
    assert (ratio.censored, ratio.method) == ("second", RANK_SUM)
    assert (ratio.low, ratio.high) == (0.0, 12 / 35)
    assert speedup(ratio, 6, LIMITS).state == "met"


def test_more_seeds_leave_out_the_extreme_ratios() -> None:
    first = [Span(t, t) for t in (10, 11, 12, 40)]
    second = [Span(t, t) for t in (20, 30, 35)] + [Span(100, math.inf)]
    ratio = ratio_of(first, second)
    ratios = sorted([a / b for a in (10, 11, 12, 40) for b in (20, 30, 35, 100)])
    assert (ratio.low, ratio.high, ratio.method) == (0.0, ratios[-2], RANK_SUM)


def test_two_seeds_are_too_few_for_the_rank_sum() -> None:
    ratio = ratio_of([Span(9, 10), Span(9, 10)], [Span(40, 41), Span(100, math.inf)])
    assert (ratio.method, ratio.seeded) == (BOUNDS, False)
    assert "too few seeds" in (ratio.reason or "")


costs = st.lists(st.floats(0.1, 1000), min_size=1, max_size=4)


@LAW
@given(costs, costs, st.floats(0.0, 0.99), st.lists(st.booleans(), min_size=8, max_size=8))
def test_the_bounds_are_ordered_and_swap_with_the_arms(
    first: list[float], second: list[float], step: float, misses: list[bool]
) -> None:
    def spans(times: list[float], missing: list[bool]) -> list[Span]:
        return [
            Span(t * (1 - step), math.inf if gone else t)
            for t, gone in zip(times, missing, strict=False)
        ]

    arms = spans(first, misses[:4]), spans(second, misses[4:])
    ratio, swapped = ratio_of(*arms), ratio_of(*reversed(arms))
    assert 0.0 <= ratio.low <= ratio.high
    if not math.isnan(ratio.value):
        assert ratio.low <= ratio.value * (1 + 1e-9)
        assert ratio.value <= ratio.high * (1 + 1e-9)
    assert swapped.low == pytest.approx(1 / ratio.high if ratio.high else math.inf)
    assert ratio.low == pytest.approx(1 / swapped.high if swapped.high else math.inf)


@pytest.mark.parametrize(("truth", "step"), [(0.5, 0.0), (0.25, 3.0)])
def test_three_seeds_cover_the_true_ratio_in_93_percent(truth: float, step: float) -> None:
    rng, covered, runs = np.random.default_rng(1), 0, 400
    for _ in range(runs):
        arms = []
        for centre in (100 * truth, 100.0):
            exact = centre * np.exp(rng.normal(scale=0.15, size=3))
            seen = exact if step == 0 else np.ceil(exact / step) * step
            arms.append([Span(float(t - step), float(t)) for t in seen])
        ratio = ratio_of(*arms)
        covered += ratio.low <= truth <= ratio.high
    assert covered / runs >= 0.93


def test_seeds_that_sometimes_miss_still_cover_the_true_ratio() -> None:
    rng, covered, runs, budget = np.random.default_rng(2), 0, 400, 105.0
    for _ in range(runs):
        first = [Span(t, t) for t in 50 * np.exp(rng.normal(scale=0.15, size=4))]
        second = [
            Span(budget, math.inf) if t > budget else Span(t, t)
            for t in 100 * np.exp(rng.normal(scale=0.15, size=4))
        ]
        ratio = ratio_of(first, second)
        covered += ratio.low <= 0.5 <= ratio.high
    assert covered / runs >= 0.93


# The criterion


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [
        (Span(10, 20), Span(60, 70), "met"),  # ratio 0.29, at most 0.33
        (Span(20, 30), Span(60, 70), "undetermined"),  # 0.43: one run cannot show a half
        (Span(60, 70), Span(60, 70), "failed"),  # about 1
        (Span(40, 45), Span(70, 71), "undetermined"),  # 0.63 may still be a half with other seeds
        (Span(10, 20), Span(100, math.inf), "met"),  # below 0.2
        (Span(30, 40), Span(100, math.inf), "undetermined"),  # below 0.4, but one run only
        (Span(90, math.inf), Span(60, 70), "failed"),  # above 1.3
        (Span(30, math.inf), Span(60, 70), "undetermined"),  # stopped too soon to tell
    ],
)
def test_one_run_per_arm_must_clear_the_half_by_a_margin(
    first: Span, second: Span, state: str
) -> None:
    criterion = speedup(ratio_of([first], [second]), 2, LIMITS)
    assert criterion.state == state
    assert (criterion.threshold, criterion.rule, criterion.n) == (0.5, "<=", 2)


def test_seeds_are_judged_by_their_interval_alone() -> None:
    def criterion(low: float, high: float) -> str:
        return speedup(Ratio((low + high) / 2, low, high, None, LOG_WELCH, None), 6, LIMITS).state

    assert [criterion(0.3, 0.5), criterion(0.4, 0.6), criterion(0.51, 0.9)] == [
        "met",
        "undetermined",
        "failed",
    ]
