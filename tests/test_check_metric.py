"""`check_metric` finds what is wrong: a metric that breaks one law is told which."""

from typing import Any

import pytest
import torch
from torch import Tensor

import ptmetrics as pm
from ptmetrics.counts.batch import Batch
from ptmetrics.metrics.host import Counts
from ptmetrics.testing import check_metric


class Near(pm.Metrics):
    """Share of predictions within 1 of the target; keeps all laws."""

    def cells(self) -> list[pm.Cell]:
        return [pm.Cell("near")]

    def count(self, batch: Batch) -> dict[str, Any]:
        return {"near": (batch.preds - batch.target).abs() <= 1}

    def scores(self, counts: Counts) -> dict[str, Any]:
        rows = counts.weight("rows")
        return {"near": counts.weight("near") / rows if rows else float("nan")}


class WithoutWeights(Near):
    def scores(self, counts: Counts) -> dict[str, Any]:
        return {"near": counts["near"] / counts["rows"] if counts["rows"] else float("nan")}


class Waits(Near):
    def count(self, batch: Batch) -> dict[str, Any]:
        if batch.preds.sum() > 1e9:
            raise OverflowError
        return super().count(batch)


class Writes(Near):
    def count(self, batch: Batch) -> dict[str, Any]:
        batch.preds.clamp_(-1, 1)
        return super().count(batch)


class DependsOnItsBatch(Near):
    def count(self, batch: Batch) -> dict[str, Any]:
        return {"near": batch.preds > batch.preds.mean()}


class OutsideOfItsInterval(Near):
    def scores(self, counts: Counts) -> dict[str, Any]:
        return {"near": pm.Score(0.5, low=0.6, high=0.7, n=1)}


def make_batch(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(rows, generator=generator), torch.randn(rows, generator=generator)


def test_a_metric_that_keeps_all_laws_passes() -> None:
    check_metric(Near(), make_batch)
    check_metric(Near(slices=2, groups=True), make_batch)


@pytest.mark.parametrize(
    ("metric", "law"),
    [
        (WithoutWeights, "rows of weight 0 change no score"),
        (Waits, "nothing waits for the device"),
        (Writes, "arguments stay as they are"),
        (DependsOnItsBatch, "any partition in any order is the whole"),
        (OutsideOfItsInterval, "a score lies in its interval or says why not"),
    ],
)
def test_a_metric_that_breaks_a_law_is_told_which(metric: type[Near], law: str) -> None:
    with pytest.raises(AssertionError, match=f"law broken: {law}"):
        check_metric(metric(), make_batch)
