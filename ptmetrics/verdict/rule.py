"""What a rule is: a function from evidence to findings, under the codes that it may raise."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from inspect import getdoc
from typing import Any, Literal

from ptmetrics.errors import ConfigError
from ptmetrics.verdict.evidence import Evidence
from ptmetrics.verdict.finding import Criterion, Finding, Skipped

Need = Literal["", "classes", "numbers", "baseline"]
RuleOutcome = Finding | Criterion | Skipped
RuleFunction = Callable[[Evidence], Iterable[RuleOutcome] | None]
MISSING: Mapping[Need, str] = {
    "classes": "numbers are predicted, not classes",
    "numbers": "classes are predicted, not numbers",
    "baseline": "no baseline was named",
}
_CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Page:
    """The explanation of a code.

    Args:
        severity: How grave the finding is, in words where that depends.
        meaning: What it says, and what it rests on.
        advice: What to do about it.
        thresholds: Names in `Thresholds` that it is decided by.
        why: Why it matters.
    """

    severity: str
    meaning: str
    advice: str
    thresholds: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Rule:
    """A rule with its codes and pages; made by `pm.rule`, called like the function in it.

    Args:
        check: The function: yields findings, criteria, or why it could not be applied.
        codes: Codes of the findings that it may make, for `select` and `ignore`. Empty for a plain
            function, which is always asked.
        needs: What the rule is about; it is not asked where the evidence has nothing of the kind.
        pages: Code to its explanation.
    """

    check: RuleFunction
    codes: tuple[str, ...] = ()
    needs: Need = ""
    pages: Mapping[str, Page | str] = field(default_factory=dict, compare=False)

    def __call__(self, evidence: Evidence) -> Iterable[RuleOutcome]:
        """What the rule has to say of the evidence."""
        return self.check(evidence) or ()

    @property
    def name(self) -> str:
        """Its first code, or the name of its function."""
        if self.codes:
            return self.codes[0]
        return str(getattr(self.check, "__name__", type(self.check).__name__))

    def concerns(self, evidence: Evidence) -> bool:
        """Whether the evidence has what the rule is about."""
        if self.needs == "classes":
            return not evidence.regression
        if self.needs == "numbers":
            return evidence.regression
        return self.needs != "baseline" or evidence.baseline is not None


def rule(
    *,
    codes: str | Iterable[str],
    needs: Need = "",
    page: Page | str | Mapping[str, Page | str] | None = None,
) -> Callable[[RuleFunction], Rule]:
    """Make a function a rule with codes, which `select=`, `ignore=` and `pm.explain` then know.

    A plain function is a rule as well: `judge(run, rules=[*pm.RULES, mine])` asks it always. A rule
    that raises an exception becomes the finding "rule-failed", which leaves the verdict open.

    Args:
        codes: Every code that the rule may raise, in kebab-case.
        needs: "classes" or "numbers" for a rule about what is predicted, "baseline" for one that
            holds the run against another; it is not asked elsewhere.
        page: What the findings mean and what to do, a text or a `Page`, or one for each code; None
            for the function's docstring.

    Raises:
        ConfigError: If a code is not in kebab-case, or there is none.

    Example:
        >>> import ptmetrics as pm
        >>> @pm.rule(codes=("low-mcc",), needs="classes")
        ... def low_mcc(evidence):
        ...     '''Matthews' correlation is shown to be below 0.9.'''
        ...     mcc = evidence.score("mcc")
        ...     if mcc.high < 0.9:
        ...         yield pm.Finding("low-mcc", "fail", f"MCC is {mcc.value:.2f}.", mcc.facts())
        >>> scores = {"mcc": {"value": 0.75, "low": 0.68, "high": 0.82, "n": 200}}
        >>> [f.code for f in pm.judge({"scores": scores}, rules=[low_mcc]).findings]
        ['low-mcc']
        >>> print(pm.explain("low-mcc", rules=[low_mcc]))
        low-mcc
        <BLANKLINE>
        Matthews' correlation is shown to be below 0.9.
    """
    if isinstance(codes, str):
        codes = (codes,)
    named = tuple(codes)
    odd = [code for code in named if not isinstance(code, str) or not _CODE.fullmatch(code)]
    if odd or not named:
        got = "none"
        if odd:
            got = repr(odd[0])
        raise ConfigError("codes", "codes in kebab-case", got, 'Write codes=("low-margin",).')

    def decorate(check: RuleFunction) -> Rule:
        text = page
        if text is None:
            text = getdoc(check) or ""
        if not isinstance(text, Mapping):
            return Rule(check, named, needs, dict.fromkeys(named, text))
        return Rule(check, named, needs, dict(text))

    return decorate


def as_rule(item: Any) -> Rule:
    """The rule itself, or a plain function as one without codes.

    Raises:
        ConfigError: If it cannot be called.
    """
    if isinstance(item, Rule):
        return item
    if not callable(item):
        cure = "Pass rules=[*pm.RULES, mine], where mine is a function of one argument."
        raise ConfigError("rules", "functions of pm.Evidence", type(item).__name__, cure)
    return Rule(item)
