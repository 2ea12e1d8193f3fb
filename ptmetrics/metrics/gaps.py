"""Gaps between slices: the largest difference and the smallest ratio of a score, with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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
    """Gaps between slices by the names that Fairlearn's users know.

    Demographic parity is that of the `selection_rate`, equal opportunity that of the `recall`;
    equalized odds take the worse of recall and false positive rate. Of classes and labels each is
    held against the rest, and the worst gap of any is told.

    Args:
        scores: Of a `BinaryMetrics` with slices, or of classes or labels with
            `scores=["selection_rate", "specificity"]` as well.

    Raises:
        ConfigError: If there are no slices, or they lack a score.

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
    each: list[SlicedScores] = [scores.per_slice]
    if scores.task != "binary" and scores.per_slice_class:
        each = by_class(scores.per_slice_class)
    number = len(each)
    gaps: dict[str, list[list[Gap]]] = {
        "demographic_parity": [],
        "equal_opportunity": [],
        "equalized_odds": [],
    }
    for one in each:
        gaps["demographic_parity"].append([gap_between(one, "selection_rate", families=number)])
        gaps["equal_opportunity"].append([gap_between(one, "recall", families=number)])
        hit = gap_between(one, "recall", families=2 * number)
        false = gap_between(one, "specificity", of_one=True, families=2 * number)
        gaps["equalized_odds"].append([hit, false])
    found: dict[str, Score] = {}
    for name, some in gaps.items():
        found[f"{name}_difference"] = _worst([[gap.difference for gap in one] for one in some], max)
        found[f"{name}_ratio"] = _worst([[gap.ratio for gap in one] for one in some], min)
    return found


def by_class(slices: Mapping[str, Mapping[str, Sequence[Score]]]) -> list[SlicedScores]:
    """Scores by slice of each class or label."""
    number = max(len(column) for each in slices.values() for column in each.values())
    return [
        {key: {name: column[i] for name, column in each.items()} for key, each in slices.items()}
        for i in range(number)
    ]


def _worst(classes: list[list[Score]], worst: Callable[[list[float]], float]) -> Score:
    """The worst of the classes that lack no gap."""
    known = [gap for gaps in classes if not any(map(math.isnan, gaps)) for gap in gaps]
    if not known:
        return next(gap for gap in classes[0] if math.isnan(gap))
    return Score(
        worst([gap.value for gap in known]),
        low=worst([gap.low for gap in known]),
        high=worst([gap.high for gap in known]),
        n=min(gap.n for gap in known),
        method=SIMULTANEOUS,
    )


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
