"""The table of coverage: populations of known values, and counting that can come out at 0."""

import math
from dataclasses import replace

import pytest
import torch

import ptmetrics as pm
from tests.studies.intervals import (
    LONG_TAIL,
    SCENARIOS,
    IntervalCounts,
    Sample,
    Scenario,
    bar,
    binary,
    multiclass,
    regression,
    simulate,
    sliced,
    table,
    weighted,
)


def noise(target: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    return torch.randn(target.shape, generator=g, dtype=torch.float64)


def test_the_truths_are_those_of_the_populations() -> None:
    got = simulate(regression("normal", 80, noise), 30, 200_000)
    assert got["mse"].truth == pytest.approx(0.27, rel=0.02)
    assert got["r2"].truth == pytest.approx(0.73, abs=0.01)
    assert "max_error" not in got
    assert all(len(t.widths) == 30 and t.coverage >= 0.7 for t in got.values())
    yes = simulate(binary(0.5, 50), 3, 200_000)
    assert yes["accuracy"].truth == pytest.approx((1 + math.erf(1 / math.sqrt(2))) / 2, abs=0.005)
    assert yes["auroc"].truth == pytest.approx((1 + math.erf(1)) / 2, abs=0.005)


def test_intervals_around_something_else_cover_nothing() -> None:
    honest = regression("normal", 80, noise)
    seen = []

    def draw(rows: int, g: torch.Generator) -> Sample:
        seen.append(rows)
        preds, target, more = honest.draw(rows, g)
        return (preds if len(seen) == 1 else preds + 9), target, more  # the truth is drawn first

    got = simulate(replace(honest, draw=draw), 5, 1000)
    assert seen == [1000, *[80] * 5]
    assert got["mse"].coverage == got["bias"].coverage == got["r2"].coverage == 0.0


def test_a_run_is_the_same_twice() -> None:
    one, other = (simulate(binary(0.1, 60), 4, 1000) for _ in range(2))
    assert repr(one) == repr(other)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: f"{s.task}, {s.name}")
def test_every_scenario_draws_batches_that_its_metrics_take_without_a_fault(
    scenario: Scenario,
) -> None:
    metrics = scenario.make()
    preds, target, more = scenario.draw(200, torch.Generator().manual_seed(1))
    metrics.update(preds, target, **more)
    got = metrics.compute()
    by_image = "by image" in scenario.name
    assert got.n == (target.numel() if "images" in scenario.task else 200)
    assert got.faults == {}
    assert got.task == scenario.task.partition(",")[0]
    assert (
        got["mse" if got.task == "regression" else next(iter(got))].method == "jackknife-groups"
    ) == ("group" in more or by_image)


SMALL = (
    multiclass("rare", LONG_TAIL, 200),
    regression("lognormal", 100, noise),
    binary(0.1, 200),
    sliced(
        multiclass("rare", LONG_TAIL, 200), lambda slices: pm.MulticlassMetrics(5, slices=slices)
    ),
    weighted(regression("lognormal", 300, noise)),
)


@pytest.mark.slow
def test_a_small_grid_holds_the_bar() -> None:
    """150 samples a cell know a coverage of 0.95 to ±0.035: the whole grid is in docs/intervals.md."""
    coverage = {}
    for scenario in SMALL:
        for name, counts in simulate(scenario, 150, 300_000).items():
            if counts.widths:
                coverage[scenario.name, name] = counts.coverage
    assert len(coverage) > 80
    assert 0.93 <= sum(coverage.values()) / len(coverage) <= 0.98
    assert min(coverage.values()) >= 0.86, min(coverage.items(), key=lambda item: item[1])


def test_the_bar_is_the_mean_and_the_lowest_cells() -> None:
    counted = {"a": IntervalCounts(0.5, "wilson", [0.1] * 4, 4), "b": IntervalCounts(0, "x")}
    low = {"a": IntervalCounts(0.5, "wilson", [0.1] * 4, 2)}
    assert bar({"one": counted, "two": low}) == (
        "2 cells, mean 0.7500; the lowest: 0.500 `a` of two, 1.000 `a` of one\n"
    )


def test_the_table_marks_what_covers_too_little() -> None:
    good, bad = (
        IntervalCounts(0.5, "wilson", [0.1, 0.3], 2),
        IntervalCounts(0.5, "wilson", [0.1, 0.3], 1),
    )
    text = table(
        {
            "n=9": {"accuracy": good, "mcc": IntervalCounts(0.5, "delta")},
            "n=5": {"accuracy": bad, "mcc": good},
        }
    )
    assert text.splitlines()[2:] == [
        "| `accuracy` | wilson | 1.000 (0.2) | **0.500** (0.2) |",
        "| `mcc` | delta | undefined | 1.000 (0.2) |",
    ]
