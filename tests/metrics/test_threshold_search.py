"""Certified thresholds: exact numbers, the order statistic by hand, and the promise kept on new data."""

from collections.abc import Callable
from itertools import pairwise
from math import erfc, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from ptmetrics.metrics import threshold_search as c
from ptmetrics.metrics.threshold_search import Cuts

SHIFT, PREVALENCE = 2.5, 0.35


def cuts_of(score: np.ndarray, target: np.ndarray) -> Cuts:
    threshold = np.unique(score)
    called = score[None, :] >= threshold[:, None]
    return Cuts.of(threshold, (called & (target == 1)).sum(1), (called & (target == 0)).sum(1))


def drawn(rng: np.random.Generator, rows: int) -> Cuts:
    target = (rng.random(rows) < PREVALENCE).astype(int)
    return cuts_of(rng.normal(size=rows) + SHIFT * target, target)


def above(threshold: float) -> float:
    return 0.5 * erfc(threshold / sqrt(2))


def true_recall(threshold: float) -> float:
    return above(threshold - SHIFT)


def true_precision(threshold: float) -> float:
    hits = PREVALENCE * true_recall(threshold)
    return hits / (hits + (1 - PREVALENCE) * above(threshold))


@pytest.mark.parametrize(("recall", "positives"), [(0.8, 14), (0.9, 29), (0.95, 59), (0.99, 299)])
def test_the_fewest_positives_for_a_certificate_are_those_of_the_formula(
    recall: float, positives: int
) -> None:
    assert c.fewest(recall, 0.05) == positives
    target = np.ones(positives, dtype=int)
    enough = cuts_of(np.arange(positives, dtype=float), target)
    assert c.recall_at_least(enough, recall, 0.05).certified
    few = cuts_of(np.arange(positives - 1.0), target[1:])
    choice = c.recall_at_least(few, recall, 0.05)
    assert (choice.certified, choice.needed) == (False, 1)
    assert choice.reason.startswith("not certifiable, 1 more positive needed")


@given(st.integers(1, 10**6), st.floats(0, 1), st.floats(1e-4, 1 - 1e-4))
def test_tails_of_the_binomial_are_those_of_scipy(n: int, share: float, p: float) -> None:
    for k in (
        round(share * n),
        round(n * p),
        round(n * p + 3 * sqrt(n * p * (1 - p))),
        0,
        n,
        n + 1,
    ):
        expected = binom.sf(k - 1, n, p)
        assert c.binomial_tail(k, n, p) == pytest.approx(expected, rel=1e-7, abs=1e-12), k


def test_two_promises_share_the_error() -> None:
    # 59 positives without a miss show a recall of 95 % with an error of 5 %, but not with 2.5 %.
    target = np.concatenate([np.zeros(20, dtype=int), np.ones(59, dtype=int)])
    cuts = cuts_of(np.arange(79.0), target)
    assert c.recall_at_least(cuts, 0.95, 0.05).certified
    choice = c.both_at_least(cuts, 0.95, 0.5, 0.05)
    assert (choice.certified, choice.needed) == (False, c.fewest(0.95, 0.025) - 59)
    # 29 of 29 alarms show a precision of 90 % with an error of 5 %, but not with 2.5 %: that takes 36.
    called = np.concatenate([np.zeros(20, dtype=int), np.ones(29, dtype=int)])
    cuts = cuts_of(np.arange(49.0), called)
    assert c.allowed_misses(29, 0.87, 0.025) == 0
    assert c.shows_precision(29, 29, 0.9, 0.05)
    choice = c.both_at_least(cuts, 0.87, 0.9, 0.05)
    assert (choice.certified, choice.needed) == (False, 36 - 29)
    assert choice.reason.startswith("the recall is certified, the precision is not certifiable")


