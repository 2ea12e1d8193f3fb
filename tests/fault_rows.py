"""The table of faults: each row is shown by the tests that are marked with its number, `@pytest.mark.fault(17)`.

`make faults` runs these tests and prints the table with each row's outcome; docs/faults.md is written from it.
"""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
DEVICE_TESTS = "tests/cuda/"
"""Where tests stand that need a GPU."""


class Row(NamedTuple):
    """What may go wrong, and what is expected of ptmetrics then."""

    fault: str
    expected: str


ROWS: dict[int, Row] = {
    1: Row(
        "rank with no data, list state, int targets",
        "exact result on all ranks",
    ),
    2: Row(
        "empty rank, sum state",
        "exact",
    ),
    3: Row(
        "1/2/3 ranks, any partition",
        "equal, counts bitwise",
    ),
    4: Row(
        "other metric order or set per rank",
        "same error on all ranks naming both sets",
    ),
    5: Row(
        "other dtype per rank (bf16 vs fp32)",
        "exact (schema dtype)",
    ),
    6: Row(
        "compute on rank 0 only",
        "error naming the missing ranks within the timeout, run goes on",
    ),
    7: Row(
        "fault on rank 1 in update",
        "contained, flagged on every rank, collectives complete",
    ),
    8: Row(
        "rank 1 killed",
        "error names rank, journal of the others complete",
    ),
    9: Row(
        "sampler padding (5 on 2)",
        '0.8, "1 duplicate ignored"',
    ),
    10: Row(
        "epoch-end gather, IterableDataset, drop_last",
        "exact count or clear refusal",
    ),
    11: Row(
        "update, compute, update, compute",
        "right both times, no double count",
    ),
    12: Row(
        "two metrics equal on batch 1",
        "never share state unless configs are equal",
    ),
    13: Row(
        "> 2^24 samples (state preset near 2^24, 2^31, 2^53)",
        "exact",
    ),
    14: Row(
        "model.to(bf16), .half(), FSDP mixed precision",
        "state untouched",
    ),
    15: Row(
        "fp16/bf16 inputs, large sums",
        "exact to 1e-6 of the float64 reference on the same values",
    ),
    16: Row(
        "int64 inputs above 2^24",
        "exact",
    ),
    17: Row(
        "NaN logits row",
        "refused, counted, first step named",
    ),
    18: Row(
        "+inf ties, all-equal rows",
        "stated rule, counted",
    ),
    19: Row(
        "NaN in scores (AUROC)",
        "refused, counted",
    ),
    20: Row(
        "target out of range, -1, -100",
        "refused and counted, no sync, right cell count",
    ),
    21: Row(
        "float, bool, uint8, one-hot targets; wrong shape",
        "immediate TypeError/ValueError with both shapes",
    ),
    22: Row(
        "logits small and in [0,1], batch 1",
        "exact (kind declared)",
    ),
    23: Row(
        "saturated or bf16 logits, AUROC",
        "equals sklearn on the same values",
    ),
    24: Row(
        "one class only; no data; empty batch",
        "NaN + reason; empty batch is a no-op",
    ),
    25: Row(
        "R2/variance around 1e6",
        "1e-9 relative",
    ),
    26: Row(
        "token loss, unequal lengths, any batch size",
        "same number at batch 1..8",
    ),
    27: Row(
        "weights with every nan option",
        "weights kept, input not modified",
    ),
    28: Row(
        "every update and hook on fake cuda under the guard",
        "0 syncs, <= op budget, ops in allow-list",
    ),
    29: Row(
        "guard self-test (40 snippets, mutated rules)",
        "every mutation red",
    ),
    30: Row(
        "deterministic mode; C=100..10000",
        "no raise, temp <= O(N + C^2)",
    ),
    31: Row(
        "compile (4 batch sizes), inner hook added late",
        "<= 2 graphs, 0 breaks; missing calls reported",
    ),
    32: Row(
        "activation checkpointing, both kinds; shared module; accumulation x4",
        "counted once per real forward",
    ),
    33: Row(
        "hook raises, returns, OOMs; 10,000 faults",
        "training bitwise unchanged, faults counted, bounded log",
    ),
    34: Row(
        "parameters, loss and RNG after 100 steps with/without us",
        "bitwise equal",
    ),
    35: Row(
        "1000 steps memory, weakrefs, graph",
        "flat; no grad_fn; caller's in-place edit has no effect",
    ),
    36: Row(
        "inference_mode mixed with normal and reset",
        "works",
    ),
    37: Row(
        "deepcopy, pickle, torch.save of a hooked model; attach twice; remove twice",
        "works, copy inert; the same monitor twice is refused, a new monitor on the same run folder"
        " takes over, one with another folder counts beside it",
    ),
    38: Row(
        "SIGKILL x100, SIGTERM, _exit, exception while journaling",
        "0 acknowledged records lost",
    ),
    39: Row(
        "every truncation point, bit flips, two writers, line breaks in names",
        "all whole records read, bad ones located; lock refusal for a second live writer"
        " (its folder is not moved either)",
    ),
    40: Row(
        "ENOSPC, EIO, read-only, fsync failure (injected)",
        "run goes on, gap marked, one warning",
    ),
    41: Row(
        "kill at every step + resume; other world size; older checkpoint; reopen",
        "equals uninterrupted; nothing deleted; superseded steps marked",
    ),
    42: Row(
        "foreign, newer-schema, impossible or wrong-config state",
        "clear refusal, current state kept",
    ),
    43: Row(
        "pickle payload in a state file",
        "refused, no code run, no fallback",
    ),
    44: Row(
        "names ../, absolute, NUL, 10 kB, symlink, Windows reserved",
        "refused, nothing written outside",
    ),
    45: Row(
        "<img onerror>, </script>, bidi, =HYPERLINK as class names",
        "inert in HTML/CSV (parse the DOM; no script beyond the hash)",
    ),
    46: Row(
        "1e6 journal lines, 10k classes, 1e7 scores",
        "stated time and memory bounds; report size capped, says what is left out",
    ),
    47: Row(
        "simulated async device, clock back, ring overflow",
        "shares sum to wall; no event read before query(); overflow drops and counts; a clock going"
        " back is survived",
    ),
    48: Row(
        "2-thread loader, fork/spawn workers, ctrl-C in compute",
        "no deadlock; KeyboardInterrupt passes; record sealed",
    ),
}


