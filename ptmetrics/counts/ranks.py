"""What rank correlations need of pairs: a histogram of both values by their bits, and the pairs themselves."""

import torch
from torch import Tensor

from ptmetrics.counts.batch import Batch
from ptmetrics.counts.regression import magnitude_bin

RANK_ROWS = 1024  # an axis: 16 an octave from 2⁻¹⁶ to 2¹⁶, on both sides of 0
_SIDE = RANK_ROWS // 2
_LEAST_BIN = (127 - 16) << 8  # `magnitude_bin` of the smallest magnitude that is told from 0


def rank_row(x: Tensor) -> Tensor:
    """Row of each value, int64 from 0, increasing in it."""
    code = ((magnitude_bin(x.abs()) - _LEAST_BIN) >> 4).clamp_(0, _SIDE - 1)
    return torch.where(x < 0, _SIDE - 1 - code, _SIDE + code)


def spread_(ends: Tensor, row: Tensor, values: Tensor, batch: Batch) -> None:
    """Keep the least and the largest value of each row, in place: where they are one, its values are tied.

    Args:
        ends: Least and negative largest values, shape (2, D, 2, RANK_ROWS).
        row: As `rank_row` gives it, shape (rows, D, 2).
        values: Float64 of the same shape.
        batch: Which rows count.
    """
    both = torch.stack((values, -values))
    if batch.counted is not None:
        both = torch.where(batch.counted.view(-1, 1, 1), both, torch.inf)
    place = row.movedim(0, -1).expand(2, -1, -1, -1)
    ends.scatter_reduce_(-1, place, both.movedim(1, -1), "amin")


def store_pairs_(store: Tensor, taken: Tensor, pairs: Tensor, batch: Batch) -> None:
    """Append pairs in place where there is room; no host sync.

    Args:
        store: Shape (capacity + 1, D, 2), infinite in free places, of which the last one stays so.
        taken: How many places are taken.
        pairs: Shape (rows, D, 2).
        batch: Which rows count.
    """
    counted = batch.counted
    if counted is None:
        counted = torch.ones_like(pairs[:, 0, 0], dtype=torch.bool)
    last = len(store) - 1
    place = taken + counted.cumsum(0) - 1
    fits = counted & (place < last)
    kept = torch.where(fits.view(-1, 1, 1), pairs, torch.inf)
    where = torch.where(fits, place, last).view(-1, 1, 1)
    store.scatter_(0, where.expand_as(kept), kept)
