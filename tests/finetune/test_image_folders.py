import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from ptmetrics.errors import DataError
from ptmetrics.finetune.config import DataConfig
from ptmetrics.finetune.data import Data, load_data


def fill(folder: Path, classes: dict[str, int], colour: int = 60) -> None:
    """Images of one colour for each class: red is 60 · (rank of the class + 1)."""
    for rank, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.full((20, 30, 3), (colour * (rank + 1), number, 0), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def load(root: Path, **keys: object) -> Data:
    return load_data(DataConfig("imagefolder", root=str(root), image_size=16, **keys))  # type: ignore[arg-type]


def test_train_and_val_folders_are_the_parts(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"cat": 3, "dog": 2})
    fill(tmp_path / "val", {"cat": 1, "dog": 2})
    data = load(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert (data.train.labels, data.val.labels) == ([0, 0, 0, 1, 1], [0, 1, 1])
    for image, label in (data.train[index] for index in range(5)):
        assert image.shape == (3, 16, 16)
        assert image.dtype == torch.float32
        torch.testing.assert_close((image[0].mean() + 1) * 127.5, torch.tensor(60.0 * (label + 1)))


def test_one_folder_is_split_class_by_class(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 10, "b": 5})
    data = load(tmp_path, val_fraction=0.2)
    assert sorted(data.train.labels) == [0] * 8 + [1] * 4
    assert sorted(data.val.labels) == [0] * 2 + [1]


def test_files_of_other_kinds_and_hidden_ones_are_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 4, "b": 4})
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / "._0.png").write_bytes(b"a file of the Mac")
    fill(tmp_path / ".git", {"c": 1})
    (tmp_path / "b" / "deeper").mkdir()
    shutil.copy(tmp_path / "b" / "0.png", tmp_path / "b" / "deeper" / "5.PNG")
    data = load(tmp_path, val_fraction=0.5)
    assert data.class_names == ("a", "b")
    assert len(data.train) + len(data.val) == 9


def test_loader_processes_read_the_images_too(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 4, "b": 4})
    train = load(tmp_path, val_fraction=0.25, augment=True).train
    torch.manual_seed(0)
    images, labels = next(iter(DataLoader(train, batch_size=6, num_workers=1)))
    assert images.shape == (6, 3, 16, 16)
    assert sorted(labels.tolist()) == [0, 0, 0, 1, 1, 1]


def test_the_fingerprint_moves_with_the_folder_and_changes_with_a_file(tmp_path: Path) -> None:
    for place in ("here", "there"):
        fill(tmp_path / place / "train", {"a": 2, "b": 2})
        fill(tmp_path / place / "val", {"a": 2, "b": 2})
    fingerprint = load(tmp_path / "here").fingerprint
    assert load(tmp_path / "there").fingerprint == fingerprint
    with (tmp_path / "there" / "val" / "a" / "0.png").open("ab") as file:
        file.write(b"x")
    assert load(tmp_path / "there").fingerprint != fingerprint


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"/none: expected a folder of images, got no such folder\. Correct root"
    ):
        load(tmp_path / "none")


@pytest.mark.parametrize(("there", "absent"), [("train", "val"), ("val", "train")])
def test_one_part_without_the_other_is_refused(tmp_path: Path, there: str, absent: str) -> None:
    fill(tmp_path / there, {"a": 2, "b": 2})
    rule = rf"/{absent}: expected a folder beside {there}, got no such folder\. Make it, or set root to .*/{there} to"
    with pytest.raises(DataError, match=rule):
        load(tmp_path)


def test_classes_that_differ_between_the_parts_are_listed(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"cat": 1, "dog": 1})
    fill(tmp_path / "val", {"cat": 1, "Dog": 1, "cow": 1})
    rule = r"expected the same classes in train and val, got dog only in train; Dog, cow only in val\. Give both"
    with pytest.raises(DataError, match=rule):
        load(tmp_path)


def test_an_empty_class_folder_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"a": 1, "b": 0})
    fill(tmp_path / "val", {"a": 1, "b": 1})
    with pytest.raises(
        DataError, match=r"train/b: expected at least 1 image \(\.jpg.*\), got none\. Add images"
    ):
        load(tmp_path)


def test_a_class_of_one_image_cannot_be_split(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 3, "b": 1})
    with pytest.raises(
        DataError, match=r"/b: expected at least 2 images, to split \(.*\), got 1\. Add images"
    ):
        load(tmp_path)


@pytest.mark.parametrize(("classes", "got"), [({}, "0 folders"), ({"a": 2}, "only a")])
def test_fewer_than_two_classes_are_refused(
    tmp_path: Path, classes: dict[str, int], got: str
) -> None:
    fill(tmp_path, classes)
    with pytest.raises(
        DataError, match=rf"expected two or more class folders, got {got}\. Put the images of each"
    ):
        load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"]
)
def test_a_damaged_image_is_named_when_it_is_read(tmp_path: Path, content: bytes) -> None:
    fill(tmp_path / "train", {"a": 1, "b": 1})
    fill(tmp_path / "val", {"a": 1, "b": 1})
    (tmp_path / "train" / "a" / "0.png").write_bytes(content)
    with pytest.raises(
        DataError, match=r"a/0\.png: expected an image that can be read, got .*\. Repair the file"
    ):
        load(tmp_path).train[0]
