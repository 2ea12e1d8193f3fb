"""What is measured of a rule: how often its code is raised where the truth is known."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptmetrics.verdict.compare import compare
from ptmetrics.verdict.finding import Finding
from ptmetrics.verdict.judge import judge
from ptmetrics.verdict.profile import Thresholds
from tests.studies.synthetic import Random, shares

Find = Callable[[Sequence[str], Any], Iterable[Finding]]


def judged(codes: Sequence[str], source: Any) -> Iterable[Finding]:
    """Findings of these codes that a verdict on the source holds."""
    return judge(source, select=codes).findings


def judged_whole(codes: Sequence[str], source: Any) -> Iterable[Finding]:
    """Findings of a verdict with all rules, for a code that stands for other criteria."""
    return judge(source).findings


def judged_with(limits: Thresholds) -> Find:
    """Findings of a verdict by other thresholds than those of the profile `balanced`."""
    return lambda codes, source: judge(source, select=codes, profile=limits).findings


def against_baseline(codes: Sequence[str], pair: Any) -> Iterable[Finding]:
    """Findings of a verdict on the first that is held against the second."""
    return judge(pair[0], select=codes, baseline=pair[1]).findings


def compared(codes: Sequence[str], arms: Any) -> Iterable[Finding]:
    """Findings of a comparison of two arms at 90 % accuracy."""
    return compare(*arms, target="val/accuracy>=0.9").findings


@dataclass(frozen=True)
class Setting:
    """One kind of data that the code is measured on.

    Args:
        words: What it is.
        make: Draws one.
        bar: Most false alarms, or least detections, that pass; None informs only.
    """

    words: str
    make: Callable[[Random], Any]
    bar: float | None = None


@dataclass(frozen=True)
class Case:
    """One code and what it is measured on.

    Args:
        code: Of the finding.
        healthy: Where it should be silent, at the edge of what is tolerated as well.
        planted: Where it should speak.
        find: Where its findings come from.
        also: Codes that count as a detection besides its own.
        info: Whether it only informs, which for others is no alarm.
    """

    code: str
    healthy: tuple[Setting, ...]
    planted: tuple[Setting, ...]
    find: Find = judged
    also: tuple[str, ...] = ()
    info: bool = False

    def raised(self, source: Any) -> Finding | None:
        """The first finding that counts, or None; one that only informs is no alarm."""
        codes = (self.code, *self.also)
        found = self.find(codes, source)
        return next(
            (
                item
                for item in found
                if item.code in codes and (self.info or item.severity != "info")
            ),
            None,
        )

    def example(self) -> Finding:
        """What it says of the last planted setting, on the first seed on which it does."""
        setting = self.planted[-1]
        for seed in range(50):
            finding = self.raised(setting.make(np.random.default_rng(seed)))
            if finding is not None and finding.code == self.code:
                return finding
        raise LookupError(f"{self.code} is not raised on {setting.words}")


@dataclass(frozen=True)
class Rate:
    """How often a code was raised.

    Args:
        code: The code.
        planted: Whether it should have been.
        words: The setting.
        value: Share of runs.
        low: Lower bound of its 95 % interval (Wilson).
        high: Upper bound.
        runs: Runs drawn.
        bar: The bar, or None.
    """

    code: str
    planted: bool
    words: str
    value: float
    low: float
    high: float
    runs: int
    bar: float | None

    @property
    def passed(self) -> bool:
        """Whether the rate is on the right side of its bar."""
        return self.bar is None or (
            self.value >= self.bar if self.planted else self.value <= self.bar
        )


def rate(case: Case, setting: Setting, runs: int, *, planted: bool) -> Rate:
    """Draw so many, with a fixed seed, and count those on which the code is raised."""
    rng = np.random.default_rng(2024)
    found = sum(case.raised(setting.make(rng)) is not None for _ in range(runs))
    return share(case.code, setting, found, runs, planted=planted)


def share(code: str, setting: Setting, found: int, runs: int, *, planted: bool) -> Rate:
    """A count of runs as a rate with its interval."""
    (got,) = shares([found], runs)
    value, low, high = got["value"], got["low"], got["high"]
    return Rate(code, planted, setting.words, value, low, high, runs, setting.bar)
