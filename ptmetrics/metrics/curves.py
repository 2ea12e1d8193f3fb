"""AUROC, average precision and points of the curves on the host: intervals, and certified bounds of their errors."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ptmetrics.counts.keys import CurveKeys, ProbabilityKeys
from ptmetrics.counts.score_histogram import (
    FINE,
    MOST_HEADS,
    Curves,
    ScoreHistogram,
    keys_for,
)
from ptmetrics.counts.stored_scores import StoredScores
from ptmetrics.errors import ConfigError
from ptmetrics.metrics import options
from ptmetrics.metrics.estimate import Array, Estimate
from ptmetrics.metrics.fixed_points import EER, FixedPoint, points_of
from ptmetrics.metrics.intervals import FEW, logit_interval, widened, widened_area, wilson
from ptmetrics.metrics.score_bins import BASE, KeptScores
from ptmetrics.metrics.score_spec import ScoreSpec

ONE_SIDE = "the targets hold one class only"
NO_POSITIVE = "no target is positive"
NO_CURVE = "no label has targets of both kinds"
NO_POSITIVE_LABEL = "no label has a positive target"
NOT_ALL_KEPT = 'scores are not all kept: curves="exact" with room for them, and no weights'
TOLERANCE = {"auroc": 1e-3, "average_precision": 5e-3}  # an error bound above it earns a note
KINDS: tuple[Curves, ...] = ("fp16", "fine", "exact")
MOST_BYTES_OF_SCORES = 4 << 30  # of what is kept of scores
AUROC_BOUND = 5  # places in a summary
AP_BOUND = 8
VARIANCES = [4, 7]
POSITIVES = 9
AVERAGED = -1  # which labels or classes averages are over
NUMBERS_OF_POINT = 5  # of a point


def kept_scores(
    histogram: ScoreHistogram,
    inputs: str,
    curves: object,
    capacity: object,
    at: Sequence[str],
    among: tuple[int, ...] | None = None,
) -> KeptScores | None:
    """What a metric keeps for its curves; None for none.

    Args:
        histogram: Name, heads and classes; the keys are chosen here.
        inputs: "logits", "probs" or "labels".
        curves: "fp16", "fine" or "exact"; True for "fp16" where that is possible; False or None.
        capacity: Number of scores that "exact" keeps, of each label or class.
        at: Names of points.
        among: The classes that averages are over; None for all.

    Raises:
        ConfigError: If an argument cannot work, or it would take more than 4 GiB.
    """
    if not options.is_whole(capacity, 1, MOST_BYTES_OF_SCORES >> 3):
        rule = f"a whole number from 1 to {MOST_BYTES_OF_SCORES >> 3}"
        cure = "Pass the number of validation samples; each score takes 8 bytes."
        raise ConfigError("capacity", rule, repr(capacity), cure)
    heads = histogram.heads
    keys: CurveKeys | None = keys_for(math.prod(heads))
    points = points_of(at)
    rule = f"one of {', '.join(KINDS)} (up to {MOST_HEADS} labels or classes), or None"
    cure = 'Pass "fp16", 2 MiB a curve at most.'
    named = isinstance(curves, str) and curves in KINDS
    if not named and not (curves is None or isinstance(curves, bool)):
        raise ConfigError("curves", rule, repr(curves), cure)
    if inputs == "labels" or not curves or (curves is True and keys is None):
        if points:
            fact = f"{list(at)!r} without curves"
            raise ConfigError("at", "no names where no scores are kept", fact, "Leave it out.")
        return None
    if curves == "fine":
        keys = FINE
    elif inputs == "probs" and not heads:
        keys = ProbabilityKeys()
    if keys is None:
        raise ConfigError("curves", rule, repr(curves), cure)
    histogram = replace(histogram, keys=keys)
    store = None
    if curves == "exact" and isinstance(capacity, int):
        store = StoredScores(capacity, heads, histogram.bits)
    kept = KeptScores(histogram, store, points, among)
    size = sum(8 * math.prod(cell.shape) for cell in kept.cells())
    if size > MOST_BYTES_OF_SCORES:
        fact = f"{size / 2**30:.1f} GiB"
        cure = 'Pass a smaller capacity, or curves="fp16".'
        raise ConfigError("curves", "scores kept in 4 GiB", fact, cure)
    return kept


def with_bound(estimate: Estimate) -> Estimate:
    """With an interval that holds whatever the numerical error is: no verdict rests on less."""
    low = np.clip(estimate.low - estimate.error_bound, 0, 1)
    high = np.clip(estimate.high + estimate.error_bound, 0, 1)
    return replace(estimate, low=low, high=high)


def auroc_estimate(summary: Array) -> Estimate:
    """Chance that a positive scores above a negative, ties half; rises, [0, 1], NaN for one class only.

    Error bound: a pair in one row counts ½ and may be worth 0 or 1, unless all scores of the row
    are equal; the interval is widened by it.
    Interval: DeLong on the logit scale, joined with Newcombe's method 5 below 100 samples of a
        class.

    Args:
        summary: Of shape (10 or more, …), as `ScoreBins.summary` gives it.

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 1988; Newcombe, Statistics in Medicine
        2006.
    """
    n, negatives, positives = summary[:3]
    area, variance, bound = summary[3:6]
    few = np.minimum(negatives, positives) < FEW
    low, high = widened_area(area, variance, positives, negatives, few)
    n = n.astype(np.int64)
    found = Estimate(area, low, high, n, "delong-newcombe", ONE_SIDE, error_bound=bound)
    return with_bound(found)


def average_precision_estimate(summary: Array) -> Estimate:
    """Mean precision at the positives, best scores first; rises, (0, 1], 1 without negatives.

    Error bound: in each row whose scores are not all equal the positives may stand before, between
    or behind the negatives, tied or not; the value is the middle of the untied extremes. The
    interval is widened by it.
    Interval: delta method on the logit scale, joined with Wilson's for the positives below 100 of
        them.

    Args:
        summary: Of shape (10 or more, …), as `ScoreBins.summary` gives it.

    Source: the extremes from the digamma function; Boyd, Eng and Page, ECML 2013, for the logit
        scale.
    """
    n, _, positives = summary[:3]
    value, variance, bound = summary[6:9]
    value = np.minimum(value, 1.0)  # sums of weights may round up
    safe = wilson(value, positives)
    low, high = widened(value, logit_interval(value, variance), safe, positives < FEW)
    n = n.astype(np.int64)
    found = Estimate(value, low, high, n, "delta-wilson", NO_POSITIVE, error_bound=bound)
    return with_bound(found)


def mean_over_heads(each: Estimate, share: Array | None = None, reason: str = NO_CURVE) -> Estimate:
    """Mean over the labels whose score is defined, unweighted or by a share of each.

    Labels of the same rows err together in a way that is not counted here, so the interval is the
    mean of the labels' ends: right for any dependence, and too wide for independent labels.
    """
    weight = np.where(np.isnan(each.value), 0.0, 1.0)
    if share is not None:
        weight = weight * share
    value, low, high, bound = (
        np.where(weight > 0, weight * x, 0.0).sum(-1) / weight.sum(-1)
        for x in (each.value, each.low, each.high, np.asarray(each.error_bound))
    )
    n = np.asarray(each.n).max(-1)
    better = each.higher_is_better
    return Estimate(value, low, high, n, "mean-of-ends", reason, better, error_bound=bound)


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
    undefined=NO_POSITIVE,
    source="Boyd, Eng and Page, ECML 2013",
    method="delta-wilson",
)


Estimator = Callable[[Array], Estimate]


def _each_spec(spec: ScoreSpec, estimate: Estimator) -> ScoreSpec:
    """A score of each label; all of them together stand behind those in a summary."""
    return replace(
        spec, interval=lambda each, summary, intervals: estimate(summary[:, :-1]), each=True
    )


def _mean_spec(spec: ScoreSpec, estimate: Estimator, *, weighted: bool = False) -> ScoreSpec:
    """The mean over the labels of a score of each."""
    reason = NO_POSITIVE_LABEL if spec.undefined == NO_POSITIVE else NO_CURVE

    def mean(mean: ScoreSpec, summary: Array, intervals: bool) -> Estimate:
        share = summary[AVERAGED, :-1]
        if weighted:
            share = share * summary[POSITIVES, :-1]
        return mean_over_heads(estimate(summary[:, :-1]), share, reason)

    over = "Mean over the labels where it is defined"
    average = "macro"
    if weighted:
        over = f"{over}, by their positives"
        average = "weighted"
    return replace(
        spec,
        name=f"{spec.name}/{average}",
        interval=mean,
        doc=f"{over}. {spec.doc}",
        undefined=reason,
        method="mean-of-ends",
    )


def _micro_spec(spec: ScoreSpec, estimate: Estimator) -> ScoreSpec:
    """The score of all labels of all rows as one curve.

    Scores of one row err together; at most as if each row stood for as many as it has labels, and
    the interval is that wide.
    """

    def micro(spec: ScoreSpec, summary: Array, intervals: bool) -> Estimate:
        heads = summary[AVERAGED].sum()
        pooled = summary[:, -1].copy()
        pooled[1:3] /= heads
        pooled[VARIANCES] *= heads
        found = replace(estimate(pooled), n=summary[0, :-1].max().astype(np.int64))
        return replace(found, method=spec.method)

    return replace(
        spec,
        name=f"{spec.name}/micro",
        interval=micro,
        doc=f"All labels of all rows as one curve. {spec.doc}",
        method=f"{spec.method}-clustered",
    )


def point_specs(points: Sequence[FixedPoint], *, heads: bool) -> tuple[ScoreSpec, ...]:
    """Scores of points: of one curve, or of each of several, and their means."""
    specs: list[ScoreSpec] = []
    for place, point in enumerate(points):
        spec, estimate = _spec_of_point(point, BASE + NUMBERS_OF_POINT * place)
        if heads:
            specs += [_each_spec(spec, estimate), _mean_spec(spec, estimate)]
        else:
            specs.append(spec)
    return tuple(specs)


def _spec_of_point(point: FixedPoint, first: int) -> tuple[ScoreSpec, Estimator]:
    method = "mover-threshold"
    if point.score == "auroc":
        method = "delong-newcombe"
    better = point.name != EER

    def estimate(summary: Array) -> Estimate:
        numbers = summary[first : first + NUMBERS_OF_POINT]
        value, low, high, bound = point.estimate(summary[1:3], numbers)
        n = summary[0].astype(np.int64)
        found = Estimate(value, low, high, n, method, ONE_SIDE, better, error_bound=bound)
        return with_bound(found)

    spec = ScoreSpec(
        point.name,
        None,
        lambda spec, summary, intervals: estimate(summary),
        higher_is_better=better,
        doc="A score at a point of the curve.",
        undefined=ONE_SIDE,
        method=method,
    )
    return spec, estimate


CURVE_SPECS = (AUROC, AVERAGE_PRECISION)
"""Scores of the summary of one histogram."""
CURVE_SPECS_OF_HEADS = (
    _mean_spec(AUROC, auroc_estimate),
    _mean_spec(AVERAGE_PRECISION, average_precision_estimate),
    _mean_spec(AUROC, auroc_estimate, weighted=True),
    _mean_spec(AVERAGE_PRECISION, average_precision_estimate, weighted=True),
    _micro_spec(AUROC, auroc_estimate),
    _micro_spec(AVERAGE_PRECISION, average_precision_estimate),
    _each_spec(AUROC, auroc_estimate),
    _each_spec(AVERAGE_PRECISION, average_precision_estimate),
)
"""Scores of the summary of several histograms: those of each, their means, and all together."""
OVO = ScoreSpec(
    "auroc/ovo",
    None,
    lambda spec, pairs, intervals: mean_over_heads(auroc_estimate(pairs), reason=NOT_ALL_KEPT),
    doc="Mean over all pairs of classes of the AUROC of each against the other alone; "
    'with curves="exact", up to 32 classes.',
    undefined=NOT_ALL_KEPT,
    source="Hand and Till, Machine Learning 2001",
    method="mean-of-ends",
)
OVO_WEIGHTED = replace(
    OVO,
    name="auroc/ovo/weighted",
    interval=lambda spec, pairs, intervals: mean_over_heads(
        auroc_estimate(pairs), pairs[0], NOT_ALL_KEPT
    ),
    doc="The same mean, each pair by the rows of its two classes.",
)


def notes_of(summary: Array, keys: CurveKeys) -> list[str]:
    """A sentence for each score whose error bound passes its tolerance: the bound, and what would hold it."""
    average = ""
    if summary.ndim > 1:
        average = "/macro"
        summary = summary[:, :-1]
    notes = []
    for place, (name, tolerance) in zip((AUROC_BOUND, AP_BOUND), TOLERANCE.items(), strict=True):
        each = summary[place][~np.isnan(summary[place])]
        bound = float(each.sum() / max(1, each.size))
        if bound > tolerance:
            cure = "Many scores lie close together; "
            cure = f'{cure}curves="exact" with room for all of them is exact.'
            finer = 2.0 ** (keys.digits - FINE.digits)
            if bound * finer <= tolerance and finer < 1:
                cure = 'Many scores lie close together; curves="fine" would tell them apart.'
            told = f"{name}{average}: its error bound {bound:.2g} passes {tolerance:g}"
            notes.append(f"{told}. {cure}")
    return notes
