"""Which images are taken: a stratified split, and a limit that keeps classes balanced. Pure functions of a seed."""

from collections.abc import Sequence

import torch


def split(labels: Sequence[int], val_fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Part the indices into training and validation, class by class.

    Each class gives its share of `val_fraction`, to the nearest image; one of two or more images goes to each side.

    Returns:
        Training and validation indices, disjoint, together every index, each in rising order.
    """
    train, val = [], []
    for members in _shuffled_classes(labels, range(len(labels)), seed):
        wanted = round(len(members) * val_fraction)
        held_out = min(max(wanted, 1), len(members) - 1)
        val += members[:held_out]
        train += members[held_out:]
    return sorted(train), sorted(val)


def take(labels: Sequence[int], indices: Sequence[int], limit: int | None, seed: int) -> list[int]:
    """At most `limit` of the indices, equally many of each class as far as they last, in rising order."""
    if limit is None or limit >= len(indices):
        return sorted(indices)
    classes = _shuffled_classes(labels, indices, seed)
    # Round after round, one of each class: the last, unfinished round takes the first classes in label order.
    rounds = [
        (turn, rank, index)
        for rank, group in enumerate(classes)
        for turn, index in enumerate(group)
    ]
    return sorted(index for _, _, index in sorted(rounds)[:limit])


def _shuffled_classes(labels: Sequence[int], indices: Sequence[int], seed: int) -> list[list[int]]:
    """The indices of each class, in label order, each class shuffled."""
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(indices), generator=rng).tolist()
    groups: dict[int, list[int]] = {}
    for position in order:
        groups.setdefault(labels[indices[position]], []).append(indices[position])
    return [groups[label] for label in sorted(groups)]
