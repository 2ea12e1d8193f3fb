"""Any classification data set of torchvision, by the name of its class."""

import contextlib
import difflib
import inspect
import sys
from collections.abc import Callable
from functools import partial
from operator import index
from typing import Any

import numpy as np
import torch
from torchvision import datasets

from ptmetrics.errors import ConfigError, DataError, DependencyError
from ptmetrics.finetune.config import DataConfig
from ptmetrics.finetune.pictures import Found, Pictures, pixels_of

# What data sets call their parts, best first: a test part validates only where there is no other.
_TRAIN_PARTS = ("train", "trainval", "train-standard")
_VAL_PARTS = ("val", "valid", "test")
_GIVEN = ("self", "root", "train", "split", "download")
_OTHER = "Choose a classification data set, or put the images in folders and use imagefolder."


def find_published(config: DataConfig) -> Found:
    """The pictures of a data set of torchvision.

    Raises:
        ConfigError: If torchvision has no such data set, or one that needs more than a folder.
        DataError: If its files are missing and may not or cannot be downloaded, or its labels are
            not class numbers.
        DependencyError: If torchvision needs a package to read it.
    """
    kind = _data_set_class(config.name)
    train = _data_set_part(config, kind, train=True)
    train_pictures = _data_set_pictures(config.name, train)
    labels = list(train_pictures.labels)
    val_pictures = None
    if {"train", "split"} & inspect.signature(kind).parameters.keys():
        val_pictures = _data_set_pictures(config.name, _data_set_part(config, kind, train=False))
        labels += val_pictures.labels
    lowest = min(labels, default=0)
    highest = max(labels, default=-1)
    if lowest < 0 or highest < 1:
        rule = "two or more classes, numbered from 0"
        raise DataError(config.name, rule, f"labels from {lowest} to {highest}", _OTHER)
    return train_pictures, val_pictures, _class_names(train, highest + 1)


def _data_set_class(name: str) -> Callable[..., Any]:
    known = [entry for entry in datasets.__all__ if entry[0].isupper()]
    if name not in known:
        near = difflib.get_close_matches(name, ["digits", "glyphs", "imagefolder", *known], n=3)
        cure = "torchvision.datasets lists them; case counts."
        if near:
            cure = f"Did you mean {' or '.join(near)}?"
        rule = "digits, glyphs, imagefolder or a data set of torchvision"
        raise ConfigError("data name", rule, repr(name), cure)
    kind: Callable[..., Any] = getattr(datasets, name)
    for parameter in inspect.signature(kind).parameters.values():
        needed = parameter.default is parameter.empty and parameter.name not in _GIVEN
        if needed and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            rule = "a data set that needs a folder only"
            got = f"{name}, which needs {parameter.name}"
            raise ConfigError("data name", rule, got, _OTHER)
    return kind


def _data_set_part(config: DataConfig, kind: Callable[..., Any], *, train: bool) -> Any:
    """The data set with the arguments that it has, and the first name of the part that it knows."""
    has = inspect.signature(kind).parameters
    given: dict[str, Any] = {"root": config.root, "download": config.download, "train": train}
    given = {key: value for key, value in given.items() if key in has}
    if "split" not in has or "train" in has:
        return _make_data_set(config, kind, given)
    parts = _TRAIN_PARTS if train else _VAL_PARTS
    for part in parts:
        dataset = _make_data_set(config, kind, {**given, "split": part})
        if dataset is not None:
            return dataset
    raise DataError(config.name, f"a part named {' or '.join(parts)}", "none of them", _OTHER)


def _make_data_set(config: DataConfig, kind: Callable[..., Any], given: dict[str, Any]) -> Any:
    """The data set, or None where it does not know the part."""
    try:
        # What torchvision prints on the way must not spoil the output of --json.
        with contextlib.redirect_stdout(sys.stderr):
            return kind(**given)
    except ValueError:  # what torchvision raises on a part that it does not know
        if "split" not in given:
            raise
        return None
    except ImportError as error:
        rule = f"{error.name}, to read it"
        cure = f"Run pip install {error.name}."
        raise DependencyError(config.name, rule, "no such package", cure) from error
    except (OSError, RuntimeError) as error:
        # No file, no network, a server's refusal, a damaged file.
        cure = f"Set download = true, or put its files below {config.root}."
        if config.download:
            cure = f"Fetch it where there is a network, and copy the folder to {config.root}."
        got = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise DataError(config.name, f"its files below {config.root}", got, cure) from error


def _data_set_pictures(name: str, dataset: Any) -> Pictures:
    labels = [_class_number(name, label) for label in _labels_of(dataset)]
    pixels = getattr(dataset, "data", None)
    content: Callable[[int], bytes] = partial(_name_and_place, name)
    if isinstance(pixels, np.ndarray | torch.Tensor) and len(pixels) == len(labels):
        content = pixels_of(pixels)
    return Pictures(labels, partial(_image_of, dataset), content)


def _labels_of(dataset: Any) -> list[Any]:
    """The label of every image, where the data set keeps them; else each image is loaded."""
    ends = (0, len(dataset) - 1)
    for attribute in ("targets", "labels", "_labels", "y"):
        held = getattr(dataset, attribute, None)
        if held is None or len(held) != len(dataset):
            continue
        if all(np.array_equal(held[end], dataset[end][1]) for end in ends):
            return list(held)
    return [dataset[position][1] for position in range(len(dataset))]


def _class_number(name: str, label: Any) -> int:
    try:
        return index(label)
    except TypeError as error:
        got = f"{type(label).__name__} {label!r}"[:80]
        raise DataError(name, "one class number for each image", got, _OTHER) from error


def _class_names(dataset: Any, count: int) -> tuple[str, ...]:
    names = getattr(dataset, "classes", ())
    if len(names) != count:
        return tuple(str(label) for label in range(count))
    return tuple(name if isinstance(name, str) else ", ".join(name) for name in names)


def _image_of(dataset: Any, position: int) -> Any:
    return dataset[position][0]


def _name_and_place(name: str, position: int) -> bytes:
    return f"{name}:{position}".encode()
