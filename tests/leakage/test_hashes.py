"""Hashes: equal for equal bits whatever the batch, other for any other bit; joins against sets."""

import hashlib
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptmetrics.leakage import hashes
from ptmetrics.leakage.hashes import (
    RowStore,
    equal_pairs,
    hash_rows,
    hash_texts,
    normalised,
    repeated,
)

DTYPES = [torch.uint8, torch.bool, torch.int64, torch.float16, torch.bfloat16, torch.float32]
SHAPES = [(3,), (1, 5), (3, 8, 8), (2, 3, 5)]


def some(rows: int, shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(rows, *shape, generator=generator) * 200 - 50).to(dtype)


def by_definition(row: torch.Tensor) -> list[int]:
    """The two sums, in whole numbers of Python."""
    octets = row.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    octets += bytes(-len(octets) % 4)
    words = np.frombuffer(octets, "<i4").tolist()
    factors = hashes._factors(len(words), torch.device("cpu")).tolist()
    text = f"{row.dtype} {tuple(row.shape)}".encode()
    salt = np.frombuffer(hashlib.blake2b(text, digest_size=16).digest(), "<i8").tolist()
    sums = []
    for each, more in zip(factors, salt, strict=True):
        total = sum(a * w for a, w in zip(each, words, strict=True)) + more
        sums.append((total + 2**63) % 2**64 - 2**63)
    return sums


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_hash_is_the_sum_of_its_definition(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    batch = some(4, shape, dtype)
    assert hash_rows(batch).tolist() == [by_definition(row) for row in batch]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.sampled_from(DTYPES))
def test_the_batch_size_changes_nothing(sizes: list[int], dtype: torch.dtype) -> None:
    batch = some(sum(sizes), (3, 4, 5), dtype)
    whole = hash_rows(batch)
    assert torch.equal(torch.cat([hash_rows(part) for part in batch.split(sizes)]), whole)
    assert torch.equal(hash_rows(batch.transpose(1, 2).contiguous().transpose(1, 2)), whole)


@given(st.integers(0, 63), st.integers(0, 63), st.integers(0, 31))
def test_one_bit_more_or_two_places_changed_is_another_hash(one: int, two: int, bit: int) -> None:
    row = some(1, (64,), torch.float32, seed=3)
    words = row.view(torch.int32)
    flipped = words.clone()
    flipped[0, one] ^= torch.tensor(1 << bit, dtype=torch.int64).to(torch.int32)
    assert not torch.equal(hash_rows(flipped), hash_rows(words))
    swapped = words.clone()
    swapped[0, [one, two]] = words[0, [two, one]]
    assert torch.equal(hash_rows(swapped), hash_rows(words)) == (one == two)


def test_shape_and_type_belong_to_a_sample_and_the_sign_of_zero_does_not() -> None:
    zeros = torch.zeros(2, 12)
    assert not torch.equal(hash_rows(zeros), hash_rows(zeros.reshape(2, 3, 4)))
    assert not torch.equal(hash_rows(zeros), hash_rows(zeros.int()))
    assert torch.equal(hash_rows(-zeros), hash_rows(zeros))
    assert hash_rows(torch.zeros(3, 0)).unique(dim=0).shape == (1, 2)


def test_large_samples_are_hashed_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = some(7, (50,), torch.float32)
    whole = hash_rows(batch)
    monkeypatch.setattr(hashes, "_WORDS_AT_ONCE", 120)
    assert torch.equal(hash_rows(batch), whole)


def test_a_view_at_an_odd_place_of_memory_hashes_as_its_copy() -> None:
    memory = some(1, (101,), torch.uint8)[0]
    view = memory[1:].reshape(5, 20)
    assert torch.equal(hash_rows(view), hash_rows(view.clone()))


def test_texts_are_equal_up_to_case_spaces_and_compatible_characters() -> None:
    first, second, third = hash_texts(["The  ﬁrst\tcat", " the first CAT\n", "the first bat"])
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert normalised(normalised("ǅ Ⅳ ﬃ")) == normalised("ǅ Ⅳ ﬃ")
    assert hash_texts([]).shape == (0, 2)


@given(
    st.lists(st.integers(0, 6), max_size=30), st.lists(st.integers(0, 6), max_size=30),
    st.sampled_from([1, 8, 2**25]),
)  # fmt: skip
def test_equal_pairs_are_those_of_two_loops(first: list[int], second: list[int], part: int) -> None:
    # Half of the values share their first half, so that the second one must tell them apart.
    a, b = (np.array([[v // 2, v] for v in each], dtype=np.int64).reshape(-1, 2)
            for each in (first, second))  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashes, "PART_ROWS", part)
        found = equal_pairs(a, b).tolist()
    wanted = [[i, j] for j, w in enumerate(second) for i, v in enumerate(first) if v == w]
    assert found == wanted
    earlier = [[second.index(v), j] for j, v in enumerate(second) if v in second[:j]]
    assert repeated(b).tolist() == earlier


def test_of_too_many_pairs_each_row_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "MOST_TWINS", 100)
    same = np.ones((50, 2), dtype=np.int64)
    assert equal_pairs(same, same).tolist() == [[0, row] for row in range(50)]


@given(st.lists(st.integers(0, 4), max_size=8), st.sampled_from([0, 50, 2**30]))
def test_rows_in_a_file_are_those_in_memory(sizes: list[int], most: int) -> None:
    rows = RowStore(most_bytes=most)
    batches = [some(size, (3,), torch.float32, seed) for seed, size in enumerate(sizes)]
    for batch in batches:
        rows.add(batch)
    if sum(sizes):
        assert np.array_equal(rows.array(), torch.cat(batches).numpy())
        rows.add(batches[0])
        assert len(rows.array()) == sum(sizes) + sizes[0]


def test_fifty_thousand_by_ten_thousand_all_planted_are_found_and_none_else() -> None:
    generator = torch.Generator().manual_seed(1)
    train = torch.randint(0, 256, (50_000, 48), generator=generator, dtype=torch.uint8)
    val = torch.randint(0, 256, (10_000, 48), generator=generator, dtype=torch.uint8)
    rows = torch.randperm(10_000, generator=generator)[:500]
    val[rows] = train[:500]
    began = time.perf_counter()
    found = equal_pairs(hash_rows(train).numpy(), hash_rows(val).numpy())
    assert time.perf_counter() - began < 20
    assert {tuple(pair) for pair in found.tolist()} == set(enumerate(rows.tolist()))
