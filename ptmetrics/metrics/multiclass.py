"""Scores of single-label classification, all from the margins of one matrix: pure functions on the device."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ptmetrics.metrics import margins as of
from ptmetrics.metrics.estimate import Estimate
from ptmetrics.metrics.intervals import mean_interval, mover
from ptmetrics.metrics.tally import Tally

NO_SAMPLES = "no samples were counted"
NO_TARGET = "the class is absent from the targets"
NO_PREDICTION = "the class was never predicted"
NEITHER = "the class is neither in the targets nor in the predictions"
NO_OTHER = "no target is of another class"
NO_CLASS = "no class is defined"
ONE_CLASS = "targets or predictions hold one class only"


def accuracy(t: Tally) -> Estimate:
    """Share of right predictions; rises, [0, 1], NaN for no samples. Wilson interval."""
    p, low, high = t.proportion(of.hits(t.weight).sum(-1), t.total, t.total_square)
    return Estimate(p, low, high, t.n, "wilson", NO_SAMPLES)


def top_k(t: Tally, hits: Tensor) -> Estimate:
    """Share of targets among the k highest scores; `hits` is their weight, shape ()."""
    p, low, high = t.proportion(hits.double(), t.total, t.total_square)
    return Estimate(p, low, high, t.n, "wilson", NO_SAMPLES)


def class_precision(t: Tally) -> Estimate:
    """True positives over predicted positives of each class, shape (C,). Wilson intervals."""
    values = t.proportion(of.hits(t.weight), of.predicted(t.weight), of.predicted(t.square))
    return Estimate(*t.filled(values), of.predicted(t.count), "wilson", NO_PREDICTION)


def class_recall(t: Tally) -> Estimate:
    """True positives over actual positives of each class, shape (C,). Wilson intervals."""
    values = t.proportion(of.hits(t.weight), of.actual(t.weight), of.actual(t.square))
    return Estimate(*t.filled(values), of.actual(t.count), "wilson", NO_TARGET)


def class_f1(t: Tally) -> Estimate:
    """F1 of each class, shape (C,): F = 2J / (1 + J) of the Jaccard index J, with J's Wilson interval mapped.

    Source: Lam et al., arXiv 2309.14621: given the union, J is a binomial proportion and the map is monotone.
    """
    jaccard, low, high = t.proportion(of.hits(t.weight), of.either(t.weight), of.either(t.square))
    values = (2 * jaccard / (1 + jaccard), 2 * low / (1 + low), 2 * high / (1 + high))
    return Estimate(*t.filled(values), of.either(t.count), "wilson-jaccard", NEITHER)


def class_jaccard(t: Tally) -> Estimate:
    """Hits over all that are of the class or predicted so, of each class, shape (C,). Wilson intervals."""
    values = t.proportion(of.hits(t.weight), of.either(t.weight), of.either(t.square))
    return Estimate(*t.filled(values), of.either(t.count), "wilson", NEITHER)


def class_specificity(t: Tally) -> Estimate:
    """True negatives over negatives of each class, shape (C,). Wilson intervals."""
    others, squares, n = (of.others(cells) for cells in (t.weight, t.square, t.count))
    values = t.proportion(of.other_hits(t.weight), others, squares)
    return Estimate(*t.filled(values), n, "wilson", NO_OTHER)


def class_support(t: Tally) -> Estimate:
    """Weight of the targets of each class, shape (C,); a count, with no interval."""
    support = of.actual(t.weight)
    return Estimate(support, support, support, of.actual(t.count), "count", NO_TARGET)


def precision_macro(t: Tally) -> Estimate:
    """Unweighted mean of precision over the classes where it is defined. MOVER interval."""
    return _macro(t, class_precision(t), of.predicted)


def recall_macro(t: Tally) -> Estimate:
    """Unweighted mean of recall over the classes where it is defined. MOVER interval."""
    return _macro(t, class_recall(t), of.actual)


def balanced_accuracy(t: Tally) -> Estimate:
    """Mean recall of the classes that occur in the targets, whatever `absent` is. MOVER interval."""
    return recall_macro(replace(t, absent=math.nan))


def specificity_macro(t: Tally) -> Estimate:
    """Unweighted mean of specificity over the classes where it is defined. Delta interval."""
    return _mean_of(t, of.other_hits, of.others, equal=True)


def precision_weighted(t: Tally) -> Estimate:
    """Mean of precision weighted by the targets' share, plain where all those weights are 0. Delta interval."""
    return _mean_of(t, of.hits, of.predicted, equal=False)


