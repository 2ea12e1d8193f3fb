"""`pm.audit`: what it takes, what it finds of what was planted, and what it refuses."""

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import beta
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import ptmetrics as pm
from ptmetrics.errors import ConfigError, DataError
from ptmetrics.leakage.audit import CANNOT_FIND
from ptmetrics.verdict.stats import clopper_pearson

TRAIN, VAL = 120, 40
PLANTED = {3: 7, 10: 8, 11: 30}  # row of training to row of validation


def rows(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def planted(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    train, val = rows(TRAIN, *shape, seed=1), rows(VAL, *shape, seed=2)
    for of_train, of_val in PLANTED.items():
        val[of_val] = train[of_train]
    return train, val


def quiet(*args: Any, **options: Any) -> pm.Audit:
    return pm.audit(*args, progress=False, **options)


class Stream(IterableDataset[Any]):
    def __init__(self, items: Any) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


class NoLength(Dataset[Any]):
    def __init__(self, items: Any) -> None:
        self.items = items

    def __getitem__(self, index: int) -> Any:
        if index >= len(self.items):
            raise IndexError
        return self.items[index]


LABELS = torch.arange(TRAIN) % 3
FORMS = {
    "tensor": lambda x, y: x,
    "array": lambda x, y: x.numpy(),
    "list of tensors": lambda x, y: list(x),
    "dataset of pairs": lambda x, y: TensorDataset(x, y),
    "loader": lambda x, y: DataLoader(TensorDataset(x, y), 16),
    "mappings": lambda x, y: [{"label": int(b), "image": a} for a, b in zip(x, y, strict=True)],
    "stream": lambda x, y: Stream(list(zip(x, y, strict=True))),
    "without a length": lambda x, y: NoLength(list(zip(x, y, strict=True))),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(5,), (3, 8, 8), (9, 9)], ids=str)
def test_what_was_planted_is_found_in_any_form_of_set(form: str, shape: tuple[int, ...]) -> None:
    train, val = planted(*shape)
    made = [FORMS[form](x, LABELS[: len(x)]) for x in (train, val)]
    found = quiet(*made)
    assert (found.train_rows, found.val_rows) == (TRAIN, VAL)
    assert found.exact == sorted(PLANTED.items(), key=lambda pair: pair[1])
    assert found.leaked == sorted(PLANTED.values())
    assert not found.near
    assert not found.duplicates
    wrong = [("train", i, j) for i, j in found.exact if LABELS[i] != LABELS[j]]
    has_labels = form not in ("tensor", "array", "list of tensors")
    assert found.conflicts == (wrong if has_labels else [])


def test_clean_sets_share_nothing() -> None:
    found = quiet(rows(TRAIN, 4, seed=1), rows(VAL, 4, seed=2))
    assert not found.leaked
    assert found.not_checked == dict.fromkeys(["ids", "groups"], "none are known")
    assert "0 equal to a training sample" in found.summary()
    assert CANNOT_FIND in found.summary()


def test_rows_of_numbers_of_any_spelling() -> None:
    train = [[1, 2.5], [3, 4], np.array([5.0, 6.0])]
    assert quiet(train, [[3.0, 4.0], [1, 2]]).exact == [(1, 0)]
    assert quiet([1, 2, 3], [3.0, 5]).exact == [(2, 0)]


def test_texts_are_compared_normalised_and_repeats_within_validation_told() -> None:
    train = ["A first text", "another one"]
    val = [("a  first TEXT", 1), ("not there", 0), ("Not There", 1)]
    found = quiet([(text, 0) for text in train], val)
    assert found.exact == [(0, 0)]
    assert found.duplicates == [(1, 2)]
    assert found.conflicts == [("train", 0, 0), ("val", 1, 2)]
    assert found.summary().count("val 1 = val 2") == 2


@given(st.integers(0, 60), st.integers(1, 60))
def test_the_interval_of_a_share_is_that_of_clopper_and_pearson(k: int, n: int) -> None:
    k = min(k, n)
    low, high = clopper_pearson(k, n)
    assert low == pytest.approx(beta.ppf(0.025, k, n - k + 1) if k else 0.0, abs=1e-12)
    assert high == pytest.approx(beta.ppf(0.975, k + 1, n - k) if k < n else 1.0, abs=1e-12)


# Identity


def test_files_rows_of_one_set_and_ids_tell_shared_samples(tmp_path: Path) -> None:
    base = TensorDataset(rows(20, 4, seed=1))
    found = quiet(Subset(base, [0, 1, 2, 3]), Subset(Subset(base, [9, 3, 2]), [0, 1]))
    assert found.ids == [(3, 1)]
    assert "ids" not in found.not_checked
    assert "groups     NOT CHECKED (none are known)" in found.summary()
    items = [{"id": f"p{i}", "x": row} for i, row in enumerate(rows(20, 4, seed=2))]
    assert quiet(items[:9], items[7:], ids="id").ids == [(7, 0), (8, 1)]
    assert quiet(items[:9], items[7:], ids=lambda item: item["id"]).ids == [(7, 0), (8, 1)]
    pair = (["a", "b", "a"], ["c", "a"])
    groups = quiet(rows(3, 4, seed=3), rows(2, 4, seed=4), groups=pair)
    assert groups.groups == [(0, 1)]
    assert groups.leaked == [1]
    with pytest.raises(ConfigError, match=r"groups: expected one for each of 3 samples of train"):
        quiet(rows(3, 4, seed=3), rows(2, 4, seed=4), groups=(["a"], ["b", "c"]))


def picture(path: Path, seed: int, size: int = 16) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


class Files(Dataset[Any]):
    """As torchvision's ImageFolder lists its files."""

    def __init__(self, paths: list[Path]) -> None:
        self.samples = [(str(path), 0) for path in paths]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        with Image.open(self.samples[index][0]) as image:
            return image.convert("RGB"), 0


def test_pictures_of_files_may_differ_in_size_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    train = [tmp_path / f"train{i}.png" for i in range(4)]
    val = [tmp_path / f"val{i}.png" for i in range(3)]
    for seed, path in enumerate(train):
        picture(path, seed, 16 + seed)
    picture(val[0], 9)
    picture(val[2], 2, 18)
    val[1].write_bytes(train[0].read_bytes()[:60])
    found = quiet(Files(train), Files([*val, train[1]]))
    assert found.exact == [(2, 2), (1, 3)]
    assert found.ids == [(1, 3)]
    assert list(found.refused["val"]) == [1]
    assert "1 rows of val could not be read (1: " in found.summary()
    assert found.val_rows == 4


def test_thumbnails_are_kept_only_where_they_are_asked_for() -> None:
    train, val = planted(3, 16, 16)
    assert "<img" not in quiet(train, val)._repr_html_()
    shown = quiet(train, val, thumbnails=True)
    assert shown._repr_html_().count("<img") == 2 * len(PLANTED)
    assert html.escape("equal to a training sample") in shown._repr_html_()
    assert "png" not in str(shown.to_record())


# What is refused


@pytest.mark.parametrize(
    ("train", "val", "words"),
    [
        ([rows(3, seed=1), rows(4, seed=1)], rows(2, 3, seed=2), r"train\[1\]: expected samples"),
        ([object()], rows(2, 3, seed=2), r"train\[0\]: expected a tensor, .* got object"),
        ([rows(3, seed=1), None], rows(2, 3, seed=2), r"train\[1\]: .* got NoneType"),
        (rows(5, 3, seed=1), rows(5, 4, seed=1), "val: expected samples as in train"),
        (rows(5, 3, seed=1), rows(5, 3, seed=1).double(), "val: expected samples as in train"),
        (rows(5, 3, seed=1), ["text"] * 5, "val: expected samples as in train"),
        ([], rows(5, 3, seed=1), "train: expected samples that can be read, got none"),
    ],
)
def test_unlike_items_and_sets_are_refused_by_name_and_index(
    train: Any, val: Any, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        quiet(train, val)


@pytest.mark.parametrize("wrong", [5, None, {"a": 1}])
def test_what_is_no_set_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="train: expected a set of samples"):
        quiet(wrong, rows(5, 3, seed=1))


def test_a_set_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"train: expected samples that can be read, got none of 1"):
        quiet(Files([tmp_path / "a.png"]), Files([tmp_path / "a.png"]))


