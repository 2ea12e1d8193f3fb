"""What a verdict is made of: estimates, criteria, findings, and the worst of them all."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil, inf, isfinite, isnan, log, nan, sqrt
from typing import Any, Literal, get_args

from ptmetrics.digits import number, numbers
from ptmetrics.errors import ConfigError
from ptmetrics.record.printable import printable, quantity

Severity = Literal["invalid", "fail", "undetermined", "warning", "info"]
State = Literal["met", "failed", "undetermined"]
Bound = Literal[">=", "<="]
Status = Literal["ready", "not ready", "undetermined", "invalid"]

SEVERITIES: tuple[Severity, ...] = get_args(Severity)
Z95 = 1.959963984540054
Z80 = 0.8416212335729143  # power of four in five
MOST_TIMES = 100  # the samples there are; nobody collects more
ON_THE_THRESHOLD = "it lies on the threshold: no number of samples is likely to settle it"
MOST_CODES = 160
"""Characters of the findings' codes in a short text."""
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
    if isinstance(value, float) and not isfinite(value):
        return None
    return value


def percent(share: float) -> str:
    """A share in percent with one decimal."""
    return f"{100 * share:.1f} %"


def float_of(value: Any) -> float:
    """The value as a float; None, which stands for NaN in JSON, is NaN."""
    if value is None:
        return nan
    return float(value)


class Plain:
    """Gives a dataclass `to_dict`, with JSON's types only."""

    def to_dict(self) -> dict[str, Any]:
        """Every field by its name; NaN and infinity as None, so that any JSON parser reads it."""
        return {name: plain(value) for name, value in vars(self).items()}


