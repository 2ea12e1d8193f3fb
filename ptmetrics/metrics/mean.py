"""`Mean`: the mean of your own number a sample, with its interval, weights, slices, groups and ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ptmetrics.counts import checks
from ptmetrics.counts.batch import Batch, Counted
from ptmetrics.counts.cell import Cell
from ptmetrics.errors import ConfigError, ShapeError
from ptmetrics.metrics.base import Metrics
from ptmetrics.metrics.score_spec import ScoreSpec, ScoreTable, check_score

NOT_FINITE = "not-finite"


class Mean(Metrics):
    """The weighted mean of a number a sample.

    Args:
        name: What results call it.
        fn: From (preds, target), as `update` is given them, to one number a row, shape (N,). It
            runs on the device of the batch, without a graph; nothing in it may wait for the device.
        higher_is_better: Direction.
        range: The least and the largest value; the interval keeps within it.
        doc: What it is, in one sentence.
        slices: As for `pm.Metrics`.
        groups: As for `pm.Metrics`.
        device: As for `pm.Metrics`.

    Raises:
        ConfigError: If an argument cannot work.

    Example:
        >>> import torch
        >>> import ptmetrics as pm
        >>> def margin(preds, target):
        ...     best = preds.topk(2, dim=1).values
        ...     return best[:, 0] - best[:, 1]
        >>> metrics = pm.Mean("margin", margin, higher_is_better=True)
        >>> metrics.update(torch.tensor([[3.0, 1.0], [2.0, 5.0]]), torch.tensor([0, 1]))
        >>> metrics.compute()["margin"].value
        2.5
    """

    fault_kinds: Mapping[str, str] = {NOT_FINITE: "row whose number is NaN or infinite, refused"}

    def __init__(
        self,
        name: str,
        fn: Callable[[Any, Any], Tensor],
        *,
        higher_is_better: bool,
        range: tuple[float, float] = (-math.inf, math.inf),  # noqa: A002 — the field's word
        doc: str = "",
        slices: Sequence[str] | int = (),
        groups: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        check_score(name, higher_is_better, range)
        _check_function(fn)
        self.name = name
        self.headline = name
        self.higher_is_better = higher_is_better
        self.range = range
        self.doc = doc
        self._fn = fn
        super().__init__(slices=slices, groups=groups, device=device)

    def counted_arguments(self) -> dict[str, Any]:
        """The name of the score."""
        return {"name": self.name}

    def tables(self) -> tuple[ScoreTable, ...]:
        """One score."""
        spec = ScoreSpec(
            self.name,
            lambda counts: counts["mean"] if counts["mean"].ndim == 1 else counts["mean"].T,
            "normal",
            higher_is_better=self.higher_is_better,
            range=self.range,
            doc=self.doc,
        )
        return (ScoreTable(lambda metrics, counts: counts, (spec,), "Mean"),)

    def cells(self) -> list[Cell]:
        """Six sums over the rows."""
        return [Cell("mean", (), torch.float64, merge="mean")]

    def count(self, batch: Batch) -> dict[str, Counted]:
        """One number a row."""
        numbers = checks.as_tensor(self.name, self._fn(batch.preds, batch.target))
        if tuple(numbers.shape) != (len(batch),):
            fact = f"shape {tuple(numbers.shape)}"
            cure = "Return one number a row: take the mean over the other dimensions."
            raise ShapeError(self.name, f"one number a row, shape ({len(batch)},)", fact, cure)
        numbers = numbers.double()
        batch.refuse(NOT_FINITE, numbers.isfinite().logical_not())
        return {"mean": numbers}


def _check_function(fn: object) -> None:
    if not callable(fn):
        cure = "Pass a function of (preds, target) that returns one number a row."
        raise ConfigError("fn", "a function", type(fn).__name__, cure)
