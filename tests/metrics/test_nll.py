"""The negative log-likelihood against float64, at the edges of what a row can hold."""

import math
from typing import Any

import pytest
import torch
from oracles import same

from ptmetrics import MulticlassMetrics

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.mark.fault(18)
def test_rows_of_minus_infinity_have_no_likelihood_and_are_counted() -> None:
    metrics = MulticlassMetrics(2)
    metrics.update(torch.tensor([[-math.inf, -math.inf], [0.0, 0.0]]), torch.tensor([0, 1]))
    got = metrics.compute()
    assert same(got["nll"], math.log(2))
    assert got["nll"].n == 1
    assert got.faults["infinite-score"]["count"] == 1
    assert got.n == 2


def test_a_target_at_minus_infinity_makes_the_likelihood_infinite() -> None:
    metrics = MulticlassMetrics(2)
    metrics.update(torch.tensor([[0.0, -math.inf], [0.0, 0.0]]), torch.tensor([1, 1]))
    assert metrics.compute()["nll"].value == math.inf


@pytest.mark.parametrize("inputs", ["logits", "probs"])
def test_a_row_of_weight_zero_is_not_there_even_at_an_infinite_loss(inputs: Any) -> None:
    impossible = [0.0, -math.inf] if inputs == "logits" else [1.0, 0.0]
    metrics = MulticlassMetrics(2, inputs=inputs)
    metrics.update(
        torch.tensor([impossible, [0.5, 0.5]]), torch.tensor([1, 1]), torch.tensor([0.0, 3.0])
    )
    assert same(metrics.compute()["nll"], math.log(2), 1e-7)


@pytest.mark.fault(15)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("offset", [0.0, 1e3, -1e3])
def test_nll_is_that_of_float64_on_the_same_values_at_any_offset_and_confidence(
    dtype: torch.dtype, offset: float
) -> None:
    g = torch.Generator().manual_seed(1)
    preds = torch.randn(500, 10, generator=g) * 4 + offset
    preds[:250, 0] += (
        16.0  # nearly sure: losses around 1e-7, which float32 sums around 1 would round away
    )
    preds, target = preds.to(dtype), torch.randint(0, 10, (500,), generator=g)
    target[:250] = 0
    sure, rest = (MulticlassMetrics(10) for _ in range(2))
    sure.update(preds[:250], target[:250])
    rest.update(preds[250:], target[250:])
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    for metrics, part in ((sure, slice(0, 250)), (rest, slice(250, 500))):
        truth = float(torch.nn.functional.cross_entropy(preds[part].double(), target[part]))
        assert metrics.compute()["nll"].value == pytest.approx(truth, rel=tolerance, abs=0)


@pytest.mark.fault(15)
def test_nll_of_a_million_half_precision_rows_is_exact_to_1e_6() -> None:
    preds = torch.tensor([[8.0, 0.0]], dtype=torch.float16).expand(250_000, 2)
    metrics = MulticlassMetrics(2)
    for _ in range(4):
        metrics.update(preds, torch.ones(250_000, dtype=torch.int64))
    assert metrics.compute()["nll"].value == pytest.approx(8 + math.log1p(math.exp(-8)), rel=1e-9)


@pytest.mark.fault(22)
def test_small_logits_in_a_batch_of_one_are_read_as_logits_and_not_as_probabilities() -> None:
    metrics = MulticlassMetrics(3)
    metrics.update(torch.tensor([[0.2, 0.3, 0.5]]), torch.tensor([2]))
    truth = -math.log(math.exp(0.5) / (math.exp(0.2) + math.exp(0.3) + math.exp(0.5)))
    assert metrics.compute()["nll"].value == pytest.approx(truth, rel=1e-6)


@pytest.mark.fault(26)
@pytest.mark.parametrize("batch_size", range(1, 9))
def test_token_likelihood_of_unequal_lengths_is_the_same_at_any_batch_size(batch_size: int) -> None:
    g = torch.Generator().manual_seed(0)
    lengths = [3, 9, 1, 7, 7, 2, 8, 5]
    logits = torch.randn(8, 9, 6, generator=g, dtype=torch.float64)
    target = torch.randint(0, 6, (8, 9), generator=g)
    for row, length in enumerate(lengths):
        target[row, length:] = -100
    metrics = MulticlassMetrics(6, ignore_index=-100)
    for x, y in zip(logits.split(batch_size), target.split(batch_size), strict=True):
        metrics.update(x.movedim(-1, 1), y)
    truth = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), target.flatten(), ignore_index=-100
    )
    assert same(metrics.compute()["nll"], float(truth))
    assert metrics.compute().n == sum(lengths)
