"""How often the audit finds what was planted, and how often it errs; writes `docs/leakage.md`.

python -m tests.studies.leakage [--runs N] [--splits N] [--page]
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

import ptmetrics as pm
from ptmetrics.leakage.audit import CANNOT_FIND
from ptmetrics.leakage.hashes import hash_rows
from ptmetrics.leakage.near import nearest
from ptmetrics.verdict.finding import percent
from ptmetrics.verdict.stats import clopper_pearson
from tests.studies import planted
from tests.studies.rules import stamp

RUNS, SPLITS = 10, 100
UNFOUND: dict[str, Callable[[Tensor], Tensor]] = {
    "mirrored": lambda pictures: pictures.flip(-1),
    "shifted by 3 of 32 pixels": lambda pictures: pictures.roll(3, -1),
    "the middle 24 of 32 pixels": lambda pictures: torch.nn.functional.interpolate(
        pictures[:, :, 4:28, 4:28].float(), size=(32, 32), mode="bilinear"
    ),
    "rotated by 15 degrees": lambda pictures: planted.turned(pictures, 15.0),
}
HEAD = f"""# Leakage

`pm.audit(train, val)`, `ptmetrics audit TRAIN VAL` and `pm.LeakageCheck()` look for samples of validation that
training has seen. This page says how often they find them and how often they err; it is written by
`python -m tests.studies.leakage --page > docs/leakage.md`.

| looked for | how |
|---|---|
| `ids`, `groups` | ids, files and rows of a `Subset` that stand in both sets; groups, such as patients, that do |
| `exact` | hashes of 128 bits over all bits of a sample, seen without augmentation; texts normalised first |
| `near`, pictures | thumbnails of 8 × 8 pixels, of mean 0 and length 1; small rotations and shifts are taken out |
| `near`, rows of numbers | columns in units of their own: the middle half, or the range; 2,048 at most |
| `near`, texts | MinHash of pieces of 5 characters (`pip install 'ptmetrics[leakage]'`) |
| `near`, with `features=` | rows of numbers that a function of yours makes of a batch, such as a pooled layer |
| `duplicates`, `conflicts` | equal rows within validation; equal samples with other labels |

A row is near another where its nearest one or two rows of training lie closer than the 50 nearest (of pictures 70)
let expect: spacings of the logarithms of distances are exponential whatever the dimension, their ratio follows an F
distribution, the middle of all rows tells the null (Efron), and Benjamini and Hochberg's rule names rows of which one
in 20 is expected to be none.
Nothing is named where many distances are equal, as among integers of few columns.

{CANNOT_FIND}

