"""The table of coverage: populations of known values, and counting that can come out at 0."""

import math
from dataclasses import replace

import pytest
import torch

from tests.studies.intervals import (
    SCENARIOS,
    IntervalCounts,
    Sample,
    Scenario,
    binary,
    regression,
    simulate,
    table,
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
        preds, target = honest.draw(rows, g)
        return (preds if len(seen) == 1 else preds + 9), target  # the truth is drawn first

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
    preds, target, *group = scenario.draw(200, torch.Generator().manual_seed(1))
    metrics.update(preds, target, **({"group": group[0]} if group else {}))
    got = metrics.compute()
    by_image = "by image" in scenario.name
    assert got.n == (target.numel() if "images" in scenario.task else 200)
    assert got.faults == {}
    assert got.task == scenario.task.partition(",")[0]
    assert (
        got["mse" if got.task == "regression" else next(iter(got))].method == "jackknife-groups"
    ) == (bool(group) or by_image)


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
