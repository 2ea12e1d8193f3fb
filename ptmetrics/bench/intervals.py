"""Coverage of the 95 % intervals by simulation: every score of every task, over populations that are known.

    python -m ptmetrics.bench.intervals [--quick] [--replicates N] [--task TASK]

Each replicate draws n rows, computes all scores and asks which intervals hold the population's value, which is that
of a sample of a million rows. Everything is seeded; a cell reads "coverage (mean width)".
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

import torch

from ptmetrics.bench.populations import SCENARIOS, Scenario
from ptmetrics.metrics.score import Scores

TRUTH_ROWS, FULL, QUICK = 1_000_000, 1000, 40
UNDER = 0.93  # a coverage below it is marked
NO_TRUTH = ("max_error",)  # the largest error has no value in a population without bounds


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
        name: Tally(score.value, score.method)
        for name, score in truth.items()
        if name not in NO_TRUTH
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
    metrics, (preds, target, *group) = scenario.make(), scenario.draw(rows, g)
    metrics.update(preds, target, **({"group": group[0]} if group else {}))
    return metrics.compute()


def table(results: Mapping[str, Mapping[str, Tally]]) -> str:
    """Markdown of one task: a row a score, a column a scenario; what covers too little stands bold."""
    names = next(iter(results.values()))
    head = ["score", "interval", *results]
    rows = [
        [f"`{name}`", t.method, *(_cell(r[name]) for r in results.values())]
        for name, t in names.items()
    ]
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
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK} replicates, to see that it runs"
    )
    parser.add_argument("--replicates", type=int, default=FULL, help="samples a scenario")
    parser.add_argument(
        "--task", choices=list(dict.fromkeys(s.task for s in SCENARIOS)), help="only this table"
    )
    options = parser.parse_args(arguments)
    replicates = QUICK if options.quick else options.replicates
    chosen = [i for i, scenario in enumerate(SCENARIOS) if options.task in (None, scenario.task)]
    count = len(chosen)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        rows = [TRUTH_ROWS // 10 if options.quick else TRUTH_ROWS] * count
        tallies = list(pool.map(_one, chosen, [replicates] * count, rows))
    sys.stdout.write(
        f"{replicates} replicates a scenario; coverage of the 95 % interval (its mean width)\n"
    )
    scenarios = [SCENARIOS[i] for i in chosen]
    for task in dict.fromkeys(s.task for s in scenarios):
        results = {s.name: t for s, t in zip(scenarios, tallies, strict=True) if s.task == task}
        sys.stdout.write(f"\n### {task}\n\n{table(results)}")


if __name__ == "__main__":
    main()
