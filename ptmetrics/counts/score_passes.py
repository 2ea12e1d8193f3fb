"""The passes over the classes: from scores of shape (rows, C) to a handful of numbers a row, by the cheapest kernels.

Measured at 256 × 1000 float32 on two AVX2 cores, in µs: `amax` 24, `max` 310, `argmax` 217, NumPy's
`argmax` 25; `x > t` into a new bool tensor 112, into a kept float buffer 30, its row sums 22;
`topk(5)` 340; `logsumexp` 345, but `sub`, `exp_`, `sum` in a kept buffer 200, with `exp2_` for
`exp_` 160, and the norm for the Brier score 29 more. On AVX-512 `exp_` is the quicker one (25 and
less). At 4096 × 10 `max` takes 96 and NumPy 145, at 4096 × 32 it is 230 and 123. On CUDA each
operation is a launch. Hence `_highest`, `_exp_`, and the buffers.

A compiler would fuse the passes, but needs a C++ compiler at the user's and half a minute for each
shape: left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ptmetrics.counts.checks import in_memory
from ptmetrics.counts.modes import outside_inference

FEW_CLASSES = 24  # up to here torch's `max` is the quickest on a CPU
LOG2_E = math.log2(math.e)
EXP2 = (
    torch.backends.cpu.get_cpu_capability() == "AVX2"
)  # whether `exp2_` of a product is quicker than `exp_`
PIECE = 2**18  # scores that one pass handles on a CPU, so that the buffers stay in its cache


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


FLOATS = ("peak", "own", "mass", "norm", "least", "rank")


def wide(preds: Tensor) -> torch.dtype:
    """Type to read scores in: half precision is widened, which keeps every value and the order."""
    if preds.dtype == torch.float64:
        return torch.float64
    return torch.float32


@dataclass
class ScorePasses:
    """Reads scores into `Columns`; keeps its buffers on a CPU.

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
    _kept: dict[tuple[int, torch.dtype], Tensor] = field(
        default_factory=dict, init=False, repr=False
    )
    _classes: dict[torch.dtype, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": {}, "_classes": {}}  # a copy makes buffers of its own

    def piece(self, device: torch.device) -> int:
        """How many rows to read at a time."""
        return max(1, PIECE // self.num_classes) if device.type == "cpu" else 2**62

    def read(self, preds: Tensor, target: Tensor) -> Columns:
        """The columns of all rows, those that are wanted; no host sync.

        Args:
            preds: Floating point of shape (rows, C).
            target: Int64 of shape (rows,); one outside the classes is read as the nearest.
        """
        rows = preds.shape[0]
        dtype = wide(preds)
        floats = torch.empty((len(FLOATS), rows), dtype=dtype, device=preds.device)
        label = torch.empty(rows, dtype=torch.int64, device=preds.device)
        size = self.piece(preds.device)
        if size >= rows:
            columns = Columns(label, *floats.unbind())
            self.read_(preds.to(dtype), target, columns)
            return columns
        for start in range(0, rows, size):
            here = slice(start, start + size)
            some = Columns(label[here], *floats[:, here].unbind())
            self.read_(preds[here].to(dtype), target[here], some)
        return Columns(label, *floats.unbind())

    def read_(self, scores: Tensor, target: Tensor, columns: Columns) -> None:
        """Fill the columns that are wanted; no host sync.

        Args:
            scores: Float32 or float64 of shape (rows, C).
            target: Int64 of shape (rows,); one outside the classes is read as the nearest.
            columns: Written to.
        """
        self._highest(scores, columns)
        if not (self.losses or self.ranks):
            return
        target, own = target.clamp(0, self.num_classes - 1).unsqueeze(1), columns.own.unsqueeze(1)
        torch.gather(scores, 1, target, out=own)
        if self.losses:
            self._sum_up(scores, columns)
        if self.ranks:
            self._rank(scores, own, target, columns)

    def _highest(self, scores: Tensor, columns: Columns) -> None:
        if self.num_classes <= FEW_CLASSES or not in_memory(scores):
            torch.max(scores, 1, out=(columns.peak, columns.label))
            return
        scores.numpy().argmax(1, out=columns.label.numpy())  # the first NaN, if there is one
        torch.gather(scores, 1, columns.label.unsqueeze(1), out=columns.peak.unsqueeze(1))

    def _rank(self, scores: Tensor, own: Tensor, target: Tensor, columns: Columns) -> None:
        if not in_memory(scores):
            self._count_before(scores, own, target, columns.rank)
            return
        # A CPU can be asked at no cost: nothing comes before a target that is the label, and those
        # are many.
        wrong = columns.label.ne(target.squeeze(1)).nonzero().squeeze(1)
        if 4 * len(wrong) > 3 * len(scores):
            self._count_above(scores, own, target, columns.rank)
            return
        columns.rank.zero_()
        if len(wrong):
            rank = torch.empty_like(own[: len(wrong), 0])
            some = torch.index_select(scores, 0, wrong, out=self._buffer(3, scores)[: len(wrong)])
            self._count_above(some, own[wrong], target[wrong], rank)
            columns.rank[wrong] = rank

    def _count_above(self, scores: Tensor, own: Tensor, target: Tensor, out: Tensor) -> None:
        """Two passes do where no other class has the score of the target."""
        level = torch.ge(scores, own, out=self._buffer(0, scores)).sum(1)
        torch.sum(torch.gt(scores, own, out=self._buffer(0, scores)), 1, out=out)
        if bool((level - out > 1).any()):
            self._count_before(scores, own, target, out)

    def _count_before(self, scores: Tensor, own: Tensor, target: Tensor, out: Tensor) -> None:
        buffers = [self._buffer(i, scores) for i in range(3)]
        rank_of_target(scores, own, target, self._range(scores), buffers, out=out)

    def _sum_up(self, scores: Tensor, columns: Columns) -> None:
        if self.probs:
            odds = scores
            torch.amin(scores, 1, out=columns.least)
        else:
            # Without the label, whose exp is 1, float32 keeps all digits of the doubt of a sure
            # row.
            odds = _exp_(torch.sub(scores, columns.peak.unsqueeze(1), out=self._buffer(0, scores)))
            odds.scatter_(1, columns.label.unsqueeze(1), 0.0)
        torch.sum(odds, 1, out=columns.mass)
        torch.linalg.vector_norm(odds, dim=1, out=columns.norm)

    def _buffer(self, number: int, like: Tensor) -> Tensor:
        """A tensor like `like`, of any content; on a CPU the same one each time."""
        if not in_memory(like):
            return torch.empty_like(like)
        rows = like.shape[0]
        kept = self._kept.get((number, like.dtype))
        if kept is None or kept.shape[0] < rows:
            kept = _empty(like)
            self._kept[number, like.dtype] = kept
        return kept[:rows]

    def _range(self, like: Tensor) -> Tensor:
        """0 to C − 1 in the type of the scores."""
        if not in_memory(like):
            return _whole_numbers(self.num_classes, like)
        if like.dtype not in self._classes:
            self._classes[like.dtype] = _whole_numbers(self.num_classes, like)
        return self._classes[like.dtype]


@outside_inference
def _empty(like: Tensor) -> Tensor:
    return torch.empty(like.shape, dtype=like.dtype, device=like.device)


@outside_inference
def _whole_numbers(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, dtype=like.dtype, device=like.device)


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
