"""AUROC and average precision of each label, a few labels at a time, and their means."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ptmetrics.counts.cells import State
from ptmetrics.counts.label_histogram import LabelHistogram
from ptmetrics.metrics.curves import ScoreBins
from ptmetrics.metrics.estimate import Estimate
from ptmetrics.metrics.ranking import SCORES

ROWS_AT_ONCE = 1 << 18  # bounds the memory that `compute` takes for a moment
NO_LABEL = "no label has targets of both kinds"


def each_ranking(state: State, histogram: LabelHistogram) -> dict[str, Estimate]:
    """AUROC and average precision of each label, shape (L,), with certified bounds."""
    parts = [
        {name: score(bins) for name, score in SCORES.items()} for bins in _pieces(state, histogram)
    ]
    return {name: _joined([part[name] for part in parts]) for name in SCORES}


def mean_ranking(each: Estimate) -> Estimate:
    """Unweighted mean over the labels that have targets of both kinds.

    Labels of the same rows err together in a way that is not counted here, so the interval is the mean of the
    labels' ends: right for any dependence, and too wide for independent labels.
    """
    defined = torch.isnan(each.value).logical_not()
    bound = torch.zeros_like(each.value) if each.error_bound is None else each.error_bound
    value, low, high, bound = (_mean(x, defined) for x in (each.value, each.low, each.high, bound))
    return Estimate(value, low, high, each.n.amax(), "mean-of-ends", NO_LABEL, error_bound=bound)


def _mean(x: Tensor, defined: Tensor) -> Tensor:
    return torch.where(defined, x, 0.0).sum() / defined.sum()


def _pieces(state: State, histogram: LabelHistogram) -> Iterator[ScoreBins]:
    size = max(1, ROWS_AT_ONCE // histogram.keys.rows)
    for first in range(0, histogram.num_labels, size):
        cells = {
            k: v[first : first + size] for k, v in state.items() if k.startswith(histogram.name)
        }
        yield ScoreBins.of(cells, histogram)


def _joined(parts: list[Estimate]) -> Estimate:
    value, low, high, n, bound = (
        torch.cat([getattr(part, field) for part in parts])
        for field in ("value", "low", "high", "n", "error_bound")
    )
    one = parts[0]
    return Estimate(value, low, high, n, one.method, one.reason, one.higher_is_better, bound)
