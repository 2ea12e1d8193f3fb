"""AUROC, average precision and the curve behind them, from a histogram or from the stored scores themselves."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ptmetrics.counts.cells import State
from ptmetrics.counts.histogram import ScoreHistogram
from ptmetrics.counts.keys import CurveKeys, FloatKeys
from ptmetrics.counts.stored import StoredScores
from ptmetrics.metrics.curves import ScoreBins, auroc, average_precision
from ptmetrics.metrics.estimate import Estimate
from ptmetrics.metrics.score import Score
from ptmetrics.metrics.score_curve import ScoreCurve

SCORES = {"auroc": auroc, "average_precision": average_precision}
TOLERANCE = {"auroc": 1e-3, "average_precision": 5e-3}  # an error bound above it earns a note
FINE = FloatKeys(16)


@dataclass(frozen=True)
class Ranking:
    """What is known about the order of the scores.

    Attributes:
        keys: What a row of the histogram means.
        binned: The histogram.
        stored: The stored scores, one row a value, and their values; None where none are stored.
        fits: Int64 of shape (1,): 1 where all scores were stored, so that these are to be used.
        probs: Whether predictions are probabilities, and not logits.
    """

    keys: CurveKeys
    binned: ScoreBins
    stored: tuple[ScoreBins, Tensor] | None
    fits: Tensor
    probs: bool

    @classmethod
    def of(
        cls,
        state: State,
        histogram: ScoreHistogram[CurveKeys],
        store: StoredScores | None,
        *,
        probs: bool,
    ) -> "Ranking":
        """Read the state; scores that carry weights are taken from the histogram."""
        binned = ScoreBins.of(state, histogram)
        if store is None or f"{histogram.name}_weight" in state:
            return cls(histogram.keys, binned, None, torch.zeros_like(binned.count[:1, 0]), probs)
        fits = (state["scores_seen"] <= store.capacity).long()
        return cls(histogram.keys, binned, ScoreBins.of_stored(state["scores"]), fits, probs)

    def estimates(self) -> dict[str, Estimate]:
        """The named scores, still on the device."""
        binned = self.binned.without_gaps()
        if self.stored is None:
            return {name: score(binned) for name, score in SCORES.items()}
        exact = self.stored[0]
        return {
            name: _either(self.fits, score(exact), score(binned)) for name, score in SCORES.items()
        }

    def curve(self, *, fits: bool) -> ScoreCurve:
        """The curve, once `fits` was read."""
        if fits and self.stored is not None:
            bins, values = self.stored
            return ScoreCurve(bins.weight, values, self.probs)
        weighted = (
            self.binned.weight is not self.binned.square
        )  # one tensor where no weight was ever given
        return ScoreCurve(self.binned.weight, self.keys, self.probs, weighted)


def notes(scores: Mapping[str, Score], keys: CurveKeys) -> list[str]:
    """A sentence for each score whose error bound passes its tolerance: the bound, and what would hold it."""
    return [
        f"{name}: its error bound {scores[name].error_bound:.2g} passes {tolerance:g}. "
        f"{_cure(scores[name].error_bound, tolerance, keys)}"
        for name, tolerance in TOLERANCE.items()
        if name in scores and scores[name].error_bound > tolerance
    ]


def _cure(bound: float, tolerance: float, keys: CurveKeys) -> str:
    finer = 2.0 ** (keys.digits - FINE.digits)
    if bound * finer <= tolerance and finer < 1:
        return 'Many scores lie close together; curves="fine" would tell them apart.'
    return (
        'Many scores lie close together or tie; curves="exact" with room for all of them is exact.'
    )


def _either(first: Tensor, a: Estimate, b: Estimate) -> Estimate:
    """`a` where `first` is not 0, else `b`, which has the same n, method and reason."""
    which = first[0] > 0
    value, low, high = (
        torch.where(which, x, y) for x, y in ((a.value, b.value), (a.low, b.low), (a.high, b.high))
    )
    bound = None
    if a.error_bound is not None and b.error_bound is not None:
        bound = torch.where(which, a.error_bound, b.error_bound)
    return Estimate(value, low, high, b.n, b.method, b.reason, b.higher_is_better, bound)
