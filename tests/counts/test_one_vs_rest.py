"""Each class against the rest: margins with all their digits, and curves within their bound."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from registry import LAW
from sklearn.metrics import average_precision_score, roc_auc_score

from ptmetrics import MulticlassMetrics
from ptmetrics.counts.multiclass import ClassReader
from ptmetrics.metrics.score import Scores

margins = ClassReader(3, "logits", None, None).margins


def counted(scores: torch.Tensor, target: torch.Tensor, inputs: Any) -> MulticlassMetrics:
    metrics = MulticlassMetrics(scores.shape[1], inputs=inputs, curves=True)
    for part, truth in zip(scores.tensor_split(3), target.tensor_split(3), strict=True):
        metrics.update(part, truth)
    return metrics


@pytest.mark.parametrize(("classes", "rows"), [(3, 500), (70, 700)])
@pytest.mark.parametrize("inputs", ["logits", "probs"])
def test_every_class_has_the_curve_of_scikit_learn_within_its_bound(
    classes: int, rows: int, inputs: Any
) -> None:
    g = torch.Generator().manual_seed(classes)
    target = torch.randint(0, classes, (rows,), generator=g)
    scores = torch.randn(rows, classes, generator=g) + 2 * torch.nn.functional.one_hot(
        target, classes
    )
    scores = scores.softmax(1) if inputs == "probs" else scores
    got: Scores = counted(scores, target, inputs).compute()
    order = scores.double() if inputs == "probs" else margins(scores.double())
    for name, reference in (
        ("auroc", roc_auc_score),
        ("average_precision", average_precision_score),
    ):
        truth = [reference(target == k, order[:, k]) for k in range(classes)]
        for score, expected in zip(got.per_class[name], truth, strict=True):
            assert abs(score.value - expected) <= score.error_bound + 1e-12
        mean = got[f"{name}/macro"]
        assert abs(mean.value - sum(truth) / classes) <= mean.error_bound + 1e-12


logits_of_row = st.lists(st.floats(-300, 300) | st.just(-math.inf), min_size=3, max_size=3).filter(
    lambda row: max(row) > -math.inf
)


@given(st.lists(logits_of_row, min_size=1, max_size=5))
@LAW
def test_a_margin_is_the_logit_of_the_softmax_with_all_its_digits(rows: list[list[float]]) -> None:
    logits = torch.tensor(rows, dtype=torch.float64)
    others = torch.stack(
        [logits[:, [j for j in range(3) if j != k]].logsumexp(1) for k in range(3)], 1
    )
    torch.testing.assert_close(margins(logits), logits - others + math.log(2), rtol=1e-9, atol=1e-9)


def test_saturated_rows_stay_in_order() -> None:
    logits = torch.tensor([[40.0, 0.0, 0.0], [41.0, 0.0, 0.0], [42.0, 0.0, 0.0]])
    assert (margins(logits)[:, 0].diff() > 0.9).all()
    assert (logits.softmax(1)[:, 0] == 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("classes", [2, 5])
def test_a_class_that_alone_is_possible_ranks_above_all_others(
    classes: int, dtype: torch.dtype
) -> None:
    scores = torch.zeros(6, classes, dtype=dtype)
    scores[:2, 1:] = -torch.inf  # masked: the probability of class 0 is 1
    got = counted(scores, torch.tensor([0, 0, 1, 1, 1, 1]), "logits").compute()
    assert got.per_class["auroc"][0].value == 1.0
    assert got.per_class["average_precision"][0].value == 1.0


def test_rows_without_a_margin_are_left_out() -> None:
    inf, nan = torch.inf, torch.nan
    scores = torch.tensor([[inf, 0.0], [nan, 1.0], [0.0, 1.0], [-inf, 1.0], [-inf, -inf]])
    state = counted(scores, torch.tensor([0, 0, 1, 1, 0]), "logits").state_dict()["cells"]
    assert state["one_vs_rest"].sum((1, 2)).tolist() == [2, 2]