class Told(NamedTuple):
    """The outcome of one case of a test that shows a row."""

    row: int
    test: str
    outcome: str


class Outcome(NamedTuple):
    """What the tests say of a row.

    Attributes:
        word: "holds", "red", or "open" where no test of it ran.
        passed: How many cases passed.
        red: The tests that did not.
        for_hardware: How many tests need a GPU and had none.
    """

    word: str
    passed: int
    red: tuple[str, ...]
    for_hardware: int


def outcome_of(row: int, told: Iterable[Told]) -> Outcome:
    """What the tests that were run say of one row."""
    mine = [each for each in told if each.row == row]
    red = {each.test for each in mine if each.outcome not in ("passed", "skipped")}
    passed = sum(each.outcome == "passed" for each in mine)
    ran = {each.test.partition("::")[0] for each in mine}
    for_hardware = sum(
        count
        for place, count in marks().get(row, Counter()).items()
        if place.startswith(DEVICE_TESTS) and place not in ran
    )
    word = "open"
    if red:
        word = "red"
    elif passed:
        word = "holds"
    return Outcome(word, passed, tuple(sorted(red)), for_hardware)


def table(told: Iterable[Told]) -> list[str]:
    """The table with each row's outcome, and in the end one line that sums it up."""
    told = list(told)
    lines = []
    rows = defaultdict(list)
    hardware = []
    for number, row in ROWS.items():
        seen = outcome_of(number, told)
        rows[seen.word].append(number)
        cases = f"{seen.passed} cases"
        if seen.for_hardware:
            hardware.append(number)
            cases = f"{cases}; {seen.for_hardware} more tests need a GPU"
        lines.append(f"{number:>3}  {seen.word:<5}  {row.fault}: {row.expected} ({cases})")
        lines.extend(f"            red: {test}" for test in seen.red)
    lines.append(_summary(rows, hardware))
    return lines


def _summary(rows: dict[str, list[int]], hardware: list[int]) -> str:
    parts = [f"{len(ROWS)} rows: {len(rows['holds'])} hold"]
    for word in ("red", "open"):
        listed = ""
        if rows[word]:
            listed = f" ({_listed(rows[word])})"
        parts.append(f"{len(rows[word])} {word}{listed}")
    line = ", ".join(parts)
    if hardware:
        line = f"{line}; on a GPU `make gpu-tests` shows more of {_listed(hardware)}"
    return line


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


@cache
def marks() -> dict[int, Counter[str]]:
    """Files whose tests are marked with each row, and how many of them are, from the syntax trees."""
    found: dict[int, Counter[str]] = defaultdict(Counter)
    for path in sorted(TESTS.rglob("test_*.py")):
        place = path.relative_to(TESTS.parent).as_posix()
        for row in _rows_in(ast.parse(path.read_text(encoding="utf-8"))):
            found[row][place] += 1
    return dict(found)


def _rows_in(tree: ast.Module) -> list[int]:
    """Each row as often as tests are marked with it; a mark of the whole file counts for each test."""
    rows: list[int] = []
    tests = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            rows += _marked(node.value) * len(tests)
    for test in tests:
        for decorator in test.decorator_list:
            rows += sorted(set(_marked(decorator)))
    return rows


def _marked(node: ast.AST) -> list[int]:
    return [
        argument.value
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.fault"
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, int)
    ]


HEAD = """# What happens when something goes wrong

Bad input, faults and loads, what ptmetrics does then, and where the suite shows it. `make faults` runs these
tests and prints the table with each row's outcome; `make pages` writes this page.

| # | fault, bad input or load | what ptmetrics does | shown by |
|---|---|---|---|
"""


def page() -> str:
    """docs/faults.md."""
    lines = []
    for number, row in ROWS.items():
        shown = ", ".join(
            f"[{Path(place).stem.removeprefix('test_')}](../{place})"
            for place in marks().get(number, Counter())
        )
        lines.append(f"| {number} | {escaped(row.fault)} | {escaped(row.expected)} | {shown} |\n")
    return HEAD + "".join(lines)


def escaped(text: str) -> str:
    """Text for a cell of Markdown."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;").replace("_", "\\_")
