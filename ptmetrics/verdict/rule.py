"""What a rule is, and the words that rules share."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ptmetrics.verdict.evidence import Evidence
from ptmetrics.verdict.finding import Criterion, Estimate, Finding
from ptmetrics.verdict.profile import Thresholds


@dataclass(frozen=True)
class Skipped:
    """A rule could not be applied.

    Args:
        reason: What was missing.
    """

    reason: str


Need = Literal["", "classes", "numbers", "baseline"]
MISSING: Mapping[Need, str] = {
    "classes": "numbers are predicted, not classes",
    "numbers": "classes are predicted, not numbers",
    "baseline": "no baseline was named",
}
Outcome = Finding | Criterion | Skipped
Check = Callable[[Evidence, Thresholds], Iterator[Outcome]]


@dataclass(frozen=True)
class Rule:
    """A pure function over evidence, and the codes of the findings that it may make.

    Args:
        codes: Stable names, as in `select` and `ignore`.
        check: Yields findings, criteria, or why it could not be applied.
        needs: What the rule is about; it is not asked where the evidence has nothing of the kind.
    """

    codes: tuple[str, ...]
    check: Check
    needs: Need = ""

    def concerns(self, evidence: Evidence) -> bool:
        """Whether the evidence has what the rule is about."""
        has = {"": True, "classes": not evidence.regression, "numbers": evidence.regression}
        return has.get(self.needs, evidence.baseline is not None)


def percent(share: float) -> str:
    """A share in percent with one decimal."""
    return f"{100 * share:.1f} %"


def words(item: Estimate | Criterion) -> str:
    """A share with its interval and n, for a sentence."""
    return f"{percent(item.value)} [{percent(item.low)}, {percent(item.high)}] of {item.n} samples"


def points(item: Estimate | Criterion) -> str:
    """A difference of shares with its interval, in percentage points."""
    return f"{100 * item.value:.1f} points [{100 * item.low:.1f}, {100 * item.high:.1f}]"


def facts(item: Estimate | Criterion, **more: Any) -> dict[str, Any]:
    """The numbers of an estimate or a criterion, as evidence of a finding."""
    threshold = {"threshold": item.threshold} if isinstance(item, Criterion) else {}
    return {"value": item.value, "low": item.low, "high": item.high, "n": item.n} | threshold | more
