"""A verdict from arrays is that of metrics which were given the same."""

import numpy as np
import pytest
import torch

import ptmetrics as pm

RNG = np.random.default_rng(0)
TARGET = RNG.integers(0, 3, 300)
LABELS = np.where(RNG.random(300) < 0.9, TARGET, 0)
PROBS = RNG.dirichlet(np.ones(3), 300)


def told(verdict: pm.Verdict) -> list[tuple[str, str]]:
    return [(verdict.status, finding.message) for finding in verdict.findings]


def expected(
    metrics: pm.Metrics, preds: np.ndarray, target: np.ndarray, **options: str
) -> list[tuple[str, str]]:
    metrics.update(torch.from_numpy(preds), torch.from_numpy(target))
    return told(pm.judge(metrics.compute(), **options))


def test_labels_of_any_kind_are_classes() -> None:
    matrix = np.zeros((3, 3), dtype=int)
    np.add.at(matrix, (TARGET, LABELS), 1)
    own = told(pm.judge_confusion(matrix, class_names=["a", "b", "c"]))
    names = np.array(["a", "b", "c"])
    assert told(pm.judge_predictions(target=names[TARGET], preds=names[LABELS])) == own
    as_lists = pm.judge_predictions(target=names[TARGET].tolist(), preds=names[LABELS].tolist())
    assert told(as_lists) == own
    numbers = pm.judge_predictions(target=torch.from_numpy(TARGET), preds=LABELS + 0)
    assert [status for status, _ in told(numbers)] == [status for status, _ in own]


def test_floats_are_probabilities_or_those_of_a_regression() -> None:
    own = expected(pm.MulticlassMetrics(3, inputs="probs"), PROBS, TARGET)
    assert told(pm.judge_predictions(target=TARGET, preds=PROBS)) == own
    one = (TARGET == 1).astype(int)
    own = expected(pm.BinaryMetrics(inputs="probs"), PROBS[:, 1].copy(), one)
    assert told(pm.judge_predictions(target=one, preds=PROBS[:, 1])) == own
    values = TARGET + RNG.normal(size=300)
    own = expected(pm.RegressionMetrics(), PROBS[:, 0].copy(), values, profile="regression")
    assert told(pm.judge_predictions(target=values, preds=PROBS[:, 0], profile="regression")) == own


def test_unlike_numbers_of_rows_are_refused() -> None:
    with pytest.raises(pm.PtmetricsError, match=r"preds: expected 3 rows, got 2\."):
        pm.judge_predictions(target=[0, 1, 1], preds=[0, 1])
