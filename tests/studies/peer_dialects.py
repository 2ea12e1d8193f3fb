"""Calls of torcheval, ignite and scikit-learn in the words of torchmetrics, so that one table of answers does for all.

`canonical` turns a call into one whose metric is named `binary_…`, `multiclass_…`, `multilabel_…` or as a regression of
torchmetrics, whose arguments are torchmetrics' and whose batches hold `preds`, `target` and `weight`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.studies.peer_call import Call, NotAValueError, NotOfferedError, as_tensor


def canonical(call: Call) -> Call:
    """The same call in torchmetrics' words."""
    return DIALECTS[call.library](call)


def as_it_is(call: Call) -> Call:
    """Torchmetrics itself."""
    return call


def renamed(call: Call, metric: str, batches: list[dict[str, Any]], **arguments: Any) -> Call:
    """A call of another name."""
    return replace(call, metric=metric, batches=batches, arguments=arguments)


# torcheval: the names are nearly the same.
TORCHEVAL = {
    "binary_auprc": "binary_average_precision",
    "multiclass_auprc": "multiclass_average_precision",
    "multilabel_auprc": "multilabel_average_precision",
    "binary_binned_auprc": "binary_binned_average_precision",
    "multiclass_binned_auprc": "multiclass_binned_average_precision",
    "multilabel_binned_auprc": "multilabel_binned_average_precision",
    "top_k_multilabel_accuracy": "multilabel_criteria",
    "topk_multilabel_accuracy": "multilabel_criteria",
    "windowed_mean_squared_error": "windowed",
}


def torcheval(call: Call) -> Call:
    """`input` for `preds`, `k` for `top_k`; several tasks are labels."""
    arguments = dict(call.arguments)
    metric = TORCHEVAL.get(call.metric, call.metric)
    batches = []
    for batch in call.batches:
        weight = batch.get("weight", batch.get("sample_weight"))
        made = {"preds": batch.get("input"), "target": batch.get("target"), "weight": weight}
        batches.append({**batch, **made})
    if "k" in arguments:
        arguments["top_k"] = arguments.pop("k")
    torcheval_thresholds(metric, arguments, batches)
    if arguments.get("num_regressors"):
        arguments["adjusted"] = arguments["num_regressors"]
    if metric == "multilabel_accuracy":
        metric = torcheval_criteria(arguments)
    tasks = int(arguments.get("num_tasks") or 1)
    if metric.startswith(("binary_a", "binary_binned")) and tasks > 1:
        metric = metric.replace("binary", "multilabel", 1)
        arguments["average"] = "none"
        for batch in batches:
            batch["preds"] = batch["preds"].T
            batch["target"] = batch["target"].T
    if any(word in metric for word in ("curve", "auroc", "average_precision")):
        arguments.setdefault("kind", "scores")
    return renamed(call, metric, batches, **arguments)


def torcheval_thresholds(
    metric: str, arguments: dict[str, Any], batches: list[dict[str, Any]]
) -> None:
    """Those of binned curves have another name; one of raw scores that is no probability decides right away."""
    if "binned" in metric:
        arguments["thresholds"] = arguments.pop("threshold")
    elif ranged(arguments.get("threshold")):
        limit = arguments.pop("threshold")
        for batch in batches:
            batch["preds"] = (as_tensor(batch["preds"]) >= limit).long()


def ranged(threshold: Any) -> bool:
    """Whether a threshold is no probability."""
    return isinstance(threshold, float | int) and not 0 < threshold < 1


def torcheval_criteria(arguments: dict[str, Any]) -> str:
    """Which of its multilabel accuracies is asked for."""
    criteria = str(arguments.get("criteria", "exact_match"))
    if criteria == "exact_match":
        return "multilabel_exact_match"
    if criteria == "hamming":
        arguments["average"] = "micro"
        return "multilabel_accuracy"
    return "multilabel_criteria"


