"""Estimates: values with their intervals as NumPy arrays on the host, before they become `Score`s."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np

from ptmetrics.errors import ConfigError
from ptmetrics.metrics.score import Score, reason_of

Made = TypeVar("Made")
Array: TypeAlias = Any
"""A NumPy array of float64 or int64: NumPy's own types call most results of it Any."""

Key: TypeAlias = tuple[str, bool]
"""Name of a score, and whether there is one a class."""


@dataclass(frozen=True)
class Estimate:
    """A value, or an array of them, with intervals.

    Attributes:
        value: Float64 of any shape; NaN where undefined.
        low: Lower ends, same shape.
        high: Upper ends, same shape.
        n: Int64 number of samples, same shape or one that broadcasts to it.
        method: Name of the interval's method.
        reason: What to say where the value is NaN.
        higher_is_better: Direction; None where none is better.
        error_bound: Certified numerical error; 0 where exact.
    """

    value: Array
    low: Array
    high: Array
    n: Array
    method: str
    reason: str
    higher_is_better: bool | None = True
    error_bound: Array | float = 0.0

    @classmethod
    def exact(cls, value: Array, n: Array, reason: str, **more: Any) -> Estimate:
        """A number without doubt, such as a count."""
        return cls(value, value, value, n, more.pop("method", "count"), reason, **more)

    def filled(self, absent: float) -> Estimate:
        """`absent` where the value is undefined; its interval is the value itself, as for any constant."""
        if np.isnan(absent):
            return self
        undefined = np.isnan(self.value)
        value, low, high = (
            np.where(undefined, absent, x) for x in (self.value, self.low, self.high)
        )
        return replace(self, value=value, low=low, high=high)

    def part(self, index: Any) -> Estimate:
        """Some entries of the last dimension."""
        return self.of_part((..., index))

    def of_part(self, index: Any) -> Estimate:
        """Some entries of the first dimension."""
        shape = self.value.shape
        numbers = (self.value, self.low, self.high, self.n, self.error_bound)
        value, low, high, n, bound = (np.broadcast_to(x, shape)[index] for x in numbers)
        return replace(self, value=value, low=low, high=high, n=n, error_bound=bound)


UNDEFINED = Estimate(np.nan, np.nan, np.nan, 0, "none", "it was not computed")


def add_parts(
    found: Sequence[dict[Any, dict[Any, Estimate]]], key: Any, estimates: Mapping[Any, Estimate]
) -> None:
    """Give each of several metrics its place in the leading dimension of estimates, under a key."""
    for mine in found:
        mine[key] = {}
    for name, e in estimates.items():
        n = np.broadcast_to(e.n, e.value.shape)
        said = (e.method, e.reason, e.higher_is_better)
        for i, mine in enumerate(found):
            bound: Any = e.error_bound
            if np.ndim(bound):
                bound = bound[i]
            mine[key][name] = Estimate(e.value[i], e.low[i], e.high[i], n[i], *said, bound)


def estimate_of(score: Any, n: Array) -> Estimate:
    """A number or a `Score` as an estimate of so many rows."""
    if isinstance(score, Estimate):
        return score
    if isinstance(score, Score):
        ends = (np.float64(score.low), np.float64(score.high))
        reason = score.reason or "it is NaN"
        number = np.int64(score.n) if score.n else n
        return Estimate(
            np.float64(score), *ends, number, score.method, reason, score.higher_is_better
        )
    nothing = np.float64(math.nan)
    reason = "nothing was counted"
    # A plain number declares no direction.
    return Estimate(np.float64(score), nothing, nothing, np.asarray(n), "none", reason, None)


def stacked(some: Sequence[Estimate]) -> Estimate:
    """Estimates of several parts in a leading dimension."""
    value, low, high, n = (
        np.stack([np.asarray(getattr(e, name)) for e in some])
        for name in ("value", "low", "high", "n")
    )
    first = some[0]
    return Estimate(value, low, high, n, first.method, first.reason, first.higher_is_better)


