"""Which threshold keeps a promise, with which confidence: recall, precision, least cost, F-beta."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ptmetrics.verdict.finding import percent
from ptmetrics.verdict.samples import Floats
from ptmetrics.verdict.stats import binomial_lower, binomial_upper

FEWEST_CALLED = 25
STEP = 1.15
LARGEST = 10**9


@dataclass(frozen=True)
class ThresholdCounts:
    """What every decision threshold of a yes-or-no task would have counted, lowest first.

    A score of `threshold` or more is called positive.

    Args:
        threshold: Ascending; the last is infinite, where nothing is called positive.
        tp: Positives called positive, falling from all of them to 0.
        fp: Negatives called positive, likewise.
    """

    threshold: Floats
    tp: Floats
    fp: Floats

    @classmethod
    def of(cls, threshold: Floats, tp: Floats, fp: Floats) -> "ThresholdCounts":
        """Add the last threshold, which calls nothing positive."""
        return cls(
            np.append(np.asarray(threshold, dtype=np.float64), np.inf),
            np.append(np.asarray(tp, dtype=np.float64), 0.0),
            np.append(np.asarray(fp, dtype=np.float64), 0.0),
        )

    @property
    def positives(self) -> float:
        """Positives in all."""
        return float(self.tp[0])

    @property
    def fn(self) -> Floats:
        """Positives missed."""
        return self.positives - self.tp

    @property
    def called(self) -> Floats:
        """Samples called positive."""
        return self.tp + self.fp

    def confusion(self, row: int) -> Floats:
        """Counts of shape (2, 2) at one threshold, rows are the actual class."""
        tp = self.tp[row]
        fp = self.fp[row]
        return np.array([[self.fp[0] - fp, fp], [self.tp[0] - tp, tp]])

    def halves(self, seed: int = 0) -> tuple["ThresholdCounts", "ThresholdCounts"]:
        """Two random halves of the samples, at the same thresholds.

        Samples that share a score and a class are alike, so to draw counts without replacement is
        to draw samples. Counts must be whole. The same seed gives the same halves.
        """
        rng = np.random.default_rng(seed)
        first: list[Floats] = []
        second: list[Floats] = []
        for column in (self.tp, self.fp):
            cells = np.rint(-np.diff(column, append=0.0)).astype(np.int64)
            size = int(cells.sum()) // 2
            drawn = rng.multivariate_hypergeometric(cells, size, method="marginals")
            for half, part in ((first, drawn), (second, cells - drawn)):
                half.append(np.cumsum(part[::-1])[::-1].astype(np.float64))
        return ThresholdCounts(self.threshold, *first), ThresholdCounts(self.threshold, *second)


@dataclass(frozen=True)
class Choice:
    """A threshold that was chosen, and what can be promised of it.

    Args:
        row: Its place among the thresholds; None where there is none to choose.
        certified: Whether the promise holds for new data with the confidence asked for.
        needed: Positives that are missing for a certificate; None where there is one, or no number
            would do.
        reason: The same in words.
    """

    row: int | None
    certified: bool
    needed: int | None
    reason: str


Tuning = Callable[[ThresholdCounts], Choice]


def fewest(share: float, error: float) -> int:
    """Fewest samples, all right, that show a share with this error: ln(error) / ln(share), rounded up."""
    return _smallest(lambda n: share**n <= error)


def allowed_misses(positives: int, recall: float, error: float) -> int:
    """Most positives that may lie below the threshold; −1 where even 0 is too many.

    The largest k with P(X ≤ k) ≤ error for X binomial of `positives` trials with probability 1 −
    recall. With the (k + 1)-th smallest score of the positives as threshold, the recall on new data
    of the same distribution is `recall` or more with probability 1 − error, whatever the
    distribution.

    Source: Tong, Feng & Li, Science Advances 4, 2018 (Neyman–Pearson umbrella).
    """
    low, high = -1, positives
    while high - low > 1:
        middle = (low + high) // 2
        if binomial_lower(middle, positives, 1.0 - recall) <= error:
            low = middle
        else:
            high = middle
    return low


def shows_precision(tp: float, called: float, precision: float, error: float) -> bool:
    """Whether the one-sided Clopper–Pearson lower bound of tp / called is `precision` or more."""
    return binomial_upper(round(tp), round(called), precision) <= error


def recall_at_least(counts: ThresholdCounts, recall: float, error: float) -> Choice:
    """The highest threshold that is shown to keep the recall.

    Scores that share a row of the histogram lie at its lower edge, which errs towards more recall.
    """
    positives = round(counts.positives)
    if positives == 0:
        return Choice(None, False, fewest(recall, error), "there is no positive")
    misses = allowed_misses(positives, recall, error)
    row = int(np.flatnonzero(counts.fn <= max(misses, 0))[-1])
    if misses >= 0:
        words = (
            f"at most {misses} of {positives} positives lie below it, which shows a recall of "
            f"{percent(recall)}"
        )
        return Choice(row, True, None, words)
    needed = fewest(recall, error) - positives
    reason = (
        f"not certifiable, {needed} more positives needed: {positives} cannot show a recall of "
        f"{percent(recall)}; the threshold that misses none of them is given"
    )
    return Choice(row, False, needed, reason)


def precision_at_least(counts: ThresholdCounts, precision: float, error: float) -> Choice:
    """The lowest threshold that is shown to keep the precision.

    Thresholds are tested from the strictest down, each at the full error, until one fails: a fixed
    sequence needs no correction for many tests. The sequence is fixed by the number of samples
    called positive, before any label is looked at: from 25, or what may hold one false alarm, in
    steps of 15 %.

    Source: Angelopoulos et al., Learn then Test, arXiv 2110.01052, fixed-sequence testing.
    """
    grid = list(_tested_rows(counts, precision, error))
    kept = None
    for row in grid:
        if not shows_precision(counts.tp[row], counts.called[row], precision, error):
            break
        kept = row
    if kept is not None:
        shown = f"{counts.tp[kept]:.0f} of {counts.called[kept]:.0f} alarms are right"
        return Choice(kept, True, None, f"{shown}, which shows a precision of {percent(precision)}")
    good = [row for row in grid if counts.tp[row] >= precision * counts.called[row]]
    if good:
        return _unshown_precision(counts, good[-1], precision, error)
    needed = _first_tested(precision, error) - round(counts.positives)
    if needed > 0:
        reason = (
            f"not certifiable, {needed} more positives needed: {counts.positives:.0f} cannot show a "
            f"precision of {percent(precision)}"
        )
        return Choice(None, False, needed, reason)
    reason = (
        f"no threshold with {FEWEST_CALLED} alarms or more reaches a precision of "
        f"{percent(precision)} even on these data"
    )
    return Choice(None, False, None, reason)


def both_at_least(counts: ThresholdCounts, recall: float, precision: float, error: float) -> Choice:
    """The highest threshold that keeps the recall, if it keeps the precision too.

    Half of the error goes to each.
    """
    choice = recall_at_least(counts, recall, error / 2)
    if choice.row is None or not choice.certified:
        return choice
    tp = counts.tp[choice.row]
    called = counts.called[choice.row]
    if shows_precision(tp, called, precision, error / 2):
        return replace(choice, reason=f"{choice.reason}, and a precision of {percent(precision)}")
    second = _unshown_precision(counts, choice.row, precision, error / 2)
    return replace(second, reason=f"the recall is certified, the precision is {second.reason}")


def cheapest(counts: ThresholdCounts, false_alarm: float, miss: float) -> Choice:
    """The threshold of least cost on these data."""
    row = int(np.argmin(false_alarm * counts.fp + miss * counts.fn))
    calibrated = false_alarm / (false_alarm + miss)
    reason = (
        "least cost on these data; were the probabilities calibrated, it would be at "
        f"{calibrated:.4g}"
    )
    return Choice(row, False, None, reason)


def best_fbeta(counts: ThresholdCounts, beta: float) -> Choice:
    """The threshold of the best F-beta on these data."""
    if counts.positives == 0:
        return Choice(None, False, None, "there is no positive")
    right = (1 + beta * beta) * counts.tp
    row = int(np.argmax(right / (right + beta * beta * counts.fn + counts.fp)))
    return Choice(row, False, None, f"best F-beta (beta {beta:g}) on these data")


def _unshown_precision(counts: ThresholdCounts, row: int, precision: float, error: float) -> Choice:
    """A threshold whose precision is not shown, and about how many positives would show it."""
    tp = counts.tp[row]
    called = counts.called[row]
    head = f"not certifiable: {tp:.0f} of {called:.0f} alarms are right at this threshold"
    share = tp / called
    if not share > precision:
        return Choice(row, False, None, f"{head}, where {percent(precision)} are wanted")
    alarms = _smallest(lambda n: shows_precision(np.floor(share * n), n, precision, error))
    needed = max(1, int(np.ceil(counts.positives * (alarms / called - 1))))
    return Choice(
        row, False, needed, f"{head}; about {needed} more positives needed, if that share stays"
    )


def _tested_rows(counts: ThresholdCounts, precision: float, error: float) -> Iterator[int]:
    """Rows to test, strictest first, each with 15 % more alarms than the one before."""
    called = counts.called
    least = float(_first_tested(precision, error))
    while least <= called[0]:
        row = int(np.flatnonzero(called >= least)[-1])
        yield row
        least = max(called[row] + 1, np.ceil(STEP * called[row]))


def _first_tested(precision: float, error: float) -> int:
    """Alarms of the strictest threshold that is tested.

    They are 25, or as many as show the precision with one of them false.
    """
    return max(FEWEST_CALLED, _smallest(lambda n: shows_precision(n - 1, n, precision, error)))


def _smallest(holds: Callable[[int], bool]) -> int:
    """The smallest number from 1 that holds, for what stays true once it is; at most 1e9."""
    high = 1
    while not holds(high) and high < LARGEST:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high
