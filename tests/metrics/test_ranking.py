"""Scores of ranking against scikit-learn and torchmetrics, row by row."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from registry import LAW
from sklearn import metrics as sk
from torch import Tensor

import ptmetrics as pm
from ptmetrics.testing import check_metric


def drawn(rows: int, labels: int, seed: int, ties: bool) -> tuple[Tensor, Tensor]:
    """Scores above 0 and relevances 0 to 2, at least one of which is above 0 and one 0 in each row."""
    g = torch.Generator().manual_seed(seed)
    preds = torch.rand(rows, labels, generator=g, dtype=torch.float64)
    if ties:
        preds = (4 * preds).round()
    target = torch.randint(0, 3, (rows, labels), generator=g)
    target[:, 0], target[:, 1] = 1, 0
    return preds, target


def scores_of(preds: Tensor, target: Tensor, **options: object) -> pm.Scores:
    metrics = pm.RankingMetrics(**options)
    metrics.update(preds, target)
    return metrics.compute()


@given(st.integers(1, 30), st.integers(2, 12), st.integers(0, 2**32), st.booleans())
@LAW
def test_every_score_is_that_of_scikit_learn(rows: int, labels: int, seed: int, ties: bool) -> None:
    preds, target = drawn(rows, labels, seed, ties)
    got = scores_of(preds, target, k=(1, 3))
    y, s = target.numpy(), preds.numpy()
    hit = (y > 0).astype(int)
    expected = {
        "ndcg": sk.ndcg_score(y, s),
        "ndcg@1": sk.ndcg_score(y, s, k=1),
        "ndcg@3": sk.ndcg_score(y, s, k=3),
        "label_ranking_average_precision": sk.label_ranking_average_precision_score(hit, s),
        "label_ranking_loss": sk.label_ranking_loss(hit, s),
        "coverage_error": sk.coverage_error(hit, s),
    }
    for name, value in expected.items():
        assert got[name].value == pytest.approx(value, abs=1e-12), name


@given(st.integers(1, 20), st.integers(2, 12), st.integers(0, 2**32))
@LAW
def test_retrieval_scores_are_those_of_torchmetrics(rows: int, labels: int, seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics import retrieval
    preds, target = drawn(rows, labels, seed, False)
    got = scores_of(preds, target, k=(1, 4))
    indexes = torch.arange(rows).repeat_interleave(labels)
    peers = {
        "mrr": retrieval.RetrievalMRR(),
        "label_ranking_average_precision": retrieval.RetrievalMAP(),
    }
    for k in (1, 4):
        peers[f"hit_rate@{k}"] = retrieval.RetrievalHitRate(top_k=k)
        peers[f"precision@{k}"] = retrieval.RetrievalPrecision(top_k=k)
        peers[f"recall@{k}"] = retrieval.RetrievalRecall(top_k=k)
    for name, peer in peers.items():
        value = peer(preds.flatten(), target.flatten() > 0, indexes=indexes)
        assert got[name].value == pytest.approx(float(value), abs=1e-6), name


@given(st.integers(1, 10), st.integers(2, 9), st.integers(0, 2**32), st.booleans())
@LAW
def test_padding_and_the_order_of_the_candidates_change_nothing(
    rows: int, labels: int, seed: int, ties: bool
) -> None:
    preds, target = drawn(rows, labels, seed, ties)
    expected = scores_of(preds, target, k=(2, 20))
    more = torch.full((rows, 3), math.inf)
    more[:, 0] = math.nan
    padded = torch.cat((preds, more), 1), torch.cat((target, torch.full((rows, 3), -1)), 1)
    order = torch.randperm(labels + 3, generator=torch.Generator().manual_seed(seed))
    got = scores_of(*(x[:, order] for x in padded), k=(2, 20))
    for name, score in expected.items():
        assert got[name].value == pytest.approx(score.value, abs=1e-12), name
        assert got[name].low == pytest.approx(score.low, abs=1e-9, nan_ok=True), name


def test_ties_share_their_places_in_precision_and_recall_and_take_the_worst_for_the_first_hit() -> (
    None
):
    got = scores_of(torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]]), k=(1,))
    assert (got["precision@1"].value, got["recall@1"].value) == (0.5, 0.5)
    assert (got["mrr"].value, got["hit_rate@1"].value) == (0.5, 0.0)


@pytest.mark.parametrize(("absent", "expected"), [(math.nan, 1.0), (0.0, 0.5), (1.0, 1.0)])
def test_rows_without_anything_relevant_are_left_out_or_count_as_told(
    absent: float, expected: float
) -> None:
    preds, target = torch.tensor([[2.0, 1.0], [2.0, 1.0]]), torch.tensor([[1, 0], [0, 0]])
    got = scores_of(preds, target, absent=absent)
    assert got["mrr"].value == expected
    assert got["mrr"].n == (1 if math.isnan(absent) else 2)
    empty = scores_of(preds[1:], target[1:])["ndcg"]
    assert math.isnan(empty.value)
    assert empty.reason == "no row has anything relevant"


def test_bad_rows_are_refused_and_bad_shapes_and_arguments_told() -> None:
    preds, target = torch.tensor([[math.nan, 1.0], [2.0, 1.0]]), torch.tensor([[1, 0], [1, 0]])
    got = scores_of(preds, target)
    assert (got.n, got["mrr"].value) == (1, 1.0)
    assert got.faults["not-a-number"]["count"] == 1
    with pytest.raises(pm.PtmetricsError, match=r"both of shape \(rows, candidates\)"):
        scores_of(preds[:, 0], target[:, 0])
    with pytest.raises(pm.PtmetricsError, match="k: expected whole numbers from 1, got"):
        pm.RankingMetrics(k=(0,))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_laws_hold_and_a_weight_is_as_many_rows(weighted: bool) -> None:
    def make_batch(rows: int, seed: int) -> dict[str, Tensor]:
        preds, target = drawn(rows, 5, seed, True)
        batch = {"preds": preds, "target": target}
        if weighted:
            batch["sample_weight"] = torch.rand(rows, generator=torch.Generator().manual_seed(seed))
        return batch

    check_metric(pm.RankingMetrics(k=(1, 2)), make_batch)
    preds, target = drawn(20, 5, 0, True)
    weight = torch.arange(20) % 3
    metrics = pm.RankingMetrics(slices=2)
    metrics.update(preds, target, weight.double(), slices=torch.arange(20) % 2)
    got = metrics.compute()
    expected = scores_of(preds.repeat_interleave(weight, 0), target.repeat_interleave(weight, 0))
    for name, score in expected.items():
        assert got[name].value == pytest.approx(score.value, abs=1e-12), name
    assert set(got.per_slice) == {"0", "1"}
    errors = np.array([got["ndcg"].low, got["ndcg"].value, got["ndcg"].high])
    assert (np.diff(errors) > 0).all()
