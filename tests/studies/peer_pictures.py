"""Answers of pictures and sequences: Dice and IoU, of all pixels or of each picture, and exact matches."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from tests.studies.peer_call import Call, as_tensor
from tests.studies.peer_metrics import (
    Batch,
    averages,
    multiclass,
    multilabel,
    pick,
    rows_of,
    score,
)
from tests.studies.peer_recipes import mean_over

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
    """A score of the pixels of some pictures; without class 0 where it is background."""
    classes = int(call.get("num_classes", call.get("planes")))
    rest = list(range(1, classes))
    background = call.get("include_background", True)
    if pictures[0][0].ndim > 1:
        chosen = list(range(classes)) if background else rest
        rows = [(preds[chosen].T.long(), target[chosen].T, None) for preds, target in pictures]
        call.arguments["num_labels"] = len(chosen)
        return score(call, multilabel(call, rows, absent=math.nan), name)
    if not background:
        call.arguments["among"] = rest
    pixels: list[Batch] = [(preds.long(), target.long(), None) for preds, target in pictures]
    return score(call, multiclass(call, pixels, num_classes=classes, absent=math.nan), name)


def dice_of(call: Call) -> Any:
    """Dice of all pictures together, or of each: a class has its mean."""
    name = pick(call, averages("f1"))
    pictures = pictures_of(call)
    if call.get("aggregation_level", "samplewise") == "global":
        return of_pictures(call, pictures, name)
    values = np.array([of_pictures(call, [picture], name) for picture in pictures])
    call.recipe = True
    return np.nanmean(values, 0) if call.whole else values


def mean_iou_of(call: Call) -> Any:
    """IoU of each picture: of each class, or their mean; the class `MeanIoU` has the mean over pictures."""
    for batch in call.batches:
        if call.get("input_format") == "index" and as_tensor(batch["preds"]).ndim == 2:
            batch["preds"], batch["target"] = batch["preds"][None], batch["target"][None]
    values = np.array([of_pictures(call, [one], "each:jaccard") for one in pictures_of(call)])
    call.recipe = True
    if call.get("per_class", False):
        return np.nanmean(values, 0) if call.whole else values
    return np.nanmean(values) if call.whole else np.nanmean(values, 1)


def exact_match_of(call: Call) -> Any:
    """The share of sequences and pictures that are right everywhere, ignored places aside."""
    ignored = call.get("ignore_index")

    def right(preds: Tensor, target: Tensor) -> Tensor:
        same = preds == target
        if ignored is not None:
            same = same | (target == ignored)
        return same.all(1)

    rows: list[Batch] = []
    for preds, target, _ in rows_of(call):
        if preds.ndim > target.ndim:
            preds = preds.argmax(1)
        rows.append((preds.flatten(1), target.flatten(1), None))
    if call.get("multidim_average") != "samplewise":
        return mean_over(call, rows, right)
    call.recipe = True
    return torch.cat([right(preds, target) for preds, target, _ in rows])
