"""Any classification data set of torchvision, by the name of its class."""

import contextlib
import difflib
import inspect
import sys
from collections.abc import Callable, Sequence
from functools import partial
from operator import index
from typing import Any

import numpy as np
import torch
from torchvision import datasets

from ptmetrics.errors import ConfigError, DataError, DependencyError
from ptmetrics.finetune.pictures import Pictures, pixels_of
from ptmetrics.finetune.settings import DataConfig

# What the data sets call their parts, best first: a test part validates only where there is no other.
_SPLITS = {"train": ("train", "trainval", "train-standard"), "val": ("val", "valid", "test")}
_GIVEN = ("self", "root", "train", "split", "download")


def find_published(config: DataConfig) -> tuple[Pictures, Pictures | None, tuple[str, ...]]:
    """The pictures of a data set of torchvision.

    Returns:
        Training pictures, validation pictures or None where the data set has no parts, class names.

    Raises:
        ConfigError: If torchvision has no such data set, or one that needs more than a folder.
        DataError: If its files are missing and may not or cannot be downloaded, or its labels are not class numbers.
        DependencyError: If torchvision needs a package to read it.
    """
    kind = _kind(config.name)
    parameters = inspect.signature(kind).parameters
    train = _part(config, kind, "train")
    val = _part(config, kind, "val") if {"train", "split"} & parameters.keys() else None
    train_labels, val_labels = (
        _labels(config.name, train),
        [] if val is None else _labels(config.name, val),
    )
    count = max([*train_labels, *val_labels], default=-1) + 1
    if min([*train_labels, *val_labels], default=0) < 0 or count < 2:
        got = f"labels from {min([*train_labels, *val_labels], default=0)} to {count - 1}"
        raise DataError(config.name, "two or more classes, numbered from 0", got, _OTHER)
    val_pictures = None if val is None else _pictures(config.name, val, val_labels)
    return _pictures(config.name, train, train_labels), val_pictures, _class_names(train, count)


_OTHER = "Choose a classification data set, or put the images in folders and use imagefolder."


def _kind(name: str) -> Callable[..., Any]:
    known = [entry for entry in datasets.__all__ if entry[0].isupper()]
    if name not in known:
        near = difflib.get_close_matches(name, ["digits", "glyphs", "imagefolder", *known], n=3)
        cure = (
            f"Did you mean {' or '.join(near)}?"
            if near
            else "torchvision.datasets lists them; case counts."
        )
        raise ConfigError(
            "data name",
            "digits, glyphs, imagefolder or a data set of torchvision",
            repr(name),
            cure,
        )
    kind: Callable[..., Any] = getattr(datasets, name)
    parameters = inspect.signature(kind).parameters.values()
    more = [
        p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    more = [parameter for parameter in more if parameter not in _GIVEN]
    if more:
        raise ConfigError(
            "data name",
            "a data set that needs a folder only",
            f"{name}, which needs {more[0]}",
            _OTHER,
        )
    return kind


def _part(config: DataConfig, kind: Callable[..., Any], part: str) -> Any:
    """Make the data set, with the arguments that it has, under the first name of the part that it knows."""
    has = inspect.signature(kind).parameters
    given: dict[str, Any] = {
        "root": config.root,
        "download": config.download,
        "train": part == "train",
    }
    given = {key: value for key, value in given.items() if key in has}
    if "split" not in has or "train" in has:
        return _make(config, partial(kind, **given))
    tried = (_known_part(config, partial(kind, **given, split=name)) for name in _SPLITS[part])
    found = next((dataset for dataset in tried if dataset is not None), None)
    if found is None:
        raise DataError(
            config.name, f"a part named {' or '.join(_SPLITS[part])}", "none of them", _OTHER
        )
    return found


def _known_part(config: DataConfig, make: Callable[[], Any]) -> Any:
    try:
        return _make(config, make)
    except DataError:
        raise
    except ValueError:  # what torchvision raises on a part that it does not know
        return None


def _make(config: DataConfig, make: Callable[[], Any]) -> Any:
    try:
        # What torchvision prints on the way must not spoil the output of --json.
        with contextlib.redirect_stdout(sys.stderr):
            return make()
    except ImportError as error:
        cure = f"Run pip install {error.name}."
        raise DependencyError(
            config.name, f"{error.name}, to read it", "no such package", cure
        ) from error
    except (
        OSError,
        RuntimeError,
    ) as error:  # no file, no network, a server's refusal, a damaged file
        cure = f"Set download = true, or put its files below {config.root}."
        if config.download:
            cure = f"Fetch it where there is a network, and copy the folder to {config.root}."
        raise DataError(
            config.name, f"its files below {config.root}", _first_line(error), cure
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__


def _labels(name: str, dataset: Any) -> list[int]:
    """The label of every image, from where the data set keeps them; if it must be, by loading each image."""
    ends = (0, len(dataset) - 1)
    for attribute in ("targets", "labels", "_labels", "y"):
        held = getattr(dataset, attribute, None)
        if (
            held is not None
            and len(held) == len(dataset)
            and all(np.array_equal(held[end], dataset[end][1]) for end in ends)
        ):
            return [_label(name, label) for label in held]
    return [_label(name, dataset[position][1]) for position in range(len(dataset))]


def _label(name: str, label: Any) -> int:
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


def _pictures(name: str, dataset: Any, labels: Sequence[int]) -> Pictures:
    pixels = getattr(dataset, "data", None)
    in_memory = isinstance(pixels, np.ndarray | torch.Tensor) and len(pixels) == len(labels)
    return Pictures(
        labels,
        partial(_image, dataset),
        partial(pixels_of, pixels) if in_memory else partial(_place, name),
    )


def _image(dataset: Any, position: int) -> Any:
    return dataset[position][0]


def _place(name: str, position: int) -> bytes:
    return f"{name}:{position}".encode()
