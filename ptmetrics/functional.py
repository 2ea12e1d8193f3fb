"""Every score as one call on whole tensors: `multiclass(...)` for all of a task, `multiclass_f1_score(...)` for one.

Names are those of torchmetrics and torcheval, argument order is theirs too: `(preds, target)`. What differs is said:
the kind of predictions is declared with `inputs`, never guessed; the result is a `Score`, a float with its interval.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ptmetrics.errors import ConfigError
from ptmetrics.metrics.binary_metrics import BinaryMetrics
from ptmetrics.metrics.multiclass_metrics import MulticlassMetrics
from ptmetrics.metrics.multilabel_metrics import MultilabelMetrics
from ptmetrics.metrics.regression_metrics import RegressionMetrics
from ptmetrics.metrics.score import Score, Scores
from ptmetrics.metrics.task import TaskMetrics


class Single(NamedTuple):
    """What a function of one score returns.

    Attributes:
        task: The function of this module that computes all scores.
        score: Name of the score there, without its average.
        what: A sentence: what it is, direction, range.
        averages: Ways to average over classes, the default first; "binary" is the positive class alone.
    """

    task: str
    score: str
    what: str
    averages: tuple[str, ...] = ()


def multiclass(
    preds: Tensor,
    target: Tensor,
    num_classes: int,
    *,
    sample_weight: Tensor | None = None,
    **options: Any,
) -> Scores:
    """All scores of single-label classification; shapes and options are those of `MulticlassMetrics`."""
    return _counted(MulticlassMetrics(num_classes, **options), preds, target, sample_weight)


def binary(
    preds: Tensor, target: Tensor, *, sample_weight: Tensor | None = None, **options: Any
) -> Scores:
    """All scores of yes-or-no classification; shapes and options are those of `BinaryMetrics`.

    All predictions are at hand, so without weights the curves are exact unless `curves` says otherwise.
    """
    room: dict[str, Any] = {"curves": "exact", "capacity": max(1, target.numel())}
    return _counted(BinaryMetrics(**(room | options)), preds, target, sample_weight)


def multilabel(
    preds: Tensor,
    target: Tensor,
    num_labels: int,
    *,
    sample_weight: Tensor | None = None,
    **options: Any,
) -> Scores:
    """All scores of many yes-or-no labels a row; shapes and options are those of `MultilabelMetrics`."""
    return _counted(MultilabelMetrics(num_labels, **options), preds, target, sample_weight)


def regression(
    preds: Tensor, target: Tensor, *, sample_weight: Tensor | None = None, **options: Any
) -> Scores:
    """All scores of regression; shapes and options are those of `RegressionMetrics`."""
    return _counted(RegressionMetrics(**options), preds, target, sample_weight)


def multiclass_top_k_accuracy(
    preds: Tensor, target: Tensor, num_classes: int, k: int = 5, **options: Any
) -> Score:
    """Share of targets among the `k` highest scores; rises, [0, 1]. Options as in `multiclass`, but `topk`."""
    scores = multiclass(preds, target, num_classes, topk=(k,), **options)
    return scores["accuracy" if k == 1 else f"top{k}_accuracy"]


def multiclass_auroc(preds: Tensor, target: Tensor, num_classes: int, **options: Any) -> Score:
    """Mean over the classes of each class against the rest; rises, [0, 1]. Options as in `multiclass`."""
    return multiclass(preds, target, num_classes, **{"losses": False, **options, "curves": True})[
        "auroc/macro"
    ]


def multiclass_average_precision(
    preds: Tensor, target: Tensor, num_classes: int, **options: Any
) -> Score:
    """Mean over the classes of the mean precision at the positives; rises, (0, 1]. Options as in `multiclass`."""
    scores = multiclass(preds, target, num_classes, **{"losses": False, **options, "curves": True})
    return scores["average_precision/macro"]


def binary_fbeta_score(preds: Tensor, target: Tensor, beta: float, **options: Any) -> Score:
    """Precision and recall, recall `beta` times as important; rises, [0, 1]. Options as in `binary`."""
    return binary(preds, target, beta=beta, **{"curves": None, "losses": False, **options})["fbeta"]


def absolute_error_quantile(preds: Tensor, target: Tensor, q: float, **options: Any) -> Score:
    """The q-quantile of |error|, in the target's unit; falls, 0 or more. Options as in `regression`."""
    return regression(preds, target, quantiles=(q,), **options)[f"absolute_error/p{100 * q:g}"]