class Measured(Plain):
    """A value with its interval and n, in the words that rules share."""

    value: float
    low: float
    high: float
    n: int

    @property
    def triple(self) -> tuple[float, float, float]:
        """Value, low, high."""
        return self.value, self.low, self.high

    def facts(self, **more: Any) -> dict[str, Any]:
        """Value, interval and n as evidence of a finding, and what else belongs there."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n, **more}

    def in_percent(self) -> str:
        """A share with its interval and n, for a sentence."""
        interval = f"[{percent(self.low)}, {percent(self.high)}]"
        return f"{percent(self.value)} {interval} of {quantity(self.n, 'sample')}"

    def in_points(self) -> str:
        """A difference of shares with its interval, in percentage points."""
        value, low, high = (round(100 * each, 1) + 0.0 for each in self.triple)  # no "-0.0"
        return f"{value:.1f} points [{low:.1f}, {high:.1f}]"

    def in_units(self) -> str:
        """A value in its own unit with its interval and n, for a sentence."""
        value, low, high = numbers(*self.triple)
        return f"{value} [{low}, {high}] of {quantity(self.n, 'sample')}"


@dataclass(frozen=True)
class Estimate(Measured):
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
    def bounded(self) -> bool:
        """Whether value and both bounds are numbers."""
        return not any(map(isnan, self.triple))

    def __str__(self) -> str:
        if isnan(self.value):
            return f"undefined ({self.reason or 'no value'})"
        if not self.bounded:
            return f"{number(self.value)}, n={self.n}"
        value, low, high = numbers(*self.triple)
        return f"{value} [{low}, {high}], n={self.n}"


def recorded_estimate(score: Mapping[str, Any]) -> Estimate:
    """A score of a record as an estimate; a foreign log may hold the value alone."""
    return Estimate(
        float_of(score.get("value")),
        float_of(score.get("low")),
        float_of(score.get("high")),
        int(score.get("n") or 0),
        score.get("method") or "",
        score.get("reason"),
    )


@dataclass(frozen=True)
class Finding(Plain):
    """One thing that a rule has to say.

    Args:
        code: Stable kebab-case name, for `select` and `ignore`.
        severity: "invalid" and "fail" sink the verdict, "undetermined" keeps it open, the rest
            informs.
        message: What was found, in plain words with its numbers.
        evidence: The numbers themselves: value, interval, n, threshold.
        advice: What to do about it.

    Raises:
        ConfigError: If the severity is none of the five.

    Example:
        >>> import ptmetrics as pm
        >>> finding = pm.Finding("late", "warning", "It took 9 h.", {"value": 9.0}, "Use a GPU.")
        >>> print(finding)
        warning: late: It took 9 h. Use a GPU.
        >>> finding.to_dict()["evidence"]
        {'value': 9.0}
    """

    code: str
    severity: Severity
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            near = difflib.get_close_matches(str(self.severity), SEVERITIES, n=1, cutoff=0)[0]
            rule = f"one of {', '.join(SEVERITIES)}"
            raise ConfigError("severity", rule, repr(self.severity), f"Write for example {near!r}.")

    @property
    def page(self) -> str:
        """Where the code is explained, with an example and its measured false alarms."""
        return f"{PAGE}#{self.code}"

    def to_dict(self) -> dict[str, Any]:
        """Every field by its name, and the page."""
        return {**super().to_dict(), "page": self.page}

    def __str__(self) -> str:
        return printable(f"{self.severity}: {self.code}: {self.message} {self.advice}".rstrip())


@dataclass(frozen=True)
class Criterion(Measured):
    """A number held against its threshold, decided by the interval and not by the point.

    Met when the whole interval is on the right side, failed when the whole interval is on the
    wrong one. `decide` makes one.

    Args:
        name: What is measured.
        value: Point estimate; NaN where undefined.
        low: Lower bound of the interval.
        high: Upper bound of the interval.
        n: Samples behind the value.
        threshold: What the value is held against.
        rule: ">=" or "<=".
        state: "met", "failed" or "undetermined".
        needed_n: Samples in all that would settle it in four of five cases if the truth is this
            value; None when it is settled, or when no number that anybody collects is likely to.
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

    @property
    def near(self) -> bool:
        """Whether it is open because its interval contains the threshold, and for no other reason."""
        return self.state == "undetermined" and self.reason in (None, ON_THE_THRESHOLD)

    @property
    def not_recorded(self) -> bool:
        """Whether it is open because its score was not recorded."""
        return (self.reason or "").endswith(" was not recorded")

    def facts(self, **more: Any) -> dict[str, Any]:
        """Value, interval, n and threshold as evidence, and what else belongs there."""
        return super().facts(threshold=self.threshold, **more)

    def __str__(self) -> str:
        value, low, high, _ = numbers(*self.triple, self.threshold)
        if isnan(self.value):
            value = "undefined"
        text = f"{self.name} {value} [{low}, {high}] n={self.n}"
        text += f": {self.rule} {self.threshold:g} {self.state}"
        if self.needed_n:
            text += f", settled by about {self.needed_n:,} samples in all"
        if self.reason:
            text += f" ({self.reason})"
        return printable(text)


