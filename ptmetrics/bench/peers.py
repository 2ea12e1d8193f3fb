"""Metrics of other libraries behind one `update` and one `scores`, and ours in the same dress."""

import importlib
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ptmetrics.metrics.task import TaskMetrics

Task = Literal["multiclass", "binary", "multilabel", "regression"]
PEERS = {"torchmetrics": "torchmetrics", "torcheval": "torcheval.metrics", "pytorch-ignite": "ignite.metrics",
         "scikit-learn": "sklearn.metrics"}  # fmt: skip


@dataclass(frozen=True)
class Side:
    """One competitor: how it takes a batch, and its scores by our names (a matrix as a nested list)."""

    name: str
    update: Callable[[Tensor, Tensor], object]
    scores: Callable[[], Mapping[str, Any]]


def installed() -> tuple[dict[str, Any], list[str]]:
    """The modules of the peers that there are, and the names of those that there are not."""
    found = {name: _module(path) for name, path in PEERS.items()}
    missing = [name for name, module in found.items() if module is None]
    return {name: module for name, module in found.items() if module is not None}, missing


def versions(modules: Iterable[str]) -> dict[str, str]:
    """Their versions, by name."""
    packages = {name: sys.modules[PEERS[name].split(".")[0]] for name in modules}
    return {name: str(getattr(package, "__version__", "?")) for name, package in packages.items()}


