"""Classification models of torchvision with a new head.

Their weights are random, published, those of the source task, or stored in a file.
"""

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import linear
from torchvision.models import get_model, get_model_weights, list_models

from ptmetrics.errors import ConfigError, StateError
from ptmetrics.finetune.config import ModelConfig

_HEADS = ("fc", "classifier", "heads", "head")  # what torchvision calls the end of a model
# Two models return side heads in training; without them the output is one tensor, as elsewhere.
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
        ConfigError: If there is no such model, its stem or head cannot be exchanged, or the
            published weights cannot be had.
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

    Frozen layers are put in evaluation mode too, or normalisation would go on to adapt: call this
    after `model.train()`.
    """
    last = head(model)
    for parameter in model.parameters():
        parameter.requires_grad_(not frozen)
    for parameter in last.parameters():
        parameter.requires_grad_(True)
    if frozen:
        training = model.training
        model.eval()
        # Of the container alone: the phase, which hooks go by, is still training.
        model.training = training
        last.train(training)


def load_backbone(model: nn.Module, path: Path) -> None:
    """Load a checkpoint's weights into all layers but the head.

    Only tensors are read: no pickled code is run. The file holds a state dict, bare or under
    "model" or "state_dict", as ptmetrics and most scripts write it.

    Raises:
        StateError: If the file is not such a checkpoint, or its names or shapes are not the
            model's.
    """
    head_name = f"{_last_layer(model)[0]}."
    state = {
        key: value for key, value in _state_dict(path).items() if not key.startswith(head_name)
    }
    wanted = model.state_dict()
    missing = []
    reshaped = []
    for key, value in wanted.items():
        if key.startswith(head_name):
            continue
        if key in state:
            if value.shape != state[key].shape:
                reshaped.append(key)
        elif not key.endswith("num_batches_tracked"):
            # Published weights from before PyTorch 0.4.1 lack it; only a momentum of None reads it.
            missing.append(key)
    _refuse_weights(path, "missing", missing)
    _refuse_weights(path, "not in the model", state.keys() - wanted.keys())
    _refuse_weights(path, "of another shape", reshaped)
    model.load_state_dict(state, strict=False)


def _refuse_weights(path: Path, trouble: str, keys: Collection[str]) -> None:
    if keys:
        got = f"{len(keys)} {trouble}: {', '.join(sorted(keys)[:3])}"
        if len(keys) > 3:
            got += ", …"
        cure = "Set name and stem of [model] to those that the file was trained with."
        raise StateError(str(path), "the weights of this model", got, cure)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a file of `torch.save`: tensors, numbers, texts and containers.

    No pickled code is run.

    Raises:
        StateError: If it cannot be read, holds anything else, or is no mapping at its top.
    """
    cure = "Give a file that torch.save(model.state_dict(), path) wrote."
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # A damaged or hostile file can fail in any way; none of them has run its code.
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
    for key, value in content.items():
        if not isinstance(value, Tensor):
            cure = 'Save model.state_dict(), bare or under "model" or "state_dict".'
            got = f"something else under {key!r}"
            raise StateError(str(path), "a state dict of tensors", got, cure)
    return content


def _torchvision_model(name: str, *, published: bool) -> nn.Module:
    known = list_models(module=torchvision.models)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        cure = "torchvision.models.list_models() shows them."
        if near:
            cure = f"Did you mean {' or '.join(near)}?"
        raise ConfigError("model.name", "a classification model of torchvision", repr(name), cure)
    side_heads = _NO_SIDE_HEADS.get(name, {})
    if published:
        model = _published_model(name)
    elif side_heads:  # the two warn unless they are told to initialise as they always did
        model = get_model(name, weights=None, init_weights=True)
    else:
        model = get_model(name, weights=None)
    for attribute, value in side_heads.items():
        setattr(model, attribute, value)
    return model


def _published_model(name: str) -> nn.Module:
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
    first = getattr(model, "conv1", None)
    pool = getattr(model, "maxpool", None)
    if not isinstance(first, nn.Conv2d) or not isinstance(pool, nn.MaxPool2d):
        rule = '"default" for a model that is no ResNet'
        cure = 'Set stem = "default", or choose a ResNet.'
        raise ConfigError("model.stem", rule, f'"cifar" for {name}', cure)
    bias = first.bias is not None
    model.conv1 = nn.Conv2d(first.in_channels, first.out_channels, 3, padding=1, bias=bias)
    model.maxpool = nn.Identity()


def _last_layer(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The last layer, and its dotted name, in what torchvision names as the end of a model."""
    last = None
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and name.partition(".")[0] in _HEADS:
            last = (name, layer)
    if last is None:
        rule = f"a last layer under {', '.join(_HEADS)}"
        cure = "Choose a classification model of torchvision.models."
        raise ConfigError("model", rule, type(model).__name__, cure)
    return last


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


class TrimmedConv2d(nn.Conv2d):
    """`Conv2d` of kernel 3 and padding 1 that becomes a matrix product where its output is 1×1.

    On a 1×1 map eight of the nine taps multiply zeros, yet CPU libraries spend most of a
    ResNet-18's backward pass there when images have 32 pixels. Leaving them out changes results by
    rounding alone. Parameters and names are those of `Conv2d`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve a batch of shape (N, C, H, W)."""
        height = _taps_with_data(x.shape[2], self.stride[0])
        width = _taps_with_data(x.shape[3], self.stride[1])
        if height is None or width is None:
            return super().forward(x)
        weight = self.weight[:, :, height, width]
        return linear(x.flatten(1), weight.flatten(1), self.bias)[:, :, None, None]


def _taps_with_data(length: int, stride: int) -> slice | None:
    """The kernel's rows that see data where the output has length 1; None where it is longer."""
    if length == 1:
        return slice(1, 2)
    if length == 2 and stride == 2:
        return slice(1, 3)
    return None


def trim_convolutions(model: nn.Module) -> None:
    """Exchange each 3×3 convolution that pads by 1 for one that skips its padding."""
    for parent in list(model.modules()):
        for name, conv in parent.named_children():
            if type(conv) is not nn.Conv2d:
                continue
            form = (conv.kernel_size, conv.padding, conv.dilation, conv.groups, conv.padding_mode)
            if form != ((3, 3), (1, 1), (1, 1), 1, "zeros"):
                continue
            # On the meta device nothing is initialised, so no random number is drawn.
            trimmed = TrimmedConv2d(
                conv.in_channels,
                conv.out_channels,
                3,
                stride=(conv.stride[0], conv.stride[1]),
                padding=1,
                bias=conv.bias is not None,
                device="meta",
            )
            trimmed.weight = conv.weight
            trimmed.bias = conv.bias
            setattr(parent, name, trimmed.train(conv.training))
