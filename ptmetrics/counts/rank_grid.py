"""A histogram of pairs that fits itself to their values, for correlations of ranks; and the pairs themselves.

Each axis has `ROWS` rows of width 2ˢ on the scale of fourth roots, which begin at multiples of it; s
is the least with which the range of the values fits. (The roots spread what lies near 0 and draw in
long tails; values far from 0 are spaced as they are.) Rows of a smaller width lie within rows of a larger one, so what a grid
holds is told by the values alone: it is the same in any order of batches and merges. Beside the
weights of its cells a grid keeps the least and the largest value of each row and column: where they
are one, values are tied, else their order is not known.
"""

import torch
from torch import Tensor

from ptmetrics.counts.batch import Batch, RowWeights
from ptmetrics.counts.checks import in_memory

_DIGITS = 10
ROWS = 1 << _DIGITS
ENDS = 4 * ROWS  # least and negative largest value of each row, then of each column
GRID_SIZE = ENDS + ROWS**2
_EXPONENTS = (-900, 200)  # of ranges; values are up to 1e37

Pairs = tuple[Tensor, Tensor, Tensor]
"""Least and negative largest values of x, shape (2, …), the same of y, and weights, which broadcast together."""


def empty_grids(shape: tuple[int, ...], device: torch.device | str) -> Tensor:
    """Grids of shape (…, GRID_SIZE) that hold nothing."""
    grids = torch.zeros(shape, dtype=torch.float64, device=device)
    grids[..., :ENDS] = torch.inf
    return grids


def parts_of(grid: Tensor) -> Pairs:
    """Views of a grid: ends of the rows, of the columns, and weights of shape (ROWS, ROWS)."""
    x, y = grid[:ENDS].view(2, 2, ROWS)
    return x.unsqueeze(2), y.unsqueeze(1), grid[ENDS:].view(ROWS, ROWS)


def taken_parts_of(grid: Tensor) -> Pairs:
    """Copies of the same; on a CPU without the rows and columns that are empty, which most are."""
    if not in_memory(grid):
        return parts_of(grid.clone())
    x, y, weight = parts_of(grid)
    rows = x[0, :, 0] < torch.inf
    columns = y[0, 0] < torch.inf
    return x[:, rows], y[:, :, columns], weight[rows][:, columns]


def merge_grids_(mine: Tensor, other: Tensor) -> None:
    """Add the pairs of other grids to `mine`, in place; both of shape (D, GRID_SIZE)."""
    for grid, more in zip(mine, other, strict=True):
        _add_(grid, taken_parts_of(more))


def add_to_grids_(grids: Tensor, batch: Batch, points: Tensor) -> None:
    """Add predictions and targets in place; no host sync.

    Args:
        grids: Float64 of shape (D, GRID_SIZE).
        batch: Which rows count, and what they weigh.
        points: Error, prediction and target, float64 of shape (rows, D, 3).
    """
    weight = _weight_of(batch)
    there = weight > 0
    for grid, values in zip(grids, points[:, :, 1:].permute(1, 2, 0), strict=True):
        ends = torch.where(there, torch.stack((values, -values), 1), torch.inf)
        _add_(grid, (ends[0], ends[1], weight))


def store_pairs_(store: Tensor, taken: Tensor, batch: Batch, points: Tensor) -> None:
    """Append rows in place where there is room; no host sync.

    Args:
        store: Float64 of shape (capacity + 1, 1 + 2 · D): weight, prediction and target of each
            output; infinite in free places, of which the last one stays so.
        taken: How many places are taken.
        batch: Which rows count, and what they weigh.
        points: As for `add_to_grids_`.
    """
    weight = _weight_of(batch)
    there = weight > 0
    last = len(store) - 1
    place = taken + there.cumsum(0) - 1
    fits = (there & (place < last)).unsqueeze(1)
    rows = torch.cat((weight.unsqueeze(1), points[:, :, 1:].flatten(1)), 1)
    store.index_copy_(
        0, torch.where(fits[:, 0], place, last), torch.where(fits, rows, torch.inf)
    )


def _weight_of(batch: Batch) -> Tensor:
    weight = RowWeights.of(batch, weighted=True).weight
    assert weight is not None  # it was asked for
    return weight


def _root(x: Tensor) -> Tensor:
    """Fourth root of the magnitude, with the sign: monotone on every device, as square roots are exact."""
    return x.abs().sqrt().sqrt().copysign(x)


def _add_(grid: Tensor, pairs: Pairs) -> None:
    mine = parts_of(grid)
    scales = []
    fits = in_memory(grid)
    for axis in (0, 1):
        old = mine[axis].flatten(1).amin(1)
        new = torch.cat((old.unsqueeze(1), pairs[axis].flatten(1)), 1).amin(1)
        scale = _scale(new)
        scales.append(scale)
        fits = fits and torch.equal(scale, _scale(old))
    if not fits:
        before = taken_parts_of(grid)
        grid[:ENDS] = torch.inf
        grid[ENDS:] = 0.0
        _put_(mine, before, scales)
    _put_(mine, pairs, scales)


def _scale(ends: Tensor) -> Tensor:
    """Width of a row, and the number of the first one: the least width with which all fits."""
    low, negative_high = _root(ends)
    high = -negative_high
    exponent = torch.frexp(high - low).exponent.clamp(*_EXPONENTS) - _DIGITS
    width = _power(exponent)
    span = (high / width).floor() - (low / width).floor()
    width = _power(exponent + (span >= ROWS))
    return torch.stack((width, (low / width).floor()))


def _power(exponent: Tensor) -> Tensor:
    """2 to the power of integers, exactly."""
    return ((exponent.long() + 1023) << 52).view(torch.float64)


def _put_(grid: Pairs, pairs: Pairs, scales: list[Tensor]) -> None:
    index = pairs[2].new_zeros((), dtype=torch.int64)
    for mine, ends, (width, first) in zip(grid[:2], pairs[:2], scales, strict=True):
        # An empty row has no place: it holds nothing, and may go anywhere.
        place = ((_root(ends[0]) / width).floor() - first).nan_to_num(0.0).clamp(0, ROWS - 1).long()
        every = place.flatten().expand(2, -1)
        mine.view(2, ROWS).scatter_reduce_(1, every, ends.flatten(1), "amin")
        index = index * ROWS + place
    grid[2].view(-1).scatter_add_(0, index.flatten(), pairs[2].flatten())
