"""Intervals against their definitions, their laws, and what they promise: about 95 of 100 cover the truth."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from registry import LAW
from torch import Tensor

from ptmetrics import MulticlassMetrics
from ptmetrics.metrics import margins as of
from ptmetrics.metrics.delta import delta, delta_of_margins
from ptmetrics.metrics.intervals import Z, mean_interval, mover, wilson

shares = st.floats(0, 1)
sizes = st.floats(1, 1e7)


Metric = Callable[[Tensor], Tensor]


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def root_of_the_score_equation(p: float, n: float, end: float) -> float:
    """The θ between p and `end` where |p − θ| is Z standard errors of θ, by bisection."""
    inside, outside = p, end
    for _ in range(200):
        middle = (inside + outside) / 2
        if abs(p - middle) <= Z * math.sqrt(middle * (1 - middle) / n):
            inside = middle
        else:
            outside = middle
    return inside


@given(shares, st.floats(1, 1e6))
@LAW
def test_wilson_solves_the_score_equation(p: float, n: float) -> None:
    low, high = wilson(f64(p), f64(n))
    assert float(low) == pytest.approx(root_of_the_score_equation(p, n, 0.0), abs=1e-9)
    assert float(high) == pytest.approx(root_of_the_score_equation(p, n, 1.0), abs=1e-9)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (24, 200, 0.0820, 0.1723),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),
    ],
)
def test_wilson_gives_the_published_limits(hits: int, n: int, low: float, high: float) -> None:
    got = wilson(f64(hits / n), f64(n))
    assert [round(float(end), 4) for end in got] == [low, high]


@given(shares, sizes, shares, st.floats(1.01, 10))
@LAW
def test_wilson_holds_its_value_mirrors_rises_with_it_and_narrows_with_n(
    p: float, n: float, q: float, more: float
) -> None:
    values = f64(p, 1 - p, max(p, q), p)
    low, high = (end.tolist() for end in wilson(values, f64(n, n, n, n * more)))
    assert all(0 <= a <= v <= b <= 1 for a, v, b in zip(low, values.tolist(), high, strict=True))
    assert low[0] == pytest.approx(1 - high[1], abs=1e-12)
    assert low[2] >= low[0] - 1e-12
    assert high[2] >= high[0] - 1e-12
    assert high[3] - low[3] < high[0] - low[0]


def test_wilson_of_nothing_is_nan_and_at_the_edges_is_exact() -> None:
    low, high = wilson(f64(math.nan, 0.5, 0.0, 1.0), f64(0, 0, 5, 5))
    assert low.isnan().tolist() == high.isnan().tolist() == [True, True, False, False]
    assert low[2] == 0.0
    assert high[3] == 1.0


@given(shares, sizes)
@LAW
def test_the_mean_of_one_proportion_has_its_wilson_interval(p: float, n: float) -> None:
    mean, low, high = mover(f64(p), f64(n))
    assert [float(low), float(high)] == pytest.approx(
        [float(end) for end in wilson(f64(p), f64(n))], abs=1e-12
    )
    assert float(mean) == p


@given(st.lists(st.tuples(shares, st.integers(1, 10**6)), min_size=1, max_size=8), st.randoms())
@LAW
def test_the_mean_of_proportions_holds_its_value_in_any_order_and_narrows_with_n(
    classes: list[tuple[float, int]], random: "np.random.Generator"
) -> None:
    p, n = (f64(*column) for column in zip(*classes, strict=True))
    mean, low, high = mover(p, n)
    assert 0 <= low <= mean <= high <= 1
    assert float(mean) == pytest.approx(float(p.mean()), abs=1e-12)
    more = mover(p, n * 4)
    assert more[2] - more[1] < high - low
    order = list(range(len(p)))
    random.shuffle(order)
    assert [float(v) for v in mover(p[order], n[order])] == pytest.approx(
        [float(mean), float(low), float(high)]
    )
    undefined = mover(torch.cat([p, f64(math.nan)]), torch.cat([n, f64(math.nan)]))
    assert [float(v) for v in undefined] == pytest.approx(
        [float(mean), float(low), float(high)], abs=1e-12
    )


def test_a_constant_in_a_mean_moves_the_value_and_adds_no_doubt() -> None:
    mean, low, high = mover(f64(0.5, 0.0), f64(100, math.nan))
    alone = wilson(f64(0.5), f64(100))
    assert float(mean) == 0.25
    assert [float(low), float(high)] == pytest.approx([float(end) / 2 for end in alone], abs=1e-12)
    assert [float(v) for v in mover(f64(1.0, 0.0), f64(math.nan, 0))] == [0.5, 0.5, 0.5]
    assert all(v.isnan() for v in mover(f64(math.nan), f64(math.nan)))


def test_the_mean_of_many_perfect_classes_is_as_sure_as_all_their_samples_together() -> None:
    classes, n = 50, 20
    _, low, high = mover(torch.ones(classes).double(), torch.full((classes,), float(n)).double())
    pooled, _ = wilson(f64(1.0), f64(classes * n))
    assert high == 1.0
    assert float(1 - low) == pytest.approx(float(1 - pooled), rel=0.02)


def each_mean(
    part: Callable[[Tensor], Tensor], whole: Callable[[Tensor], Tensor], equal: bool
) -> Metric:
    def score(m: Tensor) -> Tensor:
        weight = torch.ones_like(of.hits(m)) if equal else of.actual(m)
        return of.mean(part(m), whole(m), weight, math.nan)

    return score


def twice_hits(m: Tensor) -> Tensor:
    return 2 * of.hits(m)


def both(m: Tensor) -> Tensor:
    return of.actual(m) + of.predicted(m)


MARGIN_METRICS: dict[str, tuple[Metric, tuple[float, float]]] = {
    "f1/macro": (each_mean(twice_hits, both, True), (0, 1)),
    "f1/weighted": (each_mean(twice_hits, both, False), (0, 1)),
    "precision/weighted": (each_mean(of.hits, of.predicted, False), (0, 1)),
    "jaccard/macro": (each_mean(of.hits, of.either, True), (0, 1)),
    "specificity/macro": (each_mean(of.other_hits, of.others, True), (0, 1)),
    "mcc": (of.mcc, (-1, 1)),
    "kappa": (of.kappa, (-1, 1)),
}


def of_cells(metric: Metric) -> Metric:
    return lambda cells: metric(of.margins(cells))


# A class that never occurs has a specificity.
METRICS = {
    name: (of_cells(metric), bounds)
    for name, (metric, bounds) in MARGIN_METRICS.items()
    if not name.startswith("specificity")
}
matrices = st.lists(st.integers(0, 60), min_size=9, max_size=9)


def finite_differences(metric: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    gradient = torch.zeros_like(at)
    for i in range(at.numel()):
        step = torch.zeros_like(at).flatten()
        step[i] = h = 1e-4
        step = step.reshape(at.shape)
        gradient.view(-1)[i] = (metric(at + step) - metric(at - step)) / (2 * h)
    return gradient


@pytest.mark.parametrize("name", METRICS)
@given(cells=matrices, weight=st.floats(0.2, 5))
@LAW
def test_the_delta_interval_is_wilsons_at_the_n_that_finite_differences_find(
    name: str, cells: list[int], weight: float
) -> None:
    metric, (least, most) = METRICS[name]
    counts = (
        f64(*cells).reshape(3, 3) * weight + 0.5
    )  # no empty cell: its one-sided difference is no gradient
    squares = counts * weight
    value, low, high = delta(MARGIN_METRICS[name][0], counts, squares, (least, most))
    total = float(counts.sum())
    n = total**2 / float(squares.sum())
    added = Z * Z / 2 * total / n * torch.outer(counts.sum(1), counts.sum(0)) / total**2
    gradient = finite_differences(metric, counts + added)
    variance = (1 + Z * Z / 2 / n) * float(((squares + added * total / n) * gradient**2).sum())
    near = (float(metric(counts + added)) - least) / (most - least)
    worth = near * (1 - near) * (most - least) ** 2 / variance
    ends = wilson((value - least) / (most - least), f64(worth)[0])
    assert float(value) == pytest.approx(float(metric(counts)))
    expected = [least + (most - least) * float(end) for end in ends]
    assert [float(low), float(high)] == pytest.approx(expected, abs=1e-5)


@given(st.lists(st.integers(0, 60), min_size=9, max_size=9).filter(any))
@LAW
def test_the_delta_interval_of_the_accuracy_is_wilsons_own(cells: list[int]) -> None:
    counts = f64(*cells).reshape(3, 3)
    value, low, high = delta(
        lambda m: of.hits(m).sum(-1) / of.actual(m).sum(-1), counts, counts, (0, 1)
    )
    expected = wilson(value, counts.sum())
    assert [float(low), float(high)] == pytest.approx([float(end) for end in expected], abs=1e-9)


@pytest.mark.parametrize("name", METRICS)
@given(cells=matrices)
@LAW
def test_every_delta_interval_holds_its_value_inside_the_range(name: str, cells: list[int]) -> None:
    metric, (least, most) = MARGIN_METRICS[name]
    counts = f64(*cells).reshape(3, 3)
    value, low, high = delta(metric, counts, counts, (least, most))
    assert value.isnan() or least <= low <= value <= high <= most
    assert value.isnan() or low < high


@pytest.mark.parametrize("name", MARGIN_METRICS)
@given(cells=st.lists(st.integers(0, 60), min_size=16, max_size=16), weight=st.floats(0.2, 5))
@LAW
def test_the_interval_of_the_margins_contains_that_of_the_matrix(
    name: str, cells: list[int], weight: float
) -> None:
    metric, bounds = MARGIN_METRICS[name]
    counts = f64(*cells).reshape(4, 4) * weight
    squares = counts * weight
    value, low, high = delta_of_margins(metric, of.margins(counts), of.margins(squares), bounds)
    expected, inner_low, inner_high = delta(metric, counts, squares, bounds)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-14, equal_nan=True)
    assert value.isnan() or (low <= inner_low + 1e-12 and inner_high <= high + 1e-12)


def test_where_errors_are_no_class_pair_s_own_the_margins_lose_little() -> None:
    """Fifty classes, errors spread evenly: at most a third wider than with the matrix."""
    counts = torch.full((50, 50), 2.0).double() + 300 * torch.eye(50)
    for name, (metric, bounds) in MARGIN_METRICS.items():
        _, low, high = delta_of_margins(metric, of.margins(counts), of.margins(counts), bounds)
        _, inner_low, inner_high = delta(metric, counts, counts, bounds)
        assert high - low < 1.34 * (inner_high - inner_low), name


@pytest.mark.parametrize("name", METRICS)
def test_a_class_that_never_occurs_changes_no_interval(name: str) -> None:
    metric, bounds = MARGIN_METRICS[name]
    counts = torch.tensor([[40, 5], [12, 50]]).double()
    wider = torch.nn.functional.pad(counts, (0, 1, 0, 1))
    expected = [float(v) for v in delta(metric, counts, counts, bounds)]
    assert [float(v) for v in delta(metric, wider, wider, bounds)] == pytest.approx(
        expected, abs=1e-12
    )


def test_a_perfect_result_on_few_samples_is_not_certain() -> None:
    metrics = MulticlassMetrics(3, inputs="labels")
    metrics.update(torch.zeros(5, dtype=torch.int64), torch.zeros(5, dtype=torch.int64))
    got = metrics.compute()
    for name in ("accuracy", "f1/macro", "f1/weighted", "recall/macro", "precision/weighted"):
        assert got[name] == got[name].high == 1.0, name
        assert got[name].low < 0.8, name


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    x = np.random.default_rng(0).normal(3, 2, 50)
    moments = f64(50, 50, 50, x.sum(), x.sum(), (x**2).sum())
    mean, low, high = mean_interval(moments)
    half = Z * x.std(ddof=1) / math.sqrt(50)
    assert [float(mean), float(low), float(high)] == pytest.approx(
        [x.mean(), x.mean() - half, x.mean() + half]
    )
    once, low, high = mean_interval(f64(1, 1, 1, 7, 7, 49))
    assert float(once) == 7
    assert low.isnan()
    assert high.isnan()
    assert all(v.isnan() for v in mean_interval(f64(0, 0, 0, 0, 0, 0)))


@pytest.mark.parametrize("kind", ["wilson", "mover", "delta", "normal"])
def test_weights_of_a_constant_give_the_interval_without_weights(kind: str) -> None:
    g = torch.Generator().manual_seed(0)
    preds, target = torch.randn(80, 3, generator=g), torch.randint(0, 3, (80,), generator=g)
    plain, heavy = MulticlassMetrics(3), MulticlassMetrics(3)
    plain.update(preds, target)
    heavy.update(preds, target, torch.full((80,), 7.5))
    ours, theirs = heavy.compute(), plain.compute()
    names = [name for name, score in ours.items() if score.method == kind]
    assert names
    for name in names:
        expected = [theirs[name].value, theirs[name].low, theirs[name].high]
        assert [ours[name].value, ours[name].low, ours[name].high] == pytest.approx(
            expected, abs=1e-12
        )


def population(accuracy: list[float], prior: list[float]) -> np.ndarray:
    """Cell probabilities: errors of each class spread unevenly over the others."""
    wrong = np.random.default_rng(1).dirichlet(np.ones(len(prior)), len(prior))
    np.fill_diagonal(wrong, 0)
    right = np.array(accuracy)
    cells = wrong / wrong.sum(1, keepdims=True) * (1 - right)[:, None] + np.diag(right)
    return cells * (np.array(prior) / sum(prior))[:, None]


POPULATIONS = {
    "80 %": population([0.8] * 5, [1] * 5),
    "95 %": population([0.95] * 5, [1] * 5),
    "99 %": population([0.99] * 5, [1] * 5),
    "unequal": population([0.9, 0.8, 0.7, 0.7, 0.6], [50, 25, 12, 8, 5]),
}


def intervals(counts: Tensor) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Value, low and high of each score for matrices of shape (…, C, C)."""
    total, right = counts.sum((-2, -1)), counts.diagonal(dim1=-2, dim2=-1)
    means = {
        name: mover(right / counts.sum(axis), counts.sum(axis)) for name, axis in MEANS.items()
    }
    smooth = {
        name: delta(MARGIN_METRICS[name][0], counts, counts, bounds)
        for name, (_, bounds) in METRICS.items()
    }
    accuracy = right.sum(-1) / total
    return {"accuracy": (accuracy, *wilson(accuracy, total))} | means | smooth


MEANS = {"recall/macro": -1, "precision/macro": -2}


@pytest.mark.parametrize("name", POPULATIONS)
def test_about_95_of_100_intervals_cover_the_truth_at_200_samples_of_5_classes(name: str) -> None:
    cells, n = POPULATIONS[name], 200
    samples = np.random.default_rng(0).multinomial(n, cells.ravel(), 4000).reshape(-1, 5, 5)
    truth = intervals(torch.tensor(cells))
    covered = {
        score: float(((low <= truth[score][0]) & (truth[score][0] <= high)).double().mean())
        for score, (_, low, high) in intervals(torch.tensor(samples).double()).items()
    }
    assert all(0.92 <= share <= 0.98 for share in covered.values()), covered


def test_intervals_of_many_matrices_are_those_of_each() -> None:
    cells = torch.randint(0, 9, (6, 4, 4), generator=torch.Generator().manual_seed(0)).double()
    together = intervals(cells)
    for i, one in enumerate(cells):
        for name, columns in intervals(one).items():
            assert [float(c) for c in columns] == pytest.approx(
                [float(c[i]) for c in together[name]], nan_ok=True
            )
