"""What ptmetrics answers to a call of another library's metric: one table, from their names and arguments to ours.

A row of `TABLE` says which family a metric belongs to and how ours is read: names of scores by their `average=`, or a
function of the call. A name with `each:` in front is the list of the classes' scores; with `1-`, one minus the score. A
score that ptmetrics does not have makes the case "not offered".
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

import ptmetrics as pm
from tests.studies import peer_dialects
from tests.studies.peer_call import (
    BeyondIssue,
    Call,
    NotAValue,
    NotOffered,
    Numbers,
    Outcome,
    as_tensor,
    brief,
    compared,
    numbers,
)

Batch: TypeAlias = tuple[Tensor, Tensor, Tensor | None]
Names: TypeAlias = str | Mapping[str, str]
Reader: TypeAlias = Callable[[Call], Any]

COUNTS = "classification counts"
LABELS = "multilabel counts"
CURVES = "curves"
FIXED = "fixed point"
CALIBRATION = "calibration and losses"
REGRESSION = "regression"
RANKING = "ranking"
SEGMENTATION = "segmentation"
MEANS = "means of a loss"
AGGREGATION = "aggregation"
GROUPS = "group gaps"
RETRIEVAL = "outside the issue: ranking"
ELSEWHERE = "outside the issue"


@dataclass(frozen=True)
class Row:
    """A metric of theirs: its family, and how ours is read."""

    family: str
    read: Reader


def judge(call: Call, expected: Any, *, atol: float, rtol: float) -> Outcome:
    """How our answer stands to the one expected; `expected` may be a function that finds it."""
    family = ELSEWHERE
    if call.metric in peer_dialects.WATCHED.get(call.library, ()):
        family = COUNTS
    try:
        call = peer_dialects.canonical(call)
        row = TABLE.get(call.metric)
        if row is None:
            return Outcome(family, "not offered", call.metric)
        family = row.family
        ours = numbers(row.read(call))
    except NotAValue as reason:
        return Outcome(family, "not applicable", str(reason))
    except BeyondIssue as reason:
        return Outcome(f"{ELSEWHERE}: {family}", "not offered", str(reason)[:80])
    except NotOffered as reason:
        return Outcome(family, "not offered", str(reason)[:80])
    except pm.PtmetricsError as error:
        return Outcome(family, "different", f"refused: {error}"[:200])
    except Exception as error:  # noqa: BLE001 — told in the table as an error of the adapter
        return Outcome(family, "error", f"{call.metric}: {type(error).__name__}: {error}"[:300])
    try:
        theirs = numbers(expected() if callable(expected) else expected)
    except Exception as error:  # noqa: BLE001 — their reference may not run beside newer libraries
        return Outcome(family, "not applicable", f"no reference: {error}"[:120])
    status, why = compared(ours, theirs, atol, rtol, call.bound)
    if status == "equal":
        return Outcome(family, status, why)
    if call.told:
        why = f"{why}; told: {call.told}"[:200]
    return Outcome(family, status, why, brief(ours), brief(theirs))


# Batches, and our metrics of them.
def rows_of(call: Call) -> list[Batch]:
    """Predictions, targets and weights."""
    found = []
    for batch in call.batches:
        weight = batch.get("weight")
        if weight is not None:
            weight = as_tensor(weight)
        target = batch.get("target", batch.get("targets"))
        found.append((as_tensor(batch["preds"]), as_tensor(target), weight))
    return found


def flat(batches: Sequence[Batch]) -> list[Batch]:
    """One prediction a row."""
    return [(preds.flatten(), target.flatten(), weight) for preds, target, weight in batches]


def kind_of(call: Call) -> str:
    """What torchmetrics takes predictions for, but over all batches: it asks each batch anew."""
    batches = [as_tensor(batch["preds"]) for batch in call.batches]
    if not any(preds.is_floating_point() for preds in batches) and call.get("kind") != "scores":
        return "labels"
    if all(((preds >= 0) & (preds <= 1)).all() for preds in batches):
        return "probs"
    return "logits"


def asked(task: type[pm.Metrics], *names: str) -> dict[str, Any]:
    """The argument that brings scores which are computed only where they are asked for."""
    optional = set()
    for table in getattr(task, "optional_tables", ()):
        optional.update(spec.name for spec in table.specs)
    bare = {name.removeprefix("1-").removeprefix("each:") for name in names}
    if bare & optional:
        return {"scores": sorted(bare & optional)}
    return {}


def built(task: type[pm.Metrics], *arguments: Any, **options: Any) -> pm.Metrics:
    """A metric; an option that it does not know is not offered."""
    known = inspect.signature(task).parameters
    for name in options:
        if name not in known:
            raise NotOffered(f"{task.__name__}({name}=)")
    return task(*arguments, **options)


def binary(call: Call, batches: Sequence[Batch], **options: Any) -> pm.Scores:
    """All of BinaryMetrics."""
    kind = kind_of(call)
    options.setdefault("curves", None)
    if kind == "labels":
        options.pop("curves")
    elif isinstance(call.get("threshold"), float | int):
        options["threshold"] = threshold_of(call)
    options.setdefault("ignore_index", call.get("ignore_index"))
    return computed(call, built(pm.BinaryMetrics, inputs=kind, **options), flat(batches))


def threshold_of(call: Call) -> float:
    """The threshold; ours is a probability between 0 and 1."""
    threshold = float(call.get("threshold", 0.5))
    if not 0 < threshold < 1:
        raise NotOffered("a threshold that no probability can pass or miss")
    return threshold


def multiclass(call: Call, batches: Sequence[Batch], **options: Any) -> pm.Scores:
    """All of MulticlassMetrics."""
    kind = kind_of(call)
    if batches[0][0].ndim == batches[0][1].ndim:
        kind = "labels"
        batches = [(preds.long(), target, weight) for preds, target, weight in batches]
        options.pop("curves", None)
    else:
        options.setdefault("class_dim", 1)
        if not options.get("curves") and not options.get("losses"):
            kind = "logits"  # the highest wins, whatever they are
    options.setdefault("losses", False)
    options.pop("num_classes", None)
    options.setdefault("ignore_index", call.get("ignore_index"))
    if call.arguments.get("among") is not None:
        options["labels"] = call.arguments["among"]
    metrics = built(pm.MulticlassMetrics, classes_of(call, batches), inputs=kind, **options)
    return computed(call, metrics, batches)


def classes_of(call: Call, batches: Sequence[Batch]) -> int:
    """C, as told, as the scores have, or as the labels go."""
    given = call.get("num_classes")
    if given is not None:
        return int(given)
    preds, target, _ = batches[0]
    if preds.ndim > target.ndim:
        return int(preds.shape[1])
    return max(2, 1 + max(int(x.max()) for batch in batches for x in batch[:2]))


def multilabel(call: Call, batches: Sequence[Batch], **options: Any) -> pm.Scores:
    """All of MultilabelMetrics."""
    kind = kind_of(call)
    labels = call.get("num_labels") or batches[0][0].shape[1]
    if kind != "labels":
        options["threshold"] = threshold_of(call)
    options.setdefault("curves", False)
    options.setdefault("ignore_index", call.get("ignore_index"))
    if call.arguments.get("among") is not None:
        options["labels"] = call.arguments["among"]
    metrics = built(pm.MultilabelMetrics, labels, inputs=kind, class_dim=1, **options)
    return computed(call, metrics, batches)


def computed(call: Call, metrics: pm.Metrics, batches: Sequence[Batch]) -> pm.Scores:
    """The scores of the batches."""
    labels = getattr(metrics, "inputs", "") == "labels"
    for preds, target, weight in batches:
        if not preds.is_floating_point():
            preds = preds.long() if labels else preds.float()
        if metrics.task != "regression":
            target = target.long()
        metrics.update(preds, target, weight)
    scores = metrics.compute()
    for fault in scores.faults.values():
        call.told = str(fault["message"])
    return scores


def score(call: Call, scores: pm.Scores, name: str) -> Any:
    """The score of a name; `each:` and `1-` in front as the module says."""
    if name.startswith("1-"):
        return 1 - np.asarray(score(call, scores, name[2:]))
    if name.startswith("each:"):
        name = name[5:]
        if name not in scores.per_class:
            raise NotOffered(f"each:{name}")
        column = list(scores.per_class[name])
        call.bound = max([call.bound, *(each.error_bound for each in column)])
        among = call.arguments.get("among")
        if among is not None:
            column = [column[place] for place in among]
        elif "real_classes" in call.arguments:
            column = column[: call.arguments["real_classes"]]
        return np.array([each.value for each in column])
    if name not in scores:
        raise NotOffered(name)
    found = scores[name]
    call.bound = max(call.bound, found.error_bound)
    return found.value


TASKS: dict[str, Callable[..., pm.Scores]] = {
    "binary": binary,
    "multiclass": multiclass,
    "multilabel": multilabel,
}
OURS: dict[str, type[pm.Metrics]] = {
    "binary": pm.BinaryMetrics,
    "multiclass": pm.MulticlassMetrics,
    "multilabel": pm.MultilabelMetrics,
}


def task_of(call: Call) -> str:
    """Binary, multiclass or multilabel, by the name."""
    return call.metric.split("_")[0]


# Scores of counts.
def averages(name: str, micro: str = "") -> dict[str, str]:
    """The scores of classes by `average=`."""
    return {
        "micro": micro or f"{name}/micro",
        "macro": f"{name}/macro",
        "weighted": f"{name}/weighted",
        "samples": f"{name}/samples",
        "none": f"each:{name}",
    }


def pick(call: Call, names: Names) -> str:
    """The name by `average=`."""
    if isinstance(names, str):
        return names
    average = call.arguments.get("average") or "none"
    if average not in names:
        raise NotOffered(f"average={average}")
    return names[average]


def of_counts(names: Names) -> Reader:
    """A score of counts; with `multidim_average="samplewise"` of each sample by itself."""

    def read(call: Call) -> Any:
        task = task_of(call)
        name = pick(call, names)
        if name == "fbeta/micro" and task == "multiclass" and call.get("ignore_index", -1) < 0:
            name = "f1/micro"  # precision and recall are one number, whatever beta is
        options: dict[str, Any] = {"absent": absent_of(call, task, name)}
        if "beta" in call.arguments:
            options["beta"] = float(call.arguments["beta"])
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
    if any(batch.get("weight") is not None for batch in call.batches):
        raise NotOffered("weighted confusion matrix")
    if task == "multilabel":
        tp, fp, tn, fn = four_counts(call, task, rows_of(call))
        return normalised(call, np.stack([tn, fp, fn, tp], 1).reshape(-1, 2, 2))
    scores = TASKS[task](call, rows_of(call))
    assert scores.confusion is not None
    matrix = scores.confusion.double().numpy()
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
    axis = {"true": -1, "pred": -2, "all": (-2, -1)}[normalize]
    with np.errstate(all="ignore"):
        return np.nan_to_num(matrix / matrix.sum(axis=axis, keepdims=True))


def four_counts(call: Call, task: str, batches: Sequence[Batch]) -> list[Numbers]:
    """Tp, fp, tn and fn of each class or label, asked for by name."""
    names = ("tp", "fp", "tn", "fn")
    wanted = asked(OURS[task], *names)
    if not wanted:
        raise NotOffered("tp, fp, tn, fn by name")
    scores = TASKS[task](call, batches, **wanted)
    return [np.nan_to_num(score(call, scores, f"each:{name}")) for name in names]


def multilabel_confusion_of(call: Call) -> Any:
    """Scikit-learn's [[tn, fp], [fn, tp]] of each class or label."""
    if call.get("samplewise", False):
        raise NotOffered("confusion matrix of each sample")
    if any(batch.get("weight") is not None for batch in call.batches):
        raise NotOffered("weighted confusion matrix")
    tp, fp, tn, fn = four_counts(call, task_of(call), rows_of(call))
    return np.stack([tn, fp, fn, tp], 1)


