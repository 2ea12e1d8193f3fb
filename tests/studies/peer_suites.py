"""The suites of torchmetrics, torcheval, ignite and scikit-learn with ptmetrics in the place of their metrics.

`python -m tests.studies.peer_suites CHECKOUTS` runs them, one after the other, and prints by family how many of their
cases give an equal value, a different one, none since ptmetrics does not offer it, or are not cases of values at all.
CHECKOUTS is a folder that holds `torchmetrics`, `torcheval` and `ignite` as their repositories have them; the suite of
scikit-learn comes with the installed package. Nothing is fetched.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.studies.peer_answers import BEYOND, FAMILIES
from tests.studies.peer_differences import explained

UNEXPLAINED = "unexplained"
RECIPE = "equal by a recipe"
STATUSES = ("equal", "different", "not offered", "error")
COLUMNS = ("equal", RECIPE, "different", UNEXPLAINED, "not offered", "error")
"""The second counts some of the first again, the fourth some of the third."""
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Suite:
    """Where a library's tests lie in its checkout, and what is on the path."""

    library: str
    path: str  # empty for what comes with the installed package
    tests: tuple[str, ...]
    ignored: tuple[str, ...] = ()


SUITES = (
    Suite(
        "torchmetrics",
        "torchmetrics/tests",
        (
            "unittests/classification",
            "unittests/regression",
            "unittests/retrieval",
            "unittests/segmentation",
            "unittests/bases/test_aggregation.py",
            "unittests/text/test_perplexity.py",
        ),
    ),
    Suite(
        "torcheval",
        "torcheval",
        ("tests/metrics",),
        ("*/text/*", "*/image/*", "*/audio/*", "*/test_synclib.py", "*/test_toolkit.py"),
    ),
    Suite(
        "ignite",
        "ignite",
        ("tests/ignite/metrics",),
        ("*/gan/*", "*/nlp/*", "*/vision/*", "*/clustering/*", "*/test_gpu_info.py"),
    ),
    Suite(
        "sklearn",
        "",
        (
            "sklearn/metrics/tests/test_classification.py",
            "sklearn/metrics/tests/test_ranking.py",
            "sklearn/metrics/tests/test_regression.py",
            "sklearn/metrics/tests/test_common.py",
        ),
    ),
)


def run_suite(suite: Suite, checkouts: Path, out: Path, extra: Sequence[str]) -> float:
    """Run one suite in a process of its own; what it tells is appended to a file of lines."""
    began = time.monotonic()
    folder = checkouts / suite.path
    if not suite.path:
        spec = find_spec(suite.library)
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parents[1]
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join([environment.get("PYTHONPATH", ""), str(ROOT)])
    environment["PEER_FOLDER"] = str(folder)
    environment["PEER_LIBRARY"] = suite.library
    environment["PEER_OUT"] = str(out)
    command = [sys.executable, "-m", "pytest", "-p", "tests.studies.peer_recorder", "-q"]
    command += ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:benchmark", "-c", os.devnull]
    command += ["--rootdir", str(folder), "--tb=line", "--no-header", "-W", "ignore"]
    command += [f"--ignore-glob={folder / pattern}" for pattern in suite.ignored]
    command += ["--continue-on-collection-errors", *extra]
    command += [str(folder / name) for name in suite.tests]
    log_file = out.parent / f"{suite.library}.log"
    with log_file.open("w") as log:
        subprocess.run(
            command,
            cwd=out.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
            start_new_session=True,  # some suites ask for a terminal, and would stop
        )
    return time.monotonic() - began


def call_of(line: dict[str, Any]) -> dict[str, Any] | None:
    """The call that a test stands for: the worst of its calls; none of a test of no value."""
    order = ("not applicable", "equal", "not offered", "different", "error")
    worst = None
    for call in line.get("calls", ()):
        if call["status"] == "not applicable":
            continue
        if worst is None or order.index(call["status"]) > order.index(worst["status"]):
            worst = call
    return worst


