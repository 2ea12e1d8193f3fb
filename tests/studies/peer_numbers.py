"""Answers of regression, of rankings, of means of a number a row, and of gaps between groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ptmetrics as pm
from tests.studies.peer_call import BeyondIssueError, Call, NotOfferedError, as_tensor
from tests.studies.peer_metrics import (
    Batch,
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
    """Kendall's τ-b."""
    if call.get("variant", "b") != "b":
        raise NotOfferedError("kendall of another variant than b")
    if call.get("t_test", False):
        raise NotOfferedError("p value of kendall")
    return of_columns("kendall", capacity=10_000)(call)


def bias_of(call: Call) -> Any:
    """Ignite's mean error is target − prediction."""
    return -np.asarray(of_errors("bias")(call))


def ranking_of(call: Call, rows: Sequence[Batch], name: str, k: int, absent: float) -> Any:
    """A score of `RankingMetrics`."""
    if not hasattr(pm, "RankingMetrics"):
        raise NotOfferedError(name)
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
            raise NotOfferedError(picked)
        return ranking_of(call, rows, picked, k or 1, EMPTY[name])

    return read


def of_queries(name: str, *, plain: bool) -> Reader:
    """A ranking of the documents of each query: rows of queries, padded with target −1."""

    def read(call: Call) -> Any:
        if call.get("aggregation", "mean") != "mean":
            raise BeyondIssueError("another aggregation of queries than the mean")
        empty = {"neg": 0.0, "pos": 1.0, "skip": math.nan}
        action = call.get("empty_target_action", "neg")
        if call.library == "torcheval":
            return each_query(call, name)
        preds, target = queries_of(call)
        sizes = (target >= 0).sum(1)
        k = call.get("top_k", int(sizes.max()))
        picked = name
        if not plain:
            picked = f"{name}@{k}"
        elif call.get("top_k") is not None and k < int(sizes.max()):
            raise NotOfferedError(f"{name} of the top k")
        whole = call.get("adaptive_k") or call.get("top_k") is None
        if name == "precision" and whole and int(sizes.min()) < k:
            raise NotOfferedError("precision at the length of each query")
        return ranking_of(call, [(preds, target, None)], picked, k, empty.get(action, 0.0))

    return read


def each_query(call: Call, name: str) -> Any:
    """Torcheval's: one number a row of scores."""
    if "num_queries" in call.arguments or len(call.batches) > 1:
        raise NotOfferedError("a query whose documents come in several batches")
    preds, target, _ = rows_of(call)[0]
    values = []
    for row, gains in zip(
        preds.reshape(-1, preds.shape[-1]), target.reshape(-1, preds.shape[-1]), strict=True
    ):
        k = call.get("top_k", len(row))
        if call.get("limit_k_to_size", False):
            k = min(k, len(row))
        values.append(ranking_of(call, [(row[None], gains[None], None)], f"{name}@{k}", k, 0.0))
    return values


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
    sizes = torch.unique(indexes, return_counts=True)[1].tolist()
    pad = torch.nn.utils.rnn.pad_sequence
    scores = pad(list(torch.split(preds[order].double(), sizes)), batch_first=True)
    parts = list(torch.split(target[order].double(), sizes))
    gains = pad(parts, batch_first=True, padding_value=-1)
    return scores, gains


def of_hits(name: str) -> Reader:
    """Torcheval's hit rate and reciprocal rank: one number a row, of the target class among the scores."""

    def read(call: Call) -> Any:
        values = []
        for preds, target, _ in rows_of(call):
            k = call.get("top_k", preds.shape[1])
            if name == "mrr" and k < preds.shape[1]:
                raise NotOfferedError("mrr of the top k")
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
            raise NotOfferedError("one number a row")
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
        raise NotOfferedError("pinball loss of several outputs")
    return of_recipe("pinball", loss)(call)


def hinge_of(call: Call) -> Any:
    """Hinge losses: of yes-or-no scores, and Crammer and Singer's of classes."""
    if call.get("multiclass_mode", "crammer-singer") != "crammer-singer":
        raise NotOfferedError("hinge, one against all")
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


def gaps_of(call: Call, *wanted: str) -> Any:
    """Gaps between slices, one a group."""
    if not hasattr(pm, "fairness_gaps"):
        raise NotOfferedError("gaps between groups")
    groups = torch.cat([as_tensor(batch["groups"]).flatten() for batch in call.batches])
    known = torch.unique(groups)
    kind = kind_of(call)
    options: dict[str, Any] = {"inputs": kind, "ignore_index": call.get("ignore_index")}
    metrics = built(pm.BinaryMetrics, slices=len(known), absent=0.0, **options)
    for batch in call.batches:
        preds, target = as_tensor(batch["preds"]).flatten(), as_tensor(batch["target"]).flatten()
        ids = torch.searchsorted(known, as_tensor(batch["groups"]).flatten())
        metrics.update(preds, target.long(), slices=ids)
    scores = metrics.compute()
    found = dict(pm.fairness_gaps(scores))
    found["accuracy_difference"] = pm.slice_gap(scores, "accuracy").difference
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
        raise NotOfferedError("a number in the place of NaN")
    metrics = pm.Mean("mean", lambda preds, target: preds, higher_is_better=True)
    for batch in call.batches:
        value = batch.get("value", batch.get("input", batch.get("preds")))
        weight = batch.get("weight", batch.get("target"))
        if weight is None:
            weight = 1.0
        values = torch.as_tensor(value, dtype=torch.float64)
        weights = torch.broadcast_to(torch.as_tensor(weight).double(), values.shape).flatten()
        values = values.flatten()
        if len(values):
            metrics.update(values, values, weights)
    scores = metrics.compute()
    return score(call, scores, "mean")