def _module(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what they use that torch has marked as old
        try:
            return importlib.import_module(name)
        except ImportError:
            return None


def ours(name: str, metrics: TaskMetrics) -> Side:
    """A metric of ptmetrics as a side."""

    def scores() -> dict[str, Any]:
        got = metrics.compute()
        matrix = {} if got.confusion is None else {"confusion": got.confusion.tolist()}
        return {score: value.value for score, value in got.items()} | matrix

    return Side(name, metrics.update, scores)


def sides(
    modules: Mapping[str, Any], task: Task, size: int, wanted: Iterable[str], device: str = "cpu"
) -> list[Side]:
    """Every installed peer that has a metric for one of the `wanted` names, and plain PyTorch for many classes.

    Args:
        modules: What `installed` found.
        task: Kind of predictions.
        size: Number of classes or labels.
        wanted: Names of our scores; a peer computes those of them that it has, and nothing else.
        device: Where they count; ignite takes part on a CPU only.
    """
    found, names = [], set(wanted)
    for peer, make in (
        ("torchmetrics", _torchmetrics),
        ("torcheval", _torcheval),
        ("pytorch-ignite", _ignite),
    ):
        if peer in modules:
            table = make(modules[peer], task, size)
            metrics = {name: table[name]() for name in table if name in names}
            if metrics and (device == "cpu" or peer != "pytorch-ignite"):
                for metric in metrics.values() if device != "cpu" else ():
                    metric.to(device)
                found.append(_GROUPS[peer](modules[peer], metrics))
    return [*found, plain(size, names)] if task == "multiclass" and "confusion" in names else found


def plain(classes: int, wanted: Iterable[str]) -> Side:
    """What a careful user writes by hand, on the device: arg-max and bincount, top-5, sum of the losses."""
    names = [
        name for name in ("accuracy", "confusion", "top5_accuracy", "nll") if name in set(wanted)
    ]
    sums: dict[str, Tensor] = {}

    def add(name: str, value: Tensor) -> None:
        sums[name] = sums[name] + value if name in sums else value

    def update(preds: Tensor, target: Tensor) -> None:
        cells = torch.bincount(target * classes + preds.argmax(1), minlength=classes * classes)
        add("confusion", cells.reshape(classes, classes))
        if "top5_accuracy" in names:
            best = preds.topk(min(5, classes), dim=1).indices
            add("top5_accuracy", (best == target.unsqueeze(1)).any(1).sum())
        if "nll" in names:
            add("nll", torch.nn.functional.cross_entropy(preds, target, reduction="sum").double())

    def scores() -> dict[str, Any]:
        matrix = sums["confusion"]
        known = {"confusion": matrix, "accuracy": matrix.trace() / matrix.sum()}
        known |= {name: sums[name] / matrix.sum() for name in sums if name != "confusion"}
        return {name: _plain(known[name]) for name in names}

    return Side("plain PyTorch", update, scores)


def _torchmetrics(tm: Any, task: Task, size: int) -> dict[str, Callable[[], Any]]:
    """Without its checks of values, which are where it is slowest."""
    if task == "regression":
        return {"mse": tm.MeanSquaredError, "mae": tm.MeanAbsoluteError, "r2": tm.R2Score,
                "explained_variance": tm.ExplainedVariance, "pearson": tm.PearsonCorrCoef}  # fmt: skip
    kinds = {"multiclass": "num_classes", "binary": "", "multilabel": "num_labels"}
    kind, lib = task.capitalize(), tm.classification
    options: dict[str, Any] = {"validate_args": False} | (
        {kinds[task]: size} if kinds[task] else {}
    )
    macro = {} if task == "binary" else {"average": "macro"}
    end = "" if task == "binary" else "/macro"

    def metric(name: str, **more: Any) -> Callable[[], Any]:
        return lambda: getattr(lib, f"{kind}{name}")(**options, **more)

    table = {f"{our}{end}": metric(name, **macro)
             for our, name in (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1Score"))}  # fmt: skip
    if task != "multilabel":
        table["confusion"] = metric("ConfusionMatrix")
        table["accuracy"] = metric("Accuracy", **({"average": "micro"} if macro else {}))
    if task == "multiclass":
        table["top5_accuracy"] = metric("Accuracy", average="micro", top_k=5)
        table["ece"] = metric("CalibrationError", n_bins=15, norm="l1")
    return table


def _torcheval(te: Any, task: Task, size: int) -> dict[str, Callable[[], Any]]:
    if task == "regression":
        return {"mse": te.MeanSquaredError, "r2": te.R2Score}
    if task == "binary":
        return {"accuracy": te.BinaryAccuracy, "precision": te.BinaryPrecision, "recall": te.BinaryRecall,
                "f1": te.BinaryF1Score, "confusion": te.BinaryConfusionMatrix}  # fmt: skip
    if task == "multilabel":
        return {"exact_match": te.MultilabelAccuracy}
    macro = {"num_classes": size, "average": "macro"}
    return {
        "accuracy": te.MulticlassAccuracy,
        "precision/macro": lambda: te.MulticlassPrecision(**macro),
        "recall/macro": lambda: te.MulticlassRecall(**macro),
        "f1/macro": lambda: te.MulticlassF1Score(**macro),
        "confusion": lambda: te.MulticlassConfusionMatrix(size),
        "top5_accuracy": lambda: te.MulticlassAccuracy(k=5),
    }


def _ignite(ig: Any, task: Task, size: int) -> dict[str, Callable[[], Any]]:
    if task == "regression":
        return {"mse": ig.MeanSquaredError, "mae": ig.MeanAbsoluteError}
    if task != "multiclass":
        return {}  # its binary and multilabel metrics take decisions, not scores
    return {
        "accuracy": ig.Accuracy,
        "precision/macro": lambda: ig.Precision(average=True),
        "recall/macro": lambda: ig.Recall(average=True),
        "confusion": lambda: ig.ConfusionMatrix(size),
        "top5_accuracy": lambda: ig.TopKCategoricalAccuracy(5),
    }


def _collection(tm: Any, metrics: dict[str, Any]) -> Side:
    group = tm.MetricCollection(
        {name.replace("/", "_"): metric for name, metric in metrics.items()}
    )
    ours_by_theirs = {name.replace("/", "_"): name for name in metrics}
    return Side(
        "torchmetrics",
        group.update,
        lambda: {ours_by_theirs[name]: _plain(value) for name, value in group.compute().items()},
    )


def _each(
    name: str, pack: Callable[[Tensor, Tensor], tuple[Any, ...]]
) -> Callable[[Any, dict[str, Any]], Side]:
    def side(module: Any, metrics: dict[str, Any]) -> Side:
        def update(preds: Tensor, target: Tensor) -> None:
            for metric in metrics.values():
                metric.update(*pack(preds, target))

        return Side(
            name, update, lambda: {name: _plain(m.compute()) for name, m in metrics.items()}
        )

    return side


_GROUPS: dict[str, Callable[[Any, dict[str, Any]], Side]] = {
    "torchmetrics": _collection,
    "torcheval": _each("torcheval", lambda preds, target: (preds, target)),
    "pytorch-ignite": _each("pytorch-ignite", lambda preds, target: ((preds, target),)),
}


def _plain(value: Any) -> Any:
    return torch.as_tensor(value).tolist()
