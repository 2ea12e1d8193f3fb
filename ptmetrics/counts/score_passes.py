"""The passes over the classes: from scores of shape (rows, C) to a handful of numbers a row, by the cheapest kernels.

Measured at 256 × 1000 float32 on two AVX2 cores, in µs: `amax` 24, `max` 310, `argmax` 217, NumPy's
`argmax` 25; `x > t` into a new bool tensor 112, into a kept float buffer 30, its row sums 22;
`topk(5)` 340; `logsumexp` 345, but `sub`, `exp_`, `sum` in a kept buffer 200, with `exp2_` for
`exp_` 160, and the norm for the Brier score 29 more. On AVX-512 `exp_` is the quicker one (25 and
less). At 4096 × 10 `max` takes 96 and NumPy 145, at 4096 × 32 it is 230 and 123. On CUDA each
operation is a launch. Hence `_read_on_device` beside `_read_in_memory`, and `_exp_`. In memory what
is small counts too: of 570 µs that a batch took on one thread, 8 rows alone took 240; so tensors
and their views are kept, and vectors are NumPy's.

A compiler would fuse the passes, but needs a C++ compiler at the user's and half a minute for each
shape: left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptmetrics.counts.checks import in_memory
from ptmetrics.counts.modes import outside_inference

FEW_CLASSES = 24  # up to here torch's `max` is the quickest on a CPU
LOG2_E = math.log2(math.e)
EXP2 = (
    torch.backends.cpu.get_cpu_capability() == "AVX2"
)  # whether `exp2_` of a product is quicker than `exp_`
MOST_BENCHES = 4  # shapes of scores that are read with tensors that are kept
PIECE = 2**18  # scores that are counted at a time on a CPU, so that the buffers stay in its cache
READ_AT_ONCE = 2**20  # scores that one pass reads in memory: 1024 × 1000 took 1.8 ms, in four 2.4


@dataclass
class Columns:
    """What is left of each row of scores; device tensors of shape (rows,), of the type of the scores.

    Attributes:
        label: Int64: lowest of the classes with the highest score; any where the row holds NaN.
        peak: Highest score; NaN where the row holds NaN.
        own: Score of the target.
        mass: Logits: Σ exp(z − peak) over the other classes than the label. Probabilities: their
            sum.
        norm: Root of the sum of squares of the same numbers.
        least: Lowest probability; logits leave it as it is.
        rank: How many classes come before the target: those above it, and lower classes of the same
            score.
    """

    label: Tensor
    peak: Tensor
    own: Tensor
    mass: Tensor
    norm: Tensor
    least: Tensor
    rank: Tensor

    @classmethod
    def of_table(cls, table: Tensor) -> "Columns":
        """From what `ScorePasses.read_table` made."""
        label, *floats = table.unbind(1)
        return cls(label.long(), *floats)


FLOATS = ("peak", "own", "mass", "norm", "least", "rank")
TABLE_COLUMNS = 1 + len(FLOATS)


def wide(preds: Tensor) -> torch.dtype:
    """Type to read scores in: half precision is widened, which keeps every value and the order."""
    if preds.dtype == torch.float64:
        return torch.float64
    return torch.float32


class Workbench:
    """What scores of one shape are read with in memory; its columns are those of the last ones.

    A view costs as much as a pass over a few rows, so they are made once.

    Args:
        rows: N.
        dtype: Float32 or float64.
        odds: A buffer of shape (N, C).
    """

    def __init__(self, rows: int, dtype: torch.dtype, odds: Tensor) -> None:
        self.table = torch.empty((TABLE_COLUMNS, rows), dtype=dtype)
        self.label = torch.empty(rows, dtype=torch.int64)
        self.columns = Columns(self.label, *self.table[1:].unbind())
        self.label_column = self.label.unsqueeze(1)
        self.peak_column = self.columns.peak.unsqueeze(1)
        self.own_column = self.columns.own.unsqueeze(1)
        self.labels = self.label.numpy()
        self.ranks = self.columns.rank.numpy()
        self.odds = odds


@dataclass
class ScorePasses:
    """Reads scores into `Columns`; keeps what it reads with in memory.

    Attributes:
        num_classes: C.
        probs: Whether scores are probabilities, and not logits.
        losses: Whether `own`, `mass`, `norm` and `least` are wanted.
        ranks: Whether `rank` is wanted.
    """

    num_classes: int
    probs: bool
    losses: bool
    ranks: bool
    _kept: dict[torch.dtype, Tensor] = field(default_factory=dict, init=False, repr=False)
    _benches: dict[tuple[int, torch.dtype], Workbench] = field(
        default_factory=dict, init=False, repr=False
    )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": {}, "_benches": {}}  # a copy makes buffers of its own

    def read(self, preds: Tensor, target: Tensor) -> Columns:
        """The columns of all rows, those that are wanted; no host sync. In memory they last until the next call.

        Args:
            preds: Floating point of shape (rows, C).
            target: Int64 of shape (rows,), classes.
        """
        if not in_memory(preds):
            return self._read_on_device(preds.to(wide(preds)), target)
        if len(preds) <= self._rows_at_once:
            return self._read_in_memory(preds, target).columns
        return Columns.of_table(self.read_table(preds, target))

    def read_table(self, preds: Tensor, target: Tensor) -> Tensor:
        """The same of scores in memory, in one tensor of shape (rows, 7), labels first: float32 holds any class."""
        rows = preds.shape[0]
        most = self._rows_at_once
        if rows <= most:
            bench = self._read_in_memory(preds, target)
            bench.table[0] = bench.label
            return bench.table.T
        found = torch.empty((TABLE_COLUMNS, rows), dtype=wide(preds))
        size = math.ceil(rows / math.ceil(rows / most))  # of one length, for one bench
        for start in range(0, rows, size):
            here = slice(start, start + size)
            found[:, here] = self.read_table(preds[here], target[here]).T
        return found.T

    @property
    def _rows_at_once(self) -> int:
        return max(1, READ_AT_ONCE // self.num_classes)

    def _read_on_device(self, scores: Tensor, target: Tensor) -> Columns:
        rows = scores.shape[0]
        floats = scores.new_empty((len(FLOATS), rows))
        label = torch.empty(rows, dtype=torch.int64, device=scores.device)
        columns = Columns(label, *floats.unbind())
        torch.max(scores, 1, out=(columns.peak, columns.label))
        own = columns.own.unsqueeze(1)
        if self.losses or self.ranks:
            torch.gather(scores, 1, target.unsqueeze(1), out=own)
        if self.losses:
            peak, label = columns.peak.unsqueeze(1), columns.label.unsqueeze(1)
            self._sum_up(scores, peak, label, columns, torch.empty_like(scores))
        if self.ranks:
            columns.rank = self._count_before(scores, own, target)
        return columns

    def _read_in_memory(self, preds: Tensor, target: Tensor) -> Workbench:
        scores = preds.to(wide(preds))
        bench = self._benches.get((scores.shape[0], scores.dtype)) or self._new_bench(scores)
        columns = bench.columns
        if self.num_classes <= FEW_CLASSES:
            torch.max(scores, 1, out=(columns.peak, columns.label))
        else:
            scores.numpy().argmax(1, out=bench.labels)  # the first NaN, if there is one
            torch.gather(scores, 1, bench.label_column, out=bench.peak_column)
        if self.losses or self.ranks:
            torch.gather(scores, 1, target.unsqueeze(1), out=bench.own_column)
        if self.losses:
            self._sum_up(scores, bench.peak_column, bench.label_column, columns, bench.odds)
        if self.ranks:
            self._rank(scores, target, bench)
        return bench

    def _sum_up(
        self, scores: Tensor, peak: Tensor, label: Tensor, columns: Columns, odds: Tensor
    ) -> None:
        if self.probs:
            odds = scores
            torch.amin(scores, 1, out=columns.least)
        else:
            # Without the label, whose exp is 1, float32 keeps all digits of the doubt of a sure
            # row.
            _exp_(torch.sub(scores, peak, out=odds))
            odds.scatter_(1, label, 0.0)
        torch.sum(odds, 1, out=columns.mass)
        torch.linalg.vector_norm(odds, dim=1, out=columns.norm)

    def _rank(self, scores: Tensor, target: Tensor, bench: Workbench) -> None:
        """Two passes do where no other class has the score of the target."""
        own, rank = bench.own_column, bench.columns.rank
        level = torch.ge(scores, own, out=bench.odds).sum(1)
        torch.sum(torch.gt(scores, own, out=bench.odds), 1, out=rank)
        tied = np.flatnonzero(level.numpy() - bench.ranks > 1)
        if len(tied):
            rows = torch.from_numpy(tied)
            bench.ranks[tied] = self._count_before(scores[rows], own[rows], target[rows]).numpy()

    def _count_before(self, scores: Tensor, own: Tensor, target: Tensor) -> Tensor:
        classes = torch.arange(self.num_classes, dtype=scores.dtype, device=scores.device)
        buffers = [torch.empty_like(scores) for _ in range(3)]
        rank = torch.empty_like(own[:, 0])
        return rank_of_target(scores, own, target.unsqueeze(1), classes, buffers, out=rank)

    @outside_inference
    def _new_bench(self, like: Tensor) -> Workbench:
        rows = like.shape[0]
        kept = self._kept.get(like.dtype)
        if kept is None or kept.shape[0] < rows:
            kept = torch.empty(like.shape, dtype=like.dtype)
            self._kept[like.dtype] = kept
            self._benches.clear()
        if len(self._benches) == MOST_BENCHES:
            self._benches.clear()
        bench = Workbench(rows, like.dtype, kept[:rows])
        self._benches[rows, like.dtype] = bench
        return bench


def _exp_(depth: Tensor) -> Tensor:
    """Exponential in place."""
    return depth.mul_(LOG2_E).exp2_() if EXP2 and depth.is_cpu else depth.exp_()


def rank_of_target(
    scores: Tensor,
    own: Tensor,
    target: Tensor,
    classes: Tensor,
    buffers: Sequence[Tensor],
    *,
    out: Tensor,
) -> Tensor:
    """How many classes come before the target: those above it, and lower classes of the same score.

    Args:
        scores: Float32 or float64 of shape (rows, C).
        own: Score of the target, shape (rows, 1).
        target: Classes of shape (rows, 1).
        classes: 0 to C − 1 in the type of the scores.
        buffers: Three tensors like `scores`, written over: counting in floats is five times quicker
            than in bools.
        out: Where to write, shape (rows,) and the type of the scores.

    Returns:
        Whole numbers in the type of the scores, shape (rows,), 0 for the first.
    """
    above, level, before = buffers
    torch.gt(scores, own, out=above)
    torch.eq(scores, own, out=level)
    torch.lt(classes, target, out=before)
    return torch.sum(above.addcmul_(level, before), 1, out=out)