@given(st.integers(1, 3000), st.floats(0.05, 0.99), st.floats(0.01, 0.3))
def test_the_misses_allowed_are_the_largest_that_scipy_allows(
    n: int, recall: float, error: float
) -> None:
    misses = c.allowed_misses(n, recall, error)
    assert misses < 0 or binom.cdf(misses, n, 1 - recall) <= error * (1 + 1e-9)
    assert binom.cdf(misses + 1, n, 1 - recall) > error * (1 - 1e-9)


def test_the_threshold_is_the_order_statistic_after_the_misses_that_are_allowed() -> None:
    rng = np.random.default_rng(2)
    score, target = rng.normal(size=500), (rng.random(500) < 0.5).astype(int)
    cuts = cuts_of(score, target)
    choice = c.recall_at_least(cuts, 0.9, 0.05)
    ordered = np.sort(score[target == 1])
    misses = (
        int(binom.ppf(0.05, len(ordered), 0.1)) - 1
    )  # the largest k whose distribution is 0.05 or less
    assert choice.row is not None
    assert cuts.threshold[choice.row] == ordered[misses]


def test_scores_that_share_a_row_lie_at_its_lower_edge() -> None:
    choice = c.recall_at_least(
        Cuts.of(np.array([0.0, 1.0]), np.array([100, 98]), np.array([50, 9])), 0.9, 0.05
    )
    assert choice.row == 1
    choice = c.recall_at_least(
        Cuts.of(np.array([0.0, 1.0]), np.array([100, 90]), np.array([50, 9])), 0.9, 0.05
    )
    assert choice.row == 0


@pytest.mark.parametrize(
    ("tune", "kept"),
    [
        (lambda cuts: c.recall_at_least(cuts, 0.9, 0.05), lambda t: true_recall(t) >= 0.9),
        (lambda cuts: c.recall_at_least(cuts, 0.95, 0.05), lambda t: true_recall(t) >= 0.95),
        (lambda cuts: c.precision_at_least(cuts, 0.9, 0.05), lambda t: true_precision(t) >= 0.9),
        (
            lambda cuts: c.both_at_least(cuts, 0.8, 0.75, 0.05),
            lambda t: true_recall(t) >= 0.8 and true_precision(t) >= 0.75,
        ),
    ],
    ids=["recall 0.9", "recall 0.95", "precision 0.9", "both"],
)
def test_what_is_certified_holds_on_new_data_in_93_percent_of_draws(
    tune: c.Tuning, kept: Callable[[float], bool]
) -> None:
    rng, held, certified, draws = np.random.default_rng(5), 0, 0, 300
    for _ in range(draws):
        cuts = drawn(rng, 400)
        choice = tune(cuts)
        if choice.certified and choice.row is not None:
            certified += 1
            held += kept(float(cuts.threshold[choice.row]))
    assert certified >= 0.5 * draws
    assert certified - held <= 0.07 * draws


def test_just_meeting_the_recall_on_the_data_at_hand_often_fails_on_new_data() -> None:
    rng, held = np.random.default_rng(5), 0
    for _ in range(200):
        cuts = drawn(rng, 400)
        row = np.flatnonzero(cuts.tp >= 0.9 * cuts.positives)[-1]
        held += true_recall(float(cuts.threshold[row])) >= 0.9
    assert held <= 120


def test_the_sequence_for_precision_starts_from_25_and_stops_at_the_first_that_fails() -> None:
    # Right at the top, a stretch of false alarms, then right again so often that the whole would pass.
    target = np.concatenate([np.ones(60), np.zeros(25), np.ones(2000)])[::-1].astype(int)
    cuts = cuts_of(np.arange(len(target), dtype=float), target)
    choice = c.precision_at_least(cuts, 0.9, 0.05)
    assert choice.row is not None
    assert choice.certified
    assert 25 <= cuts.called[choice.row] <= 70
    assert c.shows_precision(cuts.tp[0], cuts.called[0], 0.9, 0.05)


