"""Answers of rankings: of the labels of a row, and of the documents of a query.

A query is a row of `RankingMetrics`, padded with target −1. Means over queries are its scores; what else is asked of
queries (another aggregation, a depth of its own for each, the best documents alone) is put together from the numbers
of each query, each a slice of its own: such an answer is told to be a recipe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

import ptmetrics as pm
from tests.studies.peer_call import Call, NotOfferedError, Numbers, as_tensor
from tests.studies.peer_metrics import Batch, Reader, rows_of, score

Queries: TypeAlias = tuple[Tensor, Tensor]  # scores and relevances, one row a query
EMPTY = {
    "coverage_error": 0.0,
    "label_ranking_average_precision": 1.0,
    "label_ranking_loss": 0.0,
    "ndcg": 0.0,
}
"""Scikit-learn's number of a row without a relevant label."""
ACTIONS = {"neg": 0.0, "pos": 1.0, "skip": math.nan}
"""Torchmetrics' and torcheval's of a query without a relevant document."""


def ranking_of(call: Call, rows: Sequence[Batch], name: str, k: int, absent: float) -> Any:
    """A score of `RankingMetrics`."""
    metrics = pm.RankingMetrics(k=(k,), absent=absent)
    for preds, target, weight in rows:
        metrics.update(preds, target, weight)
    return score(call, metrics.compute(), name)


@cache
def known(name: str) -> bool:
    """Whether `RankingMetrics` has a score."""
    metrics = pm.RankingMetrics(k=(1,))
    metrics.update(torch.tensor([[0.0, 1.0]]), torch.tensor([[0, 1]]))
    return name in metrics.compute()


def of_label_ranking(name: str) -> Reader:
    """A ranking of the labels of each row."""

    def read(call: Call) -> Any:
        rows: list[Batch] = []
        for preds, target, weight in rows_of(call):
            if preds.ndim > 2:
                preds = preds.movedim(1, -1).flatten(0, -2)
                target = target.movedim(1, -1).flatten(0, -2)
            rows.append((preds.double(), target.double(), weight))
        k = call.get("k", 0)
        picked = f"{name}@{k}" if k else name
        return ranking_of(call, rows, picked, k or 1, EMPTY[name])

    return read


def of_queries(name: str, *, at_k: bool = True) -> Reader:
    """A ranking of the documents of each query."""

    def read(call: Call) -> Any:
        preds, target = queries_of(call)
        sizes = (target >= 0).sum(1)
        whole = int(sizes.max())
        k = int(call.get("top_k", whole))
        empty = ACTIONS[call.get("empty_target_action", "neg")]
        depths = depths_of(call, sizes, k, name)
        of_means = call.get("aggregation", "mean") == "mean" and not of_torcheval(call)
        if at_k and of_means and len(set(depths)) == 1:
            return ranking_of(
                call, [(preds, target, None)], f"{name}@{depths[0]}", depths[0], empty
            )
        if not at_k and of_means and k >= whole:
            return ranking_of(call, [(preds, target, None)], name, 1, empty)
        names = [f"{name}@{depth}" if at_k else name for depth in depths]
        if not at_k and k < whole:
            values = of_the_best((preds, target), names, k, empty)
        else:
            values = of_each((preds, target), names, depths, empty)
        return aggregated(call, values)

    return read


def of_torcheval(call: Call) -> bool:
    """Whether it gives one number a query."""
    return call.library == "torcheval" and call.arguments.get("avg") != "macro"


def depths_of(call: Call, sizes: Tensor, k: int, name: str) -> list[int]:
    """How deep each query is looked at: at most its documents where the library says so."""
    within = call.get("adaptive_k", False) or call.get("limit_k_to_size", False)
    within = within or call.arguments.get("top_k") is None
    if within and name == "precision":
        return [min(k, int(size)) for size in sizes]
    return [k] * len(sizes)


def of_each(queries: Queries, names: Sequence[str], depths: Sequence[int], empty: float) -> Numbers:
    """A number of each query, each a slice of its own."""
    preds, target = queries
    metrics = pm.RankingMetrics(k=sorted(set(depths)), absent=empty, slices=len(preds))
    metrics.update(preds, target, slices=torch.arange(len(preds)))
    found = metrics.compute().per_slice
    values = []
    for place, name in enumerate(names):
        if name not in found[str(place)]:
            raise NotOfferedError(name)
        values.append(found[str(place)][name].value)
    return np.array(values)


