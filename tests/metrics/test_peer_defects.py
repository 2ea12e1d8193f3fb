"""What other libraries were seen to get wrong, and the truth: one test for each letter of the list of defects."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ptmetrics import BinaryMetrics, MulticlassMetrics, RegressionMetrics
from ptmetrics.metrics.score import Scores


def labelled(
    actual: list[int], predicted: list[int], classes: int = 2, **config: int
) -> MulticlassMetrics:
    metrics = MulticlassMetrics(classes, inputs="labels", **config)  # type: ignore[arg-type]
    metrics.update(torch.tensor(predicted), torch.tensor(actual))
    return metrics


def binary(preds: Tensor, target: Tensor) -> Scores:
    metrics = BinaryMetrics(losses=False)
    metrics.update(preds, target)
    return metrics.compute()


@pytest.mark.fault(12)
def test_a_two_metrics_that_are_equal_after_one_batch_never_share_their_state() -> None:
    low, high = (BinaryMetrics(inputs="probs", threshold=threshold) for threshold in (0.5, 0.9))
    for metrics in (low, high):
        metrics.update(torch.tensor([0.95, 0.05]), torch.tensor([1, 0]))
    assert low.compute()["f1"] == high.compute()["f1"] == 1.0
    for metrics in (low, high):
        metrics.update(torch.tensor([0.6, 0.7, 0.8]), torch.tensor([1, 1, 1]))
    assert (low.compute()["f1"].value, high.compute()["f1"].value) == (1.0, 0.4)


@pytest.mark.fault(22)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_b_logits_that_look_like_probabilities_stay_logits(batch_size: int) -> None:
    preds, target = torch.tensor([0.2, 0.4]), torch.tensor([1, 1])
    one, two = BinaryMetrics(), MulticlassMetrics(2)
    for part, truth in zip(preds.split(batch_size), target.split(batch_size), strict=True):
        one.update(part, truth)
        two.update(torch.stack((torch.zeros_like(part), part), 1), truth)
    loss = float(torch.nn.functional.softplus(-preds.double()).mean())
    for got in (one.compute(), two.compute()):
        assert got["accuracy"].value == 1.0
        assert got["nll"].value == pytest.approx(loss, rel=1e-6)


@pytest.mark.fault(27)
def test_c_weights_are_kept_whatever_is_done_about_nan() -> None:
    mean = MulticlassMetrics(2, inputs="labels")
    mean.update(torch.tensor([1, 0]), torch.tensor([1, 1]), torch.tensor([9.0, 1.0]))
    assert mean.compute()["accuracy"].value == 0.9
    errors = RegressionMetrics()
    preds = torch.tensor([1.0, 0.0, float("nan")])
    errors.update(preds, torch.zeros(3), torch.tensor([9.0, 1.0, 5.0]))
    assert errors.compute()["mae"].value == 0.9
    assert preds[2].isnan()


@pytest.mark.fault(20)
def test_d_label_7_of_3_classes_is_refused_counted_and_said() -> None:
    metrics = MulticlassMetrics(3)
    metrics.update(torch.eye(3), torch.tensor([0, 7, 2]))
    got = metrics.compute()
    assert (got["accuracy"].value, got.n) == (1.0, 2)
    assert "1 × target outside the classes, refused; first in update 0" in str(got)


@pytest.mark.fault(42)
def test_e_a_state_loaded_after_compute_counts_and_is_never_empty() -> None:
    right, wrong = labelled([0, 1], [0, 1]), labelled([0, 1], [1, 0])
    assert right.compute()["accuracy"].value == 1.0
    stored = wrong.state_dict()
    assert int(stored["cells"]["confusion"].sum()) == 2
    right.load_state_dict(stored)
    assert right.compute()["accuracy"].value == 0.0


@pytest.mark.fault(24)
def test_f_an_ignored_class_is_left_out_of_the_macro_recall() -> None:
    got = labelled([0, 0, 1, 2], [0, 0, 1, 0], classes=3, ignore_index=0).compute()
    assert got["recall/macro"].value == 0.5
    assert got.per_class["recall"][0].n == 0


@pytest.mark.fault(13)
@pytest.mark.parametrize("exponent", [24, 31, 53])
def test_g_a_counter_past_the_digits_of_a_float_still_counts(exponent: int) -> None:
    metrics = MulticlassMetrics(2, inputs="labels")
    state = metrics.shared_state()
    state["confusion"][0, 0] = 2**exponent
    state["rows"].fill_(2**exponent)
    metrics.update(torch.tensor([0]), torch.tensor([0]))
    assert metrics.compute().n == 2**exponent + 1


@pytest.mark.fault(23)
def test_h_logits_near_98_are_told_apart() -> None:
    preds, target = torch.tensor([98.0, 98.5, 99.0, 99.5]), torch.tensor([0, 0, 1, 1])
    assert binary(preds, target)["auroc"].value == 1.0
    assert roc_auc_score(target, preds.sigmoid()) == 0.5  # what a sigmoid in float32 leaves


@pytest.mark.fault(23)
def test_i_a_rare_class_far_from_zero_is_within_a_certified_bound() -> None:
    g = torch.Generator().manual_seed(7)
    target = (torch.rand(1_000_000, generator=g) < 0.001).long()
    preds = torch.randn(1_000_000, generator=g) + target - 8
    got, truth = binary(preds, target)["auroc"], float(roc_auc_score(target, preds.double()))
    assert abs(got - truth) <= got.error_bound < 1e-3
    assert abs(got - truth) < 1e-4
    thresholds = torch.linspace(0, 1, 200, dtype=torch.float64)
    rates = [
        1 - torch.searchsorted(x.sort().values, thresholds) / len(x)
        for x in _by_class(preds, target)
    ]
    assert abs(-np.trapezoid(rates[1], rates[0]) - truth) > 0.1  # evenly spaced thresholds


def _by_class(preds: Tensor, target: Tensor) -> list[Tensor]:
    return [preds.double().sigmoid()[target == label] for label in (0, 1)]


@pytest.mark.fault(9)
def test_j_a_row_that_a_sampler_repeated_counts_once_when_two_halves_are_merged() -> None:
    """Five samples on two ranks: the second half's last row is the first row again, masked by its weight of 0."""
    actual, predicted = [1, 0, 1, 0, 1], [0, 0, 1, 0, 1]
    places = {0: [0, 2, 4], 1: [1, 3, 0]}
    halves = []
    for rank, rows in places.items():
        first_seen = torch.tensor([float(i * 2 + rank < len(actual)) for i in range(len(rows))])
        half = MulticlassMetrics(2, inputs="labels")
        half.update(
            torch.tensor([predicted[row] for row in rows]),
            torch.tensor([actual[row] for row in rows]),
            first_seen,
        )
        halves.append(half)
    assert halves[0].merge_state(halves[1:]).compute()["accuracy"].value == 0.8


