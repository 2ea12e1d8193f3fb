"""Scores of each image or text: the rows of a sample stand together in a batch, and the sample counts once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from ptmetrics.counts.batch import Batch, Counted, RowWeights
from ptmetrics.counts.cell import Cell
from ptmetrics.counts.moments import mean_sums, mean_sums_by_part
from ptmetrics.counts.stored_sums import WEIGHT_ROUNDING, StoredSums

HITS = "image_hits"
OVERLAPS = "image_overlaps"


@dataclass(eq=False)
class OfImages:
    """Numbers of each image of a batch, as a function that adds them to a cell with merge "mean".

    They are read when the batch is added: only then it is known which rows count. An image weighs
    as its heaviest row, so that a weight an image, and a mask of zeros and ones, mean what they
    say; and it is of the slice and the group of that row.

    Attributes:
        batch: Rows, those of an image together.
        numbers: From the weights of the rows, float64 of shape (images, rows of each), 0 where they
            do not count, to float64 of shape (images, *cell), NaN where there is no number.
    """

    batch: Batch
    numbers: Callable[[Tensor], Tensor]

    def __call__(self, into: Tensor, part: Tensor | None = None) -> None:
        """Add them to the sums of all images, or to those of each part; no host sync."""
        heaviest, row = self._weights.max(1, keepdim=True)
        weight = None
        if self.batch.weight is not None:
            weight = heaviest.squeeze(1)
        if part is None:
            into.add_(mean_sums(self._found, weight))
        else:
            part = part.view_as(self._weights).gather(1, row).squeeze(1)
            mean_sums_by_part(self._found, weight, part, into)

    @cached_property
    def _weights(self) -> Tensor:
        weight = RowWeights.of(self.batch, weighted=True).weight
        assert weight is not None  # it was asked for
        return weight.view(-1, self.batch.sample_rows)

    @cached_property
    def _found(self) -> Tensor:
        return self.numbers(self._weights)


def image_cells(classes: int) -> list[Cell]:
    """Means of what `hit_scores` returns, and of what `overlap_scores` does where there are classes."""
    cells = [Cell(HITS, (2,), torch.float64, merge="mean")]
    if classes:
        cells.append(Cell(OVERLAPS, (5 + 2 * classes,), torch.float64, merge="mean"))
    return cells


def image_counts(
    batch: Batch, label: Tensor, target: Tensor, classes: int, left_out: Sequence[int]
) -> dict[str, Counted]:
    """What a batch adds to these cells.

    Args:
        batch: Rows, those of an image together.
        label: Predicted class of each row, int64 of shape (rows,).
        target: Its class; some class where it does not count.
        classes: C; 0 for no overlaps.
        left_out: Classes that are not averaged over.
    """
    hit = label == target
    counts: dict[str, Counted] = {HITS: OfImages(batch, partial(hit_scores, hit))}
    if classes:
        overlaps = partial(overlap_scores, label, target, classes, left_out)
        counts[OVERLAPS] = OfImages(batch, overlaps)
    return counts


def image_relations(sums: StoredSums) -> Iterator[tuple[str, Tensor]]:
    """What must hold of both cells."""
    for name in (HITS, OVERLAPS):
        if name in sums:
            _, weight, _, score, *_ = sums[name].unbind(-2)
            holds = (score >= 0) & (score <= weight * (1 + WEIGHT_ROUNDING))
            yield "scores of images from 0 to 1", holds


def hit_scores(hit: Tensor, weight: Tensor) -> Tensor:
    """Share of the rows of each image that are right, and whether all are.

    Args:
        hit: Bool of shape (rows,).
        weight: Float64 of shape (images, rows of each).

    Returns:
        Float64 of shape (images, 2), NaN for an image of which no row counts.
    """
    hit = hit.view_as(weight)
    total = weight.sum(1)
    right = torch.where(hit, weight, 0.0).sum(1)
    missed = torch.where(hit, 0.0, weight).amax(1)
    exact = torch.where(total > 0, missed.eq(0).double(), torch.nan)
    return torch.stack((right / total, exact), 1)


def overlap_scores(
    label: Tensor, target: Tensor, classes: int, left_out: Sequence[int], weight: Tensor
) -> Tensor:
    """Dice and intersection over union of each image, in turn: the mean over its classes, all together, and each.

    Before each stands the generalized Dice, whose classes weigh as one over their squared size.

    A class that is in neither the targets nor the predictions of an image has none there, and the
    image's mean is over the others.

    Args:
        label: As for `image_counts`, and so the next three.
        target: Likewise.
        classes: Likewise.
        left_out: Likewise.
        weight: Float64 of shape (images, rows of each).

    Returns:
        Float64 of shape (images, 5 + 2 · C), NaN where there is no number.
    """
    images = len(weight)
    first = torch.arange(0, images * classes, classes, device=weight.device).unsqueeze(1)
    actual = (target.view_as(weight) + first).view(-1)
    predicted = (label.view_as(weight) + first).view(-1)
    flat = weight.reshape(-1)
    sums = weight.new_zeros(3, images * classes)
    sums[0].scatter_add_(0, actual, torch.where(label == target, flat, 0.0))
    sums[1].scatter_add_(0, actual, flat)
    sums[2].scatter_add_(0, predicted, flat)
    hits, *sizes = sums.view(3, images, classes, 1)
    size = sizes[0] + sizes[1]
    parts = torch.cat((2 * hits, hits), 2)
    wholes = torch.cat((size, size - hits), 2)
    each = parts / wholes
    among = torch.ones_like(size[0])
    for place in left_out:
        among[place] = 0.0
    there = (wholes > 0) * among
    mean = (each.nan_to_num() * there).sum(1) / there.sum(1)
    together = (parts * among).sum(1) / (wholes * among).sum(1)
    # A class without targets weighs as the rarest one that has some.
    missing = sizes[0] * among == 0
    least = sizes[0].masked_fill(missing, torch.inf).amin(1, keepdim=True)
    rarity = (least / sizes[0].maximum(least)).nan_to_num(1.0)  # without targets at all, the same
    worth = rarity.square() * there[:, :, :1]
    generalized = (parts[:, :, :1] * worth).sum(1) / (size * worth).sum(1)
    return torch.cat((mean, together, generalized, each.flatten(1)), 1)