def cut(queries: Queries, k: int) -> Queries:
    """The k best documents of each query: others are no candidates."""
    preds, target = queries
    ranked = torch.where(target >= 0, preds, -torch.inf)
    best = ranked.topk(min(k, preds.shape[1]), dim=1).indices
    kept = torch.zeros_like(target, dtype=torch.bool).scatter(1, best, True)
    return preds, torch.where(kept, target, -1.0)


def of_the_best(queries: Queries, names: Sequence[str], k: int, empty: float) -> Numbers:
    """A number of the k best of each query; one that has nothing relevant among them counts as 0."""
    values = of_each(cut(queries, k), names, [1] * len(names), 0.0)
    nothing = ~(queries[1] > 0).any(1).numpy()
    values[nothing] = empty
    return values


def aggregated(call: Call, values: Numbers) -> Any:
    """The mean, median, … over the queries that count; torcheval's are as they are."""
    call.recipe = True
    if of_torcheval(call):  # of queries without a document too
        lacking = max(0, int(call.get("num_queries", 1)) - len(values))
        return np.concatenate((values, np.full(lacking, math.nan)))
    return aggregate(call, torch.as_tensor(values[~np.isnan(values)]))


def aggregate(call: Call, values: Tensor) -> Any:
    """Of numbers of queries, by columns where there are."""
    how = call.get("aggregation", "mean")
    if not len(values):
        return torch.full(values.shape[1:], math.nan)
    if callable(how):
        return how(values, dim=0)
    found = getattr(values, how)(dim=0)
    return found if how == "mean" else found.values


def queries_of(call: Call) -> Queries:
    """Scores and relevances, one row a query."""
    if call.library == "torcheval" and "num_queries" not in call.arguments:
        preds, target = as_tensor(call.batches[0]["preds"]), as_tensor(call.batches[0]["target"])
        shape = (-1, preds.shape[-1])
        return preds.reshape(shape).double(), target.reshape(shape).double()
    preds = torch.cat([as_tensor(batch["preds"]).flatten() for batch in call.batches])
    target = torch.cat([as_tensor(batch["target"]).flatten() for batch in call.batches])
    indexes = torch.zeros_like(target, dtype=torch.int64)
    if call.batches[0].get("indexes") is not None:
        indexes = torch.cat([as_tensor(batch["indexes"]).flatten() for batch in call.batches])
    ignored = call.get("ignore_index")
    if ignored is not None:
        kept = target != ignored
        preds, target, indexes = preds[kept], target[kept], indexes[kept]
    order = indexes.argsort(stable=True)
    sizes = torch.unique(indexes, return_counts=True)[1].tolist()
    pad = torch.nn.utils.rnn.pad_sequence
    scores = pad(list(torch.split(preds[order].double(), sizes)), batch_first=True)
    parts = list(torch.split(target[order].double(), sizes))
    return scores, pad(parts, batch_first=True, padding_value=-1)


def fall_out_of(call: Call) -> Any:
    """The share of what is not relevant among the first k: the recall of the others."""
    preds, target = queries_of(call)
    k = int(call.get("top_k", target.shape[1]))
    empty = ACTIONS[call.get("empty_target_action", "pos")]
    name = f"fall_out@{k}"
    others = torch.where(target >= 0, (target == 0).double(), -1.0)
    if not known("fall_out@1"):
        name, target = f"recall@{k}", others
        call.recipe = True
    if call.get("aggregation", "mean") == "mean":
        return ranking_of(call, [(preds, target, None)], name, k, empty)
    return aggregated(call, of_each((preds, target), [name] * len(preds), [k] * len(preds), empty))


def r_precision_of(call: Call) -> Any:
    """The precision at as many documents as are relevant."""
    preds, target = queries_of(call)
    empty = ACTIONS[call.get("empty_target_action", "neg")]
    if known("r_precision"):
        if call.get("aggregation", "mean") == "mean":
            return ranking_of(call, [(preds, target, None)], "r_precision", 1, empty)
        names, depths = ["r_precision"] * len(preds), [1] * len(preds)
    else:
        depths = [max(1, int(number)) for number in (target > 0).sum(1)]
        names = [f"precision@{depth}" for depth in depths]
    return aggregated(call, of_each((preds, target), names, depths, empty))


