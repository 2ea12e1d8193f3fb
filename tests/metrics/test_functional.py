"""Each function of one score against scikit-learn, and none missing for a score that a task has."""

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import LAW
from regression_cases import relative_columns
from sklearn import metrics as sk
from torch import Tensor

import ptmetrics as pm
from ptmetrics.errors import ConfigError, DtypeError
from ptmetrics.metrics import functional
from ptmetrics.metrics.asked_scores import ASKED_SPECS
from ptmetrics.metrics.functional import SINGLES, TASKS, Single

Reference = Callable[..., Any]


def by_class(score: Reference) -> Reference:
    """A score of scikit-learn that takes `average`, zero_division as ours."""
    return lambda y, p, average, **w: score(y, p, average=average, zero_division=0.0, **w)


def negative(score: Reference) -> Reference:
    return lambda y, p, **w: score(y, p, pos_label=0, **w)


def likelihood(y: np.ndarray, scores: np.ndarray, sample_weight: np.ndarray) -> float:
    scores = scores if scores.ndim > 1 else np.stack((1 - scores, scores), 1)
    return float(np.average(-np.log(scores[np.arange(len(y)), y]), weights=sample_weight))


def mean_error(y: np.ndarray, p: np.ndarray, sample_weight: np.ndarray) -> float:
    return float(np.average(p - y, weights=sample_weight))


def pearson(y: np.ndarray, p: np.ndarray, sample_weight: np.ndarray) -> float:
    matrix = np.cov(y, p, aweights=sample_weight)
    return float(matrix[0, 1] / math.sqrt(matrix[0, 0] * matrix[1, 1]))


def relative(name: str) -> Reference:
    """A relative error by its definition."""

    def reference(y: np.ndarray, p: np.ndarray, sample_weight: np.ndarray) -> float:
        return relative_columns(p[:, None], y[:, None], sample_weight)[name][0]

    return reference


def agreement(y: np.ndarray, p: np.ndarray, sample_weight: np.ndarray, *, ranks: bool) -> float:
    """Kendall's correlation where ranks is False, else Spearman's; a weight is as many rows."""
    x, y = (np.sign(v[:, None] - v) for v in (p, y))
    if ranks:
        x, y = x @ sample_weight, y @ sample_weight
        both = np.diag(sample_weight)
        return float(x @ both @ y / math.sqrt((x @ both @ x) * (y @ both @ y)))
    pairs = np.outer(sample_weight, sample_weight)
    return float((x * y * pairs).sum() / math.sqrt((x**2 * pairs).sum() * (y**2 * pairs).sum()))


def brier(y: np.ndarray, scores: np.ndarray, sample_weight: np.ndarray) -> float:
    return float(np.average(((scores - np.eye(4)[y]) ** 2).sum(1), weights=sample_weight))


def over_confidence(y: np.ndarray, scores: np.ndarray, sample_weight: np.ndarray) -> float:
    hit = (scores.argmax(1) if scores.ndim > 1 else scores >= 0.5) == y
    sure = scores.max(1) if scores.ndim > 1 else np.maximum(scores, 1 - scores)
    return float(np.average(sure - hit, weights=sample_weight))


def top(scores: np.ndarray) -> np.ndarray:
    return np.asarray(scores.max(1) if scores.ndim > 1 else scores)


def gaps(
    bins: np.ndarray, y: np.ndarray, scores: np.ndarray, weight: np.ndarray
) -> list[tuple[float, ...]]:
    """Share, confidence − accuracy and its noise in each bin; of two classes, those of the positive."""
    sure, hit, parts = (
        top(scores),
        ((scores.argmax(1) == y) if scores.ndim > 1 else y).astype(float),
        [],
    )
    for b in np.unique(bins):
        w = weight * (bins == b)
        n, accuracy = w.sum() ** 2 / (w * w).sum(), (w * hit).sum() / w.sum()
        noise = accuracy * (1 - accuracy) / (n - 1) if n > 1 else math.nan
        parts.append((w.sum() / weight.sum(), (w * sure).sum() / w.sum() - accuracy, noise))
    return parts


