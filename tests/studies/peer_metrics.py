"""What all answers share: the batches of a call, our metrics built and updated with them, and scores read by name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

import ptmetrics as pm
from tests.studies.peer_call import Call, NotOfferedError, as_tensor

Batch: TypeAlias = tuple[Tensor, Tensor, Tensor | None]
Names: TypeAlias = str | Mapping[str, str]
Reader: TypeAlias = Callable[[Call], Any]


def rows_of(call: Call) -> list[Batch]:
    """Predictions, targets and weights."""
    found = []
    for batch in call.batches:
        weight = batch.get("weight")
        if weight is not None:
            weight = as_tensor(weight)
        target = batch.get("target", batch.get("targets"))
        found.append((as_tensor(batch["preds"]), as_tensor(target), weight))
    return found


def flat(batches: Sequence[Batch]) -> list[Batch]:
    """One prediction a row."""
    return [(preds.flatten(), target.flatten(), weight) for preds, target, weight in batches]


def kind_of(call: Call) -> str:
    """What torchmetrics takes predictions for, but over all batches: it asks each batch anew."""
    batches = [as_tensor(batch["preds"]) for batch in call.batches]
    if not any(preds.is_floating_point() for preds in batches) and call.get("kind") != "scores":
        return "labels"
    if all(((preds >= 0) & (preds <= 1)).all() for preds in batches):
        return "probs"
    return "logits"


def asked(task: type[pm.Metrics], *names: str) -> dict[str, Any]:
    """The argument that brings scores which are computed only where they are asked for."""
    optional: set[str] = set()
    for table in getattr(task, "optional_tables", ()):
        optional.update(spec.name for spec in table.specs)
    bare = {name.removeprefix("1-").removeprefix("each:") for name in names}
    at_k = task is pm.MulticlassMetrics
    found = sorted(name for name in bare if name in optional or (at_k and known_at_k(name)))
    if found:
        return {"scores": found}
    return {}


@cache
def known_at_k(name: str) -> bool:
    """Whether a score of the k highest classes can be asked for."""
    at_k = re.fullmatch(r"top(\d+)_(?!accuracy).+", name)
    if at_k is None:
        return False
    k = int(at_k[1])
    try:
        pm.MulticlassMetrics(k + 1, topk=(k,), scores=[name])
    except pm.PtmetricsError:
        return False
    return True


def built(task: type[pm.Metrics], *arguments: Any, **options: Any) -> pm.Metrics:
    """A metric; an option that it does not know is not offered."""
    known = inspect.signature(task).parameters
    for name in options:
        if name not in known:
            raise NotOfferedError(f"{task.__name__}({name}=)")
    return task(*arguments, **options)


def binary(call: Call, batches: Sequence[Batch], **options: Any) -> pm.Scores:
    """All of BinaryMetrics."""
    kind = kind_of(call)
    options.setdefault("curves", None)
    if isinstance(call.get("threshold"), float | int):
        threshold_of(call)
    if kind == "labels":
        options.pop("curves")
    elif isinstance(call.get("threshold"), float | int):
        options["threshold"] = threshold_of(call)
    options.setdefault("ignore_index", call.get("ignore_index"))
    return computed(call, built(pm.BinaryMetrics, inputs=kind, **options), flat(batches))


def threshold_of(call: Call) -> float:
    """The threshold; ours is a probability between 0 and 1."""
    threshold = float(call.get("threshold", 0.5))
    if not 0 < threshold < 1:
        raise NotOfferedError("a threshold that no probability can pass or miss")
    return threshold


def multiclass(call: Call, batches: Sequence[Batch], **options: Any) -> pm.Scores:
    """All of MulticlassMetrics."""
    kind = kind_of(call)
    if batches[0][0].ndim == batches[0][1].ndim:
        kind = "labels"
        batches = [(preds.long(), target, weight) for preds, target, weight in batches]
        options.pop("curves", None)
    else:
        options.setdefault("class_dim", 1)
        if not options.get("curves") and not options.get("losses"):
            kind = "logits"  # the highest wins, whatever they are
    options.setdefault("losses", False)
    options.pop("num_classes", None)
    options.setdefault("ignore_index", call.get("ignore_index"))
    if call.arguments.get("among") is not None:
        options["labels"] = call.arguments["among"]
    metrics = built(pm.MulticlassMetrics, classes_of(call, batches), inputs=kind, **options)
    return computed(call, metrics, batches)


def classes_of(call: Call, batches: Sequence[Batch]) -> int:
    """C, as told, as the scores have, or as the labels go."""
    given = call.get("num_classes")
    if given is not None:
        return int(given)
    preds, target, _ = batches[0]
    if preds.ndim > target.ndim:
        return int(preds.shape[1])
    return max(2, 1 + max(int(x.max()) for batch in batches for x in batch[:2]))


def multilabel(call: Call, batches: Sequence[Batch], **options: Any) -> pm.Scores:
    """All of MultilabelMetrics."""
    kind = kind_of(call)
    labels = call.get("num_labels") or batches[0][0].shape[1]
    if kind != "labels":
        options["threshold"] = threshold_of(call)
    options.setdefault("curves", False)
    options.setdefault("ignore_index", call.get("ignore_index"))
    if call.arguments.get("among") is not None:
        options["labels"] = call.arguments["among"]
    metrics = built(pm.MultilabelMetrics, labels, inputs=kind, class_dim=1, **options)
    return computed(call, metrics, batches)


def multilabel_decisions(call: Call, preds: Tensor) -> Tensor:
    """Which labels are predicted, as `MultilabelMetrics` decides it."""
    if not preds.is_floating_point():
        return preds.double()
    if kind_of(call) == "logits":
        preds = preds.double().sigmoid()
    return (preds >= threshold_of(call)).double()


def computed(call: Call, metrics: pm.Metrics, batches: Sequence[Batch]) -> pm.Scores:
    """The scores of the batches."""
    labels = getattr(metrics, "inputs", "") == "labels"
    for preds, target, weight in batches:
        if not preds.is_floating_point():
            preds = preds.long() if labels else preds.float()
        if metrics.task != "regression":
            target = target.long()
        metrics.update(preds, target, weight)
    scores = metrics.compute()
    for fault in scores.faults.values():
        call.told = str(fault["message"])
    return scores


def total_of(call: Call) -> float:
    """What a mean is multiplied by where its sum is asked for: the weight of the rows."""
    if not call.get("total", False):
        return 1.0
    rows = rows_of(call)
    return sum(float(weight.sum()) if weight is not None else len(y) for _, y, weight in rows)


def score(call: Call, scores: pm.Scores, name: str) -> Any:
    """The score of a name; `each:` and `1-` in front as the module says."""
    if name.startswith("1-"):
        return total_of(call) - np.asarray(score(call, scores, name[2:]))
    if name.startswith("each:"):
        name = name[5:]
        if name not in scores.per_class:
            raise NotOfferedError(f"each:{name}")
        column = list(scores.per_class[name])
        call.bound = max([call.bound, *(each.error_bound for each in column)])
        among = call.arguments.get("among")
        if among is not None:
            column = [column[place] for place in among]
        elif "real_classes" in call.arguments:
            column = column[: call.arguments["real_classes"]]
        return np.array([each.value for each in column])
    if name not in scores:
        raise NotOfferedError(name)
    found = scores[name]
    call.bound = max(call.bound, found.error_bound)
    return found.value * total_of(call)


TASKS: dict[str, Callable[..., pm.Scores]] = {
    "binary": binary,
    "multiclass": multiclass,
    "multilabel": multilabel,
}
OURS: dict[str, type[pm.Metrics]] = {
    "binary": pm.BinaryMetrics,
    "multiclass": pm.MulticlassMetrics,
    "multilabel": pm.MultilabelMetrics,
}


def task_of(call: Call) -> str:
    """Binary, multiclass or multilabel, by the name."""
    return call.metric.split("_")[0]


def averages(name: str, micro: str = "") -> dict[str, str]:
    """The scores of classes by `average=`."""
    return {
        "micro": micro or f"{name}/micro",
        "macro": f"{name}/macro",
        "weighted": f"{name}/weighted",
        "samples": f"{name}/samples",
        "none": f"each:{name}",
    }


def pick(call: Call, names: Names) -> str:
    """The name by `average=`."""
    if isinstance(names, str):
        return names
    average = call.arguments.get("average") or "none"
    if average not in names:
        raise NotOfferedError(f"average={average}")
    return names[average]


def missing(what: str) -> Reader:
    """A metric that ptmetrics does not have."""

    def read(call: Call) -> Any:
        raise NotOfferedError(what)

    return read
