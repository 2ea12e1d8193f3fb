"""A call of another library's metric, and how our answer to it stands to theirs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Numbers: TypeAlias = npt.NDArray[np.float64]
SPELLINGS = {
    "f_beta": "fbeta",
    "corr_coef": "corrcoef",
    "io_u": "iou",
}  # of classes beside functions


class NotOfferedError(Exception):
    """ptmetrics has no such score."""


class NotAValueError(Exception):
    """The case is not one of values: plotting, drawing, errors."""


@dataclass
class Call:
    """One use of a metric: its arguments, and the batches it was given."""

    library: str
    metric: str
    arguments: dict[str, Any]
    batches: list[dict[str, Any]]
    bound: float = field(default=0.0)  # what ours told of its own error
    repeats: bool = False  # their result repeats their arguments, behind the numbers
    told: str = ""  # a fault that stands beside our scores
    whole: bool = False  # a class, whose result is of all batches, and no function
    recipe: bool = (
        False  # not one score by its name: put together as docs/recipes.md does, or from parts
    )

    def get(self, name: str, default: Any = None) -> Any:
        """An argument; the default where it is None."""
        value = self.arguments.get(name, default)
        return default if value is None else value


@dataclass
class Outcome:
    """How ours stands to theirs: equal, different, not offered or not applicable, and why."""

    family: str
    status: str
    why: str = ""
    ours: str = ""
    theirs: str = ""
    recipe: bool = False


def snake(name: str) -> str:
    """`BinaryF1Score` as `binary_f1_score`: the class and the function are one row."""
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name).lower()
    for theirs, one in SPELLINGS.items():
        name = name.replace(theirs, one)
    return name


def shown(arguments: dict[str, Any]) -> str:
    """Plain arguments as text; of others the type."""
    plain = {}
    for name, value in arguments.items():
        plain[name] = value
        if not isinstance(value, bool | int | float | str | None):
            plain[name] = type(value).__name__
    return json.dumps(plain, sort_keys=True)


def as_tensor(value: Any) -> Tensor:
    """Arrays, lists and sparse matrices as tensors."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, list) and value and isinstance(value[0], Tensor):
        return torch.stack([each.detach() for each in value])
    if hasattr(value, "toarray"):
        value = value.toarray()
    return torch.as_tensor(np.asarray(value))


def numbers(value: Any) -> Numbers:
    """All numbers of a result, in order; of a text those that it shows; NaN for None."""
    if value is None:
        return np.full(1, np.nan)
    if isinstance(value, str):
        value = [float(word) for word in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", value)]
    if isinstance(value, Mapping):
        value = [value[name] for name in sorted(value)]
    if isinstance(value, Tensor):
        value = value.detach().cpu().double().numpy()
    if isinstance(value, np.ndarray) and value.dtype != object:
        return np.asarray(value.astype(np.float64).ravel())
    if isinstance(value, list | tuple | np.ndarray):
        parts = [numbers(each) for each in value]
        return np.concatenate(parts) if parts else np.zeros(0)
    return np.array([float(value)])


def compared(
    ours: Numbers, theirs: Numbers, atol: float, rtol: float, bound: float, *, points: bool = False
) -> tuple[str, str]:
    """Equal or different, and in which way.

    Of points of curves the values come first, then their thresholds: where a value is NaN, nothing is asked of its
    threshold.
    """
    if ours.shape != theirs.shape:
        return "different", f"{len(ours)} numbers for {len(theirs)}"
    if np.allclose(ours, theirs, atol=atol, rtol=rtol, equal_nan=True):
        return "equal", ""
    if bound and np.allclose(ours, theirs, atol=bound + atol, rtol=rtol, equal_nan=True):
        return "equal", f"within its told bound, {bound:.0e}"
    lost = np.isnan(ours) != np.isnan(theirs)
    either = np.isnan(ours) | np.isnan(theirs)
    if points and len(ours) % 2 == 0:
        either = np.tile(either.reshape(2, -1).any(0), 2)
    if lost.any() and np.allclose(ours[~either], theirs[~either], atol=bound + atol, rtol=rtol):
        return "different", nan_told(ours[lost], theirs[lost])
    return "different", "value"


def nan_told(ours: Numbers, theirs: Numbers) -> str:
    """On which side there is no number."""
    if not np.isnan(ours).all():
        return "NaN on the other side"
    if (theirs == 0).all():
        return "NaN where theirs is 0"
    return "NaN where theirs is a number"


def brief(values: Numbers) -> str:
    """A few numbers as text."""
    return np.array2string(values[:24], precision=8, separator=",").replace("\n", "")