CLASS, SIDE = ("macro", "micro", "weighted"), ("binary", "macro", "weighted")
LABEL, LABELS = ("macro", "micro", "weighted", "samples"), ("macro",)
# fmt: off
SINGLES: Mapping[str, Single] = {
    "multiclass_accuracy": Single("multiclass", "accuracy", "Share of right predictions (micro); rises, [0, 1]."),
    "multiclass_balanced_accuracy": Single(
        "multiclass", "balanced_accuracy", "Mean recall of the classes in the targets; rises, [0, 1]."),
    "multiclass_precision": Single("multiclass", "precision", "Hits over predictions; rises, [0, 1].", CLASS),
    "multiclass_recall": Single("multiclass", "recall", "Hits over targets; rises, [0, 1].", CLASS),
    "multiclass_f1_score": Single(
        "multiclass", "f1", "Harmonic mean of precision and recall; rises, [0, 1].", CLASS),
    "multiclass_matthews_corrcoef": Single("multiclass", "mcc", "Matthews correlation; rises, [-1, 1]."),
    "multiclass_cohen_kappa": Single("multiclass", "kappa", "Agreement beyond chance; rises, up to 1."),
    "multiclass_nll": Single("multiclass", "nll", "Mean negative log-likelihood; falls, 0 or more."),
    "multiclass_brier_score": Single(
        "multiclass", "brier", "Mean squared error of the probabilities, over all classes; falls, [0, 2]."),
    "multiclass_calibration_error": Single(
        "multiclass", "ece", "Expected calibration error, 15 bins of equal width; falls, [0, 1]."),
    "multiclass_rms_calibration_error": Single(
        "multiclass", "rms_calibration_error", "Root mean squared, 15 bins of equal mass, debiased; falls, [0, 1]."),
    "multiclass_over_confidence": Single(
        "multiclass", "over_confidence", "Mean confidence minus accuracy; best at 0."),
    "multiclass_jaccard_index": Single(
        "multiclass", "jaccard", "Hits over all that are of the class or predicted so; rises, [0, 1].", CLASS),
    "multiclass_specificity": Single(
        "multiclass", "specificity", "True negatives over negatives; rises, [0, 1].", LABELS),
    "multiclass_hamming_loss": Single("multiclass", "hamming_loss", "Share of wrong predictions; falls, [0, 1]."),
    "binary_accuracy": Single("binary", "accuracy", "Share of right predictions; rises, [0, 1]."),
    "binary_balanced_accuracy": Single(
        "binary", "balanced_accuracy", "Mean recall of the classes in the targets; rises, [0, 1]."),
    "binary_precision": Single(
        "binary", "precision", "True positives over predicted positives; rises, [0, 1].", SIDE),
    "binary_recall": Single("binary", "recall", "True positives over positives; rises, [0, 1].", SIDE),
    "binary_specificity": Single("binary", "specificity", "True negatives over negatives; rises, [0, 1]."),
    "binary_negative_predictive_value": Single(
        "binary", "npv", "True negatives over predicted negatives; rises, [0, 1]."),
    "binary_f1_score": Single("binary", "f1", "Harmonic mean of precision and recall; rises, [0, 1].", SIDE),
    "binary_jaccard_index": Single(
        "binary", "jaccard", "True positives over all that are positive or predicted so; rises, [0, 1]."),
    "binary_matthews_corrcoef": Single("binary", "mcc", "Matthews correlation; rises, [-1, 1]."),
    "binary_cohen_kappa": Single("binary", "kappa", "Agreement beyond chance; rises, up to 1."),
    "binary_auroc": Single(
        "binary", "auroc", "Chance that a positive scores above a negative; rises, [0, 1]."),
    "binary_average_precision": Single(
        "binary", "average_precision", "Mean precision at the positives; rises, (0, 1]."),
    "binary_nll": Single("binary", "nll", "Mean negative log-likelihood; falls, 0 or more."),
    "binary_brier_score": Single(
        "binary", "brier", "Mean squared error of the probability; falls, [0, 1]."),
    "binary_calibration_error": Single(
        "binary", "ece", "Calibration error of the positive, 15 bins of equal width; falls, [0, 1]."),
    "binary_rms_calibration_error": Single(
        "binary", "rms_calibration_error", "Root mean squared, 15 bins of equal mass, debiased; falls, [0, 1]."),
    "binary_over_confidence": Single("binary", "over_confidence", "Mean confidence minus accuracy; best at 0."),
    "multilabel_exact_match": Single(
        "multilabel", "exact_match", "Share of rows with every label right; rises, [0, 1]."),
    "multilabel_hamming_loss": Single("multilabel", "hamming_loss", "Share of wrong labels; falls, [0, 1]."),
    "multilabel_precision": Single(
        "multilabel", "precision", "Hits over predictions; rises, [0, 1].", LABEL),
    "multilabel_recall": Single("multilabel", "recall", "Hits over targets; rises, [0, 1].", LABEL),
    "multilabel_f1_score": Single(
        "multilabel", "f1", "Harmonic mean of precision and recall; rises, [0, 1].", LABEL),
    "multilabel_jaccard_index": Single(
        "multilabel", "jaccard", "Hits over all that is a target or predicted; rises, [0, 1].", LABEL),
    "multilabel_auroc": Single(
        "multilabel", "auroc", "Chance that a yes scores above a no; rises, [0, 1].", LABELS),
    "multilabel_average_precision": Single(
        "multilabel", "average_precision", "Mean precision at the positives; rises, (0, 1].", LABELS),
    "mean_squared_error": Single("regression", "mse", "Mean squared error; falls, 0 or more."),
    "root_mean_squared_error": Single("regression", "rmse", "Root mean squared error; falls, 0 or more."),
    "mean_absolute_error": Single("regression", "mae", "Mean absolute error; falls, 0 or more."),
    "median_absolute_error": Single(
        "regression", "median_absolute_error", "Median of the absolute errors; falls, 0 or more."),
    "max_error": Single("regression", "max_error", "Largest absolute error; falls, 0 or more."),
    "mean_error": Single("regression", "bias", "Mean of prediction − target; best at 0."),
    "r2_score": Single("regression", "r2", "Coefficient of determination; rises, up to 1."),
    "explained_variance": Single("regression", "explained_variance", "R² without the bias; rises, up to 1."),
    "pearson_corrcoef": Single("regression", "pearson", "Pearson correlation; rises, [-1, 1]."),
}
# fmt: on