An augmented training set shows other rows in each epoch. `LeakageCheck` then says NOT CHECKED, unless it is given the
same set without augmentation: `pm.LeakageCheck(train_view=...)`. `ptmetrics finetune` and the demo audit the sets
before training, without augmentation; `audit = false` in the configuration leaves that out.
"""


def copies_found(runs: int) -> Iterator[Sequence[str]]:
    """Copies of handwriting in training: a row for each kind and number of copies."""
    for kind in planted.COPIES:
        for number in (1, 2):
            found = false = of = 0
            for seed in range(runs):
                train, val, rows = planted.planted(kind, seed, 0.05, number)
                named = {row for _, row in _audit(train, val).near}
                found += len(named & set(range(rows)))
                false += len(named - set(range(rows)))
                of += rows
            yield kind, str(number), _share(found, of), _share(false, found + false)


def not_found(runs: int) -> Iterator[Sequence[str]]:
    """Copies of kinds that thumbnails cannot tell."""
    for kind, change in UNFOUND.items():
        found = of = 0
        for seed in range(runs):
            train, val = planted.digits(seed)
            rows = len(val) // 20
            copies = change(val[:rows]).round().to(torch.uint8)
            named = {row for _, row in _audit(torch.cat([train, copies]), val).near}
            found += len(named & set(range(rows)))
            of += rows
        yield kind, _share(found, of)


def false_flags(splits: int) -> Iterator[Sequence[str]]:
    """Clean sets of all kinds, drawn anew or split at random."""
    flagged: dict[str, int] = {}
    searched: dict[str, int] = {}
    refused: dict[str, int] = {}
    for seed in range(splits):
        for kind, (train, val) in planted.clean(seed):
            found = _audit(train, val)
            flagged[kind] = flagged.get(kind, 0) + len(found.near)
            searched[kind] = searched.get(kind, 0) + found.near_of
            refused[kind] = refused.get(kind, 0) + ("near" in found.not_checked)
    for kind, rows in searched.items():
        named = "–"
        if rows:
            named = f"{flagged[kind]} of {rows:,}, {100 * flagged[kind] / rows:.3f} %"
        yield kind, named, f"{refused[kind]} of {splits}"


def exactly(rows: int = 50_000, others: int = 10_000) -> Iterator[Sequence[str]]:
    """Large sets: what is found, and how long it takes."""
    generator = torch.Generator().manual_seed(0)
    train = torch.randn(rows, 192, generator=generator)
    val = torch.randn(others, 192, generator=generator)
    at = torch.randperm(others, generator=generator)[:500]
    val[at] = train[:500]
    began = time.process_time()
    found = _audit(train, val, near=False)
    seconds = time.process_time() - began
    right = {(row, int(place)) for row, place in enumerate(at)}
    hits = len(set(found.exact) & right)
    yield "equal rows", f"{hits} of 500, {len(found.exact) - hits} others", f"{seconds:.1f} s"
    began = time.process_time()
    nearest(val, train, 100)
    yield "100 nearest of each row", "–", f"{time.process_time() - began:.1f} s"
    pictures = torch.randn(256, 3, 32, 32, generator=generator)
    hash_rows(pictures)
    began = time.process_time()
    for _ in range(20):
        hash_rows(pictures)
    each = (time.process_time() - began) / 20 / 256
    yield "hash of 3 × 32 × 32 numbers", "–", f"{1e6 * each:.1f} µs"


def _audit(train: Tensor | list[str], val: Tensor | list[str], *, near: bool = True) -> pm.Audit:
    return pm.audit(train, val, near=near, progress=False)


def _share(part: int, whole: int) -> str:
    if not whole:
        return "none was named"
    low, high = clopper_pearson(part, whole)
    return f"{percent(part / whole)} [{percent(low)}, {percent(high)}]"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def page(runs: int, splits: int) -> Iterator[str]:
    """The whole page, line by line."""
    yield HEAD
    yield f"Measured with {stamp()}; times are those of the processor.\n"
    yield "## Copies that are found\n"
    yield (
        "Of 497 pictures of real handwriting (8 × 8 pixels, scaled to 32), 5 % had copies among 1,300 "
        f"training pictures; {runs} random splits each.\n"
    )
    yield from _table(("copies", "of each", "found", "false among the named"), copies_found(runs))
    yield "## Copies that are not\n"
    yield from _table(("copies", "found"), not_found(runs))
    yield "## Clean sets\n"
    yield f"{splits} of each kind, 1,300 rows against 497 (texts: 400 against 150).\n"
    yield from _table(
        ("sets", "rows that were named", "not checked: too many ties"), false_flags(splits)
    )
    yield "## 50,000 rows against 10,000, of 192 numbers\n"
    yield from _table(("what", "found", "took"), exactly())


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.studies.leakage", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="splits of each kind of copy")
    parser.add_argument("--splits", type=int, default=SPLITS, help="clean sets of each kind")
    parser.add_argument("--page", action="store_true", help="print docs/leakage.md")
    arguments = parser.parse_args(argv)
    lines = page(arguments.runs, arguments.splits)
    if not arguments.page:
        lines = (line for line in lines if line.startswith(("|", "##")))
    for line in lines:
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
