"""`MeanLoss`: the loss that the user's criterion returned, a mean over samples, exact for unequal batches."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ptmetrics.counts import checks
from ptmetrics.counts.batch import Batch, Counted
from ptmetrics.counts.cell import Cell
from ptmetrics.errors import ShapeError
from ptmetrics.metrics.base import Metrics
from ptmetrics.metrics.estimate import Estimate
from ptmetrics.metrics.host import Counts
from ptmetrics.metrics.intervals import mean_interval
from ptmetrics.metrics.score_spec import ScoreSpec, ScoreTable

NON_FINITE_LOSS = "non-finite-loss"


def _mean_loss(spec: ScoreSpec, counts: Counts, intervals: bool) -> Estimate:
    sums, below_zero = np.moveaxis(counts["loss"], (-2, -1), (1, 0))
    mean, low, high = mean_interval(sums)
    # Where none was below 0, the criterion is taken for one that cannot be, as most are.
    low = np.where(below_zero[3] == 0, np.maximum(low, 0), low)
    return spec.estimate(mean, low, high, sums[1].astype(np.int64))


LOSS = ScoreSpec(
    "loss",
    None,
    _mean_loss,
    higher_is_better=False,
    range=(-math.inf, math.inf),
    doc="Mean of the criterion's values, each weighted by its samples.",
    undefined="no finite loss was seen",
    method="normal-batches",
)


class MeanLoss(Metrics):
    """Mean of losses, each of which is a mean over some samples.

    `update(losses, samples, samples)` takes losses of shape () or (values,) and how many samples
    each stands for, float64 of shape (1,) or (values,). A loss that is NaN or infinite is left out,
    counted and reported.

    Args:
        device: Where to count.

    Example:
        >>> import torch
        >>> loss = MeanLoss()
        >>> for value, samples in ((0.5, 32.0), (0.2, 8.0)):
        ...     samples = torch.tensor([samples])
        ...     loss.update(torch.tensor(value), samples, samples)
        >>> round(loss.compute()["loss"].value, 3)
        0.44
    """

    task = "loss"
    headline = "loss"
    waits = False  # `SplitLoss` gathers them
    fault_kinds: Mapping[str, str] = {
        NON_FINITE_LOSS: "loss that is NaN or infinite, left out of the mean"
    }
    score_tables = (ScoreTable(lambda metrics, counts: counts, (LOSS,), "Loss", stacks=True),)

    def __init__(self, *, device: torch.device | str = "cpu") -> None:
        super().__init__(device=device)

    def cells(self) -> list[Cell]:
        """Six sums over the values, and the same of their parts below 0."""
        return [Cell("loss", (2,), torch.float64, merge="mean")]

    def check(self, preds: Tensor, target: Tensor, sample_weight: Tensor | None) -> Batch:
        """Refuse what is no loss of shape () or (values,)."""
        checks.as_tensor("loss", preds)
        if preds.ndim > 1:
            cure = "Pass loss.flatten() or loss.mean()."
            raise ShapeError("loss", "shape () or (N,)", str(tuple(preds.shape)), cure)
        loss = preds.reshape(-1) if preds.ndim == 0 else preds
        samples = target
        if samples.shape != loss.shape:
            samples = samples.expand(loss.shape)
        return Batch(loss, samples, samples)

    def count(self, batch: Batch) -> dict[str, Counted]:
        """Losses of no samples count for nothing."""
        loss = batch.preds.double()
        batch.ignore(batch.target <= 0)
        batch.refuse(NON_FINITE_LOSS, loss.isfinite().logical_not())
        return {"loss": torch.stack([loss, loss.clamp(max=0)], 1)}
