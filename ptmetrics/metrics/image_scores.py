"""Scores whose unit is the image or the text, and not the pixel or the token; asked for by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptmetrics.counts.cell import Cell
from ptmetrics.counts.images import AVERAGES, HIT_SCORES, OVERLAPS
from ptmetrics.counts.stored_sums import WEIGHT_ROUNDING, StoredSums
from ptmetrics.metrics.estimate import Array, Estimate
from ptmetrics.metrics.host import Counts
from ptmetrics.metrics.intervals import mean_interval, wilson
from ptmetrics.metrics.score_spec import ScoreSpec, ScoreTable

HITS = "image_hits"
OVERLAP = "image_overlaps"
NO_IMAGE = "no image has a row that counts"
NO_OVERLAP = "no image has a class that counts"
SixSums = Callable[[Any], Array]


def hits_cell() -> Cell:
    """What is kept for `HIT_SCORES`."""
    return Cell(HITS, (len(HIT_SCORES),), torch.float64, merge="mean")


def overlaps_cell(classes: int) -> Cell:
    """What is kept for `OVERLAPS`."""
    shape = (len(OVERLAPS), AVERAGES + classes)
    return Cell(OVERLAP, shape, torch.float64, merge="mean")


def mean_of_images(spec: ScoreSpec, view: Counts, intervals: bool) -> Estimate:
    """Mean over the images, with Wilson's interval at the n that its variance is worth, by Student's t: images may be few."""
    sums = spec.formula(view)
    value, low, high = mean_interval(sums, *spec.range, few=True)
    return spec.estimate(value, low, high, sums[0].astype(np.int64))


def share_of_samples(spec: ScoreSpec, view: Any, intervals: bool) -> Estimate:
    """Share of the samples that have something, with Wilson's interval."""
    n, weight, square, right = spec.formula(view)[:4]
    p = np.clip(right / weight, 0, 1)
    return spec.estimate(p, *wilson(p, weight**2 / square), n.astype(np.int64))


def of_hits(place: int) -> SixSums:
    """A formula for the six sums of one of `HIT_SCORES`, which stand first."""
    return lambda counts: np.moveaxis(counts[HITS][..., place], -1, 0)


def of_overlaps(kind: int, average: int) -> SixSums:
    """A formula for those of an average of one of `OVERLAPS`."""
    return lambda counts: np.moveaxis(counts[OVERLAP][..., kind, average], -1, 0)


def of_each_overlap(kind: int) -> SixSums:
    """A formula for those of each class."""
    return lambda counts: np.moveaxis(counts[OVERLAP][..., kind, AVERAGES:], -2, 0)


def _spec(name: str, formula: SixSums, doc: str, undefined: str = NO_OVERLAP) -> ScoreSpec:
    return ScoreSpec(
        name, formula, mean_of_images, doc=doc, undefined=undefined, method="student-samples"
    )


_EXACT = ScoreSpec(
    "exact_match",
    of_hits(1),
    share_of_samples,
    doc="Share of images, or texts, whose counted rows are all right; those without one are left out.",
    undefined=NO_IMAGE,
    method="wilson-samples",
)
_DICE = "Dice coefficient of each image"
_IOU = "Intersection over union of each image"
_MEAN = "the mean over the classes on either side of it, then over the images."
_TOGETHER = "all its classes together; the mean over the images."
_EACH = "; the mean over the images that have the class on either side."
HIT_SPECS = (
    _spec(
        "accuracy/image", of_hits(0), "Accuracy of each image: the mean over the images.", NO_IMAGE
    ),
    _EXACT,
)
OVERLAP_SPECS = (
    _spec("dice/image", of_overlaps(0, 0), f"{_DICE}: {_MEAN}"),
    _spec("iou/image", of_overlaps(1, 0), f"{_IOU}: {_MEAN}"),
    _spec("dice/image/micro", of_overlaps(0, 1), f"{_DICE}: {_TOGETHER}"),
    _spec("iou/image/micro", of_overlaps(1, 1), f"{_IOU}: {_TOGETHER}"),
    replace(_spec("dice/image", of_each_overlap(0), _DICE + _EACH), each=True),
    replace(_spec("iou/image", of_each_overlap(1), _IOU + _EACH), each=True),
)
IMAGE_SCORES = ScoreTable(lambda metrics, counts: counts, (*HIT_SPECS, *OVERLAP_SPECS))


def image_relations(sums: StoredSums) -> Iterator[tuple[str, Tensor]]:
    """What must hold of the cells of images."""
    cells = []
    if HITS in sums:
        cells.append(sums[HITS])
    if OVERLAP in sums:
        cells.append(sums[OVERLAP].flatten(-2))
    for cell in cells:
        weight = cell[..., 1, :] * (1 + WEIGHT_ROUNDING)
        score = cell[..., 3, :]
        yield "scores of images from 0 to 1", (score >= 0) & (score <= weight)
