"""Joint moments up to the fourth order, kept about the mean: nothing is lost when values lie near 1e6.

A cell holds one vector of `SIZE` numbers an output: the centre of (error, prediction, target), then sums over
the points of two clouds about that centre, (error, target) and (prediction, target): Σ w xⁱ yʲ / (i! j!) and
the same with w², for i and j from 0 to 4. Adding points and merging cells move the centre to the common mean.
That is a commutative monoid: the order of the batches changes nothing but the last digits.

Source: Chan, Golub and LeVeque 1983, Pébay 2008, by way of the binomial theorem.
"""

import torch
from torch import Tensor
from torch.nn import functional

POWERS = 5  # x⁰ … x⁴
CENTRE = 3
SIZE = CENTRE + 2 * 2 * POWERS**2
TINY = torch.finfo(torch.float64).tiny


def centre_of(cell: Tensor) -> Tensor:
    """Centre of error, prediction and target: a view of shape (…, 3)."""
    return cell[..., :CENTRE]


def sums_of(cell: Tensor) -> Tensor:
    """Divided power sums about the centre, a view of shape (…, 2, 2, 5, 5): w or w², cloud, i, j."""
    return cell[..., CENTRE:].view(*cell.shape[:-1], 2, 2, POWERS, POWERS)


def undivided(sums: Tensor) -> Tensor:
    """The plain sums Σ w xⁱ yʲ."""
    factorial = torch.arange(POWERS, dtype=sums.dtype, device=sums.device).clamp(min=1).cumprod(0)
    return sums * factorial.outer(factorial)


def powers(x: Tensor) -> Tensor:
    """x⁰, x¹, x²/2!, x³/3!, x⁴/4! in a new last dimension but one."""
    square = x * x / 2
    return torch.stack((torch.ones_like(x), x, square, square * x / 3, square * square / 6), -2)


def moved(sums: Tensor, by: Tensor) -> Tensor:
    """The sums of the same points after `by` was added to each.

    Args:
        sums: Divided power sums of shape (…, 2, 2, 5, 5).
        by: What is added to error, prediction and target, shape (…, 3).
    """
    return _moved(sums, powers(by).mT)


def _moved(sums: Tensor, power: Tensor) -> Tensor:
    # The binomial theorem for divided powers: row i, column a holds byⁱ⁻ᵃ/(i − a)!, 0 above the diagonal.
    move = functional.pad(power, (POWERS - 1, 0)).unfold(-1, POWERS, 1).flip(-1)
    left, right = move[..., :2, :, :], move[..., 2:, :, :]
    return left.unsqueeze(-4) @ sums @ right.unsqueeze(-4).mT


def add_points_(cell: Tensor, points: Tensor, weight: Tensor, square: Tensor) -> None:
    """Add points to a cell in place; no host sync.

    Args:
        cell: Float64 of shape (D, SIZE).
        points: Error, prediction and target, finite float64 of shape (D, 3, rows).
        weight: Float64 of shape (rows,), 0 for a row that does not count.
        square: `weight` squared; the same tensor where each weight is 0 or 1.
    """
    centre, sums, before = centre_of(cell), sums_of(cell), cell[:, :CENTRE].clone()
    total = cell[:, CENTRE : CENTRE + 1] + weight.sum()
    shift = ((points - before.unsqueeze(-1)) @ weight) / total.clamp(min=TINY)
    centre.add_(shift)
    # One column more than there are points: the old centre, by which the old sums move.
    power = powers(torch.cat((points, before.unsqueeze(-1)), -1) - centre.unsqueeze(-1))
    left, right = power[:, :2, :, :-1], power[:, 2:, :, :-1].mT
    added = (left * weight) @ right
    squared = added if square is weight else (left * square) @ right
    sums.copy_(_moved(sums, power[..., -1]) + torch.stack((added, squared), 1))


def merge_(mine: Tensor, other: Tensor) -> Tensor:
    """Add the points of `other` to `mine` in place; both of shape (D, SIZE)."""
    pair = torch.stack((mine, other))
    centre, sums = centre_of(pair), sums_of(pair)
    total = pair[..., CENTRE : CENTRE + 1]
    share = total / total.sum(0).clamp(min=TINY)
    # An empty side has no say, so that merging it changes no bit.
    common = torch.where(
        share[0] == 0, centre[1], torch.where(share[1] == 0, centre[0], (share * centre).sum(0))
    )
    centre_of(mine).copy_(common)
    sums_of(mine).copy_(moved(sums, centre - common).sum(0))
    return mine
