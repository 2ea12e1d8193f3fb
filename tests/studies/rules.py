"""False alarms and power of every code, and the time ratio's coverage; writes `docs/rules.md`.

python -m tests.studies.rules [--quick] [--runs N] [--codes CODE ...] [--json | --page | --entries]
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

import numpy as np
import torch

import ptmetrics as pm
from ptmetrics.bench.machine import processor
from ptmetrics.verdict.finding import plain
from ptmetrics.verdict.pages import known_pages
from ptmetrics.verdict.profile import PROFILES, Thresholds
from tests.studies import (
    advice,
    cases_compare,
    cases_curve,
    cases_evaluation,
    cases_hygiene,
    cases_leakage,
    cases_seen,
)
from tests.studies.rule_case import Case, Rate, rate

CASES: tuple[Case, ...] = (
    *cases_evaluation.CASES,
    *cases_seen.CASES,
    *cases_hygiene.CASES,
    *cases_leakage.CASES,
    *cases_curve.CASES,
    *cases_compare.CASES,
)
RUNS, QUICK = 500, 20
SHOWN = 60  # characters of a text in the evidence
COMMAND = "python -m tests.studies.rules"
HEAD = f"""# Rules

What `ptmetrics check`, `judge` and `compare` can say, by code: its meaning, an example, what to do, the thresholds it
decides by, and how often it is wrong. `--select` and `--ignore` take these codes; a TOML profile sets the thresholds.

