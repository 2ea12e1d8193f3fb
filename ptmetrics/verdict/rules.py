"""All rules in the order of the gates, and which of them a user wants."""

from collections.abc import Iterable

from ptmetrics.errors import ConfigError
from ptmetrics.verdict import (
    rules_baseline,
    rules_curve,
    rules_no_worse,
    rules_quality,
    rules_regression,
    rules_slice,
    rules_validity,
)
from ptmetrics.verdict.rule import Rule

RULES: tuple[Rule, ...] = (
    *rules_validity.RULES,
    *rules_baseline.RULES,
    *rules_quality.RULES,
    *rules_slice.RULES,
    *rules_regression.RULES,
    *rules_no_worse.RULES,
    *rules_curve.RULES,
)
CODES: tuple[str, ...] = tuple(dict.fromkeys(code for rule in RULES for code in rule.codes))


def wanted_codes(select: Iterable[str] | None, ignore: Iterable[str] | None) -> frozenset[str]:
    """The codes that count: those selected, or all, without those ignored.

    Args:
        select: Codes that count; None for all.
        ignore: Codes that do not.

    Raises:
        ConfigError: If a code is unknown, or nothing is left.
    """
    chosen = set(CODES) if select is None else _known("select", select)
    chosen -= set() if ignore is None else _known("ignore", ignore)
    if not chosen:
        raise ConfigError(
            "select", "at least one code that is not ignored", "none", "Ignore fewer codes."
        )
    return frozenset(chosen)


def _known(name: str, codes: Iterable[str]) -> set[str]:
    given = {codes} if isinstance(codes, str) else set(codes)
    if unknown := sorted(given - set(CODES)):
        cure = f"The codes are {', '.join(sorted(CODES))}."
        raise ConfigError(name, "codes of findings", ", ".join(map(repr, unknown)), cure)
    return given
