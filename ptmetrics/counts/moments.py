"""Sums that are enough for a mean and its interval, and joint moments up to the fourth order.

Joint moments are kept about the mean: nothing is lost when values lie near 1e6. A tensor of them
holds one vector of `JOINT_SIZE` numbers an output: the centre of (error, prediction, target), then
sums over the points of two clouds about that centre, (error, target) and (prediction, target): Σ w
xⁱ yʲ / (i! j!) and the same with w², for i and j from 0 to 4. Adding points and merging move the
centre to the common mean. That is a commutative monoid: the order of the batches changes nothing
but the last digits.

Source: Chan, Golub and LeVeque 1983, Pébay 2008, by way of the binomial theorem.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ptmetrics.counts.checks import in_memory

SIZE = 6
POWERS = 5  # x⁰ … x⁴
CENTRE = 3
JOINT_SIZE = CENTRE + 2 * 2 * POWERS**2
TINY = torch.finfo(torch.float64).tiny
NUMBERS_AT_ONCE = 1 << 20  # bounds the memory that an update takes for a moment


def mean_sums(x: Tensor, weight: Tensor | None) -> Tensor:
    """n, Σw, Σw², Σw·x, Σw²·x, Σw²·x² of the numbers that are not NaN.

    Args:
        x: One number or several a row, float64 of shape (rows, …).
        weight: Float64 of shape (rows,), 0 for rows that do not count; None for 1 a row.

    Returns:
        Float64 of shape (6, …).
    """
    total = x.sum(0)
    if weight is None and in_memory(x) and not bool(total.isnan().any()):
        n = torch.full_like(total, len(x))  # it is seen that no number is NaN
        return torch.stack((n, n, n, total, total, (x * x).sum(0)))
    there = x.isnan().logical_not()
    x = torch.where(there, x, 0.0)
    n = there.sum(0, dtype=torch.float64)
    if weight is None:
        total = x.sum(0)
        return torch.stack((n, n, n, total, total, (x * x).sum(0)))
    w = torch.where(there, weight.view(-1, *[1] * (x.ndim - 1)), 0.0)
    x = torch.where(w > 0, x, 0.0)  # an infinite loss of weight 0 is nothing
    wx = w * x
    sums = (w.sum(0), (w * w).sum(0), wx.sum(0), (w * wx).sum(0), (wx * wx).sum(0))
    return torch.stack((n, *sums))


def mean_sums_by_part(x: Tensor, weight: Tensor | None, part: Tensor, into: Tensor) -> None:
    """Add the six sums of each part of the rows to `into`, of shape (parts, 6, …).

    Args:
        x: As for `mean_sums`.
        weight: As for `mean_sums`.
        part: The part of each row, int64 of shape (rows,).
        into: Changed in place.
    """
    if weight is None and in_memory(x) and not bool(x.sum(0).isnan().any()):
        nothing = torch.zeros_like(into[:, 0])
        n = torch.bincount(part, minlength=len(into)).view(-1, *[1] * x.ndim)
        into[:, :3].add_(n)
        into[:, 3:5].add_(nothing.index_add(0, part, x).unsqueeze(1))
        into[:, 5].add_(nothing.index_add(0, part, x * x))
        return
    there = x.isnan().logical_not()
    n = there.double()
    w = n
    if weight is not None:
        w = n * weight.view(-1, *[1] * (x.ndim - 1))
    x = torch.where(there & (w > 0), x, 0.0)
    wx = w * x
    into.index_add_(0, part, torch.stack((n, w, w * w, wx, w * wx, wx * wx), 1))


def joint_centre(joint: Tensor) -> Tensor:
    """Centre of error, prediction and target: a view of shape (…, 3)."""
    return joint[..., :CENTRE]


def joint_sums(joint: Tensor) -> Tensor:
    """Divided power sums about the centre, a view of shape (…, 2, 2, 5, 5): w or w², cloud, i, j."""
    return joint[..., CENTRE:].view(*joint.shape[:-1], 2, 2, POWERS, POWERS)


def divided_powers(x: Tensor) -> Tensor:
    """x⁰, x¹, x²/2!, x³/3!, x⁴/4! in a new last dimension but one."""
    square = x * x / 2
    return torch.stack((torch.ones_like(x), x, square, square * x / 3, square * square / 6), -2)


def moved_sums(sums: Tensor, by: Tensor) -> Tensor:
    """The sums of the same points after `by` was added to each.

    Args:
        sums: Divided power sums of shape (…, 2, 2, 5, 5).
        by: What is added to error, prediction and target, shape (…, 3).
    """
    return _moved_by_powers(sums, divided_powers(by).mT)


def _moved_by_powers(sums: Tensor, power: Tensor) -> Tensor:
    # The binomial theorem for divided powers: row i, column a holds byⁱ⁻ᵃ/(i − a)!, 0 above the
    # diagonal.
    move = functional.pad(power, (POWERS - 1, 0)).unfold(-1, POWERS, 1).flip(-1)
    left = move[..., :2, :, :]
    right = move[..., 2:, :, :]
    return left.unsqueeze(-4) @ sums @ right.unsqueeze(-4).mT


def add_joint_(joint: Tensor, points: Tensor, weight: Tensor, square: Tensor) -> None:
    """Add points in place; no host sync.

    Args:
        joint: Float64 of shape (D, JOINT_SIZE).
        points: Error, prediction and target, finite float64 of shape (rows, D, 3).
        weight: Float64 of shape (rows,), 0 for a row that does not count.
        square: `weight` squared; the same tensor where each weight is 0 or 1.
    """
    if not len(points):
        return
    size = max(1, NUMBERS_AT_ONCE // (16 * points.shape[1]))
    for start in range(0, len(points), size):
        rows = slice(start, start + size)
        squares = weight[rows]
        if square is not weight:
            squares = square[rows]
        _add_some_(joint, points[rows].permute(1, 2, 0), weight[rows], squares, square is weight)


def _add_some_(joint: Tensor, points: Tensor, weight: Tensor, square: Tensor, light: bool) -> None:
    centre = joint_centre(joint)
    sums = joint_sums(joint)
    before = centre.clone()
    total = joint[:, CENTRE : CENTRE + 1] + weight.sum()
    shift = ((points - before.unsqueeze(-1)) @ weight) / total.clamp(min=TINY)
    centre.add_(shift)
    # One column more than there are points: the old centre, by which the old sums move.
    power = divided_powers(torch.cat((points, before.unsqueeze(-1)), -1) - centre.unsqueeze(-1))
    left = power[:, :2, :, :-1]
    right = power[:, 2:, :, :-1].mT
    added = (left * weight) @ right
    squared = added
    if not light:
        squared = (left * square) @ right
    sums.copy_(_moved_by_powers(sums, power[..., -1]) + torch.stack((added, squared), 1))


def add_joint_by_part_(
    joint: Tensor, points: Tensor, weight: Tensor, square: Tensor, part: Tensor
) -> None:
    """Add the points of each part of the rows in place.

    Args:
        joint: Float64 of shape (parts, D, JOINT_SIZE).
        points: As for `add_joint_`.
        weight: As for `add_joint_`.
        square: `weight` squared.
        part: The part of each row, int64 of shape (rows,).
    """
    size = max(1, NUMBERS_AT_ONCE // (JOINT_SIZE * points.shape[1]))
    both = torch.stack((weight, square), 1)
    for start in range(0, len(points), size):
        rows = slice(start, start + size)
        merge_joint_(joint, _joint_of_parts(joint, points[rows], both[rows], part[rows]))


def _joint_of_parts(like: Tensor, points: Tensor, weigh: Tensor, part: Tensor) -> Tensor:
    """The joint moments of some rows alone, of the shape of `like`."""
    parts, outputs = like.shape[:2]
    weight = weigh[:, :1, None]
    total = points.new_zeros(parts, 1, 1).index_add_(0, part, weight).clamp(min=TINY)
    centre = points.new_zeros(parts, outputs, CENTRE).index_add_(0, part, points * weight) / total
    power = divided_powers((points - centre.index_select(0, part)).unsqueeze(-1)).squeeze(-1)
    product = power[:, :, :2, :, None] * power[:, :, 2:, None, :]
    weighed = product.unsqueeze(2) * weigh[:, None, :, None, None, None]
    sums = points.new_zeros(parts, outputs, *weighed.shape[2:]).index_add_(0, part, weighed)
    return torch.cat((centre, sums.flatten(2)), 2)


def merge_joint_(mine: Tensor, other: Tensor) -> Tensor:
    """Add the points of `other` to `mine` in place; both of shape (…, JOINT_SIZE)."""
    pair = torch.stack((mine, other))
    centre = joint_centre(pair)
    total = pair[..., CENTRE : CENTRE + 1]
    share = total / total.sum(0).clamp(min=TINY)
    common = (share * centre).sum(0)  # of an empty side the share is 0: merging it changes no bit
    joint_centre(mine).copy_(common)
    joint_sums(mine).copy_(moved_sums(joint_sums(pair), centre - common).sum(0))
    return mine
