"""Gate 2: does the model beat the class that is most frequent anyway?"""

from collections.abc import Iterator
from dataclasses import replace
from math import ceil, sqrt
from statistics import NormalDist

import numpy as np

from ptmetrics.verdict.evidence import Counts, Evidence
from ptmetrics.verdict.finding import Criterion, Estimate, Finding, decide
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.rule import Outcome, Rule, Skipped, facts, percent
from ptmetrics.verdict.two_samples import bonett_price, mid_p_better


def no_skill(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """The model is not better than always answering the majority class."""
    confusion = evidence.confusion
    if confusion is None or not confusion.any():
        yield Skipped("no confusion matrix")
        return
    criterion, p = above_baseline(evidence, confusion, limits)
    yield criterion
    if criterion.state == "met":
        return
    share = majority_share(evidence, confusion)
    p_words = "" if p is None else f", one-sided mid-p {p:.2g}"
    yield Finding(
        "no-skill",
        "fail" if criterion.state == "failed" else "undetermined",
        f"Not shown to beat the majority class, which alone gives {percent(share)} accuracy: "
        f"{criterion.name} {criterion.value:+.4f} [{criterion.low:+.4f}, {criterion.high:+.4f}]{p_words}.",
        facts(criterion, baseline_accuracy=share, mid_p=p, p_threshold=limits.skill_p),
        "Weight the loss or sample by class, and look at the recall of each class before the accuracy.",
    )


def above_baseline(
    evidence: Evidence, counts: Counts, limits: Thresholds
) -> tuple[Criterion, float | None]:
    """The criterion against the trivial answer, and its p-value where the test is paired.

    Met when the gain over the trivial answer is shown, failed when there is none at all: the burden of proof is
    the model's.
    """
    if limits.baseline == "balanced accuracy":
        chance, p = 1.0 / len(counts), None
        criterion = decide(
            "balanced accuracy", evidence.score("balanced_accuracy"), chance, code="no-skill"
        )
    else:
        criterion, p = _against_majority(evidence, counts, limits)
    if criterion.state != "met" and criterion.value <= criterion.threshold:
        criterion = replace(criterion, state="failed", needed_n=None)
    return criterion, p


def majority_class(evidence: Evidence, counts: Counts) -> int:
    """The most frequent class, in training where known: a baseline must not see validation labels."""
    return int(
        np.argmax(counts.sum(1) if evidence.train_support is None else evidence.train_support)
    )


def majority_share(evidence: Evidence, counts: Counts) -> float:
    """Accuracy of always answering the majority class."""
    return float(counts[majority_class(evidence, counts)].sum() / counts.sum())


def _against_majority(
    evidence: Evidence, counts: Counts, limits: Thresholds
) -> tuple[Criterion, float]:
    """Paired: only samples that one of the two has right and the other wrong tell them apart."""
    answer, n = majority_class(evidence, counts), int(counts.sum())
    wins = int(np.trace(counts) - counts[answer, answer])
    losses = int(counts[answer].sum() - counts[answer, answer])
    p, z = mid_p_better(wins, losses), NormalDist().inv_cdf(1.0 - limits.skill_p)
    low, high = bonett_price(wins, losses, n, z)
    shown = p < limits.skill_p
    needed = None
    if not shown and wins > losses:
        needed = max(n + 1, ceil(n * (z * sqrt(wins + losses) / (wins - losses)) ** 2))
    estimate = Estimate((wins - losses) / n, low, high, n, "bonett-price")
    criterion = decide("accuracy above majority class", estimate, 0.0, code="no-skill")
    return replace(criterion, state="met" if shown else "undetermined", needed_n=needed), p


def accuracy_paradox(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """Accuracy looks good only because one class is frequent."""
    confusion, accuracy = evidence.confusion, evidence.score("accuracy")
    if confusion is None or not confusion.any():
        yield Skipped("no confusion matrix")
        return
    support = confusion.sum(1)
    rare = int(np.argmin(support))
    if (
        support[rare] * limits.imbalance >= support.max()
        or not accuracy.value >= limits.paradox_accuracy
    ):
        return
    reasons = list(_unmasked(evidence, confusion, rare, limits))
    if reasons:
        yield Finding(
            "accuracy-paradox",
            "fail",
            f"Accuracy {percent(accuracy.value)} comes from classes of {support.max()} to {support[rare]}: "
            f"{'; '.join(reasons)}.",
            facts(
                accuracy,
                threshold=limits.paradox_accuracy,
                largest=support.max(),
                smallest=support[rare],
            ),
            "Judge by balanced accuracy, MCC and the recall of each class; accuracy says nothing here.",
        )


def _unmasked(
    evidence: Evidence, confusion: Counts, rare: int, limits: Thresholds
) -> Iterator[str]:
    if above_baseline(evidence, confusion, limits)[0].state == "failed":
        yield "it does not beat the majority class"
    recall = evidence.per_class.get("recall", ())
    if rare < len(recall) and recall[rare].high < limits.paradox_recall:
        yield f"recall of class {evidence.class_name(rare)} is {percent(recall[rare].value)}"
    mcc = evidence.score("mcc")
    if mcc.high < limits.paradox_mcc:
        yield f"MCC is {mcc.value:.2f}, at most {mcc.high:.2f}"


RULES = (
    Rule(("no-skill",), no_skill, "classes"),
    Rule(("accuracy-paradox",), accuracy_paradox, "classes"),
)
