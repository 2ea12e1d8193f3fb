"""Answers from curves: areas, the curves themselves, and points of them."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ptmetrics as pm
from tests.studies.peer_call import Call, NotOfferedError, as_tensor
from tests.studies.peer_metrics import (
    OURS,
    TASKS,
    Batch,
    Reader,
    asked,
    averages,
    binary,
    kind_of,
    multilabel,
    pick,
    rows_of,
    score,
    task_of,
)
from tests.studies.peer_recipes import mean_over


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
        if call.arguments.get("average") == "samples" and task == "multilabel":
            return of_rows(call, name)
        if task != "binary":
            picked = pick(call, averages(name))
        if call.get("multi_class") == "ovo":
            picked = f"{name}/ovo" if picked.endswith("macro") else f"{name}/ovo/weighted"
        limit = call.get("max_fpr", 1.0)
        if limit < 1:
            point = f"{name}@fpr<={limit:g}"
            picked = picked.replace(name, point)
            scores = curve_scores(call, **points(task, point))
        else:
            scores = curve_scores(call, **asked(OURS[task], picked))
        value = score(call, scores, picked)
        call.repeats = "binned" in call.metric
        return value

    return read


def of_rows(call: Call, name: str) -> Any:
    """The mean of a number of each row: its average precision, which is that of a ranking, or its AUROC."""
    call.recipe = True
    if call.get("max_fpr", 1.0) < 1:
        raise NotOfferedError("partial area of each row")
    if name == "average_precision":
        ranking = pm.RankingMetrics(absent=0.0)
        for preds, target, weight in rows_of(call):
            ranking.update(preds.double(), target.double(), weight)
        return score(call, ranking.compute(), "label_ranking_average_precision")
    return mean_over(call, rows_of(call), auroc_of_rows)


def auroc_of_rows(preds: Tensor, target: Tensor) -> Tensor:
    """Pairs of a positive and a negative in the right order; ties are half."""
    above = (preds.unsqueeze(2) > preds.unsqueeze(1)).double()
    above += (preds.unsqueeze(2) == preds.unsqueeze(1)).double() / 2
    pairs = target.unsqueeze(2) * (1 - target.unsqueeze(1))
    return (above * pairs).sum((1, 2)) / pairs.sum((1, 2))


def points(task: str, name: str) -> dict[str, Any]:
    """The argument that asks for a point of the curves."""
    if "at" not in inspect.signature(OURS[task]).parameters:
        raise NotOfferedError(name)
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
    """The best rate among thresholds, and its threshold: of equals the best of the other rate, then the highest."""
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
        raise NotOfferedError("thresholds of each class or label")
    scores: Any = curve_scores(call)
    tables = [scores.thresholds(place) for place in range(len(scores.class_names))]
    if task == "multiclass" and sums_to_one(call):
        return [snapped(call, table, place) for place, table in enumerate(tables)]
    return tables


def snapped(call: Call, table: Any, place: int) -> Any:
    """A table of a class, whose thresholds are edges of rows, with the least probability of each row in their place.

    The decisions are the same: what is compared is whether they are those that theirs stand for.
    """
    found = []
    for preds, target, _ in rows_of(call):
        probs = preds.double()
        if kind_of(call) == "logits":
            probs = preds.softmax(1).double()
        column = probs.movedim(1, -1).flatten(0, -2)[:, place]
        found.append(column[target.flatten() != call.get("ignore_index", -1 << 40)])
    scores = torch.cat(found).sort().values
    if not len(scores):
        return table
    row = torch.searchsorted(scores, table.probability * (1 - 1e-6)).clamp(max=len(scores) - 1)
    return table._replace(probability=scores[row])


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
    nearly = thresholds.double() - 1e-6 * thresholds.double().abs()  # theirs are scores in float32
    place = torch.searchsorted(unit, nearly)
    positives = table.tp[0] + table.fn[0]
    negatives = table.fp[0] + table.tn[0]
    tp = torch.cat([table.tp, torch.zeros(1, dtype=torch.float64)])[place]
    fp = torch.cat([table.fp, torch.zeros(1, dtype=torch.float64)])[place]
    return [tp, fp, negatives - fp, positives - tp]


def roc_of(call: Call) -> Any:
    """False and true positive rates and thresholds; torchmetrics' begin at 1, scikit-learn's at infinity."""
    thresholds = given_thresholds(call)
    average = call.get("average", "none")
    if average == "macro" and thresholds is None:
        return macro_roc_of(call)
    if average != "none":
        raise NotOfferedError("averaged curves")
    curves = []
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


def macro_roc_of(call: Call) -> Any:
    """The mean curve at the points of all classes, as often as they come, beside all their thresholds."""
    scores = curve_scores(call)
    mean = scores.roc_curve("macro")
    curves = [scores.roc_curve(place) for place in range(len(scores.per_class["auroc"]))]
    fpr = torch.cat([curve.fpr for curve in curves]).sort().values
    thresholds = torch.cat([curve.thresholds for curve in curves]).clamp(max=1.0)
    return [fpr, np.interp(fpr, mean.fpr, mean.tpr), thresholds.sort(descending=True).values]


def det_curve_of(call: Call) -> Any:
    """False positive and false negative rates, from scikit-learn's first threshold on."""
    table = tables_of(call)[0]
    nothing = torch.zeros(1, dtype=torch.float64)
    fpr = torch.cat(((table.fp / (table.fp + table.tn)), nothing))
    fnr = torch.cat(((table.fn / (table.tp + table.fn)), nothing + 1))
    unit = torch.cat((table.threshold, nothing + torch.inf))
    if call.get("drop_intermediate", False):
        kept = steps(table.tp)
        fpr, fnr, unit = (
            torch.cat((column[:-1][kept], column[-1:])) for column in (fpr, fnr, unit)
        )
    first = int((fnr == fnr[0]).nonzero().max())
    last = int((fpr == 0).nonzero().min()) + 1
    return [fpr[first:last], fnr[first:last], unit[first:last]]


def counts_at_thresholds_of(call: Call) -> Any:
    """Scikit-learn's tn, fp, fn and tp, highest threshold first."""
    table = tables_of(call)[0]
    return [column.flip(0) for column in (table.tn, table.fp, table.fn, table.tp, table.threshold)]


def steps(count: Tensor) -> Tensor:
    """Points before or behind which a count changes, and both ends."""
    moves = count.diff() != 0
    end = torch.ones(1, dtype=torch.bool)
    if len(count) < 2:
        return end[: len(count)]
    return torch.cat((end, moves[:-1] | moves[1:], end))


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
        raise NotOfferedError("averaged curves")
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
            if call.get("drop_intermediate", False):
                kept = steps(tp)
                tp, fp, fn, unit = tp[kept], fp[kept], fn[kept], unit[kept]
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