@dataclass(frozen=True)
class Skipped:
    """A rule could not be applied; the verdict's notes say so.

    Args:
        reason: What was missing.
    """

    reason: str


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

    Example:
        >>> decide("accuracy", Estimate(0.9, 0.88, 0.92, 1000, "wilson"), 0.85).state
        'met'
        >>> str(decide("accuracy", Estimate(0.9, 0.82, 0.95, 80, "wilson"), 0.85))
        'accuracy 0.9000 [0.8200, 0.9500] n=80: >= 0.85 undetermined, settled by about 363 samples in all'
    """
    value, low, high = estimate.triple
    slack = 1e-9 * max(1.0, abs(value))
    reason = estimate.reason
    needed = None
    state: State = "undetermined"
    if rule == ">=":
        met, failed = low >= threshold, high < threshold
    else:
        met, failed = high <= threshold, low > threshold
    if not estimate.bounded or not estimate.n:
        reason = reason or "the value has no interval: the number of samples is not known"
    elif low - value > slack or value - high > slack:
        reason = "its interval does not hold its value"
    elif met:
        state = "met"
    elif failed:
        state = "failed"
    else:
        needed = needed_samples(estimate, threshold)
        if needed is None:
            reason = ON_THE_THRESHOLD
    return Criterion(
        name, value, low, high, estimate.n, threshold, rule, state, needed, code, reason
    )


def needed_samples(estimate: Estimate, threshold: float) -> int | None:
    """How many samples in all would settle it in four of five cases, if the truth is this value.

    For a share that is n = (1.96 √(t(1−t)) + .84 √(p(1−p)))² / (p − t)². Other intervals shrink
    with 1/√n, those of errors and of R² on the logarithm. None where the value lies on the
    threshold, or so near that it would take more than 100 times the samples.

    Source: sample size of a one-sample test of a proportion with power .8 (Fleiss 1981).
    """
    value, low, high, level = _on_its_scale(estimate, threshold)
    distance = abs(value - level)
    if not 0.0 < distance < inf or estimate.n == 0:
        return None
    if estimate.method == "wilson":
        spread = sqrt(max(value * (1.0 - value), 0.0))
        needed = ((Z95 * sqrt(level * (1.0 - level)) + Z80 * spread) / distance) ** 2
    else:
        half = high - value
        if value > level:
            half = value - low
        needed = estimate.n * (half * (1 + Z80 / Z95) / distance) ** 2
    if not needed <= MOST_TIMES * estimate.n:
        return None
    return max(ceil(needed), estimate.n + 1)


def _on_its_scale(estimate: Estimate, threshold: float) -> tuple[float, float, float, float]:
    """Value, bounds and threshold where the interval is even: log of an error, or of 1 − R²."""
    parts = [*estimate.triple, threshold]
    if estimate.method not in {"student-log", "delta-log"}:
        return parts[0], parts[1], parts[2], parts[3]
    if estimate.method == "delta-log":
        parts = [1.0 - part for part in parts]
    logs = [log(part) if part > 0 else -inf for part in parts]
    return logs[0], min(logs[1:3]), max(logs[1:3]), logs[3]


@dataclass(frozen=True)
class Verdict(Plain):
    """The worst of all findings and criteria.

    Args:
        status: "invalid": the numbers cannot be trusted; "not ready": something failed;
            "undetermined": nothing failed, but something is not settled; "ready": everything is
            settled and good.
        findings: The worst severity first; then by gate: validity, baseline, criteria, learning curve.
        criteria: One line per threshold.
        profile: Name of the profile that gave the thresholds.
        notes: What was judged, and what was not checked and why.

    Example:
        >>> import ptmetrics as pm
        >>> verdict = pm.judge_confusion([[970, 30], [45, 955]])
        >>> verdict.status, verdict.ready
        ('ready', True)
        >>> [criterion.state for criterion in verdict.criteria]
        ['met', 'met', 'met', 'met', 'met']
        >>> sorted(verdict.to_dict())
        ['criteria', 'findings', 'notes', 'profile', 'status']
    """

    status: Status
    findings: tuple[Finding, ...]
    criteria: tuple[Criterion, ...]
    profile: str
    notes: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether the status is "ready": everything is settled and good."""
        return self.status == "ready"

    def __bool__(self) -> bool:
        cure = "Ask verdict.ready, or compare verdict.status."
        raise ConfigError("bool(verdict)", "a question", f"a verdict, {self.status!r}", cure)

    def __repr__(self) -> str:
        codes = ", ".join(dict.fromkeys(finding.code for finding in self.findings))
        if len(codes) > MOST_CODES:
            codes = f"{codes[:MOST_CODES]}…"
        text = f"Verdict({self.status!r}, profile={self.profile!r}, findings: {codes or 'none'})"
        return printable(text)

    def _repr_html_(self) -> str:
        from ptmetrics.show.html import for_notebook

        return for_notebook("verdict", self)

    def __str__(self) -> str:
        lines = [f"{self.status} (profile {self.profile})"]
        lines += [f"  {criterion}" for criterion in self.criteria]
        lines += [f"  {finding}" for finding in self.findings]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(map(printable, lines))


def worst_status(findings: Iterable[Finding], criteria: Iterable[Criterion]) -> Status:
    """The status that the worst finding or criterion commands; no gate rescues an earlier one.

    Nothing at all is "undetermined": a verdict is never made out of nothing.
    """
    severities = {finding.severity for finding in findings}
    states = {criterion.state for criterion in criteria}
    if "invalid" in severities:
        return "invalid"
    if "fail" in severities or "failed" in states:
        return "not ready"
    if "undetermined" in severities or "undetermined" in states or not states:
        return "undetermined"
    return "ready"