def f1_macro(t: Tally) -> Estimate:
    """Unweighted mean of F1 over the classes where it is defined. Delta interval: class errors are shared."""
    return fbeta(t, 1.0, equal=True)


def f1_weighted(t: Tally) -> Estimate:
    """Mean of F1 weighted by the targets' share. Delta interval."""
    return fbeta(t, 1.0, equal=False)


def fbeta(t: Tally, beta: float, *, equal: bool) -> Estimate:
    """Mean of F-beta, recall `beta` times as important, equal or weighted by the targets' share. Delta interval."""
    b2 = beta * beta
    return _mean_of(
        t,
        lambda c: (1 + b2) * of.hits(c),
        lambda c: of.predicted(c) + b2 * of.actual(c),
        equal=equal,
    )


def jaccard_macro(t: Tally) -> Estimate:
    """Unweighted mean of the Jaccard index, the mean IoU of segmentation. Delta interval."""
    return _mean_of(t, of.hits, of.either, equal=True)


def jaccard_weighted(t: Tally) -> Estimate:
    """Mean of the Jaccard index weighted by the targets' share. Delta interval."""
    return _mean_of(t, of.hits, of.either, equal=False)


def jaccard_micro(t: Tally) -> Estimate:
    """Hits over the union, all classes together: a / (2 − a) of the accuracy a. Wilson's interval of a, mapped."""
    a = accuracy(t)
    value, low, high = (x / (2 - x) for x in (a.value, a.low, a.high))
    return replace(a, value=value, low=low, high=high, method="wilson-accuracy")


def hamming_loss(t: Tally) -> Estimate:
    """Share of wrong predictions; falls, [0, 1], NaN for no samples. Wilson interval."""
    a = accuracy(t)
    return replace(a, value=1 - a.value, low=1 - a.high, high=1 - a.low, higher_is_better=False)


def mcc(t: Tally) -> Estimate:
    """Matthews correlation coefficient; rises, [-1, 1], NaN when a side holds one class. Delta interval.

    Source: Gorodkin, Comput. Biol. Chem. 2004 (R_K).
    """
    value, low, high = t.delta(of.mcc, (-1, 1))
    return Estimate(*t.filled((value, low, high)), t.n, "delta", ONE_CLASS)


def kappa(t: Tally) -> Estimate:
    """Cohen's kappa; rises, (-1, 1], NaN when agreement by chance is sure. Delta interval."""
    value, low, high = t.delta(of.kappa, (-1, 1))
    return Estimate(*t.filled((value, low, high)), t.n, "delta", ONE_CLASS)


def mean_loss(moments: Tensor) -> Estimate:
    """Mean of a loss from its moments of shape (6,); falls, NaN for no samples. Normal interval."""
    value, low, high = mean_interval(moments)
    return Estimate(
        value, low, high, moments[0].long(), "normal", NO_SAMPLES, higher_is_better=False
    )


def _macro(t: Tally, each: Estimate, whole: Callable[[Tensor], Tensor]) -> Estimate:
    n = whole(t.weight).square() / whole(t.square)
    return Estimate(*mover(each.value, n), t.n, "mover", NO_CLASS)


def _mean_of(
    t: Tally, part: Callable[[Tensor], Tensor], whole: Callable[[Tensor], Tensor], *, equal: bool
) -> Estimate:
    def score(c: Tensor) -> Tensor:
        weight = torch.ones_like(of.hits(c)) if equal else of.actual(c)
        return of.mean(part(c), whole(c), weight, t.absent)

    return Estimate(*t.delta(score, (0, 1)), t.n, "delta", NO_CLASS)


# With one label a row every micro average is the accuracy, but for the Jaccard index, and so is the weighted recall.
SCORES: Mapping[str, Callable[[Tally], Estimate]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "precision/macro": precision_macro,
    "precision/micro": accuracy,
    "precision/weighted": precision_weighted,
    "recall/macro": recall_macro,
    "recall/micro": accuracy,
    "recall/weighted": accuracy,
    "f1/macro": f1_macro,
    "f1/micro": accuracy,
    "f1/weighted": f1_weighted,
    "specificity/macro": specificity_macro,
    "jaccard/macro": jaccard_macro,
    "jaccard/micro": jaccard_micro,
    "jaccard/weighted": jaccard_weighted,
    "hamming_loss": hamming_loss,
    "mcc": mcc,
    "kappa": kappa,
}
PER_CLASS: Mapping[str, Callable[[Tally], Estimate]] = {
    "precision": class_precision,
    "recall": class_recall,
    "f1": class_f1,
    "specificity": class_specificity,
    "jaccard": class_jaccard,
    "support": class_support,
}