def score_of(e: Estimate, place: Any = ()) -> Score:
    """The `Score` of an estimate, or of one entry of it."""
    shape = np.shape(e.value)
    return Score(
        float(np.asarray(e.value)[place]),
        low=float(np.asarray(e.low)[place]),
        high=float(np.asarray(e.high)[place]),
        n=int(np.broadcast_to(e.n, shape)[place]),
        method=e.method,
        reason=e.reason,
        error_bound=float(np.broadcast_to(e.error_bound, shape)[place]),
        higher_is_better=e.higher_is_better,
    )


def _no_number(name: str, e: Estimate) -> ConfigError:
    cure = "Let its formula sum over the last dimension, or pass each=True for a score a class."
    return ConfigError(f"score {name}", "one number", f"numbers of shape {np.shape(e.value)}", cure)


class _Named(Mapping[str, Made]):
    """What is made of estimates by name when it is asked for."""

    def __init__(self, estimates: Mapping[str, Estimate], place: Any = ()) -> None:
        self.estimates = estimates
        self._place = place
        self._made: dict[str, Made] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self.estimates)

    def __len__(self) -> int:
        return len(self.estimates)


class NamedScores(_Named[Score]):
    """Scores by name; each `Score` is made when it is asked for.

    Args:
        estimates: Scalar estimates by name, or those of all slices.
        place: The slice.

    Attributes:
        estimates: As given.
    """

    def __getitem__(self, name: str) -> Score:
        e = self.estimates[name]
        try:
            return score_of(e, self._place)
        except TypeError as error:
            raise _no_number(name, e) from error

    @property
    def columns(self) -> ScoreColumns:
        """Those of all slices."""
        return ScoreColumns(self.estimates)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values of all, as they stand in a record."""
        plain: dict[str, dict[str, Any]] = {}
        for name, e in self.estimates.items():
            try:
                value, low, high = float(e.value), float(e.low), float(e.high)
            except TypeError as error:
                raise _no_number(name, e) from error
            n = int(e.n)
            reason = None
            if math.isnan(value) or math.isnan(low) or math.isnan(high):
                reason = reason_of(value, n, e.method, e.reason)
            plain[name] = {
                "value": value,
                "error_bound": float(e.error_bound),
                "high": high,
                "higher_is_better": e.higher_is_better,
                "low": low,
                "method": e.method,
                "n": n,
                "reason": reason,
            }
        return plain


class ScoreColumns(_Named[Sequence[Score]]):
    """Scores of each class by name, or those of each slice.

    Args:
        estimates: Estimates of shape (C,) by name.
    """

    def __getitem__(self, name: str) -> Sequence[Score]:
        if name not in self._made:
            e = self.estimates[name]
            self._made[name] = [score_of(e, place) for place in range(len(e.value))]
        return self._made[name]

    def to_dict(self, most: int | None = None) -> dict[str, dict[str, Any]]:
        """Plain columns of all, as they stand in a record; so many entries of each at most."""
        plain: dict[str, dict[str, Any]] = {}
        for name, e in self.estimates.items():
            plain[name] = {
                "value": e.value[:most].tolist(),
                "low": e.low[:most].tolist(),
                "high": e.high[:most].tolist(),
                "n": np.broadcast_to(e.n, e.value.shape)[:most].tolist(),
                "method": e.method,
            }
        return plain


def worst_first(
    names: Sequence[str], estimates: Mapping[Key, Estimate], lead: str
) -> tuple[dict[str, NamedScores], dict[str, ScoreColumns]]:
    """Slices by name, the worst by its leading score first; those where it is undefined last.

    Args:
        names: Of the slices.
        estimates: By name and whether there is one a class, of all slices in a leading dimension.
        lead: Name of the score.

    Returns:
        Of each slice its scores, and its scores of each class.
    """
    columns = {name: e for (name, each), e in estimates.items() if not each}
    of_classes = {name: e for (name, each), e in estimates.items() if each}
    badness = columns[lead].value
    if columns[lead].higher_is_better is False:
        badness = -badness
    order = np.argsort(badness, kind="stable")  # NaN is last
    ordered = {name: e.part(order) for name, e in columns.items()}
    scores = {names[i]: NamedScores(ordered, place) for place, i in enumerate(order)}
    classes = {}
    for i in order:
        classes[names[i]] = ScoreColumns({name: e.of_part(i) for name, e in of_classes.items()})
    return scores, classes