def test_ids_of_any_kind_are_compared_by_what_they_say() -> None:
    """Tensors were once told apart by where they lie, and lists could not be looked up."""
    train, val = rows(6, 3, seed=1), rows(4, 3, seed=2)
    for made in (torch.arange, np.arange, range, lambda *ends: [[i] for i in range(*ends)]):
        found = quiet(train, val, near=False, ids=(made(6), made(4, 8)))
        assert found.ids == [(4, 0), (5, 1)]
    missing = float("nan")
    assert quiet(train, val, near=False, ids=([missing] * 6, [missing, None, 7, 8])).ids == []


def test_labels_that_are_no_number_are_in_no_conflict() -> None:
    x = rows(4, 3, seed=1)
    labelled = [(row, float("nan")) for row in x]
    assert quiet(labelled, labelled, near=False).conflicts == []


@pytest.mark.parametrize("error", [RuntimeError, EOFError, OSError], ids=str)
def test_what_readers_of_files_raise_is_counted_and_named(error: type[Exception]) -> None:
    class Damaged(Dataset[Any]):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> Any:
            if index == 3:
                raise error("cannot decode")
            return rows(5, 3, seed=1)[index]

    found = quiet(Damaged(), rows(5, 3, seed=1), near=False)
    assert found.refused == {"train": {3: "cannot decode"}}
    assert [row for _, row in found.exact] == [0, 1, 2, 4]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": "patient"}, "patient: expected a key of each item, .*, got Tensor"),
        ({"most_near": 0}, "most_near: expected 1 or more, got 0"),
        ({"features": len}, r"features: expected a tensor of 5 rows, .* of shape \(\)"),
        ({"features": lambda batch: batch[:2]}, r"features: .* got one of shape \(2, 3\)"),
        ({"ids": ([1], [2])}, "ids: expected one for each of 5 samples of train, got 1"),
    ],
)
def test_arguments_that_cannot_work_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        quiet(rows(5, 3, seed=1), rows(5, 3, seed=2), **options)


class Noisy(Dataset[Any]):
    """A training set with an augmentation that leaves half of its rows as they are."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        if torch.rand(()) < 0.5:
            return self.rows[index]
        return self.rows[index].flip(0)


def test_an_augmented_set_is_not_checked_and_never_called_clean() -> None:
    train, val = rows(TRAIN, 6, seed=1), rows(VAL, 6, seed=2)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    found = quiet(Noisy(train), val)
    assert torch.equal(state, torch.get_rng_state())
    assert found.not_checked["exact"].startswith("augmented: train changes")
    assert "exact      NOT CHECKED (augmented" in found.summary()
    assert "nothing found" not in found.headline()
    train[:20] = val[:20]
    assert "exact" not in quiet(Noisy(train), val).not_checked  # what was found is there
    assert quiet(train, Noisy(val)).leaked