def __getattr__(name: str) -> Callable[..., Any]:
    if name not in SINGLES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    function = globals()[name] = _function(name, SINGLES[name])
    return function


def __dir__() -> list[str]:
    return sorted([*globals(), *SINGLES])


def _counted(metrics: TaskMetrics, preds: Tensor, target: Tensor, weight: Tensor | None) -> Scores:
    metrics.update(preds, target, weight)
    return metrics.compute()


_TASKS: Mapping[str, tuple[Callable[..., Scores], type[TaskMetrics]]] = {
    "multiclass": (multiclass, MulticlassMetrics),
    "binary": (binary, BinaryMetrics),
    "multilabel": (multilabel, MultilabelMetrics),
    "regression": (regression, RegressionMetrics),
}


def _function(name: str, single: Single) -> Callable[..., Any]:
    all_scores, averages = _TASKS[single.task][0], single.averages
    signature = _signature(single)

    def function(*args: Any, **options: Any) -> Any:
        signature.bind(*args, **options)  # names what is wrong as a function written by hand would
        average = options.pop("average", averages[0] if averages else None)
        if average not in (*averages, None):
            cure = "Pass average=None for one score a class."
            raise ConfigError(
                "average", f"one of {', '.join(averages)}, or None", repr(average), cure
            )
        scores = all_scores(*args, **options)
        if averages and average is None:
            return scores.per_class[single.score]
        return scores[single.score if average in (None, "binary") else f"{single.score}/{average}"]

    function.__name__ = function.__qualname__ = name
    function.__doc__ = _docstring(single)
    function.__dict__["__signature__"] = signature  # what inspect and help() show
    return function


def _signature(single: Single) -> inspect.Signature:
    """Of the task's function, its options spelled out: those of the class, but for where to count."""
    all_scores, metrics = _TASKS[single.task]
    kind = inspect.Parameter.KEYWORD_ONLY
    named = [
        p for p in inspect.signature(all_scores).parameters.values() if p.kind != p.VAR_KEYWORD
    ]
    if single.averages:
        named.append(
            inspect.Parameter("average", kind, default=single.averages[0], annotation=str | None)
        )
    options = inspect.signature(metrics).parameters.values()
    taken = {"device", *(p.name for p in named)}
    result = Score | tuple[Score, ...] if single.averages else Score
    return inspect.Signature(
        [*named, *(p for p in options if p.name not in taken)], return_annotation=result
    )


def _docstring(single: Single) -> str:
    task, metrics = single.task, _TASKS[single.task][1].__name__
    average = (
        f"    average: {', '.join(single.averages)}; None for one score a class.\n"
        if single.averages
        else ""
    )
    return (
        f"{single.what}\n\nArgs:\n"
        f"    preds: Predictions, as `{metrics}.update` takes them.\n"
        f"    target: Truth of the same rows.\n"
        f"    sample_weight: Non-negative weights, one a row; for `binary` of the target's shape.\n{average}"
        f"    The others are those of `{metrics}`.\n\n"
        f"Returns:\n    `{single.score}` of `{task}`: a float with `low`, `high`, `n` and the `reason` of a NaN.\n"
    )
