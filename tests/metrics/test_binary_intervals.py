"""Intervals of F1 macro, MCC and kappa where one class is rare, for which the delta method alone covers 80 to 86 %."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from ptmetrics import BinaryMetrics
from tests.studies.intervals import binary, simulate

NAMES = ("f1/macro", "mcc", "kappa")


def test_a_class_of_ten_is_covered() -> None:
    scenario = replace(binary(0.02, 500), make=partial(BinaryMetrics, curves=None, losses=False))
    got = simulate(scenario, 300, 300_000)
    assert all(0.92 <= got[name].coverage <= 0.995 for name in NAMES), {
        n: got[n].coverage for n in NAMES
    }


def ends(
    preds: list[int], target: list[int], scale: float = 1.0, **options: float
) -> dict[str, tuple[float, ...]]:
    metrics = BinaryMetrics(inputs="labels", **options)  # type: ignore[arg-type]
    weight = None if scale == 1 else torch.full((len(target),), scale)
    metrics.update(torch.tensor(preds), torch.tensor(target), weight)
    scores = metrics.compute()
    return {name: (scores[name].low, scores[name].value, scores[name].high) for name in NAMES}


@pytest.mark.parametrize(
    ("preds", "target"),
    [
        ([0] * 50, [0] * 47 + [1] * 3),  # never predicted
        ([0] * 47 + [1] * 3, [0] * 47 + [1] * 3),  # all right
        ([1] * 3 + [0] * 47, [0] * 47 + [1] * 3),  # no hit
        ([0, 1] * 25, [0] * 20 + [1] * 30),
    ],
)
def test_ends_stand_around_the_value_whatever_the_classes_are_called_and_weigh(
    preds: list[int], target: list[int]
) -> None:
    got = ends(preds, target)
    swapped = ends([1 - p for p in preds], [1 - t for t in target])
    weighted = ends(preds, target, 2.5)
    for name, (low, value, high) in got.items():
        if math.isnan(value):
            assert math.isnan(low)
            assert math.isnan(high)
            continue
        assert low <= value <= high
        assert high - low > 0.02
        assert swapped[name] == pytest.approx((low, value, high), abs=1e-12)
        assert weighted[name] == pytest.approx((low, value, high), abs=1e-12)


def test_an_undefined_score_that_was_given_a_value_has_no_doubt() -> None:
    assert ends([0] * 9, [0] * 9, absent=0.0)["mcc"] == (0.0, 0.0, 0.0)
