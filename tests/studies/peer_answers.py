"""What ptmetrics answers to a call of another library's metric: one table, from their names and arguments to ours.

A row of `TABLES` says which family a metric of theirs belongs to and how ours is read: the name of a score, the names by
their `average=`, or a function of the call. A name with `each:` in front is the list of the classes' scores, with `1-` one
minus the score. A name that ptmetrics does not have makes the case "not offered".
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ptmetrics as pm

Names = str | Mapping[str, str]
Reader = Names | Callable[["Call"], Any]


class NotOffered(Exception):
    """ptmetrics has no such score."""


class NotAValue(Exception):
    """The case is not one of values: plotting, drawing, errors."""


@dataclass
class Call:
    """One use of a metric: its arguments, the batches it was given."""

    library: str
    metric: str
    arguments: dict[str, Any]
    batches: list[dict[str, Any]]
    bound: float = field(default=0.0)  # what ours told of its own error

    def get(self, name: str, default: Any = None) -> Any:
        """An argument."""
        value = self.arguments.get(name, default)
        return default if value is None else value


@dataclass
class Outcome:
    """How ours stands to theirs: equal, different, not offered or not applicable, and why."""

    family: str
    status: str
    why: str = ""
    ours: str = ""
    theirs: str = ""


@dataclass(frozen=True)
class Row:
    """A metric of theirs: its family, and how ours is read."""

    family: str
    read: Reader


def snake(name: str) -> str:
    """`BinaryF1Score` as `binary_f1_score`: the class and the function are one row."""
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return name.lower()


def shown(arguments: dict[str, Any]) -> str:
    """Plain arguments as text."""
    plain = {}
    for name, value in arguments.items():
        if isinstance(value, bool | int | float | str) or value is None:
            plain[name] = value
    return json.dumps(plain, sort_keys=True)


def names(library: str) -> set[str]:
    """Functions of the library that are to be watched."""
    return set(TABLES[library]) | OTHERS.get(library, set())


def judge(call: Call, expected: Any, *, atol: float, rtol: float) -> Outcome:
    """How our answer stands to the one expected."""
    row = TABLES[call.library].get(call.metric)
    if row is None:
        return Outcome("outside the issue", "not offered", call.metric)
    try:
        ours = numbers(answer(row, call))
    except NotAValue as reason:
        return Outcome(row.family, "not applicable", str(reason))
    except (NotOffered, KeyError) as reason:
        return Outcome(row.family, "not offered", str(reason)[:60])
    except pm.PtmetricsError as error:
        return Outcome(row.family, "different", f"refused: {error}"[:160])
    except Exception as error:  # noqa: BLE001 — told in the table as an error of the adapter
        return Outcome(row.family, "error", f"{type(error).__name__}: {error}"[:300])
    try:
        theirs = numbers(expected() if callable(expected) else expected)
    except Exception as error:  # noqa: BLE001 — their reference may not run beside newer libraries
        return Outcome(row.family, "not applicable", f"no reference: {error}"[:120])
    status, why = compared(ours, theirs, atol, rtol, call.bound)
    if status == "equal":
        return Outcome(row.family, status, why)
    return Outcome(row.family, status, why, brief(ours), brief(theirs))


def compared(
    ours: np.ndarray, theirs: np.ndarray, atol: float, rtol: float, bound: float
) -> tuple[str, str]:
    """Equal or different, and in which way."""
    if ours.shape != theirs.shape:
        return "different", f"{len(ours)} numbers for {len(theirs)}"
    if np.allclose(ours, theirs, atol=atol, rtol=rtol, equal_nan=True):
        return "equal", ""
    lost = np.isnan(ours) & ~np.isnan(theirs)
    if lost.any() and np.allclose(ours[~lost], theirs[~lost], atol=atol, rtol=rtol, equal_nan=True):
        if (theirs[lost] == 0).all():
            return "different", "NaN where theirs is 0"
        return "different", "NaN where theirs is a number"
    gap = np.nanmax(np.abs(ours - theirs)) if len(ours) else 0.0
    if gap <= bound:
        return "equal", "within its told bound"
    return "different", "value"


def brief(values: np.ndarray) -> str:
    """A few numbers as text."""
    return np.array2string(values[:8], precision=6, separator=",").replace("\n", "")


def numbers(value: Any) -> np.ndarray:
    """All numbers of a result, in order."""
    if isinstance(value, Mapping):
        value = [value[name] for name in sorted(value)]
    if isinstance(value, Tensor):
        value = value.detach().cpu().double().numpy()
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.astype(np.float64).ravel()
    if isinstance(value, list | tuple | np.ndarray):
        parts = [numbers(each) for each in value]
        return np.concatenate(parts) if parts else np.zeros(0)
    return np.array([float(value)])


def answer(row: Row, call: Call) -> Any:
    """Ours."""
    if callable(row.read):
        return row.read(call)
    raise NotOffered(call.metric)


# Batches of each library: predictions, target, weight.
def rows_of(call: Call) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """What the batches hold."""
    found = []
    for batch in call.batches:
        preds = batch.get("preds", batch.get("input"))
        target = batch.get("target")
        weight = batch.get("weight", batch.get("sample_weight"))
        if "output" in batch:
            preds, target = batch["output"][:2]
        if "y_true" in batch:
            target = batch["y_true"]
            preds = batch.get("y_pred", batch.get("y_score", batch.get("y_prob")))
        if weight is not None and not isinstance(weight, Tensor):
            weight = torch.as_tensor(np.asarray(weight))
        found.append((as_tensor(preds), as_tensor(target), weight))
    return found


def as_tensor(value: Any) -> Tensor:
    """Arrays, lists and sparse matrices as tensors."""
    if isinstance(value, Tensor):
        return value.detach()
    if hasattr(value, "toarray"):
        value = value.toarray()
    return torch.as_tensor(np.asarray(value))


def kind_of(batches: Sequence[Tensor]) -> str:
    """What torchmetrics takes predictions for, but over all batches: it asks each batch anew."""
    if not any(preds.is_floating_point() for preds in batches):
        return "labels"
    if all(((preds >= 0) & (preds <= 1)).all() for preds in batches):
        return "probs"
    return "logits"


# Classification of torchmetrics.
def averages(name: str, micro: str | None = None) -> dict[str, str]:
    """The scores of the classes by `average=`."""
    return {
        "micro": micro or f"{name}/micro",
        "macro": f"{name}/macro",
        "weighted": f"{name}/weighted",
        "none": f"each:{name}",
    }


def score(call: Call, scores: pm.Scores, name: str) -> Any:
    """The score of a name; `each:` and `1-` in front as the module says."""
    if name.startswith("1-"):
        value = score(call, scores, name[2:])
        return 1 - np.asarray(value)
    if name.startswith("each:"):
        name = name[5:]
        if name not in scores.per_class:
            raise NotOffered(f"each:{name}")
        column = list(scores.per_class[name])
        call.bound = max([call.bound, *(each.error_bound for each in column)])
        return np.array([each.value for each in column])
    if name not in scores:
        raise NotOffered(name)
    found = scores[name]
    call.bound = max(call.bound, found.error_bound)
    return found.value


def pick(call: Call, names: Names) -> str:
    """The name by `average=`."""
    if isinstance(names, str):
        return names
    average = call.arguments.get("average") or "none"
    if average not in names:
        raise NotOffered(f"average={average}")
    return names[average]


def binary_scores(call: Call, batches: Sequence[tuple[Tensor, ...]], **options: Any) -> pm.Scores:
    """All of BinaryMetrics."""
    kind = kind_of([batch[0] for batch in rows_of(call)])
    options.setdefault("curves", None)
    if kind == "labels":
        options.pop("curves")
    elif call.get("threshold") is not None:
        options["threshold"] = call.get("threshold")
    metrics = pm.BinaryMetrics(inputs=kind, ignore_index=call.get("ignore_index"), **options)
    return computed(metrics, batches)


def multiclass_scores(
    call: Call, batches: Sequence[tuple[Tensor, ...]], **options: Any
) -> pm.Scores:
    """All of MulticlassMetrics."""
    preds, target, *_ = batches[0]
    kind = kind_of([batch[0] for batch in rows_of(call)])
    if preds.ndim == target.ndim:
        kind = "labels"
        batches = [(batch[0].long(), *batch[1:]) for batch in batches]
    else:
        options.setdefault("class_dim", 1)
        if not options.get("curves") and not options.get("losses"):
            kind = "logits"  # the highest wins, whatever they are
    classes = options.pop("num_classes", None) or call.get("num_classes")
    options.setdefault("losses", False)
    metrics = pm.MulticlassMetrics(
        classes, inputs=kind, ignore_index=call.get("ignore_index"), **options
    )
    return computed(metrics, batches)


def multilabel_scores(
    call: Call, batches: Sequence[tuple[Tensor, ...]], **options: Any
) -> pm.Scores:
    """All of MultilabelMetrics."""
    kind = kind_of([batch[0] for batch in rows_of(call)])
    labels = call.get("num_labels") or batches[0][0].shape[1]
    if kind != "labels":
        options["threshold"] = call.get("threshold", 0.5)
    options.setdefault("curves", False)
    metrics = pm.MultilabelMetrics(
        labels, inputs=kind, class_dim=1, ignore_index=call.get("ignore_index"), **options
    )
    return computed(metrics, batches)


def computed(metrics: pm.Metrics, batches: Sequence[tuple[Tensor, ...]]) -> pm.Scores:
    """The scores of the batches."""
    for preds, target, *weight in batches:
        if target.dtype == torch.bool:
            target = target.long()
        if preds.dtype == torch.bool:
            preds = preds.long()
        metrics.update(preds, target, *weight)
    return metrics.compute()


TASKS = {"binary": binary_scores, "multiclass": multiclass_scores, "multilabel": multilabel_scores}


def task_of(call: Call) -> str:
    """Binary, multiclass or multilabel, by the name."""
    return call.metric.split("_")[0]


def of_classes(names: Names, **given: Any) -> Callable[[Call], Any]:
    """A score of counts; with `multidim_average="samplewise"` of each sample by itself."""

    def read(call: Call) -> Any:
        options = dict(given)
        task = task_of(call)
        name = pick(call, names)
        options["absent"] = absent_of(call, task, name)
        if "beta" in call.arguments:
            options["beta"] = float(call.arguments["beta"])
        k = call.get("top_k", 1)
        if task == "multiclass" and k > 1:
            options["topk"] = (k,)
            name = of_top_k(name, k)
        batches = rows_of(call)
        build = TASKS[task]
        if call.get("multidim_average") != "samplewise":
            return score(call, build(call, batches, **options), name)
        values = []
        for one in samples_of(call, task):
            values.append(score(call, build(call, [one], **options), name))
        return np.stack([np.asarray(value) for value in values])

    return read


def absent_of(call: Call, task: str, name: str) -> float:
    """What stands for an undefined score: torchmetrics leaves a class that is nowhere out of means, else says 0."""
    zero = float(call.get("zero_division", 0.0))
    if task == "binary" or name.startswith("each:") or name.endswith("/micro"):
        return zero
    return math.nan


def of_top_k(name: str, k: int) -> str:
    """The score of the k highest classes."""
    if name == "accuracy":
        return f"top{k}_accuracy"
    if name.startswith("each:"):
        return f"each:top{k}_{name[5:]}"
    return f"top{k}_{name}"


def samples_of(call: Call, task: str) -> list[tuple[Tensor, Tensor]]:
    """Each sample as a batch of its own pixels."""
    found = []
    for preds, target, _ in rows_of(call):
        for i in range(len(target)):
            found.append(rows_of_sample(task, preds[i], target[i]))
    return found


def rows_of_sample(task: str, preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """One picture as a batch of its own pixels."""
    if task == "binary":
        return preds.flatten(), target.flatten()
    if task == "multiclass":
        target = target.flatten()
        if preds.is_floating_point():
            return preds.flatten(1).T, target
        return preds.flatten(), target
    return preds.flatten(1).T, target.flatten(1).T


def of_curve(name: Names) -> Callable[[Call], Any]:
    """AUROC and average precision, exact where that is to be had."""

    def read(call: Call) -> Any:
        picked = pick(call, name)
        if call.get("max_fpr") is not None:
            raise NotOffered("max_fpr")
        task = task_of(call)
        batches = rows_of(call)
        if task == "binary":
            batches = [(p.flatten(), t.flatten()) for p, t, *_ in batches]
            scores = binary_scores(call, batches, curves="exact")
        elif task == "multiclass":
            scores = multiclass_scores(call, batches, curves=True)
        else:
            scores = multilabel_scores(call, batches, curves=True)
        return score(call, scores, picked)

    return read


def confusion_of(call: Call) -> Any:
    """The confusion matrix, normalised as asked for."""
    task = task_of(call)
    scores = TASKS[task](call, rows_of(call))
    if scores.confusion is None:
        raise NotOffered("confusion of labels")
    matrix = scores.confusion.double().numpy()
    axis = {"true": 1, "pred": 0, "all": None, "none": ()}[call.get("normalize", "none")]
    if axis == ():
        return matrix
    with np.errstate(all="ignore"):
        return np.nan_to_num(matrix / matrix.sum(axis=axis, keepdims=True))


def stat_scores_of(call: Call) -> Any:
    """Counts of hits, false alarms, right refusals, misses and targets."""
    task = task_of(call)
    average = call.arguments.get("average") or "none"
    if call.get("top_k", 1) > 1:
        raise NotOffered("stat scores of the top k")

    def counts(batches: Sequence[tuple[Tensor, ...]]) -> np.ndarray:
        scores = TASKS[task](call, batches)
        if scores.confusion is None:
            raise NotOffered("tp, fp, tn, fn of labels")
        matrix = scores.confusion.double().numpy()
        hits = np.diag(matrix)
        actual = matrix.sum(1)
        predicted = matrix.sum(0)
        columns = [hits, predicted - hits, matrix.sum() - actual - predicted + hits, actual - hits]
        table = np.stack([*columns, actual], 1)
        if task == "binary":
            return table[1]
        if average == "micro":
            return table.sum(0)
        if average == "macro":
            return table.mean(0)
        if average == "weighted":
            weight = actual / actual.sum()
            return (table * weight[:, None]).sum(0)
        return table

    batches = rows_of(call)
    if call.get("multidim_average") != "samplewise":
        return counts(batches)
    return [counts([one]) for one in samples_of(call, task)]


def kappa_of(call: Call) -> Any:
    """Cohen's kappa, weighted as asked for."""
    weights = call.get("weights", "none")
    name = {"none": "kappa", "linear": "kappa/linear", "quadratic": "kappa/quadratic"}[weights]
    task = task_of(call)
    if task == "binary":
        name = "kappa"  # of two classes all weights are one
    return score(call, TASKS[task](call, rows_of(call)), name)


