"""Coverage of the 95 % intervals by simulation: every score of every task, over populations that are known.

    python -m ptmetrics.bench.intervals [--quick] [--replicates N]

Each replicate draws n rows, computes all scores and asks which intervals hold the population's value, which is that
of a sample of a million rows. Everything is seeded; a cell reads "coverage (mean width)".
"""

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

import torch
from torch import Tensor, nn

from ptmetrics.scores.binary_metrics import BinaryMetrics
from ptmetrics.scores.multiclass_metrics import MulticlassMetrics
from ptmetrics.scores.multilabel_metrics import MultilabelMetrics
from ptmetrics.scores.regression_metrics import RegressionMetrics
from ptmetrics.scores.score import Scores
from ptmetrics.scores.task import TaskMetrics

TRUTH_ROWS, FULL, QUICK = 1_000_000, 1000, 40
UNDER = 0.93  # a coverage below it is marked
NO_TRUTH = ("max_error",)  # the largest error has no value in a population without bounds

Sample = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Scenario:
    """A population and a number of rows drawn from it.

    Attributes:
        task: What is predicted.
        name: For the head of the column.
        n: Rows of a sample.
        make: New metrics.
        draw: Predictions and targets of so many rows.
    """

    task: str
    name: str
    n: int
    make: Callable[[], TaskMetrics]
    draw: Callable[[int, torch.Generator], Sample]


def binary(prevalence: float, n: int) -> Scenario:
    """Normal logits, positives 2 higher, calibrated to the prevalence."""

    def draw(rows: int, g: torch.Generator) -> Sample:
        target = (torch.rand(rows, generator=g) < prevalence).long()
        evidence = torch.randn(rows, generator=g) + 2 * target
        return 2 * evidence - 2 + math.log(prevalence / (1 - prevalence)), target

    return Scenario("binary", f"{prevalence:.0%} positive, n={n}", n, BinaryMetrics, draw)


def multiclass(name: str, shares: Sequence[float], n: int) -> Scenario:
    """Normal logits, that of the right class higher, each class as frequent as its share."""
    frequency = torch.tensor(shares)

    def draw(rows: int, g: torch.Generator) -> Sample:
        target = torch.multinomial(frequency, rows, replacement=True, generator=g)
        evidence = torch.randn(rows, len(shares), generator=g)
        return 2 * (evidence + 2 * nn.functional.one_hot(target, len(shares))) + frequency.log(), target

    return Scenario(
        "multiclass", f"{name}, n={n}", n, lambda: MulticlassMetrics(len(shares), topk=(1, 2)), draw
    )


def multilabel(correlation: float, n: int) -> Scenario:
    """Four labels of 5 to 50 %; rows are easy or hard as a whole by the correlation."""
    rare = torch.tensor([0.05, 0.1, 0.3, 0.5])

    def draw(rows: int, g: torch.Generator) -> Sample:
        target = (torch.rand(rows, 4, generator=g) < rare).long()
        alone, shared = torch.randn(rows, 4, generator=g), torch.randn(rows, 1, generator=g)
        noise = math.sqrt(1 - correlation) * alone + math.sqrt(correlation) * shared
        return 2 * (noise + 2 * target - 1), target

    make = MultilabelMetrics(4)
    return Scenario("multilabel", f"errors correlated {correlation:g}, n={n}", n, make.fresh, draw)


def regression(name: str, n: int, noise: Callable[[Tensor, torch.Generator], Tensor]) -> Scenario:
    """Predictions of normal targets with a bias and the given noise; lognormal ones are both exponentials."""

    def draw(rows: int, g: torch.Generator) -> Sample:
        target = torch.randn(rows, generator=g, dtype=torch.float64)
        preds = 0.9 * target + 0.5 * noise(target, g) + 0.1
        return (preds.exp(), target.exp()) if name == "lognormal" else (preds, target)

    return Scenario("regression", f"{name}, n={n}", n, RegressionMetrics, draw)


def _normal(target: Tensor, g: torch.Generator) -> Tensor:
    return torch.randn(target.shape, generator=g, dtype=torch.float64)


