"""Answers of pictures and sequences: Dice and IoU, of all pixels or of each picture, and exact matches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from tests.studies.peer_call import Call, as_tensor
from tests.studies.peer_metrics import Batch, averages, multiclass, pick, rows_of, score
from tests.studies.peer_recipes import mean_over


def pictures_of(call: Call) -> list[Batch]:
    """Classes of the pixels of each picture; those of planes are the highest ones."""
    planes = call.get("input_format", "one-hot")
    found: list[Batch] = []
    for batch in call.batches:
        preds, target = as_tensor(batch["preds"]), as_tensor(batch["target"])
        if planes == "one-hot" or preds.ndim > target.ndim:
            call.arguments.setdefault("planes", preds.shape[1])
            preds = preds.argmax(1)
        if planes == "one-hot" or target.ndim > preds.ndim:
            call.arguments.setdefault("planes", target.shape[1])
            target = target.argmax(1)
        for one, other in zip(preds.long(), target.long(), strict=True):
            found.append((one.flatten(), other.flatten(), None))
    return found


def of_pictures(call: Call, batches: list[Batch], name: str) -> Any:
    """A score of the pixels of some pictures; without class 0 where it is background."""
    classes = int(call.get("num_classes", call.get("planes")))
    if not call.get("include_background", True):
        call.arguments["among"] = list(range(1, classes))
    return score(call, multiclass(call, batches, num_classes=classes, absent=math.nan), name)


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

    batches: list[Batch] = []
    for preds, target, _ in rows_of(call):
        if preds.ndim > target.ndim:
            preds = preds.argmax(1)
        batches.append((preds.flatten(1), target.flatten(1), None))
    if call.get("multidim_average") != "samplewise":
        return mean_over(call, batches, right)
    rows = [
        (preds[i : i + 1], target[i : i + 1], None)
        for preds, target, _ in batches
        for i in range(len(target))
    ]
    return [mean_over(call, [row], right) for row in rows]
