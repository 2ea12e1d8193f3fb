"""Advice on the decision threshold: what turns a threshold table into a certified choice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ptmetrics.errors import ConfigError, DataError
from ptmetrics.metrics import options
from ptmetrics.metrics import threshold_search as search
from ptmetrics.metrics.binary import BINARY_SPECS, binary_fbeta_spec
from ptmetrics.metrics.class_scores import ClassCounts
from ptmetrics.metrics.estimate import Array, NamedScores
from ptmetrics.metrics.intervals import Z
from ptmetrics.metrics.score import Score
from ptmetrics.metrics.score_curve import ThresholdTable
from ptmetrics.metrics.score_spec import evaluate
from ptmetrics.metrics.threshold_search import Choice, Cuts, Tuning

REPORTED = ("recall", "precision", "specificity", "f1", "accuracy")
WEIGHTED = Choice(
    None,
    False,
    None,
    "no certificate from weighted counts, as a sum of weights is not a number of samples; "
    "count without weights",
)
CROSS_FIT = "scores are of halves of the data that had no part in choosing"
OPTIMISTIC = "scores are optimistic, as the same data chose the threshold"


@dataclass(frozen=True)
class Advice:
    """A decision threshold, what is promised of it, and what it did on data that did not choose it.

    Attributes:
        threshold: Call positive from here, in the unit of the predictions; NaN where none can be
            advised, infinite where it is best to call nothing positive.
        probability: The same as a probability.
        certified: Whether the promise holds for new data of the same distribution with this
            confidence.
        confidence: Confidence of the certificate.
        needed: Positives that are missing for a certificate; None where there is one or none is to
            be had.
        reason: What was done and why, in words.
        scores: Recall, precision, specificity, F1, accuracy, and "fbeta" or "cost" (a sample) where
            asked for.
        cross_fit: Whether the scores come from data that had no part in choosing: each random half
            is counted at the threshold that the other half would choose. False: they are optimistic.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> metrics = pm.BinaryMetrics(inputs="probs")
        >>> metrics.update(torch.linspace(0, 1, 20), torch.arange(20) // 10)
        >>> advice = pm.advise_threshold(metrics.compute(), recall_at_least=0.9)
        >>> advice.certified, advice.needed
        (False, 19)
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

    def to_dict(self) -> dict[str, Any]:
        """Every field by its name; NaN and infinity as None, so that any JSON parser reads it."""
        fields = dict(vars(self))
        fields["scores"] = {
            name: _finite_fields(score.to_dict()) for name, score in self.scores.items()
        }
        return _finite_fields(fields)

    def __str__(self) -> str:
        if math.isnan(self.threshold):
            return f"no threshold: {self.reason}"
        head = f"threshold {self.threshold:.6g} (probability {self.probability:.4g})"
        if self.certified:
            head = f"{head}, certified at {100 * self.confidence:g} %"
        lines = [f"{head}: {self.reason}"]
        width = max(map(len, self.scores))
        lines.extend(f"  {name:<{width}}  {score}" for name, score in self.scores.items())
        return "\n".join(lines)


@runtime_checkable
class HasThresholds(Protocol):
    """What tells the counts at every threshold, such as `Scores`."""

    @property
    def weighted(self) -> bool:
        """Whether counts are sums of weights."""

    def thresholds(self, label: str | int | None = None) -> ThresholdTable:
        """Counts at every threshold."""


def advise(
    scores: HasThresholds,
    *,
    recall_at_least: float | None,
    precision_at_least: float | None,
    cost: tuple[float, float] | None,
    beta: float | None,
    confidence: float,
    label: str | int | None,
) -> Advice:
    """Advice on what was counted; arguments and errors as of `advise_threshold`."""
    error = 1.0 - _share("confidence", confidence)
    tune = _tuning(recall_at_least, precision_at_least, cost, beta, error)
    table = scores.thresholds(label)
    if len(table.threshold) == 0:
        raise DataError("scores", "at least one sample", "none", "Update the metric before asking.")
    cuts = Cuts.of(table.threshold.numpy(), table.tp.numpy(), table.fp.numpy())
    choice = WEIGHTED
    if not scores.weighted or cost is not None or beta is not None:
        choice = tune(cuts)
    if choice.row is None:
        return Advice(
            threshold=math.nan,
            probability=math.nan,
            certified=choice.certified,
            confidence=confidence,
            needed=choice.needed,
            reason=choice.reason,
            scores=_nothing_advised(cost, beta, choice.reason),
            cross_fit=False,
        )
    confusion = None
    if not scores.weighted:
        confusion = _cross_fit(cuts, tune)
    cross_fit = confusion is not None
    said = CROSS_FIT
    if confusion is None:
        confusion = cuts.confusion(choice.row)
        said = OPTIMISTIC
    named = _scores_at(confusion, cost, beta)
    if scores.weighted:
        named = {name: _without_interval(score) for name, score in named.items()}
    probability = np.append(table.probability.numpy(), np.inf)
    return Advice(
        threshold=float(cuts.threshold[choice.row]),
        probability=float(probability[choice.row]),
        certified=choice.certified,
        confidence=confidence,
        needed=choice.needed,
        reason=f"{choice.reason}; {said}",
        scores=named,
        cross_fit=cross_fit,
    )


def _tuning(
    recall: float | None,
    precision: float | None,
    cost: object,
    beta: object,
    error: float,
) -> Tuning:
    """The aim as a function from cuts to a choice."""
    aims = [recall is not None or precision is not None, cost is not None, beta is not None]
    if sum(aims) != 1:
        rule = "one of recall_at_least and precision_at_least (or both), cost, beta"
        fact = "several" if any(aims) else "none"
        raise ConfigError("aim", rule, fact, "Pass recall_at_least=0.95.")
    if cost is not None:
        cure = "Pass cost=(1, 10) where a miss costs as much as ten false alarms."
        if not isinstance(cost, tuple | list) or len(cost) != 2:
            raise ConfigError("cost", "the costs of a false alarm and of a miss", repr(cost), cure)
        false_alarm = _positive("cost", cost[0], cure)
        miss = _positive("cost", cost[1], cure)
        return partial(search.cheapest, false_alarm=false_alarm, miss=miss)
    if beta is not None:
        return partial(search.best_fbeta, beta=_positive("beta", beta, "Pass beta=1 for F1."))
    if recall is None:
        precision = _share("precision_at_least", precision)
        return partial(search.precision_at_least, precision=precision, error=error)
    recall = _share("recall_at_least", recall)
    if precision is None:
        return partial(search.recall_at_least, recall=recall, error=error)
    precision = _share("precision_at_least", precision)
    return partial(search.both_at_least, recall=recall, precision=precision, error=error)


def _share(name: str, value: object) -> float:
    if isinstance(value, int | float) and options.is_number(value) and 0 < value < 1:
        return float(value)
    raise ConfigError(name, "a share between 0 and 1", repr(value), f"Pass {name}=0.95.")


def _positive(name: str, value: object, cure: str) -> float:
    if isinstance(value, int | float) and options.is_number(value) and 0 < value < math.inf:
        return float(value)
    raise ConfigError(name, "a finite number above 0", repr(value), cure)


def _cross_fit(cuts: Cuts, tune: Tuning) -> Array | None:
    """Each random half counted at the other's threshold, summed.

    None where a half is too small to choose.

    Source: cross-fitting, Chernozhukov et al., The Econometrics Journal 21, 2018.
    """
    first, second = cuts.halves()
    of_first = tune(first)
    of_second = tune(second)
    if of_first.row is None or of_second.row is None or of_first.needed or of_second.needed:
        return None
    return second.confusion(of_first.row) + first.confusion(of_second.row)


def _scores_at(
    confusion: Array, cost: tuple[float, float] | None, beta: float | None
) -> dict[str, Score]:
    """Named scores of counts, rows actual."""
    specs = [spec for spec in BINARY_SPECS if spec.name in REPORTED and not spec.each]
    if beta is not None:
        specs.append(binary_fbeta_spec(beta))
    view = ClassCounts.of_matrices(np.rint(confusion).astype(int), confusion, confusion, math.nan)
    with np.errstate(all="ignore"):
        estimates = evaluate(specs, view)
    names = list(REPORTED)
    if beta is not None:
        names.append("fbeta")
    scores = dict(NamedScores({name: estimates[name, False] for name in names}))
    if cost is not None:
        scores["cost"] = _mean_cost(confusion, *cost)
    return scores


def _nothing_advised(
    cost: tuple[float, float] | None, beta: float | None, reason: str
) -> dict[str, Score]:
    names = list(REPORTED)
    if beta is not None:
        names.append("fbeta")
    if cost is not None:
        names.append("cost")
    why = f"no threshold was chosen: {reason}"
    return {name: Score(math.nan, reason=why) for name in names}


def _mean_cost(confusion: Array, false_alarm: float, miss: float) -> Score:
    """Mean cost of a sample and its normal interval; falls, 0 or more."""
    n = confusion.sum()
    fp = confusion[0, 1]
    fn = confusion[1, 0]
    mean = (false_alarm * fp + miss * fn) / n
    spread = (false_alarm**2 * fp + miss**2 * fn) / n - mean**2
    half = Z * math.sqrt(max(spread, 0.0) / n)
    low = max(0.0, mean - half)
    return Score(mean, low=low, high=mean + half, n=int(n), method="normal", higher_is_better=False)


def _without_interval(score: Score) -> Score:
    """Where the counts are sums of weights."""
    better = score.higher_is_better
    return Score(score.value, n=score.n, reason=score.reason, higher_is_better=better)


def _finite_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    finite = {}
    for name, value in fields.items():
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        finite[name] = value
    return finite
