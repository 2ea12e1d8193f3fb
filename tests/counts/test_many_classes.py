"""Counts of very many classes: the margins of the matrix, and certified bounds of the most confused pairs."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from ptmetrics.counts.accumulator import Accumulator
from ptmetrics.counts.cells import Cell, State
from ptmetrics.counts.class_counts import ClassCounts
from ptmetrics.counts.confused_pairs import ConfusedPairs
from ptmetrics.counts.waiting import Given


@dataclass
class Cells:
    cell: Tensor
    weight: Tensor | None = None


def cells(classes: int, rows: int, seed: int) -> Tensor:
    """Hits, skewed errors, and rows that do not count."""
    g = torch.Generator().manual_seed(seed)
    actual = torch.randint(0, classes, (rows,), generator=g)
    predicted = torch.where(torch.rand(rows, generator=g) < 0.6, actual, actual.roll(1))
    heavy = torch.rand(rows, generator=g) < 0.1
    actual, predicted = actual.masked_fill(heavy, classes - 1), predicted.masked_fill(heavy, 2)
    spare = torch.rand(rows, generator=g) < 0.05
    return (actual * classes + predicted).masked_fill(spare, classes**2)


class OfCells:
    """Statistics of cells, which are given in the place of predictions."""

    def __init__(self, *statistics: Any) -> None:
        self.statistics = statistics

    def layout(self) -> dict[str, Cell]:
        return {name: cell for s in self.statistics for name, cell in s.layout().items()}

    def add_(self, state: State, batch: Given) -> None:
        for statistic in self.statistics:
            statistic.add_(state, Cells(batch.preds, batch.weight))


def counted(classes: int, *parts: Tensor) -> Accumulator:
    counts = Accumulator(
        [OfCells(ClassCounts(classes), ConfusedPairs(classes, 8))], {"classes": classes}
    )
    for part in parts:
        counts.add_(Given(part, part), None)
    return counts


def test_counts_are_the_margins_of_the_matrix() -> None:
    code = cells(7, 500, 0)
    matrix = torch.bincount(code, minlength=50)[:-1].reshape(7, 7)
    got = counted(7, code).state["class_counts"]
    assert torch.equal(got[:, :-1], torch.stack((matrix.diagonal(), matrix.sum(1), matrix.sum(0))))
    assert (got.sum(1) == 500).all()


def test_weights_are_those_of_the_matrix_and_rows_before_weigh_one() -> None:
    code, weight = cells(5, 200, 1), torch.rand(200, dtype=torch.float64)
    counts = counted(5, code)
    counts.weigh()
    counts.add_(Given(code, code, weight), None)
    for name, each in (("class_weight", 1 + weight), ("class_square", 1 + weight * weight)):
        matrix = torch.bincount(code, each, 26)[:-1].reshape(5, 5)
        expected = torch.stack((matrix.diagonal(), matrix.sum(1), matrix.sum(0)))
        torch.testing.assert_close(counts.state[name][:, :-1], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("classes", [5, 200_000])
def test_parts_add_up_to_the_whole_bit_for_bit(classes: int) -> None:
    code = cells(classes, 40_000, 2)
    whole, *parts = (
        counted(classes, code),
        *(counted(classes, p) for p in code.split([0, 7, 39_993])),
    )
    parts[0].merge_state(parts[1:])
    assert all(torch.equal(parts[0].state[name], cell) for name, cell in whole.state.items())


@pytest.mark.parametrize("seed", range(20))
def test_bounds_hold_the_true_count_and_heavy_pairs_are_found(seed: int) -> None:
    classes = (6, 5000, 200_000)[seed % 3]
    code, sketch = cells(classes, 3000, seed), ConfusedPairs(classes, 8)
    state = counted(classes, code).state
    kinds, truth = code.unique(return_counts=True)
    error = (kinds < classes**2) & (kinds // classes != kinds % classes)
    low, high = sketch.bounds(state, kinds)
    assert ((low <= truth) & (truth <= high))[error].all()
    assert not (low + high)[~error].any()
    found, low, _ = sketch.heaviest(state, 10)
    heavy = (classes - 1) * classes + 2
    assert low[0] > 0
    assert (classes == 6) or int(found[0]) == heavy
    kept = found[low > 0]
    assert len(kept.unique()) == len(kept)


def test_the_state_and_an_update_need_no_value() -> None:
    counts = Accumulator([OfCells(ClassCounts(200_000), ConfusedPairs(200_000))], {}, "meta")
    code = torch.empty(9, dtype=torch.int64, device="meta")
    counts.add_(Given(code, code), None)
    assert counts.state_bytes == 8 * (3 * 200_001 + 4 * 4096 * 37)


def test_errors_alone_enter_the_table_of_pairs() -> None:
    code = cells(9, 1000, 3)
    errors = int(((code < 81) & (code // 9 != code % 9)).sum())
    assert counted(9, code).state["pairs"][..., 0].sum(1).tolist() == [errors] * 4
