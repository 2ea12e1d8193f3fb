"""Gates 2 and 3 where classes are predicted: the majority class, accuracy, precision, recall."""

from collections.abc import Iterator
from dataclasses import replace
from math import ceil, sqrt
from statistics import NormalDist

import numpy as np

from ptmetrics.digits import numbers as numbers_of
from ptmetrics.record.printable import quantity
from ptmetrics.verdict.evidence import Counts, Evidence
from ptmetrics.verdict.finding import (
    Z95,
    Criterion,
    Estimate,
    Finding,
    Severity,
    Skipped,
    decide,
    percent,
)
from ptmetrics.verdict.pages import make_finding
from ptmetrics.verdict.rule import Rule, RuleOutcome, rule
from ptmetrics.verdict.rules_validity import named_classes
from ptmetrics.verdict.stats import (
    binomial_lower,
    binomial_upper,
    bonett_price,
    holm,
    hybrid_difference,
    mid_p_better,
)

_TO_RAISE = {
    "precision": "Raise the decision threshold, as pm.advise_threshold(run, precision_at_least={:g}) "
    "says, or add negatives that look like the positives.",
    "recall": "Lower the decision threshold, as pm.advise_threshold(run, recall_at_least={:g}) says, "
    "weight the loss by class, or add samples of what is missed.",
}
_TO_RAISE_ALL = {
    "precision": "Look at what the classes of the least precision are taken for: add samples that "
    "tell them apart, or merge them.",
    "recall": "Look at the classes of the least recall: weight the loss by class, or add samples of "
    "what is missed.",
}
"""Of the mean over classes, which have no one threshold."""
LEAST_COLLAPSED = 10  # rows
OF_AXES = ("rows", "tokens", "pixels")
"""What is counted, by the axes of a sample's targets."""
LOOK_AT_MODE = (
    "Look for model.train() or model.eval() that was forgotten: statistics of BatchNorm that have "
    "not settled, or of other data, do this."
)
LOOK_AT_INPUTS = "Look at the preprocessing of validation data: is it as in training?"


# Does the model beat the class that is most frequent anyway?


@rule(codes="no-skill", needs="classes")
def no_skill(evidence: Evidence) -> Iterator[RuleOutcome]:
    """The model is not better than always answering the majority class."""
    confusion = evidence.confusion
    if confusion is None or not confusion.any():
        yield Skipped("no confusion matrix")
        return
    criterion, p = above_majority(evidence, confusion)
    yield criterion
    if criterion.state == "met":
        return
    share = float(confusion[majority_class(evidence, confusion)].sum() / confusion.sum())
    value, low, high = numbers_of(*criterion.triple)
    message = (
        f"Not shown to beat the majority class, which alone gives {percent(share)} accuracy: "
        f"{criterion.name} {value} [{low}, {high}]"
    )
    if p is not None:
        message += f", one-sided mid-p {p:.2g}"
    limit = evidence.thresholds.skill_p
    numbers = criterion.facts(baseline_accuracy=share, mid_p=p, p_threshold=limit)
    severity: Severity = "undetermined"
    if criterion.state == "failed":
        severity = "fail"
    yield make_finding("no-skill", severity, f"{message}.", numbers)


def above_majority(evidence: Evidence, counts: Counts) -> tuple[Criterion, float | None]:
    """The criterion against the trivial answer, and its p-value where the test is paired.

    Met when the gain over the trivial answer is shown, failed when there is none at all: the burden
    of proof is the model's.
    """
    if evidence.thresholds.baseline == "balanced accuracy":
        p = None
        chance = 1.0 / len(counts)
        score = evidence.score("balanced_accuracy")
        criterion = decide("balanced accuracy", score, chance, code="no-skill")
    else:
        criterion, p = _against_majority(evidence, counts)
    if criterion.state != "met" and criterion.value <= criterion.threshold:
        criterion = replace(criterion, state="failed", needed_n=None, reason=None)
    return criterion, p


def majority_class(evidence: Evidence, counts: Counts) -> int:
    """The most frequent class, in training where known: validation labels must not be seen."""
    if evidence.train_support is not None:
        return int(np.argmax(evidence.train_support))
    return int(np.argmax(counts.sum(1)))


def _against_majority(evidence: Evidence, counts: Counts) -> tuple[Criterion, float]:
    """Paired: only samples that one of the two has right and the other wrong tell them apart."""
    limit = evidence.thresholds.skill_p
    answer = majority_class(evidence, counts)
    n = int(counts.sum())
    wins = int(np.trace(counts) - counts[answer, answer])
    losses = int(counts[answer].sum() - counts[answer, answer])
    p = mid_p_better(wins, losses)
    z = NormalDist().inv_cdf(1.0 - limit)
    low, high = bonett_price(wins, losses, n, z)
    gain = Estimate((wins - losses) / n, low, high, n, "bonett-price")
    criterion = decide("accuracy above majority class", gain, 0.0, code="no-skill")
    if p < limit:
        return replace(criterion, state="met", needed_n=None), p
    needed = None
    if wins > losses:
        needed = max(n + 1, ceil(n * (z * sqrt(wins + losses) / (wins - losses)) ** 2))
    return replace(criterion, state="undetermined", needed_n=needed), p


