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
RETRIEVAL = "outside the issue: retrieval"
ELSEWHERE = "outside the issue"


@dataclass(frozen=True)
class Row:
    """A metric of theirs: its family, and how ours is read."""

    family: str
    read: Reader


def judge(call: Call, expected: Any, *, atol: float, rtol: float) -> Outcome:
    """How our answer stands to the one expected; `expected` may be a function that finds it."""
    family = ELSEWHERE
    try:
        call = peer_dialects.canonical(call)
        row = TABLE.get(call.metric)
        if row is None:
            return Outcome(family, "not offered", call.metric)
        family = row.family
        ours = numbers(row.read(call))
    except NotAValue as reason:
        return Outcome(family, "not applicable", str(reason))
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
        found.append((as_tensor(batch["preds"]), as_tensor(batch["target"]), weight))
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
    """The confusion matrix, normalised as asked for."""
    task = task_of(call)
    if task == "multilabel":
        raise NotOffered("confusion matrix of each label")
    scores = TASKS[task](call, rows_of(call))
    if scores.confusion is None or call.arguments.get("sample_weight") is not None:
        raise NotOffered("weighted confusion matrix")
    matrix = scores.confusion.double().numpy()
    among = call.arguments.get("among")
    if among is not None:
        matrix = matrix[np.ix_(among, among)]
    elif call.arguments.get("real_classes") == 1:
        matrix = matrix[:1, :1]
    normalize = call.get("normalize", "none")
    if normalize == "none":
        return matrix
    axis = {"true": 1, "pred": 0, "all": None}[normalize]
    with np.errstate(all="ignore"):
        return np.nan_to_num(matrix / matrix.sum(axis=axis, keepdims=True))


def stat_scores_of(call: Call) -> Any:
    """Counts of hits, false alarms, right refusals, misses and targets."""
    task = task_of(call)
    if call.get("top_k", 1) > 1:
        raise NotOffered("counts of the top k")
    if task == "multilabel":
        raise NotOffered("tp, fp, tn, fn of each label")
    if call.get("multidim_average") != "samplewise":
        return counts_of(call, task, rows_of(call))
    return [counts_of(call, task, [one]) for one in samples_of(call, task)]


def counts_of(call: Call, task: str, batches: Sequence[Batch]) -> Numbers:
    """Tp, fp, tn, fn and support from the confusion matrix."""
    scores = TASKS[task](call, batches)
    assert scores.confusion is not None
    matrix = scores.confusion.double().numpy()
    hits = np.diag(matrix)
    actual = matrix.sum(1)
    predicted = matrix.sum(0)
    columns = [hits, predicted - hits, matrix.sum() - actual - predicted + hits, actual - hits]
    table = np.stack([*columns, actual], 1)
    if task == "binary":
        return np.asarray(table[1])
    average = call.arguments.get("average") or "none"
    if average == "micro":
        return np.asarray(table.sum(0))
    if average == "macro":
        return np.asarray(table.mean(0))
    if average == "weighted":
        return np.asarray((table * (actual / actual.sum())[:, None]).sum(0))
    return table


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
    return by_column(curves)


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
    return by_column(curves)


def by_column(curves: list[list[Tensor]]) -> Any:
    """One curve as it is; of several the first columns, the second ones, the third ones."""
    if len(curves) == 1:
        return curves[0]
    return [list(column) for column in zip(*curves, strict=True)]


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
        f"binary_{name}": Row(COUNTS, of_counts({**multi, "none": one + ours})),
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
    "multilabel_accuracy": Row(LABELS, of_counts(averages("accuracy", "1-hamming_loss"))),
    "binary_hamming_distance": Row(COUNTS, of_counts("1-accuracy")),
    "multiclass_hamming_distance": Row(COUNTS, of_counts(opposite(averages("recall", "accuracy")))),
    "multilabel_hamming_distance": Row(
        LABELS, of_counts({**opposite(averages("accuracy")), "micro": "hamming_loss"})
    ),
    "multilabel_hamming_loss": Row(LABELS, of_counts("hamming_loss")),
    "multiclass_hamming_loss": Row(COUNTS, of_counts("hamming_loss")),
    "multiclass_zero_one_loss": Row(COUNTS, of_counts("hamming_loss")),
    "multilabel_zero_one_loss": Row(LABELS, of_counts("1-exact_match")),
    "multiclass_balanced_accuracy": Row(COUNTS, of_counts("balanced_accuracy")),
    **by_task(COUNTS, "bc", "matthews_corrcoef", of_counts("mcc")),
    "multilabel_matthews_corrcoef": Row(LABELS, of_labels_together("mcc")),
    **by_task(COUNTS, "bc", "cohen_kappa", kappa_of),
    **by_task(COUNTS, "bc", "confusion_matrix", confusion_of),
    **by_task(LABELS, "l", "confusion_matrix", confusion_of),
    **by_task(COUNTS, "bc", "stat_scores", stat_scores_of),
    **by_task(LABELS, "l", "stat_scores", stat_scores_of),
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
    **all_missing(CALIBRATION, "perplexity"),
    **by_task(MEANS, "bc", "hinge_loss", missing("hinge")),
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
    **by_task(RANKING, "l", "coverage_error", missing("coverage_error")),
    **by_task(RANKING, "l", "ranking_average_precision", missing("label ranking AP")),
    **by_task(RANKING, "l", "ranking_loss", missing("label ranking loss")),
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
    "continuous_ranked_probability_score": Row(REGRESSION, missing("crps")),
    "mean_pinball_loss": Row(REGRESSION, missing("pinball")),
    **all_missing(MEANS, "log_cosh_error", "tweedie_deviance_score", "cosine_similarity", "kl_divergence"),
    **all_missing(MEANS, "jensen_shannon_divergence", "mean_poisson_deviance", "mean_gamma_deviance"),
    **all_missing(
        ELSEWHERE, "concordance_corrcoef", "relative_squared_error", "minkowski_distance",
        "critical_success_index", "d2_tweedie_score", "d2_pinball_score", "d2_absolute_error_score",
        "generalized_dice_score", "hausdorff_distance", "auc", "sum_metric", "max_metric", "min_metric",
        "cat_metric", "running_mean", "running_sum", "multilabel_multilabel_confusion_matrix",
    ),
    "mean_metric": Row(AGGREGATION, mean_of),
    "mean": Row(AGGREGATION, mean_of),
    **all_missing(
        RANKING, "retrieval_mrr", "retrieval_reciprocal_rank", "retrieval_hit_rate",
        "retrieval_normalized_dcg", "hit_rate", "reciprocal_rank", "ignite_hit_rate", "ignite_ndcg", "multilabel_ndcg",
    ),
    **all_missing(
        RETRIEVAL,
        *(
            f"retrieval_{name}"
            for name in (
                "map", "precision", "recall", "fall_out", "r_precision", "auroc",
                "precision_recall_curve", "average_precision", "rprecision",
                "recall_at_fixed_precision",
            )
        ),
    ),
    **all_missing(SEGMENTATION, "dice_score", "mean_iou"),
}  # fmt: skip


def watched(library: str) -> set[str]:
    """Names of the library's functions that are cases when a test calls them."""
    return set(TABLE) | peer_dialects.WATCHED.get(library, set())
