"""When did a run reach a target? Known only up to the spacing of its evaluations."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ptmetrics.errors import ConfigError, DataError
from ptmetrics.record.samples import NOT_KEPT, Kept
from ptmetrics.verdict.finding import Bound, Estimate
from ptmetrics.verdict.samples import kept_by, sampled
from ptmetrics.verdict.sources import RunLike
from ptmetrics.verdict.trends import Curve

Axis = Literal["time", "samples", "steps", "wall", "device"]
AXES: tuple[Axis, ...] = ("time", "samples", "steps", "wall", "device")
_TARGET = re.compile(r"\s*(\S+?)\s*(>=|<=)\s*(\S+)\s*")


@dataclass(frozen=True)
class Target:
    """A level of a score, and the side from which it counts as reached.

    Args:
        metric: Full name of the score, such as "val/accuracy".
        rule: ">=" or "<=".
        level: The level.
    """

    metric: str
    rule: Bound
    level: float

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Read a target such as "val/accuracy>=0.9".

        Raises:
            ConfigError: If it is no score, comparison and number.
        """
        parts = _TARGET.fullmatch(text)
        try:
            level = float(parts.group(3)) if parts else nan
        except ValueError:
            level = nan
        if parts is None or not np.isfinite(level):
            cure = "Name a recorded score, >= or <=, and a number."
            raise ConfigError("target", "a text such as 'val/accuracy>=0.9'", repr(text), cure)
        return cls(parts.group(1), ">=" if parts.group(2) == ">=" else "<=", level)

    def met_by(self, values: Curve) -> npt.NDArray[np.bool_]:
        """Which values have reached the level."""
        return values >= self.level if self.rule == ">=" else values <= self.level

    def __str__(self) -> str:
        return f"{self.metric}{self.rule}{self.level:.6g}"


@dataclass(frozen=True)
class Span:
    """Bounds between which a target was reached; `high` is infinite where it never was.

    Args:
        low: Not yet reached here.
        high: Reached by here.
    """

    low: float
    high: float

    @property
    def censored(self) -> bool:
        """Whether the run ended before it reached the target for good."""
        return self.high == inf


@dataclass(frozen=True)
class Trace:
    """One score of one run, with what it had cost by each evaluation.

    Args:
        scores: The score at each evaluation.
        costs: Cumulative cost at each evaluation by axis: seconds of training ("time"), training samples and
            steps, seconds of wall and device time; an axis that is not recorded throughout, or on which nothing was
            spent, is absent.
        higher_is_better: Direction of the score.
        fingerprint: Identity of the validation data, where recorded.
        val_samples: Size of the validation data, where recorded.
        kept: Reads the validation samples of the last evaluation.
    """

    scores: tuple[Estimate, ...]
    costs: Mapping[Axis, Curve]
    higher_is_better: bool
    fingerprint: str | None
    val_samples: int | None
    kept: Callable[[], Kept] = lambda: NOT_KEPT

    @property
    def values(self) -> Curve:
        """The score's values."""
        return np.array([score.value for score in self.scores], dtype=np.float64)

    @property
    def last(self) -> Estimate:
        """The score at the last evaluation."""
        return self.scores[-1]

    def at(self, axis: Axis, cost: float) -> Estimate:
        """The score at the last evaluation that had cost no more than this."""
        affordable = np.flatnonzero(self.costs[axis] <= cost)
        return (
            self.scores[affordable[-1]]
            if affordable.size
            else Estimate(reason="no evaluation by then")
        )

    def reach(self, target: Target, hold: int, axis: Axis) -> Span:
        """When the target was first met by `hold` evaluations in a row.

        A run that never did is censored at its last evaluation below the target, not at its end: an unconfirmed
        last evaluation may have been the moment.
        """
        met, cost = target.met_by(self.values), self.costs[axis]
        for first in range(met.size - hold + 1):
            if met[first : first + hold].all():
                # A target met before any training was done is known to have been met by the first costly one.
                positive = cost[first:][cost[first:] > 0]
                return Span(
                    float(cost[first - 1]) if first else 0.0,
                    float(positive[0]) if positive.size else 0.0,
                )
        below = np.flatnonzero(~met)
        return Span(float(cost[below[-1]]) if below.size else 0.0, inf)

    def sustained(self, hold: int) -> float:
        """The best level that `hold` evaluations in a row all have; NaN for fewer evaluations."""
        signed = self.values if self.higher_is_better else -self.values
        if signed.size < hold:
            return nan
        level = float(np.lib.stride_tricks.sliding_window_view(signed, hold).min(1).max())
        return level if self.higher_is_better else -level


def trace(run: RunLike, metric: str) -> Trace:
    """Take one score of a run out of its record.

    Raises:
        DataError: If the run never recorded the score, or no training time with it.
    """
    rows = [row for row, epoch in enumerate(run.epochs) if isfinite(_value(epoch, metric))]
    if not rows:
        named = {name for e in run.epochs for name in e["scores"] if isfinite(_value(e, name))}
        known = ", ".join(sorted(named)) or "none has a value"
        raise DataError(
            "metric", f"a score that the run recorded ({known})", repr(metric), "Name one of these."
        )
    spent = {axis: _cost(run.epochs, axis)[rows] for axis in AXES}
    costs = {axis: cost for axis, cost in spent.items() if np.isfinite(cost).all() and cost[-1] > 0}
    if "time" not in costs:
        cure = "Record the run with a Monitor, which times its training."
        raise DataError("run", "the training time of every epoch", "epochs without it", cure)
    return Trace(
        tuple(_sampled(run, run.epochs[row], metric) for row in rows),
        costs,
        bool(run.epochs[rows[-1]]["scores"][metric].get("higher_is_better", True)),
        run.header.get("val_fingerprint"),
        (run.epochs[rows[-1]].get("counts") or {}).get("val_samples"),
        kept_by(run, run.epochs[rows[-1]]),
    )


def _sampled(run: RunLike, epoch: Mapping[str, Any], metric: str) -> Estimate:
    return sampled(epoch["scores"][metric], metric, kept_by(run, epoch))


def _value(epoch: Mapping[str, Any], metric: str) -> float:
    return float(epoch["scores"].get(metric, {}).get("value", nan))


_CUMULATIVE: dict[Axis, tuple[str, str]] = {
    "time": ("time", "train_cumulative_s"),
    "samples": ("counts", "train_samples_cumulative"),
    "steps": ("counts", "train_steps_cumulative"),
    "wall": ("time", "wall_cumulative_s"),
}


def _cost(epochs: Sequence[Mapping[str, Any]], axis: Axis) -> Curve:
    """Cumulative cost at each epoch; NaN where it is not recorded."""
    if axis == "device":  # recorded for each epoch alone
        return np.cumsum([_number(epoch, "time", "train_device_s") for epoch in epochs])
    return np.array([_number(epoch, *_CUMULATIVE[axis]) for epoch in epochs], dtype=np.float64)


def _number(epoch: Mapping[str, Any], group: str, name: str) -> float:
    value = (epoch.get(group) or {}).get(name)
    return nan if value is None else float(value)
