"""Gate 3: accuracy, precision and recall against their thresholds, each with its interval."""

from collections.abc import Iterator
from dataclasses import replace
from math import sqrt

import numpy as np

from ptmetrics.verdict.distributions import binomial_lower, binomial_upper
from ptmetrics.verdict.evidence import Counts, Evidence
from ptmetrics.verdict.finding import Z95, Criterion, Estimate, Finding, decide
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.rule import Outcome, Rule, Skipped, facts, percent, points, words
from ptmetrics.verdict.two_samples import holm, hybrid_difference


def low_accuracy(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """Accuracy is shown to be below what is called good; below `accuracy_bad` it is bad, else mediocre."""
    if limits.accuracy is None:
        return
    if evidence.task == "multilabel":
        yield Skipped("several labels a row have no one accuracy; precision and recall are judged")
        return
    criterion = decide("accuracy", evidence.score("accuracy"), limits.accuracy, code="low-accuracy")
    yield criterion
    if criterion.state == "failed":
        grade = "bad" if criterion.high < limits.accuracy_bad else "mediocre"
        advice = "Train longer, unfreeze more layers, or find out which classes are confused."
        yield _too_low(criterion, f"Accuracy is {grade}", advice, grade=grade)


def low_precision(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """Precision of the positive class, or the mean over classes, is shown to be too low."""
    advice = "Raise the decision threshold, or add negatives that look like the positives."
    yield from _precision_or_recall(evidence, "precision", limits.precision, advice)


def low_recall(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """Recall of the positive class, or the mean over classes, is shown to be too low."""
    advice = (
        "Lower the decision threshold, weight the loss by class, or add samples of what is missed."
    )
    yield from _precision_or_recall(evidence, "recall", limits.recall, advice)


def _precision_or_recall(
    evidence: Evidence, name: str, threshold: float | None, advice: str
) -> Iterator[Outcome]:
    if threshold is None:
        return
    label, estimate = evidence.headline(name)
    criterion = decide(label, estimate, threshold, code=f"low-{name}")
    yield criterion
    if criterion.state == "failed":
        yield _too_low(criterion, f"{label[0].upper()}{label[1:]} is too low", advice)


def _too_low(criterion: Criterion, head: str, advice: str, **more: object) -> Finding:
    message = f"{head}: {words(criterion)}, wanted at least {percent(criterion.threshold)}."
    return Finding(criterion.code, "fail", message, facts(criterion, **more), advice)


def precision_recall_gap(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """Precision and recall are shown to lie apart."""
    if limits.balance is None:
        return
    gap = precision_minus_recall(evidence)
    low, high = max(0.0, gap.low, -gap.high), max(abs(gap.low), abs(gap.high))
    distance = replace(gap, value=abs(gap.value), low=low, high=high) if gap.bounded else gap
    code = "precision-recall-gap"
    criterion = decide("|precision - recall|", distance, limits.balance, rule="<=", code=code)
    yield criterion
    if criterion.state == "failed":
        which, other = ("precision", "recall") if gap.value > 0 else ("recall", "precision")
        grade = "far apart" if criterion.low > limits.balance_far else "apart"
        yield Finding(
            code,
            "fail",
            f"Precision and recall are {grade}: {which} is higher by {points(criterion)} (n={criterion.n}), "
            f"wanted at most {100 * criterion.threshold:.1f}.",
            facts(criterion, grade=grade, signed=gap.value),
            f"Move the decision threshold towards {other}, or weight the loss by class.",
        )


def precision_minus_recall(evidence: Evidence) -> Estimate:
    """Precision minus recall: interval by MOVER for the positive class, by delta for the mean over classes.

    Without a confusion matrix the two are taken as independent, which widens the interval.
    """
    precision, recall = evidence.headline("precision")[1], evidence.headline("recall")[1]
    if not (precision.bounded and recall.bounded):
        missing = precision if not precision.bounded else recall
        return Estimate(reason=missing.reason or "precision or recall has no interval")
    value, confusion = precision.value - recall.value, evidence.confusion
    if confusion is not None and evidence.positive is None:
        half = Z95 * _macro_gap_error(confusion)
        return Estimate(value, value - half, value + half, int(confusion.sum()), "delta")
    n, correlation = min(precision.n, recall.n), 0.0
    if confusion is not None and evidence.positive is not None:
        n, correlation = _shared_hits(confusion, evidence.positive)
    low, high = hybrid_difference(precision.triple, recall.triple, correlation=correlation)
    return Estimate(value, low, high, n, "mover")


def _shared_hits(confusion: Counts, k: int) -> tuple[int, float]:
    """Samples that are or are called class k, and the correlation of its precision and recall.

    Half a sample is added to each cell, so that an empty cell does not make a variance of zero.
    """
    hits, called, actual = int(confusion[k, k]), int(confusion[:, k].sum()), int(confusion[k].sum())
    tp, fp, fn = hits + 0.5, called - hits + 0.5, actual - hits + 0.5
    covariance = tp * (fp / (tp + fp) ** 2) * (fn / (tp + fn) ** 2)
    spread = sqrt(tp * fp / (tp + fp) ** 3) * sqrt(tp * fn / (tp + fn) ** 3)
    return called + actual - hits, covariance / spread


def _macro_gap_error(confusion: Counts) -> float:
    """Standard error of macro precision minus macro recall by the delta method, over classes that occur."""
    cells = confusion.astype(np.float64) + 0.5 / len(
        confusion
    )  # keeps one empty cell from hiding all variance
    hits, actual, called = np.diag(cells), cells.sum(1), cells.sum(0)
    slope = np.tile(hits / actual**2, (len(cells), 1)).T - hits / called**2
    slope[np.diag_indices(len(cells))] += 1.0 / called - 1.0 / actual
    return float(sqrt((cells * (slope / len(cells)) ** 2).sum()))


def weak_class(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """A class is shown not to be learned (exact test, Holm over all classes), or too thin to say."""
    counted = _recall_counts(evidence)
    if counted is None:
        yield Skipped("no recall of each class")
        return
    hits, support = counted
    below = [
        binomial_lower(int(x), int(n), limits.class_recall)
        for x, n in zip(hits, support, strict=True)
    ]
    weak = [k for k, failed in enumerate(holm(below, limits.class_alpha)) if failed]
    for k in weak:
        message = (
            f"Class {evidence.class_name(k)} is not learned: {hits[k]} of {support[k]} found, "
            f"wanted at least {percent(limits.class_recall)}."
        )
        numbers = {"class": k, "value": hits[k] / support[k], "n": support[k], "p": below[k]}
        advice = "Add samples of this class, weight it, or check its labels."
        yield Finding(
            "weak-class", "fail", message, numbers | {"threshold": limits.class_recall}, advice
        )
    thin = [
        k
        for k, n in enumerate(support.tolist())
        if 0 < n < limits.class_support and k not in weak and _open(int(hits[k]), n, limits)
    ]
    if thin:
        names = ", ".join(map(evidence.class_name, thin[:5])) + (", …" if len(thin) > 5 else "")
        message = f"{len(thin)} classes have under {limits.class_support} samples and cannot be judged: {names}."
        numbers = {
            "classes": thin,
            "n": [support[k] for k in thin],
            "threshold": limits.class_support,
        }
        advice = "Add validation samples of these classes."
        yield Finding("too-few-samples", "warning", message, numbers, advice)


def _open(hits: int, n: int, limits: Thresholds) -> bool:
    """Whether a class is not shown to be learned either."""
    return binomial_upper(hits, n, limits.class_recall) > limits.class_alpha / 2


def _recall_counts(evidence: Evidence) -> tuple[Counts, Counts] | None:
    if evidence.confusion is not None:
        return np.diag(evidence.confusion), evidence.confusion.sum(1)
    recall = evidence.per_class.get("recall", ())
    if not recall:
        return None
    support = np.array([item.n for item in recall], dtype=np.int64)
    found = [
        item.value * item.n if item.n else 0.0 for item in recall
    ]  # an absent class has NaN of nothing
    return np.rint(found).astype(np.int64), support


RULES = (
    Rule(("low-accuracy",), low_accuracy, "classes"),
    Rule(("low-precision",), low_precision, "classes"),
    Rule(("low-recall",), low_recall, "classes"),
    Rule(("precision-recall-gap",), precision_recall_gap, "classes"),
    Rule(("weak-class", "too-few-samples"), weak_class, "classes"),
)
