import gzip
import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from ptmetrics.errors import ConfigError, DataError
from ptmetrics.finetune.config import DataConfig
from ptmetrics.finetune.data import Data, load_data
from ptmetrics.finetune.published import _labels_of


def load(name: str, root: Path, **keys: object) -> Data:
    return load_data(DataConfig(name, root=str(root), image_size=16, **keys))  # type: ignore[arg-type]


def fashion_mnist(root: Path) -> None:
    """FashionMNIST as torchvision finds it on the disk, with 20 and 10 images.

    An image's brightness is its label.
    """
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for part, count in (("train", 20), ("t10k", 10)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = np.broadcast_to(labels[:, None, None] * 20, (count, 28, 28)).astype(np.uint8)
        content = {
            f"{part}-images-idx3-ubyte": struct.pack(">4i", 2051, count, 28, 28) + images.tobytes(),
            f"{part}-labels-idx1-ubyte": struct.pack(">2i", 2049, count) + labels.tobytes(),
        }
        for name, data in content.items():
            (folder / name).write_bytes(data)
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))


def food101(root: Path) -> None:
    """Food101 on the disk: two classes, three training and one test image of each."""
    folder = root / "food-101"
    (folder / "meta").mkdir(parents=True)
    parts: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for rank, name in enumerate(("apple_pie", "waffles")):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.full((24, 24, 3), 100 * (rank + 1), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{number}.jpg")
            parts["train" if number < 3 else "test"].setdefault(name, []).append(f"{name}/{number}")
    for part, content in parts.items():
        (folder / "meta" / f"{part}.json").write_text(json.dumps(content))


def test_a_data_set_with_train_is_parted_by_it(tmp_path: Path) -> None:
    fashion_mnist(tmp_path)
    data = load("FashionMNIST", tmp_path)
    assert (len(data.train), len(data.val)) == (20, 10)
    assert data.class_names[9] == "Ankle boot"
    for image, label in (data.val[index] for index in range(10)):
        assert image.shape == (3, 16, 16)
        assert round((float(image.mean()) + 1) * 127.5) == label * 20


def test_a_data_set_with_split_is_parted_by_it(tmp_path: Path) -> None:
    food101(tmp_path)
    data = load("Food101", tmp_path)
    assert data.train.labels == [0, 0, 0, 1, 1, 1]
    assert data.val.labels == [0, 1]
    assert data.class_names == ("apple_pie", "waffles")
    assert round((float(data.val[1][0].mean()) + 1) * 127.5) == 200


def test_a_data_set_without_parts_is_split(tmp_path: Path) -> None:
    for rank, name in enumerate(("Forest", "River")):
        folder = tmp_path / "eurosat" / "2750" / name
        folder.mkdir(parents=True)
        for number in range(8):
            Image.new("RGB", (9, 9), (100 * rank, number, 0)).save(folder / f"{number}.png")
    data = load("EuroSAT", tmp_path, val_fraction=0.25, train_limit=10)
    assert data.train.labels == [0] * 5 + [1] * 5
    assert data.val.labels == [0, 0, 1, 1]
    assert data.class_names == ("Forest", "River")


def test_labels_that_a_data_set_does_not_keep_are_read_image_by_image(tmp_path: Path) -> None:
    shown = [(Image.new("RGB", (9, 9)), label) for label in (0, 2, 1)]
    assert _labels_of(shown) == [0, 2, 1]


def test_the_fingerprint_is_of_the_pixels_where_they_are_in_memory(tmp_path: Path) -> None:
    fashion_mnist(tmp_path)
    fingerprint = load("FashionMNIST", tmp_path).fingerprint
    assert load("FashionMNIST", tmp_path, train_limit=10).fingerprint == fingerprint
    images = tmp_path / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1] + b"\x01")
    assert load("FashionMNIST", tmp_path).fingerprint != fingerprint


def test_the_fingerprint_is_of_the_labels_too(tmp_path: Path) -> None:
    fashion_mnist(tmp_path)
    fingerprint = load("FashionMNIST", tmp_path).fingerprint
    labels = tmp_path / "FashionMNIST" / "raw" / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x08")
    assert load("FashionMNIST", tmp_path).fingerprint != fingerprint


def test_missing_files_are_reported_with_both_cures(tmp_path: Path) -> None:
    rule = r"CIFAR10: expected its files below .*, got Dataset not found.*\. Set download = true, or put its files"
    with pytest.raises(DataError, match=rule):
        load("CIFAR10", tmp_path)


def test_a_download_that_fails_says_where_to_put_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "https_proxy", "http://127.0.0.1:9"
    )  # the port of "discard": refuses at once
    rule = r"CIFAR10: expected its files below .*, got .*refused.*\. Fetch it where there is a network, and copy the"
    with pytest.raises(DataError, match=rule):
        load("CIFAR10", tmp_path, download=True)


def test_an_unknown_data_set_is_refused_with_the_nearest_ones(tmp_path: Path) -> None:
    rule = (
        r"data name: expected digits, glyphs, .*, got 'CIFAR11'\. Did you mean CIFAR10 or CIFAR100"
    )
    with pytest.raises(ConfigError, match=rule):
        load("CIFAR11", tmp_path)


@pytest.mark.parametrize("name", ["os", "wrap_dataset_for_transforms_v2", "folder"])
def test_only_classes_of_data_sets_can_be_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"data name: expected .*, got '{name}'\."):
        load(name, tmp_path)


def test_a_data_set_that_needs_more_than_a_folder_is_refused(tmp_path: Path) -> None:
    rule = r"data name: expected a data set that needs a folder only, got CocoCaptions, which needs annFile\. Choose"
    with pytest.raises(ConfigError, match=rule):
        load("CocoCaptions", tmp_path)


def test_a_data_set_whose_parts_have_other_names_is_refused(tmp_path: Path) -> None:
    rule = r"EMNIST: expected a part named train or .*, got none of them\. Choose a classification data set"
    with pytest.raises(DataError, match=rule):
        load("EMNIST", tmp_path)


def test_labels_that_are_no_class_numbers_are_refused(tmp_path: Path) -> None:
    voc = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("ImageSets/Main", "JPEGImages", "Annotations"):
        (voc / folder).mkdir(parents=True)
    (voc / "ImageSets" / "Main" / "train.txt").write_text("1\n")
    Image.new("RGB", (9, 9)).save(voc / "JPEGImages" / "1.jpg")
    (voc / "Annotations" / "1.xml").write_text("<annotation><object>cat</object></annotation>")
    rule = r"VOCDetection: expected one class number for each image, got dict \{.*\. Choose a classification data set"
    with pytest.raises(DataError, match=rule):
        load("VOCDetection", tmp_path)


def test_what_torchvision_prints_does_not_reach_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fashion_mnist(tmp_path)
    told = "Files already downloaded"
    monkeypatch.setattr(datasets.FashionMNIST, "download", lambda self: sys.stdout.write(told))
    load("FashionMNIST", tmp_path, download=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
