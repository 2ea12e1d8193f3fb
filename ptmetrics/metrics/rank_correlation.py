"""Spearman's and Kendall's correlations: from a grid of pairs within a certified bound, or exact from the pairs.

Both are S / √(X · Y), with S a sum over rows of weights that each count as a share of all, X and Y
one less the ties. S, X and Y are homogeneous in the weights, of degree 3 for Spearman's and 2 for
Kendall's, so that one rule gives the value, its bound and its variance from the derivatives of S.
"""

import torch
from torch import Tensor

from ptmetrics.counts.rank_grid import taken_parts_of

SPEARMAN = 0
KENDALL = 1
FIGURES = 3  # value, bound of its error, variance of what one row moves


def rank_correlations(grids: Tensor, alone: Tensor) -> Tensor:
    """Value, bound and variance of both, shape (D, 2, 3).

    Args:
        grids: Shape (D, GRID_SIZE).
        alone: What a row is of all, Σw² / (Σw)², shape (D,).
    """
    both = [_of_grid(grid, one) for grid, one in zip(grids, alone, strict=True)]
    return torch.stack(both)


def _of_grid(grid: Tensor, alone: Tensor) -> Tensor:
    x, y, weight = taken_parts_of(grid)
    share = weight / weight.sum()
    rows = share.sum(1, keepdim=True)
    columns = share.sum(0, keepdim=True)
    loose_rows = x.sum(0) != 0  # more than one value: their order is not known
    loose_columns = y.sum(0) != 0
    u = _before_less_after(rows, 0) / 2  # mid-ranks as shares, less ½
    v = _before_less_after(columns, 1) / 2
    along_rows = (share * v).sum(1, keepdim=True)
    along_columns = (share * u).sum(0, keepdim=True)
    moved = u * v - _before_less_after(along_rows, 0) / 2 - _before_less_after(along_columns, 1) / 2
    # Most of all S could be if the rows of a loose row stood in the order of their y, and
    # the same for columns; what both together add is bounded by Cauchy and Schwarz.
    slack = (loose_rows * share * v * _before_less_after(share, 1)).sum() / 2
    slack = slack + (loose_columns * share * u * _before_less_after(share, 0)).sum() / 2
    cubes = (loose_rows * rows**3).sum() * (loose_columns * columns**3).sum()
    slack = slack + cubes.sqrt() / 12
    unknown = (loose_rows * rows**2).sum() + (loose_columns * columns**2).sum()
    unknown = unknown - ((loose_rows | loose_columns) * share**2).sum()
    agree = _before_less_after(_before_less_after(share, 0), 1)
    sides = ((rows, loose_rows), (columns, loose_columns))
    spearman = _figures(3, share, 12 * moved, 12 * slack, sides, alone)
    kendall = _figures(2, share, 2 * agree, unknown, sides, alone)
    return torch.stack((spearman, kendall))


def _before_less_after(x: Tensor, dim: int) -> Tensor:
    """Sum of what stands before each place, less the sum of what stands behind it."""
    return 2 * x.cumsum(dim) - x - x.sum(dim, keepdim=True)


def _figures(
    degree: int,
    share: Tensor,
    moved: Tensor,
    slack: Tensor,
    sides: tuple[tuple[Tensor, Tensor], ...],
    alone: Tensor,
) -> Tensor:
    """Value, bound and variance from the derivatives of S, its slack, and both margins."""
    size = least = most = alone / alone  # NaN where nothing was counted
    scaled = torch.zeros_like(share)
    for part, loose in sides:
        block = torch.where(loose, alone, part) ** (degree - 1)  # rows that are loose are not tied
        untied = 1 - (part * block).sum()
        scaled = scaled + (1 - block) / untied
        size = size * untied
        least = least * (1 - (part**degree).sum())
        most = most * (1 - torch.where(loose, 0.0, part**degree).sum())
    total = (share * moved).sum() / degree  # Euler's theorem
    value = total / size.sqrt()
    roots = torch.stack((least, most)).sqrt()
    high = ((total + slack) / roots).amax().clamp(max=1)
    low = ((total - slack) / roots).amin().clamp(min=-1)
    bound = torch.maximum(high - value, value - low)
    influence = moved / size.sqrt() - value * degree / 2 * scaled
    return torch.stack((value, bound, (share * influence**2).sum()))


def exact_correlations(pairs: Tensor) -> Tensor:
    """Both, of each output, from the pairs themselves; shape (D, 2).

    Args:
        pairs: Weight, then prediction and target of each output, shape (rows, 1 + 2 · D).
    """
    share = pairs[:, 0] / pairs[:, 0].sum()
    outputs = (pairs.shape[1] - 1) // 2
    preds, target = pairs[:, 1:].reshape(len(pairs), outputs, 2).unbind(2)
    both = [_of_pairs(share, *pair) for pair in zip(preds.T, target.T, strict=True)]
    return torch.stack(both)


def _of_pairs(share: Tensor, x: Tensor, y: Tensor) -> Tensor:
    order = y.argsort(stable=True)
    order = order[x[order].argsort(stable=True)]
    share, x, y = share[order], x[order], y[order]
    ranks = []
    middles = []
    blocks = []
    for values in (x, y):
        _, rank = values.unique(return_inverse=True)
        block = torch.zeros_like(share).scatter_add_(0, rank, share)
        ranks.append(rank)
        middles.append((_before_less_after(block, 0) / 2)[rank])
        blocks.append(block)
    spearman = 12 * (share * middles[0] * middles[1]).sum()
    cubes = torch.stack([1 - (block**3).sum() for block in blocks])
    _, rank = (ranks[0] * len(x) + ranks[1]).unique(return_inverse=True)
    same = torch.zeros_like(share).scatter_add_(0, rank, share)
    squares = torch.stack([1 - (block**2).sum() for block in blocks])
    apart = squares.sum() - 1 + (same**2).sum()
    kendall = apart - 4 * _inversions(ranks[1], share)
    return torch.stack((spearman / cubes.prod().sqrt(), kendall / squares.prod().sqrt()))


def _inversions(rank: Tensor, weight: Tensor) -> Tensor:
    """Σ wᵢ wⱼ over the pairs of which the first has the larger rank: bit by bit, from the highest.

    Two ranks part at one bit; before it they stand in one block, in the order that was given.
    """
    found = weight.new_zeros(())
    for bit in reversed(range(int(rank.max()).bit_length())):
        one = weight * (rank >> bit & 1)
        before = one.cumsum(0) - one
        block = rank >> bit + 1
        begins = torch.ones_like(block, dtype=torch.bool)
        begins[1:] = block.diff() != 0
        start = torch.where(begins, before, 0.0).cummax(0).values
        found = found + ((weight - one) * (before - start)).sum()
        order = (rank >> bit).argsort(stable=True)
        rank, weight = rank[order], weight[order]
    return found
