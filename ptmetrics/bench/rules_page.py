"""`docs/rules.md` as text: one entry for each code, from its case and what was measured."""

import json
from collections.abc import Iterable, Iterator, Sequence

from ptmetrics.bench.machine import stamp
from ptmetrics.bench.rule_case import Case, Rate
from ptmetrics.verdict.finding import Finding, plain
from ptmetrics.verdict.pages import PAGES
from ptmetrics.verdict.profile import PROFILES, Thresholds

COMMAND = "python -m ptmetrics.bench.rules"
_HEAD = f"""# Rules

What `ptmetrics check`, `judge` and `compare` can say, by code: its meaning, an example, what to do, the thresholds it
decides by, and how often it is wrong. `--select` and `--ignore` take these codes; a TOML profile sets the thresholds.
`ptmetrics check --explain CODE` prints the part of a code that is not measured.

The page is written by `{COMMAND} --page > docs/rules.md`; without `--page` the command prints the rates alone
(`make bench-rules`). Rates are shares of synthetic runs whose truth is known, with 95 % intervals: a *false alarm*
raises the code where it should be silent, often at the very edge of what is tolerated; *power* is how often a planted
flaw is found. Seeds are fixed, the profile is `balanced`. Real curves may be noisier than these.
"""
_MEASURED = "Measured with {stamp}; {runs} runs for each setting."
_SHOWN = 60


def page(cases: Sequence[Case], rates: Sequence[Rate], ratios: Sequence[Rate]) -> str:
    """The whole page."""
    links = ", ".join(f"[{case.code}](#{case.code})" for case in cases)
    runs = min(rate.runs for rate in rates)
    lines = [_HEAD, f"{_MEASURED.format(stamp=stamp(), runs=runs)}\n", f"Codes: {links}.\n"]
    for case in cases:
        lines += entry(case)
        lines += _rates(rate for rate in rates if rate.code == case.code)
    lines += ["## Coverage of the time ratio\n"]
    lines += ["The 95 % interval of `compare`, three seeds in each arm that spread by 15 %.\n"]
    lines += _table(
        ("truth", "coverage %", "runs"), ((r.words, _percent(r), str(r.runs)) for r in ratios)
    )
    return "\n".join(lines).rstrip() + "\n"


def entry(case: Case) -> Iterator[str]:
    """Everything about a code but its rates."""
    finding = case.example()
    yield f"## {case.code}\n"
    yield f"{PAGES[case.code].meaning}\n"
    yield f"> {finding.severity}: {finding.message}\n"
    yield f"Evidence, on {case.planted[-1].words}: `{evidence(finding)}`\n"
    yield f"What to do: {finding.advice}\n"
    if PAGES[case.code].thresholds:
        yield from _table(
            ("threshold", *_columns().values()), map(_threshold, PAGES[case.code].thresholds)
        )


def evidence(finding: Finding) -> str:
    """The evidence as JSON, numbers to four digits and long texts cut."""
    return json.dumps(_short(plain(finding.evidence)))


def _short(value: object) -> object:
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_short(item) for item in value]
    if isinstance(value, str) and len(value) > _SHOWN:
        return value[:_SHOWN] + "…"
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _columns() -> dict[Thresholds, str]:
    """Profiles that have the same thresholds share a column."""
    names: dict[Thresholds, str] = {}
    for profile in PROFILES.values():
        shared = names.get(profile.thresholds)
        names[profile.thresholds] = f"{shared}, {profile.name}" if shared else profile.name
    return names


def _threshold(name: str) -> tuple[str, ...]:
    values = (getattr(thresholds, name) for thresholds in _columns())
    return (f"`{name}`", *("off" if value is None else str(value) for value in values))


def _rates(rates: Iterable[Rate]) -> Iterator[str]:
    rows = ((_kind(rate), rate.words, _percent(rate), str(rate.runs)) for rate in rates)
    yield from _table(("rate", "measured on", "%", "runs"), rows)


def _kind(rate: Rate) -> str:
    return "power" if rate.planted else "false alarms"


def _percent(rate: Rate) -> str:
    return f"{100 * rate.value:.1f} [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""
