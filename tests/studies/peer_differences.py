"""Where other libraries give another number for the same rows, and why: the section of docs/scores.md and of the study.

`peer_suites.py` sorts each different case by the first of these that fits it; what none fits is told as unexplained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

HEAD = """
## Where other libraries say something else

Found by running the suites of torchmetrics 1.9, torcheval, pytorch-ignite 0.5.5 and scikit-learn 1.9
with ptmetrics in the place of their metrics (`make bench-peers CHECKOUTS=folder` prints how many of
their cases each line stands for).

| case | ours | theirs |
|---|---|---|
"""


@dataclass(frozen=True)
class Difference:
    """One reason: what ours is, what theirs is, and which cases it stands for."""

    case: str
    ours: str
    theirs: str
    fits: Callable[[Mapping[str, Any]], bool]


def says(*words: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether what is told of a case holds one of some words."""
    return lambda call: any(word in call["why"] for word in words)


def of(*metrics: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether the metric's name holds one of some words."""
    return lambda call: any(word in call["metric"] for word in metrics)


def ignored_class(call: Mapping[str, Any]) -> bool:
    """Whether `ignore_index` is one of the classes."""
    return call["metric"].startswith("multiclass") and '"ignore_index": 0' in call["arguments"]


def at_thresholds(call: Mapping[str, Any]) -> bool:
    """Whether thresholds are given."""
    return '"thresholds": ' in call["arguments"] and '"thresholds": null' not in call["arguments"]


DIFFERENCES = (
    Difference(
        "`ignore_index` is one of the classes",
        "the class is left out of every average",
        "torchmetrics: it counts as 0 once it was predicted, and in micro averages its "
        "predictions are errors",
        ignored_class,
    ),
    Difference(
        "a point of a curve that no threshold reaches, or without negatives (positives)",
        "NaN, and `reason` says why",
        "torchmetrics: 0 or 1, and a threshold of NaN or 10⁶",
        lambda call: of("fixed", "_at_")(call) and says("NaN")(call),
    ),
    Difference(
        "area under a curve at given thresholds (`thresholds=`, `binned_…`)",
        "of all scores",
        "of the thresholds alone",
        lambda call: of("auroc", "average_precision", "auprc")(call)
        and ("binned" in call["metric"] or at_thresholds(call)),
    ),
    Difference(
        "targets other than 0 and 1 where the task knows no others",
        "left out and counted in `scores.faults`",
        "torcheval counts them as one of the two",
        says("neither 0 nor 1"),
    ),
    Difference(
        "a weight of its own for each label of a row",
        "an error: a weight is one of a row",
        "torcheval (`num_tasks=`): counted",
        says("one weight a target"),
    ),
    Difference(
        "nothing to count: no positive, one class only, no row, equal values",
        "NaN, and `reason` says why",
        "0 (torchmetrics, torcheval, ignite), 1 or NaN (scikit-learn, by score)",
        says("NaN where", "NaN on"),
    ),
    Difference(
        "arguments without a meaning for ours: β of 0, more of the top k than there are classes",
        "an error that says what to pass",
        "a number",
        says("refused: "),
    ),
    Difference(
        "`zero_division` other than 0, for a class that is in targets or predictions",
        "nothing over nothing is 0: nothing was found; `absent` is for a class on neither side",
        "scikit-learn: `zero_division`",
        lambda call: any(f'"zero_division": {x}' in call["arguments"] for x in ("1", "NaN")),
    ),
    Difference(
        "relative errors of targets that are 0",
        "the row is left out, and a note tells how many",
        "divided by the least number of the type",
        of("percentage"),
    ),
    Difference(
        "ties among the top k",
        "the lower class wins",
        "scikit-learn: the higher one",
        of("top_k"),
    ),
    Difference(
        "specificity and NPV, a class that is in neither targets nor predictions",
        "left out of every average",
        "torchmetrics: right refusals of it count in micro averages",
        lambda call: call["metric"].endswith(("s_specificity", "l_specificity", "predictive_value")),
    ),
    Difference(
        "macro average of curves, a class without positives",
        "left out",
        "torcheval and scikit-learn: 0",
        of("auprc", "auroc", "average_precision"),
    ),
    Difference(
        "probabilities of classes that do not sum to 1",
        "such rows are refused and counted in `scores.faults`; `MultilabelMetrics` with one "
        "label a class ranks raw numbers",
        "ranked or clipped as they are",
        says("does not sum to 1"),
    ),
    Difference(
        "thresholds of ROC, precision–recall and fixed points",
        "the rates are the same; where scores come from the histogram, a threshold is the "
        "lower edge of its row, and scores that differ in the last digit of float32 may be "
        "one point",
        "a score that occurred; of equally good ones another may be named",
        lambda call: of("curve", "fixed", "_at_")(call) or call["metric"].endswith("roc"),
    ),
    Difference(
        "equal error rate",
        "where false positive and false negative rate meet",
        "torchmetrics: the mean of both rates at the nearest threshold",
        of("eer"),
    ),
    Difference(
        "logarithm of a probability of 0",
        "infinite",
        "scikit-learn clips probabilities at the least number of their type",
        of("log_loss"),
    ),
    Difference(
        "MCC of predictions and targets that are one class",
        "NaN; 0 with `absent=0`",
        "torchmetrics: 1 where they agree, −1 or 0 where not",
        of("matthews"),
    ),
    Difference(
        "retrieval: scores of 0 and below",
        "ranked as any others",
        "torchmetrics: never retrieved",
        of("retrieval"),
    ),
    Difference(
        "equal scores of a ranking",
        "they share their places: the order of the rows does not matter",
        "ignite and torchmetrics: in the order given",
        of("ndcg"),
    ),
    Difference(
        "targets that are nearly equal, in float32",
        "R² and Pearson's correlation as they are, from float64 sums",
        "torchmetrics: 0 or NaN beside a warning",
        of("r2_score", "pearson"),
    ),
    Difference(
        "reciprocal rank, precision and recall beyond the candidates of a query",
        "of all k places",
        "torchmetrics and torcheval: of the candidates that there are",
        of("reciprocal_rank", "hit_rate"),
    ),
    Difference(
        "NRMSE of several outputs",
        "each output by its own targets",
        "torchmetrics takes batches together in a way of its own",
        of("normalized_root"),
    ),
    Difference(
        "negative sample weights",
        "such rows are refused and counted",
        "counted as they are",
        says("sample weight"),
    ),
    Difference(
        "samples of which no label is counted, in exact match",
        "left out",
        "torchmetrics: counted as a match or a miss",
        of("exact_match"),
    ),
    Difference(
        "sigmoid or softmax of predictions",
        "by `inputs=`, never guessed",
        "torchmetrics: guessed from each batch anew, so that a batch may be read unlike the next one",
        lambda call: False,
    ),
)  # fmt: skip


def explained(call: Mapping[str, Any]) -> str:
    """The case that a different value belongs to; empty where none fits."""
    for difference in DIFFERENCES:
        if difference.fits(call):
            return difference.case
    return ""


def differences_section() -> str:
    """The section of docs/scores.md."""
    rows = [f"| {each.case} | {each.ours} | {each.theirs} |" for each in DIFFERENCES]
    return HEAD + "\n".join(rows) + "\n"
