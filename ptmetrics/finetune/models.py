"""Classification models of torchvision with a new head, from random, published, source-task or stored weights."""

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights, list_models

from ptmetrics.errors import ConfigError, StateError
from ptmetrics.finetune.convolution import trim_convolutions
from ptmetrics.finetune.settings import ModelConfig

_HEADS = ("fc", "classifier", "heads", "head")  # what torchvision calls the end of a model
# Two models return side heads in training; without them the output is one tensor, as everywhere else.
_NO_SIDE_HEADS: dict[str, dict[str, bool | None]] = {
    "googlenet": {"aux_logits": False, "aux1": None, "aux2": None},
    "inception_v3": {"aux_logits": False, "AuxLogits": None},
}


def build_model(
    config: ModelConfig, num_classes: int, weights_source: Path | None = None
) -> nn.Module:
    """Make the model; its head, the last layer, is always new, whatever the weights are.

    Args:
        config: Name, stem and weights.
        num_classes: Length of the output, (N, num_classes).
        weights_source: File of the source task's weights, for weights = "source-task".

    Raises:
        ConfigError: If there is no such model, its stem or head cannot be exchanged, or the published weights cannot
            be had.
        StateError: If a file holds no weights, or not those of this model.
    """
    model = _torchvision_model(config.name, published=config.weights == "imagenet")
    if config.stem == "cifar":
        _exchange_stem(model, config.name)
    if config.skip_padding:
        trim_convolutions(model)
    _exchange_head(model, num_classes)
    if config.weights == "source-task":
        if weights_source is None:
            cure = "Pass the path that source_weights returns."
            raise ConfigError("weights_source", 'a file with weights = "source-task"', "none", cure)
        load_backbone(model, weights_source)
    elif config.weights not in ("none", "imagenet"):
        load_backbone(model, Path(config.weights).expanduser())
    return model


def head(model: nn.Module) -> nn.Linear | nn.Conv2d:
    """The last layer of a model of torchvision: a `Linear`, or the `Conv2d` of a SqueezeNet.

    Raises:
        ConfigError: If the model has none that is known.
    """
    return _last_layer(model)[1]


def head_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of the last layer, the ones that `freeze_backbone` leaves free."""
    return list(head(model).parameters())


def freeze_backbone(model: nn.Module, *, frozen: bool) -> None:
    """Stop, or resume, training of everything but the head.

    Frozen layers are put in evaluation mode too, or normalisation would go on to adapt: call this after
    `model.train()`.
    """
    last = head(model)
    for parameter in model.parameters():
        parameter.requires_grad_(not frozen)
    for parameter in last.parameters():
        parameter.requires_grad_(True)
    if frozen:
        training = model.training
        model.eval()
        model.training = (
            training  # of the container alone: the phase, which hooks go by, is still training
        )
        last.train(training)


def load_backbone(model: nn.Module, path: Path) -> None:
    """Load a checkpoint's weights into all layers but the head. Only tensors are read: no pickled code is run.

    The file holds a state dict, bare or under "model" or "state_dict", as ptmetrics and most scripts write it.

    Raises:
        StateError: If the file is not such a checkpoint, or its names or shapes are not the model's.
    """
    state = _state_dict(path)
    own_head = f"{_last_layer(model)[0]}."
    state = {key: value for key, value in state.items() if not key.startswith(own_head)}
    wanted = {
        key: value for key, value in model.state_dict().items() if not key.startswith(own_head)
    }
    common = wanted.keys() & state.keys()
    # Published weights from before PyTorch 0.4.1 lack this counter, which only a momentum of None reads.
    missing = [key for key in wanted.keys() - common if not key.endswith("num_batches_tracked")]
    reshaped = [key for key in common if wanted[key].shape != state[key].shape]
    _refuse(path, "missing", missing)
    _refuse(path, "not in the model", state.keys() - common)
    _refuse(path, "of another shape", reshaped)
    model.load_state_dict(state, strict=False)


def _refuse(path: Path, trouble: str, keys: Collection[str]) -> None:
    if keys:
        shown = ", ".join(sorted(keys)[:3]) + (", …" if len(keys) > 3 else "")
        cure = "Set name and stem of [model] to those that the file was trained with."
        raise StateError(
            str(path), "the weights of this model", f"{len(keys)} {trouble}: {shown}", cure
        )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a file of `torch.save`: tensors, numbers, texts and containers; no pickled code is run.

    Raises:
        StateError: If it cannot be read, holds anything else, or is no mapping at its top.
    """
    cure = "Give a file that torch.save(model.state_dict(), path) wrote."
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        Exception
    ) as error:  # a damaged or hostile file can fail in any way; none of them has run its code
        reason = str(error).partition("\n")[0]
        got = f"one that cannot be read safely ({type(error).__name__}: {reason[:120]})"
        raise StateError(str(path), "a file of tensors only", got, cure) from error
    if not isinstance(content, Mapping):
        raise StateError(str(path), "a state dict", f"a {type(content).__name__}", cure)
    return dict(content)


