"""Answers of pictures and sequences: Dice and IoU, of all pixels or of each picture, and exact matches."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

import ptmetrics as pm
from tests.studies.peer_call import Call, as_tensor
from tests.studies.peer_metrics import (
    Batch,
    asked,
    averages,
    multiclass,
    multilabel,
    pick,
    rows_of,
    score,
)

Picture: TypeAlias = tuple[Tensor, Tensor]  # a class of each pixel, or a plane of each class


def pictures_of(call: Call) -> list[Picture]:
    """Both sides of each picture: the class of each pixel, or planes where a pixel may be of none or several."""
    planes = call.get("input_format", "one-hot")
    found: list[Picture] = []
    for batch in call.batches:
        preds, target = as_tensor(batch["preds"]), as_tensor(batch["target"])
        both_planes = planes == "one-hot"
        if both_planes or preds.ndim > target.ndim:
            call.arguments.setdefault("planes", preds.shape[1])
        elif target.ndim > preds.ndim:
            call.arguments.setdefault("planes", target.shape[1])
        if both_planes and not (one_of_all(preds) and one_of_all(target)):
            found += zip(preds.flatten(2), target.flatten(2), strict=True)
            continue
        deep = preds.ndim
        if both_planes or preds.ndim > target.ndim:
            preds = preds.argmax(1)
        if both_planes or target.ndim > deep:
            target = target.argmax(1)
        found += zip(preds.flatten(1), target.flatten(1), strict=True)
    return found


def one_of_all(planes: Tensor) -> bool:
    """Whether each pixel is of one class, or has a score for each."""
    return planes.is_floating_point() or bool((planes.sum(1) == 1).all())


def of_pictures(call: Call, pictures: list[Picture], name: str) -> Any:
    """A score of some pictures; without class 0 where it is background."""
    classes = int(call.get("num_classes", call.get("planes")))
    rest = list(range(1, classes))
    background = call.get("include_background", True)
    options: dict[str, Any] = {"absent": math.nan}
    if pictures[0][0].ndim > 1:
        chosen = list(range(classes)) if background else rest
        rows = [(preds[chosen].T.long(), target[chosen].T, None) for preds, target in pictures]
        call.arguments["num_labels"] = len(chosen)
        options.update(asked(pm.MultilabelMetrics, name))
        return score(call, multilabel(call, rows, **options), name)
    if not background:
        call.arguments["among"] = rest
    pixels: list[Batch] = [
        (preds[None].long(), target[None].long(), None) for preds, target in pictures
    ]
    options.update(asked(pm.MulticlassMetrics, name))
    return score(call, multiclass(call, pixels, num_classes=classes, **options), name)


DICE_OF_IMAGES = {
    "macro": "dice/image",
    "micro": "dice/image/micro",
    "none": "each:dice/image",
}


def dice_of(call: Call) -> Any:
    """Dice of all pictures together, or the mean of that of each; the function gives that of each."""
    name = pick(call, averages("f1"))
    pictures = pictures_of(call)
    if call.get("aggregation_level", "samplewise") == "global":
        return of_pictures(call, pictures, name)
    if call.whole and name != "f1/weighted" and pictures[0][0].ndim == 1:
        return of_pictures(call, pictures, pick(call, DICE_OF_IMAGES))
    values = np.array([of_pictures(call, [picture], name) for picture in pictures])
    call.recipe = True
    return np.nanmean(values, 0) if call.whole else values


def generalized_dice_of(call: Call) -> Any:
    """Of each picture's counts of each class, which weigh by the size of the class; their mean for the class."""
    power = {"square": 2.0, "simple": 1.0, "linear": 0.0}[call.get("weight_type", "square")]
    pictures = pictures_of(call)
    whole = call.whole and power == 2 and not call.get("per_class", False)
    if whole and pictures[0][0].ndim == 1:
        return of_pictures(call, pictures, "dice/image/generalized")
    parts, wholes, sizes = [], [], []
    for picture in pictures:
        tp, fp, fn = (of_pictures(call, [picture], f"each:{name}") for name in ("tp", "fp", "fn"))
        parts.append(2 * tp)
        wholes.append(2 * tp + fp + fn)
        sizes.append(tp + fn)
    size = np.array(sizes)
    worth = np.where(size > 0, size, np.min(size, 0, initial=np.inf, where=size > 0)) ** -power
    part, both = np.array(parts) * worth, np.array(wholes) * worth
    call.recipe = True
    values = part / both
    if not call.get("per_class", False):
        values = part.sum(1) / both.sum(1)
    return values.mean(0) if call.whole else values


def mean_iou_of(call: Call) -> Any:
    """The mean over pictures of IoU, of each class or their mean; the function gives those of each picture."""
    for batch in call.batches:
        if call.get("input_format") == "index" and as_tensor(batch["preds"]).ndim == 2:
            batch["preds"], batch["target"] = batch["preds"][None], batch["target"][None]
    pictures = pictures_of(call)
    each = call.get("per_class", False)
    if call.whole and pictures[0][0].ndim == 1:
        return of_pictures(call, pictures, "each:iou/image" if each else "iou/image")
    values = np.array([of_pictures(call, [one], "each:jaccard") for one in pictures])
    call.recipe = True
    return values if each else np.nanmean(values, 1)


def exact_match_of(call: Call) -> Any:
    """The share of sequences and pictures that are right everywhere; with "samplewise", whether each is."""
    options = asked(pm.MulticlassMetrics, "exact_match")
    if call.get("multidim_average") != "samplewise":
        return score(call, multiclass(call, rows_of(call), **options), "exact_match")
    values = []
    for preds, target, _ in rows_of(call):
        for i in range(len(target)):
            one = (preds[i : i + 1], target[i : i + 1], None)
            values.append(score(call, multiclass(call, [one], **options), "exact_match"))
    call.recipe = True
    return values