The page is written by `{COMMAND} --page > docs/rules.md`; without `--page` the command prints the rates alone
(`make bench-rules`). Rates are shares of synthetic runs whose truth is known, with 95 % intervals: a *false alarm*
raises the code where it should be silent, often at the very edge of what is tolerated; *power* is how often a planted
flaw is found. Seeds are fixed, the profile is `balanced`. Real curves may be noisier than these.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if a rate is on the wrong side of its bar, else 0."""
    parser = _arguments()
    args = parser.parse_args(argv)
    if args.page and set(args.codes) != {case.code for case in CASES}:
        parser.error("--page: expected all codes, got some. Pass --entries, or leave --codes out.")
    runs = args.runs or (QUICK if args.quick else RUNS)
    cases = [case for case in CASES if case.code in args.codes]
    rates = list(measured(cases, runs))
    if args.entries:
        print("\n".join(entries(cases, rates)).rstrip())
        return int(not all(item.passed for item in rates))
    ratios: list[Rate] = []
    for truth in cases_compare.TRUTHS:
        ratios.extend(cases_compare.ratio_rates(*truth, 4 * runs))
    if args.json:
        rows = [{**asdict(item), "passed": item.passed} for item in (*rates, *ratios)]
        print(json.dumps({"runs": runs, "measured_with": stamp(), "rates": rows}))
    elif args.page:
        print(page(CASES, rates, ratios, advice.lines()), end="")
    else:
        print("\n".join(_lines(rates, ratios, runs)))
    return int(not all(item.passed for item in (*rates, *ratios)))


def measured(cases: Iterable[Case], runs: int) -> Iterator[Rate]:
    """Rates of every setting of every case."""
    for case in cases:
        for settings, planted in ((case.healthy, False), (case.planted, True)):
            yield from (rate(case, setting, runs, planted=planted) for setting in settings)


def stamp() -> str:
    """Versions, processor and cores in one sentence part, as it stands beside measured numbers."""
    threads = torch.get_num_threads()
    plural = "s" * (threads != 1)
    return (
        f"ptmetrics {pm.__version__}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, NumPy {np.__version__}, "
        f"{os.cpu_count()} cores of {processor()}, {threads} thread{plural}"
    )


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--runs", type=int, help=f"runs drawn for each setting; default {RUNS}")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK} runs each: to see that it works"
    )
    known = [case.code for case in CASES]
    parser.add_argument(
        "--codes", nargs="+", choices=known, default=known, metavar="CODE", help="default: all"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.add_argument("--page", action="store_true", help="print docs/rules.md")
    parser.add_argument("--entries", action="store_true", help="print what it has of --codes")
    return parser


def _lines(rates: Sequence[Rate], ratios: Sequence[Rate], runs: int) -> Iterator[str]:
    yield (
        f"{runs} runs for each setting, seeds fixed, profile balanced; "
        "rates in percent with 95 % intervals"
    )
    yield stamp()
    for code, rows in groupby(rates, key=lambda item: item.code):
        yield f"\n{code}"
        yield from (_line(item, _kind(item)) for item in rows)
    yield "\ntime ratio of seeds that spread by 15 %: holds the truth; is claimed to be at least halved"
    yield from (_line(item, item.code) for item in ratios)


def _line(item: Rate, kind: str) -> str:
    bar = ""
    if item.bar is not None:
        sign = ">=" if item.planted else "<="
        bar = f"{sign} {100 * item.bar:.0f}"
    interval = f"[{100 * item.low:.1f}, {100 * item.high:.1f}]"
    mark = "" if item.passed else "  MISSED"
    return f"  {kind:<13}{100 * item.value:>6.1f} {interval:<15} {bar:<7} {item.words}{mark}"


def page(
    cases: Sequence[Case], rates: Sequence[Rate], ratios: Sequence[Rate], told: Iterable[str]
) -> str:
    """The whole of `docs/rules.md`."""
    links = ", ".join(f"[{case.code}](#{case.code})" for case in cases)
    runs = min(rate.runs for rate in rates)
    lines = [HEAD, f"Measured with {stamp()}; {runs} runs for each setting.\n"]
    lines.append(f"Codes: {links}.\n")
    lines += entries(cases, rates)
    lines += [*told, ""]
    lines.append("## Coverage of the time ratio\n")
    lines.append(
        "The 95 % interval of `compare`, of seeds that spread by 15 %. One run an arm tells nothing of other seeds.\n"
    )
    rows = [
        (held.words, _percent(held), _percent(claimed), str(held.runs))
        for held, claimed in zip(ratios[::2], ratios[1::2], strict=True)
    ]
    lines += _table(("truth", "holds it %", "claims 'at least halved' %", "runs"), rows)
    return "\n".join(lines).rstrip() + "\n"


def entries(cases: Iterable[Case], rates: Sequence[Rate]) -> Iterator[str]:
    """What the page has of some codes."""
    for case in cases:
        yield from entry(case)
        yield from _rates(rate for rate in rates if rate.code == case.code)


def entry(case: Case) -> Iterator[str]:
    """Everything about a code but its rates."""
    text: Any = known_pages()[case.code]
    finding = case.example()
    yield f"## {case.code}\n"
    yield f"{text.meaning}\n"
    yield f"> {finding.severity}: {finding.message}\n"
    evidence = json.dumps(_short(plain(finding.evidence)))
    yield f"Evidence, on {case.planted[-1].words}: `{evidence}`\n"
    yield f"Why it matters: {text.why}\n"
    yield f"What to do: {finding.advice}\n"
    if text.thresholds:
        head = ("threshold", *_profile_columns().values())
        yield from _table(head, [_threshold(name) for name in text.thresholds])


def _short(value: object) -> object:
    """Numbers to four digits, and long texts cut."""
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_short(item) for item in value]
    if isinstance(value, str) and len(value) > SHOWN:
        return value[:SHOWN] + "…"
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return value


def _profile_columns() -> dict[Thresholds, str]:
    """Profiles that have the same thresholds share a column."""
    names: dict[Thresholds, str] = {}
    for profile in PROFILES.values():
        shared = names.get(profile.thresholds)
        names[profile.thresholds] = f"{shared}, {profile.name}" if shared else profile.name
    return names


def _threshold(name: str) -> list[str]:
    cells = [f"`{name}`"]
    for thresholds in _profile_columns():
        value = getattr(thresholds, name)
        cells.append("off" if value is None else str(value))
    return cells


def _rates(rates: Iterable[Rate]) -> Iterator[str]:
    rows = [(_kind(rate), rate.words, _percent(rate), str(rate.runs)) for rate in rates]
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


if __name__ == "__main__":
    sys.exit(main())