def binary_roc(call: Call) -> Any:
    """False and true positive rate and thresholds, which are probabilities and begin at 1."""
    if call.get("thresholds") is not None:
        raise NotOffered("roc at given thresholds")
    batches = [(p.flatten(), t.flatten()) for p, t, *_ in rows_of(call)]
    curve = binary_scores(call, batches, curves="exact").roc_curve()
    thresholds = curve[2]
    if kind_of([p for p, _ in batches]) == "logits":
        thresholds = thresholds.sigmoid()
    thresholds = thresholds.nan_to_num(posinf=1.0).clamp(max=1.0)
    return [torch.nan_to_num(curve[0]), torch.nan_to_num(curve[1]), thresholds]


def binary_pr_curve(call: Call) -> Any:
    """Precision, recall and thresholds."""
    if call.get("thresholds") is not None:
        raise NotOffered("precision and recall at given thresholds")
    batches = [(p.flatten(), t.flatten()) for p, t, *_ in rows_of(call)]
    curve = binary_scores(call, batches, curves="exact").pr_curve()
    thresholds = curve[2]
    if kind_of([p for p, _ in batches]) == "logits":
        thresholds = thresholds.sigmoid()
    return [torch.nan_to_num(curve[0]), torch.nan_to_num(curve[1]), thresholds]