@rule(codes="accuracy-paradox", needs="classes")
def accuracy_paradox(evidence: Evidence) -> Iterator[RuleOutcome]:
    """Accuracy looks good only because one class is frequent."""
    limits = evidence.thresholds
    confusion = evidence.confusion
    accuracy = evidence.score("accuracy")
    if confusion is None or not confusion.any():
        yield Skipped("no confusion matrix")
        return
    support = confusion.sum(1)
    rare = int(np.argmin(support))
    smallest, largest = support[rare], support.max()
    if smallest * limits.imbalance >= largest or not accuracy.value >= limits.paradox_accuracy:
        return
    reasons = list(_paradox_reasons(evidence, confusion, rare))
    if reasons:
        what = OF_AXES[min(evidence.sample_axes, 2)]
        yield make_finding(
            "accuracy-paradox",
            "fail",
            f"Accuracy {percent(accuracy.value)} comes from classes of {largest:,} to {smallest:,} {what}: "
            f"{'; '.join(reasons)}.",
            accuracy.facts(threshold=limits.paradox_accuracy, largest=largest, smallest=smallest),
        )


def _paradox_reasons(evidence: Evidence, confusion: Counts, rare: int) -> Iterator[str]:
    limits = evidence.thresholds
    if above_majority(evidence, confusion)[0].state == "failed":
        yield "it does not beat the majority class"
    recall = evidence.per_class.get("recall", ())
    if rare < len(recall) and recall[rare].high < limits.paradox_recall:
        yield f"recall of class {evidence.class_name(rare)} is {percent(recall[rare].value)}"
    mcc = evidence.score("mcc")
    if mcc.high < limits.paradox_mcc:
        yield f"MCC is {mcc.value:.2f}, at most {mcc.high:.2f}"


# Accuracy, precision and recall against their thresholds, each with its interval.


@rule(codes="low-accuracy", needs="classes")
def low_accuracy(evidence: Evidence) -> Iterator[RuleOutcome]:
    """Accuracy is shown to be too low: bad below `accuracy_bad`, else mediocre."""
    limits = evidence.thresholds
    if limits.accuracy is None:
        return
    if evidence.task == "multilabel":
        yield Skipped("several labels a row have no one accuracy; precision and recall are judged")
        return
    criterion = decide("accuracy", evidence.score("accuracy"), limits.accuracy, code="low-accuracy")
    yield criterion
    if criterion.state == "failed":
        grade = "mediocre"
        if criterion.high < limits.accuracy_bad:
            grade = "bad"
        yield _too_low(criterion, f"Accuracy is {grade}", criterion.facts(grade=grade))


@rule(codes="low-precision", needs="classes")
def low_precision(evidence: Evidence) -> Iterator[RuleOutcome]:
    """Precision of the positive class, or the mean over classes, is shown to be too low."""
    return _precision_or_recall(evidence, "precision", evidence.thresholds.precision)


@rule(codes="low-recall", needs="classes")
def low_recall(evidence: Evidence) -> Iterator[RuleOutcome]:
    """Recall of the positive class, or the mean over classes, is shown to be too low."""
    return _precision_or_recall(evidence, "recall", evidence.thresholds.recall)


def _precision_or_recall(
    evidence: Evidence, name: str, threshold: float | None
) -> Iterator[RuleOutcome]:
    if threshold is None:
        return
    label, score = evidence.headline(name)
    criterion = decide(label, score, threshold, code=f"low-{name}")
    yield criterion
    if criterion.state == "failed":
        advice = _TO_RAISE[name].format(threshold)
        if evidence.positive is None and evidence.task != "multilabel":
            advice = _TO_RAISE_ALL[name]
        head = f"{label[0].upper()}{label[1:]} is too low"
        yield _too_low(criterion, head, criterion.facts(), advice)


def _too_low(
    criterion: Criterion, head: str, numbers: dict[str, object], advice: str | None = None
) -> Finding:
    wanted = percent(criterion.threshold)
    message = f"{head}: {criterion.in_percent()}, wanted at least {wanted}."
    return make_finding(criterion.code, "fail", message, numbers, advice)


