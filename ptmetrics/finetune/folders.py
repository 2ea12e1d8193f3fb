"""Images in folders: `root/train/CLASS/…` and `root/val/CLASS/…`, or `root/CLASS/…` alone."""

import os
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from ptmetrics.errors import DataError
from ptmetrics.finetune.config import DataConfig
from ptmetrics.finetune.pictures import Found, Pictures

ClassFiles = dict[str, list[Path]]  # name of a class to its image files


def find_folder(config: DataConfig) -> Found:
    """The images below `config.root`.

    Class names are folder names, labels their rank in alphabetical order.

    Raises:
        DataError: If a folder is missing or empty, or training and validation have different
            classes.
    """
    root = Path(str(config.root)).expanduser()
    if not root.is_dir():
        cure = "Correct root; it counts from the folder that the command is started in."
        raise DataError(str(root), "a folder of images", "no such folder", cure)
    train_folder = root / "train"
    val_folder = root / "val"
    if not train_folder.is_dir() and not val_folder.is_dir():
        files = _scan_classes(root, fewest=2)
        return _folder_pictures(root, files), None, tuple(files)
    for folder, other in ((train_folder, val_folder), (val_folder, train_folder)):
        if not folder.is_dir():
            cure = f"Make it, or set root to {other} to have val_fraction split off."
            raise DataError(str(folder), f"a folder beside {other.name}", "no such folder", cure)
    train = _scan_classes(train_folder, fewest=1)
    val = _scan_classes(val_folder, fewest=1)
    _check_same_classes(root, train, val)
    train_pictures = _folder_pictures(train_folder, train)
    return train_pictures, _folder_pictures(val_folder, val), tuple(train)


def _scan_classes(folder: Path, fewest: int) -> ClassFiles:
    """The image files of each class folder, sorted; hidden files and folders are passed over."""
    classes = [
        path for path in sorted(folder.iterdir()) if path.is_dir() and not _hidden(path.name)
    ]
    if len(classes) < 2:
        got = f"only {classes[0].name}" if classes else "0 folders"
        cure = "Put the images of each class in a folder that has the name of the class."
        raise DataError(str(folder), "two or more class folders", got, cure)
    files = {path.name: _image_files(path) for path in classes}
    for name, images in files.items():
        if len(images) < fewest:
            rule = "at least 1 image" if fewest == 1 else f"at least {fewest} images, to split"
            got = str(len(images) or "none")
            cure = "Add images, or remove the folder."
            raise DataError(str(folder / name), f"{rule} ({', '.join(IMG_EXTENSIONS)})", got, cure)
    return files


def _image_files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not _hidden(name)]
        images = [name for name in names if name.lower().endswith(IMG_EXTENSIONS)]
        found += [Path(place, name) for name in images if not _hidden(name)]
    return sorted(found)


def _hidden(name: str) -> bool:
    return name.startswith(".")


def _check_same_classes(root: Path, train: Collection[str], val: Collection[str]) -> None:
    only = []
    for place, some, others in (("train", train, val), ("val", val, train)):
        missing = sorted(set(some).difference(others))
        if missing:
            only.append(f"{', '.join(missing[:5])} only in {place}")
    if only:
        cure = "Give both the same class folders, with the same spelling."
        raise DataError(str(root), "the same classes in train and val", "; ".join(only), cure)


def _folder_pictures(folder: Path, files: ClassFiles) -> Pictures:
    paths = []
    labels = []
    for label, images in enumerate(files.values()):
        paths += images
        labels += [label] * len(images)
    return Pictures(labels, partial(_open_image, paths), partial(_path_and_size, folder, paths))


def _open_image(paths: Sequence[Path], index: int) -> Image.Image:
    try:
        with Image.open(paths[index]) as image:
            in_colour: Image.Image = image.convert("RGB")
    # All of them are PIL's.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        rule = "an image that can be read"
        cure = "Repair the file, or remove it."
        raise DataError(str(paths[index]), rule, str(error), cure) from error
    return in_colour


def _path_and_size(folder: Path, paths: Sequence[Path], index: int) -> bytes:
    path = paths[index]
    text = f"{path.relative_to(folder).as_posix()}:{path.stat().st_size}"
    return text.encode(errors="surrogateescape")
