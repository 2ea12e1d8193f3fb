"""AUROC and average precision of many scores beside the peers.

Time, actual error, certified bound, memory.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

import ptmetrics as pm
from ptmetrics.bench.timing import Clock, Quartiles, host_clock, race
from ptmetrics.counts.score_histogram import Curves


@dataclass(frozen=True)
class CurveRow:
    """Update and compute of all scores at once.

    Attributes:
        side: Who.
        seconds: Median, with its quartiles.
        ratio: Time over ours in the same round, with quartiles.
        error: Distance of AUROC and average precision from the exact values.
        bound: Our certified bound on that distance; None where there is none.
    """

    side: str
    seconds: Quartiles
    ratio: Quartiles
    error: tuple[float, float]
    bound: tuple[float, float] | None


@dataclass(frozen=True)
class BytesRow:
    """Bytes of state after so many scores, by side."""

    rows: int
    state_bytes: Mapping[str, int]


def curve_rows(
    modules: Mapping[str, Any],
    count: int,
    rounds: int,
    device: str = "cpu",
    clock: Clock = host_clock,
) -> Iterator[CurveRow]:
    """Time each side on `count` float32 scores, one positive in ten.

    scikit-learn takes part on a CPU only, our finer histogram, of 126 MiB, elsewhere only.
    """
    preds, target = (values.to(device) for values in rare_scores(count))
    kinds: dict[str, Curves] = {"ptmetrics": "fp16"}
    if device != "cpu":
        kinds["ptmetrics, fine"] = "fine"
    calls: dict[str, Callable[[], Any]] = {}
    answers = {}
    bounds = {}
    for name, kind in kinds.items():
        calls[name] = partial(_our_curves, preds, target, kind)
        ours = calls[name]()
        bounds[name] = (ours["auroc"].error_bound, ours["average_precision"].error_bound)
        answers[name] = (ours["auroc"].value, ours["average_precision"].value)
    for name, curves_of in PEER_CURVES.items():
        if name in modules and (device == "cpu" or name != "scikit-learn"):
            calls[name] = partial(curves_of, modules[name], preds, target)
            answers[name] = calls[name]()
    exact = exact_curves(preds, target)
    for name, timing in race(calls, rounds=rounds, least_s=0, clock=clock).items():
        auroc, precision = answers[name]
        median, low, high = timing.microseconds
        yield CurveRow(
            name,
            (median / 1e6, low / 1e6, high / 1e6),
            timing.ratio,
            error=(abs(float(auroc) - exact[0]), abs(float(precision) - exact[1])),
            bound=bounds.get(name),
        )


def rare_scores(count: int) -> tuple[Tensor, Tensor]:
    """Float32 scores of a rare class, one standard deviation higher for positives."""
    g = torch.Generator().manual_seed(0)
    target = (torch.rand(count, generator=g) < 0.1).long()
    return (torch.randn(count, generator=g) + target - 2).sigmoid(), target


def exact_curves(preds: Tensor, target: Tensor) -> tuple[float, float]:
    """AUROC and average precision from one sort in float64, equal scores together."""
    order = preds.sort(descending=True).indices
    value = preds[order]
    last_of_its_value = torch.ones_like(value, dtype=torch.bool)
    last_of_its_value[:-1] = value[1:] != value[:-1]
    true = target[order].double().cumsum(0)[last_of_its_value]
    seen = torch.arange(1, len(value) + 1, device=value.device)[last_of_its_value]
    false = seen - true
    zero = true.new_zeros(1)
    area = torch.trapezoid(torch.cat((zero, true)), torch.cat((zero, false)))
    steps = torch.diff(true, prepend=zero)
    precision = (steps * true / seen).sum() / true[-1]
    return float(area / (true[-1] * false[-1])), float(precision)


def bytes_rows(modules: Mapping[str, Any], counts: Sequence[int]) -> Iterator[BytesRow]:
    """How the state grows with the number of scores; that of the peers holds every score."""
    for count in counts:
        batch = rare_scores(count)
        ours = pm.BinaryMetrics(inputs="probs", losses=False)
        ours.update(*batch)
        sizes = {"ptmetrics": tensor_bytes(ours.state_dict())}
        if "torchmetrics" in modules:
            exact = modules["torchmetrics"].classification.BinaryAUROC(validate_args=False)
            exact.update(*batch)
            sizes["torchmetrics"] = tensor_bytes((exact.preds, exact.target))
        if "torcheval" in modules:
            area = modules["torcheval"].BinaryAUROC()
            area.update(*batch)
            sizes["torcheval"] = tensor_bytes(area.state_dict())
        yield BytesRow(count, sizes)


def tensor_bytes(state: Any) -> int:
    """Bytes of all tensors in nested containers."""
    tensors = [leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _our_curves(preds: Tensor, target: Tensor, kind: Curves) -> Any:
    metrics = pm.BinaryMetrics(inputs="probs", losses=False, curves=kind)
    metrics.update(preds, target)
    return metrics.compute()


def _torchmetrics_curves(tm: Any, preds: Tensor, target: Tensor) -> tuple[Any, Any]:
    auroc = tm.classification.BinaryAUROC(validate_args=False)
    precision = tm.classification.BinaryAveragePrecision(validate_args=False)
    group = tm.MetricCollection({"auroc": auroc, "precision": precision})
    group.update(preds, target)
    computed = group.compute()
    return computed["auroc"], computed["precision"]


def _torcheval_curves(te: Any, preds: Tensor, target: Tensor) -> tuple[Any, Any]:
    auroc = te.BinaryAUROC()
    precision = te.BinaryAUPRC()
    auroc.update(preds, target)
    precision.update(preds, target)
    return auroc.compute(), precision.compute()


def _sklearn_curves(sk: Any, preds: Tensor, target: Tensor) -> tuple[Any, Any]:
    y = target.numpy()
    score = preds.numpy()
    return sk.roc_auc_score(y, score), sk.average_precision_score(y, score)


PEER_CURVES: dict[str, Callable[[Any, Tensor, Tensor], tuple[Any, Any]]] = {
    "torchmetrics": _torchmetrics_curves,
    "torcheval": _torcheval_curves,
    "scikit-learn": _sklearn_curves,
}
