import pickle
import random
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits as sklearn_digits
from torch.utils.data import DataLoader

from ptmetrics.errors import DataError, DependencyError
from ptmetrics.finetune.config import DataConfig
from ptmetrics.finetune.data import fingerprint_of, load_data
from ptmetrics.finetune.pictures import make_view

DIGITS = DataConfig("digits", image_size=8, val_fraction=0.6, train_limit=400, val_limit=1000)


def test_digits_are_the_balanced_halves_of_scikit_learns() -> None:
    data = load_data(DIGITS)
    assert data.class_names == tuple("0123456789")
    assert data.num_classes == 10
    assert np.bincount(data.train.labels).tolist() == [40] * 10
    assert np.bincount(data.val.labels).tolist() == [100] * 10


def test_digits_show_scikit_learns_pixels_under_their_labels() -> None:
    digits = sklearn_digits()
    known = {
        image.astype(int).tobytes(): int(label)
        for image, label in zip(digits.images, digits.target, strict=True)
    }
    for part in (load_data(DIGITS).train, load_data(DIGITS).val):
        for image, label in (part[index] for index in range(0, len(part), 7)):
            grey = ((image[0] + 1) * 8).round().int().numpy().astype(int)
            assert known[grey.tobytes()] == label


def test_no_digit_is_in_both_parts() -> None:
    data = load_data(DIGITS)
    train = {data.train[index][0].numpy().tobytes() for index in range(len(data.train))}
    val = {data.val[index][0].numpy().tobytes() for index in range(len(data.val))}
    assert len(train) == 400
    assert not train & val


def test_no_glyph_of_any_seed_trains_and_validates() -> None:
    config = DataConfig("glyphs", image_size=12, train_limit=47, val_limit=47)
    parts = [
        part
        for seed in (0, 1)
        for data in [load_data(config, seed)]
        for part in (data.train, data.val)
    ]
    drawn = [{part[index][0].numpy().tobytes() for index in range(47)} for part in parts]
    assert len(set().union(*drawn)) == sum(map(len, drawn)) == 4 * 47


@pytest.mark.parametrize("name", ["digits", "glyphs"])
@pytest.mark.parametrize("size", [16, 20])
def test_an_image_is_three_channels_of_normalised_float32(name: str, size: int) -> None:
    data = load_data(DataConfig(name, image_size=size, train_limit=94, val_limit=47))
    images, labels = next(iter(DataLoader(data.train, batch_size=32)))
    assert images.shape == (32, 3, size, size)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert -1 <= images.min() < images.max() <= 1
    assert (images[:, 0] == images[:, 2]).all()


def test_imagenet_normalisation_is_that_of_torchvision() -> None:
    half, imagenet = (
        load_data(replace(DIGITS, normalization=name)).val[0][0] for name in ("half", "imagenet")
    )
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    torch.testing.assert_close(imagenet, ((half + 1) / 2 - mean) / std)


def test_the_view_of_an_image_in_memory_is_that_of_the_same_image_from_a_file() -> None:
    from PIL import Image

    grey = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    config = DataConfig("digits", image_size=16)
    in_memory = make_view(config, in_memory=True, train=False)(grey)
    from_file = make_view(config, in_memory=False, train=False)(Image.fromarray(grey[0].numpy()))
    torch.testing.assert_close(in_memory, from_file)


@pytest.mark.parametrize("name", ["digits", "glyphs"])
def test_the_same_seed_gives_the_same_data_and_another_seed_others(name: str) -> None:
    config = DataConfig(name, image_size=12, train_limit=94, val_limit=47)
    first, again, other = load_data(config, 1), load_data(config, 1), load_data(config, 2)
    assert torch.equal(first.train[5][0], again.train[5][0])
    assert first.train.labels == again.train.labels
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_the_fingerprint_is_of_the_validation_set_and_not_of_how_it_is_seen() -> None:
    fingerprint = load_data(DIGITS).fingerprint
    seen_otherwise = replace(
        DIGITS, image_size=16, normalization="imagenet", augment=True, train_limit=100
    )
    assert load_data(seen_otherwise).fingerprint == fingerprint
    assert load_data(replace(DIGITS, val_limit=999)).fingerprint != fingerprint


@given(
    st.lists(st.binary(max_size=8), max_size=6),
    st.randoms(use_true_random=False),
    st.binary(max_size=8),
)
def test_a_fingerprint_knows_items_and_not_their_order(
    items: list[bytes], source: random.Random, more: bytes
) -> None:
    shuffled = source.sample(items, len(items))
    assert fingerprint_of(shuffled) == fingerprint_of(items)
    assert fingerprint_of([*items, more]) != fingerprint_of(items)


def test_augmentation_shifts_training_images_and_leaves_validation_alone() -> None:
    config = DataConfig("digits", image_size=16, augment=True, train_limit=100)
    data, plain = load_data(config), load_data(replace(config, augment=False))
    torch.manual_seed(0)
    views = [data.train[0][0] for _ in range(8)]
    assert any(not torch.equal(view, views[0]) for view in views)
    assert torch.equal(data.val[0][0], plain.val[0][0])
    assert torch.equal(data.val[0][0], data.val[0][0])


@pytest.mark.parametrize(
    ("name", "mirrored"), [("MNIST", False), ("digits", False), ("CIFAR10", True)]
)
def test_only_what_stays_the_same_in_a_mirror_is_mirrored(name: str, mirrored: bool) -> None:
    config = DataConfig(name, root="anywhere", image_size=16, augment=True)
    ramp = torch.arange(256, dtype=torch.uint8).view(
        1, 16, 16
    )  # brighter to the right within each row
    view = make_view(config, in_memory=True, train=True)
    torch.manual_seed(0)
    falls = [(shown[0, 8].diff() < 0).sum() > 8 for shown in (view(ramp) for _ in range(20))]
    assert any(falls) == mirrored


def test_an_image_set_can_be_sent_to_loader_processes() -> None:
    val = load_data(DataConfig("digits", image_size=16, augment=True)).val
    assert torch.equal(pickle.loads(pickle.dumps(val))[3][0], val[3][0])


def test_a_class_without_a_training_image_is_refused() -> None:
    rule = r"digits: expected a training image of every class, got none of 2 of 10 classes \(8, 9\)\. Raise train_limit"
    with pytest.raises(DataError, match=rule):
        load_data(replace(DIGITS, train_limit=8))


@pytest.mark.parametrize(("name", "package"), [("digits", "sklearn"), ("glyphs", "matplotlib")])
def test_a_missing_package_is_named_with_its_pip_line(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    for module in [key for key in sys.modules if key.partition(".")[0] == package] + [
        package,
        "sklearn.datasets",
    ]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        DependencyError,
        match=rf"^{name}: expected .*, got no such package\. Run pip install 'ptmetrics",
    ):
        load_data(DataConfig(name))
