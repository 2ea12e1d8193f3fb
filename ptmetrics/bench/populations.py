"""Populations that are known, for the coverage of intervals: how rows are drawn and which metrics count them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ptmetrics.metrics.binary_metrics import BinaryMetrics
from ptmetrics.metrics.multiclass_metrics import MulticlassMetrics
from ptmetrics.metrics.multilabel_metrics import MultilabelMetrics
from ptmetrics.metrics.regression_metrics import RegressionMetrics
from ptmetrics.metrics.task import TaskMetrics

Sample = tuple[
    Tensor, ...
]  # predictions, targets and, where rows come in groups, the group of each


@dataclass(frozen=True)
class Scenario:
    """A population and a number of rows drawn from it.

    Attributes:
        task: What is predicted, and for the head of the table how rows come.
        name: For the head of the column.
        n: Rows of a sample.
        make: New metrics.
        draw: So many rows.
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
        return 2 * (
            evidence + 2 * nn.functional.one_hot(target, len(shares))
        ) + frequency.log(), target

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
FRAMES = 25


def frames(
    plain: Scenario, shifted: Callable[[Tensor, Tensor], Tensor], patients: int, *, groups: bool
) -> Scenario:
    """The rows of another scenario as frames of patients, each of whom shifts the predictions of all his frames.

    Args:
        plain: Where rows come from.
        shifted: Predictions, and a standard normal number a row that is the patient's, to predictions.
        patients: How many.
        groups: Whether the metrics are told the patients.
    """
    make = {"binary": _binary, "multiclass": _multiclass, "regression": RegressionMetrics}[
        plain.task
    ]

    def draw(rows: int, g: torch.Generator) -> Sample:
        preds, target = plain.draw(rows, g)
        patient = torch.arange(rows) // FRAMES
        shift = torch.randn(rows // FRAMES + 1, generator=g)[patient]
        sample = (shifted(preds, shift), target)
        return (*sample, patient) if groups else sample

    name = f"{patients} patients, {'by groups' if groups else 'rows taken for independent'}"
    return Scenario(
        f"{plain.task}, {FRAMES} frames a patient",
        name,
        patients * FRAMES,
        lambda: make(groups=groups),
        draw,
    )


def _binary(*, groups: bool) -> TaskMetrics:
    return BinaryMetrics(groups=groups, curves=None)


def _multiclass(*, groups: bool) -> TaskMetrics:
    return MulticlassMetrics(len(LONG_TAIL), groups=groups)


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
SCENARIOS = (
    binary(0.5, 200), binary(0.1, 200), binary(0.02, 500), binary(0.02, 5000),
    multiclass("5 equal classes", (0.2,) * 5, 200), multiclass("rarest class 2 %", LONG_TAIL, 200),
    multiclass("rarest class 2 %", LONG_TAIL, 1000),
    multilabel(0.0, 300), multilabel(0.8, 300),
    regression("normal", 50, _normal), regression("normal", 500, _normal),
    regression("Laplace errors", 500, _laplace), regression("lognormal", 500, _normal),
    *CLUSTERED,
)  # fmt: skip
