"""Every score as one call on whole tensors: `multiclass(...)` for all of a task, `multiclass_f1_score(...)` for one.

Names are those of torchmetrics and torcheval, argument order is theirs too: `(preds, target)`. What
differs is said: the kind of predictions is declared with `inputs`, never guessed; the result is a
`Score`, a float with its interval. NumPy arrays are taken like tensors, and not copied where torch
can share them; of lists and the like it is said what to pass. Functions of one score are made from the table `SINGLES`;
`functional.pyi` shows an editor their arguments.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ptmetrics.errors import ConfigError, DtypeError
from ptmetrics.metrics.base import Metrics
from ptmetrics.metrics.binary import BinaryMetrics
from ptmetrics.metrics.multiclass import MulticlassMetrics
from ptmetrics.metrics.multilabel import MultilabelMetrics
from ptmetrics.metrics.regression import RegressionMetrics
from ptmetrics.metrics.score import Score, Scores

ARRAYS = "a torch.Tensor or a NumPy array of numbers"


def tensor_of(name: str, value: Any) -> Tensor:
    """A NumPy array as a tensor, without copying it where torch can share it; a tensor as it is.

    Raises:
        DtypeError: If it is neither a tensor nor an array of numbers.

    Example:
        >>> import numpy as np
        >>> tensor_of("target", np.array([1, 0]))
        tensor([1, 0])
    """
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, np.ndarray):
        cure = f"Pass torch.as_tensor({name}), or np.asarray({name})."
        raise DtypeError(name, ARRAYS, type(value).__name__, cure)
    array = value
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()  # torch can share neither
    try:
        return torch.from_numpy(array)
    except (TypeError, ValueError):
        fact = f"a NumPy array of {value.dtype}"
        raise DtypeError(name, ARRAYS, fact, f"Pass {name}.astype(float).") from None


def multiclass(
    preds: Tensor,
    target: Tensor,
    num_classes: int,
    *,
    sample_weight: Tensor | None = None,
    **options: Any,
) -> Scores:
    """All scores of single-label classification; shapes and options are those of `MulticlassMetrics`.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> labels = torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2])
        >>> scores = pm.functional.multiclass(*labels, num_classes=3, inputs="labels")
        >>> round(scores["accuracy"].value, 3)
        0.667
    """
    return _computed(MulticlassMetrics(num_classes, **options), preds, target, sample_weight)


def binary(
    preds: Tensor, target: Tensor, *, sample_weight: Tensor | None = None, **options: Any
) -> Scores:
    """All scores of yes-or-no classification; shapes and options are those of `BinaryMetrics`.

    All predictions are at hand, so without weights the curves are exact unless `curves` says
    otherwise.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> preds, target = torch.tensor([0.1, 0.8, 0.6]), torch.tensor([0, 1, 0])
        >>> pm.functional.binary(preds, target, inputs="probs")["auroc"].value
        1.0
    """
    target = tensor_of("target", target)
    room: dict[str, Any] = {"curves": "exact", "capacity": max(1, target.numel())}
    room.update(options)
    return _computed(BinaryMetrics(**room), preds, target, sample_weight)


def multilabel(
    preds: Tensor,
    target: Tensor,
    num_labels: int,
    *,
    sample_weight: Tensor | None = None,
    **options: Any,
) -> Scores:
    """All scores of many yes-or-no labels a row; shapes and options are those of `MultilabelMetrics`.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> preds, target = torch.tensor([[2.0, -1.0], [1.0, 3.0]]), torch.tensor([[1, 0], [1, 0]])
        >>> pm.functional.multilabel(preds, target, num_labels=2)["exact_match"].value
        0.5
    """
    return _computed(MultilabelMetrics(num_labels, **options), preds, target, sample_weight)


def regression(
    preds: Tensor, target: Tensor, *, sample_weight: Tensor | None = None, **options: Any
) -> Scores:
    """All scores of regression; shapes and options are those of `RegressionMetrics`.

    All rows are at hand, so without weights rank correlations are exact unless `capacity` says
    otherwise.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> pm.functional.regression(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]))["mae"].value
        0.5
    """
    target = tensor_of("target", target)
    room = {"capacity": target.numel(), **options}
    return _computed(RegressionMetrics(**room), preds, target, sample_weight)


def multiclass_top_k_accuracy(
    preds: Tensor, target: Tensor, num_classes: int, k: int = 5, **options: Any
) -> Score:
    """Share of targets among the `k` highest scores; rises, [0, 1]. Options as in `multiclass`, but `topk`.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> preds = torch.tensor([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0]])
        >>> pm.functional.multiclass_top_k_accuracy(preds, torch.tensor([1, 0]), 3, k=2).value
        0.5
    """
    scores = multiclass(preds, target, num_classes, topk=(k,), **options)
    if k == 1:
        return scores["accuracy"]
    return scores[f"top{k}_accuracy"]


def multiclass_auroc(preds: Tensor, target: Tensor, num_classes: int, **options: Any) -> Score:
    """Mean over the classes of each class against the rest; rises, [0, 1]. Options as in `multiclass`.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> preds = torch.tensor([[3.0, 1.0], [1.0, 2.0]])
        >>> pm.functional.multiclass_auroc(preds, torch.tensor([0, 1]), 2).value
        1.0
    """
    wanted = {"losses": False, **options, "curves": True}
    return multiclass(preds, target, num_classes, **wanted)["auroc/macro"]


def multiclass_average_precision(
    preds: Tensor, target: Tensor, num_classes: int, **options: Any
) -> Score:
    """Mean over the classes of the mean precision at the positives; rises, (0, 1]. Options as in `multiclass`.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> preds = torch.tensor([[3.0, 1.0], [1.0, 2.0]])
        >>> pm.functional.multiclass_average_precision(preds, torch.tensor([0, 1]), 2).value
        1.0
    """
    wanted = {"losses": False, **options, "curves": True}
    return multiclass(preds, target, num_classes, **wanted)["average_precision/macro"]


def binary_fbeta_score(preds: Tensor, target: Tensor, beta: float, **options: Any) -> Score:
    """Precision and recall, recall `beta` times as important; rises, [0, 1]. Options as in `binary`.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> preds, target = torch.tensor([0.2, 0.8]), torch.tensor([1, 1])
        >>> round(pm.functional.binary_fbeta_score(preds, target, 2.0, inputs="probs").value, 3)
        0.556
    """
    wanted = {"curves": None, "losses": False, **options}
    return binary(preds, target, beta=beta, **wanted)["fbeta"]


def absolute_error_quantile(preds: Tensor, target: Tensor, q: float, **options: Any) -> Score:
    """The q-quantile of |error|, in the target's unit; falls, 0 or more. Options as in `regression`.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> preds, target = torch.tensor([1.0, 2.0, 4.0]), torch.zeros(3)
        >>> round(pm.functional.absolute_error_quantile(preds, target, 0.5).value, 1)
        2.0
    """
    return regression(preds, target, quantiles=(q,), **options)[f"absolute_error/p{100 * q:g}"]


class Single(NamedTuple):
    """What a function of one score returns.

    Attributes:
        task: The function of this module that computes all scores.
        score: Name of the score there, without its average.
        averages: Ways to average over classes, the default first; "binary" is the positive class
            alone.
    """

    task: str
    score: str
    averages: tuple[str, ...] = ()


CLASSES = ("macro", "micro", "weighted")
SIDES = ("binary", "macro", "weighted")
LABELS = ("macro", "micro", "weighted", "samples")
MEAN = ("macro",)
SINGLES: Mapping[str, Single] = {
    "multiclass_accuracy": Single("multiclass", "accuracy"),
    "multiclass_balanced_accuracy": Single("multiclass", "balanced_accuracy"),
    "multiclass_precision": Single("multiclass", "precision", CLASSES),
    "multiclass_recall": Single("multiclass", "recall", CLASSES),
    "multiclass_f1_score": Single("multiclass", "f1", CLASSES),
    "multiclass_matthews_corrcoef": Single("multiclass", "mcc"),
    "multiclass_cohen_kappa": Single("multiclass", "kappa"),
    "multiclass_linear_kappa": Single("multiclass", "kappa/linear"),
    "multiclass_quadratic_kappa": Single("multiclass", "kappa/quadratic"),
    "multiclass_adjusted_balanced_accuracy": Single("multiclass", "balanced_accuracy/adjusted"),
    "multiclass_negative_predictive_value": Single("multiclass", "npv", MEAN),
    "multiclass_nll": Single("multiclass", "nll"),
    "multiclass_perplexity": Single("multiclass", "perplexity"),
    "multiclass_brier_score": Single("multiclass", "brier"),
    "multiclass_calibration_error": Single("multiclass", "ece"),
    "multiclass_rms_calibration_error": Single("multiclass", "rms_calibration_error"),
    "multiclass_over_confidence": Single("multiclass", "over_confidence"),
    "multiclass_jaccard_index": Single("multiclass", "jaccard", CLASSES),
    "multiclass_specificity": Single("multiclass", "specificity", CLASSES),
    "multiclass_hamming_loss": Single("multiclass", "hamming_loss"),
    "binary_accuracy": Single("binary", "accuracy"),
    "binary_balanced_accuracy": Single("binary", "balanced_accuracy"),
    "binary_precision": Single("binary", "precision", SIDES),
    "binary_recall": Single("binary", "recall", SIDES),
    "binary_specificity": Single("binary", "specificity"),
    "binary_negative_predictive_value": Single("binary", "npv"),
    "binary_f1_score": Single("binary", "f1", SIDES),
    "binary_jaccard_index": Single("binary", "jaccard"),
    "binary_matthews_corrcoef": Single("binary", "mcc"),
    "binary_cohen_kappa": Single("binary", "kappa"),
    "binary_auroc": Single("binary", "auroc"),
    "binary_average_precision": Single("binary", "average_precision"),
    "binary_nll": Single("binary", "nll"),
    "binary_brier_score": Single("binary", "brier"),
    "binary_calibration_error": Single("binary", "ece"),
    "binary_rms_calibration_error": Single("binary", "rms_calibration_error"),
    "binary_over_confidence": Single("binary", "over_confidence"),
    "multilabel_exact_match": Single("multilabel", "exact_match"),
    "multilabel_hamming_loss": Single("multilabel", "hamming_loss"),
    "multilabel_precision": Single("multilabel", "precision", LABELS),
    "multilabel_recall": Single("multilabel", "recall", LABELS),
    "multilabel_f1_score": Single("multilabel", "f1", LABELS),
    "multilabel_jaccard_index": Single("multilabel", "jaccard", LABELS),
    "multilabel_auroc": Single("multilabel", "auroc", MEAN),
    "multilabel_average_precision": Single("multilabel", "average_precision", MEAN),
    "mean_squared_error": Single("regression", "mse"),
    "root_mean_squared_error": Single("regression", "rmse"),
    "mean_absolute_error": Single("regression", "mae"),
    "median_absolute_error": Single("regression", "median_absolute_error"),
    "max_error": Single("regression", "max_error"),
    "mean_error": Single("regression", "bias"),
    "r2_score": Single("regression", "r2"),
    "explained_variance": Single("regression", "explained_variance"),
    "pearson_corrcoef": Single("regression", "pearson"),
    "spearman_corrcoef": Single("regression", "spearman"),
    "kendall_rank_corrcoef": Single("regression", "kendall"),
    "mean_absolute_percentage_error": Single("regression", "mape"),
    "symmetric_mean_absolute_percentage_error": Single("regression", "smape"),
    "weighted_mean_absolute_percentage_error": Single("regression", "wmape"),
    "mean_squared_log_error": Single("regression", "msle"),
    "root_mean_squared_log_error": Single("regression", "rmsle"),
    "normalized_root_mean_squared_error": Single("regression", "nrmse"),
}
TASKS: Mapping[str, tuple[Callable[..., Scores], type[Metrics]]] = {
    "multiclass": (multiclass, MulticlassMetrics),
    "binary": (binary, BinaryMetrics),
    "multilabel": (multilabel, MultilabelMetrics),
    "regression": (regression, RegressionMetrics),
}
EXAMPLES = {
    "multiclass": ("[[2.0, 1.0, 0.0], [0.0, 1.0, 3.0], [0.5, 2.0, 1.0]]", "[0, 2, 0]", ", 3"),
    "binary": ("[2.0, -1.0, 0.5]", "[1, 0, 0]", ""),
    "multilabel": ("[[2.0, -1.0], [0.5, 3.0]]", "[[1, 0], [1, 0]]", ", 2"),
    "regression": ("[1.0, 2.5, 4.0]", "[1.5, 2.0, 4.5]", ""),
}


def _computed(metrics: Metrics, preds: Tensor, target: Tensor, weight: Tensor | None) -> Scores:
    if weight is not None:
        weight = tensor_of("sample_weight", weight)
    metrics.update(tensor_of("preds", preds), tensor_of("target", target), weight)
    return metrics.compute()


def _function_of(name: str, single: Single) -> Callable[..., Any]:
    all_scores = TASKS[single.task][0]
    averages = single.averages
    default = averages[0] if averages else None
    signature = _signature_of(single)
    names = {single.score, *(f"{single.score}/{average}" for average in averages)}
    optional = TASKS[single.task][1].optional_tables
    names.intersection_update(spec.name for table in optional for spec in table.specs)

    def function(*args: Any, **options: Any) -> Any:
        signature.bind(*args, **options)  # names what is wrong as a function written by hand would
        average = options.pop("average", default)
        if average not in (*averages, None):
            cure = "Pass average=None for one score a class."
            rule = f"one of {', '.join(averages)}, or None"
            raise ConfigError("average", rule, repr(average), cure)
        if names:
            options["scores"] = sorted(names)
        scores = all_scores(*args, **options)
        if averages and average is None:
            return tuple(scores.per_class[single.score])
        if average in (None, "binary"):
            return scores[single.score]
        return scores[f"{single.score}/{average}"]

    function.__name__ = name
    function.__qualname__ = name
    function.__doc__ = _docstring_of(name, single)
    function.__dict__["__signature__"] = signature  # what inspect and help() show
    return function


def _signature_of(single: Single) -> inspect.Signature:
    """Of the task's function, its options spelled out: those of the class, but for where to count."""
    all_scores, metrics = TASKS[single.task]
    named = []
    for parameter in inspect.signature(all_scores).parameters.values():
        if parameter.kind != parameter.VAR_KEYWORD:
            named.append(parameter)
    result: Any = Score
    if single.averages:
        kind = inspect.Parameter.KEYWORD_ONLY
        default = single.averages[0]
        named.append(inspect.Parameter("average", kind, default=default, annotation="str | None"))
        result = Score | tuple[Score, ...]
    taken = {"device", "slices", "groups", "scores", *(p.name for p in named)}
    for parameter in inspect.signature(metrics).parameters.values():
        if parameter.name not in taken:
            named.append(parameter)
    return inspect.Signature(named, return_annotation=result)


