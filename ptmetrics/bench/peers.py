"""Metrics of other libraries behind one `update` and one `scores`, and ours in the same dress."""

import importlib
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

Task = Literal["multiclass", "binary", "multilabel", "regression"]
Makers = dict[str, Callable[[], Any]]  # name of a score to what makes the peer's metric of it
PEERS = {
    "torchmetrics": "torchmetrics",
    "torcheval": "torcheval.metrics",
    "pytorch-ignite": "ignite.metrics",
    "scikit-learn": "sklearn.metrics",
}


@dataclass(frozen=True)
class Competitor:
    """One competitor.

    Attributes:
        name: Who.
        update: How it takes a batch.
        scores: Its scores by our names; a matrix is a nested list.
        compute: The same as it gives them itself; None if it has no such call.
    """

    name: str
    update: Callable[[Tensor, Tensor], object]
    scores: Callable[[], Mapping[str, Any]]
    compute: Callable[[], object] | None = None


def installed() -> tuple[dict[str, Any], list[str]]:
    """The modules of the peers that there are, and the names of those that there are not."""
    modules: dict[str, Any] = {}
    for name, path in PEERS.items():
        with warnings.catch_warnings(), suppress(ImportError):
            warnings.simplefilter("ignore")  # of what they use that torch has marked as old
            modules[name] = importlib.import_module(path)
    return modules, [name for name in PEERS if name not in modules]


