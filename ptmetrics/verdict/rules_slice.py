"""Gate 3: the parts of the validation data that a user told apart, such as hospitals or cameras."""

from collections.abc import Iterator

from ptmetrics.verdict.distributions import binomial_lower
from ptmetrics.verdict.evidence import Evidence
from ptmetrics.verdict.finding import Estimate, Finding
from ptmetrics.verdict.profile import Thresholds
from ptmetrics.verdict.rule import Outcome, Rule, Skipped, facts, percent, words
from ptmetrics.verdict.two_samples import holm

ADVICE = "Look at samples of this slice, train on more like them, or leave the slice out of what the model is for."


def weak_slice(evidence: Evidence, limits: Thresholds) -> Iterator[Outcome]:
    """A slice is shown to be weak where the whole may be good (exact test, Holm over all slices).

    Tested is the accuracy, or the recall of the positive class where the profile drops the accuracy.
    """
    if not evidence.per_slice:
        return
    name = "recall" if limits.accuracy is None and "recall" in evidence.per_slice else "accuracy"
    if name not in evidence.per_slice:
        yield Skipped(f"no {name} of each slice")
        return
    each = evidence.per_slice[name]
    if not any(slice_.n for slice_ in each):
        yield Skipped("no row came with its slice")
        return
    below = [_surprise(slice_, limits.slice_score) for slice_ in each]
    others = [1.0] * (evidence.slices - len(each))  # slices that a record left out, the better ones
    for k, failed in enumerate(holm(below + others, limits.slice_alpha)[: len(each)]):
        if failed:
            label = repr(evidence.slice_names[k])
            wanted = percent(limits.slice_score)
            message = (
                f"Slice {label} is weak: its {name} is {words(each[k])}, wanted at least {wanted}."
            )
            numbers = facts(each[k], p=below[k], threshold=limits.slice_score)
            yield Finding(
                "weak-slice",
                "fail",
                message,
                {"slice": evidence.slice_names[k], "score": name} | numbers,
                ADVICE,
            )


def _surprise(share: Estimate, threshold: float) -> float:
    """How surprising so few hits are if the threshold were reached; 1 where nothing was counted."""
    return binomial_lower(round(share.value * share.n), share.n, threshold) if share.n else 1.0


RULES = (Rule(("weak-slice",), weak_slice),)
