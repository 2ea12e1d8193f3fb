"""Scores at k: a row is predicted as its target where that is among the k highest scores, else as the highest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np

from ptmetrics.class_formulas import PRECISION, RECALL, ClassSums, Ratio
from ptmetrics.metrics.class_scores import CLASS_SPECS, CONFUSION_SPECS, NO_SAMPLES, class_counts
from ptmetrics.metrics.estimate import Array
from ptmetrics.metrics.score_spec import ScoreSpec, ScoreTable

NAMES = ("precision", "recall", "f1")
SPECS_AT_K = tuple(
    spec for spec in (*CONFUSION_SPECS, *CLASS_SPECS) if spec.name.partition("/")[0] in NAMES
)


@dataclass(frozen=True)
class RatioOfTargets(Ratio):
    """A ratio of the classes that have targets: another class cannot be found at any k."""

    def __call__(self, sums: ClassSums) -> tuple[Array, Array]:
        """Numerator, which is NaN for a class without targets, and denominator."""
        part, whole = super().__call__(sums)
        return np.where(sums.actual > 0, part, np.nan), whole


MEANS = {
    "precision/macro": RatioOfTargets(PRECISION.part, PRECISION.whole),
    "recall/macro": RatioOfTargets(RECALL.part, RECALL.whole),
}


def top_k_spec(place: int, k: int) -> ScoreSpec:
    """Share of targets among the k highest scores, from the cell "topk_hits"."""
    return ScoreSpec(
        f"top{k}_accuracy",
        lambda counts: (counts["topk_hits"][..., place], counts["rows"]),
        "wilson",
        doc=f"Share of targets among the {k} highest scores, ties by lowest class.",
        undefined=NO_SAMPLES,
    )


@cache
def top_k_table(k: int) -> ScoreTable:
    """Precision, recall and F1 at k, as torchmetrics' `top_k` defines them; asked for by name."""
    front = f"top{k}_"
    specs = []
    for spec in SPECS_AT_K:
        doc = f"`{spec.name}` where a target among the {k} highest scores is found."
        if spec.name in MEANS:
            doc = f"{doc[:-1]}; over the classes that have targets."
        formula = MEANS.get(spec.name, spec.formula)
        specs.append(replace(spec, name=f"{front}{spec.name}", formula=formula, doc=doc))
    return ScoreTable(partial(class_counts, front=front), tuple(specs))