def test_k_every_average_has_its_name_and_there_is_no_silent_default() -> None:
    got = labelled([0] * 10, [0] * 8 + [1] * 2).compute()
    assert [got[f"recall/{a}"].value for a in ("macro", "micro", "weighted")] == [0.4, 0.8, 0.8]
    assert [got[f"precision/{a}"].value for a in ("macro", "micro", "weighted")] == [0.5, 0.8, 1.0]
    assert not {"precision", "recall", "f1"} & set(got)


@pytest.mark.fault(25)
def test_l_r2_in_float32_near_ten_thousand_is_that_of_the_values() -> None:
    rng = np.random.default_rng(0)
    target = (1e4 + rng.standard_normal(1000)).astype(np.float32)
    preds = (target + 0.5 * rng.standard_normal(1000)).astype(np.float32)
    p, t = ([Fraction(float(x)) for x in values] for values in (preds, target))
    mean = sum(t) / len(t)
    expected = 1 - sum((a - b) ** 2 for a, b in zip(p, t, strict=True)) / sum(
        (b - mean) ** 2 for b in t
    )
    metrics = RegressionMetrics()
    metrics.update(torch.tensor(preds), torch.tensor(target))
    got = metrics.compute()["r2"].value
    assert got == pytest.approx(float(expected), rel=1e-12)
    assert 0.7 < got < 0.8


@pytest.mark.fault(14)
@pytest.mark.parametrize("cast", [torch.bfloat16, torch.float16])
def test_m_a_metric_held_in_a_model_is_not_cast_with_it(cast: torch.dtype) -> None:
    model, metrics = torch.nn.Linear(2, 2), labelled([0] * 1000, [0] * 300 + [1] * 700)
    model.metrics = metrics  # type: ignore[assignment]
    model.to(cast)
    assert metrics.compute()["accuracy"].value == 0.3
