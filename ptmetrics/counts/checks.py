"""What can be checked on the host at once, from shapes, types and devices, without looking at a value."""

from typing import Any

import torch
from torch import Tensor

from ptmetrics.errors import DeviceError, DtypeError, ShapeError

NO_FLOAT64 = ("mps",)
"""Types of devices that have no float64: what they hold is counted on the CPU."""


def as_tensor(name: str, value: object) -> Tensor:
    """Refuse anything but a dense tensor with values."""
    if not isinstance(value, Tensor):
        cure = f"Pass torch.as_tensor({name})."
        raise DtypeError(name, "a torch.Tensor", type(value).__name__, cure)
    return value


def class_indices(name: str, value: Tensor, like: tuple[int, ...], of: str) -> None:
    """Refuse class labels that are not signed integers of the shape `like`, which `of` explains."""
    rule = f"int64 of shape {like} {of}"
    fact = f"{dtype_name(value)} of shape {tuple(value.shape)}"
    if value.dtype.is_floating_point or value.dtype.is_complex or not value.dtype.is_signed:
        raise DtypeError(name, rule, fact, _label_cure(name, value, like))
    if value.shape != like:
        raise ShapeError(name, rule, fact, _label_cure(name, value, like))


def real_numbers(name: str, value: Tensor) -> None:
    """Refuse what is neither floating point nor whole numbers."""
    if value.dtype.is_complex or value.dtype == torch.bool:
        fact = f"{dtype_name(value)} of shape {tuple(value.shape)}"
        raise DtypeError(name, "floating point or whole numbers", fact, f"Pass {name}.float().")


def row_weights(
    device: torch.device, value: object, like: tuple[int, ...], of: str = "of the target's shape"
) -> Tensor:
    """Refuse weights that are not real numbers of the shape `like`, which `of` explains; flat float64."""
    weight = as_tensor("sample_weight", value)
    if weight.dtype.is_complex or tuple(weight.shape) != like:
        fact = f"{dtype_name(weight)} of shape {tuple(weight.shape)}"
        raise ShapeError(
            "sample_weight", f"real numbers {of} {like}", fact, "Pass one weight a target."
        )
    same_device(device, sample_weight=weight)
    return weight.reshape(-1)


def same_device(device: torch.device, **others: Tensor) -> None:
    """Refuse tensors on another device than the metric's."""
    for name, value in others.items():
        if value.device != device:
            rule = f"a tensor on {device}, where this metric counts"
            cure = f"Call {name}.to({str(device)!r}), or move the metric with metrics.to(device)."
            raise DeviceError(name, rule, str(value.device), cure)


def countable(value: Any) -> Any:
    """A tensor where it can be counted; anything else as it is, for the checks to refuse."""
    if isinstance(value, Tensor) and value.device.type in NO_FLOAT64:
        return value.detach().cpu()
    return value


def in_memory(values: Tensor) -> bool:
    """Whether the host can look at the values, which nothing has to wait for."""
    return values.is_cpu and type(values) is Tensor and not torch.compiler.is_compiling()


def dtype_name(value: Tensor) -> str:
    """Its type in a message."""
    return str(value.dtype).removeprefix("torch.")


def _label_cure(name: str, value: Tensor, like: tuple[int, ...]) -> str:
    if tuple(value.shape) == (*like, 1):
        return f"Pass {name}.squeeze({len(like)}).long()."
    if value.ndim == len(like) + 1 and value.ndim > 1 and value.shape[0] == like[0]:
        return f"It looks one-hot: pass {name}.argmax(1)."
    if tuple(value.shape) == like:
        return f"Pass {name}.long()."
    return "Pass one class index for each prediction."
