"""`python -m ptmetrics.bench.rules`: false alarms and power of every code, and the time ratio's coverage."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby

from ptmetrics.bench import cases_compare, cases_curve, cases_matrix, cases_regression
from ptmetrics.bench.machine import stamp
from ptmetrics.bench.rule_case import Case, Rate, rate
from ptmetrics.bench.rules_page import page

CASES: tuple[Case, ...] = (
    *cases_matrix.CASES,
    *cases_regression.CASES,
    *cases_curve.CASES,
    *cases_compare.CASES,
)
RUNS, QUICK = 500, 20


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if a rate is on the wrong side of its bar, else 0."""
    parser = _arguments()
    args = parser.parse_args(argv)
    if args.page and set(args.codes) != {case.code for case in CASES}:
        parser.error("--page: expected all codes, got some. Leave --codes out.")
    runs = args.runs or (QUICK if args.quick else RUNS)
    rates = list(measured([case for case in CASES if case.code in args.codes], runs))
    ratios = [cases_compare.coverage(*truth, 4 * runs) for truth in cases_compare.TRUTHS]
    if args.json:
        rows = [asdict(item) | {"passed": item.passed} for item in (*rates, *ratios)]
        print(json.dumps({"runs": runs, "measured_with": stamp(), "rates": rows}))
    elif args.page:
        print(page(CASES, rates, ratios), end="")
    else:
        print("\n".join(_table(rates, ratios, runs)))
    return int(not all(item.passed for item in (*rates, *ratios)))


def measured(cases: Iterable[Case], runs: int) -> Iterator[Rate]:
    """Rates of every setting of every case."""
    for case in cases:
        for settings, planted in ((case.healthy, False), (case.planted, True)):
            yield from (rate(case, setting, runs, planted=planted) for setting in settings)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ptmetrics.bench.rules", description=__doc__)
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
    return parser


def _table(rates: Sequence[Rate], ratios: Sequence[Rate], runs: int) -> Iterator[str]:
    yield f"{runs} runs for each setting, seeds fixed, profile balanced; rates in percent with 95 % intervals"
    yield stamp()
    for code, rows in groupby(rates, key=lambda item: item.code):
        yield f"\n{code}"
        yield from (_line(item, "power" if item.planted else "false alarms") for item in rows)
    yield "\ntime ratio of 3 seeds in each arm that spread by 15 %"
    yield from (_line(item, "coverage") for item in ratios)


def _line(item: Rate, kind: str) -> str:
    bar = "" if item.bar is None else f"{'>=' if item.planted else '<='} {100 * item.bar:.0f}"
    interval = f"[{100 * item.low:.1f}, {100 * item.high:.1f}]"
    mark = "" if item.passed else "  MISSED"
    return f"  {kind:<13}{100 * item.value:>6.1f} {interval:<15} {bar:<7} {item.words}{mark}"


if __name__ == "__main__":
    sys.exit(main())
