"""Labelled images, wherever they lie, and the view of them that a model gets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from ptmetrics.finetune.settings import DataConfig

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# In a mirror these characters and signs mean something else, or nothing.
_NEVER_MIRRORED = (
    "digits", "glyphs", "MNIST", "KMNIST", "QMNIST", "USPS", "SVHN", "SEMEION", "Omniglot", "GTSRB", "RenderedSST2",
)  # fmt: skip


@dataclass(frozen=True)
class Pictures:
    """A set of labelled images.

    Args:
        labels: Class of each image, from 0.
        image: The image at an index: of PIL; or, `in_memory`, a uint8 tensor of shape (1, size, size).
        content: Bytes that identify the image at an index, for the fingerprint.
        in_memory: Whether the images are tensors that have their final size.
    """

    labels: Sequence[int]
    image: Callable[[int], Any]
    content: Callable[[int], bytes]
    in_memory: bool = False


def pixels_of(images: Any, index: int) -> bytes:
    """The pixels of one of several images, in an array or tensor, as content for `Pictures`."""
    return np.asarray(images[index]).tobytes()


class ImageSet(Dataset[tuple[Tensor, int]]):
    """Some of the pictures, as a model sees them: float32 of shape (3, size, size), and the label.

    Args:
        pictures: Where images and labels come from.
        indices: Which of them, in this order.
        view: What turns an image into a tensor.
    """

    def __init__(
        self, pictures: Pictures, indices: Sequence[int], view: Callable[[Any], Tensor]
    ) -> None:
        self._pictures, self._indices, self._view = pictures, indices, view

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        index = self._indices[position]
        return self._view(self._pictures.image(index)), self._pictures.labels[index]

    @property
    def labels(self) -> list[int]:
        """The labels in order, without loading an image."""
        return [self._pictures.labels[index] for index in self._indices]


def make_view(config: DataConfig, *, in_memory: bool, train: bool) -> Callable[[Any], Tensor]:
    """What turns an image of PIL, or a uint8 tensor of the final size, into the tensor that a model sees.

    The shorter side is scaled to `image_size` and the middle is cut out. Augmentation, for training only, shifts by up
    to an eighth of the size, and mirrors, unless the images are characters.
    """
    size = config.image_size
    mean, std = _IMAGENET if config.normalization == "imagenet" else _HALF
    shift = [v2.RandomCrop(size, padding=size // 8)]
    mirror = [] if config.name in _NEVER_MIRRORED else [v2.RandomHorizontalFlip()]
    augment = [*shift, *mirror] if train and config.augment else []
    if in_memory:
        return v2.Compose([*augment, _Scale(mean, std)]) if augment else _Scale(mean, std)
    to_size = [_in_colour, v2.Resize(size), v2.CenterCrop(size)]
    to_tensor = [
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(mean, std),
        v2.ToPureTensor(),
    ]
    view: Callable[[Any], Tensor] = v2.Compose([*to_size, *augment, *to_tensor])
    return view


class _Scale:
    """From uint8 (1, H, W) to normalised float32 (3, H, W); a tenth of the time of general transforms."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self._factor = 1 / (255 * torch.tensor(std).view(3, 1, 1))
        self._offset = -torch.tensor(mean).view(3, 1, 1) / torch.tensor(std).view(3, 1, 1)

    def __call__(self, image: Tensor) -> Tensor:
        return image * self._factor + self._offset


def _in_colour(image: Any) -> Any:
    return image if image.mode == "RGB" else image.convert("RGB")
