"""Answers of regression, and of gaps between groups."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

import ptmetrics as pm
from tests.studies.peer_call import Call, NotOfferedError, as_tensor
from tests.studies.peer_metrics import (
    Reader,
    asked,
    built,
    computed,
    flat,
    kind_of,
    rows_of,
    score,
)


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
    """Kendall's τ-b or τ-c."""
    names = {"b": "kendall", "c": "kendall/c"}
    if call.get("variant", "b") not in names:
        raise NotOfferedError("kendall of another variant than b and c")
    if call.get("t_test", False):
        raise NotOfferedError("p value of kendall")
    return of_columns(names[call.get("variant", "b")], capacity=10_000)(call)


def bias_of(call: Call) -> Any:
    """Ignite's mean error is target − prediction."""
    return -np.asarray(of_errors("bias")(call))


def relative_squared_of(call: Call) -> Any:
    """One less R², or its root: the mean over the outputs."""
    outputs = outputs_of(call)
    name = "r2" if outputs == 1 else "each:r2"
    share = 1 - np.asarray(score(call, regression(call, outputs, name), name))
    call.recipe = True
    if not call.get("squared", True):
        share = np.sqrt(share)
    return np.mean(share)


def median_percentage_of(call: Call) -> Any:
    """The median of relative errors: that of the share of the target that was predicted, for a target of 1."""
    batches = []
    for preds, target, _ in flat(rows_of(call)):
        batches.append({"preds": preds / target, "target": torch.ones_like(preds)})
    name = "median_absolute_error"
    value = 100 * score(call, regression(replace(call, batches=batches), 1, name), name)
    call.bound *= 100
    call.recipe = True
    return value


def groups_of(call: Call) -> pm.Scores:
    """Scores of yes-or-no decisions, or of classes, with a slice for each group."""
    groups = torch.cat([as_tensor(batch["groups"]).flatten() for batch in call.batches])
    known = torch.unique(groups)
    kind = kind_of(call)
    preds, target = (as_tensor(call.batches[0][name]) for name in ("preds", "target"))
    options: dict[str, Any] = {"slices": len(known), "absent": 0.0, "inputs": kind}
    options["ignore_index"] = call.get("ignore_index")
    named = ["selection_rate"]
    metrics: pm.Metrics
    if preds.ndim == target.ndim + 1 and preds.shape[1] > 1:
        options["inputs"] = "logits"
        metrics = pm.MulticlassMetrics(
            preds.shape[1], class_dim=1, losses=False, scores=named, **options
        )
    elif call.get("is_multilabel", False):
        named.append("specificity")
        metrics = pm.MultilabelMetrics(preds.shape[1], class_dim=1, scores=named, **options)
    else:
        metrics = pm.BinaryMetrics(**options)
    for batch in call.batches:
        preds, target = as_tensor(batch["preds"]), as_tensor(batch["target"]).long()
        if metrics.task == "binary":
            preds = preds.reshape(target.shape)
        ids = torch.searchsorted(known, as_tensor(batch["groups"]).flatten())
        metrics.update(preds, target, slices=ids)
    return metrics.compute()


def selection_rate_of(call: Call) -> Any:
    """The share of the rows that each class or label is predicted for; of yes or no, no first."""
    for batch in call.batches:
        batch.setdefault("groups", torch.zeros(len(as_tensor(batch["preds"])), dtype=torch.long))
    scores = groups_of(call)
    if "selection_rate" in scores:
        yes = scores["selection_rate"].value
        return np.array([1 - yes, yes])
    return np.array([each.value for each in scores.per_class["selection_rate"]])


def accuracy_gap_of(call: Call) -> Any:
    """How far groups are apart in accuracy; of labels, in rows that are right altogether."""
    scores = groups_of(call)
    name = "accuracy" if "accuracy" in scores else "exact_match"
    return pm.slice_gap(scores, name).difference.value


def gaps_of(call: Call, *wanted: str) -> Any:
    """Gaps between groups by the names of `pm.fairness_gaps`."""
    scores = groups_of(call)
    found = pm.fairness_gaps(scores)
    return np.array([found[name].value for name in wanted])


def fairness_of(call: Call) -> Any:
    """Ratios of the smallest to the largest rate."""
    both = ("demographic_parity_ratio", "equal_opportunity_ratio")
    task = call.get("task", "all")
    chosen = {"demographic_parity": both[:1], "equal_opportunity": both[1:]}.get(task, both)
    return gaps_of(call, *chosen)