@pytest.mark.parametrize(
    ("tp", "called"), [(29, 29), (28, 28), (45, 46), (44, 45), (95, 100), (190, 200)]
)
def test_precision_is_shown_when_the_bound_of_clopper_and_pearson_is_above_it(
    tp: int, called: int
) -> None:
    from scipy.stats import beta

    bound = beta.ppf(0.05, tp, called - tp + 1)
    assert c.shows_precision(tp, called, 0.9, 0.05) == (bound >= 0.9)


def test_a_precision_that_is_out_of_reach_is_told_with_what_would_help() -> None:
    few = cuts_of(np.arange(20.0), np.ones(20, dtype=int))
    assert c.precision_at_least(few, 0.9, 0.05).needed == 46 - 20
    poor = cuts_of(np.arange(400.0), np.arange(400) % 2)
    choice = c.precision_at_least(poor, 0.9, 0.05)
    assert (choice.row, choice.certified, choice.needed) == (None, False, None)
    assert "reaches a precision of 90.0 %" in choice.reason
    near = np.ones(60, dtype=int)
    near[::20] = 0  # 57 of 60: right often enough, shown too seldom
    choice = c.precision_at_least(cuts_of(np.arange(60.0), near), 0.9, 0.05)
    assert choice.row is not None
    assert choice.needed is not None
    assert "if that share stays" in choice.reason


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_the_best_f_beta_and_the_least_cost_are_those_of_a_search(beta: float) -> None:
    from sklearn.metrics import fbeta_score

    rng = np.random.default_rng(4)
    score, target = rng.normal(size=120).round(1), (rng.random(120) < 0.4).astype(int)
    cuts = cuts_of(score, target)
    calls = [(score >= t).astype(int) for t in np.unique(score)]
    row = c.best_fbeta(cuts, beta).row
    best = max(fbeta_score(target, call, beta=beta) for call in calls)
    assert row is not None
    assert fbeta_score(target, calls[row], beta=beta) == pytest.approx(best)
    costs = [((call > target) + 5 * (call < target)).sum() for call in calls] + [5 * target.sum()]
    row = c.cheapest(cuts, 1.0, 5.0).row
    assert row is not None
    assert costs[row] == min(costs)


def test_calling_nothing_positive_can_be_cheapest() -> None:
    cuts = cuts_of(np.arange(50.0), np.arange(50) % 2 == 0)  # the highest score is a negative
    row = c.cheapest(cuts, 100.0, 1.0).row
    assert row is not None
    assert np.isinf(cuts.threshold[row])


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30),
    st.integers(0, 99),
)
def test_two_halves_are_the_whole_and_differ_by_at_most_one(
    rows: list[tuple[int, int]], seed: int
) -> None:
    cells = np.array(rows, dtype=float)
    tp, fp = cells[::-1].cumsum(0)[::-1].T
    cuts = Cuts.of(np.arange(len(rows)), tp, fp)
    first, second = cuts.halves(seed)
    assert (first.tp + second.tp == cuts.tp).all()
    assert (first.fp + second.fp == cuts.fp).all()
    assert 0 <= second.positives - first.positives <= 1
    assert all(a >= b for half in (first, second) for a, b in pairwise(half.tp))


def test_cross_fit_takes_the_optimism_out_of_the_best_f1() -> None:
    def f1(confusion: np.ndarray) -> float:
        return float(
            2 * confusion[1, 1] / (2 * confusion[1, 1] + confusion[0, 1] + confusion[1, 0])
        )

    rng, naive, honest, true = np.random.default_rng(6), [], [], []
    for seed in range(150):
        cuts = drawn(rng, 80)
        first, second = cuts.halves(seed)
        rows = [c.best_fbeta(half, 1.0).row or 0 for half in (first, second)]
        honest.append(f1(second.confusion(rows[0]) + first.confusion(rows[1])))
        row = c.best_fbeta(cuts, 1.0).row or 0
        naive.append(f1(cuts.confusion(row)))
        t = float(cuts.threshold[row])
        true.append(2 / (1 / true_recall(t) + 1 / true_precision(t)))
    assert np.mean(naive) - np.mean(true) > 0.02
    assert abs(np.mean(honest) - np.mean(true)) < 0.02
