"""A verdict straight from a confusion matrix, or from arrays of predictions: counts without a loop."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptmetrics.errors import DataError
from ptmetrics.metrics.base import Metrics
from ptmetrics.metrics.binary import BinaryMetrics
from ptmetrics.metrics.multiclass import MulticlassMetrics
from ptmetrics.metrics.regression import RegressionMetrics
from ptmetrics.metrics.score import Scores
from ptmetrics.verdict.finding import Verdict
from ptmetrics.verdict.judge import judge
from ptmetrics.verdict.profile import ProfileLike

Matrix = Sequence[Sequence[int]] | np.ndarray | Tensor


def scores_of(matrix: Matrix, class_names: Sequence[str] | None = None) -> Scores:
    """All scores of a confusion matrix, with their intervals.

    Args:
        matrix: Counts of shape (C, C), rows are the actual class.
        class_names: One name a class.

    Raises:
        DataError: If it is not square, or holds anything but whole numbers of 0 or more.
    """
    counts = _checked_counts(matrix)
    metrics = MulticlassMetrics(len(counts), inputs="labels", class_names=class_names)
    state = metrics.state_dict()
    state["cells"]["confusion"] = counts
    state["cells"]["rows"] = counts.sum()
    metrics.load_state_dict(state)
    return metrics.compute()


def judge_confusion(
    matrix: Matrix,
    *,
    positive: int | None = None,
    profile: ProfileLike = "balanced",
    class_names: Sequence[str] | None = None,
    select: Iterable[str] | None = None,
    ignore: Iterable[str] | None = None,
) -> Verdict:
    """Judge a model by its confusion matrix alone.

    Args:
        matrix: Counts of shape (C, C), rows are the actual class: `[[TP, FN], [FP, TN]]` with
            `positive=0`.
        positive: Class whose precision and recall count; None as in `judge`.
        profile: As for `judge`.
        class_names: One name a class.
        select: Codes that count; None for all.
        ignore: Codes that do not count.

    Raises:
        DataError: If the matrix cannot be one.
        ConfigError: If the profile, a code or the positive class is unknown.

    Example:
        >>> import ptmetrics as pm
        >>> verdict = pm.judge_confusion([[24, 176], [24, 9776]], positive=0)
        >>> verdict.status, "accuracy-paradox" in [finding.code for finding in verdict.findings]
        ('not ready', True)
    """
    scores = scores_of(matrix, class_names)
    return judge(scores, profile=profile, positive=positive, select=select, ignore=ignore)


def judge_predictions(*, target: Any, preds: Any, **options: Any) -> Verdict:
    """Judge a model by arrays of its predictions: of NumPy, torch or plain lists.

    Args:
        target: Shape (N,): labels of any kind, or numbers of a regression.
        preds: Labels likewise; probabilities of class 1, shape (N,), or of each class, (N, C); or
            numbers of a regression.
        options: As for `judge`, such as `profile` and `positive`.

    Raises:
        DataError: If there are not as many predictions as targets.
        ConfigError: If an option is unknown.

    Example:
        >>> import ptmetrics as pm
        >>> verdict = pm.judge_predictions(target=["cat", "dog"] * 200, preds=["cat", "dog"] * 200)
        >>> verdict.status
        'ready'
    """
    truth = np.asarray(target)
    answers = np.asarray(preds)
    if len(truth) != len(answers):
        cure = "Pass one prediction a target, in the same order."
        raise DataError("preds", f"{len(truth)} rows", f"{len(answers)}", cure)
    metrics: Metrics
    if answers.dtype.kind != "f":
        names, places = np.unique(np.concatenate([truth, answers]), return_inverse=True)
        truth, answers = np.split(places, 2)
        metrics = MulticlassMetrics(len(names), inputs="labels", class_names=list(map(str, names)))
    elif truth.dtype.kind == "f":
        metrics = RegressionMetrics()
    elif answers.ndim == 1:
        metrics = BinaryMetrics(inputs="probs")
    else:
        metrics = MulticlassMetrics(answers.shape[1], inputs="probs")
    metrics.update(torch.from_numpy(answers), torch.from_numpy(truth))
    return judge(metrics.compute(), **options)


def _checked_counts(matrix: Matrix) -> Tensor:
    cure = "Pass counts such as [[85, 15], [10, 90]], rows actual and columns predicted."
    try:
        if isinstance(matrix, Tensor):
            matrix = matrix.cpu()
        array = np.asarray(matrix)
    except ValueError as error:
        raise DataError(
            "matrix", "rows of equal length", "rows of different lengths", cure
        ) from error
    if array.ndim != 2 or array.shape[0] != array.shape[1] or len(array) < 2:
        raise DataError("matrix", "a square of 2 or more classes", f"shape {array.shape}", cure)
    if (
        array.dtype.kind not in "iuf"
        or not np.all(np.isfinite(array))
        or np.any(array != np.floor(array))
    ):
        raise DataError("matrix", "whole numbers", f"{array.dtype} values", cure)
    if np.any(array < 0):
        raise DataError("matrix", "counts of 0 or more", str(array.min()), cure)
    return torch.from_numpy(array.astype(np.int64))
