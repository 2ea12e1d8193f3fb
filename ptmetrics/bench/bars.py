"""The bars that speed is held to: each is one row of `BARS`, read off what was measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ptmetrics.bench.growth import Growth
from ptmetrics.bench.overhead import EPOCH, LoopRow
from ptmetrics.bench.ranking import BytesRow, RankingRow
from ptmetrics.bench.updates import Row

FULL, COUNTS = "multiclass, full set", "confusion, accuracy"
RESNET, MLP = "ResNet-18, 64 images of 32 x 32", "two-layer MLP, 64 x 784"
MANY_SCORES = 10_000_000


@dataclass(frozen=True)
class Results:
    """All that one run measured.

    Attributes:
        setting: Machine, versions, threads, sizes.
        updates: One update of each task, beside the peers.
        curves: AUROC and average precision of many scores.
        state_bytes: How states grow.
        loops: What hooks add to a loop.
        growth: What grows with what.
    """

    setting: Mapping[str, Any]
    updates: Sequence[Row] = ()
    curves: Sequence[RankingRow] = ()
    state_bytes: Sequence[BytesRow] = ()
    loops: Sequence[LoopRow] = ()
    growth: Sequence[Growth] = field(default_factory=tuple)


Measure = Callable[[Results], float | None]


@dataclass(frozen=True)
class Bar:
    """What is wanted, and where it is read off.

    Attributes:
        what: In words.
        limit: The number wanted.
        at_least: Whether more is better.
        measure: The number that was reached; None if a run did not measure it.
        why: For the page while the bar is missed: what is known of the reason.
        percent: Whether it is a share.
    """

    what: str
    limit: float
    at_least: bool
    measure: Measure
    why: str = ""
    percent: bool = False

    def met(self, value: float) -> bool:
        """Whether a number passes."""
        return value >= self.limit if self.at_least else value <= self.limit

    def missed_by(self, value: float) -> float:
        """Factor between what was wanted and what was reached; above 1 if it is missed."""
        return self.limit / value if self.at_least else value / self.limit

    def text(self, value: float) -> str:
        """A number of this bar's kind, at three digits."""
        return f"{100 * value:.3g} %" if self.percent else f"{value:.3g} x"


def times(words: str, size: str, side: str) -> Measure:
    """How many times our update takes the time of another side."""

    def measure(results: Results) -> float | None:
        rows = (
            row
            for row in results.updates
            if row.section.startswith(words) and row.section.endswith(f", {size}")
        )
        return next((row.ratio[0] for row in rows if row.side == side), None)

    return measure


def inverse(measure: Measure) -> Measure:
    """Our time over theirs."""

    def inverted(results: Results) -> float | None:
        value = measure(results)
        return None if value is None else 1 / value

    return inverted


def of_a_batch(loop: str, phase: str) -> Measure:
    """Time inside our hooks over the time of a bare batch."""

    def measure(results: Results) -> float | None:
        row = _looped(results, loop, phase, "ptmetrics")
        return None if row is None else row.share

    return measure


def of_their_overhead(loop: str) -> Measure:
    """What we add to an epoch of CIFAR-10 over what torchmetrics adds, ends of the epoch included."""

    def measure(results: Results) -> float | None:
        ours, theirs = (added_us(results, loop, side) for side in ("ptmetrics", "torchmetrics"))
        return None if ours is None or theirs is None else ours / theirs

    return measure


def added_us(results: Results, loop: str, side: str) -> float | None:
    """Microseconds that a side adds to an epoch of CIFAR-10, the end of the epoch included."""
    rows = {phase: _looped(results, loop, phase, side) for phase in EPOCH}
    known = {phase: row for phase, row in rows.items() if row is not None}
    if len(known) < len(rows):
        return None
    return sum(EPOCH[phase] * row.added_us for phase, row in known.items()) + known["train"].end_us


def _looped(results: Results, loop: str, phase: str, side: str) -> LoopRow | None:
    found = (row for row in results.loops if (row.loop, row.phase, row.side) == (loop, phase, side))
    return next(found, None)


def ranked(side: str) -> Measure:
    """How many times our curves of ten million scores take the time of another side."""

    def measure(results: Results) -> float | None:
        rows = results.curves if results.setting.get("scores") == MANY_SCORES else ()
        return next((row.ratio[0] for row in rows if row.side == side), None)

    return measure


WIDE = (
    "On a CPU with AVX2 alone the exponentials of 256,000 scores take a sixth of the update, and each further pass "
    "over a megabyte 20 to 40 µs; about ten are needed, and the sides take turns, so caches are cold. Hand-written "
    "kernels would fuse the passes; torch.compile needs a compiler at the user's."
)
SMALL = (
    "A step of this model takes little more than a millisecond here. Of what we add, about a third is the counting of "
    "all 25 scores, once in 64 steps; the rest is four hooks, four copies and 64 calls of Python on caches that the "
    "step has emptied."
)
COLD = (
    "After a step of 0.4 s every line of Python runs on cold caches, which doubles its time; and the end of an "
    "epoch computes 25 scores and their intervals for two splits, a fifth of the whole, where torchmetrics computes 7 "
    "numbers."
)
BARS = (
    Bar("full multiclass set, 64 x 10: torchmetrics over ours", 10, True, times(FULL, "64 x 10", "torchmetrics")),
    Bar("full multiclass set, 256 x 1000: torchmetrics over ours", 25, True,
        times(FULL, "256 x 1000", "torchmetrics"), WIDE),
    Bar("full multiclass set, 1024 x 1000: torchmetrics over ours", 10, True,
        times(FULL, "1024 x 1000", "torchmetrics")),
    Bar("confusion and accuracy, 256 x 1000: ours over `logits.max(1)` alone", 1.0, False,
        inverse(times(COUNTS, "256 x 1000", "logits.max(1) alone"))),
    Bar("AUROC and average precision of 10 million scores: torchmetrics over ours", 30, True, ranked("torchmetrics")),
    Bar(f"hooks, training step of {RESNET}", 0.01, False, of_a_batch(RESNET, "train"), percent=True),
    Bar(f"hooks, validation batch of {RESNET}", 0.01, False, of_a_batch(RESNET, "val"), percent=True),
    Bar(f"hooks, training step of {MLP}", 0.05, False, of_a_batch(MLP, "train"), SMALL, percent=True),
    Bar(f"an epoch of {RESNET}: what we add over what torchmetrics adds", 0.1, False, of_their_overhead(RESNET),
        COLD, percent=True),
)  # fmt: skip
