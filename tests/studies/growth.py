"""How costs grow with samples, classes, scores, epochs and ranks; writes `docs/growth.md`.

    python -m tests.studies.growth [--quick] [--out FOLDER]

What merging ranks would move is worked out from states; that packed parts, merged, are the whole is
checked each time.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ptmetrics as pm
from ptmetrics import distributed
from ptmetrics.bench.curves import bytes_rows, curve_rows
from ptmetrics.bench.machine import setting
from ptmetrics.bench.peers import installed, peer_sides
from ptmetrics.bench.report import LinePlot, draw_plot, fenced, setting_text
from ptmetrics.bench.timing import Call, host_clock, quartiles, race
from ptmetrics.bench.updates import PredsTarget, class_batch, full_set
from ptmetrics.counts.cell import LARGEST_COUNT, MOST_STATE_BYTES
from ptmetrics.metrics.multiclass import MAX_CLASSES, MOST_CLASSES
from ptmetrics.monitor.epoch import MAX_LISTED_CLASSES, MAX_RECORDED_CLASSES
from ptmetrics.record.foreign_epochs import MAX_EPOCHS
from ptmetrics.record.foreign_table import MAX_COLUMNS
from ptmetrics.record.lines import MAX_LINE_BYTES
from ptmetrics.record.reader import MAX_LOG_BYTES, read_run
from ptmetrics.record.run_folder import journal_path
from ptmetrics.record.samples import MAX_ROWS
from ptmetrics.show.run import run_text
from ptmetrics.verdict.judge import judge

PAGE = "docs/growth.md"
COMMAND = "python -m tests.studies.growth"
RANKS = (1, 2, 8, 64, 1024)
ENDS = (
    "No count grows with the rows, and the end of an epoch costs the same however many there were; only the "
    "samples of validation that are kept for paired tests grow. An update grows with the rows of its batch "
    "and with the classes; `compute()`, and so the end of an epoch, with the splits and the classes and, up "
    "to where the matrix is kept, with their square; a record with its epochs, and reading it takes time in "
    "proportion. Beyond these numbers something is left out or refused, with a message:"
)
PARTS = 4
WIDEST_FOR_PEERS = (
    4096  # classes; from there on their matrix has more cells than there is memory for
)
OPTIONS: tuple[Mapping[str, Any], ...] = (
    {"losses": False},
    {"losses": False, "topk": (1, 5)},
    {"topk": (1, 5)},
    {"topk": (1, 5), "curves": True},
)
PEER_SCORES = (
    "accuracy",
    "precision/macro",
    "recall/macro",
    "f1/macro",
    "confusion",
    "top5_accuracy",
    "ece",
)
Lines = dict[str, dict[float, float]]  # name to points: x to y


@dataclass(frozen=True)
class Growth:
    """What grows with what.

    Attributes:
        name: Of the plot's file.
        plot: Title, axes and lines.
        how: How it was measured.
    """

    name: str
    plot: LinePlot
    how: str

    @property
    def picture(self) -> str:
        """Where the plot is written, below the folder of the page."""
        return f"docs/growth-{self.name}.png"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all parts and write page and plots."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--out", type=Path, default=Path(), help="folder above docs/")
    args = parser.parse_args(argv)
    known = {**setting(None, "cpu", ""), "command": COMMAND}
    measured = []
    for growth in growths(quick=args.quick):
        print(f"measured: {growth.plot.title}", file=sys.stderr, flush=True)
        draw_plot(growth.plot, args.out / growth.picture)
        measured.append(growth)
    page = "\n".join(growth_page(known, measured)) + "\n"
    (args.out / PAGE).write_text(page, encoding="utf-8")
    print(f"written: {args.out / PAGE}", file=sys.stderr)
    return 0


def growths(*, quick: bool) -> Iterator[Growth]:
    """All of them."""
    modules, _ = installed()
    rounds = 2 if quick else 7
    if quick:
        yield samples(modules, (1000, 10_000), 1)
        yield state(modules, (1000, 10_000))
        yield rows(modules, (16, 64), rounds)
        yield classes(modules, (10, 100), rounds)
        yield scores(modules, 10, rounds)
        yield computed((10, 100), rounds)
        yield splits((1, 2), rounds)
        yield journal((2, 10))
        yield epochs((3, 10))
    else:
        yield samples(modules, (10_000, 100_000, 1_000_000, 10_000_000), 3)
        yield state(modules, (10_000, 100_000, 1_000_000))
        yield rows(modules, (16, 64, 256, 1024, 16_384, 262_144), rounds)
        yield classes(modules, (10, 100, 1000, 4096, 20_000), rounds)
        yield scores(modules, 100, rounds)
        yield computed((10, 100, 1000, 4096, 20_000), rounds)
        yield splits((1, 2, 4, 8), rounds)
        yield journal((2, 10, 100, 128, 1000))
        yield epochs((10, 30, 100, 300, 1000))
    yield ranks()


def samples(modules: Mapping[str, Any], counts: Sequence[int], rounds: int) -> Growth:
    """Seconds for AUROC and average precision."""
    lines: Lines = {}
    for count in counts:
        for row in curve_rows(modules, count, rounds):
            lines.setdefault(row.side, {})[count] = row.seconds[0]
    title = "AUROC and average precision of n scores"
    how = "Update and compute of n float32 scores in one call; medians, the sides in turn."
    return Growth("samples", LinePlot(title, "scores", "seconds", lines), how)


def state(modules: Mapping[str, Any], counts: Sequence[int]) -> Growth:
    """Bytes of state for AUROC."""
    lines: Lines = {}
    for row in bytes_rows(modules, counts):
        for name, size in row.state_bytes.items():
            lines.setdefault(name, {})[row.rows] = size
    plot = LinePlot("State after n scores, for AUROC", "scores", "bytes", lines)
    return Growth("state", plot, "Bytes of all tensors that are kept.")


def rows(modules: Mapping[str, Any], counts: Sequence[int], rounds: int) -> Growth:
    """Microseconds of one update of the full multiclass set, by rows of the batch."""
    lines: Lines = {}
    for count in counts:
        batch = class_batch(count, 10)
        metrics = pm.MulticlassMetrics(10, topk=(1, 5))
        calls: dict[str, Call] = {"ptmetrics": partial(metrics.update, *batch)}
        for side in peer_sides(modules, "multiclass", 10, full_set()):
            calls[side.name] = partial(side.update, *batch)
        for name, timing in race(calls, rounds=rounds).items():
            lines.setdefault(name, {})[count] = timing.microseconds[0]
    plot = LinePlot("One update of the full set, 10 classes", "rows", "microseconds", lines)
    how = "Medians, the sides in turn. Small batches wait and are counted together; that is in the mean."
    return Growth("rows", plot, how)


def classes(modules: Mapping[str, Any], sizes: Sequence[int], rounds: int) -> Growth:
    """Microseconds of one update of the full multiclass set."""
    lines: Lines = {}
    for size in sizes:
        batch = class_batch(256, size)
        metrics = pm.MulticlassMetrics(size, topk=(1, 5))
        calls: dict[str, Call] = {"ptmetrics": partial(metrics.update, *batch)}
        if size <= WIDEST_FOR_PEERS:
            for side in peer_sides(modules, "multiclass", size, full_set()):
                calls[side.name] = partial(side.update, *batch)
        for name, timing in race(calls, rounds=rounds).items():
            lines.setdefault(name, {})[size] = timing.microseconds[0]
    plot = LinePlot("One update of the full set, 256 rows", "classes", "microseconds", lines)
    how = (
        "Medians, the sides in turn. Above 4,096 classes ours keeps margins; the others' matrix would take "
        "gigabytes and was left out."
    )
    return Growth("classes", plot, how)


def scores(modules: Mapping[str, Any], size: int, rounds: int) -> Growth:
    """Microseconds of one update as more scores are asked for."""
    batch = class_batch(256, size)
    calls: dict[str, Call] = {}
    places: dict[str, tuple[str, int]] = {}  # of a call: its line, and how many scores
    for options in OPTIONS:
        metrics = pm.MulticlassMetrics(size, **options)
        number = len(metrics.compute())
        places[f"ptmetrics {number}"] = ("ptmetrics", number)
        calls[f"ptmetrics {number}"] = partial(metrics.update, *batch)
    if "torchmetrics" in modules:
        peer = {"torchmetrics": modules["torchmetrics"]}
        for number in range(1, 8, 2):
            side = peer_sides(peer, "multiclass", size, PEER_SCORES[:number])[0]
            places[f"torchmetrics {number}"] = ("torchmetrics", number)
            calls[f"torchmetrics {number}"] = partial(side.update, *batch)
    lines: Lines = {}
    for name, timing in race(calls, rounds=rounds).items():
        line, number = places[name]
        lines.setdefault(line, {})[number] = timing.microseconds[0]
    title = f"One update, 256 x {size}, as more scores are asked for"
    how = (
        "Ours: counts; with top-5; with losses and calibration; with the curves of each class. "
        "torchmetrics: the first 1, 3, 5 and 7 of those that it has. Medians, in turn."
    )
    plot = LinePlot(title, "scores", "microseconds", lines, logarithmic=False)
    return Growth("scores", plot, how)


def computed(sizes: Sequence[int], rounds: int) -> Growth:
    """Milliseconds of `compute()`, by number of classes."""
    calls: dict[str, Call] = {}
    for size in sizes:
        metrics = pm.MulticlassMetrics(size)
        metrics.update(*class_batch(2 * min(max(size, 1000), MAX_CLASSES), size))
        calls[str(size)] = metrics.compute
    points: dict[float, float] = {}
    for name, timing in race(calls, rounds=rounds).items():
        points[int(name)] = timing.microseconds[0] / 1000
    how = (
        "All scores and their intervals; medians. Up to 4,096 classes a matrix is read a few times, and "
        "copied without its zeros where it is large; above that ours keeps margins."
    )
    plot = LinePlot("compute() of one metric", "classes", "milliseconds", {"ptmetrics": points})
    return Growth("computed", plot, how)


def splits(counts: Sequence[int], rounds: int) -> Growth:
    """Milliseconds of the end of an epoch, by number of splits."""
    points: dict[float, float] = {}
    for count in counts:
        names = ["train", "val", *(f"val_{place}" for place in range(count))][:count]
        with pm.Monitor(pm.MulticlassMetrics(10), progress=False) as monitor:
            took = [_end_of_epoch(monitor, names) for _ in range(2 * rounds + 1)]
        points[count] = 1000 * quartiles(took[1:])[0]
    how = (
        "`end_epoch()` of 10 classes without a record, after a batch of 256 rows of each split; medians. The "
        "splits are computed together on stacked arrays."
    )
    plot = LinePlot("The end of an epoch", "splits", "milliseconds", {"ptmetrics": points})
    return Growth("splits", plot, how)


def _end_of_epoch(monitor: pm.Monitor, names: Sequence[str]) -> float:
    """Seconds of it, after each split had a batch."""
    for split in names:
        monitor.update(*class_batch(256, 10), loss=1.0, split=split)
    return host_clock(monitor.end_epoch, 1)


def journal(sizes: Sequence[int]) -> Growth:
    """Bytes that one epoch adds to the journal, by number of classes."""
    points: dict[float, float] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            run = recorded(Path(folder) / "run", 1, size)
            lines = journal_path(run, 0).read_bytes().splitlines(keepends=True)
            points[size] = max(map(len, lines))
    title = "One epoch in the journal, train and validation"
    how = (
        "Length of the epoch's line. The confusion matrix is recorded up to 128 classes, scores of each "
        "class up to 4,096."
    )
    return Growth("journal", LinePlot(title, "classes", "bytes", {"ptmetrics": points}), how)


def epochs(counts: Sequence[int]) -> Growth:
    """Seconds to read and judge a record, and to show it as well, by number of epochs."""

    def check(run: Path) -> object:
        return judge(read_run(run))

    def report(run: Path) -> object:
        found = read_run(run)
        return run_text(found, judge(found))

    lines: Lines = {"check": {}, "report": {}}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            run = recorded(Path(folder) / "run", count, 10)
            lines["check"][count] = min(host_clock(partial(check, run), 1) for _ in range(3))
            lines["report"][count] = min(host_clock(partial(report, run), 1) for _ in range(3))
    title = "Reading and judging the record of a run with 10 classes"
    how = "Best of three, in a process that has imported everything."
    return Growth("epochs", LinePlot(title, "epochs", "seconds", lines), how)


def recorded(path: Path, count: int, classes: int) -> Path:
    """A run whose epochs are all like its first, which was counted from a batch."""
    batch = class_batch(2 * max(classes, 100), classes)
    with pm.Monitor(pm.MulticlassMetrics(classes), run=path, progress=False) as monitor:
        for split in ("train", "val"):
            monitor.update(*batch, loss=1.0, split=split)
        line = monitor.end_epoch().to_record()
        for epoch in range(1, count):
            monitor.record("epoch", {**line, "epoch": epoch})
    return path


def ranks() -> Growth:
    """Bytes that each rank sends to merge so many, worked out from states that were checked.

    Raises:
        ArithmeticError: If packed parts, merged, are not the whole.
    """
    g = torch.Generator().manual_seed(0)
    binary = torch.rand(400, generator=g), torch.randint(2, (400,), generator=g)
    ten = partial(pm.MulticlassMetrics, 10, topk=(1, 5))
    thousand = partial(pm.MulticlassMetrics, 1000, topk=(1, 5))
    sides: dict[str, tuple[Callable[[], Any], PredsTarget]] = {
        "binary, with curves": (partial(pm.BinaryMetrics, inputs="probs"), binary),
        "10 classes": (ten, class_batch(400, 10)),
        "1,000 classes": (thousand, class_batch(400, 1000)),
    }
    lines: Lines = {}
    for name, (make, batch) in sides.items():
        lines[name] = {n: 2 * (n - 1) / n * merged_bytes(make, batch, n) for n in RANKS}
    lines["torchmetrics, exact AUROC of 1 million scores a rank"] = {
        n: (n - 1) * 12e6 for n in RANKS
    }
    title = "Bytes that each rank sends to merge all ranks"
    how = (
        "Worked out, not measured on several machines: a ring all-reduce of n ranks sends 2(n - 1)/n times "
        "what `metrics.sync()` packs; gathering what others keep, a million scores a rank, sends them n - 1 "
        "times. That what is packed, added up, gives what the whole gives is checked here each time the page "
        "is made."
    )
    return Growth("ranks", LinePlot(title, "ranks", "bytes", lines), how)


def merged_bytes(make: Callable[[], Any], batch: PredsTarget, count: int) -> int:
    """Split a batch among four ranks, and add up what they pack; the bytes that each of `count` packs.

    Raises:
        ArithmeticError: If the result is not the state of the whole batch.
    """
    whole = make()
    whole.update(*batch)
    chunks = zip(batch[0].chunk(PARTS), batch[1].chunk(PARTS), strict=True)
    states = []
    for preds, target in chunks:
        part = make()
        part.update(preds, target)
        states.append(_parts(part))
    vectors = [distributed.pack(parts, rank, PARTS) for rank, parts in enumerate(states)]
    names = distributed._names_of(whole._accumulator)
    merged = distributed.unpack(torch.stack(vectors).sum(0), states[0], PARTS)
    if not _same_cells(dict(zip(names, merged, strict=True)), whole.state_dict()["cells"]):
        raise ArithmeticError(f"{PARTS} parts, packed and added up, are not the whole")
    return 8 * len(distributed.pack(states[0], 0, count))


def _parts(metrics: Any) -> list[distributed.Part]:
    """What a metric has counted, batches that wait too."""
    metrics.state_dict()
    return distributed._parts_of(metrics._accumulator)


def _same_cells(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    """Counts alike, sums but for the order of adding; where a fault came first may differ."""
    for name, other in others.items():
        if "first" in name:
            continue
        if not torch.allclose(some[name].double(), other.double(), rtol=1e-9, atol=1e-9):
            return False
    return True


def limits() -> Iterator[tuple[str, int, str]]:
    """What is refused or left out, from where on, and why: as the package has it."""
    yield "classes whose confusion matrix is kept", MAX_CLASSES, "8 · C² bytes; above, margins"
    yield "classes", MOST_CLASSES, "refused above"
    yield "classes whose matrix is in the journal", MAX_RECORDED_CLASSES, "the line grows by C²"
    yield "classes whose scores are in the journal", MAX_LISTED_CLASSES, "the line grows by C"
    yield "bytes of a metric's counts", MOST_STATE_BYTES, "refused above"
    yield "samples of a split that are kept for paired tests", MAX_ROWS, "their file; told above"
    yield "rows counted in a cell", LARGEST_COUNT, "whole numbers of float64"
    yield "bytes of a line of the journal", MAX_LINE_BYTES, "skipped above, as a problem"
    yield "bytes of another tool's log", MAX_LOG_BYTES, "refused above"
    yield "columns of another tool's log", MAX_COLUMNS, "refused above"
    yield "epochs of another tool's log", MAX_EPOCHS, "refused above"


def growth_page(known: Mapping[str, Any], growths: Iterable[Growth]) -> Iterator[str]:
    """Each thing that grows: a table, a plot, and how it was measured."""
    yield f"# How costs grow\n\nWritten by `{known['command']}`: `make bench-growth`.\n"
    yield from fenced(setting_text(known))
    for growth in growths:
        plot = growth.plot
        picture = Path(growth.picture).name
        yield f"\n## {plot.title}\n\n{growth.how}\n\n![{plot.title}]({picture})\n"
        yield f"| {plot.x} | " + " | ".join(f"{name}, {plot.y}" for name in plot.lines) + " |"
        yield "|---" * (1 + len(plot.lines)) + "|"
        for x in sorted({x for line in plot.lines.values() for x in line}):
            cells = [_number(line[x]) if x in line else "" for line in plot.lines.values()]
            yield f"| {x:,.0f} | " + " | ".join(cells) + " |"
    yield f"\n## Where it ends\n\n{ENDS}\n"
    yield "| of | most | |"
    yield "|---|---|---|"
    for what, most, why in limits():
        yield f"| {what} | {most:,} | {why} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