def missing(what: str) -> Callable[[Call], Any]:
    """A metric that ptmetrics does not have."""

    def read(call: Call) -> Any:
        raise NotOffered(what)

    return read


# Regression of torchmetrics.
def regression_scores(call: Call, outputs: int) -> pm.Scores:
    """All of RegressionMetrics."""
    metrics = pm.RegressionMetrics(num_outputs=outputs)
    batches = rows_of(call)
    if outputs == 1:
        batches = [(p.flatten(), t.flatten(), w) for p, t, w in batches]
    return computed(metrics, [tuple(x for x in batch if x is not None) for batch in batches])


def of_errors(name: str) -> Callable[[Call], Any]:
    """A score of all numbers, or of each output where outputs are asked for."""

    def read(call: Call) -> Any:
        outputs = call.get("num_outputs", 1)
        picked = name
        if name == "mse" and call.arguments.get("squared") is False:
            picked = "rmse"
        if outputs > 1:
            picked = f"each:{picked}"
        return score(call, regression_scores(call, outputs), picked)

    return read


def of_outputs(name: str) -> Callable[[Call], Any]:
    """R² and explained variance with `multioutput=`."""

    def read(call: Call) -> Any:
        if call.get("adjusted", 0):
            raise NotOffered("r2/adjusted")
        target = as_tensor(call.batches[0]["target"])
        outputs = 1 if target.ndim == 1 else target.shape[1]
        multioutput = call.get("multioutput", "uniform_average")
        if multioutput == "variance_weighted" and outputs > 1:
            raise NotOffered(f"{name}/variance_weighted")
        picked = name
        if multioutput == "raw_values" and outputs > 1:
            picked = f"each:{name}"
        return score(call, regression_scores(call, outputs), picked)

    return read


