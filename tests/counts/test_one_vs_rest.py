"""Each class against the rest: margins with all their digits, and curves within their bound."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from registry import LAW
from sklearn.metrics import average_precision_score, roc_auc_score

from ptmetrics.counts.accumulator import Accumulator
from ptmetrics.counts.class_rows import RowStage
from ptmetrics.counts.class_scores import ClassPasses
from ptmetrics.counts.label_histogram import keys_for
from ptmetrics.counts.multiclass import ClassSpec, flat
from ptmetrics.counts.one_vs_rest import OneVsRest, margins
from ptmetrics.metrics.label_ranking import each_ranking, mean_ranking


def counted(
    scores: torch.Tensor, target: torch.Tensor, inputs: Any
) -> tuple[OneVsRest, dict[str, torch.Tensor]]:
    classes = scores.shape[1]
    keys = keys_for(classes)
    assert keys is not None
    spec = ClassSpec(classes, inputs)
    curves = OneVsRest(spec, keys)
    stage = RowStage(ClassPasses(classes, inputs == "probs", True, False), [curves])
    counts = Accumulator([], {}, stage=stage)
    for part, truth in zip(scores.tensor_split(3), target.tensor_split(3), strict=True):
        counts.add_(flat(spec, part, truth, None), None)
    return curves, counts.state


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
    curves, state = counted(scores, target, inputs)
    got = each_ranking(state, curves.histogram)
    order = scores.double() if inputs == "probs" else margins(scores.double())
    for name, reference in (
        ("auroc", roc_auc_score),
        ("average_precision", average_precision_score),
    ):
        truth = torch.tensor(
            [reference(target == k, order[:, k]) for k in range(classes)], dtype=torch.float64
        )
        bound = got[name].error_bound
        assert bound is not None
        assert ((got[name].value - truth).abs() <= bound + 1e-12).all()
        mean = mean_ranking(got[name])
        assert abs(float(mean.value) - float(truth.mean())) <= float(mean.error_bound or 0) + 1e-12


@given(st.lists(st.lists(st.floats(-300, 300), min_size=3, max_size=3), min_size=1, max_size=5))
@LAW
def test_a_margin_is_the_logit_of_the_softmax_with_all_its_digits(rows: list[list[float]]) -> None:
    logits = torch.tensor(rows, dtype=torch.float64)
    others = torch.stack(
        [logits[:, [j for j in range(3) if j != k]].logsumexp(1) for k in range(3)], 1
    )
    torch.testing.assert_close(margins(logits), logits - others, rtol=1e-9, atol=1e-9)


def test_saturated_rows_stay_in_order() -> None:
    logits = torch.tensor([[40.0, 0.0, 0.0], [41.0, 0.0, 0.0], [42.0, 0.0, 0.0]])
    assert (margins(logits)[:, 0].diff() > 0.9).all()
    assert (logits.softmax(1)[:, 0] == 1).all()


def test_rows_without_a_margin_are_left_out() -> None:
    inf, nan = torch.inf, torch.nan
    scores = torch.tensor([[inf, 0.0], [nan, 1.0], [0.0, 1.0], [-inf, 1.0], [-inf, -inf]])
    curves, state = counted(scores, torch.tensor([0, 0, 1, 1, 0]), "logits")
    rows = 2 * curves.keys.rows
    assert state["one_vs_rest"][:, :rows].sum(1).tolist() == [2, 2]


@pytest.mark.fault(28)
def test_an_update_needs_no_values() -> None:
    keys = keys_for(5)
    assert keys is not None
    stage = RowStage(ClassPasses(5, False, True, False), [OneVsRest(ClassSpec(5), keys)])
    counts = Accumulator([], {}, "meta", stage)
    scores, target = (
        torch.zeros(9, 5, device="meta"),
        torch.zeros(9, device="meta", dtype=torch.int64),
    )
    counts.add_(flat(ClassSpec(5), scores, target, None), None)
    assert counts.state["one_vs_rest"].is_meta
