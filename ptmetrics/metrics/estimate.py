"""Estimates: values with their intervals as NumPy arrays on the host, before they become `Score`s."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, overload

import numpy as np

from ptmetrics.metrics.score import Score, reason_of

Array: TypeAlias = Any
"""A NumPy array of float64 or int64: NumPy's own types call most results of it Any."""


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


class NamedScores(Mapping[str, Score]):
    """Scores by name; each `Score` is made when it is asked for.

    Args:
        estimates: Scalar estimates by name.
    """

    def __init__(self, estimates: Mapping[str, Estimate]) -> None:
        self._estimates = dict(estimates)

    def __getitem__(self, name: str) -> Score:
        e = self._estimates[name]
        return Score(
            float(e.value),
            low=float(e.low),
            high=float(e.high),
            n=int(e.n),
            method=e.method,
            reason=e.reason,
            error_bound=float(e.error_bound),
            higher_is_better=e.higher_is_better,
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._estimates)

    def __len__(self) -> int:
        return len(self._estimates)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values of all, as they stand in a record."""
        plain: dict[str, dict[str, Any]] = {}
        for name, e in self._estimates.items():
            value, low, high = float(e.value), float(e.low), float(e.high)
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


class ScoreColumn(Sequence[Score]):
    """One score a class, label, output or slice; each `Score` is made when it is asked for.

    Args:
        estimate: Of shape (C,).
    """

    def __init__(self, estimate: Estimate) -> None:
        self._estimate = estimate

    def __len__(self) -> int:
        return len(self._estimate.value)

    @overload
    def __getitem__(self, index: int) -> Score: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Score, ...]: ...

    def __getitem__(self, index: int | slice) -> Score | tuple[Score, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        return NamedScores({"": self._estimate.part(index)})[""]

    def __iter__(self) -> Iterator[Score]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def to_dict(self) -> dict[str, Any]:
        """Plain columns, as they stand in a record."""
        e = self._estimate
        n = np.broadcast_to(e.n, e.value.shape)
        return {
            "value": e.value.tolist(),
            "low": e.low.tolist(),
            "high": e.high.tolist(),
            "n": n.tolist(),
            "method": e.method,
        }