def ece(y: np.ndarray, scores: np.ndarray, sample_weight: np.ndarray) -> float:
    bins = np.ceil(top(scores) * 15)
    return sum(share * abs(gap) for share, gap, _ in gaps(bins, y, scores, sample_weight))


def rms(y: np.ndarray, scores: np.ndarray, sample_weight: np.ndarray) -> float:
    fine = np.ceil(top(scores) * 960).astype(int) - 1
    mass = np.bincount(fine, sample_weight, 960)
    into = ((mass.cumsum() - mass / 2) / mass.sum() * 15).astype(int)
    parts = gaps(into[fine], y, scores, sample_weight)
    square = sum(share * (gap**2 - noise) for share, gap, noise in parts if not math.isnan(noise))
    return math.sqrt(max(0.0, square))


def true_negative_rate(
    y: np.ndarray, p: np.ndarray, average: str | None, sample_weight: np.ndarray
) -> Any:
    tn, fp, _, _ = (
        sk.multilabel_confusion_matrix(y, p, labels=range(4), sample_weight=sample_weight)
        .reshape(4, 4)
        .T
    )
    return averaged(tn, tn + fp, y, average, sample_weight)


def negative_predictive_value(
    y: np.ndarray, p: np.ndarray, average: str | None, sample_weight: np.ndarray
) -> Any:
    tn, _, fn, _ = (
        sk.multilabel_confusion_matrix(y, p, labels=range(4), sample_weight=sample_weight)
        .reshape(4, 4)
        .T
    )
    return averaged(tn, tn + fn, y, average, sample_weight)


def averaged(
    part: np.ndarray, whole: np.ndarray, y: np.ndarray, average: str | None, weight: np.ndarray
) -> Any:
    support = np.bincount(y, weight, 4)
    return {
        None: part / whole,
        "macro": (part / whole).mean(),
        "micro": part.sum() / whole.sum(),
        "weighted": np.average(part / whole, weights=support),
    }[average]


SAME: Mapping[str, Reference] = {
    "multiclass_brier_score": brier,
    "multiclass_specificity": true_negative_rate,
    "multiclass_negative_predictive_value": negative_predictive_value,
    "linear_kappa": partial(sk.cohen_kappa_score, weights="linear"),
    "quadratic_kappa": partial(sk.cohen_kappa_score, weights="quadratic"),
    "adjusted_balanced_accuracy": partial(sk.balanced_accuracy_score, adjusted=True),
    "over_confidence": over_confidence,
    "calibration_error": ece,
    "rms_calibration_error": rms,
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "precision": by_class(sk.precision_score),
    "recall": by_class(sk.recall_score),
    "f1_score": by_class(sk.f1_score),
    "jaccard_index": by_class(sk.jaccard_score),
    "matthews_corrcoef": sk.matthews_corrcoef,
    "cohen_kappa": sk.cohen_kappa_score,
    "binary_jaccard_index": sk.jaccard_score,
    "specificity": negative(sk.recall_score),
    "negative_predictive_value": negative(sk.precision_score),
    "exact_match": sk.accuracy_score,
    "hamming_loss": sk.hamming_loss,
    "auroc": sk.roc_auc_score,
    "average_precision": sk.average_precision_score,
    "nll": likelihood,
    "perplexity": lambda y, p, **w: math.exp(likelihood(y, p, **w)),
    "brier_score": sk.brier_score_loss,
    "mean_squared_error": sk.mean_squared_error,
    "root_mean_squared_error": sk.root_mean_squared_error,
    "mean_absolute_error": sk.mean_absolute_error,
    "median_absolute_error": lambda y, p, **w: np.median(np.abs(y - p)),
    "max_error": lambda y, p, **w: sk.max_error(y, p),
    "mean_error": mean_error,
    "r2_score": sk.r2_score,
    "explained_variance": sk.explained_variance_score,
    "pearson_corrcoef": pearson,
    "spearman_corrcoef": partial(agreement, ranks=True),
    "kendall_rank_corrcoef": partial(agreement, ranks=False),
    "mean_absolute_percentage_error": relative("mape"),
    "symmetric_mean_absolute_percentage_error": relative("smape"),
    "weighted_mean_absolute_percentage_error": relative("wmape"),
    "mean_squared_log_error": relative("msle"),
    "root_mean_squared_log_error": relative("rmsle"),
    "normalized_root_mean_squared_error": relative("nrmse"),
}
CALIBRATION = ("calibration_error", "rms_calibration_error", "over_confidence")
ON_SCORES = (
    "auroc",
    "average_precision",
    "nll",
    "perplexity",
    "brier_score",
    "multiclass_brier_score",
    *CALIBRATION,
)
TOLERANCE = {
    "rms_calibration_error": 1e-4,  # at the values of the histogram's rows
    "nll": 1e-6,
    "perplexity": 1e-6,
    "over_confidence": 1e-6,
    "brier_score": 1e-6,
    "multiclass_brier_score": 1e-6,
}  # losses of float32 scores are taken in float32