def table(lines: Sequence[dict[str, Any]]) -> str:
    """By family: how many tests are equal, different, not offered; then what is beyond, and what has no value."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    aside: Counter[str] = Counter()
    for line in lines:
        call = call_of(line)
        if "left_out" in line:
            aside["processes and containers"] += line["left_out"]
        elif "unread" in line:
            aside[f"a file that could not be imported: {line['unread']}"] += 1
        elif call is None:
            aside["no value: errors, plots, shapes, empty states"] += 1
        elif call["family"].startswith(BEYOND):
            aside[call["family"]] += 1
        else:
            counts[call["family"]][call["status"]] += 1
            if call["status"] == "equal" and call["recipe"]:
                counts[call["family"]][RECIPE] += 1
            if call["status"] == "different" and not explained(call):
                counts[call["family"]][UNEXPLAINED] += 1
    head = "| family | " + " | ".join(COLUMNS) + " | not offered |"
    rows = [head, "|" + "---|" * (len(COLUMNS) + 2)]
    total: Counter[str] = Counter()
    for family in FAMILIES:
        rows.append(table_row(family, counts[family]))
        total.update(counts[family])
    rows.append(table_row("all", total))
    rows.append("\n| not counted | cases |\n|---|---|")
    rows += [f"| {name} | {number} |" for name, number in aside.most_common()]
    return "\n".join(rows)


def table_row(name: str, counts: Counter[str]) -> str:
    """One family."""
    cells = [str(counts[column]) for column in COLUMNS]
    values = sum(counts[status] for status in STATUSES)
    share = counts["not offered"] / values if values else 0.0
    return f"| {name} | {' | '.join(cells)} | {100 * share:.1f} % |"


def told(lines: Sequence[dict[str, Any]], status: str) -> list[tuple[dict[str, Any], str]]:
    """The calls of a status that count, with the tests that asked them."""
    found = []
    for line in lines:
        call = call_of(line)
        if call is not None and call["status"] == status and not call["family"].startswith(BEYOND):
            found.append((call, line["test"]))
    return found


def differences(lines: Sequence[dict[str, Any]]) -> str:
    """How many different cases each documented reason stands for."""
    found = Counter(explained(call) or UNEXPLAINED for call, _ in told(lines, "different"))
    rows = [f"| {case} | {number} |" for case, number in found.most_common()]
    return "\n".join(["| why different | cases |", "|---|---|", *rows])


def reasons(lines: Sequence[dict[str, Any]], status: str, most: int = 60) -> str:
    """What stands behind a status, most first, with one example each."""
    found: Counter[tuple[str, str, str]] = Counter()
    examples: dict[tuple[str, str, str], str] = {}
    for call, test in told(lines, status):
        why = call["why"]
        if status == "different":
            why = f"{explained(call) or UNEXPLAINED} ({why})"
        key = (call["family"], call["metric"], why)
        found[key] += 1
        example = f"{test} {call['arguments']}"
        if call["ours"]:
            example = f"{example} ours {call['ours']} theirs {call['theirs']}"
        examples.setdefault(key, example)
    rows = []
    for key, number in found.most_common(most):
        rows.append(f"{number:6d}  {key[0]} / {key[1]}: {key[2]}\n        e.g. {examples[key]}")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suites and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("checkouts", type=Path, help="folder with the libraries' checkouts")
    parser.add_argument("--library", action="append", help="run this one alone")
    parser.add_argument("--out", type=Path, help="keep the lines of JSON here")
    every = "run every so many of the parametrisations of a test; 1 runs all"
    parser.add_argument("--every", type=int, default=1, help=every)
    parser.add_argument("-k", help="only the tests that pytest's -k selects")
    chosen = parser.parse_args(arguments)
    extra = [] if chosen.k is None else ["-k", chosen.k]
    os.environ["PEER_EVERY"] = str(chosen.every)
    out = chosen.out or Path(tempfile.mkdtemp()) / "cases.jsonl"
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("")
    for suite in SUITES:
        if not chosen.library or suite.library in chosen.library:
            seconds = run_suite(suite, chosen.checkouts.resolve(), out, extra)
            print(f"{suite.library}: {seconds:.0f} s")
    print_all([json.loads(line) for line in out.read_text().splitlines()])
    return 0


def print_all(lines: Sequence[dict[str, Any]]) -> None:
    """The table, and what stands behind it."""
    print(table(lines))
    print(f"\n{differences(lines)}")
    for status in ("different", "error", "not offered"):
        print(f"\n{status}:\n{reasons(lines, status)}")


if __name__ == "__main__":
    sys.exit(main())