def peer_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of peers that are imported, by name."""
    versions = {}
    for name in names:
        package = sys.modules[PEERS[name].split(".")[0]]
        versions[name] = str(getattr(package, "__version__", "?"))
    return versions


def our_side(name: str, metrics: Any) -> Competitor:
    """A metric of ptmetrics as a side."""

    def scores() -> dict[str, Any]:
        computed = metrics.compute()
        values = {score: estimate.value for score, estimate in computed.items()}
        if computed.confusion is not None:
            values["confusion"] = computed.confusion.tolist()
        return values

    return Competitor(name, metrics.update, scores, metrics.compute)


def peer_sides(
    modules: Mapping[str, Any], task: Task, size: int, wanted: Iterable[str], device: str = "cpu"
) -> list[Competitor]:
    """Every installed peer that has a metric for a wanted score, and plain PyTorch for classes.

    Args:
        modules: What `installed` found.
        task: Kind of predictions.
        size: Number of classes or labels.
        wanted: Names of our scores; a peer computes those of them that it has, and nothing else.
        device: Where they count; ignite takes part on a CPU only.
    """
    names = set(wanted)
    found = []
    for peer, makers_of in MAKERS.items():
        if peer not in modules or (peer == "pytorch-ignite" and device != "cpu"):
            continue
        makers = makers_of(modules[peer], task, size)
        metrics = {name: make() for name, make in makers.items() if name in names}
        if not metrics:
            continue
        if device != "cpu":
            for metric in metrics.values():
                metric.to(device)
        if peer == "torchmetrics":
            found.append(_collection(modules[peer], metrics))
        else:
            found.append(_one_by_one(peer, metrics))
    if task == "multiclass" and "confusion" in names:
        found.append(plain_pytorch(size, names))
    return found


def plain_pytorch(classes: int, wanted: Iterable[str]) -> Competitor:
    """What a careful user writes by hand, on the device.

    Arg-max and bincount, top-5, sum of the losses.
    """
    names = {"accuracy", "confusion", "top5_accuracy", "nll"}.intersection(wanted)
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
            add("nll", cross_entropy(preds, target, reduction="sum").double())

    def scores() -> dict[str, Any]:
        matrix = sums["confusion"]
        values = {name: total / matrix.sum() for name, total in sums.items()}
        values["confusion"] = matrix
        values["accuracy"] = matrix.trace() / matrix.sum()
        return {name: _in_python(values[name]) for name in names}

    return Competitor("plain PyTorch", update, scores)


def _torchmetrics_makers(tm: Any, task: Task, size: int) -> Makers:
    """Without its checks of values, which are where it is slowest."""
    if task == "regression":
        return {
            "mse": tm.MeanSquaredError,
            "mae": tm.MeanAbsoluteError,
            "r2": tm.R2Score,
            "explained_variance": tm.ExplainedVariance,
            "pearson": tm.PearsonCorrCoef,
        }
    sizes = {"multiclass": {"num_classes": size}, "multilabel": {"num_labels": size}, "binary": {}}
    binary = task == "binary"

    def maker(name: str, **options: Any) -> Callable[[], Any]:
        kind = getattr(tm.classification, f"{task.capitalize()}{name}")
        # What was computed is not kept: it would be given again until the next update.
        return lambda: kind(validate_args=False, compute_with_cache=False, **sizes[task], **options)

    makers = {}
    for ours, theirs in (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1Score")):
        if binary:
            makers[ours] = maker(theirs)
        else:
            makers[f"{ours}/macro"] = maker(theirs, average="macro")
    if binary:
        makers["accuracy"] = maker("Accuracy")
    if task == "multiclass":
        makers["accuracy"] = maker("Accuracy", average="micro")
        makers["top5_accuracy"] = maker("Accuracy", average="micro", top_k=5)
        makers["ece"] = maker("CalibrationError", n_bins=15, norm="l1")
    if task != "multilabel":
        makers["confusion"] = maker("ConfusionMatrix")
    return makers


def _torcheval_makers(te: Any, task: Task, size: int) -> Makers:
    if task == "regression":
        return {"mse": te.MeanSquaredError, "r2": te.R2Score}
    if task == "binary":
        return {
            "accuracy": te.BinaryAccuracy,
            "precision": te.BinaryPrecision,
            "recall": te.BinaryRecall,
            "f1": te.BinaryF1Score,
            "confusion": te.BinaryConfusionMatrix,
        }
    if task == "multilabel":
        return {"exact_match": te.MultilabelAccuracy}
    macro = {"num_classes": size, "average": "macro"}
    return {
        "accuracy": lambda: te.MulticlassAccuracy(),
        "precision/macro": lambda: te.MulticlassPrecision(**macro),
        "recall/macro": lambda: te.MulticlassRecall(**macro),
        "f1/macro": lambda: te.MulticlassF1Score(**macro),
        "confusion": lambda: te.MulticlassConfusionMatrix(size),
        "top5_accuracy": lambda: te.MulticlassAccuracy(k=5),
    }


def _ignite_makers(ig: Any, task: Task, size: int) -> Makers:
    if task == "regression":
        return {"mse": ig.MeanSquaredError, "mae": ig.MeanAbsoluteError}
    if task != "multiclass":
        return {}  # its binary and multilabel metrics take decisions, not scores
    return {
        "accuracy": lambda: ig.Accuracy(),
        "precision/macro": lambda: ig.Precision(average=True),
        "recall/macro": lambda: ig.Recall(average=True),
        "confusion": lambda: ig.ConfusionMatrix(size),
        "top5_accuracy": lambda: ig.TopKCategoricalAccuracy(5),
    }


MAKERS: dict[str, Callable[[Any, Task, int], Makers]] = {
    "torchmetrics": _torchmetrics_makers,
    "torcheval": _torcheval_makers,
    "pytorch-ignite": _ignite_makers,
}


def _collection(tm: Any, metrics: Mapping[str, Any]) -> Competitor:
    """A collection shares what metrics have in common, as its users are told to."""
    ours_by_theirs = {name.replace("/", "_"): name for name in metrics}
    group = tm.MetricCollection({name: metrics[ours] for name, ours in ours_by_theirs.items()})

    def scores() -> dict[str, Any]:
        return {ours_by_theirs[name]: _in_python(value) for name, value in group.compute().items()}

    return Competitor("torchmetrics", group.update, scores, group.compute)


def _one_by_one(peer: str, metrics: Mapping[str, Any]) -> Competitor:
    def update(preds: Tensor, target: Tensor) -> None:
        for metric in metrics.values():
            if peer == "pytorch-ignite":
                metric.update((preds, target))
            else:
                metric.update(preds, target)

    def scores() -> dict[str, Any]:
        return {name: _in_python(metric.compute()) for name, metric in metrics.items()}

    return Competitor(peer, update, scores)


def _in_python(value: Any) -> Any:
    return torch.as_tensor(value).tolist()
