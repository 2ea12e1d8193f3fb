"""`RankingMetrics`: how well scores order the candidates of each row, be they labels or documents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from ptmetrics.counts import checks
from ptmetrics.counts.batch import Batch, Counted
from ptmetrics.counts.cell import Cell
from ptmetrics.errors import ConfigError, ShapeError
from ptmetrics.metrics import options
from ptmetrics.metrics.base import Metrics
from ptmetrics.metrics.estimate import Array
from ptmetrics.metrics.host import Counts
from ptmetrics.metrics.score_spec import ScoreSpec

BAD = "not-a-number"
MOST_CANDIDATES = 1 << 30
PLAIN: Mapping[str, tuple[str, bool, float]] = {
    "ndcg": ("Discounted gain over that of the best order; ties share their places.", True, 1.0),
    "label_ranking_average_precision": (
        "Mean over the relevant of the share of relevant ones among what scores as high; MAP.",
        True,
        1.0,
    ),
    "mrr": ("Mean of 1 / rank of the first relevant one.", True, 1.0),
    "label_ranking_loss": ("Share of pairs of relevant and other in the wrong order.", False, 1.0),
    "coverage_error": ("How far down the relevant ones reach.", False, math.inf),
}
"""What it is, whether it rises, and the largest value."""
AT_K: Mapping[str, str] = {
    "ndcg": "NDCG of the first {k}; ties share their places.",
    "hit_rate": "Share of the rows with a relevant one among the first {k}.",
    "precision": "Share of the first {k} that is relevant; ties share their places.",
    "recall": "Share of the relevant ones among the first {k}; ties share their places.",
}


class RankingMetrics(Metrics):
    """NDCG, average precision, reciprocal rank, hit rate, precision and recall at k, ranking loss, coverage error.

    `update(preds, target)` takes scores and relevances of shape (rows, candidates): the labels of a
    sample, or the documents of a query. Relevances are 0 or more; only `ndcg` looks at how large
    they are, for the others any above 0 is relevant. A negative one says that there is no candidate:
    pad queries of different lengths with −1. Each score is the mean of a number a row, with weights,
    slices, groups and its interval. Where scores tie, the rank is the worst of the places that are
    shared, as in scikit-learn.

    Args:
        k: Depths of the scores at k.
        absent: Number of a row without anything relevant; NaN leaves the row out, 0 is what
            torchmetrics takes by default.
        slices: As for `pm.Metrics`.
        groups: As for `pm.Metrics`.
        device: As for `pm.Metrics`.

    Raises:
        ConfigError: If an argument cannot work.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> metrics = pm.RankingMetrics(k=(1,))
        >>> metrics.update(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[0, 0, 1]]))
        >>> scores = metrics.compute()
        >>> scores["mrr"].value, scores["hit_rate@1"].value, scores["coverage_error"].value
        (0.5, 0.0, 2.0)
    """

    task = "ranking"
    headline = "ndcg"
    fault_kinds: Mapping[str, str] = {BAD: "row with a score or relevance that is NaN, refused"}

    def __init__(
        self,
        *,
        k: Sequence[int] = (10,),
        absent: float = math.nan,
        slices: Sequence[str] | int = (),
        groups: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        if not options.is_sequence(k) or not all(
            options.is_whole(one, 1, MOST_CANDIDATES) for one in k
        ):
            raise ConfigError("k", "whole numbers from 1", repr(k), "Pass k=(1, 10).")
        self.k = tuple(k)
        options.check_absent(absent)
        self.absent = float(absent)
        super().__init__(slices=slices, groups=groups, device=device)

    def tables(self) -> tuple[ScoreSpec, ...]:
        """A mean of each number."""
        said = dict(PLAIN)
        for k in self.k:
            said.update({f"{name}@{k}": (doc.format(k=k), True, 1.0) for name, doc in AT_K.items()})
        return tuple(
            ScoreSpec(
                name,
                partial(_sums, place=place),
                "normal",
                higher_is_better=rises,
                range=(0.0, most),
                doc=doc,
                undefined="no row has anything relevant",
            )
            for place, (name, (doc, rises, most)) in enumerate(said.items())
        )

    def cells(self) -> list[Cell]:
        """Six sums of each number."""
        numbers = len(PLAIN) + len(AT_K) * len(self.k)
        return [Cell("ranking", (numbers,), torch.float64, merge="mean")]

    def check(self, preds: Tensor, target: Tensor, sample_weight: Tensor | None) -> Batch:
        """Refuse what shapes, types and devices tell."""
        for name, value in (("preds", preds), ("target", target)):
            checks.as_tensor(name, value)
            checks.real_numbers(name, value)
        if preds.ndim != 2 or preds.shape != target.shape or not preds.shape[1]:
            fact = f"shapes {tuple(preds.shape)} and {tuple(target.shape)}"
            cure = "Pad the candidates of a row with target −1."
            raise ShapeError("preds, target", "both of shape (rows, candidates)", fact, cure)
        return super().check(preds, target, sample_weight)

    def count(self, batch: Batch) -> dict[str, Counted]:
        """The numbers of each row."""
        score = batch.preds.double()
        gain = batch.target.double()
        bad = (score.isnan() & (gain >= 0)) | gain.isnan()
        batch.refuse(BAD, bad.any(1))
        numbers = torch.stack(_ranking_numbers(score, gain, self.k), 1)
        relevant = (gain > 0).any(1, keepdim=True)
        return {"ranking": torch.where(relevant, numbers, self.absent)}


def _sums(counts: Counts, place: int) -> Array:
    return counts["ranking"][..., place].T


def _ranking_numbers(score: Tensor, gain: Tensor, ks: Sequence[int]) -> list[Tensor]:
    """The numbers of each row, in the order of `PLAIN`, then of `AT_K` for each k."""
    there = gain >= 0
    score, order = torch.where(there, score, -torch.inf).sort(1, descending=True)
    gain = gain.clamp(min=0)
    best = gain.sort(1, descending=True).values
    gain = gain.gather(1, order)
    there = there.gather(1, order).double()
    relevant = (gain > 0).double()
    begins = torch.ones_like(score, dtype=torch.bool)
    begins[:, 1:] = score.diff(dim=1).nan_to_num(0.0) != 0  # infinite ones tie
    ends = begins.roll(-1, 1)
    place = there.cumsum(1)
    rank = _at(ends, place)
    before = torch.where(begins, place - there, 0.0).cummax(1).values
    found = _at(ends, relevant.cumsum(1))
    number = relevant.sum(1)
    others = (place[:, -1] - number) * number
    first = torch.where(relevant > 0, rank, torch.inf).amin(1)

    discount = 1 / torch.arange(2, score.shape[1] + 2, device=score.device).double().log2()
    worth = torch.nn.functional.pad(discount.cumsum(0), (1, 0))

    def ndcg(k: int) -> Tensor:
        slots = worth[rank.clamp(max=k).long()] - worth[before.clamp(max=k).long()]
        ideal = best[:, :k] @ discount[:k]
        return (gain * slots / (rank - before).clamp(min=1)).sum(1) / ideal

    numbers = [
        ndcg(score.shape[1]),
        (relevant * found / rank.clamp(min=1)).sum(1) / number,
        1 / first,
        (relevant * (rank - found)).sum(1) / others.clamp(min=1),
        (relevant * rank).amax(1),
    ]
    for k in ks:
        slots = rank.clamp(max=k) - before.clamp(max=k)
        hits = (relevant * slots / (rank - before).clamp(min=1)).sum(1)
        numbers += [ndcg(k), (first <= k).double(), hits / k, hits / number]
    return numbers


def _at(ends: Tensor, sums: Tensor) -> Tensor:
    """Of running sums, what they are at the end of each block of ties."""
    return torch.where(ends, sums, torch.inf).flip(1).cummin(1).values.flip(1)
