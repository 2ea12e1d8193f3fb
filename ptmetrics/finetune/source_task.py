"""Pre-training on the source task: done once, then kept in the user's cache folder."""

import os
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from ptmetrics.errors import ConfigError, StateError
from ptmetrics.finetune.config import Config, digest
from ptmetrics.finetune.data import Data, load_data
from ptmetrics.finetune.models import build_model, read_checkpoint
from ptmetrics.finetune.optimize import make_optimizer, make_schedule
from ptmetrics.finetune.pictures import ImageSet
from ptmetrics.finetune.settings import DataConfig, ModelConfig, TrainConfig
from ptmetrics.record.atomic import replace as replace_file

_PACKAGES = ("ptmetrics", "torch", "torchvision", "matplotlib", "scikit-learn")
_NOT_IN_RESULT = (
    "device",
    "workers",
    "patience",
    "freeze",
    "freeze_epochs",
    "validations_per_epoch",
)
_SEED = 0  # one source task serves every arm and seed
Batches = DataLoader[Any]


def cache_folder() -> Path:
    """PTMETRICS_CACHE, else ptmetrics in XDG_CACHE_HOME, else ~/.cache/ptmetrics."""
    own, shared = os.environ.get("PTMETRICS_CACHE"), Path(os.environ.get("XDG_CACHE_HOME", ""))
    if own:
        return Path(own)
    # A relative XDG_CACHE_HOME counts as unset, as its specification asks.
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "ptmetrics"


def source_weights(
    config: Config, model: ModelConfig, device: torch.device, say: Callable[[str], None] = print
) -> Path:
    """The checkpoint of a model trained on the source task, from the cache, or trained now and put there.

    The file's name holds a digest of source data, model, pre-training and versions: a change of any trains anew, a
    damaged file does too. The caller's random numbers stay as they are.

    Args:
        config: Its `source` and `pretrain` count.
        model: The model; its `weights` do not count.
        device: Where to train.
        say: Gets each line of progress.

    Raises:
        ConfigError: If there is no source task, or the cache folder cannot be written.
        DataError, DependencyError: If the source task's data cannot be had.
    """
    source, model = _source(config), replace(model, weights="none")
    path = source_path(config, model)
    if path.exists():
        if _is_whole(path):
            return path
        say(f"{path} is damaged; pre-training again")
    with _cache_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    content = _pretrain(source, model, config.pretrain, device, say)
    with _cache_errors(path.parent):
        replace_file(path, lambda file: torch.save(content, file))
    return path


def source_path(config: Config, model: ModelConfig) -> Path:
    """Where `source_weights` keeps the checkpoint, whether it is there yet or not.

    Raises:
        ConfigError: If there is no source task.
    """
    source = _source(config)
    recipe = _recipe(source, replace(model, weights="none"), config.pretrain)
    return cache_folder() / f"{source.name}-{model.name}-{recipe[:16]}.pt"


def source_facts(path: Path) -> dict[str, float]:
    """What pre-training took and reached: "train_s" in seconds, "val_accuracy" on the source task.

    Raises:
        StateError: If the file is not one that `source_weights` wrote.
    """
    facts = read_checkpoint(path).get("source")
    if not isinstance(facts, dict):
        raise StateError(
            str(path), "a file of source_weights", "another one", "Pass the path that it returned."
        )
    return {key: float(facts[key]) for key in ("train_s", "val_accuracy")}


def _source(config: Config) -> DataConfig:
    if config.source is None:
        cure = 'Add [source] with name = "glyphs", or choose other weights.'
        raise ConfigError("source", 'a data set for weights = "source-task"', "none", cure)
    return config.source


def _recipe(source: DataConfig, model: ModelConfig, train: TrainConfig) -> str:
    root = None if source.root is None else str(Path(source.root).expanduser().resolve())
    training = {key: value for key, value in asdict(train).items() if key not in _NOT_IN_RESULT}
    versions = {package: _version(package) for package in _PACKAGES}
    return digest(
        [asdict(replace(source, root=root, download=False)), asdict(model), training, versions]
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _is_whole(path: Path) -> bool:
    """Whether every byte is as it was written, which torch does not check, and only tensors would be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            intact = archive.testzip() is None
        return intact and bool(source_facts(path))
    except (OSError, zipfile.BadZipFile, StateError, KeyError, ValueError):
        return False


@contextmanager
def _cache_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cure = "Free some space there, or set PTMETRICS_CACHE to another folder."
        got = f"{error.strerror or error} at {folder}"
        raise ConfigError("cache folder", "a folder that can be written", got, cure) from error


def _pretrain(
    source: DataConfig,
    model: ModelConfig,
    train: TrainConfig,
    device: torch.device,
    say: Callable[[str], None],
) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(_SEED)
        data = load_data(source, _SEED)
        say(
            f"pre-training {model.name} on {source.name}, once: {len(data.train):,} images, "
            f"{data.num_classes} classes, {train.epochs} epochs"
        )
        network = build_model(model, data.num_classes).to(device)
        facts = _fit(network, data, train, device, say)
    state = {key: value.cpu() for key, value in network.state_dict().items()}
    return {"model": state, "source": facts}


def _fit(
    network: nn.Module,
    data: Data,
    train: TrainConfig,
    device: torch.device,
    say: Callable[[str], None],
) -> dict[str, float]:
    """A plain loop; its last line is the result on the source task's validation images."""
    loader, val_loader = (
        _batches(data.train, train, shuffle=True),
        _batches(data.val, train, shuffle=False),
    )
    optimizer = make_optimizer(network, train)
    schedule = make_schedule(optimizer, train, len(loader) * train.epochs)
    criterion = nn.CrossEntropyLoss(label_smoothing=train.label_smoothing)
    spent, accuracy = 0.0, 0.0
    for epoch in range(train.epochs):
        start, total = time.perf_counter(), torch.zeros((), device=device)
        network.train()
        for images, labels in loader:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(
                device.type, torch.bfloat16, enabled=train.amp and device.type == "cuda"
            ):
                loss = criterion(network(images.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
        mean_loss = total.item() / len(loader)
        spent += time.perf_counter() - start
        accuracy = _accuracy(network, val_loader, device)
        progress = (
            f"epoch {epoch + 1} of {train.epochs}  loss {mean_loss:.3f}  accuracy {accuracy:.3f}"
        )
        say(f"  {progress}  {spent:.0f} s")
    return {"train_s": spent, "val_accuracy": accuracy}


def _batches(images: ImageSet, train: TrainConfig, *, shuffle: bool) -> Batches:
    size = train.batch_size if shuffle else max(train.batch_size, 256)
    # A last batch of one image would break batch normalisation.
    lonely = shuffle and len(images) % size == 1
    return DataLoader(images, size, shuffle=shuffle, drop_last=lonely, num_workers=train.workers)


@torch.no_grad()
def _accuracy(network: nn.Module, loader: Batches, device: torch.device) -> float:
    network.eval()
    right = seen = 0
    for images, labels in loader:
        right += int((network(images.to(device)).argmax(dim=1).cpu() == labels).sum())
        seen += len(labels)
    return right / seen
