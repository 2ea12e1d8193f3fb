"""Counts of very many classes: the margins of the matrix, and certified bounds of the most confused pairs."""

import pytest
import torch
from torch import Tensor

from ptmetrics import MulticlassMetrics
from ptmetrics.counts.batch import Batch
from ptmetrics.counts.confused_pairs import ConfusedPairs


def cells(classes: int, rows: int, seed: int) -> Tensor:
    """Hits, skewed errors, and rows that do not count."""
    g = torch.Generator().manual_seed(seed)
    actual = torch.randint(0, classes, (rows,), generator=g)
    predicted = torch.where(torch.rand(rows, generator=g) < 0.6, actual, actual.roll(1))
    heavy = torch.rand(rows, generator=g) < 0.1
    actual, predicted = actual.masked_fill(heavy, classes - 1), predicted.masked_fill(heavy, 2)
    spare = torch.rand(rows, generator=g) < 0.05
    return (actual * classes + predicted).masked_fill(spare, classes**2)


def counted(classes: int, *parts: Tensor) -> tuple[ConfusedPairs, Tensor]:
    """The table of pairs over codes actual · C + predicted."""
    pairs = ConfusedPairs(classes, 8)
    table = pairs.cell().zeros("cpu")
    for part in parts:
        pairs.count(part, Batch(part, part))(table)
    return pairs, table


def test_margins_are_those_of_the_matrix() -> None:
    code = cells(7, 500, 0)
    code = code[code < 49]
    matrix = torch.bincount(code, minlength=49).reshape(7, 7)
    metrics = MulticlassMetrics(7, inputs="labels", slices=1)
    metrics.update(code % 7, code // 7, slices=torch.zeros_like(code))
    got = metrics.state_dict()["cells"]["slice.margins"][0]
    expected = torch.stack((matrix.diagonal(), matrix.sum(1), matrix.sum(0)))
    assert torch.equal(got, expected)


def test_a_row_whose_weight_is_refused_is_no_confused_pair() -> None:
    metrics = MulticlassMetrics(5000, inputs="labels")
    weight = torch.tensor([1.0, -1.0, 0.0])
    metrics.update(torch.tensor([3, 4, 5]), torch.tensor([0, 1, 2]), weight)
    assert int(metrics.state_dict()["cells"]["rows"]) == 2
    pairs = {(pair.actual, pair.predicted) for pair in metrics.compute().confused}
    assert pairs == {(0, 3), (2, 5)}


@pytest.mark.parametrize("classes", [5, 200_000])
def test_parts_add_up_to_the_whole_bit_for_bit(classes: int) -> None:
    code = cells(classes, 40_000, 2)
    pairs, whole = counted(classes, code)
    tables = [counted(classes, part)[1] for part in code.split([0, 7, 39_993])]
    for other in tables[1:]:
        pairs.cell().merge_(tables[0], other)
    assert torch.equal(tables[0], whole)


@pytest.mark.parametrize("seed", range(20))
def test_bounds_hold_the_true_count_and_heavy_pairs_are_found(seed: int) -> None:
    classes = (6, 5000, 200_000)[seed % 3]
    code = cells(classes, 3000, seed)
    sketch, table = counted(classes, code)
    kinds, truth = code.unique(return_counts=True)
    error = (kinds < classes**2) & (kinds // classes != kinds % classes)
    low, high = sketch.bounds(table, kinds)
    assert ((low <= truth) & (truth <= high))[error].all()
    assert not (low + high)[~error].any()
    found, low, _ = sketch.heaviest(table, 10)
    heavy = (classes - 1) * classes + 2
    assert low[0] > 0
    assert (classes == 6) or int(found[0]) == heavy
    kept = found[low > 0]
    assert len(kept.unique()) == len(kept)


def test_the_state_and_an_update_need_no_value() -> None:
    metrics = MulticlassMetrics(200_000, inputs="labels", device="meta")
    code = torch.empty(9, dtype=torch.int64, device="meta")
    metrics.update(code, code)
    faults = 2 * 3
    assert metrics.state_bytes == 8 * (3 * 200_000 + 4 * 4096 * 37 + 2 + faults)


def test_errors_alone_enter_the_table_of_pairs() -> None:
    code = cells(9, 1000, 3)
    errors = int(((code < 81) & (code // 9 != code % 9)).sum())
    assert counted(9, code)[1][..., 0].sum(1).tolist() == [errors] * 4
