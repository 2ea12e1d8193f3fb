"""What a verdict is made of: estimates, criteria, findings, and the worst of them all."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil, inf, isfinite, isnan, log, nan
from typing import Any, Literal

Severity = Literal["invalid", "fail", "undetermined", "warning", "info"]
State = Literal["met", "failed", "undetermined"]
Bound = Literal[">=", "<="]
Status = Literal["ready", "not ready", "undetermined", "invalid"]

SEVERITIES: tuple[Severity, ...] = ("invalid", "fail", "undetermined", "warning", "info")
Z95 = 1.959963984540054
PAGE = "docs/rules.md"


def plain(value: Any) -> Any:
    """The value as JSON takes it: mappings, lists, numbers; NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if hasattr(value, "tolist"):  # a NumPy array or number
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


class Plain:
    """Gives a dataclass `to_dict`, with JSON's types only."""

    def to_dict(self) -> dict[str, Any]:
        """Every field by its name; NaN and infinity as None, so that any JSON parser reads it."""
        return {name: plain(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Estimate(Plain):
    """A number, its 95 % interval, and how many samples stand behind it.

    Args:
        value: Point estimate; NaN where undefined.
        low: Lower bound; NaN where there is no interval.
        high: Upper bound.
        n: Samples.
        method: Name of the interval's formula.
        reason: Why the value or the interval is missing, else None.
    """

    value: float = nan
    low: float = nan
    high: float = nan
    n: int = 0
    method: str = ""
    reason: str | None = None

    @property
    def triple(self) -> tuple[float, float, float]:
        """Value, low, high."""
        return self.value, self.low, self.high

    @property
    def bounded(self) -> bool:
        """Whether value and both bounds are numbers."""
        return not any(map(isnan, self.triple))

    def __str__(self) -> str:
        if isnan(self.value):
            return f"undefined ({self.reason or 'no value'})"
        interval = f" [{self.low:.4g}, {self.high:.4g}]" if self.bounded else ""
        return f"{self.value:.4g}{interval}, n={self.n}"


@dataclass(frozen=True)
class Finding(Plain):
    """One thing that a rule has to say.

    Args:
        code: Stable kebab-case name, for `select` and `ignore`.
        severity: "invalid" and "fail" sink the verdict, "undetermined" keeps it open, the rest informs.
        message: What was found, in plain words with its numbers.
        evidence: The numbers themselves: value, interval, n, threshold.
        advice: What to do about it.
    """

    code: str
    severity: Severity
    message: str
    evidence: Mapping[str, Any]
    advice: str

    @property
    def page(self) -> str:
        """Where the code is explained, with an example and its measured false alarms."""
        return f"{PAGE}#{self.code}"

    def to_dict(self) -> dict[str, Any]:
        """Every field by its name, and the page."""
        return super().to_dict() | {"page": self.page}

    def __str__(self) -> str:
        return f"{self.severity}: {self.code}: {self.message} {self.advice}"


@dataclass(frozen=True)
class Criterion(Plain):
    """A number held against its threshold, decided by the interval and not by the point.

    Met when the whole interval is on the right side, failed when the whole interval is on the wrong one.

    Args:
        name: What is measured.
        value: Point estimate; NaN where undefined.
        low: Lower bound of the interval.
        high: Upper bound of the interval.
        n: Samples behind the value.
        threshold: What the value is held against.
        rule: ">=" or "<=".
        state: "met", "failed" or "undetermined".
        needed_n: Samples in all that would settle it if the value stayed as it is; None when it is settled, or
            when no number of samples can settle it.
        code: The finding's code when it fails.
        reason: Why it is undetermined beyond the width of its interval, else None.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    threshold: float
    rule: Bound
    state: State
    needed_n: int | None = None
    code: str = ""
    reason: str | None = None

    def __str__(self) -> str:
        value = "undefined" if isnan(self.value) else f"{self.value:.4g}"
        head = f"{self.name} {value} [{self.low:.4g}, {self.high:.4g}] n={self.n}"
        more = f", settled by about {self.needed_n} samples in all" if self.needed_n else ""
        why = f" ({self.reason})" if self.reason else ""
        return f"{head}: {self.rule} {self.threshold:.4g} {self.state}{more}{why}"


def decide(
    name: str, estimate: Estimate, threshold: float, *, rule: Bound = ">=", code: str = ""
) -> Criterion:
    """Hold an estimate against a threshold, three-valued by its interval.

    Args:
        name: What is measured.
        estimate: The number with its interval; without an interval the criterion is undetermined.
        threshold: What it is held against.
        rule: ">=" or "<=".
        code: Code of the finding that goes with it.
    """
    value, low, high = estimate.triple
    reason, needed = estimate.reason, None
    state: State = "undetermined"
    if not estimate.bounded or not estimate.n:
        reason = reason or "the value has no interval: the number of samples is not known"
    elif low - value > (slack := 1e-9 * max(1.0, abs(value))) or value - high > slack:
        reason = "its interval does not hold its value"
    elif (low >= threshold) if rule == ">=" else (high <= threshold):
        state = "met"
    elif (high < threshold) if rule == ">=" else (low > threshold):
        state = "failed"
    else:
        needed = needed_samples(estimate, threshold)
    return Criterion(
        name, value, low, high, estimate.n, threshold, rule, state, needed, code, reason
    )


def needed_samples(estimate: Estimate, threshold: float) -> int | None:
    """How many samples in all would move the interval off the threshold, if the value stayed as it is.

    Exact for Wilson's interval, whose bounds invert the score test: n = z²t(1−t)/(v−t)². Other intervals
    shrink with 1/√n, those of errors and of R² on the logarithm. None where the value is the threshold itself, or
    has no samples to scale from.
    """
    (value, low, high), threshold = _on_its_scale(estimate, threshold)
    distance = abs(value - threshold)
    if not 0.0 < distance < inf or estimate.n == 0:
        return None
    if estimate.method == "wilson":
        needed = Z95**2 * threshold * (1.0 - threshold) / distance**2
    else:
        needed = estimate.n * ((value - low if value > threshold else high - value) / distance) ** 2
    return max(ceil(needed), estimate.n + 1) if needed < inf else None


def _on_its_scale(estimate: Estimate, threshold: float) -> tuple[tuple[float, float, float], float]:
    """The estimate and the threshold where the interval is even: the logarithm of an error, or of 1 − R²."""
    if estimate.method not in {"student-log", "delta-log"}:
        return estimate.triple, threshold
    parts = [*estimate.triple, threshold]
    if estimate.method == "delta-log":
        parts = [1.0 - part for part in parts]
    value, low, high, level = (log(part) if part > 0 else -inf for part in parts)
    return (value, min(low, high), max(low, high)), level


@dataclass(frozen=True)
class Verdict(Plain):
    """The worst of all findings and criteria.

    Args:
        status: "invalid": the numbers cannot be trusted; "not ready": something failed; "undetermined":
            nothing failed, but something is not settled; "ready": everything is settled and good.
        findings: Ordered by gate: validity, baseline, criteria, learning curve; then by severity.
        criteria: One line per threshold.
        profile: Name of the profile that gave the thresholds.
        notes: What was judged, and what was not checked and why.
    """

    status: Status
    findings: tuple[Finding, ...]
    criteria: tuple[Criterion, ...]
    profile: str
    notes: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        lines = [f"{self.status} (profile {self.profile})"]
        lines += [f"  {criterion}" for criterion in self.criteria]
        lines += [f"  {finding}" for finding in self.findings]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def worst(findings: Iterable[Finding], criteria: Iterable[Criterion]) -> Status:
    """The status that the worst finding or criterion commands; no later gate rescues an earlier one.

    Nothing at all is "undetermined": a verdict is never made out of nothing.
    """
    criteria = tuple(criteria)
    severities = {finding.severity for finding in findings}
    states = {criterion.state for criterion in criteria}
    if "invalid" in severities:
        return "invalid"
    if "fail" in severities or "failed" in states:
        return "not ready"
    if "undetermined" in severities or "undetermined" in states or not criteria:
        return "undetermined"
    return "ready"
