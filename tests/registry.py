"""Every public metric once, with how to feed it: the laws run over this list, and a test keeps it complete."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from binary_cases import binary_batch, binary_oracle
from hypothesis import settings
from multilabel_cases import multilabel_batch, multilabel_oracle
from oracles import (
    Batch,
    multiclass_fbeta,
    multiclass_per_class,
    multiclass_rows,
    multiclass_scores,
)
from regression_cases import regression_batch, regression_oracle
from torch import Tensor

from ptmetrics import BinaryMetrics, MulticlassMetrics, MultilabelMetrics, RegressionMetrics
from ptmetrics.metrics.base import Metrics

LAW = settings(deadline=None, max_examples=12, derandomize=True)


@dataclass(frozen=True)
class MetricCase:
    """One metric in one configuration.

    Attributes:
        name: For the test's id.
        make: A new metric; keyword arguments replace those of the configuration.
        batch: (rows, seed, weighted) to a batch with ties, faults and ignored targets in it.
        oracle: Batches to the expected scores, per-class lists as "class:NAME".
        other: Arguments that make a metric of another configuration.
    """

    name: str
    make: Callable[..., Metrics]
    batch: Callable[[int, int, bool], Batch]
    oracle: Callable[[Sequence[Batch]], Mapping[str, Any]]
    other: Mapping[str, Any]

    def counted(self, batches: Sequence[Batch]) -> Metrics:
        """A new metric that has seen `batches` in order."""
        metrics = self.make()
        for batch in batches:
            batch.feed(metrics)
        return metrics


def class_scores(rows: int, classes: int, inputs: str, generator: torch.Generator) -> Tensor:
    """Scores with ties: small whole logits, a soft maximum of them, or labels."""
    if inputs == "labels":
        return torch.randint(0, classes, (rows,), generator=generator)
    scores = torch.randint(-3, 4, (rows, classes), generator=generator).float()
    return scores.softmax(1) if inputs == "probs" else scores


def spoil(batch: Batch, classes: int, inputs: str, generator: torch.Generator) -> None:
    """Give about every ninth row one of the faults that are refused or counted."""
    kind = torch.randint(0, 40, (len(batch.target),), generator=generator)
    batch.target[kind == 0], batch.target[kind == 1], batch.target[kind == 2] = -1, classes, -100
    if inputs == "labels":
        batch.preds[kind == 3] = classes + 3
    else:
        batch.preds[kind == 3, -1] = math.nan
        batch.preds[kind == 4, 0] = math.inf
    if batch.weight is not None:
        batch.weight[kind == 5], batch.weight[kind == 6], batch.weight[kind == 7] = (
            0.0,
            -1.0,
            math.nan,
        )


def multiclass_batch(classes: int, inputs: str, rows: int, seed: int, weighted: bool) -> Batch:
    """Targets that favour low classes, so that classes are missing from small batches."""
    g = torch.Generator().manual_seed(seed)
    target = torch.minimum(*torch.randint(0, classes, (2, rows), generator=g))
    weight = torch.rand(rows, generator=g, dtype=torch.float64) if weighted else None
    batch = Batch(class_scores(rows, classes, inputs, g), target, weight)
    spoil(batch, classes, inputs, g)
    return batch


def multiclass_oracle(config: Mapping[str, Any], batches: Sequence[Batch]) -> dict[str, Any]:
    """Scalars and per-class lists for a configuration of `MulticlassMetrics`."""
    classes, absent = config["num_classes"], config.get("absent", math.nan)
    ks = [k for k in config.get("topk", ()) if k > 1]
    ignored = config.get("ignore_index")
    rows = multiclass_rows(
        batches, num_classes=classes, inputs=config["inputs"], ignore_index=ignored
    )
    per_class = multiclass_per_class(rows, classes, absent)
    scores = multiclass_scores(rows, classes, ks, absent)
    if not config.get("losses", True):
        scores.pop("nll", None)
        scores.pop("perplexity", None)
    if "beta" in config:
        scores |= multiclass_fbeta(rows, classes, config["beta"], absent)
    return scores | {f"class:{name}": values for name, values in per_class.items()}


def multiclass_case(name: str, **config: Any) -> MetricCase:
    """A case of `MulticlassMetrics`."""
    return MetricCase(
        name,
        lambda **changes: MulticlassMetrics(**(config | changes)),
        partial(multiclass_batch, config["num_classes"], config["inputs"]),
        partial(multiclass_oracle, config),
        {"num_classes": config["num_classes"] + 1},
    )


def multilabel_case(name: str, **config: Any) -> MetricCase:
    """A case of `MultilabelMetrics`."""
    return MetricCase(
        name,
        lambda **changes: MultilabelMetrics(**(config | changes)),
        partial(multilabel_batch, config["num_labels"], config["inputs"]),
        partial(multilabel_oracle, config),
        {"num_labels": config["num_labels"] + 1},
    )


def regression_case(name: str, **config: Any) -> MetricCase:
    """A case of `RegressionMetrics`."""
    outputs = config.get("num_outputs", 1)
    return MetricCase(
        name,
        lambda **changes: RegressionMetrics(**(config | changes)),
        partial(regression_batch, outputs),
        partial(regression_oracle, config),
        {"num_outputs": outputs + 1},
    )


def binary_case(name: str, **config: Any) -> MetricCase:
    """A case of `BinaryMetrics`."""
    return MetricCase(
        name,
        lambda **changes: BinaryMetrics(**(config | changes)),
        partial(binary_batch, config.get("inputs", "logits")),
        partial(binary_oracle, config),
        {"threshold": 0.7},
    )


def in_parts(case: MetricCase) -> MetricCase:
    """The same with three slices and groups, ids that name none, and slices that there are not."""

    def batch(rows: int, seed: int, weighted: bool) -> Batch:
        g = torch.Generator().manual_seed(seed + 1)
        slices, group = (torch.randint(-1, most, (rows,), generator=g) for most in (4, 30))
        return replace(case.batch(rows, seed, weighted), slices=slices, group=group - 2**62)

    def make(**changes: Any) -> Metrics:
        return case.make(**({"slices": ("a", "b", "c"), "groups": True} | changes))

    return MetricCase(f"{case.name}-parts", make, batch, case.oracle, {"slices": 4})


PLAIN = (
    binary_case("binary-logits", ignore_index=-100, beta=2),
    binary_case("binary-probs", inputs="probs", threshold=0.3, absent=0.0),
    binary_case("binary-labels", inputs="labels", ignore_index=-100, absent=1.0),
    binary_case("binary-counts", curves=None, losses=False),
    multiclass_case(
        "multiclass-logits", num_classes=4, inputs="logits", topk=(1, 2, 3), ignore_index=-100
    ),
    multiclass_case("multiclass-probs", num_classes=5, inputs="probs", topk=(2,), absent=0.0),
    multiclass_case(
        "multiclass-labels", num_classes=3, inputs="labels", ignore_index=1, absent=1.0
    ),
    multiclass_case(
        "multiclass-curves", num_classes=3, inputs="logits", curves=True, temperature=True
    ),
    multiclass_case("multiclass-counts", num_classes=40, inputs="logits", losses=False, beta=0.5),
    multiclass_case(
        "multiclass-probs-counts", num_classes=3, inputs="probs", losses=False, curves=True
    ),
    multiclass_case("multiclass-binary", num_classes=2, inputs="logits", ignore_index=0),
    multilabel_case("multilabel-logits", num_labels=4, inputs="logits", ignore_index=-1),
    multilabel_case("multilabel-probs", num_labels=3, inputs="probs", threshold=0.8, absent=0.0),
    multilabel_case("multilabel-labels", num_labels=1, inputs="labels", absent=1.0),
    regression_case("regression"),
    regression_case("regression-outputs", num_outputs=3, quantiles=(0.25,)),
)
PARTS = tuple(
    in_parts(case)
    for case in PLAIN
    if case.name
    in (
        "binary-logits",
        "multiclass-logits",
        "multiclass-labels",
        "multilabel-logits",
        "regression-outputs",
    )
)
CASES = PLAIN + PARTS
