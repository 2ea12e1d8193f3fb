"""Runs drawn at random that kept the samples of their evaluations."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ptmetrics.bench.synthetic import Curve, Random, Recorded, run_of, shares
from ptmetrics.record.samples import CLASS_ROW, NOT_KEPT, Kept, Rows

SHARED = 0.7  # of what makes a sample hard, the same for every model


@dataclass(frozen=True)
class Keeping(Recorded):
    """A run as the reader gives it, with the samples of some epochs.

    Args:
        samples: Samples by the number of their epoch.
    """

    samples: dict[int, Kept] = field(default_factory=dict)

    def kept(self, epoch: Mapping[str, Any]) -> Kept:
        """The samples of an epoch."""
        return self.samples.get(epoch["epoch"], NOT_KEPT)


def with_losses(rng: Random, run: Recorded, n: int) -> Keeping:
    """The run, with the losses of n samples at its lowest validation loss and at its end, of the recorded means."""
    losses = [epoch["scores"]["val/loss"]["value"] for epoch in run.epochs]
    hard = rng.exponential(size=n)
    kept = {}
    for epoch in (int(np.argmin(losses)), len(losses) - 1):
        each = SHARED * hard + (1 - SHARED) * rng.exponential(size=n)
        kept[epoch] = Kept(class_rows(np.zeros(n), np.zeros(n), losses[epoch] * each / each.mean()))
    return Keeping(run.epochs, samples=kept)


def pair_of(
    rng: Random, n: int, accuracies: tuple[float, float]
) -> tuple[list[Recorded], list[Recorded]]:
    """Two runs of one seed, of these true accuracies, whose last evaluations saw the same n samples of two classes."""
    target, hard = rng.integers(0, 2, n), rng.random(n)
    arms: list[list[Recorded]] = []
    for accuracy in accuracies:
        luck = np.where(rng.random(n) < SHARED, hard, rng.random(n))
        wrong = luck > accuracy
        scores = shares(np.full(4, n - wrong.sum()), n)
        rows = class_rows(target, np.where(wrong, 1 - target, target), np.full(n, np.nan))
        arms.append([Keeping(run_of({"val/accuracy": scores}).epochs, samples={3: Kept(rows)})])
    return arms[0], arms[1]


def class_rows(target: npt.ArrayLike, predicted: npt.ArrayLike, loss: Curve) -> Rows:
    """Rows as they are kept of classes."""
    rows = np.zeros(len(loss), CLASS_ROW)
    rows["target"], rows["predicted"], rows["loss"] = target, predicted, loss
    return rows
