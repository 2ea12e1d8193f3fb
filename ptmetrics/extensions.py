"""What extends ptmetrics from its right: named here, imported where it is used.

`judge` and `explain` have the rules, a `Monitor` has the callbacks, as if somebody had passed them, and
yet no room imports one to its right.
"""

from importlib import import_module
from typing import Any

Named = tuple[tuple[str, str], ...]
"""Modules, and the name in each of what it offers: a tuple."""

EXTENDING_RULES: Named = (
    ("ptmetrics.leakage.rules_hygiene", "HYGIENE_RULES"),
    ("ptmetrics.leakage.rules", "LEAKAGE_RULES"),
)
EXTENDING_CALLBACKS: Named = (("ptmetrics.leakage.hygiene", "DEFAULT_CALLBACKS"),)


def offered(named: Named) -> list[Any]:
    """All that these modules offer.

    Example:
        >>> offered((("ptmetrics.verdict.rules_seen", "SEEN_RULES"),))[0].name
        'not-counted'
    """
    found: list[Any] = []
    for module, name in named:
        found.extend(getattr(import_module(module), name))
    return found
