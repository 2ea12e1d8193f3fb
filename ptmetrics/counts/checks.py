"""What can be checked on the host at once, from shapes, dtypes and devices, without looking at a value."""

import torch
from torch import Tensor

from ptmetrics.errors import DeviceError, DtypeError, ShapeError


def is_tensor(name: str, value: object) -> None:
    """Refuse anything but a tensor."""
    if not isinstance(value, Tensor):
        raise DtypeError(
            name, "a torch.Tensor", type(value).__name__, f"Pass torch.as_tensor({name})."
        )


def class_indices(name: str, value: Tensor, like: tuple[int, ...], of: str) -> None:
    """Refuse class labels that are not signed integers of the shape `like`, which `of` explains."""
    rule, fact = f"int64 of shape {like} {of}", f"{_dtype(value)} of shape {tuple(value.shape)}"
    if value.dtype.is_floating_point or value.dtype.is_complex or not value.dtype.is_signed:
        raise DtypeError(name, rule, fact, _label_cure(name, value, like))
    if tuple(value.shape) != like:
        raise ShapeError(name, rule, fact, _label_cure(name, value, like))


def class_scores(value: Tensor, num_classes: int) -> None:
    """Refuse scores that are not floating point of shape (N, C, …) with C = `num_classes`."""
    rule = f"floating point of shape (N, {num_classes}) or (N, {num_classes}, d1, …)"
    fact = f"{_dtype(value)} of shape {tuple(value.shape)}"
    if not value.dtype.is_floating_point:
        raise DtypeError(
            "preds", rule, fact, 'Pass the logits, or use inputs="labels" for predicted classes.'
        )
    if value.ndim < 2 or value.shape[1] != num_classes:
        raise ShapeError(
            "preds",
            rule,
            fact,
            "Pass one score for each class, or build the metric with the right num_classes.",
        )


def real_numbers(name: str, value: Tensor) -> None:
    """Refuse what is neither floating point nor whole numbers."""
    if value.dtype.is_complex or value.dtype == torch.bool:
        fact = f"{_dtype(value)} of shape {tuple(value.shape)}"
        raise DtypeError(name, "floating point or whole numbers", fact, f"Pass {name}.float().")


def row_weights(value: Tensor, like: tuple[int, ...], of: str = "of the target's shape") -> None:
    """Refuse weights that are not real numbers of the shape `like`, which `of` explains."""
    if value.dtype.is_complex or tuple(value.shape) != like:
        fact = f"{_dtype(value)} of shape {tuple(value.shape)}"
        raise ShapeError(
            "sample_weight", f"real numbers {of} {like}", fact, "Pass one weight a target."
        )


def together(home: Tensor, **others: Tensor) -> None:
    """Refuse tensors on another device than `home`, the metric's state."""
    for name, value in others.items():
        if value.device != home.device:
            raise DeviceError(
                name,
                f"a tensor on {home.device}, where this metric counts",
                str(value.device),
                f"Call {name}.to({str(home.device)!r}), or move the metric with metrics.to(device).",
            )


def beside_preds(
    home: Tensor, preds: Tensor, target: Tensor, weight: Tensor | None, like: tuple[int, ...]
) -> None:
    """Refuse targets and weights that are not of the shape `like`, which checked `preds` call for, or elsewhere."""
    class_indices("target", target, like, f"beside preds of shape {tuple(preds.shape)}")
    together(home, preds=preds, target=target)
    if weight is not None:
        is_tensor("sample_weight", weight)
        row_weights(weight, like)
        together(home, sample_weight=weight)


def in_memory(values: Tensor) -> bool:
    """Whether the host can look at the values, which nothing has to wait for."""
    return values.is_cpu and type(values) is Tensor and not torch.compiler.is_compiling()


def flat(values: Tensor) -> Tensor:
    """In one dimension, as it is where it has one."""
    return values if values.ndim == 1 else values.reshape(-1)


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _label_cure(name: str, value: Tensor, like: tuple[int, ...]) -> str:
    if tuple(value.shape) == (*like, 1):
        return f"Pass {name}.squeeze({len(like)}).long()."
    if value.ndim == len(like) + 1 and value.ndim > 1 and value.shape[0] == like[0]:
        return f"It looks one-hot: pass {name}.argmax(1)."
    if tuple(value.shape) == like:
        return f"Pass {name}.long()."
    return "Pass one class index for each prediction."
