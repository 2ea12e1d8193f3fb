"""The passes over the classes: from scores of shape (rows, C) to a handful of numbers a row, by the cheapest kernels.

Measured at 256 × 1000 float32 on two cores, in µs: `amax` 12, `max` 59, `argmax` 166; `x > t` into a new bool tensor
65, into a kept float buffer 14; its row sums 7; `topk(5)` 190; `logsumexp` 56, but `sub`, `exp_`, `sum` in a kept
buffer 41 and the norm for the Brier score 10 more. At 64 × 10 `max` takes 4 and the way round it 8, and on CUDA each
operation is a launch. Hence `_highest`, and the buffers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

FEW_CLASSES = 32  # from here on `max` costs more than the way round it
PIECE = 2**18  # scores that one pass handles on a CPU, so that the buffers stay in its cache

# Buffers are made outside inference mode, so that they may be changed inside and outside of it alike.
_outside_inference = torch.inference_mode(False)


@dataclass
class Columns:
    """What is left of each row of scores; device tensors of shape (rows,), of the type of the scores.

    Attributes:
        label: Int64: lowest of the classes with the highest score; 0 where the row holds NaN.
        peak: Highest score.
        own: Score of the target.
        mass: Logits: Σ exp(z − peak) over the other classes than the label. Probabilities: their sum.
        norm: Root of the sum of squares of the same numbers.
        least: Lowest probability; logits leave it as it is.
        rank: How many classes come before the target: those above it, and lower classes of the same score.
    """

    label: Tensor
    peak: Tensor
    own: Tensor
    mass: Tensor
    norm: Tensor
    least: Tensor
    rank: Tensor


@dataclass
class ClassPasses:
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
    _kept: dict[tuple[int, torch.dtype], Tensor] = field(default_factory=dict, init=False, repr=False)
    _classes: dict[tuple[torch.device, torch.dtype], Tensor] = field(
        default_factory=dict, init=False, repr=False
    )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": {}, "_classes": {}}  # a copy makes buffers of its own

    def piece(self, device: torch.device) -> int:
        """How many rows to read at a time."""
        return max(1, PIECE // self.num_classes) if device.type == "cpu" else 2**62

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
            buffers = [self._buffer(i, scores) for i in range(3)]
            rank_of_target(scores, own, target, self._range(scores), buffers, out=columns.rank)

    def _highest(self, scores: Tensor, columns: Columns) -> None:
        if self.num_classes <= FEW_CLASSES or scores.is_cuda:
            torch.max(scores, 1, out=(columns.peak, columns.label))
            return
        torch.amax(scores, 1, out=columns.peak)
        lower = torch.lt(scores, columns.peak.unsqueeze(1), out=self._buffer(0, scores))
        first = torch.add(self._range(scores), lower, alpha=self.num_classes, out=lower).amin(1)
        columns.label.copy_(first)

    def _sum_up(self, scores: Tensor, columns: Columns) -> None:
        if self.probs:
            odds = scores
            torch.amin(scores, 1, out=columns.least)
        else:
            # Without the label, whose exp is 1, float32 keeps all digits of the doubt of a sure row.
            odds = torch.sub(scores, columns.peak.unsqueeze(1), out=self._buffer(0, scores)).exp_()
            odds.scatter_(1, columns.label.unsqueeze(1), 0.0)
        torch.sum(odds, 1, out=columns.mass)
        torch.linalg.vector_norm(odds, dim=1, out=columns.norm)

    def _buffer(self, number: int, like: Tensor) -> Tensor:
        """A tensor like `like`, of any content; on a CPU the same one each time."""
        if not like.is_cpu:
            return torch.empty_like(like)
        kept, rows = self._kept.get((number, like.dtype)), like.shape[0]
        if kept is None or kept.shape[0] < rows:
            kept = self._kept[number, like.dtype] = _empty(like)
        return kept if kept.shape[0] == rows else kept[:rows]

    def _range(self, like: Tensor) -> Tensor:
        """0 to C − 1 in the type of the scores."""
        key = (like.device, like.dtype)
        if key not in self._classes:
            self._classes[key] = _whole_numbers(self.num_classes, like)
        return self._classes[key]


@_outside_inference
def _empty(like: Tensor) -> Tensor:
    return torch.empty(like.shape, dtype=like.dtype, device=like.device)


@_outside_inference
def _whole_numbers(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, dtype=like.dtype, device=like.device)


def rank_of_target(
    scores: Tensor, own: Tensor, target: Tensor, classes: Tensor, buffers: Sequence[Tensor], *, out: Tensor
) -> Tensor:
    """How many classes come before the target: those above it, and lower classes of the same score.

    Args:
        scores: Float32 or float64 of shape (rows, C).
        own: Score of the target, shape (rows, 1).
        target: Classes of shape (rows, 1).
        classes: 0 to C − 1 in the type of the scores.
        buffers: Three tensors like `scores`, written over: counting in floats is five times quicker than in bools.
        out: Where to write, shape (rows,) and the type of the scores.

    Returns:
        Whole numbers in the type of the scores, shape (rows,), 0 for the first.
    """
    above, level, before = buffers
    torch.gt(scores, own, out=above)
    torch.eq(scores, own, out=level)
    torch.lt(classes, target, out=before)
    return torch.sum(above.addcmul_(level, before), 1, out=out)
