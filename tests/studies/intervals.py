"""Coverage of the 95 % intervals by simulation: all scores, over populations that are known.

    python -m tests.studies.intervals [--quick] [--replicates N] [--task TASK]

Each replicate draws n rows, computes all scores and asks which intervals hold the population's
value, which is that of a sample of a million rows. Everything is seeded; a cell reads "coverage
(median width)". The last lines are the bar: the mean over all cells, and the lowest of them.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor, nn

import ptmetrics as pm

TRUTH_ROWS, FULL, QUICK = 1_000_000, 1000, 40
UNDER = 0.93  # a coverage below it is marked
NO_TRUTH = ("max_error",)  # the largest error has no value in a population without bounds

# Predictions, targets and what else `update` takes: weights, slices or groups of the rows.
Sample = tuple[Tensor, Tensor, dict[str, Tensor]]


@dataclass(frozen=True)
class Scenario:
    """A population and a number of rows drawn from it.

    Attributes:
        task: What is predicted, and for the head of the table how rows come.
        name: For the head of the column.
        n: Rows of a sample.
        make: New metrics.
        draw: So many rows.
        part: The slice whose scores are asked for; those of all rows where it is empty.
        in_the_bar: False for what is shown as a warning.
    """

    task: str
    name: str
    n: int
    make: Callable[[], Any]
    draw: Callable[[int, torch.Generator], Sample]
    part: str = ""
    in_the_bar: bool = True


def binary(prevalence: float, n: int) -> Scenario:
    """Normal logits, positives 2 higher, calibrated to the prevalence."""

    def draw(rows: int, g: torch.Generator) -> Sample:
        target = (torch.rand(rows, generator=g) < prevalence).long()
        evidence = torch.randn(rows, generator=g) + 2 * target
        return 2 * evidence - 2 + math.log(prevalence / (1 - prevalence)), target, {}

    return Scenario("binary", f"{prevalence:.0%} positive, n={n}", n, pm.BinaryMetrics, draw)


def multiclass(name: str, shares: Sequence[float], n: int) -> Scenario:
    """Normal logits, that of the right class higher, each class as frequent as its share."""
    frequency = torch.tensor(shares)

    def draw(rows: int, g: torch.Generator) -> Sample:
        target = torch.multinomial(frequency, rows, replacement=True, generator=g)
        evidence = torch.randn(rows, len(shares), generator=g)
        return (
            2 * (evidence + 2 * nn.functional.one_hot(target, len(shares))) + frequency.log(),
            target,
            {},
        )

    return Scenario(
        "multiclass",
        f"{name}, n={n}",
        n,
        lambda: pm.MulticlassMetrics(len(shares), topk=(1, 2)),
        draw,
    )


def multilabel(correlation: float, n: int) -> Scenario:
    """Four labels of 5 to 50 %; rows are easy or hard as a whole by the correlation."""
    rare = torch.tensor([0.05, 0.1, 0.3, 0.5])

    def draw(rows: int, g: torch.Generator) -> Sample:
        target = (torch.rand(rows, 4, generator=g) < rare).long()
        alone, shared = torch.randn(rows, 4, generator=g), torch.randn(rows, 1, generator=g)
        noise = math.sqrt(1 - correlation) * alone + math.sqrt(correlation) * shared
        return 2 * (noise + 2 * target - 1), target, {}

    name = f"errors correlated {correlation:g}, n={n}"
    return Scenario("multilabel", name, n, lambda: pm.MultilabelMetrics(4), draw)


def regression(name: str, n: int, noise: Callable[[Tensor, torch.Generator], Tensor]) -> Scenario:
    """Predictions of normal targets with a bias and noise; both are exponentials if lognormal."""

    def draw(rows: int, g: torch.Generator) -> Sample:
        target = torch.randn(rows, generator=g, dtype=torch.float64)
        preds = 0.9 * target + 0.5 * noise(target, g) + 0.1
        if name == "lognormal":
            preds, target = preds.exp(), target.exp()
        return preds, target, {}

    return Scenario("regression", f"{name}, n={n}", n, pm.RegressionMetrics, draw)


def _normal(target: Tensor, g: torch.Generator) -> Tensor:
    return torch.randn(target.shape, generator=g, dtype=torch.float64)


def _laplace(target: Tensor, g: torch.Generator) -> Tensor:
    return _normal(target, g).sign() * torch.empty_like(target).exponential_(generator=g)


LONG_TAIL = (0.5, 0.28, 0.15, 0.05, 0.02)
FRAMES = 25


def frames(
    plain: Scenario, shifted: Callable[[Tensor, Tensor], Tensor], patients: int, *, groups: bool
) -> Scenario:
    """The rows of another scenario as frames of patients.

    Each patient shifts the predictions of all his frames.

    Args:
        plain: Where rows come from.
        shifted: Predictions, and a standard normal number a row that is the patient's, to
            predictions.
        patients: How many.
        groups: Whether the metrics are told the patients.
    """
    make = {"binary": _binary, "multiclass": _multiclass, "regression": pm.RegressionMetrics}[
        plain.task
    ]

    def draw(rows: int, g: torch.Generator) -> Sample:
        preds, target, _ = plain.draw(rows, g)
        patient = torch.arange(rows) // FRAMES
        shift = torch.randn(rows // FRAMES + 1, generator=g)[patient]
        more = {"group": patient} if groups else {}
        return shifted(preds, shift), target, more

    name = f"{patients} patients, {'by groups' if groups else 'rows taken for independent'}"
    return Scenario(
        f"{plain.task}, {FRAMES} frames a patient",
        name,
        patients * FRAMES,
        lambda: make(groups=groups),
        draw,
        in_the_bar=groups,
    )


def weighted(plain: Scenario) -> Scenario:
    """The rows of another scenario with weights from 0.2 to 1.8 that tell nothing of the rows."""

    def draw(rows: int, g: torch.Generator) -> Sample:
        preds, target, _ = plain.draw(rows, g)
        weight = 0.2 + 1.6 * torch.rand(rows, generator=g, dtype=torch.float64)
        return preds, target, {"sample_weight": weight}

    return replace(plain, name=f"{plain.name}, weighted", draw=draw)


def sliced(plain: Scenario, make: Callable[..., Any]) -> Scenario:
    """The rows of another scenario as a fifth of a larger sample, whose other rows are in no slice."""

    def draw(rows: int, g: torch.Generator) -> Sample:
        preds, target, _ = plain.draw(rows, g)
        slices = torch.where(torch.arange(rows) % 5 == 0, 0, -1)
        return preds, target, {"slices": slices}

    return replace(
        plain,
        name=f"{plain.name} in a slice",
        n=5 * plain.n,
        make=lambda: make(slices=["one"]),
        draw=draw,
        part="one",
    )


def _binary(*, groups: bool) -> Any:
    return pm.BinaryMetrics(groups=groups, curves=None)


def _multiclass(*, groups: bool) -> Any:
    return pm.MulticlassMetrics(len(LONG_TAIL), groups=groups)


def _higher(preds: Tensor, shift: Tensor) -> Tensor:
    return preds + 1.5 * shift


def _first_class_higher(preds: Tensor, shift: Tensor) -> Tensor:
    return preds + 2 * shift.unsqueeze(1) * nn.functional.one_hot(torch.tensor(0), preds.shape[1])


def _off(preds: Tensor, shift: Tensor) -> Tensor:
    return preds + 0.4 * shift


CLUSTERED = tuple(
    frames(plain, shifted, patients, groups=groups)
    for plain, shifted in (
        (binary(0.5, 0), _higher),
        (multiclass("long tail", LONG_TAIL, 0), _first_class_higher),
        (regression("normal", 0, _normal), _off),
    )
    for patients, groups in ((40, True), (40, False), (12, True))
)
PIXELS = (16, 16)


def images(number: int, *, groups: bool | None) -> Scenario:
    """Images whose pixels are right as often as the image is easy: a share from Beta(16, 4)."""

    def draw(rows: int, g: torch.Generator) -> Sample:
        drawn = math.ceil(rows / math.prod(PIXELS))
        # Beta(16, 4) by its order statistic: the fourth largest of 19 uniform numbers.
        share = torch.rand(drawn, 19, generator=g).topk(4).values[:, -1].view(-1, 1, 1)
        target = torch.randint(0, 3, (drawn, *PIXELS), generator=g)
        wrong = torch.rand(drawn, *PIXELS, generator=g) > share
        return (target + wrong.long()) % 3, target, {}

    def make() -> Any:
        return pm.MulticlassMetrics(3, inputs="labels", groups=groups)

    how = "pixels taken for independent" if groups is False else "by image"
    n = number * math.prod(PIXELS)
    task = "multiclass, images of 256 pixels"
    return Scenario(task, f"{number} images, {how}", n, make, draw, in_the_bar=groups is not False)


IMAGES = (
    images(20, groups=None), images(20, groups=False), images(100, groups=None),
)  # fmt: skip
TAIL = "rarest class 2 %"
SCENARIOS = (
    binary(0.5, 30), binary(0.5, 200), binary(0.1, 200), binary(0.02, 500), binary(0.02, 5000),
    weighted(binary(0.1, 500)), sliced(binary(0.1, 200), pm.BinaryMetrics),
    multiclass("5 equal classes", (0.2,) * 5, 30), multiclass("5 equal classes", (0.2,) * 5, 200),
    multiclass(TAIL, LONG_TAIL, 100), multiclass(TAIL, LONG_TAIL, 200),
    multiclass(TAIL, LONG_TAIL, 1000), multiclass(TAIL, LONG_TAIL, 5000),
    weighted(multiclass(TAIL, LONG_TAIL, 500)),
    sliced(
        multiclass(TAIL, LONG_TAIL, 200),
        lambda slices: pm.MulticlassMetrics(5, topk=(1, 2), slices=slices),
    ),
    multilabel(0.0, 100), multilabel(0.0, 300), multilabel(0.8, 300), multilabel(0.8, 3000),
    weighted(multilabel(0.8, 300)),
    regression("normal", 30, _normal), regression("normal", 500, _normal),
    regression("Laplace errors", 200, _laplace), regression("lognormal", 30, _normal),
    regression("lognormal", 500, _normal), regression("lognormal", 5000, _normal),
    weighted(regression("Laplace errors", 300, _laplace)),
    sliced(regression("lognormal", 200, _normal), pm.RegressionMetrics),
    *CLUSTERED, *IMAGES,
)  # fmt: skip


@dataclass
class IntervalCounts:
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


def simulate(
    scenario: Scenario, replicates: int, truth_rows: int = TRUTH_ROWS
) -> dict[str, IntervalCounts]:
    """Coverage and widths of every score in one scenario."""
    g = torch.Generator().manual_seed(20_240_229)
    truth = _scores(scenario, truth_rows, g)
    counted = {
        name: IntervalCounts(score.value, score.method)
        for name, score in truth.items()
        if name not in NO_TRUTH
    }
    for _ in range(replicates):
        scores = _scores(scenario, scenario.n, g)
        for name, counts in counted.items():
            s = scores[name]
            if not math.isnan(s.low):
                counts.widths.append(s.high - s.low)
                counts.held += s.low <= counts.truth <= s.high
    return counted


def _scores(scenario: Scenario, rows: int, g: torch.Generator) -> Mapping[str, pm.Score]:
    metrics = scenario.make()
    preds, target, more = scenario.draw(rows, g)
    metrics.update(preds, target, **more)
    scores: pm.Scores = metrics.compute()
    if scenario.part:
        return scores.per_slice[scenario.part]
    return scores


def table(results: Mapping[str, Mapping[str, IntervalCounts]]) -> str:
    """Markdown: a row a score, a column a scenario; what covers too little stands bold."""
    names = next(iter(results.values()))
    head = ["score", "interval", *results]
    rows = []
    for name, t in names.items():
        cells = [_cell(r[name]) if name in r else "" for r in results.values()]
        rows.append([f"`{name}`", t.method, *cells])
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(counts: IntervalCounts) -> str:
    if not counts.widths:
        return "undefined"
    shown = f"{counts.coverage:.3f}"
    shown = f"**{shown}**" if counts.coverage < UNDER else shown
    return f"{shown} ({statistics.median(counts.widths):.3g})"


def bar(results: Mapping[str, Mapping[str, IntervalCounts]]) -> str:
    """The mean coverage over all cells, and the lowest."""
    cells = []
    for column, scores in results.items():
        for name, counts in scores.items():
            if counts.widths:
                cells.append((counts.coverage, f"`{name}` of {column}"))
    mean = statistics.fmean(coverage for coverage, _ in cells)
    lowest = ", ".join(f"{coverage:.3f} {name}" for coverage, name in sorted(cells)[:5])
    return f"{len(cells)} cells, mean {mean:.4f}; the lowest: {lowest}\n"


def _one(number: int, replicates: int, truth_rows: int) -> dict[str, IntervalCounts]:
    torch.set_num_threads(1)
    return simulate(SCENARIOS[number], replicates, truth_rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all scenarios on two processes and print a table a task."""
    parser = argparse.ArgumentParser(prog="python -m tests.studies.intervals")
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
        counted = list(pool.map(_one, chosen, [replicates] * count, rows))
    sys.stdout.write(
        f"{replicates} replicates a scenario; coverage of the 95 % interval (its median width)\n"
    )
    scenarios = [SCENARIOS[i] for i in chosen]
    for task in dict.fromkeys(s.task for s in scenarios):
        results = {s.name: t for s, t in zip(scenarios, counted, strict=True) if s.task == task}
        sys.stdout.write(f"\n### {task}\n\n{table(results)}")
    held = {
        f"{s.task}, {s.name}": t for s, t in zip(scenarios, counted, strict=True) if s.in_the_bar
    }
    if held:
        sys.stdout.write(f"\n{bar(held)}")


if __name__ == "__main__":
    main()
