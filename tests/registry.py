"""Every public metric once, with how to feed it: the laws run over this list, and a test keeps it complete."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from binary_cases import binary_batch, binary_oracle, binary_rows
from hypothesis import settings
from image_cases import IMAGE_SCORES, Triple, at_k_oracle, image_oracle, names_at
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
    scores = multiclass_scores(rows, classes, ks, absent, ignored)
    if not config.get("losses", True):
        scores.pop("nll", None)
        scores.pop("perplexity", None)
    for k in ks:
        if config.get("scores"):
            scores |= at_k_oracle(rows, classes, k)
    if "beta" in config:
        scores |= multiclass_fbeta(rows, classes, config["beta"], absent, ignored)
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


DENSE = (3, 2)


def in_images(
    case: MetricCase,
    classes_at: int = -1,
    *,
    rows_of: Callable[[Batch], Sequence[Triple]] | None = None,
    among: Sequence[int] = (),
) -> MetricCase:
    """The same rows as the six pixels of images, whose classes stand in the dimension `classes_at`.

    Args:
        case: Of the rows.
        classes_at: Where the classes stand.
        rows_of: From an image, laid flat, to the rows that count, where scores of images are asked for.
        among: Classes that these average over.
    """

    def dense(values: Tensor, rows: int) -> Tensor:
        if math.prod(values.shape[1:]) == 1:
            return values.reshape(rows, *DENSE)
        return values.reshape(rows, *DENSE, *values.shape[1:]).movedim(-1, classes_at)

    def flat(values: Tensor) -> Tensor:
        laid = values.movedim(classes_at, -1) if values.ndim > 1 + len(DENSE) else values
        return laid.reshape(-1, *laid.shape[1 + len(DENSE) :])

    def batch(rows: int, seed: int, weighted: bool) -> Batch:
        given = case.batch(rows * math.prod(DENSE), seed, weighted)
        return Batch(*(t if t is None else dense(t, rows) for t in vars(given).values()))

    def laid(b: Batch) -> Batch:
        return Batch(*(t if t is None else flat(t) for t in vars(b).values()))

    def oracle(batches: Sequence[Batch]) -> Mapping[str, Any]:
        expected = case.oracle(list(map(laid, batches)))
        if rows_of is None:
            return expected
        images = [rows_of(laid(b.rows([i]))) for b in batches for i in range(len(b.target))]
        return {**expected, **image_oracle(images, among)}

    return MetricCase(f"{case.name}-images", case.make, batch, oracle, case.other)


def soft_batch(classes: int, inputs: str, rows: int, seed: int, weighted: bool) -> Batch:
    """Targets of mixup; some are no probabilities, and some have no heaviest class."""
    g = torch.Generator().manual_seed(seed + 2)
    batch = multiclass_batch(classes, inputs, rows, seed, weighted)
    hot = torch.nn.functional.one_hot(batch.target.clamp(0, classes - 1), classes).float()
    share = torch.randint(2, 5, (rows, 1), generator=g) / 4
    batch.target = share * hot + (1 - share) * hot.roll(1, 1)
    spoiled = torch.randint(0, 12, (rows,), generator=g) == 0
    batch.target[:, 0] += 0.3 * spoiled
    return batch


def soft_oracle(config: Mapping[str, Any], batches: Sequence[Batch]) -> dict[str, Any]:
    """Against the heaviest class, which bad and tied targets do not have; losses against all of it."""
    hard, losses, briers, weights = [], [], [], []
    for batch in batches:
        soft = batch.target
        fine = ((soft.sum(1) - 1).abs() <= 0.01) & ((soft == soft.amax(1, True)).sum(1) == 1)
        hard.append(replace(batch, target=torch.where(fine, soft.argmax(1), -1)))
        given = torch.ones(len(soft)) if batch.weight is None else batch.weight
        fine &= batch.preds.isfinite().all(1) & (given >= 0) & given.isfinite()
        scores, soft = batch.preds[fine].double(), soft[fine].double()
        losses.append(torch.nn.functional.cross_entropy(scores, soft, reduction="none"))
        briers.append((scores.softmax(1) - soft).square().sum(1))
        weights.append(given[fine].double())
    expected = multiclass_oracle(config, hard)
    weight = torch.cat(weights)
    nll = float((torch.cat(losses) * weight).sum() / weight.sum())
    brier = float((torch.cat(briers) * weight).sum() / weight.sum())
    return expected | {"nll": nll, "perplexity": math.exp(nll), "brier": brier}


def soft_case(name: str, **config: Any) -> MetricCase:
    """A case of `MulticlassMetrics` with soft targets."""
    case = multiclass_case(name, **config)
    batch = partial(soft_batch, config["num_classes"], config["inputs"])
    return replace(case, batch=batch, oracle=partial(soft_oracle, config))


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
    regression_case(
        "regression-outputs-asked",
        num_outputs=2,
        scores=("mape", "smape", "wmape", "rmsle", "nrmse", "nrmse/std", "r2/variance_weighted"),
    ),
    regression_case("regression-ranks", scores=("spearman", "kendall"), capacity=0),
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
_NAMED = {case.name: case for case in PLAIN}
IMAGES = (
    in_images(_NAMED["binary-logits"]),
    in_images(_NAMED["multiclass-logits"]),
    in_images(_NAMED["multiclass-probs"], classes_at=1),
    in_images(_NAMED["multiclass-labels"]),
    in_images(_NAMED["multilabel-logits"], classes_at=1),
    in_images(_NAMED["regression"]),
)


def asked_case(inputs: str) -> MetricCase:
    """Images of four classes, with all scores of images and at k that can be asked for."""
    config: dict[str, Any] = {
        "num_classes": 4,
        "inputs": inputs,
        "ignore_index": -100,
        "scores": IMAGE_SCORES,
    }
    if inputs != "labels":
        config |= {"topk": (1, 2, 3), "scores": (*IMAGE_SCORES, *names_at(2), *names_at(3))}
    shape = {name: config[name] for name in ("num_classes", "inputs", "ignore_index")}

    def rows_of(image: Batch) -> Sequence[Triple]:
        rows = multiclass_rows([image], **shape)
        return list(zip(rows.target, rows.predicted, rows.weight, strict=True))

    case = multiclass_case(f"multiclass-{inputs}-asked", **config)
    return in_images(case, rows_of=rows_of, among=range(4))


def masks_case() -> MetricCase:
    """Masks, with the scores of images that can be asked for."""
    config = {"ignore_index": -100, "scores": IMAGE_SCORES[:4]}

    def rows_of(image: Batch) -> Sequence[Triple]:
        rows = binary_rows(config, [image])
        columns = (rows.target.tolist(), rows.decision.tolist(), rows.weight.tolist())
        return list(zip(*columns, strict=True))

    case = in_images(binary_case("binary-masks", **config), rows_of=rows_of, among=[1])

    def oracle(batches: Sequence[Batch]) -> Mapping[str, Any]:
        expected = dict(case.oracle(batches))
        for name in ("dice/image", "iou/image"):  # of the yes alone
            del expected[f"class:{name}"], expected[f"{name}/micro"]
        del expected["dice/image/generalized"]
        return expected

    return replace(case, oracle=oracle)


ASKED = (asked_case("logits"), asked_case("labels"), masks_case())
SOFT = (soft_case("multiclass-soft", num_classes=4, inputs="logits", topk=(2,)),)
CASES = PLAIN + PARTS + IMAGES + ASKED + SOFT
