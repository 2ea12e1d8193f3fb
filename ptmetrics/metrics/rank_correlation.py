"""Rank correlations, Spearman's, Kendall's τ-b and τ-c: from a grid of pairs within a bound, or exact from the pairs.

The first two are S / √(X · Y), with S a sum over rows of weights that each count as a share of all, X and Y
one less the ties. S, X and Y are homogeneous in the weights, of degree 3 for Spearman's and 2 for
Kendall's, so that one rule gives the value, its bound and its variance from the derivatives of S.
"""

import torch
from torch import Tensor

from ptmetrics.counts.checks import in_memory

SPEARMAN = 0
KENDALL = 1
KENDALL_C = 2


def rank_correlations(grid: Tensor, ends: Tensor, alone: Tensor) -> Tensor:
    """Value, bound of its error, and variance of what one row moves, of all three: shape (3, 3).

    Args:
        grid: Weights of the cells, numbers of shape (rows, columns).
        ends: Least and negative largest values of rows and columns, shape (2, 2, rows).
        alone: What a row is of all, Σw² / (Σw)².
    """
    loose_rows, loose_columns = ends.sum(0) != 0  # more than one value: their order is not known
    if in_memory(grid):  # most rows are empty: it is quicker without them
        taken_rows, taken_columns = ends[0] < torch.inf
        grid = grid[taken_rows][:, taken_columns]
        loose_rows = loose_rows[taken_rows]
        loose_columns = loose_columns[taken_columns]
    share = grid.double() / grid.sum()
    rows = share.sum(1, keepdim=True)
    columns = share.sum(0, keepdim=True)
    loose_rows = loose_rows.unsqueeze(1)
    sides = ((rows, loose_rows), (columns, loose_columns))
    u = _before_less_after(rows, 0) / 2  # mid-ranks as shares, less ½
    v = _before_less_after(columns, 1) / 2
    along_rows = _before_less_after((share * v).sum(1, keepdim=True), 0)
    along_columns = _before_less_after((share * u).sum(0, keepdim=True), 1)
    moved = 12 * u * v - 6 * along_rows - 6 * along_columns
    # The most that S could be, if what stands in a loose row stood in the order of the columns,
    # and the other way; what both together add is bounded by Cauchy and Schwarz.
    slack = loose_rows * v * _before_less_after(share, 1)
    slack = slack + loose_columns * u * _before_less_after(share, 0)
    cubes = (loose_rows * rows**3).sum() * (loose_columns * columns**3).sum()
    slack = 6 * (share * slack).sum() + cubes.sqrt()
    unknown = (loose_rows * rows**2).sum() + (loose_columns * columns**2).sum()
    unknown = unknown - ((loose_rows | loose_columns) * share**2).sum()
    agree = 2 * _before_less_after(_before_less_after(share, 0), 1)
    spearman = _figures(3, share, moved, slack, sides, alone)
    kendall = _figures(2, share, agree, unknown, sides, alone)
    # τ-c divides S by (m − 1)/m, with m values on the side that has fewer. A loose row holds two
    # values at least, and perhaps as many as it has rows.
    held = [(part > 0).sum() for part, _ in sides]
    apart = [(loose & (part > 0)).sum() for part, loose in sides]
    values = torch.minimum(held[0] + apart[0], held[1] + apart[1]).double()
    most = values / (values - 1)
    least = torch.where(apart[0] + apart[1] > 0, 1.0, most)
    middle = (most + least) / 2
    value, bound, variance = _figures(2, share, agree, unknown, (), alone)
    bound = bound * most + value.abs() * (most - least) / 2
    kendall_c = torch.stack((value * middle, bound, variance * middle**2))
    return torch.stack((spearman, kendall, kendall_c))


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
    """Value, bound and variance from the derivatives of S, its slack, and both margins; of S alone without them."""
    size = least = most = alone / alone  # NaN where nothing was counted
    scaled = torch.full_like(share, 2.0 - len(sides))  # of S itself, whatever the ties are, 2
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
    """All three, from the pairs themselves, shape (rows, 2)."""
    ranks = []
    fewest = len(pairs)
    middles = []
    untied = pairs.new_ones(())
    for values in pairs.T:
        _, rank, number = values.unique(return_inverse=True, return_counts=True)
        ranks.append(rank)
        fewest = min(fewest, len(number))
        middles.append((number.cumsum(0) - number.double() / 2)[rank])
        untied = untied * (len(pairs) ** 2 - number.square().sum()).double()
    x, y = ranks
    more = _discordant(x, y.max() - y) - _discordant(x, y)
    spearman = torch.corrcoef(torch.stack(middles))[0, 1]
    share = 2 * more.double() / len(pairs) ** 2
    kendall_c = share / (1 - 1 / pairs.new_tensor(fewest))
    return torch.stack((spearman, 2 * more / untied.sqrt(), kendall_c))


def _discordant(x: Tensor, y: Tensor) -> Tensor:
    """Pairs whose y falls while x rises: bit by bit of y, whole numbers, from the highest.

    Two of them part at one bit; before it they stand in one block, in the order of x.
    """
    order = y.argsort()  # within one x the y rise, so that ties of x are no pair
    y = y[order[x[order].argsort(stable=True)]]
    found = y.new_zeros(())
    for bit in reversed(range(int(y.max()).bit_length())):
        block = (y >> bit + 1).sort(stable=True)
        y = y[block.indices]
        one = y >> bit & 1
        ones = one.cumsum(0) - one
        first = torch.searchsorted(block.values, block.values)
        found = found + ((1 - one) * (ones - ones[first])).sum()
    return found
