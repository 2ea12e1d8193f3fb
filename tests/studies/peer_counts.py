"""Answers from counts of classes and labels, and from losses of probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

import ptmetrics as pm
from tests.studies import peer_dialects
from tests.studies.peer_call import Call, NotOfferedError, Numbers
from tests.studies.peer_metrics import (
    OURS,
    TASKS,
    Batch,
    Names,
    Reader,
    asked,
    averages,
    binary,
    computed,
    pick,
    rows_of,
    score,
    task_of,
)


def of_counts(names: Names) -> Reader:
    """A score of counts; with `multidim_average="samplewise"` of each sample by itself."""

    def read(call: Call) -> Any:
        task = task_of(call)
        name = pick(call, names)
        options: dict[str, Any] = {"absent": absent_of(call, task, name)}
        if "fbeta" in name and float(call.get("beta", 1.0)) == 1:
            name = name.replace("fbeta", "f1")
        elif "fbeta" in name:
            options["beta"] = float(call.get("beta"))
        k = call.get("top_k", 1)
        if task == "multiclass" and k > 1 and rows_of(call)[0][0].ndim > 1:
            options["topk"] = (k,)
            name = of_top_k(name, k)
        options.update(asked(OURS[task], name))
        if call.get("multidim_average") != "samplewise":
            return score(call, TASKS[task](call, rows_of(call), **options), name)
        values = []
        for one in samples_of(call, task):
            values.append(score(call, TASKS[task](call, [one], **options), name))
        return np.stack([np.asarray(value) for value in values])

    return read


def absent_of(call: Call, task: str, name: str) -> float:
    """What stands for an undefined score: torchmetrics leaves a class that is nowhere out of means, else says 0."""
    if "absent" in call.arguments:
        return float(call.arguments["absent"])
    zero = float(call.get("zero_division", 0.0))
    if task == "multilabel" and name.split("/")[0] in ("precision", "recall", "f1", "fbeta"):
        return zero  # such a label is in torchmetrics' mean
    if name in ("each:specificity", "each:npv"):
        return 1.0  # nobody was taken for a class that is nowhere
    if task == "binary" or name.startswith(("each:", "1-each:")) or name.endswith("/micro"):
        return zero
    return math.nan


def of_top_k(name: str, k: int) -> str:
    """The score of the k highest classes."""
    if name == "accuracy":
        return f"top{k}_accuracy"
    if name.startswith("each:"):
        return f"each:top{k}_{name[5:]}"
    return f"top{k}_{name}"


def samples_of(call: Call, task: str) -> list[Batch]:
    """Each sample as a batch of its own pixels."""
    found: list[Batch] = []
    for preds, target, _ in rows_of(call):
        for i in range(len(target)):
            found.append((*rows_of_sample(task, preds[i], target[i]), None))
    return found


def rows_of_sample(task: str, preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """One picture as a batch of its own pixels."""
    if task == "binary":
        return preds.flatten(), target.flatten()
    if task == "multiclass":
        if preds.is_floating_point():
            return preds.flatten(1).T, target.flatten()
        return preds.flatten(), target.flatten()
    return preds.flatten(1).T, target.flatten(1).T


def confusion_of(call: Call) -> Any:
    """The confusion matrix, normalised as asked for; of labels one each."""
    task = task_of(call)
    if task == "multilabel":
        tp, fp, tn, fn = four_counts(call, task, rows_of(call))
        return normalised(call, np.stack([tn, fp, fn, tp], 1).reshape(-1, 2, 2))
    scores = TASKS[task](call, rows_of(call))
    matrix = getattr(scores, "weighted_confusion", scores.confusion)
    assert matrix is not None
    matrix = matrix.double().numpy()
    among = call.arguments.get("among")
    if among is not None:
        matrix = matrix[np.ix_(among, among)]
    elif call.arguments.get("real_classes") == 1:
        matrix = matrix[:1, :1]
    return normalised(call, matrix)


def normalised(call: Call, matrix: Numbers) -> Numbers:
    """Counts, or shares of rows, columns or all."""
    normalize = call.get("normalize", "none")
    if normalize == "none":
        return matrix
    axes = {"true": (-1,), "pred": (-2,), "all": (-2, -1)}[normalize]
    with np.errstate(all="ignore"):
        return np.asarray(np.nan_to_num(matrix / matrix.sum(axis=axes, keepdims=True)))


def four_counts(call: Call, task: str, batches: Sequence[Batch]) -> list[Numbers]:
    """Tp, fp, tn and fn of each class or label, asked for by name."""
    names = ("tp", "fp", "tn", "fn")
    wanted = asked(OURS[task], *names)
    if not wanted:
        raise NotOfferedError("tp, fp, tn, fn by name")
    scores = TASKS[task](call, batches, **wanted)
    return [np.nan_to_num(score(call, scores, f"each:{name}")) for name in names]


def multilabel_confusion_of(call: Call) -> Any:
    """Scikit-learn's [[tn, fp], [fn, tp]] of each class or label."""
    if call.get("samplewise", False):
        raise NotOfferedError("confusion matrix of each sample")
    tp, fp, tn, fn = four_counts(call, task_of(call), rows_of(call))
    return np.stack([tn, fp, fn, tp], 1)


