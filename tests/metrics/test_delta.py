"""The delta method against its definition by finite differences, its laws, and margins in place of the matrix."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from registry import LAW

from ptmetrics.class_formulas import ClassSums
from ptmetrics.metrics.class_scores import CONFUSION_SPECS, ClassCounts
from ptmetrics.metrics.delta import delta_intervals
from ptmetrics.metrics.estimate import Array
from ptmetrics.metrics.intervals import Z, wilson
from ptmetrics.metrics.score_spec import ScoreSpec

SPECS = [spec for spec in CONFUSION_SPECS if spec.interval == "delta"]
smooth = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
# A class that never occurs has a specificity: what holds for means over classes that occur does not for it.
of_occurring = pytest.mark.parametrize(
    "spec", [s for s in SPECS if s.name != "specificity/macro"], ids=lambda spec: spec.name
)
matrices = st.lists(st.integers(0, 60), min_size=9, max_size=9)


@pytest.fixture(autouse=True)
def _undefined_is_nan() -> object:
    """As in `compute()`, where NaN is no surprise."""
    with np.errstate(all="ignore"):
        yield


def at(spec: ScoreSpec, cells: Array) -> float:
    return float(spec.formula(ClassSums.of_matrix(cells)))


def interval(
    spec: ScoreSpec, weight: Array, square: Array, *, matrix: bool = True
) -> tuple[float, float, float]:
    """Value, low and high, from the matrix or from its margins."""
    if matrix:
        view = ClassCounts.of_matrices(weight, weight, square, math.nan)
    else:
        sums = ClassSums.of_matrix(weight)
        view = ClassCounts(sums, ClassSums.of_matrix(square), sums)
    value, low, high = delta_intervals([spec.formula], [spec.gradient], [spec.range], view)
    return float(value[0]), float(low[0]), float(high[0])


def finite_differences(spec: ScoreSpec, cells: Array) -> Array:
    gradient = np.zeros_like(cells)
    h = 1e-4
    for place in np.ndindex(cells.shape):
        step = np.zeros_like(cells)
        step[place] = h
        gradient[place] = (at(spec, cells + step) - at(spec, cells - step)) / (2 * h)
    return gradient


@of_occurring
@given(cells=matrices, weight=st.floats(0.2, 5))
@LAW
def test_the_interval_is_wilsons_at_the_n_that_finite_differences_find(
    spec: ScoreSpec, cells: list[int], weight: float
) -> None:
    least, most = spec.range
    # No empty cell: its one-sided difference is no gradient.
    counts = np.array(cells, dtype=np.float64).reshape(3, 3) * weight + 0.5
    squares = counts * weight
    total = counts.sum()
    n = total**2 / squares.sum()
    added = Z * Z / 2 * total / n * np.outer(counts.sum(1), counts.sum(0)) / total**2
    gradient = finite_differences(spec, counts + added)
    variance = (1 + Z * Z / 2 / n) * ((squares + added * total / n) * gradient**2).sum()
    near = (at(spec, counts + added) - least) / (most - least)
    worth = near * (1 - near) * (most - least) ** 2 / variance
    value, *ends = interval(spec, counts, squares)
    share = np.array((value - least) / (most - least))
    expected = [least + (most - least) * float(end) for end in wilson(share, worth)]
    assert value == pytest.approx(at(spec, counts))
    assert ends == pytest.approx(expected, abs=1e-5)


@given(st.lists(st.integers(0, 60), min_size=9, max_size=9).filter(any))
@LAW
def test_the_interval_of_the_accuracy_is_wilsons_own_and_needs_no_gradient(
    cells: list[int],
) -> None:
    counts = np.array(cells, dtype=np.float64).reshape(3, 3)
    accuracy = ScoreSpec("own", lambda c: c.hits.sum(-1) / c.actual.sum(-1), "delta")
    value, *ends = interval(accuracy, counts, counts)
    expected = wilson(np.array(value), counts.sum())
    assert ends == pytest.approx([float(end) for end in expected], abs=1e-6)


@of_occurring
@given(cells=matrices)
@LAW
def test_every_interval_holds_its_value_inside_the_range(spec: ScoreSpec, cells: list[int]) -> None:
    counts = np.array(cells, dtype=np.float64).reshape(3, 3)
    value, low, high = interval(spec, counts, counts)
    if math.isnan(value):
        assert math.isnan(low)
        assert math.isnan(high)
    else:
        assert spec.range[0] <= low <= value <= high <= spec.range[1]
        assert low < high


@smooth
@given(cells=st.lists(st.integers(0, 60), min_size=16, max_size=16), weight=st.floats(0.2, 5))
@LAW
def test_the_interval_of_the_margins_contains_that_of_the_matrix(
    spec: ScoreSpec, cells: list[int], weight: float
) -> None:
    counts = np.array(cells, dtype=np.float64).reshape(4, 4) * weight
    squares = counts * weight
    value, low, high = interval(spec, counts, squares, matrix=False)
    expected, inner_low, inner_high = interval(spec, counts, squares)
    assert value == pytest.approx(expected, rel=1e-12, abs=1e-14, nan_ok=True)
    if not math.isnan(value):
        assert low <= inner_low + 1e-12
        assert inner_high <= high + 1e-12


@smooth
def test_where_errors_are_no_class_pair_s_own_the_margins_lose_little(spec: ScoreSpec) -> None:
    """Fifty classes, errors spread evenly: at most a third wider than with the matrix."""
    counts = np.full((50, 50), 2.0) + 300 * np.eye(50)
    _, low, high = interval(spec, counts, counts, matrix=False)
    _, inner_low, inner_high = interval(spec, counts, counts)
    assert high - low < 1.34 * (inner_high - inner_low)


@of_occurring
def test_a_class_that_never_occurs_changes_no_interval(spec: ScoreSpec) -> None:
    counts = np.array([[40.0, 5.0], [12.0, 50.0]])
    wider = np.pad(counts, ((0, 1), (0, 1)))
    expected = pytest.approx(interval(spec, counts, counts), abs=1e-12)
    assert interval(spec, wider, wider) == expected


def test_all_scores_at_once_are_each_by_itself() -> None:
    cells = np.random.default_rng(0).integers(0, 9, (6, 4, 4)).astype(np.float64)
    view = ClassCounts.of_matrices(cells, cells, cells, math.nan)
    together = delta_intervals(
        [s.formula for s in SPECS], [s.gradient for s in SPECS], [s.range for s in SPECS], view
    )
    for row, spec in enumerate(SPECS):
        for i, one in enumerate(cells):
            got = [float(end[row, i]) for end in together]
            assert got == pytest.approx(interval(spec, one, one), rel=1e-12, nan_ok=True)
