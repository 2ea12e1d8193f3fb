"""The data of a task: training and validation set, class names, and a fingerprint of what validation holds."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from operator import getitem

import torch
from torch import Tensor
from torch.nn import functional

from ptmetrics.errors import DataError, DependencyError
from ptmetrics.finetune.folders import find_folder
from ptmetrics.finetune.glyphs import CLASS_NAMES, render_glyphs
from ptmetrics.finetune.pictures import ImageSet, Pictures, make_view, pixels_of
from ptmetrics.finetune.published import find_published
from ptmetrics.finetune.sampling import split, take
from ptmetrics.finetune.settings import DataConfig

Found = tuple[
    Pictures, Pictures | None, tuple[str, ...]
]  # training, validation unless it is to be split off, classes
_GLYPHS = (6000, 500)  # for training and validation, unless limits say otherwise


@dataclass(frozen=True)
class Data:
    """What `load_data` returns.

    Args:
        train: Gives (float32 of shape (3, size, size), label); augmented where configured.
        val: The same, never augmented.
        class_names: Name of each label.
        fingerprint: SHA-256, in hex, of the validation images and labels, whatever their order and view: of their
            pixels where torchvision or ptmetrics holds them in memory, of relative path and size in folders, else of
            data set and labels.
    """

    train: ImageSet
    val: ImageSet
    class_names: tuple[str, ...]
    fingerprint: str

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def load_data(config: DataConfig, seed: int = 0) -> Data:
    """Find the images of a task, part them, and give each part the model's view.

    Args:
        config: Which data, how much of it, and how it is seen.
        seed: Of the split, the limits and the glyphs; the same seed gives the same images.

    Raises:
        DataError: If data are missing, damaged, or have no training image of some class.
        DependencyError: If a package that holds or reads the data is not installed.
    """
    train, val, class_names = _FINDERS.get(config.name, _published)(config, seed)
    if val is None:
        val, (train_at, val_at) = train, split(train.labels, config.val_fraction, seed)
    else:
        train_at, val_at = list(range(len(train.labels))), list(range(len(val.labels)))
    train_at = take(train.labels, train_at, config.train_limit, seed)
    val_at = take(val.labels, val_at, config.val_limit, seed)
    train_set = ImageSet(train, train_at, make_view(config, in_memory=train.in_memory, train=True))
    val_set = ImageSet(val, val_at, make_view(config, in_memory=val.in_memory, train=False))
    _check(config, train_set, val_set, class_names)
    fingerprint = fingerprint_of(
        str(val.labels[index]).encode() + b":" + val.content(index) for index in val_at
    )
    return Data(train_set, val_set, class_names, fingerprint)


def fingerprint_of(items: Iterable[bytes]) -> str:
    """SHA-256, in hex, of a bag of items: their order changes nothing, another item does."""
    digests = sorted(hashlib.sha256(item).digest() for item in items)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _check(
    config: DataConfig, train: ImageSet, val: ImageSet, class_names: tuple[str, ...]
) -> None:
    absent = sorted(set(range(len(class_names))) - set(train.labels))
    if absent:
        names = ", ".join(class_names[label] for label in absent[:5])
        got = f"none of {len(absent)} of {len(class_names)} classes ({names}{', …' if len(absent) > 5 else ''})"
        raise DataError(
            config.name,
            "a training image of every class",
            got,
            "Raise train_limit, or remove the class.",
        )
    if not len(val):
        raise DataError(config.name, "at least one validation image", "none", "Raise val_fraction.")


def _digits(config: DataConfig, _seed: int) -> Found:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        cure = "Run pip install 'ptmetrics[demo]'."
        raise DependencyError(
            "digits", "scikit-learn, which holds them", "no such package", cure
        ) from error
    digits = load_digits()
    grey = (
        torch.from_numpy(digits.images).float().mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
    )
    return (
        _in_memory(grey, torch.from_numpy(digits.target), config.image_size),
        None,
        tuple("0123456789"),
    )


def _glyphs(config: DataConfig, seed: int) -> Found:
    counts = (config.train_limit or _GLYPHS[0], config.val_limit or _GLYPHS[1])
    # Seeds 2s and 2s + 1: no seed's validation glyphs are another seed's training glyphs.
    drawn = (
        render_glyphs(count, config.image_size, 2 * seed + part)
        for part, count in enumerate(counts)
    )
    train, val = (_in_memory(images, labels, config.image_size) for images, labels in drawn)
    return train, val, CLASS_NAMES


def _in_memory(images: Tensor, labels: Tensor, size: int) -> Pictures:
    """Pictures from uint8 (N, 1, H, W), scaled once and for all; content is that of the given pixels."""
    shown = images
    if images.shape[2:] != (size, size):
        scaled = functional.interpolate(
            images.float(), size=(size, size), mode="bilinear", antialias=True
        )
        shown = scaled.round().clamp(0, 255).to(torch.uint8)
    return Pictures(
        labels.tolist(), partial(getitem, shown), partial(pixels_of, images), in_memory=True
    )


def _folder(config: DataConfig, _seed: int) -> Found:
    return find_folder(config)


def _published(config: DataConfig, _seed: int) -> Found:
    return find_published(config)


_FINDERS: dict[str, Callable[[DataConfig, int], Found]] = {
    "digits": _digits,
    "glyphs": _glyphs,
    "imagefolder": _folder,
}
