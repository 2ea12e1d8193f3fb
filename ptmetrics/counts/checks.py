"""What can be checked on the host at once, from shapes, types and devices, without looking at a value."""

from typing import Any

import torch
from torch import Tensor

from ptmetrics.errors import ConfigError, DeviceError, DtypeError, ShapeError

NO_FLOAT64 = ("mps",)
"""Types of devices that have no float64: what they hold is counted on the CPU."""
NUMBERS = frozenset(
    (
        torch.bool,
        torch.uint8,
        torch.uint16,
        torch.uint32,
        torch.uint64,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
    )
)
"""Types of real numbers that all devices can compare, convert and add up."""
LEAST_WEIGHT = 1e-140
MOST_WEIGHT = 1e140
"""The squares of weights between these are numbers of float64, with room for the sums of many rows."""


def as_tensor(name: str, value: object) -> Tensor:
    """Refuse anything but a dense tensor of real numbers."""
    if not isinstance(value, Tensor):
        cure = f"Pass torch.as_tensor({name})."
        raise DtypeError(name, "a torch.Tensor", type(value).__name__, cure)
    dense_numbers(name, value)
    return value


def dense_numbers(name: str, value: Tensor) -> None:
    """Refuse tensors that are sparse, nested or quantized, and types that have no arithmetic."""
    if value.dtype in NUMBERS and value.layout == torch.strided and not value.is_nested:
        return
    rule = "a dense tensor of real numbers"
    if value.is_nested:
        fact = f"a nested tensor of {dtype_name(value)}"
        cure = f"Pass its rows one by one, or torch.cat({name}.unbind())."
    elif value.is_quantized:
        fact = f"a quantized tensor of {dtype_name(value)}"
        cure = f"Pass {name}.dequantize()."
    elif value.layout != torch.strided:
        fact = f"a tensor of layout {str(value.layout).removeprefix('torch.')}"
        cure = f"Pass {name}.to_dense()."
    elif value.dtype.is_complex:
        fact = dtype_name(value)
        cure = f"Pass {name}.abs() or {name}.real."
    else:
        fact = dtype_name(value)
        cure = f"Pass {name}.float()."
    raise DtypeError(name, rule, fact, cure)


def with_float64(device: torch.device | str) -> torch.device:
    """The device to count on: the CPU in place of one without float64.

    Raises:
        ConfigError: If torch cannot use it here.
    """
    try:
        found = torch.device(device)
        if found.type in NO_FLOAT64:
            return torch.device("cpu")
        if found.type != "cpu":
            torch.empty(0, device=found)
    except Exception as error:  # torch has many words for a device that there is not
        reason = str(error).partition("\n")[0]
        rule = "a device that torch can use here"
        cure = f'Pass device="cpu" or "cuda". Torch says: {reason}'
        raise ConfigError("device", rule, repr(device), cure) from None
    return found


def with_values(name: str, value: Tensor, device: torch.device) -> None:
    """Refuse a tensor on the meta device, which holds no values, where the metric counts elsewhere."""
    if value.device.type == "meta" and device.type != "meta":
        cure = "Pass what the model computed on a real device."
        raise DeviceError(name, f"a tensor with values, as on {device}", "one on meta", cure)


def out_of_range(weight: Tensor) -> Tensor:
    """Bool: which weights cannot be counted: all but 0 and those whose squares float64 can hold."""
    return (weight.clamp(LEAST_WEIGHT, MOST_WEIGHT) != weight) & (weight != 0)


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
    if tuple(weight.shape) != like:
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