def of_columns(name: str) -> Callable[[Call], Any]:
    """A score of each column where there are columns."""

    def read(call: Call) -> Any:
        target = as_tensor(call.batches[0]["target"])
        outputs = 1 if target.ndim == 1 else target.shape[1]
        picked = name if outputs == 1 else f"each:{name}"
        return score(call, regression_scores(call, outputs), picked)

    return read


def by_task(family: str, task_names: str, name: str, read: Reader) -> dict[str, Row]:
    """A row for each task: b, c and l are binary, classes and labels."""
    tasks = {"b": "binary", "c": "multiclass", "l": "multilabel"}
    return {f"{tasks[letter]}_{name}": Row(family, read) for letter in task_names}


COUNTS = "classification counts"
LABELS = "multilabel counts"
CURVES = "curves"
FIXED = "fixed point"
CALIBRATION = "calibration"
REGRESSION = "regression"
RANKING = "ranking"
SEGMENTATION = "segmentation"
AGGREGATION = "aggregation"
LOSSES = "losses as means"
GROUPS = "group gaps"
ELSEWHERE = "outside the issue"


def classes(name: str, ours: str, *, binary: str = "", one: str = "") -> dict[str, Row]:
    """A metric of counts in all three tasks: `ours` with its averages."""
    multi = {average: one + text for average, text in averages(ours).items()}
    return {
        f"binary_{name}": Row(COUNTS, of_classes(binary or one + ours)),
        f"multiclass_{name}": Row(COUNTS, of_classes(multi)),
        f"multilabel_{name}": Row(LABELS, of_classes(multi)),
    }


