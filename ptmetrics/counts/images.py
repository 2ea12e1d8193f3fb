"""Scores of each image or text: the pixels or tokens of a sample stand together in a batch, and the sample counts once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ptmetrics.counts.batch import Batch, RowWeights
from ptmetrics.counts.moments import mean_sums, mean_sums_by_part

HIT_SCORES = ("accuracy/image", "exact_match")
OVERLAPS = ("dice/image", "iou/image")
AVERAGES = 2  # over the classes of an image, in front of the classes: their mean, and all together


@dataclass(eq=False)
class OfImages:
    """Numbers of each image of a batch, as a function that adds them to a cell with merge "mean".

    They are read when the batch is added: only then it is known which rows count. An image weighs
    as its heaviest row, so that a weight an image, and a mask of zeros and ones, mean what they
    say. It belongs to the slice and the group of its first row that counts.

    Attributes:
        batch: Rows, those of an image together.
        numbers: From the weights of the rows, float64 of shape (images, rows of each), 0 where they
            do not count, to float64 of shape (images, *cell), NaN where there is no number.
    """

    batch: Batch
    numbers: Callable[[Tensor], Tensor]

    def __call__(self, into: Tensor, part: Tensor | None = None) -> None:
        """Add them to the sums of all images, or to those of each part; no host sync."""
        weight = None
        if self.batch.weight is not None:
            weight = self._weights.amax(1)
        if part is None:
            into.add_(mean_sums(self._found, weight))
            return
        images, rows = self._weights.shape
        row = torch.arange(rows, device=part.device)
        first = torch.where(self._weights > 0, row, rows - 1).amin(1, keepdim=True)
        part_of_each = part.view(images, rows).gather(1, first).squeeze(1)
        mean_sums_by_part(self._found, weight, part_of_each, into)

    @cached_property
    def _weights(self) -> Tensor:
        weight = RowWeights.of(self.batch, weighted=True).weight
        assert weight is not None  # it was asked for
        return weight.view(-1, self.batch.sample_rows)

    @cached_property
    def _found(self) -> Tensor:
        return self.numbers(self._weights)


def hit_scores(hit: Tensor, weight: Tensor) -> Tensor:
    """Share of the rows of each image that are right, and whether all are; `HIT_SCORES`.

    Args:
        hit: Bool of shape (rows,).
        weight: Float64 of shape (images, rows of each).

    Returns:
        Float64 of shape (images, 2), NaN for an image of which no row counts.
    """
    hit = hit.view_as(weight)
    total = weight.sum(1)
    share = torch.where(hit, weight, 0.0).sum(1) / total
    missed = torch.where(hit, 0.0, weight).amax(1)
    exact = torch.where(total > 0, missed.eq(0).double(), torch.nan)
    return torch.stack((share, exact), 1)


def overlaps_of_classes(
    label: Tensor, target: Tensor, classes: int, left_out: Sequence[int], weight: Tensor
) -> Tensor:
    """The overlaps of each image whose rows have one class each.

    Args:
        label: Predicted class of each row, int64 of shape (rows,).
        target: Its class.
        classes: C.
        left_out: Classes that are not averaged over.
        weight: Float64 of shape (images, rows of each).
    """
    images = len(weight)
    image = torch.arange(0, images * classes, classes, device=weight.device).unsqueeze(1)
    label = label.view_as(weight)
    target = target.view_as(weight)
    sums = weight.new_zeros(3, images * classes)
    hits = torch.where(label == target, weight, 0.0)
    for into, place, value in zip(
        sums, (target, target, label), (hits, weight, weight), strict=True
    ):
        into.scatter_add_(0, (image + place).view(-1), value.reshape(-1))
    return overlap_scores(sums.view(3, images, classes), left_out)


def overlaps_of_labels(flags: Tensor, weight: Tensor) -> Tensor:
    """The overlaps of each image whose rows have yes-or-no labels.

    Args:
        flags: Hits, actual and predicted, bool of shape (3, rows, L).
        weight: Float64 of shape (images, rows of each).
    """
    flags = flags.view(3, *weight.shape, -1)
    return overlap_scores((flags * weight.unsqueeze(-1)).sum(2), ())


def overlap_scores(sums: Tensor, left_out: Sequence[int]) -> Tensor:
    """Dice and intersection over union of each image: the mean over its classes, all of them together, and each.

    A class that is in neither the targets nor the predictions of an image has none there, and the
    image's mean is over the others.

    Args:
        sums: Hits, actual and predicted rows, float64 of shape (3, images, C).
        left_out: Classes that are not averaged over.

    Returns:
        Float64 of shape (images, 2, 2 + C), NaN where there is no number.
    """
    hits, actual, predicted = sums
    size = actual + predicted
    parts = torch.stack((2 * hits, hits), 1)
    wholes = torch.stack((size, size - hits), 1)
    each = parts / wholes
    among = torch.zeros_like(sums[0, 0])
    for place in left_out:
        among[place] = torch.nan
    mean = (each + among).nanmean(2)
    together = (parts + among).nansum(2) / (wholes + among).nansum(2)
    return torch.cat((torch.stack((mean, together), 2), each), 2)
