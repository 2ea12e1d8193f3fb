"""Which threshold keeps a promise, with which confidence: recall, precision, least cost, best F-beta."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ptmetrics.verdict.cuts import Cuts
from ptmetrics.verdict.distributions import binomial_lower, binomial_upper
from ptmetrics.verdict.rule import percent

FEWEST_CALLED = 25
STEP = 1.15
MOST = 10**9


@dataclass(frozen=True)
class Choice:
    """A threshold that was chosen, and what can be promised of it.

    Args:
        row: Its place in the cuts; None where there is none to choose.
        certified: Whether the promise holds for new data with the confidence asked for.
        needed: Positives that are missing for a certificate; None where there is one, or no number would do.
        reason: The same in words.
    """

    row: int | None
    certified: bool
    needed: int | None
    reason: str


Tuning = Callable[[Cuts], Choice]


def fewest(share: float, error: float) -> int:
    """Fewest samples, all of them right, that show a share with this error: ln(error) / ln(share), rounded up."""
    return _first(lambda n: share**n <= error)


def allowed_misses(positives: int, recall: float, error: float) -> int:
    """Most positives that may lie below the threshold; −1 where even 0 is too many.

    The largest k with P(X ≤ k) ≤ error for X binomial of `positives` trials with probability 1 − recall. With
    the (k + 1)-th smallest score of the positives as threshold, the recall on new data of the same distribution
    is `recall` or more with probability 1 − error, whatever the distribution.

    Source: Tong, Feng & Li, Science Advances 4, 2018 (Neyman–Pearson umbrella).
    """
    low, high = -1, positives
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (middle, high)
            if binomial_lower(middle, positives, 1.0 - recall) <= error
            else (low, middle)
        )
    return low


def shows_precision(tp: float, called: float, precision: float, error: float) -> bool:
    """Whether the one-sided Clopper–Pearson lower bound of tp / called is `precision` or more."""
    return binomial_upper(round(tp), round(called), precision) <= error


def recall_at_least(cuts: Cuts, recall: float, error: float) -> Choice:
    """The highest threshold that is shown to keep the recall.

    Scores that share a row of the histogram lie at its lower edge, which errs towards more recall.
    """
    positives = round(cuts.positives)
    if positives == 0:
        return Choice(None, False, fewest(recall, error), "there is no positive")
    misses = allowed_misses(positives, recall, error)
    row = int(np.flatnonzero(cuts.fn <= max(misses, 0))[-1])
    if misses >= 0:
        words = f"at most {misses} of {positives} positives lie below it, which shows a recall of {percent(recall)}"
        return Choice(row, True, None, words)
    needed = fewest(recall, error) - positives
    reason = (
        f"not certifiable, {needed} more positives needed: {positives} cannot show a recall of "
        f"{percent(recall)}; the threshold that misses none of them is given"
    )
    return Choice(row, False, needed, reason)


def precision_at_least(cuts: Cuts, precision: float, error: float) -> Choice:
    """The lowest threshold that is shown to keep the precision.

    Thresholds are tested from the strictest down, each at the full error, until one fails: a fixed sequence
    needs no correction for many tests. The sequence is fixed by the number of samples called positive, before
    any label is looked at: from 25, or what may hold one false alarm, in steps of 15 %.

    Source: Angelopoulos et al., Learn then Test, arXiv 2110.01052, fixed-sequence testing.
    """
    grid = list(_grid(cuts, precision, error))
    kept = None
    for row in grid:
        if not shows_precision(cuts.tp[row], cuts.called[row], precision, error):
            break
        kept = row
    if kept is not None:
        shown = f"{cuts.tp[kept]:.0f} of {cuts.called[kept]:.0f} alarms are right"
        return Choice(kept, True, None, f"{shown}, which shows a precision of {percent(precision)}")
    good = [row for row in grid if cuts.tp[row] >= precision * cuts.called[row]]
    if good:
        return _unshown_precision(cuts, good[-1], precision, error)
    if (needed := _first_tested(precision, error) - round(cuts.positives)) > 0:
        reason = f"not certifiable, {needed} more positives needed: {cuts.positives:.0f} cannot show a precision"
        return Choice(None, False, needed, f"{reason} of {percent(precision)}")
    reason = f"no threshold with {FEWEST_CALLED} alarms or more reaches a precision of {percent(precision)}"
    return Choice(None, False, None, f"{reason} even on these data")


def both_at_least(cuts: Cuts, recall: float, precision: float, error: float) -> Choice:
    """The highest threshold that keeps the recall, if it keeps the precision too; half of the error for each."""
    choice = recall_at_least(cuts, recall, error / 2)
    if choice.row is None or not choice.certified:
        return choice
    tp, called = cuts.tp[choice.row], cuts.called[choice.row]
    if shows_precision(tp, called, precision, error / 2):
        return replace(choice, reason=f"{choice.reason}, and a precision of {percent(precision)}")
    second = _unshown_precision(cuts, choice.row, precision, error / 2)
    return replace(second, reason=f"the recall is certified, the precision is {second.reason}")


def cheapest(cuts: Cuts, false_alarm: float, miss: float) -> Choice:
    """The threshold of least cost on these data."""
    row = int(np.argmin(false_alarm * cuts.fp + miss * cuts.fn))
    calibrated = false_alarm / (false_alarm + miss)
    reason = f"least cost on these data; were the probabilities calibrated, it would be at {calibrated:.4g}"
    return Choice(row, False, None, reason)


def best_fbeta(cuts: Cuts, beta: float) -> Choice:
    """The threshold of the best F-beta on these data."""
    if cuts.positives == 0:
        return Choice(None, False, None, "there is no positive")
    right = (1 + beta * beta) * cuts.tp
    row = int(np.argmax(right / (right + beta * beta * cuts.fn + cuts.fp)))
    return Choice(row, False, None, f"best F-beta (beta {beta:g}) on these data")


def _unshown_precision(cuts: Cuts, row: int, precision: float, error: float) -> Choice:
    """A threshold whose precision is not shown, and about how many positives would show it."""
    tp, called = cuts.tp[row], cuts.called[row]
    head = f"not certifiable: {tp:.0f} of {called:.0f} alarms are right at this threshold"
    share = tp / called
    if not share > precision:
        return Choice(row, False, None, f"{head}, where {percent(precision)} are wanted")
    alarms = _first(lambda n: shows_precision(np.floor(share * n), n, precision, error))
    needed = max(1, int(np.ceil(cuts.positives * (alarms / called - 1))))
    return Choice(
        row, False, needed, f"{head}; about {needed} more positives needed, if that share stays"
    )


def _grid(cuts: Cuts, precision: float, error: float) -> Iterator[int]:
    """Rows to test, strictest first, each with 15 % more alarms than the one before."""
    called, least = cuts.called, float(_first_tested(precision, error))
    while least <= called[0]:
        row = int(np.flatnonzero(called >= least)[-1])
        yield row
        least = max(called[row] + 1, np.ceil(STEP * called[row]))


def _first_tested(precision: float, error: float) -> int:
    """Alarms of the strictest threshold that is tested: 25, or what shows the precision with one of them false."""
    return max(FEWEST_CALLED, _first(lambda n: shows_precision(n - 1, n, precision, error)))


def _first(holds: Callable[[int], bool]) -> int:
    """The smallest number from 1 that holds, for what stays true once it is; at most 1e9."""
    high = 1
    while not holds(high) and high < MOST:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
