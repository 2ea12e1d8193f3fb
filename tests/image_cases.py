"""Scores whose unit is the image, and scores at k, from their definitions, one image or class after the other."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from oracles import Rows, mean_of, multiclass_per_class, multiclass_scores

IMAGE_SCORES = (
    "accuracy/image",
    "exact_match",
    "dice/image",
    "iou/image",
    "dice/image/micro",
    "iou/image/micro",
    "dice/image/generalized",
)
Triple = tuple[int, int, float]


def overlap(rows: Sequence[Triple], classes: Sequence[int]) -> tuple[float, float]:
    """Dice and intersection over union of some classes together; NaN where none is on either side."""
    hits = math.fsum(w for y, p, w in rows if y == p and y in classes)
    size = math.fsum(w for pair in rows for side in pair[:2] for w in pair[2:] if side in classes)
    if not size:
        return math.nan, math.nan
    return 2 * hits / size, hits / (size - hits)


def generalized_dice(rows: Sequence[Triple], classes: Sequence[int]) -> float:
    """Each class by one over its squared size; one without targets as the rarest that has some."""
    sizes = {c: math.fsum(w for y, _, w in rows if y == c) for c in classes}
    least = min((size for size in sizes.values() if size > 0), default=1.0)
    hits, both = 0.0, 0.0
    for c in classes:
        worth = 1 / (sizes[c] or least) ** 2
        hits += worth * math.fsum(2 * w for y, p, w in rows if y == p == c)
        both += worth * math.fsum(w * ((y == c) + (p == c)) for y, p, w in rows)
    return hits / both if both else math.nan


def defined_mean(values: Sequence[float]) -> float:
    """The mean of what is no NaN."""
    some = [value for value in values if not math.isnan(value)]
    return math.fsum(some) / len(some) if some else math.nan


def scores_of_image(rows: Sequence[Triple], among: Sequence[int]) -> dict[str, float]:
    """Scores of one image by name, of each class as "NAME:CLASS"."""
    scores = dict.fromkeys(("accuracy/image", "exact_match"), math.nan)
    if any(w > 0 for _, _, w in rows):
        right = [float(y == p) for y, p, _ in rows]
        scores["accuracy/image"] = mean_of(right, [w for _, _, w in rows])
        scores["exact_match"] = float(all(y == p for y, p, w in rows if w > 0))
    for place, name in enumerate(("dice/image", "iou/image")):
        each = [overlap(rows, [c])[place] for c in among]
        scores[name] = defined_mean(each)
        scores[f"{name}/micro"] = overlap(rows, among)[place]
        scores |= {f"{name}:{c}": value for c, value in zip(among, each, strict=True)}
    scores["dice/image/generalized"] = generalized_dice(rows, among)
    return scores


def image_oracle(images: Sequence[Sequence[Triple]], among: Sequence[int]) -> dict[str, Any]:
    """Means over the images in which a score is defined, an image as heavy as its heaviest row.

    Args:
        images: Target, prediction and weight of the rows of each image that count.
        among: Classes that averages are over.
    """
    each = [scores_of_image(rows, among) for rows in images]
    heaviest = [max((w for _, _, w in rows), default=0.0) for rows in images]

    def mean(name: str) -> float:
        kept = [i for i, scores in enumerate(each) if not math.isnan(scores[name])]
        return mean_of([each[i][name] for i in kept], [heaviest[i] for i in kept])

    found: dict[str, Any] = {name: mean(name) for name in IMAGE_SCORES}
    for name in ("dice/image", "iou/image"):
        found[f"class:{name}"] = [mean(f"{name}:{c}") for c in among]
    return found


AVERAGES = ("macro", "micro", "weighted")
NAMES = ("precision", "recall", "f1")


def names_at(k: int) -> list[str]:
    """The scores at k that can be asked for; those of each class come with their plain name."""
    return [f"top{k}_{name}{a}" for name in NAMES for a in ("", *(f"/{a}" for a in AVERAGES))]


def at_k_oracle(rows: Rows, classes: int, k: int, absent: float = math.nan) -> Mapping[str, Any]:
    """Scores of the predictions at k: the target where it is among the k highest scores, else the highest.

    As in torchmetrics, precision and recall leave classes without targets out of their mean, F1
    does not.
    """
    found = [
        y if rank < k else p
        for y, p, rank in zip(rows.target, rows.predicted, rows.rank, strict=True)
    ]
    at_k = replace(rows, predicted=found)
    columns = multiclass_per_class(at_k, classes, absent)
    scores: dict[str, Any] = {}
    for name, value in multiclass_scores(at_k, classes, [], absent).items():
        if name.partition("/")[0] in NAMES:
            scores[f"top{k}_{name}"] = value
    for name in NAMES:
        scores[f"class:top{k}_{name}"] = columns[name]
    for name in ("precision", "recall"):
        some = [v for v, n in zip(columns[name], columns["support"], strict=True) if n > 0]
        scores[f"top{k}_{name}/macro"] = defined_mean(some)
    return scores