def _state_dict(path: Path) -> dict[str, Tensor]:
    content = read_checkpoint(path)
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), Mapping):
            content = dict(content[key])
    others = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if others:
        cure = 'Save model.state_dict(), bare or under "model" or "state_dict".'
        raise StateError(
            str(path), "a state dict of tensors", f"something else under {others[0]!r}", cure
        )
    return content


def _torchvision_model(name: str, *, published: bool) -> nn.Module:
    known = list_models(module=torchvision.models)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        cure = (
            f"Did you mean {' or '.join(near)}?"
            if near
            else "torchvision.models.list_models() shows them."
        )
        raise ConfigError("model.name", "a classification model of torchvision", repr(name), cure)
    side_heads = _NO_SIDE_HEADS.get(name, {})
    # The two warn unless they are told to initialise as they always did.
    options = {"init_weights": True} if side_heads else {}
    model = _published(name) if published else get_model(name, weights=None, **options)
    for attribute, value in side_heads.items():
        setattr(model, attribute, value)
    return model


def _published(name: str) -> nn.Module:
    weights = get_model_weights(name).DEFAULT
    try:
        model: nn.Module = get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:  # no network, a server's refusal, or a file cut short
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        cure = (
            f"Fetch {weights.url} where there is a network and put it in {folder}, "
            'or set weights = "source-task" or the path of a checkpoint.'
        )
        got = f"no download ({type(error).__name__}: {error})"
        raise ConfigError("model.weights", f"torchvision's weights of {name}", got, cure) from error
    return model


def _exchange_stem(model: nn.Module, name: str) -> None:
    first, pool = getattr(model, "conv1", None), getattr(model, "maxpool", None)
    if not isinstance(first, nn.Conv2d) or not isinstance(pool, nn.MaxPool2d):
        cure = 'Set stem = "default", or choose a ResNet.'
        raise ConfigError(
            "model.stem", '"default" for a model that is no ResNet', f'"cifar" for {name}', cure
        )
    model.conv1 = nn.Conv2d(
        first.in_channels, first.out_channels, 3, padding=1, bias=first.bias is not None
    )
    model.maxpool = nn.Identity()


def _last_layer(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The last layer and its dotted name, inside the part that torchvision names as the end of the model."""
    layers: list[tuple[str, nn.Linear | nn.Conv2d]] = [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and name.partition(".")[0] in _HEADS
    ]
    if not layers:
        cure = "Choose a classification model of torchvision.models."
        raise ConfigError(
            "model", f"a last layer under {', '.join(_HEADS)}", type(model).__name__, cure
        )
    return layers[-1]


def _exchange_head(model: nn.Module, num_classes: int) -> None:
    name, old = _last_layer(model)
    bias = old.bias is not None
    new: nn.Module
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, num_classes, bias=bias)
    else:
        new = nn.Conv2d(old.in_channels, num_classes, kernel_size=1, bias=bias)  # SqueezeNet
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)
