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
from tqdm import tqdm

from ptmetrics.errors import ConfigError, StateError
from ptmetrics.finetune.config import Config, ModelConfig, TrainConfig, digest
from ptmetrics.finetune.data import Data, load_data
from ptmetrics.finetune.models import build_model, read_checkpoint
from ptmetrics.finetune.training import (
    make_loader,
    make_optimizer,
    make_schedule,
    mixed_precision,
)
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
_SEED = 0  # one source task serves every run group and seed


def cache_folder() -> Path:
    """PTMETRICS_CACHE, else ptmetrics in XDG_CACHE_HOME, else ~/.cache/ptmetrics."""
    own = os.environ.get("PTMETRICS_CACHE")
    if own:
        return Path(own)
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():  # a relative one counts as unset, as its specification asks
        return shared / "ptmetrics"
    return Path.home() / ".cache" / "ptmetrics"


def source_weights(
    config: Config, model: ModelConfig, device: torch.device, say: Callable[[str], None] = print
) -> Path:
    """The checkpoint of a model trained on the source task, from the cache or trained now.

    The file's name holds a digest of source data, model, pre-training and versions: a change of any
    trains anew, a damaged file does too. The caller's random numbers stay as they are.

    Args:
        config: Its `source` and `pretrain` count.
        model: The model; its `weights` do not count.
        device: Where to train.
        say: Gets each line of progress.

    Raises:
        ConfigError: If there is no source task, or the cache folder cannot be written.
        DataError, DependencyError: If the source task's data cannot be had.
    """
    path = source_path(config, model)
    if path.exists():
        if _is_whole(path):
            return path
        say(f"{path} is damaged; pre-training again")
    with _cache_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    content = _pretrain(config, replace(model, weights="none"), device, say)
    with _cache_errors(path.parent):
        replace_file(path, lambda file: torch.save(content, file))
    return path


def source_path(config: Config, model: ModelConfig) -> Path:
    """Where `source_weights` keeps the checkpoint, whether it is there yet or not.

    Raises:
        ConfigError: If there is no source task.
    """
    source = config.source_task()
    root = None
    if source.root is not None:
        root = str(Path(source.root).expanduser().resolve())
    training = asdict(config.pretrain)
    for key in _NOT_IN_RESULT:
        del training[key]
    recipe = digest(
        [
            asdict(replace(source, root=root, download=False)),
            asdict(replace(model, weights="none")),
            training,
            {package: _version_of(package) for package in _PACKAGES},
        ]
    )
    return cache_folder() / f"{source.name}-{model.name}-{recipe[:16]}.pt"


def source_facts(path: Path) -> dict[str, float]:
    """What pre-training took and reached: "train_s" in seconds, "val_accuracy" on the source task.

    Raises:
        StateError: If the file is not one that `source_weights` wrote.
    """
    facts = read_checkpoint(path).get("source")
    if not isinstance(facts, dict):
        cure = "Pass the path that it returned."
        raise StateError(str(path), "a file of source_weights", "another one", cure)
    return {key: float(facts[key]) for key in ("train_s", "val_accuracy")}


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _is_whole(path: Path) -> bool:
    """Whether every byte is as it was written, which torch does not check, and all are tensors."""
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
    config: Config, model: ModelConfig, device: torch.device, say: Callable[[str], None]
) -> dict[str, Any]:
    source = config.source_task()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(_SEED)
        data = load_data(source, _SEED)
        say(
            f"pre-training {model.name} on {source.name}, once: {len(data.train):,} images, "
            f"{data.num_classes} classes, {config.pretrain.epochs} epochs"
        )
        network = build_model(model, data.num_classes).to(device)
        facts = _fit(network, data, config.pretrain, device, say)
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
    loader = make_loader(data.train, train, shuffle=True)
    optimizer = make_optimizer(network, train)
    schedule = make_schedule(optimizer, train, len(loader) * train.epochs)
    criterion = nn.CrossEntropyLoss(label_smoothing=train.label_smoothing)
    spent_s = 0.0
    accuracy = 0.0
    for epoch in range(train.epochs):
        start = time.perf_counter()
        total = torch.zeros((), device=device)
        network.train()
        for images, labels in tqdm(loader, f"  epoch {epoch + 1}", leave=False, disable=None):
            optimizer.zero_grad(set_to_none=True)
            with mixed_precision(train, device):
                loss = criterion(network(images.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
        mean_loss = total.item() / len(loader)
        spent_s += time.perf_counter() - start
        accuracy = _accuracy(network, data, train, device)
        say(
            f"  epoch {epoch + 1} of {train.epochs}  loss {mean_loss:.3f}  "
            f"accuracy {accuracy:.3f}  {spent_s:.0f} s"
        )
    return {"train_s": spent_s, "val_accuracy": accuracy}


@torch.no_grad()
def _accuracy(network: nn.Module, data: Data, train: TrainConfig, device: torch.device) -> float:
    network.eval()
    right = 0
    for images, labels in make_loader(data.val, train, shuffle=False):
        right += int((network(images.to(device)).argmax(dim=1).cpu() == labels).sum())
    return right / len(data.val)
