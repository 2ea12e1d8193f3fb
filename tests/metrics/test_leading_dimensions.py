"""Scores of many tables at once are those of each table by itself: the functions take leading dimensions."""

import math
from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from ptmetrics import MultilabelMetrics
from ptmetrics.metrics import binary as b
from ptmetrics.metrics import multiclass as m
from ptmetrics.metrics.estimate import Estimate
from ptmetrics.metrics.margins import margins, two_by_two
from ptmetrics.metrics.multilabel import RATIOS, Labels
from ptmetrics.metrics.multilabel import each as each_label
from ptmetrics.metrics.multilabel_metrics import named_scores
from ptmetrics.metrics.tally import Tally

Score = Callable[[Tally], Estimate]
BETA: dict[str, Score] = {"fbeta": lambda t: m.fbeta(t, 2.0, equal=True)}
MANY: dict[str, Score] = {**m.SCORES, **BETA, **{f"class:{k}": f for k, f in m.PER_CLASS.items()}}
TWO: dict[str, Score] = {**b.SCORES, "fbeta": lambda t: b.fbeta(t, 0.5)}
absents = pytest.mark.parametrize("absent", [math.nan, 0.0, 1.0])
both_weights = pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])


def matrices(tables: int, classes: int, *, weighted: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Counts, Σw and Σw²; among them an empty table, a perfect one, absent classes and few rows."""
    g = torch.Generator().manual_seed(tables + classes)
    count = torch.randint(0, 9, (tables, classes, classes), generator=g)
    count[0], count[1], count[2, 0], count[3, :, 1] = 0, torch.eye(classes) * 7, 0, 0
    count[4] = 0
    count[4, 0, 1] = 1
    weight = count.double() * (
        torch.rand(count.shape, generator=g, dtype=torch.float64) if weighted else 1
    )
    return count, weight, weight.square() / count.clamp(min=1) if weighted else weight


def assert_same(score: Score, together: Tally, alone: list[Tally]) -> None:
    got, each = score(together), [score(t) for t in alone]
    for field in ("value", "low", "high", "n"):
        expected = torch.stack([getattr(e, field) for e in each])
        actual = getattr(got, field).expand(expected.shape)
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12, equal_nan=True)


@absents
@both_weights
@pytest.mark.parametrize("kept", [True, False], ids=["matrix", "margins"])
@pytest.mark.parametrize("name", MANY)
def test_scores_of_many_classes(name: str, kept: bool, weighted: bool, absent: float) -> None:
    sums = matrices(12, 4, weighted=weighted)

    def tally(*tables: Tensor) -> Tally:
        return Tally.of_matrix(*tables, absent) if kept else Tally(*map(margins, tables), absent)

    alone = [tally(*(x[i] for x in sums)) for i in range(12)]
    assert_same(MANY[name], tally(*sums), alone)


@absents
@both_weights
@pytest.mark.parametrize("name", TWO)
def test_scores_of_two_classes_whose_cells_follow_from_their_margins(
    name: str, weighted: bool, absent: float
) -> None:
    sums = matrices(12, 2, weighted=weighted)
    alone = [Tally.of_matrix(*(x[i] for x in sums), absent) for i in range(12)]
    assert_same(TWO[name], Tally.of_two_classes(*map(margins, sums), absent), alone)


@absents
@pytest.mark.parametrize("name", MANY)
def test_without_ends_the_value_is_the_same(name: str, absent: float) -> None:
    sums = [margins(x) for x in matrices(12, 4, weighted=True)]
    full, bare = MANY[name](Tally(*sums, absent)), MANY[name](Tally(*sums, absent, ends=False))
    torch.testing.assert_close(bare.value, full.value, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_two_classes_leave_no_choice() -> None:
    cells = torch.tensor([[[5, 2], [3, 9]], [[0, 0], [4, 1]]])
    assert torch.equal(two_by_two(margins(cells)), cells)


def labels(tables: int, number: int) -> list[Labels]:
    """What a metric counted in each of some tables, the first of them empty."""
    g = torch.Generator().manual_seed(number)
    made = []
    for i in range(tables):
        metrics = MultilabelMetrics(number, curves=False)
        shape = (9 * i, number)
        weight = torch.rand(9 * i, generator=g) if i > 1 else None
        target = torch.randint(0, 2, shape, generator=g) * torch.arange(number).gt(0)
        metrics.update(torch.randn(shape, generator=g), target, weight)
        made.append(metrics._tally())
    return made


@absents
def test_scores_of_labels(absent: float) -> None:
    alone = [replace(t, absent=absent) for t in labels(7, 4)]
    tensors = [f.name for f in fields(Labels) if f.name != "absent"]
    together = Labels(*(torch.stack([getattr(t, name) for t in alone]) for name in tensors), absent)
    got, each = named_scores(together), [named_scores(t) for t in alone]
    assert len(got) == 18
    for name, estimate in got.items():
        for part in ("value", "low", "high", "n"):
            expected = torch.stack([getattr(e[name], part) for e in each])
            torch.testing.assert_close(
                getattr(estimate, part), expected, rtol=1e-12, atol=1e-12, equal_nan=True
            )
    for ratio in RATIOS:
        expected = torch.stack([each_label(t, ratio).low for t in alone])
        torch.testing.assert_close(each_label(together, ratio).low, expected, equal_nan=True)
