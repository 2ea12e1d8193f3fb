"""Labelled images, wherever they lie, and the view of them that a model gets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from ptmetrics.finetune.config import DataConfig

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# In a mirror these characters and signs mean something else, or nothing.
_NEVER_MIRRORED = [
    "digits",
    "glyphs",
    "MNIST",
    "KMNIST",
    "QMNIST",
    "USPS",
    "SVHN",
    "SEMEION",
    "Omniglot",
    "GTSRB",
    "RenderedSST2",
]


@dataclass(frozen=True)
class Pictures:
    """A set of labelled images.

    Args:
        labels: Class of each image, from 0.
        image: The image at an index: of PIL; or, `in_memory`, a uint8 tensor of shape (1, size,
            size).
        content: Bytes that identify the image at an index, for the fingerprint.
        in_memory: Whether the images are tensors that have their final size.
    """

    labels: Sequence[int]
    image: Callable[[int], Any]
    content: Callable[[int], bytes]
    in_memory: bool = False


# Training pictures, validation pictures or None where they are to be split off, class names.
Found = tuple[Pictures, Pictures | None, tuple[str, ...]]


def pixels_of(images: Any) -> Callable[[int], bytes]:
    """The pixels of each of several images, in an array or tensor, as content for `Pictures`."""
    return partial(_pixels, images)


def _pixels(images: Any, index: int) -> bytes:
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
        self._pictures = pictures
        self._indices = indices
        self._view = view

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
    """What turns an image into the tensor that a model sees.

    It takes an image of PIL or, `in_memory`, a uint8 tensor of the final size. The shorter side is
    scaled to `image_size` and the middle is cut out. Augmentation, for training only, shifts by up
    to an eighth of the size, and mirrors, unless the images are characters.
    """
    size = config.image_size
    mean, std = _HALF
    if config.normalization == "imagenet":
        mean, std = _IMAGENET
    steps: list[Callable[[Any], Any]] = []
    if not in_memory:
        steps += [_in_colour, v2.Resize(size), v2.CenterCrop(size)]
    if train and config.augment:
        steps.append(v2.RandomCrop(size, padding=size // 8))
        if config.name not in _NEVER_MIRRORED:
            steps.append(v2.RandomHorizontalFlip())
    if in_memory:
        steps.append(_ScaleGrey(mean, std))
    else:
        steps += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        steps += [v2.Normalize(mean, std), v2.ToPureTensor()]
    if len(steps) == 1:
        return steps[0]
    view: Callable[[Any], Tensor] = v2.Compose(steps)
    return view


class _ScaleGrey:
    """From uint8 (1, H, W) to normalised float32 (3, H, W), ten times as fast as transforms."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        deviation = torch.tensor(std).view(3, 1, 1)
        self._factor = 1 / (255 * deviation)
        self._offset = -torch.tensor(mean).view(3, 1, 1) / deviation

    def __call__(self, image: Tensor) -> Tensor:
        return image * self._factor + self._offset


def _in_colour(image: Any) -> Any:
    if image.mode == "RGB":
        return image
    return image.convert("RGB")