# ignite: the task follows from the shapes.
IGNITE = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "cohen_kappa": "cohen_kappa",
    "roc_auc": "auroc",
    "average_precision": "average_precision",
    "precision_recall_curve": "precision_recall_curve",
    "roc_curve": "roc",
    "matthews_corrcoef": "matthews_corrcoef",
    "matthews_corrcoefficient": "matthews_corrcoef",
    "top_kcategorical_accuracy": "accuracy",
    "top_k_categorical_accuracy": "accuracy",
    "confusion_matrix": "confusion_matrix",
    "multi_label_confusion_matrix": "confusion_matrix",
}
IGNITE_NUMBERS = {
    "mean_absolute_error": "mean_absolute_error",
    "mean_squared_error": "mean_squared_error",
    "root_mean_squared_error": "root_mean_squared_error",
    "maximum_absolute_error": "max_error",
    "median_absolute_error": "median_absolute_error",
    "r2_score": "r2_score",
    "pearson_correlation": "pearson_corrcoef",
    "spearman_rank_correlation": "spearman_corrcoef",
    "kendall_rank_correlation": "kendall_rank_corrcoef",
    "mean_error": "ignite_mean_error",
    "cosine_similarity": "cosine_similarity",
    "kl_divergence": "kl_divergence",
    "js_divergence": "jensen_shannon_divergence",
    "mean_absolute_percentage_error": "mean_absolute_percentage_error",
    "hit_rate": "ignite_hit_rate",
    "ndcg": "ignite_ndcg",
}


def ignite(call: Call) -> Call:
    """`output` is predictions and targets; averages are booleans or names."""
    batches = []
    for batch in call.batches:
        output = batch.get("output")
        if not isinstance(output, tuple | list) or len(output) < 2:
            raise NotAValueError("no predictions and targets")
        batches.append({"preds": output[0], "target": output[1]})
        if len(output) > 2:
            batches[-1]["groups"] = output[2]
    if call.metric in IGNITE_NUMBERS:
        return ignite_numbers(call, batches)
    if call.metric not in IGNITE:
        return replace(call, batches=batches)
    task, arguments = ignite_task(call, batches)
    name = f"{task}_{IGNITE[call.metric]}"
    if call.metric == "accuracy" and task == "multilabel":
        name = "multilabel_exact_match"
    arguments.update(ignite_arguments(call, task))
    return renamed(call, name, batches, **arguments)


def ignite_arguments(call: Call, task: str) -> dict[str, Any]:
    """Averages and the like in torchmetrics' words."""
    arguments: dict[str, Any] = {"average": ignite_average(call)}
    arguments["absent"] = 0.0  # it is in the mean with 0
    arguments["weights"] = call.get("weights")
    if call.metric.startswith("top_k"):
        arguments["top_k"] = call.get("k", 5)
    if call.metric == "confusion_matrix":
        normalize = {"samples": "all", "recall": "true", "precision": "pred"}
        arguments["normalize"] = normalize.get(str(call.get("average")), "none")
    if call.get("normalized", False):
        arguments["normalize"] = "all"
    if call.metric in ("roc_auc", "average_precision", "precision_recall_curve", "roc_curve"):
        arguments["kind"] = "scores"
        if task == "multilabel":
            arguments["average"] = "macro"
    return arguments


def ignite_average(call: Call) -> str:
    """The average in torchmetrics' words."""
    if "accuracy" in call.metric:
        return "micro"
    average = call.arguments.get("average")
    if average is True:
        return "macro"
    return str(average or "none")