def stat_scores_of(call: Call) -> Any:
    """Counts of hits, false alarms, right refusals, misses and targets."""
    task = task_of(call)
    if task == "multiclass" and call.get("top_k", 1) > 1 and rows_of(call)[0][0].ndim > 1:
        raise NotOffered("counts of the top k")
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


def of_labels_together(name: str) -> Reader:
    """A score of the labels of all rows as yes-or-no answers."""

    def read(call: Call) -> Any:
        return score(call, binary(call, rows_of(call)), name)

    return read


def kappa_of(call: Call) -> Any:
    """Cohen's kappa, weighted as asked for."""
    weights = call.get("weights", "none")
    task = task_of(call)
    name = "kappa"
    if task != "binary" and weights != "none":  # of two classes all weights are one
        name = f"kappa/{weights}"
    options = asked(OURS[task], name)
    return score(call, TASKS[task](call, rows_of(call), **options), name)


# Curves.
def curve_scores(call: Call, **options: Any) -> pm.Scores:
    """Scores with curves, exact where that is to be had."""
    task = task_of(call)
    if task == "binary":
        return binary(call, rows_of(call), curves="exact", **options)
    if task == "multiclass" and not sums_to_one(call):
        return one_against_rest(call, **options)
    return TASKS[task](call, rows_of(call), **exact_curves(task), **options)


