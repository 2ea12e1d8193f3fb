"""AUROC, average precision and points of the curves on the host: intervals, and certified bounds of their errors."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ptmetrics.counts.keys import CurveKeys, FloatKeys, ProbabilityKeys
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
from ptmetrics.metrics.fixed_points import EER, NUMBERS, FixedPoint, estimate_at, read_points
from ptmetrics.metrics.intervals import FEW, Interval, logit_interval, newcombe, widened, wilson
from ptmetrics.metrics.score_bins import BASE, KeptScores
from ptmetrics.metrics.score_spec import ScoreSpec

ONE_SIDE = "the targets hold one class only"
NO_POSITIVE = "no target is positive"
NO_CURVE = "no label has targets of both kinds"
NO_LABEL = "no label has a positive target"
NOT_STORED = 'scores are not all kept: curves="exact" with room for them, and no weights'
TOLERANCE = {"auroc": 1e-3, "average_precision": 5e-3}  # an error bound above it earns a note
KINDS: tuple[Curves, ...] = ("fp16", "fine", "exact")
MOST_BYTES = 4 << 30  # of what is kept of scores
AUROC_NUMBERS = (3, 4, 5)  # value, variance and bound in a summary
AP_NUMBERS = (6, 7, 8)
SUPPORT = 9


def kept_scores(
    name: str,
    inputs: str,
    kind: Curves,
    capacity: int,
    at: Sequence[str],
    *,
    heads: tuple[int, ...] = (),
    classes: int = 0,
) -> KeptScores:
    """What a metric keeps for its curves.

    Args:
        name: Of the cell.
        inputs: "logits" or "probs".
        kind: "fp16", "fine" or "exact".
        capacity: Number of scores that "exact" keeps, of each label or class.
        at: Names of points.
        heads: (L,) for one curve a label or class.
        classes: Number of classes; 0 for yes-or-no targets.

    Raises:
        ConfigError: If that would take more than 4 GiB.
    """
    keys: CurveKeys | None = FINE
    if kind != "fine":
        keys = keys_for(math.prod(heads))
        if not heads and inputs == "probs":
            keys = ProbabilityKeys()
    if keys is None:
        rule = f"up to {MOST_HEADS} labels or classes"
        raise ConfigError("curves", rule, f"{kind!r} for {heads[0]}", "Leave curves out.")
    store = None
    if kind == "exact":
        store = StoredScores(capacity, heads, classes)
    kept = KeptScores(ScoreHistogram(name, keys, heads), store, read_points(at))
    size = sum(8 * math.prod(cell.shape) for cell in kept.cells())
    if size > MOST_BYTES:
        cure = 'Pass a smaller capacity, or curves="fp16".'
        raise ConfigError("curves", "at most 4 GiB", f"{size / 2**30:.1f} GiB", cure)
    return kept


def curves_kind(curves: object) -> Curves | None:
    """Which curves an argument asks for: True is "fp16", False is None.

    Raises:
        ConfigError: If it is none of them.
    """
    if curves is None or curves is False:
        return None
    if curves is True:
        return "fp16"
    for kind in KINDS:
        if curves == kind:
            return kind
    rule = f"one of {', '.join(KINDS)}, or None"
    raise ConfigError("curves", rule, repr(curves), 'Pass "fp16", 2 MiB a curve at most.')


def no_points(at: Sequence[str]) -> ConfigError:
    """The error for points where no curve is kept."""
    fact = f"{list(at)!r} without curves"
    cure = 'Leave at= out, or pass curves="fp16".'
    return ConfigError("at", "no names where no scores are kept", fact, cure)


def check_capacity(capacity: object) -> None:
    """Refuse what is no number of scores."""
    most = MOST_BYTES >> 3
    if not options.is_whole(capacity, 1, most):
        cure = "Pass the number of validation samples; each score takes 8 bytes."
        raise ConfigError("capacity", f"a whole number from 1 to {most}", repr(capacity), cure)


def _with_bound(interval: Interval, bound: Array) -> Interval:
    """An interval that holds whatever the numerical error is: no verdict rests on less."""
    low, high = interval
    return np.clip(low - bound, 0, 1), np.clip(high + bound, 0, 1)


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
    area, variance, bound = summary[list(AUROC_NUMBERS)]
    few = np.minimum(negatives, positives) < FEW
    safe = newcombe(area, positives, negatives)
    ends = widened(area, logit_interval(area, variance), safe, few)
    low, high = _with_bound(ends, bound)
    n = n.astype(np.int64)
    return Estimate(area, low, high, n, "delong-newcombe", ONE_SIDE, error_bound=bound)


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
    value, variance, bound = summary[list(AP_NUMBERS)]
    safe = wilson(value, positives)
    ends = widened(value, logit_interval(value, variance), safe, positives < FEW)
    low, high = _with_bound(ends, bound)
    n = n.astype(np.int64)
    return Estimate(value, low, high, n, "delta-wilson", NO_POSITIVE, error_bound=bound)


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
    reason = NO_LABEL if spec.undefined == NO_POSITIVE else NO_CURVE

    def mean(mean: ScoreSpec, summary: Array, intervals: bool) -> Estimate:
        share = None
        if weighted:
            share = summary[SUPPORT, :-1]
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
        heads = summary.shape[-1] - 1
        pooled = summary[:, -1].copy()
        pooled[1:3] /= heads
        pooled[[AUROC_NUMBERS[1], AP_NUMBERS[1]]] *= heads
        found = replace(estimate(pooled), n=summary[0, :-1].max().astype(np.int64))
        return replace(found, method=spec.method)

    return replace(
        spec,
        name=f"{spec.name}/micro",
        interval=micro,
        doc=f"All labels of all rows as one curve. {spec.doc}",
        method=f"{spec.method}-clustered",
    )


def one_vs_one(spec: ScoreSpec, areas: Array, intervals: bool) -> Estimate:
    """Mean over all pairs of classes of the AUROC of each against the other alone.

    Args:
        spec: The score.
        areas: Of shape (C + 1, C), as `KeptScores` finds them: the areas, and rows of each class.
        intervals: No matter.

    Source: Hand and Till, Machine Learning 2001.
    """
    area, n = areas[:-1].copy(), areas[-1]
    np.fill_diagonal(area, np.nan)
    low, high = newcombe(area, np.broadcast_to(n[:, None], area.shape), n)
    flat = (x.reshape(-1) for x in (area, low, high))
    each = Estimate(*flat, np.nansum(n)[None].astype(np.int64), spec.method, spec.undefined)
    return mean_over_heads(each, reason=spec.undefined)


def point_specs(points: Sequence[FixedPoint], *, heads: bool) -> tuple[ScoreSpec, ...]:
    """Scores of points: of one curve, or of each of several, and their means."""
    specs = []
    for place, point in enumerate(points):
        specs.extend(_specs_of_point(point, BASE + NUMBERS * place, heads=heads))
    return tuple(specs)


def _specs_of_point(point: FixedPoint, first: int, *, heads: bool) -> tuple[ScoreSpec, ...]:
    method = "mover-threshold"
    if point.score == "auroc":
        method = "delong-newcombe"
    better = point.name != EER

    def estimate(summary: Array) -> Estimate:
        value, low, high, bound = estimate_at(point, summary[first : first + NUMBERS])
        n = summary[0].astype(np.int64)
        return Estimate(value, low, high, n, method, ONE_SIDE, better, error_bound=bound)

    spec = ScoreSpec(
        point.name,
        None,
        lambda spec, summary, intervals: estimate(summary),
        higher_is_better=better,
        doc=point.doc,
        undefined=ONE_SIDE,
        method=method,
    )
    if not heads:
        return (spec,)
    return _each_spec(spec, estimate), _mean_spec(spec, estimate)


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
    one_vs_one,
    doc="Mean over all pairs of classes of the AUROC of each against the other alone; "
    'with curves="exact", up to 100 classes.',
    undefined=NOT_STORED,
    source="Hand and Till, Machine Learning 2001",
    method="mean-of-ends",
)


def notes_of(summary: Array, keys: CurveKeys) -> list[str]:
    """A sentence for each score whose error bound passes its tolerance: the bound, and what would hold it."""
    average = ""
    if summary.ndim > 1:
        average = "/macro"
        summary = summary[:, :-1]
    bounds = {"auroc": summary[AUROC_NUMBERS[2]], "average_precision": summary[AP_NUMBERS[2]]}
    notes = []
    for name, each in bounds.items():
        defined = ~np.isnan(each)
        bound = float(np.where(defined, each, 0.0).sum() / max(1, defined.sum()))
        notes.extend(_bound_note(f"{name}{average}", bound, TOLERANCE[name], keys))
    return notes


def _bound_note(name: str, bound: float, tolerance: float, keys: CurveKeys) -> list[str]:
    if not bound > tolerance:
        return []
    cure = 'Many scores lie close together; curves="exact" with room for all of them is exact.'
    finer = 2.0 ** (keys.digits - FINE.digits)
    if bound * finer <= tolerance and finer < 1:
        cure = 'Many scores lie close together; curves="fine" would tell them apart.'
    return [f"{name}: its error bound {bound:.2g} passes {tolerance:g}. {cure}"]
