from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptmetrics.finetune.data import split, take

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60)
SEEDS = st.integers(0, 3)


@given(LABELS, st.floats(0.01, 0.99), SEEDS)
def test_a_split_parts_every_index_once(labels: list[int], fraction: float, seed: int) -> None:
    train, val = split(labels, fraction, seed)
    assert sorted(train + val) == list(range(len(labels)))


@given(LABELS, st.floats(0.01, 0.99), SEEDS)
def test_a_split_gives_each_class_its_share_and_leaves_none_empty(
    labels: list[int], fraction: float, seed: int
) -> None:
    train, val = (
        Counter(labels[index] for index in part) for part in split(labels, fraction, seed)
    )
    for label, size in Counter(labels).items():
        assert abs(val[label] - size * fraction) <= 1
        assert train[label] >= 1
        assert val[label] >= (size > 1)


@given(LABELS, st.integers(1, 70), SEEDS)
def test_a_limit_takes_different_indices_and_as_many_as_it_can(
    labels: list[int], limit: int, seed: int
) -> None:
    taken = take(labels, range(len(labels)), limit, seed)
    assert len(taken) == min(limit, len(labels))
    assert len(set(taken)) == len(taken)


@given(LABELS, st.integers(1, 70), SEEDS)
def test_a_limit_takes_equally_many_of_each_class_as_far_as_they_last(
    labels: list[int], limit: int, seed: int
) -> None:
    counts = Counter(labels[index] for index in take(labels, range(len(labels)), limit, seed))
    most = max(counts.values())
    for label, size in Counter(labels).items():
        assert counts[label] >= min(size, most - 1)


@given(LABELS, st.integers(1, 70), SEEDS)
def test_a_larger_limit_keeps_what_a_smaller_one_took(
    labels: list[int], limit: int, seed: int
) -> None:
    indices = range(len(labels))
    assert set(take(labels, indices, limit, seed)) <= set(take(labels, indices, limit + 1, seed))


@pytest.mark.parametrize("part", [0, 1])
def test_another_seed_parts_differently(part: int) -> None:
    labels = [0, 1] * 50
    assert split(labels, 0.5, 0)[part] == split(labels, 0.5, 0)[part]
    assert split(labels, 0.5, 0)[part] != split(labels, 0.5, 1)[part]
