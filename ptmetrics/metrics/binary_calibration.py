"""How honest yes-or-no probabilities are, from the histogram that the curves come from: no further state."""

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ptmetrics.counts.class_losses import BINS, TEMPERATURES
from ptmetrics.counts.keys import CurveKeys, FloatKeys
from ptmetrics.metrics.calibration import (
    WIDE,
    Reliability,
    ece,
    over_confidence,
    rms_calibration_error,
    temperature,
)
from ptmetrics.metrics.curves import ScoreBins
from ptmetrics.metrics.estimate import Estimate


def calibration_scores(
    bins: ScoreBins, keys: CurveKeys, *, probs: bool, tempered: bool
) -> dict[str, Estimate]:
    """Calibration of the positive's probability, and the gap between confidence and accuracy at ½.

    `ece` and `over_confidence` carry a bound on what rounding to a row's value can do; it is 0 where every score
    is its row's value.

    Args:
        bins: The histogram in the order of the scores.
        keys: What a row means.
        probs: Whether predictions are probabilities, and not logits.
        tempered: Whether to look for the best temperature too.
    """
    score = keys.values(bins.count.device)
    as_probability = probs and not isinstance(keys, FloatKeys)
    p = score if as_probability else score.sigmoid()
    doubt = torch.where(bins.inexact > 0, _width(p), 0.0)
    weight = bins.weight.sum(1)
    total, n = weight.sum(), bins.count.sum()
    slack = (weight * doubt).sum() / total
    edges = ((p + doubt) * WIDE).ceil() - ((p - doubt) * WIDE).ceil()
    astray = torch.where(edges != 0, weight, 0.0).sum() / total
    rows = _reliability(bins, p)
    named = {
        "ece": replace(ece(rows), error_bound=slack + 2 * astray),
        "rms_calibration_error": rms_calibration_error(rows),
        "over_confidence": replace(over_confidence(_gap(bins, p)), error_bound=slack),
    }
    if tempered:
        logit = p.logit() if as_probability else score
        named["temperature"] = temperature(_losses(bins, logit), n)
    return named


def _width(p: Tensor) -> Tensor:
    """The wider gap to a neighbour, which no score of the row is farther away than."""
    gap = p.diff()
    edge = gap.new_zeros(1)
    return torch.maximum(torch.cat((edge, gap)), torch.cat((gap, edge)))


def _reliability(bins: ScoreBins, p: Tensor) -> Reliability:
    cell = ((p * BINS).ceil().long() - 1).clamp(0, BINS - 1)
    wrong, right = bins.weight.unbind(1)
    wrong2, right2 = bins.square.unbind(1)
    sure = bins.weight.sum(1) * p
    parts = (right, wrong, right2, wrong2, sure)
    return Reliability(bins.count.sum(), *(x.new_zeros(BINS).index_add_(0, cell, x) for x in parts))


def _gap(bins: ScoreBins, p: Tensor) -> Tensor:
    """Moments of max(p, 1 − p) − hit, as `moments` has them."""
    sure, positive = torch.maximum(p, 1 - p), p >= 0.5
    hit = torch.stack((~positive, positive), 1).double()
    x = sure.unsqueeze(1) - hit
    w, w2 = bins.weight, bins.square
    n = bins.count.sum().double()
    return torch.stack((n, w.sum(), w2.sum(), (w * x).sum(), (w2 * x).sum(), (w2 * x * x).sum()))


def _losses(bins: ScoreBins, logit: Tensor) -> Tensor:
    """Σ w · loss at each temperature, and Σw behind; rows that are sure without end are left out."""
    counted = torch.where(logit.abs() < math.inf, 1.0, 0.0).unsqueeze(1) * bins.weight
    z = logit.clamp(-1e9, 1e9)
    negative, positive = counted.unbind(1)
    losses = [
        (negative * softplus(z / t) + positive * softplus(-z / t)).sum() for t in TEMPERATURES
    ]
    return torch.stack((*losses, counted.sum()))
