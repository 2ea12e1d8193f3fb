"""Gaps between slices: the largest difference and the smallest ratio of a score, with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from ptmetrics.errors import ConfigError
from ptmetrics.metrics.estimate import Array
from ptmetrics.metrics.intervals import Z, wilson
from ptmetrics.metrics.score import Score, Scores
from ptmetrics.metrics.score_spec import NOTHING_KNOWN

SlicedScores = Mapping[str, Mapping[str, Score]]
ONE_SLICE = "fewer than two slices have this score"
SIMULTANEOUS = "mover-sidak"
MOST_ROWS = 1e15
SMALLEST = 1e-300  # in the place of 0, whose logarithm is infinite


class Gap(NamedTuple):
    """How far slices are apart in one score.

    Attributes:
        difference: The largest value minus the smallest; 0 where all slices are alike.
        ratio: The smallest over the largest; 1 where they are alike, NaN for scores below 0.
        highest: The slice with the largest value.
        lowest: The slice with the smallest.
    """

    difference: Score
    ratio: Score
    highest: str
    lowest: str


def gap_between(slices: SlicedScores, name: str, *, of_one: bool = False, families: int = 1) -> Gap:
    """The gap between slices, whose rows are others and so independent.

    The largest of many differences is above 0 by chance alone. Each pair of slices has an interval
    by MOVER at Šidák's level for all pairs, so that all hold at once with 95 %; the ends of the gap
    are the largest of their ends.

    Args:
        slices: Scores by the name of the slice.
        name: The score.
        of_one: Whether the gap is that of 1 − score.
        families: How many scores are looked at together.

    Raises:
        ConfigError: If there are no slices, or the score is none of theirs.

    Source: Zou and Donner 2008 (MOVER); Šidák, JASA 1967.
    """
    if not slices:
        cure = 'Build the metric with slices=["a", "b"] and pass slices=ids to update.'
        raise ConfigError("slices", "scores of slices", "none", cure)
    known = next(iter(slices.values()))
    if name not in known:
        cure = f"Pass one of {', '.join(known)}."
        raise ConfigError("name", "a score of the slices", repr(name), cure)
    scores = {key: each[name] for key, each in slices.items() if each[name].low <= each[name].high}
    if len(scores) < 2:
        nothing = Score(math.nan, reason=ONE_SLICE)
        return Gap(nothing, nothing, "", "")
    value, low, high = np.array([(s.value, s.low, s.high) for s in scores.values()]).T
    if of_one:
        value, low, high = 1 - value, 1 - high, 1 - low
    pairs = families * len(scores) * (len(scores) - 1) // 2
    low, high = _at_quantile(value, low, high, NormalDist().inv_cdf((1 + 0.95 ** (1 / pairs)) / 2))
    names = list(scores)
    n = min(score.n for score in scores.values())
    gap = _largest(value, low, high)
    difference = Score(gap[0], low=gap[1], high=gap[2], n=n, method=SIMULTANEOUS)
    ratio = Score(math.nan, reason="the score may be below 0, or is 0 in all slices")
    if low.min() >= 0 and value.max() > 0:
        _, nearest, farthest = _largest(*np.log(np.maximum((value, low, high), SMALLEST)))
        share = float(value.min() / value.max())
        ends = (min(share, math.exp(-farthest)), math.exp(-nearest))
        ratio = Score(share, low=ends[0], high=ends[1], n=n, method=SIMULTANEOUS)
    return Gap(difference, ratio, names[value.argmax()], names[value.argmin()])


def slice_gap(scores: Scores, name: str) -> Gap:
    """How far the slices are apart in a score, with intervals that allow for the most distant of all pairs.

    Args:
        scores: Of a metric with slices.
        name: The score, such as "recall".

    Raises:
        ConfigError: If there are no slices, or the score is none of theirs.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> metrics = pm.BinaryMetrics(inputs="labels", slices=["north", "south"])
        >>> preds, target = torch.tensor([1, 1, 1, 0]), torch.tensor([1, 1, 1, 1])
        >>> metrics.update(preds, target, slices=torch.tensor([0, 0, 1, 1]))
        >>> gap = pm.slice_gap(metrics.compute(), "recall")
        >>> gap.lowest, gap.difference.value, gap.ratio.value
        ('south', 0.5, 0.5)
    """
    return gap_between(scores.per_slice, name)


def fairness_gaps(scores: Scores) -> dict[str, Score]:
    """Gaps of a yes-or-no metric by the names that Fairlearn's users know.

    Demographic parity is that of the `selection_rate`, equal opportunity that of the `recall`;
    equalized odds take the worse of recall and false positive rate.

    Args:
        scores: Of a `BinaryMetrics` with slices.

    Raises:
        ConfigError: If there are no slices, or they are not of a yes-or-no metric.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> metrics = pm.BinaryMetrics(inputs="labels", slices=["north", "south"])
        >>> preds, target = torch.tensor([1, 1, 1, 0]), torch.tensor([1, 0, 1, 1])
        >>> metrics.update(preds, target, slices=torch.tensor([0, 0, 1, 1]))
        >>> pm.fairness_gaps(metrics.compute())["demographic_parity_ratio"].value
        0.5

    Source: Hardt, Price and Srebro, NeurIPS 2016.
    """
    slices = scores.per_slice
    parity = gap_between(slices, "selection_rate")
    opportunity = gap_between(slices, "recall")
    recall = gap_between(slices, "recall", families=2)
    false_positives = gap_between(slices, "specificity", of_one=True, families=2)
    return {
        "demographic_parity_difference": parity.difference,
        "demographic_parity_ratio": parity.ratio,
        "equal_opportunity_difference": opportunity.difference,
        "equal_opportunity_ratio": opportunity.ratio,
        "equalized_odds_difference": _worse(recall.difference, false_positives.difference, max),
        "equalized_odds_ratio": _worse(recall.ratio, false_positives.ratio, min),
    }


def _worse(first: Score, second: Score, worst: Callable[[float, float], float]) -> Score:
    if math.isnan(first) or math.isnan(second):
        return Score(math.nan, reason=first.reason or second.reason)
    n = min(first.n, second.n)
    low = worst(first.low, second.low)
    high = worst(first.high, second.high)
    return Score(worst(first.value, second.value), low=low, high=high, n=n, method=SIMULTANEOUS)


def _at_quantile(value: Array, low: Array, high: Array, z: float) -> tuple[Array, Array]:
    """Ends at another normal quantile than 1.96."""
    if low.min() < 0 or high.max() > 1:
        return value - (value - low) * z / Z, value + (high - value) * z / Z
    # As of a share of so many rows that Wilson's interval has the farther of its ends there.
    end: Array = np.where(value - low > high - value, low, high)
    with np.errstate(divide="ignore", invalid="ignore"):
        n: Array = Z * Z * end * (1 - end) / (value - end) ** 2
    return wilson(value, np.clip(n, NOTHING_KNOWN, MOST_ROWS), z)


def _largest(value: Array, low: Array, high: Array) -> tuple[float, float, float]:
    """The largest difference of any two, and the largest ends of such a difference."""
    below = np.sqrt((value - low)[:, None] ** 2 + (high - value) ** 2)
    apart = value[:, None] - value
    lower = float((apart - below).max())
    return float(apart.max()), max(0.0, lower), float((apart + below.T).max())
