"""Every score of yes-or-no classification against scikit-learn in float64."""

import math
from typing import Any

import pytest
import torch
from binary_cases import binary_batch, binary_oracle, binary_rows
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import Batch, same
from registry import LAW
from sklearn import metrics as sk

from ptmetrics import BinaryMetrics

configs = st.fixed_dictionaries(
    {
        "inputs": st.sampled_from(["logits", "probs", "labels"]),
        "threshold": st.sampled_from([0.5, 0.1, 0.7]),
        "ignore_index": st.sampled_from([None, 0, -100]),
        "beta": st.sampled_from([None, 0.5, 2]),
        "absent": st.sampled_from([math.nan, 0.0, 1.0]),
        "losses": st.booleans(),
        "curves": st.sampled_from(["fp16", None]),
    }
)


@given(configs, st.integers(1, 60), st.integers(0, 2**32), st.booleans())
@settings(LAW, max_examples=40)
def test_every_score_is_that_of_scikit_learn(
    config: dict[str, Any], rows: int, seed: int, weighted: bool
) -> None:
    batch = binary_batch(config["inputs"], rows, seed, weighted)
    metrics = BinaryMetrics(**config)
    metrics.update(batch.preds, batch.target, batch.weight)
    got, kept = metrics.compute(), binary_rows(config, [batch])
    assert got.n == len(kept.target)
    assume(kept.weight.sum() > 0)
    expected = binary_oracle(config, [batch])
    assert {name for name in expected if "class:" not in name} <= set(got)
    for name, value in expected.items():
        if name.startswith("class:"):
            assert all(map(same, got.per_class[name.removeprefix("class:")], value)), name
        else:
            tolerance = 1e-12 if name not in {"nll", "brier"} else 1e-9
            assert same(got[name], value, tolerance), f"{name}: {got[name].value!r} for {value!r}"


@pytest.mark.fault(15)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("inputs", ["logits", "probs"])
def test_losses_are_right_in_every_type_and_far_out(dtype: torch.dtype, inputs: Any) -> None:
    g = torch.Generator().manual_seed(1)
    x = 30 * torch.randn(70_000, generator=g)
    preds = (
        (x.sigmoid() if inputs == "probs" else x)
        .to(dtype)
        .clamp(1e-6, None if inputs == "logits" else 0.9)
    )
    target = (torch.rand(70_000, generator=g) < 0.3).long()
    metrics = BinaryMetrics(inputs=inputs)
    metrics.update(preds, target)
    got, expected = metrics.compute(), binary_oracle({"inputs": inputs}, [Batch(preds, target)])
    for name in ("nll", "brier"):
        assert got[name].value == pytest.approx(expected[name], rel=1e-6)
        assert got[name].higher_is_better is False
        assert got[name].low < got[name].value < got[name].high


def test_an_impossible_event_has_an_infinite_loss_and_a_sure_one_none() -> None:
    metrics = BinaryMetrics()
    metrics.update(torch.tensor([math.inf, -math.inf]), torch.tensor([1, 0]))
    assert metrics.compute()["nll"].value == 0.0
    metrics.update(torch.tensor([math.inf]), torch.tensor([0]))
    got = metrics.compute()
    assert got["nll"].value == math.inf
    assert got["brier"].value == 1 / 3


@given(st.integers(0, 200), st.integers(0, 2**32))
@settings(LAW, max_examples=20)
def test_the_printed_report_is_that_of_scikit_learn_digit_for_digit(rows: int, seed: int) -> None:
    batch = binary_batch("logits", rows, seed, False)
    kept = binary_rows({}, [batch])
    assume(len(set(kept.target) | set(kept.decision)) == 2)
    metrics = BinaryMetrics(class_names=("ham", "a spam of a long name"))
    metrics.update(batch.preds, batch.target)
    report = sk.classification_report(
        kept.target, kept.decision, target_names=metrics.class_names, zero_division=0
    )
    assert str(metrics.compute()).startswith(report)


@pytest.mark.parametrize("inputs", ["logits", "probs"])
@pytest.mark.parametrize("weighted", [False, True])
def test_decisions_read_off_the_histogram_are_those_counted_by_themselves(
    inputs: Any, weighted: bool
) -> None:
    batch = binary_batch(inputs, 300, 7, weighted)
    found = []
    for curves in ("fp16", None):
        metrics = BinaryMetrics(inputs=inputs, curves=curves)
        batch.feed(metrics)
        found.append(metrics.compute())
    read, counted = found
    assert torch.equal(read.confusion, counted.confusion)
    for name, score in counted.items():
        assert same(read[name], score), name
        assert same(read[name].low, score.low), name


@pytest.mark.parametrize(
    ("tp", "fn", "fp", "tn"), [(85, 15, 10, 90), (40, 5, 5, 50), (24, 176, 24, 9776)]
)
def test_hand_numbers(tp: int, fn: int, fp: int, tn: int) -> None:
    target = torch.tensor([1, 0]).repeat_interleave(torch.tensor([tp + fn, fp + tn]))
    preds = torch.tensor([1, 0, 1, 0]).repeat_interleave(torch.tensor([tp, fn, fp, tn]))
    metrics = BinaryMetrics(inputs="labels", beta=2)
    metrics.update(preds, target)
    got = metrics.compute()
    assert got.confusion is not None
    assert got.confusion.tolist() == [[tn, fp], [fn, tp]]
    by_hand = {
        "accuracy": (tp + tn) / (tp + fn + fp + tn),
        "precision": tp / (tp + fp),
        "recall": tp / (tp + fn),
        "specificity": tn / (tn + fp),
        "npv": tn / (tn + fn),
        "f1": 2 * tp / (2 * tp + fp + fn),
        "fbeta": 5 * tp / (5 * tp + 4 * fn + fp),
        "jaccard": tp / (tp + fp + fn),
    }
    for name, value in by_hand.items():
        assert got[name].value == pytest.approx(value, rel=1e-15)
        assert got[name].low < value < got[name].high
    assert (got["precision"].n, got["recall"].n, got["npv"].n) == (tp + fp, tp + fn, tn + fn)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.9, 0.0, 1.0])