TORCHMETRICS: dict[str, Row] = {
    **classes("precision", "precision"),
    **classes("recall", "recall"),
    **classes("f1_score", "f1"),
    **classes("fbeta_score", "fbeta"),
    **classes("specificity", "specificity"),
    **classes("negative_predictive_value", "npv"),
    **classes("jaccard_index", "jaccard"),
    "binary_accuracy": Row(COUNTS, of_classes("accuracy")),
    "multiclass_accuracy": Row(COUNTS, of_classes(averages("recall", "accuracy"))),
    "multilabel_accuracy": Row(LABELS, of_classes(averages("accuracy", "1-hamming_loss"))),
    "binary_hamming_distance": Row(COUNTS, of_classes("1-accuracy")),
    "multiclass_hamming_distance": Row(
        COUNTS, of_classes({k: f"1-{v}" for k, v in averages("recall", "accuracy").items()})
    ),
    "multilabel_hamming_distance": Row(
        LABELS,
        of_classes({**{k: f"1-{v}" for k, v in averages("accuracy").items()}, "micro": "hamming_loss"}),
    ),
    **by_task(COUNTS, "bc", "matthews_corrcoef", of_classes("mcc")),
    **by_task(LABELS, "l", "matthews_corrcoef", of_classes("mcc")),
    **by_task(COUNTS, "bc", "cohen_kappa", kappa_of),
    **by_task(COUNTS, "bc", "confusion_matrix", confusion_of),
    **by_task(LABELS, "l", "confusion_matrix", confusion_of),
    **by_task(COUNTS, "bc", "stat_scores", stat_scores_of),
    **by_task(LABELS, "l", "stat_scores", stat_scores_of),
    "multilabel_exact_match": Row(LABELS, of_classes("exact_match")),
    "multiclass_exact_match": Row(SEGMENTATION, missing("exact match of sequences")),
    "binary_auroc": Row(CURVES, of_curve("auroc")),
    "binary_average_precision": Row(CURVES, of_curve("average_precision")),
    **by_task(CURVES, "cl", "auroc", of_curve(averages("auroc"))),
    **by_task(CURVES, "cl", "average_precision", of_curve(averages("average_precision"))),
    "binary_roc": Row(CURVES, binary_roc),
    "binary_precision_recall_curve": Row(CURVES, binary_pr_curve),
    **by_task(CURVES, "cl", "roc", missing("roc of classes and labels")),
    **by_task(CURVES, "cl", "precision_recall_curve", missing("pr curve of classes and labels")),
    **by_task(CURVES, "bcl", "logauc", missing("logauc")),
    **by_task(FIXED, "bcl", "eer", missing("eer")),
    **by_task(FIXED, "bcl", "recall_at_fixed_precision", missing("recall at precision")),
    **by_task(FIXED, "bcl", "precision_at_fixed_recall", missing("precision at recall")),
    **by_task(FIXED, "bcl", "sensitivity_at_specificity", missing("sensitivity at specificity")),
    **by_task(FIXED, "bcl", "specificity_at_sensitivity", missing("specificity at sensitivity")),
    **by_task(CALIBRATION, "bc", "calibration_error", missing("calibration error by bins")),
    **by_task(LOSSES, "bc", "hinge_loss", missing("hinge")),
    "binary_fairness": Row(GROUPS, missing("group gaps")),
    "multilabel_coverage_error": Row(RANKING, missing("coverage_error")),
    "multilabel_ranking_average_precision": Row(RANKING, missing("label ranking AP")),
    "multilabel_ranking_loss": Row(RANKING, missing("label ranking loss")),
    "mean_squared_error": Row(REGRESSION, of_errors("mse")),
    "mean_absolute_error": Row(REGRESSION, of_errors("mae")),
    "mean_absolute_percentage_error": Row(REGRESSION, of_errors("mape")),
    "symmetric_mean_absolute_percentage_error": Row(REGRESSION, of_errors("smape")),
    "weighted_mean_absolute_percentage_error": Row(REGRESSION, of_errors("wmape")),
    "mean_squared_log_error": Row(REGRESSION, of_errors("msle")),
    "normalized_root_mean_squared_error": Row(REGRESSION, missing("nrmse")),
    "r2_score": Row(REGRESSION, of_outputs("r2")),
    "explained_variance": Row(REGRESSION, of_outputs("explained_variance")),
    "pearson_corrcoef": Row(REGRESSION, of_columns("pearson")),
    "spearman_corrcoef": Row(REGRESSION, of_columns("spearman")),
    "kendall_rank_corrcoef": Row(REGRESSION, missing("kendall")),
    "concordance_corrcoef": Row(ELSEWHERE, missing("concordance")),
    "relative_squared_error": Row(ELSEWHERE, missing("relative squared error")),
    "minkowski_distance": Row(ELSEWHERE, missing("minkowski")),
    "critical_success_index": Row(ELSEWHERE, missing("critical success index")),
    "log_cosh_error": Row(LOSSES, missing("log-cosh")),
    "tweedie_deviance_score": Row(LOSSES, missing("tweedie")),
    "cosine_similarity": Row(LOSSES, missing("cosine")),
    "kl_divergence": Row(LOSSES, missing("kl")),
    "jensen_shannon_divergence": Row(LOSSES, missing("js")),
    "continuous_ranked_probability_score": Row(REGRESSION, missing("crps")),
    "perplexity": Row(CALIBRATION, missing("perplexity")),
    **{
        f"retrieval_{name}": Row(RANKING, missing(f"retrieval {name}"))
        for name in (
            "map", "mrr", "precision", "recall", "hit_rate", "fall_out", "normalized_dcg", "r_precision",
            "auroc", "precision_recall_curve", "average_precision", "reciprocal_rank",
        )
    },
    "dice_score": Row(SEGMENTATION, missing("dice by image")),
    "mean_io_u": Row(SEGMENTATION, missing("iou by image")),
    "mean_iou": Row(SEGMENTATION, missing("iou by image")),
    "generalized_dice_score": Row(ELSEWHERE, missing("generalized dice")),
    "hausdorff_distance": Row(ELSEWHERE, missing("hausdorff")),
}  # fmt: skip

TABLES: dict[str, dict[str, Row]] = {
    "torchmetrics": TORCHMETRICS,
    "torcheval": {},
    "ignite": {},
    "sklearn": {},
}
OTHERS: dict[str, set[str]] = {}
