"""Every score of single-label classification against scikit-learn in float64, row by row."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import Batch, multiclass_per_class, multiclass_rows, multiclass_scores, same
from registry import CASES, LAW, MetricCase, multiclass_batch

from ptmetrics import MulticlassMetrics

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
configs = st.fixed_dictionaries(
    {
        "num_classes": st.integers(2, 6),
        "inputs": st.sampled_from(["logits", "probs", "labels"]),
        "ignore_index": st.sampled_from([None, 0, 1, -100]),
        "absent": st.sampled_from([math.nan, 0.0, 1.0]),
    }
)
seeds = st.integers(0, 2**32)


def assert_scores(got: Any, expected: dict[str, float], nll_tolerance: float = 1e-12) -> None:
    for name, value in expected.items():
        tolerance = nll_tolerance if name in ("nll", "perplexity") else 1e-12
        assert same(got[name], value, tolerance), f"{name}: {got[name].value!r} for {value!r}"
        score = got[name]
        complete = not any(map(math.isnan, (score, score.low, score.high)))
        assert (score.reason is None) == complete, name


@given(configs, st.integers(1, 60), seeds, st.booleans(), st.sampled_from(DTYPES))
@settings(LAW, max_examples=40)
def test_every_score_is_that_of_scikit_learn(
    config: dict[str, Any], rows: int, seed: int, weighted: bool, dtype: torch.dtype
) -> None:
    batch = multiclass_batch(config["num_classes"], config["inputs"], rows, seed, weighted)
    if config["inputs"] != "labels":
        batch.preds = batch.preds.to(dtype)
    ks = [] if config["inputs"] == "labels" else list(range(2, config["num_classes"] + 1))
    metrics = MulticlassMetrics(**config, topk=ks)
    metrics.update(batch.preds, batch.target, batch.weight)
    got = metrics.compute()
    shape = {name: config[name] for name in ("num_classes", "inputs", "ignore_index")}
    reference = multiclass_rows([batch], **shape)
    assert got.n == len(reference.target)
    assume(sum(reference.weight) > 0)
    ignored = config["ignore_index"]
    expected = multiclass_scores(reference, config["num_classes"], ks, config["absent"], ignored)
    assert_scores(got, expected, 1e-12 if dtype == torch.float64 else 1e-6)
    per_class = multiclass_per_class(reference, config["num_classes"], config["absent"])
    for name, values in per_class.items():
        assert all(map(same, got.per_class[name], values)), name


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
@pytest.mark.parametrize("weighted", [False, True])
def test_every_registered_metric_equals_its_oracle_over_several_batches(
    case: MetricCase, weighted: bool
) -> None:
    batches = [case.batch(rows, seed, weighted) for seed, rows in enumerate((33, 1, 0, 64))]
    got = case.counted(batches).compute()
    for name, value in case.oracle(batches).items():
        if name.startswith("class:"):
            assert all(map(same, got.per_class[name.removeprefix("class:")], value)), name
        else:
            assert same(got[name], value, 1e-6 if name in ("nll", "perplexity") else 1e-12), name


@given(st.integers(0, 9), st.integers(0, 5), st.sampled_from(["logits", "probs", "labels"]), seeds)
@settings(LAW, max_examples=30)
def test_dense_predictions_count_as_the_same_rows_laid_flat(
    n: int, d: int, inputs: Any, seed: int
) -> None:
    flat = multiclass_batch(3, inputs, n * d, seed, True)
    dense, whole = (MulticlassMetrics(3, inputs=inputs, class_dim=1) for _ in range(2))
    whole.update(flat.preds, flat.target, flat.weight)
    assert flat.weight is not None
    preds = (
        flat.preds.reshape(n, d)
        if inputs == "labels"
        else flat.preds.reshape(n, d, 3).movedim(-1, 1)
    )
    dense.update(preds, flat.target.reshape(n, d), flat.weight.reshape(n, d))
    ours, theirs = dense.state_dict()["cells"], whole.state_dict()["cells"]
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_images_of_class_scores_are_counted_pixel_by_pixel() -> None:
    g = torch.Generator().manual_seed(3)
    preds = torch.randn(2, 4, 5, 6, generator=g)
    target = torch.randint(0, 4, (2, 5, 6), generator=g)
    metrics = MulticlassMetrics(4)
    metrics.update(preds, target)
    right = (preds.argmax(1) == target).double().mean()
    assert same(metrics.compute()["accuracy"], float(right))
    assert metrics.compute().n == 60


@given(st.integers(2, 7), st.integers(1, 40), seeds)
@settings(LAW, max_examples=15)
def test_of_equal_scores_the_lowest_class_wins_in_accuracy_and_in_top_k(
    c: int, rows: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores, target = rng.integers(0, 2, (rows, c)), rng.integers(0, c, rows)
    metrics = MulticlassMetrics(c, topk=range(1, c + 1))
    metrics.update(torch.tensor(scores).float(), torch.tensor(target))
    got = metrics.compute()
    order = np.argsort(-scores, axis=1, kind="stable")
    assert got["accuracy"] == (order[:, 0] == target).mean()
    for k in range(2, c + 1):
        assert same(got[f"top{k}_accuracy"], (order[:, :k] == target[:, None]).any(1).mean())


@pytest.mark.fault(18)
def test_ties_at_plus_infinity_go_to_the_lowest_class_and_are_counted() -> None:
    metrics = MulticlassMetrics(3, topk=(2,))
    inf = math.inf
    metrics.update(
        torch.tensor([[0, inf, inf], [inf, inf, inf], [1.0, 2, 3]]), torch.tensor([2, 0, 2])
    )
    got = metrics.compute()
    assert got.confusion is not None
    assert got.confusion.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 1]]
    assert got["top2_accuracy"] == 1.0
    assert got["nll"].n == 1
    assert got.faults["infinite-score"]["count"] == 2


@pytest.mark.fault(24)
def test_no_data_gives_nan_with_a_reason_on_every_score() -> None:
    got = MulticlassMetrics(3, topk=(2,)).compute()
    assert all(math.isnan(score) and score.reason for score in got.values())
    assert all(
        math.isnan(s) and s.reason
        for name in ("precision", "recall", "f1")
        for s in got.per_class[name]
    )
    assert got.n == 0
    assert "no samples were counted" in str(got)


def test_weighted_precision_falls_back_to_the_plain_mean_where_scikit_learn_does() -> None:
    batch = Batch(torch.tensor([1, 1]), torch.tensor([0, 0]))
    metrics = MulticlassMetrics(2, inputs="labels")
    metrics.update(batch.preds, batch.target)
    rows = multiclass_rows([batch], num_classes=2, inputs="labels", ignore_index=None)
    expected = multiclass_scores(rows, 2, [], math.nan)["precision/weighted"]
    assert metrics.compute()["precision/weighted"] == expected == 0.0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0])
def test_rounded_probabilities_of_a_thousand_classes_are_still_probabilities(
    dtype: torch.dtype, scale: float
) -> None:
    g = torch.Generator().manual_seed(0)
    probs = (torch.randn(50, 1000, generator=g) * scale).to(dtype).softmax(1)
    metrics = MulticlassMetrics(1000, inputs="probs")
    metrics.update(probs, torch.randint(0, 1000, (50,), generator=g))
    assert not metrics.compute().faults


@given(st.integers(2, 60), st.integers(2, 5), seeds)
@settings(LAW, max_examples=25)
def test_no_rounding_of_weights_lifts_a_perfect_score_above_one(
    rows: int, c: int, seed: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    target = torch.randint(0, c, (rows,), generator=g)
    target[:2] = torch.arange(2)  # with one class there are no others to be specific about
    metrics = MulticlassMetrics(c, topk=(2,))
    metrics.update(
        torch.eye(c)[target], target, torch.rand(rows, generator=g, dtype=torch.float64) + 1e-3
    )
    got = metrics.compute()
    for name, score in got.items():
        if score.higher_is_better and score.reason is None:
            assert same(score, 1.0), name
            assert score.low < score.value <= score.high <= 1.0, (
                f"{name}: {score.value!r}, {score.high!r}"
            )


@pytest.mark.fault(18)
@pytest.mark.parametrize("inputs", ["logits", "probs"])
@pytest.mark.parametrize("value", [0.0, 0.25])
def test_a_row_of_equal_scores_goes_to_the_lowest_class_and_is_counted(
    inputs: str, value: float
) -> None:
    metrics = MulticlassMetrics(4, inputs=inputs, topk=(2,), curves=True)
    preds = torch.full((4, 4), value)
    if inputs == "probs":
        preds = torch.full((4, 4), 0.25)
    metrics.update(preds, torch.arange(4))
    got = metrics.compute()
    assert got.confusion is not None
    assert got.confusion[:, 0].tolist() == [1, 1, 1, 1]
    assert (got["accuracy"].value, got["accuracy"].n) == (0.25, 4)
    assert got["top2_accuracy"].value == 0.5
    assert same(got["nll"], math.log(4))
    assert [score.value for score in got.per_class["auroc"]] == [0.5] * 4
    assert not got.faults