@pytest.mark.parametrize("curves", ["fp16", None])
def test_a_probability_of_exactly_the_threshold_is_positive(
    dtype: torch.dtype, threshold: float, curves: Any
) -> None:
    at = torch.tensor([threshold], dtype=dtype)
    p = torch.cat((torch.nextafter(at, at * 0 - 1), at, torch.nextafter(at, at * 0 + 2)))
    metrics = BinaryMetrics(inputs="probs", threshold=threshold, curves=curves)
    metrics.update(p, torch.tensor([1, 1, 1]))
    tp = int(((p >= threshold) & (p >= 0) & (p <= 1)).sum())
    got = metrics.compute()
    assert got.confusion is not None
    assert got.confusion[1, 1] == tp >= 1
    assert got.n == int(((p >= 0) & (p <= 1)).sum())


@pytest.mark.fault(22)
@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.9])
def test_logits_are_compared_as_they_are(threshold: float) -> None:
    cut = torch.tensor(math.log(threshold / (1 - threshold)))
    below, above = torch.tensor(-math.inf), torch.tensor(math.inf)
    logits = torch.stack((torch.nextafter(cut, below), cut, torch.nextafter(cut, above)))
    metrics = BinaryMetrics(threshold=threshold)
    metrics.update(
        torch.cat((logits, torch.tensor([-0.0 if threshold == 0.5 else 9.0]))), torch.ones(4).long()
    )
    confusion = metrics.compute().confusion
    assert confusion is not None
    assert confusion[1].tolist() == [1, 3]


@pytest.mark.parametrize("inputs", ["logits", "probs"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_two_columns_are_the_margin_of_logits_or_the_second_probability(
    inputs: Any, dtype: torch.dtype
) -> None:
    g = torch.Generator().manual_seed(2)
    pairs = torch.randn(300, 2, generator=g)
    pairs = (pairs.softmax(1) if inputs == "probs" else pairs).to(dtype)
    target = torch.randint(0, 2, (300,), generator=g)
    column = pairs[:, 1] if inputs == "probs" else pairs[:, 1].float() - pairs[:, 0].float()
    two, one = BinaryMetrics(inputs=inputs), BinaryMetrics(inputs=inputs)
    two.update(pairs, target)
    one.update(column, target)
    assert two.compute().n == 300
    assert repr(two.compute().to_dict()) == repr(one.compute().to_dict())


@pytest.mark.parametrize("shape", [(6, 1), (6, 1, 4, 3), (6, 2, 4, 3), (6, 5), (6, 1, 5)])
def test_dense_predictions_count_as_the_same_rows_laid_flat(shape: tuple[int, ...]) -> None:
    g = torch.Generator().manual_seed(4)
    preds = torch.randn(shape, generator=g)
    columns = shape[1] if shape[1] < 3 else 0
    like = (shape[0], *shape[2:]) if columns else shape
    target = torch.randint(0, 2, like, generator=g)
    weight = torch.rand(like, generator=g)
    flat = preds.movedim(1, -1).reshape(-1, columns) if columns else preds.reshape(-1)
    dense, laid = BinaryMetrics(groups=False), BinaryMetrics(groups=False)
    dense.update(preds, target, weight)
    laid.update(flat, target.reshape(-1), weight.reshape(-1))
    assert repr(dense.compute().to_dict()) == repr(laid.compute().to_dict())


def test_a_single_column_may_come_with_targets_of_its_own_shape() -> None:
    metrics = BinaryMetrics()
    metrics.update(torch.tensor([[1.0], [-1.0]]), torch.tensor([[1], [0]]))
    assert metrics.compute()["accuracy"].value == 1.0


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64])
def test_targets_of_every_signed_integer_type_count_alike(dtype: torch.dtype) -> None:
    metrics = BinaryMetrics(ignore_index=-100)
    metrics.update(torch.tensor([1.0, -1.0, 2.0, 0.5]), torch.tensor([1, 0, -100, 3]).to(dtype))
    got = metrics.compute()
    assert (got.n, got["accuracy"].value) == (2, 1.0)
    assert got.faults["target-out-of-range"]["count"] == 1


def test_a_huge_batch_is_the_same_in_pieces() -> None:
    g = torch.Generator().manual_seed(5)
    preds, target = torch.randn(150_001, generator=g), torch.randint(0, 2, (150_001,), generator=g)
    preds[140_000] = math.nan
    whole, halves = BinaryMetrics(), BinaryMetrics()
    whole.update(preds, target)
    for part, truth in zip(preds.split(50_000), target.split(50_000), strict=True):
        halves.update(part, truth)
    one, other = whole.state_dict()["cells"], halves.state_dict()["cells"]
    assert torch.equal(one["curve"], other["curve"])
    # At a cut a row may leave its vector of lanes, where the last digit of a float32 loss is another.
    torch.testing.assert_close(one["losses"], other["losses"], rtol=1e-9, atol=0)
    assert whole.compute().faults["nan-score"]["first_step"] == 0
    assert halves.compute().faults["nan-score"]["first_step"] == 2
