"""Scores at a point of a curve that is asked for by name: "recall@precision>=0.9", "auroc@fpr<=0.1", "eer"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ptmetrics.errors import ConfigError
from ptmetrics.metrics.estimate import Array
from ptmetrics.metrics.intervals import FEW, Z, widened_area, wilson
from ptmetrics.metrics.score_bins import ScoreBins, area_up_to

EER = "eer"
RATE = "recall|sensitivity|tpr|specificity|tnr|precision"
SHARE = r"(0?\.[0-9]+|1|1\.0)"
FORM = re.compile(rf"({RATE})@({RATE})>={SHARE}|({RATE}|auroc)@(fpr)<={SHARE}")
ALIASES = {"sensitivity": "recall", "tpr": "recall", "tnr": "specificity"}
CURE = 'Pass at=["recall@precision>=0.9", "tpr@fpr<=0.01", "auroc@fpr<=0.1", "eer"].'


@dataclass(frozen=True)
class FixedPoint:
    """A score at a point of a curve.

    Attributes:
        name: As it was given; the score is called so.
        score: The score that is wanted.
        held: The rate that is held.
        share: What it is held to.

    Example:
        >>> FixedPoint.read("tpr@fpr<=0.01")
        FixedPoint(name='tpr@fpr<=0.01', score='recall', held='fpr', share=0.01)
    """

    name: str
    score: str
    held: str
    share: float

    @classmethod
    def read(cls, name: object) -> FixedPoint:
        """The point of a name.

        Raises:
            ConfigError: If it is none.
        """
        if name == EER:
            return cls(EER, EER, "", 0.0)
        found = FORM.fullmatch(str(name))
        if found is None:
            rule = '"X@Y>=share" of recall, precision, specificity, "X@fpr<=share", or "eer"'
            raise ConfigError("at", rule, repr(name), CURE)
        score, held, share = (part for part in found.groups() if part)
        return cls(found.string, ALIASES.get(score, score), ALIASES.get(held, held), float(share))

    def numbers(self, bins: ScoreBins) -> tuple[Tensor, ...]:
        """Five numbers that the estimate needs, each of shape (…).

        The value and the most that it can be (a mean of rates: the farthest); then for a partial
        area its variance, else how many samples are called positive, and the values where the rate
        that is held errs to either side. At the true threshold that rate is the share, and what is
        seen of it has the variance of the share.
        """
        if self.score == "auroc":
            value, variance, bound = area_up_to(bins, self.share)
            return value, value + bound, variance, value, value
        d = bins.descent
        tp = functional.pad(d.tp, (1, 0))
        fp = functional.pad(d.fp, (1, 0))
        loose = functional.pad(d.n.masked_fill(d.tied, 0.0), (1, 0))
        rates = rates_of(tp, fp, tp, fp)
        best = rates_of(tp, fp - loose, tp, fp)  # a row's positives before its negatives
        sizes = bins.sizes().unsqueeze(-1)
        if self.score == EER:
            return _equal_error(rates, best, sizes)
        held = rates[self.held]
        share = self.share
        if self.held == "fpr":
            share = -share
        values = rates[self.score]

        def highest(least: Tensor | float) -> Tensor:
            return torch.where(held >= least, values, 0.0).amax(-1, keepdim=True)

        value = highest(share)
        place = ((held >= share) & (values == value)).long().argmax(-1, keepdim=True)
        scale = sizes.sum(0) / (tp + fp)[..., -1:]
        called = (tp + fp).gather(-1, place) * scale
        size = sizes[int(self.held == "recall")]
        if self.held == "precision":
            size = called.clamp(min=1.0)
        error = Z * (self.share * (1 - self.share) / size).sqrt()
        most = torch.where(best[self.held] >= share, best[self.score], 0.0).amax(-1, keepdim=True)
        one_side = (tp[..., -1:] * fp[..., -1:]) == 0
        found = (value, most, called, highest(share + error), highest(share - error))
        return tuple(x.masked_fill(one_side, torch.nan).squeeze(-1) for x in found)

    def estimate(self, sizes: Array, numbers: Array) -> tuple[Array, Array, Array, Array]:
        """Value, low, high and error bound.

        The doubt of the score at a threshold, Wilson's, and that of the threshold are added up as
        squares; a partial area has the intervals of a whole one.

        Args:
            sizes: Effective numbers of negatives and positives.
            numbers: Those of `numbers`.
        """
        value, most, third, tight, loose = numbers
        negatives, positives = sizes
        if self.score == "auroc":
            seen = negatives * self.share
            few = np.minimum(seen, positives) < FEW
            low, high = widened_area(value, third, positives, seen, few)
            return value, low, high, most - value
        size = {"recall": positives, "specificity": negatives}.get(self.score, third)
        least, top = wilson(value, size)
        low = value - np.hypot(value - least, value - np.minimum(tight, value))
        high = value + np.hypot(top - value, np.maximum(loose, value) - value)
        return value, low, high, most - value


def points_of(at: Sequence[str]) -> tuple[FixedPoint, ...]:
    """The points that the argument `at` names.

    Raises:
        ConfigError: If one is none, or given twice.
    """
    if isinstance(at, str) or len(set(at)) < len(at):
        raise ConfigError("at", "a list of different names", repr(at), CURE)
    return tuple(map(FixedPoint.read, at))


def rates_of(tp: Tensor, fp: Tensor, all_tp: Tensor, all_fp: Tensor) -> dict[str, Tensor]:
    """Rates at thresholds, all of which are better when they are higher; the last of `all_…` are the totals."""
    negatives = all_fp[..., -1:]
    called = tp + fp
    return {
        "recall": tp / all_tp[..., -1:],
        "specificity": (negatives - fp) / negatives,
        "fpr": -fp / negatives,
        "precision": torch.where(called > 0, tp / called, 1.0),  # nobody was called wrongly
    }


def _equal_error(
    rates: dict[str, Tensor], best: dict[str, Tensor], sizes: Tensor
) -> tuple[Tensor, ...]:
    """The mean of both error rates where they are closest."""
    miss = 1 - rates["recall"]
    gap = miss + rates["fpr"]
    mean = (miss - rates["fpr"]) / 2
    each = (1 / sizes).sum(0)

    def closest(to: Tensor | float) -> Tensor:
        return mean.gather(-1, (gap - to).abs().argmin(-1, keepdim=True))

    value = closest(0.0)
    # Inside the row where the rates meet, each of them lies between its ends.
    meets = (gap[..., :-1] >= 0) & (gap[..., 1:] <= 0) & (best["fpr"] > rates["fpr"])[..., 1:]
    off = torch.maximum(miss.diff().abs(), rates["fpr"].diff().abs()) / 2
    most = value + torch.where(meets, off, 0.0).amax(-1, keepdim=True)
    error = Z * (value * (1 - value) * each).sqrt()
    ends = torch.stack((closest(error), closest(-error)))
    found = (value, most, (4 / each).expand(value.shape), ends.amin(0), ends.amax(0))
    return tuple(x.squeeze(-1) for x in found)
