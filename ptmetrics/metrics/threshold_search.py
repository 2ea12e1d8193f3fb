"""Which decision threshold keeps a promise, and with which confidence. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import exp, lgamma, log, log1p, sqrt

import numpy as np

from ptmetrics.metrics.estimate import Array

FEWEST_CALLED = 25
STEP = 1.15
MOST = 10**9


@dataclass(frozen=True)
class Cuts:
    """Every threshold with its counts, lowest first; a score of `threshold` or more is positive.

    Attributes:
        threshold: Ascending; the last is infinite, where nothing is called positive.
        tp: Positives called positive, falling from all of them to 0.
        fp: Negatives called positive, likewise.
    """

    threshold: Array
    tp: Array
    fp: Array

    @classmethod
    def of(cls, threshold: Array, tp: Array, fp: Array) -> Cuts:
        """Add the last cut, which calls nothing positive."""
        return cls(np.append(threshold, np.inf), np.append(tp, 0.0), np.append(fp, 0.0))

    @property
    def positives(self) -> float:
        """Positives in all."""
        return float(self.tp[0])

    @property
    def negatives(self) -> float:
        """Negatives in all."""
        return float(self.fp[0])

    @property
    def fn(self) -> Array:
        """Positives missed."""
        return self.positives - self.tp

    @property
    def called(self) -> Array:
        """Samples called positive."""
        return self.tp + self.fp

    def confusion(self, row: int) -> Array:
        """Counts of shape (2, 2) at one threshold, rows are the actual class."""
        tp = self.tp[row]
        fp = self.fp[row]
        return np.array([[self.negatives - fp, fp], [self.positives - tp, tp]])

    def halves(self, seed: int = 0) -> tuple[Cuts, Cuts]:
        """Two random halves of the samples, at the same thresholds.

        Samples that share a score and a class are alike, so to draw counts without replacement is
        to draw samples. Counts must be whole. The same seed gives the same halves.
        """
        rng = np.random.default_rng(seed)
        first = []
        second = []
        for column in (self.tp, self.fp):
            cells = np.rint(-np.diff(column, append=0.0)).astype(np.int64)
            half = int(cells.sum()) // 2
            drawn = rng.multivariate_hypergeometric(cells, half, method="marginals")
            first.append(_from_row_on(drawn))
            second.append(_from_row_on(cells - drawn))
        return Cuts(self.threshold, *first), Cuts(self.threshold, *second)


def _from_row_on(cells: Array) -> Array:
    return np.cumsum(cells[::-1])[::-1].astype(np.float64)


@dataclass(frozen=True)
class Choice:
    """A threshold that was chosen, and what can be promised of it.

    Attributes:
        row: Its place in the cuts; None where there is none to choose.
        certified: Whether the promise holds for new data with the confidence asked for.
        needed: Positives that are missing for a certificate; None where there is one, or no number
            would do.
        reason: The same in words.
    """

    row: int | None
    certified: bool
    needed: int | None
    reason: str


Tuning = Callable[[Cuts], Choice]


def binomial_tail(k: int, n: int, p: float) -> float:
    """P(X ≥ k) for X binomial with n trials of probability p, 0 < p < 1.

    Added up from k on, by the ratio of each term to the one before, until nothing is left; below
    the mean it is 1 less the other tail.
    """
    if k <= 0:
        return 1.0
    if k > n:
        return 0.0
    if k <= n * p:
        return 1.0 - binomial_tail(n - k + 1, n, 1.0 - p)
    ways = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
    first = exp(ways + k * log(p) + (n - k) * log1p(-p))
    last = min(n, k + 40 + int(12 * sqrt(n * p * (1 - p))))
    j = np.arange(k + 1, last + 1)
    ratios = (n - j + 1) / j * (p / (1 - p))
    return first * (1.0 + float(np.cumprod(ratios).sum()))


def fewest(share: float, error: float) -> int:
    """Fewest samples, all of them right, that show a share with this error.

    That is ln(error) / ln(share), rounded up.
    """
    return _first(lambda n: share**n <= error)


def allowed_misses(positives: int, recall: float, error: float) -> int:
    """Most positives that may lie below the threshold; −1 where even 0 is too many.

    The largest k with P(X ≤ k) ≤ error for X binomial of `positives` trials with probability
    1 − recall. With the (k + 1)-th smallest score of the positives as threshold, the recall on new
    data of the same distribution is `recall` or more with probability 1 − error, whatever the
    distribution.

    Source: Tong, Feng & Li, Science Advances 4, 2018 (Neyman–Pearson umbrella).
    """
    low = -1
    high = positives
    while high - low > 1:
        middle = (low + high) // 2
        if binomial_tail(positives - middle, positives, recall) <= error:
            low = middle
        else:
            high = middle
    return low


def shows_precision(tp: float, called: float, precision: float, error: float) -> bool:
    """Whether the one-sided Clopper–Pearson lower bound of tp / called is `precision` or more."""
    return binomial_tail(round(tp), round(called), precision) <= error


def recall_at_least(cuts: Cuts, recall: float, error: float) -> Choice:
    """The highest threshold that is shown to keep the recall.

    Scores that share a row of the histogram lie at its lower edge, which errs towards more recall.
    """
    positives = round(cuts.positives)
    if positives == 0:
        return Choice(None, False, fewest(recall, error), "there is no positive")
    misses = allowed_misses(positives, recall, error)
    row = int(np.flatnonzero(cuts.fn <= max(misses, 0))[-1])
    aim = _in_percent(recall)
    if misses >= 0:
        words = f"at most {misses} of {positives} positives below it"
        return Choice(row, True, None, f"{words}, which shows a recall of {aim}")
    needed = fewest(recall, error) - positives
    words = f"not certifiable, {_more(needed)} needed: {positives} cannot show a recall"
    words = f"{words} of {aim}; the threshold that misses none of them is given"
    return Choice(row, False, needed, words)


def precision_at_least(cuts: Cuts, precision: float, error: float) -> Choice:
    """The lowest threshold that is shown to keep the precision.

    Thresholds are tested from the strictest down, each at the full error, until one fails: a fixed
    sequence needs no correction for many tests. The sequence is fixed by the number of samples
    called positive, before any label is looked at: from 25, or what may hold one false alarm, in
    steps of 15 %.

    Source: Angelopoulos et al., Learn then Test, arXiv 2110.01052, fixed-sequence testing.
    """
    grid = list(_grid(cuts, precision, error))
    kept = None
    for row in grid:
        if not shows_precision(cuts.tp[row], cuts.called[row], precision, error):
            break
        kept = row
    aim = _in_percent(precision)
    if kept is not None:
        shown = f"{cuts.tp[kept]:.0f} of {cuts.called[kept]:.0f} alarms right"
        return Choice(kept, True, None, f"{shown}, which shows a precision of {aim}")
    good = [row for row in grid if cuts.tp[row] >= precision * cuts.called[row]]
    if good:
        return _unshown_precision(cuts, good[-1], precision, error)
    needed = _first_tested(precision, error) - round(cuts.positives)
    if needed > 0:
        words = f"not certifiable, {_more(needed)} needed: {cuts.positives:.0f} cannot show"
        return Choice(None, False, needed, f"{words} a precision of {aim}")
    words = f"no threshold with {FEWEST_CALLED} alarms or more reaches a precision of {aim}"
    return Choice(None, False, None, f"{words} even on these data")


def both_at_least(cuts: Cuts, recall: float, precision: float, error: float) -> Choice:
    """The highest threshold that keeps the recall, if it keeps the precision too.

    Half of the error for each, so that both hold together.
    """
    choice = recall_at_least(cuts, recall, error / 2)
    if choice.row is None or not choice.certified:
        return choice
    tp = cuts.tp[choice.row]
    called = cuts.called[choice.row]
    if shows_precision(tp, called, precision, error / 2):
        words = f"{choice.reason}, and a precision of {_in_percent(precision)}"
        return replace(choice, reason=words)
    second = _unshown_precision(cuts, choice.row, precision, error / 2)
    words = f"the recall is certified, the precision is {second.reason}"
    return replace(second, reason=words)


def cheapest(cuts: Cuts, false_alarm: float, miss: float) -> Choice:
    """The threshold of least cost on these data."""
    row = int(np.argmin(false_alarm * cuts.fp + miss * cuts.fn))
    calibrated = false_alarm / (false_alarm + miss)
    words = "least cost on these data; were the probabilities calibrated, it would be at"
    return Choice(row, False, None, f"{words} {calibrated:.4g}")


def best_fbeta(cuts: Cuts, beta: float) -> Choice:
    """The threshold of the best F-beta on these data."""
    if cuts.positives == 0:
        return Choice(None, False, None, "there is no positive")
    right = (1 + beta * beta) * cuts.tp
    row = int(np.argmax(right / (right + beta * beta * cuts.fn + cuts.fp)))
    return Choice(row, False, None, f"best F{beta:g} on these data")


def _unshown_precision(cuts: Cuts, row: int, precision: float, error: float) -> Choice:
    """A threshold whose precision is not shown, and about how many positives would show it."""
    tp = cuts.tp[row]
    called = cuts.called[row]
    words = f"not certifiable: {tp:.0f} of {called:.0f} alarms right at this threshold"
    share = tp / called
    if not share > precision:
        return Choice(row, False, None, f"{words}, where {_in_percent(precision)} are wanted")
    alarms = _first(lambda n: shows_precision(np.floor(share * n), n, precision, error))
    needed = max(1, int(np.ceil(cuts.positives * (alarms - called) / called)))
    words = f"{words}; about {_more(needed)} needed, if that share stays"
    return Choice(row, False, needed, words)


def _more(positives: int) -> str:
    if positives == 1:
        return "1 more positive"
    return f"{positives} more positives"


def _grid(cuts: Cuts, precision: float, error: float) -> Iterator[int]:
    """Rows to test, strictest first, each with 15 % more alarms than the one before."""
    called = cuts.called
    least = float(_first_tested(precision, error))
    while least <= called[0]:
        row = int(np.flatnonzero(called >= least)[-1])
        yield row
        least = max(called[row] + 1, np.ceil(STEP * called[row]))


def _first_tested(precision: float, error: float) -> int:
    """Alarms of the strictest threshold that is tested.

    25, or what shows the precision with one of them false.
    """
    one_false = _first(lambda n: shows_precision(n - 1, n, precision, error))
    return max(FEWEST_CALLED, one_false)


def _first(holds: Callable[[int], bool]) -> int:
    """The smallest number from 1 that holds, for what stays true once it is; at most 1e9."""
    high = 1
    while not holds(high) and high < MOST:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def _in_percent(share: float) -> str:
    return f"{100 * share:.1f} %"
