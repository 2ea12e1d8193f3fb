"""Calibration of yes-or-no probabilities, read off the histogram of the scores, against the rows themselves."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from oracles import same
from torch import Tensor

from ptmetrics import BinaryMetrics
from ptmetrics.counts.keys import FloatKeys, ProbabilityKeys

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def drawn(rows: int, seed: int, sharpness: float = 1.0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, generator=g, dtype=torch.float64) - 1
    return logits * sharpness, torch.bernoulli(logits.sigmoid(), generator=g).long()


def scored(preds: Tensor, target: Tensor, weight: Tensor | None = None, **options: Any) -> Any:
    metrics = BinaryMetrics(**options)
    metrics.update(preds, target, weight)
    return metrics.compute()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("inputs", ["logits", "probs"])
@pytest.mark.parametrize("curves", ["fp16", "fine"])
def test_the_errors_are_those_of_the_rows_within_their_bound(
    dtype: torch.dtype, inputs: Any, curves: Any
) -> None:
    if curves == "fine" and dtype in (torch.float16, torch.bfloat16):
        pytest.skip(
            "the rows of float16 are exact for them: fine ones, which take long, tell no more"
        )
    logits, target = drawn(2000, 3, 1.7)
    preds = (logits.sigmoid() if inputs == "probs" else logits).to(dtype)
    p = (preds.double() if inputs == "probs" else preds.double().sigmoid()).numpy()
    y = target.numpy()
    for weighted in (False, True):
        if curves == "fine" and not weighted:
            continue
        weight = torch.rand(2000, dtype=torch.float64) + 0.1 if weighted else None
        got = scored(preds, target, weight, inputs=inputs, curves=curves)
        w = np.ones(2000) if weight is None else weight.numpy()
        w = w / w.sum()
        bins = np.ceil(p * 15)
        ece = sum(abs((w * (p - y))[bins == b].sum()) for b in np.unique(bins))
        assert abs(got["ece"].value - ece) <= got["ece"].error_bound + 1e-9
        assert got["ece"].error_bound < 0.02
        assert got["ece"].low <= got["ece"].value <= got["ece"].high
        gap = (w * (np.maximum(p, 1 - p) - ((p >= 0.5) == y))).sum()
        assert got["over_confidence"].value == pytest.approx(gap, abs=1e-7)
        if dtype == torch.float16:
            assert got["ece"].error_bound == 0


def test_at_one_half_a_row_counts_as_predicted_positive() -> None:
    for preds in (torch.tensor([0.0, -0.0, 0.0]), torch.tensor([-0.0, 0.0, -0.0]).double()):
        target = torch.tensor([1, 1, 0])
        got = scored(preds, target)["over_confidence"].value
        assert got == pytest.approx(0.5 - 2 / 3)
    half = torch.tensor([0.5, 0.5, 0.5])
    assert scored(half, target, inputs="probs")["over_confidence"].value == pytest.approx(-1 / 6)


def test_an_over_confident_model_has_a_temperature_above_one() -> None:
    logits, target = drawn(4000, 0, 3.0)
    got = scored(logits, target, temperature=True)
    assert got["temperature"].low <= 3.0 <= got["temperature"].high
    assert same(
        got["temperature"],
        scored(logits.sigmoid(), target, inputs="probs", temperature=True)["temperature"],
        1e-3,
    )
    assert got["over_confidence"].low > 0
    assert got["ece"].low > 0


@pytest.mark.slow
def test_a_true_model_is_found_calibrated_19_times_in_20() -> None:
    inside, runs = dict.fromkeys(("ece", "rms_calibration_error", "over_confidence"), 0), 100
    for seed in range(runs):
        got = scored(*drawn(500, seed))
        for name in inside:
            inside[name] += got[name].low <= 0 <= got[name].high
    assert all(count / runs >= 0.90 for count in inside.values()), inside


@pytest.mark.parametrize(
    "keys", [FloatKeys(), FloatKeys(6), FloatKeys(16), ProbabilityKeys()], ids=str
)
def test_the_value_of_a_row_lies_in_it(keys: Any) -> None:
    values = keys.values(torch.device("cpu"))
    assert (values.diff() >= 0).all()
    finite = values.abs() < 65504
    places = torch.arange(len(values))[finite]
    found = keys.position(values[finite])
    off = (found != places).sum()
    assert off <= (2 if isinstance(keys, FloatKeys) else 4), (
        "−0 and 0, and the two sides of ¼, share a value"
    )


def test_without_curves_or_losses_there_is_none_of_it() -> None:
    logits, target = drawn(50, 0)
    alone = scored(logits, target, curves=None)
    assert "ece" not in alone
    assert alone["over_confidence"] == scored(logits, target)["over_confidence"]
    assert not {"ece", "over_confidence"} & set(scored(logits, target, losses=False))
    empty = BinaryMetrics(temperature=True).compute()
    assert all(
        math.isnan(empty[name]) and empty[name].reason
        for name in ("ece", "over_confidence", "temperature")
    )
