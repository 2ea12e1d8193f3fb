"""AUROC and average precision of many scores beside the peers: time, actual error, certified bound, memory."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ptmetrics.bench.timing import Quartiles, race
from ptmetrics.metrics.binary_metrics import BinaryMetrics

Pair = tuple[float, float]
Answer = tuple[Pair, Pair | None]  # AUROC and average precision, and their certified bounds


@dataclass(frozen=True)
class RankingRow:
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
    error: Pair
    bound: Pair | None


@dataclass(frozen=True)
class BytesRow:
    """Bytes of state after so many scores, by side."""

    rows: int
    state_bytes: Mapping[str, int]


def ranking(modules: Mapping[str, Any], count: int, rounds: int) -> Iterator[RankingRow]:
    """Time each side on `count` float32 scores, one positive in ten."""
    preds, target = scores(count)
    sides: Mapping[str, Callable[[], Answer]] = {"ptmetrics": partial(_ours, preds, target)} | {
        name: partial(call, modules[name], preds, target)
        for name, call in _PEERS.items()
        if name in modules
    }
    answers = {name: call() for name, call in sides.items()}
    exact = exactly(preds, target)
    times = race(sides, rounds=rounds, least_s=0, count=False)
    for name, t in times.items():
        (auroc, precision), bound = answers[name]
        error = abs(auroc - exact[0]), abs(precision - exact[1])
        median, low, high = t.microseconds
        yield RankingRow(name, (median / 1e6, low / 1e6, high / 1e6), t.ratio, error, bound)


def scores(count: int) -> tuple[Tensor, Tensor]:
    """Float32 scores of a rare class, one standard deviation higher for positives."""
    g = torch.Generator().manual_seed(0)
    target = (torch.rand(count, generator=g) < 0.1).long()
    return (torch.randn(count, generator=g) + target - 2).sigmoid(), target


def exactly(preds: Tensor, target: Tensor) -> Pair:
    """AUROC and average precision from one sort in float64, equal scores together."""
    order = preds.sort(descending=True).indices
    value, hit = preds[order], target[order].double()
    last = torch.cat(
        (value[1:] != value[:-1], torch.ones(1, dtype=torch.bool))
    )  # of each run of equal scores
    true, seen = hit.cumsum(0)[last], torch.arange(1, len(hit) + 1)[last]
    false = seen - true
    zero = torch.zeros(1, dtype=torch.float64)
    area = torch.trapezoid(torch.cat((zero, true)), torch.cat((zero, false))) / (
        true[-1] * false[-1]
    )
    steps = torch.diff(true, prepend=zero)
    return float(area), float((steps * true / seen).sum() / true[-1])


def state_bytes(modules: Mapping[str, Any], counts: tuple[int, ...]) -> Iterator[BytesRow]:
    """How the state grows with the number of scores; that of the peers holds every score."""
    for count in counts:
        preds, target = scores(count)
        ours = BinaryMetrics(inputs="probs", losses=False)
        ours.update(preds, target)
        sizes = {"ptmetrics": ours.state_bytes}
        if "torchmetrics" in modules:
            exact = modules["torchmetrics"].classification.BinaryAUROC(validate_args=False)
            exact.update(preds, target)
            sizes["torchmetrics"] = _bytes((exact.preds, exact.target))
        if "torcheval" in modules:
            area = modules["torcheval"].BinaryAUROC()
            area.update(preds, target)
            sizes["torcheval"] = _bytes(area.state_dict().values())
        yield BytesRow(count, sizes)


def _ours(preds: Tensor, target: Tensor) -> Answer:
    metrics = BinaryMetrics(inputs="probs", losses=False)
    metrics.update(preds, target)
    got = metrics.compute()
    area, precision = got["auroc"], got["average_precision"]
    return (area.value, precision.value), (area.error_bound, precision.error_bound)


def _torchmetrics(tm: Any, preds: Tensor, target: Tensor) -> Answer:
    lib = tm.classification
    both = lib.BinaryAUROC(validate_args=False), lib.BinaryAveragePrecision(validate_args=False)
    group = tm.MetricCollection({"auroc": both[0], "precision": both[1]})
    group.update(preds, target)
    got = group.compute()
    return (float(got["auroc"]), float(got["precision"])), None


def _torcheval(te: Any, preds: Tensor, target: Tensor) -> Answer:
    both = te.BinaryAUROC(), te.BinaryAUPRC()
    for metric in both:
        metric.update(preds, target)
    return (float(both[0].compute()), float(both[1].compute())), None


def _sklearn(sk: Any, preds: Tensor, target: Tensor) -> Answer:
    y, s = target.numpy(), preds.numpy()
    return (float(sk.roc_auc_score(y, s)), float(sk.average_precision_score(y, s))), None


_PEERS: dict[str, Callable[[Any, Tensor, Tensor], Answer]] = {
    "torchmetrics": _torchmetrics,
    "torcheval": _torcheval,
    "scikit-learn": _sklearn,
}


def _bytes(values: Any) -> int:
    leaves = tree_leaves(list(values))
    return sum(t.numel() * t.element_size() for t in leaves if isinstance(t, Tensor))
