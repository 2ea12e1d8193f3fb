"""Advice on the decision threshold: the one place that turns a threshold table into a certified choice."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from ptmetrics.errors import ConfigError, DataError
from ptmetrics.metrics import binary as b
from ptmetrics.metrics.estimate import to_host
from ptmetrics.metrics.intervals import Z
from ptmetrics.metrics.score import Score, Scores
from ptmetrics.metrics.tally import Tally
from ptmetrics.verdict import certificate as c
from ptmetrics.verdict.certificate import ThresholdCounts
from ptmetrics.verdict.finding import Plain

Counts = NDArray[np.float64]
REPORTED = ("recall", "precision", "specificity", "f1", "accuracy")
WEIGHTED = c.Choice(
    None, False, None,
    "no certificate from weighted counts, as a sum of weights is not a number of samples; count without weights",
)  # fmt: skip
SEEN = {
    True: "scores are of halves of the data that had no part in choosing",
    False: "scores are optimistic, as the same data chose the threshold",
}


@dataclass(frozen=True)
class Advice(Plain):
    """A decision threshold, what is promised of it, and what it did on data that had no part in choosing it.

    Args:
        threshold: Call positive from here, in the unit of the predictions; NaN where none can be advised,
            infinite where it is best to call nothing positive.
        probability: The same as a probability.
        certified: Whether the promise holds for new data of the same distribution with this confidence.
        confidence: Confidence of the certificate.
        needed: Positives that are missing for a certificate; None where there is one or none is to be had.
        reason: What was done and why, in words.
        scores: Recall, precision, specificity, F1, accuracy, and "fbeta" or "cost" (a sample) where asked for.
        cross_fit: Whether the scores come from data that had no part in choosing: each random half is counted
            at the threshold that the other half would choose. False: they are optimistic.
    """

    threshold: float
    probability: float
    certified: bool
    confidence: float
    needed: int | None
    reason: str
    scores: Mapping[str, Score]
    cross_fit: bool

    @property
    def recall(self) -> Score:
        """True positives over positives."""
        return self.scores["recall"]

    @property
    def precision(self) -> Score:
        """True positives over all that is called positive."""
        return self.scores["precision"]

    def __str__(self) -> str:
        state = f", certified at {100 * self.confidence:g} %" if self.certified else ""
        head = f"threshold {self.threshold:.6g} (probability {self.probability:.4g}){state}: {self.reason}"
        width = max(map(len, self.scores))
        return "\n".join(
            [head, *(f"  {name:<{width}}  {score}" for name, score in self.scores.items())]
        )


def advise_threshold(
    scores: Scores,
    *,
    recall_at_least: float | None = None,
    precision_at_least: float | None = None,
    cost: tuple[float, float] | None = None,
    beta: float | None = None,
    confidence: float = 0.95,
) -> Advice:
    """The decision threshold for a promise on new data, or for the least cost or best F-beta.

    A threshold that just meets a recall on validation data keeps it on new data in less than half of all cases.
    The one advised here keeps it with the confidence asked for, whatever the distribution; where the data
    are too few for that, the advice says how many positives are missing.

    Args:
        scores: Of a `BinaryMetrics` that keeps its curve.
        recall_at_least: Recall to keep: the highest threshold that is shown to do so.
        precision_at_least: Precision to keep: the lowest threshold that is shown to do so. With both, the
            highest threshold for the recall, if it keeps the precision too, at half of the error each.
        cost: Cost of a false alarm and of a miss.
        beta: F-beta to make largest; recall counts `beta` times as much as precision.
        confidence: One-sided confidence of a certificate.

    Raises:
        ConfigError: If not exactly one aim is named, or one is out of its range, or the metric kept no scores.
        DataError: If nothing was counted.
    """
    tune = _tuning(
        recall_at_least, precision_at_least, cost, beta, 1.0 - _share("confidence", confidence)
    )
    table = scores.thresholds()
    if len(table.threshold) == 0:
        raise DataError("scores", "at least one sample", "none", "Update the metric before asking.")
    cuts = ThresholdCounts.of(table.threshold.numpy(), table.tp.numpy(), table.fp.numpy())
    weighted = scores.weighted
    choice = WEIGHTED if weighted and cost is None and beta is None else tune(cuts)
    confusion = None if weighted or choice.row is None else _cross_fit(cuts, tune)
    cross_fit = confusion is not None
    if confusion is None and choice.row is not None:
        confusion = cuts.confusion(choice.row)
    row = -1 if choice.row is None else choice.row
    return Advice(
        threshold=math.nan if choice.row is None else float(cuts.threshold[row]),
        probability=math.nan
        if choice.row is None
        else float(np.append(table.probability, np.inf)[row]),
        certified=choice.certified,
        confidence=confidence,
        needed=choice.needed,
        reason=choice.reason if choice.row is None else f"{choice.reason}; {SEEN[cross_fit]}",
        scores=_scores(confusion, cost, beta, weighted=weighted),
        cross_fit=cross_fit,
    )


def _tuning(
    recall: float | None, precision: float | None, cost: object, beta: object, error: float
) -> c.Tuning:
    """The aim as a function from cuts to a choice."""
    aims = [recall is not None or precision is not None, cost is not None, beta is not None]
    if sum(aims) != 1:
        raise ConfigError("aim", "one of recall_at_least and precision_at_least (or both), cost, beta",
                          "none" if not any(aims) else "several", "Pass recall_at_least=0.95.")  # fmt: skip
    if cost is not None:
        false_alarm, miss = _costs(cost)
        return partial(c.cheapest, false_alarm=false_alarm, miss=miss)
    if beta is not None:
        return partial(c.best_fbeta, beta=_positive("beta", beta, "Pass beta=1 for F1."))
    if recall is None:
        return partial(
            c.precision_at_least, precision=_share("precision_at_least", precision), error=error
        )
    recall = _share("recall_at_least", recall)
    if precision is None:
        return partial(c.recall_at_least, recall=recall, error=error)
    precision = _share("precision_at_least", precision)
    return partial(c.both_at_least, recall=recall, precision=precision, error=error)


def _share(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ConfigError(name, "a share between 0 and 1", repr(value), f"Pass {name}=0.95.")
    return float(value)


def _positive(name: str, value: object, cure: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(name, "a finite number above 0", repr(value), cure)
    return float(value)


def _costs(cost: object) -> tuple[float, float]:
    cure = "Pass cost=(1, 10) where a miss costs as much as ten false alarms."
    if not isinstance(cost, tuple | list) or len(cost) != 2:
        raise ConfigError("cost", "the costs of a false alarm and of a miss", repr(cost), cure)
    return _positive("cost", cost[0], cure), _positive("cost", cost[1], cure)


def _cross_fit(cuts: ThresholdCounts, tune: c.Tuning) -> Counts | None:
    """Each random half counted at the other's threshold, summed; None where a half is too small to choose.

    Source: cross-fitting, Chernozhukov et al., The Econometrics Journal 21, 2018.
    """
    first, second = cuts.halves()
    a, b_ = tune(first), tune(second)
    if a.row is None or b_.row is None or a.needed or b_.needed:
        return None
    return second.confusion(a.row) + first.confusion(b_.row)


def _scores(
    confusion: Counts | None,
    cost: tuple[float, float] | None,
    beta: float | None,
    *,
    weighted: bool,
) -> dict[str, Score]:
    """Named scores of counts; without their intervals where the counts are sums of weights."""
    names = (*REPORTED, *(["fbeta"] if beta else []), *(["cost"] if cost else []))
    if confusion is None:
        return {name: Score(math.nan, reason="no threshold was chosen") for name in names}
    cells = torch.from_numpy(confusion)
    tally = Tally.of_matrix(cells.round().long(), cells, cells)
    estimates = {name: b.SCORES[name](tally) for name in REPORTED}
    estimates |= {"fbeta": b.fbeta(tally, beta)} if beta else {}
    scores = {name: values[0] for name, values in to_host(estimates, {})[0].items()}
    scores |= {"cost": _mean_cost(confusion, *cost)} if cost else {}
    if not weighted:
        return scores
    return {
        name: Score(s.value, n=s.n, reason=s.reason, higher_is_better=s.higher_is_better)
        for name, s in scores.items()
    }


def _mean_cost(confusion: Counts, false_alarm: float, miss: float) -> Score:
    """Mean cost of a sample and its normal interval; falls, 0 or more."""
    n, (fp, fn) = confusion.sum(), (confusion[0, 1], confusion[1, 0])
    mean = (false_alarm * fp + miss * fn) / n
    spread = (false_alarm**2 * fp + miss**2 * fn) / n - mean**2
    half = Z * math.sqrt(max(spread, 0.0) / n)
    low = max(0.0, mean - half)
    return Score(mean, low=low, high=mean + half, n=int(n), method="normal", higher_is_better=False)