def ignite_task(call: Call, batches: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The task by the shapes, which are made to fit; and the number of classes."""
    preds, target = batches[0]["preds"], batches[0]["target"]
    of_labels = call.get("is_multilabel", False) or call.metric.startswith("multi_label")
    areas = call.metric in ("roc_auc", "average_precision")
    if of_labels or (areas and target.ndim == 2 and target.shape[1] > 1):
        if preds.ndim > 2:
            for batch in batches:
                batch["preds"] = batch["preds"].movedim(1, -1).flatten(0, -2)
                batch["target"] = batch["target"].movedim(1, -1).flatten(0, -2)
        return "multilabel", {"num_labels": preds.shape[1]}
    if preds.ndim == target.ndim + 1 and preds.shape[1] > 1:
        return "multiclass", {"num_classes": preds.shape[1]}
    both = call.metric in ("precision", "recall") and call.arguments.get("average") is not False
    both = both or call.metric in ("cohen_kappa", "matthews_corrcoef")
    for batch in batches:
        batch["preds"] = batch["preds"].flatten()
        batch["target"] = batch["target"].flatten()
        if both:
            batch["preds"] = batch["preds"].round().long()
    if both:
        return "multiclass", {}
    return "binary", {}


def ignite_numbers(call: Call, batches: list[dict[str, Any]]) -> Call:
    """Regression: one number a row."""
    name = IGNITE_NUMBERS[call.metric]
    for batch in batches:
        if batch["preds"].ndim == 2 and batch["preds"].shape[1] == 1:
            batch["preds"], batch["target"] = batch["preds"][:, 0], batch["target"].reshape(-1)
    arguments = dict(call.arguments)
    if name in ("mean_absolute_error", "mean_squared_error", "root_mean_squared_error"):
        arguments["summed"] = True
    if name.endswith("divergence"):  # of the classes that logits tell; that of the targets first
        for batch in batches:
            preds, target = batch["preds"].softmax(1), batch["target"].softmax(1)
            batch["preds"], batch["target"] = target, preds
    return renamed(call, name, batches, **arguments)


# scikit-learn: labels may be anything, and one call is one batch.
SKLEARN_COUNTS = {
    "accuracy_score": "accuracy",
    "balanced_accuracy_score": "balanced_accuracy",
    "precision_score": "precision",
    "recall_score": "recall",
    "f1_score": "f1_score",
    "fbeta_score": "fbeta_score",
    "jaccard_score": "jaccard_index",
    "matthews_corrcoef": "matthews_corrcoef",
    "cohen_kappa_score": "cohen_kappa",
    "confusion_matrix": "confusion_matrix",
    "multilabel_confusion_matrix": "multilabel_confusion_matrix",
    "hamming_loss": "hamming_loss",
    "zero_one_loss": "zero_one_loss",
    "precision_recall_fscore_support": "precision_recall_fscore_support",
}
SKLEARN_SCORES = {
    "roc_auc_score": "auroc",
    "average_precision_score": "average_precision",
    "roc_curve": "roc",
    "precision_recall_curve": "precision_recall_curve",
    "log_loss": "log_loss",
    "brier_score_loss": "brier",
    "top_k_accuracy_score": "accuracy",
    "hinge_loss": "hinge_loss",
    "coverage_error": "coverage_error",
    "label_ranking_loss": "ranking_loss",
    "label_ranking_average_precision_score": "ranking_average_precision",
    "ndcg_score": "ndcg",
    "confusion_matrix_at_thresholds": "confusion_at_thresholds",
    "det_curve": "det_curve",
}
SKLEARN_NUMBERS = {
    "max_error": "max_error",
    "mean_absolute_error": "mean_absolute_error",
    "mean_squared_error": "mean_squared_error",
    "root_mean_squared_error": "root_mean_squared_error",
    "mean_squared_log_error": "mean_squared_log_error",
    "root_mean_squared_log_error": "root_mean_squared_log_error",
    "median_absolute_error": "median_absolute_error",
    "mean_absolute_percentage_error": "sklearn_mape",
    "explained_variance_score": "explained_variance",
    "r2_score": "r2_score",
    "mean_pinball_loss": "mean_pinball_loss",
    "mean_tweedie_deviance": "tweedie_deviance_score",
    "mean_poisson_deviance": "mean_poisson_deviance",
    "mean_gamma_deviance": "mean_gamma_deviance",
    "d2_tweedie_score": "d2_tweedie_score",
    "d2_pinball_score": "d2_pinball_score",
    "d2_absolute_error_score": "d2_absolute_error_score",
}


def sklearn(call: Call) -> Call:
    """Labels become 0 to C − 1 in their order, or in that of `labels=`."""
    if call.metric in SKLEARN_NUMBERS:
        return sklearn_numbers(call)
    if call.metric in SKLEARN_COUNTS:
        return sklearn_counts(call)
    if call.metric in SKLEARN_SCORES:
        return sklearn_scores(call)
    return call


def plain(value: Any) -> np.ndarray:
    """Whatever scikit-learn takes, as an array."""
    if hasattr(value, "toarray"):
        value = value.toarray()
    return np.asarray(value)


def weights_of(call: Call) -> Tensor | None:
    """Sample weights, where there are."""
    weight = call.arguments.get("sample_weight")
    if weight is None:
        return None
    return torch.as_tensor(plain(weight)).double()


def sklearn_numbers(call: Call) -> Call:
    """Regression."""
    target, preds = plain(call.arguments["y_true"]), plain(call.arguments["y_pred"])
    if target.ndim == 2 and target.shape[1] == 1:
        target, preds = target[:, 0], preds.reshape(-1)
    batch = {
        "preds": torch.as_tensor(preds).double(),
        "target": torch.as_tensor(target).double(),
        "weight": weights_of(call),
    }
    outputs = 1 if target.ndim == 1 else target.shape[1]
    arguments = {"outputs": outputs, "multioutput": call.arguments.get("multioutput")}
    for name in ("alpha", "power"):
        arguments[name] = call.arguments.get(name)
    power = {"mean_poisson_deviance": 1, "mean_gamma_deviance": 2}
    arguments["power"] = power.get(call.metric, arguments["power"])
    return renamed(call, SKLEARN_NUMBERS[call.metric], [batch], **arguments)


def encoded(values: np.ndarray, order: list[Any]) -> Tensor:
    """Labels as their places in an order."""
    place = {label: i for i, label in enumerate(order)}
    return torch.tensor([place[label] for label in values.ravel().tolist()], dtype=torch.int64)


def sklearn_counts(call: Call) -> Call:
    """Scores of labels."""
    given = call.arguments
    target = plain(given.get("y_true", given.get("y1")))
    preds = plain(given.get("y_pred", given.get("y2")))
    if (target.ndim == 2 and target.shape[1] == 1) or (preds.ndim == 2 and preds.shape[1] == 1):
        target, preds = target.ravel(), preds.ravel()
    name = SKLEARN_COUNTS[call.metric]
    arguments: dict[str, Any] = {"average": given.get("average") or "none"}
    arguments["zero_division"] = zero_of(given.get("zero_division"))
    arguments["absent"] = arguments["zero_division"]
    for each in ("normalize", "weights", "adjusted", "samplewise"):
        arguments[each] = given.get(each)
    if given.get("beta") is not None:
        arguments["beta"] = given["beta"]
    if name in ("accuracy", "hamming_loss", "zero_one_loss"):
        arguments.update(normalize=None, average="micro")
        arguments["total"] = given.get("normalize") is False
    if name == "cohen_kappa":
        arguments["absent"] = zero_of(given.get("replace_undefined_by"))
    if target.ndim == 2:
        task, batch = sklearn_labels(call, preds, target, arguments)
        name = {"accuracy": "exact_match"}.get(name, name)
    elif given.get("average") == "binary":
        task = "binary"
        positive = given.get("pos_label", 1)
        batch = {
            "preds": torch.as_tensor(preds == positive).long(),
            "target": torch.as_tensor(target == positive).long(),
        }
    else:
        task, batch = sklearn_classes(call, preds, target, arguments)
    weighted = {**batch, "weight": weights_of(call)}
    return renamed(call, f"{task}_{name}", [weighted], **arguments)


def sklearn_labels(
    call: Call, preds: np.ndarray, target: np.ndarray, arguments: dict[str, Any]
) -> tuple[str, dict[str, Tensor]]:
    """Labels of rows; `labels=` are some of the columns."""
    labels = call.arguments.get("labels")
    if labels is not None:  # the others are left out
        columns = [int(label) for label in labels]
        target, preds = target[:, columns], preds[:, columns]
    arguments["num_labels"] = target.shape[1]
    return "multilabel", {"preds": as_tensor(preds).long(), "target": as_tensor(target).long()}


def sklearn_classes(
    call: Call, preds: np.ndarray, target: np.ndarray, arguments: dict[str, Any]
) -> tuple[str, dict[str, Tensor]]:
    """Classes as numbers in their order; those that `labels=` names come first."""
    labels = call.arguments.get("labels")
    order = sorted(set(target.tolist()) | set(preds.tolist()))
    if labels is not None:
        order = [*labels, *(label for label in order if label not in set(labels))]
        if len(labels) < len(order):
            arguments["among"] = list(range(len(labels)))
    elif arguments["average"] in ("macro", "weighted"):
        arguments["absent"] = math.nan  # a second class that is made up has no part in a mean
    arguments["num_classes"] = max(2, len(order))
    arguments["real_classes"] = len(order)
    return "multiclass", {"preds": encoded(preds, order), "target": encoded(target, order)}


def report_arguments(call: Call) -> dict[str, Any]:
    """What `pm.classification_report` takes, of scikit-learn's arguments."""
    given = call.arguments
    target, preds = plain(given["y_true"]), plain(given["y_pred"])
    labels, names = given.get("labels"), given.get("target_names")
    found: dict[str, Any] = {"sample_weight": weights_of(call)}
    found["absent"] = zero_of(given.get("zero_division"))
    if target.ndim == 2 and target.shape[1] > 1:
        found.update(preds=as_tensor(preds).long(), target=as_tensor(target).long())
        found["num_labels"] = target.shape[1]
        if labels is not None:
            raise NotOfferedError("report of some labels")
        if names is not None:
            found["label_names"] = [str(name) for name in names]
        return found
    target, preds = target.ravel(), preds.ravel()
    order = sorted(set(target.tolist()) | set(preds.tolist()))
    if labels is not None:
        order = [*labels, *(x for x in order if x not in set(labels))]
        found["labels"] = list(range(len(labels)))
    shown = [str(label) for label in order]
    if names is not None:
        shown[: len(names)] = [str(name) for name in names]
    found.update(preds=encoded(preds, order), target=encoded(target, order))
    found.update(num_classes=max(2, len(order)), class_names=shown)
    return found


def zero_of(value: Any) -> float:
    """`zero_division` as a number; "warn" is 0."""
    if value is None or isinstance(value, str):
        return 0.0
    return float(value)


def is_given(value: Any) -> bool:
    """Whether an argument is neither None nor a word that stands for it."""
    return value is not None and not isinstance(value, str)


def score_arguments(call: Call) -> dict[str, Any]:
    """Arguments of scores of scores."""
    given = call.arguments
    arguments: dict[str, Any] = {"average": given.get("average") or "none", "kind": "scores"}
    for each in ("max_fpr", "multi_class", "k", "ignore_ties", "drop_intermediate"):
        arguments[each] = given.get(each)
    arguments["total"] = given.get("normalize") is False
    arguments["doubled"] = given.get("scale_by_half") is False
    if call.get("multi_class", "raise") != "raise":
        arguments["kind"] = None  # rows of probabilities, which scikit-learn asks for too
    if call.metric == "top_k_accuracy_score":
        arguments.update(average="micro", top_k=given.get("k", 2))
    return arguments


def sklearn_scores(call: Call) -> Call:
    """Scores of scores."""
    given = call.arguments
    target = plain(given["y_true"])
    names = ("y_score", "y_proba", "pred_decision", "y_pred")
    preds = plain(next(given[name] for name in names if is_given(given.get(name))))
    name = SKLEARN_SCORES[call.metric]
    arguments = score_arguments(call)
    batch: dict[str, Any] = {"weight": weights_of(call)}
    if target.ndim == 2 and target.shape[1] > 1:
        batch["preds"], batch["target"] = as_tensor(preds), as_tensor(target)
        arguments["num_labels"] = target.shape[1]
        return renamed(call, f"multilabel_{name}", [batch], **arguments)
    target = target.ravel()
    labels = given.get("labels")
    found = sorted(set(target.tolist()))
    order = list(labels) if labels is not None else found
    if preds.ndim == 2 and preds.shape[1] == 1:
        preds = preds.ravel()
    if call.metric == "top_k_accuracy_score" and preds.ndim == 1:
        bounds = 1.0 if ((preds >= 0) & (preds <= 1)).all() else 0.0
        preds = np.stack((bounds - preds, preds), 1)
    if preds.ndim == 1:
        arguments["kind"] = "scores"
    if preds.ndim == 2 and (
        preds.shape[1] > 2 or call.metric in ("log_loss", "top_k_accuracy_score")
    ):
        batch["preds"], batch["target"] = as_tensor(preds), encoded(target, sorted(order))
        arguments["num_classes"] = preds.shape[1]
        return renamed(call, f"multiclass_{name}", [batch], **arguments)
    if preds.ndim == 2:
        preds = preds[:, 1]
    positive = given.get("pos_label")
    if positive is None:
        positive = max(order) if len(order) else 1
        if set(found) <= {-1, 0, 1}:
            positive = 1
    batch["preds"] = as_tensor(preds)
    batch["target"] = torch.as_tensor(target == positive).long()
    return renamed(call, f"binary_{name}", [batch], **arguments)


DIALECTS: Mapping[str, Callable[[Call], Call]] = {
    "torchmetrics": as_it_is,
    "torcheval": torcheval,
    "ignite": ignite,
    "sklearn": sklearn,
}
WATCHED = {
    "sklearn": {*SKLEARN_COUNTS, *SKLEARN_SCORES, *SKLEARN_NUMBERS, "classification_report"},
}
