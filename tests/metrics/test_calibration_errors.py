"""Calibration errors by number of bins and norm, and of each class, beside their definitions and torchmetrics'."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from registry import LAW
from sklearn.calibration import calibration_curve
from torch import Tensor

from ptmetrics import BinaryMetrics, MulticlassMetrics
from ptmetrics.counts.keys import FloatKeys, ProbabilityKeys
from ptmetrics.counts.multiclass import CONFIDENCE_BINS
from ptmetrics.errors import ConfigError
from ptmetrics.metrics.calibration import ASKED_CALIBRATION, CLASS_CELLS

NAMES = [spec.name for spec in ASKED_CALIBRATION]
NORMS = {"ece": "l1", "rms_ce": "l2", "mce": "max"}
CLASSES = 4


def drawn(rows: int, seed: int, sharpness: float = 1.0) -> tuple[Tensor, Tensor]:
    """Logits of a model that is calibrated at a sharpness of 1."""
    g = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(rows, CLASSES, generator=g)
    return logits * sharpness, torch.multinomial(logits.softmax(1), 1, generator=g).squeeze(1)


def by_definition(sure: Any, hit: Any, bins: int, norm: str, weight: Any = None) -> float:
    """Of bins (low, high]."""
    sure, hit = np.asarray(sure, dtype=float), np.asarray(hit, dtype=float)
    weight = np.ones(len(sure)) if weight is None else np.asarray(weight)
    place = np.ceil(sure * bins)
    gaps, shares = [], []
    for one in np.unique(place):
        w = weight[place == one]
        gaps.append(abs((w * (sure - hit)[place == one]).sum()) / w.sum())
        shares.append(w.sum() / weight.sum())
    gaps, shares = np.array(gaps), np.array(shares)
    if norm == "max":
        return float(gaps.max())
    if norm == "l2":
        return math.sqrt((shares * gaps**2).sum())
    return float((shares * gaps).sum())


def parts_of(name: str) -> tuple[str, int]:
    stem, _, bins = name.partition("/")
    return NORMS[stem], int(bins or 15)


@pytest.mark.parametrize("weighted", [False, True])
@given(seed=st.integers(0, 2**32), rows=st.integers(1, 300))
@LAW
def test_each_error_of_classes_is_that_of_its_definition(
    weighted: bool, seed: int, rows: int
) -> None:
    logits, target = drawn(rows, seed, 1.7)
    weight = torch.rand(rows, dtype=torch.float64) + 0.1 if weighted else None
    metrics = MulticlassMetrics(CLASSES, scores=NAMES)
    metrics.update(logits, target, weight)
    got = metrics.compute()
    sure, label = logits.softmax(1).max(1)
    for name in ("ece", *NAMES):
        norm, bins = parts_of(name)
        expected = by_definition(sure.double(), label == target, bins, norm, weight)
        assert got[name].value == pytest.approx(expected, abs=2e-6), name
        assert got[name].low <= got[name].value <= got[name].high
        assert got[name].error_bound == 0


@pytest.mark.parametrize("bins", [10, 15, 20])
@pytest.mark.parametrize("norm", ["ece", "rms_ce", "mce"])
def test_each_error_is_that_of_torchmetrics(norm: str, bins: int) -> None:
    peer = pytest.importorskip("torchmetrics.functional.classification")
    logits, target = drawn(400, 3, 1.5)
    name = norm if bins == 15 else f"{norm}/{bins}"
    asked = [] if name == "ece" else [name]
    metrics = MulticlassMetrics(CLASSES, scores=asked)
    metrics.update(logits, target)
    theirs = peer.multiclass_calibration_error(
        logits.softmax(1), target, CLASSES, n_bins=bins, norm=NORMS[norm]
    )
    assert metrics.compute()[name].value == pytest.approx(float(theirs), abs=1e-5)
    p, yes = logits.softmax(1)[:, 0].contiguous(), (target == 0).long()
    two = BinaryMetrics(inputs="probs", scores=asked)
    two.update(p, yes)
    got = two.compute()[name]
    theirs = peer.binary_calibration_error(p, yes, n_bins=bins, norm=NORMS[norm])
    assert abs(got.value - float(theirs)) <= got.error_bound + 1e-5


@pytest.mark.parametrize("inputs", ["logits", "probs"])
@given(seed=st.integers(0, 2**32), rows=st.integers(1, 2000))
@LAW
def test_errors_of_yes_or_no_are_within_their_bound(inputs: Any, seed: int, rows: int) -> None:
    g = torch.Generator().manual_seed(seed)
    # Many probabilities lie near an edge of the bins, where rounding leads rows astray.
    p = torch.randint(1, 20, (rows,), generator=g) / 20
    p = (p + 1e-4 * torch.randn(rows, generator=g)).clamp(1e-3, 1 - 1e-3).double()
    target = torch.bernoulli(p.sqrt(), generator=g).long()
    preds = p.logit() if inputs == "logits" else p
    metrics = BinaryMetrics(inputs=inputs, scores=NAMES)
    metrics.update(preds, target)
    got = metrics.compute()
    for name in ("ece", *NAMES):
        norm, bins = parts_of(name)
        expected = by_definition(p, target, bins, norm)
        score = got[name]
        assert abs(score.value - expected) <= score.error_bound + 1e-9, name
        assert score.low <= expected <= score.high, name


def test_scores_that_are_rows_of_the_histogram_have_no_bound() -> None:
    p = torch.randint(1, 64, (500,), generator=torch.Generator().manual_seed(0)) / 64
    metrics = BinaryMetrics(inputs="probs", scores=NAMES)
    metrics.update(p, (p > 0.3).long())
    got = metrics.compute()
    for name in NAMES:
        norm, bins = parts_of(name)
        assert got[name].error_bound == 0
        assert got[name].value == pytest.approx(by_definition(p, p > 0.3, bins, norm), abs=1e-12)


@pytest.mark.parametrize(
    ("keys", "cells"),
    [(FloatKeys(10), CONFIDENCE_BINS), (FloatKeys(16), CONFIDENCE_BINS),
     (ProbabilityKeys(), CONFIDENCE_BINS), (FloatKeys(6), CLASS_CELLS)],
)  # fmt: skip
def test_no_row_of_a_histogram_is_as_wide_as_half_a_cell(keys: Any, cells: int) -> None:
    values = keys.values(torch.device("cpu"))
    if isinstance(keys, FloatKeys):
        values = values.sigmoid()
    assert float(values.diff().max()) < 0.5 / cells


@pytest.mark.parametrize("inputs", ["logits", "probs"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_error_of_each_class_is_that_of_its_probability(inputs: Any, weighted: bool) -> None:
    logits, target = drawn(600, 1, 1.6)
    weight = torch.rand(600, dtype=torch.float64) if weighted else None
    preds = logits if inputs == "logits" else logits.softmax(1)
    metrics = MulticlassMetrics(
        CLASSES, inputs=inputs, curves=True, scores=["ece/classwise"], labels=[0, 1, 3]
    )
    metrics.update(preds, target, weight)
    got = metrics.compute()
    p = logits.double().softmax(1)
    expected = [by_definition(p[:, c], target == c, 15, "l1", weight) for c in range(CLASSES)]
    for score, value in zip(got.per_class["ece/classwise"], expected, strict=True):
        assert abs(score.value - value) <= score.error_bound + 1e-6
        assert score.low <= value <= score.high
    mean = got["ece/classwise"]
    assert abs(mean.value - np.mean([expected[c] for c in (0, 1, 3)])) <= mean.error_bound + 1e-6


def test_classes_by_the_hundred_have_an_error_each() -> None:
    g = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(300, 100, generator=g)
    target = torch.multinomial(logits.softmax(1), 1, generator=g).squeeze(1)
    metrics = MulticlassMetrics(100, curves=True, scores=["ece/classwise"])
    metrics.update(logits, target)
    score = metrics.compute()["ece/classwise"]
    p = logits.double().softmax(1)
    expected = np.mean([by_definition(p[:, c], target == c, 15, "l1") for c in range(100)])
    assert abs(score.value - expected) <= score.error_bound + 1e-6
    assert score.error_bound < 0.01


@pytest.mark.parametrize("sharpness", [1.0, 2.0])
@pytest.mark.slow
def test_95_of_100_intervals_hold_the_truth(sharpness: float) -> None:
    names = ("ece/10", "rms_ce", "mce")
    logits, target = drawn(400_000, 0, sharpness)
    sure, label = logits.softmax(1).max(1)
    truth = {}
    for name in names:
        norm, bins = parts_of(name)
        truth[name] = by_definition(sure.double(), label == target, bins, norm)
    held = dict.fromkeys(names, 0)
    metrics = MulticlassMetrics(CLASSES, scores=names)
    for seed in range(120):
        metrics.reset()
        metrics.update(*drawn(600, seed + 1, sharpness))
        got = metrics.compute()
        for name in names:
            held[name] += got[name].low <= truth[name] <= got[name].high
    assert all(number >= 0.93 * 120 for number in held.values()), held


def test_what_is_not_kept_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="no mce where no confidences are kept"):
        MulticlassMetrics(3, losses=False, scores=["mce"])
    with pytest.raises(ConfigError, match="no rms_ce where no confidences are kept"):
        BinaryMetrics(curves=None, scores=["rms_ce"])
    with pytest.raises(ConfigError, match=r"no ece/classwise where .* pass curves=True"):
        MulticlassMetrics(3, scores=["ece/classwise"])


def test_the_reliability_is_that_of_scikit_learn() -> None:
    g = torch.Generator().manual_seed(0)
    p = torch.rand(500, generator=g).half().float()
    target = torch.bernoulli(p, generator=g).long()
    metrics = BinaryMetrics(inputs="probs")
    metrics.update(p, target)
    table = metrics.compute().reliability
    right, sure = calibration_curve(target, p.double(), n_bins=15)
    there = table["weight"] > 0
    np.testing.assert_allclose(table["accuracy"][there], right)
    np.testing.assert_allclose(table["confidence"][there], sure, rtol=1e-6)
    assert table["weight"].sum() == 500