def _laplace(target: Tensor, g: torch.Generator) -> Tensor:
    return _normal(target, g).sign() * torch.empty_like(target).exponential_(generator=g)


LONG_TAIL = (0.5, 0.28, 0.15, 0.05, 0.02)
SCENARIOS = (
    binary(0.5, 200), binary(0.1, 200), binary(0.02, 500), binary(0.02, 5000),
    multiclass("5 equal classes", (0.2,) * 5, 200), multiclass("rarest class 2 %", LONG_TAIL, 200),
    multiclass("rarest class 2 %", LONG_TAIL, 1000),
    multilabel(0.0, 300), multilabel(0.8, 300),
    regression("normal", 50, _normal), regression("normal", 500, _normal),
    regression("Laplace errors", 500, _laplace), regression("lognormal", 500, _normal),
)  # fmt: skip


@dataclass
class Tally:
    """What became of the intervals of one score.

    Attributes:
        truth: The population's value.
        method: How the interval is made.
        widths: Of the replicates where the score and its ends are defined.
        held: Number of these that hold the truth.
    """

    truth: float
    method: str
    widths: list[float] = field(default_factory=list)
    held: int = 0

    @property
    def coverage(self) -> float:
        """Share of the defined intervals that hold the truth; NaN for none."""
        return self.held / len(self.widths) if self.widths else math.nan


def simulate(scenario: Scenario, replicates: int, truth_rows: int = TRUTH_ROWS) -> dict[str, Tally]:
    """Coverage and widths of every score in one scenario."""
    g = torch.Generator().manual_seed(20_240_229)
    truth = _scores(scenario, truth_rows, g)
    tallies = {
        name: Tally(score.value, score.method) for name, score in truth.items() if name not in NO_TRUTH
    }
    for _ in range(replicates):
        scores = _scores(scenario, scenario.n, g)
        for name, tally in tallies.items():
            s = scores[name]
            if not math.isnan(s.low):
                tally.widths.append(s.high - s.low)
                tally.held += s.low <= tally.truth <= s.high
    return tallies


def _scores(scenario: Scenario, rows: int, g: torch.Generator) -> Scores:
    metrics = scenario.make()
    metrics.update(*scenario.draw(rows, g))
    return metrics.compute()


def table(results: Mapping[str, Mapping[str, Tally]]) -> str:
    """Markdown of one task: a row a score, a column a scenario; what covers too little stands bold."""
    names = next(iter(results.values()))
    head = ["score", "interval", *results]
    rows = [[f"`{name}`", t.method, *(_cell(r[name]) for r in results.values())] for name, t in names.items()]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(tally: Tally) -> str:
    if not tally.widths:
        return "undefined"
    shown = f"{tally.coverage:.3f}"
    shown = f"**{shown}**" if tally.coverage < UNDER else shown
    return f"{shown} ({sum(tally.widths) / len(tally.widths):.3g})"


def _one(number: int, replicates: int, truth_rows: int) -> dict[str, Tally]:
    torch.set_num_threads(1)
    return simulate(SCENARIOS[number], replicates, truth_rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all scenarios on two processes and print a table a task."""
    parser = argparse.ArgumentParser(prog="python -m ptmetrics.bench.intervals")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} replicates, to see that it runs")
    parser.add_argument("--replicates", type=int, default=FULL, help="samples a scenario")
    options = parser.parse_args(arguments)
    replicates = QUICK if options.quick else options.replicates
    count = len(SCENARIOS)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        rows = [TRUTH_ROWS // 10 if options.quick else TRUTH_ROWS] * count
        tallies = list(pool.map(_one, range(count), [replicates] * count, rows))
    sys.stdout.write(f"{replicates} replicates a scenario; coverage of the 95 % interval (its mean width)\n")
    for task in dict.fromkeys(s.task for s in SCENARIOS):
        results = {s.name: t for s, t in zip(SCENARIOS, tallies, strict=True) if s.task == task}
        sys.stdout.write(f"\n### {task}\n\n{table(results)}")


if __name__ == "__main__":
    main()