def exact_curves(task: str) -> dict[str, Any]:
    """The argument for exact curves, where a task has them."""
    if "capacity" in inspect.signature(OURS[task]).parameters:
        return {"curves": "exact", "capacity": 10_000}
    return {"curves": True}


def sums_to_one(call: Call) -> bool:
    """Whether scores of classes are logits, or probabilities that sum to 1: what our classes take."""
    if call.get("kind") == "scores":
        return False
    if kind_of(call) != "probs":
        return True
    sums = torch.cat([preds.sum(1).flatten() for preds, *_ in rows_of(call)])
    return bool(((sums - 1).abs() < 0.01).all())


def one_against_rest(call: Call, **options: Any) -> pm.Scores:
    """Raw scores of each class ranked as they are: labels, one a class."""
    batches: list[Batch] = []
    ignored = call.get("ignore_index")
    for preds, target, weight in rows_of(call):
        classes = preds.shape[1]
        each = torch.nn.functional.one_hot(target.long().clamp(0, classes - 1), classes)
        if ignored is not None:
            each = torch.where((target == ignored)[..., None], -1, each)
        batches.append((preds, each.movedim(-1, 1), weight))
    options["ignore_index"] = -1
    return multilabel(call, batches, **exact_curves("multilabel"), **options)


def of_curve(name: str) -> Reader:
    """AUROC and average precision."""

    def read(call: Call) -> Any:
        task = task_of(call)
        picked = name
        if task != "binary":
            picked = pick(call, averages(name))
        if call.get("multi_class") == "ovo":
            picked = f"{name}/ovo" if picked.endswith("macro") else f"{name}/ovo/weighted"
        limit = call.get("max_fpr", 1.0)
        if limit < 1:
            picked = f"{picked}@fpr<={limit:g}"
            scores = curve_scores(call, **points(task, picked))
        else:
            scores = curve_scores(call, **asked(OURS[task], picked))
        return score(call, scores, picked)

    return read


def points(task: str, name: str) -> dict[str, Any]:
    """The argument that asks for a point of the curves."""
    if "at" not in inspect.signature(OURS[task]).parameters:
        raise NotOffered(name)
    return {"at": [name.removeprefix("each:")]}


def of_point(held: str, wanted: str) -> Reader:
    """The best of one rate where another is held, and its threshold, which is read off the table."""
    argument = f"min_{held}"

    def read(call: Call) -> Any:
        task = task_of(call)
        least = float(call.arguments[argument])
        thresholds = given_thresholds(call)
        tables = tables_of(call)
        best = [best_of(call, table, held, wanted, least, thresholds) for table in tables]
        values = np.array([value for value, _ in best])
        if thresholds is None and 0 < least <= 1:
            name = f"{wanted}@{held}>={least:g}"
            if task != "binary":
                name = f"each:{name}"
            scores = curve_scores(call, **points(task, name))
            ours = np.atleast_1d(score(call, scores, name))
            if not np.allclose(ours, values, equal_nan=True, atol=call.bound + 1e-9):
                values = ours
        return [values, np.array([threshold for _, threshold in best])]

    return read


def best_of(
    call: Call, table: Any, held: str, wanted: str, least: float, thresholds: Tensor | None
) -> tuple[float, float]:
    """The best rate among thresholds, and the threshold: of equals the highest of the other rate, then of thresholds."""
    unit = in_their_unit(call, table)
    counts = [table.tp, table.fp, table.tn, table.fn]
    if thresholds is not None:
        unit = thresholds.double()
        counts = at_thresholds(call, table, thresholds)
    tp, fp, tn, fn = counts
    rates = {
        "precision": tp / (tp + fp),
        "recall": tp / (tp + fn),
        "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp),
    }
    found = []
    for i in range(len(unit)):
        if float(rates[held][i]) >= least:
            found.append((float(rates[wanted][i]), float(rates[held][i]), float(unit[i])))
    if not found:
        return 0.0, math.nan
    if "precision" not in (held, wanted):  # read off the ROC curve: the highest threshold
        found = [(value, threshold, threshold) for value, _, threshold in found]
    value, _, threshold = max(found)
    return value, threshold


def eer_of(call: Call) -> Any:
    """The equal error rate."""
    task = task_of(call)
    name = "eer"
    if task != "binary":
        name = pick(call, averages("eer"))
    return score(call, curve_scores(call, **points(task, "eer")), name)


def tables_of(call: Call) -> list[Any]:
    """The table of thresholds of the positive, or of each class or label."""
    task = task_of(call)
    if task == "binary":
        return [curve_scores(call).thresholds()]
    if not inspect.signature(pm.Scores.thresholds).parameters.keys() - {"self"}:
        raise NotOffered("thresholds of each class or label")
    scores = curve_scores(call)
    return [scores.thresholds(place) for place in range(len(scores.class_names))]


def given_thresholds(call: Call) -> Tensor | None:
    """Those that were asked for, as numbers."""
    thresholds = call.arguments.get("thresholds", call.arguments.get("threshold"))
    if thresholds is None or isinstance(thresholds, float):
        return None
    if isinstance(thresholds, int):
        return torch.linspace(0, 1, thresholds)
    return as_tensor(thresholds)


def in_their_unit(call: Call, table: Any) -> Tensor:
    """Thresholds: torchmetrics' are probabilities, the others' as the scores are."""
    if call.library == "torchmetrics":
        return torch.as_tensor(table.probability)
    return torch.as_tensor(table.threshold)