def stat_scores_of(call: Call) -> Any:
    """Counts of hits, false alarms, right refusals, misses and targets."""
    task = task_of(call)
    if task == "multiclass" and call.get("top_k", 1) > 1 and rows_of(call)[0][0].ndim > 1:
        raise NotOfferedError("counts of the top k")
    if call.get("multidim_average") != "samplewise":
        return counts_of(call, task, rows_of(call))
    return [counts_of(call, task, [one]) for one in samples_of(call, task)]


def counts_of(call: Call, task: str, batches: Sequence[Batch]) -> Numbers:
    """Tp, fp, tn, fn and support."""
    if task == "binary":
        scores = binary(call, batches)
        assert scores.confusion is not None
        tn, fp, fn, tp = scores.confusion.double().flatten().tolist()
        return np.array([tp, fp, tn, fn, tp + fn])
    tp, fp, tn, fn = four_counts(call, task, batches)
    actual = tp + fn
    table = np.stack([tp, fp, tn, fn, actual], 1)
    average = call.arguments.get("average") or "none"
    if average == "micro":
        return np.asarray(table.sum(0))
    if average == "macro":
        return np.asarray(table.mean(0))
    if average == "weighted":
        return np.asarray((table * (actual / actual.sum())[:, None]).sum(0))
    return table


def balanced_of(call: Call) -> Any:
    """Balanced accuracy, adjusted for chance or not."""
    if call.get("adjusted", False):
        return of_counts("balanced_accuracy/adjusted")(call)
    return of_counts("balanced_accuracy")(call)


def label_accuracy_of(call: Call) -> Any:
    """Accuracy of labels; where every label has as many answers, macro is micro."""
    names = averages("accuracy", "1-hamming_loss")
    if call.get("ignore_index") is None:
        names["macro"] = names["micro"]
    return of_counts(names)(call)


def label_hamming_of(call: Call) -> Any:
    """One minus it."""
    return 1 - np.asarray(label_accuracy_of(call))


def fscore_support_of(call: Call) -> Any:
    """Scikit-learn's four at once: precision, recall, F-beta and support."""
    task = task_of(call)
    average = call.arguments["average"]
    found = []
    for name in ("precision", "recall", "fbeta"):
        found.append(of_counts({**averages(name), "binary": name})(call))
    if average == "none":
        options = {"absent": absent_of(call, task, "each:")}
        found.append(score(call, TASKS[task](call, rows_of(call), **options), "each:support"))
    else:
        found.append(math.nan)  # None
    return found


def report_of(call: Call) -> Any:
    """`classification_report`."""
    given = call.arguments
    options = {"output_dict": given.get("output_dict", False), "digits": given.get("digits", 2)}
    labels = peer_dialects.report_arguments(call)
    return pm.classification_report(
        labels.pop("preds"),
        labels.pop("target"),
        inputs="labels",
        **options,
        **labels,
    )


def kappa_of(call: Call) -> Any:
    """Cohen's kappa, weighted as asked for."""
    weights = call.get("weights", "none")
    if call.arguments.get("among") is not None:
        raise NotOfferedError("kappa of some of the classes")
    task = task_of(call)
    name = "kappa"
    if task != "binary" and weights != "none":  # of two classes all weights are one
        name = f"kappa/{weights}"
    options = asked(OURS[task], name)
    options["absent"] = float(call.arguments.get("absent", math.nan))
    return score(call, TASKS[task](call, rows_of(call), **options), name)


def of_loss(name: str) -> Reader:
    """A loss of probabilities."""

    def read(call: Call) -> Any:
        task = task_of(call)
        value = score(call, TASKS[task](call, rows_of(call), losses=True), name)
        if task == "binary" and call.get("doubled", False):
            return 2 * value
        return value

    return read


CALIBRATION_ERRORS = {"l1": "ece", "l2": "rms_ce", "max": "mce"}


def calibration_of(call: Call) -> Any:
    """A calibration error by its norm and its bins."""
    task = task_of(call)
    bins = int(call.get("n_bins", 15))
    name = CALIBRATION_ERRORS[call.get("norm", "l1")]
    if bins != 15:
        name = f"{name}/{bins}"
    options = asked(OURS[task], name)
    if task == "binary":
        options["curves"] = "fp16"
    return score(call, TASKS[task](call, rows_of(call), losses=True, **options), name)


def perplexity_of(call: Call) -> Any:
    """Perplexity of tokens, classes last."""
    preds = rows_of(call)[0][0]
    ignored = call.get("ignore_index")
    options = {"inputs": "logits", "class_dim": -1, "ignore_index": ignored}
    metrics = pm.MulticlassMetrics(preds.shape[-1], **options)
    return score(call, computed(call, metrics, rows_of(call)), "perplexity")