@rule(codes="precision-recall-gap", needs="classes")
def precision_recall_gap(evidence: Evidence) -> Iterator[RuleOutcome]:
    """Precision and recall are shown to lie apart."""
    limits = evidence.thresholds
    if limits.balance is None:
        return
    gap = precision_minus_recall(evidence)
    distance = gap
    if gap.bounded:
        low = max(0.0, gap.low, -gap.high)
        high = max(abs(gap.low), abs(gap.high))
        distance = replace(gap, value=abs(gap.value), low=low, high=high)
    code = "precision-recall-gap"
    criterion = decide("|precision - recall|", distance, limits.balance, rule="<=", code=code)
    yield criterion
    if criterion.state != "failed":
        return
    higher, lower = "precision", "recall"
    if gap.value <= 0:
        higher, lower = lower, higher
    grade = "apart"
    if criterion.low > limits.balance_far:
        grade = "far apart"
    yield make_finding(
        code,
        "fail",
        f"Precision and recall are {grade}: {higher} is higher by {criterion.in_points()} "
        f"(n={criterion.n:,}), wanted at most {100 * criterion.threshold:.1f}.",
        criterion.facts(grade=grade, signed=gap.value),
        f"Move the decision threshold towards {lower}, as pm.advise_threshold(run, beta=1) says, or "
        "weight the loss by class.",
    )


def precision_minus_recall(evidence: Evidence) -> Estimate:
    """Precision minus recall: by MOVER for the positive class, by delta for the mean over classes.

    Without a confusion matrix the two are taken as independent, which widens the interval.
    """
    precision = evidence.headline("precision")[1]
    recall = evidence.headline("recall")[1]
    for score in (precision, recall):
        if not score.bounded or not score.n:
            return Estimate(reason=score.reason or "precision or recall has no interval")
    value = precision.value - recall.value
    confusion = evidence.confusion
    if confusion is not None and evidence.positive is None:
        half = Z95 * _macro_gap_error(confusion)
        return Estimate(value, value - half, value + half, int(confusion.sum()), "delta")
    n = min(precision.n, recall.n)
    correlation = 0.0
    if confusion is not None and evidence.positive is not None:
        n, correlation = _shared_hits(confusion, evidence.positive)
    low, high = hybrid_difference(precision.triple, recall.triple, correlation=correlation)
    return Estimate(value, low, high, n, "mover")


def _shared_hits(confusion: Counts, k: int) -> tuple[int, float]:
    """Samples that are or are called class k, and the correlation of its precision and recall.

    Half a sample is added to each cell, so that an empty cell does not make a variance of zero.
    """
    hits = int(confusion[k, k])
    called = int(confusion[:, k].sum())
    actual = int(confusion[k].sum())
    tp = hits + 0.5
    fp = called - hits + 0.5
    fn = actual - hits + 0.5
    covariance = tp * (fp / (tp + fp) ** 2) * (fn / (tp + fn) ** 2)
    spread = sqrt(tp * fp / (tp + fp) ** 3) * sqrt(tp * fn / (tp + fn) ** 3)
    return called + actual - hits, covariance / spread


def _macro_gap_error(confusion: Counts) -> float:
    """Standard error of macro precision minus macro recall by the delta method."""
    classes = len(confusion)
    # The share of a sample keeps one empty cell from hiding all variance.
    cells = confusion.astype(np.float64) + 0.5 / classes
    hits = np.diag(cells)
    actual = cells.sum(1)
    called = cells.sum(0)
    slope = (hits / actual**2)[:, None] - (hits / called**2)[None, :]
    slope[np.diag_indices(classes)] += 1.0 / called - 1.0 / actual
    return float(sqrt((cells * (slope / classes) ** 2).sum()))


# Each class, and each slice that the user told apart.


@rule(codes="collapsed", needs="classes")
def collapsed(evidence: Evidence) -> Iterator[RuleOutcome]:
    """Every prediction is the same class, though the targets are not."""
    confusion = evidence.confusion
    if confusion is None:
        yield Skipped("no confusion matrix")
        return
    answer = the_one_answer(confusion)
    if answer is None:
        return
    n = int(confusion.sum())
    share = float(confusion[answer].sum() / n)
    message = (
        f"All {n:,} predictions are class {evidence.class_name(answer)}, which {percent(share)} of the "
        "targets are."
    )
    trained = evidence.train.get("accuracy", Estimate())
    numbers = {"class": answer, "n": n, "share": share}
    batch_norm = evidence.curves.seen_in_judged("val").get("batch_norm")
    advice = None
    if trained.value > evidence.score("accuracy").high:
        message += f" In training the accuracy is {percent(trained.value)}."
        numbers["train_accuracy"] = trained.value
        advice = LOOK_AT_INPUTS
        if batch_norm is None:
            advice = f"{LOOK_AT_MODE} {LOOK_AT_INPUTS}"
    if batch_norm:
        message += " The model holds BatchNorm."
        advice = f"{LOOK_AT_MODE} {LOOK_AT_INPUTS}"
    yield make_finding("collapsed", "fail", message, numbers, advice)