def query_auroc_of(call: Call) -> Any:
    """The AUROC of each query by itself, which is 0 where its best documents are of one kind."""
    queries = queries_of(call)
    k = int(call.get("top_k", queries[0].shape[1]))
    limit = call.get("max_fpr", 1.0)
    nothing = ~(queries[1] > 0).any(1)
    preds, target = cut(queries, k)
    options: dict[str, Any] = {"inputs": "logits", "curves": "exact", "capacity": 1000}
    name = "auroc"
    if limit < 1:
        name = f"auroc@fpr<={limit:g}"
        options["at"] = [name]
    values = []
    for row, gains in zip(preds, target, strict=True):
        there = gains >= 0
        metrics = pm.BinaryMetrics(losses=False, **options)
        metrics.update(row[there], (gains[there] > 0).long())
        values.append(np.nan_to_num(score(call, metrics.compute(), name)))
    found = np.array(values)
    found[nothing.numpy()] = ACTIONS[call.get("empty_target_action", "neg")]
    return aggregated(call, found)


def query_curve(call: Call) -> list[Any]:
    """Precision and recall of the first 1, 2, … documents, and how many these are."""
    preds, target = queries_of(call)
    sizes = (target >= 0).sum(1)
    most = int(call.get("max_k", sizes.max()))
    ks = list(range(1, most + 1))
    empty = ACTIONS[call.get("empty_target_action", "neg")]
    if call.get("aggregation", "mean") == "mean" and not call.get("adaptive_k", False):
        metrics = pm.RankingMetrics(k=ks, absent=empty)
        metrics.update(preds, target)
        scores = metrics.compute()
        rates = [[scores[f"{name}@{k}"].value for k in ks] for name in ("precision", "recall")]
        return [*map(np.array, rates), np.array(ks)]
    metrics = pm.RankingMetrics(k=ks, absent=empty, slices=len(preds))
    metrics.update(preds, target, slices=torch.arange(len(preds)))
    found = metrics.compute().per_slice
    curves = []
    for name in ("precision", "recall"):
        rows = []
        for place, size in enumerate(sizes.tolist()):
            depths = ks
            if call.get("adaptive_k", False) and name == "precision":
                depths = [min(k, size) for k in ks]
            rows.append([found[str(place)][f"{name}@{k}"].value for k in depths])
        values = torch.tensor(rows, dtype=torch.float64)
        curves.append(aggregate(call, values[~values.isnan().any(1)]))
    call.recipe = True
    return [*curves, np.array(ks)]


def query_point_of(call: Call) -> Any:
    """The highest recall at which precision is enough, and how many documents that takes."""
    precision, recall, ks = (np.asarray(column) for column in query_curve(call))
    call.recipe = True
    enough = precision >= float(call.arguments["min_precision"])
    if not enough.any():
        return [0.0, len(ks)]
    return list(max(zip(recall[enough], ks[enough], strict=True)))


def of_hits(name: str) -> Reader:
    """Torcheval's hit rate and reciprocal rank: one number a row, of the target class among the scores."""

    def read(call: Call) -> Any:
        values = []
        for preds, place, _ in rows_of(call):
            target = torch.nn.functional.one_hot(place.long(), preds.shape[1]).double()
            k = int(call.get("top_k", preds.shape[1]))
            queries = (preds.double(), target)
            if name == "mrr":
                values.append(of_the_best(queries, [name] * len(preds), k, 0.0))
            else:
                names = [f"{name}@{k}"] * len(preds)
                values.append(of_each(queries, names, [k] * len(preds), 0.0))
        return np.concatenate(values)

    return read


def of_lists(name: str) -> Reader:
    """Ignite's: one mean for each of several k; gains of 2 to the relevance, less 1, where it takes these."""

    def read(call: Call) -> Any:
        ks = call.get("top_k")
        if isinstance(ks, int):
            ks = [ks]
        absent = math.nan if call.get("ignore_zero_hits", True) else 0.0
        metrics = pm.RankingMetrics(k=sorted(set(ks)), absent=absent)
        for preds, target, _ in rows_of(call):
            gains = target.double()
            if name == "ndcg":
                gains = torch.where(gains >= call.get("relevance_threshold", 1.0), gains, 0.0)
                if call.get("gain_function", "exp_rank") == "exp_rank":
                    gains = 2**gains - 1
            metrics.update(preds.double(), gains)
        scores = metrics.compute()
        return [score(call, scores, f"{name}@{k}") for k in sorted(ks)]

    return read