def short(name: str) -> str:
    return name if name in SAME else name.split("_", 1)[1]


def sampled(task: str, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Probabilities (values for a regression) and targets."""
    g = torch.Generator().manual_seed(seed)
    if task == "regression":
        target = torch.randn(rows, generator=g)
        return target + torch.randn(rows, generator=g), target
    shape = {"multiclass": (rows, 4), "binary": (rows,), "multilabel": (rows, 3)}[task]
    logits = torch.randn(shape, generator=g)
    if task == "multiclass":
        return logits.softmax(1), torch.randint(0, 4, (rows,), generator=g)
    return logits.sigmoid(), (torch.rand(shape, generator=g) < 0.4).long()


def decided(task: str, preds: Tensor) -> Tensor:
    if task == "regression":
        return preds
    return preds.argmax(1) if task == "multiclass" else (preds >= 0.5).long()


def options_of(single: Single) -> dict[str, Any]:
    size = {"multiclass": {"num_classes": 4}, "multilabel": {"num_labels": 3}}.get(single.task, {})
    return size | ({} if single.task == "regression" else {"inputs": "probs", "absent": 0.0})


def expected(name: str, preds: Tensor, target: Tensor, weight: Tensor, average: str | None) -> Any:
    single, reference = SINGLES[name], SAME[short(name)]
    on_scores = short(name) in ON_SCORES
    made = preds if on_scores else decided(single.task, preds)
    how: dict[str, Any] = {"sample_weight": weight.double().numpy()}
    if single.averages:
        how["average"] = average
    exact = target.double() if single.task == "regression" else target
    return reference(
        exact.numpy(), (made.double() if made.is_floating_point() else made).numpy(), **how
    )


CASES = [(name, average) for name, s in SINGLES.items() for average in s.averages or (None,)]


@pytest.mark.parametrize(("name", "average"), CASES)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_each_function_is_that_of_scikit_learn(
    name: str, average: str | None, weighted: bool
) -> None:
    single = SINGLES[name]
    preds, target = sampled(single.task, 200, len(name))
    weight = torch.rand(200) + 0.1 if weighted else torch.ones(200)
    if weighted and short(name) == "median_absolute_error":
        pytest.skip("NumPy has no weighted median")
    options = options_of(single) | ({"average": average} if average else {})
    got = getattr(functional, name)(
        preds, target, sample_weight=weight if weighted else None, **options
    )
    tolerance = TOLERANCE.get(short(name), 1e-12) + got.error_bound
    assert got == pytest.approx(
        expected(name, preds, target, weight, average), rel=tolerance, abs=tolerance
    )
    assert got.low <= got <= got.high
    assert got.n > 0


@pytest.mark.parametrize("name", [n for n, s in SINGLES.items() if s.averages])
def test_average_none_gives_each_class(name: str) -> None:
    single = SINGLES[name]
    preds, target = sampled(single.task, 200, 1)
    got = getattr(functional, name)(preds, target, average=None, **options_of(single))
    reference = expected(name, preds, target, torch.ones(200), None)
    bound = max(score.error_bound for score in got)
    assert list(got) == pytest.approx(list(reference), abs=bound + 1e-12)


def every_score(task: str) -> set[str]:
    metrics: dict[str, Any] = {
        "multiclass": lambda: pm.MulticlassMetrics(4, scores=[s.name for s in ASKED_SPECS]),
        "binary": pm.BinaryMetrics,
        "multilabel": lambda: pm.MultilabelMetrics(3),
        "regression": lambda: pm.RegressionMetrics(quantiles=()),
    }
    optional = {spec.name for table in TASKS[task][1].optional_tables for spec in table.specs}
    return set(metrics[task]().compute()) | optional


@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel", "regression"])
def test_every_score_that_a_peer_has_a_function_for_has_one_here(task: str) -> None:
    reached = set()
    for single in SINGLES.values():
        if single.task == task:
            averages = single.averages or ("binary",)
            reached |= {single.score if a == "binary" else f"{single.score}/{a}" for a in averages}
    assert reached <= every_score(task)
    assert len(reached) >= {"multiclass": 23, "binary": 21, "multilabel": 16, "regression": 9}[task]


@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel", "regression"])
def test_a_task_gives_what_its_metrics_give(task: str) -> None:
    preds, target = sampled(task, 50, 3)
    options = options_of(Single(task, ""))
    metrics: Any = {
        "multiclass": pm.MulticlassMetrics,
        "binary": pm.BinaryMetrics,
        "multilabel": pm.MultilabelMetrics,
        "regression": pm.RegressionMetrics,
    }[task](**options | ({"curves": "exact", "capacity": 50} if task == "binary" else {}))
    metrics.update(preds, target)
    assert repr(getattr(functional, task)(preds, target, **options).to_dict()) == repr(
        metrics.compute().to_dict()
    )


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_the_curves_of_many_classes_are_the_mean_of_each_against_the_rest(weighted: bool) -> None:
    preds, target = sampled("multiclass", 200, 5)
    weight = torch.rand(200, dtype=torch.float64) + 0.1 if weighted else None
    for function, reference in (
        (functional.multiclass_auroc, sk.roc_auc_score),
        (functional.multiclass_average_precision, sk.average_precision_score),
    ):
        got = function(preds, target, 4, inputs="probs", sample_weight=weight)
        truth = np.mean(
            [reference(target == k, preds[:, k].double(), sample_weight=weight) for k in range(4)]
        )
        assert abs(got - truth) <= got.error_bound + 1e-12


@given(st.integers(2, 60), st.integers(0, 2**32), st.integers(1, 4))
@settings(LAW, max_examples=10)
def test_what_takes_a_number_more(rows: int, seed: int, k: int) -> None:
    preds, target = sampled("multiclass", rows, seed)
    got = functional.multiclass_top_k_accuracy(preds, target, 4, k, inputs="probs")
    assert got == pytest.approx(
        sk.top_k_accuracy_score(target, preds, k=k, labels=range(4)) if k < 4 else 1.0
    )
    score, truth = sampled("binary", rows, seed)
    fbeta = functional.binary_fbeta_score(score, truth, float(k), inputs="probs", absent=0.0)
    assert fbeta == pytest.approx(sk.fbeta_score(truth, score >= 0.5, beta=k, zero_division=0))
    values, aim = sampled("regression", rows, seed)
    quantile = functional.absolute_error_quantile(values, aim, 0.9)
    errors = (values.double() - aim.double()).abs().numpy()
    reference = np.quantile(errors, 0.9, method="averaged_inverted_cdf")
    assert abs(quantile - reference) <= quantile.error_bound + 1e-12


def test_curves_of_whole_tensors_are_exact() -> None:
    preds, target = sampled("binary", 500, 1)
    got = functional.binary_auroc(preds, target, inputs="probs")
    assert got.error_bound == 0.0
    assert functional.binary_auroc(preds, target, inputs="probs", curves="fp16").error_bound > 0


def test_a_function_has_a_signature_and_a_docstring_of_its_own() -> None:
    for name, single in SINGLES.items():
        function = getattr(functional, name)
        parameters = inspect.signature(function).parameters
        assert list(parameters)[:2] == ["preds", "target"]
        assert ("average" in parameters) == bool(single.averages)
        assert not any(p.kind == p.VAR_KEYWORD for p in parameters.values())
        assert function.__name__ == name
        assert function.__doc__.count(".") > 3
    assert name in dir(functional)
    assert set(inspect.signature(functional.binary_auroc).parameters) > {
        "inputs",
        "threshold",
        "absent",
    }


def test_what_a_function_does_not_know_is_refused() -> None:
    preds, target = sampled("binary", 9, 1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'num_classes'"):
        functional.binary_auroc(preds, target, num_classes=2)
    with pytest.raises(
        ConfigError,
        match=r"average: expected one of binary, macro, weighted, or None, got 'micro'. Pass",
    ):
        functional.binary_f1_score(preds, target, average="micro")
    with pytest.raises(
        AttributeError, match=r"module 'ptmetrics.metrics.functional' has no attribute 'binary_auc'"
    ):
        functional.binary_auc  # noqa: B018 — the look-up itself is what fails


def test_the_module_is_reached_lazily_both_ways() -> None:
    assert pm.functional is functional


def of_arrays(dtype: str) -> tuple[Any, Any, Any]:
    preds = np.array([0.9, 0.2, 0.6, 0.4], dtype=dtype)
    return preds, np.array([1, 0, 1, 1]), np.array([1.0, 2.0, 1.0, 0.5])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", ">f8"])
def test_numpy_arrays_are_taken_like_tensors(dtype: str) -> None:
    preds, target, weight = of_arrays(dtype)
    tensors = (torch.as_tensor(preds.astype(dtype.replace(">", "<"))), torch.as_tensor(target))
    expected = functional.binary(*tensors, inputs="probs", sample_weight=torch.as_tensor(weight))
    got = functional.binary(preds, target, inputs="probs", sample_weight=weight)
    assert str(got) == str(expected)
    recall = functional.binary_recall(preds, target, inputs="probs")
    assert recall == functional.binary_recall(*tensors, inputs="probs")


def test_arrays_that_torch_cannot_share_are_copied_and_none_is_changed() -> None:
    preds, target, _ = of_arrays("float64")
    preds.flags.writeable = False
    read_only = functional.binary_accuracy(preds, target, inputs="probs")
    backwards = functional.binary_accuracy(preds[::-1], target[::-1], inputs="probs")
    assert read_only == backwards == 0.75
    assert preds.tolist() == of_arrays("float64")[0].tolist()


@pytest.mark.parametrize("name", ["preds", "target", "sample_weight"])
@pytest.mark.parametrize(
    ("value", "fact"),
    [
        ([0.9, 0.2, 0.6, 0.4], "got list"),
        ((1, 0, 1, 1), "got tuple"),
        ("1011", "got str"),
        (np.array(["a", "b", "c", "d"]), "got a NumPy array of <U1"),
        (np.array([None, 1, 2, 3]), "got a NumPy array of object"),
        (np.array([1j, 0, 1, 1]), "got complex128"),
        (np.float64(1.0), "got float64"),
    ],
    ids=repr,
)
def test_of_anything_else_it_is_said_what_to_pass(name: str, value: Any, fact: str) -> None:
    preds, target, weight = of_arrays("float64")
    given = {"preds": preds, "target": target, "sample_weight": weight, name: value}
    with pytest.raises(DtypeError, match=rf"{name}: expected .*{fact}\. Pass {name}|Pass torch"):
        functional.binary(**given, inputs="probs")


def test_the_report_of_scikit_learn_takes_arrays_too() -> None:
    preds, target = np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2])
    text = pm.classification_report(preds, target, num_classes=3, inputs="labels")
    tensors = torch.as_tensor(preds), torch.as_tensor(target)
    assert text == pm.classification_report(*tensors, num_classes=3, inputs="labels")
