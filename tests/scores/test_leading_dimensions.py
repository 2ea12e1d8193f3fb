"""Scores of many tables at once are those of each table by itself: the functions take leading dimensions."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ptmetrics.scores import binary as b
from ptmetrics.scores import multiclass as m
from ptmetrics.scores.estimate import Estimate
from ptmetrics.scores.margins import margins, two_by_two
from ptmetrics.scores.tally import Tally

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
    weight = count.double() * (torch.rand(count.shape, generator=g, dtype=torch.float64) if weighted else 1)
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
