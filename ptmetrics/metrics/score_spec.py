"""`ScoreSpec`: a score is one entry of a table; the scores of a table are computed together, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ptmetrics.errors import ConfigError
from ptmetrics.metrics import delta
from ptmetrics.metrics.estimate import Array, Estimate
from ptmetrics.metrics.intervals import mean_interval, mover, wilson

Interval = str | Callable[["ScoreSpec", Any, bool], Estimate]


@dataclass(frozen=True)
class ScoreSpec:
    """A score: its name, its formula over what was counted, its interval, and what is to be said of it.

    Args:
        name: What results and records call it, such as "f1/macro".
        formula: From counts to the score. What it is given has arrays `hits`, `actual`, `predicted` and `others` (rows
            of other classes), each of shape (…, C), for scores of classes; the cells by name for other metrics. What it
            returns is told by `interval`.
        interval: Name of the method, which says what `formula` returns:
            "wilson" a pair (part, whole) of which the score is the ratio;
            "mover" such a pair of each class, of which the score is the mean;
            "delta" the score as a smooth function of hits, actual and predicted;
            "normal" the six sums of a cell with merge "mean";
            "none" the score itself, without an interval;
            or a function of (spec, counts, whether intervals are wanted) that returns an `Estimate`.
        higher_is_better: Direction.
        range: The least and the largest value.
        doc: What it is, in one sentence.
        undefined: Why the score is NaN where it is.
        source: Where the formula comes from.
        each: Whether it is a score of each class, label or output: it stands in `scores.per_class` then.
        gradient: For "delta": from the same counts and the score, its derivatives by hits, actual and predicted, each of
            shape (…, C). Without it, they are found by differences.
        through: A monotone function that a ratio goes through, such as x / (2 − x).
        absent: Whether the metric's `absent` stands in for it where it is undefined.
        method: What results call the interval; the name of the method where it is empty.
        scale: "atanh" for a correlation, whose interval by groups is made on that scale; else it follows from `range`.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> youden = pm.ScoreSpec(
        ...     "youden",
        ...     lambda c: c.hits[..., 1] / c.actual[..., 1] + c.hits[..., 0] / c.actual[..., 0] - 1,
        ...     interval="delta",
        ...     range=(-1, 1),
        ... )
        >>> metrics = pm.MulticlassMetrics(2, inputs="labels", scores=[youden])
        >>> metrics.update(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1, 1, 0]))
        >>> metrics.compute()["youden"].value
        0.5
    """

    name: str
    formula: Any = None
    interval: Interval = "none"
    higher_is_better: bool = True
    range: tuple[float, float] = (0.0, 1.0)
    doc: str = ""
    undefined: str = "nothing was counted"
    source: str = ""
    each: bool = False
    gradient: Callable[[Any, Array], tuple[Array, Array, Array]] | None = None
    through: Callable[[Array], Array] | None = None
    absent: bool = False
    method: str = ""
    scale: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.interval, str) and self.interval not in INTERVALS:
            rule = f"one of {', '.join(INTERVALS)}, or a function"
            raise ConfigError("interval", rule, repr(self.interval), 'Pass interval="none".')

    @property
    def said_method(self) -> str:
        """What results call the interval."""
        if self.method or not isinstance(self.interval, str):
            return self.method
        return self.interval

    def estimate(self, value: Array, low: Array, high: Array, n: Array) -> Estimate:
        """Numbers with all that is to be said of them."""
        reason = self.undefined
        return Estimate(value, low, high, n, self.said_method, reason, self.higher_is_better)

    def through_ends(self, value: Array, low: Array, high: Array) -> tuple[Array, Array, Array]:
        """A ratio and its ends, each through `through`, which may fall."""
        if self.through is None:
            return value, low, high
        value, low, high = self.through(value), self.through(low), self.through(high)
        return value, np.fmin(low, high), np.fmax(low, high)


class View(Protocol):
    """What formulas are given: counts that can be asked for as sums of weights and as whole numbers."""

    absent: float

    @property
    def weights(self) -> Any:
        """Σw, float64, for formulas without an interval."""

    @property
    def sums(self) -> Any:
        """Σw and Σw², float64 with a leading dimension of 2."""

    @property
    def counts(self) -> Any:
        """Numbers of rows, int64."""


@dataclass(frozen=True)
class ScoreTable:
    """Scores of the same counts.

    Attributes:
        view: From a metric and the host's counts to what the formulas are given; None where it does not apply.
        specs: The scores, in the order of a report.
        title: What the printed documentation calls it.
    """

    view: Callable[[Any, Any], Any]
    specs: tuple[ScoreSpec, ...]
    title: str = ""


def evaluate(
    specs: Sequence[ScoreSpec], view: Any, *, intervals: bool = True
) -> dict[tuple[str, bool], Estimate]:
    """All scores of a table at once, those with one method of an interval stacked.

    Args:
        specs: The scores.
        view: What their formulas are given.
        intervals: Whether intervals are wanted; else the ends are the value itself, which takes far less.

    Returns:
        Name and `each` of a score to its estimate, in the order of the specs.
    """
    found: dict[tuple[str, bool], Estimate] = {}
    by_method: dict[str, list[ScoreSpec]] = {}
    for spec in specs:
        if isinstance(spec.interval, str):
            by_method.setdefault(spec.interval, []).append(spec)
        else:
            found[spec.name, spec.each] = spec.interval(spec, view, intervals)
    for method, some in by_method.items():
        for spec, estimate in zip(some, INTERVALS[method](some, view, intervals), strict=True):
            if spec.absent:
                estimate = estimate.filled(view.absent)
            found[spec.name, spec.each] = estimate
    return {(spec.name, spec.each): found[spec.name, spec.each] for spec in specs}


def _wilson(specs: Sequence[ScoreSpec], view: Any, intervals: bool) -> Iterator[Estimate]:
    by_shape: dict[tuple[int, ...], list[int]] = {}
    ratios = []
    for place, spec in enumerate(specs):
        part, whole = spec.formula(view.sums)
        ratios.append((part[0], whole[0], whole[1]))
        by_shape.setdefault(np.shape(part[0]), []).append(place)
    ends: dict[int, tuple[Array, Array, Array]] = {}
    for places in by_shape.values():
        part, whole, square = (np.stack(x) for x in zip(*[ratios[i] for i in places], strict=True))
        # Sums of weights in another order may differ in the last digit.
        p = np.clip(part / whole, 0, 1)
        low, high = p, p
        if intervals:
            low, high = wilson(p, whole**2 / square)
        for row, place in enumerate(places):
            ends[place] = specs[place].through_ends(p[row], low[row], high[row])
    for place, spec in enumerate(specs):
        _, n = spec.formula(view.counts)
        yield spec.estimate(*ends[place], np.asarray(n))


def _mover(specs: Sequence[ScoreSpec], view: Any, intervals: bool) -> Iterator[Estimate]:
    for spec in specs:
        part, whole = spec.formula(view.sums)
        p = np.clip(part[0] / whole[0], 0, 1)
        n = whole[0] ** 2 / whole[1]
        if spec.absent and not math.isnan(view.absent):
            n = np.where(np.isnan(p), 0.0, n)  # a constant has no doubt
            p = np.where(np.isnan(p), view.absent, p)
        if intervals:
            value, low, high = mover(p, n, through=spec.through)
        else:
            defined = ~np.isnan(p)
            value = np.where(defined, p, 0.0).sum(-1) / defined.sum(-1)
            low, high = value, value
        yield replace(spec, absent=False).estimate(value, low, high, view.n)


def _delta(specs: Sequence[ScoreSpec], view: Any, intervals: bool) -> Iterator[Estimate]:
    if not intervals:
        for spec in specs:
            value = np.clip(spec.formula(view.sums)[0], *spec.range)
            yield spec.estimate(value, value, value, view.n)
        return
    bounds = [spec.range for spec in specs]
    formulas = [spec.formula for spec in specs]
    gradients = [spec.gradient for spec in specs]
    values, lows, highs = delta.delta_intervals(formulas, gradients, bounds, view)
    for spec, value, low, high in zip(specs, values, lows, highs, strict=True):
        yield spec.estimate(value, low, high, view.n)


def _normal(specs: Sequence[ScoreSpec], view: Any, intervals: bool) -> Iterator[Estimate]:
    for spec in specs:
        sums = spec.formula(view)
        value, low, high = mean_interval(sums)
        low, high = np.maximum(low, spec.range[0]), np.minimum(high, spec.range[1])
        yield spec.estimate(value, low, high, sums[0].astype(np.int64))


def _none(specs: Sequence[ScoreSpec], view: Any, intervals: bool) -> Iterator[Estimate]:
    for spec in specs:
        value = np.asarray(spec.formula(view.weights), dtype=np.float64)
        nothing = np.full_like(value, np.nan)
        n = np.asarray(view.n)
        if spec.each:
            n = n[..., None]
        yield spec.estimate(value, nothing, nothing, np.broadcast_to(n, value.shape))


INTERVALS: Mapping[str, Callable[[Sequence[ScoreSpec], Any, bool], Iterable[Estimate]]] = {
    "wilson": _wilson,
    "mover": _mover,
    "delta": _delta,
    "normal": _normal,
    "none": _none,
}
