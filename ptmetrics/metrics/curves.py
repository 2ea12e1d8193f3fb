"""AUROC and average precision on the host: intervals, and certified bounds of their errors."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ptmetrics.counts.keys import CurveKeys, FloatKeys
from ptmetrics.metrics.estimate import Array, Estimate
from ptmetrics.metrics.intervals import FEW, logit_interval, newcombe, widened, wilson
from ptmetrics.metrics.score_spec import ScoreSpec

ONE_SIDE = "the targets hold one class only"
NO_CURVE = "no label has targets of both kinds"
TOLERANCE = {"auroc": 1e-3, "average_precision": 5e-3}  # an error bound above it earns a note
FINE = FloatKeys(16)


def auroc_estimate(summary: Array) -> Estimate:
    """Chance that a positive scores above a negative, ties half; rises, [0, 1], NaN for one class only.

    Error bound: a pair in one row counts ½ and may be worth 0 or 1; pairs of two exact scores are
    true ties.
    Interval: DeLong on the logit scale, joined with Newcombe's method 5 below 100 samples of a
        class.

    Args:
        summary: Of shape (9, …), as `ScoreBins.summary` gives it.

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 1988; Newcombe, Statistics in Medicine
        2006.
    """
    n, negatives, positives, area, variance, bound = summary[:6]
    few = np.minimum(negatives, positives) < FEW
    safe = newcombe(area, positives, negatives)
    low, high = widened(area, logit_interval(area, variance), safe, few)
    n = n.astype(np.int64)
    return Estimate(area, low, high, n, "delong-newcombe", ONE_SIDE, error_bound=bound)


def average_precision_estimate(summary: Array) -> Estimate:
    """Mean precision at the positives, best scores first; rises, (0, 1], NaN for one class only.

    Error bound: in each row the positives may stand before, between or behind the negatives, tied
    or not; the value is the middle of the untied extremes. Where few scores are inexact, it is
    scikit-learn's value for the rows' values, and the bound is what those few could move.
    Interval: delta method on the logit scale, joined with Wilson's for the positives below 100 of
        them.

    Args:
        summary: Of shape (9, …), as `ScoreBins.summary` gives it.

    Source: the extremes from the digamma function; Boyd, Eng and Page, ECML 2013, for the logit
        scale.
    """
    n, _, positives = summary[:3]
    value, variance, bound = summary[6:]
    safe = wilson(value, positives)
    low, high = widened(value, logit_interval(value, variance), safe, positives < FEW)
    n = n.astype(np.int64)
    return Estimate(value, low, high, n, "delta-wilson", ONE_SIDE, error_bound=bound)


def mean_over_heads(each: Estimate) -> Estimate:
    """Unweighted mean over the labels that have targets of both kinds.

    Labels of the same rows err together in a way that is not counted here, so the interval is the
    mean of the labels' ends: right for any dependence, and too wide for independent labels.
    """
    defined = ~np.isnan(each.value)
    value, low, high, bound = (
        np.where(defined, x, 0.0).sum(-1) / defined.sum(-1)
        for x in (each.value, each.low, each.high, np.asarray(each.error_bound))
    )
    n = np.asarray(each.n).max(-1)
    return Estimate(value, low, high, n, "mean-of-ends", NO_CURVE, error_bound=bound)


AUROC = ScoreSpec(
    "auroc",
    None,
    lambda spec, summary, intervals: auroc_estimate(summary),
    doc="Chance that a positive scores above a negative, ties half.",
    undefined=ONE_SIDE,
    source="DeLong et al., Biometrics 1988; Newcombe, Statistics in Medicine 2006",
    method="delong-newcombe",
)
AVERAGE_PRECISION = ScoreSpec(
    "average_precision",
    None,
    lambda spec, summary, intervals: average_precision_estimate(summary),
    doc="Mean precision at the positives, best scores first.",
    undefined=ONE_SIDE,
    source="Boyd, Eng and Page, ECML 2013",
    method="delta-wilson",
)


def _mean_spec(spec: ScoreSpec, estimate: Callable[[Array], Estimate]) -> ScoreSpec:
    """The mean over the labels of a score of each."""
    return replace(
        spec,
        name=f"{spec.name}/macro",
        interval=lambda mean, summary, intervals: mean_over_heads(estimate(summary)),
        doc=f"Mean over the labels that have targets of both kinds. {spec.doc}",
        undefined=NO_CURVE,
        method="mean-of-ends",
    )


CURVE_SPECS = (AUROC, AVERAGE_PRECISION)
"""Scores of the summary of one histogram."""
CURVE_SPECS_OF_HEADS = (
    _mean_spec(AUROC, auroc_estimate),
    _mean_spec(AVERAGE_PRECISION, average_precision_estimate),
    replace(AUROC, each=True),
    replace(AVERAGE_PRECISION, each=True),
)
"""Scores of the summary of several histograms: those of each, and their means."""


def bound_notes(bounds: dict[str, float], keys: CurveKeys) -> list[str]:
    """A sentence for each score whose error bound passes its tolerance: the bound, and what would hold it."""
    notes = []
    for name, tolerance in TOLERANCE.items():
        bound = bounds.get(name, 0.0)
        if bound > tolerance:
            cure = "Many scores lie close together or tie; "
            cure = f'{cure}curves="exact" with room for all of them is exact.'
            finer = 2.0 ** (keys.digits - FINE.digits)
            if bound * finer <= tolerance and finer < 1:
                cure = 'Many scores lie close together; curves="fine" would tell them apart.'
            notes.append(f"{name}: its error bound {bound:.2g} passes {tolerance:g}. {cure}")
    return notes
