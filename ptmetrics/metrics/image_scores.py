"""Scores whose unit is the image or the text, and not the pixel or the token; asked for by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ptmetrics.counts.images import HITS, OVERLAPS
from ptmetrics.metrics.estimate import Array, Estimate
from ptmetrics.metrics.host import Counts
from ptmetrics.metrics.intervals import mean_interval, wilson
from ptmetrics.metrics.score_spec import ScoreSpec, ScoreTable

NO_IMAGE = "no image has a row that counts"
NO_OVERLAP = "no image has a class that counts"


def six_sums(cell: str, place: int | slice, axis: int = -1) -> Callable[[Counts], Array]:
    """A formula for the six sums of one mean of a cell, or of one a class, which stand first."""
    return lambda counts: np.moveaxis(counts[cell][..., place], axis, 0)


def mean_of_images(spec: ScoreSpec, view: Counts, intervals: bool) -> Estimate:
    """Mean over the images; they may be few, so Wilson's interval is by Student's t."""
    sums = spec.formula(view)
    value, low, high = mean_interval(sums, *spec.range, few=True)
    return spec.estimate(value, low, high, sums[0].astype(np.int64))


def share_of_samples(spec: ScoreSpec, view: Any, intervals: bool) -> Estimate:
    """Share of the samples that have something, with Wilson's interval."""
    n, weight, square, right = spec.formula(view)[:4]
    p = np.clip(right / weight, 0, 1)
    return spec.estimate(p, *wilson(p, weight**2 / square), n.astype(np.int64))


_ACCURACY = ScoreSpec(
    "accuracy/image",
    six_sums(HITS, 0),
    mean_of_images,
    doc="Mean over the images, or texts, of the accuracy of each.",
    undefined=NO_IMAGE,
    method="wilson-samples",
)
HIT_SPECS = (
    _ACCURACY,
    replace(
        _ACCURACY,
        name="exact_match",
        formula=six_sums(HITS, 1),
        interval=share_of_samples,
        doc="Share of images, or texts, whose counted rows are all right; those without one are left out.",
    ),
)


def overlap_specs(place: int, name: str, what: str) -> tuple[ScoreSpec, ScoreSpec, ScoreSpec]:
    """Over the classes of an image, over all of them together, and of each class."""
    doc = f"Mean over the images of the {what} of each"
    mean = replace(
        _ACCURACY,
        name=f"{name}/image",
        formula=six_sums(OVERLAPS, place),
        doc=f"{doc}, which is the mean over the classes on either side of it.",
        undefined=NO_OVERLAP,
    )
    together = replace(
        mean,
        name=f"{name}/image/micro",
        formula=six_sums(OVERLAPS, 2 + place),
        doc=f"{doc}, all classes together.",
    )
    each = replace(
        mean,
        formula=six_sums(OVERLAPS, slice(5 + place, None, 2), -2),
        doc=f"{doc} that has the class on either side.",
        each=True,
    )
    return mean, together, each


OVERLAP_SPECS = (
    *overlap_specs(0, "dice", "Dice coefficient"),
    *overlap_specs(1, "iou", "intersection over union"),
    replace(
        _ACCURACY,
        name="dice/image/generalized",
        formula=six_sums(OVERLAPS, 4),
        doc="Mean over the images of the Dice coefficient of all classes together, each of which "
        "weighs as one over the square of its size in the image.",
        undefined=NO_OVERLAP,
        source="Sudre et al., DLMIA 2017",
    ),
)
OVERLAP_NAMES = frozenset(spec.name for spec in OVERLAP_SPECS)
IMAGE_SCORES = ScoreTable(lambda metrics, counts: counts, (*HIT_SPECS, *OVERLAP_SPECS))
OF_POSITIVE = tuple(
    replace(spec, doc=f"{spec.doc.partition(',')[0]} that has a yes on either side.")
    for spec in OVERLAP_SPECS[:-1:3]
)
POSITIVE_SCORES = replace(IMAGE_SCORES, specs=(*HIT_SPECS, *OF_POSITIVE))
IMAGE_NAMES = frozenset(spec.name for spec in IMAGE_SCORES.specs)