def _docstring_of(name: str, single: Single) -> str:
    metrics = TASKS[single.task][1].__name__
    preds, target, more = EXAMPLES[single.task]
    lines = [
        f"{_sentence_of(single)}",
        "",
        "Args:",
        f"    preds: Predictions, as `{metrics}.update` takes them.",
        "    target: Truth of the same rows.",
        "    sample_weight: Non-negative weights, one a row; for `binary` of the target's shape.",
    ]
    if single.averages:
        lines.append(f"    average: {', '.join(single.averages)}; None for one score a class.")
    lines += [
        f"    The others are those of `{metrics}`.",
        "",
        "Returns:",
        f"    `{single.score}` of `{single.task}`: a float with `low`, `high`, `n` and the `reason` of a NaN.",
        "",
        "Example:",
        "    >>> import torch",
        "    >>> import ptmetrics as pm",
        f"    >>> preds, target = torch.tensor({preds}), torch.tensor({target})",
        f"    >>> score = pm.functional.{name}(preds, target{more})",
        "    >>> not score.low > score.value and not score.high < score.value",
        "    True",
    ]
    return "\n".join(lines) + "\n"


def _sentence_of(single: Single) -> str:
    """What the tables say of the score, its direction and range."""
    names = [single.score]
    if single.averages:
        names.append(f"{single.score}/{single.averages[0]}")
    metrics = TASKS[single.task][1]
    for table in (*metrics.score_tables, *metrics.optional_tables):
        for spec in table.specs:
            if spec.name in names:
                direction = "Rises" if spec.higher_is_better else "Falls"
                low, high = spec.range
                return f"{spec.doc} {direction}, from {low:g} to {high:g}."
    return f"`{single.score}` of `{metrics.__name__}`."


globals().update({name: _function_of(name, single) for name, single in SINGLES.items()})
