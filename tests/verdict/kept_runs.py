"""Runs made from plain arrays that kept the samples of their last evaluations."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from judged_sources import Recorded, epoch
from numpy.typing import ArrayLike

import ptmetrics as pm
from ptmetrics.record.samples import CLASS_ROW, NOT_STORED, POINT_ROW, Rows, StoredSamples


@dataclass(frozen=True)
class Keeping(Recorded):
    """A run as the reader gives it, with the samples of some epochs by their number."""

    samples: dict[int, StoredSamples] = field(default_factory=dict)

    def kept(self, epoch: Mapping[str, Any]) -> StoredSamples:
        return self.samples.get(epoch["epoch"], NOT_STORED)


def class_rows(target: ArrayLike, predicted: ArrayLike, loss: ArrayLike = np.nan) -> Rows:
    rows = np.zeros(np.asarray(target).shape, CLASS_ROW)
    rows["target"], rows["predicted"], rows["loss"] = target, predicted, loss
    return rows


def point_rows(target: ArrayLike, error: ArrayLike) -> Rows:
    rows = np.zeros(np.asarray(target).shape, POINT_ROW)
    rows["target"], rows["error"] = target, error
    return rows


def scores_of_rows(rows: Rows, *, binary: bool = False) -> dict[str, Any]:
    """What our metrics record of these rows; the mean of their losses beside it."""
    if rows.dtype == POINT_ROW:
        metrics: Any = pm.RegressionMetrics()
        target = torch.tensor(rows["target"])
        metrics.update(target + torch.tensor(rows["error"]), target)
    else:
        labels = pm.MulticlassMetrics(
            int(max(rows["target"].max(), rows["predicted"].max())) + 1, inputs="labels"
        )
        metrics = pm.BinaryMetrics(inputs="labels") if binary else labels
        metrics.update(*(torch.tensor(rows[name]).long() for name in ("predicted", "target")))
    scores = {f"val/{name}": score.to_dict() for name, score in metrics.compute().items()}
    loss = (
        float(rows["loss"].mean(dtype=np.float64)) if "loss" in (rows.dtype.names or ()) else None
    )
    loss_score = {
        "value": loss,
        "low": loss,
        "high": loss,
        "n": len(rows),
        "higher_is_better": False,
    }
    return scores | (
        {} if loss is None or np.isnan(loss) else {"val/nll": loss_score, "val/loss": loss_score}
    )


def keeping(rows: Rows, *, epochs: int = 3, binary: bool = False, **header: Any) -> Keeping:
    """A run that came to the same in every epoch, and kept the samples of the last."""
    scores = scores_of_rows(rows, binary=binary)
    return Keeping(
        [epoch(i, scores) for i in range(epochs)], header, samples={epochs - 1: StoredSamples(rows)}
    )


def two_models(
    rng: np.random.Generator,
    n: int,
    prior: ArrayLike,
    hits: tuple[float, float],
    shared: float = 0.7,
) -> tuple[Rows, Rows]:
    """Two classifiers on n samples, whose errors fall on the same hard samples in so large a share."""
    classes = len(np.asarray(prior))
    target, hard = rng.choice(classes, n, p=prior), rng.random(n)
    rows = []
    for share in hits:
        luck = np.where(rng.random(n) < shared, hard, rng.random(n))
        other = (target + rng.integers(1, classes, n)) % classes
        rows.append(class_rows(target, np.where(luck > share, other, target)))
    return rows[0], rows[1]
