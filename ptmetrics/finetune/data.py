"""The data of a task: both sets, class names, and a fingerprint of what validation holds.

Which images are taken, a stratified split and a limit that keeps classes balanced, is a pure
function of a seed.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ptmetrics.errors import DataError, DependencyError
from ptmetrics.finetune.config import DataConfig
from ptmetrics.finetune.folders import find_folder
from ptmetrics.finetune.glyphs import CLASS_NAMES, render_glyphs
from ptmetrics.finetune.pictures import Found, ImageSet, Pictures, make_view, pixels_of
from ptmetrics.finetune.published import find_published

_GLYPH_COUNTS = (6000, 500)  # for training and validation, unless limits say otherwise


@dataclass(frozen=True)
class Data:
    """What `load_data` returns.

    Args:
        train: Gives (float32 of shape (3, size, size), label); augmented where configured.
        val: The same, never augmented.
        class_names: Name of each label.
        train_view: The training images as validation is seen, for an audit.
        fingerprint: SHA-256, in hex, of the validation images and labels, whatever their order and
            view: of their pixels where torchvision or ptmetrics holds them in memory, of relative
            path and size in folders, else of data set and labels.
    """

    train: ImageSet
    val: ImageSet
    train_view: ImageSet
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
    train, val, class_names = _find(config, seed)
    if val is None:
        val = train
        train_at, val_at = split(train.labels, config.val_fraction, seed)
    else:
        train_at = list(range(len(train.labels)))
        val_at = list(range(len(val.labels)))
    train_at = take(train.labels, train_at, config.train_limit, seed)
    val_at = take(val.labels, val_at, config.val_limit, seed)
    train_set = ImageSet(train, train_at, make_view(config, in_memory=train.in_memory, train=True))
    val_set = ImageSet(val, val_at, make_view(config, in_memory=val.in_memory, train=False))
    view = make_view(config, in_memory=train.in_memory, train=False)
    train_view = ImageSet(train, train_at, view)
    _check_classes(config, train_set, class_names)
    if not val_at:
        raise DataError(config.name, "at least one validation image", "none", "Raise val_fraction.")
    items = [f"{val.labels[index]}:".encode() + val.content(index) for index in val_at]
    return Data(train_set, val_set, train_view, class_names, fingerprint_of(items))


def fingerprint_of(items: Iterable[bytes]) -> str:
    """SHA-256, in hex, of a bag of items: their order changes nothing, another item does."""
    digests = sorted(hashlib.sha256(item).digest() for item in items)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def split(labels: Sequence[int], val_fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Part the indices into training and validation, class by class.

    Each class gives its share of `val_fraction`, to the nearest image; one of two or more images
    goes to each side.

    Returns:
        Training and validation indices, disjoint, together every index, each in rising order.
    """
    train: list[int] = []
    val: list[int] = []
    for members in _shuffled_classes(labels, range(len(labels)), seed):
        wanted = round(len(members) * val_fraction)
        held_out = min(max(wanted, 1), len(members) - 1)
        val += members[:held_out]
        train += members[held_out:]
    return sorted(train), sorted(val)


def take(labels: Sequence[int], indices: Sequence[int], limit: int | None, seed: int) -> list[int]:
    """At most `limit` indices, in rising order; equally many of each class while they last."""
    if limit is None or limit >= len(indices):
        return sorted(indices)
    # Round after round, one of each class: the last, unfinished round takes the first classes in
    # label order.
    rounds = []
    for rank, members in enumerate(_shuffled_classes(labels, indices, seed)):
        rounds += [(turn, rank, index) for turn, index in enumerate(members)]
    return sorted(index for _, _, index in sorted(rounds)[:limit])


def _shuffled_classes(labels: Sequence[int], indices: Sequence[int], seed: int) -> list[list[int]]:
    """The indices of each class, in label order, each class shuffled."""
    rng = torch.Generator().manual_seed(seed)
    members: dict[int, list[int]] = {}
    for position in torch.randperm(len(indices), generator=rng).tolist():
        index = indices[position]
        members.setdefault(labels[index], []).append(index)
    return [members[label] for label in sorted(members)]


def _check_classes(config: DataConfig, train: ImageSet, class_names: tuple[str, ...]) -> None:
    absent = sorted(set(range(len(class_names))) - set(train.labels))
    if absent:
        names = ", ".join(class_names[label] for label in absent[:5])
        if len(absent) > 5:
            names += ", …"
        got = f"none of {len(absent)} of {len(class_names)} classes ({names})"
        cure = "Raise train_limit, or remove the class."
        raise DataError(config.name, "a training image of every class", got, cure)


def _find(config: DataConfig, seed: int) -> Found:
    if config.name == "digits":
        return _find_digits(config.image_size)
    if config.name == "glyphs":
        return _find_glyphs(config, seed)
    if config.name == "imagefolder":
        return find_folder(config)
    return find_published(config)


def _find_digits(image_size: int) -> Found:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        rule = "scikit-learn, which holds them"
        cure = "Run pip install 'ptmetrics[demo]'."
        raise DependencyError("digits", rule, "no such package", cure) from error
    digits = load_digits()
    grey = torch.from_numpy(digits.images).float().mul(255 / 16).round().to(torch.uint8)
    pictures = _in_memory(grey.unsqueeze(1), torch.from_numpy(digits.target), image_size)
    return pictures, None, tuple("0123456789")


def _find_glyphs(config: DataConfig, seed: int) -> Found:
    size = config.image_size
    # Seeds 2s and 2s + 1: no seed's validation glyphs are another seed's training glyphs.
    train = render_glyphs(config.train_limit or _GLYPH_COUNTS[0], size, 2 * seed)
    val = render_glyphs(config.val_limit or _GLYPH_COUNTS[1], size, 2 * seed + 1)
    return _in_memory(*train, size), _in_memory(*val, size), CLASS_NAMES


def _in_memory(images: Tensor, labels: Tensor, size: int) -> Pictures:
    """Pictures from uint8 (N, 1, H, W), scaled once; their content is that of the given pixels."""
    shown = images
    if images.shape[2:] != (size, size):
        scaled = functional.interpolate(
            images.float(), size=(size, size), mode="bilinear", antialias=True
        )
        shown = scaled.round().clamp(0, 255).to(torch.uint8)
    return Pictures(labels.tolist(), shown.__getitem__, pixels_of(images), in_memory=True)