def at_thresholds(call: Call, table: Any, thresholds: Tensor) -> list[Tensor]:
    """Tp, fp, tn and fn of a call from given thresholds on, read off our table."""
    unit = in_their_unit(call, table)
    place = torch.searchsorted(unit, thresholds.double())
    positives = table.tp[0] + table.fn[0]
    negatives = table.fp[0] + table.tn[0]
    tp = torch.cat([table.tp, torch.zeros(1, dtype=torch.float64)])[place]
    fp = torch.cat([table.fp, torch.zeros(1, dtype=torch.float64)])[place]
    return [tp, fp, negatives - fp, positives - tp]


def roc_of(call: Call) -> Any:
    """False and true positive rates and thresholds; torchmetrics' begin at 1, scikit-learn's at infinity."""
    if call.get("average", "none") != "none":
        raise NotOffered("averaged curves")
    curves = []
    thresholds = given_thresholds(call)
    for table in tables_of(call):
        if thresholds is not None:
            tp, fp, tn, fn = at_thresholds(call, table, thresholds)
            rates = [(fp / (fp + tn)).flip(0), (tp / (tp + fn)).flip(0), thresholds.flip(0)]
        else:
            nothing = torch.zeros(1, dtype=torch.float64)
            first = torch.inf if call.library != "torchmetrics" else 1.0
            unit = torch.cat((nothing + first, in_their_unit(call, table).flip(0)))
            fpr = torch.cat((nothing, (table.fp / (table.fp + table.tn)).flip(0)))
            tpr = torch.cat((nothing, (table.tp / (table.tp + table.fn)).flip(0)))
            rates = [fpr, tpr, unit]
            if call.get("drop_intermediate", False) or call.library == "ignite":
                corner = corners(table)
                rates = [rate[corner] for rate in rates]
        curves.append([torch.nan_to_num(rates[0]), torch.nan_to_num(rates[1]), rates[2]])
    return by_column(call, curves)


def corners(table: Any) -> Tensor:
    """Points that are not between two others on a line, as scikit-learn keeps them."""
    steps = []
    for count in (table.fp, table.tp):
        whole = torch.cat((torch.zeros(1, dtype=torch.float64), count.flip(0)))
        steps.append(whole.diff(n=2) != 0)
    ends = torch.ones(1, dtype=torch.bool)
    if len(table.fp) < 2:
        return torch.ones(len(table.fp) + 1, dtype=torch.bool)
    inner = steps[0] | steps[1]
    inner[0] = True  # scikit-learn adds the first point when it has dropped
    return torch.cat((ends, inner, ends))


def pr_curve_of(call: Call) -> Any:
    """Precision, recall and thresholds."""
    if call.get("average", "none") != "none":
        raise NotOffered("averaged curves")
    curves = []
    thresholds = given_thresholds(call)
    one = torch.ones(1, dtype=torch.float64)
    for table in tables_of(call):
        if thresholds is not None:
            tp, fp, _, fn = at_thresholds(call, table, thresholds)
            unit = thresholds
        else:
            tp, fp, fn = table.tp, table.fp, table.fn
            unit = in_their_unit(call, table)
        empty = 0.0 if call.library == "torchmetrics" else 1.0
        precision = torch.cat((torch.nan_to_num(tp / (tp + fp), nan=empty), one))
        recall = torch.cat((torch.nan_to_num(tp / (tp + fn), nan=1.0), 0 * one))
        curves.append([precision, recall, unit])
    return by_column(call, curves)


def by_column(call: Call, curves: list[list[Tensor]]) -> Any:
    """One curve as it is; of several the first columns, the second ones, the third ones."""
    if len(curves) == 1:
        return curves[0]
    columns = [list(column) for column in zip(*curves, strict=True)]
    if given_thresholds(call) is not None:
        columns[-1] = columns[-1][:1]  # they are the same for all
    return columns


def missing(what: str) -> Reader:
    """A metric that ptmetrics does not have."""

    def read(call: Call) -> Any:
        raise NotOffered(what)

    return read


# Losses of probabilities.
def of_loss(name: str) -> Reader:
    """A loss of probabilities."""

    def read(call: Call) -> Any:
        task = task_of(call)
        if call.arguments.get("normalize") is False:
            raise NotOffered("a sum of losses")
        options: dict[str, Any] = {"losses": True}
        return score(call, TASKS[task](call, rows_of(call), **options), name)

    return read


def perplexity_of(call: Call) -> Any:
    """Perplexity of tokens, classes last."""
    preds, target, _ = rows_of(call)[0]
    ignored = call.get("ignore_index")
    options = {"inputs": "logits", "class_dim": -1, "ignore_index": ignored}
    metrics = pm.MulticlassMetrics(preds.shape[-1], **options)
    return score(call, computed(call, metrics, rows_of(call)), "perplexity")


def dice_of(call: Call) -> Any:
    """Dice of all pictures together; `include_background=False` leaves class 0 out of averages."""
    if call.get("aggregation_level", "samplewise") != "global":
        raise NotOffered("dice of each picture")
    batches: list[Batch] = []
    classes = int(call.get("num_classes"))
    for preds, target, _ in rows_of(call):
        dense = preds.ndim
        preds = preds.argmax(1) if preds.ndim > 3 or preds.is_floating_point() else preds
        if target.ndim > preds.ndim or (target.ndim == dense and dense > 3):
            target = target.argmax(1)
        batches.append((preds.flatten().long(), target.flatten().long(), None))
    options: dict[str, Any] = {"absent": 0.0}
    if not call.get("include_background", True):
        call.arguments["among"] = list(range(1, classes))
    name = pick(call, averages("f1"))
    return score(call, multiclass(call, batches, num_classes=classes, **options), name)


# Regression.
def outputs_of(call: Call) -> int:
    """Number of columns."""
    target = as_tensor(call.batches[0]["target"])
    return 1 if target.ndim == 1 else int(target.shape[1])


def regression(call: Call, outputs: int, *names: str, **options: Any) -> pm.Scores:
    """All of RegressionMetrics."""
    options.update(asked(pm.RegressionMetrics, *names))
    metrics = built(pm.RegressionMetrics, num_outputs=outputs, **options)
    batches = rows_of(call)
    if outputs == 1:
        batches = flat(batches)
    return computed(call, metrics, batches)


