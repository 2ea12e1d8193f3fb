"""Where things stand: predictions in what a model returns, targets in a batch or in a call."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ptmetrics.errors import DtypeError, HookError

Extractor: TypeAlias = Callable[[Any], Any]
MOST_LOOKED_AT = 2**25  # scores of a batch
LABEL_KEYS = ("labels", "label")
"""What targets are called in a dictionary of a loader and among a model's own arguments."""
_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalCausalLM")
_WRAPPED = (
    "module",
    "_orig_mod",
    "base_model",
    "model",
)  # in distributed, compiled, adapted models


@dataclass(frozen=True)
class BatchExtractors:
    """Where predictions, targets, loss and ids stand.

    For several outputs `preds` and `target` are mappings by their names, or return such.

    Attributes:
        preds: In what the model returns; by default the tensor, its `.logits`, `["logits"]`,
            `["out"]` or first part.
        target: In a batch of the loader; by default `batch[1]`, `batch["labels"]` or
            `batch["label"]`.
        slices: In a batch of the loader; None for nowhere.
        group: Likewise.
        labels: Name of the model's own argument that holds the targets; None for nowhere.
        loss: In what the model returns; by default its `.loss` or `["loss"]`.
        shift: Whether each answer is about the next target, as in a causal language model.
        several: Whether there are several outputs.
    """

    preds: Extractor | Mapping[str, Extractor] | None = None
    target: Extractor | Mapping[str, Extractor] | None = None
    slices: Extractor | None = None
    group: Extractor | None = None
    labels: str | None = None
    loss: Extractor | None = None
    shift: bool = False
    several: bool = False

    def target_of(self, preds: Any, batch: Any) -> Any:
        """The targets in a loader's batch, on the device of the predictions."""
        if self.target is not None:
            target = _extracted(self.target, batch)
        elif isinstance(batch, list | tuple) and len(batch) > 1:
            target = batch[1]
        else:
            target = _labels_in(batch)
        plain = type(preds) is Tensor and type(target) is Tensor
        if not plain or target.device != preds.device:
            target = _targets_beside(preds, target, batch)
        return target

    def ids_of(self, preds: Any, batch: Any) -> dict[str, Any]:
        """The slices and groups in a loader's batch."""
        if self.slices is None and self.group is None:
            return {}
        first = preds
        if isinstance(preds, Mapping):
            first = next(iter(preds.values()))
        ids = {}
        for name, extract in (("slices", self.slices), ("group", self.group)):
            if extract is not None:
                found = extract(batch)
                if found is not None:
                    ids[name] = found.to(first.device, non_blocking=True)
        return ids

    def predictions(self, output: Any) -> Any:
        """The predictions in what a model returned.

        Raises:
            DtypeError: If there are none.
        """
        if self.preds is not None:
            return _extracted(self.preds, output)
        if type(output) is Tensor:
            return output
        if self.several and _all_tensors(output):
            return output
        found = getattr(output, "logits", output)
        if isinstance(found, Mapping):
            found = found.get("logits", found.get("out"))
        elif isinstance(found, list | tuple) and found:
            found = found[0]
        if not isinstance(found, Tensor):
            cure = "Say where they are: attach(model, preds=lambda output: …)."
            got = type(output).__name__
            raise DtypeError("model output", "a tensor, or logits in it", got, cure)
        return found

    def labels_in_call(self, model: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """The targets among the arguments that the model was called with; None where it had none.

        Those of the name that was told; else a keyword argument `labels` or `label`.
        """
        if self.labels is None:
            return _labels_in(kwargs)
        if self.labels in kwargs:
            return kwargs[self.labels]
        position = _position(type(model).forward, self.labels)
        if position is not None and position < len(args):
            return args[position]
        return None

    def as_labelled(self, preds: Any, target: Any) -> tuple[Any, Any]:
        """Predictions beside the labels that the model was given, as a criterion compares them."""
        if isinstance(preds, Tensor) and isinstance(target, Tensor):
            target = target.to(preds.device, non_blocking=True)
            if self.shift:
                preds, target = shifted(preds, target)
            if preds.ndim == 3 and target.ndim == 2:
                preds = preds.movedim(-1, 1)  # as language models return them: classes last
        return preds, target

    def loss_of(self, output: Any) -> Any:
        """The loss in what a model returned; None where there is none."""
        if self.loss is not None:
            return self.loss(output)
        return loss_in(output)


def loss_in(output: Any) -> Any:
    """The loss in what a model or a criterion returned; None where there is none."""
    if isinstance(output, Mapping):
        return output.get("loss")
    found = getattr(output, "loss", None)
    if found is None and isinstance(output, list | tuple):
        alone = [part for part in output if isinstance(part, Tensor) and part.ndim == 0]
        if len(alone) == 1:
            found = alone[0]
    return found


def is_causal(model: nn.Module) -> bool:
    """Whether a model's type says that each answer is about the next token."""
    inner: Any = model
    for _ in range(len(_WRAPPED)):
        if type(inner).__name__.endswith(_CAUSAL):
            return True
        inner = next((getattr(inner, n) for n in _WRAPPED if hasattr(inner, n)), None)
        if not isinstance(inner, nn.Module):
            return False
    return False


def shifted(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, T, C) and tokens (N, T) as answers about the next token, without the last."""
    return preds[:, :-1], target[:, 1:]


def losses_of_shifts(preds: Any, target: Any, loss: Any, ignored: int) -> Tensor | None:
    """The model's own loss, and the likelihoods of its targets as they are and shifted by one.

    Returns:
        Shape (3,), on the device; None where there is nothing to tell them by.
    """
    tensors = all(isinstance(each, Tensor) for each in (preds, target, loss))
    if not tensors or loss.ndim or preds.ndim != 3 or target.ndim != 2:
        return None
    if preds.numel() > MOST_LOOKED_AT or target.shape[1] < 3 or target.is_floating_point():
        return None
    found = [loss.detach().double()]
    for answers, truth in ((preds, target), shifted(preds, target)):
        kept = truth != ignored
        places = truth.masked_fill(~kept, 0).unsqueeze(-1)
        likelihoods = answers.detach().double().log_softmax(-1).gather(-1, places).squeeze(-1)
        found.append(-(likelihoods * kept).sum() / kept.sum())
    return torch.stack(found)


def tensors_in(found: Any, depth: int = 2) -> list[Tensor]:
    """The tensors in the lists, tuples, dictionaries and plain objects of a structure."""
    if isinstance(found, Tensor):
        return [found]
    tensors: list[Tensor] = []
    if depth:
        if isinstance(found, Mapping):
            parts = list(found.values())
        elif isinstance(found, list | tuple):
            parts = list(found)
        else:
            parts = list(getattr(found, "__dict__", {}).values())
        for part in parts[:64]:
            tensors.extend(tensors_in(part, depth - 1))
    return tensors


class CriterionCall(NamedTuple):
    """What a criterion was called with, and how it makes one number of many.

    Attributes:
        preds: Its first argument.
        target: Its second argument.
        reduction: By torch's word.
        ignore_index: The target that a loss of classes leaves out; None for other losses.
        weight: Weight of each class, by which a mean is taken; None for none.
        again: What computes the loss again, of other predictions and targets; None where it was
            given more than these.
    """

    preds: Any
    target: Any
    reduction: str = "mean"
    ignore_index: int | None = None
    weight: Tensor | None = None
    again: Any = None


_LOSSES_OF_ELEMENTS = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)
_OF_ELEMENTS = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
_LOSSES_OF_CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss)
_OF_CLASSES = ("cross_entropy", "nll_loss")


def criterion_call(criterion: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> CriterionCall:
    """Read a call of a loss, a module or a function.

    Raises:
        HookError: If it had no predictions and targets.
    """
    if len(args) == 2 and not kwargs:
        preds, target = args
        again = criterion
    else:
        preds, target = _criterion_arguments(args, kwargs)
        again = None if kwargs else criterion
    if isinstance(criterion, _LOSSES_OF_CLASSES):
        weight = criterion._buffers.get("weight")  # quicker than by its name
        reduction = criterion.reduction
        return CriterionCall(preds, target, reduction, criterion.ignore_index, weight, again)
    if isinstance(criterion, nn.Module):
        reduction = getattr(criterion, "reduction", "mean")
        if not isinstance(reduction, str):
            reduction = "mean"
        return CriterionCall(preds, target, reduction, again=again)
    bound = _bound(criterion, args, kwargs)
    reduction = bound.get("reduction", "mean")
    if getattr(criterion, "__name__", "") not in _OF_CLASSES:
        return CriterionCall(preds, target, reduction, again=again)
    ignored = bound.get("ignore_index", -100)
    return CriterionCall(preds, target, reduction, ignored, bound.get("weight"), again)


def how_shapes_met(criterion: Any, call: CriterionCall) -> str:
    """How predictions and targets of unlike shapes met, element by element; "" where they did not.

    Known of torch's own losses, of which each takes (N, 1) and (N,) for N² pairs.
    """
    preds, target = call.preds, call.target
    known = type(criterion) in _LOSSES_OF_ELEMENTS
    if not known and getattr(criterion, "__name__", "") not in _OF_ELEMENTS:
        return ""
    if not isinstance(preds, Tensor) or not isinstance(target, Tensor):
        return ""
    shapes = preds.shape, target.shape
    pairs = math.prod(np.broadcast_shapes(*shapes))
    if pairs == max(preds.numel(), target.numel()) or not pairs:
        return ""
    return (
        f"predictions of shape {tuple(shapes[0])} were broadcast against targets of shape "
        f"{tuple(shapes[1])}, so that the loss is that of {pairs} pairs"
    )


def _bound(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    signature = _signature(function)
    if signature is None:
        return dict(kwargs)
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


@lru_cache(maxsize=64)
def _signature(function: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


@lru_cache(maxsize=64)
def _position(forward: Any, name: str) -> int | None:
    """Where an argument stands among those that a model's `forward` takes by position."""
    signature = _signature(forward)
    if signature is None or name not in signature.parameters:
        return None
    return list(signature.parameters).index(name) - 1  # without self


def _labels_in(found: Any) -> Any:
    if isinstance(found, Mapping):
        for key in LABEL_KEYS:
            if isinstance(found.get(key), Tensor):
                return found[key]
    return None


def _extracted(extractor: Extractor | Mapping[str, Extractor], source: Any) -> Any:
    if isinstance(extractor, Mapping):
        return {name: extract(source) for name, extract in extractor.items()}
    return extractor(source)


def _all_tensors(found: Any) -> bool:
    return isinstance(found, Mapping) and all(isinstance(v, Tensor) for v in found.values())


def _targets_beside(preds: Any, target: Any, batch: Any) -> Any:
    """Targets on the device of the predictions.

    Raises:
        DtypeError: If there are none.
    """
    if isinstance(target, Tensor) and isinstance(preds, Tensor):
        return target.to(preds.device, non_blocking=True)
    if _all_tensors(target) and isinstance(preds, Mapping):
        moved = {}
        for name, values in target.items():
            moved[name] = values
            if name in preds:
                moved[name] = values.to(preds[name].device, non_blocking=True)
        return moved
    cure = "Say where they are: attach(model, target=lambda batch: …)."
    raise DtypeError("batch", "a pair (inputs, targets)", type(batch).__name__, cure)


def _criterion_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Predictions and targets of a call: by the names `input` and `target`, else in their order.

    Raises:
        HookError: If there are no two of them.
    """
    named: dict[str, Any] = {name: kwargs[name] for name in ("input", "target") if name in kwargs}
    named.update(kwargs)  # those of other names come last
    values = [*args, *named.values()]
    if len(values) < 2:
        rule = "a call with predictions and targets"
        cure = "Call it with both, or hand them over with monitor.update()."
        raise HookError("criterion", rule, f"{len(values)} argument", cure)
    return values[0], values[1]
