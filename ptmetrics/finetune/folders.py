"""Images in folders: `root/train/CLASS/…` and `root/val/CLASS/…`, or `root/CLASS/…` alone."""

import os
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from ptmetrics.errors import DataError
from ptmetrics.finetune.pictures import Pictures
from ptmetrics.finetune.settings import DataConfig


def find_folder(config: DataConfig) -> tuple[Pictures, Pictures | None, tuple[str, ...]]:
    """The images below `config.root`; class names are folder names, labels their rank in alphabetical order.

    Returns:
        Training pictures, validation pictures or None where there is one folder for both, class names.

    Raises:
        DataError: If a folder is missing or empty, or training and validation have different classes.
    """
    root = Path(str(config.root)).expanduser()
    if not root.is_dir():
        cure = "Correct root; it counts from the folder that the command is started in."
        raise DataError(str(root), "a folder of images", "no such folder", cure)
    parts = [root / name for name in ("train", "val")]
    present = [part for part in parts if part.is_dir()]
    if not present:
        files = _scan(root, fewest=2)
        return _pictures(root, files), None, tuple(files)
    if len(present) == 1:
        absent = next(part for part in parts if part not in present)
        cure = f"Make it, or set root to {present[0]} to have val_fraction split off."
        raise DataError(str(absent), f"a folder beside {present[0].name}", "no such folder", cure)
    train, val = (_scan(part, fewest=1) for part in parts)
    _same_classes(root, train.keys(), val.keys())
    return _pictures(parts[0], train), _pictures(parts[1], val), tuple(train)


def _scan(folder: Path, fewest: int) -> dict[str, list[Path]]:
    """The image files of each class folder, sorted; hidden files and folders are passed over."""
    classes = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if len(classes) < 2:
        got = f"{len(classes)} folders" if len(classes) != 1 else f"only {classes[0].name}"
        cure = "Put the images of each class in a folder that has the name of the class."
        raise DataError(str(folder), "two or more class folders", got, cure)
    files = {path.name: _images(path) for path in classes}
    for name, images in files.items():
        if len(images) < fewest:
            rule = f"at least {fewest} image{'s, to split' if fewest > 1 else ''} ({', '.join(IMG_EXTENSIONS)})"
            cure = "Add images, or remove the folder."
            raise DataError(str(folder / name), rule, str(len(images) or "none"), cure)
    return files


def _images(folder: Path) -> list[Path]:
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.suffix.lower() in IMG_EXTENSIONS)


def _same_classes(root: Path, train: Collection[str], val: Collection[str]) -> None:
    only = [
        f"{', '.join(sorted(names)[:5])} only in {place}"
        for place, names in (("train", set(train) - set(val)), ("val", set(val) - set(train)))
        if names
    ]
    if only:
        cure = "Give both the same class folders, with the same spelling."
        raise DataError(str(root), "the same classes in train and val", "; ".join(only), cure)


def _pictures(folder: Path, files: dict[str, list[Path]]) -> Pictures:
    paths = [path for images in files.values() for path in images]
    labels = [label for label, images in enumerate(files.values()) for _ in images]
    return Pictures(labels, partial(_open, paths), partial(_identity, folder, paths))


def _open(paths: Sequence[Path], index: int) -> Image.Image:
    try:
        with Image.open(paths[index]) as image:
            in_colour: Image.Image = image.convert("RGB")
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:  # all of them PIL's
        cure = "Repair the file, or remove it."
        raise DataError(str(paths[index]), "an image that can be read", str(error), cure) from error
    return in_colour


def _identity(folder: Path, paths: Sequence[Path], index: int) -> bytes:
    path = paths[index]
    return f"{path.relative_to(folder).as_posix()}:{path.stat().st_size}".encode(
        errors="surrogateescape"
    )