def of_errors(name: str) -> Reader:
    """A score of all numbers; of each output where `num_outputs` or `multioutput` asks for that."""

    def read(call: Call) -> Any:
        picked = name
        if name == "mse" and call.arguments.get("squared") is False:
            picked = "rmse"
        if call.get("summed", False) and outputs_of(call) > 1:
            return summed(call, picked)
        if "multioutput" in call.arguments:
            return of_outputs(picked)(call)
        outputs = call.get("num_outputs", 1)
        if outputs > 1:
            picked = f"each:{picked}"
        return score(call, regression(call, outputs, picked), picked)

    return read


def summed(call: Call, name: str) -> Any:
    """Ignite adds outputs up and divides by rows."""
    square = name == "rmse"
    picked = "each:mse" if square else f"each:{name}"
    total = np.sum(score(call, regression(call, outputs_of(call), picked), picked))
    return np.sqrt(total) if square else total


def of_outputs(name: str) -> Reader:
    """A score with `multioutput=`."""

    def read(call: Call) -> Any:
        outputs = outputs_of(call)
        multioutput = call.get("multioutput", "uniform_average")
        options: dict[str, Any] = {}
        picked = name
        if call.get("adjusted", 0):
            picked = f"{name}/adjusted"
            options["num_features"] = int(call.get("adjusted"))
        if not isinstance(multioutput, str):
            options["output_weights"] = [float(weight) for weight in multioutput]
        elif multioutput == "variance_weighted" and outputs > 1:
            picked = f"{picked}/variance_weighted"
        elif multioutput == "raw_values" and outputs > 1:
            picked = f"each:{picked}"
        return score(call, regression(call, outputs, picked, **options), picked)

    return read


def of_columns(name: str, **given: Any) -> Reader:
    """A score of each column where there are columns."""

    def read(call: Call) -> Any:
        outputs = outputs_of(call)
        picked = name if outputs == 1 else f"each:{name}"
        options = {}
        if asked(pm.RegressionMetrics, name):
            options = given
        return score(call, regression(call, outputs, picked, **options), picked)

    return read


def nrmse_of(call: Call) -> Any:
    """RMSE over the mean, the range, the deviation or the norm of the targets."""
    by = call.get("normalization", "mean")
    name = "nrmse" if by == "mean" else f"nrmse/{by}"
    return of_errors(name)(call)


def kendall_of(call: Call) -> Any:
    """Kendall's τ-b."""
    if call.get("variant", "b") != "b":
        raise NotOffered("kendall of another variant than b")
    if call.get("t_test", False):
        raise NotOffered("p value of kendall")
    return of_columns("kendall", capacity=10_000)(call)


def bias_of(call: Call) -> Any:
    """Ignite's mean error is target − prediction."""
    return -np.asarray(of_errors("bias")(call))


# Rankings.
def ranking_of(call: Call, rows: Sequence[Batch], name: str, k: int, absent: float) -> Any:
    """A score of `RankingMetrics`."""
    if not hasattr(pm, "RankingMetrics"):
        raise NotOffered(name)
    metrics = pm.RankingMetrics(k=(k,), absent=absent)
    for preds, target, weight in rows:
        metrics.update(preds, target, weight)
    return score(call, metrics.compute(), name)


EMPTY = {
    "coverage_error": 0.0,
    "label_ranking_average_precision": 1.0,
    "label_ranking_loss": 0.0,
    "ndcg": 0.0,
}
"""Scikit-learn's number of a row without a relevant label."""


def of_label_ranking(name: str) -> Reader:
    """A ranking of the labels of each row."""

    def read(call: Call) -> Any:
        rows: list[Batch] = []
        for preds, target, weight in rows_of(call):
            if preds.ndim > 2:
                preds = preds.movedim(1, -1).flatten(0, -2)
                target = target.movedim(1, -1).flatten(0, -2)
            rows.append((preds.double(), target.long(), weight))
        k = call.get("k", 0)
        picked = name
        if k:
            picked = f"{name}@{k}"
        if not hasattr(pm, "RankingMetrics"):
            raise NotOffered(picked)
        return ranking_of(call, rows, picked, k or 1, EMPTY[name])

    return read


def of_queries(name: str, *, plain: bool) -> Reader:
    """A ranking of the documents of each query: rows of queries, padded with target −1."""

    def read(call: Call) -> Any:
        if call.get("aggregation", "mean") != "mean":
            raise BeyondIssue("another aggregation of queries than the mean")
        empty = {"neg": 0.0, "pos": 1.0, "skip": math.nan}
        action = call.get("empty_target_action", "neg")
        preds, target = queries_of(call)
        sizes = (target >= 0).sum(1)
        k = call.get("top_k", int(sizes.max()))
        picked = name
        if not plain:
            picked = f"{name}@{k}"
        elif call.get("top_k") is not None and k < int(sizes.max()):
            raise NotOffered(f"{name} of the top k")
        if name == "precision" and (call.get("adaptive_k") or call.get("top_k") is None):
            if int(sizes.min()) < k:
                raise NotOffered("precision at the length of each query")
        return ranking_of(call, [(preds, target, None)], picked, k, empty.get(action, 0.0))

    return read


def queries_of(call: Call) -> tuple[Tensor, Tensor]:
    """Scores and relevances, one row a query."""
    preds = torch.cat([as_tensor(batch["preds"]).flatten() for batch in call.batches])
    target = torch.cat([as_tensor(batch["target"]).flatten() for batch in call.batches])
    ignored = call.get("ignore_index")
    indexes = torch.zeros_like(target, dtype=torch.int64)
    if call.batches[0].get("indexes") is not None:
        indexes = torch.cat([as_tensor(batch["indexes"]).flatten() for batch in call.batches])
    if ignored is not None:
        kept = target != ignored
        preds, target, indexes = preds[kept], target[kept], indexes[kept]
    order = indexes.argsort(stable=True)
    sizes = indexes.unique(return_counts=True)[1].tolist()
    pad = torch.nn.utils.rnn.pad_sequence
    scores = pad(preds[order].double().split(sizes), batch_first=True)
    gains = pad(target[order].double().split(sizes), batch_first=True, padding_value=-1)
    return scores, gains


