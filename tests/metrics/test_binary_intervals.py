"""Intervals of F1 macro, MCC and kappa where one class is rare, for which the delta method alone covers 80 to 86 %."""

import math

import pytest
import torch
from torch import Tensor

from ptmetrics import BinaryMetrics

NAMES = ("f1/macro", "mcc", "kappa")


def drawn(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Labels and targets: one row in fifty is positive, its evidence 2 higher."""
    g = torch.Generator().manual_seed(seed)
    target = (torch.rand(rows, generator=g) < 0.02).long()
    evidence = torch.randn(rows, generator=g) + 2 * target
    return (2 * evidence - 2 + math.log(0.02 / 0.98) > 0).long(), target


def test_a_class_of_ten_is_covered() -> None:
    truth = BinaryMetrics(inputs="labels")
    truth.update(*drawn(2_000_000, 1))
    draws = BinaryMetrics(inputs="labels", slices=1000)  # each slice is a draw of 500 rows
    which = torch.arange(1000).repeat_interleave(500)
    draws.update(*drawn(1000 * 500, 0), slices=which)
    per_slice = draws.compute().per_slice
    assert len(per_slice) == 1000
    for name, value in truth.compute().items():
        if name in NAMES:
            defined = [
                scores[name] for scores in per_slice.values() if not math.isnan(scores[name])
            ]
            covered = sum(score.low <= value <= score.high for score in defined)
            assert len(defined) > 850
            assert 0.92 <= covered / len(defined) <= 0.995, name


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