def the_one_answer(confusion: Counts) -> int | None:
    """The class that all rows are predicted as, where their targets are several; else None."""
    answers = np.flatnonzero(confusion.sum(0))
    if len(answers) != 1 or np.count_nonzero(confusion.sum(1)) < 2:
        return None
    if confusion.sum() < LEAST_COLLAPSED:
        return None
    return int(answers[0])


@rule(codes=("weak-class", "too-few-samples"), needs="classes")
def weak_class(evidence: Evidence) -> Iterator[RuleOutcome]:
    """A class is shown not to be learned (exact test, Holm over classes), or too thin to say."""
    limits = evidence.thresholds
    counted = _recall_counts(evidence)
    if counted is None:
        yield Skipped("no recall of each class")
        return
    if evidence.confusion is not None and the_one_answer(evidence.confusion) is not None:
        return  # which is said once, and not of each class
    hits, support = counted
    wanted = limits.class_recall
    below = [binomial_lower(x, n, wanted) for x, n in zip(hits, support, strict=True)]
    weak = holm(below, limits.class_alpha)
    # The worst come first: of many a person sees the first ones alone.
    for k in sorted(np.flatnonzero(weak).tolist(), key=lambda k: hits[k] / support[k]):
        yield make_finding(
            "weak-class",
            "fail",
            f"Class {evidence.class_name(k)} is not learned: {hits[k]:,} of {support[k]:,} found, "
            f"wanted at least {percent(wanted)}.",
            {
                "class": k,
                "value": hits[k] / support[k],
                "n": support[k],
                "p": below[k],
                "threshold": wanted,
            },
        )
    thin = []
    for k, n in enumerate(support):
        if 0 < n < limits.class_support and not weak[k]:
            learned = binomial_upper(hits[k], n, wanted) <= limits.class_alpha / 2
            if not learned:
                thin.append(k)
    if thin:
        yield make_finding(
            "too-few-samples",
            "warning",
            f"{quantity(len(thin), 'class')} with under {limits.class_support} samples cannot be "
            f"judged: {named_classes(evidence, thin)}.",
            {
                "classes": thin,
                "n": [support[k] for k in thin],
                "threshold": limits.class_support,
            },
            "Add validation samples of these classes.",
        )


def _recall_counts(evidence: Evidence) -> tuple[list[int], list[int]] | None:
    """Samples found and samples in all, of each class; None where neither is known."""
    if evidence.confusion is not None:
        return np.diag(evidence.confusion).tolist(), evidence.confusion.sum(1).tolist()
    recall = evidence.per_class.get("recall")
    if not recall:
        return None
    return [hits_of(item) for item in recall], [item.n for item in recall]


def hits_of(share: Estimate) -> int:
    """How many samples a share counts; 0 for a share of nothing, whose value is NaN."""
    if not share.n:
        return 0
    return round(share.value * share.n)


@rule(codes="weak-slice")
def weak_slice(evidence: Evidence) -> Iterator[RuleOutcome]:
    """A slice is shown to be weak where the whole may be good (exact test, Holm over all slices).

    Tested is the accuracy, or the recall of the positive class where the profile drops the
    accuracy.
    """
    limits = evidence.thresholds
    slices = evidence.slices
    if not slices.scores:
        return
    name = "accuracy"
    if limits.accuracy is None and "recall" in slices.scores:
        name = "recall"
    if name not in slices.scores:
        yield Skipped(f"no {name} of each slice")
        return
    each = slices.scores[name]
    if not any(item.n for item in each):
        yield Skipped("no row came with its slice")
        return
    below = [binomial_lower(hits_of(item), item.n, limits.slice_score) for item in each]
    others = [1.0] * (slices.filled - len(each))  # left out of the record: the better ones
    weak = holm(below + others, limits.slice_alpha)
    for k, item in enumerate(each):
        if weak[k]:
            yield make_finding(
                "weak-slice",
                "fail",
                f"Slice {slices.names[k]!r} is weak: its {name} is {item.in_percent()}, "
                f"wanted at least {percent(limits.slice_score)}.",
                {
                    "slice": slices.names[k],
                    "score": name,
                    **item.facts(p=below[k], threshold=limits.slice_score),
                },
            )


CLASS_RULES: tuple[Rule, ...] = (
    no_skill,
    accuracy_paradox,
    low_accuracy,
    low_precision,
    low_recall,
    precision_recall_gap,
    collapsed,
    weak_class,
    weak_slice,
)