def of_hits(name: str) -> Reader:
    """Torcheval's hit rate and reciprocal rank: one number a row, of the target class among the scores."""

    def read(call: Call) -> Any:
        values = []
        for preds, target, _ in rows_of(call):
            k = call.get("top_k", preds.shape[1])
            for row, place in zip(preds.double(), target.tolist(), strict=True):
                one = torch.nn.functional.one_hot(torch.tensor([place]), preds.shape[1])
                picked = f"{name}@{k}" if name == "hit_rate" else name
                values.append(ranking_of(call, [(row[None], one, None)], picked, k, 0.0))
        return np.array(values)

    return read


# Means of a number a row: the recipes of docs/recipes.md.
def of_recipe(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> Reader:
    """`pm.Mean` of a function."""

    def read(call: Call) -> Any:
        reduction = call.get("reduction", "mean")
        metrics = pm.Mean(name, function, higher_is_better=False)
        rows = 0
        for preds, target, weight in rows_of(call):
            metrics.update(preds.double(), target.double(), weight)
            rows += len(target)
        value = score(call, metrics.compute(), name)
        if reduction == "sum":
            return value * rows
        if reduction == "none":
            raise NotOffered("one number a row")
        return value

    return read


def log_cosh(preds: Tensor, target: Tensor) -> Tensor:
    """Of docs/recipes.md."""
    off = (preds - target).abs()
    return off + torch.nn.functional.softplus(-2 * off) - math.log(2)


def tweedie_of(call: Call) -> Any:
    """Tweedie deviance of any power."""
    power = float(call.get("power", 0.0))

    def deviance(preds: Tensor, target: Tensor) -> Tensor:
        if power == 0:
            return (preds - target) ** 2
        if power == 1:
            return 2 * (torch.xlogy(target, target / preds) - target + preds)
        if power == 2:
            return 2 * (target / preds - 1 - (target / preds).log())
        a, b = 1 - power, 2 - power
        gain = target.clamp(min=0) ** b / (a * b)
        return 2 * (gain - target * preds**a / a + preds**b / b)

    one = Call(call.library, call.metric, {}, [])
    one.batches = []
    for preds, target, weight in flat(rows_of(call)):
        one.batches.append({"preds": preds, "target": target, "weight": weight})
    return of_recipe("tweedie", deviance)(one)


def log_cosh_of(call: Call) -> Any:
    """Of one output or of each."""
    outputs = call.get("num_outputs", 1)
    values = []
    for place in range(outputs):
        one = Call(call.library, call.metric, {}, [])
        for preds, target, _ in rows_of(call):
            pair = (preds, target)
            if outputs > 1:
                pair = (preds[:, place], target[:, place])
            one.batches.append({"preds": pair[0].flatten(), "target": pair[1].flatten()})
        values.append(of_recipe("log_cosh", log_cosh)(one))
    return values


def cosine(preds: Tensor, target: Tensor) -> Tensor:
    """Of docs/recipes.md."""
    return torch.nn.functional.cosine_similarity(preds, target, 1)


def kl(preds: Tensor, target: Tensor) -> Tensor:
    """Of docs/recipes.md."""
    return (torch.xlogy(preds, preds) - torch.xlogy(preds, target)).sum(1)


def js(preds: Tensor, target: Tensor) -> Tensor:
    """Of docs/recipes.md."""
    middle = (preds + target) / 2
    both = torch.xlogy(preds, preds) + torch.xlogy(target, target)
    return both.sum(1) / 2 - torch.xlogy(middle, middle).sum(1)


def of_distributions(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> Reader:
    """Torchmetrics' p and q, which it divides by their sums; logarithms are undone."""

    def read(call: Call) -> Any:
        one = Call(call.library, call.metric, {"reduction": call.get("reduction", "mean")}, [])
        for batch in call.batches:
            first = as_tensor(batch.get("p", batch.get("preds"))).double()
            second = as_tensor(batch.get("q", batch.get("target"))).double()
            if call.get("log_prob", False):
                first, second = first.exp(), second.exp()
            first = first / first.sum(-1, keepdim=True)
            second = second / second.sum(-1, keepdim=True)
            one.batches.append({"preds": first, "target": second})
        return of_recipe(name, function)(one)

    return read


def crps(preds: Tensor, target: Tensor) -> Tensor:
    """Of docs/recipes.md."""
    place = torch.arange(preds.shape[1])
    spread = (preds.sort(1).values * (2 * place - preds.shape[1] + 1)).sum(1) / preds.shape[1] ** 2
    return (preds - target.unsqueeze(1)).abs().mean(1) - spread


def pinball_of(call: Call) -> Any:
    """Pinball loss of one quantile."""
    q = float(call.get("alpha", 0.5))

    def loss(preds: Tensor, target: Tensor) -> Tensor:
        off = target - preds
        return torch.maximum(q * off, (q - 1) * off)

    if outputs_of(call) > 1:
        raise NotOffered("pinball loss of several outputs")
    return of_recipe("pinball", loss)(call)


def hinge_of(call: Call) -> Any:
    """Hinge losses: of yes-or-no scores, and Crammer and Singer's of classes."""
    if call.get("multiclass_mode", "crammer-singer") != "crammer-singer":
        raise NotOffered("hinge, one against all")
    power = 2 if call.get("squared", False) else 1
    ignored = call.get("ignore_index")

    def loss(preds: Tensor, target: Tensor) -> Tensor:
        target = target.long()
        if preds.ndim == 1:
            return (1 - preds * (2 * target - 1)).clamp(min=0) ** power
        own = preds.gather(1, target.unsqueeze(1))
        others = preds.scatter(1, target.unsqueeze(1), -torch.inf)
        return (1 - own[:, 0] + others.amax(1)).clamp(min=0) ** power

    one = Call(call.library, call.metric, {}, [])
    for preds, target, weight in rows_of(call):
        if preds.ndim > target.ndim:
            preds = preds.movedim(1, -1).flatten(0, -2)
        else:
            preds = preds.flatten()
        target = target.flatten()
        if ignored is not None:
            preds, target = preds[target != ignored], target[target != ignored]
        if call.library == "torchmetrics" and kind_of(call) == "logits":
            preds = preds.softmax(1) if preds.ndim > 1 else preds.sigmoid()
        one.batches.append({"preds": preds, "target": target, "weight": weight})
    return of_recipe("hinge", loss)(one)


# Gaps between groups.
def gaps_of(call: Call, *wanted: str) -> Any:
    """Gaps between slices, one a group."""
    if not hasattr(pm.Scores, "gaps"):
        raise NotOffered("gaps between groups")
    groups = torch.cat([as_tensor(batch["groups"]).flatten() for batch in call.batches])
    known = groups.unique()
    kind = kind_of(call)
    metrics = pm.BinaryMetrics(
        inputs=kind, slices=len(known), ignore_index=call.get("ignore_index"), absent=0.0
    )
    for batch in call.batches:
        preds, target = as_tensor(batch["preds"]).flatten(), as_tensor(batch["target"]).flatten()
        ids = torch.searchsorted(known, as_tensor(batch["groups"]).flatten())
        metrics.update(preds, target.long(), slices=ids)
    scores = metrics.compute()
    found = dict(scores.gaps())
    found["accuracy_difference"] = scores.gap("accuracy").difference
    return np.array([found[name].value for name in wanted])


def fairness_of(call: Call) -> Any:
    """Ratios of the smallest to the largest rate."""
    both = ("demographic_parity_ratio", "equal_opportunity_ratio")
    task = call.get("task", "all")
    chosen = {"demographic_parity": both[:1], "equal_opportunity": both[1:]}.get(task, both)
    return gaps_of(call, *chosen)


def mean_of(call: Call) -> Any:
    """A weighted mean of numbers."""
    if call.get("nan_strategy", "warn") not in ("warn", "ignore", "error"):
        raise NotOffered("a number in the place of NaN")
    metrics = pm.Mean("mean", lambda preds, target: preds, higher_is_better=True)
    for batch in call.batches:
        value = batch.get("value", batch.get("input"))
        weight = batch.get("weight", 1.0)
        values = torch.as_tensor(value, dtype=torch.float64)
        weights = torch.broadcast_to(torch.as_tensor(weight).double(), values.shape).flatten()
        values = values.flatten()
        if len(values):
            metrics.update(values, values, weights)
    scores = metrics.compute()
    return score(call, scores, "mean")


def classes(name: str, ours: str, *, one: str = "") -> dict[str, Row]:
    """A metric of counts in all three tasks: `ours` with its averages."""
    multi = {average: one + text for average, text in averages(ours).items()}
    return {
        f"binary_{name}": Row(
            COUNTS, of_counts({**multi, "none": one + ours, "binary": one + ours})
        ),
        f"multiclass_{name}": Row(COUNTS, of_counts(multi)),
        f"multilabel_{name}": Row(LABELS, of_counts(multi)),
    }


def by_task(family: str, letters: str, name: str, read: Reader) -> dict[str, Row]:
    """A row for each task: b, c and l are binary, classes and labels."""
    tasks = {"b": "binary", "c": "multiclass", "l": "multilabel"}
    return {f"{tasks[letter]}_{name}": Row(family, read) for letter in letters}


def all_missing(family: str, *names: str) -> dict[str, Row]:
    """Metrics that ptmetrics does not have."""
    return {name: Row(family, missing(name)) for name in names}


def opposite(names: dict[str, str]) -> dict[str, str]:
    """One minus each."""
    return {average: f"1-{name}" for average, name in names.items()}


TABLE: dict[str, Row] = {
    **classes("precision", "precision"),
    **classes("recall", "recall"),
    **classes("f1_score", "f1"),
    **classes("fbeta_score", "fbeta"),
    **classes("specificity", "specificity"),
    **classes("negative_predictive_value", "npv"),
    **classes("jaccard_index", "jaccard"),
    "binary_accuracy": Row(COUNTS, of_counts("accuracy")),
    "multiclass_accuracy": Row(COUNTS, of_counts(averages("recall", "accuracy"))),
    "multilabel_accuracy": Row(LABELS, label_accuracy_of),
    "binary_hamming_distance": Row(COUNTS, of_counts("1-accuracy")),
    "multiclass_hamming_distance": Row(COUNTS, of_counts(opposite(averages("recall", "accuracy")))),
    "multilabel_hamming_distance": Row(LABELS, label_hamming_of),
    "multilabel_hamming_loss": Row(LABELS, of_counts("hamming_loss")),
    "multiclass_hamming_loss": Row(COUNTS, of_counts("hamming_loss")),
    "multiclass_zero_one_loss": Row(COUNTS, of_counts("hamming_loss")),
    "multilabel_zero_one_loss": Row(LABELS, of_counts("1-exact_match")),
    "multiclass_balanced_accuracy": Row(COUNTS, balanced_of),
    **by_task(COUNTS, "bc", "matthews_corrcoef", of_counts("mcc")),
    "multilabel_matthews_corrcoef": Row(LABELS, of_labels_together("mcc")),
    **by_task(COUNTS, "bc", "cohen_kappa", kappa_of),
    **by_task(COUNTS, "bc", "confusion_matrix", confusion_of),
    **by_task(LABELS, "l", "confusion_matrix", confusion_of),
    **by_task(COUNTS, "bc", "stat_scores", stat_scores_of),
    **by_task(LABELS, "l", "stat_scores", stat_scores_of),
    "multilabel_multilabel_confusion_matrix": Row(LABELS, multilabel_confusion_of),
    "multiclass_multilabel_confusion_matrix": Row(LABELS, multilabel_confusion_of),
    **by_task(COUNTS, "bc", "precision_recall_fscore_support", fscore_support_of),
    **by_task(LABELS, "l", "precision_recall_fscore_support", fscore_support_of),
    "classification_report": Row(COUNTS, report_of),
    "multilabel_exact_match": Row(LABELS, of_counts("exact_match")),
    "multiclass_exact_match": Row(SEGMENTATION, missing("exact match of sequences")),
    **by_task(CURVES, "bcl", "auroc", of_curve("auroc")),
    **by_task(CURVES, "bcl", "average_precision", of_curve("average_precision")),
    **by_task(CURVES, "bcl", "roc", roc_of),
    **by_task(CURVES, "bcl", "precision_recall_curve", pr_curve_of),
    **by_task(CURVES, "bcl", "binned_precision_recall_curve", pr_curve_of),
    **by_task(ELSEWHERE, "bcl", "logauc", missing("logauc")),
    **by_task(FIXED, "bcl", "eer", eer_of),
    **by_task(FIXED, "bcl", "recall_at_fixed_precision", of_point("precision", "recall")),
    **by_task(FIXED, "bcl", "precision_at_fixed_recall", of_point("recall", "precision")),
    **by_task(FIXED, "bcl", "sensitivity_at_specificity", of_point("specificity", "sensitivity")),
    **by_task(FIXED, "bcl", "specificity_at_sensitivity", of_point("sensitivity", "specificity")),
    **by_task(CALIBRATION, "bc", "calibration_error", missing("calibration error by bins")),
    **by_task(CALIBRATION, "bc", "log_loss", of_loss("nll")),
    **by_task(CALIBRATION, "bc", "brier", of_loss("brier")),
    "perplexity": Row(CALIBRATION, perplexity_of),
    **by_task(MEANS, "bc", "hinge_loss", hinge_of),
    "binary_fairness": Row(GROUPS, fairness_of),
    "demographic_parity": Row(
        GROUPS, lambda call: gaps_of(call, "demographic_parity_ratio")
    ),
    "equal_opportunity": Row(
        GROUPS, lambda call: gaps_of(call, "equal_opportunity_ratio")
    ),
    "demographic_parity_difference": Row(
        GROUPS, lambda call: gaps_of(call, "demographic_parity_difference")
    ),
    "subgroup_accuracy_difference": Row(
        GROUPS, lambda call: gaps_of(call, "accuracy_difference")
    ),
    **by_task(RANKING, "l", "coverage_error", of_label_ranking("coverage_error")),
    **by_task(RANKING, "l", "ranking_average_precision", of_label_ranking("label_ranking_average_precision")),
    **by_task(RANKING, "l", "ranking_loss", of_label_ranking("label_ranking_loss")),
    "mean_squared_error": Row(REGRESSION, of_errors("mse")),
    "root_mean_squared_error": Row(REGRESSION, of_errors("rmse")),
    "mean_absolute_error": Row(REGRESSION, of_errors("mae")),
    "max_error": Row(REGRESSION, of_errors("max_error")),
    "median_absolute_error": Row(REGRESSION, of_errors("median_absolute_error")),
    "ignite_mean_error": Row(REGRESSION, bias_of),
    "mean_absolute_percentage_error": Row(REGRESSION, of_errors("mape")),
    "sklearn_mape": Row(REGRESSION, of_errors("mape")),
    "symmetric_mean_absolute_percentage_error": Row(REGRESSION, of_errors("smape")),
    "weighted_mean_absolute_percentage_error": Row(REGRESSION, of_errors("wmape")),
    "mean_squared_log_error": Row(REGRESSION, of_errors("msle")),
    "root_mean_squared_log_error": Row(REGRESSION, of_errors("rmsle")),
    "normalized_root_mean_squared_error": Row(REGRESSION, nrmse_of),
    "r2_score": Row(REGRESSION, of_outputs("r2")),
    "explained_variance": Row(REGRESSION, of_outputs("explained_variance")),
    "pearson_corrcoef": Row(REGRESSION, of_columns("pearson")),
    "spearman_corrcoef": Row(REGRESSION, of_columns("spearman", capacity=10_000)),
    "kendall_rank_corrcoef": Row(REGRESSION, kendall_of),
    "continuous_ranked_probability_score": Row(REGRESSION, of_recipe("crps", crps)),
    "mean_pinball_loss": Row(REGRESSION, pinball_of),
    "log_cosh_error": Row(MEANS, log_cosh_of),
    "tweedie_deviance_score": Row(MEANS, tweedie_of),
    "mean_poisson_deviance": Row(MEANS, tweedie_of),
    "mean_gamma_deviance": Row(MEANS, tweedie_of),
    "cosine_similarity": Row(MEANS, of_recipe("cosine_similarity", cosine)),
    "kl_divergence": Row(MEANS, of_distributions("kl_divergence", kl)),
    "jensen_shannon_divergence": Row(MEANS, of_distributions("js_divergence", js)),
    **all_missing(
        ELSEWHERE, "concordance_corrcoef", "relative_squared_error", "minkowski_distance",
        "critical_success_index", "d2_tweedie_score", "d2_pinball_score", "d2_absolute_error_score",
        "generalized_dice_score", "hausdorff_distance", "auc", "sum_metric", "max_metric", "min_metric",
        "cat_metric", "running_mean", "running_sum",
    ),
    "mean_metric": Row(AGGREGATION, mean_of),
    "mean": Row(AGGREGATION, mean_of),
    "retrieval_mrr": Row(RANKING, of_queries("mrr", plain=True)),
    "retrieval_reciprocal_rank": Row(RANKING, of_queries("mrr", plain=True)),
    "retrieval_hit_rate": Row(RANKING, of_queries("hit_rate", plain=False)),
    "retrieval_normalized_dcg": Row(RANKING, of_queries("ndcg", plain=False)),
    "retrieval_map": Row(RANKING, of_queries("label_ranking_average_precision", plain=True)),
    "retrieval_average_precision": Row(
        RANKING, of_queries("label_ranking_average_precision", plain=True)
    ),
    "retrieval_precision": Row(RANKING, of_queries("precision", plain=False)),
    "retrieval_recall": Row(RANKING, of_queries("recall", plain=False)),
    "hit_rate": Row(RANKING, of_hits("hit_rate")),
    "reciprocal_rank": Row(RANKING, of_hits("mrr")),
    "multilabel_ndcg": Row(RANKING, of_label_ranking("ndcg")),
    **all_missing(RANKING, "ignite_hit_rate", "ignite_ndcg"),
    **all_missing(
        RETRIEVAL,
        *(
            f"retrieval_{name}"
            for name in (
                "fall_out", "r_precision", "auroc", "precision_recall_curve", "rprecision",
                "recall_at_fixed_precision",
            )
        ),
    ),
    "dice_score": Row(SEGMENTATION, dice_of),
    **all_missing(SEGMENTATION, "mean_iou"),
}  # fmt: skip


def watched(library: str) -> set[str]:
    """Names of the library's functions that are cases when a test calls them."""
    return set(TABLE) | peer_dialects.WATCHED.get(library, set())
